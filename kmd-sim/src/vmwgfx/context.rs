//! Kernel file: `vmwgfx_context.c`: contexts.
//!
//! The device keeps their state; unlike the kernel's they have no guest copy and are not evicted.

use super::binding::{BindingState, Scrubbed};
use super::bo::{Bo, BoState};
use super::drv::VmwPrivate;
use super::resource::{ResFunc, ResState, ResType, Resource};
use crate::error::{Error, Result};
use crate::svga::cmd::Command;
use crate::svga::types::ContextId;
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A context (`struct vmw_user_context`).
#[derive(Debug)]
pub struct Context {
    /// As a resource.
    pub res: Arc<Resource>,
    /// Whether it is of the DX kind: named once a batch, and not by each command.
    pub dx: bool,
    bindings: Mutex<ContextBindings>,
}

/// What is bound to a context.
#[derive(Debug, Default)]
pub struct ContextBindings {
    /// By the batches so far.
    pub state: BindingState,
    /// As far as the device knows.
    pub device: Scrubbed,
}

impl Context {
    /// A context (`vmw_context_define`).
    pub fn new(dx: bool) -> Self {
        let res = Resource::new(Box::new(ContextFunc { dx }), 0);
        Self { res, dx, bindings: Mutex::default() }
    }

    /// Its bindings. Under `binding_mutex`.
    pub(super) fn bindings(&self) -> MutexGuard<'_, ContextBindings> {
        self.bindings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device's number for it.
    pub fn cid(&self) -> Result<ContextId> {
        self.res.state().id.map(ContextId).ok_or(Error::Invalid)
    }
}

/// `vmw_gb_context_func`, `vmw_dx_context_func`.
#[derive(Debug)]
struct ContextFunc {
    dx: bool,
}

impl ResFunc for ContextFunc {
    fn res_type(&self) -> ResType {
        ResType::Context
    }

    fn needs_backup(&self) -> bool {
        false
    }

    fn may_evict(&self) -> bool {
        false
    }

    fn prio(&self) -> (usize, usize) {
        (3, 3)
    }

    fn create(&self, dev: &VmwPrivate, _: &ResState) -> Result<u32> {
        let id = dev.alloc_id(ResType::Context)?;
        let cid = ContextId(id);
        let define =
            if self.dx { Command::DxDefineContext { cid } } else { Command::DefineGbContext { cid } };
        if let Err(error) = dev.stream().emit(&[define]) {
            dev.release_id(ResType::Context, id);
            return Err(error);
        }
        Ok(id)
    }

    fn destroy(&self, dev: &VmwPrivate, res: &ResState) -> Result<()> {
        let Some(id) = res.id else { return Ok(()) };
        let cid = ContextId(id);
        let destroy =
            if self.dx { Command::DxDestroyContext { cid } } else { Command::DestroyGbContext { cid } };
        dev.stream().emit(&[destroy])?;
        dev.release_id(ResType::Context, id);
        Ok(())
    }

    fn bind(&self, _: &VmwPrivate, _: &mut ResState, _: &Bo, _: &mut BoState) -> Result<()> {
        Ok(())
    }

    fn unbind(&self, _: &VmwPrivate, _: &mut ResState, _: bool, _: &mut BoState) -> Result<()> {
        Ok(())
    }
}
