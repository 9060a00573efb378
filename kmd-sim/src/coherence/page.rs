//! The life of a page: how bytes travel between guest page (G), host memory (H) and twin (T).
//!
//! # States
//! * [`PageState::Fresh`]: nobody but the CPU may write the page, and no flush has found it written. G is
//!   zero but for what the CPU writes now; H is undefined.
//! * [`PageState::Private`]: a byte has one possible writer. Bytes that were submitted for writing and not
//!   pulled, called *pending* here, are the device's: the CPU may not write them meanwhile, and G holds what
//!   both sides last agreed on. The CPU may change any other, and H holds what both last agreed on.
//! * [`PageState::Shared`]: there are bytes that both may write, or there were. T holds what both sides last
//!   agreed on: H equals T but for bytes the device changed since the last pull, G equals T but for bytes the
//!   CPU changed since the last flush. The two sets are disjoint, since a byte has one legal writer at a
//!   time.
//!
//! A private page becomes shared, for good, when a range comes up of which the CPU may write a part
//! meanwhile.
//!
//! All methods run under the device's reservation. Compare, copy and update of T use one snapshot.

use std::ops::Range;

use super::merge::{
    Changes, Neighbours, changed_runs, changes, copy_bytes, keep_outside, store_changed, store_owned,
    transfer,
};
use crate::addr::{PAGE_SIZE, PAGE_WORDS, intersection};
use crate::sys::memory::{PageBuf, SharedMem};
use crate::sys::pages::to_usize;
use crate::sys::transfer::LINE;

/// Who may write a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// The CPU alone, and it has not written yet: H is undefined, G and T are zero.
    Fresh,
    /// CPU and device, each its own bytes. There is no twin.
    Private,
    /// CPU and device.
    Shared,
}

/// The part of `bytes` of an object that lies in its page `page`, from the start of the page.
pub fn in_page(bytes: &Range<u64>, page: u64) -> Range<usize> {
    let start = page * PAGE_SIZE;
    let part = intersection(bytes, &(start..start + PAGE_SIZE));
    to_usize(part.start - start)..to_usize(part.end - start)
}

/// One page of a mapped buffer object. `guest` and `host` have the same length, at most a page.
#[derive(Debug)]
pub struct Page<'a> {
    /// G, through the driver's mapping.
    pub guest: SharedMem,
    /// H.
    pub host: SharedMem,
    /// T: the words of a whole page.
    pub twin: &'a mut [u64],
    /// Its state.
    pub state: &'a mut PageState,
    /// Runs of bytes that were stored into H, if anybody wants to know.
    pub stored: Option<&'a mut Vec<Range<usize>>>,
}

