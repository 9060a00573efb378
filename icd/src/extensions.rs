//! Which of the host's extensions pass.
//!
//! An extension that could map, submit, signal or wait behind Lockstep's back is implemented or not
//! advertised. Each group names the reason why its members may pass; what is in no group does not, and why
//! stands in `docs/verdicts.toml`. An extension passes only if ash knows it: the structures of others would
//! be left out of chains. `docs/verdicts.md` is the whole table, with what is done about each command.

use std::ffi::CStr;

use ash::vk;

/// Extensions that pass for one reason.
struct Group {
    #[expect(dead_code, reason = "read by people, and for docs/verdicts.md")]
    reason: &'static str,
    names: &'static [&'static CStr],
}

const INSTANCE: &[Group] = &[
    Group {
        reason: "surfaces are the host's own objects, or the loader's, and hold no memory of the application",
        names: &[
            c"VK_KHR_surface",
            c"VK_KHR_wayland_surface",
            c"VK_KHR_xcb_surface",
            c"VK_KHR_xlib_surface",
            c"VK_KHR_get_surface_capabilities2",
            c"VK_KHR_surface_protected_capabilities",
            c"VK_KHR_display",
            c"VK_KHR_get_display_properties2",
            c"VK_EXT_headless_surface",
            c"VK_EXT_swapchain_colorspace",
            c"VK_EXT_surface_maintenance1",
            c"VK_EXT_direct_mode_display",
            c"VK_EXT_acquire_xlib_display",
        ],
    },
    Group {
        reason: "queries only; memory types and properties in them are translated",
        names: &[
            c"VK_KHR_device_group_creation",
            c"VK_KHR_external_fence_capabilities",
            c"VK_KHR_external_memory_capabilities",
            c"VK_KHR_external_semaphore_capabilities",
            c"VK_KHR_get_physical_device_properties2",
            c"VK_KHR_portability_enumeration",
        ],
    },
    Group {
        reason: "messages and names; handles are the host's own",
        names: &[c"VK_EXT_debug_report", c"VK_EXT_debug_utils"],
    },
];

