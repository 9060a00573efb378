//! Transfers of the bytes that changed, 64 at a time, on processors that store by a mask of bytes (AVX-512BW).
//!
//! # Safety
//! A byte outside of the mask is neither read nor written by such a store. Loads and stores of shared memory are
//! instructions that the compiler knows nothing of, so that others may access it at the same moment, as in
//! [`super::memory`].

#![allow(unsafe_code, reason = "door to masked stores")]

use super::memory::SharedMem;

/// Bytes of a line.
pub const LINE: usize = 64;

/// Stores into `to` each byte of `from` that differs from `twin`, and takes it over into `twin`; without one, each that
/// differs from what `to` has. Each byte of `from` is read once.
///
/// Returns how many bytes differed, and whether some did in each line; `None` if this processor has no such stores. All are
/// equally long, whole lines.
pub fn transfer(from: &SharedMem, twin: Option<&mut [u64]>, to: &SharedMem) -> Option<(u64, bool)> {
    assert!(from.len() == to.len() && to.len().is_multiple_of(LINE), "lines of equally much memory");
    assert!(twin.as_ref().is_none_or(|twin| size_of_val(*twin) == to.len()), "a twin of everything");
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512bw") && std::arch::is_x86_feature_detected!("popcnt") {
        let twin = twin.map_or(std::ptr::null_mut(), <[u64]>::as_mut_ptr);
        // SAFETY: the processor has what the function needs; all are valid for as many whole lines.
        return Some(unsafe { x86::transfer(from.as_ptr(), twin.cast(), to.as_ptr(), to.len()) });
    }
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::{__m512i, _mm512_cmpneq_epi8_mask, _mm512_loadu_si512, _mm512_storeu_si512};

    use super::LINE;

    /// # Safety
    /// The processor has AVX-512BW. `from` is valid for reads of `len` bytes, a multiple of a line; `to` for writes, and so
    /// is `twin`, which nobody else accesses, unless it is null.
    #[target_feature(enable = "avx512f,avx512bw,popcnt")]
    pub(super) unsafe fn transfer(from: *const u8, twin: *mut u8, to: *mut u8, len: usize) -> (u64, bool) {
        let (mut bytes, mut everywhere) = (0, true);
        for at in (0..len).step_by(LINE) {
            let (from, to) = (from.wrapping_add(at), to.wrapping_add(at));
            // SAFETY: a line inside, by the caller's word.
            let new = unsafe { load_racing(from) };
            let old = match twin.is_null() {
                // SAFETY: as above.
                true => unsafe { load_racing(to) },
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
    /// `from` is valid for reads of a line.
    #[target_feature(enable = "avx512f")]
    unsafe fn load_racing(from: *const u8) -> __m512i {
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
}
