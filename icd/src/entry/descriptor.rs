//! Descriptor sets, their layouts and pools (specification chapter "Resource Descriptors").

#![allow(unsafe_code, reason = "entry points")]

use std::ffi::c_void;
use std::sync::Arc;

use ash::vk;

use super::{DEVICES, slice, state};
use crate::chain;
use crate::record::descriptors::{
    BindingInfo, DescriptorSet, Pool, SetLayout, Template, copy, update_sets, update_with_template,
};
use crate::record::pipeline::PipelineLayout;

/// What a create info says of a layout.
///
/// # Safety
/// `info` is valid.
unsafe fn set_layout(info: &vk::DescriptorSetLayoutCreateInfo<'_>) -> SetLayout {
    // SAFETY: the caller's.
    let bindings = unsafe { slice(info.p_bindings, info.binding_count) };
    // SAFETY: the caller's.
    let flags = unsafe { chain::find::<vk::DescriptorSetLayoutBindingFlagsCreateInfo<'_>>(info.p_next) };
    // SAFETY: the caller's.
    let flags = flags.map_or(&[][..], |flags| unsafe { slice(flags.p_binding_flags, flags.binding_count) });
    // SAFETY: the caller's.
    let mutable = unsafe { chain::find::<vk::MutableDescriptorTypeCreateInfoEXT<'_>>(info.p_next) };
    let lists = mutable.map_or(&[][..], |mutable| {
        // SAFETY: the caller's.
        unsafe { slice(mutable.p_mutable_descriptor_type_lists, mutable.mutable_descriptor_type_list_count) }
    });
    SetLayout::new(
        bindings.iter().enumerate().map(|(index, binding)| BindingInfo {
            number: binding.binding,
            descriptor_type: binding.descriptor_type,
            count: binding.descriptor_count,
            flags: flags.get(index).copied().unwrap_or_default(),
            // SAFETY: the caller's.
            mutable_types: lists
                .get(index)
                .map(|list| unsafe { slice(list.p_descriptor_types, list.descriptor_type_count) }),
        }),
    )
}

/// `vkCreateDescriptorSetLayout`
pub(super) unsafe extern "system" fn create_descriptor_set_layout(
    device: vk::Device,
    info: *const vk::DescriptorSetLayoutCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::DescriptorSetLayout,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().create_descriptor_set_layout)(device, info, allocator, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: valid usage.
        let layout = unsafe { set_layout(&*info) };
        // SAFETY: written by the host.
        state.objects.add_set_layout(unsafe { *out }, layout);
    }
    result
}

/// `vkDestroyDescriptorSetLayout`; what was made from it keeps it.
pub(super) unsafe extern "system" fn destroy_descriptor_set_layout(
    device: vk::Device,
    layout: vk::DescriptorSetLayout,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let state = state!(DEVICES, device; void);
    state.objects.set_layouts.remove(layout);
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().destroy_descriptor_set_layout)(device, layout, allocator) };
}

/// `vkCreatePipelineLayout`
pub(super) unsafe extern "system" fn create_pipeline_layout(
    device: vk::Device,
    info: *const vk::PipelineLayoutCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::PipelineLayout,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().create_pipeline_layout)(device, info, allocator, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: valid usage.
        let sets = unsafe { slice((*info).p_set_layouts, (*info).set_layout_count) };
        let sets = sets.iter().map(|set| state.objects.set_layouts.get(*set)).collect();
        // SAFETY: written by the host.
        state.objects.pipeline_layouts.insert(unsafe { *out }, Arc::new(PipelineLayout(sets)));
    }
    result
}

/// `vkDestroyPipelineLayout`
pub(super) unsafe extern "system" fn destroy_pipeline_layout(
    device: vk::Device,
    layout: vk::PipelineLayout,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let state = state!(DEVICES, device; void);
    state.objects.pipeline_layouts.remove(layout);
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().destroy_pipeline_layout)(device, layout, allocator) };
}

/// `vkCreateDescriptorPool`
pub(super) unsafe extern "system" fn create_descriptor_pool(
    device: vk::Device,
    info: *const vk::DescriptorPoolCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::DescriptorPool,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().create_descriptor_pool)(device, info, allocator, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: valid usage.
        let pool = Pool::new(unsafe { (*info).flags });
        // SAFETY: written by the host.
        state.objects.pools.insert(unsafe { *out }, Arc::new(pool));
    }
    result
}

/// `vkDestroyDescriptorPool`; its sets go with it.
pub(super) unsafe extern "system" fn destroy_descriptor_pool(
    device: vk::Device,
    pool: vk::DescriptorPool,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let state = state!(DEVICES, device; void);
    if let Some(pool) = state.objects.pools.remove(pool) {
        state.objects.forget_sets(&pool);
    }
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().destroy_descriptor_pool)(device, pool, allocator) };
}

/// `vkResetDescriptorPool`
pub(super) unsafe extern "system" fn reset_descriptor_pool(
    device: vk::Device,
    pool: vk::DescriptorPool,
    flags: vk::DescriptorPoolResetFlags,
) -> vk::Result {
    let state = state!(DEVICES, device);
    if let Some(pool) = state.objects.pools.get(pool) {
        state.objects.forget_sets(&pool);
    }
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().reset_descriptor_pool)(device, pool, flags) }
}

