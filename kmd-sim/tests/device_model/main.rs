//! The live device against one flat memory: random legal programs of CPU and device, and after each step no
//! byte is anything but what was last written to it.
//!
//! All programs come from their number, so each run is the same. `SEQUENCES` says how many.

mod host;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use kmd_sim::uapi::{Readback, TrackerChoice, TrackerKind};

use self::world::{Random, World};

/// Programs run.
const SEQUENCES: u64 = 4_000;
/// Steps of each.
const STEPS: usize = 120;

/// The tracker the environment asks for, or each in turn.
fn tracker(seed: u64) -> TrackerChoice {
    let kind = match (std::env::var("LOCKSTEP_TRACKER").as_deref(), seed % 4) {
        (Ok("sigsegv"), _) | (Err(_), 1) => TrackerKind::Sigsegv,
        (Ok("compare"), _) | (Err(_), 3) => TrackerKind::Compare,
        _ => TrackerKind::Uffd,
    };
    TrackerChoice::Only(kind)
}

/// What the environment asks for, or each in turn, as far as the tracker can.
fn readback(seed: u64) -> Readback {
    let readback = match (std::env::var("LOCKSTEP_READBACK").as_deref(), seed / 2 % 4) {
        (Ok("eager"), _) | (Err(_), 0) => Readback::Eager,
        (Ok("lazy"), _) | (Err(_), 1) => Readback::Lazy,
        _ => Readback::Lots(seed),
    };
    readback.probe(tracker(seed)).map_or(Readback::Auto, |()| readback)
}

/// Runs a program. A step is a number that everything random in it comes from.
fn run(seed: u64, steps: &[u64], has_images: bool) -> Result<(), String> {
    let run = || {
        let mut world = World::new(tracker(seed), readback(seed), has_images);
        for step in steps {
            world.step(&mut Random(*step))?;
        }
        world.finish()
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("panicked".into()))
}

/// A program that fails, without the steps that it fails without, too.
fn shrink(seed: u64, mut steps: Vec<u64>, has_images: bool) -> String {
    let mut at = 0;
    while at < steps.len() {
        let mut fewer = steps.clone();
        fewer.remove(at);
        match run(seed, &fewer, has_images) {
            Err(_) => steps = fewer,
            Ok(()) => at += 1,
        }
    }
    let mut world = World::new(tracker(seed), readback(seed), has_images);
    world.log = Some(Vec::new());
    let again =
        || steps.iter().try_for_each(|step| world.step(&mut Random(*step))).and_then(|()| world.finish());
    let result = catch_unwind(AssertUnwindSafe(again)).unwrap_or_else(|_| Err("panicked".into()));
    format!("{result:?} after\n{}", world.log.unwrap_or_default().join("\n"))
}

#[test]
fn every_byte_is_what_was_last_written_to_it() {
    run_all(false);
}

#[test]
fn every_byte_is_what_was_last_written_to_it_where_the_cpu_does_not_see_host_memory() {
    run_all(true);
}

fn run_all(has_images: bool) {
    let sequences = std::env::var("SEQUENCES").map_or(SEQUENCES, |count| count.parse().expect("a number"));
    // Images take twice the time.
    for seed in 0..if has_images { sequences / 2 } else { sequences } {
        let mut random = Random(seed);
        let steps: Vec<u64> = (0..STEPS).map(|_| random.next()).collect();
        if run(seed, &steps, has_images).is_err() {
            panic!("program {seed}: {}", shrink(seed, steps, has_images));
        }
    }
}
