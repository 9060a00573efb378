//! The kernel refuses memory, address space, descriptors or a system call: an error and a line, and all is
//! well when there is enough again.
//!
//! What the driver keeps for itself in small pieces comes from Rust's allocator, which ends the process when
//! it has nothing; that is left out here.

use ash::vk;
use lockstep_harness::process::{self, Holdings, Refused, refuse};
use lockstep_harness::{
    Buffer, Gpu, Kind, Memory, PAGE, loader, lockstep_under_test, pattern, skip, tracker, validation,
};
use std::process::Output;

const SIZE: usize = 3 * PAGE + 9;

/// Tries to map memory, and unmaps it again.
fn try_map(gpu: &Gpu, memory: vk::DeviceMemory) -> Result<(), vk::Result> {
    // SAFETY: The memory is of this device and not mapped.
    unsafe { gpu.raw().map_memory(memory, 0, vk::WHOLE_SIZE, vk::MemoryMapFlags::empty()) }?;
    // SAFETY: Just mapped.
    unsafe { gpu.raw().unmap_memory(memory) };
    Ok(())
}

fn allocate(gpu: &Gpu) -> vk::DeviceMemory {
    let index = Kind::Coherent.find(gpu, u32::MAX).expect("a coherent type");
    let info = vk::MemoryAllocateInfo::default().allocation_size(SIZE as u64).memory_type_index(index);
    // SAFETY: Valid usage.
    unsafe { gpu.raw().allocate_memory(&info, None) }.expect("vkAllocateMemory")
}

fn free(gpu: &Gpu, memory: vk::DeviceMemory) {
    // SAFETY: The memory is of this device, and nothing uses it.
    unsafe { gpu.raw().free_memory(memory, None) };
}

fn work(gpu: &Gpu) {
    let source = Buffer::mapped(gpu, Kind::Coherent, SIZE);
    let target = Buffer::mapped(gpu, Kind::Coherent, SIZE);
    for round in 0..3 {
        source.bytes().write(0, &pattern(round, SIZE));
        gpu.run(|r| r.copy(&source, 0, &target, 0, SIZE));
        assert_eq!(target.bytes().read_all(), pattern(round, SIZE), "round {round}");
    }
}

fn limit(resource: libc::__rlimit_resource_t, soft: u64) {
    // SAFETY: All zeroes is valid.
    let mut limits: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: `limits` has room.
    assert_eq!(unsafe { libc::getrlimit(resource, &raw mut limits) }, 0);
    limits.rlim_cur = soft.min(limits.rlim_max);
    // SAFETY: A valid structure.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limits) }, 0);
}

/// Asserts that a refused map has left no descriptor and no mapping of guest pages. (Threads of the host may
/// still be starting, with mappings of their own.)
fn assert_nothing_is_left(before: &Holdings) {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc/self/maps");
    assert_eq!(maps.lines().filter(|line| line.contains("memfd:lockstep")).count(), 0, "{maps}");
    assert_eq!(Holdings::now().descriptors, before.descriptors);
}

/// Returns what Lockstep said.
fn lines_of_lockstep(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter(|line| line.starts_with("lockstep: ")).map(str::to_owned).collect()
}

/// Runs a child in which maps are refused so many times as it says, and asserts one line for each.
fn assert_a_line_for_each_refusal(child: &str) {
    if !lockstep_under_test() {
        skip("other drivers need other things");
        return;
    }
    let mut child = process::child(child);
    if tracker() == "auto" {
        // Which would take another where there is none, with a line of its own.
        child.env("LOCKSTEP_TRACKER", "uffd");
    }
    let output = process::output(&mut child);
    assert!(output.status.success(), "{output:?}");
    let refusals: usize = process::value_of(&output, "refusals").parse().expect("a number");
    let lines = lines_of_lockstep(&output);
    let about_maps = lines.iter().filter(|line| line.contains("vkMapMemory")).count();
    assert_eq!((about_maps, lines.len()), (refusals, refusals), "{lines:?}");
    assert_ne!(refusals, 0);
}

#[test]
#[ignore = "a child of the test below"]
fn child_has_no_descriptor_left() {
    let gpu = Gpu::new();
    let memory = allocate(&gpu);
    let before = Holdings::now();
    limit(libc::RLIMIT_NOFILE, 200);
    let mut refusals = 0;
    loop {
        let one = || std::fs::File::open("/dev/null").ok();
        let mut others: Vec<_> = std::iter::from_fn(one).collect();
        others.truncate(others.len() - refusals);
        let result = try_map(&gpu, memory);
        drop(others);
        if result.is_ok() {
            break;
        }
        assert_eq!(result, Err(vk::Result::ERROR_MEMORY_MAP_FAILED));
        assert_nothing_is_left(&before);
        refusals += 1;
        assert!(refusals < 20);
    }
    free(&gpu, memory);
    work(&gpu);
    println!("\nrefusals={refusals}");
}

