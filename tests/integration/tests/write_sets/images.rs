//! Copies, blits, resolves and clears into images in coherent memory: one subresource of a linear image, all
//! of an optimal one.

use crate::image::{Image, all, enter, extent, flat, layers, linear, offset};
use crate::rig::{Rig, assert_same, counted};
use ash::vk;
use lockstep_harness::{Buffer, Kind, pattern};
use std::cell::Cell;

const FORMAT: vk::Format = vk::Format::R8G8B8A8_UNORM;
const COLOR: vk::ImageAspectFlags = vk::ImageAspectFlags::COLOR;
const GENERAL: vk::ImageLayout = vk::ImageLayout::GENERAL;

/// A linear image of 20 by 9 texels into which `write` writes 5 by 3 texels at (4, 2) that are `texels`.
///
/// The change of layout before counts the image once, and what is written another time.
fn rectangle(texels: &[u8], write: impl FnOnce(&Rig, vk::Image, &ash::Device, vk::CommandBuffer)) {
    let size = Cell::new(0);
    let counters = counted(|rig| {
        let image = rig.general(&linear(FORMAT, 20, 9), Kind::Coherent);
        let commands = rig.record(|device, commands| write(rig, image.raw, device, commands));
        rig.beside(&commands, image.bytes(), &image.rows(rig, (4, 2), 5, 4, texels));
        size.set(image.whole(rig));
    });
    assert!(size.get() >= 20 * 8 * 4);
    counters.are(0, 2 * size.get());
}

/// A buffer with texels from byte 8 on, that lives as long as the rig.
fn texels(rig: &Rig) -> vk::Buffer {
    let buffer = rig.buffer(68);
    buffer.bytes().write(8, &pattern(3, 60));
    let raw = buffer.raw();
    rig.own(move |_| drop(buffer));
    raw
}

/// An image with these texels.
fn source(rig: &Rig) -> vk::Image {
    rig.filled(&flat(FORMAT, 5, 3), &pattern(3, 60)).raw
}

/// An image with four samples a texel, all of this colour.
fn samples(rig: &Rig, color: [f32; 4]) -> vk::Image {
    let info = flat(FORMAT, 5, 3).samples(vk::SampleCountFlags::TYPE_4).usage(
        vk::ImageUsageFlags::TRANSFER_SRC
            | vk::ImageUsageFlags::TRANSFER_DST
            | vk::ImageUsageFlags::COLOR_ATTACHMENT,
    );
    let image = rig.general(&info, Kind::DeviceOnly);
    rig.run(|device, commands| unsafe {
        let color = vk::ClearColorValue { float32: color };
        device.cmd_clear_color_image(commands, image.raw, GENERAL, &color, &[all(COLOR)]);
    });
    image.raw
}

#[test]
fn copy_buffer_to_image() {
    rectangle(&pattern(3, 60), |rig, image, device, commands| unsafe {
        let region = [vk::BufferImageCopy {
            buffer_offset: 8,
            image_subresource: layers(COLOR),
            image_offset: offset(4, 2),
            image_extent: extent(5, 3),
            ..Default::default()
        }];
        device.cmd_copy_buffer_to_image(commands, texels(rig), image, GENERAL, &region);
    });
}

#[test]
fn copy_buffer_to_image2() {
    rectangle(&pattern(3, 60), |rig, image, device, commands| unsafe {
        let region = [vk::BufferImageCopy2::default()
            .buffer_offset(8)
            .image_subresource(layers(COLOR))
            .image_offset(offset(4, 2))
            .image_extent(extent(5, 3))];
        let info = vk::CopyBufferToImageInfo2::default()
            .src_buffer(texels(rig))
            .dst_image(image)
            .dst_image_layout(GENERAL)
            .regions(&region);
        device.cmd_copy_buffer_to_image2(commands, &info);
    });
}

#[test]
fn copy_image() {
    rectangle(&pattern(3, 60), |rig, image, device, commands| unsafe {
        let region = [vk::ImageCopy {
            src_subresource: layers(COLOR),
            dst_subresource: layers(COLOR),
            dst_offset: offset(4, 2),
            extent: extent(5, 3),
            ..Default::default()
        }];
        device.cmd_copy_image(commands, source(rig), GENERAL, image, GENERAL, &region);
    });
}

