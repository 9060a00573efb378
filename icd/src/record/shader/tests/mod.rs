//! Modules whose writes are known.

mod addresses;
mod buffers;
mod images;
mod pointers;

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
    fn code_that_is_partly_elsewhere_may_write_anything() {
        let mut words = compile_wgsl(STORES);
        assert_eq!(main_of(&words), bindings(&[(0, 0)]));
        // The capability Shader (1) becomes Linkage (5).
        let at = words.windows(2).position(|w| w == [0x0002_0011, 1]).unwrap();
        words[at + 1] = 5;
        assert!(main_of(&words).anything);
    }

    #[test]
    fn decorations_in_groups_may_mean_anything() {
        let source = Source {
            interface: "%grouped",
            decorations: "OpDecorate %group DescriptorSet 0
                OpDecorate %group Binding 0
                %group = OpDecorationGroup
                OpGroupDecorate %group %grouped",
            globals: "%grouped = OpVariable %buffer StorageBuffer",
            ..Source::default()
        };
        assert!(source.writes().anything);
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
