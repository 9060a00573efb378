//! Lazy readback: what the device wrote follows when the processor touches it, system calls and all.
//!
//! All other tests run with it, too: `LOCKSTEP_READBACK=lazy scripts/test`.

use lockstep_harness::{
    Batch, Buffer, Commands, Compute, Fence, Gpu, Kind, PAGE, Timeline, loader, lockstep_under_test, pattern,
    process, skip, tracker, validation,
};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// Adds to all words of a buffer; as many groups as there are KiB by four.
const SHADER: &str = "
    @group(0) @binding(0) var<storage, read_write> words: array<u32>;

    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        for (var i = 0u; i < 16u; i++) {
            words[id.x * 16u + i] += 0x01010101u;
        }
    }";
/// What it writes.
const COMPUTED: usize = 16 << 20;
const GROUPS: u32 = 4096;
/// The least window.
const WINDOW: u64 = 16 * 4096;

/// Has devices of this process read back in a way; false where there is none.
fn read_back(how: &str) -> bool {
    if !lockstep_under_test()
        || !["auto", "uffd"].contains(&tracker().as_str())
        || !process::may_serve_faults()
    {
        skip("nothing here serves page faults");
        return false;
    }
    loader::set("LOCKSTEP_READBACK", how);
    true
}

fn serving_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc/self/task");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "lockstep-faults").count()
}

#[test]
#[ignore = "a child of the test below"]
fn child_computes() {
    let frames = std::env::var("FRAMES").expect("the parent sets it").parse().expect("a number");
    let gpu = Gpu::new();
    let compute = Compute::new(&gpu, SHADER, 1);
    let buffer = Buffer::mapped(&gpu, Kind::Coherent, COMPUTED);
    gpu.run(|r| r.fill(&buffer, 0, COMPUTED, 0));
    let bindings = compute.bind(&[(&buffer, 0, COMPUTED)]);
    for frame in 1..=frames {
        gpu.run(|r| r.dispatch(&compute, &bindings, GROUPS));
        assert_eq!(buffer.bytes().read(0x0012_3440, 64), [frame; 64]);
        if std::env::var_os("READ_ALL").is_some() {
            (0..COMPUTED).step_by(PAGE).for_each(|at| assert_eq!(buffer.bytes().load(at), frame));
        }
    }
    println!("\nthreads={}", serving_threads());
}

#[test]
#[ignore = "a child of the test below"]
fn child_has_much_that_is_not_looked_at() {
    let gpu = Gpu::new();
    let small = Buffer::mapped(&gpu, Kind::Coherent, 4096);
    let read_only = Buffer::mapped(&gpu, Kind::Coherent, 256 << 20);
    let unmapped = Buffer::unmapped(&gpu, Kind::Coherent, 256 << 20);
    let reader = Compute::new(
        &gpu,
        "
        @group(0) @binding(0) var<storage, read_write> words: array<u32>;
        @group(0) @binding(1) var<storage, read> lower: array<u32>;
        @group(0) @binding(2) var<storage, read> upper: array<u32>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            // What was never written may be anything.
            words[id.x] = ((lower[id.x] | upper[id.x * 1000u]) & 0u) + 5u;
        }",
        3,
    );
    let half = 128 << 20;
    let bindings = reader.bind(&[(&small, 0, 4096), (&read_only, 0, half), (&read_only, half, half)]);
    let writer = Compute::new(&gpu, SHADER, 1);
    let written = writer.bind(&[(&unmapped, COMPUTED, COMPUTED)]);
    for _ in 0..3 {
        gpu.run(|r| {
            r.dispatch(&reader, &bindings, 16);
            r.dispatch(&writer, &written, GROUPS);
        });
        assert_eq!(small.bytes().read(4, 4), [5, 0, 0, 0]);
    }
    read_only.bytes().load(77);
}

/// Runs a child and returns its counters and the number of its threads that serve faults.
fn counters(test: &str, how: &str, frames: usize) -> serde_json::Value {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("stats.json");
    let output = process::output(
        process::child(test)
            .env("FRAMES", frames.to_string())
            .env("LOCKSTEP_READBACK", how)
            .env("LOCKSTEP_STATS", &path),
    );
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(path).expect("the file of counters");
    println!("{test} {how} {frames}: {text}");
    serde_json::from_str(&text).expect("JSON")
}

