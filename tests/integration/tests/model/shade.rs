//! Dispatches: what they reach, and how.

use ash::vk;
use lockstep_harness::{Bindings, Buffer, Compute, Gpu, Kind, Memory, Recorder, Rng};

use crate::ops::{Span, to_u32};
use crate::places::Scene;
use crate::shaders::{ARRAY, Layout, Shaders};

/// How descriptors get where the shader finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// vkUpdateDescriptorSets before recording.
    Set,
    /// An update template before recording.
    Template,
    /// vkUpdateDescriptorSets after recording.
    After,
    /// Pushed by the command buffer.
    Push,
    /// Pushed by a template.
    PushTemplate,
}

/// A range of a buffer behind a descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    buffer: usize,
    offset: usize,
    len: usize,
    /// Told as VK_WHOLE_SIZE; `len` ends at the buffer's end.
    whole: bool,
}

/// A dispatch that changes every `stride`th word from `first` on, of what its descriptor shows.
#[derive(Clone, Debug)]
pub(crate) struct Shade {
    layout: Layout,
    via: Via,
    /// What the descriptors show; the shader writes through one of them, the others are there to be
    /// suspected.
    bound: Vec<Bound>,
    element: usize,
    first: usize,
    stride: usize,
    count: usize,
    key: u32,
    spins: u32,
    indirect: bool,
}

/// What a dispatch needs beside the buffers; it lives as long as the commands.
#[derive(Default)]
pub(crate) struct Extra {
    gpu: Option<Gpu>,
    bindings: Option<Bindings>,
    job: Option<Buffer>,
    groups: Option<Buffer>,
    /// Where [`Layout::Pointer`] finds the address.
    pointer: Option<Buffer>,
    view: vk::BufferView,
    template: vk::DescriptorUpdateTemplate,
    /// What [`Via::After`] writes when recording has ended.
    late: Vec<(u32, vk::DescriptorBufferInfo)>,
}

/// The alignment of offsets of descriptors.
const ALIGN: usize = 256;

impl Bound {
    fn random(rng: &mut Rng, scene: &Scene<'_>, buffer: usize) -> Self {
        let size = scene.sizes[buffer];
        let offset = if rng.one_in(2) { 0 } else { rng.below(size.div_ceil(ALIGN)) * ALIGN };
        let whole = rng.one_in(3);
        let left = (size - offset) / 4;
        let len = if whole || left < 2 || rng.one_in(2) { left * 4 } else { 4 * rng.between(1, left + 1) };
        Self { buffer, offset, len, whole: whole || len == 0 }
    }

    fn info(&self, buffers: &[&Buffer], dynamic: bool) -> vk::DescriptorBufferInfo {
        vk::DescriptorBufferInfo {
            buffer: buffers[self.buffer].raw(),
            offset: if dynamic { 0 } else { self.offset as u64 },
            range: if self.whole && !dynamic { vk::WHOLE_SIZE } else { self.len.max(1) as u64 },
        }
    }
}

impl Shade {
    /// Makes up a dispatch on a buffer of at least one word; `None` when there is no way to.
    pub(crate) fn random(rng: &mut Rng, scene: &Scene<'_>, buffer: usize) -> Self {
        let layouts = [
            Layout::Job,
            Layout::Array,
            Layout::Array,
            Layout::Dynamic,
            Layout::After,
            Layout::Push,
            Layout::Texels,
            Layout::Address,
        ];
        let mut layout = layouts[rng.below(layouts.len())];
        if layout == Layout::Address && !scene.addressable[buffer] {
            layout = Layout::Array;
        }
        let offers = scene.offers;
        if (layout == Layout::After && !offers.updates_late) || (layout == Layout::Push && !offers.pushes) {
            layout = Layout::Array;
        }
        let via = match layout {
            Layout::After => Via::After,
            Layout::Push if rng.one_in(2) => Via::PushTemplate,
            Layout::Push => Via::Push,
            Layout::Array if rng.one_in(3) => Via::Template,
            _ => Via::Set,
        };
        let mut target = loop {
            let target = Bound::random(rng, scene, buffer);
            if target.len >= 4 {
                break target;
            }
        };
        if layout == Layout::Address {
            target = Bound { buffer, offset: 0, len: scene.sizes[buffer] / 4 * 4, whole: true };
        }
        let (mut bound, mut element) = (vec![target], 0);
        if !matches!(layout, Layout::Job | Layout::Texels | Layout::Address) {
            let others = scene.buffers.to_vec();
            element = rng.below(ARRAY as usize);
            for place in 0..ARRAY as usize {
                let other = others[rng.below(others.len())];
                let decoy = Bound::random(rng, scene, other);
                // A range of no whole word is bound as it is; nobody writes it.
                match place < element {
                    true => bound.insert(place, decoy),
                    false if place > element => bound.push(decoy),
                    false => {}
                }
            }
        }
        let words = bound[element].len / 4;
        let (first, stride) = (rng.below(words), rng.between(1, 9));
        let count = rng.between(1, (words - first).div_ceil(stride) + 1);
        let slow = layout != Layout::Job && rng.one_in(6);
        let spins = if slow { to_u32(rng.between(1000, 60_000)) } else { to_u32(rng.below(3)) };
        let key = to_u32(rng.below(1 << 31));
        let indirect = rng.one_in(5);
        let spins = if layout == Layout::Job { 0 } else { spins };
        Self { layout, via, bound, element, first, stride, count, key, spins, indirect }
    }

