//! Images whose bytes the reference knows: linear ones that the processor sees, and optimal ones.

use std::sync::Arc;

use ash::vk;
use lockstep_harness::{Gpu, Kind, Memory, Recorder, Rng};

use crate::ops::{Span, to_u32};

/// Bytes of a texel.
pub(crate) const TEXEL: usize = 4;

const FORMAT: vk::Format = vk::Format::R8G8B8A8_UINT;
const LAYERS: vk::ImageSubresourceLayers = vk::ImageSubresourceLayers {
    aspect_mask: vk::ImageAspectFlags::COLOR,
    mip_level: 0,
    base_array_layer: 0,
    layer_count: 1,
};
const WHOLE: vk::ImageSubresourceRange = vk::ImageSubresourceRange {
    aspect_mask: vk::ImageAspectFlags::COLOR,
    base_mip_level: 0,
    level_count: 1,
    base_array_layer: 0,
    layer_count: 1,
};

/// Where the texels of an image lie in its reference.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pitch: usize,
}

/// A part of an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Shape {
    /// Makes up a part.
    pub(crate) fn area(&self, rng: &mut Rng) -> Area {
        if rng.one_in(4) {
            return self.whole();
        }
        let (width, height) = (rng.between(1, self.width + 1), rng.between(1, self.height + 1));
        Area { x: rng.below(self.width - width + 1), y: rng.below(self.height - height + 1), width, height }
    }

    /// Returns all of it.
    pub(crate) fn whole(&self) -> Area {
        Area { x: 0, y: 0, width: self.width, height: self.height }
    }

    /// Returns the bytes of a part, row by row.
    pub(crate) fn spans(&self, image: usize, area: &Area) -> Vec<Span> {
        let at = |row| (area.y + row) * self.pitch + area.x * TEXEL;
        (0..area.height).map(|row| Span { buffer: image, at: at(row), len: area.width * TEXEL }).collect()
    }

    /// Returns how many bytes there are from the first texel to the last.
    pub(crate) fn len(&self) -> usize {
        (self.height - 1) * self.pitch + self.width * TEXEL
    }
}

impl Area {
    fn offset(&self) -> vk::Offset3D {
        let [x, y] = [self.x, self.y].map(|n| i32::try_from(n).expect("small"));
        vk::Offset3D { x, y, z: 0 }
    }

    fn extent(&self) -> vk::Extent3D {
        vk::Extent3D { width: to_u32(self.width), height: to_u32(self.height), depth: 1 }
    }
}

/// An image in the GENERAL layout.
pub(crate) struct Image {
    gpu: Gpu,
    raw: vk::Image,
    view: vk::ImageView,
    _memory: Option<Arc<Memory>>,
    pub(crate) shape: Shape,
    /// Where the first texel lies behind the image's place in memory.
    pub(crate) first: usize,
}

fn to_usize(size: vk::DeviceSize) -> usize {
    usize::try_from(size).expect("a 64-bit machine")
}

impl Image {
    /// Makes an image without memory. `linear`: the processor sees its texels.
    pub(crate) fn new(gpu: &Gpu, width: usize, height: usize, linear: bool) -> Self {
        let device = gpu.raw();
        let whole = Area { x: 0, y: 0, width, height };
        let info = vk::ImageCreateInfo::default()
            .image_type(vk::ImageType::TYPE_2D)
            .format(FORMAT)
            .extent(whole.extent())
            .mip_levels(1)
            .array_layers(1)
            .samples(vk::SampleCountFlags::TYPE_1)
            .tiling(if linear { vk::ImageTiling::LINEAR } else { vk::ImageTiling::OPTIMAL })
            .usage(
                vk::ImageUsageFlags::TRANSFER_SRC
                    | vk::ImageUsageFlags::TRANSFER_DST
                    | vk::ImageUsageFlags::COLOR_ATTACHMENT,
            )
            .initial_layout(vk::ImageLayout::UNDEFINED);
        // SAFETY: `info` is whole.
        let raw = unsafe { device.create_image(&info, None) }.expect("vkCreateImage");
        let (mut first, mut pitch) = (0, width * TEXEL);
        if linear {
            let part = vk::ImageSubresource::default().aspect_mask(vk::ImageAspectFlags::COLOR);
            // SAFETY: The image is linear.
            let layout = unsafe { device.get_image_subresource_layout(raw, part) };
            (first, pitch) = (to_usize(layout.offset), to_usize(layout.row_pitch));
        }
        let shape = Shape { width, height, pitch };
        Self { gpu: gpu.clone(), raw, view: vk::ImageView::null(), _memory: None, shape, first }
    }

    /// Returns size and alignment of the memory it needs.
    pub(crate) fn requirements(&self) -> vk::MemoryRequirements {
        // SAFETY: The image is alive.
        unsafe { self.gpu.raw().get_image_memory_requirements(self.raw) }
    }

    /// Binds memory of its own that the processor does not see.
    pub(crate) fn bind_own(&mut self) {
        let needs = self.requirements();
        let index = Kind::DeviceOnly.find(&self.gpu, needs.memory_type_bits).expect("a type for images");
        let memory = Memory::of_type(&self.gpu, index, to_usize(needs.size), None).expect("vkAllocateMemory");
        self.bind(&memory, 0);
    }

