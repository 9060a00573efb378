//! Locks of the soft kernel that know who holds them (kernel: `lockdep`, `might_sleep`).
//!
//! Which lock a function needs is, where it can be, the type of an argument: a guard. What types do not
//! say is checked while the machine runs, as lockdep does, and kept as a [`Splat`].
//!
//! # Lock order
//! `cmdbuf_mutex` → `mmap_lock` → reservation → `binding_mutex` → `i_mmap_rwsem` → page-table lock. Under a
//! reservation nobody may take `mmap_lock`, and so copy from or to user memory. Reservations nest, by
//! ww-mutex rules; page-table locks nest in a fork. Nothing sleeps under a page-table lock.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};

use crate::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

/// Classes of locks, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockClass {
    /// `cmdbuf_mutex`: one submission at a time.
    Cmdbuf,
    /// `mmap_lock`: the VMAs of a process.
    MmapLock,
    /// A buffer object's reservation.
    Resv,
    /// `binding_mutex`: what is bound to contexts.
    Binding,
    /// `i_mmap_rwsem`: the VMAs of a mapping.
    IMmap,
    /// A page-table lock: a spinlock.
    Ptl,
}

/// A broken rule, as the kernel would print it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Splat {
    /// Locks were taken in the wrong order: held, wanted.
    LockInversion(LockClass, LockClass),
    /// A function was called without the lock it needs.
    NotHeld(LockClass),
    /// Something that can sleep was called under a spinlock.
    SleepInAtomic,
    /// A huge entry was writable or dirty where the series has none (`wp_clean_pmd_entry`).
    DirtyHugeEntry,
    /// The walk of a dirty helper was stopped (`WARN_ON(walk_page_mapping())`).
    WalkStopped(i32),
    /// A warning of the driver.
    Driver(&'static str),
}

/// A thread in the kernel (`current`). Dropping one with splats that nobody has taken panics: no
/// test passes over a broken rule.
#[derive(Debug, Default)]
pub struct Task {
    held: RefCell<Vec<LockClass>>,
    splats: RefCell<Vec<Splat>>,
    /// A signal is pending: interruptible waits end.
    pub signal_pending: Cell<bool>,
}

impl Task {
    /// A thread that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records a broken rule.
    pub fn splat(&self, splat: Splat) {
        self.splats.borrow_mut().push(splat);
    }

    /// Reports `what` if an assumption of the driver is `broken`, and says whether it is (`WARN_ON`).
    pub fn warn_on(&self, broken: bool, what: &'static str) -> bool {
        if broken {
            self.splat(Splat::Driver(what));
        }
        broken
    }

    /// Takes the broken rules out.
    pub fn take_splats(&self) -> Vec<Splat> {
        self.splats.take()
    }

    /// Whether a lock of this class is held.
    pub fn holds(&self, class: LockClass) -> bool {
        self.held.borrow().contains(&class)
    }

    /// Says that a lock is needed (`lockdep_assert_held`).
    pub fn assert_held(&self, any: &[LockClass]) {
        if !any.iter().any(|class| self.holds(*class)) {
            self.splat(Splat::NotHeld(any[0]));
        }
    }

    /// Says that what follows can sleep (`might_sleep`).
    pub fn might_sleep(&self) {
        if self.holds(LockClass::Ptl) {
            self.splat(Splat::SleepInAtomic);
        }
    }

    /// Records that a lock is about to be waited for.
    pub fn acquire(&self, class: LockClass) {
        if class != LockClass::Ptl {
            self.might_sleep();
        }
        let highest = self.held.borrow().iter().copied().max();
        if let Some(highest) = highest
            && (highest > class || highest == class && !matches!(class, LockClass::Resv | LockClass::Ptl))
        {
            self.splat(Splat::LockInversion(highest, class));
        }
        self.held.borrow_mut().push(class);
    }

    /// Records a lock that was taken without waiting, in any order (`down_trylock`).
    pub fn acquired_by_trylock(&self, class: LockClass) {
        self.held.borrow_mut().push(class);
    }