/// `vkAllocateDescriptorSets`. A set whose layout is not known has no entry. How many descriptors of variable
/// count a set has does not matter: those that are written are kept.
pub(super) unsafe extern "system" fn allocate_descriptor_sets(
    device: vk::Device,
    info: *const vk::DescriptorSetAllocateInfo<'_>,
    out: *mut vk::DescriptorSet,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let result = unsafe { (state.fns.fp_v1_0().allocate_descriptor_sets)(device, info, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: valid usage.
        let info = unsafe { &*info };
        // SAFETY: valid usage.
        let layouts = unsafe { slice(info.p_set_layouts, info.descriptor_set_count) };
        // SAFETY: written by the host.
        let sets = unsafe { slice(out.cast_const(), info.descriptor_set_count) };
        if let Some(pool) = state.objects.pools.get(info.descriptor_pool) {
            pool.add(sets);
        }
        for (set, layout) in sets.iter().zip(layouts) {
            if let Some(layout) = state.objects.set_layouts.get(*layout) {
                state.objects.sets.insert(*set, Arc::new(DescriptorSet::new(layout)));
            }
        }
    }
    result
}

/// `vkFreeDescriptorSets`
pub(super) unsafe extern "system" fn free_descriptor_sets(
    device: vk::Device,
    pool: vk::DescriptorPool,
    count: u32,
    sets: *const vk::DescriptorSet,
) -> vk::Result {
    let state = state!(DEVICES, device);
    // SAFETY: valid usage.
    let freed = unsafe { slice(sets, count) };
    state.objects.sets.remove_all(freed.iter().copied());
    if let Some(pool) = state.objects.pools.get(pool) {
        pool.remove(freed);
    }
    // SAFETY: valid usage.
    unsafe { (state.fns.fp_v1_0().free_descriptor_sets)(device, pool, count, sets) }
}

/// `vkUpdateDescriptorSets`
pub(super) unsafe extern "system" fn update_descriptor_sets(
    device: vk::Device,
    write_count: u32,
    writes: *const vk::WriteDescriptorSet<'_>,
    copy_count: u32,
    copies: *const vk::CopyDescriptorSet<'_>,
) {
    let state = state!(DEVICES, device; void);
    let host = state.fns.fp_v1_0().update_descriptor_sets;
    // SAFETY: valid usage.
    unsafe { host(device, write_count, writes, copy_count, copies) };
    // SAFETY: valid usage.
    unsafe { update_sets(&state.objects, slice(writes, write_count)) };
    // SAFETY: valid usage.
    unsafe { slice(copies, copy_count) }.iter().for_each(|copied| copy(&state.objects, copied));
}

/// `vkCreateDescriptorUpdateTemplate`
pub(super) unsafe extern "system" fn create_descriptor_update_template(
    device: vk::Device,
    info: *const vk::DescriptorUpdateTemplateCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    out: *mut vk::DescriptorUpdateTemplate,
) -> vk::Result {
    let state = state!(DEVICES, device);
    let Some(host) = state.later.create_update_template else { return vk::Result::ERROR_UNKNOWN };
    // SAFETY: valid usage.
    let result = unsafe { host(device, info, allocator, out) };
    if result == vk::Result::SUCCESS {
        // SAFETY: valid usage.
        let info = unsafe { &*info };
        let objects = &state.objects;
        let layout = if info.template_type == vk::DescriptorUpdateTemplateType::DESCRIPTOR_SET {
            objects.set_layouts.get(info.descriptor_set_layout)
        } else {
            let layout = objects.pipeline_layouts.get(info.pipeline_layout);
            layout.and_then(|layout| layout.set(info.set).cloned())
        };
        // SAFETY: valid usage.
        let entries = unsafe { slice(info.p_descriptor_update_entries, info.descriptor_update_entry_count) };
        // SAFETY: written by the host.
        objects
            .templates
            .insert(unsafe { *out }, Arc::new(Template::new(info.pipeline_bind_point, layout, entries)));
    }
    result
}

/// `vkDestroyDescriptorUpdateTemplate`
pub(super) unsafe extern "system" fn destroy_descriptor_update_template(
    device: vk::Device,
    template: vk::DescriptorUpdateTemplate,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let state = state!(DEVICES, device; void);
    let Some(host) = state.later.destroy_update_template else { return };
    state.objects.templates.remove(template);
    // SAFETY: valid usage.
    unsafe { host(device, template, allocator) };
}

/// `vkUpdateDescriptorSetWithTemplate`
pub(super) unsafe extern "system" fn update_descriptor_set_with_template(
    device: vk::Device,
    set: vk::DescriptorSet,
    template: vk::DescriptorUpdateTemplate,
    data: *const c_void,
) {
    let state = state!(DEVICES, device; void);
    let Some(host) = state.later.update_with_template else { return };
    // SAFETY: valid usage.
    unsafe { host(device, set, template, data) };
    // SAFETY: valid usage.
    unsafe { update_with_template(&state.objects, set, template, data) };
}
