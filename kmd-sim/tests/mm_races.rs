//! The dirty helpers while everything else happens: threads that store, areas that are split, protected and
//! moved, children that come and go. What a store left is uploaded by the next scan.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use kmd_sim::lockdep::Task;
use kmd_sim::mm::mapping_dirty_helpers::wp_shared_mapping_range;
use kmd_sim::mmu::soft::page_table::{AtomicPte, Pte};

#[path = "vectors/common.rs"]
mod common;

use common::{NODE, P, Process, Record, World, address, addresses};

const PAGES: u64 = 8;
const BYTES: usize = 8;
/// Stores of a test.
const STEPS: u64 = 300;

/// One CPU uses an entry that another cleans: each time exactly one of the two knows of the store.
#[test]
fn no_dirty_bit_is_lost_between_take_and_set() {
    const ROUNDS: usize = 2000;
    let entry = AtomicPte::new(Pte::new(1).mkwrite());
    let barrier = Barrier::new(2);
    let clean = || {
        let taken = entry.take();
        entry.set(taken.mkclean());
        taken.dirty()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                barrier.wait();
                while entry.access(true).is_none() {
                    std::hint::spin_loop();
                }
                barrier.wait();
            }
        });
        for _ in 0..ROUNDS {
            barrier.wait();
            let found_meanwhile = (0..8).filter(|_| clean()).count();
            barrier.wait();
            assert_eq!(found_meanwhile + usize::from(clean()), 1);
        }
    });
}

/// What the host has of the object, as of the last scan that found a page dirty: its first byte.
#[derive(Default)]
struct Host {
    bytes: [AtomicU8; BYTES],
    /// Scans that are complete.
    scans: AtomicU64,
}

impl Host {
    /// Uploads the pages that are dirty. Every other time they are write-protected first.
    fn scan(&self, world: &World) {
        if self.scans.load(Ordering::SeqCst).is_multiple_of(2) {
            world.wp(0..PAGES);
        }
        let mut record = Record::empty(PAGES);
        world.clean(0..PAGES, &mut record);
        for page in record.bits() {
            let byte = world.machine.hardware.phys.page(world.bo.first + page).load(0);
            self.bytes[usize::try_from(page).unwrap()].store(byte, Ordering::SeqCst);
        }
        self.scans.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until a scan that began after the call is complete.
    fn wait_for_a_scan(&self) {
        let complete = self.scans.load(Ordering::SeqCst);
        while self.scans.load(Ordering::SeqCst) < complete + 2 {
            std::thread::yield_now();
        }
    }
}

/// Stores to one page after the other, wherever in `places` the object is at the moment, and after each store
/// waits for a scan: it must have uploaded it.
fn store_and_compare(process: &Process, places: &[u64], host: &Host) {
    let thread = process.thread();
    for step in 0..STEPS {
        let page = step % PAGES;
        let value = (step + 1).to_le_bytes()[0];
        let stored = |place: &u64| thread.store(place + page * P, value).is_ok();
        while !places.iter().any(stored) {}
        host.wait_for_a_scan();
        assert_eq!(host.bytes[usize::try_from(page).unwrap()].load(Ordering::SeqCst), value);
    }
}

/// Scans while one thread stores and another does `disturb` over and over.
fn race(places: &[u64], disturb: impl Fn(&Process, &Task, u64) + Sync) {
    let world = World::fixed();
    world.bo.writable.store(true, Ordering::SeqCst);
    let process = world.process();
    let (host, done) = (Host::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let storing = scope.spawn(|| store_and_compare(&process, places, &host));
        scope.spawn(|| {
            let task = Task::new();
            let mut step = 0;
            while !done.load(Ordering::SeqCst) {
                disturb(&process, &task, step);
                step += 1;
            }
        });
        while !storing.is_finished() {
            host.scan(&world);
        }
        done.store(true, Ordering::SeqCst);
    });
}

#[test]
fn no_store_is_lost_to_a_scan() {
    race(&[address(0)], |_, _, _| std::thread::yield_now());
}

#[test]
fn no_store_is_lost_to_two_scans_at_a_time() {
    let mapping = Mutex::new(None);
    race(&[address(0)], |process, task, _| {
        let mut mapping = mapping.lock().unwrap();
        let mapping = mapping.get_or_insert_with(|| {
            let vmas = process.mm.mmap_read_lock(task);
            Arc::clone(&vmas.values().next().unwrap().mapping)
        });
        wp_shared_mapping_range(task, mapping, &(NODE..NODE + PAGES));
    });
}

#[test]
fn no_store_is_lost_while_areas_are_split_and_protected() {
    race(&[address(0)], |process, task, step| {
        let part = addresses(step % 7..step % 7 + 2);
        process.mm.mprotect(task, &part, false).unwrap();
        process.mm.madvise_random(task, &part, step.is_multiple_of(2));
        process.mm.mprotect(task, &part, true).unwrap();
    });
}

#[test]
fn no_store_is_lost_while_an_area_moves_between_tables() {
    // The second place is in two tables.
    let places = [address(0), address(508)];
    race(&places, |process, task, step| {
        let [from, to] = if step.is_multiple_of(2) { places } else { [places[1], places[0]] };
        let [from, to] = [from, to].map(|place| place..place + PAGES * P);
        process.mm.mremap(task, &from, &to).unwrap();
    });
}

#[test]
fn no_store_is_lost_while_children_come_and_go() {
    race(&[address(0)], |process, task, _| process.mm.fork(task).exit(task));
}
