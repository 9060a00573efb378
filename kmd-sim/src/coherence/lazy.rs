//! What the device wrote, taken over when the CPU touches it.
//!
//! Where faults of the kernel can be served, too, a completed write set can be *left behind*: its bytes are
//! marked stale, as those of an object that is not mapped, and its pages taken out of the application's page
//! tables. Whoever touches one waits until a thread ([`super::server`]) has pulled a window of them.
//!
//! * First marked, then taken out: a page that the CPU can touch, and that is mapped, is up to date.
//! * What is stale is *pending* ([`super::page`]): a flush finds the bytes the CPU wrote before, and no
//!   others.
//! * A page is mapped again as not written, so what it was written before is recorded first.
//! * What is mapped at a place of its own ([`super::placed`]) is never left behind: nobody serves its faults.
//! * A touch needs the reservation and nothing else. Who has it waits for nobody, touches nothing the
//!   application sees, and is interrupted by none of its signal handlers.

use std::ops::Range;
use std::time::Instant;

use rangemap::RangeSet;

use super::bo::{Bo, BoId};
use super::policy::{REGION, Region, Way, Window};
use super::server::Server;
use super::state::{State, nanos_since};
use super::tracking::{Tracking, objects_at};
use super::validation::pages_of_all;
use crate::addr::{PAGE_SIZE, Pgoff, intersection, pages_of};
use crate::error::Result;
use crate::mmu::Mmu;
use crate::mmu::tracker::Readback;
use crate::stats::Stats;
use crate::svga::HostDevice;
use crate::sys::pages::to_usize;
use crate::trace::{self, Args, Event};

/// What a mapped object keeps to be lazy.
#[derive(Debug, Default)]
pub struct Lazy {
    regions: Vec<Region>,
    window: Window,
    /// Pages that the memory file has for sure: only those fault.
    populated: RangeSet<u64>,
}

impl Lazy {
    fn region(&mut self, index: u64) -> &mut Region {
        let index = to_usize(index);
        if self.regions.len() <= index {
            self.regions.resize_with(index + 1, Region::default);
        }
        &mut self.regions[index]
    }
}

