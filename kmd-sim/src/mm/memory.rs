//! Entries come and go: zaps, copies and insertions (kernel: `mm/memory.c`, `mm/mprotect.c`, `mm/mremap.c`).
//!
//! There is no `struct page` behind the entries of graphics memory: **a zap forgets the dirty bit**. So
//! whoever tracks by that bit reads it first.

use std::ops::Range;

use super::address_space::AddressSpace;
use super::mm_struct::MmStruct;
use super::mmu_notifier::Reason;
use super::vma::{VmFlags, Vma};
use crate::addr::{PAGE_SIZE, Pgoff};
use crate::lockdep::Task;
use crate::mmu::soft::page_table::{PMD_SIZE, PUD_SIZE, Pte, PteTable, Slot};
use crate::mmu::soft::phys::Pfn;
use crate::sync::Arc;

/// Cuts addresses where PTE tables end.
pub(super) fn per_table(addresses: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let Range { start, end } = *addresses;
    let next = |at: u64| (at / PMD_SIZE + 1) * PMD_SIZE;
    std::iter::successors((start < end).then_some(start), move |at| Some(next(*at)).filter(|at| *at < end))
        .map(move |at| at..next(at).min(end))
}

/// Takes the entries of an area for `addresses` away (`zap_page_range`). `even_cows`: private copies, too.
pub fn zap_page_range(task: &Task, vma: &Vma, addresses: &Range<u64>, even_cows: bool, reason: Reason) {
    let mm = &vma.mm;
    mm.notify_start(addresses, reason);
    mm.inc_tlb_flush_pending();
    for part in per_table(addresses) {
        zap_huge_pud(task, mm, part.start);
        let Some(pmd) = mm.tables.pmd(part.start) else { continue };
        match pmd.get(part.start) {
            Some(Slot::Table(table)) => {
                let _ptl = table.ptl.lock(task);
                for address in part.step_by(4096) {
                    let entry = table.entry(address);
                    if even_cows || !is_private_copy(vma, entry.get()) {
                        entry.take();
                    }
                }
            }
            // A part of a huge entry cannot go alone.
            Some(Slot::Huge(_)) => super::huge_memory::split_huge_pmd(task, mm, &pmd, part.start),
            Some(Slot::Migration) | None => {}
        }
    }
    mm.flush_tlb_range(addresses);
    mm.notify_end(addresses);
    mm.dec_tlb_flush_pending();
}

fn zap_huge_pud(task: &Task, mm: &MmStruct, address: u64) {
    if let Some(pud) = mm.tables.pud(address)
        && matches!(pud.get(address), Some(Slot::Huge(_)))
    {
        super::huge_memory::split_huge_pud(task, mm, &pud, address);
    }
}

/// Whether an entry maps the copy that a write to a private area made.
fn is_private_copy(vma: &Vma, pte: Pte) -> bool {
    !pte.none() && !vma.flags.contains(VmFlags::SHARED) && !pte.special()
}

/// Takes the entries for `pages` away in every process (`unmap_mapping_range`). An empty range is empty: in
/// the kernel it would reach to the end of the file.
pub fn unmap_mapping_range(task: &Task, mapping: &AddressSpace, pages: &Range<Pgoff>, even_cows: bool) {
    let i_mmap = mapping.i_mmap_lock_read(task);
    for vma in i_mmap.overlapping(pages) {
        zap_page_range(task, vma, &vma.addresses_of(pages), even_cows, Reason::Clear);
    }
}

/// What a new entry allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prot {
    /// Loads.
    ReadOnly,
    /// Loads and stores.
    Writable,
    /// Stores, and one is about to happen: the entry is dirty at once.
    WritableDirty,
}

/// Maps a frame, if nothing is mapped there: an entry that exists is neither widened nor narrowed
/// (`vmf_insert_pfn_prot`, `vmf_insert_mixed_prot`).
pub fn vmf_insert_pfn_prot(task: &Task, vma: &Vma, address: u64, pfn: Pfn, prot: Prot) {
    let Some(table) = vma.mm.tables.pte_alloc(address) else { return };
    let _ptl = table.ptl.lock(task);
    let entry = table.entry(address);
    if entry.get().none() {
        let pte = Pte::new(pfn).mkyoung().mkspecial();
        entry.set(match prot {
            Prot::ReadOnly => pte,
            Prot::Writable => pte.mkwrite(),
            Prot::WritableDirty => pte.mkwrite().mkdirty(),
        });
    }
}

/// Copies the entries of an area to a child's (`copy_page_range`): what is shared is clean in the child, what
/// is private may no longer be written in either.
pub(super) fn copy_page_range(task: &Task, from: &Vma, to: &Vma) {
    let shared = from.flags.contains(VmFlags::SHARED);
    for part in per_table(&from.addresses) {
        let Some(pmd) = from.mm.tables.pmd(part.start) else { continue };
        // Huge entries of frames are not copied: the child faults.
        let Some(Slot::Table(source)) = pmd.get(part.start) else { continue };
        let Some(target) = to.mm.tables.pte_alloc(part.start) else { continue };
        let _target_ptl = target.ptl.lock(task);
        let _source_ptl = source.ptl.lock(task);
        for address in part.step_by(4096) {
            let entry = source.entry(address);
            let mut pte = entry.get();
            if pte.none() {
                continue;
            }
            if !shared && pte.write() {
                pte = entry.take().wrprotect();
                entry.set(pte);
            }
            target.entry(address).set(if shared { pte.mkclean() } else { pte }.mkold());
        }
    }
    from.mm.flush_tlb_range(&from.addresses);
}

