//! Integration tests of Lockstep: applications in miniature, on the real Vulkan loader, that assert bytes.
//!
//! Each file under `tests/` is one subject. The tests use [`lockstep-harness`](../../harness) and run each in
//! a process of its own, since the loader, signal handlers and userfaultfd belong to the process. With
//! `LOCKSTEP_TEST_ICD=<manifest>` the same tests run on any other driver: what they assert is what the Vulkan
//! specification promises for coherent memory, so a driver whose memory really is coherent passes them.
