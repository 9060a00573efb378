//! Each tracker by name, and what tracker sigsegv makes of narrow places. All other tests run under every
//! tracker, too: `LOCKSTEP_TRACKER=... scripts/test`.

use ash::vk;
use lockstep_harness::gpu::Instance;
use lockstep_harness::{Buffer, Gpu, Kind, PAGE, loader, lockstep_under_test, pattern, skip};

/// Has this process use a tracker; false where there is none.
fn track_by(name: &str) -> bool {
    if lockstep_under_test() {
        loader::set("LOCKSTEP_TRACKER", name);
        // What the environment asks for may not be had with it.
        loader::set("LOCKSTEP_READBACK", "auto");
        return true;
    }
    skip("other drivers have no tracker");
    false
}

#[test]
fn driver_information_ends_with_the_tracker() {
    for name in ["uffd", "sigsegv", "compare"] {
        if !track_by(name) {
            return;
        }
        let instance = Instance::new(vk::API_VERSION_1_3, false).expect("vkCreateInstance");
        let mut driver = vk::PhysicalDeviceDriverProperties::default();
        let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
        // SAFETY: The physical device is of this instance, and the chain valid.
        unsafe { instance.raw().get_physical_device_properties2(instance.devices()[0], &mut properties) };
        let information = driver.driver_info_as_c_str().expect("text").to_string_lossy();
        assert!(information.ends_with(name), "{information}");
    }
}

#[test]
fn devices_with_different_trackers_work_side_by_side() {
    let mut gpus = Vec::new();
    for name in ["uffd", "sigsegv", "compare", "sigsegv"] {
        if !track_by(name) {
            return;
        }
        gpus.push(Gpu::new());
    }
    let buffers: Vec<_> = gpus.iter().map(|gpu| Buffer::mapped(gpu, Kind::Coherent, 3 * PAGE)).collect();
    for round in 0..10 {
        for (seed, buffer) in (round * 10..).zip(&buffers) {
            buffer.bytes().write(0, &pattern(seed, 3 * PAGE));
        }
        for (seed, buffer) in (round * 10..).zip(&buffers) {
            assert_eq!(buffer.all_as_device_sees(), pattern(seed, 3 * PAGE), "round {round}");
        }
    }
}

/// Takes up memory mappings (`vm.max_map_count`) until there is room for only so many.
struct Crowd {
    start: *mut libc::c_void,
    len: usize,
}

impl Crowd {
    fn leaving(room: usize) -> Option<Self> {
        let limit =
            std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse::<usize>().ok()?;
        if limit > 1 << 21 {
            return None;
        }
        let (none, len) = (libc::PROT_NONE, (limit + 2) * PAGE);
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: A new mapping at an address the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, none, kind, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        let protect = |page: usize, protection| {
            // SAFETY: A page of the mapping just made, which nobody uses.
            unsafe { libc::mprotect(start.wrapping_byte_add(page * PAGE), PAGE, protection) }
        };
        // Every other page differs from its neighbours: two mappings more each.
        let full = (1..).step_by(2).find(|page| protect(*page, libc::PROT_READ) != 0)?;
        for page in (1..full).rev().step_by(2).take(room / 2) {
            protect(page - page % 2 + 1, libc::PROT_NONE);
        }
        Some(Self { start, len })
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // SAFETY: This value's own mapping.
        unsafe { libc::munmap(self.start, self.len) };
    }
}

#[test]
fn where_no_further_mapping_is_to_be_had_no_byte_is_lost() {
    const CHUNK: usize = 16 * PAGE;
    const CHUNKS: usize = 400;
    if loader::under_thread_sanitizer() {
        skip("ThreadSanitizer needs mappings itself");
        return;
    }
    if !track_by("sigsegv") {
        return;
    }
    let gpu = Gpu::new();
    let buffer = Buffer::coherent_with(&gpu, &pattern(1, CHUNKS * CHUNK));
    let mut expected = pattern(1, CHUNKS * CHUNK);
    assert!(buffer.all_as_device_sees() == expected);
    for (round, room) in (2..).zip([0, 2, 4, 20, 200, 100_000]) {
        let Some(crowd) = Crowd::leaving(room) else {
            skip("this machine allows more mappings than a test should make");
            return;
        };
        // Nothing here asks for memory: there is none.
        for at in (0..CHUNKS).step_by(2).map(|chunk| chunk * CHUNK + 77) {
            buffer.bytes().store(at, round);
            expected[at] = round;
        }
        drop(crowd);
        assert!(buffer.all_as_device_sees() == expected, "room for {room}");
        gpu.run(|r| r.fill(&buffer, 4096, 8, round));
        expected[4096..4104].fill(round);
        assert!(buffer.bytes().read_all() == expected, "room for {room}");
    }
}

#[test]
fn threads_with_little_stack_and_no_alternate_one_write_like_any_other() {
    const PART: usize = 20 * PAGE + 3;
    if !track_by("sigsegv") {
        return;
    }
    let gpu = Gpu::new();
    let buffer = Buffer::coherent_with(&gpu, &pattern(1, 3 * PART));
    let expected = pattern(2, 3 * PART);
    assert_eq!(buffer.all_as_device_sees(), pattern(1, 3 * PART));
    std::thread::scope(|scope| {
        for (part, stack) in [(0, 32 << 10), (1, 32 << 10), (2, 1 << 20)] {
            let (bytes, new) = (buffer.bytes().part(part * PART, PART), &expected[part * PART..][..PART]);
            let write = move || {
                if part == 0 {
                    let none =
                        libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
                    // SAFETY: No handler runs on it now.
                    assert_eq!(unsafe { libc::sigaltstack(&raw const none, std::ptr::null_mut()) }, 0);
                }
                bytes.store_each(new.iter().copied().enumerate());
            };
            std::thread::Builder::new().stack_size(stack).spawn_scoped(scope, write).expect("a thread");
        }
    });
    assert_eq!(buffer.all_as_device_sees(), expected);
}
