//! What one command does, to the device and to the reference.

use ash::vk;
use lockstep_harness::{Gpu, Queries, Recorder, Rng, pattern};

use crate::feedback::Feedback;
use crate::images::{Area, TEXEL};
use crate::places::{Offers, Scene};
use crate::shade::{Extra, Shade};
use crate::shaders::Shaders;

/// A range of bytes of a buffer or image, by its number in the world.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) buffer: usize,
    pub(crate) at: usize,
    pub(crate) len: usize,
}

/// A part of an image beside a place in a buffer with rows of `row` texels.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    image: usize,
    area: Area,
    buffer: usize,
    at: usize,
    row: usize,
}

/// One command.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// vkCmdFillBuffer; `whole`: by VK_WHOLE_SIZE.
    Fill { to: Span, byte: u8, whole: bool },
    /// vkCmdUpdateBuffer.
    Update { to: Span, seed: u64 },
    /// vkCmdCopyBuffer or vkCmdCopyBuffer2 between two buffers, with regions of (source, destination,
    /// length).
    Copy { from: usize, to: usize, regions: Vec<(usize, usize, usize)>, second: bool },
    /// vkCmdCopyQueryPoolResults of [`RESULTS`] occlusion queries that counted nothing.
    Results { to: usize, at: usize, stride: usize, count: usize, wide: bool, available: Option<u8> },
    /// vkCmdCopyImageToBuffer.
    FromImage(Rows),
    /// vkCmdCopyBufferToImage.
    ToImage(Rows),
    /// vkCmdCopyImage, of a part to a place of the same extent.
    Between { from: usize, area: Area, to: usize, place: Area },
    /// vkCmdClearColorImage.
    Clear { image: usize, texel: [u8; TEXEL] },
    /// Rendering that clears its attachment.
    Render { image: usize, area: Area, texel: [u8; TEXEL] },
    /// A compute shader.
    Shade(Shade),
    /// Transform feedback.
    Feedback(Feedback),
}

/// Queries that were made and ended when the device was.
pub(crate) const RESULTS: u32 = 16;

/// What commands are recorded with.
pub(crate) struct Tools {
    pub(crate) gpu: Gpu,
    pub(crate) shaders: Shaders,
    /// Where the device has transform feedback.
    pub(crate) feedback: Option<crate::feedback::Pipeline>,
    /// [`RESULTS`] occlusion queries.
    pub(crate) results: Queries,
    pub(crate) offers: Offers,
}

pub(crate) fn to_u32(n: usize) -> u32 {
    u32::try_from(n).expect("small buffers")
}

/// Returns a place and length of whole words in a buffer that has at least one.
fn words(rng: &mut Rng, size: usize, longest: usize) -> (usize, usize) {
    let first = rng.below(size / 4);
    let count = rng.between(1, longest + 1).min(size / 4 - first);
    (4 * first, 4 * count)
}

impl Op {
    /// Makes up a command; once in `vague` times one of which only the device knows what it writes.
    pub(crate) fn random(rng: &mut Rng, scene: &Scene<'_>, vague: usize) -> Self {
        loop {
            let place = scene.buffers[rng.below(scene.buffers.len())];
            let images = if rng.one_in(3) || scene.linear.is_empty() { &scene.images } else { &scene.linear };
            let image = images[rng.below(images.len())];
            let made = match rng.one_in(vague) {
                true => Self::vague(rng, scene, place, image),
                false => Self::exact(rng, scene, place, image),
            };
            if let Some(op) = made {
                return op;
            }
        }
    }

    fn vague(rng: &mut Rng, scene: &Scene<'_>, to: usize, image: usize) -> Option<Self> {
        match rng.below(8) {
            0 => Some(Self::ToImage(Rows::random(rng, scene, image, to)?)),
            1 | 2 => Some(Self::on_image(rng, scene, image)),
            3 if scene.offers.feedback => Some(Self::Feedback(Feedback::random(rng, to, scene.sizes[to]))),
            _ => Some(Self::Shade(Shade::random(rng, scene, to))),
        }
    }

