//! Which pages the CPU will write before the next flush.
//!
//! A write fault costs as much as comparing several pages. So a page that is written in a steady rhythm is
//! *open* when its time comes: not write-protected, and reported by the scan, written or not. One that is
//! open in vain is compared in vain. Nothing else depends on a forecast, so none can lose a byte.
//!
//! * What is written before each flush stays open: the scan leaves it out. So does what is written before
//!   every second one: to compare it in vain costs less than to protect and to open it.
//! * What is rewritten everywhere before each flush is stored as it is, as by explicit synchronisation, and
//!   compared only now and then.
//! * What is written less often, as parts of a ring are, is opened at the end of the flush before. That costs
//!   a third of a fault, or two ([`Device::open_due`](super::device::Device::open_due)).
//! * A page alone that is written every third or fourth flush stays open in between, too: to protect a single
//!   page costs most.
//!
//! A page must have kept its rhythm twice (the series switches its method after three in a row, too), and
//! longer after forecasts that were hardly worth it. But where the page before it was written before each
//! flush up to now, a page is taken to be next in its place: memory that is filled from one submission to the
//! next.

use std::collections::BTreeMap;
use std::ops::Range;

use super::merge::Changes;
use crate::addr::Pgoff;
use crate::sys::pages::to_usize;

/// Equal intervals in a row that make a rhythm.
const STEADY: u8 = 2;
/// The longest interval that is looked for.
const LONGEST: u8 = 64;
/// Forecasts that must come true for one that does not.
const WORTH: u8 = 4;
/// How often the number of equal intervals that is asked for may double.
const CAUTION: u8 = 5;
/// Pages in a row for which opening them pays: each run takes a system call. So does each that stays open,
/// but to protect a single page again costs more than that: every processor that runs the process must forget
/// what it knew of it.
const RUN: u64 = 2;
/// Times in a row that a page was rewritten everywhere before it is stored unseen, and how often it is
/// compared then.
const REWRITTEN: u8 = 4;
const LOOK: u8 = 16;
/// The sum of the last two intervals of a page that stays open between them.
const OFTEN: u32 = 4;
/// Flushes that a page alone stays open for, and pages that do at a time: where many are protected at once,
/// each costs little.
const NEAR: u32 = 4;
const ALONE: usize = 16;
/// Pages whose rhythms are kept together.
const REGION: u64 = 512;

/// When a page was written.
#[derive(Clone, Copy, Debug, Default)]
struct Rhythm {
    last: u32,
    /// The last interval, and the one before. What comes next is taken to be like the latter: parts of a page
    /// that are written in turns make two intervals that alternate.
    intervals: [u8; 2],
    kept: u8,
    /// Forecasts that came true since one did not.
    hits: u8,
    caution: u8,
    /// The flush before which it will be written, if it stays open until then.
    open_until: u32,
    /// How often it was rewritten everywhere, up to twice [`LOOK`].
    everywhere: u8,
}

/// When a page will be written.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// Before each flush.
    Always,
    /// Before this one, which is so near that it stays open.
    Soon(u32),
    /// Before this one.
    At(u32),
}

impl Rhythm {
    fn is_steady(&self) -> bool {
        self.intervals[1] != 0 && self.kept >= STEADY << self.caution
    }

    /// The page was compared at flush `now`; returns when it will be written again, if that is known.
    fn compared(&mut self, now: u32, changes: Changes) -> Option<Next> {
        let changed = changes.bytes != 0;
        self.everywhere = match self.everywhere {
            _ if !changes.everywhere => 0,
            count if count + 1 == 2 * LOOK => LOOK,
            count => count + 1,
        };
        let interval = now.wrapping_sub(self.last);
        let as_before = interval == u32::from(self.intervals[1]);
        let was_due = self.is_steady() && as_before;
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
        self.kept = if as_before { self.kept.saturating_add(1) } else { 0 };
        let interval = u8::try_from(interval).ok().filter(|interval| *interval <= LONGEST).unwrap_or(0);
        self.intervals = [interval, self.intervals[0]];
        self.last = now;
        self.is_steady().then(|| self.next())
    }

    fn next(&self) -> Next {
        let [last, next] = self.intervals.map(u32::from);
        match last + next {
            2 => Next::Always,
            sum if sum <= OFTEN => Next::Soon(self.last.wrapping_add(next)),
            _ => Next::At(self.last.wrapping_add(next)),
        }
    }

    /// Takes the place of a page that was written before each flush up to now. Who was too rash before waits
    /// for a rhythm of its own.
    fn follow(&mut self) -> Option<Next> {
        if self.caution != 0 {
            return None;
        }
        (self.intervals, self.kept) = ([1, 1], STEADY);
        Some(Next::Always)
    }
}

