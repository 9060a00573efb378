//! A device, what CPU and device do to it, and what every byte must be.

use std::ops::Range;

use kmd_sim::uapi::{
    Access, BoId, ContextId, Device, Extent, ResourceId, SharedMem, Sync, TrackerChoice, Write, Writes,
};

use super::host::{BLOCKS, CONTEXTS, Shared, read};

/// What is in host memory that nobody has written.
const GARBAGE: u8 = 0xee;
/// Few, so that one side often writes what the other has written or what was there.
const VALUES: [u8; 4] = [0, 1, 2, GARBAGE];

/// Numbers that look random (splitmix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    fn of<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())].clone()
    }
}

/// A byte that is written and looked at.
#[derive(Clone, Debug)]
struct Cell {
    at: u64,
    /// What was last written to it, if anything was.
    value: Option<u8>,
    /// By the CPU, and nothing was flushed since.
    unflushed: bool,
    /// By this batch, and the CPU was not told.
    hidden: Option<usize>,
}

#[derive(Debug)]
struct Resource {
    id: ResourceId,
    bytes: Range<u64>,
    access: Access,
    addressed: bool,
}

#[derive(Debug)]
struct Object {
    bo: BoId,
    block: usize,
    size: u64,
    mapped: Option<SharedMem>,
    cells: Vec<Cell>,
    resources: Vec<Resource>,
}

/// A byte: object and index of the cell.
type Place = (BoId, usize);

#[derive(Debug)]
struct Batch {
    context: usize,
    seqno: u64,
    writes: Writes,
    /// What may not be written by the CPU.
    exact: Vec<Place>,
    /// What it will write, in this order.
    plan: Vec<(Place, u8)>,
    /// How much of it is done, and how much of that the CPU was told of.
    done: usize,
    told: usize,
    /// It waits for the CPU.
    closed: bool,
    /// It runs behind this batch of another context.
    after: Option<usize>,
    /// Its number was signalled.
    completed: bool,
    /// The CPU was told so.
    retired: bool,
}

impl Batch {
    fn writes(&self, place: Place) -> bool {
        self.exact.contains(&place) || self.plan.iter().any(|(planned, _)| *planned == place)
    }
}

pub(super) struct World {
    device: Device<Shared>,
    host: Shared,
    contexts: Vec<ContextId>,
    objects: Vec<Object>,
    batches: Vec<Batch>,
    next_resource: u64,
    /// Numbers were given out that will never pass.
    refused: bool,
    /// What was done, when somebody wants to know.
    pub(super) log: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(tracker: TrackerChoice) -> Self {
        let host = Shared::new();
        for block in 0..BLOCKS {
            let memory = host.block(block);
            (0..memory.len()).for_each(|at| memory.store_byte(at, GARBAGE));
        }
        let device = Device::new(host.clone(), 1 << 30, tracker);
        let contexts = (0..CONTEXTS).map(|context| device.context_create(context)).collect();
        Self {
            device,
            host,
            contexts,
            objects: Vec::new(),
            batches: Vec::new(),
            next_resource: 0,
            refused: false,
            log: None,
        }
    }

    /// Does one thing that is legal now.
    pub(super) fn step(&mut self, random: &mut Random) -> Result<(), String> {
        match random.below(100) {
            0..5 => self.create(random),
            5..7 => self.destroy(random),
            7..12 => self.attach(random),
            12..14 => self.detach(random),
            14..17 => self.give_address(random),
            17..27 => self.map(random),
            27..32 => self.unmap(random),
            32..52 => self.cpu_write(random),
            52..56 => self.flush(),
            56..72 => self.submit(random),
            72..84 => self.device_run(random),
            84..88 => self.open_gate(random),
            88..93 => self.retire(),
            93..97 => self.settle(),
            _ => self.event(),
        }
        self.check()
    }

