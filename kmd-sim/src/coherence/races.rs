//! Races of the live path, explored by shuttle: `scripts/shuttle` runs them.
//!
//! Each is explored twice: as it is, and with its guard removed, to see that the exploration would find the
//! lost byte. The careless variants are made here, of the same steps in the wrong order.

use std::ops::Range;

use super::bo::{BoId, Sync};
use super::bound::{Access, ResourceId};
use super::device::Device;
use super::fence::{ContextId, Taken};
use super::merge::{Neighbours, copy_bytes, store_changed};
use super::validation::parts;
use super::write_set::{Extent, Write, Writes};
use crate::error::Result;
use crate::mmu::tracker::{Readback, TrackerChoice, TrackerKind};
use crate::svga::HostDevice;
use crate::sync::machine::{AtomicU64, Ordering};
use crate::sync::{Arc, yield_now};
use crate::sys::memory::{PageBuf, SharedMem};
use crate::sys::pages::TwiceMapped;

/// Interleavings tried; a planted defect shows after a few.
const ITERATIONS: usize = 400;
const PAGE: usize = 4096;
const ANYTHING: Writes = Writes { ranges: Vec::new(), by_address: false, anything: true, gated: false };

/// Host memory of one page, and a counter.
#[derive(Debug)]
struct Host {
    memory: TwiceMapped,
    seqno: AtomicU64,
}

impl HostDevice for Arc<Host> {
    type Memory = ();
    type Timeline = ();

    fn map(&self, (): (), size: u64) -> Result<SharedMem> {
        Ok(self.memory.driver().slice(0, usize::try_from(size).unwrap()))
    }

    fn seqno(&self, (): ()) -> Result<u64> {
        Ok(self.seqno.load(Ordering::Acquire))
    }
}

/// A device with one coherent object of a page, mapped.
struct World {
    device: Device<Arc<Host>>,
    bo: BoId,
    guest: SharedMem,
    context: ContextId,
}

impl World {
    /// The device may write all of the object.
    fn new() -> Arc<Self> {
        let world = Self::unbound();
        world.device.resource_attach(world.bo, ResourceId(0), 0..PAGE as u64, Access::Dirtying);
        Arc::new(world)
    }

    /// The device may write what a batch says.
    fn unbound() -> Self {
        let host = Host { memory: TwiceMapped::new("host", PAGE as u64).unwrap(), seqno: AtomicU64::new(0) };
        let device = Device::with_arena(
            Arc::new(host),
            64 << 20,
            TrackerChoice::Only(TrackerKind::Uffd),
            Readback::Eager,
        );
        let bo = device.bo_create(PAGE as u64, Sync::Coherent, ());
        let guest = device.bo_map(bo).unwrap();
        let context = device.context_create(());
        Self { device, bo, guest, context }
    }

    fn host(&self) -> SharedMem {
        self.device.host.memory.driver()
    }

    /// A flush that gives the reservation back between taking dirty pages and storing them.
    fn careless_flush(&self) {
        let pages = {
            let mut state = self.device.reserve();
            state.scan().unwrap();
            std::mem::take(&mut state.dirty_bos);
            state.take_dirty_pages(self.bo)
        };
        for page in pages {
            yield_now();
            self.device.reserve().with_page(self.bo, page, |page| page.flush(Neighbours::Busy, &[]));
        }
    }

    /// A flush that gives the reservation back between reading guest pages and asking what the device writes.
    fn careless_ask(&self) {
        let mut copies: Vec<PageBuf> = Vec::new();
        {
            let mut state = self.device.reserve();
            state.scan().unwrap();
            std::mem::take(&mut state.dirty_bos);
            for page in state.take_dirty_pages(self.bo) {
                let mut new = PageBuf::ZERO;
                state.with_page(self.bo, page, |page| page.guest.snapshot(&mut new));
                copies.push(new);
            }
        }
        for new in copies {
            yield_now();
            let mut state = self.device.reserve();
            let pending = parts(&state.pending(self.bo), 0);
            state.with_page(self.bo, 0, |page| {
                let mut old = PageBuf::ZERO;
                page.host.snapshot(&mut old);
                pending.iter().for_each(|range| copy_bytes(&new.0, &mut old.0, range));
                store_changed(&new.0, &old.0, &page.host, Neighbours::Busy);
            });
        }
    }

    /// A flush that keeps an address of host memory, and not the reservation, over the copy.
    fn careless_copy(&self) {
        let mut copies: Vec<(Vec<u64>, SharedMem)> = Vec::new();
        {
            let mut state = self.device.reserve();
            state.scan().unwrap();
            std::mem::take(&mut state.dirty_bos);
            for page in state.take_dirty_pages(self.bo) {
                state.with_page(self.bo, page, |page| {
                    let mut new = PageBuf::ZERO;
                    let words = page.guest.snapshot(&mut new);
                    copies.push((new.0[..words].to_vec(), page.host));
                });
            }
        }
        for (new, host) in copies {
            yield_now();
            store_changed(&new, &vec![0; new.len()], &host, Neighbours::Busy);
        }
    }

