//! The life of command buffers (specification chapter "Command Buffers").

#![allow(unsafe_code, reason = "entry points")]

use ash::vk;

use super::commands;
use crate::entry::{DEVICES, slice, state};
use crate::record::lookup;

/// `vkDestroyCommandPool`
pub(in crate::entry) unsafe extern "system" fn destroy_command_pool(
    device: vk::Device,
    pool: vk::CommandPool,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let state = state!(DEVICES, device; void);
    // Before the host may give the same handles to another thread.
    lookup::remove(&state.command_pools.take(pool));
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().destroy_command_pool)(device, pool, allocator) };
}

/// `vkAllocateCommandBuffers`
pub(in crate::entry) unsafe extern "system" fn allocate_command_buffers(
    device: vk::Device,
    info: *const vk::CommandBufferAllocateInfo<'_>,
    out: *mut vk::CommandBuffer,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().allocate_command_buffers)(device, info, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: valid usage.
        let info = unsafe { &*info };
        // SAFETY: written by the host.
        let buffers = unsafe { slice(out, info.command_buffer_count) };
        lookup::enter(&state, buffers);
        state.command_pools.add(info.command_pool, buffers);
    }
    result
}

/// `vkFreeCommandBuffers`
pub(in crate::entry) unsafe extern "system" fn free_command_buffers(
    device: vk::Device,
    pool: vk::CommandPool,
    count: u32,
    buffers: *const vk::CommandBuffer,
) {
    let state = state!(DEVICES, device; void);
    // SAFETY: valid usage.
    let list = unsafe { slice(buffers, count) };
    lookup::remove(list);
    state.command_pools.remove(pool, list);
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().free_command_buffers)(device, pool, count, buffers) };
}

/// `vkBeginCommandBuffer`
pub(in crate::entry) unsafe extern "system" fn begin_command_buffer(
    commands: vk::CommandBuffer,
    info: *const vk::CommandBufferBeginInfo<'_>,
) -> vk::Result {
    // SAFETY: valid usage.
    unsafe { lookup::begin(commands) };
    let Some(host) = super::host(commands).and_then(|host| host.begin) else {
        return vk::Result::ERROR_UNKNOWN;
    };
    // SAFETY: valid usage.
    unsafe { host(commands, info) }
}

/// `vkEndCommandBuffer`
pub(in crate::entry) unsafe extern "system" fn end_command_buffer(commands: vk::CommandBuffer) -> vk::Result {
    // SAFETY: valid usage.
    unsafe { lookup::end(commands) };
    let Some(host) = super::host(commands).and_then(|host| host.end) else {
        return vk::Result::ERROR_UNKNOWN;
    };
    // SAFETY: valid usage.
    unsafe { host(commands) }
}

commands! {
    /// `vkCmdExecuteCommands`
    fn cmd_execute_commands(count: u32, buffers: *const vk::CommandBuffer) as execute_commands |recording|
        recording.execute(slice(buffers, count));
}
