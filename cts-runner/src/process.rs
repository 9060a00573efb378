//! One supervised child process: bounded output, a time limit for each case, and nothing left behind.
//!
//! The child leads a process group of its own, has no standard input, and dies with the runner, however the
//! runner dies. Its standard output is read through [`Read`] line by line: long lines are cut, what is no
//! UTF-8 is replaced, and floods are dropped except for the lines that mark cases. The time limit starts anew
//! with every case. On drop the whole group is killed and the child reaped.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use signal_hook::low_level::signal_name;

use crate::parse;

/// The hidden subcommand that ties a program to the life of the runner; see [`exec`].
pub const EXEC_SUBCOMMAND: &str = "exec";

/// The longest line that is kept.
const LINE: usize = 4096;
/// Bytes of output besides case marks that are kept.
const OUTPUT: usize = 8 << 20;
/// Bytes of output after which a child is taken for broken.
const FLOOD: usize = 4 << 30;
/// Bytes of case marks after which a child is taken for broken.
const MARKS: usize = 256 << 20;
/// Bytes of standard error that are kept, from its end.
const ERRORS: usize = 512 << 10;
/// How often the child is left alone before looking whether the user wants to stop.
const TICK: Duration = Duration::from_millis(200);

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It exited with this code.
    Exited(i32),
    /// It died by this signal.
    Killed(i32),
    /// It made no progress and was killed.
    TimedOut,
    /// It wrote more than any sane program and was killed.
    Flooded,
    /// The user wants to stop, and it was killed.
    Stopped,
}

impl End {
    /// Returns whether the program decided itself to end, with an exit status that deqp uses.
    pub fn is_clean(self) -> bool {
        matches!(self, Self::Exited(0 | 1))
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with status {code}"),
            Self::Killed(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "killed by signal {signal} ({name})"),
                None => write!(f, "killed by signal {signal}"),
            },
            Self::TimedOut => f.write_str("no progress within the time limit"),
            Self::Flooded => f.write_str("wrote too much"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// Returns a command that runs `program` so that it dies with this process: this executable's [`exec`].
pub fn tied(program: &OsStr) -> Command {
    // Not by its name, which may belong to another build by now.
    let mut command = Command::new("/proc/self/exe");
    command.arg(EXEC_SUBCOMMAND).arg(std::process::id().to_string()).arg(program);
    command
}

/// Becomes `program`, to be killed when the process `parent` dies. Returns only if that fails.
pub fn exec(parent: u32, program: &OsStr, args: &[impl AsRef<OsStr>]) -> io::Error {
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // The parent may have died before it could be noticed.
    if std::os::unix::process::parent_id() != parent {
        return io::Error::other("the runner is gone");
    }
    Command::new(program).args(args).exec()
}

/// A running child.
#[derive(Debug)]
pub struct Supervised<'a> {
    child: Child,
    /// Becomes readable when the child ends.
    pidfd: OwnedFd,
    stdout: Option<std::process::ChildStdout>,
    stderr: Option<std::process::ChildStderr>,
    stop: &'a AtomicBool,
    limit: Duration,
    deadline: Instant,
    lines: Lines,
    errors: VecDeque<u8>,
    end: Option<End>,
    reaped: Option<ExitStatus>,
}

impl<'a> Supervised<'a> {
    /// Starts `command`, to be killed when it makes no progress for `limit`, or when `stop` is set.
    pub fn start(mut command: Command, limit: Duration, stop: &'a AtomicBool) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let pidfd = match rustix::process::pidfd_open(pid(&child), PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                child.kill()?;
                child.wait()?;
                return Err(error.into());
            }
        };
        Ok(Self {
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            child,
            pidfd,
            stop,
            limit,
            deadline: Instant::now() + limit,
            lines: Lines::default(),
            errors: VecDeque::new(),
            end: None,
            reaped: None,
        })
    }

    /// Waits until the child has ended, kills what is left of its group, and returns how it ended and the end
    /// of its standard error.
    pub fn finish(mut self) -> io::Result<(End, String)> {
        // Whoever read standard output may have stopped early.
        let mut sink = [0; 4096];
        while self.end.is_none() && matches!(self.read(&mut sink), Ok(1..)) {}
        let status = self.reap()?;
        let end = match self.end {
            Some(end) => end,
            None => of_status(status),
        };
        let (head, tail) = self.errors.as_slices();
        let errors = String::from_utf8_lossy(&[head, tail].concat()).into_owned();
        Ok((end, errors))
    }

    fn reap(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.reaped {
            return Ok(status);
        }
        // The group exists for as long as its leader is not reaped, so this cannot hit another one.
        match rustix::process::kill_process_group(pid(&self.child), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        let status = self.child.wait()?;
        self.reaped = Some(status);
        Ok(status)
    }

    /// Waits for output, for the child's end, or for a reason to end it. Returns whether the child is still
    /// there.
    fn wait(&mut self) -> io::Result<bool> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(self.give_up(End::Stopped));
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.give_up(End::TimedOut));
        }
        let ready = self.poll(left.min(TICK))?;
        self.take(&ready)?;
        if ready.ended {
            // What it wrote before it ended is in the pipes. Who else holds them is not waited for.
            loop {
                let rest = self.poll(Duration::ZERO)?;
                if !self.take(&rest)? {
                    break;
                }
            }
            self.stdout = None;
            self.lines.finish();
            return Ok(false);
        }
        Ok(true)
    }

    fn poll(&self, wait: Duration) -> io::Result<Ready> {
        let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
        let pipes = [self.stdout.as_ref().map(AsFd::as_fd), self.stderr.as_ref().map(AsFd::as_fd)];
        fds.extend(pipes.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let timeout = Timespec::try_from(wait).map_err(io::Error::other)?;
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut events = fds.iter().map(|fd| !fd.revents().is_empty());
        let ended = events.next() == Some(true);
        let mut next = |pipe: bool| pipe && events.next() == Some(true);
        Ok(Ready { ended, stdout: next(pipes[0].is_some()), stderr: next(pipes[1].is_some()) })
    }

    /// Reads what is ready. Returns whether there was something.
    fn take(&mut self, ready: &Ready) -> io::Result<bool> {
        let mut buffer = [0; 64 << 10];
        let mut any = false;
        if ready.stdout
            && let Some(pipe) = &mut self.stdout
        {
            let read = pipe.read(&mut buffer)?;
            any |= read > 0;
            if read == 0 {
                self.stdout = None;
                self.lines.finish();
            }
            if self.lines.push(&buffer[..read]) {
                self.deadline = Instant::now() + self.limit;
            }
            if self.lines.flooded() {
                return Err(self.give_up(End::Flooded));
            }
        }
        if ready.stderr
            && let Some(pipe) = &mut self.stderr
        {
            let read = pipe.read(&mut buffer)?;
            any |= read > 0;
            if read == 0 {
                self.stderr = None;
            }
            self.errors.extend(&buffer[..read]);
            let surplus = self.errors.len().saturating_sub(ERRORS);
            self.errors.drain(..surplus);
        }
        Ok(any)
    }

    /// Notes why the child is not waited for any longer. The kind of the error tells the library's parser.
    fn give_up(&mut self, end: End) -> io::Error {
        self.end = Some(end);
        match end {
            End::TimedOut => io::Error::new(ErrorKind::TimedOut, end.to_string()),
            _ => io::Error::other(end.to_string()),
        }
    }
}

