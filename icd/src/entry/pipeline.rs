//! Shaders and pipelines (specification chapters "Shaders", "Pipelines").
//!
//! A pipeline that failed, or of which the shaders are not known, has no entry: it may write anything.

#![allow(unsafe_code, reason = "entry points")]

use std::sync::Arc;

use ash::vk;

use super::{DEVICES, slice, state};
use crate::record::Objects;
use crate::record::infos::{code, graphics_writes, ray_tracing_writes, shader_writes, stages_writes};
use crate::record::pipeline::PipelineWrites;
use crate::record::shader::Module;

type Callbacks<'a> = *const vk::AllocationCallbacks<'a>;

/// `vkCreateShaderModule`
pub(super) unsafe extern "system" fn create_shader_module(
    device: vk::Device,
    info: *const vk::ShaderModuleCreateInfo<'_>,
    allocator: Callbacks<'_>,
    out: *mut vk::ShaderModule,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().create_shader_module)(device, info, allocator, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: valid usage.
        let module = Module::new(unsafe { code(&*info) }.to_vec());
        // SAFETY: written by the host.
        state.objects.modules.insert(unsafe { *out }, Arc::new(module));
    }
    result
}

/// `vkDestroyShaderModule`
pub(super) unsafe extern "system" fn destroy_shader_module(
    device: vk::Device,
    module: vk::ShaderModule,
    allocator: Callbacks<'_>,
) {
    let state = state!(DEVICES, device; void);
    state.objects.modules.remove(module);
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().destroy_shader_module)(device, module, allocator) };
}

/// Enters the pipelines that came into being. After an error the array may hold anything, handles of other
/// pipelines, too: nothing is entered.
///
/// # Safety
/// `out` is valid for as many elements as there are infos, and written by the host.
unsafe fn enter<I>(
    objects: &Objects,
    result: vk::Result,
    infos: &[I],
    out: *const vk::Pipeline,
    writes: impl Fn(&I) -> PipelineWrites,
) {
    if result.as_raw() < 0 {
        return;
    }
    for (index, info) in infos.iter().enumerate() {
        // SAFETY: the caller's.
        let pipeline = unsafe { *out.add(index) };
        if pipeline != vk::Pipeline::null() {
            objects.pipelines.insert(pipeline, Arc::new(writes(info)));
        }
    }
}

/// `vkCreateGraphicsPipelines`
pub(super) unsafe extern "system" fn create_graphics_pipelines(
    device: vk::Device,
    cache: vk::PipelineCache,
    count: u32,
    infos: *const vk::GraphicsPipelineCreateInfo<'_>,
    allocator: Callbacks<'_>,
    out: *mut vk::Pipeline,
) -> vk::Result {
    let state = state!(DEVICES, device);
    let host = state.fns.fp_v1_0().create_graphics_pipelines;
    // SAFETY: valid usage.
    let result = unsafe { host(device, cache, count, infos, allocator, out) };
    // SAFETY: valid usage.
    let infos = unsafe { slice(infos, count) };
    let objects = &state.objects;
    // SAFETY: valid usage.
    unsafe { enter(objects, result, infos, out, |info| graphics_writes(objects, info)) };
    result
}

/// `vkCreateComputePipelines`
pub(super) unsafe extern "system" fn create_compute_pipelines(
    device: vk::Device,
    cache: vk::PipelineCache,
    count: u32,
    infos: *const vk::ComputePipelineCreateInfo<'_>,
    allocator: Callbacks<'_>,
    out: *mut vk::Pipeline,
) -> vk::Result {
    let state = state!(DEVICES, device);
    let host = state.fns.fp_v1_0().create_compute_pipelines;
    // SAFETY: valid usage.
    let result = unsafe { host(device, cache, count, infos, allocator, out) };
    // SAFETY: valid usage.
    let infos = unsafe { slice(infos, count) };
    let objects = &state.objects;
    // SAFETY: valid usage.
    unsafe { enter(objects, result, infos, out, |info| stages_writes(objects, &[info.stage])) };
    result
}

