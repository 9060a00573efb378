//! What every tracker guarantees, one function a property; where they may differ, [`Caps`] says how.
//!
//! A tracker's tests are one line: [`conformance_tests`] with its [`Fixture`]. Pages the properties use lie
//! far apart, so that no report of one covers another by way of its group.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{Caps, Mmu};
use crate::addr::Pgoff;

/// Pages a fixture has at least.
pub(crate) const PAGES: u64 = 4096;

/// The application's processors.
pub(crate) trait Cpu: Sync {
    /// Stores to the first byte of a page, as a thread of the application does.
    fn store(&self, page: Pgoff, byte: u8);
    /// Loads it.
    fn load(&self, page: Pgoff) -> u8;
}

/// A machine with a tracker, on which nothing was written yet.
pub(crate) trait Fixture {
    /// Its processors.
    type Cpu: Cpu;
    /// Its tracker.
    type Mmu: Mmu;

    /// A machine with [`PAGES`] pages of zeros.
    fn new() -> Self;
    /// Processors and tracker, to be used at the same time.
    fn parts(&mut self) -> (&Self::Cpu, &mut Self::Mmu);
    /// Has the kernel store to the first byte of a page, as `read(2)` does; whether it could.
    fn kernel_store(&self, page: Pgoff, byte: u8) -> bool;
    /// Stores to the first byte of a page the way the driver does, which is no write of the CPU.
    fn driver_store(&self, page: Pgoff, byte: u8);
    /// Takes a page away; it reads as zeros until it is written again.
    fn discard(&self, page: Pgoff);

    /// The processors.
    fn cpu(&mut self) -> &Self::Cpu {
        self.parts().0
    }

    /// What the tracker is.
    fn caps(&mut self) -> Caps {
        self.parts().1.caps()
    }

    /// Takes the dirty pages of a range out; they must be reported in order and inside of it.
    fn dirty(&mut self, pages: Range<Pgoff>) -> BTreeSet<Pgoff> {
        let mut found = BTreeSet::new();
        let mut last = pages.start;
        let record = &mut |run: Range<Pgoff>| {
            assert!(last <= run.start && run.start < run.end && run.end <= pages.end, "{run:?} after {last}");
            last = run.end;
            found.extend(run);
        };
        self.parts().1.take_dirty(pages.clone(), record).unwrap();
        found
    }

    /// A machine whose pages were all written, taken out, and not written since.
    fn clean() -> Self
    where
        Self: Sized,
    {
        let mut machine = Self::new();
        (0..PAGES).for_each(|page| machine.cpu().store(page, 1));
        machine.dirty(0..PAGES);
        machine
    }

    /// Asserts that a page that was not written is not reported, unless all pages always are.
    fn assert_clean(&mut self, pages: Range<Pgoff>) {
        let found = self.dirty(pages.clone());
        if self.caps().reports_only_written {
            assert_eq!(found, BTreeSet::new());
        } else {
            assert_eq!(found, pages.collect());
        }
    }
}

/// A written page is reported by the next call, and by no later one until it is written again.
pub(crate) fn a_write_is_reported_once_and_again_after_the_next<F: Fixture>() {
    let mut machine = F::clean();
    for byte in 2..5 {
        machine.cpu().store(2005, byte);
        assert!(machine.dirty(0..PAGES).contains(&2005));
        machine.assert_clean(0..PAGES);
    }
}

/// What is written before the first call is reported by it, all of it.
pub(crate) fn a_write_before_the_first_call_is_reported<F: Fixture>() {
    let mut machine = F::new();
    machine.cpu().store(0, 1);
    machine.cpu().store(2005, 1);
    machine.cpu().store(PAGES - 1, 1);
    assert!(machine.dirty(0..PAGES).is_superset(&[0, 2005, PAGES - 1].into()));
    machine.assert_clean(2000..2016);
}

