//! Where the time of emulated coherent memory goes: the driver's own counters, a frame.
//!
//! What the start costs falls out: the counters of some frames are taken from those of more.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::side::{COHERENT, sides};
use crate::worker::Worker;
use crate::workload::Program;

/// Frames of a timeline, and of a count at least.
const FRAMES: usize = 100;
/// Frames that are counted take so long: the first submissions, which carry all memory, do not take equally
/// long each time.
const COUNTED_NS: f64 = 1e9;

/// Counters of `LOCKSTEP_STATS`, a frame.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Breakdown(pub(crate) BTreeMap<String, f64>);

impl Breakdown {
    pub(crate) fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    /// What the driver wrote into a file: the counters of a whole program.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).context("LOCKSTEP_STATS")?;
        Ok(Self(serde_json::from_str(&text)?))
    }

    /// The time that the driver measured of itself: scans, copies either way and waits for them.
    pub(crate) fn driver_ns(&self) -> f64 {
        ["scan_ns", "flush_ns", "pull_ns"].iter().map(|name| self.get(name)).sum()
    }
}

/// Counts what a program's frames cost.
pub(crate) fn measure(program: Program) -> Result<Breakdown> {
    let few = count(program, FRAMES)?;
    let frame_ns = few.get("frame_ns").copied().unwrap_or(0.0) / FRAMES as f64;
    let frames = (COUNTED_NS / frame_ns.max(1.0)).clamp(FRAMES as f64, 10_000.0) as usize;
    let many = count(program, FRAMES + frames)?;
    let a_frame = many.into_iter().map(|(name, more)| {
        let less = few.get(&name).copied().unwrap_or(0.0);
        (name, (more - less) / frames as f64)
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
    let Breakdown(mut counters) = Breakdown::read(&path)?;
    counters.insert("faults".to_owned(), turn.faults as f64);
    counters.insert("frame_ns".to_owned(), turn.wall_ns.iter().sum::<u64>() as f64);
    Ok(counters)
}
