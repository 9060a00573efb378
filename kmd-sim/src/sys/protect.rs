//! `mprotect(2)`: whether the application may write pages of its mapping.
//!
//! # Safety
//! Protection changes no content. A store to a page that may not be written raises SIGSEGV and has no
//! other effect; who takes the right to write away has a handler in place that gives it back.

#![allow(unsafe_code, reason = "door to mprotect")]

use rustix::mm::{MprotectFlags, mprotect};

use super::memory::SharedMem;
use crate::error::{Error, Result};

/// What may be done with pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// `PROT_READ`
    ReadOnly,
    /// `PROT_READ | PROT_WRITE`
    ReadWrite,
}

/// Changes what may be done with `memory`, whole pages. May be called in a signal handler: a system call and
/// nothing else, `errno` included.
pub(crate) fn protect(memory: SharedMem, protection: Protection) -> Result<()> {
    let flags = match protection {
        Protection::ReadOnly => MprotectFlags::READ,
        Protection::ReadWrite => MprotectFlags::READ | MprotectFlags::WRITE,
    };
    // SAFETY: the span is mapped by the invariant of `SharedMem` and stays readable; see above for writes.
    unsafe { mprotect(memory.as_ptr().cast(), memory.len(), flags) }
        .map_err(|errno| Error::Os { call: "mprotect(2)", errno })
}
