//! What the results mean: counts by group, and cases that differ from native.

use std::collections::{BTreeMap, HashMap, HashSet};

use deqp_runner::{ResultCounts, RunnerStatus};

use crate::caselist::group_of;
use crate::journal::Journal;
use crate::run::{CaseResult, is_good};

/// Seconds of native work below which a ratio is noise.
const MEASURABLE: f64 = 0.1;

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
    /// Time of the cases whose result is the native one, natively and here, by side.
    pub alike: Vec<(f64, f64)>,
    /// Cases that differ.
    pub differences: usize,
}

impl Group {
    fn new(name: &str, sides: usize) -> Self {
        let counts = vec![ResultCounts::new(); sides];
        Self {
            name: name.to_owned(),
            counts,
            seconds: vec![0.0; sides],
            alike: vec![(0.0, 0.0); sides],
            differences: 0,
        }
    }

    /// Returns how many times longer a side takes for the same work, if that is long enough to tell. What
    /// only one of the two supports is not the same.
    pub fn ratio(&self, side: usize) -> Option<f64> {
        let (native, ours) = self.alike[side];
        (native > MEASURABLE).then(|| ours / native)
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
        let mut groups = Groups::new(sides.len());
        for ((_, side), results) in &journal.pieces {
            if let Some(first) = results.cases.first() {
                groups.add_seconds(*side, group_of(&first.name), results.seconds);
            }
            results.cases.iter().for_each(|case| groups.add(*side, case));
        }
        groups.judge(sides, &observed(journal))
    }

    /// Compares results without more ado; the first are those that others are compared with.
    pub fn of_results(names: Vec<String>, results: &[Vec<CaseResult>]) -> Self {
        let mut groups = Groups::new(names.len());
        let mut found = Observed::default();
        for (side, cases) in results.iter().enumerate() {
            for case in cases {
                groups.add_seconds(side, group_of(&case.name), case.seconds.into());
                groups.add(side, case);
                found.add(side, case);
            }
        }
        groups.judge(names, &found)
    }

    /// Takes back what is held against Lockstep of cases that are known to flake natively.
    pub fn excuse(&mut self, flakes: &HashSet<String>) {
        for difference in &mut self.differences {
            if difference.kind == Kind::Worse && flakes.contains(&difference.case) {
                difference.kind = Kind::Flaky;
            }
        }
        sort(&mut self.differences);
    }

    /// Returns the cases that differ in this way.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Difference> {
        self.differences.iter().filter(move |difference| difference.kind == kind)
    }
}

/// Groups that are being counted.
struct Groups {
    groups: BTreeMap<String, Group>,
    total: Group,
}

impl Groups {
    fn new(sides: usize) -> Self {
        Self { groups: BTreeMap::new(), total: Group::new("total", sides) }
    }

    fn both(&mut self, name: &str) -> [&mut Group; 2] {
        let sides = self.total.counts.len();
        [self.groups.entry(name.to_owned()).or_insert_with(|| Group::new(name, sides)), &mut self.total]
    }

    fn add_seconds(&mut self, side: usize, name: &str, seconds: f64) {
        for group in self.both(name) {
            group.seconds[side] += seconds;
        }
    }

    fn add(&mut self, side: usize, case: &CaseResult) {
        for group in self.both(group_of(&case.name)) {
            group.counts[side].increment(case.status);
            group.counts[side].total += 1;
        }
    }

    fn judge(mut self, sides: Vec<String>, observed: &Observed<'_>) -> Verdict {
        for ((side, case), ours) in &observed.others {
            let Some(native) = observed.native.get(case).filter(|native| native.status == ours.status) else {
                continue;
            };
            for group in self.both(group_of(case)) {
                group.alike[*side].0 += f64::from(native.seconds);
                group.alike[*side].1 += f64::from(ours.seconds);
            }
        }
        let differences = observed.differences();
        for difference in differences.iter().filter(|difference| difference.kind != Kind::Better) {
            for group in self.both(group_of(&difference.case)) {
                group.differences += 1;
            }
        }
        let mut groups: Vec<_> = self.groups.into_values().collect();
        groups.sort_by_key(|group| group.differences == 0);
        Verdict { sides, groups, total: self.total, differences }
    }
}

/// All that was seen of cases.
#[derive(Default)]
struct Observed<'a> {
    native: HashMap<&'a str, &'a CaseResult>,
    others: BTreeMap<(usize, &'a str), &'a CaseResult>,
    alone: HashMap<(usize, &'a str), Vec<RunnerStatus>>,
}

impl<'a> Observed<'a> {
    fn add(&mut self, side: usize, case: &'a CaseResult) {
        if side == 0 {
            self.native.insert(&case.name, case);
        } else {
            self.others.insert((side, &case.name), case);
        }
    }

    fn differences(&self) -> Vec<Difference> {
        let of = |side, case| self.alone.get(&(side, case)).cloned().unwrap_or_default();
        let found = self.others.iter().filter_map(|((side, case), ours)| {
            let native = *self.native.get(case)?;
            (native.status != ours.status).then(|| {
                let (native_alone, ours_alone) = (of(0, *case), of(*side, *case));
                let kind = kind(native.status, ours.status, &native_alone);
                let (native, ours) = (native.clone(), (*ours).clone());
                Difference {
                    case: (*case).to_owned(),
                    side: *side,
                    native,
                    ours,
                    native_alone,
                    ours_alone,
                    kind,
                }
            })
        });
        let mut differences: Vec<_> = found.collect();
        sort(&mut differences);
        differences
    }
}

/// Returns the cases that differ from native, the worst first.
pub fn differences(journal: &Journal) -> Vec<Difference> {
    observed(journal).differences()
}

fn observed(journal: &Journal) -> Observed<'_> {
    let mut observed = Observed::default();
    for ((_, side), results) in &journal.pieces {
        results.cases.iter().for_each(|case| observed.add(*side, case));
    }
    for rerun in journal.reruns.iter().filter(|rerun| !rerun.traced) {
        observed.alone.entry((rerun.side, &rerun.result.name)).or_default().push(rerun.result.status);
    }
    observed
}

fn sort(differences: &mut [Difference]) {
    differences.sort_by(|a, b| (a.kind, a.side, &a.case).cmp(&(b.kind, b.side, &b.case)));
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