fn number(counters: &serde_json::Value, name: &str) -> u64 {
    counters[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {counters}"))
}

/// How much a counter grows in a frame, after so many.
fn in_frame(how: &str, frame: usize, name: &str) -> u64 {
    let [before, after] =
        [frame - 1, frame].map(|frames| number(&counters("child_computes", how, frames), name));
    after - before
}

#[test]
fn of_16_mib_of_which_the_processor_reads_64_bytes_a_window_is_pulled() {
    if read_back("lazy") {
        let counters = counters("child_computes", "lazy", 1);
        assert!((1..=WINDOW).contains(&number(&counters, "bytes_pulled")), "{counters}");
        assert!(number(&counters, "bytes_compared") <= WINDOW, "{counters}");
        assert!(number(&counters, "lazy_pages_pulled") <= WINDOW / 4096, "{counters}");
        assert_eq!(number(&counters, "lazy_faults"), 1, "{counters}");
        assert_eq!(number(&counters, "pages_zapped"), COMPUTED as u64 / 4096, "{counters}");
        assert_eq!(number(&counters, "regions_lazy"), 8, "{counters}");
    }
}

#[test]
fn auto_comes_to_that_within_a_few_frames() {
    if read_back("auto") {
        for name in ["bytes_pulled", "bytes_compared"] {
            let grown = in_frame("auto", 4, name);
            assert!((1..=WINDOW).contains(&grown), "{name}: {grown}");
        }
        let counters = counters("child_computes", "auto", 4);
        assert_eq!(number(&counters, "regions_lazy"), 8, "{counters}");
    }
}

#[test]
fn auto_is_eager_where_the_processor_reads_it_all() {
    if read_back("auto") {
        // Children inherit it.
        loader::set("READ_ALL", "1");
        let tried = counters("child_computes", "auto", 1);
        assert_eq!((number(&tried, "regions_lazy"), number(&tried, "regions_eager")), (8, 0), "{tried}");
        let found = counters("child_computes", "auto", 2);
        assert_eq!((number(&found, "regions_lazy"), number(&found, "regions_eager")), (0, 8), "{found}");
        assert_eq!(in_frame("auto", 4, "lazy_pages_pulled"), 0);
        assert_eq!(in_frame("auto", 4, "bytes_pulled"), COMPUTED as u64);
    }
}

#[test]
fn eager_pulls_it_all() {
    if read_back("eager") {
        assert_eq!(in_frame("eager", 2, "bytes_pulled"), COMPUTED as u64);
        assert_eq!(number(&counters("child_computes", "eager", 2), "pages_zapped"), 0);
    }
}

#[test]
fn what_is_read_only_or_not_mapped_costs_nothing() {
    for how in ["auto", "lazy", "eager"] {
        if read_back(how) {
            let counters = counters("child_has_much_that_is_not_looked_at", how, 0);
            assert!(number(&counters, "bytes_compared") <= 3 * 4096, "{counters}");
            assert!(number(&counters, "pages_zapped") <= 3, "{counters}");
            assert!(number(&counters, "bytes_pulled") <= 4096, "{counters}");
        }
    }
}

#[test]
fn a_thread_serves_faults_from_the_first_lazy_completion_to_the_end_of_the_device() {
    if !read_back("lazy") {
        return;
    }
    let gpu = Gpu::new();
    let buffer = Buffer::coherent_with(&gpu, &pattern(1, 3 * PAGE));
    assert_eq!(buffer.all_as_device_sees(), pattern(1, 3 * PAGE));
    let other = Buffer::mapped(&gpu, Kind::Coherent, 3 * PAGE);
    gpu.run(|r| r.copy(&buffer, 0, &other, 0, 3 * PAGE));
    assert_eq!(serving_threads(), 1);
    assert_eq!(other.bytes().read_all(), pattern(1, 3 * PAGE));
    drop((buffer, other, gpu));
    assert_eq!(serving_threads(), 0);
}

#[test]
fn system_calls_read_and_write_what_was_left_behind() {
    const SIZE: usize = 20 * PAGE + 77;
    if !read_back("lazy") {
        return;
    }
    let gpu = Gpu::new();
    let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let buffer = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let (read, write) = std::io::pipe().expect("a pipe");
    for round in 0..20 {
        let mut expected = pattern(round, SIZE);
        source.bytes().write(0, &expected);
        gpu.run(|r| r.copy(&source, 0, &buffer, 0, SIZE));
        let at = PAGE / 2;
        let len = 10 * PAGE;
        // SAFETY: As many bytes are mapped there; a pipe holds more than that.
        let put = unsafe { libc::write(write.as_raw_fd(), buffer.bytes().at(at).cast(), len) };
        assert_eq!(usize::try_from(put), Ok(len), "round {round}");
        // SAFETY: As many bytes are mapped there.
        let got = unsafe { libc::read(read.as_raw_fd(), buffer.bytes().at(at + 9 * PAGE).cast(), len) };
        assert_eq!(usize::try_from(got), Ok(len), "round {round}");
        expected.copy_within(at..at + len, at + 9 * PAGE);
        assert!(buffer.all_as_device_sees() == expected, "the device's view, round {round}");
        assert!(buffer.bytes().read_all() == expected, "the processor's view, round {round}");
    }
}

#[test]
fn threads_touch_the_same_pages_at_once() {
    const SIZE: usize = 300 * PAGE;
    if !read_back("lazy") {
        return;
    }
    let gpu = Gpu::new();
    let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let buffer = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    for round in 0..10 {
        let expected = &pattern(round, SIZE);
        source.bytes().write(0, expected);
        gpu.run(|r| r.copy(&source, 0, &buffer, 0, SIZE));
        let bytes = buffer.bytes();
        std::thread::scope(|scope| {
            for thread in 0..6_u8 {
                scope.spawn(move || {
                    let place = usize::from(thread);
                    let pages: Vec<usize> =
                        (0..300).map(|page| page * [1, 7, 299][place % 3] % 300).collect();
                    for at in pages.into_iter().map(|page| page * PAGE + place * 8) {
                        assert_eq!(bytes.load(at), expected[at], "round {round}, at {at}");
                        bytes.store(at, thread);
                    }
                });
            }
        });
        let mut expected = expected.clone();
        for (thread, place) in (0..6_u8).zip(0..) {
            (0..300).for_each(|page| expected[page * PAGE + place * 8] = thread);
        }
        assert!(buffer.all_as_device_sees() == expected, "round {round}");
    }
}

#[test]
fn memory_is_unmapped_mapped_written_and_freed_while_bytes_are_left_behind() {
    const SIZE: usize = 40 * PAGE + 8;
    if !read_back("lazy") {
        return;
    }
    let gpu = Gpu::new();
    let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    for round in 0..12 {
        let first = pattern(round, SIZE);
        let buffer = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
        source.bytes().write(0, &first);
        gpu.run(|r| r.copy(&source, 0, &buffer, 0, SIZE));
        if round % 3 == 0 {
            continue;
        }
        let mut expected = first;
        buffer.bytes().store(5 * PAGE, 0x11);
        expected[5 * PAGE] = 0x11;
        buffer.memory().unmap();
        gpu.run(|r| r.fill(&buffer, 30 * PAGE, PAGE, 0x22));
        expected[30 * PAGE..31 * PAGE].fill(0x22);
        let bytes = buffer.memory().map_whole();
        bytes.store(6 * PAGE, 0x33);
        expected[6 * PAGE] = 0x33;
        gpu.run(|r| r.fill(&buffer, 6 * PAGE + 4, 4, 0x44));
        expected[6 * PAGE + 4..6 * PAGE + 8].fill(0x44);
        assert!(bytes.read(0, SIZE) == expected, "round {round}");
        assert!(buffer.all_as_device_sees() == expected, "round {round}");
    }
}

#[test]
fn locked_memory_is_read_back_all_the_same() {
    const SIZE: usize = 40 * PAGE;
    if !read_back("lazy") {
        return;
    }
    let gpu = Gpu::new();
    let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let buffer = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    for round in 0..6 {
        if round == 3 {
            let at = buffer.bytes().at(0).addr().next_multiple_of(PAGE) - buffer.bytes().at(0).addr();
            // SAFETY: As many bytes are mapped there.
            if unsafe { libc::mlock(buffer.bytes().at(at).cast(), 10 * PAGE) } != 0 {
                skip("no memory may be locked here");
                return;
            }
        }
        source.bytes().write(0, &pattern(round, SIZE));
        gpu.run(|r| r.copy(&source, 0, &buffer, 0, SIZE));
        buffer.bytes().store(3 * PAGE, 0x5A);
        let mut expected = pattern(round, SIZE);
        expected[3 * PAGE] = 0x5A;
        assert!(buffer.all_as_device_sees() == expected, "the device's view, round {round}");
        assert!(buffer.bytes().read_all() == expected, "the processor's view, round {round}");
    }
}

#[test]
fn a_touch_waits_for_no_batch_that_waits_for_the_processor() {
    validation::loses_count_of_timelines("one thread waits while another signals");
    const SIZE: usize = 40 * PAGE;
    if !read_back("lazy") {
        return;
    }
    let gpu = Gpu::new();
    let source = Buffer::coherent_with(&gpu, &pattern(1, SIZE));
    let buffer = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    gpu.run(|r| r.copy(&source, 0, &buffer, 0, SIZE));
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let commands = Commands::new(&gpu, |r| r.copy(&buffer, 0, &target, 0, SIZE));
    let (timeline, fence) = (Timeline::new(&gpu), Fence::new(&gpu));
    gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&fence));
    std::thread::scope(|scope| {
        scope.spawn(|| fence.wait());
        assert_eq!(buffer.bytes().load(20 * PAGE), pattern(1, SIZE)[20 * PAGE]);
        buffer.bytes().store(3, 0x77);
        timeline.signal(1);
    });
    let mut expected = pattern(1, SIZE);
    expected[3] = 0x77;
    assert!(target.bytes().read_all() == expected);
}

