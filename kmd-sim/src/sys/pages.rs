//! Pages from the kernel: `memfd_create(2)`, `mmap(2)`, `mprotect(2)`, `fallocate(2)`, `fstat(2)`,
//! `lseek(2)`, `madvise(2)`, `mincore(2)`.
//!
//! # Safety
//! Mappings are made by `Reserved` alone and never moved; what is handed out are addresses inside of them,
//! wrapped as [`SharedMem`], which the owner of the mapping outlives.

#![allow(unsafe_code, reason = "door to memory mappings")]

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::ptr::{NonNull, null_mut};

use rustix::fs::{FallocateFlags, MemfdFlags, SeekFrom};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};
use rustix::process::{Resource, getrlimit};

use super::memory::SharedMem;
use super::view::{Place, View};
use crate::addr::{PAGE_SIZE, PAGE_WORDS};
use crate::error::{Error, Result};

/// What is opened at a time, in bytes.
const STEP: usize = 2 << 20;

/// Address space, of which a part at the start may be touched. The rest costs nothing, also in a process that
/// has all its memory locked (`mlockall(2)`): only what may be touched is ever brought in.
#[derive(Debug)]
struct Reserved {
    base: NonNull<u8>,
    len: usize,
    open: usize,
}

// SAFETY: a mapping belongs to the process, and accesses are the business of who was given an address.
unsafe impl Send for Reserved {}
// SAFETY: as above; shared references only tell where it is.
unsafe impl Sync for Reserved {}

impl Reserved {
    /// Reserves `len` bytes for a file, or for private zero-filled memory.
    fn new(len: usize, file: Option<BorrowedFd<'_>>) -> Result<Self> {
        let none = ProtFlags::empty();
        let sparse = MapFlags::NORESERVE;
        let base = match file {
            // SAFETY: a new mapping at an address that the kernel chooses.
            Some(file) => unsafe {
                rustix::mm::mmap(null_mut(), len, none, MapFlags::SHARED | sparse, file, 0)
            },
            // SAFETY: as above.
            None => unsafe { rustix::mm::mmap_anonymous(null_mut(), len, none, MapFlags::PRIVATE | sparse) },
        };
        let base = base.ok().and_then(|base| NonNull::new(base.cast::<u8>())).ok_or(Error::NoMemory)?;
        // All of it would be brought in when it is opened, if all memory to come is locked. That it was not
        // is no error. SAFETY: changes no content.
        let _ = unsafe { rustix::mm::munlock(base.as_ptr().cast(), len) };
        Ok(Self { base, len, open: 0 })
    }

    /// Lets at least the first `end` bytes be touched.
    fn open(&mut self, end: usize) -> Result<()> {
        if end <= self.open {
            return Ok(());
        }
        let end = end.next_multiple_of(STEP).min(self.len);
        let (start, len) = (self.base.as_ptr().wrapping_add(self.open), end - self.open);
        // SAFETY: inside of the mapping; nobody has been given an address of it yet.
        unsafe { rustix::mm::mprotect(start.cast(), len, MprotectFlags::READ | MprotectFlags::WRITE) }
            .map_err(|errno| os("mprotect(2)", errno))?;
        self.open = end;
        Ok(())
    }

