//! Bytes the device wrote are in mapped coherent memory once any call has told that the device is done.

use ash::vk;
use lockstep_harness::{
    Batch, Buffer, Commands, Compute, Event, Fence, Gpu, Kind, MappedBytes, Memory, PAGE, Queries, Timeline,
    pattern, skip, sync, validation,
};

/// A size of several pages that is a multiple of neither 8 nor a page.
const SIZE: usize = 4 * PAGE + 21;

/// What most tests here watch: the device copies known bytes into a mapped buffer full of others.
struct Copy {
    gpu: Gpu,
    _source: Buffer,
    target: Buffer,
    commands: Commands,
    expected: Vec<u8>,
}

impl Copy {
    fn new(seed: u64) -> Self {
        let gpu = Gpu::new();
        let expected = pattern(seed, SIZE);
        let source = Buffer::coherent_with(&gpu, &expected);
        let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
        target.bytes().fill(0, SIZE, 0xEE);
        let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
        Self { gpu, _source: source, target, commands, expected }
    }

    fn batch(&self) -> Batch {
        Batch::new().run(&self.commands)
    }

    fn assert_arrived(&self) {
        assert!(self.target.bytes().read_all() == self.expected, "the device's bytes are not there");
    }
}

#[test]
fn wait_for_fences() {
    let copy = Copy::new(1);
    let fence = Fence::new(&copy.gpu);
    copy.gpu.submit(&[copy.batch()], Some(&fence));
    fence.wait();
    copy.assert_arrived();
}

#[test]
fn wait_for_fences_for_all_of_several() {
    let copy = Copy::new(2);
    let fences: Vec<_> = (0..4).map(|_| Fence::new(&copy.gpu)).collect();
    copy.gpu.submit(&[], Some(&fences[0]));
    copy.gpu.submit(&[copy.batch()], Some(&fences[1]));
    copy.gpu.submit(&[], Some(&fences[2]));
    copy.gpu.submit2(&[], Some(&fences[3]));
    Fence::wait_for(&copy.gpu, &fences.iter().rev().collect::<Vec<_>>(), true);
    copy.assert_arrived();
}

#[test]
fn wait_for_fences_for_any_while_another_is_held_back() {
    let copy = Copy::new(3);
    let (done, held, timeline) = (Fence::new(&copy.gpu), Fence::new(&copy.gpu), Timeline::new(&copy.gpu));
    copy.gpu.submit(&[copy.batch()], Some(&done));
    copy.gpu.submit(&[Batch::new().wait(&timeline, 1)], Some(&held));
    Fence::wait_for(&copy.gpu, &[&held, &done], false);
    copy.assert_arrived();
    assert!(!held.is_signalled());
    timeline.signal(1);
    held.wait();
}

#[test]
fn wait_for_fences_of_a_later_empty_submit() {
    let copy = Copy::new(4);
    let fence = Fence::new(&copy.gpu);
    copy.gpu.submit(&[copy.batch()], None);
    copy.gpu.submit(&[], Some(&fence));
    fence.wait();
    copy.assert_arrived();
}

#[test]
fn wait_for_fences_after_the_memory_was_read_too_early() {
    let copy = Copy::new(5);
    let (fence, timeline) = (Fence::new(&copy.gpu), Timeline::new(&copy.gpu));
    copy.gpu.submit(&[Batch::new().wait(&timeline, 1).run(&copy.commands)], Some(&fence));
    assert_eq!(copy.target.bytes().read_all(), vec![0xEE; SIZE]);
    timeline.signal(1);
    fence.wait();
    copy.assert_arrived();
}

#[test]
fn get_fence_status_polled() {
    let copy = Copy::new(6);
    let fence = Fence::new(&copy.gpu);
    copy.gpu.submit2(&[copy.batch()], Some(&fence));
    fence.poll();
    copy.assert_arrived();
}

