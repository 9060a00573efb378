//! Devices.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ash::vk;

use crate::chain::slice;
use crate::delay::Delay;
use crate::handles::{COMMANDS, DEVICES, PHYSICAL_DEVICES, QUEUES};
use crate::host::load;
use crate::instance::Instance;
use crate::memory::Memory;
use crate::modes::modes;
use crate::queue::Queue;
use crate::types::MemoryTypes;

/// State of a `VkDevice`.
pub struct Device {
    /// Its instance.
    pub instance: Arc<Instance>,
    /// Functions of the driver below.
    pub fns: ash::Device,
    /// Our table of memory types.
    pub types: MemoryTypes,
    memories: Mutex<HashMap<vk::DeviceMemory, Memory>>,
    /// Work that is held back.
    pub delay: Option<Delay>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("handle", &self.fns.handle()).finish_non_exhaustive()
    }
}

impl Device {
    /// Memory objects. What moves bytes does so under this lock: who submits or is told of completion while
    /// another thread moves them waits for it.
    pub fn memories(&self) -> MutexGuard<'_, HashMap<vk::DeviceMemory, Memory>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A function of the driver below that has one of several names.
    ///
    /// # Safety
    /// As [`load`].
    pub unsafe fn later<F: Copy>(&self, names: &[&CStr]) -> F {
        // SAFETY: the device is alive, and the names are C strings; the rest is the caller's.
        let found = unsafe {
            load(|name| self.instance.fns.get_device_proc_addr(self.fns.handle(), name.as_ptr()), names)
        };
        found.unwrap_or_else(|| crate::fail(format_args!("the driver below has no {:?}", names[0])))
    }

    /// Lets the device see what the CPU wrote to coherent memory.
    pub fn push(&self) {
        if modes().split {
            self.memories().values_mut().for_each(Memory::push);
        }
    }

    /// Lets the CPU see what the device wrote to coherent memory.
    pub fn pull(&self) {
        if modes().split {
            self.memories().values_mut().for_each(Memory::pull);
        }
    }
}

/// `vkCreateDevice`
pub(crate) unsafe extern "system" fn create_device(
    physical: vk::PhysicalDevice,
    info: *const vk::DeviceCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::Device,
) -> vk::Result {
    let instance = PHYSICAL_DEVICES.get(physical);
    // SAFETY: valid usage.
    let info = unsafe { &*info };
    // SAFETY: valid usage.
    let mut families = unsafe { slice(info.p_queue_create_infos, info.queue_create_info_count) }.to_vec();
    if modes().delay {
        families.iter_mut().for_each(|family| family.queue_count = 1);
    }
    let below = vk::DeviceCreateInfo { p_queue_create_infos: families.as_ptr(), ..*info };
    // SAFETY: the caller's arguments with fewer queues.
    let result =
        unsafe { (instance.fns.fp_v1_0().create_device)(physical, &raw const below, allocator, out) };
    if result != vk::Result::SUCCESS {
        return result;
    }
    // SAFETY: written by the host, and alive.
    let (handle, fns) = unsafe { (*out, ash::Device::load(instance.fns.fp_v1_0(), *out)) };
    let types = instance.types(physical);
    let delay = modes().delay.then(|| Delay::start(&fns));
    let device = Device { instance, fns, types, memories: Mutex::default(), delay };
    DEVICES.insert(handle, Arc::new(device));
    result
}

/// `vkDestroyDevice`
pub(crate) unsafe extern "system" fn destroy_device(
    handle: vk::Device,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let Some(device) = DEVICES.remove(handle) else { return };
    QUEUES.retain(|queue| queue.device.fns.handle() != handle);
    COMMANDS.retain(|commands| commands.device.fns.handle() != handle);
    if let Some(delay) = &device.delay {
        delay.stop();
    }
    // SAFETY: valid usage.
    unsafe { (device.fns.fp_v1_0().destroy_device)(handle, allocator) };
}

fn queue(device: vk::Device, family: u32, index: u32, flags: vk::DeviceQueueCreateFlags) -> vk::Queue {
    let device = DEVICES.get(device);
    let below = if device.delay.is_some() { 0 } else { index };
    let handle = if flags.is_empty() {
        // SAFETY: valid usage.
        unsafe { device.fns.get_device_queue(family, below) }
    } else {
        let info = vk::DeviceQueueInfo2::default().queue_family_index(family).queue_index(below).flags(flags);
        // SAFETY: valid usage.
        unsafe { device.fns.get_device_queue2(&info) }
    };
    let given = device.delay.as_ref().map_or(handle, |delay| delay.handle(index));
    if QUEUES.find(given).is_none() {
        QUEUES.insert(given, Arc::new(Queue { device, below: handle, index: index as usize }));
    }
    given
}

/// `vkGetDeviceQueue`
pub(crate) unsafe extern "system" fn get_device_queue(
    device: vk::Device,
    family: u32,
    index: u32,
    out: *mut vk::Queue,
) {
    // SAFETY: valid usage.
    unsafe { *out = queue(device, family, index, vk::DeviceQueueCreateFlags::empty()) };
}

/// `vkGetDeviceQueue2`
pub(crate) unsafe extern "system" fn get_device_queue2(
    device: vk::Device,
    info: *const vk::DeviceQueueInfo2<'_>,
    out: *mut vk::Queue,
) {
    // SAFETY: valid usage.
    unsafe {
        let info = &*info;
        *out = queue(device, info.queue_family_index, info.queue_index, info.flags);
    }
}
