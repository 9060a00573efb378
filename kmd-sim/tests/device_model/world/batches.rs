//! What batches write, in which order, and what the CPU may write meanwhile.

use std::ops::Range;

use kmd_sim::uapi::{Access, BoId, Extent, Write, Writes};

use super::{Place, Random, VALUES, World};
use crate::host::CONTEXTS;

#[derive(Debug)]
pub(super) struct Batch {
    context: usize,
    seqno: u64,
    writes: Writes,
    /// What may not be written by the CPU.
    exact: Vec<Place>,
    /// What it will write, in this order.
    pub(super) plan: Vec<(Place, u8)>,
    /// How much of it is done, and how much of that the CPU was told of.
    done: usize,
    told: usize,
    /// It waits for the CPU.
    pub(super) closed: bool,
    /// It runs behind this batch of another context.
    after: Option<usize>,
    /// It has written everything; what is brought back behind it may be still to be copied.
    executed: bool,
    /// Its number was signalled.
    completed: bool,
    /// The CPU was told so.
    pub(super) retired: bool,
}

impl Batch {
    fn writes(&self, place: Place) -> bool {
        self.exact.contains(&place) || self.plan.iter().any(|(planned, _)| *planned == place)
    }
}

impl World {
    /// Lets batches in flight write what just came within their reach.
    pub(super) fn reach_later(&mut self, bo: BoId, bytes: &Range<u64>, addressed: bool, random: &mut Random) {
        // Where the CPU does not see host memory, nothing of what it does reaches a batch that was submitted.
        let count = if self.host.has_images() { 0 } else { self.batches.len() };
        for batch in 0..count {
            let Batch { writes, completed, .. } = &self.batches[batch];
            if *completed || !(writes.anything || (addressed && writes.by_address)) || random.percent(40) {
                continue;
            }
            for place in self.places(bo, bytes) {
                if !self.cell(place).unflushed && self.ordered(batch, place) && random.percent(30) {
                    let value = random.of(&VALUES);
                    self.say(|| format!("  batch {batch} will write {value} to {place:?}"));
                    self.batches[batch].plan.push((place, value));
                }
            }
        }
    }

    /// Whether all others that write a place do so before or behind a batch.
    fn ordered(&self, batch: usize, place: Place) -> bool {
        let this = &self.batches[batch];
        self.batches.iter().enumerate().all(|(other, that)| {
            that.retired
                || that.context == this.context
                || !that.writes(place)
                || this.after.is_some_and(|after| other <= after)
        })
    }

    /// Whether a batch waits for the CPU, or runs behind one that does.
    fn is_held(&self, batch: usize) -> bool {
        let this = &self.batches[batch];
        let before = (0..batch).filter(|other| self.batches[*other].context == this.context);
        !this.completed && (this.closed || before.chain(this.after).any(|other| self.is_held(other)))
    }

    /// Whether the CPU may write a place of a mapped object now.
    pub(super) fn cpu_may_write(&self, place: Place) -> bool {
        self.batches.iter().enumerate().all(|(index, batch)| {
            let told = batch.plan[..batch.told].iter().any(|(done, _)| *done == place);
            let to_come = batch.plan[batch.told..].iter().any(|(planned, _)| *planned == place);
            batch.retired || !batch.writes(place) || (told && !to_come) || self.is_held(index)
        })
    }

