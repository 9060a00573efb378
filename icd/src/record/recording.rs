//! A command buffer while it is recorded.
//!
//! Commands leave handles and numbers here and nothing is looked up: that costs a few nanoseconds, waits for
//! nobody, and is done once, when the recording ends ([`super::recorded`]). What a command writes again right
//! after itself is not noted twice.

use std::sync::Arc;

use ash::vk;

use super::Objects;
use super::bind_point::{BindPoint, Dynamic, Shaders, Use};
use super::buffer_writes::{BufferBytes, BufferWrites};
use super::descriptors::{Descriptors, Target, Template};
use super::lookup;
use super::recorded::Recorded;
use super::shaders::writes_of;
use crate::device::DeviceState;

/// A part of an image that a command writes.
#[derive(Clone, Copy, Debug)]
pub struct ImagePart {
    /// The image.
    pub image: vk::Image,
    /// The part.
    pub range: vk::ImageSubresourceRange,
}

/// A copy of an image to a buffer.
#[derive(Clone, Copy, Debug)]
pub struct ImageToBuffer {
    /// The image, which says what a texel is.
    pub image: vk::Image,
    /// The buffer.
    pub buffer: vk::Buffer,
    /// What is copied.
    pub region: vk::BufferImageCopy,
}

/// A copy of query results.
#[derive(Clone, Copy, Debug)]
pub struct QueryCopy {
    /// The buffer.
    pub buffer: vk::Buffer,
    /// Where the first result goes.
    pub offset: u64,
    /// How far the next one is.
    pub stride: u64,
    /// How many.
    pub count: u32,
    /// The pool, which says how many numbers a result has.
    pub pool: vk::QueryPool,
    /// What is copied.
    pub flags: vk::QueryResultFlags,
}

/// A render pass instance.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The render pass.
    pub render_pass: vk::RenderPass,
    /// The framebuffer.
    pub framebuffer: vk::Framebuffer,
    /// The views of a framebuffer without any.
    pub views: Box<[vk::ImageView]>,
}

/// Everything a command buffer was told so far.
#[derive(Debug, Default)]
pub struct Recording {
    /// Begun since anything is recorded, and not ended.
    on: bool,
    device: Option<Arc<DeviceState>>,
    /// Exact targets of commands.
    pub(super) buffers: BufferWrites,
    /// Buffers in which the device decides what it writes: transform feedback.
    pub(super) within: Vec<BufferBytes>,
    pub(super) images: Vec<ImagePart>,
    pub(super) views: Vec<vk::ImageView>,
    pub(super) image_copies: Vec<ImageToBuffer>,
    pub(super) query_copies: Vec<QueryCopy>,
    pub(super) passes: Vec<Pass>,
    pub(super) uses: Vec<Use>,
    /// What shaders may write through descriptors that were pushed.
    pub(super) targets: Vec<Target>,
    /// Shaders that ran, whatever was bound: they may write by address.
    pub(super) shaders: Vec<Shaders>,
    pub(super) dynamics: Vec<Dynamic>,
    pub(super) objects: Vec<Box<[vk::ShaderEXT]>>,
    pub(super) secondaries: Vec<Arc<Recorded>>,
    pub(super) anything: bool,
    pub(super) gated: bool,
    /// What becomes of it.
    result: Arc<Recorded>,
    points: [BindPoint; 3],
    bound_objects: Vec<(vk::ShaderStageFlags, vk::ShaderEXT)>,
    feedback: Vec<BufferBytes>,
}

/// Pushes what differs from the last element.
fn push_new<T: PartialEq>(list: &mut Vec<T>, new: T) {
    if list.last() != Some(&new) {
        list.push(new);
    }
}

impl Recording {
    /// Whether commands are to be noted.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Forgets everything and begins.
    ///
    /// `last`: what this command buffer was before. Its memory is used again, since what is allocated when a
    /// recording ends lies behind the host's commands in the heap, and keeps their memory from being merged
    /// when they are freed.
    pub fn begin(&mut self, device: &Arc<DeviceState>, last: Option<Arc<Recorded>>) {
        self.clear();
        self.result = last.unwrap_or_default();
        self.on = true;
        self.device = Some(Arc::clone(device));
    }

    /// Ends the recording: what it may write.
    pub fn end(&mut self) -> Option<Arc<Recorded>> {
        let device = self.device.clone()?;
        let mut result = std::mem::take(&mut self.result);
        if Arc::get_mut(&mut result).is_none() {
            // A submission, or a primary command buffer, still looks at it.
            result = Arc::default();
        }
        if let Some(result) = Arc::get_mut(&mut result) {
            result.fill(self, &device);
        }
        self.clear();
        Some(result)
    }

