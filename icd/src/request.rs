//! What the host is asked for when a device is created: what the application asks for, and what Lockstep
//! needs itself (specification chapter "Devices and Queues").

#![allow(unsafe_code, reason = "reads create infos, asks the host driver")]

use std::ffi::{CStr, CString};

use ash::vk;

use crate::chain::Chain;
use crate::entry::slice;
use crate::extensions::{self, MAP_MEMORY_PLACED};
use crate::instance::PhysicalDevice;

/// What a device is created with, in place of what the application asks for.
#[derive(Debug)]
pub struct HostRequest {
    /// The structures.
    pub chain: Chain,
    /// The extensions.
    pub extensions: Vec<CString>,
    /// Whether the application enables sparse binding.
    pub sparse: bool,
    /// Whether it enables device addresses.
    pub addresses: bool,
}

/// The families of an application's queues.
///
/// # Safety
/// `info` is valid.
pub unsafe fn families(info: &vk::DeviceCreateInfo<'_>) -> Vec<u32> {
    // SAFETY: the caller's.
    let queues = unsafe { slice(info.p_queue_create_infos, info.queue_create_info_count) };
    let mut families: Vec<u32> = queues.iter().map(|queue| queue.queue_family_index).collect();
    families.sort_unstable();
    families.dedup();
    families
}

/// The extensions an application enables.
///
/// # Safety
/// `info` is valid.
pub unsafe fn enabled_extensions<'a>(info: &vk::DeviceCreateInfo<'a>) -> impl Iterator<Item = &'a CStr> {
    let (names, count) = (info.pp_enabled_extension_names, info.enabled_extension_count as usize);
    // SAFETY: `count` C strings by valid usage.
    (0..count).map(move |index| unsafe { CStr::from_ptr(*names.add(index)) })
}

/// What the host must be asked for: the application's wishes, and timeline semaphores.
///
/// # Safety
/// `info` is valid.
pub unsafe fn host_request(
    physical: &PhysicalDevice,
    info: &vk::DeviceCreateInfo<'_>,
) -> Result<HostRequest, vk::Result> {
    if !physical.types.has_emulated() {
        log::error!(
            "the host device has no memory that is both HOST_VISIBLE and HOST_COHERENT: choose another"
        );
        return Err(vk::Result::ERROR_INITIALIZATION_FAILED);
    }
    if let Err(error) = physical.instance.config.tracker.probe() {
        log::error!(
            "LOCKSTEP_TRACKER=uffd: {error}; needs Linux 6.7 or later and a sandbox that allows userfaultfd(2)"
        );
        return Err(vk::Result::ERROR_INITIALIZATION_FAILED);
    }
    let config = &physical.instance.config;
    if let Err(error) = config.readback.probe(config.tracker) {
        log::error!(
            "LOCKSTEP_READBACK=lazy: {error}; needs tracker uffd and the right to serve page faults of the kernel: \
             CAP_SYS_PTRACE, vm.unprivileged_userfaultfd=1 or access to /dev/userfaultfd"
        );
        return Err(vk::Result::ERROR_INITIALIZATION_FAILED);
    }
    let host = host_extensions(physical)?;
    let passed = extensions::device(host.clone());
    let named = |list: &[vk::ExtensionProperties], name: &CStr| {
        list.iter().any(|extension| extension.extension_name_as_c_str() == Ok(name))
    };
    // SAFETY: the caller's.
    let asked = unsafe { enabled_extensions(info) };
    let mut names: Vec<CString> = asked.map(CStr::to_owned).collect();
    if let Some(unknown) = names.iter().find(|name| !named(&passed, name)) {
        log::error!("the extension {} is not offered", unknown.to_string_lossy());
        return Err(vk::Result::ERROR_EXTENSION_NOT_PRESENT);
    }
    // Ours alone, where the host does not have it.
    names.retain(|name| named(&host, name) && **name != *MAP_MEMORY_PLACED);

    if !has_timeline_semaphores(physical) {
        log::error!("the host device has no timeline semaphores: choose another, or a newer driver");
        return Err(vk::Result::ERROR_INITIALIZATION_FAILED);
    }
    let timeline_extension = ash::khr::timeline_semaphore::NAME;
    let is_core = physical.effective_version() >= vk::API_VERSION_1_2;
    if !is_core && named(&host, timeline_extension) && !names.iter().any(|name| **name == *timeline_extension)
    {
        names.push(timeline_extension.to_owned());
    }
    // SAFETY: the caller's.
    let mut chain = unsafe { Chain::of_device_create_info(info.p_next) };
    chain.remove::<vk::PhysicalDeviceMapMemoryPlacedFeaturesEXT<'_>>();
    if let Some(features) = chain.get_mut::<vk::PhysicalDeviceVulkan12Features<'_>>() {
        features.timeline_semaphore = vk::TRUE;
    } else if let Some(features) = chain.get_mut::<vk::PhysicalDeviceTimelineSemaphoreFeatures<'_>>() {
        features.timeline_semaphore = vk::TRUE;
    } else {
        chain.push(&vk::PhysicalDeviceTimelineSemaphoreFeatures::default().timeline_semaphore(true));
    }
    let structures = chain.get_mut::<vk::PhysicalDeviceAccelerationStructureFeaturesKHR<'_>>();
    if structures.is_some_and(|features| features.acceleration_structure_host_commands == vk::TRUE) {
        log::error!("the feature accelerationStructureHostCommands is not offered");
        return Err(vk::Result::ERROR_FEATURE_NOT_PRESENT);
    }
    if physical.types.needs_dma() {
        enable_synchronization2(physical, &host, &mut names, &mut chain)?;
    }
    // SAFETY: valid usage.
    let features = unsafe { info.p_enabled_features.as_ref() }.copied();
    let features2 = chain.get_mut::<vk::PhysicalDeviceFeatures2<'_>>().map(|features2| features2.features);
    let sparse = features.or(features2).is_some_and(|features| features.sparse_binding == vk::TRUE);
    let addresses = addresses(&mut chain);
    Ok(HostRequest { chain, extensions: names, sparse, addresses })
}

