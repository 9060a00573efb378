//! Linear images on coherent memory, whose rows processor and device share.

use ash::vk;
use lockstep_harness::{Buffer, Gpu, Kind, MappedBytes, Memory, pattern};
use std::sync::Arc;

const WIDTH: usize = 37;
const HEIGHT: usize = 53;
const ROW: usize = 4 * WIDTH;

/// A linear image of four bytes a pixel on mapped coherent memory, in the GENERAL layout.
struct Image {
    gpu: Gpu,
    raw: vk::Image,
    _memory: Arc<Memory>,
    bytes: MappedBytes,
    offset: usize,
    pitch: usize,
}

fn to_usize(size: vk::DeviceSize) -> usize {
    usize::try_from(size).expect("a 64-bit machine")
}

impl Image {
    /// Makes an image whose memory is full of 0xEE.
    fn new(gpu: &Gpu) -> Self {
        let device = gpu.raw();
        let info = vk::ImageCreateInfo::default()
            .image_type(vk::ImageType::TYPE_2D)
            .format(vk::Format::R8G8B8A8_UNORM)
            .extent(extent())
            .mip_levels(1)
            .array_layers(1)
            .samples(vk::SampleCountFlags::TYPE_1)
            .tiling(vk::ImageTiling::LINEAR)
            .usage(vk::ImageUsageFlags::TRANSFER_SRC | vk::ImageUsageFlags::TRANSFER_DST)
            .initial_layout(vk::ImageLayout::PREINITIALIZED);
        // SAFETY: `info` is whole.
        let raw = unsafe { device.create_image(&info, None) }.expect("vkCreateImage");
        // SAFETY: The image is alive.
        let needs = unsafe { device.get_image_memory_requirements(raw) };
        let index = Kind::Coherent.find(gpu, needs.memory_type_bits).expect("a coherent type");
        let memory = Memory::of_type(gpu, index, to_usize(needs.size), None).expect("vkAllocateMemory");
        // SAFETY: The image has no memory yet.
        unsafe { device.bind_image_memory(raw, memory.raw(), 0) }.expect("vkBindImageMemory");
        let subresource = vk::ImageSubresource::default().aspect_mask(vk::ImageAspectFlags::COLOR);
        // SAFETY: The image is linear.
        let layout = unsafe { device.get_image_subresource_layout(raw, subresource) };
        let bytes = memory.map_whole();
        bytes.fill(0, bytes.len(), 0xEE);
        let (offset, pitch) = (to_usize(layout.offset), to_usize(layout.row_pitch));
        let image = Self { gpu: gpu.clone(), raw, _memory: memory, bytes, offset, pitch };
        image.enter_general_layout();
        image
    }

    fn enter_general_layout(&self) {
        let all = vk::AccessFlags::MEMORY_READ | vk::AccessFlags::MEMORY_WRITE;
        let barrier = [vk::ImageMemoryBarrier::default()
            .src_access_mask(vk::AccessFlags::HOST_WRITE)
            .dst_access_mask(all)
            .old_layout(vk::ImageLayout::PREINITIALIZED)
            .new_layout(vk::ImageLayout::GENERAL)
            .image(self.raw)
            .subresource_range(vk::ImageSubresourceRange {
                aspect_mask: vk::ImageAspectFlags::COLOR,
                level_count: 1,
                layer_count: 1,
                ..Default::default()
            })];
        let (from, to) = (vk::PipelineStageFlags::HOST, vk::PipelineStageFlags::ALL_COMMANDS);
        let flags = vk::DependencyFlags::empty();
        self.gpu.run(|r| {
            // SAFETY: The image is alive and bound.
            unsafe { self.gpu.raw().cmd_pipeline_barrier(r.raw(), from, to, flags, &[], &[], &barrier) };
        });
    }

    fn row(&self, y: usize) -> MappedBytes {
        self.bytes.part(self.offset + y * self.pitch, ROW)
    }

    fn write(&self, pixels: &[u8]) {
        pixels.chunks(ROW).enumerate().for_each(|(y, row)| self.row(y).write(0, row));
    }

