//! Views of buffers and images (specification chapter "Resource Creation").

#![allow(unsafe_code, reason = "entry points")]

use std::sync::Arc;

use ash::vk;

use super::{DEVICES, state};
use crate::record::views::{BufferView, ImageView};

/// `vkCreateBufferView`
pub(super) unsafe extern "system" fn create_buffer_view(
    device: vk::Device,
    info: *const vk::BufferViewCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::BufferView,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().create_buffer_view)(device, info, allocator, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: valid usage.
        let info = unsafe { &*info };
        let view = BufferView { buffer: info.buffer, offset: info.offset, size: info.range };
        // SAFETY: written by the host.
        state.objects.buffer_views.insert(unsafe { *out }, Arc::new(view));
    }
    result
}

/// `vkDestroyBufferView`
pub(super) unsafe extern "system" fn destroy_buffer_view(
    device: vk::Device,
    view: vk::BufferView,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let state = state!(DEVICES, device; void);
    state.objects.buffer_views.remove(view);
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().destroy_buffer_view)(device, view, allocator) };
}

/// `vkCreateImageView`
pub(super) unsafe extern "system" fn create_image_view(
    device: vk::Device,
    info: *const vk::ImageViewCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::ImageView,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().create_image_view)(device, info, allocator, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: valid usage.
        let info = unsafe { &*info };
        let view = ImageView { image: info.image, range: info.subresource_range };
        // SAFETY: written by the host.
        state.objects.image_views.insert(unsafe { *out }, Arc::new(view));
    }
    result
}

/// `vkDestroyImageView`
pub(super) unsafe extern "system" fn destroy_image_view(
    device: vk::Device,
    view: vk::ImageView,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let state = state!(DEVICES, device; void);
    state.objects.image_views.remove(view);
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().destroy_image_view)(device, view, allocator) };
}
