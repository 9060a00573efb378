//! A texture that the CPU draws into: a linear image, mapped, copied to one as the device likes it.

use ash::vk;
use lockstep_harness::{Buffer, Commands, Gpu, Kind, MappedBytes, Memory, Recorder, Rng};
use std::sync::Arc;

use super::{Device, Workload};
use crate::shared::Sync;

const SIDE: u32 = 1024;
const TILE: usize = 512;
const TEXEL: usize = 4;
/// Corners of tiles, one after the other.
const CORNERS: [(usize, usize); 4] = [(0, 0), (512, 0), (256, 512), (512, 512)];

struct Image {
    gpu: Gpu,
    raw: vk::Image,
    memory: Arc<Memory>,
}

impl Image {
    fn new(gpu: &Gpu, tiling: vk::ImageTiling, memory_type: Option<u32>) -> Self {
        let info = vk::ImageCreateInfo::default()
            .image_type(vk::ImageType::TYPE_2D)
            .format(vk::Format::R8G8B8A8_UNORM)
            .extent(vk::Extent3D { width: SIDE, height: SIDE, depth: 1 })
            .mip_levels(1)
            .array_layers(1)
            .samples(vk::SampleCountFlags::TYPE_1)
            .tiling(tiling)
            .usage(vk::ImageUsageFlags::TRANSFER_SRC | vk::ImageUsageFlags::TRANSFER_DST)
            .initial_layout(vk::ImageLayout::PREINITIALIZED);
        // SAFETY: `info` is whole, and every device has such images.
        let raw = unsafe { gpu.raw().create_image(&info, None) }.expect("vkCreateImage");
        // SAFETY: the image is alive.
        let needs = unsafe { gpu.raw().get_image_memory_requirements(raw) };
        let index = memory_type.or_else(|| Kind::DeviceOnly.find(gpu, needs.memory_type_bits));
        let size = usize::try_from(needs.size).expect("a 64-bit machine").next_multiple_of(gpu.atom());
        let memory = Memory::of_type(gpu, index.expect("a type"), size, None).expect("vkAllocateMemory");
        // SAFETY: both are alive and the image is not bound yet.
        unsafe { gpu.raw().bind_image_memory(raw, memory.raw(), 0) }.expect("vkBindImageMemory");
        Self { gpu: gpu.clone(), raw, memory }
    }

    /// Where its one layer lies, and how far its rows are apart.
    fn layout(&self) -> (usize, usize) {
        let colour = vk::ImageSubresource::default().aspect_mask(vk::ImageAspectFlags::COLOR);
        // SAFETY: the image is alive and linear.
        let layout = unsafe { self.gpu.raw().get_image_subresource_layout(self.raw, colour) };
        (layout.offset as usize, layout.row_pitch as usize)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: by the harness's contract the device no longer uses it.
        unsafe { self.gpu.raw().destroy_image(self.raw, None) };
    }
}

struct Texture {
    device: Device,
    /// What the CPU draws into.
    drawn: Image,
    bytes: MappedBytes,
    /// What the device samples.
    texture: Image,
    commands: Vec<Commands>,
    layout: (usize, usize),
    source: Vec<u8>,
    sync: Sync,
    frame: usize,
}

fn layers() -> vk::ImageSubresourceLayers {
    vk::ImageSubresourceLayers::default().aspect_mask(vk::ImageAspectFlags::COLOR).layer_count(1)
}

fn corner(x: usize, y: usize) -> vk::Offset3D {
    vk::Offset3D { x: x as i32, y: y as i32, z: 0 }
}

const TILE_SIZE: vk::Extent3D = vk::Extent3D { width: TILE as u32, height: TILE as u32, depth: 1 };

