//! The host driver has no memory left, at each of its calls in turn, or loses the device: `libfaulty_host.so`
//! plays it.

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "calls of a device stand on one argument: valid usage"
)]

use ash::vk;
use lockstep_harness::process::Holdings;
use lockstep_harness::{
    Batch, Buffer, Commands, Fence, Gpu, Kind, MappedBytes, PAGE, Timeline, dma_under_test, loader,
    lockstep_under_test, pattern, skip, sync, validation,
};
use std::ffi::{CStr, c_char};
use std::path::PathBuf;

const SIZE: usize = 3 * PAGE + 9;

/// What the faulty host can be told.
struct Faults {
    fail: unsafe extern "C" fn(*const c_char, u64, u64, vk::Result),
    calls: unsafe extern "C" fn() -> u64,
    _library: libloading::Library,
}

impl Faults {
    /// Puts the faulty host below Lockstep; `None` where that is not under test.
    fn begin() -> Option<Self> {
        if !lockstep_under_test() {
            skip("this is about Lockstep's host");
            return None;
        }
        Some(Self::below())
    }

    /// The same with transport `dma`, whatever is under test.
    fn begin_dma() -> Option<Self> {
        loader::set("LOCKSTEP_TRANSPORT", "dma");
        Self::begin()
    }

    fn below() -> Self {
        let host = std::env::var_os("LOCKSTEP_HOST_ICD").map_or_else(loader::host_manifest, PathBuf::from);
        let driver =
            if host.extension().is_some_and(|it| it == "json") { loader::library_of(&host) } else { host };
        let path = loader::built("libfaulty_host.so");
        loader::set("FAULTY_HOST_DRIVER", driver);
        loader::use_host(&path);
        validation::refusals_are_not_pending();
        // SAFETY: It has no initialisers.
        let library = unsafe { libloading::Library::new(path) }.expect("the faulty host");
        // SAFETY: The names have these types.
        let (fail, calls) = unsafe {
            (
                *library.get(b"faulty_host_fail\0").expect("it"),
                *library.get(b"faulty_host_calls\0").expect("it"),
            )
        };
        Self { fail, calls, _library: library }
    }

    /// Has one call fail, after `skip` others.
    fn fail_one(&self, skip: u64, result: vk::Result) {
        // SAFETY: Null stands for all commands.
        unsafe { (self.fail)(std::ptr::null(), skip, 1, result) };
    }

    /// Has nothing fail any more, and counts calls from now on.
    fn none(&self) {
        // SAFETY: As above.
        unsafe { (self.fail)(std::ptr::null(), 0, 0, vk::Result::SUCCESS) };
    }

    fn calls(&self) -> u64 {
        // SAFETY: The call has no condition.
        unsafe { (self.calls)() }
    }

    /// Has all further calls of commands fail, after `skip` of each.
    fn fail_from(&self, commands: &[&CStr], skip: u64, result: vk::Result) {
        for command in commands {
            // SAFETY: A C string.
            unsafe { (self.fail)(command.as_ptr(), skip, u64::MAX, result) };
        }
    }
}

/// What an application makes; destroyed in any case.
struct Made<'a> {
    device: &'a ash::Device,
    memories: [vk::DeviceMemory; 2],
    buffers: [vk::Buffer; 2],
    pool: vk::CommandPool,
    fence: vk::Fence,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        // SAFETY: Null or made on this device, which has nothing to do any more.
        unsafe {
            self.device.destroy_fence(self.fence, None);
            self.device.destroy_command_pool(self.pool, None);
            self.buffers.iter().for_each(|buffer| self.device.destroy_buffer(*buffer, None));
            self.memories.iter().for_each(|memory| self.device.free_memory(*memory, None));
        }
    }
}

