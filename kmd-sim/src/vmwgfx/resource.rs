//! Kernel file: `vmwgfx_resource.c`: what commands name, each with a guest copy in a buffer object.
//!
//! # Who has the newer content
//! * A bit of the object's tracker, or a box of the resource's: the CPU wrote, and the device has not seen
//!   it.
//! * `res_dirty`: the device wrote, and the guest copy has not seen it. No process maps a page of such a
//!   resource, so that the CPU neither reads what is stale nor writes what would be overwritten.
//! * `backup_dirty`: the guest copy is newer as a whole, since the device's copy was given up.
//!
//! Attaching, detaching, validating and cleaning run under the reservation of the backing object; the state
//! of a resource is behind a lock of its own only because the compiler cannot know that.

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;

use super::bo::{Bo, BoState, PRIORITIES, prio_add, prio_del};
use super::drv::VmwPrivate;
use crate::addr::{PAGE_SIZE, pages_for, pages_of};
use crate::error::{Error, Result};
use crate::lockdep::Task;
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Types of resources: each has its list for eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResType {
    /// Surfaces with a guest copy.
    GbSurface,
    /// Surfaces without.
    LegacySurface,
    /// Contexts.
    Context,
    /// Shaders.
    Shader,
    /// Tables of a context's objects.
    Cotable,
}

/// Class of a resource that was never attached.
const INITIAL_PRIO: usize = 3;

/// Tracks which parts of one resource the CPU wrote, for types that have such a thing (`res->dirty`).
pub trait ResDirty: Debug + Send + Any {
    /// Bytes `bytes` of the object were written; the resource is on `resource` of it (`dirty_range_add`).
    fn range_add(&mut self, task: &Task, resource: &Range<u64>, bytes: &Range<u64>);

    /// Tells the device to fetch what was written, and forgets it (`dirty_sync`).
    fn sync(&mut self, dev: &VmwPrivate, id: u32) -> Result<()>;

    /// For those who know which type it is.
    fn as_any(&self) -> &dyn Any;
}

/// What a type of resource does (`struct vmw_res_func`). Callbacks get the state of the resource, and that of
/// its backing object.
pub trait ResFunc: Debug + Send + Sync {
    /// The type.
    fn res_type(&self) -> ResType;
    /// Whether it has a guest copy.
    fn needs_backup(&self) -> bool;
    /// Whether it can be made again from its guest copy.
    fn may_evict(&self) -> bool;
    /// Class while the device has written nothing, and while it has (`prio`, `dirty_prio`).
    fn prio(&self) -> (usize, usize);
    /// Makes the device's resource and says its number. [`Error::Busy`]: all are in use.
    fn create(&self, dev: &VmwPrivate, res: &ResState) -> Result<u32>;
    /// Unmakes it.
    fn destroy(&self, dev: &VmwPrivate, res: &ResState) -> Result<()>;
    /// Binds it to its backing object.
    fn bind(&self, dev: &VmwPrivate, res: &mut ResState, bo: &Bo, state: &mut BoState) -> Result<()>;
    /// Unbinds it, with its content read back or given up.
    fn unbind(&self, dev: &VmwPrivate, res: &mut ResState, readback: bool, state: &mut BoState)
    -> Result<()>;
    /// A tracker of parts (`dirty_alloc`); `None` for types that have none.
    fn dirty_alloc(&self, _dev: &VmwPrivate) -> Option<Result<Box<dyn ResDirty>>> {
        None
    }
    /// Reads the device's content back to the guest copy (`clean`); `None` for types that cannot.
    fn clean(&self, _dev: &VmwPrivate, _res: &ResState) -> Option<Result<()>> {
        None
    }
}

