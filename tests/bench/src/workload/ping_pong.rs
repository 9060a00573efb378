//! CPU and device take turns on the same few bytes.

use lockstep_harness::{Bindings, Commands, Compute, Gpu};

use super::{Device, Workload, bytes_of};
use crate::shared::{Shared, Sync};

const TIMES: usize = 16;
const WORDS: usize = 16;

/// Answers in place.
const SHADER: &str = "
@group(0) @binding(0) var<storage, read_write> data: array<u32, 16>;
@compute @workgroup_size(16) fn main(@builtin(local_invocation_index) id: u32) { data[id] = data[id] * 3u + 1u; }
";

struct PingPong {
    device: Device,
    memory: Shared,
    commands: Commands,
    _bindings: Bindings,
    _compute: Compute,
    number: u32,
    wrong: usize,
}

pub(super) fn begin(gpu: &Gpu, sync: Sync) -> Box<dyn Workload> {
    let memory = Shared::new(gpu, sync, WORDS * 4);
    let compute = Compute::new(gpu, SHADER, 1);
    let bindings = compute.bind(&[(&memory.buffer, 0, WORDS * 4)]);
    let commands = Commands::new(gpu, |r| r.dispatch(&compute, &bindings, 1));
    let device = Device::new(gpu);
    Box::new(PingPong {
        device,
        memory,
        commands,
        _bindings: bindings,
        _compute: compute,
        number: 0,
        wrong: 0,
    })
}

impl Workload for PingPong {
    fn frame(&mut self) {
        for _ in 0..TIMES {
            self.number = self.number.wrapping_add(0x0101_0107);
            self.memory.write(0, &bytes_of(&[self.number; WORDS]));
            self.memory.wrote(&[(0, WORDS * 4)]);
            self.device.run(&self.commands);
            self.memory.will_read(&[(0, WORDS * 4)]);
            let answer = self.number.wrapping_mul(3).wrapping_add(1);
            let expected = answer.wrapping_mul(16);
            self.wrong += usize::from(self.memory.sum(0, WORDS * 4) != expected);
        }
    }

    fn check(&mut self) {
        assert_eq!(self.wrong, 0, "answers were wrong");
    }
}
