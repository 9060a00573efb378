//! Kernel file: `vmwgfx_surface.c`: surfaces as resources. What the CPU wrote of them is in
//! [`super::surface_dirty`].

use std::any::Any;
use std::ops::Range;

use super::bo::{Bo, BoState, mob_id};
use super::drv::VmwPrivate;
use super::resource::{ResDirty, ResFunc, ResState, ResType, Resource};
use super::surface_dirty::{SurfaceDirty, clean};
use crate::error::{Error, Result};
use crate::lockdep::Task;
use crate::svga::cmd::Command;
use crate::svga::surface_layout::SurfaceMetadata;
use crate::svga::types::{MobId, SurfaceId};
use crate::sync::Arc;
use crate::ttm::object::MemType;

/// All surfaces share their numbers.
const IDS: ResType = ResType::GbSurface;

/// A surface (`struct vmw_surface`).
#[derive(Debug)]
pub struct Surface {
    /// As a resource.
    pub res: Arc<Resource>,
    /// What it was created with.
    pub metadata: SurfaceMetadata,
}

impl Surface {
    /// A surface with a guest copy.
    pub fn guest_backed(metadata: SurfaceMetadata) -> Self {
        let func = GbSurface { metadata };
        Self { res: Resource::new(Box::new(func), metadata.backing_size().into()), metadata }
    }

    /// A surface of a device without memory objects.
    pub fn legacy(metadata: SurfaceMetadata) -> Self {
        let func = LegacySurface { metadata };
        Self { res: Resource::new(Box::new(func), metadata.backing_size().into()), metadata }
    }

    /// The device's number for it, while it has one.
    pub fn sid(&self) -> Option<SurfaceId> {
        self.res.state().id.map(SurfaceId)
    }
}

/// Makes the device's surface (`vmw_gb_surface_create`).
fn define(dev: &VmwPrivate, metadata: &SurfaceMetadata) -> Result<u32> {
    let id = dev.alloc_id(IDS)?;
    let made = dev.stream().emit(&[Command::DefineGbSurface {
        sid: SurfaceId(id),
        flags: metadata.flags,
        format: metadata.format.id(),
        mip_levels: metadata.mip_levels,
        array_size: metadata.array_size,
        multisample_count: metadata.multisample_count,
        size: metadata.base_size,
    }]);
    if let Err(error) = made {
        dev.release_id(IDS, id);
        return Err(error);
    }
    Ok(id)
}

/// Unmakes it (`vmw_gb_surface_destroy`).
fn undefine(dev: &VmwPrivate, res: &ResState) -> Result<()> {
    let Some(id) = res.id else { return Ok(()) };
    dev.stream().emit(&[Command::DestroyGbSurface { sid: SurfaceId(id) }])?;
    dev.release_id(IDS, id);
    Ok(())
}

/// `vmw_gb_surface_func`.
#[derive(Debug)]
struct GbSurface {
    metadata: SurfaceMetadata,
}

impl ResFunc for GbSurface {
    fn res_type(&self) -> ResType {
        ResType::GbSurface
    }

    fn needs_backup(&self) -> bool {
        true
    }

    fn may_evict(&self) -> bool {
        true
    }

    fn prio(&self) -> (usize, usize) {
        (1, 2)
    }

    fn create(&self, dev: &VmwPrivate, _: &ResState) -> Result<u32> {
        define(dev, &self.metadata)
    }

    fn destroy(&self, dev: &VmwPrivate, res: &ResState) -> Result<()> {
        undefine(dev, res)
    }

    /// `vmw_gb_surface_bind`.
    fn bind(&self, dev: &VmwPrivate, res: &mut ResState, bo: &Bo, state: &mut BoState) -> Result<()> {
        let sid = res.id.map(SurfaceId).ok_or(Error::Invalid)?;
        if state.mem_type != MemType::Mob {
            return Err(Error::Invalid);
        }
        let mob = mob_id(bo)?;
        let bind = match u32::try_from(res.offset).map_err(|_| Error::Invalid)? {
            0 => Command::BindGbSurface { sid, mob },
            offset => Command::BindGbSurfaceAtOffset { sid, mob, offset },
        };
        let update = res.backup_dirty.then_some(Command::UpdateGbSurface { sid });
        let commands: Vec<Command> = [bind].into_iter().chain(update).collect();
        dev.stream().emit(&commands)?;
        if let (true, Some(tracker)) = (res.backup_dirty, &mut state.driver.dirty) {
            // All of it is uploaded.
            tracker.clear_res(&res.bytes());
        }
        res.backup_dirty = false;
        Ok(())
    }

    /// `vmw_gb_surface_unbind`.
    fn unbind(
        &self,
        dev: &VmwPrivate,
        res: &mut ResState,
        readback: bool,
        state: &mut BoState,
    ) -> Result<()> {
        let sid = res.id.map(SurfaceId).ok_or(Error::Invalid)?;
        let first = match readback {
            true => Command::ReadbackGbSurface { sid },
            false => Command::InvalidateGbSurface { sid },
        };
        dev.stream().emit(&[first, Command::BindGbSurface { sid, mob: MobId::INVALID }])?;
        // A fault must not map pages that the readback has not reached.
        let awaited = !dev.machine.upstream.quirks.eviction_not_awaited;
        if dev.bo_fence_single(state, awaited).is_err() {
            dev.wait_idle();
        }
        Ok(())
    }

    fn dirty_alloc(&self, dev: &VmwPrivate) -> Option<Result<Box<dyn ResDirty>>> {
        let dirty = SurfaceDirty::alloc(&self.metadata, dev.machine.upstream);
        Some(dirty.map(|dirty| Box::new(dirty) as Box<dyn ResDirty>))
    }

    fn clean(&self, dev: &VmwPrivate, res: &ResState) -> Option<Result<()>> {
        let sid = SurfaceId(res.id?);
        Some(clean(sid, &mut dev.stream()))
    }
}

impl ResDirty for SurfaceDirty {
    fn range_add(&mut self, task: &Task, resource: &Range<u64>, bytes: &Range<u64>) {
        Self::range_add(self, resource, bytes, task);
    }

    fn sync(&mut self, dev: &VmwPrivate, id: u32) -> Result<()> {
        Self::sync(self, SurfaceId(id), dev.has_sm4, &mut dev.stream())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `vmw_legacy_surface_func`, of a device that is written to by DMA alone.
#[derive(Debug)]
struct LegacySurface {
    metadata: SurfaceMetadata,
}

impl ResFunc for LegacySurface {
    fn res_type(&self) -> ResType {
        ResType::LegacySurface
    }

    fn needs_backup(&self) -> bool {
        false
    }

    fn may_evict(&self) -> bool {
        false
    }

    fn prio(&self) -> (usize, usize) {
        (1, 1)
    }

    fn create(&self, dev: &VmwPrivate, _: &ResState) -> Result<u32> {
        define(dev, &self.metadata)
    }

    fn destroy(&self, dev: &VmwPrivate, res: &ResState) -> Result<()> {
        undefine(dev, res)
    }

    fn bind(&self, _: &VmwPrivate, _: &mut ResState, _: &Bo, _: &mut BoState) -> Result<()> {
        Ok(())
    }

    fn unbind(&self, _: &VmwPrivate, _: &mut ResState, _: bool, _: &mut BoState) -> Result<()> {
        Ok(())
    }
}
