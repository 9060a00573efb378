//! What is handed out for the name of a command.

use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

use ash::vk::{self, Handle};

use crate::below::{self, DRIVER_INTERFACE, below, driver_device, typed};
use crate::object::{give_key, unwrap, unwrap_all, wrap};
use crate::stub::stub;

/// Agrees on a version of the loader's interface.
///
/// # Safety
/// `version` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vk_icdNegotiateLoaderICDInterfaceVersion(version: *mut u32) -> vk::Result {
    // SAFETY: the caller's.
    unsafe { *version = (*version).min(DRIVER_INTERFACE) };
    vk::Result::SUCCESS
}

/// `vkGetInstanceProcAddr`: of an instance the layer's functions, and what this driver puts before them.
///
/// # Safety
/// `instance` is null or alive; `name` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vk_icdGetInstanceProcAddr(
    instance: vk::Instance,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: the caller's.
    let text = unsafe { CStr::from_ptr(name) };
    let ours = of_instances(text);
    if ours.is_some() {
        return ours;
    }
    if instance.is_null() {
        return below().driver_proc(instance, text);
    }
    // What the driver lacks is lacking, whatever the layer knows.
    below().driver_proc(instance, text)?;
    // SAFETY: the caller's.
    let layer = unsafe { (below().layer)(instance, name) };
    let on_physical_device = below().driver_physical_device_proc(instance, text).is_some();
    if on_physical_device || is_on_instance(text) { layer } else { on_device(text, layer) }
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
    let text = unsafe { CStr::from_ptr(name) };
    below().driver_physical_device_proc(instance, text)?;
    // SAFETY: the caller's.
    unsafe { vk_icdGetInstanceProcAddr(instance, name) }
}

/// Commands on an instance or what it makes, and on physical devices: those not listed here the driver names,
/// if it can.
fn is_on_instance(name: &CStr) -> bool {
    let name = name.to_bytes();
    let begins: [&[u8]; 5] = [
        b"vkEnumerate",
        b"vkGetPhysicalDevice",
        b"vkDestroySurface",
        b"vkDebugReportMessage",
        b"vkSubmitDebug",
    ];
    let creates = name.starts_with(b"vkCreate") && name.ends_with(b"SurfaceKHR");
    let callbacks = [b"Messenger".as_slice(), b"ReportCallback"];
    name == b"vkDestroyInstance"
        || creates
        || begins.into_iter().any(|begin| name.starts_with(begin))
        || callbacks.iter().any(|part| name.windows(part.len()).any(|window| window == *part))
}

/// Declares the commands that are written out: where the layer's function is kept once it is known, ours, and
/// its type.
macro_rules! written_out {
    ($($slot:ident $function:ident: $pfn:ident = $name:literal;)*) => {
        $(static $slot: OnceLock<vk::$pfn> = OnceLock::new();)*

        /// A command on a device, a queue or a command buffer: written out below, or a stub before the
        /// layer's function.
        fn on_device(name: &CStr, layer: vk::PFN_vkVoidFunction) -> vk::PFN_vkVoidFunction {
            let function = layer?;
            match name.to_bytes() {
                b"vkGetDeviceProcAddr" => of_instances(name),
                $(
                    $name => {
                        // SAFETY: the name stands for the type.
                        $slot.get_or_init(|| unsafe { typed(layer) });
                        // SAFETY: callers turn it into the type of the command they asked for.
                        Some(unsafe { erase($function as vk::$pfn) })
                    }
                )*
                _ => stub(function),
            }
        }
    };
}

written_out! {
    GET_DEVICE_QUEUE get_device_queue: PFN_vkGetDeviceQueue = b"vkGetDeviceQueue";
    GET_DEVICE_QUEUE2 get_device_queue2: PFN_vkGetDeviceQueue2 = b"vkGetDeviceQueue2";
    ALLOCATE allocate_command_buffers: PFN_vkAllocateCommandBuffers = b"vkAllocateCommandBuffers";
    FREE free_command_buffers: PFN_vkFreeCommandBuffers = b"vkFreeCommandBuffers";
    QUEUE_SUBMIT queue_submit: PFN_vkQueueSubmit = b"vkQueueSubmit";
    QUEUE_SUBMIT2 queue_submit2: PFN_vkQueueSubmit2 = b"vkQueueSubmit2";
    QUEUE_SUBMIT2_KHR queue_submit2_khr: PFN_vkQueueSubmit2 = b"vkQueueSubmit2KHR";
    EXECUTE cmd_execute_commands: PFN_vkCmdExecuteCommands = b"vkCmdExecuteCommands";
    SET_NAME set_object_name: PFN_vkSetDebugUtilsObjectNameEXT = b"vkSetDebugUtilsObjectNameEXT";
    SET_TAG set_object_tag: PFN_vkSetDebugUtilsObjectTagEXT = b"vkSetDebugUtilsObjectTagEXT";
}

