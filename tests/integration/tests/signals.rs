//! Tracker sigsegv among the handlers of an application: each gets its own faults, as the kernel delivers
//! them, and none of the tracker's.

use lockstep_harness::{
    Buffer, Gpu, Kind, MappedBytes, PAGE, loader, lockstep_under_test, pattern, process, skip,
};
use std::os::unix::process::ExitStatusExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

const SIZE: usize = 40 * PAGE + 9;

type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// Has this process track by SIGSEGV; false where that is nobody's business, or the kernel does not deliver
/// signals itself.
fn use_sigsegv() -> bool {
    if loader::under_thread_sanitizer() {
        skip("ThreadSanitizer stands between the kernel and handlers");
        return false;
    }
    if lockstep_under_test() {
        loader::set("LOCKSTEP_TRACKER", "sigsegv");
        // What the environment asks for may not be had with it.
        loader::set("LOCKSTEP_READBACK", "auto");
        return true;
    }
    skip("other drivers have no tracker");
    false
}

fn work(gpu: &Gpu, seed: u64) {
    let source = Buffer::mapped(gpu, Kind::Coherent, SIZE);
    let target = Buffer::mapped(gpu, Kind::Coherent, SIZE);
    for round in seed..seed + 5 {
        source.bytes().write(0, &pattern(round, SIZE));
        gpu.run(|r| r.copy(&source, 0, &target, 0, SIZE));
        assert_eq!(target.bytes().read_all(), pattern(round, SIZE), "round {round}");
    }
}

fn action(handler: usize, flags: i32) -> libc::sigaction {
    // SAFETY: All zeroes is a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: The set has room.
    unsafe { libc::sigaddset(&raw mut action.sa_mask, libc::SIGUSR1) };
    action
}

/// Installs an action for SIGSEGV and returns the one before.
fn install(new: &libc::sigaction) -> libc::sigaction {
    let mut old = action(0, 0);
    // SAFETY: The handlers of this file call nothing but what handlers may.
    assert_eq!(unsafe { libc::sigaction(libc::SIGSEGV, new, &raw mut old) }, 0);
    old
}

fn installed() -> usize {
    process::signal_actions()[&libc::SIGSEGV].0
}

/// Takes the alternate signal stack of this thread away.
fn without_alternate_stack() {
    let none = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
    // SAFETY: No handler runs on it now.
    assert_eq!(unsafe { libc::sigaltstack(&raw const none, std::ptr::null_mut()) }, 0);
}

/// What a handler sees of a fault.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    faults: usize,
    code: i32,
    /// From the start of the page that was touched.
    offset: usize,
    blocked: u64,
    on_alternate_stack: i32,
}

static FAULTS: AtomicUsize = AtomicUsize::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);
static BLOCKED: AtomicU64 = AtomicU64::new(0);
static ON_STACK: AtomicI32 = AtomicI32::new(0);
/// The page whose faults the application means to handle.
static PAGE_OF_APPLICATION: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

fn blocked() -> u64 {
    let mut set = action(0, 0).sa_mask;
    // SAFETY: A null new set only asks; `set` has room.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut set) };
    // SAFETY: The C library's set begins with the kernel's.
    unsafe { *(&raw const set).cast() }
}

/// Writes down what it sees, and opens the application's page.
extern "C" fn observe_plain(_: libc::c_int) {
    FAULTS.fetch_add(1, Ordering::Relaxed);
    BLOCKED.store(blocked(), Ordering::Relaxed);
    // SAFETY: All zeroes is a valid `stack_t`.
    let mut stack: libc::stack_t = unsafe { std::mem::zeroed() };
    // SAFETY: A null new stack only asks; `stack` has room.
    unsafe { libc::sigaltstack(std::ptr::null(), &raw mut stack) };
    ON_STACK.store(stack.ss_flags & libc::SS_ONSTACK, Ordering::Relaxed);
    let page = PAGE_OF_APPLICATION.load(Ordering::Relaxed);
    // SAFETY: The page of this test.
    unsafe { libc::mprotect(page.cast(), PAGE, libc::PROT_READ | libc::PROT_WRITE) };
}

extern "C" fn observe(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: The kernel passes a valid structure.
    let info = unsafe { &*info };
    CODE.store(info.si_code, Ordering::Relaxed);
    // SAFETY: This signal has an address.
    ADDRESS.store(unsafe { info.si_addr() }.addr(), Ordering::Relaxed);
    observe_plain(signal);
}

