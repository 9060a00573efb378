//! Shaders, pipelines and descriptor sets of the table.

use crate::rig::Rig;
use ash::vk;
use lockstep_harness::{Buffer, shader};

pub(crate) const STORAGE: vk::DescriptorType = vk::DescriptorType::STORAGE_BUFFER;
pub(crate) const DYNAMIC: vk::DescriptorType = vk::DescriptorType::STORAGE_BUFFER_DYNAMIC;
pub(crate) const COMPUTE: vk::PipelineBindPoint = vk::PipelineBindPoint::COMPUTE;
pub(crate) const GRAPHICS: vk::PipelineBindPoint = vk::PipelineBindPoint::GRAPHICS;

/// Writes 0x5151_5151 to words 0, 2, 4 and 6 of binding 0.
pub(crate) const EVERY_OTHER: &str = "
    @group(0) @binding(0) var<storage, read_write> dest: array<u32>;
    @compute @workgroup_size(4) fn main(@builtin(local_invocation_id) id: vec3<u32>) {
        dest[2u * id.x] = 0x51515151u;
    }";

/// Orders transfers that write what transfers before them wrote.
pub(crate) fn transfers_in_order(device: &ash::Device, commands: vk::CommandBuffer) {
    let barrier = [vk::MemoryBarrier::default()
        .src_access_mask(vk::AccessFlags::TRANSFER_WRITE)
        .dst_access_mask(vk::AccessFlags::TRANSFER_WRITE)];
    let stage = vk::PipelineStageFlags::TRANSFER;
    unsafe { device.cmd_pipeline_barrier(commands, stage, stage, Default::default(), &barrier, &[], &[]) };
}

/// What [`EVERY_OTHER`] writes from `at` on.
pub(crate) fn every_other(at: usize) -> Vec<(usize, Vec<u8>)> {
    (0..4).map(|word| (at + 8 * word, vec![0x51; 4])).collect()
}

/// A range of a buffer, as descriptors have it.
pub(crate) fn range(buffer: &Buffer, offset: usize, len: u64) -> vk::DescriptorBufferInfo {
    vk::DescriptorBufferInfo { buffer: buffer.raw(), offset: offset as u64, range: len }
}

/// A write of buffers to a binding.
pub(crate) fn write(
    set: vk::DescriptorSet,
    binding: u32,
    kind: vk::DescriptorType,
    buffers: &[vk::DescriptorBufferInfo],
) -> vk::WriteDescriptorSet<'_> {
    vk::WriteDescriptorSet::default()
        .dst_set(set)
        .dst_binding(binding)
        .descriptor_type(kind)
        .buffer_info(buffers)
}

impl Rig {
    /// A set layout with these bindings for all stages: number, type, descriptors.
    pub(crate) fn set_layout(&self, bindings: &[(u32, vk::DescriptorType, u32)]) -> vk::DescriptorSetLayout {
        self.set_layout_with(bindings, Default::default(), vk::DescriptorBindingFlags::empty())
    }

    /// As above, with flags of the layout and of all bindings.
    pub(crate) fn set_layout_with(
        &self,
        bindings: &[(u32, vk::DescriptorType, u32)],
        flags: vk::DescriptorSetLayoutCreateFlags,
        each: vk::DescriptorBindingFlags,
    ) -> vk::DescriptorSetLayout {
        let binding = |(binding, kind, count): &(u32, vk::DescriptorType, u32)| {
            vk::DescriptorSetLayoutBinding::default()
                .binding(*binding)
                .descriptor_type(*kind)
                .descriptor_count(*count)
                .stage_flags(vk::ShaderStageFlags::ALL)
        };
        let bindings: Vec<_> = bindings.iter().map(binding).collect();
        let each = vec![each; bindings.len()];
        let mut each = vk::DescriptorSetLayoutBindingFlagsCreateInfo::default().binding_flags(&each);
        let info = vk::DescriptorSetLayoutCreateInfo::default()
            .flags(flags)
            .bindings(&bindings)
            .push_next(&mut each);
        let layout = unsafe { self.raw().create_descriptor_set_layout(&info, None) }.expect("a set layout");
        self.own(move |device| unsafe { device.destroy_descriptor_set_layout(layout, None) });
        layout
    }

    /// A pipeline layout with 16 bytes of push constants.
    pub(crate) fn layout(&self, sets: &[vk::DescriptorSetLayout]) -> vk::PipelineLayout {
        let push = [vk::PushConstantRange { stage_flags: vk::ShaderStageFlags::ALL, offset: 0, size: 16 }];
        let info = vk::PipelineLayoutCreateInfo::default().set_layouts(sets).push_constant_ranges(&push);
        let layout = unsafe { self.raw().create_pipeline_layout(&info, None) }.expect("a pipeline layout");
        self.own(move |device| unsafe { device.destroy_pipeline_layout(layout, None) });
        layout
    }

