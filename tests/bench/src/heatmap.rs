//! The heat map of a timeline (`LOCKSTEP_TRACE`): which pages travelled with which submission, as inline SVG.
//!
//! Flushes go to the right, pages of the mapped objects downwards. A cell stands for some flushes and some
//! pages, for so many that the picture stays small. Colours are attributes and text is of the page's colour,
//! so the picture is readable on light and dark, and takes nothing over from the page and leaves nothing
//! there.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;

use anyhow::{Context, Result};
use serde_json::Value;

/// Most cells to the right and downwards.
const COLUMNS: u64 = 400;
const ROWS: u64 = 200;
/// Most bytes of a picture.
const LIMIT: usize = 200 << 10;
/// Most objects shown: those of which most pages travelled.
const OBJECTS: usize = 48;
/// Width of the labels, size of the cells together, least height of an object, and the gap below it, in
/// pixels.
const LABELS: u64 = 170;
const WIDTH: u64 = 800;
const HEIGHT: u64 = 400;
const LEAST: u64 = 13;
const GAP: u64 = 5;

const PAGE: u64 = 4096;

/// Device and object.
type Object = (u64, u64);

/// Pages of an object that travelled, or were found not to have to.
#[derive(Debug)]
struct Run {
    flush: u64,
    object: Object,
    pages: Range<u64>,
    changed: u64,
    by_device: bool,
}

/// What the picture needs of a timeline.
#[derive(Debug, Default)]
struct Timeline {
    flushes: Range<u64>,
    /// Pages of each object.
    objects: BTreeMap<Object, u64>,
    runs: Vec<Run>,
}

impl Timeline {
    fn parse(trace: &str) -> Result<Self> {
        let trace: Value = serde_json::from_str(trace).context("the timeline is no JSON")?;
        let events = trace["traceEvents"].as_array().context("there are no traceEvents")?;
        let mut timeline = Self::default();
        for event in events {
            let name = event["name"].as_str().unwrap_or_default();
            let number = |arg: &str| {
                event["args"][arg].as_u64().with_context(|| format!("{name:?} without {arg}: {event}"))
            };
            let object = || anyhow::Ok((number("device")?, number("object")?));
            match name {
                "flush" => timeline.see(number("flush")?),
                "map" => {
                    let pages = timeline.objects.entry(object()?).or_default();
                    *pages = number("pages")?.max(*pages);
                }
                "dirty" | "pulled" => {
                    let (page, pages) = (number("page")?, number("pages")?);
                    let run = Run {
                        flush: number("flush")?,
                        object: object()?,
                        pages: page..page.saturating_add(pages),
                        changed: number("changed")?,
                        by_device: name == "pulled",
                    };
                    let pages = timeline.objects.entry(run.object).or_default();
                    *pages = run.pages.end.max(*pages);
                    timeline.see(run.flush);
                    timeline.runs.push(run);
                }
                _ => {}
            }
        }
        Ok(timeline)
    }

    fn see(&mut self, flush: u64) {
        let first = if self.flushes.is_empty() { flush } else { self.flushes.start.min(flush) };
        self.flushes = first..self.flushes.end.max(flush.saturating_add(1));
    }

    /// The objects that are shown, in order, and how many are not.
    fn shown(&self) -> (Vec<Object>, usize) {
        let mut travelled: BTreeMap<_, u64> = self.objects.keys().map(|object| (*object, 0)).collect();
        for run in &self.runs {
            let pages = travelled.entry(run.object).or_default();
            *pages = pages.saturating_add(run.pages.end - run.pages.start);
        }
        let mut objects: Vec<_> = travelled.into_iter().collect();
        objects.sort_by_key(|(_, pages)| std::cmp::Reverse(*pages));
        let left_out = objects.len().saturating_sub(OBJECTS);
        objects.truncate(OBJECTS);
        let mut objects: Vec<_> = objects.into_iter().map(|(object, _)| object).collect();
        objects.sort_unstable();
        (objects, left_out)
    }
}

/// Some pages during some flushes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    written: u64,
    pulled: u64,
    /// Pages that were looked at, by the CPU's side and by the device's.
    dirty: u64,
    compared: u64,
}