    /// Says that batches are retired before their bytes are there.
    fn careless_retire(&self) {
        let context = self.device.context(self.context);
        let seqno = self.device.host.seqno(()).unwrap();
        if seqno <= context.retired() {
            return;
        }
        let mut taken = Taken::default();
        self.device.reserve().fences[self.context.0].take_passed(seqno, &mut taken);
        context.retire(seqno);
        yield_now();
        self.device.reserve().pull(&taken.sets);
        taken.retire();
    }
}

fn byte(memory: &SharedMem, at: usize) -> u8 {
    let mut page = PageBuf::ZERO;
    memory.snapshot(&mut page);
    page.0[at / 8].to_ne_bytes()[at % 8]
}

/// Two threads write a byte each of one page, and submit: each finds its own on the device.
fn two_submitters(flush: fn(&World)) {
    let world = World::new();
    let submitter = |at: usize| {
        let world = Arc::clone(&world);
        shuttle::thread::spawn(move || {
            world.guest.store_byte(at, 1);
            yield_now();
            flush(&world);
            assert_eq!(byte(&world.host(), at), 1, "submitted without its own byte");
        })
    };
    let threads = [submitter(1), submitter(2)];
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Two threads poll for a batch that has completed: whoever is told of it finds its byte.
fn pull_against_poll(retire: fn(&World)) {
    let world = World::new();
    let seqnos: Range<u64> = world.device.execbuf(world.context, &[ANYTHING]).unwrap().unwrap();
    world.host().store_byte(3, 7);
    world.device.host.seqno.store(seqnos.start, Ordering::Release);
    let poller = || {
        let world = Arc::clone(&world);
        shuttle::thread::spawn(move || {
            retire(&world);
            assert_eq!(byte(&world.guest, 3), 7, "told of a batch without its byte");
        })
    };
    let threads = [poller(), poller()];
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// One thread frees the object, and its host memory is used for something else; another flushes.
fn free_against_flush(flush: fn(&World)) {
    let world = World::new();
    world.guest.store_byte(5, 1);
    let freer = {
        let world = Arc::clone(&world);
        shuttle::thread::spawn(move || {
            world.device.bo_destroy(world.bo);
            world.host().store_byte(5, 0xee);
        })
    };
    flush(&world);
    freer.join().unwrap();
    assert_eq!(byte(&world.host(), 5), 0xee, "stored to memory that was freed");
}

/// A batch writes a byte and completes while the CPU's byte next to it is flushed: both arrive.
fn flush_against_completion(flush: fn(&World)) {
    let world = Arc::new(World::unbound());
    world.guest.store_byte(3, 1);
    let exact = Write { bo: world.bo, bytes: 3..5, extent: Extent::Exact };
    let batch = Writes { ranges: vec![exact], ..Writes::default() };
    let seqnos = world.device.execbuf(world.context, &[batch]).unwrap().unwrap();
    let device = {
        let world = Arc::clone(&world);
        shuttle::thread::spawn(move || {
            world.host().store_byte(3, 7);
            yield_now();
            world.host().store_byte(4, 8);
            world.device.host.seqno.store(seqnos.start, Ordering::Release);
            retire(&world);
            assert_eq!([3, 4].map(|at| byte(&world.guest, at)), [7, 8], "told of a batch without its bytes");
        })
    };
    world.guest.store_byte(2, 2);
    flush(&world);
    assert_eq!(byte(&world.host(), 2), 2, "flushed without its byte");
    device.join().unwrap();
    assert_eq!([2, 3, 4].map(|at| byte(&world.guest, at)), [2, 7, 8]);
    assert_eq!([2, 3, 4].map(|at| byte(&world.host(), at)), [2, 7, 8], "the device's bytes are gone");
}

fn flush(world: &World) {
    world.device.flush().unwrap();
}

fn retire(world: &World) {
    world.device.retire_completed().unwrap();
}

#[test]
fn two_submitters_find_their_own_bytes() {
    shuttle::check_random(|| two_submitters(flush), ITERATIONS);
}

#[test]
#[should_panic(expected = "submitted without its own byte")]
fn without_the_reservation_over_a_flush_a_submitter_overtakes_its_byte() {
    shuttle::check_random(|| two_submitters(World::careless_flush), ITERATIONS);
}

#[test]
fn who_is_told_of_a_batch_finds_its_bytes() {
    shuttle::check_random(|| pull_against_poll(retire), ITERATIONS);
}

#[test]
#[should_panic(expected = "told of a batch without its byte")]
fn a_batch_retired_before_its_pull_is_told_of_too_early() {
    shuttle::check_random(|| pull_against_poll(World::careless_retire), ITERATIONS);
}

#[test]
fn a_flush_stores_nothing_to_what_was_freed() {
    shuttle::check_random(|| free_against_flush(flush), ITERATIONS);
}

#[test]
#[should_panic(expected = "stored to memory that was freed")]
fn a_flush_that_keeps_an_address_stores_to_what_was_freed() {
    shuttle::check_random(|| free_against_flush(World::careless_copy), ITERATIONS);
}

#[test]
fn a_flush_beside_an_exact_range_leaves_what_the_device_writes() {
    shuttle::check_random(|| flush_against_completion(flush), ITERATIONS);
}

#[test]
#[should_panic(expected = "the device's bytes are gone")]
fn a_flush_that_asks_too_late_what_is_in_flight_takes_the_devices_bytes_away() {
    shuttle::check_random(|| flush_against_completion(World::careless_ask), ITERATIONS);
}
