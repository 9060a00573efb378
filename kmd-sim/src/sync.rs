//! The one place that names `std::sync`, so that a model checker's types can take its place.
//!
//! Under `cfg(loom)` the atomics are loom's, and only the tests called `loom` can run.

pub use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError, RwLock, RwLockReadGuard};

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Atomics that no model replaces: for memory shared with the application or the device, and for statics.
pub mod machine {
    pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
}

/// Waits a little, for another thread to get on.
pub fn yield_now() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    std::thread::yield_now();
}
