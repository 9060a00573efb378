//! Log lines on stderr, each starting with `lockstep: `.
//!
//! The driver has its own copy of the `log` crate's state, so that an application's logger is not touched.

use std::io::Write;

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // One write a line, so that lines of several threads do not mix. A closed stderr is no error.
            let line = format!("lockstep: {}\n", record.args());
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// Starts logging, or changes the level; the default is `warn`.
pub fn init(level: Option<LevelFilter>) {
    // Fails when it was set before, which is as good.
    let _ = log::set_logger(&Stderr);
    log::set_max_level(level.unwrap_or(LevelFilter::Warn));
}
