//! Random programs, legal ones, against a reference that is nothing but vectors of bytes.
//!
//! Processor and device write random ranges of buffers that share allocations and pages; batches are held
//! in flight by a timeline the host signals; every way to learn of completion is used. The [`world`] knows at
//! any time which bytes must have which value, and after every step it compares all that are mapped.
//!
//! `LOCKSTEP_MODEL_SEEDS` says how many programs run (12), `LOCKSTEP_MODEL_FIRST_SEED` where they start (1).
//! A failure prints the seed and the program's last steps.

mod ops;
mod world;

use lockstep_harness::loader;
use world::World;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn random_programs_see_exactly_the_bytes_the_reference_sees() {
    let first = number("LOCKSTEP_MODEL_FIRST_SEED", 1);
    let count = number("LOCKSTEP_MODEL_SEEDS", 12);
    for seed in first..first + count {
        println!("seed {seed}");
        loader::restart_hang_limit();
        let mut world = World::new(seed);
        for _ in 0..150 {
            world.step();
        }
        world.finish();
    }
}
