//! Modules whose writes are known.

use lockstep_harness::shader::{assemble, assemble_old, compile_wgsl};

use super::*;

/// What a compute shader's `main` may write.
fn main_of(words: &[u32]) -> ShaderWrites {
    ModuleWrites::of(words).entry_point(vk::ShaderStageFlags::COMPUTE, c"main").clone()
}

fn wgsl(source: &str) -> ShaderWrites {
    main_of(&compile_wgsl(source))
}

/// A compute shader over storage buffers of one `u32`, images and pointers to buffers.
#[derive(Default)]
struct Source {
    /// Capabilities and extensions.
    preamble: &'static str,
    /// The variables `main` uses.
    interface: &'static str,
    decorations: &'static str,
    globals: &'static str,
    main: &'static str,
    functions: &'static str,
}

impl Source {
    fn assembly(&self) -> String {
        let Self { preamble, interface, decorations, globals, main, functions } = self;
        let addressing = if preamble.contains("PhysicalStorageBufferAddresses") {
            "PhysicalStorageBuffer64"
        } else {
            "Logical"
        };
        format!(
            "OpCapability Shader
            {preamble}
            OpMemoryModel {addressing} GLSL450
            OpEntryPoint GLCompute %main \"main\" {interface}
            OpExecutionMode %main LocalSize 1 1 1
            OpDecorate %block Block
            OpMemberDecorate %block 0 Offset 0
            {decorations}
            %void = OpTypeVoid
            %bool = OpTypeBool
            %nothing = OpTypeFunction %void
            %u32 = OpTypeInt 32 0
            %f32 = OpTypeFloat 32
            %v2u = OpTypeVector %u32 2
            %v4u = OpTypeVector %u32 4
            %true = OpConstantTrue %bool
            %c0 = OpConstant %u32 0
            %c1 = OpConstant %u32 1
            %c4 = OpConstant %u32 4
            %here = OpConstantComposite %v2u %c0 %c0
            %texel = OpConstantComposite %v4u %c1 %c1 %c1 %c1
            %block = OpTypeStruct %u32
            %buffer = OpTypePointer StorageBuffer %block
            %field = OpTypePointer StorageBuffer %u32
            %image = OpTypeImage %u32 2D 0 0 0 2 R32ui
            %image_at = OpTypePointer UniformConstant %image
            %texel_at = OpTypePointer Image %u32
            {globals}
            %main = OpFunction %void None %nothing
            %entry = OpLabel
            {main}
            OpReturn
            OpFunctionEnd
            {functions}"
        )
    }

    fn writes(&self) -> ShaderWrites {
        main_of(&assemble(&self.assembly()))
    }
}

fn bindings(places: &[(u32, u32)]) -> ShaderWrites {
    ShaderWrites { bindings: places.iter().copied().collect(), ..ShaderWrites::default() }
}

mod buffers {
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
}

mod pointers_on_their_way {
    use super::*;

    /// Hands `%given` to a function that may or may not write it.
    fn handed(decorations: &'static str) -> ShaderWrites {
        Source {
            preamble: "OpCapability VariablePointersStorageBuffer",
            interface: "%given",
            decorations,
            globals: "%given = OpVariable %buffer StorageBuffer
                %takes = OpTypeFunction %void %buffer",
            main: "%result = OpFunctionCall %void %callee %given",
            functions: "%callee = OpFunction %void None %takes
                %parameter = OpFunctionParameter %buffer
                %callee_entry = OpLabel
                OpReturn
                OpFunctionEnd",
            ..Source::default()
        }
        .writes()
    }

    #[test]
    fn who_is_handed_to_a_function_counts_as_written() {
        let writes = handed(
            "OpDecorate %given DescriptorSet 0
            OpDecorate %given Binding 0",
        );
        assert_eq!(writes, bindings(&[(0, 0)]));
    }

    #[test]
    fn unless_its_variable_is_declared_otherwise() {
        let writes = handed(
            "OpDecorate %given DescriptorSet 0
            OpDecorate %given Binding 0
            OpDecorate %given NonWritable",
        );
        assert_eq!(writes, bindings(&[]));
    }

    #[test]
    fn or_all_its_members_are() {
        let writes = handed(
            "OpDecorate %given DescriptorSet 0
            OpDecorate %given Binding 0
            OpMemberDecorate %block 0 NonWritable",
        );
        assert_eq!(writes, bindings(&[]));
    }

