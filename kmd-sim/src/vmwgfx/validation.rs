//! Kernel file: `vmwgfx_validation.c`: all that a batch uses, made ready for the device at once.
//!
//! A [`ValidationContext`] collects; [`ValidationContext::prepare`] reserves and validates in the order that
//! coherency rests on: every object is reserved before anything is looked at, and scanned before any resource
//! is validated. What comes out, [`Prepared`], holds the reservations. It ends with [`Prepared::unreserve`]
//! and [`Prepared::fence`] once the batch was submitted, or with [`Prepared::backoff`].

use super::bo::{Bo, BoReserved, ReservedBos};
use super::drv::VmwPrivate;
use super::resource::{ResType, Resource};
use super::resource_validate::{self, Unreserve};
use crate::addr::pages_of;
use crate::error::{Error, Result};
use crate::lockdep::Task;
use crate::mm::machine::Point;
use crate::sync::{Arc, Ordering};
use crate::ttm::object::MemType;
use crate::ttm::resv::{Fence, Usage};

/// What a command says about the device's copy of a resource (`VMW_RES_DIRTY_NONE`, `_SET`, `_CLEAR`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirtyFlag {
    /// Nothing.
    None,
    /// The device writes it.
    Set,
    /// Device and guest have the same afterwards.
    Clear,
}

/// An object of a batch (`struct vmw_validation_bo_node`).
#[derive(Debug)]
struct BoNode {
    bo: Arc<Bo>,
    /// Coherent resources that will move to it: trackers are allocated where that may fail.
    coherent_count: u32,
}

/// A resource of a batch (`struct vmw_validation_res_node`).
#[derive(Debug)]
struct ResNode {
    res: Arc<Resource>,
    /// What the last command that said anything said.
    dirty: Option<bool>,
    /// The object that the batch binds it to, and the offset there.
    switch: Option<(Option<Arc<Bo>>, u64)>,
    /// It is bound by the batch before anything else uses it.
    no_buffer_needed: bool,
}

/// All that a batch uses (`struct vmw_validation_context`).
#[derive(Debug, Default)]
pub struct ValidationContext {
    bos: Vec<BoNode>,
    /// Contexts, which come first.
    ctx_resources: Vec<ResNode>,
    resources: Vec<ResNode>,
}

impl ValidationContext {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an object, once (`vmw_validation_add_bo`).
    pub fn add_bo(&mut self, bo: &Arc<Bo>) {
        if self.bo_node(bo).is_none() {
            self.bos.push(BoNode { bo: Arc::clone(bo), coherent_count: 0 });
        }
    }

    fn bo_node(&mut self, bo: &Arc<Bo>) -> Option<&mut BoNode> {
        self.bos.iter_mut().find(|node| Arc::ptr_eq(&node.bo, bo))
    }

    /// Adds a resource, or a flag to one that is there (`vmw_validation_add_resource`). Says whether it is
    /// new.
    pub fn add_resource(&mut self, res: &Arc<Resource>, flag: DirtyFlag) -> bool {
        let first_usage = self.node(res).is_none();
        if first_usage {
            let node = ResNode { res: Arc::clone(res), dirty: None, switch: None, no_buffer_needed: false };
            match res.func.res_type() {
                ResType::Context => self.ctx_resources.push(node),
                _ => self.resources.push(node),
            }
        }
        self.res_set_dirty(res, flag);
        first_usage
    }

    fn node(&mut self, res: &Arc<Resource>) -> Option<&mut ResNode> {
        let mut nodes = self.ctx_resources.iter_mut().chain(&mut self.resources);
        nodes.find(|node| Arc::ptr_eq(&node.res, res))
    }

    /// Says what the batch leaves of a resource; the last word counts (`vmw_validation_res_set_dirty`).
    pub fn res_set_dirty(&mut self, res: &Arc<Resource>, flag: DirtyFlag) {
        if let (Some(node), true) = (self.node(res), flag != DirtyFlag::None) {
            node.dirty = Some(flag == DirtyFlag::Set);
        }
    }

