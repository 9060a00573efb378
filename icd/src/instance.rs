//! Instances and physical devices.

#![allow(unsafe_code, reason = "asks the host driver")]

use std::ffi::CStr;
use std::fmt;
use std::sync::Arc;

use ash::vk;

use crate::config::Config;
use crate::entry::PHYSICAL_DEVICES;
use crate::host::library::HostDriver;
use crate::memory_types::MemoryTypes;

/// The newest version of Vulkan whose commands were reviewed.
pub const API_VERSION: u32 = vk::make_api_version(0, 1, 3, 281);

/// State of a `VkInstance`.
pub struct InstanceState {
    /// The handle, the host's own.
    pub handle: vk::Instance,
    /// The host driver.
    pub host: &'static HostDriver,
    /// The host's functions.
    pub fns: ash::Instance,
    /// Functions of version 1.1 or `VK_KHR_get_physical_device_properties2`.
    pub(crate) fns2: InstanceFns2,
    /// The version the application asked for.
    pub api_version: u32,
    /// Options.
    pub config: Config,
}

impl fmt::Debug for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceState").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// Functions that have two names.
pub(crate) struct InstanceFns2 {
    /// `vkGetPhysicalDeviceProperties2`
    pub properties2: Option<vk::PFN_vkGetPhysicalDeviceProperties2>,
    /// `vkGetPhysicalDeviceFeatures2`
    pub features2: Option<vk::PFN_vkGetPhysicalDeviceFeatures2>,
    /// `vkGetPhysicalDeviceMemoryProperties2`
    pub memory_properties2: Option<vk::PFN_vkGetPhysicalDeviceMemoryProperties2>,
}

/// The first function that exists under one of `names`.
///
/// # Safety
/// `F` is the type of function that all `names` stand for.
pub unsafe fn load<F: Copy>(get: impl Fn(&CStr) -> vk::PFN_vkVoidFunction, names: &[&CStr]) -> Option<F> {
    assert_eq!(size_of::<F>(), size_of::<fn()>(), "a function pointer type");
    let function = names.iter().find_map(|name| get(name))?;
    // SAFETY: the caller's, and both are function pointers.
    Some(unsafe { std::mem::transmute_copy(&function) })
}

impl InstanceState {
    /// State for an instance the host created.
    pub fn new(
        handle: vk::Instance,
        host: &'static HostDriver,
        api_version: u32,
        config: Config,
    ) -> Arc<Self> {
        let get = |name: &CStr| host.instance_proc(handle, name);
        // SAFETY: each name stands for the type of its member.
        let fns2 = unsafe {
            InstanceFns2 {
                properties2: load(
                    get,
                    &[c"vkGetPhysicalDeviceProperties2", c"vkGetPhysicalDeviceProperties2KHR"],
                ),
                features2: load(get, &[c"vkGetPhysicalDeviceFeatures2", c"vkGetPhysicalDeviceFeatures2KHR"]),
                memory_properties2: load(
                    get,
                    &[c"vkGetPhysicalDeviceMemoryProperties2", c"vkGetPhysicalDeviceMemoryProperties2KHR"],
                ),
            }
        };
        // SAFETY: the instance is the host's, and alive.
        let fns = unsafe { ash::Instance::load(host.entry().static_fn(), handle) };
        Arc::new(Self { handle, host, fns, fns2, api_version, config })
    }

    /// The devices the host has.
    pub fn host_devices(&self) -> Result<Vec<vk::PhysicalDevice>, vk::Result> {
        // SAFETY: the instance is alive.
        unsafe { self.fns.enumerate_physical_devices() }
    }
}

/// State of a `VkPhysicalDevice`.
#[derive(Debug)]
pub struct PhysicalDevice {
    /// The handle, the host's own.
    pub handle: vk::PhysicalDevice,
    /// Its instance.
    pub instance: Arc<InstanceState>,
    /// Its memory types.
    pub types: MemoryTypes,
}

impl PhysicalDevice {
    /// Enters a device of an instance, once.
    pub fn register(instance: &Arc<InstanceState>, handle: vk::PhysicalDevice) {
        if PHYSICAL_DEVICES.get(handle).is_some_and(|known| known.instance.handle == instance.handle) {
            return;
        }
        // SAFETY: a device of this instance.
        let host = unsafe { instance.fns.get_physical_device_memory_properties(handle) };
        let types = {
            let config = &instance.config;
            MemoryTypes::new(&host, config.profile, config.transport, config.native_type)
        };
        PHYSICAL_DEVICES.insert(handle, Arc::new(Self { handle, instance: Arc::clone(instance), types }));
    }

    /// The host's memory types.
    pub fn host_memory_properties(&self) -> vk::PhysicalDeviceMemoryProperties {
        // SAFETY: the device is alive as long as its instance is.
        unsafe { self.instance.fns.get_physical_device_memory_properties(self.handle) }
    }

    /// The host driver, if it says so.
    pub fn driver_id(&self) -> vk::DriverId {
        let mut driver = vk::PhysicalDeviceDriverProperties::default();
        let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
        if let Some(properties2) = self.instance.fns2.properties2 {
            // SAFETY: the device is alive as long as its instance is, and the chain is valid.
            unsafe { properties2(self.handle, &raw mut properties) };
        }
        driver.driver_id
    }

    /// The version of Vulkan both it and the application know.
    pub fn effective_version(&self) -> u32 {
        // SAFETY: the device is alive as long as its instance is.
        let properties = unsafe { self.instance.fns.get_physical_device_properties(self.handle) };
        properties.api_version.min(self.instance.api_version.max(vk::API_VERSION_1_0))
    }

    /// Makes the host's properties ours.
    pub fn translate_properties(&self, properties: &mut vk::PhysicalDeviceProperties) {
        let host_name = properties.device_name_as_c_str().unwrap_or(c"?").to_string_lossy().into_owned();
        write_text(&mut properties.device_name, &format!("Lockstep ({host_name})"));
        properties.api_version = properties.api_version.min(API_VERSION);
    }

    /// What `driverInfo` says: version, host driver, profile, tracker.
    pub fn driver_info(&self, host_name: &str, host_info: &str) -> String {
        let profile = self.instance.config.profile.name();
        let tracker = self.instance.config.tracker.expected().name();
        format!("{} over {host_name} {host_info}; {profile}, {tracker}", env!("CARGO_PKG_VERSION"))
    }
}

/// Writes a text into a fixed array, cut where it does not fit, with a terminating zero.
pub fn write_text(out: &mut [std::ffi::c_char], text: &str) {
    out.fill(0);
    let room = out.len() - 1;
    let mut end = text.len().min(room);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    for (out, byte) in out.iter_mut().zip(text[..end].bytes()) {
        *out = byte.cast_signed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_and_terminated() {
        let mut out = [1; 8];
        write_text(&mut out, "Lockstép (x)");
        assert_eq!(out.map(|c| c.cast_unsigned()), *b"Lockst\0\0");
    }
}