static LOOKED_AT: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LOOKS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn look(_: libc::c_int) {
    let start = LOOKED_AT.load(Ordering::Acquire);
    for page in 0..8 {
        let byte = start.wrapping_add(page * 40 * PAGE);
        // SAFETY: As many pages are mapped there.
        unsafe { byte.read_volatile() };
    }
    LOOKS.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_signal_handler_touches_what_was_left_behind() {
    const SIZE: usize = 320 * PAGE;
    if !read_back("lazy") {
        return;
    }
    let gpu = Gpu::new();
    let source = Buffer::coherent_with(&gpu, &pattern(1, SIZE));
    let buffer = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    LOOKED_AT.store(buffer.bytes().at(0).cast(), Ordering::Release);
    // SAFETY: All zeroes is a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int) = look;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: The handler reads mapped memory and counts.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) }, 0);
    // SAFETY: The call has no condition.
    let thread = unsafe { libc::pthread_self() };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // SAFETY: The thread waits for this one.
                unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
                std::thread::yield_now();
            }
        });
        for _ in 0..300 {
            gpu.run(|r| r.copy(&source, 0, &buffer, 0, SIZE));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(LOOKS.load(Ordering::Relaxed) > 0);
    assert!(buffer.bytes().read_all() == pattern(1, SIZE));
}

