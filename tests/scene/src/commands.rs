//! Recording commands: one method for each thing that the scene asks of the device.

use anyhow::{Context, Result};
use ash::vk;

use crate::gpu::Gpu;

/// A command buffer being recorded.
///
/// # Invariants
/// `raw` is in the recording state and was made by `gpu`. What is recorded outlives the execution, since
/// every submission is waited for before anything is dropped.
pub(crate) struct Recorder<'a> {
    gpu: &'a Gpu,
    raw: vk::CommandBuffer,
}

impl<'a> Recorder<'a> {
    /// Starts recording over what the command buffer held.
    pub(crate) fn begin(gpu: &'a Gpu, raw: vk::CommandBuffer) -> Result<Self> {
        let once = vk::CommandBufferBeginInfo::default().flags(vk::CommandBufferUsageFlags::ONE_TIME_SUBMIT);
        // SAFETY: The pool allows resetting, and the last submission was waited for.
        unsafe { gpu.device.begin_command_buffer(raw, &once) }.context("beginning a command buffer")?;
        // INVARIANT: Begun just now.
        Ok(Self { gpu, raw })
    }

    pub(crate) fn end(self) -> Result<vk::CommandBuffer> {
        // SAFETY: By the type invariants.
        unsafe { self.gpu.device.end_command_buffer(self.raw) }.context("ending a command buffer")?;
        Ok(self.raw)
    }

    /// Fills a buffer with zeros.
    pub(crate) fn clear(&self, buffer: vk::Buffer) {
        // SAFETY: By the type invariants; the buffer is a transfer destination.
        unsafe { self.gpu.device.cmd_fill_buffer(self.raw, buffer, 0, vk::WHOLE_SIZE, 0) };
    }

    pub(crate) fn copy(&self, from: vk::Buffer, to: vk::Buffer, size: u64) {
        let region = vk::BufferCopy { size, ..vk::BufferCopy::default() };
        // SAFETY: By the type invariants; both buffers hold `size` bytes.
        unsafe { self.gpu.device.cmd_copy_buffer(self.raw, from, to, &[region]) };
    }

    /// Orders accesses to memory, from stage and access to stage and access.
    pub(crate) fn barrier(
        &self,
        (from, written): (vk::PipelineStageFlags, vk::AccessFlags),
        (to, read): (vk::PipelineStageFlags, vk::AccessFlags),
    ) {
        let memory = [vk::MemoryBarrier::default().src_access_mask(written).dst_access_mask(read)];
        let none = vk::DependencyFlags::empty();
        // SAFETY: By the type invariants; outside a render pass.
        unsafe { self.gpu.device.cmd_pipeline_barrier(self.raw, from, to, none, &memory, &[], &[]) };
    }

    pub(crate) fn bind(
        &self,
        point: vk::PipelineBindPoint,
        layout: vk::PipelineLayout,
        set: vk::DescriptorSet,
    ) {
        let device = &self.gpu.device;
        // SAFETY: By the type invariants; the set was made for this layout.
        unsafe { device.cmd_bind_descriptor_sets(self.raw, point, layout, 0, &[set], &[]) };
    }

    pub(crate) fn pipeline(&self, point: vk::PipelineBindPoint, pipeline: vk::Pipeline) {
        // SAFETY: By the type invariants; the pipeline is of this kind.
        unsafe { self.gpu.device.cmd_bind_pipeline(self.raw, point, pipeline) };
    }

    pub(crate) fn dispatch(&self, groups: u32) {
        // SAFETY: By the type invariants; a compute pipeline and its set are bound.
        unsafe { self.gpu.device.cmd_dispatch(self.raw, groups, 1, 1) };
    }

    pub(crate) fn begin_render_pass(&self, info: &vk::RenderPassBeginInfo<'_>) {
        let inline = vk::SubpassContents::INLINE;
        // SAFETY: By the type invariants; `info` and what it points to are alive.
        unsafe { self.gpu.device.cmd_begin_render_pass(self.raw, info, inline) };
    }

