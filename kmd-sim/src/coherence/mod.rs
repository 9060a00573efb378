//! What goes beyond the series: the promise is on bytes, though tracking works on pages.
//!
//! Three copies of a page: **G** (guest, the application's), **H** (host) and **T** (twin: what both
//! sides last agreed on). [`arena`] owns G, [`twin`] owns T, [`page`] moves bytes between them, and
//! [`merge`] decides which.

pub mod arena;
pub mod merge;
pub mod page;
pub mod twin;
