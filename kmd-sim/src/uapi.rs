//! All that the driver above may call (kernel: `uapi/drm/vmwgfx_drm.h`).

use std::ops::Range;

pub use crate::error::{Error, Result};
pub use crate::svga::HostDevice;
pub use crate::sys::memory::SharedMem;
pub use crate::vmwgfx::bo::{BoId, Sync};
pub use crate::vmwgfx::execbuf::Device;
pub use crate::vmwgfx::fence::ContextId;
pub use crate::vmwgfx::resource::{Access, ResourceId};

use crate::mmu::uffd::Uffd;

/// Least address space reserved for guest pages, in bytes. Sparse: it costs nothing until it is used.
const ARENA_BYTES: u64 = 64 << 30;

/// Counters since the device was created. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Times an object was mapped.
    pub maps: u64,
    /// Batches with commands that were submitted.
    pub batches: u64,
    /// Scan calls.
    pub scans: u64,
    /// Time spent scanning.
    pub scan_ns: u64,
    /// Pages the scans reported.
    pub pages_dirty: u64,
    /// Bytes in them that the CPU had changed; a store of the value that was there is none.
    pub cpu_bytes_written: u64,
    /// Bytes of the CPU that host memory was given.
    pub bytes_flushed: u64,
    /// Time spent comparing and storing them.
    pub flush_ns: u64,
    /// Times completed batches were looked at.
    pub pulls: u64,
    /// Bytes stored to guest pages.
    pub bytes_pulled: u64,
    /// Time spent comparing and storing them.
    pub pull_ns: u64,
    /// Bytes explicit flushes moved.
    pub explicit_bytes_flushed: u64,
    /// Bytes explicit invalidates moved.
    pub explicit_bytes_invalidated: u64,
}

impl Stats {
    /// Adds another device's counters.
    pub fn add(&mut self, other: &Self) {
        // By name, so that a new counter cannot be forgotten.
        let Self {
            maps,
            batches,
            scans,
            scan_ns,
            pages_dirty,
            cpu_bytes_written,
            bytes_flushed,
            flush_ns,
            pulls,
            bytes_pulled,
            pull_ns,
            explicit_bytes_flushed,
            explicit_bytes_invalidated,
        } = other;
        self.maps += maps;
        self.batches += batches;
        self.scans += scans;
        self.scan_ns += scan_ns;
        self.pages_dirty += pages_dirty;
        self.cpu_bytes_written += cpu_bytes_written;
        self.bytes_flushed += bytes_flushed;
        self.flush_ns += flush_ns;
        self.pulls += pulls;
        self.bytes_pulled += bytes_pulled;
        self.pull_ns += pull_ns;
        self.explicit_bytes_flushed += explicit_bytes_flushed;
        self.explicit_bytes_invalidated += explicit_bytes_invalidated;
    }
}

/// Says why writes cannot be tracked in this process; leaves nothing behind.
pub fn probe_tracker() -> Result<()> {
    Uffd::probe()
}

impl<H: HostDevice> Device<H> {
    /// A device with room for `guest_bytes` bytes of mapped memory. Nothing is installed in the process
    /// before the first object is mapped.
    pub fn new(host: H, guest_bytes: u64) -> Self {
        Self::with_arena(host, guest_bytes.saturating_mul(2).max(ARENA_BYTES))
    }

    /// Creates a buffer object over host memory.
    pub fn bo_create(&self, size: u64, sync: Sync, memory: H::Memory) -> BoId {
        self.reserve().bo_create(size, sync, memory)
    }

    /// Destroys a buffer object, mapped or not.
    pub fn bo_destroy(&self, bo: BoId) {
        self.reserve().bo_destroy(bo);
    }

    /// Maps a buffer object; the address stays the same for its life.
    pub fn bo_map(&self, bo: BoId) -> Result<SharedMem> {
        self.reserve().bo_map(&self.host, bo)
    }

    /// Unmaps a buffer object.
    pub fn bo_unmap(&self, bo: BoId) {
        self.reserve().bo_unmap(bo);
    }

    /// Copies exactly `bytes` of an explicit object to host memory; does nothing for a coherent one.
    pub fn explicit_flush(&self, bo: BoId, bytes: Range<u64>) -> Result<()> {
        self.reserve().explicit_copy(bo, bytes, true)
    }

    /// Copies exactly `bytes` of an explicit object from host memory; does nothing for a coherent one.
    pub fn explicit_invalidate(&self, bo: BoId, bytes: Range<u64>) -> Result<()> {
        self.reserve().explicit_copy(bo, bytes, false)
    }

    /// Attaches a resource on `bytes` of an object.
    pub fn resource_attach(&self, bo: BoId, id: ResourceId, bytes: Range<u64>, access: Access) {
        self.reserve().resource_attach(bo, id, bytes, access);
    }

    /// Detaches the resource that starts at `offset`.
    pub fn resource_detach(&self, bo: BoId, id: ResourceId, offset: u64) {
        self.reserve().resource_detach(bo, id, offset);
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.reserve().stats
    }

    /// The counters, unless the device is busy: for the moments that must not wait.
    pub fn try_stats(&self) -> Option<Stats> {
        self.try_reserve().map(|state| state.stats)
    }

    /// The host device.
    pub fn host(&self) -> &H {
        &self.host
    }
}
