//! The steps that submit, let go, learn of completion, and change what there is.

use std::sync::Arc;

use lockstep_harness::{Batch, Commands, Event, Fence, Semaphore};

use crate::flight::{Flight, Phase, Program};
use crate::ops::Op;
use crate::places::{self, Place, Scene, Slot, Thing};
use crate::shade::Shade;
use crate::world::{Mood, QUERIES, World};

impl World {
    /// Records something, or takes what was recorded before.
    pub(crate) fn program(&mut self) -> Arc<Program> {
        if !self.programs.is_empty() && self.rng.one_in(4) {
            return Arc::clone(&self.programs[self.rng.below(self.programs.len())]);
        }
        let count = self.rng.between(1, 4);
        let mut rng = self.rng.clone();
        let scene = self.scene();
        let Mood { vague, slow, .. } = self.mood;
        let mut ops = Vec::new();
        if rng.one_in(slow) {
            ops.extend((0..rng.between(1, 5)).map(|_| Op::Shade(Shade::slow(&mut rng, &scene))));
        }
        for _ in 0..count {
            let op = Op::random(&mut rng, &scene, vague);
            ops.extend(if rng.one_in(3) { op.witness(&mut rng, &scene) } else { None });
            ops.push(op);
        }
        let program = Program::new(&self.tools, &scene, ops, rng.one_in(5));
        drop(scene);
        self.rng = rng;
        if self.rng.one_in(3) {
            if self.programs.len() == 3 {
                self.programs.remove(0);
            }
            self.programs.push(Arc::clone(&program));
        }
        program
    }

    /// Makes up a part of a batch.
    fn phase(&mut self, first: bool) -> Phase {
        let programs = (0..self.rng.between(1, 3)).map(|_| self.program()).collect();
        let gated = self.rng.one_in(self.mood.gated) && (!first || self.rng.one_in(4));
        let gate = gated.then(|| (Event::new(&self.gpu), false));
        let told = self.rng.one_in(self.mood.told);
        let event = (told && self.rng.one_in(2)).then(|| Event::new(&self.gpu));
        let query = (told && event.is_none() && self.next_query < QUERIES).then_some(self.next_query);
        self.next_query += u32::from(query.is_some());
        Phase { programs, gate, event, query, released: false, known: false }
    }

    /// Makes up a batch.
    fn batch(&mut self, fence: Option<&Arc<Fence>>, last: bool) -> Batch {
        let count = if self.rng.one_in(3) { self.rng.between(2, 4) } else { 1 };
        let phases: Vec<_> = (0..count).map(|n| self.phase(n == 0)).collect();
        let held = self.rng.one_in(self.mood.held);
        let go = if held { self.go_value + 1 + self.rng.below(2) as u64 } else { 0 };
        self.enlist(phases, go, fence, last)
    }

    /// Adds a batch to those in flight; returns it for submission.
    pub(crate) fn enlist(
        &mut self,
        phases: Vec<Phase>,
        go: u64,
        fence: Option<&Arc<Fence>>,
        last: bool,
    ) -> Batch {
        self.submitted += 1;
        let number = self.submitted;
        let mut batch = Batch::new();
        let mut separators = Vec::new();
        for phase in &phases {
            if let Some((event, _)) = &phase.gate {
                separators.push(Commands::new(&self.gpu, |r| r.wait_host_event(event)));
                batch = batch.run(separators.last().expect("just pushed"));
            }
            for program in &phase.programs {
                batch = batch.run(&program.commands);
            }
            if phase.event.is_some() || phase.query.is_some() {
                separators.push(Commands::new(&self.gpu, |r| {
                    phase.event.iter().for_each(|event| r.set_event(event));
                    phase.query.iter().for_each(|&query| r.timestamp(&self.queries, query));
                }));
                batch = batch.run(separators.last().expect("just pushed"));
            }
        }
        batch = batch.signal(&self.done, number);
        if go > 0 {
            batch = batch.wait(&self.go, go);
        }
        let describe = |phase: &Phase| {
            let ops: Vec<_> = phase.programs.iter().flat_map(|program| &program.ops).collect();
            let (gate, event, query) = (phase.gate.is_some(), phase.event.is_some(), phase.query);
            format!("\n    gate {gate} {ops:?} event {event} query {query:?}")
        };
        let text: Vec<_> = phases.iter().map(describe).collect();
        self.note(format!("submit batch {number} go {go}: {}", text.concat()));
        self.flights.push_back(Flight {
            number,
            go,
            phases,
            fence: fence.cloned(),
            last,
            _separators: separators,
            _semaphores: Vec::new(),
        });
        batch
    }

