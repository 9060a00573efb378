//! `compare`: two sets of results, from `results.csv` files or output directories.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use deqp_runner::RunnerStatus;

use crate::run::CaseResult;
use crate::verdict::Verdict;

/// The name of the file with a side's results.
pub const RESULTS: &str = "results.csv";

/// Compares what lies at two paths, side by side where they have several. The names tell what a verdict is
/// about.
pub fn compare(a: &Path, b: &Path) -> Result<Vec<(String, Verdict)>> {
    let (a, b) = (find(a)?, find(b)?);
    let common: Vec<_> = match (a.len(), b.len()) {
        (1, 1) => a.values().zip(b.values()).map(|(a, b)| (String::new(), a, b)).collect(),
        _ => a.iter().filter_map(|(name, a)| Some((name.clone(), a, b.get(name)?))).collect(),
    };
    if common.is_empty() {
        bail!("the two have no side in common");
    }
    common.into_iter().map(|(name, a, b)| Ok((name, verdict(a, b)?))).collect()
}

fn verdict(a: &Path, b: &Path) -> Result<Verdict> {
    let (first, second) = (read(a)?, read(b)?);
    let names = vec![a.display().to_string(), b.display().to_string()];
    Ok(Verdict::of_results(names, &[first, second]))
}

/// Returns the files of results at `path`, by side.
fn find(path: &Path) -> Result<BTreeMap<String, PathBuf>> {
    if path.is_file() {
        return Ok(BTreeMap::from([(String::new(), path.to_owned())]));
    }
    let entries = fs::read_dir(path).with_context(|| format!("reading {}", path.display()))?;
    let mut found = BTreeMap::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {}", path.display()))?;
        let results = entry.path().join(RESULTS);
        if entry.file_name() == RESULTS {
            found.insert(String::new(), entry.path());
        } else if results.is_file() {
            found.insert(entry.file_name().to_string_lossy().into_owned(), results);
        }
    }
    if found.is_empty() {
        bail!("no {RESULTS} in {}", path.display());
    }
    Ok(found)
}

/// Reads results in `deqp_runner`'s format: name, status, and often seconds.
pub fn read(path: &Path) -> Result<Vec<CaseResult>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let parsed = lines.map(|(at, line)| {
        parse(line).with_context(|| format!("{}, line {}: not name,status,seconds", path.display(), at + 1))
    });
    parsed.collect()
}

fn parse(line: &str) -> Result<CaseResult> {
    let mut fields = line.split(',');
    let name = fields.next().unwrap_or_default().to_owned();
    let status: RunnerStatus = fields.next().unwrap_or_default().parse()?;
    let seconds = fields.next().map(str::parse).transpose()?.unwrap_or(0.0);
    Ok(CaseResult { name, status, seconds, message: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_be_missing() {
        assert_eq!(parse("a.b,Pass").expect("a result").seconds, 0.0);
        assert_eq!(parse("a.b,Crash,1.5").expect("a result").seconds, 1.5);
    }

    #[test]
    fn an_unknown_status_is_an_error() {
        assert!(parse("a.b,Marvellous,1").is_err());
    }
}
