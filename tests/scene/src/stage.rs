//! A scene playing in shared memory: one frame after the other, each checked.
//!
//! A frame is what many applications do: advance the world, write vertices and uniforms into mapped memory,
//! submit, wait for the fence, read what the device computed. The memory is mapped once. Between these steps
//! stand only `hand_to_device` and `take_from_device`, which do nothing where the memory is coherent.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ash::vk;

use crate::checks::Checks;
use crate::commands::Recorder;
use crate::frame::{
    BARS, BINS, CHUNKS, FrameData, POND_VERTICES, RESULT_WORDS, SPHERES, UNIFORM_ROWS, VERTEX_SIZE, VERTICES,
    count,
};
use crate::gpu::{Owned, ScreenSync};
use crate::memory::{MemoryKind, Shared};
use crate::pipelines::{BINDINGS, RESULTS_BINDING, UNIFORMS_BINDING, VERTICES_BINDING};
use crate::renderer::{INDICES, Renderer};
use crate::target::{SIZE, aspect, colour_layers};
use crate::world::World;

/// Regions of the shared memory. The small ones come first, so that bytes which the CPU writes and bytes
/// which the device writes share a page.
const UNIFORMS: usize = 0;
const RESULTS: usize = 1;
const VERTEX_DATA: usize = 2;

/// What goes on from stage to stage: the world, and the score.
pub(crate) struct Show {
    world: World,
    pub(crate) checks: Checks,
}

/// A show playing in shared memory.
pub(crate) struct Stage {
    show: Show,
    data: FrameData,
    /// The vertices of the frame before, to count what changed.
    previous: FrameData,
    results: Vec<u32>,
    histogram: [u32; BINS],
    set: vk::DescriptorSet,
    _pool: Owned<vk::DescriptorPool>,
    commands: vk::CommandBuffer,
    fence: Owned<vk::Fence>,
    shared: Shared,
    renderer: Rc<Renderer>,
}

/// How long a frame took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameTime {
    /// From the first byte written to the last one checked.
    pub(crate) wall: Duration,
    /// The processor time that all threads of the process spent in it.
    pub(crate) cpu: Duration,
}

/// Where a frame is shown besides the picture.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    pub(crate) image: vk::Image,
    pub(crate) size: vk::Extent2D,
    pub(crate) sync: ScreenSync,
}

impl Show {
    /// The show at its beginning; `label` says in messages whose it is.
    pub(crate) fn new(label: &'static str) -> Self {
        Self { world: World::new(), checks: Checks::new(label) }
    }
}

impl Stage {
    /// Puts a show into shared memory of this kind.
    pub(crate) fn new(renderer: &Rc<Renderer>, kind: MemoryKind, show: Show) -> Result<Self> {
        let gpu = &renderer.gpu;
        let uniforms = (UNIFORM_ROWS * 16) as u64;
        let vertices = (VERTICES * VERTEX_SIZE) as u64;
        let storage = vk::BufferUsageFlags::STORAGE_BUFFER;
        let wanted = [
            (uniforms, vk::BufferUsageFlags::UNIFORM_BUFFER),
            ((RESULT_WORDS * 4) as u64, storage | vk::BufferUsageFlags::TRANSFER_DST),
            (vertices, storage | vk::BufferUsageFlags::VERTEX_BUFFER),
        ];
        let shared = Shared::new(gpu, kind, &wanted)?;
        let (pool, set) = descriptor_set(renderer, &shared)?;
        Ok(Self {
            show,
            data: FrameData::new(),
            previous: FrameData::new(),
            results: vec![0; RESULT_WORDS],
            histogram: [0; BINS],
            set,
            _pool: pool,
            commands: gpu.command_buffer()?,
            fence: gpu.fence()?,
            shared,
            renderer: Rc::clone(renderer),
        })
    }

    /// Takes the show out of the shared memory, which is freed.
    pub(crate) fn strike(self) -> Show {
        let Self { mut show, shared, .. } = self;
        show.checks.add_traffic(shared.traffic());
        show
    }

    /// Plays one frame, checks it, and says how long it took.
    pub(crate) fn frame(&mut self, screen: Option<Screen>) -> Result<FrameTime> {
        let (start, cpu_start) = (Instant::now(), cpu_time());
        self.show.world.step();
        std::mem::swap(&mut self.data, &mut self.previous);
        self.data.build(&self.show.world, self.show.checks.frames(), &self.histogram, aspect());

        self.shared.write(UNIFORMS, self.data.uniforms.as_flattened());
        self.shared.write(VERTEX_DATA, self.data.vertices.as_flattened());
        self.shared.hand_to_device(&[UNIFORMS, VERTEX_DATA])?;

        let commands = self.record(screen)?;
        self.renderer.gpu.run(commands, *self.fence, screen.map(|screen| screen.sync))?;

        self.shared.take_from_device(&[RESULTS])?;
        self.shared.read(RESULTS, &mut self.results);
        self.histogram.copy_from_slice(&self.results[UNIFORM_ROWS * 4..][..BINS]);
        self.show.checks.answer(&self.results, &self.data.expected, self.shared.offset(RESULTS));
        let time = FrameTime { wall: start.elapsed(), cpu: cpu_time() - cpu_start };

        // Outside the measured time: what the CPU wrote must still be there, and how much of it was new.
        for (region, words) in
            [(UNIFORMS, self.data.uniforms.as_flattened()), (VERTEX_DATA, self.data.vertices.as_flattened())]
        {
            self.show.checks.kept(&self.shared.peek(region, words.len()), words, self.shared.offset(region));
        }
        self.show.checks.end_frame(&self.data, &self.previous);
        Ok(time)
    }

