//! System calls that change an address space: what becomes of entries, their dirty bits, and the object's
//! areas.

use std::sync::atomic::Ordering;

use kmd_sim::lockdep::Task;
use kmd_sim::mm::fault::Signal;
use kmd_sim::mm::huge_memory::{vmf_insert_pfn_pmd, vmf_insert_pfn_pud};
use kmd_sim::mm::memory::unmap_mapping_range;
use kmd_sim::mm::mm_struct::Mm;
use kmd_sim::mm::vma::VmFlags;
use kmd_sim::mmu::soft::page_table::PUD_SIZE;

#[path = "vectors/common.rs"]
mod common;

use common::{AT, NODE, P, PRIVATE, Process, Record, SHARED_RO, World, address, addresses, spell};

/// The areas of an address space: first page by the place for it, pages, first page of the object.
fn areas(mm: &Mm) -> Vec<(u64, u64, u64)> {
    let task = Task::new();
    let vmas = mm.mmap_read_lock(&task);
    let describe = |vma: &kmd_sim::mm::vma::Vma| {
        ((vma.addresses.start - AT) / P, vma.pages().end - vma.pgoff, vma.pgoff - NODE)
    };
    vmas.values().map(|vma| describe(vma)).collect()
}

/// Page offsets that areas of the mapping begin at.
fn mapped(world: &World) -> Vec<u64> {
    let i_mmap = world.mapping.i_mmap_lock_read(&world.task);
    i_mmap.overlapping(&(0..u64::MAX)).iter().map(|vma| vma.pgoff - NODE).collect()
}

#[test]
fn fork_gives_the_child_clean_entries() {
    let world = World::fixed();
    let parent = world.process();
    parent.set_all(&["WDY", "DY", "WY"]);
    let child = parent.mm.fork(&world.task);
    let entries = |mm: &Mm| [0, 1, 2, 3].map(|page| spell(mm.mm.tables.pte(address(page))));
    assert_eq!(entries(&parent.mm), ["WDY", "DY", "WY", "-"]);
    assert_eq!(entries(&child), ["W", "ro", "W", "-"]);
    assert_eq!(areas(&child), [(0, 8, 0)]);
    assert_eq!(mapped(&world), [0, 0]);
    let mut record = Record::empty(8);
    assert_eq!(world.clean(0..8, &mut record), 2);
}

#[test]
fn after_a_fork_a_private_page_has_two_values() {
    let world = World::fixed();
    let parent = world.process_with(PRIVATE, NODE..NODE + 8);
    let in_parent = parent.thread();
    in_parent.store(address(1), 1).unwrap();
    let child = parent.mm.fork(&world.task);
    assert_eq!(parent.entry(1), "DY");
    let in_child = kmd_sim::mm::fault::Thread::new(&child);
    in_parent.store(address(1), 2).unwrap();
    assert_eq!(in_child.load(address(1)), Ok(1));
    in_child.store(address(1), 3).unwrap();
    assert_eq!(in_parent.load(address(1)), Ok(2));
    assert_eq!(world.machine.hardware.phys.page(world.bo.first + 1).load(0), 0);
}

#[test]
fn every_cpu_of_a_process_reads_its_private_copy() {
    let world = World::fixed();
    let process = world.process_with(PRIVATE, NODE..NODE + 8);
    let (one, other) = (process.thread(), process.thread());
    assert_eq!(other.load(address(0)), Ok(0));
    one.store(address(0), 9).unwrap();
    assert_eq!(other.load(address(0)), Ok(9));
}

