//! The pipelines: three that draw and one that computes, all with one descriptor set layout.

use std::ffi::CStr;
use std::rc::Rc;

use anyhow::{Context, Result};
use ash::vk;

use crate::frame::{VERTEX_SIZE, count};
use crate::gpu::{Gpu, Owned};
use crate::shaders;
use crate::target::{SIZE, Target};

/// Binding numbers of the descriptor set.
pub(crate) const UNIFORMS_BINDING: u32 = 0;
pub(crate) const VERTICES_BINDING: u32 = 1;
pub(crate) const RESULTS_BINDING: u32 = 2;

/// What is bound at each number.
pub(crate) const BINDINGS: [(u32, vk::DescriptorType); 3] = [
    (UNIFORMS_BINDING, vk::DescriptorType::UNIFORM_BUFFER),
    (VERTICES_BINDING, vk::DescriptorType::STORAGE_BUFFER),
    (RESULTS_BINDING, vk::DescriptorType::STORAGE_BUFFER),
];

/// Everything that a frame binds.
pub(crate) struct Pipelines {
    pub(crate) check: Owned<vk::Pipeline>,
    pub(crate) pond: Owned<vk::Pipeline>,
    pub(crate) spheres: Owned<vk::Pipeline>,
    pub(crate) bars: Owned<vk::Pipeline>,
    pub(crate) layout: Owned<vk::PipelineLayout>,
    pub(crate) set_layout: Owned<vk::DescriptorSetLayout>,
}

/// How the three drawing pipelines differ.
struct Look {
    vertex: &'static CStr,
    fragment: &'static CStr,
    /// One vertex an instance, drawn as a square; else one vertex a point of the mesh.
    square: bool,
    depth_test: bool,
    /// Blended over what is there (colours are multiplied by alpha already); else opaque, into the depth
    /// image.
    blend: bool,
}

impl Pipelines {
    pub(crate) fn new(gpu: &Rc<Gpu>, target: &Target) -> Result<Self> {
        let set_layout = set_layout(gpu)?;
        let layouts = [*set_layout];
        let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&layouts);
        // SAFETY: The set layout is alive.
        let raw = unsafe { gpu.device.create_pipeline_layout(&info, None) }
            .context("creating a pipeline layout")?;
        let layout = gpu.own(raw, ash::Device::destroy_pipeline_layout);
        let scene = shader(gpu, &shaders::scene()?)?;
        let draw = |look: &Look| graphics(gpu, *layout, *target.render_pass, *scene, look);
        let pond = Look {
            vertex: c"pond_vertex",
            fragment: c"pond_fragment",
            square: false,
            depth_test: true,
            blend: false,
        };
        let spheres = Look {
            vertex: c"sphere_vertex",
            fragment: c"sphere_fragment",
            square: true,
            blend: true,
            ..pond
        };
        let bars = Look { vertex: c"bar_vertex", fragment: c"bar_fragment", depth_test: false, ..spheres };
        Ok(Self {
            check: compute(gpu, *layout)?,
            pond: draw(&pond)?,
            spheres: draw(&spheres)?,
            bars: draw(&bars)?,
            layout,
            set_layout,
        })
    }
}

fn set_layout(gpu: &Rc<Gpu>) -> Result<Owned<vk::DescriptorSetLayout>> {
    let stages = vk::ShaderStageFlags::VERTEX | vk::ShaderStageFlags::COMPUTE;
    let bindings = BINDINGS.map(|(number, kind)| {
        let stages = if number == UNIFORMS_BINDING { stages } else { vk::ShaderStageFlags::COMPUTE };
        vk::DescriptorSetLayoutBinding::default()
            .binding(number)
            .descriptor_type(kind)
            .descriptor_count(1)
            .stage_flags(stages)
    });
    let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
    // SAFETY: `info` and what it points to are alive.
    let raw = unsafe { gpu.device.create_descriptor_set_layout(&info, None) }
        .context("creating a descriptor set layout")?;
    Ok(gpu.own(raw, ash::Device::destroy_descriptor_set_layout))
}

fn shader(gpu: &Rc<Gpu>, words: &[u32]) -> Result<Owned<vk::ShaderModule>> {
    let info = vk::ShaderModuleCreateInfo::default().code(words);
    // SAFETY: naga validated the module; a test has spirv-val look at it.
    let raw = unsafe { gpu.device.create_shader_module(&info, None) }.context("creating a shader module")?;
    Ok(gpu.own(raw, ash::Device::destroy_shader_module))
}

