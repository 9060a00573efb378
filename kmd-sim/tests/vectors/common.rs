//! A small world for tests of the memory management: one mapping with one buffer object in it, and
//! processes that map it.

#![allow(dead_code, reason = "every test program uses a part of it")]

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use kmd_sim::addr::{PAGE_SIZE, Pgoff};
use kmd_sim::bitmap::Bitmap;
use kmd_sim::lockdep::Task;
use kmd_sim::mm::address_space::AddressSpace;
use kmd_sim::mm::fault::Thread;
use kmd_sim::mm::huge_memory::vmf_insert_pfn_pmd;
use kmd_sim::mm::machine::Machine;
use kmd_sim::mm::mapping_dirty_helpers::{clean_record_shared_mapping_range, wp_shared_mapping_range};
use kmd_sim::mm::memory::{Prot, vmf_insert_pfn_prot};
use kmd_sim::mm::mm_struct::{Mapped, Mm, MmapRead};
use kmd_sim::mm::mmu_notifier::MmEvent;
use kmd_sim::mm::vma::{Fault, Mkwrite, VmFault, VmFlags, VmOps, Vma};
use kmd_sim::mmu::soft::page_table::{PUD_SIZE, Pte};
use kmd_sim::mmu::soft::phys::Pfn;
use kmd_sim::upstream::Upstream;

/// First page offset of the object.
pub(crate) const NODE: Pgoff = 0x1000;
/// Where processes map it, unless a test says otherwise: page `NODE` of the mapping would be here. No table
/// ends at it, and huge entries fit.
pub(crate) const AT: u64 = 0x7f00 * PUD_SIZE;
/// One page.
pub(crate) const P: u64 = PAGE_SIZE;
/// Shared, and the device was opened for reading only.
pub(crate) const SHARED_RO: VmFlags = VmFlags::SHARED.or(VmFlags::PFNMAP);
/// `MAP_PRIVATE`.
pub(crate) const PRIVATE: VmFlags = VmFlags::WRITE.or(VmFlags::MAYWRITE).or(VmFlags::PFNMAP);

/// The object, and a driver that maps what is asked for.
#[derive(Debug)]
pub(crate) struct Bo {
    /// First frame.
    pub(crate) first: Pfn,
    /// Entries are writable from the first fault on.
    pub(crate) writable: AtomicBool,
    /// Loads map 2 MiB where that is possible.
    pub(crate) huge: AtomicBool,
    /// Pages that were announced to be written since a test last looked.
    pub(crate) mkwritten: Mutex<BTreeSet<u64>>,
}

impl Bo {
    fn frame(&self, pgoff: Pgoff) -> Pfn {
        self.first + (pgoff - NODE)
    }
}

impl VmOps for Bo {
    fn fault<'a>(&self, vmf: &VmFault, mmap: MmapRead<'a>) -> Fault<'a> {
        let can_write = vmf.vma.flags.contains(VmFlags::WRITE.or(VmFlags::SHARED));
        let writable = can_write && self.writable.load(Ordering::SeqCst);
        let prot = if writable { Prot::Writable } else { Prot::ReadOnly };
        vmf_insert_pfn_prot(mmap.task(), &vmf.vma, vmf.address, self.frame(vmf.pgoff), prot);
        Fault::NoPage(mmap)
    }

    fn huge_fault<'a>(&self, vmf: &VmFault, mmap: MmapRead<'a>) -> Fault<'a> {
        let first = self.frame(vmf.pgoff & !511);
        let wanted = self.huge.load(Ordering::SeqCst) && !vmf.flags.write;
        match wanted && vmf_insert_pfn_pmd(mmap.task(), &vmf.vma.mm, vmf.address, first, false) {
            true => Fault::NoPage(mmap),
            false => Fault::Fallback(mmap),
        }
    }

    fn has_mkwrite(&self) -> bool {
        true
    }

    fn pfn_mkwrite(&self, vmf: &VmFault, _: &MmapRead<'_>) -> Mkwrite {
        self.mkwritten.lock().unwrap().insert(vmf.pgoff - NODE);
        Mkwrite::Allowed
    }
}

/// A machine with one mapping, and the task that calls the helpers.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) machine: Arc<Machine>,
    pub(crate) mapping: Arc<AddressSpace>,
    pub(crate) bo: Arc<Bo>,
    /// A thread that writes the object is in the kernel.
    pub(crate) task: Task,
}

impl World {
    /// A world with an object of `pages` pages.
    pub(crate) fn new(upstream: Upstream, pages: u64) -> Self {
        let machine = Machine::new(upstream);
        let first = machine.hardware.phys.alloc(pages);
        let bo = Bo {
            first,
            writable: AtomicBool::new(false),
            huge: AtomicBool::new(false),
            mkwritten: Mutex::default(),
        };
        Self { mapping: AddressSpace::new(&machine), bo: Arc::new(bo), task: Task::new(), machine }
    }

    /// The newest kernel, without its defects.
    pub(crate) fn fixed() -> Self {
        Self::new(Upstream::default(), 1024)
    }