#[test]
fn a_private_page_below_a_huge_entry_is_copied_alone() {
    let world = World::fixed();
    let process = world.process_with(PRIVATE, NODE..NODE + 512);
    let shared = world.process_with(VmFlags::SHARED_RW, NODE..NODE + 512);
    shared.thread().store(address(5), 4).unwrap();
    world.bo.huge.store(true, Ordering::SeqCst);
    let thread = process.thread();
    assert_eq!(thread.load(address(5)), Ok(4));
    assert_eq!(process.entry(511), "Y");
    thread.store(address(5) + 1, 7).unwrap();
    assert_eq!(thread.load(address(5)), Ok(4));
    assert_eq!(thread.load(address(5) + 1), Ok(7));
    assert_eq!(shared.thread().load(address(5) + 1), Ok(0));
}

#[test]
fn munmap_of_the_middle_leaves_two_areas() {
    let world = World::fixed();
    let process = world.process();
    process.set_all(&["WD", "WD", "WD", "WD", "WD", "WD", "WD", "WD"]);
    process.mm.munmap(&world.task, &addresses(2..5));
    assert_eq!(areas(&process.mm), [(0, 2, 0), (5, 3, 5)]);
    assert_eq!(process.entries(0..8), ["WD", "WD", "-", "-", "-", "WD", "WD", "WD"]);
    assert_eq!(mapped(&world), [0, 5]);
    assert_eq!(process.thread().load(address(3)), Err(Signal::Segv));
    assert_eq!(process.thread().load(address(8)), Err(Signal::Segv));
    process.thread().load(address(5)).unwrap();
}

#[test]
fn munmap_of_a_part_takes_a_huge_entry_as_a_whole() {
    let world = World::fixed();
    let process = world.process_with(VmFlags::SHARED_RW, NODE..NODE + 1024);
    world.bo.huge.store(true, Ordering::SeqCst);
    process.thread().load(address(0)).unwrap();
    process.thread().load(address(512)).unwrap();
    process.mm.munmap(&world.task, &addresses(0..1));
    assert_eq!(process.entries(510..514), ["-", "-", "Y", "Y"]);
}

#[test]
fn exit_leaves_nothing_mapped() {
    let world = World::fixed();
    let process = world.process();
    process.map(&world, PRIVATE, NODE + 512..NODE + 600);
    process.thread().store(address(3), 1).unwrap();
    process.mm.exit(&world.task);
    assert_eq!(areas(&process.mm), []);
    assert_eq!(mapped(&world), []);
    assert!(process.mm.mm.tables.leaf(AT).is_none());
}

#[test]
fn page_tables_go_with_the_last_area_that_uses_them() {
    let world = World::fixed();
    let process = world.process();
    process.map(&world, VmFlags::SHARED_RW, NODE + 8..NODE + 16);
    process.set(0, "W");
    process.set(8, "WD");
    process.mm.munmap(&world.task, &addresses(0..8));
    assert_eq!(process.entry(8), "WD");
    process.mm.munmap(&world.task, &addresses(8..16));
    assert!(process.mm.mm.tables.leaf(address(8)).is_none());
}

#[test]
fn mprotect_of_a_part_takes_its_right_to_write_and_keeps_dirty_bits() {
    let world = World::fixed();
    let process = world.process();
    process.set_all(&["WD", "WD", "W", "WD"]);
    process.mm.mprotect(&world.task, &addresses(1..3), false).unwrap();
    assert_eq!(process.entries(0..4), ["WD", "D", "ro", "WD"]);
    assert_eq!(areas(&process.mm), [(0, 1, 0), (1, 2, 1), (3, 5, 3)]);
    assert_eq!(process.thread().store(address(1), 1), Err(Signal::Segv));
    process.thread().load(address(1)).unwrap();
    process.mm.mprotect(&world.task, &addresses(0..8), true).unwrap();
    process.thread().store(address(1), 1).unwrap();
    assert_eq!(process.entry(1), "WDY");
}

#[test]
fn an_area_of_a_device_opened_for_reading_cannot_be_made_writable() {
    let world = World::fixed();
    let process = world.process_with(SHARED_RO, NODE..NODE + 8);
    assert!(process.mm.mprotect(&world.task, &addresses(0..8), true).is_err());
    assert_eq!(process.thread().store(address(1), 1), Err(Signal::Segv));
}

