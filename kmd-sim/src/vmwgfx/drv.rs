//! Kernel file: `vmwgfx_drv.c`, `vmwgfx_fence.c`: what belongs to the device as a whole.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::resource::{ResType, Resource};
use crate::addr::{Pgoff, pages_for};
use crate::error::{Error, Result};
use crate::lockdep::{LockClass, SleepLock};
use crate::mm::address_space::AddressSpace;
use crate::mm::machine::Machine;
use crate::mmu::soft::phys::Pfn;
use crate::svga::cmd::{Command, CommandStream};
use crate::svga::types::MobId;
use crate::sync::{Arc, AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};
use crate::ttm::resv::{Engine, Fence, Timeline};

/// Page offset of the first object's window.
const FIRST_NODE: Pgoff = 0x1000;

/// Resources of a type the device has room for (`VMWGFX_NUM_GB_SURFACE`).
const MAX_IDS: u32 = 32768;

/// A device (`struct vmw_private`).
#[derive(Debug)]
pub struct VmwPrivate {
    /// The machine it is in.
    pub machine: Arc<Machine>,
    /// What processes map of it.
    pub mapping: Arc<AddressSpace>,
    /// The device understands `DX_UPDATE_SUBRESOURCE` (`has_sm4_context`).
    pub has_sm4: bool,
    /// Faults may map huge entries (`vmw_bo_vm_huge_fault`, Linux 5.7 to 5.16).
    pub huge_faults: bool,
    /// `cmdbuf_mutex`: one submission at a time.
    pub cmdbuf_mutex: SleepLock<()>,
    /// `binding_mutex`.
    pub binding_mutex: SleepLock<()>,
    stream: Arc<Mutex<CommandStream>>,
    engine: Arc<dyn Engine>,
    timeline: Arc<Timeline>,
    next_seqno: AtomicU64,
    next_object: Mutex<(u64, Pgoff)>,
    /// Resources that may be evicted, least recently used first (`res_lru`).
    lru: Mutex<HashMap<ResType, VecDeque<Arc<Resource>>>>,
    /// Numbers of resources of each type on the device (`res_idr`).
    ids: Mutex<HashMap<ResType, Ids>>,
}

/// Numbers in use.
#[derive(Debug)]
struct Ids {
    used: BTreeSet<u32>,
    limit: u32,
}

impl Default for Ids {
    fn default() -> Self {
        Self { used: BTreeSet::new(), limit: MAX_IDS }
    }
}

impl VmwPrivate {
    /// A device that reads commands from `stream`; `engine` executes them while somebody waits.
    pub fn new(machine: &Arc<Machine>, stream: Arc<Mutex<CommandStream>>, engine: Arc<dyn Engine>) -> Self {
        Self {
            machine: Arc::clone(machine),
            mapping: AddressSpace::new(machine),
            has_sm4: true,
            huge_faults: false,
            cmdbuf_mutex: SleepLock::new(LockClass::Cmdbuf, ()),
            binding_mutex: SleepLock::new(LockClass::Binding, ()),
            stream,
            timeline: Timeline::new(Arc::clone(&engine)),
            engine,
            next_seqno: AtomicU64::new(1),
            next_object: Mutex::new((1, FIRST_NODE)),
            lru: Mutex::default(),
            ids: Mutex::default(),
        }
    }

    /// The space for commands. Nothing else is locked while it is held.
    pub fn stream(&self) -> MutexGuard<'_, CommandStream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device's counter.
    pub fn timeline(&self) -> &Arc<Timeline> {
        &self.timeline
    }

    /// A fence behind all commands so far (`vmw_fence_create`, `vmw_cmd_send_fence`).
    pub fn emit_fence(&self) -> Result<Fence> {
        let mut stream = self.stream();
        let seqno = self.next_seqno.load(Ordering::SeqCst);
        // It starts at one, and no machine lives to see it wrap to zero, which stands for no fence.
        let word = u32::try_from(seqno).map_err(|_| Error::DeviceLost)?;
        stream.emit(&[Command::Fence { seqno: word }])?;
        self.next_seqno.store(seqno + 1, Ordering::SeqCst);
        Ok(Fence::new(&self.timeline, seqno))
    }

    /// Lets the device execute one command; false if there is none.
    pub fn step_device(&self) -> bool {
        self.engine.step(&self.timeline)
    }

    /// Waits without a fence until the device has done everything (`vmw_fallback_wait`).
    pub fn wait_idle(&self) {
        while self.step_device() {}
    }

    /// Says which pages a memory object has (`vmw_mob_bind`), or that it has none any more
    /// (`vmw_mob_unbind`).
    pub(super) fn mob_bind(&self, mob: MobId, frames: Option<&[Pfn]>) {
        match frames {
            Some(frames) => self.engine.define_mob(mob, frames),
            None => self.engine.destroy_mob(mob),
        }
    }

    /// A number for a resource (`vmw_resource_alloc_id`), or [`Error::Busy`].
    pub(super) fn alloc_id(&self, res_type: ResType) -> Result<u32> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let ids = ids.entry(res_type).or_default();
        let id = (0..ids.limit).find(|id| !ids.used.contains(id)).ok_or(Error::Busy)?;
        ids.used.insert(id);
        Ok(id)
    }

    /// A number is free again (`vmw_resource_release_id`).
    pub(super) fn release_id(&self, res_type: ResType, id: u32) {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.entry(res_type).or_default().used.remove(&id);
    }

    /// Makes the device one with room for `limit` resources of a type.
    pub fn limit_ids(&self, res_type: ResType, limit: u32) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).entry(res_type).or_default().limit = limit;
    }

    /// A number and a window for an object of `size` bytes. Windows do not touch.
    pub(super) fn place(&self, size: u64) -> (u64, Pgoff) {
        let mut next = self.next_object.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, node) = *next;
        // Aligned, so that huge entries can map them.
        *next = (id + 1, (node + pages_for(size) + 1).next_multiple_of(512));
        (id, node)
    }

    /// Keeps a resource from being evicted, until it is unreserved (`vmw_resource_reserve`).
    pub(super) fn lru_remove(&self, res: &Arc<Resource>) {
        if let Some(lru) = self.lru().get_mut(&res.func.res_type()) {
            lru.retain(|other| !Arc::ptr_eq(other, res));
        }
    }

    /// The resources of one type that may be evicted.
    pub(super) fn lru(&self) -> MutexGuard<'_, HashMap<ResType, VecDeque<Arc<Resource>>>> {
        self.lru.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
