//! The driver: what patches 5 to 8 of the series changed in `drivers/gpu/drm/vmwgfx`.
//!
//! | module | kernel file |
//! |---|---|
//! | [`page_dirty`] | `vmwgfx_page_dirty.c`: dirty tracking of buffer objects |

pub mod page_dirty;
