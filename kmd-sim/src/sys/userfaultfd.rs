//! `userfaultfd(2)`: asynchronous write protection, where the kernel resolves write faults itself and keeps
//! the fact in the page table for `PAGEMAP_SCAN` to find; and, where it is to be had, faults on pages that
//! the memory file has and the page table has not (*minor* faults), or that neither has (*missing* ones),
//! which are served here.
//!
//! # Safety
//! Neither changes a byte. The descriptor is dropped with the mapping it was registered for; who waits
//! for a fault to be served then goes on with what the memory file holds.

#![allow(unsafe_code, reason = "door to userfaultfd")]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use linux_raw_sys::general::{
    UFFD_API, UFFD_EVENT_PAGEFAULT, UFFD_FEATURE_MINOR_SHMEM, UFFD_FEATURE_MISSING_SHMEM,
    UFFD_FEATURE_PAGEFAULT_FLAG_WP, UFFD_FEATURE_WP_ASYNC, UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
    UFFD_USER_MODE_ONLY, uffd_msg, uffdio_api, uffdio_continue, uffdio_range, uffdio_register,
};
use linux_raw_sys::ioctl::{UFFDIO_API, UFFDIO_REGISTER};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::mm::UserfaultfdFlags;

use super::memory::SharedMem;
use super::pages::to_usize;
use crate::addr::{PAGE_BYTES, PAGE_SIZE};
use crate::error::{Error, Result};

/// `UFFDIO_REGISTER_MODE_MISSING`.
const MODE_MISSING: u64 = 1 << 0;
/// `UFFDIO_REGISTER_MODE_WP`.
const MODE_WP: u64 = 1 << 1;
/// `UFFDIO_REGISTER_MODE_MINOR`.
const MODE_MINOR: u64 = 1 << 2;
/// `UFFDIO_CONTINUE_MODE_WP`.
const CONTINUE_WP: u64 = 1 << 1;
/// `UFFDIO_UNREGISTER`, `UFFDIO_CONTINUE`, `UFFDIO_WAKE` and `USERFAULTFD_IOC_NEW`.
const UNREGISTER: Opcode = opcode::read::<uffdio_range>(0xaa, 1);
const CONTINUE: Opcode = opcode::read_write::<uffdio_continue>(0xaa, 7);
const WAKE: Opcode = opcode::read::<uffdio_range>(0xaa, 2);
const NEW: libc::Ioctl = 0xaa00;

/// What a userfaultfd is for, beside asynchronous write protection of shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Nothing. Needs no privilege.
    Nothing,
    /// Minor and missing faults, those of system calls among them: needs the right to serve faults of the
    /// kernel.
    Faults,
}

/// A userfaultfd that has asynchronous write protection for shared memory.
#[derive(Debug)]
pub struct Userfaultfd(OwnedFd);

impl Userfaultfd {
    /// Opens one and agrees with the kernel on the features. Needs Linux 6.7.
    pub fn open(serves: Serves) -> Result<Self> {
        let fd = match serves {
            Serves::Nothing => create(UserfaultfdFlags::from_bits_retain(UFFD_USER_MODE_ONLY)),
            Serves::Faults => create(UserfaultfdFlags::NONBLOCK).or_else(create_by_device),
        };
        let fd = fd.map_err(|errno| Error::Os { call: "userfaultfd(2)", errno })?;
        let served = match serves {
            Serves::Nothing => 0,
            Serves::Faults => UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MISSING_SHMEM,
        };
        let features =
            UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_PAGEFAULT_FLAG_WP | served;
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
        self.register_for(memory, MODE_WP)
    }

    /// Has its minor faults come here, too, from now on: somebody must serve them.
    pub fn take_faults(&self, memory: SharedMem) -> Result<()> {
        self.register_for(memory, MODE_WP | MODE_MINOR)
    }

    /// Has its missing faults come here as well.
    pub fn take_missing(&self, memory: SharedMem) -> Result<()> {
        self.register_for(memory, MODE_WP | MODE_MINOR | MODE_MISSING)
    }

    /// Has its missing faults come here no more. All of its pages count as written, there or not, and who
    /// waits for one tries again.
    ///
    /// For a moment its minor faults do not come here, either.
    pub fn leave_missing(&self, memory: SharedMem) -> Result<()> {
        let mut arg = range(memory);
        // SAFETY: the opcode takes a `uffdio_range`.
        let unregister = unsafe { Updater::<UNREGISTER, _>::new(&mut arg) };
        // SAFETY: changes no content.
        unsafe { ioctl(&self.0, unregister) }
            .map_err(|errno| Error::Os { call: "UFFDIO_UNREGISTER", errno })?;
        self.take_faults(memory)
    }

