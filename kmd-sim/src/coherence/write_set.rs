//! What a batch may write: an upper bound, in bytes of buffer objects.
//!
//! The driver above says it for each batch ([`Writes`]); here it becomes one list for each object, ascending
//! and without overlap ([`WriteSet`]). Batches that may write the same share one.

use std::ops::Range;

use rangemap::RangeMap;

use super::bo::BoId;
use crate::sync::Arc;

/// What is known of the bytes of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// Some of them may be written; the CPU may write others meanwhile.
    Within,
    /// They are written by commands whose target is known: the CPU may not write any of them between
    /// submission and completion.
    Exact,
}

/// Bytes of one object that a batch may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The object.
    pub bo: BoId,
    /// The bytes.
    pub bytes: Range<u64>,
    /// How well they are known.
    pub extent: Extent,
}

/// What one batch may write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Bytes of buffer objects, in any order.
    pub ranges: Vec<Write>,
    /// It may write by address: every resource whose address was given out, now or while the batch runs.
    pub by_address: bool,
    /// Nothing is known of it: everything bound to memory that the device may write, now or while it runs.
    pub anything: bool,
    /// It may wait for something the CPU signals later, itself or behind work that was not submitted yet:
    /// until then the CPU may write even exact ranges.
    pub gated: bool,
}

/// A part of a write set: bytes inside of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The bytes; never empty.
    pub bytes: Range<u64>,
    /// How well they are known.
    pub extent: Extent,
}

impl Piece {
    fn of(&self, bo: BoId) -> Write {
        Write { bo, bytes: self.bytes.clone(), extent: self.extent }
    }
}

/// Pieces of one object.
///
/// # Invariants
/// Ascending; none overlap, and those of one extent do not touch.
pub type Pieces = Arc<[Piece]>;

/// The write set of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct WriteSet {
    /// Coherent objects in ascending order, none without a piece.
    objects: Vec<(BoId, Pieces)>,
    bytes: u64,
    exact_bytes: u64,
}

impl WriteSet {
    /// The union of `writes`, whose bytes lie inside of their objects. A byte that is written exactly, and
    /// within a range, too, is written exactly.
    pub fn new(mut writes: Vec<Write>) -> Self {
        // Exact ranges last, so that they prevail.
        writes.sort_unstable_by_key(|write| (write.bo, write.extent, write.bytes.start));
        let of_object = |writes: &[Write]| {
            let mut map = RangeMap::new();
            for write in writes.iter().filter(|write| !write.bytes.is_empty()) {
                map.insert(write.bytes.clone(), write.extent);
            }
            map.into_iter().map(|(bytes, extent)| Piece { bytes, extent }).collect::<Pieces>()
        };
        let objects = writes.chunk_by(|a, b| a.bo == b.bo).map(|writes| (writes[0].bo, of_object(writes)));
        Self::of_objects(objects.filter(|(_, pieces)| !pieces.is_empty()).collect())
    }

    /// A set of the pieces of some objects, each named once and none without a piece.
    pub fn of_objects(mut objects: Vec<(BoId, Pieces)>) -> Self {
        objects.sort_unstable_by_key(|(bo, _)| *bo);
        let (mut bytes, mut exact_bytes) = (0, 0);
        for piece in objects.iter().flat_map(|(_, pieces)| pieces.iter()) {
            let len = piece.bytes.end - piece.bytes.start;
            bytes += len;
            exact_bytes += if piece.extent == Extent::Exact { len } else { 0 };
        }
        Self { objects, bytes, exact_bytes }
    }

