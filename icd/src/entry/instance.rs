//! Instances (specification chapter "Initialization").

#![allow(unsafe_code, reason = "entry points")]

use std::ffi::{CStr, c_char};
use std::sync::Arc;

use ash::vk;

use super::{INSTANCES, PHYSICAL_DEVICES, fill, slice, state};
use crate::config::Config;
use crate::extensions;
use crate::host::library::HostDriver;
use crate::host::select::host_driver;
use crate::host::{Error, nested};
use crate::instance::{API_VERSION, InstanceState, PhysicalDevice};
use crate::logger;

/// The host driver, where there is one; why not is said when an instance is created.
fn host() -> Option<&'static HostDriver> {
    let config = Config::from_env().ok()?;
    host_driver(config.host_icd.as_deref()).ok()
}

/// `vkEnumerateInstanceVersion`
pub(super) unsafe extern "system" fn enumerate_instance_version(version: *mut u32) -> vk::Result {
    // SAFETY: a driver's entry point may be asked at any time.
    let of_host = |host: &HostDriver| unsafe { host.entry().try_enumerate_instance_version() }.ok().flatten();
    let host = host().and_then(|host| nested::below(|| of_host(host)));
    let known = host.unwrap_or(vk::API_VERSION_1_0).min(API_VERSION);
    // SAFETY: valid usage.
    unsafe { *version = known };
    vk::Result::SUCCESS
}

/// `vkEnumerateInstanceExtensionProperties`
pub(super) unsafe extern "system" fn enumerate_instance_extension_properties(
    layer: *const c_char,
    count: *mut u32,
    out: *mut vk::ExtensionProperties,
) -> vk::Result {
    if !layer.is_null() {
        return vk::Result::ERROR_LAYER_NOT_PRESENT;
    }
    // SAFETY: a driver's entry point may be asked at any time.
    let of_host =
        |host: &HostDriver| unsafe { host.entry().enumerate_instance_extension_properties(None) }.ok();
    let host = host().and_then(|host| nested::below(|| of_host(host)));
    let list = extensions::instance(host.unwrap_or_default());
    // SAFETY: valid usage.
    unsafe { fill(&list, count, out) }
}

/// `vkEnumerateInstanceLayerProperties`: a driver has no layers.
pub(super) unsafe extern "system" fn enumerate_instance_layer_properties(
    count: *mut u32,
    out: *mut vk::LayerProperties,
) -> vk::Result {
    // SAFETY: valid usage.
    unsafe { fill(&[], count, out) }
}

