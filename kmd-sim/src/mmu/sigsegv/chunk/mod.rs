//! The protocol between signal handlers that open chunks and the scan that closes them.
//!
//! A *chunk* is protected as a whole: *open* (read-write) or *closed* (read-only). Each has one atomic word.
//! It is *clean* when the word is [`CLEAN`] to the bit, and *dirty* otherwise; a dirty word counts the
//! handlers in flight in its lower half, and in its upper half the faults since the chunk was last clean, so
//! that no two dirty words between two scans are alike. Zero is dirty: chunks start open.
//!
//! * A **handler** ([`Chunks::open`]): 1. one addition counts it in and makes the chunk dirty; 2. `mprotect`
//!   read-write; 3. one subtraction counts it out. It returns, and the store is tried again.
//! * The **scan** ([`Chunks::close`]), one at a time: 1. it reads the word; a clean chunk is passed by, one
//!   with a handler in flight is reported and left dirty. 2. It exchanges the word it read for `CLEAN`; if
//!   the word has changed, a handler came in between, and the chunk is reported and left dirty. 3. `mprotect`
//!   read-only. 4. It reports the chunk, and only now does anybody read the pages.
//!
//! # Invariant
//! A chunk that is open is dirty, or it is being closed by a scan that has not reported it yet.
//!
//! So no store is lost: it went to an open chunk, which was dirty, and is reported by the next scan; or
//! which was being closed, and is reported by this one, after `mprotect` has made sure (it waits for all
//! processors) that no further store gets through.
//!
//! # Why it holds
//! * *Opening*: step 2 of a handler opens a chunk that its step 1 made dirty. It stays dirty until step 3,
//!   since a scan that reads the word in between finds a handler in flight, and one that read it before fails
//!   to exchange it: the fault counter never goes back. After step 3 the chunk is dirty and open like any
//!   other.
//! * *Closing*: the chunk is clean and open from step 2 to step 3 of the scan, which reports it in step 4. A
//!   handler that comes after step 2 makes it dirty. Then either its `mprotect` is the last, and the chunk is
//!   open and dirty; or the scan's is, and the chunk is closed and dirty, which costs one more fault.
//! * *A delayed handler* of a fault that others have resolved long ago, even before several scans, is a
//!   handler like any other: it makes the chunk dirty before it opens it.
//! * *Two handlers* on one chunk: the first to finish leaves the count of the other standing.
//! * *Many chunks at once* (opening ahead, escalation): step 1 is done for all of them before, and step 3
//!   after, the one `mprotect`, so each chunk has its own argument. A scan exchanges the words of a whole run
//!   before its one `mprotect`: some are clean and open for longer.
//! * *`mprotect` fails*: in a handler, chunks stay closed and dirty. In a scan, they are made dirty again
//!   before they are reported, and stay open.
//!
//! The model checker's tests beside this file explore the protocol, and find the lost store when any one of
//! its three guards is missing: the count of handlers, clean before `mprotect`, report after `mprotect`.

use std::ops::Range;

use crate::sync::{AtomicU64, Ordering};
use crate::sys::zeroed;

/// The word of a clean chunk.
const CLEAN: u64 = 1 << 63;
/// One fault since the chunk was last clean.
const FAULT: u64 = 1 << 32;
/// The handlers in flight.
const IN_FLIGHT: u64 = FAULT - 1;

/// Changes the protection of chunks.
pub(super) trait Protect {
    /// Makes chunks read-write; returns whether that was possible.
    fn open(&self, chunks: Range<usize>) -> bool;
    /// Makes chunks read-only; returns whether that was possible.
    fn close(&self, chunks: Range<usize>) -> bool;
}

/// What the scan made of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// It was clean.
    Clean,
    /// It was dirty, and is clean now: it must be closed, and then reported.
    Cleaned,
    /// A handler is at it: it is dirty and stays so.
    Busy,
}

/// The words of all chunks.
#[derive(Debug)]
pub(super) struct Chunks(Box<[AtomicU64]>);