/// The rhythms of all pages of an arena, and what is to be opened when.
#[derive(Debug, Default)]
pub struct Forecast {
    /// Those of each region, once a page of it was written.
    regions: Vec<Option<Box<[Rhythm]>>>,
    /// Pages to open at the end of a flush, by its number.
    due: BTreeMap<u32, Vec<Pgoff>>,
    /// Pages that stay open until the next flush.
    stay: Vec<Pgoff>,
    /// Pages that were written before this flush and will be before one that is near.
    near: Vec<(Pgoff, u32)>,
    open: Vec<Range<Pgoff>>,
    now: u32,
}

impl Forecast {
    /// What the next scan leaves out: ascending runs, which are not write-protected and are to be reported.
    pub fn open(&self) -> &[Range<Pgoff>] {
        &self.open
    }

    /// A flush begins.
    pub fn begin(&mut self) {
        self.now = self.now.wrapping_add(1);
    }

    /// Whether a page, which is open, is to be taken for rewritten everywhere, without a look.
    pub fn is_rewritten(&self, page: Pgoff) -> bool {
        self.rhythm(page).is_some_and(|rhythm| {
            rhythm.everywhere >= REWRITTEN && rhythm.everywhere != LOOK && self.is_always_open(page)
        })
    }

    /// Whether a page stays open after this flush until the one before which it will be written.
    fn is_held(&self, page: Pgoff) -> bool {
        self.rhythm(page).is_some_and(|rhythm| is_after(rhythm.open_until, self.now))
    }

    /// Whether a page is open at this flush for having been written before each of the last ones.
    fn is_always_open(&self, page: Pgoff) -> bool {
        let run = self.open.partition_point(|run| run.end <= page);
        self.open.get(run).is_some_and(|run| run.contains(&page))
            && self.rhythm(page).is_some_and(|rhythm| rhythm.intervals == [1, 1])
    }

    fn rhythm(&self, page: Pgoff) -> Option<&Rhythm> {
        self.regions.get(to_usize(page / REGION))?.as_ref()?.get(to_usize(page % REGION))
    }

    fn rhythm_mut(&mut self, page: Pgoff) -> Option<&mut Rhythm> {
        self.regions.get_mut(to_usize(page / REGION))?.as_mut()?.get_mut(to_usize(page % REGION))
    }

    /// A page was compared that was reported, or taken to be rewritten. Returns whether it is known already
    /// to be open at the next flush.
    pub fn compared(&mut self, page: Pgoff, changes: Changes) -> bool {
        let (now, changed) = (self.now, changes.bytes != 0);
        if changed {
            self.keep(page);
        }
        let follows = changed && page.checked_sub(1).is_some_and(|before| self.is_always_open(before));
        let Some(rhythm) = self.rhythm_mut(page) else { return false };
        let mut next = rhythm.compared(now, changes);
        if changed {
            next = next.or_else(|| if follows { rhythm.follow() } else { None });
            rhythm.open_until = if let Some(Next::Soon(flush)) = next { flush } else { now };
        }
        let stays = match next {
            Some(Next::Always | Next::Soon(_)) => true,
            Some(Next::At(flush)) => {
                if is_after(flush, now) {
                    self.near.push((page, flush));
                }
                self.due.entry(flush.wrapping_sub(1)).or_default().push(page);
                false
            }
            None => is_after(rhythm.open_until, now),
        };
        if stays {
            self.stay.push(page);
        }
        stays
    }

    /// Has a rhythm kept of a page.
    fn keep(&mut self, page: Pgoff) {
        let index = to_usize(page / REGION);
        if self.regions.len() <= index {
            self.regions.resize_with(index + 1, || None);
        }
        let new = || vec![Rhythm::default(); to_usize(REGION)].into_boxed_slice();
        self.regions[index].get_or_insert_with(new);
    }

    /// Pages are somebody else's from now on.
    pub fn forget(&mut self, pages: &Range<Pgoff>) {
        self.open.retain(|run| run.end <= pages.start || pages.end <= run.start);
        let (first, end) = (to_usize(pages.start.div_ceil(REGION)), to_usize(pages.end / REGION));
        self.regions.iter_mut().take(end).skip(first).for_each(|region| *region = None);
        let now = self.now;
        let [head, tail] = match first <= end {
            true => [pages.start..first as u64 * REGION, end as u64 * REGION..pages.end],
            false => [pages.clone(), 0..0],
        };
        for page in head.chain(tail) {
            self.rhythm_mut(page).into_iter().for_each(|rhythm| rhythm.open_until = now);
        }
    }

