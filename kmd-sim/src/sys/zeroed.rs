//! Atomics that are zero and take no memory until they are touched.
//!
//! # Safety
//! Zero bytes are a valid `AtomicU64`.

#![allow(unsafe_code, reason = "door to zero-filled memory")]

use crate::sync::AtomicU64;

/// `count` atomics with the value zero.
#[cfg(not(loom))]
pub fn atomics(count: usize) -> Box<[AtomicU64]> {
    let words = Box::<[AtomicU64]>::new_zeroed_slice(count);
    // SAFETY: an `AtomicU64` has the representation of a `u64`, of which all zeros is a valid one.
    unsafe { words.assume_init() }
}

/// `count` atomics with the value zero.
#[cfg(loom)]
pub fn atomics(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}
