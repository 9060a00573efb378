//! Much memory that is idle for many submissions, and then is not.

use lockstep_harness::{
    Buffer, Gpu, Kind, PAGE, lockstep_under_test, pattern, process, sigsegv_under_test, tracker,
};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;

const SIZE: usize = 48 << 20;
/// Submissions after which idle memory is left out of scans.
const LONG: usize = 200;

/// Has the kernel read a file of `content` to `to`.
fn read_file(content: &[u8], to: *mut u8) {
    let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary file");
    file.write_all(content).expect("writing the file");
    file.seek(SeekFrom::Start(0)).expect("seeking");
    // SAFETY: As many bytes are mapped.
    let count = unsafe { libc::read(file.as_raw_fd(), to.cast(), content.len()) };
    assert_eq!(usize::try_from(count), Ok(content.len()), "{}", std::io::Error::last_os_error());
}

/// Has a child process write `content` to `to`; false where it may not.
fn write_by_child(content: &[u8], to: *mut u8) -> bool {
    let from = libc::iovec { iov_base: content.as_ptr().cast_mut().cast(), iov_len: content.len() };
    let to = libc::iovec { iov_base: to.cast(), iov_len: content.len() };
    // SAFETY: The call has no condition.
    let parent = unsafe { libc::getpid() };
    let child = process::fork(|| {
        // SAFETY: Both ranges are mapped, one here and one in the parent.
        let moved = unsafe { libc::process_vm_writev(parent, &raw const from, 1, &raw const to, 1, 0) };
        u8::from(moved.cast_unsigned() != from.iov_len)
    });
    child.wait() == 0
}

#[test]
#[ignore = "a child of the test below"]
fn child_touches_idle_memory() {
    let gpu = Gpu::new();
    let (idle, busy) =
        (Buffer::mapped(&gpu, Kind::Coherent, SIZE), Buffer::mapped(&gpu, Kind::Coherent, PAGE));
    let mut expected = pattern(1, SIZE);
    idle.bytes().write(0, &expected);
    let submit = |times: usize| {
        for turn in 0..times {
            let byte = u8::try_from(turn % 256).expect("a byte");
            busy.bytes().store(turn, byte);
            gpu.run(|r| r.fill(&busy, 1024, 1024, byte));
            assert_eq!((busy.bytes().load(turn), busy.bytes().load(1500)), (byte, byte));
        }
    };
    submit(LONG);

    let content = pattern(2, 3 * PAGE + 5);
    let at = |mib: usize| (mib << 20) + 1001;
    idle.bytes().write(at(5), &content[..77]);
    expected[at(5)..][..77].copy_from_slice(&content[..77]);
    if !sigsegv_under_test() {
        read_file(&content, idle.bytes().at(at(11)));
        expected[at(11)..][..content.len()].copy_from_slice(&content);
        if write_by_child(&content, idle.bytes().at(at(23))) {
            expected[at(23)..][..content.len()].copy_from_slice(&content);
        }
    }
    // Across two stretches.
    let seam = (32 << 20) - 500;
    idle.bytes().write(seam, &content[..1000]);
    expected[seam..][..1000].copy_from_slice(&content[..1000]);
    gpu.run(|r| r.fill(&idle, 40 << 20, 8192, 0x5A));
    expected[40 << 20..][..8192].fill(0x5A);

    assert!(idle.all_as_device_sees() == expected, "the device's view");
    assert!(idle.bytes().read_all() == expected, "the processor's view");
    submit(LONG);
    assert!(idle.all_as_device_sees() == expected, "the device's view, later");
}

#[test]
fn what_was_idle_is_seen_by_both_sides_once_it_is_touched() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("stats.json");
    let output = process::output(process::child("child_touches_idle_memory").env("LOCKSTEP_STATS", &path));
    assert!(output.status.success(), "{output:?}");
    let serves = lockstep_under_test()
        && ["auto", "uffd"].contains(&tracker().as_str())
        && process::may_serve_faults()
        && std::env::var("LOCKSTEP_READBACK").map_or(true, |readback| readback != "eager");
    if serves {
        let text = std::fs::read_to_string(path).expect("the file of counters");
        let counters: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for name in ["stretches_cooled", "stretches_warmed"] {
            assert!(counters[name].as_u64().is_some_and(|number| number > 3), "{name}: {text}");
        }
    }
}