/// Writes memory, has the device write it and other memory, and looks at both: with every result looked at.
fn use_device(gpu: &Gpu, device: &ash::Device) -> Result<(), vk::Result> {
    let mut made = Made {
        device,
        memories: [vk::DeviceMemory::null(); 2],
        buffers: [vk::Buffer::null(); 2],
        pool: vk::CommandPool::null(),
        fence: vk::Fence::null(),
    };
    let info = vk::BufferCreateInfo::default().size(SIZE as u64).usage(vk::BufferUsageFlags::TRANSFER_DST);
    // SAFETY: Valid usage, here and below.
    unsafe {
        for (buffer, memory) in made.buffers.iter_mut().zip(&mut made.memories) {
            *buffer = device.create_buffer(&info, None)?;
            let needs = device.get_buffer_memory_requirements(*buffer);
            let index = Kind::Coherent.find(gpu, needs.memory_type_bits).expect("a coherent type");
            let info = vk::MemoryAllocateInfo::default().allocation_size(needs.size).memory_type_index(index);
            *memory = device.allocate_memory(&info, None)?;
            device.bind_buffer_memory(*buffer, *memory, 0)?;
        }
        let map = |memory| {
            let address = device.map_memory(memory, 0, vk::WHOLE_SIZE, vk::MemoryMapFlags::empty())?;
            Ok(MappedBytes::new(address, SIZE))
        };
        let bytes = map(made.memories[0])?;
        bytes.write(0, &pattern(1, SIZE));

        let info = vk::CommandPoolCreateInfo::default().queue_family_index(gpu.family());
        made.pool = device.create_command_pool(&info, None)?;
        let info = vk::CommandBufferAllocateInfo::default().command_pool(made.pool).command_buffer_count(1);
        let commands = device.allocate_command_buffers(&info)?;
        device.begin_command_buffer(commands[0], &vk::CommandBufferBeginInfo::default())?;
        device.cmd_fill_buffer(commands[0], made.buffers[0], PAGE as u64, 8, 0x4242_4242);
        device.cmd_fill_buffer(commands[0], made.buffers[1], 0, SIZE as u64 - 1, 0x1717_1717);
        device.end_command_buffer(commands[0])?;
        made.fence = device.create_fence(&vk::FenceCreateInfo::default(), None)?;
        let queue = device.get_device_queue(gpu.family(), 0);
        let batch = vk::SubmitInfo::default().command_buffers(&commands);
        device.queue_submit(queue, &[batch], made.fence)?;
        let waited = device.wait_for_fences(&[made.fence], true, u64::MAX);
        // The commands are still at work.
        while waited.is_err() && device.get_fence_status(made.fence) != Ok(true) {}
        waited?;
        let late = map(made.memories[1])?;
        assert_eq!(late.read(0, SIZE - 1), vec![0x17; SIZE - 1]);
        let mut expected = pattern(1, SIZE);
        expected[PAGE..PAGE + 8].fill(0x42);
        assert_eq!(bytes.read_all(), expected);
        device.get_fence_status(made.fence)?;
        device.device_wait_idle()
    }
}

/// Makes a device of its own and uses it.
fn make_and_use(gpu: &Gpu) -> Result<(), vk::Result> {
    let queues =
        [vk::DeviceQueueCreateInfo::default().queue_family_index(gpu.family()).queue_priorities(&[1.0])];
    let info = vk::DeviceCreateInfo::default().queue_create_infos(&queues);
    // SAFETY: Valid usage.
    let device = unsafe { gpu.instance().raw().create_device(gpu.physical(), &info, None) }?;
    let result = use_device(gpu, &device);
    // SAFETY: All that was made on it is destroyed.
    unsafe { device.destroy_device(None) };
    result
}

