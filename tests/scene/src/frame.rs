//! The bytes of one frame: what the CPU writes, how they lie in memory, and what the device must make of
//! them.
//!
//! Everything is made of 32-bit words. A vertex is four of them (a place and a packed word), the uniforms are
//! 64, and the device's answer is the histogram, a checksum for every 256 vertices (4 KiB, so that a stale
//! page is known by its checksum), and a copy of the uniforms.

use crate::maths::{Vec3, dot};
use crate::pond::{COLUMNS, ROWS};
use crate::world::{BALLS, LIGHTS, World};

/// A vertex: x, y, z as floats, and a packed word whose low byte is the colour level.
pub(crate) type Vertex = [u32; 4];
/// The uniform block, 256 bytes.
pub(crate) type Uniforms = [[u32; 4]; UNIFORM_ROWS];

/// Bytes of a vertex.
pub(crate) const VERTEX_SIZE: usize = size_of::<Vertex>();
/// Vertices of the pond, first in the buffer; the histogram counts these.
pub(crate) const POND_VERTICES: usize = COLUMNS * ROWS;
/// Balls and lights follow, one vertex each.
pub(crate) const SPHERES: usize = BALLS + LIGHTS;
/// Then the bars with the panel behind them, one vertex each.
pub(crate) const BARS: usize = BINS + 1;
/// All vertices.
pub(crate) const VERTICES: usize = POND_VERTICES + SPHERES + BARS;
/// Bins of the histogram; eight colour levels fall into each.
pub(crate) const BINS: usize = 32;
/// Rows of four words in the uniform block.
pub(crate) const UNIFORM_ROWS: usize = 16;
/// Vertices under one checksum: one workgroup of the compute shader.
pub(crate) const CHUNK: usize = 256;
/// How many checksums there are.
pub(crate) const CHUNKS: usize = VERTICES.div_ceil(CHUNK);
/// Words of the device's answer: the uniforms' copy, the histogram, the checksums.
pub(crate) const RESULT_WORDS: usize = UNIFORM_ROWS * 4 + BINS + CHUNKS;

/// The bar chart's lower left corner and size in clip space.
const CHART: [f32; 4] = [-0.94, -0.95, 1.88, 0.5];

/// What the CPU writes in a frame, and what it expects back.
#[derive(Debug, Clone)]
pub(crate) struct FrameData {
    pub(crate) vertices: Vec<Vertex>,
    pub(crate) uniforms: Uniforms,
    /// The answer a correct device gives, word by word.
    pub(crate) expected: Vec<u32>,
}

impl FrameData {
    pub(crate) fn new() -> Self {
        Self {
            vertices: Vec::with_capacity(VERTICES),
            uniforms: [[0; 4]; UNIFORM_ROWS],
            expected: vec![0; RESULT_WORDS],
        }
    }

    /// Builds the frame: the world as it is, and as bars the histogram that the device computed last.
    pub(crate) fn build(&mut self, world: &World, number: u32, histogram: &[u32; BINS], aspect: f32) {
        self.vertices.clear();
        world.pond.for_each_point(|[x, y, z], slopes| {
            let length = (1.0 + slopes[0] * slopes[0] + slopes[1] * slopes[1]).sqrt();
            let [nx, nz] = slopes.map(|slope| unit_to_12_bits(0.5 - 0.5 * slope / length));
            self.vertices.push([x.to_bits(), y.to_bits(), z.to_bits(), pack(level(y), nx, nz)]);
        });
        self.push_spheres(world, aspect);
        self.push_bars(histogram);
        self.fill_uniforms(world, number, aspect);
        self.expect();
    }

    /// Balls and lights, the farthest first, since they are blended.
    fn push_spheres(&mut self, world: &World, aspect: f32) {
        let balls =
            world.balls.iter().map(|ball| (ball.position, pack(ball.level, unit_to_12_bits(ball.radius), 0)));
        let light_radius = unit_to_12_bits(0.06);
        let lights = (1u32..).zip(world.lights()).map(|(index, light)| (light, pack(0, light_radius, index)));
        let mut spheres: Vec<(Vec3, u32)> = balls.chain(lights).collect();
        let [_, _, back] = world.camera(aspect).axes();
        spheres.sort_by(|(a, _), (b, _)| dot(*a, back).total_cmp(&dot(*b, back)));
        let words = |([x, y, z], packed): (Vec3, u32)| [x.to_bits(), y.to_bits(), z.to_bits(), packed];
        self.vertices.extend(spheres.into_iter().map(words));
    }

    /// The bars of the chart, left, width and height each, behind them a dark panel.
    fn push_bars(&mut self, histogram: &[u32; BINS]) {
        let [left, bottom, width, height] = CHART;
        let mut bar = |x: f32, width: f32, height: f32, packed| {
            self.vertices.push([x.to_bits(), width.to_bits(), height.to_bits(), packed]);
        };
        bar(left - 0.02, width + 0.04, height + 0.02, pack(0, unit_to_12_bits(0.4), 1));
        let highest = histogram.iter().copied().max().unwrap_or(0).max(count(POND_VERTICES / 12)) as f32;
        let pitch = width / BINS as f32;
        for (bin, &count) in (0u8..).zip(histogram) {
            let tall = (height * count as f32 / highest).max(0.006);
            let packed = pack(bin * 8 + 4, unit_to_12_bits(0.93), 0);
            bar(left + pitch * (f32::from(bin) + 0.1), pitch * 0.8, tall, packed);
        }
        debug_assert_eq!((self.vertices.len(), bottom < 0.0), (VERTICES, true));
    }

