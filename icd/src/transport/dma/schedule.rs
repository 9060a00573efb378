//! When a batch is given to the host.
//!
//! The CPU may write memory after a batch that reads it was submitted, if the batch waits for a signal that
//! the CPU gives afterwards. Those bytes would have to overtake the batch. So the host is given a batch only
//! when everything that it waits for was signalled, or is to be signalled by a batch that the host has; until
//! then it is kept here, with all that follows on its queue. Then what goes to the host never waits for the
//! CPU, each batch only for earlier ones, and whoever must wait for the device can.

#![allow(unsafe_code, reason = "submits to the host")]

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use ash::vk;
use kmd_sim::uapi::BoId;

use super::batch::Batch;
use super::copies::Copier;
use super::held::Held;
use super::staging::{Block, Staging};
use super::{Dma, lock};
use crate::device::{DeviceState, QueueState};

/// How long somebody waits for what the host was not given, before he looks whether the host refused it
/// meanwhile, or lost the device.
const PATIENCE: Duration = Duration::from_millis(50);

/// Devices on which the host has refused something that had waited, and was not given it since.
static REFUSED: AtomicUsize = AtomicUsize::new(0);

/// Whether who asks what has happened on a device should [`Dma::retry`] first.
pub fn any_refused() -> bool {
    // A hint: who missed it asks again.
    REFUSED.load(Ordering::Relaxed) != 0
}

/// What the host was not given yet.
#[derive(Clone, Debug)]
enum Deferred {
    Batch(Batch),
    Fence(vk::Fence),
}

/// A queue.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) queue: Arc<QueueState>,
    pub(super) copier: Copier,
    /// Counts submissions of copies that are Lockstep's alone: of bytes to the device, or of what a map asks
    /// for.
    pub(super) sent: vk::Semaphore,
    pub(super) value: u64,
    /// Counts batches whose bytes are brought back by another; its last value.
    pub(super) executed: (vk::Semaphore, u64),
    /// How far the counters of other queues had come when this one last waited for them.
    pub(super) seen: HashMap<vk::Queue, u64>,
    /// What carried bytes, by value.
    pub(super) uploads: VecDeque<(u64, vk::CommandBuffer, Vec<Block>)>,
    deferred: VecDeque<Deferred>,
    /// The last batch of which completion is known.
    pub(super) last: Option<(vk::Semaphore, u64)>,
    /// The last one that waits for an event, which the CPU may set.
    pub(super) last_waiting: Option<(vk::Semaphore, u64)>,
}

/// The queues of a device, and what is known of its semaphores.
#[derive(Debug, Default)]
pub struct Schedule {
    pub(super) lines: HashMap<vk::Queue, Line>,
    /// Timelines of the application, and the highest value that the host will come to without the CPU.
    semaphores: HashMap<vk::Semaphore, u64>,
    /// Counts how often something that had waited was submitted, or refused.
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

    /// Whether the host has all that was submitted to a queue, or to all.
    fn is_drained(&self, queue: Option<vk::Queue>) -> bool {
        let is_meant = |handle: &vk::Queue| queue.is_none_or(|queue| queue == *handle);
        self.lines.iter().all(|(handle, line)| !is_meant(handle) || line.deferred.is_empty())
    }

    /// Remembers what a batch that the host has will signal.
    pub(super) fn signalled(&mut self, batch: &Batch) {
        batch.signals.iter().for_each(|signal| self.will_signal(signal.semaphore, signal.value));
    }

