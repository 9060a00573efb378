//! H-01 to H-17: the dirty helpers (`mm/mapping_dirty_helpers.c`).

use std::ops::Range;
use std::sync::Arc;

use kmd_sim::lockdep::LockClass;
use kmd_sim::mm::machine::Point;
use kmd_sim::mm::mmu_notifier::{MmEvent, Reason};
use kmd_sim::mm::vma::VmFlags;
use kmd_sim::upstream::{Profile, Upstream};

use super::common::{NODE, PRIVATE, Record, SHARED_RO, World, address, addresses};

#[test]
fn h_01_wp_takes_the_right_to_write_and_leaves_dirty_bits() {
    let world = World::fixed();
    let process = world.process();
    process.set_all(&["WD", "W", "D", "-"]);
    assert_eq!(world.wp(0..4), 2);
    assert_eq!(process.entries(0..4), ["D", "ro", "D", "-"]);
    assert_eq!(process.flushes(), [addresses(0..2)]);
}

#[test]
fn h_02_wp_of_what_is_protected_flushes_nothing() {
    let world = World::fixed();
    let process = world.process();
    process.set_all(&["WD", "W", "D", "-"]);
    world.wp(0..4);
    process.events();
    assert_eq!(world.wp(0..4), 0);
    assert_eq!(process.flushes(), []);
}

#[test]
fn h_03_clean_records_dirty_pages_and_leaves_the_right_to_write() {
    let world = World::fixed();
    let process = world.process();
    process.set_all(&["WD", "W", "D"]);
    let mut record = Record::empty(8);
    assert_eq!(world.clean(0..8, &mut record), 2);
    assert_eq!(process.entries(0..3), ["W", "W", "ro"]);
    assert_eq!(record.bits(), [0, 2]);
    assert_eq!(record.bounds, 0..3);
    assert_eq!(process.flushes(), [addresses(0..3)]);
}

#[test]
fn h_04_clean_widens_bounds_that_hold_bits() {
    let world = World::fixed();
    let process = world.process();
    process.set(1, "WD");
    let mut record = Record::empty(8);
    record.bitmap.set(4..6);
    record.bounds = 4..6;
    assert_eq!(world.clean(0..8, &mut record), 1);
    assert_eq!(record.bits(), [1, 4, 5]);
    assert_eq!(record.bounds, 1..6);
}

#[test]
fn h_05_clean_of_nothing_leaves_empty_bounds() {
    let clean_all = |world: World| {
        let _process = world.process();
        let mut record = Record::empty(8);
        assert_eq!(world.clean(0..8, &mut record), 0);
        record.bounds
    };
    assert_eq!(clean_all(World::fixed()), Range { start: 8, end: 0 });
    assert_eq!(clean_all(World::with_quirk("Q-02")), Range { start: 8, end: 0 });
}

/// `clean_record_shared_mapping_range` initialises an empty start with `nr`, and writes it back even
/// when it found nothing. Both results say "none".
#[test]
fn h_06_empty_bounds_stay_empty_when_nothing_is_found() {
    let clean_a_part = |world: World| {
        let _process = world.process();
        let mut record = Record::empty(1000);
        assert_eq!(world.clean(100..104, &mut record), 0);
        record.bounds
    };
    assert_eq!(clean_a_part(World::fixed()), Range { start: 1000, end: 0 });
    assert_eq!(clean_a_part(World::with_quirk("Q-02")), Range { start: 4, end: 0 });
}

/// the bitmap begins at the object's first page and the walk at its hundredth, so that the start `nr`
/// is lower than any bit the walk can set. Loose bounds lose nothing; they mark too much in a switch
/// of methods.
#[test]
fn h_07_bounds_are_those_of_the_bits_that_were_set() {
    let clean_one_page = |world: World| {
        let process = world.process_with(VmFlags::SHARED_RW, NODE..NODE + 200);
        process.set(101, "WD");
        let mut record = Record::empty(1000);
        assert_eq!(world.clean(100..104, &mut record), 1);
        assert_eq!(record.bits(), [101]);
        record.bounds
    };
    assert_eq!(clean_one_page(World::fixed()), 101..102);
    assert_eq!(clean_one_page(World::with_quirk("Q-02")), 4..102);
}

