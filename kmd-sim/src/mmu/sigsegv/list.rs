//! A list that only grows, for signal handlers to walk.
//!
//! Its nodes are leaked, so who found one may keep it. Walking takes one atomic load a node: it neither
//! waits nor allocates. What is put in must be bounded, or used again.

use crate::sync::OnceLock;

/// A list of values that stay.
#[derive(Debug)]
pub(super) struct List<T: 'static> {
    first: OnceLock<&'static Node<T>>,
}

#[derive(Debug)]
struct Node<T: 'static> {
    value: T,
    next: OnceLock<&'static Node<T>>,
}

impl<T> List<T> {
    /// An empty list.
    pub(super) const fn new() -> Self {
        Self { first: OnceLock::new() }
    }

    /// The values, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'static T> {
        let mut next = self.first.get();
        std::iter::from_fn(move || {
            let node = *next?;
            next = node.next.get();
            Some(&node.value)
        })
    }

    /// The value at `index`.
    pub(super) fn get(&self, index: usize) -> Option<&'static T> {
        self.iter().nth(index)
    }

    /// Adds a value, and returns it and its index.
    pub(super) fn push(&self, value: T) -> (usize, &'static T) {
        let node: &'static Node<T> = Box::leak(Box::new(Node { value, next: OnceLock::new() }));
        let mut index = 0;
        let mut place = &self.first;
        while place.set(node).is_err() {
            // Taken before, or by another thread just now.
            if let Some(other) = place.get() {
                place = &other.next;
                index += 1;
            }
        }
        (index, &node.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_order_and_place_whoever_adds_them() {
        static LIST: List<u32> = List::new();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for number in 0..50 {
                        let (index, value) = LIST.push(thread * 100 + number);
                        assert!(std::ptr::eq(LIST.get(index).unwrap(), value));
                    }
                });
            }
        });
        assert_eq!(LIST.iter().count(), 200);
        let of_one: Vec<_> = LIST.iter().filter(|value| **value >= 300).copied().collect();
        assert_eq!(of_one, (300..350).collect::<Vec<_>>());
    }
}
