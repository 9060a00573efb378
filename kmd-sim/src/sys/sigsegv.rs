//! `sigaction(2)` for SIGSEGV: who handles it, and calling a handler as the kernel would.
//!
//! # Safety
//! What `on_signal` runs, and all of this file it uses, may run in a signal handler: no allocation, no lock,
//! no thread-local storage. The library is never unloaded, so the handler stays where it is.

#![allow(unsafe_code, reason = "door to signal handling")]

use std::ffi::{c_int, c_long, c_void};
use std::marker::PhantomData;

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::sync::OnceLock;

/// Bytes of the kernel's set of signals.
const SIGSET_BYTES: usize = 8;

/// What is done with SIGSEGVs that are delivered to our handler.
static HOOK: OnceLock<fn(&Fault<'_>)> = OnceLock::new();

/// A SIGSEGV that is being handled.
#[derive(Debug)]
pub struct Fault<'a> {
    info: *mut libc::siginfo_t,
    context: *mut c_void,
    /// Valid while the handler runs.
    _handler: PhantomData<&'a ()>,
}

extern "C" fn on_signal(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let fault = Fault { info, context, _handler: PhantomData };
    if let Some(hook) = HOOK.get() {
        hook(&fault);
    }
}

impl Fault<'_> {
    fn info(&self) -> &libc::siginfo_t {
        // SAFETY: the kernel's, or that of a handler that passed it on as the kernel would.
        unsafe { &*self.info }
    }

    fn code(&self) -> c_int {
        self.info().si_code
    }

    /// The address that was accessed.
    pub fn address(&self) -> usize {
        // SAFETY: this signal has an address; one that was sent has other bytes there, which do no harm.
        unsafe { self.info().si_addr() }.addr()
    }

    /// Whether it is a store to a page that may not be written, as far as the machine says.
    pub fn is_protected_store(&self) -> bool {
        const SEGV_ACCERR: c_int = 2;
        self.code() == SEGV_ACCERR && self.is_store()
    }

    #[cfg(target_arch = "x86_64")]
    fn is_store(&self) -> bool {
        /// Set in the page-fault error code for a write.
        const WRITE: i64 = 2;
        let error = usize::try_from(libc::REG_ERR).unwrap_or(0);
        // SAFETY: with SA_SIGINFO the third argument is a `ucontext_t`.
        let context = unsafe { &*self.context.cast::<libc::ucontext_t>() };
        context.uc_mcontext.gregs[error] & WRITE != 0
    }

    /// Pages that may not be read are not ours: any other access to a closed page is a store.
    #[cfg(not(target_arch = "x86_64"))]
    fn is_store(&self) -> bool {
        true
    }

    /// Whether the faulting instruction is tried again on return. Otherwise somebody sent the signal.
    pub fn is_synchronous(&self) -> bool {
        self.code() > 0
    }

    /// The address of the interrupted context.
    pub fn context(&self) -> usize {
        self.context.addr()
    }

    /// An address in the stack frame of our handler.
    pub fn frame(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Does what the default action is: ends the process with this signal, at the place it came from.
    pub fn end_process(&self) {
        let mut default = Action::default();
        // Delivered again in any case, and it must not be ours again.
        default.0.sa_sigaction = libc::SIG_DFL;
        let _ = default.install();
        if self.is_synchronous() {
            return;
        }
        // SAFETY: no arguments.
        let process = unsafe { libc::getpid() };
        // SAFETY: no arguments.
        let thread = unsafe { libc::syscall(libc::SYS_gettid) };
        // SAFETY: the information is the kernel's own; sent to this thread, where it waits for the handler to
        // return.
        unsafe {
            libc::syscall(
                libc::SYS_rt_tgsigqueueinfo,
                c_long::from(process),
                thread,
                c_long::from(libc::SIGSEGV),
                self.info,
            );
        }
    }
}

/// What is done with a SIGSEGV.
#[derive(Clone, Copy)]
pub struct Action(libc::sigaction);

/// The kinds of action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The process ends.
    Default,
    /// One that was sent is ignored; a fault ends the process.
    Ignore,
    /// A handler is called.
    Handler,
}

impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Action({:#x}, {:#x})", self.0.sa_sigaction, self.0.sa_flags)
    }
}

impl PartialEq for Action {
    fn eq(&self, other: &Self) -> bool {
        let parts = |action: &Self| (action.0.sa_sigaction, action.0.sa_flags, first_word(&action.0.sa_mask));
        parts(self) == parts(other)
    }
}

impl Default for Action {
    /// The default action.
    fn default() -> Self {
        // SAFETY: all zeros is a valid action: the default one, without flags.
        Self(unsafe { std::mem::zeroed() })
    }
}

