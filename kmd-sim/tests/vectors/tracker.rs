//! Vectors T: the tracker of buffer objects.

use kmd_sim::error::Error;
use kmd_sim::mm::fault::{FaultStep, Signal, Thread};
use kmd_sim::mm::machine::Point;
use kmd_sim::mm::vma::FaultFlags;
use kmd_sim::ttm::object::MemType;
use kmd_sim::upstream::{Profile, Upstream};
use kmd_sim::vmwgfx::page_dirty::Method::{Mkwrite, Pagetable};

use crate::rig::{BASE, Rig};

const WRITE: FaultFlags = FaultFlags { write: true, allow_retry: false, retry_nowait: false, tried: false };

/// A tracked object with as many pages.
fn tracked(pages: u64) -> Rig {
    let rig = Rig::new(Upstream::default(), pages);
    rig.add().unwrap();
    rig
}

/// A small tracked object that has changed to the mkwrite method.
fn small_mkwrite(pages: u64) -> Rig {
    let rig = tracked(pages);
    rig.scan();
    rig.scan();
    rig.scan();
    assert_eq!(rig.method(), (Mkwrite, 0));
    rig
}

#[test]
fn t_01_an_object_of_511_pages_starts_with_the_page_table() {
    let rig = Rig::new(Upstream::default(), 511);
    rig.set_pte(3, "WD");
    rig.add().unwrap();
    assert_eq!(rig.method(), (Pagetable, 0));
    assert_eq!(rig.bounds(), (511, 0));
    assert_eq!(rig.ref_count(), Some(1));
    assert_eq!(rig.pte(3), "WD");
}

#[test]
fn t_02_an_object_of_512_pages_starts_with_mkwrite_and_what_is_dirty_already() {
    let rig = Rig::new(Upstream::default(), 512);
    rig.set_pte(3, "WD");
    rig.add().unwrap();
    assert_eq!(rig.method(), (Mkwrite, 0));
    assert_eq!(rig.pte(3), "ro");
    assert_eq!(rig.bits(), [3]);
    assert_eq!(rig.bounds(), (3, 4));
}

#[test]
fn t_03_users_are_counted() {
    let rig = tracked(8);
    rig.add().unwrap();
    assert_eq!(rig.ref_count(), Some(2));
    rig.release();
    assert_eq!(rig.ref_count(), Some(1));
    rig.release();
    assert_eq!(rig.ref_count(), None);
}

#[test]
fn t_04_releasing_what_is_not_tracked_does_nothing() {
    let rig = Rig::new(Upstream::default(), 8);
    rig.release();
    assert_eq!(rig.ref_count(), None);
}

#[test]
fn t_05_a_scan_collects_dirty_entries() {
    let rig = tracked(8);
    rig.set_pte(2, "WD");
    rig.set_pte(5, "WD");
    rig.scan();
    assert_eq!(rig.bits(), [2, 5]);
    assert_eq!(rig.bounds(), (2, 6));
    assert_eq!(rig.method(), (Pagetable, 0));
    assert_eq!((rig.pte(2), rig.pte(5)), ("W", "W"));
}

#[test]
fn t_06_three_empty_scans_change_to_mkwrite() {
    let rig = tracked(8);
    rig.set_pte(1, "W");
    rig.scan();
    assert_eq!(rig.method(), (Pagetable, 1));
    rig.scan();
    assert_eq!(rig.method(), (Pagetable, 2));
    rig.scan();
    assert_eq!(rig.method(), (Mkwrite, 0));
    assert_eq!(rig.pte(1), "ro");
}

#[test]
fn t_07_a_scan_that_finds_something_starts_the_count_again() {
    let rig = tracked(8);
    rig.scan();
    rig.scan();
    rig.set_pte(1, "WD");
    rig.scan();
    rig.scan();
    rig.scan();
    assert_eq!(rig.method(), (Pagetable, 2));
}

#[test]
fn t_08_a_store_between_the_last_empty_clean_and_the_protection_is_found() {
    let rig = tracked(8);
    rig.set_pte(4, "W");
    rig.scan();
    rig.scan();
    let mm = std::sync::Arc::clone(&rig.mm);
    rig.machine.at(Point::BeforeSwitchProtect, move || {
        Thread::new(&mm).store(BASE + 4 * 4096, 9).unwrap();
    });
    rig.scan();
    assert_eq!(rig.method(), (Mkwrite, 0));
    assert_eq!(rig.bits(), [4]);
    assert_eq!(rig.pte(4), "ro");
}

#[test]
fn t_09_an_idle_mkwrite_scan_does_nothing_and_counts_nothing() {
    let rig = tracked(1000);
    for _ in 0..2 {
        rig.write(0..110);
        rig.scan();
        rig.drain();
    }
    assert_eq!(rig.method(), (Mkwrite, 2));
    rig.mm.mm.take_events();
    rig.scan();
    assert_eq!(rig.method(), (Mkwrite, 2));
    assert_eq!(rig.mm.mm.take_events(), []);
}