#[test]
fn get_fence_status_says_no_while_the_batch_is_held_back() {
    let copy = Copy::new(7);
    let (fence, timeline) = (Fence::new(&copy.gpu), Timeline::new(&copy.gpu));
    copy.gpu.submit(&[Batch::new().wait(&timeline, 1).run(&copy.commands)], Some(&fence));
    assert!((0..100).all(|_| !fence.is_signalled()));
    timeline.signal(1);
    fence.poll();
    copy.assert_arrived();
}

#[test]
fn wait_semaphores() {
    let copy = Copy::new(8);
    let timeline = Timeline::new(&copy.gpu);
    copy.gpu.submit(&[copy.batch().signal(&timeline, 7)], None);
    timeline.wait(7);
    copy.assert_arrived();
}

#[test]
fn wait_semaphores_for_a_value_passed_long_ago() {
    validation::loses_count_of_timelines("no batch signals the value waited for");
    let copy = Copy::new(9);
    let timeline = Timeline::new(&copy.gpu);
    copy.gpu.submit2(&[copy.batch().signal(&timeline, 1_000_000_007)], None);
    timeline.wait(3);
    copy.assert_arrived();
}

#[test]
fn get_semaphore_counter_value_polled() {
    let copy = Copy::new(10);
    let timeline = Timeline::new(&copy.gpu);
    copy.gpu.submit(&[copy.batch().signal(&timeline, 7)], None);
    timeline.poll(7);
    copy.assert_arrived();
}

#[test]
fn get_event_status_polled() {
    let copy = Copy::new(11);
    let event = Event::new(&copy.gpu);
    let source = Buffer::coherent_with(&copy.gpu, &copy.expected);
    let commands = Commands::new(&copy.gpu, |r| {
        r.copy(&source, 0, &copy.target, 0, SIZE);
        r.set_event(&event);
    });
    copy.gpu.submit(&[Batch::new().run(&commands)], None);
    event.poll();
    copy.assert_arrived();
    copy.gpu.queue_wait_idle();
}

#[test]
fn get_event_status_while_a_later_batch_of_the_same_submit_is_held_back() {
    let copy = Copy::new(12);
    let (event, timeline, fence) = (Event::new(&copy.gpu), Timeline::new(&copy.gpu), Fence::new(&copy.gpu));
    let late = Buffer::mapped(&copy.gpu, Kind::Coherent, 64);
    let setter = Commands::new(&copy.gpu, |r| r.set_event(&event));
    let rest = Commands::new(&copy.gpu, |r| r.fill(&late, 0, 64, 0x44));
    let held = Batch::new().wait(&timeline, 1).run(&rest);
    copy.gpu.submit(&[copy.batch(), Batch::new().run(&setter), held], Some(&fence));
    event.poll();
    copy.assert_arrived();
    assert!(!fence.is_signalled());
    timeline.signal(1);
    fence.wait();
    assert_eq!(late.bytes().read_all(), vec![0x44; 64]);
}

#[test]
fn get_event_status_of_an_event_in_the_middle_of_a_batch() {
    let copy = Copy::new(13);
    let event = Event::new(&copy.gpu);
    let other = Buffer::mapped(&copy.gpu, Kind::Coherent, 64 * PAGE);
    let source = Buffer::coherent_with(&copy.gpu, &copy.expected);
    // The batch goes on writing elsewhere after the event, so that the event comes before the batch's end.
    let commands = Commands::new(&copy.gpu, |r| {
        r.copy(&source, 0, &copy.target, 0, SIZE);
        r.set_event(&event);
        (0..3000).for_each(|_| {
            r.fill(&other, 0, 64 * PAGE, 0x12);
            r.barrier();
        });
    });
    let fence = Fence::new(&copy.gpu);
    copy.gpu.submit(&[Batch::new().run(&commands)], Some(&fence));
    event.poll();
    copy.assert_arrived();
    fence.wait();
    assert_eq!(other.bytes().read_all(), vec![0x12; 64 * PAGE]);
}

