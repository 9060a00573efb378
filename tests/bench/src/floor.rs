//! What tracking by pages cannot do without: the steps that a program's frames took, at what each costs on
//! this machine.
//!
//! Steps are counted in the program ([`Breakdown`]), and timed here, one kind after the other, with nothing
//! else going on. What a frame costs beyond that is shared caches, processors that are woken, and whatever
//! the driver does that is none of these steps.

use std::time::Instant;

use anyhow::Result;
use kmd_sim::addr::{PAGE_SIZE, PAGE_WORDS};
use kmd_sim::coherence::arena::CHUNK;
use kmd_sim::coherence::merge::Neighbours;
use kmd_sim::coherence::page::{Page, PageState};
use kmd_sim::mmu::Mmu;
use kmd_sim::mmu::uffd::Uffd;
use kmd_sim::sys::pages::TwiceMapped;
use lockstep_statistics::median;
use serde::Serialize;

use crate::breakdown::Breakdown;

/// Pages of the memory they are timed with: more than a processor's own cache holds.
const PAGES: u64 = 4096;
/// Pages written at a time.
const PART: u64 = 64;
const TIMES: usize = 31;

/// What a step costs, in nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Prices {
    /// A store to a page that is write-protected.
    pub(crate) fault: f64,
    /// Opening a page of many before it is stored to.
    pub(crate) open: f64,
    /// A look at a page that was not written.
    pub(crate) scan: f64,
    /// Protecting pages of a stretch of 2 MiB, beyond the look at each; more while another processor runs the
    /// process, which must forget them.
    pub(crate) protect: f64,
    /// Comparing a page.
    pub(crate) compare: f64,
    /// Comparing a page that has changed everywhere, and storing that.
    pub(crate) store: f64,
    /// Copying a page.
    pub(crate) copy: f64,
}

impl Prices {
    /// Times them all. Needs userfaultfd(2).
    pub(crate) fn measure() -> Result<Self> {
        let pages = TwiceMapped::new("prices", PAGES * PAGE_SIZE)?;
        let mut mmu = Uffd::new(pages.application())?;
        let offset = |page: u64| usize::try_from(page * PAGE_SIZE).unwrap_or(0);
        let store = |part: u64| {
            (0..PART).for_each(|page| pages.application().store_byte(offset(part * PART + page), 1));
        };
        (0..PAGES / PART).for_each(store);
        let take = |mmu: &mut Uffd, range| mmu.take_dirty(range, &mut |_| {});
        take(&mut mmu, 0..PAGES)?;
        let a_page = |ns: f64| ns / PART as f64;

        let scan = timed(|_| take(&mut mmu, 0..PAGES))? / PAGES as f64;
        let fault = a_page(timed(|part| {
            store(part);
            Ok(())
        })?);
        take(&mut mmu, 0..PAGES)?;
        let open = a_page(timed(|part| {
            let range = part * PART..(part + 1) * PART;
            pages.zap(&(range.start * PAGE_SIZE..range.end * PAGE_SIZE))?;
            mmu.open(&range);
            Ok(())
        })?);
        take(&mut mmu, 0..PAGES)?;
        let protecting: Result<Vec<f64>> = (0..TIMES)
            .map(|_| {
                let one_each = (0..PAGES / CHUNK).map(|stretch| stretch * CHUNK);
                one_each.for_each(|page| pages.application().store_byte(offset(page), 1));
                let start = Instant::now();
                take(&mut mmu, 0..PAGES)?;
                Ok(start.elapsed().as_nanos() as f64)
            })
            .collect();
        let protect = (median(&protecting?) - scan * PAGES as f64).max(0.0) / (PAGES / CHUNK) as f64;

        let host = TwiceMapped::new("prices", PAGES * PAGE_SIZE)?;
        let flush = |part: u64| {
            for page in part * PART..(part + 1) * PART {
                let at = |memory: &TwiceMapped| memory.driver().slice(offset(page), offset(1));
                let mut page = Page {
                    guest: at(&pages),
                    host: at(&host),
                    twin: &mut [0; PAGE_WORDS],
                    state: &mut PageState::Private,
                    stored: None,
                };
                page.flush(Neighbours::Quiet, &[]);
            }
            Ok(())
        };
        let fill = |memory: &TwiceMapped, word: u64| {
            (0..PAGES as usize * PAGE_WORDS).for_each(|at| memory.driver().store_word(at, word));
        };
        fill(&host, 1);
        fill(&pages, 2);
        let store = a_page(timed(flush)?);
        (0..PAGES / PART).try_for_each(flush)?;
        let compare = a_page(timed(flush)?);
        let copy = a_page(timed(|part| {
            host.driver().copy_from(&pages.driver(), offset(part * PART), offset(PART));
            Ok(())
        })?);
        Ok(Self { fault, open, scan, protect, compare, store, copy })
    }

    /// What the copies of a frame take that explicit synchronisation makes as well, in nanoseconds.
    pub(crate) fn copies(&self, steps: &Breakdown) -> f64 {
        (steps.get("bytes_flushed") + steps.get("bytes_pulled")) / PAGE_SIZE as f64 * self.copy
    }

    /// What finding writes out takes the processors of a frame outside of the driver, in nanoseconds.
    pub(crate) fn faults(&self, steps: &Breakdown) -> f64 {
        steps.get("faults") * self.fault + steps.get("pages_opened") * self.open
    }

    /// What all steps of a frame come to, in nanoseconds, beyond those copies.
    pub(crate) fn steps(&self, steps: &Breakdown) -> f64 {
        let pages = |name| steps.get(name) / PAGE_SIZE as f64;
        let moved = pages("bytes_flushed") + pages("bytes_pulled");
        let looked = steps.get("pages_dirty") + steps.get("pages_watched") + pages("bytes_compared");
        let protects = steps.get("stretches_protected");
        let merged = (looked - moved).max(0.0) * self.compare + moved * self.store - self.copies(steps);
        let scanned = steps.get("pages_scanned") * self.scan + protects * self.protect;
        self.faults(steps) + scanned + merged.max(0.0)
    }
}

/// The median of what some parts take, in nanoseconds.
fn timed(mut step: impl FnMut(u64) -> kmd_sim::error::Result<()>) -> Result<f64> {
    let mut times = Vec::new();
    for part in 0..TIMES as u64 {
        let start = Instant::now();
        step(part)?;
        times.push(start.elapsed().as_nanos() as f64);
    }
    Ok(median(&times))
}