/// # Safety
/// `F` is a type of functions.
unsafe fn erase<F: Copy>(function: F) -> unsafe extern "system" fn() {
    const { assert!(size_of::<F>() == size_of::<unsafe extern "system" fn()>()) };
    // SAFETY: the caller's; all function pointers have one representation.
    unsafe { std::mem::transmute_copy(&function) }
}

/// The layer's function; that ours was called says that it is known.
fn layer<F: Copy>(slot: &OnceLock<F>) -> F {
    *slot.get().unwrap_or_else(|| crate::fail("a command that was not given out"))
}

fn of_instances(name: &CStr) -> vk::PFN_vkVoidFunction {
    // SAFETY: callers turn each into the type of the command they asked for.
    Some(unsafe {
        match name.to_bytes() {
            b"vkGetInstanceProcAddr" => erase(vk_icdGetInstanceProcAddr as vk::PFN_vkGetInstanceProcAddr),
            b"vkCreateInstance" => erase(create_instance as vk::PFN_vkCreateInstance),
            b"vkCreateDevice" => erase(create_device as vk::PFN_vkCreateDevice),
            b"vkGetDeviceProcAddr" => erase(get_device_proc_addr as vk::PFN_vkGetDeviceProcAddr),
            _ => return None,
        }
    })
}

static CREATE_DEVICE: OnceLock<vk::PFN_vkCreateDevice> = OnceLock::new();

