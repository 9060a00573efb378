//! The `dma` transport: memory that the CPU does not see, or not coherently. The device copies.
//!
//! kmd-sim works on an image of such memory. What it stores there is staged, and copied by the device ahead
//! of the next batch; what a batch may have written of mapped memory is copied behind it, on the same queue,
//! and put into the image when the batch has completed.
//!
//! | module | what it is |
//! |---|---|
//! | [`schedule`] | which batches the host may have already |
//! | [`submission`] | what goes around them |
//! | [`batch`] | batches in one form |
//! | [`copies`] | command buffers that copy |
//! | `held` | fences that the host was not given yet |
//! | [`staging`] | memory that both sides see |
//!
//! Locks, in this order: the schedule; the reservation of the device; one at a time of what is in [`Dma`].

#![allow(unsafe_code, reason = "calls the host driver")]

/// Whether `scripts/mutations` wants this left out, or done too early or too late.
macro_rules! mutated {
    ($name:literal) => {{
        #[cfg(lockstep_mutation)]
        let mutated = kmd_sim::mutation::is_named($name);
        #[cfg(not(lockstep_mutation))]
        let mutated = false;
        mutated
    }};
}

pub mod batch;
pub mod copies;
mod held;
pub mod schedule;
pub mod staging;
pub mod submission;

use std::collections::HashMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::AtomicBool;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use ash::vk;
use kmd_sim::uapi::{Error, Result, SharedMem};
use memmap2::MmapMut;

use self::copies::Copy;
use self::held::Held;
use self::schedule::Schedule;
use self::staging::{Block, Direction, Staging};

/// Bytes of a block for many small updates.
const BLOCK: u64 = 256 << 10;
/// What is found zero in pieces of this size is not copied but filled.
const PIECE: u64 = 4096;

/// The functions of later versions that the transport needs.
#[derive(Clone, Copy, Debug)]
pub struct Functions {
    /// `vkQueueSubmit2`
    pub queue_submit2: vk::PFN_vkQueueSubmit2,
    /// `vkWaitSemaphores`
    pub wait_semaphores: vk::PFN_vkWaitSemaphores,
    /// `vkGetSemaphoreCounterValue`
    pub get_semaphore_counter_value: vk::PFN_vkGetSemaphoreCounterValue,
}

/// A memory object that the CPU does not see.
#[derive(Debug)]
struct Remote {
    /// All of it, for copies.
    buffer: vk::Buffer,
    /// What stands for it; made by the first map.
    image: Option<MmapMut>,
    size: u64,
    /// Timelines and values behind copies from or to it.
    busy: HashMap<vk::Semaphore, u64>,
}

/// Copies of bytes to the CPU behind a batch, as they were asked for.
#[derive(Debug)]
struct Readback {
    timeline: vk::Semaphore,
    seqno: u64,
    parts: Vec<(vk::DeviceMemory, vk::Buffer, Range<u64>)>,
    after: Vec<(vk::Semaphore, u64)>,
}

/// What goes around the batches that are being submitted.
#[derive(Debug, Default)]
struct Outbox {
    blocks: Vec<Block>,
    /// Bytes used of the last block.
    used: u64,
    copies: Vec<Copy>,
    /// Where they go.
    targets: Vec<vk::DeviceMemory>,
    readbacks: Vec<Readback>,
}

/// Bytes on their way to the CPU.
#[derive(Debug)]
struct Arrival {
    block: Block,
    /// Where each part lies in the block.
    parts: Vec<Range<u64>>,
    queue: vk::Queue,
    commands: vk::CommandBuffer,
}

/// The transport of a device.
pub struct Dma {
    fns: ash::Device,
    later: Functions,
    staging: Staging,
    /// What a batch wrote is brought back by another one, which waits for it: some hosts let a barrier not
    /// order a copy behind rendering that reaches the same memory through other resources.
    apart: bool,
    memories: Mutex<HashMap<vk::DeviceMemory, Remote>>,
    outbox: Mutex<Outbox>,
    /// By timeline and value behind which they are there.
    arrivals: Mutex<HashMap<(vk::Semaphore, u64), Arrival>>,
    /// Memory that could not be freed, and buffers over it.
    kept: Mutex<Vec<(vk::DeviceMemory, vk::Buffer)>>,
    /// Command buffers that have completed, and whose they are.
    completed: Mutex<Vec<(vk::Queue, vk::CommandBuffer)>>,
    schedule: Mutex<Schedule>,
    /// The host has refused something that had waited.
    refused: AtomicBool,
    /// The schedule has changed.
    changed: Condvar,
    /// Fences of batches that are kept.
    held: Held,
}

