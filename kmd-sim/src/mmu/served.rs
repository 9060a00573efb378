//! What the kernel promises of pages that are taken out of page tables under write tracking. Lazy readback
//! stands on it.

use std::collections::BTreeSet;
use std::io::{PipeReader, PipeWriter, Write};
use std::thread::{JoinHandle, spawn};

use super::Mmu;
use super::conformance::Cpu;
use super::uffd::Uffd;
use crate::addr::{PAGE_BYTES, PAGE_SIZE, Pgoff};
use crate::sys::pages::TwiceMapped;
use crate::sys::userfaultfd::Serves;

const PAGES: u64 = 64;

/// A mapping whose faults are served by a thread that stores to a page before it lets anybody see it.
struct Served {
    uffd: Uffd,
    pages: &'static TwiceMapped,
    thread: Option<JoinHandle<Vec<Pgoff>>>,
    stop: PipeWriter,
}

impl Served {
    /// `None` where the process may not serve faults of the kernel.
    fn new(window: u64) -> Option<Self> {
        if let Err(error) = Uffd::probe(Serves::Faults) {
            println!("skipped: {error}");
            return None;
        }
        let pages: &TwiceMapped = Box::leak(Box::new(TwiceMapped::new("test", PAGES * PAGE_SIZE).unwrap()));
        let uffd = Uffd::serving(pages.application(), Serves::Faults).unwrap();
        let faults = uffd.faults().unwrap();
        let (stopped, stop): (PipeReader, _) = std::io::pipe().unwrap();
        faults.begin().unwrap();
        let serve = move || {
            let mut served = Vec::new();
            while let Some(page) = faults.next(&stopped).unwrap() {
                served.push(page);
                pages.driver().store(page, 9);
                faults.resume(&(page..(page + window).min(PAGES)));
            }
            served
        };
        Some(Self { uffd, pages, thread: Some(spawn(serve)), stop })
    }

    fn cpu(&self) -> &'static dyn Cpu {
        Box::leak(Box::new(self.pages.application()))
    }

    fn zap(&self, pages: std::ops::Range<Pgoff>) {
        self.pages.zap(&(pages.start * PAGE_SIZE..pages.end * PAGE_SIZE)).unwrap();
    }

    fn dirty(&mut self) -> Vec<Pgoff> {
        let mut found = BTreeSet::new();
        self.uffd.take_dirty(0..PAGES, &mut |run| found.extend(run)).unwrap();
        found.into_iter().collect()
    }

    /// All pages written, taken out, and not written since.
    fn clean(window: u64) -> Option<Self> {
        let mut served = Self::new(window)?;
        (0..PAGES).for_each(|page| served.cpu().store(page, 1));
        served.dirty();
        Some(served)
    }

    /// The pages that faulted.
    fn end(mut self) -> Vec<Pgoff> {
        self.stop.write_all(&[0]).unwrap();
        self.thread.take().unwrap().join().unwrap()
    }
}

#[test]
fn who_reads_a_page_that_was_taken_out_sees_what_was_stored_meanwhile() {
    let Some(mut served) = Served::clean(1) else { return };
    served.zap(3..6);
    assert_eq!([2, 3, 4].map(|page| served.cpu().load(page)), [1, 9, 9]);
    assert_eq!(served.dirty(), []);
    assert_eq!(served.end(), [3, 4]);
}

#[test]
fn a_write_to_a_page_that_was_taken_out_is_reported() {
    let Some(mut served) = Served::clean(1) else { return };
    served.zap(0..PAGES);
    served.cpu().store(7, 5);
    assert_eq!(served.cpu().load(7), 5);
    assert_eq!(served.dirty(), [7]);
    assert_eq!(served.end(), [7]);
}

#[test]
fn a_write_before_a_page_is_taken_out_is_reported_until_it_is_mapped_again() {
    let Some(mut served) = Served::clean(1) else { return };
    served.cpu().store(7, 5);
    served.cpu().store(8, 5);
    served.zap(0..PAGES);
    assert_eq!(served.dirty(), [7, 8]);
    served.zap(0..PAGES);
    assert_eq!(served.dirty(), []);
    // This is why a report is taken before a page is mapped again.
    served.cpu().load(9);
    served.cpu().store(9, 5);
    served.zap(0..PAGES);
    served.cpu().load(9);
    assert_eq!(served.dirty(), []);
}

#[test]
fn a_window_is_mapped_as_not_written_whatever_is_mapped_in_it() {
    let Some(mut served) = Served::clean(16) else { return };
    served.zap(0..3);
    served.zap(5..40);
    served.cpu().load(0);
    assert_eq!((0..16).map(|page| served.cpu().load(page)).filter(|byte| *byte == 9).count(), 1);
    served.cpu().store(12, 5);
    assert_eq!(served.dirty(), [12]);
    assert_eq!(served.end(), [0]);
}

#[test]
fn pages_that_the_file_does_not_have_raise_faults_for_as_long_as_these_are_taken() {
    let Some(mut served) = Served::new(1) else { return };
    let faults = served.uffd.faults().unwrap();
    served.cpu().store(5, 1);
    served.dirty();
    faults.take_missing(&(4..8)).unwrap();
    assert_eq!([3, 4, 5, 6].map(|page| served.cpu().load(page)), [0, 9, 1, 9]);
    assert_eq!(served.dirty(), []);
    served.cpu().store(6, 2);
    assert_eq!(served.dirty(), [6]);
    faults.leave_missing(&(4..8)).unwrap();
    assert_eq!(served.cpu().load(7), 0);
    assert_eq!(served.dirty(), [4, 5, 6, 7]);
    served.zap(5..6);
    assert_eq!(served.cpu().load(5), 9);
    assert_eq!(served.end(), [4, 6, 5]);
}

#[test]
fn a_page_that_the_file_does_not_have_raises_no_fault_until_it_is_given_one() {
    let Some(served) = Served::new(1) else { return };
    assert_eq!(served.cpu().load(5), 0);
    served.pages.populate(&(6 * PAGE_SIZE..7 * PAGE_SIZE)).unwrap();
    assert_eq!(served.cpu().load(6), 9);
    assert_eq!(served.end(), [6]);
}

#[test]
fn system_calls_wait_like_anybody() {
    let Some(mut served) = Served::clean(1) else { return };
    let (read, write) = std::io::pipe().unwrap();
    served.zap(0..PAGES);
    (&write).write_all(&[7; 2 * PAGE_BYTES]).unwrap();
    let memory = served.pages.application().slice(PAGE_BYTES, 2 * PAGE_BYTES);
    assert_eq!(memory.read_from(&read).unwrap(), 2 * PAGE_BYTES);
    assert_eq!([1, 2].map(|page| served.cpu().load(page)), [7, 7]);
    assert_eq!(served.dirty(), [1, 2]);
    assert_eq!(served.end(), [1, 2]);
}
