//! Kernel file: `vmwgfx_drv.c`, `vmwgfx_fence.c`: what belongs to the device as a whole.

use std::collections::{HashMap, VecDeque};

use super::resource::{ResType, Resource};
use crate::addr::{Pgoff, pages_for};
use crate::error::{Error, Result};
use crate::lockdep::{LockClass, SleepLock};
use crate::mm::address_space::AddressSpace;
use crate::mm::machine::Machine;
use crate::svga::cmd::{Command, CommandStream};
use crate::sync::{Arc, AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};
use crate::ttm::resv::{Engine, Fence, Timeline};

/// Page offset of the first object's window.
const FIRST_NODE: Pgoff = 0x1000;

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
    timeline: Arc<Timeline>,
    next_seqno: AtomicU64,
    next_object: Mutex<(u64, Pgoff)>,
    /// Resources that may be evicted, least recently used first (`res_lru`).
    lru: Mutex<HashMap<ResType, VecDeque<Arc<Resource>>>>,
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
            timeline: Timeline::new(engine),
            next_seqno: AtomicU64::new(1),
            next_object: Mutex::new((1, FIRST_NODE)),
            lru: Mutex::default(),
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

    /// A number and a window for an object of `size` bytes. Windows do not touch.
    pub(super) fn place(&self, size: u64) -> (u64, Pgoff) {
        let mut next = self.next_object.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, node) = *next;
        // Aligned, so that huge entries can map them.
        *next = (id + 1, (node + pages_for(size) + 1).next_multiple_of(512));
        (id, node)
    }

    /// The resources of one type that may be evicted.
    pub(super) fn lru(&self) -> MutexGuard<'_, HashMap<ResType, VecDeque<Arc<Resource>>>> {
        self.lru.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
