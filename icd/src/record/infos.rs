//! What pipelines and shader objects may write, from what they are created with.
//!
//! # Safety
//! Create infos are valid by the application's valid usage.

#![allow(unsafe_code, reason = "door to the application's create infos")]

use std::ffi::CStr;

use ash::vk;

use super::Objects;
use super::pipeline::PipelineWrites;
use super::shader::{ModuleWrites, ShaderWrites, UNKNOWN};
use crate::chain;
use crate::entry::slice;

/// The code of a module.
///
/// # Safety
/// `info` is valid.
pub(crate) unsafe fn code<'a>(info: &vk::ShaderModuleCreateInfo<'a>) -> &'a [u32] {
    // SAFETY: the caller's.
    unsafe { words(info.p_code, info.code_size) }
}

/// The words of code.
///
/// # Safety
/// `code` is valid for `size` bytes.
unsafe fn words<'a>(code: *const u32, size: usize) -> &'a [u32] {
    // SAFETY: the caller's.
    unsafe { slice(code, u32::try_from(size / 4).unwrap_or(0)) }
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
pub(crate) unsafe fn stages_writes(
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

/// What a graphics pipeline, or a library of one, may write.
///
/// # Safety
/// `info` is valid.
pub(crate) unsafe fn graphics_writes(
    objects: &Objects,
    info: &vk::GraphicsPipelineCreateInfo<'_>,
) -> PipelineWrites {
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

/// What a ray tracing pipeline, or a library of one, may write.
///
/// # Safety
/// `info` is valid.
pub(crate) unsafe fn ray_tracing_writes(
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

/// What a shader object may write.
///
/// # Safety
/// `info` is valid.
pub(crate) unsafe fn shader_writes(info: &vk::ShaderCreateInfoEXT<'_>) -> PipelineWrites {
    if info.code_type != vk::ShaderCodeTypeEXT::SPIRV || info.p_name.is_null() {
        return PipelineWrites::unknown();
    }
    // SAFETY: the caller's.
    let code = unsafe { words(info.p_code.cast(), info.code_size) };
    // SAFETY: the caller's.
    let name = unsafe { CStr::from_ptr(info.p_name) };
    PipelineWrites::of([ModuleWrites::of(code).entry_point(info.stage, name)])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ash::vk::Handle;
    use lockstep_harness::shader::compile_wgsl;

    use super::*;
    use crate::record::descriptors::Bindings;
    use crate::record::shader::Module;

    /// Vertex shader `write_0` writes binding 0 of set 0, fragment shader `write_1` binding 1.
    fn words() -> Vec<u32> {
        compile_wgsl(
            "@group(0) @binding(0) var<storage, read_write> zero: u32;
            @group(0) @binding(1) var<storage, read_write> one: u32;
            @vertex fn write_0() -> @builtin(position) vec4<f32> { zero = 1u; return vec4(0.0); }
            @fragment fn write_1() { one = 1u; }",
        )
    }

    /// Objects with module 1.
    fn objects() -> Objects {
        let objects = Objects::default();
        objects.modules.insert(vk::ShaderModule::from_raw(1), Arc::new(Module::new(words())));
        objects
    }

    fn stages() -> [vk::PipelineShaderStageCreateInfo<'static>; 2] {
        let stage = vk::PipelineShaderStageCreateInfo::default().module(vk::ShaderModule::from_raw(1));
        [
            stage.stage(vk::ShaderStageFlags::VERTEX).name(c"write_0"),
            stage.stage(vk::ShaderStageFlags::FRAGMENT).name(c"write_1"),
        ]
    }

    fn graphics(objects: &Objects, info: &vk::GraphicsPipelineCreateInfo<'_>) -> PipelineWrites {
        // SAFETY: the tests' infos are whole.
        unsafe { graphics_writes(objects, info) }
    }

    #[test]
    fn a_pipeline_writes_what_its_stages_do() {
        let (objects, stages) = (objects(), stages());
        let both = graphics(&objects, &vk::GraphicsPipelineCreateInfo::default().stages(&stages));
        assert_eq!(both.bindings(0), Bindings::These(&[0, 1]));
        assert_eq!(both.bindings(1), Bindings::These(&[]));
        assert!(!both.anything && !both.addresses);
        let one = graphics(&objects, &vk::GraphicsPipelineCreateInfo::default().stages(&stages[..1]));
        assert_eq!(one.bindings(0), Bindings::These(&[0]));
    }

    #[test]
    fn code_may_come_with_the_stage() {
        let words = words();
        let mut code = vk::ShaderModuleCreateInfo::default().code(&words);
        let stage = vk::PipelineShaderStageCreateInfo::default().stage(vk::ShaderStageFlags::FRAGMENT);
        let stages = [stage.name(c"write_1").push_next(&mut code)];
        // SAFETY: whole.
        let writes = unsafe { stages_writes(&Objects::default(), &stages) };
        assert_eq!(writes.bindings(0), Bindings::These(&[1]));
    }

    #[test]
    fn a_module_known_by_its_identifier_may_write_anything() {
        let mut identifier = vk::PipelineShaderStageModuleIdentifierCreateInfoEXT::default().identifier(&[1]);
        let stage = vk::PipelineShaderStageCreateInfo::default().stage(vk::ShaderStageFlags::FRAGMENT);
        let stages = [stage.name(c"write_1").push_next(&mut identifier)];
        // SAFETY: whole.
        let writes = unsafe { stages_writes(&objects(), &stages) };
        assert!(writes.anything);
        assert_eq!(writes.bindings(3), Bindings::All);
    }

    #[test]
    fn libraries_add_up_and_stages_that_are_ignored_are_not_looked_at() {
        let (objects, stages) = (objects(), stages());
        let libraries = [vk::Pipeline::from_raw(5), vk::Pipeline::from_raw(6)];
        let parts = [
            vk::GraphicsPipelineLibraryFlagsEXT::PRE_RASTERIZATION_SHADERS,
            vk::GraphicsPipelineLibraryFlagsEXT::FRAGMENT_SHADER,
        ];
        for ((library, part), stage) in libraries.iter().zip(parts).zip(&stages) {
            let mut part = vk::GraphicsPipelineLibraryCreateInfoEXT::default().flags(part);
            let info = vk::GraphicsPipelineCreateInfo::default()
                .flags(vk::PipelineCreateFlags::LIBRARY_KHR)
                .stages(std::slice::from_ref(stage))
                .push_next(&mut part);
            objects.pipelines.insert(*library, Arc::new(graphics(&objects, &info)));
        }
        let mut linked = vk::PipelineLibraryCreateInfoKHR::default().libraries(&libraries);
        let info = vk::GraphicsPipelineCreateInfo {
            stage_count: 2,
            p_stages: std::ptr::dangling(),
            ..vk::GraphicsPipelineCreateInfo::default().push_next(&mut linked)
        };
        let whole = graphics(&objects, &info);
        assert_eq!(whole.bindings(0), Bindings::These(&[0, 1]));

        objects.pipelines.remove(libraries[1]);
        assert!(graphics(&objects, &info).anything, "nothing is known of the second");
    }

    #[test]
    fn a_part_without_shaders_writes_nothing() {
        let mut part = vk::GraphicsPipelineLibraryCreateInfoEXT::default()
            .flags(vk::GraphicsPipelineLibraryFlagsEXT::FRAGMENT_OUTPUT_INTERFACE);
        let info = vk::GraphicsPipelineCreateInfo {
            stage_count: 1,
            p_stages: std::ptr::dangling(),
            ..vk::GraphicsPipelineCreateInfo::default()
                .flags(vk::PipelineCreateFlags::LIBRARY_KHR)
                .push_next(&mut part)
        };
        assert_eq!(graphics(&objects(), &info), PipelineWrites::default());
    }

    #[test]
    fn ray_tracing_libraries_add_up_with_stages() {
        let objects = objects();
        let library = [vk::Pipeline::from_raw(5)];
        // SAFETY: whole.
        let writes = unsafe { stages_writes(&objects, &stages()[..1]) };
        objects.pipelines.insert(library[0], Arc::new(writes));
        let linked = vk::PipelineLibraryCreateInfoKHR::default().libraries(&library);
        let stages = &stages()[1..];
        let info = vk::RayTracingPipelineCreateInfoKHR::default().stages(stages).library_info(&linked);
        // SAFETY: whole.
        let writes = unsafe { ray_tracing_writes(&objects, &info) };
        assert_eq!(writes.bindings(0), Bindings::These(&[0, 1]));
    }

    #[test]
    fn shader_objects_are_known_by_their_code_unless_it_is_the_host_drivers() {
        let words = words();
        let mut info = vk::ShaderCreateInfoEXT::default()
            .stage(vk::ShaderStageFlags::FRAGMENT)
            .code_type(vk::ShaderCodeTypeEXT::SPIRV)
            .name(c"write_1");
        (info.p_code, info.code_size) = (words.as_ptr().cast(), size_of_val(&*words));
        // SAFETY: whole.
        assert_eq!(unsafe { shader_writes(&info) }.bindings(0), Bindings::These(&[1]));
        let info = info.code_type(vk::ShaderCodeTypeEXT::BINARY);
        // SAFETY: as above.
        assert!(unsafe { shader_writes(&info) }.anything);
    }
}
