//! W-01 to W-14: the page-table walk (`mm/pagewalk.c`, `mm/huge_memory.c`).

use std::ops::Range;

use kmd_sim::lockdep::{LockClass, Splat};
use kmd_sim::mm::huge_memory::{pmd_trans_huge_lock, vmf_insert_pfn_pmd};
use kmd_sim::mm::pagewalk::{MmWalk, MmWalkOps, walk_page_mapping, walk_page_range};
use kmd_sim::mm::vma::VmFlags;
use kmd_sim::mmu::soft::page_table::{AtomicPte, PMD_SIZE, Slot};
use kmd_sim::upstream::{Profile, Upstream};

use super::common::{AT, NODE, P, PRIVATE, Process, Record, SHARED_RO, World, address, addresses, spell};

/// What a walk called, in order; entries by the number of calls.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    Test(Range<u64>),
    Pre(u64, Range<u64>),
    Ptes(Range<u64>),
    Hole(Range<u64>),
    Post,
}

/// What the callbacks of [`recording`] share: a log, and what they are to return.
#[derive(Debug, Default)]
struct Log {
    calls: Vec<Call>,
    ptes: usize,
    test_walk: i32,
    pre_vma: i32,
    /// Result of the callback for the n-th entry, counted from 1.
    stop_at_pte: Option<(usize, i32)>,
}

fn test_walk(addresses: Range<u64>, _: &mut MmWalk<'_>, log: &mut Log) -> i32 {
    log.calls.push(Call::Test(addresses));
    log.test_walk
}

fn pre_vma(addresses: Range<u64>, walk: &mut MmWalk<'_>, log: &mut Log) -> i32 {
    log.calls.push(Call::Pre(walk.mm.asid, addresses));
    log.pre_vma
}

fn post_vma(_: &mut MmWalk<'_>, log: &mut Log) {
    log.calls.push(Call::Post);
}

fn pte_hole(addresses: Range<u64>, _: &mut MmWalk<'_>, log: &mut Log) -> i32 {
    log.calls.push(Call::Hole(addresses));
    0
}

fn pte_entry(_: &AtomicPte, addresses: Range<u64>, walk: &mut MmWalk<'_>, log: &mut Log) -> i32 {
    assert!(walk.task.holds(LockClass::Ptl));
    log.ptes += 1;
    match log.calls.last_mut() {
        Some(Call::Ptes(so_far)) if so_far.end == addresses.start => so_far.end = addresses.end,
        _ => log.calls.push(Call::Ptes(addresses)),
    }
    log.stop_at_pte.filter(|(at, _)| *at == log.ptes).map_or(0, |(_, result)| result)
}

/// Operations that write down what they are called with.
fn recording() -> MmWalkOps<Log> {
    MmWalkOps {
        pte_entry: Some(pte_entry),
        test_walk: Some(test_walk),
        pre_vma: Some(pre_vma),
        post_vma: Some(post_vma),
        ..MmWalkOps::default()
    }
}

/// `walk_page_mapping` of `nr` pages from `first` on.
fn walk(world: &World, first: u64, nr: u64, ops: &MmWalkOps<Log>, log: &mut Log) -> i32 {
    let i_mmap = world.mapping.i_mmap_lock_read(&world.task);
    walk_page_mapping(&world.mapping, &i_mmap, &(NODE + first..NODE + first + nr), ops, log)
}

fn rw(world: &World, pages: Range<u64>) -> Process {
    world.process_with(VmFlags::SHARED_RW, NODE + pages.start..NODE + pages.end)
}

#[test]
fn w_01_a_walk_is_clipped_to_the_pages_asked_for() {
    let world = World::fixed();
    let process = rw(&world, 100..110);
    process.set(100, "W");
    let mut log = Log::default();
    assert_eq!(walk(&world, 105, 10, &recording(), &mut log), 0);
    let clipped = addresses(105..110);
    assert_eq!(
        log.calls,
        [
            Call::Test(addresses(100..110)),
            Call::Pre(process.mm.mm.asid, clipped.clone()),
            Call::Ptes(clipped),
            Call::Post,
        ]
    );
    assert_eq!(log.ptes, 5);
}