impl Chunks {
    /// `count` chunks, open and dirty.
    pub(super) fn new(count: usize) -> Self {
        Self(zeroed::atomics(count))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a chunk is dirty at the moment.
    pub(super) fn is_dirty(&self, chunk: usize) -> bool {
        self.0[chunk].load(Ordering::Relaxed) != CLEAN
    }

    /// What a handler does: opens chunks, all of which become dirty. Wait-free but for `protect`.
    pub(super) fn open(&self, chunks: Range<usize>, protect: &impl Protect) -> bool {
        chunks.clone().for_each(|chunk| self.enter(chunk));
        let opened = protect.open(chunks.clone());
        chunks.for_each(|chunk| self.leave(chunk));
        opened
    }

    /// What the scan does: closes the dirty ones of `chunks`, runs of them at once, and then reports them,
    /// in ascending order. One scan at a time.
    pub(super) fn close(
        &self,
        chunks: Range<usize>,
        protect: &impl Protect,
        report: &mut dyn FnMut(Range<usize>),
    ) {
        let mut run = chunks.start..chunks.start;
        for chunk in chunks {
            match self.look(chunk) {
                Look::Cleaned if chunk == run.end => run.end += 1,
                Look::Cleaned => {
                    self.finish(run, protect, report);
                    run = chunk..chunk + 1;
                }
                Look::Clean => {}
                Look::Busy => {
                    self.finish(run, protect, report);
                    report(chunk..chunk + 1);
                    run = chunk + 1..chunk + 1;
                }
            }
        }
        self.finish(run, protect, report);
    }

    /// Closes a run of chunks that are marked as clean, and reports them.
    fn finish(&self, run: Range<usize>, protect: &impl Protect, report: &mut dyn FnMut(Range<usize>)) {
        if run.is_empty() {
            return;
        }
        if !protect.close(run.clone()) {
            run.clone().for_each(|chunk| self.soil(chunk));
        }
        report(run);
    }

    /// Step 1 of a handler.
    fn enter(&self, chunk: usize) {
        // Acquire: the opening that follows does not begin before. Release: partner of `look`.
        self.0[chunk].fetch_add(FAULT + 1, Ordering::AcqRel);
    }

    /// Step 3 of a handler.
    fn leave(&self, chunk: usize) {
        // Release: a scan that finds the handler gone, by the acquire in `look`, closes after it opened.
        self.0[chunk].fetch_sub(1, Ordering::Release);
    }

    /// Makes a chunk dirty, whether it is open or not.
    pub(super) fn soil(&self, chunk: usize) {
        self.0[chunk].fetch_add(FAULT, Ordering::Release);
    }

    /// Steps 1 and 2 of the scan.
    fn look(&self, chunk: usize) -> Look {
        let word = self.0[chunk].load(Ordering::Acquire);
        if word == CLEAN {
            return Look::Clean;
        }
        if word & IN_FLIGHT != 0 {
            return Look::Busy;
        }
        // Acquire: the closing that follows does not begin before.
        match self.0[chunk].compare_exchange(word, CLEAN, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => Look::Cleaned,
            Err(_) => Look::Busy,
        }
    }
}

#[cfg(all(test, loom))]
mod loom;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Writes down what is asked of it, and refuses on demand.
    #[derive(Default)]
    struct Recorder {
        calls: RefCell<Vec<(&'static str, Range<usize>)>>,
        refuses: bool,
    }

    impl Protect for Recorder {
        fn open(&self, chunks: Range<usize>) -> bool {
            self.calls.borrow_mut().push(("open", chunks));
            !self.refuses
        }

        fn close(&self, chunks: Range<usize>) -> bool {
            self.calls.borrow_mut().push(("close", chunks));
            !self.refuses
        }
    }

    /// First chunks and ends of the runs reported.
    fn close(chunks: &Chunks, protect: &Recorder) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        chunks.close(0..chunks.len(), protect, &mut |run| found.push((run.start, run.end)));
        found
    }

    #[test]
    fn runs_are_closed_by_one_call_and_clean_chunks_by_none() {
        let (chunks, protect) = (Chunks::new(10), Recorder::default());
        assert_eq!(close(&chunks, &protect), [(0, 10)]);
        assert_eq!(close(&chunks, &protect), []);
        chunks.open(2..5, &protect);
        chunks.open(9..10, &protect);
        assert_eq!(close(&chunks, &protect), [(2, 5), (9, 10)]);
        let expected = [("close", 0..10), ("open", 2..5), ("open", 9..10), ("close", 2..5), ("close", 9..10)];
        assert_eq!(*protect.calls.borrow(), expected);
    }

    #[test]
    fn a_chunk_with_a_handler_in_flight_is_reported_and_stays_dirty() {
        let (chunks, protect) = (Chunks::new(4), Recorder::default());
        close(&chunks, &protect);
        (0..4).for_each(|chunk| chunks.enter(chunk));
        chunks.leave(1);
        assert_eq!(close(&chunks, &protect), [(0, 1), (1, 2), (2, 3), (3, 4)]);
        assert_eq!((0..4).map(|chunk| chunks.is_dirty(chunk)).collect::<Vec<_>>(), [true, false, true, true]);
    }

    #[test]
    fn chunks_that_cannot_be_closed_stay_dirty_and_are_reported_each_time() {
        let (chunks, protect) = (Chunks::new(3), Recorder { refuses: true, ..Recorder::default() });
        assert_eq!(close(&chunks, &protect), [(0, 3)]);
        assert_eq!(close(&chunks, &protect), [(0, 3)]);
    }
}
