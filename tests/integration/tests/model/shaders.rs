//! Shaders that write words of a buffer in each of the ways in which they may reach it.

use std::sync::OnceLock;

use ash::vk;
use lockstep_harness::{Compute, Gpu, shader};

/// Descriptors in the array of the shaders that have one; they write through one of them.
pub(crate) const ARRAY: u32 = 3;

/// Bytes of the push constants of [`ASSEMBLY`]: the element of the array, the first word, the stride, how
/// many invocations write, the key, how often it is mixed, and an address.
pub(crate) const PUSH_BYTES: u32 = 32;

/// A job in a storage buffer, one descriptor for the words.
const WGSL: &str = "
    struct Job { first: u32, stride: u32, count: u32, key: u32 }
    @group(0) @binding(0) var<storage, read_write> words: array<u32>;
    @group(0) @binding(1) var<storage, read> job: Job;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        if id.x < job.count {
            let at = job.first + id.x * job.stride;
            words[at] = (words[at] ^ job.key) * 2654435761u + id.x;
        }
    }";

/// A job in push constants. In braces what differs between the ways to reach the words.
const ASSEMBLY: &str = "
    OpCapability Shader
    {CAPABILITIES}
    OpMemoryModel {MODEL} GLSL450
    OpEntryPoint GLCompute %main \"main\" %id %job {VARIABLE}
    OpExecutionMode %main LocalSize 64 1 1
    OpDecorate %id BuiltIn GlobalInvocationId
    OpDecorate %words ArrayStride 4
    OpMemberDecorate %block 0 Offset 0
    OpDecorate %block Block
    OpMemberDecorate %push 0 Offset 0
    OpMemberDecorate %push 1 Offset 4
    OpMemberDecorate %push 2 Offset 8
    OpMemberDecorate %push 3 Offset 12
    OpMemberDecorate %push 4 Offset 16
    OpMemberDecorate %push 5 Offset 20
    OpMemberDecorate %push 6 Offset 24
    OpDecorate %push Block
    {DECORATIONS}
    %void = OpTypeVoid
    %function = OpTypeFunction %void
    %bool = OpTypeBool
    %u32 = OpTypeInt 32 0
    %u32x2 = OpTypeVector %u32 2
    %u32x3 = OpTypeVector %u32 3
    %u32x4 = OpTypeVector %u32 4
    %in_u32x3 = OpTypePointer Input %u32x3
    %in_u32 = OpTypePointer Input %u32
    %words = OpTypeRuntimeArray %u32
    %block = OpTypeStruct %words
    {TYPES}
    %push = OpTypeStruct %u32 %u32 %u32 %u32 %u32 %u32 {LAST}
    %push_at = OpTypePointer PushConstant %push
    %push_u32 = OpTypePointer PushConstant %u32
    %c0 = OpConstant %u32 0
    %c1 = OpConstant %u32 1
    %c2 = OpConstant %u32 2
    %c3 = OpConstant %u32 3
    %c4 = OpConstant %u32 4
    %c5 = OpConstant %u32 5
    %c6 = OpConstant %u32 6
    %multiplier = OpConstant %u32 2654435761
    %mixer = OpConstant %u32 1664525
    %mixed = OpConstant %u32 1013904223
    {GLOBALS}
    %id = OpVariable %in_u32x3 Input
    %job = OpVariable %push_at PushConstant
    %main = OpFunction %void None %function
    %entry = OpLabel
    %id_x_at = OpAccessChain %in_u32 %id %c0
    %id_x = OpLoad %u32 %id_x_at
    %count_at = OpAccessChain %push_u32 %job %c3
    %count = OpLoad %u32 %count_at
    %is_in = OpULessThan %bool %id_x %count
    OpSelectionMerge %end None
    OpBranchConditional %is_in %begin %end
    %begin = OpLabel
    %element_at = OpAccessChain %push_u32 %job %c0
    %element = OpLoad %u32 %element_at
    %first_at = OpAccessChain %push_u32 %job %c1
    %first = OpLoad %u32 %first_at
    %stride_at = OpAccessChain %push_u32 %job %c2
    %stride = OpLoad %u32 %stride_at
    %key_at = OpAccessChain %push_u32 %job %c4
    %key = OpLoad %u32 %key_at
    %spins_at = OpAccessChain %push_u32 %job %c5
    %spins = OpLoad %u32 %spins_at
    OpBranch %head
    %head = OpLabel
    %i = OpPhi %u32 %c0 %begin %next_i %next
    %mix = OpPhi %u32 %key %begin %next_mix %next
    %more = OpULessThan %bool %i %spins
    OpLoopMerge %done %next None
    OpBranchConditional %more %body %done
    %body = OpLabel
    %product = OpIMul %u32 %mix %mixer
    %next_mix = OpIAdd %u32 %product %mixed
    OpBranch %next
    %next = OpLabel
    %next_i = OpIAdd %u32 %i %c1
    OpBranch %head
    %done = OpLabel
    %skip = OpIMul %u32 %id_x %stride
    %at = OpIAdd %u32 %first %skip
    {LOAD}
    %toggled = OpBitwiseXor %u32 %old %mix
    %scaled = OpIMul %u32 %toggled %multiplier
    %new = OpIAdd %u32 %scaled %id_x
    {STORE}
    OpBranch %end
    %end = OpLabel
    OpReturn
    OpFunctionEnd";