    fn read(&self) -> Vec<u8> {
        (0..HEIGHT).flat_map(|y| self.row(y).read_all()).collect()
    }

    /// Has the device copy the image into a buffer.
    fn as_device_sees(&self) -> Vec<u8> {
        let buffer = Buffer::mapped(&self.gpu, Kind::Coherent, ROW * HEIGHT);
        self.gpu.run(|r| {
            let layout = vk::ImageLayout::GENERAL;
            // SAFETY: Image and buffer are alive and of one size.
            unsafe {
                self.gpu.raw().cmd_copy_image_to_buffer(r.raw(), self.raw, layout, buffer.raw(), &[whole()]);
            };
        });
        buffer.bytes().read_all()
    }

    /// Has the device fill the image from a buffer.
    fn fill_by_device(&self, pixels: &[u8]) {
        let buffer = Buffer::coherent_with(&self.gpu, pixels);
        self.gpu.run(|r| {
            let layout = vk::ImageLayout::GENERAL;
            // SAFETY: Image and buffer are alive and of one size.
            unsafe {
                self.gpu.raw().cmd_copy_buffer_to_image(r.raw(), buffer.raw(), self.raw, layout, &[whole()]);
            };
        });
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: No work uses the image.
            unsafe { self.gpu.raw().destroy_image(self.raw, None) };
        }
    }
}

fn extent() -> vk::Extent3D {
    let [width, height] = [WIDTH, HEIGHT].map(|n| u32::try_from(n).expect("small"));
    vk::Extent3D { width, height, depth: 1 }
}

fn whole() -> vk::BufferImageCopy {
    vk::BufferImageCopy {
        image_subresource: vk::ImageSubresourceLayers {
            aspect_mask: vk::ImageAspectFlags::COLOR,
            layer_count: 1,
            ..Default::default()
        },
        image_extent: extent(),
        ..Default::default()
    }
}

#[test]
fn pixels_the_processor_wrote_reach_the_device() {
    let gpu = Gpu::new();
    let image = Image::new(&gpu);
    for round in 0..4 {
        image.write(&pattern(round, ROW * HEIGHT));
        assert_eq!(image.as_device_sees(), pattern(round, ROW * HEIGHT), "round {round}");
    }
}

#[test]
fn pixels_the_device_wrote_reach_the_processor() {
    let gpu = Gpu::new();
    let image = Image::new(&gpu);
    for round in 0..4 {
        image.fill_by_device(&pattern(round, ROW * HEIGHT));
        assert_eq!(image.read(), pattern(round, ROW * HEIGHT), "round {round}");
    }
}

#[test]
fn pixels_of_both_share_rows() {
    let gpu = Gpu::new();
    let image = Image::new(&gpu);
    image.fill_by_device(&pattern(7, ROW * HEIGHT));
    let mut expected = pattern(7, ROW * HEIGHT);
    for y in 0..HEIGHT {
        let at = 4 * (y % WIDTH) + y % 4;
        image.row(y).store(at, !expected[y * ROW + at]);
        expected[y * ROW + at] = !expected[y * ROW + at];
    }
    assert_eq!(image.as_device_sees(), expected);
    assert_eq!(image.read(), expected);
}

#[test]
fn copies_between_linear_images_reach_the_processor() {
    let gpu = Gpu::new();
    let (from, to) = (Image::new(&gpu), Image::new(&gpu));
    from.write(&pattern(8, ROW * HEIGHT));
    let layers = whole().image_subresource;
    let region = [vk::ImageCopy {
        src_subresource: layers,
        dst_subresource: layers,
        extent: extent(),
        ..Default::default()
    }];
    gpu.run(|r| {
        let general = vk::ImageLayout::GENERAL;
        // SAFETY: Both images are alive and of one size.
        unsafe { gpu.raw().cmd_copy_image(r.raw(), from.raw, general, to.raw, general, &region) };
    });
    assert_eq!(to.read(), pattern(8, ROW * HEIGHT));
}