fn new_page(protection: i32) -> *mut u8 {
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: A new mapping at an address the kernel chooses.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, protection, kind, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    page.cast()
}

/// Touches a page nobody may write, which the application's handler opens, and returns what that saw.
fn fault() -> Seen {
    let page = new_page(libc::PROT_READ);
    PAGE_OF_APPLICATION.store(page, Ordering::Relaxed);
    FAULTS.store(0, Ordering::Relaxed);
    let bytes = MappedBytes::new(page.cast(), PAGE);
    bytes.store(123, 0x42);
    assert_eq!(bytes.load(123), 0x42);
    // SAFETY: The mapping is this function's own.
    unsafe { libc::munmap(page.cast(), PAGE) };
    Seen {
        faults: FAULTS.load(Ordering::Relaxed),
        code: CODE.load(Ordering::Relaxed),
        offset: ADDRESS.load(Ordering::Relaxed).wrapping_sub(page.addr()),
        blocked: BLOCKED.load(Ordering::Relaxed),
        on_alternate_stack: ON_STACK.load(Ordering::Relaxed),
    }
}

/// Asserts that an action sees of a fault by way of the tracker what it sees without one.
fn assert_delivered_as_by_the_kernel(action: &libc::sigaction) {
    if !use_sigsegv() {
        return;
    }
    install(action);
    let before = installed();
    let mut native = fault();
    assert_eq!(native.faults, 1);
    if action.sa_flags & libc::SA_SIGINFO == 0 {
        native.offset = 0;
    }

    let gpu = Gpu::new();
    work(&gpu, 1);
    assert_ne!(installed(), before, "nothing to test");
    let mut by_way_of_tracker = fault();
    if action.sa_flags & libc::SA_SIGINFO == 0 {
        by_way_of_tracker.offset = 0;
    }
    assert_eq!(by_way_of_tracker, native);
    FAULTS.store(0, Ordering::Relaxed);
    work(&gpu, 20);
    assert_eq!(FAULTS.load(Ordering::Relaxed), 0, "the application got a fault of the tracker");
    drop(gpu);
    assert_eq!(installed(), before);
    assert_eq!(fault().faults, 1);
}

#[test]
fn a_handler_with_information_sees_its_faults_as_from_the_kernel() {
    without_alternate_stack();
    assert_delivered_as_by_the_kernel(&action(observe as Handler as usize, libc::SA_SIGINFO));
}

#[test]
fn a_handler_that_may_be_interrupted_by_itself_does() {
    without_alternate_stack();
    let flags = libc::SA_SIGINFO | libc::SA_NODEFER;
    assert_delivered_as_by_the_kernel(&action(observe as Handler as usize, flags));
}

#[test]
fn a_plain_handler_sees_its_faults_as_from_the_kernel() {
    without_alternate_stack();
    let plain: extern "C" fn(libc::c_int) = observe_plain;
    assert_delivered_as_by_the_kernel(&action(plain as usize, 0));
}

#[test]
fn a_handler_on_an_alternate_stack_sees_its_faults_as_from_the_kernel() {
    let flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    assert_delivered_as_by_the_kernel(&action(observe as Handler as usize, flags));
}

static ESCAPE: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
static ESCAPES: AtomicUsize = AtomicUsize::new(0);

/// Leaves by a jump, as `siglongjmp` does, and never returns.
#[cfg(target_arch = "x86_64")]
extern "C" fn escape(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    ESCAPES.fetch_add(1, Ordering::Relaxed);
    let [stack, place] = [&ESCAPE[0], &ESCAPE[1]].map(|word| word.load(Ordering::Relaxed));
    // SAFETY: `store_or_escape` waits there, with everything saved.
    unsafe { std::arch::asm!("mov rsp, {0}", "jmp {1}", in(reg) stack, in(reg) place, options(noreturn)) };
}

