//! What is bound before a draw or dispatch (specification chapters "Pipelines", "Resource Descriptors",
//! "Shaders", "Fixed-Function Vertex Post-Processing").

#![allow(unsafe_code, reason = "entry points")]

use std::ffi::c_void;

use ash::vk;

use super::commands;
use crate::entry::slice;
use crate::record::buffer_writes::BufferBytes;
use crate::record::recording::Recording;

/// Pushes writes to a set at each bind point.
///
/// # Safety
/// The writes are valid for the layout.
unsafe fn push(
    recording: &mut Recording,
    points: impl Iterator<Item = vk::PipelineBindPoint>,
    place: (vk::PipelineLayout, u32),
    writes: &[vk::WriteDescriptorSet<'_>],
) {
    for point in points {
        recording.push_descriptors(point, place, |objects, pushed| {
            for write in writes {
                // SAFETY: the caller's.
                unsafe { pushed.write(objects, write) };
            }
        });
    }
}

/// Pushes by a template.
///
/// # Safety
/// Template and data are valid for the layout.
unsafe fn push_with_template(
    recording: &mut Recording,
    template: vk::DescriptorUpdateTemplate,
    place: (vk::PipelineLayout, u32),
    data: *const c_void,
) {
    let known = recording.template(template);
    let Some(known) = known else { return recording.write_anything() };
    recording.push_descriptors(known.bind_point(), place, |objects, pushed| {
        // SAFETY: the caller's.
        unsafe { pushed.write_template(objects, &known, data) };
    });
}

/// Buffers for transform feedback, or its counters: each with where it starts and what is written there.
///
/// # Safety
/// The arrays have `count` elements, or are null.
unsafe fn buffers<'a>(
    count: u32,
    buffers: *const vk::Buffer,
    offsets: *const u64,
    sizes: Option<*const u64>,
) -> impl Iterator<Item = BufferBytes> + 'a {
    // SAFETY: the caller's.
    let (buffers, offsets) = unsafe { (slice(buffers, count), slice(offsets, count)) };
    // SAFETY: the caller's.
    let sizes = sizes.map(|sizes| unsafe { slice(sizes, count) });
    buffers.iter().enumerate().map(move |(at, buffer)| BufferBytes {
        buffer: *buffer,
        offset: offsets.get(at).copied().unwrap_or(0),
        size: match sizes {
            Some(sizes) => sizes.get(at).copied().unwrap_or(vk::WHOLE_SIZE),
            None => size_of::<u32>() as u64,
        },
    })
}

commands! {
    /// `vkCmdBindPipeline`
    fn cmd_bind_pipeline(point: vk::PipelineBindPoint, pipeline: vk::Pipeline) as bind_pipeline |recording|
        recording.bind_pipeline(point, pipeline);

    /// `vkCmdBindShadersEXT`
    fn cmd_bind_shaders(
        count: u32,
        stages: *const vk::ShaderStageFlags,
        shaders: *const vk::ShaderEXT,
    ) as bind_shaders |recording|
        recording.bind_shaders(
            slice(stages, count),
            (!shaders.is_null()).then(|| slice(shaders, count)),
        );

    /// `vkCmdBindDescriptorSets`
    fn cmd_bind_descriptor_sets(
        point: vk::PipelineBindPoint,
        layout: vk::PipelineLayout,
        first: u32,
        count: u32,
        sets: *const vk::DescriptorSet,
        offset_count: u32,
        offsets: *const u32,
    ) as bind_descriptor_sets |recording|
        recording.bind_sets(point, first, slice(sets, count), slice(offsets, offset_count));

    /// `vkCmdBindDescriptorSets2KHR`
    fn cmd_bind_descriptor_sets2(info: *const vk::BindDescriptorSetsInfoKHR<'_>)
        as bind_descriptor_sets2 |recording| {
            let info = &*info;
            let sets = slice(info.p_descriptor_sets, info.descriptor_set_count);
            let offsets = slice(info.p_dynamic_offsets, info.dynamic_offset_count);
            for point in Recording::points_of(info.stage_flags) {
                recording.bind_sets(point, info.first_set, sets, offsets);
            }
        };

    /// `vkCmdPushDescriptorSetKHR`
    fn cmd_push_descriptor_set(
        point: vk::PipelineBindPoint,
        layout: vk::PipelineLayout,
        set: u32,
        count: u32,
        writes: *const vk::WriteDescriptorSet<'_>,
    ) as push_descriptor_set |recording|
        push(recording, std::iter::once(point), (layout, set), slice(writes, count));

    /// `vkCmdPushDescriptorSet2KHR`
    fn cmd_push_descriptor_set2(info: *const vk::PushDescriptorSetInfoKHR<'_>)
        as push_descriptor_set2 |recording| {
            let info = &*info;
            let writes = slice(info.p_descriptor_writes, info.descriptor_write_count);
            push(recording, Recording::points_of(info.stage_flags), (info.layout, info.set), writes);
        };

    /// `vkCmdPushDescriptorSetWithTemplateKHR`
    fn cmd_push_descriptor_set_with_template(
        template: vk::DescriptorUpdateTemplate,
        layout: vk::PipelineLayout,
        set: u32,
        data: *const c_void,
    ) as push_descriptor_set_with_template |recording|
        push_with_template(recording, template, (layout, set), data);

    /// `vkCmdPushDescriptorSetWithTemplate2KHR`
    fn cmd_push_descriptor_set_with_template2(info: *const vk::PushDescriptorSetWithTemplateInfoKHR<'_>)
        as push_descriptor_set_with_template2 |recording| {
            let info = &*info;
            push_with_template(recording, info.descriptor_update_template, (info.layout, info.set), info.p_data);
        };

    /// `vkCmdBindDescriptorBuffersEXT`: where descriptors lie in buffers, nobody but the device reads them.
    fn cmd_bind_descriptor_buffers(count: u32, infos: *const vk::DescriptorBufferBindingInfoEXT<'_>)
        as bind_descriptor_buffers |recording| recording.write_anything();

    /// `vkCmdBindTransformFeedbackBuffersEXT`
    fn cmd_bind_transform_feedback_buffers(
        first: u32,
        count: u32,
        list: *const vk::Buffer,
        offsets: *const u64,
        sizes: *const u64,
    ) as bind_transform_feedback_buffers |recording|
        recording.bind_feedback(first, buffers(count, list, offsets, Some(sizes)));

    /// `vkCmdEndTransformFeedbackEXT`: until then no other buffers can be bound.
    fn cmd_end_transform_feedback(
        first: u32,
        count: u32,
        counters: *const vk::Buffer,
        offsets: *const u64,
    ) as end_transform_feedback |recording| recording.feed_back(buffers(count, counters, offsets, None));
}
