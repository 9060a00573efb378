//! Barriers and events (specification chapter "Synchronization and Cache Control"): a change of an image's
//! layout may write it, and an event may be set by the CPU.

#![allow(unsafe_code, reason = "entry points")]

use ash::vk;

use super::commands;
use crate::entry::slice;
use crate::record::recording::Recording;

/// Defines a function that notes image barriers of one version: both name everything alike.
macro_rules! image_barriers {
    ($name:ident, $barrier:ident) => {
        fn $name(recording: &mut Recording, barriers: &[vk::$barrier<'_>]) {
            for barrier in barriers {
                let layouts = (barrier.old_layout, barrier.new_layout);
                let families = (barrier.src_queue_family_index, barrier.dst_queue_family_index);
                recording.barrier(barrier.image, layouts, families, barrier.subresource_range);
            }
        }
    };
}

image_barriers!(image_barriers, ImageMemoryBarrier);
image_barriers!(image_barriers2, ImageMemoryBarrier2);

commands! {
    /// `vkCmdPipelineBarrier`
    fn cmd_pipeline_barrier(
        source: vk::PipelineStageFlags,
        target: vk::PipelineStageFlags,
        dependencies: vk::DependencyFlags,
        memory_count: u32,
        memory: *const vk::MemoryBarrier<'_>,
        buffer_count: u32,
        buffers: *const vk::BufferMemoryBarrier<'_>,
        image_count: u32,
        images: *const vk::ImageMemoryBarrier<'_>,
    ) as pipeline_barrier |recording|
        image_barriers(recording, slice(images, image_count));

    /// `vkCmdPipelineBarrier2`
    fn cmd_pipeline_barrier2(info: *const vk::DependencyInfo<'_>) as pipeline_barrier2 |recording|
        image_barriers2(
            recording,
            slice((*info).p_image_memory_barriers, (*info).image_memory_barrier_count),
        );

    /// `vkCmdWaitEvents`
    fn cmd_wait_events(
        event_count: u32,
        events: *const vk::Event,
        source: vk::PipelineStageFlags,
        target: vk::PipelineStageFlags,
        memory_count: u32,
        memory: *const vk::MemoryBarrier<'_>,
        buffer_count: u32,
        buffers: *const vk::BufferMemoryBarrier<'_>,
        image_count: u32,
        images: *const vk::ImageMemoryBarrier<'_>,
    ) as wait_events |recording| {
        recording.wait_for_host();
        image_barriers(recording, slice(images, image_count));
    };

    /// `vkCmdWaitEvents2`
    fn cmd_wait_events2(
        event_count: u32,
        events: *const vk::Event,
        infos: *const vk::DependencyInfo<'_>,
    ) as wait_events2 |recording| {
        recording.wait_for_host();
        for info in slice(infos, event_count) {
            image_barriers2(
                recording,
                slice(info.p_image_memory_barriers, info.image_memory_barrier_count),
            );
        }
    };
}
