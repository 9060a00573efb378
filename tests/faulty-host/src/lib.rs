//! `libfaulty_host.so`: a host driver that runs out of memory, or is lost, when a test says so.
//!
//! It passes all commands on to the driver whose library `FAULTY_HOST_DRIVER` names. Those in the table below
//! it can fail, which is all that it adds. A test loads it by the path it gave Lockstep, and calls
//! [`faulty_host_fail`] and [`faulty_host_calls`].
//!
//! # Safety
//! Arguments pass through untouched: what is valid for this driver is valid for the one below.

#![expect(clippy::multiple_unsafe_ops_per_block, reason = "what passes on stands on one argument")]

use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use ash::vk;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

type Proc = vk::PFN_vkVoidFunction;

/// What to fail: of the calls counted from zero, those from `first` to `last`.
struct Plan {
    /// One command, or all in the table.
    command: Option<String>,
    first: u64,
    last: u64,
    result: vk::Result,
    calls: u64,
}

static PLANS: Mutex<Vec<Plan>> = Mutex::new(Vec::new());

/// Has calls of `command` (null: of all commands in the table together) fail with `result`: those after
/// `skip` others, `times` of them. With `times` zero they are only counted. Plans add up; a null `command`
/// takes all others back.
///
/// # Safety
/// `command` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faulty_host_fail(command: *const c_char, skip: u64, times: u64, result: vk::Result) {
    // SAFETY: the caller's.
    let name =
        (!command.is_null()).then(|| unsafe { CStr::from_ptr(command) }.to_string_lossy().into_owned());
    let mut plans = PLANS.lock().unwrap_or_else(PoisonError::into_inner);
    if name.is_none() {
        plans.clear();
    }
    plans.push(Plan { command: name, first: skip, last: skip.saturating_add(times), result, calls: 0 });
}

/// How many calls the plan made first has counted.
#[unsafe(no_mangle)]
pub extern "C" fn faulty_host_calls() -> u64 {
    PLANS.lock().unwrap_or_else(PoisonError::into_inner).first().map_or(0, |plan| plan.calls)
}

/// What a call of `command` is to return at once, if anything.
fn failure(command: &str) -> Option<vk::Result> {
    let mut plans = PLANS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found = None;
    for plan in plans.iter_mut().filter(|plan| plan.command.as_deref().is_none_or(|name| name == command)) {
        let call = plan.calls;
        plan.calls += 1;
        found = found.or((plan.first..plan.last).contains(&call).then_some(plan.result));
    }
    found
}

/// Declares the commands that can fail: name, parameters, and the module that its wrapper and the driver's
/// function live in.
macro_rules! commands {
    ($($name:literal $module:ident($($parameter:ident: $type:ty),*);)*) => {
        $(
            mod $module {
                use super::*;

                type Function = unsafe extern "system" fn($($type),*) -> vk::Result;
                pub(super) static BELOW: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

                pub(super) unsafe extern "system" fn call($($parameter: $type),*) -> vk::Result {
                    if let Some(result) = failure($name) {
                        return result;
                    }
                    let below = BELOW.load(Ordering::Acquire);
                    // SAFETY: stored when this wrapper was given out, under the command's name.
                    let below = unsafe { std::mem::transmute::<*mut c_void, Function>(below) };
                    // SAFETY: the caller's.
                    unsafe { below($($parameter),*) }
                }
            }
        )*

        /// The wrapper of a command of the driver below, or that command itself.
        fn wrap(name: &CStr, below: Proc) -> Proc {
            let function = below?;
            match name.to_str() {
                $(
                    Ok($name) => {
                        $module::BELOW.store(function as *mut c_void, Ordering::Release);
                        let call = $module::call as *const c_void;
                        // SAFETY: a function pointer, which callers turn into the type of the command.
                        Some(unsafe { std::mem::transmute::<*const c_void, unsafe extern "system" fn()>(call) })
                    }
                )*
                _ => below,
            }
        }
    };
}

type Handle = u64;
type Any = *const c_void;