/// `vkCreateRayTracingPipelinesKHR`
pub(super) unsafe extern "system" fn create_ray_tracing_pipelines(
    device: vk::Device,
    operation: vk::DeferredOperationKHR,
    cache: vk::PipelineCache,
    count: u32,
    infos: *const vk::RayTracingPipelineCreateInfoKHR<'_>,
    allocator: Callbacks<'_>,
    out: *mut vk::Pipeline,
) -> vk::Result {
    let state = state!(DEVICES, device);
    let Some(host) = state.later.create_ray_tracing_pipelines else { return vk::Result::ERROR_UNKNOWN };
    // SAFETY: valid usage.
    let result = unsafe { host(device, operation, cache, count, infos, allocator, out) };
    // SAFETY: valid usage.
    let infos = unsafe { slice(infos, count) };
    let objects = &state.objects;
    // SAFETY: valid usage.
    let writes = |info: &_| unsafe { ray_tracing_writes(objects, info) };
    if result == vk::Result::OPERATION_DEFERRED_KHR {
        objects.deferred.add(operation, out, infos.iter().map(writes).collect());
    } else {
        // SAFETY: valid usage.
        unsafe { enter(objects, result, infos, out, writes) };
    }
    result
}

/// `vkDeferredOperationJoinKHR`; success says that the operation is complete, not that it succeeded.
pub(super) unsafe extern "system" fn deferred_operation_join(
    device: vk::Device,
    operation: vk::DeferredOperationKHR,
) -> vk::Result {
    let state = state!(DEVICES, device);
    let Some(host) = state.later.deferred_operation_join else { return vk::Result::ERROR_UNKNOWN };
    // SAFETY: valid usage.
    let result = unsafe { host(device, operation) };
    if result == vk::Result::SUCCESS {
        // SAFETY: valid usage.
        _ = unsafe { get_deferred_operation_result(device, operation) };
    }
    result
}

/// `vkGetDeferredOperationResultKHR`
pub(super) unsafe extern "system" fn get_deferred_operation_result(
    device: vk::Device,
    operation: vk::DeferredOperationKHR,
) -> vk::Result {
    let state = state!(DEVICES, device);
    let Some(host) = state.later.deferred_operation_result else { return vk::Result::ERROR_UNKNOWN };
    // SAFETY: valid usage.
    let result = unsafe { host(device, operation) };
    if result.as_raw() < 0 {
        state.objects.deferred.remove(operation);
    } else if result != vk::Result::NOT_READY {
        // SAFETY: the host says so.
        unsafe { state.objects.deferred.complete(operation, &state.objects.pipelines) };
    }
    result
}

/// `vkDestroyDeferredOperationKHR`
pub(super) unsafe extern "system" fn destroy_deferred_operation(
    device: vk::Device,
    operation: vk::DeferredOperationKHR,
    allocator: Callbacks<'_>,
) {
    let state = state!(DEVICES, device; void);
    let Some(host) = state.later.destroy_deferred_operation else { return };
    state.objects.deferred.remove(operation);
    // SAFETY: valid usage.
    unsafe { host(device, operation, allocator) };
}

/// `vkDestroyPipeline`
pub(super) unsafe extern "system" fn destroy_pipeline(
    device: vk::Device,
    pipeline: vk::Pipeline,
    allocator: Callbacks<'_>,
) {
    let state = state!(DEVICES, device; void);
    state.objects.pipelines.remove(pipeline);
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().destroy_pipeline)(device, pipeline, allocator) };
}

/// `vkCreateShadersEXT`
pub(super) unsafe extern "system" fn create_shaders(
    device: vk::Device,
    count: u32,
    infos: *const vk::ShaderCreateInfoEXT<'_>,
    allocator: Callbacks<'_>,
    out: *mut vk::ShaderEXT,
) -> vk::Result {
    let state = state!(DEVICES, device);
    let Some(host) = state.later.create_shaders else { return vk::Result::ERROR_UNKNOWN };
    // SAFETY: valid usage.
    let result = unsafe { host(device, count, infos, allocator, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: valid usage, and written by the host.
        let (infos, shaders) = unsafe { (slice(infos, count), slice(out.cast_const(), count)) };
        for (info, shader) in infos.iter().zip(shaders) {
            // SAFETY: valid usage.
            state.objects.shaders.insert(*shader, Arc::new(unsafe { shader_writes(info) }));
        }
    }
    result
}

/// `vkDestroyShaderEXT`
pub(super) unsafe extern "system" fn destroy_shader(
    device: vk::Device,
    shader: vk::ShaderEXT,
    allocator: Callbacks<'_>,
) {
    let state = state!(DEVICES, device; void);
    let Some(host) = state.later.destroy_shader else { return };
    state.objects.shaders.remove(shader);
    // SAFETY: valid usage.
    unsafe { host(device, shader, allocator) };
}
