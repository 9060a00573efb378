//! Transform feedback: vertices of a shader, captured in a buffer.

use std::ptr::null;
use std::sync::OnceLock;

use ash::vk;
use lockstep_harness::{Buffer, Gpu, Recorder, Rng, shader};

use crate::ops::{Span, to_u32};

/// Captures, of each vertex, its number times a factor plus the key.
const VERTEX: &str = "
    OpCapability Shader
    OpCapability TransformFeedback
    OpMemoryModel Logical GLSL450
    OpEntryPoint Vertex %main \"main\" %index %position %size %out %job
    OpExecutionMode %main Xfb
    OpDecorate %index BuiltIn VertexIndex
    OpDecorate %position BuiltIn Position
    OpDecorate %size BuiltIn PointSize
    OpDecorate %out Location 0
    OpDecorate %out XfbBuffer 0
    OpDecorate %out XfbStride 4
    OpDecorate %out Offset 0
    OpMemberDecorate %push 0 Offset 0
    OpDecorate %push Block
    %void = OpTypeVoid
    %function = OpTypeFunction %void
    %u32 = OpTypeInt 32 0
    %i32 = OpTypeInt 32 1
    %f32 = OpTypeFloat 32
    %f32x4 = OpTypeVector %f32 4
    %in_i32 = OpTypePointer Input %i32
    %out_u32 = OpTypePointer Output %u32
    %out_f32x4 = OpTypePointer Output %f32x4
    %push = OpTypeStruct %u32
    %push_at = OpTypePointer PushConstant %push
    %push_u32 = OpTypePointer PushConstant %u32
    %c0 = OpConstant %i32 0
    %multiplier = OpConstant %u32 2654435761
    %out_f32 = OpTypePointer Output %f32
    %one = OpConstant %f32 1
    %zero = OpConstant %f32 0
    %origin = OpConstantComposite %f32x4 %zero %zero %zero %zero
    %index = OpVariable %in_i32 Input
    %position = OpVariable %out_f32x4 Output
    %size = OpVariable %out_f32 Output
    %out = OpVariable %out_u32 Output
    %job = OpVariable %push_at PushConstant
    %main = OpFunction %void None %function
    %entry = OpLabel
    OpStore %position %origin
    OpStore %size %one
    %n = OpLoad %i32 %index
    %number = OpBitcast %u32 %n
    %scaled = OpIMul %u32 %number %multiplier
    %key_at = OpAccessChain %push_u32 %job %c0
    %key = OpLoad %u32 %key_at
    %word = OpIAdd %u32 %scaled %key
    OpStore %out %word
    OpReturn
    OpFunctionEnd";

/// A draw whose vertices are captured; the buffer is bound for more than they fill.
#[derive(Clone, Debug)]
pub(crate) struct Feedback {
    to: usize,
    at: usize,
    room: usize,
    vertices: usize,
    key: u32,
    /// Where the device counts the bytes it captured, outside of what it captures.
    counter: Option<usize>,
}

impl Feedback {
    /// Makes up a draw for a buffer of at least one word.
    pub(crate) fn random(rng: &mut Rng, to: usize, size: usize) -> Self {
        let at = 4 * rng.below(size / 4);
        let room = 4 * rng.between(1, (size - at) / 4 + 1);
        let vertices = rng.between(1, 400).min(room / 4);
        let counter = 4 * rng.below(size / 4);
        let counter = (counter + 4 <= at || counter >= at + room).then_some(counter);
        Self { to, at, room, vertices, key: to_u32(rng.below(1 << 31)), counter }
    }

    pub(crate) fn writes(&self) -> Vec<Span> {
        let span = |at, len| Span { buffer: self.to, at, len };
        std::iter::once(span(self.at, 4 * self.vertices)).chain(self.counter.map(|at| span(at, 4))).collect()
    }

    pub(crate) fn apply(&self, bytes: &mut [Vec<u8>]) {
        let len = 4 * self.vertices;
        if let Some(at) = self.counter {
            bytes[self.to][at..at + 4].copy_from_slice(&to_u32(len).to_le_bytes());
        }
        let out = &mut bytes[self.to][self.at..self.at + len];
        for (n, word) in (0_u32..).zip(out.chunks_mut(4)) {
            word.copy_from_slice(&n.wrapping_mul(2_654_435_761).wrapping_add(self.key).to_le_bytes());
        }
    }

