//! Shaders and pipelines (specification chapters "Shaders", "Pipelines").
//!
//! A pipeline that failed, or of which the shaders are not known, has no entry: it may write anything.

#![allow(unsafe_code, reason = "entry points")]

use std::ffi::CStr;
use std::sync::Arc;

use ash::vk;

use super::{DEVICES, slice, state};
use crate::chain;
use crate::record::Objects;
use crate::record::pipeline::PipelineWrites;
use crate::record::shader::{Module, ModuleWrites, ShaderWrites, UNKNOWN};

type Callbacks<'a> = *const vk::AllocationCallbacks<'a>;

/// The code of a module.
///
/// # Safety
/// `info` is valid.
unsafe fn code<'a>(info: &vk::ShaderModuleCreateInfo<'a>) -> &'a [u32] {
    // SAFETY: the caller's.
    unsafe { words(info.p_code, info.code_size) }
}

/// # Safety
/// `code` is valid for `size` bytes.
unsafe fn words<'a>(code: *const u32, size: usize) -> &'a [u32] {
    // SAFETY: the caller's.
    unsafe { slice(code, u32::try_from(size / 4).unwrap_or(0)) }
}

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

/// What the shader of a stage may write.
///
/// # Safety
/// `stage` is valid.
unsafe fn stage_writes(objects: &Objects, stage: &vk::PipelineShaderStageCreateInfo<'_>) -> ShaderWrites {
    if stage.p_name.is_null() {
        return UNKNOWN.clone();
    }
    // SAFETY: the caller's.
    let name = unsafe { CStr::from_ptr(stage.p_name) };
    if let Some(module) = objects.modules.get(stage.module) {
        return module.writes().entry_point(stage.stage, name).clone();
    }
    // SAFETY: the caller's.
    match unsafe { chain::find::<vk::ShaderModuleCreateInfo<'_>>(stage.p_next) } {
        // SAFETY: the caller's.
        Some(info) => ModuleWrites::of(unsafe { code(info) }).entry_point(stage.stage, name).clone(),
        // A module known by its identifier, for one.
        None => UNKNOWN.clone(),
    }
}

/// What pipelines may write with these stages.
///
/// # Safety
/// `stages` is valid.
unsafe fn stages_writes(
    objects: &Objects,
    stages: &[vk::PipelineShaderStageCreateInfo<'_>],
) -> PipelineWrites {
    // SAFETY: the caller's.
    let writes: Vec<_> = stages.iter().map(|stage| unsafe { stage_writes(objects, stage) }).collect();
    PipelineWrites::of(&writes)
}

/// Adds what libraries may write.
///
/// # Safety
/// `info` is valid.
unsafe fn add_libraries(
    objects: &Objects,
    writes: &mut PipelineWrites,
    info: &vk::PipelineLibraryCreateInfoKHR<'_>,
) {
    // SAFETY: the caller's.
    for library in unsafe { slice(info.p_libraries, info.library_count) } {
        match objects.pipelines.get(*library) {
            Some(library) => writes.merge(&library),
            None => writes.anything = true,
        }
    }
}

/// Whether a graphics pipeline has shader stages of its own; where it has not, its array of stages is ignored
/// and need not be valid.
///
/// # Safety
/// `info` is valid.
unsafe fn has_stages(info: &vk::GraphicsPipelineCreateInfo<'_>) -> bool {
    // SAFETY: the caller's.
    let library = unsafe { chain::find::<vk::GraphicsPipelineLibraryCreateInfoEXT<'_>>(info.p_next) };
    if let Some(library) = library {
        return library.flags.intersects(
            vk::GraphicsPipelineLibraryFlagsEXT::PRE_RASTERIZATION_SHADERS
                | vk::GraphicsPipelineLibraryFlagsEXT::FRAGMENT_SHADER,
        );
    }
    // Without that structure, whoever links libraries or is one has no state of its own.
    // SAFETY: the caller's.
    let linked = unsafe { chain::find::<vk::PipelineLibraryCreateInfoKHR<'_>>(info.p_next) };
    // SAFETY: the caller's.
    let flags2 = unsafe { chain::find::<vk::PipelineCreateFlags2CreateInfoKHR<'_>>(info.p_next) };
    let is_library = match flags2 {
        Some(flags2) => flags2.flags.contains(vk::PipelineCreateFlags2KHR::LIBRARY),
        None => info.flags.contains(vk::PipelineCreateFlags::LIBRARY_KHR),
    };
    !is_library && linked.is_none_or(|linked| linked.library_count == 0)
}

/// # Safety
/// `info` is valid.
unsafe fn graphics_writes(objects: &Objects, info: &vk::GraphicsPipelineCreateInfo<'_>) -> PipelineWrites {
    // SAFETY: the caller's.
    let mut writes = if unsafe { has_stages(info) } {
        // SAFETY: the caller's.
        unsafe { stages_writes(objects, slice(info.p_stages, info.stage_count)) }
    } else {
        PipelineWrites::default()
    };
    // SAFETY: the caller's.
    if let Some(linked) = unsafe { chain::find::<vk::PipelineLibraryCreateInfoKHR<'_>>(info.p_next) } {
        // SAFETY: the caller's.
        unsafe { add_libraries(objects, &mut writes, linked) };
    }
    writes
}

/// # Safety
/// `info` is valid.
unsafe fn ray_tracing_writes(
    objects: &Objects,
    info: &vk::RayTracingPipelineCreateInfoKHR<'_>,
) -> PipelineWrites {
    // SAFETY: the caller's.
    let mut writes = unsafe { stages_writes(objects, slice(info.p_stages, info.stage_count)) };
    // SAFETY: the caller's.
    if let Some(linked) = unsafe { info.p_library_info.as_ref() } {
        // SAFETY: the caller's.
        unsafe { add_libraries(objects, &mut writes, linked) };
    }
    writes
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

/// `vkCreateRayTracingPipelinesKHR`. Of a deferred operation the handles are not there yet: such pipelines
/// may write anything.
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
    if result != vk::Result::OPERATION_DEFERRED_KHR {
        // SAFETY: valid usage.
        let infos = unsafe { slice(infos, count) };
        let objects = &state.objects;
        // SAFETY: valid usage.
        unsafe { enter(objects, result, infos, out, |info| ray_tracing_writes(objects, info)) };
    }
    result
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

/// # Safety
/// `info` is valid.
unsafe fn shader_writes(info: &vk::ShaderCreateInfoEXT<'_>) -> PipelineWrites {
    if info.code_type != vk::ShaderCodeTypeEXT::SPIRV || info.p_name.is_null() {
        return PipelineWrites::unknown();
    }
    // SAFETY: the caller's.
    let code = unsafe { words(info.p_code.cast(), info.code_size) };
    // SAFETY: the caller's.
    let name = unsafe { CStr::from_ptr(info.p_name) };
    PipelineWrites::of([ModuleWrites::of(code).entry_point(info.stage, name)])
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
