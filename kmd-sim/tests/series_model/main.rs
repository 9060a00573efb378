//! Coherence as a property: whatever happens in whatever order, nobody sees anything but one flat memory.
//!
//! With all quirks off it holds for every kernel; with one of those that lose bytes on, a byte is lost
//! within a bounded number of sequences. All sequences come from their number, so each run is the same.

mod ops;
mod steps;
mod world;

use kmd_sim::upstream::{Profile, Upstream};

use self::ops::{Op, Random};
use self::world::{Failure, Mms, Outcome, Shape, World, has_huge};

/// Sequences for all kernels together.
const SEQUENCES: u64 = 10_000;
/// Sequences within which a lost byte must show.
const SEARCH: u64 = 5_000;

/// What a sequence runs on.
fn shape(seed: u64, profile: Profile) -> Shape {
    Shape {
        large: seed % 4 == 1,
        huge: seed % 8 == 1 && has_huge(profile),
        overlap: seed % 4 == 2,
        crowded: seed % 8 == 3,
    }
}

/// Runs a sequence. `sound`: checks after each step what must hold then.
fn run(upstream: Upstream, seed: u64, ops: &[Op], sound: bool) -> Outcome {
    let mms = Mms::default();
    let mut world = World::new(upstream, shape(seed, upstream.profile), &mms);
    for op in ops {
        world.step(*op)?;
        if sound {
            world.check_sound()?;
        }
    }
    Ok(())
}

/// A sequence that fails, without the steps that it fails without, too.
fn shrink(upstream: Upstream, seed: u64, mut ops: Vec<Op>, sound: bool) -> (Vec<Op>, Failure) {
    let mut failure = run(upstream, seed, &ops, sound).expect_err("a sequence that fails");
    let mut at = 0;
    while at < ops.len() {
        let mut fewer = ops.clone();
        fewer.remove(at);
        match run(upstream, seed, &fewer, sound) {
            Err(less) => (ops, failure) = (fewer, less),
            Ok(()) => at += 1,
        }
    }
    (ops, failure)
}

fn holds_for(profile: Profile) {
    let upstream = Upstream::fixed(profile);
    for seed in 0..SEQUENCES / Profile::ALL.len() as u64 {
        let ops = Random::new(seed).ops();
        if run(upstream, seed, &ops, true).is_err() {
            let (ops, failure) = shrink(upstream, seed, ops, true);
            panic!("sequence {seed} of {profile:?}: {failure:?} after {ops:#?}");
        }
    }
}

/// The first sequence that loses a byte with a quirk.
fn loses_a_byte(id: &str) {
    let upstream = Upstream::with_quirk(id);
    let found = (0..SEARCH)
        .find(|seed| matches!(run(upstream, *seed, &Random::new(*seed).ops(), false), Err(Failure::Byte(_))));
    let seed = found.expect("a byte that is lost");
    // It is the quirk, and nothing else.
    assert_eq!(run(Upstream::default(), seed, &Random::new(seed).ops(), false), Ok(()));
}

#[test]
fn memory_is_flat_for_the_fifth_posting() {
    holds_for(Profile::V5Mail);
}

#[test]
fn memory_is_flat_for_linux_5_5() {
    holds_for(Profile::V5_5);
}

#[test]
fn memory_is_flat_for_linux_6_12() {
    holds_for(Profile::V6_12);
}

#[test]
fn memory_is_flat_for_the_newest_kernel() {
    holds_for(Profile::Latest);
}

#[test]
fn a_read_only_mapping_that_ends_the_walk_loses_a_byte() {
    loses_a_byte("Q-01");
}

#[test]
fn a_transfer_beyond_the_resource_loses_a_byte() {
    loses_a_byte("Q-03");
}

#[test]
fn a_zap_loses_a_byte() {
    loses_a_byte("Q-05");
}

#[test]
fn a_lookup_that_misses_overlaps_loses_a_byte() {
    loses_a_byte("Q-08");
}

#[test]
fn a_union_of_boxes_that_shrinks_loses_a_byte() {
    loses_a_byte("Q-09");
}

#[test]
fn a_change_of_method_that_marks_all_loses_a_byte() {
    loses_a_byte("Q-10");
}

#[test]
fn a_backoff_that_gives_back_too_much_loses_a_byte() {
    loses_a_byte("Q-12");
}

#[test]
fn an_eviction_that_nobody_waits_for_loses_a_byte() {
    loses_a_byte("Q-14");
}

#[test]
fn an_entry_made_writable_without_the_reservation_loses_a_byte() {
    loses_a_byte("Q-16");
}

#[test]
fn a_switch_that_leaves_pages_mapped_loses_a_byte() {
    loses_a_byte("Q-17");
}

#[test]
fn a_late_write_fault_loses_a_byte() {
    loses_a_byte("R-08");
}
