//! Sequence numbers, and what becomes visible when they pass (kernel: `vmwgfx_fence.c`).
//!
//! A *context* is a queue: its batches complete in order and count up one timeline. A batch that may write
//! guest memory carries a fence with its write set until the CPU has been given those writes.

use std::collections::VecDeque;
use std::ops::Range;

use super::bo::BoId;
use super::bound::Reach;
use super::image::Part;
use super::write_set::{WriteSet, Writes};
use crate::sync::machine::AtomicU64 as MachineU64;
use crate::sync::{Arc, AtomicU64, Ordering};

/// Fences of all devices of the process whose writes the CPU may not see yet.
static UNRETIRED: MachineU64 = MachineU64::new(0);

/// Whether the CPU sees the writes of every batch of the process that was submitted before: for who polls,
/// and wants to know of nothing else.
pub fn all_retired() -> bool {
    // Pairs with `Taken::retire`: who sees the count sees the bytes.
    UNRETIRED.load(Ordering::Acquire) == 0
}

/// A batch that has completed, and of which something was brought back.
#[derive(Debug)]
pub struct Passed<T> {
    /// The counter of its context.
    pub timeline: T,
    /// Its number.
    pub seqno: u64,
    /// The number of its submission.
    pub order: u64,
    /// What was brought back.
    pub parts: Vec<Part>,
}

/// Fences that were taken out to be pulled.
#[derive(Debug, Default)]
pub struct Taken {
    count: u64,
    /// What their batches may write, each set once.
    pub sets: Vec<Arc<WriteSet>>,
    /// Those of which something was brought back: number, number of the submission, what.
    back: Vec<(u64, u64, Vec<Part>)>,
}

impl Taken {
    fn add(&mut self, fence: Fence) {
        self.count += 1;
        add_once(&mut self.sets, &fence);
        if !fence.parts.is_empty() {
            self.back.push((fence.seqno, fence.order, fence.parts));
        }
    }

    /// Takes out what was brought back; all of it belongs to a context with this timeline.
    pub fn back<T: Copy>(&mut self, timeline: T) -> impl Iterator<Item = Passed<T>> {
        self.back.drain(..).map(move |(seqno, order, parts)| Passed { timeline, seqno, order, parts })
    }

    /// The CPU sees their writes.
    pub fn retire(self) {
        UNRETIRED.fetch_sub(self.count, Ordering::Release);
    }
}

/// Names a context of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextId(pub usize);

/// The part of a context that is read without the reservation.
#[derive(Debug)]
pub struct Context<T> {
    /// The device's counter.
    pub timeline: T,
    submitted: AtomicU64,
    retired: AtomicU64,
}

impl<T> Context<T> {
    /// A context that has submitted nothing.
    pub fn new(timeline: T) -> Self {
        Self { timeline, submitted: AtomicU64::new(0), retired: AtomicU64::new(0) }
    }

    /// The last sequence number given out.
    pub fn submitted(&self) -> u64 {
        // Pairs with the store in `submit`.
        self.submitted.load(Ordering::Acquire)
    }

    /// The last sequence number whose writes the CPU sees.
    pub fn retired(&self) -> u64 {
        // Pairs with the store in `retire`: who sees the number sees the bytes.
        self.retired.load(Ordering::Acquire)
    }

    /// Gives out `count` sequence numbers. Called under the reservation.
    pub fn submit(&self, count: u64) -> Range<u64> {
        let first = self.submitted() + 1;
        self.submitted.store(first + count - 1, Ordering::Release);
        first..first + count
    }

    /// Says that the CPU sees all writes up to `seqno`. Called under the reservation.
    pub fn retire(&self, seqno: u64) {
        if seqno > self.retired() {
            self.retired.store(seqno, Ordering::Release);
        }
    }
}

/// The fence of a batch that was not retired.
#[derive(Debug)]
pub struct Fence {
    /// Its number.
    pub seqno: u64,
    /// What the batch may write, known at submission.
    set: Arc<WriteSet>,
    /// What came within its reach later.
    late: Vec<Arc<WriteSet>>,
    by_address: bool,
    anything: bool,
    gated: bool,
    /// The CPU was told of something in the middle of the batch: it may write what the batch wrote before.
    reported: bool,
    /// The number of its submission, among those of the device.
    order: u64,
    /// What is brought back behind it.
    parts: Vec<Part>,
}

impl Fence {
    /// The fence of a batch that may write `set`, which was made of `writes`.
    pub fn new(seqno: u64, set: Arc<WriteSet>, writes: &Writes, order: u64, parts: Vec<Part>) -> Self {
        let Writes { by_address, anything, gated, .. } = *writes;
        Self { seqno, set, late: Vec::new(), by_address, anything, gated, reported: false, order, parts }
    }

