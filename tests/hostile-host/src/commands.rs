//! The loader's interface, and the table of what is changed.

use std::collections::HashMap;
use std::ffi::{CStr, c_char};
use std::sync::LazyLock;

use ash::vk;

use crate::handles::{DEVICES, INSTANCES};
use crate::host::{INTERFACE, host};
use crate::{device, instance, memory, queue, sync, usage};

/// What a command is called on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Global,
    Instance,
    PhysicalDevice,
    Device,
}

type Row = (&'static CStr, Level, vk::PFN_vkVoidFunction);

/// The table; each function's type is checked against its command's.
macro_rules! table {
    ($($level:ident $function:path: $pfn:ident = $($name:literal)+;)*) => {
        const ROWS: &[Row] = &[
            $($((
                $name,
                Level::$level,
                // SAFETY: function pointers have one representation; whoever asks for the name casts it back.
                Some(unsafe {
                    std::mem::transmute::<vk::$pfn, unsafe extern "system" fn()>($function as vk::$pfn)
                }),
            ),)+)*
        ];
    };
}

table! {
    Global instance::create_instance: PFN_vkCreateInstance = c"vkCreateInstance";
    Global instance::enumerate_instance_version: PFN_vkEnumerateInstanceVersion = c"vkEnumerateInstanceVersion";
    Global instance::enumerate_instance_extension_properties: PFN_vkEnumerateInstanceExtensionProperties =
        c"vkEnumerateInstanceExtensionProperties";
    Global vk_icdGetInstanceProcAddr: PFN_vkGetInstanceProcAddr = c"vkGetInstanceProcAddr";
    Instance instance::destroy_instance: PFN_vkDestroyInstance = c"vkDestroyInstance";
    PhysicalDevice instance::enumerate_device_extension_properties: PFN_vkEnumerateDeviceExtensionProperties =
        c"vkEnumerateDeviceExtensionProperties";
    PhysicalDevice instance::properties: PFN_vkGetPhysicalDeviceProperties = c"vkGetPhysicalDeviceProperties";
    PhysicalDevice instance::properties2: PFN_vkGetPhysicalDeviceProperties2 =
        c"vkGetPhysicalDeviceProperties2" c"vkGetPhysicalDeviceProperties2KHR";
    PhysicalDevice instance::memory_properties: PFN_vkGetPhysicalDeviceMemoryProperties =
        c"vkGetPhysicalDeviceMemoryProperties";
    PhysicalDevice instance::memory_properties2: PFN_vkGetPhysicalDeviceMemoryProperties2 =
        c"vkGetPhysicalDeviceMemoryProperties2" c"vkGetPhysicalDeviceMemoryProperties2KHR";
    PhysicalDevice instance::queue_families: PFN_vkGetPhysicalDeviceQueueFamilyProperties =
        c"vkGetPhysicalDeviceQueueFamilyProperties";
    PhysicalDevice instance::queue_families2: PFN_vkGetPhysicalDeviceQueueFamilyProperties2 =
        c"vkGetPhysicalDeviceQueueFamilyProperties2" c"vkGetPhysicalDeviceQueueFamilyProperties2KHR";
    PhysicalDevice device::create_device: PFN_vkCreateDevice = c"vkCreateDevice";

    Device get_device_proc_addr: PFN_vkGetDeviceProcAddr = c"vkGetDeviceProcAddr";
    Device device::destroy_device: PFN_vkDestroyDevice = c"vkDestroyDevice";
    Device device::get_device_queue: PFN_vkGetDeviceQueue = c"vkGetDeviceQueue";
    Device device::get_device_queue2: PFN_vkGetDeviceQueue2 = c"vkGetDeviceQueue2";

    Device memory::allocate_memory: PFN_vkAllocateMemory = c"vkAllocateMemory";
    Device memory::free_memory: PFN_vkFreeMemory = c"vkFreeMemory";
    Device memory::map_memory: PFN_vkMapMemory = c"vkMapMemory";
    Device memory::unmap_memory: PFN_vkUnmapMemory = c"vkUnmapMemory";
    Device memory::flush_mapped_memory_ranges: PFN_vkFlushMappedMemoryRanges = c"vkFlushMappedMemoryRanges";
    Device memory::invalidate_mapped_memory_ranges: PFN_vkInvalidateMappedMemoryRanges =
        c"vkInvalidateMappedMemoryRanges";
    Device memory::buffer_requirements: PFN_vkGetBufferMemoryRequirements = c"vkGetBufferMemoryRequirements";
    Device memory::image_requirements: PFN_vkGetImageMemoryRequirements = c"vkGetImageMemoryRequirements";
    Device memory::buffer_requirements2: PFN_vkGetBufferMemoryRequirements2 =
        c"vkGetBufferMemoryRequirements2" c"vkGetBufferMemoryRequirements2KHR";
    Device memory::image_requirements2: PFN_vkGetImageMemoryRequirements2 =
        c"vkGetImageMemoryRequirements2" c"vkGetImageMemoryRequirements2KHR";
    Device memory::device_buffer_requirements: PFN_vkGetDeviceBufferMemoryRequirements =
        c"vkGetDeviceBufferMemoryRequirements" c"vkGetDeviceBufferMemoryRequirementsKHR";
    Device memory::device_image_requirements: PFN_vkGetDeviceImageMemoryRequirements =
        c"vkGetDeviceImageMemoryRequirements" c"vkGetDeviceImageMemoryRequirementsKHR";

    Device queue::queue_submit: PFN_vkQueueSubmit = c"vkQueueSubmit";
    Device queue::queue_submit2: PFN_vkQueueSubmit2 = c"vkQueueSubmit2" c"vkQueueSubmit2KHR";
    Device queue::queue_bind_sparse: PFN_vkQueueBindSparse = c"vkQueueBindSparse";
    Device queue::queue_present: PFN_vkQueuePresentKHR = c"vkQueuePresentKHR";
    Device queue::queue_wait_idle: PFN_vkQueueWaitIdle = c"vkQueueWaitIdle";
    Device queue::device_wait_idle: PFN_vkDeviceWaitIdle = c"vkDeviceWaitIdle";

    Device usage::allocate_command_buffers: PFN_vkAllocateCommandBuffers = c"vkAllocateCommandBuffers";
    Device usage::begin_command_buffer: PFN_vkBeginCommandBuffer = c"vkBeginCommandBuffer";
    Device usage::cmd_copy_buffer: PFN_vkCmdCopyBuffer = c"vkCmdCopyBuffer";
    Device usage::cmd_fill_buffer: PFN_vkCmdFillBuffer = c"vkCmdFillBuffer";
    Device usage::destroy_buffer: PFN_vkDestroyBuffer = c"vkDestroyBuffer";

    Device sync::wait_for_fences: PFN_vkWaitForFences = c"vkWaitForFences";
    Device sync::get_fence_status: PFN_vkGetFenceStatus = c"vkGetFenceStatus";
    Device sync::wait_semaphores: PFN_vkWaitSemaphores = c"vkWaitSemaphores" c"vkWaitSemaphoresKHR";
    Device sync::get_semaphore_counter_value: PFN_vkGetSemaphoreCounterValue =
        c"vkGetSemaphoreCounterValue" c"vkGetSemaphoreCounterValueKHR";
    Device sync::signal_semaphore: PFN_vkSignalSemaphore = c"vkSignalSemaphore" c"vkSignalSemaphoreKHR";
    Device sync::get_event_status: PFN_vkGetEventStatus = c"vkGetEventStatus";
    Device sync::set_event: PFN_vkSetEvent = c"vkSetEvent";
    Device sync::get_query_pool_results: PFN_vkGetQueryPoolResults = c"vkGetQueryPoolResults";
    Device sync::create_semaphore: PFN_vkCreateSemaphore = c"vkCreateSemaphore";
    Device sync::destroy_semaphore: PFN_vkDestroySemaphore = c"vkDestroySemaphore";
    Device sync::acquire_next_image: PFN_vkAcquireNextImageKHR = c"vkAcquireNextImageKHR";
    Device sync::acquire_next_image2: PFN_vkAcquireNextImage2KHR = c"vkAcquireNextImage2KHR";
}

fn find(name: &CStr) -> Option<(Level, vk::PFN_vkVoidFunction)> {
    static TABLE: LazyLock<HashMap<&CStr, (Level, vk::PFN_vkVoidFunction)>> =
        LazyLock::new(|| ROWS.iter().map(|(name, level, function)| (*name, (*level, *function))).collect());
    TABLE.get(name).copied()
}

/// Agrees on a version of the loader's interface.
///
/// # Safety
/// `version` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vk_icdNegotiateLoaderICDInterfaceVersion(version: *mut u32) -> vk::Result {
    // SAFETY: the caller's.
    unsafe { *version = (*version).min(INTERFACE) };
    vk::Result::SUCCESS
}

