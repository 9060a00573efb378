//! The driver: what patches 5 to 8 of the series changed in `drivers/gpu/drm/vmwgfx`.
//!
//! | module | kernel file |
//! |---|---|
//! | [`page_dirty`] | `vmwgfx_page_dirty.c`: dirty tracking of buffer objects |
//! | [`surface_dirty`] | `vmwgfx_surface.c`: dirty tracking of surfaces |
//! | [`surface_layout`] | `vmw_surface_cache.h`: where the texels of a surface lie |

pub mod page_dirty;
pub mod surface_dirty;
pub mod surface_layout;
