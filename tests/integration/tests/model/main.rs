//! Random programs, legal ones, against a reference that is nothing but vectors of bytes.
//!
//! Processor and device write random ranges of buffers and images that share allocations and pages; batches
//! are held in flight by a timeline the host signals and by events it sets; every way to learn of completion
//! is used, in the middle of a batch, too. The [`world`] knows at any time which bytes must have which value,
//! and after every step it compares all that are mapped.
//!
//! | module | what it is |
//! |---|---|
//! | [`world`] | what is in flight, which byte must have which value |
//! | [`steps`], [`scenes`] | what happens next, and what follows on it |
//! | [`flight`] | batches: command buffers, phases, what holds them back and what tells of them |
//! | [`places`] | buffers and images on shared allocations |
//! | [`ops`], [`shade`], [`feedback`], [`images`], [`shaders`] | commands: what they do to device and reference |
//! | [`threads`] | worlds that share queue and pages, each with a thread |
//!
//! `LOCKSTEP_MODEL_SEEDS` says how many programs run, `LOCKSTEP_MODEL_FIRST_SEED` where they start (1). A
//! failure prints the seed and the program's last steps.

mod feedback;
mod flight;
mod images;
mod ops;
mod places;
mod scenes;
mod shade;
mod shaders;
mod steps;
mod threads;
mod world;

use std::sync::Arc;

use lockstep_harness::{Gpu, Queries, loader};
use ops::{RESULTS, Tools};
use places::Offers;
use shaders::Shaders;
use world::World;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// Returns the seeds to run: `default` many if nothing is asked for.
fn seeds(default: u64) -> std::ops::Range<u64> {
    let first = number("LOCKSTEP_MODEL_FIRST_SEED", 1);
    first..first + number("LOCKSTEP_MODEL_SEEDS", default)
}

/// Makes a device and what commands are recorded with.
fn tools() -> Arc<Tools> {
    let gpu = Gpu::builder().everything().build();
    let results = Queries::occlusion(&gpu, RESULTS);
    gpu.run(|r| {
        r.reset(&results);
        (0..RESULTS).for_each(|query| r.query_nothing(&results, query));
    });
    let offers = Offers {
        updates_late: gpu.updates_late(),
        pushes: gpu.advertises(ash::khr::push_descriptor::NAME),
        feedback: gpu.advertises(ash::ext::transform_feedback::NAME),
        available: u8::try_from(results.availability(0)).expect("a small number"),
    };
    let shaders = Shaders::new(&gpu);
    let feedback = offers.feedback.then(|| feedback::Pipeline::new(&gpu));
    Arc::new(Tools { gpu, shaders, feedback, results, offers })
}

#[test]
fn random_programs_see_exactly_the_bytes_the_reference_sees() {
    for seed in seeds(150) {
        println!("LOCKSTEP_MODEL_FIRST_SEED={seed} LOCKSTEP_MODEL_SEEDS=1");
        loader::restart_hang_limit();
        let mut world = World::new(seed, &tools());
        for _ in 0..150 {
            world.step();
        }
        world.finish();
    }
}
