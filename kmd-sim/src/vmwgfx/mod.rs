//! The driver: what patches 5 to 8 of the series changed in `drivers/gpu/drm/vmwgfx`.
//!
//! | module | kernel file |
//! |---|---|
//! | [`bo`] | `vmwgfx_bo.c`: buffer objects (MOBs) |
//! | [`page_dirty`] | `vmwgfx_page_dirty.c`: dirty tracking of buffer objects |
//! | [`resource`] | `vmwgfx_resource.c`: resources on buffer objects |
//! | [`validation`] | `vmwgfx_validation.c`: what a batch may write |
//! | [`execbuf`] | `vmwgfx_execbuf.c`: submission |
//! | [`fence`] | `vmwgfx_fence.c`: completion |
//! | [`drv`] | `vmwgfx_drv.c`: the device's own state |

pub mod bo;
pub mod drv;
pub mod execbuf;
pub mod fence;
pub mod page_dirty;
pub mod resource;
pub mod validation;
