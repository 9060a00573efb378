//! The real deqp-vk, where the environment variable DEQP names one.

use std::path::Path;
use std::process::Command;

use crate::bench::RUNNER;

#[test]
fn memory_cases_of_the_real_cts_pass_natively_and_on_lockstep() {
    let Some(deqp) = std::env::var_os("DEQP") else { return };
    let output = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(RUNNER);
    command.arg("memory").arg("--deqp").arg(deqp).arg("--output").arg(output.path());
    command.args(["--filter", r"memory\.mapping\.suballocation\.full\.\d+\.(simple|flush|remap)$"]);
    if let Some(icd) = std::env::var_os("LOCKSTEP_TEST_ICD") {
        command.arg("--icd").arg(icd);
    }

    let status = command.status().expect("starting the runner");

    assert!(status.success(), "{status}");
    let results = std::fs::read_to_string(output.path().join("lockstep/results.csv")).expect("results");
    assert!(results.lines().any(|line| line.contains(",Pass,")), "{results}");
    assert!(Path::new(&output.path().join("report.html")).exists());
}
