//! A place for a value that signal handlers may look at, and that can be taken away from them: run-down
//! protection. Looking is one atomic addition before and one after; only who takes the value away waits.
//!
//! # Safety
//! One word has two flags and counts those who look. The value is read only by those who found the slot open
//! when they were counted; it is written only while the slot is not open: before it is opened, by the one who
//! claimed it, and after it was closed and nobody is counted any more, by the one who closed it.

#![allow(unsafe_code, reason = "a cell that a signal handler reads")]

use std::cell::UnsafeCell;
use std::fmt;

use crate::sync::{AtomicU64, Ordering, yield_now};

/// The value may be looked at.
const OPEN: u64 = 1;
/// The value belongs to somebody.
const CLAIMED: u64 = 2;
/// One who looks.
const VISITOR: u64 = 4;

/// A place for one value.
pub struct Slot<T> {
    gate: AtomicU64,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: several threads get `&T` at a time, and the one that empties the slot may get what another filled
// in.
unsafe impl<T: Send + Sync> Sync for Slot<T> {}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { gate: AtomicU64::new(0), value: UnsafeCell::new(None) }
    }
}

impl<T> Slot<T> {
    /// Puts a value in and lets others look at it. Gives it back if the slot has one.
    pub fn fill(&self, value: T) -> Result<(), T> {
        // Acquire: the last owner's `empty` is over. Its partner is the release there.
        if self.gate.fetch_or(CLAIMED, Ordering::Acquire) & CLAIMED != 0 {
            return Err(value);
        }
        // SAFETY: claimed by this call alone, and not open: nobody reads or writes the value.
        unsafe { *self.value.get() = Some(value) };
        // Release: who finds it open finds the value.
        self.gate.fetch_or(OPEN, Ordering::Release);
        Ok(())
    }

    /// Calls `look` with the value, if there is one. Neither waits nor allocates.
    pub fn with<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        // Acquire: partner of the release in `fill`.
        let open = self.gate.fetch_add(VISITOR, Ordering::Acquire) & OPEN != 0;
        let result = open.then(|| {
            // SAFETY: open when this visitor was counted, so nobody writes the value before it is uncounted.
            let value = unsafe { &*self.value.get() };
            value.as_ref().map(look)
        });
        // Release: partner of the acquire in `empty`.
        self.gate.fetch_sub(VISITOR, Ordering::Release);
        result.flatten()
    }

    /// Takes the value out, once nobody looks at it any more.
    pub fn empty(&self) -> Option<T> {
        if self.gate.fetch_and(!OPEN, Ordering::Relaxed) & OPEN == 0 {
            return None;
        }
        // Those who come from now on find it closed and are gone at once. Acquire: what the others did is
        // over.
        while self.gate.load(Ordering::Acquire) >= VISITOR {
            yield_now();
        }
        // SAFETY: closed by this call alone, and nobody who found it open is left.
        let value = unsafe { (*self.value.get()).take() };
        self.gate.fetch_and(!CLAIMED, Ordering::Release);
        value
    }
}

#[cfg(all(test, loom))]
mod loom {
    use super::Slot;
    use crate::sync::{Arc, AtomicU64, Ordering};

    /// Two look, one takes the value away and ends it, and another value follows.
    #[test]
    fn nobody_looks_at_a_value_that_was_taken_away() {
        ::loom::model(|| {
            let slot = Arc::new(Slot::default());
            let alive = || Arc::new(AtomicU64::new(1));
            slot.fill(alive()).unwrap();
            let visitors: Vec<_> = (0..2)
                .map(|_| {
                    let slot = Arc::clone(&slot);
                    ::loom::thread::spawn(move || {
                        slot.with(|alive: &Arc<AtomicU64>| {
                            assert_eq!(alive.load(Ordering::Relaxed), 1, "it is gone");
                        });
                    })
                })
                .collect();
            slot.empty().unwrap().store(0, Ordering::Relaxed);
            slot.fill(alive()).unwrap();
            visitors.into_iter().for_each(|visitor| visitor.join().unwrap());
            assert!(slot.fill(alive()).is_err(), "two values in one slot");
        });
    }
}
