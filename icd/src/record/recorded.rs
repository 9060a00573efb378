//! A finished recording: what a submission of it may write.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use ash::vk;
use kmd_sim::uapi::{Extent, Write, Writes};

use super::bind_point::{Shaders, offsets_of};
use super::buffer_writes::BufferBytes;
use super::descriptors::{Bindings, DescriptorSet, Target};
use super::pipeline::PipelineWrites;
use super::recording::{QueryCopy, Recording};
use super::shaders::writes_of;
use super::texels::{Texels, copied};
use crate::device::DeviceState;
use crate::resources::Resource;

/// Ranges that are told one by one; of commands that write more, the whole stretch is told, gaps included.
const RANGES: usize = 16384;

/// What the submission of a command buffer may write.
#[derive(Debug, Default)]
pub struct Recorded {
    /// What is known for good, secondaries included.
    writes: Writes,
    /// Sets whose content may change until they are submitted.
    late: Vec<LateSet>,
    secondaries: Vec<Arc<Recorded>>,
}

/// A set that may be updated after it was bound.
#[derive(Debug)]
struct LateSet {
    set: Arc<DescriptorSet>,
    /// What the shaders it met may write, and as which of their sets it was bound.
    shaders: Arc<PipelineWrites>,
    index: u32,
    offsets: Box<[u32]>,
}

impl Recorded {
    /// Looks up what was recorded, when it ends: resources are bound and sets written by now.
    pub(super) fn fill(&mut self, recording: &mut Recording, device: &DeviceState) {
        let mut ranges = std::mem::take(&mut self.writes.ranges);
        ranges.clear();
        let mut builder = Builder { device, writes: Writes { ranges, ..Default::default() } };
        builder.writes.anything = recording.anything;
        builder.writes.gated = recording.gated;
        for bytes in recording.buffers.exact() {
            builder.buffer(bytes, Extent::Exact);
        }
        recording.buffers.for_each_within(|bytes| builder.buffer(&bytes, Extent::Within));
        for bytes in &recording.within {
            builder.buffer(bytes, Extent::Within);
        }
        for part in &recording.images {
            builder.image(part.image, part.range);
        }
        for copy in &recording.image_copies {
            let format = device.images.get(copy.image).and_then(|image| image.image);
            let format = format.map_or(vk::Format::UNDEFINED, |image| image.format);
            builder.texels(copy.buffer, &copied(format, &copy.region));
        }
        for copy in &recording.query_copies {
            builder.queries(copy);
        }
        for view in &recording.views {
            builder.view(*view);
        }
        for pass in &recording.passes {
            builder.pass(pass.render_pass, pass.framebuffer, &pass.views);
        }
        self.late = builder.shaders(recording);
        self.writes = builder.writes;
        self.secondaries = std::mem::take(&mut recording.secondaries);
    }

    /// Adds all that a submission now may write.
    pub fn collect(&self, device: &DeviceState, into: &mut Writes) {
        into.ranges.extend_from_slice(&self.writes.ranges);
        into.by_address |= self.writes.by_address;
        into.anything |= self.writes.anything;
        into.gated |= self.writes.gated;
        if !self.late.is_empty() {
            let mut builder = Builder { device, writes: std::mem::take(into) };
            for late in &self.late {
                builder.set(&late.set, late.shaders.bindings(late.index), &late.offsets);
            }
            *into = builder.writes;
        }
        for secondary in &self.secondaries {
            secondary.collect(device, into);
        }
    }
}

/// Turns handles into bytes of buffer objects.
struct Builder<'a> {
    device: &'a DeviceState,
    writes: Writes,
}

