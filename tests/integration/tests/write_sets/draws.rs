//! Draws: storage that vertex and fragment shaders write, by every kind of draw.

use crate::graphics::{Stages, rendering};
use crate::kit::{GRAPHICS, range};
use crate::missing;
use crate::rig::{Counters, Rig, bytes_of, counted};
use ash::vk;
use lockstep_harness::PAGE;

/// Every vertex writes its number plus 100 to every other word.
const VERTEX: &str = "
    @group(0) @binding(0) var<storage, read_write> dest: array<u32>;
    @group(0) @binding(1) var<storage, read> source: array<u32>;
    @vertex fn main(@builtin(vertex_index) index: u32) -> @builtin(position) vec4<f32> {
        dest[2u * index] = 100u + index;
        return vec4<f32>(f32(source[0]), 0.0, 0.0, 1.0);
    }";

/// Has `draw` draw vertices 3 to 5 with a pipeline whose vertex shader writes words 6, 8 and 10 of the 80
/// bytes from 256 on.
fn drawn(draw: impl FnOnce(&Rig, &ash::Device, vk::CommandBuffer)) -> Counters {
    counted(|rig| {
        let (dest, source) = (rig.buffer(PAGE), rig.buffer(PAGE));
        let (set_layout, set) = rig.buffers(&[range(&dest, 256, 80), range(&source, 0, 64)]);
        let layout = rig.layout(&[set_layout]);
        let stages = Stages { vertex: VERTEX, points: true, ..Default::default() };
        let pipeline = rig.graphics(stages, layout);
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_bind_pipeline(commands, GRAPHICS, pipeline);
            device.cmd_bind_descriptor_sets(commands, GRAPHICS, layout, 0, &[set], &[]);
            rendering(device, commands, || draw(rig, device, commands));
        });
        let word = |index: usize| (256 + 8 * index, bytes_of(&[u32::try_from(100 + index).expect("small")]));
        rig.check(&commands, &dest, &[word(3), word(4), word(5)]);
    })
}

/// A buffer of words that lives as long as the rig.
fn words(rig: &Rig, words: &[u32]) -> vk::Buffer {
    let buffer = rig.words(words);
    let raw = buffer.raw();
    rig.own(move |_| drop(buffer));
    raw
}

/// Binds indices 5, 3, 4 with one before them.
unsafe fn bind_indices(rig: &Rig, device: &ash::Device, commands: vk::CommandBuffer) {
    let indices = words(rig, &[9, 5, 3, 4]);
    unsafe { device.cmd_bind_index_buffer(commands, indices, 0, vk::IndexType::UINT32) };
}

#[test]
fn draw() {
    drawn(|_, device, commands| unsafe { device.cmd_draw(commands, 3, 1, 3, 0) }).are(0, 80);
}

#[test]
fn draw_indexed() {
    drawn(|rig, device, commands| unsafe {
        bind_indices(rig, device, commands);
        device.cmd_draw_indexed(commands, 3, 1, 1, 0, 0);
    })
    .are(0, 80);
}

#[test]
fn draw_indirect() {
    drawn(|rig, device, commands| unsafe {
        let draws = words(rig, &[0, 1, 1, 3, 0, 2, 1, 4, 0]);
        device.cmd_draw_indirect(commands, draws, 4, 2, 16);
    })
    .are(0, 80);
}

#[test]
fn draw_indexed_indirect() {
    drawn(|rig, device, commands| unsafe {
        bind_indices(rig, device, commands);
        let draws = words(rig, &[3, 1, 1, 0, 0]);
        device.cmd_draw_indexed_indirect(commands, draws, 0, 1, 20);
    })
    .are(0, 80);
}

#[test]
fn draw_indirect_count() {
    if missing::feature(c"drawIndirectCount", |_, vulkan12| vulkan12.draw_indirect_count) {
        return;
    }
    drawn(|rig, device, commands| unsafe {
        let draws = words(rig, &[1, 1, 3, 0, 2, 1, 4, 0, 1, 1, 8, 0]);
        let count = words(rig, &[0, 2]);
        device.cmd_draw_indirect_count(commands, draws, 0, count, 4, 3, 16);
    })
    .are(0, 80);
}

#[test]
fn draw_indexed_indirect_count() {
    if missing::feature(c"drawIndirectCount", |_, vulkan12| vulkan12.draw_indirect_count) {
        return;
    }
    drawn(|rig, device, commands| unsafe {
        bind_indices(rig, device, commands);
        let draws = words(rig, &[3, 1, 1, 0, 0, 1, 1, 0, 0, 0]);
        let count = words(rig, &[1]);
        device.cmd_draw_indexed_indirect_count(commands, draws, 0, count, 0, 2, 20);
    })
    .are(0, 80);
}

