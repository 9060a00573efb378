//! Processes that come out of one with mapped memory, while other threads keep the device at work.

use lockstep_harness::{Buffer, Gpu, Kind, PAGE, lockstep_under_test, pattern, process, skip};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

const SIZE: usize = 2 * PAGE + 33;

/// Has two threads write, submit and check all the time while `op` runs.
fn beside_two_working_threads(gpu: &Gpu, op: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    let worker = |first: u64| {
        let source = Buffer::mapped(gpu, Kind::Coherent, SIZE);
        let target = Buffer::mapped(gpu, Kind::Coherent, SIZE);
        let mut rounds = 0;
        while !stop.load(Ordering::Relaxed) || rounds == 0 {
            let expected = pattern(first + rounds, SIZE);
            source.bytes().write(0, &expected);
            gpu.run(|r| r.copy(&source, 0, &target, 0, SIZE));
            assert_eq!(target.bytes().read_all(), expected, "round {rounds} of {first}");
            rounds += 1;
        }
    };
    std::thread::scope(|scope| {
        for first in [0, 1 << 32] {
            scope.spawn(move || worker(first));
        }
        op();
        stop.store(true, Ordering::Relaxed);
    });
}

/// A program that does nothing, with success.
fn program() -> Command {
    Command::new("/bin/true")
}

#[test]
fn programs_start_while_threads_keep_the_device_at_work() {
    let gpu = Gpu::new();
    beside_two_working_threads(&gpu, || {
        for round in 0..40 {
            // By posix_spawn(3), which shares memory until it executes.
            assert!(program().status().expect("a program").success(), "round {round}");
            let mut forked = program();
            // SAFETY: The closure does nothing; that there is one has the child made by fork(2).
            unsafe { forked.pre_exec(|| Ok(())) };
            assert!(forked.status().expect("a program").success(), "round {round}");
        }
    });
}

#[test]
fn children_read_what_was_written_before_them_while_threads_keep_the_device_at_work() {
    let gpu = Gpu::new();
    let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    beside_two_working_threads(&gpu, || {
        for round in 0..40 {
            let expected = pattern(round, SIZE);
            source.bytes().write(0, &expected);
            gpu.run(|r| r.copy(&source, 0, &target, 0, SIZE));
            let both = [source.bytes(), target.bytes()];
            let same = || both.iter().all(|bytes| (0..SIZE).all(|at| bytes.load(at) == expected[at]));
            assert_eq!(process::fork(|| u8::from(!same())).wait(), 0, "round {round}");
        }
    });
}

/// What a child that shares its parent's memory is to do.
struct Errand<'a> {
    source: &'a Buffer,
    target: &'a Buffer,
    expected: u8,
}

extern "C" fn run_errand(errand: *mut libc::c_void) -> libc::c_int {
    // SAFETY: The parent waits, and keeps it.
    let errand = unsafe { &*errand.cast::<Errand<'_>>() };
    let read = errand.target.bytes().load(SIZE - 1);
    errand.source.bytes().store(PAGE + 1, read.wrapping_add(1));
    i32::from(read != errand.expected)
}

#[test]
fn a_child_of_vfork_reads_and_writes_as_its_parent_does() {
    let gpu = Gpu::new();
    let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let mut stack = vec![0_u8; 1 << 16];
    for round in 1..20_u8 {
        gpu.run(|r| r.fill(&target, 0, SIZE / 4 * 4, round));
        target.bytes().store(SIZE - 1, round);
        let mut errand = Errand { source: &source, target: &target, expected: round };
        let top = stack.as_mut_ptr_range().end.cast();
        // SAFETY: The child runs on the stack given, calls nothing but loads and stores, and the parent waits
        // for it.
        let id = unsafe {
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            libc::clone(run_errand, top, flags, (&raw mut errand).cast())
        };
        let mut status = 0;
        // SAFETY: `status` has room.
        assert_eq!(unsafe { libc::waitpid(id, &raw mut status, 0) }, id);
        assert_eq!(status, 0, "the child's view, round {round}");
        assert_eq!(source.as_device_sees(PAGE + 1, 1), [round + 1], "the device's view, round {round}");
    }
}

#[test]
#[ignore = "a child of the test below"]
fn child_has_a_child_that_ends_by_exit() {
    let gpu = Gpu::new();
    let source = Buffer::coherent_with(&gpu, &pattern(1, SIZE));
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    gpu.run(|r| r.copy(&source, 0, &target, 0, SIZE));
    let child = process::fork(|| {
        // SAFETY: Ends the process, by way of the handlers that its parent has registered.
        unsafe { libc::exit(7) }
    });
    assert_eq!(child.wait(), 7);
    source.bytes().write(0, &pattern(2, SIZE));
    gpu.run(|r| r.copy(&source, 0, &target, 0, SIZE));
    assert_eq!(target.bytes().read_all(), pattern(2, SIZE));
    let written =
        std::env::var_os("LOCKSTEP_STATS").is_some_and(|path| std::fs::exists(path).expect("a path"));
    println!("\nwritten_by_child={written}");
}

#[test]
fn a_child_that_ends_by_exit_takes_nothing_down_and_counts_nothing() {
    if !lockstep_under_test() {
        skip("what other drivers do at exit is theirs");
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let stats = directory.path().join("stats.json");
    let mut child = process::child("child_has_a_child_that_ends_by_exit");
    let output = process::output(child.env("LOCKSTEP_STATS", &stats));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(process::value_of(&output, "written_by_child"), "false");
    assert!(stats.exists());
}

/// How a process may end without destroying anything.
fn end(how: &str) {
    match how {
        "exit" => std::process::exit(0),
        // SAFETY: Ends the process.
        "_exit" => unsafe { libc::_exit(0) },
        "exit on another thread" => {
            let other = std::thread::spawn(|| std::process::exit(0));
            let _ = other.join();
        }
        "return" => {}
        other => panic!("{other}"),
    }
}

#[test]
#[ignore = "a child of the test below"]
fn child_ends_in_the_middle_of_work() {
    let gpu = Gpu::new();
    let buffer = Buffer::mapped(&gpu, Kind::Coherent, 16 << 20);
    let commands = lockstep_harness::Commands::new(&gpu, |r| {
        (0..50).for_each(|n| r.fill(&buffer, 0, 16 << 20, n));
    });
    let how = std::env::var("HOW").expect("the parent sets it");
    let threads = [0, 1].map(|_| {
        let gpu = gpu.clone();
        std::thread::spawn(move || {
            loop {
                let own = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
                own.bytes().fill(0, SIZE, 9);
                assert_eq!(own.all_as_device_sees(), [9; SIZE]);
            }
        })
    });
    buffer.bytes().store(5, 5);
    gpu.submit(&[lockstep_harness::Batch::new().run(&commands)], None);
    println!("\nsubmitted={how}");
    end(&how);
    // Everything stays as it is, the threads too.
    std::mem::forget((threads, buffer, commands, gpu));
}

#[test]
fn a_process_may_end_in_the_middle_of_work() {
    for how in ["exit", "_exit", "exit on another thread", "return"] {
        for _ in 0..5 {
            let mut child = process::child("child_ends_in_the_middle_of_work");
            let output = process::output(child.env("HOW", how));
            assert_eq!(process::value_of(&output, "submitted"), how);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{how}: {:?}, {errors}", output.status);
            assert_eq!(errors.lines().filter(|line| line.contains("panicked")).count(), 0, "{how}: {errors}");
        }
    }
}