    /// The newest kernel with one defect.
    pub(crate) fn with_quirk(id: &str) -> Self {
        Self::new(Upstream::with_quirk(id), 1024)
    }

    /// A process that maps all of the object's first eight pages, shared and for writing.
    pub(crate) fn process(&self) -> Process {
        self.process_with(VmFlags::SHARED_RW, NODE..NODE + 8)
    }

    /// A process that maps these page offsets.
    pub(crate) fn process_with(&self, flags: VmFlags, pages: Range<Pgoff>) -> Process {
        let process = Process { mm: Mm::new(&self.machine), first: self.bo.first };
        process.map(self, flags, pages);
        process
    }

    /// `wp_shared_mapping_range` of pages of the object.
    pub(crate) fn wp(&self, pages: Range<u64>) -> u64 {
        wp_shared_mapping_range(&self.task, &self.mapping, &(NODE + pages.start..NODE + pages.end))
    }

    /// `clean_record_shared_mapping_range` of pages of the object into a record of it.
    pub(crate) fn clean(&self, pages: Range<u64>, record: &mut Record) -> u64 {
        let pages = NODE + pages.start..NODE + pages.end;
        let Record { bitmap, bounds } = record;
        clean_record_shared_mapping_range(&self.task, &self.mapping, &pages, NODE, bitmap, bounds)
    }
}

/// A process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) mm: Mm,
    first: Pfn,
}

/// Where a page of the object is mapped, if nothing was moved.
pub(crate) fn address(page: u64) -> u64 {
    AT + page * P
}

/// Where pages of the object are mapped.
pub(crate) fn addresses(pages: Range<u64>) -> Range<u64> {
    address(pages.start)..address(pages.end)
}

impl Process {
    /// Maps page offsets at the place for them.
    pub(crate) fn map(&self, world: &World, flags: VmFlags, pages: Range<Pgoff>) -> Arc<Vma> {
        let what = Mapped {
            address: AT + pages.start * P - NODE * P,
            pages,
            flags,
            ops: Arc::<Bo>::clone(&world.bo),
        };
        self.mm.mmap(&world.task, &world.mapping, what)
    }

    /// Sets the entry for a page of the object.
    pub(crate) fn set(&self, page: u64, entry: &str) {
        let pte = with_letters(Pte::new(self.first + page).mkspecial(), entry);
        self.mm.mm.tables.pte_alloc(address(page)).unwrap().entry(address(page)).set(pte);
    }

    /// Sets the entries from page 0 on.
    pub(crate) fn set_all(&self, entries: &[&str]) {
        for (page, entry) in (0..).zip(entries) {
            self.set(page, entry);
        }
    }

    /// The entry for a page of the object.
    pub(crate) fn entry(&self, page: u64) -> String {
        spell(self.mm.mm.tables.pte(address(page)))
    }

    /// The entries for pages of the object.
    pub(crate) fn entries(&self, pages: Range<u64>) -> Vec<String> {
        pages.map(|page| self.entry(page)).collect()
    }

    /// What happened to the address space since the last call.
    pub(crate) fn events(&self) -> Vec<MmEvent> {
        self.mm.mm.take_events()
    }

    /// The ranges of translations that were flushed since the last call.
    pub(crate) fn flushes(&self) -> Vec<Range<u64>> {
        let flushed = |event| match event {
            MmEvent::FlushTlb(addresses) => Some(addresses),
            _ => None,
        };
        self.events().into_iter().filter_map(flushed).collect()
    }

    /// A thread of it on a CPU of its own.
    pub(crate) fn thread(&self) -> Thread<'_> {
        Thread::new(&self.mm)
    }
}

/// An entry with the bits that the notation of the vectors names.
pub(crate) fn with_letters(pte: Pte, entry: &str) -> Pte {
    entry.chars().fold(pte, |pte, letter| match letter {
        'W' => pte.mkwrite(),
        'D' => pte.mkdirty(),
        'Y' => pte.mkyoung(),
        '-' => Pte::NONE,
        _ => pte,
    })
}

/// An entry in the notation of the vectors.
pub(crate) fn spell(pte: Pte) -> String {
    if pte.none() {
        return "-".into();
    }
    let letters = [(pte.write(), "W"), (pte.dirty(), "D"), (pte.young(), "Y")];
    let spelled: String = letters.into_iter().filter_map(|(is, letter)| is.then_some(letter)).collect();
    if spelled.is_empty() { "ro".into() } else { spelled }
}

/// A bitmap of the object's pages with its bounds.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) bitmap: Bitmap,
    pub(crate) bounds: Range<u64>,
}

impl Record {
    /// Nothing recorded among `pages` pages.
    pub(crate) fn empty(pages: u64) -> Self {
        Self { bitmap: Bitmap::new(pages), bounds: Range { start: pages, end: 0 } }
    }

    /// The pages recorded.
    pub(crate) fn bits(&self) -> Vec<u64> {
        (0..self.bitmap.len()).filter(|bit| self.bitmap.test(*bit)).collect()
    }
}