#[test]
fn t_10_three_scans_with_110_of_1000_pages_change_to_the_page_table() {
    let rig = tracked(1000);
    rig.write(0..110);
    rig.scan();
    assert_eq!(rig.method(), (Mkwrite, 1));
    rig.drain();
    rig.write(0..110);
    rig.scan();
    assert_eq!(rig.method(), (Mkwrite, 2));
    rig.drain();
    rig.write(0..110);
    rig.scan();
    assert_eq!(rig.method(), (Pagetable, 0));
    assert_eq!(rig.bits(), (0..110).collect::<Vec<_>>());
}

#[test]
fn t_11_109_of_1000_pages_are_ten_percent_and_not_more() {
    let rig = tracked(1000);
    rig.write(0..109);
    rig.scan();
    assert_eq!(rig.method(), (Mkwrite, 0));
}

#[test]
fn t_12_idle_scans_between_do_not_start_the_count_again() {
    let rig = tracked(1000);
    for _ in 0..2 {
        rig.write(0..110);
        rig.scan();
        rig.drain();
        rig.scan();
    }
    assert_eq!(rig.method(), (Mkwrite, 2));
    rig.write(0..110);
    rig.scan();
    assert_eq!(rig.method(), (Pagetable, 0));
}

#[test]
fn t_13_of_512_pages_56_are_ten_percent_and_57_are_eleven() {
    let below = tracked(512);
    below.write(0..56);
    below.scan();
    let above = tracked(512);
    above.write(0..57);
    above.scan();
    assert_eq!(below.method(), (Mkwrite, 0));
    assert_eq!(above.method(), (Mkwrite, 1));
}

#[test]
fn t_14_a_page_writable_in_two_processes_counts_twice() {
    let rig = tracked(1000);
    let second = rig.second_process();
    rig.write(0..55);
    let other = Thread::new(&second);
    for page in 0..55 {
        other.store(BASE + page * 4096, 2).unwrap();
    }
    rig.scan();
    assert_eq!(rig.method(), (Mkwrite, 1));
}

#[test]
fn t_15_a_mkwrite_scan_protects_inside_of_the_bounds() {
    let rig = tracked(1000);
    rig.write(4..5);
    rig.write(9..10);
    rig.set_pte(20, "W");
    rig.scan();
    assert_eq!(rig.bits(), [4, 9]);
    assert_eq!(rig.bounds(), (4, 10));
    assert_eq!((rig.pte(4), rig.pte(9), rig.pte(20)), ("D", "D", "W"));
}

#[test]
fn t_16_dirty_bits_of_before_are_discarded_by_the_change_to_the_page_table() {
    let rig = small_mkwrite(100);
    for _ in 0..2 {
        rig.write(0..20);
        rig.scan();
        rig.drain();
    }
    rig.write(0..20);
    rig.set_pte(50, "D");
    rig.scan();
    assert_eq!(rig.method(), (Pagetable, 0));
    assert_eq!(rig.pte(50), "ro");
    assert_eq!(rig.bits(), (0..20).collect::<Vec<_>>());
}

#[test]
fn t_17_a_write_to_a_read_only_entry_is_recorded() {
    let rig = tracked(1000);
    rig.set_pte(7, "ro");
    let step = rig.fault(7, WRITE);
    assert_eq!(step, FaultStep::Restart);
    assert_eq!(rig.bits(), [7]);
    assert_eq!(rig.bounds(), (7, 8));
    assert_eq!(rig.pte(7), "WD");
}

#[test]
fn t_18_a_second_write_changes_nothing() {
    let rig = tracked(1000);
    rig.set_pte(7, "ro");
    rig.fault(7, WRITE);
    rig.set_pte(7, "ro");
    rig.fault(7, WRITE);
    assert_eq!(rig.bits(), [7]);
    assert_eq!(rig.bounds(), (7, 8));
}

#[test]
fn t_19_with_the_page_table_method_a_write_fault_records_nothing_and_the_scan_finds_it() {
    let rig = tracked(8);
    rig.set_pte(3, "ro");
    let step = rig.fault(3, WRITE);
    assert_eq!(step, FaultStep::Restart);
    assert_eq!(rig.bits(), []);
    assert_eq!(rig.pte(3), "WD");
    rig.scan();
    assert_eq!(rig.bits(), [3]);
}

#[test]
fn t_20_a_write_beyond_the_object_is_a_bus_error() {
    let rig = Rig::with_map(Upstream::default(), 512, 514);
    rig.add().unwrap();
    rig.set_pte(512, "ro");
    let step = rig.fault(512, WRITE);
    assert_eq!(step, FaultStep::Signal(Signal::Bus));
    assert!(rig.all_unlocked());
}

