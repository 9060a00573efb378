//! Memory is mapped where the application wants it, unmapped with its addresses kept, and coherent all the
//! while.

use ash::vk;
use lockstep_harness::{
    Buffer, Gpu, Kind, MappedBytes, Memory, PAGE, loader, lockstep_under_test, pattern, process, skip,
    validation,
};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use std::sync::Arc;

/// Address space of the test's own, in whole pages; closed, and given back at the end.
struct Reserved {
    start: *mut u8,
    len: usize,
}

impl Reserved {
    fn new(pages: usize) -> Self {
        let len = pages * PAGE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: A new mapping where the kernel finds room.
        let start = unsafe { libc::mmap(null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        Self { start: start.cast(), len }
    }

    fn page(&self, page: usize) -> *mut u8 {
        assert!(page * PAGE < self.len);
        self.start.wrapping_add(page * PAGE)
    }

    /// What /proc/self/maps says of the pages, one line of protections a page.
    fn protections(&self) -> Vec<Option<String>> {
        (0..self.len / PAGE).map(|page| protection(self.page(page))).collect()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // SAFETY: Nobody uses it any more.
        let answer = unsafe { libc::munmap(self.start.cast(), self.len) };
        assert_eq!(answer, 0);
    }
}

/// The protection of the page at an address, if anything is mapped there.
fn protection(address: *mut u8) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc/self/maps");
    let hex = |text| usize::from_str_radix(text, 16).expect("an address");
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        (hex(start)..hex(end)).contains(&address.addr()).then(|| rest[..4].to_owned())
    })
}

fn closed(pages: usize) -> Vec<Option<String>> {
    vec![Some("---p".to_owned()); pages]
}

/// A device that can place, unless the driver under test is none of ours.
fn gpu() -> Option<Gpu> {
    if !lockstep_under_test() {
        skip("the host's own driver may not place memory");
        return None;
    }
    validation::is_older_than_map_memory2();
    Some(Gpu::builder().placed().build())
}

/// A buffer on coherent memory of its own that is not mapped.
fn buffer(gpu: &Gpu, len: usize) -> Buffer {
    Buffer::unmapped(gpu, Kind::Coherent, len)
}

/// Asserts that bytes go both ways between a whole buffer and a map of all its memory.
fn assert_coherent(gpu: &Gpu, buffer: &Buffer, bytes: MappedBytes, seed: u64) {
    let len = buffer.len();
    bytes.write(0, &pattern(seed, len));
    assert!(buffer.all_as_device_sees() == pattern(seed, len), "what the processor wrote");
    let source = Buffer::coherent_with(gpu, &pattern(seed + 1, len));
    gpu.run(|r| r.copy(&source, 0, buffer, 0, len));
    assert!(bytes.read(0, len) == pattern(seed + 1, len), "what the device wrote");
    // Both in one page, and each only what it wrote.
    let mut expected = pattern(seed + 1, len);
    for round in 0..4 {
        bytes.store(round * 5, 0x70);
        expected[round * 5] = 0x70;
        gpu.run(|r| r.fill(buffer, 64 + 4 * round, 4, 0x1D));
        expected[64 + 4 * round..][..4].fill(0x1D);
        assert!(bytes.read(0, len) == expected, "round {round}");
        assert!(buffer.all_as_device_sees() == expected, "round {round}");
    }
}

#[test]
fn the_extension_is_had_on_every_host_with_ranges_and_reservations() {
    let Some(gpu) = gpu() else { return };
    assert!(gpu.advertises(ash::ext::map_memory_placed::NAME) && gpu.advertises(ash::khr::map_memory2::NAME));
    let mut features = vk::PhysicalDeviceMapMemoryPlacedFeaturesEXT::default();
    let mut all = vk::PhysicalDeviceFeatures2::default().push_next(&mut features);
    let instance = gpu.instance().raw();
    // SAFETY: The chain is whole.
    unsafe { instance.get_physical_device_features2(gpu.physical(), &mut all) };
    let found = [features.memory_map_placed, features.memory_map_range_placed, features.memory_unmap_reserve];
    assert_eq!(found, [vk::TRUE; 3]);
    let mut properties = vk::PhysicalDeviceMapMemoryPlacedPropertiesEXT::default();
    let mut all = vk::PhysicalDeviceProperties2::default().push_next(&mut properties);
    // SAFETY: The chain is whole.
    unsafe { instance.get_physical_device_properties2(gpu.physical(), &mut all) };
    assert_eq!(properties.min_placed_memory_map_alignment, PAGE as u64);
}

