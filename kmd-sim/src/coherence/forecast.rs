//! Which pages the CPU will write before the next flush.
//!
//! A write fault costs as much as comparing several pages. A page that is written in a steady rhythm (each frame, or every
//! fourth as parts of a ring are) is *opened* before it is due: it is not write-protected, so the next scan reports it,
//! written or not. One that is opened in vain is compared in vain. Nothing else depends on a forecast, so none can lose a byte.
//!
//! Time is counted in flushes. A page must have kept its rhythm [`STEADY`] times (the series switches its method after three
//! in a row, too), and longer after forecasts that were hardly worth it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::addr::Pgoff;
use crate::sys::pages::to_usize;

/// Equal intervals in a row that make a rhythm.
const STEADY: u8 = 2;
/// The longest interval that is looked for.
const LONGEST: u32 = 64;
/// Forecasts that must come true for one that does not.
const WORTH: u8 = 4;
/// How often the number of equal intervals that is asked for may double.
const CAUTION: u8 = 5;
/// Pages in a row for which opening is cheaper than their faults: it takes a system call.
const RUN: u64 = 3;
/// Pages whose rhythms are kept together.
const REGION: u64 = 512;

/// When a page was written.
#[derive(Clone, Copy, Debug, Default)]
struct Rhythm {
    last: u32,
    interval: u8,
    kept: u8,
    /// Forecasts that came true since one did not.
    hits: u8,
    caution: u8,
}

impl Rhythm {
    fn is_steady(&self) -> bool {
        self.interval != 0 && self.kept >= STEADY << self.caution
    }

    /// The page was compared at flush `now`; returns the flush to open it at, if it is known when it will be written.
    fn compared(&mut self, now: u32, changed: bool) -> Option<u32> {
        let interval = now.wrapping_sub(self.last);
        let was_due = self.is_steady() && interval == u32::from(self.interval);
        if !changed {
            if was_due {
                self.caution = match self.hits < WORTH {
                    true => (self.caution + 1).min(CAUTION),
                    false => self.caution.saturating_sub(1),
                };
                (self.kept, self.hits) = (0, 0);
            }
            return None;
        }
        self.hits = self.hits.saturating_add(u8::from(was_due));
        if interval == u32::from(self.interval) {
            self.kept = self.kept.saturating_add(1);
        } else {
            self.kept = 0;
            self.interval = u8::try_from(interval).ok().filter(|_| interval <= LONGEST).unwrap_or(0);
        }
        self.last = now;
        self.is_steady().then(|| now.wrapping_add(u32::from(self.interval) - 1))
    }
}

/// The rhythms of all pages of an arena, and what is to be opened when.
#[derive(Debug, Default)]
pub struct Forecast {
    regions: HashMap<u64, Box<[Rhythm]>>,
    /// Pages to open at the end of a flush, by its number.
    due: BTreeMap<u32, Vec<Pgoff>>,
    now: u32,
}

impl Forecast {
    /// A flush begins.
    pub fn begin(&mut self) {
        self.now = self.now.wrapping_add(1);
    }

    /// A page was compared that the scan reported. `changed`: the CPU had written it.
    pub fn compared(&mut self, page: Pgoff, changed: bool) {
        let region = match changed {
            true => self
                .regions
                .entry(page / REGION)
                .or_insert_with(|| vec![Rhythm::default(); to_usize(REGION)].into_boxed_slice()),
            false => match self.regions.get_mut(&(page / REGION)) {
                Some(region) => region,
                None => return,
            },
        };
        if let Some(at) = region[to_usize(page % REGION)].compared(self.now, changed) {
            self.due.entry(at).or_default().push(page);
        }
    }

    /// Pages are somebody else's from now on.
    pub fn forget(&mut self, pages: &Range<Pgoff>) {
        for region in pages.start.div_ceil(REGION)..pages.end / REGION {
            self.regions.remove(&region);
        }
    }

    /// Takes out what is to be opened at the end of this flush, in runs long enough for it to pay.
    pub fn take_due(&mut self) -> Vec<Range<Pgoff>> {
        let mut runs: Vec<Range<Pgoff>> = Vec::new();
        let Some(mut pages) = self.due.remove(&self.now) else { return runs };
        pages.sort_unstable();
        for page in pages {
            match runs.last_mut() {
                Some(run) if run.end == page => run.end += 1,
                Some(run) if run.end > page => {}
                _ => runs.push(page..page + 1),
            }
        }
        runs.retain(|run| run.end - run.start >= RUN);
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Flushes at which pages 0 to 3 were open when they were written, and when they were not, of those in `written`.
    fn play(flushes: u32, written: impl Fn(u32) -> bool) -> (Vec<u32>, Vec<u32>) {
        let (mut forecast, mut hits, mut vain) = (Forecast::default(), Vec::new(), Vec::new());
        let mut open = false;
        for flush in 1..=flushes {
            forecast.begin();
            if written(flush) || open {
                (0..4).for_each(|page| forecast.compared(page, written(flush)));
            }
            if open {
                if written(flush) { hits.push(flush) } else { vain.push(flush) }
            }
            open = forecast.take_due() == [0..4];
        }
        (hits, vain)
    }

    #[test]
    fn what_is_written_each_time_is_open_from_the_fourth_time_on() {
        assert_eq!(play(10, |_| true), ((4..=10).collect(), vec![]));
    }

    #[test]
    fn a_part_of_a_ring_is_opened_just_before_its_turn() {
        assert_eq!(play(40, |flush| flush % 4 == 0), (vec![16, 20, 24, 28, 32, 36, 40], vec![]));
    }

    #[test]
    fn what_stops_is_closed_and_more_is_asked_for_the_next_time() {
        let (hits, vain) = play(200, |flush| flush % 8 < 4);
        assert!(vain.len() <= usize::from(CAUTION) + 1, "{vain:?}");
        assert!(hits.len() <= 10, "{hits:?}");
    }

    #[test]
    fn long_bursts_are_worth_a_vain_one_at_their_end() {
        let (hits, vain) = play(1000, |flush| flush % 100 < 32);
        assert!(hits.len() > 280 - 40 && vain.len() <= 10, "{} {vain:?}", hits.len());
    }

    #[test]
    fn a_page_or_two_are_not_worth_a_system_call() {
        let mut forecast = Forecast::default();
        for _ in 0..10 {
            forecast.begin();
            [7, 8, 20, 21, 22].iter().for_each(|page| forecast.compared(*page, true));
            assert!(matches!(&forecast.take_due()[..], [] | [Range { start: 20, end: 23 }]));
        }
    }

    proptest! {
        #[test]
        fn runs_are_ascending_and_hold_what_was_compared(
            flushes in prop::collection::vec(prop::collection::btree_set(0u64..64, 0..40), 1..40),
        ) {
            let mut forecast = Forecast::default();
            let mut known = std::collections::BTreeSet::new();
            for written in flushes {
                forecast.begin();
                written.iter().for_each(|page| forecast.compared(*page, true));
                known.extend(written);
                let runs = forecast.take_due();
                prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
                prop_assert!(runs.iter().all(|run| run.end - run.start >= RUN && run.clone().all(|page| known.contains(&page))));
            }
            // Nothing is kept for flushes that are over.
            prop_assert!(forecast.due.keys().all(|due| *due > forecast.now));
        }
    }
}
