//! `mprotect(2)` and a SIGSEGV handler: the `_MKWRITE` method of the series on the process's own pages.
//!
//! Memory starts writable and counts as written: what is written before the first scan costs no fault, and
//! the caller leaves out what was never touched. A scan makes it read-only. The first store raises
//! SIGSEGV; the handler notes it, makes the place writable and returns. Reads never fault.
//!
//! | module | what it is |
//! |---|---|
//! | `chunk` | the protocol between handlers and scan, and why no store is lost |
//! | `handler` | the handler among other handlers |
//! | `reentry`, `list` | what it needs for that |
//!
//! What is protected at once is a chunk of 64 KiB. A fault opens chunks ahead when those before it are open:
//! as many as there are, so that a sequential writer pays for a block of 2 MiB with 6 faults in place of 32.
//!
//! Each boundary between what is open and what is closed costs the kernel a VMA, and a process may have
//! 65530. So after `SPLITS` faults between two scans blocks of 2 MiB are opened as a whole; and where the
//! kernel refuses to split further, the block, or at last the whole memory, is opened, which merges VMAs.

mod chunk;
mod handler;
mod list;
mod reentry;

use std::ops::Range;

use self::chunk::{Chunks, Protect};
use self::handler::Registration;
use super::{Caps, Mmu};
use crate::addr::{PAGE_SIZE, Pgoff};
use crate::error::Result;
use crate::sync::Arc;
use crate::sync::machine::{AtomicUsize, Ordering};
use crate::sys::memory::SharedMem;
use crate::sys::pages::to_usize;
use crate::sys::protect::{Protection, protect};

/// Pages in a chunk.
const CHUNK_PAGES: u64 = 16;
const CHUNK_BYTES: usize = 16 * 4096;
/// Chunks in a block of 2 MiB.
const BLOCK: usize = 32;
/// Faults between two scans after which whole blocks are opened: at most two VMAs each.
const SPLITS: usize = 4096;

/// Write tracking of one mapping of a memory file.
#[derive(Debug)]
pub struct Sigsegv {
    /// Dropping it ends the handler's interest.
    _registration: Registration,
    watched: Arc<Watched>,
}

impl Sigsegv {
    /// Tracks `memory`, a whole mapping that outlives the value.
    pub fn new(memory: SharedMem) -> Result<Self> {
        let count = memory.len().div_ceil(CHUNK_BYTES);
        let watched = Arc::new(Watched {
            pages: Pages(memory),
            chunks: Chunks::new(count),
            used: AtomicUsize::new(0),
            faults: AtomicUsize::new(0),
        });
        Ok(Self { _registration: Registration::new(&watched)?, watched })
    }

    /// To be called when memory is mapped: who has replaced the handler before may do so right after.
    pub fn expect_others(&self) -> Result<()> {
        handler::expect_others()
    }
}

impl Mmu for Sigsegv {
    fn caps(&self) -> Caps {
        Caps {
            name: "sigsegv",
            sees_kernel_writes: false,
            installs_handler: true,
            reports_only_written: true,
            granularity: CHUNK_PAGES,
            stays_open: false,
        }
    }

    fn take_dirty(&mut self, pages: Range<Pgoff>, found: &mut dyn FnMut(Range<Pgoff>)) -> Result<()> {
        handler::stay_in_front()?;
        self.watched.take_dirty(pages, found);
        Ok(())
    }
}

/// Memory whose faults the handler resolves.
#[derive(Debug)]
struct Watched {
    pages: Pages,
    chunks: Chunks,
    /// All chunks from here on were never closed.
    used: AtomicUsize,
    /// Faults since the last scan.
    faults: AtomicUsize,
}

