//! Devices, maps and instances come and go by the thousand, and leave nothing behind.

use ash::vk;
use lockstep_harness::gpu::Instance;
use lockstep_harness::process::{self, Holdings};
use lockstep_harness::{Buffer, Gpu, Kind, Memory, PAGE, loader, pattern, skip};
use std::sync::Arc;

/// Several pages, and no whole number of them.
const SIZE: usize = 3 * PAGE + 9;

/// Has a device copy what the processor writes to where it reads it.
fn work(gpu: &Gpu, seed: u64) {
    let source = Buffer::mapped(gpu, Kind::Coherent, SIZE);
    let target = Buffer::mapped(gpu, Kind::Coherent, SIZE);
    source.bytes().write(0, &pattern(seed, SIZE));
    gpu.run(|r| r.copy(&source, 0, &target, 0, SIZE));
    assert_eq!(target.bytes().read_all(), pattern(seed, SIZE), "device {seed}");
}

#[test]
fn a_thousand_devices_leave_nothing_behind() {
    let instance = Arc::new(Instance::new(vk::API_VERSION_1_3, false).expect("vkCreateInstance"));
    let devices = |range: std::ops::Range<u64>| {
        for seed in range {
            work(&Gpu::builder().build_on(&instance), seed);
        }
        Holdings::now()
    };
    let warm = devices(0..100);
    devices(100..1000).assert_no_more_than(&warm, 4 << 20);
}

#[test]
fn a_hundred_devices_that_leave_mapped_memory_leave_nothing_behind() {
    let instance = Arc::new(Instance::new(vk::API_VERSION_1_3, false).expect("vkCreateInstance"));
    let devices = |range: std::ops::Range<u64>| {
        for seed in range {
            let gpus = [0, 1].map(|_| Gpu::builder().build_on(&instance));
            let buffers = gpus.each_ref().map(|gpu| Buffer::mapped(gpu, Kind::Coherent, 8 << 20));
            for (gpu, buffer) in gpus.iter().zip(&buffers) {
                buffer.bytes().write(0, &pattern(seed, SIZE));
                gpu.run(|r| r.fill(buffer, 4 << 20, 4 << 20, 0x11));
                assert_eq!(buffer.bytes().load((8 << 20) - 1), 0x11);
                assert_eq!(buffer.as_device_sees(0, SIZE), pattern(seed, SIZE), "device {seed}");
            }
        }
        Holdings::now()
    };
    let warm = devices(0..10);
    // The host's heap may keep a buffer or two; 80 are more.
    devices(10..50).assert_no_more_than(&warm, 32 << 20);
}

#[test]
fn a_hundred_instances_load_the_driver_and_leave_nothing_behind() {
    let instances = |range: std::ops::Range<u64>| {
        for seed in range {
            work(&Gpu::new(), seed);
        }
        Holdings::now()
    };
    let warm = instances(0..20);
    instances(20..100).assert_no_more_than(&warm, 4 << 20);
}

#[test]
fn a_hundred_thousand_cycles_of_map_and_unmap_leave_nothing_behind() {
    const CYCLES: usize = 100_000;
    let gpu = Gpu::new();
    let buffer = Buffer::unmapped(&gpu, Kind::Coherent, SIZE);
    let mut expected = vec![0x5A; SIZE];
    gpu.run(|r| r.update(&buffer, 0, &[0x5A; SIZE.next_multiple_of(4)][..SIZE / 4 * 4]));
    buffer.memory().map(0, SIZE).write(0, &expected);
    buffer.memory().unmap();
    let mut cycles = |range: std::ops::Range<usize>| {
        for cycle in range {
            let (at, byte) = (cycle * 31 % SIZE, cycle.to_le_bytes()[0]);
            buffer.memory().map(at, SIZE - at).store(0, byte);
            buffer.memory().unmap();
            expected[at] = byte;
            if cycle % 5000 == 4999 {
                assert_eq!(buffer.all_as_device_sees(), expected, "cycle {cycle}");
                loader::restart_hang_limit();
            }
        }
        Holdings::now()
    };
    let warm = cycles(0..CYCLES / 10);
    cycles(CYCLES / 10..CYCLES).assert_no_more_than(&warm, 1 << 20);
}

