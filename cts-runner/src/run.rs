//! Running cases on one side: one process after another until every case has a result.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use deqp_runner::parse::ResultParser;
use deqp_runner::{RunnerStatus, TestResult, TestStatus};
use serde::{Deserialize, Serialize};

use crate::deqp::{Deqp, option};
use crate::output::Output;
use crate::parse::{Lines, Said, Words};
use crate::process::{End, Supervised};
use crate::qpa;
use crate::side::Side;

/// What came out of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    /// The case.
    pub name: String,
    /// What came out, in `deqp_runner`'s words.
    #[serde(with = "crate::journal::status")]
    pub status: RunnerStatus,
    /// How long it took.
    pub seconds: f32,
    /// Why, where that is worth a word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What all runs have in common.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The binary.
    pub deqp: &'a Deqp,
    /// How long one case may take.
    pub limit: Duration,
    /// Set when the user wants to stop.
    pub stop: &'a AtomicBool,
    /// Where results go.
    pub output: &'a Output,
}

/// What a run keeps beyond the results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    /// Logs of the cases that failed.
    Failures,
    /// Everything of a single case, its driver's trace and statistics too, under this name.
    Trace(PathBuf),
    /// Nothing.
    Nothing,
}

/// Results of cases run together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Wall time of all processes.
    pub seconds: f64,
    /// The results, one a case.
    pub cases: Vec<CaseResult>,
}

/// One process that ended.
struct Ran {
    end: End,
    errors: String,
    results: Vec<TestResult>,
    said: Said,
}

impl Setup<'_> {
    /// Runs `cases` on `side`, with the directory `place` to itself. Returns nothing if the user stopped it.
    pub fn run(&self, side: &Side, cases: &[String], place: &Path, keep: &Keep) -> Result<Option<Results>> {
        fs::create_dir_all(place).with_context(|| format!("creating {}", place.display()))?;
        let started = Instant::now();
        let mut results = Vec::new();
        let mut left = cases.to_vec();
        while !left.is_empty() {
            let log = place.join("log.qpa");
            let ran = self.process(side, &left, place, &log, keep)?;
            if ran.end == End::Stopped {
                return Ok(None);
            }
            let found = judge(&ran, &left);
            self.keep(side, &ran, &found, &log, keep)?;
            left.retain(|case| !found.iter().any(|result| result.name == *case));
            results.extend(found);
            remove(&log)?;
        }
        Ok(Some(Results { seconds: started.elapsed().as_secs_f64(), cases: results }))
    }

    fn process(&self, side: &Side, cases: &[String], place: &Path, log: &Path, keep: &Keep) -> Result<Ran> {
        let list = place.join("cases.txt");
        fs::write(&list, cases.join("\n") + "\n").with_context(|| format!("writing {}", list.display()))?;
        let mut command = self.deqp.command(side, place, log);
        command.arg(option("--deqp-caselist-file", &list));
        command.args(["--deqp-log-images=disable", "--deqp-log-shader-sources=disable"]);
        // Processes at the same time must not share a cache, and those after another should.
        let cache = place.join(format!("{}.shadercache", side.file_name()));
        command.arg(option("--deqp-shadercache-filename", &cache)).arg("--deqp-shadercache-truncate=disable");
        match keep {
            Keep::Trace(base) => {
                make_room(base)?;
                command
                    .env("LOCKSTEP_LOG", "trace")
                    .env("LOCKSTEP_STATS", base.with_added_extension("stats.json"));
            }
            // Flushing after every line is dear, and of use only when a case dies.
            Keep::Failures | Keep::Nothing => {
                command.arg("--deqp-log-flush=disable");
            }
        }
        let mut child = Supervised::start(command, self.limit, self.stop)
            .with_context(|| format!("starting {}", self.deqp.path.display()))?;
        let mut said = Said::new();
        let parsed = Lines::new(&mut said).parse(&mut child, None)?;
        let (end, errors) = child.finish().context("waiting for deqp-vk")?;
        Ok(Ran { end, errors, results: parsed.results, said })
    }

    fn keep(&self, side: &Side, ran: &Ran, found: &[CaseResult], log: &Path, keep: &Keep) -> Result<()> {
        for result in found {
            let base = match keep {
                Keep::Nothing => continue,
                Keep::Trace(base) => base.clone(),
                Keep::Failures if is_good(result.status) => continue,
                Keep::Failures => self.output.log(side, &result.name),
            };
            make_room(&base)?;
            let words = ran.said.get(&result.name).map_or("", |words: &Words| &words.output);
            let text = format!(
                "{}: {} ({})\ndeqp-vk {}\n\n{words}\nstandard error, its end:\n{}",
                result.name, result.status, result.message, ran.end, ran.errors
            );
            write(&base.with_added_extension("log"), &text)?;
            if let Some(section) = qpa::section(log, &result.name).context("reading the log of deqp-vk")? {
                write(&base.with_added_extension("qpa"), &section)?;
            }
        }
        Ok(())
    }
}

