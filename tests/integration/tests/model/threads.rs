//! Worlds that share a queue and pages, each with a thread; another thread waits for the device to idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lockstep_harness::{Memory, PAGE, Rng, loader};

use crate::places::Share;
use crate::world::World;

/// Buffers of all threads lie at multiples of this.
const GRAIN: usize = 256;

/// Ends the process when a thread fails: the others would wait for it for ever.
struct Fatal;

impl Drop for Fatal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Deals out parts of some pages in turn to `count` worlds.
fn deal(rng: &mut Rng, size: usize, count: usize) -> Vec<Vec<(usize, usize)>> {
    let mut parts = vec![Vec::new(); count];
    let (mut at, mut turn) = (0, 0);
    while at + GRAIN <= size {
        let room = (size - at).min(GRAIN * rng.between(1, 7));
        let len = if rng.one_in(2) { room } else { room - rng.below(GRAIN - 4) };
        parts[turn % count].push((at, len));
        at += room.next_multiple_of(GRAIN);
        turn += 1;
    }
    parts
}

#[test]
fn threads_on_one_queue_share_pages_and_lose_no_byte() {
    for seed in crate::seeds(50) {
        println!("LOCKSTEP_MODEL_FIRST_SEED={seed} LOCKSTEP_MODEL_SEEDS=1");
        loader::restart_hang_limit();
        let mut rng = Rng::new(seed);
        let tools = crate::tools();
        let count = rng.between(2, 4);
        let size = rng.between(2, 5) * PAGE;
        let memory = Memory::addressable(&tools.gpu, size);
        let bytes = memory.map_whole();
        let (holding, over) = (Arc::new(AtomicUsize::new(0)), AtomicBool::new(false));
        let shares = deal(&mut rng, size, count).into_iter();
        // One after the other: to fill the places they wait for the device.
        let worlds: Vec<_> = (seed * 10..)
            .zip(shares)
            .map(|(seed, parts)| {
                let share = Share { memory: Arc::clone(&memory), bytes, parts };
                World::on(share, seed, &tools, &holding)
            })
            .collect();
        std::thread::scope(|scope| {
            let threads: Vec<_> = worlds
                .into_iter()
                .map(|mut world| {
                    scope.spawn(move || {
                        let _fatal = Fatal;
                        (0..60).for_each(|_| world.step());
                        world.drain();
                        world
                    })
                })
                .collect();
            let idle = scope.spawn(|| {
                let _fatal = Fatal;
                while !over.load(Ordering::SeqCst) {
                    let queue = tools.gpu.queue();
                    if holding.load(Ordering::SeqCst) == 0 {
                        tools.gpu.device_wait_idle();
                    }
                    drop(queue);
                    std::thread::yield_now();
                }
            });
            let worlds: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
            over.store(true, Ordering::SeqCst);
            idle.join().expect("no panic");
            worlds.into_iter().for_each(World::finish);
        });
    }
}
