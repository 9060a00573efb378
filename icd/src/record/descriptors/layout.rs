//! Descriptor set layouts: which bindings can hold what a shader writes, and where dynamic offsets go.

use ash::vk;

use super::set::Kind;

/// State of a `VkDescriptorSetLayout`. Equal layouts are identically defined, as far as matters here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SetLayout {
    /// By number.
    bindings: Vec<Binding>,
    /// How many bindings have slots.
    slots: usize,
    dynamic_count: u32,
    update_after_bind: bool,
    mutable: bool,
}

/// A binding of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) number: u32,
    count: u32,
    /// The list that holds its descriptors, if shaders can write through them.
    pub(super) slots: Option<usize>,
    /// The place of its first dynamic offset among the set's.
    pub(super) first_dynamic: Option<u32>,
}

/// What the application says of a binding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BindingInfo<'a> {
    pub(crate) number: u32,
    pub(crate) descriptor_type: vk::DescriptorType,
    pub(crate) count: u32,
    pub(crate) flags: vk::DescriptorBindingFlags,
    /// What a mutable descriptor may be, if that is said.
    pub(crate) mutable_types: Option<&'a [vk::DescriptorType]>,
}

/// Descriptors of an update that lie in one binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The binding's list of descriptors.
    pub(super) slots: Option<usize>,
    /// The first array element.
    pub(super) element: u32,
    /// How many.
    pub(super) count: u32,
    /// How many descriptors of the update come before.
    pub(super) done: u32,
}

impl SetLayout {
    /// A layout of these bindings.
    pub(crate) fn new<'a>(infos: impl IntoIterator<Item = BindingInfo<'a>>) -> Self {
        let mut infos: Vec<_> = infos.into_iter().collect();
        infos.sort_by_key(|info| info.number);
        let mut layout = Self::default();
        for info in infos {
            let can_be_written =
                |types: &[vk::DescriptorType]| types.iter().any(|ty| Kind::of(*ty).is_some());
            let is_mutable = info.descriptor_type == vk::DescriptorType::MUTABLE_EXT
                && info.mutable_types.is_none_or(can_be_written);
            let slots = (is_mutable || Kind::of(info.descriptor_type).is_some()).then_some(layout.slots);
            layout.slots += usize::from(slots.is_some());
            let is_dynamic = matches!(
                info.descriptor_type,
                vk::DescriptorType::STORAGE_BUFFER_DYNAMIC | vk::DescriptorType::UNIFORM_BUFFER_DYNAMIC
            );
            let first_dynamic = is_dynamic.then_some(layout.dynamic_count);
            if is_dynamic {
                layout.dynamic_count = layout.dynamic_count.saturating_add(info.count);
            }
            layout.mutable |= is_mutable;
            layout.update_after_bind |= info.flags.contains(vk::DescriptorBindingFlags::UPDATE_AFTER_BIND);
            layout.bindings.push(Binding { number: info.number, count: info.count, slots, first_dynamic });
        }
        layout
    }

    /// How many dynamic offsets a set of this layout takes, those of uniform buffers among them.
    pub fn dynamic_count(&self) -> u32 {
        self.dynamic_count
    }

    /// Whether sets may be updated after they were bound in a command buffer that is still to be submitted.
    pub fn is_update_after_bind(&self) -> bool {
        self.update_after_bind
    }

    /// Whether it has descriptors whose type is that of the last update.
    pub fn is_mutable(&self) -> bool {
        self.mutable
    }

    /// How many bindings have slots.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    pub(super) fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    pub(super) fn binding(&self, number: u32) -> Option<&Binding> {
        let index = self.bindings.binary_search_by_key(&number, |binding| binding.number).ok()?;
        self.bindings.get(index)
    }

    /// Splits an update of `count` descriptors, which goes on in the next binding where one is full.
    pub(super) fn runs(&self, number: u32, element: u32, count: u32) -> impl Iterator<Item = Run> + '_ {
        let start = self.bindings.partition_point(|binding| binding.number < number);
        let mut element = element;
        let mut done = 0;
        self.bindings.iter().skip(start).map_while(move |binding| {
            if done == count {
                return None;
            }
            let room = binding.count.saturating_sub(element);
            let run = Run { slots: binding.slots, element, count: room.min(count - done), done };
            done += run.count;
            element = element.saturating_sub(binding.count);
            Some(run)
        })
    }
}
