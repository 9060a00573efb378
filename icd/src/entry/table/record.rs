//! Commands that record, and what they need to know.

use ash::vk;

use super::{Command, Level, command};
use crate::entry::command::{barrier, bind, buffer, draw, pass, transfer};
use crate::entry::pass as passes;

/// Rows for a command and its names from extensions.
macro_rules! rows {
    ($($function:path, $pfn:ident: $($name:literal)+;)*) => {
        &[$($(command!($name, Device, $function, $pfn),)+)*]
    };
}

pub(super) const COMMANDS: &[Command] = rows! {
    buffer::destroy_command_pool, PFN_vkDestroyCommandPool: c"vkDestroyCommandPool";
    buffer::allocate_command_buffers, PFN_vkAllocateCommandBuffers: c"vkAllocateCommandBuffers";
    buffer::free_command_buffers, PFN_vkFreeCommandBuffers: c"vkFreeCommandBuffers";
    buffer::begin_command_buffer, PFN_vkBeginCommandBuffer: c"vkBeginCommandBuffer";
    buffer::end_command_buffer, PFN_vkEndCommandBuffer: c"vkEndCommandBuffer";
    buffer::cmd_execute_commands, PFN_vkCmdExecuteCommands: c"vkCmdExecuteCommands";

    passes::create_render_pass, PFN_vkCreateRenderPass: c"vkCreateRenderPass";
    passes::create_render_pass2, PFN_vkCreateRenderPass2: c"vkCreateRenderPass2" c"vkCreateRenderPass2KHR";
    passes::destroy_render_pass, PFN_vkDestroyRenderPass: c"vkDestroyRenderPass";
    passes::create_framebuffer, PFN_vkCreateFramebuffer: c"vkCreateFramebuffer";
    passes::destroy_framebuffer, PFN_vkDestroyFramebuffer: c"vkDestroyFramebuffer";
    passes::create_query_pool, PFN_vkCreateQueryPool: c"vkCreateQueryPool";
    passes::destroy_query_pool, PFN_vkDestroyQueryPool: c"vkDestroyQueryPool";
    pass::cmd_begin_render_pass, PFN_vkCmdBeginRenderPass: c"vkCmdBeginRenderPass";
    pass::cmd_begin_render_pass2, PFN_vkCmdBeginRenderPass2:
        c"vkCmdBeginRenderPass2" c"vkCmdBeginRenderPass2KHR";
    pass::cmd_begin_rendering, PFN_vkCmdBeginRendering: c"vkCmdBeginRendering" c"vkCmdBeginRenderingKHR";

    transfer::cmd_copy_buffer, PFN_vkCmdCopyBuffer: c"vkCmdCopyBuffer";
    transfer::cmd_copy_buffer2, PFN_vkCmdCopyBuffer2: c"vkCmdCopyBuffer2" c"vkCmdCopyBuffer2KHR";
    transfer::cmd_copy_image, PFN_vkCmdCopyImage: c"vkCmdCopyImage";
    transfer::cmd_copy_image2, PFN_vkCmdCopyImage2: c"vkCmdCopyImage2" c"vkCmdCopyImage2KHR";
    transfer::cmd_blit_image, PFN_vkCmdBlitImage: c"vkCmdBlitImage";
    transfer::cmd_blit_image2, PFN_vkCmdBlitImage2: c"vkCmdBlitImage2" c"vkCmdBlitImage2KHR";
    transfer::cmd_resolve_image, PFN_vkCmdResolveImage: c"vkCmdResolveImage";
    transfer::cmd_resolve_image2, PFN_vkCmdResolveImage2: c"vkCmdResolveImage2" c"vkCmdResolveImage2KHR";
    transfer::cmd_copy_buffer_to_image, PFN_vkCmdCopyBufferToImage: c"vkCmdCopyBufferToImage";
    transfer::cmd_copy_buffer_to_image2, PFN_vkCmdCopyBufferToImage2:
        c"vkCmdCopyBufferToImage2" c"vkCmdCopyBufferToImage2KHR";
    transfer::cmd_copy_image_to_buffer, PFN_vkCmdCopyImageToBuffer: c"vkCmdCopyImageToBuffer";
    transfer::cmd_copy_image_to_buffer2, PFN_vkCmdCopyImageToBuffer2:
        c"vkCmdCopyImageToBuffer2" c"vkCmdCopyImageToBuffer2KHR";
    transfer::cmd_update_buffer, PFN_vkCmdUpdateBuffer: c"vkCmdUpdateBuffer";
    transfer::cmd_fill_buffer, PFN_vkCmdFillBuffer: c"vkCmdFillBuffer";
    transfer::cmd_clear_color_image, PFN_vkCmdClearColorImage: c"vkCmdClearColorImage";
    transfer::cmd_clear_depth_stencil_image, PFN_vkCmdClearDepthStencilImage: c"vkCmdClearDepthStencilImage";
    transfer::cmd_copy_query_pool_results, PFN_vkCmdCopyQueryPoolResults: c"vkCmdCopyQueryPoolResults";
    transfer::cmd_write_buffer_marker, PFN_vkCmdWriteBufferMarkerAMD: c"vkCmdWriteBufferMarkerAMD";
    transfer::cmd_write_buffer_marker2, PFN_vkCmdWriteBufferMarker2AMD: c"vkCmdWriteBufferMarker2AMD";

    barrier::cmd_pipeline_barrier, PFN_vkCmdPipelineBarrier: c"vkCmdPipelineBarrier";
    barrier::cmd_pipeline_barrier2, PFN_vkCmdPipelineBarrier2:
        c"vkCmdPipelineBarrier2" c"vkCmdPipelineBarrier2KHR";
    barrier::cmd_wait_events, PFN_vkCmdWaitEvents: c"vkCmdWaitEvents";
    barrier::cmd_wait_events2, PFN_vkCmdWaitEvents2: c"vkCmdWaitEvents2" c"vkCmdWaitEvents2KHR";

    bind::cmd_bind_pipeline, PFN_vkCmdBindPipeline: c"vkCmdBindPipeline";
    bind::cmd_bind_shaders, PFN_vkCmdBindShadersEXT: c"vkCmdBindShadersEXT";
    bind::cmd_bind_descriptor_sets, PFN_vkCmdBindDescriptorSets: c"vkCmdBindDescriptorSets";
    bind::cmd_bind_descriptor_sets2, PFN_vkCmdBindDescriptorSets2KHR: c"vkCmdBindDescriptorSets2KHR";
    bind::cmd_push_descriptor_set, PFN_vkCmdPushDescriptorSetKHR: c"vkCmdPushDescriptorSetKHR";
    bind::cmd_push_descriptor_set2, PFN_vkCmdPushDescriptorSet2KHR: c"vkCmdPushDescriptorSet2KHR";
    bind::cmd_push_descriptor_set_with_template, PFN_vkCmdPushDescriptorSetWithTemplateKHR:
        c"vkCmdPushDescriptorSetWithTemplateKHR";
    bind::cmd_push_descriptor_set_with_template2, PFN_vkCmdPushDescriptorSetWithTemplate2KHR:
        c"vkCmdPushDescriptorSetWithTemplate2KHR";
    bind::cmd_bind_descriptor_buffers, PFN_vkCmdBindDescriptorBuffersEXT: c"vkCmdBindDescriptorBuffersEXT";
    bind::cmd_bind_transform_feedback_buffers, PFN_vkCmdBindTransformFeedbackBuffersEXT:
        c"vkCmdBindTransformFeedbackBuffersEXT";
    bind::cmd_end_transform_feedback, PFN_vkCmdEndTransformFeedbackEXT: c"vkCmdEndTransformFeedbackEXT";

    draw::cmd_draw, PFN_vkCmdDraw: c"vkCmdDraw";
    draw::cmd_draw_indexed, PFN_vkCmdDrawIndexed: c"vkCmdDrawIndexed";
    draw::cmd_draw_indirect, PFN_vkCmdDrawIndirect: c"vkCmdDrawIndirect";
    draw::cmd_draw_indexed_indirect, PFN_vkCmdDrawIndexedIndirect: c"vkCmdDrawIndexedIndirect";
    draw::cmd_draw_indirect_count, PFN_vkCmdDrawIndirectCount:
        c"vkCmdDrawIndirectCount" c"vkCmdDrawIndirectCountKHR" c"vkCmdDrawIndirectCountAMD";
    draw::cmd_draw_indexed_indirect_count, PFN_vkCmdDrawIndexedIndirectCount:
        c"vkCmdDrawIndexedIndirectCount" c"vkCmdDrawIndexedIndirectCountKHR"
        c"vkCmdDrawIndexedIndirectCountAMD";
    draw::cmd_draw_indirect_byte_count, PFN_vkCmdDrawIndirectByteCountEXT: c"vkCmdDrawIndirectByteCountEXT";
    draw::cmd_draw_multi, PFN_vkCmdDrawMultiEXT: c"vkCmdDrawMultiEXT";
    draw::cmd_draw_multi_indexed, PFN_vkCmdDrawMultiIndexedEXT: c"vkCmdDrawMultiIndexedEXT";
    draw::cmd_draw_mesh_tasks, PFN_vkCmdDrawMeshTasksEXT: c"vkCmdDrawMeshTasksEXT";
    draw::cmd_draw_mesh_tasks_indirect, PFN_vkCmdDrawMeshTasksIndirectEXT: c"vkCmdDrawMeshTasksIndirectEXT";
    draw::cmd_draw_mesh_tasks_indirect_count, PFN_vkCmdDrawMeshTasksIndirectCountEXT:
        c"vkCmdDrawMeshTasksIndirectCountEXT";
    draw::cmd_dispatch, PFN_vkCmdDispatch: c"vkCmdDispatch";
    draw::cmd_dispatch_indirect, PFN_vkCmdDispatchIndirect: c"vkCmdDispatchIndirect";
    draw::cmd_dispatch_base, PFN_vkCmdDispatchBase: c"vkCmdDispatchBase" c"vkCmdDispatchBaseKHR";
    draw::cmd_trace_rays, PFN_vkCmdTraceRaysKHR: c"vkCmdTraceRaysKHR";
    draw::cmd_trace_rays_indirect, PFN_vkCmdTraceRaysIndirectKHR: c"vkCmdTraceRaysIndirectKHR";
    draw::cmd_trace_rays_indirect2, PFN_vkCmdTraceRaysIndirect2KHR: c"vkCmdTraceRaysIndirect2KHR";
    draw::cmd_build_acceleration_structures, PFN_vkCmdBuildAccelerationStructuresKHR:
        c"vkCmdBuildAccelerationStructuresKHR";
    draw::cmd_build_acceleration_structures_indirect, PFN_vkCmdBuildAccelerationStructuresIndirectKHR:
        c"vkCmdBuildAccelerationStructuresIndirectKHR";
    draw::cmd_copy_acceleration_structure, PFN_vkCmdCopyAccelerationStructureKHR:
        c"vkCmdCopyAccelerationStructureKHR";
    draw::cmd_copy_acceleration_structure_to_memory, PFN_vkCmdCopyAccelerationStructureToMemoryKHR:
        c"vkCmdCopyAccelerationStructureToMemoryKHR";
    draw::cmd_copy_memory_to_acceleration_structure, PFN_vkCmdCopyMemoryToAccelerationStructureKHR:
        c"vkCmdCopyMemoryToAccelerationStructureKHR";
};
