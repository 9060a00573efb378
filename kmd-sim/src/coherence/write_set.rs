//! Before a batch is submitted (kernel: `vmwgfx_validation.c`): what may it write, and is every page of
//! that ready for two writers?
//!
//! The bound is conservative: all pages with a resource that the device may write. It is computed when
//! resources change, not for every batch. Where batches can reach what is bound after their submission
//! ([`Reach::BoundLater`]), a new resource joins the write sets of all that are pending.

use std::ops::Range;

use super::bo::{BoId, Sync};
use super::fence::{FenceQueue, WriteSet};
use super::state::{Reach, State};
use crate::svga::HostDevice;
use crate::sync::Arc;

impl<H: HostDevice> State<H> {
    /// The write set of the next batch. Every page in it has a twin when this returns, and every object in
    /// it is marked as written by the device.
    pub(super) fn validate(&mut self) -> Arc<WriteSet> {
        if let Some(writes) = &self.write_set {
            return Arc::clone(writes);
        }
        let mut writes = WriteSet::default();
        let ids: Vec<BoId> = self.bos.keys().copied().collect();
        for id in ids {
            if let Some(runs) = self.validate_bo(id) {
                writes.ranges.push((id, runs));
            }
        }
        let writes = Arc::new(writes);
        self.write_set = Some(Arc::clone(&writes));
        writes
    }

    /// Gives batches in flight what was just bound to an object, if they can reach it. They do not know of it
    /// yet, so its pages are made ready in time.
    pub(super) fn extend_pending(&mut self, id: BoId) {
        if self.reach == Reach::BoundBefore || self.fences.iter().all(FenceQueue::is_empty) {
            return;
        }
        if let Some(runs) = self.validate_bo(id) {
            let late = Arc::new(WriteSet { ranges: vec![(id, runs)] });
            self.fences.iter_mut().for_each(|fences| fences.extend_pending(&late));
        }
    }

    /// The pages of a coherent object that the device may write, if any; they have twins from here on.
    fn validate_bo(&mut self, id: BoId) -> Option<Arc<[Range<u64>]>> {
        let bo = self.bos.get_mut(&id)?;
        let runs = match &bo.dirtying {
            Some(runs) => Arc::clone(runs),
            None => {
                let runs: Arc<[_]> = bo.resources.dirtying_pages().into();
                bo.dirtying = Some(Arc::clone(&runs));
                bo.device_written |= !runs.is_empty();
                if bo.sync == Sync::Coherent {
                    for page in runs.iter().cloned().flatten() {
                        self.with_page(id, page, |page| page.share());
                    }
                }
                runs
            }
        };
        let coherent = self.bos.get(&id)?.sync == Sync::Coherent;
        (coherent && !runs.is_empty()).then_some(runs)
    }

    /// The next batch needs a new write set, after what the device may write of an object changed.
    pub(super) fn invalidate_write_set(&mut self, id: BoId) {
        self.write_set = None;
        if let Some(bo) = self.bos.get_mut(&id) {
            bo.dirtying = None;
        }
    }
}
