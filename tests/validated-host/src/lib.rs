//! `libvalidated_host.so`: a host driver that has the Khronos validation layer look at what it is asked.
//!
//! Between Lockstep and its host there is no loader that could put a layer there, so this driver does it: it
//! links the layer to the driver whose library `VALIDATED_HOST_DRIVER` names, as the loader would
//! (Vulkan-Loader, "Loader/Layer Interface"). What the layer says, and what it does then, is up to its own
//! settings (`VK_LAYER_SETTINGS_PATH`).
//!
//! The layer finds what it knows of a dispatchable handle by the first word of what it points to, and the
//! loader above Lockstep puts a word of its own into devices, queues and command buffers. Those that are
//! handed out here are therefore objects of this driver, which stand for the driver's own ([`object`]).
//! Commands on them pass through a piece of code that puts the handle below in the place of the first
//! argument ([`stub`]); the few that have such handles elsewhere, too, are written out ([`commands`]).
//! Instances and physical devices the loader leaves alone.
//!
//! | module | |
//! |---|---|
//! | [`below`] | the layer and the driver, and the chain between them |
//! | [`commands`] | what is handed out for the name of a command |
//! | [`object`] | objects that stand for handles |
//! | [`stub`] | commands on these |
//!
//! # Safety
//! Valid usage, which the layer checks, makes arguments valid. What cannot go on ends the process with one
//! line ([`fail`]): it is a tool for tests.

#![cfg(target_arch = "x86_64")]
#![expect(unsafe_code, reason = "a driver is called with raw pointers and calls one with them")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "the operations of an entry point stand on one argument: valid usage"
)]

pub mod below;
pub mod commands;
pub mod object;
pub mod stub;

/// Ends the process with one line.
#[expect(clippy::print_stderr, reason = "a tool for tests says why it ends")]
pub fn fail(why: impl std::fmt::Display) -> ! {
    eprintln!("validated host: {why}");
    std::process::abort()
}
