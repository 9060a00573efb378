//! Which cases are run, and how they are grouped.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use regex::Regex;

/// Components of a case's name that make up a row of the table: `dEQP-VK.memory.mapping`.
const GROUP_DEPTH: usize = 3;

/// What is run by one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// The word.
    pub name: &'static str,
    /// Patterns of deqp, each a prefix and an asterisk.
    pub patterns: &'static [&'static str],
}

/// Memory: what Lockstep is about.
pub const MEMORY: Preset = Preset { name: "memory", patterns: &["dEQP-VK.memory.*"] };
/// Synchronisation, of both kinds.
pub const SYNCHRONIZATION: Preset = Preset {
    name: "synchronization",
    patterns: &["dEQP-VK.synchronization.*", "dEQP-VK.synchronization2.*"],
};
/// The API, and device addresses.
pub const API: Preset =
    Preset { name: "api", patterns: &["dEQP-VK.api.*", "dEQP-VK.binding_model.buffer_device_address.*"] };
/// Robustness.
pub const ROBUSTNESS: Preset = Preset { name: "robustness", patterns: &["dEQP-VK.robustness.*"] };
/// Everything.
pub const ALL: Preset = Preset { name: "all", patterns: &["dEQP-VK.*"] };

impl Preset {
    /// Returns whether a case belongs to the preset.
    pub fn has(&self, case: &str) -> bool {
        self.patterns.iter().any(|pattern| case.starts_with(pattern.trim_end_matches('*')))
    }
}

/// Reads a list of cases: one a line, `#` for comments, or names of further lists (as in mustpass files).
pub fn read(path: &Path) -> Result<Vec<String>> {
    let lines = deqp_runner::read_lines([path])
        .with_context(|| format!("reading the case list {}", path.display()))?;
    let lines =
        lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let cases: Vec<_> = lines.map(str::to_owned).collect();
    if let Some(bad) = cases.iter().find(|case| !is_name(case)) {
        let shown: String = bad.chars().take(60).collect();
        bail!("{} is no list of cases: {shown:?}", path.display());
    }
    Ok(cases)
}

fn is_name(text: &str) -> bool {
    text.contains('.') && text.chars().all(|c| c.is_ascii_graphic() && c != ',' && c != '\'')
}

/// Keeps what `filter` matches, without duplicates, sorted.
pub fn select(cases: Vec<String>, preset: Preset, filter: Option<&Regex>) -> Vec<String> {
    let mut seen = HashSet::new();
    let wanted = |case: &String| preset.has(case) && filter.is_none_or(|filter| filter.is_match(case));
    let mut cases: Vec<_> =
        cases.into_iter().filter(|case| wanted(case) && seen.insert(case.clone())).collect();
    cases.sort();
    cases
}

/// Returns the group that a case counts for in the table.
pub fn group_of(case: &str) -> &str {
    let mut dots = case.match_indices('.').map(|(at, _)| at);
    match dots.nth(GROUP_DEPTH - 1) {
        Some(end) => &case[..end],
        None => case.rsplit_once('.').map_or(case, |(group, _)| group),
    }
}

/// Cuts sorted cases into pieces of at most `size` cases of one group each.
pub fn pieces(cases: &[String], size: usize) -> Vec<&[String]> {
    let groups = cases.chunk_by(|a, b| group_of(a) == group_of(b));
    groups.flat_map(|group| group.chunks(size.max(1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_three_components_deep() {
        assert_eq!(group_of("dEQP-VK.memory.mapping.dedicated.simple"), "dEQP-VK.memory.mapping");
        assert_eq!(group_of("dEQP-VK.info.device"), "dEQP-VK.info");
    }

    #[test]
    fn pieces_do_not_cross_groups() {
        let cases = ["a.b.c.1", "a.b.c.2", "a.b.c.3", "a.b.d.1"].map(str::to_owned);

        let sizes: Vec<_> = pieces(&cases, 2).iter().map(|piece| piece.len()).collect();

        assert_eq!(sizes, [2, 1, 1]);
    }
}
