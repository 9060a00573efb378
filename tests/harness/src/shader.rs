//! Compute shaders, written in WGSL or SPIR-V assembly, and what they are bound to.

use crate::{Buffer, Gpu};
use ash::vk;
use spirv_tools::TargetEnv;
use spirv_tools::assembler::{Assembler, AssemblerOptions};
use spirv_tools::val::Validator;

/// Compiles WGSL to SPIR-V and has spirv-val check the result.
///
/// # Panics
///
/// If the source is wrong, or the tools are not installed.
pub fn compile_wgsl(source: &str) -> Vec<u32> {
    let module =
        naga::front::wgsl::parse_str(source).unwrap_or_else(|e| panic!("{}", e.emit_to_string(source)));
    let capabilities = naga::valid::Capabilities::empty();
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
    let info = validator.validate(&module).expect("a valid WGSL module");
    let mut options = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
    // Points have a size only where the vertex stage says so.
    options.flags |= naga::back::spv::WriterFlags::FORCE_POINT_SIZE;
    let words = naga::back::spv::write_vec(&module, &info, &options, None).expect("SPIR-V of a valid module");
    validate(words, TargetEnv::Vulkan_1_1)
}

/// Assembles SPIR-V and has spirv-val check the result.
///
/// # Panics
///
/// If the source is wrong, or the tools are not installed.
pub fn assemble(source: &str) -> Vec<u32> {
    assemble_for(TargetEnv::Vulkan_1_2, source)
}

/// [`assemble`]s SPIR-V as it was when Vulkan was new.
pub fn assemble_old(source: &str) -> Vec<u32> {
    assemble_for(TargetEnv::Vulkan_1_0, source)
}

fn assemble_for(target: TargetEnv, source: &str) -> Vec<u32> {
    let binary = spirv_tools::assembler::create(Some(target)).assemble(source, AssemblerOptions::default());
    validate(binary.expect("spirv-as accepts the source").as_words().to_vec(), target)
}

fn validate(words: Vec<u32>, target: TargetEnv) -> Vec<u32> {
    spirv_tools::val::create(Some(target)).validate(&words, None).expect("spirv-val accepts the module");
    words
}

/// A compute pipeline whose storage buffers are bindings 0, 1, ... of group 0.
#[derive(Debug)]
pub struct Compute {
    gpu: Gpu,
    set_layout: vk::DescriptorSetLayout,
    layout: vk::PipelineLayout,
    pipeline: vk::Pipeline,
}

impl Compute {
    /// Builds a pipeline of a WGSL module's entry point `main` with a number of storage buffers.
    pub fn new(gpu: &Gpu, wgsl: &str, buffers: u32) -> Self {
        Self::from_words(gpu, &compile_wgsl(wgsl), buffers, 0)
    }

