//! Commands to the device, and the stream they go through (kernel: `device_include/svga3d_cmd.h`,
//! `vmwgfx_cmd.c`, `vmwgfx_cmdbuf.c`).
//!
//! A command is a header of two little-endian words, `{id, bytes of the body}`, and a body of as many fields
//! as [`Command`] declares. To add a command, add it to the list below; to add a kind of field, implement
//! `Field` for it.

use crate::error::{Error, Result};
use crate::svga::types::{Box3d, MobId, Size3d, SurfaceFlags, SurfaceId};

/// Words of a header.
const HEADER_WORDS: usize = 2;
/// Bytes of a word.
const WORD_BYTES: usize = size_of::<u32>();

/// A part of a command's body: a fixed number of words.
trait Field: Sized {
    /// How many.
    const WORDS: usize;
    /// Appends them.
    fn put(self, body: &mut Vec<u32>);
    /// Takes them from the front of a body that has them.
    fn take(body: &mut impl Iterator<Item = u32>) -> Self;
}

impl Field for u32 {
    const WORDS: usize = 1;

    fn put(self, body: &mut Vec<u32>) {
        body.push(self);
    }

    fn take(body: &mut impl Iterator<Item = u32>) -> Self {
        body.next().expect("the size of the body was checked")
    }
}

/// Implements [`Field`] for a record of words.
macro_rules! field {
    ($type:ident, $words:literal, $value:ident => [$($word:expr),*], ($($name:ident),*) => $make:expr) => {
        impl Field for $type {
            const WORDS: usize = $words;

            fn put(self, body: &mut Vec<u32>) {
                let $value = self;
                body.extend_from_slice(&[$($word),*]);
            }

            fn take(body: &mut impl Iterator<Item = u32>) -> Self {
                $(let $name = u32::take(body);)*
                $make
            }
        }
    };
}

field!(SurfaceId, 1, v => [v.0], (id) => Self(id));
field!(MobId, 1, v => [v.0], (id) => Self(id));
field!(Size3d, 3, v => [v.width, v.height, v.depth], (w, h, d) => Self::new(w, h, d));
field!(Box3d, 6, v => [v.x, v.y, v.z, v.w, v.h, v.d], (x, y, z, w, h, d) => Self::new(x, y, z, w, h, d));

impl Field for SurfaceFlags {
    const WORDS: usize = 2;

    #[expect(clippy::cast_possible_truncation, reason = "the low word, then the high one")]
    fn put(self, body: &mut Vec<u32>) {
        body.extend_from_slice(&[self.0 as u32, (self.0 >> u32::BITS) as u32]);
    }

    fn take(body: &mut impl Iterator<Item = u32>) -> Self {
        let low = u64::from(u32::take(body));
        Self(low | u64::from(u32::take(body)) << u32::BITS)
    }
}

/// Declares the commands: name, number, and the fields of the body in their order.
macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $id:literal {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    })*) => {
        /// A command to the device.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Command {
            $($(#[$doc])* $name { $($(#[$field_doc])* $field: $type,)* },)*
        }

        impl Command {
            /// The device's number for it.
            pub const fn id(&self) -> u32 {
                match self {
                    $(Self::$name { .. } => $id,)*
                }
            }

            /// Bytes of it in a stream, header included.
            pub fn bytes(&self) -> u64 {
                let words = match self {
                    $(Self::$name { .. } => HEADER_WORDS $(+ <$type as Field>::WORDS)*,)*
                };
                (words * WORD_BYTES) as u64
            }

            fn put_body(self, body: &mut Vec<u32>) {
                match self {
                    $(Self::$name { $($field),* } => {
                        $($field.put(body);)*
                    })*
                }
            }

            /// Words of the body of the command with this number.
            fn body_words(id: u32) -> Option<usize> {
                match id {
                    $($id => Some(0 $(+ <$type as Field>::WORDS)*),)*
                    _ => None,
                }
            }

            /// The command with this number, out of a body that is long enough.
            fn take_body(id: u32, body: &mut impl Iterator<Item = u32>) -> Option<Self> {
                match id {
                    $($id => Some(Self::$name { $($field: Field::take(body)),* }),)*
                    _ => None,
                }
            }
        }
    };
}