const DEVICE: &[Group] = &[
    Group {
        reason: "records commands, builds pipelines or describes resources: those of its commands that write are \
                 intercepted (`entry::command`)",
        names: &[
            c"VK_AMD_buffer_marker",
            c"VK_AMD_draw_indirect_count",
            c"VK_AMD_gcn_shader",
            c"VK_AMD_gpu_shader_half_float",
            c"VK_AMD_gpu_shader_int16",
            c"VK_AMD_mixed_attachment_samples",
            c"VK_AMD_shader_ballot",
            c"VK_AMD_shader_core_properties",
            c"VK_AMD_shader_image_load_store_lod",
            c"VK_AMD_shader_trinary_minmax",
            c"VK_AMD_texture_gather_bias_lod",
            c"VK_ARM_rasterization_order_attachment_access",
            c"VK_EXT_4444_formats",
            c"VK_EXT_astc_decode_mode",
            c"VK_EXT_attachment_feedback_loop_dynamic_state",
            c"VK_EXT_attachment_feedback_loop_layout",
            c"VK_EXT_blend_operation_advanced",
            c"VK_EXT_border_color_swizzle",
            c"VK_EXT_buffer_device_address",
            c"VK_EXT_color_write_enable",
            c"VK_EXT_conditional_rendering",
            c"VK_EXT_conservative_rasterization",
            c"VK_EXT_custom_border_color",
            c"VK_EXT_depth_bias_control",
            c"VK_EXT_depth_clamp_zero_one",
            c"VK_EXT_depth_clip_control",
            c"VK_EXT_depth_clip_enable",
            c"VK_EXT_depth_range_unrestricted",
            c"VK_EXT_descriptor_buffer",
            c"VK_EXT_descriptor_indexing",
            c"VK_EXT_discard_rectangles",
            c"VK_EXT_dynamic_rendering_unused_attachments",
            c"VK_EXT_extended_dynamic_state",
            c"VK_EXT_extended_dynamic_state2",
            c"VK_EXT_extended_dynamic_state3",
            c"VK_EXT_filter_cubic",
            c"VK_EXT_fragment_density_map",
            c"VK_EXT_fragment_density_map2",
            c"VK_EXT_fragment_shader_interlock",
            c"VK_EXT_graphics_pipeline_library",
            c"VK_EXT_image_2d_view_of_3d",
            c"VK_EXT_image_compression_control",
            c"VK_EXT_image_robustness",
            c"VK_EXT_image_sliced_view_of_3d",
            c"VK_EXT_image_view_min_lod",
            c"VK_EXT_index_type_uint8",
            c"VK_EXT_inline_uniform_block",
            c"VK_EXT_legacy_dithering",
            c"VK_EXT_line_rasterization",
            c"VK_EXT_load_store_op_none",
            c"VK_EXT_mesh_shader",
            c"VK_EXT_multi_draw",
            c"VK_EXT_multisampled_render_to_single_sampled",
            c"VK_EXT_mutable_descriptor_type",
            c"VK_EXT_nested_command_buffer",
            c"VK_EXT_non_seamless_cube_map",
            c"VK_EXT_pipeline_library_group_handles",
            c"VK_EXT_pipeline_protected_access",
            c"VK_EXT_pipeline_robustness",
            c"VK_EXT_post_depth_coverage",
            c"VK_EXT_primitive_topology_list_restart",
            c"VK_EXT_primitives_generated_query",
            c"VK_EXT_provoking_vertex",
            c"VK_EXT_queue_family_foreign",
            c"VK_EXT_rasterization_order_attachment_access",
            c"VK_EXT_rgba10x6_formats",
            c"VK_EXT_robustness2",
            c"VK_EXT_sample_locations",
            c"VK_EXT_sampler_filter_minmax",
            c"VK_EXT_scalar_block_layout",
            c"VK_EXT_separate_stencil_usage",
            c"VK_EXT_shader_atomic_float",
            c"VK_EXT_shader_atomic_float2",
            c"VK_EXT_shader_demote_to_helper_invocation",
            c"VK_EXT_shader_image_atomic_int64",
            c"VK_EXT_shader_object",
            c"VK_EXT_shader_stencil_export",
            c"VK_EXT_shader_subgroup_ballot",
            c"VK_EXT_shader_subgroup_vote",
            c"VK_EXT_shader_tile_image",
            c"VK_EXT_shader_viewport_index_layer",
            c"VK_EXT_subgroup_size_control",
            c"VK_EXT_subpass_merge_feedback",
            c"VK_EXT_texel_buffer_alignment",
            c"VK_EXT_texture_compression_astc_hdr",
            c"VK_EXT_transform_feedback",
            c"VK_EXT_vertex_attribute_divisor",
            c"VK_EXT_vertex_input_dynamic_state",
            c"VK_EXT_ycbcr_2plane_444_formats",
            c"VK_EXT_ycbcr_image_arrays",
            c"VK_GOOGLE_decorate_string",
            c"VK_GOOGLE_hlsl_functionality1",
            c"VK_GOOGLE_user_type",
            c"VK_IMG_filter_cubic",
            c"VK_KHR_16bit_storage",
            c"VK_KHR_8bit_storage",
            c"VK_KHR_buffer_device_address",
            c"VK_KHR_cooperative_matrix",
            c"VK_KHR_copy_commands2",
            c"VK_KHR_create_renderpass2",
            c"VK_KHR_depth_stencil_resolve",
            c"VK_KHR_descriptor_update_template",
            c"VK_KHR_draw_indirect_count",
            c"VK_KHR_dynamic_rendering",
            c"VK_KHR_dynamic_rendering_local_read",
            c"VK_KHR_format_feature_flags2",
            c"VK_KHR_fragment_shader_barycentric",
            c"VK_KHR_fragment_shading_rate",
            c"VK_KHR_image_format_list",
            c"VK_KHR_imageless_framebuffer",
            c"VK_KHR_index_type_uint8",
            c"VK_KHR_line_rasterization",
            c"VK_KHR_load_store_op_none",
            c"VK_KHR_multiview",
            c"VK_KHR_pipeline_library",
            c"VK_KHR_push_descriptor",
            c"VK_KHR_ray_query",
            c"VK_KHR_relaxed_block_layout",
            c"VK_KHR_sampler_mirror_clamp_to_edge",
            c"VK_KHR_sampler_ycbcr_conversion",
            c"VK_KHR_separate_depth_stencil_layouts",
            c"VK_KHR_shader_atomic_int64",
            c"VK_KHR_shader_clock",
            c"VK_KHR_shader_draw_parameters",
            c"VK_KHR_shader_expect_assume",
            c"VK_KHR_shader_float16_int8",
            c"VK_KHR_shader_float_controls",
            c"VK_KHR_shader_float_controls2",
            c"VK_KHR_shader_integer_dot_product",
            c"VK_KHR_shader_maximal_reconvergence",
            c"VK_KHR_shader_non_semantic_info",
            c"VK_KHR_shader_quad_control",
            c"VK_KHR_shader_subgroup_extended_types",
            c"VK_KHR_shader_subgroup_rotate",
            c"VK_KHR_shader_subgroup_uniform_control_flow",
            c"VK_KHR_shader_terminate_invocation",
            c"VK_KHR_spirv_1_4",
            c"VK_KHR_storage_buffer_storage_class",
            c"VK_KHR_uniform_buffer_standard_layout",
            c"VK_KHR_variable_pointers",
            c"VK_KHR_vertex_attribute_divisor",
            c"VK_KHR_vulkan_memory_model",
            c"VK_KHR_workgroup_memory_explicit_layout",
            c"VK_KHR_zero_initialize_workgroup_memory",
            c"VK_NV_clip_space_w_scaling",
            c"VK_NV_compute_shader_derivatives",
            c"VK_NV_fill_rectangle",
            c"VK_NV_fragment_coverage_to_color",
            c"VK_NV_fragment_shader_barycentric",
            c"VK_NV_framebuffer_mixed_samples",
            c"VK_NV_geometry_shader_passthrough",
            c"VK_NV_representative_fragment_test",
            c"VK_NV_sample_mask_override_coverage",
            c"VK_NV_shader_sm_builtins",
            c"VK_NV_shader_subgroup_partitioned",
            c"VK_NV_viewport_array2",
            c"VK_NV_viewport_swizzle",
            c"VK_VALVE_mutable_descriptor_type",
        ],
    },
    Group {
        reason: "host-side queries, caches and labels that touch no memory of the application",
        names: &[
            c"VK_EXT_calibrated_timestamps",
            c"VK_KHR_calibrated_timestamps",
            c"VK_EXT_debug_marker",
            c"VK_EXT_device_fault",
            c"VK_EXT_host_query_reset",
            c"VK_EXT_pci_bus_info",
            c"VK_EXT_physical_device_drm",
            c"VK_EXT_pipeline_creation_cache_control",
            c"VK_EXT_pipeline_creation_feedback",
            c"VK_EXT_pipeline_properties",
            c"VK_EXT_private_data",
            c"VK_EXT_shader_module_identifier",
            c"VK_EXT_tooling_info",
            c"VK_EXT_validation_cache",
            c"VK_KHR_driver_properties",
            c"VK_KHR_performance_query",
            c"VK_KHR_pipeline_executable_properties",
            c"VK_KHR_portability_subset",
        ],
    },
    Group {
        reason: "implemented: memory types are translated, bindings recorded",
        names: &[
            c"VK_EXT_memory_budget",
            c"VK_EXT_memory_priority",
            c"VK_EXT_pageable_device_local_memory",
            c"VK_KHR_bind_memory2",
            c"VK_KHR_dedicated_allocation",
            c"VK_KHR_device_group",
            c"VK_KHR_get_memory_requirements2",
            c"VK_KHR_maintenance1",
            c"VK_KHR_maintenance2",
            c"VK_KHR_maintenance3",
            c"VK_KHR_maintenance4",
            c"VK_KHR_maintenance5",
            c"VK_KHR_maintenance6",
            c"VK_EXT_map_memory_placed",
            c"VK_KHR_map_memory2",
        ],
    },
    Group {
        reason: "memory shared with others is the host's own, mapped natively, never emulated",
        names: &[
            c"VK_EXT_external_memory_dma_buf",
            c"VK_EXT_external_memory_host",
            c"VK_KHR_external_memory",
            c"VK_KHR_external_memory_fd",
        ],
    },
    Group {
        reason: "structures only; handles of other processes are another extension",
        names: &[c"VK_KHR_external_fence", c"VK_KHR_external_semaphore"],
    },
    Group {
        reason: "implemented: submission, signals and waits are intercepted",
        names: &[
            c"VK_KHR_synchronization2",
            c"VK_KHR_timeline_semaphore",
            c"VK_KHR_present_id",
            c"VK_KHR_present_wait",
        ],
    },
    Group {
        reason: "swapchain images are the host's; acquiring and waiting are completion points",
        names: &[
            c"VK_EXT_hdr_metadata",
            c"VK_EXT_swapchain_maintenance1",
            c"VK_KHR_incremental_present",
            c"VK_KHR_swapchain",
            c"VK_KHR_swapchain_mutable_format",
        ],
    },
    Group {
        reason: "device commands write through resources; commands on the host are hidden (accelerationStructureHostCommands)",
        names: &[
            c"VK_KHR_acceleration_structure",
            c"VK_KHR_deferred_host_operations",
            c"VK_KHR_ray_tracing_maintenance1",
            c"VK_KHR_ray_tracing_pipeline",
            c"VK_KHR_ray_tracing_position_fetch",
        ],
    },
];

