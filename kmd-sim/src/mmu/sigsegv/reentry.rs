//! Which faults are being passed on at the moment.
//!
//! A handler that was installed after ours may pass a fault on to ours, which would pass it on to that
//! handler again, and so on. So each fault that is passed on is entered here, by the address of its
//! `ucontext_t`, which is unique while the fault lasts, with the depth it was passed on at and the stack
//! frame of our handler.
//!
//! A handler that never returns (`siglongjmp`) leaves its entry behind, and the next fault of the thread may
//! well have the same context. But that one is delivered by the kernel, so our frame has the same distance
//! from the context again; passed back by another handler, ours is called further down the stack.
//!
//! An entry is one word, so that none is ever seen half written. Entries that were left behind are replaced;
//! should one in use be among them, a fault goes round once more.

use crate::sync::machine::{AtomicU64, Ordering};

const ENTRIES: usize = 64;
/// Bits of the depth, and of the distance in units of 64 bytes; the rest is the context's, a multiple of 16.
const DEPTH: u64 = 0xf;
const DISTANCE: u64 = 0xffff;
const DISTANCE_SHIFT: u32 = 4;
const CONTEXT_SHIFT: u32 = 20;

/// The faults that are being passed on.
#[derive(Debug)]
pub(super) struct Reentries([AtomicU64; ENTRIES]);

/// A fault that is being passed on.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    entry: &'a AtomicU64,
    before: u64,
    word: u64,
}

impl Turn<'_> {
    /// How often it was passed on before and came back.
    pub(super) fn depth(&self) -> usize {
        usize::try_from(self.word & DEPTH).unwrap_or(0)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Relaxed: nothing else is published by it. It fails when the entry was taken for one left behind.
        let _ = self.entry.compare_exchange(self.word, self.before, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Reentries {
    /// Nothing is being passed on.
    pub(super) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; ENTRIES])
    }

    /// Enters a fault with the addresses of its context and of our frame.
    pub(super) fn enter(&self, context: usize, frame: usize) -> Turn<'_> {
        let key = (context as u64 >> 4) << CONTEXT_SHIFT;
        // Another stack than the context's counts as far away.
        let distance = context.checked_sub(frame).map_or(DISTANCE, |bytes| (bytes as u64 / 64).min(DISTANCE));
        let is_same = |word: u64| word != 0 && word >> CONTEXT_SHIFT == key >> CONTEXT_SHIFT;
        let words = || self.0.iter().map(|entry| (entry, entry.load(Ordering::Relaxed)));
        let known = words().find(|(_, word)| is_same(*word));
        let free = || words().find(|(_, word)| *word == 0);
        let any = || {
            let entry = &self.0[(context >> 12) % ENTRIES];
            (entry, entry.load(Ordering::Relaxed))
        };
        let (entry, found) = known.or_else(free).unwrap_or_else(any);
        let recorded = found >> DISTANCE_SHIFT & DISTANCE;
        let came_back = is_same(found) && (distance > recorded || distance == DISTANCE);
        let (before, depth) = if came_back { (found, ((found & DEPTH) + 1).min(DEPTH)) } else { (0, 0) };
        let word = key | distance << DISTANCE_SHIFT | depth;
        // Fails when another thread takes the entry: then this fault has none, and may go round once more.
        let _ = entry.compare_exchange(found, word, Ordering::Relaxed, Ordering::Relaxed);
        Turn { entry, before, word }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: usize = 0x7fff_1234_5670;

    #[test]
    fn a_fault_that_comes_back_is_one_deeper_each_time() {
        let table = Reentries::new();
        let first = table.enter(CONTEXT, CONTEXT - 200);
        let second = table.enter(CONTEXT, CONTEXT - 900);
        let third = table.enter(CONTEXT, CONTEXT - 2000);
        assert_eq!([first.depth(), second.depth(), third.depth()], [0, 1, 2]);
        drop(third);
        assert_eq!(table.enter(CONTEXT, CONTEXT - 1900).depth(), 2);
        drop(second);
        drop(first);
        assert_eq!(table.enter(CONTEXT, CONTEXT - 900).depth(), 0);
    }

    #[test]
    fn a_handler_that_never_returned_does_not_make_the_next_fault_a_return() {
        let table = Reentries::new();
        std::mem::forget(table.enter(CONTEXT, CONTEXT - 200));
        let next = table.enter(CONTEXT, CONTEXT - 200);
        assert_eq!(next.depth(), 0);
        assert_eq!(table.enter(CONTEXT, CONTEXT - 700).depth(), 1);
    }

    #[test]
    fn a_fault_that_comes_back_on_another_stack_is_recognised() {
        let table = Reentries::new();
        let _first = table.enter(CONTEXT, CONTEXT - 200);
        let _second = table.enter(CONTEXT, CONTEXT + 100_000);
        assert_eq!(table.enter(CONTEXT, CONTEXT + 99_000).depth(), 2);
    }

    #[test]
    fn entries_left_behind_make_room() {
        let table = Reentries::new();
        for thread in 0..200 {
            std::mem::forget(table.enter(CONTEXT + thread * 0x1000, CONTEXT + thread * 0x1000 - 200));
        }
        let context = CONTEXT + 500 * 0x1000;
        let _first = table.enter(context, context - 200);
        assert_eq!(table.enter(context, context - 900).depth(), 1);
    }
}
