//! The table of memory types, and its translation to the host's and back (specification chapter
//! "Memory Allocation", "Device Memory Properties").
//!
//! Profile `paravirtual`: device-only types, emulated coherent types, and a type that the application flushes
//! and invalidates. Emulated types stand over each host type that is visible and coherent, so that what the
//! host promises of its coherent types holds of ours: a type is offered for a resource exactly when the host
//! type behind it is.
//!
//! Programs that take the first type they like among the visible ones, and never flush, are many. They are
//! meant to find a coherent type, whatever they like, as far as the specification's order of types allows
//! (docs/decisions/0001).
//!
//! Profile `unified`: the emulated types are `DEVICE_LOCAL` where the host's are, and there is no explicit
//! type.
//!
//! Profile `mirror`: the host's own types, with its coherent ones emulated.
//!
//! With transport `dma` any host type can stand behind an emulated one. `auto` uses it for types that the CPU
//! does not see, or only through the bus.
//!
//! A type is `DEVICE_LOCAL` if and only if its heap is. Where the host type's heap is and ours must not be,
//! the table has a second heap of the same size beside it.

use ash::vk;

use crate::config::{Profile, Transport};

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
    /// Whether the device copies what the CPU writes to emulated memory, and the other way.
    pub dma: bool,
}

/// A host type that can stand behind emulated ones.
#[derive(Clone, Copy, Debug)]
struct Backing {
    index: u32,
    flags: Flags,
    heap: u32,
    dma: bool,
}

impl Backing {
    fn new(index: u32, host_type: &vk::MemoryType, transport: Transport) -> Option<Self> {
        let (flags, heap) = (host_type.property_flags, host_type.heap_index);
        let mapped = flags.contains(Flags::HOST_VISIBLE | Flags::HOST_COHERENT);
        let near = flags.contains(Flags::HOST_CACHED) || !flags.contains(Flags::DEVICE_LOCAL);
        let copied = !flags.intersects(Flags::LAZILY_ALLOCATED | Flags::PROTECTED);
        let (possible, dma) = match transport {
            Transport::Mapped => (mapped, false),
            Transport::Dma => (copied, true),
            Transport::Auto => (mapped || copied, !(mapped && (near || !copied))),
        };
        (possible && !flags.intersects(UNSUPPORTED)).then_some(Self { index, flags, heap, dma })
    }

    fn is_local(&self) -> bool {
        self.flags.contains(Flags::DEVICE_LOCAL)
    }

    fn is_visible(&self) -> bool {
        self.flags.contains(Flags::HOST_VISIBLE)
    }
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
    pub fn new(
        host: &vk::PhysicalDeviceMemoryProperties,
        profile: Profile,
        transport: Transport,
        native: bool,
    ) -> Self {
        let host_types = host.memory_types_as_slice();
        let heaps = host.memory_heaps_as_slice().iter().zip(0..);
        let heaps = heaps.map(|(heap, index)| Heap { size: heap.size, flags: heap.flags, host: index });
        let mut table = Self { types: Vec::new(), heaps: heaps.collect() };

        let backings = (0..).zip(host_types);
        let mut backings: Vec<_> =
            backings.filter_map(|(index, host_type)| Backing::new(index, host_type, transport)).collect();
        // The CPU reads host memory at every pull: cached first, and near the CPU before near the device.
        backings.sort_by_key(|backing| {
            (backing.dma, !backing.flags.contains(Flags::HOST_CACHED), backing.is_local())
        });
        // Memory that the application flushes is mapped, and so is the host's own.
        let coherent = (0..)
            .zip(host_types)
            .filter_map(|(index, host_type)| Backing::new(index, host_type, Transport::Mapped));
        let coherent =
            coherent.min_by_key(|backing| (!backing.flags.contains(Flags::HOST_CACHED), backing.is_local()));
        match profile {
            Profile::Paravirtual => {
                table.add_device_only(host_types);
                if backings.iter().any(Backing::is_visible) {
                    backings.retain(Backing::is_visible);
                }
                table.add_paravirtual(&backings, coherent);
            }
            Profile::Unified => {
                table.add_device_only(host_types);
                table.add_unified(&backings);
            }
            Profile::Mirror => table.add_mirrored(host_types, transport),
        }
        if let (true, Some(coherent)) = (native, coherent) {
            table.add(coherent.flags, coherent.heap, coherent.index, Kind::Native);
        }
        if profile != Profile::Mirror {
            // A type whose flags are a subset of another's comes first; the order is otherwise ours.
            table.types.sort_by_key(|t| t.flags.as_raw().count_ones());
        }
        table.types.truncate(vk::MAX_MEMORY_TYPES);
        table
    }

