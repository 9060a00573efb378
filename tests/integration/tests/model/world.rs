//! What is in flight, and which byte must have which value.
//!
//! A phase of a batch is *held* until the host's timeline, or an event the host sets, lets it and all before
//! it go; then its effects are in the reference, and until the host has learnt of its completion the bytes it
//! writes are the device's alone, those it reads are nobody's to write. Bytes of held phases are still free:
//! what the processor writes before it lets them go comes first, by the specification's rules for
//! vkSignalSemaphore and vkSetEvent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockstep_harness::{Buffer, Gpu, MappedBytes, Queries, Rng, Timeline};

use crate::flight::{Flight, Program};
use crate::ops::{Span, Tools};
use crate::places::{self, Place, Scene, Share, Slot, Thing};

/// How often a world does what changes what is known of pages for good; each is once in so many times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mood {
    /// Commands of which only the device knows what they write.
    pub(crate) vague: usize,
    /// Batches that wait for the host's timeline.
    pub(crate) held: usize,
    /// Phases that wait for an event the host sets.
    pub(crate) gated: usize,
    /// Phases that tell of their completion by an event or a query.
    pub(crate) told: usize,
    /// Command buffers that take long.
    pub(crate) slow: usize,
    /// Steps that map or unmap.
    pub(crate) remapped: usize,
    /// Steps that make everything anew.
    pub(crate) renewed: usize,
}

impl Mood {
    fn random(rng: &mut Rng) -> Self {
        const NEVER: usize = usize::MAX;
        let preset = rng.below(8);
        let mut pick = |often: usize| [often, often, 8 * often, NEVER][rng.below(4)];
        let any = Self {
            vague: pick(2),
            held: pick(2),
            gated: pick(4),
            told: pick(2),
            slow: pick(8),
            remapped: pick(1),
            renewed: 80,
        };
        // The device waits for events that the CPU sets late, which the driver then does not support.
        let any = if lockstep_harness::dma_under_test() { Self { gated: NEVER, ..any } } else { any };
        // Pages of which the driver must not have learnt anything else, or it would not matter.
        match preset {
            0 => Self { vague: NEVER, held: 2, gated: any.gated.max(4), told: NEVER, renewed: 12, ..any },
            1 => Self { vague: NEVER, held: 4, gated: NEVER, told: NEVER, renewed: 12, ..any },
            2 => Self { vague: NEVER, held: NEVER, gated: NEVER, told: 2, renewed: 12, ..any },
            3 => Self { vague: 20, held: NEVER, gated: NEVER, told: NEVER, renewed: 30, ..any },
            _ => any,
        }
    }
}

pub(crate) struct World {
    seed: u64,
    pub(crate) rng: Rng,
    pub(crate) mood: Mood,
    log: VecDeque<String>,
    pub(crate) reference: Vec<Vec<u8>>,
    pub(crate) flights: VecDeque<Flight>,
    /// Programs that may be submitted again.
    pub(crate) programs: Vec<Arc<Program>>,
    /// Bytes that were the device's until a moment ago.
    recent: Vec<Span>,
    pub(crate) places: Vec<Place>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) go: Timeline,
    pub(crate) done: Timeline,
    pub(crate) go_value: u64,
    pub(crate) submitted: u64,
    pub(crate) queries: Queries,
    pub(crate) next_query: u32,
    /// Whether other worlds use queue and memory, too.
    pub(crate) shared: bool,
    /// Batches of all worlds that wait for a processor.
    pub(crate) holding: Arc<AtomicUsize>,
    pub(crate) tools: Arc<Tools>,
    pub(crate) gpu: Gpu,
}

fn pick(rng: &mut Rng, spans: &[Span]) -> Option<Span> {
    (!spans.is_empty()).then(|| spans[rng.below(spans.len())].clone())
}

/// More queries than a world's steps can use.
pub(crate) const QUERIES: u32 = 2000;

impl World {
    /// Makes a world of its own.
    pub(crate) fn new(seed: u64, tools: &Arc<Tools>) -> Self {
        let mut world = Self::empty(seed, tools, Arc::default());
        world.populate();
        world
    }

