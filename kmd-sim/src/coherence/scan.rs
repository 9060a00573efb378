//! Scan: which pages the CPU wrote since the last one (kernel: `vmwgfx_page_dirty.c`: `vmw_bo_dirty_scan`).
//!
//! What stays open ([`super::forecast`]) was never protected: it is reported without a look, and must not be
//! protected by a scan that passes over it. So what lies around it is scanned part by part. But each part
//! takes a system call; where little else than open pages was written the last time, all is looked at once,
//! protecting nothing, and only what was written besides is scanned.

use std::iter::Peekable;
use std::ops::Range;
use std::time::Instant;

use super::arena::CHUNK;
use super::cold;
use super::forecast::Forecast;
use super::state::{State, nanos_since};
use super::tracking::{Tracking, objects_at};
use crate::addr::Pgoff;
use crate::error::Result;
use crate::mmu::Mmu;
use crate::svga::HostDevice;
use crate::trace::{Args, Event};

/// What scans did.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    calls: u64,
    /// Pages looked at.
    looked: u64,
    /// Stretches in which pages were protected, and the end of the last one.
    protected: u64,
    protected_to: u64,
}

impl Work {
    fn call(&mut self, pages: &Range<Pgoff>) {
        self.calls += 1;
        self.looked += pages.end - pages.start;
    }

    /// Pages were protected, behind those before.
    fn protect(&mut self, pages: &Range<Pgoff>) {
        let end = pages.end.div_ceil(CHUNK);
        self.protected += end.saturating_sub(self.protected_to.max(pages.start / CHUNK));
        self.protected_to = end;
    }
}

impl<H: HostDevice> State<H> {
    /// Records which pages the CPU wrote since the last scan. If it fails half-way, what it has recorded is
    /// flushed the next time.
    pub(super) fn scan(&mut self) -> Result<()> {
        let start = Instant::now();
        let taken_out = self.take_out_idle();
        let Some(tracking) = &mut self.tracking else { return Ok(()) };
        // Counted before anything is scanned: a page written before has its block by now.
        tracking.arena.update_populated()?;
        let Tracking { mmu, arena, gathered, by_node, .. } = tracking;
        let (bos, dirty_bos, colds) = (&self.bos, &mut self.dirty_bos, &mut self.cold);
        let mut pages = 0;
        let mut report = |run: Range<Pgoff>| {
            for (node, id) in objects_at(by_node, &run) {
                let reached = bos.get(&id).is_some_and(|bo| run.start < node + bo.tbo.num_pages());
                if reached && dirty_bos.last() != Some(&id) {
                    dirty_bos.push(id);
                }
            }
            pages += run.end - run.start;
            colds.iter_mut().for_each(|cold| cold.report(&run));
            gathered.report(run);
        };
        let mut open = self.forecast.as_ref().map_or(&[][..], Forecast::open).iter().cloned().peekable();
        let (mut work, mut besides) = (Work::default(), 0);
        let mut at = 0;
        while let Some(stretch) = arena.next_warm(at) {
            at = stretch.end;
            let parts = parts(&stretch, &mut open);
            let closed = parts.iter().filter(|part| matches!(part, Part::Closed(_))).count();
            let looks = closed > self.besides + 1;
            let parts = if looks { look(mmu, &stretch, parts, &mut work)? } else { parts };
            for part in parts {
                match part {
                    Part::Open(run) => report(run),
                    Part::Closed(run) => {
                        work.call(&run);
                        mmu.take_dirty(run, &mut |run| {
                            besides += 1;
                            work.protect(&run);
                            report(run);
                        })?;
                    }
                }
            }
        }
        self.besides = besides;
        self.stats.scans += work.calls;
        self.stats.pages_scanned += work.looked;
        self.stats.stretches_protected += work.protected;
        self.cold.iter_mut().for_each(|cold| cold.looked = work.looked + work.calls * cold::CALL);
        self.cool(&taken_out);
        self.scan_placed();
        let Some(Tracking { gathered, .. }) = &mut self.tracking else { return Ok(()) };
        for id in &self.dirty_bos {
            let Some(bo) = self.bos.get_mut(id) else { continue };
            if let (Some(node), Some(mapping)) = (bo.tbo.node(), &mut bo.mapping)
                && let Some(dirty) = &mut mapping.dirty
            {
                dirty.scan(node.start, &[], gathered);
            }
        }
        let took = nanos_since(start);
        self.stats.scan_ns += took;
        self.origin.record(Event::Scan, 0, start, took, Args { pages, ..Args::default() });
        Ok(())
    }
}

/// A part of a stretch.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Not protected: reported in any case.
    Open(Range<Pgoff>),
    /// To be scanned.
    Closed(Range<Pgoff>),
}

