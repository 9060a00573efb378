//! Areas of an address space, and what their owner does about faults (kernel: `linux/mm_types.h`,
//! `linux/mm.h`).

use std::fmt::Debug;
use std::ops::Range;

use super::address_space::AddressSpace;
use super::mm_struct::{MmStruct, MmapRead};
use crate::addr::{PAGE_SIZE, Pgoff};
use crate::lockdep::Task;
use crate::mmu::soft::page_table::Pte;
use crate::sync::Arc;

/// Flags of an area (`vm_flags`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmFlags(u32);

impl VmFlags {
    /// Stores are allowed now; `mprotect` changes it.
    pub const WRITE: Self = Self(1 << 1);
    /// Writes go to the mapping, not to a copy.
    pub const SHARED: Self = Self(1 << 3);
    /// Stores can be allowed.
    pub const MAYWRITE: Self = Self(1 << 5);
    /// Entries are frame numbers without `struct page`.
    pub const PFNMAP: Self = Self(1 << 10);
    /// Entries may have a `struct page`, or not.
    pub const MIXEDMAP: Self = Self(1 << 28);
    /// `madvise(MADV_RANDOM)`.
    pub const RAND_READ: Self = Self(1 << 16);
    /// A mapping of hugetlbfs.
    pub const HUGETLB: Self = Self(1 << 22);
    /// A shared mapping of a device that was opened for reading and writing.
    pub const SHARED_RW: Self = Self::WRITE.or(Self::SHARED).or(Self::MAYWRITE).or(Self::PFNMAP);

    /// The flags of both.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These flags without those of `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all flags of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// How a fault is to be handled (`enum fault_flag`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultFlags {
    /// It was a store.
    pub write: bool,
    /// The handler may give `mmap_lock` back, wait, and ask to be called again.
    pub allow_retry: bool,
    /// It may not wait, though.
    pub retry_nowait: bool,
    /// It has asked for that before.
    pub tried: bool,
}

impl FaultFlags {
    /// A retry is allowed and was not made use of (`fault_flag_allow_retry_first`).
    pub fn allow_retry_first(self) -> bool {
        self.allow_retry && !self.tried
    }
}

/// A fault under way (`struct vm_fault`).
#[derive(Clone, Debug)]
pub struct VmFault {
    /// Where.
    pub vma: Arc<Vma>,
    /// The address, rounded down to a page.
    pub address: u64,
    /// Its page offset in the mapping.
    pub pgoff: Pgoff,
    /// How to handle it.
    pub flags: FaultFlags,
    /// The entry as the fault found it.
    pub orig_pte: Pte,
}

/// Outcome of a fault handler (`vm_fault_t`). What is left of `mmap_lock` comes with it: where the handler
/// gave it back, there is nothing left to give back twice.
#[derive(Debug)]
pub enum Fault<'a> {
    /// Entries are there, or another attempt will find out: the instruction runs again.
    NoPage(MmapRead<'a>),
    /// To be called again. `None`: `mmap_lock` was given back. With `retry_nowait` it is still held.
    Retry(Option<MmapRead<'a>>),
    /// There is no such page, or what stands for it failed.
    Sigbus(MmapRead<'a>),
    /// No memory.
    Oom(MmapRead<'a>),
    /// A huge fault: try with small entries.
    Fallback(MmapRead<'a>),
}

/// Outcome of a write to a page that is mapped read-only. There is no retry: the core would take it for
/// success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mkwrite {
    /// The entry may be made writable and dirty.
    Allowed,
    /// The instruction runs again.
    NoPage,
    /// There is no such page.
    Sigbus,
}

/// What the owner of an area does (`struct vm_operations_struct`).
pub trait VmOps: Debug + Send + Sync {
    /// Entries are missing.
    fn fault<'a>(&self, vmf: &VmFault, mmap: MmapRead<'a>) -> Fault<'a>;

    /// A huge entry could be made for the missing ones.
    fn huge_fault<'a>(&self, _vmf: &VmFault, mmap: MmapRead<'a>) -> Fault<'a> {
        Fault::Fallback(mmap)
    }

    /// Whether writes to read-only entries are announced: entries are read-only unless the driver says
    /// otherwise.
    fn has_mkwrite(&self) -> bool {
        false
    }

    /// A read-only entry is written (`pfn_mkwrite`, and `page_mkwrite` where there is a `struct page`).
    fn pfn_mkwrite(&self, _vmf: &VmFault, _mmap: &MmapRead<'_>) -> Mkwrite {
        Mkwrite::Allowed
    }

    /// Another area maps the object.
    fn open(&self, _vma: &Vma) {}

    /// An area is going away; its entries are still there. (In the kernel `close` comes after they are gone,
    /// and what is in their dirty bits with them: Q-05.)
    fn close(&self, _task: &Task, _vma: &Vma, _pages: Range<Pgoff>) {}
}

/// An area (`struct vm_area_struct`). Never changed: the system calls that resize one replace it.
#[derive(Debug)]
pub struct Vma {
    /// The address space it is in.
    pub mm: Arc<MmStruct>,
    /// Addresses.
    pub addresses: Range<u64>,
    /// Page offset of the first address in the mapping.
    pub pgoff: Pgoff,
    /// Flags.
    pub flags: VmFlags,
    /// What it maps.
    pub mapping: Arc<AddressSpace>,
    /// What its owner does.
    pub ops: Arc<dyn VmOps>,
}

impl Vma {
    /// The page offsets it maps.
    pub fn pages(&self) -> Range<Pgoff> {
        self.pgoff..self.pgoff + (self.addresses.end - self.addresses.start) / PAGE_SIZE
    }

    /// The page offset of an address (`linear_page_index`).
    pub fn pgoff_of(&self, address: u64) -> Pgoff {
        self.pgoff + (address - self.addresses.start) / PAGE_SIZE
    }

    /// The addresses of those of `pages` that it maps.
    pub fn addresses_of(&self, pages: &Range<Pgoff>) -> Range<u64> {
        let own = self.pages();
        let start = pages.start.clamp(own.start, own.end);
        let end = pages.end.clamp(start, own.end);
        let address = |pgoff: Pgoff| self.addresses.start + (pgoff - self.pgoff) * PAGE_SIZE;
        address(start)..address(end)
    }

    /// Whether writes go to a copy (`is_cow_mapping`).
    pub fn is_cow(&self) -> bool {
        self.flags.contains(VmFlags::MAYWRITE) && !self.flags.contains(VmFlags::SHARED)
    }

    /// The same area at other addresses.
    pub(super) fn resized(&self, addresses: Range<u64>, pgoff: Pgoff) -> Self {
        self.copied(Arc::clone(&self.mm), addresses, pgoff, self.flags)
    }

    /// A copy in an address space.
    pub(super) fn copied(
        &self,
        mm: Arc<MmStruct>,
        addresses: Range<u64>,
        pgoff: Pgoff,
        flags: VmFlags,
    ) -> Self {
        Self { mm, addresses, pgoff, flags, mapping: Arc::clone(&self.mapping), ops: Arc::clone(&self.ops) }
    }
}
