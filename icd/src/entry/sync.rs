//! What reports completion, and what signals from the CPU (specification chapters "Synchronization and
//! Cache Control", "Queries").
//!
//! Before success is returned, the device writes of every completed batch are visible to the CPU; before a
//! signal is sent, the CPU's writes are visible to the device.

#![allow(unsafe_code, reason = "entry points")]

use std::ffi::c_void;

use ash::vk;
use kmd_sim::uapi::all_retired;

use super::{DEVICES, QUEUES, point, state};
use crate::chain;
use crate::device::DeviceState;
use crate::host::commands::Commands;
use crate::trace::in_host;
use crate::transport::dma::Dma;
use crate::transport::dma::schedule::any_refused;

/// Returns a result of the host after what it reports is visible. Who cannot be shown it is not told, and
/// asks again.
fn completed(device: &DeviceState, result: vk::Result) -> vk::Result {
    if result == vk::Result::SUCCESS { device.retire_completed().err().unwrap_or(result) } else { result }
}

/// The same for what is told once.
fn acquired(device: &DeviceState, result: vk::Result) -> vk::Result {
    if matches!(result, vk::Result::SUCCESS | vk::Result::SUBOPTIMAL_KHR)
        && let Err(error) = device.retire_completed()
    {
        log::warn!("device writes follow later: {error}");
    }
    result
}

/// Waits by the host, which may not have been given yet what is waited for.
fn wait_by(device: &DeviceState, timeout: u64, wait: impl Fn(u64) -> vk::Result) -> vk::Result {
    match device.dma() {
        Some(dma) => dma.wait_by(timeout, wait),
        None => wait(timeout),
    }
}

/// Gives the host what it refused before.
fn retry(device: &DeviceState) -> Result<(), vk::Result> {
    device.dma().map_or(Ok(()), Dma::retry)
}

/// `vkQueueWaitIdle`
pub(super) unsafe extern "system" fn queue_wait_idle(queue: vk::Queue) -> vk::Result {
    point!("vkQueueWaitIdle");
    let state = state!(QUEUES, queue);
    // SAFETY: valid usage.
    let wait = || unsafe { (state.device.fns.fp_v1_0().queue_wait_idle)(queue) };
    let result = in_host(|| match state.device.dma() {
        Some(dma) => dma.wait_idle(Some(queue)).map_or_else(|error| error, |()| dma.alone(wait)),
        None => wait(),
    });
    completed(&state.device, result)
}

/// `vkDeviceWaitIdle`
pub(super) unsafe extern "system" fn device_wait_idle(device: vk::Device) -> vk::Result {
    point!("vkDeviceWaitIdle");
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let wait = || unsafe { (state.fns.fp_v1_0().device_wait_idle)(device) };
    let result = in_host(|| match state.dma() {
        Some(dma) => dma.wait_idle(None).map_or_else(|error| error, |()| dma.alone(wait)),
        None => wait(),
    });
    completed(&state, result)
}

/// `vkWaitForFences`
pub(super) unsafe extern "system" fn wait_for_fences(
    device: vk::Device,
    count: u32,
    fences: *const vk::Fence,
    wait_all: vk::Bool32,
    timeout: u64,
) -> vk::Result {
    point!("vkWaitForFences");
    let state = state!(DEVICES, device);
    let host = |count, fences, timeout| {
        // SAFETY: valid usage, of all fences or some.
        in_host(|| unsafe { (state.fns.fp_v1_0().wait_for_fences)(device, count, fences, wait_all, timeout) })
    };
    let wait = |timeout| match state.dma() {
        Some(dma) if Dma::any_held() => {
            // SAFETY: valid usage.
            let fences = unsafe { super::slice(fences, count) };
            let some = |fences: &[vk::Fence], timeout| {
                host(u32::try_from(fences.len()).unwrap_or(count), fences.as_ptr(), timeout)
            };
            dma.wait_for_fences(fences, wait_all == vk::TRUE, timeout, some)
        }
        _ => host(count, fences, timeout),
    };
    completed(&state, wait_by(&state, timeout, wait))
}

