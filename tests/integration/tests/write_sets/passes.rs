//! Attachments in coherent memory: render passes of both versions, without framebuffers' views, and dynamic
//! rendering.

use crate::graphics::{RED, area, red};
use crate::image::{Image, all, flat, linear};
use crate::missing;
use crate::rig::{Counters, Rig, counted};
use ash::vk;
use lockstep_harness::Kind;
use std::cell::Cell;

const FORMAT: vk::Format = vk::Format::R8G8B8A8_UNORM;
const DEPTH: vk::Format = vk::Format::D32_SFLOAT;
const GENERAL: vk::ImageLayout = vk::ImageLayout::GENERAL;
const SIZE: (u32, u32) = (16, 8);

fn linear_target() -> vk::ImageCreateInfo<'static> {
    let usage = vk::ImageUsageFlags::COLOR_ATTACHMENT
        | vk::ImageUsageFlags::TRANSFER_SRC
        | vk::ImageUsageFlags::TRANSFER_DST;
    linear(FORMAT, SIZE.0, SIZE.1).usage(usage)
}

fn depth_target() -> vk::ImageCreateInfo<'static> {
    let usage = vk::ImageUsageFlags::DEPTH_STENCIL_ATTACHMENT | vk::ImageUsageFlags::TRANSFER_DST;
    flat(DEPTH, SIZE.0, SIZE.1).usage(usage)
}

/// Has `pass` clear the pixels of (2, 1) to (7, 4) of a linear image.
fn cleared(pass: impl FnOnce(&Rig, vk::ImageView, &ash::Device, vk::CommandBuffer)) {
    let size = Cell::new(0);
    let counters = counted(|rig| {
        if !rig.offers(&linear_target()) {
            return missing::skip(missing::LINEAR_TARGETS);
        }
        let image = rig.general(&linear_target(), Kind::Coherent);
        let view = rig.view(&image, FORMAT);
        let commands = rig.record(|device, commands| pass(rig, view, device, commands));
        rig.beside(&commands, image.bytes(), &red(rig, &image, area(2, 1, 5, 3)));
        size.set(image.whole(rig));
    });
    counters.are(0, 2 * size.get());
}

fn color_attachment() -> vk::AttachmentDescription {
    vk::AttachmentDescription::default()
        .format(FORMAT)
        .samples(vk::SampleCountFlags::TYPE_1)
        .load_op(vk::AttachmentLoadOp::CLEAR)
        .store_op(vk::AttachmentStoreOp::STORE)
        .stencil_load_op(vk::AttachmentLoadOp::LOAD)
        .stencil_store_op(vk::AttachmentStoreOp::STORE)
        .initial_layout(GENERAL)
        .final_layout(GENERAL)
}

/// A render pass that clears one colour attachment.
fn clearing_pass(rig: &Rig) -> vk::RenderPass {
    let attachments = [color_attachment()];
    let colors = [vk::AttachmentReference { attachment: 0, layout: GENERAL }];
    let subpasses = [vk::SubpassDescription::default().color_attachments(&colors)];
    let info = vk::RenderPassCreateInfo::default().attachments(&attachments).subpasses(&subpasses);
    rig.own_pass(unsafe { rig.raw().create_render_pass(&info, None) })
}

fn second(attachment: &vk::AttachmentDescription) -> vk::AttachmentDescription2<'static> {
    vk::AttachmentDescription2::default()
        .format(attachment.format)
        .samples(attachment.samples)
        .load_op(attachment.load_op)
        .store_op(attachment.store_op)
        .stencil_load_op(attachment.stencil_load_op)
        .stencil_store_op(attachment.stencil_store_op)
        .initial_layout(attachment.initial_layout)
        .final_layout(attachment.final_layout)
}

/// As above, of the second version.
fn clearing_pass2(rig: &Rig) -> vk::RenderPass {
    let attachments = [second(&color_attachment())];
    let colors = [reference2(0, GENERAL, vk::ImageAspectFlags::COLOR)];
    let subpasses = [vk::SubpassDescription2::default().color_attachments(&colors)];
    let info = vk::RenderPassCreateInfo2::default().attachments(&attachments).subpasses(&subpasses);
    rig.own_pass(unsafe { rig.raw().create_render_pass2(&info, None) })
}

