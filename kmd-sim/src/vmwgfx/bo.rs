//! Kernel file: `vmwgfx_bo.c`: buffer objects, which the device knows as MOBs.

use std::ops::Range;

use super::drv::VmwPrivate;
use super::page_dirty::{BoDirty, Mapping};
use super::res_tree::ResTree;
use super::resource::{self, Resource};
use crate::addr::Pgoff;
use crate::bitmap::Bitmap;
use crate::error::{Error, Result};
use crate::lockdep::Task;
use crate::mm::machine::Point;
use crate::mm::mapping_dirty_helpers::{clean_record_shared_mapping_range, wp_shared_mapping_range};
use crate::mm::memory::unmap_mapping_range;
use crate::svga::types::MobId;
use crate::sync::Arc;
use crate::ttm::object::{MemType, Reserved, TtmBo, TtmState};
use crate::ttm::resv::{Fence, Usage, WaitError};

/// A buffer object (`struct vmw_bo`).
pub type Bo = TtmBo<VmwBo>;
/// What its reservation protects.
pub type BoState = TtmState<VmwBo>;
/// A buffer object that is reserved.
pub type BoReserved<'a> = Reserved<'a, VmwBo>;

/// Classes of eviction priority of resources.
pub const PRIORITIES: usize = 4;
/// Priority of an object without resources.
const DEFAULT_PRIORITY: u32 = 3;

/// The driver's part of a buffer object's state.
#[derive(Debug, Default)]
pub struct VmwBo {
    /// Which pages the CPU wrote, while somebody wants to know.
    pub dirty: Option<BoDirty>,
    /// Resources attached to it.
    pub res_tree: ResTree<Arc<Resource>>,
    /// How many of them are in each class.
    res_prios: [u32; PRIORITIES],
}

/// The device's mapping as its buffer objects' trackers see it.
#[derive(Debug)]
pub struct DevMapping<'a> {
    task: &'a Task,
    dev: &'a VmwPrivate,
}

impl Mapping for DevMapping<'_> {
    fn has_mkwrite(&self) -> bool {
        true
    }

    fn wp_shared_mapping_range(&mut self, pages: &Range<Pgoff>) -> u64 {
        wp_shared_mapping_range(self.task, &self.dev.mapping, pages)
    }

    fn clean_record_shared_mapping_range(
        &mut self,
        pages: &Range<Pgoff>,
        bitmap_pgoff: Pgoff,
        bitmap: &mut Bitmap,
        bounds: &mut Range<u64>,
    ) -> u64 {
        clean_record_shared_mapping_range(self.task, &self.dev.mapping, pages, bitmap_pgoff, bitmap, bounds)
    }

    fn unmap_mapping_range(&mut self, pages: &Range<Pgoff>) {
        unmap_mapping_range(self.task, &self.dev.mapping, pages, false);
    }

    fn before_switch(&mut self) {
        self.dev.machine.reached(Point::BeforeSwitchProtect);
    }
}

impl VmwPrivate {
    /// The mapping as trackers see it.
    pub fn tables<'a>(&'a self, task: &'a Task) -> DevMapping<'a> {
        DevMapping { task, dev: self }
    }

    /// Creates a buffer object in system memory (`vmw_bo_create`).
    pub fn bo_create(&self, size: u64) -> Arc<Bo> {
        let (id, node) = self.place(size);
        Arc::new(Bo::new(&self.machine, id, size, node, VmwBo::default()))
    }

    /// The last user of an object gives it back (`vmw_bo_free`): nobody may track it or be attached to it.
    pub fn bo_free(&self, task: &Task, bo: &Bo) {
        let state = bo.reserve(task);
        task.warn_on(state.driver.dirty.is_some(), "a buffer object goes while it is tracked");
        task.warn_on(!state.driver.res_tree.is_empty(), "a buffer object goes with resources on it");
        if state.mem_type == MemType::Mob
            && let Ok(mob) = mob_id(bo)
        {
            // Nobody waits for an object that is gone, but its pages wait for the device.
            let idle = state.fences.wait(task, Usage::Bookkeep, false);
            task.warn_on(idle.is_err(), "a buffer object goes while the device uses it");
            self.mob_bind(mob, None);
        }
        drop(state);
        unmap_mapping_range(task, &self.mapping, &bo.node, true);
    }

    /// Starts to track an object, or adds a user (`vmw_bo_dirty_add`).
    pub fn bo_dirty_add(&self, task: &Task, bo: &Bo, state: &mut BoState) -> Result<()> {
        BoDirty::add(&mut state.driver.dirty, bo.node.start, bo.num_pages(), &mut self.tables(task))
    }

    /// Removes a user (`vmw_bo_dirty_release`).
    pub fn bo_dirty_release(&self, state: &mut BoState) {
        BoDirty::release(&mut state.driver.dirty);
    }

    /// Collects what the CPU wrote (`vmw_bo_dirty_scan`).
    pub fn bo_dirty_scan(&self, task: &Task, bo: &Bo, state: &mut BoState) {
        let device_dirty = match self.machine.upstream.quirks.switch_marks_all {
            true => Vec::new(),
            false => resource::res_dirty_pages(state),
        };
        if let Some(dirty) = &mut state.driver.dirty {
            dirty.scan(bo.node.start, &device_dirty, &mut self.tables(task));
        }
    }