    /// A shader module, from WGSL or SPIR-V assembly.
    pub(crate) fn module(&self, source: &str) -> vk::ShaderModule {
        let words = match source.contains("OpCapability") {
            true => shader::assemble(source),
            false => shader::compile_wgsl(source),
        };
        let info = vk::ShaderModuleCreateInfo::default().code(&words);
        let module = unsafe { self.raw().create_shader_module(&info, None) }.expect("a shader module");
        self.own(move |device| unsafe { device.destroy_shader_module(module, None) });
        module
    }

    /// A compute pipeline.
    pub(crate) fn compute(&self, source: &str, layout: vk::PipelineLayout) -> vk::Pipeline {
        let stage = vk::PipelineShaderStageCreateInfo::default()
            .stage(vk::ShaderStageFlags::COMPUTE)
            .module(self.module(source))
            .name(c"main");
        let flags = vk::PipelineCreateFlags::DISPATCH_BASE;
        let info = [vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout).flags(flags)];
        let made = unsafe { self.raw().create_compute_pipelines(vk::PipelineCache::null(), &info, None) };
        self.pipeline(made)
    }

    /// Takes a pipeline that was made.
    pub(crate) fn pipeline(
        &self,
        made: Result<Vec<vk::Pipeline>, (Vec<vk::Pipeline>, vk::Result)>,
    ) -> vk::Pipeline {
        let pipeline = made.map_err(|(_, error)| error).expect("a pipeline")[0];
        self.own(move |device| unsafe { device.destroy_pipeline(pipeline, None) });
        pipeline
    }

    /// A pool for a few sets of everything.
    pub(crate) fn pool(&self) -> vk::DescriptorPool {
        let kinds = [
            STORAGE,
            DYNAMIC,
            vk::DescriptorType::UNIFORM_BUFFER,
            vk::DescriptorType::UNIFORM_BUFFER_DYNAMIC,
            vk::DescriptorType::STORAGE_IMAGE,
            vk::DescriptorType::STORAGE_TEXEL_BUFFER,
        ];
        let sizes = kinds.map(|ty| vk::DescriptorPoolSize { ty, descriptor_count: 16 });
        let flags = vk::DescriptorPoolCreateFlags::UPDATE_AFTER_BIND
            | vk::DescriptorPoolCreateFlags::FREE_DESCRIPTOR_SET;
        let info = vk::DescriptorPoolCreateInfo::default().flags(flags).max_sets(16).pool_sizes(&sizes);
        let pool = unsafe { self.raw().create_descriptor_pool(&info, None) }.expect("a descriptor pool");
        self.own(move |device| unsafe { device.destroy_descriptor_pool(pool, None) });
        pool
    }

    /// A set with a pool of its own.
    pub(crate) fn set(&self, layout: vk::DescriptorSetLayout) -> vk::DescriptorSet {
        let layouts = [layout];
        let info =
            vk::DescriptorSetAllocateInfo::default().descriptor_pool(self.pool()).set_layouts(&layouts);
        unsafe { self.raw().allocate_descriptor_sets(&info) }.expect("a descriptor set")[0]
    }

    /// Writes buffers to a binding of a set.
    pub(crate) fn update(
        &self,
        set: vk::DescriptorSet,
        binding: u32,
        kind: vk::DescriptorType,
        buffers: &[vk::DescriptorBufferInfo],
    ) {
        unsafe { self.raw().update_descriptor_sets(&[write(set, binding, kind, buffers)], &[]) };
    }

    /// A set whose bindings 0, 1, ... are these storage buffers, and its layout.
    pub(crate) fn buffers(
        &self,
        buffers: &[vk::DescriptorBufferInfo],
    ) -> (vk::DescriptorSetLayout, vk::DescriptorSet) {
        let numbers = 0..u32::try_from(buffers.len()).expect("few");
        let layout = self.set_layout(&numbers.clone().map(|n| (n, STORAGE, 1)).collect::<Vec<_>>());
        let set = self.set(layout);
        for (number, buffer) in numbers.zip(buffers) {
            self.update(set, number, STORAGE, &[*buffer]);
        }
        (layout, set)
    }
}

/// Binds a compute pipeline and sets from 0 on, and dispatches one group.
pub(crate) fn dispatch(
    device: &ash::Device,
    commands: vk::CommandBuffer,
    pipeline: vk::Pipeline,
    layout: vk::PipelineLayout,
    sets: &[vk::DescriptorSet],
    offsets: &[u32],
) {
    unsafe {
        device.cmd_bind_pipeline(commands, COMPUTE, pipeline);
        device.cmd_bind_descriptor_sets(commands, COMPUTE, layout, 0, sets, offsets);
        device.cmd_dispatch(commands, 1, 1, 1);
    }
}
