//! The arena: all guest pages of a device in one memory file, mapped once for the application (tracked)
//! and once for the driver (never tracked).
//!
//! One mapping means one registration and one scan call for everything. Which stretches hold pages at all is
//! known in units of [`CHUNK`], so that a scan leaves out what was never touched: `SEEK_DATA` says where the
//! file has pages. One that was written is in the file from then on, swapped out or not, so a stretch without
//! one holds no written page. (That `st_blocks` has not changed proves nothing: a page that was only read may
//! be reclaimed while another is written.)

use std::ops::Range;

use rangemap::RangeSet;

use crate::addr::{PAGE_SIZE, Pgoff};
use crate::bitmap::Bitmap;
use crate::error::{Error, Result};
use crate::sys::memory::SharedMem;
use crate::sys::pages::{TwiceMapped, largest_file, to_usize};
use crate::sys::view::{Place, View};

/// Pages in a stretch that is scanned as a whole once it holds a page: 2 MiB.
pub const CHUNK: u64 = 512;

/// Scans end at a multiple of so many pages: no tracker takes larger groups.
const GROUP: u64 = 64;

/// Cold stretches that are scanned in no more time than it takes to begin a scan.
const BRIDGE: u64 = 2;

/// Largest and least size of an arena, in bytes.
const SIZES: Range<u64> = 64 << 20..1 << 40;

/// Makes what takes address space, of `bytes` bytes or as many as the limits of the process allow.
pub fn smaller_until_it_fits<T>(bytes: u64, make: impl Fn(u64) -> Result<T>) -> Result<T> {
    let chunk = CHUNK * PAGE_SIZE;
    let mut bytes = bytes.clamp(SIZES.start, SIZES.end).min(largest_file()) / chunk * chunk;
    if bytes == 0 {
        return Err(Error::NoMemory);
    }
    loop {
        match make(bytes) {
            Err(_) if bytes / 2 >= SIZES.start => bytes /= 2,
            result => return result,
        }
    }
}

/// Which pages of a range the arena has, asked for in ascending order.
///
/// Not by `SEEK_HOLE`, which goes on to where the next hole is, however far away.
#[derive(Debug)]
pub struct Data<'a> {
    pages: &'a TwiceMapped,
    end: Pgoff,
    /// Pages looked up last: a stretch at a time.
    window: Range<Pgoff>,
    in_core: Vec<bool>,
    /// The first page that is there at or after one that was not in memory.
    next: Pgoff,
}

impl Data<'_> {
    /// Whether the arena has `page`: no page that was written is missing. One too many does no harm.
    pub fn contains(&mut self, page: Pgoff) -> bool {
        if page >= self.window.end {
            self.window = page..(page + CHUNK).min(self.end).max(page + 1);
            let bytes = self.window.start * PAGE_SIZE..self.window.end * PAGE_SIZE;
            self.in_core = self.pages.in_core(&bytes);
        }
        let index = to_usize(page - self.window.start);
        if self.in_core.get(index).copied().unwrap_or(false) {
            return true;
        }
        // There is none, or it is swapped out.
        if page >= self.next {
            let data = self.pages.next_data(page * PAGE_SIZE);
            self.next = data.map_or(page, |data| data.map_or(self.end, |data| data / PAGE_SIZE));
        }
        page == self.next
    }
}

/// Guest pages and who has them.
#[derive(Debug)]
pub struct Arena {
    pages: TwiceMapped,
    free: RangeSet<Pgoff>,
    /// Pages from the start on that were ever handed out.
    used: u64,
    /// Stretches that hold pages.
    populated: Bitmap,
    /// Those of them that hold no written page, for all that is not told here.
    cold: Bitmap,
    /// Stretches of which nobody touches a page unnoticed, whether the file has it or not.
    sealed: Bitmap,
}

impl Arena {
    /// Reserves `bytes` bytes of address space.
    pub fn new(name: &str, bytes: u64) -> Result<Self> {
        let count = bytes.next_multiple_of(CHUNK * PAGE_SIZE) / PAGE_SIZE;
        let pages = TwiceMapped::reserve(name, count * PAGE_SIZE)?;
        let mut free = RangeSet::new();
        free.insert(0..count);
        Ok(Self {
            pages,
            free,
            used: 0,
            populated: Bitmap::new(count / CHUNK),
            cold: Bitmap::new(count / CHUNK),
            sealed: Bitmap::new(count / CHUNK),
        })
    }

    /// Takes `count` pages that follow each other, the lowest there are. They read as zeros.
    pub fn alloc(&mut self, count: u64) -> Result<Range<Pgoff>> {
        let gap = self.free.iter().find(|gap| gap.end - gap.start >= count).ok_or(Error::NoMemory)?;
        let node = gap.start..gap.start + count;
        self.pages.open(node.end * PAGE_SIZE)?;
        self.free.remove(node.clone());
        self.used = self.used.max(node.end);
        Ok(node)
    }

