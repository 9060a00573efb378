//! Flush (CPU → device): scan ([`super::scan`]), compare, store (kernel: `vmwgfx_page_dirty.c`:
//! `vmw_bo_dirty_transfer_to_res`).
//!
//! All under the reservation. A page is protected by the scan *before* it is read, so that a store that comes
//! later is reported again; one that stays open ([`super::forecast`]) is read at each flush.

use std::time::Instant;

use rangemap::RangeSet;

use super::bo::BoId;
use super::forecast::Forecast;
use super::merge::Neighbours;
use super::page::{Page, PageState};
use super::state::{State, nanos_since};
use super::validation::parts;
use crate::error::Result;
use crate::mmu::Mmu;
use crate::svga::HostDevice;
use crate::sync::{Ordering, fence};
use crate::sys::pages::to_usize;
use crate::trace::{self, Args, Event};

impl<H: HostDevice> State<H> {
    /// Takes all changes of the CPU over to host memory.
    pub(super) fn flush(&mut self) -> Result<()> {
        #[cfg(lockstep_mutation)]
        if crate::mutation::leaves_out() {
            return Ok(());
        }
        let begun = self.origin.begin_flush();
        self.traced(Event::Flush, 0, begun, Self::flush_dirty)
    }

    fn flush_dirty(&mut self) -> Result<()> {
        if self.tracking.is_none() {
            return Ok(());
        }
        self.scan()?;
        let mut dirty_bos = std::mem::take(&mut self.dirty_bos);
        self.watch.begin(&mut dirty_bos);
        self.forecast.iter_mut().for_each(Forecast::begin);
        if dirty_bos.is_empty() {
            self.forecast_opens();
            return Ok(());
        }
        let start = Instant::now();
        for id in dirty_bos {
            let flush = |state: &mut Self| state.flush_bo(id);
            self.stats.bytes_flushed += self.traced(Event::FlushObject, id.0, trace::now(), flush);
        }
        self.forecast_opens();
        // Stores to write-combining host memory must have left the CPU before the device is told.
        fence(Ordering::SeqCst);
        self.stats.flush_ns += nanos_since(start);
        Ok(())
    }

    /// Notes what is to be opened once the reservation is given back: a touch may have to wait for it.
    fn forecast_opens(&mut self) {
        let Some(forecast) = &mut self.forecast else { return };
        // What nobody opened is stale by now.
        self.opens = forecast.end();
        self.stats.pages_opened += self.opens.iter().map(|run| run.end - run.start).sum::<u64>();
    }

    /// Does something that, where there is a recorder, began at `begun`, and records it with what was flushed
    /// by it.
    fn traced<R>(
        &mut self,
        event: Event,
        object: u64,
        begun: Option<Instant>,
        op: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let Some(begun) = begun else { return op(self) };
        let before = (self.stats.pages_dirty, self.stats.cpu_bytes_written);
        let result = op(self);
        let pages = self.stats.pages_dirty - before.0;
        let bytes = self.stats.cpu_bytes_written - before.1;
        let args = Args { pages, bytes, ..Args::default() };
        self.origin.record(event, object, begun, nanos_since(begun), args);
        result
    }

    /// Takes out the recorded pages of one object. The first scan of a stretch reports all of its pages;
    /// those the arena has no page for were not written.
    pub(super) fn take_dirty_pages(&mut self, id: BoId) -> Vec<u64> {
        let (Some(bo), Some(tracking)) = (self.bos.get_mut(&id), &self.tracking) else { return Vec::new() };
        let (Some(node), Some(mapping)) = (bo.tbo.node(), &mut bo.mapping) else { return Vec::new() };
        let states = &mapping.pages;
        let is_fresh = |page: u64| states[to_usize(page)] == PageState::Fresh;
        let mut pages = Vec::new();
        let bytes = 0..bo.tbo.size();
        let Some(dirty) = &mut mapping.dirty else { return Vec::new() };
        dirty.transfer_to_res(&bytes, false, |run| {
            let mut data = tracking.arena.data(node.start + run.start..node.start + run.end);
            pages.extend(run.filter(|page| !is_fresh(*page) || data.contains(node.start + page)));
        });
        pages
    }

    /// Takes the recorded pages of one object over to host memory. Returns the bytes flushed.
    fn flush_bo(&mut self, id: BoId) -> u64 {
        let reported = self.take_dirty_pages(id);
        let watched = self.watch.take(id, &reported);
        let dirty =
            || reported.iter().map(|page| (*page, true)).chain(watched.iter().map(|page| (*page, false)));
        let Some(bo) = self.bos.get(&id) else { return 0 };
        // What is submitted and not pulled may be writing host memory now, or has written what T does not
        // know.
        let in_flight = self.fences.iter().any(|fences| !fences.is_empty());
        let busy = in_flight || !bo.stale.is_empty();
        let device = if busy { Neighbours::Busy } else { Neighbours::Quiet };
        let states = bo.mapping.as_ref().map_or(&[][..], |mapping| &mapping.pages);
        let is_private = |page: u64| states[to_usize(page)] == PageState::Private;
        let asks = busy && dirty().any(|(page, _)| is_private(page));
        let pending = if asks { self.pending(id) } else { RangeSet::new() };
        // A page compared at every flush is compared with its twin: reading host memory may be slow.
        let caps = self.tracking.as_ref().map(|tracking| tracking.mmu.caps());
        let twin = caps.is_some_and(|caps| !caps.reports_only_written);
        let watches = caps.is_some_and(|caps| caps.reports_only_written && caps.sees_kernel_writes);
        // What is mapped at a place of its own is protected there.
        let node = bo.tbo.node().map_or(0, |node| node.start);
        let forecasts = caps.is_some_and(|caps| caps.stays_open)
            && bo.mapping.as_ref().is_some_and(|mapping| mapping.placed.is_none());
        let mut flushed = 0;
        let mut runs = self.origin.runs(Event::Dirty, id.0);
        for (page, reported) in dirty() {
            self.stats.pages_dirty += u64::from(reported);
            let parts = parts(&pending, page);
            let shares = twin || self.watch.contains(id, page);
            let rewritten = |forecast: &Forecast| forecast.is_rewritten(node + page);
            let copies = forecasts && parts.is_empty() && self.forecast.as_ref().is_some_and(rewritten);
            let flush = |page: &mut Page<'_>| {
                let copied = if copies { page.copy() } else { None };
                let changed = copied.unwrap_or_else(|| page.flush(device, &parts));
                if shares {
                    page.share(&parts);
                }
                changed
            };
            let changes = self.with_page(id, page, flush).unwrap_or_default();
            let stays_open = match (&mut self.forecast, forecasts && reported) {
                (Some(forecast), true) => forecast.compared(node + page, changes),
                _ => false,
            };
            // What stays open is compared the next time, too.
            if watches && !stays_open {
                self.watch.compared(id, page, reported, changes, &mut self.stats);
            }
            if reported || changes.bytes != 0 {
                runs.page(page, changes.bytes);
            }
            self.stats.cpu_bytes_written += changes.bytes;
            flushed += changes.bytes;
        }
        flushed
    }
}
