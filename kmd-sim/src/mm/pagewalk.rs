//! Kernel file: `mm/pagewalk.c`: walks page tables and calls back for each entry.
//!
//! Patches 2 and 3 of the series are here. Patch 2: the page-table lock is held around the callbacks for the
//! entries of a table, which therefore must not sleep. Patch 3: operations in a table of their own, hooks
//! before and after each VMA, and [`walk_page_mapping`], which visits every VMA of a mapping under
//! `i_mmap_rwsem` alone.
//!
//! # Return codes
//! A callback returns 0 to go on, a positive number to stop with that result, a negative one to fail with it.
//! `test_walk` returns 0 to walk a VMA, a positive number to skip it, a negative one to fail.
//! `post_vma` runs whenever `pre_vma` succeeded, also after a walk that was stopped: what `pre_vma` began
//! must be ended.

use std::ops::Range;

use super::address_space::{AddressSpace, IMmapRead};
use super::huge_memory::{split_huge_pmd, split_huge_pud};
use super::memory::per_table;
use super::mm_struct::{MmStruct, MmapRead};
use super::vma::{VmFlags, Vma};
use crate::addr::Pgoff;
use crate::lockdep::{LockClass, Task};
use crate::mmu::soft::page_table::{AtomicPte, PUD_SIZE, Pmd, PteTable, Pud, Slot};

/// What becomes of an entry above the lowest table after its callback (`enum page_walk_action`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WalkAction {
    /// Descend; a huge entry is split for that.
    #[default]
    Subtree,
    /// Go on behind it.
    Continue,
    /// Look at it again.
    Again,
}

/// State of a walk that callbacks see (`struct mm_walk`).
#[derive(Debug)]
pub struct MmWalk<'w> {
    /// Who walks.
    pub task: &'w Task,
    /// The address space.
    pub mm: &'w MmStruct,
    /// The VMA that is being walked.
    pub vma: &'w Vma,
    /// Set by entry callbacks.
    pub action: WalkAction,
}