    #[test]
    fn one_writable_member_suffices() {
        let source = Source {
            interface: "%pair",
            decorations: "OpDecorate %pair DescriptorSet 0
                OpDecorate %pair Binding 0
                OpDecorate %two Block
                OpMemberDecorate %two 0 Offset 0
                OpMemberDecorate %two 0 NonWritable
                OpMemberDecorate %two 1 Offset 4",
            globals: "%two = OpTypeStruct %u32 %u32
                %two_at = OpTypePointer StorageBuffer %two
                %pair = OpVariable %two_at StorageBuffer",
            main: "%to = OpAccessChain %field %pair %c1
                OpStore %to %c4",
            ..Source::default()
        };
        assert_eq!(source.writes(), bindings(&[(0, 0)]));
    }

    #[test]
    fn a_choice_between_pointers_writes_both() {
        let source = Source {
            preamble: "OpCapability VariablePointersStorageBuffer",
            interface: "%one %other",
            decorations: "OpDecorate %one DescriptorSet 0
                OpDecorate %one Binding 0
                OpDecorate %other DescriptorSet 0
                OpDecorate %other Binding 1",
            globals: "%one = OpVariable %buffer StorageBuffer
                %other = OpVariable %buffer StorageBuffer",
            main: "%in_one = OpAccessChain %field %one %c0
                %in_other = OpAccessChain %field %other %c0
                %chosen = OpSelect %field %true %in_one %in_other
                OpStore %chosen %c1",
            ..Source::default()
        };
        assert_eq!(source.writes(), bindings(&[(0, 0), (0, 1)]));
    }

    #[test]
    fn a_pointer_hidden_in_an_initial_value_writes() {
        let source = Source {
            preamble: "OpCapability VariablePointers",
            interface: "%hidden %holder",
            decorations: "OpDecorate %hidden DescriptorSet 0
                OpDecorate %hidden Binding 6",
            globals: "%hidden = OpVariable %buffer StorageBuffer
                %holds = OpTypePointer Private %buffer
                %holder = OpVariable %holds Private %hidden",
            main: "%taken = OpLoad %buffer %holder
                %to = OpAccessChain %field %taken %c0
                OpStore %to %c1",
            ..Source::default()
        };
        assert_eq!(source.writes(), bindings(&[(0, 6)]));
    }
}

mod images {
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
}

mod addresses {
    use super::*;

    /// `main` over a pushed pointer to a number in physical storage.
    fn with_pointer(main: &'static str, functions: &'static str) -> ShaderWrites {
        let decorations = if functions.contains("%parameter") {
            "OpDecorate %pushed Block
                OpMemberDecorate %pushed 0 Offset 0
                OpDecorate %parameter Aliased"
        } else {
            "OpDecorate %pushed Block
                OpMemberDecorate %pushed 0 Offset 0"
        };
        Source {
            preamble: "OpCapability PhysicalStorageBufferAddresses
                OpExtension \"SPV_KHR_physical_storage_buffer\"",
            interface: "%push",
            decorations,
            globals: "%number_at = OpTypePointer PhysicalStorageBuffer %u32
                %pushed = OpTypeStruct %number_at
                %pushed_at = OpTypePointer PushConstant %pushed
                %member_at = OpTypePointer PushConstant %number_at
                %push = OpVariable %pushed_at PushConstant
                %takes = OpTypeFunction %void %number_at",
            main,
            functions,
            ..Source::default()
        }
        .writes()
    }

    #[test]
    fn a_load_through_one_does_not_write() {
        let writes = with_pointer(
            "%member = OpAccessChain %member_at %push %c0
            %pointer = OpLoad %number_at %member
            %value = OpLoad %u32 %pointer Aligned 4",
            "",
        );
        assert_eq!(writes, bindings(&[]));
    }

    #[test]
    fn a_store_through_one_does() {
        let writes = with_pointer(
            "%member = OpAccessChain %member_at %push %c0
            %pointer = OpLoad %number_at %member
            OpStore %pointer %c1 Aligned 4",
            "",
        );
        assert_eq!(writes, ShaderWrites { addresses: true, ..ShaderWrites::default() });
    }

