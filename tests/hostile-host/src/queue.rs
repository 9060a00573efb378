//! Submission: at once, or held back by [`crate::delay`].

use std::sync::Arc;

use ash::vk;

use crate::chain::{find, slice};
use crate::delay::Delay;
use crate::device::Device;
use crate::handles::{DEVICES, QUEUES};

/// State of a `VkQueue`.
#[derive(Debug)]
pub struct Queue {
    /// Its device.
    pub device: Arc<Device>,
    /// The queue of the driver below that does its work.
    pub below: vk::Queue,
    /// Its index.
    pub index: usize,
}

/// A batch, copied from its submission.
#[derive(Debug, Default)]
pub struct Batch {
    /// Semaphores it waits for, and what value if they are timelines.
    pub waits: Vec<(vk::Semaphore, u64)>,
    /// Its commands.
    pub commands: Vec<vk::CommandBuffer>,
    /// Semaphores it signals, and what value if they are timelines.
    pub signals: Vec<(vk::Semaphore, u64)>,
    /// The fence of the submission it is the last batch of.
    pub fence: vk::Fence,
}

/// Semaphores and their values, where those are given.
///
/// # Safety
/// The pointers are valid for what the counts say.
unsafe fn zip(
    semaphores: *const vk::Semaphore,
    count: u32,
    values: Option<(*const u64, u32)>,
) -> Vec<(vk::Semaphore, u64)> {
    // SAFETY: the caller's.
    let values = values.map_or(&[][..], |(values, count)| unsafe { slice(values, count) });
    let values = values.iter().copied().chain(std::iter::repeat(0));
    // SAFETY: the caller's.
    unsafe { slice(semaphores, count) }.iter().copied().zip(values).collect()
}

impl Batch {
    /// Copies a batch.
    ///
    /// # Safety
    /// `info` and its chain are valid.
    unsafe fn new(info: &vk::SubmitInfo<'_>) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let timeline = find::<vk::TimelineSemaphoreSubmitInfo<'_>>(info.p_next);
            let waits = timeline.map(|t| (t.p_wait_semaphore_values, t.wait_semaphore_value_count));
            let signals = timeline.map(|t| (t.p_signal_semaphore_values, t.signal_semaphore_value_count));
            Self {
                waits: zip(info.p_wait_semaphores, info.wait_semaphore_count, waits),
                commands: slice(info.p_command_buffers, info.command_buffer_count).to_vec(),
                signals: zip(info.p_signal_semaphores, info.signal_semaphore_count, signals),
                fence: vk::Fence::null(),
            }
        }
    }

    /// Copies a batch of `vkQueueSubmit2`.
    ///
    /// # Safety
    /// `info` is valid.
    unsafe fn new2(info: &vk::SubmitInfo2<'_>) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let values = |infos: *const vk::SemaphoreSubmitInfo<'_>, count| {
                slice(infos, count).iter().map(|info| (info.semaphore, info.value)).collect()
            };
            let commands = slice(info.p_command_buffer_infos, info.command_buffer_info_count);
            Self {
                waits: values(info.p_wait_semaphore_infos, info.wait_semaphore_info_count),
                commands: commands.iter().map(|info| info.command_buffer).collect(),
                signals: values(info.p_signal_semaphore_infos, info.signal_semaphore_info_count),
                fence: vk::Fence::null(),
            }
        }
    }

    /// Gives it to the driver below.
    pub fn submit(&self, functions: &ash::Device, queue: vk::Queue) {
        let split = |list: &[(vk::Semaphore, u64)]| list.iter().copied().unzip::<_, _, Vec<_>, Vec<_>>();
        let ((waits, wait_values), (signals, signal_values)) = (split(&self.waits), split(&self.signals));
        let stages = vec![vk::PipelineStageFlags::ALL_COMMANDS; waits.len()];
        let mut values = vk::TimelineSemaphoreSubmitInfo::default()
            .wait_semaphore_values(&wait_values)
            .signal_semaphore_values(&signal_values);
        let info = vk::SubmitInfo::default()
            .wait_semaphores(&waits)
            .wait_dst_stage_mask(&stages)
            .command_buffers(&self.commands)
            .signal_semaphores(&signals)
            .push_next(&mut values);
        // SAFETY: a batch of the application's, whose objects live until it has completed; the caller holds
        // the queue.
        let result = unsafe { functions.queue_submit(queue, &[info], self.fence) };
        if let Err(error) = result {
            crate::fail(format_args!("vkQueueSubmit, held back: {error}"));
        }
    }
}

