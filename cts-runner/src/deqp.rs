//! The deqp-vk binary: what it is, which cases it has, and how it is called.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::process::{Supervised, tied};
use crate::side::Side;

/// How long deqp may take to say which cases it has.
const LISTING: Duration = Duration::from_secs(300);

/// What is said to who has no deqp-vk.
pub const HOW_TO_GET_ONE: &str = "give the path of a deqp-vk with --deqp. deqp-vk is the Vulkan conformance test suite of \
    Khronos and is built from source: https://github.com/KhronosGroup/VK-GL-CTS, whose file \
    external/vulkancts/README.md says how; the binary is then build/external/vulkancts/modules/vulkan/deqp-vk. \
    Lockstep's own tests need none: make test";

/// A binary that was asked what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deqp {
    /// The binary.
    pub path: PathBuf,
    /// Arguments that go before deqp's own; for the mock.
    pub first_args: Vec<String>,
}

impl Deqp {
    /// Returns the binary at `path`, if there is something to run.
    pub fn find(path: Option<&Path>, first_args: &[String]) -> Result<Self> {
        let Some(path) = path else { bail!("no deqp-vk: {HOW_TO_GET_ONE}") };
        if !path.is_file() {
            bail!("no deqp-vk at {}: {HOW_TO_GET_ONE}", path.display());
        }
        let path = path.canonicalize().with_context(|| format!("finding {}", path.display()))?;
        Ok(Self { path, first_args: first_args.to_vec() })
    }

    /// Returns a command that runs the binary on `side` in the directory `place`, with a log in `log`.
    pub fn command(&self, side: &Side, place: &Path, log: &Path) -> Command {
        let mut command = tied(self.path.as_os_str());
        command.args(&self.first_args).current_dir(place);
        side.apply(&mut command);
        // Debug builds of Mesa would tell of all the errors that cases make on purpose.
        command.env("MESA_DEBUG", "silent");
        command.arg(option("--deqp-archive-dir", self.path.parent().unwrap_or(Path::new("/"))));
        command.arg(option("--deqp-log-filename", log));
        command
    }

    /// Returns the release that the binary says it is, and the cases it has under `patterns`.
    pub fn cases(
        &self,
        side: &Side,
        patterns: &[&str],
        place: &Path,
        stop: &AtomicBool,
    ) -> Result<(String, Vec<String>)> {
        let mut release = None;
        let mut cases = Vec::new();
        for pattern in patterns {
            let mut command = self.command(side, place, &place.join("list.qpa"));
            command.arg("--deqp-runmode=txt-caselist").arg(format!("--deqp-case={pattern}"));
            let list = place.join("list.txt");
            command.arg(option("--deqp-caselist-export-file", &list));
            let started = Supervised::start(command, LISTING, stop);
            let mut child = started.with_context(|| format!("starting {}", self.path.display()))?;
            let mut said = String::new();
            let read = child.read_to_string(&mut said);
            let (end, errors) = child.finish().context("waiting for deqp-vk")?;
            read.with_context(|| format!("asking {} for its cases", self.path.display()))?;
            let Some(found) = said.lines().find_map(release_of) else {
                bail!(
                    "{} is no deqp-vk: asked for its cases it {end}{}",
                    self.path.display(),
                    last_line(&errors)
                );
            };
            release = Some(found.to_owned());
            // A binary with only some of the modules ends with an error where a pattern matches nothing.
            if let Ok(file) = File::open(&list) {
                for line in BufReader::new(file).lines() {
                    let line = line.context("reading the list of cases that deqp-vk wrote")?;
                    cases.extend(line.strip_prefix("TEST: ").map(str::to_owned));
                }
                std::fs::remove_file(&list).context("removing the list of cases")?;
            }
        }
        Ok((release.unwrap_or_default(), cases))
    }
}

/// Returns `name=path` as one argument.
pub fn option(name: &str, path: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(name);
    argument.push("=");
    argument.push(path);
    argument
}

fn release_of(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("dEQP Core ")?;
    rest.split_once(" (").map(|(release, _)| release)
}

fn last_line(errors: &str) -> String {
    match errors.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!(" ({})", line.trim()),
        None => String::new(),
    }
}