#[test]
fn w_02_areas_are_walked_by_their_first_page_each_with_its_hooks() {
    let world = World::fixed();
    let (later, earlier) = (rw(&world, 105..120), rw(&world, 100..110));
    later.set(105, "W");
    earlier.set(100, "W");
    let mut log = Log::default();
    assert_eq!(walk(&world, 100, 20, &recording(), &mut log), 0);
    assert_eq!(
        log.calls,
        [
            Call::Test(addresses(100..110)),
            Call::Pre(earlier.mm.mm.asid, addresses(100..110)),
            Call::Ptes(addresses(100..110)),
            Call::Post,
            Call::Test(addresses(105..120)),
            Call::Pre(later.mm.mm.asid, addresses(105..120)),
            Call::Ptes(addresses(105..120)),
            Call::Post,
        ]
    );
    assert_eq!(log.ptes, 25);
}

#[test]
fn w_03_a_private_area_does_not_end_the_walk() {
    let protect = |world: World| {
        let _private = world.process_with(PRIVATE, NODE + 100..NODE + 110);
        let shared = rw(&world, 100..110);
        shared.set(103, "WD");
        (world.wp(100..110), shared.entry(103))
    };
    assert_eq!(protect(World::fixed()), (1, "D".into()));
    assert_eq!(protect(World::with_quirk("Q-01")), (0, "WD".into()));
}

/// Q-01, as a program runs into it. `walk_page_mapping` in `mm/pagewalk.c` leaves its loop over the VMAs
/// where `test_walk` returns a positive number, and returns 0. `walk_page_range` goes on with the next VMA
/// instead. `wp_clean_test_walk` in `mm/mapping_dirty_helpers.c` returns 1 for an area without `VM_MAYWRITE`:
/// a shared mapping by a process that opened the device `O_RDONLY`. So:
///
/// 1. process X opens the device `O_RDONLY` and maps the buffer object;
/// 2. process Y opens it `O_RDWR`, maps the same object and stores `0x5a` to the first byte of its page 3;
/// 3. the driver scans the object for a batch: the walk meets X's area first, and ends;
/// 4. the page is not in the bitmap, no `UPDATE_GB_IMAGE` names it, and the GPU reads the byte of before.
///
/// The byte at offset `3 * 4096` does not reach the GPU as long as X has its mapping, and never if the page
/// is unmapped before that, since a zap forgets the dirty bit. X needs no more than the right to open the
/// device, and to map the object first.
#[test]
fn w_03_a_reader_that_opened_the_device_read_only_hides_the_stores_of_others() {
    let scan = |world: World| {
        let _x = world.process_with(SHARED_RO, NODE..NODE + 8);
        let y = world.process();
        y.thread().store(address(3), 0x5a).unwrap();
        let mut record = Record::empty(8);
        let found = world.clean(0..8, &mut record);
        (found, record.bits())
    };
    assert_eq!(scan(World::fixed()), (1, vec![3]));
    assert_eq!(scan(World::with_quirk("Q-01")), (0, vec![]));
}

/// Q-01 again: an object that was found clean three times is write-protected, so that the next store is
/// announced. With a reader in front of it nothing is protected, and no store is announced ever after.
#[test]
fn w_03_a_reader_that_opened_the_device_read_only_keeps_the_pages_of_others_writable() {
    let announced = |world: World| {
        let _x = world.process_with(SHARED_RO, NODE..NODE + 8);
        let y = world.process();
        y.set(3, "W");
        world.wp(0..8);
        y.thread().store(address(3), 0x5a).unwrap();
        world.bo.mkwritten.lock().unwrap().contains(&3)
    };
    assert!(announced(World::fixed()));
    assert!(!announced(World::with_quirk("Q-01")));
}

#[test]
fn w_04_an_error_of_test_walk_ends_the_walk() {
    let world = World::fixed();
    let process = rw(&world, 0..8);
    process.set(0, "W");
    const EPERM: i32 = -1;
    let mut log = Log { test_walk: EPERM, ..Log::default() };
    assert_eq!(walk(&world, 0, 8, &recording(), &mut log), EPERM);
    assert_eq!(log.calls, [Call::Test(addresses(0..8))]);
}

#[test]
fn w_05_an_error_of_pre_vma_ends_the_walk_without_post_vma() {
    let world = World::fixed();
    let process = rw(&world, 0..8);
    process.set(0, "W");
    let mut log = Log { pre_vma: -5, ..Log::default() };
    assert_eq!(walk(&world, 0, 8, &recording(), &mut log), -5);
    assert_eq!(log.calls, [Call::Test(addresses(0..8)), Call::Pre(process.mm.mm.asid, addresses(0..8))]);
}

