//! Memory objects (specification chapter "Memory Allocation") and what resources need of them.

use std::ffi::c_void;
use std::ops::Range;
use std::ptr::null_mut;

use ash::vk;

use crate::chain::slice;
use crate::device::Device;
use crate::fail;
use crate::handles::DEVICES;
use crate::mapping::{Bytes, Mapping};
use crate::modes::modes;
use crate::types::ATOM;

/// State of a `VkDeviceMemory`.
#[derive(Debug)]
pub struct Memory {
    visible: bool,
    size: usize,
    /// The device's memory, as the driver below maps it.
    bytes: Bytes,
    mapping: Option<Mapping>,
}

impl Memory {
    /// Lets the device see what the CPU wrote.
    pub fn push(&mut self) {
        self.mapping.iter().for_each(Mapping::push);
    }

    /// Lets the CPU see what the device wrote.
    pub fn pull(&mut self) {
        self.mapping.iter().for_each(Mapping::pull);
    }

    /// The bytes of a flush or invalidation.
    fn atoms(&self, range: &vk::MappedMemoryRange<'_>) -> (&Mapping, Range<usize>) {
        let Some(mapping) = &self.mapping else { fail("a range of memory that is not mapped") };
        let start = to_usize(range.offset);
        let end = match range.size {
            vk::WHOLE_SIZE => mapping.range.end,
            size => start.saturating_add(to_usize(size)),
        };
        let atom = to_usize(ATOM);
        let whole = start.is_multiple_of(atom) && (end.is_multiple_of(atom) || end == self.size);
        if !whole || start < mapping.range.start || end > mapping.range.end || start > end {
            fail(format_args!(
                "{start}..{end} of {} bytes, mapped {:?}, is not of whole atoms of {atom} bytes",
                self.size, mapping.range
            ));
        }
        (mapping, start..end)
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).expect("a 64-bit machine")
}

/// `vkAllocateMemory`
pub(crate) unsafe extern "system" fn allocate_memory(
    device: vk::Device,
    info: *const vk::MemoryAllocateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::DeviceMemory,
) -> vk::Result {
    let device = DEVICES.get(device);
    // SAFETY: valid usage.
    let info = unsafe { &*info };
    let below =
        vk::MemoryAllocateInfo { memory_type_index: device.types.host(info.memory_type_index), ..*info };
    let (functions, raw) = (device.fns.fp_v1_0(), device.fns.handle());
    // SAFETY: the caller's arguments with the host's type.
    let result = unsafe { (functions.allocate_memory)(raw, &raw const below, allocator, out) };
    if result != vk::Result::SUCCESS {
        return result;
    }
    // SAFETY: written by the host.
    let handle = unsafe { *out };
    let mut start = null_mut();
    // SAFETY: all memory of the driver below can be mapped, and nobody else maps it.
    let mapped = unsafe {
        (functions.map_memory)(raw, handle, 0, vk::WHOLE_SIZE, vk::MemoryMapFlags::empty(), &raw mut start)
    };
    if mapped != vk::Result::SUCCESS {
        // SAFETY: nobody has seen the memory.
        unsafe { (functions.free_memory)(raw, handle, allocator) };
        return vk::Result::ERROR_OUT_OF_DEVICE_MEMORY;
    }
    let size = to_usize(info.allocation_size);
    // SAFETY: mapped until the memory is freed, and this ends with it.
    let bytes = unsafe { Bytes::new(start, size) };
    if modes().poison {
        bytes.poison(0..size);
    }
    let visible = device.types.is_visible(info.memory_type_index);
    device.memories().insert(handle, Memory { visible, size, bytes, mapping: None });
    result
}

/// `vkFreeMemory`
pub(crate) unsafe extern "system" fn free_memory(
    device: vk::Device,
    memory: vk::DeviceMemory,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let device = DEVICES.get(device);
    if let Some(memory) = device.memories().remove(&memory)
        && modes().poison
    {
        memory.bytes.poison(0..memory.size);
    }
    // SAFETY: valid usage.
    unsafe { (device.fns.fp_v1_0().free_memory)(device.fns.handle(), memory, allocator) };
}

/// `vkMapMemory`
pub(crate) unsafe extern "system" fn map_memory(
    device: vk::Device,
    memory: vk::DeviceMemory,
    offset: u64,
    size: u64,
    _: vk::MemoryMapFlags,
    out: *mut *mut c_void,
) -> vk::Result {
    let device = DEVICES.get(device);
    let mut memories = device.memories();
    let Some(memory) = memories.get_mut(&memory) else { return vk::Result::ERROR_MEMORY_MAP_FAILED };
    if !memory.visible {
        return vk::Result::ERROR_MEMORY_MAP_FAILED;
    }
    let start = to_usize(offset);
    let end = if size == vk::WHOLE_SIZE {
        memory.size
    } else {
        start.saturating_add(to_usize(size)).min(memory.size)
    };
    let address = if modes().shadows() {
        let Ok(mapping) = Mapping::new(memory.bytes, start..end) else {
            return vk::Result::ERROR_MEMORY_MAP_FAILED;
        };
        if modes().noncoherent && modes().poison {
            mapping.poison();
        }
        memory.mapping.insert(mapping).address(start)
    } else {
        memory.bytes.start().wrapping_add(start).cast()
    };
    // SAFETY: valid usage.
    unsafe { *out = address };
    vk::Result::SUCCESS
}

