//! The driver: what patches 5 to 8 of the series changed in `drivers/gpu/drm/vmwgfx`.
//!
//! | module | kernel file |
//! |---|---|
//! | [`drv`] | `vmwgfx_drv.c`, `vmwgfx_fence.c`: the device |
//! | [`bo`] | `vmwgfx_bo.c`: buffer objects (MOBs) |
//! | [`vm_ops`] | `vmwgfx_page_dirty.c`, `vmwgfx_ttm_glue.c`: faults on them |
//! | [`resource`], [`res_tree`] | `vmwgfx_resource.c`: resources on them |
//! | [`resource_validate`] | `vmwgfx_resource.c`: their part in a batch |
//! | [`page_dirty`] | `vmwgfx_page_dirty.c`: dirty tracking of buffer objects |
//! | [`gb_surface`], [`context`], [`shader`] | `vmwgfx_surface.c`, `vmwgfx_context.c`, `vmwgfx_shader.c`: types of resources |
//! | [`surface_dirty`] | `vmwgfx_surface.c`: dirty tracking of surfaces |
//! | [`validation`] | `vmwgfx_validation.c`: what a batch needs, and in which order |
//! | [`execbuf`], [`binding`] | `vmwgfx_execbuf.c`, `vmwgfx_binding.c`: batches, and what they write |
//! | [`kms`] | `vmwgfx_kms.c`: pinning, and updates of what is shown |
//! | [`mod@file`] | the ioctls: handles of one client |
//! | [`invariants`] | what holds whenever nothing is reserved |
//!
//! The driver on the process's own pages shares [`page_dirty`] and [`res_tree`]; `docs/series.md` says of
//! every item whether the live path has use for it.

pub mod binding;
pub mod bo;
mod cmd_check;
#[cfg(test)]
mod conformance;
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
pub mod resource_validate;
pub mod shader;
pub mod surface_dirty;
pub mod validation;
pub mod vm_ops;
