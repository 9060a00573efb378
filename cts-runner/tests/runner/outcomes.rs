//! What each way to end is called, and what it does to the cases around it.

use crate::bench::{Bench, has_file};

#[test]
fn a_green_run_succeeds() {
    let bench = Bench::new(&["mapping.pass", "mapping.skip", "binding.warn"]);

    let run = bench.run(&[]);

    assert_eq!(run.status, 0, "{}", run.stderr);
    assert_eq!(bench.results("native"), ["binding.warn: Warn", "mapping.pass: Pass", "mapping.skip: Skip"]);
    assert_eq!(bench.results("lockstep"), bench.results("native"));
}

#[test]
fn a_failure_of_ours_is_told_first_and_in_the_exit_status() {
    let bench = Bench::new(&["mapping.pass", "mapping.lockstep_fail"]);

    let run = bench.run(&[]);

    assert_eq!(run.status, 1);
    let first = run.stdout.lines().next().expect("a line");
    let expected = "worse: dEQP-VK.memory.mapping.lockstep_fail: native Pass, lockstep Fail; wrong byte; \
                    alone: native 2x Pass, here 2x Fail";
    assert_eq!(first, expected);
}

#[test]
fn not_supported_where_native_passes_is_worse() {
    let bench = Bench::new(&["mapping.lockstep_skip"]);

    assert_eq!(bench.run(&[]).status, 1);
}

#[test]
fn what_fails_natively_is_not_held_against_us() {
    let bench = Bench::new(&["mapping.fail", "mapping.native_crash", "mapping.native_skip"]);

    let run = bench.run(&[]);

    assert_eq!(run.status, 0, "{}", run.stdout);
    assert!(
        run.stdout.contains("different: dEQP-VK.memory.mapping.native_crash: native Crash, lockstep Pass")
    );
    assert!(run.stdout.contains("better: 1 results are better than native"));
}

#[test]
fn a_crash_is_blamed_on_its_case_alone() {
    let bench = Bench::new(&[
        "mapping.pass_1",
        "mapping.lockstep_abort",
        "mapping.lockstep_killed",
        "mapping.pass_2",
    ]);

    let run = bench.run(&[]);

    assert_eq!(run.status, 1);
    let expected = [
        "mapping.lockstep_abort: Crash",
        "mapping.lockstep_killed: Crash",
        "mapping.pass_1: Pass",
        "mapping.pass_2: Pass",
    ];
    assert_eq!(bench.results("lockstep"), expected);
    assert!(run.stdout.contains("killed by signal 9 (SIGKILL)"), "{}", run.stdout);
}

#[test]
fn a_crash_behind_the_last_case_is_not_lost() {
    let bench = Bench::new(&["mapping.lockstep_teardown"]);

    let run = bench.run(&[]);

    assert_eq!(run.status, 1);
    assert!(run.stdout.contains("after the case had ended with Pass"), "{}", run.stdout);
}

#[test]
fn a_hang_costs_its_case_only_and_leaves_no_process() {
    let bench = Bench::new(&["mapping.lockstep_litter", "mapping.pass"]);

    let run = bench.run(&["--timeout", "5", "--reruns", "0"]);

    // The runner's output is read to its end here: a `sleep` that was left would keep it open.
    assert_eq!(run.status, 1);
    assert_eq!(bench.results("lockstep"), ["mapping.lockstep_litter: Timeout", "mapping.pass: Pass"]);
}

#[test]
fn garbage_floods_and_endless_lines_change_nothing() {
    let bench = Bench::new(&["mapping.garbage", "mapping.huge", "mapping.endless", "mapping.pass"]);

    let run = bench.run(&[]);

    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    let all = ["mapping.endless: Pass", "mapping.garbage: Pass", "mapping.huge: Pass", "mapping.pass: Pass"];
    assert_eq!(bench.results("lockstep"), all);
}

#[test]
fn an_unknown_status_is_a_failure_of_its_case() {
    let bench = Bench::new(&["mapping.lockstep_unknown", "mapping.pass"]);

    let run = bench.run(&[]);

    assert_eq!(bench.results("lockstep"), ["mapping.lockstep_unknown: Fail", "mapping.pass: Pass"]);
    assert!(run.stdout.contains("unknown status 'Marvellous'"), "{}", run.stdout);
}

#[test]
fn a_silent_end_is_a_crash() {
    let bench = Bench::new(&["mapping.lockstep_exits", "mapping.pass"]);

    bench.run(&[]);

    assert_eq!(bench.results("lockstep"), ["mapping.lockstep_exits: Crash", "mapping.pass: Pass"]);
}

#[test]
fn cases_the_binary_does_not_know_are_missing() {
    let bench = Bench::new(&["mapping.missing", "mapping.pass"]);

    let run = bench.run(&[]);

    assert_eq!(run.status, 0);
    assert_eq!(bench.results("native"), ["mapping.missing: Missing", "mapping.pass: Pass"]);
}

#[test]
fn a_case_that_flakes_natively_too_is_a_flake() {
    let bench = Bench::new(&["mapping.excused"]);

    let run = bench.run(&[]);

    assert_eq!(run.status, 0, "{}", run.stdout);
    assert!(run.stdout.starts_with("flaky natively: dEQP-VK.memory.mapping.excused"), "{}", run.stdout);
}

#[test]
fn a_case_that_flakes_only_here_is_ours() {
    let bench = Bench::new(&["mapping.lockstep_flake"]);

    let run = bench.run(&["--jobs", "1"]);

    assert_eq!(run.status, 1, "{}", run.stdout);
    assert!(run.stdout.contains("alone: native 2x Pass, here 1x Pass + 1x Fail"), "{}", run.stdout);
}

#[test]
fn a_differing_case_leaves_its_log_its_details_and_a_trace() {
    let bench = Bench::new(&["mapping.lockstep_environment"]);

    bench.run(&[]);

    let logs = bench.path("out/logs/lockstep");
    assert!(has_file(&logs, "lockstep_environment.log") && has_file(&logs, "lockstep_environment.qpa"));
    let trace = bench.read("out/logs/lockstep/dEQP-VK.memory.mapping.lockstep_environment.trace.log");
    assert!(trace.contains("LOCKSTEP_LOG=trace") && trace.contains("LOCKSTEP_STATS="), "{trace}");
}

#[test]
fn a_matrix_runs_every_combination() {
    let bench = Bench::new(&["mapping.lockstep_environment"]);

    bench.run(&["--matrix", "profile=paravirtual,unified", "tracker=uffd"]);

    let side = "profile-unified-tracker-uffd";
    assert_eq!(bench.results(side), ["mapping.lockstep_environment: Fail"]);
    let log = bench.read(&format!("out/logs/{side}/dEQP-VK.memory.mapping.lockstep_environment.log"));
    assert!(log.contains("LOCKSTEP_PROFILE=unified") && log.contains("LOCKSTEP_TRACKER=uffd"), "{log}");
}
