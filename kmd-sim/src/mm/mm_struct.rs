//! Address spaces of processes, and the system calls that change them (kernel: `mm/mmap.c`,
//! `mm/mprotect.c`, `mm/mremap.c`, `kernel/fork.c`).

use std::collections::BTreeMap;
use std::ops::Range;

use super::address_space::AddressSpace;
use super::machine::Machine;
use super::memory::{change_protection, copy_page_range, move_page_tables, zap_page_range};
use super::mmu_notifier::{MmEvent, Reason};
use super::vma::{VmFlags, VmOps, Vma};
use crate::addr::{PAGE_SIZE, Pgoff};
use crate::error::{Error, Result};
use crate::lockdep::{LockClass, Read, RwSem, Task, Write};
use crate::mmu::soft::page_table::{PMD_SIZE, PageTables};
use crate::mmu::soft::tlb::Asid;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, PoisonError};

/// The areas of an address space, by their first address.
pub type VmaTree = BTreeMap<u64, Arc<Vma>>;
/// `mmap_lock` held for reading.
pub type MmapRead<'a> = Read<'a, VmaTree>;
/// `mmap_lock` held for writing.
pub type MmapWrite<'a> = Write<'a, VmaTree>;

/// Page tables and what belongs to them: the part of `struct mm_struct` that outlives `mmap_lock`.
#[derive(Debug)]
pub struct MmStruct {
    /// The machine it is on.
    pub machine: Arc<Machine>,
    /// Its name in translation buffers.
    pub asid: Asid,
    /// The page tables.
    pub tables: PageTables,
    /// Walkers that have changed entries and not flushed yet.
    tlb_flush_pending: AtomicU64,
    events: Mutex<Vec<MmEvent>>,
}

impl MmStruct {
    /// One more walker is about to change entries (`inc_tlb_flush_pending`).
    pub fn inc_tlb_flush_pending(&self) {
        self.tlb_flush_pending.fetch_add(1, Ordering::SeqCst);
    }

    /// It has flushed (`dec_tlb_flush_pending`).
    pub fn dec_tlb_flush_pending(&self) {
        self.tlb_flush_pending.fetch_sub(1, Ordering::SeqCst);
        self.event(MmEvent::PendingDecremented);
    }

    /// Somebody else is between a change and its flush (`mm_tlb_flush_nested`).
    pub fn tlb_flush_nested(&self) -> bool {
        self.tlb_flush_pending.load(Ordering::SeqCst) > 1
    }

    /// Makes all CPUs forget their translations of `addresses` (`flush_tlb_range`).
    pub fn flush_tlb_range(&self, addresses: &Range<u64>) {
        self.machine.hardware.tlbs.flush(self.asid, addresses);
        self.event(MmEvent::FlushTlb(addresses.clone()));
    }

    /// Tells who listens that entries are about to change (`mmu_notifier_invalidate_range_start`).
    pub fn notify_start(&self, addresses: &Range<u64>, reason: Reason) {
        self.event(MmEvent::InvalidateStart(addresses.clone(), reason));
    }

    /// Tells who listens that they have (`mmu_notifier_invalidate_range_end`).
    pub fn notify_end(&self, addresses: &Range<u64>) {
        self.event(MmEvent::InvalidateEnd(addresses.clone()));
    }

