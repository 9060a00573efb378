//! Command buffers that move bytes, and their submission.

use crate::{Bindings, Buffer, Compute, Event, Fence, Gpu, Queries, Semaphore, Timeline};
use ash::vk;

/// Records the commands of one buffer.
#[derive(Debug)]
pub struct Recorder<'a> {
    gpu: &'a Gpu,
    raw: vk::CommandBuffer,
}

impl Recorder<'_> {
    /// Returns Vulkan's handle, for commands the harness has no name for.
    pub fn raw(&self) -> vk::CommandBuffer {
        self.raw
    }

    /// Copies bytes by vkCmdCopyBuffer.
    pub fn copy(&self, from: &Buffer, from_offset: usize, to: &Buffer, to_offset: usize, len: usize) {
        self.copy_regions(from, to, &[(from_offset, to_offset, len)]);
    }

    /// Copies regions of (source offset, destination offset, length) by one vkCmdCopyBuffer.
    pub fn copy_regions(&self, from: &Buffer, to: &Buffer, regions: &[(usize, usize, usize)]) {
        let regions: Vec<_> = regions
            .iter()
            .map(|&(from, to, len)| vk::BufferCopy {
                src_offset: from as u64,
                dst_offset: to as u64,
                size: len as u64,
            })
            .collect();
        // SAFETY: By the harness's contract the buffers are alive and the regions inside them.
        unsafe { self.gpu.raw().cmd_copy_buffer(self.raw, from.raw(), to.raw(), &regions) };
    }

    /// Makes `len` bytes equal; offset and length are multiples of 4.
    pub fn fill(&self, to: &Buffer, offset: usize, len: usize, byte: u8) {
        let word = u32::from_ne_bytes([byte; 4]);
        // SAFETY: By the harness's contract the buffer is alive and the range inside it.
        unsafe { self.gpu.raw().cmd_fill_buffer(self.raw, to.raw(), offset as u64, len as u64, word) };
    }

    /// Writes bytes by vkCmdUpdateBuffer; offset and length are multiples of 4.
    pub fn update(&self, to: &Buffer, offset: usize, bytes: &[u8]) {
        // SAFETY: By the harness's contract the buffer is alive and the range inside it.
        unsafe { self.gpu.raw().cmd_update_buffer(self.raw, to.raw(), offset as u64, bytes) };
    }

    /// Runs a compute shader.
    pub fn dispatch(&self, compute: &Compute, bindings: &Bindings, groups: u32) {
        let device = self.gpu.raw();
        let point = vk::PipelineBindPoint::COMPUTE;
        // SAFETY: By the harness's contract the pipeline is alive.
        unsafe { device.cmd_bind_pipeline(self.raw, point, compute.pipeline()) };
        let sets = [bindings.raw()];
        // SAFETY: The set is made for this layout.
        unsafe { device.cmd_bind_descriptor_sets(self.raw, point, compute.layout(), 0, &sets, &[]) };
        // SAFETY: A pipeline and its set are bound.
        unsafe { device.cmd_dispatch(self.raw, groups, 1, 1) };
    }

    /// Executes secondary command buffers.
    pub fn execute(&self, secondaries: &[&Commands]) {
        let raw: Vec<_> = secondaries.iter().map(|commands| commands.raw).collect();
        // SAFETY: By the harness's contract the command buffers are alive and secondary.
        unsafe { self.gpu.raw().cmd_execute_commands(self.raw, &raw) };
    }

    /// Orders everything before with everything after, on the device and towards the host.
    pub fn barrier(&self) {
        let all = vk::PipelineStageFlags::ALL_COMMANDS;
        self.memory_barrier(all | vk::PipelineStageFlags::HOST, all | vk::PipelineStageFlags::HOST);
    }

    fn memory_barrier(&self, from: vk::PipelineStageFlags, to: vk::PipelineStageFlags) {
        let memory = [vk::MemoryBarrier::default()
            .src_access_mask(vk::AccessFlags::MEMORY_WRITE)
            .dst_access_mask(vk::AccessFlags::MEMORY_READ | vk::AccessFlags::MEMORY_WRITE)];
        let flags = vk::DependencyFlags::empty();
        // SAFETY: The command buffer is being recorded.
        unsafe { self.gpu.raw().cmd_pipeline_barrier(self.raw, from, to, flags, &memory, &[], &[]) };
    }

    /// Sets an event when everything before is done.
    pub fn set_event(&self, event: &Event) {
        self.barrier();
        // SAFETY: By the harness's contract the event is alive.
        unsafe { self.gpu.raw().cmd_set_event(self.raw, event.raw(), vk::PipelineStageFlags::ALL_COMMANDS) };
    }

    /// Waits for an event the host has set.
    pub fn wait_host_event(&self, event: &Event) {
        let memory = [vk::MemoryBarrier::default()
            .src_access_mask(vk::AccessFlags::HOST_WRITE)
            .dst_access_mask(vk::AccessFlags::MEMORY_READ | vk::AccessFlags::MEMORY_WRITE)];
        let (host, all) = (vk::PipelineStageFlags::HOST, vk::PipelineStageFlags::ALL_COMMANDS);
        let events = [event.raw()];
        // SAFETY: By the harness's contract the event is alive.
        unsafe { self.gpu.raw().cmd_wait_events(self.raw, &events, host, all, &memory, &[], &[]) };
    }

    /// Makes queries unavailable.
    pub fn reset(&self, queries: &Queries) {
        // SAFETY: By the harness's contract the pool is alive.
        unsafe { self.gpu.raw().cmd_reset_query_pool(self.raw, queries.raw(), 0, queries.len()) };
    }

    /// Writes the time when everything before is done.
    pub fn timestamp(&self, queries: &Queries, query: u32) {
        self.barrier();
        let stage = vk::PipelineStageFlags::BOTTOM_OF_PIPE;
        // SAFETY: By the harness's contract the pool is alive and the query reset.
        unsafe { self.gpu.raw().cmd_write_timestamp(self.raw, stage, queries.raw(), query) };
    }

    /// Begins and ends a query with nothing in between.
    pub fn query_nothing(&self, queries: &Queries, query: u32) {
        let flags = vk::QueryControlFlags::empty();
        // SAFETY: By the harness's contract the pool is alive and the query reset.
        unsafe { self.gpu.raw().cmd_begin_query(self.raw, queries.raw(), query, flags) };
        // SAFETY: As above.
        unsafe { self.gpu.raw().cmd_end_query(self.raw, queries.raw(), query) };
    }

    /// Copies 64-bit results with their availability to a buffer, 16 bytes a query.
    pub fn copy_results(&self, queries: &Queries, to: &Buffer, offset: usize) {
        let flags = vk::QueryResultFlags::TYPE_64
            | vk::QueryResultFlags::WAIT
            | vk::QueryResultFlags::WITH_AVAILABILITY;
        let (pool, count, offset) = (queries.raw(), queries.len(), offset as u64);
        // SAFETY: By the harness's contract pool and buffer are alive and the buffer is long enough.
        unsafe {
            self.gpu.raw().cmd_copy_query_pool_results(self.raw, pool, 0, count, to.raw(), offset, 16, flags);
        };
    }
}

