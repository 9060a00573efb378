//! The whole soft machine as one more tracker: what trackers guarantee on the process's own pages, the
//! series' driver guarantees on its page tables.

use std::ops::Range;

use super::bo::Bo;
use super::drv::VmwPrivate;
use super::vm_ops::mapped;
use crate::addr::{PAGE_BYTES, PAGE_SIZE, Pgoff};
use crate::error::Result;
use crate::lockdep::Task;
use crate::mm::fault::Thread;
use crate::mm::memory::unmap_mapping_range;
use crate::mm::mm_struct::Mm;
use crate::mm::vma::VmFlags;
use crate::mmu::conformance::{Cpu, Fixture, PAGES, conformance_tests};
use crate::mmu::soft::cpu::Cpu as SoftCpu;
use crate::mmu::soft::phys::Page;
use crate::mmu::{Caps, Mmu};
use crate::soft_system::SoftSystem;
use crate::sync::Arc;
use crate::upstream::Upstream;

const ADDRESS: u64 = 0x10_0000_0000;

/// A process that maps a tracked object.
struct Process {
    mm: Mm,
    cpu: SoftCpu,
}

impl Process {
    fn thread(&self) -> Thread<'_> {
        Thread { mm: &self.mm, cpu: self.cpu.clone(), task: Task::new() }
    }
}

impl Cpu for Process {
    fn store(&self, page: Pgoff, byte: u8) {
        self.thread().store(ADDRESS + page * PAGE_SIZE, byte).unwrap();
    }

    fn load(&self, page: Pgoff) -> u8 {
        self.thread().load(ADDRESS + page * PAGE_SIZE).unwrap()
    }
}

/// The driver's tracker of the object.
struct Tracked {
    dev: Arc<VmwPrivate>,
    bo: Arc<Bo>,
}

impl Mmu for Tracked {
    fn caps(&self) -> Caps {
        Caps {
            name: "soft",
            sees_kernel_writes: true,
            installs_handler: false,
            reports_only_written: true,
            granularity: 1,
            stays_open: false,
        }
    }

    fn take_dirty(&mut self, pages: Range<Pgoff>, found: &mut dyn FnMut(Range<Pgoff>)) -> Result<()> {
        let task = Task::new();
        let mut state = self.bo.reserve(&task);
        self.dev.bo_dirty_scan(&task, &self.bo, &mut state);
        let bytes = pages.start * PAGE_SIZE..pages.end * PAGE_SIZE;
        let tracker = state.driver.dirty.as_mut().expect("tracked");
        tracker.transfer_to_res(&bytes, false, found);
        Ok(())
    }
}

struct Soft {
    process: Process,
    tracked: Tracked,
}

impl Soft {
    fn frame(&self, page: Pgoff) -> Arc<Page> {
        let task = Task::new();
        let mut state = self.tracked.bo.reserve(&task);
        let machine = &self.tracked.dev.machine;
        assert!(state.tt.populate(machine));
        machine.hardware.phys.page(state.tt.page(page).unwrap())
    }
}

impl Fixture for Soft {
    type Cpu = Process;
    type Mmu = Tracked;

    fn new() -> Self {
        let SoftSystem { machine, dev, .. } = SoftSystem::new(Upstream::default());
        let bo = dev.bo_create(PAGES * PAGE_SIZE);
        let task = Task::new();
        dev.bo_dirty_add(&task, &bo, &mut bo.reserve(&task)).unwrap();
        let mm = Mm::new(&machine);
        mm.mmap(&task, &dev.mapping, mapped(&dev, &bo, ADDRESS, VmFlags::SHARED_RW));
        Self { process: Process { mm, cpu: machine.hardware.cpu() }, tracked: Tracked { dev, bo } }
    }

    fn parts(&mut self) -> (&Process, &mut Tracked) {
        (&self.process, &mut self.tracked)
    }

    /// The kernel stores to user memory by way of the same entries.
    fn kernel_store(&self, page: Pgoff, byte: u8) -> bool {
        self.process.store(page, byte);
        true
    }

    fn driver_store(&self, page: Pgoff, byte: u8) {
        self.frame(page).store(0, byte);
    }

    fn discard(&self, page: Pgoff) {
        let offset = self.tracked.bo.node.start + page;
        unmap_mapping_range(&Task::new(), &self.tracked.dev.mapping, &(offset..offset + 1), true);
        self.frame(page).write(0, &[0; PAGE_BYTES]);
    }
}

conformance_tests!(Soft);
