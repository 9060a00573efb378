//! `compare`, `rerun-failures`, `bisect-case`.

use crate::bench::{Bench, Finished, name};

fn tool(bench: &Bench, args: &[&str]) -> Finished {
    Finished::new(&bench.runner(args).output().expect("starting the runner"))
}

#[test]
fn compare_tells_what_became_worse() {
    let bench = Bench::new(&[]);
    bench.write("a.csv", "dEQP-VK.a.b.c,Pass,1\ndEQP-VK.a.b.d,Fail,1\n");
    bench.write("b.csv", "dEQP-VK.a.b.c,Crash,1\ndEQP-VK.a.b.d,Fail,1\n");

    let worse = tool(&bench, &["compare", "a.csv", "b.csv"]);
    let better = tool(&bench, &["compare", "b.csv", "a.csv"]);

    assert_eq!((worse.status, better.status), (1, 0));
    assert!(worse.stdout.starts_with("worse: dEQP-VK.a.b.c: a.csv Pass, b.csv Crash"), "{}", worse.stdout);
}

#[test]
fn compare_takes_output_directories() {
    let bench = Bench::new(&["mapping.pass", "mapping.lockstep_fail"]);
    bench.run(&[]);

    let run = tool(&bench, &["compare", "out", "out"]);

    assert_eq!(run.status, 0, "{}", run.stderr);
    assert!(run.stdout.contains("lockstep:") && run.stdout.contains("native:"), "{}", run.stdout);
}

#[test]
fn bisect_finds_who_poisons_a_case() {
    let others: Vec<_> = (0..12).map(|number| format!("mapping.pass_{number}")).collect();
    let mut cases: Vec<_> = others.iter().map(String::as_str).collect();
    cases.extend(["mapping.poison", "mapping.victim"]);
    let bench = Bench::new(&cases);
    bench.run(&[]);

    let run = tool(&bench, &["bisect-case", &name("mapping.victim"), "out"]);

    assert_eq!(run.status, 0, "{}", run.stderr);
    assert_eq!(run.stdout, format!("{} fails behind\n{}\n", name("mapping.victim"), name("mapping.poison")));
}

#[test]
fn bisect_tells_when_a_case_fails_alone() {
    let bench = Bench::new(&["mapping.pass", "mapping.lockstep_crash"]);
    bench.run(&[]);

    let run = tool(&bench, &["bisect-case", &name("mapping.lockstep_crash"), "out"]);

    assert_eq!(run.stdout, format!("{} fails alone\n", name("mapping.lockstep_crash")));
}

#[test]
fn rerun_failures_runs_what_was_worse() {
    let bench = Bench::new(&["mapping.pass", "mapping.lockstep_fail"]);
    bench.run(&[]);

    let run = tool(&bench, &["rerun-failures", "out", "--times", "2"]);

    assert_eq!(run.status, 1);
    let line = format!("{}: native Pass, lockstep Fail", name("mapping.lockstep_fail"));
    assert_eq!(run.stderr.lines().filter(|told| **told == line).count(), 2, "{}", run.stderr);
}

#[test]
fn a_directory_without_a_run_is_refused() {
    let bench = Bench::new(&[]);

    tool(&bench, &["rerun-failures", "state"]).assert_refused("no run in state");
}