#[test]
fn copy_image2() {
    rectangle(&pattern(3, 60), |rig, image, device, commands| unsafe {
        let region = [vk::ImageCopy2::default()
            .src_subresource(layers(COLOR))
            .dst_subresource(layers(COLOR))
            .dst_offset(offset(4, 2))
            .extent(extent(5, 3))];
        let info = vk::CopyImageInfo2::default()
            .src_image(source(rig))
            .src_image_layout(GENERAL)
            .dst_image(image)
            .dst_image_layout(GENERAL)
            .regions(&region);
        device.cmd_copy_image2(commands, &info);
    });
}

#[test]
fn blit_image() {
    rectangle(&pattern(3, 60), |rig, image, device, commands| unsafe {
        let end = |x, y| vk::Offset3D { x, y, z: 1 };
        let region = [vk::ImageBlit {
            src_subresource: layers(COLOR),
            src_offsets: [offset(0, 0), end(5, 3)],
            dst_subresource: layers(COLOR),
            dst_offsets: [offset(4, 2), end(9, 5)],
        }];
        let nearest = vk::Filter::NEAREST;
        device.cmd_blit_image(commands, source(rig), GENERAL, image, GENERAL, &region, nearest);
    });
}

#[test]
fn blit_image2() {
    rectangle(&pattern(3, 60), |rig, image, device, commands| unsafe {
        let end = |x, y| vk::Offset3D { x, y, z: 1 };
        let region = [vk::ImageBlit2::default()
            .src_subresource(layers(COLOR))
            .src_offsets([offset(0, 0), end(5, 3)])
            .dst_subresource(layers(COLOR))
            .dst_offsets([offset(4, 2), end(9, 5)])];
        let info = vk::BlitImageInfo2::default()
            .src_image(source(rig))
            .src_image_layout(GENERAL)
            .dst_image(image)
            .dst_image_layout(GENERAL)
            .regions(&region)
            .filter(vk::Filter::NEAREST);
        device.cmd_blit_image2(commands, &info);
    });
}

#[test]
fn resolve_image() {
    rectangle(&[255, 0, 255, 0].repeat(15), |rig, image, device, commands| unsafe {
        let region = [vk::ImageResolve {
            src_subresource: layers(COLOR),
            dst_subresource: layers(COLOR),
            dst_offset: offset(4, 2),
            extent: extent(5, 3),
            ..Default::default()
        }];
        let source = samples(rig, [1.0, 0.0, 1.0, 0.0]);
        device.cmd_resolve_image(commands, source, GENERAL, image, GENERAL, &region);
    });
}

#[test]
fn resolve_image2() {
    rectangle(&[0, 255, 255, 0].repeat(15), |rig, image, device, commands| unsafe {
        let region = [vk::ImageResolve2::default()
            .src_subresource(layers(COLOR))
            .dst_subresource(layers(COLOR))
            .dst_offset(offset(4, 2))
            .extent(extent(5, 3))];
        let info = vk::ResolveImageInfo2::default()
            .src_image(samples(rig, [0.0, 1.0, 1.0, 0.0]))
            .src_image_layout(GENERAL)
            .dst_image(image)
            .dst_image_layout(GENERAL)
            .regions(&region);
        device.cmd_resolve_image2(commands, &info);
    });
}

#[test]
fn clear_color_image() {
    let size = Cell::new(0);
    let counters = counted(|rig| {
        let image = rig.general(&linear(FORMAT, 20, 9), Kind::Coherent);
        let commands = rig.record(|device, commands| unsafe {
            let color = vk::ClearColorValue { float32: [1.0, 0.0, 0.0, 1.0] };
            device.cmd_clear_color_image(commands, image.raw, GENERAL, &color, &[all(COLOR)]);
        });
        let written = image.rows(rig, (0, 0), 20, 4, &[255, 0, 0, 255].repeat(180));
        // What lies between rows is nobody's.
        rig.submit(&commands);
        for (at, row) in written {
            assert_same(&image.bytes().read(at, row.len()), &row);
        }
        size.set(image.whole(rig));
    });
    counters.are(0, 2 * size.get());
}