#[test]
fn get_query_pool_results_waiting() {
    let copy = Copy::new(14);
    let queries = Queries::timestamps(&copy.gpu, 2);
    let source = Buffer::coherent_with(&copy.gpu, &copy.expected);
    let commands = Commands::new(&copy.gpu, |r| {
        r.reset(&queries);
        r.copy(&source, 0, &copy.target, 0, SIZE);
        r.timestamp(&queries, 0);
        r.timestamp(&queries, 1);
    });
    // A query must not be read before its first reset: one submit sees to that, the second is the test.
    copy.gpu.submit(&[Batch::new().run(&commands)], None);
    copy.gpu.queue_wait_idle();
    copy.target.bytes().fill(0, SIZE, 0xEE);
    let reset = Commands::new(&copy.gpu, |r| r.reset(&queries));
    let fence = Fence::new(&copy.gpu);
    copy.gpu.submit(&[Batch::new().run(&reset)], Some(&fence));
    fence.wait();
    copy.gpu.submit(&[Batch::new().run(&commands)], None);
    queries.wait(1);
    copy.assert_arrived();
    copy.gpu.queue_wait_idle();
}

#[test]
fn get_query_pool_results_polled_for_availability() {
    let copy = Copy::new(15);
    let queries = Queries::timestamps(&copy.gpu, 1);
    let source = Buffer::coherent_with(&copy.gpu, &copy.expected);
    copy.gpu.run(|r| r.reset(&queries));
    let commands = Commands::new(&copy.gpu, |r| {
        r.copy(&source, 0, &copy.target, 0, SIZE);
        r.timestamp(&queries, 0);
    });
    copy.gpu.submit(&[Batch::new().run(&commands)], None);
    queries.poll(0);
    copy.assert_arrived();
    copy.gpu.queue_wait_idle();
}

#[test]
fn copied_query_results_are_device_writes_like_others() {
    let gpu = Gpu::new();
    let queries = Queries::timestamps(&gpu, 3);
    let target = Buffer::mapped(&gpu, Kind::Coherent, 2 * PAGE);
    target.bytes().fill(0, 2 * PAGE, 0xEE);
    let offset = PAGE - 24;

    gpu.run(|r| {
        r.reset(&queries);
        (0..3).for_each(|query| r.timestamp(&queries, query));
        r.copy_results(&queries, &target, offset);
    });

    let bytes = target.bytes().read_all();
    for query in 0..3 {
        let at = offset + 16 * query;
        let result = queries.wait(u32::try_from(query).expect("few"));
        assert_eq!(bytes[at..at + 8], result.to_ne_bytes(), "query {query}");
        assert_ne!(bytes[at + 8..at + 16], [0; 8], "availability of query {query}");
    }
    assert!(bytes[..offset].iter().chain(&bytes[offset + 48..]).all(|&byte| byte == 0xEE));
}

#[test]
fn queue_wait_idle() {
    let copy = Copy::new(16);
    copy.gpu.submit(&[copy.batch()], None);
    copy.gpu.queue_wait_idle();
    copy.assert_arrived();
}

#[test]
fn device_wait_idle() {
    let copy = Copy::new(17);
    copy.gpu.submit(&[copy.batch()], None);
    copy.gpu.device_wait_idle();
    copy.assert_arrived();
}

#[test]
fn map_memory_shows_what_was_written_before_it_was_ever_mapped() {
    let gpu = Gpu::new();
    let source = Buffer::coherent_with(&gpu, &pattern(18, SIZE));
    let target = Buffer::unmapped(&gpu, Kind::Coherent, SIZE);
    gpu.run(|r| r.copy(&source, 0, &target, 0, SIZE));
    assert_eq!(target.memory().map(0, SIZE).read_all(), pattern(18, SIZE));
}