    /// Says that the batch binds a resource that was added to another object, or to none
    /// (`vmw_validation_res_switch_backup`).
    pub fn res_switch_backup(
        &mut self,
        res: &Arc<Resource>,
        new: Option<Arc<Bo>>,
        offset: u64,
        first_usage: bool,
    ) {
        if let Some(node) = self.node(res) {
            node.switch = Some((new, offset));
            node.no_buffer_needed |= first_usage;
        }
    }

    /// Takes the resources from the eviction lists and sees to it that they have an object each
    /// (`vmw_validation_res_reserve`).
    fn res_reserve(&mut self, dev: &VmwPrivate, task: &Task) -> Result<()> {
        let contexts = std::mem::take(&mut self.ctx_resources);
        self.resources.splice(0..0, contexts);
        let mut used = Vec::new();
        let mut coherent = Vec::new();
        for node in &self.resources {
            dev.lru_remove(&node.res);
            let mut state = node.res.state();
            if node.res.func.needs_backup() && state.backing.is_none() && !node.no_buffer_needed {
                state.backing = Some(dev.bo_create(state.offset + state.size));
            }
            used.extend(state.backing.clone());
            if let (true, Some((Some(new), _))) = (state.coherent, &node.switch) {
                coherent.push(Arc::clone(new));
            }
        }
        used.iter().for_each(|bo| self.add_bo(bo));
        for bo in coherent {
            let Some(node) = self.bo_node(&bo) else {
                task.warn_on(true, "a new backing object that is not validated");
                return Err(Error::Invalid);
            };
            node.coherent_count += 1;
        }
        Ok(())
    }

    /// Reserves all objects (`ttm_eu_reserve_buffers`): tries them in order, and where one is taken gives all
    /// back, waits for that one, and starts with it.
    fn bo_reserve<'a>(&'a self, task: &'a Task, interruptible: bool) -> Result<ReservedBos<'a>> {
        let mut contended: Option<usize> = None;
        loop {
            let mut reserved: Vec<Option<BoReserved<'_>>> = self.bos.iter().map(|_| None).collect();
            if let Some(at) = contended {
                let bo = &self.bos[at].bo;
                reserved[at] =
                    Some(if interruptible { bo.reserve_interruptible(task)? } else { bo.reserve(task) });
            }
            contended = self.bos.iter().zip(&mut reserved).position(|(node, slot)| {
                if slot.is_none() {
                    *slot = node.bo.try_reserve(task);
                }
                slot.is_none()
            });
            if contended.is_none() {
                let guards = reserved.into_iter().flatten();
                return Ok(ReservedBos(self.bos.iter().map(|node| &node.bo).zip(guards).collect()));
            }
        }
    }

    /// Reserves and validates everything (`vmw_validation_prepare`, and the same steps in
    /// `vmw_execbuf_process`). An error leaves nothing reserved.
    pub fn prepare<'a>(
        &'a mut self,
        dev: &'a VmwPrivate,
        task: &'a Task,
        interruptible: bool,
    ) -> Result<Prepared<'a>> {
        let reserved = self.res_reserve(dev, task);
        let context: &'a Self = self;
        let bos = match reserved.and_then(|()| context.bo_reserve(task, interruptible)) {
            Ok(bos) => bos,
            Err(error) => {
                context.res_backoff(dev, task)?;
                return Err(error);
            }
        };
        let mut prepared = Prepared { taken: vec![0; context.bos.len()], context, dev, task, bos };
        match prepared.bo_validate().and_then(|()| prepared.res_validate()) {
            Ok(()) => Ok(prepared),
            Err(error) => {
                prepared.backoff()?;
                Err(error)
            }
        }
    }

    /// `vmw_validation_res_unreserve` of a batch that was not submitted.
    fn res_backoff(&self, dev: &VmwPrivate, task: &Task) -> Result<()> {
        let mut none = ReservedBos::default();
        self.resources.iter().try_for_each(|node| {
            resource_validate::unreserve(dev, task, &node.res, &mut none, Unreserve::default())
        })
    }
}

/// A batch whose objects are reserved and whose resources are ready.
#[derive(Debug)]
pub struct Prepared<'a> {
    context: &'a ValidationContext,
    dev: &'a VmwPrivate,
    task: &'a Task,
    bos: ReservedBos<'a>,
    /// Tracker references that were taken for coherent resources, by object.
    taken: Vec<u32>,
}

