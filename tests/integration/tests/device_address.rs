//! Shaders that write through addresses: no descriptor tells which memory they touch.

use ash::vk;
use lockstep_harness::{
    Batch, Buffer, Commands, Compute, Fence, Gpu, Memory, PAGE, Timeline, pattern, shader,
};

/// Adds `key` to every second word from the address on, by as many invocations as there are.
const SHADER: &str = "
    OpCapability Shader
    OpCapability PhysicalStorageBufferAddresses
    OpMemoryModel PhysicalStorageBuffer64 GLSL450
    OpEntryPoint GLCompute %main \"main\" %id %job
    OpExecutionMode %main LocalSize 64 1 1
    OpDecorate %id BuiltIn GlobalInvocationId
    OpDecorate %words ArrayStride 4
    OpMemberDecorate %block 0 Offset 0
    OpDecorate %block Block
    OpMemberDecorate %push 0 Offset 0
    OpMemberDecorate %push 1 Offset 8
    OpDecorate %push Block
    %void = OpTypeVoid
    %function = OpTypeFunction %void
    %u32 = OpTypeInt 32 0
    %u32x3 = OpTypeVector %u32 3
    %in_u32x3 = OpTypePointer Input %u32x3
    %in_u32 = OpTypePointer Input %u32
    %words = OpTypeRuntimeArray %u32
    %block = OpTypeStruct %words
    %block_at = OpTypePointer PhysicalStorageBuffer %block
    %word_at = OpTypePointer PhysicalStorageBuffer %u32
    %push = OpTypeStruct %block_at %u32
    %push_at = OpTypePointer PushConstant %push
    %push_block_at = OpTypePointer PushConstant %block_at
    %push_u32 = OpTypePointer PushConstant %u32
    %c0 = OpConstant %u32 0
    %c1 = OpConstant %u32 1
    %c2 = OpConstant %u32 2
    %id = OpVariable %in_u32x3 Input
    %job = OpVariable %push_at PushConstant
    %main = OpFunction %void None %function
    %entry = OpLabel
    %id_x_at = OpAccessChain %in_u32 %id %c0
    %id_x = OpLoad %u32 %id_x_at
    %index = OpIMul %u32 %id_x %c2
    %address_at = OpAccessChain %push_block_at %job %c0
    %address = OpLoad %block_at %address_at
    %key_at = OpAccessChain %push_u32 %job %c1
    %key = OpLoad %u32 %key_at
    %target = OpAccessChain %word_at %address %c0 %index
    %old = OpLoad %u32 %target Aligned 4
    %new = OpIAdd %u32 %old %key
    OpStore %target %new Aligned 4
    OpReturn
    OpFunctionEnd";

/// Invocations; each owns eight bytes of which it changes the first four.
const COUNT: usize = 64 * 40;
const SIZE: usize = 8 * COUNT;

/// A buffer whose address is all that the device ever gets.
struct Addressed {
    gpu: Gpu,
    buffer: Buffer,
    compute: Compute,
    bytes: lockstep_harness::MappedBytes,
}

impl Addressed {
    fn new() -> Self {
        let gpu = Gpu::builder().device_address().build();
        let usage = vk::BufferUsageFlags::SHADER_DEVICE_ADDRESS
            | vk::BufferUsageFlags::TRANSFER_SRC
            | vk::BufferUsageFlags::TRANSFER_DST;
        let mut buffer = Buffer::unbound_for(&gpu, SIZE, usage);
        let memory = Memory::addressable(&gpu, SIZE + 2 * PAGE);
        buffer.bind(&memory, PAGE);
        let bytes = memory.map_whole().part(PAGE, SIZE);
        let compute = Compute::from_words(&gpu, &shader::assemble(SHADER), 0, 16);
        Self { gpu, buffer, compute, bytes }
    }

    /// Records the shader with a key.
    fn commands(&self, key: u32) -> Commands {
        let info = vk::BufferDeviceAddressInfo::default().buffer(self.buffer.raw());
        // SAFETY: The buffer is alive, bound and made for it.
        let address = unsafe { self.gpu.raw().get_buffer_device_address(&info) };
        let mut constants = address.to_le_bytes().to_vec();
        constants.extend([key, 0].map(u32::to_le_bytes).concat());
        let device = self.gpu.raw();
        Commands::new(&self.gpu, |r| {
            let (point, stage) = (vk::PipelineBindPoint::COMPUTE, vk::ShaderStageFlags::COMPUTE);
            // SAFETY: The pipeline is alive.
            unsafe { device.cmd_bind_pipeline(r.raw(), point, self.compute.pipeline()) };
            // SAFETY: The layout has as many constants.
            unsafe { device.cmd_push_constants(r.raw(), self.compute.layout(), stage, 0, &constants) };
            // SAFETY: The shader stays inside the buffer.
            unsafe { device.cmd_dispatch(r.raw(), 40, 1, 1) };
        })
    }
}

/// Adds to every second word what the shader adds.
fn add(bytes: &mut [u8], key: u32) {
    for word in bytes.chunks_mut(8).map(|pair| &mut pair[..4]) {
        let old = u32::from_le_bytes((&*word).try_into().expect("four bytes"));
        word.copy_from_slice(&old.wrapping_add(key).to_le_bytes());
    }
}

#[test]
fn what_a_shader_writes_through_an_address_reaches_the_processor() {
    let addressed = Addressed::new();
    let commands = addressed.commands(0x0101_0107);
    let fence = Fence::new(&addressed.gpu);
    for round in 0..6 {
        let mut expected = pattern(round, SIZE);
        addressed.bytes.write(0, &expected);
        addressed.gpu.submit(&[Batch::new().run(&commands)], Some(&fence));
        fence.wait();
        fence.reset();
        add(&mut expected, 0x0101_0107);
        assert!(addressed.bytes.read_all() == expected, "round {round}");
    }
}

#[test]
fn the_processor_writes_the_other_words_while_the_shader_is_in_flight() {
    let addressed = Addressed::new();
    let mut expected = pattern(9, SIZE);
    addressed.bytes.write(0, &expected);
    for round in 1..6_u8 {
        let commands = addressed.commands(u32::from(round) << 20);
        let (timeline, fence) = (Timeline::new(&addressed.gpu), Fence::new(&addressed.gpu));
        addressed.gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&fence));
        for at in (4..SIZE).step_by(8) {
            addressed.bytes.fill(at, 4, round);
            expected[at..at + 4].fill(round);
        }
        timeline.signal(1);
        fence.poll();
        add(&mut expected, u32::from(round) << 20);
        assert!(addressed.bytes.read_all() == expected, "round {round}");
        assert!(addressed.buffer.all_as_device_sees() == expected, "the device's view, round {round}");
    }
}
