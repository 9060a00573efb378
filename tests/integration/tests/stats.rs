//! `LOCKSTEP_STATS` counts what was moved, to the byte.

use lockstep_harness::{Buffer, Gpu, PAGE, lockstep_under_test, pattern, process, skip};

const PAGES: usize = 64;
const COUNTERS: [&str; 8] = [
    "cpu_bytes_written",
    "bytes_flushed",
    "pages_dirty",
    "bytes_pulled",
    "scans",
    "scan_ns",
    "flush_ns",
    "pull_ns",
];

/// Changes `cpu` bytes by the processor and `device` bytes by the device, scattered over many pages.
fn change(cpu: usize, device: usize) {
    let gpu = Gpu::new();
    let len = PAGES * PAGE;
    let buffer = Buffer::coherent_with(&gpu, &pattern(1, len));
    let target = Buffer::poisoned(&gpu, len);
    let flipped: Vec<u8> = pattern(1, len).iter().map(|byte| !byte).collect();
    let source = Buffer::coherent_with(&gpu, &flipped);
    gpu.run(|r| r.copy(&buffer, 0, &target, 0, len));

    // 4093 and the length have no common divisor: no place comes twice.
    let place = |n: usize| n * 4093 % len;
    for at in (0..cpu).map(place) {
        buffer.bytes().store(at, !buffer.bytes().load(at));
    }
    gpu.run(|r| r.copy(&buffer, 0, &target, 0, len));
    let regions: Vec<_> = (cpu..cpu + device).map(|n| (place(n), place(n), 1)).collect();
    if !regions.is_empty() {
        gpu.run(|r| r.copy_regions(&source, &buffer, &regions));
    }
    for (at, byte) in (cpu..cpu + device).map(|n| (place(n), flipped[place(n)])) {
        assert_eq!(buffer.bytes().load(at), byte);
    }
}

#[test]
#[ignore = "a child of the tests below"]
fn child_changes_bytes() {
    let number = |name| std::env::var(name).expect("the parent sets it").parse().expect("a number");
    change(number("CPU_BYTES"), number("DEVICE_BYTES"));
}

/// Runs the child and returns the counters it left.
fn counters(cpu: usize, device: usize) -> Vec<u64> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("stats.json");
    let output = process::output(
        process::child("child_changes_bytes")
            .env("CPU_BYTES", cpu.to_string())
            .env("DEVICE_BYTES", device.to_string())
            .env("LOCKSTEP_STATS", &path),
    );
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(path).expect("the file of counters");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let counter = |name| json[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {text}"));
    COUNTERS.into_iter().map(counter).collect()
}

#[test]
fn every_counter_is_there_and_counts() {
    if !lockstep_under_test() {
        skip("the counters are Lockstep's");
        return;
    }
    let counters = counters(1000, 100);
    for (name, value) in COUNTERS.iter().zip(counters) {
        assert_ne!(value, 0, "{name}");
    }
}

#[test]
fn bytes_flushed_grow_by_the_bytes_that_changed_not_by_pages() {
    if !lockstep_under_test() {
        skip("the counters are Lockstep's");
        return;
    }
    let (few, many) = (counters(10, 0), counters(10 + 1777, 0));
    assert_eq!(many[1] - few[1], 1777);
}

#[test]
fn bytes_pulled_grow_by_the_bytes_that_changed_not_by_pages() {
    if !lockstep_under_test() {
        skip("the counters are Lockstep's");
        return;
    }
    let (few, many) = (counters(10, 10), counters(10, 10 + 1333));
    assert_eq!(many[3] - few[3], 1333);
    assert_eq!(many[1], few[1]);
}

#[test]
fn bytes_written_again_with_the_same_value_are_not_flushed() {
    if !lockstep_under_test() {
        skip("the counters are Lockstep's");
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("stats.json");
    let output = process::output(process::child("child_rewrites_bytes").env("LOCKSTEP_STATS", &path));
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(path).expect("the file of counters");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let flushed = json["bytes_flushed"].as_u64().expect("a number");
    let written_once = (PAGES * PAGE) as u64;
    assert!(flushed <= written_once, "{flushed} flushed, though only {written_once} ever changed");
}

#[test]
#[ignore = "a child of the test above"]
fn child_rewrites_bytes() {
    let gpu = Gpu::new();
    let len = PAGES * PAGE;
    let buffer = Buffer::coherent_with(&gpu, &pattern(1, len));
    let target = Buffer::poisoned(&gpu, len);
    for _ in 0..10 {
        buffer.bytes().write(0, &pattern(1, len));
        gpu.run(|r| r.copy(&buffer, 0, &target, 0, len));
    }
}
