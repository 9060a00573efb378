//! Buffers.

use super::*;

#[test]
fn only_those_stored_to_are_written() {
    let writes = wgsl(
        "@group(0) @binding(0) var<storage, read> input: array<u32>;
        @group(0) @binding(1) var<storage, read_write> only_read: array<u32>;
        @group(0) @binding(3) var<storage, read_write> unused: array<u32>;
        @group(2) @binding(7) var<storage, read_write> output: array<u32>;
        @compute @workgroup_size(1) fn main() { output[0] = input[0] + only_read[1]; }",
    );
    assert_eq!(writes, bindings(&[(2, 7)]));
}

#[test]
fn atomics_write_but_for_a_load() {
    let writes = wgsl(
        "@group(0) @binding(0) var<storage, read_write> counter: atomic<u32>;
        @group(0) @binding(1) var<storage, read_write> flag: atomic<u32>;
        @compute @workgroup_size(1) fn main() {
            if atomicLoad(&flag) == 0u { atomicAdd(&counter, 1u); }
        }",
    );
    assert_eq!(writes, bindings(&[(0, 0)]));
}

#[test]
fn the_length_of_an_array_is_only_read() {
    let writes = wgsl(
        "@group(0) @binding(0) var<storage, read_write> list: array<u32>;
        @group(0) @binding(1) var<storage, read_write> length: u32;
        @compute @workgroup_size(1) fn main() { length = arrayLength(&list); }",
    );
    assert_eq!(writes, bindings(&[(0, 1)]));
}

#[test]
fn functions_count_where_they_are_called() {
    let writes = wgsl(
        "@group(0) @binding(0) var<storage, read_write> far: u32;
        @group(0) @binding(1) var<storage, read_write> never: u32;
        fn deepest() { far = 1u; }
        fn deeper() { deepest(); }
        fn uncalled() { never = 1u; }
        @compute @workgroup_size(1) fn main() { deeper(); }",
    );
    assert_eq!(writes, bindings(&[(0, 0)]));
}

#[test]
fn each_entry_point_has_its_own() {
    let module = ModuleWrites::of(&compile_wgsl(
        "@group(0) @binding(0) var<storage, read_write> left: u32;
        @group(0) @binding(1) var<storage, read_write> right: u32;
        @group(0) @binding(2) var<storage, read_write> both: u32;
        fn shared_by_both() { both = 1u; }
        @compute @workgroup_size(1) fn go_left() { left = 1u; shared_by_both(); }
        @compute @workgroup_size(1) fn go_right() { right = 1u; shared_by_both(); }
        @fragment fn shade() { right = 1u; }",
    ));
    let compute = |name| module.entry_point(vk::ShaderStageFlags::COMPUTE, name).clone();
    assert_eq!(compute(c"go_left"), bindings(&[(0, 0), (0, 2)]));
    assert_eq!(compute(c"go_right"), bindings(&[(0, 1), (0, 2)]));
    assert_eq!(*module.entry_point(vk::ShaderStageFlags::FRAGMENT, c"shade"), bindings(&[(0, 1)]));
    assert!(compute(c"shade").anything, "not an entry point of this stage");
}

#[test]
fn variables_of_one_binding_count_together() {
    let source = Source {
        interface: "%reader %writer",
        decorations: "OpDecorate %reader DescriptorSet 1
            OpDecorate %reader Binding 5
            OpDecorate %reader NonWritable
            OpDecorate %reader Aliased
            OpDecorate %writer DescriptorSet 1
            OpDecorate %writer Binding 5
            OpDecorate %writer Aliased",
        globals: "%reader = OpVariable %buffer StorageBuffer
            %writer = OpVariable %buffer StorageBuffer",
        main: "%from = OpAccessChain %field %reader %c0
            %value = OpLoad %u32 %from
            %to = OpInBoundsAccessChain %field %writer %c0
            OpStore %to %value",
        ..Source::default()
    };
    assert_eq!(source.writes(), bindings(&[(1, 5)]));
}