    /// Makes up a dispatch that takes long, on a buffer the processor does not see.
    pub(crate) fn slow(rng: &mut Rng, scene: &Scene<'_>) -> Self {
        let hidden = scene.buffers.iter().copied().find(|&place| !scene.addressable[place]);
        let mut slow = Self::random(rng, scene, hidden.expect("a hidden buffer"));
        (slow.layout, slow.via) = (Layout::Array, Via::Set);
        slow.bound = vec![slow.bound[slow.element]; ARRAY as usize];
        slow.element = 0;
        slow.count = slow.count.min(64);
        // llvmpipe leaves loops after 65,535 rounds.
        slow.spins = to_u32(rng.between(30_000, 60_000));
        slow
    }

    /// Makes up a dispatch on an addressable buffer whose address it finds in memory, see [`Extra::point`].
    pub(crate) fn pointed(rng: &mut Rng, scene: &Scene<'_>, buffer: usize) -> Self {
        let mut pointed = Self::random(rng, scene, buffer);
        let bound = Bound { buffer, offset: 0, len: scene.sizes[buffer] / 4 * 4, whole: true };
        (pointed.layout, pointed.via) = (Layout::Pointer, Via::Set);
        (pointed.bound, pointed.element) = (vec![bound], 0);
        pointed
    }

    /// Returns the words that are read and written.
    pub(crate) fn words(&self) -> Vec<Span> {
        let Bound { buffer, offset, .. } = self.bound[self.element];
        let word = |n| Span { buffer, at: offset + 4 * (self.first + n * self.stride), len: 4 };
        (0..self.count).map(word).collect()
    }

    /// Returns the buffers that must stay.
    pub(crate) fn uses(&self) -> impl Iterator<Item = usize> {
        self.bound.iter().map(|bound| bound.buffer)
    }

    /// Does to the reference what the dispatch does to the buffer.
    pub(crate) fn apply(&self, bytes: &mut [Vec<u8>]) {
        let mix = |key: u32, _| key.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let key = (0..self.spins).fold(self.key, mix);
        for (n, span) in (0..).zip(self.words()) {
            let word = &mut bytes[span.buffer][span.at..span.at + 4];
            let old = u32::from_le_bytes((&*word).try_into().expect("four bytes"));
            let new = (old ^ key).wrapping_mul(2_654_435_761).wrapping_add(n);
            word.copy_from_slice(&new.to_le_bytes());
        }
    }

