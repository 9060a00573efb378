//! The commands Lockstep intercepts, by chapter of the specification.
//!
//! | module | chapter |
//! |---|---|
//! | [`loader`] | the interface between loader and driver |
//! | [`instance`] | "Initialization", "Devices and Queues" as far as instances go |
//! | [`physical_device`] | properties, features, extensions |
//! | [`device`] | "Devices and Queues" |
//! | [`memory`] | "Memory Allocation" |
//! | [`resource`], [`view`] | "Resource Creation" |
//! | [`descriptor`] | "Resource Descriptors" |
//! | [`debug`] | "Debugging": names of objects |
//! | [`pipeline`] | "Shaders", "Pipelines" |
//! | [`command`] | "Command Buffers", and what is recorded in them |
//! | [`pass`] | "Render Pass", pools of "Queries" |
//! | [`queue`] | submission |
//! | [`sync`] | "Synchronization", "Queries": what reports completion, what signals |
//!
//! # Safety
//! All entry points are called by an application through the loader, with arguments that are valid by the
//! specification's valid usage rules; each relies on that for every pointer it is given and for handles
//! being alive. This is the one argument behind their unsafe blocks.

pub mod command;
pub mod debug;
pub mod descriptor;
pub mod device;
pub mod instance;
pub mod loader;
pub mod memory;
pub mod pass;
pub mod physical_device;
pub mod pipeline;
pub mod queue;
pub mod resource;
pub mod sync;
mod table;
pub mod view;

use std::sync::Arc;

use ash::vk;

use crate::device::{DeviceState, QueueState};
use crate::handles::HandleMap;
use crate::instance::{InstanceState, PhysicalDevice};

/// Instances of this process.
pub static INSTANCES: HandleMap<vk::Instance, InstanceState> = HandleMap::new();
/// Physical devices of all instances.
pub static PHYSICAL_DEVICES: HandleMap<vk::PhysicalDevice, PhysicalDevice> = HandleMap::new();
/// Devices of all instances.
pub static DEVICES: HandleMap<vk::Device, DeviceState> = HandleMap::new();
/// Queues of all devices.
pub static QUEUES: HandleMap<vk::Queue, QueueState> = HandleMap::new();

/// All devices of the process, to be asked one after the other.
fn all_devices() -> Vec<Arc<DeviceState>> {
    let mut devices = Vec::new();
    DEVICES.for_each(|device| devices.push(Arc::clone(device)));
    devices
}

/// The state of a handle; a command on a handle we do not know fails.
macro_rules! state {
    ($table:expr, $handle:expr) => {
        match $table.get($handle) {
            Some(state) => state,
            None => return ash::vk::Result::ERROR_UNKNOWN,
        }
    };
    ($table:expr, $handle:expr; void) => {
        match $table.get($handle) {
            Some(state) => state,
            None => return,
        }
    };
}
pub(crate) use state;

/// Names a command that flushes or pulls, so that it is on the timeline and `scripts/mutations` can leave
/// that out.
macro_rules! point {
    ($name:literal) => {
        let _span = crate::trace::command(const { crate::trace::index($name) });
        #[cfg(lockstep_mutation)]
        let _point = kmd_sim::mutation::Point::enter($name);
    };
}
use point;

/// The code of a result.
fn code(result: Result<(), vk::Result>) -> vk::Result {
    result.err().unwrap_or(vk::Result::SUCCESS)
}

/// The elements of an application's array; null with a count of zero is empty.
///
/// # Safety
/// `pointer` is valid for `count` elements for `'a`.
#[expect(unsafe_code, reason = "door to the application's arrays")]
pub(crate) unsafe fn slice<'a, T>(pointer: *const T, count: u32) -> &'a [T] {
    if pointer.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts(pointer, count as usize) }
}

/// Gives an application a list by the two-call idiom.
///
/// # Safety
/// `count` is valid, and `out` null or valid for `*count` elements.
#[expect(unsafe_code, reason = "door to the application's arrays")]
unsafe fn fill<T: Copy>(list: &[T], count: *mut u32, out: *mut T) -> vk::Result {
    let len = u32::try_from(list.len()).unwrap_or(u32::MAX);
    if out.is_null() {
        // SAFETY: the caller's.
        unsafe { *count = len };
        return vk::Result::SUCCESS;
    }
    // SAFETY: the caller's.
    let room = unsafe { *count };
    let copied = len.min(room);
    // SAFETY: the caller's; the lists do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(list.as_ptr(), out, copied as usize) };
    // SAFETY: the caller's.
    unsafe { *count = copied };
    if copied < len { vk::Result::INCOMPLETE } else { vk::Result::SUCCESS }
}
