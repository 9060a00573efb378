//! The measurement: explicit synchronisation against coherent memory, in interleaved rounds of one run.
//!
//! All sides play the same frames of the same world with the same checks. A round is a few turns; in a turn
//! each side plays some frames, and the order turns round every time. What counts is the ratio of the means
//! within a round, so that slow changes of the machine's speed fall out. Shared memory exists for one side at
//! a time: what tracking costs must not be charged to the explicit side.

use std::rc::Rc;

use anyhow::Result;
use lockstep_statistics::{confidence, median, range, trimmed_mean};

use crate::memory::MemoryKind;
use crate::renderer::Renderer;
use crate::say;
use crate::stage::{FrameTime, Show, Stage};

/// Turns of a round. They are short, since the scheduler gives threads good and bad places for a while.
const TURNS: u32 = 3;
/// Frames of one side in one turn.
const FRAMES: u32 = 10;
/// Frames before those, while the side's new memory is touched for the first time.
const WARM_UP: u32 = 3;

/// One side of the comparison.
struct Side {
    name: &'static str,
    kind: MemoryKind,
    show: Show,
    wall: Times,
    cpu: Times,
}

/// Milliseconds of all frames, and the trimmed mean of every round.
#[derive(Debug, Default)]
struct Times {
    frames: Vec<f64>,
    rounds: Vec<f64>,
}

/// Plays all rounds, prints the result, and gives the shows back. The first side is the yardstick.
pub(crate) fn run(
    renderer: &Rc<Renderer>,
    sides: &[(&'static str, MemoryKind)],
    rounds: u32,
) -> Result<Vec<Show>> {
    let frames = TURNS * FRAMES;
    say!("Measuring {rounds} rounds of {frames} frames on each side, without a window ...");
    let mut sides: Vec<Side> = sides.iter().map(|&(name, kind)| Side::new(name, kind)).collect();
    for turn in 0..rounds * TURNS {
        sides = sides.into_iter().map(|side| side.turn(renderer)).collect::<Result<_>>()?;
        sides.reverse();
        if turn % TURNS == TURNS - 1 {
            sides.iter_mut().for_each(Side::end_round);
        }
    }
    if (rounds * TURNS) % 2 == 1 {
        sides.reverse();
    }
    print(&sides);
    Ok(sides.into_iter().map(|side| side.show).collect())
}

impl Side {
    fn new(name: &'static str, kind: MemoryKind) -> Self {
        Self { name, kind, show: Show::new(name), wall: Times::default(), cpu: Times::default() }
    }

    fn turn(self, renderer: &Rc<Renderer>) -> Result<Self> {
        let Self { name, kind, show, mut wall, mut cpu } = self;
        let mut stage = Stage::new(renderer, kind, show)?;
        (0..WARM_UP).try_for_each(|_| stage.frame(None).map(drop))?;
        let times: Vec<FrameTime> = (0..FRAMES).map(|_| stage.frame(None)).collect::<Result<_>>()?;
        wall.frames.extend(times.iter().map(|time| time.wall.as_secs_f64() * 1e3));
        cpu.frames.extend(times.iter().map(|time| time.cpu.as_secs_f64() * 1e3));
        Ok(Self { name, kind, show: stage.strike(), wall, cpu })
    }

    fn end_round(&mut self) {
        self.wall.end_round();
        self.cpu.end_round();
    }
}

impl Times {
    fn end_round(&mut self) {
        let frames = (TURNS * FRAMES) as usize;
        self.rounds.push(trimmed_mean(&self.frames[self.frames.len() - frames..]));
    }
}

fn print(sides: &[Side]) {
    for side in sides {
        let (wall, cpu) = (median(&side.wall.frames), median(&side.cpu.frames));
        say!("  {:<20} median frame {wall:7.3} ms, processor time in it {cpu:7.3} ms", side.name);
    }
    let Some((yardstick, others)) = sides.split_first() else { return };
    for side in others {
        say!("Overhead of {} over {}:", side.name, yardstick.name);
        print_overhead("frame time", &side.wall, &yardstick.wall);
        print_overhead("processor time", &side.cpu, &yardstick.cpu);
    }
}

fn print_overhead(what: &str, times: &Times, yardstick: &Times) {
    let ratios = times.rounds.iter().zip(&yardstick.rounds).map(|(time, base)| time / base);
    let percent: Vec<f64> = ratios.map(|ratio| (ratio - 1.0) * 100.0).collect();
    let (low, high) = range(&percent);
    let trust = match confidence(&percent) {
        Some((low, high)) => format!("95 % confidence {low:+.2} .. {high:+.2}, "),
        None => String::new(),
    };
    let (median, rounds) = (median(&percent), percent.len());
    say!("  {what:<20} {median:+6.2} %  (median of {rounds} rounds; {trust}range {low:+.2} .. {high:+.2})");
}
