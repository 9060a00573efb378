//! Twins: for each guest page what both sides last agreed on, at the same page offset.
//!
//! Sparse private memory of the arena's size. A twin that was never written reads as zeros and takes no
//! memory, which is what a fresh guest page reads as.

use std::ops::Range;

use crate::addr::{PAGE_SIZE, Pgoff};
use crate::error::Result;
use crate::sys::pages::PrivatePages;

/// The twins of all pages of an arena.
#[derive(Debug)]
pub struct Twins(PrivatePages);

impl Twins {
    /// Twins for `pages` pages, all zero.
    pub fn new(pages: u64) -> Result<Self> {
        Ok(Self(PrivatePages::new(pages * PAGE_SIZE)?))
    }

    /// Makes room for the twins of the pages up to `end`.
    pub fn open(&mut self, end: Pgoff) -> Result<()> {
        self.0.open(end * PAGE_SIZE)
    }

    /// The words of one twin, for which there is room.
    pub fn page(&mut self, page: Pgoff) -> &mut [u64] {
        self.0.page(page)
    }

    /// Forgets twins: they are zero again.
    pub fn discard(&mut self, pages: &Range<Pgoff>) {
        self.0.discard(pages);
    }
}
