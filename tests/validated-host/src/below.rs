//! The layer, the driver below it, and the chain between them.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null;
use std::sync::{LazyLock, OnceLock};

use ash::vk;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::fail;
use crate::object::{give_key, give_new_key};

const LAYER: &str = "libVkLayer_khronos_validation.so";

/// Version of the interface with drivers.
pub const DRIVER_INTERFACE: u32 = 5;
/// Version of the interface with layers.
const LAYER_INTERFACE: u32 = 2;

type Get = vk::PFN_vkGetInstanceProcAddr;

/// `VkNegotiateLayerInterface`
#[repr(C)]
struct NegotiateLayerInterface {
    kind: u32,
    next: *const c_void,
    version: u32,
    get_instance_proc_addr: Option<Get>,
    get_device_proc_addr: Option<vk::PFN_vkGetDeviceProcAddr>,
    get_physical_device_proc_addr: Option<Get>,
}

/// `VkLayerInstanceLink`, `VkLayerDeviceLink`: who comes next.
#[repr(C)]
struct Link<F> {
    next: *const c_void,
    get_instance_proc_addr: Get,
    other: F,
}

/// `VkLayerInstanceCreateInfo`, `VkLayerDeviceCreateInfo` with `VK_LAYER_LINK_INFO`.
#[repr(C)]
struct LinkInfo<F> {
    s_type: vk::StructureType,
    next: *const c_void,
    function: u32,
    link: *mut Link<F>,
}

impl<F> LinkInfo<F> {
    fn new(s_type: vk::StructureType, next: *const c_void, link: &mut Link<F>) -> Self {
        Self { s_type, next, function: 0, link }
    }
}

/// Layer and driver, loaded for good.
#[derive(Debug)]
pub struct Below {
    /// The layer's functions.
    pub layer: Get,
    /// The layer's functions of devices.
    pub layer_device: vk::PFN_vkGetDeviceProcAddr,
    driver: Get,
    driver_physical_device: Option<Get>,
}

/// Layer and driver; the first call loads them.
pub fn below() -> &'static Below {
    static BELOW: LazyLock<Below> = LazyLock::new(Below::load);
    &BELOW
}

fn open(path: impl libloading::AsFilename) -> &'static Library {
    // SAFETY: the initialisers of drivers and layers are as harmless as the loader relies on.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    // Never unloaded: others hold pointers to its functions.
    Box::leak(Box::new(library.unwrap_or_else(|error| fail(error))))
}

/// A symbol of a library as a function.
///
/// # Safety
/// It has the type `F`.
unsafe fn symbol<F: Copy>(library: &Library, name: &CStr) -> Option<F> {
    // SAFETY: the caller's.
    unsafe { library.get::<F>(name.to_bytes_with_nul()) }.ok().map(|found| *found)
}

impl Below {
    fn load() -> Self {
        let driver = std::env::var_os("VALIDATED_HOST_DRIVER");
        let driver = open(driver.unwrap_or_else(|| fail("VALIDATED_HOST_DRIVER names no driver")));
        type Negotiate<T> = unsafe extern "system" fn(*mut T) -> vk::Result;
        let mut version = DRIVER_INTERFACE;
        // SAFETY: the interface gives the symbol this type, and the argument is valid.
        let agreed = unsafe {
            symbol::<Negotiate<u32>>(driver, c"vk_icdNegotiateLoaderICDInterfaceVersion")
                .map(|negotiate| negotiate(&raw mut version))
        };
        if agreed != Some(vk::Result::SUCCESS) || version != DRIVER_INTERFACE {
            fail("VALIDATED_HOST_DRIVER does not speak the loader's interface");
        }
        let layer = open(LAYER);
        let mut interface = NegotiateLayerInterface {
            kind: 1,
            next: null(),
            version: LAYER_INTERFACE,
            get_instance_proc_addr: None,
            get_device_proc_addr: None,
            get_physical_device_proc_addr: None,
        };
        // SAFETY: as above.
        let agreed = unsafe {
            symbol::<Negotiate<NegotiateLayerInterface>>(layer, c"vkNegotiateLoaderLayerInterfaceVersion")
                .map(|negotiate| negotiate(&raw mut interface))
        };
        let (Some(vk::Result::SUCCESS), Some(layer), Some(layer_device)) =
            (agreed, interface.get_instance_proc_addr, interface.get_device_proc_addr)
        else {
            fail("the layer does not speak the loader's interface")
        };
        // SAFETY: the interface gives the symbols this type.
        let (get, driver_physical_device) = unsafe {
            (symbol(driver, c"vk_icdGetInstanceProcAddr"), symbol(driver, c"vk_icdGetPhysicalDeviceProcAddr"))
        };
        Self {
            layer,
            layer_device,
            driver: get.unwrap_or_else(|| fail("VALIDATED_HOST_DRIVER is no driver")),
            driver_physical_device,
        }
    }