    /// Whether anybody would ask for the fence of a batch.
    pub fn is_needed(set: &WriteSet, writes: &Writes) -> bool {
        !set.is_empty() || writes.by_address || writes.anything || writes.gated
    }

    /// What the batch may write. `true`: the CPU may write parts even of what is exact.
    fn sets(&self) -> impl Iterator<Item = (&Arc<WriteSet>, bool)> {
        std::iter::once(&self.set).chain(&self.late).map(|set| (set, self.reported))
    }

    fn reaches(&self, reach: Reach) -> bool {
        self.anything || (self.by_address && reach == Reach::Addressed)
    }
}

/// The fences of one context, oldest first. Held under the reservation.
#[derive(Debug, Default)]
pub struct FenceQueue {
    pending: VecDeque<Fence>,
}

impl FenceQueue {
    /// Adds a fence, of a later batch than all others.
    pub fn push(&mut self, fence: Fence) {
        // Before the batch is submitted, so before anybody can learn of its completion.
        UNRETIRED.fetch_add(1, Ordering::Relaxed);
        self.pending.push_back(fence);
    }

    /// Whether every fence was retired.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether a batch may be waiting for the CPU.
    pub fn is_gated(&self) -> bool {
        self.pending.iter().any(|fence| fence.gated)
    }

    /// Takes out the fences that have passed.
    pub fn take_passed(&mut self, seqno: u64, taken: &mut Taken) {
        while let Some(fence) = self.pending.pop_front_if(|fence| fence.seqno <= seqno) {
            taken.add(fence);
        }
    }

    /// Takes out the fences of some batches.
    pub fn take(&mut self, seqnos: &Range<u64>) -> Taken {
        let mut taken = Taken::default();
        let (take, left) = self.pending.drain(..).partition(|fence| seqnos.contains(&fence.seqno));
        self.pending = left;
        let take: VecDeque<Fence> = take;
        take.into_iter().for_each(|fence| taken.add(fence));
        taken
    }

    /// The number of the oldest submission that was not retired.
    pub fn oldest(&self) -> Option<u64> {
        self.pending.front().map(|fence| fence.order)
    }

    /// Whether something is brought back behind a batch.
    pub fn brings_back(&self) -> bool {
        self.pending.iter().any(|fence| !fence.parts.is_empty())
    }

    /// The last batch of which something is brought back that overlaps `parts`.
    pub fn last_overlapping(&self, parts: &[Part]) -> Option<u64> {
        let overlaps = |(id, bytes): &(BoId, Range<u64>)| {
            parts.iter().any(|(other, part)| id == other && part.start < bytes.end && bytes.start < part.end)
        };
        self.pending.iter().rev().find(|fence| fence.parts.iter().any(overlaps)).map(|fence| fence.seqno)
    }

    /// What is brought back behind a batch.
    pub fn parts(&self, seqno: u64) -> &[Part] {
        self.pending.iter().find(|fence| fence.seqno == seqno).map_or(&[], |fence| &fence.parts)
    }

    /// Whether a pending batch reaches what comes within `reach` now.
    pub fn reaches(&self, reach: Reach) -> bool {
        self.pending.iter().any(|fence| fence.reaches(reach))
    }

    /// Adds to what every pending batch may write that has this reach.
    pub fn extend(&mut self, reach: Reach, writes: &Arc<WriteSet>) {
        for fence in self.pending.iter_mut().filter(|fence| fence.reaches(reach)) {
            fence.late.push(Arc::clone(writes));
        }
    }

    /// The write sets of all fences that are left. `true`: the CPU may write parts even of what is exact.
    pub fn sets(&self) -> impl Iterator<Item = (&Arc<WriteSet>, bool)> {
        self.pending.iter().flat_map(Fence::sets)
    }

    /// The CPU is told of something in the middle of a batch, whichever it is: collects the write sets of all
    /// fences that are left, each once.
    pub fn report(&mut self, sets: &mut Vec<Arc<WriteSet>>) {
        for fence in &mut self.pending {
            fence.reported = true;
            add_once(sets, fence);
        }
    }
}

impl Drop for FenceQueue {
    fn drop(&mut self) {
        Taken { count: self.pending.len() as u64, ..Taken::default() }.retire();
    }
}

fn add_once(sets: &mut Vec<Arc<WriteSet>>, fence: &Fence) {
    for (set, _) in fence.sets() {
        if !sets.iter().any(|other| Arc::ptr_eq(other, set)) {
            sets.push(Arc::clone(set));
        }
    }
}