/// Tries to store to an address; comes back by way of [`escape`].
#[cfg(target_arch = "x86_64")]
fn store_or_escape(address: *mut u8) {
    // SAFETY: The frame is left and found as it was; every register is either saved or given up.
    unsafe {
        std::arch::asm!(
            "push rbx",
            "push rbp",
            "lea rax, [rip + 2f]",
            "mov [rsi + 8], rax",
            "mov [rsi], rsp",
            "mov byte ptr [rdi], 1",
            "2:",
            "pop rbp",
            "pop rbx",
            in("rdi") address,
            in("rsi") ESCAPE.as_ptr(),
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            clobber_abi("C"),
        );
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_handler_that_never_returns_is_called_for_each_fault() {
    if !use_sigsegv() {
        return;
    }
    install(&action(escape as Handler as usize, libc::SA_SIGINFO | libc::SA_NODEFER));
    let page = new_page(libc::PROT_READ);
    let unblocked = blocked();
    let unblock = || {
        let none = action(0, 0).sa_mask;
        // SAFETY: The set is valid.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const none, std::ptr::null_mut()) };
    };
    store_or_escape(page);
    let native = blocked();
    unblock();
    assert_eq!(blocked(), unblocked);

    let gpu = Gpu::new();
    work(&gpu, 1);
    ESCAPES.store(0, Ordering::Relaxed);
    for round in 1..=300 {
        store_or_escape(page);
        assert_eq!(blocked(), native, "the signals that stay blocked, round {round}");
        assert_eq!(ESCAPES.load(Ordering::Relaxed), round);
        unblock();
    }
    work(&gpu, 20);
    assert_eq!(ESCAPES.load(Ordering::Relaxed), 300);
}

static THEIRS: AtomicUsize = AtomicUsize::new(0);
static OLD: OnceLock<libc::sigaction> = OnceLock::new();

/// A good citizen: passes everything on to the action it found.
extern "C" fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    THEIRS.fetch_add(1, Ordering::Relaxed);
    let Some(old) = OLD.get() else { return };
    // SAFETY: The action was installed for this signal, with SA_SIGINFO.
    let handler = unsafe { std::mem::transmute::<usize, Handler>(old.sa_sigaction) };
    handler(signal, info, context);
}

#[test]
fn two_handlers_that_pass_on_to_each_other_come_to_an_end() {
    if !use_sigsegv() {
        return;
    }
    install(&action(observe as Handler as usize, libc::SA_SIGINFO));
    let first = installed();
    let gpu = Gpu::new();
    work(&gpu, 1);
    let old = install(&action(pass_on as Handler as usize, libc::SA_SIGINFO));
    assert!(OLD.set(old).is_ok());
    let second = installed();
    let fault_by_way_of_theirs = |times| {
        THEIRS.store(0, Ordering::Relaxed);
        assert_eq!(fault().faults, 1);
        assert_eq!(THEIRS.load(Ordering::Relaxed), times);
    };

    // Theirs is in front of the tracker's.
    fault_by_way_of_theirs(1);
    let buffer = Buffer::coherent_with(&gpu, &pattern(7, SIZE));
    assert_eq!(buffer.all_as_device_sees(), pattern(7, SIZE));
    // The tracker's is in front of theirs.
    assert_ne!(installed(), second);
    (0..100).for_each(|_| fault_by_way_of_theirs(1));
    THEIRS.store(0, Ordering::Relaxed);
    work(&gpu, 20);
    assert_eq!(THEIRS.load(Ordering::Relaxed), 0, "theirs got a fault of the tracker");
    drop(buffer);
    drop(gpu);

    // Theirs is the action of the process, and still passes on to the tracker's, which knows of theirs.
    assert_eq!(installed(), second);
    fault_by_way_of_theirs(2);
    let gpu = Gpu::new();
    work(&gpu, 30);
    (0..100).for_each(|_| fault_by_way_of_theirs(1));
    drop(gpu);
    assert_eq!(installed(), second);
    install(&action(first, libc::SA_SIGINFO));
    fault_by_way_of_theirs(0);
}

/// As a capture layer does (GFXReconstruct's page guard): its handler comes with the first map, comes again
/// when everything was unmapped in between, and takes the lock that the layer holds while it writes to mapped
/// memory.
#[test]
fn a_handler_that_comes_after_each_map_gets_no_fault_of_the_tracker() {
    if !use_sigsegv() {
        return;
    }
    let gpu = Gpu::new();
    let target = Buffer::poisoned(&gpu, SIZE);
    let buffer = Buffer::unmapped(&gpu, Kind::Coherent, SIZE);
    for round in 0..5 {
        let bytes = buffer.memory().map_whole();
        let old = install(&action(pass_on as Handler as usize, libc::SA_SIGINFO));
        OLD.get_or_init(|| old);
        for seed in [2 * round, 2 * round + 1] {
            bytes.write(0, &pattern(seed, SIZE));
            assert_eq!(THEIRS.load(Ordering::Relaxed), 0, "theirs got a fault of the tracker, seed {seed}");
            gpu.run(|r| r.copy(&buffer, 0, &target, 0, SIZE));
            assert!(target.as_device_sees(0, SIZE) == pattern(seed, SIZE), "bytes, seed {seed}");
        }
        buffer.memory().unmap();
        install(&old);
    }
}

#[test]
fn the_handler_comes_with_the_first_coherent_map_and_goes_with_the_last_device() {
    if !use_sigsegv() {
        return;
    }
    let before = process::signal_actions();
    for round in 0..20 {
        let first = Gpu::new();
        let device_only = Buffer::poisoned(&first, SIZE);
        assert_eq!(process::signal_actions(), before, "before the first map, round {round}");
        work(&first, round);
        assert_ne!(installed(), before[&libc::SIGSEGV].0, "while memory is mapped, round {round}");
        let second = Gpu::new();
        work(&second, round);
        drop((device_only, first));
        assert_ne!(installed(), before[&libc::SIGSEGV].0, "while the other device lives, round {round}");
        work(&second, round + 50);
        drop(second);
        assert_eq!(process::signal_actions(), before, "after the last device, round {round}");
    }
}

/// How a child meets its end.
const ENDS: [(&str, i32); 7] = [
    ("fault, default", libc::SIGSEGV),
    ("fault, ignored", libc::SIGSEGV),
    ("fault, untouched", libc::SIGSEGV),
    ("fault, one shot", libc::SIGSEGV),
    ("sent, default", libc::SIGSEGV),
    ("sent, ignored", 0),
    ("overflow, untouched", libc::SIGABRT),
];

#[test]
#[ignore = "a child of the test below"]
fn child_meets_its_end() {
    assert!(use_sigsegv());
    let end = std::env::var("END").expect("the parent sets it");
    let (cause, disposition) = end.split_once(", ").expect("two words");
    let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: The structure is valid.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core) };
    match disposition {
        "default" => _ = install(&action(libc::SIG_DFL, 0)),
        "ignored" => _ = install(&action(libc::SIG_IGN, 0)),
        "one shot" => {
            _ = install(&action(observe as Handler as usize, libc::SA_SIGINFO | libc::SA_RESETHAND));
        }
        _ => {}
    }
    let gpu = Gpu::new();
    work(&gpu, 1);
    match cause {
        "fault" if disposition == "one shot" => {
            assert_eq!(fault().faults, 1);
            fault();
        }
        "fault" => MappedBytes::new(std::ptr::without_provenance_mut(64), PAGE).store(0, 1),
        "overflow" => {
            assert_ne!(deeper(1), 0);
        }
        // SAFETY: No condition.
        _ => _ = unsafe { libc::raise(libc::SIGSEGV) },
    }
    work(&gpu, 20);
    println!("\nlives=yes");
}