impl Watched {
    fn take_dirty(&self, pages: Range<Pgoff>, found: &mut dyn FnMut(Range<Pgoff>)) {
        self.faults.store(0, Ordering::Relaxed);
        let end = self.pages.0.len() as u64 / PAGE_SIZE;
        // Only chunks of which all pages are asked for can be closed.
        let first = pages.start.div_ceil(CHUNK_PAGES);
        let last = if pages.end == end { pages.end.div_ceil(CHUNK_PAGES) } else { pages.end / CHUNK_PAGES };
        let whole = to_usize(first)..to_usize(last.max(first));
        // Relaxed: handlers come here only by a fault in a chunk that is closed later.
        self.used.fetch_max(whole.end, Ordering::Relaxed);
        let mut report = |chunks: Range<usize>| {
            let (start, end) = (chunks.start as u64 * CHUNK_PAGES, chunks.end as u64 * CHUNK_PAGES);
            let run = start.max(pages.start)..end.min(pages.end);
            if !run.is_empty() {
                found(run);
            }
        };
        let dirty = |chunk: usize| chunk < self.chunks.len() && self.chunks.is_dirty(chunk);
        let asked = to_usize(pages.start / CHUNK_PAGES)..to_usize(pages.end.div_ceil(CHUNK_PAGES));
        (asked.start..whole.start).filter(|chunk| dirty(*chunk)).for_each(|chunk| report(chunk..chunk + 1));
        self.chunks.close(whole.clone(), &self.pages, &mut report);
        (whole.end..asked.end).filter(|chunk| dirty(*chunk)).for_each(|chunk| report(chunk..chunk + 1));
    }

    /// Counts all memory as written, whatever its protection is.
    fn soil(&self) {
        (0..self.used.load(Ordering::Relaxed)).for_each(|chunk| self.chunks.soil(chunk));
    }

    /// Has no store fault until the next scan. Where the kernel refuses, one does, and finds the handler.
    fn open(&self) {
        self.chunks.open(0..self.used.load(Ordering::Relaxed), &self.pages);
    }

    /// Resolves a fault at `address`, in a signal handler. Returns false if it is not in this memory, or
    /// nothing could be opened.
    fn resolve(&self, address: usize) -> bool {
        let offset = address.wrapping_sub(self.pages.0.as_ptr().addr());
        if offset >= self.pages.0.len() {
            return false;
        }
        let chunk = offset / CHUNK_BYTES;
        let block = chunk / BLOCK * BLOCK..((chunk / BLOCK + 1) * BLOCK).min(self.chunks.len());
        let crowded = self.faults.fetch_add(1, Ordering::Relaxed) >= SPLITS;
        let ahead = if crowded { block.clone() } else { self.ahead(chunk, &block) };
        let used = 0..self.used.load(Ordering::Relaxed);
        [ahead, block, used].into_iter().any(|chunks| self.chunks.open(chunks, &self.pages))
    }

    /// What to open at a fault: as many chunks as are open right before it, and one.
    fn ahead(&self, chunk: usize, block: &Range<usize>) -> Range<usize> {
        let before = (block.start..chunk).rev().take_while(|chunk| self.chunks.is_dirty(*chunk)).count();
        chunk..(chunk + before + 1).min(block.end)
    }
}

/// The pages behind the chunks.
#[derive(Debug)]
struct Pages(SharedMem);

impl Pages {
    fn change(&self, chunks: &Range<usize>, protection: Protection) -> bool {
        let (start, end) = (chunks.start * CHUNK_BYTES, (chunks.end * CHUNK_BYTES).min(self.0.len()));
        protect(self.0.slice(start, end - start), protection).is_ok()
    }
}

impl Protect for Pages {
    fn open(&self, chunks: Range<usize>) -> bool {
        self.change(&chunks, Protection::ReadWrite)
    }

