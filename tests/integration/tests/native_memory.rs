//! Memory that is the host's own: the type `LOCKSTEP_NATIVE_TYPE` adds, and memory shared with others.

use ash::vk;
use lockstep_harness::{
    Buffer, Gpu, Kind, MappedBytes, Memory, PAGE, loader, lockstep_under_test, paravirtual_under_test,
    pattern, process, skip,
};

type Flags = vk::MemoryPropertyFlags;

const LEN: usize = 3 * PAGE + 5;

/// Asserts that bytes go both ways through a map of memory with a buffer on it.
fn assert_coherent(gpu: &Gpu, buffer: &Buffer, bytes: MappedBytes) {
    bytes.write(0, &pattern(1, LEN));
    assert_eq!(buffer.all_as_device_sees(), pattern(1, LEN));
    gpu.run(|r| r.fill(buffer, 4, PAGE, 0x5C));
    assert_eq!(bytes.read(4, PAGE), vec![0x5C; PAGE]);
    assert_eq!(bytes.read(4 + PAGE, 9), pattern(1, LEN)[4 + PAGE..][..9]);
}

#[test]
fn the_native_type_comes_last_and_is_coherent_without_tracking() {
    if !paravirtual_under_test() {
        skip("the variable is Lockstep's, and in this profile the type comes last");
        return;
    }
    let without = Gpu::new().memory_properties().memory_type_count;
    loader::set("LOCKSTEP_NATIVE_TYPE", "1");
    let gpu = Gpu::new();
    let types = gpu.memory_properties().memory_types_as_slice();
    let last = u32::try_from(types.len() - 1).expect("few");
    assert_eq!(last, without);
    assert!(types[types.len() - 1].property_flags.contains(Flags::HOST_VISIBLE | Flags::HOST_COHERENT));

    let mut buffer = Buffer::unbound(&gpu, LEN);
    let needs = buffer.requirements();
    assert_ne!(needs.memory_type_bits & (1 << last), 0);
    let size = usize::try_from(needs.size).expect("small");
    let memory = Memory::of_type(&gpu, last, size, None).expect("vkAllocateMemory");
    buffer.bind(&memory, 0);
    let bytes = memory.map(0, LEN);
    assert_eq!(process::userfaultfds(), 0, "mapping the host's own memory tracks nothing");
    assert_coherent(&gpu, &buffer, bytes);
}

/// Has the device copy `LEN` bytes and waits.
fn copy(gpu: &Gpu, from: vk::Buffer, to: vk::Buffer) {
    let region = [vk::BufferCopy { src_offset: 0, dst_offset: 0, size: LEN as u64 }];
    // SAFETY: Both buffers are of this device and have the length.
    gpu.run(|r| unsafe { gpu.raw().cmd_copy_buffer(r.raw(), from, to, &region) });
}