/// What one shader puts in place of the braces, and the words that come of it.
struct Parts {
    texts: &'static [(&'static str, &'static str)],
    words: OnceLock<Vec<u32>>,
}

static DESCRIPTORS: Parts = Parts::new(&[
    ("CAPABILITIES", "OpCapability StorageBufferArrayDynamicIndexing"),
    ("MODEL", "Logical"),
    ("VARIABLE", "%list"),
    ("DECORATIONS", "OpDecorate %list DescriptorSet 0 OpDecorate %list Binding 0"),
    (
        "TYPES",
        "%three = OpConstant %u32 3
         %blocks = OpTypeArray %block %three
         %blocks_at = OpTypePointer StorageBuffer %blocks
         %word_at = OpTypePointer StorageBuffer %u32",
    ),
    ("LAST", "%u32x2"),
    ("GLOBALS", "%list = OpVariable %blocks_at StorageBuffer"),
    ("LOAD", "%target = OpAccessChain %word_at %list %element %c0 %at %old = OpLoad %u32 %target"),
    ("STORE", "OpStore %target %new"),
]);

static ADDRESS: Parts = Parts::new(&[
    ("CAPABILITIES", "OpCapability PhysicalStorageBufferAddresses"),
    ("MODEL", "PhysicalStorageBuffer64"),
    ("VARIABLE", ""),
    ("DECORATIONS", ""),
    (
        "TYPES",
        "%block_at = OpTypePointer PhysicalStorageBuffer %block
         %word_at = OpTypePointer PhysicalStorageBuffer %u32
         %push_block_at = OpTypePointer PushConstant %block_at",
    ),
    ("LAST", "%block_at"),
    ("GLOBALS", ""),
    (
        "LOAD",
        "%address_at = OpAccessChain %push_block_at %job %c6
         %address = OpLoad %block_at %address_at
         %target = OpAccessChain %word_at %address %c0 %at
         %old = OpLoad %u32 %target Aligned 4",
    ),
    ("STORE", "OpStore %target %new Aligned 4"),
]);

static POINTER: Parts = Parts::new(&[
    ("CAPABILITIES", "OpCapability PhysicalStorageBufferAddresses"),
    ("MODEL", "PhysicalStorageBuffer64"),
    ("VARIABLE", ""),
    ("DECORATIONS", "OpMemberDecorate %holder 0 Offset 0 OpDecorate %holder Block"),
    (
        "TYPES",
        "%block_at = OpTypePointer PhysicalStorageBuffer %block
         %word_at = OpTypePointer PhysicalStorageBuffer %u32
         %holder = OpTypeStruct %block_at
         %holder_at = OpTypePointer PhysicalStorageBuffer %holder
         %held_at = OpTypePointer PhysicalStorageBuffer %block_at
         %push_holder_at = OpTypePointer PushConstant %holder_at",
    ),
    ("LAST", "%holder_at"),
    ("GLOBALS", ""),
    (
        "LOAD",
        "%holder_place = OpAccessChain %push_holder_at %job %c6
         %found = OpLoad %holder_at %holder_place
         %block_place = OpAccessChain %held_at %found %c0
         %address = OpLoad %block_at %block_place Aligned 8
         %target = OpAccessChain %word_at %address %c0 %at
         %old = OpLoad %u32 %target Aligned 4",
    ),
    ("STORE", "OpStore %target %new Aligned 4"),
]);

static TEXELS: Parts = Parts::new(&[
    ("CAPABILITIES", "OpCapability ImageBuffer"),
    ("MODEL", "Logical"),
    ("VARIABLE", "%list"),
    ("DECORATIONS", "OpDecorate %list DescriptorSet 0 OpDecorate %list Binding 0"),
    (
        "TYPES",
        "%texels = OpTypeImage %u32 Buffer 0 0 0 2 R32ui
         %texels_at = OpTypePointer UniformConstant %texels",
    ),
    ("LAST", "%u32x2"),
    ("GLOBALS", "%list = OpVariable %texels_at UniformConstant"),
    (
        "LOAD",
        "%view = OpLoad %texels %list
         %texel = OpImageRead %u32x4 %view %at
         %old = OpCompositeExtract %u32 %texel 0",
    ),
    (
        "STORE",
        "%out = OpCompositeConstruct %u32x4 %new %c0 %c0 %c1
         OpImageWrite %view %at %out",
    ),
]);