/// What a look finds is not taken out by it.
pub(crate) fn a_look_leaves_writes_to_be_reported<F: Fixture>() {
    let mut machine = F::clean();
    for page in [7, 2005] {
        machine.cpu().store(page, 2);
        let mut found = BTreeSet::new();
        machine.parts().1.find_dirty(0..PAGES, &mut |run| found.extend(run)).unwrap();
        assert!(found.contains(&page));
        if machine.caps().stays_open {
            assert!(found.len() == 1);
        }
        // Open, so that nobody needs to be told.
        machine.cpu().store(page, 3);
        assert!(machine.dirty(0..PAGES).contains(&page));
    }
    machine.assert_clean(0..PAGES);
}

/// A store of the value that is there is a write, too.
pub(crate) fn a_store_of_the_same_value_is_reported<F: Fixture>() {
    let mut machine = F::clean();
    machine.cpu().store(7, 1);
    assert!(machine.dirty(0..PAGES).contains(&7));
}

/// Reading makes no page dirty.
pub(crate) fn a_read_is_no_write<F: Fixture>() {
    let mut machine = F::clean();
    for page in 0..PAGES {
        assert_eq!(machine.cpu().load(page), 1);
    }
    machine.assert_clean(0..PAGES);
}

/// A report covers the written page's group, and perhaps groups behind it, but nothing before it.
pub(crate) fn a_report_is_as_coarse_as_declared<F: Fixture>() {
    let mut machine = F::clean();
    let caps = machine.caps();
    machine.cpu().store(2005, 2);
    let found = machine.dirty(0..PAGES);
    if caps.reports_only_written {
        let group = 2005 / caps.granularity * caps.granularity;
        assert_eq!(found, (group..group + caps.granularity).collect());
    }
}

/// What the driver writes is no write of the CPU, which sees it nevertheless.
pub(crate) fn a_write_of_the_driver_is_not_reported<F: Fixture>() {
    let mut machine = F::clean();
    machine.driver_store(9, 7);
    machine.assert_clean(0..PAGES);
    assert_eq!(machine.cpu().load(9), 7);
}

/// A call takes out what lies in its range, and leaves the rest for others.
pub(crate) fn a_call_touches_its_range_alone<F: Fixture>() {
    let mut machine = F::clean();
    for page in [0, 1000, 2000, 4000] {
        machine.cpu().store(page, 2);
    }
    let at = 1000 / 64 * 64;
    assert!(machine.dirty(at..at + 64).contains(&1000));
    machine.assert_clean(at..at + 64);
    let rest = machine.dirty(0..PAGES);
    assert!(rest.is_superset(&[0, 2000, 4000].into()), "{rest:?}");
}

/// A call for part of a group reports what was written there, and loses nothing around it.
pub(crate) fn a_call_for_part_of_a_group_loses_no_neighbour<F: Fixture>() {
    let mut machine = F::clean();
    for (asked, outside) in
        [(2005..2006, [2004, 2006]), (2005..2090, [2004, 2091]), (1905..2006, [1904, 2006])]
    {
        let inside = [asked.start, asked.end - 1];
        for page in inside.into_iter().chain(outside) {
            machine.cpu().store(page, 2);
        }
        assert!(machine.dirty(asked.clone()).is_superset(&inside.into()), "{asked:?}");
        let rest = machine.dirty(0..PAGES);
        assert!(rest.is_superset(&outside.into()), "{asked:?}: {rest:?}");
    }
}

/// An empty range reports nothing.
pub(crate) fn a_call_for_nothing_finds_nothing<F: Fixture>() {
    let mut machine = F::new();
    machine.cpu().store(3, 1);
    assert_eq!(machine.dirty(3..3), BTreeSet::new());
    assert!(machine.dirty(0..PAGES).contains(&3));
}

/// Many scattered pages are all reported, more than any one system call returns.
pub(crate) fn many_scattered_pages_are_all_reported<F: Fixture>() {
    let mut machine = F::clean();
    let every_second = || (0..PAGES).step_by(2);
    every_second().for_each(|page| machine.cpu().store(page, 2));
    assert!(machine.dirty(0..PAGES).is_superset(&every_second().collect()));
    machine.assert_clean(0..PAGES);
}

