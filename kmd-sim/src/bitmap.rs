//! A bitmap of pages with word-wise range operations (kernel: `linux/bitmap.h`).

use std::ops::Range;

use crate::error::{Error, Result};

const BITS: u64 = u64::BITS as u64;

/// A fixed number of bits, all clear at first.
#[derive(Clone, Debug)]
pub struct Bitmap {
    words: Vec<u64>,
    len: u64,
}

impl Bitmap {
    /// `len` clear bits.
    pub fn new(len: u64) -> Self {
        Self { words: vec![0; index(len.div_ceil(BITS))], len }
    }

    /// `len` clear bits, or [`Error::NoMemory`].
    pub fn try_new(len: u64) -> Result<Self> {
        let count = usize::try_from(len.div_ceil(BITS)).map_err(|_| Error::NoMemory)?;
        let mut words = Vec::new();
        words.try_reserve_exact(count).map_err(|_| Error::NoMemory)?;
        words.resize(count, 0);
        Ok(Self { words, len })
    }

    /// Number of bits.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bits at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets the bits of `range` (`bitmap_set`). Panics if it reaches past the end.
    pub fn set(&mut self, range: Range<u64>) {
        self.for_words(range, |word, mask| *word |= mask);
    }

    /// Clears the bits of `range` (`bitmap_clear`). Panics if it reaches past the end.
    pub fn clear(&mut self, range: Range<u64>) {
        self.for_words(range, |word, mask| *word &= !mask);
    }

    /// Whether bit `bit` is set (`test_bit`).
    pub fn test(&self, bit: u64) -> bool {
        self.words[index(bit / BITS)] >> (bit % BITS) & 1 != 0
    }

    /// The first maximal run of set bits within `range`, clipped to it.
    pub fn next_run(&self, range: Range<u64>) -> Option<Range<u64>> {
        let end = range.end.min(self.len);
        let start = self.find(range.start, end, 0);
        (start < end).then(|| start..self.find(start, end, u64::MAX))
    }

    /// The first maximal run of clear bits within `range`, clipped to it.
    pub fn next_clear_run(&self, range: Range<u64>) -> Option<Range<u64>> {
        let end = range.end.min(self.len);
        let start = self.find(range.start, end, u64::MAX);
        (start < end).then(|| start..self.find(start, end, 0))
    }

    /// First bit at or after `from` that differs from the bits of `skip` (all ones or none), or `end`.
    fn find(&self, from: u64, end: u64, skip: u64) -> u64 {
        let mut bit = from;
        while bit < end {
            let word = (self.words[index(bit / BITS)] ^ skip) >> (bit % BITS);
            if word != 0 {
                return (bit + u64::from(word.trailing_zeros())).min(end);
            }
            bit = (bit / BITS + 1) * BITS;
        }
        end
    }

    fn for_words(&mut self, range: Range<u64>, mut op: impl FnMut(&mut u64, u64)) {
        assert!(range.end <= self.len, "bit range past the end of the bitmap");
        let mut bit = range.start;
        while bit < range.end {
            let first = bit % BITS;
            let count = (BITS - first).min(range.end - bit);
            let mask = (u64::MAX >> (BITS - count)) << first;
            op(&mut self.words[index(bit / BITS)], mask);
            bit += count;
        }
    }
}

/// Index of a word. Bitmaps live in memory, so their lengths fit.
fn index(word: u64) -> usize {
    usize::try_from(word).expect("bitmap larger than the address space")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_vector_of_bools(
            ops in prop::collection::vec((any::<bool>(), 0u64..300, 0u64..300), 0..40),
            window in (0u64..300, 0u64..300),
        ) {
            let mut bitmap = Bitmap::new(300);
            let mut model = vec![false; 300];
            for (set, a, b) in ops {
                let range = a.min(b)..a.max(b);
                if set { bitmap.set(range.clone()) } else { bitmap.clear(range.clone()) }
                for bit in range { model[usize::try_from(bit).unwrap()] = set }
            }
            let window = window.0.min(window.1)..window.0.max(window.1);
            let mut seen = vec![false; 300];
            let mut at = window.start;
            while let Some(run) = bitmap.next_run(at..window.end) {
                prop_assert!(run.start < run.end);
                for bit in run.clone() { seen[usize::try_from(bit).unwrap()] = true }
                at = run.end;
            }
            let mut clear = vec![true; 300];
            at = window.start;
            while let Some(run) = bitmap.next_clear_run(at..window.end) {
                for bit in run.clone() { clear[usize::try_from(bit).unwrap()] = false }
                at = run.end;
            }
            for bit in window {
                let index = usize::try_from(bit).unwrap();
                prop_assert_eq!(seen[index], model[index]);
                prop_assert_eq!(clear[index], model[index]);
                prop_assert_eq!(bitmap.test(bit), model[index]);
            }
        }
    }
}