    /// Sees to it that the file has `pages`: only then does an access that finds them zapped fault.
    pub fn populate(&self, pages: &Range<Pgoff>) -> Result<()> {
        self.pages.populate(&(pages.start * PAGE_SIZE..pages.end * PAGE_SIZE))
    }

    /// Takes `pages` out of the application's page tables.
    pub fn zap(&self, pages: &Range<Pgoff>) -> Result<()> {
        self.pages.zap(&(pages.start * PAGE_SIZE..pages.end * PAGE_SIZE))
    }

    /// Pages that the file was given ([`Self::populate`]) have been taken out of the application's page
    /// tables, and touches are served: their stretches hold pages from now on, and are cold where nobody
    /// touched one before. Returns how many are.
    ///
    /// Otherwise each scan would look for the first page that was touched, past all that were not.
    pub fn settle(&mut self, pages: &Range<Pgoff>) -> Result<u64> {
        self.populated.set(pages.start / CHUNK..pages.end.div_ceil(CHUNK));
        let (mut at, end) = (pages.start.div_ceil(CHUNK), pages.end / CHUNK);
        let mut cooled = 0;
        while at < end {
            let data = self.pages.next_data(at * CHUNK * PAGE_SIZE)?;
            let touched = data.map_or(end, |data| data / (CHUNK * PAGE_SIZE)).min(end);
            self.cold.set(at..touched);
            cooled += touched - at;
            at = touched + 1;
        }
        Ok(cooled)
    }

    /// Gives pages back.
    pub fn free(&mut self, node: &Range<Pgoff>) {
        // Pages that cannot be given back would be handed out again with old bytes: keep them.
        if let Err(error) = self.pages.discard(&(node.start * PAGE_SIZE..node.end * PAGE_SIZE)) {
            log::warn!("guest pages {node:?} stay unused: {error}");
            return;
        }
        self.cold.clear(node.start / CHUNK..node.end.div_ceil(CHUNK));
        let whole = node.start.div_ceil(CHUNK)..node.end / CHUNK;
        if whole.start < whole.end {
            self.populated.clear(whole);
        }
        self.free.insert(node.clone());
    }

    /// The whole mapping the application sees.
    pub fn application(&self) -> SharedMem {
        self.pages.application()
    }

    /// The pages of `node` in the application's mapping.
    pub fn application_pages(&self, node: &Range<Pgoff>) -> SharedMem {
        window(self.pages.application(), node)
    }

    /// Maps `pages` once more, at `place` or where there is room.
    pub fn view(&self, pages: &Range<Pgoff>, place: Option<Place>) -> Result<View> {
        self.pages.view(&(pages.start * PAGE_SIZE..pages.end * PAGE_SIZE), place)
    }

    /// The pages of `node` in the driver's mapping.
    pub fn driver_pages(&self, node: &Range<Pgoff>) -> SharedMem {
        window(self.pages.driver(), node)
    }

