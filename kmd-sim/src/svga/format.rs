//! Surface formats and their blocks (kernel: `vmw_surface_cache.h`, `device_include/svga3d_surfacedefs.h`).

use crate::svga::types::Size3d;

/// How the texels of a format lie in memory: a block is the smallest part with an address of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatDesc {
    /// Texels of a block.
    pub block: Size3d,
    /// Bytes of a block, in all planes.
    pub bytes_per_block: u32,
    /// Bytes of a block in a row of the first plane.
    pub pitch_bytes_per_block: u32,
}

impl FormatDesc {
    /// Whether the planes of an image lie one after the other.
    pub const fn is_planar(&self) -> bool {
        self.pitch_bytes_per_block != self.bytes_per_block
    }

    /// How many blocks cover `size`.
    pub const fn size_in_blocks(&self, size: Size3d) -> Size3d {
        Size3d::new(
            size.width.div_ceil(self.block.width),
            size.height.div_ceil(self.block.height),
            size.depth.div_ceil(self.block.depth),
        )
    }
}

/// Declares the formats by block: width × height, bytes, bytes of pitch.
macro_rules! formats {
    ($(($width:literal x $height:literal, $bytes:literal, $pitch:literal) {
        $($name:ident = $id:literal,)*
    })*) => {
        /// A format of surfaces, by the device's name for it and with its number (`SVGA3dSurfaceFormat`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(non_camel_case_types, reason = "the device's names, which are lists of channels")]
        #[repr(u32)]
        pub enum SurfaceFormat {
            $($(#[doc = concat!("`SVGA3D_", stringify!($name), "`")] $name = $id,)*)*
        }

        impl SurfaceFormat {
            /// All of them.
            pub const ALL: &[Self] = &[$($(Self::$name,)*)*];

            /// The block (`vmw_surface_get_desc`).
            pub const fn desc(self) -> FormatDesc {
                match self {
                    $($(Self::$name)|* => FormatDesc {
                        block: Size3d::new($width, $height, 1),
                        bytes_per_block: $bytes,
                        pitch_bytes_per_block: $pitch,
                    },)*
                }
            }
        }
    };
}

formats! {
    (1 x 1, 0, 0) {
        FORMAT_INVALID = 0,
    }
    (1 x 1, 1, 1) {
        LUMINANCE8 = 11, LUMINANCE4_ALPHA4 = 12, ALPHA8 = 32, BUFFER = 37, R8_TYPELESS = 92, R8_UNORM = 93,
        R8_UINT = 94, R8_SNORM = 95, R8_SINT = 96, P8 = 97, A8_UNORM = 135,
    }
    (1 x 1, 2, 2) {
        R5G6B5 = 3, X1R5G5B5 = 4, A1R5G5B5 = 5, A4R4G4B4 = 6, Z_D16 = 8, Z_D15S1 = 10, LUMINANCE16 = 13,
        LUMINANCE8_ALPHA8 = 14, BUMPU8V8 = 20, BUMPL6V5U5 = 21, V8U8 = 27, CxV8U8 = 29, R_S10E5 = 33,
        R8G8_TYPELESS = 83, R8G8_UNORM = 84, R8G8_UINT = 85, R8G8_SINT = 86, R16_TYPELESS = 87,
        R16_UNORM = 88, R16_UINT = 89, R16_SNORM = 90, R16_SINT = 91, Z_DF16 = 118, R8G8_SNORM = 132,
        R16_FLOAT = 133, D16_UNORM = 134, B5G6R5_UNORM = 139, B5G5R5A1_UNORM = 140,
    }
    (1 x 1, 4, 4) {
        X8R8G8B8 = 1, A8R8G8B8 = 2, Z_D32 = 7, Z_D24S8 = 9, BUMPX8L8V8U8 = 22, A2R10G10B10 = 26,
        Q8W8V8U8 = 28, X8L8V8U8 = 30, A2W10V10U10 = 31, R_S23E8 = 34, RG_S10E5 = 35, Z_D24X8 = 38,
        V16U16 = 39, G16R16 = 40, AYUV = 45, R10G10B10A2_TYPELESS = 64, R10G10B10A2_UINT = 65,
        R11G11B10_FLOAT = 66, R8G8B8A8_TYPELESS = 67, R8G8B8A8_UNORM = 68, R8G8B8A8_UNORM_SRGB = 69,
        R8G8B8A8_UINT = 70, R8G8B8A8_SINT = 71, R16G16_TYPELESS = 72, R16G16_UINT = 73, R16G16_SINT = 74,
        R32_TYPELESS = 75, D32_FLOAT = 76, R32_UINT = 77, R32_SINT = 78, R24G8_TYPELESS = 79,
        D24_UNORM_S8_UINT = 80, R24_UNORM_X8 = 81, X24_G8_UINT = 82, R9G9B9E5_SHAREDEXP = 98,
        R10G10B10_XR_BIAS_A2_UNORM = 113, B8G8R8A8_TYPELESS = 114, B8G8R8A8_UNORM_SRGB = 115,
        B8G8R8X8_TYPELESS = 116, B8G8R8X8_UNORM_SRGB = 117, Z_DF24 = 119, Z_D24S8_INT = 120,
        R10G10B10A2_UNORM = 126, R8G8B8A8_SNORM = 127, R16G16_FLOAT = 128, R16G16_UNORM = 129,
        R16G16_SNORM = 130, R32_FLOAT = 131, B8G8R8A8_UNORM = 141, B8G8R8X8_UNORM = 142,
    }
    (1 x 1, 8, 8) {
        ARGB_S10E5 = 24, RG_S23E8 = 36, A16B16G16R16 = 41, R16G16B16A16_TYPELESS = 53,
        R16G16B16A16_UINT = 54, R16G16B16A16_SNORM = 55, R16G16B16A16_SINT = 56, R32G32_TYPELESS = 57,
        R32G32_UINT = 58, R32G32_SINT = 59, R32G8X24_TYPELESS = 60, D32_FLOAT_S8X24_UINT = 61,
        R32_FLOAT_X8X24 = 62, X32_G8X24_UINT = 63, R16G16B16A16_FLOAT = 123, R16G16B16A16_UNORM = 124,
        R32G32_FLOAT = 125,
    }
    (1 x 1, 12, 12) {
        R32G32B32_TYPELESS = 49, R32G32B32_FLOAT = 50, R32G32B32_UINT = 51, R32G32B32_SINT = 52,
    }
    (1 x 1, 16, 16) {
        ARGB_S23E8 = 25, R32G32B32A32_TYPELESS = 46, R32G32B32A32_UINT = 47, R32G32B32A32_SINT = 48,
        R32G32B32A32_FLOAT = 122,
    }
    (2 x 1, 4, 4) {
        UYVY = 42, YUY2 = 43, R8G8_B8G8_UNORM = 99, G8R8_G8B8_UNORM = 100,
    }
    (2 x 2, 6, 2) {
        NV12 = 44, YV12 = 121,
    }
    (4 x 4, 8, 8) {
        DXT1 = 15, BC1_TYPELESS = 101, BC1_UNORM_SRGB = 102, BC4_TYPELESS = 107, ATI1 = 108,
        BC4_SNORM = 109, BC1_UNORM = 136, BC4_UNORM = 143,
    }
    (4 x 4, 16, 16) {
        DXT2 = 16, DXT3 = 17, DXT4 = 18, DXT5 = 19, BC2_TYPELESS = 103, BC2_UNORM_SRGB = 104,
        BC3_TYPELESS = 105, BC3_UNORM_SRGB = 106, BC5_TYPELESS = 110, ATI2 = 111, BC5_SNORM = 112,
        BC2_UNORM = 137, BC3_UNORM = 138, BC5_UNORM = 144,
    }
}

impl SurfaceFormat {
    /// The device's number for it.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// The format of a number.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|format| format.id() == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_found_by_its_number() {
        for format in SurfaceFormat::ALL {
            assert_eq!(SurfaceFormat::from_id(format.id()), Some(*format));
        }
        assert_eq!(SurfaceFormat::from_id(u32::MAX), None);
    }

    #[test]
    fn only_the_video_formats_with_planes_are_planar() {
        let planar: Vec<_> = SurfaceFormat::ALL.iter().filter(|format| format.desc().is_planar()).collect();
        assert_eq!(planar, [&SurfaceFormat::NV12, &SurfaceFormat::YV12]);
    }

    #[test]
    fn a_block_that_is_used_in_part_counts() {
        let blocks = SurfaceFormat::BC3_UNORM.desc().size_in_blocks(Size3d::new(130, 66, 1));
        assert_eq!(blocks, Size3d::new(33, 17, 1));
    }
}
