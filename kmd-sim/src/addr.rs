//! Addresses and sizes: page offsets and the arithmetic between pages and bytes.
//!
//! Page offsets (`Pgoff`) count pages from the start of the arena, as `pgoff_t` counts pages from the
//! start of a device's mapping. All ranges are half open.

use std::ops::Range;

/// Bytes in a page: `PAGE_SIZE`. Lockstep tracks in units of 4 KiB.
pub const PAGE_SIZE: u64 = 4096;
/// `PAGE_SIZE` as a `usize`.
pub const PAGE_BYTES: usize = 4096;
/// 64-bit words in a page.
pub const PAGE_WORDS: usize = PAGE_BYTES / 8;

/// A page offset: counts pages from the start of the arena (`pgoff_t`).
pub type Pgoff = u64;

/// Pages needed for `bytes` bytes.
pub const fn pages_for(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_SIZE)
}

/// The pages that hold at least one byte of `bytes`; empty when `bytes` is.
pub const fn pages_of(bytes: &Range<u64>) -> Range<u64> {
    if bytes.start >= bytes.end {
        return 0..0;
    }
    bytes.start / PAGE_SIZE..pages_for(bytes.end)
}

/// The part two ranges have in common; empty when they are disjoint.
pub fn intersection(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_covers_every_byte_and_no_further_page() {
        assert_eq!(pages_of(&(0..1)), 0..1);
        assert_eq!(pages_of(&(4095..4097)), 0..2);
        assert_eq!(pages_of(&(4096..8192)), 1..2);
        assert_eq!(pages_of(&(7..7)), 0..0);
    }

    #[test]
    fn intersection_of_disjoint_ranges_is_empty() {
        assert!(intersection(&(0..4), &(6..9)).is_empty());
        assert_eq!(intersection(&(0..7), &(6..9)), 6..7);
    }
}