#[test]
fn w_06_a_walk_that_is_stopped_runs_post_vma_and_gives_locks_back() {
    let world = World::fixed();
    let process = rw(&world, 0..8);
    process.set(0, "W");
    let mut log = Log { stop_at_pte: Some((2, 3)), ..Log::default() };
    assert_eq!(walk(&world, 0, 8, &recording(), &mut log), 3);
    assert_eq!(log.ptes, 2);
    assert_eq!(log.calls.last(), Some(&Call::Post));
    assert!(!world.task.holds(LockClass::Ptl));
    assert!(!world.task.holds(LockClass::IMmap));
    process.thread().store(address(1), 1).unwrap();
}

#[test]
fn w_07_a_hole_in_the_middle_is_passed_over() {
    let world = World::new(Upstream::default(), 3 * 512);
    let process = rw(&world, 0..3 * 512);
    process.set(0, "W");
    process.set(2 * 512, "W");
    let mut log = Log::default();
    assert_eq!(walk(&world, 0, 3 * 512, &recording(), &mut log), 0);
    assert_eq!(
        log.calls[2..],
        [Call::Ptes(addresses(0..512)), Call::Ptes(addresses(1024..1536)), Call::Post]
    );
    let mut log = Log::default();
    let ops = MmWalkOps { pte_hole: Some(pte_hole), ..recording() };
    assert_eq!(walk(&world, 0, 3 * 512, &ops, &mut log), 0);
    assert_eq!(log.calls[3], Call::Hole(addresses(512..1024)));
}

#[test]
fn w_08_empty_entries_of_a_table_are_called_for_too() {
    let world = World::fixed();
    let process = rw(&world, 0..512);
    process.set(7, "W");
    process.set(8, "D");
    process.set(511, "ro");
    let mut log = Log::default();
    assert_eq!(walk(&world, 0, 512, &recording(), &mut log), 0);
    assert_eq!(log.ptes, 512);
}

#[test]
fn w_09_an_area_that_ends_where_the_walk_begins_is_not_visited() {
    let world = World::fixed();
    let process = rw(&world, 90..100);
    process.set(99, "W");
    let mut log = Log::default();
    assert_eq!(walk(&world, 100, 5, &recording(), &mut log), 0);
    assert_eq!(log.calls, []);
}

/// A process that maps the object's first 512 pages with one huge entry.
fn huge(world: &World, write: bool) -> Process {
    let process = rw(world, 0..512);
    assert!(vmf_insert_pfn_pmd(&world.task, &process.mm.mm, AT, world.bo.first, write));
    process
}

#[test]
fn w_10_a_huge_entry_that_is_read_only_and_clean_is_skipped() {
    let walk_huge = |profile: Profile| {
        let world = World::new(Upstream::fixed(profile), 512);
        let process = huge(&world, false);
        let mut record = Record::empty(512);
        let counts = (world.wp(0..512), world.clean(0..512, &mut record));
        assert_eq!(record.bits(), []);
        assert_eq!(world.task.take_splats(), []);
        (counts, spell(process.mm.mm.tables.pte(AT + 17 * P)))
    };
    assert_eq!(walk_huge(Profile::V6_12), ((0, 0), "Y".into()));
    assert_eq!(walk_huge(Profile::Latest), ((0, 0), "Y".into()));
    // Before callbacks had a say the walk split what it could not descend into.
    assert_eq!(walk_huge(Profile::V5_5), ((0, 0), "-".into()));
}

#[test]
fn w_11_a_huge_entry_that_is_writable_is_warned_of() {
    let protect_huge = |profile: Profile| {
        let world = World::new(Upstream::fixed(profile), 512);
        let process = huge(&world, true);
        assert_eq!(world.wp(0..512), 0);
        assert_eq!(world.task.take_splats(), [Splat::DirtyHugeEntry]);
        process.entry(0)
    };
    assert_eq!(protect_huge(Profile::V5Mail), "-");
    assert_eq!(protect_huge(Profile::V5_5), "-");
    assert_eq!(protect_huge(Profile::V6_12), "WY");
    assert_eq!(protect_huge(Profile::Latest), "WY");
}

/// What the warning of W-11 is about: the store is in no bitmap.
#[test]
fn w_11_what_is_stored_by_way_of_a_writable_huge_entry_is_not_recorded() {
    let world = World::fixed();
    let process = huge(&world, true);
    process.thread().store(address(9), 1).unwrap();
    let mut record = Record::empty(512);
    assert_eq!(world.clean(0..512, &mut record), 0);
    assert_eq!(record.bits(), []);
    assert_eq!(world.task.take_splats(), [Splat::DirtyHugeEntry]);
}

