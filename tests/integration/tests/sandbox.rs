//! A machine that lacks what Lockstep needs: one line says so, and nothing crashes.

use ash::vk;
use lockstep_harness::gpu::Instance;
use lockstep_harness::{Buffer, Gpu, Kind, PAGE, lockstep_under_test, pattern, process, skip};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::process::Output;

const SIZE: usize = 5 * PAGE + 77;

/// Makes userfaultfd(2) fail in this process from now on, as in a sandbox.
fn forbid_userfaultfd() {
    process::refuse(process::Refused { call: libc::SYS_userfaultfd, request: None, errno: libc::EPERM });
}

#[test]
#[ignore = "a child of the tests below"]
fn child_creates_a_device() {
    forbid_userfaultfd();
    let instance = Instance::new(vk::API_VERSION_1_3, false).expect("vkCreateInstance");
    let queue = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
    let info = vk::DeviceCreateInfo::default().queue_create_infos(&queue);
    // SAFETY: The physical device is of this instance; the arrays live for the call.
    let result = unsafe { instance.raw().create_device(instance.devices()[0], &info, None) };
    println!("\nresult={:?}", result.map(|_| ()));
}

/// Returns what Lockstep said: the lines of standard error that begin with its name.
fn lines_of_lockstep(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter(|line| line.starts_with("lockstep: ")).map(str::to_owned).collect()
}

#[test]
fn userfaultfd_asked_for_and_not_there_is_one_line_and_no_device() {
    if !lockstep_under_test() {
        skip("the host needs no userfaultfd");
        return;
    }
    let output = process::output(process::child("child_creates_a_device").env("LOCKSTEP_TRACKER", "uffd"));
    assert_eq!(process::value_of(&output, "result"), "Err(ERROR_INITIALIZATION_FAILED)");
    let lines = lines_of_lockstep(&output);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("userfaultfd"), "{lines:?}");
}

#[test]
fn the_log_names_the_tracker_that_there_is() {
    if !lockstep_under_test() {
        skip("the host has no tracker");
        return;
    }
    let mut child = process::child("child_creates_a_device");
    child.env("LOCKSTEP_TRACKER", "auto").env("LOCKSTEP_READBACK", "auto");
    let output = process::output(child.env("LOCKSTEP_LOG", "info"));
    let lines = lines_of_lockstep(&output);
    assert!(lines.iter().any(|line| line.contains("device created with tracker compare")), "{lines:?}");
}

#[test]
#[ignore = "a child of the test below"]
fn child_computes_on_two_devices() {
    forbid_userfaultfd();
    let signals = process::signal_actions();
    for round in 0..2 {
        let gpu = Gpu::new();
        let source = Buffer::coherent_with(&gpu, &pattern(round, SIZE));
        let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
        gpu.run(|r| r.copy(&source, 0, &target, 0, SIZE));
        assert_eq!(target.bytes().read_all(), pattern(round, SIZE));
        source.bytes().store(PAGE + 5, 0x5A);
        target.bytes().store(PAGE + 5, 0x5B);
        gpu.run(|r| r.copy(&source, 0, &target, 0, SIZE));
        assert_eq!(target.bytes().load(PAGE + 5), 0x5A);

        let (mut pipe, mut end) = std::io::pipe().expect("a pipe");
        end.write_all(&pattern(9, PAGE)).expect("writing the pipe");
        // SAFETY: As many bytes are mapped there.
        let got = unsafe { libc::read(pipe.as_raw_fd(), source.bytes().at(100).cast(), PAGE) };
        assert_eq!(usize::try_from(got), Ok(PAGE), "the kernel cannot write mapped memory");
        assert_eq!(source.as_device_sees(100, PAGE), pattern(9, PAGE));
        drop(end);
        assert_eq!(pipe.read(&mut [0]).expect("reading the pipe"), 0);
    }
    println!("\nsignals_changed={}", process::signal_actions() != signals);
    println!("driver={}", driver_info());
}

fn driver_info() -> String {
    let instance = Instance::new(vk::API_VERSION_1_3, false).expect("vkCreateInstance");
    let mut driver = vk::PhysicalDeviceDriverProperties::default();
    let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
    // SAFETY: The physical device is of this instance, and the chain valid.
    unsafe { instance.raw().get_physical_device_properties2(instance.devices()[0], &mut properties) };
    driver.driver_info_as_c_str().expect("text").to_string_lossy().into_owned()
}

#[test]
fn without_userfaultfd_memory_is_coherent_all_the_same_and_one_line_says_how() {
    if !lockstep_under_test() {
        skip("the host needs no userfaultfd");
        return;
    }
    let mut child = process::child("child_computes_on_two_devices");
    let output = process::output(child.env("LOCKSTEP_TRACKER", "auto").env("LOCKSTEP_READBACK", "auto"));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(process::value_of(&output, "signals_changed"), "false");
    let driver = process::value_of(&output, "driver");
    assert!(driver.ends_with("compare"), "{driver}");
    let lines = lines_of_lockstep(&output);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("userfaultfd") && lines[0].contains("compare"), "{lines:?}");
}