impl std::fmt::Debug for Dma {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dma").field("staging", &self.staging).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an error of the host is to the kernel driver.
fn km_error(result: vk::Result) -> Error {
    if result == vk::Result::ERROR_DEVICE_LOST { Error::DeviceLost } else { Error::NoMemory }
}

impl Dma {
    /// The transport of a device with queues of some families.
    pub fn new(
        fns: ash::Device,
        later: Functions,
        types: vk::PhysicalDeviceMemoryProperties,
        families: Vec<u32>,
        driver: vk::DriverId,
    ) -> Self {
        Self {
            apart: driver == vk::DriverId::MESA_LLVMPIPE,
            staging: Staging::new(fns.clone(), types, families),
            fns,
            later,
            memories: Mutex::default(),
            outbox: Mutex::default(),
            arrivals: Mutex::default(),
            kept: Mutex::default(),
            completed: Mutex::default(),
            schedule: Mutex::default(),
            refused: AtomicBool::new(false),
            changed: Condvar::new(),
            held: Held::default(),
        }
    }

    /// A buffer for copies from and to memory of `size` bytes, which must be asked for with its requirements.
    pub fn buffer_for(
        &self,
        size: u64,
    ) -> std::result::Result<(vk::Buffer, vk::MemoryRequirements), vk::Result> {
        let buffer = self.staging.create_buffer(size)?;
        // SAFETY: the buffer is alive.
        Ok((buffer, unsafe { self.fns.get_buffer_memory_requirements(buffer) }))
    }

    /// Gives up a buffer whose memory could not be had.
    pub fn discard_buffer(&self, buffer: vk::Buffer) {
        // SAFETY: nobody uses it.
        unsafe { self.fns.destroy_buffer(buffer, None) };
    }

    /// Enters a memory object.
    pub fn add_memory(
        &self,
        memory: vk::DeviceMemory,
        buffer: vk::Buffer,
        size: u64,
    ) -> std::result::Result<(), vk::Result> {
        // SAFETY: both are new, and the memory is as large as the buffer demands.
        unsafe { self.fns.bind_buffer_memory(buffer, memory, 0) }?;
        lock(&self.memories).insert(memory, Remote { buffer, image: None, size, busy: HashMap::new() });
        Ok(())
    }

    /// Takes out a memory object that is about to be freed. Copies of bytes that no batch needs may still be
    /// under way: they are waited for. `false`: that was not possible, and the memory is freed with the
    /// device.
    pub fn remove_memory(&self, memory: vk::DeviceMemory) -> bool {
        if !self.has(memory) {
            return true;
        }
        // A submission that copies has said so when it is over.
        let schedule = lock(&self.schedule);
        let Some(remote) = lock(&self.memories).remove(&memory) else { return true };
        drop(schedule);
        let busy: Vec<_> = remote.busy.into_iter().filter(|_| !mutated!("dma-free-waits")).collect();
        match self.wait(&busy) {
            Ok(()) | Err(vk::Result::ERROR_DEVICE_LOST) => self.discard_buffer(remote.buffer),
            Err(error) => {
                log::error!(
                    "memory is freed with the device, since copies from or to it may be under way: {error}"
                );
                lock(&self.kept).push((memory, remote.buffer));
                return false;
            }
        }
        true
    }

    /// Whether the memory is one of those.
    pub fn has(&self, memory: vk::DeviceMemory) -> bool {
        lock(&self.memories).contains_key(&memory)
    }

    /// The image of a memory object.
    pub fn image(&self, memory: vk::DeviceMemory) -> Result<SharedMem> {
        let mut memories = lock(&self.memories);
        let remote = memories.get_mut(&memory).ok_or(Error::Invalid)?;
        let len = usize::try_from(remote.size).map_err(|_| Error::NoMemory)?;
        if remote.image.is_none() {
            remote.image = Some(MmapMut::map_anon(len).map_err(|_| Error::NoMemory)?);
        }
        let base = remote.image.as_mut().and_then(|image| NonNull::new(image.as_mut_ptr()));
        // SAFETY: 1. mapped until the memory is freed, which ends its buffer object first; 2. the pointer is
        // used through such values alone.
        Ok(unsafe { SharedMem::new(base.ok_or(Error::NoMemory)?, len) })
    }

    /// Stages bytes of an image for the next submission ([`kmd_sim::uapi::HostDevice::update`]).
    pub fn update(&self, memory: vk::DeviceMemory, bytes: &Range<u64>, image: &SharedMem) -> Result<()> {
        let to = lock(&self.memories).get(&memory).ok_or(Error::Invalid)?.buffer;
        let mut outbox = lock(&self.outbox);
        outbox.targets.push(memory);
        let mut at = bytes.start;
        while at < bytes.end {
            let zero = is_zero(image, at, bytes.end);
            let mut end = at;
            while end < bytes.end && is_zero(image, end, bytes.end) == zero {
                end = ((end / PIECE + 1) * PIECE).min(bytes.end);
            }
            let from = if zero { None } else { Some(self.stage(&mut outbox, image, &(at..end))?) };
            outbox.copies.push(Copy { from, to, at, size: end - at });
            at = end;
        }
        Ok(())
    }

