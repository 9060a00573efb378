//! What all stages share: the picture, the pipelines, and the mesh that joins the pond's points.

use std::rc::Rc;

use anyhow::Result;
use ash::vk;

use crate::commands::Recorder;
use crate::frame::count;
use crate::gpu::{Gpu, Owned};
use crate::memory::{MemoryKind, Shared};
use crate::pipelines::Pipelines;
use crate::pond::{COLUMNS, ROWS};
use crate::target::{SIZE, Target, colour_layers};

/// How many indices the pond's triangles have.
pub(crate) const INDICES: usize = (COLUMNS - 1) * (ROWS - 1) * 6;

/// The unchanging half of drawing.
pub(crate) struct Renderer {
    pub(crate) pipelines: Pipelines,
    pub(crate) target: Target,
    pub(crate) indices: Owned<vk::Buffer>,
    _index_memory: Owned<vk::DeviceMemory>,
    pub(crate) gpu: Rc<Gpu>,
}

impl Renderer {
    /// Makes it all; the indices go through `kind` to memory that only the device sees.
    pub(crate) fn new(gpu: &Rc<Gpu>, kind: MemoryKind) -> Result<Self> {
        let target = Target::new(gpu)?;
        let pipelines = Pipelines::new(gpu, &target)?;
        let words = mesh();
        let size = size_of_val(words.as_slice()) as u64;
        let usage = vk::BufferUsageFlags::INDEX_BUFFER | vk::BufferUsageFlags::TRANSFER_DST;
        let (indices, needs) = gpu.buffer(size, usage)?;
        let memory = gpu.allocate(needs.size, gpu.device_only(needs.memory_type_bits)?)?;
        // SAFETY: The memory is as large as the buffer needs, of an allowed type, and not yet used.
        unsafe { gpu.device.bind_buffer_memory(*indices, *memory, 0) }?;

        let staging = Shared::new(gpu, kind, &[(size, vk::BufferUsageFlags::TRANSFER_SRC)])?;
        staging.write(0, &words);
        staging.hand_to_device(&[0])?;
        let recorder = Recorder::begin(gpu, gpu.command_buffer()?)?;
        recorder.copy(staging.buffer(0), *indices, size);
        recorder.barrier(
            (vk::PipelineStageFlags::TRANSFER, vk::AccessFlags::TRANSFER_WRITE),
            (vk::PipelineStageFlags::VERTEX_INPUT, vk::AccessFlags::INDEX_READ),
        );
        gpu.run(recorder.end()?, *gpu.fence()?, None)?;
        Ok(Self { pipelines, target, indices, _index_memory: memory, gpu: Rc::clone(gpu) })
    }

    /// Reads the last picture back through `kind`: red, green, blue, alpha, a byte each.
    pub(crate) fn picture(&self, kind: MemoryKind) -> Result<Vec<u8>> {
        let gpu = &self.gpu;
        let mut words = vec![0; (SIZE.width * SIZE.height) as usize];
        let size = size_of_val(words.as_slice()) as u64;
        let landing = Shared::new(gpu, kind, &[(size, vk::BufferUsageFlags::TRANSFER_DST)])?;
        let region = vk::BufferImageCopy::default()
            .image_subresource(colour_layers())
            .image_extent(vk::Extent3D { width: SIZE.width, height: SIZE.height, depth: 1 });
        let recorder = Recorder::begin(gpu, gpu.command_buffer()?)?;
        recorder.read_image(*self.target.colour.image, landing.buffer(0), region);
        recorder.barrier(
            (vk::PipelineStageFlags::TRANSFER, vk::AccessFlags::TRANSFER_WRITE),
            (vk::PipelineStageFlags::HOST, vk::AccessFlags::HOST_READ),
        );
        gpu.run(recorder.end()?, *gpu.fence()?, None)?;
        landing.take_from_device(&[0])?;
        landing.read(0, &mut words);
        Ok(words.into_iter().flat_map(u32::to_ne_bytes).collect())
    }
}

/// Two triangles for every cell of the pond's grid.
fn mesh() -> Vec<u32> {
    let (columns, rows) = (count(COLUMNS), count(ROWS));
    let corner = |row: u32, column: u32| row * columns + column;
    let cells = (0..rows - 1).flat_map(|row| (0..columns - 1).map(move |column| (row, column)));
    let triangles = cells.flat_map(|(r, c)| {
        let [a, b, d, e] = [corner(r, c), corner(r, c + 1), corner(r + 1, c), corner(r + 1, c + 1)];
        [a, d, b, b, d, e]
    });
    triangles.collect()
}
