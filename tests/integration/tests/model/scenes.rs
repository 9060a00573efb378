//! Steps of several in an order that chance alone would seldom hit.

use std::sync::Arc;

use lockstep_harness::Event;

use crate::flight::{Phase, Program};
use crate::ops::Op;
use crate::places::{self, Place, Slot, Thing};
use crate::shade::Shade;
use crate::world::{Mood, World};

impl World {
    /// Plays one of the scenes that suit the world's mood, often on pages of which nothing is known yet.
    pub(crate) fn scene_of_several(&mut self) {
        let Mood { told, held, gated, vague, .. } = self.mood;
        let scene = self.rng.below(4);
        let suits = match scene {
            0 => self.rng.one_in(told),
            1 => self.rng.one_in(held.min(gated)),
            2 => self.rng.one_in(held) && self.rng.one_in(vague),
            _ => true,
        };
        if !suits || (self.held() > 0 && ![1, 2].contains(&scene)) {
            return self.write();
        }
        if !self.shared && self.rng.one_in(3) {
            self.replace();
        }
        match scene {
            0 => self.interrupt(),
            1 => self.overtake(),
            2 => self.promise(),
            _ => self.accompany(),
        }
    }

    /// Records one command of whose target all is known, and before it a copy of what it overwrites.
    fn overwrite(&mut self) -> Phase {
        let mut rng = self.rng.clone();
        let scene = self.scene();
        let op = Op::random(&mut rng, &scene, usize::MAX);
        let witness = op.witness(&mut rng, &scene);
        let ops = witness.into_iter().chain([op]).collect();
        let program = Program::new(&self.tools, &scene, ops, false);
        drop(scene);
        self.rng = rng;
        Phase::of(vec![program])
    }

    /// Learns of the first half of a batch that goes on, and writes what that half had written. Sometimes
    /// nothing is mapped when it learns of it.
    fn interrupt(&mut self) {
        let held = self.held();
        let programs = if self.rng.one_in(2) { vec![self.program()] } else { self.overwrite().programs };
        let mut first = Phase::of(programs);
        first.event = Some(Event::new(&self.gpu));
        let mut rng = self.rng.clone();
        let scene = self.scene();
        let slow = (0..4).map(|_| Op::Shade(Shade::slow(&mut rng, &scene))).collect();
        let slow = Phase::of(vec![Program::new(&self.tools, &scene, slow, false)]);
        drop(scene);
        self.rng = rng;
        let mut phases = vec![first, slow];
        if self.rng.one_in(2) {
            phases.push(self.overwrite());
        }
        let unmapped = !self.shared && self.rng.one_in(3);
        if unmapped {
            self.unmap_all();
        }
        let batch = self.enlist(phases, 0, None, false);
        self.hand_over(&[batch], None, held);
        let flight = self.flights.len() - 1;
        self.flights[flight].phases[0].event.as_ref().expect("just made").poll();
        self.learn(flight, 1);
        if unmapped {
            self.map_all();
        }
        self.compare();
        self.write_a_few();
    }

    /// Writes what a batch is about to overwrite, which waits for nothing itself but comes behind one that
    /// does.
    fn overtake(&mut self) {
        self.drain();
        let held = self.held();
        let mut gate = if self.rng.one_in(3) { Phase::of(Vec::new()) } else { self.overwrite() };
        let mut go = self.go_value + 1;
        if self.rng.one_in(2) && !lockstep_harness::dma_under_test() {
            (gate.gate, go) = (Some((Event::new(&self.gpu), false)), 0);
        }
        let mut batches = vec![self.enlist(vec![gate], go, None, false)];
        if self.rng.one_in(2) {
            self.hand_over(&batches, None, held);
            batches.clear();
        }
        let between = self.held();
        let held = if batches.is_empty() { between } else { held };
        for _ in 0..self.rng.between(1, 3) {
            let phase = self.overwrite();
            batches.push(self.enlist(vec![phase], 0, None, false));
        }
        self.hand_over(&batches, None, held);
        self.write_a_few();
        self.compare();
        while self.held() > 0 {
            self.let_go();
        }
    }

    /// Tells a batch that waits where the buffer is that it writes; maybe another buffer of these bytes than
    /// there was when it was submitted.
    fn promise(&mut self) {
        self.drain();
        let mut rng = self.rng.clone();
        let scene = self.scene();
        let targets: Vec<_> =
            scene.buffers.iter().copied().filter(|&place| scene.addressable[place]).collect();
        let target = targets[rng.below(targets.len())];
        let pointed = Op::Shade(Shade::pointed(&mut rng, &scene, target));
        let program = Program::new(&self.tools, &scene, vec![pointed], rng.one_in(3));
        drop(scene);
        self.rng = rng;
        let batch = self.enlist(vec![Phase::of(vec![Arc::clone(&program)])], self.go_value + 1, None, false);
        self.hand_over(&[batch], None, 0);
        if self.rng.one_in(2) {
            self.programs.clear();
            let Place { len, slot: Some((slot, offset)), .. } = self.places[target] else { return };
            let memory = &self.slots[slot].memory;
            self.places[target].thing = places::buffer_at(&self.gpu, memory, offset, len, false);
        }
        self.write_a_few();
        if let Thing::Buffer { buffer, .. } = &self.places[target].thing {
            program.extras[0].point(buffer);
        }
        self.note(format!("place {target} is the one"));
        self.write_a_few();
        while self.held() > 0 {
            self.let_go();
        }
    }

    /// Writes while a batch is on its way that waits for nobody and takes long to begin.
    fn accompany(&mut self) {
        let held = self.held();
        let mut rng = self.rng.clone();
        let scene = self.scene();
        let slow = (0..rng.between(1, 4)).map(|_| Op::Shade(Shade::slow(&mut rng, &scene))).collect();
        let slow = Phase::of(vec![Program::new(&self.tools, &scene, slow, false)]);
        drop(scene);
        self.rng = rng;
        let mut phases = vec![slow];
        let count = self.rng.between(1, 3);
        phases.extend((0..count).map(|_| self.overwrite()));
        let batch = self.enlist(phases, 0, None, false);
        self.hand_over(&[batch], None, held);
        self.write_a_few();
    }

    fn write_a_few(&mut self) {
        for _ in 0..self.rng.between(1, 6) {
            self.write();
            if self.rng.one_in(3) {
                self.gpu.submit(&[], None);
            }
        }
    }

    fn unmap_all(&mut self) {
        self.note("unmap everything".to_owned());
        for Slot { memory, map } in &mut self.slots {
            if map.take().is_some() {
                memory.unmap();
            }
        }
    }

    fn map_all(&mut self) {
        self.note("map everything".to_owned());
        for Slot { memory, map } in &mut self.slots {
            *map = Some((0, memory.map_whole()));
        }
    }
}