#[test]
fn each_call_of_the_host_may_find_no_memory() {
    let Some(faults) = Faults::begin() else { return };
    let gpu = Gpu::new();
    let kept = Buffer::coherent_with(&gpu, &pattern(7, SIZE));
    (0..3).for_each(|_| make_and_use(&gpu).expect("nothing fails"));
    faults.none();
    make_and_use(&gpu).expect("nothing fails");
    let calls = faults.calls();
    assert!(calls > 12, "only {calls} calls can fail");
    let before = Holdings::now();
    let mut failures = 0;
    for error in [vk::Result::ERROR_OUT_OF_HOST_MEMORY, vk::Result::ERROR_OUT_OF_DEVICE_MEMORY] {
        for call in 0..calls {
            faults.fail_one(call, error);
            let result = make_and_use(&gpu);
            faults.none();
            // Some calls are Lockstep's own, and what they ask for can wait.
            let refusals = [
                Ok(()),
                Err(error),
                Err(NO_MEMORY),
                Err(vk::Result::ERROR_MEMORY_MAP_FAILED),
                Err(vk::Result::ERROR_EXTENSION_NOT_PRESENT),
            ];
            assert!(refusals.contains(&result), "call {call}: {result:?}");
            failures += u64::from(result.is_err());
            make_and_use(&gpu).unwrap_or_else(|error| panic!("after a failure of call {call}: {error}"));
        }
    }
    assert!(failures >= calls, "{failures} of {calls} calls, each failed twice");
    // The layer keeps what it takes for pending.
    let bytes = if validation::is(validation::Place::Below) { 16 << 20 } else { 4 << 20 };
    Holdings::now().assert_no_more_than(&before, bytes);
    assert_eq!(kept.all_as_device_sees(), pattern(7, SIZE));
}

#[test]
fn a_submission_refused_for_lack_of_memory_can_be_repeated() {
    let Some(faults) = Faults::begin() else { return };
    let gpu = Gpu::new();
    let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
    let queue = *gpu.queue();
    for round in 0..10 {
        source.bytes().write(0, &pattern(round, SIZE));
        let fence = Fence::new(&gpu);
        let buffers = [commands.raw()];
        let batch = vk::SubmitInfo::default().command_buffers(&buffers);
        // SAFETY: The commands are not in use.
        let submit = || unsafe { gpu.raw().queue_submit(queue, &[batch], fence.raw()) };
        faults.fail_from(&SUBMISSION, 0, vk::Result::ERROR_OUT_OF_DEVICE_MEMORY);
        assert_eq!(submit(), Err(vk::Result::ERROR_OUT_OF_DEVICE_MEMORY));
        // The bytes the batch was to write are the processor's again.
        target.bytes().fill(0, SIZE, 0x33);
        faults.none();
        source.bytes().store(PAGE, 0x99);
        assert_eq!(submit(), Ok(()));
        fence.wait();
        let mut expected = pattern(round, SIZE);
        expected[PAGE] = 0x99;
        assert_eq!(target.bytes().read_all(), expected, "round {round}");
    }
}

#[test]
fn what_waited_for_the_processor_is_submitted_although_it_was_refused_at_first() {
    let Some(faults) = Faults::begin_dma() else { return };
    let gpu = Gpu::new();
    let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
    let (timeline, fence) = (Timeline::new(&gpu), Fence::new(&gpu));
    gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&fence));
    source.bytes().write(0, &pattern(3, SIZE));
    faults.fail_from(&SUBMISSION, 0, vk::Result::ERROR_OUT_OF_DEVICE_MEMORY);
    timeline.signal(1);
    faults.none();
    gpu.submit(&[], None);
    fence.wait();
    assert_eq!(target.bytes().read_all(), pattern(3, SIZE));
}

/// Whatever can tell that a batch has completed that signals a fence and 2.
const REPORTS: [&str; 6] = [
    "vkWaitForFences",
    "vkGetFenceStatus",
    "vkWaitSemaphores",
    "vkGetSemaphoreCounterValue",
    "vkQueueWaitIdle",
    "vkDeviceWaitIdle",
];

/// Whether it has, by one of them.
fn ask(report: &str, gpu: &Gpu, fence: &Fence, timeline: &Timeline) -> Result<bool, vk::Result> {
    let (device, fence, semaphores, values) = (gpu.raw(), fence.raw(), [timeline.raw()], [2]);
    let info = vk::SemaphoreWaitInfo::default().semaphores(&semaphores).values(&values);
    // SAFETY: Valid usage.
    unsafe {
        match report {
            "vkWaitForFences" => device.wait_for_fences(&[fence], true, u64::MAX).map(|()| true),
            "vkGetFenceStatus" => device.get_fence_status(fence),
            "vkWaitSemaphores" => device.wait_semaphores(&info, u64::MAX).map(|()| true),
            "vkGetSemaphoreCounterValue" => {
                device.get_semaphore_counter_value(semaphores[0]).map(|value| value == 2)
            }
            "vkQueueWaitIdle" => device.queue_wait_idle(*gpu.queue()).map(|()| true),
            _ => device.device_wait_idle().map(|()| true),
        }
    }
}

