//! Copies, clears, query results and markers (specification chapters "Copy Commands", "Clear Commands",
//! "Queries").

#![allow(unsafe_code, reason = "entry points")]

use ash::vk;

use super::commands;
use crate::entry::slice;
use crate::record::recording::QueryCopy;

commands! {
    /// `vkCmdCopyBuffer`
    fn cmd_copy_buffer(source: vk::Buffer, target: vk::Buffer, count: u32, regions: *const vk::BufferCopy)
        as copy_buffer |recording|
        for region in slice(regions, count) {
            recording.write_buffer(target, region.dst_offset, region.size);
        };

    /// `vkCmdCopyBuffer2`
    fn cmd_copy_buffer2(info: *const vk::CopyBufferInfo2<'_>) as copy_buffer2 |recording|
        for region in slice((*info).p_regions, (*info).region_count) {
            recording.write_buffer((*info).dst_buffer, region.dst_offset, region.size);
        };

    /// `vkCmdCopyImage`
    fn cmd_copy_image(
        source: vk::Image,
        source_layout: vk::ImageLayout,
        target: vk::Image,
        target_layout: vk::ImageLayout,
        count: u32,
        regions: *const vk::ImageCopy,
    ) as copy_image |recording|
        for region in slice(regions, count) {
            recording.write_layers(target, &region.dst_subresource);
        };

    /// `vkCmdCopyImage2`
    fn cmd_copy_image2(info: *const vk::CopyImageInfo2<'_>) as copy_image2 |recording|
        for region in slice((*info).p_regions, (*info).region_count) {
            recording.write_layers((*info).dst_image, &region.dst_subresource);
        };

    /// `vkCmdBlitImage`
    fn cmd_blit_image(
        source: vk::Image,
        source_layout: vk::ImageLayout,
        target: vk::Image,
        target_layout: vk::ImageLayout,
        count: u32,
        regions: *const vk::ImageBlit,
        filter: vk::Filter,
    ) as blit_image |recording|
        for region in slice(regions, count) {
            recording.write_layers(target, &region.dst_subresource);
        };

    /// `vkCmdBlitImage2`
    fn cmd_blit_image2(info: *const vk::BlitImageInfo2<'_>) as blit_image2 |recording|
        for region in slice((*info).p_regions, (*info).region_count) {
            recording.write_layers((*info).dst_image, &region.dst_subresource);
        };

    /// `vkCmdResolveImage`
    fn cmd_resolve_image(
        source: vk::Image,
        source_layout: vk::ImageLayout,
        target: vk::Image,
        target_layout: vk::ImageLayout,
        count: u32,
        regions: *const vk::ImageResolve,
    ) as resolve_image |recording|
        for region in slice(regions, count) {
            recording.write_layers(target, &region.dst_subresource);
        };

    /// `vkCmdResolveImage2`
    fn cmd_resolve_image2(info: *const vk::ResolveImageInfo2<'_>) as resolve_image2 |recording|
        for region in slice((*info).p_regions, (*info).region_count) {
            recording.write_layers((*info).dst_image, &region.dst_subresource);
        };

    /// `vkCmdCopyBufferToImage`
    fn cmd_copy_buffer_to_image(
        source: vk::Buffer,
        target: vk::Image,
        target_layout: vk::ImageLayout,
        count: u32,
        regions: *const vk::BufferImageCopy,
    ) as copy_buffer_to_image |recording|
        for region in slice(regions, count) {
            recording.write_layers(target, &region.image_subresource);
        };

    /// `vkCmdCopyBufferToImage2`
    fn cmd_copy_buffer_to_image2(info: *const vk::CopyBufferToImageInfo2<'_>)
        as copy_buffer_to_image2 |recording|
        for region in slice((*info).p_regions, (*info).region_count) {
            recording.write_layers((*info).dst_image, &region.image_subresource);
        };

    /// `vkCmdCopyImageToBuffer`
    fn cmd_copy_image_to_buffer(
        source: vk::Image,
        source_layout: vk::ImageLayout,
        target: vk::Buffer,
        count: u32,
        regions: *const vk::BufferImageCopy,
    ) as copy_image_to_buffer |recording|
        for region in slice(regions, count) {
            recording.copy_image_to_buffer(source, target, *region);
        };

    /// `vkCmdCopyImageToBuffer2`
    fn cmd_copy_image_to_buffer2(info: *const vk::CopyImageToBufferInfo2<'_>)
        as copy_image_to_buffer2 |recording|
        for region in slice((*info).p_regions, (*info).region_count) {
            let first = vk::BufferImageCopy {
                buffer_offset: region.buffer_offset,
                buffer_row_length: region.buffer_row_length,
                buffer_image_height: region.buffer_image_height,
                image_subresource: region.image_subresource,
                image_offset: region.image_offset,
                image_extent: region.image_extent,
            };
            recording.copy_image_to_buffer((*info).src_image, (*info).dst_buffer, first);
        };

    /// `vkCmdUpdateBuffer`
    fn cmd_update_buffer(buffer: vk::Buffer, offset: u64, size: u64, data: *const std::ffi::c_void)
        as update_buffer |recording|
        recording.write_buffer(buffer, offset, size);

    /// `vkCmdFillBuffer`
    fn cmd_fill_buffer(buffer: vk::Buffer, offset: u64, size: u64, data: u32) as fill_buffer |recording|
        recording.fill_buffer(buffer, offset, size);

    /// `vkCmdClearColorImage`
    fn cmd_clear_color_image(
        image: vk::Image,
        layout: vk::ImageLayout,
        color: *const vk::ClearColorValue,
        count: u32,
        ranges: *const vk::ImageSubresourceRange,
    ) as clear_color_image |recording|
        for range in slice(ranges, count) {
            recording.write_image(image, *range);
        };

    /// `vkCmdClearDepthStencilImage`
    fn cmd_clear_depth_stencil_image(
        image: vk::Image,
        layout: vk::ImageLayout,
        value: *const vk::ClearDepthStencilValue,
        count: u32,
        ranges: *const vk::ImageSubresourceRange,
    ) as clear_depth_stencil_image |recording|
        for range in slice(ranges, count) {
            recording.write_image(image, *range);
        };

    /// `vkCmdCopyQueryPoolResults`
    fn cmd_copy_query_pool_results(
        pool: vk::QueryPool,
        first: u32,
        count: u32,
        buffer: vk::Buffer,
        offset: u64,
        stride: u64,
        flags: vk::QueryResultFlags,
    ) as copy_query_pool_results |recording|
        recording.copy_queries(QueryCopy { buffer, offset, stride, count, pool, flags });

    /// `vkCmdWriteBufferMarkerAMD`
    fn cmd_write_buffer_marker(stage: vk::PipelineStageFlags, buffer: vk::Buffer, offset: u64, marker: u32)
        as write_buffer_marker |recording|
        recording.write_buffer(buffer, offset, size_of::<u32>() as u64);

    /// `vkCmdWriteBufferMarker2AMD`
    fn cmd_write_buffer_marker2(stage: vk::PipelineStageFlags2, buffer: vk::Buffer, offset: u64, marker: u32)
        as write_buffer_marker2 |recording|
        recording.write_buffer(buffer, offset, size_of::<u32>() as u64);
}
