//! Shaders that write through addresses: whatever buffer's address was asked for, and no other.

use crate::kit::COMPUTE;
use crate::rig::{Rig, bytes_of, counted};
use ash::vk;
use lockstep_harness::{Batch, Buffer, Commands, Fence, Memory, PAGE, Timeline};

/// Writes a word to the address in the push constants.
const SHADER: &str = "
    OpCapability Shader
    OpCapability PhysicalStorageBufferAddresses
    OpMemoryModel PhysicalStorageBuffer64 GLSL450
    OpEntryPoint GLCompute %main \"main\" %job
    OpExecutionMode %main LocalSize 1 1 1
    OpMemberDecorate %block 0 Offset 0
    OpDecorate %block Block
    OpMemberDecorate %push 0 Offset 0
    OpMemberDecorate %push 1 Offset 8
    OpDecorate %push Block
    %void = OpTypeVoid
    %function = OpTypeFunction %void
    %u32 = OpTypeInt 32 0
    %block = OpTypeStruct %u32
    %block_at = OpTypePointer PhysicalStorageBuffer %block
    %word_at = OpTypePointer PhysicalStorageBuffer %u32
    %push = OpTypeStruct %block_at %u32
    %push_at = OpTypePointer PushConstant %push
    %push_block_at = OpTypePointer PushConstant %block_at
    %push_u32 = OpTypePointer PushConstant %u32
    %c0 = OpConstant %u32 0
    %c1 = OpConstant %u32 1
    %job = OpVariable %push_at PushConstant
    %main = OpFunction %void None %function
    %entry = OpLabel
    %address_at = OpAccessChain %push_block_at %job %c0
    %address = OpLoad %block_at %address_at
    %value_at = OpAccessChain %push_u32 %job %c1
    %value = OpLoad %u32 %value_at
    %dest = OpAccessChain %word_at %address %c0
    OpStore %dest %value Aligned 4
    OpReturn
    OpFunctionEnd";

/// A mapped coherent buffer that has an address, of which nobody knows yet.
fn buffer(rig: &Rig, len: usize) -> (Buffer, lockstep_harness::MappedBytes) {
    let usage = vk::BufferUsageFlags::SHADER_DEVICE_ADDRESS | vk::BufferUsageFlags::TRANSFER_SRC;
    let mut buffer = Buffer::unbound_for(rig.gpu(), len, usage);
    let memory =
        Memory::addressable(rig.gpu(), usize::try_from(buffer.requirements().size).expect("64 bits"));
    buffer.bind(&memory, 0);
    (buffer, memory.map_whole().part(0, len))
}

fn address(rig: &Rig, buffer: &Buffer) -> u64 {
    let info = vk::BufferDeviceAddressInfo::default().buffer(buffer.raw());
    unsafe { rig.raw().get_buffer_device_address(&info) }
}

/// Records a write of a word to an address.
fn commands(rig: &Rig, address: u64, value: u32) -> Commands {
    let layout = rig.layout(&[]);
    let pipeline = rig.compute(SHADER, layout);
    let constants = [address.to_le_bytes(), u64::from(value).to_le_bytes()].concat();
    rig.record(|device, commands| unsafe {
        device.cmd_bind_pipeline(commands, COMPUTE, pipeline);
        device.cmd_push_constants(commands, layout, vk::ShaderStageFlags::ALL, 0, &constants);
        device.cmd_dispatch(commands, 1, 1, 1);
    })
}

#[test]
fn only_buffers_whose_address_was_asked_for() {
    let sizes = std::cell::Cell::new(0);
    let counters = counted(|rig| {
        let ((one, bytes), (two, _), (_unknown, _)) =
            (buffer(rig, PAGE), buffer(rig, 100), buffer(rig, 3 * PAGE));
        let (at, _) = (address(rig, &one), address(rig, &two));
        let commands = commands(rig, at + 8, 0x0A0B_0C0D);
        rig.beside(&commands, bytes, &[(8, bytes_of(&[0x0A0B_0C0D]))]);
        sizes.set(one.requirements().size + two.requirements().size);
    });
    counters.are(0, usize::try_from(sizes.get()).expect("64 bits"));
}

#[test]
fn a_shader_without_addresses_leaves_them_alone() {
    let counters = counted(|rig| {
        let (known, _) = buffer(rig, PAGE);
        address(rig, &known);
        let layout = rig.layout(&[]);
        let pipeline = rig.compute("@compute @workgroup_size(1) fn main() {}", layout);
        rig.run(|device, commands| unsafe {
            device.cmd_bind_pipeline(commands, COMPUTE, pipeline);
            device.cmd_dispatch(commands, 1, 1, 1);
        });
    });
    counters.are(0, 0);
}

/// Reads the address from a buffer: whoever records the commands need not know it.
const READS: &str = "
    OpCapability Shader
    OpCapability PhysicalStorageBufferAddresses
    OpMemoryModel PhysicalStorageBuffer64 GLSL450
    OpEntryPoint GLCompute %main \"main\" %job
    OpExecutionMode %main LocalSize 1 1 1
    OpMemberDecorate %block 0 Offset 0
    OpDecorate %block Block
    OpMemberDecorate %source 0 Offset 0
    OpMemberDecorate %source 0 NonWritable
    OpDecorate %source Block
    OpDecorate %job DescriptorSet 0
    OpDecorate %job Binding 0
    %void = OpTypeVoid
    %function = OpTypeFunction %void
    %u32 = OpTypeInt 32 0
    %block = OpTypeStruct %u32
    %block_at = OpTypePointer PhysicalStorageBuffer %block
    %word_at = OpTypePointer PhysicalStorageBuffer %u32
    %source = OpTypeStruct %block_at
    %source_at = OpTypePointer StorageBuffer %source
    %source_block_at = OpTypePointer StorageBuffer %block_at
    %c0 = OpConstant %u32 0
    %value = OpConstant %u32 0xABABABAB
    %job = OpVariable %source_at StorageBuffer
    %main = OpFunction %void None %function
    %entry = OpLabel
    %address_at = OpAccessChain %source_block_at %job %c0
    %address = OpLoad %block_at %address_at
    %dest = OpAccessChain %word_at %address %c0
    OpStore %dest %value Aligned 4
    OpReturn
    OpFunctionEnd";

#[test]
fn an_address_asked_for_while_the_batch_is_pending() {
    let counters = counted(|rig| {
        let ((dest, bytes), job) = (buffer(rig, PAGE), rig.buffer(8));
        let (set_layout, set) = rig.buffers(&[crate::kit::range(&job, 0, 8)]);
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(READS, layout);
        let commands = rig.record(|d, c| crate::kit::dispatch(d, c, pipeline, layout, &[set], &[]));
        let (timeline, fence) = (Timeline::new(rig.gpu()), Fence::new(rig.gpu()));
        rig.gpu().submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&fence));
        let at = address(rig, &dest) + 16;
        job.bytes().write(0, &at.to_le_bytes());
        timeline.signal(1);
        let expected = crate::rig::write_others(bytes, &[(16, vec![0xAB; 4])]);
        fence.wait();
        crate::rig::assert_same(&bytes.read_all(), &expected);
    });
    assert_eq!(counters.exact, 0);
}
