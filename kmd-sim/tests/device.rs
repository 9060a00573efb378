//! A device over a host that the tests play themselves: memory is memory, and batches complete when told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use kmd_sim::sys::memory::PageBuf;
use kmd_sim::sys::pages::TwiceMapped;
use kmd_sim::uapi::{
    Access, BoId, Device, Error, HostDevice, Readback, ResourceId, Result, SharedMem, Sync, TrackerChoice,
    TrackerKind, Writes,
};

const PAGE: usize = 4096;
const ANYTHING: Writes = Writes { ranges: Vec::new(), by_address: false, anything: true, gated: false };

/// Host memory: blocks of `BLOCK` bytes in one file, and one counter.
#[derive(Debug)]
struct Host {
    memory: TwiceMapped,
    seqno: AtomicU64,
}

const BLOCK: usize = 64 * PAGE;

impl HostDevice for &'static Host {
    type Memory = usize;
    type Timeline = ();

    fn map(&self, block: usize, size: u64) -> Result<SharedMem> {
        Ok(self.memory.driver().slice(block * BLOCK, usize::try_from(size).unwrap()))
    }

    fn seqno(&self, (): ()) -> Result<u64> {
        Ok(self.seqno.load(Ordering::Acquire))
    }
}

/// The tracker the environment asks for, as the driver above does.
fn readback() -> Readback {
    match std::env::var("LOCKSTEP_READBACK").as_deref() {
        Ok("lazy") => Readback::Lazy,
        _ => Readback::Auto,
    }
}

fn tracker() -> TrackerChoice {
    match std::env::var("LOCKSTEP_TRACKER").as_deref() {
        Ok("sigsegv") => TrackerChoice::Only(TrackerKind::Sigsegv),
        Ok("compare") => TrackerChoice::Only(TrackerKind::Compare),
        _ => TrackerChoice::Only(TrackerKind::Uffd),
    }
}

type TestDevice = Device<&'static Host>;

impl Host {
    fn new() -> &'static Self {
        let memory = TwiceMapped::new("host", 16 * BLOCK as u64).unwrap();
        Box::leak(Box::new(Self { memory, seqno: AtomicU64::new(0) }))
    }

    fn block(&self, block: usize) -> SharedMem {
        self.memory.driver().slice(block * BLOCK, BLOCK)
    }

    /// Says that all batches up to `seqno` have completed.
    fn complete(&self, seqno: u64) {
        self.seqno.store(seqno, Ordering::Release);
    }
}

fn read(memory: &SharedMem, at: usize) -> u8 {
    let mut page = PageBuf::ZERO;
    memory.slice(at / PAGE * PAGE, PAGE.min(memory.len() - at / PAGE * PAGE)).snapshot(&mut page);
    page.0[at % PAGE / 8].to_ne_bytes()[at % 8]
}

/// A device with one coherent object of `BLOCK` bytes that the device may write.
fn device_with_bo() -> (TestDevice, &'static Host, BoId) {
    let host = Host::new();
    let device = Device::new(host, 1 << 30, tracker(), readback());
    let bo = device.bo_create(BLOCK as u64, Sync::Coherent, 0);
    device.resource_attach(bo, ResourceId(0), 0..BLOCK as u64, Access::Dirtying);
    (device, host, bo)
}

#[test]
fn nothing_is_submitted_for_what_the_device_cannot_write() {
    let host = Host::new();
    let device: TestDevice = Device::new(host, 1 << 30, tracker(), readback());
    let context = device.context_create(());
    let bo = device.bo_create(BLOCK as u64, Sync::Coherent, 0);
    device.resource_attach(bo, ResourceId(0), 0..4096, Access::ReadOnly);
    device.bo_map(bo).unwrap().store_byte(5, 1);
    assert_eq!(device.execbuf(context, &[Writes::default()]), Ok(None));
    assert_eq!(read(&host.block(0), 5), 1);
}