/// `vkGetFenceStatus`
pub(super) unsafe extern "system" fn get_fence_status(device: vk::Device, fence: vk::Fence) -> vk::Result {
    point!("vkGetFenceStatus");
    // Applications poll for long: what has not happened costs no more than asking the host.
    if Dma::any_held() {
        let state = state!(DEVICES, device);
        if let Err(error) = retry(&state) {
            return error;
        }
        match state.dma().map(|dma| dma.holds(fence)) {
            Some(Ok(true)) => return vk::Result::NOT_READY,
            Some(Err(error)) => return error,
            Some(Ok(false)) | None => {}
        }
    }
    let shared = Commands::shared().and_then(|shared| shared.get_fence_status);
    // SAFETY: valid usage.
    let result = shared.map(|host| unsafe { host(device, fence) });
    let is_all = |result: &vk::Result| *result != vk::Result::SUCCESS || all_retired();
    if let Some(result) = result.filter(|result| is_all(result) && !any_refused()) {
        return result;
    }
    let state = state!(DEVICES, device);
    if let Err(error) = retry(&state) {
        return error;
    }
    // SAFETY: valid usage.
    let ask = || unsafe { (state.fns.fp_v1_0().get_fence_status)(device, fence) };
    completed(&state, result.unwrap_or_else(ask))
}

/// `vkWaitSemaphores`
pub(super) unsafe extern "system" fn wait_semaphores(
    device: vk::Device,
    info: *const vk::SemaphoreWaitInfo<'_>,
    timeout: u64,
) -> vk::Result {
    point!("vkWaitSemaphores");
    let state = state!(DEVICES, device);
    let Some(host) = state.later.wait_semaphores else { return vk::Result::ERROR_UNKNOWN };
    // SAFETY: valid usage.
    let wait = |timeout| unsafe { host(device, info, timeout) };
    completed(&state, wait_by(&state, timeout, |timeout| in_host(|| wait(timeout))))
}

/// `vkGetSemaphoreCounterValue`
pub(super) unsafe extern "system" fn get_semaphore_counter_value(
    device: vk::Device,
    semaphore: vk::Semaphore,
    value: *mut u64,
) -> vk::Result {
    point!("vkGetSemaphoreCounterValue");
    let state = state!(DEVICES, device);
    let Some(host) = state.later.get_semaphore_counter_value else { return vk::Result::ERROR_UNKNOWN };
    if let Err(error) = retry(&state) {
        return error;
    }
    // SAFETY: valid usage.
    let result = unsafe { host(device, semaphore, value) };
    completed(&state, result)
}

/// `vkSignalSemaphore`
pub(super) unsafe extern "system" fn signal_semaphore(
    device: vk::Device,
    info: *const vk::SemaphoreSignalInfo<'_>,
) -> vk::Result {
    point!("vkSignalSemaphore");
    let state = state!(DEVICES, device);
    let Some(host) = state.later.signal_semaphore else { return vk::Result::ERROR_UNKNOWN };
    // SAFETY: valid usage.
    let signal = || unsafe { host(device, info) };
    match state.dma() {
        // What waits for the signal was not submitted yet, and is flushed for then.
        Some(dma) => {
            // SAFETY: valid usage.
            let info = unsafe { &*info };
            dma.signal(&[(info.semaphore, info.value)], signal)
        }
        None => state.flush().map_or_else(|error| error, |()| in_host(signal)),
    }
}

/// `vkCreateSemaphore`
pub(super) unsafe extern "system" fn create_semaphore(
    device: vk::Device,
    info: *const vk::SemaphoreCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::Semaphore,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().create_semaphore)(device, info, allocator, out) };
    if let (vk::Result::SUCCESS, Some(dma)) = (result, state.dma()) {
        // SAFETY: valid usage.
        let kind = unsafe { chain::find::<vk::SemaphoreTypeCreateInfo<'_>>((*info).p_next) };
        if let Some(kind) = kind.filter(|kind| kind.semaphore_type == vk::SemaphoreType::TIMELINE) {
            // SAFETY: written by the host.
            dma.add_semaphore(unsafe { *out }, kind.initial_value);
        }
    }
    result
}

/// `vkDestroySemaphore`
pub(super) unsafe extern "system" fn destroy_semaphore(
    device: vk::Device,
    semaphore: vk::Semaphore,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let state = state!(DEVICES, device; void);
    if let Some(dma) = state.dma() {
        dma.remove_semaphore(semaphore);
    }
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().destroy_semaphore)(device, semaphore, allocator) };
}