/// Takes the right to write from the entries of an area (`change_protection`).
pub(super) fn change_protection(task: &Task, vma: &Vma) {
    let mm = &vma.mm;
    mm.notify_start(&vma.addresses, Reason::ProtectionVma);
    mm.inc_tlb_flush_pending();
    for part in per_table(&vma.addresses) {
        let Some(pmd) = mm.tables.pmd(part.start) else { continue };
        match pmd.get(part.start) {
            Some(Slot::Table(table)) => {
                let _ptl = table.ptl.lock(task);
                for address in part.step_by(4096) {
                    let entry = table.entry(address);
                    if entry.get().write() {
                        entry.set(entry.take().wrprotect());
                    }
                }
            }
            Some(Slot::Huge(leaf)) if leaf.get().write() => {
                super::huge_memory::split_huge_pmd(task, mm, &pmd, part.start);
            }
            Some(Slot::Huge(_) | Slot::Migration) | None => {}
        }
    }
    mm.flush_tlb_range(&vma.addresses);
    mm.notify_end(&vma.addresses);
    mm.dec_tlb_flush_pending();
}

/// Moves the entries of one area to another of the same process, with their bits (`move_page_tables`).
pub(super) fn move_page_tables(task: &Task, from: &Vma, to: &Vma) {
    let mm = &from.mm;
    mm.notify_start(&from.addresses, Reason::Unmap);
    for part in per_table(&from.addresses) {
        zap_huge_pud(task, mm, part.start);
        let Some(pmd) = mm.tables.pmd(part.start) else { continue };
        match pmd.get(part.start) {
            Some(Slot::Table(source)) => {
                let moved = to.addresses.start + (part.start - from.addresses.start);
                let mut at = part.start;
                for target in per_table(&(moved..moved + (part.end - part.start))) {
                    move_ptes(task, mm, &source, at, &target);
                    at += target.end - target.start;
                }
            }
            Some(Slot::Huge(_)) => super::huge_memory::split_huge_pmd(task, mm, &pmd, part.start),
            Some(Slot::Migration) | None => {}
        }
    }
    mm.notify_end(&from.addresses);
}

/// Moves entries of one table to another, or elsewhere in the same. Under the locks of both, until no CPU
/// uses the old addresses: a dirty helper sees each entry in one of the two places, and what it cleans in the
/// new one is not stored to by way of the old.
fn move_ptes(task: &Task, mm: &MmStruct, source: &Arc<PteTable>, from: u64, to: &Range<u64>) {
    let Some(target) = mm.tables.pte_alloc(to.start) else { return };
    let _source_ptl = source.ptl.lock(task);
    let _target_ptl = (!Arc::ptr_eq(source, &target)).then(|| target.ptl.lock(task));
    for address in to.clone().step_by(4096) {
        let pte = source.entry(from + (address - to.start)).take();
        target.entry(address).set(pte);
    }
    mm.flush_tlb_range(&(from..from + (to.end - to.start)));
}

/// Gives a private area its own copy of a page (`do_wp_page`, `wp_page_copy`).
pub(super) fn wp_page_copy(task: &Task, vma: &Vma, address: u64, old: Pte) {
    let phys = &vma.mm.machine.hardware.phys;
    let copy = phys.alloc(1);
    phys.page(copy).write(0, &phys.page(old.pfn()).bytes());
    let Some(table) = vma.mm.tables.pte_alloc(address) else { return };
    let _ptl = table.ptl.lock(task);
    let entry = table.entry(address);
    if entry.get() == old {
        entry.take();
        // Before anyone can store to the copy: no CPU of the process reads the old page after that.
        vma.mm.flush_tlb_range(&(address..address + PAGE_SIZE));
        entry.set(Pte::new(copy).mkyoung().mkwrite().mkdirty());
    }
}

/// Makes an entry writable, dirty and young, unless it has changed meanwhile (`finish_mkwrite_fault`).
pub fn finish_mkwrite(task: &Task, vma: &Arc<Vma>, address: u64, orig: Pte) {
    let Some(Slot::Table(table)) = vma.mm.tables.pmd(address).and_then(|pmd| pmd.get(address)) else {
        return;
    };
    let _ptl = table.ptl.lock(task);
    let entry = table.entry(address);
    let old = entry.take();
    // The accessed bit is the hardware's to change at any time.
    entry.set(if old.mkyoung() == orig.mkyoung() { old.mkwrite().mkdirty().mkyoung() } else { old });
}

/// Bytes that the largest huge entry which fits at an address maps, if one may be made there for `vma`.
pub(super) fn huge_size(vma: &Vma, address: u64) -> Option<u64> {
    [PUD_SIZE, PMD_SIZE].into_iter().find(|size| {
        let start = address / size * size;
        let distance = (vma.addresses.start / PAGE_SIZE).wrapping_sub(vma.pgoff);
        let aligned = distance.is_multiple_of(size / PAGE_SIZE);
        aligned && vma.addresses.start <= start && start + size <= vma.addresses.end
    })
}
