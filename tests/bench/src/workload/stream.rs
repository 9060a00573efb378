//! A ring buffer that is streamed through: each frame fills the next quarter.

use lockstep_harness::{Gpu, Rng};

use super::{Device, Passes, Workload, words_of};
use crate::shared::{Shared, Sync};

const PART: usize = 1 << 20;
const PARTS: usize = 4;

/// Turns every element a little, as an animation would.
const SHADER: &str = "
@group(0) @binding(0) var<storage, read> input: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<u32>>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    var value = input[id.x];
    for (var round = 0u; round < 4u; round++) { value = (value ^ (value << vec4(7u))) * 5u + value.wxyz; }
    output[id.x] = value;
}
";

struct Stream {
    device: Device,
    ring: Shared,
    passes: Passes,
    source: Vec<u8>,
    frame: usize,
}

pub(super) fn begin(gpu: &Gpu, sync: Sync) -> Box<dyn Workload> {
    let ring = Shared::new(gpu, sync, PART * PARTS);
    let passes = Passes::new(gpu, SHADER, &ring, PARTS, PART, PART / 16 / 64);
    let (device, source) = (Device::new(gpu), Rng::new(1).bytes(2 * PART));
    Box::new(Stream { device, ring, passes, source, frame: 0 })
}

impl Stream {
    /// What a frame writes: other bytes each time.
    fn data(&self, frame: usize) -> &[u8] {
        let at = (frame * 4099 * 16) % PART;
        &self.source[at..at + PART]
    }
}

impl Workload for Stream {
    fn frame(&mut self) {
        self.frame += 1;
        let part = self.frame % PARTS;
        self.ring.write(part * PART, self.data(self.frame));
        self.ring.wrote(&[(part * PART, PART)]);
        self.device.run(&self.passes.commands[part]);
    }

    fn check(&mut self) {
        let expected: Vec<u32> = words_of(self.data(self.frame)).chunks_exact(4).flat_map(turned).collect();
        assert!(words_of(&self.passes.output.all_as_device_sees()) == expected, "the device saw other bytes");
    }
}

/// What the shader makes of an element.
fn turned(element: &[u32]) -> [u32; 4] {
    let mut value: [u32; 4] = element.try_into().expect("four words");
    for _ in 0..4 {
        let [x, y, z, w] = value;
        let turn = |value: u32, next: u32| (value ^ (value << 7)).wrapping_mul(5).wrapping_add(next);
        value = [turn(x, w), turn(y, x), turn(z, y), turn(w, z)];
    }
    value
}