#[test]
fn t_21_a_write_to_a_reserved_object_waits_and_in_linux_5_5_goes_round() {
    let old = Rig::new(Upstream::fixed(Profile::V5_5), 512);
    old.add().unwrap();
    old.set_pte(1, "ro");
    let other = kmd_sim::lockdep::Task::new();
    let held = old.bo.reserve(&other);
    let retry = FaultFlags { allow_retry: true, ..WRITE };
    assert_eq!(old.fault(1, retry), FaultStep::Restart);
    drop(held);
    assert_eq!((old.pte(1), old.bits()), ("ro", vec![]));

    let new = tracked(512);
    new.set_pte(1, "ro");
    let held = new.bo.reserve(&other);
    let mm = std::sync::Arc::clone(&new.mm);
    let writer = std::thread::spawn(move || Thread::new(&mm).store(BASE + 4096, 5));
    assert_eq!(new.pte(1), "ro");
    drop(held);
    assert_eq!(writer.join().unwrap(), Ok(()));
    assert_eq!((new.pte(1), new.bits()), ("WD", vec![1]));
}

#[test]
fn t_22_a_signal_ends_the_wait_and_the_instruction_runs_again() {
    let rig = tracked(512);
    rig.set_pte(1, "ro");
    let other = kmd_sim::lockdep::Task::new();
    let held = rig.bo.reserve(&other);
    rig.task.signal_pending.set(true);
    let step = rig.fault(1, WRITE);
    drop(held);
    assert_eq!(step, FaultStep::Restart);
    assert_eq!((rig.pte(1), rig.bits()), ("ro", vec![]));
}

#[test]
fn t_23_unmapping_a_part_saves_its_dirty_bits() {
    let rig = tracked(8);
    rig.set_pte(5, "WD");
    rig.set_pte(2, "WD");
    rig.unmap(4..8);
    assert_eq!(rig.bits(), [5]);
    assert_eq!(rig.bounds(), (5, 6));
    assert_eq!([4, 5, 6, 7].map(|page| rig.pte(page)), ["-"; 4]);
    assert_eq!(rig.pte(2), "WD");

    let loose = Rig::new(Upstream::with_quirk("Q-02"), 8);
    loose.add().unwrap();
    loose.set_pte(5, "WD");
    loose.unmap(4..8);
    assert_eq!(loose.bounds(), (4, 6));
}

#[test]
fn t_24_unmapping_keeps_what_mkwrite_recorded() {
    let rig = tracked(512);
    rig.write(5..6);
    assert_eq!(rig.pte(5), "WD");
    rig.unmap(4..8);
    assert_eq!(rig.pte(5), "-");
    assert_eq!(rig.bits(), [5]);
}

#[test]
fn t_25_stale_empty_bounds_widen_to_a_superset() {
    let rig = tracked(512);
    rig.write(1..6);
    rig.reserved(|state| {
        state.driver.dirty.as_mut().unwrap().clear_res(&(0..512 * 4096));
    });
    assert_eq!(rig.bounds(), (6, 1));
    rig.write(7..8);
    assert_eq!(rig.bounds(), (6, 8));
    rig.write(0..1);
    assert_eq!(rig.bounds(), (0, 8));
    assert_eq!(rig.bits(), [0, 7]);
}

#[test]
fn t_26_without_a_tracker_a_write_fault_makes_the_entry_writable() {
    let rig = tracked(512);
    rig.set_pte(2, "ro");
    rig.release();
    let step = rig.fault(2, WRITE);
    assert_eq!(step, FaultStep::Restart);
    assert_eq!(rig.pte(2), "WD");
}

#[test]
fn t_27_without_memory_for_the_bitmap_nothing_is_tracked() {
    let rig = Rig::with_map(Upstream::default(), 1 << 46, 8);
    assert_eq!(rig.add(), Err(Error::NoMemory));
    assert_eq!(rig.ref_count(), None);
}

#[test]
fn t_28_a_move_takes_entries_away_and_no_write() {
    let fixed = tracked(8);
    fixed.set_pte(1, "WD");
    fixed.reserved(|state| fixed.dev.bo_move(&fixed.task, &fixed.bo, state, MemType::Mob)).unwrap();
    assert_eq!(fixed.pte(1), "-");
    fixed.scan();
    assert_eq!(fixed.bits(), [1]);

    let lossy = Rig::new(Upstream::with_quirk("Q-05"), 8);
    lossy.add().unwrap();
    lossy.set_pte(1, "WD");
    lossy.reserved(|state| lossy.dev.bo_move(&lossy.task, &lossy.bo, state, MemType::Mob)).unwrap();
    lossy.scan();
    assert_eq!(lossy.bits(), []);
    assert_eq!(lossy.method(), (Pagetable, 1));
}

#[test]
fn t_29_munmap_takes_entries_away_and_no_write() {
    let fixed = tracked(8);
    fixed.set_pte(1, "WD");
    fixed.mm.munmap(&fixed.task, &(BASE..BASE + 8 * 4096));
    fixed.scan();
    assert_eq!(fixed.bits(), [1]);

    let lossy = Rig::new(Upstream::with_quirk("Q-05"), 8);
    lossy.add().unwrap();
    lossy.set_pte(1, "WD");
    lossy.mm.munmap(&lossy.task, &(BASE..BASE + 8 * 4096));
    lossy.scan();
    assert_eq!(lossy.bits(), []);
}
