//! What is told of a run: lines as it goes on, a verdict, JSON, and a page.

mod page;
mod text;

use std::path::Path;

use anyhow::{Context, Result};
use lockstep_statistics::geometric_mean;
use serde::Serialize;

use crate::contest::{Entry, Plan};
use crate::curves::Curve;
use crate::floor::Prices;
use crate::programs::Finished;
use crate::side::{COHERENT, DOUBLE, Side, YARDSTICK};

pub(crate) use text::{complain, end as text_end, entry as text_entry, head as text_head};

/// What coherency may cost, in percent of the frame to quote.
const GOAL: f64 = 1.0;
/// More than this between the yardstick and its double, and nothing can be concluded.
const NOISY: f64 = 2.0;

/// All that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    plan: Plan,
    sides: Vec<Side>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) curves: Vec<Curve>,
    pub(crate) programs: Vec<Finished>,
    /// What single steps cost.
    pub(crate) prices: Option<Prices>,
    conclusion: Option<Conclusion>,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
struct Machine {
    processor: String,
    processors: usize,
    kernel: String,
}

/// What follows.
#[derive(Debug, Serialize)]
struct Conclusion {
    /// Geometric mean over all programs of emulated coherent over explicit, in percent above one.
    mean_percent: f64,
    worst: String,
    worst_percent: f64,
    /// Of the frame to quote.
    verdict: Verdict,
    /// Programs whose yardstick differs from itself.
    noisy: Vec<String>,
}

/// Whether the goal is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Verdict {
    Within,
    Above,
    /// The machine is too noisy, or the run too short, to tell.
    Open,
}

/// What a frame of emulated coherent memory costs over explicit synchronisation, in microseconds, and what of
/// that is accounted for.
struct Account {
    workload: &'static str,
    costs: f64,
    /// What the driver measured of itself, beyond copying what explicit synchronisation copies, too.
    driver: f64,
    /// Faults, at their price.
    faults: f64,
    /// All steps at their prices.
    floor: f64,
}

impl Report {
    fn accounts(&self) -> Vec<Account> {
        let Some(prices) = &self.prices else { return Vec::new() };
        let account = |entry: &Entry| {
            let steps = entry.breakdown.as_ref()?;
            Some(Account {
                workload: entry.workload,
                costs: entry.sides[YARDSTICK].frame_us * entry.sides[COHERENT].wall.percent / 100.0,
                driver: (steps.driver_ns() - prices.copies(steps)) / 1e3,
                faults: prices.faults(steps) / 1e3,
                floor: prices.steps(steps) / 1e3,
            })
        };
        self.entries.iter().filter_map(account).collect()
    }

    pub(crate) fn new(plan: &Plan, sides: &[Side]) -> Self {
        Self {
            machine: Machine::this(),
            plan: plan.clone(),
            sides: sides.to_vec(),
            entries: Vec::new(),
            curves: Vec::new(),
            programs: Vec::new(),
            prices: None,
            conclusion: None,
        }
    }

    /// Draws the conclusion from all entries.
    pub(crate) fn conclude(&mut self) {
        let Some(quoted) = self.entries.first() else { return };
        let percent = |entry: &Entry| entry.sides[COHERENT].wall.percent;
        let ratios: Vec<f64> = self.entries.iter().map(|entry| 1.0 + percent(entry) / 100.0).collect();
        let worst = self.entries.iter().max_by(|a, b| percent(a).total_cmp(&percent(b)));
        let Some(worst) = worst else { return };
        self.conclusion = Some(Conclusion {
            mean_percent: (geometric_mean(&ratios) - 1.0) * 100.0,
            worst: worst.workload.to_owned(),
            worst_percent: percent(worst),
            verdict: verdict(quoted),
            noisy: self
                .entries
                .iter()
                .filter(|entry| is_noisy(entry))
                .map(|e| e.workload.to_owned())
                .collect(),
        });
    }
}

/// Whether the yardstick seems to differ from itself by more than noise may.
fn is_noisy(entry: &Entry) -> bool {
    let double = &entry.sides[DOUBLE].wall;
    let wide = double.interval.is_none_or(|(low, high)| low < -NOISY || high > NOISY);
    wide || double.percent.abs() > NOISY
}

fn verdict(entry: &Entry) -> Verdict {
    match entry.sides[COHERENT].wall.interval {
        Some((_, high)) if high <= GOAL => Verdict::Within,
        Some((low, _)) if low > GOAL => Verdict::Above,
        _ => Verdict::Open,
    }
}

impl Machine {
    fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let processor = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Self {
            processor: processor.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// Writes `bench.json` and `bench.html` into a directory.
pub(crate) fn write(report: &Report, directory: &Path) -> Result<()> {
    let at = |name: &str| directory.join(name);
    std::fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    let json = serde_json::to_string_pretty(report)?;
    std::fs::write(at("bench.json"), json + "\n").context("writing bench.json")?;
    std::fs::write(at("bench.html"), page::render(report)?).context("writing bench.html")?;
    text::say(format_args!("Written: {} and bench.html.", at("bench.json").display()));
    Ok(())
}
