//! The one place that names `std::sync`, so that a model checker's types can take its place.
//!
//! Under `cfg(loom)` the atomics are loom's, and only the tests called `loom` can run; under
//! `cfg(shuttle)` locks and atomics are shuttle's, and only those called `races`.

pub use std::sync::{Arc, OnceLock, PoisonError, TryLockError, Weak};

#[cfg(shuttle)]
pub use shuttle::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use std::sync::Once;
#[cfg(not(shuttle))]
pub use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(shuttle)]
pub use shuttle::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(any(loom, shuttle)))]
pub use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Atomics that no model replaces: for memory shared with the application or the device, and for statics.
pub mod machine {
    pub use std::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
    };
}

/// Waits a little, for another thread to get on.
pub fn yield_now() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(shuttle)]
    shuttle::thread::yield_now();
    #[cfg(not(any(loom, shuttle)))]
    std::thread::yield_now();
}
