//! Contexts of the device: views, bindings, and what draws do.
//!
//! A draw writes every byte of every surface it is bound to: to the count it is given, XOR'ed with the byte
//! at the same place of what it reads. It is as much as a test needs to tell one draw from another, and old
//! contents from new.

use std::collections::BTreeMap;

use super::{Executed, NO_CONTEXT, NO_SURFACE, State};
use crate::svga::cmd::Command;
use crate::svga::types::{ContextId, SurfaceId, ViewId, ViewKind};

const NO_VIEW: &str = "no such view";

/// What a draw may be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// Reads.
    Input(u32),
    /// Writes, in the old way.
    Target(u32),
    /// Writes.
    RenderTarget,
    /// Writes.
    DepthStencil,
    /// Writes, as stream output.
    StreamOutput(u32),
    /// Reads and writes, in draws.
    UnorderedAccess(u32),
    /// Reads and writes, in dispatches.
    ComputeUnorderedAccess(u32),
}

/// State of one context.
#[derive(Debug, Default)]
pub struct DeviceContext {
    views: BTreeMap<(ViewKind, ViewId), SurfaceId>,
    bound: BTreeMap<Slot, SurfaceId>,
}

impl DeviceContext {
    fn bind(&mut self, slot: Slot, sid: SurfaceId) {
        match sid {
            SurfaceId::INVALID => self.bound.remove(&slot),
            sid => self.bound.insert(slot, sid),
        };
    }

    fn view(&self, kind: ViewKind, view: ViewId) -> Result<SurfaceId, &'static str> {
        match view {
            ViewId::INVALID => Ok(SurfaceId::INVALID),
            view => self.views.get(&(kind, view)).copied().ok_or(NO_VIEW),
        }
    }

    fn bind_view(&mut self, slot: Slot, kind: ViewKind, view: ViewId) -> Executed {
        let sid = self.view(kind, view)?;
        self.bind(slot, sid);
        Ok(())
    }
}

impl State {
    /// Commands that have a context.
    pub(super) fn execute_context(&mut self, command: Command) -> Executed {
        use Command as C;
        match command {
            C::DefineGbContext { cid } | C::DxDefineContext { cid } => {
                self.contexts.insert(cid, DeviceContext::default());
            }
            C::DestroyGbContext { cid } | C::DxDestroyContext { cid } => {
                self.contexts.remove(&cid).ok_or(NO_CONTEXT)?;
            }
            C::DxContext { cid } => {
                self.context(cid)?;
                self.current = Some(cid);
            }
            C::SetRenderTarget { cid, slot, target } => {
                self.context(cid)?.bind(Slot::Target(slot), target.sid);
            }
            C::SetTextureState { cid, stage, sid } => self.context(cid)?.bind(Slot::Input(stage), sid),
            C::Clear { cid, color } => {
                for sid in self.bound(cid, |slot| matches!(slot, Slot::Target(_)))? {
                    self.fill(sid, color)?;
                }
            }
            C::DrawPrimitives { cid, vertices, count } => {
                if vertices != SurfaceId::INVALID {
                    self.surface(vertices)?;
                }
                let inputs = self.bound(cid, |slot| matches!(slot, Slot::Input(_)))?;
                let outputs = self.bound(cid, |slot| matches!(slot, Slot::Target(_)))?;
                self.draw(&inputs, &outputs, count)?;
            }
            _ => return self.execute_dx(command),
        }
        Ok(())
    }

