//! The host's functions of versions after 1.0, under their own or an extension's name.

#![allow(unsafe_code, reason = "function pointers of many types")]

use std::ffi::CStr;

use ash::vk;

use crate::instance::load;
use crate::transport::dma::Functions;

/// The functions; `None` where the device does not have one.
pub(crate) struct LaterFns {
    /// `vkBindBufferMemory2`
    pub bind_buffer_memory2: Option<vk::PFN_vkBindBufferMemory2>,
    /// `vkBindImageMemory2`
    pub bind_image_memory2: Option<vk::PFN_vkBindImageMemory2>,
    /// `vkGetBufferMemoryRequirements2`
    pub buffer_requirements2: Option<vk::PFN_vkGetBufferMemoryRequirements2>,
    /// `vkGetImageMemoryRequirements2`
    pub image_requirements2: Option<vk::PFN_vkGetImageMemoryRequirements2>,
    /// `vkGetDeviceBufferMemoryRequirements`
    pub device_buffer_requirements: Option<vk::PFN_vkGetDeviceBufferMemoryRequirements>,
    /// `vkGetDeviceImageMemoryRequirements`
    pub device_image_requirements: Option<vk::PFN_vkGetDeviceImageMemoryRequirements>,
    /// `vkGetBufferDeviceAddress`
    pub get_buffer_device_address: Option<vk::PFN_vkGetBufferDeviceAddress>,
    /// `vkCreateDescriptorUpdateTemplate`
    pub create_update_template: Option<vk::PFN_vkCreateDescriptorUpdateTemplate>,
    /// `vkDestroyDescriptorUpdateTemplate`
    pub destroy_update_template: Option<vk::PFN_vkDestroyDescriptorUpdateTemplate>,
    /// `vkUpdateDescriptorSetWithTemplate`
    pub update_with_template: Option<vk::PFN_vkUpdateDescriptorSetWithTemplate>,
    /// `vkCreateRayTracingPipelinesKHR`
    pub create_ray_tracing_pipelines: Option<vk::PFN_vkCreateRayTracingPipelinesKHR>,
    /// `vkDeferredOperationJoinKHR`
    pub deferred_operation_join: Option<vk::PFN_vkDeferredOperationJoinKHR>,
    /// `vkGetDeferredOperationResultKHR`
    pub deferred_operation_result: Option<vk::PFN_vkGetDeferredOperationResultKHR>,
    /// `vkDestroyDeferredOperationKHR`
    pub destroy_deferred_operation: Option<vk::PFN_vkDestroyDeferredOperationKHR>,
    /// `vkCreateShadersEXT`
    pub create_shaders: Option<vk::PFN_vkCreateShadersEXT>,
    /// `vkDestroyShaderEXT`
    pub destroy_shader: Option<vk::PFN_vkDestroyShaderEXT>,
    /// `vkCreateRenderPass2`
    pub create_render_pass2: Option<vk::PFN_vkCreateRenderPass2>,
    /// `vkGetDeviceQueue2`
    pub get_device_queue2: Option<vk::PFN_vkGetDeviceQueue2>,
    /// `vkQueueSubmit2`
    pub queue_submit2: Option<vk::PFN_vkQueueSubmit2>,
    /// `vkWaitSemaphores`
    pub wait_semaphores: Option<vk::PFN_vkWaitSemaphores>,
    /// `vkGetSemaphoreCounterValue`
    pub get_semaphore_counter_value: Option<vk::PFN_vkGetSemaphoreCounterValue>,
    /// `vkSignalSemaphore`
    pub signal_semaphore: Option<vk::PFN_vkSignalSemaphore>,
    /// `vkQueuePresentKHR`
    pub queue_present: Option<vk::PFN_vkQueuePresentKHR>,
    /// `vkAcquireNextImageKHR`
    pub acquire_next_image: Option<vk::PFN_vkAcquireNextImageKHR>,
    /// `vkAcquireNextImage2KHR`
    pub acquire_next_image2: Option<vk::PFN_vkAcquireNextImage2KHR>,
    /// `vkWaitForPresentKHR`
    pub wait_for_present: Option<vk::PFN_vkWaitForPresentKHR>,
    /// `vkSetDebugUtilsObjectNameEXT`
    pub set_debug_utils_object_name: Option<vk::PFN_vkSetDebugUtilsObjectNameEXT>,
    /// `vkDebugMarkerSetObjectNameEXT`
    pub debug_marker_set_object_name: Option<vk::PFN_vkDebugMarkerSetObjectNameEXT>,
    /// `vkGetMemoryFdPropertiesKHR`
    pub memory_fd_properties: Option<vk::PFN_vkGetMemoryFdPropertiesKHR>,
    /// `vkGetMemoryHostPointerPropertiesEXT`
    pub memory_host_pointer_properties: Option<vk::PFN_vkGetMemoryHostPointerPropertiesEXT>,
}

