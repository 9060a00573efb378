//! Stores of the bytes that changed, 64 at a time, on processors that store by a mask of bytes (AVX-512BW).
//!
//! # Safety
//! A byte outside of the mask is neither read nor written by such a store. The store is an instruction that the compiler
//! knows nothing of, so that others may access its target at the same moment, as in [`super::memory`].

#![allow(unsafe_code, reason = "door to masked stores")]

use super::memory::{SharedMem, bytes_of};

/// Bytes of a line.
pub const LINE: usize = 64;

/// Stores into `target` each byte of whole lines of `new` that differs from `old`. Returns how many did, and whether some
/// did in each line; `None` if this processor has no such stores. All three must be equally long.
pub fn store_changed(new: &[u64], old: &[u64], target: &SharedMem) -> Option<(u64, bool)> {
    assert!(new.len() == old.len() && size_of_val(new) == target.len() && target.len() % LINE == 0);
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512bw") && std::arch::is_x86_feature_detected!("popcnt") {
        // SAFETY: the processor has what the function needs, and all three are valid for as many whole lines.
        return Some(unsafe { x86::store_changed(bytes_of(new), bytes_of(old), target.as_ptr()) });
    }
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::{_mm512_cmpneq_epi8_mask, _mm512_loadu_si512};

    use super::LINE;

    /// # Safety
    /// The processor has AVX-512BW; `target` is valid for writes of as many bytes as `new` and `old` have, whole lines.
    #[target_feature(enable = "avx512f,avx512bw,popcnt")]
    pub(super) unsafe fn store_changed(new: &[u8], old: &[u8], target: *mut u8) -> (u64, bool) {
        let (mut bytes, mut everywhere) = (0, true);
        for (index, (new, old)) in new.chunks_exact(LINE).zip(old.chunks_exact(LINE)).enumerate() {
            // SAFETY: as many bytes as a line has.
            let new = unsafe { _mm512_loadu_si512(new.as_ptr().cast()) };
            // SAFETY: as above.
            let old = unsafe { _mm512_loadu_si512(old.as_ptr().cast()) };
            let mask = _mm512_cmpneq_epi8_mask(new, old);
            if mask == 0 {
                everywhere = false;
                continue;
            }
            bytes += u64::from(mask.count_ones());
            // SAFETY: inside, by the caller's word.
            let to = unsafe { target.add(index * LINE) };
            // SAFETY: writes bytes of that line, which is valid.
            unsafe {
                asm!(
                    "vmovdqu8 [{to}]{{{mask}}}, {new}",
                    to = in(reg) to,
                    mask = in(kreg) mask,
                    new = in(zmm_reg) new,
                    options(nostack, preserves_flags)
                );
            }
        }
        (bytes, everywhere)
    }
}