fn compute(gpu: &Rc<Gpu>, layout: vk::PipelineLayout) -> Result<Owned<vk::Pipeline>> {
    let module = shader(gpu, &shaders::check()?)?;
    let stage = vk::PipelineShaderStageCreateInfo::default()
        .stage(vk::ShaderStageFlags::COMPUTE)
        .module(*module)
        .name(c"check");
    let info = vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout);
    // SAFETY: The layout has the bindings that the shader uses.
    let made = unsafe { gpu.device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None) };
    let raw = made.map_err(|(_, error)| error).context("creating a compute pipeline")?[0];
    Ok(gpu.own(raw, ash::Device::destroy_pipeline))
}

fn graphics(
    gpu: &Rc<Gpu>,
    layout: vk::PipelineLayout,
    render_pass: vk::RenderPass,
    module: vk::ShaderModule,
    look: &Look,
) -> Result<Owned<vk::Pipeline>> {
    let stage = vk::PipelineShaderStageCreateInfo::default().module(module);
    let stages = [
        stage.stage(vk::ShaderStageFlags::VERTEX).name(look.vertex),
        stage.stage(vk::ShaderStageFlags::FRAGMENT).name(look.fragment),
    ];
    let rate = if look.square { vk::VertexInputRate::INSTANCE } else { vk::VertexInputRate::VERTEX };
    let bindings =
        [vk::VertexInputBindingDescription { binding: 0, stride: count(VERTEX_SIZE), input_rate: rate }];
    let attribute = vk::VertexInputAttributeDescription::default();
    let attributes = [
        attribute.location(0).format(vk::Format::R32G32B32_SFLOAT),
        attribute.location(1).format(vk::Format::R32_UINT).offset(12),
    ];
    let input = vk::PipelineVertexInputStateCreateInfo::default()
        .vertex_binding_descriptions(&bindings)
        .vertex_attribute_descriptions(&attributes);
    let assembly =
        vk::PipelineInputAssemblyStateCreateInfo::default().topology(vk::PrimitiveTopology::TRIANGLE_LIST);
    let (width, height) = (SIZE.width as f32, SIZE.height as f32);
    let viewports = [vk::Viewport { width, height, max_depth: 1.0, ..vk::Viewport::default() }];
    let scissors = [vk::Rect2D { extent: SIZE, ..vk::Rect2D::default() }];
    let view = vk::PipelineViewportStateCreateInfo::default().viewports(&viewports).scissors(&scissors);
    let raster = vk::PipelineRasterizationStateCreateInfo::default().line_width(1.0);
    let samples =
        vk::PipelineMultisampleStateCreateInfo::default().rasterization_samples(vk::SampleCountFlags::TYPE_1);
    let depth = vk::PipelineDepthStencilStateCreateInfo::default()
        .depth_test_enable(look.depth_test)
        .depth_write_enable(!look.blend)
        .depth_compare_op(vk::CompareOp::LESS);
    let factor = vk::BlendFactor::ONE_MINUS_SRC_ALPHA;
    let attachments = [vk::PipelineColorBlendAttachmentState::default()
        .color_write_mask(vk::ColorComponentFlags::RGBA)
        .blend_enable(look.blend)
        .src_color_blend_factor(vk::BlendFactor::ONE)
        .dst_color_blend_factor(factor)
        .src_alpha_blend_factor(vk::BlendFactor::ONE)
        .dst_alpha_blend_factor(factor)];
    let blend = vk::PipelineColorBlendStateCreateInfo::default().attachments(&attachments);
    let info = vk::GraphicsPipelineCreateInfo::default()
        .stages(&stages)
        .vertex_input_state(&input)
        .input_assembly_state(&assembly)
        .viewport_state(&view)
        .rasterization_state(&raster)
        .multisample_state(&samples)
        .depth_stencil_state(&depth)
        .color_blend_state(&blend)
        .layout(layout)
        .render_pass(render_pass);
    // SAFETY: The layout has the bindings that the shaders use, the inputs have their types.
    let made = unsafe { gpu.device.create_graphics_pipelines(vk::PipelineCache::null(), &[info], None) };
    let raw = made.map_err(|(_, error)| error).context("creating a graphics pipeline")?[0];
    Ok(gpu.own(raw, ash::Device::destroy_pipeline))
}
