//! The journal: all results of a run, appended as they come, so that a run that was killed can go on.
//!
//! One line of JSON for each entry, written at once and synced. A line that was cut by a kill or a full disk
//! is dropped when the journal is opened again; what it told of is run again.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::run::{CaseResult, Results};
use crate::side::Side;

/// The name of the journal in the output directory.
pub const FILE: &str = "journal.jsonl";

/// `RunnerStatus` as the word that `deqp_runner` writes.
pub(crate) mod status {
    use deqp_runner::RunnerStatus;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(status: &RunnerStatus, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(status)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RunnerStatus, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(Error::custom)
    }
}

/// What a run is: two runs with the same plan have the same results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What was asked for: a preset's name.
    pub preset: String,
    /// The binary.
    pub deqp: crate::deqp::Deqp,
    /// What the binary says it is.
    pub release: String,
    /// The host's driver, by name and version.
    pub host: String,
    /// The drivers that are compared; the host's own is the first.
    pub sides: Vec<Side>,
    /// Sizes and times of the drivers' files: another build is another run.
    pub drivers: Vec<String>,
    /// Seconds that one case may take.
    pub limit: f64,
    /// Cases a process.
    pub piece: usize,
    /// Runs of each differing case alone.
    pub reruns: usize,
    /// All cases, sorted.
    pub cases: Vec<String>,
}

/// A case run alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rerun {
    /// Index of the side.
    pub side: usize,
    /// Which of the runs.
    pub attempt: usize,
    /// Whether the driver was told to trace, which changes what happens when.
    pub traced: bool,
    /// What came out.
    pub result: CaseResult,
}

#[derive(Debug, Serialize, Deserialize)]
enum Entry {
    Plan(Box<Plan>),
    Piece { piece: usize, side: usize, results: Results },
    Rerun(Rerun),
}

/// The journal of a run.
#[derive(Debug)]
pub struct Journal {
    file: File,
    /// What the run is.
    pub plan: Plan,
    /// Results of the pieces that are done, by piece and side.
    pub pieces: BTreeMap<(usize, usize), Results>,
    /// Cases run alone.
    pub reruns: Vec<Rerun>,
}

impl Journal {
    /// Starts a journal.
    pub fn create(path: &Path, plan: Plan) -> Result<Self> {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = options.with_context(|| format!("creating {}", path.display()))?;
        lock(&file, path)?;
        file.set_len(0).with_context(|| format!("emptying {}", path.display()))?;
        let mut journal = Self { file, plan, pieces: BTreeMap::new(), reruns: Vec::new() };
        journal.append(&Entry::Plan(Box::new(journal.plan.clone())))?;
        Ok(journal)
    }

    /// Opens the journal of an earlier run, if there is one that tells at least what was run.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let file = opened.with_context(|| format!("opening {}", path.display()))?;
        lock(&file, path)?;
        let mut reader = BufReader::new(&file);
        let mut whole = 0;
        let mut plan = None;
        let mut pieces = BTreeMap::new();
        let mut reruns = Vec::new();
        let mut line = Vec::new();
        loop {
            line.clear();
            let length =
                reader.read_until(b'\n', &mut line).with_context(|| format!("reading {}", path.display()))?;
            if !line.ends_with(b"\n") {
                break;
            }
            match serde_json::from_slice(&line) {
                Ok(Entry::Plan(found)) => plan = Some(*found),
                Ok(Entry::Piece { piece, side, results }) => {
                    pieces.insert((piece, side), results);
                }
                Ok(Entry::Rerun(rerun)) => reruns.push(rerun),
                Err(_) => break,
            }
            whole += length as u64;
        }
        let Some(plan) = plan else { return Ok(None) };
        let mut file = file;
        file.set_len(whole).with_context(|| format!("dropping the cut end of {}", path.display()))?;
        file.seek(SeekFrom::Start(whole)).with_context(|| format!("reading {}", path.display()))?;
        Ok(Some(Self { file, plan, pieces, reruns }))
    }

    /// Returns all results of a side.
    pub fn results(&self, side: usize) -> impl Iterator<Item = &CaseResult> {
        let pieces = self.pieces.iter().filter(move |((_, of), _)| *of == side);
        pieces.flat_map(|(_, results)| &results.cases)
    }

    /// Adds the results of a piece.
    pub fn add_piece(&mut self, piece: usize, side: usize, results: Results) -> Result<()> {
        self.append(&Entry::Piece { piece, side, results: results.clone() })?;
        self.pieces.insert((piece, side), results);
        Ok(())
    }

    /// Adds a case run alone.
    pub fn add_rerun(&mut self, rerun: Rerun) -> Result<()> {
        self.append(&Entry::Rerun(rerun.clone()))?;
        self.reruns.push(rerun);
        Ok(())
    }

    fn append(&mut self, entry: &Entry) -> Result<()> {
        let mut line = serde_json::to_vec(entry).context("writing the journal")?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        written.context("writing the journal; what it holds is safe, and the same command goes on from there")
    }
}

fn lock(file: &File, path: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => bail!("another cts-runner is at work in {}", path.display()),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}
