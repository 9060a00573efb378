//! Programs that know nothing of Lockstep: an allocator, several devices and instances, the validation layer.

use ash::vk;
use gpu_allocator::MemoryLocation;
use gpu_allocator::vulkan::{
    Allocation, AllocationCreateDesc, AllocationScheme, Allocator, AllocatorCreateDesc,
};
use lockstep_harness::{
    Batch, Buffer, Commands, Compute, Fence, Gpu, Kind, PAGE, Timeline, pattern, validation,
};

/// Doubles every word and adds the frame's number, which is the first word.
const DOUBLE: &str = "
    @group(0) @binding(0) var<storage, read> input: array<u32>;
    @group(0) @binding(1) var<storage, read_write> output: array<u32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        if id.x < arrayLength(&output) { output[id.x] = input[id.x + 1u] * 2u + input[0]; }
    }";

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes"))).collect()
}

/// A buffer with memory from gpu-allocator.
struct Allocated {
    raw: vk::Buffer,
    allocation: Allocation,
}

impl Allocated {
    fn new(gpu: &Gpu, allocator: &mut Allocator, size: usize, location: MemoryLocation) -> Self {
        let usage = vk::BufferUsageFlags::STORAGE_BUFFER;
        let info = vk::BufferCreateInfo::default().size(size as u64).usage(usage);
        // SAFETY: `info` is whole.
        let raw = unsafe { gpu.raw().create_buffer(&info, None) }.expect("vkCreateBuffer");
        // SAFETY: The buffer is alive.
        let requirements = unsafe { gpu.raw().get_buffer_memory_requirements(raw) };
        let allocation = allocator
            .allocate(&AllocationCreateDesc {
                name: "a buffer",
                requirements,
                location,
                linear: true,
                allocation_scheme: AllocationScheme::GpuAllocatorManaged,
            })
            .expect("gpu-allocator finds memory");
        // SAFETY: The allocation is alive and fits.
        let memory = unsafe { allocation.memory() };
        // SAFETY: As above.
        unsafe { gpu.raw().bind_buffer_memory(raw, memory, allocation.offset()) }
            .expect("vkBindBufferMemory");
        Self { raw, allocation }
    }

    fn whole(&self, size: usize) -> vk::DescriptorBufferInfo {
        vk::DescriptorBufferInfo { buffer: self.raw, offset: 0, range: size as u64 }
    }

    fn free(self, gpu: &Gpu, allocator: &mut Allocator) {
        // SAFETY: No work uses the buffer.
        unsafe { gpu.raw().destroy_buffer(self.raw, None) };
        allocator.free(self.allocation).expect("gpu-allocator takes it back");
    }
}

#[test]
fn gpu_allocator_computes_over_several_frames() {
    const WORDS: usize = 3001;
    let gpu = Gpu::new();
    let mut allocator = Allocator::new(&AllocatorCreateDesc {
        instance: gpu.instance().raw().clone(),
        device: gpu.raw().clone(),
        physical_device: gpu.physical(),
        debug_settings: gpu_allocator::AllocatorDebugSettings::default(),
        buffer_device_address: false,
        allocation_sizes: gpu_allocator::AllocationSizes::default(),
    })
    .expect("an allocator");
    let mut up = Allocated::new(&gpu, &mut allocator, 4 * WORDS + 4, MemoryLocation::CpuToGpu);
    let mut down = Allocated::new(&gpu, &mut allocator, 4 * WORDS, MemoryLocation::GpuToCpu);
    let compute = Compute::new(&gpu, DOUBLE, 2);
    let bindings = compute.bind_raw(&[up.whole(4 * WORDS + 4), down.whole(4 * WORDS)]);
    let commands = Commands::new(&gpu, |r| r.dispatch(&compute, &bindings, 47));
    let fence = Fence::new(&gpu);
    down.allocation.mapped_slice_mut().expect("mapped").fill(0xEE);

    for frame in 0..12_u32 {
        let input = pattern(u64::from(frame), 4 * WORDS);
        let mapped = up.allocation.mapped_slice_mut().expect("mapped");
        mapped[..4].copy_from_slice(&frame.to_le_bytes());
        mapped[4..4 * WORDS + 4].copy_from_slice(&input);
        gpu.submit(&[Batch::new().run(&commands)], Some(&fence));
        fence.wait();
        fence.reset();
        let got = words(&down.allocation.mapped_slice().expect("mapped")[..4 * WORDS]);
        let double = |word: u32| word.wrapping_mul(2).wrapping_add(frame);
        let expected: Vec<_> = words(&input).into_iter().map(double).collect();
        assert!(got == expected, "frame {frame}");
    }

    up.free(&gpu, &mut allocator);
    down.free(&gpu, &mut allocator);
}

