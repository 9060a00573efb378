//! A batch that is already submitted, and waits, may come to write memory that did not exist then: it finds
//! the address in memory when it runs.

use ash::vk;
use lockstep_harness::{
    Batch, Buffer, Commands, Compute, Fence, Gpu, MappedBytes, Memory, PAGE, Timeline, shader,
};

/// Loads an address from the address it is given and stores 7 there.
const SHADER: &str = "
    OpCapability Shader
    OpCapability PhysicalStorageBufferAddresses
    OpExtension \"SPV_KHR_physical_storage_buffer\"
    OpMemoryModel PhysicalStorageBuffer64 GLSL450
    OpEntryPoint GLCompute %main \"main\" %job
    OpExecutionMode %main LocalSize 1 1 1
    OpDecorate %push Block
    OpMemberDecorate %push 0 Offset 0
    OpDecorate %letter Block
    OpMemberDecorate %letter 0 Offset 0
    OpDecorate %house Block
    OpMemberDecorate %house 0 Offset 0
    %void = OpTypeVoid
    %function = OpTypeFunction %void
    %u32 = OpTypeInt 32 0
    %c0 = OpConstant %u32 0
    %c7 = OpConstant %u32 7
    %house = OpTypeStruct %u32
    %house_at = OpTypePointer PhysicalStorageBuffer %house
    %letter = OpTypeStruct %house_at
    %letter_at = OpTypePointer PhysicalStorageBuffer %letter
    %push = OpTypeStruct %letter_at
    %push_at = OpTypePointer PushConstant %push
    %push_letter = OpTypePointer PushConstant %letter_at
    %letter_house = OpTypePointer PhysicalStorageBuffer %house_at
    %house_u32 = OpTypePointer PhysicalStorageBuffer %u32
    %job = OpVariable %push_at PushConstant
    %main = OpFunction %void None %function
    %entry = OpLabel
    %which_letter = OpAccessChain %push_letter %job %c0
    %the_letter = OpLoad %letter_at %which_letter
    %which_house = OpAccessChain %letter_house %the_letter %c0
    %the_house = OpLoad %house_at %which_house Aligned 8
    %door = OpAccessChain %house_u32 %the_house %c0
    OpStore %door %c7 Aligned 4
    OpReturn
    OpFunctionEnd";

/// Makes a mapped buffer with an address.
fn addressed(gpu: &Gpu) -> (Buffer, MappedBytes, [u8; 8]) {
    let usage = vk::BufferUsageFlags::SHADER_DEVICE_ADDRESS
        | vk::BufferUsageFlags::TRANSFER_SRC
        | vk::BufferUsageFlags::TRANSFER_DST;
    let mut buffer = Buffer::unbound_for(gpu, PAGE, usage);
    let memory = Memory::addressable(gpu, 2 * PAGE);
    buffer.bind(&memory, 0);
    let bytes = memory.map_whole();
    let info = vk::BufferDeviceAddressInfo::default().buffer(buffer.raw());
    // SAFETY: The buffer is alive, bound and made for it.
    let address = unsafe { gpu.raw().get_buffer_device_address(&info) };
    (buffer, bytes, address.to_le_bytes())
}

#[test]
fn a_waiting_batch_writes_a_buffer_made_after_its_submission() {
    let gpu = Gpu::builder().device_address().build();
    let (_letter, letter_bytes, letter_address) = addressed(&gpu);
    let compute = Compute::from_words(&gpu, &shader::assemble(SHADER), 0, 8);
    let device = gpu.raw();
    let commands = Commands::new(&gpu, |r| {
        let (point, stage) = (vk::PipelineBindPoint::COMPUTE, vk::ShaderStageFlags::COMPUTE);
        // SAFETY: The pipeline is alive.
        unsafe { device.cmd_bind_pipeline(r.raw(), point, compute.pipeline()) };
        // SAFETY: The layout has as many constants.
        unsafe { device.cmd_push_constants(r.raw(), compute.layout(), stage, 0, &letter_address) };
        // SAFETY: The shader finds a buffer's address by the time it runs.
        unsafe { device.cmd_dispatch(r.raw(), 1, 1, 1) };
    });
    let (timeline, fence) = (Timeline::new(&gpu), Fence::new(&gpu));
    gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&fence));

    let (_house, house_bytes, house_address) = addressed(&gpu);
    house_bytes.write(0, &[1; 12]);
    letter_bytes.write(0, &house_address);
    timeline.signal(1);
    fence.wait();

    assert_eq!(house_bytes.read(0, 12), [7, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
}