    /// A function of the driver.
    pub fn driver_proc(&self, instance: vk::Instance, name: &CStr) -> vk::PFN_vkVoidFunction {
        // SAFETY: the instance is null or alive.
        unsafe { (self.driver)(instance, name.as_ptr()) }
    }

    /// A function of the driver on physical devices.
    pub fn driver_physical_device_proc(&self, instance: vk::Instance, name: &CStr) -> vk::PFN_vkVoidFunction {
        // SAFETY: the instance is alive.
        self.driver_physical_device.and_then(|get| unsafe { get(instance, name.as_ptr()) })
    }
}

/// The function a name stands for, from one that says what functions there are.
///
/// # Safety
/// `F` is the function's type.
pub unsafe fn typed<F: Copy>(found: vk::PFN_vkVoidFunction) -> F {
    const { assert!(size_of::<F>() == size_of::<unsafe extern "system" fn()>()) };
    let found = found.unwrap_or_else(|| fail("the driver lacks a command of version 1.0"));
    // SAFETY: the caller's; all function pointers have one representation.
    unsafe { std::mem::transmute_copy(&found) }
}

/// Calls the layer's `vkCreateInstance` with the driver linked below it.
///
/// # Safety
/// Valid usage.
pub unsafe fn create_instance(
    info: &vk::InstanceCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::Instance,
) -> vk::Result {
    let mut link: Link<Get> =
        Link { next: null(), get_instance_proc_addr: next_instance_proc, other: next_physical_device_proc };
    let s_type = vk::StructureType::LOADER_INSTANCE_CREATE_INFO;
    let link = LinkInfo::new(s_type, info.p_next, &mut link);
    let info = vk::InstanceCreateInfo { p_next: (&raw const link).cast(), ..*info };
    // SAFETY: the interface says that the layer has it, and its type.
    let create = unsafe {
        typed::<vk::PFN_vkCreateInstance>((below().layer)(vk::Instance::null(), c"vkCreateInstance".as_ptr()))
    };
    // SAFETY: the caller's, and the link outlives the call.
    unsafe { create(&raw const info, allocator, out) }
}

/// Calls the layer's `vkCreateDevice` with the driver linked below it.
///
/// # Safety
/// Valid usage; `create` is the layer's.
pub unsafe fn create_device(
    create: vk::PFN_vkCreateDevice,
    physical: vk::PhysicalDevice,
    info: &vk::DeviceCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::Device,
) -> vk::Result {
    let mut link =
        Link { next: null(), get_instance_proc_addr: next_instance_proc as Get, other: driver_device() };
    let s_type = vk::StructureType::LOADER_DEVICE_CREATE_INFO;
    let link = LinkInfo::new(s_type, info.p_next, &mut link);
    let info = vk::DeviceCreateInfo { p_next: (&raw const link).cast(), ..*info };
    // SAFETY: the caller's, and the link outlives the call.
    unsafe { create(physical, &raw const info, allocator, out) }
}

/// What comes after the layer: the driver, with what the loader does in its place.
unsafe extern "system" fn next_instance_proc(
    instance: vk::Instance,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: the layer passes a C string.
    let name = unsafe { CStr::from_ptr(name) };
    let function = below().driver_proc(instance, name)?;
    let ours = match name.to_bytes() {
        b"vkCreateInstance" => next_create_instance as *const c_void,
        b"vkEnumeratePhysicalDevices" => next_enumerate_physical_devices as *const c_void,
        b"vkEnumeratePhysicalDeviceGroups" | b"vkEnumeratePhysicalDeviceGroupsKHR" => {
            next_enumerate_groups as *const c_void
        }
        b"vkCreateDevice" => next_create_device as *const c_void,
        _ => return Some(function),
    };
    // SAFETY: functions of the types that the names stand for.
    Some(unsafe { std::mem::transmute::<*const c_void, unsafe extern "system" fn()>(ours) })
}

