//! Kernel file: `vmwgfx_execbuf.c`, its command table: what each command of a batch uses, and what it leaves
//! dirty.
//!
//! To add a command, add it to the `match` of [`SwContext::check`]. A command that is not there is not for
//! users.

use std::collections::BTreeMap;

use super::binding::{BindingPoint, BindingState};
use super::bo::Bo;
use super::context::Context;
use super::file::DrmFile;
use super::gb_surface::Surface;
use super::validation::{DirtyFlag, ValidationContext};
use crate::error::{Error, Result};
use crate::lockdep::Task;
use crate::svga::cmd::{Command, TRANSFER_WRITE_HOST};
use crate::svga::types::{ContextId, MobId, SurfaceId, ViewId, ViewKind};
use crate::sync::Arc;

/// A context that a batch uses (`struct vmw_ctx_validation_info`).
#[derive(Debug)]
pub(super) struct CtxNode {
    /// The context.
    pub(super) context: Arc<Context>,
    /// Its bindings as the batch will leave them.
    pub(super) staged: BindingState,
}

/// A batch that is being looked at (`struct vmw_sw_context`).
#[derive(Debug)]
pub(super) struct SwContext<'a> {
    file: &'a DrmFile,
    task: &'a Task,
    dx_context: Option<ContextId>,
    /// What it uses.
    pub(super) validation: ValidationContext,
    /// Contexts it uses, by handle.
    pub(super) contexts: BTreeMap<ContextId, CtxNode>,
    /// Surfaces it names, by handle.
    pub(super) surfaces: BTreeMap<SurfaceId, Arc<Surface>>,
    /// Memory objects it names, by handle.
    pub(super) bos: BTreeMap<MobId, Arc<Bo>>,
}

use DirtyFlag::{Clear, None as Unchanged, Set};

impl<'a> SwContext<'a> {
    /// A batch without commands.
    pub(super) fn new(file: &'a DrmFile, task: &'a Task) -> Self {
        Self {
            file,
            task,
            dx_context: None,
            validation: ValidationContext::new(),
            contexts: BTreeMap::new(),
            surfaces: BTreeMap::new(),
            bos: BTreeMap::new(),
        }
    }

    /// Says which context DX commands are for (`vmw_execbuf_tie_context`).
    pub(super) fn tie_context(&mut self, cid: ContextId) -> Result<()> {
        if !self.file.context(cid)?.dx {
            return Err(Error::Invalid);
        }
        self.context(cid)?;
        self.dx_context = Some(cid);
        Ok(())
    }

    /// A context that is used: with it everything that is bound to it (`vmw_resource_context_res_add`).
    fn context(&mut self, cid: ContextId) -> Result<&mut CtxNode> {
        if !self.contexts.contains_key(&cid) {
            let context = self.file.context(cid)?;
            let staged = {
                let _binding = self.file.dev.binding_mutex.lock(self.task);
                context.bindings().state.clone()
            };
            self.validation.add_resource(&context.res, Set);
            let profile = self.file.dev.machine.upstream.profile;
            for (point, surface) in staged.surfaces() {
                let flag = if point.dirtying(profile) { Set } else { Unchanged };
                self.validation.add_resource(&surface.res, flag);
            }
            self.contexts.insert(cid, CtxNode { context, staged });
        }
        self.contexts.get_mut(&cid).ok_or(Error::Invalid)
    }

    fn dx(&mut self) -> Result<&mut CtxNode> {
        self.context(self.dx_context.ok_or(Error::Invalid)?)
    }

    /// A surface that is used (`vmw_cmd_res_check`); none for the handle of none.
    fn surface(&mut self, sid: SurfaceId, flag: DirtyFlag) -> Result<Option<Arc<Surface>>> {
        if sid == SurfaceId::INVALID {
            return Ok(None);
        }
        let surface = match self.surfaces.get(&sid) {
            Some(surface) => Arc::clone(surface),
            None => self.file.surface(sid)?,
        };
        self.validation.add_resource(&surface.res, flag);
        self.surfaces.insert(sid, Arc::clone(&surface));
        Ok(Some(surface))
    }

    /// The surface behind a view of the DX context, which is used (`vmw_view_id_val_add`).
    fn view(&mut self, kind: ViewKind, view: ViewId, flag: DirtyFlag) -> Result<Option<Arc<Surface>>> {
        if view == ViewId::INVALID {
            return Ok(None);
        }
        let surface = self.dx()?.staged.view(kind, view).ok_or(Error::Invalid)?;
        self.validation.add_resource(&surface.res, flag);
        Ok(Some(surface))
    }

