//! The table of intercepted commands: name, level, function.

#![allow(unsafe_code, reason = "function pointers of many types in one table")]

mod generated;
mod record;
mod shaders;

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::LazyLock;

use ash::vk;

use super::{debug, device, instance, loader, memory, physical_device, queue, resource, sync};

/// What a command is called on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Nothing: it needs no instance.
    Global,
    /// An instance.
    Instance,
    /// A physical device.
    PhysicalDevice,
    /// A device or what belongs to it.
    Device,
    /// A device, of an extension that Lockstep gives on every host.
    OwnDevice,
}

/// A row: name, level, function.
type Command = (&'static CStr, Level, vk::PFN_vkVoidFunction);

/// The intercepted command of this name.
pub(super) fn find(name: &CStr) -> Option<(Level, vk::PFN_vkVoidFunction)> {
    static TABLE: LazyLock<HashMap<&CStr, (Level, vk::PFN_vkVoidFunction)>> = LazyLock::new(|| {
        let rows = COMMANDS.iter().chain(record::COMMANDS).chain(shaders::COMMANDS);
        rows.map(|(name, level, function)| (*name, (*level, *function))).collect()
    });
    TABLE.get(name).copied()
}

/// Whether a command is one that is handed out: of a version, or of an extension that is advertised. The host
/// may have others, which nobody reviewed.
pub(super) fn is_offered(name: &CStr) -> bool {
    generated::OFFERED.binary_search(&name).is_ok()
}

/// A row of the table; the type of function is checked against the command's.
macro_rules! command {
    ($name:literal, $level:ident, $function:path, $pfn:ident) => {
        (
            $name,
            Level::$level,
            // SAFETY: function pointers have one representation; whoever asks for the name casts it back.
            Some(unsafe {
                std::mem::transmute::<vk::$pfn, unsafe extern "system" fn()>($function as vk::$pfn)
            }),
        )
    };
}
use command;

/// `vkNegotiateLoaderICDInterfaceVersion`, as the loader declares it.
type Negotiate = unsafe extern "system" fn(*mut u32) -> vk::Result;

const COMMANDS: &[Command] = &[
    (
        c"vk_icdNegotiateLoaderICDInterfaceVersion",
        Level::Global,
        // SAFETY: as in `command!`.
        Some(unsafe {
            std::mem::transmute::<Negotiate, unsafe extern "system" fn()>(
                loader::vk_icdNegotiateLoaderICDInterfaceVersion as Negotiate,
            )
        }),
    ),
    command!(c"vkCreateInstance", Global, instance::create_instance, PFN_vkCreateInstance),
    command!(
        c"vkEnumerateInstanceExtensionProperties",
        Global,
        instance::enumerate_instance_extension_properties,
        PFN_vkEnumerateInstanceExtensionProperties
    ),
    command!(
        c"vkEnumerateInstanceLayerProperties",
        Global,
        instance::enumerate_instance_layer_properties,
        PFN_vkEnumerateInstanceLayerProperties
    ),
    command!(
        c"vkEnumerateInstanceVersion",
        Global,
        instance::enumerate_instance_version,
        PFN_vkEnumerateInstanceVersion
    ),
    command!(c"vkGetInstanceProcAddr", Global, loader::vk_icdGetInstanceProcAddr, PFN_vkGetInstanceProcAddr),
    command!(
        c"vk_icdGetInstanceProcAddr",
        Global,
        loader::vk_icdGetInstanceProcAddr,
        PFN_vkGetInstanceProcAddr
    ),
    command!(
        c"vk_icdGetPhysicalDeviceProcAddr",
        Global,
        loader::vk_icdGetPhysicalDeviceProcAddr,
        PFN_vkGetInstanceProcAddr
    ),
    command!(c"vkDestroyInstance", Instance, instance::destroy_instance, PFN_vkDestroyInstance),
    command!(
        c"vkEnumeratePhysicalDevices",
        Instance,
        instance::enumerate_physical_devices,
        PFN_vkEnumeratePhysicalDevices
    ),
    command!(
        c"vkEnumeratePhysicalDeviceGroups",
        Instance,
        instance::enumerate_physical_device_groups,
        PFN_vkEnumeratePhysicalDeviceGroups
    ),
    command!(
        c"vkEnumeratePhysicalDeviceGroupsKHR",
        Instance,
        instance::enumerate_physical_device_groups,
        PFN_vkEnumeratePhysicalDeviceGroups
    ),
    command!(
        c"vkGetPhysicalDeviceProperties",
        PhysicalDevice,
        physical_device::get_physical_device_properties,
        PFN_vkGetPhysicalDeviceProperties
    ),
    command!(
        c"vkGetPhysicalDeviceProperties2",
        PhysicalDevice,
        physical_device::get_physical_device_properties2,
        PFN_vkGetPhysicalDeviceProperties2
    ),
    command!(
        c"vkGetPhysicalDeviceProperties2KHR",
        PhysicalDevice,
        physical_device::get_physical_device_properties2,
        PFN_vkGetPhysicalDeviceProperties2
    ),
    command!(
        c"vkGetPhysicalDeviceExternalSemaphoreProperties",
        PhysicalDevice,
        physical_device::get_physical_device_external_semaphore_properties,
        PFN_vkGetPhysicalDeviceExternalSemaphoreProperties
    ),
    command!(
        c"vkGetPhysicalDeviceExternalSemaphorePropertiesKHR",
        PhysicalDevice,
        physical_device::get_physical_device_external_semaphore_properties,
        PFN_vkGetPhysicalDeviceExternalSemaphoreProperties
    ),
    command!(
        c"vkGetPhysicalDeviceExternalFenceProperties",
        PhysicalDevice,
        physical_device::get_physical_device_external_fence_properties,
        PFN_vkGetPhysicalDeviceExternalFenceProperties
    ),
    command!(
        c"vkGetPhysicalDeviceExternalFencePropertiesKHR",
        PhysicalDevice,
        physical_device::get_physical_device_external_fence_properties,
        PFN_vkGetPhysicalDeviceExternalFenceProperties
    ),
    command!(
        c"vkGetPhysicalDeviceFeatures2",
        PhysicalDevice,
        physical_device::get_physical_device_features2,
        PFN_vkGetPhysicalDeviceFeatures2
    ),
    command!(
        c"vkGetPhysicalDeviceFeatures2KHR",
        PhysicalDevice,
        physical_device::get_physical_device_features2,
        PFN_vkGetPhysicalDeviceFeatures2
    ),
    command!(
        c"vkGetPhysicalDeviceMemoryProperties",
        PhysicalDevice,
        physical_device::get_physical_device_memory_properties,
        PFN_vkGetPhysicalDeviceMemoryProperties
    ),
    command!(
        c"vkGetPhysicalDeviceMemoryProperties2",
        PhysicalDevice,
        physical_device::get_physical_device_memory_properties2,
        PFN_vkGetPhysicalDeviceMemoryProperties2
    ),
    command!(
        c"vkGetPhysicalDeviceMemoryProperties2KHR",
        PhysicalDevice,
        physical_device::get_physical_device_memory_properties2,
        PFN_vkGetPhysicalDeviceMemoryProperties2
    ),
    command!(
        c"vkEnumerateDeviceExtensionProperties",
        PhysicalDevice,
        physical_device::enumerate_device_extension_properties,
        PFN_vkEnumerateDeviceExtensionProperties
    ),
    command!(c"vkCreateDevice", PhysicalDevice, device::create_device, PFN_vkCreateDevice),
    command!(c"vkGetDeviceProcAddr", Device, loader::get_device_proc_addr, PFN_vkGetDeviceProcAddr),
    command!(c"vkDestroyDevice", Device, device::destroy_device, PFN_vkDestroyDevice),
    command!(c"vkGetDeviceQueue", Device, device::get_device_queue, PFN_vkGetDeviceQueue),
    command!(c"vkGetDeviceQueue2", Device, device::get_device_queue2, PFN_vkGetDeviceQueue2),
    command!(c"vkAllocateMemory", Device, memory::allocate_memory, PFN_vkAllocateMemory),
    command!(c"vkFreeMemory", Device, memory::free_memory, PFN_vkFreeMemory),
    command!(c"vkMapMemory", Device, memory::map_memory, PFN_vkMapMemory),
    command!(c"vkUnmapMemory", Device, memory::unmap_memory, PFN_vkUnmapMemory),
    command!(c"vkMapMemory2KHR", OwnDevice, memory::map_memory2, PFN_vkMapMemory2KHR),
    command!(c"vkUnmapMemory2KHR", OwnDevice, memory::unmap_memory2, PFN_vkUnmapMemory2KHR),
    command!(
        c"vkFlushMappedMemoryRanges",
        Device,
        memory::flush_mapped_memory_ranges,
        PFN_vkFlushMappedMemoryRanges
    ),
    command!(
        c"vkInvalidateMappedMemoryRanges",
        Device,
        memory::invalidate_mapped_memory_ranges,
        PFN_vkInvalidateMappedMemoryRanges
    ),
    command!(
        c"vkGetMemoryFdPropertiesKHR",
        Device,
        memory::get_memory_fd_properties,
        PFN_vkGetMemoryFdPropertiesKHR
    ),
    command!(
        c"vkGetMemoryHostPointerPropertiesEXT",
        Device,
        memory::get_memory_host_pointer_properties,
        PFN_vkGetMemoryHostPointerPropertiesEXT
    ),
    command!(
        c"vkSetDebugUtilsObjectNameEXT",
        Device,
        debug::set_debug_utils_object_name,
        PFN_vkSetDebugUtilsObjectNameEXT
    ),
    command!(
        c"vkDebugMarkerSetObjectNameEXT",
        Device,
        debug::debug_marker_set_object_name,
        PFN_vkDebugMarkerSetObjectNameEXT
    ),
    command!(c"vkCreateBuffer", Device, resource::create_buffer, PFN_vkCreateBuffer),
    command!(c"vkDestroyBuffer", Device, resource::destroy_buffer, PFN_vkDestroyBuffer),
    command!(c"vkBindBufferMemory", Device, resource::bind_buffer_memory, PFN_vkBindBufferMemory),
    command!(c"vkBindBufferMemory2", Device, resource::bind_buffer_memory2, PFN_vkBindBufferMemory2),
    command!(c"vkBindBufferMemory2KHR", Device, resource::bind_buffer_memory2, PFN_vkBindBufferMemory2),
    command!(
        c"vkGetBufferMemoryRequirements",
        Device,
        resource::get_buffer_memory_requirements,
        PFN_vkGetBufferMemoryRequirements
    ),
    command!(
        c"vkGetBufferMemoryRequirements2",
        Device,
        resource::get_buffer_memory_requirements2,
        PFN_vkGetBufferMemoryRequirements2
    ),
    command!(
        c"vkGetBufferMemoryRequirements2KHR",
        Device,
        resource::get_buffer_memory_requirements2,
        PFN_vkGetBufferMemoryRequirements2
    ),
    command!(
        c"vkGetDeviceBufferMemoryRequirements",
        Device,
        resource::get_device_buffer_memory_requirements,
        PFN_vkGetDeviceBufferMemoryRequirements
    ),
    command!(
        c"vkGetDeviceBufferMemoryRequirementsKHR",
        Device,
        resource::get_device_buffer_memory_requirements,
        PFN_vkGetDeviceBufferMemoryRequirements
    ),
    command!(
        c"vkGetBufferDeviceAddress",
        Device,
        resource::get_buffer_device_address,
        PFN_vkGetBufferDeviceAddress
    ),
    command!(
        c"vkGetBufferDeviceAddressKHR",
        Device,
        resource::get_buffer_device_address,
        PFN_vkGetBufferDeviceAddress
    ),
    command!(
        c"vkGetBufferDeviceAddressEXT",
        Device,
        resource::get_buffer_device_address,
        PFN_vkGetBufferDeviceAddress
    ),
    command!(c"vkCreateImage", Device, resource::create_image, PFN_vkCreateImage),
    command!(c"vkDestroyImage", Device, resource::destroy_image, PFN_vkDestroyImage),
    command!(c"vkBindImageMemory", Device, resource::bind_image_memory, PFN_vkBindImageMemory),
    command!(c"vkBindImageMemory2", Device, resource::bind_image_memory2, PFN_vkBindImageMemory2),
    command!(c"vkBindImageMemory2KHR", Device, resource::bind_image_memory2, PFN_vkBindImageMemory2),
    command!(
        c"vkGetImageMemoryRequirements",
        Device,
        resource::get_image_memory_requirements,
        PFN_vkGetImageMemoryRequirements
    ),
    command!(
        c"vkGetImageMemoryRequirements2",
        Device,
        resource::get_image_memory_requirements2,
        PFN_vkGetImageMemoryRequirements2
    ),
    command!(
        c"vkGetImageMemoryRequirements2KHR",
        Device,
        resource::get_image_memory_requirements2,
        PFN_vkGetImageMemoryRequirements2
    ),
    command!(
        c"vkGetDeviceImageMemoryRequirements",
        Device,
        resource::get_device_image_memory_requirements,
        PFN_vkGetDeviceImageMemoryRequirements
    ),
    command!(
        c"vkGetDeviceImageMemoryRequirementsKHR",
        Device,
        resource::get_device_image_memory_requirements,
        PFN_vkGetDeviceImageMemoryRequirements
    ),
    command!(c"vkQueueSubmit", Device, queue::queue_submit, PFN_vkQueueSubmit),
    command!(c"vkQueueSubmit2", Device, queue::queue_submit2, PFN_vkQueueSubmit2),
    command!(c"vkQueueSubmit2KHR", Device, queue::queue_submit2, PFN_vkQueueSubmit2),
    command!(c"vkQueueBindSparse", Device, queue::queue_bind_sparse, PFN_vkQueueBindSparse),
    command!(c"vkQueuePresentKHR", Device, queue::queue_present, PFN_vkQueuePresentKHR),
    command!(c"vkCreateSemaphore", Device, sync::create_semaphore, PFN_vkCreateSemaphore),
    command!(c"vkDestroySemaphore", Device, sync::destroy_semaphore, PFN_vkDestroySemaphore),
    command!(c"vkQueueWaitIdle", Device, sync::queue_wait_idle, PFN_vkQueueWaitIdle),
    command!(c"vkDeviceWaitIdle", Device, sync::device_wait_idle, PFN_vkDeviceWaitIdle),
    command!(c"vkWaitForFences", Device, sync::wait_for_fences, PFN_vkWaitForFences),
    command!(c"vkGetFenceStatus", Device, sync::get_fence_status, PFN_vkGetFenceStatus),
    command!(c"vkWaitSemaphores", Device, sync::wait_semaphores, PFN_vkWaitSemaphores),
    command!(c"vkWaitSemaphoresKHR", Device, sync::wait_semaphores, PFN_vkWaitSemaphores),
    command!(
        c"vkGetSemaphoreCounterValue",
        Device,
        sync::get_semaphore_counter_value,
        PFN_vkGetSemaphoreCounterValue
    ),
    command!(
        c"vkGetSemaphoreCounterValueKHR",
        Device,
        sync::get_semaphore_counter_value,
        PFN_vkGetSemaphoreCounterValue
    ),
    command!(c"vkSignalSemaphore", Device, sync::signal_semaphore, PFN_vkSignalSemaphore),
    command!(c"vkSignalSemaphoreKHR", Device, sync::signal_semaphore, PFN_vkSignalSemaphore),
    command!(c"vkGetEventStatus", Device, sync::get_event_status, PFN_vkGetEventStatus),
    command!(c"vkSetEvent", Device, sync::set_event, PFN_vkSetEvent),
    command!(c"vkGetQueryPoolResults", Device, sync::get_query_pool_results, PFN_vkGetQueryPoolResults),
    command!(c"vkAcquireNextImageKHR", Device, sync::acquire_next_image, PFN_vkAcquireNextImageKHR),
    command!(c"vkAcquireNextImage2KHR", Device, sync::acquire_next_image2, PFN_vkAcquireNextImage2KHR),
    command!(c"vkWaitForPresentKHR", Device, sync::wait_for_present, PFN_vkWaitForPresentKHR),
];