    /// Forgets everything. What was as long last time will be again.
    fn clear(&mut self) {
        self.buffers.clear();
        self.images.clear();
        self.uses.clear();
        *self = Self {
            buffers: std::mem::take(&mut self.buffers),
            images: std::mem::take(&mut self.images),
            uses: std::mem::take(&mut self.uses),
            ..Self::default()
        };
    }

    /// A command whose target only the device knows.
    pub fn write_anything(&mut self) {
        self.anything = true;
    }

    /// A command waits for something that the CPU may do later.
    pub fn wait_for_host(&mut self) {
        self.gated = true;
    }

    /// A command writes bytes of a buffer.
    pub fn write_buffer(&mut self, buffer: vk::Buffer, offset: u64, size: u64) {
        self.buffers.add(BufferBytes { buffer, offset, size });
    }

    /// A command fills a buffer with words: to the end, if that is the size, but for the rest of a word.
    pub fn fill_buffer(&mut self, buffer: vk::Buffer, offset: u64, size: u64) {
        let size = match (size, &self.device) {
            (vk::WHOLE_SIZE, Some(device)) => {
                let whole = device.buffers.get(buffer).map_or(0, |buffer| buffer.size);
                whole.saturating_sub(offset) & !3
            }
            _ => size,
        };
        self.write_buffer(buffer, offset, size);
    }

    /// A command writes a part of an image.
    pub fn write_image(&mut self, image: vk::Image, range: vk::ImageSubresourceRange) {
        self.images.push(ImagePart { image, range });
    }

    /// A command writes layers of one level of an image.
    pub fn write_layers(&mut self, image: vk::Image, layers: &vk::ImageSubresourceLayers) {
        let range = vk::ImageSubresourceRange {
            aspect_mask: layers.aspect_mask,
            base_mip_level: layers.mip_level,
            level_count: 1,
            base_array_layer: layers.base_array_layer,
            layer_count: layers.layer_count,
        };
        self.write_image(image, range);
    }

    /// A command copies a region of an image to a buffer.
    pub fn copy_image_to_buffer(
        &mut self,
        image: vk::Image,
        buffer: vk::Buffer,
        region: vk::BufferImageCopy,
    ) {
        self.image_copies.push(ImageToBuffer { image, buffer, region });
    }

    /// A command copies query results.
    pub fn copy_queries(&mut self, copy: QueryCopy) {
        self.query_copies.push(copy);
    }

    /// An image barrier, which may write the image when it changes the layout or hands it to another queue
    /// family.
    pub fn barrier(
        &mut self,
        image: vk::Image,
        layouts: (vk::ImageLayout, vk::ImageLayout),
        families: (u32, u32),
        range: vk::ImageSubresourceRange,
    ) {
        if layouts.0 != layouts.1 || families.0 != families.1 {
            self.write_image(image, range);
        }
    }

    /// A render pass instance begins.
    pub fn begin_pass(&mut self, pass: Pass) {
        self.passes.push(pass);
    }

    /// Dynamic rendering writes an attachment.
    pub fn write_view(&mut self, view: vk::ImageView) {
        push_new(&mut self.views, view);
    }

    fn point(&mut self, point: vk::PipelineBindPoint) -> Option<&mut BindPoint> {
        self.points.get_mut(match point {
            vk::PipelineBindPoint::GRAPHICS => 0,
            vk::PipelineBindPoint::COMPUTE => 1,
            vk::PipelineBindPoint::RAY_TRACING_KHR => 2,
            _ => return None,
        })
    }

    /// A pipeline is bound.
    pub fn bind_pipeline(&mut self, point: vk::PipelineBindPoint, pipeline: vk::Pipeline) {
        match self.point(point) {
            Some(point) => point.bind_shaders(Shaders::Pipeline(pipeline)),
            None => self.anything = true,
        }
    }

    /// Shader objects are bound.
    pub fn bind_shaders(&mut self, stages: &[vk::ShaderStageFlags], shaders: Option<&[vk::ShaderEXT]>) {
        for (at, stage) in stages.iter().enumerate() {
            let shader = shaders.map_or(vk::ShaderEXT::null(), |shaders| shaders[at]);
            self.bound_objects.retain(|(bound, _)| bound != stage);
            if shader != vk::ShaderEXT::null() {
                self.bound_objects.push((*stage, shader));
            }
        }
        let compute = vk::ShaderStageFlags::COMPUTE;
        for (place, is_compute) in [(0, false), (1, true)] {
            if !stages.iter().any(|stage| (*stage == compute) == is_compute) {
                continue;
            }
            let bound = self.bound_objects.iter().filter(|(stage, _)| (*stage == compute) == is_compute);
            self.objects.push(bound.map(|(_, shader)| *shader).collect());
            let index = u32::try_from(self.objects.len() - 1).unwrap_or(u32::MAX);
            self.points[place].bind_shaders(Shaders::Objects(index));
        }
    }