fn reference2(
    attachment: u32,
    layout: vk::ImageLayout,
    aspect: vk::ImageAspectFlags,
) -> vk::AttachmentReference2<'static> {
    vk::AttachmentReference2::default().attachment(attachment).layout(layout).aspect_mask(aspect)
}

#[test]
fn render_pass() {
    cleared(|rig, view, device, commands| unsafe {
        let pass = clearing_pass(rig);
        let info = vk::RenderPassBeginInfo::default()
            .render_pass(pass)
            .framebuffer(rig.framebuffer(pass, &[view], SIZE))
            .render_area(area(2, 1, 5, 3))
            .clear_values(&[RED]);
        device.cmd_begin_render_pass(commands, &info, vk::SubpassContents::INLINE);
        device.cmd_end_render_pass(commands);
    });
}

#[test]
fn render_pass2() {
    cleared(|rig, view, device, commands| unsafe {
        let pass = clearing_pass2(rig);
        let info = vk::RenderPassBeginInfo::default()
            .render_pass(pass)
            .framebuffer(rig.framebuffer(pass, &[view], SIZE))
            .render_area(area(2, 1, 5, 3))
            .clear_values(&[RED]);
        device.cmd_begin_render_pass2(commands, &info, &vk::SubpassBeginInfo::default());
        device.cmd_end_render_pass2(commands, &vk::SubpassEndInfo::default());
    });
}

#[test]
fn a_framebuffer_without_views() {
    cleared(|rig, view, device, commands| unsafe {
        let pass = clearing_pass(rig);
        let formats = [FORMAT];
        let images = [vk::FramebufferAttachmentImageInfo::default()
            .usage(linear_target().usage)
            .width(SIZE.0)
            .height(SIZE.1)
            .layer_count(1)
            .view_formats(&formats)];
        let mut images = vk::FramebufferAttachmentsCreateInfo::default().attachment_image_infos(&images);
        let info = vk::FramebufferCreateInfo::default()
            .flags(vk::FramebufferCreateFlags::IMAGELESS)
            .render_pass(pass)
            .attachment_count(1)
            .width(SIZE.0)
            .height(SIZE.1)
            .layers(1)
            .push_next(&mut images);
        let framebuffer = device.create_framebuffer(&info, None).expect("a framebuffer");
        rig.own(move |device| device.destroy_framebuffer(framebuffer, None));
        let views = [view];
        let mut views = vk::RenderPassAttachmentBeginInfo::default().attachments(&views);
        let info = vk::RenderPassBeginInfo::default()
            .render_pass(pass)
            .framebuffer(framebuffer)
            .render_area(area(2, 1, 5, 3))
            .clear_values(&[RED])
            .push_next(&mut views);
        device.cmd_begin_render_pass(commands, &info, vk::SubpassContents::INLINE);
        device.cmd_end_render_pass(commands);
    });
}

#[test]
fn dynamic_rendering() {
    cleared(|_, view, device, commands| unsafe {
        let colors = [vk::RenderingAttachmentInfo::default()
            .image_view(view)
            .image_layout(GENERAL)
            .load_op(vk::AttachmentLoadOp::CLEAR)
            .store_op(vk::AttachmentStoreOp::STORE)
            .clear_value(RED)];
        let info = vk::RenderingInfo::default()
            .render_area(area(2, 1, 5, 3))
            .layer_count(1)
            .color_attachments(&colors);
        device.cmd_begin_rendering(commands, &info);
        device.cmd_end_rendering(commands);
    });
}

/// An image of four samples a texel, out of the processor's sight.
fn samples(rig: &Rig) -> vk::ImageView {
    let info = flat(FORMAT, SIZE.0, SIZE.1)
        .samples(vk::SampleCountFlags::TYPE_4)
        .usage(vk::ImageUsageFlags::COLOR_ATTACHMENT);
    let image = rig.general(&info, Kind::DeviceOnly);
    rig.view(&image, FORMAT)
}

