//! The picture: a colour and a depth image, with the render pass that draws into them.

use std::rc::Rc;

use anyhow::{Context, Result};
use ash::vk;

use crate::gpu::{Gpu, Owned};

/// Size of the picture.
pub(crate) const SIZE: vk::Extent2D = vk::Extent2D { width: 640, height: 480 };
const COLOUR: vk::Format = vk::Format::R8G8B8A8_UNORM;
/// Every driver draws with this depth format.
const DEPTH: vk::Format = vk::Format::D16_UNORM;

/// Images, render pass and framebuffer.
pub(crate) struct Target {
    pub(crate) framebuffer: Owned<vk::Framebuffer>,
    pub(crate) render_pass: Owned<vk::RenderPass>,
    pub(crate) colour: Image,
    _depth: Image,
}

/// An image that only the device sees.
pub(crate) struct Image {
    pub(crate) image: Owned<vk::Image>,
    view: Owned<vk::ImageView>,
    _memory: Owned<vk::DeviceMemory>,
}

/// All of a colour image.
pub(crate) fn colour_layers() -> vk::ImageSubresourceLayers {
    vk::ImageSubresourceLayers::default().aspect_mask(vk::ImageAspectFlags::COLOR).layer_count(1)
}

/// Width over height.
pub(crate) fn aspect() -> f32 {
    SIZE.width as f32 / SIZE.height as f32
}

impl Target {
    pub(crate) fn new(gpu: &Rc<Gpu>) -> Result<Self> {
        let colour_use = vk::ImageUsageFlags::COLOR_ATTACHMENT | vk::ImageUsageFlags::TRANSFER_SRC;
        let colour = Image::new(gpu, COLOUR, colour_use, vk::ImageAspectFlags::COLOR)?;
        let depth_use = vk::ImageUsageFlags::DEPTH_STENCIL_ATTACHMENT;
        let depth = Image::new(gpu, DEPTH, depth_use, vk::ImageAspectFlags::DEPTH)?;
        let render_pass = render_pass(gpu)?;
        let views = [*colour.view, *depth.view];
        let info = vk::FramebufferCreateInfo::default()
            .render_pass(*render_pass)
            .attachments(&views)
            .width(SIZE.width)
            .height(SIZE.height)
            .layers(1);
        // SAFETY: The views are of the render pass's formats and of this size.
        let raw = unsafe { gpu.device.create_framebuffer(&info, None) }.context("creating a framebuffer")?;
        let framebuffer = gpu.own(raw, ash::Device::destroy_framebuffer);
        Ok(Self { framebuffer, render_pass, colour, _depth: depth })
    }
}

impl Image {
    fn new(
        gpu: &Rc<Gpu>,
        format: vk::Format,
        usage: vk::ImageUsageFlags,
        aspect: vk::ImageAspectFlags,
    ) -> Result<Self> {
        let info = vk::ImageCreateInfo::default()
            .image_type(vk::ImageType::TYPE_2D)
            .format(format)
            .extent(vk::Extent3D { width: SIZE.width, height: SIZE.height, depth: 1 })
            .mip_levels(1)
            .array_layers(1)
            .samples(vk::SampleCountFlags::TYPE_1)
            .tiling(vk::ImageTiling::OPTIMAL)
            .usage(usage);
        // SAFETY: Format, usage and size are ones that every driver has.
        let raw = unsafe { gpu.device.create_image(&info, None) }.context("creating an image")?;
        let image = gpu.own(raw, ash::Device::destroy_image);
        // SAFETY: The image was just made.
        let needs = unsafe { gpu.device.get_image_memory_requirements(*image) };
        let memory = gpu.allocate(needs.size, gpu.device_only(needs.memory_type_bits)?)?;
        // SAFETY: The memory is as large as the image needs, of an allowed type, and not yet used.
        unsafe { gpu.device.bind_image_memory(*image, *memory, 0) }.context("binding an image")?;
        let range = vk::ImageSubresourceRange::default().aspect_mask(aspect).level_count(1).layer_count(1);
        let info = vk::ImageViewCreateInfo::default()
            .image(*image)
            .view_type(vk::ImageViewType::TYPE_2D)
            .format(format)
            .subresource_range(range);
        // SAFETY: The image is bound and of this format.
        let raw = unsafe { gpu.device.create_image_view(&info, None) }.context("creating an image view")?;
        Ok(Self { view: gpu.own(raw, ash::Device::destroy_image_view), image, _memory: memory })
    }
}

