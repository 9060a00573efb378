//! Large mappings of which a frame changes little, or nothing.

use lockstep_harness::{Buffer, Commands, Gpu, Kind, Rng};

use super::small::Uniforms;
use super::{Device, Workload};
use crate::shared::{Shared, Sync};

const SPARSE: usize = 256 << 20;
const UPDATES: usize = 64;
const UPDATE: usize = 256;
/// Sets of places, one after the other.
const SETS: usize = 32;

/// Some hundred places of a large buffer change each frame.
struct Sparse {
    device: Device,
    memory: Shared,
    output: Buffer,
    places: Vec<Vec<usize>>,
    commands: Vec<Commands>,
    source: Vec<u8>,
    frame: usize,
}

pub(super) fn sparse(gpu: &Gpu, sync: Sync) -> Box<dyn Workload> {
    let memory = Shared::new(gpu, sync, SPARSE);
    memory.bytes().fill(0, SPARSE, 0x11);
    memory.wrote(&[(0, SPARSE)]);
    let output = Buffer::unmapped(gpu, Kind::DeviceOnly, UPDATES * UPDATE);
    let mut rng = Rng::new(2);
    let mut place = || rng.below(SPARSE / UPDATE) * UPDATE;
    let places: Vec<Vec<usize>> = (0..SETS).map(|_| (0..UPDATES).map(|_| place()).collect()).collect();
    let record = |places: &Vec<usize>| {
        let regions: Vec<_> =
            places.iter().enumerate().map(|(index, &at)| (at, index * UPDATE, UPDATE)).collect();
        Commands::new(gpu, |r| r.copy_regions(&memory.buffer, &output, &regions))
    };
    let commands = places.iter().map(record).collect();
    let (device, source) = (Device::new(gpu), Rng::new(3).bytes(2 * UPDATES * UPDATE));
    Box::new(Sparse { device, memory, output, places, commands, source, frame: 0 })
}

impl Sparse {
    fn update(&self, index: usize) -> &[u8] {
        &self.source[(self.frame % UPDATES + index) * UPDATE..][..UPDATE]
    }
}

impl Workload for Sparse {
    fn frame(&mut self) {
        self.frame += 1;
        let places = &self.places[self.frame % SETS];
        for (index, &at) in places.iter().enumerate() {
            self.memory.write(at, self.update(index));
        }
        self.memory.wrote(&places.iter().map(|&at| (at, UPDATE)).collect::<Vec<_>>());
        self.device.run(&self.commands[self.frame % SETS]);
    }

    fn check(&mut self) {
        let seen = self.output.all_as_device_sees();
        let places = &self.places[self.frame % SETS];
        for (index, &at) in places.iter().enumerate() {
            // The last update of a place is what it holds.
            let last = places.iter().rposition(|&place| place == at).expect("this one");
            assert!(seen[index * UPDATE..][..UPDATE] == *self.update(last), "the device saw other bytes");
        }
    }
}

/// A small frame beside large memory that stays as it is.
struct Idle {
    uniforms: Uniforms,
    _memory: Vec<Shared>,
}

pub(super) fn idle_full(gpu: &Gpu, sync: Sync) -> Box<dyn Workload> {
    const SIZE: usize = 1 << 30;
    let memory = Shared::new(gpu, sync, SIZE);
    memory.bytes().fill(0, SIZE, 0x22);
    memory.wrote(&[(0, SIZE)]);
    Box::new(Idle { uniforms: Uniforms::new(gpu, sync), _memory: vec![memory] })
}

pub(super) fn idle_sparse(gpu: &Gpu, sync: Sync) -> Box<dyn Workload> {
    const SIZE: usize = 1 << 30;
    let mappings = || (0..8).map(|_| Shared::new(gpu, sync, SIZE));
    let memory: Vec<_> = mappings()
        .inspect(|memory| {
            for at in (0..SIZE).step_by(64 << 20) {
                memory.write(at, &[0x33; 64]);
                memory.wrote(&[(at, 64)]);
            }
        })
        .collect();
    Box::new(Idle { uniforms: Uniforms::new(gpu, sync), _memory: memory })
}

impl Workload for Idle {
    fn frame(&mut self) {
        self.uniforms.frame();
    }

    fn check(&mut self) {
        self.uniforms.check();
    }
}