    /// Hands batches that were enlisted to the queue.
    pub(crate) fn hand_over(&mut self, batches: &[Batch], fence: Option<&Fence>, held_before: usize) {
        let old = self.rng.one_in(2);
        {
            let queue = self.gpu.queue();
            // Whoever idles has to know before it can get the queue.
            self.count_held(held_before);
            if old {
                self.gpu.submit_to(*queue, batches, fence);
            } else {
                self.gpu.submit2_to(*queue, batches, fence);
            }
        }
        let held = self.held();
        self.release();
        self.count_held(held);
    }

    /// Submits one to three batches by one call.
    pub(crate) fn submit(&mut self) {
        let held = self.held();
        let fence = self.rng.one_in(2).then(|| Arc::new(Fence::new(&self.gpu)));
        let count = self.rng.between(1, 4);
        let mut batches: Vec<_> = (1..=count).map(|n| self.batch(fence.as_ref(), n == count)).collect();
        if !self.shared && self.rng.one_in(3) {
            // lavapipe 22.3 submits a wait only when its signal is under way: nothing may be held before.
            let free = |flight: &Flight| {
                flight.go <= self.go_value && flight.phases.iter().all(|p| p.gate.is_none())
            };
            let first = self.flights.len() - count;
            let chained = match held {
                0 => self.flights.iter().skip(first).take_while(|flight| free(flight)).count(),
                _ => 0,
            };
            for n in 1..count.min(chained + 1) {
                let semaphore = Arc::new(Semaphore::new(&self.gpu));
                batches[n - 1] = batches[n - 1].clone().signal_binary(&semaphore);
                batches[n] = batches[n].clone().wait_binary(&semaphore);
                self.flights.back_mut().expect("just pushed")._semaphores.push(semaphore);
            }
        }
        self.hand_over(&batches, fence.as_deref(), held);
    }

    /// Signals the host's timeline, or sets an event that the device waits for.
    pub(crate) fn let_go(&mut self) {
        let held = self.held();
        let late = |flight: &&Flight| flight.go > self.go_value;
        let blocked = self.flights.iter().find(|flight| !flight.is_released()).is_some_and(|f| late(&f));
        let by_event = if blocked { self.rng.one_in(4) } else { self.rng.below(4) != 0 };
        let phases = self.flights.iter_mut().flat_map(|flight| &mut flight.phases);
        let gate = phases.filter_map(|phase| phase.gate.as_mut()).find(|(_, open)| !open);
        match gate.filter(|_| by_event) {
            Some((event, open)) => {
                event.set();
                *open = true;
                self.note("set an event".to_owned());
            }
            None => {
                let value = self.go_value + 1 + self.rng.below(2) as u64;
                self.note(format!("signal {value}"));
                self.go_value = value;
                self.go.signal(value);
            }
        }
        self.release();
        self.count_held(held);
    }

