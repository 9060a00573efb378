//! Kernel file: `vmwgfx_page_dirty.c`, `vmwgfx_ttm_glue.c`: faults on mapped buffer objects. Patches 5
//! and 7 of the series.

use std::ops::Range;

use super::bo::{Bo, BoReserved};
use super::drv::VmwPrivate;
use super::page_dirty::Method;
use super::resource;
use crate::addr::{PAGE_SIZE, Pgoff, intersection};
use crate::lockdep::Task;
use crate::mm::huge_memory::vmf_insert_pfn_pmd;
use crate::mm::memory::{Prot, finish_mkwrite};
use crate::mm::mm_struct::{Mapped, MmapRead};
use crate::mm::vma::{Fault, Mkwrite, VmFault, VmFlags, VmOps, Vma};
use crate::mmu::soft::page_table::{PMD_SIZE, PTRS_PER_TABLE};
use crate::sync::Arc;
use crate::ttm::bo_vm::{
    Faulted, NUM_PREFAULT, Outcome, ttm_bo_vm_fault_idle, ttm_bo_vm_fault_reserved, ttm_bo_vm_reserve,
};

/// Pages ahead of a fault that upstream reads back (quirk Q-07).
const WINDOW_OF_Q07: u64 = PAGE_SIZE;

/// What the driver does about areas that map one buffer object (`vmw_vm_ops`).
#[derive(Debug)]
pub struct VmwVmOps {
    dev: Arc<VmwPrivate>,
    bo: Arc<Bo>,
}

/// How to map all of an object at `address` (`vmw_mmap`).
pub fn mapped(dev: &Arc<VmwPrivate>, bo: &Arc<Bo>, address: u64, flags: VmFlags) -> Mapped {
    let ops = VmwVmOps { dev: Arc::clone(dev), bo: Arc::clone(bo) };
    Mapped { address, pages: bo.node.clone(), flags, ops: Arc::new(ops) }
}

/// Whether stores go to the object's own pages: in a private area they never do.
fn may_write_through(vma: &Vma) -> bool {
    vma.flags.contains(VmFlags::WRITE.or(VmFlags::SHARED))
}

impl VmwVmOps {
    fn page(&self, vmf: &VmFault) -> u64 {
        vmf.pgoff - self.bo.node.start
    }

    /// Reads back what the device has newer of the pages about to be mapped. Returns how many may be.
    fn clean(&self, reserved: &mut BoReserved<'_>, pages: &Range<u64>) -> Option<u64> {
        if pages.start >= self.bo.num_pages() {
            return None;
        }
        resource::resources_clean(&self.dev, reserved, pages).ok()
    }

    /// Whether the device has newer content of a page.
    fn is_res_dirty(reserved: &BoReserved<'_>, page: u64) -> bool {
        resource::res_dirty_pages(reserved).iter().any(|pages| pages.contains(&page))
    }
}

