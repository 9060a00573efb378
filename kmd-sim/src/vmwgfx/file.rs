//! Kernel files: `ttm_object.c`, `vmwgfx_drv.c`, and the ioctls of `vmwgfx_surface.c`, `vmwgfx_bo.c` and
//! `vmwgfx_context.c`: what a program that opened the device has handles of.
//!
//! Commands of the user name things by handle, as surface, context or memory object; the stream names them by
//! the device's numbers.

use std::collections::BTreeMap;

use super::bo::Bo;
use super::context::Context;
use super::drv::VmwPrivate;
use super::gb_surface::Surface;
use super::resource;
use crate::error::{Error, Result};
use crate::lockdep::Task;
use crate::svga::surface_layout::SurfaceMetadata;
use crate::svga::types::{ContextId, MobId, SurfaceId};
use crate::sync::{Arc, Mutex, MutexGuard, Ordering, PoisonError};
use crate::ttm::resv::Usage;

/// Handles start here, so that none is taken for a number of the device.
const FIRST_HANDLE: u32 = 0x10000;

/// The device, opened (`struct vmw_fpriv`).
#[derive(Debug)]
pub struct DrmFile {
    /// The device.
    pub dev: Arc<VmwPrivate>,
    objects: Mutex<Objects>,
}

#[derive(Debug)]
struct Objects {
    next: u32,
    bos: BTreeMap<MobId, Arc<Bo>>,
    surfaces: BTreeMap<SurfaceId, Arc<Surface>>,
    contexts: BTreeMap<ContextId, Arc<Context>>,
}

impl Objects {
    fn handle(&mut self) -> u32 {
        self.next += 1;
        self.next
    }
}

/// What `GB_SURFACE_CREATE_EXT` is asked for (`struct drm_vmw_gb_surface_create_ext_req`).
#[derive(Clone, Debug)]
pub struct SurfaceCreate {
    /// Format, size, and so on.
    pub metadata: SurfaceMetadata,
    /// `drm_vmw_surface_flag_coherent`.
    pub coherent: bool,
    /// `drm_vmw_surface_flag_create_buffer`.
    pub create_buffer: bool,
    /// A buffer object that exists already.
    pub backing: Option<MobId>,
    /// Where in it the guest copy starts. The ioctl has no such thing: there it is 0.
    pub offset: u64,
    /// A surface of a device without memory objects.
    pub legacy: bool,
}

impl SurfaceCreate {
    /// A surface without a guest copy of its own, until it needs one.
    pub fn new(metadata: SurfaceMetadata) -> Self {
        Self { metadata, coherent: false, create_buffer: false, backing: None, offset: 0, legacy: false }
    }

    /// A coherent surface with a guest copy of its own.
    pub fn coherent(metadata: SurfaceMetadata) -> Self {
        Self { coherent: true, ..Self::new(metadata) }
    }
}

/// Flags of SYNCCPU (`enum drm_vmw_synccpu_flags`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCpu {
    /// To read.
    pub read: bool,
    /// To write.
    pub write: bool,
    /// Not to wait.
    pub dontblock: bool,
    /// Batches may use the object meanwhile.
    pub allow_cs: bool,
}

