//! Buffer objects as the memory manager sees them (kernel: `drivers/gpu/drm/ttm/ttm_bo.c`).
//!
//! A buffer object has a size and, once it was mapped, a window of pages in the device's address space:
//! its `vma_node`. The window stays for the life of the object, so that mapping it again finds the same
//! bytes at the same place.

use std::ops::Range;

use crate::addr::{PAGE_SIZE, Pgoff, pages_for};

/// The memory manager's share of a buffer object.
#[derive(Debug)]
pub struct BufferObject {
    size: u64,
    node: Option<Range<Pgoff>>,
}

impl BufferObject {
    /// An object of `size` bytes without guest pages.
    pub fn new(size: u64) -> Self {
        Self { size, node: None }
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Pages; the last one may be used in part.
    pub fn num_pages(&self) -> u64 {
        pages_for(self.size)
    }

    /// Its window in the arena, once it has one.
    pub fn node(&self) -> Option<&Range<Pgoff>> {
        self.node.as_ref()
    }

    /// Gives it a window of [`Self::num_pages`] pages.
    pub fn place(&mut self, node: Range<Pgoff>) {
        debug_assert_eq!(node.end - node.start, self.num_pages());
        self.node = Some(node);
    }

    /// Bytes of page `page` (an index inside of the object) that belong to it.
    pub fn bytes_in(&self, page: u64) -> u64 {
        (self.size - page * PAGE_SIZE).min(PAGE_SIZE)
    }
}
