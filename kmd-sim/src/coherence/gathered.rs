//! What one scan of the arena found, as page tables that remember dirty bits.
//!
//! A system call for each object would cost more than everything else. So the whole arena is scanned at once,
//! and the tracker of each object that something was found in then collects from here what it would collect
//! from page tables: [`crate::vmwgfx::page_dirty::BoDirty::scan`].

use std::ops::Range;

use crate::addr::Pgoff;
use crate::bitmap::Bitmap;
use crate::vmwgfx::page_dirty::Mapping;

/// Pages of the arena that were reported, and not collected yet.
#[derive(Debug)]
pub struct Gathered(Bitmap);

impl Gathered {
    /// Nothing, of an arena of `pages` pages.
    pub fn new(pages: u64) -> Self {
        Self(Bitmap::new(pages))
    }

    /// Adds what a scan reported.
    pub fn report(&mut self, pages: Range<Pgoff>) {
        self.0.set(pages);
    }
}

/// The scan that filled it has protected the pages as well. Faults of the process are resolved by the kernel,
/// or by the tracker's own handler, and never announced to the driver.
impl Mapping for Gathered {
    fn has_mkwrite(&self) -> bool {
        false
    }

    fn wp_shared_mapping_range(&mut self, _: &Range<Pgoff>) -> u64 {
        0
    }

    fn clean_record_shared_mapping_range(
        &mut self,
        pages: &Range<Pgoff>,
        bitmap_pgoff: Pgoff,
        bitmap: &mut Bitmap,
        bounds: &mut Range<u64>,
    ) -> u64 {
        let mut total = 0;
        let mut at = pages.start;
        while let Some(run) = self.0.next_run(at..pages.end) {
            at = run.end;
            total += run.end - run.start;
            self.0.clear(run.clone());
            let bits = run.start - bitmap_pgoff..run.end - bitmap_pgoff;
            *bounds = match bounds.is_empty() {
                true => bits.clone(),
                false => bounds.start.min(bits.start)..bounds.end.max(bits.end),
            };
            bitmap.set(bits);
        }
        total
    }

    fn unmap_mapping_range(&mut self, _: &Range<Pgoff>) {}
}
