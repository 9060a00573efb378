//! Updates of descriptor sets: writes, copies, templates.
//!
//! # Safety
//! Arrays of descriptors are valid by the application's valid usage: as many as the update says, of the
//! structure that its descriptor type asks for.

#![allow(unsafe_code, reason = "door to the application's descriptors")]

use std::ffi::c_void;
use std::sync::Arc;

use ash::vk;

use super::layout::SetLayout;
use super::set::{DescriptorSet, Descriptors, Kind, Target};
use crate::record::Objects;

/// State of a `VkDescriptorUpdateTemplate`.
#[derive(Debug)]
pub struct Template {
    point: vk::PipelineBindPoint,
    layout: Option<Arc<SetLayout>>,
    /// Those entries that may change what shaders can write.
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    binding: u32,
    element: u32,
    count: u32,
    kind: Option<Kind>,
    offset: usize,
    stride: usize,
}

/// Where the descriptors of an update lie.
#[derive(Clone, Copy)]
struct Source {
    /// None when shaders only read through them.
    kind: Option<Kind>,
    data: *const u8,
    stride: usize,
}

impl Template {
    /// A template for sets of a layout, or for pushing to one; with an unknown layout it keeps all entries.
    pub(crate) fn new(
        point: vk::PipelineBindPoint,
        layout: Option<Arc<SetLayout>>,
        entries: &[vk::DescriptorUpdateTemplateEntry],
    ) -> Self {
        let may_replace = layout.as_ref().is_none_or(|layout| layout.is_mutable());
        let entries = entries.iter().filter_map(|entry| {
            let kind = Kind::of(entry.descriptor_type);
            (kind.is_some() || may_replace).then_some(Entry {
                binding: entry.dst_binding,
                element: entry.dst_array_element,
                count: entry.descriptor_count,
                kind,
                offset: entry.offset,
                stride: entry.stride,
            })
        });
        Self { point, entries: entries.collect(), layout }
    }

    /// Where descriptors are pushed with it.
    pub fn bind_point(&self) -> vk::PipelineBindPoint {
        self.point
    }

    /// The layout it is for: that of what is pushed with it.
    pub fn layout(&self) -> Option<&Arc<SetLayout>> {
        self.layout.as_ref()
    }

    /// Whether an update with it changes nothing that shaders can write.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Source {
    /// The descriptors of a write.
    fn of(write: &vk::WriteDescriptorSet<'_>) -> Self {
        let kind = Kind::of(write.descriptor_type);
        let (data, stride) = match kind {
            Some(Kind::Buffer) => (write.p_buffer_info.cast(), size_of::<vk::DescriptorBufferInfo>()),
            Some(Kind::Image) => (write.p_image_info.cast(), size_of::<vk::DescriptorImageInfo>()),
            Some(Kind::TexelBuffer) => (write.p_texel_buffer_view.cast(), size_of::<vk::BufferView>()),
            None => (std::ptr::null(), 0),
        };
        Self { kind, data, stride }
    }

    /// What stands behind the descriptor with this index; nothing behind a null descriptor.
    ///
    /// # Safety
    /// The source has that many descriptors.
    unsafe fn target(&self, objects: &Objects, index: u32) -> Option<Target> {
        let kind = self.kind?;
        // The data of a template need not be aligned.
        let data = self.data.wrapping_add(self.stride.wrapping_mul(index as usize));
        match kind {
            Kind::Buffer => {
                // SAFETY: the caller's.
                let info = unsafe { data.cast::<vk::DescriptorBufferInfo>().read_unaligned() };
                let (offset, size) = (info.offset, info.range);
                (info.buffer != vk::Buffer::null()).then_some(Target::Buffer {
                    buffer: info.buffer,
                    offset,
                    size,
                })
            }
            Kind::Image => {
                // SAFETY: the caller's.
                let info = unsafe { data.cast::<vk::DescriptorImageInfo>().read_unaligned() };
                let view = objects.image_views.get(info.image_view)?;
                Some(Target::Image { image: view.image, range: view.range })
            }
            Kind::TexelBuffer => {
                // SAFETY: the caller's.
                let view = unsafe { data.cast::<vk::BufferView>().read_unaligned() };
                let view = objects.buffer_views.get(view)?;
                Some(Target::Buffer { buffer: view.buffer, offset: view.offset, size: view.size })
            }
        }
    }
}

impl Descriptors {
    /// Writes descriptors, as `vkUpdateDescriptorSets` and `vkCmdPushDescriptorSetKHR` do; `true` when
    /// anything is another than before. The set that the write names does not matter.
    ///
    /// # Safety
    /// The write is valid for this layout.
    pub unsafe fn write(&mut self, objects: &Objects, write: &vk::WriteDescriptorSet<'_>) -> bool {
        let place = (write.dst_binding, write.dst_array_element, write.descriptor_count);
        // SAFETY: the caller's.
        unsafe { self.fill(objects, place, Source::of(write)) }
    }