    /// Records that a lock was given back.
    pub fn release(&self, class: LockClass) {
        let mut held = self.held.borrow_mut();
        if let Some(at) = held.iter().rposition(|held| *held == class) {
            held.remove(at);
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let splats = self.splats.take();
        if !std::thread::panicking() {
            assert!(splats.is_empty(), "a task ends with splats: {splats:?}");
        }
    }
}

/// A lock that is held by a task until it is dropped.
#[derive(Debug)]
pub struct Held<'a, G> {
    guard: G,
    task: &'a Task,
    class: LockClass,
}

impl<'a, G> Held<'a, G> {
    /// The task that holds it.
    pub fn task(&self) -> &'a Task {
        self.task
    }
}

impl<G: Deref> Deref for Held<'_, G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Held<'_, G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

impl<G> Drop for Held<'_, G> {
    fn drop(&mut self) {
        self.task.release(self.class);
    }
}

/// A read-write semaphore around what it protects.
#[derive(Debug)]
pub struct RwSem<T> {
    class: LockClass,
    data: RwLock<T>,
}

/// A [`RwSem`] held for reading.
pub type Read<'a, T> = Held<'a, RwLockReadGuard<'a, T>>;
/// A [`RwSem`] held for writing.
pub type Write<'a, T> = Held<'a, RwLockWriteGuard<'a, T>>;

impl<T> RwSem<T> {
    /// A semaphore that nobody holds.
    pub fn new(class: LockClass, data: T) -> Self {
        Self { class, data: RwLock::new(data) }
    }

    /// `down_read`.
    pub fn read<'a>(&'a self, task: &'a Task) -> Read<'a, T> {
        task.acquire(self.class);
        let guard = self.data.read().unwrap_or_else(PoisonError::into_inner);
        Held { guard, task, class: self.class }
    }

    /// `down_write`.
    pub fn write<'a>(&'a self, task: &'a Task) -> Write<'a, T> {
        task.acquire(self.class);
        let guard = self.data.write().unwrap_or_else(PoisonError::into_inner);
        Held { guard, task, class: self.class }
    }
}

/// A mutex around what it protects.
#[derive(Debug)]
pub struct SleepLock<T> {
    class: LockClass,
    data: Mutex<T>,
}

impl<T> SleepLock<T> {
    /// A mutex that nobody holds.
    pub fn new(class: LockClass, data: T) -> Self {
        Self { class, data: Mutex::new(data) }
    }

    /// `mutex_lock`.
    pub fn lock<'a>(&'a self, task: &'a Task) -> Held<'a, MutexGuard<'a, T>> {
        task.acquire(self.class);
        let guard = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        Held { guard, task, class: self.class }
    }

    /// `mutex_trylock`.
    pub fn try_lock<'a>(&'a self, task: &'a Task) -> Option<Held<'a, MutexGuard<'a, T>>> {
        let guard = match self.data.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        task.acquired_by_trylock(self.class);
        Some(Held { guard, task, class: self.class })
    }
}

/// A spinlock. Nothing sleeps under it.
#[derive(Debug)]
pub struct SpinLock(SleepLock<()>);

/// A [`SpinLock`] that is held.
pub type Spinning<'a> = Held<'a, MutexGuard<'a, ()>>;

impl SpinLock {
    /// A lock that nobody holds.
    pub fn new(class: LockClass) -> Self {
        Self(SleepLock::new(class, ()))
    }

    /// `spin_lock`.
    pub fn lock<'a>(&'a self, task: &'a Task) -> Spinning<'a> {
        self.0.lock(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mmap_lock_under_a_reservation_is_an_inversion() {
        let task = Task::new();
        let (resv, mmap) = (SleepLock::new(LockClass::Resv, ()), RwSem::new(LockClass::MmapLock, ()));
        let reserved = resv.lock(&task);
        drop(mmap.read(&task));
        drop(reserved);
        assert_eq!(task.take_splats(), [Splat::LockInversion(LockClass::Resv, LockClass::MmapLock)]);
    }

    #[test]
    fn a_sleeping_lock_under_a_spinlock_is_found() {
        let task = Task::new();
        let (ptl, mmap) = (SpinLock::new(LockClass::Ptl), RwSem::new(LockClass::MmapLock, ()));
        let spinning = ptl.lock(&task);
        drop(mmap.read(&task));
        drop(spinning);
        assert!(task.take_splats().contains(&Splat::SleepInAtomic));
    }
}