#[test]
fn ten_thousand_cycles_of_allocate_map_and_free_leave_nothing_behind() {
    let gpu = Gpu::new();
    let cycles = |range: std::ops::Range<u64>| {
        for cycle in range {
            let buffer = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
            buffer.bytes().store(SIZE - 1, cycle.to_le_bytes()[0]);
            if cycle % 500 == 499 {
                assert_eq!(buffer.as_device_sees(SIZE - 1, 1), [cycle.to_le_bytes()[0]], "cycle {cycle}");
            }
        }
        Holdings::now()
    };
    let warm = cycles(0..1000);
    cycles(1000..10_000).assert_no_more_than(&warm, 1 << 20);
}

#[test]
fn ten_thousand_mappings_at_once_each_keep_their_bytes() {
    const COUNT: usize = 10_000;
    let gpu = Gpu::new();
    if (gpu.properties().limits.max_memory_allocation_count as usize) < COUNT + 16 {
        skip("the device does not allow as many allocations");
        return;
    }
    let all = Buffer::mapped(&gpu, Kind::Coherent, COUNT * 4);
    let word = |n: usize, seed: u32| (u32::try_from(n).expect("few") ^ seed).wrapping_mul(0x9E37_79B9);
    let mappings = |count: usize| {
        let buffers: Vec<_> = (0..count).map(|_| Buffer::mapped(&gpu, Kind::Coherent, 4)).collect();
        for seed in [1, 2] {
            for (n, buffer) in buffers.iter().enumerate() {
                buffer.bytes().write(0, &word(n, seed).to_le_bytes());
            }
            gpu.run(|r| buffers.iter().enumerate().for_each(|(n, buffer)| r.copy(buffer, 0, &all, n * 4, 4)));
            let got = all.bytes().read_all();
            for (n, part) in got.chunks(4).enumerate().take(count) {
                assert_eq!(part, word(n, seed).to_le_bytes(), "mapping {n}, the device's view");
            }
            all.bytes().write(0, &got.iter().map(|byte| !byte).collect::<Vec<_>>());
            gpu.run(|r| buffers.iter().enumerate().for_each(|(n, buffer)| r.copy(&all, n * 4, buffer, 0, 4)));
            for (n, buffer) in buffers.iter().enumerate() {
                assert_eq!(buffer.bytes().read_all(), (!word(n, seed)).to_le_bytes(), "mapping {n}");
            }
        }
        drop(buffers);
        Holdings::now()
    };
    let few = mappings(100);
    let many = mappings(COUNT);
    assert_eq!((many.descriptors, many.threads), (few.descriptors, few.threads));
    // The host's heap may have grown.
    assert!(many.mappings <= few.mappings + 100, "few: {few:?}, many: {many:?}");
}

#[test]
fn sixteen_gibibytes_mapped_take_the_memory_that_was_touched() {
    const PART: usize = 1 << 30;
    if loader::is_hostile("poison") {
        return skip("the hostile host fills memory with garbage");
    }
    let gpu = Gpu::new();
    let before = Holdings::now();
    let parts: Vec<_> = (0..16)
        .map_while(|_| Memory::try_new(&gpu, Kind::Coherent, PART).ok())
        .map(|memory| {
            let mut buffer = Buffer::unbound(&gpu, PART);
            buffer.bind(&memory, 0);
            let bytes = memory.map_whole();
            (buffer, bytes)
        })
        .collect();
    if parts.len() < 16 {
        skip("the device has not as much memory");
        return;
    }
    // 61 places in each, on pages of their own.
    let places: Vec<usize> = (0..61).map(|n| (n * 17_604_077 + 4000) % (PART - 8)).collect();
    let picked = Buffer::mapped(&gpu, Kind::Coherent, 16 * places.len() * 8);
    for round in 0..3 {
        let expected = pattern(round, picked.len());
        let mut chunks = expected.chunks(8);
        for (_, bytes) in &parts {
            places.iter().zip(&mut chunks).for_each(|(&place, chunk)| bytes.write(place, chunk));
        }
        gpu.run(|r| {
            for (n, (buffer, _)) in parts.iter().enumerate() {
                let to = |at| (n * places.len() + at) * 8;
                let regions: Vec<_> = (0..).zip(&places).map(|(at, &place)| (place, to(at), 8)).collect();
                r.copy_regions(buffer, &picked, &regions);
            }
        });
        assert!(picked.bytes().read_all() == expected, "the device's view, round {round}");
    }
    let resident = Holdings::now().resident - before.resident;
    assert!(resident < 256 << 20, "{resident} bytes are resident");
}

