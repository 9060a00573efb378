//! The soft device: executes the commands of a stream, on copies of surfaces that are its own.
//!
//! It is as deterministic as it can be: it has no thread, and does the next command when it is told to, or
//! when somebody waits for a fence. So a test decides what is done at any moment, and when a fence passes.
//! What a driver must not do, such as draw to a surface that the device does not know, is a [`DeviceError`].
//!
//! | module | what it is |
//! |---|---|
//! | [`surface`] | the device's copies, in the layout of guest memory |
//! | [`context`] | views, bindings, and what draws do |
//! | [`memory`] | guest memory as the device sees it |
//!
//! To add a command, add it to [`crate::svga::cmd`] and to the `match` in `State::execute`.

pub mod context;
pub mod memory;
pub mod surface;

use std::collections::{BTreeMap, VecDeque};

use self::context::DeviceContext;
use self::memory::{GuestPages, MobMemory};
use self::surface::HostSurface;
use crate::mmu::soft::Hardware;
use crate::mmu::soft::phys::Pfn;
use crate::svga::cmd::{Command, CommandStream, TRANSFER_READ_HOST, TRANSFER_WRITE_HOST};
use crate::svga::format::SurfaceFormat;
use crate::svga::surface_layout::SurfaceMetadata;
use crate::svga::types::{Box3d, ContextId, ImageId, MobId, SurfaceId};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use crate::ttm::resv::{Engine, Timeline};

/// A command that made no sense to the device, which went on to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceError {
    /// The command.
    pub command: Command,
    /// Why not.
    pub why: &'static str,
}

/// Says why a command makes no sense.
pub(crate) type Executed = Result<(), &'static str>;

const NO_SURFACE: &str = "no such surface";
const NO_MOB: &str = "no such memory object";
const NO_CONTEXT: &str = "no such context";

/// A device.
#[derive(Debug)]
pub struct SoftDevice {
    hardware: Arc<Hardware>,
    stream: Arc<Mutex<CommandStream>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Command>,
    surfaces: BTreeMap<SurfaceId, HostSurface>,
    mobs: BTreeMap<MobId, Arc<dyn MobMemory>>,
    contexts: BTreeMap<ContextId, DeviceContext>,
    /// The context of DX commands.
    current: Option<ContextId>,
    executed: Vec<Command>,
    errors: Vec<DeviceError>,
}

impl SoftDevice {
    /// A device that sees a machine's memory, with an empty stream.
    pub fn new(hardware: &Arc<Hardware>) -> Arc<Self> {
        Arc::new(Self { hardware: Arc::clone(hardware), stream: Arc::default(), state: Mutex::default() })
    }

    /// Where its commands come from.
    pub fn stream(&self) -> &Arc<Mutex<CommandStream>> {
        &self.stream
    }

    /// The device's copy of a surface, in the layout of guest memory.
    pub fn surface_bytes(&self, sid: SurfaceId) -> Option<Vec<u8>> {
        self.state().surfaces.get(&sid).map(|surface| surface.bytes().to_vec())
    }

    /// Takes out what was executed since the last call.
    pub fn take_executed(&self) -> Vec<Command> {
        std::mem::take(&mut self.state().executed)
    }

