//! What the results mean: counts by group, and cases that differ from native.

use std::collections::{BTreeMap, HashMap};

use deqp_runner::{ResultCounts, RunnerStatus};

use crate::caselist::{group_of, pieces};
use crate::journal::Journal;
use crate::run::{CaseResult, is_good};

/// How Lockstep's result stands to the native one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It is worse.
    Worse,
    /// It would be worse, but the native result changes from run to run too.
    Flaky,
    /// It fails on both, or natively only: nothing of ours.
    Different,
    /// Both are good, and it is the better one: more is supported.
    Better,
}

impl Kind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Worse => "worse",
            Self::Flaky => "flaky natively",
            Self::Different => "different",
            Self::Better => "better",
        }
    }
}

/// A case whose result on a side differs from the native one.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The case.
    pub case: String,
    /// Index of the side.
    pub side: usize,
    /// The native result.
    pub native: CaseResult,
    /// The side's result.
    pub ours: CaseResult,
    /// What came out natively when run alone.
    pub native_alone: Vec<RunnerStatus>,
    /// What came out on the side when run alone.
    pub ours_alone: Vec<RunnerStatus>,
    /// What it means.
    pub kind: Kind,
}

impl Difference {
    /// Says what running the case alone told, if it was.
    pub fn alone(&self) -> String {
        if self.ours_alone.is_empty() {
            return String::new();
        }
        format!("alone: native {}, here {}", tally(&self.native_alone), tally(&self.ours_alone))
    }
}

/// Results of a group on all sides.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Counts, by side.
    pub counts: Vec<ResultCounts>,
    /// Wall time of its processes, by side.
    pub seconds: Vec<f64>,
    /// Cases that differ.
    pub differences: usize,
}

impl Group {
    fn new(name: &str, sides: usize) -> Self {
        let counts = vec![ResultCounts::new(); sides];
        Self { name: name.to_owned(), counts, seconds: vec![0.0; sides], differences: 0 }
    }
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Names of the sides; the native one is the first.
    pub sides: Vec<String>,
    /// Groups, those with differences first.
    pub groups: Vec<Group>,
    /// All groups together.
    pub total: Group,
    /// Cases that differ, the worst first.
    pub differences: Vec<Difference>,
}

impl Verdict {
    /// Judges what a journal holds.
    pub fn new(journal: &Journal) -> Self {
        let sides: Vec<_> = journal.plan.sides.iter().map(|side| side.name.clone()).collect();
        let pieces = pieces(&journal.plan.cases, journal.plan.piece);
        let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
        let mut total = Group::new("total", sides.len());
        for ((piece, side), results) in &journal.pieces {
            let Some(name) = pieces.get(*piece).and_then(|cases| cases.first()).map(|case| group_of(case))
            else {
                continue;
            };
            let group = groups.entry(name).or_insert_with(|| Group::new(name, sides.len()));
            for group in [group, &mut total] {
                group.seconds[*side] += results.seconds;
                for case in &results.cases {
                    group.counts[*side].increment(case.status);
                    group.counts[*side].total += 1;
                }
            }
        }
        let differences = differences(journal);
        for difference in &differences {
            if let Some(group) = groups.get_mut(group_of(&difference.case)) {
                group.differences += usize::from(difference.kind != Kind::Better);
            }
        }
        total.differences = groups.values().map(|group| group.differences).sum();
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| group.differences == 0);
        Self { sides, groups, total, differences }
    }

    /// Returns the cases that differ in this way.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Difference> {
        self.differences.iter().filter(move |difference| difference.kind == kind)
    }
}

