//! Fences of submissions that the host was not given yet.
//!
//! Nobody may use a fence while it is submitted, but the application may ask for it as soon as its own
//! submission has returned. Until the host has the fence, it is asked here.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ash::vk;

/// Fences held, of all devices: most applications never have one.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// How long the host is asked for one of several fences before it is seen which of the others it has by now.
const SLICE: Duration = Duration::from_millis(1);

/// The fences of a device. Its lock is the last: nothing else is taken under it.
#[derive(Debug, Default)]
pub(super) struct Held {
    fences: Mutex<HashSet<vk::Fence>>,
    changed: Condvar,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashSet<vk::Fence>> {
        self.fences.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A submission with the fence is kept.
    pub(super) fn add(&self, fence: vk::Fence) {
        if self.lock().insert(fence) {
            COUNT.fetch_add(1, Ordering::Release);
        }
    }

    /// The host has the fence, or is never given it.
    pub(super) fn remove(&self, fence: vk::Fence) {
        if self.lock().remove(&fence) {
            COUNT.fetch_sub(1, Ordering::Release);
            self.changed.notify_all();
        }
    }

    /// Whether a device of this process holds any fence.
    pub(super) fn any() -> bool {
        COUNT.load(Ordering::Acquire) != 0
    }

    pub(super) fn contains(&self, fence: vk::Fence) -> bool {
        self.lock().contains(&fence)
    }

    /// Waits for fences by `host`, which is given those it has and a timeout.
    pub(super) fn wait(
        &self,
        fences: &[vk::Fence],
        all: bool,
        timeout: u64,
        mut host: impl FnMut(&[vk::Fence], u64) -> vk::Result,
    ) -> vk::Result {
        let deadline = Instant::now().checked_add(Duration::from_nanos(timeout));
        let left = || match deadline {
            Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            None => Duration::MAX,
        };
        let nanoseconds = |left: Duration| u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
        loop {
            let mut held = self.lock();
            let given: Vec<_> = fences.iter().copied().filter(|fence| !held.contains(fence)).collect();
            if given.len() == fences.len() {
                drop(held);
                return host(&given, if deadline.is_some() { nanoseconds(left()) } else { timeout });
            }
            if all || given.is_empty() {
                let left = left();
                if left.is_zero() {
                    return vk::Result::TIMEOUT;
                }
                // No deadline is a century away.
                let left = left.min(Duration::from_secs(1 << 32));
                held = self.changed.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
                drop(held);
                continue;
            }
            drop(held);
            let slice = left().min(SLICE);
            let result = host(&given, nanoseconds(slice));
            if result != vk::Result::TIMEOUT || slice < SLICE {
                return result;
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        COUNT.fetch_sub(self.lock().len(), Ordering::Release);
    }
}