    /// A flush ends: takes out what is to be opened now, in ascending runs.
    pub fn end(&mut self) -> Vec<Range<Pgoff>> {
        self.stay_alone();
        // What was scanned at this flush takes one fault more, and stays open from then on.
        self.open = runs(std::mem::take(&mut self.stay));
        let mut due = self.due.remove(&self.now).unwrap_or_default();
        due.retain(|page| !self.is_held(*page));
        let mut due = runs(due);
        due.retain(|run| run.end - run.start >= RUN);
        due
    }

    /// Has pages alone stay open that are due soon.
    fn stay_alone(&mut self) {
        let mut near = std::mem::take(&mut self.near);
        near.sort_unstable();
        let is_alone = |run: &&[(Pgoff, u32)]| (run.len() as u64) < RUN;
        let alone: Vec<_> =
            near.chunk_by(|a, b| a.0 + 1 == b.0).filter(is_alone).flatten().copied().collect();
        if alone.len() > ALONE {
            return;
        }
        for (page, due) in alone {
            self.rhythm_mut(page).into_iter().for_each(|rhythm| rhythm.open_until = due);
            self.stay.push(page);
        }
    }
}

/// Whether flush `due` is one of the next [`NEAR`] after flush `now`.
fn is_after(due: u32, now: u32) -> bool {
    (1..=NEAR).contains(&due.wrapping_sub(now))
}

