//! Vectors F: faults, and what they read back.

use kmd_sim::lockdep::Task;
use kmd_sim::mm::fault::{FaultStep, Signal};
use kmd_sim::mm::vma::FaultFlags;
use kmd_sim::svga::cmd::Command;
use kmd_sim::svga::types::SurfaceId;
use kmd_sim::upstream::{Profile, Upstream};
use kmd_sim::vmwgfx::page_dirty::Method;

use crate::rig::{BASE, Kind, Rig, words};

const READ: FaultFlags = FaultFlags { write: false, allow_retry: false, retry_nowait: false, tried: false };
const WRITE: FaultFlags = FaultFlags { write: true, ..READ };
const READBACK: Command = Command::ReadbackGbSurface { sid: SurfaceId(7) };

fn fence(seqno: u32) -> Command {
    Command::Fence { seqno }
}

fn tracked(pages: u64) -> Rig {
    tracked_by(Upstream::default(), pages)
}

fn tracked_by(upstream: Upstream, pages: u64) -> Rig {
    let rig = Rig::new(upstream, pages);
    rig.add().unwrap();
    rig
}

fn pages(range: std::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn f_01_a_fault_on_an_untracked_object_maps_sixteen_pages() {
    let rig = Rig::new(Upstream::default(), 64);
    assert_eq!(rig.fault(3, READ), FaultStep::Restart);
    assert_eq!(rig.mapped_pages(), pages(3..19));
    assert_eq!(rig.pte(3), "W");
    assert_eq!(rig.commands(), []);
}

#[test]
fn f_02_a_fault_in_an_area_read_at_random_maps_one_page() {
    let rig = Rig::new(Upstream::default(), 64);
    rig.mm.madvise_random(&rig.task, &(BASE..BASE + 64 * 4096), true);
    assert_eq!(rig.fault(3, READ), FaultStep::Restart);
    assert_eq!(rig.mapped_pages(), [3]);
}

#[test]
fn f_03_without_a_resource_there_a_fault_on_a_tracked_object_maps_one_page() {
    let rig = tracked(64);
    assert_eq!(rig.fault(3, READ), FaultStep::Restart);
    assert_eq!(rig.mapped_pages(), [3]);
    assert_eq!(rig.pte(3), "W");
    assert_eq!(rig.commands(), []);
}

#[test]
fn f_04_a_fault_on_a_clean_resource_maps_to_its_end_behind_a_fence() {
    let rig = tracked(64);
    rig.attach(Kind::Surface, 0..8);
    assert_eq!(rig.fault(3, READ), FaultStep::Restart);
    assert_eq!(rig.mapped_pages(), pages(3..8));
    assert_eq!(rig.commands(), [fence(1)]);
}

#[test]
fn f_05_a_fault_on_a_dirty_resource_reads_it_back_first() {
    let rig = tracked(64);
    let res = rig.attach(Kind::Surface, 0..8);
    res.state().res_dirty = true;
    assert_eq!(rig.fault(3, READ), FaultStep::Restart);
    assert_eq!(rig.commands(), [READBACK, fence(1)]);
    assert!(!res.state().res_dirty);
    assert_eq!(rig.mapped_pages(), pages(3..8));
}

#[test]
fn f_06_with_mkwrite_a_first_store_maps_read_only_and_then_is_recorded() {
    let old = tracked_by(Upstream::fixed(Profile::V6_12), 512);
    assert_eq!(old.fault(3, WRITE), FaultStep::Restart);
    assert_eq!((old.pte(3), old.bits()), ("ro", vec![]));
    assert_eq!(old.fault(3, WRITE), FaultStep::Restart);
    assert_eq!((old.pte(3), old.bits()), ("WD", vec![3]));

    let latest = tracked(512);
    latest.attach(Kind::Surface, 0..8);
    assert_eq!(latest.fault(3, WRITE), FaultStep::Restart);
    assert_eq!(latest.bits(), [3]);
    assert_eq!((latest.pte(3), latest.pte(4)), ("WD", "ro"));
}

#[test]
fn f_07_with_the_page_table_method_a_first_store_maps_writable() {
    let rig = tracked_by(Upstream::fixed(Profile::V6_12), 64);
    assert_eq!(rig.fault(3, WRITE), FaultStep::Restart);
    assert_eq!(rig.pte(3), "W");
    rig.write(3..4);
    assert_eq!(rig.pte(3), "WD");
    assert_eq!(rig.bits(), []);
}

#[test]
fn f_08_a_prefault_leaves_entries_that_exist() {
    let rig = tracked(512);
    rig.attach(Kind::Surface, 0..8);
    rig.set_pte(4, "W");
    assert_eq!(rig.fault(3, READ), FaultStep::Restart);
    assert_eq!([3, 4, 5].map(|page| rig.pte(page)), ["ro", "W", "ro"]);
}

#[test]
fn f_09_a_fault_beyond_a_tracked_object_is_a_bus_error() {
    let rig = Rig::with_map(Upstream::default(), 8, 10);
    rig.add().unwrap();
    assert_eq!(rig.fault(8, READ), FaultStep::Signal(Signal::Bus));
    assert!(rig.all_unlocked());
}

#[test]
fn f_10_a_dirty_resource_that_cannot_be_read_back_is_a_bus_error() {
    let rig = tracked(8);
    rig.attach(Kind::WithoutClean, 0..8).state().res_dirty = true;
    assert_eq!(rig.fault(3, READ), FaultStep::Signal(Signal::Bus));
    assert!(rig.all_unlocked());
}

#[test]
fn f_11_without_command_space_a_fault_is_a_bus_error_and_the_resource_stays_dirty() {
    let rig = tracked(8);
    let res = rig.attach(Kind::Surface, 0..8);
    res.state().res_dirty = true;
    rig.dev.stream().set_capacity(0);
    assert_eq!(rig.fault(3, READ), FaultStep::Signal(Signal::Bus));
    assert!(res.state().res_dirty);
}

#[test]
fn f_12_a_fault_that_may_retry_gives_both_locks_back_and_waits_without() {
    let rig = tracked(8);
    rig.attach(Kind::Surface, 0..8).state().res_dirty = true;
    let first = FaultFlags { allow_retry: true, ..READ };
    assert_eq!(rig.fault(3, first), FaultStep::Retry { dropped: true });
    assert!(rig.all_unlocked());
    assert_eq!(rig.mapped_pages(), []);
    let again = FaultFlags { tried: true, ..first };
    assert_eq!(rig.fault(3, again), FaultStep::Restart);
    assert_eq!(rig.mapped_pages(), pages(3..8));
    assert_eq!(rig.commands(), [READBACK, fence(1), fence(2)]);
}

#[test]
fn f_13_a_fault_that_may_not_wait_keeps_mmap_lock_and_gives_the_object_back() {
    let rig = tracked(8);
    rig.attach(Kind::Surface, 0..8).state().res_dirty = true;
    let flags = FaultFlags { allow_retry: true, retry_nowait: true, ..READ };
    assert_eq!(rig.fault(3, flags), FaultStep::Retry { dropped: false });
    assert!(rig.all_unlocked());
    assert_eq!(rig.mapped_pages(), []);
}

#[test]
fn f_14_a_fault_on_a_reserved_object_gives_mmap_lock_back() {
    let rig = tracked(8);
    let other = Task::new();
    let held = rig.bo.reserve(&other);
    // The signal ends the wait for the other task, which is this thread, too.
    rig.task.signal_pending.set(true);
    let flags = FaultFlags { allow_retry: true, ..READ };
    assert_eq!(rig.fault(3, flags), FaultStep::Retry { dropped: true });
    drop(held);
    assert!(rig.all_unlocked());
}

#[test]
fn f_15_an_interrupted_wait_runs_the_instruction_again_and_a_failed_one_is_a_bus_error() {
    let interrupted = tracked(8);
    interrupted.attach(Kind::Surface, 0..8).state().res_dirty = true;
    interrupted.task.signal_pending.set(true);
    assert_eq!(interrupted.fault(3, READ), FaultStep::Restart);
    assert_eq!(interrupted.mapped_pages(), []);

    let failed = tracked(8);
    failed.attach(Kind::Surface, 0..8).state().res_dirty = true;
    failed.stall();
    assert_eq!(failed.fault(3, READ), FaultStep::Signal(Signal::Bus));
}

#[test]
fn f_16_a_fault_reads_back_what_it_maps_and_no_more() {
    let fixed = tracked(200);
    fixed.attach(Kind::Surface, 0..4);
    let far = fixed.attach(Kind::Surface, 100..104);
    far.state().res_dirty = true;
    assert_eq!(fixed.fault(1, READ), FaultStep::Restart);
    assert!(far.state().res_dirty);
    assert_eq!(fixed.mapped_pages(), pages(1..4));

    let wide = tracked_by(Upstream::with_quirk("Q-07"), 200);
    wide.attach(Kind::Surface, 0..4);
    let far = wide.attach(Kind::Surface, 100..104);
    far.state().res_dirty = true;
    assert_eq!(wide.fault(1, READ), FaultStep::Restart);
    assert!(!far.state().res_dirty);
    assert_eq!(wide.mapped_pages(), pages(1..17));
}

#[test]
fn f_17_a_resource_5000_pages_ahead_is_left_alone() {
    let rig = tracked_by(Upstream::with_quirk("Q-07"), 6000);
    let far = rig.attach(Kind::Surface, 5000..5004);
    far.state().res_dirty = true;
    assert_eq!(rig.fault(0, READ), FaultStep::Restart);
    assert!(far.state().res_dirty);
    assert_eq!(rig.mapped_pages(), [0]);
}

#[test]
fn f_18_pages_before_a_resource_are_mapped_one_by_one() {
    let fixed = tracked(64);
    fixed.attach(Kind::Surface, 20..24);
    assert_eq!(fixed.fault(10, READ), FaultStep::Restart);
    assert_eq!(fixed.mapped_pages(), [10]);

    let wide = tracked_by(Upstream::with_quirk("Q-07"), 64);
    wide.attach(Kind::Surface, 20..24);
    assert_eq!(wide.fault(10, READ), FaultStep::Restart);
    assert_eq!(wide.mapped_pages(), pages(10..24));
}

#[test]
fn f_19_of_two_surfaces_at_one_offset_the_longer_decides() {
    let fixed = tracked(64);
    fixed.attach(Kind::Surface, 0..16).state().res_dirty = true;
    fixed.attach(Kind::Surface, 0..1);
    assert_eq!(fixed.fault(8, READ), FaultStep::Restart);
    assert_eq!(fixed.commands(), [READBACK, fence(1)]);
    assert_eq!(fixed.mapped_pages(), pages(8..16));

    let upstream = tracked_by(Upstream::with_quirk("Q-08"), 64);
    upstream.attach(Kind::Surface, 0..16).state().res_dirty = true;
    upstream.attach(Kind::Surface, 0..1);
    assert_eq!(upstream.fault(8, READ), FaultStep::Restart);
    assert_eq!(upstream.commands(), [READBACK]);
    assert_eq!(upstream.mapped_pages(), [8]);
}

#[test]
fn f_20_a_prefault_ends_where_the_area_does() {
    let rig = Rig::with_map(Upstream::default(), 64, 13);
    assert_eq!(rig.fault(10, READ), FaultStep::Restart);
    assert_eq!(rig.mapped_pages(), pages(10..13));
}

#[test]
fn f_21_a_missing_page_ends_the_prefault_and_at_the_fault_is_no_memory() {
    let first = Rig::new(Upstream::default(), 64);
    first.reserved(|state| {
        state.tt.populate(&first.machine);
        state.tt.lose_page(3);
    });
    assert_eq!(first.fault(3, READ), FaultStep::Oom);

    let third = Rig::new(Upstream::default(), 64);
    third.reserved(|state| {
        state.tt.populate(&third.machine);
        state.tt.lose_page(5);
    });
    assert_eq!(third.fault(3, READ), FaultStep::Restart);
    assert_eq!(third.mapped_pages(), [3, 4]);
}

#[test]
fn f_22_a_batch_that_writes_a_resource_takes_its_pages_from_every_process() {
    let rig = tracked(8);
    let second = rig.second_process();
    let res = rig.attach(Kind::Surface, 0..8);
    rig.write(0..8);
    kmd_sim::mm::fault::Thread::new(&second).store(BASE + 4096, 3).unwrap();
    rig.validate(&res, true).unwrap();
    assert_eq!(rig.mapped_pages(), []);
    assert_eq!(words(second.mm.tables.pte(BASE + 4096)), "-");
    assert_eq!(rig.method().0, Method::Pagetable);
    assert_eq!(crate::rig::runs(&res), std::slice::from_ref(&(0..8 * 4096)));
}
