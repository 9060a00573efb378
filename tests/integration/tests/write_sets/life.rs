//! The life of command buffers: secondary ones, ones submitted again, reset, recorded anew, or begun too
//! early.

use crate::graphics::{Stages, rendering};
use crate::kit::{COMPUTE, EVERY_OTHER, GRAPHICS, STORAGE, dispatch, every_other, range, transfers_in_order};
use crate::rig::{Rig, bytes_of, counted, counted_raw};
use ash::vk;
use lockstep_harness::{Batch, Buffer, Commands, Fence, Gpu, Kind, PAGE, Timeline, validation};

/// A pool of command buffers that can be reset, and some.
fn pool(rig: &Rig, level: vk::CommandBufferLevel, count: u32) -> (vk::CommandPool, Vec<vk::CommandBuffer>) {
    let info = vk::CommandPoolCreateInfo::default()
        .queue_family_index(rig.gpu().family())
        .flags(vk::CommandPoolCreateFlags::RESET_COMMAND_BUFFER);
    let pool = unsafe { rig.raw().create_command_pool(&info, None) }.expect("vkCreateCommandPool");
    rig.own(move |device| unsafe { device.destroy_command_pool(pool, None) });
    let info =
        vk::CommandBufferAllocateInfo::default().command_pool(pool).level(level).command_buffer_count(count);
    (pool, unsafe { rig.raw().allocate_command_buffers(&info) }.expect("vkAllocateCommandBuffers"))
}

/// Records a command buffer.
fn record(
    rig: &Rig,
    commands: vk::CommandBuffer,
    flags: vk::CommandBufferUsageFlags,
    write: impl FnOnce(&ash::Device),
) {
    let inherits = vk::CommandBufferInheritanceInfo::default();
    let info = vk::CommandBufferBeginInfo::default().flags(flags).inheritance_info(&inherits);
    unsafe { rig.raw().begin_command_buffer(commands, &info) }.expect("vkBeginCommandBuffer");
    write(rig.raw());
    unsafe { rig.raw().end_command_buffer(commands) }.expect("vkEndCommandBuffer");
}

/// Submits command buffers in one batch and waits for them.
fn submit(rig: &Rig, buffers: &[vk::CommandBuffer]) {
    let fence = Fence::new(rig.gpu());
    let info = [vk::SubmitInfo::default().command_buffers(buffers)];
    unsafe { rig.raw().queue_submit(*rig.gpu().queue(), &info, fence.raw()) }.expect("vkQueueSubmit");
    fence.wait();
}

const NONE: vk::CommandBufferUsageFlags = vk::CommandBufferUsageFlags::empty();
const PRIMARY: vk::CommandBufferLevel = vk::CommandBufferLevel::PRIMARY;
const SECONDARY: vk::CommandBufferLevel = vk::CommandBufferLevel::SECONDARY;

/// Fills 16 bytes.
fn fill(device: &ash::Device, commands: vk::CommandBuffer, to: &Buffer, at: u64, byte: u8) {
    let word = u32::from_ne_bytes([byte; 4]);
    unsafe { device.cmd_fill_buffer(commands, to.raw(), at, 16, word) };
}

#[test]
fn secondaries_write_what_they_recorded() {
    let counters = counted(|rig| {
        let (dest, shared) = (rig.buffer(PAGE), rig.buffer(PAGE));
        let (_, secondaries) = pool(rig, SECONDARY, 2);
        let (set_layout, set) = rig.buffers(&[range(&dest, 256, 64)]);
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(EVERY_OTHER, layout);
        record(rig, secondaries[0], NONE, |d| fill(d, secondaries[0], &dest, 16, 0x91));
        record(rig, secondaries[1], NONE, |d| {
            dispatch(d, secondaries[1], pipeline, layout, &[set], &[]);
            fill(d, secondaries[1], &shared, 0, 0x92);
        });
        let commands = rig.record(|device, commands| unsafe {
            fill(device, commands, &dest, 1024, 0x93);
            device.cmd_execute_commands(commands, &secondaries);
        });
        let written = [every_other(256), vec![(16, vec![0x91; 16]), (1024, vec![0x93; 16])]].concat();
        rig.check(&commands, &dest, &written);
        assert_eq!(shared.bytes().read(0, 16), [0x92; 16]);
    });
    counters.are(16 * 3, 64);
}

