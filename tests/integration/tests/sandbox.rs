//! A machine that lacks what Lockstep needs: one line says so, and nothing crashes.

use ash::vk;
use lockstep_harness::gpu::Instance;
use lockstep_harness::{lockstep_under_test, process, skip};

/// Makes userfaultfd(2) fail in this process from now on, as in a sandbox.
fn forbid_userfaultfd() {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: u16::try_from(code).expect("a BPF code"),
        jt: 0,
        jf: 0,
        k,
    };
    let number = u32::try_from(libc::SYS_userfaultfd).expect("a system call number");
    let errno = u32::try_from(libc::EPERM).expect("an error number");
    let mut filter = [
        // The number of the system call is the first field of `struct seccomp_data`.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter { jf: 1, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number) },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: Restricts this process only.
    let no_new_privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: As above; the program lives for the call.
    let seccomp = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    let result = no_new_privileges | seccomp;
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
#[ignore = "a child of the test below"]
fn child_creates_a_device() {
    forbid_userfaultfd();
    let instance = Instance::new(vk::API_VERSION_1_3, false).expect("vkCreateInstance");
    let queue = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
    let info = vk::DeviceCreateInfo::default().queue_create_infos(&queue);
    // SAFETY: The physical device is of this instance; the arrays live for the call.
    let result = unsafe { instance.raw().create_device(instance.devices()[0], &info, None) };
    println!("\nresult={:?}", result.map(|_| ()));
}

#[test]
fn without_userfaultfd_a_device_is_refused_with_one_line() {
    if !lockstep_under_test() {
        skip("the host needs no userfaultfd");
        return;
    }
    let output = process::output(&mut process::child("child_creates_a_device"));
    assert_eq!(process::value_of(&output, "result"), "Err(ERROR_INITIALIZATION_FAILED)");
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("lockstep: ")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("userfaultfd"), "{lines:?}");
}