    /// Makes a world on parts of memory and on a queue that others use, too.
    pub(crate) fn on(share: Share, seed: u64, tools: &Arc<Tools>, holding: &Arc<AtomicUsize>) -> Self {
        let mut world = Self::empty(seed, tools, Arc::clone(holding));
        world.shared = true;
        world.slots.push(Slot { memory: share.memory, map: Some((0, share.bytes)) });
        for (offset, len) in share.parts {
            let alias = world.rng.one_in(4);
            let thing = places::buffer_at(&world.gpu, &world.slots[0].memory, offset, len, alias);
            world.add(Place { thing, len, slot: Some((0, offset)) });
        }
        world.add_hidden();
        world
    }

    fn empty(seed: u64, tools: &Arc<Tools>, holding: Arc<AtomicUsize>) -> Self {
        let gpu = tools.gpu.clone();
        let (go, done) = (Timeline::new(&gpu), Timeline::new(&gpu));
        let queries = Queries::timestamps(&gpu, QUERIES);
        gpu.run(|r| r.reset(&queries));
        let mut rng = Rng::new(seed);
        let mood = Mood::random(&mut rng);
        Self {
            seed,
            rng,
            mood,
            log: VecDeque::new(),
            reference: Vec::new(),
            flights: VecDeque::new(),
            programs: Vec::new(),
            recent: Vec::new(),
            places: Vec::new(),
            slots: Vec::new(),
            go,
            done,
            go_value: 0,
            submitted: 0,
            queries,
            next_query: 0,
            shared: false,
            holding,
            tools: Arc::clone(tools),
            gpu,
        }
    }

    pub(crate) fn note(&mut self, text: String) {
        if self.log.len() == 40 {
            self.log.pop_front();
        }
        self.log.push_back(text);
    }

    fn fail(&self, what: &str) -> ! {
        let steps: Vec<_> = self.log.iter().map(String::as_str).collect();
        let Self { seed, mood, .. } = self;
        panic!("seed {seed}, {mood:?}: {what}\nthe last steps:\n  {}", steps.join("\n  "));
    }

    /// Makes allocations with buffers on them, close together, and what the processor cannot see.
    pub(crate) fn populate(&mut self) {
        for slot in 0..self.rng.between(1, 4) {
            let (memory, things) = places::allocation(&self.gpu, &mut self.rng);
            self.slots.push(memory);
            for (thing, offset, len) in things {
                self.add(Place { thing, len, slot: Some((slot, offset)) });
            }
        }
        self.add_hidden();
    }

    fn add_hidden(&mut self) {
        let buffer = places::hidden_buffer(&self.gpu, &mut self.rng);
        self.add(buffer);
        let image = places::hidden_image(&self.gpu, &mut self.rng);
        self.add(image);
    }

    /// Gives a new buffer or image known content, by processor or device. Nothing is in flight.
    fn add(&mut self, place: Place) {
        let content = self.rng.bytes(place.len);
        let by_processor = place.slot.is_some() && self.rng.one_in(2);
        if let Thing::Image(image) = &place.thing {
            self.gpu.run(|r| image.enter_general_layout(r));
        }
        self.places.push(place);
        self.reference.push(content);
        let number = self.places.len() - 1;
        let Place { thing, .. } = &self.places[number];
        if by_processor {
            self.give_content(number);
            return;
        }
        let content = &self.reference[number];
        let source = Buffer::coherent_with(&self.gpu, content);
        self.gpu.run(|r| match thing {
            Thing::Buffer { buffer, .. } => r.copy(&source, 0, buffer, 0, content.len()),
            Thing::Image(image) => {
                let (whole, row) = (image.shape.whole(), image.shape.pitch / crate::images::TEXEL);
                image.copy_from(r, &whole, source.raw(), 0, row);
            }
        });
    }

    /// Has the processor write the whole content of a place that is mapped as a whole.
    pub(crate) fn give_content(&self, place: usize) {
        let (base, bytes) = self.mapped(place).expect("just mapped");
        let holes = self.busy(place, true);
        let content = &self.reference[place];
        bytes.store_each((base..base + bytes.len()).filter(|&n| !holes[n]).map(|n| (n - base, content[n])));
    }

