//! All that the driver above may call (kernel: `uapi/drm/vmwgfx_drm.h`).

use std::ops::Range;

pub use crate::addr::PAGE_SIZE;
pub use crate::coherence::bo::{BoId, Sync};
pub use crate::coherence::bound::{Access, ResourceId};
pub use crate::coherence::device::Device;
pub use crate::coherence::fence::{ContextId, all_retired};
pub use crate::coherence::policy::Method;
pub use crate::coherence::write_set::{Extent, Write, Writes};
pub use crate::error::{Error, Result};
pub use crate::mmu::tracker::{Readback, TrackerChoice, TrackerKind};
pub use crate::stats::Stats;
pub use crate::svga::HostDevice;
pub use crate::sys::memory::SharedMem;
pub use crate::sys::view::Place;

/// Least address space reserved for guest pages, in bytes. Sparse: it costs nothing until it is used.
const ARENA_BYTES: u64 = 64 << 30;

impl<H: HostDevice> Device<H> {
    /// A device with room for `guest_bytes` bytes of mapped memory. Nothing is installed in the process
    /// before the first object is mapped.
    pub fn new(host: H, guest_bytes: u64, tracker: TrackerChoice, readback: Readback) -> Self {
        Self::with_arena(host, guest_bytes.saturating_mul(2).max(ARENA_BYTES), tracker, readback)
    }

    /// Has a device in which nothing was mapped yet follow certain policies.
    #[must_use]
    pub fn following(self, method: Method) -> Self {
        self.reserve().follow(method);
        self
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

    /// Maps the pages of `bytes` of an object that is not mapped at `place`, or where there is room. Once it
    /// is unmapped the addresses are in use for nothing else.
    pub fn bo_map_placed(&self, bo: BoId, bytes: Range<u64>, place: Option<Place>) -> Result<SharedMem> {
        self.reserve().bo_map_placed(&self.host, bo, bytes, place)
    }

    /// The bytes of an object whose memory has an image ([`HostDevice::is_image`]) that must be put there
    /// before the object is mapped: the device may have written them.
    pub fn bo_missing(&self, bo: BoId) -> Vec<Range<u64>> {
        self.reserve().missing(bo)
    }

    /// Unmaps a buffer object.
    pub fn bo_unmap(&self, bo: BoId) {
        self.reserve().bo_unmap(bo);
    }

    /// Unmaps an object that was mapped by [`Self::bo_map_placed`] and keeps others out of where it was. If
    /// that fails, it stays mapped.
    pub fn bo_unmap_reserve(&self, bo: BoId) -> Result<Place> {
        self.reserve().bo_unmap_reserve(bo)
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

    /// The address of the resource that starts at `offset` was given out: whoever writes by address may write
    /// it, batches in flight included.
    pub fn resource_give_address(&self, bo: BoId, id: ResourceId, offset: u64) {
        self.reserve().resource_give_address(bo, id, offset);
    }

    /// Detaches the resource that starts at `offset`.
    pub fn resource_detach(&self, bo: BoId, id: ResourceId, offset: u64) {
        self.reserve().resource_detach(bo, id, offset);
    }

    /// Brings guest pages up to date that are so only when they are touched: for who looks at them in a way
    /// that cannot be served, a forked child.
    ///
    /// May be called wherever the application can: where it takes the reservation, no signal handler
    /// interrupts who has it.
    pub fn catch_up(&self) {
        if self.serves_faults() {
            self.reserve().catch_up();
        }
    }

    /// Bytes of system memory that guest pages, twins and images take, besides host memory.
    pub fn resident_bytes(&self) -> u64 {
        self.reserve().resident_bytes()
    }

    /// Whether an address of the process lies in the application's view of guest pages.
    pub fn is_guest_address(&self, address: usize) -> bool {
        self.reserve().is_guest_address(address)
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
