//! Kernel file: `mm/mapping_dirty_helpers.c`: write-protects, or cleans and records, the entries of all
//! processes that map a range of a mapping. Patch 4 of the series.
//!
//! # What the pair promises
//! A page that is dirty when [`clean_record_shared_mapping_range`] is called is in the bitmap when it
//! returns. One that becomes dirty during or after the call stays dirty, or is in the bitmap, or both. No
//! entry is cleaned without being recorded. To get all and no more: hold off writers, so that they wait in
//! mkwrite, protect, and then clean.

use std::ops::Range;

use super::address_space::AddressSpace;
use super::machine::Point;
use super::mmu_notifier::Reason;
use super::pagewalk::{MmWalk, MmWalkOps, WalkAction, walk_page_mapping};
use super::vma::VmFlags;
use crate::addr::Pgoff;
use crate::bitmap::Bitmap;
use crate::lockdep::{Splat, Task};
use crate::mmu::soft::page_table::{AtomicPte, Pmd, PteTable, Slot};

/// State of a walk that write-protects (`struct wp_walk`).
#[derive(Debug, Default)]
pub struct WpWalk {
    /// Entries changed.
    total: u64,
    /// Addresses of this VMA whose translations must be flushed; `start >= end` for none.
    tlbflush: Range<u64>,
    /// The part of this VMA that is walked: what the notifiers were told.
    range: Range<u64>,
}

/// State of a walk that cleans and records (`struct clean_walk`).
#[derive(Debug)]
pub struct CleanWalk<'a> {
    base: WpWalk,
    /// Page offset of bit 0.
    bitmap_pgoff: Pgoff,
    bitmap: &'a mut Bitmap,
    /// Bounds of the bits set so far.
    bounds: Range<u64>,
}

impl AsMut<Self> for WpWalk {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

impl AsMut<WpWalk> for CleanWalk<'_> {
    fn as_mut(&mut self) -> &mut WpWalk {
        &mut self.base
    }
}

impl WpWalk {
    fn changed(&mut self, addresses: &Range<u64>) {
        self.total += 1;
        self.tlbflush.start = self.tlbflush.start.min(addresses.start);
        self.tlbflush.end = self.tlbflush.end.max(addresses.end);
    }
}

/// Protects one entry (`wp_pte`).
fn wp_pte(entry: &AtomicPte, addresses: Range<u64>, _: &mut MmWalk<'_>, wp: &mut WpWalk) -> i32 {
    if entry.get().write() {
        entry.set(entry.take().wrprotect());
        wp.changed(&addresses);
    }
    0
}

/// Cleans one entry and sets its bit (`clean_record_pte`).
fn clean_record_pte(
    entry: &AtomicPte,
    addresses: Range<u64>,
    walk: &mut MmWalk<'_>,
    clean: &mut CleanWalk<'_>,
) -> i32 {
    if entry.get().dirty() {
        entry.set(entry.take().mkclean());
        let bit = walk.vma.pgoff_of(addresses.start) - clean.bitmap_pgoff;
        clean.bitmap.set(bit..bit + 1);
        clean.bounds.start = clean.bounds.start.min(bit);
        clean.bounds.end = clean.bounds.end.max(bit + 1);
        clean.base.changed(&addresses);
    }
    0
}

/// Leaves huge entries alone: a driver that tracks has none that are writable (`wp_clean_pmd_entry`).
fn wp_clean_pmd_entry<P>(slot: &Slot<PteTable>, _: Range<u64>, walk: &mut MmWalk<'_>, _: &mut P) -> i32 {
    skip_huge(slot, walk);
    0
}

/// As [`wp_clean_pmd_entry`] (`wp_clean_pud_entry`).
fn wp_clean_pud_entry<P>(slot: &Slot<Pmd>, _: Range<u64>, walk: &mut MmWalk<'_>, _: &mut P) -> i32 {
    skip_huge(slot, walk);
    0
}

fn skip_huge<T>(slot: &Slot<T>, walk: &mut MmWalk<'_>) {
    match slot {
        Slot::Table(_) => return,
        Slot::Huge(entry) if entry.get().write() || entry.get().dirty() => {
            walk.task.splat(Splat::DirtyHugeEntry);
        }
        Slot::Huge(_) | Slot::Migration => {}
    }
    walk.action = WalkAction::Continue;
}

