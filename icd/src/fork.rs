//! `fork(2)`: a child sees what the device wrote.
//!
//! What was left behind until the application touches it ([`kmd_sim::uapi::Readback`]) follows at the last
//! moment before a fork: nobody serves the faults of a child. One that shares its parent's memory (`vfork`)
//! has them served.

use std::sync::Once;

use crate::entry::DEVICES;

/// Prepares for forks from now on.
pub fn device_created() {
    static AT_FORK: Once = Once::new();
    AT_FORK.call_once(register);
}

/// Waits for nobody but holders of reservations: fork(2) may have been called from a signal handler.
extern "C" fn prepare() {
    DEVICES.try_for_each(|device| device.km.catch_up());
}

#[expect(unsafe_code, reason = "door to pthread_atfork(3)")]
fn register() {
    // SAFETY: the library is never unloaded (`-z nodelete`), so the handler stays where it is.
    if unsafe { libc::pthread_atfork(Some(prepare), None, None) } != 0 {
        log::warn!("forked children may not see what the device wrote last");
    }
}
