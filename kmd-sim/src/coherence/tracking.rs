//! The pages of a device's objects: who keeps them, and who tracks them.
//!
//! Nothing is installed in a process before a coherent object is mapped; what that takes is made then, once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::arena::{Arena, smaller_until_it_fits};
use super::bo::{BoId, Mapping, Sync};
use super::gathered::Gathered;
use super::page::{Page, PageState, in_page};
use super::state::State;
use super::twin::Twins;
use crate::addr::{PAGE_SIZE, Pgoff, pages_of};
use crate::error::Result;
use crate::mmu::Mmu;
use crate::mmu::tracker::{Readback, Tracker, TrackerChoice};
use crate::mmu::uffd::Faults;
use crate::stats::Stats;
use crate::svga::HostDevice;
use crate::sys::pages::to_usize;
use crate::trace::{Event, Origin};
use crate::ttm::bo::BufferObject;
use crate::vmwgfx::page_dirty::BoDirty;

/// What exists once a coherent object was mapped.
#[derive(Debug)]
pub(super) struct Tracking {
    /// Declared before the arena: the registration ends before the mapping does.
    pub(super) mmu: Tracker,
    /// Those of the application's mapping, where they can be served.
    pub(super) faults: Option<Faults>,
    pub(super) arena: Arena,
    pub(super) twins: Twins,
    pub(super) gathered: Gathered,
    /// Objects by the first page of their window.
    pub(super) by_node: BTreeMap<Pgoff, BoId>,
}

impl Tracking {
    fn new(bytes: u64, tracker: TrackerChoice, readback: Readback) -> Result<Self> {
        // Arena and twins shrink together where the process may not have as much.
        let (arena, twins) = smaller_until_it_fits(bytes, |bytes| {
            let arena = Arena::new("lockstep", bytes)?;
            let twins = Twins::new(arena.len())?;
            Ok((arena, twins))
        })?;
        let mmu = Tracker::new(tracker, readback, arena.application())?;
        let faults = mmu.faults();
        log::info!(
            "tracking up to {} MiB of guest pages with {}, readback {}",
            (arena.len() * PAGE_SIZE) >> 20,
            mmu.caps().name,
            if faults.is_some() { "on demand" } else { "at completion" }
        );
        let gathered = Gathered::new(arena.len());
        Ok(Self { mmu, faults, arena, twins, gathered, by_node: BTreeMap::new() })
    }
}

/// The objects from the one that some pages of the arena start in, or the next one, upwards. The first may
/// end before.
pub(super) fn objects_at<'a>(
    by_node: &'a BTreeMap<Pgoff, BoId>,
    pages: &Range<Pgoff>,
) -> impl Iterator<Item = (Pgoff, BoId)> + use<'a> {
    let from = by_node.range(..=pages.start).next_back().map_or(pages.start, |(node, _)| *node);
    by_node.range(from..pages.end).map(|(node, id)| (*node, *id))
}

/// The pages of a coherent object that was mapped.
pub(super) struct Pages<'a> {
    tbo: &'a BufferObject,
    node: Pgoff,
    mapping: &'a mut Mapping,
    twins: &'a mut Twins,
    stats: &'a mut Stats,
    id: BoId,
    unsent: &'a mut BTreeSet<BoId>,
    origin: Origin,
}

impl Pages<'_> {
    /// Calls `op` with page `page` of the object, which it has.
    pub(super) fn with<R>(&mut self, page: u64, op: impl FnOnce(&mut Page<'_>) -> R) -> R {
        let offset = to_usize(page * PAGE_SIZE);
        let bytes = to_usize(self.tbo.bytes_in(page));
        let state = &mut self.mapping.pages[to_usize(page)];
        let before = *state;
        let mut stored = Vec::new();
        let result = op(&mut Page {
            guest: self.mapping.driver.slice(offset, bytes),
            host: self.mapping.host.slice(offset, bytes),
            twin: self.twins.page(self.node + page),
            state,
            stored: self.mapping.image.is_some().then_some(&mut stored),
        });
        if let (Some(image), false) = (&mut self.mapping.image, stored.is_empty()) {
            let in_object = |at: usize| page * PAGE_SIZE + at as u64;
            stored.iter().for_each(|run| image.stored(in_object(run.start)..in_object(run.end)));
            self.unsent.insert(self.id);
        }
        self.stats.twins += u64::from(*state == PageState::Shared && before != PageState::Shared);
        result
    }

    /// Takes the device's changes in `bytes` of the object over.
    pub(super) fn pull(&mut self, bytes: &Range<u64>) {
        self.stats.bytes_compared += bytes.end - bytes.start;
        let mut runs = self.origin.runs(Event::Pulled, self.id.0);
        for page in pages_of(bytes) {
            let changed = self.with(page, |at| at.pull(&in_page(bytes, page)));
            self.stats.bytes_pulled += changed;
            runs.page(page, changed);
        }
    }

    /// Gives a page its first content. Returns how many bytes that changed.
    pub(super) fn adopt(&mut self, page: u64, state: PageState) -> u64 {
        self.stats.bytes_compared += self.tbo.bytes_in(page);
        let changed = self.with(page, |page| page.adopt(state));
        self.stats.bytes_pulled += changed;
        changed
    }
}

impl<H: HostDevice> State<H> {
    /// The arena for objects synchronised this way, made when first needed.
    pub(super) fn arena(&mut self, sync: Sync) -> Result<&mut Arena> {
        Ok(match (sync, &mut self.tracking, &mut self.explicit) {
            (Sync::Coherent, Some(tracking), _) => &mut tracking.arena,
            (Sync::Coherent, none, _) => {
                &mut none.insert(Tracking::new(self.arena_bytes, self.tracker, self.policy.0)?).arena
            }
            (Sync::Explicit, _, Some(arena)) => arena,
            (Sync::Explicit, _, none) => {
                let bytes = self.arena_bytes;
                none.insert(smaller_until_it_fits(bytes, |bytes| Arena::new("lockstep-explicit", bytes))?)
            }
        })
    }

    /// What an object with these guest pages needs to be tracked.
    pub(super) fn track(&mut self, sync: Sync, node: &Range<Pgoff>) -> Result<Option<BoDirty>> {
        let mut dirty = None;
        if let (Sync::Coherent, Some(tracking)) = (sync, &mut self.tracking) {
            tracking.twins.open(node.end)?;
            BoDirty::add(&mut dirty, node.start, node.end - node.start, &mut tracking.gathered)?;
        }
        Ok(dirty)
    }

    /// Calls `op` with page `page` of a mapped coherent object; `None` where there is no such page.
    pub(super) fn with_page<R>(
        &mut self,
        id: BoId,
        page: u64,
        op: impl FnOnce(&mut Page<'_>) -> R,
    ) -> Option<R> {
        Some(self.pages(id)?.with(page, op))
    }

    /// The pages of a coherent object, if it was mapped.
    pub(super) fn pages(&mut self, id: BoId) -> Option<Pages<'_>> {
        let bo = self.bos.get_mut(&id).filter(|bo| bo.sync == Sync::Coherent)?;
        Some(Pages {
            tbo: &bo.tbo,
            node: bo.tbo.node()?.start,
            mapping: bo.mapping.as_mut()?,
            twins: &mut self.tracking.as_mut()?.twins,
            stats: &mut self.stats,
            id,
            unsent: &mut self.unsent,
            origin: self.origin,
        })
    }
}