/// Only shared areas that can be written are walked, whether they can be now or not (`wp_clean_test_walk`).
fn wp_clean_test_walk<P>(_: Range<u64>, walk: &mut MmWalk<'_>, _: &mut P) -> i32 {
    let flags = walk.vma.flags;
    let walked = flags.contains(VmFlags::SHARED.or(VmFlags::MAYWRITE)) && !flags.contains(VmFlags::HUGETLB);
    i32::from(!walked)
}

/// Announces the change (`wp_clean_pre_vma`).
fn wp_clean_pre_vma<P: AsMut<WpWalk>>(addresses: Range<u64>, walk: &mut MmWalk<'_>, private: &mut P) -> i32 {
    let wp = private.as_mut();
    wp.tlbflush = addresses.end..addresses.start;
    wp.range = addresses;
    walk.mm.notify_start(&wp.range, Reason::ProtectionPage);
    walk.mm.inc_tlb_flush_pending();
    0
}

/// Makes the change hold for every CPU (`wp_clean_post_vma`).
fn wp_clean_post_vma<P: AsMut<WpWalk>>(walk: &mut MmWalk<'_>, private: &mut P) {
    let wp = private.as_mut();
    let machine = &walk.mm.machine;
    machine.reached(Point::BeforeFlush);
    if machine.upstream.profile.flushes_for_nested_walkers() && walk.mm.tlb_flush_nested() {
        // Entries that were found changed already: by someone who may not have flushed yet.
        walk.mm.flush_tlb_range(&wp.range);
    } else if !wp.tlbflush.is_empty() {
        walk.mm.flush_tlb_range(&wp.tlbflush);
    }
    walk.mm.notify_end(&wp.range);
    walk.mm.dec_tlb_flush_pending();
}

/// `wp_walk_ops`.
fn wp_walk_ops() -> MmWalkOps<WpWalk> {
    MmWalkOps {
        pte_entry: Some(wp_pte),
        pmd_entry: Some(wp_clean_pmd_entry),
        pud_entry: Some(wp_clean_pud_entry),
        test_walk: Some(wp_clean_test_walk),
        pre_vma: Some(wp_clean_pre_vma),
        post_vma: Some(wp_clean_post_vma),
        ..MmWalkOps::default()
    }
}

/// `clean_walk_ops`.
fn clean_walk_ops<'a>() -> MmWalkOps<CleanWalk<'a>> {
    MmWalkOps {
        pte_entry: Some(clean_record_pte),
        pmd_entry: Some(wp_clean_pmd_entry),
        pud_entry: Some(wp_clean_pud_entry),
        test_walk: Some(wp_clean_test_walk),
        pre_vma: Some(wp_clean_pre_vma),
        post_vma: Some(wp_clean_post_vma),
        ..MmWalkOps::default()
    }
}

/// Write-protects the entries for `pages` in all processes. Returns how many were writable: a page that two
/// processes could write counts twice.
pub fn wp_shared_mapping_range(task: &Task, mapping: &AddressSpace, pages: &Range<Pgoff>) -> u64 {
    let i_mmap = mapping.i_mmap_lock_read(task);
    let mut wp = WpWalk::default();
    let result = walk_page_mapping(mapping, &i_mmap, pages, &wp_walk_ops(), &mut wp);
    if result != 0 {
        task.splat(Splat::WalkStopped(result));
    }
    wp.total
}

/// Cleans the dirty entries for `pages` in all processes and sets the bit of each in `bitmap`, whose bit 0
/// stands for `bitmap_pgoff`. Returns how many there were: a page dirty in two processes counts twice.
///
/// `bounds` are widened to hold the bits that were set; with `start >= end` they hold none so far.
pub fn clean_record_shared_mapping_range(
    task: &Task,
    mapping: &AddressSpace,
    pages: &Range<Pgoff>,
    bitmap_pgoff: Pgoff,
    bitmap: &mut Bitmap,
    bounds: &mut Range<u64>,
) -> u64 {
    let none_set = bounds.is_empty();
    let loose = mapping.machine.upstream.quirks.loose_start_of_bounds;
    let start = match (none_set, loose) {
        (false, _) => bounds.clone(),
        (true, true) => pages.end - pages.start..0,
        (true, false) => Range { start: u64::MAX, end: 0 },
    };
    let i_mmap = mapping.i_mmap_lock_read(task);
    let mut clean = CleanWalk { base: WpWalk::default(), bitmap_pgoff, bitmap, bounds: start };
    let result = walk_page_mapping(mapping, &i_mmap, pages, &clean_walk_ops(), &mut clean);
    if result != 0 {
        task.splat(Splat::WalkStopped(result));
    }
    if !clean.bounds.is_empty() || loose {
        *bounds = clean.bounds;
    }
    clean.base.total
}