#[test]
fn h_08_a_page_dirty_in_two_processes_counts_twice_and_has_one_bit() {
    let world = World::fixed();
    let (one, other) = (world.process(), world.process());
    one.set(5, "WD");
    other.set(5, "D");
    let mut record = Record::empty(8);
    assert_eq!(world.clean(0..8, &mut record), 2);
    assert_eq!(record.bits(), [5]);
    assert_eq!(record.bounds, 5..6);
    assert_eq!([one.entry(5), other.entry(5)], ["W", "ro"]);
}

#[test]
fn h_09_an_area_that_was_made_read_only_is_cleaned() {
    let world = World::fixed();
    let process = world.process();
    process.set(3, "WD");
    process.mm.mprotect(&world.task, &addresses(0..8), false).unwrap();
    assert_eq!(process.entry(3), "D");
    let mut record = Record::empty(8);
    assert_eq!(world.clean(0..8, &mut record), 1);
    assert_eq!(process.entry(3), "ro");
    assert_eq!(record.bits(), [3]);
}

#[test]
fn h_10_a_private_copy_is_left_alone() {
    let world = World::fixed();
    let process = world.process_with(PRIVATE, NODE..NODE + 8);
    process.thread().store(address(2), 7).unwrap();
    assert_eq!(process.entry(2), "WDY");
    let mut record = Record::empty(8);
    assert_eq!(world.clean(0..8, &mut record), 0);
    assert_eq!(process.entry(2), "WDY");
    assert_eq!(record.bits(), []);
}

#[test]
fn h_11_an_area_that_can_never_be_written_is_left_alone() {
    let world = World::fixed();
    let process = world.process_with(SHARED_RO, NODE..NODE + 8);
    process.set(2, "W");
    process.events();
    assert_eq!(world.wp(0..8), 0);
    assert_eq!(process.entry(2), "W");
    assert_eq!(process.events(), []);
}

#[test]
fn h_12_both_helpers_leave_the_accessed_bit() {
    let world = World::fixed();
    let process = world.process();
    process.set(0, "WDY");
    world.wp(0..1);
    assert_eq!(process.entry(0), "DY");
    world.clean(0..1, &mut Record::empty(8));
    assert_eq!(process.entry(0), "Y");
}

/// The other walker has changed page 3 and not flushed yet. Whoever comes second finds nothing to change, and
/// still may not return before no CPU writes through a translation of before. The fifth posting did.
#[test]
fn h_13_a_second_walker_flushes_all_it_walked() {
    let second_walker_flushes = |profile: Profile| {
        let world = World::new(Upstream::fixed(profile), 8);
        let process = world.process();
        process.set(3, "ro");
        process.mm.mm.inc_tlb_flush_pending();
        assert_eq!(world.wp(2..6), 0);
        process.flushes()
    };
    assert_eq!(second_walker_flushes(Profile::V5Mail), []);
    assert_eq!(second_walker_flushes(Profile::V5_5), [addresses(2..6)]);
    assert_eq!(second_walker_flushes(Profile::V6_12), [addresses(2..6)]);
    assert_eq!(second_walker_flushes(Profile::Latest), [addresses(2..6)]);
}

