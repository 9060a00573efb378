//! Pages that are written in rhythms of all kinds, which begin, stop and change: what is forecast may cost
//! time, but no byte.

mod memory_host;

use std::ops::Range;

use kmd_sim::sys::memory::PageBuf;
use kmd_sim::uapi::{Device, Method, Readback, SharedMem, Sync, TrackerChoice, TrackerKind};
use memory_host::Host;
use proptest::prelude::*;

const PAGE: usize = 4096;
const PAGES: usize = 12;

/// Pages written at each flush of which the number, less a phase, is a multiple of a period, while it lasts.
#[derive(Clone, Debug)]
struct Rhythm {
    pages: Range<usize>,
    period: usize,
    phase: usize,
    lasts: Range<usize>,
    /// Bytes of a page that are written: some, or all.
    bytes: Range<usize>,
}

impl Rhythm {
    fn any() -> impl Strategy<Value = Self> {
        let bytes = prop_oneof![Just(0..PAGE), Just(0..64), Just(1000..1001), Just(PAGE - 100..PAGE)];
        ((0..PAGES, 1..=4usize), 1..=5usize, 0..5usize, (0..30usize, 1..60usize), bytes).prop_map(
            |((page, pages), period, phase, (start, len), bytes)| Self {
                pages: page..(page + pages).min(PAGES),
                period,
                phase,
                lasts: start..start + len,
                bytes,
            },
        )
    }
}

fn bytes_of(memory: &SharedMem) -> Vec<u8> {
    (0..PAGES)
        .flat_map(|page| {
            let mut copy = PageBuf::ZERO;
            memory.slice(page * PAGE, PAGE).snapshot(&mut copy);
            copy.0.into_iter().flat_map(u64::to_ne_bytes)
        })
        .collect()
}

/// Plays rhythms and returns how many pages were opened before they were due.
fn play(method: Method, rhythms: &[Rhythm], opens: u64) -> u64 {
    let host = Host::new(PAGES * PAGE);
    let tracker = TrackerChoice::Only(TrackerKind::Uffd);
    let device = Device::new(host, 64 << 20, tracker, Readback::Eager).following(method);
    let bo = device.bo_create((PAGES * PAGE) as u64, Sync::Coherent, ());
    let guest = device.bo_map(bo).unwrap();
    let mut model = vec![0; PAGES * PAGE];
    for flush in 0..90 {
        let value = u8::try_from(flush + 1).unwrap();
        let now = rhythms.iter().filter(|rhythm| {
            rhythm.lasts.contains(&flush) && flush % rhythm.period == rhythm.phase % rhythm.period
        });
        for rhythm in now {
            for at in
                rhythm.pages.clone().flat_map(|page| rhythm.bytes.clone().map(move |at| page * PAGE + at))
            {
                guest.store_byte(at, value);
                model[at] = value;
            }
        }
        device.flush().unwrap();
        assert!(bytes_of(&host.0.driver()) == model, "flush {flush}");
        if opens >> (flush % 64) & 1 == 0 {
            device.open_due();
        }
    }
    device.stats().pages_opened
}

#[test]
fn a_ring_is_opened_part_by_part_and_not_by_the_method_of_the_series() {
    let part =
        |phase| Rhythm { pages: phase * 3..phase * 3 + 3, period: 4, phase, lasts: 0..90, bytes: 0..PAGE };
    let ring = [part(0), part(1), part(2), part(3)];
    assert!(play(Method::Auto, &ring, 0) > 3 * 60);
    assert_eq!(play(Method::Series, &ring, 0), 0);
}

#[test]
fn what_is_written_each_time_stays_open_until_it_is_not_written_any_more() {
    let always = Rhythm { pages: 2..7, period: 1, phase: 0, lasts: 0..40, bytes: 5..6 };
    let once = Rhythm { pages: 4..5, period: 60, phase: 59, lasts: 0..90, bytes: 9..10 };
    assert_eq!(play(Method::Auto, &[always, once], 0), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_byte_is_lost_whatever_was_forecast(
        rhythms in prop::collection::vec(Rhythm::any(), 1..8),
        opens in any::<u64>(),
    ) {
        play(Method::Auto, &rhythms, opens);
    }
}
