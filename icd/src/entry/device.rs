//! Devices and their queues (specification chapter "Devices and Queues").

#![allow(unsafe_code, reason = "entry points")]

use std::sync::Arc;

use ash::vk;

use super::{DEVICES, PHYSICAL_DEVICES, QUEUES, state};
use crate::device::{DeviceState, QueueState};
use crate::{fork, stats, trace};

/// `vkCreateDevice`
pub(super) unsafe extern "system" fn create_device(
    physical: vk::PhysicalDevice,
    info: *const vk::DeviceCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::Device,
) -> vk::Result {
    let physical = state!(PHYSICAL_DEVICES, physical);
    // SAFETY: valid usage.
    match unsafe { DeviceState::create(&physical, &*info, allocator) } {
        Ok(device) => {
            let tracker = physical.instance.config.tracker;
            let transport = if device.dma().is_some() { "dma" } else { "mapped" };
            log::info!("device created with tracker {}, transport {transport}", tracker.expected().name());
            fork::device_created();
            stats::device_created(physical.instance.config.stats.as_deref());
            trace::device_created(physical.instance.config.trace.as_deref());
            // SAFETY: valid usage.
            unsafe { *out = device.handle };
            DEVICES.insert(device.handle, Arc::new(device));
            vk::Result::SUCCESS
        }
        Err(result) => result,
    }
}

/// `vkDestroyDevice`
pub(super) unsafe extern "system" fn destroy_device(
    device: vk::Device,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let Some(state) = DEVICES.remove(device) else { return };
    QUEUES.retain(|_, queue| queue.device.handle != device);
    stats::device_destroyed(&state.km.stats());
    trace::device_destroyed();
    state.destroy_own_objects();
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().destroy_device)(device, allocator) };
}

fn register_queue(device: Arc<DeviceState>, family: u32, handle: vk::Queue) {
    let known = QUEUES.get(handle).is_some_and(|queue| queue.device.handle == device.handle);
    if !known && handle != vk::Queue::null() {
        QUEUES.insert(handle, Arc::new(QueueState::new(handle, family, device)));
    }
}

/// `vkGetDeviceQueue`
pub(super) unsafe extern "system" fn get_device_queue(
    device: vk::Device,
    family: u32,
    index: u32,
    out: *mut vk::Queue,
) {
    let state = state!(DEVICES, device; void);
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().get_device_queue)(device, family, index, out) };
    // SAFETY: written by the host.
    register_queue(state, family, unsafe { *out });
}

/// `vkGetDeviceQueue2`
pub(super) unsafe extern "system" fn get_device_queue2(
    device: vk::Device,
    info: *const vk::DeviceQueueInfo2<'_>,
    out: *mut vk::Queue,
) {
    let state = state!(DEVICES, device; void);
    let Some(get_device_queue2) = state.later.get_device_queue2 else { return };
    // SAFETY: valid usage.
    unsafe { get_device_queue2(device, info, out) };
    // SAFETY: valid usage.
    let family = unsafe { (*info).queue_family_index };
    // SAFETY: written by the host.
    register_queue(state, family, unsafe { *out });
}