    /// Builds a pipeline of a SPIR-V module's entry point `main` with push constants of so many bytes.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn from_words(gpu: &Gpu, words: &[u32], buffers: u32, push_bytes: u32) -> Self {
        let bindings: Vec<_> = (0..buffers)
            .map(|binding| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding)
                    .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
        Self::with_layout(gpu, words, &info, push_bytes)
    }

    /// Builds a pipeline of a SPIR-V module's entry point `main` with one set of a layout.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn with_layout(
        gpu: &Gpu,
        words: &[u32],
        set_layout: &vk::DescriptorSetLayoutCreateInfo<'_>,
        push_bytes: u32,
    ) -> Self {
        let device = gpu.raw();
        // SAFETY: By the harness's contract the structure is whole.
        let set_layout =
            unsafe { device.create_descriptor_set_layout(set_layout, None) }.expect("a set layout");
        let set_layouts = [set_layout];
        let pushes =
            [vk::PushConstantRange::default().stage_flags(vk::ShaderStageFlags::COMPUTE).size(push_bytes)];
        let info = vk::PipelineLayoutCreateInfo::default()
            .set_layouts(&set_layouts)
            .push_constant_ranges(if push_bytes == 0 { &[] } else { &pushes });
        // SAFETY: `info` is whole.
        let layout = unsafe { device.create_pipeline_layout(&info, None) }.expect("a pipeline layout");
        let info = vk::ShaderModuleCreateInfo::default().code(words);
        // SAFETY: spirv-val has accepted the words.
        let module = unsafe { device.create_shader_module(&info, None) }.expect("a shader module");
        let stage = vk::PipelineShaderStageCreateInfo::default()
            .stage(vk::ShaderStageFlags::COMPUTE)
            .module(module)
            .name(c"main");
        let infos = [vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout)];
        let cache = vk::PipelineCache::null();
        // SAFETY: `infos` is whole.
        let pipelines = unsafe { device.create_compute_pipelines(cache, &infos, None) };
        let pipeline = pipelines.map_err(|(_, error)| error).expect("vkCreateComputePipelines")[0];
        // SAFETY: The pipeline no longer needs the module.
        unsafe { device.destroy_shader_module(module, None) };
        Self { gpu: gpu.clone(), set_layout, layout, pipeline }
    }

    /// Returns Vulkan's pipeline.
    pub fn pipeline(&self) -> vk::Pipeline {
        self.pipeline
    }

    /// Returns Vulkan's pipeline layout.
    pub fn layout(&self) -> vk::PipelineLayout {
        self.layout
    }

    /// Returns Vulkan's layout of set 0.
    pub fn set_layout(&self) -> vk::DescriptorSetLayout {
        self.set_layout
    }

    /// Allocates a set from a pool of its own with room for `count` descriptors of one type.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn allocate(
        &self,
        ty: vk::DescriptorType,
        count: u32,
        flags: vk::DescriptorPoolCreateFlags,
    ) -> Bindings {
        let device = self.gpu.raw();
        let sizes = [vk::DescriptorPoolSize { ty, descriptor_count: count }];
        let info = vk::DescriptorPoolCreateInfo::default().max_sets(1).pool_sizes(&sizes).flags(flags);
        // SAFETY: `info` is whole.
        let pool = unsafe { device.create_descriptor_pool(&info, None) }.expect("a descriptor pool");
        let layouts = [self.set_layout];
        let info = vk::DescriptorSetAllocateInfo::default().descriptor_pool(pool).set_layouts(&layouts);
        // SAFETY: The pool was just made, with room for the set.
        let set = unsafe { device.allocate_descriptor_sets(&info) }.expect("a descriptor set")[0];
        Bindings { gpu: self.gpu.clone(), pool, set }
    }

    /// Binds ranges of (buffer, offset, length).
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn bind(&self, ranges: &[(&Buffer, usize, usize)]) -> Bindings {
        let ranges: Vec<_> = ranges
            .iter()
            .map(|&(buffer, offset, len)| vk::DescriptorBufferInfo {
                buffer: buffer.raw(),
                offset: offset as u64,
                range: len as u64,
            })
            .collect();
        self.bind_raw(&ranges)
    }

    /// Binds ranges of foreign buffers.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn bind_raw(&self, ranges: &[vk::DescriptorBufferInfo]) -> Bindings {
        let count = u32::try_from(ranges.len()).expect("few buffers");
        let flags = vk::DescriptorPoolCreateFlags::empty();
        let bindings = self.allocate(vk::DescriptorType::STORAGE_BUFFER, count, flags);
        let writes: Vec<_> = (0..count)
            .zip(ranges.chunks(1))
            .map(|(binding, range)| {
                vk::WriteDescriptorSet::default()
                    .dst_set(bindings.set)
                    .dst_binding(binding)
                    .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                    .buffer_info(range)
            })
            .collect();
        // SAFETY: No work uses the set yet.
        unsafe { self.gpu.raw().update_descriptor_sets(&writes, &[]) };
        bindings
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let device = self.gpu.raw();
        // SAFETY: By the harness's contract no work uses the pipeline.
        unsafe { device.destroy_pipeline(self.pipeline, None) };
        // SAFETY: As above.
        unsafe { device.destroy_pipeline_layout(self.layout, None) };
        // SAFETY: As above.
        unsafe { device.destroy_descriptor_set_layout(self.set_layout, None) };
    }
}

/// Buffers bound for a [`Compute`].
#[derive(Debug)]
pub struct Bindings {
    gpu: Gpu,
    pool: vk::DescriptorPool,
    set: vk::DescriptorSet,
}

impl Bindings {
    /// Returns Vulkan's descriptor set.
    pub fn raw(&self) -> vk::DescriptorSet {
        self.set
    }
}

impl Drop for Bindings {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: By the harness's contract no work uses the set.
            unsafe { self.gpu.raw().destroy_descriptor_pool(self.pool, None) };
        }
    }
}