#[test]
fn a_resolve_attachment() {
    cleared(|rig, view, device, commands| unsafe {
        let sampled = color_attachment().samples(vk::SampleCountFlags::TYPE_4);
        let resolved = color_attachment().load_op(vk::AttachmentLoadOp::LOAD);
        let attachments = [sampled, resolved];
        let colors = [vk::AttachmentReference { attachment: 0, layout: GENERAL }];
        let resolves = [vk::AttachmentReference { attachment: 1, layout: GENERAL }];
        let subpasses =
            [vk::SubpassDescription::default().color_attachments(&colors).resolve_attachments(&resolves)];
        let info = vk::RenderPassCreateInfo::default().attachments(&attachments).subpasses(&subpasses);
        let pass = rig.own_pass(device.create_render_pass(&info, None));
        let info = vk::RenderPassBeginInfo::default()
            .render_pass(pass)
            .framebuffer(rig.framebuffer(pass, &[samples(rig), view], SIZE))
            .render_area(area(2, 1, 5, 3))
            .clear_values(&[RED]);
        device.cmd_begin_render_pass(commands, &info, vk::SubpassContents::INLINE);
        device.cmd_end_render_pass(commands);
    });
}

#[test]
fn a_resolve_of_dynamic_rendering() {
    cleared(|rig, view, device, commands| unsafe {
        let colors = [vk::RenderingAttachmentInfo::default()
            .image_view(samples(rig))
            .image_layout(GENERAL)
            .resolve_mode(vk::ResolveModeFlags::AVERAGE)
            .resolve_image_view(view)
            .resolve_image_layout(GENERAL)
            .load_op(vk::AttachmentLoadOp::CLEAR)
            .store_op(vk::AttachmentStoreOp::STORE)
            .clear_value(RED)];
        let info = vk::RenderingInfo::default()
            .render_area(area(2, 1, 5, 3))
            .layer_count(1)
            .color_attachments(&colors);
        device.cmd_begin_rendering(commands, &info);
        device.cmd_end_rendering(commands);
    });
}

/// Runs a pass over a depth image in coherent memory in a read-only layout, or in one to write it, and clears
/// it in the latter. Returns its size, too.
fn depth(pass: fn(&Rig, vk::ImageView, vk::AttachmentLoadOp, vk::ImageLayout)) -> [(Counters, usize); 2] {
    let read = vk::ImageLayout::DEPTH_STENCIL_READ_ONLY_OPTIMAL;
    [(vk::AttachmentLoadOp::LOAD, read), (vk::AttachmentLoadOp::CLEAR, GENERAL)].map(|(load, layout)| {
        let size = Cell::new(0);
        let counters = counted(|rig| {
            let image: Image = rig.image(&depth_target(), Kind::Coherent);
            rig.run(|device, commands| crate::image::enter(device, commands, &image, layout));
            pass(rig, rig.view(&image, DEPTH), load, layout);
            if load == vk::AttachmentLoadOp::CLEAR {
                let half = 0.5_f32.to_le_bytes();
                let words = image.bytes().read_all().chunks(4).filter(|word| **word == half).count();
                assert_eq!(words, 5 * 3);
            }
            size.set(image.size);
        });
        (counters, size.get())
    })
}

const HALF: vk::ClearValue =
    vk::ClearValue { depth_stencil: vk::ClearDepthStencilValue { depth: 0.5, stencil: 0 } };

#[test]
fn a_depth_attachment_is_written_unless_it_is_read_only() {
    let [(read, size), (written, _)] = depth(|rig, view, load, layout| {
        let attachments =
            [color_attachment().format(DEPTH).load_op(load).initial_layout(layout).final_layout(layout)];
        let reference = vk::AttachmentReference { attachment: 0, layout };
        let subpasses = [vk::SubpassDescription::default().depth_stencil_attachment(&reference)];
        let info = vk::RenderPassCreateInfo::default().attachments(&attachments).subpasses(&subpasses);
        let pass = rig.own_pass(unsafe { rig.raw().create_render_pass(&info, None) });
        rig.run(|device, commands| unsafe {
            let info = vk::RenderPassBeginInfo::default()
                .render_pass(pass)
                .framebuffer(rig.framebuffer(pass, &[view], SIZE))
                .render_area(area(2, 1, 5, 3))
                .clear_values(&[HALF]);
            device.cmd_begin_render_pass(commands, &info, vk::SubpassContents::INLINE);
            device.cmd_end_render_pass(commands);
        });
    });
    read.are(0, size);
    written.are(0, 2 * size);
}

