//! The table of memory types.

use ash::vk;
use ash::vk::MemoryPropertyFlags as Flags;

use crate::modes::{Modes, modes};

/// Size of an atom of memory that is not coherent, the largest there may be.
pub const ATOM: u64 = 256;

/// A table in place of the host's: flags and heap of each type. All stand for the host's type
/// [`MemoryTypes::base`].
#[derive(Clone, Debug)]
pub struct MemoryTypes {
    /// The host's type behind all of them.
    pub base: u32,
    types: Option<Vec<(Flags, u32)>>,
    host: vk::PhysicalDeviceMemoryProperties,
}

impl MemoryTypes {
    /// The table over a host's.
    pub fn new(host: vk::PhysicalDeviceMemoryProperties) -> Self {
        let Modes { vram, noncoherent, .. } = modes();
        let coherent = Flags::HOST_VISIBLE | Flags::HOST_COHERENT;
        let cached = Flags::HOST_VISIBLE | Flags::HOST_CACHED;
        let types = match (vram, noncoherent) {
            (false, false) => None,
            (false, true) => Some(vec![(Flags::DEVICE_LOCAL | cached, 0)]),
            (true, false) => {
                Some(vec![(Flags::DEVICE_LOCAL, 0), (coherent, 1), (coherent | Flags::HOST_CACHED, 1)])
            }
            (true, true) => Some(vec![(Flags::DEVICE_LOCAL, 0), (cached, 1)]),
        };
        let mappable = |t: &vk::MemoryType| t.property_flags.contains(coherent);
        let base = host.memory_types_as_slice().iter().position(mappable);
        let base = base.unwrap_or_else(|| crate::fail("the driver below has no coherent memory"));
        Self { base: u32::try_from(base).expect("few types"), types, host }
    }

    /// The table as callers see it.
    pub fn properties(&self) -> vk::PhysicalDeviceMemoryProperties {
        let mut properties = self.host;
        let Some(types) = &self.types else { return properties };
        properties.memory_type_count = u32::try_from(types.len()).expect("few types");
        for (out, (flags, heap)) in properties.memory_types.iter_mut().zip(types) {
            *out = vk::MemoryType { property_flags: *flags, heap_index: *heap };
        }
        let size =
            self.host.memory_heaps[self.host.memory_types[self.base as usize].heap_index as usize].size;
        properties.memory_heap_count = types.iter().map(|(_, heap)| heap + 1).max().unwrap_or(1);
        properties.memory_heaps[0] = vk::MemoryHeap { size, flags: vk::MemoryHeapFlags::DEVICE_LOCAL };
        properties.memory_heaps[1] = vk::MemoryHeap { size, flags: vk::MemoryHeapFlags::empty() };
        properties
    }

    /// Translates the host's `memoryTypeBits`.
    pub fn bits(&self, host: u32) -> u32 {
        match &self.types {
            None => host,
            Some(types) if host >> self.base & 1 != 0 => (1 << types.len()) - 1,
            Some(_) => 0,
        }
    }

    /// The host's type for one of ours.
    pub fn host(&self, index: u32) -> u32 {
        if self.types.is_some() { self.base } else { index }
    }

    /// Whether memory of a type can be mapped.
    pub fn is_visible(&self, index: u32) -> bool {
        self.properties().memory_types[index as usize].property_flags.contains(Flags::HOST_VISIBLE)
    }

    /// Gives every heap of the table the budget of the host's one.
    pub fn budget(&self, budget: &mut vk::PhysicalDeviceMemoryBudgetPropertiesEXT<'_>) {
        if self.types.is_some() {
            let heap = self.host.memory_types[self.base as usize].heap_index as usize;
            let (size, usage) = (budget.heap_budget[heap], budget.heap_usage[heap]);
            let count = self.properties().memory_heap_count as usize;
            budget.heap_budget = [0; vk::MAX_MEMORY_HEAPS];
            budget.heap_usage = [0; vk::MAX_MEMORY_HEAPS];
            budget.heap_budget[..count].fill(size);
            budget.heap_usage[..count].fill(usage);
        }
    }
}
