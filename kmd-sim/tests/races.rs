//! Races of the soft machine, explored by shuttle: `scripts/shuttle` runs them.
//!
//! Each is explored twice: as it is, and with its guard removed, to see that the exploration would find the
//! lost byte. Where upstream lacks the guard, it is removed by the quirk.
#![cfg(shuttle)]

use std::ops::Range;

use kmd_sim::addr::Pgoff;
use kmd_sim::bitmap::Bitmap;
use kmd_sim::lockdep::Task;
use kmd_sim::mm::fault::Thread;
use kmd_sim::mm::mapping_dirty_helpers::wp_shared_mapping_range;
use kmd_sim::mm::mm_struct::Mm;
use kmd_sim::mm::pagewalk::{MmWalk, MmWalkOps, walk_page_mapping};
use kmd_sim::mm::vma::VmFlags;
use kmd_sim::mmu::soft::page_table::AtomicPte;
use kmd_sim::soft_system::SoftSystem;
use kmd_sim::svga::cmd::Command;
use kmd_sim::svga::format::SurfaceFormat;
use kmd_sim::svga::surface_layout::SurfaceMetadata;
use kmd_sim::svga::types::{ImageId, Size3d, ViewId};
use kmd_sim::sync::{Arc, Mutex, PoisonError};
use kmd_sim::upstream::{Profile, Upstream};
use kmd_sim::vmwgfx::bo::{Bo, DevMapping};
use kmd_sim::vmwgfx::drv::VmwPrivate;
use kmd_sim::vmwgfx::file::SurfaceCreate;
use kmd_sim::vmwgfx::page_dirty::{Mapping, Method};
use kmd_sim::vmwgfx::vm_ops::mapped;

/// Interleavings tried; a planted defect shows after a few hundred.
const ITERATIONS: usize = 3000;
const ADDRESS: u64 = 0x10_0000_0000;
const PAGE: u64 = 4096;
/// The page the tests are about.
const WRITTEN: u64 = 3;

/// Runs a scenario in many interleavings, each with few changes from one thread to the other: a submission is
/// a thousand steps long, and a fault that pauses during all of them would hardly ever be drawn at random.
fn explore(scenario: impl Fn() + Send + Sync + 'static) {
    shuttle::check_pct(scenario, ITERATIONS, 3);
}

/// A tracked object that a process maps, and what was uploaded of one of its pages.
struct World {
    dev: Arc<VmwPrivate>,
    bo: Arc<Bo>,
    mm: Mm,
    uploaded: Mutex<u8>,
}

impl World {
    fn new(upstream: Upstream, pages: u64) -> Arc<Self> {
        let SoftSystem { machine, dev, .. } = SoftSystem::new(upstream);
        let bo = dev.bo_create(pages * PAGE);
        let mm = Mm::new(&machine);
        let task = Task::new();
        dev.bo_dirty_add(&task, &bo, &mut bo.reserve(&task)).unwrap();
        mm.mmap(&task, &dev.mapping, mapped(&dev, &bo, ADDRESS, VmFlags::SHARED_RW));
        Arc::new(Self { dev, bo, mm, uploaded: Mutex::new(0) })
    }

    fn scan(&self, task: &Task) {
        self.dev.bo_dirty_scan(task, &self.bo, &mut self.bo.reserve(task));
    }

    /// A batch that reads the object: scan, and upload of what was written.
    fn submit(&self, task: &Task) {
        self.submit_through(task, |mapping| mapping);
    }

    /// The same, with page tables that `careless` has its hands on.
    fn submit_through<'a, M: Mapping>(&'a self, task: &'a Task, careless: impl Fn(DevMapping<'a>) -> M) {
        let mut state = self.bo.reserve(task);
        let pfn = state.tt.page(WRITTEN);
        let tracker = state.driver.dirty.as_mut().unwrap();
        tracker.scan(self.bo.node.start, &[], &mut careless(self.dev.tables(task)));
        tracker.transfer_to_res(&(0..self.bo.size), false, |run| {
            if let (true, Some(pfn)) = (run.contains(&WRITTEN), pfn) {
                let byte = self.dev.machine.hardware.phys.page(pfn).load(0);
                *self.uploaded.lock().unwrap_or_else(PoisonError::into_inner) = byte;
            }
        });
    }

    fn method(&self, task: &Task) -> Method {
        self.bo.reserve(task).driver.dirty.as_ref().unwrap().method()
    }
}