    /// Descriptor sets are bound.
    pub fn bind_sets(
        &mut self,
        point: vk::PipelineBindPoint,
        first: u32,
        sets: &[vk::DescriptorSet],
        offsets: &[u32],
    ) {
        let mut dynamic = None;
        if !offsets.is_empty() {
            dynamic = u32::try_from(self.dynamics.len()).ok();
            self.dynamics.push(Dynamic { sets: sets.into(), offsets: offsets.into() });
        }
        let bound = self.point(point).is_some_and(|point| point.bind_sets(first, sets, dynamic));
        self.anything |= !bound;
    }

    /// The bind points that stages belong to.
    pub fn points_of(stages: vk::ShaderStageFlags) -> impl Iterator<Item = vk::PipelineBindPoint> {
        use vk::ShaderStageFlags as Stage;
        let rays = Stage::RAYGEN_KHR
            | Stage::ANY_HIT_KHR
            | Stage::CLOSEST_HIT_KHR
            | Stage::MISS_KHR
            | Stage::INTERSECTION_KHR
            | Stage::CALLABLE_KHR;
        let graphics = Stage::ALL_GRAPHICS | Stage::TASK_EXT | Stage::MESH_EXT;
        let points = [
            (graphics, vk::PipelineBindPoint::GRAPHICS),
            (Stage::COMPUTE, vk::PipelineBindPoint::COMPUTE),
            (rays, vk::PipelineBindPoint::RAY_TRACING_KHR),
        ];
        points.into_iter().filter(move |(of, _)| stages.intersects(*of)).map(|(_, point)| point)
    }

    /// A template for descriptors to push.
    pub fn template(&self, template: vk::DescriptorUpdateTemplate) -> Option<Arc<Template>> {
        self.device.as_ref()?.objects.templates.get(template)
    }

    /// Descriptors are pushed to set `index` of a pipeline layout.
    pub fn push_descriptors(
        &mut self,
        point: vk::PipelineBindPoint,
        (layout, index): (vk::PipelineLayout, u32),
        update: impl FnOnce(&Objects, &mut Descriptors),
    ) {
        let Some(device) = self.device.clone() else { return };
        let layout = device.objects.pipeline_layouts.get(layout);
        let layout = layout.as_ref().and_then(|layout| layout.set(index));
        let (Some(layout), Some(point)) = (layout, self.point(point)) else {
            self.anything = true;
            return;
        };
        update(&device.objects, point.push(index, layout));
    }

    /// Shaders run: a draw, a dispatch, rays.
    #[inline]
    pub fn run(&mut self, point: vk::PipelineBindPoint) {
        if self.point(point).is_none_or(BindPoint::take_changed) {
            self.note(point);
        }
    }

    /// Notes what is bound now.
    #[cold]
    fn note(&mut self, point: vk::PipelineBindPoint) {
        let index = match point {
            vk::PipelineBindPoint::GRAPHICS => 0,
            vk::PipelineBindPoint::COMPUTE => 1,
            _ => 2,
        };
        let point = &self.points[index];
        let Some(shaders) = point.shaders() else {
            self.anything = true;
            return;
        };
        push_new(&mut self.shaders, shaders);
        for (index, bound) in point.sets() {
            let new = Use { shaders, index, bound };
            // What alternates, alternates between few.
            if !self.uses.iter().rev().take(8).any(|old| *old == new) {
                self.uses.push(new);
            }
        }
        if let (Some(device), true) = (&self.device, point.has_pushed()) {
            let writes = writes_of(&device.objects, shaders, &self.objects);
            for (index, pushed) in point.pushed() {
                pushed.for_each_target(writes.bindings(index), &[], |target| self.targets.push(target));
            }
        }
    }

    /// Buffers for transform feedback are bound.
    pub fn bind_feedback(&mut self, first: u32, buffers: impl Iterator<Item = BufferBytes>) {
        for (place, buffer) in buffers.enumerate() {
            let place = first as usize + place;
            if self.feedback.len() <= place {
                let none = BufferBytes { buffer: vk::Buffer::null(), offset: 0, size: 0 };
                self.feedback.resize(place + 1, none);
            }
            self.feedback[place] = buffer;
        }
    }

    /// Transform feedback ends: it wrote the buffers, and now writes counters.
    pub fn feed_back(&mut self, counters: impl Iterator<Item = BufferBytes>) {
        self.within.extend_from_slice(&self.feedback);
        for counter in counters {
            self.write_buffer(counter.buffer, counter.offset, counter.size);
        }
    }

    /// Secondary command buffers run.
    pub fn execute(&mut self, buffers: &[vk::CommandBuffer]) {
        for buffer in buffers {
            match lookup::recorded(*buffer) {
                Some(recorded) => self.secondaries.push(recorded),
                None => self.anything = true,
            }
        }
        // Bound state does not survive.
        self.points = Default::default();
    }
}