    /// Writes descriptors by a template, as `vkUpdateDescriptorSetWithTemplate` and
    /// `vkCmdPushDescriptorSetWithTemplateKHR` do; `true` when anything is another than before.
    ///
    /// # Safety
    /// The template is for this layout, and `data` holds what its entries say.
    pub unsafe fn write_template(
        &mut self,
        objects: &Objects,
        template: &Template,
        data: *const c_void,
    ) -> bool {
        let mut changed = false;
        for entry in &template.entries {
            let data = data.cast::<u8>().wrapping_add(entry.offset);
            let source = Source { kind: entry.kind, data, stride: entry.stride };
            // SAFETY: the caller's.
            changed |= unsafe { self.fill(objects, (entry.binding, entry.element, entry.count), source) };
        }
        changed
    }

    /// # Safety
    /// The source has as many descriptors as the place.
    unsafe fn fill(
        &mut self,
        objects: &Objects,
        (binding, element, count): (u32, u32, u32),
        source: Source,
    ) -> bool {
        let layout = Arc::clone(self.layout());
        if source.kind.is_none() && !layout.is_mutable() {
            return false;
        }
        let mut changed = false;
        for run in layout.runs(binding, element, count) {
            let Some(slots) = run.slots else { continue };
            for index in 0..run.count {
                // SAFETY: the caller's, and runs lie within the update.
                let target = unsafe { source.target(objects, run.done + index) };
                changed |= self.put(slots, run.element + index, target);
            }
        }
        changed
    }
}

/// Applies the writes of a `vkUpdateDescriptorSets`.
///
/// # Safety
/// The writes are valid.
pub unsafe fn update_sets(objects: &Objects, writes: &[vk::WriteDescriptorSet<'_>]) {
    let mut last: Option<(vk::DescriptorSet, Arc<DescriptorSet>)> = None;
    for write in writes {
        if Kind::of(write.descriptor_type).is_none() && !objects.has_mutable() {
            continue;
        }
        if last.as_ref().is_none_or(|(handle, _)| *handle != write.dst_set) {
            last = objects.sets.get(write.dst_set).map(|set| (write.dst_set, set));
        }
        if let Some((_, set)) = &last {
            // SAFETY: the caller's.
            set.change(|descriptors| unsafe { descriptors.write(objects, write) });
        }
    }
}

/// Applies a copy of a `vkUpdateDescriptorSets`.
pub fn copy(objects: &Objects, copy: &vk::CopyDescriptorSet<'_>) {
    let (Some(source), Some(target)) = (objects.sets.get(copy.src_set), objects.sets.get(copy.dst_set))
    else {
        return;
    };
    let count = copy.descriptor_count;
    let is_storage = |layout: &SetLayout, binding, element| {
        layout.runs(binding, element, count).any(|run| run.slots.is_some() && run.count > 0)
    };
    if !is_storage(target.layout(), copy.dst_binding, copy.dst_array_element) {
        return;
    }
    // One set at a time is locked: they may be the same, or copied the other way round meanwhile.
    let mut copied = vec![None; count as usize];
    {
        let source = source.lock();
        for run in source.layout().runs(copy.src_binding, copy.src_array_element, count) {
            let Some(slots) = run.slots else { continue };
            for index in 0..run.count {
                copied[(run.done + index) as usize] = source.get(slots, run.element + index);
            }
        }
    }
    target.change(|descriptors| {
        let layout = Arc::clone(descriptors.layout());
        let mut changed = false;
        for run in layout.runs(copy.dst_binding, copy.dst_array_element, count) {
            let Some(slots) = run.slots else { continue };
            for index in 0..run.count {
                let descriptor = copied[(run.done + index) as usize];
                changed |= descriptors.put(slots, run.element + index, descriptor);
            }
        }
        changed
    });
}

/// Applies a `vkUpdateDescriptorSetWithTemplate`.
///
/// # Safety
/// The template is for the layout of the set, and `data` holds what its entries say.
pub unsafe fn update_with_template(
    objects: &Objects,
    set: vk::DescriptorSet,
    template: vk::DescriptorUpdateTemplate,
    data: *const c_void,
) {
    let Some(template) = objects.templates.get(template).filter(|template| !template.is_empty()) else {
        return;
    };
    if let Some(set) = objects.sets.get(set) {
        // SAFETY: the caller's.
        set.change(|descriptors| unsafe { descriptors.write_template(objects, &template, data) });
    }
}
