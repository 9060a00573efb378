//! Several queues: what one does is neither held up by the other nor hidden by it, and the order of their
//! completions is nobody's. Lavapipe has one queue; a host with more is `tests/hostile-host` with
//! `HOSTILE_HOST=delay`.

use ash::vk;
use lockstep_harness::{
    Batch, Buffer, Commands, Compute, Event, Fence, Gpu, Kind, PAGE, Semaphore, Timeline, pattern, skip,
};

/// A size of several pages that is a multiple of 4, but not of a page.
const SIZE: usize = 3 * PAGE + 20;

/// A device and its second queue.
fn two_queues() -> Option<(Gpu, vk::Queue)> {
    let gpu = Gpu::new();
    let second = gpu.second_queue();
    if second.is_none() {
        skip("this device has one queue");
    }
    second.map(|second| (gpu, second))
}

/// A mapped buffer all of whose bytes are 0xEE.
fn target(gpu: &Gpu) -> Buffer {
    Buffer::coherent_with(gpu, &[0xEE; SIZE])
}

#[test]
fn a_queue_overtakes_another_that_is_held_back() {
    let Some((gpu, second)) = two_queues() else { return };
    let source = Buffer::coherent_with(&gpu, &pattern(1, SIZE));
    let (slow, quick) = (target(&gpu), target(&gpu));
    let held = Commands::new(&gpu, |r| r.copy(&source, 0, &slow, 0, SIZE));
    let free = Commands::new(&gpu, |r| r.copy(&source, 0, &quick, 0, SIZE));
    let (go, first_done, second_done) = (Timeline::new(&gpu), Fence::new(&gpu), Fence::new(&gpu));

    gpu.submit(&[Batch::new().wait(&go, 1).run(&held)], Some(&first_done));
    gpu.submit_to(second, &[Batch::new().run(&free)], Some(&second_done));
    second_done.wait();
    assert_eq!(quick.bytes().read_all(), pattern(1, SIZE));
    assert_eq!(slow.bytes().read_all(), vec![0xEE; SIZE]);
    assert!(!first_done.is_signalled());
    source.bytes().write(0, &pattern(2, SIZE));
    go.signal(1);
    first_done.wait();

    assert_eq!(slow.bytes().read_all(), pattern(2, SIZE));
    assert_eq!(quick.bytes().read_all(), pattern(1, SIZE));
}

#[test]
fn a_fence_behind_a_semaphore_tells_of_the_other_queues_work_too() {
    let Some((gpu, second)) = two_queues() else { return };
    let source = Buffer::coherent_with(&gpu, &pattern(3, SIZE));
    let (middle, last) = (target(&gpu), target(&gpu));
    let to_middle = Commands::new(&gpu, |r| {
        r.copy(&source, 0, &middle, 0, SIZE);
        r.barrier();
    });
    let to_last = Commands::new(&gpu, |r| r.copy(&middle, 0, &last, 0, SIZE));
    let (semaphore, fence) = (Semaphore::new(&gpu), Fence::new(&gpu));

    gpu.submit(&[Batch::new().run(&to_middle).signal_binary(&semaphore)], None);
    gpu.submit2_to(second, &[Batch::new().wait_binary(&semaphore).run(&to_last)], Some(&fence));
    fence.poll();

    assert_eq!(last.bytes().read_all(), pattern(3, SIZE));
    assert_eq!(middle.bytes().read_all(), pattern(3, SIZE));
}

#[test]
fn work_that_waits_for_a_later_submission_to_another_queue_sees_what_was_written_before_that() {
    let Some((gpu, second)) = two_queues() else { return };
    let source = Buffer::coherent_with(&gpu, &pattern(4, SIZE));
    let (before, after) = (target(&gpu), target(&gpu));
    let early = Commands::new(&gpu, |r| r.copy(&source, 0, &before, 0, SIZE));
    let late = Commands::new(&gpu, |r| r.copy(&source, 0, &after, 0, SIZE));
    let (timeline, fence) = (Timeline::new(&gpu), Fence::new(&gpu));

    gpu.submit(&[Batch::new().wait(&timeline, 2).run(&late)], Some(&fence));
    gpu.submit_to(second, &[Batch::new().run(&early).signal(&timeline, 1)], None);
    timeline.wait(1);
    assert_eq!(before.bytes().read_all(), pattern(4, SIZE));
    source.bytes().write(0, &pattern(5, SIZE));
    gpu.submit2_to(second, &[Batch::new().signal(&timeline, 2)], None);
    fence.wait();

    assert_eq!(after.bytes().read_all(), pattern(5, SIZE));
    // lavapipe of Mesa 22.3 tells of a batch before it lets go of the semaphores the batch waited for.
    gpu.device_wait_idle();
}