/// Sequential writes, as of an upload, are all reported, each time.
pub(crate) fn sequential_writes_are_all_reported<F: Fixture>() {
    let mut machine = F::clean();
    for byte in 2..6 {
        (100..1500).for_each(|page| machine.cpu().store(page, byte));
        assert!(machine.dirty(0..PAGES).is_superset(&(100..1500).collect()));
    }
    machine.assert_clean(0..PAGES);
}

/// A page that was given back reads as zeros, and a write to it is reported like the first one.
pub(crate) fn a_page_given_back_and_written_again_is_reported<F: Fixture>() {
    let mut machine = F::clean();
    machine.discard(2005);
    assert_eq!(machine.cpu().load(2005), 0);
    machine.dirty(0..PAGES);
    machine.cpu().store(2005, 2);
    assert!(machine.dirty(0..PAGES).contains(&2005));
    assert_eq!(machine.cpu().load(2005), 2);
}

/// The kernel's writes for the process succeed and are found; or they fail until the CPU writes the page.
pub(crate) fn a_write_of_the_kernel_is_what_is_declared<F: Fixture>() {
    let mut machine = F::clean();
    if machine.caps().sees_kernel_writes {
        assert!(machine.kernel_store(2005, 9));
    } else {
        assert!(!machine.kernel_store(2005, 9));
        assert_eq!(machine.cpu().load(2005), 1);
        machine.cpu().store(2005, 2);
        assert!(machine.kernel_store(2005, 9));
    }
    assert!(machine.dirty(0..PAGES).contains(&2005));
    assert_eq!(machine.cpu().load(2005), 9);
}

/// Threads count in pages of their own, while calls take the pages out and copy what they find. A store that
/// races with a call is found by it or by the next, so that the last call finds the last value of all.
pub(crate) fn a_write_that_races_with_a_call_is_found_by_it_or_the_next<F: Fixture>() {
    const WRITERS: u64 = 3;
    const ROUNDS: u8 = 200;
    // Neighbours in a group, neighbouring groups, and far ones.
    let pages_of = |writer: u64| [writer, 16 + writer, 40 + writer, 700 + writer * 16, 3000 + writer * 300];
    let mut machine = F::clean();
    let mut copy = [1; 4096];
    let mut take = |cpu: &F::Cpu, mmu: &mut F::Mmu| {
        let found = &mut |run: Range<Pgoff>| {
            for page in run {
                copy[usize::try_from(page).unwrap()] = cpu.load(page);
            }
        };
        mmu.take_dirty(0..PAGES, found).unwrap();
    };
    let (cpu, mmu) = machine.parts();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || {
                    for round in 2..ROUNDS {
                        pages_of(writer).iter().for_each(|page| cpu.store(*page, round));
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            take(cpu, mmu);
        }
    });
    take(cpu, mmu);
    for page in (0..WRITERS).flat_map(pages_of) {
        assert_eq!(copy[usize::try_from(page).unwrap()], ROUNDS - 1, "page {page}");
    }
}

/// The tests of a tracker: one for each property.
macro_rules! conformance_tests {
    ($fixture:ty) => {
        $crate::mmu::conformance::conformance_tests! { $fixture:
            a_write_is_reported_once_and_again_after_the_next
            a_write_before_the_first_call_is_reported
            a_store_of_the_same_value_is_reported
            a_look_leaves_writes_to_be_reported
            a_read_is_no_write
            a_report_is_as_coarse_as_declared
            a_write_of_the_driver_is_not_reported
            a_call_touches_its_range_alone
            a_call_for_part_of_a_group_loses_no_neighbour
            a_call_for_nothing_finds_nothing
            many_scattered_pages_are_all_reported
            sequential_writes_are_all_reported
            a_page_given_back_and_written_again_is_reported
            a_write_of_the_kernel_is_what_is_declared
            a_write_that_races_with_a_call_is_found_by_it_or_the_next
        }
    };
    ($fixture:ty: $($property:ident)*) => {
        $(
            #[test]
            fn $property() {
                $crate::mmu::conformance::$property::<$fixture>();
            }
        )*
    };
}

pub(crate) use conformance_tests;