/// `vkGetInstanceProcAddr`: what is changed, or the driver's own.
///
/// # Safety
/// `instance` is null or alive; `name` is a C string.
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
    INSTANCES.find(instance)?;
    let below = host().instance_proc(instance, name)?;
    ours.map_or(Some(below), |(_, function)| function)
}

/// The functions on physical devices, and no others.
///
/// # Safety
/// `instance` is alive; `name` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vk_icdGetPhysicalDeviceProcAddr(
    instance: vk::Instance,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: the caller's.
    let name = unsafe { CStr::from_ptr(name) };
    let below = host().physical_device_proc(instance, name)?;
    match find(name) {
        Some((Level::PhysicalDevice, function)) => function,
        _ => Some(below),
    }
}

/// `vkGetDeviceProcAddr`: what is changed, or the driver's own.
unsafe extern "system" fn get_device_proc_addr(
    device: vk::Device,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    let device = DEVICES.find(device)?;
    // SAFETY: the device is alive; the name is the caller's.
    let below = unsafe { device.instance.fns.get_device_proc_addr(device.fns.handle(), name) }?;
    // SAFETY: the caller's.
    match find(unsafe { CStr::from_ptr(name) }) {
        Some((Level::Device, function)) => function,
        _ => Some(below),
    }
}