/// The parts of a stretch, ascending. Takes the open ones that start in it.
fn parts(stretch: &Range<Pgoff>, open: &mut Peekable<impl Iterator<Item = Range<Pgoff>>>) -> Vec<Part> {
    let (mut parts, mut at) = (Vec::new(), stretch.start);
    while at < stretch.end {
        let next = open.next_if(|open| open.start < stretch.end);
        let closed = at..next.as_ref().map_or(stretch.end, |open| open.start.max(at));
        at = next.as_ref().map_or(stretch.end, |open| open.end.max(at));
        parts.extend((!closed.is_empty()).then_some(Part::Closed(closed)));
        parts.extend(next.map(Part::Open));
    }
    parts
}

/// Looks at a stretch as a whole, and leaves of its closed parts what was written, if that is not in more
/// pieces.
fn look(mmu: &mut impl Mmu, stretch: &Range<Pgoff>, parts: Vec<Part>, work: &mut Work) -> Result<Vec<Part>> {
    let mut written = Vec::new();
    work.call(stretch);
    mmu.find_dirty(stretch.clone(), &mut |run| written.push(run))?;
    let (mut left, mut next, count) = (Vec::new(), 0, parts.len());
    for part in &parts {
        let Part::Closed(closed) = part else {
            left.push(part.clone());
            continue;
        };
        while let Some(run) = written.get(next).filter(|run| run.start < closed.end) {
            let piece = run.start.max(closed.start)..run.end.min(closed.end);
            left.extend((!piece.is_empty()).then_some(Part::Closed(piece)));
            // The rest of it lies in another part.
            if run.end > closed.end {
                break;
            }
            next += 1;
        }
    }
    Ok(if left.len() <= count { left } else { parts })
}

#[cfg(all(test, not(loom), not(shuttle)))]
mod tests {
    use super::*;
    use crate::mmu::Caps;
    use crate::mmu::compare::Compare;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Finds what was written.
    struct Found(BTreeSet<Pgoff>);

    impl Mmu for Found {
        fn caps(&self) -> Caps {
            Compare.caps()
        }

        fn take_dirty(&mut self, pages: Range<Pgoff>, found: &mut dyn FnMut(Range<Pgoff>)) -> Result<()> {
            self.find_dirty(pages, found)
        }

        fn find_dirty(&mut self, pages: Range<Pgoff>, found: &mut dyn FnMut(Range<Pgoff>)) -> Result<()> {
            let written: Vec<_> = self.0.range(pages).copied().collect();
            written.chunk_by(|a, b| a + 1 == *b).for_each(|run| found(run[0]..run[0] + run.len() as u64));
            Ok(())
        }
    }

    fn runs(pages: &BTreeSet<Pgoff>) -> Vec<Range<Pgoff>> {
        let mut runs = Vec::new();
        Found(pages.clone()).find_dirty(0..64, &mut |run| runs.push(run)).unwrap();
        runs
    }

    #[test]
    fn stretches_are_counted_once_however_many_of_their_pages_are_protected() {
        let mut work = Work::default();
        for (pages, protected) in [
            (3..4, 1),
            (9..10, 1),
            (CHUNK - 1..CHUNK + 1, 2),
            (CHUNK + 5..CHUNK + 6, 2),
            (3 * CHUNK..5 * CHUNK, 4),
        ] {
            work.protect(&pages);
            assert_eq!(work.protected, protected, "{pages:?}");
        }
    }

    proptest! {
        /// All that was written is scanned or open, nothing that is open is scanned, and nothing is left out
        /// unless it was looked at.
        #[test]
        fn what_was_written_is_scanned_and_what_is_open_is_not(
            open in prop::collection::btree_set(8u64..60, 0..12),
            written in prop::collection::btree_set(8u64..60, 0..12),
        ) {
            let stretch = 8..60;
            let open_runs = runs(&open);
            let all = parts(&stretch, &mut open_runs.clone().into_iter().peekable());
            let mut at = stretch.start;
            for part in &all {
                let (Part::Open(run) | Part::Closed(run)) = part;
                prop_assert_eq!(run.start, at);
                prop_assert_eq!(open_runs.contains(run), matches!(part, Part::Open(_)));
                at = run.end;
            }
            prop_assert_eq!(at, stretch.end);

            let mut work = Work::default();
            let left = look(&mut Found(written.clone()), &stretch, all.clone(), &mut work).unwrap();
            prop_assert!(left.len() <= all.len() && (work.calls, work.looked) == (1, 52));
            let mut last = stretch.start;
            let mut covered = BTreeSet::new();
            for part in &left {
                let (Part::Open(run) | Part::Closed(run)) = part;
                prop_assert!(last <= run.start && run.start < run.end);
                last = run.end;
                if let Part::Closed(run) = part {
                    prop_assert!(open.range(run.clone()).next().is_none());
                    covered.extend(run.clone());
                }
            }
            prop_assert!(written.difference(&open).all(|page| covered.contains(page)));
            let opened = |parts: &[Part]| parts.iter().filter(|part| matches!(part, Part::Open(_))).count();
            prop_assert_eq!(opened(&left), open_runs.len());
        }
    }
}
