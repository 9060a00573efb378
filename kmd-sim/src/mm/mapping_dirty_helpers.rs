//! Kernel file: `mm/mapping_dirty_helpers.c`.
//!
//! On real page tables "write-protect" and "dirty" are one bit: a write-protected page is clean, and a
//! write makes it both writable and dirty. So cleaning protects, and
//! `clean_record_shared_mapping_range` is all that is needed.

use std::ops::Range;

use crate::addr::Pgoff;
use crate::error::Result;
use crate::mmu::Mmu;

/// Cleans the dirty pages among the `nr` from `first` on and hands their runs to `record`, in ascending
/// order. Returns how many there were.
///
/// A page dirty at the time of the call is recorded. One dirtied during or after it stays dirty, or is
/// recorded, or both. No page is cleaned without being recorded.
pub fn clean_record_shared_mapping_range(
    mmu: &mut impl Mmu,
    first: Pgoff,
    nr: u64,
    mut record: impl FnMut(Range<Pgoff>),
) -> Result<u64> {
    let mut total = 0;
    mmu.take_dirty(first..first + nr, &mut |run| {
        total += run.end - run.start;
        record(run);
    })?;
    Ok(total)
}
