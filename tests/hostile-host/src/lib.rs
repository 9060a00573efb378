//! `libhostile_host.so`: a Vulkan driver for tests. It is lavapipe, as unhelpful as Vulkan allows, so that
//! each flush or pull that Lockstep misses loses bytes every time and not once a week.
//!
//! The driver below is loaded from the manifest `HOSTILE_HOST_ICD` (lavapipe's by default) and answers
//! everything that is not changed here; its handles pass through. `HOSTILE_HOST` is a list of modes with
//! commas between:
//!
//! | mode | |
//! |---|---|
//! | `vram` | a discrete GPU: type 0 is `DEVICE_LOCAL` and cannot be mapped, types 1 and 2 are `HOST_VISIBLE` and `HOST_COHERENT` in a heap of their own, 2 is `HOST_CACHED` too |
//! | `split` | what the CPU and what the device sees of a mapping are two memories. Bytes the CPU changed go over at submissions, `vkSignalSemaphore`, `vkSetEvent` and `vkUnmapMemory`; bytes the device changed come back when completion is reported. In between nothing moves |
//! | `noncoherent` | visible types are `HOST_CACHED` without `HOST_COHERENT`, atoms have 256 bytes: only flushes and invalidations move bytes, whole atoms of them, and ranges that are not whole atoms end the process. No legal table, since one coherent type is demanded; it stands for hosts whose coherent type is of no use |
//! | `delay` | three queues; batches begin late: when somebody waits, has asked [`delay::CALLS`] times, or after [`delay::PATIENCE`]. Of several queues the one submitted to last goes first. A buffer that is destroyed before a batch with copies from or to it has begun ends the process |
//! | `poison` | memory is full of garbage when it is allocated and when it is freed, and with `noncoherent` so is a mapping until it is invalidated |
//!
//! `split` and `noncoherent` exclude each other. Without a mode this is lavapipe, minus the extensions and
//! versions that could map or share memory past it ([`instance`]).
//!
//! | module | |
//! |---|---|
//! | [`modes`] | the variable |
//! | [`host`] | the driver below |
//! | [`commands`] | the loader's interface and the table of what is changed |
//! | [`instance`], [`device`] | creation, properties, queues |
//! | [`types`] | the table of memory types |
//! | [`memory`], [`mapping`] | memory objects, and the two memories of a mapping |
//! | [`queue`], [`delay`] | submission, now or later |
//! | [`sync`] | what reports completion, and what signals |
//! | [`usage`] | buffers that batches use |
//! | [`chain`], [`handles`] | `pNext` chains, handle tables |
//!
//! # Safety
//! Entry points rely on the specification's valid usage for every pointer and handle they are given. What
//! cannot go on ends the process with one line ([`fail`]): it is a tool for tests, and nothing unwinds into
//! its caller.

#![expect(unsafe_code, reason = "a driver is called with raw pointers and calls one with them")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "the operations of an entry point stand on one argument: valid usage"
)]

pub mod chain;
pub mod commands;
pub mod delay;
pub mod device;
pub mod handles;
pub mod host;
pub mod instance;
pub mod mapping;
pub mod memory;
pub mod modes;
pub mod queue;
pub mod sync;
pub mod types;
pub mod usage;

/// Ends the process with one line.
#[expect(clippy::print_stderr, reason = "a tool for tests says why it ends")]
pub fn fail(why: impl std::fmt::Display) -> ! {
    eprintln!("hostile host: {why}");
    std::process::abort()
}
