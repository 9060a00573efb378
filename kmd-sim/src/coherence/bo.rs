//! Buffer objects: guest memory over host memory (kernel: `vmwgfx_bo.c`).

use rangemap::RangeSet;

use super::bound::Bound;
use super::image::Image;
use super::lazy::Lazy;
use super::placed::Placed;
use super::write_set::Pieces;
use crate::coherence::page::PageState;
use crate::svga::HostDevice;
use crate::sys::memory::SharedMem;
use crate::ttm::bo::BufferObject;
use crate::vmwgfx::page_dirty::BoDirty;

/// Names a buffer object; never used twice in the life of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoId(pub u64);

/// Who keeps guest pages and host memory in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// The driver, by dirty tracking (`drm_vmw_surface_flag_coherent`).
    Coherent,
    /// The application, by explicit flushes and invalidates.
    Explicit,
}

/// What mapping a buffer object added to it.
#[derive(Debug)]
pub struct Mapping {
    /// Host memory as the CPU sees it.
    pub host: SharedMem,
    /// The application's view of the guest pages.
    pub application: SharedMem,
    /// The driver's view of them.
    pub driver: SharedMem,
    /// What the application was given in place of its view, while it is mapped.
    pub placed: Option<Placed>,
    /// State of each page; empty for explicit objects.
    pub pages: Vec<PageState>,
    /// Pages the CPU wrote; none for explicit objects.
    pub dirty: Option<BoDirty>,
    /// What is needed to leave device writes behind.
    pub lazy: Lazy,
    /// There is one if `host` is an image of host memory that the CPU does not see.
    pub image: Option<Image>,
}

/// A buffer object (`struct vmw_bo`).
#[derive(Debug)]
pub struct Bo<H: HostDevice> {
    /// Size and window.
    pub tbo: BufferObject,
    /// Who synchronises it.
    pub sync: Sync,
    /// Its host memory.
    pub memory: H::Memory,
    /// Made by the first map and kept for life.
    pub mapping: Option<Mapping>,
    /// Whether the application has it mapped now.
    pub mapped: bool,
    /// An explicit object that the device may have written since it was created.
    pub device_written: bool,
    /// What the device may have written of a coherent object that its guest pages do not show: while it is
    /// mapped, what was left behind; otherwise also bytes that were submitted for writing meanwhile, or not
    /// pulled when it was unmapped.
    pub stale: RangeSet<u64>,
    /// Resources attached to it.
    pub resources: Bound,
    /// The bytes within each [`Reach`](super::bound::Reach); `None` when that must be worked out.
    pub reach: [Option<Pieces>; 2],
}

impl<H: HostDevice> Bo<H> {
    /// A buffer object of `size` bytes over `memory`.
    pub fn new(size: u64, sync: Sync, memory: H::Memory) -> Self {
        Self {
            tbo: BufferObject::new(size),
            sync,
            memory,
            mapping: None,
            mapped: false,
            device_written: false,
            stale: RangeSet::new(),
            resources: Bound::default(),
            reach: [None, None],
        }
    }
}
