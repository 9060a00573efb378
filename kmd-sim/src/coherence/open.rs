//! Pages that the CPU is about to write ([`super::forecast`]) are opened: mapped so that a store to them does
//! not fault, and reported by the next scan.
//!
//! There is no call that makes a page writable and nothing else. To take pages out of the page tables and to
//! map them again, writable, costs half of what write faults cost that the kernel is asked to make
//! ([`write_fault`](crate::sys::pages::write_fault)). But what is left behind ([`super::lazy`]) or cold
//! ([`super::cold`]) must not be mapped unnoticed: it is opened by a fault, which is served.
//!
//! What was written and not scanned is reported all the same: a page that is not write-protected counts as
//! written, and so does one that is not there.

use std::ops::Range;

use super::arena::CHUNK;
use super::bo::Bo;
use super::state::State;
use super::tracking::{Tracking, objects_at};
use crate::addr::{PAGE_SIZE, Pgoff, intersection};
use crate::svga::HostDevice;
use crate::sys::memory::SharedMem;

impl<H: HostDevice> State<H> {
    /// Opens pages that are due. Returns those for which that takes a fault each, to be made without the
    /// reservation.
    pub(super) fn open_due(&mut self) -> Vec<SharedMem> {
        let mut left = Vec::new();
        for run in std::mem::take(&mut self.opens) {
            let Some(tracking) = &self.tracking else { break };
            for (_, id) in objects_at(&tracking.by_node, &run) {
                let Some(bo) = self.bos.get(&id) else { continue };
                let Some(node) = bo.tbo.node().filter(|node| node.start < run.end && run.start < node.end)
                else {
                    continue;
                };
                let pages = intersection(&run, node);
                if !may_map(tracking, bo, node.start, &pages) || !open(tracking, &pages) {
                    left.push(tracking.arena.application_pages(&pages));
                }
            }
        }
        left
    }
}

/// Whether all that is to be known of some pages of an object is in them, and scans look at them.
fn may_map<H: HostDevice>(tracking: &Tracking, bo: &Bo<H>, node: Pgoff, pages: &Range<Pgoff>) -> bool {
    let bytes = (pages.start - node) * PAGE_SIZE..(pages.end - node) * PAGE_SIZE;
    let mut stretches = pages.start / CHUNK..pages.end.div_ceil(CHUNK);
    bo.mapped && !bo.stale.overlaps(&bytes) && stretches.all(|index| !tracking.arena.is_cold(index))
}

/// Maps pages anew. Memory that is locked cannot be taken out of page tables: then nothing happens.
fn open(tracking: &Tracking, pages: &Range<Pgoff>) -> bool {
    let opened = tracking.arena.zap(pages).is_ok();
    if opened {
        tracking.mmu.open(pages);
    }
    opened
}