#[test]
fn madvise_marks_a_part() {
    let world = World::fixed();
    let process = world.process();
    process.set(2, "WD");
    process.mm.madvise_random(&world.task, &addresses(2..4), true);
    let random = |process: &Process| {
        let vmas = process.mm.mmap_read_lock(&world.task);
        vmas.values().map(|vma| vma.flags.contains(VmFlags::RAND_READ)).collect::<Vec<_>>()
    };
    assert_eq!(random(&process), [false, true, false]);
    assert_eq!(process.entry(2), "WD");
    process.mm.madvise_random(&world.task, &addresses(0..8), false);
    assert_eq!(random(&process), [false, false, false]);
}

#[test]
fn mremap_moves_entries_with_their_bits() {
    let world = World::fixed();
    let process = world.process();
    process.set_all(&["WDY", "D", "-", "WY"]);
    // Across the end of a table, and out of step with it.
    let to = addresses(510..518);
    let moved = process.mm.mremap(&world.task, &addresses(0..8), &to).unwrap();
    assert_eq!(process.entries(510..514), ["WDY", "D", "-", "WY"]);
    assert_eq!(process.entries(0..4), ["-", "-", "-", "-"]);
    assert_eq!(moved.pgoff, NODE);
    assert_eq!(areas(&process.mm), [(510, 8, 0)]);
    assert_eq!(mapped(&world), [0]);
    let mut record = Record::empty(8);
    assert_eq!(world.clean(0..8, &mut record), 2);
    assert_eq!(record.bits(), [0, 1]);
}

#[test]
fn mremap_within_a_table_moves_entries() {
    let world = World::fixed();
    let process = world.process();
    process.set_all(&["WD", "W"]);
    process.mm.mremap(&world.task, &addresses(0..8), &addresses(8..16)).unwrap();
    assert_eq!(process.entries(0..2), ["-", "-"]);
    assert_eq!(process.entries(8..10), ["WD", "W"]);
}

#[test]
fn mremap_to_less_room_zaps_the_tail() {
    let world = World::fixed();
    let process = world.process();
    process.set_all(&["WD", "WD", "WD", "WD", "WD"]);
    process.mm.mremap(&world.task, &addresses(0..8), &addresses(100..103)).unwrap();
    assert_eq!(areas(&process.mm), [(100, 3, 0)]);
    assert_eq!(process.entries(99..105), ["-", "WD", "WD", "WD", "-", "-"]);
    assert_eq!(process.entries(0..5), ["-", "-", "-", "-", "-"]);
}

#[test]
fn mremap_of_a_part_leaves_the_rest_and_replaces_what_is_there() {
    let world = World::fixed();
    let process = world.process();
    process.map(&world, VmFlags::SHARED_RW, NODE + 100..NODE + 110);
    process.set(3, "WD");
    process.set(104, "WD");
    process.mm.mremap(&world.task, &addresses(2..4), &addresses(104..106)).unwrap();
    assert_eq!(areas(&process.mm), [(0, 2, 0), (4, 4, 4), (100, 4, 100), (104, 2, 2), (106, 4, 106)]);
    assert_eq!(process.entries(104..106), ["-", "WD"]);
}

#[test]
fn mremap_refuses_to_grow_and_to_overlap() {
    let world = World::fixed();
    let process = world.process();
    let refused = |old, new| process.mm.mremap(&world.task, &addresses(old), &addresses(new)).is_none();
    assert!(refused(0..8, 100..109));
    assert!(refused(0..8, 4..12));
    assert!(refused(0..8, 0..4));
    assert!(refused(4..9, 100..105));
    assert!(refused(200..208, 100..108));
    assert_eq!(areas(&process.mm), [(0, 8, 0)]);
}

