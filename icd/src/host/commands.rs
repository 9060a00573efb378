//! The host's functions that record, and that polls a fence, as one table that all devices share.
//!
//! These are the hot paths of a driver, and an intercepted command ends in the host's own function. Where
//! all devices of the process have the same functions, as those of one host driver have, it is found without
//! knowing the command buffer's device.

#![allow(unsafe_code, reason = "function pointers of many types in one table")]

use std::ffi::CStr;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use ash::vk;

use crate::instance::load;

/// Declares the table: each function, its type, and the names it may have.
macro_rules! commands {
    ($($field:ident: $pfn:ident = $($name:literal)+;)*) => {
        /// The host's functions on hot paths that Lockstep intercepts.
        #[derive(Clone, Copy)]
        pub struct Commands {
            $(
                #[doc = concat!("`", $(stringify!($name), "` `",)+ "`")]
                pub $field: Option<vk::$pfn>,
            )*
        }

        impl Commands {
            /// Asks for each function by its names.
            pub fn load(get: impl Fn(&CStr) -> vk::PFN_vkVoidFunction) -> Self {
                // SAFETY: each name stands for the type of its member.
                unsafe { Self { $($field: load(&get, &[$($name),+]),)* } }
            }

            fn addresses(&self) -> Vec<Option<usize>> {
                vec![$(self.$field.map(|function| function as usize),)*]
            }
        }
    };
}

