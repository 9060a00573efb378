//! A device with one buffer object, mapped by one process; resources that record what they are told.

use std::any::Any;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use kmd_sim::addr::PAGE_SIZE;
use kmd_sim::error::{Error, Result};
use kmd_sim::lockdep::Task;
use kmd_sim::mm::fault::{FaultStep, Thread, handle_mm_fault};
use kmd_sim::mm::machine::Machine;
use kmd_sim::mm::mm_struct::Mm;
use kmd_sim::mm::vma::{FaultFlags, VmFlags};
use kmd_sim::mmu::soft::cpu::PageFault;
use kmd_sim::mmu::soft::page_table::Pte;
use kmd_sim::svga::cmd::{Command, CommandStream};
use kmd_sim::svga::types::SurfaceId;
use kmd_sim::ttm::resv::{Engine, Timeline};
use kmd_sim::upstream::Upstream;
use kmd_sim::vmwgfx::bo::{Bo, BoState, ReservedBos};
use kmd_sim::vmwgfx::drv::VmwPrivate;
use kmd_sim::vmwgfx::page_dirty::Method;
use kmd_sim::vmwgfx::resource::{self, ResDirty, ResFunc, ResState, ResType, Resource};
use kmd_sim::vmwgfx::resource_validate;
use kmd_sim::vmwgfx::vm_ops::mapped;

use crate::common::with_letters;

/// Where the process maps the object.
pub(crate) const BASE: u64 = 0x10_0000_0000;

/// Executes fences and nothing else, and remembers all it saw.
#[derive(Debug)]
pub(crate) struct Recorder {
    stream: Arc<Mutex<CommandStream>>,
    seen: Mutex<Vec<Command>>,
    /// Never makes progress again.
    stalled: Mutex<bool>,
}

impl Engine for Recorder {
    fn step(&self, timeline: &Timeline) -> bool {
        if *self.stalled.lock().unwrap() {
            return false;
        }
        let commands = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        for command in &commands {
            if let Command::Fence { seqno } = command {
                timeline.signal(u64::from(*seqno));
            }
        }
        let any = !commands.is_empty();
        self.seen.lock().unwrap().extend(commands);
        any
    }
}

pub(crate) struct Rig {
    pub(crate) machine: Arc<Machine>,
    pub(crate) dev: Arc<VmwPrivate>,
    pub(crate) bo: Arc<Bo>,
    pub(crate) mm: Arc<Mm>,
    pub(crate) task: Task,
    recorder: Arc<Recorder>,
}

impl Rig {
    /// An object of `pages` pages.
    pub(crate) fn new(upstream: Upstream, pages: u64) -> Self {
        Self::with_map(upstream, pages, pages)
    }

    /// The same, mapped with a length of `mapped_pages`.
    pub(crate) fn with_map(upstream: Upstream, pages: u64, mapped_pages: u64) -> Self {
        let machine = Machine::new(upstream);
        let stream = Arc::new(Mutex::new(CommandStream::new()));
        let recorder = Arc::new(Recorder {
            stream: Arc::clone(&stream),
            seen: Mutex::default(),
            stalled: Mutex::new(false),
        });
        let engine: Arc<dyn Engine> = Arc::clone(&recorder) as _;
        let dev = Arc::new(VmwPrivate::new(&machine, stream, engine));
        let bo = dev.bo_create(pages * PAGE_SIZE);
        let rig = Self { mm: Arc::new(Mm::new(&machine)), machine, dev, bo, task: Task::new(), recorder };
        rig.map(&rig.mm, mapped_pages);
        rig
    }

    /// Maps the object into a process.
    pub(crate) fn map(&self, mm: &Mm, pages: u64) {
        let mut what = mapped(&self.dev, &self.bo, BASE, VmFlags::SHARED_RW);
        what.pages.end = what.pages.start + pages;
        mm.mmap(&self.task, &self.dev.mapping, what);
    }

    /// Another process that maps the object.
    pub(crate) fn second_process(&self) -> Mm {
        let mm = Mm::new(&self.machine);
        self.map(&mm, self.bo.num_pages());
        mm
    }