impl Builder<'_> {
    /// Adds bytes of a resource. One that nobody knows, or whose memory may change, may write anything.
    fn resource(&mut self, resource: Option<&Resource>, bytes: &Range<u64>, extent: Extent) {
        let Some(resource) = resource.filter(|resource| resource.is_bound() && !resource.sparse) else {
            self.writes.anything = true;
            return;
        };
        resource.for_each_place(|place| {
            let at = |offset: u64| place.bytes.start.saturating_add(offset).min(place.bytes.end);
            let bytes = at(bytes.start)..at(bytes.end);
            if !bytes.is_empty() {
                self.writes.ranges.push(Write { bo: place.bo, bytes, extent });
            }
        });
    }

    fn buffer(&mut self, bytes: &BufferBytes, extent: Extent) {
        if bytes.buffer == vk::Buffer::null() {
            return;
        }
        let resource = self.device.buffers.get(bytes.buffer);
        let end = bytes.offset.saturating_add(bytes.size);
        // Memory may be larger than the buffer in it.
        let end = end.min(resource.as_ref().map_or(end, |resource| resource.size));
        self.resource(resource.as_deref(), &(bytes.offset..end), extent);
    }

    fn image(&mut self, image: vk::Image, range: vk::ImageSubresourceRange) {
        if image == vk::Image::null() {
            return;
        }
        // Images of a swapchain are none of ours, and have no memory of the application.
        let Some(resource) = self.device.images.get(image) else { return };
        match resource.image {
            Some(kind) if kind.linear && resource.has_places() => {
                for bytes in self.device.linear_bytes(image, kind, &range) {
                    self.resource(Some(&resource), &bytes, Extent::Within);
                }
            }
            _ => self.resource(Some(&resource), &(0..u64::MAX), Extent::Within),
        }
    }

    fn view(&mut self, view: vk::ImageView) {
        if view == vk::ImageView::null() {
            return;
        }
        match self.device.objects.image_views.get(view) {
            Some(view) => self.image(view.image, view.range),
            None => self.writes.anything = true,
        }
    }

    fn texels(&mut self, buffer: vk::Buffer, texels: &Texels) {
        let bytes =
            |range: &Range<u64>| BufferBytes { buffer, offset: range.start, size: range.end - range.start };
        match texels {
            Texels::Exact(ranges) if self.writes.ranges.len() > RANGES => {
                let ends = ranges.first().zip(ranges.last());
                let whole = ends.map_or(0..0, |(first, last)| first.start..last.end);
                self.buffer(&bytes(&whole), Extent::Within);
            }
            Texels::Exact(ranges) => {
                ranges.iter().for_each(|range| self.buffer(&bytes(range), Extent::Exact));
            }
            Texels::Within(range) => self.buffer(&bytes(range), Extent::Within),
        }
    }

    fn queries(&mut self, copy: &QueryCopy) {
        if copy.count == 0 {
            return;
        }
        let whole = BufferBytes { buffer: copy.buffer, offset: copy.offset, size: vk::WHOLE_SIZE };
        let numbers = self.device.query_pools.get(copy.pool).and_then(|pool| pool.numbers(copy.flags));
        let Some(numbers) = numbers else { return self.buffer(&whole, Extent::Within) };
        let wide = copy.flags.contains(vk::QueryResultFlags::TYPE_64);
        let size = numbers * if wide { 8 } else { 4 };
        // A result that is not there is left out, unless somebody waits for it or takes a part.
        let written = vk::QueryResultFlags::WAIT | vk::QueryResultFlags::PARTIAL;
        let extent = if copy.flags.intersects(written) { Extent::Exact } else { Extent::Within };
        let span = u64::from(copy.count - 1).saturating_mul(copy.stride).saturating_add(size);
        if copy.stride == size || copy.count == 1 {
            self.buffer(&BufferBytes { size: span, ..whole }, extent);
        } else if self.writes.ranges.len() + copy.count as usize > RANGES {
            self.buffer(&BufferBytes { size: span, ..whole }, Extent::Within);
        } else {
            for index in 0..u64::from(copy.count) {
                let offset = copy.offset.saturating_add(index.saturating_mul(copy.stride));
                self.buffer(&BufferBytes { offset, size, ..whole }, extent);
            }
        }
    }

    fn pass(&mut self, pass: vk::RenderPass, framebuffer: vk::Framebuffer, views: &[vk::ImageView]) {
        let framebuffer = self.device.framebuffers.get(framebuffer);
        let (Some(pass), Some(framebuffer)) = (self.device.render_passes.get(pass), framebuffer) else {
            self.writes.anything = true;
            return;
        };
        let views = if views.is_empty() { &framebuffer.views[..] } else { views };
        for (view, written) in views.iter().zip(&pass.written) {
            if *written {
                self.view(*view);
            }
        }
    }

    fn target(&mut self, target: &Target) {
        match target {
            Target::Buffer { buffer, offset, size } => {
                let bytes = BufferBytes { buffer: *buffer, offset: *offset, size: *size };
                self.buffer(&bytes, Extent::Within);
            }
            Target::Image { image, range } => self.image(*image, *range),
        }
    }

    fn set(&mut self, set: &DescriptorSet, bindings: Bindings<'_>, offsets: &[u32]) {
        set.for_each_target(bindings, offsets, |target| self.target(&target));
    }

    /// Adds what shaders may write through descriptors and addresses, and returns the sets that cannot be
    /// told yet.
    fn shaders(&mut self, recording: &mut Recording) -> Vec<LateSet> {
        let objects = &self.device.objects;
        let mut known: HashMap<Shaders, Arc<PipelineWrites>> = HashMap::new();
        for shaders in &recording.shaders {
            let writes =
                known.entry(*shaders).or_insert_with(|| writes_of(objects, *shaders, &recording.objects));
            self.writes.by_address |= writes.addresses;
            self.writes.anything |= writes.anything;
        }
        recording.uses.sort_unstable();
        recording.uses.dedup();
        let mut late = Vec::new();
        for used in &recording.uses {
            let Some(shaders) = known.get(&used.shaders) else { continue };
            let bindings = shaders.bindings(used.index);
            if bindings == Bindings::These(&[]) {
                continue;
            }
            let Some(set) = objects.sets.get(used.bound.set) else {
                self.writes.anything = true;
                continue;
            };
            let mut offsets: &[u32] = &[];
            if let Some((call, place)) = used.bound.dynamic {
                let dynamic = &recording.dynamics[call as usize];
                let count = |set: &vk::DescriptorSet| {
                    objects.sets.get(*set).map_or(0, |set| set.dynamic_count() as usize)
                };
                let own = offsets_of(place, dynamic.sets.iter().map(count));
                offsets = dynamic.offsets.get(own).unwrap_or(&[]);
            }
            if set.layout().is_update_after_bind() {
                let shaders = Arc::clone(shaders);
                late.push(LateSet { set, shaders, index: used.index, offsets: offsets.into() });
            } else {
                self.set(&set, bindings, offsets);
            }
        }
        for target in &recording.targets {
            self.target(target);
        }
        late
    }
}