    fn exact(rng: &mut Rng, scene: &Scene<'_>, to: usize, image: usize) -> Option<Self> {
        let size = scene.sizes[to];
        match rng.below(9) {
            0 | 1 => {
                let (at, mut len) = words(rng, size, 3000);
                let byte = if rng.one_in(3) { 0 } else { rng.byte() };
                let whole = rng.one_in(6);
                len = if whole { (size - at) / 4 * 4 } else { len };
                Some(Self::Fill { to: Span { buffer: to, at, len }, byte, whole })
            }
            2 | 3 => {
                let (at, len) = words(rng, size, 300);
                Some(Self::Update { to: Span { buffer: to, at, len }, seed: rng.next_u64() })
            }
            4 => Self::results(rng, scene, to),
            5 => Some(Self::FromImage(Rows::random(rng, scene, image, to)?)),
            _ => {
                // From another buffer, so that source and destination never overlap.
                let from = scene.buffers[rng.below(scene.buffers.len())];
                let regions = (from != to).then(|| regions(rng, scene.sizes[from], size))?;
                Some(Self::Copy { from, to, regions, second: rng.one_in(3) })
            }
        }
    }

    /// Makes up a copy that saves what a command is about to write.
    pub(crate) fn witness(&self, rng: &mut Rng, scene: &Scene<'_>) -> Option<Self> {
        let spans = self.writes(scene);
        let Span { buffer: from, at, len } = spans[rng.below(spans.len())];
        let to = scene.buffers[rng.below(scene.buffers.len())];
        if to == from || scene.shapes[from].is_some() {
            return None;
        }
        let len = len.min(scene.sizes[to]);
        let place = rng.below(scene.sizes[to] - len + 1);
        Some(Self::Copy { from, to, regions: vec![(at, place, len)], second: false })
    }

    fn results(rng: &mut Rng, scene: &Scene<'_>, to: usize) -> Option<Self> {
        let size = scene.sizes[to];
        let wide = rng.one_in(2);
        let unit = if wide { 8 } else { 4 };
        let available = (rng.one_in(2) && size >= 2 * unit).then_some(scene.offers.available);
        let result = if available.is_some() { 2 * unit } else { unit };
        let at = rng.below(size.checked_sub(result)? / unit + 1) * unit;
        let stride = result + unit * if rng.one_in(3) { 0 } else { rng.below(40) };
        let count = rng.between(1, RESULTS as usize + 1).min((size - at - result) / stride + 1);
        Some(Self::Results { to, at, stride, count, wide, available })
    }

    fn on_image(rng: &mut Rng, scene: &Scene<'_>, image: usize) -> Self {
        let shape = scene.shapes[image].expect("an image");
        let texel = [rng.byte(), rng.byte(), rng.byte(), rng.byte()];
        let other = scene.images[rng.below(scene.images.len())];
        match rng.below(3) {
            0 => Self::Clear { image, texel },
            1 if other != image => {
                let theirs = scene.shapes[other].expect("an image");
                let place = shape.area(rng);
                let (width, height) = (place.width.min(theirs.width), place.height.min(theirs.height));
                let x = rng.below(theirs.width - width + 1);
                let y = rng.below(theirs.height - height + 1);
                let area = Area { x, y, width, height };
                Self::Between { from: other, area, to: image, place: Area { width, height, ..place } }
            }
            _ => Self::Render { image, area: shape.area(rng), texel },
        }
    }

    /// Returns what the command reads.
    pub(crate) fn reads(&self, scene: &Scene<'_>) -> Vec<Span> {
        match self {
            Self::Copy { from, regions, .. } => {
                regions.iter().map(|&(at, _, len)| Span { buffer: *from, at, len }).collect()
            }
            Self::Shade(_) => self.writes(scene),
            Self::FromImage(rows) => rows.texels(scene),
            Self::ToImage(rows) => rows.spans(),
            Self::Between { from, area, .. } => scene.spans(*from, area),
            _ => Vec::new(),
        }
    }