impl LaterFns {
    /// Those that transport `dma` needs.
    pub(crate) fn for_dma(&self) -> Option<Functions> {
        Some(Functions {
            queue_submit2: self.queue_submit2?,
            wait_semaphores: self.wait_semaphores?,
            get_semaphore_counter_value: self.get_semaphore_counter_value?,
        })
    }

    /// Asks for each function by its names.
    pub(crate) fn load(get: impl Fn(&CStr) -> vk::PFN_vkVoidFunction) -> Self {
        // SAFETY: each name stands for the type of its member.
        unsafe {
            Self {
                bind_buffer_memory2: load(&get, &[c"vkBindBufferMemory2", c"vkBindBufferMemory2KHR"]),
                bind_image_memory2: load(&get, &[c"vkBindImageMemory2", c"vkBindImageMemory2KHR"]),
                buffer_requirements2: load(
                    &get,
                    &[c"vkGetBufferMemoryRequirements2", c"vkGetBufferMemoryRequirements2KHR"],
                ),
                image_requirements2: load(
                    &get,
                    &[c"vkGetImageMemoryRequirements2", c"vkGetImageMemoryRequirements2KHR"],
                ),
                device_buffer_requirements: load(
                    &get,
                    &[c"vkGetDeviceBufferMemoryRequirements", c"vkGetDeviceBufferMemoryRequirementsKHR"],
                ),
                device_image_requirements: load(
                    &get,
                    &[c"vkGetDeviceImageMemoryRequirements", c"vkGetDeviceImageMemoryRequirementsKHR"],
                ),
                get_buffer_device_address: load(
                    &get,
                    &[
                        c"vkGetBufferDeviceAddress",
                        c"vkGetBufferDeviceAddressKHR",
                        c"vkGetBufferDeviceAddressEXT",
                    ],
                ),
                create_update_template: load(
                    &get,
                    &[c"vkCreateDescriptorUpdateTemplate", c"vkCreateDescriptorUpdateTemplateKHR"],
                ),
                destroy_update_template: load(
                    &get,
                    &[c"vkDestroyDescriptorUpdateTemplate", c"vkDestroyDescriptorUpdateTemplateKHR"],
                ),
                update_with_template: load(
                    &get,
                    &[c"vkUpdateDescriptorSetWithTemplate", c"vkUpdateDescriptorSetWithTemplateKHR"],
                ),
                create_ray_tracing_pipelines: load(&get, &[c"vkCreateRayTracingPipelinesKHR"]),
                deferred_operation_join: load(&get, &[c"vkDeferredOperationJoinKHR"]),
                deferred_operation_result: load(&get, &[c"vkGetDeferredOperationResultKHR"]),
                destroy_deferred_operation: load(&get, &[c"vkDestroyDeferredOperationKHR"]),
                create_shaders: load(&get, &[c"vkCreateShadersEXT"]),
                destroy_shader: load(&get, &[c"vkDestroyShaderEXT"]),
                create_render_pass2: load(&get, &[c"vkCreateRenderPass2", c"vkCreateRenderPass2KHR"]),
                get_device_queue2: load(&get, &[c"vkGetDeviceQueue2"]),
                queue_submit2: load(&get, &[c"vkQueueSubmit2", c"vkQueueSubmit2KHR"]),
                wait_semaphores: load(&get, &[c"vkWaitSemaphores", c"vkWaitSemaphoresKHR"]),
                get_semaphore_counter_value: load(
                    &get,
                    &[c"vkGetSemaphoreCounterValue", c"vkGetSemaphoreCounterValueKHR"],
                ),
                signal_semaphore: load(&get, &[c"vkSignalSemaphore", c"vkSignalSemaphoreKHR"]),
                queue_present: load(&get, &[c"vkQueuePresentKHR"]),
                acquire_next_image: load(&get, &[c"vkAcquireNextImageKHR"]),
                acquire_next_image2: load(&get, &[c"vkAcquireNextImage2KHR"]),
                wait_for_present: load(&get, &[c"vkWaitForPresentKHR"]),
                set_debug_utils_object_name: load(&get, &[c"vkSetDebugUtilsObjectNameEXT"]),
                debug_marker_set_object_name: load(&get, &[c"vkDebugMarkerSetObjectNameEXT"]),
                memory_fd_properties: load(&get, &[c"vkGetMemoryFdPropertiesKHR"]),
                memory_host_pointer_properties: load(&get, &[c"vkGetMemoryHostPointerPropertiesEXT"]),
            }
        }
    }
}