/// What the fifth posting's shorter flush loses: the first walker has protected page 3 and not flushed, the
/// second returns, and a CPU stores by what its translation buffer remembers, without a fault.
#[test]
fn h_13_without_that_flush_a_cpu_stores_to_a_page_that_is_protected() {
    let announced_after_second_walker = |profile: Profile| {
        let world = World::new(Upstream::fixed(profile), 8);
        let process = world.process();
        process.set(3, "W");
        let cpu = process.thread();
        cpu.store(address(3), 1).unwrap();
        process.set(3, "D");
        process.mm.mm.inc_tlb_flush_pending();
        world.wp(0..8);
        cpu.store(address(3), 2).unwrap();
        world.bo.mkwritten.lock().unwrap().contains(&3)
    };
    assert!(!announced_after_second_walker(Profile::V5Mail));
    assert!(announced_after_second_walker(Profile::V5_5));
    assert!(announced_after_second_walker(Profile::Latest));
}

#[test]
fn h_14_a_store_after_the_clean_is_dirty_again() {
    let world = World::fixed();
    let process = world.process();
    process.set(3, "W");
    let cpu = process.thread();
    cpu.store(address(3), 1).unwrap();
    let mut record = Record::empty(8);
    assert_eq!(world.clean(3..4, &mut record), 1);
    assert_eq!(process.entry(3), "WY");
    cpu.store(address(3), 2).unwrap();
    assert_eq!(process.entry(3), "WDY");
    assert_eq!(world.clean(3..4, &mut record), 1);
}

/// The store goes by the translation buffer, which is not flushed yet. It is not lost: its page is recorded,
/// and is not uploaded before the helper has returned.
#[test]
fn h_15_a_store_between_clean_and_flush_is_in_the_bitmap() {
    let world = World::fixed();
    let process = world.process();
    process.set(3, "W");
    let cpu = world.machine.hardware.cpu();
    let mm = Arc::clone(&process.mm.mm);
    cpu.store(&mm.tables, mm.asid, address(3), 1).unwrap();
    world.machine.at(Point::BeforeFlush, move || {
        cpu.store(&mm.tables, mm.asid, address(3), 2).unwrap();
    });
    let mut record = Record::empty(8);
    assert_eq!(world.clean(3..4, &mut record), 1);
    assert_eq!(process.entry(3), "WY");
    assert_eq!(record.bits(), [3]);
    assert_eq!(world.machine.hardware.phys.page(world.bo.first + 3).load(0), 2);
}

#[test]
fn h_16_listeners_are_told_before_and_after_each_area() {
    let world = World::fixed();
    let process = world.process_with(VmFlags::SHARED_RW, NODE..NODE + 4);
    process.map(&world, VmFlags::SHARED_RW, NODE + 4..NODE + 8);
    process.set(3, "WD");
    process.set(4, "W");
    process.events();
    let events_of = |area: Range<u64>, changed: Range<u64>| {
        [
            MmEvent::InvalidateStart(addresses(area.clone()), Reason::ProtectionPage),
            MmEvent::FlushTlb(addresses(changed)),
            MmEvent::InvalidateEnd(addresses(area)),
            MmEvent::PendingDecremented,
        ]
    };
    assert_eq!(world.wp(2..6), 2);
    assert_eq!(process.events(), [events_of(2..4, 3..4), events_of(4..6, 4..5)].concat());
    assert_eq!(world.clean(2..6, &mut Record::empty(8)), 1);
    let silent = events_of(4..6, 4..5).into_iter().filter(|event| !matches!(event, MmEvent::FlushTlb(_)));
    let expected: Vec<_> = events_of(2..4, 3..4).into_iter().chain(silent).collect();
    assert_eq!(process.events(), expected);
}

#[test]
fn h_17_a_mapping_that_nobody_maps_has_nothing_dirty() {
    let clean_all = |world: World| {
        assert_eq!(world.wp(0..8), 0);
        let mut record = Record::empty(1000);
        assert_eq!(world.clean(0..8, &mut record), 0);
        assert!(!world.task.holds(LockClass::IMmap));
        record.bounds
    };
    assert_eq!(clean_all(World::fixed()), Range { start: 1000, end: 0 });
    assert_eq!(clean_all(World::with_quirk("Q-02")), Range { start: 8, end: 0 });
}