/// What changes about a resource.
#[derive(Debug)]
pub struct ResState {
    /// Its number on the device, once it was made.
    pub id: Option<u32>,
    /// Where its guest copy is (`guest_memory_bo`, once `backup`).
    pub backing: Option<Arc<Bo>>,
    /// First byte of it there.
    pub offset: u64,
    /// Bytes of it.
    pub size: u64,
    /// The device's content is newer.
    pub res_dirty: bool,
    /// The guest copy is newer as a whole (`guest_memory_dirty`).
    pub backup_dirty: bool,
    /// It was created coherent, and holds a reference to its object's tracker.
    pub coherent: bool,
    /// Reasons not to evict it.
    pub pin_count: u32,
    /// Which parts the CPU wrote.
    pub dirty: Option<Box<dyn ResDirty>>,
    /// Where in its object's tree it is, while it is attached.
    node: Option<u64>,
    used_prio: usize,
}

impl ResState {
    /// Its bytes of the backing object.
    pub fn bytes(&self) -> Range<u64> {
        self.offset..self.offset + self.size
    }

    /// Whether the device knows its backing object (`vmw_resource_mob_attached`).
    pub fn attached(&self) -> bool {
        self.node.is_some()
    }
}

/// A resource (`struct vmw_resource`).
#[derive(Debug)]
pub struct Resource {
    /// What its type does.
    pub func: Box<dyn ResFunc>,
    state: Mutex<ResState>,
}

impl Resource {
    /// A resource with a guest copy of `size` bytes, which is yet to be made.
    pub fn new(func: Box<dyn ResFunc>, size: u64) -> Arc<Self> {
        let state = ResState {
            id: None,
            backing: None,
            offset: 0,
            size,
            res_dirty: false,
            backup_dirty: false,
            coherent: false,
            pin_count: 0,
            dirty: None,
            node: None,
            used_prio: INITIAL_PRIO,
        };
        Arc::new(Self { func, state: Mutex::new(state) })
    }