impl Read for Supervised<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.lines.ready.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            if self.end.is_some() || !self.wait()? {
                // The last lines may have come with the end.
                return self.lines.ready.read(buffer);
            }
        }
    }
}

impl Drop for Supervised<'_> {
    fn drop(&mut self) {
        // After `finish` there is nothing left to kill; else nobody is there to tell of an error.
        let _ = self.reap();
    }
}

struct Ready {
    ended: bool,
    stdout: bool,
    stderr: bool,
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn of_status(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, Some(signal)) => End::Killed(signal),
        (None, None) => End::Exited(-1),
    }
}

/// Cuts a stream of bytes into lines of valid text and bounded length, and bounds the whole.
#[derive(Debug, Default)]
struct Lines {
    /// Whole lines, to be read.
    ready: VecDeque<u8>,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    seen: usize,
    kept: usize,
    marks: usize,
}

impl Lines {
    /// Adds bytes. Returns whether a case began or ended.
    fn push(&mut self, bytes: &[u8]) -> bool {
        self.seen = self.seen.saturating_add(bytes.len());
        let mut progress = false;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, whole) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = LINE.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&text[..text.len().min(room)]);
            if whole {
                progress |= self.line();
            }
        }
        progress
    }

    /// Ends the last line, which may lack its newline.
    fn finish(&mut self) {
        if !self.partial.is_empty() {
            self.line();
        }
    }

    fn line(&mut self) -> bool {
        let text = String::from_utf8_lossy(&self.partial);
        let mark = parse::is_mark(&text);
        let length = text.len() + 1;
        let count = if mark { &mut self.marks } else { &mut self.kept };
        *count += length;
        if mark || *count <= OUTPUT {
            self.ready.extend(text.as_bytes());
            self.ready.push_back(b'\n');
        }
        self.partial.clear();
        mark
    }

    fn flooded(&self) -> bool {
        self.seen > FLOOD || self.marks > MARKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: &mut Lines) -> String {
        lines.finish();
        String::from_utf8(lines.ready.iter().copied().collect()).expect("text")
    }

    #[test]
    fn a_line_that_never_ends_is_cut() {
        let mut lines = Lines::default();

        lines.push(&[b'x'; 10 * LINE]);

        assert_eq!(text(&mut lines).len(), LINE + 1);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let mut lines = Lines::default();

        lines.push(b"a\xff\n");

        assert_eq!(text(&mut lines), "a\u{fffd}\n");
    }

    #[test]
    fn only_marks_of_cases_are_progress() {
        let mut lines = Lines::default();

        assert!(!lines.push(b"still at it\nTest case 'dEQP-VK.a.b'"));
        assert!(lines.push(b"..\n"));
        assert!(lines.push(b"  Pass (fine)\n"));
    }

    #[test]
    fn a_signal_is_told_by_its_name() {
        assert_eq!(End::Killed(11).to_string(), "killed by signal 11 (SIGSEGV)");
    }

    #[test]
    fn marks_of_cases_survive_a_flood() {
        let mut lines = Lines::default();
        let noise = [b"noise noise noise\n".as_slice(); 1000].concat();
        while lines.kept <= 2 * OUTPUT {
            lines.push(&noise);
        }

        lines.push(b"Test case 'dEQP-VK.a.b'..\n");

        let text = text(&mut lines);
        assert!(text.len() <= OUTPUT + 100);
        assert!(text.ends_with("Test case 'dEQP-VK.a.b'..\n"));
    }
}
