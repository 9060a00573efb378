//! A whole soft system: machine, device, driver, and the device file opened.
//!
//! ```
//! use kmd_sim::soft_system::SoftSystem;
//! use kmd_sim::svga::{cmd::Command, format::SurfaceFormat, types::Size3d};
//! use kmd_sim::upstream::Upstream;
//! use kmd_sim::X;
//!
//! let system = SoftSystem::new(Upstream::default());
//! let mm = system.process();
//! let cpu = system.thread(&mm);
//! let image = SurfaceMetadata::new(SurfaceFormat::R8G8B8A8_UNORM, Size3d::new(64, 64, 1));
//! let surface = system.file.surface_create(&cpu.task, &SurfaceCreate::coherent(image)).unwrap();
//! let at = system.map_surface(&cpu, surface);
//!
//! cpu.store(at + 5, 0xAB).unwrap();
//! let readback = [Command::ReadbackGbSurface { sid: surface }];
//! system.file.execbuf(&cpu.task, None, &readback).unwrap();
//! system.dev.wait_idle();
//! assert_eq!(system.device_bytes(surface)[5], 0xAB);
//! ```

use crate::addr::{PAGE_SIZE, Pgoff};
use crate::mm::fault::Thread;
use crate::mm::machine::Machine;
use crate::mm::mm_struct::Mm;
use crate::mm::vma::VmFlags;
use crate::mmu::soft::page_table::Pte;
use crate::svga::cmd::Command;
use crate::svga::device::SoftDevice;
use crate::svga::types::{MobId, SurfaceId};
use crate::sync::Arc;
use crate::ttm::resv::Engine;
use crate::upstream::Upstream;
use crate::vmwgfx::bo::Bo;
use crate::vmwgfx::drv::VmwPrivate;
use crate::vmwgfx::file::DrmFile;
use crate::vmwgfx::vm_ops::mapped;

/// Objects are mapped this far up, each at the address that its window says.
const MMAP_BASE: u64 = 0x10_0000_0000;

/// A machine with a device, and a driver for it.
#[derive(Debug)]
pub struct SoftSystem {
    /// Memory and CPUs, and the kernel.
    pub machine: Arc<Machine>,
    /// The device.
    pub device: Arc<SoftDevice>,
    /// The driver.
    pub dev: Arc<VmwPrivate>,
    /// The device, opened.
    pub file: DrmFile,
}

impl SoftSystem {
    /// A system that has done nothing.
    pub fn new(upstream: Upstream) -> Self {
        Self::with(upstream, |_| {})
    }

    /// The same, with a device that `configure` changes.
    pub fn with(upstream: Upstream, configure: impl FnOnce(&mut VmwPrivate)) -> Self {
        let machine = Machine::new(upstream);
        let device = SoftDevice::new(&machine.hardware);
        let engine: Arc<dyn Engine> = Arc::clone(&device) as _;
        let mut dev = VmwPrivate::new(&machine, Arc::clone(device.stream()), engine);
        configure(&mut dev);
        let dev = Arc::new(dev);
        Self { file: DrmFile::open(&dev), machine, device, dev }
    }

    /// A process.
    pub fn process(&self) -> Mm {
        Mm::new(&self.machine)
    }

    /// A thread of a process.
    pub fn thread<'a>(&self, mm: &'a Mm) -> Thread<'a> {
        Thread::new(mm)
    }

    /// Where an object is mapped, in each process that maps it.
    pub fn address(&self, bo: &Bo) -> u64 {
        MMAP_BASE + bo.node.start * PAGE_SIZE
    }

    /// Maps an object into a process, all of it, to read and write (`mmap`). Returns where.
    pub fn map(&self, cpu: &Thread<'_>, bo: &Arc<Bo>) -> u64 {
        self.map_as(cpu, bo, self.address(bo), VmFlags::SHARED_RW)
    }

    /// Maps an object, at an address and with flags.
    pub fn map_as(&self, cpu: &Thread<'_>, bo: &Arc<Bo>, address: u64, flags: VmFlags) -> u64 {
        cpu.mm.mmap(&cpu.task, &self.dev.mapping, mapped(&self.dev, bo, address, flags));
        address
    }

    /// Maps the guest copy of a surface. Returns where the surface starts.
    ///
    /// # Panics
    /// If it has none.
    pub fn map_surface(&self, cpu: &Thread<'_>, surface: SurfaceId) -> u64 {
        let bo = self.file.surface_backing(surface).expect("a surface with a guest copy");
        self.map(cpu, &bo) + self.offset(surface)
    }

    /// Takes an object out of a process (`munmap`).
    pub fn unmap(&self, cpu: &Thread<'_>, bo: &Bo) {
        let start = self.address(bo);
        cpu.mm.munmap(&cpu.task, &(start..start + bo.num_pages() * PAGE_SIZE));
    }

    /// The entry of a process for a page of an object.
    pub fn pte(&self, mm: &Mm, bo: &Bo, page: Pgoff) -> Pte {
        mm.mm.tables.pte(self.address(bo) + page * PAGE_SIZE)
    }

    /// The backing object of a surface.
    ///
    /// # Panics
    /// If it has none.
    pub fn backing(&self, surface: SurfaceId) -> Arc<Bo> {
        self.file.surface_backing(surface).expect("a surface with a guest copy")
    }

    /// Where in its backing object a surface starts.
    ///
    /// # Panics
    /// If there is no such surface.
    pub fn offset(&self, surface: SurfaceId) -> u64 {
        self.file.surface(surface).expect("a surface").res.state().offset
    }

    /// The device's copy of a surface.
    ///
    /// # Panics
    /// If it has none.
    pub fn device_bytes(&self, surface: SurfaceId) -> Vec<u8> {
        let sid = self.file.surface(surface).ok().and_then(|surface| surface.sid());
        sid.and_then(|sid| self.device.surface_bytes(sid)).expect("a surface that the device knows")
    }

    /// Pages that the tracker of an object has on record; `None` without a tracker.
    pub fn bits(&self, cpu: &Thread<'_>, bo: &Bo) -> Option<Vec<u64>> {
        let state = bo.reserve(&cpu.task);
        let bitmap = state.driver.dirty.as_ref()?.bitmap();
        Some((0..bitmap.len()).filter(|page| bitmap.test(*page)).collect())
    }

    /// Users of the tracker of an object.
    pub fn tracker_refs(&self, cpu: &Thread<'_>, bo: &Bo) -> u32 {
        bo.reserve(&cpu.task).driver.dirty.as_ref().map_or(0, crate::vmwgfx::page_dirty::BoDirty::ref_count)
    }

    /// The bytes of an object as they are in memory, whatever maps it; `None` while it is swapped out.
    pub fn memory_bytes(&self, cpu: &Thread<'_>, bo: &Bo) -> Option<Vec<u8>> {
        let state = bo.reserve(&cpu.task);
        let phys = &self.machine.hardware.phys;
        let pages = (0..bo.num_pages()).map(|page| Some(phys.page(state.tt.page(page)?).bytes()));
        pages.collect::<Option<Vec<_>>>().map(|pages| pages.concat())
    }

    /// The commands that wait for the device to fetch them.
    pub fn waiting(&self) -> Vec<Command> {
        self.dev.stream().commands().to_vec()
    }

    /// A handle of an object that has none of its own, such as a surface's.
    pub fn handle_of(&self, bo: &Arc<Bo>) -> MobId {
        self.file.bo_handle(bo)
    }
}