#[test]
fn an_object_keeps_its_bytes_while_it_is_not_mapped() {
    let (device, host, bo) = device_with_bo();
    let context = device.context_create(());
    device.bo_map(bo).unwrap().store_byte(9, 1);
    device.bo_unmap(bo);
    assert_eq!(device.execbuf(context, &[ANYTHING]), Ok(Some(1..2)));
    assert_eq!(read(&host.block(0), 9), 1);
    host.block(0).store_byte(4099, 7);
    host.complete(1);
    device.retire_completed().unwrap();
    let guest = device.bo_map(bo).unwrap();
    assert_eq!((read(&guest, 9), read(&guest, 4099)), (1, 7));
}

#[test]
fn an_object_in_a_mapping_of_its_own_is_tracked_there_and_known_by_its_address() {
    let (device, host, bo) = device_with_bo();
    let whole = 0..BLOCK as u64;
    let guest = device.bo_map_placed(bo, whole.clone(), None).unwrap();
    assert_eq!(device.bo_map_placed(bo, whole.clone(), None).unwrap_err(), Error::Busy);
    guest.store_byte(9, 1);
    device.flush().unwrap();
    assert_eq!(read(&host.block(0), 9), 1);
    // A page that was not reported before, so that nobody compares it once more.
    guest.store_byte(5000, 2);
    assert!(device.is_guest_address(guest.as_ptr().addr() + 9));
    let place = device.bo_unmap_reserve(bo).unwrap();
    assert!(!device.is_guest_address(guest.as_ptr().addr() + 9));
    device.flush().unwrap();
    assert_eq!(read(&host.block(0), 5000), 2);
    assert_eq!(device.bo_unmap_reserve(bo), Err(Error::Invalid));
    let again = device.bo_map_placed(bo, whole, Some(place)).unwrap();
    assert_eq!((again.as_ptr(), read(&again, 5000)), (guest.as_ptr(), 2));
}

#[test]
fn an_object_mapped_while_a_batch_writes_it_gets_the_bytes_when_the_batch_completes() {
    let (device, host, bo) = device_with_bo();
    let context = device.context_create(());
    assert_eq!(device.execbuf(context, &[ANYTHING]), Ok(Some(1..2)));
    host.block(0).store_byte(1, 1);
    let guest = device.bo_map(bo).unwrap();
    guest.store_byte(3, 3);
    host.block(0).store_byte(2, 2);
    host.complete(1);
    device.retire_completed().unwrap();
    assert_eq!([1, 2, 3].map(|at| read(&guest, at)), [1, 2, 3]);
    device.flush().unwrap();
    assert_eq!([1, 2, 3].map(|at| read(&host.block(0), at)), [1, 2, 3]);
}

#[test]
fn a_zero_written_over_what_the_device_left_before_the_first_map_is_flushed() {
    let (device, host, bo) = device_with_bo();
    let context = device.context_create(());
    assert_eq!(device.execbuf(context, &[ANYTHING]), Ok(Some(1..2)));
    host.block(0).store_byte(3, 0xee);
    let guest = device.bo_map(bo).unwrap();
    guest.store_byte(3, 0);
    device.flush().unwrap();
    assert_eq!(read(&host.block(0), 3), 0);
}

#[test]
fn a_flush_after_the_unmap_leaves_alone_what_a_batch_wrote_meanwhile() {
    let (device, host, bo) = device_with_bo();
    let context = device.context_create(());
    let guest = device.bo_map(bo).unwrap();
    device.execbuf(context, &[ANYTHING]).unwrap();
    guest.store_byte(0, 1);
    device.bo_unmap(bo);
    host.block(0).store_byte(1, 2);
    host.complete(1);
    device.retire_completed().unwrap();
    device.flush().unwrap();
    assert_eq!([0, 1].map(|at| read(&host.block(0), at)), [1, 2]);
    let guest = device.bo_map(bo).unwrap();
    assert_eq!([0, 1].map(|at| read(&guest, at)), [1, 2]);
}

