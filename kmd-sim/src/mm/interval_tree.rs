//! Values by the interval of page offsets they cover (kernel: `lib/interval_tree.c`, `mm/interval_tree.c`).
//!
//! A sorted list that is read as a balanced tree: the middle of a part is its root, and knows the
//! highest end of the part. Lookups take as long as the tree is high, and what they find; changes
//! take linear time, as mapping something is rare.

use std::ops::Range;

use crate::addr::Pgoff;

#[derive(Debug)]
struct Node<T> {
    pages: Range<Pgoff>,
    /// Highest end in the part this node is the middle of.
    subtree_end: Pgoff,
    value: T,
}

/// The intervals, by ascending start; those with the same start in order of insertion.
#[derive(Debug)]
pub struct IntervalTree<T> {
    nodes: Vec<Node<T>>,
}

impl<T> Default for IntervalTree<T> {
    fn default() -> Self {
        Self { nodes: Vec::new() }
    }
}

impl<T> IntervalTree<T> {
    /// Inserts a value after those that start at or before its start.
    pub fn insert(&mut self, pages: Range<Pgoff>, value: T) {
        let at = self.nodes.partition_point(|node| node.pages.start <= pages.start);
        self.nodes.insert(at, Node { subtree_end: pages.end, pages, value });
        update(&mut self.nodes);
    }

    /// Removes the values that `remove` says yes to.
    pub fn remove(&mut self, mut remove: impl FnMut(&T) -> bool) {
        self.nodes.retain(|node| !remove(&node.value));
        update(&mut self.nodes);
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// All values whose interval shares a page with `pages`, by ascending start.
    pub fn overlapping(&self, pages: &Range<Pgoff>) -> Vec<&T> {
        let mut found = Vec::new();
        if !pages.is_empty() {
            collect(&self.nodes, pages, &mut found);
        }
        found
    }
}

fn update<T>(nodes: &mut [Node<T>]) -> Pgoff {
    let middle = nodes.len() / 2;
    let Some((left, rest)) = nodes.split_at_mut_checked(middle) else { return 0 };
    let Some((root, right)) = rest.split_first_mut() else { return 0 };
    root.subtree_end = root.pages.end.max(update(left)).max(update(right));
    root.subtree_end
}

fn collect<'a, T>(nodes: &'a [Node<T>], pages: &Range<Pgoff>, found: &mut Vec<&'a T>) {
    let middle = nodes.len() / 2;
    let Some(root) = nodes.get(middle) else { return };
    if root.subtree_end <= pages.start {
        return;
    }
    collect(&nodes[..middle], pages, found);
    if root.pages.start >= pages.end {
        return;
    }
    if root.pages.end > pages.start {
        found.push(&root.value);
    }
    collect(&nodes[middle + 1..], pages, found);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_what_a_linear_search_finds(
            intervals in prop::collection::vec((0u64..60, 1u64..20), 0..40),
            removed in 0usize..40,
            window in (0u64..70, 0u64..20),
        ) {
            let mut tree = IntervalTree::default();
            for (index, (start, len)) in intervals.iter().enumerate() {
                tree.insert(*start..start + len, index);
            }
            tree.remove(|index| *index == removed);
            let window = window.0..window.0 + window.1;
            let mut expected: Vec<usize> = (0..intervals.len())
                .filter(|index| *index != removed)
                .filter(|index| {
                    let (start, len) = intervals[*index];
                    start.max(window.start) < (start + len).min(window.end)
                })
                .collect();
            expected.sort_by_key(|index| intervals[*index].0);
            prop_assert_eq!(tree.overlapping(&window).into_iter().copied().collect::<Vec<_>>(), expected);
        }
    }
}