#[test]
fn clear_depth_stencil_image() {
    let size = Cell::new(0);
    let counters = counted(|rig| {
        let info = flat(vk::Format::D32_SFLOAT, 8, 8);
        let image = rig.general(&info, Kind::Coherent);
        let range = [all(vk::ImageAspectFlags::DEPTH)];
        rig.run(|device, commands| unsafe {
            let value = vk::ClearDepthStencilValue { depth: 0.5, stencil: 0 };
            device.cmd_clear_depth_stencil_image(commands, image.raw, GENERAL, &value, &range);
        });
        assert_eq!(seen_as(rig, &image), image.bytes().read_all());
        assert!(image.bytes().read_all().chunks(4).any(|word| word == 0.5_f32.to_le_bytes()));
        size.set(image.size);
    });
    counters.are(0, 2 * size.get());
}

/// The memory of an image as the device sees it, by a buffer out of the processor's sight.
pub(crate) fn seen_as(rig: &Rig, image: &Image) -> Vec<u8> {
    let mut alias = Buffer::unbound(rig.gpu(), image.size);
    let (memory, offset) = image.place();
    alias.bind(memory, offset);
    rig.look(&alias)
}

#[test]
fn an_optimal_image_is_written_as_a_whole() {
    let size = Cell::new(0);
    let counters = counted(|rig| {
        let image = rig.general(&flat(FORMAT, 20, 9), Kind::Coherent);
        let buffer = texels(rig);
        rig.run(|device, commands| unsafe {
            let region = [vk::BufferImageCopy {
                buffer_offset: 8,
                image_subresource: layers(COLOR),
                image_offset: offset(4, 2),
                image_extent: extent(5, 3),
                ..Default::default()
            }];
            device.cmd_copy_buffer_to_image(commands, buffer, image.raw, GENERAL, &region);
        });
        assert_same(&image.bytes().read_all(), &seen_as(rig, &image));
        size.set(image.size);
    });
    counters.are(0, 2 * size.get());
}

#[test]
fn one_layer_of_a_linear_image_is_written() {
    let info = linear(FORMAT, 12, 4).array_layers(3);
    let sizes = Cell::new((0, 0));
    let counters = counted(|rig| {
        if !rig.offers(&info) {
            crate::missing::skip(crate::missing::LINEAR_LAYERS);
            return;
        }
        let image = rig.general(&info, Kind::Coherent);
        let layer = |index| image.layout_of(rig, 0, index);
        let buffer = texels(rig);
        let commands = rig.record(|device, commands| unsafe {
            let region = [vk::BufferImageCopy {
                buffer_offset: 8,
                image_subresource: vk::ImageSubresourceLayers { base_array_layer: 1, ..layers(COLOR) },
                image_offset: offset(4, 2),
                image_extent: extent(5, 2),
                ..Default::default()
            }];
            device.cmd_copy_buffer_to_image(commands, buffer, image.raw, GENERAL, &region);
        });
        let start = usize::try_from(layer(1).offset - layer(0).offset).expect("64 bits");
        let rows = image.rows(rig, (4, 2), 5, 4, &pattern(3, 40));
        let rows: Vec<_> = rows.into_iter().map(|(at, row)| (at + start, row)).collect();
        rig.beside(&commands, image.bytes(), &rows);
        // The host's size of a layer may reach into the next ones.
        let end = |index| layer(index).offset + layer(index).size;
        let whole = usize::try_from(end(2)).expect("64 bits").min(image.size);
        sizes.set((whole, usize::try_from(end(1)).expect("64 bits").min(image.size) - start));
    });
    counters.are(0, sizes.get().0 + sizes.get().1);
}

