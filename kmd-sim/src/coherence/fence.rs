//! Sequence numbers, and what becomes visible when they pass (kernel: `vmwgfx_fence.c`).
//!
//! A *context* is a queue: its batches complete in order and count up one timeline. A batch that may write
//! guest memory carries a fence with its write set until the CPU has been given those writes.

use std::collections::VecDeque;
use std::ops::Range;

use super::bo::BoId;
use crate::sync::{Arc, AtomicU64, Ordering};

/// Names a context of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextId(pub usize);

/// What a batch may write: pages of buffer objects, an upper bound.
#[derive(Debug, Default)]
pub struct WriteSet {
    /// Runs of page indices inside each object.
    pub ranges: Vec<(BoId, Arc<[Range<u64>]>)>,
}

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

    fn submit(&self, seqno: u64) {
        self.submitted.store(seqno, Ordering::Release);
    }

    /// Says that the CPU sees all writes up to `seqno`. Called under the reservation.
    pub fn retire(&self, seqno: u64) {
        if seqno > self.retired() {
            self.retired.store(seqno, Ordering::Release);
        }
    }
}

/// A fence that has not been retired.
#[derive(Debug)]
struct Fence {
    seqno: u64,
    /// The set at submission, and what was bound later within reach of the batch.
    writes: Vec<Arc<WriteSet>>,
}

/// The fences of one context, oldest first. Held under the reservation.
#[derive(Debug, Default)]
pub struct FenceQueue {
    pending: VecDeque<Fence>,
}

impl FenceQueue {
    /// Gives out `count` sequence numbers, one a batch, all with the same write set.
    pub fn create<T>(&mut self, context: &Context<T>, count: u64, writes: &Arc<WriteSet>) -> Range<u64> {
        let first = context.submitted() + 1;
        let seqnos = first..first + count;
        self.pending.extend(seqnos.clone().map(|seqno| Fence { seqno, writes: vec![Arc::clone(writes)] }));
        context.submit(seqnos.end - 1);
        seqnos
    }

    /// Whether every fence was retired.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Takes out the fences that have passed and collects their write sets, each once.
    pub fn take_passed(&mut self, seqno: u64, sets: &mut Vec<Arc<WriteSet>>) {
        while let Some(fence) = self.pending.pop_front_if(|fence| fence.seqno <= seqno) {
            add_once(sets, &fence.writes);
        }
    }

    /// Adds to what every pending batch may write.
    pub fn extend_pending(&mut self, writes: &Arc<WriteSet>) {
        for fence in &mut self.pending {
            fence.writes.push(Arc::clone(writes));
        }
    }

    /// Collects the write sets of all fences that are left, each once.
    pub fn collect_pending(&self, sets: &mut Vec<Arc<WriteSet>>) {
        for fence in &self.pending {
            add_once(sets, &fence.writes);
        }
    }
}

fn add_once(sets: &mut Vec<Arc<WriteSet>>, more: &[Arc<WriteSet>]) {
    for set in more {
        if !sets.iter().any(|other| Arc::ptr_eq(other, set)) {
            sets.push(Arc::clone(set));
        }
    }
}