type EntryOp<T, P> = fn(&T, Range<u64>, &mut MmWalk<'_>, &mut P) -> i32;
type RangeOp<P> = fn(Range<u64>, &mut MmWalk<'_>, &mut P) -> i32;

/// Callbacks; `P` is what they share (`struct mm_walk_ops`). There are none for the two levels that are
/// never leaves.
#[derive(Debug)]
pub struct MmWalkOps<P> {
    /// For a pud that is not none; until Linux 5.5 only for a huge one, under its lock.
    pub pud_entry: Option<EntryOp<Slot<Pmd>, P>>,
    /// For a pmd that is not none.
    pub pmd_entry: Option<EntryOp<Slot<PteTable>, P>>,
    /// For each entry of a PTE table, empty ones too, under its lock.
    pub pte_entry: Option<EntryOp<AtomicPte, P>>,
    /// For addresses without a table.
    pub pte_hole: Option<RangeOp<P>>,
    /// For a VMA of hugetlbfs.
    pub hugetlb_entry: Option<RangeOp<P>>,
    /// Whether to walk a VMA; gets its bounds, not those of the walk. Without it, frame-number
    /// mappings are skipped.
    pub test_walk: Option<RangeOp<P>>,
    /// Before a VMA is walked.
    pub pre_vma: Option<RangeOp<P>>,
    /// After it, whatever the walk returned.
    pub post_vma: Option<fn(&mut MmWalk<'_>, &mut P)>,
}

impl<P> Default for MmWalkOps<P> {
    fn default() -> Self {
        Self {
            pud_entry: None,
            pmd_entry: None,
            pte_entry: None,
            pte_hole: None,
            hugetlb_entry: None,
            test_walk: None,
            pre_vma: None,
            post_vma: None,
        }
    }
}

/// Walks those of the page offsets `pages` that any process maps, VMA by VMA in the order of their first page
/// offset. `i_mmap` is what protects the tables; `mmap_lock` is neither needed nor taken.
pub fn walk_page_mapping<P>(
    mapping: &AddressSpace,
    i_mmap: &IMmapRead<'_>,
    pages: &Range<Pgoff>,
    ops: &MmWalkOps<P>,
    private: &mut P,
) -> i32 {
    for vma in i_mmap.overlapping(pages) {
        let addresses = vma.addresses_of(pages);
        if addresses.is_empty() {
            continue;
        }
        let mut walk = MmWalk { task: i_mmap.task(), mm: &vma.mm, vma, action: WalkAction::default() };
        match test_walk(vma.addresses.clone(), ops, &mut walk, private) {
            0 => {}
            skip if skip > 0 && mapping.machine.upstream.quirks.walk_stops_at_filtered_vma => break,
            skip if skip > 0 => continue,
            error => return error,
        }
        let result = walk_vma(addresses, ops, &mut walk, private);
        if result != 0 {
            return result;
        }
    }
    0
}

/// Walks the VMAs of one address space (`walk_page_range`). `mmap` is what protects the tables.
pub fn walk_page_range<P>(
    mmap: &MmapRead<'_>,
    addresses: &Range<u64>,
    ops: &MmWalkOps<P>,
    private: &mut P,
) -> i32 {
    for vma in mmap.values() {
        let part = vma.addresses.start.max(addresses.start)..vma.addresses.end.min(addresses.end);
        if part.is_empty() {
            continue;
        }
        let mut walk = MmWalk { task: mmap.task(), mm: &vma.mm, vma, action: WalkAction::default() };
        match test_walk(part.clone(), ops, &mut walk, private) {
            0 => {}
            skip if skip > 0 => continue,
            error => return error,
        }
        let result = walk_vma(part, ops, &mut walk, private);
        if result != 0 {
            return result;
        }
    }
    0
}

fn test_walk<P>(addresses: Range<u64>, ops: &MmWalkOps<P>, walk: &mut MmWalk<'_>, private: &mut P) -> i32 {
    match ops.test_walk {
        Some(test_walk) => test_walk(addresses, walk, private),
        None => i32::from(walk.vma.flags.contains(VmFlags::PFNMAP)),
    }
}

/// `__walk_page_range`.
fn walk_vma<P>(addresses: Range<u64>, ops: &MmWalkOps<P>, walk: &mut MmWalk<'_>, private: &mut P) -> i32 {
    walk.task.assert_held(&[LockClass::MmapLock, LockClass::IMmap]);
    if let Some(pre_vma) = ops.pre_vma {
        let result = pre_vma(addresses.clone(), walk, private);
        if result != 0 {
            return result;
        }
    }
    let result = if walk.vma.flags.contains(VmFlags::HUGETLB) {
        ops.hugetlb_entry.map_or(0, |entry| entry(addresses, walk, private))
    } else {
        walk_pud_range(addresses, ops, walk, private)
    };
    if let Some(post_vma) = ops.post_vma {
        post_vma(walk, private);
    }
    result
}

fn walk_pud_range<P>(
    addresses: Range<u64>,
    ops: &MmWalkOps<P>,
    walk: &mut MmWalk<'_>,
    private: &mut P,
) -> i32 {
    let mut at = addresses.start;
    while at < addresses.end {
        let part = at..((at / PUD_SIZE + 1) * PUD_SIZE).min(addresses.end);
        at = part.end;
        let result = match walk.mm.tables.pud(part.start) {
            Some(pud) => walk_pud_entry(&pud, part, ops, walk, private),
            None => hole(part, ops, walk, private),
        };
        if result != 0 {
            return result;
        }
    }
    0
}

fn hole<P>(addresses: Range<u64>, ops: &MmWalkOps<P>, walk: &mut MmWalk<'_>, private: &mut P) -> i32 {
    ops.pte_hole.map_or(0, |pte_hole| pte_hole(addresses, walk, private))
}

fn walk_pud_entry<P>(
    pud: &Pud,
    addresses: Range<u64>,
    ops: &MmWalkOps<P>,
    walk: &mut MmWalk<'_>,
    private: &mut P,
) -> i32 {
    loop {
        let Some(slot) = pud.get(addresses.start) else { return hole(addresses, ops, walk, private) };
        walk.action = WalkAction::Subtree;
        let has_action = walk.mm.machine.upstream.profile.has_walk_action();
        let is_huge = matches!(slot, Slot::Huge(_));
        if let (Some(pud_entry), true) = (ops.pud_entry, has_action || is_huge) {
            let _lock = (!has_action).then(|| pud.lock.lock(walk.task));
            let result = pud_entry(&slot, addresses.clone(), walk, private);
            if result != 0 {
                return result;
            }
        }
        match walk.action {
            WalkAction::Again => continue,
            WalkAction::Continue => return 0,
            // Until Linux 5.5 a huge entry that had its callback was done with.
            WalkAction::Subtree if !has_action && is_huge && ops.pud_entry.is_some() => return 0,
            WalkAction::Subtree => {}
        }
        if ops.pmd_entry.is_none() && ops.pte_entry.is_none() {
            return 0;
        }
        match slot {
            Slot::Table(pmd) => return walk_pmd_range(&pmd, addresses, ops, walk, private),
            Slot::Huge(_) => split_huge_pud(walk.task, walk.mm, pud, addresses.start),
            Slot::Migration => return 0,
        }
    }
}

fn walk_pmd_range<P>(
    pmd: &Pmd,
    addresses: Range<u64>,
    ops: &MmWalkOps<P>,
    walk: &mut MmWalk<'_>,
    private: &mut P,
) -> i32 {
    for part in per_table(&addresses) {
        let result = walk_pmd_entry(pmd, part, ops, walk, private);
        if result != 0 {
            return result;
        }
    }
    0
}

fn walk_pmd_entry<P>(
    pmd: &Pmd,
    addresses: Range<u64>,
    ops: &MmWalkOps<P>,
    walk: &mut MmWalk<'_>,
    private: &mut P,
) -> i32 {
    loop {
        let Some(slot) = pmd.get(addresses.start) else { return hole(addresses, ops, walk, private) };
        walk.action = WalkAction::Subtree;
        if let Some(pmd_entry) = ops.pmd_entry {
            let result = pmd_entry(&slot, addresses.clone(), walk, private);
            if result != 0 {
                return result;
            }
        }
        // Until Linux 5.5 no callback had a say in it.
        if walk.mm.machine.upstream.profile.has_walk_action() {
            match walk.action {
                WalkAction::Again => continue,
                WalkAction::Continue => return 0,
                WalkAction::Subtree => {}
            }
        }
        let Some(pte_entry) = ops.pte_entry else { return 0 };
        match slot {
            Slot::Table(table) => return walk_pte_range(&table, addresses, pte_entry, walk, private),
            Slot::Huge(_) => split_huge_pmd(walk.task, walk.mm, pmd, addresses.start),
            Slot::Migration => return 0,
        }
    }
}

fn walk_pte_range<P>(
    table: &PteTable,
    addresses: Range<u64>,
    pte_entry: EntryOp<AtomicPte, P>,
    walk: &mut MmWalk<'_>,
    private: &mut P,
) -> i32 {
    let _ptl = table.ptl.lock(walk.task);
    for address in addresses.step_by(4096) {
        let result = pte_entry(table.entry(address), address..address + 4096, walk, private);
        if result != 0 {
            return result;
        }
    }
    0
}
