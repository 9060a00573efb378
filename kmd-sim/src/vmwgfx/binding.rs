//! Kernel file: `vmwgfx_binding.c`: what is bound to a context, as far as batches said.
//!
//! The device has its own idea of it, by surface numbers. That becomes wrong when a surface is evicted, made
//! again under another number, or goes away: its bindings are *scrubbed*. So before a batch of the context
//! they are said again ([`Scrubbed::rebind`]).

use std::collections::BTreeMap;

use super::gb_surface::Surface;
use crate::svga::cmd::Command;
use crate::svga::types::{ContextId, ImageId, SurfaceId, ViewId, ViewKind};
use crate::sync::{Arc, Weak};
use crate::upstream::Profile;

/// Where something can be bound (`enum vmw_ctx_binding_type`, and its slot).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BindingPoint {
    /// A target to draw to, in the old way.
    RenderTarget(u32),
    /// A texture.
    Texture(u32),
    /// A target to draw to.
    DxRenderTarget,
    /// Depth and stencil.
    DepthStencil,
    /// What shaders read.
    ShaderResource(u32),
    /// Constants.
    ConstantBuffer(u32),
    /// Vertices.
    VertexBuffer(u32),
    /// Indices.
    IndexBuffer,
    /// Where vertices are written to.
    StreamOutput(u32),
    /// What draws read and write.
    UnorderedAccess(u32),
    /// What dispatches read and write.
    ComputeUnorderedAccess(u32),
}

impl BindingPoint {
    /// Whether the device may write what is bound here, with any batch of the context
    /// (`vmw_binding_dirtying`).
    pub fn dirtying(self, profile: Profile) -> bool {
        match self {
            Self::RenderTarget(_) | Self::DxRenderTarget | Self::DepthStencil | Self::StreamOutput(_) => true,
            Self::UnorderedAccess(_) | Self::ComputeUnorderedAccess(_) => profile.has_sm5(),
            _ => false,
        }
    }

    /// Whether a dispatch, or else a draw, writes what is bound here.
    pub fn written_by(self, dispatch: bool, profile: Profile) -> bool {
        self.dirtying(profile) && dispatch == matches!(self, Self::ComputeUnorderedAccess(_))
    }
}

/// What is bound at one point.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The surface, while it is there.
    pub surface: Weak<Surface>,
    /// By which view.
    pub view: Option<ViewId>,
}

impl Bound {
    fn sid(&self) -> Option<SurfaceId> {
        self.surface.upgrade()?.sid()
    }
}

/// Bindings and views of one context (`struct vmw_ctx_binding_state`).
#[derive(Clone, Debug, Default)]
pub struct BindingState {
    bound: BTreeMap<BindingPoint, Bound>,
    views: BTreeMap<(ViewKind, ViewId), Weak<Surface>>,
}

impl BindingState {
    /// Binds a surface (`vmw_binding_add`), or nothing.
    pub fn bind(&mut self, point: BindingPoint, surface: Option<&Arc<Surface>>, view: Option<ViewId>) {
        match surface {
            Some(surface) => {
                self.bound.insert(point, Bound { surface: Arc::downgrade(surface), view });
            }
            None => {
                self.bound.remove(&point);
            }
        }
    }

    /// Makes a view (`vmw_view_add`).
    pub fn define_view(&mut self, kind: ViewKind, view: ViewId, surface: &Arc<Surface>) {
        self.views.insert((kind, view), Arc::downgrade(surface));
    }

    /// The surface behind a view (`vmw_view_id_val_add`).
    pub fn view(&self, kind: ViewKind, view: ViewId) -> Option<Arc<Surface>> {
        self.views.get(&(kind, view))?.upgrade()
    }

    /// All that is bound and still there.
    pub fn surfaces(&self) -> impl Iterator<Item = (BindingPoint, Arc<Surface>)> {
        self.bound.iter().filter_map(|(point, bound)| Some((*point, bound.surface.upgrade()?)))
    }

