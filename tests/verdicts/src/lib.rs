//! What Lockstep does with each command, structure and extension of Vulkan: intercepted, passes, not
//! advertised.
//!
//! | module | reads |
//! |---|---|
//! | [`registry`] | `vk.xml`: what there is, and what of it touches memory, submission or completion |
//! | [`ash`] | ash: what is newer than the registry installed |
//! | [`code`] | `icd/src`: what is intercepted, and which extensions pass |
//! | [`judgement`] | `docs/verdicts.toml`: the verdicts kept by hand |
//!
//! [`Verdicts`] joins them and finds what contradicts; [`table`] writes `docs/verdicts.md`, and the list of
//! commands that the driver hands out. `scripts/generate` runs it, and the integration test `verdicts`
//! compares it with the driver itself. To judge something new: run `scripts/generate`, which names what lacks
//! a verdict.

pub mod ash;
pub mod code;
pub mod judgement;
pub mod registry;
pub mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::ash::Ash;
use crate::code::Code;
use crate::judgement::Judgements;
use crate::registry::{Item, Registry};

/// The versions of Vulkan whose commands were reviewed (`API_VERSION` of the driver).
const VERSIONS: [&str; 4] = ["VK_VERSION_1_0", "VK_VERSION_1_1", "VK_VERSION_1_2", "VK_VERSION_1_3"];

/// A verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Lockstep does something about it.
    Intercepted,
    /// It is the host's own.
    Passes,
    /// It is not had, whatever the host has.
    NotAdvertised,
}

impl Verdict {
    /// How it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Intercepted => "intercepted",
            Self::Passes => "passes",
            Self::NotAdvertised => "not advertised",
        }
    }
}

/// The repository this was built in.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What is said of a command or structure by hand.
#[derive(Clone, Debug)]
struct Judged {
    verdict: Verdict,
    why: String,
}

/// All verdicts.
#[derive(Debug)]
pub struct Verdicts {
    registry: Registry,
    code: Code,
    judged: BTreeMap<String, Judged>,
    withheld: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Verdicts {
    /// Reads what there is to read, but for ash.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn read(root: &Path, registry: &Path) -> Result<Self> {
        let registry = Registry::read(registry)?;
        let code = Code::read(root)?;
        let judgements = Judgements::read(root)?;
        let mut this =
            Self { registry, code, judged: BTreeMap::new(), withheld: BTreeMap::new(), problems: Vec::new() };
        this.take(judgements);
        this.check_extensions();
        this.check_commands();
        this.check_structures();
        Ok(this)
    }

    /// What lacks a verdict, or contradicts: a line each.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The version of the registry.
    pub fn version(&self) -> &str {
        &self.registry.version
    }

    /// All commands with a verdict: those of the registry, and newer ones that were judged.
    pub fn commands(&self) -> impl Iterator<Item = &str> {
        let newer = self.judged.keys().filter(|name| name.starts_with("vk"));
        newer.chain(self.registry.commands.keys()).map(String::as_str).collect::<BTreeSet<_>>().into_iter()
    }

    /// The verdict on a command.
    pub fn command(&self, name: &str) -> Option<Verdict> {
        if let Some(judged) = self.judged.get(Registry::canonical(&self.registry.commands, name)) {
            let offered = self.registry.commands.get(name).is_none_or(|item| self.offered_by(item).is_some());
            return Some(if offered { judged.verdict } else { Verdict::NotAdvertised });
        }
        let item = self.registry.commands.get(name)?;
        // Of what touches none of the concerns all that is offered passes.
        Some(if self.offered_by(item).is_some() { Verdict::Passes } else { Verdict::NotAdvertised })
    }

    /// The verdict on an extension.
    pub fn extension(&self, name: &str) -> Option<Verdict> {
        if self.code.advertised.contains_key(name) {
            return Some(Verdict::Passes);
        }
        self.withheld.get(name).map(|_| Verdict::NotAdvertised)
    }

