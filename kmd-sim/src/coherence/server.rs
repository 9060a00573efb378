//! The thread that serves touches of what was left behind. It is there from the first time that something is,
//! until the device goes.
//!
//! It needs the reservation for each touch, and nobody who has the reservation waits for the device or for
//! anybody else: no touch waits for device work, whatever that waits for.

use std::io::{PipeWriter, Write};
use std::thread::{self, JoinHandle};

use rustix::io::Errno;

use super::state::{State, lock};
use crate::error::{Error, Result};
use crate::mmu::uffd::Faults;
use crate::svga::HostDevice;
use crate::sync::{Mutex, Weak};
use crate::sys::signals::Blocked;

/// A thread that serves touches; it ends when this is dropped, which must not happen under the reservation.
#[derive(Debug)]
pub struct Server {
    thread: Option<JoinHandle<()>>,
    stop: PipeWriter,
    process: u32,
}

impl Server {
    /// Serves the touches of a device.
    pub fn start<H: HostDevice>(faults: Faults, state: Weak<Mutex<State<H>>>) -> Result<Self> {
        let failed = |call| {
            move |error: std::io::Error| Error::Os {
                call,
                errno: Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EAGAIN)),
            }
        };
        let (stopped, stop) = std::io::pipe().map_err(failed("pipe(2)"))?;
        let begin = faults.clone();
        let serve = move || {
            loop {
                match faults.next(&stopped) {
                    Ok(Some(page)) => {
                        let Some(state) = state.upgrade() else { return };
                        lock(&state).touch(page);
                    }
                    Ok(None) => return,
                    Err(error) => {
                        return log::error!("device writes are not brought to the CPU any more: {error}");
                    }
                }
            }
        };
        // The thread inherits the mask: signals to the process are none of its business.
        let _signals = Blocked::begin();
        let thread = thread::Builder::new().name("lockstep-faults".into()).spawn(serve);
        let thread = Some(thread.map_err(failed("clone(2)"))?);
        let server = Self { thread, stop, process: std::process::id() };
        begin.begin()?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A forked child does not have the thread.
        let Some(thread) = self.thread.take().filter(|_| self.process == std::process::id()) else { return };
        if self.stop.write_all(&[0]).is_ok() {
            // A panic has been reported.
            let _ = thread.join();
        }
    }
}