#[test]
fn bytes_go_both_ways_where_the_application_put_them() {
    let Some(gpu) = gpu() else { return };
    let (buffer, place) = (buffer(&gpu, 3 * PAGE), Reserved::new(5));
    let bytes = buffer.memory().map_placed(0, buffer.memory().size(), place.page(1)).expect("vkMapMemory2");
    assert_coherent(&gpu, &buffer, bytes, 1);
    assert_eq!(protection(place.page(0)).as_deref(), Some("---p"));
    assert_eq!(protection(place.page(4)).as_deref(), Some("---p"));
}

#[test]
fn a_range_shows_its_bytes_and_no_others() {
    let Some(gpu) = gpu() else { return };
    let (buffer, place) = (buffer(&gpu, 8 * PAGE), Reserved::new(8));
    let all = buffer.memory().map(0, 8 * PAGE);
    all.write(0, &pattern(3, 8 * PAGE));
    buffer.memory().unmap();
    let part = buffer.memory().map_placed(2 * PAGE, 3 * PAGE, place.page(4)).expect("vkMapMemory2");
    assert!(part.read_all() == pattern(3, 8 * PAGE)[2 * PAGE..5 * PAGE]);
    part.write(PAGE, &pattern(4, PAGE));
    gpu.run(|r| r.fill(&buffer, 4 * PAGE, 2 * PAGE, 0x33));

    let mut expected = pattern(3, 8 * PAGE);
    expected[3 * PAGE..4 * PAGE].copy_from_slice(&pattern(4, PAGE));
    expected[4 * PAGE..6 * PAGE].fill(0x33);
    assert!(buffer.all_as_device_sees() == expected);
    assert!(part.read_all() == expected[2 * PAGE..5 * PAGE]);
    let others: Vec<_> =
        place.protections().into_iter().enumerate().filter(|(page, _)| !(4..7).contains(page)).collect();
    assert!(others.iter().all(|(_, found)| found.as_deref() == Some("---p")), "{others:?}");
}

#[test]
fn what_was_written_before_unmap_reaches_the_device() {
    let Some(gpu) = gpu() else { return };
    let (buffer, place) = (buffer(&gpu, 2 * PAGE), Reserved::new(2));
    for (round, reserve) in [true, false, true].into_iter().enumerate() {
        let seed = 10 + round as u64;
        let bytes = buffer.memory().map_placed(0, 2 * PAGE, place.page(0)).expect("vkMapMemory2");
        bytes.write(0, &pattern(seed, 2 * PAGE));
        if reserve {
            buffer.memory().unmap_reserve();
        } else {
            buffer.memory().unmap();
        }
        assert!(buffer.all_as_device_sees() == pattern(seed, 2 * PAGE), "round {round}");
    }
}

#[test]
fn what_the_device_wrote_meanwhile_is_there_at_the_next_map_elsewhere() {
    let Some(gpu) = gpu() else { return };
    let (buffer, place) = (buffer(&gpu, 2 * PAGE), Reserved::new(4));
    let bytes = buffer.memory().map_placed(0, 2 * PAGE, place.page(0)).expect("vkMapMemory2");
    bytes.write(0, &pattern(20, 2 * PAGE));
    buffer.memory().unmap_reserve();
    gpu.run(|r| r.fill(&buffer, 0, PAGE, 0x44));
    let bytes = buffer.memory().map_placed(0, 2 * PAGE, place.page(2)).expect("vkMapMemory2");
    assert!(bytes.read(0, PAGE) == vec![0x44; PAGE]);
    assert!(bytes.read(PAGE, PAGE) == pattern(20, 2 * PAGE)[PAGE..]);
    assert_coherent(&gpu, &buffer, bytes, 21);
    assert_eq!(protection(place.page(0)).as_deref(), Some("---p"));
    buffer.memory().unmap();
    let bytes = buffer.memory().map_whole();
    assert_coherent(&gpu, &buffer, bytes.part(0, 2 * PAGE), 23);
}

#[test]
fn a_reservation_is_closed_and_can_be_mapped_again() {
    let Some(gpu) = gpu() else { return };
    let place = Reserved::new(6);
    for round in 0..20 {
        let buffer = buffer(&gpu, 4 * PAGE);
        let bytes = buffer.memory().map_placed(0, 4 * PAGE, place.page(1)).expect("vkMapMemory2");
        bytes.write(0, &pattern(round, 4 * PAGE));
        assert!(buffer.all_as_device_sees() == pattern(round, 4 * PAGE));
        buffer.memory().unmap_reserve();
        assert_eq!(place.protections(), closed(6), "round {round}");
    }
}