#[test]
fn imported_host_memory_is_coherent_through_the_applications_own_pointer() {
    let name = ash::ext::external_memory_host::NAME;
    if !Gpu::new().advertises(name) {
        skip("the host imports no host memory");
        return;
    }
    let gpu = Gpu::builder().device_extension(name).build();
    let size = 16 * PAGE;
    let layout = std::alloc::Layout::from_size_align(size, 64 * 1024).expect("a layout");
    // SAFETY: The layout has a size; the memory is leaked, since the device keeps using it.
    let pointer = unsafe { std::alloc::alloc_zeroed(layout) };
    let handle_type = vk::ExternalMemoryHandleTypeFlags::HOST_ALLOCATION_EXT;
    let ext = ash::ext::external_memory_host::Device::new(gpu.instance().raw(), gpu.raw());
    let mut properties = vk::MemoryHostPointerPropertiesEXT::default();
    let query = ext.fp().get_memory_host_pointer_properties_ext;
    // SAFETY: The pointer is to memory of this process.
    unsafe { query(gpu.raw().handle(), handle_type, pointer.cast(), &mut properties) }
        .result()
        .expect("vkGetMemoryHostPointerPropertiesEXT");

    let types = gpu.memory_properties().memory_types_as_slice();
    for index in (0..32).filter(|index| properties.memory_type_bits >> index & 1 != 0) {
        let visible = types[index].property_flags.contains(Flags::HOST_VISIBLE | Flags::HOST_COHERENT);
        if !visible {
            continue;
        }
        let mut import = vk::ImportMemoryHostPointerInfoEXT::default()
            .handle_type(handle_type)
            .host_pointer(pointer.cast());
        let info = vk::MemoryAllocateInfo::default()
            .allocation_size(size as u64)
            .memory_type_index(u32::try_from(index).expect("small"))
            .push_next(&mut import);
        let mut external = vk::ExternalMemoryBufferCreateInfo::default().handle_types(handle_type);
        let usage = vk::BufferUsageFlags::TRANSFER_SRC | vk::BufferUsageFlags::TRANSFER_DST;
        let buffer_info =
            vk::BufferCreateInfo::default().size(LEN as u64).usage(usage).push_next(&mut external);
        let device = gpu.raw();
        // SAFETY: The chain lives for the call.
        let buffer = unsafe { device.create_buffer(&buffer_info, None) }.expect("vkCreateBuffer");
        // SAFETY: The memory is of a type that the driver named.
        let memory = unsafe { device.allocate_memory(&info, None) }.expect("vkAllocateMemory");
        // SAFETY: Neither is bound yet.
        unsafe { device.bind_buffer_memory(buffer, memory, 0) }.expect("vkBindBufferMemory");
        let flags = vk::MemoryMapFlags::empty();
        // SAFETY: The memory is visible and not mapped.
        let mapped = unsafe { device.map_memory(memory, 0, vk::WHOLE_SIZE, flags) }.expect("vkMapMemory");
        let own = MappedBytes::new(pointer.cast(), LEN);
        own.write(0, &pattern(7, LEN));
        assert_eq!(
            MappedBytes::new(mapped, LEN).read_all(),
            pattern(7, LEN),
            "both pointers show one memory"
        );
        let target = Buffer::poisoned(&gpu, LEN);
        copy(&gpu, buffer, target.raw());
        assert!(target.as_device_sees(0, LEN) == pattern(7, LEN), "type {index}: what the CPU wrote");
        let source = Buffer::coherent_with(&gpu, &pattern(9, LEN));
        copy(&gpu, source.raw(), buffer);
        assert!(own.read_all() == pattern(9, LEN), "type {index}: what the device wrote");
        // SAFETY: The device is idle.
        unsafe { device.destroy_buffer(buffer, None) };
        // SAFETY: Nothing is bound to it any more.
        unsafe { device.free_memory(memory, None) };
    }
}

#[test]
fn mapped_memory_cannot_be_imported_as_memory_of_the_host() {
    let name = ash::ext::external_memory_host::NAME;
    if !lockstep_under_test() || !Gpu::new().advertises(name) {
        skip("only Lockstep's pages have a copy on the host, and not every host imports memory");
        return;
    }
    let gpu = Gpu::builder().device_extension(name).build();
    let other = Gpu::builder().device_extension(name).build();
    let kinds: &[_] =
        if paravirtual_under_test() { &[Kind::Coherent, Kind::Explicit] } else { &[Kind::Coherent] };
    for &kind in kinds {
        let size = 32 * PAGE;
        let memory = Memory::new(&gpu, kind, size);
        let inside = memory.map_whole().at(0).wrapping_add(16 * PAGE).cast();
        for gpu in [&gpu, &other] {
            let handle_type = vk::ExternalMemoryHandleTypeFlags::HOST_ALLOCATION_EXT;
            let ext = ash::ext::external_memory_host::Device::new(gpu.instance().raw(), gpu.raw());
            let mut properties = vk::MemoryHostPointerPropertiesEXT::default();
            let query = ext.fp().get_memory_host_pointer_properties_ext;
            // SAFETY: The pointer is to memory of this process.
            let result = unsafe { query(gpu.raw().handle(), handle_type, inside, &mut properties) };
            assert_eq!(result, vk::Result::ERROR_INVALID_EXTERNAL_HANDLE);

            let mut import =
                vk::ImportMemoryHostPointerInfoEXT::default().handle_type(handle_type).host_pointer(inside);
            let info = vk::MemoryAllocateInfo::default()
                .allocation_size(16 * PAGE as u64)
                .memory_type_index(kind.find(gpu, u32::MAX).expect("a type of the kind"))
                .push_next(&mut import);
            // SAFETY: The chain lives for the call.
            let result = unsafe { gpu.raw().allocate_memory(&info, None) };
            assert_eq!(result.err(), Some(vk::Result::ERROR_INVALID_EXTERNAL_HANDLE));
        }
    }
}