    /// The command that binds what is bound at a point; one binds both depth and color.
    fn set(&self, cid: ContextId, point: BindingPoint) -> Command {
        let bound = |point| self.bound.get(&point).filter(|bound| bound.sid().is_some());
        let sid = bound(point).and_then(Bound::sid).unwrap_or(SurfaceId::INVALID);
        let view = |point| bound(point).and_then(|bound| bound.view).unwrap_or(ViewId::INVALID);
        match point {
            BindingPoint::RenderTarget(slot) => {
                Command::SetRenderTarget { cid, slot, target: ImageId::first(sid) }
            }
            BindingPoint::Texture(stage) => Command::SetTextureState { cid, stage, sid },
            BindingPoint::DxRenderTarget | BindingPoint::DepthStencil => Command::DxSetRenderTargets {
                depth_stencil: view(BindingPoint::DepthStencil),
                render_target: view(BindingPoint::DxRenderTarget),
            },
            BindingPoint::ShaderResource(slot) => Command::DxSetShaderResources { slot, view: view(point) },
            BindingPoint::ConstantBuffer(slot) => Command::DxSetSingleConstantBuffer { slot, sid },
            BindingPoint::VertexBuffer(slot) => Command::DxSetVertexBuffers { slot, sid },
            BindingPoint::IndexBuffer => Command::DxSetIndexBuffer { sid },
            BindingPoint::StreamOutput(slot) => Command::DxSetSoTargets { slot, sid },
            BindingPoint::UnorderedAccess(slot) => Command::DxSetUaViews { slot, view: view(point) },
            BindingPoint::ComputeUnorderedAccess(slot) => Command::DxSetCsUaViews { slot, view: view(point) },
        }
    }
}

/// What the device knows of a context's bindings.
#[derive(Clone, Debug, Default)]
pub struct Scrubbed {
    bound: BTreeMap<BindingPoint, SurfaceId>,
    views: BTreeMap<(ViewKind, ViewId), SurfaceId>,
}

impl Scrubbed {
    /// Commands that tell the device of bindings which are not what it knows (`vmw_binding_rebind_all`).
    pub fn rebind(&mut self, cid: ContextId, state: &BindingState) -> Vec<Command> {
        let mut commands = Vec::new();
        for ((kind, view), surface) in &state.views {
            let Some(sid) = surface.upgrade().and_then(|surface| surface.sid()) else { continue };
            if self.views.insert((*kind, *view), sid) != Some(sid) {
                commands.push(define_view(*kind, *view, sid));
            }
        }
        for (point, bound) in &state.bound {
            let sid = bound.sid();
            let known = match sid {
                Some(sid) => self.bound.insert(*point, sid),
                None => self.bound.remove(point),
            };
            let set = state.set(cid, *point);
            if known != sid && !commands.contains(&set) {
                commands.push(set);
            }
        }
        commands
    }

    /// The device has executed a batch that made the bindings `state`. All surfaces in it have numbers.
    pub fn commit(&mut self, state: &BindingState) {
        let sid = |surface: &Weak<Surface>| surface.upgrade().and_then(|surface| surface.sid());
        let views = state.views.iter();
        self.views = views.filter_map(|(key, surface)| Some((*key, sid(surface)?))).collect();
        let bound = state.bound.iter();
        self.bound = bound.filter_map(|(key, bound)| Some((*key, bound.sid()?))).collect();
    }
}

/// The command that makes a view.
fn define_view(kind: ViewKind, view: ViewId, sid: SurfaceId) -> Command {
    match kind {
        ViewKind::ShaderResource => Command::DxDefineShaderResourceView { view, sid },
        ViewKind::RenderTarget => Command::DxDefineRenderTargetView { view, sid },
        ViewKind::DepthStencil => Command::DxDefineDepthStencilView { view, sid },
        ViewKind::UnorderedAccess => Command::DxDefineUaView { view, sid },
    }
}
