//! Command buffers and what is recorded in them (specification chapter "Command Buffers" and those of the
//! commands).
//!
//! | module | commands |
//! |---|---|
//! | [`buffer`] | the life of command buffers, and executing secondary ones |
//! | [`transfer`] | copies, clears, query results, markers |
//! | [`barrier`] | barriers and events |
//! | [`bind`] | pipelines, sets, pushed descriptors, transform feedback |
//! | [`draw`] | draws, dispatches, rays, acceleration structures |
//! | [`pass`] | render passes |
//!
//! Each notes what it may write, if anything is recorded at all ([`crate::record`]), and goes on to the
//! host's.

#![allow(unsafe_code, reason = "entry points")]

pub mod barrier;
pub mod bind;
pub mod buffer;
pub mod draw;
pub mod pass;
pub mod transfer;

use ash::vk;

use crate::host::commands::Commands;
use crate::record::lookup;

/// The host's recording functions for a command buffer.
#[inline]
fn host(commands: vk::CommandBuffer) -> Option<&'static Commands> {
    Commands::shared().or_else(|| own(commands))
}

#[cold]
fn own(commands: vk::CommandBuffer) -> Option<&'static Commands> {
    Some(lookup::device(commands)?.commands)
}

/// Notes may look into arrays, or not.
///
/// # Safety
/// None needed: it makes a block need to be unsafe.
const unsafe fn by_valid_usage() {}

/// Defines entry points of commands that record: each notes something in the recording, if there is one, and
/// calls the host's function.
///
/// The arrays they are given are valid by valid usage, and so is that nobody else uses the command buffer.
macro_rules! commands {
    ($(
        $(#[$doc:meta])*
        fn $name:ident($($arg:ident: $type:ty),* $(,)?) as $host:ident |$recording:ident| $note:expr;
    )*) => { $(
        $(#[$doc])*
        pub(in crate::entry) unsafe extern "system" fn $name(commands: ash::vk::CommandBuffer, $($arg: $type),*) {
            // SAFETY: valid usage.
            let recording = unsafe { crate::record::lookup::recording(commands) };
            #[cfg(lockstep_mutation)]
            let recording = recording.filter(|_| !kmd_sim::mutation::is_named(stringify!($name)));
            if let Some($recording) = recording {
                // SAFETY: valid usage.
                unsafe {
                    super::by_valid_usage();
                    $note
                };
            }
            if let Some(host) = super::host(commands).and_then(|host| host.$host) {
                // SAFETY: the application's arguments.
                unsafe { host(commands, $($arg),*) };
            }
        }
    )* };
}
use commands;