#[test]
fn the_old_kind_of_storage_buffer_is_one() {
    let source = "OpCapability Shader
        OpMemoryModel Logical GLSL450
        OpEntryPoint GLCompute %main \"main\"
        OpExecutionMode %main LocalSize 1 1 1
        OpDecorate %old BufferBlock
        OpMemberDecorate %old 0 Offset 0
        OpDecorate %uniform Block
        OpMemberDecorate %uniform 0 Offset 0
        OpDecorate %to DescriptorSet 0
        OpDecorate %to Binding 1
        OpDecorate %from DescriptorSet 0
        OpDecorate %from Binding 2
        %void = OpTypeVoid
        %nothing = OpTypeFunction %void
        %u32 = OpTypeInt 32 0
        %c0 = OpConstant %u32 0
        %old = OpTypeStruct %u32
        %uniform = OpTypeStruct %u32
        %old_at = OpTypePointer Uniform %old
        %uniform_at = OpTypePointer Uniform %uniform
        %field = OpTypePointer Uniform %u32
        %to = OpVariable %old_at Uniform
        %from = OpVariable %uniform_at Uniform
        %main = OpFunction %void None %nothing
        %entry = OpLabel
        %source = OpAccessChain %field %from %c0
        %value = OpLoad %u32 %source
        %target = OpAccessChain %field %to %c0
        OpStore %target %value
        OpReturn
        OpFunctionEnd";
    assert_eq!(main_of(&assemble_old(source)), bindings(&[(0, 1)]));
}

#[test]
fn arrays_of_descriptors_are_their_binding() {
    let source = Source {
        preamble: "OpCapability RuntimeDescriptorArray
            OpExtension \"SPV_EXT_descriptor_indexing\"",
        interface: "%sized %heap %read",
        decorations: "OpDecorate %sized DescriptorSet 0
            OpDecorate %sized Binding 0
            OpDecorate %heap DescriptorSet 0
            OpDecorate %heap Binding 1
            OpDecorate %read DescriptorSet 0
            OpDecorate %read Binding 2",
        globals: "%four = OpTypeArray %block %c4
            %any = OpTypeRuntimeArray %block
            %four_at = OpTypePointer StorageBuffer %four
            %any_at = OpTypePointer StorageBuffer %any
            %sized = OpVariable %four_at StorageBuffer
            %heap = OpVariable %any_at StorageBuffer
            %read = OpVariable %any_at StorageBuffer",
        main: "%from = OpAccessChain %field %read %c1 %c0
            %value = OpLoad %u32 %from
            %one = OpAccessChain %field %sized %c1 %c0
            OpStore %one %value
            %two_block = OpAccessChain %buffer %heap %c4
            %two = OpAccessChain %field %two_block %c0
            OpStore %two %value",
        ..Source::default()
    };
    assert_eq!(source.writes(), bindings(&[(0, 0), (0, 1)]));
}

#[test]
fn a_copy_writes_its_target() {
    let source = Source {
        interface: "%to %from",
        decorations: "OpDecorate %to DescriptorSet 0
            OpDecorate %to Binding 0
            OpDecorate %from DescriptorSet 0
            OpDecorate %from Binding 1",
        globals: "%to = OpVariable %buffer StorageBuffer
            %from = OpVariable %buffer StorageBuffer",
        main: "OpCopyMemory %to %from",
        ..Source::default()
    };
    assert_eq!(source.writes(), bindings(&[(0, 0)]));
}

#[test]
fn an_extended_instruction_writes_what_it_is_given() {
    let source = Source {
        preamble: "%glsl = OpExtInstImport \"GLSL.std.450\"",
        interface: "%to",
        decorations: "OpDecorate %to DescriptorSet 0
            OpDecorate %to Binding 3
            OpDecorate %floats Block
            OpMemberDecorate %floats 0 Offset 0",
        globals: "%half = OpConstant %f32 1.5
            %floats = OpTypeStruct %f32
            %floats_at = OpTypePointer StorageBuffer %floats
            %float_at = OpTypePointer StorageBuffer %f32
            %to = OpVariable %floats_at StorageBuffer",
        main: "%whole = OpAccessChain %float_at %to %c0
            %fraction = OpExtInst %f32 %glsl Modf %half %whole",
        ..Source::default()
    };
    assert_eq!(source.writes(), bindings(&[(0, 3)]));
}

#[test]
fn what_describes_variables_to_debuggers_does_not_write_them() {
    let source = Source {
        preamble: "OpExtension \"SPV_KHR_non_semantic_info\"
            %notes = OpExtInstImport \"NonSemantic.Notes\"",
        interface: "%described",
        decorations: "OpDecorate %described DescriptorSet 0
            OpDecorate %described Binding 3",
        globals: "%described = OpVariable %buffer StorageBuffer
            %outside = OpExtInst %void %notes 1 %described",
        main: "%inside = OpExtInst %void %notes 1 %described",
        ..Source::default()
    };
    assert_eq!(source.writes(), bindings(&[]));
}
