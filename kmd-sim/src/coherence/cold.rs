//! Stretches of guest pages that nobody has touched for long: scans leave them out.
//!
//! A scan looks at every page there is, which takes a fifth of a millisecond for a GiB that is idle. Where
//! touches are served ([`super::lazy`]), a stretch of [`CHUNK`] pages that was not reported for some scans
//! becomes *cold*: it is taken out of the application's page tables. Whoever touches one of its pages, a
//! system call or another process too, waits until the stretch is warm again, and stores only then. So
//! nothing that is cold was written.
//!
//! * First it is taken out, then scanned once more, both under the reservation, which a touch needs: what was
//!   written before is reported by that scan, and the stretch stays warm.
//! * A page that the memory file has not got would be mapped without a word. So a stretch that lacks some is
//!   *sealed* first: touches of those are served, too. So is what follows it up to the next page there is,
//!   which saves looking for pages there.
//! * What is freed becomes warm: its pages leave the file.
//! * What is touched is unsealed: new pages are the kernel's business again.
//!
//! To be warm again takes as long as hundreds of scans, so a stretch that was touched soon after it became
//! cold is left alone for twice as long.

use std::ops::Range;

use super::arena::{Arena, CHUNK};
use super::state::State;
use super::tracking::Tracking;
use crate::addr::Pgoff;
use crate::error::Result;
use crate::svga::HostDevice;
use crate::sys::pages::to_usize;

/// Scans that a stretch must not have been reported by, the first time and at most.
const PATIENCE: Range<u32> = 64..8192;
/// A stretch that was cold for so many times its patience is forgiven.
const WORTH: u64 = 8;
/// Pages that are scanned in the time that a call takes, and another that looks for pages behind them.
pub const CALL: u64 = 2 * CHUNK;
/// Stretches that must be scanned for any to become cold: fewer cost next to nothing.
const LEAST: u64 = 8;
/// Stretches looked at a scan, and those of them that become cold: each takes as long as a hundred scans of
/// it.
const LOOKS: usize = 16;
const AT_ONCE: usize = 2;

/// What is known of a stretch.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// The scan that last reported one of its pages, or before which it last became cold or warm.
    since: u64,
    patience: u32,
}

/// Which stretches are idle.
#[derive(Debug, Default)]
pub struct Cold {
    /// Up to the last one that was reported.
    stretches: Vec<Stretch>,
    scans: u64,
    /// Pages that the last scan looked at, and [`CALL`] for each call.
    pub looked: u64,
    /// Where the search for idle ones goes on.
    next: Pgoff,
}

impl Cold {
    /// A scan begins. Returns stretches that are to be taken out before.
    fn begin(&mut self, arena: &Arena) -> Vec<u64> {
        self.scans += 1;
        let mut idle = Vec::new();
        if std::mem::take(&mut self.looked) < LEAST * CHUNK {
            return idle;
        }
        for _ in 0..LOOKS {
            let Some(pages) = arena.next_warm(self.next).or_else(|| arena.next_warm(0)) else { break };
            self.next = pages.start + CHUNK;
            let index = pages.start / CHUNK;
            let stretch = self.stretch(index);
            if self.scans - stretch.since > u64::from(stretch.patience) && !idle.contains(&index) {
                idle.push(index);
            }
            if idle.len() == AT_ONCE {
                break;
            }
        }
        idle
    }

    /// The scan reports pages.
    pub fn report(&mut self, pages: &Range<Pgoff>) {
        for index in pages.start / CHUNK..pages.end.div_ceil(CHUNK) {
            self.stretch_mut(index).since = self.scans;
        }
    }

    /// A stretch that was taken out has been scanned. Returns whether it is cold: nothing was reported.
    fn is_cold(&mut self, index: u64) -> bool {
        let cold = self.stretch(index).since < self.scans;
        self.stretch_mut(index).since = self.scans;
        cold
    }

