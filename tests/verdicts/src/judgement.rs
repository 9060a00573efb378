//! The judgements kept by hand, `docs/verdicts.toml`.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The file, below the repository.
pub const FILE: &str = "docs/verdicts.toml";

/// Commands and structures with one verdict for one reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The reason.
    pub why: String,
    /// Commands; those that are another name of one of them are meant, too.
    #[serde(default)]
    pub commands: Vec<String>,
    /// Structures, likewise.
    #[serde(default)]
    pub structures: Vec<String>,
}

/// Extensions that are not advertised for one reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withheld {
    /// The reason.
    pub why: String,
    /// Their names.
    pub extensions: Vec<String>,
}

/// All judgements. Why an extension is advertised stands in `icd/src/extensions.rs`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judgements {
    /// What Lockstep does something about.
    pub intercepted: Vec<Group>,
    /// What is the host's own.
    pub passes: Vec<Group>,
    /// What is not had, whatever the host has.
    pub not_advertised: Vec<Withheld>,
}

impl Judgements {
    /// Reads the file of the repository at `root`.
    ///
    /// # Errors
    /// When it is not there, or does not say what it should.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join(FILE);
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }
}
