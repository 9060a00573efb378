//! One self-contained page: differences first, what failed with its logs, time per group.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use askama::Template;

use super::Finished;
use super::chart::Chart;
use crate::output::Output;
use crate::qpa;
use crate::run::{CaseResult, is_good};
use crate::table;
use crate::verdict::{Difference, Kind, word};

/// The most of one log that goes into the page: its end.
const LOG: usize = 24 << 10;
/// The most of all logs that goes into the page.
const LOGS: usize = 24 << 20;
/// The most cases of one kind that are listed.
const LISTED: usize = 2000;

#[derive(Template)]
#[template(path = "report.html")]
struct Page {
    title: String,
    facts: Vec<(&'static str, String)>,
    good: bool,
    headline: String,
    head: Vec<String>,
    rows: Vec<Row>,
    total: Vec<String>,
    sides: Vec<String>,
    ratio: &'static str,
    sections: Vec<Section>,
    chart: Chart,
}

struct Row {
    differs: bool,
    cells: Vec<String>,
}

struct Section {
    title: &'static str,
    what: &'static str,
    count: usize,
    /// Nobody looks here first.
    folded: bool,
    cases: Vec<Case>,
}

struct Case {
    name: String,
    side: String,
    native: String,
    ours: String,
    message: String,
    alone: String,
    logs: Vec<Log>,
}

struct Log {
    title: String,
    text: String,
}

/// Returns the page.
pub(super) fn render(finished: &Finished<'_>, output: &Output) -> Result<String> {
    let (plan, verdict) = (&finished.journal.plan, finished.verdict);
    let columns = table::columns(verdict);
    let row = |group| Row { differs: false, cells: table::cells(group, &columns) };
    let rows =
        verdict.groups.iter().map(|group| Row { differs: group.differences > 0, ..row(group) }).collect();
    let worse = verdict.of_kind(Kind::Worse).count();
    let regressed = finished.regressions.len();
    let page = Page {
        title: format!("Vulkan CTS, {}: native and Lockstep", plan.preset),
        facts: vec![
            ("CTS", plan.release.clone()),
            ("host driver", plan.host.clone()),
            ("sides", verdict.sides.join(", ")),
            ("cases", plan.cases.len().to_string()),
            ("written", date(SystemTime::now())),
        ],
        good: worse + regressed == 0,
        headline: headline(worse, regressed),
        head: table::head(&columns),
        rows,
        total: table::cells(&verdict.total, &columns),
        sides: verdict.sides.clone(),
        ratio: table::RATIO,
        sections: sections(finished, &mut Logs { output, left: LOGS }),
        chart: Chart::new(verdict),
    };
    page.render().context("rendering the HTML report")
}

fn headline(worse: usize, regressed: usize) -> String {
    match (worse, regressed) {
        (0, 0) => "Nothing that passes natively does worse on Lockstep.".to_owned(),
        (worse, 0) => format!("{worse} results are worse than native."),
        (worse, regressed) => {
            format!("{worse} results are worse than native, {regressed} worse than the baseline.")
        }
    }
}

fn sections(finished: &Finished<'_>, logs: &mut Logs<'_>) -> Vec<Section> {
    let mut sections = Vec::new();
    let kinds = [
        (Kind::Worse, "Worse than native", "To be mended."),
        (Kind::Flaky, "Flaky natively", "The native result changes from run to run too."),
        (Kind::Different, "Different", "Fails natively as well, or only natively."),
    ];
    for (kind, title, what) in kinds {
        let found: Vec<_> = finished.verdict.of_kind(kind).collect();
        let cases =
            found.iter().take(LISTED).map(|difference| of_difference(finished, difference, logs)).collect();
        sections.push(Section { title, what, count: found.len(), folded: false, cases });
    }
    let regressed = finished.regressions.iter().take(LISTED);
    let cases = regressed.map(|(side, case)| plain(finished, *side, case, logs)).collect();
    let count = finished.regressions.len();
    sections.insert(1, Section { title: "Worse than the baseline", what: "", count, folded: false, cases });
    let differing = |case: &CaseResult| finished.verdict.differences.iter().any(|d| d.case == case.name);
    let alike: Vec<_> =
        finished.journal.results(0).filter(|case| !is_good(case.status) && !differing(case)).collect();
    let cases = alike.iter().take(LISTED).map(|case| plain(finished, 0, case, logs)).collect();
    sections.push(Section {
        title: "Failing alike",
        what: "The same on all sides.",
        folded: true,
        count: alike.len(),
        cases,
    });
    let better: Vec<_> = finished.verdict.of_kind(Kind::Better).collect();
    let cases =
        better.iter().take(LISTED).map(|difference| of_difference(finished, difference, logs)).collect();
    let (title, what) = ("Better than native", "Not supported natively, or only with a warning.");
    sections.push(Section { title, what, count: better.len(), folded: true, cases });
    sections.retain(|section| section.count > 0);
    sections
}

fn of_difference(finished: &Finished<'_>, difference: &Difference, logs: &mut Logs<'_>) -> Case {
    let sides = &finished.journal.plan.sides;
    let found = match difference.kind {
        Kind::Better => Vec::new(),
        _ => {
            [difference.side, 0].iter().flat_map(|side| logs.of(finished, *side, &difference.case)).collect()
        }
    };
    Case {
        name: difference.case.clone(),
        side: sides[difference.side].name.clone(),
        native: word(difference.native.status),
        ours: word(difference.ours.status),
        message: difference.ours.message.clone(),
        alone: difference.alone(),
        logs: found,
    }
}

fn plain(finished: &Finished<'_>, side: usize, case: &CaseResult, logs: &mut Logs<'_>) -> Case {
    Case {
        name: case.name.clone(),
        side: finished.journal.plan.sides[side].name.clone(),
        native: if side == 0 { word(case.status) } else { String::new() },
        ours: word(case.status),
        message: case.message.clone(),
        alone: String::new(),
        logs: logs.of(finished, side, &case.name),
    }
}

/// Reads logs for as long as there is room in the page.
struct Logs<'a> {
    output: &'a Output,
    left: usize,
}

