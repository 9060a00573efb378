//! Device memory, buffers on it, and the bytes the processor sees of it.

use crate::{Gpu, Recorder};
use ash::{khr, vk};
use std::ffi::c_void;
use std::sync::Arc;

/// What an application wants of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Mappable, and coherent without a word from the application.
    Coherent,
    /// Mappable, and synchronised by flush and invalidate.
    Explicit,
    /// Not mappable. Where every type is mappable (native lavapipe), any type.
    DeviceOnly,
}

impl Kind {
    fn fits(self, flags: vk::MemoryPropertyFlags) -> bool {
        let visible = flags.contains(vk::MemoryPropertyFlags::HOST_VISIBLE);
        let coherent = flags.contains(vk::MemoryPropertyFlags::HOST_COHERENT);
        match self {
            Self::Coherent => visible && coherent,
            Self::Explicit => visible && !coherent,
            Self::DeviceOnly => !visible,
        }
    }

    /// Returns the first memory type of this kind among the types `bits` allows.
    pub fn find(self, gpu: &Gpu, bits: u32) -> Option<u32> {
        let types = gpu.memory_properties().memory_types_as_slice();
        let allowed = || (0..).zip(types).filter(|(index, _)| bits & (1 << index) != 0);
        let found = allowed().find(|(_, t)| self.fits(t.property_flags));
        let any = || allowed().next().filter(|_| self == Self::DeviceOnly);
        found.or_else(any).map(|(index, _)| index)
    }
}

/// An allocation of device memory.
#[derive(Debug)]
pub struct Memory {
    gpu: Gpu,
    raw: vk::DeviceMemory,
    size: usize,
}

impl Memory {
    /// Allocates `size` bytes of a kind.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses, or has no such type.
    pub fn new(gpu: &Gpu, kind: Kind, size: usize) -> Arc<Self> {
        Self::try_new(gpu, kind, size).expect("vkAllocateMemory")
    }

    /// Allocates `size` bytes of a kind.
    ///
    /// # Errors
    ///
    /// What vkAllocateMemory returns.
    ///
    /// # Panics
    ///
    /// If there is no type of this kind.
    pub fn try_new(gpu: &Gpu, kind: Kind, size: usize) -> Result<Arc<Self>, vk::Result> {
        let index = kind.find(gpu, u32::MAX).unwrap_or_else(|| panic!("no memory type is {kind:?}"));
        Self::of_type(gpu, index, size, None)
    }

    /// Allocates `size` bytes of a type, dedicated to a buffer or not.
    ///
    /// # Errors
    ///
    /// What vkAllocateMemory returns.
    pub fn of_type(
        gpu: &Gpu,
        index: u32,
        size: usize,
        dedicated: Option<vk::Buffer>,
    ) -> Result<Arc<Self>, vk::Result> {
        let mut info =
            vk::MemoryAllocateInfo::default().allocation_size(size as u64).memory_type_index(index);
        let mut dedication = vk::MemoryDedicatedAllocateInfo::default();
        if let Some(buffer) = dedicated {
            dedication = dedication.buffer(buffer);
            info = info.push_next(&mut dedication);
        }
        // SAFETY: `info` is whole and lives through the call.
        let raw = unsafe { gpu.raw().allocate_memory(&info, None) }?;
        Ok(Arc::new(Self { gpu: gpu.clone(), raw, size }))
    }

    /// Allocates `size` coherent bytes that shaders may address, see [`crate::GpuBuilder::device_address`].
    ///
    /// # Panics
    ///
    /// If Vulkan refuses, or has no such type.
    pub fn addressable(gpu: &Gpu, size: usize) -> Arc<Self> {
        let index = Kind::Coherent.find(gpu, u32::MAX).expect("a coherent type");
        let mut flags = vk::MemoryAllocateFlagsInfo::default().flags(vk::MemoryAllocateFlags::DEVICE_ADDRESS);
        let info = vk::MemoryAllocateInfo::default()
            .allocation_size(size as u64)
            .memory_type_index(index)
            .push_next(&mut flags);
        // SAFETY: `info` is whole and lives through the call.
        let raw = unsafe { gpu.raw().allocate_memory(&info, None) }.expect("vkAllocateMemory");
        Arc::new(Self { gpu: gpu.clone(), raw, size })
    }

    /// Returns Vulkan's handle.
    pub fn raw(&self) -> vk::DeviceMemory {
        self.raw
    }

