//! Impossible runs: one line and status 2.

use std::process::Command;

use crate::bench::{Bench, Finished, RUNNER};

fn finish(mut command: Command) -> Finished {
    Finished::new(&command.output().expect("starting the runner"))
}

#[test]
fn without_deqp_it_says_how_to_get_one() {
    let bench = Bench::new(&["mapping.pass"]);

    let run = finish(bench.runner(&["memory"]));

    run.assert_refused("https://github.com/KhronosGroup/VK-GL-CTS");
}

#[test]
fn a_path_with_nothing_there() {
    let bench = Bench::new(&["mapping.pass"]);

    finish(bench.runner(&["memory", "--deqp", "/nowhere/deqp-vk"]))
        .assert_refused("no deqp-vk at /nowhere/deqp-vk");
}

#[test]
fn a_binary_that_is_no_deqp() {
    let bench = Bench::new(&["mapping.pass"]);

    bench.run(&["--deqp", "/bin/true"]).assert_refused("/true is no deqp-vk");
}

#[test]
fn a_caselist_that_is_not_there() {
    let bench = Bench::new(&["mapping.pass"]);

    bench.run(&["--caselist", "nowhere.txt"]).assert_refused("reading the case list nowhere.txt");
}

#[test]
fn a_caselist_that_is_none() {
    let bench = Bench::new(&["mapping.pass"]);

    bench.run(&["--caselist", RUNNER]).assert_refused("reading the case list");
}

#[test]
fn a_filter_that_nothing_matches() {
    let bench = Bench::new(&["mapping.pass"]);

    bench.run(&["--filter", "nothing"]).assert_refused("no cases to run");
}

#[test]
fn a_filter_that_is_no_expression() {
    let bench = Bench::new(&["mapping.pass"]);

    bench.run(&["--filter", "("]).assert_refused("invalid value '(' for '--filter <FILTER>'");
}

#[test]
fn a_case_that_is_not_named() {
    let bench = Bench::new(&["mapping.pass"]);

    finish(bench.runner(&["bisect-case"])).assert_refused("<CASE>");
}

#[test]
fn a_driver_that_is_not_built() {
    let bench = Bench::new(&["mapping.pass"]);
    bench.write("lockstep.json", r#"{"ICD": {"library_path": "unbuilt.so"}}"#);

    bench.run(&[]).assert_refused("unbuilt.so, which is not there");
}

#[test]
fn a_manifest_that_is_none() {
    let bench = Bench::new(&["mapping.pass"]);
    bench.write("lockstep.json", "{}");

    bench.run(&[]).assert_refused("is no manifest of a Vulkan driver");
}

#[test]
fn an_unknown_axis() {
    let bench = Bench::new(&["mapping.pass"]);

    bench.run(&["--matrix", "colour=red"]).assert_refused("there is no axis 'colour'");
}

#[test]
fn a_full_disk_costs_no_result() {
    let cases: Vec<_> = (0..100).map(|number| format!("mapping.pass_{number}")).collect();
    let bench = Bench::new(&cases.iter().map(String::as_str).collect::<Vec<_>>());

    // The shell's limit on the size of files stands for the disk: the journal reaches it between the pieces.
    bench.run_with_little_space(32, &["--group-size", "10"]).assert_refused("writing the journal");
    let run = bench.run(&["--group-size", "10"]);

    assert_eq!(run.status, 0, "{}", run.stderr);
    assert!(run.stderr.starts_with("going on with an earlier run"), "{}", run.stderr);
    assert_eq!(bench.results("lockstep").len(), 100);
}
