//! `gettid(2)` and `prctl(2)`: the calling thread and its name.
//!
//! # Safety
//! Both ask, and change nothing.

#![allow(unsafe_code, reason = "door to what the kernel knows of a thread")]

/// The number of this thread.
pub fn id() -> u32 {
    // SAFETY: has no arguments and does not fail.
    unsafe { libc::gettid() }.unsigned_abs()
}

/// The name of this thread, filled up with zeros. Allocates nothing.
pub fn name() -> [u8; 16] {
    let mut name = [0; 16];
    // SAFETY: there is room for the 16 bytes that the kernel writes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thread_knows_its_number_and_name() {
        let named = std::thread::Builder::new().name("a-name".into());
        let thread = named.spawn(|| (super::id(), super::name())).unwrap();
        let (id, name) = thread.join().unwrap();
        assert_ne!(id, super::id());
        assert_eq!(&name[..7], b"a-name\0");
    }
}