/// `VK_KHR_map_memory2`, which Lockstep gives on every host.
pub const MAP_MEMORY2: &CStr = c"VK_KHR_map_memory2";

/// `VK_EXT_map_memory_placed`, which is Lockstep's own whatever the host has: guest pages are placed, not
/// host memory.
pub const MAP_MEMORY_PLACED: &CStr = c"VK_EXT_map_memory_placed";

/// Extensions that Lockstep gives on every host.
const OWN: [&CStr; 2] = [MAP_MEMORY2, MAP_MEMORY_PLACED];

fn contains(groups: &[Group], name: &CStr) -> bool {
    groups.iter().any(|group| group.names.contains(&name))
}

/// Whether an instance extension passes.
pub fn is_instance(name: &CStr) -> bool {
    contains(INSTANCE, name)
}

/// The instance extensions of the host that pass.
pub fn instance(mut host: Vec<vk::ExtensionProperties>) -> Vec<vk::ExtensionProperties> {
    host.retain(|extension| extension.extension_name_as_c_str().is_ok_and(is_instance));
    host
}

/// The device extensions of the host that pass, and those of our own.
pub fn device(mut host: Vec<vk::ExtensionProperties>) -> Vec<vk::ExtensionProperties> {
    let name =
        |extension: &vk::ExtensionProperties| extension.extension_name_as_c_str().unwrap_or(c"").to_owned();
    host.retain(|extension| contains(DEVICE, &name(extension)));
    for own in OWN {
        if !host.iter().any(|extension| *name(extension) == *own) {
            host.extend(vk::ExtensionProperties::default().spec_version(1).extension_name(own));
        }
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    fn property(name: &CStr) -> vk::ExtensionProperties {
        vk::ExtensionProperties::default().extension_name(name).unwrap()
    }

    #[test]
    fn an_extension_nobody_reviewed_is_not_advertised() {
        let passed = device(vec![property(c"VK_NEW_map_and_submit"), property(c"VK_KHR_swapchain")]);
        let names: Vec<_> = passed.iter().map(|e| e.extension_name_as_c_str().unwrap()).collect();
        assert_eq!(names, [c"VK_KHR_swapchain", MAP_MEMORY2, MAP_MEMORY_PLACED]);
    }

    #[test]
    fn no_extension_stands_in_two_groups() {
        for groups in [INSTANCE, DEVICE] {
            let mut names: Vec<_> = groups.iter().flat_map(|group| group.names).collect();
            names.sort();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count);
        }
    }
}
