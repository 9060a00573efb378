//! Writes that land later than they are reported.
//!
//! A transfer that the kernel makes into pages it has *pinned* (a read past the page cache, buffers
//! registered with io_uring) marks them written when it pins them. The bytes land afterwards, and nobody is
//! told: the page table is not asked any more. A page that was reported and has not changed may be such a
//! one. It is *watched*: compared at the flushes that follow, too. One that has changed may have got a part
//! of its bytes: unless it has changed everywhere, it is compared once more.
//!
//! Most such pages were stored to with the value they had, or read for the first time. So the watch is
//! bounded:
//! * a page is compared [`PATIENCE`] times, and half as often each time that nothing came of it, down to
//!   [`LEAST_PATIENCE`]; all the patience is back when something did;
//! * [`PAGES`] pages are watched at a time, and as many compared once more.
//!
//! Pins for long are counted by the kernel. While there are any, watched pages stay so, every reported page
//! joins them, changed or not, and there may be as many of them as are pinned. The kernel is asked after an
//! object got its pages, when there are too many to watch, and now and then while a watch ends.
//!
//! Not seen: what lands only after the patience has ended, or, in a page that had changed by the first flush
//! after it was pinned, after the second, unless the pins were known by then.

use std::collections::{BTreeMap, BTreeSet};

use super::bo::BoId;
use super::merge::Changes;
use crate::stats::Stats;
use crate::sys::pages::to_usize;
use crate::sys::status::pinned_pages;

/// How many flushes a page is watched.
pub const PATIENCE: u8 = 32;
/// And how many at least.
pub const LEAST_PATIENCE: u8 = 4;
/// Pages watched at a time while nothing is pinned for long.
pub const PAGES: u64 = 1024;
/// Flushes between two questions whether the pins are still there.
const ASK: u64 = 64;

/// Watched pages of one object.
#[derive(Debug, Default)]
struct Watched {
    /// How often each is compared yet.
    left: BTreeMap<u64, u8>,
    /// Pages that had changed at the last flush.
    changed: Vec<u64>,
    /// How often a page was found as it was, by halvings of its patience; of pages up to the last watched
    /// one.
    halvings: Vec<u8>,
}

impl Watched {
    fn patience(&self, page: u64) -> u8 {
        let halvings = self.halvings.get(to_usize(page)).map_or(0, |halvings| *halvings);
        (PATIENCE >> halvings).max(LEAST_PATIENCE)
    }

    fn halve(&mut self, page: u64) {
        let index = to_usize(page);
        if self.halvings.len() <= index {
            self.halvings.resize(index + 1, 0);
        }
        self.halvings[index] = (self.halvings[index] + 1).min(7);
    }
}

/// Watched pages of a device.
#[derive(Debug)]
pub struct Watch {
    objects: BTreeMap<BoId, Watched>,
    /// Those that have pages to compare.
    active: BTreeSet<BoId>,
    pages: u64,
    /// Pages that had changed at this flush.
    changed: u64,
    flushes: u64,
    /// Pages pinned for long, and the flush at which that was so.
    pinned: u64,
    asked: u64,
    /// An object got its pages since.
    placed: bool,
    ask: fn() -> u64,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            active: BTreeSet::new(),
            pages: 0,
            changed: 0,
            flushes: 0,
            pinned: 0,
            asked: 0,
            placed: false,
            ask: pinned_pages,
        }
    }
}

impl Watch {
    /// An object got its pages, which may be pinned from now on.
    pub fn placed(&mut self) {
        self.placed = true;
    }

    /// An object is gone.
    pub fn forget(&mut self, id: BoId) {
        self.active.remove(&id);
        let gone = self.objects.remove(&id);
        self.pages -= gone.map_or(0, |watched| watched.left.len() as u64);
    }

    /// A flush begins, of `objects` and those with pages to compare, which are added.
    pub fn begin(&mut self, objects: &mut Vec<BoId>) {
        self.flushes += 1;
        self.changed = 0;
        if std::mem::take(&mut self.placed) {
            self.ask_after(0);
        }
        if !self.active.is_empty() {
            objects.extend(&self.active);
            objects.sort_unstable();
            objects.dedup();
        }
    }

    /// Takes out the pages of an object to compare beside those `reported`, in ascending order.
    pub fn take(&mut self, id: BoId, reported: &[u64]) -> Vec<u64> {
        if !self.active.contains(&id) {
            return Vec::new();
        }
        let Some(watched) = self.objects.get_mut(&id) else { return Vec::new() };
        let mut pages = std::mem::take(&mut watched.changed);
        pages.extend(watched.left.keys());
        pages.sort_unstable();
        pages.dedup();
        pages.retain(|page| reported.binary_search(page).is_err());
        if watched.left.is_empty() {
            self.active.remove(&id);
        }
        pages
    }

    /// Whether a page is watched.
    pub fn contains(&self, id: BoId, page: u64) -> bool {
        self.objects.get(&id).is_some_and(|watched| watched.left.contains_key(&page))
    }

    /// A page was compared: one that was reported, or that was taken out here. `changes`: what the CPU, or
    /// somebody for it, wrote.
    pub fn compared(&mut self, id: BoId, page: u64, reported: bool, changes: Changes, stats: &mut Stats) {
        let changed = changes.bytes != 0;
        if !reported {
            stats.pages_watched += 1;
            stats.pages_changed_late += u64::from(changed);
        }
        let watched = self.objects.get(&id).and_then(|watched| watched.left.get(&page)).copied();
        match (watched, reported, changed) {
            (None, true, true) if self.pinned == 0 => {
                if self.changed < PAGES && !changes.everywhere {
                    self.changed += 1;
                    self.objects.entry(id).or_default().changed.push(page);
                    self.active.insert(id);
                }
            }
            (None, false, false) => {}
            (None, ..) => self.join(id, page, stats),
            (Some(_), false, true) => {
                let Some(object) = self.objects.get_mut(&id) else { return };
                if let Some(halvings) = object.halvings.get_mut(to_usize(page)) {
                    *halvings = 0;
                }
                object.left.insert(page, PATIENCE);
            }
            (Some(_), true, true) => {}
            // Once more the value it had.
            (Some(_), true, false) => self.disappoint(id, page, true),
            (Some(1), false, false) => {
                let stays = self.ask_after(ASK) > 0;
                self.disappoint(id, page, stays);
            }
            (Some(left), false, false) => {
                self.objects.entry(id).or_default().left.insert(page, left - 1);
            }
        }
    }

    fn join(&mut self, id: BoId, page: u64, stats: &mut Stats) {
        if self.pages >= PAGES.max(self.pinned) && self.pages >= self.ask_after(1).max(PAGES) {
            stats.pages_unwatched += 1;
            return;
        }
        let object = self.objects.entry(id).or_default();
        let patience = object.patience(page);
        object.left.insert(page, patience);
        self.active.insert(id);
        self.pages += 1;
    }

    /// Nothing came of watching a page.
    fn disappoint(&mut self, id: BoId, page: u64, stays: bool) {
        let pinned = self.pinned > 0;
        let Some(object) = self.objects.get_mut(&id) else { return };
        if !pinned {
            object.halve(page);
        }
        if stays {
            object.left.insert(page, object.patience(page));
        } else if object.left.remove(&page).is_some() {
            self.pages -= 1;
        }
    }

    /// How many pages are pinned for long, as it was at most so many flushes ago.
    fn ask_after(&mut self, flushes: u64) -> u64 {
        if self.flushes - self.asked >= flushes {
            self.pinned = (self.ask)();
            self.asked = self.flushes;
        }
        self.pinned
    }
}

#[cfg(test)]
mod tests;
