//! Kernel file: `vmwgfx_validation.c`. Before a batch is submitted: what may it write, and is every page
//! of that ready for two writers?
//!
//! The bound is conservative: all pages with a resource that the device may write. It is computed when
//! resources or mappings change, not for every batch.

use super::bo::{Bo, Sync};
use super::drv::State;
use super::fence::WriteSet;
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
        let ids: Vec<_> = self.bos.keys().copied().collect();
        for id in ids {
            let Some(bo) = self.bos.get_mut(&id) else { continue };
            let runs = bo.resources.dirtying_pages();
            if runs.is_empty() {
                continue;
            }
            bo.device_written = true;
            if bo.sync == Sync::Coherent {
                for page in runs.iter().cloned().flatten() {
                    self.with_page(id, page, |page| page.share());
                }
                writes.ranges.push((id, runs));
            }
        }
        let writes = Arc::new(writes);
        self.write_set = Some(Arc::clone(&writes));
        writes
    }

    /// The next batch needs a new write set, after `bo` changed in a way that concerns it.
    pub(super) fn invalidate_write_set(&mut self) {
        self.write_set = None;
    }
}

impl<H: HostDevice> Bo<H> {
    /// Whether the device may write any of it.
    pub(super) fn has_dirtying_resource(&self) -> bool {
        !self.resources.dirtying_pages().is_empty()
    }
}
