//! Buffers, what is in flight, and which byte must have which value.
//!
//! A batch is *held* until the host's timeline lets it and all before it go; then its effects are in the
//! reference, and until the host has learnt of its completion the bytes it writes are the device's alone,
//! those it reads are nobody's to write. Bytes of held batches are still free: what the processor writes
//! before it lets them go comes first, by the specification's rule for vkSignalSemaphore.

use crate::ops::{Op, Span, shader};
use lockstep_harness::{
    Batch, Bindings, Buffer, Commands, Compute, Event, Fence, Gpu, Kind, MappedBytes, Memory, Queries, Rng,
    Timeline,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// A buffer of the reference and its place in an allocation.
struct Place {
    buffer: Buffer,
    /// Which of the world's allocations, if it is a mappable one.
    slot: Option<(usize, usize)>,
}

/// An allocation and its present map: where it begins, and its bytes.
struct Slot {
    memory: Arc<Memory>,
    map: Option<(usize, MappedBytes)>,
}

/// A submitted batch whose objects still live.
struct Flight {
    number: u64,
    /// The value of the host's timeline that lets it go.
    go: u64,
    released: bool,
    /// Whether the host has learnt that its commands are complete.
    known: bool,
    ops: Vec<Op>,
    event: Option<Event>,
    query: Option<u32>,
    fence: Option<Arc<Fence>>,
    /// Whether it is its submission's last, the one behind which the fence is signalled.
    last: bool,
    _commands: Commands,
    _extras: Vec<Option<(Buffer, Bindings)>>,
}

pub(crate) struct World {
    seed: u64,
    rng: Rng,
    log: VecDeque<String>,
    reference: Vec<Vec<u8>>,
    flights: VecDeque<Flight>,
    places: Vec<Place>,
    slots: Vec<Slot>,
    shader: Compute,
    go: Timeline,
    done: Timeline,
    go_value: u64,
    submitted: u64,
    queries: Queries,
    next_query: u32,
    gpu: Gpu,
}

/// More queries than a world's steps can use.
const QUERIES: u32 = 1000;

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let gpu = Gpu::new();
        let (go, done) = (Timeline::new(&gpu), Timeline::new(&gpu));
        let queries = Queries::timestamps(&gpu, QUERIES);
        gpu.run(|r| r.reset(&queries));
        let mut world = Self {
            seed,
            rng: Rng::new(seed),
            log: VecDeque::new(),
            reference: Vec::new(),
            flights: VecDeque::new(),
            places: Vec::new(),
            slots: Vec::new(),
            shader: shader(&gpu),
            go,
            done,
            go_value: 0,
            submitted: 0,
            queries,
            next_query: 0,
            gpu,
        };
        world.populate();
        world
    }

    fn note(&mut self, text: String) {
        if self.log.len() == 40 {
            self.log.pop_front();
        }
        self.log.push_back(text);
    }

    fn fail(&self, what: &str) -> ! {
        let steps: Vec<_> = self.log.iter().map(String::as_str).collect();
        panic!("seed {}: {what}\nthe last steps:\n  {}", self.seed, steps.join("\n  "));
    }

    /// Makes allocations with buffers on them, close together, and one device-only buffer.
    fn populate(&mut self) {
        for slot in 0..self.rng.between(1, 4) {
            let count = self.rng.between(1, 4);
            let sizes: Vec<_> = (0..count).map(|_| self.size()).collect();
            let mut buffers: Vec<_> =
                sizes.into_iter().map(|size| Buffer::unbound(&self.gpu, size)).collect();
            let mut end = 0;
            let offsets: Vec<_> = buffers
                .iter()
                .map(|buffer| {
                    let needs = buffer.requirements();
                    let [size, alignment] =
                        [needs.size, needs.alignment].map(|n| usize::try_from(n).expect("small"));
                    let gap = if self.rng.one_in(2) { 0 } else { self.rng.below(5000) };
                    let offset = (end + gap).next_multiple_of(alignment);
                    end = offset + size;
                    offset
                })
                .collect();
            let memory = Memory::new(&self.gpu, Kind::Coherent, end + self.rng.below(100));
            for (buffer, &offset) in buffers.iter_mut().zip(&offsets) {
                buffer.bind(&memory, offset);
            }
            let map = Some((0, memory.map_whole()));
            self.slots.push(Slot { memory, map });
            for (buffer, offset) in buffers.into_iter().zip(offsets) {
                self.add(buffer, Some((slot, offset)));
            }
        }
        let size = self.size();
        self.add(Buffer::unmapped(&self.gpu, Kind::DeviceOnly, size.next_multiple_of(4)), None);
    }

    fn size(&mut self) -> usize {
        if self.rng.one_in(4) { self.rng.between(4, 300) } else { self.rng.between(300, 20_000) }
    }

    /// Gives a new buffer known content, by processor or device.
    fn add(&mut self, buffer: Buffer, slot: Option<(usize, usize)>) {
        let content = self.rng.bytes(buffer.len());
        match slot.filter(|_| self.rng.one_in(2)) {
            Some((slot, offset)) => {
                let (_, bytes) = self.slots[slot].map.expect("just mapped");
                bytes.write(offset, &content);
            }
            None => {
                let source = Buffer::coherent_with(&self.gpu, &content);
                self.gpu.run(|r| r.copy(&source, 0, &buffer, 0, content.len()));
            }
        }
        self.reference.push(content);
        self.places.push(Place { buffer, slot });
    }

    /// Does one random thing.
    pub(crate) fn step(&mut self) {
        match self.rng.below(20) {
            0..8 => self.write(),
            8..12 if self.flights.len() < 8 => self.submit(),
            12..15 => self.let_go(),
            15..18 => self.complete(),
            18 => self.remap(),
            19 if self.rng.one_in(3) => self.replace(),
            19 => self.tidy(),
            _ => {
                self.tidy();
                self.gpu.submit(&[], None);
            }
        }
        self.compare();
    }

    /// Marks bytes of `buffer` that released batches still write, or also those they read.
    fn busy(&self, buffer: usize, reads_too: bool) -> Vec<bool> {
        let mut busy = vec![false; self.reference[buffer].len()];
        for op in self.flights.iter().filter(|f| f.released && !f.known).flat_map(|flight| &flight.ops) {
            let reads = if reads_too { op.reads() } else { Vec::new() };
            for Span { at, len, .. } in
                op.writes().into_iter().chain(reads).filter(|span| span.buffer == buffer)
            {
                busy[at..at + len].fill(true);
            }
        }
        busy
    }

    /// Returns the mapped part of a buffer: where it begins in the buffer, and its bytes.
    fn mapped(&self, buffer: usize) -> Option<(usize, MappedBytes)> {
        let (slot, offset) = self.places[buffer].slot?;
        let (start, bytes) = self.slots[slot].map?;
        let end = (offset + self.reference[buffer].len()).min(start + bytes.len());
        let begin = offset.max(start);
        (begin < end).then(|| (begin - offset, bytes.part(begin - start, end - begin)))
    }

    /// The processor writes a random range, except what is not its to write.
    fn write(&mut self) {
        let buffer = self.rng.below(self.places.len());
        let Some((base, bytes)) = self.mapped(buffer) else { return };
        let busy = self.busy(buffer, true);
        let longest = [1, 8, 64, 6000][self.rng.below(4)];
        let len = self.rng.between(1, longest + 1).min(bytes.len());
        let at = self.rng.below(bytes.len() - len + 1);
        let way = self.rng.below(4);
        let content = match way {
            0 => vec![0; len],
            1 => bytes.read(at, len),
            _ => self.rng.bytes(len),
        };
        let stride = if way == 3 { self.rng.between(1, 50) } else { 1 };
        self.note(format!("write buffer {buffer} at {} len {len} way {way} stride {stride}", base + at));
        for n in (0..len).step_by(stride).filter(|n| !busy[base + at + n]) {
            bytes.store(at + n, content[n]);
            self.reference[buffer][base + at + n] = content[n];
        }
    }

    /// Submits one to three batches by one call.
    fn submit(&mut self) {
        let sizes: Vec<_> = self.reference.iter().map(Vec::len).collect();
        let fence = self.rng.one_in(2).then(|| Arc::new(Fence::new(&self.gpu)));
        let count = self.rng.between(1, 4);
        let mut batches = Vec::new();
        for n in 0..count {
            self.submitted += 1;
            let ops: Vec<_> =
                (0..self.rng.between(1, 5)).map(|_| Op::random(&mut self.rng, &sizes)).collect();
            let event = self.rng.one_in(4).then(|| Event::new(&self.gpu));
            let query = (self.rng.one_in(4) && self.next_query < QUERIES).then_some(self.next_query);
            self.next_query += u32::from(query.is_some());
            let buffers: Vec<_> = self.places.iter().map(|place| &place.buffer).collect();
            let extras: Vec<_> = ops.iter().map(|op| op.prepare(&self.gpu, &self.shader, &buffers)).collect();
            let commands = Commands::new(&self.gpu, |r| {
                for (op, extra) in ops.iter().zip(&extras) {
                    op.record(r, &self.shader, &buffers, extra.as_ref());
                }
                event.iter().for_each(|event| r.set_event(event));
                query.iter().for_each(|&query| r.timestamp(&self.queries, query));
            });
            let held = self.rng.one_in(2);
            let go = if held { self.go_value + 1 + self.rng.below(2) as u64 } else { 0 };
            let mut batch = Batch::new().run(&commands).signal(&self.done, self.submitted);
            if held {
                batch = batch.wait(&self.go, go);
            }
            batches.push(batch);
            let number = self.submitted;
            self.note(format!("submit batch {number} go {go}: {ops:?}"));
            self.flights.push_back(Flight {
                number,
                go,
                released: false,
                known: false,
                ops,
                event,
                query,
                fence: fence.clone(),
                last: n + 1 == count,
                _commands: commands,
                _extras: extras,
            });
        }
        let fence = fence.as_deref();
        if self.rng.one_in(2) {
            self.gpu.submit(&batches, fence);
        } else {
            self.gpu.submit2(&batches, fence);
        }
        self.release();
    }

    /// Signals the host's timeline.
    fn let_go(&mut self) {
        let value = self.go_value + 1 + self.rng.below(2) as u64;
        self.note(format!("signal {value}"));
        self.go_value = value;
        self.go.signal(value);
        self.release();
    }

    /// Applies what nothing holds back any longer; a held batch holds back all behind it.
    fn release(&mut self) {
        for flight in &mut self.flights {
            if flight.go > self.go_value {
                return;
            }
            if !flight.released {
                flight.released = true;
                flight.ops.iter().for_each(|op| op.apply(&mut self.reference));
            }
        }
    }

    /// Learns in some way that a released batch is complete.
    fn complete(&mut self) {
        let released = self.flights.iter().take_while(|flight| flight.released).count();
        if released == 0 {
            return;
        }
        let all = released == self.flights.len();
        let picked = self.rng.below(released);
        let (way, number) = (self.rng.below(10), self.flights[picked].number);
        let flight = &self.flights[picked];
        let way = match (way, &flight.fence, &flight.event, flight.query) {
            (0..2, Some(fence), ..) if flight.last => {
                if way == 0 {
                    fence.wait();
                } else {
                    fence.poll();
                }
                "fence"
            }
            (2..4, _, Some(event), _) => {
                event.poll();
                "event"
            }
            // lavapipe 22.3 waits for the whole device here, whatever the flags say: nothing may be held.
            (4..6, _, _, Some(query)) if all => {
                if way == 4 {
                    self.queries.wait(query);
                } else {
                    self.queries.poll(query);
                }
                "query"
            }
            (6, ..) if all => {
                self.gpu.queue_wait_idle();
                "queue idle"
            }
            (7, ..) if all => {
                self.gpu.device_wait_idle();
                "device idle"
            }
            (8, ..) => {
                self.done.poll(number);
                "counter"
            }
            _ => {
                self.done.wait(number);
                "timeline"
            }
        };
        self.note(format!("batch {number} is complete by {way}"));
        let known = if way.ends_with("idle") { released } else { picked + 1 };
        self.flights.iter_mut().take(known).for_each(|flight| flight.known = true);
    }

    /// Drops the objects of batches that are known to be complete.
    ///
    /// An event or query tells of the commands before it, not of the batch's own end, for which this waits.
    fn tidy(&mut self) {
        while let Some(flight) = self.flights.front().filter(|flight| flight.known) {
            self.done.wait(flight.number);
            self.flights.pop_front();
        }
    }

    /// Unmaps an allocation, and maybe maps another part of it.
    fn remap(&mut self) {
        let slot = self.rng.below(self.slots.len());
        let Slot { memory, map } = &mut self.slots[slot];
        if map.take().is_some() {
            memory.unmap();
        }
        let size = memory.size();
        let offset = if self.rng.one_in(2) { 0 } else { self.rng.below(size) };
        let len = if self.rng.one_in(2) { size - offset } else { self.rng.between(1, size - offset + 1) };
        if !self.rng.one_in(3) {
            *map = Some((offset, memory.map(offset, len)));
        }
        let mapped = map.map(|(offset, bytes)| (offset, bytes.len()));
        self.note(format!("remap {slot}: {mapped:?}"));
    }

    /// Throws everything away and starts anew, on memory that may be used again.
    fn replace(&mut self) {
        self.drain();
        self.note("replace all buffers".to_owned());
        self.places.clear();
        self.slots.clear();
        self.reference.clear();
        self.populate();
    }

    fn drain(&mut self) {
        let last = self.flights.iter().map(|flight| flight.go).max().unwrap_or(0);
        if last > self.go_value {
            self.go_value = last;
            self.go.signal(last);
            self.release();
        }
        self.done.wait(self.submitted);
        self.flights.iter_mut().for_each(|flight| flight.known = true);
        self.compare();
        self.tidy();
    }

    /// Compares all bytes the processor may look at with the reference.
    fn compare(&self) {
        for buffer in 0..self.places.len() {
            let Some((base, bytes)) = self.mapped(buffer) else { continue };
            let got = bytes.read_all();
            let expected = &self.reference[buffer][base..base + got.len()];
            if got == expected {
                continue;
            }
            let busy = self.busy(buffer, false);
            let wrong = (0..got.len()).find(|&n| got[n] != expected[n] && !busy[base + n]);
            if let Some(n) = wrong {
                let (is, should) = (got[n], expected[n]);
                self.fail(&format!("buffer {buffer} byte {}: {is:#04x} instead of {should:#04x}", base + n));
            }
        }
    }

    /// Lets everything end and compares the device's view too.
    pub(crate) fn finish(mut self) {
        self.drain();
        for (number, place) in self.places.iter().enumerate() {
            let got = place.buffer.all_as_device_sees();
            if let Some(at) = (0..got.len()).find(|&n| got[n] != self.reference[number][n]) {
                let (is, should) = (got[at], self.reference[number][at]);
                self.fail(&format!(
                    "the device sees {is:#04x} instead of {should:#04x} in buffer {number} byte {at}"
                ));
            }
        }
    }
}
