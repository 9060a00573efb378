//! Images and texel buffers.

use super::*;

/// `main` over images 0 to 2 of set 4.
fn over(main: &'static str) -> ShaderWrites {
    Source {
        preamble: "OpCapability StorageImageExtendedFormats",
        interface: "%first %second %third",
        decorations: "OpDecorate %first DescriptorSet 4
            OpDecorate %first Binding 0
            OpDecorate %second DescriptorSet 4
            OpDecorate %second Binding 1
            OpDecorate %third DescriptorSet 4
            OpDecorate %third Binding 2
            OpDecorate %third NonWritable",
        globals: "%first = OpVariable %image_at UniformConstant
            %second = OpVariable %image_at UniformConstant
            %third = OpVariable %image_at UniformConstant",
        main,
        ..Source::default()
    }
    .writes()
}

#[test]
fn only_those_stored_to_are_written() {
    let writes = over(
        "%from = OpLoad %image %first
        %value = OpImageRead %v4u %from %here
        %to = OpLoad %image %second
        OpImageWrite %to %here %value
        %readonly = OpLoad %image %third
        %ignored = OpImageRead %v4u %readonly %here",
    );
    assert_eq!(writes, bindings(&[(4, 1)]));
}

#[test]
fn atomics_write_but_for_a_load() {
    let writes = over(
        "%changed = OpImageTexelPointer %texel_at %first %here %c0
        %before = OpAtomicIAdd %u32 %changed %c1 %c0 %c1
        %looked_at = OpImageTexelPointer %texel_at %second %here %c0
        %value = OpAtomicLoad %u32 %looked_at %c1 %c0",
    );
    assert_eq!(writes, bindings(&[(4, 0)]));
}

#[test]
fn a_copied_image_is_the_same() {
    let writes = over(
        "%original = OpLoad %image %first
        %copy = OpCopyObject %image %original
        OpImageWrite %copy %here %texel",
    );
    assert_eq!(writes, bindings(&[(4, 0)]));
}

#[test]
fn sampled_images_and_samplers_are_not_written() {
    let writes = wgsl(
        "@group(0) @binding(0) var pixels: texture_2d<f32>;
        @group(0) @binding(1) var smooth_sampler: sampler;
        @group(0) @binding(2) var target_image: texture_storage_2d<rgba8unorm, write>;
        @group(0) @binding(3) var<uniform> factor: vec4<f32>;
        @compute @workgroup_size(1) fn main() {
            let colour = textureSampleLevel(pixels, smooth_sampler, vec2(0.5), 0.0);
            textureStore(target_image, vec2(0), colour * factor);
        }",
    );
    assert_eq!(writes, bindings(&[(0, 2)]));
}

#[test]
fn texel_buffers_are_images() {
    let source = Source {
        preamble: "OpCapability ImageBuffer",
        interface: "%texels",
        decorations: "OpDecorate %texels DescriptorSet 0
            OpDecorate %texels Binding 8",
        globals: "%list = OpTypeImage %u32 Buffer 0 0 0 2 R32ui
            %list_at = OpTypePointer UniformConstant %list
            %texels = OpVariable %list_at UniformConstant",
        main: "%to = OpLoad %list %texels
            OpImageWrite %to %c0 %texel",
        ..Source::default()
    };
    assert_eq!(source.writes(), bindings(&[(0, 8)]));
}

#[test]
fn an_image_is_what_functions_do_with_it() {
    let source = Source {
        preamble: "OpCapability StorageImageExtendedFormats",
        interface: "%first %second",
        decorations: "OpDecorate %first DescriptorSet 0
            OpDecorate %first Binding 0
            OpDecorate %second DescriptorSet 0
            OpDecorate %second Binding 1",
        globals: "%first = OpVariable %image_at UniformConstant
            %second = OpVariable %image_at UniformConstant
            %takes = OpTypeFunction %void %image_at",
        main: "%reading = OpFunctionCall %void %reader %first
            %writing = OpFunctionCall %void %writer %second",
        functions: "%reader = OpFunction %void None %takes
            %read = OpFunctionParameter %image_at
            %reader_entry = OpLabel
            %from = OpLoad %image %read
            %value = OpImageRead %v4u %from %here
            OpReturn
            OpFunctionEnd
            %writer = OpFunction %void None %takes
            %written = OpFunctionParameter %image_at
            %writer_entry = OpLabel
            %to = OpLoad %image %written
            OpImageWrite %to %here %texel
            OpReturn
            OpFunctionEnd",
    };
    assert_eq!(source.writes(), bindings(&[(0, 1)]));
}
