//! JUnit XML: a suite for each of Lockstep's sides, in which what is worse than native, or than the baseline,
//! fails.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use deqp_runner::RunnerStatus;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::Finished;
use crate::run::{CaseResult, is_good};
use crate::verdict::{Difference, Kind, word};

/// Returns the report.
pub(super) fn render(finished: &Finished<'_>) -> Result<String> {
    let plan = &finished.journal.plan;
    let mut report = Report::new(format!("{} of {}", plan.preset, plan.release));
    for (number, side) in plan.sides.iter().enumerate().skip(1) {
        let mut suite = TestSuite::new(side.name.as_str());
        let differences = finished.verdict.differences.iter().filter(|difference| difference.side == number);
        let differences: HashMap<_, _> =
            differences.map(|difference| (difference.case.as_str(), difference)).collect();
        let regressions = finished.regressions.iter().filter(|(side, _)| *side == number);
        let regressions: HashMap<_, _> = regressions.map(|(_, case)| (case.name.as_str(), ())).collect();
        for case in finished.journal.results(number) {
            let regressed = regressions.contains_key(case.name.as_str());
            let status = status(case, differences.get(case.name.as_str()).copied(), regressed);
            let mut entry = TestCase::new(case.name.as_str(), status);
            entry.set_time(Duration::try_from_secs_f32(case.seconds).unwrap_or_default());
            suite.add_test_case(entry);
        }
        report.add_test_suite(suite);
    }
    report.to_string().context("writing JUnit XML")
}

fn status(case: &CaseResult, difference: Option<&Difference>, regressed: bool) -> TestCaseStatus {
    let what = word(case.status);
    let failure = |message: String| {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status.set_type(what.clone()).set_message(message);
        status
    };
    match difference {
        Some(difference) if difference.kind == Kind::Worse => {
            let native = word(difference.native.status);
            failure(format!("native {native}, here {what}: {}; {}", case.message, difference.alone()))
        }
        _ if regressed => failure(format!("{what}, worse than the baseline: {}", case.message)),
        _ if case.status == RunnerStatus::Skip => TestCaseStatus::skipped(),
        _ if is_good(case.status) => TestCaseStatus::success(),
        _ => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(format!("{what}, as natively or by a native flake: {}", case.message));
            status
        }
    }
}
