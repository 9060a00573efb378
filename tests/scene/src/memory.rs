//! Memory that CPU and device share, mapped once and for good.
//!
//! [`Sync`] is the only difference between the two sides of the measurement. With [`Sync::Coherent`] the
//! application writes, submits, waits and reads; there is nothing else to do. With [`Sync::Explicit`] it must
//! say exactly which bytes it wrote and which it is about to read.

use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use ash::vk;

use crate::gpu::{Gpu, Owned};

/// Who keeps CPU and device in step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// The application: it flushes what it wrote and invalidates what it will read.
    Explicit,
    /// The driver: the memory is HOST_COHERENT.
    Coherent,
}

/// A memory type with the way it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryKind {
    pub(crate) index: u32,
    pub(crate) sync: Sync,
}

/// One allocation, mapped as long as it lives, with the buffers bound to it.
///
/// # Invariants
/// `base` points to a live mapping of all `size` bytes of `memory`. Every region lies inside, starts at a
/// multiple of nonCoherentAtomSize and shares no atom with another.
pub(crate) struct Shared {
    gpu: Rc<Gpu>,
    base: NonNull<u8>,
    size: u64,
    sync: Sync,
    regions: Vec<Region>,
    memory: Owned<vk::DeviceMemory>,
    written: Cell<u64>,
    read: Cell<u64>,
}

/// A buffer and its place in the allocation.
struct Region {
    buffer: Owned<vk::Buffer>,
    offset: u64,
    size: u64,
}

impl MemoryKind {
    /// The first type for this way of sharing, cached by the CPU if possible.
    pub(crate) fn find(memory: &vk::PhysicalDeviceMemoryProperties, sync: Sync) -> Option<Self> {
        let kinds = (0u32..).zip(memory.memory_types_as_slice());
        let fits = kinds.filter(|(_, kind)| {
            let coherent = kind.property_flags.contains(vk::MemoryPropertyFlags::HOST_COHERENT);
            kind.property_flags.contains(vk::MemoryPropertyFlags::HOST_VISIBLE)
                && coherent == (sync == Sync::Coherent)
        });
        let uncached =
            |kind: &vk::MemoryType| !kind.property_flags.contains(vk::MemoryPropertyFlags::HOST_CACHED);
        fits.min_by_key(|(_, kind)| uncached(kind)).map(|(index, _)| Self { index, sync })
    }
}

impl Shared {
    /// Makes a buffer for each size and usage, in one allocation, and maps it.
    pub(crate) fn new(
        gpu: &Rc<Gpu>,
        kind: MemoryKind,
        wanted: &[(u64, vk::BufferUsageFlags)],
    ) -> Result<Self> {
        let atom = gpu.choice.limits.non_coherent_atom_size;
        let mut regions = Vec::with_capacity(wanted.len());
        let (mut end, mut allowed) = (0u64, u32::MAX);
        for &(size, usage) in wanted {
            let (buffer, requirements) = gpu.buffer(size, usage)?;
            let offset = end.next_multiple_of(requirements.alignment).next_multiple_of(atom);
            end = offset + requirements.size.max(size);
            allowed &= requirements.memory_type_bits;
            regions.push(Region { buffer, offset, size });
        }
        ensure!(allowed >> kind.index & 1 == 1, "no buffer can live in memory type {}", kind.index);
        // The last region may be flushed in whole atoms, too.
        let size = end.next_multiple_of(atom);
        let memory = gpu.allocate(size, kind.index)?;
        for region in &regions {
            // SAFETY: The offset is aligned, the buffer ends inside the memory, the type is allowed.
            unsafe { gpu.device.bind_buffer_memory(*region.buffer, *memory, region.offset) }
                .context("binding a buffer")?;
        }
        let all = vk::MemoryMapFlags::empty();
        // SAFETY: The type is HOST_VISIBLE and the memory is not mapped.
        let base =
            unsafe { gpu.device.map_memory(*memory, 0, vk::WHOLE_SIZE, all) }.context("mapping memory")?;
        let base = NonNull::new(base.cast()).context("mapping memory gave no address")?;
        // INVARIANT: Mapped just now and until the memory is freed; offsets were rounded up to atoms, and a
        // region's neighbour starts at an atom behind its end.
        Ok(Self {
            gpu: Rc::clone(gpu),
            base,
            size,
            sync: kind.sync,
            regions,
            memory,
            written: Cell::new(0),
            read: Cell::new(0),
        })
    }