    pub(super) fn submit(&mut self, random: &mut Random) {
        let context = random.below(CONTEXTS);
        let first = self.batches.len();
        for _ in 0..random.of(&[1, 1, 1, 2, 3]) {
            self.plan(context, random);
        }
        let writes: Vec<Writes> = self.batches[first..].iter().map(|batch| batch.writes.clone()).collect();
        let updates = self.host.updates();
        if self.host.has_images() && random.percent(5) {
            self.say(|| "an update fails".into());
            self.host.fail(true);
            let result = self.device.execbuf(self.contexts[context], &writes);
            self.host.fail(false);
            if let Ok(seqnos) = result {
                self.device.revoke(self.contexts[context], &seqnos.unwrap_or(0..0));
            }
            self.refused = true;
            self.host.forget_updates(updates);
        }
        let seqnos = self.device.execbuf(self.contexts[context], &writes).unwrap();
        self.flushed();
        self.sent();
        for batch in first..self.batches.len() {
            let what = format!("submit {batch}: {:?}", self.batches[batch]);
            self.say(|| what);
        }
        let Some(seqnos) = seqnos else {
            let unneeded = |batch: &Batch| batch.plan.is_empty() && !batch.closed;
            assert!(self.batches[first..].iter().all(unneeded), "nothing to signal");
            self.batches.truncate(first);
            return;
        };
        if random.percent(8) {
            self.say(|| "  refused".into());
            self.refused = true;
            self.device.revoke(self.contexts[context], &seqnos);
            self.batches.truncate(first);
            self.host.forget_updates(updates);
            let cells = self.objects.iter_mut().flat_map(|object| &mut object.cells);
            let last = Some(self.submissions);
            cells.filter(|cell| cell.sent == last).for_each(|cell| cell.sent = None);
            return;
        }
        for (batch, seqno) in self.batches[first..].iter_mut().zip(seqnos) {
            batch.seqno = seqno;
        }
    }

    /// Adds a batch that is not submitted yet.
    fn plan(&mut self, context: usize, random: &mut Random) {
        let named = random.percent(75);
        let mut writes = Writes {
            ranges: Vec::new(),
            by_address: random.percent(if named { 10 } else { 50 }),
            anything: random.percent(if named { 5 } else { 50 }),
            gated: random.percent(12) && !self.host.has_images(),
        };
        let alive = |batch: &usize| !self.batches[*batch].retired && self.batches[*batch].context != context;
        let after = (0..self.batches.len()).rfind(alive).filter(|_| random.percent(50));
        let this = self.batches.len();
        let mut targets: Vec<(BoId, Range<u64>, usize)> = Vec::new();
        let mut exact = Vec::new();
        for _ in 0..if named { random.below(4) } else { 0 } {
            if self.objects.is_empty() {
                break;
            }
            let index = random.below(self.objects.len());
            let (bo, bytes) = (self.objects[index].bo, self.range(index, random));
            let extent = if random.percent(60) { Extent::Exact } else { Extent::Within };
            if extent == Extent::Exact {
                exact.extend(self.places(bo, &bytes));
            }
            targets.push((bo, bytes.clone(), if extent == Extent::Exact { 85 } else { 25 }));
            writes.ranges.push(Write { bo, bytes, extent });
        }
        for object in &self.objects {
            for resource in &object.resources {
                let dirtying = resource.access == Access::Dirtying;
                let addressed = resource.addressed && (writes.by_address || writes.anything);
                if addressed || (dirtying && writes.anything) {
                    targets.push((object.bo, resource.bytes.clone(), 15));
                }
            }
        }
        let closed = writes.gated;
        self.batches.push(Batch {
            context,
            seqno: 0,
            writes,
            exact,
            plan: Vec::new(),
            done: 0,
            told: 0,
            closed,
            after,
            executed: false,
            completed: false,
            retired: false,
        });
        for (bo, bytes, chance) in targets {
            for place in self.places(bo, &bytes) {
                if self.ordered(this, place) && random.percent(chance) {
                    let value = random.of(&VALUES);
                    self.batches[this].plan.push((place, value));
                }
            }
        }
    }

    /// Whether what is brought back behind a batch can be copied: all of its context are behind those before.
    fn may_copy_back(&self, batch: usize) -> bool {
        let this = &self.batches[batch];
        let completed = |(context, seqno): &(usize, u64)| {
            self.batches
                .iter()
                .all(|other| other.context != *context || other.seqno > *seqno || other.completed)
        };
        let readback = self.host.readback_of(this.context, this.seqno).unwrap_or_default();
        let before = self.batches[..batch].iter().filter(|other| other.context == this.context);
        before.into_iter().all(|other| other.completed) && readback.after.iter().all(completed)
    }

