//! The chart of time per group: bars as inline SVG, one for each side.

use crate::verdict::Verdict;

/// Groups that get bars: the slowest.
const GROUPS: usize = 40;
/// Height of a bar, and of the gap between groups, in pixels.
const BAR: usize = 12;
const GAP: usize = 10;
/// Width of the longest bar.
const WIDTH: f64 = 620.0;

/// One bar.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) y: usize,
    pub(super) width: String,
    pub(super) side: usize,
    pub(super) label: String,
    /// What stands before the first bar of a group.
    pub(super) group: String,
}

/// The chart.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) height: usize,
    pub(super) bars: Vec<Bar>,
}

impl Chart {
    pub(super) fn new(verdict: &Verdict) -> Self {
        let longest = |seconds: &[f64]| seconds.iter().copied().fold(0.0, f64::max);
        let mut groups: Vec<_> = verdict.groups.iter().collect();
        groups.sort_by(|a, b| longest(&b.seconds).total_cmp(&longest(&a.seconds)));
        groups.truncate(GROUPS);
        let scale =
            WIDTH / groups.first().map_or(1.0, |group| longest(&group.seconds)).max(f64::MIN_POSITIVE);
        let mut bars = Vec::new();
        let mut y = 0;
        for group in groups {
            for (side, seconds) in group.seconds.iter().enumerate() {
                let name = if side == 0 { group.name.trim_start_matches("dEQP-VK.") } else { "" };
                let label = format!("{seconds:.1} s, {}", verdict.sides[side]);
                bars.push(Bar {
                    y,
                    width: format!("{:.1}", seconds * scale),
                    side,
                    label,
                    group: name.to_owned(),
                });
                y += BAR;
            }
            y += GAP;
        }
        Self { height: y + GAP, bars }
    }
}