const NO_MEMORY: vk::Result = vk::Result::ERROR_OUT_OF_HOST_MEMORY;

#[test]
fn who_waits_for_what_the_host_refused_submits_it_or_is_told() {
    let Some(faults) = Faults::begin_dma() else { return };
    let gpu = Gpu::new();
    let elsewhere = Fence::new(&Gpu::builder().build_on(gpu.instance()));
    let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
    for (seed, name) in (0..).zip(REPORTS) {
        let (timeline, fence) = (Timeline::new(&gpu), Fence::new(&gpu));
        gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands).signal(&timeline, 2)], Some(&fence));
        source.bytes().write(0, &pattern(seed, SIZE));
        faults.fail_from(&SUBMISSION, 0, NO_MEMORY);
        timeline.signal(1);
        assert!(!elsewhere.is_signalled(), "another device has nothing to do with it");
        assert_eq!(ask(name, &gpu, &fence, &timeline), Err(NO_MEMORY), "{name}");
        faults.none();
        sync::poll(name, || ask(name, &gpu, &fence, &timeline) == Ok(true));
        assert_eq!(target.bytes().read_all(), pattern(seed, SIZE), "{name}");
        fence.wait();
    }
}

#[test]
fn completion_is_told_when_the_bytes_are_there_though_the_host_cannot_say_how_far_it_has_come() {
    let Some(faults) = Faults::begin() else { return };
    let gpu = Gpu::new();
    let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
    for (seed, name) in (0..).zip(REPORTS) {
        let (timeline, fence) = (Timeline::new(&gpu), Fence::new(&gpu));
        source.bytes().write(0, &pattern(seed, SIZE));
        gpu.submit(&[Batch::new().run(&commands).signal(&timeline, 2)], Some(&fence));
        faults.fail_from(&[c"vkGetSemaphoreCounterValue"], 0, NO_MEMORY);
        sync::poll(name, || match ask(name, &gpu, &fence, &timeline) {
            Ok(done) => done,
            Err(error) => {
                assert_eq!(error, NO_MEMORY, "{name}");
                faults.none();
                false
            }
        });
        assert_eq!(target.bytes().read_all(), pattern(seed, SIZE), "{name}");
        faults.none();
        fence.wait();
    }
}

#[test]
fn memory_is_freed_although_the_host_cannot_wait_for_its_bytes() {
    let Some(faults) = Faults::begin_dma() else { return };
    let gpu = Gpu::new();
    let kept = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let nothing = Commands::new(&gpu, |_| {});
    for seed in 0..4 {
        let freed = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
        freed.bytes().write(0, &pattern(seed, SIZE));
        kept.bytes().write(0, &pattern(100 + seed, SIZE));
        gpu.submit(&[Batch::new().run(&nothing)], None);
        faults.fail_from(&[c"vkWaitSemaphores"], 0, NO_MEMORY);
        drop(freed);
        faults.none();
        let next = Buffer::coherent_with(&gpu, &pattern(200 + seed, SIZE));
        gpu.device_wait_idle();
        assert_eq!(kept.all_as_device_sees(), pattern(100 + seed, SIZE));
        assert_eq!(next.all_as_device_sees(), pattern(200 + seed, SIZE));
    }
}

const SUBMISSION: [&CStr; 2] = [c"vkQueueSubmit", c"vkQueueSubmit2"];

