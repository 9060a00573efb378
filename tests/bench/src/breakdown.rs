//! Where the time of emulated coherent memory goes: the driver's own counters, a frame.
//!
//! What the start costs falls out: the counters of some frames are taken from those of twice as many.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::side::{COHERENT, sides};
use crate::worker::Worker;
use crate::workload::Program;

const FRAMES: usize = 100;

/// Counters of `LOCKSTEP_STATS`, a frame.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Breakdown(pub(crate) BTreeMap<String, f64>);

impl Breakdown {
    pub(crate) fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }
}

/// Counts what a program's frames cost.
pub(crate) fn measure(program: Program) -> Result<Breakdown> {
    let (once, twice) = (count(program, FRAMES)?, count(program, 2 * FRAMES)?);
    let a_frame = twice.into_iter().map(|(name, more)| {
        let less = once.get(&name).copied().unwrap_or(0.0);
        (name, (more - less) / FRAMES as f64)
    });
    Ok(Breakdown(a_frame.collect()))
}

/// What a program does with its memory, from its start over some frames: the timeline of `LOCKSTEP_TRACE`.
pub(crate) fn timeline(program: Program) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("trace.json");
    let side = &sides(Some(&[]))?[COHERENT];
    let mut worker = Worker::start(program, side, &[("LOCKSTEP_TRACE", path.to_str().context("a path")?)])?;
    worker.play(FRAMES)?;
    worker.finish()?;
    std::fs::read_to_string(&path).context("LOCKSTEP_TRACE")
}

fn count(program: Program, frames: usize) -> Result<BTreeMap<String, f64>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("stats.json");
    let side = &sides(Some(&[]))?[COHERENT];
    let mut worker = Worker::start(program, side, &[("LOCKSTEP_STATS", path.to_str().context("a path")?)])?;
    let turn = worker.play(frames)?;
    worker.finish()?;
    let text = std::fs::read_to_string(&path).context("LOCKSTEP_STATS")?;
    let mut counters: BTreeMap<String, f64> = serde_json::from_str(&text)?;
    counters.insert("faults".to_owned(), turn.faults as f64);
    counters.insert("frame_ns".to_owned(), turn.wall_ns.iter().sum::<u64>() as f64);
    Ok(counters)
}