    /// Puts bytes of an image into staging memory.
    fn stage(&self, outbox: &mut Outbox, image: &SharedMem, bytes: &Range<u64>) -> Result<(vk::Buffer, u64)> {
        let len = bytes.end - bytes.start;
        let room = outbox.blocks.last().map_or(0, |block| block.bytes.len() as u64 - outbox.used);
        if room < len {
            let block = self.staging.take(len.max(BLOCK), Direction::Up).map_err(km_error)?;
            outbox.blocks.push(block);
            outbox.used = 0;
        }
        let block = outbox.blocks.last().ok_or(Error::NoMemory)?;
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        block.bytes.copy_span(size(outbox.used), image, size(bytes.start), size(len));
        let from = (block.buffer, outbox.used);
        outbox.used += len;
        Ok(from)
    }

    /// Asks for bytes behind a batch of the next submission ([`kmd_sim::uapi::HostDevice::readback`]).
    pub fn readback(
        &self,
        timeline: vk::Semaphore,
        seqno: u64,
        parts: &[(vk::DeviceMemory, Range<u64>)],
        after: &[(vk::Semaphore, u64)],
    ) {
        let memories = lock(&self.memories);
        let part = |(memory, bytes): &(vk::DeviceMemory, Range<u64>)| {
            Some((*memory, memories.get(memory)?.buffer, bytes.clone()))
        };
        let parts = parts.iter().filter_map(part).collect();
        drop(memories);
        lock(&self.outbox).readbacks.push(Readback { timeline, seqno, parts, after: after.to_vec() });
    }

    /// Gives what came back behind a batch ([`kmd_sim::uapi::HostDevice::received`]).
    pub fn received(&self, timeline: vk::Semaphore, seqno: u64, op: &mut dyn FnMut(&SharedMem)) {
        let Some(arrival) = lock(&self.arrivals).remove(&(timeline, seqno)) else { return };
        match self.staging.invalidate(&arrival.block) {
            Ok(()) => arrival.for_each(op),
            Err(error) => log::error!("device writes are lost: {error}"),
        }
        self.arrived(arrival);
    }

    /// Takes back what was used to bring bytes to the CPU.
    fn arrived(&self, arrival: Arrival) {
        self.staging.give_back(arrival.block);
        lock(&self.completed).push((arrival.queue, arrival.commands));
    }

    /// Waits for values of timelines. They have been submitted, so this waits for nothing that the CPU does.
    fn wait(&self, values: &[(vk::Semaphore, u64)]) -> std::result::Result<(), vk::Result> {
        if values.is_empty() {
            return Ok(());
        }
        let (semaphores, values): (Vec<_>, Vec<_>) = values.iter().copied().unzip();
        let info = vk::SemaphoreWaitInfo::default().semaphores(&semaphores).values(&values);
        // SAFETY: timelines of ours, which live as long as the device.
        unsafe { (self.later.wait_semaphores)(self.fns.handle(), &raw const info, u64::MAX) }.result()
    }

    /// How far a timeline has come.
    fn ask(&self, timeline: vk::Semaphore) -> std::result::Result<u64, vk::Result> {
        let mut value = 0;
        // SAFETY: a timeline that is alive: ours, or in use by a batch of the application.
        unsafe { (self.later.get_semaphore_counter_value)(self.fns.handle(), timeline, &raw mut value) }
            .result_with_success(value)
    }

    /// How far a timeline has come, or less where the host cannot tell.
    fn counter(&self, timeline: vk::Semaphore) -> u64 {
        self.ask(timeline).unwrap_or(0)
    }

    /// Destroys what was made on the host's device, which is idle.
    pub fn destroy(&self) {
        self.set_refused(false);
        lock(&self.schedule).destroy(&self.staging);
        for (_, arrival) in lock(&self.arrivals).drain() {
            self.staging.give_back(arrival.block);
        }
        for block in lock(&self.outbox).blocks.drain(..) {
            self.staging.give_back(block);
        }
        self.staging.destroy();
        for (_, remote) in lock(&self.memories).drain() {
            self.discard_buffer(remote.buffer);
        }
        for (memory, buffer) in lock(&self.kept).drain(..) {
            self.discard_buffer(buffer);
            // SAFETY: the application has given it up, and the device is idle.
            unsafe { self.fns.free_memory(memory, None) };
        }
    }
}

/// Whether a whole piece of an image begins here, and is zero.
fn is_zero(image: &SharedMem, at: u64, end: u64) -> bool {
    let words = |bytes: u64| usize::try_from(bytes / 8).unwrap_or(usize::MAX);
    at.is_multiple_of(PIECE) && at + PIECE <= end && image.is_zero(words(at)..words(at + PIECE))
}

impl Arrival {
    /// Calls `op` with each part.
    fn for_each(&self, op: &mut dyn FnMut(&SharedMem)) {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        for part in &self.parts {
            op(&self.block.bytes.slice(size(part.start), size(part.end - part.start)));
        }
    }
}
