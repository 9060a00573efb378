//! The process's real page tables through userfaultfd: asynchronous write protection and
//! `PAGEMAP_SCAN`. No handler, no signal, no thread; writes the kernel makes for the process
//! (`read(2)`, `O_DIRECT`) are found like any other. Needs Linux 6.7, no privilege.
//!
//! With the right to serve faults of the kernel there is more: pages can be taken out of the page tables, and
//! whoever touches one, a system call too, waits until it is brought up to date ([`Faults`]).

use std::ops::Range;
use std::os::fd::AsFd;

use super::{Caps, Mmu};
use crate::addr::{PAGE_SIZE, Pgoff};
use crate::error::Result;
use crate::sync::Arc;
use crate::sys::memory::SharedMem;
use crate::sys::pagemap::Pagemap;
use crate::sys::pages::to_usize;
use crate::sys::userfaultfd::{Serves, Userfaultfd};

/// Write tracking of one mapping of a memory file.
#[derive(Debug)]
pub struct Uffd {
    /// Dropping the last handle ends the registration.
    registration: Arc<Userfaultfd>,
    serves: Serves,
    pagemap: Pagemap,
    memory: SharedMem,
}

impl Uffd {
    /// Tracks `memory`, a whole mapping that outlives the value.
    pub fn new(memory: SharedMem) -> Result<Self> {
        Self::serving(memory, Serves::Nothing)
    }

    /// Tracks `memory`, and serves some of its faults.
    pub fn serving(memory: SharedMem, serves: Serves) -> Result<Self> {
        let registration = Userfaultfd::open(serves)?;
        registration.register(memory)?;
        Ok(Self { registration: Arc::new(registration), serves, pagemap: Pagemap::open()?, memory })
    }

    /// Whether this process has what the tracker needs; leaves nothing behind.
    pub fn probe(serves: Serves) -> Result<()> {
        Userfaultfd::open(serves)?;
        Pagemap::open()?;
        Ok(())
    }

    /// Tracks a further mapping of pages of the file, until that ends. Its faults are the kernel's to
    /// resolve.
    pub fn add_view(&self, view: SharedMem) -> Result<()> {
        self.registration.register(view)
    }

    /// Reports the written pages of part of a further mapping, which shows the pages from `first` on:
    /// [`Mmu::take_dirty`].
    pub fn take_dirty_of_view(
        &mut self,
        view: SharedMem,
        first: Pgoff,
        found: &mut dyn FnMut(Range<Pgoff>),
    ) -> Result<()> {
        self.pagemap.take_written(view, |offset, len| found(run(first, offset, len)))
    }

    /// Maps those of `pages` that are not mapped, as written: nothing tells whether they will be.
    pub fn open(&self, pages: &Range<Pgoff>) {
        self.registration.open_pages(window(self.memory, pages));
    }

    /// The faults of the mapping, if they are served here.
    pub fn faults(&self) -> Option<Faults> {
        let faults = Faults { registration: Arc::clone(&self.registration), memory: self.memory };
        (self.serves == Serves::Faults).then_some(faults)
    }
}

/// Faults on pages that the memory file has and the page tables have not: they were taken out, or nobody but
/// the driver has touched them yet.
///
/// A page that is mapped again counts as not written. One that was written and not reported before it was
/// taken out is reported for not being mapped: who maps it again takes that report first.
#[derive(Clone, Debug)]
pub struct Faults {
    registration: Arc<Userfaultfd>,
    memory: SharedMem,
}

impl Faults {
    /// Has faults come here from now on, and not be resolved by the kernel.
    pub fn begin(&self) -> Result<()> {
        self.registration.take_faults(self.memory)
    }

    /// Has faults on those of `pages` that the memory file has not got come here, too.
    pub fn take_missing(&self, pages: &Range<Pgoff>) -> Result<()> {
        self.registration.take_missing(window(self.memory, pages))
    }

    /// Has them come here no more. All of `pages` count as written afterwards, there or not. None may need to
    /// be brought up to date when it is touched: for a moment no fault on them comes here.
    pub fn leave_missing(&self, pages: &Range<Pgoff>) -> Result<()> {
        self.registration.leave_missing(window(self.memory, pages))
    }

    /// Waits for the next fault and returns its page; `None` when `stop` has bytes to read.
    pub fn next(&self, stop: &impl AsFd) -> Result<Option<Pgoff>> {
        let address = self.registration.next_fault(stop)?;
        Ok(address.map(|address| (address - self.memory.as_ptr().addr()) as u64 / PAGE_SIZE))
    }

    /// Maps those of `pages` that are not mapped, and lets who waits for them go on.
    pub fn resume(&self, pages: &Range<Pgoff>) {
        self.registration.resume(window(self.memory, pages));
    }
}

/// Bytes of memory that shows the pages from `first` on, as pages.
fn run(first: Pgoff, offset: u64, len: u64) -> Range<Pgoff> {
    let start = first + offset / PAGE_SIZE;
    start..start + len / PAGE_SIZE
}

fn window(memory: SharedMem, pages: &Range<Pgoff>) -> SharedMem {
    memory.slice(to_usize(pages.start * PAGE_SIZE), to_usize((pages.end - pages.start) * PAGE_SIZE))
}

impl Mmu for Uffd {
    fn caps(&self) -> Caps {
        Caps {
            name: "uffd",
            sees_kernel_writes: true,
            installs_handler: false,
            reports_only_written: true,
            granularity: 1,
            stays_open: true,
        }
    }

    fn take_dirty(&mut self, pages: Range<Pgoff>, found: &mut dyn FnMut(Range<Pgoff>)) -> Result<()> {
        self.take_dirty_of_view(window(self.memory, &pages), pages.start, found)
    }

    fn find_dirty(&mut self, pages: Range<Pgoff>, found: &mut dyn FnMut(Range<Pgoff>)) -> Result<()> {
        let (memory, first) = (window(self.memory, &pages), pages.start);
        self.pagemap.find_written(memory, |offset, len| found(run(first, offset, len)))
    }
}