    /// Asks which of `pages` there are.
    pub fn data(&self, pages: Range<Pgoff>) -> Data<'_> {
        let window = pages.start..pages.start;
        Data { pages: &self.pages, end: pages.end, window, in_core: Vec::new(), next: 0 }
    }

    /// Bytes of the pages there are, in memory or swapped out.
    pub fn resident_bytes(&self) -> u64 {
        self.pages.resident_bytes()
    }

    /// Pages in all.
    pub fn len(&self) -> u64 {
        self.populated.len() * CHUNK
    }

    /// Whether it has no pages.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next stretches at or after `from` that hold pages and are not cold, with cold ones between them
    /// where that makes one scan of two, as far as pages were handed out.
    pub fn next_warm(&self, from: Pgoff) -> Option<Range<Pgoff>> {
        let mut from = from.div_ceil(CHUNK);
        loop {
            let run = self.populated.next_run(from..self.used_stretches())?;
            let mut found: Option<Range<u64>> = None;
            while let Some(warm) =
                self.cold.next_clear_run(found.as_ref().map_or(run.start, |it| it.end)..run.end)
            {
                match &mut found {
                    Some(found) if warm.start - found.end > BRIDGE => break,
                    Some(found) => found.end = warm.end,
                    None => found = Some(warm),
                }
            }
            if let Some(found) = found {
                return Some(found.start * CHUNK..(found.end * CHUNK).min(self.used.next_multiple_of(GROUP)));
            }
            from = run.end;
        }
    }

    /// Whether the file is known to have all pages of the stretch `index`.
    pub fn is_whole(&self, index: u64) -> bool {
        let bytes = CHUNK * PAGE_SIZE;
        let in_core = self.pages.in_core(&(index * bytes..(index + 1) * bytes));
        !in_core.is_empty() && in_core.into_iter().all(|page| page)
    }

    /// Whether the stretch `index` is cold.
    pub fn is_cold(&self, index: u64) -> bool {
        self.cold.test(index)
    }

    /// The stretch `index`, which holds pages, is cold from now on.
    pub fn set_cold(&mut self, index: u64) {
        self.cold.set(index..index + 1);
    }

    /// The stretch `index` is not cold any more. Returns whether it was.
    pub fn set_warm(&mut self, index: u64) -> bool {
        let was = self.cold.test(index);
        self.cold.clear(index..index + 1);
        was
    }

    /// The stretches behind `index` that are not known to hold a page, up to one that is.
    pub fn gap_behind(&self, index: u64) -> Range<u64> {
        let gap = self.populated.next_clear_run(index + 1..self.used_stretches());
        gap.filter(|gap| gap.start == index + 1).unwrap_or(index + 1..index + 1)
    }

    /// Nobody touches a page of these stretches unnoticed from now on.
    pub fn seal(&mut self, stretches: Range<u64>) {
        self.sealed.set(stretches);
    }

    /// Those of a gap that was sealed up to the first that holds pages by now are cold at once. Returns how
    /// many.
    pub fn cool_gap(&mut self, gap: Range<u64>) -> Result<u64> {
        let data = self.pages.next_data(gap.start * CHUNK * PAGE_SIZE)?;
        let first = data.map_or(gap.end, |data| data / (CHUNK * PAGE_SIZE)).min(gap.end);
        self.populated.set(gap.start..first);
        self.cold.set(gap.start..first);
        Ok(first - gap.start)
    }

    /// Whether nobody touches a page of the stretch `index` unnoticed.
    pub fn is_sealed(&self, index: u64) -> bool {
        self.sealed.test(index)
    }

    /// Pages of the stretch `index` may be touched unnoticed from now on.
    pub fn unseal(&mut self, index: u64) {
        self.sealed.clear(index..index + 1);
    }

    fn used_stretches(&self) -> u64 {
        self.used.div_ceil(CHUNK)
    }

    fn next_populated(&self, from: Pgoff) -> Option<Range<Pgoff>> {
        let run = self.populated.next_run(from.div_ceil(CHUNK)..self.used_stretches())?;
        Some(run.start * CHUNK..run.end * CHUNK)
    }

    /// Calls `op` with each part of `pages` that may hold written pages, for who asks about another mapping
    /// than the application's.
    pub fn for_each_populated(&self, pages: &Range<Pgoff>, mut op: impl FnMut(Range<Pgoff>)) {
        let mut at = pages.start / CHUNK * CHUNK;
        while let Some(stretch) = self.next_populated(at).filter(|stretch| stretch.start < pages.end) {
            at = stretch.end;
            op(stretch.start.max(pages.start)..stretch.end.min(pages.end));
        }
    }

    /// Learns which stretches hold pages now: all that were written before the call are among them.
    pub fn update_populated(&mut self) -> Result<()> {
        let mut at = 0;
        while let Some(unknown) = self.populated.next_clear_run(at..self.used_stretches()) {
            match self.pages.next_data(unknown.start * CHUNK * PAGE_SIZE)? {
                None => break,
                Some(data) => {
                    let chunk = data / (CHUNK * PAGE_SIZE);
                    self.populated.set(chunk..chunk + 1);
                    at = chunk + 1;
                }
            }
        }
        Ok(())
    }
}