    /// Its state. Never held across a call that takes another resource's.
    pub fn state(&self) -> MutexGuard<'_, ResState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts a resource into the tree of its backing object (`vmw_resource_mob_attach`).
pub fn mob_attach(res: &Arc<Resource>, state: &mut BoState) {
    let mut inner = res.state();
    let (prio, dirty_prio) = res.func.prio();
    inner.used_prio = if inner.res_dirty { dirty_prio } else { prio };
    inner.node = Some(inner.offset);
    debug_assert!(inner.used_prio < PRIORITIES);
    prio_add(state, inner.used_prio);
    let bytes = inner.bytes();
    drop(inner);
    state.driver.res_tree.insert(bytes, Arc::clone(res));
}

/// Takes it out (`vmw_resource_mob_detach`).
pub fn mob_detach(res: &Arc<Resource>, state: &mut BoState) {
    let (node, prio) = {
        let mut inner = res.state();
        (inner.node.take(), inner.used_prio)
    };
    if let Some(offset) = node {
        state.driver.res_tree.remove(offset, |attached| Arc::ptr_eq(attached, res));
        prio_del(state, prio);
    }
}

/// Pages of attached resources that the device has newer content of.
pub fn res_dirty_pages(state: &BoState) -> Vec<Range<u64>> {
    let dirty = state.driver.res_tree.iter().filter(|(_, res)| res.state().res_dirty);
    dirty.map(|(bytes, _)| pages_of(bytes)).collect()
}

/// Gives a resource its parts of what the object's tracker has (`vmw_bo_dirty_transfer_to_res`).
pub fn transfer_to_res(dev: &VmwPrivate, task: &Task, state: &mut BoState, res: &Arc<Resource>) {
    let mut inner = res.state();
    let bytes = inner.bytes();
    task.warn_on(!bytes.start.is_multiple_of(PAGE_SIZE), "a resource starts inside of a page");
    let Some(tracker) = &mut state.driver.dirty else { return };
    let beyond = dev.machine.upstream.quirks.transfer_beyond_resource;
    tracker.transfer_to_res(&bytes, beyond, |run| dirty_update(task, &mut inner, &run));
}

/// Pages of the object were written: `vmw_resource_dirty_update`.
fn dirty_update(task: &Task, res: &mut ResState, pages: &Range<u64>) {
    let resource = res.bytes();
    if let Some(dirty) = &mut res.dirty {
        dirty.range_add(task, &resource, &(pages.start * PAGE_SIZE..pages.end * PAGE_SIZE));
    }
}

/// Unbinds all resources of an object that is about to move away from the device
/// (`vmw_resource_unbind_list`).
pub fn unbind_list(dev: &VmwPrivate, state: &mut BoState) -> Result<()> {
    let attached: Vec<Arc<Resource>> = state.driver.res_tree.iter().map(|(_, res)| Arc::clone(res)).collect();
    for res in attached {
        {
            let mut inner = res.state();
            let readback = inner.res_dirty;
            res.func.unbind(dev, &mut inner, readback, state)?;
            inner.backup_dirty = true;
            inner.res_dirty = false;
        }
        mob_detach(&res, state);
    }
    Ok(())
}

/// The last user of a resource gives it back (`vmw_resource_release`).
pub fn release(dev: &VmwPrivate, task: &Task, res: &Arc<Resource>) -> Result<()> {
    if let Some(lru) = dev.lru().get_mut(&res.func.res_type()) {
        lru.retain(|other| !Arc::ptr_eq(other, res));
    }
    let backing = res.state().backing.take();
    if let Some(bo) = backing {
        let mut state = bo.reserve(task);
        if res.state().attached() {
            res.func.unbind(dev, &mut res.state(), false, &mut state)?;
            mob_detach(res, &mut state);
        }
        let mut inner = res.state();
        inner.backup_dirty = false;
        inner.res_dirty = false;
        inner.dirty = None;
        if std::mem::take(&mut inner.coherent) {
            dev.bo_dirty_release(&mut state);
        }
    }
    if res.state().id.is_some() {
        res.func.destroy(dev, &res.state())?;
        res.state().id = None;
    }
    Ok(())
}

/// Reads back what the device has newer of `pages`, before the CPU gets to see them (`vmw_resources_clean`).
/// Returns how many pages may be mapped from the first on.
pub fn resources_clean(dev: &VmwPrivate, state: &mut BoState, pages: &Range<u64>) -> Result<u64> {
    let bytes = pages.start * PAGE_SIZE..pages.end * PAGE_SIZE;
    let misses = dev.machine.upstream.quirks.overlaps_missed;
    let candidates: Vec<(Range<u64>, Arc<Resource>)> = match misses {
        true => state.driver.res_tree.descend(&bytes),
        false => state.driver.res_tree.iter().collect(),
    }
    .into_iter()
    .take_while(|(of, _)| of.start < bytes.end)
    .filter(|(of, _)| misses || of.end > bytes.start)
    .map(|(of, res)| (of.clone(), Arc::clone(res)))
    .collect();
    let mut last = 0;
    for (of, res) in &candidates {
        clean(dev, res)?;
        last = if misses { of.end } else { last.max(of.end) };
    }
    if last <= bytes.start {
        return Ok(1);
    }
    if !misses {
        // Another resource that starts on the way may be newer on the device, and is not cleaned now.
        let ahead = state.driver.res_tree.iter().filter(|(of, _)| of.start >= bytes.end && of.start < last);
        let first_dirty = ahead.filter(|(_, res)| res.state().res_dirty).map(|(of, _)| of.start).min();
        last = first_dirty.map_or(last, |start| (start / PAGE_SIZE * PAGE_SIZE).max(bytes.end));
    }
    // Also with nothing to read back: what was read back for a fault that was interrupted is waited for.
    dev.bo_fence_single(state, true)?;
    Ok(pages_for(last - bytes.start))
}

/// Reads one resource back, if the device has newer content (`vmw_resource_clean`).
fn clean(dev: &VmwPrivate, res: &Arc<Resource>) -> Result<()> {
    let mut inner = res.state();
    if inner.res_dirty {
        res.func.clean(dev, &inner).ok_or(Error::Invalid)??;
        inner.res_dirty = false;
    }
    Ok(())
}
