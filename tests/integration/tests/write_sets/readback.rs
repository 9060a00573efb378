//! Copies from images to buffers: the rows they write, and not the gaps between them.

use crate::image::{flat, layers, offset};
use crate::missing;
use crate::rig::counted;
use ash::vk;
use lockstep_harness::pattern;

const FORMAT: vk::Format = vk::Format::R8G8B8A8_UNORM;
const COLOR: vk::ImageAspectFlags = vk::ImageAspectFlags::COLOR;
const GENERAL: vk::ImageLayout = vk::ImageLayout::GENERAL;
const BUFFER: usize = 8000;

/// Copies regions of an image with these texels, by the first version of the command and then by the second;
/// each must write `written` and count `exact` bytes.
fn copies(
    info: &vk::ImageCreateInfo<'_>,
    texels: &[u8],
    regions: &[vk::BufferImageCopy],
    written: &[(usize, Vec<u8>)],
) {
    let exact: usize = written.iter().map(|(_, bytes)| bytes.len()).sum();
    let copy = |second: bool| {
        counted(|rig| {
            let (image, to) = (rig.filled(info, texels), rig.buffer(BUFFER));
            let commands = rig.record(|device, commands| unsafe {
                if second {
                    let regions: Vec<_> = regions.iter().map(region2).collect();
                    let info = vk::CopyImageToBufferInfo2::default()
                        .src_image(image.raw)
                        .src_image_layout(GENERAL)
                        .dst_buffer(to.raw())
                        .regions(&regions);
                    device.cmd_copy_image_to_buffer2(commands, &info);
                } else {
                    device.cmd_copy_image_to_buffer(commands, image.raw, GENERAL, to.raw(), regions);
                }
            });
            rig.check(&commands, &to, written);
        })
    };
    copy(false).are(exact, 0);
    copy(true).are(exact, 0);
}

fn region2(region: &vk::BufferImageCopy) -> vk::BufferImageCopy2<'static> {
    vk::BufferImageCopy2::default()
        .buffer_offset(region.buffer_offset)
        .buffer_row_length(region.buffer_row_length)
        .buffer_image_height(region.buffer_image_height)
        .image_subresource(region.image_subresource)
        .image_offset(region.image_offset)
        .image_extent(region.image_extent)
}

fn region(at: u64, row_length: u32, height: u32, extent: [u32; 3]) -> vk::BufferImageCopy {
    vk::BufferImageCopy {
        buffer_offset: at,
        buffer_row_length: row_length,
        buffer_image_height: height,
        image_subresource: layers(COLOR),
        image_extent: vk::Extent3D { width: extent[0], height: extent[1], depth: extent[2] },
        ..Default::default()
    }
}

#[test]
fn tight_rows() {
    let texels = pattern(1, 7 * 5 * 4);
    copies(&flat(FORMAT, 7, 5), &texels, &[region(12, 0, 0, [7, 5, 1])], &[(12, texels.clone())]);
}

#[test]
fn a_part_of_an_image_in_tight_rows() {
    let texels = pattern(1, 7 * 5 * 4);
    let mut part = region(12, 0, 0, [3, 2, 1]);
    part.image_offset = offset(2, 1);
    let row = |y: usize| texels[(y * 7 + 2) * 4..][..12].to_vec();
    copies(&flat(FORMAT, 7, 5), &texels, &[part], &[(12, [row(1), row(2)].concat())]);
}

#[test]
fn padded_rows() {
    let texels = pattern(1, 7 * 5 * 4);
    let rows: Vec<_> = texels.chunks(28).enumerate().map(|(y, row)| (16 + y * 400, row.to_vec())).collect();
    copies(&flat(FORMAT, 7, 5), &texels, &[region(16, 100, 0, [7, 5, 1])], &rows);
}

#[test]
fn slices_with_room_between_them() {
    let texels = pattern(1, 4 * 3 * 2 * 4);
    let info = flat(FORMAT, 4, 3).image_type(vk::ImageType::TYPE_3D).extent(vk::Extent3D {
        width: 4,
        height: 3,
        depth: 2,
    });
    // Rows of 6 texels, slices of 5 rows.
    let row = |(index, row): (usize, &[u8])| (4 + (index / 3) * 120 + (index % 3) * 24, row.to_vec());
    let rows: Vec<_> = texels.chunks(16).enumerate().map(row).collect();
    copies(&info, &texels, &[region(4, 6, 5, [4, 3, 2])], &rows);
    // Tight rows: the gap is between slices alone.
    let slices: Vec<_> =
        texels.chunks(48).enumerate().map(|(z, slice)| (4 + z * 80, slice.to_vec())).collect();
    copies(&info, &texels, &[region(4, 0, 5, [4, 3, 2])], &slices);
}

#[test]
fn some_layers() {
    let texels = pattern(1, 4 * 3 * 3 * 4);
    let info = flat(FORMAT, 4, 3).array_layers(3);
    let mut two = region(8, 0, 0, [4, 3, 1]);
    two.image_subresource.base_array_layer = 1;
    two.image_subresource.layer_count = 2;
    copies(&info, &texels, &[two], &[(8, texels[48..].to_vec())]);
}