/// Patch 1: a walk of a mapping holds `i_mmap_rwsem` and no `mmap_lock`, and either keeps the tables.
#[test]
fn w_12_huge_entries_are_locked_under_either_lock() {
    let world = World::fixed();
    let process = huge(&world, false);
    let pmd = process.mm.mm.tables.pmd(AT).unwrap();
    assert!(pmd_trans_huge_lock(&world.task, &pmd, AT).is_some());
    assert_eq!(world.task.take_splats(), [Splat::NotHeld(LockClass::MmapLock)]);

    let i_mmap = world.mapping.i_mmap_lock_read(&world.task);
    assert!(pmd_trans_huge_lock(&world.task, &pmd, AT).is_some());
    drop(i_mmap);
    let mmap = process.mm.mmap_read_lock(&world.task);
    assert!(pmd_trans_huge_lock(&world.task, &pmd, AT).is_some());
    drop(mmap);
    assert_eq!(world.task.take_splats(), []);
}

#[test]
fn w_12_a_table_of_small_entries_is_not_locked_as_huge() {
    let world = World::fixed();
    let process = rw(&world, 0..8);
    process.set(0, "W");
    let pmd = process.mm.mm.tables.pmd(AT).unwrap();
    let _mmap = process.mm.mmap_read_lock(&world.task);
    assert!(pmd_trans_huge_lock(&world.task, &pmd, AT).is_none());
    assert!(!world.task.holds(LockClass::Ptl));
    assert!(matches!(pmd.get(AT), Some(Slot::Table(_))));
    assert!(pmd.get(AT + PMD_SIZE).is_none());
}

fn sleeping_pte_entry(_: &AtomicPte, _: Range<u64>, walk: &mut MmWalk<'_>, _: &mut Log) -> i32 {
    walk.task.might_sleep();
    0
}

#[test]
fn w_13_a_callback_that_sleeps_under_the_page_table_lock_is_found() {
    let world = World::fixed();
    let process = rw(&world, 0..8);
    process.set(0, "W");
    let ops = MmWalkOps { pte_entry: Some(sleeping_pte_entry), ..recording() };
    assert_eq!(walk(&world, 0, 1, &ops, &mut Log::default()), 0);
    assert_eq!(world.task.take_splats(), [Splat::SleepInAtomic]);
}

fn has_struct_page(world: &World) -> Process {
    let flags = VmFlags::SHARED_RW.without(VmFlags::PFNMAP).or(VmFlags::MIXEDMAP);
    let process = world.process_with(flags, NODE..NODE + 8);
    process.set(0, "W");
    process
}

/// Without a `test_walk` an area of frame numbers is skipped, by a positive result like any other: with Q-01
/// whatever comes after it as well. The dirty helpers must bring a `test_walk` of their own.
#[test]
fn w_14_frame_number_areas_are_skipped_by_default() {
    let entries_called_for = |world: World| {
        let frames = rw(&world, 0..8);
        frames.set(0, "W");
        let _behind = has_struct_page(&world);
        let mut log = Log::default();
        let ops = MmWalkOps { test_walk: None, ..recording() };
        assert_eq!(walk(&world, 0, 8, &ops, &mut log), 0);
        log.ptes
    };
    assert_eq!(entries_called_for(World::fixed()), 8);
    assert_eq!(entries_called_for(World::with_quirk("Q-01")), 0);
}

/// A walk of addresses never had the defect: it is the model for the fix.
#[test]
fn w_14_a_walk_of_addresses_goes_on_behind_a_skipped_area() {
    let world = World::with_quirk("Q-01");
    let process = has_struct_page(&world);
    process.map(&world, VmFlags::SHARED_RW, NODE + 8..NODE + 16);
    process.map(&world, VmFlags::SHARED_RW.without(VmFlags::PFNMAP), NODE + 16..NODE + 24);
    let mut log = Log::default();
    let ops = MmWalkOps { test_walk: None, ..recording() };
    let mmap = process.mm.mmap_read_lock(&world.task);
    assert_eq!(walk_page_range(&mmap, &addresses(0..24), &ops, &mut log), 0);
    assert_eq!(log.ptes, 16);
}
