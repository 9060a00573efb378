//! Kernel file: `vmw_surface_cache.h`. Where the texels of a surface lie in its guest memory.
//!
//! From the outside in: samples (*sheets*), layers (array elements or faces of a cube), levels of the mip
//! chain, slices, rows, blocks. A layer and a level are a *subresource*.

use crate::error::{Error, Result};
use crate::svga::format::{FormatDesc, SurfaceFormat};
use crate::svga::types::{Size3d, SurfaceFlags};

/// Faces of a cube (`SVGA3D_MAX_SURFACE_FACES`).
const CUBE_FACES: u32 = 6;
/// Levels a surface may have (`DRM_VMW_MAX_MIP_LEVELS`).
const MAX_MIP_LEVELS: u32 = 24;
/// Layers a surface may have (`SVGA3D_SM5_MAX_SURFACE_ARRAYSIZE`).
const MAX_LAYERS: u32 = 2048;
/// Bytes a stream-output target keeps behind its texels (`SVGA3dDXSOState`).
const STREAM_OUTPUT_STATE_BYTES: u64 = 16;

/// What a surface is created with (`struct vmw_surface_metadata`).
#[derive(Clone, Copy, Debug)]
pub struct SurfaceMetadata {
    /// What it is for.
    pub flags: SurfaceFlags,
    /// What a texel is.
    pub format: SurfaceFormat,
    /// Levels of its mip chain; 0 means 1.
    pub mip_levels: u32,
    /// Elements, if it is an array.
    pub array_size: u32,
    /// Samples a texel, if several.
    pub multisample_count: u32,
    /// Size of the first level.
    pub base_size: Size3d,
}

impl SurfaceMetadata {
    /// A surface of one image.
    pub fn new(format: SurfaceFormat, base_size: Size3d) -> Self {
        Self {
            flags: SurfaceFlags::default(),
            format,
            mip_levels: 1,
            array_size: 0,
            multisample_count: 0,
            base_size,
        }
    }

    /// Elements of the array, or faces of the cube, or 1.
    pub fn num_layers(&self) -> u32 {
        match self.array_size {
            0 if self.flags.contains(SurfaceFlags::CUBEMAP) => CUBE_FACES,
            0 => 1,
            elements => elements,
        }
    }

    /// Levels of the mip chain, at least 1.
    pub fn num_mips(&self) -> u32 {
        self.mip_levels.max(1)
    }

    /// Samples a texel, at least 1.
    pub fn num_samples(&self) -> u32 {
        self.multisample_count.max(1)
    }

    /// Bytes of guest memory that the surface needs (`vmw_surface_get_serialized_size_extended`), and no more
    /// than fit a `u32`.
    pub fn backing_size(&self) -> u32 {
        let desc = self.format.desc();
        let chain: u64 = (0..self.num_mips())
            .map(|level| u64::from(image_bytes(&desc, mip_size(self.base_size, level))))
            .sum();
        let multisampled = self.flags.contains(SurfaceFlags::MULTISAMPLE);
        let samples = if multisampled { self.num_samples() } else { 1 };
        let state =
            if self.flags.contains(SurfaceFlags::BIND_STREAM_OUTPUT) { STREAM_OUTPUT_STATE_BYTES } else { 0 };
        let texels = chain.saturating_mul(u64::from(self.num_layers())).saturating_mul(u64::from(samples));
        clamp(texels.saturating_add(state))
    }
}

/// A level of the mip chain (`struct vmw_surface_mip`).
#[derive(Clone, Debug)]
pub struct Mip {
    /// Bytes of the image.
    pub bytes: u64,
    /// Bytes from slice to slice.
    pub img_stride: u64,
    /// Bytes from row of blocks to row of blocks.
    pub row_stride: u64,
    /// Texels.
    pub size: Size3d,
}

/// A place in a surface (`struct vmw_surface_loc`): a texel, or as an end the first one behind on each axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loc {
    /// The sample.
    pub sheet: u64,
    /// The subresource.
    pub sub: u32,
    /// Column.
    pub x: u32,
    /// Row.
    pub y: u32,
    /// Slice.
    pub z: u32,
}

/// A surface's layout, ready for look-ups (`struct vmw_surface_cache`).
///
/// # Invariants
/// There are levels, and no level, stride or sheet is empty.
#[derive(Clone, Debug)]
pub struct SurfaceCache {
    desc: FormatDesc,
    mips: Vec<Mip>,
    num_layers: u32,
    num_samples: u32,
    mip_chain_bytes: u64,
    sheet_bytes: u64,
}