impl Logs<'_> {
    fn of(&mut self, finished: &Finished<'_>, side: usize, case: &str) -> Vec<Log> {
        let side = &finished.journal.plan.sides[side];
        let base = self.output.log(side, case);
        let parts = [
            ("details", "qpa"),
            ("log", "log"),
            ("details of the traced run", "trace.qpa"),
            ("trace", "trace.log"),
            ("statistics of the traced run", "trace.stats.json"),
        ];
        let found = parts.iter().filter_map(|(title, extension)| {
            let text = self.read(&base.with_added_extension(extension))?;
            Some(Log { title: format!("{}: {title}", side.name), text })
        });
        found.collect()
    }

    fn read(&mut self, path: &Path) -> Option<String> {
        let text = String::from_utf8_lossy(&fs::read(path).ok()?).into_owned();
        let text = if is_qpa(path) { qpa::plain(&text) } else { text };
        let mut start = text.len().saturating_sub(LOG.min(self.left));
        while !text.is_char_boundary(start) {
            start += 1;
        }
        self.left -= text.len() - start;
        let cut = if start > 0 {
            format!("(its end; all of it is in {})\n", shown(path).display())
        } else {
            String::new()
        };
        Some(cut + &text[start..])
    }
}

fn is_qpa(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "qpa")
}

/// Returns a log's path as seen from the page.
fn shown(path: &Path) -> PathBuf {
    let parts: Vec<_> = path.components().collect();
    parts[parts.len().saturating_sub(3)..].iter().collect()
}

/// Returns the day in UTC, by the calendar we have since 1582.
fn date(time: SystemTime) -> String {
    let days = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    // Years that begin in March have their leap day at the end; 719468 days lie before 1970-03-01 of year 0.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march = (5 * day + 2) / 153;
    let day = day - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn day(days: u64) -> String {
        date(UNIX_EPOCH + Duration::from_secs(days * 86_400))
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(11_016), "2000-02-29");
        assert_eq!(day(20_453), "2025-12-31");
    }
}
