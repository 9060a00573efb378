//! Objects mapped where the application wants them: their pages once more, in a mapping of its own.
//!
//! The arena stays as it is: the driver's mapping shows what is written here, and here is seen what the
//! driver writes. What the CPU writes here is tracked like the rest, with a scan for each object, and
//! recorded before the mapping ends. How the tracker finds writes in the arena says nothing of how it does
//! here: `Tracker::add_view`.

use std::ops::Range;

use super::bo::{BoId, Sync};
use super::state::State;
use super::tracking::Tracking;
use crate::addr::{PAGE_SIZE, Pgoff, pages_of};
use crate::error::{Error, Result};
use crate::svga::HostDevice;
use crate::sys::memory::SharedMem;
use crate::sys::pages::to_usize;
use crate::sys::view::{Place, View};

/// A mapping of an object, or of part of it.
#[derive(Debug)]
pub struct Placed {
    view: View,
    /// The pages of the arena that it shows.
    pages: Range<Pgoff>,
}

impl Placed {
    /// All of it.
    pub(super) fn memory(&self) -> SharedMem {
        self.view.memory()
    }

    fn part(&self, pages: &Range<Pgoff>) -> SharedMem {
        let (start, count) = (pages.start - self.pages.start, pages.end - pages.start);
        self.view.memory().slice(to_usize(start * PAGE_SIZE), to_usize(count * PAGE_SIZE))
    }
}

impl Tracking {
    /// Reports the written pages of a mapping. What cannot be told counts as written.
    fn take_dirty_of(&mut self, placed: &Placed, mut found: impl FnMut(&mut Self, Range<Pgoff>)) {
        let mut parts = Vec::new();
        self.arena.for_each_populated(&placed.pages, |part| parts.push(part));
        for part in parts {
            let mut runs = Vec::new();
            let taken =
                self.mmu.take_dirty_of_view(placed.part(&part), part.clone(), &mut |run| runs.push(run));
            if let Err(error) = taken {
                log::debug!("writes to memory mapped at {:?}: {error}", placed.view.memory().as_ptr());
                runs = vec![part];
            }
            runs.into_iter().for_each(|run| found(self, run));
        }
    }
}

impl<H: HostDevice> State<H> {
    /// Maps part of an object at `place`, or where there is room. If that fails it stays unmapped, and
    /// whatever was at `place` may have been replaced by nothing.
    pub(crate) fn bo_map_placed(
        &mut self,
        host: &H,
        id: BoId,
        bytes: Range<u64>,
        place: Option<Place>,
    ) -> Result<SharedMem> {
        let bo = self.bos.get(&id).ok_or(Error::Invalid)?;
        if bo.mapped {
            return Err(Error::Busy);
        }
        if bytes.is_empty() || bytes.end > bo.tbo.size() {
            return Err(Error::Invalid);
        }
        let sync = bo.sync;
        self.place_once(host, id)?;
        let node = self.bos.get(&id).and_then(|bo| bo.tbo.node()).ok_or(Error::Invalid)?.start;
        let pages = pages_of(&bytes);
        let pages = node + pages.start..node + pages.end;
        let fixed = place.is_some();
        let view = self.arena(sync)?.view(&pages, place)?;
        let placed = match self.track_view(sync, Placed { view, pages }) {
            Ok(placed) => placed,
            Err((failed, error)) => {
                if fixed {
                    // Where it was, the application had its own addresses.
                    let _ = failed.view.reserve();
                }
                return Err(error);
            }
        };
        let memory = placed.view.memory();
        let mapping = self.bos.get_mut(&id).and_then(|bo| bo.mapping.as_mut()).ok_or(Error::Invalid)?;
        mapping.placed = Some(placed);
        if sync == Sync::Coherent {
            self.placed.insert(id);
        }
        self.enter_mapped(id);
        Ok(memory)
    }

    /// Tracks a mapping that nobody has written yet.
    fn track_view(&mut self, sync: Sync, placed: Placed) -> core::result::Result<Placed, (Placed, Error)> {
        let (Sync::Coherent, Some(tracking)) = (sync, &mut self.tracking) else { return Ok(placed) };
        if let Err(error) = tracking.mmu.add_view(placed.view.memory()) {
            return Err((placed, error));
        }
        // Every page counts as written until it is looked at.
        tracking.take_dirty_of(&placed, |_, _| {});
        Ok(placed)
    }

    /// Records which pages the CPU wrote since the last scan where objects are mapped at a place of their
    /// own.
    pub(super) fn scan_placed(&mut self) {
        if self.placed.is_empty() {
            return;
        }
        for id in &self.placed {
            let (Some(bo), Some(tracking)) = (self.bos.get(id), &mut self.tracking) else { continue };
            let Some(placed) = bo.mapping.as_ref().and_then(|mapping| mapping.placed.as_ref()) else {
                continue;
            };
            self.stats.scans += 1;
            let mut any = false;
            tracking.take_dirty_of(placed, |tracking, run| {
                any = true;
                tracking.gathered.report(run);
            });
            if any {
                self.dirty_bos.push(*id);
            }
        }
        self.dirty_bos.sort_unstable();
        self.dirty_bos.dedup();
    }

    /// Ends the mapping of an object at a place of its own, if it has one.
    pub(super) fn take_placed(&mut self, id: BoId) -> Option<Placed> {
        self.record_placed(id);
        self.placed.remove(&id);
        self.bos.get_mut(&id)?.mapping.as_mut()?.placed.take()
    }

    /// Records what the CPU wrote to a mapping that is about to end.
    fn record_placed(&mut self, id: BoId) {
        let (Some(bo), Some(tracking)) = (self.bos.get(&id), &mut self.tracking) else { return };
        let placed = bo.mapping.as_ref().and_then(|mapping| mapping.placed.as_ref());
        let Some(placed) = placed.filter(|_| bo.sync == Sync::Coherent) else { return };
        if tracking.arena.update_populated().is_err() {
            tracking.gathered.report(placed.pages.clone());
        }
        tracking.take_dirty_of(placed, |tracking, run| tracking.gathered.report(run));
        self.dirty_bos.push(id);
    }

    /// Unmaps an object that is mapped at a place of its own, and keeps others out of there. If that fails,
    /// it stays mapped.
    pub(crate) fn bo_unmap_reserve(&mut self, id: BoId) -> Result<Place> {
        let Placed { view, pages } = self.take_placed(id).ok_or(Error::Invalid)?;
        match view.reserve() {
            Ok(place) => {
                self.bo_unmap(id);
                Ok(place)
            }
            Err((view, error)) => {
                let bo = self.bos.get_mut(&id).ok_or(Error::Invalid)?;
                if bo.sync == Sync::Coherent {
                    self.placed.insert(id);
                }
                bo.mapping.as_mut().ok_or(Error::Invalid)?.placed = Some(Placed { view, pages });
                Err(error)
            }
        }
    }
}
