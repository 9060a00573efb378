//! Broken assumptions that the kernel would report with a stack trace and go on after (kernel: `WARN_ON`).

/// Counts them. Whoever owns the object that the assumption is about owns one.
#[derive(Debug, Default)]
pub struct Warnings {
    count: u64,
}

impl Warnings {
    /// Reports `what` if the assumption is `broken`, and says whether it is (`WARN_ON`).
    pub fn warn_on(&mut self, broken: bool, what: &str) -> bool {
        if broken {
            self.count += 1;
            log::warn!("{what}");
        }
        broken
    }

    /// How many there were.
    pub fn warn_count(&self) -> u64 {
        self.count
    }
}
