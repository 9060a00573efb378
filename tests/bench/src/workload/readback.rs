//! What the device computes, and the CPU reads: all of it, or hardly any.

use lockstep_harness::{Bindings, Buffer, Commands, Compute, Gpu, Kind};

use super::{Device, Workload};
use crate::shared::{Shared, Sync};

/// Every word changes each frame; the frame's number is in memory that only the device sees.
const SHADER: &str = "
@group(0) @binding(0) var<storage, read_write> output: array<u32>;
@group(0) @binding(1) var<storage, read> frame: array<u32>;
@compute @workgroup_size(256) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    var value = id.x + frame[0];
    for (var round = 0u; round < 4u; round++) { value = value * 1664525u + 1013904223u; }
    output[id.x] = value;
}
";

/// Adds one to the frame's number.
const COUNT: &str = "
@group(0) @binding(0) var<storage, read_write> frame: array<u32>;
@compute @workgroup_size(1) fn main() { frame[0] += 1u; }
";

struct Readback {
    device: Device,
    memory: Shared,
    commands: Commands,
    _objects: (Buffer, [Bindings; 2], [Compute; 2]),
    /// Bytes that the CPU reads, and where.
    reads: (usize, usize),
    seen: u32,
    frame: u32,
}

pub(super) fn all(gpu: &Gpu, sync: Sync) -> Box<dyn Workload> {
    begin(gpu, sync, 1 << 20, (0, 1 << 20))
}

pub(super) fn hardly(gpu: &Gpu, sync: Sync) -> Box<dyn Workload> {
    begin(gpu, sync, 16 << 20, (5 << 20, 64))
}

fn begin(gpu: &Gpu, sync: Sync, len: usize, reads: (usize, usize)) -> Box<dyn Workload> {
    let memory = Shared::new(gpu, sync, len);
    let number = Buffer::unmapped(gpu, Kind::DeviceOnly, 4);
    gpu.run(|r| r.fill(&number, 0, 4, 0));
    let computes = [Compute::new(gpu, COUNT, 1), Compute::new(gpu, SHADER, 2)];
    let bindings = [
        computes[0].bind(&[(&number, 0, 4)]),
        computes[1].bind(&[(&memory.buffer, 0, len), (&number, 0, 4)]),
    ];
    let groups = u32::try_from(len / 4 / 256).expect("few");
    let commands = Commands::new(gpu, |r| {
        r.dispatch(&computes[0], &bindings[0], 1);
        r.barrier();
        r.dispatch(&computes[1], &bindings[1], groups);
    });
    let device = Device::new(gpu);
    let _objects = (number, bindings, computes);
    Box::new(Readback { device, memory, commands, _objects, reads, seen: 0, frame: 0 })
}

impl Workload for Readback {
    fn frame(&mut self) {
        self.frame += 1;
        self.device.run(&self.commands);
        self.memory.will_read(&[self.reads]);
        self.seen = self.memory.sum(self.reads.0, self.reads.1);
    }

    fn check(&mut self) {
        let (at, len) = (self.reads.0 as u32, self.reads.1 as u32);
        let word = |id: u32| {
            (0..4).fold(id + self.frame, |value, _| value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
        };
        let expected = (at / 4..(at + len) / 4).map(word).fold(0, u32::wrapping_add);
        assert_eq!(self.seen, expected, "the CPU saw other words");
    }
}
