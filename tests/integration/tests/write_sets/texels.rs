//! Storage images and storage texel buffers.

use crate::image::linear;
use crate::kit::{EVERY_OTHER, STORAGE, dispatch, every_other, range};
use crate::missing;
use crate::rig::{assert_same, counted};
use ash::vk;
use lockstep_harness::{Kind, PAGE};
use std::cell::Cell;

const FORMAT: vk::Format = vk::Format::R8G8B8A8_UINT;

/// Writes texels (2, 1) to (5, 1).
const IMAGE: &str = "
    @group(0) @binding(0) var<storage, read_write> dest: array<u32>;
    @group(0) @binding(1) var image: texture_storage_2d<rgba8uint, write>;
    @compute @workgroup_size(4) fn main(@builtin(local_invocation_id) id: vec3<u32>) {
        textureStore(image, vec2<i32>(2 + i32(id.x), 1), vec4<u32>(7u, 8u, 9u, 10u));
    }";

/// Reads a texel.
const READS: &str = "
    @group(0) @binding(0) var<storage, read_write> dest: array<u32>;
    @group(0) @binding(1) var image: texture_storage_2d<rgba8uint, read>;
    @compute @workgroup_size(4) fn main(@builtin(local_invocation_id) id: vec3<u32>) {
        dest[2u * id.x] = textureLoad(image, vec2<i32>(0, 0)).x * 0x01010101u;
    }";

/// Runs a shader over 64 bytes of a buffer and a linear image of 16 by 4 texels; says what it counted and the
/// image once more.
fn image(source: &str, writes: bool) {
    let info = linear(FORMAT, 16, 4).usage(vk::ImageUsageFlags::STORAGE | vk::ImageUsageFlags::TRANSFER_DST);
    let size = Cell::new(None);
    let counters = counted(|rig| {
        if !rig.offers(&info) {
            return;
        }
        let (image, dest) = (rig.general(&info, Kind::Coherent), rig.buffer(PAGE));
        image.bytes().fill(0, image.size, 0x51);
        let view = rig.view(&image, FORMAT);
        let set_layout = rig.set_layout(&[(0, STORAGE, 1), (1, vk::DescriptorType::STORAGE_IMAGE, 1)]);
        let set = rig.set(set_layout);
        rig.update(set, 0, STORAGE, &[range(&dest, 256, 64)]);
        let views = [vk::DescriptorImageInfo {
            image_view: view,
            image_layout: vk::ImageLayout::GENERAL,
            ..Default::default()
        }];
        let write = vk::WriteDescriptorSet::default()
            .dst_set(set)
            .dst_binding(1)
            .descriptor_type(vk::DescriptorType::STORAGE_IMAGE)
            .image_info(&views);
        unsafe { rig.raw().update_descriptor_sets(&[write], &[]) };
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(source, layout);
        let commands = rig.record(|d, c| dispatch(d, c, pipeline, layout, &[set], &[]));
        if writes {
            let texels = image.rows(rig, (2, 1), 4, 4, &[7, 8, 9, 10].repeat(4));
            rig.beside(&commands, image.bytes(), &texels);
        } else {
            rig.check(&commands, &dest, &every_other(256));
        }
        size.set(Some(image.whole(rig)));
    });
    match (size.get(), writes) {
        (Some(size), true) => counters.are(0, 2 * size),
        (Some(size), false) => counters.are(0, size + 64),
        (None, _) => missing::skip(missing::LINEAR_STORAGE),
    }
}

#[test]
fn a_storage_image_is_written() {
    image(IMAGE, true);
}

#[test]
fn a_storage_image_that_is_read_is_not_written() {
    image(READS, false);
}

