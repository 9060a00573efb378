//! Fences of an object, and who waits for which (kernel: `dma-resv.c`, `dma-fence.c`).

use std::fmt::Debug;

use crate::lockdep::Task;
use crate::mmu::soft::phys::Pfn;
use crate::svga::types::MobId;
use crate::sync::{Arc, AtomicU64, Ordering};

/// What a fence on an object is for. Who waits for one class waits for those before it, too
/// (`enum dma_resv_usage`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Usage {
    /// Moves and clears of the kernel's own: nobody sees the object before.
    Kernel,
    /// The device writes.
    Write,
    /// The device reads.
    Read,
    /// Neither.
    Bookkeep,
}

/// Why a wait ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// A signal is pending (`ERESTARTSYS`).
    Interrupted,
    /// It would never have ended: the device is gone.
    DeviceLost,
}

/// The device as far as fences are concerned: it goes on while somebody waits for it.
pub trait Engine: Debug + Send + Sync {
    /// Executes one command, and signals the timeline if it says so; false if there is none.
    fn step(&self, timeline: &Timeline) -> bool;

    /// A memory object has pages from now on (`SVGA_3D_CMD_DEFINE_GB_MOB64`). It is no command here: memory
    /// objects come and go while nothing in the stream uses them.
    fn define_mob(&self, _mob: MobId, _frames: &[Pfn]) {}

    /// A memory object has no pages any more (`SVGA_3D_CMD_DESTROY_GB_MOB`).
    fn destroy_mob(&self, _mob: MobId) {}
}

/// A counter of completed work, and the device that counts it.
#[derive(Debug)]
pub struct Timeline {
    passed: AtomicU64,
    engine: Arc<dyn Engine>,
}

impl Timeline {
    /// A timeline at zero.
    pub fn new(engine: Arc<dyn Engine>) -> Arc<Self> {
        Arc::new(Self { passed: AtomicU64::new(0), engine })
    }

    /// Says that all work up to `seqno` is done.
    pub fn signal(&self, seqno: u64) {
        self.passed.fetch_max(seqno, Ordering::SeqCst);
    }
}

/// Stands for a piece of the device's work (`struct dma_fence`).
#[derive(Clone, Debug)]
pub struct Fence {
    timeline: Arc<Timeline>,
    /// Its place on the timeline.
    pub seqno: u64,
}

impl Fence {
    /// A fence for work that ends with `seqno`.
    pub fn new(timeline: &Arc<Timeline>, seqno: u64) -> Self {
        Self { timeline: Arc::clone(timeline), seqno }
    }

    /// Whether the work is done.
    pub fn is_signaled(&self) -> bool {
        self.timeline.passed.load(Ordering::SeqCst) >= self.seqno
    }

    /// Waits for it.
    pub fn wait(&self, task: &Task, interruptible: bool) -> Result<(), WaitError> {
        task.might_sleep();
        while !self.is_signaled() {
            if interruptible && task.signal_pending.get() {
                return Err(WaitError::Interrupted);
            }
            if !self.timeline.engine.step(&self.timeline) && !self.is_signaled() {
                return Err(WaitError::DeviceLost);
            }
        }
        Ok(())
    }
}

/// The fences of an object (`struct dma_resv`).
#[derive(Debug, Default)]
pub struct Fences {
    fences: Vec<(Fence, Usage)>,
    /// Until Linux 5.18: what a fault waits for (`ttm_buffer_object.moving`).
    pub moving: Option<Fence>,
}

impl Fences {
    /// Adds a fence (`dma_resv_add_fence`).
    pub fn add(&mut self, fence: Fence, usage: Usage) {
        self.fences.retain(|(fence, _)| !fence.is_signaled());
        self.fences.push((fence, usage));
    }

    /// Those of a class, and of the classes before it, whose work is not done.
    pub fn pending(&self, usage: Usage) -> Vec<Fence> {
        let pending = |(fence, of): &&(Fence, Usage)| *of <= usage && !fence.is_signaled();
        self.fences.iter().filter(pending).map(|(fence, _)| fence.clone()).collect()
    }

    /// Waits for all of a class (`dma_resv_wait_timeout`).
    pub fn wait(&self, task: &Task, usage: Usage, interruptible: bool) -> Result<(), WaitError> {
        self.pending(usage).iter().try_for_each(|fence| fence.wait(task, interruptible))
    }
}