    fn register_for(&self, memory: SharedMem, mode: u64) -> Result<()> {
        let mut arg = uffdio_register { range: range(memory), mode, ioctls: 0 };
        // SAFETY: the opcode takes and fills a `uffdio_register`.
        let register = unsafe { Updater::<{ UFFDIO_REGISTER as Opcode }, _>::new(&mut arg) };
        // SAFETY: asynchronous write protection changes no content and blocks no access; who meets a minor
        // fault waits until it is served.
        unsafe { ioctl(&self.0, register) }.map_err(|errno| Error::Os { call: "UFFDIO_REGISTER", errno })
    }

    /// Waits until a thread waits for a page, and returns an address in that page; or `None` once `stop` has
    /// bytes to read.
    pub fn next_fault(&self, stop: &impl AsFd) -> Result<Option<usize>> {
        loop {
            let mut fds = [PollFd::new(&self.0, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) if !fds[1].revents().is_empty() => return Ok(None),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::Os { call: "poll(2)", errno }),
            }
            let mut message = [0; size_of::<uffd_msg>()];
            match rustix::io::read(&self.0, &mut message) {
                Ok(_) => {}
                // Somebody else woke it meanwhile.
                Err(Errno::AGAIN | Errno::INTR) => continue,
                Err(errno) => return Err(Error::Os { call: "read(userfaultfd)", errno }),
            }
            // SAFETY: as many bytes as the structure has, of which any are valid.
            let message: uffd_msg = unsafe { std::mem::transmute(message) };
            if u32::from(message.event) == UFFD_EVENT_PAGEFAULT {
                // SAFETY: the event says which member it is.
                let fault = unsafe { message.arg.pagefault };
                return Ok(Some(to_usize(fault.address)));
            }
        }
    }

    /// Maps those pages of `memory` that the file has and that are not mapped, as not written, and wakes who
    /// waits for them.
    pub fn resume(&self, memory: SharedMem) {
        self.map(memory, CONTINUE_WP);
    }

    /// As above, but as written.
    pub fn open_pages(&self, memory: SharedMem) {
        self.map(memory, 0);
    }

    fn map(&self, memory: SharedMem, mode: u64) {
        let mut at = 0;
        while at < memory.len() {
            let rest = memory.slice(at, memory.len() - at);
            let mut arg = uffdio_continue { range: range(rest), mode, mapped: 0 };
            // SAFETY: the opcode takes and fills a `uffdio_continue`.
            let resume = unsafe { Updater::<CONTINUE, _>::new(&mut arg) };
            // SAFETY: the pages show what the file holds, whichever way they come to be mapped.
            match unsafe { ioctl(&self.0, resume) } {
                Ok(()) => return,
                // Part of it, or the address space is changing.
                Err(Errno::AGAIN) => at += usize::try_from(arg.mapped).unwrap_or(0),
                // It is mapped, or the file has no such page.
                Err(_) => {
                    self.wake(memory.slice(at, PAGE_BYTES));
                    at += PAGE_BYTES;
                }
            }
        }
    }

    /// Has who waits for pages of `memory` try again.
    fn wake(&self, memory: SharedMem) {
        let mut arg = range(memory);
        // SAFETY: the opcode takes a `uffdio_range`.
        let wake = unsafe { Updater::<WAKE, _>::new(&mut arg) };
        // SAFETY: who wakes for nothing faults again.
        let _ = unsafe { ioctl(&self.0, wake) };
    }
}

fn range(memory: SharedMem) -> uffdio_range {
    debug_assert_eq!(memory.len() as u64 % PAGE_SIZE, 0);
    uffdio_range { start: memory.as_ptr().addr() as u64, len: memory.len() as u64 }
}

fn create(flags: UserfaultfdFlags) -> rustix::io::Result<OwnedFd> {
    // SAFETY: the descriptor stays inside of `Userfaultfd`.
    unsafe { rustix::mm::userfaultfd(UserfaultfdFlags::CLOEXEC | flags) }
}

/// For who may open `/dev/userfaultfd`; it is no way around a sandbox that forbids the system call.
fn create_by_device(refused: Errno) -> rustix::io::Result<OwnedFd> {
    drop(create(UserfaultfdFlags::from_bits_retain(UFFD_USER_MODE_ONLY))?);
    let device = rustix::fs::open("/dev/userfaultfd", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let device = device.map_err(|_| refused)?;
    // SAFETY: `USERFAULTFD_IOC_NEW` takes flags and returns a new descriptor.
    let fd = unsafe { libc::ioctl(device.as_raw_fd(), NEW, libc::O_CLOEXEC | libc::O_NONBLOCK) };
    if fd < 0 {
        return Err(refused);
    }
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
