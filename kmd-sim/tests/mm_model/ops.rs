//! What can happen, and where.

use std::ops::Range;

use proptest::prelude::*;

use super::common::{PRIVATE, SHARED_RO};
use kmd_sim::mm::vma::VmFlags;

/// Pages of the object: more than a huge entry maps.
pub(crate) const PAGES: u64 = 516;
/// Pages the model knows about; no other is ever accessed.
pub(crate) const HOT: [u64; 12] = [0, 1, 2, 3, 4, 255, 256, 510, 511, 512, 513, 515];
/// Where ranges begin and end: between two of them is a page of [`HOT`].
const EDGES: [u64; 10] = [0, 1, 2, 3, 5, 256, 511, 512, 513, PAGES];
/// Pages between two places to map the object at.
pub(crate) const SLOT: u64 = 1024;
const SLOTS: u64 = 3;

/// How an area maps the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Shared,
    /// Of a device that was opened for reading.
    ReadOnly,
    Private,
}

impl Kind {
    pub(crate) fn flags(self) -> VmFlags {
        match self {
            Self::Shared => VmFlags::SHARED_RW,
            Self::ReadOnly => SHARED_RO,
            Self::Private => PRIVATE,
        }
    }
}

/// Pages of a process's address space, counted from the first slot on.
pub(crate) type Place = Range<u64>;

/// One step. Processes and pages are chosen by a number of any size.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Load {
        process: usize,
        cpu: usize,
        nth: usize,
    },
    Store {
        process: usize,
        cpu: usize,
        nth: usize,
        value: u8,
    },
    Wp(Range<u64>),
    Clean(Range<u64>),
    /// The bitmap is transferred: its bits are cleared.
    Transfer,
    Zap {
        pages: Range<u64>,
        even_cows: bool,
    },
    Mmap {
        process: usize,
        slot: u64,
        pages: Range<u64>,
        kind: Kind,
    },
    Munmap {
        process: usize,
        place: Place,
    },
    Mprotect {
        process: usize,
        place: Place,
        write: bool,
    },
    Madvise {
        process: usize,
        place: Place,
        random: bool,
    },
    /// Moves the `nth` area, or its first half.
    Mremap {
        process: usize,
        nth: usize,
        slot: u64,
        skew: u64,
        half: bool,
    },
    Fork {
        process: usize,
    },
    Exit {
        process: usize,
    },
    /// Whether the driver maps pages writable.
    MapWritable(bool),
    /// Whether it maps 2 MiB for a load.
    MapHuge(bool),
}

fn pages() -> impl Strategy<Value = Range<u64>> {
    (0..EDGES.len(), 0..EDGES.len() - 1).prop_map(|(one, other)| {
        // Never the same: the other skips it.
        let other = if other >= one { other + 1 } else { other };
        EDGES[one.min(other)]..EDGES[one.max(other)]
    })
}

fn place() -> impl Strategy<Value = Place> {
    (0..SLOTS, pages()).prop_map(|(slot, pages)| slot * SLOT + pages.start..slot * SLOT + pages.end)
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![4 => Just(Kind::Shared), 1 => Just(Kind::ReadOnly), 1 => Just(Kind::Private)]
}

/// Any step; stores, loads and helpers more often than the rest.
pub(crate) fn op() -> impl Strategy<Value = Op> {
    let any_index = 0usize..64;
    let process = 0usize..6;
    let cpu = 0usize..2;
    prop_oneof![
        12 => (process.clone(), cpu.clone(), any_index.clone(), any::<u8>())
            .prop_map(|(process, cpu, nth, value)| Op::Store { process, cpu, nth, value }),
        6 => (process.clone(), cpu, any_index.clone())
            .prop_map(|(process, cpu, nth)| Op::Load { process, cpu, nth }),
        4 => pages().prop_map(Op::Wp),
        4 => pages().prop_map(Op::Clean),
        1 => Just(Op::Transfer),
        1 => (pages(), any::<bool>()).prop_map(|(pages, even_cows)| Op::Zap { pages, even_cows }),
        5 => (process.clone(), 0..SLOTS, pages(), kind())
            .prop_map(|(process, slot, pages, kind)| Op::Mmap { process, slot, pages, kind }),
        2 => (process.clone(), 0..SLOTS, kind())
            .prop_map(|(process, slot, kind)| Op::Mmap { process, slot, pages: 0..PAGES, kind }),
        1 => (process.clone(), place()).prop_map(|(process, place)| Op::Munmap { process, place }),
        2 => (process.clone(), place(), any::<bool>())
            .prop_map(|(process, place, write)| Op::Mprotect { process, place, write }),
        1 => (process.clone(), place(), any::<bool>())
            .prop_map(|(process, place, random)| Op::Madvise { process, place, random }),
        2 => (process.clone(), any_index, 0..SLOTS, 0u64..3, any::<bool>())
            .prop_map(|(process, nth, slot, skew, half)| Op::Mremap { process, nth, slot, skew, half }),
        1 => process.clone().prop_map(|process| Op::Fork { process }),
        1 => process.prop_map(|process| Op::Exit { process }),
        1 => any::<bool>().prop_map(Op::MapWritable),
        1 => any::<bool>().prop_map(Op::MapHuge),
    ]
}
