//! Where a run is: a bar on a terminal, else a line now and then.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a line is written where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(15);

/// Writes a line for the user to standard error. What cannot be written there cannot be told either.
pub fn tell(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

/// Progress over a number of results.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    what: &'static str,
    total: usize,
    done: usize,
    failed: usize,
    told: Instant,
}

impl Progress {
    /// Begins with `done` of `total` results there already.
    pub fn new(what: &'static str, total: usize, done: usize) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total as u64).with_position(done as u64).with_message("");
            let style = "{prefix} [{bar:30}] {pos}/{len} {msg} {elapsed}, {eta} to go";
            let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar.set_prefix(what);
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_secs(1));
            bar
        });
        Self { bar, what, total, done, failed: 0, told: Instant::now() }
    }

    /// Counts results, of which some failed.
    pub fn add(&mut self, results: usize, failed: usize) {
        self.done += results;
        self.failed += failed;
        let failed = if self.failed == 0 { String::new() } else { format!("{} failed", self.failed) };
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.done as u64);
                bar.set_message(failed);
            }
            None if self.told.elapsed() >= INTERVAL => {
                self.told = Instant::now();
                tell(&format!("{}: {} of {} {failed}", self.what, self.done, self.total));
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