    fn fill_uniforms(&mut self, world: &World, number: u32, aspect: f32) {
        const COLOURS: [Vec3; LIGHTS] = [[1.0, 0.62, 0.28], [0.35, 0.75, 1.0], [1.0, 0.35, 0.75]];
        let camera = world.camera(aspect);
        let [right, up, _] = camera.axes();
        let floats = |v: Vec3, w: f32| [v[0].to_bits(), v[1].to_bits(), v[2].to_bits(), w.to_bits()];
        let matrix = camera.view_projection().map(|column| column.map(f32::to_bits));
        self.uniforms[..4].copy_from_slice(&matrix);
        self.uniforms[4] = floats(camera.eye, world.time());
        self.uniforms[5] = floats(right, aspect);
        self.uniforms[6] = floats(up, CHART[1]);
        for (index, (light, colour)) in world.lights().into_iter().zip(COLOURS).enumerate() {
            self.uniforms[7 + index] = floats(light, 1.0);
            self.uniforms[10 + index] = floats(colour, 1.0);
        }
        // The rest has no meaning to the picture, but changes from frame to frame and is checked.
        for (place, word) in (0u32..).zip(self.uniforms[13..].as_flattened_mut()) {
            *word = hash(number, place);
        }
    }

    /// Computes what the device must answer.
    fn expect(&mut self) {
        let (echo, rest) = self.expected.split_at_mut(UNIFORM_ROWS * 4);
        let (histogram, checksums) = rest.split_at_mut(BINS);
        echo.copy_from_slice(self.uniforms.as_flattened());
        histogram.fill(0);
        for vertex in &self.vertices[..POND_VERTICES] {
            histogram[(vertex[3] & 0xff) as usize / (256 / BINS)] += 1;
        }
        let mut index = 0;
        for (sum, chunk) in checksums.iter_mut().zip(self.vertices.chunks(CHUNK)) {
            *sum = 0;
            for word in chunk.as_flattened() {
                *sum = sum.wrapping_add(hash(*word, index));
                index += 1;
            }
        }
    }
}

/// A count as Vulkan and shaders want it.
pub(crate) fn count(number: usize) -> u32 {
    u32::try_from(number).expect("all counts of the scene are small")
}

/// Mixes a word with its place, so that neither a wrong word nor a misplaced one leaves a sum unchanged.
fn hash(word: u32, place: u32) -> u32 {
    let mixed = (word ^ place.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
    mixed ^ (mixed >> 15)
}

/// The colour level of a height: the ramp's middle at still water.
fn level(height: f32) -> u8 {
    #[expect(clippy::cast_possible_truncation, reason = "clamped; `as` saturates")]
    let level = (120.0 + 1050.0 * height).clamp(0.0, 255.0) as u8;
    level
}

/// A number from 0 to 1 in 12 bits.
fn unit_to_12_bits(value: f32) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "clamped; `as` saturates")]
    let bits = (value.clamp(0.0, 1.0) * 4095.0 + 0.5) as u32;
    bits
}

/// A colour level and two numbers of 12 bits in one word.
fn pack(level: u8, first: u32, second: u32) -> u32 {
    u32::from(level) | first << 8 | second << 20
}

/// Says what a word of the device's answer is about.
pub(crate) fn name_of_result(word: usize) -> String {
    const HISTOGRAM: usize = UNIFORM_ROWS * 4;
    const CHECKSUMS: usize = HISTOGRAM + BINS;
    match word {
        0..HISTOGRAM => format!("byte {} of the uniforms", word * 4),
        HISTOGRAM..CHECKSUMS => format!("bin {} of the histogram", word - HISTOGRAM),
        _ => {
            let first = (word - CHECKSUMS) * CHUNK * VERTEX_SIZE;
            format!("the checksum of vertex bytes {first}..{}", first + CHUNK * VERTEX_SIZE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> FrameData {
        let mut data = FrameData::new();
        data.build(&World::new(), 5, &[0; BINS], 1.5);
        data
    }

    #[test]
    fn expectation_counts_every_point_of_the_pond() {
        let data = frame();

        let histogram = &data.expected[UNIFORM_ROWS * 4..][..BINS];
        assert_eq!(histogram.iter().sum::<u32>() as usize, POND_VERTICES);
    }

    #[test]
    fn one_changed_bit_changes_its_checksum_alone() {
        let mut data = frame();
        let before = data.expected.clone();

        data.vertices[CHUNK * 3 + 7][1] ^= 1;
        data.expect();

        let changed: Vec<usize> =
            (0..RESULT_WORDS).filter(|&word| data.expected[word] != before[word]).collect();
        assert_eq!(changed, [UNIFORM_ROWS * 4 + BINS + 3]);
        assert_eq!(name_of_result(changed[0]), "the checksum of vertex bytes 12288..16384");
    }
}