    /// Commands of the current context.
    fn execute_dx(&mut self, command: Command) -> Executed {
        use Command as C;
        let cid = self.current.ok_or(NO_CONTEXT)?;
        let context = self.context(cid)?;
        match command {
            C::DxDefineShaderResourceView { view, sid } => {
                context.views.insert((ViewKind::ShaderResource, view), sid);
            }
            C::DxDefineRenderTargetView { view, sid } => {
                context.views.insert((ViewKind::RenderTarget, view), sid);
            }
            C::DxDefineDepthStencilView { view, sid } => {
                context.views.insert((ViewKind::DepthStencil, view), sid);
            }
            C::DxDefineUaView { view, sid } => {
                context.views.insert((ViewKind::UnorderedAccess, view), sid);
            }
            C::DxSetShaderResources { slot, view } => {
                context.bind_view(Slot::Input(slot), ViewKind::ShaderResource, view)?;
            }
            C::DxSetRenderTargets { depth_stencil, render_target } => {
                context.bind_view(Slot::DepthStencil, ViewKind::DepthStencil, depth_stencil)?;
                context.bind_view(Slot::RenderTarget, ViewKind::RenderTarget, render_target)?;
            }
            C::DxSetUaViews { slot, view } => {
                context.bind_view(Slot::UnorderedAccess(slot), ViewKind::UnorderedAccess, view)?;
            }
            C::DxSetCsUaViews { slot, view } => {
                context.bind_view(Slot::ComputeUnorderedAccess(slot), ViewKind::UnorderedAccess, view)?;
            }
            C::DxSetSoTargets { slot, sid } => context.bind(Slot::StreamOutput(slot), sid),
            C::DxClearRenderTargetView { view, rgba } => {
                let sid = context.view(ViewKind::RenderTarget, view)?;
                self.fill(sid, rgba)?;
            }
            C::DxClearDepthStencilView { view, depth } => {
                let sid = context.view(ViewKind::DepthStencil, view)?;
                self.fill(sid, depth)?;
            }
            C::DxClearUaViewUint { view, value } | C::DxClearUaViewFloat { view, value } => {
                let sid = context.view(ViewKind::UnorderedAccess, view)?;
                self.fill(sid, value)?;
            }
            C::DxGenMips { view } => {
                let sid = context.view(ViewKind::ShaderResource, view)?;
                self.surface(sid)?.generate_mips()?;
            }
            C::DxDraw { vertex_count, .. } => self.dx_draw(cid, vertex_count)?,
            C::DxDrawInstancedIndirect { sid, offset } => {
                let count = self.count_in(sid, offset)?;
                self.dx_draw(cid, count)?;
            }
            C::DxDispatch { groups } => {
                let outputs = self.bound(cid, |slot| matches!(slot, Slot::ComputeUnorderedAccess(_)))?;
                self.draw(&[], &outputs, groups)?;
            }
            // Vertices, indices and constants are read, and change nothing that shows.
            C::DxSetSingleConstantBuffer { .. }
            | C::DxSetVertexBuffers { .. }
            | C::DxSetIndexBuffer { .. } => {}
            _ => return Err("no such command"),
        }
        Ok(())
    }

    fn dx_draw(&mut self, cid: ContextId, count: u32) -> Executed {
        let inputs = self.bound(cid, |slot| matches!(slot, Slot::Input(_)))?;
        let outputs = self.bound(cid, |slot| {
            use Slot::{DepthStencil, RenderTarget, StreamOutput, UnorderedAccess};
            matches!(slot, RenderTarget | DepthStencil | StreamOutput(_) | UnorderedAccess(_))
        })?;
        self.draw(&inputs, &outputs, count)
    }

    /// The first word of indirect arguments.
    fn count_in(&mut self, sid: SurfaceId, offset: u32) -> Result<u32, &'static str> {
        let bytes = self.surface(sid)?.bytes();
        let word = bytes.get(offset as usize..).and_then(<[u8]>::first_chunk).ok_or("beyond the buffer")?;
        Ok(u32::from_le_bytes(*word))
    }

    fn context(&mut self, cid: ContextId) -> Result<&mut DeviceContext, &'static str> {
        self.contexts.get_mut(&cid).ok_or(NO_CONTEXT)
    }

    fn bound(&mut self, cid: ContextId, wanted: fn(&Slot) -> bool) -> Result<Vec<SurfaceId>, &'static str> {
        let bound = &self.context(cid)?.bound;
        Ok(bound.iter().filter(|(slot, _)| wanted(slot)).map(|(_, sid)| *sid).collect())
    }

    fn fill(&mut self, sid: SurfaceId, value: u32) -> Executed {
        let pattern = value.to_le_bytes();
        for texel in self.surface(sid)?.bytes_mut().chunks_mut(pattern.len()) {
            texel.copy_from_slice(&pattern[..texel.len()]);
        }
        Ok(())
    }

    fn draw(&mut self, inputs: &[SurfaceId], outputs: &[SurfaceId], count: u32) -> Executed {
        let mut read = Vec::new();
        for sid in inputs {
            read.push(self.surfaces.get(sid).ok_or(NO_SURFACE)?.bytes().to_vec());
        }
        let [value, ..] = count.to_le_bytes();
        for sid in outputs {
            for (at, byte) in self.surface(*sid)?.bytes_mut().iter_mut().enumerate() {
                let read = read.iter().filter_map(|input| input.get(at));
                *byte = read.fold(value, |value, input| value ^ input);
            }
        }
        Ok(())
    }
}