impl SurfaceCache {
    /// The layout of a surface (`vmw_surface_setup_cache`), or [`Error::Invalid`] if it has none.
    pub fn setup(metadata: &SurfaceMetadata) -> Result<Self> {
        let desc = metadata.format.desc();
        let (num_layers, num_samples) = (metadata.num_layers(), metadata.num_samples());
        if metadata.num_mips() > MAX_MIP_LEVELS || num_layers > MAX_LAYERS {
            return Err(Error::Invalid);
        }
        let mips = (0..metadata.num_mips())
            .map(|level| Mip::setup(&desc, mip_size(metadata.base_size, level), num_samples))
            .collect::<Option<Vec<_>>>()
            .ok_or(Error::Invalid)?;
        let mip_chain_bytes: u64 = mips.iter().map(|mip| mip.bytes).sum();
        let sheet_bytes = mip_chain_bytes * u64::from(num_layers);
        // INVARIANT: `Mip::setup` makes none that is empty.
        Ok(Self { desc, mips, num_layers, num_samples, mip_chain_bytes, sheet_bytes })
    }

    /// The format's block.
    pub fn desc(&self) -> &FormatDesc {
        &self.desc
    }

    /// Samples a texel.
    pub fn num_samples(&self) -> u32 {
        self.num_samples
    }

    /// Levels of the mip chain.
    pub fn num_mips(&self) -> u32 {
        u32::try_from(self.mips.len()).expect("levels were counted in 32 bits")
    }

    /// Subresources: levels of all layers.
    pub fn num_subres(&self) -> u32 {
        self.subres(0, self.num_layers)
    }

    /// Bytes of one layer.
    pub fn mip_chain_bytes(&self) -> u64 {
        self.mip_chain_bytes
    }

    /// Bytes of all texels.
    pub fn texel_bytes(&self) -> u64 {
        self.sheet_bytes.saturating_mul(u64::from(self.num_samples))
    }

    /// The level of a subresource.
    pub fn mip(&self, sub: u32) -> &Mip {
        &self.mips[(sub % self.num_mips()) as usize]
    }

    /// The number of a subresource (`vmw_surface_subres`).
    pub fn subres(&self, mip: u32, layer: u32) -> u32 {
        self.num_mips() * layer + mip
    }

    /// The texel that holds the byte at `offset` (`vmw_surface_get_loc`).
    pub fn get_loc(&self, offset: u64) -> Loc {
        let sheet = offset / self.sheet_bytes;
        let in_sheet = offset % self.sheet_bytes;
        let layer = in_sheet / self.mip_chain_bytes;
        let mut rest = in_sheet % self.mip_chain_bytes;
        let mut level = 0;
        while self.mip(level).bytes <= rest {
            rest -= self.mip(level).bytes;
            level += 1;
        }
        let mip = self.mip(level);
        let block = self.desc.block;
        Loc {
            sheet,
            sub: self.subres(level, u32::try_from(layer).expect("layers were counted in 32 bits")),
            x: texels(rest % mip.row_stride / u64::from(self.desc.bytes_per_block), block.width),
            y: texels(rest % mip.img_stride / mip.row_stride, block.height),
            z: texels(rest / mip.img_stride, block.depth),
        }
    }

    /// Makes an end of the last texel in a range (`vmw_surface_inc_loc`): the first behind it on each axis.
    pub fn inc_loc(&self, last: &Loc) -> Loc {
        let (size, block) = (self.mip(last.sub).size, self.desc.block);
        Loc {
            sheet: last.sheet,
            sub: last.sub + 1,
            x: last.x.saturating_add(block.width).min(size.width),
            y: last.y.saturating_add(block.height).min(size.height),
            z: last.z.saturating_add(block.depth).min(size.depth),
        }
    }

    /// The start of a subresource (`vmw_surface_min_loc`).
    pub fn min_loc(&self, sub: u32) -> Loc {
        Loc { sheet: 0, sub, x: 0, y: 0, z: 0 }
    }

    /// The end of a subresource (`vmw_surface_max_loc`).
    pub fn max_loc(&self, sub: u32) -> Loc {
        let size = self.mip(sub).size;
        Loc { sheet: 0, sub: sub + 1, x: size.width, y: size.height, z: size.depth }
    }
}

