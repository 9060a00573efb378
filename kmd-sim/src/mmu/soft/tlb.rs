//! Translation lookaside buffers: what CPUs remember of page-table entries.
//!
//! A CPU that remembers an entry as writable and dirty stores without a look at the page table. That is why
//! whoever takes rights away flushes before relying on it. An instruction holds its CPU's buffer from the
//! first look to the last byte, so that a flush returns when no access by an older entry is under way.

use std::collections::HashMap;
use std::ops::Range;

use super::phys::Pfn;
use crate::addr::PAGE_SIZE;
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Names an address space to the hardware (PCID).
pub type Asid = u64;

/// A remembered entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlbEntry {
    /// The frame.
    pub pfn: Pfn,
    /// Stores are allowed.
    pub write: bool,
    /// The dirty bit is known to be set.
    pub dirty: bool,
}

/// What one CPU remembers, by address space and page number.
#[derive(Debug, Default)]
pub struct Tlb(Mutex<HashMap<(Asid, u64), TlbEntry>>);

impl Tlb {
    /// Holds the buffer for one instruction, or one flush.
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<(Asid, u64), TlbEntry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it remembers for an address.
    pub fn lookup(&self, asid: Asid, address: u64) -> Option<TlbEntry> {
        self.lock().get(&(asid, address / PAGE_SIZE)).copied()
    }
}

/// The buffers of all CPUs.
#[derive(Debug, Default)]
pub struct Tlbs(RwLock<Vec<Arc<Tlb>>>);

impl Tlbs {
    pub(super) fn add(&self) -> Arc<Tlb> {
        let tlb = Arc::new(Tlb::default());
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&tlb));
        tlb
    }

    /// Makes all CPUs forget the pages of `addresses` (`flush_tlb_range`).
    pub fn flush(&self, asid: Asid, addresses: &Range<u64>) {
        let pages = addresses.start / PAGE_SIZE..addresses.end.div_ceil(PAGE_SIZE);
        for tlb in self.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            tlb.lock().retain(|(of, page), _| *of != asid || !pages.contains(page));
        }
    }
}