/// `vkCreateInstance`
pub(super) unsafe extern "system" fn create_instance(
    info: *const vk::InstanceCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::Instance,
) -> vk::Result {
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => {
            logger::init(None);
            log::error!("{error}");
            return vk::Result::ERROR_INITIALIZATION_FAILED;
        }
    };
    logger::init(config.log);
    let host = match host_driver(config.host_icd.as_deref()) {
        Ok(host) => host,
        // Who looks for the best driver of the system goes on looking.
        Err(Error::Nested) => return vk::Result::ERROR_INITIALIZATION_FAILED,
        Err(error) => {
            log::error!("{error}");
            return vk::Result::ERROR_INITIALIZATION_FAILED;
        }
    };
    // SAFETY: valid usage.
    let info = unsafe { &*info };
    // SAFETY: valid usage.
    let application = unsafe { info.p_application_info.as_ref() };
    let asked = application.map_or(0, |application| application.api_version).max(vk::API_VERSION_1_0);
    // Commands of later versions were not reviewed: the host must not think that they are asked for.
    let api_version = asked.min(API_VERSION);
    let application = application.map(|application| vk::ApplicationInfo { api_version, ..*application });

    // Features of devices are asked for by an extension before version 1.1.
    // SAFETY: valid usage.
    let mut names = unsafe { slice(info.pp_enabled_extension_names, info.enabled_extension_count) }.to_vec();
    // SAFETY: valid usage: C strings.
    let unknown =
        names.iter().map(|name| unsafe { CStr::from_ptr(*name) }).find(|name| !extensions::is_instance(name));
    if let Some(unknown) = unknown {
        log::error!("the instance extension {} is not offered", unknown.to_string_lossy());
        return vk::Result::ERROR_EXTENSION_NOT_PRESENT;
    }
    let properties2 = ash::khr::get_physical_device_properties2::NAME;
    // SAFETY: valid usage: C strings.
    let has_properties2 = names.iter().any(|name| unsafe { CStr::from_ptr(*name) } == properties2);
    if api_version < vk::API_VERSION_1_1 && !has_properties2 {
        names.push(properties2.as_ptr());
    }
    let host_info = vk::InstanceCreateInfo {
        p_application_info: application.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
        enabled_extension_count: u32::try_from(names.len()).unwrap_or(u32::MAX),
        pp_enabled_extension_names: names.as_ptr(),
        ..*info
    };
    let entry = host.entry();
    // SAFETY: the application's arguments with one more name.
    let create = || unsafe { (entry.fp_v1_0().create_instance)(&raw const host_info, allocator, out) };
    let result = nested::below(create);
    if result == vk::Result::SUCCESS {
        // SAFETY: written by the host.
        let handle = unsafe { *out };
        INSTANCES.insert(handle, InstanceState::new(handle, host, api_version, config));
    }
    result
}

/// `vkDestroyInstance`
pub(super) unsafe extern "system" fn destroy_instance(
    instance: vk::Instance,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let Some(state) = INSTANCES.remove(instance) else { return };
    PHYSICAL_DEVICES.retain(|_, device| device.instance.handle != instance);
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().destroy_instance)(instance, allocator) };
}

/// Enters devices of an instance.
fn register_devices(instance: &Arc<InstanceState>, devices: &[vk::PhysicalDevice]) {
    devices.iter().for_each(|device| PhysicalDevice::register(instance, *device));
}

/// `vkEnumeratePhysicalDevices`
pub(super) unsafe extern "system" fn enumerate_physical_devices(
    instance: vk::Instance,
    count: *mut u32,
    out: *mut vk::PhysicalDevice,
) -> vk::Result {
    let state = state!(INSTANCES, instance);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().enumerate_physical_devices)(instance, count, out) };
    if !out.is_null() && result.as_raw() >= 0 {
        // SAFETY: filled by the host.
        register_devices(&state, unsafe { slice(out, *count) });
    }
    result
}

/// `vkEnumeratePhysicalDeviceGroups`: each device is a group of its own, since memory with several instances
/// cannot be mapped and is not emulated.
pub(super) unsafe extern "system" fn enumerate_physical_device_groups(
    instance: vk::Instance,
    count: *mut u32,
    out: *mut vk::PhysicalDeviceGroupProperties<'_>,
) -> vk::Result {
    let state = state!(INSTANCES, instance);
    let devices = match state.host_devices() {
        Ok(devices) => devices,
        Err(result) => return result,
    };
    register_devices(&state, &devices);
    if out.is_null() {
        // SAFETY: valid usage.
        return unsafe { fill(&devices, count, std::ptr::null_mut()) };
    }
    // SAFETY: valid usage.
    let room = unsafe { *count } as usize;
    for (index, device) in devices.iter().enumerate().take(room) {
        // SAFETY: valid usage: `room` structures.
        let group = unsafe { &mut *out.add(index) };
        group.physical_device_count = 1;
        group.physical_devices[0] = *device;
        group.subset_allocation = vk::FALSE;
    }
    // SAFETY: valid usage.
    unsafe { *count = u32::try_from(devices.len().min(room)).unwrap_or(u32::MAX) };
    if devices.len() > room { vk::Result::INCOMPLETE } else { vk::Result::SUCCESS }
}