/// Holds batches back. A fence is signalled by the last.
fn hold_back(delay: &Delay, queue: usize, mut batches: Vec<Batch>, fence: vk::Fence) -> vk::Result {
    if fence != vk::Fence::null() {
        match batches.last_mut() {
            Some(last) => last.fence = fence,
            None => batches.push(Batch { fence, ..Default::default() }),
        }
    }
    delay.submit(queue, batches);
    vk::Result::SUCCESS
}

/// `vkQueueSubmit`
pub(crate) unsafe extern "system" fn queue_submit(
    queue: vk::Queue,
    count: u32,
    infos: *const vk::SubmitInfo<'_>,
    fence: vk::Fence,
) -> vk::Result {
    let queue = QUEUES.get(queue);
    queue.device.push();
    if let Some(delay) = &queue.device.delay {
        // SAFETY: valid usage.
        let batches = unsafe { slice(infos, count).iter().map(|info| Batch::new(info)).collect() };
        return hold_back(delay, queue.index, batches, fence);
    }
    // SAFETY: the caller's own arguments.
    unsafe { (queue.device.fns.fp_v1_0().queue_submit)(queue.below, count, infos, fence) }
}

/// `vkQueueSubmit2`
pub(crate) unsafe extern "system" fn queue_submit2(
    queue: vk::Queue,
    count: u32,
    infos: *const vk::SubmitInfo2<'_>,
    fence: vk::Fence,
) -> vk::Result {
    let queue = QUEUES.get(queue);
    queue.device.push();
    if let Some(delay) = &queue.device.delay {
        // SAFETY: valid usage.
        let batches = unsafe { slice(infos, count).iter().map(|info| Batch::new2(info)).collect() };
        return hold_back(delay, queue.index, batches, fence);
    }
    // SAFETY: the names stand for this type; the caller's own arguments.
    unsafe {
        let below: vk::PFN_vkQueueSubmit2 = queue.device.later(&[c"vkQueueSubmit2", c"vkQueueSubmit2KHR"]);
        below(queue.below, count, infos, fence)
    }
}

/// `vkQueueBindSparse`; not held back, but behind all that is.
pub(crate) unsafe extern "system" fn queue_bind_sparse(
    queue: vk::Queue,
    count: u32,
    infos: *const vk::BindSparseInfo<'_>,
    fence: vk::Fence,
) -> vk::Result {
    let queue = QUEUES.get(queue);
    queue.device.push();
    // SAFETY: the caller's own arguments; the queue is held.
    let bind = || unsafe { (queue.device.fns.fp_v1_0().queue_bind_sparse)(queue.below, count, infos, fence) };
    queue.device.delay.as_ref().map_or_else(bind, |delay| delay.behind(queue.index, bind))
}

/// `vkQueuePresentKHR`; not held back, but behind all that is.
pub(crate) unsafe extern "system" fn queue_present(
    queue: vk::Queue,
    info: *const vk::PresentInfoKHR<'_>,
) -> vk::Result {
    let queue = QUEUES.get(queue);
    // SAFETY: the name stands for this type; the caller's own arguments; the queue is held.
    let present = || unsafe {
        let below: vk::PFN_vkQueuePresentKHR = queue.device.later(&[c"vkQueuePresentKHR"]);
        below(queue.below, info)
    };
    queue.device.delay.as_ref().map_or_else(present, |delay| delay.behind(queue.index, present))
}

/// `vkQueueWaitIdle`
pub(crate) unsafe extern "system" fn queue_wait_idle(queue: vk::Queue) -> vk::Result {
    let queue = QUEUES.get(queue);
    let result = match &queue.device.delay {
        Some(delay) => delay.wait_idle(Some(queue.index)),
        // SAFETY: valid usage.
        None => unsafe { (queue.device.fns.fp_v1_0().queue_wait_idle)(queue.below) },
    };
    queue.device.pull();
    result
}

/// `vkDeviceWaitIdle`
pub(crate) unsafe extern "system" fn device_wait_idle(device: vk::Device) -> vk::Result {
    let device = DEVICES.get(device);
    let result = match &device.delay {
        Some(delay) => delay.wait_idle(None),
        // SAFETY: valid usage.
        None => unsafe { (device.fns.fp_v1_0().device_wait_idle)(device.fns.handle()) },
    };
    device.pull();
    result
}
