//! `bisect-case` and `rerun-failures`: a closer look at cases of an earlier run.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::caselist::pieces;
use crate::journal::{FILE, Journal};
use crate::output::Output;
use crate::progress::tell;
use crate::run::{Keep, Setup, is_good};
use crate::session::Outcome;
use crate::side::Side;
use crate::verdict::{Kind, Verdict, is_worse, word};

/// How often a set of cases that might make a case fail is tried.
const TRIES: usize = 3;

fn open(root: &Path) -> Result<(Output, Journal)> {
    let output = Output::existing(root)?;
    let journal =
        Journal::open(&output.file(FILE))?.with_context(|| format!("no run in {}", root.display()))?;
    Ok((output, journal))
}

/// Runs the cases that were worse than native again, each alone, and tells what came out.
pub fn rerun_failures(root: &Path, times: usize, stop: &AtomicBool) -> Result<Outcome> {
    let (output, journal) = open(root)?;
    let setup = setup(&journal, &output, stop);
    let mut outcome = Outcome::Good;
    let verdict = Verdict::new(&journal);
    for worse in verdict.of_kind(Kind::Worse) {
        for _ in 0..times {
            let mut statuses = Vec::new();
            for side in [0, worse.side] {
                let side = &journal.plan.sides[side];
                let case = std::slice::from_ref(&worse.case);
                let Some(results) = setup.run(side, case, &output.place(0), &Keep::Failures)? else {
                    return Ok(Outcome::Stopped);
                };
                statuses.extend(results.cases.iter().map(|case| case.status));
            }
            let [native, ours] = statuses[..] else { bail!("{} has no result", worse.case) };
            tell(&format!(
                "{}: native {}, {} {}",
                worse.case,
                word(native),
                verdict.sides[worse.side],
                word(ours)
            ));
            if is_worse(native, ours) {
                outcome = Outcome::Worse;
            }
        }
    }
    output.tidy()?;
    Ok(outcome)
}

/// Finds the smallest set of cases that makes `case` fail, and returns it; nothing if the user stopped it.
pub fn bisect(case: &str, root: &Path, side: Option<&str>, stop: &AtomicBool) -> Result<Option<Vec<String>>> {
    let (output, journal) = open(root)?;
    let plan = &journal.plan;
    let company =
        pieces(&plan.cases, plan.piece).into_iter().find(|piece| piece.iter().any(|other| other == case));
    let Some(company) = company else { bail!("{case} is none of the cases in {}", root.display()) };
    let side = chosen(&journal, case, side)?;
    let others: Vec<_> = company.iter().filter(|other| *other != case).cloned().collect();
    let setup = setup(&journal, &output, stop);
    let fails = |before: &[String]| {
        tell(&format!("trying {case} behind {} others", before.len()));
        fails(&setup, side, case, before)
    };
    if fails(&[])? {
        return Ok(Some(Vec::new()));
    }
    if !fails(&others)? && !stop.load(Ordering::Relaxed) {
        bail!(
            "{case} passes on {} both alone and with the {} others it was run with",
            side.name,
            others.len()
        );
    }
    let set = minimise(others, fails)?;
    output.tidy()?;
    Ok((!stop.load(Ordering::Relaxed)).then_some(set))
}

fn chosen<'a>(journal: &'a Journal, case: &str, side: Option<&str>) -> Result<&'a Side> {
    let sides = &journal.plan.sides;
    if let Some(name) = side {
        let names = || sides.iter().map(|side| side.name.as_str()).collect::<Vec<_>>().join(", ");
        return sides
            .iter()
            .find(|side| side.name == name)
            .with_context(|| format!("the sides are {}", names()));
    }
    let bad =
        |side: &usize| journal.results(*side).any(|result| result.name == case && !is_good(result.status));
    let found = (0..sides.len()).rev().find(bad);
    found
        .map(|side| &sides[side])
        .with_context(|| format!("{case} failed on no side; choose one with --side"))
}

fn setup<'a>(journal: &'a Journal, output: &'a Output, stop: &'a AtomicBool) -> Setup<'a> {
    let limit = Duration::from_secs_f64(journal.plan.limit);
    Setup { deqp: &journal.plan.deqp, limit, stop, output }
}

fn fails(setup: &Setup<'_>, side: &Side, case: &str, before: &[String]) -> Result<bool> {
    let mut cases = before.to_vec();
    cases.push(case.to_owned());
    cases.sort();
    for _ in 0..TRIES {
        let Some(results) = setup.run(side, &cases, &setup.output.place(0), &Keep::Nothing)? else {
            return Ok(false);
        };
        if results.cases.iter().any(|result| result.name == case && !is_good(result.status)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns a subset of `items` that still `fails` and of which nothing can be left out (delta debugging).
pub fn minimise<T: Clone>(mut items: Vec<T>, mut fails: impl FnMut(&[T]) -> Result<bool>) -> Result<Vec<T>> {
    let mut parts = 2;
    while items.len() > 1 {
        let size = items.len().div_ceil(parts);
        let mut smaller = None;
        for start in (0..items.len()).step_by(size) {
            let end = (start + size).min(items.len());
            let part = items[start..end].to_vec();
            let rest = [&items[..start], &items[end..]].concat();
            if fails(&part)? {
                smaller = Some((part, 2));
                break;
            }
            if parts > 2 && fails(&rest)? {
                smaller = Some((rest, parts - 1));
                break;
            }
        }
        match smaller {
            Some((set, next)) => (items, parts) = (set, next.max(2)),
            None if parts >= items.len() => break,
            None => parts = (2 * parts).min(items.len()),
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_culprits_far_apart_are_found() {
        let found = minimise((0..100).collect(), |set: &[i32]| Ok(set.contains(&3) && set.contains(&97)));

        assert_eq!(found.expect("no error"), [3, 97]);
    }

    #[test]
    fn one_culprit_is_found_in_few_steps() {
        let mut steps = 0;

        let found = minimise((0..128).collect(), |set: &[i32]| {
            steps += 1;
            Ok(set.contains(&77))
        });

        assert_eq!(found.expect("no error"), [77]);
        assert!(steps < 30, "{steps} steps");
    }
}
