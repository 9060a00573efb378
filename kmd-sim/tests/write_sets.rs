//! What write sets cost, and what they must not lose: one situation a test.

#[path = "device_model/host.rs"]
#[expect(dead_code, reason = "images are the model's")]
mod host;

use std::ops::Range;

use kmd_sim::uapi::{
    Access, BoId, ContextId, Device, Extent, Readback, ResourceId, SharedMem, Sync, TrackerChoice,
    TrackerKind, Write, Writes,
};

use self::host::{BLOCK, Shared, read};

struct Fixture {
    device: Device<Shared>,
    host: Shared,
    context: ContextId,
    bo: BoId,
}

impl Fixture {
    /// A device with one coherent object, which is not mapped.
    fn new() -> Self {
        Self::reading_back(Readback::Auto)
    }

    fn reading_back(readback: Readback) -> Self {
        let host = Shared::new(false);
        let device = Device::new(host.clone(), 1 << 30, TrackerChoice::Only(TrackerKind::Uffd), readback);
        let context = device.context_create(0);
        let bo = device.bo_create(BLOCK as u64, Sync::Coherent, 0);
        Self { device, host, context, bo }
    }

    fn map(&self) -> SharedMem {
        self.device.bo_map(self.bo).unwrap()
    }

    fn writes(&self, bytes: Range<u64>, extent: Extent) -> Writes {
        Writes { ranges: vec![Write { bo: self.bo, bytes, extent }], ..Writes::default() }
    }

    fn submit(&self, writes: Writes) -> u64 {
        self.device.execbuf(self.context, &[writes]).unwrap().unwrap().start
    }

    fn memory(&self) -> SharedMem {
        self.host.block(0)
    }

    fn complete(&self, seqno: u64) {
        self.host.complete(0, seqno);
        self.device.retire_completed().unwrap();
    }
}

#[test]
fn exact_ranges_are_pulled_to_the_byte_and_need_no_twin() {
    let fixture = Fixture::new();
    let guest = fixture.map();
    let seqno = fixture.submit(fixture.writes(100..5000, Extent::Exact));
    for at in [100, 4095, 4096, 4999] {
        fixture.memory().store_byte(at, 7);
    }
    // Nobody may write it; so it shows who reads it.
    fixture.memory().store_byte(5000, 0xee);
    fixture.complete(seqno);
    assert_eq!([100, 4095, 4096, 4999, 5000].map(|at| read(&guest, at)), [7, 7, 7, 7, 0]);
    let stats = fixture.device.stats();
    assert_eq!((stats.write_set_bytes, stats.exact_bytes, stats.bytes_compared), (4900, 4900, 4900));
    assert_eq!((stats.bytes_pulled, stats.twins), (4, 0));
}

#[test]
fn the_cpu_writes_beside_an_exact_range_in_flight_without_a_twin() {
    let fixture = Fixture::new();
    let guest = fixture.map();
    guest.store_byte(9, 1);
    let seqno = fixture.submit(fixture.writes(3..9, Extent::Exact));
    fixture.memory().store_byte(3, 3);
    guest.store_byte(2, 2);
    fixture.device.flush().unwrap();
    assert_eq!([2, 3, 9].map(|at| read(&fixture.memory(), at)), [2, 3, 1]);
    fixture.memory().store_byte(8, 8);
    fixture.complete(seqno);
    assert_eq!([2, 3, 8, 9].map(|at| read(&guest, at)), [2, 3, 8, 1]);
    assert_eq!(fixture.device.stats().twins, 0);
}

#[test]
fn what_the_cpu_rewrites_each_time_is_stored_around_what_the_device_is_writing() {
    let fixture = Fixture::new();
    let guest = fixture.map();
    let rewrite = |bytes: Range<usize>, value| bytes.for_each(|at| guest.store_byte(at, value));
    for value in 1..10 {
        rewrite(0..4096, value);
        fixture.device.flush().unwrap();
    }
    let seqno = fixture.submit(fixture.writes(64..128, Extent::Exact));
    fixture.memory().store_byte(64, 99);
    rewrite(0..64, 10);
    rewrite(128..4096, 10);
    fixture.device.flush().unwrap();
    assert_eq!([0, 63, 64, 65, 128, 4095].map(|at| read(&fixture.memory(), at)), [10, 10, 99, 9, 10, 10]);
    fixture.complete(seqno);
    assert_eq!([63, 64, 65, 128].map(|at| read(&guest, at)), [10, 99, 9, 10]);
    // And the other way round: what it does not write any more is the device's.
    for value in 11..20 {
        rewrite(0..4096, value);
        fixture.device.flush().unwrap();
    }
    let seqno = fixture.submit(fixture.writes(0..4096, Extent::Within));
    fixture.memory().store_byte(7, 77);
    fixture.device.flush().unwrap();
    rewrite(9..10, 78);
    fixture.device.flush().unwrap();
    fixture.complete(seqno);
    assert_eq!(
        [7, 8, 9].map(|at| (read(&guest, at), read(&fixture.memory(), at))),
        [(77, 77), (19, 19), (78, 78)]
    );
}

