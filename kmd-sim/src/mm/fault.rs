//! The fault path that a driver's handlers are called from (kernel: `handle_mm_fault` in `mm/memory.c`,
//! `do_user_addr_fault` in `arch/x86/mm/fault.c`).

use super::memory::{finish_mkwrite, huge_size, wp_page_copy, zap_page_range};
use super::mm_struct::{Mm, MmapRead};
use super::mmu_notifier::Reason;
use super::vma::{Fault, FaultFlags, Mkwrite, VmFault, VmFlags, Vma};
use crate::addr::PAGE_SIZE;
use crate::lockdep::Task;
use crate::mmu::soft::cpu::{Cpu, PageFault};
use crate::mmu::soft::page_table::{Leaf, Pte};
use crate::sync::Arc;

/// What one attempt at a fault came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultStep {
    /// The instruction runs again (`VM_FAULT_NOPAGE`, or done).
    Restart,
    /// The fault is to be handled again (`VM_FAULT_RETRY`).
    Retry {
        /// Whether `mmap_lock` was given back by the handler.
        dropped: bool,
    },
    /// The instruction ends with a signal.
    Signal(Signal),
    /// No memory (`VM_FAULT_OOM`).
    Oom,
}

/// Signals a fault can end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// No such mapping, or not for this access.
    Segv,
    /// The mapping has no such page.
    Bus,
    /// The process is out of memory.
    Kill,
}

/// One attempt at a fault (`handle_mm_fault`).
pub fn handle_mm_fault(task: &Task, mm: &Mm, fault: PageFault, flags: FaultFlags) -> FaultStep {
    let mmap = mm.mmap_read_lock(task);
    let vma = mmap.range(..=fault.address).next_back().map(|(_, vma)| Arc::clone(vma));
    let Some(vma) = vma.filter(|vma| fault.address < vma.addresses.end) else {
        return FaultStep::Signal(Signal::Segv);
    };
    if flags.write && !vma.flags.contains(VmFlags::WRITE) {
        return FaultStep::Signal(Signal::Segv);
    }
    let address = fault.address / PAGE_SIZE * PAGE_SIZE;
    let orig_pte = mm.mm.tables.pte(address);
    let pgoff = vma.pgoff_of(address);
    let vmf = VmFault { pgoff, address, flags, orig_pte, vma };
    if orig_pte.none() {
        return do_fault(&vmf, mmap);
    }
    if flags.write && !orig_pte.write() {
        return do_wp_page(task, &vmf, &mmap);
    }
    // Somebody else was faster.
    FaultStep::Restart
}

fn do_fault(vmf: &VmFault, mut mmap: MmapRead<'_>) -> FaultStep {
    if huge_size(&vmf.vma, vmf.address).is_some() {
        match vmf.vma.ops.huge_fault(vmf, mmap) {
            Fault::Fallback(again) => mmap = again,
            outcome => return step(outcome),
        }
    }
    step(vmf.vma.ops.fault(vmf, mmap))
}

fn step(outcome: Fault<'_>) -> FaultStep {
    match outcome {
        Fault::NoPage(_) | Fault::Fallback(_) => FaultStep::Restart,
        Fault::Retry(held) => FaultStep::Retry { dropped: held.is_none() },
        Fault::Sigbus(_) => FaultStep::Signal(Signal::Bus),
        Fault::Oom(_) => FaultStep::Oom,
    }
}

/// A write to an entry that is there and read-only.
fn do_wp_page(task: &Task, vmf: &VmFault, mmap: &MmapRead<'_>) -> FaultStep {
    let VmFault { vma, address, orig_pte, .. } = vmf;
    if is_huge(vma, *address) {
        // Never made writable as a whole, nor copied: small entries take its place.
        let page = *address..address + PAGE_SIZE;
        zap_page_range(task, vma, &page, false, Reason::Clear);
        return FaultStep::Restart;
    }
    if !vma.flags.contains(VmFlags::SHARED) {
        wp_page_copy(task, vma, *address, *orig_pte);
        return FaultStep::Restart;
    }
    if vma.ops.has_mkwrite() {
        match vma.ops.pfn_mkwrite(vmf, mmap) {
            Mkwrite::Allowed => {}
            Mkwrite::NoPage => return FaultStep::Restart,
            Mkwrite::Sigbus => return FaultStep::Signal(Signal::Bus),
        }
    }
    finish_mkwrite(task, vma, *address, *orig_pte);
    FaultStep::Restart
}

fn is_huge(vma: &Vma, address: u64) -> bool {
    matches!(vma.mm.tables.leaf(address), Some(Leaf::Pmd(_) | Leaf::Pud(_)))
}

/// A thread of a process: user code on a CPU, and the kernel when it faults.
#[derive(Debug)]
pub struct Thread<'a> {
    /// Its process.
    pub mm: &'a Mm,
    /// Its CPU.
    pub cpu: Cpu,
    /// What it is in the kernel.
    pub task: Task,
}

impl<'a> Thread<'a> {
    /// A thread of a process, on a CPU of its own.
    pub fn new(mm: &'a Mm) -> Self {
        Self { mm, cpu: mm.mm.machine.hardware.cpu(), task: Task::new() }
    }

    /// Loads one byte, however many faults it takes.
    pub fn load(&self, address: u64) -> Result<u8, Signal> {
        self.run(|| self.cpu.load(&self.mm.mm.tables, self.mm.mm.asid, address))
    }

    /// Stores one byte, however many faults it takes.
    pub fn store(&self, address: u64, value: u8) -> Result<(), Signal> {
        self.run(|| self.cpu.store(&self.mm.mm.tables, self.mm.mm.asid, address, value))
    }

    fn run<R>(&self, instruction: impl Fn() -> Result<R, PageFault>) -> Result<R, Signal> {
        let mut tried = false;
        loop {
            let fault = match instruction() {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            // One retry is all there was; since Linux 5.7 the handler sees by `tried` that it had its own.
            let allow_retry = !tried || self.mm.mm.machine.upstream.profile.retries_more_than_once();
            let flags = FaultFlags { write: fault.write, allow_retry, retry_nowait: false, tried };
            match handle_mm_fault(&self.task, self.mm, fault, flags) {
                FaultStep::Restart => tried = false,
                FaultStep::Retry { .. } => tried = true,
                FaultStep::Signal(signal) => return Err(signal),
                FaultStep::Oom => return Err(Signal::Kill),
            }
        }
    }

    /// The entry for an address.
    pub fn pte(&self, address: u64) -> Pte {
        self.mm.mm.tables.pte(address)
    }
}
