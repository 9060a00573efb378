//! The process's real page tables through userfaultfd: asynchronous write protection and
//! `PAGEMAP_SCAN`. No handler, no signal, no thread; writes the kernel makes for the process
//! (`read(2)`, `O_DIRECT`) are found like any other. Needs Linux 6.7, no privilege.

use std::ops::Range;

use super::Mmu;
use crate::addr::{PAGE_SIZE, Pgoff};
use crate::error::Result;
use crate::sys::memory::SharedMem;
use crate::sys::pagemap::Pagemap;
use crate::sys::pages::to_usize;
use crate::sys::userfaultfd::Userfaultfd;

/// Write tracking of one mapping of a memory file.
#[derive(Debug)]
pub struct Uffd {
    /// Dropping it ends the registration.
    _registration: Userfaultfd,
    pagemap: Pagemap,
    memory: SharedMem,
}

impl Uffd {
    /// Tracks `memory`, a whole mapping that outlives the value.
    pub fn new(memory: SharedMem) -> Result<Self> {
        let registration = Userfaultfd::open()?;
        registration.register(memory)?;
        Ok(Self { _registration: registration, pagemap: Pagemap::open()?, memory })
    }

    /// Whether this kernel has what the tracker needs; leaves nothing behind.
    pub fn probe() -> Result<()> {
        Userfaultfd::open()?;
        Pagemap::open()?;
        Ok(())
    }
}

impl Mmu for Uffd {
    fn name(&self) -> &'static str {
        "uffd"
    }

    fn take_dirty(&mut self, pages: Range<Pgoff>, found: &mut dyn FnMut(Range<Pgoff>)) -> Result<()> {
        let window = self
            .memory
            .slice(to_usize(pages.start * PAGE_SIZE), to_usize((pages.end - pages.start) * PAGE_SIZE));
        self.pagemap.take_written(window, |offset, len| {
            let first = pages.start + offset / PAGE_SIZE;
            found(first..first + len / PAGE_SIZE);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pages::TwiceMapped;

    fn dirty(mmu: &mut Uffd, pages: Range<Pgoff>) -> Vec<Pgoff> {
        let mut found = Vec::new();
        mmu.take_dirty(pages, &mut |run| found.extend(run)).unwrap();
        found
    }

    #[test]
    fn reports_a_write_once_and_again_after_the_next_write() {
        let pages = TwiceMapped::new("test", 64 * PAGE_SIZE).unwrap();
        let mut mmu = Uffd::new(pages.application()).unwrap();
        dirty(&mut mmu, 0..64);
        pages.application().store_byte(5 * 4096 + 3, 1);
        pages.application().store_byte(63 * 4096, 1);
        assert_eq!(dirty(&mut mmu, 0..64), [5, 63]);
        assert_eq!(dirty(&mut mmu, 0..64), []);
        pages.application().store_byte(5 * 4096 + 3, 1);
        assert_eq!(dirty(&mut mmu, 0..5), []);
        assert_eq!(dirty(&mut mmu, 5..6), [5]);
    }

    #[test]
    fn a_write_through_the_driver_mapping_to_a_known_page_is_no_cpu_write() {
        let pages = TwiceMapped::new("test", 4 * PAGE_SIZE).unwrap();
        let mut mmu = Uffd::new(pages.application()).unwrap();
        pages.application().store_byte(0, 1);
        dirty(&mut mmu, 0..4);
        pages.driver().store_byte(1, 7);
        assert_eq!(dirty(&mut mmu, 0..4), []);
    }

    #[test]
    fn more_scattered_pages_than_one_call_returns_are_all_reported() {
        let pages = TwiceMapped::new("test", 5000 * PAGE_SIZE).unwrap();
        let mut mmu = Uffd::new(pages.application()).unwrap();
        dirty(&mut mmu, 0..5000);
        for page in (0..5000).step_by(2) {
            pages.application().store_byte(page * 4096, 1);
        }
        assert_eq!(dirty(&mut mmu, 0..5000), (0..5000).step_by(2).collect::<Vec<_>>());
    }

    #[test]
    fn a_page_given_back_and_written_again_is_reported() {
        let pages = TwiceMapped::new("test", 4 * PAGE_SIZE).unwrap();
        let mut mmu = Uffd::new(pages.application()).unwrap();
        pages.application().store_byte(4096, 1);
        dirty(&mut mmu, 0..4);
        pages.discard(&(4096..8192)).unwrap();
        pages.application().store_byte(4096, 1);
        assert!(dirty(&mut mmu, 0..4).contains(&1));
    }
}
