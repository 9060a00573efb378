//! Submission (specification chapter "Command Buffers", "Sparse Resources").
//!
//! Every submission is a flush point, also one without commands: the host writes it makes visible are those
//! of all threads, to all queues.

#![allow(unsafe_code, reason = "entry points")]

use ash::vk;
use kmd_sim::uapi::Writes;

use super::{QUEUES, code, point, slice, state};
use crate::chain;
use crate::device::{DeviceState, QueueState};
use crate::submission::{Batches, Batches2};
use crate::trace::{self, in_host};
use crate::transport::dma::batch::{Batch, signals_of};

/// What a batch may write, if it must be known when it completes: when it has commands, or may wait for the
/// CPU and hold up what comes behind.
///
/// # Safety
/// `info` and its chain are valid.
unsafe fn writes(queue: &QueueState, info: &vk::SubmitInfo<'_>) -> Option<Writes> {
    // SAFETY: the caller's.
    let timeline = unsafe { chain::find::<vk::TimelineSemaphoreSubmitInfo<'_>>(info.p_next) };
    // SAFETY: the caller's.
    let values = timeline.map_or(&[][..], |timeline| unsafe {
        slice(timeline.p_wait_semaphore_values, timeline.wait_semaphore_value_count)
    });
    // SAFETY: the caller's.
    let commands = unsafe { slice(info.p_command_buffers, info.command_buffer_count) };
    queue.writes(commands.iter().copied(), values.iter().any(|value| *value != 0))
}

/// As above, of a batch of `vkQueueSubmit2`.
///
/// # Safety
/// `info` is valid.
unsafe fn writes2(queue: &QueueState, info: &vk::SubmitInfo2<'_>) -> Option<Writes> {
    // SAFETY: the caller's.
    let waits = unsafe { slice(info.p_wait_semaphore_infos, info.wait_semaphore_info_count) };
    // SAFETY: the caller's.
    let commands = unsafe { slice(info.p_command_buffer_infos, info.command_buffer_info_count) };
    let gated = waits.iter().any(|wait| wait.value != 0);
    queue.writes(commands.iter().map(|info| info.command_buffer), gated)
}

/// Opens what the CPU is about to write when the host has its work: it is at work meanwhile.
struct OpensDue<'a>(&'a DeviceState);

impl Drop for OpensDue<'_> {
    fn drop(&mut self) {
        self.0.km.open_due();
    }
}

/// `vkQueueSubmit`
pub(super) unsafe extern "system" fn queue_submit(
    queue: vk::Queue,
    count: u32,
    submits: *const vk::SubmitInfo<'_>,
    fence: vk::Fence,
) -> vk::Result {
    point!("vkQueueSubmit");
    let state = state!(QUEUES, queue);
    let _opens = OpensDue(&state.device);
    let host = state.device.fns.fp_v1_0().queue_submit;
    // SAFETY: valid usage.
    let infos = unsafe { slice(submits, count) };
    if let Some(dma) = state.device.dma() {
        // SAFETY: valid usage.
        let batches = infos.iter().map(|info| unsafe { Batch::of(info) }).collect();
        return code(dma.submit(&state, batches, fence));
    }
    // SAFETY: valid usage.
    let batches = infos.iter().map(|info| unsafe { writes(&state, info) }).collect();
    let signals = match state.prepare(batches) {
        Ok(Some(signals)) => signals,
        // SAFETY: the application's own arguments.
        Ok(None) => return in_host(|| unsafe { host(queue, count, submits, fence) }),
        Err(result) => return result,
    };
    // SAFETY: valid usage.
    let batches = unsafe { Batches::new(infos, &signals, fence != vk::Fence::null()) };
    let batches = batches.as_slice();
    let count = u32::try_from(batches.len()).unwrap_or(u32::MAX);
    // SAFETY: the application's batches, with signals of ours in between.
    let result = in_host(|| unsafe { host(queue, count, batches.as_ptr(), fence) });
    state.submitted(&signals, result)
}

