//! Vectors T and X that the page tables of a real process can express, on those: the tracker of an object
//! over what one scan found, as the live path has it.
//!
//! What differs throughout: stores are never announced, so that there is the page-table method alone; bounds
//! are a superset, and no vector's exact ones are asked for.

use std::ops::Range;

use kmd_sim::addr::{PAGE_BYTES, PAGE_SIZE};
use kmd_sim::coherence::gathered::Gathered;
use kmd_sim::error::Error;
use kmd_sim::mmu::Mmu;
use kmd_sim::mmu::uffd::Uffd;
use kmd_sim::sys::pages::TwiceMapped;
use kmd_sim::vmwgfx::page_dirty::{BoDirty, Method};

/// A tracked object in this process. A is on its pages 0..4, B on 4..8, C on 0..8 and M on 2..4.
struct Object {
    /// Declared first: it ends before the mapping does.
    uffd: Uffd,
    memory: TwiceMapped,
    gathered: Gathered,
    dirty: Option<BoDirty>,
    pages: u64,
}

impl Object {
    fn tracked(pages: u64) -> Self {
        let memory = TwiceMapped::new("vectors", pages * PAGE_SIZE).unwrap();
        let mut uffd = Uffd::new(memory.application()).unwrap();
        uffd.take_dirty(0..pages, &mut |_| {}).unwrap();
        let mut gathered = Gathered::new(pages);
        let mut dirty = None;
        BoDirty::add(&mut dirty, 0, pages, &mut gathered).unwrap();
        Self { uffd, memory, gathered, dirty, pages }
    }

    /// A tracked object of 8 pages of which these were written, and found by a scan.
    fn dirty(pages: &[usize]) -> Self {
        let mut object = Self::tracked(8);
        pages.iter().for_each(|page| object.store(*page));
        object.scan();
        object
    }

    fn store(&self, page: usize) {
        self.memory.application().store_byte(page * PAGE_BYTES, 1);
    }

    fn scan(&mut self) {
        let gathered = &mut self.gathered;
        self.uffd.take_dirty(0..self.pages, &mut |run| gathered.report(run)).unwrap();
        self.dirty.as_mut().unwrap().scan(0, &[], gathered);
    }

    fn bits(&self) -> Vec<u64> {
        let dirty = self.dirty.as_ref().unwrap();
        let bits: Vec<u64> = (0..self.pages).filter(|page| dirty.bitmap().test(*page)).collect();
        assert!(bits.iter().all(|bit| dirty.bounds().contains(bit)), "bits outside of the bounds");
        bits
    }

    fn transfer(&mut self, pages: Range<u64>) -> Vec<(u64, u64)> {
        let mut runs = Vec::new();
        let bytes = pages.start * PAGE_SIZE..pages.end * PAGE_SIZE;
        let dirty = self.dirty.as_mut().unwrap();
        dirty.transfer_to_res(&bytes, false, |run| runs.push((run.start, run.end)));
        runs
    }

    fn clear(&mut self, pages: Range<u64>) {
        self.dirty.as_mut().unwrap().clear_res(&(pages.start * PAGE_SIZE..pages.end * PAGE_SIZE));
    }
}

#[test]
fn t_01_on_the_host_an_object_starts_clean_with_the_page_table() {
    let object = Object::tracked(511);
    let dirty = object.dirty.as_ref().unwrap();
    assert_eq!((dirty.method(), dirty.ref_count()), (Method::Pagetable, 1));
    assert_eq!(object.bits(), []);
}

/// Differs: a large object has the page-table method, too.
#[test]
fn t_02_on_the_host_an_object_of_512_pages_starts_with_the_page_table() {
    let object = Object::tracked(512);
    assert_eq!(object.dirty.as_ref().unwrap().method(), Method::Pagetable);
}

#[test]
fn t_03_on_the_host_users_are_counted() {
    let mut object = Object::tracked(8);
    BoDirty::add(&mut object.dirty, 0, 8, &mut object.gathered).unwrap();
    BoDirty::release(&mut object.dirty);
    assert_eq!(object.dirty.as_ref().map(BoDirty::ref_count), Some(1));
    BoDirty::release(&mut object.dirty);
    assert!(object.dirty.is_none());
}

