//! The table of memory heaps and types, and what each resource may use of it.

use ash::vk;
use lockstep_harness::{Buffer, Gpu, Kind, paravirtual_under_test};

type Flags = vk::MemoryPropertyFlags;

fn types(gpu: &Gpu) -> &[vk::MemoryType] {
    gpu.memory_properties().memory_types_as_slice()
}

/// Returns the types whose flags contain `flags`, as bits.
fn bits_with(gpu: &Gpu, flags: Flags) -> u32 {
    (0..).zip(types(gpu)).filter(|(_, t)| t.property_flags.contains(flags)).map(|(n, _)| 1 << n).sum()
}

#[test]
fn there_is_a_coherent_type_and_a_device_local_type() {
    let gpu = Gpu::new();
    assert_ne!(bits_with(&gpu, Flags::HOST_VISIBLE | Flags::HOST_COHERENT), 0);
    assert_ne!(bits_with(&gpu, Flags::DEVICE_LOCAL), 0);
}

#[test]
fn lockstep_has_all_three_kinds() {
    if !paravirtual_under_test() {
        lockstep_harness::skip("only Lockstep promises three kinds of memory, in this profile");
        return;
    }
    let gpu = Gpu::new();
    for kind in [Kind::Coherent, Kind::Explicit, Kind::DeviceOnly] {
        let index = kind.find(&gpu, u32::MAX).unwrap_or_else(|| panic!("no type is {kind:?}"));
        let flags = types(&gpu)[usize::try_from(index).expect("small")].property_flags;
        let visible = flags.contains(Flags::HOST_VISIBLE);
        assert_eq!(visible, kind != Kind::DeviceOnly, "{kind:?} is {flags:?}");
        assert!(!visible || kind == Kind::Coherent || flags.contains(Flags::HOST_CACHED), "{flags:?}");
    }
    // For those who look for coherent memory that is fast to read.
    assert_ne!(bits_with(&gpu, Flags::HOST_VISIBLE | Flags::HOST_COHERENT | Flags::HOST_CACHED), 0);
}

#[test]
fn programs_that_take_the_first_visible_type_get_coherent_memory() {
    let gpu = Gpu::new();
    let first = types(&gpu).iter().find(|t| t.property_flags.contains(Flags::HOST_VISIBLE));
    let flags = first.expect("a visible type").property_flags;
    assert!(flags.contains(Flags::HOST_COHERENT), "{flags:?}");
}

#[test]
fn every_coherent_type_is_coherent() {
    let gpu = Gpu::new();
    let len = 9001;
    for index in
        (0..).zip(types(&gpu)).filter(|(_, t)| t.property_flags.contains(Flags::HOST_COHERENT)).map(|t| t.0)
    {
        let mut buffer = Buffer::unbound(&gpu, len);
        let needs = buffer.requirements();
        if needs.memory_type_bits & (1 << index) == 0 {
            continue;
        }
        let size = usize::try_from(needs.size).expect("small");
        let memory = lockstep_harness::Memory::of_type(&gpu, index, size, None).expect("vkAllocateMemory");
        buffer.bind(&memory, 0);
        let bytes = memory.map(0, len);
        bytes.write(0, &lockstep_harness::pattern(1, len));
        assert_eq!(buffer.all_as_device_sees(), lockstep_harness::pattern(1, len), "type {index}");
        gpu.run(|r| r.fill(&buffer, 40, 8000, 0x4D));
        assert_eq!(bytes.read(40, 8000), vec![0x4D; 8000], "type {index}");
    }
}

#[test]
fn flags_are_combined_as_the_specification_allows() {
    let gpu = Gpu::new();
    for (n, t) in types(&gpu).iter().enumerate() {
        let flags = t.property_flags;
        let visible = flags.contains(Flags::HOST_VISIBLE);
        assert!(
            visible || !flags.intersects(Flags::HOST_COHERENT | Flags::HOST_CACHED),
            "type {n}: {flags:?}"
        );
        let either = flags.intersects(Flags::HOST_COHERENT | Flags::HOST_CACHED);
        assert!(!visible || either, "type {n}: {flags:?} is neither coherent nor cached");
        let never = flags.intersects(Flags::LAZILY_ALLOCATED | Flags::PROTECTED);
        assert!(!visible || !never, "type {n}: {flags:?}");
    }
}

#[test]
fn a_type_with_fewer_flags_comes_before_one_with_more() {
    let gpu = Gpu::new();
    for (later, second) in types(&gpu).iter().enumerate() {
        for (earlier, first) in types(&gpu)[..later].iter().enumerate() {
            let (a, b) = (first.property_flags, second.property_flags);
            assert!(a == b || !a.contains(b), "type {later} ({b:?}) belongs before type {earlier} ({a:?})");
        }
    }
}

