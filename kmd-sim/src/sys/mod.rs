//! The only unsafe code of the crate: one family of system calls, or of memory accesses, a file.

pub mod memory;
pub mod pagemap;
pub mod pages;
pub mod protect;
pub mod rundown;
pub mod signals;
pub mod sigsegv;
pub mod status;
pub mod thread;
pub mod transfer;
pub mod userfaultfd;
pub mod view;
pub mod zeroed;
