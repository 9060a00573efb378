//! Bytes the processor wrote to coherent memory reach the device at every point where Vulkan promises it.

use ash::vk;
use lockstep_harness::{
    Batch, Buffer, Commands, Event, Fence, Gpu, Kind, MappedBytes, Memory, PAGE, Semaphore, Timeline,
    TimelineUse, pattern, skip, validation,
};

/// A size of several pages that is a multiple of neither 8 nor a page.
const SIZE: usize = 3 * PAGE + 13;

/// Copies `from` to `to` as one batch and waits for it.
fn copy_all(gpu: &Gpu, from: &Buffer, to: &Buffer) {
    gpu.run(|r| r.copy(from, 0, to, 0, from.len()));
}

#[test]
fn queue_submit_carries_bytes_written_before() {
    let gpu = Gpu::new();
    let (source, target) = (Buffer::mapped(&gpu, Kind::Coherent, SIZE), Buffer::poisoned(&gpu, SIZE));
    let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
    let fence = Fence::new(&gpu);

    source.bytes().write(0, &pattern(1, SIZE));
    gpu.submit(&[Batch::new().run(&commands)], Some(&fence));
    fence.wait();

    assert_eq!(target.as_device_sees(0, SIZE), pattern(1, SIZE));
}

#[test]
fn queue_submit2_carries_bytes_written_before() {
    let gpu = Gpu::new();
    let (source, target) = (Buffer::mapped(&gpu, Kind::Coherent, SIZE), Buffer::poisoned(&gpu, SIZE));
    let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
    let fence = Fence::new(&gpu);

    source.bytes().write(0, &pattern(2, SIZE));
    gpu.submit2(&[Batch::new().run(&commands)], Some(&fence));
    fence.wait();

    assert_eq!(target.as_device_sees(0, SIZE), pattern(2, SIZE));
}

#[test]
fn queue_submit2_of_the_extension_carries_bytes_written_before() {
    let gpu = Gpu::builder().api(vk::API_VERSION_1_1).build();
    let (source, target) = (Buffer::mapped(&gpu, Kind::Coherent, SIZE), Buffer::poisoned(&gpu, SIZE));
    let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
    let timeline = Timeline::new(&gpu);

    source.bytes().write(0, &pattern(3, SIZE));
    gpu.submit2(&[Batch::new().run(&commands).signal(&timeline, 1)], None);
    timeline.wait(1);

    assert_eq!(target.as_device_sees(0, SIZE), pattern(3, SIZE));
}

/// Writes, submits and reads back on a device that was asked for in a certain way.
fn write_copy_and_read(gpu: &Gpu) {
    let (source, target) =
        (Buffer::mapped(gpu, Kind::Coherent, SIZE), Buffer::mapped(gpu, Kind::Coherent, SIZE));
    target.bytes().fill(0, SIZE, 0xEE);
    for round in 0..3 {
        source.bytes().write(0, &pattern(round, SIZE));
        copy_all(gpu, &source, &target);
        assert_eq!(target.bytes().read_all(), pattern(round, SIZE));
    }
}

#[test]
fn a_vulkan_1_0_application_gets_its_bytes() {
    write_copy_and_read(&Gpu::builder().api(vk::API_VERSION_1_0).build());
}

#[test]
fn an_application_that_never_mentions_timelines_gets_its_bytes() {
    write_copy_and_read(&Gpu::builder().timeline(TimelineUse::Unmentioned).build());
}

#[test]
fn an_application_that_turns_timelines_off_in_the_1_2_features_gets_its_bytes() {
    write_copy_and_read(&Gpu::builder().timeline(TimelineUse::OffInVulkan12Features).build());
}

#[test]
fn an_application_that_turns_timelines_off_in_their_own_features_gets_its_bytes() {
    write_copy_and_read(&Gpu::builder().timeline(TimelineUse::OffInOwnFeatures).build());
}

#[test]
fn signal_semaphore_carries_bytes_written_after_the_submit() {
    let gpu = Gpu::new();
    let (source, target) = (Buffer::mapped(&gpu, Kind::Coherent, SIZE), Buffer::poisoned(&gpu, SIZE));
    let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
    let (timeline, fence) = (Timeline::new(&gpu), Fence::new(&gpu));
    source.bytes().fill(0, SIZE, 0x11);

    gpu.submit(&[Batch::new().wait(&timeline, 5).run(&commands)], Some(&fence));
    source.bytes().write(0, &pattern(4, SIZE));
    timeline.signal(5);
    fence.wait();

    assert_eq!(target.as_device_sees(0, SIZE), pattern(4, SIZE));
}

