//! Resources bound to a buffer object (kernel: `vmwgfx_resource.c`): what the device may write of it.

use std::ops::Range;

use crate::addr::pages_of;
use crate::vmwgfx::res_tree::ResTree;

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

/// The resources of one buffer object (`res_tree`).
#[derive(Debug, Default)]
pub struct Bound(ResTree<(ResourceId, Access)>);

impl Bound {
    /// Attaches a resource on `bytes` of the object (`vmw_resource_mob_attach`); one that is there already is replaced.
    pub fn attach(&mut self, id: ResourceId, bytes: Range<u64>, access: Access) {
        self.detach(id, bytes.start);
        self.0.insert(bytes, (id, access));
    }

    /// Detaches the resource at `offset` (`vmw_resource_mob_detach`). Returns what it was.
    pub fn detach(&mut self, id: ResourceId, offset: u64) -> Option<Access> {
        self.0.remove(offset, |(attached, _)| *attached == id).map(|(_, access)| access)
    }

    /// The pages some resource lets the device write: ascending runs that neither overlap nor touch.
    pub fn dirtying_pages(&self) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for (bytes, (_, access)) in self.0.iter() {
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
        let mut tree = Bound::default();
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