impl Mip {
    /// A level, if it has bytes and its strides fit.
    fn setup(desc: &FormatDesc, size: Size3d, num_samples: u32) -> Option<Self> {
        let blocks = desc.size_in_blocks(size);
        let row_bytes = u64::from(blocks.width) * u64::from(desc.bytes_per_block);
        let row_stride = row_bytes.checked_mul(u64::from(num_samples))?;
        let img_stride = row_stride.checked_mul(u64::from(blocks.height))?;
        let bytes = u64::from(image_bytes(desc, size));
        (bytes != 0 && img_stride != 0).then_some(Self { bytes, img_stride, row_stride, size })
    }
}

/// Size of a level (`vmw_surface_get_mip_size`).
fn mip_size(base: Size3d, level: u32) -> Size3d {
    let halved = |length: u32| length.checked_shr(level).unwrap_or(0).max(1);
    Size3d::new(halved(base.width), halved(base.height), halved(base.depth))
}

/// Bytes of an image (`vmw_surface_get_image_buffer_size`), and no more than fit a `u32`.
fn image_bytes(desc: &FormatDesc, size: Size3d) -> u32 {
    let blocks = desc.size_in_blocks(size);
    let bytes = if desc.is_planar() { desc.bytes_per_block } else { desc.pitch_bytes_per_block };
    [blocks.height, blocks.depth, bytes]
        .into_iter()
        .fold(blocks.width, |product, factor| product.saturating_mul(factor))
}

/// The first texel of a block.
fn texels(block: u64, texels_per_block: u32) -> u32 {
    clamp(block.saturating_mul(u64::from(texels_per_block)))
}

fn clamp(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array() -> SurfaceMetadata {
        let size = Size3d::new(64, 64, 1);
        let image = SurfaceMetadata::new(SurfaceFormat::R8G8B8A8_UNORM, size);
        SurfaceMetadata { mip_levels: 3, array_size: 4, ..image }
    }

    #[test]
    fn a_place_is_layer_then_level_then_row() {
        let cache = SurfaceCache::setup(&array()).unwrap();

        let loc = cache.get_loc(21504 + 16384 + 128 * 5 + 4 * 6 + 3);

        assert_eq!(loc, Loc { sheet: 0, sub: 4, x: 6, y: 5, z: 0 });
        assert_eq!(cache.inc_loc(&loc), Loc { sheet: 0, sub: 5, x: 7, y: 6, z: 1 });
        assert_eq!(cache.min_loc(4), Loc { sheet: 0, sub: 4, x: 0, y: 0, z: 0 });
        assert_eq!(cache.max_loc(4), Loc { sheet: 0, sub: 5, x: 32, y: 32, z: 1 });
    }

    #[test]
    fn an_end_stops_where_the_image_does() {
        let metadata = SurfaceMetadata::new(SurfaceFormat::BC3_UNORM, Size3d::new(130, 66, 1));
        let cache = SurfaceCache::setup(&metadata).unwrap();

        let last = cache.get_loc(17 * 33 * 16 - 1);

        assert_eq!(cache.inc_loc(&last), cache.max_loc(0));
    }

    #[test]
    fn the_backing_holds_levels_layers_and_samples() {
        let samples = SurfaceMetadata { flags: SurfaceFlags::MULTISAMPLE, multisample_count: 4, ..array() };
        let target = SurfaceMetadata {
            flags: SurfaceFlags::BIND_STREAM_OUTPUT,
            ..SurfaceMetadata::new(SurfaceFormat::BUFFER, Size3d::new(4090, 1, 1))
        };

        assert_eq!(array().backing_size(), 4 * (16384 + 4096 + 1024));
        assert_eq!(samples.backing_size(), 4 * array().backing_size());
        assert_eq!(target.backing_size(), 4090 + 16);
    }

    #[test]
    fn sizes_that_do_not_fit_are_clamped() {
        let huge = SurfaceMetadata {
            mip_levels: 24,
            array_size: u32::MAX,
            flags: SurfaceFlags::MULTISAMPLE,
            multisample_count: u32::MAX,
            ..SurfaceMetadata::new(SurfaceFormat::R32G32B32A32_FLOAT, Size3d::new(u32::MAX, 1 << 20, 1))
        };

        assert_eq!(huge.backing_size(), u32::MAX);
        assert_eq!(SurfaceCache::setup(&huge).err(), Some(Error::Invalid));
    }

    #[test]
    fn a_level_too_many_is_refused() {
        let deep = SurfaceMetadata { mip_levels: 25, ..array() };
        assert_eq!(SurfaceCache::setup(&deep).err(), Some(Error::Invalid));
    }
}
