//! Transfers of the bytes that changed, a line of 64 at a time: by a mask of bytes where the processor can
//! (AVX-512BW), else whole lines where nobody writes their other bytes, and the changed bytes of a line where
//! somebody may (AVX2).
//!
//! # Safety
//! A byte that did not change is not written where somebody else may write it. Loads and stores of shared
//! memory are instructions that the compiler knows nothing of, or relaxed atomics, so that others may access
//! it at the same moment, as in [`super::memory`].

#![allow(unsafe_code, reason = "door to vector loads and stores")]

use super::memory::SharedMem;

/// Bytes of a line.
pub const LINE: usize = 64;

/// Stores into `to` each byte of `from` that differs from `twin`, and takes it over into `twin`; without one,
/// each that differs from what `to` has. Each byte of `from` is read once. `alone`: nobody else writes `to`,
/// which equals `twin`, if there is one: then the bytes between changed ones may be stored, too.
///
/// Returns how many bytes differed, and whether some did in each line; `None` if this processor has no such
/// stores. All are equally long, whole lines. Without a twin, `to` must be the caller's alone.
pub fn transfer(
    from: &SharedMem,
    twin: Option<&mut [u64]>,
    to: &SharedMem,
    alone: bool,
) -> Option<(u64, bool)> {
    assert!(from.len() == to.len() && to.len().is_multiple_of(LINE), "lines of equally much memory");
    assert!(twin.as_ref().is_none_or(|twin| size_of_val(*twin) == to.len()), "a twin of everything");
    assert!(alone || twin.is_some(), "what others write has a twin");
    #[cfg(target_arch = "x86_64")]
    if let Some(transfer) = x86::offered().next() {
        let twin = twin.map_or(std::ptr::null_mut(), <[u64]>::as_mut_ptr);
        // SAFETY: the processor has what the function needs; all are valid for as many whole lines.
        return Some(unsafe { transfer(from.as_ptr(), twin.cast(), to.as_ptr(), to.len(), alone) });
    }
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::{
        __m256i, __m512i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_storeu_si256,
        _mm512_cmpneq_epi8_mask, _mm512_loadu_si512, _mm512_storeu_si512,
    };

    use super::LINE;
    use crate::sync::machine::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

    /// From, twin or null, to, bytes, and whether nobody else writes there.
    ///
    /// # Safety
    /// The processor has what it needs. The first is valid for reads of so many bytes, a multiple of a line;
    /// the third for writes, and aligned to 8; and so is the twin, which nobody else accesses.
    pub(super) type Transfer = unsafe fn(*const u8, *mut u8, *mut u8, usize, bool) -> (u64, bool);

    /// What this processor has, the best first.
    pub(super) fn offered() -> impl Iterator<Item = Transfer> {
        let counts = std::arch::is_x86_feature_detected!("popcnt");
        let avx512 =
            (counts && std::arch::is_x86_feature_detected!("avx512bw")).then_some(avx512 as Transfer);
        let avx2 = (counts && std::arch::is_x86_feature_detected!("avx2")).then_some(avx2 as Transfer);
        avx512.into_iter().chain(avx2)
    }

    /// # Safety
    /// As for [`Transfer`]; needs AVX-512BW.
    #[target_feature(enable = "avx512f,avx512bw,popcnt")]
    pub(super) unsafe fn avx512(
        from: *const u8,
        twin: *mut u8,
        to: *mut u8,
        len: usize,
        _alone: bool,
    ) -> (u64, bool) {
        let (mut bytes, mut everywhere) = (0, true);
        for at in (0..len).step_by(LINE) {
            let (from, to) = (from.wrapping_add(at), to.wrapping_add(at));
            // SAFETY: a line inside, by the caller's word.
            let new = unsafe { load_line(from) };
            let old = match twin.is_null() {
                // SAFETY: as above.
                true => unsafe { load_line(to) },
                // SAFETY: as above, and nobody else's.
                false => unsafe { _mm512_loadu_si512(twin.wrapping_add(at).cast()) },
            };
            let mask = _mm512_cmpneq_epi8_mask(new, old);
            if mask == 0 {
                everywhere = false;
                continue;
            }
            bytes += u64::from(mask.count_ones());
            // SAFETY: writes bytes of a line inside, by the caller's word.
            unsafe {
                asm!(
                    "vmovdqu8 [{to}]{{{mask}}}, {new}",
                    to = in(reg) to,
                    mask = in(kreg) mask,
                    new = in(zmm_reg) new,
                    options(nostack, preserves_flags)
                );
            }
            if !twin.is_null() {
                // SAFETY: as for the load.
                unsafe { _mm512_storeu_si512(twin.wrapping_add(at).cast(), new) };
            }
        }
        (bytes, everywhere)
    }

    /// # Safety
    /// As for [`Transfer`]; needs AVX2.
    #[target_feature(enable = "avx2,popcnt")]
    pub(super) unsafe fn avx2(
        from: *const u8,
        twin: *mut u8,
        to: *mut u8,
        len: usize,
        alone: bool,
    ) -> (u64, bool) {
        const HALF: usize = LINE / 2;
        let (mut bytes, mut everywhere) = (0, true);
        for at in (0..len).step_by(LINE) {
            let (from, to, twin_at) = (from.wrapping_add(at), to.wrapping_add(at), twin.wrapping_add(at));
            // SAFETY: half a line inside, by the caller's word.
            let low = unsafe { load_half(from) };
            // SAFETY: the other half.
            let high = unsafe { load_half(from.wrapping_add(HALF)) };
            let old = |half: usize| match twin.is_null() {
                // SAFETY: as above.
                true => unsafe { load_half(to.wrapping_add(half)) },
                // SAFETY: as above, and nobody else's.
                false => unsafe { _mm256_loadu_si256(twin_at.wrapping_add(half).cast()) },
            };
            let mask = differing(low, old(0)) | differing(high, old(HALF)) << HALF;
            if mask == 0 {
                everywhere = false;
                continue;
            }
            bytes += u64::from(mask.count_ones());
            if alone || mask == u64::MAX {
                // SAFETY: half a line inside, all of which may be written.
                unsafe { store_half(to, low) };
                // SAFETY: the other half.
                unsafe { store_half(to.wrapping_add(HALF), high) };
            } else {
                let mut words = [0u64; LINE / 8];
                // SAFETY: as long as a line, and nobody else's.
                unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), low) };
                // SAFETY: the other half.
                unsafe { _mm256_storeu_si256(words[HALF / 8..].as_mut_ptr().cast(), high) };
                for (index, (word, mask)) in words.into_iter().zip(mask.to_le_bytes()).enumerate() {
                    if mask != 0 {
                        // SAFETY: a word of a line inside.
                        unsafe { store_some(to.wrapping_add(index * 8), word, mask) };
                    }
                }
            }
            if !twin.is_null() {
                // SAFETY: as for the load.
                unsafe { _mm256_storeu_si256(twin_at.cast(), low) };
                // SAFETY: as above.
                unsafe { _mm256_storeu_si256(twin_at.wrapping_add(HALF).cast(), high) };
            }
        }
        (bytes, everywhere)
    }

    /// The bytes that differ, one bit each.
    #[target_feature(enable = "avx2")]
    fn differing(a: __m256i, b: __m256i) -> u64 {
        u64::from(!_mm256_movemask_epi8(_mm256_cmpeq_epi8(a, b)).cast_unsigned())
    }

    /// Stores those bytes of a word whose bit is set in `mask`, in as few stores as there are aligned pieces
    /// of them.
    ///
    /// # Safety
    /// `to` is valid for writes of a word, and aligned to it.
    unsafe fn store_some(to: *mut u8, word: u64, mask: u8) {
        let part = |at: usize| (to.wrapping_add(at), word >> (8 * at));
        if mask == 0xff {
            // SAFETY: valid and aligned, by the caller's word.
            unsafe { AtomicU64::from_ptr(to.cast()) }.store(word, Ordering::Relaxed);
            return;
        }
        for half in [0, 4] {
            let (to, value) = part(half);
            match mask >> half & 0xf {
                0 => {}
                #[expect(clippy::cast_possible_truncation, reason = "the bytes to store are the lowest")]
                // SAFETY: a part of the word, which is aligned.
                0xf => unsafe { AtomicU32::from_ptr(to.cast()) }.store(value as u32, Ordering::Relaxed),
                _ => {
                    for pair in [half, half + 2] {
                        let (to, value) = part(pair);
                        let bits = mask >> pair & 0b11;
                        #[expect(
                            clippy::cast_possible_truncation,
                            reason = "the bytes to store are the lowest"
                        )]
                        if bits == 0b11 {
                            // SAFETY: a part of the word, which is aligned.
                            unsafe { AtomicU16::from_ptr(to.cast()) }.store(value as u16, Ordering::Relaxed);
                        } else if bits != 0 {
                            let odd = usize::from(bits >> 1);
                            // SAFETY: a byte of the word.
                            let byte = unsafe { AtomicU8::from_ptr(to.wrapping_add(odd)) };
                            byte.store((value >> (8 * odd)) as u8, Ordering::Relaxed);
                        }
                    }
                }
            }
        }
    }

    /// # Safety
    /// `from` is valid for reads of a line.
    #[target_feature(enable = "avx512f")]
    unsafe fn load_line(from: *const u8) -> __m512i {
        let line;
        // SAFETY: reads what the caller vouches for.
        unsafe {
            asm!(
                "vmovdqu64 {line}, [{from}]",
                line = out(zmm_reg) line,
                from = in(reg) from,
                options(nostack, preserves_flags, readonly)
            );
        }
        line
    }

    /// # Safety
    /// `from` is valid for reads of half a line.
    #[target_feature(enable = "avx2")]
    unsafe fn load_half(from: *const u8) -> __m256i {
        let half;
        // SAFETY: reads what the caller vouches for.
        unsafe {
            asm!(
                "vmovdqu {half}, [{from}]",
                half = out(ymm_reg) half,
                from = in(reg) from,
                options(nostack, preserves_flags, readonly)
            );
        }
        half
    }

    /// # Safety
    /// `to` is valid for writes of half a line.
    #[target_feature(enable = "avx2")]
    unsafe fn store_half(to: *mut u8, half: __m256i) {
        // SAFETY: writes what the caller vouches for.
        unsafe {
            asm!(
                "vmovdqu [{to}], {half}",
                to = in(reg) to,
                half = in(ymm_reg) half,
                options(nostack, preserves_flags)
            );
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::addr::PAGE_SIZE;
    use crate::sys::pages::TwiceMapped;
    use proptest::prelude::*;

    fn read(memory: &SharedMem) -> Vec<u8> {
        let mut page = crate::sys::memory::PageBuf::ZERO;
        let words = memory.snapshot(&mut page);
        page.0[..words].iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    proptest! {
        /// Whatever mask of bytes differs, each way that this processor has stores these and, where somebody
        /// else may write, no others.
        #[test]
        fn every_way_stores_the_bytes_that_differ(
            masks in prop::collection::vec(prop_oneof![Just(0u64), Just(u64::MAX), any::<u64>()], 1..4),
            bytes in any::<u8>(),
            way in 0usize..3,
        ) {
            let (has_twin, alone) = [(false, true), (true, true), (true, false)][way];
            let len = masks.len() * LINE;
            let pages = [(); 2].map(|()| TwiceMapped::new("test", PAGE_SIZE).unwrap());
            let [from, to] = [&pages[0], &pages[1]].map(|pages| pages.driver().slice(0, len));
            let differs = |at: usize| masks[at / LINE] >> (at % LINE) & 1 != 0;
            let old = |at: usize| bytes.wrapping_add(at.to_le_bytes()[0]);
            // Between the bytes that differ, somebody else has written.
            let before = |at: usize| if alone { old(at) } else { !old(at) };
            let count = masks.iter().map(|mask| u64::from(mask.count_ones())).sum();
            let everywhere = masks.iter().all(|mask| *mask != 0);
            for transfer in x86::offered() {
                for at in 0..len {
                    from.store_byte(at, old(at) ^ u8::from(differs(at)));
                    to.store_byte(at, before(at));
                }
                let olds: Vec<u8> = (0..len).map(old).collect();
                let mut twin: Vec<u64> =
                    olds.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect();
                let twin_at = if has_twin { twin.as_mut_ptr().cast() } else { std::ptr::null_mut() };
                // SAFETY: offered by this processor; all are as long.
                let found = unsafe { transfer(from.as_ptr(), twin_at, to.as_ptr(), len, alone) };
                prop_assert_eq!(found, (count, everywhere));
                let stored = |at: usize| if differs(at) { old(at) ^ 1 } else { before(at) };
                prop_assert_eq!(read(&to), (0..len).map(stored).collect::<Vec<_>>());
                if has_twin {
                    let twin: Vec<u8> = twin.iter().flat_map(|word| word.to_ne_bytes()).collect();
                    prop_assert_eq!(twin, read(&from));
                }
            }
        }
    }
}