    pub(crate) fn end_render_pass(&self) {
        // SAFETY: By the type invariants; inside a render pass.
        unsafe { self.gpu.device.cmd_end_render_pass(self.raw) };
    }

    pub(crate) fn vertices(&self, buffer: vk::Buffer) {
        // SAFETY: By the type invariants; the buffer is a vertex buffer.
        unsafe { self.gpu.device.cmd_bind_vertex_buffers(self.raw, 0, &[buffer], &[0]) };
    }

    /// Draws a mesh of triangles with 32-bit indices.
    pub(crate) fn draw_mesh(&self, indices: vk::Buffer, count: u32) {
        let kind = vk::IndexType::UINT32;
        // SAFETY: By the type invariants; the buffer is an index buffer.
        unsafe { self.gpu.device.cmd_bind_index_buffer(self.raw, indices, 0, kind) };
        // SAFETY: By the type invariants; a graphics pipeline and all it needs are bound.
        unsafe { self.gpu.device.cmd_draw_indexed(self.raw, count, 1, 0, 0, 0) };
    }

    /// Draws a square for each of `count` instances from `first` on.
    pub(crate) fn draw_squares(&self, first: u32, count: u32) {
        // SAFETY: By the type invariants; a graphics pipeline and all it needs are bound.
        unsafe { self.gpu.device.cmd_draw(self.raw, 6, count, 0, first) };
    }

    /// Moves a swapchain's image to another layout, around transfers to it.
    pub(crate) fn change_layout(&self, image: vk::Image, from: vk::ImageLayout, to: vk::ImageLayout) {
        let transfer = vk::PipelineStageFlags::TRANSFER;
        let (next, before, after) = if to == vk::ImageLayout::PRESENT_SRC_KHR {
            (
                vk::PipelineStageFlags::BOTTOM_OF_PIPE,
                vk::AccessFlags::TRANSFER_WRITE,
                vk::AccessFlags::empty(),
            )
        } else {
            (transfer, vk::AccessFlags::empty(), vk::AccessFlags::TRANSFER_WRITE)
        };
        let range = vk::ImageSubresourceRange::default()
            .aspect_mask(vk::ImageAspectFlags::COLOR)
            .level_count(1)
            .layer_count(1);
        let barriers = [vk::ImageMemoryBarrier::default()
            .image(image)
            .old_layout(from)
            .new_layout(to)
            .src_access_mask(before)
            .dst_access_mask(after)
            .src_queue_family_index(vk::QUEUE_FAMILY_IGNORED)
            .dst_queue_family_index(vk::QUEUE_FAMILY_IGNORED)
            .subresource_range(range)];
        let none = vk::DependencyFlags::empty();
        let device = &self.gpu.device;
        // SAFETY: By the type invariants; outside a render pass.
        unsafe { device.cmd_pipeline_barrier(self.raw, transfer, next, none, &[], &[], &barriers) };
    }

    /// Copies the picture to a swapchain's image, stretched to its size.
    pub(crate) fn blit(&self, from: vk::Image, to: vk::Image, region: vk::ImageBlit) {
        let (source, target) = (vk::ImageLayout::TRANSFER_SRC_OPTIMAL, vk::ImageLayout::TRANSFER_DST_OPTIMAL);
        // Every driver can filter the picture's format.
        let filter = vk::Filter::LINEAR;
        let device = &self.gpu.device;
        // SAFETY: By the type invariants; the images are in these layouts and their formats can be blitted.
        unsafe { device.cmd_blit_image(self.raw, from, source, to, target, &[region], filter) };
    }

    /// Copies the picture to a buffer.
    pub(crate) fn read_image(&self, from: vk::Image, to: vk::Buffer, region: vk::BufferImageCopy) {
        let layout = vk::ImageLayout::TRANSFER_SRC_OPTIMAL;
        // SAFETY: By the type invariants; the image is in this layout and the buffer holds the region.
        unsafe { self.gpu.device.cmd_copy_image_to_buffer(self.raw, from, layout, to, &[region]) };
    }
}
