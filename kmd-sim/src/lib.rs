//! The kernel driver of Lockstep, simulated in user space.
//!
//! It keeps an application's *guest* pages (G) and a device's *host* memory (H) in lockstep by dirty
//! tracking, the way the Linux vmwgfx driver does since the patch series "Emulated coherent graphics
//! memory". It knows page tables and buffer objects and nothing of Vulkan: the driver above calls
//! [`uapi`], the machine below is a [`svga::HostDevice`].
//!
//! | module | what it is | kernel counterpart |
//! |---|---|---|
//! | [`addr`], [`bitmap`], [`error`], [`stats`], [`sync`] | leaves | `linux/bitmap.h`, errno |
//! | [`lockdep`] | locks of the soft kernel, and their order | `kernel/locking/lockdep.c` |
//! | [`trace`] | a timeline of what the driver does | `linux/tracepoint.h` |
//! | [`upstream`] | which kernel the soft machine behaves like | – |
//! | [`sys`] | the only unsafe code: one family of system calls, or of memory accesses, a file | – |
//! | [`mmu`] | how writes to guest pages are found out | page tables |
//! | [`mm`] | dirty helpers over a range of pages | `mm/mapping_dirty_helpers.c` |
//! | [`ttm`] | guest pages for buffer objects | `drivers/gpu/drm/ttm` |
//! | [`vmwgfx`] | the driver of the series | `drivers/gpu/drm/vmwgfx` |
//! | [`coherence`] | the driver on the process's own pages: twins, byte-exact merge, write sets | – |
//! | [`svga`] | the seam to the device, and its commands | `device_include/svga3d_*.h` |
//! | [`soft_system`] | a whole soft system, to try things on | – |
//! | [`uapi`] | all that the driver above may call | `uapi/drm/vmwgfx_drm.h` |
//!
//! Dependencies point one way: `uapi → coherence → vmwgfx → ttm, mm → mmu → sys → leaves`.
//!
//! # Lock order
//! 1. the device's *reservation* (`Mutex<State>`), held for every flush and every pull; under it only
//!    [`svga::HostDevice`] is called, which must not wait for device work;
//! 2. the list of contexts (`RwLock`), held for a look;
//! 3. who handles SIGSEGV (`Mutex`), held for a few system calls. The handler itself takes no lock.

#![deny(unsafe_code)]

pub mod addr;
pub mod bitmap;
pub mod coherence;
pub mod error;
pub mod lockdep;
pub mod mm;
pub mod mmu;
#[cfg(lockstep_mutation)]
pub mod mutation;
pub mod soft_system;
pub mod stats;
pub mod svga;
pub mod sync;
pub mod sys;
pub mod trace;
pub mod ttm;
pub mod uapi;
pub mod upstream;
pub mod vmwgfx;