    #[test]
    fn a_called_function_stores_for_its_caller() {
        let call = "%member = OpAccessChain %member_at %push %c0
            %pointer = OpLoad %number_at %member
            %result = OpFunctionCall %void %callee %pointer";
        let writes = with_pointer(
            call,
            "%callee = OpFunction %void None %takes
            %parameter = OpFunctionParameter %number_at
            %callee_entry = OpLabel
            %before = OpAtomicIAdd %u32 %parameter %c1 %c0 %c1
            OpReturn
            OpFunctionEnd",
        );
        assert!(writes.addresses);
        let writes = with_pointer(
            call,
            "%callee = OpFunction %void None %takes
            %parameter = OpFunctionParameter %number_at
            %callee_entry = OpLabel
            %value = OpLoad %u32 %parameter Aligned 4
            OpReturn
            OpFunctionEnd",
        );
        assert!(!writes.addresses, "handing a pointer on writes nothing");
    }
}

mod what_is_not_understood {
    use super::*;

    const STORES: &str = "@group(0) @binding(0) var<storage, read_write> to: u32;
        @compute @workgroup_size(1) fn main() { to = 1u; }";

    #[test]
    fn an_unknown_instruction_may_write_anything() {
        let mut words = compile_wgsl(STORES);
        // Before OpFunctionEnd, the last instruction.
        words.insert(words.len() - 1, 0x0001_7fff);
        assert_eq!(main_of(&words), UNKNOWN);
    }

    #[test]
    fn code_cut_anywhere_neither_panics_nor_passes_for_harmless() {
        let words = compile_wgsl(STORES);
        for len in 0..words.len() {
            assert_eq!(main_of(&words[..len]), UNKNOWN, "{len} of {} words", words.len());
        }
    }

    #[test]
    fn a_changed_word_does_not_panic() {
        let words = compile_wgsl(STORES);
        for index in 0..words.len() {
            for change in [0, 1, 50, 52, 0x0003_0034, u32::MAX] {
                let mut words = words.clone();
                words[index] = change;
                _ = main_of(&words);
            }
        }
    }

    #[test]
    fn a_written_variable_without_a_place_is_anywhere() {
        let source = Source {
            interface: "%lost",
            decorations: "OpDecorate %lost DescriptorSet 0",
            globals: "%lost = OpVariable %buffer StorageBuffer",
            main: "%to = OpAccessChain %field %lost %c0
                OpStore %to %c1",
            ..Source::default()
        };
        let mut words = assemble(&source.assembly().replace(
            "OpDecorate %lost DescriptorSet 0",
            "OpDecorate %lost DescriptorSet 0
            OpDecorate %lost Binding 0",
        ));
        assert_eq!(main_of(&words), bindings(&[(0, 0)]));
        // The decoration with the binding (33) becomes one with an offset (35).
        let at = words.windows(3).position(|w| w[0] == 0x0004_0047 && w[2] == 33).unwrap();
        words[at + 2] = 35;
        assert!(main_of(&words).anything);
    }
}

#[test]
fn ray_tracing_stages_are_entry_points_like_others() {
    let words = assemble(
        "OpCapability RayTracingKHR
        OpExtension \"SPV_KHR_ray_tracing\"
        OpMemoryModel Logical GLSL450
        OpEntryPoint RayGenerationKHR %raygen \"main\" %image
        OpEntryPoint CallableKHR %callable \"main\" %image
        OpDecorate %image DescriptorSet 1
        OpDecorate %image Binding 2
        %void = OpTypeVoid
        %nothing = OpTypeFunction %void
        %u32 = OpTypeInt 32 0
        %v2u = OpTypeVector %u32 2
        %v4u = OpTypeVector %u32 4
        %c0 = OpConstant %u32 0
        %here = OpConstantComposite %v2u %c0 %c0
        %texel = OpConstantComposite %v4u %c0 %c0 %c0 %c0
        %storage = OpTypeImage %u32 2D 0 0 0 2 R32ui
        %storage_at = OpTypePointer UniformConstant %storage
        %image = OpVariable %storage_at UniformConstant
        %raygen = OpFunction %void None %nothing
        %raygen_entry = OpLabel
        OpReturn
        OpFunctionEnd
        %callable = OpFunction %void None %nothing
        %callable_entry = OpLabel
        %to = OpLoad %storage %image
        OpImageWrite %to %here %texel
        OpReturn
        OpFunctionEnd",
    );
    let module = ModuleWrites::of(&words);
    assert_eq!(*module.entry_point(vk::ShaderStageFlags::RAYGEN_KHR, c"main"), bindings(&[]));
    assert_eq!(*module.entry_point(vk::ShaderStageFlags::CALLABLE_KHR, c"main"), bindings(&[(1, 2)]));
}
