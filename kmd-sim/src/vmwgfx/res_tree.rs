//! Resources of one buffer object, ordered by where they start (kernel: `vmw_buffer_object.res_tree` in
//! `vmwgfx_resource.c`). Patch 6 of the series. They may overlap; those that start at the same byte keep
//! the order in which they came.

use std::collections::BTreeMap;
use std::ops::Range;

/// Values by the bytes of the object they are on.
#[derive(Clone, Debug)]
pub struct ResTree<T> {
    nodes: BTreeMap<(u64, u64), (Range<u64>, T)>,
    next: u64,
}

impl<T> Default for ResTree<T> {
    fn default() -> Self {
        Self { nodes: BTreeMap::new(), next: 0 }
    }
}

impl<T> ResTree<T> {
    /// Adds a value on `bytes`, behind those that start at the same byte.
    pub fn insert(&mut self, bytes: Range<u64>, value: T) {
        self.nodes.insert((bytes.start, self.next), (bytes, value));
        self.next += 1;
    }

    /// Removes the value at `offset` that `is` says yes to.
    pub fn remove(&mut self, offset: u64, is: impl Fn(&T) -> bool) -> Option<T> {
        let mut at_offset = self.nodes.range((offset, 0)..=(offset, u64::MAX));
        let key = at_offset.find(|(_, (_, value))| is(value)).map(|(key, _)| *key)?;
        self.nodes.remove(&key).map(|(_, value)| value)
    }

    /// All values and their bytes, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Range<u64>, &T)> {
        self.nodes.values().map(|(bytes, value)| (bytes, value))
    }

    /// The values in order from the one that a descent for `bytes` ends at, as upstream finds it: it turns
    /// right where a node ends before `bytes`, and so misses one further left that reaches farther (quirk
    ///
    pub fn descend(&self, bytes: &Range<u64>) -> Vec<(&Range<u64>, &T)> {
        let nodes: Vec<_> = self.iter().collect();
        let (mut low, mut high, mut found) = (0, nodes.len(), nodes.len());
        while low < high {
            let root = (low + high - 1) / 2;
            let (node, _) = nodes[root];
            if node.start >= bytes.end {
                high = root;
            } else if node.end <= bytes.start {
                low = root + 1;
            } else {
                found = root;
                high = root;
            }
        }
        nodes[found..].to_vec()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_starts_at_the_same_byte_keeps_its_order() {
        let mut tree = ResTree::default();
        tree.insert(8..9, 'c');
        tree.insert(0..4, 'a');
        tree.insert(0..2, 'b');
        assert_eq!(tree.iter().map(|(_, value)| *value).collect::<String>(), "abc");
        assert_eq!(tree.remove(0, |value| *value == 'b'), Some('b'));
        assert_eq!(tree.remove(0, |value| *value == 'c'), None);
        assert_eq!(tree.iter().map(|(_, value)| *value).collect::<String>(), "ac");
    }

    #[test]
    fn the_descent_misses_a_long_node_left_of_a_short_one() {
        let mut tree = ResTree::default();
        tree.insert(0..100, "long");
        tree.insert(1..2, "short");
        tree.insert(60..61, "hit");
        let found: Vec<_> = tree.descend(&(50..70)).into_iter().map(|(_, value)| *value).collect();
        assert_eq!(found, ["hit"]);
    }
}
