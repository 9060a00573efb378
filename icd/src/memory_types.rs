//! The table of memory types, and its translation to the host's and back (specification chapter
//! "Memory Allocation", "Device Memory Properties").
//!
//! Profile `paravirtual`: device-only types, emulated coherent types, and a type that the application flushes and
//! invalidates. Emulated types stand over each host type that is visible and coherent, so that what the host
//! promises of its coherent types holds of ours: a type is offered for a resource exactly when the host type
//! behind it is.
//!
//! Programs that take the first type they like among the visible ones, and never flush, are many. They are meant
//! to find a coherent type, whatever they like, as far as the specification's order of types allows
//! (docs/decisions/0001).
//!
//! Profile `unified`: the emulated types are `DEVICE_LOCAL` where the host's are, and there is no explicit type.
//!
//! A type is `DEVICE_LOCAL` if and only if its heap is. Where the host type's heap is and ours must not be,
//! the table has a second heap of the same size beside it.

use ash::vk;

use crate::config::Profile;

type Flags = vk::MemoryPropertyFlags;

/// Types that need what cannot be emulated, or that are not for general use.
const UNSUPPORTED: Flags = Flags::from_raw(
    Flags::DEVICE_COHERENT_AMD.as_raw()
        | Flags::DEVICE_UNCACHED_AMD.as_raw()
        | Flags::RDMA_CAPABLE_NV.as_raw(),
);

/// What stands behind a memory type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Not visible to the CPU: the host's memory as it is.
    DeviceOnly,
    /// Guest pages the application flushes and invalidates.
    Explicit,
    /// Guest pages kept in lockstep.
    Emulated,
    /// The host's own coherent memory.
    Native,
}

/// One memory type of ours.
#[derive(Clone, Copy, Debug)]
pub struct MemoryType {
    /// Its properties.
    pub flags: Flags,
    /// Index of our heap.
    pub heap: u32,
    /// Index of the host's type.
    pub host: u32,
    /// What stands behind it.
    pub kind: Kind,
}

/// One heap of ours.
#[derive(Clone, Copy, Debug)]
struct Heap {
    size: u64,
    flags: vk::MemoryHeapFlags,
    host: u32,
}

/// Our table over a host's.
#[derive(Clone, Debug)]
pub struct MemoryTypes {
    types: Vec<MemoryType>,
    heaps: Vec<Heap>,
}

impl MemoryTypes {
    /// Builds the table. `native` adds the host's own coherent type at the end.
    pub fn new(host: &vk::PhysicalDeviceMemoryProperties, profile: Profile, native: bool) -> Self {
        let host_types = host.memory_types_as_slice();
        let usable = |flags: Flags| !flags.intersects(UNSUPPORTED);
        let heaps = host.memory_heaps_as_slice().iter().zip(0..);
        let heaps = heaps.map(|(heap, index)| Heap { size: heap.size, flags: heap.flags, host: index });
        let mut table = Self { types: Vec::new(), heaps: heaps.collect() };

        let local_only =
            |flags: Flags| flags.contains(Flags::DEVICE_LOCAL) && !flags.contains(Flags::HOST_VISIBLE);
        let has_local_only =
            host_types.iter().any(|t| usable(t.property_flags) && local_only(t.property_flags));
        for (host_type, index) in host_types.iter().zip(0..) {
            let flags = host_type.property_flags;
            let visible = flags.contains(Flags::HOST_VISIBLE);
            // A visible type stands in as a device-only one where the host has none but such.
            let stands_in = !has_local_only && flags.contains(Flags::DEVICE_LOCAL);
            if usable(flags) && (!visible || stands_in) {
                let flags = flags & !(Flags::HOST_VISIBLE | Flags::HOST_COHERENT | Flags::HOST_CACHED);
                table.add(flags, host_type.heap_index, index, Kind::DeviceOnly);
            }
        }

        let mut coherent: Vec<(u32, vk::MemoryType)> = (0..).zip(host_types.iter().copied()).collect();
        coherent.retain(|(_, t)| {
            usable(t.property_flags) && t.property_flags.contains(Flags::HOST_VISIBLE | Flags::HOST_COHERENT)
        });
        // The CPU reads host memory at every pull: cached first, and near the CPU before near the device.
        coherent.sort_by_key(|(_, t)| {
            (!t.property_flags.contains(Flags::HOST_CACHED), t.property_flags.contains(Flags::DEVICE_LOCAL))
        });
        match profile {
            Profile::Paravirtual => table.add_paravirtual(&coherent),
            Profile::Unified => table.add_unified(&coherent),
        }
        if let (true, Some((index, host_type))) = (native, coherent.first()) {
            table.add(host_type.property_flags, host_type.heap_index, *index, Kind::Native);
        }
        // A type whose flags are a subset of another's comes first; the order is otherwise ours.
        table.types.sort_by_key(|t| t.flags.as_raw().count_ones());
        table.types.truncate(vk::MAX_MEMORY_TYPES);
        table
    }

