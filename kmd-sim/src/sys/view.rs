//! Further mappings of a memory file, for one object each: `mmap(2)` where the application wants it,
//! `munmap(2)`.
//!
//! # Safety
//! A mapping is made where the kernel finds room, or at a [`Place`], which is nobody's but the application's
//! to give away. What is handed out is where it lies; its owner outlives who uses that.

#![allow(unsafe_code, reason = "door to mappings at given addresses")]

use std::os::fd::BorrowedFd;
use std::ptr::{NonNull, null_mut};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::memory::SharedMem;
use crate::addr::PAGE_BYTES;
use crate::error::{Error, Result};

/// Address space whose mappings, if there are any, may be replaced.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    base: NonNull<u8>,
    len: usize,
}

impl Place {
    /// The `len` bytes from `base` on.
    ///
    /// # Safety
    /// Nobody uses what is mapped there, and nobody else maps anything there.
    pub unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self { base, len }
    }
}

/// A mapping of part of a memory file. It has its place to itself.
#[derive(Debug)]
pub struct View(Place);

// SAFETY: a mapping belongs to the process, and accesses are the business of who was given an address.
unsafe impl Send for View {}
// SAFETY: as above; shared references only tell where it is.
unsafe impl Sync for View {}

impl View {
    /// Maps `len` bytes from `offset` on of a file, at `place` or where there is room.
    pub(super) fn new(file: BorrowedFd<'_>, offset: u64, len: usize, place: Option<Place>) -> Result<Self> {
        if place
            .as_ref()
            .is_some_and(|place| !place.base.addr().get().is_multiple_of(PAGE_BYTES) || place.len != len)
        {
            return Err(Error::Invalid);
        }
        let (at, fixed) = match &place {
            Some(place) => (place.base.as_ptr().cast(), MapFlags::FIXED),
            None => (null_mut(), MapFlags::empty()),
        };
        let flags = MapFlags::SHARED | MapFlags::NORESERVE | fixed;
        // SAFETY: where the kernel chooses, or in place of what may be replaced.
        let base = unsafe { mmap(at, len, ProtFlags::READ | ProtFlags::WRITE, flags, file, offset) }
            .map_err(|errno| os("mmap(2)", errno))?;
        let base = NonNull::new(base.cast()).ok_or(Error::NoMemory)?;
        Ok(Self(place.unwrap_or(Place { base, len })))
    }

    /// Its bytes.
    pub fn memory(&self) -> SharedMem {
        // SAFETY: 1. mapped as long as `self`, whose owner hands out nothing that outlives it; 2. nobody has
        // references to it.
        unsafe { SharedMem::new(self.0.base, self.0.len) }
    }

    /// Ends it, but keeps others out of its addresses: they are whose it is now. If the kernel refuses, the
    /// mapping stays.
    pub fn reserve(self) -> core::result::Result<Place, (Self, Error)> {
        let Place { base, len } = self.0;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: replaces the mapping, which nobody uses any more.
        match unsafe { mmap_anonymous(base.as_ptr().cast(), len, ProtFlags::empty(), flags) } {
            Ok(_) => {
                std::mem::forget(self);
                Ok(Place { base, len })
            }
            Err(errno) => Err((self, os("mmap(2)", errno))),
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let Place { base, len } = self.0;
        // SAFETY: made by `new`, and used by nobody any more.
        if let Err(errno) = unsafe { munmap(base.as_ptr().cast(), len) } {
            log::warn!("{len} bytes at {base:?} stay mapped: {}", os("munmap(2)", errno));
        }
    }
}

fn os(call: &'static str, errno: Errno) -> Error {
    Error::Os { call, errno }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::PAGE_SIZE;
    use crate::sys::pages::TwiceMapped;

    fn place(base: *mut u8, len: usize) -> Place {
        // SAFETY: the tests pass addresses of their own.
        unsafe { Place::new(NonNull::new(base).unwrap(), len) }
    }

    /// The protections of the mappings that cover an address.
    fn protection(address: *mut u8) -> Option<String> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let hex = |text: &str| usize::from_str_radix(text, 16).unwrap();
        maps.lines().find_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            (hex(start)..hex(end)).contains(&address.addr()).then(|| rest[..4].to_owned())
        })
    }

    #[test]
    fn a_view_shows_the_pages_it_was_made_of_and_leaves_a_reservation() {
        let pages = TwiceMapped::new("test", 8 * PAGE_SIZE).unwrap();
        let view = pages.view(&(2 * PAGE_SIZE..4 * PAGE_SIZE), None).unwrap();
        let base = view.memory().as_ptr();
        view.memory().store_byte(PAGE_BYTES + 5, 7);
        let mut copy = crate::sys::memory::PageBuf::ZERO;
        pages.driver().slice(3 * PAGE_BYTES, 8).snapshot(&mut copy);
        assert_eq!(copy.0[0].to_ne_bytes()[5], 7);

        let reserved = view.reserve().unwrap();
        assert_eq!(reserved, place(base, 2 * PAGE_BYTES));
        assert_eq!(protection(base).as_deref(), Some("---p"));
        let again = pages.view(&(2 * PAGE_SIZE..4 * PAGE_SIZE), Some(reserved)).unwrap();
        assert_eq!(again.memory().as_ptr(), base);
        assert_eq!(protection(base).as_deref(), Some("rw-s"));
        drop(again);
        assert_eq!(protection(base), None);
    }

    #[test]
    fn a_place_that_does_not_fit_is_refused_and_left_alone() {
        let pages = TwiceMapped::new("test", 8 * PAGE_SIZE).unwrap();
        let room = pages.view(&(0..4 * PAGE_SIZE), None).unwrap().reserve().unwrap();
        let base = room.base.as_ptr();
        for (base, len) in [(base.wrapping_add(64), 2 * PAGE_BYTES), (base, PAGE_BYTES)] {
            let refused = pages.view(&(0..2 * PAGE_SIZE), Some(place(base, len))).unwrap_err();
            assert_eq!(refused, Error::Invalid);
        }
        let beyond = place(std::ptr::without_provenance_mut(1 << 62), 2 * PAGE_BYTES);
        assert!(pages.view(&(0..2 * PAGE_SIZE), Some(beyond)).is_err());
        assert_eq!(protection(base).as_deref(), Some("---p"));
        drop(pages.view(&(0..4 * PAGE_SIZE), Some(room)).unwrap());
    }
}