    fn record(&self, screen: Option<Screen>) -> Result<vk::CommandBuffer> {
        let recorder = Recorder::begin(&self.renderer.gpu, self.commands)?;
        self.record_check(&recorder);
        self.record_drawing(&recorder);
        if let Some(screen) = screen {
            self.record_showing(&recorder, screen);
        }
        recorder.end()
    }

    /// The compute shader's answer, made visible to the CPU.
    fn record_check(&self, recorder: &Recorder<'_>) {
        let pipelines = &self.renderer.pipelines;
        let compute = vk::PipelineStageFlags::COMPUTE_SHADER;
        let shader_write = vk::AccessFlags::SHADER_WRITE;
        recorder.clear(self.shared.buffer(RESULTS));
        recorder.barrier(
            (vk::PipelineStageFlags::TRANSFER, vk::AccessFlags::TRANSFER_WRITE),
            (compute, vk::AccessFlags::SHADER_READ | shader_write),
        );
        recorder.pipeline(vk::PipelineBindPoint::COMPUTE, *pipelines.check);
        recorder.bind(vk::PipelineBindPoint::COMPUTE, *pipelines.layout, self.set);
        recorder.dispatch(count(CHUNKS));
        recorder.barrier((compute, shader_write), (vk::PipelineStageFlags::HOST, vk::AccessFlags::HOST_READ));
    }

    fn record_drawing(&self, recorder: &Recorder<'_>) {
        let Renderer { pipelines, target, indices, .. } = &*self.renderer;
        let graphics = vk::PipelineBindPoint::GRAPHICS;
        let night = vk::ClearColorValue { float32: [0.012, 0.016, 0.035, 1.0] };
        let clears = [
            vk::ClearValue { color: night },
            vk::ClearValue { depth_stencil: vk::ClearDepthStencilValue { depth: 1.0, stencil: 0 } },
        ];
        let pass = vk::RenderPassBeginInfo::default()
            .render_pass(*target.render_pass)
            .framebuffer(*target.framebuffer)
            .render_area(vk::Rect2D { extent: SIZE, ..vk::Rect2D::default() })
            .clear_values(&clears);
        recorder.begin_render_pass(&pass);
        recorder.bind(graphics, *pipelines.layout, self.set);
        recorder.vertices(self.shared.buffer(VERTEX_DATA));
        recorder.pipeline(graphics, *pipelines.pond);
        recorder.draw_mesh(**indices, count(INDICES));
        recorder.pipeline(graphics, *pipelines.spheres);
        recorder.draw_squares(count(POND_VERTICES), count(SPHERES));
        recorder.pipeline(graphics, *pipelines.bars);
        recorder.draw_squares(count(POND_VERTICES + SPHERES), count(BARS));
        recorder.end_render_pass();
    }

    fn record_showing(&self, recorder: &Recorder<'_>, screen: Screen) {
        let corners = |size: vk::Extent2D| {
            let far = vk::Offset3D { x: size.width.cast_signed(), y: size.height.cast_signed(), z: 1 };
            [vk::Offset3D::default(), far]
        };
        let region = vk::ImageBlit::default()
            .src_subresource(colour_layers())
            .src_offsets(corners(SIZE))
            .dst_subresource(colour_layers())
            .dst_offsets(corners(screen.size));
        let writable = vk::ImageLayout::TRANSFER_DST_OPTIMAL;
        recorder.change_layout(screen.image, vk::ImageLayout::UNDEFINED, writable);
        recorder.blit(*self.renderer.target.colour.image, screen.image, region);
        recorder.change_layout(screen.image, writable, vk::ImageLayout::PRESENT_SRC_KHR);
    }
}

/// Processor time of all threads of this process so far.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "every Linux has this clock");
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A descriptor set that names the shared memory's buffers.
fn descriptor_set(
    renderer: &Renderer,
    shared: &Shared,
) -> Result<(Owned<vk::DescriptorPool>, vk::DescriptorSet)> {
    let gpu = &renderer.gpu;
    let sizes = BINDINGS.map(|(_, kind)| vk::DescriptorPoolSize::default().ty(kind).descriptor_count(1));
    let info = vk::DescriptorPoolCreateInfo::default().max_sets(1).pool_sizes(&sizes);
    // SAFETY: `info` and what it points to are alive.
    let raw =
        unsafe { gpu.device.create_descriptor_pool(&info, None) }.context("creating a descriptor pool")?;
    let pool = gpu.own(raw, ash::Device::destroy_descriptor_pool);
    let layouts = [*renderer.pipelines.set_layout];
    let info = vk::DescriptorSetAllocateInfo::default().descriptor_pool(*pool).set_layouts(&layouts);
    // SAFETY: The pool has room for one such set.
    let set =
        unsafe { gpu.device.allocate_descriptor_sets(&info) }.context("allocating a descriptor set")?[0];
    for (number, kind) in BINDINGS {
        let region = match number {
            UNIFORMS_BINDING => UNIFORMS,
            VERTICES_BINDING => VERTEX_DATA,
            RESULTS_BINDING => RESULTS,
            _ => unreachable!("no binding {number}"),
        };
        let buffer =
            [vk::DescriptorBufferInfo::default().buffer(shared.buffer(region)).range(vk::WHOLE_SIZE)];
        let write = vk::WriteDescriptorSet::default()
            .dst_set(set)
            .dst_binding(number)
            .descriptor_type(kind)
            .buffer_info(&buffer);
        // SAFETY: The set is not in use, and the buffer is of the binding's type.
        unsafe { gpu.device.update_descriptor_sets(&[write], &[]) };
    }
    Ok((pool, set))
}