#[test]
fn what_was_left_behind_is_not_opened_unseen() {
    if Readback::Lazy.probe(TrackerChoice::Auto).is_err() {
        return;
    }
    let fixture = Fixture::reading_back(Readback::Lazy);
    let guest = fixture.map();
    let pages = 0..BLOCK / 4096;
    for flush in 0..60u8 {
        if flush % 5 == 0 {
            pages.clone().for_each(|page| guest.store_byte(page * 4096 + 1, flush));
        }
        let seqno = fixture.submit(fixture.writes(0..BLOCK as u64, Extent::Within));
        pages.clone().for_each(|page| fixture.memory().store_byte(page * 4096, flush));
        fixture.complete(seqno);
        fixture.device.open_due();
        for at in pages.clone().map(|page| page * 4096) {
            assert_eq!([at, at + 1].map(|at| read(&guest, at)), [flush, flush / 5 * 5]);
            assert_eq!(read(&fixture.memory(), at + 1), flush / 5 * 5);
        }
    }
    let stats = fixture.device.stats();
    assert!(stats.pages_opened >= 20 && stats.lazy_faults >= 50, "{stats:?}");
}

#[test]
fn a_range_the_cpu_may_write_in_part_has_twins_where_it_is_mapped() {
    let fixture = Fixture::new();
    fixture.map();
    let seqno = fixture.submit(fixture.writes(4000..5000, Extent::Within));
    fixture.complete(seqno);
    let stats = fixture.device.stats();
    assert_eq!((stats.write_set_bytes, stats.exact_bytes, stats.twins), (1000, 0, 2));
}

#[test]
fn what_is_not_mapped_is_looked_at_when_it_is() {
    let fixture = Fixture::new();
    let guest = fixture.map();
    guest.store_byte(50, 5);
    fixture.device.bo_unmap(fixture.bo);
    let seqno = fixture.submit(fixture.writes(0..100, Extent::Within));
    fixture.memory().store_byte(51, 6);
    fixture.complete(seqno);
    assert_eq!(fixture.device.stats().bytes_compared, 0);
    assert_eq!([50, 51].map(|at| read(&fixture.map(), at)), [5, 6]);
    let stats = fixture.device.stats();
    assert_eq!((stats.bytes_compared, stats.twins), (100, 0));
}

#[test]
fn each_batch_has_its_own_write_set() {
    let fixture = Fixture::new();
    let guest = fixture.map();
    let batches = [fixture.writes(0..8, Extent::Exact), fixture.writes(8..16, Extent::Exact)];
    let seqnos = fixture.device.execbuf(fixture.context, &batches).unwrap().unwrap();
    fixture.memory().store_byte(0, 1);
    fixture.memory().store_byte(8, 2);
    fixture.complete(seqnos.start);
    assert_eq!([0, 8].map(|at| read(&guest, at)), [1, 0]);
    fixture.complete(seqnos.end - 1);
    assert_eq!([0, 8].map(|at| read(&guest, at)), [1, 2]);
    assert_eq!(fixture.device.stats().bytes_compared, 16);
}

#[test]
fn what_a_refused_batch_was_to_write_is_the_cpus_again() {
    let fixture = Fixture::new();
    let guest = fixture.map();
    let writes = fixture.writes(0..100, Extent::Exact);
    let seqnos = fixture.device.execbuf(fixture.context, std::slice::from_ref(&writes)).unwrap().unwrap();
    fixture.device.revoke(fixture.context, &seqnos);
    guest.store_byte(5, 5);
    fixture.device.flush().unwrap();
    assert_eq!(read(&fixture.memory(), 5), 5);
    guest.store_byte(6, 6);
    let seqno = fixture.submit(fixture.writes(200..300, Extent::Exact));
    guest.store_byte(7, 7);
    fixture.complete(seqno);
    assert_eq!([5, 6, 7].map(|at| read(&guest, at)), [5, 6, 7]);
}