impl Page<'_> {
    /// Takes the CPU's changes over to H. The page was write-protected before the call, so that a store
    /// that comes later is reported again. `device`: whether a batch that may write a shared page has been
    /// submitted and not pulled; `pending`: the bytes of a private one for which this is so.
    ///
    /// Returns what the CPU changed: the first time, all that is not zero.
    pub fn flush(&mut self, device: Neighbours, pending: &[Range<usize>]) -> Changes {
        if self.stored.is_none() && pending.is_empty() && *self.state != PageState::Fresh {
            let (twin, neighbours) = match *self.state {
                PageState::Shared => (Some(&mut self.twin[..self.host.len().div_ceil(8)]), device),
                _ => (None, Neighbours::Quiet),
            };
            if let Some(changes) = transfer(&self.guest, twin, &self.host, neighbours) {
                return changes;
            }
        }
        let mut guest = PageBuf::ZERO;
        let words = self.guest.snapshot(&mut guest);
        let new = &guest.0[..words];
        if *self.state == PageState::Shared {
            let old = &mut self.twin[..words];
            let changed = store_changed(new, old, &self.host, device);
            if changed.bytes != 0 {
                note(&mut self.stored, new, old);
                old.copy_from_slice(new);
            }
            return changed;
        }
        debug_assert!(
            *self.state == PageState::Private || pending.is_empty(),
            "submitted, and not made ready"
        );
        let mut host = PageBuf::ZERO;
        self.host.snapshot(&mut host);
        let old = &mut host.0[..words];
        // The device's bytes have not changed on this side; what H holds of them is on its way.
        pending.iter().for_each(|range| copy_bytes(new, old, range));
        let neighbours = if pending.is_empty() { Neighbours::Quiet } else { Neighbours::Busy };
        let differing = store_changed(new, old, &self.host, neighbours);
        // The CPU wrote over zeros the first time; what H held is nobody's.
        let changed = if *self.state == PageState::Fresh {
            self.stored.iter_mut().for_each(|stored| stored.push(0..self.host.len()));
            changes(new, &[0; PAGE_WORDS][..words])
        } else {
            note(&mut self.stored, new, old);
            differing
        };
        *self.state = PageState::Private;
        changed
    }

    /// [`Self::flush`] of a page that is taken to have been rewritten as a whole: stores all of it, and does
    /// not ask what changed. Nothing of it is pending. `None` where that will not do, and nothing was stored.
    pub fn copy(&mut self) -> Option<Changes> {
        if self.stored.is_some() || *self.state != PageState::Private || !self.host.len().is_multiple_of(8) {
            return None;
        }
        self.host.store_all(&self.guest);
        Some(Changes { bytes: self.host.len() as u64, everywhere: true })
    }

    /// Prepares the page for bytes that both may write: from now on it has a twin. No batch that may write it
    /// has been submitted, except for `pending` bytes.
    pub fn share(&mut self, pending: &[Range<usize>]) {
        match self.state {
            PageState::Shared => return,
            PageState::Fresh => {
                // T is zero, and so was G when the CPU last had not written: make H agree.
                self.clear_host(&(0..self.host.len()));
            }
            PageState::Private => {
                let mut host = PageBuf::ZERO;
                let words = self.host.snapshot(&mut host);
                self.twin[..words].copy_from_slice(&host.0[..words]);
                if !pending.is_empty() {
                    let mut guest = PageBuf::ZERO;
                    self.guest.snapshot(&mut guest);
                    pending.iter().for_each(|range| copy_bytes(&guest.0, self.twin, range));
                }
            }
        }
        *self.state = PageState::Shared;
    }

    /// Prepares the page for a device that writes `bytes`, ascending, which the CPU may not write meanwhile.
    /// No batch with them has been submitted yet.
    pub fn claim(&mut self, bytes: &[Range<usize>]) {
        if *self.state != PageState::Fresh {
            return;
        }
        // If the device refuses the batch, an image must be right all the same.
        let bytes = if self.stored.is_some() { &[] } else { bytes };
        let mut at = 0;
        for range in bytes {
            self.clear_host(&(at..range.start));
            at = range.end;
        }
        self.clear_host(&(at..self.host.len()));
        *self.state = PageState::Private;
    }

    /// Takes the device's changes in `bytes` over to G. Returns how many bytes changed.
    pub fn pull(&mut self, bytes: &Range<usize>) -> u64 {
        debug_assert_ne!(*self.state, PageState::Fresh, "submitted for writing, and not made ready");
        let lines = bytes.start.next_multiple_of(LINE)..bytes.end / LINE * LINE;
        if lines.is_empty() {
            return self.pull_part(bytes);
        }
        let (host, guest) =
            (self.host.slice(lines.start, lines.len()), self.guest.slice(lines.start, lines.len()));
        let (twin, neighbours) = match *self.state {
            PageState::Shared => (Some(&mut self.twin[lines.start / 8..lines.end / 8]), Neighbours::Busy),
            _ => (None, Neighbours::Quiet),
        };
        let Some(changes) = transfer(&host, twin, &guest, neighbours) else { return self.pull_part(bytes) };
        changes.bytes + self.pull_part(&(bytes.start..lines.start)) + self.pull_part(&(lines.end..bytes.end))
    }

    /// [`Self::pull`], by words.
    fn pull_part(&mut self, bytes: &Range<usize>) -> u64 {
        if bytes.is_empty() {
            return 0;
        }
        let words = bytes.start / 8..bytes.end.div_ceil(8);
        let start = words.start * 8;
        let len = (words.end * 8).min(self.host.len()) - start;
        let inside = bytes.start - start..bytes.end - start;
        let guest = self.guest.slice(start, len);
        let mut new = PageBuf::ZERO;
        let count = self.host.slice(start, len).snapshot(&mut new);
        let new = &mut new.0[..count];
        if *self.state == PageState::Shared {
            let old = &mut self.twin[words];
            keep_outside(new, old, &inside);
            let changed = store_changed(new, old, &guest, Neighbours::Busy).bytes;
            if changed != 0 {
                old.copy_from_slice(new);
            }
            return changed;
        }
        let mut old = PageBuf::ZERO;
        guest.snapshot(&mut old);
        let old = &old.0[..count];
        keep_outside(new, old, &inside);
        store_owned(new, old, &inside, &guest)
    }

    /// Starts a fresh page from what H holds, before the CPU may write it: the device may have written it
    /// before it was ever mapped. [`PageState::Shared`]: and may be writing it now, bytes the CPU may write
    /// among them.
    pub fn adopt(&mut self, state: PageState) -> u64 {
        debug_assert_eq!(*self.state, PageState::Fresh, "the page is in use already");
        let mut host = PageBuf::ZERO;
        let words = self.host.snapshot(&mut host);
        let new = &host.0[..words];
        // G is zero, and is not looked at: there may be no memory behind it yet.
        let changed = store_changed(new, &[0; PAGE_WORDS][..words], &self.guest, Neighbours::Quiet).bytes;
        if state == PageState::Shared && changed != 0 {
            self.twin[..words].copy_from_slice(new);
        }
        *self.state = state;
        changed
    }

    fn clear_host(&mut self, bytes: &Range<usize>) {
        if bytes.is_empty() {
            return;
        }
        let mut host = PageBuf::ZERO;
        let words = self.host.snapshot(&mut host);
        let old = &host.0[..words];
        let mut new = host.clone();
        copy_bytes(&[0; PAGE_WORDS], &mut new.0, bytes);
        store_changed(&new.0[..words], old, &self.host, Neighbours::Quiet);
        // What an image holds of a page that nobody has written says nothing of the device's memory.
        self.stored.iter_mut().for_each(|stored| stored.push(bytes.clone()));
    }
}

