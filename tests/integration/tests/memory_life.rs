//! Memory is allocated, mapped, unmapped and freed in every order Vulkan allows, and keeps its bytes.

use ash::vk;
use lockstep_harness::{Buffer, Gpu, Kind, Memory, PAGE, pattern, validation};

#[test]
fn a_dedicated_allocation_is_coherent_too() {
    let gpu = Gpu::new();
    let size = 2 * PAGE + 24;
    let mut buffer = Buffer::unbound(&gpu, size);
    let needs = buffer.requirements();
    let index = Kind::Coherent.find(&gpu, needs.memory_type_bits).expect("a coherent type");
    let len = usize::try_from(needs.size).expect("small");
    let memory = Memory::of_type(&gpu, index, len, Some(buffer.raw())).expect("vkAllocateMemory");
    buffer.bind(&memory, 0);

    let bytes = memory.map(0, size);
    bytes.write(0, &pattern(1, size));
    assert_eq!(buffer.all_as_device_sees(), pattern(1, size));
    gpu.run(|r| r.fill(&buffer, 8, PAGE, 0x42));

    let mut expected = pattern(1, size);
    expected[8..8 + PAGE].fill(0x42);
    assert_eq!(bytes.read_all(), expected);
}

#[test]
fn allocations_of_odd_sizes_keep_every_byte_to_the_last() {
    let gpu = Gpu::new();
    for size in [1, 2, 7, 63, 64, 65, 255, 4095, 4096, 4097, 8191, 12_289, 65_535, 65_537, 1_000_003] {
        let buffer = Buffer::mapped(&gpu, Kind::Coherent, size);
        buffer.bytes().write(0, &pattern(size as u64, size));
        assert!(buffer.all_as_device_sees() == pattern(size as u64, size), "the device's view of {size}");
        let source = Buffer::coherent_with(&gpu, &pattern(size as u64 + 1, size));
        gpu.run(|r| r.copy(&source, 0, &buffer, 0, size));
        assert!(
            buffer.bytes().read_all() == pattern(size as u64 + 1, size),
            "the processor's view of {size}"
        );
    }
}

#[test]
fn mapped_addresses_are_as_aligned_as_the_device_says() {
    let gpu = Gpu::new();
    let alignment = gpu.properties().limits.min_memory_map_alignment;
    let memory = Memory::new(&gpu, Kind::Coherent, 4 * PAGE);
    for offset in [0, 1, 63, 64, 4095, 4096, 4097, 3 * PAGE + 5] {
        let bytes = memory.map(offset, 1);
        assert_eq!((bytes.at(0).addr() - offset) % alignment, 0, "offset {offset}");
        memory.unmap();
    }
}

#[test]
fn memory_freed_while_mapped_leaves_the_rest_alone() {
    let gpu = Gpu::new();
    let neighbour = Buffer::coherent_with(&gpu, &pattern(2, 3 * PAGE));
    for round in 0..50 {
        let memory = Memory::new(&gpu, Kind::Coherent, 3 * PAGE + 8);
        memory.map_whole().write(0, &pattern(round, 3 * PAGE + 8));
        drop(memory);
    }
    let other = Buffer::coherent_with(&gpu, &pattern(3, 3 * PAGE));
    assert_eq!(neighbour.all_as_device_sees(), pattern(2, 3 * PAGE));
    assert_eq!(other.all_as_device_sees(), pattern(3, 3 * PAGE));
}

#[test]
fn mapping_again_finds_the_bytes_as_they_were() {
    let gpu = Gpu::new();
    let memory = Memory::new(&gpu, Kind::Coherent, 6 * PAGE);
    let mut expected = pattern(4, 6 * PAGE);
    memory.map_whole().write(0, &expected);
    memory.unmap();
    for (round, offset) in (0..20_u8).zip((0..6 * PAGE - 100).step_by(1201)) {
        let bytes = memory.map(offset, 100);
        assert_eq!(bytes.read_all(), expected[offset..offset + 100], "round {round}");
        bytes.fill(3, 90, round);
        expected[offset + 3..offset + 93].fill(round);
        memory.unmap();
    }
    assert_eq!(memory.map_whole().read_all(), expected);
}

