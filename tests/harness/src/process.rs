//! What a process can tell of itself, and how a test runs itself again as a child.

use std::collections::BTreeMap;
use std::process::{Command, Output};

/// Set in processes that a test started as its child.
pub const CHILD: &str = "LOCKSTEP_TEST_CHILD";

/// Returns the number of threads of this process.
///
/// # Panics
///
/// If /proc cannot tell.
pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("/proc/self/task").count()
}

/// What a process holds of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Open descriptors.
    pub descriptors: usize,
    /// Mappings, as /proc/self/maps lists them.
    pub mappings: usize,
    /// Threads.
    pub threads: usize,
    /// Bytes of memory that are resident, its own and shared.
    pub resident: usize,
}

impl Holdings {
    /// Asks what this process holds now.
    ///
    /// # Panics
    ///
    /// If /proc cannot tell.
    pub fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").expect("/proc/self/status");
        let kib = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
            number.unwrap_or_else(|| panic!("no {name} in {status}"))
        };
        let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc/self/maps");
        Self {
            descriptors: std::fs::read_dir("/proc/self/fd").expect("/proc/self/fd").count(),
            mappings: maps.lines().count(),
            threads: threads(),
            resident: (kib("RssAnon:") + kib("RssShmem:")) << 10,
        }
    }

    /// Asserts that nothing but `bytes` of memory was added since `before`, and heaps of threads.
    ///
    /// # Panics
    ///
    /// If there is more, and says what.
    pub fn assert_no_more_than(&self, before: &Self, bytes: usize) {
        let counts = |it: &Self| (it.descriptors, it.threads);
        assert_eq!(counts(self), counts(before), "before: {before:?}, now: {self:?}");
        // Each thread gets a heap of its own, of two mappings, when it first allocates beside another.
        assert!(self.mappings <= before.mappings + 2 * self.threads, "before: {before:?}, now: {self:?}");
        assert!(self.resident <= before.resident + bytes, "before: {before:?}, now: {self:?}");
    }
}

/// Returns the number of userfaultfd descriptors of this process.
///
/// # Panics
///
/// If /proc cannot tell.
pub fn userfaultfds() -> usize {
    let all = std::fs::read_dir("/proc/self/fd").expect("/proc/self/fd");
    let links = all.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().contains("userfaultfd")).count()
}

/// Returns whether this process may serve page faults of the kernel.
pub fn may_serve_faults() -> bool {
    // SAFETY: The call has no condition; the descriptor serves nothing.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    // SAFETY: Closes what was just made, or fails.
    unsafe { libc::close(i32::try_from(fd).expect("a descriptor")) == 0 }
}

/// Returns handler address, flags and mask of every signal.
pub fn signal_actions() -> BTreeMap<i32, (usize, i32, Vec<bool>)> {
    (1..=libc::SIGRTMAX()).filter_map(|signal| Some((signal, signal_action(signal)?))).collect()
}

fn signal_action(signal: i32) -> Option<(usize, i32, Vec<bool>)> {
    // SAFETY: All zeroes is a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: A null new action only asks; `action` has room.
    let answer = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    let blocks = |other| {
        // SAFETY: `sigaction` filled the mask.
        let answer = unsafe { libc::sigismember(&raw const action.sa_mask, other) };
        answer == 1
    };
    (answer == 0)
        .then(|| (action.sa_sigaction, action.sa_flags, (1..=libc::SIGRTMAX()).map(blocks).collect()))
}

/// Prepares to run one test of this executable as a child process, with [`CHILD`] set.
///
/// The test to run is marked `#[ignore]`, so that it runs as a child alone.
///
/// # Panics
///
/// If the executable cannot be found.
pub fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of the test executable"));
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]).env(CHILD, "1");
    command
}

/// Returns whether this process is a child that [`child`] prepared.
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs a command and returns what it printed and how it ended.
///
/// # Panics
///
/// If it cannot be run.
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("running {command:?}: {error}"))
}

