//! The table that is printed: a row a group, one number where all sides agree, else one a side.

use std::fmt::Write;

use deqp_runner::ResultCounts;

use crate::verdict::{Difference, Group, Kind, Verdict, word};

/// A column: its head, and what it counts.
pub type Column = (&'static str, fn(&ResultCounts) -> u32);

/// The columns of counts.
pub const COLUMNS: [Column; 7] = [
    ("pass", |counts| counts.pass),
    ("fail", |counts| counts.fail),
    ("not supported", |counts| counts.skip),
    ("crash", |counts| counts.crash),
    ("timeout", |counts| counts.timeout),
    ("quality warning", |counts| counts.warn),
    ("missing", |counts| counts.missing),
];

/// What the last column is.
pub const RATIO: &str = "the ratio is that of the time of cases with the same result";

/// The most differences that are listed behind the table.
const LISTED: usize = 50;

/// Returns the columns that a table of `verdict` has: those nothing was ever counted in tell nothing.
pub fn columns(verdict: &Verdict) -> Vec<Column> {
    let shown = |(head, count): &Column| {
        *head != "missing" || verdict.total.counts.iter().any(|counts| count(counts) > 0)
    };
    COLUMNS.into_iter().filter(shown).collect()
}

/// Returns the cells of a row: name, counts, seconds, ratio.
pub fn cells(group: &Group, columns: &[Column]) -> Vec<String> {
    let mut cells = vec![group.name.trim_start_matches("dEQP-VK.").to_owned()];
    for (_, count) in columns {
        let counts: Vec<_> = group.counts.iter().map(|counts| count(counts).to_string()).collect();
        let same = counts.iter().all(|count| *count == counts[0]);
        cells.push(if same { counts[0].clone() } else { counts.join(" / ") });
    }
    cells.push(group.seconds.iter().map(|seconds| format!("{seconds:.1}")).collect::<Vec<_>>().join(" / "));
    let ratio = |side| group.ratio(side).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    cells.push((1..group.seconds.len()).map(ratio).collect::<Vec<_>>().join(" / "));
    cells
}

/// Returns the table as text, in Markdown that is aligned.
pub fn text(verdict: &Verdict) -> String {
    let columns = columns(verdict);
    let mut rows = vec![head(&columns)];
    rows.extend(verdict.groups.iter().map(|group| cells(group, &columns)));
    rows.push(cells(&verdict.total, &columns));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..rows[0].len()).map(width).collect();
    let mut text = format!("{}, in this order where they differ; {RATIO}\n\n", verdict.sides.join(" / "));
    for (at, row) in rows.iter().enumerate() {
        line(&mut text, row, &widths);
        if at == 0 {
            let rule = |(at, width): (usize, &usize)| {
                if at == 0 { "-".repeat(*width) } else { "-".repeat(width - 1) + ":" }
            };
            line(&mut text, &widths.iter().enumerate().map(rule).collect::<Vec<_>>(), &widths);
        }
    }
    text
}

/// Returns the heads of a table.
pub fn head(columns: &[Column]) -> Vec<String> {
    let counts = columns.iter().map(|(head, _)| *head);
    ["group"].into_iter().chain(counts).chain(["seconds", "ratio"]).map(str::to_owned).collect()
}

fn line(text: &mut String, cells: &[String], widths: &[usize]) {
    for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let written =
            if at == 0 { write!(text, "| {cell:width$} ") } else { write!(text, "| {cell:>width$} ") };
        written.expect("writing to a string");
    }
    text.push_str("|\n");
}

/// Returns the cases that differ as text, one a line.
pub fn differences(verdict: &Verdict) -> String {
    let mut text = String::new();
    let better = verdict.of_kind(Kind::Better).count();
    let listed = verdict.differences.len() - better;
    for difference in verdict.differences.iter().take(listed.min(LISTED)) {
        text.push_str(&one(verdict, difference));
        text.push('\n');
    }
    if let more @ 1.. = listed.saturating_sub(LISTED) {
        writeln!(text, "and {more} more").expect("writing to a string");
    }
    if better > 0 {
        writeln!(text, "better: {better} results are better than native").expect("writing to a string");
    }
    text
}

fn one(verdict: &Verdict, difference: &Difference) -> String {
    let side = &verdict.sides[difference.side];
    let (native, ours) = (word(difference.native.status), word(difference.ours.status));
    let kind = difference.kind.word();
    let mut text = format!("{kind}: {}: {} {native}, {side} {ours}", difference.case, verdict.sides[0]);
    for more in [difference.ours.message.lines().next().unwrap_or_default(), &difference.alone()] {
        if !more.is_empty() {
            text.push_str("; ");
            text.push_str(more);
        }
    }
    text
}