#[test]
fn addresses_that_were_not_chosen_can_be_kept_too() {
    let Some(gpu) = gpu() else { return };
    let buffer = buffer(&gpu, 2 * PAGE);
    let bytes = buffer.memory().map(0, 2 * PAGE);
    assert_coherent(&gpu, &buffer, bytes, 30);
    bytes.write(0, &pattern(32, 2 * PAGE));
    buffer.memory().unmap_reserve();
    let kept = Reserved { start: bytes.at(0), len: 2 * PAGE };
    assert_eq!(kept.protections(), closed(2));
    assert!(buffer.all_as_device_sees() == pattern(32, 2 * PAGE));

    // Nobody is given them, whatever is mapped and freed.
    let inside =
        |bytes: MappedBytes| (kept.start.addr()..kept.start.addr() + kept.len).contains(&bytes.at(0).addr());
    let again = buffer.memory().map(0, 2 * PAGE);
    assert!(!inside(again) && again.read_all() == pattern(32, 2 * PAGE));
    drop(buffer);
    for _ in 0..20 {
        assert!(!inside(Buffer::mapped(&gpu, Kind::Coherent, 2 * PAGE).bytes()));
    }
    // They are the application's: memory of its own can be there when the device goes.
    let other = self::buffer(&gpu, 2 * PAGE);
    let bytes = other.memory().map_placed(0, 2 * PAGE, kept.start).expect("vkMapMemory2");
    assert_coherent(&gpu, &other, bytes, 33);
    other.memory().unmap_reserve();
    drop(other);
    drop(gpu);
    assert_eq!(kept.protections(), closed(2));
}

#[test]
fn objects_lie_side_by_side_in_one_reservation() {
    let Some(gpu) = gpu() else { return };
    const PAGES: [usize; 5] = [1, 3, 2, 5, 1];
    let place = Reserved::new(PAGES.iter().sum());
    let mut buffers: Vec<Option<(Buffer, MappedBytes)>> = Vec::new();
    let mut at = 0;
    for pages in PAGES {
        let buffer = buffer(&gpu, pages * PAGE);
        let bytes = buffer.memory().map_placed(0, pages * PAGE, place.page(at)).expect("vkMapMemory2");
        at += pages;
        buffers.push(Some((buffer, bytes)));
    }
    let all = MappedBytes::new(place.start.cast(), place.len);
    all.write(0, &pattern(40, place.len));
    let assert_each = |buffers: &[Option<(Buffer, MappedBytes)>], expected: &[u8]| {
        for (buffer, bytes) in buffers.iter().flatten() {
            let offset = bytes.at(0).addr() - place.start.addr();
            assert!(buffer.all_as_device_sees() == expected[offset..offset + buffer.len()], "at {offset}");
            assert!(bytes.read_all() == expected[offset..offset + buffer.len()], "at {offset}");
        }
    };
    let mut expected = pattern(40, place.len);
    assert_each(&buffers, &expected);
    let (second, _) = buffers[1].take().expect("there");
    second.memory().unmap_reserve();
    drop(buffers[3].take());
    for page in [0, 4, 11] {
        all.store(page * PAGE + 17, 0x99);
        expected[page * PAGE + 17] = 0x99;
    }
    assert_each(&buffers, &expected);
    assert!(second.all_as_device_sees() == expected[PAGE..4 * PAGE]);
}

#[test]
fn memory_freed_while_it_is_mapped_leaves_its_neighbours_alone() {
    let Some(gpu) = gpu() else { return };
    let place = Reserved::new(4);
    let neighbour = buffer(&gpu, PAGE);
    let bytes = neighbour.memory().map_placed(0, PAGE, place.page(0)).expect("vkMapMemory2");
    bytes.write(0, &pattern(50, PAGE));
    for round in 0..20 {
        let memory = Memory::new(&gpu, Kind::Coherent, 3 * PAGE);
        let freed = memory.map_placed(0, 3 * PAGE, place.page(1)).expect("vkMapMemory2");
        assert!(freed.read_all().iter().all(|byte| *byte == 0) || round == 0);
        freed.fill(0, 3 * PAGE, 0xEE);
        drop(memory);
        assert_eq!(protection(place.page(0)).as_deref(), Some("rw-s"));
    }
    let fresh = Buffer::mapped(&gpu, Kind::Coherent, 3 * PAGE);
    gpu.run(|r| r.fill(&fresh, 0, 3 * PAGE, 0x12));
    assert!(fresh.bytes().read_all() == vec![0x12; 3 * PAGE]);
    assert!(neighbour.all_as_device_sees() == pattern(50, PAGE));
    assert_coherent(&gpu, &neighbour, bytes, 51);
}