/// A recorded command buffer with a pool of its own; it can be submitted again and again.
#[derive(Debug)]
pub struct Commands {
    gpu: Gpu,
    pool: vk::CommandPool,
    raw: vk::CommandBuffer,
}

impl Commands {
    /// Records commands; what they write is made visible to the host at the end.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn new(gpu: &Gpu, record: impl FnOnce(&Recorder<'_>)) -> Self {
        let usage = vk::CommandBufferUsageFlags::empty();
        Self::with(gpu, vk::CommandBufferLevel::PRIMARY, usage, record)
    }

    /// Records a command buffer that may be submitted again while it is pending.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn simultaneous(gpu: &Gpu, record: impl FnOnce(&Recorder<'_>)) -> Self {
        let usage = vk::CommandBufferUsageFlags::SIMULTANEOUS_USE;
        Self::with(gpu, vk::CommandBufferLevel::PRIMARY, usage, record)
    }

    /// Records a secondary command buffer, for [`Recorder::execute`], also of several primary ones.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn secondary(gpu: &Gpu, record: impl FnOnce(&Recorder<'_>)) -> Self {
        let usage = vk::CommandBufferUsageFlags::SIMULTANEOUS_USE;
        Self::with(gpu, vk::CommandBufferLevel::SECONDARY, usage, record)
    }

    fn with(
        gpu: &Gpu,
        level: vk::CommandBufferLevel,
        usage: vk::CommandBufferUsageFlags,
        record: impl FnOnce(&Recorder<'_>),
    ) -> Self {
        let device = gpu.raw();
        let info = vk::CommandPoolCreateInfo::default().queue_family_index(gpu.family());
        // SAFETY: `info` is whole.
        let pool = unsafe { device.create_command_pool(&info, None) }.expect("vkCreateCommandPool");
        let info =
            vk::CommandBufferAllocateInfo::default().command_pool(pool).level(level).command_buffer_count(1);
        // SAFETY: The pool was just made and is used by this thread alone.
        let raw = unsafe { device.allocate_command_buffers(&info) }.expect("vkAllocateCommandBuffers")[0];
        let inherited = vk::CommandBufferInheritanceInfo::default();
        let info = vk::CommandBufferBeginInfo::default().flags(usage).inheritance_info(&inherited);
        // SAFETY: The command buffer was just allocated.
        unsafe { device.begin_command_buffer(raw, &info) }.expect("vkBeginCommandBuffer");
        let recorder = Recorder { gpu, raw };
        record(&recorder);
        recorder.barrier();
        // SAFETY: The command buffer is being recorded.
        unsafe { device.end_command_buffer(raw) }.expect("vkEndCommandBuffer");
        Self { gpu: gpu.clone(), pool, raw }
    }

    /// Returns Vulkan's handle.
    pub fn raw(&self) -> vk::CommandBuffer {
        self.raw
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: By the harness's contract the device no longer uses the commands.
            unsafe { self.gpu.raw().destroy_command_pool(self.pool, None) };
        }
    }
}

