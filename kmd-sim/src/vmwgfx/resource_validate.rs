//! Kernel file: `vmwgfx_resource.c`: a resource's part in a batch: made ready before it, evicted to make room
//! for it, and what it is when the batch is on its way.

use super::bo::{Bo, BoState, ReservedBos};
use super::drv::VmwPrivate;
use super::resource::{Resource, mob_attach, mob_detach, transfer_to_res};
use crate::addr::pages_of;
use crate::error::{Error, Result};
use crate::lockdep::Task;
use crate::mm::machine::Point;
use crate::sync::Arc;

/// Evictions that may fail before a validation does (`VMW_RES_EVICT_ERR_COUNT`).
const EVICT_ERR_COUNT: u32 = 10;

/// Makes a resource ready for a batch (`vmw_resource_do_validate`). `dirtying`: the batch will write it.
fn do_validate(
    dev: &VmwPrivate,
    task: &Task,
    res: &Arc<Resource>,
    mut backing: Option<(&Bo, &mut BoState)>,
    dirtying: bool,
) -> Result<()> {
    let func = &res.func;
    if res.state().id.is_none() {
        let id = func.create(dev, &res.state())?;
        res.state().id = Some(id);
    }
    if let Some((bo, state)) = &mut backing
        && (!func.needs_backup() || !res.state().attached())
    {
        let bound = func.bind(dev, &mut res.state(), bo, state);
        if let Err(error) = bound {
            func.destroy(dev, &res.state())?;
            res.state().id = None;
            return Err(error);
        }
        if func.needs_backup() {
            mob_attach(res, state);
        }
    }
    let Some((bo, state)) = backing else { return Ok(()) };
    follow_tracker(dev, res, state)?;
    if res.state().dirty.is_none() {
        return Ok(());
    }
    if dirtying && !res.state().res_dirty {
        dev.machine.reached(Point::BeforeUnmap);
        let pages = pages_of(&res.state().bytes());
        dev.bo_dirty_unmap(task, bo, state, pages.start..pages.end.min(bo.num_pages()));
    }
    transfer_to_res(dev, task, state, res);
    let mut inner = res.state();
    let Some(id) = inner.id else { return Err(Error::Invalid) };
    inner.dirty.as_mut().map_or(Ok(()), |dirty| dirty.sync(dev, id))
}

/// A resource that is not coherent tracks its parts for as long as its object is tracked for another.
fn follow_tracker(dev: &VmwPrivate, res: &Arc<Resource>, state: &BoState) -> Result<()> {
    let mut inner = res.state();
    if inner.coherent || !inner.attached() {
        return Ok(());
    }
    if state.driver.dirty.is_none() {
        inner.dirty = None;
    } else if inner.dirty.is_none()
        && let Some(allocated) = res.func.dirty_alloc(dev)
    {
        inner.dirty = Some(allocated?);
    }
    Ok(())
}

/// As `do_validate`, and makes room on the device where it takes that (`vmw_resource_validate`).
pub fn validate(
    dev: &VmwPrivate,
    task: &Task,
    res: &Arc<Resource>,
    bos: &mut ReservedBos<'_>,
    dirtying: bool,
) -> Result<()> {
    let mut failures = 0;
    loop {
        let backing = res.state().backing.clone();
        let reserved = backing.as_ref().and_then(|bo| Some((&**bo, bos.state(bo)?)));
        match do_validate(dev, task, res, reserved, dirtying) {
            Err(Error::Busy) => {}
            result => return result,
        }
        let res_type = res.func.res_type();
        let victim = dev.lru().entry(res_type).or_default().pop_front();
        let Some(victim) = victim.filter(|_| res.func.may_evict()) else { return Err(Error::Busy) };
        if let Err(error) = evict_trylock(dev, task, &victim, bos) {
            dev.lru().entry(res_type).or_default().push_back(victim);
            failures += 1;
            if error == Error::Interrupted || failures > EVICT_ERR_COUNT {
                return Err(error);
            }
        }
    }
}

/// Evicts a resource whose object nobody else has reserved.
fn evict_trylock(
    dev: &VmwPrivate,
    task: &Task,
    victim: &Arc<Resource>,
    bos: &mut ReservedBos<'_>,
) -> Result<()> {
    let backing = victim.state().backing.clone();
    let Some(bo) = backing else { return do_evict(dev, victim, None) };
    if let Some(state) = bos.state(&bo) {
        return do_evict(dev, victim, Some(state));
    }
    let mut state = bo.try_reserve(task).ok_or(Error::Busy)?;
    do_evict(dev, victim, Some(&mut state))
}

