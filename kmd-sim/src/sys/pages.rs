//! Pages from the kernel: `memfd_create(2)`, `mmap(2)`, `fallocate(2)`, `lseek(2)`, `madvise(2)`.
//!
//! # Safety
//! Mappings are made by `memmap2` and never moved; what is handed out are addresses inside of them,
//! wrapped as [`SharedMem`], which the owner of the mapping outlives.

#![allow(unsafe_code, reason = "door to memory mappings")]

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use memmap2::{MmapMut, MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags, SeekFrom};
use rustix::io::Errno;
use rustix::mm::Advice;
use rustix::process::{Resource, getrlimit};

use super::memory::SharedMem;
use super::view::{Place, View};
use crate::addr::{PAGE_SIZE, PAGE_WORDS};
use crate::error::{Error, Result};

/// A memory file mapped twice: once for the application, once for the driver.
#[derive(Debug)]
pub struct TwiceMapped {
    file: File,
    application: MmapRaw,
    driver: MmapRaw,
}

impl TwiceMapped {
    /// Creates a sparse file of `bytes` bytes (a multiple of the page size) and maps it twice.
    pub fn new(name: &str, bytes: u64) -> Result<Self> {
        let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)
            .map_err(|errno| os("memfd_create(2)", errno))?;
        rustix::fs::ftruncate(&fd, bytes).map_err(|errno| os("ftruncate(2)", errno))?;
        let file = File::from(fd);
        let map = || {
            MmapOptions::new()
                .len(to_usize(bytes))
                .no_reserve_swap()
                .map_raw(&file)
                .map_err(|_| Error::NoMemory)
        };
        let (application, driver) = (map()?, map()?);
        // The same bytes twice in a core dump help nobody.
        advise(driver.as_mut_ptr(), driver.len(), Advice::LinuxDontDump);
        Ok(Self { file, application, driver })
    }

    /// The mapping the application sees.
    pub fn application(&self) -> SharedMem {
        shared(&self.application)
    }

    /// The mapping the driver writes through: what is written here is no CPU write.
    pub fn driver(&self) -> SharedMem {
        shared(&self.driver)
    }

    /// Maps `bytes` (whole pages) once more, at `place` or where there is room.
    pub fn view(&self, bytes: &Range<u64>, place: Option<Place>) -> Result<View> {
        View::new(self.file.as_fd(), bytes.start, to_usize(bytes.end - bytes.start), place)
    }

    /// The first byte at or after `offset` that has a page behind it (`SEEK_DATA`).
    pub fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) => Ok(Some(data)),
            Err(Errno::NXIO) => Ok(None),
            Err(errno) => Err(os("lseek(SEEK_DATA)", errno)),
        }
    }

    /// The first byte at or after `offset` that has no page behind it (`SEEK_HOLE`).
    pub fn next_hole(&self, offset: u64) -> Result<u64> {
        rustix::fs::seek(&self.file, SeekFrom::Hole(offset)).map_err(|errno| os("lseek(SEEK_HOLE)", errno))
    }

    /// Gives the file all pages of `bytes`, and keeps them in it.
    pub fn populate(&self, bytes: &Range<u64>) -> Result<()> {
        rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, bytes.start, bytes.end - bytes.start)
            .map_err(|errno| os("fallocate(2)", errno))
    }

    /// Takes the pages of `bytes` out of the application's page tables (`unmap_mapping_range`): the next access
    /// faults.
    pub fn zap(&self, bytes: &Range<u64>) -> Result<()> {
        let memory = self.application().slice(to_usize(bytes.start), to_usize(bytes.end - bytes.start));
        // SAFETY: pages of a shared mapping; their content stays in the file.
        unsafe { rustix::mm::madvise(memory.as_ptr().cast(), memory.len(), Advice::LinuxDontNeed) }
            .map_err(|errno| os("madvise(MADV_DONTNEED)", errno))
    }

    /// Gives the pages of `bytes` back; they read as zeros afterwards, in every mapping.
    pub fn discard(&self, bytes: &Range<u64>) -> Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&self.file, flags, bytes.start, bytes.end - bytes.start)
            .map_err(|errno| os("fallocate(PUNCH_HOLE)", errno))
    }
}

fn os(call: &'static str, errno: Errno) -> Error {
    Error::Os { call, errno }
}

/// Bytes a file of this process may have: a larger one would raise SIGXFSZ.
pub fn largest_file() -> u64 {
    getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX)
}

fn shared(map: &MmapRaw) -> SharedMem {
    let base = NonNull::new(map.as_mut_ptr()).expect("mmap returned the null page");
    // SAFETY: 1. the mapping lives as long as `TwiceMapped`, whose owner hands out no slice that
    // outlives it; 2. `MmapRaw` never gives out references.
    unsafe { SharedMem::new(base, map.len()) }
}

/// Private zero-filled memory in units of pages, sparse: only what was written takes memory.
#[derive(Debug)]
pub struct PrivatePages {
    map: MmapMut,
}

impl PrivatePages {
    /// Reserves `bytes` bytes (a multiple of the page size).
    pub fn new(bytes: u64) -> Result<Self> {
        let map = MmapOptions::new().len(to_usize(bytes)).no_reserve_swap().map_anon();
        let mut map = map.map_err(|_| Error::NoMemory)?;
        advise(map.as_mut_ptr(), map.len(), Advice::LinuxDontDump);
        // It is sparse by design: a huge page for each byte would not be.
        advise(map.as_mut_ptr(), map.len(), Advice::LinuxNoHugepage);
        Ok(Self { map })
    }

    /// The words of page `page`.
    pub fn page(&mut self, page: u64) -> &mut [u64] {
        let start = to_usize(page * PAGE_SIZE);
        let bytes = &mut self.map[start..start + PAGE_WORDS * 8];
        // SAFETY: any bytes are valid words, and the exclusive borrow of the bytes carries over.
        let (head, words, _) = unsafe { bytes.align_to_mut::<u64>() };
        debug_assert!(head.is_empty());
        words
    }

    /// Gives pages back; they read as zeros afterwards.
    pub fn discard(&mut self, pages: &Range<u64>) {
        let start = to_usize(pages.start * PAGE_SIZE);
        let len = to_usize((pages.end - pages.start) * PAGE_SIZE);
        let bytes = &mut self.map[start..start + len];
        // SAFETY: the range is inside a private anonymous mapping that is borrowed exclusively, so that
        // nobody sees its bytes change to zero.
        let result = unsafe { rustix::mm::madvise(bytes.as_mut_ptr().cast(), len, Advice::LinuxDontNeed) };
        if result.is_err() {
            bytes.fill(0);
        }
    }
}

/// Gives the kernel advice that changes no content; that it is not taken is no error.
fn advise(base: *mut u8, len: usize, advice: Advice) {
    // SAFETY: the caller passes a whole mapping, and none of the advices it passes changes a byte of it.
    let _ = unsafe { rustix::mm::madvise(base.cast(), len, advice) };
}

/// A size in bytes as the platform's `usize`; Lockstep runs on 64-bit machines.
pub(crate) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("64-bit platform")
}
