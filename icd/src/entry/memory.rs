//! Device memory (specification chapter "Memory Allocation").

#![allow(unsafe_code, reason = "entry points")]

use std::ffi::c_void;
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ash::vk;
use kmd_sim::uapi::{BoId, Error, PAGE_SIZE, Place, Result as KmResult, Sync};

use super::{DEVICES, all_devices, code, point, slice, state};
use crate::chain::{self, Chain};
use crate::device::{DeviceState, Memory};
use crate::memory_types::{Kind, MemoryType};
use crate::record::lookup;
use crate::trace;
use crate::transport::dma::Dma;
use crate::transport::vk_result;

/// Whether an allocation shares its payload with others: such memory is the host's own.
///
/// # Safety
/// The chain of `info` is valid.
unsafe fn is_external(info: &vk::MemoryAllocateInfo<'_>) -> bool {
    // SAFETY: the caller's.
    let fd = unsafe { chain::find::<vk::ImportMemoryFdInfoKHR<'_>>(info.p_next) };
    // SAFETY: the caller's.
    let pointer = unsafe { chain::find::<vk::ImportMemoryHostPointerInfoEXT<'_>>(info.p_next) };
    // SAFETY: the caller's.
    let export = unsafe { chain::find::<vk::ExportMemoryAllocateInfo<'_>>(info.p_next) };
    // A handle type of zero imports nothing.
    fd.is_some_and(|import| !import.handle_type.is_empty())
        || pointer.is_some_and(|import| !import.handle_type.is_empty())
        || export.is_some_and(|export| !export.handle_types.is_empty())
}

/// Whether an address lies in mapped memory of ours, of any device. Such memory cannot be imported as the
/// host's: the device would write guest pages, and would not see what is written to the memory behind them.
fn is_guest_address(pointer: *const c_void) -> bool {
    all_devices().iter().any(|device| device.km.is_guest_address(pointer.addr()))
}

/// Allocates memory that the device copies to and from: with a buffer over all of it, and tied to no
/// resource.
///
/// # Safety
/// `info` and its chain are valid, and so is the allocator.
unsafe fn allocate_remote(
    state: &DeviceState,
    dma: &Dma,
    memory_type: &MemoryType,
    info: &vk::MemoryAllocateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
) -> Result<vk::DeviceMemory, vk::Result> {
    let size = info.allocation_size;
    let (buffer, requirements) = dma.buffer_for(size)?;
    // SAFETY: the caller's.
    let mut chain = unsafe { Chain::of_memory_allocate_info(info.p_next) };
    let host_info = vk::MemoryAllocateInfo {
        p_next: chain.head(),
        allocation_size: requirements.size.max(size),
        memory_type_index: memory_type.host,
        ..Default::default()
    };
    let allocate = state.fns.fp_v1_0().allocate_memory;
    let mut memory = vk::DeviceMemory::null();
    // SAFETY: a chain that lives, the application's allocator.
    let result = unsafe { allocate(state.handle, &raw const host_info, allocator, &raw mut memory) };
    if result != vk::Result::SUCCESS {
        dma.discard_buffer(buffer);
        return Err(result);
    }
    if let Err(error) = dma.add_memory(memory, buffer, size) {
        dma.discard_buffer(buffer);
        // SAFETY: nobody has seen it.
        unsafe { (state.fns.fp_v1_0().free_memory)(state.handle, memory, allocator) };
        return Err(error);
    }
    enter(state, memory, Kind::Emulated, size);
    Ok(memory)
}

/// Enters a new memory object.
fn enter(state: &DeviceState, handle: vk::DeviceMemory, kind: Kind, size: u64) {
    let sync = match kind {
        Kind::Explicit => Some(Sync::Explicit),
        Kind::Emulated => Some(Sync::Coherent),
        Kind::DeviceOnly | Kind::Native => None,
    };
    let bo = sync.map(|sync| state.km.bo_create(size, sync, handle));
    if kind == Kind::Emulated {
        state.emulated.fetch_add(1, Ordering::Release);
    }
    log::trace!("allocated {handle:?}: {size} bytes, {kind:?}");
    state.memories.insert(handle, Arc::new(Memory::new(kind, size, bo)));
}

/// `vkAllocateMemory`
pub(super) unsafe extern "system" fn allocate_memory(
    device: vk::Device,
    info: *const vk::MemoryAllocateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::DeviceMemory,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let info = unsafe { &*info };
    let Some(memory_type) = state.physical.types.get(info.memory_type_index) else {
        return vk::Result::ERROR_UNKNOWN;
    };
    // SAFETY: valid usage.
    let import = unsafe { chain::find::<vk::ImportMemoryHostPointerInfoEXT<'_>>(info.p_next) };
    if import.is_some_and(|import| !import.handle_type.is_empty() && is_guest_address(import.p_host_pointer))
    {
        return vk::Result::ERROR_INVALID_EXTERNAL_HANDLE;
    }
    // SAFETY: valid usage.
    if let Some(dma) = state.dma().filter(|_| memory_type.dma && !unsafe { is_external(info) }) {
        // SAFETY: valid usage.
        return code(unsafe { allocate_remote(&state, dma, memory_type, info, allocator) }.map(|memory| {
            // SAFETY: valid usage.
            unsafe { *out = memory };
        }));
    }
    let host_info = vk::MemoryAllocateInfo { memory_type_index: memory_type.host, ..*info };
    // SAFETY: the application's arguments with the host's type.
    let result =
        unsafe { (state.fns.fp_v1_0().allocate_memory)(device, &raw const host_info, allocator, out) };
    if result != vk::Result::SUCCESS {
        return result;
    }
    // SAFETY: written by the host.
    let handle = unsafe { *out };
    let size = info.allocation_size;
    // SAFETY: valid usage.
    let external = memory_type.kind != Kind::DeviceOnly && unsafe { is_external(info) };
    let kind = if external { Kind::Native } else { memory_type.kind };
    enter(&state, handle, kind, size);
    result
}

/// `vkFreeMemory`; unmaps.
pub(super) unsafe extern "system" fn free_memory(
    device: vk::Device,
    memory: vk::DeviceMemory,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let state = state!(DEVICES, device; void);
    // Before the host may give the same handle to another thread.
    if let Some(memory) = state.memories.remove(memory) {
        if let Some(bo) = memory.bo {
            state.km.bo_destroy(bo);
        }
        if memory.kind == Kind::Emulated {
            state.emulated.fetch_sub(1, Ordering::Release);
        }
    }
    if state.dma().is_some_and(|dma| !dma.remove_memory(memory)) {
        return;
    }
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().free_memory)(device, memory, allocator) };
}

/// Maps and returns the address of `offset`, which is `at` if the application says where.
fn map(
    state: &DeviceState,
    handle: vk::DeviceMemory,
    offset: u64,
    size: u64,
    at: Option<NonNull<u8>>,
) -> Result<*mut c_void, vk::Result> {
    let memory = state.memories.get(handle).ok_or(vk::Result::ERROR_MEMORY_MAP_FAILED)?;
    let end = if size == vk::WHOLE_SIZE { memory.size } else { offset.saturating_add(size).min(memory.size) };
    memory.mapped_end.store(end, Ordering::Relaxed);
    // Work may have completed without anybody asking: the first thing the CPU sees must be up to date. Of
    // what the host cannot tell now, a later report will.
    if let Err(error) = state.retire_completed() {
        log::debug!("mapping memory: {error}");
    }
    match (memory.kind, memory.bo) {
        (Kind::Native, _) if at.is_some() => {
            log::error!("memory that is the host's own cannot be placed");
            Err(vk::Result::ERROR_MEMORY_MAP_FAILED)
        }
        (Kind::Native, _) => {
            let mut pointer = std::ptr::null_mut();
            let map_memory = state.fns.fp_v1_0().map_memory;
            // SAFETY: valid usage.
            unsafe {
                map_memory(state.handle, handle, offset, size, vk::MemoryMapFlags::empty(), &raw mut pointer)
            }
            .result()?;
            Ok(pointer)
        }
        (kind, Some(bo)) => {
            if kind == Kind::Emulated {
                lookup::activate();
            }
            let map = || map_guest(state, bo, offset..end, at);
            let failed = |error: &dyn fmt::Display| {
                log::error!("vkMapMemory of {memory}: {error}");
                vk::Result::ERROR_MEMORY_MAP_FAILED
            };
            let guest = match state.dma().filter(|dma| dma.has(handle)) {
                Some(dma) => dma.map(state, handle, bo, map).map_err(|error| failed(&error))?,
                None => map(),
            };
            Ok(guest.map_err(|error| failed(&error))?.cast())
        }
        (_, None) => Err(vk::Result::ERROR_MEMORY_MAP_FAILED),
    }
}

/// Maps guest pages and returns the address of the first of `bytes`.
fn map_guest(state: &DeviceState, bo: BoId, bytes: Range<u64>, at: Option<NonNull<u8>>) -> KmResult<*mut u8> {
    let size = |bytes| usize::try_from(bytes).map_err(|_| Error::Invalid);
    match at {
        Some(at) if bytes.start.is_multiple_of(PAGE_SIZE) => {
            let len = bytes.end.saturating_sub(bytes.start).next_multiple_of(PAGE_SIZE);
            // SAFETY: the application gives these addresses away by valid usage.
            let place = unsafe { Place::new(at, size(len)?) };
            Ok(state.km.bo_map_placed(bo, bytes, Some(place))?.as_ptr())
        }
        Some(_) => Err(Error::Invalid),
        // Its addresses may be the application's when it is unmapped.
        None if state.unmap_reserve => {
            let in_page = size(bytes.start % PAGE_SIZE)?;
            Ok(state.km.bo_map_placed(bo, bytes, None)?.as_ptr().wrapping_add(in_page))
        }
        None => Ok(state.km.bo_map(bo)?.as_ptr().wrapping_add(size(bytes.start)?)),
    }
}

fn unmap(state: &DeviceState, handle: vk::DeviceMemory) {
    let Some(memory) = state.memories.get(handle) else { return };
    match (memory.kind, memory.bo) {
        // SAFETY: valid usage.
        (Kind::Native, _) => unsafe { (state.fns.fp_v1_0().unmap_memory)(state.handle, handle) },
        (_, Some(bo)) => state.km.bo_unmap(bo),
        (_, None) => {}
    }
}

/// `vkMapMemory`
pub(super) unsafe extern "system" fn map_memory(
    device: vk::Device,
    memory: vk::DeviceMemory,
    offset: u64,
    size: u64,
    _flags: vk::MemoryMapFlags,
    out: *mut *mut c_void,
) -> vk::Result {
    point!("vkMapMemory");
    let state = state!(DEVICES, device);
    code(map(&state, memory, offset, size, None).map(|pointer| {
        // SAFETY: valid usage.
        unsafe { *out = pointer };
    }))
}

/// `vkMapMemory2KHR`
pub(super) unsafe extern "system" fn map_memory2(
    device: vk::Device,
    info: *const vk::MemoryMapInfoKHR<'_>,
    out: *mut *mut c_void,
) -> vk::Result {
    point!("vkMapMemory2KHR");
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let info = unsafe { &*info };
    let mut at = None;
    if info.flags.contains(vk::MemoryMapFlags::PLACED_EXT) {
        // SAFETY: valid usage.
        let placed = unsafe { chain::find::<vk::MemoryMapPlacedInfoEXT<'_>>(info.p_next) };
        at = placed.and_then(|placed| NonNull::new(placed.p_placed_address.cast()));
        if at.is_none() {
            return vk::Result::ERROR_MEMORY_MAP_FAILED;
        }
    }
    code(map(&state, info.memory, info.offset, info.size, at).map(|pointer| {
        // SAFETY: valid usage.
        unsafe { *out = pointer };
    }))
}

/// `vkUnmapMemory`
pub(super) unsafe extern "system" fn unmap_memory(device: vk::Device, memory: vk::DeviceMemory) {
    let state = state!(DEVICES, device; void);
    unmap(&state, memory);
}

/// `vkUnmapMemory2KHR`
pub(super) unsafe extern "system" fn unmap_memory2(
    device: vk::Device,
    info: *const vk::MemoryUnmapInfoKHR<'_>,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let info = unsafe { &*info };
    if info.flags.contains(vk::MemoryUnmapFlagsKHR::RESERVE_EXT) {
        return code(unmap_reserve(&state, info.memory));
    }
    unmap(&state, info.memory);
    vk::Result::SUCCESS
}

/// Unmaps and keeps others out of the addresses, or leaves the memory mapped.
fn unmap_reserve(state: &DeviceState, handle: vk::DeviceMemory) -> Result<(), vk::Result> {
    let Some(bo) = state.memories.get(handle).and_then(|memory| memory.bo) else {
        log::error!("the addresses of memory that is the host's own cannot be kept");
        return Err(vk::Result::ERROR_MEMORY_MAP_FAILED);
    };
    state.km.bo_unmap_reserve(bo).map(drop).map_err(|error| {
        log::error!("vkUnmapMemory2 with addresses kept: {error}");
        vk::Result::ERROR_MEMORY_MAP_FAILED
    })
}

/// Copies each range of explicit memory one way, and returns those of the host's own memory. Emulated memory
/// needs nothing: these are hints there.
fn copy_ranges<'a>(
    state: &DeviceState,
    ranges: &[vk::MappedMemoryRange<'a>],
    copy: impl Fn(BoId, Range<u64>) -> KmResult<()>,
) -> Result<Vec<vk::MappedMemoryRange<'a>>, vk::Result> {
    let mut native = Vec::new();
    for range in ranges {
        let Some(memory) = state.memories.get(range.memory) else { continue };
        if memory.kind == Kind::Native {
            native.push(*range);
        }
        let (Some(bo), Kind::Explicit) = (memory.bo, memory.kind) else { continue };
        let end = match range.size {
            vk::WHOLE_SIZE => memory.mapped_end.load(Ordering::Relaxed),
            size => range.offset.saturating_add(size),
        };
        copy(bo, range.offset..end).map_err(vk_result)?;
    }
    Ok(native)
}

/// `vkFlushMappedMemoryRanges`
pub(super) unsafe extern "system" fn flush_mapped_memory_ranges(
    device: vk::Device,
    count: u32,
    ranges: *const vk::MappedMemoryRange<'_>,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let ranges = unsafe { slice(ranges, count) };
    let _span = trace::command(const { trace::index("vkFlushMappedMemoryRanges") });
    let native = copy_ranges(&state, ranges, |bo, bytes| state.km.explicit_flush(bo, bytes));
    code(native.and_then(|native| match native.is_empty() {
        true => Ok(()),
        // SAFETY: the application's own ranges.
        false => unsafe { state.fns.flush_mapped_memory_ranges(&native) },
    }))
}

/// `vkInvalidateMappedMemoryRanges`
pub(super) unsafe extern "system" fn invalidate_mapped_memory_ranges(
    device: vk::Device,
    count: u32,
    ranges: *const vk::MappedMemoryRange<'_>,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let ranges = unsafe { slice(ranges, count) };
    let _span = trace::command(const { trace::index("vkInvalidateMappedMemoryRanges") });
    let native = copy_ranges(&state, ranges, |bo, bytes| state.km.explicit_invalidate(bo, bytes));
    code(native.and_then(|native| match native.is_empty() {
        true => Ok(()),
        // SAFETY: the application's own ranges.
        false => unsafe { state.fns.invalidate_mapped_memory_ranges(&native) },
    }))
}

/// Defines an entry point that says which memory types can import a handle, if any can.
macro_rules! import_properties {
    ($name:ident, $host:ident, $handle:ty, $properties:ident, $refuse:expr, $doc:literal) => {
        #[doc = $doc]
        pub(super) unsafe extern "system" fn $name(
            device: vk::Device,
            handle_type: vk::ExternalMemoryHandleTypeFlags,
            handle: $handle,
            out: *mut vk::$properties<'_>,
        ) -> vk::Result {
            let state = state!(DEVICES, device);
            let Some(host) = state.later.$host else { return vk::Result::ERROR_UNKNOWN };
            if $refuse(handle) {
                return vk::Result::ERROR_INVALID_EXTERNAL_HANDLE;
            }
            // SAFETY: valid usage.
            let result = unsafe { host(device, handle_type, handle, out) };
            if result == vk::Result::SUCCESS {
                // SAFETY: filled by the host.
                let out = unsafe { &mut *out };
                out.memory_type_bits = state.physical.types.bits_from_host(out.memory_type_bits);
            }
            result
        }
    };
}

import_properties!(
    get_memory_fd_properties,
    memory_fd_properties,
    i32,
    MemoryFdPropertiesKHR,
    |_| false,
    "`vkGetMemoryFdPropertiesKHR`"
);
import_properties!(
    get_memory_host_pointer_properties,
    memory_host_pointer_properties,
    *const c_void,
    MemoryHostPointerPropertiesEXT,
    is_guest_address,
    "`vkGetMemoryHostPointerPropertiesEXT`"
);
