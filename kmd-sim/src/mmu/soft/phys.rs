//! Physical pages, by page frame number.

use crate::addr::PAGE_BYTES;
use crate::sync::{Arc, Mutex, PoisonError, RwLock};

/// Page frame number.
pub type Pfn = u64;

/// One physical page; it reads as zeros until it is written.
#[derive(Debug, Default)]
pub struct Page(Mutex<Vec<u8>>);

impl Page {
    /// The byte at `offset`.
    pub fn load(&self, offset: usize) -> u8 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(offset).copied().unwrap_or(0)
    }

    /// Stores one byte.
    pub fn store(&self, offset: usize, value: u8) {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.resize(PAGE_BYTES, 0);
        bytes[offset] = value;
    }

    /// A copy of all its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        bytes.resize(PAGE_BYTES, 0);
        bytes
    }

    /// Replaces the bytes from `offset` on.
    pub fn write(&self, offset: usize, source: &[u8]) {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.resize(PAGE_BYTES, 0);
        bytes[offset..offset + source.len()].copy_from_slice(source);
    }
}

/// All physical memory. Frames are never used twice, so that a stale translation shows.
#[derive(Debug, Default)]
pub struct PhysMem(RwLock<Vec<Arc<Page>>>);

impl PhysMem {
    /// Takes `count` frames that follow each other; returns the first.
    pub fn alloc(&self, count: u64) -> Pfn {
        let mut pages = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let first = pages.len() as u64;
        pages.extend((0..count).map(|_| Arc::default()));
        first
    }

    /// The page of a frame.
    ///
    /// # Panics
    /// If there is no such frame.
    pub fn page(&self, pfn: Pfn) -> Arc<Page> {
        let pages = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&pages[usize::try_from(pfn).expect("64-bit platform")])
    }
}
