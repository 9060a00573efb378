//! A transfer into pinned pages is played by the driver's own mapping: a page is stored to with the value it
//! has, as the kernel marks it when it pins it, and what lands later is written past the application's page
//! tables.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::coherence::bo::Sync;
use crate::coherence::device::Device;
use crate::error::Result;
use crate::mmu::tracker::{Readback, TrackerChoice, TrackerKind};
use crate::svga::HostDevice;
use crate::sys::memory::{PageBuf, SharedMem};
use crate::sys::pages::TwiceMapped;

const PAGE: usize = 4096;

#[derive(Debug)]
struct Host(TwiceMapped);

impl HostDevice for Arc<Host> {
    type Memory = ();
    type Timeline = ();

    fn map(&self, (): (), size: u64) -> Result<SharedMem> {
        Ok(self.0.driver().slice(0, to_usize(size)))
    }

    fn seqno(&self, (): ()) -> Result<u64> {
        Ok(0)
    }
}

/// A device with one mapped object, all of whose pages were flushed.
struct World {
    device: Device<Arc<Host>>,
    guest: SharedMem,
    /// The same pages, past the application's page tables.
    pinned: SharedMem,
}

impl World {
    fn new(pages: usize) -> Self {
        let host = Arc::new(Host(TwiceMapped::new("host", (pages * PAGE) as u64).unwrap()));
        let only = TrackerChoice::Only(TrackerKind::Uffd);
        let device = Device::with_arena(host, 64 << 20, only, Readback::Eager);
        let bo = device.bo_create((pages * PAGE) as u64, Sync::Coherent, ());
        device.reserve().watch.ask = || 0;
        let guest = device.bo_map(bo).unwrap();
        let pinned = device.reserve().bos[&bo].mapping.as_ref().unwrap().driver;
        (0..pages).for_each(|page| guest.store_byte(page * PAGE, 1));
        device.flush().unwrap();
        Self { device, guest, pinned }
    }

    fn read(memory: &SharedMem, at: usize) -> u8 {
        let mut page = PageBuf::ZERO;
        memory.slice(at / PAGE * PAGE, PAGE).snapshot(&mut page);
        page.0[at % PAGE / 8].to_ne_bytes()[at % 8]
    }

    fn on_host(&self, at: usize) -> u8 {
        Self::read(&self.device.host.0.driver(), at)
    }

    fn pin(&self, page: usize) {
        let at = page * PAGE + 9;
        self.guest.store_byte(at, Self::read(&self.guest, at));
    }

    fn flush(&self) {
        self.device.flush().unwrap();
    }

    fn watched(&self) -> u64 {
        self.device.stats().pages_watched
    }
}

#[test]
fn a_late_write_is_found_at_each_flush_of_the_patience_and_the_rest_of_it_later() {
    let world = World::new(PATIENCE.into());
    for page in 0..PATIENCE.into() {
        world.pin(page);
    }
    world.flush();
    for page in 0..PATIENCE.into() {
        world.pinned.store_byte(page * PAGE + 100, 7);
        world.flush();
        assert_eq!(world.on_host(page * PAGE + 100), 7, "flush {page}");
        world.pinned.store_byte(page * PAGE + 200, 8);
        world.flush();
        assert_eq!(world.on_host(page * PAGE + 200), 8, "flush {page}");
        // Give those that still wait their patience back.
        (page + 1..PATIENCE.into()).for_each(|page| world.pin(page));
        world.flush();
    }
    assert_eq!(world.device.stats().pages_changed_late, 2 * u64::from(PATIENCE));
}

#[test]
fn equal_stores_in_every_flush_cost_next_to_nothing() {
    for every in [1, 2, 5, 50] {
        let (world, flushes) = (World::new(8), 1000);
        for flush in 0..flushes {
            if flush % every == 0 {
                (0..8).for_each(|page| world.pin(page));
            }
            world.flush();
        }
        let reports = 8 * flushes / every;
        let bound = 8 * 2 * u64::from(PATIENCE) + reports * u64::from(LEAST_PATIENCE);
        assert!(world.watched() <= bound + 8, "every {every}: {} of {bound}", world.watched());
        assert_eq!(world.device.stats().pages_changed_late, 0);
    }
}