commands! {
    /// The work up to here is done when the device says this number.
    ///
    /// The fence of the hardware has no word for its size; here it has a header like all others.
    Fence = 30 {
        /// The number; never 0.
        seqno: u32,
    }
    /// Makes a surface.
    ///
    /// The device has four of these, of growing bodies; this one stands for all, with the fields that lay out
    /// memory.
    DefineGbSurface = 1097 {
        /// Its name from now on.
        sid: SurfaceId,
        /// What it is for.
        flags: SurfaceFlags,
        /// The number of a [`SurfaceFormat`](crate::svga::format::SurfaceFormat).
        format: u32,
        /// Levels of its mip chain.
        mip_levels: u32,
        /// Elements, if it is an array.
        array_size: u32,
        /// Samples a texel, if several.
        multisample_count: u32,
        /// Size of the first level.
        size: Size3d,
    }
    /// Forgets a surface.
    DestroyGbSurface = 1098 {
        /// Which.
        sid: SurfaceId,
    }
    /// Gives a surface its guest memory, or takes it away ([`MobId::INVALID`]).
    BindGbSurface = 1099 {
        /// The surface.
        sid: SurfaceId,
        /// The memory.
        mob: MobId,
    }
    /// Uploads part of an image; knows no arrays.
    UpdateGbImage = 1101 {
        /// The surface.
        sid: SurfaceId,
        /// The face of a cube.
        face: u32,
        /// The level.
        mipmap: u32,
        /// Which part.
        image_box: Box3d,
    }
    /// Uploads a surface.
    UpdateGbSurface = 1102 {
        /// Which.
        sid: SurfaceId,
    }
    /// Writes the device's copy of a surface to guest memory.
    ReadbackGbSurface = 1104 {
        /// Which.
        sid: SurfaceId,
    }
    /// The device may forget what a surface holds.
    InvalidateGbSurface = 1106 {
        /// Which.
        sid: SurfaceId,
    }
    /// Uploads part of a subresource.
    DxUpdateSubresource = 1182 {
        /// The surface.
        sid: SurfaceId,
        /// Layer × levels + level.
        sub_resource: u32,
        /// Which part.
        image_box: Box3d,
    }
}

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
    pub fn decode(words: &[u32]) -> core::result::Result<(Self, &[u32]), DecodeError> {
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
    pub fn decode_all(mut words: &[u32]) -> core::result::Result<Vec<Self>, DecodeError> {
        let mut commands = Vec::new();
        while !words.is_empty() {
            let (command, rest) = Self::decode(words)?;
            commands.push(command);
            words = rest;
        }
        Ok(commands)
    }
}

/// The space for commands between driver and device (`struct vmw_cmdbuf_man`).
///
/// Commands are committed in blocks, each all or not at all, and stay until the device takes them.
#[derive(Debug)]
pub struct CommandStream {
    commands: Vec<Command>,
    used: u64,
    capacity: u64,
}

impl Default for CommandStream {
    fn default() -> Self {
        Self { commands: Vec::new(), used: 0, capacity: u64::MAX }
    }
}

impl CommandStream {
    /// An empty stream without limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the bytes of commands that wait for the device; what waits already stays.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity = bytes;
    }

    /// Space for `bytes` bytes of commands (`VMW_CMD_RESERVE`), or [`Error::NoMemory`].
    pub fn reserve(&mut self, bytes: u64) -> Result<Reservation<'_>> {
        if bytes > self.capacity.saturating_sub(self.used) {
            return Err(Error::NoMemory);
        }
        Ok(Reservation { stream: self, commands: Vec::new(), free: bytes })
    }

    /// Commits `commands` as one block: all of them, or with [`Error::NoMemory`] none.
    pub fn emit(&mut self, commands: &[Command]) -> Result<()> {
        let mut block = self.reserve(commands.iter().map(Command::bytes).sum())?;
        for command in commands {
            block.push(*command);
        }
        block.commit();
        Ok(())
    }

    /// What is committed and waits for the device.
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// The same, as the device sees it.
    pub fn bytes(&self) -> Vec<u8> {
        let mut words = Vec::new();
        for command in &self.commands {
            command.encode(&mut words);
        }
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }

    /// Hands what waits to the device; its space is free again.
    pub fn take(&mut self) -> Vec<Command> {
        self.used = 0;
        std::mem::take(&mut self.commands)
    }
}

/// Reserved space. Nothing of it is visible before it is committed; dropped, it is given back.
#[derive(Debug)]
pub struct Reservation<'a> {
    stream: &'a mut CommandStream,
    commands: Vec<Command>,
    free: u64,
}

impl Reservation<'_> {
    /// Writes a command behind those that are there.
    ///
    /// # Panics
    /// If it is longer than what is left: whoever reserves knows what for.
    pub fn push(&mut self, command: Command) {
        self.free = self.free.checked_sub(command.bytes()).expect("more commands than were reserved");
        self.commands.push(command);
    }

    /// Makes the commands visible (`vmw_cmd_commit`). Space that was not written is given back.
    pub fn commit(self) {
        self.stream.used += self.commands.iter().map(Command::bytes).sum::<u64>();
        self.stream.commands.extend(self.commands);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn nothing_is_visible_before_it_is_committed() {
        let mut stream = CommandStream::new();

        let mut dropped = stream.reserve(12).unwrap();
        dropped.push(FENCE);
        drop(dropped);
        assert_eq!(stream.commands(), []);

        let mut committed = stream.reserve(12).unwrap();
        committed.push(FENCE);
        committed.commit();
        assert_eq!(stream.commands(), [FENCE]);
        assert_eq!(stream.bytes(), [30, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0]);
    }

    #[test]
    fn a_block_that_does_not_fit_leaves_nothing_behind() {
        let mut stream = CommandStream::new();
        stream.set_capacity(30);

        assert_eq!(stream.emit(&[FENCE, FENCE]), Ok(()));
        assert_eq!(stream.emit(&[FENCE]), Err(Error::NoMemory));
        assert_eq!(stream.take(), [FENCE, FENCE]);
        assert_eq!(stream.emit(&[FENCE]), Ok(()));
        assert_eq!(stream.commands(), [FENCE]);
    }
}