#[test]
fn device_local_types_lie_in_device_local_heaps_and_the_others_do_not() {
    let gpu = Gpu::new();
    let heaps = gpu.memory_properties().memory_heaps_as_slice();
    for (n, t) in types(&gpu).iter().enumerate() {
        let heap = heaps[usize::try_from(t.heap_index).expect("small")];
        let heap_is_local = heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL);
        assert_eq!(t.property_flags.contains(Flags::DEVICE_LOCAL), heap_is_local, "type {n}");
        assert_ne!(heap.size, 0, "type {n}");
    }
}

#[test]
fn both_queries_give_one_table() {
    let gpu = Gpu::new();
    let mut second = vk::PhysicalDeviceMemoryProperties2::default();
    // SAFETY: The physical device is of this instance.
    unsafe { gpu.instance().raw().get_physical_device_memory_properties2(gpu.physical(), &mut second) };
    let (first, second) = (gpu.memory_properties(), second.memory_properties);
    let flat = |table: &vk::PhysicalDeviceMemoryProperties| {
        let types: Vec<_> =
            table.memory_types_as_slice().iter().map(|t| (t.property_flags, t.heap_index)).collect();
        let heaps: Vec<_> = table.memory_heaps_as_slice().iter().map(|h| (h.flags, h.size)).collect();
        (types, heaps)
    };
    assert_eq!(flat(first), flat(&second));
}

#[test]
fn budgets_fit_their_heaps() {
    let gpu = Gpu::new();
    if !gpu.advertises(c"VK_EXT_memory_budget") {
        lockstep_harness::skip("VK_EXT_memory_budget is not advertised");
        return;
    }
    let _held = Buffer::mapped(&gpu, Kind::Coherent, 1 << 20);
    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let mut table = vk::PhysicalDeviceMemoryProperties2::default().push_next(&mut budget);
    // SAFETY: The physical device is of this instance and knows the extension.
    unsafe { gpu.instance().raw().get_physical_device_memory_properties2(gpu.physical(), &mut table) };
    let heaps = gpu.memory_properties().memory_heaps_as_slice();
    for (n, heap) in heaps.iter().enumerate() {
        let budget = budget.heap_budget[n];
        assert!(budget > 0 && budget <= heap.size, "heap {n}: budget {budget} of {}", heap.size);
    }
    for n in heaps.len()..vk::MAX_MEMORY_HEAPS {
        assert_eq!((budget.heap_budget[n], budget.heap_usage[n]), (0, 0), "heap {n} does not exist");
    }
}

/// Every single usage of buffers that needs no extension.
fn usages() -> Vec<vk::BufferUsageFlags> {
    let bits = (0..9).map(|bit| vk::BufferUsageFlags::from_raw(1 << bit));
    bits.chain([vk::BufferUsageFlags::from_raw(0x1FF)]).collect()
}

#[test]
fn every_buffer_may_be_coherent() {
    let gpu = Gpu::new();
    let coherent = bits_with(&gpu, Flags::HOST_VISIBLE | Flags::HOST_COHERENT);
    let local = bits_with(&gpu, Flags::DEVICE_LOCAL);
    let known = (1_u32 << types(&gpu).len()) - 1;
    for usage in usages() {
        for size in [1, 100, 4097, 1 << 24] {
            let bits = Buffer::unbound_for(&gpu, size, usage).requirements().memory_type_bits;
            assert_ne!(bits & coherent, 0, "{usage:?} of {size}: no coherent type in {bits:#b}");
            assert_ne!(bits & local, 0, "{usage:?} of {size}: no device-local type in {bits:#b}");
            assert_eq!(bits & !known, 0, "{usage:?} of {size}: unknown types in {bits:#b}");
        }
    }
}

#[test]
fn lockstep_offers_every_kind_to_every_buffer() {
    if !paravirtual_under_test() {
        lockstep_harness::skip("only Lockstep promises three kinds of memory");
        return;
    }
    let gpu = Gpu::new();
    for usage in usages() {
        let bits = Buffer::unbound_for(&gpu, 5000, usage).requirements().memory_type_bits;
        for kind in [Kind::Coherent, Kind::Explicit, Kind::DeviceOnly] {
            assert!(kind.find(&gpu, bits).is_some(), "{usage:?}: {kind:?} is not in {bits:#b}");
        }
    }
}

#[test]
fn all_queries_of_a_buffers_requirements_agree() {
    let gpu = Gpu::new();
    for usage in usages() {
        for size in [1, 4097, 1 << 20] {
            let buffer = Buffer::unbound_for(&gpu, size, usage);
            let first = buffer.requirements();
            let mut second = vk::MemoryRequirements2::default();
            let info = vk::BufferMemoryRequirementsInfo2::default().buffer(buffer.raw());
            // SAFETY: The buffer is alive.
            unsafe { gpu.raw().get_buffer_memory_requirements2(&info, &mut second) };
            let mut third = vk::MemoryRequirements2::default();
            let create = vk::BufferCreateInfo::default().size(size as u64).usage(usage);
            let info = vk::DeviceBufferMemoryRequirements::default().create_info(&create);
            // SAFETY: The device is of version 1.3 and `info` is whole.
            unsafe { gpu.raw().get_device_buffer_memory_requirements(&info, &mut third) };
            let flat = |r: vk::MemoryRequirements| (r.size, r.alignment, r.memory_type_bits);
            assert_eq!(flat(first), flat(second.memory_requirements), "{usage:?} of {size}");
            assert_eq!(flat(first), flat(third.memory_requirements), "{usage:?} of {size}");
        }
    }
}

