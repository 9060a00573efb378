//! The kernel itself reads and writes mapped coherent memory for the application, and no byte is lost.

use lockstep_harness::{Buffer, Gpu, Kind, MappedBytes, PAGE, pattern, process, sigsegv_under_test, skip};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// A size of several pages that is a multiple of neither 8 nor a page.
const SIZE: usize = 5 * PAGE + 77;

/// Turns the answer of a system call into a number of bytes.
fn count(answer: isize) -> usize {
    usize::try_from(answer).unwrap_or_else(|_| panic!("{}", std::io::Error::last_os_error()))
}

/// Has the kernel write to `bytes` by `call`, and returns how many bytes it wrote.
///
/// Under tracker sigsegv it declares that the kernel cannot, until the processor writes the pages: then this
/// asserts that memory that is tracked for certain (`tracked`) is refused, and writes every page before it
/// tries again.
fn kernel_writes(bytes: MappedBytes, tracked: bool, call: impl Fn() -> isize) -> usize {
    if !sigsegv_under_test() {
        return count(call());
    }
    if tracked {
        let before = bytes.read_all();
        assert_eq!((call(), std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EFAULT)));
        assert_eq!(bytes.read_all(), before);
    }
    (0..bytes.len()).step_by(PAGE).chain([bytes.len() - 1]).for_each(|at| bytes.store(at, bytes.load(at)));
    count(call())
}

fn file_with(bytes: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary file");
    file.write_all(bytes).expect("writing the file");
    file.seek(SeekFrom::Start(0)).expect("seeking");
    file
}

/// Returns a buffer whose pages are fresh, or already written and seen by the device.
fn target(gpu: &Gpu, touched: bool) -> (Buffer, Vec<u8>) {
    let buffer = Buffer::mapped(gpu, Kind::Coherent, SIZE);
    if touched {
        buffer.bytes().fill(0, SIZE, 0x2B);
        assert_eq!(buffer.all_as_device_sees(), vec![0x2B; SIZE]);
        (buffer, vec![0x2B; SIZE])
    } else {
        gpu.run(|r| r.fill(&buffer, 0, SIZE / 4 * 4, 0x2C));
        let expected = buffer.bytes().read_all();
        (buffer, expected)
    }
}

fn read_from_a_file(touched: bool) {
    let gpu = Gpu::new();
    let (buffer, mut expected) = target(&gpu, touched);
    let content = pattern(1, SIZE - 100);
    let file = file_with(&content);

    let part = buffer.bytes().part(50, SIZE - 100);
    let got = kernel_writes(part, touched, || {
        // SAFETY: As many bytes are mapped there.
        unsafe { libc::read(file.as_raw_fd(), part.at(0).cast(), part.len()) }
    });
    assert_eq!(got, SIZE - 100);
    expected[50..SIZE - 50].copy_from_slice(&content);

    assert_eq!(buffer.all_as_device_sees(), expected);
    assert_eq!(buffer.bytes().read_all(), expected);
}

#[test]
fn read_fills_pages_written_before() {
    read_from_a_file(true);
}

#[test]
fn read_fills_pages_the_processor_never_wrote() {
    read_from_a_file(false);
}

#[test]
fn read_again_and_again_into_the_same_pages_is_seen_each_time() {
    let gpu = Gpu::new();
    let (buffer, _) = target(&gpu, true);
    for round in 0..10 {
        let content = pattern(10 + round, SIZE);
        let file = file_with(&content);
        let got = kernel_writes(buffer.bytes(), true, || {
            // SAFETY: As many bytes are mapped there.
            unsafe { libc::read(file.as_raw_fd(), buffer.bytes().at(0).cast(), SIZE) }
        });
        assert_eq!(got, SIZE, "round {round}");
        assert!(buffer.all_as_device_sees() == content, "round {round}");
    }
}

#[test]
fn pread_past_the_page_cache_is_seen() {
    let gpu = Gpu::new();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    let path = directory.path().join("content");
    let content = pattern(2, 4 * PAGE);
    let mut file = std::fs::File::create(&path).expect("a file");
    file.write_all(&content).expect("writing the file");
    file.sync_all().expect("fsync");
    let options = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path);
    let Ok(file) = options else {
        skip("this file system has no O_DIRECT");
        return;
    };

    for touched in [true, false] {
        let (buffer, mut expected) = target(&gpu, touched);
        let at = PAGE - buffer.bytes().at(0).addr() % PAGE;
        let part = buffer.bytes().part(at, 4 * PAGE);
        // SAFETY: As many bytes are mapped there.
        let pread = || unsafe { libc::pread(file.as_raw_fd(), part.at(0).cast(), part.len(), 0) };
        if pread() < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
            skip("this file system wants another alignment for O_DIRECT");
            return;
        }
        assert_eq!(kernel_writes(part, touched, pread), 4 * PAGE, "touched: {touched}");
        expected[at..at + 4 * PAGE].copy_from_slice(&content);
        assert!(buffer.all_as_device_sees() == expected, "the device's view, touched: {touched}");
        assert!(buffer.bytes().read_all() == expected, "the processor's view, touched: {touched}");
    }
}

