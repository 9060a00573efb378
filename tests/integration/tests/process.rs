//! What Lockstep leaves alone in the process of an application: forks, signals, descriptors, threads.

use lockstep_harness::gpu::Instance;
use lockstep_harness::{
    Batch, Buffer, Commands, Fence, Gpu, Kind, MappedBytes, Memory, PAGE, Timeline, loader,
    lockstep_under_test, pattern, process, sigsegv_under_test, skip, tracker,
};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

const SIZE: usize = 3 * PAGE + 9;

/// Compares mapped bytes with others as a forked child may: without allocating.
fn same(bytes: MappedBytes, expected: &[u8]) -> bool {
    expected.iter().enumerate().all(|(at, &byte)| bytes.load(at) == byte)
}

#[test]
fn a_forked_child_reads_the_bytes_and_the_parent_goes_on() {
    let gpu = Gpu::new();
    let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    for round in 0..10 {
        let expected = pattern(round, SIZE);
        source.bytes().write(0, &expected);
        gpu.run(|r| r.copy(&source, 0, &target, 0, SIZE));

        let (ours, theirs) = (source.bytes(), target.bytes());
        let child = process::fork(|| u8::from(!(same(ours, &expected) && same(theirs, &expected))));
        assert_eq!(child.wait(), 0, "round {round}");

        source.bytes().store(round.to_le_bytes()[0].into(), 0x5E);
        assert_eq!(source.all_as_device_sees(), source.bytes().read_all(), "round {round}");
    }
}

#[test]
fn the_parent_works_on_while_a_forked_child_lives() {
    let gpu = Gpu::new();
    let source = Buffer::coherent_with(&gpu, &pattern(0, SIZE));
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    gpu.run(|r| r.copy(&source, 0, &target, 0, SIZE));
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: The descriptor was just made and belongs to nobody else.
    let [read, write] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });

    let child = process::fork(|| {
        // SAFETY: The child has its own table of descriptors and needs this end no more.
        unsafe { libc::close(write.as_raw_fd()) };
        let mut byte = 0_u8;
        // SAFETY: One byte has room; the read ends when the parent closes its end.
        let got = unsafe { libc::read(read.as_raw_fd(), (&raw mut byte).cast(), 1) };
        u8::from(got != 0)
    });
    for round in 1..20 {
        source.bytes().write(0, &pattern(round, SIZE));
        gpu.run(|r| r.copy(&source, 0, &target, 0, SIZE));
        assert_eq!(target.bytes().read_all(), pattern(round, SIZE), "round {round}");
    }
    drop(write);

    assert_eq!(child.wait(), 0);
    source.bytes().store(77, 0x77);
    assert_eq!(source.as_device_sees(77, 1), [0x77]);
}

#[test]
fn a_fork_while_a_batch_is_in_flight_loses_nothing() {
    let gpu = Gpu::new();
    let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let commands = Commands::new(&gpu, |r| r.copy(&source, 0, &target, 0, SIZE));
    let (timeline, fence) = (Timeline::new(&gpu), Fence::new(&gpu));
    source.bytes().write(0, &pattern(1, 100));

    gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&fence));
    source.bytes().write(50, &pattern(2, SIZE - 50));
    assert_eq!(process::fork(|| 0).wait(), 0);
    timeline.signal(1);
    fence.wait();

    assert_eq!(target.bytes().read(0, 50), pattern(1, 100)[..50]);
    assert_eq!(target.bytes().read(50, SIZE - 50), pattern(2, SIZE - 50));
}

static FAULTS: AtomicUsize = AtomicUsize::new(0);

/// The application's own handler: opens the page that was touched and counts.
extern "C" fn open_page(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    FAULTS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: The kernel passes a valid structure.
    let info = unsafe { &*info };
    // SAFETY: This signal has an address.
    let address = unsafe { info.si_addr() };
    let page = address.wrapping_sub(address.addr() % PAGE);
    // SAFETY: Only pages of this test fault; opening one takes nothing away from anybody.
    let opened = unsafe { libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_WRITE) };
    if opened != 0 {
        // SAFETY: Ends the process.
        unsafe { libc::abort() };
    }
}

fn install_handler() {
    // SAFETY: All zeroes is a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = open_page;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: The handler calls nothing but mprotect and abort.
    let installed = unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut()) };
    assert_eq!(installed, 0);
}

fn handler_address() -> usize {
    process::signal_actions()[&libc::SIGSEGV].0
}

/// Touches a page nobody may touch, which the application's handler opens.
fn fault_deliberately() {
    let (kind, none) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, libc::PROT_NONE);
    // SAFETY: A new mapping at an address the kernel chooses.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, none, kind, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    let before = FAULTS.load(Ordering::Relaxed);
    MappedBytes::new(page, PAGE).store(123, 0x42);
    assert_eq!(FAULTS.load(Ordering::Relaxed), before + 1);
    assert_eq!(MappedBytes::new(page, PAGE).load(123), 0x42);
    // SAFETY: The mapping is this function's own.
    unsafe { libc::munmap(page, PAGE) };
}

