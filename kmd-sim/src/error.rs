//! What can go wrong, errno-like: small, `Copy`, and without text of its own beyond a short phrase.

use rustix::io::Errno;

/// Errors of the simulated kernel driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No guest pages, address space or memory is left (`ENOMEM`).
    #[error("out of guest memory")]
    NoMemory,
    /// The handle or range does not exist (`EINVAL`).
    #[error("invalid handle or range")]
    Invalid,
    /// This cannot be had together with something else that was asked for (`EOPNOTSUPP`).
    #[error("not to be had with this tracker")]
    Unsupported,
    /// Somebody else has it (`EBUSY`).
    #[error("busy")]
    Busy,
    /// A signal is pending; to be tried again (`ERESTARTSYS`).
    #[error("interrupted")]
    Interrupted,
    /// The device refused to make its memory visible to the CPU.
    #[error("the host driver cannot map this memory")]
    HostMap,
    /// The device is lost (`EIO`).
    #[error("the host device is lost")]
    DeviceLost,
    /// The kernel refused something: what was called, and its answer.
    #[error("{call} failed: {errno}")]
    Os {
        /// The system call.
        call: &'static str,
        /// Its error number.
        errno: Errno,
    },
}

/// Result with this crate's [`Error`].
pub type Result<T> = core::result::Result<T, Error>;
