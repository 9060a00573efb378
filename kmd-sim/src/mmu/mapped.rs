//! The machine of the trackers that work on this process's own page tables.

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::Range;

use super::compare::Compare;
use super::conformance::{Cpu, Fixture, PAGES};
use super::sigsegv::Sigsegv;
use super::tracker::{Readback, Tracker, TrackerChoice, TrackerKind};
use super::uffd::Uffd;
use super::{Caps, Mmu};
use crate::addr::{PAGE_BYTES, PAGE_SIZE, Pgoff};
use crate::error::Result;
use crate::sys::memory::{PageBuf, SharedMem};
use crate::sys::pages::{TwiceMapped, to_usize};
use crate::sys::sigsegv::Action;
use crate::sys::userfaultfd::Serves;
use crate::sys::view::View;

/// A tracker that can be made for a mapping.
pub(super) trait Tracks: Mmu + Sized {
    fn tracks(memory: SharedMem) -> Result<Self>;
}

impl Tracks for Uffd {
    fn tracks(memory: SharedMem) -> Result<Self> {
        Self::new(memory)
    }
}

/// [`Uffd`] whose faults are served, where they can be; though by nobody, since no test of a tracker takes a
/// page out.
#[derive(Debug)]
pub(super) struct Serving(Uffd);

impl Tracks for Serving {
    fn tracks(memory: SharedMem) -> Result<Self> {
        Uffd::serving(memory, Serves::Faults).or_else(|_| Uffd::new(memory)).map(Self)
    }
}

impl Mmu for Serving {
    fn caps(&self) -> Caps {
        self.0.caps()
    }

    fn take_dirty(&mut self, pages: Range<Pgoff>, found: &mut dyn FnMut(Range<Pgoff>)) -> Result<()> {
        self.0.take_dirty(pages, found)
    }

    fn find_dirty(&mut self, pages: Range<Pgoff>, found: &mut dyn FnMut(Range<Pgoff>)) -> Result<()> {
        self.0.find_dirty(pages, found)
    }
}

impl Tracks for Sigsegv {
    fn tracks(memory: SharedMem) -> Result<Self> {
        Self::new(memory)
    }
}

impl Tracks for Compare {
    fn tracks(_: SharedMem) -> Result<Self> {
        Ok(Self)
    }
}

/// A memory file mapped twice, and a tracker of one mapping.
pub(super) struct Mapped<M> {
    /// Declared first: it ends before the mapping does.
    mmu: M,
    pages: TwiceMapped,
    application: SharedMem,
}

impl Cpu for SharedMem {
    fn store(&self, page: Pgoff, byte: u8) {
        self.store_byte(to_usize(page * PAGE_SIZE), byte);
    }

    fn load(&self, page: Pgoff) -> u8 {
        let mut copy = PageBuf::ZERO;
        self.slice(to_usize(page * PAGE_SIZE), 8).snapshot(&mut copy);
        copy.0[0].to_ne_bytes()[0]
    }
}

impl<M: Tracks> Fixture for Mapped<M> {
    type Cpu = SharedMem;
    type Mmu = M;

    fn new() -> Self {
        let pages = TwiceMapped::new("test", PAGES * PAGE_SIZE).unwrap();
        let application = pages.application();
        Self { mmu: M::tracks(application).unwrap(), pages, application }
    }

    fn parts(&mut self) -> (&SharedMem, &mut M) {
        (&self.application, &mut self.mmu)
    }

    fn kernel_store(&self, page: Pgoff, byte: u8) -> bool {
        let (read, write) = std::io::pipe().unwrap();
        (&write).write_all(&[byte]).unwrap();
        match self.application.slice(to_usize(page * PAGE_SIZE), PAGE_BYTES).read_from(&read) {
            Ok(count) => count == 1,
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
                false
            }
        }
    }

    fn driver_store(&self, page: Pgoff, byte: u8) {
        self.pages.driver().store(page, byte);
    }

    fn discard(&self, page: Pgoff) {
        self.pages.discard(&(page * PAGE_SIZE..(page + 1) * PAGE_SIZE)).unwrap();
    }
}

/// A memory file, its tracker, and processors that see it through a further mapping.
pub(super) struct Viewed<const TRACKER: usize> {
    /// Declared first: it ends before the mappings do.
    mmu: OfView,
    view: View,
    memory: SharedMem,
    mapped: Mapped<Compare>,
}

/// The trackers, by the number that names them in types.
const TRACKERS: [TrackerKind; 3] = [TrackerKind::Uffd, TrackerKind::Sigsegv, TrackerKind::Compare];

/// A tracker as it works on a further mapping.
pub(super) struct OfView {
    tracker: Tracker,
    view: SharedMem,
}

