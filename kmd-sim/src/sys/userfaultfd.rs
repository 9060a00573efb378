//! `userfaultfd(2)` in its asynchronous write-protect mode: the kernel resolves write faults itself and
//! keeps the fact in the page table, where `PAGEMAP_SCAN` finds it.
//!
//! # Safety
//! The descriptor never serves faults of any other kind and is dropped with the mapping it was
//! registered for, so that no thread ever waits for it.

#![allow(unsafe_code, reason = "door to userfaultfd")]

use std::os::fd::OwnedFd;

use linux_raw_sys::general::{
    UFFD_API, UFFD_FEATURE_PAGEFAULT_FLAG_WP, UFFD_FEATURE_WP_ASYNC, UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
    UFFD_USER_MODE_ONLY, uffdio_api, uffdio_range, uffdio_register,
};
use linux_raw_sys::ioctl::{UFFDIO_API, UFFDIO_REGISTER};
use rustix::ioctl::{Opcode, Updater, ioctl};
use rustix::mm::UserfaultfdFlags;

use super::memory::SharedMem;
use crate::error::{Error, Result};

/// `UFFDIO_REGISTER_MODE_WP`.
const MODE_WP: u64 = 1 << 1;

/// A userfaultfd that has asynchronous write protection for shared memory.
#[derive(Debug)]
pub struct Userfaultfd(OwnedFd);

impl Userfaultfd {
    /// Opens one and agrees with the kernel on the features. Needs Linux 6.7 and no privilege.
    pub fn open() -> Result<Self> {
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::from_bits_retain(UFFD_USER_MODE_ONLY);
        // SAFETY: the descriptor stays inside this type.
        let fd = unsafe { rustix::mm::userfaultfd(flags) }
            .map_err(|errno| Error::Os { call: "userfaultfd(2)", errno })?;
        let features =
            UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_PAGEFAULT_FLAG_WP;
        let mut api = uffdio_api { api: u64::from(UFFD_API), features: u64::from(features), ioctls: 0 };
        // SAFETY: the opcode takes and fills a `uffdio_api`.
        let handshake = unsafe { Updater::<{ UFFDIO_API as Opcode }, _>::new(&mut api) };
        // SAFETY: as above.
        unsafe { ioctl(&fd, handshake) }
            .map_err(|errno| Error::Os { call: "UFFDIO_API (asynchronous write protection)", errno })?;
        Ok(Self(fd))
    }

    /// Registers `memory`, a whole mapping of a memory file, for write protection.
    pub fn register(&self, memory: SharedMem) -> Result<()> {
        let range = uffdio_range { start: memory.as_ptr().addr() as u64, len: memory.len() as u64 };
        let mut arg = uffdio_register { range, mode: MODE_WP, ioctls: 0 };
        // SAFETY: the opcode takes and fills a `uffdio_register`.
        let register = unsafe { Updater::<{ UFFDIO_REGISTER as Opcode }, _>::new(&mut arg) };
        // SAFETY: asynchronous write protection changes no content and blocks no access.
        unsafe { ioctl(&self.0, register) }.map_err(|errno| Error::Os { call: "UFFDIO_REGISTER", errno })
    }
}
