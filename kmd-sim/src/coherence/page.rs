//! The life of a page: how bytes travel between guest page (G), host memory (H) and twin (T).
//!
//! # States
//! * [`PageState::Fresh`]: nobody but the CPU may write the page, and no flush has found it written. G is zero but
//!   for what the CPU writes now; H is undefined.
//! * [`PageState::Private`]: nobody but the CPU may write the page. G equals H but for bytes the CPU changed since
//!   the last flush, which compares G with H itself.
//! * [`PageState::Shared`]: the device may write it too. T holds what both sides last agreed on: H equals T
//!   but for bytes the device changed since the last pull, G equals T but for bytes the CPU changed since
//!   the last flush. The two sets are disjoint, since a byte has one legal writer at a time.
//!
//! All methods run under the device's reservation. Compare, copy and update of T use one snapshot.

use super::merge::{Neighbours, count_nonzero, store_changed};
use crate::addr::PAGE_WORDS;
use crate::sys::memory::{PageBuf, SharedMem};

/// Who may write a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// The CPU alone, and it has not written yet: H is undefined, G and T are zero.
    Fresh,
    /// The CPU alone.
    Private,
    /// CPU and device.
    Shared,
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
}

impl Page<'_> {
    /// Takes the CPU's changes over to H. The page was write-protected before the call, so that a store
    /// that comes later is reported again. `device`: whether a batch that may write the page has been
    /// submitted and not pulled.
    ///
    /// Returns how many bytes the CPU changed: the first time, those that are not zero.
    pub fn flush(&mut self, device: Neighbours) -> u64 {
        let mut guest = PageBuf::ZERO;
        let words = self.guest.snapshot(&mut guest);
        let new = &guest.0[..words];
        if *self.state == PageState::Shared {
            let old = &mut self.twin[..words];
            let changed = store_changed(new, old, &self.host, device);
            if changed != 0 {
                old.copy_from_slice(new);
            }
            return changed;
        }
        let mut host = PageBuf::ZERO;
        self.host.snapshot(&mut host);
        let differing = store_changed(new, &host.0[..words], &self.host, Neighbours::Quiet);
        // The CPU wrote over zeros the first time; what H held is nobody's.
        let changed = if *self.state == PageState::Fresh { count_nonzero(new) } else { differing };
        *self.state = PageState::Private;
        changed
    }

    /// Prepares the page for a device that may write it: from now on it has a twin. No batch that may
    /// write it has been submitted yet.
    pub fn share(&mut self) {
        match self.state {
            PageState::Shared => return,
            PageState::Fresh => {
                // T is zero, and so was G when the CPU last had not written: make H agree.
                let mut host = PageBuf::ZERO;
                let words = self.host.snapshot(&mut host);
                store_changed(&[0; PAGE_WORDS][..words], &host.0[..words], &self.host, Neighbours::Quiet);
            }
            PageState::Private => {
                let mut host = PageBuf::ZERO;
                let words = self.host.snapshot(&mut host);
                self.twin[..words].copy_from_slice(&host.0[..words]);
            }
        }
        *self.state = PageState::Shared;
    }

    /// Takes the device's changes over to G. Returns how many bytes changed. Only shared pages can have any.
    pub fn pull(&mut self) -> u64 {
        if *self.state != PageState::Shared {
            return 0;
        }
        let mut host = PageBuf::ZERO;
        let words = self.host.snapshot(&mut host);
        let (new, old) = (&host.0[..words], &mut self.twin[..words]);
        let changed = store_changed(new, old, &self.guest, Neighbours::Busy);
        if changed != 0 {
            old.copy_from_slice(new);
        }
        changed
    }

    /// Starts a fresh page from what H holds: the device may have written it before it was ever mapped,
    /// and may be writing it now.
    pub fn adopt(&mut self) -> u64 {
        debug_assert_eq!(*self.state, PageState::Fresh, "the page is in use already");
        *self.state = PageState::Shared;
        self.pull()
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
            }
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
        fixture.page().share();
        fixture.guest.application().store_byte(77, 0);
        fixture.page().flush(Neighbours::Busy);
        assert_eq!(fixture.device(77), 0);
    }

    #[test]
    fn the_old_value_stored_again_after_the_device_changed_it_is_not_lost() {
        let mut fixture = Fixture::new(PAGE_BYTES);
        fixture.guest.application().store_byte(9, 1);
        fixture.page().flush(Neighbours::Busy);
        fixture.page().share();
        fixture.host.driver().store_byte(9, 2);
        assert_eq!(fixture.page().pull(), 1);
        fixture.guest.application().store_byte(9, 1);
        assert_eq!(fixture.page().flush(Neighbours::Busy), 1);
        assert_eq!(fixture.device(9), 1);
    }

    #[test]
    fn a_page_the_device_wrote_before_it_was_mapped_starts_from_those_bytes() {
        let mut fixture = Fixture::new(100);
        fixture.host.driver().store_byte(99, 5);
        fixture.page().adopt();
        assert_eq!(fixture.cpu(99), 5);
        assert_eq!(fixture.page().flush(Neighbours::Busy), 0);
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
                if step == shared_at { fixture.page().flush(Neighbours::Busy); fixture.page().share() }
                let at = at % len;
                match op {
                    0 if at % 2 == 0 => { fixture.guest.application().store_byte(at, value); model[at] = Some(value) }
                    1 if at % 2 == 1 && fixture.state == PageState::Shared => {
                        fixture.host.driver().store_byte(at, value);
                        model[at] = Some(value);
                    }
                    2 => { fixture.page().flush(Neighbours::Busy); }
                    3 if fixture.state == PageState::Shared => { fixture.page().pull(); }
                    _ => {}
                }
            }
            fixture.page().flush(Neighbours::Busy);
            if fixture.state == PageState::Shared { fixture.page().pull(); }
            for (at, value) in model.iter().enumerate() {
                if let Some(value) = value {
                    prop_assert_eq!(fixture.cpu(at), *value);
                    prop_assert_eq!(fixture.device(at), *value);
                }
            }
        }
    }
}
