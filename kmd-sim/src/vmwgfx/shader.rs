//! Kernel file: `vmwgfx_shader.c`: shaders, the resources that several of share one buffer object.

use super::bo::{Bo, BoState, mob_id};
use super::drv::VmwPrivate;
use super::resource::{ResFunc, ResState, ResType, Resource};
use crate::error::{Error, Result};
use crate::svga::cmd::Command;
use crate::svga::types::{MobId, ShaderId};
use crate::sync::Arc;

/// A shader whose code is `size` bytes, from byte `offset` of an object on (`vmw_gb_shader_init`).
pub fn shader(backing: &Arc<Bo>, offset: u64, size: u64) -> Result<Arc<Resource>> {
    let words = |bytes: u64| u32::try_from(bytes).map_err(|_| Error::Invalid);
    let func = GbShader { size: words(size)? };
    if words(offset)?.checked_add(func.size).is_none_or(|end| u64::from(end) > backing.size) {
        return Err(Error::Invalid);
    }
    let res = Resource::new(Box::new(func), size);
    let mut state = res.state();
    state.backing = Some(Arc::clone(backing));
    state.offset = offset;
    // It has code that the device never saw.
    state.backup_dirty = true;
    drop(state);
    Ok(res)
}

/// `vmw_gb_shader_func`.
#[derive(Debug)]
struct GbShader {
    size: u32,
}

impl ResFunc for GbShader {
    fn res_type(&self) -> ResType {
        ResType::Shader
    }

    fn needs_backup(&self) -> bool {
        true
    }

    fn may_evict(&self) -> bool {
        true
    }

    fn prio(&self) -> (usize, usize) {
        (3, 3)
    }

    fn create(&self, dev: &VmwPrivate, _: &ResState) -> Result<u32> {
        let id = dev.alloc_id(ResType::Shader)?;
        let define = Command::DefineGbShader { shid: ShaderId(id), kind: 0, size: self.size };
        if let Err(error) = dev.stream().emit(&[define]) {
            dev.release_id(ResType::Shader, id);
            return Err(error);
        }
        Ok(id)
    }

    fn destroy(&self, dev: &VmwPrivate, res: &ResState) -> Result<()> {
        let Some(id) = res.id else { return Ok(()) };
        dev.stream().emit(&[Command::DestroyGbShader { shid: ShaderId(id) }])?;
        dev.release_id(ResType::Shader, id);
        Ok(())
    }

    fn bind(&self, dev: &VmwPrivate, res: &mut ResState, bo: &Bo, _: &mut BoState) -> Result<()> {
        let shid = res.id.map(ShaderId).ok_or(Error::Invalid)?;
        let offset = u32::try_from(res.offset).map_err(|_| Error::Invalid)?;
        dev.stream().emit(&[Command::BindGbShader { shid, mob: mob_id(bo)?, offset }])?;
        res.backup_dirty = false;
        Ok(())
    }

    fn unbind(&self, dev: &VmwPrivate, res: &mut ResState, _: bool, state: &mut BoState) -> Result<()> {
        let shid = res.id.map(ShaderId).ok_or(Error::Invalid)?;
        dev.stream().emit(&[Command::BindGbShader { shid, mob: MobId::INVALID, offset: 0 }])?;
        if dev.bo_fence_single(state, false).is_err() {
            dev.wait_idle();
        }
        Ok(())
    }
}