#[test]
fn idle_waits_tell_of_their_own_queue_or_of_all() {
    let Some((gpu, second)) = two_queues() else { return };
    let source = Buffer::coherent_with(&gpu, &pattern(6, SIZE));
    let (first_target, second_target) = (target(&gpu), target(&gpu));
    let one = Commands::new(&gpu, |r| r.copy(&source, 0, &first_target, 0, SIZE));
    let two = Commands::new(&gpu, |r| r.copy(&source, 0, &second_target, 0, SIZE));
    let go = Timeline::new(&gpu);

    gpu.submit(&[Batch::new().wait(&go, 1).run(&one)], None);
    gpu.submit_to(second, &[Batch::new().run(&two)], None);
    // SAFETY: The queue is of this device, and nobody else uses it.
    unsafe { gpu.raw().queue_wait_idle(second) }.expect("vkQueueWaitIdle");
    assert_eq!(second_target.bytes().read_all(), pattern(6, SIZE));
    assert_eq!(first_target.bytes().read_all(), vec![0xEE; SIZE]);
    go.signal(1);
    gpu.device_wait_idle();

    assert_eq!(first_target.bytes().read_all(), pattern(6, SIZE));
}

#[test]
fn an_event_of_one_queue_is_seen_while_the_other_is_held_back() {
    let Some((gpu, second)) = two_queues() else { return };
    let source = Buffer::coherent_with(&gpu, &pattern(7, SIZE));
    let (held_target, free_target) = (target(&gpu), target(&gpu));
    let (event, go, fence) = (Event::new(&gpu), Timeline::new(&gpu), Fence::new(&gpu));
    let held = Commands::new(&gpu, |r| r.copy(&source, 0, &held_target, 0, SIZE));
    let free = Commands::new(&gpu, |r| {
        r.copy(&source, 0, &free_target, 0, SIZE);
        r.set_event(&event);
    });

    gpu.submit(&[Batch::new().wait(&go, 1).run(&held)], Some(&fence));
    gpu.submit_to(second, &[Batch::new().run(&free)], None);
    event.poll();
    assert_eq!(free_target.bytes().read_all(), pattern(7, SIZE));
    assert_eq!(held_target.bytes().read_all(), vec![0xEE; SIZE]);
    go.signal(1);
    fence.wait();

    assert_eq!(held_target.bytes().read_all(), pattern(7, SIZE));
    gpu.device_wait_idle();
}

/// Writes one word, and might write any other.
const ONE_WORD: &str = "
    @group(0) @binding(0) var<storage, read_write> words: array<u32>;

    @compute @workgroup_size(1)
    fn main() {
        words[0] = 0x5a5a5a5au;
    }";

/// Has one queue store a word to memory that is mapped before or after that, while the other queue was used
/// as well, and maps it again if it was before; the processor may have stored a byte in between.
fn mapped_while_a_queue_stores(stores: bool) {
    let Some((gpu, second)) = two_queues() else { return };
    let first = *gpu.queue();
    // Which queue brings the bytes of a map is nobody's business: in one of these turns it is not the one
    // that stores.
    for (seed, (idle, busy)) in (0..).zip([(first, second), (second, first)]) {
        let compute = Compute::new(&gpu, ONE_WORD, 1);
        let shared = Buffer::coherent_with(&gpu, &pattern(seed, SIZE));
        let bindings = compute.bind(&[(&shared, 0, SIZE)]);
        let store = Commands::new(&gpu, |r| r.dispatch(&compute, &bindings, 1));
        let nothing = Commands::new(&gpu, |_| {});
        let mut expected = pattern(seed, SIZE);
        expected[..4].fill(0x5A);

        gpu.submit_to(idle, &[Batch::new().run(&nothing)], None);
        if stores {
            gpu.submit_to(busy, &[Batch::new().run(&store)], None);
            shared.bytes().store(PAGE, 0x77);
            expected[PAGE] = 0x77;
            shared.memory().unmap();
            gpu.submit_to(idle, &[Batch::new().run(&nothing)], None);
        } else {
            shared.memory().unmap();
            gpu.submit_to(busy, &[Batch::new().run(&store)], None);
        }
        let bytes = shared.memory().map(0, SIZE);
        gpu.device_wait_idle();

        assert!(bytes.read_all() == expected, "turn {seed}: {:x} {:x}", bytes.load(0), bytes.load(PAGE));
    }
}

#[test]
fn a_map_shows_what_the_cpu_wrote_and_another_queue_carried() {
    mapped_while_a_queue_stores(true);
}

