//! Render passes (specification chapter "Render Pass"): which attachments may be written.

#![allow(unsafe_code, reason = "entry points")]

use ash::vk;

use super::commands;
use crate::chain;
use crate::entry::slice;
use crate::record::passes::{is_read_only, keeps};
use crate::record::recording::{Pass, Recording};

/// Notes a render pass instance.
///
/// # Safety
/// The structure and its chain are valid.
unsafe fn begin(recording: &mut Recording, info: &vk::RenderPassBeginInfo<'_>) {
    // SAFETY: the caller's.
    let views = unsafe { chain::find::<vk::RenderPassAttachmentBeginInfo<'_>>(info.p_next) };
    // SAFETY: the caller's.
    let views = views.map(|views| unsafe { slice(views.p_attachments, views.attachment_count) });
    recording.begin_pass(Pass {
        render_pass: info.render_pass,
        framebuffer: info.framebuffer,
        views: views.unwrap_or_default().into(),
    });
}

/// Notes an attachment of dynamic rendering.
///
/// # Safety
/// Null, or valid.
unsafe fn attachment(recording: &mut Recording, info: *const vk::RenderingAttachmentInfo<'_>) {
    // SAFETY: the caller's.
    let Some(info) = (unsafe { info.as_ref() }) else { return };
    if !(keeps(info.load_op) && is_read_only(info.image_layout)) {
        recording.write_view(info.image_view);
    }
    if !info.resolve_mode.is_empty() {
        recording.write_view(info.resolve_image_view);
    }
}

commands! {
    /// `vkCmdBeginRenderPass`
    fn cmd_begin_render_pass(info: *const vk::RenderPassBeginInfo<'_>, contents: vk::SubpassContents)
        as begin_render_pass |recording| begin(recording, &*info);

    /// `vkCmdBeginRenderPass2`
    fn cmd_begin_render_pass2(
        info: *const vk::RenderPassBeginInfo<'_>,
        subpass: *const vk::SubpassBeginInfo<'_>,
    ) as begin_render_pass2 |recording| begin(recording, &*info);

    /// `vkCmdBeginRendering`
    fn cmd_begin_rendering(info: *const vk::RenderingInfo<'_>) as begin_rendering |recording| {
        for color in slice((*info).p_color_attachments, (*info).color_attachment_count) {
            attachment(recording, color);
        }
        attachment(recording, (*info).p_depth_attachment);
        attachment(recording, (*info).p_stencil_attachment);
    };
}
