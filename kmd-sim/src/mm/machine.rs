//! A soft machine: hardware, the kernel it runs like, and places where a test can step in.

use std::fmt;

use crate::mmu::soft::Hardware;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, PoisonError};
use crate::upstream::Upstream;

/// Moments between two steps of the kernel, at which another CPU may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A dirty helper has changed the entries of a VMA and has not flushed translation buffers yet.
    BeforeFlush,
    /// A scan found nothing and is about to write-protect everything (`vmw_bo_dirty_scan_pagetable`).
    BeforeSwitchProtect,
    /// Pages are about to be unmapped because a batch will write them.
    BeforeUnmap,
    /// A batch was submitted and its resources are not unreserved yet.
    BeforeUnreserve,
    /// Reservations were given back, and resources are not unreserved yet ([`crate::upstream::Quirks`] Q-13).
    AfterFence,
}

type Action = Box<dyn FnOnce() + Send>;

/// A soft machine.
pub struct Machine {
    /// Memory and CPUs.
    pub hardware: Arc<Hardware>,
    /// Which kernel it runs like.
    pub upstream: Upstream,
    next_id: AtomicU64,
    actions: Mutex<Vec<(Point, Action)>>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

impl Machine {
    /// A machine without processes.
    pub fn new(upstream: Upstream) -> Arc<Self> {
        Arc::new(Self {
            hardware: Arc::default(),
            upstream,
            next_id: AtomicU64::new(1),
            actions: Mutex::default(),
        })
    }

    /// A number that was not given out before.
    pub(super) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Does something the next time this point is reached, once.
    pub fn at(&self, point: Point, action: impl FnOnce() + Send + 'static) {
        self.actions.lock().unwrap_or_else(PoisonError::into_inner).push((point, Box::new(action)));
    }

    /// Says that a point is reached.
    pub fn reached(&self, point: Point) {
        let action = {
            let mut actions = self.actions.lock().unwrap_or_else(PoisonError::into_inner);
            actions.iter().position(|(at, _)| *at == point).map(|index| actions.remove(index).1)
        };
        if let Some(action) = action {
            action();
        }
    }
}
