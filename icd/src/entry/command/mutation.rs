//! Leaves a command out of recordings, to see that some test notices (`scripts/mutations`).

use std::sync::LazyLock;

/// Whether `LOCKSTEP_MUTATION` names this entry point.
pub(super) fn leaves_out(name: &str) -> bool {
    static NAME: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("LOCKSTEP_MUTATION").ok());
    NAME.as_deref() == Some(name)
}