impl<H: HostDevice> State<H> {
    /// Takes over what completed batches wrote in ascending ranges of a mapped object, or leaves it behind.
    pub(super) fn take_over<'a>(&mut self, id: BoId, ranges: impl Iterator<Item = &'a Range<u64>> + Clone) {
        let lazy = self.lazy_regions(id, ranges.clone());
        if lazy.is_empty() {
            self.pull_ranges(id, ranges);
            return;
        }
        let behind: Vec<_> = ranges
            .clone()
            .flat_map(|range| lazy.overlapping(range).map(|part| intersection(part, range)))
            .collect();
        if self.leave_behind(id, &behind).is_err() {
            self.pull_ranges(id, behind.iter());
        }
        let eager: Vec<_> = ranges.flat_map(|range| lazy.gaps(range)).collect();
        self.pull_ranges(id, eager.iter());
    }

    /// The bytes of regions that are lazy now.
    fn lazy_regions<'a>(&mut self, id: BoId, ranges: impl Iterator<Item = &'a Range<u64>>) -> RangeSet<u64> {
        let mut lazy = RangeSet::new();
        if self.tracking.as_ref().is_none_or(|tracking| tracking.faults.is_none()) {
            return lazy;
        }
        let Some(bo) = self.bos.get_mut(&id) else { return lazy };
        let Some(mapping) = bo
            .mapping
            .as_mut()
            .filter(|mapping| mapping.placed.is_none() && self.policy.may_be_lazy(bo.tbo.num_pages()))
        else {
            return lazy;
        };
        let mut pages = pages_of_all(ranges).peekable();
        while let Some(region) = pages.peek().map(|page| page / REGION) {
            let mut count = 0;
            while pages.next_if(|page| page / REGION == region).is_some() {
                count += 1;
            }
            let known = mapping.lazy.region(region);
            let way = self.policy.decide(known, count);
            count_region(&mut self.stats, known.way.replace(way), way);
            if way == Way::Lazy {
                let start = region * REGION * PAGE_SIZE;
                lazy.insert(start..start + REGION * PAGE_SIZE);
            }
        }
        lazy
    }

    /// Leaves ascending ranges of an object behind. If that fails, they must be pulled.
    fn leave_behind(&mut self, id: BoId, ranges: &[Range<u64>]) -> Result<()> {
        let result = self.serve().and_then(|()| self.take_out(id, ranges));
        if let Err(error) = result {
            // Locked memory, for example: it cannot be taken out of page tables.
            log::info!("device writes are brought to the CPU at completion from now on: {error}");
            self.policy.0 = Readback::Eager;
        }
        result
    }

    fn take_out(&mut self, id: BoId, ranges: &[Range<u64>]) -> Result<()> {
        let (Some(bo), Some(Tracking { arena, .. })) = (self.bos.get_mut(&id), &mut self.tracking) else {
            return Ok(());
        };
        let (Some(node), Some(mapping)) = (bo.tbo.node(), &mut bo.mapping) else { return Ok(()) };
        let in_arena = |pages: &Range<u64>| node.start + pages.start..node.start + pages.end;
        // A page that is behind already is not mapped.
        let mut mapped = RangeSet::new();
        for gap in ranges.iter().flat_map(|range| bo.stale.gaps(range)) {
            let is_behind = |page: u64| bo.stale.overlaps(&(page * PAGE_SIZE..(page + 1) * PAGE_SIZE));
            let mut pages = pages_of(&gap);
            pages.start += u64::from(is_behind(pages.start));
            pages.end -= u64::from(pages.start < pages.end && is_behind(pages.end - 1));
            if !pages.is_empty() {
                mapped.insert(pages);
            }
        }
        let missing: Vec<_> = mapped.iter().flat_map(|pages| mapping.lazy.populated.gaps(pages)).collect();
        for missing in &missing {
            arena.populate(&in_arena(missing))?;
            mapping.lazy.populated.insert(missing.clone());
        }
        bo.stale.extend(ranges.iter().cloned());
        for pages in mapped.iter() {
            self.stats.pages_zapped += pages.end - pages.start;
            arena.zap(&in_arena(pages))?;
        }
        for pages in &missing {
            self.stats.stretches_cooled += arena.settle(&in_arena(pages))?;
        }
        Ok(())
    }

    /// Has touches served from now on.
    pub(super) fn serve(&mut self) -> Result<()> {
        if let (None, Some(Tracking { faults: Some(faults), .. })) = (&self.server, &self.tracking) {
            self.server = Some(Server::start(faults.clone(), self.this.clone())?);
        }
        Ok(())
    }

    /// The CPU touched a page of the arena that it has not mapped: brings it up to date, and what will be
    /// touched next.
    pub(super) fn touch(&mut self, page: Pgoff) {
        self.stats.lazy_faults += 1;
        let (begun, before) = (trace::now(), self.stats.bytes_pulled);
        let Some(tracking) = &self.tracking else { return };
        let Some(faults) = tracking.faults.clone() else { return };
        let (node, id) =
            tracking.by_node.range(..=page).next_back().map_or((0, BoId(0)), |(node, id)| (*node, *id));
        let bo = self.bos.get_mut(&id).filter(|bo| page < node + bo.tbo.num_pages());
        let Some(Bo { tbo, mapping: Some(mapping), .. }) = bo else {
            // Nobody's, or not any more.
            self.warm(&(page..page + 1));
            faults.resume(&(page..page + 1));
            return;
        };
        let window = mapping.lazy.window.at(page - node, tbo.num_pages());
        let mapped = node + window.start..node + window.end;
        // All that is mapped from now on can be written unnoticed but for scans.
        self.warm(&mapped);
        self.bring_up_to_date(id, &window);
        self.record(id, &mapped);
        faults.resume(&mapped);
        if let Some(begun) = begun {
            let (page, pages) = (window.start, window.end - window.start);
            let bytes = self.stats.bytes_pulled - before;
            let args = Args { page, pages, bytes, ..Args::default() };
            self.origin.record(Event::LazyServe, id.0, begun, nanos_since(begun), args);
        }
    }

    /// Takes over what was left behind in some pages of an object that are touched.
    fn bring_up_to_date(&mut self, id: BoId, pages: &Range<u64>) {
        let Some(Bo { mapping: Some(mapping), mapped, stale, .. }) = self.bos.get_mut(&id) else { return };
        let bytes = pages.start * PAGE_SIZE..pages.end * PAGE_SIZE;
        // Of what is not mapped, batches in flight are stale, too: it is brought up to date by the next map.
        if !*mapped || !stale.overlaps(&bytes) {
            return;
        }
        let start = Instant::now();
        let ranges: Vec<_> = stale.overlapping(&bytes).map(|range| intersection(range, &bytes)).collect();
        for page in pages_of_all(ranges.iter()) {
            mapping.lazy.region(page / REGION).touch(1);
            self.stats.lazy_pages_pulled += 1;
        }
        self.pull_ranges(id, ranges.iter());
        self.stats.pull_ns += nanos_since(start);
    }

    /// Records which of an object's pages the CPU wrote, before they count as not written.
    fn record(&mut self, id: BoId, pages: &Range<Pgoff>) {
        let Some(Tracking { mmu, gathered, .. }) = &mut self.tracking else { return };
        let mut any = false;
        let taken = mmu.take_dirty(pages.clone(), &mut |run| {
            any = true;
            gathered.report(run);
        });
        if taken.is_err() {
            gathered.report(pages.clone());
        }
        if any || taken.is_err() {
            self.dirty_bos.push(id);
        }
    }

    /// Takes over what was left behind in some pages of the arena.
    pub(super) fn catch_up_in(&mut self, pages: &Range<Pgoff>) {
        let Some(tracking) = &self.tracking else { return };
        let ids = objects_at(&tracking.by_node, pages).map(|(_, id)| id);
        for id in ids.filter(|id| self.mapped.contains(id)).collect::<Vec<_>>() {
            let Some(bo) = self.bos.get(&id) else { continue };
            let Some(node) = bo.tbo.node() else { continue };
            let at = |page: Pgoff| page.saturating_sub(node.start) * PAGE_SIZE;
            let bytes = at(pages.start)..at(pages.end);
            let stale: Vec<_> =
                bo.stale.overlapping(&bytes).map(|range| intersection(range, &bytes)).collect();
            self.pull_ranges(id, stale.iter());
        }
    }

    /// Takes over all that was left behind.
    pub(crate) fn catch_up(&mut self) {
        for id in self.mapped.clone() {
            let stale: Vec<_> =
                self.bos.get(&id).into_iter().flat_map(|bo| bo.stale.iter().cloned()).collect();
            self.pull_ranges(id, stale.iter());
        }
    }
}

fn count_region(stats: &mut Stats, before: Option<Way>, now: Way) {
    let mut count = |way, by: i64| {
        let counter = match way {
            Way::Eager => &mut stats.regions_eager,
            Way::Lazy => &mut stats.regions_lazy,
        };
        *counter = counter.saturating_add_signed(by);
    };
    before.into_iter().for_each(|way| count(way, -1));
    count(now, 1);
}
