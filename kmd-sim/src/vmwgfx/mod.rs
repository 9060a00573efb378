//! The driver: what patches 5 to 8 of the series changed in `drivers/gpu/drm/vmwgfx`.
//!
//! | module | kernel file |
//! |---|---|
//! | [`drv`] | `vmwgfx_drv.c`, `vmwgfx_fence.c`: the device |
//! | [`bo`] | `vmwgfx_bo.c`: buffer objects (MOBs) |
//! | [`vm_ops`] | `vmwgfx_page_dirty.c`, `vmwgfx_ttm_glue.c`: faults on them |
//! | [`resource`], [`res_tree`] | `vmwgfx_resource.c`: resources on them |
//! | [`page_dirty`] | `vmwgfx_page_dirty.c`: dirty tracking of buffer objects |
//! | [`surface_dirty`] | `vmwgfx_surface.c`: dirty tracking of surfaces |
//! | [`surface_layout`] | `vmw_surface_cache.h`: where the texels of a surface lie |

pub mod binding;
pub mod bo;
mod cmd_check;
pub mod context;
pub mod drv;
pub mod execbuf;
pub mod file;
pub mod gb_surface;
pub mod invariants;
pub mod kms;
pub mod page_dirty;
pub mod res_tree;
pub mod resource;
pub mod shader;
pub mod surface_dirty;
pub mod surface_layout;
pub mod validation;
pub mod vm_ops;