    fn define_view(&mut self, kind: ViewKind, view: ViewId, sid: SurfaceId) -> Result<()> {
        let surface = self.surface(sid, Unchanged)?.ok_or(Error::Invalid)?;
        self.dx()?.staged.define_view(kind, view, &surface);
        Ok(())
    }

    /// Binds a surface to the DX context.
    fn bind(&mut self, point: BindingPoint, sid: SurfaceId, flag: DirtyFlag) -> Result<()> {
        let surface = self.surface(sid, flag)?;
        self.dx()?.staged.bind(point, surface.as_ref(), None);
        Ok(())
    }

    /// Binds a view to the DX context (`vmw_view_bindings_add`).
    fn bind_view(
        &mut self,
        point: BindingPoint,
        kind: ViewKind,
        view: ViewId,
        flag: DirtyFlag,
    ) -> Result<()> {
        let surface = self.view(kind, view, flag)?;
        self.dx()?.staged.bind(point, surface.as_ref(), Some(view));
        Ok(())
    }

    /// A draw writes what is bound. Upstream has said so when the context was first used, and that a later
    /// readback makes it clean; but a draw may come after that (quirk Q-06).
    fn drawn(&mut self, cid: ContextId, dispatch: bool) -> Result<()> {
        let upstream = self.file.dev.machine.upstream;
        if upstream.quirks.last_dirty_flag_wins {
            return Ok(());
        }
        let bound: Vec<_> = self.context(cid)?.staged.surfaces().collect();
        for (point, surface) in bound {
            if point.written_by(dispatch, upstream.profile) {
                self.validation.res_set_dirty(&surface.res, Set);
            }
        }
        Ok(())
    }

    fn dx_drawn(&mut self, dispatch: bool) -> Result<()> {
        self.drawn(self.dx_context.ok_or(Error::Invalid)?, dispatch)
    }

    fn mob(&mut self, mob: MobId) -> Result<Arc<Bo>> {
        let bo = self.file.bo(mob)?;
        self.validation.add_bo(&bo);
        self.bos.insert(mob, Arc::clone(&bo));
        Ok(bo)
    }

    /// The batch gives a surface another guest copy (`vmw_cmd_switch_backup`).
    fn switch_backup(&mut self, sid: SurfaceId, mob: MobId, offset: u32) -> Result<()> {
        let surface = self.file.surface(sid)?;
        let first_usage = self.validation.add_resource(&surface.res, Unchanged);
        let new = match mob {
            MobId::INVALID => None,
            mob => Some(self.mob(mob)?),
        };
        let (offset, size) = (u64::from(offset), surface.res.state().size);
        if new.as_ref().is_some_and(|bo| bo.size.next_multiple_of(4096) < offset + size) {
            return Err(Error::Invalid);
        }
        self.validation.res_switch_backup(&surface.res, new, offset, first_usage);
        self.surfaces.insert(sid, surface);
        Ok(())
    }

    /// Looks at one command (`vmw_cmd_check`).
    pub(super) fn check(&mut self, command: &Command) -> Result<()> {
        use Command as C;
        match *command {
            C::SurfaceCopy { src, dest, .. } | C::SurfaceStretchBlt { src, dest, .. } => {
                self.surface(src.sid, Unchanged)?;
                self.surface(dest.sid, Set)?;
            }
            C::DxBufferCopy { src, dest, .. }
            | C::DxPredCopyRegion { src, dest, .. }
            | C::DxTransferFromBuffer { src, dest, .. } => {
                self.surface(src, Unchanged)?;
                self.surface(dest, Set)?;
            }
            C::IntraSurfaceCopy { image, .. } => {
                self.surface(image.sid, Set)?;
            }
            C::SurfaceDma { guest, host, transfer, .. } => {
                self.mob(guest.mob)?;
                self.surface(host.sid, if transfer == TRANSFER_WRITE_HOST { Set } else { Unchanged })?;
            }
            C::BlitSurfaceToScreen { src: image, .. }
            | C::ReadbackGbImage { image }
            | C::InvalidateGbImage { image } => {
                self.surface(image.sid, Unchanged)?;
            }
            C::UpdateGbImage { sid, .. }
            | C::DxUpdateSubresource { sid, .. }
            | C::DxReadbackSubresource { sid, .. }
            | C::DxInvalidateSubresource { sid, .. } => {
                self.surface(sid, Unchanged)?;
            }
            C::UpdateGbSurface { sid } | C::ReadbackGbSurface { sid } | C::InvalidateGbSurface { sid } => {
                self.surface(sid, Clear)?;
            }
            C::BindGbSurface { sid, mob } => self.switch_backup(sid, mob, 0)?,
            C::BindGbSurfaceAtOffset { sid, mob, offset } => self.switch_backup(sid, mob, offset)?,
            C::SetRenderTarget { cid, slot, target } => {
                let surface = self.surface(target.sid, Set)?;
                let point = BindingPoint::RenderTarget(slot);
                self.context(cid)?.staged.bind(point, surface.as_ref(), None);
            }
            C::SetTextureState { cid, stage, sid } => {
                let surface = self.surface(sid, Unchanged)?;
                self.context(cid)?.staged.bind(BindingPoint::Texture(stage), surface.as_ref(), None);
            }
            C::Clear { cid, .. } => {
                self.context(cid)?;
                self.drawn(cid, false)?;
            }
            C::DrawPrimitives { cid, vertices, .. } => {
                self.context(cid)?;
                self.surface(vertices, Unchanged)?;
                self.drawn(cid, false)?;
            }
            _ => self.check_dx(command)?,
        }
        Ok(())
    }

