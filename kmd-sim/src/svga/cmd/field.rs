//! Parts of commands, and how they are words.

use crate::svga::types::{
    Box3d, ContextId, CopyBox, GuestImage, ImageId, MobId, ShaderId, Size3d, SurfaceFlags, SurfaceId, ViewId,
};

/// A part of a command's body: a fixed number of words.
pub(super) trait Field: Sized {
    /// How many.
    const WORDS: usize;
    /// Appends them.
    fn put(self, body: &mut Vec<u32>);
    /// Takes them from the front of a body that has them.
    fn take(body: &mut impl Iterator<Item = u32>) -> Self;

    /// The surface it names, if it does.
    fn sid(&mut self) -> Option<&mut SurfaceId> {
        None
    }

    /// The context it names, if it does.
    fn cid(&mut self) -> Option<&mut ContextId> {
        None
    }

    /// The memory object it names, if it does.
    fn mob(&mut self) -> Option<&mut MobId> {
        None
    }
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

/// Implements [`Field`] for a record of fields; `sid` or `mob` says that one of them is an id.
macro_rules! record {
    ($type:ident { $($name:tt: $field:ty),* } $($id:ident = $at:tt)?) => {
        impl Field for $type {
            const WORDS: usize = 0 $(+ <$field as Field>::WORDS)*;

            fn put(self, body: &mut Vec<u32>) {
                $(self.$name.put(body);)*
            }

            fn take(body: &mut impl Iterator<Item = u32>) -> Self {
                // Fields of an initializer are evaluated in the order they are written in.
                Self { $($name: <$field>::take(body)),* }
            }

            $(record!($id = $at);)?
        }
    };
    (sid = $at:tt) => {
        fn sid(&mut self) -> Option<&mut SurfaceId> {
            self.$at.sid()
        }
    };
    (mob = $at:tt) => {
        fn mob(&mut self) -> Option<&mut MobId> {
            self.$at.mob()
        }
    };
}

/// Implements [`Field`] for a word of a type of its own; `sid` or `mob` says that it is one.
macro_rules! id {
    ($type:ident $($id:ident)?) => {
        impl Field for $type {
            const WORDS: usize = 1;

            fn put(self, body: &mut Vec<u32>) {
                body.push(self.0);
            }

            fn take(body: &mut impl Iterator<Item = u32>) -> Self {
                Self(u32::take(body))
            }

            $(fn $id(&mut self) -> Option<&mut Self> {
                Some(self)
            })?
        }
    };
}

id!(SurfaceId sid);
id!(MobId mob);
id!(ContextId cid);
id!(ViewId);
id!(ShaderId);
record!(Size3d { width: u32, height: u32, depth: u32 });
record!(Box3d { x: u32, y: u32, z: u32, w: u32, h: u32, d: u32 });
record!(CopyBox { to: Box3d, from_x: u32, from_y: u32, from_z: u32 });
record!(ImageId { sid: SurfaceId, face: u32, mipmap: u32 } sid = sid);
record!(GuestImage { mob: MobId, offset: u32, pitch: u32 } mob = mob);

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
