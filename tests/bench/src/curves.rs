//! How costs grow: with what is mapped, with what the CPU writes, and with what the device writes.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::contest::{Plan, hold};
use crate::side::{Extra, Side, YARDSTICK, sides};
use crate::workload::Program;

/// One curve for each side.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Curve {
    pub(crate) title: &'static str,
    /// What the sizes are.
    pub(crate) unit: &'static str,
    pub(crate) points: Vec<Point>,
}

/// A size, with the microseconds of a frame on each side.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Point {
    pub(crate) size: usize,
    pub(crate) frames_us: Vec<(&'static str, f64)>,
    /// What emulated coherent memory takes more than the host alone.
    pub(crate) more_us: f64,
    pub(crate) interval_us: Option<(f64, f64)>,
}

const PLAN: Plan = Plan { rounds: 7, turns: 4, turn_ms: 12 };

const CURVES: [(&str, &str, &str, &[usize]); 4] = [
    (
        "mapped",
        "a submission beside mapped, full, clean memory",
        "bytes",
        &[0, 1 << 20, 1 << 24, 1 << 26, 1 << 28, 1 << 30],
    ),
    ("mappings", "a submission beside clean mappings of 64 KiB", "mappings", &[1, 16, 256, 4096]),
    ("dirty", "one word written in each of so many pages", "pages", &[1, 8, 64, 512, 4096]),
    (
        "written",
        "so many bytes filled by the device and read by the CPU",
        "bytes",
        &[4 << 10, 64 << 10, 1 << 20, 16 << 20],
    ),
];

/// Measures all curves, on the host alone, with explicit synchronisation and with emulated coherent memory.
pub(crate) fn measure() -> Result<Vec<Curve>> {
    let sides = contestants()?;
    let curve = |(kind, title, unit, sizes): (&str, &'static str, &'static str, &[usize])| {
        let points = sizes.iter().map(|&size| point(kind, size, &sides)).collect::<Result<_>>()?;
        Ok(Curve { title, unit, points })
    };
    CURVES.into_iter().map(curve).collect()
}

/// The host alone is the yardstick here.
fn contestants() -> Result<Vec<Side>> {
    let mut all = sides(Some(&[Extra::Host]))?;
    let host = all.pop().context("the host alone")?;
    // The yardstick's double is not needed.
    all.remove(crate::side::DOUBLE);
    all.insert(YARDSTICK, host);
    Ok(all)
}

fn point(kind: &str, size: usize, sides: &[Side]) -> Result<Point> {
    let program = Program::named(&format!("{kind}:{size}")).context("a program")?;
    let entry = hold(program, sides, &PLAN)?;
    let host = entry.sides[YARDSTICK].frame_us;
    let coherent = entry.sides.last().context("emulated coherent memory")?;
    let absolute = |percent: f64| percent / 100.0 * host;
    Ok(Point {
        size,
        frames_us: entry.sides.iter().map(|side| (side.name, side.frame_us)).collect(),
        more_us: absolute(coherent.wall.percent),
        interval_us: coherent.wall.interval.map(|(low, high)| (absolute(low), absolute(high))),
    })
}