impl VmOps for VmwVmOps {
    /// `vmw_bo_vm_fault`.
    fn fault<'a>(&self, vmf: &VmFault, mmap: MmapRead<'a>) -> Fault<'a> {
        let (mut reserved, mmap) = match ttm_bo_vm_reserve(&self.bo, vmf, mmap) {
            Ok(locks) => locks,
            Err(fault) => return fault,
        };
        let random = vmf.vma.flags.contains(VmFlags::RAND_READ);
        let mut num_prefault = if random { 1 } else { NUM_PREFAULT };
        let page = self.page(vmf);
        if reserved.driver.dirty.is_some() {
            let wide = self.dev.machine.upstream.quirks.clean_window_of_4096_pages;
            let window = page..page + if wide { WINDOW_OF_Q07 } else { 1 };
            match self.clean(&mut reserved, &window) {
                Some(allowed) => num_prefault = num_prefault.min(allowed),
                None => return Fault::Sigbus(mmap),
            }
        }
        let announced = reserved.driver.dirty.as_ref().is_some_and(|dirty| dirty.method() == Method::Mkwrite);
        let prot = if announced || !may_write_through(&vmf.vma) { Prot::ReadOnly } else { Prot::Writable };
        let faulted = ttm_bo_vm_fault_reserved(&self.bo, vmf, prot, num_prefault, reserved, mmap);
        let (outcome, mut reserved, mmap) = match faulted {
            Faulted::Retry => return Fault::Retry(None),
            Faulted::Done(outcome, reserved, mmap) => (outcome, reserved, mmap),
        };
        let recorded = outcome == Outcome::NoPage
            && vmf.flags.write
            && self.dev.machine.upstream.profile.maps_writable_on_write_fault();
        if let (true, Some(dirty)) = (recorded, &mut reserved.driver.dirty) {
            // The entry is writable already: no mkwrite will announce the store.
            dirty.mkwrite(page);
        }
        drop(reserved);
        outcome.with(mmap)
    }

    /// `vmw_bo_vm_huge_fault`.
    fn huge_fault<'a>(&self, vmf: &VmFault, mmap: MmapRead<'a>) -> Fault<'a> {
        if !self.dev.huge_faults || vmf.vma.is_cow() {
            return Fault::Fallback(mmap);
        }
        let task = mmap.task();
        let (mut reserved, mmap) = match ttm_bo_vm_reserve(&self.bo, vmf, mmap) {
            Ok(locks) => locks,
            Err(fault) => return fault,
        };
        let tracked = reserved.driver.dirty.is_some();
        let page = self.page(vmf) / PTRS_PER_TABLE * PTRS_PER_TABLE;
        let pages = page..page + PTRS_PER_TABLE;
        let start = vmf.address / PMD_SIZE * PMD_SIZE;
        let unfit = pages.end > self.bo.num_pages()
            || vmf.vma.addresses.start > start
            || vmf.vma.addresses.end < start + PMD_SIZE;
        if unfit || tracked && vmf.flags.write {
            return Fault::Fallback(mmap);
        }
        // All of it: what is behind the last resource nobody else writes.
        if tracked && self.clean(&mut reserved, &pages).is_none() {
            return Fault::Sigbus(mmap);
        }
        let profile = self.dev.machine.upstream.profile;
        let (mut reserved, mmap) = match ttm_bo_vm_fault_idle(profile, vmf, reserved, mmap) {
            Ok(locks) => locks,
            Err(Faulted::Retry) => return Fault::Retry(None),
            Err(Faulted::Done(outcome, _, mmap)) => return outcome.with(mmap),
        };
        if !reserved.tt.populate(&self.dev.machine) {
            return Fault::Fallback(mmap);
        }
        let frames: Option<Vec<_>> = pages.map(|page| reserved.tt.page(page)).collect();
        let Some(frames) = frames else { return Fault::Fallback(mmap) };
        let contiguous = frames.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let writable = !tracked && may_write_through(&vmf.vma);
        if contiguous && vmf_insert_pfn_pmd(task, &vmf.vma.mm, start, frames[0], writable) {
            return Fault::NoPage(mmap);
        }
        Fault::Fallback(mmap)
    }

    fn has_mkwrite(&self) -> bool {
        true
    }

    /// `vmw_bo_vm_mkwrite`.
    fn pfn_mkwrite(&self, vmf: &VmFault, mmap: &MmapRead<'_>) -> Mkwrite {
        let task = mmap.task();
        // A retry would be taken for success: this may only wait with the locks it has, or send the
        // instruction round again.
        let reserved = match self.dev.machine.upstream.profile.blocks_on_reservation() {
            true => self.bo.reserve_interruptible(task).ok(),
            false => self.bo.try_reserve(task),
        };
        let Some(mut reserved) = reserved else { return Mkwrite::NoPage };
        let page = self.page(vmf);
        if page >= self.bo.num_pages() {
            return Mkwrite::Sigbus;
        }
        // The entry is gone in that case: a fault on one that is there could come again and again.
        let gone = vmf.vma.mm.tables.pte(vmf.address).none();
        let late = gone && Self::is_res_dirty(&reserved, page) && reserved.driver.dirty.is_some();
        if late && !self.dev.machine.upstream.quirks.late_mkwrite {
            // While it waited a batch took the page away to write it.
            return Mkwrite::NoPage;
        }
        if let Some(dirty) = &mut reserved.driver.dirty {
            dirty.mkwrite(page);
        }
        if self.dev.machine.upstream.quirks.entry_widened_unreserved {
            return Mkwrite::Allowed;
        }
        // Not left to the core: once the object is given back, a batch may take the record away.
        finish_mkwrite(task, &vmf.vma, vmf.address, vmf.orig_pte);
        Mkwrite::NoPage
    }

    /// Upstream has no such thing: what the dirty bits of a mapping know goes with it (quirk Q-05).
    fn close(&self, task: &Task, _: &Vma, pages: Range<Pgoff>) {
        if self.dev.machine.upstream.quirks.zap_loses_dirty {
            return;
        }
        let node = self.bo.node.start;
        let pages = intersection(&pages, &self.bo.node);
        let mut reserved = self.bo.reserve(task);
        self.dev.bo_dirty_pre_unmap(task, &self.bo, &mut reserved, pages.start - node..pages.end - node);
    }
}
