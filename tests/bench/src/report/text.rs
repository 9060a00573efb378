//! Lines on the terminal, Markdown.

use std::fmt::Arguments;
use std::io::Write;

use super::{Account, Report, Verdict};
use crate::contest::{Entry, Overhead};
use crate::side::{PAGE_GUARD, YARDSTICK};

/// Prints a line and does not mind when nobody reads it.
pub(crate) fn say(line: Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints what is wrong.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints what is about to be measured.
pub(crate) fn head(report: &Report) {
    let (machine, plan) = (&report.machine, &report.plan);
    say(format_args!("{} ({} processors), Linux {}", machine.processor, machine.processors, machine.kernel));
    say(format_args!(
        "{} rounds of {} turns of {} ms; percent above explicit synchronisation: median of the rounds, 95 % of them in brackets",
        plan.rounds, plan.turns, plan.turn_ms
    ));
    say(format_args!(""));
    let others: Vec<&str> = report.sides.iter().skip(1).map(|side| side.name).collect();
    say(format_args!("| workload | explicit, us a frame | {} |", others.join(" | ")));
    say(format_args!("|---|---|{}", "---|".repeat(others.len())));
}

/// Prints one program's line.
pub(crate) fn entry(entry: &Entry) {
    let cell = |side: &crate::contest::Measured| match side.failed {
        Some(_) => "failed".to_owned(),
        None => overhead(&side.wall),
    };
    let cells: Vec<String> = entry.sides.iter().skip(1).map(cell).collect();
    let frame = entry.sides[YARDSTICK].frame_us;
    say(format_args!("| {} | {frame:.1} | {} |", entry.workload, cells.join(" | ")));
    for side in entry.sides.iter().filter(|side| side.failed.is_some()) {
        complain(&format!("{}: {}", side.name, side.failed.as_deref().unwrap_or_default()));
    }
}

fn overhead(overhead: &Overhead) -> String {
    let interval = overhead.interval.map(|(low, high)| format!(" ({low:+.1} .. {high:+.1})"));
    format!("{:+.1}{}", overhead.percent, interval.unwrap_or_default())
}

/// Prints what of the costs is accounted for.
fn accounts(report: &Report) {
    let Some(prices) = &report.prices else { return };
    say(format_args!(""));
    say(format_args!(
        "Steps on this machine, ns: a fault {:.0}, opening a page {:.0}, a look at a clean one {:.2}, comparing {:.0}, storing {:.0}, copying {:.0}; protecting pages of a stretch of 2 MiB {:.0}.",
        prices.fault, prices.open, prices.scan, prices.compare, prices.store, prices.copy, prices.protect
    ));
    say(format_args!(""));
    say(format_args!(
        "What a frame costs over explicit synchronisation, us, and what its steps come to at these prices:"
    ));
    say(format_args!(""));
    say(format_args!(
        "| workload | costs | measured by the driver, beyond copies | faults | steps at their prices |"
    ));
    say(format_args!("|---|---|---|---|---|"));
    for Account { workload, costs, driver, faults, floor } in report.accounts() {
        say(format_args!("| {workload} | {costs:.1} | {driver:.1} | {faults:.1} | {floor:.1} |"));
    }
}

/// Prints what tracking costs: Lockstep over the same copies made by the program, others over nothing at all.
fn tracking(report: &Report) {
    let rows = || report.entries.iter().filter_map(|entry| Some((entry, entry.tracking_us(PAGE_GUARD)?)));
    if rows().next().is_none() {
        return;
    }
    say(format_args!(""));
    say(format_args!(
        "What tracking costs, us a frame: Lockstep over explicit synchronisation, {} over the host alone:",
        PAGE_GUARD
    ));
    say(format_args!(""));
    say(format_args!("| workload | Lockstep | {} | that is, times as much |", PAGE_GUARD));
    say(format_args!("|---|---|---|---|"));
    for (entry, (ours, theirs)) in rows() {
        let times = if ours > 0.0 { format!("{:.1}", theirs / ours) } else { "-".to_owned() };
        say(format_args!("| {} | {ours:.1} | {theirs:.1} | {times} |", entry.workload));
    }
}

/// Prints breakdowns, curves and the conclusion.
pub(crate) fn end(report: &Report) {
    let broken_down = || report.entries.iter().filter_map(|e| Some((e.workload, e.breakdown.as_ref()?)));
    if broken_down().next().is_some() {
        say(format_args!(""));
        say(format_args!("Where it goes, a frame:"));
        say(format_args!(""));
        say(format_args!(
            "| workload | faults | scan, us | pages reported | flush, us | KiB flushed | KiB changed | pull, us | KiB compared | KiB pulled |"
        ));
        say(format_args!("|---|---|---|---|---|---|---|---|---|---|"));
    }
    for (workload, counts) in broken_down() {
        let (us, kib) = (|name| counts.get(name) / 1e3, |name| counts.get(name) / 1024.0);
        say(format_args!(
            "| {workload} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
            counts.get("faults"),
            us("scan_ns"),
            counts.get("pages_dirty"),
            us("flush_ns"),
            kib("bytes_flushed"),
            kib("cpu_bytes_written"),
            us("pull_ns"),
            kib("bytes_compared"),
            kib("bytes_pulled"),
        ));
    }
    accounts(report);
    tracking(report);
    for curve in &report.curves {
        say(format_args!(""));
        say(format_args!("{}:", curve.title));
        say(format_args!(""));
        let names: Vec<&str> = curve
            .points
            .first()
            .map(|p| p.frames_us.iter().map(|(name, _)| *name).collect())
            .unwrap_or_default();
        say(format_args!("| {} | {} | emulated more than the host, us |", curve.unit, names.join(", us | ")));
        say(format_args!("|---|{}---|", "---|".repeat(names.len())));
        for point in &curve.points {
            let frames: Vec<String> = point.frames_us.iter().map(|(_, us)| format!("{us:.1}")).collect();
            let interval = point.interval_us.map(|(low, high)| format!(" ({low:+.1} .. {high:+.1})"));
            say(format_args!(
                "| {} | {} | {:+.1}{} |",
                point.size,
                frames.join(" | "),
                point.more_us,
                interval.unwrap_or_default()
            ));
        }
    }
    if !report.programs.is_empty() {
        say(format_args!(""));
        say(format_args!(
            "whole programs, percent above the host alone; of it, what the driver measured of itself:"
        ));
        say(format_args!(""));
        say(format_args!(
            "| program | host alone, ms | host alone again | Lockstep | processor time | measured by the driver |"
        ));
        say(format_args!("|---|---|---|---|---|---|"));
    }
    for program in &report.programs {
        let [again, wall, cpu] = [&program.again, &program.wall, &program.cpu].map(overhead);
        say(format_args!(
            "| {}: {} | {:.0} | {again} | {wall} | {cpu} | {:.1} |",
            program.name, program.about, program.host_ms, program.driver_percent
        ));
    }
    let Some(conclusion) = &report.conclusion else { return };
    say(format_args!(""));
    let quoted = report.entries.first().map_or("", |entry| entry.workload);
    say(format_args!(
        "{quoted}: {}",
        match conclusion.verdict {
            Verdict::Within => "emulated coherent memory costs at most 1 % over explicit synchronisation.",
            Verdict::Above => "emulated coherent memory costs more than 1 % over explicit synchronisation.",
            Verdict::Open =>
                "whether emulated coherent memory costs more than 1 % cannot be told from this run.",
        }
    ));
    say(format_args!(
        "Geometric mean over all workloads {:+.1} %, the worst is {} with {:+.1} %.",
        conclusion.mean_percent, conclusion.worst, conclusion.worst_percent
    ));
    if !conclusion.noisy.is_empty() {
        say(format_args!(
            "TOO NOISY TO CONCLUDE from {}: there the yardstick differs from itself by more than 2 %.",
            conclusion.noisy.join(", ")
        ));
    }
}