#[test]
fn gpu_allocators_suballocations_of_one_block_do_not_mix() {
    let gpu = Gpu::new();
    let mut allocator = Allocator::new(&AllocatorCreateDesc {
        instance: gpu.instance().raw().clone(),
        device: gpu.raw().clone(),
        physical_device: gpu.physical(),
        debug_settings: gpu_allocator::AllocatorDebugSettings::default(),
        buffer_device_address: false,
        allocation_sizes: gpu_allocator::AllocationSizes::default(),
    })
    .expect("an allocator");
    let compute = Compute::new(&gpu, DOUBLE, 2);
    let mut frames: Vec<_> = (0..16_u32)
        .map(|n| {
            let up = Allocated::new(&gpu, &mut allocator, 404, MemoryLocation::CpuToGpu);
            let down = Allocated::new(&gpu, &mut allocator, 400, MemoryLocation::GpuToCpu);
            let bindings = compute.bind_raw(&[up.whole(404), down.whole(400)]);
            let commands = Commands::new(&gpu, |r| r.dispatch(&compute, &bindings, 2));
            (n, up, down, bindings, commands, Fence::new(&gpu))
        })
        .collect();

    // All in flight at once, each written just before its own submit.
    for (n, up, _, _, commands, fence) in &mut frames {
        let mapped = up.allocation.mapped_slice_mut().expect("mapped");
        mapped[..4].copy_from_slice(&n.to_le_bytes());
        mapped[4..404].copy_from_slice(&pattern(u64::from(*n), 400));
        gpu.submit(&[Batch::new().run(commands)], Some(fence));
    }
    for (n, _, down, _, _, fence) in frames.iter().rev() {
        fence.wait();
        let got = words(&down.allocation.mapped_slice().expect("mapped")[..400]);
        let double = |word: u32| word.wrapping_mul(2).wrapping_add(*n);
        let expected: Vec<_> = words(&pattern(u64::from(*n), 400)).into_iter().map(double).collect();
        assert!(got == expected, "frame {n}");
    }
    for (_, up, down, ..) in frames {
        up.free(&gpu, &mut allocator);
        down.free(&gpu, &mut allocator);
    }
}

/// Moves bytes back and forth on two devices in turn, with batches in flight on both.
fn two_devices(first: &Gpu, second: &Gpu) {
    let gpus = [first, second];
    let sources = gpus.map(|gpu| Buffer::mapped(gpu, Kind::Coherent, 3 * PAGE + 8));
    let targets = gpus.map(|gpu| Buffer::mapped(gpu, Kind::Coherent, 3 * PAGE + 8));
    let fences = gpus.map(Fence::new);
    let commands =
        [0, 1].map(|n| Commands::new(gpus[n], |r| r.copy(&sources[n], 0, &targets[n], 0, 3 * PAGE + 8)));
    for round in 0..20 {
        for n in [0, 1] {
            sources[n].bytes().write(0, &pattern(2 * round + n as u64, 3 * PAGE + 8));
            gpus[n].submit(&[Batch::new().run(&commands[n])], Some(&fences[n]));
        }
        for n in [1, 0] {
            fences[n].wait();
            fences[n].reset();
            let expected = pattern(2 * round + n as u64, 3 * PAGE + 8);
            assert!(targets[n].bytes().read_all() == expected, "device {n}, round {round}");
        }
    }
}

#[test]
fn two_devices_of_one_instance_keep_out_of_each_others_way() {
    let first = Gpu::new();
    let second = Gpu::builder().build_on(first.instance());
    two_devices(&first, &second);
}

#[test]
fn two_instances_keep_out_of_each_others_way() {
    two_devices(&Gpu::new(), &Gpu::new());
}