#[test]
fn t_05_on_the_host_a_scan_collects_written_pages() {
    let mut object = Object::tracked(8);
    object.store(2);
    object.store(5);
    object.scan();
    assert_eq!(object.bits(), [2, 5]);
}

/// Differs: no number of empty scans changes the method.
#[test]
fn t_06_on_the_host_empty_scans_change_nothing() {
    let mut object = Object::tracked(8);
    (0..4).for_each(|_| object.scan());
    let dirty = object.dirty.as_ref().unwrap();
    assert_eq!((dirty.method(), dirty.change_count()), (Method::Pagetable, 0));
    object.store(4);
    object.scan();
    assert_eq!(object.bits(), [4]);
}

#[test]
fn t_27_on_the_host_without_memory_for_the_bitmap_nothing_is_tracked() {
    let mut dirty = None;
    assert_eq!(BoDirty::add(&mut dirty, 0, 1 << 58, &mut Gathered::new(8)), Err(Error::NoMemory));
    assert!(dirty.is_none());
}

#[test]
fn x_01_on_the_host_a_resource_gets_its_own_pages_and_leaves_the_others() {
    let mut object = Object::dirty(&[1, 5]);
    assert_eq!(object.transfer(0..4), [(1, 2)]);
    assert_eq!(object.bits(), [5]);
}

#[test]
fn x_02_on_the_host_the_upper_of_two_resources_leaves_the_lower() {
    let mut object = Object::dirty(&[1, 5]);
    assert_eq!(object.transfer(4..8), [(5, 6)]);
    assert_eq!(object.bits(), [1]);
}

#[test]
fn x_03_on_the_host_a_resource_on_all_pages_drains_the_tracker() {
    let mut object = Object::dirty(&[1, 2, 5]);
    assert_eq!(object.transfer(0..8), [(1, 3), (5, 6)]);
    assert!(!object.dirty.unwrap().is_dirty());
}

#[test]
fn x_04_on_the_host_pages_that_follow_each_other_are_one_run() {
    let mut object = Object::dirty(&[1, 2]);
    assert_eq!(object.transfer(0..4), [(1, 3)]);
}

#[test]
fn x_05_on_the_host_a_resource_in_the_middle_leaves_both_sides() {
    let mut object = Object::dirty(&[1, 2, 3, 5]);
    assert_eq!(object.transfer(2..4), [(2, 4)]);
    assert_eq!(object.bits(), [1, 5]);
}

#[test]
fn x_06_on_the_host_a_resource_outside_of_the_bounds_gets_nothing() {
    let mut object = Object::dirty(&[6, 7]);
    assert_eq!(object.transfer(0..4), []);
    assert_eq!(object.bits(), [6, 7]);
}

#[test]
fn x_07_on_the_host_clearing_all_pages_leaves_nothing() {
    let mut object = Object::dirty(&[1, 5]);
    object.clear(0..8);
    assert_eq!(object.bits(), []);
    assert!(!object.dirty.unwrap().is_dirty());
}

#[test]
fn x_08_on_the_host_clearing_one_side_leaves_the_other() {
    let mut lower = Object::dirty(&[1, 5]);
    lower.clear(0..4);
    let mut upper = Object::dirty(&[1, 5]);
    upper.clear(4..8);
    assert_eq!((lower.bits(), upper.bits()), (vec![5], vec![1]));
}

#[test]
fn x_09_on_the_host_clearing_the_middle_leaves_both_sides() {
    let mut object = Object::dirty(&[1, 3, 5]);
    object.clear(2..4);
    assert_eq!(object.bits(), [1, 5]);
}

#[test]
fn x_12_on_the_host_a_write_after_a_clear_is_found() {
    let mut object = Object::dirty(&[1, 5]);
    object.clear(0..8);
    object.store(3);
    object.scan();
    assert_eq!(object.bits(), [3]);
}
