//! What coherency costs, on whole frames: the same programs with explicit synchronisation, with emulated
//! coherent memory, and with the host's own.
//!
//! - [`side`]: the contestants, each a driver, its options and a kind of memory; [`worker`]: one of them at
//!   work, in a process of its own; [`contest`]: rounds of all of them in turns, and what follows from the
//!   times
//! - [`workload`]: the programs; [`shared`]: the memory they share with the device
//! - [`programs`]: whole programs, from start to end
//! - [`breakdown`]: where the time goes; [`curves`]: how it grows; [`heatmap`]: what a program does with its
//!   memory
//! - [`report`]: text, JSON and a page of HTML
//!
//! # Method
//! A round starts a fresh process for each side, since where a process happens to lie in memory makes it some
//! percent faster or slower for all of its life. Within a round all sides take short turns, in an order that
//! moves on each time, while the others sleep. What counts is the ratio of a side's mean frame to the
//! yardstick's within a round; over the rounds, the median of the ratios and the interval in which the true
//! median lies with 95 %. The yardstick takes part twice: what it costs more than itself is noise.

#![expect(clippy::cast_possible_truncation, reason = "sizes and counts here are far below 2^31")]

mod breakdown;
mod contest;
mod curves;
mod floor;
mod heatmap;
mod programs;
mod report;
mod shared;
mod side;
mod worker;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// What coherency costs: real frames in turns, explicit, emulated coherent and natively coherent.
#[derive(Debug, Parser)]
#[command(name = "lockstep-bench")]
struct Args {
    /// Rounds; fewer than six give no interval
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Turns of each side in a round
    #[arg(long, default_value_t = 5)]
    turns: usize,
    /// Milliseconds of a turn
    #[arg(long, default_value_t = 40)]
    turn_ms: u32,
    /// Workloads and whole programs, by name, and "curves"; all if none is named
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Sides besides the yardstick and emulated coherent memory
    #[arg(long, value_delimiter = ',')]
    sides: Option<Vec<side::Extra>>,
    /// Leaves out breakdown, curves, heat maps and whole programs
    #[arg(long)]
    quick: bool,
    /// Where bench.json and bench.html go
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
    /// Plays a workload's frames as asked on standard input
    #[arg(long, hide = true, value_names = ["WORKLOAD", "MEMORY"], num_args = 2)]
    worker: Option<Vec<String>>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.worker.as_deref() {
        Some([workload, memory]) => worker::run(workload, memory),
        _ => run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&format!("lockstep-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let plan = contest::Plan { rounds: args.rounds, turns: args.turns, turn_ms: args.turn_ms };
    let wants = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let is_workload = |name: &&String| *name != "curves" && !programs::NAMES.contains(&name.as_str());
    let named: Vec<&String> = args.only.iter().filter(is_workload).collect();
    let workloads = if args.only.is_empty() { workload::all() } else { workload::named(&named)? };
    let sides = side::sides(args.sides.as_deref())?;
    let mut report = report::Report::new(&plan, &sides);
    if !args.quick {
        report.prices = Some(floor::Prices::measure()?);
    }
    report::text_head(&report);
    for program in workloads {
        let mut entry = contest::hold(program, &sides, &plan)?;
        if !args.quick {
            entry.breakdown = Some(breakdown::measure(program)?);
            entry.heat_map = heatmap::svg(&breakdown::timeline(program)?)?;
        }
        report::text_entry(&entry);
        report.entries.push(entry);
    }
    if !args.quick && wants("curves") {
        report.curves = curves::measure()?;
    }
    if !args.quick {
        report.programs = programs::measure(args.rounds, wants, report::complain)?;
    }
    report.conclude();
    report::text_end(&report);
    report::write(&report, &args.output)
}
