//! A run from beginning to end: plan, pieces in turns, differing cases alone, reports.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::baseline::{self, Baseline};
use crate::caselist::{self, Preset, pieces};
use crate::cli::RunArgs;
use crate::deqp::Deqp;
use crate::drivers::{Driver, checkout};
use crate::journal::{FILE, Journal, Plan, Rerun};
use crate::output::Output;
use crate::progress::{Progress, tell};
use crate::report::{self, Finished};
use crate::run::{Keep, Setup, is_good};
use crate::schedule::{parallel, workers};
use crate::side::{Side, parse_axis};
use crate::verdict::{Difference, Kind, Verdict, differences, word};
use crate::{bisect, compare, table};

/// The most differing cases that are run alone.
const ALONE: usize = 200;

/// Where a checkout keeps its baselines.
const BASELINES: &str = "cts-runner/baselines";

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is worse than it should be.
    Good,
    /// Something is.
    Worse,
    /// The user stopped it.
    Stopped,
}

/// Runs a preset as the arguments say.
pub fn run(preset: Preset, args: &RunArgs, stop: &AtomicBool) -> Result<Outcome> {
    let root = args.output.clone().unwrap_or_else(|| PathBuf::from("target/cts").join(preset.name));
    let deqp = Deqp::find(args.deqp.as_deref(), &args.deqp_arg)?;
    let output = Output::open(&root)?;
    let plan = match plan(preset, args, deqp, &output, stop) {
        Err(_) if stop.load(Ordering::Relaxed) => return Ok(Outcome::Stopped),
        plan => plan?,
    };
    let mut journal = journal(&output, plan, args.fresh)?;
    let jobs = args.jobs.unwrap_or_else(workers).max(1);
    let deqp = journal.plan.deqp.clone();
    let limit = Duration::from_secs_f64(journal.plan.limit);
    let setup = Setup { deqp: &deqp, limit, stop, output: &output };
    run_pieces(&setup, &mut journal, jobs)?;
    if !stop.load(Ordering::Relaxed) {
        run_alone(&setup, &mut journal, jobs)?;
    }
    if stop.load(Ordering::Relaxed) {
        return Ok(Outcome::Stopped);
    }
    output.tidy()?;
    conclude(&journal, args, &output)
}

/// Judges a finished run, writes its reports, and prints what it came to.
fn conclude(journal: &Journal, args: &RunArgs, output: &Output) -> Result<Outcome> {
    let baselines = args.baselines.clone().or_else(|| Some(checkout().ok()?.join(BASELINES)));
    let baseline = Baseline::read(baselines.as_deref(), &journal.plan)?;
    let mut verdict = Verdict::new(journal);
    verdict.excuse(&baseline.flakes());
    let regressions = baseline.regressions(journal, &verdict);
    report::write(&Finished { journal, verdict: &verdict, regressions: &regressions }, output)?;
    let mut text = summary(&verdict);
    for (side, case) in &regressions {
        let side = &verdict.sides[*side];
        text.push_str(&format!("worse than the baseline: {}: {side} {}\n", case.name, word(case.status)));
    }
    text.push_str(&format!("\nThe report is {}\n", output.file("report.html").display()));
    print(&text)?;
    if args.write_baseline {
        for path in baseline::write(baselines.as_deref(), journal, &verdict)? {
            tell(&format!("wrote {}", path.display()));
        }
        return Ok(Outcome::Good);
    }
    let worse = verdict.of_kind(Kind::Worse).next().is_some() || !regressions.is_empty();
    Ok(if worse { Outcome::Worse } else { Outcome::Good })
}

fn plan(preset: Preset, args: &RunArgs, deqp: Deqp, output: &Output, stop: &AtomicBool) -> Result<Plan> {
    let axes = args.matrix.iter().map(|axis| parse_axis(axis)).collect::<Result<Vec<_>>>()?;
    let limit = Duration::try_from_secs_f64(args.timeout).ok().filter(|limit| !limit.is_zero());
    let limit = limit.with_context(|| format!("--timeout {} is no time", args.timeout))?;
    let listed = args.caselist.as_deref().map(caselist::read).transpose()?;
    let host = Driver::host(args.host.as_deref())?;
    let lockstep = Driver::lockstep(args.icd.as_deref())?;
    let version = match &args.host_version {
        Some(version) => version.clone(),
        None => host.version()?,
    };
    let native = Side::native(&host.manifest);
    let place = output.place(0);
    std::fs::create_dir_all(&place).with_context(|| format!("creating {}", place.display()))?;
    let patterns = if listed.is_some() { &["dEQP-VK.info.*"] } else { preset.patterns };
    let (release, own) = deqp.cases(&native, patterns, &place, stop)?;
    let cases = caselist::select(listed.unwrap_or(own), preset, args.filter.as_ref());
    if cases.is_empty() {
        bail!(
            "no cases to run: neither {} nor the list given has any for '{}'",
            deqp.path.display(),
            preset.name
        );
    }
    let mut sides = vec![native];
    sides.extend(Side::lockstep(&lockstep.manifest, &host.manifest, &axes));
    Ok(Plan {
        preset: preset.name.to_owned(),
        deqp,
        release,
        host: version,
        sides,
        drivers: vec![host.stamp(), lockstep.stamp()],
        limit: limit.as_secs_f64(),
        piece: args.group_size.max(1),
        reruns: args.reruns,
        cases,
    })
}

