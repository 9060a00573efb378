//! Access to memory that others may write at the same moment: guest pages and host memory.
//!
//! # Safety
//! The application and the device read and write this memory whenever they like, so it is never a Rust
//! reference: every access goes through relaxed atomics of the width named, or through an instruction that
//! the compiler knows nothing of (`copy_racing`). The one unsafe function is the constructor, which asks for
//! what all other methods rely on.

#![allow(unsafe_code, reason = "door to memory shared with the application and the device")]

use std::ptr::NonNull;

use crate::addr::PAGE_WORDS;
use crate::sync::machine::{AtomicU8, AtomicU64, Ordering};

/// A span of memory that other parties may write at any time.
///
/// # Invariants
/// `base..base + len` stays mapped readable and writable while any copy of the value is used, and
/// `base` is a multiple of 8.
#[derive(Clone, Copy, Debug)]
pub struct SharedMem {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: by the type invariant the span is valid for every thread, and all accesses are atomic.
unsafe impl Send for SharedMem {}
// SAFETY: as above.
unsafe impl Sync for SharedMem {}

impl SharedMem {
    /// Describes `len` bytes from `base` on.
    ///
    /// # Safety
    /// 1. The span stays mapped, readable and writable for as long as the value or a copy is used.
    /// 2. No Rust reference to any of its bytes exists meanwhile.
    ///
    /// # Panics
    /// If `base` is not a multiple of 8.
    pub unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        assert_eq!(base.as_ptr().addr() % 8, 0, "shared memory must be aligned to 8 bytes");
        // INVARIANT: by conditions 1 and 2 and the assertion.
        Self { base, len }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Address of the first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// The part of `len` bytes from `offset` on. Panics if it is not inside, or not aligned to 8.
    #[must_use]
    pub fn slice(&self, offset: usize, len: usize) -> Self {
        assert!(offset <= self.len && len <= self.len - offset, "slice outside of shared memory");
        assert_eq!(offset % 8, 0, "shared memory must be aligned to 8 bytes");
        // SAFETY: the offset is inside the span, which is one mapping.
        let base = unsafe { self.base.add(offset) };
        // INVARIANT: part of a span that upholds it.
        Self { base, len }
    }

    /// Copies the bytes into `page`, each read once; a last partial word is filled up with zeros.
    ///
    /// Returns the number of words filled. Panics if there are more bytes than a page has.
    pub fn snapshot(&self, page: &mut PageBuf) -> usize {
        let whole = self.len / 8;
        let words = &mut page.0[..self.len.div_ceil(8)];
        // SAFETY: as many bytes are valid here by the type invariant, and there, where nobody else looks.
        unsafe { copy_racing(self.base.as_ptr(), words[..whole].as_mut_ptr().cast(), whole * 8) };
        if let Some(last) = words[whole..].first_mut() {
            let mut bytes = [0; 8];
            for (index, byte) in bytes.iter_mut().enumerate().take(self.len % 8) {
                *byte = self.byte(whole * 8 + index).load(Ordering::Relaxed);
            }
            *last = u64::from_ne_bytes(bytes);
        }
        words.len()
    }

    /// Stores a whole word at word index `index`.
    pub fn store_word(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::Relaxed);
    }

    /// Stores whole words from the start on. Panics if they are not inside.
    pub fn store_words(&self, words: &[u64]) {
        assert!(words.len() <= self.len / 8, "words outside of shared memory");
        // SAFETY: as many bytes are valid here by the assertion and the type invariant, and there.
        unsafe { copy_racing(words.as_ptr().cast(), self.base.as_ptr(), words.len() * 8) };
    }

    /// Stores all bytes of `source`, each read once. Panics unless both have as many, and whole words.
    pub fn store_all(&self, source: &Self) {
        assert!(self.len == source.len && self.len.is_multiple_of(8), "whole words of equally much memory");
        // SAFETY: both are valid by the type invariant. They are different memory, or the same bytes stay.
        unsafe { copy_racing(source.base.as_ptr(), self.base.as_ptr(), self.len) };
    }

    /// Stores one byte at `offset`.
    pub fn store_byte(&self, offset: usize, value: u8) {
        self.byte(offset).store(value, Ordering::Relaxed);
    }

    /// Copies `len` bytes at `offset` of `source` to the same place here, for memory whose owner promises
    /// that nobody else accesses either meanwhile (explicit synchronisation). Panics if they are not inside
    /// of both.
    pub fn copy_from(&self, source: &Self, offset: usize, len: usize) {
        self.copy_span(offset, source, offset, len);
    }

    /// Copies `len` bytes at `from` of `source` to `at` here, for memory that nobody else accesses meanwhile.
    /// Panics if they are not inside of both.
    pub fn copy_span(&self, at: usize, source: &Self, from: usize, len: usize) {
        assert!(from <= source.len && len <= source.len - from, "copy from outside of shared memory");
        assert!(at <= self.len && len <= self.len - at, "copy to outside of shared memory");
        // SAFETY: inside by the assertion.
        let from = unsafe { source.base.add(from) };
        // SAFETY: inside by the assertion.
        let to = unsafe { self.base.add(at) };
        // SAFETY: both spans are valid by the type invariant, and the caller's alone; `copy` allows overlap.
        unsafe { std::ptr::copy(from.as_ptr(), to.as_ptr(), len) };
    }

