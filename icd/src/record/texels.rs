//! The bytes of a buffer that a copy from an image writes (specification chapter "Copy Commands", "Buffer and
//! Image Addressing").

use std::ops::Range;

use ash::vk;

use crate::formats;

/// Rows that are told one by one; of copies with more, the whole stretch is told, gaps included.
const ROWS: u64 = 4096;

/// What a copy writes.
#[derive(Debug, PartialEq, Eq)]
pub enum Texels {
    /// These bytes, every one of them.
    Exact(Vec<Range<u64>>),
    /// Some of these.
    Within(Range<u64>),
}

/// The bytes that copying a region of an image with `format` writes.
pub fn copied(format: vk::Format, region: &vk::BufferImageCopy) -> Texels {
    let start = region.buffer_offset;
    let aspect = region.image_subresource.aspect_mask;
    let Some(block) = formats::block(format, aspect) else { return Texels::Within(start..u64::MAX) };
    let extent = region.image_extent;
    let or = |given: u32, tight: u32| u64::from(if given == 0 { tight } else { given });
    let blocks = |texels: u64, block: u32| texels.div_ceil(u64::from(block.max(1)));
    let row_pitch = blocks(or(region.buffer_row_length, extent.width), block.width) * block.bytes;
    let slice_pitch = blocks(or(region.buffer_image_height, extent.height), block.height) * row_pitch;
    let row = blocks(u64::from(extent.width), block.width) * block.bytes;
    let rows = blocks(u64::from(extent.height), block.height);
    // Of layers and depth, one is 1; the layers that are left to the image are told as `REMAINING`.
    if region.image_subresource.layer_count == vk::REMAINING_ARRAY_LAYERS {
        return Texels::Within(start..u64::MAX);
    }
    let slices = u64::from(extent.depth) * u64::from(region.image_subresource.layer_count);
    if row == 0 || rows == 0 || slices == 0 {
        return Texels::Exact(Vec::new());
    }
    let slice = (rows - 1) * row_pitch + row;
    let end = start.saturating_add((slices - 1) * slice_pitch + slice);
    if row == row_pitch && (slice == slice_pitch || slices == 1) {
        return Texels::Exact(std::iter::once(start..end).collect());
    }
    if rows * slices > ROWS {
        return Texels::Within(start..end);
    }
    let mut ranges = Vec::new();
    for slice in 0..slices {
        for row_index in 0..rows {
            let at = start + slice * slice_pitch + row_index * row_pitch;
            ranges.push(at..at + row);
        }
    }
    Texels::Exact(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(row_length: u32, extent: [u32; 3], layers: u32) -> vk::BufferImageCopy {
        vk::BufferImageCopy::default()
            .buffer_offset(100)
            .buffer_row_length(row_length)
            .image_subresource(
                vk::ImageSubresourceLayers::default()
                    .aspect_mask(vk::ImageAspectFlags::COLOR)
                    .layer_count(layers),
            )
            .image_extent(vk::Extent3D { width: extent[0], height: extent[1], depth: extent[2] })
    }

    fn one(range: Range<u64>) -> Texels {
        Texels::Exact(std::iter::once(range).collect())
    }

    #[test]
    fn tight_rows_are_one_range() {
        let copied = copied(vk::Format::R8G8B8A8_UNORM, &region(0, [3, 5, 1], 2));

        assert_eq!(copied, one(100..100 + 3 * 4 * 5 * 2));
    }

    #[test]
    fn the_gaps_between_rows_are_not_written() {
        let copied = copied(vk::Format::R8_UNORM, &region(10, [3, 2, 2], 1));

        assert_eq!(copied, Texels::Exact(vec![100..103, 110..113, 120..123, 130..133]));
    }

    #[test]
    fn compressed_images_are_copied_in_blocks() {
        let copied = copied(vk::Format::BC1_RGB_UNORM_BLOCK, &region(0, [5, 4, 1], 1));

        assert_eq!(copied, one(100..100 + 2 * 8));
    }

    #[test]
    fn one_aspect_of_two_has_its_own_size() {
        let mut stencil = region(0, [4, 1, 1], 1);
        stencil.image_subresource.aspect_mask = vk::ImageAspectFlags::STENCIL;

        assert_eq!(copied(vk::Format::D24_UNORM_S8_UINT, &stencil), one(100..104));
    }

    #[test]
    fn a_format_nobody_knows_may_write_to_the_end() {
        let unknown = vk::Format::from_raw(1_999_999_999);

        assert_eq!(copied(unknown, &region(0, [1, 1, 1], 1)), Texels::Within(100..u64::MAX));
    }
}