/// Clears both images, keeps the colour, and leaves it ready to be copied from.
fn render_pass(gpu: &Rc<Gpu>) -> Result<Owned<vk::RenderPass>> {
    let attachment = vk::AttachmentDescription::default()
        .samples(vk::SampleCountFlags::TYPE_1)
        .load_op(vk::AttachmentLoadOp::CLEAR)
        .stencil_load_op(vk::AttachmentLoadOp::DONT_CARE)
        .stencil_store_op(vk::AttachmentStoreOp::DONT_CARE);
    let attachments = [
        attachment
            .format(COLOUR)
            .store_op(vk::AttachmentStoreOp::STORE)
            .final_layout(vk::ImageLayout::TRANSFER_SRC_OPTIMAL),
        attachment
            .format(DEPTH)
            .store_op(vk::AttachmentStoreOp::DONT_CARE)
            .final_layout(vk::ImageLayout::DEPTH_STENCIL_ATTACHMENT_OPTIMAL),
    ];
    let colour =
        [vk::AttachmentReference { attachment: 0, layout: vk::ImageLayout::COLOR_ATTACHMENT_OPTIMAL }];
    let depth =
        vk::AttachmentReference { attachment: 1, layout: vk::ImageLayout::DEPTH_STENCIL_ATTACHMENT_OPTIMAL };
    let subpass = vk::SubpassDescription::default()
        .pipeline_bind_point(vk::PipelineBindPoint::GRAPHICS)
        .color_attachments(&colour)
        .depth_stencil_attachment(&depth);
    let drawing = vk::PipelineStageFlags::COLOR_ATTACHMENT_OUTPUT
        | vk::PipelineStageFlags::EARLY_FRAGMENT_TESTS
        | vk::PipelineStageFlags::LATE_FRAGMENT_TESTS;
    let drawn = vk::AccessFlags::COLOR_ATTACHMENT_WRITE | vk::AccessFlags::DEPTH_STENCIL_ATTACHMENT_WRITE;
    let dependencies = [
        // The last frame's drawing and copying come before this frame's drawing.
        vk::SubpassDependency::default()
            .src_subpass(vk::SUBPASS_EXTERNAL)
            .src_stage_mask(drawing | vk::PipelineStageFlags::TRANSFER)
            .src_access_mask(drawn)
            .dst_stage_mask(drawing)
            .dst_access_mask(drawn | vk::AccessFlags::DEPTH_STENCIL_ATTACHMENT_READ),
        // This frame's drawing comes before the copy to the window or the file.
        vk::SubpassDependency::default()
            .dst_subpass(vk::SUBPASS_EXTERNAL)
            .src_stage_mask(vk::PipelineStageFlags::COLOR_ATTACHMENT_OUTPUT)
            .src_access_mask(vk::AccessFlags::COLOR_ATTACHMENT_WRITE)
            .dst_stage_mask(vk::PipelineStageFlags::TRANSFER)
            .dst_access_mask(vk::AccessFlags::TRANSFER_READ),
    ];
    let subpasses = [subpass];
    let info = vk::RenderPassCreateInfo::default()
        .attachments(&attachments)
        .subpasses(&subpasses)
        .dependencies(&dependencies);
    // SAFETY: The references name the attachments above; `info` and what it points to are alive.
    let raw = unsafe { gpu.device.create_render_pass(&info, None) }.context("creating a render pass")?;
    Ok(gpu.own(raw, ash::Device::destroy_render_pass))
}