/// Notes the bytes in which two lists of words differ.
fn note(stored: &mut Option<&mut Vec<Range<usize>>>, new: &[u64], old: &[u64]) {
    if let Some(stored) = stored {
        stored.extend(changed_runs(new, old));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{PAGE_BYTES, PAGE_SIZE};
    use crate::sys::pages::TwiceMapped;
    use proptest::prelude::*;

    /// A page with its three copies, of `len` bytes.
    struct Fixture {
        guest: TwiceMapped,
        host: TwiceMapped,
        twin: Vec<u64>,
        state: PageState,
        len: usize,
    }

    impl Fixture {
        fn new(len: usize) -> Self {
            let pages = || TwiceMapped::new("test", PAGE_SIZE).unwrap();
            Self { guest: pages(), host: pages(), twin: vec![0; PAGE_WORDS], state: PageState::Fresh, len }
        }

        fn page(&mut self) -> Page<'_> {
            Page {
                guest: self.guest.driver().slice(0, self.len),
                host: self.host.driver().slice(0, self.len),
                twin: &mut self.twin,
                state: &mut self.state,
                stored: None,
            }
        }

        fn pull(&mut self) -> u64 {
            let all = 0..self.len;
            self.page().pull(&all)
        }

        fn read(memory: &SharedMem, at: usize) -> u8 {
            let mut page = PageBuf::ZERO;
            memory.snapshot(&mut page);
            page.0[at / 8].to_ne_bytes()[at % 8]
        }

        fn cpu(&self, at: usize) -> u8 {
            Self::read(&self.guest.application(), at)
        }

        fn device(&self, at: usize) -> u8 {
            Self::read(&self.host.driver(), at)
        }
    }

    #[test]
    fn a_zero_written_to_a_fresh_page_reaches_a_host_page_full_of_garbage() {
        let mut fixture = Fixture::new(PAGE_BYTES);
        for at in 0..PAGE_BYTES {
            fixture.host.driver().store_byte(at, 0xee);
        }
        fixture.page().share(&[]);
        fixture.guest.application().store_byte(77, 0);
        fixture.page().flush(Neighbours::Busy, &[]);
        assert_eq!(fixture.device(77), 0);
    }

    #[test]
    fn the_old_value_stored_again_after_the_device_changed_it_is_not_lost() {
        let mut fixture = Fixture::new(PAGE_BYTES);
        fixture.guest.application().store_byte(9, 1);
        fixture.page().flush(Neighbours::Busy, &[]);
        fixture.page().share(&[]);
        fixture.host.driver().store_byte(9, 2);
        assert_eq!(fixture.pull(), 1);
        fixture.guest.application().store_byte(9, 1);
        assert_eq!(fixture.page().flush(Neighbours::Busy, &[]).bytes, 1);
        assert_eq!(fixture.device(9), 1);
    }

    #[test]
    fn a_page_the_device_wrote_before_it_was_mapped_starts_from_those_bytes() {
        let mut fixture = Fixture::new(100);
        fixture.host.driver().store_byte(99, 5);
        fixture.page().adopt(PageState::Shared);
        assert_eq!(fixture.cpu(99), 5);
        assert_eq!(fixture.page().flush(Neighbours::Busy, &[]).bytes, 0);
    }

    proptest! {
        /// CPU and device own disjoint bytes of one page; flushes and pulls come in any order.
        #[test]
        fn no_byte_is_lost_whoever_wrote_it(
            len in 1usize..=64,
            garbage in any::<u8>(),
            shared_at in 0usize..10,
            ops in prop::collection::vec((0u8..4, 0usize..64, any::<u8>()), 1..80),
        ) {
            let mut fixture = Fixture::new(len);
            for at in 0..len { fixture.host.driver().store_byte(at, garbage) }
            // Bytes written by anyone, and by whom: even offsets belong to the CPU, odd ones to the device.
            let mut model = vec![None; len];
            for (step, (op, at, value)) in ops.into_iter().enumerate() {
                if step == shared_at { fixture.page().flush(Neighbours::Busy, &[]); fixture.page().share(&[]) }
                let at = at % len;
                match op {
                    0 if at % 2 == 0 => { fixture.guest.application().store_byte(at, value); model[at] = Some(value) }
                    1 if at % 2 == 1 && fixture.state == PageState::Shared => {
                        fixture.host.driver().store_byte(at, value);
                        model[at] = Some(value);
                    }
                    2 => { fixture.page().flush(Neighbours::Busy, &[]); }
                    3 if fixture.state == PageState::Shared => { fixture.pull(); }
                    _ => {}
                }
            }
            fixture.page().flush(Neighbours::Busy, &[]);
            if fixture.state == PageState::Shared { fixture.pull(); }
            for (at, value) in model.iter().enumerate() {
                if let Some(value) = value {
                    prop_assert_eq!(fixture.cpu(at), *value);
                    prop_assert_eq!(fixture.device(at), *value);
                }
            }
        }

        /// Batches write ranges that the CPU leaves alone meanwhile; what else it writes goes on travelling.
        #[test]
        fn exact_ranges_need_no_twin(
            len in 1usize..=40,
            garbage in any::<u8>(),
            ops in prop::collection::vec((0u8..6, 0usize..40, 0usize..40, any::<u8>()), 1..80),
        ) {
            let mut fixture = Fixture::new(len);
            for at in 0..len { fixture.host.driver().store_byte(at, garbage) }
            let mut model = vec![None; len];
            // What the device was given and the CPU has not got back.
            let mut pending: Vec<Range<usize>> = Vec::new();
            for (op, a, b, value) in ops {
                let range = a.min(b) % len..a.max(b) % len;
                let at = a % len;
                let pends = |at: usize| pending.iter().any(|range| range.contains(&at));
                match op {
                    0 if !pends(at) => { fixture.guest.application().store_byte(at, value); model[at] = Some(value) }
                    1 if pends(at) => { fixture.host.driver().store_byte(at, value); model[at] = Some(value) }
                    2 => { fixture.page().flush(Neighbours::Busy, &pending); }
                    3 if !range.is_empty() && !range.clone().any(pends) => {
                        fixture.page().flush(Neighbours::Busy, &pending);
                        fixture.page().claim(std::slice::from_ref(&range));
                        pending.push(range);
                    }
                    4 if !pending.is_empty() => { let range = pending.remove(a % pending.len()); fixture.page().pull(&range); }
                    5 if value < 30 => fixture.page().share(&pending),
                    _ => {}
                }
                for (at, value) in model.iter().enumerate() {
                    let Some(value) = value else { continue };
                    let pends = pending.iter().any(|range| range.contains(&at));
                    if !pends { prop_assert_eq!(fixture.cpu(at), *value); } else { prop_assert_eq!(fixture.device(at), *value); }
                }
            }
            fixture.page().flush(Neighbours::Busy, &pending);
            for range in pending { fixture.page().pull(&range); }
            for (at, value) in model.iter().enumerate() {
                let Some(value) = value else { continue };
                prop_assert_eq!(fixture.cpu(at), *value);
                prop_assert_eq!(fixture.device(at), *value);
            }
        }
    }
}
