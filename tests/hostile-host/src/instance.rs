//! Instances and physical devices: what they say of themselves.

use std::ffi::{CStr, c_char};
use std::sync::Arc;

use ash::{ext, khr, vk};

use crate::chain::{fill, find_mut};
use crate::delay;
use crate::fail;
use crate::handles::{INSTANCES, PHYSICAL_DEVICES};
use crate::host::{host, load};
use crate::modes::modes;
use crate::types::{ATOM, MemoryTypes};

/// The newest version that is offered: 1.4 has further ways to map.
const VERSION: u32 = vk::API_VERSION_1_3;

/// Extensions that map or share memory, share what signals, or name queues, past this driver.
const HIDDEN: &[&CStr] = &[
    khr::map_memory2::NAME,
    khr::external_memory_fd::NAME,
    khr::external_semaphore_fd::NAME,
    khr::external_fence_fd::NAME,
    ext::external_memory_dma_buf::NAME,
    ext::external_memory_host::NAME,
    ext::host_image_copy::NAME,
    c"VK_EXT_map_memory_placed",
    ext::debug_utils::NAME,
];

/// State of a `VkInstance`.
pub struct Instance {
    /// Functions of the driver below.
    pub fns: ash::Instance,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("handle", &self.fns.handle()).finish()
    }
}

impl Instance {
    /// A function of the driver below that has one of several names.
    ///
    /// # Safety
    /// As [`load`].
    unsafe fn later<F: Copy>(&self, names: &[&CStr]) -> F {
        // SAFETY: the caller's.
        let found = unsafe { load(|name| host().instance_proc(self.fns.handle(), name), names) };
        found.unwrap_or_else(|| fail(format_args!("the driver below has no {:?}", names[0])))
    }

    /// Our table of memory types.
    pub fn types(&self, physical: vk::PhysicalDevice) -> MemoryTypes {
        // SAFETY: the physical device is alive.
        MemoryTypes::new(unsafe { self.fns.get_physical_device_memory_properties(physical) })
    }
}

/// `vkCreateInstance`
pub(crate) unsafe extern "system" fn create_instance(
    info: *const vk::InstanceCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::Instance,
) -> vk::Result {
    modes();
    let entry = host().entry();
    // SAFETY: valid usage.
    let result = unsafe { (entry.fp_v1_0().create_instance)(info, allocator, out) };
    if result != vk::Result::SUCCESS {
        return result;
    }
    // SAFETY: written by the host, and alive.
    let (handle, fns) = unsafe { (*out, ash::Instance::load(&host().static_fn(), *out)) };
    let instance = Arc::new(Instance { fns });
    // SAFETY: the instance is alive.
    for physical in unsafe { instance.fns.enumerate_physical_devices() }.unwrap_or_default() {
        PHYSICAL_DEVICES.insert(physical, Arc::clone(&instance));
    }
    INSTANCES.insert(handle, instance);
    result
}

/// `vkDestroyInstance`
pub(crate) unsafe extern "system" fn destroy_instance(
    handle: vk::Instance,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let Some(instance) = INSTANCES.remove(handle) else { return };
    PHYSICAL_DEVICES.retain(|of| of.fns.handle() != handle);
    // SAFETY: valid usage.
    unsafe { (instance.fns.fp_v1_0().destroy_instance)(handle, allocator) };
}

/// `vkEnumerateInstanceVersion`
pub(crate) unsafe extern "system" fn enumerate_instance_version(out: *mut u32) -> vk::Result {
    // SAFETY: no more than a call.
    let version = unsafe { host().entry().try_enumerate_instance_version() };
    // SAFETY: valid usage.
    unsafe { *out = version.ok().flatten().unwrap_or(vk::API_VERSION_1_0).min(VERSION) };
    vk::Result::SUCCESS
}

fn is_hidden(extension: &vk::ExtensionProperties) -> bool {
    extension.extension_name_as_c_str().is_ok_and(|name| HIDDEN.contains(&name))
}

/// `vkEnumerateInstanceExtensionProperties`
pub(crate) unsafe extern "system" fn enumerate_instance_extension_properties(
    layer: *const c_char,
    count: *mut u32,
    out: *mut vk::ExtensionProperties,
) -> vk::Result {
    if !layer.is_null() {
        return vk::Result::ERROR_LAYER_NOT_PRESENT;
    }
    // SAFETY: no more than a call.
    let list = unsafe { host().entry().enumerate_instance_extension_properties(None) };
    let mut list = list.unwrap_or_default();
    list.retain(|extension| !is_hidden(extension));
    // SAFETY: valid usage.
    unsafe { fill(&list, count, out) }
}

/// `vkEnumerateDeviceExtensionProperties`
pub(crate) unsafe extern "system" fn enumerate_device_extension_properties(
    physical: vk::PhysicalDevice,
    _: *const c_char,
    count: *mut u32,
    out: *mut vk::ExtensionProperties,
) -> vk::Result {
    let instance = PHYSICAL_DEVICES.get(physical);
    // SAFETY: the physical device is alive.
    let list = unsafe { instance.fns.enumerate_device_extension_properties(physical) };
    let mut list = list.unwrap_or_default();
    list.retain(|extension| !is_hidden(extension));
    // SAFETY: valid usage.
    unsafe { fill(&list, count, out) }
}

