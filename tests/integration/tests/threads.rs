//! Several threads write, submit, wait and poll at once.

use lockstep_harness::{Batch, Buffer, Commands, Fence, Gpu, Kind, Memory, PAGE, Timeline, pattern};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

/// Each thread owns every other stretch of this many bytes.
const STRETCH: usize = 52;
const SIZE: usize = 4 * PAGE;

/// Returns the stretches of thread `own` of `of`.
fn stretches(own: usize, of: usize) -> Vec<(usize, usize, usize)> {
    (own..SIZE / STRETCH).step_by(of).map(|n| (n * STRETCH, n * STRETCH, STRETCH)).collect()
}

/// Each thread writes its stretches of shared pages, submits a copy of them and checks what the copy got.
fn threads_share_pages(count: usize, rounds: u64) {
    let gpu = Gpu::new();
    let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let start = Barrier::new(count);
    std::thread::scope(|scope| {
        for own in 0..count {
            let (gpu, source, target, start) = (&gpu, &source, &target, &start);
            scope.spawn(move || {
                let parts = stretches(own, count);
                let commands = Commands::new(gpu, |r| r.copy_regions(source, target, &parts));
                let fence = Fence::new(gpu);
                start.wait();
                for round in 0..rounds {
                    let bytes = pattern(1000 * own as u64 + round, SIZE);
                    for &(at, _, len) in &parts {
                        source.bytes().write(at, &bytes[at..at + len]);
                    }
                    gpu.submit(&[Batch::new().run(&commands)], Some(&fence));
                    fence.wait();
                    fence.reset();
                    for &(at, _, len) in &parts {
                        let got = target.bytes().read(at, len);
                        assert!(got == bytes[at..at + len], "thread {own}, round {round}, byte {at}");
                    }
                }
            });
        }
    });
}

#[test]
fn two_submitting_threads_that_share_pages_each_see_their_own_bytes() {
    threads_share_pages(2, 400);
}

#[test]
fn five_submitting_threads_that_share_pages_each_see_their_own_bytes() {
    threads_share_pages(5, 100);
}

#[test]
fn a_poller_and_a_waiter_of_one_fence_both_see_the_bytes() {
    let gpu = Gpu::new();
    let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
    let fence = Fence::new(&gpu);
    for round in 0..200 {
        let expected = pattern(round, SIZE);
        source.bytes().write(0, &expected);
        gpu.submit(&[Batch::new().run(&commands)], Some(&fence));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                fence.wait();
                target.bytes().read_all()
            });
            fence.poll();
            let polled = target.bytes().read_all();
            assert!(polled == expected, "the poller, round {round}");
            assert!(waiter.join().expect("the waiter") == expected, "the waiter, round {round}");
        });
        fence.reset();
    }
}

#[test]
fn pollers_of_fence_and_timeline_beside_two_waiters_all_see_the_bytes() {
    let gpu = Gpu::new();
    let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
    let (fence, timeline) = (Fence::new(&gpu), Timeline::new(&gpu));
    for round in 1..=60 {
        let expected = pattern(round, SIZE);
        source.bytes().write(0, &expected);
        gpu.submit(&[Batch::new().run(&commands).signal(&timeline, round)], Some(&fence));
        let ways: [&(dyn Fn() + Sync); 4] =
            [&|| fence.wait(), &|| fence.poll(), &|| timeline.wait(round), &|| timeline.poll(round)];
        std::thread::scope(|scope| {
            for (number, way) in ways.into_iter().enumerate() {
                let (target, expected) = (&target, &expected);
                scope.spawn(move || {
                    way();
                    assert!(target.bytes().read_all() == *expected, "way {number}, round {round}");
                });
            }
        });
        fence.reset();
    }
}

#[test]
fn other_memory_comes_and_goes_beside_submitting_threads() {
    let gpu = Gpu::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let churn = scope.spawn(|| {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                let size = PAGE + 64 * (usize::try_from(round).expect("few rounds") % 97);
                let memory = Memory::new(&gpu, Kind::Coherent, size);
                memory.map_whole().write(0, &pattern(round, size));
                memory.unmap();
                assert!(memory.map(0, size).read_all() == pattern(round, size), "round {round}");
            }
            round
        });
        let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
        let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
        let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
        let fence = Fence::new(&gpu);
        for round in 0..300 {
            source.bytes().write(0, &pattern(round, SIZE));
            gpu.submit(&[Batch::new().run(&commands)], Some(&fence));
            fence.wait();
            fence.reset();
            assert!(target.bytes().read_all() == pattern(round, SIZE), "round {round}");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(churn.join().expect("the churning thread") > 0);
    });
}

#[test]
fn threads_map_and_unmap_the_memory_that_others_copy() {
    let gpu = Gpu::new();
    std::thread::scope(|scope| {
        for own in 0..3_u64 {
            let gpu = &gpu;
            scope.spawn(move || {
                let source = Buffer::unmapped(gpu, Kind::Coherent, 2 * PAGE + 4);
                let target = Buffer::unmapped(gpu, Kind::Coherent, 2 * PAGE + 4);
                for round in 0..80 {
                    let expected = pattern(own * 1000 + round, 2 * PAGE + 4);
                    source.memory().map(0, 2 * PAGE + 4).write(0, &expected);
                    source.memory().unmap();
                    gpu.run(|r| r.copy(&source, 0, &target, 0, 2 * PAGE + 4));
                    let got = target.memory().map(0, 2 * PAGE + 4).read_all();
                    target.memory().unmap();
                    assert!(got == expected, "thread {own}, round {round}");
                }
            });
        }
    });
}

#[test]
fn bytes_written_by_one_thread_travel_with_the_submit_of_another() {
    let gpu = Gpu::new();
    let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
    let turns = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..150 {
                source.bytes().write(0, &pattern(round, SIZE));
                turns.wait();
                turns.wait();
            }
        });
        let fence = Fence::new(&gpu);
        for round in 0..150 {
            turns.wait();
            gpu.submit2(&[Batch::new().run(&commands)], Some(&fence));
            fence.wait();
            fence.reset();
            let got = target.bytes().read_all();
            turns.wait();
            assert!(got == pattern(round, SIZE), "round {round}");
        }
    });
}