/// Creates what it takes to map memory by a loader of its own, maps and writes it, and takes all down again.
fn load_and_unload(seed: u8) {
    // SAFETY: The initialisers of the Vulkan loader may run on any thread.
    let library = unsafe { libloading::Library::new("libvulkan.so.1") }.expect("the Vulkan loader");
    // SAFETY: The loader exports this name with exactly this type.
    let get = unsafe { library.get::<vk::PFN_vkGetInstanceProcAddr>(b"vkGetInstanceProcAddr\0") };
    let functions = ash::StaticFn { get_instance_proc_addr: *get.expect("vkGetInstanceProcAddr") };
    // SAFETY: The library stays loaded until the end of this function.
    let entry = unsafe { ash::Entry::from_static_fn(functions) };
    // SAFETY: Valid usage, here and below: everything is used while it exists, and nothing afterwards.
    let instance =
        unsafe { entry.create_instance(&vk::InstanceCreateInfo::default(), None) }.expect("an instance");
    // SAFETY: See above.
    let physical = unsafe { instance.enumerate_physical_devices() }.expect("physical devices")[0];
    let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
    let info = vk::DeviceCreateInfo::default().queue_create_infos(&queues);
    // SAFETY: See above.
    let device = unsafe { instance.create_device(physical, &info, None) }.expect("a device");
    // SAFETY: See above.
    let types = unsafe { instance.get_physical_device_memory_properties(physical) };
    let coherent = vk::MemoryPropertyFlags::HOST_VISIBLE | vk::MemoryPropertyFlags::HOST_COHERENT;
    let mut indices = (0..).zip(types.memory_types_as_slice());
    let (index, _) = indices.find(|(_, t)| t.property_flags.contains(coherent)).expect("a coherent type");
    let info = vk::MemoryAllocateInfo::default().allocation_size(1 << 20).memory_type_index(index);
    // SAFETY: See above.
    let memory = unsafe { device.allocate_memory(&info, None) }.expect("memory");
    // SAFETY: See above.
    let address = unsafe { device.map_memory(memory, 0, vk::WHOLE_SIZE, vk::MemoryMapFlags::empty()) };
    let bytes = lockstep_harness::MappedBytes::new(address.expect("vkMapMemory"), 1 << 20);
    bytes.fill(0, 1 << 20, seed);
    // SAFETY: See above.
    let queue = unsafe { device.get_device_queue(0, 0) };
    // SAFETY: See above. Flushes.
    unsafe { device.queue_submit(queue, &[], vk::Fence::null()) }.expect("vkQueueSubmit");
    // SAFETY: See above.
    unsafe { device.device_wait_idle() }.expect("vkDeviceWaitIdle");
    assert_eq!(bytes.load(12_345), seed);
    // SAFETY: See above.
    unsafe { device.free_memory(memory, None) };
    // SAFETY: See above.
    unsafe { device.destroy_device(None) };
    // SAFETY: See above.
    unsafe { instance.destroy_instance(None) };
}

#[test]
#[ignore = "a child of the test below"]
fn child_loads_and_unloads_the_loader() {
    let rounds = |range: std::ops::Range<u8>| {
        range.for_each(load_and_unload);
        Holdings::now()
    };
    let warm = rounds(0..20);
    rounds(20..100).assert_no_more_than(&warm, 4 << 20);
    println!("\nrounds=100");
}

#[test]
fn the_loader_itself_is_loaded_and_unloaded_a_hundred_times() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let stats = directory.path().join("stats.json");
    let mut child = process::child("child_loads_and_unloads_the_loader");
    let manifest = loader::manifest_under_test();
    let host = std::env::var("LOCKSTEP_HOST_ICD").unwrap_or_else(|_| loader::DEFAULT_HOST_ICD.to_owned());
    child.env("VK_ICD_FILENAMES", &manifest).env("VK_DRIVER_FILES", &manifest);
    let output = process::output(child.env("LOCKSTEP_HOST_ICD", host).env("LOCKSTEP_STATS", &stats));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(process::value_of(&output, "rounds"), "100");
    if loader::lockstep_under_test() {
        // Written at exit, by a library that the application had closed.
        let text = std::fs::read_to_string(&stats).expect("counters");
        let counters: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&counters["devices"], &counters["maps"]), (&100.into(), &100.into()), "{text}");
    }
}