#[test]
fn each_of_many_signals_carries_the_bytes_written_before_it() {
    let gpu = Gpu::new();
    let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let targets: Vec<_> = (0..8).map(|_| Buffer::poisoned(&gpu, SIZE)).collect();
    let commands: Vec<_> =
        targets.iter().map(|target| Commands::new(&gpu, |r| r.copy(&source, 0, target, 0, SIZE))).collect();
    let (go, done) = (Timeline::new(&gpu), Timeline::new(&gpu));

    let batch = |(value, commands)| Batch::new().wait(&go, value).run(commands).signal(&done, value);
    gpu.submit(&(1..).zip(&commands).map(batch).collect::<Vec<_>>(), None);
    for value in 1..=8 {
        source.bytes().write(0, &pattern(value, SIZE));
        go.signal(value);
        done.wait(value);
    }

    for (value, target) in (1..).zip(&targets) {
        assert_eq!(target.as_device_sees(0, SIZE), pattern(value, SIZE), "batch {value}");
    }
}

#[test]
fn empty_submits_between_write_and_copy_lose_nothing() {
    let gpu = Gpu::new();
    let (source, target) = (Buffer::mapped(&gpu, Kind::Coherent, SIZE), Buffer::poisoned(&gpu, SIZE));
    let (semaphore, timeline, fence) = (Semaphore::new(&gpu), Timeline::new(&gpu), Fence::new(&gpu));
    let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));

    source.bytes().write(0, &pattern(5, SIZE));
    gpu.submit(&[], None);
    gpu.submit(&[Batch::new().signal_binary(&semaphore)], None);
    gpu.submit2(&[Batch::new().signal(&timeline, 1)], None);
    gpu.submit(&[Batch::new().wait_binary(&semaphore).wait(&timeline, 1).run(&commands)], Some(&fence));
    fence.wait();

    assert_eq!(target.as_device_sees(0, SIZE), pattern(5, SIZE));
}

#[test]
fn an_empty_submit_on_one_queue_carries_bytes_to_work_that_waits_on_another() {
    let gpu = Gpu::new();
    let Some(second) = gpu.second_queue() else {
        skip("this device has one queue, and whatever is submitted behind a waiting batch waits too");
        return;
    };
    let (source, target) = (Buffer::mapped(&gpu, Kind::Coherent, SIZE), Buffer::poisoned(&gpu, SIZE));
    let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
    let (timeline, fence) = (Timeline::new(&gpu), Fence::new(&gpu));
    source.bytes().fill(0, SIZE, 0x11);

    gpu.submit(&[Batch::new().wait(&timeline, 5).run(&commands)], Some(&fence));
    source.bytes().write(0, &pattern(17, SIZE));
    gpu.submit_to(second, &[Batch::new().signal(&timeline, 5)], None);
    fence.wait();

    assert_eq!(target.as_device_sees(0, SIZE), pattern(17, SIZE));
}

#[test]
fn an_event_set_by_the_host_before_the_submit_lets_work_see_the_bytes() {
    let gpu = Gpu::new();
    let (source, target) = (Buffer::mapped(&gpu, Kind::Coherent, SIZE), Buffer::poisoned(&gpu, SIZE));
    let (event, fence) = (Event::new(&gpu), Fence::new(&gpu));
    let commands = Commands::new(&gpu, |r| {
        r.wait_host_event(&event);
        r.copy(&source, 0, &target, 0, SIZE);
    });

    source.bytes().write(0, &pattern(6, SIZE));
    event.set();
    gpu.submit(&[Batch::new().run(&commands)], Some(&fence));
    fence.wait();

    assert!(event.is_set());
    assert_eq!(target.as_device_sees(0, SIZE), pattern(6, SIZE));
}

#[test]
fn an_event_set_by_the_host_while_a_batch_is_held_back_carries_bytes() {
    let gpu = Gpu::new();
    let (source, target) = (Buffer::mapped(&gpu, Kind::Coherent, SIZE), Buffer::poisoned(&gpu, SIZE));
    let (event, timeline, fence) = (Event::new(&gpu), Timeline::new(&gpu), Fence::new(&gpu));
    let commands = Commands::new(&gpu, |r| {
        r.wait_host_event(&event);
        r.copy(&source, 0, &target, 0, SIZE);
    });
    source.bytes().fill(0, SIZE, 0x33);

    gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&fence));
    source.bytes().write(0, &pattern(7, SIZE));
    event.set();
    timeline.signal(1);
    fence.wait();

    assert_eq!(target.as_device_sees(0, SIZE), pattern(7, SIZE));
}

