//! Runs that are stopped, killed and taken up again.

use std::io::Read;

use rustix::process::{Pid, Signal, kill_process};

use crate::bench::{Bench, Finished};

const CASES: [&str; 6] =
    ["alpha.pass", "beta.lockstep_fail", "gamma.crash", "mapping.gate", "omega.pass", "omega.lockstep_crash"];

/// Returns the results of both sides of a run that nobody disturbed.
fn undisturbed() -> [Vec<String>; 2] {
    let bench = Bench::new(&CASES);
    assert_eq!(bench.run(&["--jobs", "1"]).status, 1);
    [bench.results("native"), bench.results("lockstep")]
}

#[test]
fn a_killed_run_goes_on_and_ends_with_the_same_results() {
    let bench = Bench::new(&CASES);
    let (mut runner, mut pipe) = bench.start_to_gate(&["--jobs", "1"]);

    runner.kill().expect("killing the runner");
    runner.wait().expect("reaping the runner");
    // The case holds the other end of the pipe for as long as it lives: this returns because it died too.
    pipe.read_to_end(&mut Vec::new()).expect("reading to the end");
    let run = bench.run(&["--jobs", "1"]);

    assert_eq!(run.status, 1, "{}", run.stderr);
    assert!(run.stderr.contains("going on with an earlier run: 6 of 12 results are there"), "{}", run.stderr);
    assert_eq!([bench.results("native"), bench.results("lockstep")], undisturbed());
}

#[test]
fn a_stopped_run_says_so_and_goes_on() {
    // It keeps signals back until an interceptor runs, and none does while the runner waits in system calls
    // of its own.
    if std::env::var_os("TSAN_OPTIONS").is_some() {
        println!("skipped: ThreadSanitizer keeps the signal back");
        return;
    }
    let bench = Bench::new(&CASES);
    let (runner, mut pipe) = bench.start_to_gate(&["--jobs", "1"]);

    kill_process(Pid::from_child(&runner), Signal::INT).expect("interrupting the runner");
    let stopped = Finished::new(&runner.wait_with_output().expect("waiting for the runner"));
    pipe.read_to_end(&mut Vec::new()).expect("reading to the end");
    let run = bench.run(&["--jobs", "1"]);

    assert_eq!(stopped.status, 130);
    assert!(stopped.stderr.contains("stopped; the same command goes on from here"), "{}", stopped.stderr);
    assert_eq!(run.status, 1);
    assert_eq!([bench.results("native"), bench.results("lockstep")], undisturbed());
}

#[test]
fn a_journal_cut_anywhere_ends_with_the_same_results() {
    let bench = Bench::new(&CASES);
    bench.run(&["--jobs", "1"]);
    let whole = bench.read("out/journal.jsonl");
    bench.write("out/journal.jsonl", &whole[..whole.len() / 2]);

    let run = bench.run(&["--jobs", "1"]);

    assert_eq!(run.status, 1, "{}", run.stderr);
    assert_eq!([bench.results("native"), bench.results("lockstep")], undisturbed());
}

#[test]
fn a_finished_run_is_not_run_again() {
    let bench = Bench::new(&["mapping.flake"]);
    let first = bench.run(&[]);

    let second = bench.run(&[]);

    assert_eq!(first.stdout, second.stdout);
}

#[test]
fn an_earlier_run_of_other_cases_is_set_aside() {
    let bench = Bench::new(&["mapping.pass", "mapping.fail"]);
    bench.run(&[]);

    let run = bench.run(&["--filter", "pass"]);

    assert!(run.stderr.contains("out.1"), "{}", run.stderr);
    assert!(bench.path("out.1/journal.jsonl").exists());
    assert_eq!(bench.results("native"), ["mapping.pass: Pass"]);
}

#[test]
fn two_runners_do_not_share_a_directory() {
    let bench = Bench::new(&CASES);
    let (mut runner, _pipe) = bench.start_to_gate(&["--jobs", "1"]);

    bench.run(&["--jobs", "1"]).assert_refused("another cts-runner is at work");

    runner.kill().expect("killing the runner");
    runner.wait().expect("reaping the runner");
}
