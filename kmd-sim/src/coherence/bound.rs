//! Resources bound to a buffer object (kernel: `vmwgfx_resource.c`): what the device may write of it.

use std::ops::Range;

use super::write_set::{Extent, Piece};
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

/// What a batch may reach that does not name what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Resources whose address was given out.
    Addressed,
    /// These, and all that commands may write.
    Anything,
}

impl Reach {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Addressed, Self::Anything];
}

/// A resource on an object.
#[derive(Clone, Debug)]
struct Resource {
    id: ResourceId,
    bytes: Range<u64>,
    access: Access,
    addressed: bool,
}

impl Resource {
    fn is_in(&self, reach: Reach) -> bool {
        self.addressed || (reach == Reach::Anything && self.access == Access::Dirtying)
    }
}

/// The resources of one buffer object (`res_tree`).
#[derive(Debug, Default)]
pub struct Bound(ResTree<Resource>);

impl Bound {
    /// Attaches a resource on `bytes` of the object (`vmw_resource_mob_attach`); one that is there already is
    /// replaced, and stays addressed. Returns whether that changes what is within reach.
    pub fn attach(&mut self, id: ResourceId, bytes: Range<u64>, access: Access) -> bool {
        let before = self.remove(id, bytes.start);
        let addressed = before.as_ref().is_some_and(|resource| resource.addressed);
        let resource = Resource { id, bytes: bytes.clone(), access, addressed };
        let within = |resource: &Resource| resource.is_in(Reach::Anything);
        let changes = within(&resource) || before.as_ref().is_some_and(within);
        self.0.insert(bytes, resource);
        changes
    }

    /// Detaches the resource at `offset` (`vmw_resource_mob_detach`). Returns whether that changes what is
    /// within reach.
    pub fn detach(&mut self, id: ResourceId, offset: u64) -> bool {
        self.remove(id, offset).is_some_and(|resource| resource.is_in(Reach::Anything))
    }

    /// The address of the resource at `offset` was given out. Returns its bytes unless that was known.
    pub fn give_address(&mut self, id: ResourceId, offset: u64) -> Option<Range<u64>> {
        let resource = self.remove(id, offset)?;
        let (bytes, known) = (resource.bytes.clone(), resource.addressed);
        self.0.insert(bytes.clone(), Resource { addressed: true, ..resource });
        (!known).then_some(bytes)
    }

    /// The bytes under resources within reach.
    pub fn reach(&self, reach: Reach) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for (bytes, _) in self.0.iter().filter(|(_, resource)| resource.is_in(reach)) {
            match pieces.last_mut() {
                _ if bytes.is_empty() => {}
                Some(last) if bytes.start <= last.bytes.end => last.bytes.end = last.bytes.end.max(bytes.end),
                _ => pieces.push(Piece { bytes: bytes.clone(), extent: Extent::Within }),
            }
        }
        pieces
    }

    fn remove(&mut self, id: ResourceId, offset: u64) -> Option<Resource> {
        self.0.remove(offset, |resource| resource.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(bound: &Bound, reach: Reach) -> Vec<(u64, u64)> {
        bound.reach(reach).into_iter().map(|piece| (piece.bytes.start, piece.bytes.end)).collect()
    }

    #[test]
    fn reach_merges_what_touches_and_leaves_out_what_is_read_only() {
        let mut tree = Bound::default();
        tree.attach(ResourceId(1), 0..5000, Access::Dirtying);
        tree.attach(ResourceId(2), 100..200, Access::Dirtying);
        tree.attach(ResourceId(3), 5000..5001, Access::Dirtying);
        tree.attach(ResourceId(4), 40960..50000, Access::ReadOnly);
        tree.attach(ResourceId(5), 81920..81921, Access::Dirtying);
        assert_eq!(ranges(&tree, Reach::Anything), [(0, 5001), (81920, 81921)]);
        assert_eq!(ranges(&tree, Reach::Addressed), []);
        tree.detach(ResourceId(1), 0);
        assert_eq!(ranges(&tree, Reach::Anything), [(100, 200), (5000, 5001), (81920, 81921)]);
    }

    #[test]
    fn an_address_stays_given_when_the_resource_is_attached_again() {
        let mut tree = Bound::default();
        tree.attach(ResourceId(1), 8..16, Access::ReadOnly);
        tree.attach(ResourceId(2), 8..12, Access::Dirtying);
        assert_eq!(tree.give_address(ResourceId(1), 8), Some(8..16));
        assert_eq!(tree.give_address(ResourceId(1), 8), None);
        tree.attach(ResourceId(1), 8..20, Access::ReadOnly);
        assert_eq!(ranges(&tree, Reach::Addressed), [(8, 20)]);
        assert_eq!(ranges(&tree, Reach::Anything), [(8, 20)]);
        tree.detach(ResourceId(1), 8);
        assert_eq!(ranges(&tree, Reach::Addressed), []);
    }
}