/// How a cell looks, from [`COLOURS`] and [`SHADES`].
type Look = (usize, usize);

const COLOURS: [(&str, &str); 4] = [
    ("currentColor", "dirty, unchanged"),
    ("#e8590c", "written by the CPU"),
    ("#228be6", "pulled from the device"),
    ("#ae3ec9", "both"),
];
const SHADES: [&str; 4] = [".3", ".5", ".75", "1"];

impl Cell {
    /// `bytes`: how many there are in the pages of a cell.
    fn look(&self, bytes: u64) -> Option<Look> {
        let shade = |changed: u64| match changed.saturating_mul(100) / bytes.max(1) {
            0 => 0,
            1..10 => 1,
            10..50 => 2,
            _ => 3,
        };
        match (self.written, self.pulled) {
            (0, 0) if self.dirty > 0 => Some((0, 0)),
            (0, 0) if self.compared > 0 => Some((2, 0)),
            (0, 0) => None,
            (written, 0) => Some((1, shade(written))),
            (0, pulled) => Some((2, shade(pulled))),
            (written, pulled) => Some((3, shade(written.max(pulled)))),
        }
    }

    fn add(&mut self, run: &Run, pages: u64) {
        let all = u128::from((run.pages.end - run.pages.start).max(1));
        let part = u128::from(run.changed) * u128::from(pages) / all;
        // What changed does not vanish where it is spread.
        let part = u64::try_from(part).unwrap_or(u64::MAX).max(u64::from(run.changed > 0));
        let (bytes, looked) = match run.by_device {
            true => (&mut self.pulled, &mut self.compared),
            false => (&mut self.written, &mut self.dirty),
        };
        *bytes = bytes.saturating_add(part);
        *looked = looked.saturating_add(pages);
    }
}

/// The cells of an object.
#[derive(Debug)]
struct Block {
    object: Object,
    pages: u64,
    rows: u64,
    columns: u64,
    cells: Vec<Cell>,
}

impl Block {
    /// The pages of a row.
    fn pages(&self, row: u64) -> Range<u64> {
        let at = |row: u64| share(row, self.pages, self.rows);
        at(row)..at(row + 1)
    }

    fn add(&mut self, run: &Run, column: u64) {
        let mut row = share(run.pages.start, self.rows, self.pages).saturating_sub(1);
        while row < self.rows && self.pages(row).start < run.pages.end {
            let pages = self.pages(row);
            let common = pages.end.min(run.pages.end).saturating_sub(pages.start.max(run.pages.start));
            if common > 0 {
                self.cells[usize_of(row * self.columns + column)].add(run, common);
            }
            row += 1;
        }
    }

    fn row(&self, row: u64) -> &[Cell] {
        &self.cells[usize_of(row * self.columns)..usize_of((row + 1) * self.columns)]
    }

    /// A path for each look: the cells of a row that look alike, side by side, are one line.
    fn paths(&self, flushes_a_column: u64) -> BTreeMap<Look, String> {
        let mut paths = BTreeMap::<Look, String>::new();
        for row in 0..self.rows {
            let pages = self.pages(row);
            let bytes = (pages.end - pages.start).saturating_mul(PAGE).saturating_mul(flushes_a_column);
            let mut from = 0;
            for cells in self.row(row).chunk_by(|one, other| one.look(bytes) == other.look(bytes)) {
                if let Some(look) = cells.first().and_then(|cell| cell.look(bytes)) {
                    let path = paths.entry(look).or_default();
                    let _ = write!(path, "M{from} {row}.5h{}", cells.len());
                }
                from += cells.len();
            }
        }
        paths
    }
}