    /// Returns the number of bytes asked for.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Maps `len` bytes from `offset` on.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn map(&self, offset: usize, len: usize) -> MappedBytes {
        let flags = vk::MemoryMapFlags::empty();
        // SAFETY: By the harness's contract the memory is mappable, unmapped and has this range.
        let address = unsafe { self.gpu.raw().map_memory(self.raw, offset as u64, len as u64, flags) };
        MappedBytes { start: address.expect("vkMapMemory").cast(), len }
    }

    /// Maps everything, by VK_WHOLE_SIZE.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn map_whole(&self) -> MappedBytes {
        let flags = vk::MemoryMapFlags::empty();
        // SAFETY: By the harness's contract the memory is mappable and unmapped.
        let address = unsafe { self.gpu.raw().map_memory(self.raw, 0, vk::WHOLE_SIZE, flags) };
        MappedBytes { start: address.expect("vkMapMemory").cast(), len: self.size }
    }

    /// Maps `len` bytes from `offset` on at an address, see [`crate::GpuBuilder::placed`].
    ///
    /// # Errors
    ///
    /// What vkMapMemory2 returns.
    ///
    /// # Panics
    ///
    /// If the memory is mapped somewhere else.
    pub fn map_placed(&self, offset: usize, len: usize, at: *mut u8) -> Result<MappedBytes, vk::Result> {
        let mut placed = vk::MemoryMapPlacedInfoEXT { p_placed_address: at.cast(), ..Default::default() };
        let info = vk::MemoryMapInfoKHR::default()
            .flags(vk::MemoryMapFlags::PLACED_EXT)
            .memory(self.raw)
            .offset(offset as u64)
            .size(len as u64)
            .push_next(&mut placed);
        let map = self.map_memory2().fp().map_memory2_khr;
        let mut address = std::ptr::null_mut();
        // SAFETY: By the harness's contract the memory is mappable, unmapped and has this range, and the
        // addresses are the test's.
        unsafe { map(self.gpu.raw().handle(), &raw const info, &raw mut address) }.result()?;
        assert_eq!(address.cast(), at, "mapped where it was asked for");
        Ok(MappedBytes { start: at, len })
    }

    fn map_memory2(&self) -> khr::map_memory2::Device {
        khr::map_memory2::Device::new(self.gpu.instance().raw(), self.gpu.raw())
    }

    /// Unmaps and keeps others out of the addresses.
    ///
    /// # Panics
    ///
    /// If Vulkan fails.
    pub fn unmap_reserve(&self) {
        self.try_unmap_reserve().expect("vkUnmapMemory2");
    }

    /// Unmaps and keeps others out of the addresses.
    ///
    /// # Errors
    ///
    /// What vkUnmapMemory2 returns; the memory is mapped as before.
    pub fn try_unmap_reserve(&self) -> Result<(), vk::Result> {
        let info =
            vk::MemoryUnmapInfoKHR::default().flags(vk::MemoryUnmapFlagsKHR::RESERVE_EXT).memory(self.raw);
        let unmap = self.map_memory2().fp().unmap_memory2_khr;
        // SAFETY: By the harness's contract the memory is mapped.
        unsafe { unmap(self.gpu.raw().handle(), &raw const info) }.result()
    }

    /// Unmaps.
    pub fn unmap(&self) {
        // SAFETY: By the harness's contract the memory is mapped.
        unsafe { self.gpu.raw().unmap_memory(self.raw) };
    }

    fn range(&self, (offset, len): (usize, usize)) -> vk::MappedMemoryRange<'static> {
        let size = if len == usize::MAX { vk::WHOLE_SIZE } else { len as u64 };
        vk::MappedMemoryRange::default().memory(self.raw).offset(offset as u64).size(size)
    }

    /// Flushes ranges of (offset, length), where `usize::MAX` stands for VK_WHOLE_SIZE.
    ///
    /// # Panics
    ///
    /// If Vulkan fails.
    pub fn flush(&self, ranges: &[(usize, usize)]) {
        let ranges: Vec<_> = ranges.iter().map(|&range| self.range(range)).collect();
        // SAFETY: By the harness's contract the ranges are mapped and whole atoms.
        unsafe { self.gpu.raw().flush_mapped_memory_ranges(&ranges) }.expect("vkFlushMappedMemoryRanges");
    }

    /// Invalidates ranges of (offset, length), where `usize::MAX` stands for VK_WHOLE_SIZE.
    ///
    /// # Panics
    ///
    /// If Vulkan fails.
    pub fn invalidate(&self, ranges: &[(usize, usize)]) {
        let ranges: Vec<_> = ranges.iter().map(|&range| self.range(range)).collect();
        // SAFETY: By the harness's contract the ranges are mapped and whole atoms.
        unsafe { self.gpu.raw().invalidate_mapped_memory_ranges(&ranges) }
            .expect("vkInvalidateMappedMemoryRanges");
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: By the harness's contract the device no longer uses it, nor buffers on it.
            unsafe { self.gpu.raw().free_memory(self.raw, None) };
        }
    }
}