impl Mmu for OfView {
    fn caps(&self) -> Caps {
        match &self.tracker {
            // Nothing of it is asked for to stay open.
            Tracker::Uffd(tracker) => Caps { stays_open: false, ..tracker.caps() },
            // All stores succeed, and all pages are reported.
            Tracker::Sigsegv(_) | Tracker::Compare(_) => Compare.caps(),
        }
    }

    fn take_dirty(&mut self, pages: Range<Pgoff>, found: &mut dyn FnMut(Range<Pgoff>)) -> Result<()> {
        if pages.is_empty() {
            return Ok(());
        }
        let len = to_usize((pages.end - pages.start) * PAGE_SIZE);
        let part = self.view.slice(to_usize(pages.start * PAGE_SIZE), len);
        self.tracker.take_dirty_of_view(part, pages, found)
    }
}

impl<const TRACKER: usize> Fixture for Viewed<TRACKER> {
    type Cpu = SharedMem;
    type Mmu = OfView;

    fn new() -> Self {
        let mut mapped = Mapped::<Compare>::new();
        let choice = TrackerChoice::Only(TRACKERS[TRACKER]);
        let tracker = Tracker::new(choice, Readback::Eager, mapped.application).unwrap();
        let view = mapped.pages.view(&(0..PAGES * PAGE_SIZE), None).unwrap();
        let memory = view.memory();
        tracker.add_view(memory).unwrap();
        mapped.application = memory;
        Self { mmu: OfView { tracker, view: memory }, view, memory, mapped }
    }

    fn parts(&mut self) -> (&SharedMem, &mut OfView) {
        (&self.memory, &mut self.mmu)
    }

    fn kernel_store(&self, page: Pgoff, byte: u8) -> bool {
        self.mapped.kernel_store(page, byte)
    }

    fn driver_store(&self, page: Pgoff, byte: u8) {
        self.mapped.driver_store(page, byte);
    }

    fn discard(&self, page: Pgoff) {
        self.mapped.discard(page);
    }
}

/// Writes through one mapping are reported of that mapping, and of no other.
#[test]
fn mappings_of_one_file_are_tracked_apart() {
    let mut machine = Viewed::<0>::new();
    let arena = machine.mapped.pages.application();
    let arena_of = |machine: &mut Viewed<0>| {
        let mut found = BTreeSet::new();
        machine.mmu.tracker.take_dirty(0..PAGES, &mut |run| found.extend(run)).unwrap();
        found
    };
    machine.dirty(0..PAGES);
    arena_of(&mut machine);
    machine.memory.store(7, 1);
    arena.store(2005, 1);
    assert_eq!(machine.dirty(0..PAGES), [7].into());
    assert_eq!(arena_of(&mut machine), [2005].into());
    // What is mapped where a view was says nothing of it.
    let memory = machine.memory;
    let Viewed { mut mmu, view, mapped, .. } = machine;
    let place = view.reserve().unwrap();
    assert!(mmu.take_dirty(0..PAGES, &mut |_| {}).is_err(), "nobody tracks what is there now");
    let again = mapped.pages.view(&(0..PAGES * PAGE_SIZE), Some(place)).unwrap();
    mmu.tracker.add_view(memory).unwrap();
    again.memory().store(9, 1);
    let mut found = BTreeSet::new();
    mmu.take_dirty(0..PAGES, &mut |run| found.extend(run)).unwrap();
    assert!(found.contains(&9));
}

/// A signal handler is installed by who declares it, and for no longer than there is a tracker.
fn a_handler_is_installed_as_declared<M: Tracks>() {
    let is_ours = || Action::current().unwrap().is_ours();
    assert!(!is_ours());
    let mut machine = Mapped::<M>::new();
    assert_eq!(is_ours(), machine.caps().installs_handler);
    drop(machine);
    assert!(!is_ours());
}

mod uffd {
    super::super::conformance::conformance_tests!(super::Mapped<super::Uffd>);

    #[test]
    fn a_handler_is_installed_as_declared() {
        super::a_handler_is_installed_as_declared::<super::Uffd>();
    }
}

mod serving {
    super::super::conformance::conformance_tests!(super::Mapped<super::Serving>);
}

mod sigsegv {
    super::super::conformance::conformance_tests!(super::Mapped<super::Sigsegv>);

    #[test]
    fn a_handler_is_installed_as_declared() {
        super::a_handler_is_installed_as_declared::<super::Sigsegv>();
    }
}

mod view_uffd {
    super::super::conformance::conformance_tests!(super::Viewed<0>);
}

mod view_sigsegv {
    super::super::conformance::conformance_tests!(super::Viewed<1>);
}

mod view_compare {
    super::super::conformance::conformance_tests!(super::Viewed<2>);
}

mod compare {
    super::super::conformance::conformance_tests!(super::Mapped<super::Compare>);

    #[test]
    fn a_handler_is_installed_as_declared() {
        super::a_handler_is_installed_as_declared::<super::Compare>();
    }
}