impl Parts {
    const fn new(texts: &'static [(&'static str, &'static str)]) -> Self {
        Self { texts, words: OnceLock::new() }
    }

    /// Returns the words, which are assembled once in the life of the process.
    fn words(&self) -> &[u32] {
        self.words.get_or_init(|| self.assemble())
    }

    fn assemble(&self) -> Vec<u32> {
        let mut source = ASSEMBLY.to_owned();
        for (name, text) in self.texts {
            source = source.replace(&format!("{{{name}}}"), text);
        }
        shader::assemble(&source)
    }
}

/// The layouts of set 0, and so the pipelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Two storage buffers, words and job.
    Job,
    /// An array of storage buffers.
    Array,
    /// The same with dynamic offsets.
    Dynamic,
    /// The same, updated after it was bound, and not whole.
    After,
    /// The same, pushed.
    Push,
    /// A storage texel buffer.
    Texels,
    /// None: an address.
    Address,
    /// None: the address of an address.
    Pointer,
}

/// The pipelines of a device, made when they are first asked for.
pub(crate) struct Shaders {
    gpu: Gpu,
    pipelines: [OnceLock<Compute>; 8],
}

impl Shaders {
    pub(crate) fn new(gpu: &Gpu) -> Self {
        Self { gpu: gpu.clone(), pipelines: Default::default() }
    }

    /// Returns the pipeline of a layout.
    pub(crate) fn get(&self, layout: Layout) -> &Compute {
        self.pipelines[layout as usize].get_or_init(|| self.make(layout))
    }

    fn make(&self, layout: Layout) -> Compute {
        let gpu = &self.gpu;
        let simple = vk::DescriptorType::STORAGE_BUFFER;
        let none = vk::DescriptorSetLayoutCreateFlags::empty();
        match layout {
            Layout::Job => {
                static WORDS: OnceLock<Vec<u32>> = OnceLock::new();
                Compute::from_words(gpu, WORDS.get_or_init(|| shader::compile_wgsl(WGSL)), 2, 0)
            }
            Layout::Array => self.with_set(&DESCRIPTORS, simple, ARRAY, none),
            Layout::Dynamic => {
                self.with_set(&DESCRIPTORS, vk::DescriptorType::STORAGE_BUFFER_DYNAMIC, ARRAY, none)
            }
            Layout::After => {
                let flags = vk::DescriptorSetLayoutCreateFlags::UPDATE_AFTER_BIND_POOL;
                self.with_set(&DESCRIPTORS, simple, ARRAY, flags)
            }
            Layout::Push => {
                let flags = vk::DescriptorSetLayoutCreateFlags::PUSH_DESCRIPTOR_KHR;
                self.with_set(&DESCRIPTORS, simple, ARRAY, flags)
            }
            Layout::Texels => self.with_set(&TEXELS, vk::DescriptorType::STORAGE_TEXEL_BUFFER, 1, none),
            Layout::Address => Compute::from_words(gpu, ADDRESS.words(), 0, PUSH_BYTES),
            Layout::Pointer => Compute::from_words(gpu, POINTER.words(), 0, PUSH_BYTES),
        }
    }

    fn with_set(
        &self,
        parts: &Parts,
        ty: vk::DescriptorType,
        count: u32,
        flags: vk::DescriptorSetLayoutCreateFlags,
    ) -> Compute {
        let bindings = [vk::DescriptorSetLayoutBinding::default()
            .descriptor_type(ty)
            .descriptor_count(count)
            .stage_flags(vk::ShaderStageFlags::COMPUTE)];
        let after =
            [vk::DescriptorBindingFlags::UPDATE_AFTER_BIND | vk::DescriptorBindingFlags::PARTIALLY_BOUND];
        let mut binding_flags = vk::DescriptorSetLayoutBindingFlagsCreateInfo::default();
        let mut info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings).flags(flags);
        if flags.contains(vk::DescriptorSetLayoutCreateFlags::UPDATE_AFTER_BIND_POOL) {
            binding_flags = binding_flags.binding_flags(&after);
            info = info.push_next(&mut binding_flags);
        }
        Compute::with_layout(&self.gpu, parts.words(), &info, PUSH_BYTES)
    }
}
