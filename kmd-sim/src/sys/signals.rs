//! `pthread_sigmask(3)`: no handler of the application runs on this thread for a while.
//!
//! # Safety
//! A mask is per thread; it is put back by the thread that changed it.

#![allow(unsafe_code, reason = "door to signal masks")]

use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// Signals a fault raises on the thread itself: blocked, they would end the process.
const SYNCHRONOUS: [libc::c_int; 5] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP];

/// While it lives, signals to this thread wait, but for those a fault raises.
#[derive(Debug)]
pub struct Blocked {
    before: libc::sigset_t,
    /// It stays on its thread.
    _thread: PhantomData<*const ()>,
}

impl Blocked {
    /// Blocks signals on this thread.
    pub fn begin() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: there is room for a set.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        for signal in SYNCHRONOUS {
            // SAFETY: filled before.
            unsafe { libc::sigdelset(all.as_mut_ptr(), signal) };
        }
        // SAFETY: `all` is filled, and there is room for the other.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
        // SAFETY: the call does not fail, and has filled it.
        let before = unsafe { before.assume_init() };
        Self { before, _thread: PhantomData }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the mask this thread had, on the same thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}
