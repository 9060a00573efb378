//! Texel blocks of the formats of Vulkan 1.0 (specification chapter "Formats", table "Compatible formats").
//!
//! Formats of later versions and extensions are not known here: who asks must do without.

use ash::vk;

/// The smallest piece that is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its size.
    pub bytes: u64,
    /// Texels across.
    pub width: u32,
    /// Texels down.
    pub height: u32,
}

/// Formats have consecutive numbers where they have like blocks: the last one's, and the bytes of a texel.
const PLAIN: &[(i32, u64)] = &[
    (vk::Format::R4G4_UNORM_PACK8.as_raw(), 1),
    (vk::Format::A1R5G5B5_UNORM_PACK16.as_raw(), 2),
    (vk::Format::R8_SRGB.as_raw(), 1),
    (vk::Format::R8G8_SRGB.as_raw(), 2),
    (vk::Format::B8G8R8_SRGB.as_raw(), 3),
    (vk::Format::A2B10G10R10_SINT_PACK32.as_raw(), 4),
    (vk::Format::R16_SFLOAT.as_raw(), 2),
    (vk::Format::R16G16_SFLOAT.as_raw(), 4),
    (vk::Format::R16G16B16_SFLOAT.as_raw(), 6),
    (vk::Format::R16G16B16A16_SFLOAT.as_raw(), 8),
    (vk::Format::R32_SFLOAT.as_raw(), 4),
    (vk::Format::R32G32_SFLOAT.as_raw(), 8),
    (vk::Format::R32G32B32_SFLOAT.as_raw(), 12),
    (vk::Format::R32G32B32A32_SFLOAT.as_raw(), 16),
    (vk::Format::R64_SFLOAT.as_raw(), 8),
    (vk::Format::R64G64_SFLOAT.as_raw(), 16),
    (vk::Format::R64G64B64_SFLOAT.as_raw(), 24),
    (vk::Format::R64G64B64A64_SFLOAT.as_raw(), 32),
    (vk::Format::E5B9G9R9_UFLOAT_PACK32.as_raw(), 4),
];

/// As above, for blocks of 4 by 4 texels.
const BLOCKS: &[(i32, u64)] = &[
    (vk::Format::BC1_RGBA_SRGB_BLOCK.as_raw(), 8),
    (vk::Format::BC3_SRGB_BLOCK.as_raw(), 16),
    (vk::Format::BC4_SNORM_BLOCK.as_raw(), 8),
    (vk::Format::BC7_SRGB_BLOCK.as_raw(), 16),
    (vk::Format::ETC2_R8G8B8A1_SRGB_BLOCK.as_raw(), 8),
    (vk::Format::ETC2_R8G8B8A8_SRGB_BLOCK.as_raw(), 16),
    (vk::Format::EAC_R11_SNORM_BLOCK.as_raw(), 8),
    (vk::Format::EAC_R11G11_SNORM_BLOCK.as_raw(), 16),
];

/// Extents of ASTC blocks, two formats each; all have 16 bytes.
const ASTC: [(u32, u32); 14] = [
    (4, 4),
    (5, 4),
    (5, 5),
    (6, 5),
    (6, 6),
    (8, 5),
    (8, 6),
    (8, 8),
    (10, 5),
    (10, 6),
    (10, 8),
    (10, 10),
    (12, 10),
    (12, 12),
];

/// The block of one aspect of a format as a copy to a buffer packs it; `None` if it is not known.
pub fn block(format: vk::Format, aspect: vk::ImageAspectFlags) -> Option<Block> {
    let raw = format.as_raw();
    let plain = |bytes| Some(Block { bytes, width: 1, height: 1 });
    match aspect {
        vk::ImageAspectFlags::STENCIL => return plain(1),
        vk::ImageAspectFlags::DEPTH => {
            let half = [vk::Format::D16_UNORM, vk::Format::D16_UNORM_S8_UINT].contains(&format);
            return plain(if half { 2 } else { 4 });
        }
        vk::ImageAspectFlags::COLOR => {}
        _ => return None,
    }
    let find = |table: &[(i32, u64)]| table.iter().find(|(last, _)| raw <= *last).map(|(_, bytes)| *bytes);
    if raw <= 0 {
        return None;
    }
    if let Some(bytes) = find(PLAIN) {
        return plain(bytes);
    }
    if raw < vk::Format::BC1_RGB_UNORM_BLOCK.as_raw() {
        return None;
    }
    if let Some(bytes) = find(BLOCKS) {
        return Some(Block { bytes, width: 4, height: 4 });
    }
    let index = usize::try_from(raw - vk::Format::ASTC_4X4_UNORM_BLOCK.as_raw()).ok()?;
    let (width, height) = *ASTC.get(index / 2)?;
    Some(Block { bytes: 16, width, height })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_at_both_ends_of_each_stretch() {
        let color = |format| block(format, vk::ImageAspectFlags::COLOR).map(|b| (b.bytes, b.width, b.height));
        for (format, expected) in [
            (vk::Format::UNDEFINED, None),
            (vk::Format::R4G4B4A4_UNORM_PACK16, Some((2, 1, 1))),
            (vk::Format::R8_UNORM, Some((1, 1, 1))),
            (vk::Format::R8G8B8_UNORM, Some((3, 1, 1))),
            (vk::Format::R8G8B8A8_UNORM, Some((4, 1, 1))),
            (vk::Format::R16_UNORM, Some((2, 1, 1))),
            (vk::Format::R16G16B16_UNORM, Some((6, 1, 1))),
            (vk::Format::R32G32B32A32_UINT, Some((16, 1, 1))),
            (vk::Format::R64G64B64A64_UINT, Some((32, 1, 1))),
            (vk::Format::B10G11R11_UFLOAT_PACK32, Some((4, 1, 1))),
            (vk::Format::D32_SFLOAT_S8_UINT, None),
            (vk::Format::BC2_UNORM_BLOCK, Some((16, 4, 4))),
            (vk::Format::BC4_UNORM_BLOCK, Some((8, 4, 4))),
            (vk::Format::BC5_UNORM_BLOCK, Some((16, 4, 4))),
            (vk::Format::ETC2_R8G8B8_UNORM_BLOCK, Some((8, 4, 4))),
            (vk::Format::ASTC_4X4_UNORM_BLOCK, Some((16, 4, 4))),
            (vk::Format::ASTC_8X5_SRGB_BLOCK, Some((16, 8, 5))),
            (vk::Format::ASTC_12X12_SRGB_BLOCK, Some((16, 12, 12))),
            (vk::Format::G8B8G8R8_422_UNORM, None),
        ] {
            assert_eq!(color(format), expected, "{format:?}");
        }
    }
}