    /// Returns what the command writes.
    pub(crate) fn writes(&self, scene: &Scene<'_>) -> Vec<Span> {
        match self {
            Self::Fill { to, .. } | Self::Update { to, .. } => vec![to.clone()],
            Self::Copy { to, regions, .. } => {
                regions.iter().map(|&(_, at, len)| Span { buffer: *to, at, len }).collect()
            }
            Self::Results { to, at, stride, count, wide, available } => {
                let len = if *wide { 8 } else { 4 } * if available.is_some() { 2 } else { 1 };
                (0..*count).map(|n| Span { buffer: *to, at: at + n * stride, len }).collect()
            }
            Self::FromImage(rows) => rows.spans(),
            Self::ToImage(rows) => rows.texels(scene),
            Self::Between { to, place, .. } => scene.spans(*to, place),
            Self::Clear { image, .. } => {
                scene.spans(*image, &scene.shapes[*image].expect("an image").whole())
            }
            Self::Render { image, area, .. } => scene.spans(*image, area),
            Self::Shade(shade) => shade.words(),
            Self::Feedback(feedback) => feedback.writes(),
        }
    }

    /// Returns whether a buffer or image must stay while the command may run.
    pub(crate) fn uses(&self, scene: &Scene<'_>, place: usize) -> bool {
        let suspected =
            if let Self::Shade(shade) = self { shade.uses().any(|used| used == place) } else { false };
        suspected || self.reads(scene).iter().chain(&self.writes(scene)).any(|span| span.buffer == place)
    }

    /// Does to the reference what the command does to the buffers.
    pub(crate) fn apply(&self, scene: &Scene<'_>, bytes: &mut [Vec<u8>]) {
        let copy = |bytes: &mut [Vec<u8>], from: &[Span], to: &[Span]| {
            for (from, to) in from.iter().zip(to) {
                let content = bytes[from.buffer][from.at..from.at + from.len].to_vec();
                bytes[to.buffer][to.at..to.at + to.len].copy_from_slice(&content);
            }
        };
        match self {
            Self::Fill { to, byte, .. } => bytes[to.buffer][to.at..to.at + to.len].fill(*byte),
            Self::Update { to, seed } => {
                bytes[to.buffer][to.at..to.at + to.len].copy_from_slice(&pattern(*seed, to.len));
            }
            Self::Copy { .. } | Self::FromImage(_) | Self::ToImage(_) | Self::Between { .. } => {
                copy(bytes, &self.reads(scene), &self.writes(scene));
            }
            Self::Results { available, .. } => {
                for span in self.writes(scene) {
                    let result = &mut bytes[span.buffer][span.at..span.at + span.len];
                    result.fill(0);
                    result[span.len / 2] = available.unwrap_or(0);
                }
            }
            Self::Clear { texel, .. } | Self::Render { texel, .. } => {
                for span in self.writes(scene) {
                    let row = &mut bytes[span.buffer][span.at..span.at + span.len];
                    row.chunks_mut(TEXEL).for_each(|out| out.copy_from_slice(texel));
                }
            }
            Self::Shade(shade) => shade.apply(bytes),
            Self::Feedback(feedback) => feedback.apply(bytes),
        }
    }

    /// Makes what the command needs beside the buffers.
    pub(crate) fn prepare(&self, tools: &Tools, scene: &Scene<'_>) -> Extra {
        match self {
            Self::Shade(shade) => shade.prepare(&tools.gpu, &tools.shaders, &scene.raw),
            _ => Extra::default(),
        }
    }

