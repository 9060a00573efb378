//! The reports of a run: `results.csv` for each side, `junit.xml`, `report.html`, and the table as
//! `table.md`.

mod chart;
mod html;
mod junit;

use std::path::Path;

use anyhow::{Context, Result};
use deqp_runner::{RunnerResult, RunnerResults};

use crate::compare::RESULTS;
use crate::journal::Journal;
use crate::output::Output;
use crate::run::CaseResult;
use crate::table;
use crate::verdict::Verdict;

/// A finished run, as all reports see it.
#[derive(Debug)]
pub struct Finished<'a> {
    /// All that was noted.
    pub journal: &'a Journal,
    /// What it means.
    pub verdict: &'a Verdict,
    /// Results that are worse than the baseline, with their side.
    pub regressions: &'a [(usize, &'a CaseResult)],
}

/// Writes all reports.
pub fn write(finished: &Finished<'_>, output: &Output) -> Result<()> {
    for (side, name) in finished.journal.plan.sides.iter().enumerate() {
        let path = Path::new(&name.file_name()).join(RESULTS);
        output.write(&path.to_string_lossy(), &csv(finished.journal, side)?)?;
    }
    output.write("table.md", &table::text(finished.verdict))?;
    output.write("junit.xml", &junit::render(finished)?)?;
    output.write("report.html", &html::render(finished, output)?)
}

fn csv(journal: &Journal, side: usize) -> Result<String> {
    let mut results = RunnerResults::new();
    for case in journal.results(side) {
        let (test, status) = (case.name.clone(), case.status);
        results.record_result(RunnerResult { test, status, duration: case.seconds, subtest: false });
    }
    let mut text = Vec::new();
    results.write_results(&mut text).context("writing results as CSV")?;
    String::from_utf8(text).context("a case's name is no text")
}