    /// Gives the kernel advice that changes no content; that it is not taken is no error.
    fn advise(&self, advice: Advice) {
        // SAFETY: a whole mapping, and none of the advices passed changes a byte of it.
        let _ = unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), self.len, advice) };
    }

    fn shared(&self) -> SharedMem {
        // SAFETY: 1. the mapping lives as long as its owner, which hands out no slice that outlives it; 2.
        // nobody has references to it.
        unsafe { SharedMem::new(self.base, self.len) }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and used by nobody any more.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// A memory file mapped twice: once for the application, once for the driver.
#[derive(Debug)]
pub struct TwiceMapped {
    file: File,
    application: Reserved,
    driver: Reserved,
}

impl TwiceMapped {
    /// Creates a sparse file of `bytes` bytes (a multiple of the page size) and maps it twice.
    pub fn new(name: &str, bytes: u64) -> Result<Self> {
        let mut this = Self::reserve(name, bytes)?;
        this.open(bytes)?;
        Ok(this)
    }

    /// As above, but nothing of it may be touched yet.
    pub fn reserve(name: &str, bytes: u64) -> Result<Self> {
        let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)
            .map_err(|errno| os("memfd_create(2)", errno))?;
        rustix::fs::ftruncate(&fd, bytes).map_err(|errno| os("ftruncate(2)", errno))?;
        let file = File::from(fd);
        let application = Reserved::new(to_usize(bytes), Some(file.as_fd()))?;
        let driver = Reserved::new(to_usize(bytes), Some(file.as_fd()))?;
        // The same bytes twice in a core dump help nobody.
        driver.advise(Advice::LinuxDontDump);
        Ok(Self { file, application, driver })
    }

    /// Lets at least the first `end` bytes be touched, in both mappings.
    pub fn open(&mut self, end: u64) -> Result<()> {
        self.application.open(to_usize(end))?;
        self.driver.open(to_usize(end))
    }

    /// The mapping the application sees.
    pub fn application(&self) -> SharedMem {
        self.application.shared()
    }

    /// The mapping the driver writes through: what is written here is no CPU write.
    pub fn driver(&self) -> SharedMem {
        self.driver.shared()
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

    /// Which pages of `bytes` are known to be in the file, and in memory (`mincore(2)`); of none, where the
    /// kernel does not tell.
    pub fn in_core(&self, bytes: &Range<u64>) -> Vec<bool> {
        let memory = self.driver().slice(to_usize(bytes.start), to_usize(bytes.end - bytes.start));
        let mut pages = vec![0; to_usize((bytes.end - bytes.start) / PAGE_SIZE)];
        // SAFETY: the range is mapped, and there is a byte for each of its pages.
        let told = unsafe { libc::mincore(memory.as_ptr().cast(), memory.len(), pages.as_mut_ptr()) };
        if told != 0 {
            return Vec::new();
        }
        pages.into_iter().map(|page| page & 1 != 0).collect()
    }

    /// Bytes of the pages the file has (`st_blocks`); none where the kernel does not tell.
    pub fn resident_bytes(&self) -> u64 {
        rustix::fs::fstat(&self.file).map_or(0, |stat| stat.st_blocks.cast_unsigned() * 512)
    }

    /// Gives the file all pages of `bytes`, and keeps them in it.
    pub fn populate(&self, bytes: &Range<u64>) -> Result<()> {
        rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, bytes.start, bytes.end - bytes.start)
            .map_err(|errno| os("fallocate(2)", errno))
    }

    /// Takes the pages of `bytes` out of the application's page tables (`unmap_mapping_range`): the next
    /// access faults.
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

/// Makes pages of a shared mapping writable in the page tables, as if each had been stored to with the value
/// it has. Where that cannot be, they are left as they are. Waits for who serves faults, if they come to
/// somebody.
pub fn write_fault(memory: SharedMem) {
    // SAFETY: the content of a shared mapping stays.
    let _ = unsafe { rustix::mm::madvise(memory.as_ptr().cast(), memory.len(), Advice::LinuxPopulateWrite) };
}

fn os(call: &'static str, errno: Errno) -> Error {
    Error::Os { call, errno }
}

/// Bytes a file of this process may have: a larger one would raise SIGXFSZ.
pub fn largest_file() -> u64 {
    getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX)
}

/// Private zero-filled memory in units of pages, sparse: only what was written takes memory.
#[derive(Debug)]
pub struct PrivatePages {
    reserved: Reserved,
}

impl PrivatePages {
    /// Reserves `bytes` bytes (a multiple of the page size).
    pub fn new(bytes: u64) -> Result<Self> {
        let reserved = Reserved::new(to_usize(bytes), None)?;
        reserved.advise(Advice::LinuxDontDump);
        // It is sparse by design: a huge page for each byte would not be.
        reserved.advise(Advice::LinuxNoHugepage);
        Ok(Self { reserved })
    }

    /// Lets at least the first `end` bytes be used.
    pub fn open(&mut self, end: u64) -> Result<()> {
        self.reserved.open(to_usize(end))
    }

    /// The words of page `page`, which was opened.
    pub fn page(&mut self, page: u64) -> &mut [u64] {
        let start = to_usize(page * PAGE_SIZE);
        assert!(start + PAGE_WORDS * 8 <= self.reserved.open, "page {page} was not opened");
        let words = self.reserved.base.as_ptr().wrapping_add(start).cast();
        // SAFETY: inside of what may be touched; private memory, borrowed exclusively, of which any bytes are
        // valid words.
        unsafe { std::slice::from_raw_parts_mut(words, PAGE_WORDS) }
    }

    /// Gives pages back; they read as zeros afterwards.
    pub fn discard(&mut self, pages: &Range<u64>) {
        let start = to_usize(pages.start * PAGE_SIZE);
        let len = to_usize((pages.end - pages.start) * PAGE_SIZE);
        assert!(start + len <= self.reserved.open, "pages {pages:?} were not opened");
        let base = self.reserved.base.as_ptr().wrapping_add(start);
        // SAFETY: the range is inside a private anonymous mapping that is borrowed exclusively, so that
        // nobody sees its bytes change to zero.
        let result = unsafe { rustix::mm::madvise(base.cast(), len, Advice::LinuxDontNeed) };
        if result.is_err() {
            pages.clone().for_each(|page| self.page(page).fill(0));
        }
    }
}

/// A size in bytes as the platform's `usize`; Lockstep runs on 64-bit machines.
pub(crate) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("64-bit platform")
}
