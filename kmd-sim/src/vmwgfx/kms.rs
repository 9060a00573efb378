//! Kernel files: `vmwgfx_kms.c` and the pinning of `vmwgfx_resource.c`: surfaces that are shown.

use super::bo::{Bo, ReservedBos};
use super::drv::VmwPrivate;
use super::gb_surface::Surface;
use super::resource::Resource;
use super::resource_validate::{self, Unreserve};
use super::validation::{DirtyFlag, ValidationContext};
use crate::error::{Error, Result};
use crate::lockdep::Task;
use crate::svga::cmd::Command;
use crate::svga::types::{ImageId, SurfaceId};
use crate::sync::Arc;
use crate::ttm::object::MemType;
use crate::ttm::resv::Fence;

impl VmwPrivate {
    /// Shows a surface (`vmw_stdu_surface_do_dirty`, `vmw_kms_helper_dirty`): validates it, tells the device,
    /// and says that this has changed nothing of it.
    pub fn kms_update(&self, task: &Task, surface: &Surface) -> Result<Option<Fence>> {
        self.kms_command(task, surface, DirtyFlag::None, |sid| Command::BlitSurfaceToScreen {
            src: ImageId::first(sid),
            screen: 0,
        })
    }

    /// Validates a surface the way mode setting does, and has the device do something with it
    /// (`vmw_kms_helper_validation_finish`).
    pub fn kms_command(
        &self,
        task: &Task,
        surface: &Surface,
        flag: DirtyFlag,
        command: impl FnOnce(SurfaceId) -> Command,
    ) -> Result<Option<Fence>> {
        let mut validation = ValidationContext::new();
        validation.add_resource(&surface.res, flag);
        let prepared = validation.prepare(self, task, true)?;
        let emitted = surface.sid().ok_or(Error::Invalid);
        if let Err(error) = emitted.and_then(|sid| self.stream().emit(&[command(sid)])) {
            prepared.backoff()?;
            return Err(error);
        }
        let fence = self.emit_fence().ok();
        if fence.is_none() {
            self.wait_idle();
        }
        prepared.done(fence.as_ref())?;
        Ok(fence)
    }

    /// Keeps a resource where it is (`vmw_resource_pin`). It is validated as if the device were about to
    /// write it, as it may once it is shown.
    pub fn resource_pin(&self, task: &Task, res: &Arc<Resource>) -> Result<()> {
        let _cmdbuf = self.cmdbuf_mutex.lock(task);
        self.lru_remove(res);
        let mut state = res.state();
        let first = state.pin_count == 0;
        if res.func.needs_backup() && state.backing.is_none() {
            state.backing = Some(self.bo_create(state.offset + state.size));
        }
        let backing = state.backing.clone();
        drop(state);
        let pinned = if first { self.pin(task, res, backing.as_ref()) } else { Ok(()) };
        if pinned.is_ok() {
            res.state().pin_count += 1;
        }
        resource_validate::unreserve(self, task, res, &mut ReservedBos::default(), Unreserve::default())?;
        pinned
    }

    fn pin(&self, task: &Task, res: &Arc<Resource>, backing: Option<&Arc<Bo>>) -> Result<()> {
        let mut bos = ReservedBos::default();
        if let Some(bo) = backing {
            let mut state = bo.reserve_interruptible(task)?;
            if state.pin_count == 0 {
                self.bo_move(task, bo, &mut state, MemType::Mob)?;
            }
            bos.0.push((bo, state));
        }
        resource_validate::validate(self, task, res, &mut bos, true)?;
        for (_, state) in &mut bos.0 {
            state.pin_count += 1;
        }
        Ok(())
    }

    /// Lets it go again (`vmw_resource_unpin`).
    pub fn resource_unpin(&self, task: &Task, res: &Arc<Resource>) -> Result<()> {
        let _cmdbuf = self.cmdbuf_mutex.lock(task);
        self.lru_remove(res);
        let backing = res.state().backing.clone();
        let mut reserved = backing.as_ref().map(|bo| bo.reserve(task));
        let last = {
            let mut state = res.state();
            state.pin_count = state.pin_count.checked_sub(1).ok_or(Error::Invalid)?;
            state.pin_count == 0
        };
        if let (true, Some(state)) = (last, &mut reserved) {
            state.pin_count = state.pin_count.saturating_sub(1);
        }
        drop(reserved);
        resource_validate::unreserve(self, task, res, &mut ReservedBos::default(), Unreserve::default())
    }
}