/// One batch of a submission: what it waits for, runs and signals.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    waits: Vec<(vk::Semaphore, u64)>,
    commands: Vec<vk::CommandBuffer>,
    signals: Vec<(vk::Semaphore, u64)>,
}

impl Batch {
    /// Starts an empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until a timeline reaches a value.
    pub fn wait(mut self, timeline: &Timeline, value: u64) -> Self {
        self.waits.push((timeline.raw(), value));
        self
    }

    /// Waits for a binary semaphore.
    pub fn wait_binary(mut self, semaphore: &Semaphore) -> Self {
        self.waits.push((semaphore.raw(), 0));
        self
    }

    /// Runs commands.
    pub fn run(mut self, commands: &Commands) -> Self {
        self.commands.push(commands.raw());
        self
    }

    /// Sets a timeline when all is done.
    pub fn signal(mut self, timeline: &Timeline, value: u64) -> Self {
        self.signals.push((timeline.raw(), value));
        self
    }

    /// Signals a binary semaphore when all is done.
    pub fn signal_binary(mut self, semaphore: &Semaphore) -> Self {
        self.signals.push((semaphore.raw(), 0));
        self
    }

    fn has_values(&self) -> bool {
        self.waits.iter().chain(&self.signals).any(|&(_, value)| value != 0)
    }
}

/// The arrays one `VkSubmitInfo` points to.
#[derive(Debug)]
struct Arrays {
    waits: Vec<vk::Semaphore>,
    wait_values: Vec<u64>,
    stages: Vec<vk::PipelineStageFlags>,
    signals: Vec<vk::Semaphore>,
    signal_values: Vec<u64>,
}

