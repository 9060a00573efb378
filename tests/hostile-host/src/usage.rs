//! Which buffers the commands of a batch copy from or to: one that is destroyed while such a batch is held
//! back by [`crate::delay`] was destroyed too early, whatever the driver below makes of it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use ash::vk;

use crate::chain::slice;
use crate::device::Device;
use crate::fail;
use crate::handles::{COMMANDS, DEVICES};

/// State of a `VkCommandBuffer`.
#[derive(Debug)]
pub struct Commands {
    /// Its device.
    pub device: Arc<Device>,
    buffers: Mutex<HashSet<vk::Buffer>>,
}

impl Commands {
    fn uses(&self, buffers: &[vk::Buffer]) {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).extend(buffers);
    }

    fn has(&self, buffer: vk::Buffer) -> bool {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).contains(&buffer)
    }
}

/// `vkAllocateCommandBuffers`
pub(crate) unsafe extern "system" fn allocate_command_buffers(
    device: vk::Device,
    info: *const vk::CommandBufferAllocateInfo<'_>,
    out: *mut vk::CommandBuffer,
) -> vk::Result {
    let state = DEVICES.get(device);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().allocate_command_buffers)(device, info, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: valid usage, and written by the host.
        for commands in unsafe { slice(out, (*info).command_buffer_count) } {
            let device = Arc::clone(&state);
            COMMANDS.insert(*commands, Arc::new(Commands { device, buffers: Mutex::default() }));
        }
    }
    result
}

/// `vkBeginCommandBuffer`
pub(crate) unsafe extern "system" fn begin_command_buffer(
    commands: vk::CommandBuffer,
    info: *const vk::CommandBufferBeginInfo<'_>,
) -> vk::Result {
    let state = COMMANDS.get(commands);
    state.buffers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    // SAFETY: the caller's own arguments.
    unsafe { (state.device.fns.fp_v1_0().begin_command_buffer)(commands, info) }
}

/// `vkCmdCopyBuffer`
pub(crate) unsafe extern "system" fn cmd_copy_buffer(
    commands: vk::CommandBuffer,
    from: vk::Buffer,
    to: vk::Buffer,
    count: u32,
    regions: *const vk::BufferCopy,
) {
    let state = COMMANDS.get(commands);
    state.uses(&[from, to]);
    // SAFETY: the caller's own arguments.
    unsafe { (state.device.fns.fp_v1_0().cmd_copy_buffer)(commands, from, to, count, regions) };
}

/// `vkCmdFillBuffer`
pub(crate) unsafe extern "system" fn cmd_fill_buffer(
    commands: vk::CommandBuffer,
    buffer: vk::Buffer,
    offset: vk::DeviceSize,
    size: vk::DeviceSize,
    data: u32,
) {
    let state = COMMANDS.get(commands);
    state.uses(&[buffer]);
    // SAFETY: the caller's own arguments.
    unsafe { (state.device.fns.fp_v1_0().cmd_fill_buffer)(commands, buffer, offset, size, data) };
}

/// `vkDestroyBuffer`
pub(crate) unsafe extern "system" fn destroy_buffer(
    device: vk::Device,
    buffer: vk::Buffer,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let state = DEVICES.get(device);
    let uses = |commands: vk::CommandBuffer| COMMANDS.find(commands).is_some_and(|state| state.has(buffer));
    if state.delay.as_ref().is_some_and(|delay| delay.holds(uses)) {
        fail("a buffer is destroyed that a batch is going to use");
    }
    // SAFETY: the caller's own arguments.
    unsafe { (state.fns.fp_v1_0().destroy_buffer)(device, buffer, allocator) };
}
