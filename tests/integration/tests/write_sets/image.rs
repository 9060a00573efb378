//! Images of the table: linear or not, in coherent memory or out of the processor's sight.

use crate::rig::Rig;
use ash::vk;
use lockstep_harness::{Kind, MappedBytes, Memory};
use std::sync::Arc;

/// An image on memory of its own, though not at its start.
pub(crate) struct Image {
    /// Vulkan's handle.
    pub(crate) raw: vk::Image,
    /// Its aspects.
    pub(crate) aspect: vk::ImageAspectFlags,
    /// All its bytes, where its memory is coherent.
    mapped: Option<MappedBytes>,
    /// Bytes it needs.
    pub(crate) size: usize,
    linear: bool,
    memory: Arc<Memory>,
    offset: usize,
}

/// A two-dimensional image in the making: one level, one layer, one sample, every use of transfers, optimal.
pub(crate) fn flat(format: vk::Format, width: u32, height: u32) -> vk::ImageCreateInfo<'static> {
    vk::ImageCreateInfo::default()
        .image_type(vk::ImageType::TYPE_2D)
        .format(format)
        .extent(vk::Extent3D { width, height, depth: 1 })
        .mip_levels(1)
        .array_layers(1)
        .samples(vk::SampleCountFlags::TYPE_1)
        .usage(vk::ImageUsageFlags::TRANSFER_SRC | vk::ImageUsageFlags::TRANSFER_DST)
}

/// As above, linear.
pub(crate) fn linear(format: vk::Format, width: u32, height: u32) -> vk::ImageCreateInfo<'static> {
    flat(format, width, height).tiling(vk::ImageTiling::LINEAR)
}

fn aspect_of(format: vk::Format) -> vk::ImageAspectFlags {
    use vk::ImageAspectFlags as Aspect;
    match format {
        vk::Format::D16_UNORM | vk::Format::X8_D24_UNORM_PACK32 | vk::Format::D32_SFLOAT => Aspect::DEPTH,
        vk::Format::S8_UINT => Aspect::STENCIL,
        vk::Format::D24_UNORM_S8_UINT | vk::Format::D32_SFLOAT_S8_UINT => Aspect::DEPTH | Aspect::STENCIL,
        _ => Aspect::COLOR,
    }
}

/// The first level of the first layer.
pub(crate) fn layers(aspect: vk::ImageAspectFlags) -> vk::ImageSubresourceLayers {
    vk::ImageSubresourceLayers { aspect_mask: aspect, layer_count: 1, ..Default::default() }
}

/// All of an image.
pub(crate) fn all(aspect: vk::ImageAspectFlags) -> vk::ImageSubresourceRange {
    vk::ImageSubresourceRange {
        aspect_mask: aspect,
        level_count: vk::REMAINING_MIP_LEVELS,
        layer_count: vk::REMAINING_ARRAY_LAYERS,
        ..Default::default()
    }
}

/// An offset in an image.
pub(crate) fn offset(x: i32, y: i32) -> vk::Offset3D {
    vk::Offset3D { x, y, z: 0 }
}

/// A flat extent.
pub(crate) fn extent(width: u32, height: u32) -> vk::Extent3D {
    vk::Extent3D { width, height, depth: 1 }
}

impl Rig {
    /// Whether images like this exist.
    pub(crate) fn offers(&self, info: &vk::ImageCreateInfo<'_>) -> bool {
        let (physical, instance) = (self.gpu().physical(), self.instance());
        let (format, kind, tiling) = (info.format, info.image_type, info.tiling);
        let limits = unsafe {
            instance.get_physical_device_image_format_properties(
                physical, format, kind, tiling, info.usage, info.flags,
            )
        };
        limits.is_ok_and(|limits| limits.sample_counts.contains(info.samples))
    }

    /// Makes an image that no view, and no pass, has touched; in memory of a kind, mapped if it is coherent.
    pub(crate) fn image(&self, info: &vk::ImageCreateInfo<'_>, kind: Kind) -> Image {
        assert!(self.offers(info), "no such images: {info:?}");
        let device = self.raw();
        let raw = unsafe { device.create_image(info, None) }.expect("vkCreateImage");
        self.own(move |device| unsafe { device.destroy_image(raw, None) });
        let needs = unsafe { device.get_image_memory_requirements(raw) };
        let index = kind.find(self.gpu(), needs.memory_type_bits).expect("a type of this kind");
        let [size, offset] =
            [needs.size, needs.alignment.max(256)].map(|n| usize::try_from(n).expect("64 bits"));
        let memory = Memory::of_type(self.gpu(), index, offset + size, None).expect("vkAllocateMemory");
        unsafe { device.bind_image_memory(raw, memory.raw(), offset as u64) }.expect("vkBindImageMemory");
        let mapped = (kind == Kind::Coherent).then(|| memory.map_whole().part(offset, size));
        if let Some(bytes) = mapped {
            bytes.fill(0, size, 0xEE);
        }
        // A view or a command of the test may outlive the image's name.
        let kept = Arc::clone(&memory);
        self.own(move |_| drop(kept));
        let linear = info.tiling == vk::ImageTiling::LINEAR;
        let aspect = aspect_of(info.format);
        Image { raw, aspect, mapped, size, linear, memory, offset }
    }