/// Returns the value of the line `name=value` of a child's output.
///
/// # Panics
///
/// If there is none.
pub fn value_of(output: &Output, name: &str) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let prefix = format!("{name}=");
    // The line may begin with libtest's own words, which end without a line's end.
    let found =
        text.lines().find_map(|line| line.split_once(&prefix).map(|(_, value)| value.trim().to_owned()));
    found.unwrap_or_else(|| {
        panic!("no {name} in {text:?}; stderr: {}", String::from_utf8_lossy(&output.stderr))
    })
}

/// A child that [`fork`] made.
#[derive(Debug)]
pub struct Forked {
    id: libc::pid_t,
}

impl Forked {
    /// Waits for the end and returns the exit code, or 256 plus the signal that killed the child.
    ///
    /// # Panics
    ///
    /// If there is no such child.
    pub fn wait(self) -> i32 {
        let mut status = 0;
        // SAFETY: `status` has room.
        let waited = unsafe { libc::waitpid(self.id, &raw mut status, 0) };
        assert_eq!(waited, self.id, "waitpid: {}", std::io::Error::last_os_error());
        if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 256 + libc::WTERMSIG(status) }
    }
}

/// Forks, runs `child` there and ends the child by `_exit` with what it returns.
///
/// The child has one thread and maybe locks of others: it must not allocate, print or panic.
///
/// # Panics
///
/// If the process cannot be forked.
pub fn fork(child: impl FnOnce() -> u8) -> Forked {
    // SAFETY: The child only runs `child`, which by contract calls nothing that needs another thread.
    let id = unsafe { libc::fork() };
    assert!(id >= 0, "fork: {}", std::io::Error::last_os_error());
    if id == 0 {
        let code = child();
        // SAFETY: Ends the process without running anything of it.
        unsafe { libc::_exit(i32::from(code)) };
    }
    Forked { id }
}

/// Has a child process write `content` to `to` in this one (`process_vm_writev(2)`), where as much is mapped.
/// False where it may not, or could not write all.
pub fn write_by_child(content: &[u8], to: *mut u8) -> bool {
    let from = libc::iovec { iov_base: content.as_ptr().cast_mut().cast(), iov_len: content.len() };
    let to = libc::iovec { iov_base: to.cast(), iov_len: content.len() };
    // SAFETY: The call has no condition.
    let parent = unsafe { libc::getpid() };
    let child = fork(|| {
        // SAFETY: The kernel checks both ranges; by contract the one in the parent may be written.
        let moved = unsafe { libc::process_vm_writev(parent, &raw const from, 1, &raw const to, 1, 0) };
        u8::from(moved.cast_unsigned() != from.iov_len)
    });
    child.wait() == 0
}

/// A system call that is to fail, by its number, and for ioctl(2) by its request.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// `SYS_...`
    pub call: libc::c_long,
    /// The request of ioctl(2); `None`: whatever the arguments are.
    pub request: Option<u32>,
    /// What it fails with.
    pub errno: libc::c_int,
}

/// Has it fail in this process from now on, as in a sandbox.
///
/// # Panics
///
/// If the kernel does not install the filter.
pub fn refuse(refused: Refused) {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: u16::try_from(code).expect("a BPF code"),
        jt: 0,
        jf: 0,
        k,
    };
    let number = u32::try_from(refused.call).expect("a system call number");
    let errno = u32::try_from(refused.errno).expect("an error number");
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let unless =
        |k, jf| libc::sock_filter { jf, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k) };
    // The number of the system call is the first field of `struct seccomp_data`; its arguments begin at 16.
    let mut filter = vec![load(0)];
    match refused.request {
        None => filter.push(unless(number, 1)),
        Some(request) => filter.extend([unless(number, 3), load(24), unless(request, 1)]),
    }
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno));
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    let len = u16::try_from(filter.len()).expect("a short program");
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: Restricts this process only.
    let no_new_privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: As above; the program lives for the call.
    let seccomp = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(no_new_privileges | seccomp, 0, "{}", std::io::Error::last_os_error());
}
