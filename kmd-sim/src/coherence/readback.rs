//! What the device wrote, taken over to guest pages.
//!
//! Only what is mapped is looked at, and of that only what is not left behind ([`super::lazy`]). Of an object
//! that is not, it is remembered which bytes are stale, and they follow when it is mapped.

use std::ops::Range;
use std::time::Instant;

use rangemap::RangeSet;

use super::bo::BoId;
use super::page::PageState;
use super::state::{State, nanos_since};
use super::validation::{pages_of_all, parts};
use super::write_set::{Pieces, WriteSet};
use crate::addr::PAGE_SIZE;
use crate::svga::HostDevice;
use crate::sync::Arc;
use crate::trace::{Args, Event};

impl<H: HostDevice> State<H> {
    /// Takes over what completed batches wrote.
    pub(super) fn pull(&mut self, sets: &[Arc<WriteSet>]) {
        self.pull_sets(sets, false);
    }

    /// Takes over what batches have written so far. The CPU is told of it and may write it from now on.
    pub(super) fn pull_in_flight(&mut self) {
        let mut sets = Vec::new();
        self.fences.iter_mut().for_each(|fences| fences.report(&mut sets));
        self.pull_sets(&sets, true);
    }

    fn pull_sets(&mut self, sets: &[Arc<WriteSet>], in_flight: bool) {
        if sets.is_empty() {
            return;
        }
        let (start, before) = (Instant::now(), self.stats.bytes_pulled);
        let union = match sets {
            [set] => Arc::clone(set),
            sets => Arc::new(WriteSet::union(sets.iter().flat_map(|set| self.mapped_in(set)))),
        };
        for (id, pieces) in self.mapped_in(&union) {
            let ranges = pieces.iter().map(|piece| &piece.bytes);
            if in_flight {
                let (contested, pending) = (self.in_flight(id, |_, _| true), self.pending(id));
                self.share(id, &contested, &pending);
                self.pull_ranges(id, ranges);
            } else {
                self.take_over(id, ranges);
            }
        }
        self.stats.pulls += 1;
        let took = nanos_since(start);
        self.stats.pull_ns += took;
        let args = Args { bytes: self.stats.bytes_pulled - before, ..Args::default() };
        self.origin.record(Event::Pull, 0, start, took, args);
    }

    /// Shows the device's writes in the guest pages of an object that was mapped before. What is in flight
    /// follows when it completes.
    pub(super) fn refresh(&mut self, id: BoId) {
        let Some(bo) = self.bos.get_mut(&id) else { return };
        let stale = std::mem::take(&mut bo.stale);
        if !stale.is_empty() {
            // The CPU may write these pages from now on.
            let contested = self.contested(id);
            self.share(id, &contested, &stale);
            let stale: Vec<_> = stale.into_iter().collect();
            self.take_over(id, stale.iter());
        }
    }

    /// Gives the guest pages of an object their first content.
    pub(super) fn fill(&mut self, id: BoId) {
        let Some(bo) = self.bos.get_mut(&id) else { return };
        let stale = std::mem::take(&mut bo.stale);
        let contested = self.contested(id);
        let mut runs = self.origin.runs(Event::Pulled, id.0);
        let Some(mut pages) = self.pages(id) else { return };
        for page in pages_of_all(stale.iter()) {
            let state = match contested.overlaps(&(page * PAGE_SIZE..(page + 1) * PAGE_SIZE)) {
                true => PageState::Shared,
                false => PageState::Private,
            };
            runs.page(page, pages.adopt(page, state));
        }
    }

    /// Makes pages with a byte of `contested` shared.
    fn share(&mut self, id: BoId, contested: &RangeSet<u64>, pending: &RangeSet<u64>) {
        let Some(mut pages) = self.pages(id) else { return };
        for page in pages_of_all(contested.iter()) {
            let parts = parts(pending, page);
            pages.with(page, |page| page.share(&parts));
        }
    }

    /// Takes over what the device wrote in some ranges of an object, now.
    pub(super) fn pull_ranges<'a>(&mut self, id: BoId, ranges: impl Iterator<Item = &'a Range<u64>> + Clone) {
        if let Some(bo) = self.bos.get_mut(&id).filter(|bo| !bo.stale.is_empty()) {
            ranges.clone().for_each(|bytes| bo.stale.remove(bytes.clone()));
        }
        let Some(mut pages) = self.pages(id) else { return };
        ranges.for_each(|bytes| pages.pull(bytes));
    }

    /// The pieces of a set in objects that are mapped.
    fn mapped_in(&self, set: &WriteSet) -> Vec<(BoId, Pieces)> {
        let found = |(id, pieces): (BoId, &Pieces)| (id, Arc::clone(pieces));
        if self.mapped.len() < set.len() {
            let pieces = |id: &BoId| set.pieces(*id).map(|pieces| (*id, pieces));
            return self.mapped.iter().filter_map(pieces).map(found).collect();
        }
        set.objects().filter(|(id, _)| self.mapped.contains(id)).map(found).collect()
    }
}
