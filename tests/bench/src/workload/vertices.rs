//! A mesh that the CPU skins: all of its vertices are rewritten each frame.

use lockstep_harness::Gpu;

use super::{Device, Passes, Workload, words_of};
use crate::shared::{Shared, Sync};

const VERTICES: usize = 24576;
/// Words of a vertex: place, normal, and a colour that does not change.
const WORDS: usize = 8;
const BYTES: usize = VERTICES * WORDS * 4;
const BONES: usize = 64;

/// Transforms a vertex and packs what a rasteriser would want of it.
const SHADER: &str = "
@group(0) @binding(0) var<storage, read> vertices: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<u32>>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let place = vertices[2u * id.x];
    let normal = vertices[2u * id.x + 1u];
    output[id.x] = bitcast<vec4<u32>>(place) ^ bitcast<vec4<u32>>(normal);
}
";

struct Vertices {
    device: Device,
    memory: Shared,
    passes: Passes,
    mesh: Vec<f32>,
    frame: u32,
}

pub(super) fn begin(gpu: &Gpu, sync: Sync) -> Box<dyn Workload> {
    let memory = Shared::new(gpu, sync, BYTES);
    let passes = Passes::new(gpu, SHADER, &memory, 1, VERTICES * 16, VERTICES / 64);
    let mesh = (0..VERTICES * WORDS).map(|at| (at as f32 * 0.37).sin()).collect();
    let device = Device::new(gpu);
    Box::new(Vertices { device, memory, passes, mesh, frame: 0 })
}

impl Vertices {
    /// The skinned vertex: its bone's rotation about an axis, as this frame has it.
    fn skinned(&self, vertex: usize, bones: &[(f32, f32); BONES]) -> [u8; WORDS * 4] {
        let (sin, cos) = bones[vertex % BONES];
        let mesh = &self.mesh[vertex * WORDS..][..WORDS];
        let turn = |x: f32, y: f32| (cos * x - sin * y, sin * x + cos * y);
        let ((x, y), (nx, ny)) = (turn(mesh[0], mesh[1]), turn(mesh[4], mesh[5]));
        let words = [x, y, mesh[2], mesh[3], nx, ny, mesh[6], mesh[7]];
        let mut bytes = [0; WORDS * 4];
        bytes.chunks_exact_mut(4).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_ne_bytes()));
        bytes
    }

    fn bones(&self) -> [(f32, f32); BONES] {
        std::array::from_fn(|bone| (self.frame as f32 * 0.01 + bone as f32 * 0.1).sin_cos())
    }
}

impl Workload for Vertices {
    fn frame(&mut self) {
        self.frame += 1;
        let bones = self.bones();
        for vertex in 0..VERTICES {
            self.memory.write(vertex * WORDS * 4, &self.skinned(vertex, &bones));
        }
        self.memory.wrote(&[(0, BYTES)]);
        self.device.run(&self.passes.commands[0]);
    }

    fn check(&mut self) {
        let bones = self.bones();
        let seen = words_of(&self.passes.output.all_as_device_sees());
        for vertex in 0..VERTICES {
            let words = words_of(&self.skinned(vertex, &bones));
            let expected: Vec<u32> = (0..4).map(|at| words[at] ^ words[at + 4]).collect();
            assert_eq!(seen[vertex * 4..][..4], expected, "the device saw another vertex {vertex}");
        }
    }
}
