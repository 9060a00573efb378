//! What commands and shaders write is what their batch's write set says, and what the processor then reads.
//!
//! A table: each row runs something on one device, whose counters (`LOCKSTEP_STATS`) must name the bytes that
//! it writes, and not one more. Where the command says which, that is to the byte; where a shader decides, it
//! is the range that is bound. While a batch runs, the processor writes what the batch does not.
//!
//! `scripts/mutations` takes each command out of the recording in turn; a row here must then fail.

#![expect(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "rows are raw Vulkan: all objects live as long as their rig, which outlives the work"
)]

mod addresses;
mod descriptors;
mod draws;
mod feedback;
mod graphics;
mod image;
mod images;
mod kit;
mod life;
mod missing;
mod passes;
mod queries;
mod readback;
mod rig;
mod texels;
mod transfer;