/// Writes texels 1 and 3 of a texel buffer.
const TEXELS: &str = "
    OpCapability Shader
    OpCapability ImageBuffer
    OpMemoryModel Logical GLSL450
    OpEntryPoint GLCompute %main \"main\" %texels
    OpExecutionMode %main LocalSize 1 1 1
    OpDecorate %texels DescriptorSet 0
    OpDecorate %texels Binding 0
    OpDecorate %texels DECORATION
    %void = OpTypeVoid
    %function = OpTypeFunction %void
    %u32 = OpTypeInt 32 0
    %u32x4 = OpTypeVector %u32 4
    %c1 = OpConstant %u32 1
    %c3 = OpConstant %u32 3
    %value = OpConstant %u32 0x81818181
    %texel = OpConstantComposite %u32x4 %value %value %value %value
    %image = OpTypeImage %u32 Buffer 0 0 0 2 R32ui
    %image_at = OpTypePointer UniformConstant %image
    %texels = OpVariable %image_at UniformConstant
    %main = OpFunction %void None %function
    %entry = OpLabel
    %all = OpLoad %image %texels
    OpImageWrite %all %c1 %texel
    OpImageWrite %all %c3 %texel
    OpReturn
    OpFunctionEnd";

#[test]
fn the_view_of_a_texel_buffer() {
    let counters = counted(|rig| {
        let dest = rig.buffer(PAGE);
        let info = vk::BufferViewCreateInfo::default()
            .buffer(dest.raw())
            .format(vk::Format::R32_UINT)
            .offset(256)
            .range(48);
        let view = unsafe { rig.raw().create_buffer_view(&info, None) }.expect("vkCreateBufferView");
        rig.own(move |device| unsafe { device.destroy_buffer_view(view, None) });
        let kind = vk::DescriptorType::STORAGE_TEXEL_BUFFER;
        let set_layout = rig.set_layout(&[(0, kind, 1)]);
        let set = rig.set(set_layout);
        let views = [view];
        let write =
            vk::WriteDescriptorSet::default().dst_set(set).descriptor_type(kind).texel_buffer_view(&views);
        unsafe { rig.raw().update_descriptor_sets(&[write], &[]) };
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(&TEXELS.replace("DECORATION", "NonReadable"), layout);
        let commands = rig.record(|d, c| dispatch(d, c, pipeline, layout, &[set], &[]));
        rig.check(&commands, &dest, &[(260, vec![0x81; 4]), (268, vec![0x81; 4])]);
    });
    counters.are(0, 48);
}

#[test]
fn a_storage_buffer_of_256_mib_that_is_read_costs_nothing() {
    const BIG: usize = 256 << 20;
    const READS: &str = "
        @group(0) @binding(0) var<storage, read_write> dest: array<u32>;
        @group(0) @binding(1) var<storage, read> source: array<u32>;
        @compute @workgroup_size(4) fn main(@builtin(local_invocation_id) id: vec3<u32>) {
            dest[2u * id.x] = source[1000u];
        }";
    let counters = counted(|rig| {
        let limits = rig.gpu().properties().limits;
        let len = BIG.min(limits.max_storage_buffer_range as usize);
        let (source, dest) =
            (lockstep_harness::Buffer::mapped(rig.gpu(), Kind::Coherent, BIG), rig.buffer(PAGE));
        source.bytes().fill(4000, 4, 0x51);
        let (set_layout, set) = rig.buffers(&[range(&dest, 256, 64), range(&source, 0, len as u64)]);
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(READS, layout);
        rig.run(|d, c| dispatch(d, c, pipeline, layout, &[set], &[]));
        for (at, word) in every_other(256) {
            assert_same(&dest.bytes().read(at, 4), &word);
        }
    });
    counters.are(0, 64);
    counters.cost(64, 1);
}

#[test]
fn a_storage_buffer_that_is_written_and_not_mapped_costs_nothing() {
    let counters = counted(|rig| {
        let dest = lockstep_harness::Buffer::unmapped(rig.gpu(), Kind::Coherent, 64 * PAGE);
        let (set_layout, set) = rig.buffers(&[range(&dest, 0, vk::WHOLE_SIZE)]);
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(EVERY_OTHER, layout);
        rig.run(|d, c| dispatch(d, c, pipeline, layout, &[set], &[]));
    });
    counters.are(0, 64 * PAGE);
    counters.cost(0, 0);
}