#[test]
fn a_batch_the_device_refused_holds_nothing_up() {
    let (device, host, bo) = device_with_bo();
    let context = device.context_create(());
    let guest = device.bo_map(bo).unwrap();
    assert_eq!(device.execbuf(context, &[ANYTHING, ANYTHING]), Ok(Some(1..3)), "never seen by the host");
    assert_eq!(device.execbuf(context, &[ANYTHING]), Ok(Some(3..4)));
    host.block(0).store_byte(0, 1);
    host.complete(3);
    device.retire_completed().unwrap();
    assert_eq!(read(&guest, 0), 1);
}

#[test]
fn a_batch_in_flight_shows_its_bytes_when_asked_in_the_middle() {
    let (device, host, bo) = device_with_bo();
    let context = device.context_create(());
    let guest = device.bo_map(bo).unwrap();
    device.execbuf(context, &[ANYTHING]).unwrap();
    host.block(0).store_byte(0, 1);
    device.retire_completed().unwrap();
    assert_eq!(read(&guest, 0), 0, "nothing has completed");
    device.pull_in_flight();
    assert_eq!(read(&guest, 0), 1);
    host.block(0).store_byte(1, 2);
    host.complete(1);
    device.retire_completed().unwrap();
    assert_eq!(read(&guest, 1), 2, "the rest follows");
}

#[test]
fn freed_pages_carry_no_byte_to_the_next_object() {
    let (device, host, first) = device_with_bo();
    let context = device.context_create(());
    let guest = device.bo_map(first).unwrap();
    let address = guest.as_ptr();
    guest.store_byte(100, 0xaa);
    device.bo_destroy(first);
    let second = device.bo_create(BLOCK as u64, Sync::Coherent, 1);
    device.resource_attach(second, ResourceId(1), 0..BLOCK as u64, Access::Dirtying);
    host.block(1).store_byte(100, 0x55);
    device.execbuf(context, &[ANYTHING]).unwrap();
    let guest = device.bo_map(second).unwrap();
    assert_eq!(guest.as_ptr(), address, "the pages are used again");
    device.flush().unwrap();
    assert_eq!(read(&host.block(1), 100), 0x55);
    assert_eq!(read(&guest, 100), 0x55);
    assert_eq!(read(&host.block(0), 100), 0, "what nobody flushed is gone with the object");
}

#[test]
fn guest_pages_that_were_touched_and_twins_count_as_memory_until_their_object_goes() {
    let (device, _, bo) = device_with_bo();
    let page = PAGE as u64;
    let context = device.context_create(());
    assert_eq!(device.resident_bytes(), 0);
    let guest = device.bo_map(bo).unwrap();
    guest.store_byte(0, 1);
    guest.store_byte(5 * PAGE, 1);
    let touched = device.resident_bytes();
    assert!((2 * page..=BLOCK as u64).contains(&touched), "{touched}");
    device.execbuf(context, &[ANYTHING]).unwrap();
    let twins = device.resident_bytes() - touched;
    assert!(twins >= 2 * page, "{twins}");
    device.revoke(context, &(1..2));
    let explicit = device.bo_create(BLOCK as u64, Sync::Explicit, 1);
    let before = device.resident_bytes();
    device.bo_map(explicit).unwrap().store_byte(0, 1);
    assert_eq!(device.resident_bytes() - before, page);
    device.bo_destroy(bo);
    device.bo_destroy(explicit);
    assert_eq!(device.resident_bytes(), 0);
}

#[test]
fn explicit_objects_move_exactly_the_ranges_named() {
    let host = Host::new();
    let device: TestDevice = Device::new(host, 1 << 30, tracker(), readback());
    let bo = device.bo_create(BLOCK as u64, Sync::Explicit, 0);
    let guest = device.bo_map(bo).unwrap();
    for at in 0..BLOCK {
        guest.store_byte(at, 1);
    }
    device.flush().unwrap();
    device.explicit_flush(bo, 64..128).unwrap();
    let expected = |at: usize| u8::from((64..128).contains(&at));
    assert!((0..256).all(|at| read(&host.block(0), at) == expected(at)));
    host.block(0).store_byte(8192, 9);
    host.block(0).store_byte(8256, 9);
    device.explicit_invalidate(bo, 8192..8256).unwrap();
    assert_eq!((read(&guest, 8192), read(&guest, 8256)), (9, 1));
}