#[test]
fn so_many_pages_are_watched_at_a_time_and_no_more() {
    let world = World::new(3 * to_usize(PAGES));
    (0..3 * to_usize(PAGES)).for_each(|page| world.pin(page));
    world.flush();
    for flush in 1..100 {
        world.flush();
        assert_eq!(world.watched(), PAGES * flush.min(PATIENCE.into()));
    }
    assert_eq!(world.device.stats().pages_unwatched, 2 * PAGES);
}

#[test]
fn pages_pinned_for_long_are_watched_for_as_long() {
    let world = World::new(2 * to_usize(PAGES));
    world.device.reserve().watch.ask = || 2 * PAGES;
    world.device.reserve().watch.placed();
    for page in 0..2 * to_usize(PAGES) {
        // Some of them are changed as well.
        world.guest.store_byte(page * PAGE, u8::try_from(page % 2).unwrap());
    }
    world.flush();
    for flush in 0..200 {
        let at = flush * 3 * PAGE + 77;
        world.pinned.store_byte(at, 0x77);
        world.flush();
        assert_eq!(world.on_host(at), 0x77, "flush {flush}");
    }
    assert_eq!(world.device.stats().pages_unwatched, 0);

    world.device.reserve().watch.ask = || 0;
    (0..200).for_each(|_| world.flush());
    let then = world.watched();
    (0..10).for_each(|_| world.flush());
    assert_eq!(world.watched(), then);
}

#[test]
fn pages_of_an_object_that_is_gone_are_not_watched() {
    let world = World::new(4);
    (0..4).for_each(|page| world.pin(page));
    world.flush();
    let id = *world.device.reserve().bos.keys().next().unwrap();
    world.device.bo_destroy(id);
    assert_eq!(world.device.reserve().watch.pages, 0);
    world.flush();
    assert_eq!(world.watched(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What lands at most so many flushes after the page was pinned is never lost, whatever else happens; if
    /// the page changes before the first of these, what lands before the second.
    #[test]
    fn no_late_byte_is_lost(
        ops in prop::collection::vec((0u8..8, 0usize..6, 0usize..PAGE, any::<u8>()), 1..200),
    ) {
        let world = World::new(6);
        let mut model = vec![0; 6 * PAGE];
        (0..6).for_each(|page| model[page * PAGE] = 1);
        // Flushes since each page was pinned and until it is not watched any more; whether it changed since
        // the last.
        let mut pinned: [Option<(u8, u8)>; 6] = [None; 6];
        let mut changed = [false; 6];
        for (op, page, at, value) in ops {
            let byte = page * PAGE + at;
            match op {
                0 | 1 => { world.pin(page); pinned[page] = Some((0, LEAST_PATIENCE)) }
                2 => { world.guest.store_byte(byte, value); changed[page] |= model[byte] != value; model[byte] = value }
                3 | 4 if pinned[page].is_some_and(|(since, until)| since <= until) => {
                    world.pinned.store_byte(byte, value);
                    changed[page] |= model[byte] != value;
                    model[byte] = value;
                }
                5.. => {
                    world.flush();
                    for (pinned, changed) in pinned.iter_mut().zip(&mut changed) {
                        let changed = std::mem::take(changed);
                        *pinned = pinned.map(|(since, until)| (since + 1, if since == 0 && changed { 1 } else { until }));
                    }
                    for (at, value) in model.iter().enumerate().filter(|(_, value)| **value != 0) {
                        prop_assert_eq!(world.on_host(at), *value, "byte {}", at);
                    }
                }
                _ => {}
            }
        }
    }
}