/// Enables what transport `dma` submits with.
fn enable_synchronization2(
    physical: &PhysicalDevice,
    host: &[vk::ExtensionProperties],
    names: &mut Vec<CString>,
    chain: &mut Chain,
) -> Result<(), vk::Result> {
    let extension = ash::khr::synchronization2::NAME;
    let has_extension = host.iter().any(|known| known.extension_name_as_c_str() == Ok(extension));
    let is_core = physical.effective_version() >= vk::API_VERSION_1_3;
    if !is_core && !has_extension {
        log::error!("transport dma needs VK_KHR_synchronization2, which the host device does not have");
        return Err(vk::Result::ERROR_INITIALIZATION_FAILED);
    }
    if !is_core && !names.iter().any(|name| **name == *extension) {
        names.push(extension.to_owned());
    }
    if let Some(features) = chain.get_mut::<vk::PhysicalDeviceVulkan13Features<'_>>() {
        features.synchronization2 = vk::TRUE;
    } else if let Some(features) = chain.get_mut::<vk::PhysicalDeviceSynchronization2Features<'_>>() {
        features.synchronization2 = vk::TRUE;
    } else {
        chain.push(&vk::PhysicalDeviceSynchronization2Features::default().synchronization2(true));
    }
    Ok(())
}

/// Whether the application enables device addresses.
fn addresses(chain: &mut Chain) -> bool {
    [
        chain.get_mut::<vk::PhysicalDeviceVulkan12Features<'_>>().map(|f| f.buffer_device_address),
        chain.get_mut::<vk::PhysicalDeviceBufferDeviceAddressFeatures<'_>>().map(|f| f.buffer_device_address),
        chain
            .get_mut::<vk::PhysicalDeviceBufferDeviceAddressFeaturesEXT<'_>>()
            .map(|f| f.buffer_device_address),
    ]
    .contains(&Some(vk::TRUE))
}

/// The device extensions of the host.
pub fn host_extensions(physical: &PhysicalDevice) -> Result<Vec<vk::ExtensionProperties>, vk::Result> {
    // SAFETY: the physical device is alive.
    unsafe { physical.instance.fns.enumerate_device_extension_properties(physical.handle) }
}

fn has_timeline_semaphores(physical: &PhysicalDevice) -> bool {
    let Some(features2) = physical.instance.fns2.features2 else { return false };
    let mut timeline = vk::PhysicalDeviceTimelineSemaphoreFeatures::default();
    let mut features = vk::PhysicalDeviceFeatures2::default().push_next(&mut timeline);
    // SAFETY: the physical device is alive, and the chain valid.
    unsafe { features2(physical.handle, &raw mut features) };
    timeline.timeline_semaphore == vk::TRUE
}
