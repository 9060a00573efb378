//! Command buffers of Lockstep's own, which copy between staging memory and memory that the CPU does not see.

#![allow(unsafe_code, reason = "records commands on the host")]

use ash::vk;

type Stage = vk::PipelineStageFlags;
type AccessFlags = vk::AccessFlags;

/// A copy of bytes from one buffer to another; without a source it writes zeros, whole words of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The source, and where its bytes begin.
    pub from: Option<(vk::Buffer, u64)>,
    /// The target.
    pub to: vk::Buffer,
    /// Where the bytes go.
    pub at: u64,
    /// How many.
    pub size: u64,
}

/// The command buffers of one queue.
pub struct Copier {
    fns: ash::Device,
    pool: vk::CommandPool,
    free: Vec<vk::CommandBuffer>,
}

impl Copier {
    /// For a queue of family `family`.
    pub fn new(fns: ash::Device, family: u32) -> Result<Self, vk::Result> {
        let info = vk::CommandPoolCreateInfo::default()
            .queue_family_index(family)
            .flags(vk::CommandPoolCreateFlags::TRANSIENT | vk::CommandPoolCreateFlags::RESET_COMMAND_BUFFER);
        // SAFETY: the device is alive.
        let pool = unsafe { fns.create_command_pool(&info, None) }?;
        Ok(Self { fns, pool, free: Vec::new() })
    }

    /// Destroys all command buffers.
    pub fn destroy(&self) {
        // SAFETY: the device is idle.
        unsafe { self.fns.destroy_command_pool(self.pool, None) };
    }

    /// Takes back a command buffer that has completed.
    pub fn give_back(&mut self, commands: vk::CommandBuffer) {
        self.free.push(commands);
    }

    /// Copies that run behind all that was submitted before, and ahead of all that comes later.
    pub fn record(&mut self, copies: &[Copy]) -> Result<vk::CommandBuffer, vk::Result> {
        let commands = match self.free.pop() {
            Some(commands) => commands,
            None => self.allocate()?,
        };
        let result = self.fill(commands, copies);
        if result.is_err() {
            self.free.push(commands);
        }
        result.map(|()| commands)
    }

    fn allocate(&self) -> Result<vk::CommandBuffer, vk::Result> {
        let info = vk::CommandBufferAllocateInfo::default().command_pool(self.pool).command_buffer_count(1);
        // SAFETY: the pool is ours, and nobody else uses it.
        let buffers = unsafe { self.fns.allocate_command_buffers(&info) }?;
        buffers.first().copied().ok_or(vk::Result::ERROR_OUT_OF_HOST_MEMORY)
    }

    fn fill(&self, commands: vk::CommandBuffer, copies: &[Copy]) -> Result<(), vk::Result> {
        let all = AccessFlags::MEMORY_READ | AccessFlags::MEMORY_WRITE;
        let copied = AccessFlags::TRANSFER_READ | AccessFlags::TRANSFER_WRITE;
        let info = vk::CommandBufferBeginInfo::default().flags(vk::CommandBufferUsageFlags::ONE_TIME_SUBMIT);
        // SAFETY: the command buffer is ours and not pending.
        unsafe { self.fns.begin_command_buffer(commands, &info) }?;
        self.barrier(commands, (Stage::ALL_COMMANDS, all), (Stage::TRANSFER, copied));
        let same = |a: &Copy, b: &Copy| {
            a.to == b.to && a.from.map(|(buffer, _)| buffer) == b.from.map(|(buffer, _)| buffer)
        };
        for group in copies.chunk_by(same) {
            match group.first().and_then(|first| first.from) {
                Some((from, _)) => {
                    let region = |copy: &Copy| vk::BufferCopy {
                        src_offset: copy.from.map_or(0, |(_, offset)| offset),
                        dst_offset: copy.at,
                        size: copy.size,
                    };
                    let regions: Vec<_> = group.iter().map(region).collect();
                    // SAFETY: both buffers live until the copy has completed, and hold the regions.
                    unsafe { self.fns.cmd_copy_buffer(commands, from, group[0].to, &regions) };
                }
                None => {
                    for copy in group {
                        // SAFETY: as above; whole words.
                        unsafe { self.fns.cmd_fill_buffer(commands, copy.to, copy.at, copy.size, 0) };
                    }
                }
            }
        }
        let visible = all | AccessFlags::HOST_READ;
        self.barrier(commands, (Stage::TRANSFER, copied), (Stage::ALL_COMMANDS | Stage::HOST, visible));
        // SAFETY: as above.
        unsafe { self.fns.end_command_buffer(commands) }
    }

    fn barrier(
        &self,
        commands: vk::CommandBuffer,
        before: (Stage, AccessFlags),
        after: (Stage, AccessFlags),
    ) {
        let barrier = vk::MemoryBarrier::default().src_access_mask(before.1).dst_access_mask(after.1);
        let flags = vk::DependencyFlags::empty();
        // SAFETY: the command buffer is being recorded.
        unsafe {
            self.fns.cmd_pipeline_barrier(commands, before.0, after.0, flags, &[barrier], &[], &[]);
        }
    }
}

impl std::fmt::Debug for Copier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copier").field("pool", &self.pool).finish_non_exhaustive()
    }
}
