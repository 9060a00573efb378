//! How writes to guest pages are found out: page tables seen as a list of written pages.
//!
//! One trait, several machines, one suite of tests (`conformance`).
//!
//! | tracker | how | what it cannot do |
//! |---|---|---|
//! | [`uffd`] | the kernel resolves write faults and remembers them | needs Linux 6.7 and userfaultfd(2) |
//! | [`sigsegv`] | `mprotect(2)` and a SIGSEGV handler | see writes of the kernel; stay unnoticed |
//! | [`compare`] | content compared at each scan | be cheap |
//!
//! [`soft`] is the hardware of a machine with page tables of its own: [`crate::mm`] runs on it.

pub mod compare;
#[cfg(test)]
pub(crate) mod conformance;
#[cfg(test)]
mod mapped;
#[cfg(test)]
mod served;
pub mod sigsegv;
pub mod soft;
pub mod tracker;
pub mod uffd;

use std::ops::Range;

use crate::addr::Pgoff;
use crate::error::Result;

/// What a tracker is, and how it differs from the others. A difference is declared here, not passed over in
/// tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// As options and logs spell it.
    pub name: &'static str,
    /// The kernel can write tracked memory for the process (`read(2)`), and such writes are found. Otherwise
    /// the call fails with `EFAULT`, or falls short, at the first page not written since it was last taken.
    pub sees_kernel_writes: bool,
    /// It installs a signal handler while memory is tracked.
    pub installs_handler: bool,
    /// A page is reported when it, or a neighbour, was written. Otherwise every page is, each time.
    pub reports_only_written: bool,
    /// Written pages are reported in aligned groups of so many, and some groups behind them, too. A call
    /// takes out only groups that lie in its range as a whole.
    pub granularity: u64,
    /// A page that was reported and written since, and is not asked for, takes further writes without a
    /// fault.
    pub stays_open: bool,
}

/// Page tables that map the arena into the application and remember which pages it wrote.
pub trait Mmu {
    /// What this tracker is.
    fn caps(&self) -> Caps;

    /// Reports each page in `pages` that was written since the last call that covered it, in ascending
    /// order, and makes the page table notice the next write (*test and clean*, one atomic step a page).
    ///
    /// Guarantees, those of `clean_record_shared_mapping_range`: a page written before the call is
    /// reported; one written during the call is reported now, or by the next call, or by both. Pages
    /// that were not written may be reported too. When a page is reported, a read of it finds every write
    /// that no later call reports.
    fn take_dirty(&mut self, pages: Range<Pgoff>, found: &mut dyn FnMut(Range<Pgoff>)) -> Result<()>;

    /// Reports what [`Self::take_dirty`] would, and leaves it to be reported again. Worth asking only where
    /// pages stay open; elsewhere any may have been written.
    fn find_dirty(&mut self, pages: Range<Pgoff>, found: &mut dyn FnMut(Range<Pgoff>)) -> Result<()> {
        if !pages.is_empty() {
            found(pages);
        }
        Ok(())
    }
}
