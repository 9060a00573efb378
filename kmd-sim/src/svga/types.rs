//! Words of the device's language (kernel: `device_include/svga3d_types.h`).

use std::ops::BitOr;

/// Names a surface to the device (`SVGA3dSurfaceId`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SurfaceId(pub u32);

/// Names a memory object to the device (`SVGAMobId`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MobId(pub u32);

/// Names a context to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextId(pub u32);

/// Names a shader to the device (`SVGA3dShaderId`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShaderId(pub u32);

/// Names a view, of its kind and in its context (`SVGA3dRenderTargetViewId` and the like).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewId(pub u32);

/// Kinds of views; each has numbers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ViewKind {
    /// For shaders to read.
    ShaderResource,
    /// To draw to.
    RenderTarget,
    /// For depth and stencil.
    DepthStencil,
    /// For shaders to read and write.
    UnorderedAccess,
}

impl SurfaceId {
    /// No surface: what takes a binding away (`SVGA3D_INVALID_ID`).
    pub const INVALID: Self = Self(u32::MAX);
}

impl ViewId {
    /// No view: what takes a binding away (`SVGA3D_INVALID_ID`).
    pub const INVALID: Self = Self(u32::MAX);
}

impl MobId {
    /// No memory object: what a surface is unbound with (`SVGA3D_INVALID_ID`).
    pub const INVALID: Self = Self(u32::MAX);
}

/// A size in texels (`SVGA3dSize`). Buffers are as wide as they have bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size3d {
    /// Along x.
    pub width: u32,
    /// Along y.
    pub height: u32,
    /// Along z.
    pub depth: u32,
}

impl Size3d {
    /// A size.
    pub const fn new(width: u32, height: u32, depth: u32) -> Self {
        Self { width, height, depth }
    }
}

/// Part of an image, in texels (`SVGA3dBox`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Box3d {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// First slice.
    pub z: u32,
    /// Columns.
    pub w: u32,
    /// Rows.
    pub h: u32,
    /// Slices.
    pub d: u32,
}

impl Box3d {
    /// A box at a position, of a size.
    pub const fn new(x: u32, y: u32, z: u32, w: u32, h: u32, d: u32) -> Self {
        Self { x, y, z, w, h, d }
    }

    /// All of an image.
    pub const fn full(size: Size3d) -> Self {
        Self::new(0, 0, 0, size.width, size.height, size.depth)
    }
}

/// A box, and where in an image its bytes come from (`SVGA3dCopyBox`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyBox {
    /// Where to.
    pub to: Box3d,
    /// First column of the source.
    pub from_x: u32,
    /// First row of the source.
    pub from_y: u32,
    /// First slice of the source.
    pub from_z: u32,
}

impl CopyBox {
    /// The same place of both images.
    pub const fn at(to: Box3d) -> Self {
        Self { to, from_x: to.x, from_y: to.y, from_z: to.z }
    }

    /// The box in the source.
    pub const fn from(&self) -> Box3d {
        Box3d::new(self.from_x, self.from_y, self.from_z, self.to.w, self.to.h, self.to.d)
    }
}

/// An image of a surface (`SVGA3dSurfaceImageId`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageId {
    /// The surface.
    pub sid: SurfaceId,
    /// The layer.
    pub face: u32,
    /// The level.
    pub mipmap: u32,
}

impl ImageId {
    /// The first image of a surface.
    pub const fn first(sid: SurfaceId) -> Self {
        Self { sid, face: 0, mipmap: 0 }
    }
}

/// An image in guest memory (`SVGAGuestImage`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestImage {
    /// The memory object.
    pub mob: MobId,
    /// Where in it.
    pub offset: u32,
    /// Bytes from row to row; 0 if there are none between them.
    pub pitch: u32,
}

/// What a surface is for (`SVGA3dSurfaceAllFlags`). Bits without a name here are carried along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SurfaceFlags(pub u64);

impl SurfaceFlags {
    /// Six faces.
    pub const CUBEMAP: Self = Self(1);
    /// A target of stream output, with the output's state behind its bytes.
    pub const BIND_STREAM_OUTPUT: Self = Self(1 << 26);
    /// Its memory holds every sample.
    pub const MULTISAMPLE: Self = Self(1 << 32);

    /// Whether all of `flags` are set.
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

impl BitOr for SurfaceFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
