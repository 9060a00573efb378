//! Commands to the device, and the stream they go through (kernel: `device_include/svga3d_cmd.h`,
//! `vmwgfx_cmd.c`).
//!
//! A command is a header of two little-endian words, `{id, bytes of the body}`, and a body of as many fields
//! as [`Command`] declares. To add a command, add it to the list in `cmd/list.rs`; to add a kind of field,
//! implement `Field` for it.

mod field;
mod list;
mod stream;

pub use self::list::Command;
pub use self::stream::{CommandStream, Reservation};

/// [`Command::SurfaceDma`] writes the image (`SVGA3D_WRITE_HOST_VRAM`).
pub const TRANSFER_WRITE_HOST: u32 = 1;
/// [`Command::SurfaceDma`] reads the image (`SVGA3D_READ_HOST_VRAM`).
pub const TRANSFER_READ_HOST: u32 = 2;

/// Words of a header.
const HEADER_WORDS: usize = 2;
/// Bytes of a word.
const WORD_BYTES: usize = size_of::<u32>();

/// Why words are no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The words end inside of a header or of a body.
    #[error("the stream ends inside of a command")]
    Truncated,
    /// No command has this number.
    #[error("unknown command {id}")]
    UnknownId {
        /// The number.
        id: u32,
    },
    /// The header announces a body that is not the command's.
    #[error("command {id} with a body of {body_bytes} bytes")]
    BodySize {
        /// The number.
        id: u32,
        /// The bytes announced.
        body_bytes: u32,
    },
}

impl Command {
    /// Appends the command's words: header and body.
    pub fn encode(self, words: &mut Vec<u32>) {
        let header = words.len();
        words.extend_from_slice(&[self.id(), 0]);
        self.put_body(words);
        let body_bytes = (words.len() - header - HEADER_WORDS) * WORD_BYTES;
        words[header + 1] = u32::try_from(body_bytes).expect("bodies are short");
    }

    /// The command at the front of `words`, and the words behind it.
    pub fn decode(words: &[u32]) -> Result<(Self, &[u32]), DecodeError> {
        let [id, body_bytes, rest @ ..] = words else { return Err(DecodeError::Truncated) };
        let (id, body_bytes) = (*id, *body_bytes);
        let body_words = Self::body_words(id).ok_or(DecodeError::UnknownId { id })?;
        if u32::try_from(body_words * WORD_BYTES) != Ok(body_bytes) {
            return Err(DecodeError::BodySize { id, body_bytes });
        }
        let (body, rest) = rest.split_at_checked(body_words).ok_or(DecodeError::Truncated)?;
        let command = Self::take_body(id, &mut body.iter().copied());
        Ok((command.ok_or(DecodeError::UnknownId { id })?, rest))
    }

    /// All commands of a batch.
    pub fn decode_all(mut words: &[u32]) -> Result<Vec<Self>, DecodeError> {
        let mut commands = Vec::new();
        while !words.is_empty() {
            let (command, rest) = Self::decode(words)?;
            commands.push(command);
            words = rest;
        }
        Ok(commands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svga::types::{Box3d, MobId, Size3d, SurfaceFlags, SurfaceId};

    const SID: SurfaceId = SurfaceId(7);
    const FENCE: Command = Command::Fence { seqno: 5 };

    fn words(command: Command) -> Vec<u32> {
        let mut words = Vec::new();
        command.encode(&mut words);
        words
    }

    #[test]
    fn commands_are_header_and_body() {
        let image_box = Box3d::new(1, 2, 3, 4, 5, 6);
        let bind = Command::BindGbSurface { sid: SID, mob: MobId::INVALID };
        let image = Command::UpdateGbImage { sid: SID, face: 8, mipmap: 9, image_box };
        let subresource = Command::DxUpdateSubresource { sid: SID, sub_resource: 8, image_box };

        assert_eq!(words(FENCE), [30, 4, 5]);
        assert_eq!(words(Command::DestroyGbSurface { sid: SID }), [1098, 4, 7]);
        assert_eq!(words(bind), [1099, 8, 7, u32::MAX]);
        assert_eq!(words(image), [1101, 36, 7, 8, 9, 1, 2, 3, 4, 5, 6]);
        assert_eq!(words(Command::UpdateGbSurface { sid: SID }), [1102, 4, 7]);
        assert_eq!(words(Command::ReadbackGbSurface { sid: SID }), [1104, 4, 7]);
        assert_eq!(words(Command::InvalidateGbSurface { sid: SID }), [1106, 4, 7]);
        assert_eq!(words(subresource), [1182, 32, 7, 8, 1, 2, 3, 4, 5, 6]);
        assert_eq!((image.bytes(), subresource.bytes()), (44, 40));
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let define = Command::DefineGbSurface {
            sid: SID,
            flags: SurfaceFlags::CUBEMAP | SurfaceFlags::MULTISAMPLE,
            format: 68,
            mip_levels: 3,
            array_size: 6,
            multisample_count: 4,
            size: Size3d::new(64, 64, 1),
        };
        let mut batch = words(define);
        FENCE.encode(&mut batch);

        assert_eq!(Command::decode_all(&batch), Ok(vec![define, FENCE]));
    }

    #[test]
    fn what_is_no_command_is_refused() {
        assert_eq!(Command::decode(&[9999, 0]), Err(DecodeError::UnknownId { id: 9999 }));
        assert_eq!(Command::decode(&[1099, 4, 7]), Err(DecodeError::BodySize { id: 1099, body_bytes: 4 }));
        assert_eq!(Command::decode(&[1102, 8, 7, 7]), Err(DecodeError::BodySize { id: 1102, body_bytes: 8 }));
        assert_eq!(Command::decode(&[1099, 8, 7]), Err(DecodeError::Truncated));
        assert_eq!(Command::decode(&[1099]), Err(DecodeError::Truncated));
    }
}
