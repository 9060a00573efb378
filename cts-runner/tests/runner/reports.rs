//! Files that a run leaves, and baselines.

use crate::bench::Bench;

#[test]
fn results_have_the_format_of_deqp_runner() {
    let bench = Bench::new(&["mapping.pass", "mapping.lockstep_crash"]);

    bench.run(&[]);

    let text = bench.read("out/lockstep/results.csv");
    let first: Vec<_> = text.lines().next().expect("a line").split(',').collect();
    assert_eq!(first[..2], ["dEQP-VK.memory.mapping.lockstep_crash", "Crash"]);
    first[2].parse::<f32>().expect("seconds");
}

#[test]
fn junit_fails_for_what_is_ours_only() {
    let bench = Bench::new(&["mapping.pass", "mapping.fail", "mapping.lockstep_fail"]);

    bench.run(&[]);

    let text = bench.read("out/junit.xml");
    assert!(text.contains(r#"tests="3""#) && text.contains(r#"failures="1""#), "{text}");
}

#[test]
fn the_page_is_whole_in_itself_and_escapes_what_cases_say() {
    let bench = Bench::new(&["mapping.lockstep_fail", "mapping.garbage", "mapping.pass"]);

    bench.run(&[]);

    let page = bench.read("out/report.html");
    assert!(page.contains("dEQP-VK.memory.mapping.lockstep_fail") && page.contains("<svg"));
    assert!(page.contains("the mock was told: fail"), "the details of the failure");
    assert!(
        !page.contains("src=") && !page.contains("href=") && !page.contains("@import"),
        "nothing is fetched"
    );
}

#[test]
fn a_baseline_knows_what_failed_and_catches_what_did_not() {
    let bench = Bench::new(&["mapping.fail", "mapping.pass"]);

    let written = bench.run(&["--write-baseline"]);
    let again = bench.run(&[]);
    bench.write("baselines/mock-1/mock-1.0/memory.lockstep.csv", "# nothing ever failed\n");
    let regressed = bench.run(&[]);

    assert_eq!(written.status, 0, "{}", written.stderr);
    assert_eq!(again.status, 0, "{}", again.stdout);
    assert_eq!(regressed.status, 1);
    let expected = "worse than the baseline: dEQP-VK.memory.mapping.fail: lockstep Fail";
    assert!(regressed.stdout.contains(expected), "{}", regressed.stdout);
}

#[test]
fn a_baseline_remembers_native_flakes() {
    let bench = Bench::new(&["mapping.excused"]);

    bench.run(&["--write-baseline"]);
    let run = bench.run(&["--fresh", "--reruns", "0"]);

    assert!(bench.read("baselines/mock-1/mock-1.0/memory.native.csv").contains("mapping.excused,Flake"));
    assert_eq!(run.status, 0, "{}", run.stdout);
}
