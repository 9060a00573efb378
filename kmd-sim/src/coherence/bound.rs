//! Resources bound to a buffer object (kernel: `vmwgfx_resource.c`): what the device may write of it.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::addr::pages_of;

/// Names a resource; unique among those of a buffer object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId(pub u64);

/// What the device may do with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Commands only read it.
    ReadOnly,
    /// Commands may write it: a batch may leave it *dirty* (`res_dirty`).
    Dirtying,
}

/// The resources of one buffer object, ordered by offset (`res_tree`). They may overlap.
#[derive(Debug, Default)]
pub struct ResTree {
    by_offset: BTreeMap<(u64, ResourceId), (Range<u64>, Access)>,
}

impl ResTree {
    /// Attaches a resource on `bytes` of the object (`vmw_resource_mob_attach`).
    pub fn attach(&mut self, id: ResourceId, bytes: Range<u64>, access: Access) {
        self.by_offset.insert((bytes.start, id), (bytes, access));
    }

    /// Detaches the resource at `offset` (`vmw_resource_mob_detach`). Returns what it was.
    pub fn detach(&mut self, id: ResourceId, offset: u64) -> Option<Access> {
        self.by_offset.remove(&(offset, id)).map(|(_, access)| access)
    }

    /// The pages some resource lets the device write: ascending runs that neither overlap nor touch.
    pub fn dirtying_pages(&self) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for (bytes, access) in self.by_offset.values() {
            let pages = pages_of(bytes);
            if *access == Access::ReadOnly || pages.is_empty() {
                continue;
            }
            match runs.last_mut() {
                Some(last) if pages.start <= last.end => last.end = last.end.max(pages.end),
                _ => runs.push(pages),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dirtying_pages_merges_what_touches_and_leaves_out_what_is_read_only() {
        let mut tree = ResTree::default();
        tree.attach(ResourceId(1), 0..5000, Access::Dirtying);
        tree.attach(ResourceId(2), 100..200, Access::Dirtying);
        tree.attach(ResourceId(3), 8192..8193, Access::Dirtying);
        tree.attach(ResourceId(4), 40960..50000, Access::ReadOnly);
        tree.attach(ResourceId(5), 81920..81921, Access::Dirtying);
        assert_eq!(tree.dirtying_pages(), [0..3, 20..21]);
        assert_eq!(tree.detach(ResourceId(1), 0), Some(Access::Dirtying));
        assert_eq!(tree.dirtying_pages(), [0..1, 2..3, 20..21]);
    }
}
