//! The byte-exact merge: stores the bytes that changed and touches no other.

use std::ops::Range;

use crate::sys::memory::{SharedMem, bytes_of};
use crate::sys::transfer::{self, LINE};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * ONES;

/// Marks each byte of `word` that is not zero by its highest bit.
const fn nonzero_bytes(word: u64) -> u64 {
    (((word & !HIGH) + !HIGH) | word) & HIGH
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Bytes that differ.
    pub bytes: u64,
    /// Some do in each line of 64 bytes: whoever wrote them has been everywhere.
    pub everywhere: bool,
}

/// How many bytes differ between lists of as many words, and whether some do everywhere.
pub fn changes(new: &[u64], old: &[u64]) -> Changes {
    let (mut bytes, mut everywhere) = (0, true);
    for (new, old) in bytes_of(new).chunks(LINE).zip(bytes_of(old).chunks(LINE)) {
        // In bytes, so that the compiler takes sixteen at once.
        let differing = new.iter().zip(old).map(|(new, old)| u8::from(new != old)).sum::<u8>();
        bytes += u64::from(differing);
        everywhere &= differing != 0;
    }
    Changes { bytes, everywhere }
}

/// Who may write `target` while bytes are stored into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbours {
    /// Nobody, and its bytes equal `old`: whole words may be stored.
    Quiet,
    /// Somebody may write the neighbours of a changed byte: they are neither read nor written.
    Busy,
}

/// Stores into `target` each byte of `new` that differs from `old`, and returns what did.
///
/// `new` and `old` have one word for each eight bytes of `target`; bytes beyond its end must be equal.
pub fn store_changed(new: &[u64], old: &[u64], target: &SharedMem, neighbours: Neighbours) -> Changes {
    debug_assert_eq!(new.len(), target.len().div_ceil(8));
    debug_assert_eq!(new.len(), old.len());
    if new == old {
        return Changes::default();
    }
    let (changes, whole) = (changes(new, old), target.len() / 8);
    // One copy is as fast as the bus, but takes as long for all bytes as for a few.
    if neighbours == Neighbours::Quiet && whole == new.len() && changes.bytes * 4 >= target.len() as u64 {
        target.store_words(new);
        return changes;
    }
    for (line, (news, olds)) in new.chunks(8).zip(old.chunks(8)).enumerate() {
        if news == olds {
            continue;
        }
        for (index, (new, old)) in (line * 8..).zip(news.iter().zip(olds)) {
            let mut bytes = nonzero_bytes((new ^ old).to_le());
            if bytes == 0 {
                continue;
            }
            if bytes == HIGH || (neighbours == Neighbours::Quiet && index < whole) {
                target.store_word(index, *new);
                continue;
            }
            let values = new.to_ne_bytes();
            while bytes != 0 {
                let byte = (bytes.trailing_zeros() / 8) as usize;
                target.store_byte(index * 8 + byte, values[byte]);
                bytes &= bytes - 1;
            }
        }
    }
    changes
}

/// Stores into `to` each byte of `from` that differs from `twin`, which takes it over; without one, each that
/// differs from what `to` has, and nobody else writes. In one pass, each byte of `from` read once; `None`
/// where processor or length do not allow that.
pub fn transfer(
    from: &SharedMem,
    twin: Option<&mut [u64]>,
    to: &SharedMem,
    neighbours: Neighbours,
) -> Option<Changes> {
    if !from.len().is_multiple_of(LINE) {
        return None;
    }
    let changes = transfer::transfer(from, twin, to, neighbours == Neighbours::Quiet);
    changes.map(|(bytes, everywhere)| Changes { bytes, everywhere })
}

/// The runs of bytes in which `new` differs from `old`, ascending.
pub fn changed_runs(new: &[u64], old: &[u64]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (index, (new, old)) in new.iter().zip(old).enumerate() {
        let mut bytes = nonzero_bytes((new ^ old).to_le());
        while bytes != 0 {
            let skip = (bytes.trailing_zeros() / 8) as usize;
            let len = ((!(bytes >> (8 * skip)) & HIGH).trailing_zeros() / 8) as usize;
            let run = index * 8 + skip..index * 8 + skip + len;
            bytes &= u64::MAX.checked_shl(8 * u32::try_from(skip + len).unwrap_or(u32::MAX)).unwrap_or(0);
            match runs.last_mut() {
                Some(last) if last.end == run.start => last.end = run.end,
                _ => runs.push(run),
            }
        }
    }
    runs
}