    /// A thread of the process.
    pub(crate) fn thread(&self) -> Thread<'_> {
        Thread::new(&self.mm)
    }

    /// Stores to one byte of each page.
    pub(crate) fn write(&self, pages: Range<u64>) {
        let thread = self.thread();
        for page in pages {
            thread.store(BASE + page * PAGE_SIZE, 1).unwrap();
        }
    }

    /// Calls `op` under the reservation.
    pub(crate) fn reserved<R>(&self, op: impl FnOnce(&mut BoState) -> R) -> R {
        op(&mut self.bo.reserve(&self.task))
    }

    pub(crate) fn add(&self) -> Result<()> {
        self.reserved(|state| self.dev.bo_dirty_add(&self.task, &self.bo, state))
    }

    pub(crate) fn release(&self) {
        self.reserved(|state| self.dev.bo_dirty_release(state));
    }

    pub(crate) fn scan(&self) {
        self.reserved(|state| self.dev.bo_dirty_scan(&self.task, &self.bo, state));
    }

    pub(crate) fn unmap(&self, pages: Range<u64>) {
        self.reserved(|state| self.dev.bo_dirty_unmap(&self.task, &self.bo, state, pages));
    }

    /// Method and count of the tracker.
    pub(crate) fn method(&self) -> (Method, u32) {
        self.reserved(|state| {
            let dirty = state.driver.dirty.as_ref().expect("tracked");
            (dirty.method(), dirty.change_count())
        })
    }

    pub(crate) fn ref_count(&self) -> Option<u32> {
        self.reserved(|state| state.driver.dirty.as_ref().map(|dirty| dirty.ref_count()))
    }

    /// Pages the tracker has recorded.
    pub(crate) fn bits(&self) -> Vec<u64> {
        self.reserved(|state| {
            let bitmap = state.driver.dirty.as_ref().expect("tracked").bitmap();
            (0..bitmap.len()).filter(|bit| bitmap.test(*bit)).collect()
        })
    }

    pub(crate) fn bounds(&self) -> (u64, u64) {
        self.reserved(|state| {
            let bounds = state.driver.dirty.as_ref().expect("tracked").bounds();
            (bounds.start, bounds.end)
        })
    }

    /// Takes out what is recorded under the whole object, as the transfer to a resource does.
    pub(crate) fn drain(&self) {
        let bytes = 0..self.bo.size;
        self.reserved(|state| {
            state.driver.dirty.as_mut().expect("tracked").transfer_to_res(&bytes, false, |_| {});
        });
    }

    /// Sets an entry of the process: "-" for none, else "W" and "D" as far as they are set.
    pub(crate) fn set_pte(&self, page: u64, bits: &str) {
        let address = BASE + page * PAGE_SIZE;
        self.reserved(|state| assert!(state.tt.populate(&self.machine)));
        let pfn = self.reserved(|state| state.tt.page(page)).unwrap_or(0);
        let pte = with_letters(Pte::new(pfn).mkyoung().mkspecial(), bits);
        let table = self.mm.mm.tables.pte_alloc(address).unwrap();
        table.entry(address).set(pte);
        self.mm.mm.flush_tlb_range(&(address..address + PAGE_SIZE));
    }

    /// An entry of the process, in the same words; "ro" with neither.
    pub(crate) fn pte(&self, page: u64) -> &'static str {
        words(self.mm.mm.tables.pte(BASE + page * PAGE_SIZE))
    }

    /// Pages of the process that have an entry.
    pub(crate) fn mapped_pages(&self) -> Vec<u64> {
        (0..self.bo.num_pages()).filter(|page| self.pte(*page) != "-").collect()
    }

    /// One attempt at a fault.
    pub(crate) fn fault(&self, page: u64, flags: FaultFlags) -> FaultStep {
        let fault = PageFault { address: BASE + page * PAGE_SIZE, write: flags.write };
        handle_mm_fault(&self.task, &self.mm, fault, flags)
    }

    /// Whether nobody has the object or the process's `mmap_lock`.
    pub(crate) fn all_unlocked(&self) -> bool {
        // Would be reported if this task held either.
        let unlocked = self.bo.try_reserve(&self.task).is_some();
        drop(self.mm.mmap_write_lock(&self.task));
        unlocked
    }

    /// The device executes nothing any more.
    pub(crate) fn stall(&self) {
        *self.recorder.stalled.lock().unwrap() = true;
    }

    /// All commands so far, executed or not; what was seen is forgotten.
    pub(crate) fn commands(&self) -> Vec<Command> {
        let mut all = std::mem::take(&mut *self.recorder.seen.lock().unwrap());
        all.extend(self.dev.stream().take());
        all
    }

    /// A resource on `pages` of the object that is attached to it.
    pub(crate) fn attach(&self, kind: Kind, pages: Range<u64>) -> Arc<Resource> {
        self.attach_bytes(kind, pages.start * PAGE_SIZE..pages.end * PAGE_SIZE)
    }

    pub(crate) fn attach_bytes(&self, kind: Kind, bytes: Range<u64>) -> Arc<Resource> {
        let res = Resource::new(Box::new(kind), bytes.end - bytes.start);
        {
            let mut state = res.state();
            state.id = Some(7);
            state.backing = Some(Arc::clone(&self.bo));
            state.offset = bytes.start;
            state.coherent = true;
            state.dirty = Some(Box::new(Runs::default()));
        }
        self.reserved(|state| resource::mob_attach(&res, state));
        res
    }

    /// Validates a resource for a batch.
    pub(crate) fn validate(&self, res: &Arc<Resource>, dirtying: bool) -> Result<()> {
        let mut bos = ReservedBos(vec![(&self.bo, self.bo.reserve(&self.task))]);
        resource_validate::validate(&self.dev, &self.task, res, &mut bos, dirtying)
    }

    /// Moves what is recorded under a resource to it; returns the page runs it was told.
    pub(crate) fn transfer(&self, res: &Arc<Resource>) -> Vec<(u64, u64)> {
        self.reserved(|state| resource::transfer_to_res(&self.dev, &self.task, state, res));
        runs(res).iter().map(|run| (run.start / PAGE_SIZE, run.end / PAGE_SIZE)).collect()
    }
}

