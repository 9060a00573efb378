//! Properties, features and extensions of physical devices (specification chapters "Devices and Queues",
//! "Memory Allocation", "Features").

#![allow(unsafe_code, reason = "entry points")]

use std::ffi::{CStr, c_char};

use ash::vk;
use kmd_sim::uapi::PAGE_SIZE;

use super::{PHYSICAL_DEVICES, all_devices, fill, state};
use crate::chain;
use crate::extensions;
use crate::instance::{PhysicalDevice, write_text};
use crate::request::host_extensions;

/// `vkGetPhysicalDeviceProperties`
pub(super) unsafe extern "system" fn get_physical_device_properties(
    device: vk::PhysicalDevice,
    out: *mut vk::PhysicalDeviceProperties,
) {
    let state = state!(PHYSICAL_DEVICES, device; void);
    // SAFETY: valid usage.
    unsafe { (state.instance.fns.fp_v1_0().get_physical_device_properties)(device, out) };
    // SAFETY: filled by the host.
    state.translate_properties(unsafe { &mut *out });
}

/// `vkGetPhysicalDeviceProperties2`
pub(super) unsafe extern "system" fn get_physical_device_properties2(
    device: vk::PhysicalDevice,
    out: *mut vk::PhysicalDeviceProperties2<'_>,
) {
    let state = state!(PHYSICAL_DEVICES, device; void);
    let Some(properties2) = state.instance.fns2.properties2 else { return };
    // SAFETY: valid usage.
    unsafe { properties2(device, out) };
    // SAFETY: filled by the host.
    let out = unsafe { &mut *out };
    state.translate_properties(&mut out.properties);
    // SAFETY: a valid chain of outputs.
    if let Some(driver) = unsafe { chain::find_mut::<vk::PhysicalDeviceDriverProperties<'_>>(out.p_next) } {
        name_driver(&state, &mut driver.driver_name, &mut driver.driver_info);
        driver.conformance_version = vk::ConformanceVersion::default();
    }
    // SAFETY: a valid chain of outputs.
    if let Some(driver) = unsafe { chain::find_mut::<vk::PhysicalDeviceVulkan12Properties<'_>>(out.p_next) } {
        name_driver(&state, &mut driver.driver_name, &mut driver.driver_info);
        driver.conformance_version = vk::ConformanceVersion::default();
    }
    let placed =
        // SAFETY: a valid chain of outputs.
        unsafe { chain::find_mut::<vk::PhysicalDeviceMapMemoryPlacedPropertiesEXT<'_>>(out.p_next) };
    if let Some(placed) = placed {
        placed.min_placed_memory_map_alignment = PAGE_SIZE;
    }
}

/// Puts our name in place of the host's, which moves into the information.
fn name_driver(
    device: &PhysicalDevice,
    name: &mut [c_char; vk::MAX_DRIVER_NAME_SIZE],
    info: &mut [c_char; vk::MAX_DRIVER_INFO_SIZE],
) {
    let text = |chars: &[c_char]| {
        let bytes: Vec<u8> = chars.iter().map(|c| c.cast_unsigned()).collect();
        CStr::from_bytes_until_nul(&bytes).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let ours = device.driver_info(&text(name), &text(info));
    write_text(info, &ours);
    write_text(name, "Lockstep");
}

/// `vkGetPhysicalDeviceFeatures2`
pub(super) unsafe extern "system" fn get_physical_device_features2(
    device: vk::PhysicalDevice,
    out: *mut vk::PhysicalDeviceFeatures2<'_>,
) {
    let state = state!(PHYSICAL_DEVICES, device; void);
    let Some(features2) = state.instance.fns2.features2 else { return };
    // SAFETY: valid usage.
    unsafe { features2(device, out) };
    // SAFETY: a valid chain of outputs.
    let structures =
        unsafe { chain::find_mut::<vk::PhysicalDeviceAccelerationStructureFeaturesKHR<'_>>((*out).p_next) };
    if let Some(features) = structures {
        // The host would read and write guest memory behind our back.
        features.acceleration_structure_host_commands = vk::FALSE;
    }
    let placed =
        // SAFETY: a valid chain of outputs.
        unsafe { chain::find_mut::<vk::PhysicalDeviceMapMemoryPlacedFeaturesEXT<'_>>((*out).p_next) };
    if let Some(features) = placed {
        features.memory_map_placed = vk::TRUE;
        features.memory_map_range_placed = vk::TRUE;
        features.memory_unmap_reserve = vk::TRUE;
    }
}

/// `vkGetPhysicalDeviceExternalSemaphoreProperties`: none can be shared, whatever the host can. What others
/// signal would be a flush point, and what they wait for a completion point, that nobody here notices.
pub(super) unsafe extern "system" fn get_physical_device_external_semaphore_properties(
    _device: vk::PhysicalDevice,
    _info: *const vk::PhysicalDeviceExternalSemaphoreInfo<'_>,
    out: *mut vk::ExternalSemaphoreProperties<'_>,
) {
    // SAFETY: valid usage.
    let out = unsafe { &mut *out };
    out.export_from_imported_handle_types = vk::ExternalSemaphoreHandleTypeFlags::empty();
    out.compatible_handle_types = vk::ExternalSemaphoreHandleTypeFlags::empty();
    out.external_semaphore_features = vk::ExternalSemaphoreFeatureFlags::empty();
}

/// `vkGetPhysicalDeviceExternalFenceProperties`: none can be shared, as with semaphores.
pub(super) unsafe extern "system" fn get_physical_device_external_fence_properties(
    _device: vk::PhysicalDevice,
    _info: *const vk::PhysicalDeviceExternalFenceInfo<'_>,
    out: *mut vk::ExternalFenceProperties<'_>,
) {
    // SAFETY: valid usage.
    let out = unsafe { &mut *out };
    out.export_from_imported_handle_types = vk::ExternalFenceHandleTypeFlags::empty();
    out.compatible_handle_types = vk::ExternalFenceHandleTypeFlags::empty();
    out.external_fence_features = vk::ExternalFenceFeatureFlags::empty();
}

/// `vkGetPhysicalDeviceMemoryProperties`
pub(super) unsafe extern "system" fn get_physical_device_memory_properties(
    device: vk::PhysicalDevice,
    out: *mut vk::PhysicalDeviceMemoryProperties,
) {
    let state = state!(PHYSICAL_DEVICES, device; void);
    // SAFETY: valid usage.
    unsafe { *out = state.types.properties() };
}

/// `vkGetPhysicalDeviceMemoryProperties2`
pub(super) unsafe extern "system" fn get_physical_device_memory_properties2(
    device: vk::PhysicalDevice,
    out: *mut vk::PhysicalDeviceMemoryProperties2<'_>,
) {
    let state = state!(PHYSICAL_DEVICES, device; void);
    let Some(memory_properties2) = state.instance.fns2.memory_properties2 else { return };
    // SAFETY: valid usage.
    unsafe { memory_properties2(device, out) };
    // SAFETY: filled by the host.
    let out = unsafe { &mut *out };
    out.memory_properties = state.types.properties();
    // SAFETY: a valid chain of outputs.
    let budget = unsafe { chain::find_mut::<vk::PhysicalDeviceMemoryBudgetPropertiesEXT<'_>>(out.p_next) };
    if let Some(budget) = budget {
        let devices = all_devices().into_iter().filter(|device| device.physical.handle == state.handle);
        let guest = devices.map(|device| device.km.resident_bytes()).sum();
        state.types.translate_budget(budget, guest);
    }
}

/// `vkEnumerateDeviceExtensionProperties`
pub(super) unsafe extern "system" fn enumerate_device_extension_properties(
    device: vk::PhysicalDevice,
    layer: *const c_char,
    count: *mut u32,
    out: *mut vk::ExtensionProperties,
) -> vk::Result {
    if !layer.is_null() {
        return vk::Result::ERROR_LAYER_NOT_PRESENT;
    }
    let state = state!(PHYSICAL_DEVICES, device);
    let list = match host_extensions(&state) {
        Ok(host) => extensions::device(host),
        Err(result) => return result,
    };
    // SAFETY: valid usage.
    unsafe { fill(&list, count, out) }
}