impl Action {
    /// The action of this process now.
    pub fn current() -> Result<Self> {
        Self::exchange(std::ptr::null())
    }

    /// Makes this the action of the process; returns what was.
    pub fn install(&self) -> Result<Self> {
        Self::exchange(&raw const self.0)
    }

    fn exchange(new: *const libc::sigaction) -> Result<Self> {
        let mut old = Self::default();
        // SAFETY: `new` is null or a valid action, and `old` has room.
        match unsafe { libc::sigaction(libc::SIGSEGV, new, &raw mut old.0) } {
            0 => Ok(old),
            _ => {
                let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
                Err(Error::Os { call: "sigaction(2)", errno: Errno::from_raw_os_error(errno) })
            }
        }
    }

    /// Our handler, in front of `previous`: `hook` is called with each SIGSEGV, all signals blocked and on
    /// the alternate stack where the thread has one: stacks can be too small for a signal. There is one hook
    /// for the life of the process.
    pub fn ours(previous: &Self, hook: fn(&Fault<'_>)) -> Self {
        HOOK.get_or_init(|| hook);
        let mut action = Self::default();
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_signal;
        action.0.sa_sigaction = handler as usize;
        // A system call that a signal interrupts goes on or not as it would without us.
        let restart = match previous.disposition() {
            Disposition::Handler => previous.0.sa_flags & libc::SA_RESTART,
            Disposition::Default | Disposition::Ignore => libc::SA_RESTART,
        };
        action.0.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | restart;
        // Those of the C library, too, which `sigfillset` leaves out: one cancels the thread, and a handler
        // that never returns is counted in for ever. SAFETY: a set has at least eight bytes, suitably
        // aligned.
        unsafe { (&raw mut action.0.sa_mask).cast::<u64>().write(u64::MAX) };
        action
    }

    /// A handler at an address, for tests that never call it.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn at(handler: usize) -> Self {
        let mut action = Self::default();
        action.0.sa_sigaction = handler;
        action
    }

    /// Whether it is our handler.
    pub fn is_ours(&self) -> bool {
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_signal;
        self.0.sa_sigaction == handler as usize
    }

    /// Which kind of action it is.
    pub fn disposition(&self) -> Disposition {
        match self.0.sa_sigaction {
            libc::SIG_DFL => Disposition::Default,
            libc::SIG_IGN => Disposition::Ignore,
            _ => Disposition::Handler,
        }
    }

    /// Whether the action becomes the default one when the handler is called (`SA_RESETHAND`).
    pub fn is_one_shot(&self) -> bool {
        self.0.sa_flags & libc::SA_RESETHAND != 0
    }

    /// Calls the handler of this action as the kernel would have: with the same arguments, and with the
    /// signals blocked that it asks for. The interrupted context's mask comes back when our handler returns.
    /// Only the stack is the one our handler runs on.
    ///
    /// # Panics
    /// If it is no handler.
    pub fn deliver(&self, fault: &Fault<'_>) {
        assert_eq!(self.disposition(), Disposition::Handler, "an action without a handler");
        // SAFETY: with SA_SIGINFO the third argument is a `ucontext_t`.
        let context = unsafe { &*fault.context.cast::<libc::ucontext_t>() };
        let mut blocked = first_word(&context.uc_sigmask) | first_word(&self.0.sa_mask);
        if self.0.sa_flags & libc::SA_NODEFER == 0 {
            blocked |= 1 << (libc::SIGSEGV - 1);
        }
        // SAFETY: one word is the kernel's set of signals.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                &raw const blocked,
                std::ptr::null::<u64>(),
                SIGSET_BYTES,
            );
        }
        // SAFETY: somebody installed this address as a handler of this signal. The kernel passes three
        // arguments in registers to handlers of one argument, too.
        let handler = unsafe {
            std::mem::transmute::<usize, extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)>(
                self.0.sa_sigaction,
            )
        };
        handler(libc::SIGSEGV, fault.info, fault.context);
    }
}

/// The signals the kernel knows: the first word of the C library's larger set.
fn first_word(set: &libc::sigset_t) -> u64 {
    // SAFETY: a set has at least eight bytes, suitably aligned.
    unsafe { *std::ptr::from_ref(set).cast::<u64>() }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_signal_interrupts_our_handler_not_even_the_cancellation_of_a_thread() {
        let before = Action::current().unwrap();
        Action::ours(&before, |_| {}).install().unwrap();
        let ours = before.install().unwrap();
        let never_blocked = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);
        assert_eq!(first_word(&ours.0.sa_mask) | never_blocked, u64::MAX);
    }
}
