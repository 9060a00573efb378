//! Rounds of all sides in turns, and what follows from their times.

use anyhow::{Context, Result};
use lockstep_statistics::{confidence, median, trimmed_mean};
use serde::Serialize;

use crate::breakdown::Breakdown;
use crate::side::{COHERENT, HOST_ALONE, Side, YARDSTICK};
use crate::worker::{Turn, Worker};
use crate::workload::Program;

/// How much is measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) turns: usize,
    pub(crate) turn_ms: u32,
}

/// A program's result.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) workload: &'static str,
    pub(crate) about: &'static str,
    pub(crate) frames_a_turn: usize,
    /// One a side.
    pub(crate) sides: Vec<Measured>,
    pub(crate) breakdown: Option<Breakdown>,
    /// Pages that travelled, flush by flush, as a picture; empty if it was not drawn.
    #[serde(skip)]
    pub(crate) heat_map: String,
}

impl Entry {
    /// Microseconds of a frame that tracking takes: of emulated coherent memory, beyond explicit
    /// synchronisation, which copies as much; and of a side above the host alone, beyond that.
    pub(crate) fn tracking_us(&self, peer: &str) -> Option<(f64, f64)> {
        let percent = |name: &str| {
            let side = self.sides.iter().find(|side| side.name == name && side.failed.is_none())?;
            Some(side.wall.percent)
        };
        let us = |percent: f64| self.sides[YARDSTICK].frame_us * percent / 100.0;
        Some((us(self.sides[COHERENT].wall.percent), us(percent(peer)? - percent(HOST_ALONE)?)))
    }
}

/// How one side did.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    /// Why it did not take part to the end.
    pub(crate) failed: Option<String>,
    /// Microseconds of a frame: median, and the 5th, 25th, 75th, 95th and 99th of a hundred.
    pub(crate) frame_us: f64,
    pub(crate) percentiles_us: [f64; 5],
    /// Page faults a frame.
    pub(crate) faults: f64,
    /// More than the yardstick, in percent of its frame.
    pub(crate) wall: Overhead,
    /// More processor time than the yardstick.
    pub(crate) cpu: Overhead,
}

/// A ratio as a percentage above one: median of the rounds, and the interval of 95 %.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Overhead {
    pub(crate) percent: f64,
    pub(crate) interval: Option<(f64, f64)>,
    pub(crate) rounds: Vec<f64>,
}

impl Overhead {
    /// What each round took more than the yardstick.
    pub(crate) fn of(times: &[f64], yardstick: &[f64]) -> Self {
        let ratios = times.iter().zip(yardstick).map(|(time, base)| time / base);
        let rounds: Vec<f64> = ratios.map(|ratio| (ratio - 1.0) * 100.0).collect();
        Self { percent: median(&rounds), interval: confidence(&rounds), rounds }
    }
}

/// What a side needed: frames, and the trimmed mean of each round.
#[derive(Debug, Default)]
struct Times {
    frames: Vec<f64>,
    wall: Vec<f64>,
    cpu: Vec<f64>,
    played: usize,
    faults: u64,
    failed: Option<String>,
}

/// The share of a turn's frames that comes before it, and does not count: the others' bytes are in the
/// caches.
const WARM_UP: usize = 5;

/// Holds a contest.
pub(crate) fn hold(program: Program, sides: &[Side], plan: &Plan) -> Result<Entry> {
    let mut times: Vec<Times> = sides.iter().map(|_| Times::default()).collect();
    let mut frames_a_turn = 0;
    for round in 0..plan.rounds {
        hold_round(program, sides, plan, round, &mut frames_a_turn, &mut times)?;
    }
    let (yardstick, cpu) = (times[YARDSTICK].wall.clone(), times[YARDSTICK].cpu.clone());
    let measured = sides.iter().zip(&mut times).map(|(side, times)| {
        times.frames.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let last = times.frames.len().saturating_sub(1);
            times.frames.get((last as f64 * share).round() as usize).copied().unwrap_or(0.0)
        };
        Measured {
            name: side.name,
            failed: times.failed.clone(),
            frame_us: at(0.5),
            percentiles_us: [0.05, 0.25, 0.75, 0.95, 0.99].map(at),
            faults: times.faults as f64 / times.played.max(1) as f64,
            wall: Overhead::of(&times.wall, &yardstick),
            cpu: Overhead::of(&times.cpu, &cpu),
        }
    });
    Ok(Entry {
        workload: program.name(),
        about: program.about(),
        frames_a_turn,
        sides: measured.collect(),
        breakdown: None,
        heat_map: String::new(),
    })
}

fn hold_round(
    program: Program,
    sides: &[Side],
    plan: &Plan,
    round: usize,
    frames_a_turn: &mut usize,
    times: &mut [Times],
) -> Result<()> {
    let mut workers = Vec::new();
    for (index, side) in sides.iter().enumerate() {
        if times[index].failed.is_some() {
            continue;
        }
        match Worker::start(program, side, &[]) {
            Ok(worker) => workers.push((index, worker, Vec::new())),
            // What is not ours may fail; a benchmark of what is ours that fails has found a bug.
            Err(error) if side.is_host => times[index].failed = Some(format!("{error:#}")),
            Err(error) => return Err(error),
        }
    }
    if *frames_a_turn == 0 {
        let (_, yardstick, _) = workers.first_mut().context("a yardstick")?;
        let turn = yardstick.play(16)?;
        let frame = median(&turn.wall_ns.iter().map(|&ns| ns as f64).collect::<Vec<_>>());
        *frames_a_turn = ((f64::from(plan.turn_ms) * 1e6 / frame) as usize).clamp(4, 2000);
    }
    // Each side comes at every place of a turn as often as another, and never twice in a row: who has just
    // played has warm caches.
    if round % 2 == 1 {
        workers.reverse();
    }
    for _ in 0..plan.turns {
        for (_, worker, turns) in &mut workers {
            turns.push(worker.play(*frames_a_turn + frames_a_turn.div_ceil(WARM_UP))?);
        }
        workers.rotate_left(1);
    }
    for (index, worker, turns) in workers {
        times[index].add(&turns, *frames_a_turn);
        match worker.finish() {
            Err(error) if sides[index].is_host => times[index].failed = Some(format!("{error:#}")),
            result => result?,
        }
    }
    Ok(())
}

impl Times {
    /// Adds a round, of whose turns so many frames count, the last ones.
    fn add(&mut self, turns: &[Turn], count: usize) {
        let frames = turns.iter().flat_map(|turn| turn.wall_ns.iter().rev().take(count));
        let frames: Vec<f64> = frames.map(|&ns| ns as f64 / 1e3).collect();
        self.wall.push(trimmed_mean(&frames));
        let played: usize = turns.iter().map(|turn| turn.wall_ns.len()).sum();
        self.cpu.push(turns.iter().map(|turn| turn.cpu_ns as f64).sum::<f64>() / played as f64);
        self.faults += turns.iter().map(|turn| turn.faults).sum::<u64>();
        self.played += played;
        self.frames.extend(frames);
    }
}
