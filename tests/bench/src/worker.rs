//! One side at work: a process that plays frames as it is asked to, and says how long they took.
//!
//! It is told how many frames to play, a number a line, and answers each with a line of JSON, a [`Turn`]. It
//! says `ready` first. At the end of its input it checks what the device saw, and says `right`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lockstep_harness::loader;
use serde::{Deserialize, Serialize};

use crate::shared::Sync;
use crate::side::Side;
use crate::workload::Program;

/// What some frames took.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Turn {
    /// Of each frame, in nanoseconds.
    pub(crate) wall_ns: Vec<u64>,
    /// Processor time of all threads in all of them.
    pub(crate) cpu_ns: u64,
    /// Page faults that needed no reading from a disk.
    pub(crate) faults: u64,
}

/// Plays a program's frames as asked on standard input.
pub(crate) fn run(program: &str, memory: &str) -> Result<()> {
    let program = Program::named(program).context("no such workload")?;
    let sync = Sync::named(memory).context("no such kind of memory")?;
    let mut workload = program.begin(sync);
    for _ in 0..program.warm_up() {
        workload.frame();
    }
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lines() {
        let frames: usize = line?.trim().parse().context("a number of frames")?;
        loader::restart_hang_limit();
        let mut turn = Turn { wall_ns: Vec::with_capacity(frames), ..Turn::default() };
        let (cpu, faults) = usage();
        let mut before = Instant::now();
        for _ in 0..frames {
            workload.frame();
            let now = Instant::now();
            turn.wall_ns.push(u64::try_from((now - before).as_nanos())?);
            before = now;
        }
        let (cpu_after, faults_after) = usage();
        (turn.cpu_ns, turn.faults) = (cpu_after - cpu, faults_after - faults);
        writeln!(out, "{}", serde_json::to_string(&turn)?)?;
    }
    workload.check();
    drop(workload);
    writeln!(out, "right")?;
    Ok(())
}

/// Processor time in nanoseconds and minor faults of all threads of this process so far.
fn usage() -> (u64, u64) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: as above.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    // SAFETY: zeroed is valid, and it was filled in.
    let faults = unsafe { usage.assume_init() }.ru_minflt;
    (time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs(), faults.unsigned_abs())
}

/// A worker, seen from the contest.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    /// Closed at the end.
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    what: String,
}

impl Worker {
    /// Starts a program on a side, with more environment, and waits until it is ready.
    pub(crate) fn start(program: Program, side: &Side, more: &[(&str, &str)]) -> Result<Self> {
        let mut command = match program.is_scene() {
            true => {
                let mut command = Command::new(beside("lockstep-scene")?);
                command.args(["--serve", side.sync.name()]);
                command
            }
            false => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["--worker", program.name(), side.sync.name()]);
                command
            }
        };
        side.apply(&mut command);
        command.envs(more.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let answers = BufReader::new(child.stdout.take().context("a pipe")?);
        let what = format!("{} on {}", program.name(), side.name);
        let mut worker = Self { ask: child.stdin.take(), child, answers, what };
        worker.expect("ready")?;
        Ok(worker)
    }

    /// Has frames played.
    pub(crate) fn play(&mut self, frames: usize) -> Result<Turn> {
        let ask = self.ask.as_mut().context("a worker at work")?;
        writeln!(ask, "{frames}")
            .and_then(|()| ask.flush())
            .with_context(|| format!("{} is gone", self.what))?;
        let line = self.answer()?;
        serde_json::from_str(&line).with_context(|| format!("{} said {line:?}", self.what))
    }

    /// Has it check what the device saw, and end.
    pub(crate) fn finish(mut self) -> Result<()> {
        drop(self.ask.take());
        self.expect("right")?;
        let status = self.child.wait()?;
        ensure!(status.success(), "{} ended with {status}", self.what);
        Ok(())
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        let line = self.answer()?;
        ensure!(line == word, "{} said {line:?}, not {word:?}", self.what);
        Ok(())
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        // Programs say other things, too, such as which device they took.
        while !line.starts_with(['{', 'r']) {
            line.clear();
            let read = self.answers.read_line(&mut line)?;
            ensure!(read != 0, "{} ended, see its last words above", self.what);
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that was not finished.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of this workspace that was built with this one.
fn beside(name: &str) -> Result<std::path::PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.exists(), "no {} beside this program: build it with the same profile", path.display());
    Ok(path)
}
