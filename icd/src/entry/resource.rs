//! Buffers and images: creation, memory requirements, binding (specification chapter "Resource Creation").

#![allow(unsafe_code, reason = "entry points")]

use std::sync::Arc;

use ash::vk;

use super::{DEVICES, slice, state};
use crate::device::DeviceState;
use crate::resources::Resource;

/// `vkCreateBuffer`
pub(super) unsafe extern "system" fn create_buffer(
    device: vk::Device,
    info: *const vk::BufferCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::Buffer,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().create_buffer)(device, info, allocator, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: valid usage.
        let resource = unsafe { Resource::buffer(state.new_resource_id(), &*info) };
        // SAFETY: written by the host.
        let buffer = unsafe { *out };
        state.buffers.insert(buffer, Arc::new(resource));
        // SAFETY: valid usage.
        if unsafe { (*info).flags }.contains(vk::BufferCreateFlags::DEVICE_ADDRESS_CAPTURE_REPLAY) {
            // Its address is known from an earlier run.
            state.address_given(buffer);
        }
    }
    result
}

/// `vkDestroyBuffer`
pub(super) unsafe extern "system" fn destroy_buffer(
    device: vk::Device,
    buffer: vk::Buffer,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let state = state!(DEVICES, device; void);
    state.unbind(state.buffers.remove(buffer));
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().destroy_buffer)(device, buffer, allocator) };
}

/// `vkGetBufferDeviceAddress`
pub(super) unsafe extern "system" fn get_buffer_device_address(
    device: vk::Device,
    info: *const vk::BufferDeviceAddressInfo<'_>,
) -> vk::DeviceAddress {
    let Some(state) = DEVICES.get(device) else { return 0 };
    let Some(host) = state.later.get_buffer_device_address else { return 0 };
    // SAFETY: valid usage.
    state.address_given(unsafe { (*info).buffer });
    // SAFETY: valid usage.
    unsafe { host(device, info) }
}

/// `vkCreateImage`
pub(super) unsafe extern "system" fn create_image(
    device: vk::Device,
    info: *const vk::ImageCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::Image,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().create_image)(device, info, allocator, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: valid usage.
        let resource = Resource::image(state.new_resource_id(), unsafe { &*info });
        // SAFETY: written by the host.
        state.images.insert(unsafe { *out }, Arc::new(resource));
    }
    result
}

/// `vkDestroyImage`
pub(super) unsafe extern "system" fn destroy_image(
    device: vk::Device,
    image: vk::Image,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let state = state!(DEVICES, device; void);
    state.unbind(state.images.remove(image));
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().destroy_image)(device, image, allocator) };
}

/// Records a buffer's binding, which is as long as its memory requirements say.
fn buffer_bound(state: &DeviceState, buffer: vk::Buffer, memory: vk::DeviceMemory, offset: u64) {
    // SAFETY: the buffer is alive.
    let size = unsafe { state.fns.get_buffer_memory_requirements(buffer) }.size;
    state.bind(state.buffers.get(buffer), memory, offset..offset.saturating_add(size));
}

/// Records an image's binding. The planes of a disjoint image are bound one by one, and where they end is not
/// worth a query: up to the end of the memory.
fn image_bound(state: &DeviceState, image: vk::Image, memory: vk::DeviceMemory, offset: u64) {
    // Images of a swapchain have no memory of the application.
    let Some(resource) = state.images.get(image) else { return };
    let disjoint = resource.image.is_none_or(|kind| kind.disjoint);
    let size = match disjoint {
        true => u64::MAX,
        // SAFETY: the image is alive, and not disjoint.
        false => unsafe { state.fns.get_image_memory_requirements(image) }.size,
    };
    state.bind(Some(resource), memory, offset..offset.saturating_add(size));
}

/// `vkBindBufferMemory`
pub(super) unsafe extern "system" fn bind_buffer_memory(
    device: vk::Device,
    buffer: vk::Buffer,
    memory: vk::DeviceMemory,
    offset: u64,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().bind_buffer_memory)(device, buffer, memory, offset) };
    if result == vk::Result::SUCCESS {
        buffer_bound(&state, buffer, memory, offset);
    }
    result
}