/// `vkQueueSubmit2`
pub(super) unsafe extern "system" fn queue_submit2(
    queue: vk::Queue,
    count: u32,
    submits: *const vk::SubmitInfo2<'_>,
    fence: vk::Fence,
) -> vk::Result {
    point!("vkQueueSubmit2");
    let state = state!(QUEUES, queue);
    let _opens = OpensDue(&state.device);
    let Some(host) = state.device.later.queue_submit2 else { return vk::Result::ERROR_UNKNOWN };
    // SAFETY: valid usage.
    let infos = unsafe { slice(submits, count) };
    if let Some(dma) = state.device.dma() {
        // SAFETY: valid usage.
        let batches = infos.iter().map(|info| unsafe { Batch::of2(info) }).collect();
        return code(dma.submit(&state, batches, fence));
    }
    // SAFETY: valid usage.
    let batches = infos.iter().map(|info| unsafe { writes2(&state, info) }).collect();
    let signals = match state.prepare(batches) {
        Ok(Some(signals)) => signals,
        // SAFETY: the application's own arguments.
        Ok(None) => return in_host(|| unsafe { host(queue, count, submits, fence) }),
        Err(result) => return result,
    };
    let batches = Batches2::new(infos, &signals, fence != vk::Fence::null());
    let batches = batches.as_slice();
    let count = u32::try_from(batches.len()).unwrap_or(u32::MAX);
    // SAFETY: the application's batches, with signals of ours in between.
    let result = in_host(|| unsafe { host(queue, count, batches.as_ptr(), fence) });
    state.submitted(&signals, result)
}

/// `vkQueueBindSparse`
pub(super) unsafe extern "system" fn queue_bind_sparse(
    queue: vk::Queue,
    count: u32,
    infos: *const vk::BindSparseInfo<'_>,
    fence: vk::Fence,
) -> vk::Result {
    point!("vkQueueBindSparse");
    let state = state!(QUEUES, queue);
    // SAFETY: valid usage.
    for info in unsafe { slice(infos, count) } {
        // SAFETY: valid usage.
        unsafe { record_sparse(&state, info) };
    }
    // SAFETY: the application's own arguments.
    let bind = || unsafe { (state.device.fns.fp_v1_0().queue_bind_sparse)(queue, count, infos, fence) };
    match state.device.dma() {
        // Batches that come behind it are flushed for.
        Some(dma) => {
            // SAFETY: valid usage.
            let infos = unsafe { slice(infos, count) };
            // SAFETY: valid usage.
            let signals: Vec<_> = infos.iter().flat_map(|info| unsafe { signals_of(info) }).collect();
            in_host(|| dma.signal(&signals, bind))
        }
        None => state.device.flush().map_or_else(|result| result, |()| in_host(bind)),
    }
}

/// `vkQueuePresentKHR`
pub(super) unsafe extern "system" fn queue_present(
    queue: vk::Queue,
    info: *const vk::PresentInfoKHR<'_>,
) -> vk::Result {
    let _span = trace::command(const { trace::index("vkQueuePresentKHR") });
    let state = state!(QUEUES, queue);
    let Some(host) = state.device.later.queue_present else { return vk::Result::ERROR_UNKNOWN };
    // SAFETY: the application's own arguments.
    let present = || unsafe { host(queue, info) };
    // Lockstep may be submitting to this queue.
    match state.device.dma() {
        Some(dma) => dma.alone(present),
        None => present(),
    }
}

/// Records what memory becomes reachable through which resource.
///
/// # Safety
/// `info` is valid.
unsafe fn record_sparse(queue: &QueueState, info: &vk::BindSparseInfo<'_>) {
    let device = &queue.device;
    // SAFETY: the caller's.
    for buffer in unsafe { slice(info.p_buffer_binds, info.buffer_bind_count) } {
        // SAFETY: the caller's.
        for bind in unsafe { slice(buffer.p_binds, buffer.bind_count) } {
            device.bind_sparse(device.buffers.get(buffer.buffer), bind.memory);
        }
    }
    // SAFETY: the caller's.
    for image in unsafe { slice(info.p_image_opaque_binds, info.image_opaque_bind_count) } {
        // SAFETY: the caller's.
        for bind in unsafe { slice(image.p_binds, image.bind_count) } {
            device.bind_sparse(device.images.get(image.image), bind.memory);
        }
    }
    // SAFETY: the caller's.
    for image in unsafe { slice(info.p_image_binds, info.image_bind_count) } {
        // SAFETY: the caller's.
        for bind in unsafe { slice(image.p_binds, image.bind_count) } {
            device.bind_sparse(device.images.get(image.image), bind.memory);
        }
    }
}