fn image_info(format: vk::Format, tiling: vk::ImageTiling) -> vk::ImageCreateInfo<'static> {
    vk::ImageCreateInfo::default()
        .image_type(vk::ImageType::TYPE_2D)
        .format(format)
        .extent(vk::Extent3D { width: 33, height: 17, depth: 1 })
        .mip_levels(1)
        .array_layers(1)
        .samples(vk::SampleCountFlags::TYPE_1)
        .tiling(tiling)
        .usage(vk::ImageUsageFlags::TRANSFER_SRC | vk::ImageUsageFlags::TRANSFER_DST)
        .initial_layout(vk::ImageLayout::PREINITIALIZED)
}

/// Returns the requirements of an image by each of the three queries.
fn image_requirements(gpu: &Gpu, create: &vk::ImageCreateInfo<'_>) -> [vk::MemoryRequirements; 3] {
    let device = gpu.raw();
    // SAFETY: `create` is whole.
    let image = unsafe { device.create_image(create, None) }.expect("vkCreateImage");
    // SAFETY: The image is alive.
    let first = unsafe { device.get_image_memory_requirements(image) };
    let mut second = vk::MemoryRequirements2::default();
    let info = vk::ImageMemoryRequirementsInfo2::default().image(image);
    // SAFETY: The image is alive.
    unsafe { device.get_image_memory_requirements2(&info, &mut second) };
    let mut third = vk::MemoryRequirements2::default();
    let info = vk::DeviceImageMemoryRequirements::default().create_info(create);
    // SAFETY: The device is of version 1.3 and `info` is whole.
    unsafe { device.get_device_image_memory_requirements(&info, &mut third) };
    // SAFETY: Nothing uses the image.
    unsafe { device.destroy_image(image, None) };
    [first, second.memory_requirements, third.memory_requirements]
}

#[test]
fn every_linear_image_may_be_coherent_and_all_queries_agree() {
    let gpu = Gpu::new();
    let coherent = bits_with(&gpu, Flags::HOST_VISIBLE | Flags::HOST_COHERENT);
    let mut checked = 0;
    for raw in 1..=184 {
        let format = vk::Format::from_raw(raw);
        let create = image_info(format, vk::ImageTiling::LINEAR);
        let (kind, tiling, usage) = (create.image_type, create.tiling, create.usage);
        let flags = vk::ImageCreateFlags::empty();
        // SAFETY: The physical device is of this instance.
        let supported = unsafe {
            let instance = gpu.instance().raw();
            instance.get_physical_device_image_format_properties(
                gpu.physical(),
                format,
                kind,
                tiling,
                usage,
                flags,
            )
        };
        if supported.is_err() {
            continue;
        }
        checked += 1;
        let all = image_requirements(&gpu, &create);
        let flat = all.map(|r| (r.size, r.alignment, r.memory_type_bits));
        assert!(flat[0] == flat[1] && flat[1] == flat[2], "{format:?}: {flat:?}");
        assert_ne!(all[0].memory_type_bits & coherent, 0, "{format:?}");
    }
    assert!(checked > 0, "no format can be linear");
}

#[test]
fn all_queries_of_an_optimal_images_requirements_agree() {
    let gpu = Gpu::new();
    let mut create = image_info(vk::Format::R8G8B8A8_UNORM, vk::ImageTiling::OPTIMAL);
    create.initial_layout = vk::ImageLayout::UNDEFINED;
    let all = image_requirements(&gpu, &create).map(|r| (r.size, r.alignment, r.memory_type_bits));
    assert!(all[0] == all[1] && all[1] == all[2], "{all:?}");
    assert_ne!(all[0].2 & bits_with(&gpu, Flags::DEVICE_LOCAL), 0);
}

#[test]
fn memory_of_every_type_can_be_allocated() {
    let gpu = Gpu::new();
    for (index, t) in (0..).zip(types(&gpu)) {
        let memory = lockstep_harness::Memory::of_type(&gpu, index, 12_345, None).expect("vkAllocateMemory");
        if t.property_flags.contains(Flags::HOST_VISIBLE) {
            let bytes = memory.map_whole();
            bytes.fill(0, 12_345, 0xAB);
            assert_eq!(bytes.read_all(), vec![0xAB; 12_345], "type {index}");
        }
    }
}
