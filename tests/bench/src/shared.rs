//! Memory that CPU and device share, mapped once; all there is of synchronisation is in three functions,
//! which do nothing for coherent memory.

use std::sync::Arc;

use lockstep_harness::{Buffer, Gpu, Kind, MappedBytes, Memory};
use serde::Serialize;

/// Who keeps CPU and device in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Sync {
    /// The program: it flushes what it wrote and invalidates what it is about to read.
    Explicit,
    /// The driver.
    Coherent,
    /// The host: the type that `LOCKSTEP_NATIVE_TYPE` adds as the last one.
    Native,
}

impl Sync {
    /// As workers are told.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::Coherent => "coherent",
            Self::Native => "native",
        }
    }

    /// The one of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Explicit, Self::Coherent, Self::Native].into_iter().find(|sync| sync.name() == name)
    }

    /// The memory type to take.
    pub(crate) fn memory_type(self, gpu: &Gpu) -> u32 {
        let index = match self {
            Self::Explicit => Kind::Explicit.find(gpu, u32::MAX),
            Self::Coherent => Kind::Coherent.find(gpu, u32::MAX),
            Self::Native => gpu.memory_properties().memory_type_count.checked_sub(1),
        };
        index.unwrap_or_else(|| panic!("no memory type is {}", self.name()))
    }
}

/// A buffer in shared memory.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) buffer: Buffer,
    bytes: MappedBytes,
    memory: Arc<Memory>,
    sync: Sync,
    atom: usize,
}

impl Shared {
    /// A buffer of `len` bytes on an allocation of its own, mapped as long as it lives.
    pub(crate) fn new(gpu: &Gpu, sync: Sync, len: usize) -> Self {
        let mut buffer = Buffer::unbound(gpu, len);
        let atom = gpu.atom();
        // The last range may be flushed in whole atoms, too.
        let needs = usize::try_from(buffer.requirements().size).expect("a 64-bit machine");
        let memory = Memory::of_type(gpu, sync.memory_type(gpu), needs.next_multiple_of(atom), None);
        let memory = memory.expect("shared memory");
        buffer.bind(&memory, 0);
        let bytes = memory.map_whole();
        Self { buffer, bytes, memory, sync, atom }
    }

    /// Writes bytes.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        self.bytes.write(offset, bytes);
    }

    /// The mapped bytes.
    pub(crate) fn bytes(&self) -> MappedBytes {
        self.bytes
    }

    /// Adds up words, as a program that reads them all.
    pub(crate) fn sum(&self, offset: usize, len: usize) -> u32 {
        let (mut total, mut piece) = (0u32, [0u8; 4096]);
        let mut at = offset;
        while at < offset + len {
            let part = &mut piece[..(offset + len - at).min(4096)];
            self.bytes.read_into(at, part);
            let words =
                part.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().expect("four bytes")));
            total = words.fold(total, u32::wrapping_add);
            at += part.len();
        }
        total
    }

    /// To be called between writing ranges of (offset, length) and submitting work that reads them.
    pub(crate) fn wrote(&self, ranges: &[(usize, usize)]) {
        if self.sync == Sync::Explicit {
            self.memory.flush(&self.atoms(ranges));
        }
    }

    /// To be called between waiting for work that wrote ranges and reading them.
    pub(crate) fn will_read(&self, ranges: &[(usize, usize)]) {
        if self.sync == Sync::Explicit {
            self.memory.invalidate(&self.atoms(ranges));
        }
    }

    fn atoms(&self, ranges: &[(usize, usize)]) -> Vec<(usize, usize)> {
        let whole = |&(offset, len): &(usize, usize)| {
            let start = offset / self.atom * self.atom;
            (start, (offset + len).next_multiple_of(self.atom) - start)
        };
        ranges.iter().map(whole).collect()
    }
}
