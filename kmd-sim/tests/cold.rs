//! Memory that is idle for long and then is not: whatever scans leave out, no byte is lost.

mod memory_host;

use std::sync::atomic::{AtomicU64, Ordering};

use kmd_sim::sys::memory::PageBuf;
use kmd_sim::uapi::{BoId, Device, Method, Readback, SharedMem, Stats, Sync, TrackerChoice, TrackerKind};
use memory_host::Host;
use proptest::prelude::*;

const PAGE: usize = 4096;
/// Pages of a stretch.
const STRETCH: usize = 512;
/// More than is scanned for next to nothing.
const STRETCHES: usize = 20;
const PAGES: usize = STRETCHES * STRETCH;
/// Pages from one that is written to the next, where few are, of which there are more than are scanned for
/// next to nothing.
const SPACING: usize = 3 * STRETCH;
const FIRST: usize = STRETCH + 5;
const SPARSE: usize = 20 * SPACING;
/// Flushes after which all that is idle has become cold.
const LONG: usize = 200;

/// An object some pages of which were written, on a device that can serve touches.
struct Idle {
    device: Device<&'static Host>,
    host: &'static Host,
    bo: BoId,
    guest: SharedMem,
    pages: usize,
}

impl Idle {
    /// Every page was written. `None` where the process may not serve page faults.
    fn new(method: Method) -> Option<Self> {
        Self::written(method, PAGES, |_| true)
    }

    /// One page in three stretches was written.
    fn sparse() -> Option<Self> {
        Self::written(Method::Auto, SPARSE, |page| page % SPACING == FIRST)
    }

    fn written(method: Method, pages: usize, is_written: impl Fn(usize) -> bool) -> Option<Self> {
        let tracker = TrackerChoice::Only(TrackerKind::Uffd);
        if let Err(error) = Readback::Lazy.probe(tracker) {
            println!("skipped: {error}");
            return None;
        }
        let host = Host::new(pages * PAGE);
        let device = Device::new(host, 256 << 20, tracker, Readback::Auto).following(method);
        let bo = device.bo_create((pages * PAGE) as u64, Sync::Coherent, ());
        let guest = device.bo_map(bo).unwrap();
        let this = Self { device, host, bo, guest, pages };
        (0..pages).filter(|page| is_written(*page)).for_each(|page| this.store(page, 1));
        Some(this)
    }

    fn store(&self, page: usize, value: u8) {
        self.guest.store_byte(page * PAGE + page % PAGE, value);
    }

    fn flush(&self, times: usize) -> Stats {
        (0..times).for_each(|_| self.device.flush().unwrap());
        self.device.stats()
    }

    /// What the device sees of a page's byte.
    fn seen(&self, page: usize) -> u8 {
        let mut copy = PageBuf::ZERO;
        self.host.0.driver().slice(page * PAGE, PAGE).snapshot(&mut copy);
        copy.0[page % PAGE / 8].to_ne_bytes()[page % 8]
    }

    fn assert_seen(&self, value: impl Fn(usize) -> u8) {
        let wrong = (0..self.pages).find(|page| self.seen(*page) != value(*page));
        assert_eq!(wrong.map(|page| (page, self.seen(page))), None);
    }
}

#[test]
fn what_is_idle_is_not_scanned_and_what_is_touched_is() {
    let Some(idle) = Idle::new(Method::Auto) else { return };
    let cooled = idle.flush(LONG);
    // The rest is too little to care about.
    assert!(cooled.stretches_cooled > 3, "{cooled:?}");
    idle.assert_seen(|_| 1);
    let stretch = |index: usize| index * STRETCH + 77;
    for index in 0..STRETCHES {
        idle.store(stretch(index), 2);
    }
    let warmed = idle.flush(1);
    assert_eq!(warmed.stretches_warmed, cooled.stretches_cooled);
    idle.assert_seen(|page| if page % STRETCH == 77 { 2 } else { 1 });
    // And all others of a stretch that is warm again.
    for page in 0..PAGES {
        idle.store(page, 3);
    }
    idle.flush(1);
    idle.assert_seen(|_| 3);
}

#[test]
fn what_is_written_from_one_cold_stretch_into_the_next_is_seen() {
    let Some(idle) = Idle::new(Method::Auto) else { return };
    idle.flush(LONG);
    // The windows that follow each other grow, and come to lie across.
    let is_written = |page: usize| page % (3 * STRETCH) < STRETCH + 100;
    for first in (0..PAGES).step_by(3 * STRETCH) {
        let pages = first..(first + 3 * STRETCH).min(PAGES);
        pages.filter(|page| is_written(*page)).for_each(|page| idle.store(page, 2));
        idle.flush(1);
        idle.assert_seen(|page| if page < first + 3 * STRETCH && is_written(page) { 2 } else { 1 });
    }
}