/// Goes on with the journal of the same run, or begins one; an earlier other run is set aside, never
/// overwritten.
fn journal(output: &Output, plan: Plan, fresh: bool) -> Result<Journal> {
    let path = output.file(FILE);
    if let Some(earlier) = Journal::open(&path)? {
        if earlier.plan == plan && !fresh {
            return Ok(earlier);
        }
        drop(earlier);
        let aside = output.set_aside()?;
        tell(&format!("the results of an earlier run are now in {}", aside.display()));
    }
    Journal::create(&path, plan)
}

struct Piece<'a> {
    number: usize,
    side: usize,
    cases: &'a [String],
}

fn run_pieces(setup: &Setup<'_>, journal: &mut Journal, jobs: usize) -> Result<()> {
    let plan = journal.plan.clone();
    let mut work = Vec::new();
    for (number, cases) in pieces(&plan.cases, plan.piece).into_iter().enumerate() {
        // No side is always the first: whoever goes second finds warm caches.
        let count = plan.sides.len();
        work.extend((0..count).map(|turn| Piece { number, side: (number + turn) % count, cases }));
    }
    let total = plan.cases.len() * plan.sides.len();
    work.retain(|piece| !journal.pieces.contains_key(&(piece.number, piece.side)));
    let left: usize = work.iter().map(|piece| piece.cases.len()).sum();
    if left < total {
        tell(&format!("going on with an earlier run: {} of {total} results are there", total - left));
    }
    let mut progress = Progress::new("cases", total, total - left);
    parallel(
        &work,
        jobs,
        setup.stop,
        |worker, piece| {
            let place = setup.output.place(worker);
            setup.run(&plan.sides[piece.side], piece.cases, &place, &Keep::Failures)
        },
        |piece, results| {
            let failed = results.cases.iter().filter(|case| !is_good(case.status)).count();
            progress.add(results.cases.len(), failed);
            journal.add_piece(piece.number, piece.side, results)
        },
    )
}

/// One case alone. The last attempt on Lockstep is traced and counts for nothing: tracing changes what
/// happens when.
struct Alone {
    side: usize,
    attempt: usize,
    case: String,
    traced: bool,
}

fn run_alone(setup: &Setup<'_>, journal: &mut Journal, jobs: usize) -> Result<()> {
    let plan = journal.plan.clone();
    let mut found = differences(journal);
    found.retain(|difference| difference.kind != Kind::Better);
    if found.len() > ALONE {
        tell(&format!("{} cases differ; the first {ALONE} of them are run alone", found.len()));
    }
    let mut work = Vec::new();
    for difference in found.iter().take(ALONE) {
        work.extend(alone(difference, plan.reruns));
    }
    // The native runs of a case that differs on several sides are the same.
    let mut seen = HashSet::new();
    work.retain(|alone| {
        !is_done(journal, alone) && seen.insert((alone.side, alone.attempt, alone.case.clone()))
    });
    if work.is_empty() {
        return Ok(());
    }
    let mut progress = Progress::new("differing cases, alone", work.len(), 0);
    parallel(
        &work,
        jobs,
        setup.stop,
        |worker, alone| {
            let side = &plan.sides[alone.side];
            let trace = setup.output.log(side, &alone.case).with_added_extension("trace");
            let keep = if alone.traced { Keep::Trace(trace) } else { Keep::Nothing };
            setup.run(side, std::slice::from_ref(&alone.case), &setup.output.place(worker), &keep)
        },
        |alone, results| {
            progress.add(1, 0);
            for result in results.cases {
                journal.add_rerun(Rerun {
                    side: alone.side,
                    attempt: alone.attempt,
                    traced: alone.traced,
                    result,
                })?;
            }
            Ok(())
        },
    )
}

fn alone(difference: &Difference, reruns: usize) -> Vec<Alone> {
    let one = |side, attempt, traced| Alone { side, attempt, case: difference.case.clone(), traced };
    let plain =
        (0..reruns).flat_map(|attempt| [one(0, attempt, false), one(difference.side, attempt, false)]);
    plain.chain([one(difference.side, reruns, true)]).collect()
}

fn is_done(journal: &Journal, alone: &Alone) -> bool {
    let same = |rerun: &Rerun| {
        (rerun.side, rerun.attempt, rerun.result.name.as_str())
            == (alone.side, alone.attempt, alone.case.as_str())
    };
    journal.reruns.iter().any(same)
}

/// Compares earlier results, and prints what differs.
pub fn compare(a: &Path, b: &Path) -> Result<Outcome> {
    let mut outcome = Outcome::Good;
    for (name, verdict) in compare::compare(a, b)? {
        let title = if name.is_empty() { String::new() } else { format!("{name}:\n") };
        print(&format!("{title}{}", summary(&verdict)))?;
        if verdict.of_kind(Kind::Worse).next().is_some() {
            outcome = Outcome::Worse;
        }
    }
    Ok(outcome)
}

/// Finds what makes a case fail, and prints it.
pub fn bisect(case: &str, root: &Path, side: Option<&str>, stop: &AtomicBool) -> Result<Outcome> {
    let Some(set) = bisect::bisect(case, root, side, stop)? else { return Ok(Outcome::Stopped) };
    if set.is_empty() {
        print(&format!("{case} fails alone\n"))?;
    } else {
        print(&format!("{case} fails behind\n{}\n", set.join("\n")))?;
    }
    Ok(Outcome::Good)
}

fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("printing the table")
}

/// Returns what a finished run came to, for a person to read.
fn summary(verdict: &Verdict) -> String {
    let mut text = table::differences(verdict);
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&table::text(verdict));
    text
}
