//! Huge entries (kernel: `mm/huge_memory.c`, `mm/memory.c`). Patch 1 of the series is here: their locks may
//! be taken by a walk of a mapping, which holds `i_mmap_rwsem` and no `mmap_lock`.

use super::mm_struct::MmStruct;
use crate::lockdep::{LockClass, Spinning, Task};
use crate::mmu::soft::page_table::{AtomicPte, Level, Pmd, Pte, Pud, Slot};
use crate::mmu::soft::phys::Pfn;
use crate::sync::Arc;

/// A huge entry and the lock that keeps it huge.
#[derive(Debug)]
pub struct HugeLock<'a> {
    /// The entry.
    pub entry: Arc<AtomicPte>,
    _lock: Spinning<'a>,
}

/// Locks a pmd that is a leaf; `None` where it is not (`pmd_trans_huge_lock`).
pub fn pmd_trans_huge_lock<'a>(task: &'a Task, pmd: &'a Pmd, address: u64) -> Option<HugeLock<'a>> {
    trans_huge_lock(task, pmd, address)
}

/// Locks a pud that is a leaf; `None` where it is not (`pud_trans_huge_lock`).
pub fn pud_trans_huge_lock<'a>(task: &'a Task, pud: &'a Pud, address: u64) -> Option<HugeLock<'a>> {
    trans_huge_lock(task, pud, address)
}

fn trans_huge_lock<'a, T>(task: &'a Task, level: &'a Level<T>, address: u64) -> Option<HugeLock<'a>> {
    // Patch 1: either keeps the page tables from being freed.
    task.assert_held(&[LockClass::MmapLock, LockClass::IMmap]);
    let lock = level.lock.lock(task);
    match level.get(address) {
        Some(Slot::Huge(entry)) => Some(HugeLock { entry, _lock: lock }),
        _ => None,
    }
}

/// Splits a huge pmd of frame numbers: it is zapped, and with it its dirty bit (`__split_huge_pmd`).
pub fn split_huge_pmd(task: &Task, mm: &MmStruct, pmd: &Pmd, address: u64) {
    split(task, mm, pmd, address, crate::mmu::soft::page_table::PMD_SIZE);
}

/// Splits a huge pud (`__split_huge_pud`).
pub fn split_huge_pud(task: &Task, mm: &MmStruct, pud: &Pud, address: u64) {
    split(task, mm, pud, address, crate::mmu::soft::page_table::PUD_SIZE);
}

fn split<T>(task: &Task, mm: &MmStruct, level: &Level<T>, address: u64, size: u64) {
    let was_huge = {
        let _lock = level.lock.lock(task);
        match level.get(address) {
            Some(Slot::Huge(entry)) => {
                level.set(address, None);
                entry.take();
                true
            }
            _ => false,
        }
    };
    if was_huge {
        let start = address / size * size;
        mm.flush_tlb_range(&(start..start + size));
    }
}

/// Maps 2 MiB of frames from `pfn` on, if nothing is mapped there (`vmf_insert_pfn_pmd_prot`).
pub fn vmf_insert_pfn_pmd(task: &Task, mm: &MmStruct, address: u64, pfn: Pfn, write: bool) -> bool {
    let Some(pmd) = mm.tables.pmd_alloc(address) else { return false };
    insert(task, &pmd, address, pfn, write)
}

/// Maps 1 GiB of frames from `pfn` on, if nothing is mapped there (`vmf_insert_pfn_pud_prot`).
pub fn vmf_insert_pfn_pud(task: &Task, mm: &MmStruct, address: u64, pfn: Pfn, write: bool) -> bool {
    let Some(pud) = mm.tables.pud_alloc(address) else { return false };
    insert(task, &pud, address, pfn, write)
}

fn insert<T>(task: &Task, level: &Level<T>, address: u64, pfn: Pfn, write: bool) -> bool {
    let _lock = level.lock.lock(task);
    if level.get(address).is_some() {
        return false;
    }
    let pte = Pte::new(pfn).mkyoung().mkspecial();
    let pte = if write { pte.mkwrite() } else { pte };
    level.set(address, Some(Slot::Huge(Arc::new(AtomicPte::new(pte)))));
    true
}
