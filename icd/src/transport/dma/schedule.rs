//! When a batch is given to the host, and what goes around it.
//!
//! The CPU may write memory after a batch that reads it was submitted, if the batch waits for a signal that the CPU
//! gives afterwards. Those bytes would have to overtake the batch. So the host is given a batch only when everything
//! that it waits for was signalled, or is to be signalled by a batch that the host has; until then it is kept here,
//! with all that follows on its queue. Then what goes to the host never waits for the CPU, each batch only for earlier
//! ones, and whoever must wait for the device can.
//!
//! A submission is: the CPU's writes; each batch, and behind it what it wrote; then what the application wants
//! signalled. Bytes that another queue carried are waited for.

#![allow(unsafe_code, reason = "submits to the host")]

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, MutexGuard, PoisonError};

use ash::vk;
use kmd_sim::uapi::{BoId, Writes};

use super::batch::{Batch, command, semaphore};
use super::copies::{Copier, Copy};
use super::staging::{Block, Direction, Staging};
use super::{Arrival, Dma, Outbox, Readback, lock};
use crate::device::{DeviceState, QueueState};
use crate::transport::vk_result;

const ALL: vk::PipelineStageFlags2 = vk::PipelineStageFlags2::ALL_COMMANDS;

/// What the host was not given yet.
#[derive(Debug)]
enum Deferred {
    Batch(Batch),
    Fence(vk::Fence),
}

/// A queue.
#[derive(Debug)]
struct Line {
    queue: Arc<QueueState>,
    copier: Copier,
    /// Counts submissions that carried bytes to the device.
    sent: vk::Semaphore,
    value: u64,
    /// Counts batches whose bytes are brought back by another; its last value.
    executed: (vk::Semaphore, u64),
    /// How far the counters of other queues had come when this one last waited for them.
    seen: HashMap<vk::Queue, u64>,
    /// What carried bytes, by value.
    uploads: VecDeque<(u64, vk::CommandBuffer, Vec<Block>)>,
    deferred: VecDeque<Deferred>,
    /// The last batch of which completion is known.
    last: Option<(vk::Semaphore, u64)>,
    /// The last one that waits for an event, which the CPU may set.
    last_waiting: Option<(vk::Semaphore, u64)>,
}

/// The queues of a device, and what is known of its semaphores.
#[derive(Debug, Default)]
pub struct Schedule {
    lines: HashMap<vk::Queue, Line>,
    /// Timelines of the application, and the highest value that the host will come to without the CPU.
    semaphores: HashMap<vk::Semaphore, u64>,
    /// Counts how often something that had waited was submitted.
    drained: u64,
}

impl Schedule {
    /// Destroys what was made on the host's device, which is idle.
    pub(super) fn destroy(&mut self, staging: &Staging) {
        for (_, line) in self.lines.drain() {
            line.copier.destroy();
            line.uploads
                .into_iter()
                .flat_map(|(_, _, blocks)| blocks)
                .for_each(|block| staging.give_back(block));
        }
    }

    fn signalled(&mut self, batch: &Batch) {
        for signal in &batch.signals {
            if let Some(known) = self.semaphores.get_mut(&signal.semaphore) {
                *known = signal.value.max(*known);
            }
        }
    }
}

/// A submission on its way.
#[derive(Debug, Default)]
struct Package {
    steps: Vec<Batch>,
    upload: Option<vk::CommandBuffer>,
    seen: Vec<(vk::Queue, u64)>,
    arrivals: Vec<(vk::Semaphore, u64)>,
    last: Option<(vk::Semaphore, u64)>,
}