    /// Remembers what will be signalled without the CPU, or was.
    fn will_signal(&mut self, semaphore: vk::Semaphore, value: u64) {
        if let Some(known) = self.semaphores.get_mut(&semaphore) {
            *known = value.max(*known);
        }
    }
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
            if fence != vk::Fence::null() {
                line.deferred.push_back(Deferred::Fence(fence));
                self.held.add(fence);
            }
        }
        self.drain_later(&mut schedule);
        Ok(())
    }

    /// Has the host signal semaphores other than by a batch, and submits what waited for them.
    pub fn signal(
        &self,
        signals: &[(vk::Semaphore, u64)],
        signal: impl FnOnce() -> vk::Result,
    ) -> vk::Result {
        let mut schedule = self.schedule();
        let result = signal();
        if result == vk::Result::SUCCESS {
            signals.iter().for_each(|(semaphore, value)| schedule.will_signal(*semaphore, *value));
            self.drain_later(&mut schedule);
        }
        result
    }

    /// Waits by the host for what it may not have been given yet.
    pub fn wait_by(&self, timeout: u64, wait: impl Fn(u64) -> vk::Result) -> vk::Result {
        let mut left = timeout;
        loop {
            if let Err(error) = self.retry() {
                return error;
            }
            let patience = u64::try_from(PATIENCE.as_nanos()).unwrap_or(u64::MAX);
            // Who has the schedule may be waiting for the device.
            let drained = self.schedule.try_lock().is_ok_and(|schedule| schedule.is_drained(None));
            let now = if drained { left } else { left.min(patience) };
            let result = wait(now);
            if result != vk::Result::TIMEOUT || now == left {
                return result;
            }
            if let Ok(mut schedule) = self.schedule.try_lock()
                && let Err(error) = self.check_lost(&mut schedule)
            {
                return error;
            }
            left = if left == u64::MAX { left } else { left - now };
        }
    }

    /// Tries again to submit what had waited and was refused: whoever asks what has happened may wait for it.
    pub fn retry(&self) -> Result<(), vk::Result> {
        if self.refused.load(Ordering::Relaxed) { self.drain(&mut self.schedule()) } else { Ok(()) }
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
        while !schedule.is_drained(queue) {
            schedule = self.wait_changed(schedule)?;
        }
        let lines = schedule.lines.iter().filter(|(handle, _)| is_meant(handle));
        let last: Vec<_> = lines.filter_map(|(_, line)| line.last).collect();
        drop(schedule);
        self.wait(&last)
    }

    /// Waits for all batches that the host has, since nothing comes back from the middle of one. Not where
    /// one waits for an event that the CPU may be about to set.
    pub fn wait_in_flight(&self) -> Result<(), vk::Result> {
        let schedule = self.schedule();
        let waiting =
            |line: &Line| line.last_waiting.is_some_and(|(timeline, seqno)| self.counter(timeline) < seqno);
        if mutated!("dma-in-flight-waits") || schedule.lines.values().any(waiting) {
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
        if !missing.is_empty() && !mutated!("dma-fetch") {
            match self.fetch(&mut schedule, device, memory, &missing) {
                // What it wrote is undefined, what the CPU wrote is not.
                Err(vk::Result::ERROR_DEVICE_LOST) => {
                    log::warn!("memory of a lost device is mapped as last known");
                }
                result => result?,
            }
        }
        Ok(map())
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
        mutated!("dma-deferral")
            || batch.waits.iter().all(|wait| {
                // By valid usage, a binary semaphore is signalled by something that the host has already.
                let Some(known) = schedule.semaphores.get(&wait.semaphore) else { return true };
                let known = signals.get(&wait.semaphore).map_or(*known, |value| *known.max(value));
                wait.value <= known || wait.value <= self.counter(wait.semaphore)
            })
    }

    /// Submits what waited and need not any more. What a lost device will never be given is forgotten: its
    /// waits end. What the host refuses stays, and is tried again: the application was told that it was
    /// submitted.
    fn drain(&self, schedule: &mut Schedule) -> Result<(), vk::Result> {
        let result = self.drain_all(schedule);
        self.changed.notify_all();
        self.set_refused(result.is_err());
        result
    }

    /// Says whether something waits for the host to take it.
    pub(super) fn set_refused(&self, refused: bool) {
        match (self.refused.swap(refused, Ordering::Relaxed), refused) {
            (false, true) => _ = REFUSED.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = REFUSED.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Submits what waited and need not any more, for who has no business with it.
    fn drain_later(&self, schedule: &mut Schedule) {
        if let Err(error) = self.drain(schedule) {
            log::warn!("a batch that had waited is submitted later: {error}");
        }
    }

    fn drain_all(&self, schedule: &mut Schedule) -> Result<(), vk::Result> {
        let mut progress = true;
        while std::mem::take(&mut progress) {
            for handle in schedule.lines.keys().copied().collect::<Vec<_>>() {
                while let Some(result) = self.forward_one(schedule, handle) {
                    schedule.drained += 1;
                    match result {
                        Ok(()) => progress = true,
                        Err(vk::Result::ERROR_DEVICE_LOST) => self.forget_deferred(schedule),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits until the schedule has changed, or may have: not for ever, and not if the device is lost.
    fn wait_changed<'a>(
        &self,
        mut schedule: MutexGuard<'a, Schedule>,
    ) -> Result<MutexGuard<'a, Schedule>, vk::Result> {
        if self.refused.load(Ordering::Relaxed) {
            self.drain(&mut schedule)?;
        }
        self.check_lost(&mut schedule)?;
        let waited = self.changed.wait_timeout(schedule, PATIENCE);
        Ok(waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// How often something that had waited was submitted, or refused.
    pub fn drained(&self) -> u64 {
        self.schedule().drained
    }

    /// Waits until that has happened again; `false` if nothing is waiting.
    pub fn wait_drained(&self, seen: u64) -> Result<bool, vk::Result> {
        let mut schedule = self.schedule();
        while schedule.drained == seen {
            if schedule.is_drained(None) {
                return Ok(false);
            }
            schedule = self.wait_changed(schedule)?;
        }
        Ok(true)
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
        let (batches, fence) = match line.deferred.front()?.clone() {
            Deferred::Batch(batch) => (vec![batch], vk::Fence::null()),
            Deferred::Fence(fence) => (Vec::new(), fence),
        };
        let result = self.forward(schedule, &queue, batches, fence);
        if result.is_ok()
            && let Some(deferred) = schedule.lines.get_mut(&handle)?.deferred.pop_front()
        {
            self.release(&deferred);
        }
        Some(result)
    }

    /// Sees to it that nobody waits for what a lost device will never be given.
    fn check_lost(&self, schedule: &mut Schedule) -> Result<(), vk::Result> {
        if schedule.lines.values().any(|line| self.ask(line.sent) == Err(vk::Result::ERROR_DEVICE_LOST)) {
            self.forget_deferred(schedule);
            self.changed.notify_all();
            return Err(vk::Result::ERROR_DEVICE_LOST);
        }
        Ok(())
    }

    /// A lost device will never be given what was kept.
    fn forget_deferred(&self, schedule: &mut Schedule) {
        for deferred in schedule.lines.values_mut().flat_map(|line| line.deferred.drain(..)) {
            self.release(&deferred);
        }
    }

    /// What was kept is kept no more.
    fn release(&self, deferred: &Deferred) {
        if let Deferred::Fence(fence) = deferred {
            self.held.remove(*fence);
        }
    }

    /// Waits for fences by `host`, which is asked for those it has.
    pub fn wait_for_fences(
        &self,
        fences: &[vk::Fence],
        all: bool,
        timeout: u64,
        host: impl FnMut(&[vk::Fence], u64) -> vk::Result,
    ) -> vk::Result {
        self.held.wait(fences, all, timeout, host)
    }

    /// Whether the host was not given a fence yet. It is not kept for a lost device.
    pub fn holds(&self, fence: vk::Fence) -> Result<bool, vk::Result> {
        let holds = self.held.contains(fence);
        match self.schedule.try_lock() {
            Ok(mut schedule) if holds => self.check_lost(&mut schedule).map(|()| true),
            _ => Ok(holds),
        }
    }

    /// Whether any device holds a fence back.
    pub fn any_held() -> bool {
        Held::any()
    }
}
