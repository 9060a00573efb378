//! The commands: their numbers, and the fields of their bodies.

use super::field::Field;
use super::{HEADER_WORDS, WORD_BYTES};
use crate::svga::types::{
    Box3d, ContextId, CopyBox, GuestImage, ImageId, MobId, ShaderId, Size3d, SurfaceFlags, SurfaceId, ViewId,
};

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

            /// The surfaces it names: handles in a batch of the user, the device's numbers in the stream.
            pub fn surfaces(&mut self) -> impl Iterator<Item = &mut SurfaceId> {
                let found: Vec<Option<&mut SurfaceId>> = match self {
                    $(Self::$name { $($field),* } => vec![$($field.sid()),*],)*
                };
                found.into_iter().flatten()
            }

            /// The memory objects it names, as [`Self::surfaces`].
            pub fn mobs(&mut self) -> impl Iterator<Item = &mut MobId> {
                let found: Vec<Option<&mut MobId>> = match self {
                    $(Self::$name { $($field),* } => vec![$($field.mob()),*],)*
                };
                found.into_iter().flatten()
            }

            /// The contexts it names, as [`Self::surfaces`].
            pub fn contexts(&mut self) -> impl Iterator<Item = &mut ContextId> {
                let found: Vec<Option<&mut ContextId>> = match self {
                    $(Self::$name { $($field),* } => vec![$($field.cid()),*],)*
                };
                found.into_iter().flatten()
            }

            pub(super) fn put_body(self, body: &mut Vec<u32>) {
                match self {
                    $(Self::$name { $($field),* } => {
                        $($field.put(body);)*
                    })*
                }
            }

            /// Words of the body of the command with this number.
            pub(super) fn body_words(id: u32) -> Option<usize> {
                match id {
                    $($id => Some(0 $(+ <$type as Field>::WORDS)*),)*
                    _ => None,
                }
            }

            /// The command with this number, out of a body that is long enough.
            pub(super) fn take_body(id: u32, body: &mut impl Iterator<Item = u32>) -> Option<Self> {
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

    // From here on: what batches of the user are made of. Where the device takes a list, one entry stands for
    // it.

    /// Copies part of an image to another.
    SurfaceCopy = 1042 {
        /// From.
        src: ImageId,
        /// To.
        dest: ImageId,
        /// Which part.
        copy_box: CopyBox,
    }
    /// Copies part of an image to another and changes its size.
    SurfaceStretchBlt = 1043 {
        /// From.
        src: ImageId,
        /// To.
        dest: ImageId,
        /// Which part.
        box_src: Box3d,
        /// Which part.
        box_dest: Box3d,
    }
    /// Copies between an image and a memory object.
    SurfaceDma = 1044 {
        /// Where in guest memory.
        guest: GuestImage,
        /// The image.
        host: ImageId,
        /// [`super::TRANSFER_WRITE_HOST`] or [`super::TRANSFER_READ_HOST`].
        transfer: u32,
        /// Which part; `from` is in guest memory.
        copy_box: CopyBox,
    }
    /// Binds a target to draw to.
    SetRenderTarget = 1050 {
        /// The context.
        cid: ContextId,
        /// Which of its targets.
        slot: u32,
        /// The image.
        target: ImageId,
    }
    /// Binds a texture.
    SetTextureState = 1051 {
        /// The context.
        cid: ContextId,
        /// The unit.
        stage: u32,
        /// The texture.
        sid: SurfaceId,
    }
    /// Fills the targets of a context.
    Clear = 1057 {
        /// The context.
        cid: ContextId,
        /// The color.
        color: u32,
    }
    /// Draws to the targets of a context.
    DrawPrimitives = 1063 {
        /// The context.
        cid: ContextId,
        /// The vertices.
        vertices: SurfaceId,
        /// What is drawn.
        count: u32,
    }
    /// Shows an image.
    BlitSurfaceToScreen = 1069 {
        /// Which.
        src: ImageId,
        /// Where.
        screen: u32,
    }
    /// Writes the device's copy of an image to guest memory.
    ReadbackGbImage = 1103 {
        /// Which.
        image: ImageId,
    }
    /// The device may forget what an image holds.
    InvalidateGbImage = 1105 {
        /// Which.
        image: ImageId,
    }
    /// Makes a context.
    DefineGbContext = 1107 {
        /// Its name from now on.
        cid: ContextId,
    }
    /// Forgets a context.
    DestroyGbContext = 1108 {
        /// Which.
        cid: ContextId,
    }
    /// Makes a shader.
    DefineGbShader = 1112 {
        /// Its name from now on.
        shid: ShaderId,
        /// Vertex, fragment, ...
        kind: u32,
        /// Bytes of its code.
        size: u32,
    }
    /// Forgets a shader.
    DestroyGbShader = 1113 {
        /// Which.
        shid: ShaderId,
    }
    /// Gives a shader its code, or takes it away ([`MobId::INVALID`]).
    BindGbShader = 1114 {
        /// The shader.
        shid: ShaderId,
        /// The memory.
        mob: MobId,
        /// Where in it.
        offset: u32,
    }
    /// Makes a context of the DX kind.
    DxDefineContext = 1143 {
        /// Its name from now on.
        cid: ContextId,
    }
    /// Forgets a context of the DX kind.
    DxDestroyContext = 1144 {
        /// Which.
        cid: ContextId,
    }
    /// Binds a buffer of constants.
    DxSetSingleConstantBuffer = 1148 {
        /// The slot.
        slot: u32,
        /// The buffer.
        sid: SurfaceId,
    }
    /// Binds what shaders read.
    DxSetShaderResources = 1149 {
        /// The slot.
        slot: u32,
        /// The view.
        view: ViewId,
    }
    /// Draws.
    DxDraw = 1152 {
        /// What is drawn.
        vertex_count: u32,
        /// From where on.
        start_vertex: u32,
    }
    /// Binds a buffer of vertices.
    DxSetVertexBuffers = 1158 {
        /// The slot.
        slot: u32,
        /// The buffer.
        sid: SurfaceId,
    }
    /// Binds a buffer of indices.
    DxSetIndexBuffer = 1159 {
        /// The buffer.
        sid: SurfaceId,
    }
    /// Binds what is drawn to.
    DxSetRenderTargets = 1161 {
        /// Depth and stencil.
        depth_stencil: ViewId,
        /// Color.
        render_target: ViewId,
    }
    /// Binds where vertices are written to.
    DxSetSoTargets = 1173 {
        /// The slot.
        slot: u32,
        /// The buffer.
        sid: SurfaceId,
    }
    /// Fills what a view shows.
    DxClearRenderTargetView = 1176 {
        /// The view.
        view: ViewId,
        /// Its bytes, over and over.
        rgba: u32,
    }
    /// Fills what a view shows.
    DxClearDepthStencilView = 1177 {
        /// The view.
        view: ViewId,
        /// Its bytes, over and over.
        depth: u32,
    }
    /// Copies part of a subresource to another.
    DxPredCopyRegion = 1178 {
        /// To.
        dest: SurfaceId,
        /// Which layer and level.
        dest_sub: u32,
        /// From.
        src: SurfaceId,
        /// Which layer and level.
        src_sub: u32,
        /// Which part.
        copy_box: CopyBox,
    }
    /// Makes the lower levels of the surface that a view shows from the level above each.
    DxGenMips = 1181 {
        /// The view.
        view: ViewId,
    }
    /// Writes the device's copy of a subresource to guest memory.
    DxReadbackSubresource = 1183 {
        /// The surface.
        sid: SurfaceId,
        /// Layer × levels + level.
        sub_resource: u32,
    }
    /// The device may forget what a subresource holds.
    DxInvalidateSubresource = 1184 {
        /// The surface.
        sid: SurfaceId,
        /// Layer × levels + level.
        sub_resource: u32,
    }
    /// Makes a view for shaders to read. Views are of whole surfaces.
    DxDefineShaderResourceView = 1185 {
        /// Its name from now on, in its context.
        view: ViewId,
        /// What it shows.
        sid: SurfaceId,
    }
    /// Makes a view to draw to.
    DxDefineRenderTargetView = 1187 {
        /// Its name from now on, in its context.
        view: ViewId,
        /// What it shows.
        sid: SurfaceId,
    }
    /// Makes a view for depth and stencil.
    DxDefineDepthStencilView = 1189 {
        /// Its name from now on, in its context.
        view: ViewId,
        /// What it shows.
        sid: SurfaceId,
    }
    /// Copies part of a buffer to another.
    DxBufferCopy = 1209 {
        /// To.
        dest: SurfaceId,
        /// From.
        src: SurfaceId,
        /// Where to.
        dest_x: u32,
        /// Where from.
        src_x: u32,
        /// Bytes.
        width: u32,
    }
    /// Copies part of a buffer to an image.
    DxTransferFromBuffer = 1210 {
        /// From.
        src: SurfaceId,
        /// Where from.
        src_offset: u32,
        /// Bytes from row to row.
        src_pitch: u32,
        /// Bytes from slice to slice.
        src_slice_pitch: u32,
        /// To.
        dest: SurfaceId,
        /// Which layer and level.
        dest_sub: u32,
        /// Which part.
        dest_box: Box3d,
    }
    /// Copies part of an image to another part of it.
    IntraSurfaceCopy = 1238 {
        /// The image.
        image: ImageId,
        /// Which part.
        copy_box: CopyBox,
    }
    /// Makes a view for shaders to read and write.
    DxDefineUaView = 1245 {
        /// Its name from now on, in its context.
        view: ViewId,
        /// What it shows.
        sid: SurfaceId,
    }
    /// Fills what a view shows.
    DxClearUaViewUint = 1247 {
        /// The view.
        view: ViewId,
        /// Its bytes, over and over.
        value: u32,
    }
    /// Fills what a view shows.
    DxClearUaViewFloat = 1248 {
        /// The view.
        view: ViewId,
        /// Its bytes, over and over.
        value: u32,
    }
    /// Binds what draws read and write.
    DxSetUaViews = 1250 {
        /// The slot.
        slot: u32,
        /// The view.
        view: ViewId,
    }
    /// Draws what a buffer says.
    DxDrawInstancedIndirect = 1252 {
        /// The buffer.
        sid: SurfaceId,
        /// Where in it.
        offset: u32,
    }
    /// Computes.
    DxDispatch = 1253 {
        /// How much.
        groups: u32,
    }
    /// Binds what dispatches read and write.
    DxSetCsUaViews = 1268 {
        /// The slot.
        slot: u32,
        /// The view.
        view: ViewId,
    }

    // What the device has other ways for.

    /// Names the context of the commands behind it: a part of the header of a command buffer
    /// (`SVGACBHeader.dxContext`).
    DxContext = 2998 {
        /// The context.
        cid: ContextId,
    }
    /// Binds a surface to a part of its memory. vmwgfx binds all at offset 0; with offsets the machine shows
    /// what becomes of neighbours.
    BindGbSurfaceAtOffset = 2999 {
        /// The surface.
        sid: SurfaceId,
        /// The memory.
        mob: MobId,
        /// Where in it; a whole number of pages.
        offset: u32,
    }
}