unsafe extern "system" fn next_physical_device_proc(
    instance: vk::Instance,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: the layer passes a C string.
    let name = unsafe { CStr::from_ptr(name) };
    let function = below().driver_physical_device_proc(instance, name)?;
    if name == c"vkCreateDevice" {
        // SAFETY: the instance and the name are the layer's.
        return unsafe { next_instance_proc(instance, name.as_ptr()) };
    }
    Some(function)
}

/// The driver's functions of its first instance. All have the same.
static DRIVER: OnceLock<ash::InstanceFnV1_0> = OnceLock::new();

fn driver() -> &'static ash::InstanceFnV1_0 {
    DRIVER.get().unwrap_or_else(|| fail("no instance was made"))
}

/// The driver's `vkGetDeviceProcAddr`, once there was an instance.
pub fn driver_device() -> vk::PFN_vkGetDeviceProcAddr {
    driver().get_device_proc_addr
}

unsafe extern "system" fn next_create_instance(
    info: *const vk::InstanceCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::Instance,
) -> vk::Result {
    let below = below();
    // SAFETY: every driver has it; the rest is the layer's.
    let (result, instance) = unsafe {
        let create = below.driver_proc(vk::Instance::null(), c"vkCreateInstance");
        let result = typed::<vk::PFN_vkCreateInstance>(create)(info, allocator, out);
        (result, *out)
    };
    if result == vk::Result::SUCCESS {
        // SAFETY: just made.
        unsafe { give_new_key(instance) };
        let get = |name: &CStr| {
            let found = below.driver_proc(instance, name);
            found.map_or(null(), |function| function as *const c_void)
        };
        DRIVER.get_or_init(|| ash::InstanceFnV1_0::load(get));
    }
    result
}

unsafe extern "system" fn next_enumerate_physical_devices(
    instance: vk::Instance,
    count: *mut u32,
    out: *mut vk::PhysicalDevice,
) -> vk::Result {
    // SAFETY: the layer's.
    let result = unsafe { (driver().enumerate_physical_devices)(instance, count, out) };
    if !out.is_null() && result.as_raw() >= 0 {
        // SAFETY: the driver has written so many.
        (0..unsafe { *count } as usize).for_each(|at| unsafe { give_key(instance, *out.add(at)) });
    }
    result
}

unsafe extern "system" fn next_enumerate_groups(
    instance: vk::Instance,
    count: *mut u32,
    out: *mut vk::PhysicalDeviceGroupProperties<'_>,
) -> vk::Result {
    let name = c"vkEnumeratePhysicalDeviceGroups";
    // SAFETY: the layer's; the driver has one of both names, or this were not called.
    let result = unsafe {
        let found = below().driver_proc(instance, name);
        let found = found.or_else(|| below().driver_proc(instance, c"vkEnumeratePhysicalDeviceGroupsKHR"));
        typed::<vk::PFN_vkEnumeratePhysicalDeviceGroups>(found)(instance, count, out)
    };
    if !out.is_null() && result.as_raw() >= 0 {
        // SAFETY: the driver has written so many.
        let groups = unsafe { std::slice::from_raw_parts(out, *count as usize) };
        for physical in groups.iter().flat_map(|group| group.physical_devices_as_slice()) {
            // SAFETY: alive as long as the instance.
            unsafe { give_key(instance, *physical) };
        }
    }
    result
}

unsafe extern "system" fn next_create_device(
    physical: vk::PhysicalDevice,
    info: *const vk::DeviceCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::Device,
) -> vk::Result {
    // SAFETY: the layer's.
    let result = unsafe { (driver().create_device)(physical, info, allocator, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: just made.
        unsafe { give_new_key(*out) };
    }
    result
}