    /// The union of the pieces of some objects, named as often as one likes.
    pub fn union(objects: impl Iterator<Item = (BoId, Pieces)>) -> Self {
        let mut writes = Vec::new();
        for (bo, pieces) in objects {
            writes.extend(pieces.iter().map(|piece| piece.of(bo)));
        }
        Self::new(writes)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Objects in it.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Bytes in it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes in it that are known exactly.
    pub fn exact_bytes(&self) -> u64 {
        self.exact_bytes
    }

    /// Its objects and their pieces, in ascending order.
    pub fn objects(&self) -> impl Iterator<Item = (BoId, &Pieces)> {
        self.objects.iter().map(|(bo, pieces)| (*bo, pieces))
    }

    /// The pieces of one object.
    pub fn pieces(&self, bo: BoId) -> Option<&Pieces> {
        let index = self.objects.binary_search_by_key(&bo, |(bo, _)| *bo).ok()?;
        Some(&self.objects[index].1)
    }

    /// Its content as a list.
    pub fn writes(&self) -> impl Iterator<Item = Write> {
        self.objects.iter().flat_map(|(bo, pieces)| pieces.iter().map(|piece| piece.of(*bo)))
    }

    /// Whether all bytes of a write are in one piece of it.
    pub fn contains(&self, write: &Write) -> bool {
        let Some(pieces) = self.pieces(write.bo) else { return false };
        let first = pieces.partition_point(|piece| piece.bytes.end <= write.bytes.start);
        let inside =
            |piece: &Piece| piece.bytes.start <= write.bytes.start && write.bytes.end <= piece.bytes.end;
        pieces.get(first).is_some_and(inside)
    }

    /// The same bytes, none of them exact.
    pub fn inexact(self: &Arc<Self>) -> Arc<Self> {
        if self.exact_bytes == 0 {
            return Arc::clone(self);
        }
        let within = |write| Write { extent: Extent::Within, ..write };
        Arc::new(Self::new(self.writes().map(within).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(bo: u64, bytes: Range<u64>, extent: Extent) -> Write {
        Write { bo: BoId(bo), bytes, extent }
    }

    #[test]
    fn what_is_written_exactly_prevails() {
        let set = WriteSet::new(vec![
            write(7, 40..60, Extent::Exact),
            write(7, 0..100, Extent::Within),
            write(3, 5..5, Extent::Exact),
            write(7, 60..70, Extent::Exact),
            write(2, 0..1, Extent::Within),
        ]);
        let expected = [
            write(2, 0..1, Extent::Within),
            write(7, 0..40, Extent::Within),
            write(7, 40..70, Extent::Exact),
            write(7, 70..100, Extent::Within),
        ];
        assert_eq!(set.writes().collect::<Vec<_>>(), expected);
        assert_eq!((set.bytes(), set.exact_bytes()), (101, 30));
        assert!(set.pieces(BoId(3)).is_none());
    }

    proptest! {
        #[test]
        fn is_the_union_byte_by_byte(
            writes in prop::collection::vec((0u64..3, 0u64..60, 0u64..20, any::<bool>()), 0..12),
        ) {
            let extent = |exact| if exact { Extent::Exact } else { Extent::Within };
            let list: Vec<_> = writes.into_iter().map(|(bo, at, len, exact)| write(bo, at..at + len, extent(exact))).collect();
            let mut model = vec![None; 3 * 80];
            for write in &list {
                for byte in write.bytes.clone() {
                    let at = usize::try_from(write.bo.0 * 80 + byte).unwrap();
                    model[at] = model[at].max(Some(write.extent));
                }
            }
            let set = WriteSet::new(list);
            let mut found = vec![None; 3 * 80];
            for write in set.writes() {
                for byte in write.bytes { found[usize::try_from(write.bo.0 * 80 + byte).unwrap()] = Some(write.extent) }
            }
            prop_assert_eq!(&found, &model);
            let count = |extents: &[Option<Extent>]| model.iter().filter(|extent| extents.contains(extent)).count() as u64;
            prop_assert_eq!(set.bytes(), count(&[Some(Extent::Exact), Some(Extent::Within)]));
            prop_assert_eq!(set.exact_bytes(), count(&[Some(Extent::Exact)]));
        }
    }
}
