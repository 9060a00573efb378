//! Copies between buffers, fills and updates: exact to the byte.

use crate::kit::transfers_in_order;
use crate::rig::{bytes_of, counted, counted_on};
use ash::vk;
use lockstep_harness::{Buffer, Kind, PAGE, pattern};

fn region(from: usize, to: usize, len: usize) -> vk::BufferCopy {
    vk::BufferCopy { src_offset: from as u64, dst_offset: to as u64, size: len as u64 }
}

#[test]
fn a_copy_writes_its_regions_and_not_the_gaps() {
    let counters = counted(|rig| {
        let (from, to) = (rig.buffer(3 * PAGE), rig.buffer(3 * PAGE + 100));
        let source = from.bytes().read_all();
        let regions = [region(1, 3, 5), region(10, 9, 1), region(PAGE - 7, 2 * PAGE - 3, 2001)];
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_copy_buffer(commands, from.raw(), to.raw(), &regions);
        });
        let written = [
            (3, source[1..6].to_vec()),
            (9, source[10..11].to_vec()),
            (2 * PAGE - 3, source[PAGE - 7..PAGE + 1994].to_vec()),
        ];
        rig.check(&commands, &to, &written);
    });
    counters.are(5 + 1 + 2001, 0);
}

#[test]
fn regions_that_touch_and_copies_that_repeat_count_once() {
    let counters = counted(|rig| {
        let (from, to) = (rig.buffer(PAGE), rig.buffer(PAGE));
        let source = from.bytes().read_all();
        let regions = [region(0, 100, 50), region(50, 150, 50)];
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_copy_buffer(commands, from.raw(), to.raw(), &regions);
            transfers_in_order(device, commands);
            device.cmd_copy_buffer(commands, from.raw(), to.raw(), &[region(0, 100, 50)]);
            transfers_in_order(device, commands);
            device.cmd_copy_buffer(commands, from.raw(), to.raw(), &[region(20, 120, 10)]);
        });
        rig.check(&commands, &to, &[(100, source[..100].to_vec())]);
    });
    counters.are(100, 0);
}

#[test]
fn exact_ranges_need_no_twin_and_compare_nothing_else() {
    let counters = counted(|rig| {
        let (from, to) = (rig.buffer(16 * PAGE), rig.buffer(16 * PAGE));
        rig.run(|device, commands| unsafe {
            device.cmd_copy_buffer(commands, from.raw(), to.raw(), &[region(0, 4, 9 * PAGE)]);
        });
        assert_eq!(to.bytes().read(4, 9 * PAGE), from.bytes().read(0, 9 * PAGE));
    });
    counters.are(9 * PAGE, 0);
    counters.cost(9 * PAGE, 0);
}

#[test]
fn copy_buffer2_writes_its_regions() {
    let counters = counted(|rig| {
        let (from, to) = (rig.buffer(PAGE), rig.buffer(PAGE));
        let source = from.bytes().read_all();
        let region = |from, to, size| vk::BufferCopy2::default().src_offset(from).dst_offset(to).size(size);
        let regions = [region(0, 1000, 3), region(3, 2000, 9)];
        let info =
            vk::CopyBufferInfo2::default().src_buffer(from.raw()).dst_buffer(to.raw()).regions(&regions);
        let commands = rig.record(|device, commands| unsafe { device.cmd_copy_buffer2(commands, &info) });
        rig.check(&commands, &to, &[(1000, source[..3].to_vec()), (2000, source[3..12].to_vec())]);
    });
    counters.are(12, 0);
}