    pub(crate) fn record(&self, pipeline: &Pipeline, r: &Recorder<'_>, buffers: &[&Buffer]) {
        let Pipeline { gpu, layout, pipeline } = pipeline;
        let device = gpu.raw();
        let functions = ash::ext::transform_feedback::Device::new(gpu.instance().raw(), device);
        let functions = functions.fp();
        let area = vk::Rect2D { extent: vk::Extent2D { width: 1, height: 1 }, ..Default::default() };
        let info = vk::RenderingInfo::default().render_area(area).layer_count(1);
        // SAFETY: There are no attachments.
        unsafe { device.cmd_begin_rendering(r.raw(), &info) };
        let point = vk::PipelineBindPoint::GRAPHICS;
        // SAFETY: The pipeline is alive.
        unsafe { device.cmd_bind_pipeline(r.raw(), point, *pipeline) };
        let (stage, key) = (vk::ShaderStageFlags::VERTEX, self.key.to_le_bytes());
        // SAFETY: The layout has as many constants.
        unsafe { device.cmd_push_constants(r.raw(), *layout, stage, 0, &key) };
        let (buffer, at, room) = ([buffers[self.to].raw()], [self.at as u64], [self.room as u64]);
        // SAFETY: The buffer is alive and has room.
        unsafe {
            (functions.cmd_bind_transform_feedback_buffers_ext)(
                r.raw(),
                0,
                1,
                buffer.as_ptr(),
                at.as_ptr(),
                room.as_ptr(),
            );
        };
        // SAFETY: A pipeline that captures is bound.
        unsafe { (functions.cmd_begin_transform_feedback_ext)(r.raw(), 0, 0, null(), null()) };
        // SAFETY: A pipeline is bound.
        unsafe { device.cmd_draw(r.raw(), to_u32(self.vertices), 1, 0, 0) };
        let counters = self.counter.map(|at| (buffer[0], at as u64));
        let (counter, at) = counters.as_ref().map_or((null(), null()), |(buffer, at)| (buffer, at));
        let count = u32::from(self.counter.is_some());
        // SAFETY: Capture was begun; there is one counter, or none.
        unsafe { (functions.cmd_end_transform_feedback_ext)(r.raw(), 0, count, counter, at) };
        // SAFETY: Rendering was begun.
        unsafe { device.cmd_end_rendering(r.raw()) };
    }
}

/// The pipeline of [`Feedback`].
pub(crate) struct Pipeline {
    gpu: Gpu,
    layout: vk::PipelineLayout,
    pipeline: vk::Pipeline,
}

impl Pipeline {
    pub(crate) fn new(gpu: &Gpu) -> Self {
        let device = gpu.raw();
        let pushes = [vk::PushConstantRange::default().stage_flags(vk::ShaderStageFlags::VERTEX).size(4)];
        let info = vk::PipelineLayoutCreateInfo::default().push_constant_ranges(&pushes);
        // SAFETY: `info` is whole.
        let layout = unsafe { device.create_pipeline_layout(&info, None) }.expect("a pipeline layout");
        static WORDS: OnceLock<Vec<u32>> = OnceLock::new();
        let words = WORDS.get_or_init(|| shader::assemble(VERTEX));
        let info = vk::ShaderModuleCreateInfo::default().code(words);
        // SAFETY: spirv-val has accepted the words.
        let module = unsafe { device.create_shader_module(&info, None) }.expect("a shader module");
        let stages = [vk::PipelineShaderStageCreateInfo::default()
            .stage(vk::ShaderStageFlags::VERTEX)
            .module(module)
            .name(c"main")];
        let inputs = vk::PipelineVertexInputStateCreateInfo::default();
        let assembly =
            vk::PipelineInputAssemblyStateCreateInfo::default().topology(vk::PrimitiveTopology::POINT_LIST);
        let raster = vk::PipelineRasterizationStateCreateInfo::default()
            .rasterizer_discard_enable(true)
            .line_width(1.0);
        let mut rendering = vk::PipelineRenderingCreateInfo::default();
        let infos = [vk::GraphicsPipelineCreateInfo::default()
            .stages(&stages)
            .vertex_input_state(&inputs)
            .input_assembly_state(&assembly)
            .rasterization_state(&raster)
            .layout(layout)
            .push_next(&mut rendering)];
        let cache = vk::PipelineCache::null();
        // SAFETY: `infos` is whole for a pipeline that discards what it rasterises.
        let pipelines = unsafe { device.create_graphics_pipelines(cache, &infos, None) };
        let pipeline = pipelines.map_err(|(_, error)| error).expect("vkCreateGraphicsPipelines")[0];
        // SAFETY: The pipeline no longer needs the module.
        unsafe { device.destroy_shader_module(module, None) };
        Self { gpu: gpu.clone(), layout, pipeline }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: No work uses the pipeline.
            unsafe { self.gpu.raw().destroy_pipeline(self.pipeline, None) };
            // SAFETY: No work uses the layout.
            unsafe { self.gpu.raw().destroy_pipeline_layout(self.layout, None) };
        }
    }
}