/// Becomes a process without privileges. False where an unprivileged one may serve faults, too.
fn drop_privileges() -> bool {
    // SAFETY: The call has no condition.
    if unsafe { libc::geteuid() } == 0 {
        // SAFETY: This call and the next concern this process alone.
        let groups = unsafe { libc::setgroups(0, std::ptr::null()) };
        // SAFETY: As above.
        let user = unsafe { libc::setuid(65534) };
        // Or /proc/self belongs to root. SAFETY: As above.
        let dumpable = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
        assert_eq!([groups, user, dumpable], [0; 3], "{}", std::io::Error::last_os_error());
    }
    !process::may_serve_faults()
}

#[test]
#[ignore = "a child of the tests below"]
fn child_without_privileges() {
    // The manifest is written while that is allowed.
    loader::entry();
    println!("\nunprivileged={}", drop_privileges());
    let gpu = Gpu::new();
    let source = Buffer::coherent_with(&gpu, &pattern(1, 64 * PAGE));
    let buffer = Buffer::mapped(&gpu, Kind::Coherent, 64 * PAGE);
    gpu.run(|r| r.copy(&source, 0, &buffer, 0, 64 * PAGE));
    assert_eq!(buffer.bytes().read_all(), pattern(1, 64 * PAGE));
    println!("\nthreads={}", serving_threads());
}

#[test]
fn without_privileges_auto_is_eager_and_says_nothing() {
    if !read_back("auto") {
        return;
    }
    let output = process::output(&mut process::child("child_without_privileges"));
    assert!(output.status.success(), "{output:?}");
    if process::value_of(&output, "unprivileged") == "true" {
        assert_eq!(process::value_of(&output, "threads"), "0");
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("lockstep: "), "{said}");
}

#[test]
fn without_privileges_lazy_is_one_line_and_no_device() {
    if !read_back("lazy") {
        return;
    }
    let output = process::output(&mut process::child("child_without_privileges"));
    if process::value_of(&output, "unprivileged") == "false" {
        skip("who has no privileges may serve page faults here");
        return;
    }
    assert!(!output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<_> = said.lines().filter(|line| line.starts_with("lockstep: ")).collect();
    assert!(lines.len() == 1 && lines[0].contains("LOCKSTEP_READBACK=lazy"), "{said}");
}
