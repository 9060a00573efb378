//! Commands about what shaders write through: views, descriptors, pipelines.

use ash::vk;

use super::{Command, Level, command};
use crate::entry::{descriptor, pipeline, view};

pub(super) const COMMANDS: &[Command] = &[
    command!(c"vkCreateBufferView", Device, view::create_buffer_view, PFN_vkCreateBufferView),
    command!(c"vkDestroyBufferView", Device, view::destroy_buffer_view, PFN_vkDestroyBufferView),
    command!(c"vkCreateImageView", Device, view::create_image_view, PFN_vkCreateImageView),
    command!(c"vkDestroyImageView", Device, view::destroy_image_view, PFN_vkDestroyImageView),
    command!(
        c"vkCreateDescriptorSetLayout",
        Device,
        descriptor::create_descriptor_set_layout,
        PFN_vkCreateDescriptorSetLayout
    ),
    command!(
        c"vkDestroyDescriptorSetLayout",
        Device,
        descriptor::destroy_descriptor_set_layout,
        PFN_vkDestroyDescriptorSetLayout
    ),
    command!(
        c"vkCreatePipelineLayout",
        Device,
        descriptor::create_pipeline_layout,
        PFN_vkCreatePipelineLayout
    ),
    command!(
        c"vkDestroyPipelineLayout",
        Device,
        descriptor::destroy_pipeline_layout,
        PFN_vkDestroyPipelineLayout
    ),
    command!(
        c"vkCreateDescriptorPool",
        Device,
        descriptor::create_descriptor_pool,
        PFN_vkCreateDescriptorPool
    ),
    command!(
        c"vkDestroyDescriptorPool",
        Device,
        descriptor::destroy_descriptor_pool,
        PFN_vkDestroyDescriptorPool
    ),
    command!(c"vkResetDescriptorPool", Device, descriptor::reset_descriptor_pool, PFN_vkResetDescriptorPool),
    command!(
        c"vkAllocateDescriptorSets",
        Device,
        descriptor::allocate_descriptor_sets,
        PFN_vkAllocateDescriptorSets
    ),
    command!(c"vkFreeDescriptorSets", Device, descriptor::free_descriptor_sets, PFN_vkFreeDescriptorSets),
    command!(
        c"vkUpdateDescriptorSets",
        Device,
        descriptor::update_descriptor_sets,
        PFN_vkUpdateDescriptorSets
    ),
    command!(
        c"vkCreateDescriptorUpdateTemplate",
        Device,
        descriptor::create_descriptor_update_template,
        PFN_vkCreateDescriptorUpdateTemplate
    ),
    command!(
        c"vkCreateDescriptorUpdateTemplateKHR",
        Device,
        descriptor::create_descriptor_update_template,
        PFN_vkCreateDescriptorUpdateTemplate
    ),
    command!(
        c"vkDestroyDescriptorUpdateTemplate",
        Device,
        descriptor::destroy_descriptor_update_template,
        PFN_vkDestroyDescriptorUpdateTemplate
    ),
    command!(
        c"vkDestroyDescriptorUpdateTemplateKHR",
        Device,
        descriptor::destroy_descriptor_update_template,
        PFN_vkDestroyDescriptorUpdateTemplate
    ),
    command!(
        c"vkUpdateDescriptorSetWithTemplate",
        Device,
        descriptor::update_descriptor_set_with_template,
        PFN_vkUpdateDescriptorSetWithTemplate
    ),
    command!(
        c"vkUpdateDescriptorSetWithTemplateKHR",
        Device,
        descriptor::update_descriptor_set_with_template,
        PFN_vkUpdateDescriptorSetWithTemplate
    ),
    command!(c"vkCreateShaderModule", Device, pipeline::create_shader_module, PFN_vkCreateShaderModule),
    command!(c"vkDestroyShaderModule", Device, pipeline::destroy_shader_module, PFN_vkDestroyShaderModule),
    command!(
        c"vkCreateGraphicsPipelines",
        Device,
        pipeline::create_graphics_pipelines,
        PFN_vkCreateGraphicsPipelines
    ),
    command!(
        c"vkCreateComputePipelines",
        Device,
        pipeline::create_compute_pipelines,
        PFN_vkCreateComputePipelines
    ),
    command!(
        c"vkCreateRayTracingPipelinesKHR",
        Device,
        pipeline::create_ray_tracing_pipelines,
        PFN_vkCreateRayTracingPipelinesKHR
    ),
    command!(
        c"vkDeferredOperationJoinKHR",
        Device,
        pipeline::deferred_operation_join,
        PFN_vkDeferredOperationJoinKHR
    ),
    command!(
        c"vkGetDeferredOperationResultKHR",
        Device,
        pipeline::get_deferred_operation_result,
        PFN_vkGetDeferredOperationResultKHR
    ),
    command!(
        c"vkDestroyDeferredOperationKHR",
        Device,
        pipeline::destroy_deferred_operation,
        PFN_vkDestroyDeferredOperationKHR
    ),
    command!(c"vkDestroyPipeline", Device, pipeline::destroy_pipeline, PFN_vkDestroyPipeline),
    command!(c"vkCreateShadersEXT", Device, pipeline::create_shaders, PFN_vkCreateShadersEXT),
    command!(c"vkDestroyShaderEXT", Device, pipeline::destroy_shader, PFN_vkDestroyShaderEXT),
];