#[test]
fn map_memory_of_a_part_shows_what_was_written_before_it_was_ever_mapped() {
    let gpu = Gpu::new();
    let source = Buffer::coherent_with(&gpu, &pattern(19, SIZE));
    let target = Buffer::unmapped(&gpu, Kind::Coherent, SIZE);
    gpu.run(|r| r.copy(&source, 0, &target, 0, SIZE));
    assert_eq!(target.memory().map(PAGE + 7, 9).read_all(), pattern(19, SIZE)[PAGE + 7..PAGE + 16]);
    target.memory().unmap();
    assert_eq!(target.memory().map(0, SIZE).read_all(), pattern(19, SIZE));
}

#[test]
fn map_again_shows_what_the_device_wrote_while_unmapped() {
    let gpu = Gpu::new();
    let target = Buffer::unmapped(&gpu, Kind::Coherent, SIZE);
    target.memory().map(0, SIZE).write(0, &pattern(20, SIZE));
    target.memory().unmap();
    let source = Buffer::coherent_with(&gpu, &pattern(21, PAGE));
    gpu.run(|r| r.copy(&source, 0, &target, 100, PAGE));
    let mut expected = pattern(20, SIZE);
    expected[100..100 + PAGE].copy_from_slice(&pattern(21, PAGE));
    assert_eq!(target.memory().map(0, SIZE).read_all(), expected);
}

/// Maps again until the bytes of a batch are there whose completion nobody asks about.
fn find_by_mapping(gpu: &Gpu, map: impl Fn(&Memory) -> MappedBytes) {
    let target = Buffer::unmapped(gpu, Kind::Coherent, SIZE);
    target.memory().map(0, SIZE).write(0, &pattern(25, SIZE));
    target.memory().unmap();
    let commands = Commands::new(gpu, |r| r.fill(&target, 0, PAGE, 0x5A));
    gpu.submit(&[Batch::new().run(&commands)], None);
    sync::poll("the bytes of a batch", || {
        let bytes = map(target.memory()).read_all();
        target.memory().unmap();
        assert_eq!(bytes[PAGE..], pattern(25, SIZE)[PAGE..]);
        bytes[..PAGE] == [0x5A; PAGE]
    });
    gpu.queue_wait_idle();
}

/// Maps after two batches have written the same bytes, of which one was submitted while they were mapped.
fn map_behind_two_batches(gpu: &Gpu, map: impl Fn(&Memory) -> MappedBytes) {
    let target = Buffer::mapped(gpu, Kind::Coherent, SIZE);
    target.bytes().write(0, &pattern(26, SIZE));
    let [first, second] = [0x11, 0x22].map(|byte| {
        Commands::new(gpu, |r| {
            r.fill(&target, 0, PAGE, byte);
            r.barrier();
        })
    });
    gpu.submit(&[Batch::new().run(&first)], None);
    target.memory().unmap();
    gpu.submit(&[Batch::new().run(&second)], None);
    let bytes = map(target.memory());
    gpu.device_wait_idle();
    let mut expected = pattern(26, SIZE);
    expected[..PAGE].fill(0x22);
    assert!(bytes.read_all() == expected, "{:x}", bytes.load(0));
}

/// A device with vkMapMemory2KHR, and a map by it.
fn map_memory2() -> Option<(Gpu, impl Fn(&Memory) -> MappedBytes)> {
    validation::is_older_than_map_memory2();
    if !Gpu::new().advertises(c"VK_KHR_map_memory2") {
        skip("VK_KHR_map_memory2 is not advertised");
        return None;
    }
    let gpu = Gpu::builder().device_extension(c"VK_KHR_map_memory2").build();
    let functions = ash::khr::map_memory2::Device::new(gpu.instance().raw(), gpu.raw());
    let map = move |memory: &Memory| {
        let info = vk::MemoryMapInfoKHR::default().memory(memory.raw()).size(vk::WHOLE_SIZE);
        let mut start = std::ptr::null_mut();
        // SAFETY: The memory is mappable and unmapped.
        let result =
            unsafe { (functions.fp().map_memory2_khr)(functions.device(), &raw const info, &raw mut start) };
        result.result().expect("vkMapMemory2KHR");
        MappedBytes::new(start, SIZE)
    };
    Some((gpu, map))
}

