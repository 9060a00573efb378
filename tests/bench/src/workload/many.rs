//! Thousands of small mappings, as of programs that take one for each buffer.

use lockstep_harness::{Buffer, Commands, Gpu, Kind, Rng};

use super::{Device, Workload};
use crate::shared::{Shared, Sync};

const MAPPINGS: usize = 4096;
const SIZE: usize = 64 << 10;
const WRITTEN: usize = 8;
const BYTES: usize = 4096;
/// Groups of mappings, written one after the other.
const SETS: usize = 32;

struct Many {
    device: Device,
    mappings: Vec<Shared>,
    output: Buffer,
    commands: Vec<Commands>,
    source: Vec<u8>,
    frame: usize,
}

pub(super) fn begin(gpu: &Gpu, sync: Sync) -> Box<dyn Workload> {
    let mappings: Vec<_> = (0..MAPPINGS).map(|_| Shared::new(gpu, sync, SIZE)).collect();
    for mapping in &mappings {
        mapping.bytes().fill(0, SIZE, 0x44);
        mapping.wrote(&[(0, SIZE)]);
    }
    let output = Buffer::unmapped(gpu, Kind::DeviceOnly, WRITTEN * BYTES);
    let record = |set| {
        Commands::new(gpu, |r| {
            for index in 0..WRITTEN {
                r.copy(&mappings[place(set, index)].buffer, BYTES, &output, index * BYTES, BYTES);
            }
        })
    };
    let commands = (0..SETS).map(record).collect();
    let (device, source) = (Device::new(gpu), Rng::new(5).bytes(64 << 10));
    Box::new(Many { device, mappings, output, commands, source, frame: 0 })
}

/// The mapping that comes at some place in a set.
fn place(set: usize, index: usize) -> usize {
    (set * WRITTEN + index) * 331 % MAPPINGS
}

impl Many {
    fn data(&self, index: usize) -> &[u8] {
        &self.source[(self.frame * 7 + index * 64) % 32768..][..BYTES]
    }
}

impl Workload for Many {
    fn frame(&mut self) {
        self.frame += 1;
        let set = self.frame % SETS;
        for index in 0..WRITTEN {
            let mapping = &self.mappings[place(set, index)];
            mapping.write(BYTES, self.data(index));
            mapping.wrote(&[(BYTES, BYTES)]);
        }
        self.device.run(&self.commands[set]);
    }

    fn check(&mut self) {
        let seen = self.output.all_as_device_sees();
        for index in 0..WRITTEN {
            assert!(seen[index * BYTES..][..BYTES] == *self.data(index), "the device saw other bytes");
        }
    }
}