    /// The visible types of `paravirtual`, over the host's coherent types, best first.
    fn add_paravirtual(&mut self, coherent: &[(u32, vk::MemoryType)]) {
        let is_local = |host_type: &vk::MemoryType| host_type.property_flags.contains(Flags::DEVICE_LOCAL);
        let emulated = Flags::HOST_VISIBLE | Flags::HOST_COHERENT;
        let explicit = Flags::HOST_VISIBLE | Flags::HOST_CACHED;
        let Some((best, best_type)) = coherent.first() else { return };
        if is_local(best_type) {
            // One memory for all. Three types of which none is a subset of another: cached first, then local,
            // and last the one that must be flushed.
            for (index, host_type) in coherent {
                let heap = self.guest_heap(host_type.heap_index);
                self.add(emulated | Flags::HOST_CACHED, heap, *index, Kind::Emulated);
            }
            self.add(emulated | Flags::DEVICE_LOCAL, best_type.heap_index, *best, Kind::Emulated);
            self.add(explicit | Flags::DEVICE_LOCAL, best_type.heap_index, *best, Kind::Explicit);
            return;
        }
        // Memory apart. All emulated memory is cached: that a type does not say so lets it stand before the
        // explicit one.
        for (index, host_type) in coherent {
            let local = host_type.property_flags & Flags::DEVICE_LOCAL;
            self.add(emulated | local, host_type.heap_index, *index, Kind::Emulated);
        }
        self.add(explicit, best_type.heap_index, *best, Kind::Explicit);
        for (index, host_type) in coherent.iter().filter(|(_, host_type)| !is_local(host_type)) {
            self.add(emulated | Flags::HOST_CACHED, host_type.heap_index, *index, Kind::Emulated);
        }
    }

    /// The visible types of `unified`.
    fn add_unified(&mut self, coherent: &[(u32, vk::MemoryType)]) {
        let emulated = Flags::HOST_VISIBLE | Flags::HOST_COHERENT | Flags::HOST_CACHED;
        for (index, host_type) in coherent {
            let local = host_type.property_flags & Flags::DEVICE_LOCAL;
            self.add(emulated | local, host_type.heap_index, *index, Kind::Emulated);
        }
    }

    fn add(&mut self, flags: Flags, heap: u32, host: u32, kind: Kind) {
        self.types.push(MemoryType { flags, heap, host, kind });
    }

