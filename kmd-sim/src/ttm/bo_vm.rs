//! Kernel file: `ttm_bo_vm.c`: what drivers' fault handlers share.
//!
//! # The lock inversion
//! A fault holds `mmap_lock` and wants the reservation; a submission holds reservations and copies from user
//! memory, which may fault and want `mmap_lock`. So a fault only tries to reserve. If that fails it gives
//! `mmap_lock` back, waits, and asks to be called again. Which locks are left is in the types: a function
//! that may give one back takes it by value and returns it if it did not.

use super::object::{Reserved, TtmBo};
use super::resv::{Usage, WaitError};
use crate::addr::PAGE_SIZE;
use crate::lockdep::Task;
use crate::mm::memory::{Prot, vmf_insert_pfn_prot};
use crate::mm::mm_struct::MmapRead;
use crate::mm::vma::{Fault, VmFault, VmFlags};
use crate::upstream::Profile;

/// Pages a fault maps at most (`TTM_BO_VM_NUM_PREFAULT`).
pub const NUM_PREFAULT: u64 = 16;

/// What [`ttm_bo_vm_fault_reserved`] came to.
#[derive(Debug)]
pub enum Faulted<'a, 'b, D> {
    /// Retry: both locks were given back, there is nothing to unlock.
    Retry,
    /// Anything else: the caller still has the reservation.
    Done(Outcome, Reserved<'b, D>, MmapRead<'a>),
}

/// Outcomes that leave both locks held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Mapped, or to be tried again by the instruction.
    NoPage,
    /// To be called again; it was not allowed to wait.
    RetryNowait,
    /// There is no such page.
    Sigbus,
    /// No memory.
    Oom,
}

impl Outcome {
    /// The handler's answer, with the lock that is left.
    pub fn with(self, mmap: MmapRead<'_>) -> Fault<'_> {
        match self {
            Self::NoPage => Fault::NoPage(mmap),
            Self::RetryNowait => Fault::Retry(Some(mmap)),
            Self::Sigbus => Fault::Sigbus(mmap),
            Self::Oom => Fault::Oom(mmap),
        }
    }
}

/// Reserves the object of a fault (`ttm_bo_vm_reserve`). On failure the handler's answer is ready: retry
/// with `mmap_lock` given back, or an instruction that runs again.
pub fn ttm_bo_vm_reserve<'a: 'b, 'b, D>(
    bo: &'b TtmBo<D>,
    vmf: &VmFault,
    mmap: MmapRead<'a>,
) -> Result<(Reserved<'b, D>, MmapRead<'a>), Fault<'a>> {
    let task: &'a Task = mmap.task();
    if let Some(reserved) = bo.try_reserve(task) {
        return Ok((reserved, mmap));
    }
    if may_retry(bo.machine.upstream.profile, vmf) {
        if vmf.flags.retry_nowait {
            return Err(Fault::Retry(Some(mmap)));
        }
        drop(mmap);
        // Whoever has it gives it back; or a signal comes, and the instruction does not run again.
        drop(bo.reserve_interruptible(task));
        return Err(Fault::Retry(None));
    }
    if !bo.machine.upstream.profile.blocks_on_reservation() {
        return Err(Fault::NoPage(mmap));
    }
    match bo.reserve_interruptible(task) {
        Ok(reserved) => Ok((reserved, mmap)),
        Err(_) => Err(Fault::NoPage(mmap)),
    }
}

fn may_retry(profile: Profile, vmf: &VmFault) -> bool {
    match profile {
        Profile::V5Mail | Profile::V5_5 => vmf.flags.allow_retry,
        Profile::V6_12 | Profile::Latest => vmf.flags.allow_retry_first(),
    }
}

/// Waits until the kernel's own work on the object is done (`ttm_bo_vm_fault_idle`). On failure, what is left
/// of the locks comes with it.
pub fn ttm_bo_vm_fault_idle<'a, 'b, D>(
    profile: Profile,
    vmf: &VmFault,
    reserved: Reserved<'b, D>,
    mmap: MmapRead<'a>,
) -> Result<(Reserved<'b, D>, MmapRead<'a>), Faulted<'a, 'b, D>> {
    let task = mmap.task();
    let pending = match profile.has_resv_usage() {
        true => reserved.fences.pending(Usage::Kernel),
        false => reserved.fences.moving.iter().filter(|fence| !fence.is_signaled()).cloned().collect(),
    };
    if pending.is_empty() {
        return Ok((reserved, mmap));
    }
    if may_retry(profile, vmf) {
        if vmf.flags.retry_nowait {
            return Err(Faulted::Done(Outcome::RetryNowait, reserved, mmap));
        }
        drop(mmap);
        // How it ends does not matter: the fault comes again.
        let _ = pending.iter().try_for_each(|fence| fence.wait(task, true));
        drop(reserved);
        return Err(Faulted::Retry);
    }
    match pending.iter().try_for_each(|fence| fence.wait(task, true)) {
        Ok(()) => Ok((reserved, mmap)),
        Err(WaitError::Interrupted) => Err(Faulted::Done(Outcome::NoPage, reserved, mmap)),
        Err(WaitError::DeviceLost) => Err(Faulted::Done(Outcome::Sigbus, reserved, mmap)),
    }
}

/// Maps up to `num_prefault` pages from the faulting one on (`ttm_bo_vm_fault_reserved`). Entries that exist
/// stay as they are.
pub fn ttm_bo_vm_fault_reserved<'a, 'b, D>(
    bo: &'b TtmBo<D>,
    vmf: &VmFault,
    prot: Prot,
    num_prefault: u64,
    reserved: Reserved<'b, D>,
    mmap: MmapRead<'a>,
) -> Faulted<'a, 'b, D> {
    let profile = bo.machine.upstream.profile;
    let (mut reserved, mmap) = match ttm_bo_vm_fault_idle(profile, vmf, reserved, mmap) {
        Ok(locks) => locks,
        Err(faulted) => return faulted,
    };
    let page = vmf.pgoff - bo.node.start;
    if page >= bo.num_pages() {
        return Faulted::Done(Outcome::Sigbus, reserved, mmap);
    }
    if !reserved.tt.populate(&bo.machine) {
        let outcome = if profile >= Profile::V6_12 { Outcome::Sigbus } else { Outcome::Oom };
        return Faulted::Done(outcome, reserved, mmap);
    }
    let pages_left = ((vmf.vma.addresses.end - vmf.address) / PAGE_SIZE).min(bo.num_pages() - page);
    for ahead in 0..num_prefault.min(pages_left) {
        let Some(pfn) = reserved.tt.page(page + ahead) else {
            let outcome = if ahead == 0 { Outcome::Oom } else { Outcome::NoPage };
            return Faulted::Done(outcome, reserved, mmap);
        };
        let faulting = ahead == 0 && vmf.flags.write && vmf.vma.flags.contains(VmFlags::SHARED);
        let prot = match faulting && profile.maps_writable_on_write_fault() {
            true => Prot::WritableDirty,
            false => prot,
        };
        vmf_insert_pfn_prot(mmap.task(), &vmf.vma, vmf.address + ahead * PAGE_SIZE, pfn, prot);
    }
    Faulted::Done(Outcome::NoPage, reserved, mmap)
}