    /// Commands for the context of the batch.
    fn check_dx(&mut self, command: &Command) -> Result<()> {
        use BindingPoint as Point;
        use Command as C;
        use ViewKind as View;
        match *command {
            C::DxDefineShaderResourceView { view, sid } => self.define_view(View::ShaderResource, view, sid),
            C::DxDefineRenderTargetView { view, sid } => self.define_view(View::RenderTarget, view, sid),
            C::DxDefineDepthStencilView { view, sid } => self.define_view(View::DepthStencil, view, sid),
            C::DxSetSingleConstantBuffer { slot, sid } => {
                self.bind(Point::ConstantBuffer(slot), sid, Unchanged)
            }
            C::DxSetVertexBuffers { slot, sid } => self.bind(Point::VertexBuffer(slot), sid, Unchanged),
            C::DxSetIndexBuffer { sid } => self.bind(Point::IndexBuffer, sid, Unchanged),
            C::DxSetSoTargets { slot, sid } => self.bind(Point::StreamOutput(slot), sid, Set),
            C::DxSetShaderResources { slot, view } => {
                self.bind_view(Point::ShaderResource(slot), View::ShaderResource, view, Unchanged)
            }
            C::DxSetRenderTargets { depth_stencil, render_target } => {
                self.bind_view(Point::DepthStencil, View::DepthStencil, depth_stencil, Set)?;
                self.bind_view(Point::DxRenderTarget, View::RenderTarget, render_target, Set)
            }
            C::DxClearRenderTargetView { view, .. } => self.clear_view(View::RenderTarget, view),
            C::DxClearDepthStencilView { view, .. } => self.clear_view(View::DepthStencil, view),
            C::DxGenMips { view } => {
                let surface = self.view(View::ShaderResource, view, Unchanged)?.ok_or(Error::Invalid)?;
                self.validation.res_set_dirty(&surface.res, Set);
                Ok(())
            }
            C::DxDraw { .. } => self.dx_drawn(false),
            _ if self.file.dev.machine.upstream.profile.has_sm5() => self.check_sm5(command),
            _ => Err(Error::Invalid),
        }
    }

    /// Commands of shader model 5.
    fn check_sm5(&mut self, command: &Command) -> Result<()> {
        use BindingPoint as Point;
        use Command as C;
        let kind = ViewKind::UnorderedAccess;
        match *command {
            C::DxDefineUaView { view, sid } => self.define_view(kind, view, sid),
            C::DxClearUaViewUint { view, .. } | C::DxClearUaViewFloat { view, .. } => {
                self.clear_view(kind, view)
            }
            C::DxSetUaViews { slot, view } => self.bind_view(Point::UnorderedAccess(slot), kind, view, Set),
            C::DxSetCsUaViews { slot, view } => {
                self.bind_view(Point::ComputeUnorderedAccess(slot), kind, view, Set)
            }
            C::DxDrawInstancedIndirect { sid, .. } => {
                self.surface(sid, Unchanged)?;
                self.dx_drawn(false)
            }
            C::DxDispatch { .. } => self.dx_drawn(true),
            _ => Err(Error::Invalid),
        }
    }

    fn clear_view(&mut self, kind: ViewKind, view: ViewId) -> Result<()> {
        self.view(kind, view, Set)?.ok_or(Error::Invalid)?;
        Ok(())
    }
}