    /// Learns in some way that a released phase is complete.
    pub(crate) fn complete(&mut self) {
        let phases = self.flights.iter().enumerate().flat_map(|(flight, f)| {
            f.phases.iter().enumerate().filter(|(_, p)| p.released).map(move |(phase, _)| (flight, phase))
        });
        let released: Vec<_> = phases.collect();
        if released.is_empty() {
            return;
        }
        let all = self.held() == 0;
        let (mut picked, mut phase) = released[self.rng.below(released.len())];
        let flight = &self.flights[picked];
        let Phase { event, query, .. } = &flight.phases[phase];
        let (at_end, number) = (phase + 1 == flight.phases.len(), flight.number);
        let way = match (self.rng.below(10), &flight.fence, event, query) {
            (0, Some(fence), ..) if flight.last && at_end => {
                fence.wait();
                "fence"
            }
            (1, Some(fence), ..) if flight.last && at_end => {
                fence.poll();
                "fence, polled"
            }
            (2..6, _, Some(event), _) => {
                event.poll();
                "event"
            }
            // lavapipe 22.3 waits for the whole device here, whatever the flags say: nothing may be held.
            (n @ 2..8, _, _, Some(query)) if all => {
                if n % 2 == 0 {
                    _ = self.queries.wait(*query);
                } else {
                    self.queries.poll(*query);
                }
                "query"
            }
            (8, ..) if all && !self.shared => {
                self.gpu.queue_wait_idle();
                (picked, phase) = released[released.len() - 1];
                "queue idle"
            }
            (9, ..) if all && !self.shared => {
                self.gpu.device_wait_idle();
                (picked, phase) = released[released.len() - 1];
                "device idle"
            }
            (8, ..) if at_end => {
                self.done.poll(number);
                "counter"
            }
            _ if at_end => {
                self.done.wait(number);
                "timeline"
            }
            _ => return,
        };
        self.note(format!("batch {number} phase {phase} is complete by {way}"));
        self.learn(picked, phase + 1);
    }

    /// Unmaps an allocation, and maybe maps another part of it.
    pub(crate) fn remap(&mut self) {
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
    pub(crate) fn replace(&mut self) {
        self.drain();
        let place = self.rng.below(self.places.len());
        self.compare_device(place);
        self.note("replace everything".to_owned());
        self.programs.clear();
        self.places.clear();
        self.slots.clear();
        self.reference.clear();
        self.learn_nothing();
        self.populate();
    }

    /// Destroys a buffer that nothing in flight uses and makes another one of the same bytes; or an
    /// allocation, with all that is on it.
    pub(crate) fn recreate(&mut self) {
        let place = self.rng.below(self.places.len());
        let Some((slot, _)) = self.places[place].slot else { return };
        let of_slot = |place: &Place| place.slot.is_some_and(|(other, _)| other == slot);
        let only_buffers = |place: &Place| matches!(place.thing, Thing::Buffer { .. });
        let siblings: Vec<_> = (0..self.places.len()).filter(|&n| of_slot(&self.places[n])).collect();
        let whole =
            !self.shared && self.rng.one_in(2) && siblings.iter().all(|&n| only_buffers(&self.places[n]));
        let gone = if whole { siblings } else { vec![place] };
        if !only_buffers(&self.places[place]) {
            return;
        }
        self.tidy();
        let scene = Scene::new(&self.places, || false);
        let is_used = |program: &Arc<Program>| gone.iter().any(|&place| program.uses(&scene, place));
        let mut in_flight = self.flights.iter().flat_map(|flight| &flight.phases);
        if in_flight.any(|phase| phase.programs.iter().any(is_used)) {
            return;
        }
        let keep: Vec<_> = self.programs.iter().filter(|program| !is_used(program)).cloned().collect();
        self.programs = keep;
        self.note(format!("recreate {gone:?}, memory too: {whole}"));
        if whole {
            let size = self.slots[slot].memory.size();
            let memory = lockstep_harness::Memory::addressable(&self.gpu, size);
            let map = Some((0, memory.map_whole()));
            self.slots[slot] = Slot { memory, map };
        }
        for &place in &gone {
            let Place { len, slot: Some((_, offset)), .. } = self.places[place] else { continue };
            let memory = &self.slots[slot].memory;
            self.places[place].thing = places::buffer_at(&self.gpu, memory, offset, len, self.rng.one_in(4));
            if whole {
                self.reference[place] = self.rng.bytes(len);
                self.give_content(place);
            }
        }
        self.learn_nothing();
    }
}