    fn add_device_only(&mut self, host_types: &[vk::MemoryType]) {
        let usable = |flags: Flags| !flags.intersects(UNSUPPORTED);
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
                self.add(flags, host_type.heap_index, index, Kind::DeviceOnly);
            }
        }
    }

    /// The visible types of `paravirtual`, best first. `coherent`: the host's best coherent type.
    fn add_paravirtual(&mut self, backings: &[Backing], coherent: Option<Backing>) {
        let emulated = Flags::HOST_VISIBLE | Flags::HOST_COHERENT;
        let explicit = Flags::HOST_VISIBLE | Flags::HOST_CACHED;
        let Some(best) = backings.first() else { return };
        if best.is_local() {
            // One memory for all. Three types of which none is a subset of another: cached first, then local,
            // and last the one that must be flushed.
            for backing in backings {
                let heap = self.guest_heap(backing.heap);
                self.add_emulated(emulated | Flags::HOST_CACHED, heap, backing);
            }
            self.add_emulated(emulated | Flags::DEVICE_LOCAL, best.heap, best);
            if let Some(coherent) = coherent {
                let local = coherent.flags & Flags::DEVICE_LOCAL;
                self.add(explicit | local, coherent.heap, coherent.index, Kind::Explicit);
            }
            return;
        }
        // Memory apart. All emulated memory is cached: that a type does not say so lets it stand before the
        // explicit one.
        for backing in backings {
            let local = backing.flags & Flags::DEVICE_LOCAL;
            self.add_emulated(emulated | local, backing.heap, backing);
        }
        if let Some(coherent) = coherent {
            let local = coherent.flags & Flags::DEVICE_LOCAL;
            self.add(explicit | local, coherent.heap, coherent.index, Kind::Explicit);
        }
        for backing in backings.iter().filter(|backing| !backing.is_local()) {
            self.add_emulated(emulated | Flags::HOST_CACHED, backing.heap, backing);
        }
    }

    /// The visible types of `unified`.
    fn add_unified(&mut self, backings: &[Backing]) {
        let emulated = Flags::HOST_VISIBLE | Flags::HOST_COHERENT | Flags::HOST_CACHED;
        for backing in backings {
            let local = backing.flags & Flags::DEVICE_LOCAL;
            self.add_emulated(emulated | local, backing.heap, backing);
        }
    }

    /// The types of `mirror`. What the host wants flushed, the application flushes with the host.
    fn add_mirrored(&mut self, host_types: &[vk::MemoryType], transport: Transport) {
        for (host_type, index) in host_types.iter().zip(0..) {
            let flags = host_type.property_flags;
            let coherent = flags.contains(Flags::HOST_VISIBLE | Flags::HOST_COHERENT);
            match Backing::new(index, host_type, transport).filter(|_| coherent) {
                Some(backing) => self.add_emulated(flags, backing.heap, &backing),
                None if flags.contains(Flags::HOST_VISIBLE) => {
                    self.add(flags, host_type.heap_index, index, Kind::Native);
                }
                None => self.add(flags, host_type.heap_index, index, Kind::DeviceOnly),
            }
        }
    }

    fn add_emulated(&mut self, flags: Flags, heap: u32, backing: &Backing) {
        let (host, dma) = (backing.index, backing.dma);
        self.types.push(MemoryType { flags, heap, host, kind: Kind::Emulated, dma });
    }

    fn add(&mut self, flags: Flags, heap: u32, host: u32, kind: Kind) {
        self.types.push(MemoryType { flags, heap, host, kind, dma: false });
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

    /// Whether some memory is copied by the device.
    pub fn needs_dma(&self) -> bool {
        self.types.iter().any(|t| t.dma)
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

    /// Translates a budget the host filled in, heap by heap. A heap beside the host's shares its use. Guest
    /// pages and twins, `guest` bytes, are system memory: they count in the first heap that is not local to
    /// the device, or where all memory is one, in that.
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
        let table = MemoryTypes::new(&lavapipe(), Profile::Paravirtual, Transport::Auto, true);
        let kinds: Vec<_> = table.types.iter().map(|t| t.kind).collect();
        assert_eq!(kinds, [Kind::DeviceOnly, Kind::Emulated, Kind::Emulated, Kind::Explicit, Kind::Native]);
        assert_eq!(table.bits_from_host(1), 0b11111);
        assert_eq!(table.bits_from_host(0), 0);
        let heaps = table.properties();
        assert_eq!(heaps.memory_heap_count, 2);
        assert_eq!(heaps.memory_heaps[1].size, 1 << 30);
    }

    /// The type an allocator takes that wants `required` and counts missing `preferred` flags; the first
    /// wins.
    fn chosen(table: &MemoryTypes, required: Flags, preferred: Flags) -> Kind {
        let fits = table.types.iter().filter(|t| t.flags.contains(required));
        fits.min_by_key(|t| (preferred & !t.flags).as_raw().count_ones()).unwrap().kind
    }

    #[test]
    fn a_program_that_never_flushes_finds_coherent_memory_whatever_it_prefers() {
        let table = MemoryTypes::new(&lavapipe(), Profile::Paravirtual, Transport::Auto, false);
        for preferred in [Flags::empty(), Flags::HOST_CACHED, Flags::DEVICE_LOCAL, Flags::HOST_COHERENT] {
            assert_eq!(chosen(&table, Flags::HOST_VISIBLE, preferred), Kind::Emulated, "{preferred:?}");
        }
        let table = MemoryTypes::new(&discrete(), Profile::Paravirtual, Transport::Auto, false);
        for preferred in [Flags::empty(), Flags::DEVICE_LOCAL, Flags::HOST_COHERENT] {
            assert_eq!(chosen(&table, Flags::HOST_VISIBLE, preferred), Kind::Emulated, "{preferred:?}");
        }
    }

    #[test]
    fn unified_memory_is_device_local_and_coherent() {
        let table = MemoryTypes::new(&lavapipe(), Profile::Unified, Transport::Auto, false);
        let all = Flags::DEVICE_LOCAL | Flags::HOST_VISIBLE | Flags::HOST_COHERENT | Flags::HOST_CACHED;
        let types: Vec<_> = table.types.iter().map(|t| (t.flags, t.kind)).collect();
        assert_eq!(types, [(Flags::DEVICE_LOCAL, Kind::DeviceOnly), (all, Kind::Emulated)]);
        assert_eq!(table.properties().memory_heap_count, 1);
    }

    #[test]
    fn guest_pages_count_in_the_heap_that_is_system_memory() {
        let used = |host: vk::PhysicalDeviceMemoryProperties, profile| {
            let table = MemoryTypes::new(&host, profile, Transport::Auto, false);
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
        let table = MemoryTypes::new(&discrete(), Profile::Paravirtual, Transport::Auto, false);
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
            let transports = [Transport::Auto, Transport::Mapped, Transport::Dma];
            let profiles = [Profile::Paravirtual, Profile::Unified];
            let all =
                transports.into_iter().flat_map(|transport| profiles.map(|profile| (transport, profile)));
            for ((transport, profile), native) in all.flat_map(|choice| [(choice, false), (choice, true)]) {
                let table = MemoryTypes::new(&host, profile, transport, native);
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
