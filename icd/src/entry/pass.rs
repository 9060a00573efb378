//! Render passes, framebuffers and query pools (specification chapters "Render Pass", "Queries"): kept to
//! know what passes and copies of results write.

#![allow(unsafe_code, reason = "entry points")]

use std::sync::Arc;

use ash::vk;

use super::{DEVICES, slice, state};
use crate::chain;
use crate::record::passes::{Attachment, Framebuffer, QueryPool, Reference, RenderPass};

/// Calls `$add` with each list of references of a subpass, of either version, and whether it is of inputs.
///
/// # Safety
/// The subpass is valid.
macro_rules! for_each_list {
    ($subpass:ident, $add:ident) => {
        let colors = $subpass.color_attachment_count;
        // SAFETY: the caller's, here and below.
        $add(unsafe { slice($subpass.p_input_attachments, $subpass.input_attachment_count) }, true);
        // SAFETY: as above.
        $add(unsafe { slice($subpass.p_color_attachments, colors) }, false);
        // SAFETY: as above; null, or as many as colours.
        $add(unsafe { slice($subpass.p_resolve_attachments, colors) }, false);
        // SAFETY: as above; null, or one.
        $add(unsafe { slice($subpass.p_depth_stencil_attachment, 1) }, false);
    };
}

/// What a render pass is created with, as far as it says what is written.
///
/// # Safety
/// The structure is valid.
unsafe fn render_pass(info: &vk::RenderPassCreateInfo<'_>) -> RenderPass {
    // SAFETY: the caller's.
    let attachments = unsafe { slice(info.p_attachments, info.attachment_count) };
    let attachments: Vec<_> = attachments
        .iter()
        .map(|attachment| Attachment {
            load: [attachment.load_op, attachment.stencil_load_op],
            layouts: [attachment.initial_layout, attachment.final_layout],
            stencil: [attachment.initial_layout, attachment.final_layout],
        })
        .collect();
    // SAFETY: the caller's.
    let subpasses = unsafe { slice(info.p_subpasses, info.subpass_count) };
    let mut references = Vec::new();
    let mut add = |list: &[vk::AttachmentReference], input| {
        let reference = |reference: &vk::AttachmentReference| Reference {
            attachment: reference.attachment,
            layout: reference.layout,
            stencil: reference.layout,
            input,
        };
        references.extend(list.iter().map(reference));
    };
    for subpass in subpasses {
        for_each_list!(subpass, add);
    }
    RenderPass::new(&attachments, references.into_iter())
}

/// As above, of the second version.
///
/// # Safety
/// The structure and the chains in it are valid.
unsafe fn render_pass2(info: &vk::RenderPassCreateInfo2<'_>) -> RenderPass {
    // SAFETY: the caller's.
    let attachments = unsafe { slice(info.p_attachments, info.attachment_count) };
    let attachments: Vec<_> = attachments
        .iter()
        .map(|attachment| {
            let layouts = [attachment.initial_layout, attachment.final_layout];
            // SAFETY: the caller's.
            let stencil =
                unsafe { chain::find::<vk::AttachmentDescriptionStencilLayout<'_>>(attachment.p_next) };
            let stencil = stencil.map(|own| [own.stencil_initial_layout, own.stencil_final_layout]);
            Attachment {
                load: [attachment.load_op, attachment.stencil_load_op],
                layouts,
                stencil: stencil.unwrap_or(layouts),
            }
        })
        .collect();
    // SAFETY: the caller's.
    let subpasses = unsafe { slice(info.p_subpasses, info.subpass_count) };
    let mut references = Vec::new();
    let mut add = |list: &[vk::AttachmentReference2<'_>], input| {
        let reference = |reference: &vk::AttachmentReference2<'_>| {
            // SAFETY: the caller's.
            let stencil =
                unsafe { chain::find::<vk::AttachmentReferenceStencilLayout<'_>>(reference.p_next) };
            Reference {
                attachment: reference.attachment,
                layout: reference.layout,
                stencil: stencil.map_or(reference.layout, |own| own.stencil_layout),
                input,
            }
        };
        references.extend(list.iter().map(reference));
    };
    for subpass in subpasses {
        for_each_list!(subpass, add);
        // SAFETY: the caller's.
        let resolve = unsafe { chain::find::<vk::SubpassDescriptionDepthStencilResolve<'_>>(subpass.p_next) };
        if let Some(resolve) = resolve {
            // SAFETY: the caller's; null, or one.
            add(unsafe { slice(resolve.p_depth_stencil_resolve_attachment, 1) }, false);
        }
    }
    RenderPass::new(&attachments, references.into_iter())
}

/// `vkCreateRenderPass`
pub(super) unsafe extern "system" fn create_render_pass(
    device: vk::Device,
    info: *const vk::RenderPassCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::RenderPass,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().create_render_pass)(device, info, allocator, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: valid usage, and written by the host.
        unsafe { state.render_passes.insert(*out, Arc::new(render_pass(&*info))) };
    }
    result
}

/// `vkCreateRenderPass2`
pub(super) unsafe extern "system" fn create_render_pass2(
    device: vk::Device,
    info: *const vk::RenderPassCreateInfo2<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::RenderPass,
) -> vk::Result {
    let state = state!(DEVICES, device);
    let Some(host) = state.later.create_render_pass2 else { return vk::Result::ERROR_UNKNOWN };
    // SAFETY: valid usage.
    let result = unsafe { host(device, info, allocator, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: valid usage, and written by the host.
        unsafe { state.render_passes.insert(*out, Arc::new(render_pass2(&*info))) };
    }
    result
}

/// `vkDestroyRenderPass`
pub(super) unsafe extern "system" fn destroy_render_pass(
    device: vk::Device,
    pass: vk::RenderPass,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let state = state!(DEVICES, device; void);
    state.render_passes.remove(pass);
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().destroy_render_pass)(device, pass, allocator) };
}

/// `vkCreateFramebuffer`
pub(super) unsafe extern "system" fn create_framebuffer(
    device: vk::Device,
    info: *const vk::FramebufferCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::Framebuffer,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().create_framebuffer)(device, info, allocator, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: valid usage.
        let info = unsafe { &*info };
        let views = match info.flags.contains(vk::FramebufferCreateFlags::IMAGELESS) {
            true => &[],
            // SAFETY: valid usage.
            false => unsafe { slice(info.p_attachments, info.attachment_count) },
        };
        // SAFETY: written by the host.
        state.framebuffers.insert(unsafe { *out }, Arc::new(Framebuffer { views: views.into() }));
    }
    result
}

/// `vkDestroyFramebuffer`
pub(super) unsafe extern "system" fn destroy_framebuffer(
    device: vk::Device,
    framebuffer: vk::Framebuffer,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let state = state!(DEVICES, device; void);
    state.framebuffers.remove(framebuffer);
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().destroy_framebuffer)(device, framebuffer, allocator) };
}

/// `vkCreateQueryPool`
pub(super) unsafe extern "system" fn create_query_pool(
    device: vk::Device,
    info: *const vk::QueryPoolCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::QueryPool,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().create_query_pool)(device, info, allocator, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: valid usage, and written by the host.
        unsafe { state.query_pools.insert(*out, Arc::new(QueryPool::new(&*info))) };
    }
    result
}

/// `vkDestroyQueryPool`
pub(super) unsafe extern "system" fn destroy_query_pool(
    device: vk::Device,
    pool: vk::QueryPool,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let state = state!(DEVICES, device; void);
    state.query_pools.remove(pool);
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().destroy_query_pool)(device, pool, allocator) };
}