#[test]
fn bytes_written_through_one_map_show_in_the_next_at_another_offset() {
    let gpu = Gpu::new();
    let buffer = Buffer::unmapped(&gpu, Kind::Coherent, 4 * PAGE);
    buffer.memory().map(0, 4 * PAGE).write(0, &pattern(5, 4 * PAGE));
    buffer.memory().unmap();
    let bytes = buffer.memory().map(2 * PAGE + 1, PAGE);
    assert_eq!(bytes.read_all(), pattern(5, 4 * PAGE)[2 * PAGE + 1..3 * PAGE + 1]);
    bytes.fill(0, PAGE, 0x18);
    let mut expected = pattern(5, 4 * PAGE);
    expected[2 * PAGE + 1..3 * PAGE + 1].fill(0x18);
    assert_eq!(buffer.all_as_device_sees(), expected);
}

#[test]
fn four_thousand_live_mappings_each_keep_their_own_bytes() {
    const COUNT: u32 = 4000;
    const SIZE: usize = 64;
    let gpu = Gpu::new();
    let count = COUNT.min(gpu.properties().limits.max_memory_allocation_count - 16);
    let buffers: Vec<_> = (0..count).map(|_| Buffer::mapped(&gpu, Kind::Coherent, SIZE)).collect();
    let all = Buffer::mapped(&gpu, Kind::Coherent, buffers.len() * SIZE);
    let gather = || {
        gpu.run(|r| buffers.iter().enumerate().for_each(|(n, b)| r.copy(b, 0, &all, n * SIZE, SIZE)));
        all.bytes().read_all()
    };

    for (n, buffer) in (0..).zip(&buffers) {
        buffer.bytes().write(0, &pattern(n, SIZE));
    }
    let got = gather();
    for (n, part) in (0..).zip(got.chunks(SIZE)) {
        assert!(part == pattern(n, SIZE), "mapping {n}");
    }

    // One byte in every tenth changes, and only those.
    buffers.iter().step_by(10).for_each(|buffer| buffer.bytes().store(17, 0x5A));
    let mut expected = got;
    (0..buffers.len()).step_by(10).for_each(|n| expected[n * SIZE + 17] = 0x5A);
    assert_eq!(gather(), expected);

    gpu.run(|r| buffers.iter().for_each(|buffer| r.fill(buffer, 4, 4, 0x6B)));
    for (n, buffer) in buffers.iter().enumerate() {
        expected[n * SIZE + 4..n * SIZE + 8].fill(0x6B);
        assert!(buffer.bytes().read_all() == expected[n * SIZE..(n + 1) * SIZE], "mapping {n}");
    }
}

#[test]
fn an_allocation_beyond_the_heap_is_refused() {
    validation::ignore(&["VUID-vkAllocateMemory-pAllocateInfo-01713"], "the driver is to say no, too");
    let gpu = Gpu::new();
    for kind in [Kind::Coherent, Kind::DeviceOnly] {
        let index = kind.find(&gpu, u32::MAX).expect("a type");
        // Just beyond the heap some drivers still find memory; so much no machine has.
        for size in [1_u64 << 46, u64::MAX >> 1] {
            let size = usize::try_from(size).expect("a 64-bit machine");
            let result = Memory::of_type(&gpu, index, size, None).map(|memory| memory.size());
            let refusals = [vk::Result::ERROR_OUT_OF_DEVICE_MEMORY, vk::Result::ERROR_OUT_OF_HOST_MEMORY];
            assert!(result.is_err_and(|error| refusals.contains(&error)), "{kind:?} of {size}: {result:?}");
        }
    }
    // The device lives on.
    let buffer = Buffer::coherent_with(&gpu, &pattern(6, PAGE));
    assert_eq!(buffer.all_as_device_sees(), pattern(6, PAGE));
}

#[test]
fn bytes_of_freed_memory_never_reach_its_successor() {
    let gpu = Gpu::new();
    let size = 4 * PAGE + 12;
    for round in 0..30_u8 {
        // Dirty at the time it is freed, without a flush point in between.
        let first = Buffer::mapped(&gpu, Kind::Coherent, size);
        first.bytes().fill(0, size, round);
        drop(first);

        let second = Buffer::mapped(&gpu, Kind::Coherent, size);
        gpu.run(|r| r.fill(&second, 0, size, 0xE7));
        assert_eq!(second.bytes().read_all(), vec![0xE7; size], "the processor's view, round {round}");
        assert_eq!(second.all_as_device_sees(), vec![0xE7; size], "the device's view, round {round}");
    }
}