#[test]
fn a_depth_attachment_of_dynamic_rendering_is_written_unless_it_is_read_only() {
    let [(read, size), (written, _)] = depth(|rig, view, load, layout| {
        rig.run(|device, commands| unsafe {
            let attachment = vk::RenderingAttachmentInfo::default()
                .image_view(view)
                .image_layout(layout)
                .load_op(load)
                .store_op(vk::AttachmentStoreOp::STORE)
                .clear_value(HALF);
            let info = vk::RenderingInfo::default()
                .render_area(area(2, 1, 5, 3))
                .layer_count(1)
                .depth_attachment(&attachment);
            device.cmd_begin_rendering(commands, &info);
            device.cmd_end_rendering(commands);
        });
    });
    read.are(0, size);
    written.are(0, 2 * size);
}

#[test]
fn stencil_is_written_beside_depth_that_is_read_only() {
    let format = vk::Format::D32_SFLOAT_S8_UINT;
    let (read, attached) =
        (vk::ImageLayout::DEPTH_READ_ONLY_OPTIMAL, vk::ImageLayout::STENCIL_ATTACHMENT_OPTIMAL);
    let both = vk::ImageAspectFlags::DEPTH | vk::ImageAspectFlags::STENCIL;
    let size = Cell::new(0);
    let counters = counted(|rig| {
        let info = flat(format, SIZE.0, SIZE.1).usage(depth_target().usage);
        let image = rig.image(&info, Kind::Coherent);
        rig.run(|device, commands| unsafe {
            let value = vk::ClearDepthStencilValue { depth: 0.5, stencil: 1 };
            crate::image::enter(device, commands, &image, GENERAL);
            device.cmd_clear_depth_stencil_image(commands, image.raw, GENERAL, &value, &[all(both)]);
            let layout = vk::ImageLayout::DEPTH_READ_ONLY_STENCIL_ATTACHMENT_OPTIMAL;
            let barrier = crate::image::barrier_to(&image, layout).old_layout(GENERAL);
            let stage = vk::PipelineStageFlags::ALL_COMMANDS;
            device.cmd_pipeline_barrier(commands, stage, stage, Default::default(), &[], &[], &[barrier]);
        });
        let mut layouts = vk::AttachmentDescriptionStencilLayout::default()
            .stencil_initial_layout(attached)
            .stencil_final_layout(attached);
        let description = color_attachment()
            .format(format)
            .load_op(vk::AttachmentLoadOp::LOAD)
            .initial_layout(read)
            .final_layout(read);
        let attachments = [second(&description).push_next(&mut layouts)];
        let mut layout = vk::AttachmentReferenceStencilLayout::default().stencil_layout(attached);
        let reference = reference2(0, read, both).push_next(&mut layout);
        let subpasses = [vk::SubpassDescription2::default().depth_stencil_attachment(&reference)];
        let info = vk::RenderPassCreateInfo2::default().attachments(&attachments).subpasses(&subpasses);
        let pass = rig.own_pass(unsafe { rig.raw().create_render_pass2(&info, None) });
        let view = rig.view(&image, format);
        rig.run(|device, commands| unsafe {
            let info = vk::RenderPassBeginInfo::default()
                .render_pass(pass)
                .framebuffer(rig.framebuffer(pass, &[view], SIZE))
                .render_area(area(0, 0, SIZE.0, SIZE.1));
            device.cmd_begin_render_pass(commands, &info, vk::SubpassContents::INLINE);
            let clears = [vk::ClearAttachment {
                aspect_mask: vk::ImageAspectFlags::STENCIL,
                clear_value: vk::ClearValue {
                    depth_stencil: vk::ClearDepthStencilValue { depth: 0.0, stencil: 0xA7 },
                },
                ..Default::default()
            }];
            let rects = [vk::ClearRect { rect: area(0, 0, 4, 4), base_array_layer: 0, layer_count: 1 }];
            device.cmd_clear_attachments(commands, &clears, &rects);
            device.cmd_end_render_pass(commands);
        });
        let bytes = image.bytes().read_all();
        assert!(bytes.contains(&0xA7));
        crate::rig::assert_same(&bytes, &crate::images::seen_as(rig, &image));
        size.set(image.size);
    });
    counters.are(0, 2 * size.get());
}