#[test]
fn a_device_made_after_another_was_destroyed_starts_afresh() {
    for round in 0..5 {
        let gpu = Gpu::new();
        let buffer = Buffer::coherent_with(&gpu, &pattern(round, 2 * PAGE + 1));
        assert_eq!(buffer.all_as_device_sees(), pattern(round, 2 * PAGE + 1), "round {round}");
    }
}

#[test]
fn one_device_goes_on_when_another_is_destroyed() {
    let first = Gpu::new();
    let kept = Buffer::coherent_with(&first, &pattern(1, 2 * PAGE));
    let second = Gpu::builder().build_on(first.instance());
    let other = Buffer::coherent_with(&second, &pattern(2, 2 * PAGE));
    assert_eq!(other.all_as_device_sees(), pattern(2, 2 * PAGE));
    drop(other);
    drop(second);
    kept.bytes().store(5, 0x55);
    let mut expected = pattern(1, 2 * PAGE);
    expected[5] = 0x55;
    assert_eq!(kept.all_as_device_sees(), expected);
}

#[test]
fn the_validation_layer_has_nothing_to_say() {
    if validation::is_taken() {
        return;
    }
    validation::is_the_tests_own();
    let gpu = Gpu::builder().validation().build();
    let messages = gpu.instance().messages();
    let len = 4 * 1000;
    {
        let input = Buffer::mapped(&gpu, Kind::Coherent, len + 4);
        let output = Buffer::mapped(&gpu, Kind::Coherent, len);
        let compute = Compute::new(&gpu, DOUBLE, 2);
        let bindings = compute.bind(&[(&input, 0, len + 4), (&output, 0, len)]);
        let commands = Commands::new(&gpu, |r| r.dispatch(&compute, &bindings, 16));
        let (timeline, fence) = (Timeline::new(&gpu), Fence::new(&gpu));
        for frame in 1..=3_u32 {
            input.bytes().write(0, &frame.to_le_bytes());
            input.bytes().write(4, &pattern(u64::from(frame), len));
            let batch = Batch::new().run(&commands).signal(&timeline, u64::from(frame));
            if frame == 2 {
                gpu.submit2(&[batch], Some(&fence));
            } else {
                gpu.submit(&[batch], Some(&fence));
            }
            timeline.wait(u64::from(frame));
            fence.wait();
            fence.reset();
            let double = |word: u32| word.wrapping_mul(2).wrapping_add(frame);
            let expected: Vec<_> = words(&pattern(u64::from(frame), len)).into_iter().map(double).collect();
            assert_eq!(words(&output.bytes().read_all()), expected, "frame {frame}");
        }
    }
    drop(gpu);
    assert_eq!(messages.all(), Vec::<String>::new());
}

#[test]
fn the_validation_layer_lets_held_batches_and_host_signals_through() {
    if validation::is_taken() {
        return;
    }
    validation::is_the_tests_own();
    let gpu = Gpu::builder().validation().build();
    let messages = gpu.instance().messages();
    {
        let source = Buffer::mapped(&gpu, Kind::Coherent, 5000);
        let target = Buffer::mapped(&gpu, Kind::Coherent, 5000);
        let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, 5000));
        let timeline = Timeline::new(&gpu);
        gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands).signal(&timeline, 2)], None);
        source.bytes().write(0, &pattern(1, 5000));
        timeline.signal(1);
        timeline.wait(2);
        assert_eq!(target.bytes().read_all(), pattern(1, 5000));
        gpu.queue_wait_idle();
    }
    drop(gpu);
    assert_eq!(messages.all(), Vec::<String>::new());
}

#[test]
fn the_messenger_hears_of_a_wrong_call() {
    // Without this, silence in the tests above could mean that nobody listened.
    if validation::is_taken() {
        return;
    }
    validation::is_the_tests_own();
    let gpu = Gpu::builder().validation().build();
    let info = vk::BufferCreateInfo::default().size(16);
    // SAFETY: Wrong on purpose, for it names no usage; the drivers below make a buffer all the same.
    let buffer = unsafe { gpu.raw().create_buffer(&info, None) }.expect("vkCreateBuffer");
    // SAFETY: Nothing uses the buffer.
    unsafe { gpu.raw().destroy_buffer(buffer, None) };
    assert_ne!(gpu.instance().messages().all(), Vec::<String>::new());
}