#[test]
fn draw_multi() {
    if missing::extension(ash::ext::multi_draw::NAME) {
        return;
    }
    drawn(|rig, device, commands| unsafe {
        let multi = ash::ext::multi_draw::Device::new(rig.instance(), device);
        let draw = |first_vertex, vertex_count| vk::MultiDrawInfoEXT { first_vertex, vertex_count };
        let draws = [draw(3, 1), draw(4, 2)];
        let stride = u32::try_from(size_of::<vk::MultiDrawInfoEXT>()).expect("small");
        (multi.fp().cmd_draw_multi_ext)(commands, 2, draws.as_ptr(), 1, 0, stride);
    })
    .are(0, 80);
}

#[test]
fn draw_multi_indexed() {
    if missing::extension(ash::ext::multi_draw::NAME) {
        return;
    }
    drawn(|rig, device, commands| unsafe {
        bind_indices(rig, device, commands);
        let multi = ash::ext::multi_draw::Device::new(rig.instance(), device);
        let draws = [vk::MultiDrawIndexedInfoEXT { first_index: 1, index_count: 3, vertex_offset: 0 }];
        let stride = u32::try_from(size_of::<vk::MultiDrawIndexedInfoEXT>()).expect("small");
        let draw = multi.fp().cmd_draw_multi_indexed_ext;
        draw(commands, 1, draws.as_ptr(), 1, 0, stride, std::ptr::null());
    })
    .are(0, 80);
}

/// Covers everything.
const EVERYWHERE: &str = "
    @vertex fn main(@builtin(vertex_index) index: u32) -> @builtin(position) vec4<f32> {
        let x = f32(i32(index & 1u) * 4 - 1);
        let y = f32(i32(index & 2u) * 2 - 1);
        return vec4<f32>(x, y, 0.0, 1.0);
    }";

/// Every pixel of eight by eight writes every other word.
const PIXELS: &str = "
    @group(0) @binding(0) var<storage, read> source: array<u32>;
    @group(0) @binding(1) var<storage, read_write> dest: array<u32>;
    @fragment fn main(@builtin(position) at: vec4<f32>) {
        dest[2u * (8u * u32(at.y) + u32(at.x))] = source[1];
    }";

#[test]
fn a_fragment_shader_writes_what_is_bound() {
    let counters = counted(|rig| {
        let (source, dest) = (rig.words(&[5, 6, 7]), rig.buffer(PAGE));
        let (set_layout, set) = rig.buffers(&[range(&source, 0, 12), range(&dest, 256, 512)]);
        let layout = rig.layout(&[set_layout]);
        let stages = Stages { vertex: EVERYWHERE, fragment: Some(PIXELS), points: false, color: None };
        let pipeline = rig.graphics(stages, layout);
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_bind_pipeline(commands, GRAPHICS, pipeline);
            device.cmd_bind_descriptor_sets(commands, GRAPHICS, layout, 0, &[set], &[]);
            rendering(device, commands, || device.cmd_draw(commands, 3, 1, 0, 0));
        });
        let written: Vec<_> = (0..64).map(|pixel| (256 + 8 * pixel, bytes_of(&[6]))).collect();
        rig.check(&commands, &dest, &written);
    });
    counters.are(0, 512);
}

#[test]
fn sets_of_one_bind_point_are_not_those_of_another() {
    let counters = counted(|rig| {
        let (dest, other) = (rig.buffer(PAGE), rig.buffer(PAGE));
        let (set_layout, set) = rig.buffers(&[range(&dest, 256, 80), range(&other, 0, 64)]);
        let wrong = rig.set(set_layout);
        rig.update(wrong, 0, crate::kit::STORAGE, &[range(&other, 0, 128)]);
        rig.update(wrong, 1, crate::kit::STORAGE, &[range(&other, 0, 128)]);
        let layout = rig.layout(&[set_layout]);
        let stages = Stages { vertex: VERTEX, points: true, ..Default::default() };
        let (draws, computes) = (rig.graphics(stages, layout), rig.compute(crate::kit::EVERY_OTHER, layout));
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_bind_pipeline(commands, GRAPHICS, draws);
            device.cmd_bind_pipeline(commands, crate::kit::COMPUTE, computes);
            device.cmd_bind_descriptor_sets(commands, GRAPHICS, layout, 0, &[set], &[]);
            device.cmd_bind_descriptor_sets(commands, crate::kit::COMPUTE, layout, 0, &[wrong], &[]);
            rendering(device, commands, || device.cmd_draw(commands, 1, 1, 2, 0));
        });
        rig.check(&commands, &dest, &[(256 + 16, bytes_of(&[102]))]);
    });
    counters.are(0, 80);
}