/// A thread stores while another submits. The next submission has uploaded the store.
fn store_against_submit<F>(world: &Arc<World>, submit: F)
where
    F: Fn(&World, &Task) + Send + 'static,
{
    let storing = {
        let world = Arc::clone(world);
        shuttle::thread::spawn(move || {
            Thread::new(&world.mm).store(ADDRESS + WRITTEN * PAGE, 9).unwrap();
        })
    };
    let submitting = {
        let world = Arc::clone(world);
        shuttle::thread::spawn(move || submit(&world, &Task::new()))
    };
    storing.join().unwrap();
    submitting.join().unwrap();
    world.submit(&Task::new());
    assert_eq!(*world.uploaded.lock().unwrap(), 9, "a store was never uploaded");
}

/// A small object that is about to change to the mkwrite method, its page mapped writable and clean.
fn about_to_switch() -> Arc<World> {
    let world = World::new(Upstream::default(), 8);
    let task = Task::new();
    Thread::new(&world.mm).load(ADDRESS + WRITTEN * PAGE).unwrap();
    world.scan(&task);
    world.scan(&task);
    assert_eq!(world.method(&task), Method::Pagetable);
    world
}

/// A large object, with the mkwrite method, its page mapped read-only.
fn mkwrite(upstream: Upstream) -> Arc<World> {
    let world = World::new(upstream, 512);
    Thread::new(&world.mm).load(ADDRESS + WRITTEN * PAGE).unwrap();
    assert_eq!(world.method(&Task::new()), Method::Mkwrite);
    world
}

/// What a scan leaves out.
#[derive(Clone, Copy, PartialEq)]
enum Careless {
    /// Write-protects with a load and a store of the entry, as if the hardware did not write it, too.
    NotAtomic,
    /// Collects once, and not again after the protection.
    NoSecondClean,
}

/// The device's mapping, in careless hands.
struct CarelessMapping<'a> {
    tables: DevMapping<'a>,
    world: &'a World,
    task: &'a Task,
    careless: Careless,
    cleaned: bool,
}

fn careless_wp_pte(entry: &AtomicPte, _: Range<u64>, _: &mut MmWalk<'_>, total: &mut u64) -> i32 {
    let pte = entry.get();
    if pte.write() {
        entry.set(pte.wrprotect());
        *total += 1;
    }
    0
}

impl Mapping for CarelessMapping<'_> {
    fn has_mkwrite(&self) -> bool {
        true
    }

    fn wp_shared_mapping_range(&mut self, pages: &Range<Pgoff>) -> u64 {
        if self.careless == Careless::NoSecondClean {
            return self.tables.wp_shared_mapping_range(pages);
        }
        let mapping = &self.world.dev.mapping;
        let i_mmap = mapping.i_mmap_lock_read(self.task);
        let mut total = 0;
        let ops = MmWalkOps {
            pte_entry: Some(careless_wp_pte),
            test_walk: Some(|_, _, _| 0),
            ..MmWalkOps::default()
        };
        walk_page_mapping(mapping, &i_mmap, pages, &ops, &mut total);
        self.world.mm.mm.flush_tlb_range(&(ADDRESS..ADDRESS + self.world.bo.size));
        total
    }

    fn clean_record_shared_mapping_range(
        &mut self,
        pages: &Range<Pgoff>,
        bitmap_pgoff: Pgoff,
        bitmap: &mut Bitmap,
        bounds: &mut Range<u64>,
    ) -> u64 {
        let cleaned = std::mem::replace(&mut self.cleaned, true);
        if cleaned && self.careless == Careless::NoSecondClean {
            return 0;
        }
        self.tables.clean_record_shared_mapping_range(pages, bitmap_pgoff, bitmap, bounds)
    }

    fn unmap_mapping_range(&mut self, pages: &Range<Pgoff>) {
        self.tables.unmap_mapping_range(pages);
    }
}

fn careless_switch(careless: Careless) {
    store_against_submit(&about_to_switch(), move |world, task| {
        world.submit_through(task, |tables| CarelessMapping {
            tables,
            world,
            task,
            careless,
            cleaned: false,
        });
    });
}

#[test]
fn a_scan_that_changes_the_method_loses_no_store() {
    let scenario = || store_against_submit(&about_to_switch(), |world, task| world.submit(task));
    explore(scenario);
}

#[test]
#[should_panic(expected = "a store was never uploaded")]
fn an_entry_that_is_not_taken_out_loses_the_hardwares_dirty_bit() {
    explore(|| careless_switch(Careless::NotAtomic));
}

