//! A device, what CPU and device do to it, and what every byte must be.

mod batches;

use std::ops::Range;

use kmd_sim::uapi::{
    self, Access, BoId, ContextId, Device, Readback, ResourceId, SharedMem, Sync, TrackerChoice,
};

use self::batches::Batch;
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
    /// The submission it is on its way with, if the CPU wrote nothing since.
    sent: Option<u64>,
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
    /// It is mapped in a mapping of its own.
    placed: bool,
    /// Where it was, and is to be mapped again.
    kept: Option<uapi::Place>,
    cells: Vec<Cell>,
    resources: Vec<Resource>,
}

/// A byte: object and index of the cell.
type Place = (BoId, usize);

pub(super) struct World {
    device: Device<Shared>,
    host: Shared,
    contexts: Vec<ContextId>,
    objects: Vec<Object>,
    batches: Vec<Batch>,
    next_resource: u64,
    submissions: u64,
    /// Numbers were given out that will never pass.
    refused: bool,
    /// How often the CPU looks at an object after a step: what it looks at it touches.
    looks: usize,
    /// What was done, when somebody wants to know.
    pub(super) log: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(tracker: TrackerChoice, readback: Readback, has_images: bool) -> Self {
        let host = Shared::new(has_images);
        for block in 0..BLOCKS {
            let memory = host.block(block);
            (0..memory.len()).for_each(|at| memory.store_byte(at, GARBAGE));
        }
        let device = Device::new(host.clone(), 1 << 30, tracker, readback);
        let contexts = (0..CONTEXTS).map(|context| device.context_create(context)).collect();
        Self {
            device,
            host,
            contexts,
            objects: Vec::new(),
            batches: Vec::new(),
            next_resource: 0,
            submissions: 0,
            refused: false,
            looks: if matches!(readback, Readback::Auto | Readback::Eager) { 100 } else { 15 },
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
            84..88 if self.host.has_images() => self.apply_updates(),
            84..88 => self.open_gate(random),
            88..93 => self.retire(),
            93..97 => self.settle(),
            _ => self.event(),
        }
        self.check(self.looks, random)
    }

    /// Lets everything that is under way come to its end.
    fn settle(&mut self) {
        while let Some(batch) = (0..self.batches.len()).find(|batch| self.batches[*batch].closed) {
            self.open(batch);
        }
        self.apply_updates();
        while let Some(batch) = self.runnable().first().copied() {
            self.run(batch, usize::MAX);
        }
        self.retire();
    }

    /// Lets what was sent reach host memory.
    fn apply_updates(&mut self) {
        self.say(|| "updates".into());
        self.host.apply_updates();
        for cell in
            self.objects.iter_mut().flat_map(|object| &mut object.cells).filter(|cell| cell.sent.is_some())
        {
            (cell.sent, cell.unflushed) = (None, false);
        }
    }

    /// Lets everything come to its end, and looks at it all.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        let random = &mut Random(0);
        self.settle();
        self.check(100, random)?;
        for index in 0..self.objects.len() {
            self.map_object(index, false);
        }
        self.check(100, random)?;
        self.flush();
        if self.host.has_images() {
            self.device.execbuf(self.contexts[0], &[]).unwrap();
            self.sent();
            self.apply_updates();
        }
        self.check(100, random)
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
        let cell = |at| Cell { at, value: None, unflushed: false, sent: None, hidden: None };
        if self.host.has_images() {
            let image = self.host.image(block);
            (0..image.len()).for_each(|at| image.store_byte(at, 0));
        }
        let bo = self.device.bo_create(size, Sync::Coherent, block);
        self.say(|| format!("create {bo:?} of {size} bytes"));
        let cells = at.into_iter().map(cell).collect();
        self.objects.push(Object {
            bo,
            block,
            size,
            mapped: None,
            placed: false,
            kept: None,
            cells,
            resources: Vec::new(),
        });
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