fn work(gpu: &Gpu) {
    let source = Buffer::mapped(gpu, Kind::Coherent, SIZE);
    let target = Buffer::mapped(gpu, Kind::Coherent, SIZE);
    for round in 0..5 {
        source.bytes().write(0, &pattern(round, SIZE));
        gpu.run(|r| r.copy(&source, 0, &target, 0, SIZE));
        assert_eq!(target.bytes().read_all(), pattern(round, SIZE), "round {round}");
    }
}

#[test]
fn an_applications_handler_installed_before_vulkan_stays_and_works() {
    install_handler();
    let ours = handler_address();
    let gpu = Gpu::new();
    work(&gpu);
    assert_eq!(handler_address() == ours, !sigsegv_under_test());
    assert_eq!(FAULTS.load(Ordering::Relaxed), 0, "Vulkan caused a signal the application did not expect");
    fault_deliberately();
    work(&gpu);
    drop(gpu);
    assert_eq!(handler_address(), ours);
    fault_deliberately();
}

#[test]
fn an_applications_handler_installed_while_memory_is_mapped_does_not_disturb() {
    let gpu = Gpu::new();
    let buffer = Buffer::coherent_with(&gpu, &pattern(1, SIZE));
    assert_eq!(buffer.all_as_device_sees(), pattern(1, SIZE));
    install_handler();
    buffer.bytes().write(0, &pattern(2, SIZE));
    // Tracker sigsegv finds out at the next flush.
    let expected = usize::from(sigsegv_under_test());
    assert!(FAULTS.load(Ordering::Relaxed) <= expected * SIZE.div_ceil(PAGE), "an unexpected signal");
    assert_eq!(buffer.all_as_device_sees(), pattern(2, SIZE));
    let before = FAULTS.load(Ordering::Relaxed);
    work(&gpu);
    assert_eq!(
        FAULTS.load(Ordering::Relaxed),
        before,
        "Vulkan caused a signal the application did not expect"
    );
    fault_deliberately();
}

#[test]
fn no_signal_handler_changes_by_mapping_and_submitting() {
    if !lockstep_under_test() {
        skip("what other drivers do with signals is theirs");
        return;
    }
    let before = process::signal_actions();
    let gpu = Gpu::new();
    work(&gpu);
    let mut during = process::signal_actions();
    if sigsegv_under_test() {
        assert_ne!(during.insert(libc::SIGSEGV, before[&libc::SIGSEGV].clone()), None);
    }
    assert_eq!(during, before);
    drop(gpu);
    assert_eq!(process::signal_actions(), before);
}

/// Whether the tracker is userfaultfd: the default, unless the environment chooses another.
fn tracks_by_userfaultfd() -> bool {
    lockstep_under_test() && ["auto", "uffd"].contains(&tracker().as_str())
}

#[test]
fn one_userfaultfd_serves_all_coherent_maps_and_none_exists_before_the_first() {
    if !tracks_by_userfaultfd() {
        skip("only Lockstep's uffd tracker has a userfaultfd");
        return;
    }
    let gpu = Gpu::new();
    let device_only = Buffer::poisoned(&gpu, SIZE);
    assert_eq!(process::userfaultfds(), 0, "before the first map");
    let buffers: Vec<_> = (0..100).map(|_| Buffer::mapped(&gpu, Kind::Coherent, SIZE)).collect();
    assert_eq!(process::userfaultfds(), 1, "after 100 maps");
    gpu.run(|r| r.copy(&device_only, 0, &buffers[7], 0, SIZE));
    let whole = Memory::new(&gpu, Kind::Coherent, 1 << 20);
    whole.map_whole().store(5, 5);
    assert_eq!(process::userfaultfds(), 1, "after more work");
}

#[test]
#[ignore = "a child of the test below"]
fn child_enumerates() {
    let before = process::signal_actions();
    let instance = Instance::new(ash::vk::API_VERSION_1_3, false).expect("vkCreateInstance");
    let devices = instance.devices();
    // SAFETY: The physical device is of this instance.
    let properties = unsafe { instance.raw().get_physical_device_properties(devices[0]) };
    println!("\ndevice={}", properties.device_name_as_c_str().expect("a name").to_string_lossy());
    println!("threads={}", process::threads());
    println!("userfaultfds={}", process::userfaultfds());
    println!("signals_changed={}", process::signal_actions() != before);
}

#[test]
fn a_process_that_only_enumerates_has_nothing_of_lockstep_in_it() {
    if !lockstep_under_test() {
        skip("this compares Lockstep with its host");
        return;
    }
    let host = std::env::var_os("LOCKSTEP_HOST_ICD").unwrap_or_else(|| loader::host_manifest().into());
    let native = process::output(process::child("child_enumerates").env(loader::TEST_ICD, host));
    let ours = process::output(&mut process::child("child_enumerates"));

    let name = process::value_of(&ours, "device");
    assert!(name.starts_with("Lockstep ("), "{name}");
    assert_eq!(process::value_of(&ours, "userfaultfds"), "0");
    assert_eq!(process::value_of(&ours, "signals_changed"), "false");
    assert_eq!(process::value_of(&ours, "threads"), process::value_of(&native, "threads"));
}
