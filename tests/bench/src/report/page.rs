//! The page: one file of HTML with plots, readable without a network.

use anyhow::Result;
use askama::Template;

use super::{Report, Verdict};
use crate::contest::{Entry, Measured, Overhead};
use crate::curves::Curve;
use crate::programs::Finished;
use crate::side::{COHERENT, YARDSTICK};

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
}

/// Renders the page.
pub(super) fn render(report: &Report) -> Result<String> {
    Ok(Page { report }.render()?)
}

/// Width of plots, in units of their own.
const WIDTH: f64 = 720.0;
const LEFT: f64 = 130.0;
const ROW: f64 = 26.0;

impl Page<'_> {
    fn verdict(&self) -> &'static str {
        match self.report.conclusion.as_ref().map(|conclusion| conclusion.verdict) {
            Some(Verdict::Within) => "at most 1 % over explicit synchronisation",
            Some(Verdict::Above) => "more than 1 % over explicit synchronisation",
            Some(Verdict::Open) | None => "cannot be told from this run",
        }
    }

    fn coherent<'e>(&self, entry: &'e Entry) -> &'e Measured {
        &entry.sides[COHERENT]
    }

    fn yardstick<'e>(&self, entry: &'e Entry) -> &'e Measured {
        &entry.sides[YARDSTICK]
    }

    fn overheads_of<'p>(&self, program: &'p Finished) -> [&'p Overhead; 3] {
        [&program.again, &program.wall, &program.cpu]
    }

    /// Overheads of emulated coherent memory: a point with its interval for each program.
    fn overheads(&self) -> String {
        let entries = &self.report.entries;
        let far = |entry: &Entry| {
            let wall = &self.coherent(entry).wall;
            let (low, high) = wall.interval.unwrap_or((wall.percent, wall.percent));
            low.abs().max(high.abs())
        };
        let largest = entries.iter().map(far).fold(5.0, f64::max);
        // Roots keep small and large ones apart.
        let scale = |percent: f64| percent.signum() * percent.abs().sqrt();
        let place = |percent: f64| {
            let half = (WIDTH - LEFT - 20.0) / 2.0;
            LEFT + half + scale(percent) / scale(largest) * half
        };
        let height = ROW * entries.len() as f64 + 34.0;
        let mut svg = format!(r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="overheads">"#);
        for percent in [-50.0f64, -10.0, -1.0, 0.0, 1.0, 10.0, 50.0, 200.0] {
            if percent.abs() <= largest {
                let x = place(percent);
                let bottom = height - 20.0;
                svg += &format!(r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="4" y2="{bottom}"/>"#);
                svg += &format!(
                    r#"<text class="axis" x="{x:.1}" y="{}" text-anchor="middle">{percent:+} %</text>"#,
                    height - 6.0
                );
            }
        }
        for (index, entry) in entries.iter().enumerate() {
            let (y, wall) = (ROW * index as f64 + 18.0, &self.coherent(entry).wall);
            let (low, high) = wall.interval.unwrap_or((wall.percent, wall.percent));
            svg += &format!(
                r#"<text x="{}" y="{}" text-anchor="end">{}</text>"#,
                LEFT - 8.0,
                y + 4.0,
                entry.workload
            );
            for round in &wall.rounds {
                svg += &format!(r#"<circle class="round" cx="{:.1}" cy="{y}" r="2.5"/>"#, place(*round));
            }
            svg += &format!(
                r#"<line class="interval" x1="{:.1}" x2="{:.1}" y1="{y}" y2="{y}"/><circle class="median" cx="{:.1}" cy="{y}" r="4"><title>{:+.2} %</title></circle>"#,
                place(low),
                place(high),
                place(wall.percent),
                wall.percent
            );
        }
        svg + "</svg>"
    }

    /// Frame times on each side: 5 to 95 of a hundred, quartiles, median.
    fn distribution(&self, entry: &Entry) -> String {
        let sides: Vec<_> = entry.sides.iter().filter(|side| side.failed.is_none()).collect();
        let largest = sides.iter().map(|side| side.percentiles_us[3]).fold(1e-9, f64::max);
        let place = |us: f64| LEFT + 70.0 + us / largest * (WIDTH - LEFT - 90.0);
        let height = 18.0 * sides.len() as f64 + 6.0;
        let mut svg = format!(r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="frame times">"#);
        for (index, side) in sides.iter().enumerate() {
            let y = 18.0 * index as f64 + 11.0;
            let [p5, p25, p75, p95, _] = side.percentiles_us.map(place);
            svg += &format!(
                r#"<text class="small" x="{}" y="{}" text-anchor="end">{}</text><line class="interval" x1="{p5:.1}" x2="{p95:.1}" y1="{y}" y2="{y}"/><rect class="box" x="{p25:.1}" y="{}" width="{:.1}" height="10"/><circle class="median" cx="{:.1}" cy="{y}" r="3"><title>{:.1} us</title></circle>"#,
                LEFT + 62.0,
                y + 4.0,
                side.name,
                y - 5.0,
                (p75 - p25).max(0.5),
                place(side.frame_us),
                side.frame_us
            );
        }
        svg + "</svg>"
    }

    /// A frame's time over a size, both in powers.
    fn curve(&self, curve: &Curve) -> String {
        let height = 240.0;
        let log = |value: f64| value.max(1.0).log10();
        let sizes = || curve.points.iter().map(|point| log(point.size as f64));
        let (first, last) = (sizes().fold(f64::MAX, f64::min), sizes().fold(f64::MIN, f64::max));
        let times = || curve.points.iter().flat_map(|point| point.frames_us.iter().map(|(_, us)| log(*us)));
        let (low, high) = (times().fold(f64::MAX, f64::min), times().fold(f64::MIN, f64::max));
        let x = |size: usize| 60.0 + (log(size as f64) - first) / (last - first).max(1e-9) * (WIDTH - 220.0);
        let y = |us: f64| height - 40.0 - (log(us) - low) / (high - low).max(1e-9) * (height - 70.0);
        let mut svg =
            format!(r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{}">"#, curve.title);
        for point in &curve.points {
            svg += &format!(
                r#"<text class="axis" x="{:.1}" y="{}" text-anchor="middle">{}</text>"#,
                x(point.size),
                height - 20.0,
                short(point.size)
            );
        }
        svg += &format!(r#"<text class="axis" x="60" y="{}">{}</text>"#, height - 4.0, curve.unit);
        let Some(first) = curve.points.first() else { return svg + "</svg>" };
        for (side, (name, _)) in first.frames_us.iter().enumerate() {
            let places =
                curve.points.iter().map(|p| (x(p.size), y(p.frames_us[side].1), p.frames_us[side].1));
            let path: Vec<String> = places.clone().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
            svg += &format!(r#"<polyline class="line s{side}" points="{}"/>"#, path.join(" "));
            for (x, y, us) in places.clone() {
                svg += &format!(
                    r#"<circle class="dot s{side}" cx="{x:.1}" cy="{y:.1}" r="3"><title>{us:.1} us</title></circle>"#
                );
            }
            if let Some((_, _, us)) = places.clone().next_back() {
                svg += &format!(
                    r#"<text class="small s{side}" x="{}" y="{}">{name}: {us:.0} us</text>"#,
                    WIDTH - 150.0,
                    20.0 + 18.0 * side as f64
                );
            }
        }
        svg + "</svg>"
    }
}

/// A size in few letters.
fn short(size: usize) -> String {
    match size {
        0..1024 => size.to_string(),
        1024..1_048_576 => format!("{}Ki", size >> 10),
        1_048_576..1_073_741_824 => format!("{}Mi", size >> 20),
        _ => format!("{}Gi", size >> 30),
    }
}
