//! Whole programs that others wrote, or that stand on what others wrote, from their start to their end: on
//! the host's driver alone, on it again, and on Lockstep, in turns.
//!
//! They draw on an X server of their own (Xvfb). Those in Python need what `scripts/bench-python` installs,
//! which tells this program by `LOCKSTEP_BENCH_PYTHON` where it is.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lockstep_harness::loader;
use lockstep_statistics::median;
use serde::Serialize;

use crate::breakdown::Breakdown;
use crate::contest::Overhead;
use crate::side::{Side, whole};

/// A program with what it is to do.
struct Whole {
    name: &'static str,
    about: &'static str,
    command: fn() -> Option<Command>,
    /// What it prints is the same on each side.
    prints_results: bool,
}

const PROGRAMS: [Whole; 4] = [
    Whole { name: "vkcube", about: "2000 frames, presented at once", command: vkcube, prints_results: false },
    Whole {
        name: "glmark2",
        about: "three scenes of 500 frames, on zink",
        command: glmark2,
        prints_results: false,
    },
    Whole {
        name: "ncnn",
        about: "60 runs of a convolutional network",
        command: network,
        prints_results: true,
    },
    Whole {
        name: "wgpu",
        about: "80 products of matrices, read back",
        command: compute,
        prints_results: true,
    },
];

/// What they are called.
pub(crate) const NAMES: [&str; PROGRAMS.len()] = {
    let [a, b, c, d] = &PROGRAMS;
    [a.name, b.name, c.name, d.name]
};

fn vkcube() -> Option<Command> {
    let mut command = installed("vkcube")?;
    // 0: VK_PRESENT_MODE_IMMEDIATE_KHR.
    command.args(["--c", "2000", "--present_mode", "0", "--suppress_popups"]);
    Some(command)
}

fn glmark2() -> Option<Command> {
    let mut command = installed("glmark2")?;
    command.args([
        "--size",
        "400x300",
        "--benchmark",
        "buffer:update-fraction=0.5:update-method=map:nframes=500",
    ]);
    command.args(["--benchmark", "texture:nframes=500", "--benchmark", "shading:nframes=500"]);
    command.envs([
        ("LIBGL_ALWAYS_SOFTWARE", "1"),
        ("GALLIUM_DRIVER", "zink"),
        ("MESA_LOADER_DRIVER_OVERRIDE", "zink"),
    ]);
    Some(command)
}

fn network() -> Option<Command> {
    python("network.py", "60")
}

fn compute() -> Option<Command> {
    python("compute.py", "80")
}

fn python(script: &str, runs: &str) -> Option<Command> {
    let mut command =
        Command::new(std::env::var_os("LOCKSTEP_BENCH_PYTHON").filter(|path| !path.is_empty())?);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(script)).arg(runs);
    Some(command)
}

fn installed(program: &str) -> Option<Command> {
    let paths = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&paths).map(|at| at.join(program)).find(|path| path.exists())?;
    Some(Command::new(found))
}

/// How a program did.
#[derive(Debug, Serialize)]
pub(crate) struct Finished {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Milliseconds on the host alone.
    pub(crate) host_ms: f64,
    /// What the host alone takes more than itself.
    pub(crate) again: Overhead,
    /// What Lockstep takes more, and how much more processor time.
    pub(crate) wall: Overhead,
    pub(crate) cpu: Overhead,
    /// What the driver measured of itself, percent of the time on the host alone.
    pub(crate) driver_percent: f64,
}

/// One run of a program.
struct Run {
    wall_ms: f64,
    cpu_ms: f64,
    /// What Lockstep measured of itself.
    driver_ms: f64,
    printed: Vec<u8>,
}

