//! Staging memory: buffers that both the CPU and the device see, through which bytes get to memory that the
//! CPU does not.
//!
//! Blocks come in powers of two and are used again. A host whose visible memory is not coherent is flushed
//! and invalidated by whole blocks: nobody else has bytes in them.

#![allow(unsafe_code, reason = "calls the host driver")]

use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use ash::vk;
use kmd_sim::uapi::SharedMem;

type Flags = vk::MemoryPropertyFlags;

/// Size of the smallest block, in bytes, as a power of two.
const SMALLEST: u32 = 16;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the device: written by the CPU once.
    Up,
    /// To the CPU, which reads it.
    Down,
}

/// A buffer that the CPU sees.
#[derive(Debug)]
pub struct Block {
    /// The buffer.
    pub buffer: vk::Buffer,
    /// Its memory as the CPU sees it.
    pub bytes: SharedMem,
    memory: vk::DeviceMemory,
    direction: Direction,
    coherent: bool,
}

/// The staging memory of a device.
pub struct Staging {
    fns: ash::Device,
    types: vk::PhysicalDeviceMemoryProperties,
    families: Vec<u32>,
    free: Mutex<Vec<Block>>,
}

impl Staging {
    /// The staging memory of a device with these memory types, for queues of some families.
    pub fn new(fns: ash::Device, types: vk::PhysicalDeviceMemoryProperties, families: Vec<u32>) -> Self {
        Self { fns, types, families, free: Mutex::default() }
    }

    /// A buffer that queues of all families may use.
    pub fn create_buffer(&self, size: u64) -> Result<vk::Buffer, vk::Result> {
        let usage = vk::BufferUsageFlags::TRANSFER_SRC | vk::BufferUsageFlags::TRANSFER_DST;
        let mut info = vk::BufferCreateInfo::default().size(size).usage(usage);
        if self.families.len() > 1 {
            info = info.sharing_mode(vk::SharingMode::CONCURRENT).queue_family_indices(&self.families);
        }
        // SAFETY: the device is alive.
        unsafe { self.fns.create_buffer(&info, None) }
    }

    /// A block of at least `size` bytes, whose content is undefined.
    pub fn take(&self, size: u64, direction: Direction) -> Result<Block, vk::Result> {
        let size = size.max(1 << SMALLEST).next_power_of_two();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |block: &Block| block.direction == direction && block.bytes.len() as u64 == size;
        match free.iter().position(fits) {
            Some(at) => Ok(free.swap_remove(at)),
            None => self.make(size, direction),
        }
    }

    /// Takes back a block that the device does not use any more.
    pub fn give_back(&self, block: Block) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(block);
    }

    /// Shows the device what the CPU wrote to a block.
    pub fn flush(&self, block: &Block) -> Result<(), vk::Result> {
        let range = vk::MappedMemoryRange::default().memory(block.memory).size(vk::WHOLE_SIZE);
        let needless = block.coherent || mutated!("dma-staging-flush");
        // SAFETY: the memory is mapped, all of it.
        if needless { Ok(()) } else { unsafe { self.fns.flush_mapped_memory_ranges(&[range]) } }
    }

    /// Shows the CPU what the device wrote to a block.
    pub fn invalidate(&self, block: &Block) -> Result<(), vk::Result> {
        let range = vk::MappedMemoryRange::default().memory(block.memory).size(vk::WHOLE_SIZE);
        let needless = block.coherent || mutated!("dma-staging-invalidate");
        // SAFETY: the memory is mapped, all of it.
        if needless { Ok(()) } else { unsafe { self.fns.invalidate_mapped_memory_ranges(&[range]) } }
    }

    /// Destroys all blocks that were given back.
    pub fn destroy(&self) {
        for block in self.free.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // SAFETY: nobody has it, and the device is idle.
            unsafe { self.fns.destroy_buffer(block.buffer, None) };
            // SAFETY: as above.
            unsafe { self.fns.free_memory(block.memory, None) };
        }
    }

    fn make(&self, size: u64, direction: Direction) -> Result<Block, vk::Result> {
        let buffer = self.create_buffer(size)?;
        let made = self.bind(buffer, size, direction);
        if made.is_err() {
            // SAFETY: nobody has seen it.
            unsafe { self.fns.destroy_buffer(buffer, None) };
        }
        made
    }

    fn bind(&self, buffer: vk::Buffer, size: u64, direction: Direction) -> Result<Block, vk::Result> {
        // SAFETY: the buffer is alive.
        let requirements = unsafe { self.fns.get_buffer_memory_requirements(buffer) };
        let index = self
            .memory_type(requirements.memory_type_bits, direction)
            .ok_or(vk::Result::ERROR_OUT_OF_HOST_MEMORY)?;
        let info = vk::MemoryAllocateInfo::default()
            .allocation_size(requirements.size.max(size))
            .memory_type_index(index);
        // SAFETY: the device is alive.
        let memory = unsafe { self.fns.allocate_memory(&info, None) }?;
        let flags = vk::MemoryMapFlags::empty();
        // SAFETY: new memory of a visible type.
        let mapped = unsafe { self.fns.map_memory(memory, 0, vk::WHOLE_SIZE, flags) };
        // SAFETY: as above, and the buffer is not bound.
        let bound = mapped.and_then(|base| {
            // SAFETY: as above.
            unsafe { self.fns.bind_buffer_memory(buffer, memory, 0) }.map(|()| base)
        });
        let base =
            bound.and_then(|base| NonNull::new(base.cast::<u8>()).ok_or(vk::Result::ERROR_MEMORY_MAP_FAILED));
        let len = usize::try_from(size).map_err(|_| vk::Result::ERROR_OUT_OF_HOST_MEMORY)?;
        match base {
            Ok(base) => {
                // SAFETY: 1. mapped until the block is discarded; 2. only used through this value. Hosts
                // align maps to 64 bytes at least.
                let bytes = unsafe { SharedMem::new(base, len) };
                let kind = self.types.memory_types[index as usize].property_flags;
                let coherent = kind.contains(Flags::HOST_COHERENT);
                Ok(Block { buffer, bytes, memory, direction, coherent })
            }
            Err(error) => {
                // SAFETY: nobody has seen it.
                unsafe { self.fns.free_memory(memory, None) };
                Err(error)
            }
        }
    }

    /// The best of some types: visible; coherent; cached where the CPU reads; in the system's memory.
    fn memory_type(&self, bits: u32, direction: Direction) -> Option<u32> {
        let types = self.types.memory_types_as_slice().iter().zip(0u32..);
        let visible = types.filter(|(memory_type, index)| {
            bits >> index & 1 != 0 && memory_type.property_flags.contains(Flags::HOST_VISIBLE)
        });
        let best = visible.max_by_key(|(memory_type, index)| {
            let flags = memory_type.property_flags;
            let has = |flag| flags.contains(flag);
            let cached = has(Flags::HOST_CACHED) == (direction == Direction::Down);
            let near = !has(Flags::DEVICE_LOCAL);
            let first = std::cmp::Reverse(*index);
            match direction {
                Direction::Up => (has(Flags::HOST_COHERENT), near, cached, first),
                Direction::Down => (has(Flags::HOST_CACHED), has(Flags::HOST_COHERENT), near, first),
            }
        });
        best.map(|(_, index)| index)
    }
}

impl std::fmt::Debug for Staging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staging").field("families", &self.families).finish_non_exhaustive()
    }
}