    /// Makes sets, views and what else the dispatch needs.
    pub(crate) fn prepare(&self, gpu: &Gpu, shaders: &Shaders, buffers: &[&Buffer]) -> Extra {
        let shader = shaders.get(self.layout);
        let mut extra = Extra::default();
        extra.gpu = Some(gpu.clone());
        if self.indirect {
            let mut groups = Buffer::unbound_for(gpu, 12, vk::BufferUsageFlags::INDIRECT_BUFFER);
            let memory = Memory::new(gpu, Kind::Coherent, 256);
            groups.bind(&memory, 0);
            let words = [self.groups(), 1, 1].map(u32::to_le_bytes).concat();
            memory.map_whole().write(0, &words);
            extra.groups = Some(groups);
        }
        let dynamic = self.layout == Layout::Dynamic;
        let infos: Vec<_> = self.bound.iter().map(|bound| bound.info(buffers, dynamic)).collect();
        match (self.layout, self.via) {
            (Layout::Job, _) => {
                let job = Buffer::mapped(gpu, Kind::Coherent, 16);
                let words = [self.first, self.stride, self.count].map(to_u32);
                let words: Vec<u8> = words.into_iter().chain([self.key]).flat_map(u32::to_le_bytes).collect();
                job.bytes().write(0, &words);
                let own = vk::DescriptorBufferInfo { buffer: job.raw(), offset: 0, range: vk::WHOLE_SIZE };
                extra.bindings = Some(shader.bind_raw(&[infos[0], own]));
                extra.job = Some(job);
            }
            (Layout::Pointer, _) => {
                let usage = vk::BufferUsageFlags::SHADER_DEVICE_ADDRESS;
                let mut pointer = Buffer::unbound_for(gpu, 8, usage);
                pointer.bind(&Memory::addressable(gpu, 256), 0);
                extra.pointer = Some(pointer);
            }
            (Layout::Address, _) | (_, Via::Push) => {}
            (Layout::Texels, _) => extra.bind_texels(gpu, shader, &infos[0], self.bound[0].len),
            (_, Via::Template) => {
                let bindings = extra.allocate(shader, vk::DescriptorType::STORAGE_BUFFER);
                extra.make_template(shader, false);
                let data = infos.as_ptr().cast();
                // SAFETY: The template reads as many elements as there are.
                unsafe {
                    gpu.raw().update_descriptor_set_with_template(bindings, extra.template, data);
                };
            }
            (_, Via::PushTemplate) => extra.make_template(shader, true),
            (Layout::After, _) => {
                _ = extra.allocate(shader, vk::DescriptorType::STORAGE_BUFFER);
                // Only the one that is used must be there.
                let used = |(place, info): (usize, &vk::DescriptorBufferInfo)| {
                    (place == self.element || self.key.is_multiple_of(2)).then_some((to_u32(place), *info))
                };
                extra.late = infos.iter().enumerate().filter_map(used).collect();
            }
            _ => {
                let ty = if dynamic {
                    vk::DescriptorType::STORAGE_BUFFER_DYNAMIC
                } else {
                    vk::DescriptorType::STORAGE_BUFFER
                };
                let set = extra.allocate(shader, ty);
                let write =
                    [vk::WriteDescriptorSet::default().dst_set(set).descriptor_type(ty).buffer_info(&infos)];
                // SAFETY: No work uses the set yet.
                unsafe { gpu.raw().update_descriptor_sets(&write, &[]) };
            }
        }
        extra
    }

    /// Records the dispatch.
    pub(crate) fn record(
        &self,
        gpu: &Gpu,
        r: &Recorder<'_>,
        shaders: &Shaders,
        buffers: &[&Buffer],
        extra: &Extra,
    ) {
        let (shader, device) = (shaders.get(self.layout), gpu.raw());
        let (point, stage) = (vk::PipelineBindPoint::COMPUTE, vk::ShaderStageFlags::COMPUTE);
        // SAFETY: The pipeline is alive.
        unsafe { device.cmd_bind_pipeline(r.raw(), point, shader.pipeline()) };
        if self.layout != Layout::Job {
            let words = [self.element, self.first, self.stride, self.count].map(to_u32);
            let words = words.into_iter().chain([self.key, self.spins]).flat_map(u32::to_le_bytes);
            let address = match (self.layout, &extra.pointer) {
                (Layout::Address, _) => address_of(gpu, buffers[self.bound[0].buffer]),
                (_, Some(pointer)) => address_of(gpu, pointer),
                _ => 0,
            };
            let constants: Vec<u8> = words.chain(address.to_le_bytes()).collect();
            // SAFETY: The layout has as many constants.
            unsafe { device.cmd_push_constants(r.raw(), shader.layout(), stage, 0, &constants) };
        }
        if let Some(bindings) = &extra.bindings {
            let offsets: Vec<_> = match self.layout {
                Layout::Dynamic => self.bound.iter().map(|bound| to_u32(bound.offset)).collect(),
                _ => Vec::new(),
            };
            let sets = [bindings.raw()];
            // SAFETY: The set is made for this layout.
            unsafe {
                device.cmd_bind_descriptor_sets(r.raw(), point, shader.layout(), 0, &sets, &offsets);
            };
        }
        if self.layout == Layout::Push {
            let infos: Vec<_> = self.bound.iter().map(|bound| bound.info(buffers, false)).collect();
            push(gpu, r, shader, &infos, extra.template);
        }
        match &extra.groups {
            // SAFETY: A pipeline and its set are bound, the buffer holds three words.
            Some(groups) => unsafe { device.cmd_dispatch_indirect(r.raw(), groups.raw(), 0) },
            // SAFETY: A pipeline and its set are bound.
            None => unsafe { device.cmd_dispatch(r.raw(), self.groups(), 1, 1) },
        }
    }

    fn groups(&self) -> u32 {
        to_u32(self.count.div_ceil(64))
    }
}

fn address_of(gpu: &Gpu, buffer: &Buffer) -> u64 {
    let info = vk::BufferDeviceAddressInfo::default().buffer(buffer.raw());
    // SAFETY: The buffer is alive, bound and made for it.
    unsafe { gpu.raw().get_buffer_device_address(&info) }
}

