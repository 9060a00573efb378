//! The seam to the device: what the simulated kernel driver asks of the machine below it.
//!
//! In the kernel this is the command FIFO and the MOBs of a virtual GPU; here it is a host Vulkan driver.
//!
//! | module | what it is | kernel file |
//! |---|---|---|
//! | [`cmd`] | commands, and the stream they go through | `svga3d_cmd.h`, `vmwgfx_cmdbuf.c` |
//! | [`device`] | the soft device, which executes them | – |
//! | [`mod@format`] | formats of surfaces | `svga3d_surfacedefs.h` |
//! | [`surface_layout`] | where the texels of a surface lie | `vmw_surface_cache.h` |
//! | [`types`] | words of its language | `svga3d_types.h` |

pub mod cmd;
pub mod device;
pub mod format;
pub mod surface_layout;
pub mod types;

use std::ops::Range;

use crate::error::Result;
use crate::sys::memory::SharedMem;

/// A device with memory of its own and a counter per context that tells how far it has come.
///
/// Its methods are called under the device's reservation: none may wait for device work.
pub trait HostDevice: Send + Sync + 'static {
    /// Names one block of host memory.
    type Memory: Copy + Send + std::fmt::Debug + 'static;
    /// Names the counter of one context (a queue): batches of a context complete in order.
    type Timeline: Copy + Send + Sync + std::fmt::Debug + 'static;

    /// Makes host memory visible to the CPU, all `size` bytes of it, until the memory is freed.
    ///
    /// CPU and device see each other's bytes in it at submission and completion without further ado; or it is
    /// an image ([`Self::is_image`]).
    fn map(&self, memory: Self::Memory, size: u64) -> Result<SharedMem>;

    /// Whether the CPU cannot see the memory: what [`Self::map`] gives is an image of it, which nobody else
    /// touches.
    fn is_image(&self, _memory: Self::Memory) -> bool {
        false
    }

    /// Has `bytes` of an image copied to its memory, as they are now, before any batch that is submitted from
    /// now on.
    fn update(&self, _memory: Self::Memory, _bytes: &Range<u64>, _image: &SharedMem) -> Result<()> {
        Ok(())
    }

    /// Has parts of such memory copied to where the CPU can see them behind batch `seqno`, which is about to
    /// be submitted, and behind those of `after`, which were. The batch completes after the copy.
    fn readback(
        &self,
        _timeline: Self::Timeline,
        _seqno: u64,
        _parts: &[(Self::Memory, Range<u64>)],
        _after: &[(Self::Timeline, u64)],
    ) -> Result<()> {
        Ok(())
    }

    /// Calls `op` with each part that was read back behind batch `seqno`, which has completed, in the order
    /// they were asked for. They are not needed any more afterwards.
    fn received(&self, _timeline: Self::Timeline, _seqno: u64, _op: &mut dyn FnMut(&SharedMem)) {}

    /// The sequence number of the last batch that completed on the context.
    fn seqno(&self, timeline: Self::Timeline) -> Result<u64>;
}