    /// Binds memory.
    pub(crate) fn bind(&mut self, memory: &Arc<Memory>, offset: usize) {
        // SAFETY: The image has no memory yet and the offset suits it.
        unsafe { self.gpu.raw().bind_image_memory(self.raw, memory.raw(), offset as u64) }
            .expect("vkBindImageMemory");
        self._memory = Some(Arc::clone(memory));
        let info = vk::ImageViewCreateInfo::default()
            .image(self.raw)
            .view_type(vk::ImageViewType::TYPE_2D)
            .format(FORMAT)
            .subresource_range(WHOLE);
        // SAFETY: The image has memory.
        self.view = unsafe { self.gpu.raw().create_image_view(&info, None) }.expect("vkCreateImageView");
    }

    /// Records the way into the GENERAL layout; what the image holds is lost.
    pub(crate) fn enter_general_layout(&self, r: &Recorder<'_>) {
        let barrier = [vk::ImageMemoryBarrier::default()
            .src_access_mask(vk::AccessFlags::MEMORY_WRITE)
            .dst_access_mask(vk::AccessFlags::MEMORY_READ | vk::AccessFlags::MEMORY_WRITE)
            .old_layout(vk::ImageLayout::UNDEFINED)
            .new_layout(vk::ImageLayout::GENERAL)
            .src_queue_family_index(vk::QUEUE_FAMILY_IGNORED)
            .dst_queue_family_index(vk::QUEUE_FAMILY_IGNORED)
            .image(self.raw)
            .subresource_range(WHOLE)];
        let all = vk::PipelineStageFlags::ALL_COMMANDS;
        let flags = vk::DependencyFlags::empty();
        // SAFETY: The image is alive and bound.
        unsafe { self.gpu.raw().cmd_pipeline_barrier(r.raw(), all, all, flags, &[], &[], &barrier) };
    }

    /// Records a copy of a part to a buffer, with rows of `row` texels there.
    pub(crate) fn copy_to(&self, r: &Recorder<'_>, area: &Area, to: vk::Buffer, at: usize, row: usize) {
        let regions = [region(area, at, row)];
        let layout = vk::ImageLayout::GENERAL;
        // SAFETY: Image and buffer are alive, the region inside them.
        unsafe { self.gpu.raw().cmd_copy_image_to_buffer(r.raw(), self.raw, layout, to, &regions) };
    }

    /// Records a copy of a part from a buffer, with rows of `row` texels there.
    pub(crate) fn copy_from(&self, r: &Recorder<'_>, area: &Area, from: vk::Buffer, at: usize, row: usize) {
        let regions = [region(area, at, row)];
        let layout = vk::ImageLayout::GENERAL;
        // SAFETY: Image and buffer are alive, the region inside them.
        unsafe { self.gpu.raw().cmd_copy_buffer_to_image(r.raw(), from, self.raw, layout, &regions) };
    }

    /// Records a copy of a part to a place in another image.
    pub(crate) fn copy_between(&self, r: &Recorder<'_>, area: &Area, to: &Self, place: &Area) {
        let region = [vk::ImageCopy {
            src_subresource: LAYERS,
            src_offset: area.offset(),
            dst_subresource: LAYERS,
            dst_offset: place.offset(),
            extent: area.extent(),
        }];
        let layout = vk::ImageLayout::GENERAL;
        // SAFETY: Both images are alive, the region inside them.
        unsafe { self.gpu.raw().cmd_copy_image(r.raw(), self.raw, layout, to.raw, layout, &region) };
    }

    /// Records a clear of everything.
    pub(crate) fn clear(&self, r: &Recorder<'_>, texel: [u8; TEXEL]) {
        let color = clear_value(texel);
        // SAFETY: The image is alive and has memory.
        unsafe {
            let layout = vk::ImageLayout::GENERAL;
            self.gpu.raw().cmd_clear_color_image(r.raw(), self.raw, layout, &color, &[WHOLE]);
        };
    }

    /// Records rendering that clears a part and draws nothing.
    pub(crate) fn render(&self, r: &Recorder<'_>, area: &Area, texel: [u8; TEXEL]) {
        let attachments = [vk::RenderingAttachmentInfo::default()
            .image_view(self.view)
            .image_layout(vk::ImageLayout::GENERAL)
            .load_op(vk::AttachmentLoadOp::CLEAR)
            .store_op(vk::AttachmentStoreOp::STORE)
            .clear_value(vk::ClearValue { color: clear_value(texel) })];
        let offset = area.offset();
        let vk::Extent3D { width, height, .. } = area.extent();
        let area = vk::Rect2D {
            offset: vk::Offset2D { x: offset.x, y: offset.y },
            extent: vk::Extent2D { width, height },
        };
        let info =
            vk::RenderingInfo::default().render_area(area).layer_count(1).color_attachments(&attachments);
        // SAFETY: The view is alive, the area inside it.
        unsafe { self.gpu.raw().cmd_begin_rendering(r.raw(), &info) };
        // SAFETY: Rendering was begun.
        unsafe { self.gpu.raw().cmd_end_rendering(r.raw()) };
    }
}

fn clear_value(texel: [u8; TEXEL]) -> vk::ClearColorValue {
    vk::ClearColorValue { uint32: texel.map(u32::from) }
}

fn region(area: &Area, at: usize, row: usize) -> vk::BufferImageCopy {
    vk::BufferImageCopy {
        buffer_offset: at as u64,
        buffer_row_length: to_u32(row),
        buffer_image_height: 0,
        image_subresource: LAYERS,
        image_offset: area.offset(),
        image_extent: area.extent(),
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: No work uses the view, or it is null.
            unsafe { self.gpu.raw().destroy_image_view(self.view, None) };
            // SAFETY: No work uses the image.
            unsafe { self.gpu.raw().destroy_image(self.raw, None) };
        }
    }
}