fn to_general(r: &Recorder<'_>, image: &Image) {
    let all = vk::ImageSubresourceRange::default()
        .aspect_mask(vk::ImageAspectFlags::COLOR)
        .level_count(1)
        .layer_count(1);
    let barrier = vk::ImageMemoryBarrier::default()
        .image(image.raw)
        .old_layout(vk::ImageLayout::PREINITIALIZED)
        .new_layout(vk::ImageLayout::GENERAL)
        .src_access_mask(vk::AccessFlags::HOST_WRITE)
        .dst_access_mask(vk::AccessFlags::TRANSFER_READ | vk::AccessFlags::TRANSFER_WRITE)
        .subresource_range(all);
    let all = vk::PipelineStageFlags::ALL_COMMANDS | vk::PipelineStageFlags::HOST;
    let none = vk::DependencyFlags::empty();
    // SAFETY: the command buffer is being recorded and the image is alive.
    unsafe { image.gpu.raw().cmd_pipeline_barrier(r.raw(), all, all, none, &[], &[], &[barrier]) };
}

pub(super) fn begin(gpu: &Gpu, sync: Sync) -> Box<dyn Workload> {
    let drawn = Image::new(gpu, vk::ImageTiling::LINEAR, Some(sync.memory_type(gpu)));
    let texture = Image::new(gpu, vk::ImageTiling::OPTIMAL, None);
    let bytes = drawn.memory.map_whole();
    gpu.run(|r| {
        to_general(r, &drawn);
        to_general(r, &texture);
    });
    let general = vk::ImageLayout::GENERAL;
    let record = |(x, y)| {
        let region = vk::ImageCopy::default()
            .src_subresource(layers())
            .dst_subresource(layers())
            .src_offset(corner(x, y))
            .dst_offset(corner(x, y))
            .extent(TILE_SIZE);
        // SAFETY: the command buffer is being recorded and the images are alive.
        let copy = |r: &Recorder<'_>| unsafe {
            gpu.raw().cmd_copy_image(r.raw(), drawn.raw, general, texture.raw, general, &[region]);
        };
        Commands::new(gpu, copy)
    };
    let commands = CORNERS.map(record).into();
    let layout = drawn.layout();
    let (device, source) = (Device::new(gpu), Rng::new(7).bytes(2 * TILE * TILE * TEXEL));
    Box::new(Texture { device, drawn, bytes, texture, commands, layout, source, sync, frame: 0 })
}

impl Texture {
    /// What a frame writes into a row of its tile.
    fn row(&self, row: usize) -> &[u8] {
        &self.source[(self.frame * 61 % TILE + row) * TILE * TEXEL..][..TILE * TEXEL]
    }

    fn place(&self, row: usize) -> usize {
        let (x, y) = CORNERS[self.frame % CORNERS.len()];
        self.layout.0 + (y + row) * self.layout.1 + x * TEXEL
    }
}

impl Workload for Texture {
    fn frame(&mut self) {
        self.frame += 1;
        for row in 0..TILE {
            self.bytes.write(self.place(row), self.row(row));
        }
        if self.sync == Sync::Explicit {
            let rows: Vec<_> = (0..TILE).map(|row| (self.place(row), TILE * TEXEL)).collect();
            self.drawn.memory.flush(&rows);
        }
        self.device.run(&self.commands[self.frame % CORNERS.len()]);
    }

    fn check(&mut self) {
        let gpu = &self.device.gpu;
        let seen = Buffer::mapped(gpu, Kind::Coherent, TILE * TILE * TEXEL);
        let (x, y) = CORNERS[self.frame % CORNERS.len()];
        let region = vk::BufferImageCopy::default()
            .image_subresource(layers())
            .image_offset(corner(x, y))
            .image_extent(TILE_SIZE);
        // SAFETY: the command buffer is being recorded; image and buffer are alive.
        let copy = |r: &Recorder<'_>| unsafe {
            let general = vk::ImageLayout::GENERAL;
            gpu.raw().cmd_copy_image_to_buffer(r.raw(), self.texture.raw, general, seen.raw(), &[region]);
        };
        gpu.run(copy);
        let expected: Vec<u8> = (0..TILE).flat_map(|row| self.row(row).to_vec()).collect();
        assert!(seen.bytes().read_all() == expected, "the device saw other texels");
    }
}