fn change(properties: &mut vk::PhysicalDeviceProperties) {
    properties.api_version = properties.api_version.min(VERSION | 0xFFF);
    if modes().vram {
        properties.device_type = vk::PhysicalDeviceType::DISCRETE_GPU;
    }
    if modes().noncoherent {
        properties.limits.non_coherent_atom_size = ATOM;
    }
    let old = properties.device_name_as_c_str().unwrap_or_default().to_string_lossy();
    let name: Vec<_> =
        "Hostile ".bytes().chain(old.bytes()).take(vk::MAX_PHYSICAL_DEVICE_NAME_SIZE - 1).collect();
    properties.device_name = [0; vk::MAX_PHYSICAL_DEVICE_NAME_SIZE];
    for (out, byte) in properties.device_name.iter_mut().zip(name) {
        *out = byte.cast_signed();
    }
}

/// `vkGetPhysicalDeviceProperties`
pub(crate) unsafe extern "system" fn properties(
    physical: vk::PhysicalDevice,
    out: *mut vk::PhysicalDeviceProperties,
) {
    let instance = PHYSICAL_DEVICES.get(physical);
    // SAFETY: valid usage.
    unsafe {
        (instance.fns.fp_v1_0().get_physical_device_properties)(physical, out);
        change(&mut *out);
    }
}

/// `vkGetPhysicalDeviceProperties2`
pub(crate) unsafe extern "system" fn properties2(
    physical: vk::PhysicalDevice,
    out: *mut vk::PhysicalDeviceProperties2<'_>,
) {
    let instance = PHYSICAL_DEVICES.get(physical);
    // SAFETY: the names stand for this type; valid usage.
    unsafe {
        let below: vk::PFN_vkGetPhysicalDeviceProperties2 =
            instance.later(&[c"vkGetPhysicalDeviceProperties2", c"vkGetPhysicalDeviceProperties2KHR"]);
        below(physical, out);
        change(&mut (*out).properties);
    }
}

/// `vkGetPhysicalDeviceMemoryProperties`
pub(crate) unsafe extern "system" fn memory_properties(
    physical: vk::PhysicalDevice,
    out: *mut vk::PhysicalDeviceMemoryProperties,
) {
    // SAFETY: valid usage.
    unsafe { *out = PHYSICAL_DEVICES.get(physical).types(physical).properties() };
}

/// `vkGetPhysicalDeviceMemoryProperties2`
pub(crate) unsafe extern "system" fn memory_properties2(
    physical: vk::PhysicalDevice,
    out: *mut vk::PhysicalDeviceMemoryProperties2<'_>,
) {
    let instance = PHYSICAL_DEVICES.get(physical);
    let types = instance.types(physical);
    // SAFETY: the names stand for this type; valid usage.
    unsafe {
        let below: vk::PFN_vkGetPhysicalDeviceMemoryProperties2 = instance
            .later(&[c"vkGetPhysicalDeviceMemoryProperties2", c"vkGetPhysicalDeviceMemoryProperties2KHR"]);
        below(physical, out);
        (*out).memory_properties = types.properties();
        if let Some(budget) = find_mut((*out).p_next) {
            types.budget(budget);
        }
    }
}

/// `vkGetPhysicalDeviceQueueFamilyProperties`
pub(crate) unsafe extern "system" fn queue_families(
    physical: vk::PhysicalDevice,
    count: *mut u32,
    out: *mut vk::QueueFamilyProperties,
) {
    let instance = PHYSICAL_DEVICES.get(physical);
    // SAFETY: valid usage.
    unsafe {
        (instance.fns.fp_v1_0().get_physical_device_queue_family_properties)(physical, count, out);
        if !out.is_null() && modes().delay && *count > 0 {
            (*out).queue_count = delay::QUEUES;
        }
    }
}

/// `vkGetPhysicalDeviceQueueFamilyProperties2`
pub(crate) unsafe extern "system" fn queue_families2(
    physical: vk::PhysicalDevice,
    count: *mut u32,
    out: *mut vk::QueueFamilyProperties2<'_>,
) {
    let instance = PHYSICAL_DEVICES.get(physical);
    // SAFETY: the names stand for this type; valid usage.
    unsafe {
        let below: vk::PFN_vkGetPhysicalDeviceQueueFamilyProperties2 = instance.later(&[
            c"vkGetPhysicalDeviceQueueFamilyProperties2",
            c"vkGetPhysicalDeviceQueueFamilyProperties2KHR",
        ]);
        below(physical, count, out);
        if !out.is_null() && modes().delay && *count > 0 {
            (*out).queue_family_properties.queue_count = delay::QUEUES;
        }
    }
}