impl Prepared<'_> {
    /// Places each object, and finds out what the CPU wrote of it (`vmw_validation_bo_validate`).
    fn bo_validate(&mut self) -> Result<()> {
        let (dev, task) = (self.dev, self.task);
        let nodes = self.context.bos.iter().zip(&mut self.bos.0).zip(&mut self.taken);
        for ((node, (bo, state)), taken) in nodes {
            if bo.cpu_writers.load(Ordering::SeqCst) != 0 {
                return Err(Error::Busy);
            }
            if state.pin_count == 0 {
                dev.bo_move(task, bo, state, MemType::Mob)?;
            }
            while *taken < node.coherent_count {
                dev.bo_dirty_add(task, bo, state)?;
                *taken += 1;
            }
            dev.bo_dirty_scan(task, bo, state);
        }
        Ok(())
    }

    /// Makes the resources ready (`vmw_validation_res_validate`). What it tells the device comes before the
    /// batch.
    fn res_validate(&mut self) -> Result<()> {
        for node in &self.context.resources {
            let dirtying = node.dirty == Some(true);
            resource_validate::validate(self.dev, self.task, &node.res, &mut self.bos, dirtying)?;
            if node.dirty.unwrap_or_else(|| node.res.state().res_dirty) {
                self.unmap_new_backup(node)?;
            }
        }
        Ok(())
    }

    /// A resource that the device will have newer must not be mapped in its new object, either. (Upstream
    /// has no such thing: quirk Q-17.)
    fn unmap_new_backup(&mut self, node: &ResNode) -> Result<()> {
        let Some((Some(bo), offset)) = &node.switch else { return Ok(()) };
        if self.dev.machine.upstream.quirks.switch_leaves_pages_mapped {
            return Ok(());
        }
        let pages = pages_of(&(*offset..offset + node.res.state().size));
        let state = self.bos.state(bo).ok_or(Error::Invalid)?;
        self.dev.bo_dirty_unmap(self.task, bo, state, pages);
        Ok(())
    }

    /// Says what the batch has left of its resources, and where they are now
    /// (`vmw_validation_res_unreserve`).
    pub fn unreserve(&mut self) -> Result<()> {
        self.dev.machine.reached(Point::BeforeUnreserve);
        for node in &self.context.resources {
            let what = Unreserve { dirty: node.dirty, switch: node.switch.clone() };
            resource_validate::unreserve(self.dev, self.task, &node.res, &mut self.bos, what)?;
        }
        Ok(())
    }

    /// Puts the batch's fence on all objects and gives them back (`vmw_validation_bo_fence`). Faults do not
    /// wait for it.
    pub fn fence(mut self, fence: Option<&Fence>) {
        self.fence_objects(fence);
    }

    fn fence_objects(&mut self, fence: Option<&Fence>) {
        for (_, mut state) in self.bos.0.drain(..) {
            if let Some(fence) = fence {
                state.fences.add(fence.clone(), Usage::Write);
            }
        }
    }

    /// Ends the validation of mode setting (`vmw_validation_done`).
    pub fn done(mut self, fence: Option<&Fence>) -> Result<()> {
        if !self.dev.machine.upstream.quirks.fence_before_unreserve {
            self.unreserve()?;
            self.fence_objects(fence);
            return Ok(());
        }
        self.fence_objects(fence);
        self.dev.machine.reached(Point::AfterFence);
        self.unreserve()
    }

    /// Gives everything back: the batch was not submitted (`vmw_validation_revert`,
    /// `vmw_validation_bo_backoff`). What was uploaded for it stays uploaded.
    pub fn backoff(mut self) -> Result<()> {
        let too_much = self.dev.machine.upstream.quirks.backoff_releases_too_much;
        let nodes = self.context.bos.iter().zip(&mut self.bos.0).zip(&self.taken);
        for ((node, (_, state)), taken) in nodes {
            for _ in 0..if too_much { node.coherent_count } else { *taken } {
                self.dev.bo_dirty_release(state);
            }
        }
        self.bos.0.clear();
        self.context.res_backoff(self.dev, self.task)
    }
}