/// Mapped bytes, seen by raw pointer: the device or another thread may write some of them at any time.
///
/// Every method touches exactly the bytes it names.
#[derive(Clone, Copy, Debug)]
pub struct MappedBytes {
    start: *mut u8,
    len: usize,
}

// SAFETY: A pointer and a length; no access goes through a reference.
unsafe impl Send for MappedBytes {}
// SAFETY: As for `Send`; who may touch which byte when is the tests' subject.
unsafe impl Sync for MappedBytes {}

impl MappedBytes {
    /// Looks at `len` bytes at `start`, which are and stay mapped while anything is done with the result.
    pub fn new(start: *mut c_void, len: usize) -> Self {
        Self { start: start.cast(), len }
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the address of a byte, for system calls.
    ///
    /// # Panics
    ///
    /// If it lies outside.
    pub fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.len, "{offset} of {}", self.len);
        // SAFETY: Inside the mapping, or one past its end.
        unsafe { self.start.add(offset) }
    }

    fn span(&self, offset: usize, len: usize) -> *mut u8 {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(inside, "{offset}+{len} of {}", self.len);
        self.at(offset)
    }

    /// Returns a part of the bytes.
    pub fn part(&self, offset: usize, len: usize) -> Self {
        Self { start: self.span(offset, len), len }
    }

    /// Writes bytes.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let to = self.span(offset, bytes.len());
        // SAFETY: `to` is mapped for as many bytes, and foreign to every Rust object.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    /// Writes one byte by one store.
    pub fn store(&self, offset: usize, byte: u8) {
        let to = self.span(offset, 1);
        // SAFETY: `to` is mapped.
        unsafe { to.write_volatile(byte) };
    }

    /// Writes bytes one by one.
    pub fn store_each(&self, bytes: impl IntoIterator<Item = (usize, u8)>) {
        for (offset, byte) in bytes {
            self.store(offset, byte);
        }
    }

    /// Makes `len` bytes equal.
    pub fn fill(&self, offset: usize, len: usize, byte: u8) {
        let to = self.span(offset, len);
        // SAFETY: `to` is mapped for `len` bytes, and foreign to every Rust object.
        unsafe { to.write_bytes(byte, len) };
    }

    /// Reads one byte by one load.
    pub fn load(&self, offset: usize) -> u8 {
        let from = self.span(offset, 1);
        // SAFETY: `from` is mapped.
        unsafe { from.read_volatile() }
    }

    /// Reads bytes.
    pub fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.read_into(offset, &mut bytes);
        bytes
    }

    /// Reads bytes into `bytes`, as many as it has.
    pub fn read_into(&self, offset: usize, bytes: &mut [u8]) {
        let from = self.span(offset, bytes.len());
        // SAFETY: `from` is mapped for as many bytes, and foreign to every Rust object.
        unsafe { std::ptr::copy_nonoverlapping(from.cast_const(), bytes.as_mut_ptr(), bytes.len()) };
    }

    /// Reads all bytes.
    pub fn read_all(&self) -> Vec<u8> {
        self.read(0, self.len)
    }
}

/// A buffer for every use, on memory.
#[derive(Debug)]
pub struct Buffer {
    gpu: Gpu,
    raw: vk::Buffer,
    len: usize,
    memory: Option<Arc<Memory>>,
    mapped: Option<MappedBytes>,
}

/// Every use the tests make of a buffer.
pub const ALL_USES: vk::BufferUsageFlags = vk::BufferUsageFlags::from_raw(
    vk::BufferUsageFlags::TRANSFER_SRC.as_raw()
        | vk::BufferUsageFlags::TRANSFER_DST.as_raw()
        | vk::BufferUsageFlags::STORAGE_BUFFER.as_raw()
        | vk::BufferUsageFlags::UNIFORM_BUFFER.as_raw(),
);

