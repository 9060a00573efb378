//! Drives a Vulkan driver through the real loader, for tests that assert bytes.
//!
//! [`Gpu`] is an instance, a device and its queue; [`Memory`] and [`Buffer`] are what the tests look at;
//! [`Commands`] and [`Batch`] make the device work, [`Fence`], [`Timeline`] and their siblings tell when it
//! has. Which driver runs is decided once per process, see [`loader`].
//!
//! # Contract
//!
//! A test is trusted code: the functions here are safe to call, but they neither track which object the
//! device still uses nor check Vulkan's valid usage. Keep objects alive until the work that uses them is
//! complete. Each object holds its [`Gpu`], so the order of drops does not matter otherwise. When a test
//! panics nothing is destroyed: destruction could wait for work that will never end, and the failure would
//! become a hang.
//!
//! Every wait has a limit and fails loudly at it; waits Vulkan offers no limit for end with the process, see
//! [`loader::HANG_LIMIT`].

pub mod commands;
pub mod gpu;
pub mod loader;
pub mod memory;
pub mod process;
pub mod rng;
pub mod shader;
pub mod sync;
pub mod validation;

pub use commands::{Batch, Commands, Recorder};
pub use gpu::{Gpu, GpuBuilder, Instance, TimelineUse};
pub use loader::{
    dma_under_test, lockstep_under_test, mirror_under_test, paravirtual_under_test, sigsegv_under_test, skip,
    tracker,
};
pub use memory::{Buffer, Kind, MappedBytes, Memory};
pub use rng::{Rng, pattern};
pub use shader::{Bindings, Compute};
pub use sync::{Event, Fence, Queries, Semaphore, Timeline};

/// The size of a page of the processor, what trackers work in.
pub const PAGE: usize = 4096;
