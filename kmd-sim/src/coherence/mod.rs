//! The driver on the process's own pages: what goes beyond the series, whose promise is on pages.
//!
//! Three copies of a page: **G** (guest, the application's), **H** (host) and **T** (twin: what both
//! sides last agreed on). [`arena`] owns G, [`twin`] owns T, [`page`] moves bytes between them, and
//! [`merge`] decides which.
//!
//! | module | what it is | kernel file |
//! |---|---|---|
//! | [`bo`] | buffer objects over host memory | `vmwgfx_bo.c` |
//! | [`placed`] | objects mapped where the application wants them | – |
//! | [`bound`] | resources on them | `vmwgfx_resource.c` |
//! | [`state`] | a device, and the life of its objects | `vmwgfx_drv.c` |
//! | [`tracking`] | their pages, and who finds out what the CPU wrote | – |
//! | [`device`] | flush at submission, pull at completion | `vmwgfx_execbuf.c` |
//! | [`gathered`] | what a scan found, for the trackers of objects | – |
//! | [`write_set`] | what a batch may write, in bytes | – |
//! | [`validation`] | pages are made ready for it | `vmwgfx_validation.c` |
//! | [`readback`] | what it wrote, taken over | – |
//! | [`image`] | host memory that the CPU does not see | `vmwgfx_resource.c`, `vmwgfx_surface.c` |
//! | [`lazy`] | or later, when the CPU touches it | `vmwgfx_page_dirty.c`: `vmw_bo_vm_fault` |
//! | [`policy`] | which of the two | – |
//! | [`server`] | the thread for touches | – |
//! | `scan` | which pages the CPU wrote | `vmwgfx_page_dirty.c` |
//! | `flush` | what the CPU wrote, taken over | `vmwgfx_page_dirty.c` |
//! | [`cold`] | what nobody touches is not scanned | – |
//! | [`forecast`] | which pages the CPU will write next | `vmwgfx_page_dirty.c`: the switch of methods |
//! | `open` | and that they need not fault then | – |
//! | [`watch`] | writes that land later than they are reported | – |
//! | [`fence`] | completion | `vmwgfx_fence.c` |
//! | `guest` | guest pages as a whole: how much memory, and where | – |

pub mod arena;
pub mod bo;
pub mod bound;
pub mod cold;
pub mod device;
pub mod fence;
mod flush;
pub mod forecast;
pub mod gathered;
mod guest;
pub mod image;
pub mod lazy;
pub mod merge;
mod open;
pub mod page;
pub mod placed;
pub mod policy;
#[cfg(all(test, shuttle))]
mod races;
pub mod readback;
mod scan;
pub mod server;
pub mod state;
pub mod tracking;
pub mod twin;
pub mod validation;
pub mod watch;
pub mod write_set;