#[test]
fn an_event_set_by_the_host_after_the_submit_carries_bytes() {
    // Today's specification forbids to set an event that pending work waits for; older applications do.
    if lockstep_harness::dma_under_test() {
        return skip("where the device copies, nothing overtakes a batch that it has");
    }
    let gpu = Gpu::new();
    let (source, target) = (Buffer::mapped(&gpu, Kind::Coherent, SIZE), Buffer::poisoned(&gpu, SIZE));
    let (event, fence) = (Event::new(&gpu), Fence::new(&gpu));
    let commands = Commands::new(&gpu, |r| {
        r.wait_host_event(&event);
        r.copy(&source, 0, &target, 0, SIZE);
    });
    source.bytes().fill(0, SIZE, 0x44);

    gpu.submit(&[Batch::new().run(&commands)], Some(&fence));
    source.bytes().write(0, &pattern(18, SIZE));
    event.set();
    fence.wait();

    assert_eq!(target.as_device_sees(0, SIZE), pattern(18, SIZE));
}

#[test]
fn bytes_written_before_the_buffer_is_bound_arrive() {
    let gpu = Gpu::new();
    let mut source = Buffer::unbound(&gpu, SIZE);
    let target = Buffer::poisoned(&gpu, SIZE);
    let memory = Memory::new(&gpu, Kind::Coherent, 8 * PAGE);

    memory.map_whole().write(PAGE, &pattern(8, SIZE));
    source.bind(&memory, PAGE);
    copy_all(&gpu, &source, &target);

    assert_eq!(target.as_device_sees(0, SIZE), pattern(8, SIZE));
}

#[test]
fn bytes_written_and_unmapped_before_the_buffer_is_bound_arrive() {
    let gpu = Gpu::new();
    let memory = Memory::new(&gpu, Kind::Coherent, 8 * PAGE);
    let target = Buffer::poisoned(&gpu, SIZE);

    memory.map(2 * PAGE, SIZE).write(0, &pattern(9, SIZE));
    memory.unmap();
    // Other work in between: it may take what is dirty, and must not lose it.
    gpu.run(|r| r.fill(&target, 0, 4, 0x77));
    let mut source = Buffer::unbound(&gpu, SIZE);
    source.bind(&memory, 2 * PAGE);
    copy_all(&gpu, &source, &target);

    assert_eq!(target.as_device_sees(0, SIZE), pattern(9, SIZE));
}

#[test]
fn bytes_written_then_unmapped_then_submitted_arrive() {
    let gpu = Gpu::new();
    let (source, target) = (Buffer::unmapped(&gpu, Kind::Coherent, SIZE), Buffer::poisoned(&gpu, SIZE));

    source.memory().map_whole().write(0, &pattern(10, SIZE));
    source.memory().unmap();
    copy_all(&gpu, &source, &target);

    assert_eq!(target.as_device_sees(0, SIZE), pattern(10, SIZE));
}

#[test]
fn bytes_written_through_several_maps_all_arrive() {
    let gpu = Gpu::new();
    let (source, target) = (Buffer::unmapped(&gpu, Kind::Coherent, SIZE), Buffer::poisoned(&gpu, SIZE));
    let expected = pattern(11, SIZE);

    let ranges = [(0, 1), (1, 4098), (4099, 3), (4102, PAGE), (4102 + PAGE, SIZE - 4102 - PAGE)];
    for (offset, len) in ranges {
        source.memory().map(offset, len).write(0, &expected[offset..offset + len]);
        source.memory().unmap();
    }
    copy_all(&gpu, &source, &target);

    assert_eq!(target.as_device_sees(0, SIZE), expected);
}

#[test]
fn a_map_at_an_odd_offset_writes_there_and_nowhere_else() {
    let gpu = Gpu::new();
    let (source, target) = (Buffer::unmapped(&gpu, Kind::Coherent, SIZE), Buffer::poisoned(&gpu, SIZE));
    let mut expected = pattern(12, SIZE);
    source.memory().map_whole().write(0, &expected);
    source.memory().unmap();
    copy_all(&gpu, &source, &target);

    let inner = source.memory().map(4093, 4099);
    inner.fill(0, 4099, 0xC3);
    copy_all(&gpu, &source, &target);
    expected[4093..4093 + 4099].fill(0xC3);

    assert_eq!(target.as_device_sees(0, SIZE), expected);
}