#[test]
fn secondaries_know_late_sets_too() {
    validation::ignore(
        &[
            "VUID-VkDescriptorSetLayoutBindingFlagsCreateInfo-descriptorBindingStorageBufferUpdateAfterBind-03008",
        ],
        "lavapipe does it without saying so",
    );
    let counters = counted(|rig| {
        let dest = rig.buffer(PAGE);
        let set_layout = rig.set_layout_with(
            &[(0, STORAGE, 1)],
            vk::DescriptorSetLayoutCreateFlags::UPDATE_AFTER_BIND_POOL,
            vk::DescriptorBindingFlags::UPDATE_AFTER_BIND,
        );
        let set = rig.set(set_layout);
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(EVERY_OTHER, layout);
        let (_, secondaries) = pool(rig, SECONDARY, 1);
        record(rig, secondaries[0], NONE, |d| dispatch(d, secondaries[0], pipeline, layout, &[set], &[]));
        let commands = rig.record(|d, c| unsafe { d.cmd_execute_commands(c, &secondaries) });
        rig.update(set, 0, STORAGE, &[range(&dest, 512, 48)]);
        rig.check(&commands, &dest, &every_other(512));
    });
    counters.are(0, 48);
}

/// One vertex writes a word.
const VERTEX: &str = "
    @group(0) @binding(0) var<storage, read_write> dest: array<u32>;
    @vertex fn main(@builtin(vertex_index) index: u32) -> @builtin(position) vec4<f32> {
        dest[index] = 77u;
        return vec4<f32>(0.0, 0.0, 0.0, 1.0);
    }";

#[test]
fn a_secondary_inside_of_a_pass() {
    let counters = counted(|rig| {
        let dest = rig.buffer(PAGE);
        let (set_layout, set) = rig.buffers(&[range(&dest, 256, 80)]);
        let layout = rig.layout(&[set_layout]);
        let stages = Stages { vertex: VERTEX, points: true, ..Default::default() };
        let pipeline = rig.graphics(stages, layout);
        let (_, secondaries) = pool(rig, SECONDARY, 1);
        let mut rendered = vk::CommandBufferInheritanceRenderingInfo::default()
            .rasterization_samples(vk::SampleCountFlags::TYPE_1);
        let inherits = vk::CommandBufferInheritanceInfo::default().push_next(&mut rendered);
        let info = vk::CommandBufferBeginInfo::default()
            .flags(vk::CommandBufferUsageFlags::RENDER_PASS_CONTINUE)
            .inheritance_info(&inherits);
        let (device, secondary) = (rig.raw(), secondaries[0]);
        unsafe {
            device.begin_command_buffer(secondary, &info).expect("vkBeginCommandBuffer");
            device.cmd_bind_pipeline(secondary, GRAPHICS, pipeline);
            device.cmd_bind_descriptor_sets(secondary, GRAPHICS, layout, 0, &[set], &[]);
            device.cmd_draw(secondary, 1, 1, 3, 0);
            device.end_command_buffer(secondary).expect("vkEndCommandBuffer");
        }
        let commands = rig.record(|device, commands| unsafe {
            let area = crate::graphics::area(0, 0, 8, 8);
            let info = vk::RenderingInfo::default()
                .flags(vk::RenderingFlags::CONTENTS_SECONDARY_COMMAND_BUFFERS)
                .render_area(area)
                .layer_count(1);
            device.cmd_begin_rendering(commands, &info);
            device.cmd_execute_commands(commands, &secondaries);
            device.cmd_end_rendering(commands);
        });
        rig.check(&commands, &dest, &[(256 + 12, bytes_of(&[77]))]);
    });
    counters.are(0, 80);
}