impl Dma {
    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        lock(&self.schedule)
    }

    /// A timeline of the application was created.
    pub fn add_semaphore(&self, semaphore: vk::Semaphore, value: u64) {
        self.schedule().semaphores.insert(semaphore, value);
    }

    /// A semaphore is about to be destroyed.
    pub fn remove_semaphore(&self, semaphore: vk::Semaphore) {
        self.schedule().semaphores.remove(&semaphore);
    }

    /// Submits batches of the application, or keeps those that may wait for the CPU.
    pub fn submit(
        &self,
        queue: &Arc<QueueState>,
        batches: Vec<Batch>,
        fence: vk::Fence,
    ) -> Result<(), vk::Result> {
        let mut schedule = self.schedule();
        self.enter(&mut schedule, queue)?;
        let is_empty = schedule.lines[&queue.handle].deferred.is_empty();
        let mut ready = batches;
        let rest = ready.split_off(if is_empty { self.count_ready(&schedule, &ready) } else { 0 });
        let whole = is_empty && rest.is_empty();
        let fence_now = if whole { fence } else { vk::Fence::null() };
        if whole || !ready.is_empty() {
            self.forward(&mut schedule, queue, ready, fence_now)?;
        }
        if let (false, Some(line)) = (whole, schedule.lines.get_mut(&queue.handle)) {
            line.deferred.extend(rest.into_iter().map(Deferred::Batch));
            line.deferred.extend((fence != vk::Fence::null()).then_some(Deferred::Fence(fence)));
        }
        self.drain(&mut schedule);
        Ok(())
    }

    /// Signals a semaphore from the CPU, and submits what waited for it.
    pub fn signal(
        &self,
        info: &vk::SemaphoreSignalInfo<'_>,
        signal: impl FnOnce() -> vk::Result,
    ) -> vk::Result {
        let mut schedule = self.schedule();
        let result = signal();
        if result == vk::Result::SUCCESS {
            if let Some(known) = schedule.semaphores.get_mut(&info.semaphore) {
                *known = info.value.max(*known);
            }
            self.drain(&mut schedule);
        }
        result
    }

    /// Calls the host with queues that nobody else uses meanwhile: Lockstep submits from any thread.
    pub fn alone<R>(&self, op: impl FnOnce() -> R) -> R {
        let _schedule = self.schedule();
        op()
    }

    /// Waits until everything that was submitted to a queue, or all, has completed.
    pub fn wait_idle(&self, queue: Option<vk::Queue>) -> Result<(), vk::Result> {
        let is_meant = |handle: &vk::Queue| queue.is_none_or(|queue| queue == *handle);
        let mut schedule = self.schedule();
        while schedule.lines.iter().any(|(handle, line)| is_meant(handle) && !line.deferred.is_empty()) {
            schedule = self.changed.wait(schedule).unwrap_or_else(PoisonError::into_inner);
        }
        let lines = schedule.lines.iter().filter(|(handle, _)| is_meant(handle));
        let last: Vec<_> = lines.filter_map(|(_, line)| line.last).collect();
        drop(schedule);
        self.wait(&last)
    }

    /// Waits for all batches that the host has, since nothing comes back from the middle of one. Not where one waits for
    /// an event that the CPU may be about to set.
    pub fn wait_in_flight(&self) -> Result<(), vk::Result> {
        let schedule = self.schedule();
        let waiting =
            |line: &Line| line.last_waiting.is_some_and(|(timeline, seqno)| self.counter(timeline) < seqno);
        if schedule.lines.values().any(waiting) {
            return Ok(());
        }
        let last: Vec<_> = schedule.lines.values().filter_map(|line| line.last).collect();
        drop(schedule);
        self.wait(&last)
    }

    /// Maps a memory object: first its image is made to show what the device wrote while it was not mapped.
    pub fn map<R>(
        &self,
        device: &DeviceState,
        memory: vk::DeviceMemory,
        bo: BoId,
        map: impl FnOnce() -> R,
    ) -> Result<R, vk::Result> {
        // Nothing is submitted until it is mapped: later batches bring back what they write.
        let mut schedule = self.schedule();
        let missing = device.km.bo_missing(bo);
        if !missing.is_empty() {
            self.fetch(&mut schedule, device, memory, &missing)?;
        }
        Ok(map())
    }

    fn fetch(
        &self,
        schedule: &mut Schedule,
        device: &DeviceState,
        memory: vk::DeviceMemory,
        missing: &[Range<u64>],
    ) -> Result<(), vk::Result> {
        let waits = schedule.lines.values().filter_map(|line| line.last);
        let waits: Vec<_> = waits.map(|(timeline, value)| semaphore(timeline, value, ALL)).collect();
        // Without any, nothing was ever submitted.
        let Some(line) = schedule.lines.values_mut().next() else { return Ok(()) };
        let queue = line.queue.handle;
        let buffer = lock(&self.memories).get(&memory).map(|remote| remote.buffer);
        let Some(buffer) = buffer else { return Ok(()) };
        let (block, copies, parts) = self.land(missing.iter().map(|bytes| (buffer, bytes.clone())))?;
        let commands = line.copier.record(&copies)?;
        let value = line.value + 1;
        let mut step = Batch::of_commands(waits, commands, semaphore(line.sent, value, ALL));
        self.host_submit(queue, &mut [&mut step], vk::Fence::null())?;
        line.value = value;
        let sent = line.sent;
        line.uploads.push_back((value, commands, Vec::new()));
        self.wait(&[(sent, value)])?;
        // All that was under way has completed: it is put into images before this is.
        device.km.retire_completed();
        self.staging.invalidate(&block)?;
        let image = self.image(memory).map_err(vk_result)?;
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        for (bytes, part) in missing.iter().zip(&parts) {
            let len = size(bytes.end - bytes.start);
            image.copy_span(size(bytes.start), &block.bytes, size(part.start), len);
        }
        self.staging.give_back(block);
        Ok(())
    }

    fn enter(&self, schedule: &mut Schedule, queue: &Arc<QueueState>) -> Result<(), vk::Result> {
        if schedule.lines.contains_key(&queue.handle) {
            return Ok(());
        }
        let (sent, executed) = (queue.device.create_timeline()?, queue.device.create_timeline()?);
        let copier = Copier::new(self.fns.clone(), queue.family)?;
        let line = Line {
            queue: Arc::clone(queue),
            copier,
            sent,
            value: 0,
            executed: (executed, 0),
            seen: HashMap::new(),
            uploads: VecDeque::new(),
            deferred: VecDeque::new(),
            last: None,
            last_waiting: None,
        };
        schedule.lines.insert(queue.handle, line);
        Ok(())
    }

    /// How many of the first batches wait for nothing but the device.
    fn count_ready(&self, schedule: &Schedule, batches: &[Batch]) -> usize {
        let mut signals: HashMap<vk::Semaphore, u64> = HashMap::new();
        let mut count = 0;
        for batch in batches {
            if !self.is_ready(schedule, batch, &signals) {
                break;
            }
            signals.extend(batch.signals.iter().map(|signal| (signal.semaphore, signal.value)));
            count += 1;
        }
        count
    }

    fn is_ready(&self, schedule: &Schedule, batch: &Batch, signals: &HashMap<vk::Semaphore, u64>) -> bool {
        batch.waits.iter().all(|wait| {
            // By valid usage, a binary semaphore is signalled by something that the host has already.
            let Some(known) = schedule.semaphores.get(&wait.semaphore) else { return true };
            let known = signals.get(&wait.semaphore).map_or(*known, |value| *known.max(value));
            wait.value <= known || wait.value <= self.counter(wait.semaphore)
        })
    }

    /// Submits what waited and need not any more.
    fn drain(&self, schedule: &mut Schedule) {
        let mut progress = true;
        while std::mem::take(&mut progress) {
            for handle in schedule.lines.keys().copied().collect::<Vec<_>>() {
                while let Some(result) = self.forward_one(schedule, handle) {
                    if let Err(error) = result {
                        // It stays, and is tried again: the application was told that it was submitted.
                        log::error!("a batch that had waited could not be submitted: {error}");
                        return;
                    }
                    progress = true;
                    schedule.drained += 1;
                }
            }
        }
        self.changed.notify_all();
    }

    /// How often something that had waited was submitted.
    pub fn drained(&self) -> u64 {
        self.schedule().drained
    }

    /// Waits until that has happened again; `false` if nothing is waiting.
    pub fn wait_drained(&self, seen: u64) -> bool {
        let mut schedule = self.schedule();
        while schedule.drained == seen {
            if schedule.lines.values().all(|line| line.deferred.is_empty()) {
                return false;
            }
            schedule = self.changed.wait(schedule).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Submits the next batch of a queue that waited, if it need not any more.
    fn forward_one(&self, schedule: &mut Schedule, handle: vk::Queue) -> Option<Result<(), vk::Result>> {
        let line = &schedule.lines[&handle];
        let queue = Arc::clone(&line.queue);
        if let Deferred::Batch(batch) = line.deferred.front()?
            && !self.is_ready(schedule, batch, &HashMap::new())
        {
            return None;
        }
        let deferred = &mut schedule.lines.get_mut(&handle)?.deferred;
        let (batches, fence) = match deferred.pop_front()? {
            Deferred::Batch(batch) => (vec![batch], vk::Fence::null()),
            Deferred::Fence(fence) => (Vec::new(), fence),
        };
        Some(self.forward(schedule, &queue, batches, fence))
    }

    /// Gives batches to the host.
    fn forward(
        &self,
        schedule: &mut Schedule,
        queue: &Arc<QueueState>,
        batches: Vec<Batch>,
        fence: vk::Fence,
    ) -> Result<(), vk::Result> {
        let writes: Vec<Option<Writes>> = batches
            .iter()
            .map(|batch| queue.writes(batch.commands.iter().map(|info| info.command_buffer), false))
            .collect();
        let (context, timeline) = queue.context()?;
        let known: Vec<Writes> = writes.iter().flatten().cloned().collect();
        let km = &queue.device.km;
        let seqnos = match known.is_empty() {
            true => None,
            false => km.execbuf(context, &known).map_err(|error| {
                drop(self.take_outbox());
                vk_result(error)
            })?,
        };
        let mut outbox = self.take_outbox();
        let numbers = seqnos.clone().unwrap_or(0..0);
        let mut batches = batches;
        let mut package = Package::default();
        let result = self
            .pack(
                schedule,
                queue,
                &mut outbox,
                &mut package,
                &mut batches,
                (&writes, timeline, numbers.clone()),
                fence,
            )
            .and_then(|()| {
                self.host_submit(queue.handle, &mut package.steps.iter_mut().collect::<Vec<_>>(), fence)
            });
        if let Err(error) = result {
            self.unpack(schedule, queue, package);
            outbox.blocks.drain(..).for_each(|block| self.staging.give_back(block));
            km.revoke(context, &numbers);
            return Err(error);
        }
        batches.iter().for_each(|batch| schedule.signalled(batch));
        let waits_for_host = writes.iter().flatten().any(|writes| writes.gated);
        let Some(line) = schedule.lines.get_mut(&queue.handle) else { return Ok(()) };
        line.seen.extend(package.seen);
        line.last = package.last.or(line.last);
        if waits_for_host {
            line.last_waiting = line.last;
        }
        let mut memories = lock(&self.memories);
        let mut busy = |memory: &vk::DeviceMemory, timeline, value| {
            if let Some(remote) = memories.get_mut(memory) {
                remote.busy.insert(timeline, value);
            }
        };
        if let Some(commands) = package.upload {
            line.value += 1;
            outbox.targets.iter().for_each(|memory| busy(memory, line.sent, line.value));
            line.uploads.push_back((line.value, commands, outbox.blocks));
        }
        for readback in &outbox.readbacks {
            readback.parts.iter().for_each(|(memory, ..)| busy(memory, readback.timeline, readback.seqno));
        }
        Ok(())
    }

    fn take_outbox(&self) -> Outbox {
        std::mem::take(&mut lock(&self.outbox))
    }

    /// Puts together what the host is given.
    #[expect(clippy::too_many_arguments, reason = "two callers' worth of state, used once")]
    fn pack(
        &self,
        schedule: &mut Schedule,
        queue: &QueueState,
        outbox: &mut Outbox,
        package: &mut Package,
        batches: &mut [Batch],
        (writes, timeline, seqnos): (&[Option<Writes>], vk::Semaphore, Range<u64>),
        fence: vk::Fence,
    ) -> Result<(), vk::Result> {
        let others = schedule.lines.iter().filter(|(handle, _)| **handle != queue.handle);
        let sent: Vec<_> = others.map(|(handle, other)| (*handle, other.sent, other.value)).collect();
        let Some(line) = schedule.lines.get_mut(&queue.handle) else { return Ok(()) };
        self.recycle(line);
        let mut prologue = Batch::default();
        for (handle, other, value) in sent {
            if value > line.seen.get(&handle).copied().unwrap_or(0) {
                prologue.waits.push(semaphore(other, value, ALL));
                package.seen.push((handle, value));
            }
        }
        if !outbox.copies.is_empty() {
            for block in &outbox.blocks {
                self.staging.flush(block)?;
            }
            let commands = line.copier.record(&outbox.copies)?;
            package.upload = Some(commands);
            prologue.commands.push(command(commands, 0));
            prologue.signals.push(semaphore(line.sent, line.value + 1, ALL));
        }
        if !prologue.waits.is_empty() || !prologue.commands.is_empty() {
            package.steps.push(prologue);
        }
        let mut seqnos = seqnos;
        let mut ours_is_last = !package.steps.is_empty();
        for (batch, writes) in batches.iter_mut().zip(writes) {
            let own = batch.signals.clone();
            let mut step = std::mem::take(batch);
            // The application's signals stay with the batch, for those who want to know of them.
            batch.signals.clone_from(&own);
            let Some(seqno) = writes.as_ref().and_then(|_| seqnos.next()) else {
                package.steps.push(step);
                ours_is_last = false;
                continue;
            };
            let done = semaphore(timeline, seqno, ALL);
            package.last = Some((timeline, seqno));
            step.signals.clear();
            let signalling = step.signalling(own);
            match outbox.readbacks.iter().find(|readback| readback.seqno == seqno) {
                None => step.signals.push(done),
                Some(readback) => {
                    let commands = self.bring_back(line, queue, readback)?;
                    package.arrivals.push((timeline, seqno));
                    if self.apart || !readback.after.is_empty() {
                        line.executed.1 += 1;
                        let executed = semaphore(line.executed.0, line.executed.1, ALL);
                        step.signals.push(executed);
                        package.steps.push(std::mem::take(&mut step));
                        let after = readback.after.iter();
                        step.waits = after.map(|(other, value)| semaphore(*other, *value, ALL)).collect();
                        step.waits.push(executed);
                    }
                    step.commands.push(command(commands, 0));
                    step.signals.push(done);
                }
            }
            package.steps.push(step);
            ours_is_last = true;
            if !signalling.signals.is_empty() {
                package.steps.push(signalling);
                ours_is_last = false;
            }
        }
        if ours_is_last && fence != vk::Fence::null() {
            package.steps.push(Batch::default());
        }
        Ok(())
    }

    /// Takes apart what the host was not given.
    fn unpack(&self, schedule: &mut Schedule, queue: &QueueState, package: Package) {
        if let (Some(line), Some(commands)) = (schedule.lines.get_mut(&queue.handle), package.upload) {
            line.copier.give_back(commands);
        }
        for key in package.arrivals {
            let arrival = lock(&self.arrivals).remove(&key);
            arrival.into_iter().for_each(|arrival| self.arrived(arrival));
        }
    }

    /// Records copies to the CPU.
    fn bring_back(
        &self,
        line: &mut Line,
        queue: &QueueState,
        readback: &Readback,
    ) -> Result<vk::CommandBuffer, vk::Result> {
        let parts = readback.parts.iter().map(|(_, buffer, bytes)| (*buffer, bytes.clone()));
        let (block, copies, parts) = self.land(parts)?;
        let commands = line.copier.record(&copies)?;
        let arrival = Arrival { block, parts, queue: queue.handle, commands };
        lock(&self.arrivals).insert((readback.timeline, readback.seqno), arrival);
        Ok(commands)
    }

    /// Staging memory for bytes of buffers, copies to it, and where each lies there.
    fn land(
        &self,
        parts: impl Iterator<Item = (vk::Buffer, Range<u64>)>,
    ) -> Result<(Block, Vec<Copy>, Vec<Range<u64>>), vk::Result> {
        let (mut copies, mut places, mut used) = (Vec::new(), Vec::new(), 0);
        for (buffer, bytes) in parts {
            let size = bytes.end - bytes.start;
            copies.push((buffer, bytes.start, used, size));
            places.push(used..used + size);
            used = (used + size).next_multiple_of(8);
        }
        let block = self.staging.take(used, Direction::Down)?;
        let to = block.buffer;
        let copies = copies.into_iter();
        let copies = copies.map(|(buffer, from, at, size)| Copy { from: Some((buffer, from)), to, at, size });
        Ok((block, copies.collect(), places))
    }

    /// Takes back what the device is done with.
    fn recycle(&self, line: &mut Line) {
        if !line.uploads.is_empty() {
            let done = self.counter(line.sent);
            while let Some((_, commands, blocks)) = line.uploads.pop_front_if(|(value, ..)| *value <= done) {
                line.copier.give_back(commands);
                blocks.into_iter().for_each(|block| self.staging.give_back(block));
            }
        }
        let handle = line.queue.handle;
        for (_, commands) in lock(&self.completed).extract_if(.., |(queue, _)| *queue == handle) {
            line.copier.give_back(commands);
        }
    }

    fn host_submit(
        &self,
        queue: vk::Queue,
        steps: &mut [&mut Batch],
        fence: vk::Fence,
    ) -> Result<(), vk::Result> {
        if steps.is_empty() && fence == vk::Fence::null() {
            return Ok(());
        }
        let infos: Vec<_> = steps.iter_mut().map(|step| step.info()).collect();
        let count = u32::try_from(infos.len()).unwrap_or(u32::MAX);
        // SAFETY: batches of the application and ours, which live until the call returns; nobody else uses the queue
        // while the schedule is held.
        unsafe { (self.later.queue_submit2)(queue, count, infos.as_ptr(), fence) }.result()
    }
}