#[test]
fn device_writes_to_memory_that_is_mapped_only_later_survive_its_first_flush() {
    let gpu = Gpu::new();
    let size = 4 * PAGE + 12;
    for round in 0..10_u64 {
        let old = Buffer::coherent_with(&gpu, &pattern(100 + round, size));
        drop(old);
        let buffer = Buffer::unmapped(&gpu, Kind::Coherent, size);
        gpu.run(|r| r.fill(&buffer, 0, size, 0x3D));
        let bytes = buffer.memory().map(0, size);
        bytes.store(PAGE + 1, 0x99);
        let mut expected = vec![0x3D; size];
        expected[PAGE + 1] = 0x99;
        assert_eq!(buffer.all_as_device_sees(), expected, "round {round}");
        assert_eq!(bytes.read_all(), expected, "round {round}");
    }
}

#[test]
fn a_large_mapping_is_coherent_wherever_it_is_touched() {
    const SIZE: usize = 256 << 20;
    let gpu = Gpu::new();
    let buffer = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let places: Vec<usize> = (0..500).map(|n| (n * 536_891) % (SIZE - 16)).collect();
    let picked = Buffer::mapped(&gpu, Kind::Coherent, 16 * places.len());
    let regions: Vec<_> = (0..).step_by(16).zip(&places).map(|(to, &from)| (from, to, 16)).collect();

    for round in 0..3 {
        let expected = pattern(round, 16 * places.len());
        for (bytes, &place) in expected.chunks(16).zip(&places) {
            buffer.bytes().write(place, bytes);
        }
        gpu.run(|r| r.copy_regions(&buffer, &picked, &regions));
        assert!(picked.bytes().read_all() == expected, "the device's view, round {round}");
    }
    let expected = pattern(99, 16 * places.len());
    picked.bytes().write(0, &expected);
    let back: Vec<_> = regions.iter().map(|&(from, to, len)| (to, from, len)).collect();
    gpu.run(|r| r.copy_regions(&picked, &buffer, &back));
    for (bytes, &place) in expected.chunks(16).zip(&places) {
        assert!(buffer.bytes().read(place, 16) == bytes, "the processor's view at {place}");
    }
}

#[test]
fn several_buffers_of_one_allocation_at_odd_places_do_not_mix() {
    let gpu = Gpu::new();
    let align = usize::try_from(Buffer::unbound(&gpu, 333).requirements().alignment).expect("small");
    let step = 333_usize.next_multiple_of(align) + align;
    let memory = Memory::new(&gpu, Kind::Coherent, 40 * step);
    let bytes = memory.map_whole();
    let buffers: Vec<_> = (0..40)
        .map(|n| {
            let mut buffer = Buffer::unbound(&gpu, 333);
            buffer.bind(&memory, n * step);
            buffer
        })
        .collect();
    for n in 0..40 {
        bytes.write(n * step, &pattern(n as u64, 333));
    }
    for (n, buffer) in (0..).zip(&buffers) {
        assert_eq!(buffer.all_as_device_sees(), pattern(n, 333), "buffer {n}");
    }
}

#[test]
fn memory_outlives_the_buffers_on_it() {
    let gpu = Gpu::new();
    let memory = Memory::new(&gpu, Kind::Coherent, 4 * PAGE);
    let bytes = memory.map_whole();
    for round in 0..10_u64 {
        let mut buffer = Buffer::unbound(&gpu, 4 * PAGE);
        buffer.bind(&memory, 0);
        bytes.write(0, &pattern(round, 4 * PAGE));
        assert_eq!(buffer.all_as_device_sees(), pattern(round, 4 * PAGE), "round {round}");
        gpu.run(|r| r.fill(&buffer, 4, 8, 0xF0));
        drop(buffer);
        assert_eq!(bytes.read(4, 8), vec![0xF0; 8], "round {round}");
    }
}
