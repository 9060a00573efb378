//! The test vectors of the series: one function each, whose name begins with the vector's number.
//!
//! Notation of page-table entries: `W` writable, `D` dirty, `Y` young, `ro` none of these, `-` no entry.

mod common;
mod helpers;
mod host;
mod walk;