#[test]
fn what_was_bound_before_secondaries_must_be_bound_again() {
    let counters = counted(|rig| {
        let dest = rig.buffer(PAGE);
        let (set_layout, set) = rig.buffers(&[range(&dest, 256, 64)]);
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(EVERY_OTHER, layout);
        let (_, secondaries) = pool(rig, SECONDARY, 1);
        record(rig, secondaries[0], NONE, |d| fill(d, secondaries[0], &dest, 0, 0x91));
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_bind_pipeline(commands, COMPUTE, pipeline);
            device.cmd_execute_commands(commands, &secondaries);
            dispatch(device, commands, pipeline, layout, &[set], &[]);
        });
        rig.check(&commands, &dest, &[every_other(256), vec![(0, vec![0x91; 16])]].concat());
    });
    counters.are(16, 64);
}

#[test]
fn every_submission_counts() {
    let counters = counted(|rig| {
        let dest = rig.buffer(PAGE);
        let commands = rig.record(|d, c| fill(d, c, &dest, 32, 0x94));
        for _ in 0..3 {
            rig.check(&commands, &dest, &[(32, vec![0x94; 16])]);
        }
    });
    counters.are(3 * 16, 0);
}

#[test]
fn a_command_buffer_may_be_pending_twice() {
    let counters = counted(|rig| {
        let (dest, source) = (rig.buffer(PAGE), rig.buffer(16));
        let (_, buffers) = pool(rig, PRIMARY, 1);
        record(rig, buffers[0], vk::CommandBufferUsageFlags::SIMULTANEOUS_USE, |device| unsafe {
            let region = [vk::BufferCopy { src_offset: 0, dst_offset: 64, size: 16 }];
            device.cmd_copy_buffer(buffers[0], source.raw(), dest.raw(), &region);
            let barrier = [vk::MemoryBarrier::default()
                .src_access_mask(vk::AccessFlags::TRANSFER_WRITE)
                .dst_access_mask(vk::AccessFlags::TRANSFER_WRITE | vk::AccessFlags::HOST_READ)];
            let all = vk::PipelineStageFlags::ALL_COMMANDS;
            device.cmd_pipeline_barrier(buffers[0], all, all, Default::default(), &barrier, &[], &[]);
        });
        let bytes = source.bytes().read_all();
        let fence = Fence::new(rig.gpu());
        let info = vk::SubmitInfo::default().command_buffers(&buffers);
        unsafe { rig.raw().queue_submit(*rig.gpu().queue(), &[info, info], fence.raw()) }.expect("submitted");
        fence.wait();
        assert_eq!(dest.bytes().read(64, 16), bytes);
    });
    counters.are(2 * 16, 0);
}

#[test]
fn a_batch_writes_what_all_its_command_buffers_write() {
    let counters = counted(|rig| {
        let dest = rig.buffer(PAGE);
        let (_, buffers) = pool(rig, PRIMARY, 3);
        for (at, buffer) in [0, 8, 100].into_iter().zip(&buffers) {
            record(rig, *buffer, NONE, |d| {
                fill(d, *buffer, &dest, at, 0x95);
                transfers_in_order(d, *buffer);
            });
        }
        submit(rig, &buffers);
        assert_eq!(dest.bytes().read(0, 24), [0x95; 24]);
        assert_eq!(dest.bytes().read(100, 16), [0x95; 16]);
    });
    counters.are(24 + 16, 0);
}

