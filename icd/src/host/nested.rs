//! Lockstep is never its own host, however many libraries lie in between.
//!
//! A copy of it is told by a symbol it exports, whatever its file is called. A driver that leads back to it,
//! by the Vulkan loader for example, is not to be told from others until it does: then the thread is below
//! Lockstep already.

#![allow(unsafe_code, reason = "exports a symbol")]

use std::cell::Cell;
use std::ffi::CStr;

/// The name of [`lockstep_icd`].
pub const MARK: &CStr = c"lockstep_icd";

/// Says that a library is Lockstep.
#[unsafe(no_mangle)]
pub static lockstep_icd: u8 = 1;

thread_local! {
    /// Without a destructor: a driver may be called while the thread ends.
    static BELOW: Cell<bool> = const { Cell::new(false) };
}

/// Calls what asks the host driver for itself or an instance.
pub fn below<R>(call: impl FnOnce() -> R) -> R {
    let before = BELOW.replace(true);
    let result = call();
    BELOW.set(before);
    result
}

/// Whether the host driver has called this library.
pub fn is_below() -> bool {
    BELOW.get()
}