    fn close(&self, chunks: Range<usize>) -> bool {
        self.change(&chunks, Protection::ReadOnly)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sys::pages::TwiceMapped;
    use memmap2::{Mmap, MmapMut};

    const PAGES: u64 = 4 * 512;

    fn tracked() -> (Sigsegv, TwiceMapped) {
        let pages = TwiceMapped::new("test", PAGES * PAGE_SIZE).unwrap();
        let mut tracker = Sigsegv::new(pages.application()).unwrap();
        take(&mut tracker);
        (tracker, pages)
    }

    /// First pages and ends of the runs reported.
    fn take(tracker: &mut Sigsegv) -> Vec<(Pgoff, Pgoff)> {
        let mut runs = Vec::new();
        tracker.take_dirty(0..PAGES, &mut |run| runs.push((run.start, run.end))).unwrap();
        runs
    }

    fn store(pages: &TwiceMapped, page: u64, byte: u8) {
        pages.application().store_byte(to_usize(page * PAGE_SIZE), byte);
    }

    fn faults(tracker: &Sigsegv) -> usize {
        tracker.watched.faults.load(Ordering::Relaxed)
    }

    #[test]
    fn a_sequential_writer_pays_for_a_block_with_few_faults() {
        let (mut tracker, pages) = tracked();
        (0..512).for_each(|page| store(&pages, page, 1));
        assert_eq!(faults(&tracker), 6);
        assert_eq!(take(&mut tracker), [(0, 512)]);
    }

    #[test]
    fn scattered_writes_open_a_chunk_each() {
        let (mut tracker, pages) = tracked();
        [5, 100, 600].into_iter().for_each(|page| store(&pages, page, 1));
        assert_eq!(take(&mut tracker), [(0, 16), (96, 112), (592, 608)]);
    }

    #[test]
    fn a_crowd_of_faults_opens_blocks() {
        let (mut tracker, pages) = tracked();
        tracker.watched.faults.store(SPLITS, Ordering::Relaxed);
        store(&pages, 600, 1);
        assert_eq!(take(&mut tracker), [(512, 1024)]);
        store(&pages, 600, 1);
        assert_eq!(take(&mut tracker), [(592, 608)]);
    }

    /// All memory mappings this process may have; none if they are more than a test should make.
    fn crowd() -> Option<Vec<(MmapMut, Mmap)>> {
        let one = || MmapMut::map_anon(1);
        let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
        let limit = limit.trim().parse().ok().filter(|limit| *limit <= 1 << 21)?;
        let mut crowd = Vec::with_capacity(limit);
        // Neighbours of different protection do not become one.
        crowd.extend(
            std::iter::from_fn(|| Some((one().ok()?, one().ok()?.make_read_only().ok()?))).take(limit),
        );
        assert!(crowd.len() < limit, "there is still room");
        Some(crowd)
    }

    #[test]
    fn where_the_kernel_splits_no_further_more_is_opened_or_stays_open() {
        const WRITTEN: [Pgoff; 3] = [600, 1100, 1700];
        if std::env::var_os("TSAN_OPTIONS").is_some() {
            println!("skipped: ThreadSanitizer needs mappings itself");
            return;
        }
        let (mut tracker, pages) = tracked();
        let mut runs = Vec::with_capacity(100);
        let Some(full) = crowd() else {
            println!("skipped: this machine allows more mappings than a test should make");
            return;
        };
        WRITTEN.into_iter().for_each(|page| store(&pages, page, 1));
        tracker.take_dirty(1024..1536, &mut |run| runs.push(run)).unwrap();
        tracker.take_dirty(0..PAGES, &mut |run| runs.push(run)).unwrap();
        drop(full);
        let found = |page: &Pgoff| runs.iter().any(|run| run.contains(page));
        assert!(WRITTEN.iter().all(found), "{runs:?}");
        // What could not be closed is found again, or else was closed.
        take(&mut tracker);
        WRITTEN.into_iter().for_each(|page| store(&pages, page, 2));
        assert_eq!(take(&mut tracker), [(592, 608), (1088, 1104), (1696, 1712)]);
    }

    #[test]
    fn trackers_that_come_and_go_use_the_same_places() {
        let places = || handler::REGIONS.iter().count();
        let first = tracked();
        let before = places();
        for _ in 0..50 {
            drop(tracked());
            assert!(places() <= before + 1);
        }
        drop(first);
    }
}