#[test]
fn process_vm_writev_is_seen() {
    let gpu = Gpu::new();
    for touched in [true, false] {
        let (buffer, mut expected) = target(&gpu, touched);
        let content = pattern(3, 2 * PAGE + 5);
        let from = libc::iovec { iov_base: content.as_ptr().cast_mut().cast(), iov_len: content.len() };
        let to = libc::iovec { iov_base: buffer.bytes().at(1001).cast(), iov_len: content.len() };
        // SAFETY: The call has no condition.
        let own = unsafe { libc::getpid() };

        let moved = kernel_writes(buffer.bytes().part(1001, content.len()), touched, || {
            // SAFETY: Both ranges are mapped, in this process.
            unsafe { libc::process_vm_writev(own, &raw const from, 1, &raw const to, 1, 0) }
        });
        assert_eq!(moved, content.len());
        expected[1001..1001 + content.len()].copy_from_slice(&content);

        assert!(buffer.all_as_device_sees() == expected, "the device's view, touched: {touched}");
        assert!(buffer.bytes().read_all() == expected, "the processor's view, touched: {touched}");
    }
}

#[test]
fn process_vm_writev_of_a_child_process_is_seen() {
    let gpu = Gpu::new();
    let (buffer, mut expected) = target(&gpu, true);
    let content = pattern(4, PAGE + 11);
    let write = || process::write_by_child(&content, buffer.bytes().at(4000));
    if sigsegv_under_test() {
        assert!(!write(), "this tracker says that it cannot");
        [4000, PAGE].into_iter().for_each(|at| buffer.bytes().store(at, buffer.bytes().load(at)));
    }
    if !write() {
        skip("a child may not write its parent's memory here");
        return;
    }
    expected[4000..4000 + content.len()].copy_from_slice(&content);

    assert_eq!(buffer.all_as_device_sees(), expected);
    assert_eq!(buffer.bytes().read_all(), expected);
}

#[test]
fn write_to_a_file_takes_what_the_device_wrote() {
    let gpu = Gpu::new();
    let source = Buffer::coherent_with(&gpu, &pattern(5, SIZE));
    let buffer = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    gpu.run(|r| r.copy(&source, 0, &buffer, 0, SIZE));
    let mut file = tempfile::tempfile().expect("a temporary file");

    // SAFETY: As many bytes are mapped there.
    let put = count(unsafe { libc::write(file.as_raw_fd(), buffer.bytes().at(3).cast(), SIZE - 3) });
    assert_eq!(put, SIZE - 3);

    let mut got = Vec::new();
    file.seek(SeekFrom::Start(0)).expect("seeking");
    file.read_to_end(&mut got).expect("reading the file");
    assert_eq!(got, pattern(5, SIZE)[3..]);
}

#[test]
fn readv_across_pages_is_seen() {
    let gpu = Gpu::new();
    let (buffer, mut expected) = target(&gpu, false);
    let content = pattern(6, 300);
    let file = file_with(&content);
    let parts = [(PAGE - 100, 150), (3 * PAGE - 1, 2), (7, 148)];
    let vectors = parts
        .map(|(at, len)| libc::iovec { iov_base: buffer.bytes().part(at, len).at(0).cast(), iov_len: len });

    let got = kernel_writes(buffer.bytes(), false, || {
        // SAFETY: All parts are mapped.
        unsafe { libc::readv(file.as_raw_fd(), vectors.as_ptr(), 3) }
    });
    assert_eq!(got, 300);
    let mut from = 0;
    for (at, len) in parts {
        expected[at..at + len].copy_from_slice(&content[from..from + len]);
        from += len;
    }

    assert_eq!(buffer.all_as_device_sees(), expected);
    assert_eq!(buffer.bytes().read_all(), expected);
}

#[test]
fn a_pipe_carries_bytes_from_one_mapped_buffer_to_another() {
    let gpu = Gpu::new();
    let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let staging = Buffer::coherent_with(&gpu, &pattern(7, SIZE));
    gpu.run(|r| r.copy(&staging, 0, &source, 0, SIZE));
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: The descriptor was just made and belongs to nobody else.
    let ends = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });

    // SAFETY: As many bytes are mapped there; a pipe holds more than that.
    let put = count(unsafe { libc::write(ends[1].as_raw_fd(), source.bytes().at(0).cast(), SIZE) });
    let got = kernel_writes(target.bytes(), false, || {
        // SAFETY: As many bytes are mapped there.
        unsafe { libc::read(ends[0].as_raw_fd(), target.bytes().at(0).cast(), SIZE) }
    });

    assert_eq!((put, got), (SIZE, SIZE));
    assert_eq!(target.all_as_device_sees(), pattern(7, SIZE));
}
