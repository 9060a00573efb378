//! The one place that names `std::sync`, so that a model checker's types can take its place.

pub use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
pub use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
    Weak,
};