#[test]
fn what_is_idle_and_has_few_pages_is_not_scanned_and_gets_new_ones() {
    let Some(idle) = Idle::sparse() else { return };
    let cooled = idle.flush(LONG);
    // Stretches with a page, and those behind them.
    assert!(cooled.stretches_cooled > 9, "{cooled:?}");
    let scans = idle.flush(1).scans - cooled.scans;
    assert!(scans < 6, "{scans} scans in a flush");
    // A page that there is, one beside it that there is not, and one far from any.
    let is_new = |page: usize| page % SPACING == FIRST + 1 || page % SPACING == FIRST + STRETCH;
    (0..SPARSE).filter(|page| is_new(*page)).for_each(|page| idle.store(page, 2));
    let warmed = idle.flush(1);
    assert!(warmed.stretches_warmed > 6, "{warmed:?}");
    let value = |page| match page % SPACING == FIRST {
        true => 1,
        false => u8::from(is_new(page)) * 2,
    };
    idle.assert_seen(value);
    // It does so again.
    let again = idle.flush(2 * LONG);
    assert!(again.stretches_cooled > warmed.stretches_cooled, "{again:?}");
    (0..SPARSE).filter(|page| page % SPACING == FIRST).for_each(|page| idle.store(page, 3));
    idle.flush(1);
    idle.assert_seen(|page| if page % SPACING == FIRST { 3 } else { value(page) });
}

#[test]
fn the_method_of_the_series_scans_everything() {
    let Some(idle) = Idle::new(Method::Series) else { return };
    assert_eq!(idle.flush(LONG).stretches_cooled, 0);
}

#[test]
fn pages_that_follow_freed_cold_ones_are_new() {
    let Some(idle) = Idle::new(Method::Auto) else { return };
    assert_ne!(idle.flush(LONG).stretches_cooled, 0);
    idle.device.bo_destroy(idle.bo);
    // In the same place, over host memory that has what the other object had.
    let bo = idle.device.bo_create((PAGES * PAGE) as u64, Sync::Coherent, ());
    let guest = idle.device.bo_map(bo).unwrap();
    assert_eq!(guest.as_ptr(), idle.guest.as_ptr());
    idle.store(STRETCH, 9);
    idle.flush(1);
    idle.assert_seen(|page| if page == STRETCH { 9 } else { 1 });
}

#[test]
fn what_another_thread_stores_is_seen_whenever_a_stretch_becomes_cold() {
    const FLUSHES: u64 = 3000;
    let Some(idle) = Idle::new(Method::Auto) else { return };
    let word = |index: usize| index * STRETCH * PAGE / 8;
    let (flushes, stored) = (AtomicU64::new(0), [const { AtomicU64::new(0) }; STRETCHES]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = 0;
            while last < FLUSHES {
                let now = flushes.load(Ordering::Acquire);
                // While a flush is under way. Some are idle for long enough, some for hardly that long, some
                // never.
                for (index, stored) in stored.iter().enumerate() {
                    let pause = 40 + 30 * index as u64;
                    if now / pause != last / pause {
                        idle.guest.store_word(word(index), now);
                        stored.store(now, Ordering::Release);
                    }
                }
                last = now;
            }
        });
        for flush in 1..=FLUSHES {
            let before: Vec<u64> = stored.iter().map(|value| value.load(Ordering::Acquire)).collect();
            idle.flush(1);
            for (index, value) in before.into_iter().enumerate().filter(|(_, value)| *value != 0) {
                let mut copy = PageBuf::ZERO;
                idle.host.0.driver().slice(word(index) * 8, PAGE).snapshot(&mut copy);
                assert!(copy.0[0] >= value, "stretch {index}: {} after {value}", copy.0[0]);
            }
            flushes.store(flush, Ordering::Release);
        }
    });
    let stats = idle.flush(1);
    assert!(stats.stretches_cooled > 0 && stats.stretches_warmed > 0, "{stats:?}");
}

/// Runs of pages that are stored to, and flushes after that.
type Turn = (Vec<(usize, usize)>, usize);

/// Plays turns, and looks at everything after each.
fn play(idle: &Idle, turns: Vec<Turn>) -> Result<(), TestCaseError> {
    idle.flush(1);
    let mut model: Vec<u8> = (0..idle.pages).map(|page| idle.seen(page)).collect();
    for (value, (runs, flushes)) in (2..).zip(turns) {
        for page in runs.into_iter().flat_map(|(first, len)| first..(first + len).min(idle.pages)) {
            idle.store(page, value);
            model[page] = value;
        }
        idle.flush(flushes + 1);
        let wrong = (0..idle.pages).find(|page| idle.seen(*page) != model[*page]);
        prop_assert_eq!(wrong, None);
    }
    Ok(())
}

fn turns(pages: usize) -> impl Strategy<Value = Vec<Turn>> {
    let len = prop_oneof![2 => Just(1), 1 => 1..2 * STRETCH];
    prop::collection::vec((prop::collection::vec((0..pages, len), 0..6), 0..120usize), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_byte_is_lost_whatever_has_become_cold(turns in turns(PAGES)) {
        if let Some(idle) = Idle::new(Method::Auto) { play(&idle, turns)?; }
    }

    #[test]
    fn no_byte_is_lost_whatever_was_sealed(turns in turns(SPARSE)) {
        if let Some(idle) = Idle::sparse() { play(&idle, turns)?; }
    }
}
