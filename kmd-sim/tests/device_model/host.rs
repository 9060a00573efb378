//! The machine below: memory is memory, and batches complete when told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kmd_sim::sys::memory::PageBuf;
use kmd_sim::sys::pages::TwiceMapped;
use kmd_sim::uapi::{HostDevice, Result, SharedMem};

/// Bytes of a block of host memory.
pub(crate) const BLOCK: usize = 3 * 4096;
/// Blocks there are.
pub(crate) const BLOCKS: usize = 6;
/// Contexts there are.
pub(crate) const CONTEXTS: usize = 2;

/// Host memory in blocks, and a counter a context.
#[derive(Debug)]
pub(crate) struct Host {
    memory: TwiceMapped,
    seqnos: [AtomicU64; CONTEXTS],
    asked: AtomicU64,
}

/// A host the test keeps a hand on.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Host>);

impl HostDevice for Shared {
    type Memory = usize;
    type Timeline = usize;

    fn map(&self, block: usize, size: u64) -> Result<SharedMem> {
        Ok(self.block(block).slice(0, usize::try_from(size).unwrap()))
    }

    fn seqno(&self, context: usize) -> Result<u64> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        Ok(self.0.seqnos[context].load(Ordering::Acquire))
    }
}

impl Shared {
    pub(crate) fn new() -> Self {
        let memory = TwiceMapped::new("host", (BLOCKS * BLOCK) as u64).unwrap();
        Self(Arc::new(Host { memory, seqnos: Default::default(), asked: AtomicU64::new(0) }))
    }

    pub(crate) fn block(&self, block: usize) -> SharedMem {
        self.0.memory.driver().slice(block * BLOCK, BLOCK)
    }

    /// How often it was asked for a number.
    pub(crate) fn asked(&self) -> u64 {
        self.0.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn complete(&self, context: usize, seqno: u64) {
        self.0.seqnos[context].store(seqno, Ordering::Release);
    }
}

/// One byte of shared memory.
pub(crate) fn read(memory: &SharedMem, at: usize) -> u8 {
    let word = at / 8 * 8;
    let mut page = PageBuf::ZERO;
    memory.slice(word, 8.min(memory.len() - word)).snapshot(&mut page);
    page.0[0].to_ne_bytes()[at % 8]
}