#[test]
fn every_descriptor_may_be_the_last() {
    assert_a_line_for_each_refusal("child_has_no_descriptor_left");
}

#[test]
#[ignore = "a child of the test below"]
fn child_has_no_address_space_left() {
    let gpu = Gpu::new();
    let memory = allocate(&gpu);
    let before = Holdings::now();
    let status = std::fs::read_to_string("/proc/self/statm").expect("/proc/self/statm");
    let pages: u64 = status.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number");
    let mut refusals = 0;
    loop {
        // Some for what the process needs besides.
        limit(libc::RLIMIT_AS, pages * PAGE as u64 + (8 << 20) + refusals * (24 << 20));
        let result = try_map(&gpu, memory);
        limit(libc::RLIMIT_AS, u64::MAX);
        if result.is_ok() {
            break;
        }
        assert_eq!(result, Err(vk::Result::ERROR_MEMORY_MAP_FAILED));
        assert_nothing_is_left(&before);
        refusals += 1;
        assert!(refusals < 200);
    }
    free(&gpu, memory);
    work(&gpu);
    println!("\nrefusals={refusals}");
}

#[test]
fn address_space_may_end_anywhere() {
    assert_a_line_for_each_refusal("child_has_no_address_space_left");
}

#[test]
#[ignore = "a child of the test below"]
fn child_may_lock_little_memory() {
    // Another needs privileges.
    loader::set("LOCKSTEP_READBACK", "auto");
    let gpu = Gpu::new();
    let memory = allocate(&gpu);
    // SAFETY: Gives all privileges up, the one to lock as much memory as one likes among them.
    assert_eq!(unsafe { libc::setresuid(65534, 65534, 65534) }, 0);
    // SAFETY: Lets the process look at itself again.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0);
    limit(libc::RLIMIT_MEMLOCK, 48 << 20);
    // SAFETY: Concerns this process alone.
    assert_eq!(unsafe { libc::mlockall(libc::MCL_FUTURE) }, 0, "{}", std::io::Error::last_os_error());
    assert_eq!(try_map(&gpu, memory), Err(vk::Result::ERROR_MEMORY_MAP_FAILED));
    // SAFETY: As above.
    assert_eq!(unsafe { libc::munlockall() }, 0);
    assert_eq!(try_map(&gpu, memory), Ok(()));
    free(&gpu, memory);
    work(&gpu);
    println!("\nrefusals=1");
}

#[test]
fn memory_to_come_is_locked_and_little_may_be() {
    // SAFETY: The call has no condition.
    if unsafe { libc::geteuid() } != 0 {
        skip("only who has privileges can give them up");
        return;
    }
    assert_a_line_for_each_refusal("child_may_lock_little_memory");
}

/// Locks memory of this process; false where it may not.
fn lock(flags: libc::c_int) -> bool {
    // SAFETY: Concerns this process alone.
    let locked = unsafe { libc::mlockall(flags) } == 0;
    if !locked {
        skip("this process may not lock as much memory");
    }
    locked
}

#[test]
fn a_process_that_locks_all_memory_to_come_gets_what_it_maps_and_no_more() {
    let gpu = Gpu::new();
    if !lock(libc::MCL_FUTURE) {
        return;
    }
    let before = Holdings::now();
    work(&gpu);
    let large = Memory::new(&gpu, Kind::Coherent, 64 << 20);
    large.map_whole().store(PAGE, 1);
    work(&gpu);
    let resident = Holdings::now().resident.saturating_sub(before.resident);
    assert!(resident < 512 << 20, "{resident} bytes were brought in");
}

#[test]
fn a_process_that_locks_all_its_memory_gets_what_it_has_mapped_and_no_more() {
    let gpu = Gpu::new();
    work(&gpu);
    let buffer = Buffer::coherent_with(&gpu, &pattern(1, 8 << 20));
    if !lock(libc::MCL_CURRENT) {
        return;
    }
    let before = Holdings::now();
    let large = Memory::new(&gpu, Kind::Coherent, 64 << 20);
    large.map_whole().store(PAGE, 1);
    work(&gpu);
    assert!(lock(libc::MCL_CURRENT | libc::MCL_FUTURE));
    buffer.bytes().write(0, &pattern(2, 8 << 20));
    assert!(buffer.all_as_device_sees() == pattern(2, 8 << 20));
    drop((buffer, large));
    work(&gpu);
    let resident = Holdings::now().resident.saturating_sub(before.resident);
    assert!(resident < 1 << 30, "{resident} bytes were brought in");
}

