//! Guest memory as the device sees it: by page frames, past all page tables of CPUs.

use std::fmt::Debug;

use crate::addr::{PAGE_BYTES, PAGE_SIZE};
use crate::mmu::soft::Hardware;
use crate::mmu::soft::phys::Pfn;
use crate::sync::Arc;

/// Guest memory as the device reads and writes it, past all page tables of CPUs.
pub trait MobMemory: Debug + Send + Sync {
    /// Reads the bytes from `offset` on.
    fn read(&self, offset: u64, bytes: &mut [u8]);

    /// Writes the bytes from `offset` on.
    fn write(&self, offset: u64, bytes: &[u8]);

    /// Its size in bytes.
    fn size(&self) -> u64;
}

/// The pages of a memory object, as they were when the device was told of it.
#[derive(Debug)]
pub struct GuestPages {
    hardware: Arc<Hardware>,
    frames: Vec<Pfn>,
}

impl GuestPages {
    /// Pages that follow each other for the device.
    pub fn new(hardware: &Arc<Hardware>, frames: &[Pfn]) -> Self {
        Self { hardware: Arc::clone(hardware), frames: frames.to_vec() }
    }

    /// Cuts `len` bytes from `offset` on where pages end: frame, offset in it, and bytes before.
    fn parts(&self, offset: u64, len: usize) -> impl Iterator<Item = (Pfn, usize, std::ops::Range<usize>)> {
        let mut done = 0;
        std::iter::from_fn(move || {
            let at = offset + done as u64;
            let within = usize::try_from(at % PAGE_SIZE).expect("less than a page");
            let part = done..len.min(done + PAGE_BYTES - within);
            done = part.end;
            let frame = usize::try_from(at / PAGE_SIZE).expect("64-bit platform");
            (!part.is_empty()).then(|| (self.frames[frame], within, part))
        })
    }
}

impl MobMemory for GuestPages {
    fn read(&self, offset: u64, bytes: &mut [u8]) {
        for (frame, within, part) in self.parts(offset, bytes.len()) {
            let page = self.hardware.phys.page(frame).bytes();
            let len = part.len();
            bytes[part].copy_from_slice(&page[within..within + len]);
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        for (frame, within, part) in self.parts(offset, bytes.len()) {
            self.hardware.phys.page(frame).write(within, &bytes[part]);
        }
    }

    fn size(&self) -> u64 {
        self.frames.len() as u64 * PAGE_SIZE
    }
}
