//! No protection at all: every page counts as written, and whether it was is found by comparing its content.
//!
//! Works anywhere and disturbs nothing. Each scan costs time in proportion to the memory in use.

use std::ops::Range;

use super::{Caps, Mmu};
use crate::addr::Pgoff;
use crate::error::Result;

/// Tracks nothing.
#[derive(Debug)]
pub struct Compare;

impl Mmu for Compare {
    fn caps(&self) -> Caps {
        Caps {
            name: "compare",
            sees_kernel_writes: true,
            installs_handler: false,
            reports_only_written: false,
            granularity: 1,
            stays_open: false,
        }
    }

    fn take_dirty(&mut self, pages: Range<Pgoff>, found: &mut dyn FnMut(Range<Pgoff>)) -> Result<()> {
        if !pages.is_empty() {
            found(pages);
        }
        Ok(())
    }
}
