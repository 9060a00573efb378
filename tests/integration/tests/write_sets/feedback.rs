//! Transform feedback: buffers and counters.

use crate::graphics::{Stages, rendering};
use crate::kit::GRAPHICS;
use crate::missing;
use crate::rig::{bytes_of, counted};
use ash::vk;
use lockstep_harness::{Kind, PAGE};

/// Captures a word for each vertex.
const CAPTURE: &str = "
    OpCapability Shader
    OpCapability TransformFeedback
    OpMemoryModel Logical GLSL450
    OpEntryPoint Vertex %main \"main\" %index %captured %position %size
    OpExecutionMode %main Xfb
    OpDecorate %index BuiltIn VertexIndex
    OpDecorate %position BuiltIn Position
    OpDecorate %size BuiltIn PointSize
    OpDecorate %captured Location 0
    OpDecorate %captured XfbBuffer 0
    OpDecorate %captured XfbStride 8
    OpDecorate %captured Offset 4
    %void = OpTypeVoid
    %function = OpTypeFunction %void
    %u32 = OpTypeInt 32 0
    %f32 = OpTypeFloat 32
    %f32x4 = OpTypeVector %f32 4
    %in_u32 = OpTypePointer Input %u32
    %out_u32 = OpTypePointer Output %u32
    %out_f32x4 = OpTypePointer Output %f32x4
    %out_f32 = OpTypePointer Output %f32
    %c500 = OpConstant %u32 500
    %c0 = OpConstant %f32 0
    %c1 = OpConstant %f32 1
    %origin = OpConstantComposite %f32x4 %c0 %c0 %c0 %c0
    %index = OpVariable %in_u32 Input
    %captured = OpVariable %out_u32 Output
    %position = OpVariable %out_f32x4 Output
    %size = OpVariable %out_f32 Output
    %main = OpFunction %void None %function
    %entry = OpLabel
    %number = OpLoad %u32 %index
    %value = OpIAdd %u32 %number %c500
    OpStore %captured %value
    OpStore %position %origin
    OpStore %size %c1
    OpReturn
    OpFunctionEnd";

#[test]
fn feedback_writes_its_buffers_and_counters() {
    if missing::extension(ash::ext::transform_feedback::NAME) {
        return;
    }
    let counters = counted(|rig| {
        let feedback = ash::ext::transform_feedback::Device::new(rig.instance(), rig.raw());
        let usage = vk::BufferUsageFlags::TRANSFORM_FEEDBACK_BUFFER_EXT
            | vk::BufferUsageFlags::TRANSFORM_FEEDBACK_COUNTER_BUFFER_EXT;
        let dest = rig.buffer_for(PAGE, usage);
        let counter = rig.buffer_for(64, usage);
        let layout = rig.layout(&[]);
        let stages = Stages { vertex: CAPTURE, points: true, ..Default::default() };
        let pipeline = rig.graphics(stages, layout);
        let fp = feedback.fp();
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_bind_pipeline(commands, GRAPHICS, pipeline);
            let (buffers, offsets, sizes) = ([dest.raw()], [256], [96]);
            (fp.cmd_bind_transform_feedback_buffers_ext)(
                commands,
                0,
                1,
                buffers.as_ptr(),
                offsets.as_ptr(),
                sizes.as_ptr(),
            );
            let (none, counted, at) = (std::ptr::null(), [counter.raw()], [8]);
            rendering(device, commands, || {
                (fp.cmd_begin_transform_feedback_ext)(commands, 0, 0, none, std::ptr::null());
                device.cmd_draw(commands, 3, 1, 0, 0);
                (fp.cmd_end_transform_feedback_ext)(commands, 0, 1, counted.as_ptr(), at.as_ptr());
            });
        });
        let word =
            |index: usize| (256 + 4 + 8 * index, bytes_of(&[u32::try_from(500 + index).expect("small")]));
        let written = [word(0), word(1), word(2)];
        // What lies between captured words is left alone or not, as the host likes.
        rig.submit(&commands);
        for (at, bytes) in written {
            crate::rig::assert_same(&dest.bytes().read(at, 4), &bytes);
        }
        assert_eq!(counter.bytes().read(8, 4), bytes_of(&[24]));
    });
    counters.are(4, 96);
}

#[test]
fn a_draw_of_as_many_bytes_as_were_captured() {
    if missing::extension(ash::ext::transform_feedback::NAME) {
        return;
    }
    let counters = counted(|rig| {
        let feedback = ash::ext::transform_feedback::Device::new(rig.instance(), rig.raw());
        let usage = vk::BufferUsageFlags::TRANSFORM_FEEDBACK_COUNTER_BUFFER_EXT;
        let (dest, counter) = (rig.buffer(PAGE), rig.buffer_for(64, usage));
        counter.bytes().write(8, &bytes_of(&[24]));
        let (set_layout, set) = rig.buffers(&[crate::kit::range(&dest, 256, 80)]);
        let layout = rig.layout(&[set_layout]);
        let vertex = "
            @group(0) @binding(0) var<storage, read_write> dest: array<u32>;
            @vertex fn main(@builtin(vertex_index) index: u32) -> @builtin(position) vec4<f32> {
                dest[2u * index] = 100u + index;
                return vec4<f32>(0.0, 0.0, 0.0, 1.0);
            }";
        let stages = Stages { vertex, points: true, ..Default::default() };
        let pipeline = rig.graphics(stages, layout);
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_bind_pipeline(commands, GRAPHICS, pipeline);
            device.cmd_bind_descriptor_sets(commands, GRAPHICS, layout, 0, &[set], &[]);
            rendering(device, commands, || {
                (feedback.fp().cmd_draw_indirect_byte_count_ext)(commands, 1, 0, counter.raw(), 8, 0, 8);
            });
        });
        let word = |index: usize| (256 + 8 * index, bytes_of(&[u32::try_from(100 + index).expect("small")]));
        rig.check(&commands, &dest, &[word(0), word(1), word(2)]);
    });
    counters.are(0, 80);
}

#[test]
fn feedback_into_memory_that_is_not_mapped_costs_nothing() {
    if missing::extension(ash::ext::transform_feedback::NAME) {
        return;
    }
    let counters = counted(|rig| {
        let feedback = ash::ext::transform_feedback::Device::new(rig.instance(), rig.raw());
        let usage = vk::BufferUsageFlags::TRANSFORM_FEEDBACK_BUFFER_EXT;
        let dest = lockstep_harness::Buffer::unmapped_for(rig.gpu(), Kind::Coherent, PAGE, usage);
        let layout = rig.layout(&[]);
        let stages = Stages { vertex: CAPTURE, points: true, ..Default::default() };
        let pipeline = rig.graphics(stages, layout);
        let fp = feedback.fp();
        rig.run(|device, commands| unsafe {
            device.cmd_bind_pipeline(commands, GRAPHICS, pipeline);
            // Without sizes: to the end.
            let (buffers, offsets, none) = ([dest.raw()], [1024], std::ptr::null());
            let bind = fp.cmd_bind_transform_feedback_buffers_ext;
            bind(commands, 0, 1, buffers.as_ptr(), offsets.as_ptr(), none);
            rendering(device, commands, || {
                (fp.cmd_begin_transform_feedback_ext)(commands, 0, 0, std::ptr::null(), none);
                device.cmd_draw(commands, 3, 1, 0, 0);
                (fp.cmd_end_transform_feedback_ext)(commands, 0, 0, std::ptr::null(), none);
            });
        });
    });
    counters.are(0, PAGE - 1024);
    counters.cost(0, 0);
}