pub(crate) fn words(pte: Pte) -> &'static str {
    match (pte.none(), pte.write(), pte.dirty()) {
        (true, ..) => "-",
        (_, true, true) => "WD",
        (_, true, false) => "W",
        (_, false, true) => "D",
        (_, false, false) => "ro",
    }
}

/// Byte ranges a resource was told of.
pub(crate) fn runs(res: &Arc<Resource>) -> Vec<Range<u64>> {
    let state = res.state();
    let dirty = state.dirty.as_ref().expect("tracked");
    dirty.as_any().downcast_ref::<Runs>().expect("recorded").0.clone()
}

/// Records the ranges it is told.
#[derive(Debug, Default)]
struct Runs(Vec<Range<u64>>);

impl ResDirty for Runs {
    fn range_add(&mut self, task: &Task, resource: &Range<u64>, bytes: &Range<u64>) {
        task.warn_on(bytes.start >= resource.end, "a range of another resource");
        self.0.push(bytes.clone());
    }

    fn sync(&mut self, _: &VmwPrivate, _: u32) -> Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Resources that can be read back, or not.
#[derive(Debug)]
pub(crate) enum Kind {
    Surface,
    WithoutClean,
}

impl ResFunc for Kind {
    fn res_type(&self) -> ResType {
        ResType::GbSurface
    }

    fn needs_backup(&self) -> bool {
        true
    }

    fn may_evict(&self) -> bool {
        true
    }

    fn prio(&self) -> (usize, usize) {
        (1, 2)
    }

    fn create(&self, _: &VmwPrivate, _: &ResState) -> Result<u32> {
        Err(Error::Invalid)
    }

    fn destroy(&self, _: &VmwPrivate, _: &ResState) -> Result<()> {
        Ok(())
    }

    fn bind(&self, _: &VmwPrivate, _: &mut ResState, _: &Bo, _: &mut BoState) -> Result<()> {
        Ok(())
    }

    fn unbind(&self, _: &VmwPrivate, _: &mut ResState, _: bool, _: &mut BoState) -> Result<()> {
        Ok(())
    }

    fn clean(&self, dev: &VmwPrivate, res: &ResState) -> Option<Result<()>> {
        let sid = SurfaceId(res.id?);
        matches!(self, Self::Surface).then(|| dev.stream().emit(&[Command::ReadbackGbSurface { sid }]))
    }
}