/// Returns whether nothing about a status calls for a look at the log.
pub fn is_good(status: RunnerStatus) -> bool {
    matches!(status, RunnerStatus::Pass | RunnerStatus::Skip | RunnerStatus::Warn)
}

/// Decides what came out of the cases that a process was asked for. At least one of them gets a result.
fn judge(ran: &Ran, asked: &[String]) -> Vec<CaseResult> {
    let mut found: Vec<_> = ran.results.iter().filter(|result| asked.contains(&result.name)).collect();
    found.dedup_by(|a, b| a.name == b.name);
    let count = found.len();
    let mut results: Vec<_> =
        found.into_iter().enumerate().map(|(at, result)| of_test(ran, result, at + 1 == count)).collect();
    // Cases that began and whose end means nothing to us.
    for name in asked {
        let done = results.iter().any(|result| result.name == *name);
        if let (false, Some(Some(word))) = (done, ran.said.get(name).map(|words| words.unknown.as_ref())) {
            results.push(result(name, RunnerStatus::Fail, format!("unknown status '{word}'")));
        }
    }
    if results.is_empty() {
        let (status, message) = match ran.end {
            End::Exited(0 | 1) => (RunnerStatus::Missing, "deqp-vk does not know the case".to_owned()),
            End::TimedOut => (RunnerStatus::Timeout, "deqp-vk hung before its first case".to_owned()),
            end => (RunnerStatus::Crash, format!("deqp-vk died before its first case: {end}")),
        };
        results = asked.iter().map(|name| result(name, status, message.clone())).collect();
    }
    results
}

fn of_test(ran: &Ran, test: &TestResult, last: bool) -> CaseResult {
    let words = ran.said.get(&test.name);
    let mut message = words.map(|words| words.message.clone()).unwrap_or_default();
    let mut status = RunnerStatus::from_deqp(test.status);
    let unfinished = message.is_empty() && matches!(test.status, TestStatus::Crash | TestStatus::Timeout);
    if unfinished && ran.end.is_clean() {
        let word = words.and_then(|words| words.unknown.as_ref());
        message = match word {
            Some(word) => {
                status = RunnerStatus::Fail;
                format!("unknown status '{word}'")
            }
            None => format!("no status, and deqp-vk {}", ran.end),
        };
    } else if unfinished {
        message = ran.end.to_string();
    } else if last && !ran.end.is_clean() {
        // It died behind the last case that ended: the library's rule is to blame that one.
        let end = ran.end;
        status = if end == End::TimedOut { RunnerStatus::Timeout } else { RunnerStatus::Crash };
        message = format!("{end} after the case had ended with {}: {message}", test.status);
    }
    CaseResult { name: test.name.clone(), status, seconds: test.duration.as_secs_f32(), message }
}

fn result(name: &str, status: RunnerStatus, message: String) -> CaseResult {
    CaseResult { name: name.to_owned(), status, seconds: 0.0, message }
}

fn make_room(base: &Path) -> Result<()> {
    let directory = base.parent().unwrap_or(base);
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
