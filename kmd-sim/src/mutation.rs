//! Faults put in on purpose, in builds with `--cfg lockstep_mutation`: `LOCKSTEP_MUTATION` names what is left
//! out, and some test must notice (`scripts/mutations`).

use std::cell::Cell;
use std::sync::LazyLock;

thread_local! {
    static LEFT_OUT: Cell<bool> = const { Cell::new(false) };
}

/// Whether `LOCKSTEP_MUTATION` names this.
pub fn is_named(name: &str) -> bool {
    static NAME: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("LOCKSTEP_MUTATION").ok());
    NAME.as_deref() == Some(name)
}

/// A thread is in a command that flushes or pulls; if it is named, it does neither.
#[derive(Debug)]
pub struct Point {
    outer: bool,
}

impl Point {
    /// Enters a command.
    pub fn enter(name: &str) -> Self {
        let outer = LEFT_OUT.get();
        LEFT_OUT.set(outer || is_named(name));
        Self { outer }
    }
}

impl Drop for Point {
    fn drop(&mut self) {
        LEFT_OUT.set(self.outer);
    }
}

/// Whether this thread is in a command whose flush or pull is left out.
pub(crate) fn leaves_out() -> bool {
    LEFT_OUT.get()
}