/// Needs more stack than there is.
#[expect(unconditional_recursion, reason = "to overflow the stack")]
fn deeper(depth: usize) -> usize {
    let page = std::hint::black_box([depth; 512]);
    deeper(depth + 1) + page[depth % 512]
}

#[test]
fn a_process_that_must_die_of_a_signal_does() {
    if !use_sigsegv() {
        return;
    }
    for (end, signal) in ENDS {
        let output = process::output(process::child("child_meets_its_end").env("END", end));
        assert_eq!(output.status.signal().unwrap_or(0), signal, "{end}: {output:?}");
        let lives = String::from_utf8_lossy(&output.stdout).contains("lives=yes");
        assert_eq!(lives, signal == 0, "{end}: {output:?}");
    }
}

#[test]
#[ignore = "a child of the test below"]
fn child_replaces_the_handler_again_and_again() {
    assert!(use_sigsegv());
    let gpu = Gpu::new();
    let buffer = Buffer::coherent_with(&gpu, &pattern(0, SIZE));
    for round in 1..4 {
        assert_eq!(buffer.all_as_device_sees(), pattern(round - 1, SIZE));
        install(&action(observe as Handler as usize, libc::SA_SIGINFO));
        let theirs = installed();
        gpu.run(|_| {});
        assert_ne!(installed(), theirs, "round {round}");
        FAULTS.store(0, Ordering::Relaxed);
        buffer.bytes().write(0, &pattern(round, SIZE));
        assert_eq!(FAULTS.load(Ordering::Relaxed), 0, "round {round}");
    }
    println!("\nrounds=3");
}

#[test]
fn an_application_that_replaces_the_handler_is_told_once() {
    if !use_sigsegv() {
        return;
    }
    let output = process::output(&mut process::child("child_replaces_the_handler_again_and_again"));
    assert_eq!(process::value_of(&output, "rounds"), "3");
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("lockstep: ")).collect();
    assert!(matches!(lines[..], [line] if line.contains("SIGSEGV")), "{lines:?}");
}
