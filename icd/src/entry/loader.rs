//! The interface between loader and driver, versions 1 to 7 (Vulkan-Loader, "LoaderDriverInterface").

#![allow(unsafe_code, reason = "called by the loader")]
#![allow(non_snake_case, reason = "names of the loader interface")]

use std::ffi::{CStr, c_char};

use ash::vk;

use super::table::{Level, find, is_offered};
use super::{DEVICES, INSTANCES};

/// Newest version of the interface that we know.
const NEWEST: u32 = 7;

/// Agrees on a version of the interface.
///
/// # Safety
/// `version` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vk_icdNegotiateLoaderICDInterfaceVersion(version: *mut u32) -> vk::Result {
    // SAFETY: the loader's promise.
    unsafe { *version = (*version).min(NEWEST) };
    vk::Result::SUCCESS
}

/// `vkGetInstanceProcAddr` for the loader.
///
/// # Safety
/// `instance` is null or one of ours; `name` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vk_icdGetInstanceProcAddr(
    instance: vk::Instance,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: the caller's.
    let name = unsafe { CStr::from_ptr(name) };
    let ours = find(name);
    if let Some((Level::Global, function)) = ours {
        return function;
    }
    if !is_offered(name) {
        return None;
    }
    let instance = INSTANCES.get(instance)?;
    let host = instance.host.instance_proc(instance.handle, name);
    match ours {
        // Ours even where the host does not have it; a device says whether it is enabled.
        Some((Level::OwnDevice, function)) => function,
        // Commands the host does not have are not had with us either.
        Some((_, function)) => host.and(function),
        None => host,
    }
}

/// The functions whose first parameter is a physical device, and no others.
///
/// # Safety
/// `instance` is one of ours; `name` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vk_icdGetPhysicalDeviceProcAddr(
    instance: vk::Instance,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: the caller's.
    let name = unsafe { CStr::from_ptr(name) };
    if !is_offered(name) {
        return None;
    }
    let instance = INSTANCES.get(instance)?;
    let host = instance.host.physical_device_proc(instance.handle, name);
    match find(name) {
        Some((Level::PhysicalDevice, function)) => {
            host.or_else(|| instance.host.instance_proc(instance.handle, name)).and(function)
        }
        _ => host,
    }
}

/// `vkGetDeviceProcAddr`: ours, or the host's own function, so that what is not intercepted costs what it
/// costs natively. Nothing of an extension that is not advertised, whatever the host has.
///
/// # Safety
/// `device` is one of ours; `name` is a C string.
pub unsafe extern "system" fn get_device_proc_addr(
    device: vk::Device,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: the caller's.
    let name = unsafe { CStr::from_ptr(name) };
    if !is_offered(name) {
        return None;
    }
    let device = DEVICES.get(device)?;
    // SAFETY: the device is alive.
    let host = unsafe { device.physical.instance.fns.get_device_proc_addr(device.handle, name.as_ptr()) };
    match find(name) {
        Some((Level::Device, function)) => host.and(function),
        Some((Level::OwnDevice, function)) => function.filter(|_| device.map_memory2),
        Some(_) => None,
        None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_on_the_older_version() {
        for (theirs, agreed) in [(2, 2), (7, 7), (9, 7)] {
            let mut version = theirs;
            // SAFETY: a valid pointer.
            let result = unsafe { vk_icdNegotiateLoaderICDInterfaceVersion(&raw mut version) };
            assert_eq!((result, version), (vk::Result::SUCCESS, agreed));
        }
    }

    #[test]
    fn without_an_instance_only_global_commands_are_found() {
        // SAFETY: C strings.
        let found =
            |name: &CStr| unsafe { vk_icdGetInstanceProcAddr(vk::Instance::null(), name.as_ptr()) }.is_some();
        assert!(found(c"vkCreateInstance"));
        assert!(found(c"vkEnumerateInstanceVersion"));
        assert!(found(c"vk_icdNegotiateLoaderICDInterfaceVersion"));
        assert!(!found(c"vkDestroyInstance"));
        assert!(!found(c"vkQueueSubmit"));
        assert!(!found(c"vkNoSuchThing"));
    }
}