/// `vkGetEventStatus`
pub(super) unsafe extern "system" fn get_event_status(device: vk::Device, event: vk::Event) -> vk::Result {
    point!("vkGetEventStatus");
    let state = state!(DEVICES, device);
    if let Err(error) = retry(&state) {
        return error;
    }
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().get_event_status)(device, event) };
    if result == vk::Result::EVENT_SET {
        // It may have been set by the first of many commands.
        return state.pull_in_flight().err().unwrap_or(result);
    }
    result
}

/// `vkSetEvent`
pub(super) unsafe extern "system" fn set_event(device: vk::Device, event: vk::Event) -> vk::Result {
    point!("vkSetEvent");
    let state = state!(DEVICES, device);
    // Where the device copies, nothing overtakes a batch that waits for an event.
    let flushed = if state.dma().is_some() { Ok(()) } else { state.flush() };
    if let Err(result) = flushed {
        return result;
    }
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().set_event)(device, event) }
}

/// `vkGetQueryPoolResults`
pub(super) unsafe extern "system" fn get_query_pool_results(
    device: vk::Device,
    pool: vk::QueryPool,
    first: u32,
    count: u32,
    size: usize,
    data: *mut c_void,
    stride: u64,
    flags: vk::QueryResultFlags,
) -> vk::Result {
    point!("vkGetQueryPoolResults");
    let state = state!(DEVICES, device);
    let host = state.fns.fp_v1_0().get_query_pool_results;
    // SAFETY: valid usage.
    let ask = || unsafe { host(device, pool, first, count, size, data, stride, flags) };
    if let Err(error) = retry(&state) {
        return error;
    }
    let mut drained = state.dma().map_or(0, Dma::drained);
    let mut result = ask();
    // A host may not know how to wait for what it was not given yet.
    while result == vk::Result::NOT_READY && flags.contains(vk::QueryResultFlags::WAIT) {
        match state.dma().map_or(Ok(false), |dma| dma.wait_drained(drained)) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return error,
        }
        drained = state.dma().map_or(0, Dma::drained);
        result = ask();
    }
    let tells_each = flags.contains(vk::QueryResultFlags::WITH_AVAILABILITY);
    if result == vk::Result::SUCCESS || (result == vk::Result::NOT_READY && tells_each) {
        // Queries end in the middle of a batch.
        return state.pull_in_flight().err().unwrap_or(result);
    }
    result
}

/// `vkAcquireNextImageKHR`
pub(super) unsafe extern "system" fn acquire_next_image(
    device: vk::Device,
    swapchain: vk::SwapchainKHR,
    timeout: u64,
    semaphore: vk::Semaphore,
    fence: vk::Fence,
    index: *mut u32,
) -> vk::Result {
    point!("vkAcquireNextImageKHR");
    let state = state!(DEVICES, device);
    let Some(host) = state.later.acquire_next_image else { return vk::Result::ERROR_UNKNOWN };
    // SAFETY: valid usage.
    let result = in_host(|| unsafe { host(device, swapchain, timeout, semaphore, fence, index) });
    acquired(&state, result)
}

/// `vkAcquireNextImage2KHR`
pub(super) unsafe extern "system" fn acquire_next_image2(
    device: vk::Device,
    info: *const vk::AcquireNextImageInfoKHR<'_>,
    index: *mut u32,
) -> vk::Result {
    point!("vkAcquireNextImage2KHR");
    let state = state!(DEVICES, device);
    let Some(host) = state.later.acquire_next_image2 else { return vk::Result::ERROR_UNKNOWN };
    // SAFETY: valid usage.
    let result = in_host(|| unsafe { host(device, info, index) });
    acquired(&state, result)
}

/// `vkWaitForPresentKHR`
pub(super) unsafe extern "system" fn wait_for_present(
    device: vk::Device,
    swapchain: vk::SwapchainKHR,
    present_id: u64,
    timeout: u64,
) -> vk::Result {
    point!("vkWaitForPresentKHR");
    let state = state!(DEVICES, device);
    let Some(host) = state.later.wait_for_present else { return vk::Result::ERROR_UNKNOWN };
    // SAFETY: valid usage.
    let result = in_host(|| unsafe { host(device, swapchain, present_id, timeout) });
    acquired(&state, result)
}
