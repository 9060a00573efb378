//! Buffer objects of the soft machine: pages, fences and the lock around them (kernel: `ttm_bo.c`,
//! `ttm_tt.c`).

use std::ops::Range;

use super::resv::{Fences, WaitError};
use crate::addr::{PAGE_BYTES, Pgoff, pages_for};
use crate::lockdep::{Held, LockClass, SleepLock, Task};
use crate::mm::machine::Machine;
use crate::mmu::soft::phys::Pfn;
use crate::sync::{Arc, AtomicU64, MutexGuard};

/// Where an object is (`mem_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemType {
    /// Ordinary pages, unknown to the device.
    System,
    /// The device's own memory.
    Vram,
    /// Pages in a guest memory region: before MOBs.
    Gmr,
    /// Pages the device knows as a memory object.
    Mob,
}

/// A buffer object. `D` is the driver's part of what the reservation protects.
#[derive(Debug)]
pub struct TtmBo<D> {
    /// The machine its pages are of.
    pub machine: Arc<Machine>,
    /// Unique; also its number as a MOB.
    pub id: u64,
    /// Bytes.
    pub size: u64,
    /// Its window in the device's mapping (`drm_vma_node`).
    pub node: Range<Pgoff>,
    /// Programs that write it by SYNCCPU and have not released it: no batch may use it meanwhile.
    pub cpu_writers: AtomicU64,
    resv: SleepLock<TtmState<D>>,
}

/// What a reservation protects.
#[derive(Debug)]
pub struct TtmState<D> {
    /// Where it is.
    pub mem_type: MemType,
    /// Reasons not to move it.
    pub pin_count: u32,
    /// Its pages.
    pub tt: Tt,
    /// Work of the device on it.
    pub fences: Fences,
    /// Larger is evicted later.
    pub priority: u32,
    /// The driver's part.
    pub driver: D,
}

/// An object whose reservation is held.
pub type Reserved<'a, D> = Held<'a, MutexGuard<'a, TtmState<D>>>;

impl<D> TtmBo<D> {
    /// An object in system memory, with a window that starts at `node`.
    pub fn new(machine: &Arc<Machine>, id: u64, size: u64, node: Pgoff, driver: D) -> Self {
        let num_pages = pages_for(size);
        let state = TtmState {
            mem_type: MemType::System,
            pin_count: 0,
            tt: Tt { num_pages, ..Tt::default() },
            fences: Fences::default(),
            priority: 3,
            driver,
        };
        Self {
            machine: Arc::clone(machine),
            id,
            size,
            node: node..node + num_pages,
            cpu_writers: AtomicU64::new(0),
            resv: SleepLock::new(LockClass::Resv, state),
        }
    }

    /// Pages, the last one perhaps used in part.
    pub fn num_pages(&self) -> u64 {
        self.node.end - self.node.start
    }

    /// Reserves it (`dma_resv_lock`).
    pub fn reserve<'a>(&'a self, task: &'a Task) -> Reserved<'a, D> {
        self.resv.lock(task)
    }

    /// Reserves it, if nobody has (`dma_resv_trylock`).
    pub fn try_reserve<'a>(&'a self, task: &'a Task) -> Option<Reserved<'a, D>> {
        self.resv.try_lock(task)
    }

    /// Reserves it, unless a signal is pending while somebody else has it (`dma_resv_lock_interruptible`).
    pub fn reserve_interruptible<'a>(&'a self, task: &'a Task) -> Result<Reserved<'a, D>, WaitError> {
        match self.try_reserve(task) {
            Some(reserved) => Ok(reserved),
            None if task.signal_pending.get() => Err(WaitError::Interrupted),
            None => Ok(self.reserve(task)),
        }
    }
}

/// The pages of an object (`struct ttm_tt`), made when first needed.
#[derive(Debug, Default)]
pub struct Tt {
    num_pages: u64,
    pages: Vec<Option<Pfn>>,
    swapped: Option<Vec<Vec<u8>>>,
    /// There is no memory for pages.
    pub starved: bool,
}

impl Tt {
    /// Makes the pages, or brings them back from swap (`ttm_tt_populate`); false without memory.
    pub fn populate(&mut self, machine: &Machine) -> bool {
        if !self.pages.is_empty() || self.num_pages == 0 {
            return true;
        }
        if self.starved {
            return false;
        }
        let phys = &machine.hardware.phys;
        let first = phys.alloc(self.num_pages);
        self.pages = (first..first + self.num_pages).map(Some).collect();
        for (pfn, bytes) in (first..).zip(self.swapped.take().into_iter().flatten()) {
            phys.page(pfn).write(0, &bytes);
        }
        true
    }

    /// The frame of a page, if there is one.
    pub fn page(&self, page: u64) -> Option<Pfn> {
        self.pages.get(usize::try_from(page).ok()?).copied().flatten()
    }

    /// Loses a page, as a backend does that could not make all of them.
    pub fn lose_page(&mut self, page: u64) {
        if let Some(slot) = usize::try_from(page).ok().and_then(|page| self.pages.get_mut(page)) {
            *slot = None;
        }
    }

    /// Writes the pages out and frees them (`ttm_tt_swapout`). Nothing may map them.
    pub fn swapout(&mut self, machine: &Machine) {
        let phys = &machine.hardware.phys;
        if !self.pages.is_empty() {
            let bytes = |pfn: &Option<Pfn>| pfn.map_or(vec![0; PAGE_BYTES], |pfn| phys.page(pfn).bytes());
            self.swapped = Some(self.pages.iter().map(bytes).collect());
            self.pages.clear();
        }
    }
}