    /// Makes an image in the GENERAL layout.
    pub(crate) fn general(&self, info: &vk::ImageCreateInfo<'_>, kind: Kind) -> Image {
        let image = self.image(info, kind);
        self.run(|device, commands| enter(device, commands, &image, vk::ImageLayout::GENERAL));
        image
    }

    /// Makes an image in the GENERAL layout out of the processor's sight, whose texels are `bytes`.
    pub(crate) fn filled(&self, info: &vk::ImageCreateInfo<'_>, bytes: &[u8]) -> Image {
        let image = self.general(info, Kind::DeviceOnly);
        let buffer = self.buffer(bytes.len());
        buffer.bytes().write(0, bytes);
        let mut subresource = layers(image.aspect);
        subresource.layer_count = info.array_layers;
        let region = [vk::BufferImageCopy {
            image_subresource: subresource,
            image_extent: info.extent,
            ..Default::default()
        }];
        let general = vk::ImageLayout::GENERAL;
        self.run(|device, commands| unsafe {
            device.cmd_copy_buffer_to_image(commands, buffer.raw(), image.raw, general, &region);
        });
        image
    }

    /// A view of the first level and layer of an image.
    pub(crate) fn view(&self, image: &Image, format: vk::Format) -> vk::ImageView {
        let info = vk::ImageViewCreateInfo::default()
            .image(image.raw)
            .view_type(vk::ImageViewType::TYPE_2D)
            .format(format)
            .subresource_range(vk::ImageSubresourceRange {
                layer_count: 1,
                level_count: 1,
                ..all(image.aspect)
            });
        let view = unsafe { self.raw().create_image_view(&info, None) }.expect("vkCreateImageView");
        self.own(move |device| unsafe { device.destroy_image_view(view, None) });
        view
    }
}

/// A barrier that takes an image whose content is lost to a layout.
pub(crate) fn barrier_to(image: &Image, layout: vk::ImageLayout) -> vk::ImageMemoryBarrier<'static> {
    vk::ImageMemoryBarrier::default()
        .src_access_mask(vk::AccessFlags::MEMORY_WRITE)
        .dst_access_mask(vk::AccessFlags::MEMORY_READ | vk::AccessFlags::MEMORY_WRITE)
        .old_layout(vk::ImageLayout::UNDEFINED)
        .new_layout(layout)
        .src_queue_family_index(vk::QUEUE_FAMILY_IGNORED)
        .dst_queue_family_index(vk::QUEUE_FAMILY_IGNORED)
        .image(image.raw)
        .subresource_range(all(image.aspect))
}

/// Takes an image whose content is lost to a layout.
pub(crate) fn enter(
    device: &ash::Device,
    commands: vk::CommandBuffer,
    image: &Image,
    layout: vk::ImageLayout,
) {
    let stage = vk::PipelineStageFlags::ALL_COMMANDS;
    let barriers = [barrier_to(image, layout)];
    unsafe {
        device.cmd_pipeline_barrier(commands, stage, stage, Default::default(), &[], &[], &barriers);
    }
}

impl Image {
    /// Its bytes.
    pub(crate) fn bytes(&self) -> MappedBytes {
        self.mapped.expect("an image in coherent memory")
    }

    /// Where a level of a layer of a linear image lies.
    pub(crate) fn layout_of(&self, rig: &Rig, level: u32, layer: u32) -> vk::SubresourceLayout {
        let part = vk::ImageSubresource { aspect_mask: self.aspect, mip_level: level, array_layer: layer };
        unsafe { rig.raw().get_image_subresource_layout(self.raw, part) }
    }

    /// Bytes of the first level of the first layer of a linear image, of all of another.
    pub(crate) fn whole(&self, rig: &Rig) -> usize {
        match self.linear {
            true => usize::try_from(self.layout_of(rig, 0, 0).size).expect("a 64-bit machine"),
            false => self.size,
        }
    }

    /// Where a texel of `texel` bytes of a linear image lies in its memory.
    pub(crate) fn at(&self, rig: &Rig, x: usize, y: usize, texel: usize) -> usize {
        let layout = self.layout_of(rig, 0, 0);
        let [offset, pitch] = [layout.offset, layout.row_pitch].map(|n| usize::try_from(n).expect("64 bits"));
        offset + y * pitch + x * texel
    }

    /// Places of the rows of a rectangle of a linear image, each with its texels out of `texels`.
    pub(crate) fn rows(
        &self,
        rig: &Rig,
        (x, y): (usize, usize),
        width: usize,
        texel: usize,
        texels: &[u8],
    ) -> Vec<(usize, Vec<u8>)> {
        let row = |(index, row): (usize, &[u8])| (self.at(rig, x, y + index, texel), row.to_vec());
        texels.chunks(width * texel).enumerate().map(row).collect()
    }

    /// Its memory, and where it is bound there.
    pub(crate) fn place(&self) -> (&Arc<Memory>, usize) {
        (&self.memory, self.offset)
    }
}