impl Buffer {
    /// Makes a buffer of `len` bytes without memory, for certain uses.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn unbound_for(gpu: &Gpu, len: usize, usage: vk::BufferUsageFlags) -> Self {
        let info = vk::BufferCreateInfo::default().size(len as u64).usage(usage);
        // SAFETY: `info` is whole and lives through the call.
        let raw = unsafe { gpu.raw().create_buffer(&info, None) }.expect("vkCreateBuffer");
        Self { gpu: gpu.clone(), raw, len, memory: None, mapped: None }
    }

    /// Makes a buffer of `len` bytes without memory.
    pub fn unbound(gpu: &Gpu, len: usize) -> Self {
        Self::unbound_for(gpu, len, ALL_USES)
    }

    /// Makes a buffer on an allocation of its own, not mapped.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn unmapped(gpu: &Gpu, kind: Kind, len: usize) -> Self {
        Self::unmapped_for(gpu, kind, len, ALL_USES)
    }

    /// Makes a buffer for certain uses on an allocation of its own, not mapped.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn unmapped_for(gpu: &Gpu, kind: Kind, len: usize, usage: vk::BufferUsageFlags) -> Self {
        let mut buffer = Self::unbound_for(gpu, len, usage);
        let needs = buffer.requirements();
        let index = kind.find(gpu, needs.memory_type_bits).unwrap_or_else(|| panic!("no type is {kind:?}"));
        let size = usize::try_from(needs.size).expect("a 64-bit machine");
        buffer.bind(&Memory::of_type(gpu, index, size, None).expect("vkAllocateMemory"), 0);
        buffer
    }

    /// Makes a buffer on an allocation of its own, mapped from now on.
    pub fn mapped(gpu: &Gpu, kind: Kind, len: usize) -> Self {
        Self::mapped_for(gpu, kind, len, ALL_USES)
    }

    /// Makes a buffer for certain uses on an allocation of its own, mapped from now on.
    pub fn mapped_for(gpu: &Gpu, kind: Kind, len: usize, usage: vk::BufferUsageFlags) -> Self {
        let mut buffer = Self::unmapped_for(gpu, kind, len, usage);
        buffer.mapped = Some(buffer.memory().map_whole().part(0, len));
        buffer
    }

    /// Makes a mapped coherent buffer whose bytes are `bytes`, all written by the processor.
    pub fn coherent_with(gpu: &Gpu, bytes: &[u8]) -> Self {
        let buffer = Self::mapped(gpu, Kind::Coherent, bytes.len());
        buffer.bytes().write(0, bytes);
        buffer
    }

    /// Makes a device-only buffer all of whose bytes are 0xDD.
    pub fn poisoned(gpu: &Gpu, len: usize) -> Self {
        let buffer = Self::unmapped(gpu, Kind::DeviceOnly, len.next_multiple_of(4));
        gpu.run(|r| r.fill(&buffer, 0, len.next_multiple_of(4), 0xDD));
        buffer
    }

    /// Binds memory at an offset.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn bind(&mut self, memory: &Arc<Memory>, offset: usize) {
        // SAFETY: By the harness's contract the buffer has no memory yet and the offset suits it.
        unsafe { self.gpu.raw().bind_buffer_memory(self.raw, memory.raw(), offset as u64) }
            .expect("vkBindBufferMemory");
        self.memory = Some(Arc::clone(memory));
    }

    /// Returns what the buffer needs of memory.
    pub fn requirements(&self) -> vk::MemoryRequirements {
        // SAFETY: The buffer is alive.
        unsafe { self.gpu.raw().get_buffer_memory_requirements(self.raw) }
    }

    /// Returns Vulkan's handle.
    pub fn raw(&self) -> vk::Buffer {
        self.raw
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the buffer has no bytes; Vulkan knows no such buffers.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the memory the buffer is bound to.
    ///
    /// # Panics
    ///
    /// If it is bound to none.
    pub fn memory(&self) -> &Arc<Memory> {
        self.memory.as_ref().expect("a bound buffer")
    }

    /// Returns the mapped bytes.
    ///
    /// # Panics
    ///
    /// If the buffer was not made by [`Buffer::mapped`].
    pub fn bytes(&self) -> MappedBytes {
        self.mapped.expect("a mapped buffer")
    }

    /// Has the device copy bytes elsewhere and returns what it saw.
    pub fn as_device_sees(&self, offset: usize, len: usize) -> Vec<u8> {
        let copy = Self::mapped(&self.gpu, Kind::Coherent, len);
        copy.bytes().fill(0, len, 0xA5);
        self.gpu.run(|r: &Recorder<'_>| r.copy(self, offset, &copy, 0, len));
        copy.bytes().read_all()
    }

    /// Has the device copy all bytes elsewhere and returns what it saw.
    pub fn all_as_device_sees(&self) -> Vec<u8> {
        self.as_device_sees(0, self.len)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: By the harness's contract the device no longer uses the buffer.
            unsafe { self.gpu.raw().destroy_buffer(self.raw, None) };
        }
    }
}
