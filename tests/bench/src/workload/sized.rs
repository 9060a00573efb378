//! Programs of any size, for curves: how a cost grows with what is mapped, written by the CPU, or written by
//! the device.

use lockstep_harness::{Buffer, Commands, Gpu, Kind};

use super::{Device, Workload};
use crate::shared::{Shared, Sync};

const PAGE: usize = lockstep_harness::PAGE;

/// Submits the same commands each frame, which touch nothing that is mapped.
struct Submit {
    device: Device,
    commands: Commands,
    output: Buffer,
    _memory: Vec<Shared>,
}

impl Submit {
    fn begin(gpu: &Gpu, memory: Vec<Shared>) -> Box<dyn Workload> {
        for shared in &memory {
            let len = shared.bytes().len();
            shared.bytes().fill(0, len, 0x55);
            shared.wrote(&[(0, len)]);
        }
        let output = Buffer::unmapped(gpu, Kind::DeviceOnly, 64);
        let commands = Commands::new(gpu, |r| r.fill(&output, 0, 64, 0x66));
        Box::new(Submit { device: Device::new(gpu), commands, output, _memory: memory })
    }
}

/// One mapping of so many bytes, full and clean; none of none.
pub(super) fn mapped(gpu: &Gpu, sync: Sync, bytes: usize) -> Box<dyn Workload> {
    let memory = (bytes != 0).then(|| Shared::new(gpu, sync, bytes));
    Submit::begin(gpu, memory.into_iter().collect())
}

/// So many mappings of 64 KiB, full and clean.
pub(super) fn mappings(gpu: &Gpu, sync: Sync, count: usize) -> Box<dyn Workload> {
    Submit::begin(gpu, (0..count).map(|_| Shared::new(gpu, sync, 64 << 10)).collect())
}

impl Workload for Submit {
    fn frame(&mut self) {
        self.device.run(&self.commands);
    }

    fn check(&mut self) {
        assert_eq!(self.output.all_as_device_sees(), [0x66; 64], "the commands did not run");
    }
}

/// A mapping of 64 MiB of which a word changes in so many pages, in other ones each frame.
struct Dirty {
    device: Device,
    commands: Vec<Commands>,
    memory: Shared,
    output: Buffer,
    pages: usize,
    frame: usize,
}

const DIRTY: usize = 64 << 20;
const STARTS: usize = 16;

pub(super) fn dirty(gpu: &Gpu, sync: Sync, pages: usize) -> Box<dyn Workload> {
    let memory = Shared::new(gpu, sync, DIRTY);
    memory.bytes().fill(0, DIRTY, 0x77);
    memory.wrote(&[(0, DIRTY)]);
    let output = Buffer::unmapped(gpu, Kind::DeviceOnly, 4);
    let record =
        |frame| Commands::new(gpu, |r| r.copy(&memory.buffer, place(frame, pages - 1, pages), &output, 0, 4));
    let commands = (0..STARTS).map(record).collect();
    Box::new(Dirty { device: Device::new(gpu), commands, memory, output, pages, frame: 0 })
}

/// Where the word of a page lies.
fn place(frame: usize, index: usize, pages: usize) -> usize {
    (frame % STARTS * pages + index) * PAGE % DIRTY + 64
}

impl Workload for Dirty {
    fn frame(&mut self) {
        self.frame += 1;
        let word = (self.frame as u32).to_ne_bytes();
        let places: Vec<_> = (0..self.pages).map(|index| (place(self.frame, index, self.pages), 4)).collect();
        places.iter().for_each(|&(at, _)| self.memory.write(at, &word));
        self.memory.wrote(&places);
        self.device.run(&self.commands[self.frame % STARTS]);
    }

    fn check(&mut self) {
        assert_eq!(self.output.all_as_device_sees(), (self.frame as u32).to_ne_bytes(), "another word");
    }
}

/// The device fills so many bytes, of which the CPU reads all.
struct Written {
    device: Device,
    commands: [Commands; 2],
    memory: Shared,
    bytes: usize,
    frame: usize,
    sum: u32,
}

pub(super) fn written(gpu: &Gpu, sync: Sync, bytes: usize) -> Box<dyn Workload> {
    let memory = Shared::new(gpu, sync, bytes);
    let commands = [1, 2].map(|value| Commands::new(gpu, |r| r.fill(&memory.buffer, 0, bytes, value)));
    Box::new(Written { device: Device::new(gpu), commands, memory, bytes, frame: 0, sum: 0 })
}

impl Workload for Written {
    fn frame(&mut self) {
        self.frame += 1;
        self.device.run(&self.commands[self.frame % 2]);
        self.memory.will_read(&[(0, self.bytes)]);
        self.sum = self.memory.sum(0, self.bytes);
    }

    fn check(&mut self) {
        let word = [0x0101_0101_u32, 0x0202_0202][self.frame % 2];
        assert_eq!(self.sum, word.wrapping_mul(self.bytes as u32 / 4), "the CPU saw other bytes");
    }
}
