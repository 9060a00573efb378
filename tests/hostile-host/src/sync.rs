//! What reports completion, and what signals from the CPU (specification chapters "Synchronization and Cache
//! Control", "Queries").
//!
//! Before something new is reported the CPU sees what the device wrote; before a signal, the device what the
//! CPU wrote.

use std::ffi::c_void;

use ash::vk;

use crate::chain::find;
use crate::delay::Delay;
use crate::device::Device;
use crate::handles::DEVICES;

/// Asks the driver below, which does not wait.
fn ask<T>(device: &Device, question: impl FnOnce() -> T) -> T {
    device.delay.iter().for_each(Delay::asked);
    question()
}

/// Waits by the driver below.
fn wait<T>(device: &Device, wait: impl FnOnce() -> T) -> T {
    match &device.delay {
        Some(delay) => delay.waiting(wait),
        None => wait(),
    }
}

fn report(device: &Device, result: vk::Result, reports: bool) -> vk::Result {
    if reports {
        device.pull();
    }
    result
}

/// `vkWaitForFences`
pub(crate) unsafe extern "system" fn wait_for_fences(
    device: vk::Device,
    count: u32,
    fences: *const vk::Fence,
    all: vk::Bool32,
    timeout: u64,
) -> vk::Result {
    let state = DEVICES.get(device);
    // SAFETY: valid usage.
    let below = || unsafe { (state.fns.fp_v1_0().wait_for_fences)(device, count, fences, all, timeout) };
    let result = if timeout == 0 { ask(&state, below) } else { wait(&state, below) };
    report(&state, result, result == vk::Result::SUCCESS)
}

/// `vkGetFenceStatus`
pub(crate) unsafe extern "system" fn get_fence_status(device: vk::Device, fence: vk::Fence) -> vk::Result {
    let state = DEVICES.get(device);
    // SAFETY: valid usage.
    let result = ask(&state, || unsafe { (state.fns.fp_v1_0().get_fence_status)(device, fence) });
    report(&state, result, result == vk::Result::SUCCESS)
}

/// `vkWaitSemaphores`
pub(crate) unsafe extern "system" fn wait_semaphores(
    device: vk::Device,
    info: *const vk::SemaphoreWaitInfo<'_>,
    timeout: u64,
) -> vk::Result {
    let state = DEVICES.get(device);
    // SAFETY: the names stand for this type; valid usage.
    let below = || unsafe {
        let below: vk::PFN_vkWaitSemaphores = state.later(&[c"vkWaitSemaphores", c"vkWaitSemaphoresKHR"]);
        below(device, info, timeout)
    };
    let result = if timeout == 0 { ask(&state, below) } else { wait(&state, below) };
    report(&state, result, result == vk::Result::SUCCESS)
}

/// `vkGetSemaphoreCounterValue`
pub(crate) unsafe extern "system" fn get_semaphore_counter_value(
    device: vk::Device,
    semaphore: vk::Semaphore,
    value: *mut u64,
) -> vk::Result {
    let state = DEVICES.get(device);
    // SAFETY: the names stand for this type; valid usage.
    let result = ask(&state, || unsafe {
        let below: vk::PFN_vkGetSemaphoreCounterValue =
            state.later(&[c"vkGetSemaphoreCounterValue", c"vkGetSemaphoreCounterValueKHR"]);
        below(device, semaphore, value)
    });
    report(&state, result, result == vk::Result::SUCCESS)
}

/// `vkSignalSemaphore`
pub(crate) unsafe extern "system" fn signal_semaphore(
    device: vk::Device,
    info: *const vk::SemaphoreSignalInfo<'_>,
) -> vk::Result {
    let state = DEVICES.get(device);
    state.push();
    // SAFETY: the names stand for this type; valid usage.
    let result = unsafe {
        let below: vk::PFN_vkSignalSemaphore = state.later(&[c"vkSignalSemaphore", c"vkSignalSemaphoreKHR"]);
        below(device, info)
    };
    if let (Some(delay), vk::Result::SUCCESS) = (&state.delay, result) {
        // SAFETY: valid usage.
        let info = unsafe { &*info };
        delay.signalled(info.semaphore, info.value);
    }
    result
}