    /// Takes out what happened since the last call.
    pub fn take_events(&self) -> Vec<MmEvent> {
        std::mem::take(&mut self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn event(&self, event: MmEvent) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// What to map, and how.
#[derive(Clone, Debug)]
pub struct Mapped {
    /// First address.
    pub address: u64,
    /// The page offsets to map.
    pub pages: Range<Pgoff>,
    /// Flags of the area.
    pub flags: VmFlags,
    /// What the owner does about it.
    pub ops: Arc<dyn VmOps>,
}

/// A process's address space: page tables, and the areas under `mmap_lock`.
#[derive(Debug)]
pub struct Mm {
    /// What outlives the lock.
    pub mm: Arc<MmStruct>,
    mmap_lock: RwSem<VmaTree>,
}

impl Mm {
    /// An empty address space.
    pub fn new(machine: &Arc<Machine>) -> Self {
        let mm = MmStruct {
            asid: machine.next_id(),
            machine: Arc::clone(machine),
            tables: PageTables::default(),
            tlb_flush_pending: AtomicU64::new(0),
            events: Mutex::default(),
        };
        Self { mm: Arc::new(mm), mmap_lock: RwSem::new(LockClass::MmapLock, VmaTree::new()) }
    }

    /// `mmap_read_lock`.
    pub fn mmap_read_lock<'a>(&'a self, task: &'a Task) -> MmapRead<'a> {
        self.mmap_lock.read(task)
    }

    /// `mmap_write_lock`.
    pub fn mmap_write_lock<'a>(&'a self, task: &'a Task) -> MmapWrite<'a> {
        self.mmap_lock.write(task)
    }

    /// `mmap(2)` at a fixed, free address.
    pub fn mmap(&self, task: &Task, mapping: &Arc<AddressSpace>, what: Mapped) -> Arc<Vma> {
        let len = (what.pages.end - what.pages.start) * PAGE_SIZE;
        let vma = Arc::new(Vma {
            mm: Arc::clone(&self.mm),
            addresses: what.address..what.address + len,
            pgoff: what.pages.start,
            flags: what.flags,
            mapping: Arc::clone(mapping),
            ops: what.ops,
        });
        let mut vmas = self.mmap_write_lock(task);
        link(task, &mut vmas, &vma);
        vma.ops.open(&vma);
        vma
    }

    /// `munmap(2)`.
    pub fn munmap(&self, task: &Task, addresses: &Range<u64>) {
        let mut vmas = self.mmap_write_lock(task);
        self.unmap(task, &mut vmas, addresses);
    }

    /// Takes areas apart at the edges of `addresses`, and those inside of it away, entries first.
    fn unmap(&self, task: &Task, vmas: &mut VmaTree, addresses: &Range<u64>) {
        split(task, vmas, addresses);
        let gone: Vec<Arc<Vma>> = vmas.range(addresses.clone()).map(|(_, vma)| Arc::clone(vma)).collect();
        for vma in &gone {
            vma.ops.close(task, vma, vma.pages());
            zap_page_range(task, vma, &vma.addresses, true, Reason::Unmap);
            unlink(task, vmas, vma);
        }
        for vma in gone {
            self.free_pgtables(vmas, &vma.addresses);
        }
    }

    /// Frees the page tables that no area uses any more.
    fn free_pgtables(&self, vmas: &VmaTree, addresses: &Range<u64>) {
        let mut at = addresses.start / PMD_SIZE * PMD_SIZE;
        while at < addresses.end {
            let used = vmas.values().any(|vma| vma.addresses.start < at + PMD_SIZE && at < vma.addresses.end);
            if let (false, Some(pmd)) = (used, self.mm.tables.pmd(at)) {
                pmd.set(at, None);
            }
            at += PMD_SIZE;
        }
    }

    /// `mprotect(2)`. Refused, without a change, where an area may not be written (`EACCES`).
    pub fn mprotect(&self, task: &Task, addresses: &Range<u64>, write: bool) -> Result<()> {
        let mut vmas = self.mmap_write_lock(task);
        split(task, &mut vmas, addresses);
        let changed: Vec<Arc<Vma>> = vmas.range(addresses.clone()).map(|(_, vma)| Arc::clone(vma)).collect();
        if write && changed.iter().any(|vma| !vma.flags.contains(VmFlags::MAYWRITE)) {
            return Err(Error::Invalid);
        }
        for old in changed {
            change_flags(task, &mut vmas, &old, VmFlags::WRITE, write);
            if !write {
                change_protection(task, &old);
            }
        }
        Ok(())
    }

    /// `madvise(2)` with `MADV_RANDOM`, or `MADV_NORMAL`.
    pub fn madvise_random(&self, task: &Task, addresses: &Range<u64>, random: bool) {
        let mut vmas = self.mmap_write_lock(task);
        split(task, &mut vmas, addresses);
        let changed: Vec<Arc<Vma>> = vmas.range(addresses.clone()).map(|(_, vma)| Arc::clone(vma)).collect();
        for old in changed {
            change_flags(task, &mut vmas, &old, VmFlags::RAND_READ, random);
        }
    }

    /// `mremap(2)` with `MREMAP_FIXED`: moves `old`, which is one area or a part of one, to `new`, and what
    /// is there goes away. Entries move with their bits; those that find no room are zapped. Areas of a
    /// device do not grow (`VM_DONTEXPAND`), and the two ranges may not overlap: `None`.
    pub fn mremap(&self, task: &Task, old: &Range<u64>, new: &Range<u64>) -> Option<Arc<Vma>> {
        let mut vmas = self.mmap_write_lock(task);
        let len = new.end - new.start;
        let one = vmas.range(..=old.start).next_back()?.1.addresses.end >= old.end;
        if !one || len == 0 || len > old.end - old.start || old.start < new.end && new.start < old.end {
            return None;
        }
        let kept = old.start..old.start + len;
        self.unmap(task, &mut vmas, new);
        self.unmap(task, &mut vmas, &(kept.end..old.end));
        split(task, &mut vmas, &kept);
        let from = Arc::clone(vmas.get(&kept.start)?);
        let to = Arc::new(from.resized(new.clone(), from.pgoff));
        // Behind the old one, whose page offset is the same: a walk that is too late for an entry there
        // finds it here.
        link(task, &mut vmas, &to);
        to.ops.open(&to);
        move_page_tables(task, &from, &to);
        from.ops.close(task, &from, from.pages());
        unlink(task, &mut vmas, &from);
        self.free_pgtables(&vmas, &kept);
        Some(to)
    }

    /// `fork(2)`: the child's copy. Entries of shared areas are clean in it.
    pub fn fork(&self, task: &Task) -> Self {
        let child = Self::new(&self.mm.machine);
        // The child's lock is of the same class and nobody else knows it yet.
        let vmas = self.mmap_write_lock(task);
        let mut copies = VmaTree::new();
        for vma in vmas.values() {
            let copy = vma.copied(Arc::clone(&child.mm), vma.addresses.clone(), vma.pgoff, vma.flags);
            let copy = Arc::new(copy);
            copy.mapping.link(task, &copy);
            copy.ops.open(&copy);
            copy_page_range(task, vma, &copy);
            copies.insert(copy.addresses.start, copy);
        }
        drop(vmas);
        *child.mmap_write_lock(task) = copies;
        child
    }

    /// The process ends (`exit_mmap`).
    pub fn exit(&self, task: &Task) {
        self.munmap(task, &(0..u64::MAX));
    }
}

fn link(task: &Task, vmas: &mut VmaTree, vma: &Arc<Vma>) {
    vmas.insert(vma.addresses.start, Arc::clone(vma));
    vma.mapping.link(task, vma);
}

fn unlink(task: &Task, vmas: &mut VmaTree, vma: &Arc<Vma>) {
    vmas.remove(&vma.addresses.start);
    vma.mapping.unlink(task, vma);
}

/// Puts areas in the place of one.
fn replace(task: &Task, vmas: &mut VmaTree, old: &Arc<Vma>, new: &[Arc<Vma>]) {
    vmas.remove(&old.addresses.start);
    vmas.extend(new.iter().map(|vma| (vma.addresses.start, Arc::clone(vma))));
    old.mapping.replace(task, old, new);
}

/// Splits areas so that `addresses` starts and ends between two (`split_vma`).
fn split(task: &Task, vmas: &mut VmaTree, addresses: &Range<u64>) {
    for at in [addresses.start, addresses.end] {
        let Some((_, vma)) = vmas.range(..at).next_back() else { continue };
        if vma.addresses.end <= at {
            continue;
        }
        let vma = Arc::clone(vma);
        let low = Arc::new(vma.resized(vma.addresses.start..at, vma.pgoff));
        let high = Arc::new(vma.resized(at..vma.addresses.end, vma.pgoff_of(at)));
        high.ops.open(&high);
        replace(task, vmas, &vma, &[low, high]);
    }
}

/// Sets flags of an area, or clears them.
fn change_flags(task: &Task, vmas: &mut VmaTree, old: &Arc<Vma>, which: VmFlags, set: bool) {
    let flags = if set { old.flags.or(which) } else { old.flags.without(which) };
    let new = old.copied(Arc::clone(&old.mm), old.addresses.clone(), old.pgoff, flags);
    replace(task, vmas, old, &[Arc::new(new)]);
}