/// `vkBindBufferMemory2`
pub(super) unsafe extern "system" fn bind_buffer_memory2(
    device: vk::Device,
    count: u32,
    infos: *const vk::BindBufferMemoryInfo<'_>,
) -> vk::Result {
    let state = state!(DEVICES, device);
    let Some(bind) = state.later.bind_buffer_memory2 else { return vk::Result::ERROR_UNKNOWN };
    // SAFETY: valid usage.
    let result = unsafe { bind(device, count, infos) };
    // On failure some may be bound all the same: a binding too many does no harm.
    // SAFETY: valid usage.
    for info in unsafe { slice(infos, count) } {
        buffer_bound(&state, info.buffer, info.memory, info.memory_offset);
    }
    result
}

/// `vkBindImageMemory`
pub(super) unsafe extern "system" fn bind_image_memory(
    device: vk::Device,
    image: vk::Image,
    memory: vk::DeviceMemory,
    offset: u64,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().bind_image_memory)(device, image, memory, offset) };
    if result == vk::Result::SUCCESS {
        image_bound(&state, image, memory, offset);
    }
    result
}

/// `vkBindImageMemory2`
pub(super) unsafe extern "system" fn bind_image_memory2(
    device: vk::Device,
    count: u32,
    infos: *const vk::BindImageMemoryInfo<'_>,
) -> vk::Result {
    let state = state!(DEVICES, device);
    let Some(bind) = state.later.bind_image_memory2 else { return vk::Result::ERROR_UNKNOWN };
    // SAFETY: valid usage.
    let result = unsafe { bind(device, count, infos) };
    // As for buffers.
    // SAFETY: valid usage.
    for info in unsafe { slice(infos, count) } {
        image_bound(&state, info.image, info.memory, info.memory_offset);
    }
    result
}

fn translate(state: &DeviceState, requirements: &mut vk::MemoryRequirements) {
    requirements.memory_type_bits = state.physical.types.bits_from_host(requirements.memory_type_bits);
}

/// Defines an entry point that returns `VkMemoryRequirements` of a resource.
macro_rules! requirements {
    ($name:ident, $handle:ty, $host:ident, $doc:literal) => {
        #[doc = $doc]
        pub(super) unsafe extern "system" fn $name(
            device: vk::Device,
            resource: $handle,
            out: *mut vk::MemoryRequirements,
        ) {
            let state = state!(DEVICES, device; void);
            // SAFETY: valid usage.
            unsafe { (state.fns.fp_v1_0().$host)(device, resource, out) };
            // SAFETY: filled by the host.
            translate(&state, unsafe { &mut *out });
        }
    };
}

/// Defines an entry point that returns `VkMemoryRequirements2` for a structure.
macro_rules! requirements2 {
    ($name:ident, $info:ident, $host:ident, $doc:literal) => {
        #[doc = $doc]
        pub(super) unsafe extern "system" fn $name(
            device: vk::Device,
            info: *const vk::$info<'_>,
            out: *mut vk::MemoryRequirements2<'_>,
        ) {
            let state = state!(DEVICES, device; void);
            let Some(host) = state.later.$host else { return };
            // SAFETY: valid usage.
            unsafe { host(device, info, out) };
            // SAFETY: filled by the host.
            translate(&state, unsafe { &mut (*out).memory_requirements });
        }
    };
}

requirements!(
    get_buffer_memory_requirements,
    vk::Buffer,
    get_buffer_memory_requirements,
    "`vkGetBufferMemoryRequirements`"
);
requirements!(
    get_image_memory_requirements,
    vk::Image,
    get_image_memory_requirements,
    "`vkGetImageMemoryRequirements`"
);
requirements2!(
    get_buffer_memory_requirements2,
    BufferMemoryRequirementsInfo2,
    buffer_requirements2,
    "`vkGetBufferMemoryRequirements2`"
);
requirements2!(
    get_image_memory_requirements2,
    ImageMemoryRequirementsInfo2,
    image_requirements2,
    "`vkGetImageMemoryRequirements2`"
);
requirements2!(
    get_device_buffer_memory_requirements,
    DeviceBufferMemoryRequirements,
    device_buffer_requirements,
    "`vkGetDeviceBufferMemoryRequirements`"
);
requirements2!(
    get_device_image_memory_requirements,
    DeviceImageMemoryRequirements,
    device_image_requirements,
    "`vkGetDeviceImageMemoryRequirements`"
);