/// Returns the cases that differ from native, the worst first.
pub fn differences(journal: &Journal) -> Vec<Difference> {
    let mut native: HashMap<&str, &CaseResult> = HashMap::new();
    let mut others: BTreeMap<(usize, &str), &CaseResult> = BTreeMap::new();
    for ((_, side), results) in &journal.pieces {
        for case in &results.cases {
            if *side == 0 {
                native.insert(&case.name, case);
            } else {
                others.insert((*side, &case.name), case);
            }
        }
    }
    let mut alone: HashMap<(usize, &str), Vec<RunnerStatus>> = HashMap::new();
    for rerun in journal.reruns.iter().filter(|rerun| !rerun.traced) {
        alone.entry((rerun.side, &rerun.result.name)).or_default().push(rerun.result.status);
    }
    let of = |side, case| alone.get(&(side, case)).cloned().unwrap_or_default();
    let mut differences: Vec<_> = others
        .into_iter()
        .filter_map(|((side, case), ours)| {
            let native = *native.get(case)?;
            (native.status != ours.status).then(|| {
                let (native_alone, ours_alone) = (of(0, case), of(side, case));
                let kind = kind(native.status, ours.status, &native_alone);
                let (native, ours) = (native.clone(), ours.clone());
                Difference { case: case.to_owned(), side, native, ours, native_alone, ours_alone, kind }
            })
        })
        .collect();
    differences.sort_by(|a, b| (a.kind, a.side, &a.case).cmp(&(b.kind, b.side, &b.case)));
    differences
}

fn kind(native: RunnerStatus, ours: RunnerStatus, native_alone: &[RunnerStatus]) -> Kind {
    if is_good(native) && rank(ours) < rank(native) {
        Kind::Better
    } else if !is_worse(native, ours) {
        Kind::Different
    } else if native_alone.iter().any(|status| *status != native) {
        Kind::Flaky
    } else {
        Kind::Worse
    }
}

/// Returns whether `ours` is something to mend where the native driver does `native`.
pub fn is_worse(native: RunnerStatus, ours: RunnerStatus) -> bool {
    is_good(native) && rank(ours) > rank(native)
}

fn rank(status: RunnerStatus) -> u8 {
    match status {
        RunnerStatus::Pass | RunnerStatus::UnexpectedImprovement(_) => 0,
        RunnerStatus::Warn => 1,
        RunnerStatus::Skip => 2,
        RunnerStatus::Flake | RunnerStatus::KnownFlake | RunnerStatus::ExpectedFail | RunnerStatus::Fail => 3,
        RunnerStatus::Missing => 4,
        RunnerStatus::Timeout => 5,
        RunnerStatus::Crash => 6,
    }
}

/// Says a status in the words of the CTS.
pub fn word(status: RunnerStatus) -> String {
    match status {
        RunnerStatus::Skip => "NotSupported".to_owned(),
        RunnerStatus::Warn => "QualityWarning".to_owned(),
        other => other.to_string(),
    }
}

fn tally(statuses: &[RunnerStatus]) -> String {
    let mut words: Vec<(String, usize)> = Vec::new();
    for word in statuses.iter().map(|status| word(*status)) {
        match words.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => words.push((word, 1)),
        }
    }
    words.iter().map(|(word, count)| format!("{count}x {word}")).collect::<Vec<_>>().join(" + ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_supported_is_worse_than_pass() {
        assert!(is_worse(RunnerStatus::Pass, RunnerStatus::Skip));
    }

    #[test]
    fn what_fails_natively_is_not_ours() {
        assert!(!is_worse(RunnerStatus::Fail, RunnerStatus::Crash));
    }

    #[test]
    fn what_is_supported_only_here_is_better() {
        assert_eq!(kind(RunnerStatus::Skip, RunnerStatus::Pass, &[]), Kind::Better);
    }

    #[test]
    fn a_native_flake_excuses() {
        let native_alone = [RunnerStatus::Pass, RunnerStatus::Crash];

        assert_eq!(kind(RunnerStatus::Pass, RunnerStatus::Crash, &native_alone), Kind::Flaky);
    }

    #[test]
    fn passing_alone_does_not_excuse() {
        assert_eq!(kind(RunnerStatus::Pass, RunnerStatus::Crash, &[RunnerStatus::Pass]), Kind::Worse);
    }
}