#[test]
fn until_it_gives_the_signal_the_cpu_writes_what_a_batch_will_write() {
    let fixture = Fixture::new();
    let guest = fixture.map();
    fixture.submit(Writes { gated: true, ..Writes::default() });
    let seqno = fixture.submit(fixture.writes(0..100, Extent::Exact));
    guest.store_byte(5, 5);
    fixture.device.flush().unwrap();
    assert_eq!(read(&fixture.memory(), 5), 5, "flushed with the signal");
    fixture.memory().store_byte(6, 6);
    fixture.complete(seqno);
    assert_eq!([5, 6].map(|at| read(&guest, at)), [5, 6]);
    assert_eq!(fixture.device.stats().exact_bytes, 0);
}

#[test]
fn the_cpu_writes_what_an_event_told_it_of_while_the_batch_goes_on() {
    let fixture = Fixture::new();
    let guest = fixture.map();
    let seqno = fixture.submit(fixture.writes(0..100, Extent::Exact));
    fixture.memory().store_byte(0, 1);
    fixture.device.pull_in_flight();
    assert_eq!(read(&guest, 0), 1);
    guest.store_byte(0, 2);
    fixture.memory().store_byte(50, 3);
    fixture.complete(seqno);
    assert_eq!([0, 50].map(|at| read(&guest, at)), [2, 3]);
    fixture.device.flush().unwrap();
    assert_eq!([0, 50].map(|at| read(&fixture.memory(), at)), [2, 3]);
}

#[test]
fn who_writes_by_address_reaches_what_is_given_one_later() {
    let fixture = Fixture::new();
    let guest = fixture.map();
    let seqno = fixture.submit(Writes { by_address: true, ..Writes::default() });
    fixture.device.resource_attach(fixture.bo, ResourceId(0), 0..8, Access::Dirtying);
    fixture.device.resource_attach(fixture.bo, ResourceId(1), 8..16, Access::Dirtying);
    fixture.device.resource_give_address(fixture.bo, ResourceId(1), 8);
    fixture.memory().store_byte(0, 1);
    fixture.memory().store_byte(8, 1);
    fixture.complete(seqno);
    assert_eq!([0, 8].map(|at| read(&guest, at)), [0, 1]);
}

#[test]
fn what_is_mapped_or_unmapped_between_two_batches_of_which_nothing_is_known_loses_nothing() {
    let fixture = Fixture::new();
    fixture.device.resource_attach(fixture.bo, ResourceId(0), 0..100, Access::Dirtying);
    let anything = || fixture.submit(Writes { anything: true, ..Writes::default() });
    let seqno = anything();
    fixture.complete(seqno);
    let guest = fixture.map();
    let seqno = anything();
    guest.store_byte(1, 1);
    fixture.device.flush().unwrap();
    assert_eq!(read(&fixture.memory(), 1), 1);
    fixture.complete(seqno);
    fixture.device.bo_unmap(fixture.bo);
    let seqno = anything();
    fixture.memory().store_byte(2, 2);
    fixture.complete(seqno);
    assert_eq!([1, 2].map(|at| read(&fixture.map(), at)), [1, 2]);
}

#[test]
fn there_is_something_to_signal_when_somebody_will_ask() {
    let fixture = Fixture::new();
    let signals = |writes| fixture.device.execbuf(fixture.context, &[writes]).unwrap().is_some();
    assert!(!signals(Writes::default()));
    assert!(!signals(fixture.writes(5..5, Extent::Exact)));
    assert!(!signals(fixture.writes(BLOCK as u64..BLOCK as u64 + 5, Extent::Exact)));
    assert!(signals(Writes { gated: true, ..Writes::default() }));
    assert!(signals(Writes { by_address: true, ..Writes::default() }));
    assert!(signals(Writes { anything: true, ..Writes::default() }));
    assert!(signals(fixture.writes(5..6, Extent::Within)));
}

#[test]
fn a_context_without_a_batch_in_flight_is_not_asked() {
    let fixture = Fixture::new();
    fixture.device.context_create(1);
    let seqno = fixture.submit(fixture.writes(5..6, Extent::Within));
    fixture.complete(seqno);
    let asked = fixture.host.asked();
    fixture.device.retire_completed().unwrap();
    assert_eq!(fixture.host.asked(), asked);
}
