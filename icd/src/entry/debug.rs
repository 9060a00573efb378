//! Names of objects (specification chapter "Debugging"): memory is called by its name in messages.

#![allow(unsafe_code, reason = "entry points")]

use std::ffi::{CStr, c_char};

use ash::vk;
use ash::vk::Handle;

use super::{DEVICES, state};
use crate::device::DeviceState;

/// Remembers the name of a memory object; null or an empty name takes it away.
///
/// # Safety
/// `name` is null or a C string.
unsafe fn remember(state: &DeviceState, memory: u64, name: *const c_char) {
    let Some(memory) = state.memories.get(vk::DeviceMemory::from_raw(memory)) else { return };
    // SAFETY: the caller's.
    let name = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) });
    memory.set_name(name.unwrap_or_default().to_string_lossy().into_owned());
}

/// `vkSetDebugUtilsObjectNameEXT`
pub(super) unsafe extern "system" fn set_debug_utils_object_name(
    device: vk::Device,
    info: *const vk::DebugUtilsObjectNameInfoEXT<'_>,
) -> vk::Result {
    let state = state!(DEVICES, device);
    let Some(host) = state.later.set_debug_utils_object_name else { return vk::Result::ERROR_UNKNOWN };
    // SAFETY: valid usage.
    let name = unsafe { &*info };
    if name.object_type == vk::ObjectType::DEVICE_MEMORY {
        // SAFETY: valid usage.
        unsafe { remember(&state, name.object_handle, name.p_object_name) };
    }
    // SAFETY: valid usage.
    unsafe { host(device, info) }
}

/// `vkDebugMarkerSetObjectNameEXT`
pub(super) unsafe extern "system" fn debug_marker_set_object_name(
    device: vk::Device,
    info: *const vk::DebugMarkerObjectNameInfoEXT<'_>,
) -> vk::Result {
    let state = state!(DEVICES, device);
    let Some(host) = state.later.debug_marker_set_object_name else { return vk::Result::ERROR_UNKNOWN };
    // SAFETY: valid usage.
    let name = unsafe { &*info };
    if name.object_type == vk::DebugReportObjectTypeEXT::DEVICE_MEMORY {
        // SAFETY: valid usage.
        unsafe { remember(&state, name.object, name.p_object_name) };
    }
    // SAFETY: valid usage.
    unsafe { host(device, info) }
}