#[test]
fn map_memory2_maps_like_map_memory() {
    validation::is_older_than_map_memory2();
    let gpu = Gpu::new();
    if !gpu.advertises(c"VK_KHR_map_memory2") {
        skip("VK_KHR_map_memory2 is not advertised");
        return;
    }
    let gpu = Gpu::builder().device_extension(c"VK_KHR_map_memory2").build();
    let functions = ash::khr::map_memory2::Device::new(gpu.instance().raw(), gpu.raw());
    let (source, target) = (Buffer::unmapped(&gpu, Kind::Coherent, SIZE), Buffer::poisoned(&gpu, SIZE));
    let raw = source.memory().raw();

    let info = vk::MemoryMapInfoKHR::default().memory(raw).offset(5).size(SIZE as u64 - 5);
    let mut start = std::ptr::null_mut();
    // SAFETY: The memory is mappable, unmapped and has this range.
    let result =
        unsafe { (functions.fp().map_memory2_khr)(functions.device(), &raw const info, &raw mut start) };
    result.result().expect("vkMapMemory2KHR");
    MappedBytes::new(start, SIZE - 5).write(0, &pattern(13, SIZE - 5));
    let info = vk::MemoryUnmapInfoKHR::default().memory(raw);
    // SAFETY: The memory is mapped.
    let result = unsafe { (functions.fp().unmap_memory2_khr)(functions.device(), &raw const info) };
    result.result().expect("vkUnmapMemory2KHR");
    copy_all(&gpu, &source, &target);

    assert_eq!(target.as_device_sees(5, SIZE - 5), pattern(13, SIZE - 5));
}

#[test]
fn commands_recorded_once_see_new_bytes_at_every_submit() {
    let gpu = Gpu::new();
    let (source, target) = (Buffer::mapped(&gpu, Kind::Coherent, SIZE), Buffer::poisoned(&gpu, SIZE));
    let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
    let fence = Fence::new(&gpu);

    for round in 0..20 {
        source.bytes().write(0, &pattern(100 + round, SIZE));
        gpu.submit(&[Batch::new().run(&commands)], Some(&fence));
        fence.wait();
        fence.reset();
        assert_eq!(target.as_device_sees(0, SIZE), pattern(100 + round, SIZE), "round {round}");
    }
}

#[test]
fn single_bytes_scattered_over_pages_arrive() {
    let gpu = Gpu::new();
    let len = 64 * PAGE + 1;
    let source = Buffer::coherent_with(&gpu, &pattern(14, len));
    let target = Buffer::poisoned(&gpu, len);
    copy_all(&gpu, &source, &target);
    let mut expected = pattern(14, len);

    for page in (0..64).step_by(3) {
        let offset = page * PAGE + (page * 619) % PAGE;
        expected[offset] ^= 0xFF;
        source.bytes().store(offset, expected[offset]);
    }
    expected[len - 1] ^= 1;
    source.bytes().store(len - 1, expected[len - 1]);
    copy_all(&gpu, &source, &target);

    assert_eq!(target.as_device_sees(0, len), expected);
}

#[test]
fn zeroes_written_over_other_bytes_arrive() {
    let gpu = Gpu::new();
    let source = Buffer::coherent_with(&gpu, &pattern(15, SIZE));
    let target = Buffer::poisoned(&gpu, SIZE);
    copy_all(&gpu, &source, &target);

    source.bytes().fill(PAGE - 3, PAGE + 9, 0);
    copy_all(&gpu, &source, &target);

    let mut expected = pattern(15, SIZE);
    expected[PAGE - 3..2 * PAGE + 6].fill(0);
    assert_eq!(target.as_device_sees(0, SIZE), expected);
}

#[test]
fn zeroes_written_to_memory_never_touched_arrive() {
    let gpu = Gpu::new();
    // Memory the device has filled before: its pages may come again, with the old bytes on the device's side.
    for _ in 0..4 {
        drop(Buffer::coherent_with(&gpu, &[0x99; SIZE]).all_as_device_sees());
    }
    let (source, target) = (Buffer::mapped(&gpu, Kind::Coherent, SIZE), Buffer::poisoned(&gpu, SIZE));

    source.bytes().fill(0, SIZE, 0);
    copy_all(&gpu, &source, &target);

    assert_eq!(target.as_device_sees(0, SIZE), vec![0; SIZE]);
}