    /// Whether a command is one of an extension of the registry that is advertised, or of a version.
    fn offered_by<'a>(&self, item: &'a Item) -> Option<&'a str> {
        item.offered_by(|name| VERSIONS.contains(&name) || self.code.advertised.contains_key(name))
    }

    /// The items that are offered under any name, by the name that is no alias, and by what they are.
    fn offered<'a>(&self, items: &'a BTreeMap<String, Item>) -> BTreeMap<&'a str, &'a str> {
        let mut offered = BTreeMap::new();
        for (name, item) in items {
            if let Some(owner) = self.offered_by(item) {
                let canonical = Registry::canonical(items, name);
                // What it is by its own name comes before what it is by an alias.
                if name == canonical || !offered.contains_key(canonical) {
                    offered.insert(canonical, owner);
                }
            }
        }
        offered
    }

    fn take(&mut self, judgements: Judgements) {
        let groups = [(Verdict::Intercepted, judgements.intercepted), (Verdict::Passes, judgements.passes)];
        for (verdict, groups) in groups {
            for group in groups {
                for name in group.commands.into_iter().chain(group.structures) {
                    let judged = Judged { verdict, why: group.why.clone() };
                    if self.judged.insert(name.clone(), judged).is_some() {
                        self.problems.push(format!("{name} has two verdicts"));
                    }
                }
            }
        }
        for group in judgements.not_advertised {
            for name in group.extensions {
                if self.withheld.insert(name.clone(), group.why.clone()).is_some() {
                    self.problems.push(format!("{name} has two verdicts"));
                }
            }
        }
    }

    fn check_extensions(&mut self) {
        for name in self.registry.extensions.keys() {
            if self.extension(name).is_none() {
                self.problems.push(format!("{name} has no verdict"));
            }
        }
        for name in self.withheld.keys().filter(|name| self.code.advertised.contains_key(*name)) {
            self.problems.push(format!("{name} is not to be advertised, and icd/src/extensions.rs does"));
        }
    }

    fn check_commands(&mut self) {
        let items = &self.registry.commands;
        let mut problems = Vec::new();
        let offered = self.offered(items);
        for name in offered.keys() {
            let judged = self.judged.get(*name);
            let concerned = !items[*name].concerns.is_empty() || self.code.intercepted.contains(*name);
            if concerned && judged.is_none() {
                problems.push(format!("{name} has no verdict"));
            }
        }
        for (name, item) in items {
            let verdict = self.judged.get(Registry::canonical(items, name)).map(|judged| judged.verdict);
            let here = self.code.intercepted.contains(name);
            match (self.offered_by(item), verdict) {
                (None, _) if here => problems.push(format!("{name} is intercepted, and nobody can have it")),
                (None, Some(_)) if !offered.contains_key(Registry::canonical(items, name)) => {
                    problems.push(format!("{name} has a verdict, and nobody can have it"));
                }
                (Some(_), Some(Verdict::Intercepted)) if !here => {
                    problems.push(format!("{name} is to be intercepted, and icd/src/entry/table does not"));
                }
                (Some(_), Some(Verdict::Passes)) if here => {
                    problems.push(format!("{name} is to pass, and icd/src/entry/table intercepts it"));
                }
                _ => {}
            }
        }
        // What is newer than the registry.
        for (name, judged) in self.judged.iter().filter(|(name, _)| name.starts_with("vk")) {
            let here = self.code.intercepted.contains(name);
            if !items.contains_key(name) && here != (judged.verdict == Verdict::Intercepted) {
                problems.push(format!(
                    "{name} {}, and icd/src/entry/table says otherwise",
                    judged.verdict.name()
                ));
            }
        }
        let known = |name: &&String| {
            items.contains_key(*name) || self.judged.contains_key(*name) || name.starts_with("vk_icd")
        };
        for name in self.code.intercepted.iter().filter(|name| !known(name)) {
            problems.push(format!("{name} is intercepted, and has no verdict"));
        }
        self.problems.append(&mut problems);
    }

    fn check_structures(&mut self) {
        let items = &self.registry.structures;
        let offered = self.offered(items);
        let mut problems = Vec::new();
        for name in offered.keys().filter(|name| !items[**name].concerns.is_empty()) {
            if !self.judged.contains_key(*name) {
                problems.push(format!("{name} has no verdict"));
            }
        }
        for (name, judged) in self.judged.iter().filter(|(name, _)| name.starts_with("Vk")) {
            if items.contains_key(name) && !offered.contains_key(name.as_str()) {
                problems.push(format!("{name} has a verdict, and nobody can have it"));
            }
            if judged.verdict == Verdict::Intercepted && !self.code.names(name) {
                problems.push(format!("{name} is to be intercepted, and icd/src does not name it"));
            }
        }
        self.problems.append(&mut problems);
    }

    /// Finds what ash knows and nobody judged.
    pub fn check_newer(&mut self, ash: &Ash) {
        for (name, commands) in &ash.extensions {
            match self.extension(name) {
                None => self.problems.push(format!("{name} (of ash) has no verdict")),
                Some(Verdict::NotAdvertised) => {}
                Some(_) => {
                    let newer = commands.iter().filter(|command| self.command(command).is_none());
                    let lacks = newer.map(|command| format!("{command} of {name} (of ash) has no verdict"));
                    self.problems.extend(lacks.collect::<Vec<_>>());
                }
            }
        }
        for name in self.code.advertised.keys().filter(|name| !ash.extensions.contains_key(*name)) {
            self.problems.push(format!(
                "{name} is advertised, and ash does not know it: its structures would be left out of chains"
            ));
        }
    }
}