/// Runs the programs that are wanted and are there; says which are not there.
pub(crate) fn measure(
    rounds: usize,
    wants: impl Fn(&str) -> bool,
    absent: impl Fn(&str),
) -> Result<Vec<Finished>> {
    if !NAMES.into_iter().any(&wants) {
        return Ok(Vec::new());
    }
    let Some(screen) = Screen::start()? else {
        absent("whole programs are left out: there is no Xvfb");
        return Ok(Vec::new());
    };
    let sides = whole();
    let mut finished = Vec::new();
    'programs: for program in PROGRAMS.iter().filter(|program| wants(program.name)) {
        if (program.command)().is_none() {
            absent(&format!("{} is left out: it is not installed", program.name));
            continue;
        }
        let mut runs = sides.each_ref().map(|_| Vec::new());
        let mut printed = None;
        for round in 0..=rounds {
            let mut order: Vec<usize> = (0..sides.len()).collect();
            order.rotate_left(round % sides.len());
            for index in order {
                let Some(run) = run_until_it_succeeds(program, &sides[index], &screen, &absent) else {
                    absent(&format!("{} is left out: it fails on {}", program.name, sides[index].name));
                    continue 'programs;
                };
                if program.prints_results {
                    let same = *printed.get_or_insert_with(|| run.printed.clone()) == run.printed;
                    ensure!(same, "{} had other results on {}", program.name, sides[index].name);
                }
                // The first time, files are read and shaders are compiled.
                if round > 0 {
                    runs[index].push(run);
                }
            }
        }
        let each =
            |get: fn(&Run) -> f64| runs.each_ref().map(|side| side.iter().map(get).collect::<Vec<f64>>());
        let ([host, again, lockstep], [host_cpu, _, lockstep_cpu]) =
            (each(|run| run.wall_ms), each(|run| run.cpu_ms));
        let [_, _, driver] = each(|run| run.driver_ms);
        finished.push(Finished {
            name: program.name,
            about: program.about,
            host_ms: median(&host),
            again: Overhead::of(&again, &host),
            wall: Overhead::of(&lockstep, &host),
            cpu: Overhead::of(&lockstep_cpu, &host_cpu),
            driver_percent: 100.0 * median(&driver) / median(&host),
        });
    }
    Ok(finished)
}

/// Runs a program to its end, which is tried three times: glmark2 on zink loses its window at times, on any
/// driver.
fn run_until_it_succeeds(
    program: &Whole,
    side: &Side,
    screen: &Screen,
    complain: &impl Fn(&str),
) -> Option<Run> {
    (0..3).find_map(|_| run(program, side, screen).inspect_err(|error| complain(&format!("{error:#}"))).ok())
}

/// Runs a program to its end.
fn run(program: &Whole, side: &Side, screen: &Screen) -> Result<Run> {
    let mut command = (program.command)().context("an installed program")?;
    let directory = tempfile::tempdir()?;
    let stats = directory.path().join("stats.json");
    side.apply(&mut command);
    command
        .env("DISPLAY", &screen.display)
        .env("XDG_RUNTIME_DIR", screen.runtime.path())
        .env("LOCKSTEP_STATS", &stats)
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    loader::restart_hang_limit();
    let (before, start) = (children_ms(), Instant::now());
    let output = command.output().with_context(|| format!("starting {}", program.name))?;
    let (wall_ms, cpu_ms) = (start.elapsed().as_secs_f64() * 1e3, children_ms() - before);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} on {}: {}\n{errors}", program.name, side.name, output.status);
    let driver_ms = if side.is_host { 0.0 } else { Breakdown::read(&stats)?.driver_ns() / 1e6 };
    Ok(Run { wall_ms, cpu_ms, driver_ms, printed: output.stdout })
}

/// Processor time of all children that have ended.
fn children_ms() -> f64 {
    // SAFETY: all zeros is a valid value of it.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is valid for the call.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    ms(usage.ru_utime) + ms(usage.ru_stime)
}

/// An X server for programs that draw.
struct Screen {
    server: Child,
    display: OsString,
    /// Some want one of their own.
    runtime: tempfile::TempDir,
}

impl Screen {
    fn start() -> Result<Option<Self>> {
        let Some(mut command) = installed("Xvfb") else { return Ok(None) };
        // It tells the number of the display it found; it stays when the last program leaves.
        command.args(["-displayfd", "1", "-screen", "0", "1024x768x24", "-noreset", "-nolisten", "tcp"]);
        let mut server =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("starting Xvfb")?;
        let mut number = String::new();
        BufReader::new(server.stdout.take().context("a pipe")?).read_line(&mut number)?;
        ensure!(!number.trim().is_empty(), "Xvfb found no display");
        let display = format!(":{}", number.trim()).into();
        Ok(Some(Self { server, display, runtime: tempfile::tempdir()? }))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