/// Pages as ascending runs.
fn runs(mut pages: Vec<Pgoff>) -> Vec<Range<Pgoff>> {
    let mut runs: Vec<Range<Pgoff>> = Vec::new();
    pages.sort_unstable();
    for page in pages {
        match runs.last_mut() {
            Some(run) if run.end == page => run.end += 1,
            Some(run) if run.end > page => {}
            _ => runs.push(page..page + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a comparison finds of a page that was written in part, or not.
    fn found(changed: bool) -> Changes {
        Changes { bytes: u64::from(changed), everywhere: false }
    }

    /// Flushes at which pages 0 to 3 were open when they were written, and when they were not, of those in
    /// `written`.
    fn play(flushes: u32, written: impl Fn(u32) -> bool) -> (Vec<u32>, Vec<u32>) {
        let (mut forecast, mut hits, mut vain) = (Forecast::default(), Vec::new(), Vec::new());
        let mut open = false;
        for flush in 1..=flushes {
            forecast.begin();
            if written(flush) || open {
                for page in 0..4 {
                    forecast.compared(page, found(written(flush)));
                }
            }
            if open {
                if written(flush) { hits.push(flush) } else { vain.push(flush) }
            }
            let is_all = |runs: &[Range<Pgoff>]| runs.first() == Some(&(0..4));
            open = is_all(&forecast.end()) || is_all(forecast.open());
        }
        (hits, vain)
    }

    #[test]
    fn what_is_written_each_time_is_open_from_the_fifth_time_on() {
        assert_eq!(play(10, |_| true), ((5..=10).collect(), vec![]));
    }

    #[test]
    fn a_part_of_a_ring_is_opened_just_before_its_turn() {
        assert_eq!(play(40, |flush| flush % 4 == 0), (vec![20, 24, 28, 32, 36, 40], vec![]));
    }

    #[test]
    fn what_two_parts_share_is_opened_for_either() {
        let (hits, vain) = play(40, |flush| flush % 6 < 2);
        assert_eq!((hits, vain), (vec![13, 18, 19, 24, 25, 30, 31, 36, 37], vec![]));
    }

    #[test]
    fn what_is_written_every_second_flush_stays_open() {
        for halves in [|flush| flush % 2 == 0, |flush| flush % 4 < 2] {
            let (hits, vain) = play(40, halves);
            let after = |first: u32, written: bool| {
                (first..=40).filter(|f| halves(*f) == written).collect::<Vec<_>>()
            };
            assert_eq!((&hits, &vain), (&after(hits[0], true), &after(vain[0], false)));
            assert!(hits[0] <= 10 && vain[0] <= 10, "{hits:?} {vain:?}");
        }
    }

    #[test]
    fn a_page_follows_the_one_that_was_filled_before_it() {
        let (mut forecast, mut faults) = (Forecast::default(), Vec::new());
        for flush in 0..80u64 {
            forecast.begin();
            let page = flush / 8;
            if !forecast.open().iter().any(|run| run.contains(&page)) {
                faults.push(flush);
            }
            for open in forecast.open().to_vec().into_iter().flatten().filter(|open| *open != page) {
                forecast.compared(open, found(false));
            }
            forecast.compared(page, found(true));
            assert_eq!(forecast.end(), []);
        }
        assert_eq!(faults, [0, 1, 2, 3, 8, 16, 24, 32, 40, 48, 56, 64, 72]);
    }

    #[test]
    fn what_stops_is_closed_and_more_is_asked_for_the_next_time() {
        let (hits, vain) = play(200, |flush| flush % 8 < 4);
        assert!(vain.len() <= usize::from(CAUTION) + 1, "{vain:?}");
        assert!(hits.len() <= 20, "{hits:?}");
    }

    #[test]
    fn long_bursts_are_worth_a_vain_one_at_their_end() {
        let (hits, vain) = play(1000, |flush| flush % 100 < 32);
        assert!(hits.len() > 280 - 40 && vain.len() <= 10, "{} {vain:?}", hits.len());
    }

    #[test]
    fn a_page_alone_stays_open_but_is_not_opened() {
        let mut forecast = Forecast::default();
        for flush in 1..=20 {
            forecast.begin();
            let turn = [[7, 20, 21, 22], [7, 40, 41, 50], [7, 60, 61, 70]][flush % 3];
            for page in turn {
                forecast.compared(page, found(true));
            }
            let waits: Vec<_> = forecast.open().iter().cloned().flatten().collect();
            for page in waits.into_iter().filter(|page| !turn.contains(page)) {
                forecast.compared(page, found(false));
            }
            for run in forecast.end() {
                assert!(run == (20..23) || run == (40..42) || run == (60..62), "{run:?}");
            }
        }
        assert_eq!(forecast.open(), [7..8, 50..51, 70..71]);
        forecast.forget(&(0..30));
        assert_eq!(forecast.open(), [50..51, 70..71]);
        assert!(forecast.is_held(50) || forecast.is_held(70));
        forecast.forget(&(50..71));
        assert!(!forecast.is_held(50) && !forecast.is_held(70));
        assert_eq!(forecast.open(), []);
    }

    #[test]
    fn what_is_rewritten_everywhere_each_time_is_compared_now_and_then() {
        let mut forecast = Forecast::default();
        let mut looks = Vec::new();
        for flush in 1..=70 {
            forecast.begin();
            if !forecast.is_rewritten(7) {
                looks.push(flush);
            }
            forecast.compared(7, Changes { bytes: 4096, everywhere: flush != 60 });
            forecast.end();
        }
        assert_eq!(looks, [1, 2, 3, 4, 17, 33, 49, 61, 62, 63, 64]);
        // Nobody else's.
        assert!(!forecast.is_rewritten(6) && !forecast.is_rewritten(8));
        forecast.forget(&(7..8));
        assert!(!forecast.is_rewritten(7));
    }

    /// Of a page alone that is written at some flushes: those that it was protected for, and those that it
    /// was compared at in vain.
    fn play_alone(flushes: u32, written: impl Fn(u32) -> bool) -> (Vec<u32>, Vec<u32>) {
        let (mut forecast, mut faults, mut vain) = (Forecast::default(), Vec::new(), Vec::new());
        for flush in 1..=flushes {
            forecast.begin();
            let open = !forecast.open().is_empty();
            match (written(flush), open) {
                (true, false) => faults.push(flush),
                (false, true) => vain.push(flush),
                _ => {}
            }
            if written(flush) || open {
                assert!(!forecast.is_held(7) || open);
                forecast.compared(7, found(written(flush)));
            }
            assert_eq!(forecast.end(), []);
        }
        (faults, vain)
    }

    #[test]
    fn a_page_alone_is_held_until_its_turn_if_that_is_near() {
        let vain = (13..=30).filter(|flush| flush % 3 != 0).collect();
        assert_eq!(play_alone(30, |flush| flush % 3 == 0), (vec![3, 6, 9, 12], vain));
        let far = play_alone(100, |flush| flush % 5 == 0);
        assert_eq!((far.0.len(), far.1), (20, vec![]));
    }

    #[test]
    fn a_page_alone_that_is_not_written_any_more_is_let_go() {
        let (faults, vain) = play_alone(100, |flush| flush < 20 && flush % 2 == 0);
        assert_eq!((faults, vain), (vec![2, 4, 6, 8], vec![9, 11, 13, 15, 17, 19, 20]));
    }

    #[test]
    fn of_many_pages_alone_none_is_held() {
        let mut forecast = Forecast::default();
        for flush in 1..=40 {
            forecast.begin();
            for page in (0..100).filter(|_| flush % 3 == 0) {
                forecast.compared(3 * page, found(true));
            }
            forecast.end();
        }
        assert_eq!(forecast.open(), []);
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
                for page in &written {
                    forecast.compared(*page, found(true));
                }
                known.extend(written);
                let due = forecast.end();
                let runs = [&due[..], forecast.open()];
                for runs in runs {
                    prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
                    let all_known = |run: &Range<Pgoff>| run.clone().all(|page| known.contains(&page));
                    prop_assert!(runs.iter().all(all_known));
                }
            }
            // Nothing is kept for flushes that are over.
            prop_assert!(forecast.due.keys().all(|due| *due > forecast.now));
        }
    }
}