    /// Returns what commands may be made up about.
    pub(crate) fn scene(&self) -> Scene<'_> {
        let mut rng = self.rng.clone();
        let mut scene = Scene::new(&self.places, move || rng.one_in(2));
        scene.offers = self.tools.offers;
        scene
    }

    /// Does one random thing.
    pub(crate) fn step(&mut self) {
        if !self.shared && self.rng.one_in(self.mood.renewed) {
            self.replace();
        }
        match self.rng.below(24) {
            0..8 => self.write(),
            8..12 if self.flights.len() < 8 => self.submit(),
            12..16 => self.let_go(),
            16..19 => self.complete(),
            19 if !self.shared && self.rng.one_in(self.mood.remapped) => self.remap(),
            20 if self.rng.one_in(2) => self.recreate(),
            20 => self.tidy(),
            21..24 => self.scene_of_several(),
            _ => {
                self.tidy();
                self.gpu.submit(&[], None);
            }
        }
        self.compare();
    }

    /// Marks bytes of a place that are not the processor's: those that released phases still write, or also
    /// those they read, and those between the rows of an image.
    pub(crate) fn busy(&self, place: usize, reads_too: bool) -> Vec<bool> {
        let mut busy = vec![false; self.reference[place].len()];
        if let Thing::Image(image) = &self.places[place].thing {
            busy.fill(true);
            for span in image.shape.spans(place, &image.shape.whole()) {
                busy[span.at..span.at + span.len].fill(false);
            }
        }
        let phases = self.flights.iter().flat_map(|flight| &flight.phases);
        for program in phases.filter(|phase| phase.released && !phase.known).flat_map(|phase| &phase.programs)
        {
            let reads = if reads_too { &program.reads[..] } else { &[] };
            for span in program.writes.iter().chain(reads).filter(|span| span.buffer == place) {
                busy[span.at..span.at + span.len].fill(true);
            }
        }
        busy
    }

    /// Returns the mapped part of a place: where it begins in the buffer, and its bytes.
    fn mapped(&self, place: usize) -> Option<(usize, MappedBytes)> {
        let (slot, offset) = self.places[place].slot?;
        let (start, bytes) = self.slots[slot].map?;
        let end = (offset + self.reference[place].len()).min(start + bytes.len());
        let begin = offset.max(start);
        (begin < end).then(|| (begin - offset, bytes.part(begin - start, end - begin)))
    }

    /// The processor writes a random range, or what the device has just written, or is about to write when it
    /// is let go; except what is not its to write.
    pub(crate) fn write(&mut self) {
        let recent = match self.rng.below(4) {
            0 | 1 => pick(&mut self.rng, &self.recent),
            2 => {
                let phases = self.flights.iter().flat_map(|flight| &flight.phases);
                let held = phases.filter(|phase| !phase.released).flat_map(|phase| &phase.programs);
                let spans: Vec<_> = held.flat_map(|program| program.writes.clone()).collect();
                pick(&mut self.rng, &spans)
            }
            _ => None,
        };
        let place = recent.as_ref().map_or_else(|| self.rng.below(self.places.len()), |span| span.buffer);
        let Some((base, bytes)) = self.mapped(place) else { return };
        let busy = self.busy(place, true);
        let longest = [1, 8, 64, 6000][self.rng.below(4)];
        let (at, len) =
            match recent.filter(|span| span.at >= base && span.at + span.len <= base + bytes.len()) {
                Some(span) => {
                    let len = self.rng.between(1, longest + 1).min(span.len);
                    (span.at - base + self.rng.below(span.len - len + 1), len)
                }
                None => {
                    let len = self.rng.between(1, longest + 1).min(bytes.len());
                    (self.rng.below(bytes.len() - len + 1), len)
                }
            };
        let way = self.rng.below(4);
        let content = match way {
            0 => vec![0; len],
            1 => bytes.read(at, len),
            _ => self.rng.bytes(len),
        };
        let stride = if way == 3 { self.rng.between(1, 50) } else { 1 };
        self.note(format!("write place {place} at {} len {len} way {way} stride {stride}", base + at));
        for n in (0..len).step_by(stride).filter(|n| !busy[base + at + n]) {
            bytes.store(at + n, content[n]);
            self.reference[place][base + at + n] = content[n];
        }
    }

    /// Applies what nothing holds back any longer; a held phase holds back all behind it.
    pub(crate) fn release(&mut self) {
        let scene = Scene::new(&self.places, || false);
        for flight in &mut self.flights {
            if flight.go > self.go_value {
                return;
            }
            for phase in &mut flight.phases {
                if phase.gate.as_ref().is_some_and(|(_, open)| !open) {
                    return;
                }
                if !std::mem::replace(&mut phase.released, true) {
                    let ops = phase.programs.iter().flat_map(|program| &program.ops);
                    ops.for_each(|op| op.apply(&scene, &mut self.reference));
                }
            }
        }
    }

    /// The host learns that the first `known` phases of a flight, and all before it, are complete.
    pub(crate) fn learn(&mut self, flight: usize, known: usize) {
        self.recent.clear();
        for (n, flight) in self.flights.iter_mut().enumerate().take(flight + 1).map(|(n, f)| (n == flight, f))
        {
            let count = if n { known } else { flight.phases.len() };
            for phase in flight.phases.iter_mut().take(count) {
                if !std::mem::replace(&mut phase.known, true) {
                    self.recent.extend(phase.programs.iter().flat_map(|program| program.writes.clone()));
                }
            }
        }
    }

    /// Forgets what was the device's a moment ago.
    pub(crate) fn learn_nothing(&mut self) {
        self.recent.clear();
    }

    /// Drops the objects of batches that are known to be complete.
    ///
    /// An event or query tells of the commands before it, not of the batch's own end, and the timeline not of
    /// its fence's signal: for these this waits.
    pub(crate) fn tidy(&mut self) {
        while let Some(flight) = self.flights.front().filter(|flight| flight.is_known()) {
            self.done.wait(flight.number);
            flight.fence.iter().filter(|_| flight.last).for_each(|fence| fence.wait());
            self.flights.pop_front();
        }
    }

    /// Says how many more, or fewer, batches of this world wait for the processor.
    pub(crate) fn count_held(&self, before: usize) {
        let now = self.held();
        // Under the queue's lock where the number grows.
        if now > before {
            self.holding.fetch_add(now - before, Ordering::SeqCst);
        } else {
            self.holding.fetch_sub(before - now, Ordering::SeqCst);
        }
    }

    pub(crate) fn held(&self) -> usize {
        self.flights.iter().filter(|flight| !flight.is_released()).count()
    }

    /// Lets everything go, waits for it, and compares.
    pub(crate) fn drain(&mut self) {
        while self.held() > 0 {
            self.let_go();
        }
        self.done.wait(self.submitted);
        if let Some(last) = self.flights.back() {
            let phases = last.phases.len();
            self.learn(self.flights.len() - 1, phases);
        }
        self.compare();
        self.tidy();
    }

    /// Compares all bytes the processor may look at with the reference.
    pub(crate) fn compare(&self) {
        for place in 0..self.places.len() {
            let Some((base, bytes)) = self.mapped(place) else { continue };
            let got = bytes.read_all();
            let expected = &self.reference[place][base..base + got.len()];
            if got == expected {
                continue;
            }
            let busy = self.busy(place, false);
            let wrong = (0..got.len()).find(|&n| got[n] != expected[n] && !busy[base + n]);
            if let Some(n) = wrong {
                let (is, should) = (got[n], expected[n]);
                self.fail(&format!("place {place} byte {}: {is:#04x} instead of {should:#04x}", base + n));
            }
        }
    }

    /// Compares what the device sees of a place with the reference. Nothing is held.
    pub(crate) fn compare_device(&self, place: usize) {
        let Place { thing, len, .. } = &self.places[place];
        let got = match thing {
            Thing::Buffer { buffer, .. } => buffer.all_as_device_sees(),
            Thing::Image(image) => {
                let copy = Buffer::mapped(&self.gpu, lockstep_harness::Kind::Coherent, *len);
                let (whole, row) = (image.shape.whole(), image.shape.pitch / crate::images::TEXEL);
                self.gpu.run(|r| image.copy_to(r, &whole, copy.raw(), 0, row));
                copy.bytes().read_all()
            }
        };
        let holes = self.busy(place, false);
        let expected = &self.reference[place];
        if let Some(at) = (0..got.len()).find(|&n| got[n] != expected[n] && !holes[n]) {
            let (is, should) = (got[at], expected[at]);
            self.fail(&format!(
                "the device sees {is:#04x} instead of {should:#04x} in place {place} byte {at}"
            ));
        }
    }

    /// Lets everything end and compares the device's view too.
    pub(crate) fn finish(mut self) {
        self.drain();
        (0..self.places.len()).for_each(|place| self.compare_device(place));
    }
}