    /// Records the command, and that all others come before or behind.
    pub(crate) fn record(&self, tools: &Tools, r: &Recorder<'_>, scene: &Scene<'_>, extra: &Extra) {
        let (device, raw) = (tools.gpu.raw(), &scene.raw);
        match self {
            Self::Fill { to, byte, whole: false } => r.fill(raw[to.buffer], to.at, to.len, *byte),
            Self::Fill { to, byte, whole: true } => {
                let (buffer, word) = (raw[to.buffer].raw(), u32::from_ne_bytes([*byte; 4]));
                // SAFETY: The buffer is alive.
                unsafe { device.cmd_fill_buffer(r.raw(), buffer, to.at as u64, vk::WHOLE_SIZE, word) };
            }
            Self::Update { to, seed } => r.update(raw[to.buffer], to.at, &pattern(*seed, to.len)),
            Self::Copy { from, to, regions, second: false } => {
                r.copy_regions(raw[*from], raw[*to], regions);
            }
            Self::Copy { from, to, regions, second: true } => {
                let regions: Vec<_> = regions
                    .iter()
                    .map(|&(from, to, len)| {
                        let [from, to, len] = [from, to, len].map(|n| n as u64);
                        vk::BufferCopy2::default().src_offset(from).dst_offset(to).size(len)
                    })
                    .collect();
                let info = vk::CopyBufferInfo2::default()
                    .src_buffer(raw[*from].raw())
                    .dst_buffer(raw[*to].raw())
                    .regions(&regions);
                // SAFETY: The buffers are alive, the regions inside them.
                unsafe { device.cmd_copy_buffer2(r.raw(), &info) };
            }
            Self::Results { to, at, stride, count, wide, available } => {
                let mut flags = vk::QueryResultFlags::WAIT;
                flags |= if *wide { vk::QueryResultFlags::TYPE_64 } else { vk::QueryResultFlags::empty() };
                if available.is_some() {
                    flags |= vk::QueryResultFlags::WITH_AVAILABILITY;
                }
                let (pool, count) = (tools.results.raw(), to_u32(*count));
                let (buffer, at, stride) = (raw[*to].raw(), *at as u64, *stride as u64);
                // SAFETY: Pool and buffer are alive, the results inside both.
                unsafe {
                    device.cmd_copy_query_pool_results(r.raw(), pool, 0, count, buffer, at, stride, flags);
                };
            }
            Self::FromImage(rows) => {
                scene.image(rows.image).copy_to(r, &rows.area, raw[rows.buffer].raw(), rows.at, rows.row);
            }
            Self::ToImage(rows) => {
                scene.image(rows.image).copy_from(r, &rows.area, raw[rows.buffer].raw(), rows.at, rows.row);
            }
            Self::Between { from, area, to, place } => {
                scene.image(*from).copy_between(r, area, scene.image(*to), place);
            }
            Self::Clear { image, texel } => scene.image(*image).clear(r, *texel),
            Self::Render { image, area, texel } => scene.image(*image).render(r, area, *texel),
            Self::Shade(shade) => shade.record(&tools.gpu, r, &tools.shaders, raw, extra),
            Self::Feedback(feedback) => {
                let pipeline = tools.feedback.as_ref().expect("made up where there is feedback");
                feedback.record(pipeline, r, raw);
            }
        }
        r.barrier();
    }
}

impl Rows {
    /// Makes up a part of an image and a place for it in a buffer, if there is one.
    fn random(rng: &mut Rng, scene: &Scene<'_>, image: usize, buffer: usize) -> Option<Self> {
        let area = scene.shapes[image].expect("an image").area(rng);
        let size = scene.sizes[buffer];
        let row = area.width + if rng.one_in(3) { 0 } else { rng.below(20) };
        let len = ((area.height - 1) * row + area.width) * TEXEL;
        let at = rng.below(size.checked_sub(len)? / TEXEL + 1) * TEXEL;
        Some(Self { image, area, buffer, at, row })
    }

    fn spans(&self) -> Vec<Span> {
        let Self { buffer, at, row, .. } = *self;
        let len = self.area.width * TEXEL;
        (0..self.area.height).map(|n| Span { buffer, at: at + n * row * TEXEL, len }).collect()
    }

    fn texels(&self, scene: &Scene<'_>) -> Vec<Span> {
        scene.spans(self.image, &self.area)
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
