//! Batches that begin late, on queues of our own over the one of the driver below.
//!
//! A queue's batches begin in order. Of the queues whose first batch may begin, the one that was submitted to
//! last goes first: what was submitted earlier elsewhere is overtaken. A batch may begin when all it waits
//! for is signalled, or will be by batches that have begun: the driver below runs those in order, and must
//! not get one it could not go past. It does begin when somebody waits, when [`CALLS`] further questions were
//! asked, or after [`PATIENCE`].

use std::collections::{HashMap, VecDeque};
use std::mem::MaybeUninit;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ash::vk::{self, Handle};

use crate::fail;
use crate::queue::Batch;

/// How many queues there are.
pub const QUEUES: u32 = 3;
/// How often a program must ask for something to happen before a batch begins that nobody waits for.
pub const CALLS: u64 = 5;
/// How long a batch is held back from a program that neither waits nor asks.
pub const PATIENCE: Duration = Duration::from_millis(4);

/// What the loader expects in the first word of a handle, and then writes there.
const LOADER_MAGIC: usize = 0x01CD_C0DE;

/// What is known of a semaphore.
#[derive(Debug)]
enum Semaphore {
    /// How many signals were begun and not waited for.
    Binary(i64),
    /// The value that is or will be reached by what has begun.
    Timeline(u64),
}

#[derive(Debug)]
struct Held {
    batch: Batch,
    seqno: u64,
    calls: u64,
    since: Instant,
}

#[derive(Debug, Default)]
struct State {
    queues: [VecDeque<Held>; QUEUES as usize],
    semaphores: HashMap<vk::Semaphore, Semaphore>,
    seqno: u64,
    calls: u64,
    waiters: u32,
    stop: bool,
}

struct Shared {
    state: Mutex<State>,
    /// There may be something to begin.
    work: Condvar,
    /// Something has begun.
    begun: Condvar,
    functions: ash::Device,
    below: vk::Queue,
}

/// The batches of a device that have not begun.
pub struct Delay {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
    /// What stands behind the handles of queues: the loader's word. Never freed: programs may look at them
    /// late.
    handles: &'static [usize; QUEUES as usize],
}

impl std::fmt::Debug for Delay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delay").finish_non_exhaustive()
    }
}

impl State {
    fn is_ready(&self, batch: &Batch) -> bool {
        batch.waits.iter().all(|(semaphore, value)| match self.semaphores.get(semaphore) {
            Some(Semaphore::Binary(signals)) => *signals > 0,
            Some(Semaphore::Timeline(reached)) => reached >= value,
            None => true,
        })
    }

    fn is_due(&self, held: &Held) -> bool {
        self.waiters > 0 || self.stop || self.calls >= held.calls || held.since.elapsed() >= PATIENCE
    }

    /// Takes out the batch to begin next.
    fn next(&mut self) -> Option<Batch> {
        let may = |held: &&Held| self.is_ready(&held.batch) && self.is_due(held);
        let last = |queue: &VecDeque<Held>| queue.back().map(|held| held.seqno);
        let queues = self.queues.iter().enumerate();
        let found = queues
            .filter(|(_, queue)| queue.front().as_ref().is_some_and(may))
            .max_by_key(|(_, queue)| last(queue));
        let (index, _) = found?;
        let held = self.queues[index].pop_front()?;
        for (semaphore, _) in &held.batch.waits {
            if let Some(Semaphore::Binary(signals)) = self.semaphores.get_mut(semaphore) {
                *signals -= 1;
            }
        }
        for (semaphore, value) in &held.batch.signals {
            self.signal(*semaphore, *value);
        }
        Some(held.batch)
    }

    fn signal(&mut self, semaphore: vk::Semaphore, value: u64) {
        match self.semaphores.get_mut(&semaphore) {
            Some(Semaphore::Binary(signals)) => *signals += 1,
            Some(Semaphore::Timeline(reached)) => *reached = value.max(*reached),
            None => {}
        }
    }

    fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    /// Whether all of one queue, or of all, that was submitted up to `seqno` has begun.
    fn has_begun(&self, queue: Option<usize>, seqno: u64) -> bool {
        let begun = |queue: &VecDeque<Held>| queue.front().is_none_or(|held| held.seqno > seqno);
        match queue {
            Some(index) => begun(&self.queues[index]),
            None => self.queues.iter().all(begun),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.state();
        loop {
            if let Some(batch) = state.next() {
                // Under the lock, which holds the queue.
                batch.submit(&self.functions, self.below);
                self.begun.notify_all();
                continue;
            }
            if state.stop {
                return;
            }
            state = if state.is_empty() {
                self.work.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.work.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    /// Waits until what was submitted to one queue, or to all, has begun.
    fn wait_begun(&self, queue: Option<usize>) -> MutexGuard<'_, State> {
        let mut state = self.state();
        let seqno = state.seqno;
        state.waiters += 1;
        self.work.notify_all();
        while !state.has_begun(queue, seqno) {
            state = self.begun.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiters -= 1;
        state
    }
}

/// Runs something in threads and calls that take no signals of the program's.
fn without_signals<T>(act: impl FnOnce() -> T) -> T {
    let mut old = MaybeUninit::uninit();
    // SAFETY: both sets are valid for the calls, and the old one is written before it is read.
    unsafe {
        let mut all = MaybeUninit::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
    }
    let result = act();
    // SAFETY: written above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old.as_ptr(), std::ptr::null_mut()) };
    result
}

impl Delay {
    /// Starts to hold back the work of a device that has a queue of family 0.
    pub fn start(functions: &ash::Device) -> Self {
        // SAFETY: valid usage: a device has a queue, and the driver below one family.
        let below = unsafe { functions.get_device_queue(0, 0) };
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            begun: Condvar::new(),
            functions: functions.clone(),
            below,
        });
        let theirs = Arc::clone(&shared);
        let worker = without_signals(|| std::thread::Builder::new().spawn(move || theirs.run()));
        let worker = worker.unwrap_or_else(|error| fail(format_args!("no thread: {error}")));
        let handles = Box::leak(Box::new([LOADER_MAGIC; QUEUES as usize]));
        Self { shared, worker: Mutex::new(Some(worker)), handles }
    }

    /// Ends; nothing is pending by valid usage.
    pub fn stop(&self) {
        self.shared.state().stop = true;
        self.shared.work.notify_all();
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if worker.is_some_and(|worker| worker.join().is_err()) {
            fail("the worker panicked");
        }
    }

    /// The handle of a queue.
    pub fn handle(&self, index: u32) -> vk::Queue {
        vk::Queue::from_raw((&raw const self.handles[index as usize]).addr() as u64)
    }

    /// Holds batches back.
    pub fn submit(&self, queue: usize, batches: Vec<Batch>) {
        let mut state = self.shared.state();
        for batch in batches {
            state.seqno += 1;
            let held = Held { batch, seqno: state.seqno, calls: state.calls + CALLS, since: Instant::now() };
            state.queues[queue].push_back(held);
        }
        self.shared.work.notify_all();
    }

    /// Whether a command buffer that is held back is one of those.
    pub fn holds(&self, is_one: impl Fn(vk::CommandBuffer) -> bool) -> bool {
        let state = self.shared.state();
        let mut held = state.queues.iter().flatten().flat_map(|held| &held.batch.commands);
        held.any(|commands| is_one(*commands))
    }

    /// Does something with the queue below behind all that was submitted to a queue.
    pub fn behind<T>(&self, queue: usize, act: impl FnOnce() -> T) -> T {
        let _state = self.shared.wait_begun(Some(queue));
        act()
    }

    /// Somebody asks whether something has happened.
    pub fn asked(&self) {
        let mut state = self.shared.state();
        state.calls += 1;
        self.shared.work.notify_all();
    }

    /// Waits by a function of the driver below.
    pub fn waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.shared.state().waiters += 1;
        self.shared.work.notify_all();
        let result = wait();
        self.shared.state().waiters -= 1;
        result
    }

    /// Waits until one queue, or all, are idle.
    pub fn wait_idle(&self, queue: Option<usize>) -> vk::Result {
        let functions = &self.shared.functions;
        self.waiting(|| {
            let wait = || {
                // SAFETY: the device is alive; the fence lives until it is signalled, and the queue is held.
                unsafe {
                    let fence = functions.create_fence(&vk::FenceCreateInfo::default(), None)?;
                    let state = self.shared.wait_begun(queue);
                    let submitted = functions.queue_submit(self.shared.below, &[], fence);
                    drop(state);
                    let result = submitted.and_then(|()| functions.wait_for_fences(&[fence], true, u64::MAX));
                    functions.destroy_fence(fence, None);
                    result
                }
            };
            wait().err().unwrap_or(vk::Result::SUCCESS)
        })
    }

    /// A semaphore was made: a timeline that stands at a value, or not.
    pub fn created(&self, semaphore: vk::Semaphore, timeline: Option<u64>) {
        let state = timeline.map_or(Semaphore::Binary(0), Semaphore::Timeline);
        self.shared.state().semaphores.insert(semaphore, state);
    }

    /// A semaphore is gone.
    pub fn destroyed(&self, semaphore: vk::Semaphore) {
        self.shared.state().semaphores.remove(&semaphore);
    }

    /// A semaphore was signalled by other than a batch.
    pub fn signalled(&self, semaphore: vk::Semaphore, value: u64) {
        self.shared.state().signal(semaphore, value);
        self.shared.work.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn semaphore(name: u64) -> vk::Semaphore {
        vk::Semaphore::from_raw(name)
    }

    impl State {
        fn hold(&mut self, queue: usize, waits: &[(u64, u64)], signals: &[(u64, u64)]) -> u64 {
            let list =
                |of: &[(u64, u64)]| of.iter().map(|(name, value)| (semaphore(*name), *value)).collect();
            self.seqno += 1;
            let fence = vk::Fence::from_raw(self.seqno);
            let batch = Batch { waits: list(waits), signals: list(signals), fence, ..Default::default() };
            let calls = self.calls + CALLS;
            let held = Held { batch, seqno: self.seqno, calls, since: Instant::now() + PATIENCE };
            self.queues[queue].push_back(held);
            self.seqno
        }

        fn begin_all(&mut self) -> Vec<u64> {
            std::iter::from_fn(|| self.next()).map(|batch| batch.fence.as_raw()).collect()
        }
    }

    #[test]
    fn nothing_begins_before_somebody_waits_or_asks() {
        let mut state = State::default();
        let first = state.hold(0, &[], &[]);
        assert!(state.begin_all().is_empty());
        state.calls += CALLS - 1;
        assert!(state.begin_all().is_empty());
        state.calls += 1;
        assert_eq!(state.begin_all(), [first]);
        let second = state.hold(0, &[], &[]);
        state.waiters = 1;
        assert_eq!(state.begin_all(), [second]);
    }

    #[test]
    fn the_queue_submitted_to_last_goes_first_and_each_in_order() {
        let mut state = State { waiters: 1, ..Default::default() };
        let [a, b, c] = [0, 1, 1].map(|queue| state.hold(queue, &[], &[]));
        assert_eq!(state.begin_all(), [b, c, a]);
    }

    #[test]
    fn a_batch_begins_behind_what_it_waits_for() {
        let mut state = State { waiters: 1, ..Default::default() };
        state.semaphores.insert(semaphore(1), Semaphore::Binary(0));
        state.semaphores.insert(semaphore(2), Semaphore::Timeline(0));
        let signals = state.hold(0, &[(2, 5)], &[(1, 0)]);
        let waits = state.hold(1, &[(1, 0)], &[]);
        let waits_again = state.hold(1, &[(1, 0)], &[]);
        assert!(state.begin_all().is_empty());
        assert!(!state.has_begun(Some(0), signals) && state.has_begun(Some(2), waits_again));
        state.signal(semaphore(2), 5);
        assert_eq!(state.begin_all(), [signals, waits]);
        assert!(state.has_begun(Some(1), waits) && !state.has_begun(None, waits_again));
    }
}
