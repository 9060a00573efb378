//! The only unsafe code of the crate: one family of system calls, or of memory accesses, a file.

pub mod memory;
pub mod pagemap;
pub mod pages;
pub mod userfaultfd;