#[test]
fn a_change_of_layout_may_write_and_a_barrier_without_one_does_not() {
    let size = Cell::new(0);
    let counters = counted(|rig| {
        let image = rig.image(&linear(FORMAT, 20, 9), Kind::Coherent);
        rig.run(|device, commands| enter(device, commands, &image, GENERAL));
        rig.run(|device, commands| {
            let barrier = crate::image::barrier_to(&image, GENERAL).old_layout(GENERAL);
            let stage = vk::PipelineStageFlags::ALL_COMMANDS;
            unsafe {
                device.cmd_pipeline_barrier(commands, stage, stage, Default::default(), &[], &[], &[barrier]);
            }
        });
        size.set(image.whole(rig));
    });
    counters.are(0, size.get());
}

/// As the first version's barrier.
fn barrier2(image: &Image) -> [vk::ImageMemoryBarrier2<'static>; 1] {
    [vk::ImageMemoryBarrier2::default()
        .src_stage_mask(vk::PipelineStageFlags2::ALL_COMMANDS)
        .src_access_mask(vk::AccessFlags2::MEMORY_WRITE)
        .dst_stage_mask(vk::PipelineStageFlags2::ALL_COMMANDS)
        .dst_access_mask(vk::AccessFlags2::MEMORY_READ | vk::AccessFlags2::MEMORY_WRITE)
        .old_layout(vk::ImageLayout::UNDEFINED)
        .new_layout(GENERAL)
        .src_queue_family_index(vk::QUEUE_FAMILY_IGNORED)
        .dst_queue_family_index(vk::QUEUE_FAMILY_IGNORED)
        .image(image.raw)
        .subresource_range(all(COLOR))]
}

#[test]
fn pipeline_barrier2() {
    let size = Cell::new(0);
    let counters = counted(|rig| {
        let image = rig.image(&linear(FORMAT, 20, 9), Kind::Coherent);
        let barriers = barrier2(&image);
        let info = vk::DependencyInfo::default().image_memory_barriers(&barriers);
        rig.run(|device, commands| unsafe { device.cmd_pipeline_barrier2(commands, &info) });
        size.set(image.whole(rig));
    });
    counters.are(0, size.get());
}

/// An event that is set, to wait for.
fn event(rig: &Rig) -> vk::Event {
    let event =
        unsafe { rig.raw().create_event(&vk::EventCreateInfo::default(), None) }.expect("vkCreateEvent");
    unsafe { rig.raw().set_event(event) }.expect("vkSetEvent");
    rig.own(move |device| unsafe { device.destroy_event(event, None) });
    event
}

#[test]
fn wait_events() {
    let size = Cell::new(0);
    let counters = counted(|rig| {
        let image = rig.image(&linear(FORMAT, 20, 9), Kind::Coherent);
        let (event, barrier) = (event(rig), crate::image::barrier_to(&image, GENERAL));
        let (host, later) = (vk::PipelineStageFlags::HOST, vk::PipelineStageFlags::ALL_COMMANDS);
        rig.run(|device, commands| unsafe {
            device.cmd_wait_events(commands, &[event], host, later, &[], &[], &[barrier]);
        });
        size.set(image.whole(rig));
    });
    counters.are(0, size.get());
}

#[test]
fn wait_events2() {
    let size = Cell::new(0);
    let counters = counted(|rig| {
        let image = rig.image(&linear(FORMAT, 20, 9), Kind::Coherent);
        let mut barriers = barrier2(&image);
        barriers[0].src_stage_mask = vk::PipelineStageFlags2::HOST;
        let info = vk::DependencyInfo::default().image_memory_barriers(&barriers);
        let event = event(rig);
        rig.run(|device, commands| unsafe { device.cmd_wait_events2(commands, &[event], &[info]) });
        size.set(image.whole(rig));
    });
    counters.are(0, size.get());
}

#[test]
fn what_waits_for_an_event_of_the_processor_needs_twins() {
    let counters = counted(|rig| {
        let (target, event) = (rig.buffer(64), event(rig));
        let (host, later) = (vk::PipelineStageFlags::HOST, vk::PipelineStageFlags::ALL_COMMANDS);
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_wait_events(commands, &[event], host, later, &[], &[], &[]);
            device.cmd_fill_buffer(commands, target.raw(), 16, 16, 0x1313_1313);
        });
        rig.check(&commands, &target, &[(16, vec![0x13; 16])]);
    });
    counters.are(0, 16);
}