#[test]
#[should_panic(expected = "a store was never uploaded")]
fn without_a_second_clean_a_store_before_the_protection_is_lost() {
    explore(|| careless_switch(Careless::NoSecondClean));
}

#[test]
fn mkwrite_against_write_protect_loses_no_store() {
    let scenario = || store_against_submit(&mkwrite(Upstream::default()), |world, task| world.submit(task));
    explore(scenario);
}

#[test]
#[should_panic(expected = "a store was never uploaded")]
fn an_entry_widened_without_the_reservation_loses_the_store() {
    let scenario =
        || store_against_submit(&mkwrite(Upstream::with_quirk("Q-16")), |world, task| world.submit(task));
    explore(scenario);
}

/// Two walkers protect one page, which a CPU holds a writable translation of. When either returns, a store
/// faults.
fn two_walkers(upstream: Upstream) {
    let world = World::new(upstream, 8);
    let thread = Thread::new(&world.mm);
    let address = ADDRESS + WRITTEN * PAGE;
    thread.store(address, 1).unwrap();
    let cpu = Arc::new(thread.cpu);
    let walker = || {
        let (world, cpu) = (Arc::clone(&world), Arc::clone(&cpu));
        shuttle::thread::spawn(move || {
            let task = Task::new();
            wp_shared_mapping_range(&task, &world.dev.mapping, &world.bo.node);
            let stored = cpu.store(&world.mm.mm.tables, world.mm.mm.asid, address, 2);
            assert!(stored.is_err(), "a stale translation outlived the walk");
        })
    };
    let walkers = [walker(), walker()];
    walkers.into_iter().for_each(|walker| walker.join().unwrap());
}

#[test]
fn two_walkers_leave_no_stale_translation() {
    explore(|| two_walkers(Upstream::default()));
}

#[test]
#[should_panic(expected = "a stale translation outlived the walk")]
fn without_the_nested_flush_the_second_walker_returns_too_early() {
    explore(|| two_walkers(Upstream::fixed(Profile::V5Mail)));
}

/// A store to a page that is mapped read-only, while a batch fills the surface and another one uploads what
/// is on record: the device's bytes beside the store survive.
fn fault_against_a_batch_that_writes(upstream: Upstream) {
    const VIEW: ViewId = ViewId(0);
    let system = Arc::new(SoftSystem::new(upstream));
    let mm = Arc::new(system.process());
    let cpu = Thread::new(&mm);
    let image = SurfaceMetadata::new(SurfaceFormat::R8G8B8A8_UNORM, Size3d::new(1024, 2, 1));
    let surface = system.file.surface_create(&cpu.task, &SurfaceCreate::coherent(image)).unwrap();
    let at = system.map_surface(&cpu, surface);
    let read = Command::BlitSurfaceToScreen { src: ImageId::first(surface), screen: 0 };
    // Three scans that find nothing: from then on stores are announced.
    for _ in 0..3 {
        system.file.execbuf(&cpu.task, None, &[read]).unwrap();
    }
    let context = system.file.context_create(true);
    let define = Command::DxDefineRenderTargetView { view: VIEW, sid: surface };
    system.file.execbuf(&cpu.task, Some(context), &[define]).unwrap();
    assert_eq!(cpu.load(at), Ok(0));

    let storing = {
        let mm = Arc::clone(&mm);
        shuttle::thread::spawn(move || Thread::new(&mm).store(at, 9).unwrap())
    };
    let submitting = {
        let system = Arc::clone(&system);
        shuttle::thread::spawn(move || {
            let task = Task::new();
            let clear = Command::DxClearRenderTargetView { view: VIEW, rgba: u32::from_le_bytes([0xEE; 4]) };
            system.file.execbuf(&task, Some(context), &[clear]).unwrap();
            system.file.execbuf(&task, None, &[read]).unwrap();
        })
    };
    storing.join().unwrap();
    submitting.join().unwrap();
    assert_eq!(cpu.load(at + 1), Ok(0xEE), "a stale page went over what the device wrote");
}

#[test]
fn a_fault_that_waits_for_a_batch_leaves_what_the_batch_writes() {
    explore(|| fault_against_a_batch_that_writes(Upstream::default()));
}

#[test]
#[should_panic(expected = "a stale page went over what the device wrote")]
fn a_fault_that_records_its_page_behind_the_batch_overwrites_it() {
    explore(|| fault_against_a_batch_that_writes(Upstream::with_quirk("R-08")));
}