#[test]
fn an_object_of_a_size_that_is_no_page_is_coherent_to_its_last_byte() {
    let host = Host::new();
    let device: TestDevice = Device::new(host, 1 << 30, tracker(), readback());
    let context = device.context_create(());
    let bo = device.bo_create(5003, Sync::Coherent, 0);
    device.resource_attach(bo, ResourceId(0), 0..5003, Access::Dirtying);
    let guest = device.bo_map(bo).unwrap();
    host.block(0).store_byte(5003, 0xee);
    device.execbuf(context, &[ANYTHING]).unwrap();
    guest.store_byte(5002, 4);
    host.block(0).store_byte(5001, 3);
    host.complete(1);
    device.retire_completed().unwrap();
    device.flush().unwrap();
    assert_eq!([5001, 5002, 5003].map(|at| read(&host.block(0), at)), [3, 4, 0xee]);
    assert_eq!(read(&guest, 5001), 3);
}

#[test]
fn a_batch_in_flight_may_write_what_is_bound_after_its_submission() {
    let host = Host::new();
    let device: TestDevice = Device::new(host, 1 << 30, tracker(), readback());
    let context = device.context_create(());
    assert_eq!(device.execbuf(context, &[ANYTHING]), Ok(Some(1..2)), "it may come to write something");
    let bo = device.bo_create(BLOCK as u64, Sync::Coherent, 0);
    device.resource_attach(bo, ResourceId(0), 0..BLOCK as u64, Access::Dirtying);
    let mapped_later = device.bo_create(BLOCK as u64, Sync::Coherent, 1);
    let guest = device.bo_map(mapped_later).unwrap();
    device.resource_attach(mapped_later, ResourceId(1), 0..BLOCK as u64, Access::Dirtying);
    let first = device.bo_map(bo).unwrap();
    first.store_byte(8, 8);
    host.block(0).store_byte(9, 9);
    host.block(1).store_byte(10, 10);
    device.flush().unwrap();
    assert_eq!([8, 9].map(|at| read(&host.block(0), at)), [8, 9]);
    host.complete(1);
    device.retire_completed().unwrap();
    assert_eq!([8, 9].map(|at| read(&first, at)), [8, 9]);
    assert_eq!(read(&guest, 10), 10);
}

#[test]
fn touching_a_byte_of_a_large_object_costs_a_page() {
    let (device, host, bo) = device_with_bo();
    let guest = device.bo_map(bo).unwrap();
    guest.store_byte(20 * PAGE, 1);
    device.flush().unwrap();
    guest.store_byte(40 * PAGE, 2);
    device.flush().unwrap();
    let pages = match tracker().expected() {
        TrackerKind::Uffd | TrackerKind::Sigsegv => 2,
        // What was written is compared again and again.
        TrackerKind::Compare => 1 + 2,
    };
    assert_eq!(device.stats().pages_dirty, pages);
    assert_eq!([20, 40].map(|page| read(&host.block(0), page * PAGE)), [1, 2]);
}

#[test]
fn a_flush_leaves_host_memory_alone_where_the_cpu_wrote_nothing() {
    let host = Host::new();
    let device: TestDevice = Device::new(host, 1 << 30, tracker(), readback());
    let bo = device.bo_create(BLOCK as u64, Sync::Coherent, 0);
    let guest = device.bo_map(bo).unwrap();
    guest.store_byte(5, 1);
    device.flush().unwrap();
    // What has changed is looked at once more.
    device.flush().unwrap();
    // Nobody may write it; so it shows who does.
    host.block(0).store_byte(6, 0xee);
    device.flush().unwrap();
    guest.store_byte(40 * PAGE, 1);
    device.flush().unwrap();
    assert_eq!([5, 6].map(|at| read(&host.block(0), at)), [1, 0xee]);
    assert_eq!(read(&host.block(0), 40 * PAGE), 1);
}