    /// Takes out what made no sense.
    pub fn take_errors(&self) -> Vec<DeviceError> {
        std::mem::take(&mut self.state().errors)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for SoftDevice {
    fn step(&self, timeline: &Timeline) -> bool {
        let mut state = self.state();
        if state.queue.is_empty() {
            let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
            state.queue.extend(stream.take());
        }
        let Some(command) = state.queue.pop_front() else { return false };
        state.executed.push(command);
        if let Err(why) = state.execute(command) {
            state.errors.push(DeviceError { command, why });
        }
        if let Command::Fence { seqno } = command {
            // Under the lock: who finds the queue empty finds the fence signaled.
            timeline.signal(seqno.into());
        }
        true
    }

    fn define_mob(&self, mob: MobId, frames: &[Pfn]) {
        self.state().mobs.insert(mob, Arc::new(GuestPages::new(&self.hardware, frames)));
    }

    fn destroy_mob(&self, mob: MobId) {
        self.state().mobs.remove(&mob);
    }
}

impl State {
    fn execute(&mut self, command: Command) -> Executed {
        use Command as C;
        match command {
            // Whoever steps the device signals it.
            C::Fence { .. } => {}
            C::DefineGbSurface { sid, flags, format, mip_levels, array_size, multisample_count, size } => {
                let format = SurfaceFormat::from_id(format).ok_or("no such format")?;
                let metadata = SurfaceMetadata {
                    flags,
                    format,
                    mip_levels,
                    array_size,
                    multisample_count,
                    base_size: size,
                };
                self.surfaces.insert(sid, HostSurface::new(&metadata)?);
            }
            C::DestroyGbSurface { sid } => {
                self.surfaces.remove(&sid).ok_or(NO_SURFACE)?;
            }
            C::BindGbSurface { sid, mob } => self.bind(sid, mob, 0)?,
            C::BindGbSurfaceAtOffset { sid, mob, offset } => self.bind(sid, mob, offset.into())?,
            C::UpdateGbImage { sid, face, mipmap, image_box } => {
                self.update(ImageId { sid, face, mipmap }, image_box)?;
            }
            C::DxUpdateSubresource { sid, sub_resource, image_box } => {
                self.surface(sid)?.update(sub_resource, image_box)?;
            }
            C::UpdateGbSurface { sid } => self.surface(sid)?.update_all()?,
            C::ReadbackGbSurface { sid } => self.surface(sid)?.readback_all()?,
            C::ReadbackGbImage { image } => {
                let surface = self.surface(image.sid)?;
                surface.readback(surface.sub(image)?)?;
            }
            C::DxReadbackSubresource { sid, sub_resource } => self.surface(sid)?.readback(sub_resource)?,
            C::InvalidateGbSurface { sid } => self.surface(sid)?.invalidate_all(),
            C::InvalidateGbImage { image } => {
                let surface = self.surface(image.sid)?;
                surface.invalidate(surface.sub(image)?)?;
            }
            C::DxInvalidateSubresource { sid, sub_resource } => {
                self.surface(sid)?.invalidate(sub_resource)?;
            }
            // Shaders have no effect that shows.
            C::DefineGbShader { .. } | C::DestroyGbShader { .. } | C::BlitSurfaceToScreen { .. } => {}
            C::BindGbShader { mob: MobId::INVALID, .. } => {}
            C::BindGbShader { mob, .. } => {
                self.mob(mob)?;
            }
            _ => return self.execute_copy(command),
        }
        Ok(())
    }

    /// Commands that copy between surfaces.
    fn execute_copy(&mut self, command: Command) -> Executed {
        use Command as C;
        match command {
            C::SurfaceCopy { src, dest, copy_box } => {
                let (src_sub, dest_sub) =
                    (self.surface(src.sid)?.sub(src)?, self.surface(dest.sid)?.sub(dest)?);
                self.copy((src.sid, src_sub, copy_box.from()), (dest.sid, dest_sub, copy_box.to))
            }
            C::DxPredCopyRegion { dest, dest_sub, src, src_sub, copy_box } => {
                self.copy((src, src_sub, copy_box.from()), (dest, dest_sub, copy_box.to))
            }
            C::IntraSurfaceCopy { image, copy_box } => {
                let sub = self.surface(image.sid)?.sub(image)?;
                self.copy((image.sid, sub, copy_box.from()), (image.sid, sub, copy_box.to))
            }
            C::DxBufferCopy { dest, src, dest_x, src_x, width } => {
                let part = |x| Box3d::new(x, 0, 0, width, 1, 1);
                self.copy((src, 0, part(src_x)), (dest, 0, part(dest_x)))
            }
            C::SurfaceStretchBlt { src, dest, box_src, box_dest } => {
                let sub = self.surface(src.sid)?.sub(src)?;
                let texels = self.surface(src.sid)?.sample(sub, box_src, box_dest)?;
                let surface = self.surface(dest.sid)?;
                surface.put(surface.sub(dest)?, box_dest, &texels)
            }
            C::DxTransferFromBuffer {
                src,
                src_offset,
                src_pitch,
                src_slice_pitch,
                dest,
                dest_sub,
                dest_box,
            } => {
                let buffer = self.surface(src)?.bytes().to_vec();
                let surface = self.surface(dest)?;
                let row = surface.row_bytes(dest_box);
                let mut texels = Vec::new();
                for z in 0..dest_box.d as usize {
                    for y in 0..surface.rows(dest_box) {
                        let at = src_offset as usize + z * src_slice_pitch as usize + y * src_pitch as usize;
                        texels.extend_from_slice(buffer.get(at..at + row).ok_or("beyond the buffer")?);
                    }
                }
                surface.put(dest_sub, dest_box, &texels)
            }
            C::SurfaceDma { guest, host, transfer, copy_box } => {
                let memory = self.mob(guest.mob)?;
                let surface = self.surface(host.sid)?;
                let sub = surface.sub(host)?;
                let mut texels = surface.get(sub, copy_box.to)?;
                let row = surface.row_bytes(copy_box.to);
                let pitch = if guest.pitch == 0 { row as u64 } else { guest.pitch.into() };
                for (y, bytes) in texels.chunks_mut(row.max(1)).enumerate() {
                    let at = u64::from(guest.offset) + y as u64 * pitch;
                    match transfer {
                        _ if at + bytes.len() as u64 > memory.size() => {
                            return Err("beyond the memory object");
                        }
                        TRANSFER_WRITE_HOST => memory.read(at, bytes),
                        TRANSFER_READ_HOST => memory.write(at, bytes),
                        _ => return Err("no such transfer"),
                    }
                }
                surface.put(sub, copy_box.to, &texels)
            }
            _ => self.execute_context(command),
        }
    }

    fn surface(&mut self, sid: SurfaceId) -> Result<&mut HostSurface, &'static str> {
        self.surfaces.get_mut(&sid).ok_or(NO_SURFACE)
    }

    fn mob(&self, mob: MobId) -> Result<Arc<dyn MobMemory>, &'static str> {
        self.mobs.get(&mob).cloned().ok_or(NO_MOB)
    }

    fn bind(&mut self, sid: SurfaceId, mob: MobId, offset: u64) -> Executed {
        let memory = match mob {
            MobId::INVALID => None,
            mob => Some(self.mob(mob)?),
        };
        self.surface(sid)?.bind(memory, offset);
        Ok(())
    }

    fn update(&mut self, image: ImageId, image_box: Box3d) -> Executed {
        let surface = self.surface(image.sid)?;
        surface.update(surface.sub(image)?, image_box)
    }

    fn copy(&mut self, from: (SurfaceId, u32, Box3d), to: (SurfaceId, u32, Box3d)) -> Executed {
        let texels = self.surface(from.0)?.get(from.1, from.2)?;
        self.surface(to.0)?.put(to.1, to.2, &texels)
    }
}

#[cfg(test)]
mod tests;
