//! Vectors that the page tables of a real process can express, on those: userfaultfd and `PAGEMAP_SCAN`.
//!
//! What differs throughout: to write-protect a page and to clean it are one step, so that write permission
//! goes with the dirty bit; a page that was never accessed counts as written once; there is no count of
//! entries, and translation buffers show only in what a store does. The bounds are the driver's own.

use std::ops::Range;

use kmd_sim::addr::{PAGE_BYTES, PAGE_SIZE};
use kmd_sim::mmu::Mmu;
use kmd_sim::mmu::uffd::Uffd;
use kmd_sim::sys::memory::SharedMem;
use kmd_sim::sys::pages::TwiceMapped;

use super::common::Record;

/// A mapping of the object in this process, and what tracks it.
#[derive(Debug)]
struct Mapping {
    memory: SharedMem,
    mmu: Uffd,
}

impl Mapping {
    /// Tracks a mapping from a clean state on.
    fn tracked(memory: SharedMem) -> Self {
        let mut mmu = Uffd::new(memory).unwrap();
        let pages = memory.len() as u64 / PAGE_SIZE;
        mmu.take_dirty(0..pages, &mut |_| {}).unwrap();
        Self { memory, mmu }
    }

    fn store(&self, page: usize) {
        self.memory.store_byte(page * PAGE_BYTES, 1);
    }

    /// What `clean_record_shared_mapping_range` does; returns the number of pages.
    fn clean(&mut self, pages: Range<u64>, record: &mut Record) -> u64 {
        let mut cleaned = 0;
        let mut found = |run: Range<u64>| {
            cleaned += run.end - run.start;
            let bounds = if record.bounds.is_empty() { run.clone() } else { record.bounds.clone() };
            record.bounds = bounds.start.min(run.start)..bounds.end.max(run.end);
            record.bitmap.set(run);
        };
        self.mmu.take_dirty(pages, &mut found).unwrap();
        cleaned
    }
}

fn object(pages: u64) -> TwiceMapped {
    TwiceMapped::new("vectors", pages * PAGE_SIZE).unwrap()
}

/// Differs: nothing; the other pages stay dirty and are found later.
#[test]
fn w_01_on_the_host_a_scan_is_clipped_to_the_pages_asked_for() {
    let object = object(20);
    let mut mapping = Mapping::tracked(object.application());
    (0..10).for_each(|page| mapping.store(page));
    let mut record = Record::empty(20);
    assert_eq!(mapping.clean(5..15, &mut record), 5);
    assert_eq!(record.bits(), [5, 6, 7, 8, 9]);
    assert_eq!(mapping.clean(0..20, &mut record), 5);
}

/// Differs: a table that does not exist is no hole of the scan; its pages are not reported, and that is the
/// same.
#[test]
fn w_07_on_the_host_a_hole_in_the_middle_is_passed_over() {
    let object = object(3 * 512);
    let mut mapping = Mapping::tracked(object.application());
    mapping.store(0);
    mapping.store(2 * 512);
    let mut record = Record::empty(3 * 512);
    assert_eq!(mapping.clean(0..3 * 512, &mut record), 2);
    assert_eq!(record.bits(), [0, 1024]);
}

/// Differs: it is the clean that protects.
#[test]
fn h_02_on_the_host_what_is_protected_and_clean_is_not_found_again() {
    let object = object(8);
    let mut mapping = Mapping::tracked(object.application());
    mapping.store(0);
    let mut record = Record::empty(8);
    assert_eq!(mapping.clean(0..4, &mut record), 1);
    assert_eq!(mapping.clean(0..4, &mut record), 0);
}

/// Differs: the pages are read-only afterwards; page 1 is the one that was written before the last scan.
#[test]
fn h_03_on_the_host_clean_records_dirty_pages() {
    let object = object(8);
    let mut mapping = Mapping::tracked(object.application());
    mapping.store(1);
    mapping.clean(0..8, &mut Record::empty(8));
    mapping.store(0);
    mapping.store(2);
    let mut record = Record::empty(8);
    assert_eq!(mapping.clean(0..8, &mut record), 2);
    assert_eq!(record.bits(), [0, 2]);
    assert_eq!(record.bounds, 0..3);
}

/// Differs: nothing.
#[test]
fn h_04_on_the_host_clean_widens_bounds_that_hold_bits() {
    let object = object(8);
    let mut mapping = Mapping::tracked(object.application());
    mapping.store(1);
    let mut record = Record::empty(8);
    record.bitmap.set(4..6);
    record.bounds = 4..6;
    assert_eq!(mapping.clean(0..8, &mut record), 1);
    assert_eq!(record.bits(), [1, 4, 5]);
    assert_eq!(record.bounds, 1..6);
}

/// Differs: bounds are never written when nothing is found, as without Q-02.
#[test]
fn h_05_on_the_host_clean_of_nothing_leaves_empty_bounds() {
    let object = object(8);
    let mut mapping = Mapping::tracked(object.application());
    let mut record = Record::empty(8);
    assert_eq!(mapping.clean(0..8, &mut record), 0);
    assert_eq!(record.bounds, Range { start: 8, end: 0 });
}

/// Differs: nothing; the bounds are tight.
#[test]
fn h_07_on_the_host_bounds_are_those_of_the_bits_that_were_set() {
    let object = object(1000);
    let mut mapping = Mapping::tracked(object.application());
    mapping.store(101);
    let mut record = Record::empty(1000);
    assert_eq!(mapping.clean(100..104, &mut record), 1);
    assert_eq!(record.bits(), [101]);
    assert_eq!(record.bounds, 101..102);
}

/// Differs: two mappings of one process stand for two processes, each with a tracker of its own.
#[test]
fn h_08_on_the_host_a_page_dirty_in_two_mappings_counts_twice_and_has_one_bit() {
    let object = object(8);
    let mut one = Mapping::tracked(object.application());
    let mut other = Mapping::tracked(object.driver());
    one.store(5);
    other.store(5);
    let mut record = Record::empty(8);
    assert_eq!(one.clean(0..8, &mut record) + other.clean(0..8, &mut record), 2);
    assert_eq!(record.bits(), [5]);
    assert_eq!(record.bounds, 5..6);
}

/// Differs: the store faults in the kernel, which gives the permission back and remembers it.
#[test]
fn h_14_on_the_host_a_store_after_the_clean_is_dirty_again() {
    let object = object(8);
    let mut mapping = Mapping::tracked(object.application());
    mapping.store(3);
    let mut record = Record::empty(8);
    assert_eq!(mapping.clean(3..4, &mut record), 1);
    mapping.store(3);
    assert_eq!(mapping.clean(3..4, &mut record), 1);
}

/// Differs: a mapping that nobody accessed stands for one that nobody has.
#[test]
fn h_17_on_the_host_a_mapping_that_nobody_accessed_has_nothing_dirty() {
    let object = object(1000);
    let mut mapping = Mapping::tracked(object.application());
    let mut record = Record::empty(1000);
    assert_eq!(mapping.clean(0..8, &mut record), 0);
    assert_eq!(record.bounds, Range { start: 1000, end: 0 });
}