impl DrmFile {
    /// Opens a device.
    pub fn open(dev: &Arc<VmwPrivate>) -> Self {
        let objects = Objects {
            next: FIRST_HANDLE,
            bos: BTreeMap::new(),
            surfaces: BTreeMap::new(),
            contexts: BTreeMap::new(),
        };
        Self { dev: Arc::clone(dev), objects: Mutex::new(objects) }
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a buffer object (`vmw_bo_alloc_ioctl`).
    pub fn bo_create(&self, size: u64) -> MobId {
        self.bo_insert(self.dev.bo_create(size))
    }

    /// A handle for an object that was come by in another way (`ttm_prime_fd_to_handle`, and what
    /// `GB_SURFACE_REF` answers).
    pub fn bo_handle(&self, bo: &Arc<Bo>) -> MobId {
        let known =
            self.objects().bos.iter().find(|(_, known)| Arc::ptr_eq(known, bo)).map(|(handle, _)| *handle);
        known.unwrap_or_else(|| self.bo_insert(Arc::clone(bo)))
    }

    /// All surfaces.
    pub fn surfaces(&self) -> Vec<(SurfaceId, Arc<Surface>)> {
        self.objects().surfaces.iter().map(|(handle, surface)| (*handle, Arc::clone(surface))).collect()
    }

    /// All buffer objects: those with a handle, and those of surfaces.
    pub fn all_bos(&self) -> Vec<Arc<Bo>> {
        let objects = self.objects();
        let of_surfaces = objects.surfaces.values().filter_map(|surface| surface.res.state().backing.clone());
        let mut all: Vec<Arc<Bo>> = Vec::new();
        for bo in objects.bos.values().cloned().chain(of_surfaces) {
            if !all.iter().any(|known| Arc::ptr_eq(known, &bo)) {
                all.push(bo);
            }
        }
        all
    }

    fn bo_insert(&self, bo: Arc<Bo>) -> MobId {
        let mut objects = self.objects();
        let handle = MobId(objects.handle());
        objects.bos.insert(handle, bo);
        handle
    }

    /// Looks a buffer object up (`vmw_user_bo_lookup`).
    pub fn bo(&self, handle: MobId) -> Result<Arc<Bo>> {
        self.objects().bos.get(&handle).cloned().ok_or(Error::Invalid)
    }

    /// Gives a buffer object back (`vmw_bo_unref_ioctl`). It goes when nothing maps or uses it.
    pub fn bo_close(&self, task: &Task, handle: MobId) -> Result<()> {
        let bo = self.objects().bos.remove(&handle).ok_or(Error::Invalid)?;
        self.bo_put(task, bo);
        Ok(())
    }

    /// Gives a reference back; the last one frees the object.
    fn bo_put(&self, task: &Task, bo: Arc<Bo>) {
        if let Some(bo) = Arc::into_inner(bo) {
            self.dev.bo_free(task, &bo);
        }
    }

    /// Creates a surface (`vmw_gb_surface_define_internal`). A coherent one has a guest copy from the start.
    pub fn surface_create(&self, task: &Task, create: &SurfaceCreate) -> Result<SurfaceId> {
        let metadata = create.metadata;
        let size = u64::from(metadata.backing_size());
        if size == 0 {
            return Err(Error::Invalid);
        }
        let surface = match create.legacy {
            true => Surface::legacy(metadata),
            false => Surface::guest_backed(metadata),
        };
        let backing = match create.backing {
            Some(handle) => Some(self.bo(handle)?),
            None if create.create_buffer || create.coherent => Some(self.dev.bo_create(create.offset + size)),
            None => None,
        };
        if backing.as_ref().is_some_and(|bo| bo.num_pages() < (create.offset + size).div_ceil(4096)) {
            return Err(Error::Invalid);
        }
        {
            let mut state = surface.res.state();
            state.backing.clone_from(&backing);
            state.offset = create.offset;
        }
        if let (true, Some(bo)) = (create.coherent, &backing)
            && let Err(error) = self.make_coherent(task, &surface, bo)
        {
            // Takes back what was set up.
            resource::release(&self.dev, task, &surface.res)?;
            drop(surface);
            backing.into_iter().for_each(|bo| self.bo_put(task, bo));
            return Err(error);
        }
        let mut objects = self.objects();
        let handle = SurfaceId(objects.handle());
        objects.surfaces.insert(handle, Arc::new(surface));
        Ok(handle)
    }

    fn make_coherent(&self, task: &Task, surface: &Surface, bo: &Arc<Bo>) -> Result<()> {
        let mut reserved = bo.reserve(task);
        let dirty = surface.res.func.dirty_alloc(&self.dev).ok_or(Error::Invalid)?;
        self.dev.bo_dirty_add(task, bo, &mut reserved)?;
        let mut state = surface.res.state();
        state.coherent = true;
        state.dirty = Some(dirty?);
        Ok(())
    }

    /// Looks a surface up.
    pub fn surface(&self, handle: SurfaceId) -> Result<Arc<Surface>> {
        self.objects().surfaces.get(&handle).cloned().ok_or(Error::Invalid)
    }

    /// A surface's backing object (`GB_SURFACE_REF`): what a program maps.
    pub fn surface_backing(&self, handle: SurfaceId) -> Result<Arc<Bo>> {
        self.surface(handle)?.res.state().backing.clone().ok_or(Error::Invalid)
    }

    /// Destroys a surface (`vmw_surface_destroy_ioctl`).
    pub fn surface_destroy(&self, task: &Task, handle: SurfaceId) -> Result<()> {
        let surface = self.objects().surfaces.remove(&handle).ok_or(Error::Invalid)?;
        let backing = surface.res.state().backing.clone();
        resource::release(&self.dev, task, &surface.res)?;
        drop(surface);
        backing.into_iter().for_each(|bo| self.bo_put(task, bo));
        Ok(())
    }

    /// Creates a context (`vmw_context_define`).
    pub fn context_create(&self, dx: bool) -> ContextId {
        let mut objects = self.objects();
        let handle = ContextId(objects.handle());
        objects.contexts.insert(handle, Arc::new(Context::new(dx)));
        handle
    }

    /// Looks a context up.
    pub fn context(&self, handle: ContextId) -> Result<Arc<Context>> {
        self.objects().contexts.get(&handle).cloned().ok_or(Error::Invalid)
    }

    /// Says that the CPU is about to use an object (`vmw_user_bo_synccpu_grab`): waits for the device, and
    /// keeps batches from using it. Says nothing about what is dirty.
    pub fn synccpu_grab(&self, task: &Task, handle: MobId, flags: SyncCpu) -> Result<()> {
        if !flags.read && !flags.write {
            return Err(Error::Invalid);
        }
        let bo = self.bo(handle)?;
        if flags.allow_cs {
            let pending = bo.reserve(task).fences.pending(Usage::Read);
            if flags.dontblock {
                return if pending.is_empty() { Ok(()) } else { Err(Error::Busy) };
            }
            // Not under the reservation: batches go on.
            let waited = pending.iter().try_for_each(|fence| fence.wait(task, true));
            return waited.map_err(|_| Error::Busy);
        }
        let reserved = match flags.dontblock {
            true => bo.try_reserve(task).ok_or(Error::Busy)?,
            false => bo.reserve_interruptible(task).map_err(|_| Error::Busy)?,
        };
        let pending = reserved.fences.pending(Usage::Read);
        if flags.dontblock && !pending.is_empty() {
            return Err(Error::Busy);
        }
        pending.iter().try_for_each(|fence| fence.wait(task, true)).map_err(|_| Error::Busy)?;
        bo.cpu_writers.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// The CPU is done (`vmw_user_bo_synccpu_release`).
    pub fn synccpu_release(&self, handle: MobId, flags: SyncCpu) -> Result<()> {
        let bo = self.bo(handle)?;
        if flags.allow_cs {
            return Ok(());
        }
        let less = |users: u64| users.checked_sub(1);
        let released = bo.cpu_writers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        released.map(drop).map_err(|_| Error::Invalid)
    }
}