#[test]
fn a_map_shows_what_a_queue_is_about_to_store() {
    mapped_while_a_queue_stores(false);
}

#[test]
fn batches_of_two_queues_that_might_write_the_same_words_keep_each_others() {
    let Some((gpu, second)) = two_queues() else { return };
    let shared = Buffer::coherent_with(&gpu, &[0; SIZE]);
    let work = [0, 1].map(|word| {
        let compute = Compute::new(&gpu, &ONE_WORD.replace("words[0] =", &format!("words[{word}] +=")), 1);
        let bindings = compute.bind(&[(&shared, 0, SIZE)]);
        let commands = Commands::new(&gpu, |r| r.dispatch(&compute, &bindings, 1));
        (compute, bindings, commands)
    });
    for round in 1..=10_u32 {
        gpu.submit(&[Batch::new().run(&work[0].2)], None);
        gpu.submit_to(second, &[Batch::new().run(&work[1].2)], None);
        gpu.device_wait_idle();
        let sum = round.wrapping_mul(0x5a5a_5a5a).to_ne_bytes();
        assert_eq!(shared.bytes().read(0, 8), [sum, sum].concat(), "round {round}");
    }
}

/// Which of the words of 4 bytes of shared pages are whose.
fn words(of: usize) -> impl Iterator<Item = usize> {
    (0..SIZE / 4).skip(of).step_by(3).map(|word| 4 * word)
}

#[test]
fn two_queues_and_the_cpu_write_words_of_the_same_pages_in_any_order() {
    let Some((gpu, second)) = two_queues() else { return };
    let shared = target(&gpu);
    let sources = [(); 2].map(|()| Buffer::mapped(&gpu, Kind::Coherent, SIZE));
    let regions = [0, 1].map(|of| words(of).map(|at| (at, at, 4)).collect::<Vec<_>>());
    let commands =
        [0, 1].map(|of| Commands::new(&gpu, |r| r.copy_regions(&sources[of], &shared, &regions[of])));
    let fences = [(); 2].map(|()| Fence::new(&gpu));
    let mut expected = vec![0xEE; SIZE];

    for round in 0..20 {
        let new = [0, 1, 2].map(|of| pattern(100 + 3 * round + of, SIZE));
        sources[0].bytes().write(0, &new[0]);
        gpu.submit(&[Batch::new().run(&commands[0])], Some(&fences[0]));
        sources[1].bytes().write(0, &new[1]);
        gpu.submit_to(second, &[Batch::new().run(&commands[1])], Some(&fences[1]));
        for at in words(2) {
            shared.bytes().write(at, &new[2][at..at + 4]);
            expected[at..at + 4].copy_from_slice(&new[2][at..at + 4]);
        }
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for of in order {
            fences[of].wait();
            fences[of].reset();
            for at in words(of) {
                expected[at..at + 4].copy_from_slice(&new[of][at..at + 4]);
                assert_eq!(
                    shared.bytes().read(at, 4),
                    expected[at..at + 4],
                    "round {round}, queue {of}, {at}"
                );
            }
        }
        assert_eq!(shared.bytes().read_all(), expected, "round {round}");
    }
    assert_eq!(shared.all_as_device_sees(), expected);
}

#[test]
fn two_threads_with_a_queue_each_lose_no_byte_of_pages_they_share() {
    let Some((gpu, second)) = two_queues() else { return };
    let (input, output) = (target(&gpu), target(&gpu));
    let work = |of: usize, queue: Option<vk::Queue>| {
        let regions: Vec<_> = words(of).map(|at| (at, at, 4)).collect();
        let commands = Commands::new(&gpu, |r| r.copy_regions(&input, &output, &regions));
        let fence = Fence::new(&gpu);
        for round in 0..50 {
            let new = pattern(1000 * of as u64 + round, SIZE);
            for at in words(of) {
                input.bytes().write(at, &new[at..at + 4]);
            }
            match queue {
                Some(queue) => gpu.submit_to(queue, &[Batch::new().run(&commands)], Some(&fence)),
                None => gpu.submit(&[Batch::new().run(&commands)], Some(&fence)),
            }
            if round % 2 == 0 {
                fence.wait();
            } else {
                fence.poll();
            }
            fence.reset();
            for at in words(of) {
                assert_eq!(output.bytes().read(at, 4), new[at..at + 4], "round {round} of {of}, at {at}");
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| work(0, None));
        scope.spawn(|| work(1, Some(second)));
    });
    assert!(words(2).all(|at| output.bytes().read(at, 4) == [0xEE; 4]));
}