    /// A stretch that was cold was touched.
    fn touch(&mut self, index: u64) {
        let scans = self.scans;
        let stretch = self.stretch_mut(index);
        let worth = scans - stretch.since >= WORTH * u64::from(stretch.patience);
        stretch.patience = if worth { PATIENCE.start } else { (stretch.patience * 2).min(PATIENCE.end) };
        stretch.since = scans;
    }

    fn stretch(&self, index: u64) -> Stretch {
        let unknown = Stretch { since: 0, patience: PATIENCE.start };
        self.stretches.get(to_usize(index)).copied().unwrap_or(unknown)
    }

    fn stretch_mut(&mut self, index: u64) -> &mut Stretch {
        let index = to_usize(index);
        if self.stretches.len() <= index {
            self.stretches.resize(index + 1, Stretch { since: self.scans, patience: PATIENCE.start });
        }
        &mut self.stretches[index]
    }
}

impl<H: HostDevice> State<H> {
    /// Takes idle stretches out of the application's page tables, before a scan, and returns them.
    pub(super) fn take_out_idle(&mut self) -> Vec<u64> {
        let (Some(cold), Some(tracking)) = (&mut self.cold, &self.tracking) else { return Vec::new() };
        if tracking.faults.is_none() {
            return Vec::new();
        }
        let mut idle = cold.begin(&tracking.arena);
        if idle.is_empty() {
            return idle;
        }
        let taken_out =
            self.serve().and_then(|()| idle.iter().try_for_each(|index| self.take_out_one(*index)));
        if let Err(error) = taken_out {
            // Locked memory, for example. What was taken out is touched in again.
            log::info!("idle memory is scanned, too, from now on: {error}");
            self.cold = None;
            idle.clear();
        }
        idle
    }

    fn take_out_one(&mut self, index: u64) -> Result<()> {
        let Some(Tracking { arena, faults: Some(faults), .. }) = &mut self.tracking else { return Ok(()) };
        let gap = arena.gap_behind(index);
        let sealed = if arena.is_whole(index) { gap.start } else { index }..gap.end;
        if !sealed.is_empty() {
            arena.seal(sealed.clone());
            faults.take_missing(&(sealed.start * CHUNK..sealed.end * CHUNK))?;
            self.stats.stretches_cooled += arena.cool_gap(gap)?;
        }
        arena.zap(&(index * CHUNK..(index + 1) * CHUNK))
    }

    /// Leaves stretches that were taken out, and scanned since, out of scans from now on.
    pub(super) fn cool(&mut self, taken_out: &[u64]) {
        let (Some(cold), Some(tracking)) = (&mut self.cold, &mut self.tracking) else { return };
        for index in taken_out {
            if cold.is_cold(*index) {
                tracking.arena.set_cold(*index);
                self.stats.stretches_cooled += 1;
            }
        }
    }

    /// Pages of the application's that are not in its page tables, one of which was touched, are about to be
    /// mapped.
    pub(super) fn warm(&mut self, pages: &Range<Pgoff>) {
        for index in pages.start / CHUNK..pages.end.div_ceil(CHUNK) {
            let Some(Tracking { arena, .. }) = &mut self.tracking else { return };
            let (was_cold, is_sealed) = (arena.set_warm(index), arena.is_sealed(index));
            if was_cold {
                self.stats.stretches_warmed += 1;
                self.cold.iter_mut().for_each(|cold| cold.touch(index));
            }
            if is_sealed {
                self.unseal(index);
            }
        }
    }

    /// Leaves new pages of a stretch to the kernel again.
    fn unseal(&mut self, index: u64) {
        let pages = index * CHUNK..(index + 1) * CHUNK;
        // For a moment nobody is told of touches.
        self.catch_up_in(&pages);
        let Some(Tracking { arena, faults: Some(faults), .. }) = &mut self.tracking else { return };
        match faults.leave_missing(&pages) {
            Ok(()) => arena.unseal(index),
            Err(error) => {
                // The process has as many mappings as it may. There shall be no page to miss, then.
                log::info!("an idle stretch gets all of its pages: {error}");
                if let Err(error) = arena.populate(&pages) {
                    log::error!("the application waits for a page that there is no memory for: {error}");
                }
            }
        }
    }
}