#[test]
fn the_kernel_reads_a_file_straight_into_placed_memory() {
    let Some(gpu) = gpu() else { return };
    let (buffer, place) = (buffer(&gpu, 3 * PAGE), Reserved::new(3));
    let bytes = buffer.memory().map_placed(0, 3 * PAGE, place.page(0)).expect("vkMapMemory2");
    for round in 0..3 {
        let content = pattern(60 + round, 3 * PAGE);
        let (read, mut write) = std::io::pipe().expect("a pipe");
        write.write_all(&content).expect("writing the pipe");
        // SAFETY: As many bytes are mapped there.
        let got = unsafe { libc::read(read.as_raw_fd(), bytes.at(0).cast(), 3 * PAGE) };
        assert_eq!(usize::try_from(got), Ok(3 * PAGE), "{}", std::io::Error::last_os_error());
        assert!(buffer.all_as_device_sees() == content, "round {round}");
    }
}

#[test]
fn a_place_that_cannot_be_had_leaves_the_memory_unmapped() {
    let Some(gpu) = gpu() else { return };
    let (buffer, place) = (buffer(&gpu, 2 * PAGE), Reserved::new(2));
    let askew = place.page(0).wrapping_add(64);
    let beyond: *mut u8 = std::ptr::without_provenance_mut(1 << 62);
    for at in [askew, beyond] {
        let refused = buffer.memory().map_placed(0, 2 * PAGE, at).expect_err("no such place");
        assert_eq!(refused, vk::Result::ERROR_MEMORY_MAP_FAILED);
    }
    let refused = buffer.memory().map_placed(64, PAGE, place.page(0)).expect_err("no whole pages");
    assert_eq!(refused, vk::Result::ERROR_MEMORY_MAP_FAILED);
    assert_eq!(place.protections(), closed(2));
    let bytes = buffer.memory().map_placed(0, 2 * PAGE, place.page(0)).expect("vkMapMemory2");
    assert_coherent(&gpu, &buffer, bytes, 70);
}

#[test]
fn the_hosts_own_memory_is_refused_and_stays_as_it_is() {
    if loader::is_hostile("noncoherent") {
        return skip("the host has no coherent memory to hand on");
    }
    if lockstep_under_test() {
        loader::set("LOCKSTEP_NATIVE_TYPE", "1");
    }
    let Some(gpu) = gpu() else { return };
    let last = gpu.memory_properties().memory_type_count - 1;
    let (memory, place) =
        (Memory::of_type(&gpu, last, PAGE, None).expect("vkAllocateMemory"), Reserved::new(1));
    let refused = memory.map_placed(0, PAGE, place.page(0)).expect_err("not ours to place");
    assert_eq!((refused, place.protections()), (vk::Result::ERROR_MEMORY_MAP_FAILED, closed(1)));
    let bytes = memory.map(0, PAGE);
    bytes.write(0, &pattern(75, PAGE));
    assert_eq!(memory.try_unmap_reserve(), Err(vk::Result::ERROR_MEMORY_MAP_FAILED));
    assert!(bytes.read_all() == pattern(75, PAGE), "still mapped");
    memory.unmap();
}

#[test]
fn explicit_memory_is_placed_and_stays_explicit() {
    let Some(gpu) = gpu() else { return };
    if Kind::Explicit.find(&gpu, u32::MAX).is_none() {
        skip("the table has no explicit type");
        return;
    }
    let (buffer, place) = (Buffer::unmapped(&gpu, Kind::Explicit, 2 * PAGE), Reserved::new(2));
    let memory = buffer.memory();
    let bytes = memory.map_placed(0, 2 * PAGE, place.page(0)).expect("vkMapMemory2");
    bytes.write(0, &pattern(80, 2 * PAGE));
    memory.flush(&[(0, usize::MAX)]);
    assert!(buffer.all_as_device_sees() == pattern(80, 2 * PAGE));
    gpu.run(|r| r.fill(&buffer, PAGE, PAGE, 0x21));
    memory.invalidate(&[(PAGE, PAGE)]);
    assert!(bytes.read(PAGE, PAGE) == vec![0x21; PAGE]);
    memory.unmap_reserve();
    assert_eq!(place.protections(), closed(2));
}