#[test]
fn map_memory_shows_what_nobody_asked_about() {
    find_by_mapping(&Gpu::new(), |memory| memory.map(0, SIZE));
}

#[test]
fn map_memory2_shows_what_nobody_asked_about() {
    let Some((gpu, map)) = map_memory2() else { return };
    find_by_mapping(&gpu, map);
}

#[test]
fn map_memory_shows_the_last_of_two_batches() {
    map_behind_two_batches(&Gpu::new(), |memory| memory.map(0, SIZE));
}

#[test]
fn map_memory2_shows_the_last_of_two_batches() {
    let Some((gpu, map)) = map_memory2() else { return };
    map_behind_two_batches(&gpu, map);
}

#[test]
fn a_map_made_while_the_writing_batch_is_in_flight_shows_its_bytes_at_the_fence() {
    let gpu = Gpu::new();
    let source = Buffer::coherent_with(&gpu, &pattern(22, SIZE));
    let target = Buffer::unmapped(&gpu, Kind::Coherent, SIZE);
    let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
    let (timeline, fence) = (Timeline::new(&gpu), Fence::new(&gpu));

    gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&fence));
    let bytes = target.memory().map(0, SIZE);
    timeline.signal(1);
    fence.wait();

    assert_eq!(bytes.read_all(), pattern(22, SIZE));
}

#[test]
fn bytes_written_into_a_map_made_in_flight_survive_beside_the_batchs_own() {
    let gpu = Gpu::new();
    let source = Buffer::coherent_with(&gpu, &pattern(23, SIZE));
    let target = Buffer::unmapped(&gpu, Kind::Coherent, SIZE);
    let (from, len) = (33, 2 * PAGE);
    let commands = Commands::new(&gpu, |r| r.copy(&source, from, &target, from, len));
    let (timeline, fence) = (Timeline::new(&gpu), Fence::new(&gpu));

    gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&fence));
    let bytes = target.memory().map(0, SIZE);
    bytes.fill(0, from, 0x61);
    bytes.fill(from + len, SIZE - from - len, 0x62);
    timeline.signal(1);
    fence.wait();

    let mut expected = vec![0x61; SIZE];
    expected[from..from + len].copy_from_slice(&pattern(23, SIZE)[from..from + len]);
    expected[from + len..].fill(0x62);
    assert_eq!(bytes.read_all(), expected);
    assert_eq!(target.all_as_device_sees(), expected);
}

#[test]
fn a_batch_submitted_with_unmapped_memory_shows_its_bytes_in_two_later_maps() {
    let gpu = Gpu::new();
    let source = Buffer::coherent_with(&gpu, &pattern(24, SIZE));
    let target = Buffer::unmapped(&gpu, Kind::Coherent, SIZE);
    let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
    let (timeline, fence) = (Timeline::new(&gpu), Fence::new(&gpu));

    gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&fence));
    target.memory().map(0, 10);
    target.memory().unmap();
    timeline.signal(1);
    fence.wait();

    assert_eq!(target.memory().map(5, SIZE - 5).read_all(), pattern(24, SIZE)[5..]);
}