#[test]
fn zeroes_written_over_what_the_device_filled_arrive() {
    let gpu = Gpu::new();
    let len = 3 * PAGE + 12;
    let (source, target) = (Buffer::mapped(&gpu, Kind::Coherent, len), Buffer::poisoned(&gpu, len));
    gpu.run(|r| r.fill(&source, 0, len, 0x5C));

    source.bytes().fill(1, len - 2, 0);
    copy_all(&gpu, &source, &target);

    let mut expected = vec![0; len];
    expected[0] = 0x5C;
    expected[len - 1] = 0x5C;
    assert_eq!(target.as_device_sees(0, len), expected);
}

#[test]
fn the_old_value_written_again_after_the_device_changed_it_arrives() {
    let gpu = Gpu::new();
    let len = 2 * PAGE + 20;
    let (source, target) = (Buffer::mapped(&gpu, Kind::Coherent, len), Buffer::poisoned(&gpu, len));
    for round in 0..4 {
        source.bytes().fill(0, len, 0xAA);
        copy_all(&gpu, &source, &target);
        assert_eq!(target.as_device_sees(0, len), vec![0xAA; len], "the processor's, round {round}");

        gpu.run(|r| r.fill(&source, 0, len, 0xBB));
        copy_all(&gpu, &source, &target);
        assert_eq!(target.as_device_sees(0, len), vec![0xBB; len], "the device's, round {round}");
    }
}

#[test]
fn the_old_value_written_again_without_reading_arrives_byte_by_byte() {
    let gpu = Gpu::new();
    let len = PAGE + 8;
    let source = Buffer::coherent_with(&gpu, &vec![0x01; len]);
    let target = Buffer::poisoned(&gpu, len);
    gpu.run(|r| r.fill(&source, 0, len, 0x02));

    // Only every seventh byte gets its old value back: the others stay the device's.
    source.bytes().store_each((0..len).step_by(7).map(|offset| (offset, 0x01)));
    copy_all(&gpu, &source, &target);

    let expected: Vec<u8> = (0..len).map(|offset| if offset % 7 == 0 { 0x01 } else { 0x02 }).collect();
    assert_eq!(target.as_device_sees(0, len), expected);
    assert_eq!(source.bytes().read_all(), expected);
}

#[test]
fn a_secondary_command_buffer_sees_bytes_written_after_its_recording() {
    let gpu = Gpu::new();
    let (source, target) = (Buffer::mapped(&gpu, Kind::Coherent, SIZE), Buffer::poisoned(&gpu, SIZE));
    let device = gpu.raw();
    let info = vk::CommandPoolCreateInfo::default().queue_family_index(gpu.family());
    // SAFETY: `info` is whole.
    let pool = unsafe { device.create_command_pool(&info, None) }.expect("a pool");
    let info = vk::CommandBufferAllocateInfo::default()
        .command_pool(pool)
        .level(vk::CommandBufferLevel::SECONDARY)
        .command_buffer_count(1);
    // SAFETY: The pool was just made.
    let secondary = unsafe { device.allocate_command_buffers(&info) }.expect("a command buffer")[0];
    let inheritance = vk::CommandBufferInheritanceInfo::default();
    let info = vk::CommandBufferBeginInfo::default().inheritance_info(&inheritance);
    // SAFETY: The command buffer was just allocated.
    unsafe { device.begin_command_buffer(secondary, &info) }.expect("vkBeginCommandBuffer");
    let region = [vk::BufferCopy { src_offset: 0, dst_offset: 0, size: SIZE as u64 }];
    // SAFETY: The buffers are alive and long enough.
    unsafe { device.cmd_copy_buffer(secondary, source.raw(), target.raw(), &region) };
    // SAFETY: The command buffer is being recorded.
    unsafe { device.end_command_buffer(secondary) }.expect("vkEndCommandBuffer");

    source.bytes().write(0, &pattern(16, SIZE));
    gpu.run(|r| {
        // SAFETY: Both command buffers are fit for it.
        unsafe { device.cmd_execute_commands(r.raw(), &[secondary]) };
    });

    assert_eq!(target.as_device_sees(0, SIZE), pattern(16, SIZE));
    // SAFETY: The work is complete.
    unsafe { device.destroy_command_pool(pool, None) };
}
