//! Graphics pipelines and passes of the table.

use crate::image::{Image, extent, offset};
use crate::rig::Rig;
use ash::vk;

/// What a graphics pipeline is made for.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stages<'a> {
    /// WGSL or SPIR-V of the vertex stage.
    pub(crate) vertex: &'a str,
    /// WGSL of the fragment stage; without it nothing is rasterised.
    pub(crate) fragment: Option<&'a str>,
    /// Points, or triangles.
    pub(crate) points: bool,
    /// The colour attachment of dynamic rendering.
    pub(crate) color: Option<vk::Format>,
}

impl Rig {
    /// A pipeline for dynamic rendering.
    pub(crate) fn graphics(&self, stages: Stages<'_>, layout: vk::PipelineLayout) -> vk::Pipeline {
        let stage = |stage, source| {
            vk::PipelineShaderStageCreateInfo::default()
                .stage(stage)
                .module(self.module(source))
                .name(c"main")
        };
        let mut list = vec![stage(vk::ShaderStageFlags::VERTEX, stages.vertex)];
        list.extend(stages.fragment.map(|source| stage(vk::ShaderStageFlags::FRAGMENT, source)));
        let vertices = vk::PipelineVertexInputStateCreateInfo::default();
        let topology = match stages.points {
            true => vk::PrimitiveTopology::POINT_LIST,
            false => vk::PrimitiveTopology::TRIANGLE_LIST,
        };
        let assembly = vk::PipelineInputAssemblyStateCreateInfo::default().topology(topology);
        let area = vk::Rect2D { extent: vk::Extent2D { width: 8, height: 8 }, ..Default::default() };
        let viewports = [vk::Viewport { width: 8.0, height: 8.0, max_depth: 1.0, ..Default::default() }];
        let (areas, samples) = ([area], vk::SampleCountFlags::TYPE_1);
        let viewport = vk::PipelineViewportStateCreateInfo::default().viewports(&viewports).scissors(&areas);
        let raster = vk::PipelineRasterizationStateCreateInfo::default()
            .rasterizer_discard_enable(stages.fragment.is_none())
            .line_width(1.0);
        let multisample = vk::PipelineMultisampleStateCreateInfo::default().rasterization_samples(samples);
        let blends =
            [vk::PipelineColorBlendAttachmentState::default()
                .color_write_mask(vk::ColorComponentFlags::RGBA)];
        let blends = if stages.color.is_some() { &blends[..] } else { &[] };
        let blend = vk::PipelineColorBlendStateCreateInfo::default().attachments(blends);
        let formats: Vec<_> = stages.color.into_iter().collect();
        let mut rendering = vk::PipelineRenderingCreateInfo::default().color_attachment_formats(&formats);
        let info = [vk::GraphicsPipelineCreateInfo::default()
            .stages(&list)
            .vertex_input_state(&vertices)
            .input_assembly_state(&assembly)
            .viewport_state(&viewport)
            .rasterization_state(&raster)
            .multisample_state(&multisample)
            .color_blend_state(&blend)
            .layout(layout)
            .push_next(&mut rendering)];
        let made = unsafe { self.raw().create_graphics_pipelines(vk::PipelineCache::null(), &info, None) };
        self.pipeline(made)
    }

    /// A view and a framebuffer of these views, or of none.
    pub(crate) fn framebuffer(
        &self,
        pass: vk::RenderPass,
        views: &[vk::ImageView],
        (width, height): (u32, u32),
    ) -> vk::Framebuffer {
        let info = vk::FramebufferCreateInfo::default()
            .render_pass(pass)
            .attachments(views)
            .width(width)
            .height(height)
            .layers(1);
        let framebuffer = unsafe { self.raw().create_framebuffer(&info, None) }.expect("a framebuffer");
        self.own(move |device| unsafe { device.destroy_framebuffer(framebuffer, None) });
        framebuffer
    }

    /// Takes a render pass that was made.
    pub(crate) fn own_pass(&self, pass: Result<vk::RenderPass, vk::Result>) -> vk::RenderPass {
        let pass = pass.expect("a render pass");
        self.own(move |device| unsafe { device.destroy_render_pass(pass, None) });
        pass
    }
}

/// Dynamic rendering without attachments around `draw`.
pub(crate) fn rendering(device: &ash::Device, commands: vk::CommandBuffer, draw: impl FnOnce()) {
    let area = vk::Rect2D { extent: vk::Extent2D { width: 8, height: 8 }, ..Default::default() };
    let info = vk::RenderingInfo::default().render_area(area).layer_count(1);
    unsafe { device.cmd_begin_rendering(commands, &info) };
    draw();
    unsafe { device.cmd_end_rendering(commands) };
}

/// A rectangle.
pub(crate) fn area(x: i32, y: i32, width: u32, height: u32) -> vk::Rect2D {
    let (at, size) = (offset(x, y), extent(width, height));
    vk::Rect2D {
        offset: vk::Offset2D { x: at.x, y: at.y },
        extent: vk::Extent2D { width: size.width, height: size.height },
    }
}

/// Red, to clear to, and its texel.
pub(crate) const RED: vk::ClearValue =
    vk::ClearValue { color: vk::ClearColorValue { float32: [1.0, 0.0, 0.0, 1.0] } };

/// The rows of a rectangle of an image that was cleared to [`RED`].
pub(crate) fn red(rig: &Rig, image: &Image, area: vk::Rect2D) -> Vec<(usize, Vec<u8>)> {
    let [x, y] = [area.offset.x, area.offset.y].map(|n| usize::try_from(n).expect("positive"));
    let (width, height) = (area.extent.width as usize, area.extent.height as usize);
    image.rows(rig, (x, y), width, 4, &[255, 0, 0, 255].repeat(width * height))
}