/// Gives the device's copy of a resource up; its content stays in the guest copy (`vmw_resource_do_evict`).
pub fn do_evict(dev: &VmwPrivate, res: &Arc<Resource>, state: Option<&mut BoState>) -> Result<()> {
    let attached = res.state().attached();
    if let Some(state) = state
        && (!res.func.needs_backup() || attached)
    {
        let readback = res.state().res_dirty;
        res.func.unbind(dev, &mut res.state(), readback, state)?;
        mob_detach(res, state);
    }
    res.func.destroy(dev, &res.state())?;
    let mut inner = res.state();
    inner.id = None;
    inner.backup_dirty = true;
    inner.res_dirty = false;
    Ok(())
}

/// What becomes of a resource after its batch.
#[derive(Debug, Default)]
pub struct Unreserve {
    /// Whether the batch left it dirty, if it says anything about that.
    pub dirty: Option<bool>,
    /// A new backing object, or none, and the offset there.
    pub switch: Option<(Option<Arc<Bo>>, u64)>,
}

/// Ends a resource's part in a batch (`vmw_resource_unreserve`).
pub fn unreserve(
    dev: &VmwPrivate,
    task: &Task,
    res: &Arc<Resource>,
    bos: &mut ReservedBos<'_>,
    what: Unreserve,
) -> Result<()> {
    let res_type = res.func.res_type();
    if dev.lru().get(&res_type).is_some_and(|lru| lru.iter().any(|other| Arc::ptr_eq(other, res))) {
        return Ok(());
    }
    let switched = what.switch.is_some();
    if let Some((new, offset)) = what.switch {
        switch_backup(dev, task, res, bos, new.as_ref(), offset)?;
    }
    let mut inner = res.state();
    if let Some(dirty) = what.dirty {
        inner.res_dirty = dirty;
    }
    let evictable = res.func.may_evict() && inner.id.is_some() && inner.pin_count == 0;
    if switched && inner.res_dirty && !dev.machine.upstream.quirks.switch_leaves_pages_mapped {
        // What was written to the new object before is older than what the device has.
        let backing = inner.backing.clone();
        if let Some(tracker) = backing.and_then(|bo| bos.state(&bo)?.driver.dirty.as_mut()) {
            tracker.clear_res(&inner.bytes());
        }
    }
    drop(inner);
    if evictable {
        dev.lru().entry(res_type).or_default().push_back(Arc::clone(res));
    }
    Ok(())
}

fn switch_backup(
    dev: &VmwPrivate,
    task: &Task,
    res: &Arc<Resource>,
    bos: &mut ReservedBos<'_>,
    new: Option<&Arc<Bo>>,
    offset: u64,
) -> Result<()> {
    let (old, coherent) = {
        let inner = res.state();
        (inner.backing.clone(), inner.coherent)
    };
    let same = match (&old, new) {
        (Some(old), Some(new)) => Arc::ptr_eq(old, new),
        (None, None) => true,
        _ => false,
    };
    if same {
        // Validation took a reference in case it was another.
        if let (true, Some(bo)) = (coherent, &old) {
            dev.bo_dirty_release(bos.state(bo).ok_or(Error::Invalid)?);
        }
        let attached = res.state().attached();
        match &old {
            Some(bo) if attached && res.state().offset != offset && !by_old_offset(dev) => {
                let state = bos.state(bo).ok_or(Error::Invalid)?;
                mob_detach(res, state);
                res.state().offset = offset;
                mob_attach(res, state);
            }
            _ => res.state().offset = offset,
        }
        return Ok(());
    }
    if let Some(bo) = &old {
        let state = bos.state(bo).ok_or(Error::Invalid)?;
        mob_detach(res, state);
        if coherent {
            dev.bo_dirty_release(state);
        }
    }
    if !by_old_offset(dev) {
        res.state().offset = offset;
    }
    res.state().backing = new.cloned();
    if let Some(bo) = new {
        let state = bos.state(bo).ok_or(Error::Invalid)?;
        task.warn_on(coherent && state.driver.dirty.is_none(), "a coherent resource on an untracked object");
        mob_attach(res, state);
    }
    res.state().offset = offset;
    Ok(())
}

fn by_old_offset(dev: &VmwPrivate) -> bool {
    dev.machine.upstream.quirks.attach_by_old_offset
}
