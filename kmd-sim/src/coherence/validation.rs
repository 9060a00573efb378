//! Before a batch is submitted (kernel: `vmwgfx_validation.c`): what may it write, and is every page of
//! that ready for it?
//!
//! What is bound changes rarely: the bytes within each [`Reach`] are worked out when it does, not for every
//! batch. What comes within reach of a batch that is pending joins its write set.

use std::collections::BTreeSet;
use std::ops::Range;

use rangemap::RangeSet;

use super::bo::{BoId, Sync};
use super::bound::Reach;
use super::fence::FenceQueue;
use super::page::{PageState, in_page};
use super::state::State;
use super::write_set::{Extent, Piece, Pieces, Write, WriteSet, Writes};
use crate::addr::{PAGE_SIZE, pages_of};
use crate::svga::HostDevice;
use crate::sync::Arc;
use crate::sys::pages::to_usize;

/// All bytes within one [`Reach`].
#[derive(Debug, Default)]
pub(super) struct Blanket {
    /// `None` when it must be worked out.
    set: Option<Arc<WriteSet>>,
    /// Objects whose pages may not be ready for it.
    unready: BTreeSet<BoId>,
}

impl<H: HostDevice> State<H> {
    /// The write set of a batch.
    pub(super) fn write_set(&mut self, writes: &Writes) -> Arc<WriteSet> {
        let reach = match (writes.anything, writes.by_address) {
            (true, _) => Some(Reach::Anything),
            (false, true) => Some(Reach::Addressed),
            (false, false) => None,
        };
        let mut list: Vec<Write> = writes.ranges.iter().filter_map(|write| self.coherent(write)).collect();
        if let Some(reach) = reach {
            let blanket = self.blanket(reach);
            if list.iter().all(|write| blanket.contains(write)) {
                return blanket;
            }
            list.extend(blanket.writes());
        }
        let set = WriteSet::new(list);
        match &self.last_set {
            Some(last) if **last == set => Arc::clone(last),
            _ => Arc::clone(self.last_set.insert(Arc::new(set))),
        }
    }

    /// Makes all pages of a write set ready, before the batch is submitted. `gated`: until the CPU gives a
    /// signal it may write what is exact, too. Returns what the batch may write.
    pub(super) fn validate(&mut self, set: &Arc<WriteSet>, gated: bool) -> Arc<WriteSet> {
        let set = if gated { set.inexact() } else { Arc::clone(set) };
        self.stats.write_set_bytes += set.bytes();
        self.stats.exact_bytes += set.exact_bytes();
        let is_set =
            |blanket: &&mut Blanket| blanket.set.as_ref().is_some_and(|same| Arc::ptr_eq(same, &set));
        if let Some(blanket) = self.blankets.iter_mut().find(is_set) {
            for id in std::mem::take(&mut blanket.unready) {
                if let Some(pieces) = set.pieces(id) {
                    self.prepare(id, pieces, false);
                }
            }
        } else {
            for (id, pieces) in set.objects() {
                self.prepare(id, pieces, false);
            }
        }
        set
    }

    /// Gives batches in flight what just came within reach, if they have it. They do not know of it yet, so
    /// its pages are made ready in time.
    pub(super) fn extend_pending(&mut self, write: &Write, reach: Reach) {
        if !self.fences.iter().any(|fences| fences.reaches(reach)) {
            return;
        }
        let Some(write) = self.coherent(write) else { return };
        let id = write.bo;
        let late = Arc::new(WriteSet::new(vec![write]));
        let Some(pieces) = late.pieces(id) else { return };
        self.prepare(id, pieces, true);
        self.fences.iter_mut().for_each(|fences| fences.extend(reach, &late));
    }

    /// The bytes within a reach must be worked out again: those of an object changed, or it is gone.
    pub(super) fn invalidate_reach(&mut self, id: BoId) {
        self.blankets.iter_mut().for_each(|blanket| blanket.set = None);
        if let Some(bo) = self.bos.get_mut(&id) {
            bo.reach = [None, None];
            self.unready(id);
        } else {
            self.blankets.iter_mut().for_each(|blanket| _ = blanket.unready.remove(&id));
        }
    }

    /// The pages of an object must be made ready again.
    pub(super) fn unready(&mut self, id: BoId) {
        self.blankets.iter_mut().for_each(|blanket| _ = blanket.unready.insert(id));
    }

    /// The bytes of an object that were submitted for writing and that its guest pages do not show yet.
    pub(super) fn pending(&self, id: BoId) -> RangeSet<u64> {
        match self.bos.get(&id) {
            Some(bo) if bo.mapped => {
                let mut pending = self.in_flight(id, |_, _| true);
                pending.extend(bo.stale.iter().cloned());
                pending
            }
            Some(bo) => bo.stale.clone(),
            None => RangeSet::new(),
        }
    }

    /// The bytes of an object in flight of which the CPU may write a part meanwhile.
    pub(super) fn contested(&self, id: BoId) -> RangeSet<u64> {
        self.in_flight(id, |piece, reported| reported || piece.extent == Extent::Within)
    }