commands! {
    get_fence_status: PFN_vkGetFenceStatus = c"vkGetFenceStatus";
    begin: PFN_vkBeginCommandBuffer = c"vkBeginCommandBuffer";
    end: PFN_vkEndCommandBuffer = c"vkEndCommandBuffer";

    copy_buffer: PFN_vkCmdCopyBuffer = c"vkCmdCopyBuffer";
    copy_buffer2: PFN_vkCmdCopyBuffer2 = c"vkCmdCopyBuffer2" c"vkCmdCopyBuffer2KHR";
    copy_image: PFN_vkCmdCopyImage = c"vkCmdCopyImage";
    copy_image2: PFN_vkCmdCopyImage2 = c"vkCmdCopyImage2" c"vkCmdCopyImage2KHR";
    blit_image: PFN_vkCmdBlitImage = c"vkCmdBlitImage";
    blit_image2: PFN_vkCmdBlitImage2 = c"vkCmdBlitImage2" c"vkCmdBlitImage2KHR";
    resolve_image: PFN_vkCmdResolveImage = c"vkCmdResolveImage";
    resolve_image2: PFN_vkCmdResolveImage2 = c"vkCmdResolveImage2" c"vkCmdResolveImage2KHR";
    copy_buffer_to_image: PFN_vkCmdCopyBufferToImage = c"vkCmdCopyBufferToImage";
    copy_buffer_to_image2: PFN_vkCmdCopyBufferToImage2 =
        c"vkCmdCopyBufferToImage2" c"vkCmdCopyBufferToImage2KHR";
    copy_image_to_buffer: PFN_vkCmdCopyImageToBuffer = c"vkCmdCopyImageToBuffer";
    copy_image_to_buffer2: PFN_vkCmdCopyImageToBuffer2 =
        c"vkCmdCopyImageToBuffer2" c"vkCmdCopyImageToBuffer2KHR";
    update_buffer: PFN_vkCmdUpdateBuffer = c"vkCmdUpdateBuffer";
    fill_buffer: PFN_vkCmdFillBuffer = c"vkCmdFillBuffer";
    clear_color_image: PFN_vkCmdClearColorImage = c"vkCmdClearColorImage";
    clear_depth_stencil_image: PFN_vkCmdClearDepthStencilImage = c"vkCmdClearDepthStencilImage";
    copy_query_pool_results: PFN_vkCmdCopyQueryPoolResults = c"vkCmdCopyQueryPoolResults";
    write_buffer_marker: PFN_vkCmdWriteBufferMarkerAMD = c"vkCmdWriteBufferMarkerAMD";
    write_buffer_marker2: PFN_vkCmdWriteBufferMarker2AMD = c"vkCmdWriteBufferMarker2AMD";

    pipeline_barrier: PFN_vkCmdPipelineBarrier = c"vkCmdPipelineBarrier";
    pipeline_barrier2: PFN_vkCmdPipelineBarrier2 = c"vkCmdPipelineBarrier2" c"vkCmdPipelineBarrier2KHR";
    wait_events: PFN_vkCmdWaitEvents = c"vkCmdWaitEvents";
    wait_events2: PFN_vkCmdWaitEvents2 = c"vkCmdWaitEvents2" c"vkCmdWaitEvents2KHR";

    bind_pipeline: PFN_vkCmdBindPipeline = c"vkCmdBindPipeline";
    bind_shaders: PFN_vkCmdBindShadersEXT = c"vkCmdBindShadersEXT";
    bind_descriptor_sets: PFN_vkCmdBindDescriptorSets = c"vkCmdBindDescriptorSets";
    bind_descriptor_sets2: PFN_vkCmdBindDescriptorSets2KHR = c"vkCmdBindDescriptorSets2KHR";
    push_descriptor_set: PFN_vkCmdPushDescriptorSetKHR = c"vkCmdPushDescriptorSetKHR";
    push_descriptor_set2: PFN_vkCmdPushDescriptorSet2KHR = c"vkCmdPushDescriptorSet2KHR";
    push_descriptor_set_with_template: PFN_vkCmdPushDescriptorSetWithTemplateKHR =
        c"vkCmdPushDescriptorSetWithTemplateKHR";
    push_descriptor_set_with_template2: PFN_vkCmdPushDescriptorSetWithTemplate2KHR =
        c"vkCmdPushDescriptorSetWithTemplate2KHR";
    bind_descriptor_buffers: PFN_vkCmdBindDescriptorBuffersEXT = c"vkCmdBindDescriptorBuffersEXT";
    bind_transform_feedback_buffers: PFN_vkCmdBindTransformFeedbackBuffersEXT =
        c"vkCmdBindTransformFeedbackBuffersEXT";
    end_transform_feedback: PFN_vkCmdEndTransformFeedbackEXT = c"vkCmdEndTransformFeedbackEXT";

    draw: PFN_vkCmdDraw = c"vkCmdDraw";
    draw_indexed: PFN_vkCmdDrawIndexed = c"vkCmdDrawIndexed";
    draw_indirect: PFN_vkCmdDrawIndirect = c"vkCmdDrawIndirect";
    draw_indexed_indirect: PFN_vkCmdDrawIndexedIndirect = c"vkCmdDrawIndexedIndirect";
    draw_indirect_count: PFN_vkCmdDrawIndirectCount =
        c"vkCmdDrawIndirectCount" c"vkCmdDrawIndirectCountKHR" c"vkCmdDrawIndirectCountAMD";
    draw_indexed_indirect_count: PFN_vkCmdDrawIndexedIndirectCount =
        c"vkCmdDrawIndexedIndirectCount" c"vkCmdDrawIndexedIndirectCountKHR" c"vkCmdDrawIndexedIndirectCountAMD";
    draw_indirect_byte_count: PFN_vkCmdDrawIndirectByteCountEXT = c"vkCmdDrawIndirectByteCountEXT";
    draw_multi: PFN_vkCmdDrawMultiEXT = c"vkCmdDrawMultiEXT";
    draw_multi_indexed: PFN_vkCmdDrawMultiIndexedEXT = c"vkCmdDrawMultiIndexedEXT";
    draw_mesh_tasks: PFN_vkCmdDrawMeshTasksEXT = c"vkCmdDrawMeshTasksEXT";
    draw_mesh_tasks_indirect: PFN_vkCmdDrawMeshTasksIndirectEXT = c"vkCmdDrawMeshTasksIndirectEXT";
    draw_mesh_tasks_indirect_count: PFN_vkCmdDrawMeshTasksIndirectCountEXT =
        c"vkCmdDrawMeshTasksIndirectCountEXT";
    dispatch: PFN_vkCmdDispatch = c"vkCmdDispatch";
    dispatch_indirect: PFN_vkCmdDispatchIndirect = c"vkCmdDispatchIndirect";
    dispatch_base: PFN_vkCmdDispatchBase = c"vkCmdDispatchBase" c"vkCmdDispatchBaseKHR";
    trace_rays: PFN_vkCmdTraceRaysKHR = c"vkCmdTraceRaysKHR";
    trace_rays_indirect: PFN_vkCmdTraceRaysIndirectKHR = c"vkCmdTraceRaysIndirectKHR";
    trace_rays_indirect2: PFN_vkCmdTraceRaysIndirect2KHR = c"vkCmdTraceRaysIndirect2KHR";

    begin_render_pass: PFN_vkCmdBeginRenderPass = c"vkCmdBeginRenderPass";
    begin_render_pass2: PFN_vkCmdBeginRenderPass2 = c"vkCmdBeginRenderPass2" c"vkCmdBeginRenderPass2KHR";
    begin_rendering: PFN_vkCmdBeginRendering = c"vkCmdBeginRendering" c"vkCmdBeginRenderingKHR";
    execute_commands: PFN_vkCmdExecuteCommands = c"vkCmdExecuteCommands";

    build_acceleration_structures: PFN_vkCmdBuildAccelerationStructuresKHR =
        c"vkCmdBuildAccelerationStructuresKHR";
    build_acceleration_structures_indirect: PFN_vkCmdBuildAccelerationStructuresIndirectKHR =
        c"vkCmdBuildAccelerationStructuresIndirectKHR";
    copy_acceleration_structure: PFN_vkCmdCopyAccelerationStructureKHR =
        c"vkCmdCopyAccelerationStructureKHR";
    copy_acceleration_structure_to_memory: PFN_vkCmdCopyAccelerationStructureToMemoryKHR =
        c"vkCmdCopyAccelerationStructureToMemoryKHR";
    copy_memory_to_acceleration_structure: PFN_vkCmdCopyMemoryToAccelerationStructureKHR =
        c"vkCmdCopyMemoryToAccelerationStructureKHR";
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let there = self.addresses().iter().flatten().count();
        f.debug_struct("Commands").field("there", &there).finish()
    }
}

/// The functions of the first device, and of all as long as they are the same. Never freed.
static SHARED: AtomicPtr<Commands> = AtomicPtr::new(null_mut());
/// Some device has others.
static DIFFER: AtomicBool = AtomicBool::new(false);

impl Commands {
    /// Makes the functions of a new device known, before it has command buffers. They live for ever, as the
    /// host driver does.
    pub fn announce(self) -> &'static Self {
        let ours: &'static Self = Box::leak(Box::new(self));
        let pointer = std::ptr::from_ref(ours).cast_mut();
        // Releases the table to the threads that will record.
        match SHARED.compare_exchange(null_mut(), pointer, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => ours,
            Err(first) => {
                // SAFETY: only leaked tables are stored.
                let first = unsafe { &*first };
                if first.addresses() == ours.addresses() {
                    // SAFETY: made from this box above, and seen by nobody.
                    drop(unsafe { Box::from_raw(pointer) });
                    return first;
                }
                DIFFER.store(true, Ordering::Release);
                ours
            }
        }
    }

    /// The functions of every device, if all have the same.
    pub fn shared() -> Option<&'static Self> {
        if DIFFER.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: null or a leaked table.
        unsafe { SHARED.load(Ordering::Acquire).as_ref() }
    }
}