    /// Whether the words `words` are all zero.
    pub fn is_zero(&self, words: std::ops::Range<usize>) -> bool {
        words.into_iter().all(|index| self.word(index).load(Ordering::Relaxed) == 0)
    }

    /// Has the kernel read bytes of a file into the memory (`read(2)`).
    #[cfg(test)]
    pub(crate) fn read_from(&self, file: &impl std::os::fd::AsRawFd) -> std::io::Result<usize> {
        // SAFETY: the span is valid by the type invariant, and the kernel asks for no reference.
        let count = unsafe { libc::read(file.as_raw_fd(), self.base.as_ptr().cast(), self.len) };
        usize::try_from(count).map_err(|_| std::io::Error::last_os_error())
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.len / 8, "word outside of shared memory");
        // SAFETY: inside the span by the assertion.
        let word = unsafe { self.base.cast::<u64>().add(index) };
        // SAFETY: aligned and valid by the type invariant; all accesses of this crate are atomic.
        unsafe { AtomicU64::from_ptr(word.as_ptr()) }
    }

    fn byte(&self, offset: usize) -> &AtomicU8 {
        assert!(offset < self.len, "byte outside of shared memory");
        // SAFETY: inside the span by the assertion.
        let byte = unsafe { self.base.add(offset) };
        // SAFETY: valid by the type invariant; all accesses of this crate are atomic.
        unsafe { AtomicU8::from_ptr(byte.as_ptr()) }
    }
}

/// Copies bytes from or to memory that others may access at the same moment. Each byte is read and written
/// once.
///
/// # Safety
/// `from` is valid for reads of `len` bytes and `to` for writes; they do not overlap, and both are multiples
/// of 8, as is `len`.
unsafe fn copy_racing(from: *const u8, to: *mut u8, len: usize) {
    // Below that it takes longer to start than to do it by words.
    #[cfg(target_arch = "x86_64")]
    if len >= 256 {
        // SAFETY: the instruction accesses what the caller vouches for; what others do to it meanwhile is no
        // race that the compiler could build upon, since it does not know what is read.
        unsafe {
            std::arch::asm!(
                "rep movsb",
                inout("rcx") len => _,
                inout("rsi") from => _,
                inout("rdi") to => _,
                options(nostack, preserves_flags)
            );
        }
        return;
    }
    for offset in (0..len).step_by(8) {
        // SAFETY: inside, by the caller's word.
        let from = unsafe { from.add(offset) };
        // SAFETY: valid, and aligned, by the caller's word.
        let word = unsafe { AtomicU64::from_ptr(from.cast_mut().cast()) }.load(Ordering::Relaxed);
        // SAFETY: inside, by the caller's word.
        let to = unsafe { to.add(offset) };
        // SAFETY: valid, and aligned, by the caller's word.
        unsafe { AtomicU64::from_ptr(to.cast()) }.store(word, Ordering::Relaxed);
    }
}

/// The bytes of words, as they lie in memory.
pub fn bytes_of(words: &[u64]) -> &[u8] {
    // SAFETY: as many bytes, all of them initialised, of which any alignment will do.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

/// A private copy of one page.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct PageBuf(pub [u64; PAGE_WORDS]);

impl PageBuf {
    /// A page of zeros.
    pub const ZERO: Self = Self([0; PAGE_WORDS]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_of_a_partial_word_reads_no_byte_beyond_the_end() {
        let mut store = vec![u64::MAX; 2];
        let base = NonNull::new(store.as_mut_ptr().cast::<u8>()).unwrap();
        // SAFETY: `store` outlives the value and is not touched meanwhile.
        let memory = unsafe { SharedMem::new(base, 11) };
        let mut page = PageBuf::ZERO;
        assert_eq!(memory.snapshot(&mut page), 2);
        assert_eq!(page.0[..2], [u64::MAX, u64::from_le(0x00ff_ffff)]);
    }

    #[test]
    fn words_of_any_number_arrive_and_no_others() {
        for count in [0, 1, 31, 32, 33, 511, 512] {
            let mut store = vec![7u64; PAGE_WORDS + 1];
            let base = NonNull::new(store.as_mut_ptr().cast::<u8>()).unwrap();
            // SAFETY: `store` outlives the value and is not touched meanwhile.
            let memory = unsafe { SharedMem::new(base, store.len() * 8) };
            let words: Vec<u64> =
                (0..count).map(|word: u64| word.wrapping_mul(0x0101_0101_0101_0103)).collect();
            memory.store_words(&words);
            let mut page = PageBuf::ZERO;
            assert_eq!(memory.slice(0, words.len() * 8).snapshot(&mut page), words.len());
            assert_eq!(page.0[..words.len()], words);
            assert!(page.0[words.len()..].iter().all(|word| *word == 0));
            assert!(store[words.len()..].iter().all(|word| *word == 7));
        }
    }
}