/// `vkGetEventStatus`
pub(crate) unsafe extern "system" fn get_event_status(device: vk::Device, event: vk::Event) -> vk::Result {
    let state = DEVICES.get(device);
    // SAFETY: valid usage.
    let result = ask(&state, || unsafe { (state.fns.fp_v1_0().get_event_status)(device, event) });
    report(&state, result, result == vk::Result::EVENT_SET)
}

/// `vkSetEvent`
pub(crate) unsafe extern "system" fn set_event(device: vk::Device, event: vk::Event) -> vk::Result {
    let state = DEVICES.get(device);
    state.push();
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().set_event)(device, event) }
}

/// `vkGetQueryPoolResults`
pub(crate) unsafe extern "system" fn get_query_pool_results(
    device: vk::Device,
    pool: vk::QueryPool,
    first: u32,
    count: u32,
    size: usize,
    data: *mut c_void,
    stride: u64,
    flags: vk::QueryResultFlags,
) -> vk::Result {
    let state = DEVICES.get(device);
    let functions = state.fns.fp_v1_0();
    // SAFETY: valid usage.
    let below = || unsafe {
        (functions.get_query_pool_results)(device, pool, first, count, size, data, stride, flags)
    };
    let result = if flags.contains(vk::QueryResultFlags::WAIT) {
        wait(&state, || {
            // Lavapipe does not wait for queries it has not come across yet.
            loop {
                match below() {
                    vk::Result::NOT_READY => std::thread::yield_now(),
                    result => break result,
                }
            }
        })
    } else {
        ask(&state, below)
    };
    report(&state, result, matches!(result, vk::Result::SUCCESS | vk::Result::NOT_READY))
}

/// `vkCreateSemaphore`
pub(crate) unsafe extern "system" fn create_semaphore(
    device: vk::Device,
    info: *const vk::SemaphoreCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::Semaphore,
) -> vk::Result {
    let state = DEVICES.get(device);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().create_semaphore)(device, info, allocator, out) };
    if let (Some(delay), vk::Result::SUCCESS) = (&state.delay, result) {
        // SAFETY: valid usage, and written by the host.
        unsafe {
            let kind = find::<vk::SemaphoreTypeCreateInfo<'_>>((*info).p_next);
            let timeline = kind.filter(|kind| kind.semaphore_type == vk::SemaphoreType::TIMELINE);
            delay.created(*out, timeline.map(|timeline| timeline.initial_value));
        }
    }
    result
}

/// `vkDestroySemaphore`
pub(crate) unsafe extern "system" fn destroy_semaphore(
    device: vk::Device,
    semaphore: vk::Semaphore,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let state = DEVICES.get(device);
    state.delay.iter().for_each(|delay| delay.destroyed(semaphore));
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().destroy_semaphore)(device, semaphore, allocator) };
}

/// An image was acquired.
fn acquired(device: &Device, result: vk::Result, semaphore: vk::Semaphore) -> vk::Result {
    let is_acquired = matches!(result, vk::Result::SUCCESS | vk::Result::SUBOPTIMAL_KHR);
    if is_acquired {
        device.delay.iter().for_each(|delay| delay.signalled(semaphore, 0));
    }
    report(device, result, is_acquired)
}

/// `vkAcquireNextImageKHR`
pub(crate) unsafe extern "system" fn acquire_next_image(
    device: vk::Device,
    swapchain: vk::SwapchainKHR,
    timeout: u64,
    semaphore: vk::Semaphore,
    fence: vk::Fence,
    index: *mut u32,
) -> vk::Result {
    let state = DEVICES.get(device);
    // SAFETY: the name stands for this type; valid usage.
    let result = wait(&state, || unsafe {
        let below: vk::PFN_vkAcquireNextImageKHR = state.later(&[c"vkAcquireNextImageKHR"]);
        below(device, swapchain, timeout, semaphore, fence, index)
    });
    acquired(&state, result, semaphore)
}

/// `vkAcquireNextImage2KHR`
pub(crate) unsafe extern "system" fn acquire_next_image2(
    device: vk::Device,
    info: *const vk::AcquireNextImageInfoKHR<'_>,
    index: *mut u32,
) -> vk::Result {
    let state = DEVICES.get(device);
    // SAFETY: the name stands for this type; valid usage.
    let result = wait(&state, || unsafe {
        let below: vk::PFN_vkAcquireNextImage2KHR = state.later(&[c"vkAcquireNextImage2KHR"]);
        below(device, info, index)
    });
    // SAFETY: valid usage.
    acquired(&state, result, unsafe { (*info).semaphore })
}