#[test]
fn the_host_is_not_asked_for_a_fence_that_it_was_not_given() {
    if !lockstep_under_test() {
        return skip("this is about Lockstep's host");
    }
    loader::set("LOCKSTEP_TRANSPORT", "dma");
    let faults = Faults::below();
    let gpu = Gpu::new();
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let commands = Commands::new(&gpu, |r| r.fill(&target, 0, 3 * PAGE, 0x55));
    let (timeline, held, other) = (Timeline::new(&gpu), Fence::new(&gpu), Fence::new(&gpu));
    gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&held));
    let wait = |fences: &[vk::Fence], all, timeout| {
        // SAFETY: The fences are alive.
        unsafe { gpu.raw().wait_for_fences(fences, all, timeout) }
    };
    // While it is submitted nobody may use it, and when that will be nobody knows.
    faults.fail_from(&[c"vkGetFenceStatus", c"vkWaitForFences"], 0, vk::Result::ERROR_DEVICE_LOST);
    assert!(!held.is_signalled());
    assert_eq!(wait(&[held.raw()], true, 0), Err(vk::Result::TIMEOUT));
    assert_eq!(wait(&[held.raw()], true, 1_000_000), Err(vk::Result::TIMEOUT));
    assert_eq!(wait(&[held.raw(), other.raw()], true, 0), Err(vk::Result::TIMEOUT));
    faults.none();
    assert_eq!(wait(&[held.raw(), other.raw()], false, 3_000_000), Err(vk::Result::TIMEOUT));

    let waiting = std::thread::scope(|scope| {
        let one = scope.spawn(|| wait(&[held.raw()], true, u64::MAX));
        let any = scope.spawn(|| wait(&[other.raw(), held.raw()], false, u64::MAX));
        timeline.signal(1);
        (one.join().expect("no panic"), any.join().expect("no panic"))
    });
    assert_eq!(waiting, (Ok(()), Ok(())));
    assert!(held.is_signalled());
    assert_eq!(target.bytes().read_all()[..3 * PAGE], [0x55; 3 * PAGE]);
}

const EVERYTHING: [&CStr; 9] = [
    c"vkQueueSubmit",
    c"vkQueueSubmit2",
    c"vkQueueWaitIdle",
    c"vkDeviceWaitIdle",
    c"vkWaitForFences",
    c"vkGetFenceStatus",
    c"vkWaitSemaphores",
    c"vkGetSemaphoreCounterValue",
    c"vkGetEventStatus",
];

/// What a device is doing when it is lost.
#[derive(PartialEq)]
enum Work {
    Nothing,
    /// A batch runs.
    Running,
    /// A batch waits for the processor.
    Held,
}