    /// Saves what dirty bits know of `pages` (`vmw_bo_dirty_pre_unmap`).
    pub fn bo_dirty_pre_unmap(&self, task: &Task, bo: &Bo, state: &mut BoState, pages: Range<u64>) {
        if let Some(dirty) = &mut state.driver.dirty {
            dirty.pre_unmap(bo.node.start, pages, &mut self.tables(task));
        }
    }

    /// Takes `pages` from every process and loses no write (`vmw_bo_dirty_unmap`).
    pub fn bo_dirty_unmap(&self, task: &Task, bo: &Bo, state: &mut BoState, pages: Range<u64>) {
        if let Some(dirty) = &mut state.driver.dirty {
            dirty.unmap(bo.node.start, pages, &mut self.tables(task));
        }
    }

    /// Moves an object, if it is not pinned (`ttm_bo_validate`). Out of MOB memory its resources are unbound
    /// first and their content read back.
    pub fn bo_move(&self, task: &Task, bo: &Bo, state: &mut BoState, to: MemType) -> Result<()> {
        if state.mem_type == to {
            return Ok(());
        }
        if state.pin_count != 0 {
            return Err(Error::Busy);
        }
        self.bo_move_notify(task, state, to)?;
        let through_pci = state.mem_type == MemType::Vram || to == MemType::Vram;
        if self.machine.upstream.profile.zaps_on_move() || through_pci {
            self.bo_zap(task, bo, state);
        }
        if state.mem_type == MemType::Mob {
            self.mob_bind(mob_id(bo)?, None);
        }
        if to == MemType::Mob {
            if !state.tt.populate(&self.machine) {
                return Err(Error::NoMemory);
            }
            let frames: Option<Vec<_>> = (0..bo.num_pages()).map(|page| state.tt.page(page)).collect();
            self.mob_bind(mob_id(bo)?, Some(&frames.ok_or(Error::NoMemory)?));
        }
        state.mem_type = to;
        Ok(())
    }

    /// `vmw_bo_move_notify`.
    fn bo_move_notify(&self, task: &Task, state: &mut BoState, to: MemType) -> Result<()> {
        if state.mem_type == MemType::Mob && to != MemType::Mob {
            resource::unbind_list(self, state)?;
            // The readback must have landed before the pages go anywhere.
            state.fences.wait(task, Usage::Bookkeep, false).map_err(|_| Error::DeviceLost)?;
        }
        Ok(())
    }

    /// Takes all mappings of an object away before its pages change.
    fn bo_zap(&self, task: &Task, bo: &Bo, state: &mut BoState) {
        if !self.machine.upstream.quirks.zap_loses_dirty {
            self.bo_dirty_pre_unmap(task, bo, state, 0..bo.num_pages());
        }
        unmap_mapping_range(task, &self.mapping, &bo.node, true);
    }

    /// Writes an object's pages out (`ttm_bo_swapout`).
    pub fn bo_swapout(&self, task: &Task, bo: &Bo) -> Result<()> {
        let mut state = bo.reserve(task);
        self.bo_move(task, bo, &mut state, MemType::System)?;
        self.bo_zap(task, bo, &mut state);
        state.tt.swapout(&self.machine);
        Ok(())
    }

    /// Puts a fence behind all commands so far on an object (`vmw_bo_fence_single`). `kernel`: faults wait
    /// for it.
    pub fn bo_fence_single(&self, state: &mut BoState, kernel: bool) -> Result<Fence> {
        let fence = self.emit_fence()?;
        let usage = match self.machine.upstream.profile.has_resv_usage() {
            true if kernel => Usage::Kernel,
            _ => Usage::Write,
        };
        state.fences.add(fence.clone(), usage);
        if kernel {
            state.fences.moving = Some(fence.clone());
        }
        Ok(fence)
    }
}

/// The device's name for an object in MOB memory.
pub fn mob_id(bo: &Bo) -> Result<MobId> {
    u32::try_from(bo.id).map(MobId).map_err(|_| Error::NoMemory)
}

/// Counts a resource of class `prio` (`vmw_bo_prio_add`).
pub(super) fn prio_add(state: &mut BoState, prio: usize) {
    state.driver.res_prios[prio] += 1;
    prio_adjust(state);
}

/// Counts it out again (`vmw_bo_prio_del`).
pub(super) fn prio_del(state: &mut BoState, prio: usize) {
    state.driver.res_prios[prio] -= 1;
    prio_adjust(state);
}

/// The highest class that has resources decides (`vmw_bo_prio_adjust`).
fn prio_adjust(state: &mut BoState) {
    let highest = state.driver.res_prios.iter().rposition(|count| *count != 0);
    state.priority =
        highest.map_or(DEFAULT_PRIORITY, |class| u32::try_from(class).expect("a handful of classes"));
}

/// The objects of a batch, all reserved.
#[derive(Debug, Default)]
pub struct ReservedBos<'a>(pub Vec<(&'a Arc<Bo>, BoReserved<'a>)>);

impl ReservedBos<'_> {
    /// The state of an object, if it is among them.
    pub fn state(&mut self, bo: &Arc<Bo>) -> Option<&mut BoState> {
        self.0.iter_mut().find(|(reserved, _)| Arc::ptr_eq(reserved, bo)).map(|(_, state)| &mut **state)
    }
}

impl From<WaitError> for Error {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Interrupted => Self::Interrupted,
            WaitError::DeviceLost => Self::DeviceLost,
        }
    }
}
