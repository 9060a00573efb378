//! What one command does, to the device and to the reference.

use lockstep_harness::{Bindings, Buffer, Compute, Gpu, Kind, Recorder, Rng};

/// The shader of [`Op::Shade`]: changes every `stride`th word from `first` on.
const SHADER: &str = "
    struct Job { first: u32, stride: u32, count: u32, key: u32 }
    @group(0) @binding(0) var<storage, read_write> words: array<u32>;
    @group(0) @binding(1) var<storage, read> job: Job;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        if id.x < job.count {
            let at = job.first + id.x * job.stride;
            words[at] = (words[at] ^ job.key) * 2654435761u + id.x;
        }
    }";

/// Builds the pipeline of [`Op::Shade`].
pub(crate) fn shader(gpu: &Gpu) -> Compute {
    Compute::new(gpu, SHADER, 2)
}

/// A range of bytes of a buffer, by its number in the world.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) buffer: usize,
    pub(crate) at: usize,
    pub(crate) len: usize,
}

/// One command.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// vkCmdFillBuffer.
    Fill { to: Span, byte: u8 },
    /// vkCmdUpdateBuffer.
    Update { to: Span, seed: u64 },
    /// vkCmdCopyBuffer between two buffers, with regions of (source, destination, length).
    Copy { from: usize, to: usize, regions: Vec<(usize, usize, usize)> },
    /// A compute shader on every `stride`th word.
    Shade { buffer: usize, first: u32, stride: u32, count: u32, key: u32 },
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).expect("small buffers")
}

/// Returns a place and length of whole words in a buffer that has at least one.
fn words(rng: &mut Rng, size: usize, longest: usize) -> (usize, usize) {
    let first = rng.below(size / 4);
    let count = rng.between(1, longest + 1).min(size / 4 - first);
    (4 * first, 4 * count)
}

impl Op {
    /// Makes up a command for buffers of these sizes.
    pub(crate) fn random(rng: &mut Rng, sizes: &[usize]) -> Self {
        let to = rng.below(sizes.len());
        match rng.below(6) {
            0 if sizes[to] >= 4 => {
                let (at, len) = words(rng, sizes[to], 3000);
                let byte = if rng.one_in(3) { 0 } else { rng.byte() };
                Self::Fill { to: Span { buffer: to, at, len }, byte }
            }
            1 if sizes[to] >= 4 => {
                let (at, len) = words(rng, sizes[to], 300);
                Self::Update { to: Span { buffer: to, at, len }, seed: rng.next_u64() }
            }
            2 | 3 if sizes[to] >= 4 => {
                let count = sizes[to] / 4;
                let (first, stride) = (rng.below(count), rng.between(1, 9));
                let count = rng.between(1, (count - first).div_ceil(stride) + 1);
                let [first, stride, count] = [first, stride, count].map(to_u32);
                Self::Shade { buffer: to, first, stride, count, key: to_u32(rng.below(1 << 31)) }
            }
            _ => {
                // From another buffer, so that source and destination never overlap.
                let from = (to + rng.between(1, sizes.len())) % sizes.len();
                Self::Copy { from, to, regions: regions(rng, sizes[from], sizes[to]) }
            }
        }
    }

    /// Returns what the command reads.
    pub(crate) fn reads(&self) -> Vec<Span> {
        match self {
            Self::Fill { .. } | Self::Update { .. } => Vec::new(),
            Self::Copy { from, regions, .. } => {
                regions.iter().map(|&(at, _, len)| Span { buffer: *from, at, len }).collect()
            }
            Self::Shade { .. } => self.writes(),
        }
    }

    /// Returns what the command writes.
    pub(crate) fn writes(&self) -> Vec<Span> {
        match self {
            Self::Fill { to, .. } | Self::Update { to, .. } => vec![to.clone()],
            Self::Copy { to, regions, .. } => {
                regions.iter().map(|&(_, at, len)| Span { buffer: *to, at, len }).collect()
            }
            Self::Shade { buffer, first, stride, count, .. } => (0..*count)
                .map(|n| 4 * (first + n * stride))
                .map(|at| Span { buffer: *buffer, at: usize::try_from(at).expect("small"), len: 4 })
                .collect(),
        }
    }

    /// Does to the reference what the command does to the buffers.
    pub(crate) fn apply(&self, bytes: &mut [Vec<u8>]) {
        match self {
            Self::Fill { to, byte } => bytes[to.buffer][to.at..to.at + to.len].fill(*byte),
            Self::Update { to, seed } => {
                let content = lockstep_harness::pattern(*seed, to.len);
                bytes[to.buffer][to.at..to.at + to.len].copy_from_slice(&content);
            }
            Self::Copy { from, to, regions } => {
                for &(source, target, len) in regions {
                    let content = bytes[*from][source..source + len].to_vec();
                    bytes[*to][target..target + len].copy_from_slice(&content);
                }
            }
            Self::Shade { key, .. } => {
                for (n, span) in (0..).zip(self.writes()) {
                    let word = &mut bytes[span.buffer][span.at..span.at + 4];
                    let old = u32::from_le_bytes(word.try_into().expect("four bytes"));
                    let new = (old ^ key).wrapping_mul(2_654_435_761).wrapping_add(n);
                    word.copy_from_slice(&new.to_le_bytes());
                }
            }
        }
    }

    /// Makes what the command needs beside the buffers.
    pub(crate) fn prepare(
        &self,
        gpu: &Gpu,
        shader: &Compute,
        buffers: &[&Buffer],
    ) -> Option<(Buffer, Bindings)> {
        let Self::Shade { buffer, first, stride, count, key } = *self else { return None };
        let job = Buffer::mapped(gpu, Kind::Coherent, 16);
        let words: Vec<u8> = [first, stride, count, key].into_iter().flat_map(u32::to_le_bytes).collect();
        job.bytes().write(0, &words);
        let target = buffers[buffer];
        let bindings = shader.bind(&[(target, 0, target.len() / 4 * 4), (&job, 0, 16)]);
        Some((job, bindings))
    }

    /// Records the command.
    pub(crate) fn record(
        &self,
        r: &Recorder<'_>,
        shader: &Compute,
        buffers: &[&Buffer],
        extra: Option<&(Buffer, Bindings)>,
    ) {
        match self {
            Self::Fill { to, byte } => r.fill(buffers[to.buffer], to.at, to.len, *byte),
            Self::Update { to, seed } => {
                r.update(buffers[to.buffer], to.at, &lockstep_harness::pattern(*seed, to.len));
            }
            Self::Copy { from, to, regions } => r.copy_regions(buffers[*from], buffers[*to], regions),
            Self::Shade { count, .. } => {
                r.dispatch(shader, &extra.expect("prepared").1, count.div_ceil(64));
            }
        }
        r.barrier();
    }
}

/// Makes up copy regions that do not overlap in the destination: one long one, or a comb of short ones.
fn regions(rng: &mut Rng, from: usize, to: usize) -> Vec<(usize, usize, usize)> {
    let shorter = from.min(to);
    if rng.one_in(2) {
        let len = rng.between(1, shorter + 1);
        return vec![(rng.below(from - len + 1), rng.below(to - len + 1), len)];
    }
    let tooth = rng.between(1, 17).min(shorter);
    let gap = rng.between(1, 40);
    let count = rng.between(1, 60).min((to + gap) / (tooth + gap)).max(1);
    let room = to.saturating_sub(count * (tooth + gap));
    let start = rng.below(room + 1);
    let place = |n| (rng.below(from - tooth + 1), start + n * (tooth + gap), tooth);
    (0..count).map(place).filter(|&(_, at, len)| at + len <= to).collect()
}