#[test]
fn a_cpu_stores_to_where_a_page_was_moved_and_no_longer_where_it_was() {
    let world = World::fixed();
    let process = world.process();
    let cpu = process.thread();
    cpu.store(address(0), 1).unwrap();
    process.mm.mremap(&world.task, &addresses(0..8), &addresses(100..108)).unwrap();
    assert_eq!(cpu.store(address(0), 2), Err(Signal::Segv));
    assert_eq!(cpu.load(address(100)), Ok(1));
}

#[test]
fn unmap_mapping_range_takes_entries_of_all_processes() {
    let world = World::fixed();
    let (one, other) = (world.process(), world.process());
    let private = world.process_with(PRIVATE, NODE..NODE + 8);
    let in_one = one.thread();
    in_one.store(address(2), 1).unwrap();
    other.set(2, "WD");
    private.thread().store(address(2), 5).unwrap();
    private.thread().load(address(3)).unwrap();
    unmap_mapping_range(&world.task, &world.mapping, &(NODE + 2..NODE + 4), false);
    assert_eq!([one.entry(2), other.entry(2)], ["-", "-"]);
    assert_eq!(private.entries(2..4), ["WDY", "-"]);
    world.bo.mkwritten.lock().unwrap().clear();
    in_one.store(address(2), 2).unwrap();
    assert!(world.bo.mkwritten.lock().unwrap().contains(&2));
    unmap_mapping_range(&world.task, &world.mapping, &(NODE + 2..NODE + 3), true);
    assert_eq!(private.entry(2), "-");
}

#[test]
fn a_store_below_a_huge_entry_makes_small_ones() {
    let world = World::fixed();
    let process = world.process_with(VmFlags::SHARED_RW, NODE..NODE + 512);
    world.bo.huge.store(true, Ordering::SeqCst);
    let cpu = process.thread();
    cpu.load(address(1)).unwrap();
    assert_eq!(process.entries(0..2), ["Y", "Y"]);
    cpu.store(address(1), 1).unwrap();
    assert_eq!(process.entries(0..2), ["-", "WDY"]);
    assert_eq!(cpu.load(address(1)), Ok(1));
}

#[test]
fn fork_leaves_huge_entries_for_the_child_to_fault_in() {
    let world = World::fixed();
    let process = world.process_with(VmFlags::SHARED_RW, NODE..NODE + 512);
    assert!(vmf_insert_pfn_pmd(&world.task, &process.mm.mm, AT, world.bo.first, false));
    let child = process.mm.fork(&world.task);
    assert!(child.mm.tables.leaf(AT).is_none());
    assert_eq!(process.entry(0), "Y");
}

#[test]
fn a_writable_huge_entry_is_split_by_mprotect() {
    let world = World::fixed();
    let process = world.process_with(VmFlags::SHARED_RW, NODE..NODE + 512);
    assert!(vmf_insert_pfn_pmd(&world.task, &process.mm.mm, AT, world.bo.first, true));
    let cpu = process.thread();
    cpu.store(address(0), 1).unwrap();
    process.mm.mprotect(&world.task, &addresses(0..512), false).unwrap();
    assert_eq!(cpu.store(address(0), 2), Err(Signal::Segv));
    assert_eq!(cpu.load(address(0)), Ok(1));
}

#[test]
fn a_gigantic_entry_is_skipped_by_the_helpers_and_zapped_as_a_whole() {
    const PAGES: u64 = PUD_SIZE / P;
    let world = World::fixed();
    let process = world.process_with(VmFlags::SHARED_RW, NODE..NODE + PAGES);
    assert!(vmf_insert_pfn_pud(&world.task, &process.mm.mm, AT, world.bo.first, false));
    assert_eq!(world.wp(0..PAGES), 0);
    assert_eq!(process.entries(0..2), ["Y", "Y"]);
    assert_eq!(process.thread().load(address(1000)), Ok(0));
    unmap_mapping_range(&world.task, &world.mapping, &(NODE..NODE + 1), true);
    assert_eq!(process.entry(1000), "-");
}
