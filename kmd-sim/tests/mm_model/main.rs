//! The memory management and the dirty helpers against a flat model: random sequences of what processes, the
//! driver and the kernel do to one object, and after each step the guarantees of the helpers.
//!
//! `PROPTEST_CASES` says how many sequences; by default ten thousand.

#[path = "../vectors/common.rs"]
mod common;
mod model;
mod ops;
mod run;

use kmd_sim::upstream::{Profile, Upstream};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

fn config() -> Config {
    let asked = Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { 10_000 };
    Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..asked }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_store_is_lost_and_no_page_is_writable_unannounced(
        profile in prop::sample::select(&Profile::ALL),
        ops in prop::collection::vec(ops::op(), 1..60),
    ) {
        run::sequence(Upstream::fixed(profile), &ops)?;
    }
}

/// The model is able to find a defect: with Q-01 a store is lost.
#[test]
fn the_model_finds_q_01() {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(5_000) });
    let found = runner.run(&prop::collection::vec(ops::op(), 1..60), |ops| {
        run::sequence(Upstream::with_quirk("Q-01"), &ops)
    });
    assert!(matches!(found, Err(TestError::Fail(..))), "{found:?}");
}