#[test]
fn several_regions() {
    let texels = pattern(1, 4 * 4 * 4);
    let regions = [region(0, 0, 0, [4, 1, 1]), region(100, 0, 0, [4, 2, 1]), region(4000, 7, 0, [4, 2, 1])];
    let written = [
        (0, texels[..16].to_vec()),
        (100, texels[..32].to_vec()),
        (4000, texels[..16].to_vec()),
        (4028, texels[16..32].to_vec()),
    ];
    copies(&flat(FORMAT, 4, 4), &texels, &regions, &written);
}

#[test]
fn blocks_of_a_compressed_image() {
    let info = flat(vk::Format::BC1_RGB_UNORM_BLOCK, 12, 8);
    let mut there = true;
    counted(|rig| there = rig.offers(&info));
    if !there {
        missing::skip(missing::COMPRESSED);
        return;
    }
    let texels = pattern(1, 3 * 2 * 8);
    copies(&info, &texels, &[region(8, 0, 0, [12, 8, 1])], &[(8, texels.clone())]);
    let rows = [(8, texels[..24].to_vec()), (8 + 40, texels[24..].to_vec())];
    copies(&info, &texels, &[region(8, 20, 0, [12, 8, 1])], &rows);
}

/// Copies one aspect of an image that was cleared to depth 1 and stencil 0x5A.
fn aspect(format: vk::Format, aspect: vk::ImageAspectFlags, texel: &[u8]) {
    let info = flat(format, 4, 3);
    let mut there = true;
    let counters = counted(|rig| {
        there = rig.offers(&info);
        if !there {
            return;
        }
        let (image, to) = (rig.general(&info, lockstep_harness::Kind::DeviceOnly), rig.buffer(BUFFER));
        rig.run(|device, commands| unsafe {
            let value = vk::ClearDepthStencilValue { depth: 1.0, stencil: 0x5A };
            let range = [crate::image::all(image.aspect)];
            device.cmd_clear_depth_stencil_image(commands, image.raw, GENERAL, &value, &range);
        });
        let mut region = region(16, 9, 0, [4, 3, 1]);
        region.image_subresource.aspect_mask = aspect;
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_copy_image_to_buffer(commands, image.raw, GENERAL, to.raw(), &[region]);
        });
        let row = |y: usize| (16 + y * 9 * texel.len(), texel.repeat(4));
        rig.check(&commands, &to, &[row(0), row(1), row(2)]);
    });
    match there {
        true => counters.are(12 * texel.len(), 0),
        false => missing::skip(missing::DEPTH_STENCIL),
    }
}

#[test]
fn depth_alone() {
    aspect(vk::Format::D16_UNORM, vk::ImageAspectFlags::DEPTH, &[0xFF; 2]);
    aspect(vk::Format::D32_SFLOAT, vk::ImageAspectFlags::DEPTH, &1.0_f32.to_le_bytes());
}

#[test]
fn depth_beside_stencil() {
    aspect(vk::Format::D32_SFLOAT_S8_UINT, vk::ImageAspectFlags::DEPTH, &1.0_f32.to_le_bytes());
}

#[test]
fn stencil_beside_depth() {
    aspect(vk::Format::D32_SFLOAT_S8_UINT, vk::ImageAspectFlags::STENCIL, &[0x5A]);
    aspect(vk::Format::D24_UNORM_S8_UINT, vk::ImageAspectFlags::STENCIL, &[0x5A]);
}

/// Copies rows that are not told one by one: the processor writes between them, and what is between counts.
#[test]
fn many_padded_rows_are_told_as_one_range() {
    const ROWS: usize = 5000;
    let info = flat(FORMAT, 1, u32::try_from(ROWS).expect("small"));
    let texels = pattern(1, ROWS * 4);
    let counters = counted(|rig| {
        let (image, to) = (rig.filled(&info, &texels), rig.buffer(ROWS * 12 + 100));
        let region = [region(16, 3, 0, [1, info.extent.height, 1])];
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_copy_image_to_buffer(commands, image.raw, GENERAL, to.raw(), &region);
        });
        let row = |(y, row): (usize, &[u8])| (16 + y * 12, row.to_vec());
        rig.check(&commands, &to, &texels.chunks(4).enumerate().map(row).collect::<Vec<_>>());
    });
    counters.are(0, (ROWS - 1) * 12 + 4);
}

#[test]
fn a_format_of_a_later_version_may_be_written_to_the_end() {
    let info = flat(vk::Format::A4R4G4B4_UNORM_PACK16, 4, 3);
    let texels = pattern(1, 24);
    let counters = counted(|rig| {
        let (image, to) = (rig.filled(&info, &texels), rig.buffer(BUFFER));
        let commands = rig.record(|device, commands| unsafe {
            let region = [region(16, 0, 0, [4, 3, 1])];
            device.cmd_copy_image_to_buffer(commands, image.raw, GENERAL, to.raw(), &region);
        });
        rig.check(&commands, &to, &[(16, texels.clone())]);
    });
    counters.are(0, BUFFER - 16);
}