    /// Batches that are running.
    pub(super) fn runnable(&self) -> Vec<usize> {
        let waits = |batch: usize| {
            let this = &self.batches[batch];
            let mut before = (0..batch).filter(|other| self.batches[*other].context == this.context);
            this.completed
                || this.closed
                || before.any(|other| !self.batches[other].executed)
                || (this.executed && !self.may_copy_back(batch))
                || this.after.is_some_and(|after| !self.batches[after].completed)
        };
        (0..self.batches.len()).filter(|batch| !waits(*batch)).collect()
    }

    pub(super) fn device_run(&mut self, random: &mut Random) {
        let runnable = self.runnable();
        if !runnable.is_empty() {
            let steps = random.of(&[1, 3, 10, usize::MAX, usize::MAX]);
            self.run(random.of(&runnable), steps);
        }
    }

    /// Lets a batch write a little, and complete when it has written all.
    pub(super) fn run(&mut self, index: usize, steps: usize) {
        // Updates were submitted before it.
        self.apply_updates();
        for _ in 0..steps {
            let batch = &mut self.batches[index];
            let Some((place, value)) = batch.plan.get(batch.done).copied() else {
                if !batch.executed && self.host.has_images() {
                    batch.executed = true;
                    self.say(|| format!("batch {index} has executed"));
                    return;
                }
                (batch.executed, batch.completed) = (true, true);
                let (context, seqno) = (batch.context, batch.seqno);
                self.host.copy_back(context, seqno);
                self.host.complete(context, seqno);
                self.say(|| format!("batch {index} completes"));
                return;
            };
            batch.done += 1;
            let cell = self.cell(place);
            assert!(!cell.unflushed, "the program is not legal");
            (cell.value, cell.hidden) = (Some(value), Some(index));
            let at = cell.at;
            let block = self.object(place.0).block;
            self.host.block(block).store_byte(usize::try_from(at).unwrap(), value);
            self.say(|| format!("batch {index} writes {value} to {at} of {:?}", place.0));
        }
    }

    pub(super) fn open_gate(&mut self, random: &mut Random) {
        let closed: Vec<_> = (0..self.batches.len()).filter(|batch| self.batches[*batch].closed).collect();
        if !closed.is_empty() {
            self.open(random.of(&closed));
        }
    }

    pub(super) fn open(&mut self, batch: usize) {
        self.flush();
        self.say(|| format!("batch {batch} need not wait any more"));
        self.batches[batch].closed = false;
    }

    pub(super) fn retire(&mut self) {
        self.say(|| "retire".into());
        let asked = self.host.asked();
        self.device.retire_completed().unwrap();
        if self.batches.iter().all(|batch| batch.retired) && !self.refused {
            assert_eq!(self.host.asked(), asked, "nothing is pending");
        }
        for (index, batch) in self.batches.iter_mut().enumerate().filter(|(_, batch)| batch.completed) {
            batch.retired = true;
            let cells = self.objects.iter_mut().flat_map(|object| &mut object.cells);
            cells.filter(|cell| cell.hidden == Some(index)).for_each(|cell| cell.hidden = None);
        }
    }

    /// The CPU is told of something in the middle of all batches.
    pub(super) fn event(&mut self) {
        self.say(|| "event".into());
        if self.host.has_images() {
            // Nothing comes back from the middle of a batch: who would tell of it waits for its end.
            self.settle();
        }
        self.device.pull_in_flight();
        self.retire();
        self.batches.iter_mut().for_each(|batch| batch.told = batch.done);
        let cells = self.objects.iter_mut().flat_map(|object| &mut object.cells);
        cells.for_each(|cell| cell.hidden = None);
    }
}