    /// A heap for guest memory over host heap `host`: that heap itself, or one beside it that is not local.
    fn guest_heap(&mut self, host: u32) -> u32 {
        let base = self.heaps[host as usize];
        if !base.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL) {
            return host;
        }
        let found = self.heaps.iter().zip(0..).find(|(heap, index)| heap.host == host && *index != host);
        if let Some((_, index)) = found {
            return index;
        }
        self.heaps.push(Heap { size: base.size, flags: vk::MemoryHeapFlags::empty(), host });
        u32::try_from(self.heaps.len() - 1).expect("few heaps")
    }

    /// Our type of index `index`.
    pub fn get(&self, index: u32) -> Option<&MemoryType> {
        self.types.get(index as usize)
    }

    /// Whether there is an emulated type, without which Lockstep has nothing to give.
    pub fn has_emulated(&self) -> bool {
        self.types.iter().any(|t| t.kind == Kind::Emulated)
    }

    /// Sum of the heaps that hold guest memory, in bytes.
    pub fn guest_bytes(&self) -> u64 {
        let guest = |index| self.types.iter().any(|t| t.heap == index && t.kind == Kind::Emulated);
        let heaps = self.heaps.iter().zip(0..).filter(|(_, index)| guest(*index));
        heaps.map(|(heap, _)| heap.size).fold(0, u64::saturating_add)
    }

    /// Translates the host's `memoryTypeBits`.
    pub fn bits_from_host(&self, host_bits: u32) -> u32 {
        let offered = self.types.iter().zip(0u32..).filter(|(t, _)| host_bits >> t.host & 1 != 0);
        offered.fold(0, |bits, (_, index)| bits | 1 << index)
    }

    /// The table as the application sees it.
    pub fn properties(&self) -> vk::PhysicalDeviceMemoryProperties {
        let mut properties = vk::PhysicalDeviceMemoryProperties {
            memory_type_count: u32::try_from(self.types.len()).expect("at most 32 types"),
            memory_heap_count: u32::try_from(self.heaps.len()).expect("at most 16 heaps"),
            ..Default::default()
        };
        for (ours, out) in self.types.iter().zip(&mut properties.memory_types) {
            *out = vk::MemoryType { property_flags: ours.flags, heap_index: ours.heap };
        }
        for (ours, out) in self.heaps.iter().zip(&mut properties.memory_heaps) {
            *out = vk::MemoryHeap { size: ours.size, flags: ours.flags };
        }
        properties
    }

    /// Translates a budget the host filled in, heap by heap. A heap beside the host's shares its use. Guest pages and
    /// twins, `guest` bytes, are system memory: they count in the first heap that is not local to the device, or where
    /// all memory is one, in that.
    pub fn translate_budget(&self, budget: &mut vk::PhysicalDeviceMemoryBudgetPropertiesEXT<'_>, guest: u64) {
        let host = *budget;
        budget.heap_budget = [0; vk::MAX_MEMORY_HEAPS];
        budget.heap_usage = [0; vk::MAX_MEMORY_HEAPS];
        for (index, heap) in self.heaps.iter().enumerate() {
            budget.heap_budget[index] = host.heap_budget[heap.host as usize].min(heap.size);
            budget.heap_usage[index] = host.heap_usage[heap.host as usize];
        }
        let is_local = |heap: &Heap| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL);
        let system = self.heaps.iter().position(|heap| !is_local(heap)).unwrap_or(0);
        budget.heap_usage[system] = budget.heap_usage[system].saturating_add(guest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(types: &[(Flags, u32)], heaps: &[vk::MemoryHeapFlags]) -> vk::PhysicalDeviceMemoryProperties {
        let mut properties = vk::PhysicalDeviceMemoryProperties {
            memory_type_count: u32::try_from(types.len()).unwrap(),
            memory_heap_count: u32::try_from(heaps.len()).unwrap(),
            ..Default::default()
        };
        for (out, (flags, heap)) in properties.memory_types.iter_mut().zip(types) {
            *out = vk::MemoryType { property_flags: *flags, heap_index: *heap };
        }
        for (out, flags) in properties.memory_heaps.iter_mut().zip(heaps) {
            *out = vk::MemoryHeap { size: 1 << 30, flags: *flags };
        }
        properties
    }

    fn lavapipe() -> vk::PhysicalDeviceMemoryProperties {
        let all = Flags::DEVICE_LOCAL | Flags::HOST_VISIBLE | Flags::HOST_COHERENT | Flags::HOST_CACHED;
        host(&[(all, 0)], &[vk::MemoryHeapFlags::DEVICE_LOCAL])
    }

    fn discrete() -> vk::PhysicalDeviceMemoryProperties {
        let coherent = Flags::HOST_VISIBLE | Flags::HOST_COHERENT;
        host(
            &[
                (Flags::empty(), 1),
                (Flags::DEVICE_LOCAL, 0),
                (coherent, 1),
                (coherent | Flags::HOST_CACHED, 1),
                (coherent | Flags::DEVICE_LOCAL, 0),
                (coherent | Flags::DEVICE_LOCAL | Flags::DEVICE_COHERENT_AMD, 0),
            ],
            &[vk::MemoryHeapFlags::DEVICE_LOCAL, vk::MemoryHeapFlags::empty()],
        )
    }

    #[test]
    fn one_type_of_everything_becomes_one_of_each_kind() {
        let table = MemoryTypes::new(&lavapipe(), Profile::Paravirtual, true);
        let kinds: Vec<_> = table.types.iter().map(|t| t.kind).collect();
        assert_eq!(kinds, [Kind::DeviceOnly, Kind::Emulated, Kind::Emulated, Kind::Explicit, Kind::Native]);
        assert_eq!(table.bits_from_host(1), 0b11111);
        assert_eq!(table.bits_from_host(0), 0);
        let heaps = table.properties();
        assert_eq!(heaps.memory_heap_count, 2);
        assert_eq!(heaps.memory_heaps[1].size, 1 << 30);
    }

    /// The type an allocator takes that wants `required` and counts missing `preferred` flags; the first wins.
    fn chosen(table: &MemoryTypes, required: Flags, preferred: Flags) -> Kind {
        let fits = table.types.iter().filter(|t| t.flags.contains(required));
        fits.min_by_key(|t| (preferred & !t.flags).as_raw().count_ones()).unwrap().kind
    }

    #[test]
    fn a_program_that_never_flushes_finds_coherent_memory_whatever_it_prefers() {
        let table = MemoryTypes::new(&lavapipe(), Profile::Paravirtual, false);
        for preferred in [Flags::empty(), Flags::HOST_CACHED, Flags::DEVICE_LOCAL, Flags::HOST_COHERENT] {
            assert_eq!(chosen(&table, Flags::HOST_VISIBLE, preferred), Kind::Emulated, "{preferred:?}");
        }
        let table = MemoryTypes::new(&discrete(), Profile::Paravirtual, false);
        for preferred in [Flags::empty(), Flags::DEVICE_LOCAL, Flags::HOST_COHERENT] {
            assert_eq!(chosen(&table, Flags::HOST_VISIBLE, preferred), Kind::Emulated, "{preferred:?}");
        }
    }

    #[test]
    fn unified_memory_is_device_local_and_coherent() {
        let table = MemoryTypes::new(&lavapipe(), Profile::Unified, false);
        let all = Flags::DEVICE_LOCAL | Flags::HOST_VISIBLE | Flags::HOST_COHERENT | Flags::HOST_CACHED;
        let types: Vec<_> = table.types.iter().map(|t| (t.flags, t.kind)).collect();
        assert_eq!(types, [(Flags::DEVICE_LOCAL, Kind::DeviceOnly), (all, Kind::Emulated)]);
        assert_eq!(table.properties().memory_heap_count, 1);
    }

    #[test]
    fn guest_pages_count_in_the_heap_that_is_system_memory() {
        let used = |host: vk::PhysicalDeviceMemoryProperties, profile| {
            let table = MemoryTypes::new(&host, profile, false);
            let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT {
                heap_budget: [2 << 30; vk::MAX_MEMORY_HEAPS],
                ..Default::default()
            };
            budget.heap_usage[..2].copy_from_slice(&[100, 200]);
            table.translate_budget(&mut budget, 7);
            let heaps = table.properties().memory_heap_count as usize;
            assert_eq!(budget.heap_budget[..heaps], vec![1 << 30; heaps]);
            assert_eq!(budget.heap_budget[heaps], 0);
            budget.heap_usage[..heaps].to_vec()
        };
        assert_eq!(used(discrete(), Profile::Paravirtual), [100, 207]);
        assert_eq!(used(discrete(), Profile::Unified), [100, 207]);
        assert_eq!(used(lavapipe(), Profile::Paravirtual), [100, 107]);
        assert_eq!(used(lavapipe(), Profile::Unified), [107]);
    }

    #[test]
    fn on_a_discrete_gpu_the_cached_host_type_comes_first() {
        let table = MemoryTypes::new(&discrete(), Profile::Paravirtual, false);
        let emulated: Vec<_> =
            table.types.iter().filter(|t| t.kind == Kind::Emulated).map(|t| t.host).collect();
        assert_eq!(emulated, [3, 2, 4, 3, 2]);
        let device_only: Vec<_> =
            table.types.iter().filter(|t| t.kind == Kind::DeviceOnly).map(|t| t.host).collect();
        assert_eq!(device_only, [0, 1]);
        // A resource for host type 4 alone gets the types over it.
        let bits = table.bits_from_host(1 << 4);
        assert!((0..32).filter(|i| bits >> i & 1 != 0).all(|i| table.get(i).unwrap().host == 4));
        assert_eq!(bits.count_ones(), 1);
    }

    #[test]
    fn the_rules_of_the_specification_hold() {
        for host in [lavapipe(), discrete()] {
            for (profile, native) in [
                (Profile::Paravirtual, false),
                (Profile::Paravirtual, true),
                (Profile::Unified, false),
                (Profile::Unified, true),
            ] {
                let table = MemoryTypes::new(&host, profile, native);
                let properties = table.properties();
                let types = properties.memory_types_as_slice();
                for (index, memory_type) in types.iter().enumerate() {
                    let flags = memory_type.property_flags;
                    let heap = properties.memory_heaps[memory_type.heap_index as usize];
                    assert_eq!(
                        flags.contains(Flags::DEVICE_LOCAL),
                        heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL)
                    );
                    for later in &types[index + 1..] {
                        let other = later.property_flags;
                        assert!(
                            !(flags.contains(other) && flags != other),
                            "{flags:?} stands before {other:?}"
                        );
                    }
                }
                let has = |flags| types.iter().any(|t| t.property_flags.contains(flags));
                assert!(has(Flags::HOST_VISIBLE | Flags::HOST_COHERENT));
                assert!(has(Flags::DEVICE_LOCAL));
            }
        }
    }
}