fn window(mapping: SharedMem, node: &Range<Pgoff>) -> SharedMem {
    mapping.slice(to_usize(node.start * PAGE_SIZE), to_usize((node.end - node.start) * PAGE_SIZE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn populated(arena: &mut Arena) -> Vec<Range<Pgoff>> {
        arena.update_populated().unwrap();
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(run) = arena.next_populated(at) {
            at = run.end;
            found.push(run);
        }
        found
    }

    #[test]
    fn knows_the_stretches_that_were_touched() {
        let mut arena = Arena::new("test", 64 << 20).unwrap();
        assert_eq!(populated(&mut arena), []);
        let node = arena.alloc(CHUNK * 10).unwrap();
        let memory = arena.application_pages(&node);
        memory.store_byte(to_usize(3 * CHUNK * PAGE_SIZE) + 17, 1);
        memory.store_byte(to_usize(7 * CHUNK * PAGE_SIZE), 1);
        assert_eq!(populated(&mut arena), [3 * CHUNK..4 * CHUNK, 7 * CHUNK..8 * CHUNK]);
        memory.store_byte(to_usize(4 * CHUNK * PAGE_SIZE), 1);
        assert_eq!(populated(&mut arena), [3 * CHUNK..5 * CHUNK, 7 * CHUNK..8 * CHUNK]);
        arena.free(&node);
        assert_eq!(populated(&mut arena), []);
    }

    #[test]
    fn cold_stretches_are_left_out_unless_they_are_few_between_others() {
        let mut arena = Arena::new("test", 64 << 20).unwrap();
        let node = arena.alloc(CHUNK * 12).unwrap();
        let memory = arena.application_pages(&node);
        (0..12).for_each(|chunk| memory.store_byte(to_usize(chunk * CHUNK * PAGE_SIZE), 1));
        arena.update_populated().unwrap();
        let warm = |arena: &Arena| {
            let mut found = Vec::new();
            while let Some(run) = arena.next_warm(found.last().map_or(0, |run: &Range<Pgoff>| run.end)) {
                found.push(run);
            }
            found.into_iter().map(|run| (run.start / CHUNK, run.end / CHUNK)).collect::<Vec<_>>()
        };
        [0, 2, 3, 5, 6, 7, 11].into_iter().for_each(|chunk| arena.set_cold(chunk));
        assert_eq!(warm(&arena), [(1, 5), (8, 11)]);
        assert!(arena.set_warm(6) && !arena.set_warm(6));
        assert_eq!(warm(&arena), [(1, 11)]);
        (0..12).for_each(|chunk| arena.set_cold(chunk));
        assert_eq!(warm(&arena), []);
        // What is freed and handed out again is not cold.
        arena.free(&(0..CHUNK));
        let again = arena.alloc(CHUNK).unwrap();
        arena.application_pages(&again).store_byte(0, 1);
        arena.update_populated().unwrap();
        assert_eq!(warm(&arena), [(0, 1)]);
    }

    #[test]
    fn what_the_file_was_given_is_cold_where_nobody_touched_it() {
        let mut arena = Arena::new("test", 64 << 20).unwrap();
        let node = arena.alloc(CHUNK * 10).unwrap();
        arena.application_pages(&node).store_byte(to_usize((4 * CHUNK + 5) * PAGE_SIZE), 1);
        let pages = CHUNK / 2..CHUNK * 8;
        arena.populate(&pages).unwrap();
        arena.zap(&pages).unwrap();
        assert_eq!(arena.settle(&pages), Ok(6));
        // Not known of is who touched the first stretch, of which the file was given a part.
        assert_eq!(arena.next_warm(0), Some(0..CHUNK));
        assert_eq!(arena.next_warm(CHUNK), Some(4 * CHUNK..5 * CHUNK));
        assert_eq!(arena.next_warm(5 * CHUNK), None);
        arena.application_pages(&node).store_byte(to_usize(9 * CHUNK * PAGE_SIZE), 1);
        assert_eq!(populated(&mut arena), [0..8 * CHUNK, 9 * CHUNK..10 * CHUNK]);
    }

    #[test]
    fn knows_page_by_page_what_was_touched() {
        let mut arena = Arena::new("test", 64 << 20).unwrap();
        let node = arena.alloc(CHUNK).unwrap();
        let memory = arena.application_pages(&node);
        for page in [3, 4, 9] {
            memory.store_byte(page * 4096, 1);
        }
        let mut data = arena.data(0..20);
        assert_eq!((0..20).filter(|page| data.contains(*page)).collect::<Vec<_>>(), [3, 4, 9]);
    }

    #[test]
    fn takes_as_much_as_there_is() {
        let made =
            smaller_until_it_fits(
                1 << 36,
                |bytes| if bytes > 1 << 33 { Err(Error::NoMemory) } else { Ok(bytes) },
            );
        assert_eq!(made, Ok(1 << 33));
        let none: Result<()> = smaller_until_it_fits(u64::MAX, |_| Err(Error::NoMemory));
        assert_eq!(none, Err(Error::NoMemory));
    }

    #[test]
    fn freed_pages_are_handed_out_again_as_zeros() {
        let mut arena = Arena::new("test", 64 << 20).unwrap();
        let first = arena.alloc(3).unwrap();
        let second = arena.alloc(2).unwrap();
        arena.application_pages(&first).store_byte(5000, 9);
        arena.free(&first);
        let again = arena.alloc(3).unwrap();
        assert_eq!(again, first);
        assert_eq!(second, 3..5);
        let mut page = crate::sys::memory::PageBuf::ZERO;
        arena.driver_pages(&(1..2)).snapshot(&mut page);
        assert!(page.0.iter().all(|word| *word == 0));
    }

    #[test]
    fn refuses_more_pages_than_there_are() {
        let mut arena = Arena::new("test", 64 << 20).unwrap();
        assert_eq!(arena.alloc(arena.len() + 1), Err(Error::NoMemory));
        assert_eq!(arena.alloc(arena.len()).unwrap(), 0..arena.len());
        assert_eq!(arena.alloc(1), Err(Error::NoMemory));
    }
}
