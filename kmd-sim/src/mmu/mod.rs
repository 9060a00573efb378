//! How writes to guest pages are found out: page tables seen as a list of written pages.
//!
//! One trait, several machines. [`uffd`] reads the process's real page tables, [`soft`] has its own.

pub mod soft;
pub mod uffd;

use std::ops::Range;

use crate::addr::Pgoff;
use crate::error::Result;

/// Page tables that map the arena into the application and remember which pages it wrote.
pub trait Mmu {
    /// Name of the tracker, as options and logs spell it.
    fn name(&self) -> &'static str;

    /// Reports each page in `pages` that was written since the last call that covered it, in ascending
    /// order, and makes the page table notice the next write (*test and clean*, one atomic step a page).
    ///
    /// Guarantees, those of `clean_record_shared_mapping_range`: a page written before the call is
    /// reported; one written during the call is reported now, or by the next call, or by both. Pages
    /// that were not written may be reported too.
    fn take_dirty(&mut self, pages: Range<Pgoff>, found: &mut dyn FnMut(Range<Pgoff>)) -> Result<()>;
}