/// Loses the device, with or without work in flight, and does what an application may still do.
fn lose(work: &Work) {
    const LOST: Result<(), vk::Result> = Err(vk::Result::ERROR_DEVICE_LOST);
    let Some(faults) = Faults::begin() else { return };
    let gpu = Gpu::new();
    let source = Buffer::coherent_with(&gpu, &pattern(1, SIZE));
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let unseen = Buffer::unmapped(&gpu, Kind::Coherent, SIZE);
    gpu.run(|r| r.copy(&source, 0, &unseen, 0, SIZE));
    let never = Buffer::unmapped(&gpu, Kind::Coherent, SIZE);
    let commands = Commands::simultaneous(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
    let (fence, second, timeline) = (Fence::new(&gpu), Fence::new(&gpu), Timeline::new(&gpu));
    match work {
        Work::Nothing => {}
        Work::Running => gpu.submit(&[Batch::new().run(&commands)], Some(&fence)),
        Work::Held => gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&fence)),
    }
    // Then the host has nothing of it, and of what is behind it.
    let kept = *work == Work::Held && dma_under_test();
    faults.fail_from(&EVERYTHING, 0, vk::Result::ERROR_DEVICE_LOST);

    let device = gpu.raw();
    let queue = *gpu.queue();
    let buffers = [commands.raw()];
    let batch = [vk::SubmitInfo::default().command_buffers(&buffers)];
    for round in 0..3 {
        // Mapped memory stays what it is: memory.
        source.bytes().write(0, &pattern(round, SIZE));
        assert_eq!(source.bytes().read_all(), pattern(round, SIZE));
        target.bytes().store(SIZE - 1, 7);
        assert_eq!(target.bytes().load(SIZE - 1), 7);
        // SAFETY: Valid usage, here and below; a lost device does nothing.
        unsafe {
            for submitted in [
                device.queue_submit(queue, &batch, second.raw()),
                device.queue_submit(queue, &[], vk::Fence::null()),
            ] {
                assert_eq!(submitted, if kept && round == 0 { Ok(()) } else { LOST });
            }
            assert_eq!(device.wait_for_fences(&[fence.raw()], true, u64::MAX), LOST);
            assert_eq!(device.get_fence_status(fence.raw()), Err(vk::Result::ERROR_DEVICE_LOST));
            assert_eq!(
                device.get_semaphore_counter_value(timeline.raw()),
                Err(vk::Result::ERROR_DEVICE_LOST)
            );
            assert_eq!(device.queue_wait_idle(queue), LOST);
            assert_eq!(device.device_wait_idle(), LOST);
        }
        let late = never.memory().map(0, SIZE);
        late.fill(0, SIZE, 5);
        assert_eq!(late.read_all(), vec![5; SIZE]);
        never.memory().unmap();
        let late = unseen.memory().map(0, SIZE);
        late.fill(0, SIZE, 6);
        assert_eq!(late.read_all(), vec![6; SIZE]);
        unseen.memory().unmap();
        let new = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
        new.bytes().write(0, &pattern(9, SIZE));
        assert_eq!(new.bytes().read_all(), pattern(9, SIZE));
    }

    // What runs below Lockstep is well, and must be idle before it is destroyed.
    faults.none();
    timeline.signal(1);
    if *work != Work::Nothing && !kept {
        fence.wait();
    }
    drop((source, target, unseen, never, commands, fence, second, timeline));
    let instance = std::sync::Arc::clone(gpu.instance());
    drop(gpu);
    let gpu = Gpu::builder().build_on(&instance);
    let buffer = Buffer::coherent_with(&gpu, &pattern(2, SIZE));
    assert_eq!(buffer.all_as_device_sees(), pattern(2, SIZE), "another device");
}

#[test]
fn an_idle_device_is_lost() {
    lose(&Work::Nothing);
}

#[test]
fn a_device_is_lost_with_work_in_flight() {
    lose(&Work::Running);
}

#[test]
fn a_device_is_lost_with_work_that_waits_for_the_processor() {
    lose(&Work::Held);
}

#[test]
fn a_device_is_lost_between_submissions_of_several_threads() {
    let Some(faults) = Faults::begin() else { return };
    let gpu = Gpu::new();
    let worker = |seed: u64| {
        let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
        let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
        let commands = Commands::simultaneous(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
        let (buffers, fence) = ([commands.raw()], Fence::new(&gpu));
        for round in 0.. {
            source.bytes().write(0, &pattern(seed + round, SIZE));
            let batch = vk::SubmitInfo::default().command_buffers(&buffers);
            let queue = gpu.queue();
            // SAFETY: Valid usage, here and below.
            let submitted = unsafe { gpu.raw().queue_submit(*queue, &[batch], fence.raw()) };
            drop(queue);
            // SAFETY: As above.
            let waited =
                submitted.and_then(|()| unsafe { gpu.raw().wait_for_fences(&[fence.raw()], true, u64::MAX) });
            match waited {
                Ok(()) => {
                    assert_eq!(target.bytes().read_all(), pattern(seed + round, SIZE), "round {round}");
                    fence.reset();
                }
                Err(error) => {
                    assert_eq!(error, vk::Result::ERROR_DEVICE_LOST);
                    source.bytes().fill(0, SIZE, 3);
                    assert_eq!(source.bytes().read_all(), vec![3; SIZE]);
                    // Below Lockstep work goes on to its end.
                    return (source, target, commands, fence);
                }
            }
        }
        unreachable!("the device is lost some time");
    };
    faults.fail_from(&EVERYTHING, 100, vk::Result::ERROR_DEVICE_LOST);
    let left = std::thread::scope(|scope| {
        let threads = [1 << 20, 1 << 30].map(|seed| scope.spawn(move || worker(seed)));
        threads.map(|thread| thread.join().expect("no panic"))
    });
    faults.none();
    gpu.device_wait_idle();
    drop(left);
}
