//! A host whose memory is a memory file, and which computes nothing.

use kmd_sim::sys::pages::TwiceMapped;
use kmd_sim::uapi::{HostDevice, Result, SharedMem};

#[derive(Debug)]
pub struct Host(pub TwiceMapped);

impl Host {
    /// A host of one object of so many bytes, which lives as long as the process.
    pub fn new(bytes: usize) -> &'static Self {
        Box::leak(Box::new(Self(TwiceMapped::new("host", bytes as u64).unwrap())))
    }
}

impl HostDevice for &'static Host {
    type Memory = ();
    type Timeline = ();

    fn map(&self, (): (), size: u64) -> Result<SharedMem> {
        Ok(self.0.driver().slice(0, usize::try_from(size).unwrap()))
    }

    fn seqno(&self, (): ()) -> Result<u64> {
        Ok(0)
    }
}
