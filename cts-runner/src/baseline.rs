//! Baselines: what did not pass when the CTS was last run in earnest, for each version of the host's driver
//! and of the CTS.
//!
//! A file a side, in the format of `deqp_runner`'s `failures.csv`. Cases whose native result changed when
//! they were run again are noted as `Flake`: nothing that happens to them later is held against Lockstep.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use deqp_runner::{RunnerResults, RunnerStatus};

use crate::journal::{Journal, Plan};
use crate::run::{CaseResult, is_good};
use crate::verdict::{Difference, Kind, Verdict};

/// The baselines that apply to a plan.
#[derive(Clone, Default)]
pub struct Baseline {
    /// By side; none where nobody has made one.
    sides: Vec<Option<RunnerResults>>,
}

impl std::fmt::Debug for Baseline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = self.sides.iter().map(|side| side.as_ref().map(|results| &results.result_counts));
        f.debug_list().entries(counts).finish()
    }
}

impl Baseline {
    /// Reads what there is for `plan` under `root`.
    pub fn read(root: Option<&Path>, plan: &Plan) -> Result<Self> {
        let Some(root) = root else { return Ok(Self::default()) };
        let sides = plan.sides.iter().map(|side| {
            let path = file(root, plan, &side.file_name());
            if !path.exists() {
                return Ok(None);
            }
            let read = File::open(&path)
                .context("opening it")
                .and_then(|mut file| RunnerResults::from_csv(&mut file));
            read.map(Some).with_context(|| format!("reading the baseline {}", path.display()))
        });
        Ok(Self { sides: sides.collect::<Result<_>>()? })
    }

    fn get(&self, side: usize, case: &str) -> Option<RunnerStatus> {
        self.sides.get(side)?.as_ref()?.get(case).map(|result| result.status)
    }

    /// Returns the cases that are known to flake natively.
    pub fn flakes(&self) -> HashSet<String> {
        let native = self.sides.first().and_then(Option::as_ref);
        let all = native.iter().flat_map(|results| results.sorted_results());
        all.filter(|result| result.status == RunnerStatus::Flake).map(|result| result.test.clone()).collect()
    }

    /// Returns the results on Lockstep's sides that are worse than the baseline, with their side.
    pub fn regressions<'a>(&self, journal: &'a Journal, verdict: &Verdict) -> Vec<(usize, &'a CaseResult)> {
        let flakes = self.flakes();
        let excused: HashSet<_> = verdict.of_kind(Kind::Flaky).map(|flaky| flaky.case.as_str()).collect();
        let mut found = Vec::new();
        for ((_, side), results) in journal.pieces.iter().filter(|((_, side), _)| *side > 0) {
            if self.sides.get(*side).is_none_or(Option::is_none) {
                continue;
            }
            let regressed = |case: &&CaseResult| {
                let excused = flakes.contains(&case.name) || excused.contains(case.name.as_str());
                !excused && is_regression(case.status, self.get(*side, &case.name))
            };
            found.extend(results.cases.iter().filter(regressed).map(|case| (*side, case)));
        }
        found
    }
}

fn is_regression(status: RunnerStatus, baseline: Option<RunnerStatus>) -> bool {
    match status {
        // The library has no rule for a case that the binary does not know.
        RunnerStatus::Missing => baseline != Some(RunnerStatus::Missing),
        status if is_good(status) => false,
        status => status.with_baseline(baseline).is_regression(),
    }
}

fn file(root: &Path, plan: &Plan, side: &str) -> PathBuf {
    root.join(slug(&plan.host)).join(slug(&plan.release)).join(format!("{}.{side}.csv", plan.preset))
}

fn slug(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}

/// Makes a finished run the baseline. Returns the files written.
pub fn write(root: Option<&Path>, journal: &Journal, verdict: &Verdict) -> Result<Vec<PathBuf>> {
    let Some(root) = root else {
        bail!("no checkout around here to write the baseline to; give --baselines DIRECTORY")
    };
    let varied: HashSet<_> =
        verdict.differences.iter().filter(|d| varies(d)).map(|d| d.case.as_str()).collect();
    let mut written = Vec::new();
    for (side, name) in journal.plan.sides.iter().enumerate() {
        let counts = &verdict.total.counts[side];
        let mut text = format!(
            "# {} on {}, {}: {} cases, {counts}\n",
            journal.plan.preset, journal.plan.host, name.name, counts.total
        );
        text.push_str(&format!(
            "# {}; written by cts-runner --write-baseline from a run\n",
            journal.plan.release
        ));
        let mut cases: Vec<_> = journal.results(side).filter(|case| !is_good(case.status)).collect();
        let flakes: Vec<_> =
            journal.results(side).filter(|case| varied.contains(case.name.as_str())).collect();
        cases.retain(|case| !varied.contains(case.name.as_str()));
        let mut lines: Vec<_> = cases.iter().map(|case| format!("{},{}\n", case.name, case.status)).collect();
        lines.extend(flakes.iter().map(|case| format!("{},{}\n", case.name, RunnerStatus::Flake)));
        lines.sort();
        text.extend(lines);
        let path = file(root, &journal.plan, &name.file_name());
        let directory = path.parent().unwrap_or(root);
        fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        written.push(path);
    }
    Ok(written)
}

fn varies(difference: &Difference) -> bool {
    difference.native_alone.iter().any(|status| *status != difference.native.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_become_names_of_directories() {
        assert_eq!(slug("llvmpipe Mesa 22.3.6 (LLVM 15.0.6)"), "llvmpipe-Mesa-22.3.6-LLVM-15.0.6");
    }

    #[test]
    fn what_the_baseline_knows_is_no_regression() {
        assert!(!is_regression(RunnerStatus::Fail, Some(RunnerStatus::Fail)));
        assert!(is_regression(RunnerStatus::Crash, Some(RunnerStatus::Fail)));
        assert!(is_regression(RunnerStatus::Missing, None));
    }
}
