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

/// Submits so many batches that write beside what the processor writes.
fn submit(gpu: &Gpu, busy: &Buffer, times: usize) {
    for turn in 0..times {
        let byte = u8::try_from(turn % 256).expect("a byte");
        busy.bytes().store(turn, byte);
        gpu.run(|r| r.fill(busy, 1024, 1024, byte));
        assert_eq!((busy.bytes().load(turn), busy.bytes().load(1500)), (byte, byte));
    }
}

#[test]
#[ignore = "a child of the test below"]
fn child_touches_idle_memory() {
    let gpu = Gpu::new();
    let (idle, busy) =
        (Buffer::mapped(&gpu, Kind::Coherent, SIZE), Buffer::mapped(&gpu, Kind::Coherent, PAGE));
    let mut expected = pattern(1, SIZE);
    idle.bytes().write(0, &expected);
    let submit = |times| submit(&gpu, &busy, times);
    submit(LONG);

    let content = pattern(2, 3 * PAGE + 5);
    let at = |mib: usize| (mib << 20) + 1001;
    idle.bytes().write(at(5), &content[..77]);
    expected[at(5)..][..77].copy_from_slice(&content[..77]);
    if !sigsegv_under_test() {
        read_file(&content, idle.bytes().at(at(11)));
        expected[at(11)..][..content.len()].copy_from_slice(&content);
        if process::write_by_child(&content, idle.bytes().at(at(23))) {
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
#[ignore = "a child of the test below"]
fn child_touches_idle_memory_of_few_pages() {
    let gpu = Gpu::new();
    let (idle, busy) =
        (Buffer::mapped(&gpu, Kind::Coherent, SIZE), Buffer::mapped(&gpu, Kind::Coherent, PAGE));
    let content = pattern(3, 3 * PAGE + 5);
    let spot = |mib: usize| (mib << 20) + 4 * PAGE - 1;
    let mut expected: Vec<(usize, Vec<u8>)> = Vec::new();
    let write = |at: usize, content: &[u8]| {
        idle.bytes().write(at, content);
        (at, content.to_vec())
    };
    expected.extend((0..12).map(|index| write(spot(4 * index), &content[..index + 1])));
    submit(&gpu, &busy, LONG);

    // Beside a page that there is, and far from any.
    expected.extend([(4 << 20) + PAGE, 7 << 20, (10 << 20) - 500].map(|at| write(at, &content[..1000])));
    if !sigsegv_under_test() {
        let mut by_kernel = vec![spot(14)];
        read_file(&content, idle.bytes().at(spot(14)));
        if process::write_by_child(&content, idle.bytes().at(spot(16) + PAGE)) {
            by_kernel.push(spot(16) + PAGE);
        }
        expected.extend(by_kernel.into_iter().map(|at| (at, content.clone())));
    }
    for at in [(20 << 20) + 5 * PAGE - 4, 26 << 20] {
        gpu.run(|r| r.fill(&idle, at, 256 << 10, 0x5A));
        expected.push((at, vec![0x5A; 256 << 10]));
    }
    expected.push(write((26 << 20) + (256 << 10), &content[..77]));
    let check = || {
        let device = idle.all_as_device_sees();
        for (at, content) in &expected {
            assert!(device[*at..][..content.len()] == *content, "the device's view at {at:#x}");
            assert!(
                idle.bytes().part(*at, content.len()).read_all() == *content,
                "the processor's at {at:#x}"
            );
        }
    };
    check();
    submit(&gpu, &busy, LONG);
    check();
}

/// Has a child touch memory that was idle, which must have become cold where it can.
fn touch_idle_memory(child: &str) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("stats.json");
    let output = process::output(process::child(child).env("LOCKSTEP_STATS", &path));
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

#[test]
fn what_was_idle_is_seen_by_both_sides_once_it_is_touched() {
    touch_idle_memory("child_touches_idle_memory");
}

#[test]
fn what_was_idle_and_has_few_pages_is_seen_by_both_sides_once_it_is_touched() {
    touch_idle_memory("child_touches_idle_memory_of_few_pages");
}
