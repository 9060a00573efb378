//! Kernel file: `vmwgfx_page_dirty.c`: which pages of a buffer object the CPU wrote. Patch 5 of the series,
//! and `pre_unmap` and `unmap` of patch 7.
//!
//! There are two methods. With [`Method::Pagetable`] entries stay writable, and a scan collects the dirty
//! bits the hardware set: nothing for a store, something for each entry at a scan. With [`Method::Mkwrite`]
//! entries are read-only until a store faults and is recorded: something for the first store to a page,
//! nothing for a page at a scan. A tracker changes its method when three scans in a row say that the other
//! would be cheaper.
//!
//! The same code runs on the soft machine's page tables and on those of the process; what they do is behind
//! [`Mapping`]. All of it runs under the object's reservation.

use std::ops::Range;

use crate::addr::{PAGE_SIZE, Pgoff, intersection, pages_of};
use crate::bitmap::Bitmap;
use crate::error::Result;

/// Scans in a row that ask for the other method before it is taken (`VMW_DIRTY_NUM_CHANGE_TRIGGERS`).
const NUM_CHANGE_TRIGGERS: u32 = 2;
/// Pages newly written, in percent, above which faults cost more than a scan (`VMW_DIRTY_PERCENTAGE`).
const DIRTY_PERCENTAGE: u64 = 10;
/// Objects with fewer pages start with the page-table method: as many as one table has entries.
const MKWRITE_PAGES: u64 = PAGE_SIZE / size_of::<u64>() as u64;

/// What the tracker asks of page tables: the helpers of `mm/mapping_dirty_helpers.c`.
pub trait Mapping {
    /// Whether stores to read-only entries are announced; without it there is only the page-table method.
    fn has_mkwrite(&self) -> bool;

    /// Write-protects entries; returns how many were writable.
    fn wp_shared_mapping_range(&mut self, pages: &Range<Pgoff>) -> u64;

    /// Cleans dirty entries, sets their bits and widens the bounds; returns how many there were.
    fn clean_record_shared_mapping_range(
        &mut self,
        pages: &Range<Pgoff>,
        bitmap_pgoff: Pgoff,
        bitmap: &mut Bitmap,
        bounds: &mut Range<u64>,
    ) -> u64;

    /// Takes entries away.
    fn unmap_mapping_range(&mut self, pages: &Range<Pgoff>);

    /// The scan found nothing and is about to change to [`Method::Mkwrite`].
    fn before_switch(&mut self) {}
}

/// How writes are found (`enum vmw_bo_dirty_method`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By the dirty bits of entries.
    Pagetable,
    /// By faults on read-only entries.
    Mkwrite,
}

/// Dirty pages of one buffer object (`struct vmw_bo_dirty`), by page index inside of the object.
///
/// # Invariants
/// Every set bit lies inside of `bounds`; they need not be tight. Empty when `start >= end`.
#[derive(Debug)]
pub struct BoDirty {
    bitmap: Bitmap,
    bounds: Range<u64>,
    method: Method,
    change_count: u32,
    ref_count: u32,
}

impl BoDirty {
    /// Starts to track an object whose window starts at `node`, or adds a user (`vmw_bo_dirty_add`).
    pub fn add(
        dirty: &mut Option<Self>,
        node: Pgoff,
        num_pages: u64,
        mapping: &mut impl Mapping,
    ) -> Result<()> {
        if let Some(dirty) = dirty {
            dirty.ref_count += 1;
            return Ok(());
        }
        let method = match num_pages < MKWRITE_PAGES || !mapping.has_mkwrite() {
            true => Method::Pagetable,
            false => Method::Mkwrite,
        };
        let mut new = Self {
            bitmap: Bitmap::try_new(num_pages)?,
            bounds: num_pages..0,
            method,
            change_count: 0,
            ref_count: 1,
        };
        if method == Method::Mkwrite {
            // What the hardware has marked already becomes a bit, and what is written from now on a fault.
            new.protect_and_collect(node, 0..num_pages, mapping);
        }
        *dirty = Some(new);
        Ok(())
    }

    /// Removes a user; without any the tracking ends (`vmw_bo_dirty_release`). Entries stay as they are.
    pub fn release(dirty: &mut Option<Self>) {
        if let Some(tracker) = dirty {
            tracker.ref_count -= 1;
            if tracker.ref_count == 0 {
                *dirty = None;
            }
        }
    }

    /// Collects what was written (`vmw_bo_dirty_scan`). `device_dirty` are pages the device has newer content
    /// of: none of them is marked by a change of method.
    pub fn scan(&mut self, node: Pgoff, device_dirty: &[Range<u64>], mapping: &mut impl Mapping) {
        match self.method {
            Method::Pagetable => self.scan_pagetable(node, mapping),
            Method::Mkwrite => self.scan_mkwrite(node, device_dirty, mapping),
        }
    }

    /// `vmw_bo_dirty_scan_pagetable`.
    fn scan_pagetable(&mut self, node: Pgoff, mapping: &mut impl Mapping) {
        let all = 0..self.bitmap.len();
        let found = self.collect(node, &all, mapping);
        if !mapping.has_mkwrite() {
            return;
        }
        if found == 0 {
            self.change_count += 1;
        } else {
            self.change_count = 0;
        }
        if self.change_count > NUM_CHANGE_TRIGGERS {
            self.change_count = 0;
            self.method = Method::Mkwrite;
            mapping.before_switch();
            // A second time: something may have been written between the first and the protection.
            self.protect_and_collect(node, all, mapping);
        }
    }

