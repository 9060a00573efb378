//! Kernel file: `vmwgfx_page_dirty.c`. Which pages of a buffer object the CPU wrote.

use std::ops::Range;

use crate::bitmap::Bitmap;

/// Dirty pages of one buffer object (`struct vmw_bo_dirty`), by page index inside of the object.
///
/// # Invariants
/// Every set bit lies in `start..end`; the bounds need not be tight. Empty when `start >= end`.
#[derive(Debug)]
pub struct BoDirty {
    bitmap: Bitmap,
    start: u64,
    end: u64,
}

impl BoDirty {
    /// Nothing dirty among `num_pages` pages (`vmw_bo_dirty_add`).
    pub fn new(num_pages: u64) -> Self {
        Self { bitmap: Bitmap::new(num_pages), start: num_pages, end: 0 }
    }

    /// Records dirty pages.
    pub fn record(&mut self, pages: Range<u64>) {
        self.start = self.start.min(pages.start);
        self.end = self.end.max(pages.end);
        // INVARIANT: the bounds were widened by the same pages.
        self.bitmap.set(pages);
    }

    /// Takes all dirty pages out, in ascending runs (`vmw_bo_dirty_transfer_to_res`, for an object that
    /// is one resource as a whole).
    pub fn transfer(&mut self, mut run: impl FnMut(Range<u64>)) {
        let mut at = self.start;
        while let Some(pages) = self.bitmap.next_run(at..self.end) {
            at = pages.end;
            self.bitmap.clear(pages.clone());
            run(pages);
        }
        self.start = self.bitmap.len();
        self.end = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfer_hands_out_each_dirty_page_once() {
        let mut dirty = BoDirty::new(200);
        dirty.record(7..9);
        dirty.record(199..200);
        dirty.record(8..12);
        let mut runs = Vec::new();
        dirty.transfer(|run| runs.push(run));
        assert_eq!(runs, [7..12, 199..200]);
        dirty.transfer(|run| panic!("{run:?} was handed out twice"));
    }
}