#[test]
fn memory_that_the_device_copies_is_placed_like_any_other() {
    if lockstep_under_test() {
        loader::set("LOCKSTEP_TRANSPORT", "dma");
    }
    let Some(gpu) = gpu() else { return };
    let (buffer, place) = (buffer(&gpu, 3 * PAGE), Reserved::new(3));
    let bytes = buffer.memory().map_placed(0, 3 * PAGE, place.page(0)).expect("vkMapMemory2");
    assert_coherent(&gpu, &buffer, bytes, 90);
    bytes.write(0, &pattern(92, 3 * PAGE));
    buffer.memory().unmap_reserve();
    gpu.run(|r| r.fill(&buffer, 0, 8, 0x66));
    let bytes = buffer.memory().map_placed(0, 3 * PAGE, place.page(0)).expect("vkMapMemory2");
    assert!(bytes.read(8, 3 * PAGE - 8) == pattern(92, 3 * PAGE)[8..] && bytes.read(0, 8) == [0x66; 8]);
}

#[test]
fn nothing_is_left_of_a_device_that_goes() {
    let Some(gpu) = gpu() else { return };
    let place = Reserved::new(4);
    for _ in 0..3 {
        let buffer = buffer(&gpu, 2 * PAGE);
        let bytes = buffer.memory().map_placed(0, 2 * PAGE, place.page(1)).expect("vkMapMemory2");
        bytes.write(0, &pattern(100, 2 * PAGE));
        assert!(buffer.all_as_device_sees() == pattern(100, 2 * PAGE));
        buffer.memory().unmap_reserve();
    }
    drop(gpu);
    assert_eq!((process::userfaultfds(), place.protections()), (0, closed(4)));
}

#[test]
fn a_forked_child_sees_what_the_device_wrote_last() {
    let Some(gpu) = gpu() else { return };
    let (buffer, place) = (buffer(&gpu, 4 * PAGE), Reserved::new(4));
    let bytes = buffer.memory().map_placed(0, 4 * PAGE, place.page(0)).expect("vkMapMemory2");
    bytes.write(0, &pattern(110, 4 * PAGE));
    gpu.run(|r| r.fill(&buffer, PAGE, 2 * PAGE, 0x5E));
    let child = process::fork(|| {
        let right = |at: usize| at / PAGE == 0 || at / PAGE == 3 || bytes.load(at) == 0x5E;
        u8::from(!(0..4 * PAGE).all(right))
    });
    assert_eq!(child.wait(), 0);
    assert_coherent(&gpu, &buffer, bytes, 111);
}

#[test]
fn many_threads_write_side_by_side_while_batches_are_submitted() {
    let Some(gpu) = gpu() else { return };
    const THREADS: usize = 4;
    let place = Reserved::new(2 * THREADS);
    let memory = |at: usize| {
        let buffer = buffer(&gpu, 2 * PAGE);
        let bytes = buffer.memory().map_placed(0, 2 * PAGE, place.page(2 * at)).expect("vkMapMemory2");
        (buffer, bytes)
    };
    let all: Vec<_> = (0..THREADS).map(memory).collect();
    std::thread::scope(|scope| {
        for (_, bytes) in &all {
            scope.spawn(move || {
                for round in 0..200_u8 {
                    bytes.store_each((0..2 * PAGE).step_by(97).map(|at| (at, round)));
                }
            });
        }
        for _ in 0..50 {
            all.iter().for_each(|(buffer, _)| gpu.run(|r| r.fill(buffer, 4, 4, 0x3A)));
        }
    });
    for (buffer, bytes) in &all {
        let seen = buffer.all_as_device_sees();
        assert!(seen == bytes.read(0, 2 * PAGE));
        assert!((0..2 * PAGE).step_by(97).all(|at| seen[at] == 199) && seen[4..8] == [0x3A; 4]);
    }
}

/// A device without the feature maps as ever: the first address stays the address.
#[test]
fn who_does_not_ask_for_it_is_given_the_same_addresses_again() {
    if !lockstep_under_test() {
        skip("a matter of Lockstep's");
        return;
    }
    let gpu = Gpu::new();
    let memory: Arc<Memory> = Memory::new(&gpu, Kind::Coherent, PAGE);
    let first = memory.map_whole().at(0);
    memory.unmap();
    assert_eq!(memory.map_whole().at(0), first);
}
