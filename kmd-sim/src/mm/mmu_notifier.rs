//! What happens to page tables, for those who listen (kernel: `linux/mmu_notifier.h`).

use std::ops::Range;

/// Why entries change (`enum mmu_notifier_event`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The area goes away.
    Unmap,
    /// Entries are taken away, the area stays.
    Clear,
    /// The area's protection changes.
    ProtectionVma,
    /// The protection of some pages changes, and the area's does not: what the dirty helpers do.
    ProtectionPage,
}

/// An event of one address space, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MmEvent {
    /// Entries for these addresses are about to change.
    InvalidateStart(Range<u64>, Reason),
    /// Translation buffers have forgotten these addresses.
    FlushTlb(Range<u64>),
    /// The change is over.
    InvalidateEnd(Range<u64>),
    /// The walker has flushed what it changed.
    PendingDecremented,
}
