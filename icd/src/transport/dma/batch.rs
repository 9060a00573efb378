//! Batches of the application in one form, which outlives the call they came with.

#![allow(unsafe_code, reason = "reads the application's arrays")]

use ash::vk;

use crate::chain::{self, Chain};
use crate::entry::slice;

/// A batch (`VkSubmitInfo2`) that owns what it points to.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    chain: Chain,
    flags: vk::SubmitFlags,
    /// What it waits for.
    pub waits: Vec<vk::SemaphoreSubmitInfo<'static>>,
    /// Its command buffers.
    pub commands: Vec<vk::CommandBufferSubmitInfo<'static>>,
    /// What it signals.
    pub signals: Vec<vk::SemaphoreSubmitInfo<'static>>,
}

impl Batch {
    /// A batch of `vkQueueSubmit2`.
    ///
    /// # Safety
    /// `info` and its chain are valid.
    pub unsafe fn of2(info: &vk::SubmitInfo2<'_>) -> Self {
        let semaphore = |info: &vk::SemaphoreSubmitInfo<'_>| vk::SemaphoreSubmitInfo {
            p_next: std::ptr::null(),
            _marker: std::marker::PhantomData,
            ..*info
        };
        // SAFETY: the caller's.
        let waits = unsafe { slice(info.p_wait_semaphore_infos, info.wait_semaphore_info_count) };
        // SAFETY: the caller's.
        let signals = unsafe { slice(info.p_signal_semaphore_infos, info.signal_semaphore_info_count) };
        // SAFETY: the caller's.
        let commands = unsafe { slice(info.p_command_buffer_infos, info.command_buffer_info_count) };
        Self {
            // SAFETY: the caller's.
            chain: unsafe { Chain::of_submit_info2(info.p_next) },
            flags: info.flags,
            waits: waits.iter().map(semaphore).collect(),
            commands: commands.iter().map(|info| command(info.command_buffer, info.device_mask)).collect(),
            signals: signals.iter().map(semaphore).collect(),
        }
    }

    /// A batch of `vkQueueSubmit`. Its stages are the lower half of those of the other.
    ///
    /// # Safety
    /// `info` and its chain are valid.
    pub unsafe fn of(info: &vk::SubmitInfo<'_>) -> Self {
        // SAFETY: the caller's.
        let timeline = unsafe { chain::find::<vk::TimelineSemaphoreSubmitInfo<'_>>(info.p_next) };
        // SAFETY: the caller's.
        let protected = unsafe { chain::find::<vk::ProtectedSubmitInfo<'_>>(info.p_next) };
        let values = |pointer: fn(&vk::TimelineSemaphoreSubmitInfo<'_>) -> (*const u64, u32)| {
            timeline.map_or(&[][..], |timeline| {
                let (values, count) = pointer(timeline);
                // SAFETY: the caller's.
                unsafe { slice(values, count) }
            })
        };
        let wait_values = values(|info| (info.p_wait_semaphore_values, info.wait_semaphore_value_count));
        let signal_values =
            values(|info| (info.p_signal_semaphore_values, info.signal_semaphore_value_count));
        // SAFETY: the caller's.
        let waits = unsafe { slice(info.p_wait_semaphores, info.wait_semaphore_count) };
        // SAFETY: the caller's.
        let stages = unsafe { slice(info.p_wait_dst_stage_mask, info.wait_semaphore_count) };
        // SAFETY: the caller's.
        let signals = unsafe { slice(info.p_signal_semaphores, info.signal_semaphore_count) };
        // SAFETY: the caller's.
        let commands = unsafe { slice(info.p_command_buffers, info.command_buffer_count) };
        let value = |values: &[u64], at: usize| values.get(at).copied().unwrap_or(0);
        let wait = |(at, (handle, stages)): (usize, (&vk::Semaphore, &vk::PipelineStageFlags))| {
            let stages = vk::PipelineStageFlags2::from_raw(u64::from(stages.as_raw()));
            semaphore(*handle, value(wait_values, at), stages)
        };
        let all = vk::PipelineStageFlags2::ALL_COMMANDS;
        let signal =
            |(at, handle): (usize, &vk::Semaphore)| semaphore(*handle, value(signal_values, at), all);
        let is_protected = protected.is_some_and(|info| info.protected_submit == vk::TRUE);
        Self {
            // SAFETY: the caller's.
            chain: unsafe { Chain::of_submit_info2(info.p_next) },
            flags: if is_protected { vk::SubmitFlags::PROTECTED } else { vk::SubmitFlags::empty() },
            waits: waits.iter().zip(stages).enumerate().map(wait).collect(),
            commands: commands.iter().map(|buffer| command(*buffer, 0)).collect(),
            signals: signals.iter().enumerate().map(signal).collect(),
        }
    }

    /// A batch of ours.
    pub fn of_commands(
        waits: Vec<vk::SemaphoreSubmitInfo<'static>>,
        commands: vk::CommandBuffer,
        signal: vk::SemaphoreSubmitInfo<'static>,
    ) -> Self {
        Self { waits, commands: vec![command(commands, 0)], signals: vec![signal], ..Self::default() }
    }

    /// A batch with nothing but signals of another, and its flags.
    pub fn signalling(&self, signals: Vec<vk::SemaphoreSubmitInfo<'static>>) -> Self {
        Self { flags: self.flags, signals, ..Self::default() }
    }

    /// The batch as the host takes it; valid while it is not changed.
    pub fn info(&mut self) -> vk::SubmitInfo2<'static> {
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        vk::SubmitInfo2 {
            p_next: self.chain.head(),
            flags: self.flags,
            wait_semaphore_info_count: count(self.waits.len()),
            p_wait_semaphore_infos: self.waits.as_ptr(),
            command_buffer_info_count: count(self.commands.len()),
            p_command_buffer_infos: self.commands.as_ptr(),
            signal_semaphore_info_count: count(self.signals.len()),
            p_signal_semaphore_infos: self.signals.as_ptr(),
            ..Default::default()
        }
    }
}

/// What a sparse binding signals, and the values of timelines among it.
///
/// # Safety
/// `info` and its chain are valid.
pub unsafe fn signals_of(info: &vk::BindSparseInfo<'_>) -> Vec<(vk::Semaphore, u64)> {
    // SAFETY: the caller's.
    let semaphores = unsafe { slice(info.p_signal_semaphores, info.signal_semaphore_count) };
    // SAFETY: the caller's.
    let timeline = unsafe { chain::find::<vk::TimelineSemaphoreSubmitInfo<'_>>(info.p_next) };
    let values = timeline.map_or(&[][..], |timeline| {
        // SAFETY: the caller's.
        unsafe { slice(timeline.p_signal_semaphore_values, timeline.signal_semaphore_value_count) }
    });
    semaphores.iter().copied().zip(values.iter().copied().chain(std::iter::repeat(0))).collect()
}

/// A command buffer in a batch.
pub fn command(buffer: vk::CommandBuffer, device_mask: u32) -> vk::CommandBufferSubmitInfo<'static> {
    vk::CommandBufferSubmitInfo::default().command_buffer(buffer).device_mask(device_mask)
}

/// A semaphore in a batch.
pub fn semaphore(
    semaphore: vk::Semaphore,
    value: u64,
    stages: vk::PipelineStageFlags2,
) -> vk::SemaphoreSubmitInfo<'static> {
    vk::SemaphoreSubmitInfo::default().semaphore(semaphore).value(value).stage_mask(stages)
}