commands! {
    "vkCreateInstance" create_instance(info: Any, allocator: Any, out: Any);
    "vkEnumeratePhysicalDevices" enumerate_devices(instance: Handle, count: Any, out: Any);
    "vkEnumerateDeviceExtensionProperties" extensions(physical: Handle, layer: Any, count: Any, out: Any);
    "vkCreateDevice" create_device(physical: Handle, info: Any, allocator: Any, out: Any);
    "vkAllocateMemory" allocate_memory(device: Handle, info: Any, allocator: Any, out: Any);
    "vkMapMemory" map_memory(device: Handle, memory: Handle, offset: u64, size: u64, flags: u32, out: Any);
    "vkCreateSemaphore" create_semaphore(device: Handle, info: Any, allocator: Any, out: Any);
    "vkCreateBuffer" create_buffer(device: Handle, info: Any, allocator: Any, out: Any);
    "vkBindBufferMemory" bind_buffer(device: Handle, buffer: Handle, memory: Handle, offset: u64);
    "vkCreateCommandPool" create_command_pool(device: Handle, info: Any, allocator: Any, out: Any);
    "vkAllocateCommandBuffers" allocate_command_buffers(device: Handle, info: Any, out: Any);
    "vkBeginCommandBuffer" begin(commands: Handle, info: Any);
    "vkEndCommandBuffer" end(commands: Handle);
    "vkCreateFence" create_fence(device: Handle, info: Any, allocator: Any, out: Any);
    "vkQueueSubmit" queue_submit(queue: Handle, count: u32, submits: Any, fence: Handle);
    "vkQueueSubmit2" queue_submit2(queue: Handle, count: u32, submits: Any, fence: Handle);
    "vkQueueWaitIdle" queue_wait_idle(queue: Handle);
    "vkDeviceWaitIdle" device_wait_idle(device: Handle);
    "vkWaitForFences" wait_for_fences(device: Handle, count: u32, fences: Any, all: u32, timeout: u64);
    "vkGetFenceStatus" get_fence_status(device: Handle, fence: Handle);
    "vkWaitSemaphores" wait_semaphores(device: Handle, info: Any, timeout: u64);
    "vkGetSemaphoreCounterValue" get_semaphore_counter_value(device: Handle, semaphore: Handle, out: Any);
    "vkSignalSemaphore" signal_semaphore(device: Handle, info: Any);
    "vkGetEventStatus" get_event_status(device: Handle, event: Handle);
}

/// The entry points of the driver below.
struct Below {
    library: Library,
    get_instance_proc_addr: vk::PFN_vkGetInstanceProcAddr,
}

static BELOW: OnceLock<Option<Below>> = OnceLock::new();
static DEVICE_PROC: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

fn load() -> Option<Below> {
    let path = std::env::var_os("FAULTY_HOST_DRIVER")?;
    // SAFETY: a driver, as the loader would load it.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.ok()?;
    // SAFETY: the loader interface gives the symbol this type.
    let get = unsafe { library.get(b"vk_icdGetInstanceProcAddr\0") }.map(|symbol| *symbol).ok()?;
    Some(Below { library, get_instance_proc_addr: get })
}

fn below() -> Option<&'static Below> {
    BELOW.get_or_init(load).as_ref()
}

/// The loader interface's negotiation.
///
/// # Safety
/// `version` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vk_icdNegotiateLoaderICDInterfaceVersion(version: *mut u32) -> vk::Result {
    type Negotiate = unsafe extern "system" fn(version: *mut u32) -> vk::Result;
    let Some(below) = below() else { return vk::Result::ERROR_INITIALIZATION_FAILED };
    // SAFETY: the loader interface gives the symbol this type.
    let negotiate = unsafe { below.library.get::<Negotiate>(b"vk_icdNegotiateLoaderICDInterfaceVersion\0") };
    // SAFETY: the caller's.
    negotiate.map_or(vk::Result::ERROR_INITIALIZATION_FAILED, |negotiate| unsafe { negotiate(version) })
}

/// The driver's functions, with what can fail wrapped.
///
/// # Safety
/// `instance` is null or of the driver below, and `name` a C string.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vk_icdGetInstanceProcAddr(instance: vk::Instance, name: *const c_char) -> Proc {
    // SAFETY: the caller's.
    let (function, text) =
        unsafe { ((below()?.get_instance_proc_addr)(instance, name), CStr::from_ptr(name)) };
    if text == c"vkGetDeviceProcAddr" {
        DEVICE_PROC.store(function? as *mut c_void, Ordering::Release);
        let ours: vk::PFN_vkGetDeviceProcAddr = get_device_proc_addr;
        // SAFETY: a function pointer, which callers turn into the type of the command.
        return Some(unsafe {
            std::mem::transmute::<vk::PFN_vkGetDeviceProcAddr, unsafe extern "system" fn()>(ours)
        });
    }
    wrap(text, function)
}

unsafe extern "system" fn get_device_proc_addr(device: vk::Device, name: *const c_char) -> Proc {
    let below = DEVICE_PROC.load(Ordering::Acquire);
    // SAFETY: stored when this function was given out.
    let below = unsafe { std::mem::transmute::<*mut c_void, vk::PFN_vkGetDeviceProcAddr>(below) };
    // SAFETY: the caller's.
    let (function, name) = unsafe { (below(device, name), CStr::from_ptr(name)) };
    wrap(name, function)
}