    /// Lets everything that is under way come to its end.
    fn settle(&mut self) {
        while let Some(batch) = (0..self.batches.len()).find(|batch| self.batches[*batch].closed) {
            self.open(batch);
        }
        while let Some(batch) = self.runnable().first().copied() {
            self.run(batch, usize::MAX);
        }
        self.retire();
    }

    /// Lets everything come to its end, and looks at it all.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        self.settle();
        self.check()?;
        for index in 0..self.objects.len() {
            self.map_object(index);
        }
        self.check()?;
        self.flush();
        self.check()
    }

    fn say(&mut self, what: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(what());
        }
    }

    fn object(&mut self, bo: BoId) -> &mut Object {
        self.objects.iter_mut().find(|object| object.bo == bo).expect("it is there while a batch writes it")
    }

    fn cell(&mut self, (bo, cell): Place) -> &mut Cell {
        &mut self.object(bo).cells[cell]
    }

    fn create(&mut self, random: &mut Random) {
        let free = |block: &usize| self.objects.iter().all(|object| object.block != *block);
        let Some(block) = (0..BLOCKS).find(free).filter(|_| self.objects.len() < 3) else { return };
        let size = random.of(&[20, 4096, 5003, 8192, 3 * 4096]);
        // Both sides of page boundaries, parts of words, whole words.
        let hot = [0..4, 13..18, 2048..2058, 4088..4101, 8190..8194, size - 3..size];
        let mut at: Vec<u64> = hot.into_iter().flatten().filter(|at| *at < size).collect();
        at.sort_unstable();
        at.dedup();
        let cell = |at| Cell { at, value: None, unflushed: false, hidden: None };
        let bo = self.device.bo_create(size, Sync::Coherent, block);
        self.say(|| format!("create {bo:?} of {size} bytes"));
        let cells = at.into_iter().map(cell).collect();
        self.objects.push(Object { bo, block, size, mapped: None, cells, resources: Vec::new() });
        if random.percent(80) {
            self.attach_to(self.objects.len() - 1, random);
        }
    }

    fn destroy(&mut self, random: &mut Random) {
        if self.objects.is_empty() {
            return;
        }
        let index = random.below(self.objects.len());
        let bo = self.objects[index].bo;
        let uses = |batch: &Batch| !batch.retired && batch.plan.iter().any(|((of, _), _)| *of == bo);
        if self.batches.iter().any(uses) {
            return;
        }
        self.say(|| format!("destroy {bo:?}"));
        let object = self.objects.remove(index);
        self.device.bo_destroy(bo);
        let memory = self.host.block(object.block);
        (0..memory.len()).for_each(|at| memory.store_byte(at, GARBAGE));
    }

    /// Some bytes of an object, from cell to cell or coarser.
    fn range(&self, index: usize, random: &mut Random) -> Range<u64> {
        let object = &self.objects[index];
        match random.below(10) {
            0 => 0..object.size,
            1 => 0..object.size + 100,
            2 => 4096..8192,
            3 => 0..4096,
            _ => {
                let mut ends = [0; 2].map(|_| random.of(&object.cells).at);
                ends.sort_unstable();
                ends[0]..ends[1] + 1
            }
        }
    }

    fn attach(&mut self, random: &mut Random) {
        if !self.objects.is_empty() {
            self.attach_to(random.below(self.objects.len()), random);
        }
    }

    fn attach_to(&mut self, index: usize, random: &mut Random) {
        let access = if random.percent(70) { Access::Dirtying } else { Access::ReadOnly };
        let (bytes, id) = (self.range(index, random), ResourceId(self.next_resource));
        self.next_resource += 1;
        let bo = self.objects[index].bo;
        self.say(|| format!("attach {id:?} on {bytes:?} of {bo:?}, {access:?}"));
        self.device.resource_attach(bo, id, bytes.clone(), access);
        self.objects[index].resources.push(Resource { id, bytes: bytes.clone(), access, addressed: false });
        if access == Access::Dirtying {
            self.reach_later(bo, &bytes, false, random);
        }
    }

    fn detach(&mut self, random: &mut Random) {
        if self.objects.is_empty() {
            return;
        }
        let index = random.below(self.objects.len());
        let object = &mut self.objects[index];
        if !object.resources.is_empty() {
            let resource = object.resources.remove(random.below(object.resources.len()));
            let bo = object.bo;
            self.device.resource_detach(bo, resource.id, resource.bytes.start);
            self.say(|| format!("detach {:?}", resource.id));
        }
    }

    fn give_address(&mut self, random: &mut Random) {
        if self.objects.is_empty() {
            return;
        }
        let index = random.below(self.objects.len());
        let object = &mut self.objects[index];
        if object.resources.is_empty() {
            return;
        }
        let (bo, at) = (object.bo, random.below(object.resources.len()));
        let resource = &mut object.resources[at];
        resource.addressed = true;
        let (id, bytes) = (resource.id, resource.bytes.clone());
        self.say(|| format!("give the address of {id:?}"));
        self.device.resource_give_address(bo, id, bytes.start);
        self.reach_later(bo, &bytes, true, random);
    }

    /// Lets batches in flight write what just came within their reach.
    fn reach_later(&mut self, bo: BoId, bytes: &Range<u64>, addressed: bool, random: &mut Random) {
        for batch in 0..self.batches.len() {
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

    /// The cells in some bytes of an object.
    fn places(&mut self, bo: BoId, bytes: &Range<u64>) -> Vec<Place> {
        let cells = self.object(bo).cells.iter().enumerate();
        cells.filter(|(_, cell)| bytes.contains(&cell.at)).map(|(cell, _)| (bo, cell)).collect()
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

    fn map(&mut self, random: &mut Random) {
        if !self.objects.is_empty() {
            self.map_object(random.below(self.objects.len()));
        }
    }

    fn map_object(&mut self, index: usize) {
        let object = &mut self.objects[index];
        if object.mapped.is_none() {
            object.mapped = Some(self.device.bo_map(object.bo).unwrap());
            let bo = object.bo;
            self.say(|| format!("map {bo:?}"));
        }
    }

    fn unmap(&mut self, random: &mut Random) {
        if self.objects.is_empty() {
            return;
        }
        let index = random.below(self.objects.len());
        let object = &mut self.objects[index];
        if object.mapped.take().is_some() {
            self.device.bo_unmap(object.bo);
            let bo = object.bo;
            self.say(|| format!("unmap {bo:?}"));
        }
    }

    /// Whether a batch waits for the CPU, or runs behind one that does.
    fn is_held(&self, batch: usize) -> bool {
        let this = &self.batches[batch];
        let before = (0..batch).filter(|other| self.batches[*other].context == this.context);
        this.closed || before.chain(this.after).any(|other| self.is_held(other))
    }

    /// Whether the CPU may write a place of a mapped object now.
    fn cpu_may_write(&self, place: Place) -> bool {
        self.batches.iter().enumerate().all(|(index, batch)| {
            let told = batch.plan[..batch.told].iter().any(|(done, _)| *done == place);
            let to_come = batch.plan[batch.told..].iter().any(|(planned, _)| *planned == place);
            batch.retired || !batch.writes(place) || (told && !to_come) || self.is_held(index)
        })
    }

    fn cpu_write(&mut self, random: &mut Random) {
        if self.objects.is_empty() {
            return;
        }
        let index = random.below(self.objects.len());
        let Some(guest) = self.objects[index].mapped else { return };
        let bo = self.objects[index].bo;
        for _ in 0..=random.below(5) {
            let cell = random.below(self.objects[index].cells.len());
            if !self.cpu_may_write((bo, cell)) {
                continue;
            }
            let value = random.of(&VALUES);
            let cell = &mut self.objects[index].cells[cell];
            (cell.value, cell.unflushed, cell.hidden) = (Some(value), true, None);
            let at = cell.at;
            guest.store_byte(usize::try_from(at).unwrap(), value);
            self.say(|| format!("CPU writes {value} to {at} of {bo:?}"));
        }
    }

    fn flushed(&mut self) {
        let cells = self.objects.iter_mut().flat_map(|object| &mut object.cells);
        cells.for_each(|cell| cell.unflushed = false);
    }

    fn flush(&mut self) {
        self.say(|| "flush".into());
        self.device.flush().unwrap();
        self.flushed();
    }

    fn submit(&mut self, random: &mut Random) {
        let context = random.below(CONTEXTS);
        let first = self.batches.len();
        for _ in 0..random.of(&[1, 1, 1, 2, 3]) {
            self.plan(context, random);
        }
        let writes: Vec<Writes> = self.batches[first..].iter().map(|batch| batch.writes.clone()).collect();
        let seqnos = self.device.execbuf(self.contexts[context], &writes).unwrap();
        self.flushed();
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
            gated: random.percent(12),
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

    /// Batches that are running.
    fn runnable(&self) -> Vec<usize> {
        let waits = |batch: usize| {
            let this = &self.batches[batch];
            let mut before = (0..batch).filter(|other| self.batches[*other].context == this.context);
            this.completed
                || this.closed
                || before.any(|other| !self.batches[other].completed)
                || this.after.is_some_and(|after| !self.batches[after].completed)
        };
        (0..self.batches.len()).filter(|batch| !waits(*batch)).collect()
    }

    fn device_run(&mut self, random: &mut Random) {
        let runnable = self.runnable();
        if !runnable.is_empty() {
            let steps = random.of(&[1, 3, 10, usize::MAX, usize::MAX]);
            self.run(random.of(&runnable), steps);
        }
    }

    /// Lets a batch write a little, and complete when it has written all.
    fn run(&mut self, index: usize, steps: usize) {
        for _ in 0..steps {
            let batch = &mut self.batches[index];
            let Some((place, value)) = batch.plan.get(batch.done).copied() else {
                batch.completed = true;
                let (context, seqno) = (batch.context, batch.seqno);
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

    fn open_gate(&mut self, random: &mut Random) {
        let closed: Vec<_> = (0..self.batches.len()).filter(|batch| self.batches[*batch].closed).collect();
        if !closed.is_empty() {
            self.open(random.of(&closed));
        }
    }

    fn open(&mut self, batch: usize) {
        self.flush();
        self.say(|| format!("batch {batch} need not wait any more"));
        self.batches[batch].closed = false;
    }

    fn retire(&mut self) {
        self.say(|| "retire".into());
        let asked = self.host.asked();
        self.device.retire_completed();
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
    fn event(&mut self) {
        self.say(|| "event".into());
        self.device.pull_in_flight();
        self.retire();
        self.batches.iter_mut().for_each(|batch| batch.told = batch.done);
        let cells = self.objects.iter_mut().flat_map(|object| &mut object.cells);
        cells.for_each(|cell| cell.hidden = None);
    }

    /// Every byte is what was last written to it, wherever it must be known.
    fn check(&self) -> Result<(), String> {
        for object in &self.objects {
            let host = self.host.block(object.block);
            for cell in &object.cells {
                let (Some(value), at) = (cell.value, usize::try_from(cell.at).unwrap()) else { continue };
                let (bo, found) = (object.bo, read(&host, at));
                if !cell.unflushed && found != value {
                    return Err(format!("host memory: {found} for {value} at {at} of {bo:?}"));
                }
                if let Some(guest) = object.mapped.filter(|_| cell.hidden.is_none()) {
                    let found = read(&guest, at);
                    if found != value {
                        return Err(format!("guest memory: {found} for {value} at {at} of {bo:?}"));
                    }
                }
            }
        }
        Ok(())
    }
}
