//! The process's real page tables through userfaultfd: asynchronous write protection and
//! `PAGEMAP_SCAN`. No handler, no signal, no thread; writes the kernel makes for the process
//! (`read(2)`, `O_DIRECT`) are found like any other. Needs Linux 6.7, no privilege.

use std::ops::Range;

use super::{Caps, Mmu};
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
    fn caps(&self) -> Caps {
        Caps {
            name: "uffd",
            sees_kernel_writes: true,
            installs_handler: false,
            reports_only_written: true,
            granularity: 1,
        }
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