/// Pushes all elements of the array, by a template if there is one.
fn push(
    gpu: &Gpu,
    r: &Recorder<'_>,
    shader: &Compute,
    infos: &[vk::DescriptorBufferInfo],
    template: vk::DescriptorUpdateTemplate,
) {
    let functions = ash::khr::push_descriptor::Device::new(gpu.instance().raw(), gpu.raw());
    if template == vk::DescriptorUpdateTemplate::null() {
        let write = [vk::WriteDescriptorSet::default()
            .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
            .buffer_info(infos)];
        let point = vk::PipelineBindPoint::COMPUTE;
        // SAFETY: The layout is for pushed descriptors, as many as these.
        unsafe { functions.cmd_push_descriptor_set(r.raw(), point, shader.layout(), 0, &write) };
    } else {
        let data = infos.as_ptr().cast();
        // SAFETY: The template reads as many elements as there are.
        unsafe {
            functions.cmd_push_descriptor_set_with_template(r.raw(), template, shader.layout(), 0, data);
        };
    }
}

impl Extra {
    /// Does what comes between recording and submission.
    pub(crate) fn finish(&self) {
        let (Some(gpu), Some(bindings)) = (&self.gpu, &self.bindings) else { return };
        for (place, info) in &self.late {
            let info = [*info];
            let write = [vk::WriteDescriptorSet::default()
                .dst_set(bindings.raw())
                .dst_array_element(*place)
                .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                .buffer_info(&info)];
            // SAFETY: The binding may be updated after it was bound, and no work uses it yet.
            unsafe { gpu.raw().update_descriptor_sets(&write, &[]) };
        }
    }

    /// Tells a dispatch that has not begun where its buffer is.
    pub(crate) fn point(&self, buffer: &Buffer) {
        let (Some(gpu), Some(pointer)) = (&self.gpu, &self.pointer) else { return };
        let address = address_of(gpu, buffer);
        pointer.memory().map_whole().write(0, &address.to_le_bytes());
    }

    fn allocate(&mut self, shader: &Compute, ty: vk::DescriptorType) -> vk::DescriptorSet {
        let flags = vk::DescriptorPoolCreateFlags::UPDATE_AFTER_BIND;
        self.bindings.insert(shader.allocate(ty, ARRAY, flags)).raw()
    }

    fn bind_texels(&mut self, gpu: &Gpu, shader: &Compute, info: &vk::DescriptorBufferInfo, len: usize) {
        let ty = vk::DescriptorType::STORAGE_TEXEL_BUFFER;
        let set = self.allocate(shader, ty);
        let range = if info.range == vk::WHOLE_SIZE { vk::WHOLE_SIZE } else { len as u64 };
        let view = vk::BufferViewCreateInfo::default()
            .buffer(info.buffer)
            .format(vk::Format::R32_UINT)
            .offset(info.offset)
            .range(range);
        // SAFETY: The buffer is alive, bound and made for it.
        self.view = unsafe { gpu.raw().create_buffer_view(&view, None) }.expect("vkCreateBufferView");
        let views = [self.view];
        let write =
            [vk::WriteDescriptorSet::default().dst_set(set).descriptor_type(ty).texel_buffer_view(&views)];
        // SAFETY: No work uses the set yet.
        unsafe { gpu.raw().update_descriptor_sets(&write, &[]) };
    }

    fn make_template(&mut self, shader: &Compute, pushed: bool) {
        let Some(gpu) = &self.gpu else { return };
        let entries = [vk::DescriptorUpdateTemplateEntry {
            descriptor_count: ARRAY,
            descriptor_type: vk::DescriptorType::STORAGE_BUFFER,
            stride: size_of::<vk::DescriptorBufferInfo>(),
            ..Default::default()
        }];
        let mut info = vk::DescriptorUpdateTemplateCreateInfo::default().descriptor_update_entries(&entries);
        info = match pushed {
            true => info
                .template_type(vk::DescriptorUpdateTemplateType::PUSH_DESCRIPTORS_KHR)
                .pipeline_bind_point(vk::PipelineBindPoint::COMPUTE)
                .pipeline_layout(shader.layout()),
            false => info
                .template_type(vk::DescriptorUpdateTemplateType::DESCRIPTOR_SET)
                .descriptor_set_layout(shader.set_layout()),
        };
        // SAFETY: `info` is whole.
        let template = unsafe { gpu.raw().create_descriptor_update_template(&info, None) };
        self.template = template.expect("vkCreateDescriptorUpdateTemplate");
    }
}

impl Drop for Extra {
    fn drop(&mut self) {
        let Some(gpu) = self.gpu.as_ref().filter(|_| !std::thread::panicking()) else { return };
        // SAFETY: No work uses the view, or it is null.
        unsafe { gpu.raw().destroy_buffer_view(self.view, None) };
        // SAFETY: No work uses the template, or it is null.
        unsafe { gpu.raw().destroy_descriptor_update_template(self.template, None) };
    }
}
