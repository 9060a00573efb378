//! `/proc/self/pagemap` and its `PAGEMAP_SCAN` ioctl: finds the pages written since they were last
//! write-protected and protects them again, in one atomic step a page.
//!
//! # Safety
//! The ioctl writes into a buffer this module owns, of the length it passes.

#![allow(unsafe_code, reason = "door to PAGEMAP_SCAN")]

use std::os::fd::OwnedFd;

use linux_raw_sys::general::{
    PAGE_IS_WRITTEN, PM_SCAN_CHECK_WPASYNC, PM_SCAN_WP_MATCHING, page_region, pm_scan_arg,
};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};

use super::memory::SharedMem;
use crate::addr::PAGE_BYTES;
use crate::error::{Error, Result};

/// Regions one call can return; further ones take a further call. The kernel takes as much memory at each
/// call, written or not: what is more than a page takes it longer than a scan.
const REGIONS: usize = PAGE_BYTES / size_of::<page_region>();

/// The page map of this process.
#[derive(Debug)]
pub struct Pagemap {
    fd: OwnedFd,
    regions: Vec<page_region>,
}

impl Pagemap {
    /// Opens the page map of this process.
    pub fn open() -> Result<Self> {
        let fd =
            rustix::fs::openat(CWD, "/proc/self/pagemap", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| Error::Os { call: "open(/proc/self/pagemap)", errno })?;
        Ok(Self { fd, regions: vec![page_region { start: 0, end: 0, categories: 0 }; REGIONS] })
    }

    /// Calls `written(offset, len)`, in bytes from the start of `memory` and in ascending order, for each
    /// run of pages written since the last call, and write-protects them.
    ///
    /// A page that was never accessed through this mapping counts as written once.
    pub fn take_written(&mut self, memory: SharedMem, written: impl FnMut(u64, u64)) -> Result<()> {
        self.scan(memory, PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC, written)
    }

    /// As above, but leaves the pages as they are.
    pub fn find_written(&mut self, memory: SharedMem, written: impl FnMut(u64, u64)) -> Result<()> {
        self.scan(memory, PM_SCAN_CHECK_WPASYNC, written)
    }

    fn scan(&mut self, memory: SharedMem, flags: u32, mut written: impl FnMut(u64, u64)) -> Result<()> {
        let base = memory.as_ptr().addr() as u64;
        let end = base + memory.len() as u64;
        let mut start = base;
        while start < end {
            let mut arg = pm_scan_arg {
                size: size_of::<pm_scan_arg>() as u64,
                flags: u64::from(flags),
                start,
                end,
                walk_end: 0,
                vec: self.regions.as_mut_ptr().expose_provenance() as u64,
                vec_len: self.regions.len() as u64,
                max_pages: 0,
                category_inverted: 0,
                category_mask: u64::from(PAGE_IS_WRITTEN),
                category_anyof_mask: 0,
                return_mask: u64::from(PAGE_IS_WRITTEN),
            };
            // SAFETY: `vec` and `vec_len` describe `self.regions`, which is borrowed exclusively; the
            // pages are registered for asynchronous write protection or the call fails.
            let count = unsafe { ioctl(&self.fd, Scan(&mut arg)) }
                .map_err(|errno| Error::Os { call: "PAGEMAP_SCAN", errno })?;
            for region in &self.regions[..count] {
                written(region.start - base, region.end - region.start);
            }
            start = arg.walk_end;
        }
        Ok(())
    }
}

/// `PAGEMAP_SCAN`; its return value is the number of regions filled.
struct Scan<'a>(&'a mut pm_scan_arg);

// SAFETY: the opcode reads and writes a `pm_scan_arg` and returns a count.
unsafe impl Ioctl for Scan<'_> {
    type Output = usize;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<pm_scan_arg>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(
        out: IoctlOutput,
        _: *mut core::ffi::c_void,
    ) -> rustix::io::Result<Self::Output> {
        Ok(usize::try_from(out).unwrap_or(0))
    }
}
