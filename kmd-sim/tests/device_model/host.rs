//! The machine below: memory is memory, and batches complete when told.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use kmd_sim::sys::memory::PageBuf;
use kmd_sim::sys::pages::TwiceMapped;
use kmd_sim::uapi::{Error, HostDevice, Result, SharedMem};

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
    /// What the CPU sees in place of memory, if it does not see that.
    images: Option<TwiceMapped>,
    /// Bytes on their way to memory: block, first byte.
    updates: Mutex<Vec<(usize, u64, Vec<u8>)>>,
    /// What is brought back behind batches.
    readbacks: Mutex<HashMap<(usize, u64), Readback>>,
    /// The next update fails.
    fails: AtomicBool,
}

/// What is brought back behind a batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readback {
    parts: Vec<(usize, Range<u64>)>,
    /// Behind these.
    pub(crate) after: Vec<(usize, u64)>,
    /// The bytes, when they were copied.
    copies: Vec<Vec<u8>>,
}

/// A host the test keeps a hand on.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Host>);

impl HostDevice for Shared {
    type Memory = usize;
    type Timeline = usize;

    fn map(&self, block: usize, size: u64) -> Result<SharedMem> {
        let memory = if self.has_images() { self.image(block) } else { self.block(block) };
        Ok(memory.slice(0, usize::try_from(size).unwrap()))
    }

    fn is_image(&self, _: usize) -> bool {
        self.has_images()
    }

    fn update(&self, block: usize, bytes: &Range<u64>, image: &SharedMem) -> Result<()> {
        if self.0.fails.swap(false, Ordering::Relaxed) {
            return Err(Error::NoMemory);
        }
        let copy = bytes.clone().map(|at| read(image, usize::try_from(at).unwrap())).collect();
        self.0.updates.lock().unwrap().push((block, bytes.start, copy));
        Ok(())
    }

    fn readback(
        &self,
        context: usize,
        seqno: u64,
        parts: &[(usize, Range<u64>)],
        after: &[(usize, u64)],
    ) -> Result<()> {
        let readback = Readback { parts: parts.to_vec(), after: after.to_vec(), copies: Vec::new() };
        self.0.readbacks.lock().unwrap().insert((context, seqno), readback);
        Ok(())
    }

    fn received(&self, context: usize, seqno: u64, op: &mut dyn FnMut(&SharedMem)) {
        let Some(readback) = self.0.readbacks.lock().unwrap().remove(&(context, seqno)) else { return };
        let staging = TwiceMapped::new("staging", BLOCK as u64).unwrap();
        for copy in readback.copies {
            copy.iter().enumerate().for_each(|(at, byte)| staging.driver().store_byte(at, *byte));
            op(&staging.driver().slice(0, copy.len()));
        }
    }

    fn seqno(&self, context: usize) -> Result<u64> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        Ok(self.0.seqnos[context].load(Ordering::Acquire))
    }
}

impl Shared {
    pub(crate) fn new(has_images: bool) -> Self {
        let memory = || TwiceMapped::new("host", (BLOCKS * BLOCK) as u64).unwrap();
        Self(Arc::new(Host {
            memory: memory(),
            seqnos: Default::default(),
            asked: AtomicU64::new(0),
            images: has_images.then(memory),
            updates: Mutex::default(),
            readbacks: Mutex::default(),
            fails: AtomicBool::new(false),
        }))
    }

    pub(crate) fn has_images(&self) -> bool {
        self.0.images.is_some()
    }

    pub(crate) fn image(&self, block: usize) -> SharedMem {
        self.0.images.as_ref().expect("images").driver().slice(block * BLOCK, BLOCK)
    }

    /// Updates on their way.
    pub(crate) fn updates(&self) -> usize {
        self.0.updates.lock().unwrap().len()
    }

    /// Forgets updates but the first `count`.
    pub(crate) fn forget_updates(&self, count: usize) {
        self.0.updates.lock().unwrap().truncate(count);
    }

    /// Lets all updates reach memory.
    pub(crate) fn apply_updates(&self) {
        for (block, start, bytes) in self.0.updates.lock().unwrap().drain(..) {
            let at = |index: usize| usize::try_from(start).unwrap() + index;
            bytes.iter().enumerate().for_each(|(index, byte)| self.block(block).store_byte(at(index), *byte));
        }
    }

    /// Has the next update fail, or not.
    pub(crate) fn fail(&self, fails: bool) {
        self.0.fails.store(fails, Ordering::Relaxed);
    }

    /// What is brought back behind a batch.
    pub(crate) fn readback_of(&self, context: usize, seqno: u64) -> Option<Readback> {
        self.0.readbacks.lock().unwrap().get(&(context, seqno)).cloned()
    }

    /// Copies what is brought back behind a batch, as it is now.
    pub(crate) fn copy_back(&self, context: usize, seqno: u64) {
        if let Some(readback) = self.0.readbacks.lock().unwrap().get_mut(&(context, seqno)) {
            for (block, bytes) in &readback.parts {
                let byte = |at| read(&self.block(*block), usize::try_from(at).unwrap());
                readback.copies.push(bytes.clone().map(byte).collect());
            }
        }
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