/// `UFFDIO_API`, `UFFDIO_REGISTER` and `PAGEMAP_SCAN`.
const REQUESTS: [u32; 3] = [0xc018_aa3f, 0xc020_aa00, 0xc060_6610];

/// What may be refused, one by one.
fn refusals() -> Vec<Refused> {
    let plain = |call, errno| Refused { call, request: None, errno };
    let mut all = vec![
        plain(libc::SYS_memfd_create, libc::ENFILE),
        plain(libc::SYS_ftruncate, libc::ENOSPC),
        plain(libc::SYS_userfaultfd, libc::ENOMEM),
        plain(libc::SYS_mprotect, libc::ENOMEM),
        plain(libc::SYS_munlock, libc::EPERM),
        plain(libc::SYS_lseek, libc::EINVAL),
        plain(libc::SYS_fallocate, libc::ENOSPC),
        plain(libc::SYS_madvise, libc::EAGAIN),
    ];
    all.extend(REQUESTS.map(|request| Refused {
        call: libc::SYS_ioctl,
        request: Some(request),
        errno: libc::ENOMEM,
    }));
    all
}

/// Does all that a device does with mapped memory, and returns the first error.
fn use_memory(gpu: &Gpu, commands: &lockstep_harness::Commands) -> Result<(), vk::Result> {
    for round in 0..3_u8 {
        let memory = allocate(gpu);
        let whole = (vk::WHOLE_SIZE, vk::MemoryMapFlags::empty());
        // SAFETY: The memory is of this device and not mapped.
        let mapped = unsafe { gpu.raw().map_memory(memory, 0, whole.0, whole.1) };
        let result = mapped.and_then(|address| {
            let bytes = lockstep_harness::MappedBytes::new(address, SIZE);
            bytes.fill(0, SIZE, round);
            let (queue, buffers) = (*gpu.queue(), [commands.raw()]);
            let batch = vk::SubmitInfo::default().command_buffers(&buffers);
            // SAFETY: The commands are not in use.
            unsafe { gpu.raw().queue_submit(queue, &[batch], vk::Fence::null()) }?;
            // SAFETY: The device is alive.
            unsafe { gpu.raw().device_wait_idle() }?;
            assert_eq!(bytes.read_all(), vec![round; SIZE]);
            Ok(())
        });
        free(gpu, memory);
        result?;
    }
    Ok(())
}

#[test]
#[ignore = "a child of the test below"]
fn child_is_refused_a_system_call() {
    let number = |name| std::env::var(name).expect("the parent sets it").parse::<usize>().expect("a number");
    let refused = refusals()[number("REFUSED")];
    validation::refusals_are_not_pending();
    let gpu = Gpu::new();
    let other = Buffer::poisoned(&gpu, SIZE);
    let commands = lockstep_harness::Commands::simultaneous(&gpu, |r| r.fill(&other, 0, SIZE / 4 * 4, 1));
    // Before anything was mapped, or in the middle of it.
    let kept = (number("MAPPED") == 1).then(|| Buffer::coherent_with(&gpu, &pattern(1, SIZE)));
    refuse(refused);
    let result = use_memory(&gpu, &commands);
    if let Some(kept) = &kept {
        assert_eq!(kept.bytes().read_all(), pattern(1, SIZE));
        kept.bytes().fill(0, SIZE, 2);
    }
    println!("\nresult={result:?}");
}

#[test]
fn every_system_call_may_be_refused() {
    if !lockstep_under_test() {
        skip("other drivers need other system calls");
        return;
    }
    let mut errors = 0;
    for (n, refused) in refusals().into_iter().enumerate() {
        for mapped in ["0", "1"] {
            let mut child = process::child("child_is_refused_a_system_call");
            child.env("REFUSED", n.to_string()).env("MAPPED", mapped);
            let output = process::output(&mut child);
            assert!(output.status.success(), "{refused:?}, {mapped}: {output:?}");
            let result = process::value_of(&output, "result");
            let lines = lines_of_lockstep(&output);
            let said = if result == "Ok(())" { lines.len() <= 4 } else { lines.len() == 1 };
            assert!(said, "{refused:?}, {mapped}: {result}, {lines:?}");
            println!("{refused:?}, {mapped}: {result}, {lines:?}");
            errors += usize::from(result != "Ok(())");
        }
    }
    if tracker() == "auto" {
        assert!(errors >= 5, "only {errors} of them are needed");
    }
}