/// The bytes of word `index` that lie in `range`, as a mask.
fn mask(index: usize, range: &Range<usize>) -> u64 {
    let start = range.start.saturating_sub(index * 8).min(8);
    let end = range.end.saturating_sub(index * 8).min(8);
    if start >= end {
        return 0;
    }
    u64::from_le(u64::MAX >> (64 - 8 * (end - start)) << (8 * start))
}

/// Copies the bytes of `range` from one list of words to another.
pub fn copy_bytes(from: &[u64], to: &mut [u64], range: &Range<usize>) {
    for index in range.start / 8..range.end.div_ceil(8) {
        let mask = mask(index, range);
        to[index] = to[index] & !mask | from[index] & mask;
    }
}

/// Gives the bytes of `new` outside of `range` the values they have in `old`. No whole word lies outside.
pub fn keep_outside(new: &mut [u64], old: &[u64], range: &Range<usize>) {
    for index in [0, new.len().saturating_sub(1)] {
        if let (Some(new), Some(old)) = (new.get_mut(index), old.get(index)) {
            let mask = mask(index, range);
            *new = *new & mask | old & !mask;
        }
    }
}

/// Stores into `target` what differs in `range`, where nobody else writes. Outside of it, where somebody may,
/// `new` equals `old`. Returns how many bytes there were.
pub fn store_owned(new: &[u64], old: &[u64], range: &Range<usize>, target: &SharedMem) -> u64 {
    let whole = range.start.div_ceil(8)..range.end / 8;
    if whole.is_empty() {
        return store_changed(new, old, target, Neighbours::Busy).bytes;
    }
    let part = |words: Range<usize>, neighbours| {
        let end = (words.end * 8).min(target.len());
        let target = target.slice(words.start * 8, end - words.start * 8);
        store_changed(&new[words.clone()], &old[words], &target, neighbours).bytes
    };
    part(0..whole.start, Neighbours::Busy)
        + part(whole.clone(), Neighbours::Quiet)
        + part(whole.end..new.len(), Neighbours::Busy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pages::TwiceMapped;
    use proptest::prelude::*;

    #[test]
    fn nonzero_bytes_sees_every_value_in_every_place() {
        for place in 0..8 {
            for value in 1..=255u64 {
                assert_eq!(nonzero_bytes(value << (place * 8)), 0x80 << (place * 8));
            }
        }
        assert_eq!(nonzero_bytes(0), 0);
    }

    proptest! {
        #[test]
        fn stores_the_changed_bytes_and_no_other(
            len in 1usize..200,
            edits in prop::collection::vec((0usize..200, any::<u8>()), 0..50),
            old in prop::collection::vec(any::<u8>(), 200),
        ) {
            let old = &old[..len];
            let mut new = old.to_vec();
            for (at, value) in edits { if at < len { new[at] = value } }
            // The target differs from both everywhere, so that any store shows.
            let filler: Vec<u8> = old.iter().zip(&new).map(|(a, b)| (0..=255).find(|c| c != a && c != b).unwrap()).collect();
            let pages = TwiceMapped::new("test", 4096).unwrap();
            let target = pages.driver().slice(0, len);
            for (at, value) in filler.iter().enumerate() { target.store_byte(at, *value) }

            let changed = store_changed(&words(&new), &words(old), &target, Neighbours::Busy);

            let mut page = crate::sys::memory::PageBuf::ZERO;
            target.snapshot(&mut page);
            let bytes: Vec<u8> = page.0.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let mut expected = filler;
            let mut count = 0;
            for at in 0..len { if new[at] != old[at] { expected[at] = new[at]; count += 1 } }
            prop_assert_eq!(&bytes[..len], &expected[..]);
            prop_assert_eq!(changed, changes(&words(&new), &words(old)));
            prop_assert_eq!(changed.bytes, count);
        }
    }

    proptest! {
        #[test]
        fn runs_are_the_bytes_that_differ(
            new in prop::collection::vec(0u8..2, 40),
            old in prop::collection::vec(0u8..2, 40),
        ) {
            let mut found = [false; 40];
            let runs = changed_runs(&words(&new), &words(&old));
            for run in &runs {
                prop_assert!(!run.is_empty());
                run.clone().for_each(|at| found[at] = true);
            }
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
            for at in 0..40 { prop_assert_eq!(found[at], new[at] != old[at]); }
        }

        #[test]
        fn of_a_range_its_bytes_travel_and_no_other(
            len in 1usize..100,
            ends in (0usize..100, 0usize..100),
            old in prop::collection::vec(0u8..2, 100),
            new in prop::collection::vec(0u8..2, 100),
        ) {
            let range = ends.0.min(ends.1).min(len)..ends.0.max(ends.1).min(len);
            let expected: Vec<u8> = (0..len).map(|at| if range.contains(&at) { new[at] } else { old[at] }).collect();
            let (old, new) = (words(&old[..len]), words(&new[..len]));

            let mut copy = old.clone();
            copy_bytes(&new, &mut copy, &range);
            prop_assert_eq!(&copy, &words(&expected));

            // As a page does it: with the words that have a byte of the range.
            let part = range.start / 8..range.end.div_ceil(8);
            let inside = range.start - part.start * 8..range.end - part.start * 8;
            let (mut kept, before) = (new[part.clone()].to_vec(), &old[part.clone()]);
            keep_outside(&mut kept, before, &inside);
            prop_assert_eq!(&kept, &words(&expected)[part.clone()]);

            // Outside of the range somebody has written meanwhile.
            let pages = TwiceMapped::new("test", 4096).unwrap();
            let target = pages.driver().slice(part.start * 8, (part.end * 8).min(len) - part.start * 8);
            let at_target = |at: usize| if inside.contains(&at) { old[part.clone()][at / 8].to_ne_bytes()[at % 8] } else { 9 };
            for at in 0..target.len() { target.store_byte(at, at_target(at)) }
            store_owned(&kept, before, &inside, &target);
            let mut page = crate::sys::memory::PageBuf::ZERO;
            let count = target.snapshot(&mut page);
            let found: Vec<u8> = page.0[..count].iter().flat_map(|word| word.to_ne_bytes()).collect();
            for at in 0..target.len() {
                let wanted = if inside.contains(&at) { expected[part.start * 8 + at] } else { 9 };
                prop_assert_eq!(found[at], wanted);
            }
        }
    }

    proptest! {
        #[test]
        fn one_pass_does_what_several_do(
            lines in 1usize..4,
            has_twin in any::<bool>(),
            busy in any::<bool>(),
            edits in prop::collection::vec((0usize..256, any::<u8>()), 0..80),
            old in prop::collection::vec(0u8..4, 256),
            filler in any::<u8>(),
        ) {
            let len = lines * LINE;
            let old = &old[..len];
            let mut new = old.to_vec();
            for (at, value) in edits { if at < len { new[at] = value } }
            let pages = [(); 2].map(|()| TwiceMapped::new("test", 4096).unwrap());
            let [from, to] = [&pages[0], &pages[1]].map(|pages| pages.driver().slice(0, len));
            let neighbours = if has_twin && busy { Neighbours::Busy } else { Neighbours::Quiet };
            // What the target has between the changed bytes is somebody else's business.
            let before = if neighbours == Neighbours::Busy { vec![filler; len] } else { old.to_vec() };
            for at in 0..len { from.store_byte(at, new[at]); to.store_byte(at, before[at]) }
            let mut twin = words(old);
            if let Some(found) = transfer(&from, has_twin.then_some(&mut twin[..]), &to, neighbours) {
                let mut page = crate::sys::memory::PageBuf::ZERO;
                to.snapshot(&mut page);
                let bytes: Vec<u8> = page.0.iter().flat_map(|word| word.to_ne_bytes()).collect();
                for at in 0..len {
                    prop_assert_eq!(bytes[at], if new[at] != old[at] { new[at] } else { before[at] });
                }
                prop_assert_eq!(twin, words(if has_twin { &new } else { old }));
                prop_assert_eq!(found, changes(&words(&new), &words(old)));
            }
        }
    }

    #[test]
    fn everywhere_is_each_line_of_64_bytes() {
        let old = [0; 20];
        let mut new = old;
        assert_eq!(changes(&new, &old), Changes::default());
        (new[0], new[15]) = (1 << 56, 0xffff_ffff_ffff_ffff);
        assert_eq!(changes(&new, &old), Changes { bytes: 9, everywhere: false });
        new[19] = 1;
        assert_eq!(changes(&new, &old), Changes { bytes: 10, everywhere: true });
    }

    #[test]
    fn without_neighbours_the_target_ends_up_new_to_the_last_partial_word() {
        let pages = TwiceMapped::new("test", 4096).unwrap();
        let target = pages.driver().slice(0, 13);
        let new: Vec<u8> = (1..=13).collect();
        assert_eq!(store_changed(&words(&new), &[0, 0], &target, Neighbours::Quiet).bytes, 13);
        let mut page = crate::sys::memory::PageBuf::ZERO;
        pages.driver().slice(0, 16).snapshot(&mut page);
        assert_eq!(page.0[..2], words(&[&new[..], &[0, 0, 0]].concat()));
    }

    fn words(bytes: &[u8]) -> Vec<u64> {
        bytes
            .chunks(8)
            .map(|chunk| {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                u64::from_ne_bytes(word)
            })
            .collect()
    }
}