    /// `vmw_bo_dirty_scan_mkwrite`.
    fn scan_mkwrite(&mut self, node: Pgoff, device_dirty: &[Range<u64>], mapping: &mut impl Mapping) {
        if self.bounds.is_empty() {
            return;
        }
        let written = mapping.wp_shared_mapping_range(&window(node, &self.bounds));
        if 100 * written / self.bitmap.len() > DIRTY_PERCENTAGE {
            self.change_count += 1;
        } else {
            self.change_count = 0;
        }
        if self.change_count > NUM_CHANGE_TRIGGERS {
            self.change_count = 0;
            self.method = Method::Pagetable;
            // Dirty bits of before: their pages are recorded, or were uploaded.
            let mut scratch = 0..self.bitmap.len();
            let all = window(node, &scratch);
            mapping.clean_record_shared_mapping_range(&all, node, &mut self.bitmap, &mut scratch);
            self.bitmap.clear(0..self.bitmap.len());
            self.bitmap.set(self.bounds.clone());
            for pages in device_dirty {
                self.bitmap.clear(intersection(pages, &self.bounds));
            }
        }
    }

    /// Records a write that faulted, or was found by a tracker of its own (`vmw_bo_vm_mkwrite`).
    pub fn mkwrite(&mut self, page: u64) {
        if self.method == Method::Mkwrite && !self.bitmap.test(page) {
            self.bitmap.set(page..page + 1);
            // INVARIANT: widened by the same page.
            self.bounds = self.bounds.start.min(page)..self.bounds.end.max(page + 1);
        }
    }

    /// Saves what dirty bits say of `pages` before their entries go away (`vmw_bo_dirty_pre_unmap`).
    pub fn pre_unmap(&mut self, node: Pgoff, pages: Range<u64>, mapping: &mut impl Mapping) {
        if self.method == Method::Pagetable && !pages.is_empty() {
            // Protected first, so that nothing is stored between the look and the end.
            self.protect_and_collect(node, pages, mapping);
        }
    }

    /// Takes the entries of `pages` away and loses no write (`vmw_bo_dirty_unmap`).
    pub fn unmap(&mut self, node: Pgoff, pages: Range<u64>, mapping: &mut impl Mapping) {
        self.pre_unmap(node, pages.clone(), mapping);
        mapping.unmap_mapping_range(&window(node, &pages));
    }

    /// Takes the dirty pages under the resource on `bytes` of the object out, in ascending runs
    /// (`vmw_bo_dirty_transfer_to_res`). `beyond`: as far as there are any (quirk Q-03).
    pub fn transfer_to_res(&mut self, bytes: &Range<u64>, beyond: bool, mut run: impl FnMut(Range<u64>)) {
        let resource = pages_of(bytes);
        let Range { start, end } = self.bounds.clone();
        if resource.start >= end || resource.end <= start {
            return;
        }
        let mut at = resource.start.max(start);
        let limit = if beyond { resource.end.max(end) } else { resource.end.min(end) };
        while let Some(pages) = self.bitmap.next_run(at..limit) {
            at = pages.end;
            self.bitmap.clear(pages.clone());
            run(pages);
        }
        // INVARIANT: the bounds shrink by pages that were just cleared. Both tests are of the old bounds.
        if resource.start <= start && limit > start {
            self.bounds.start = limit;
        }
        if resource.start < end && limit >= end {
            self.bounds.end = resource.start;
        }
    }

    /// Forgets what was written under the resource on `bytes`: it was uploaded as a whole
    /// (`vmw_bo_dirty_clear_res`).
    pub fn clear_res(&mut self, bytes: &Range<u64>) {
        let resource = pages_of(bytes);
        let Range { start, end } = self.bounds.clone();
        if resource.start >= end || resource.end <= start {
            return;
        }
        let pages = intersection(&resource, &self.bounds);
        self.bitmap.clear(pages.clone());
        // INVARIANT: as in `transfer_to_res`.
        if pages.start <= start && pages.end > start {
            self.bounds.start = pages.end;
        }
        if pages.start < end && pages.end >= end {
            self.bounds.end = pages.start;
        }
    }

    /// Whether anything was recorded (`vmw_bo_is_dirty`).
    pub fn is_dirty(&self) -> bool {
        !self.bounds.is_empty()
    }

    /// Forgets everything that was recorded (`vmw_bo_dirty_clear`).
    pub fn clear(&mut self) {
        self.clear_res(&(0..self.bitmap.len() * PAGE_SIZE));
    }

    /// The method it uses now.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Scans in a row that asked for the other method: at most two.
    pub fn change_count(&self) -> u32 {
        self.change_count
    }

    /// Its users.
    pub fn ref_count(&self) -> u32 {
        self.ref_count
    }

    /// Which pages are recorded.
    pub fn bitmap(&self) -> &Bitmap {
        &self.bitmap
    }

    /// Bounds of the pages recorded; empty when `start >= end`.
    pub fn bounds(&self) -> Range<u64> {
        self.bounds.clone()
    }

    fn protect_and_collect(&mut self, node: Pgoff, pages: Range<u64>, mapping: &mut impl Mapping) {
        mapping.wp_shared_mapping_range(&window(node, &pages));
        self.collect(node, &pages, mapping);
    }

    fn collect(&mut self, node: Pgoff, pages: &Range<u64>, mapping: &mut impl Mapping) -> u64 {
        let pages = window(node, pages);
        mapping.clean_record_shared_mapping_range(&pages, node, &mut self.bitmap, &mut self.bounds)
    }
}

/// Pages of an object as page offsets of the mapping.
fn window(node: Pgoff, pages: &Range<u64>) -> Range<Pgoff> {
    node + pages.start..node + pages.end
}