#[test]
fn a_command_under_its_extensions_name_is_the_same() {
    let name = ash::khr::copy_commands2::NAME;
    let builder = lockstep_harness::Gpu::builder().api(vk::API_VERSION_1_1).device_extension(name);
    let counters = counted_on(builder, |rig| {
        let (from, to) = (rig.buffer(PAGE), rig.buffer(PAGE));
        let source = from.bytes().read_all();
        let copies = ash::khr::copy_commands2::Device::new(rig.instance(), rig.raw());
        let regions = [vk::BufferCopy2::default().src_offset(7).dst_offset(2000).size(9)];
        let info =
            vk::CopyBufferInfo2::default().src_buffer(from.raw()).dst_buffer(to.raw()).regions(&regions);
        let commands = rig.record(|_, commands| unsafe { copies.cmd_copy_buffer2(commands, &info) });
        rig.check(&commands, &to, &[(2000, source[7..16].to_vec())]);
    });
    counters.are(9, 0);
}

#[test]
fn a_fill_writes_its_words() {
    let counters = counted(|rig| {
        let to = rig.buffer(PAGE);
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_fill_buffer(commands, to.raw(), 8, 12, 0x0403_0201);
        });
        rig.check(&commands, &to, &[(8, bytes_of(&[0x0403_0201; 3]))]);
    });
    counters.are(12, 0);
}

#[test]
fn a_fill_of_the_whole_leaves_what_is_no_word() {
    let counters = counted(|rig| {
        let to = rig.buffer(1003);
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_fill_buffer(commands, to.raw(), 900, vk::WHOLE_SIZE, 0x0807_0605);
        });
        rig.check(&commands, &to, &[(900, bytes_of(&[0x0807_0605; 25]))]);
    });
    counters.are(100, 0);
}

#[test]
fn a_recording_with_many_scattered_writes_is_told_in_blocks() {
    const COUNT: usize = 5000;
    let counters = counted(|rig| {
        let to = rig.buffer(COUNT * 16);
        let commands = rig.record(|device, commands| unsafe {
            for index in 0..COUNT as u64 {
                device.cmd_fill_buffer(commands, to.raw(), 16 * index, 4, 0x1414_1414);
            }
        });
        let written: Vec<_> = (0..COUNT).map(|index| (16 * index, vec![0x14; 4])).collect();
        rig.check(&commands, &to, &written);
    });
    counters.are(4096 * 4, (COUNT - 4096) * 16);
}

#[test]
fn an_update_writes_its_bytes() {
    let counters = counted(|rig| {
        let to = rig.buffer(3 * PAGE);
        let bytes = pattern(5, 5000);
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_update_buffer(commands, to.raw(), 4, &bytes);
        });
        rig.check(&commands, &to, &[(4, bytes.clone())]);
    });
    counters.are(5000, 0);
}

#[test]
fn buffers_that_share_memory_write_where_they_are_bound() {
    let counters = counted(|rig| {
        let whole = rig.buffer(4 * PAGE);
        let mut alias = Buffer::unbound(rig.gpu(), 2 * PAGE);
        alias.bind(whole.memory(), PAGE);
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_fill_buffer(commands, whole.raw(), PAGE as u64 + 16, 16, 0x1111_1111);
            transfers_in_order(device, commands);
            device.cmd_fill_buffer(commands, alias.raw(), 24, 16, 0x1111_1111);
        });
        rig.check(&commands, &whole, &[(PAGE + 16, vec![0x11; 24])]);
    });
    counters.are(24, 0);
}

#[test]
fn what_is_written_in_device_memory_is_in_no_write_set() {
    let counters = counted(|rig| {
        let to = Buffer::unmapped(rig.gpu(), Kind::DeviceOnly, PAGE);
        rig.run(|device, commands| unsafe {
            device.cmd_fill_buffer(commands, to.raw(), 0, vk::WHOLE_SIZE, 7);
        });
    });
    counters.are(0, 0);
}

#[test]
fn what_was_written_while_nothing_was_mapped_is_there_on_the_next_map() {
    let counters = counted(|rig| {
        let to = Buffer::unmapped(rig.gpu(), Kind::Coherent, PAGE);
        rig.run(|device, commands| unsafe {
            device.cmd_fill_buffer(commands, to.raw(), 0, 64, 0x2222_2222);
        });
        assert_eq!(to.memory().map_whole().read(0, 64), [0x22; 64]);
    });
    counters.are(64, 0);
}