unsafe extern "system" fn create_instance(
    info: *const vk::InstanceCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::Instance,
) -> vk::Result {
    // SAFETY: valid usage.
    let result = unsafe { below::create_instance(&*info, allocator, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: just made; every layer that knows devices has it.
        CREATE_DEVICE.get_or_init(|| unsafe { typed((below().layer)(*out, c"vkCreateDevice".as_ptr())) });
    }
    result
}

unsafe extern "system" fn create_device(
    physical: vk::PhysicalDevice,
    info: *const vk::DeviceCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::Device,
) -> vk::Result {
    // SAFETY: valid usage.
    let result = unsafe { below::create_device(layer(&CREATE_DEVICE), physical, &*info, allocator, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: just written.
        unsafe { *out = wrap(*out) };
    }
    result
}

unsafe extern "system" fn get_device_proc_addr(
    device: vk::Device,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: valid usage.
    unsafe {
        let device = unwrap(device);
        // What the driver lacks is lacking, whatever the layer knows.
        driver_device()(device, name)?;
        on_device(CStr::from_ptr(name), (below().layer_device)(device, name))
    }
}

unsafe extern "system" fn get_device_queue(device: vk::Device, family: u32, index: u32, out: *mut vk::Queue) {
    // SAFETY: valid usage.
    unsafe {
        let device = unwrap(device);
        layer(&GET_DEVICE_QUEUE)(device, family, index, out);
        hand_out(device, out);
    }
}

unsafe extern "system" fn get_device_queue2(
    device: vk::Device,
    info: *const vk::DeviceQueueInfo2<'_>,
    out: *mut vk::Queue,
) {
    // SAFETY: valid usage.
    unsafe {
        let device = unwrap(device);
        layer(&GET_DEVICE_QUEUE2)(device, info, out);
        hand_out(device, out);
    }
}

/// Has the layer know a handle of a device by the device, and puts ours in its place.
///
/// # Safety
/// Both are alive, and the layer's own.
unsafe fn hand_out<H: Handle + Copy>(device: vk::Device, out: *mut H) {
    // SAFETY: the caller's.
    unsafe {
        if (*out).as_raw() != 0 {
            give_key(device, *out);
            *out = wrap(*out);
        }
    }
}

unsafe extern "system" fn allocate_command_buffers(
    device: vk::Device,
    info: *const vk::CommandBufferAllocateInfo<'_>,
    out: *mut vk::CommandBuffer,
) -> vk::Result {
    // SAFETY: valid usage.
    unsafe {
        let device = unwrap(device);
        let result = layer(&ALLOCATE)(device, info, out);
        if result == vk::Result::SUCCESS {
            (0..(*info).command_buffer_count as usize).for_each(|at| hand_out(device, out.add(at)));
        }
        result
    }
}

unsafe extern "system" fn free_command_buffers(
    device: vk::Device,
    pool: vk::CommandPool,
    count: u32,
    commands: *const vk::CommandBuffer,
) {
    // SAFETY: valid usage.
    unsafe { layer(&FREE)(unwrap(device), pool, count, unwrap_all(commands, count).as_ptr()) };
}

unsafe extern "system" fn queue_submit(
    queue: vk::Queue,
    count: u32,
    infos: *const vk::SubmitInfo<'_>,
    fence: vk::Fence,
) -> vk::Result {
    // SAFETY: valid usage.
    unsafe {
        let infos: Vec<_> = (0..count as usize).map(|at| *infos.add(at)).collect();
        let commands: Vec<_> =
            infos.iter().map(|info| unwrap_all(info.p_command_buffers, info.command_buffer_count)).collect();
        let infos: Vec<_> = infos
            .iter()
            .zip(&commands)
            .map(|(info, commands)| vk::SubmitInfo { p_command_buffers: commands.as_ptr(), ..*info })
            .collect();
        layer(&QUEUE_SUBMIT)(unwrap(queue), count, infos.as_ptr(), fence)
    }
}

unsafe extern "system" fn queue_submit2(
    queue: vk::Queue,
    count: u32,
    infos: *const vk::SubmitInfo2<'_>,
    fence: vk::Fence,
) -> vk::Result {
    // SAFETY: valid usage.
    unsafe { submit2(layer(&QUEUE_SUBMIT2), queue, count, infos, fence) }
}

unsafe extern "system" fn queue_submit2_khr(
    queue: vk::Queue,
    count: u32,
    infos: *const vk::SubmitInfo2<'_>,
    fence: vk::Fence,
) -> vk::Result {
    // SAFETY: valid usage.
    unsafe { submit2(layer(&QUEUE_SUBMIT2_KHR), queue, count, infos, fence) }
}

unsafe fn submit2(
    layer: vk::PFN_vkQueueSubmit2,
    queue: vk::Queue,
    count: u32,
    infos: *const vk::SubmitInfo2<'_>,
    fence: vk::Fence,
) -> vk::Result {
    // SAFETY: valid usage.
    unsafe {
        let infos: Vec<_> = (0..count as usize).map(|at| *infos.add(at)).collect();
        let commands: Vec<Vec<_>> = infos
            .iter()
            .map(|info| {
                let info_of = |at| *info.p_command_buffer_infos.add(at);
                (0..info.command_buffer_info_count as usize)
                    .map(info_of)
                    .map(|info| vk::CommandBufferSubmitInfo {
                        command_buffer: unwrap(info.command_buffer),
                        ..info
                    })
                    .collect()
            })
            .collect();
        let infos: Vec<_> = infos
            .iter()
            .zip(&commands)
            .map(|(info, commands)| vk::SubmitInfo2 { p_command_buffer_infos: commands.as_ptr(), ..*info })
            .collect();
        layer(unwrap(queue), count, infos.as_ptr(), fence)
    }
}

unsafe extern "system" fn cmd_execute_commands(
    primary: vk::CommandBuffer,
    count: u32,
    secondaries: *const vk::CommandBuffer,
) {
    // SAFETY: valid usage.
    unsafe { layer(&EXECUTE)(unwrap(primary), count, unwrap_all(secondaries, count).as_ptr()) };
}

/// The layer's handle of an object of any type.
///
/// # Safety
/// The handle is alive and of this type.
unsafe fn unwrap_any(kind: vk::ObjectType, handle: u64) -> u64 {
    match kind {
        vk::ObjectType::DEVICE | vk::ObjectType::QUEUE | vk::ObjectType::COMMAND_BUFFER => {
            // SAFETY: the caller's.
            unsafe { unwrap(vk::Device::from_raw(handle)) }.as_raw()
        }
        _ => handle,
    }
}

unsafe extern "system" fn set_object_name(
    device: vk::Device,
    info: *const vk::DebugUtilsObjectNameInfoEXT<'_>,
) -> vk::Result {
    // SAFETY: valid usage.
    unsafe {
        let object_handle = unwrap_any((*info).object_type, (*info).object_handle);
        layer(&SET_NAME)(unwrap(device), &vk::DebugUtilsObjectNameInfoEXT { object_handle, ..*info })
    }
}

unsafe extern "system" fn set_object_tag(
    device: vk::Device,
    info: *const vk::DebugUtilsObjectTagInfoEXT<'_>,
) -> vk::Result {
    // SAFETY: valid usage.
    unsafe {
        let object_handle = unwrap_any((*info).object_type, (*info).object_handle);
        layer(&SET_TAG)(unwrap(device), &vk::DebugUtilsObjectTagInfoEXT { object_handle, ..*info })
    }
}