/// `vkUnmapMemory`
pub(crate) unsafe extern "system" fn unmap_memory(device: vk::Device, memory: vk::DeviceMemory) {
    let device = DEVICES.get(device);
    let mut memories = device.memories();
    let Some(memory) = memories.get_mut(&memory) else { return };
    if modes().split {
        memory.push();
    }
    memory.mapping = None;
}

/// Does something for each range of memory that is not coherent.
///
/// # Safety
/// `ranges` is valid for `count` ranges.
unsafe fn for_each(
    device: &Device,
    count: u32,
    ranges: *const vk::MappedMemoryRange<'_>,
    act: impl Fn(&Mapping, &Range<usize>),
) -> vk::Result {
    // Of coherent memory ranges are hints.
    if modes().noncoherent {
        let memories = device.memories();
        // SAFETY: the caller's.
        for range in unsafe { slice(ranges, count) } {
            let Some(memory) = memories.get(&range.memory) else { fail("a range of memory that is gone") };
            let (mapping, bytes) = memory.atoms(range);
            act(mapping, &bytes);
        }
    }
    vk::Result::SUCCESS
}

/// `vkFlushMappedMemoryRanges`
pub(crate) unsafe extern "system" fn flush_mapped_memory_ranges(
    device: vk::Device,
    count: u32,
    ranges: *const vk::MappedMemoryRange<'_>,
) -> vk::Result {
    // SAFETY: valid usage.
    unsafe { for_each(&DEVICES.get(device), count, ranges, Mapping::flush) }
}

/// `vkInvalidateMappedMemoryRanges`
pub(crate) unsafe extern "system" fn invalidate_mapped_memory_ranges(
    device: vk::Device,
    count: u32,
    ranges: *const vk::MappedMemoryRange<'_>,
) -> vk::Result {
    // SAFETY: valid usage.
    unsafe { for_each(&DEVICES.get(device), count, ranges, Mapping::invalidate) }
}

/// `vkGetBufferMemoryRequirements`
pub(crate) unsafe extern "system" fn buffer_requirements(
    device: vk::Device,
    buffer: vk::Buffer,
    out: *mut vk::MemoryRequirements,
) {
    let state = DEVICES.get(device);
    // SAFETY: valid usage.
    unsafe {
        (state.fns.fp_v1_0().get_buffer_memory_requirements)(device, buffer, out);
        (*out).memory_type_bits = state.types.bits((*out).memory_type_bits);
    }
}

/// `vkGetImageMemoryRequirements`
pub(crate) unsafe extern "system" fn image_requirements(
    device: vk::Device,
    image: vk::Image,
    out: *mut vk::MemoryRequirements,
) {
    let state = DEVICES.get(device);
    // SAFETY: valid usage.
    unsafe {
        (state.fns.fp_v1_0().get_image_memory_requirements)(device, image, out);
        (*out).memory_type_bits = state.types.bits((*out).memory_type_bits);
    }
}

/// Defines commands that take an info and give `VkMemoryRequirements2`.
macro_rules! requirements2 {
    ($($function:ident: $pfn:ident($info:ident) = $($name:literal)+;)*) => {
        $(
            #[doc = concat!("`", $(stringify!($name), "` `",)+ "`")]
            pub(crate) unsafe extern "system" fn $function(
                device: vk::Device,
                info: *const vk::$info<'_>,
                out: *mut vk::MemoryRequirements2<'_>,
            ) {
                let state = DEVICES.get(device);
                // SAFETY: the names stand for this type; valid usage.
                unsafe {
                    let below: vk::$pfn = state.later(&[$($name),+]);
                    below(device, info, out);
                    let bits = &mut (*out).memory_requirements.memory_type_bits;
                    *bits = state.types.bits(*bits);
                }
            }
        )*
    };
}

requirements2! {
    buffer_requirements2: PFN_vkGetBufferMemoryRequirements2(BufferMemoryRequirementsInfo2) =
        c"vkGetBufferMemoryRequirements2" c"vkGetBufferMemoryRequirements2KHR";
    image_requirements2: PFN_vkGetImageMemoryRequirements2(ImageMemoryRequirementsInfo2) =
        c"vkGetImageMemoryRequirements2" c"vkGetImageMemoryRequirements2KHR";
    device_buffer_requirements: PFN_vkGetDeviceBufferMemoryRequirements(DeviceBufferMemoryRequirements) =
        c"vkGetDeviceBufferMemoryRequirements" c"vkGetDeviceBufferMemoryRequirementsKHR";
    device_image_requirements: PFN_vkGetDeviceImageMemoryRequirements(DeviceImageMemoryRequirements) =
        c"vkGetDeviceImageMemoryRequirements" c"vkGetDeviceImageMemoryRequirementsKHR";
}