#[test]
fn one_submit_of_many_batches_is_fed_by_the_host_while_another_thread_waits_for_the_device() {
    validation::loses_count_of_timelines("one thread is told of a batch while another waits for all");
    const BATCHES: u64 = 32;
    let gpu = Gpu::new();
    let input = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let output = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    output.bytes().fill(0, SIZE, 0xEE);
    let commands: Vec<_> =
        (0..BATCHES).map(|_| Commands::new(&gpu, |r| r.copy(&input, 0, &output, 0, SIZE))).collect();
    let (go, done) = (Timeline::new(&gpu), Timeline::new(&gpu));

    let batch = |(value, commands)| Batch::new().wait(&go, value).run(commands).signal(&done, value);
    gpu.submit(&(1..).zip(&commands).map(batch).collect::<Vec<_>>(), None);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            gpu.device_wait_idle();
            output.bytes().read_all()
        });
        for value in 1..=BATCHES {
            input.bytes().write(0, &pattern(value, SIZE));
            go.signal(value);
            done.wait(value);
            assert!(output.bytes().read_all() == pattern(value, SIZE), "batch {value}");
        }
        assert_eq!(waiter.join().expect("the waiter"), pattern(BATCHES, SIZE));
    });
}

#[test]
fn each_batch_of_one_submit_shows_its_bytes_while_the_next_is_held_back() {
    let gpu = Gpu::new();
    let (go, done) = (Timeline::new(&gpu), Timeline::new(&gpu));
    let target = Buffer::mapped(&gpu, Kind::Coherent, 8 * 1000);
    target.bytes().fill(0, 8000, 0xEE);
    let commands: Vec<_> =
        (0..8_u8).map(|n| Commands::new(&gpu, |r| r.fill(&target, 1000 * usize::from(n), 1000, n))).collect();

    let batch = |(value, commands)| Batch::new().wait(&go, value).run(commands).signal(&done, value);
    gpu.submit2(&(1..).zip(&commands).map(batch).collect::<Vec<_>>(), None);
    for n in 0..8_u8 {
        go.signal(u64::from(n) + 1);
        done.poll(u64::from(n) + 1);
        let at = 1000 * usize::from(n);
        assert_eq!(target.bytes().read(at, 1000), vec![n; 1000]);
        assert!(target.bytes().read_all()[at + 1000..].iter().all(|&byte| byte == 0xEE));
    }
}

#[test]
fn bytes_written_behind_a_batch_that_might_have_written_them_stay() {
    const ONE_WORD: &str = "
        @group(0) @binding(0) var<storage, read_write> words: array<u32>;

        @compute @workgroup_size(1)
        fn main() {
            words[0] += 1u;
        }";
    let gpu = Gpu::new();
    let compute = Compute::new(&gpu, ONE_WORD, 1);
    let shared = Buffer::mapped(&gpu, Kind::Coherent, 2 * PAGE);
    shared.bytes().fill(0, 2 * PAGE, 0);
    let bindings = compute.bind(&[(&shared, 0, 2 * PAGE)]);
    let commands = Commands::new(&gpu, |r| r.dispatch(&compute, &bindings, 1));
    let nothing = Commands::new(&gpu, |_| {});
    for round in 1..=10 {
        gpu.submit(&[Batch::new().run(&commands)], None);
        shared.bytes().fill(PAGE, PAGE, round);
        gpu.submit(&[Batch::new().run(&nothing)], None);
        gpu.device_wait_idle();
        let mut expected = vec![0; PAGE];
        expected[0] = round;
        expected.resize(2 * PAGE, round);
        assert_eq!(shared.bytes().read_all(), expected, "round {round}");
    }
}

#[test]
fn bytes_of_earlier_rounds_never_come_back() {
    let gpu = Gpu::new();
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let commands = Commands::new(&gpu, |r| r.fill(&target, 0, 4 * PAGE, 0x55));
    let fence = Fence::new(&gpu);
    for round in 0..10 {
        target.bytes().write(0, &pattern(round, SIZE));
        gpu.submit(&[Batch::new().run(&commands)], Some(&fence));
        sync::poll("a fence", || fence.is_signalled());
        fence.reset();
        assert_eq!(target.bytes().read(0, 4 * PAGE), vec![0x55; 4 * PAGE], "round {round}");
        assert_eq!(target.bytes().read(4 * PAGE, 21), pattern(round, SIZE)[4 * PAGE..], "round {round}");
    }
}
