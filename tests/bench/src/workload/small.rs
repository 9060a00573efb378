//! Frames that hand the device little: uniforms, once or many times.

use lockstep_harness::{Batch, Gpu, Rng};

use super::{Device, Passes, Workload, bytes_of, words_of};
use crate::shared::{Shared, Sync};

const UNIFORMS: usize = 4096;
const ELEMENTS: usize = 1 << 16;

/// Every element mixes in a uniform, several times over.
const SHADER: &str = "
@group(0) @binding(0) var<storage, read> uniforms: array<u32, 1024>;
@group(0) @binding(1) var<storage, read_write> output: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    var value = id.x;
    for (var round = 0u; round < 16u; round++) { value = value * 1664525u + uniforms[(id.x + round) & 1023u]; }
    output[id.x] = value;
}
";

/// One dispatch a frame, by new uniforms.
pub(super) struct Uniforms {
    device: Device,
    memory: Shared,
    passes: Passes,
    rng: Rng,
    words: Vec<u32>,
}

pub(super) fn uniforms(gpu: &Gpu, sync: Sync) -> Box<dyn Workload> {
    Box::new(Uniforms::new(gpu, sync))
}

impl Uniforms {
    pub(super) fn new(gpu: &Gpu, sync: Sync) -> Self {
        let memory = Shared::new(gpu, sync, UNIFORMS);
        let passes = Passes::new(gpu, SHADER, &memory, 1, ELEMENTS * 4, ELEMENTS / 64);
        let (device, rng, words) = (Device::new(gpu), Rng::new(4), vec![0; UNIFORMS / 4]);
        Self { device, memory, passes, rng, words }
    }
}

impl Workload for Uniforms {
    fn frame(&mut self) {
        let start = u32::try_from(self.rng.below(1 << 30)).expect("small");
        self.words.iter_mut().zip(start..).for_each(|(word, value)| *word = value.wrapping_mul(0x9e37_79b9));
        self.memory.write(0, &bytes_of(&self.words));
        self.memory.wrote(&[(0, UNIFORMS)]);
        self.device.run(&self.passes.commands[0]);
    }

    fn check(&mut self) {
        let element = |id: u32| {
            (0..16u32).fold(id, |value, round| {
                let uniform = self.words[(id + round) as usize & 1023];
                value.wrapping_mul(1_664_525).wrapping_add(uniform)
            })
        };
        let expected: Vec<u32> = (0..ELEMENTS as u32).map(element).collect();
        assert!(
            words_of(&self.passes.output.all_as_device_sees()) == expected,
            "the device saw other uniforms"
        );
    }
}

const SUBMITS: usize = 500;
const UNIFORM: usize = 256;

/// Adds one uniform up.
const SUM: &str = "
@group(0) @binding(0) var<storage, read> uniform_data: array<u32, 64>;
@group(0) @binding(1) var<storage, read_write> output: array<u32, 64>;
@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) id: u32) { output[id] += uniform_data[id]; }
";

/// Hundreds of submissions a frame, each with a uniform of its own.
struct Submits {
    device: Device,
    memory: Shared,
    passes: Passes,
    total: [u32; UNIFORM / 4],
    frame: u32,
}

pub(super) fn submits(gpu: &Gpu, sync: Sync) -> Box<dyn Workload> {
    let memory = Shared::new(gpu, sync, SUBMITS * UNIFORM);
    let passes = Passes::new(gpu, SUM, &memory, SUBMITS, UNIFORM, 1);
    gpu.run(|r| r.fill(&passes.output, 0, UNIFORM, 0));
    let (device, total) = (Device::new(gpu), [0; UNIFORM / 4]);
    Box::new(Submits { device, memory, passes, total, frame: 0 })
}

impl Workload for Submits {
    fn frame(&mut self) {
        self.frame += 1;
        for (index, commands) in self.passes.commands.iter().enumerate() {
            let word = self.frame.wrapping_mul(0x9e37_79b9) ^ index as u32;
            self.memory.write(index * UNIFORM, &word.to_ne_bytes().repeat(UNIFORM / 4));
            self.total.iter_mut().for_each(|total| *total = total.wrapping_add(word));
            self.memory.wrote(&[(index * UNIFORM, UNIFORM)]);
            let last = index + 1 == SUBMITS;
            self.device.gpu.submit(&[Batch::new().run(commands)], last.then_some(&self.device.fence));
        }
        self.device.wait();
    }

    fn check(&mut self) {
        assert_eq!(
            words_of(&self.passes.output.all_as_device_sees()),
            self.total,
            "the device saw other uniforms"
        );
    }
}
