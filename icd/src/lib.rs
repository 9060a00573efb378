//! `libvulkan_lockstep.so`: a Vulkan driver that gives applications true `HOST_COHERENT` memory over a
//! host driver whose memory the CPU does not see coherently.
//!
//! It is thin. The host driver is loaded straight from its manifest and its handles go to the
//! application as they are; so do its functions, but for the commands Lockstep intercepts:
//! those that concern memory, that tell who may write where, that submit, and that report completion.
//!
//! | module | what it is |
//! |---|---|
//! | [`entry`] | entry points, by chapter of the specification, and the loader's interface |
//! | [`host`] | finding and loading the host driver |
//! | [`config`], [`logger`], [`stats`], [`trace`], [`fork`] | options, log lines, counters, timeline, forks |
//! | [`instance`], [`device`] | per-handle state |
//! | [`request`] | what the host is asked for when a device is created |
//! | [`memory_types`] | the table of memory types and its translation |
//! | [`resources`] | what the device may do with buffers and images |
//! | [`record`], [`formats`] | what command buffers may write |
//! | [`submission`] | batches, each followed by a signal of Lockstep's own |
//! | [`transport`] | the host driver as the simulated kernel driver's device |
//! | [`extensions`] | which extensions pass, and why |
//! | [`chain`], [`handles`] | `pNext` chains, handle tables |
//!
//! To intercept a further command: write its entry point in the module of its chapter, add it to the
//! table in [`entry`], and say in a test what would be lost without it.
//!
//! # Safety
//! A driver is called with raw pointers whose validity the specification makes the application's duty
//! ("valid usage"). Entry points rely on it; each says so where it dereferences. Everything they call that
//! can be safe is.
//!
//! # Lock order
//! The contents of a descriptor set or pool (one at a time), then handle tables (each for one lookup, none
//! while another is held), then the kernel driver's reservation. No lock is held across a call of the host
//! driver that may wait.

#![deny(unsafe_code)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "the operations of an entry point stand on one argument: valid usage"
)]

pub mod chain;
pub mod config;
pub mod device;
pub mod entry;
pub mod extensions;
pub mod fork;
pub mod formats;
pub mod handles;
pub mod host;
pub mod instance;
pub mod logger;
pub mod memory_types;
pub mod record;
pub mod request;
pub mod resources;
pub mod stats;
pub mod submission;
pub mod trace;
pub mod transport;