    /// The cells in some bytes of an object.
    fn places(&mut self, bo: BoId, bytes: &Range<u64>) -> Vec<Place> {
        let cells = self.object(bo).cells.iter().enumerate();
        cells.filter(|(_, cell)| bytes.contains(&cell.at)).map(|(cell, _)| (bo, cell)).collect()
    }

    fn map(&mut self, random: &mut Random) {
        if !self.objects.is_empty() {
            self.map_object(random.below(self.objects.len()), random.percent(40));
        }
    }

    fn map_object(&mut self, index: usize, placed: bool) {
        let object = &mut self.objects[index];
        if object.mapped.is_none() {
            if self.host.has_images() {
                self.bring_back(index);
            }
            let object = &mut self.objects[index];
            object.placed = placed;
            object.mapped = Some(match placed {
                true => self.device.bo_map_placed(object.bo, 0..object.size, object.kept.take()).unwrap(),
                false => self.device.bo_map(object.bo).unwrap(),
            });
            let bo = object.bo;
            self.say(|| format!("map {bo:?}, in a mapping of its own: {placed}"));
        }
    }

    /// What the device wrote of an object that is about to be mapped, in its image.
    fn bring_back(&mut self, index: usize) {
        let (bo, block) = (self.objects[index].bo, self.objects[index].block);
        if !self.device.bo_missing(bo).is_empty() {
            self.settle();
        }
        for bytes in self.device.bo_missing(bo) {
            for at in bytes {
                let at = usize::try_from(at).unwrap();
                self.host.image(block).store_byte(at, read(&self.host.block(block), at));
            }
        }
    }

    fn unmap(&mut self, random: &mut Random) {
        if self.objects.is_empty() {
            return;
        }
        let index = random.below(self.objects.len());
        let object = &mut self.objects[index];
        if object.mapped.take().is_some() {
            let keep = object.placed && random.percent(50);
            match keep {
                true => object.kept = Some(self.device.bo_unmap_reserve(object.bo).unwrap()),
                false => self.device.bo_unmap(object.bo),
            }
            let bo = object.bo;
            self.say(|| format!("unmap {bo:?}, its addresses are kept: {keep}"));
        }
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
            (cell.value, cell.unflushed, cell.sent, cell.hidden) = (Some(value), true, None, None);
            let at = cell.at;
            guest.store_byte(usize::try_from(at).unwrap(), value);
            self.say(|| format!("CPU writes {value} to {at} of {bo:?}"));
        }
    }

    /// What was flushed is on its way to memory that the CPU does not see.
    fn sent(&mut self) {
        self.submissions += 1;
        let cells = self.objects.iter_mut().flat_map(|object| &mut object.cells);
        let unsent = cells.filter(|cell| cell.unflushed && cell.sent.is_none());
        unsent.for_each(|cell| cell.sent = Some(self.submissions));
    }

    fn flushed(&mut self) {
        if self.host.has_images() {
            return;
        }
        let cells = self.objects.iter_mut().flat_map(|object| &mut object.cells);
        cells.for_each(|cell| cell.unflushed = false);
    }

    fn flush(&mut self) {
        self.say(|| "flush".into());
        self.device.flush().unwrap();
        self.device.open_due();
        self.flushed();
    }

    /// Every byte is what was last written to it, wherever it must be known.
    fn check(&self, looks: usize, random: &mut Random) -> Result<(), String> {
        for object in &self.objects {
            let looked_at = object.mapped.filter(|_| random.percent(looks));
            let host = self.host.block(object.block);
            for cell in &object.cells {
                let (Some(value), at) = (cell.value, usize::try_from(cell.at).unwrap()) else { continue };
                let (bo, found) = (object.bo, read(&host, at));
                if !cell.unflushed && found != value {
                    return Err(format!("host memory: {found} for {value} at {at} of {bo:?}"));
                }
                if let Some(guest) = looked_at.filter(|_| cell.hidden.is_none()) {
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
