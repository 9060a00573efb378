//! Memory management helpers: what patches 1 to 4 of the series added to the kernel's `mm/`.

pub mod mapping_dirty_helpers;