#[test]
fn small_limits_of_the_process_leave_smaller_arenas() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if std::env::var_os("TSAN_OPTIONS").is_some() {
        println!("skipped: ThreadSanitizer needs the address space itself");
        return;
    }
    let limit = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    let host = Host::new();
    setrlimit(Resource::Fsize, limit(100 << 20)).unwrap();
    setrlimit(Resource::As, limit(7 << 30)).unwrap();
    let device: TestDevice = Device::new(host, 1 << 30, tracker(), readback());
    for (block, sync) in [Sync::Coherent, Sync::Explicit].into_iter().enumerate() {
        let bo = device.bo_create(BLOCK as u64, sync, block);
        device.bo_map(bo).unwrap().store_byte(1, 1);
        device.explicit_flush(bo, 0..2).unwrap();
    }
    device.flush().unwrap();
    assert_eq!([0, 1].map(|block| read(&host.block(block), 1)), [1, 1]);
}

#[test]
fn a_new_context_and_a_completion_do_not_wait_for_each_other() {
    let (device, host, _) = device_with_bo();
    let device = Arc::new(device);
    let context = device.context_create(());
    let done = Arc::new(AtomicBool::new(false));
    let creator = {
        let (device, done) = (Arc::clone(&device), Arc::clone(&done));
        std::thread::spawn(move || {
            for _ in 0..2000 {
                device.context_create(());
                std::thread::yield_now();
            }
            done.store(true, Ordering::Release);
        })
    };
    while !done.load(Ordering::Acquire) {
        let seqnos = device.execbuf(context, &[ANYTHING]).unwrap().unwrap();
        host.complete(seqnos.start);
        device.retire_completed().unwrap();
    }
    creator.join().unwrap();
}

/// Each of two threads writes a byte of every page and submits; its own bytes must be in host memory when
/// its submission is let through, whoever's scan found the page.
#[test]
fn no_submission_overtakes_the_flush_that_took_its_dirty_pages() {
    let (device, host, bo) = device_with_bo();
    let device = Arc::new(device);
    let context = device.context_create(());
    let guest = device.bo_map(bo).unwrap();
    let start = Arc::new(Barrier::new(2));
    let threads: Vec<_> = (0..2usize)
        .map(|thread| {
            let (device, start) = (Arc::clone(&device), Arc::clone(&start));
            std::thread::spawn(move || {
                for round in 1..=500u64 {
                    let value = u8::try_from(round % 251).unwrap() + 1;
                    start.wait();
                    for page in 0..64 {
                        guest.store_byte(page * PAGE + thread, value);
                    }
                    device.execbuf(context, &[ANYTHING]).unwrap();
                    for page in 0..64 {
                        assert_eq!(read(&host.block(0), page * PAGE + thread), value, "round {round}");
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// One thread completes batches; two learn of it, and both must find the bytes.
#[test]
fn nobody_hears_of_completion_before_the_bytes_are_there() {
    let (device, host, bo) = device_with_bo();
    let device = Arc::new(device);
    let context = device.context_create(());
    let guest = device.bo_map(bo).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let pollers: Vec<_> = (0..2)
        .map(|_| {
            let (device, done) = (Arc::clone(&device), Arc::clone(&done));
            std::thread::spawn(move || {
                while !done.load(Ordering::Acquire) {
                    let seqno = host.seqno.load(Ordering::Acquire);
                    device.retire_completed().unwrap();
                    // Byte `n` was written by batch `n`, and by no other.
                    for byte in 1..=seqno {
                        assert_eq!(read(&guest, usize::try_from(byte).unwrap() * 1000), 1);
                    }
                }
            })
        })
        .collect();
    for seqno in 1..=200 {
        assert_eq!(device.execbuf(context, &[ANYTHING]), Ok(Some(seqno..seqno + 1)));
        host.block(0).store_byte(usize::try_from(seqno).unwrap() * 1000, 1);
        host.complete(seqno);
        std::thread::yield_now();
    }
    done.store(true, Ordering::Release);
    pollers.into_iter().for_each(|poller| poller.join().unwrap());
}