    pub(crate) fn buffer(&self, region: usize) -> vk::Buffer {
        *self.regions[region].buffer
    }

    /// Copies words to the start of a region.
    pub(crate) fn write(&self, region: usize, words: &[u32]) {
        let (to, bytes) = self.place(region, words.len());
        // SAFETY: `place` checked that the region holds as many bytes; the device does not use the memory
        // now, since every submission is waited for, and `words` is not in it.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(words).cast(), bytes) };
        self.written.set(self.written.get() + bytes as u64);
    }

    /// Copies words out of the start of a region.
    pub(crate) fn read(&self, region: usize, words: &mut [u32]) {
        let (from, bytes) = self.place(region, words.len());
        // SAFETY: As in `write`, the other way round.
        unsafe { from.copy_to_nonoverlapping(NonNull::from(words).cast(), bytes) };
        self.read.set(self.read.get() + bytes as u64);
    }

    /// Words as they lie in a region now, to look at without counting it as traffic.
    pub(crate) fn peek(&self, region: usize, words: usize) -> Vec<u32> {
        let (from, bytes) = self.place(region, words);
        let mut copy = vec![0u32; words];
        // SAFETY: As in `write`, the other way round.
        unsafe { from.copy_to_nonoverlapping(NonNull::from(copy.as_mut_slice()).cast(), bytes) };
        copy
    }

    /// To be called between writing regions and submitting work that reads them.
    pub(crate) fn hand_to_device(&self, regions: &[usize]) -> Result<()> {
        match self.sync {
            Sync::Coherent => Ok(()),
            Sync::Explicit => {
                // SAFETY: The ranges are whole atoms inside the mapped memory, by the type invariants.
                unsafe { self.gpu.device.flush_mapped_memory_ranges(&self.ranges(regions)) }
                    .context("flushing mapped memory")
            }
        }
    }

    /// To be called between waiting for work that wrote regions and reading them.
    pub(crate) fn take_from_device(&self, regions: &[usize]) -> Result<()> {
        match self.sync {
            Sync::Coherent => Ok(()),
            Sync::Explicit => {
                // SAFETY: The ranges are whole atoms inside the mapped memory, by the type invariants.
                unsafe { self.gpu.device.invalidate_mapped_memory_ranges(&self.ranges(regions)) }
                    .context("invalidating mapped memory")
            }
        }
    }

    /// Where a region lies in the allocation.
    pub(crate) fn offset(&self, region: usize) -> u64 {
        self.regions[region].offset
    }

    /// Bytes that the CPU wrote and read since the start.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.written.get(), self.read.get())
    }

    /// The regions as ranges in whole atoms.
    fn ranges(&self, regions: &[usize]) -> Vec<vk::MappedMemoryRange<'_>> {
        let atom = self.gpu.choice.limits.non_coherent_atom_size;
        let range = |&region: &usize| {
            let Region { offset, size, .. } = self.regions[region];
            debug_assert!(offset % atom == 0 && offset + size.next_multiple_of(atom) <= self.size);
            vk::MappedMemoryRange::default()
                .memory(*self.memory)
                .offset(offset)
                .size(size.next_multiple_of(atom))
        };
        regions.iter().map(range).collect()
    }

    /// The address of a region that must hold so many words, and their size in bytes.
    fn place(&self, region: usize, words: usize) -> (NonNull<u8>, usize) {
        let Region { offset, size, .. } = self.regions[region];
        let bytes = words * size_of::<u32>();
        assert!(bytes as u64 <= size, "{bytes} bytes do not fit a region of {size}");
        let offset = usize::try_from(offset).expect("a mapping fits the address space");
        // SAFETY: The region lies inside the mapping, by the type invariants.
        (unsafe { self.base.add(offset) }, bytes)
    }
}