/// `whole` × `part` ÷ `of`.
fn share(part: u64, whole: u64, of: u64) -> u64 {
    u64::try_from(u128::from(part) * u128::from(whole) / u128::from(of.max(1))).unwrap_or(u64::MAX)
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A size as people write it.
fn size(bytes: u64) -> String {
    match bytes {
        0..0x400 => format!("{bytes} bytes"),
        0x400..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// A heat map of what a timeline holds.
pub(crate) fn svg(trace: &str) -> Result<String> {
    let timeline = Timeline::parse(trace)?;
    let (mut columns, mut rows) = (COLUMNS, ROWS);
    loop {
        let picture = draw(&timeline, columns, rows);
        if picture.len() <= LIMIT || (columns == 1 && rows == 1) {
            return Ok(picture);
        }
        // What cannot be merged is shown more coarsely.
        if columns >= rows {
            columns = (columns * 3 / 4).max(1);
        } else {
            rows = (rows * 3 / 4).max(1);
        }
    }
}

/// The cells of the objects that are shown: at most `columns`, and `rows` or one an object.
fn blocks(timeline: &Timeline, objects: &[Object], columns: u64, rows: u64) -> Vec<Block> {
    let flushes = timeline.flushes.end - timeline.flushes.start;
    let pages = |object: &Object| timeline.objects.get(object).copied().unwrap_or(0).max(1);
    let all = objects.iter().map(pages).fold(0, u64::saturating_add);
    let more = rows.saturating_sub(objects.len() as u64);
    let block = |object: &Object| {
        let pages = pages(object);
        let rows = (1 + share(pages, more, all)).min(pages);
        let cells = vec![Cell::default(); usize_of(rows * columns)];
        Block { object: *object, pages, rows, columns, cells }
    };
    let mut blocks: Vec<_> = objects.iter().map(block).collect();
    for run in &timeline.runs {
        if let Ok(at) = objects.binary_search(&run.object) {
            let column = share(run.flush - timeline.flushes.start, columns, flushes);
            blocks[at].add(run, column.min(columns - 1));
        }
    }
    blocks
}

fn draw(timeline: &Timeline, columns: u64, rows: u64) -> String {
    let (objects, left_out) = timeline.shown();
    let flushes = timeline.flushes.end.saturating_sub(timeline.flushes.start);
    let mut body = String::new();
    let mut y = 20;
    if flushes == 0 {
        let _ = write!(body, r#"<text x="0" y="{y}">no flush was recorded</text>"#);
    } else {
        let columns = columns.min(flushes);
        let blocks = blocks(timeline, &objects, columns, rows);
        let all = blocks.iter().map(|block| block.rows).sum::<u64>();
        let devices = objects.iter().any(|(device, _)| *device != objects[0].0);
        for block in &blocks {
            let height = share(block.rows, HEIGHT, all).max(LEAST);
            draw_block(&mut body, block, y, height, devices, flushes.div_ceil(columns));
            y += height + GAP;
        }
        y += 12;
        let (first, last, end) = (timeline.flushes.start, timeline.flushes.end - 1, LABELS + WIDTH);
        let _ = write!(body, r#"<text x="{LABELS}" y="{y}">flush {first}</text>"#);
        let _ = write!(body, r#"<text x="{end}" y="{y}" text-anchor="end">flush {last}</text>"#);
    }
    if left_out > 0 {
        y += 16;
        let _ = write!(body, r#"<text x="0" y="{y}">{left_out} more objects are not shown</text>"#);
    }
    y += 24;
    for (at, (colour, meaning)) in (0..).zip(COLOURS) {
        let (x, top) = (LABELS + at * 170, y - 10);
        let opacity = if at == 0 { SHADES[0] } else { SHADES[3] };
        let _ = write!(
            body,
            r#"<rect x="{x}" y="{top}" width="12" height="12" fill="{colour}" fill-opacity="{opacity}"/>"#
        );
        let _ = write!(body, r#"<text x="{}" y="{y}">{meaning}</text>"#, x + 18);
    }
    let (width, height) = (LABELS + WIDTH + 10, y + 10);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"100%\" role=\"img\" \
         aria-label=\"Pages that travelled with each flush\" font-family=\"system-ui,sans-serif\" \
         font-size=\"11\" fill=\"currentColor\">{body}</svg>"
    )
}

fn draw_block(body: &mut String, block: &Block, y: u64, height: u64, devices: bool, flushes_a_column: u64) {
    let (device, object) = block.object;
    let device = if devices { format!("device {device}, ") } else { String::new() };
    let label = format!("{device}object {object}, {}", size(block.pages.saturating_mul(PAGE)));
    let (right, middle) = (LABELS - 8, y + height / 2 + 4);
    let _ = write!(body, r#"<text x="{right}" y="{middle}" text-anchor="end">{label}</text>"#);
    let (across, down) = (WIDTH as f64 / block.columns as f64, height as f64 / block.rows as f64);
    let _ = write!(
        body,
        r#"<g transform="translate({LABELS} {y}) scale({across:.4} {down:.4})" shape-rendering="crispEdges">"#
    );
    for ((colour, shade), path) in block.paths(flushes_a_column) {
        let (colour, opacity) = (COLOURS[colour].0, SHADES[shade]);
        let _ = write!(body, r#"<path stroke="{colour}" stroke-opacity="{opacity}" d="{path}"/>"#);
    }
    // Above the cells, so that whoever points at a row is told of it.
    for row in 0..block.rows {
        let pages = block.pages(row);
        let sum = |of: fn(&Cell) -> u64| block.row(row).iter().map(of).fold(0, u64::saturating_add);
        let (written, pulled) = (sum(|cell| cell.written), sum(|cell| cell.pulled));
        let (columns, last) = (block.columns, pages.end.saturating_sub(1));
        let _ = write!(
            body,
            r#"<rect y="{row}" width="{columns}" height="1" fill-opacity=".05"><title>object {object}, pages {} to {last}: {written} bytes written, {pulled} pulled</title></rect>"#,
            pages.start
        );
    }
    body.push_str("</g>");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, args: &Value) -> Value {
        serde_json::json!({"name": name, "ph": "i", "args": args})
    }

    fn map(object: u64, pages: u64) -> Value {
        event("map", &serde_json::json!({"device": 1, "object": object, "pages": pages}))
    }

    fn run(name: &str, flush: u64, object: u64, pages: Range<u64>, changed: u64) -> Value {
        let (page, pages) = (pages.start, pages.end - pages.start);
        let args = serde_json::json!({"device": 1, "object": object, "flush": flush, "page": page, "pages": pages,
            "changed": changed});
        event(name, &args)
    }

    fn flush(number: u64) -> Value {
        event("flush", &serde_json::json!({"device": 1, "flush": number, "pages": 0, "bytes": 0}))
    }

    fn picture(events: &[Value]) -> String {
        svg(&serde_json::json!({ "traceEvents": events }).to_string()).unwrap()
    }

    /// The path drawn in a colour and shade.
    fn path(picture: &str, colour: usize, shade: usize) -> Option<&str> {
        let stroke = format!(r#"stroke="{}" stroke-opacity="{}" d=""#, COLOURS[colour].0, SHADES[shade]);
        picture.split_once(&stroke).and_then(|(_, rest)| Some(rest.split_once('"')?.0))
    }

    #[test]
    fn each_page_is_where_it_belongs_and_in_its_colour() {
        let mut events = vec![map(3, 8)];
        events.extend((1..=4).map(flush));
        events.push(run("dirty", 3, 3, 5..7, 2 * 4096));
        events.push(run("dirty", 1, 3, 0..1, 0));
        events.push(run("pulled", 2, 3, 7..8, 40));
        let picture = picture(&events);
        assert_eq!(path(&picture, 1, 3), Some("M2 5.5h1M2 6.5h1"));
        assert_eq!(path(&picture, 0, 0), Some("M0 0.5h1"));
        assert_eq!(path(&picture, 2, 0), Some("M1 7.5h1"));
        assert!(picture.contains(">object 3, 32 KiB</text>"), "{picture}");
        assert!(picture.contains("<title>object 3, pages 5 to 5: 4096 bytes written, 0 pulled</title>"));
        assert!(picture.contains(">flush 1</text>") && picture.contains(">flush 4</text>"));
    }

    #[test]
    fn flushes_in_which_the_same_pages_travel_are_one_line() {
        let mut events = vec![map(1, 1)];
        events.extend((1..=100).flat_map(|number| [flush(number), run("dirty", number, 1, 0..1, 4096)]));
        assert_eq!(path(&picture(&events), 1, 3), Some("M0 0.5h100"));
    }

    #[test]
    fn what_both_wrote_has_a_colour_of_its_own() {
        let events = vec![map(1, 1), flush(1), run("dirty", 1, 1, 0..1, 1), run("pulled", 1, 1, 0..1, 4000)];
        assert_eq!(path(&picture(&events), 3, 3), Some("M0 0.5h1"));
    }

    #[test]
    fn objects_are_apart_and_large_ones_take_more_room() {
        let mut events = vec![map(3, 64 << 8), map(9, 1), flush(1)];
        events.push(run("dirty", 1, 9, 0..1, 4096));
        events.push(run("dirty", 1, 3, 0..64 << 8, 64 << 20));
        let picture = picture(&events);
        assert!(picture.contains(">object 3, 64 MiB</text>") && picture.contains(">object 9, 4 KiB</text>"));
        assert_eq!(picture.matches("<g ").count(), 2);
        // All rows of the first, and none beyond what was asked for.
        assert_eq!(picture.matches("<title>object 3,").count(), 198);
        assert_eq!(path(&picture, 1, 3).map(|path| path.matches('M').count()), Some(198));
        assert!(picture.contains("pages 16301 to 16383: "), "the last page is shown");
    }

    #[test]
    fn bytes_are_neither_lost_nor_counted_twice_where_pages_share_a_cell() {
        let mut events = vec![map(1, 1000)];
        events.extend((1..=1000).map(flush));
        events.extend((1..=1000).map(|at| run("dirty", at, 1, at - 1..at, 10)));
        let timeline = Timeline::parse(&serde_json::json!({ "traceEvents": events }).to_string()).unwrap();
        let blocks = blocks(&timeline, &[(1, 1)], COLUMNS, ROWS);
        assert_eq!(blocks[0].cells.iter().map(|cell| cell.written).sum::<u64>(), 10_000);
        assert_eq!(blocks[0].cells.iter().map(|cell| cell.dirty).sum::<u64>(), 1000);
    }

    #[test]
    fn a_picture_stays_small_whatever_there_is() {
        // Nothing in it can be merged.
        let mut events = vec![map(1, ROWS)];
        for number in 1..=COLUMNS {
            events.push(flush(number));
            for page in (number % 2..ROWS).step_by(2) {
                events.push(run("dirty", number, 1, page..page + 1, 9));
            }
        }
        let trace = serde_json::json!({ "traceEvents": events }).to_string();
        assert!(draw(&Timeline::parse(&trace).unwrap(), COLUMNS, ROWS).len() > LIMIT);
        let picture = svg(&trace).unwrap();
        assert!(picture.len() <= LIMIT && picture.len() > LIMIT / 10, "{}", picture.len());
    }

    #[test]
    fn the_objects_shown_are_those_of_which_most_travelled() {
        let mut events = vec![flush(1)];
        events
            .extend((1..=60).flat_map(|object| [map(object, 9), run("pulled", 1, object, 0..object % 9, 1)]));
        let picture = picture(&events);
        assert!(picture.contains("12 more objects are not shown"));
        assert!(!picture.contains(">object 9, ") && picture.contains(">object 8, "));
        assert_eq!(picture.matches("<g ").count(), OBJECTS);
    }

    #[test]
    fn devices_are_named_where_there_are_several() {
        let other = event("map", &serde_json::json!({"device": 2, "object": 1, "pages": 1}));
        let picture = picture(&[map(1, 1), other, flush(1)]);
        assert!(
            picture.contains(">device 1, object 1, 4 KiB<")
                && picture.contains(">device 2, object 1, 4 KiB<")
        );
    }

    #[test]
    fn a_timeline_without_flushes_says_so() {
        assert!(picture(&[]).contains("no flush was recorded"));
        assert!(picture(&[map(1, 1)]).contains("no flush was recorded"));
    }

    #[test]
    fn what_is_no_timeline_is_an_error() {
        assert!(svg("{").unwrap_err().to_string().contains("no JSON"));
        assert!(svg("{}").unwrap_err().to_string().contains("traceEvents"));
        let text = serde_json::json!({"traceEvents": [{"name": "dirty", "args": {}}]}).to_string();
        assert!(svg(&text).unwrap_err().to_string().contains("\"dirty\" without page"));
    }
}