#[test]
fn what_is_recorded_anew_forgets_what_was() {
    let counters = counted(|rig| {
        let dest = rig.buffer(PAGE);
        let (pool, buffers) = pool(rig, PRIMARY, 1);
        let once = vk::CommandBufferUsageFlags::ONE_TIME_SUBMIT;
        let big = |device: &ash::Device| unsafe {
            device.cmd_fill_buffer(buffers[0], dest.raw(), 0, vk::WHOLE_SIZE, 0);
        };
        record(rig, buffers[0], NONE, big);
        // Begun again without a word.
        record(rig, buffers[0], once, |d| fill(d, buffers[0], &dest, 16, 0x96));
        submit(rig, &buffers);
        record(rig, buffers[0], NONE, big);
        unsafe { rig.raw().reset_command_buffer(buffers[0], Default::default()) }.expect("reset");
        record(rig, buffers[0], once, |d| fill(d, buffers[0], &dest, 32, 0x97));
        submit(rig, &buffers);
        record(rig, buffers[0], NONE, big);
        unsafe { rig.raw().reset_command_pool(pool, Default::default()) }.expect("reset");
        record(rig, buffers[0], once, |d| fill(d, buffers[0], &dest, 64, 0x98));
        submit(rig, &buffers);
        assert_eq!(dest.bytes().read(16, 32), [[0x96; 16], [0x97; 16]].concat());
        assert_eq!(dest.bytes().read(64, 16), [0x98; 16]);
    });
    counters.are(3 * 16, 0);
}

#[test]
fn a_handle_that_is_used_again_has_a_recording_of_its_own() {
    let counters = counted(|rig| {
        let dest = rig.buffer(PAGE);
        for round in 0..50_u8 {
            let commands = rig.record(|d, c| fill(d, c, &dest, 16 * u64::from(round), round));
            rig.submit(&commands);
            assert_eq!(dest.bytes().read(16 * usize::from(round), 16), [round; 16]);
        }
    });
    counters.are(50 * 16, 0);
}

#[test]
fn commands_begun_before_the_first_map_may_write_anything() {
    let builder = Gpu::builder().everything();
    let counters = counted_raw(builder, |gpu| {
        let dest = Buffer::unmapped(gpu, Kind::Coherent, 2 * PAGE);
        let other = Buffer::unmapped(gpu, Kind::Coherent, PAGE);
        let early = Commands::new(gpu, |r| r.fill(&dest, 16, 16, 0x99));
        let bytes = dest.memory().map_whole();
        let run = |commands: &Commands| {
            let fence = Fence::new(gpu);
            gpu.submit(&[Batch::new().run(commands)], Some(&fence));
            bytes.fill(32, 16, 0x11);
            fence.wait();
            assert_eq!(bytes.read(16, 32), [[0x99; 16], [0x11; 16]].concat());
        };
        run(&early);
        run(&Commands::new(gpu, |r| r.fill(&dest, 16, 16, 0x99)));
        drop(other);
        0
    });
    counters.are(16, 3 * PAGE);
}

#[test]
fn a_batch_behind_the_processor_may_find_its_bytes_changed() {
    let counters = counted(|rig| {
        let (dest, timeline) = (rig.buffer(PAGE), Timeline::new(rig.gpu()));
        let commands = rig.record(|d, c| fill(d, c, &dest, 16, 0x9A));
        let fence = Fence::new(rig.gpu());
        rig.gpu().submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&fence));
        // Legal until the signal: the device writes later.
        dest.bytes().fill(0, PAGE, 0x12);
        timeline.signal(1);
        dest.bytes().fill(32, PAGE - 32, 0x13);
        fence.wait();
        let mut expected = vec![0x13; PAGE];
        expected[..16].fill(0x12);
        expected[16..32].fill(0x9A);
        crate::rig::assert_same(&dest.bytes().read_all(), &expected);
    });
    // A batch that the host is given after the signal waits for nobody.
    let given_late = lockstep_harness::dma_under_test();
    counters.are(if given_late { 16 } else { 0 }, if given_late { 0 } else { 16 });
}

#[test]
fn nothing_of_a_bystander_is_compared() {
    let counters = counted(|rig| {
        let dest = rig.buffer(PAGE);
        rig.run(|d, c| {
            fill(d, c, &dest, 16, 0x9B);
            rendering(d, c, || ());
        });
    });
    counters.are(16, 0);
    counters.cost(16, 0);
}