impl Gpu {
    /// Submits batches by vkQueueSubmit, holding the queue for the call alone.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn submit(&self, batches: &[Batch], fence: Option<&Fence>) {
        let queue = self.queue();
        self.submit_to(*queue, batches, fence);
    }

    /// Submits batches by vkQueueSubmit to a queue that no other thread uses meanwhile.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn submit_to(&self, queue: vk::Queue, batches: &[Batch], fence: Option<&Fence>) {
        let arrays: Vec<_> = batches
            .iter()
            .map(|batch| Arrays {
                waits: batch.waits.iter().map(|wait| wait.0).collect(),
                wait_values: batch.waits.iter().map(|wait| wait.1).collect(),
                stages: vec![vk::PipelineStageFlags::ALL_COMMANDS; batch.waits.len()],
                signals: batch.signals.iter().map(|signal| signal.0).collect(),
                signal_values: batch.signals.iter().map(|signal| signal.1).collect(),
            })
            .collect();
        let mut values: Vec<_> = arrays
            .iter()
            .map(|arrays| {
                vk::TimelineSemaphoreSubmitInfo::default()
                    .wait_semaphore_values(&arrays.wait_values)
                    .signal_semaphore_values(&arrays.signal_values)
            })
            .collect();
        let infos: Vec<_> = batches
            .iter()
            .zip(&arrays)
            .zip(&mut values)
            .map(|((batch, arrays), values)| {
                let info = vk::SubmitInfo::default()
                    .wait_semaphores(&arrays.waits)
                    .wait_dst_stage_mask(&arrays.stages)
                    .command_buffers(&batch.commands)
                    .signal_semaphores(&arrays.signals);
                if batch.has_values() { info.push_next(values) } else { info }
            })
            .collect();
        let fence = fence.map_or(vk::Fence::null(), Fence::raw);
        // SAFETY: All arrays outlive the call; by the harness's contract all handles are alive.
        unsafe { self.raw().queue_submit(queue, &infos, fence) }.expect("vkQueueSubmit");
    }

    /// Submits batches by vkQueueSubmit2, holding the queue for the call alone.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn submit2(&self, batches: &[Batch], fence: Option<&Fence>) {
        let queue = self.queue();
        self.submit2_to(*queue, batches, fence);
    }

    /// Submits batches by vkQueueSubmit2 to a queue that no other thread uses meanwhile.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn submit2_to(&self, queue: vk::Queue, batches: &[Batch], fence: Option<&Fence>) {
        let semaphores = |pairs: &[(vk::Semaphore, u64)]| -> Vec<_> {
            let info = |&(semaphore, value)| {
                vk::SemaphoreSubmitInfo::default()
                    .semaphore(semaphore)
                    .value(value)
                    .stage_mask(vk::PipelineStageFlags2::ALL_COMMANDS)
            };
            pairs.iter().map(info).collect()
        };
        let arrays: Vec<_> = batches
            .iter()
            .map(|batch| {
                let command = |&raw| vk::CommandBufferSubmitInfo::default().command_buffer(raw);
                let commands: Vec<_> = batch.commands.iter().map(command).collect();
                (semaphores(&batch.waits), commands, semaphores(&batch.signals))
            })
            .collect();
        let infos: Vec<_> = arrays
            .iter()
            .map(|(waits, commands, signals)| {
                vk::SubmitInfo2::default()
                    .wait_semaphore_infos(waits)
                    .command_buffer_infos(commands)
                    .signal_semaphore_infos(signals)
            })
            .collect();
        let fence = fence.map_or(vk::Fence::null(), Fence::raw);
        let result = match &self.0.synchronization2_khr {
            // SAFETY: All arrays outlive the call; by the harness's contract all handles are alive.
            Some(khr) => unsafe { khr.queue_submit2(queue, &infos, fence) },
            // SAFETY: As above, and the device is of version 1.3.
            None => unsafe { self.raw().queue_submit2(queue, &infos, fence) },
        };
        result.expect("vkQueueSubmit2");
    }
}
