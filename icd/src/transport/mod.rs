//! How bytes get to host memory.
//!
//! `mapped`: host memory is mapped through the host driver and written by the CPU. Only host types that are
//! coherent stand behind such memory, so that nothing else is needed for the device to see what was stored
//! before a submission, and the CPU what was written before completion.
//!
//! `dma`: the device copies ([`dma`]). Any host type will do.

#![allow(unsafe_code, reason = "calls the host driver")]

pub mod dma;

use std::ffi::c_void;
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;

use ash::vk;
use kmd_sim::uapi::{Error, HostDevice, Result, SharedMem};

use self::dma::Dma;

/// The host driver as the simulated kernel driver's device.
pub struct Host {
    device: vk::Device,
    map_memory: vk::PFN_vkMapMemory,
    get_semaphore_counter_value: vk::PFN_vkGetSemaphoreCounterValue,
    /// The transport of memory that is not mapped, if the device has such.
    pub dma: Option<Dma>,
}

impl Host {
    /// The host device of one device.
    pub fn new(
        device: vk::Device,
        map_memory: vk::PFN_vkMapMemory,
        get_semaphore_counter_value: vk::PFN_vkGetSemaphoreCounterValue,
        dma: Option<Dma>,
    ) -> Self {
        Self { device, map_memory, get_semaphore_counter_value, dma }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("device", &self.device).field("dma", &self.dma).finish_non_exhaustive()
    }
}

impl HostDevice for Host {
    type Memory = vk::DeviceMemory;
    type Timeline = vk::Semaphore;

    fn map(&self, memory: vk::DeviceMemory, size: u64) -> Result<SharedMem> {
        if let Some(dma) = self.dma.as_ref().filter(|dma| dma.has(memory)) {
            return dma.image(memory);
        }
        let mut pointer: *mut c_void = std::ptr::null_mut();
        let flags = vk::MemoryMapFlags::empty();
        // SAFETY: the memory is alive and of a visible type, and mapped by nobody but us.
        let result =
            unsafe { (self.map_memory)(self.device, memory, 0, vk::WHOLE_SIZE, flags, &raw mut pointer) };
        if result != vk::Result::SUCCESS {
            return Err(Error::HostMap);
        }
        let base = NonNull::new(pointer.cast::<u8>()).ok_or(Error::HostMap)?;
        let len = usize::try_from(size).map_err(|_| Error::HostMap)?;
        // SAFETY: 1. mapped until the memory is freed, which ends its buffer object first; 2. the pointer
        // is used through this value alone. Hosts align maps to 64 bytes at least.
        Ok(unsafe { SharedMem::new(base, len) })
    }

    fn is_image(&self, memory: vk::DeviceMemory) -> bool {
        self.dma.as_ref().is_some_and(|dma| dma.has(memory))
    }

    fn update(&self, memory: vk::DeviceMemory, bytes: &Range<u64>, image: &SharedMem) -> Result<()> {
        self.dma.as_ref().map_or(Ok(()), |dma| dma.update(memory, bytes, image))
    }

    fn readback(
        &self,
        timeline: vk::Semaphore,
        seqno: u64,
        parts: &[(vk::DeviceMemory, Range<u64>)],
        after: &[(vk::Semaphore, u64)],
    ) -> Result<()> {
        self.dma.iter().for_each(|dma| dma.readback(timeline, seqno, parts, after));
        Ok(())
    }

    fn received(&self, timeline: vk::Semaphore, seqno: u64, op: &mut dyn FnMut(&SharedMem)) {
        if let Some(dma) = &self.dma {
            dma.received(timeline, seqno, op);
        }
    }

    fn seqno(&self, timeline: vk::Semaphore) -> Result<u64> {
        let mut value = 0;
        // SAFETY: the semaphore is one of ours and lives as long as the device.
        let result = unsafe { (self.get_semaphore_counter_value)(self.device, timeline, &raw mut value) };
        match result {
            vk::Result::SUCCESS => Ok(value),
            vk::Result::ERROR_DEVICE_LOST => Err(Error::DeviceLost),
            _ => Err(Error::NoMemory),
        }
    }
}

/// What an error of the kernel driver is in Vulkan.
pub fn vk_result(error: Error) -> vk::Result {
    match error {
        Error::NoMemory => vk::Result::ERROR_OUT_OF_HOST_MEMORY,
        // The last two are answers of the soft machine's driver alone.
        Error::Invalid | Error::Unsupported | Error::Busy | Error::Interrupted => vk::Result::ERROR_UNKNOWN,
        Error::HostMap => vk::Result::ERROR_MEMORY_MAP_FAILED,
        Error::DeviceLost => vk::Result::ERROR_DEVICE_LOST,
        Error::Os { .. } => {
            log::error!("writes cannot be tracked: {error}");
            vk::Result::ERROR_OUT_OF_HOST_MEMORY
        }
    }
}