    /// The bytes of an object in pieces of batches in flight that are such.
    pub(super) fn in_flight(&self, id: BoId, is: impl Fn(&Piece, bool) -> bool) -> RangeSet<u64> {
        let mut seen: Vec<(&Pieces, bool)> = Vec::new();
        let mut bytes = RangeSet::new();
        for (set, reported) in self.fences.iter().flat_map(FenceQueue::sets) {
            let Some(pieces) = set.pieces(id) else { continue };
            if !seen.iter().any(|(other, before)| Arc::ptr_eq(other, pieces) && *before == reported) {
                seen.push((pieces, reported));
                bytes.extend(
                    pieces.iter().filter(|piece| is(piece, reported)).map(|piece| piece.bytes.clone()),
                );
            }
        }
        bytes
    }

    /// A write as far as it concerns the pages of a coherent object.
    fn coherent(&mut self, write: &Write) -> Option<Write> {
        let bo = self.bos.get_mut(&write.bo)?;
        bo.device_written |= bo.sync == Sync::Explicit;
        let bytes = write.bytes.start..write.bytes.end.min(bo.tbo.size());
        (bo.sync == Sync::Coherent && !bytes.is_empty()).then(|| Write { bytes, ..write.clone() })
    }

    fn blanket(&mut self, reach: Reach) -> Arc<WriteSet> {
        if let Some(set) = &self.blankets[reach as usize].set {
            return Arc::clone(set);
        }
        let mut objects = Vec::new();
        for (id, bo) in &mut self.bos {
            let pieces = bo.reach[reach as usize].get_or_insert_with(|| bo.resources.reach(reach).into());
            match bo.sync {
                _ if pieces.is_empty() => {}
                Sync::Coherent => objects.push((*id, Arc::clone(pieces))),
                Sync::Explicit => bo.device_written = true,
            }
        }
        let set = Arc::new(WriteSet::of_objects(objects));
        Arc::clone(self.blankets[reach as usize].set.insert(set))
    }

    /// Makes the pages of an object ready for a batch that may write `pieces`. `late`: it is pending already,
    /// and nothing was flushed before.
    fn prepare(&mut self, id: BoId, pieces: &Pieces, late: bool) {
        let Some(bo) = self.bos.get(&id) else { return };
        let mapped = bo.mapped;
        // What was ready for such a batch before, as most of it was, is so still.
        let is_shared = |piece: &Piece| {
            let pages = pages_of(&piece.bytes);
            let states = bo.mapping.as_ref().map(|mapping| &mapping.pages);
            let states = states.and_then(|states| states.get(to_usize(pages.start)..to_usize(pages.end)));
            states.is_some_and(|states| states.iter().all(|state| *state == PageState::Shared))
        };
        if mapped && pieces.iter().all(is_shared) {
            return;
        }
        // The CPU cannot write what is not mapped, and what it wrote before was flushed.
        let contested = |piece: &&Piece| (mapped || late) && piece.extent == Extent::Within;
        let unshared = self.pages_in(id, pieces.iter().filter(contested), |state| state != PageState::Shared);
        if !unshared.is_empty() {
            let pending = self.pending(id);
            for page in unshared {
                let parts = parts(&pending, page);
                self.with_page(id, page, |page| page.share(&parts));
            }
        }
        for page in self.pages_in(id, pieces.iter(), |state| state == PageState::Fresh) {
            let bytes = parts_of(pieces, page);
            self.with_page(id, page, |page| page.claim(&bytes));
        }
        if let Some(bo) = self.bos.get_mut(&id).filter(|bo| !bo.mapped) {
            bo.stale.extend(pieces.iter().map(|piece| piece.bytes.clone()));
        }
    }

    /// The pages of an object with a byte of `pieces` and a state that `is`.
    fn pages_in<'a>(
        &self,
        id: BoId,
        pieces: impl Iterator<Item = &'a Piece>,
        is: impl Fn(PageState) -> bool,
    ) -> Vec<u64> {
        let mapping = self.bos.get(&id).and_then(|bo| bo.mapping.as_ref());
        let Some(states) = mapping.map(|mapping| &mapping.pages) else { return Vec::new() };
        pages_of_all(pieces.map(|piece| &piece.bytes)).filter(|page| is(states[to_usize(*page)])).collect()
    }
}

/// The pages with a byte of ascending ranges, each once.
pub(super) fn pages_of_all<'a>(ranges: impl Iterator<Item = &'a Range<u64>>) -> impl Iterator<Item = u64> {
    let mut next = 0;
    ranges.flat_map(move |bytes| {
        let pages = pages_of(bytes);
        let fresh = pages.start.max(next)..pages.end;
        next = next.max(pages.end);
        fresh
    })
}

/// The parts of ranges that lie in a page, from its start.
pub(super) fn parts(ranges: &RangeSet<u64>, page: u64) -> Vec<Range<usize>> {
    let bytes = page * PAGE_SIZE..(page + 1) * PAGE_SIZE;
    ranges.overlapping(&bytes).map(|range| in_page(range, page)).collect()
}

/// The parts of pieces that lie in a page, from its start.
fn parts_of(pieces: &[Piece], page: u64) -> Vec<Range<usize>> {
    let bytes = page * PAGE_SIZE..(page + 1) * PAGE_SIZE;
    let from = pieces.partition_point(|piece| piece.bytes.end <= bytes.start);
    let inside = pieces[from..].iter().take_while(|piece| piece.bytes.start < bytes.end);
    inside.map(|piece| in_page(&piece.bytes, page)).collect()
}
