//! The kernel writes into pages that it pinned before: io_uring's registered buffers, reads past the page
//! cache.

use io_uring::{IoUring, opcode, types};
use lockstep_harness::{Buffer, Gpu, Kind, MappedBytes, PAGE, lockstep_under_test, pattern, skip, tracker};
use std::io::{PipeReader, PipeWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

const SIZE: usize = 8 * PAGE;

/// A ring, where there is one, and the tracker sees what the kernel writes at all.
fn ring() -> Option<IoUring> {
    if lockstep_under_test() && tracker() == "sigsegv" {
        skip("this tracker declares that the kernel cannot write");
        return None;
    }
    let ring = IoUring::new(64);
    if ring.is_err() {
        skip("io_uring is not to be had here");
    }
    ring.ok()
}

/// Registers mapped bytes as the ring's only buffer: they are pinned until the ring goes.
fn register(ring: &IoUring, bytes: MappedBytes) {
    let buffer = libc::iovec { iov_base: bytes.at(0).cast(), iov_len: bytes.len() };
    // SAFETY: The bytes stay mapped until the ring is dropped.
    unsafe { ring.submitter().register_buffers(&[buffer]) }.expect("registering a buffer");
}

/// Asks for bytes of a pipe, to be written into the registered buffer when somebody fills the pipe.
fn ask(ring: &mut IoUring, pipe: &PipeReader, bytes: MappedBytes) {
    let len = u32::try_from(bytes.len()).expect("few bytes");
    let entry = opcode::ReadFixed::new(types::Fd(pipe.as_raw_fd()), bytes.at(0), len, 0).build();
    // SAFETY: The buffer is registered and the pipe open until the answer is there.
    unsafe { ring.submission().push(&entry) }.expect("a free entry");
    ring.submit().expect("io_uring_enter(2)");
}

/// Waits for an answer.
fn answer(ring: &mut IoUring) -> usize {
    ring.submit_and_wait(1).expect("io_uring_enter(2)");
    let entry = ring.completion().next().expect("an answer");
    usize::try_from(entry.result()).unwrap_or_else(|_| panic!("answer {}", entry.result()))
}

/// Has the kernel write `content` through the pin after it was asked to, and after a submission flushed the
/// pages.
fn transfer(
    gpu: &Gpu,
    ring: &mut IoUring,
    (reader, writer): &mut (PipeReader, PipeWriter),
    bytes: MappedBytes,
    content: &[u8],
) {
    ask(ring, reader, bytes);
    gpu.submit(&[], None);
    writer.write_all(content).expect("filling the pipe");
    assert_eq!(answer(ring), content.len());
}

#[test]
fn what_lands_in_a_registered_buffer_after_a_submission_is_seen_by_the_next() {
    let Some(mut ring) = ring() else { return };
    let gpu = Gpu::new();
    let buffer = Buffer::coherent_with(&gpu, &pattern(0, SIZE));
    assert_eq!(buffer.all_as_device_sees(), pattern(0, SIZE));
    register(&ring, buffer.bytes());
    gpu.submit(&[], None);
    let mut pipe = std::io::pipe().expect("a pipe");
    let mut expected = pattern(0, SIZE);
    for round in 1..20 {
        let at = 1000 + (round * 3001) % (SIZE - 2000);
        let content = pattern(round as u64, 700);
        transfer(&gpu, &mut ring, &mut pipe, buffer.bytes().part(at, 700), &content);
        expected[at..at + 700].copy_from_slice(&content);
        assert_eq!(buffer.all_as_device_sees(), expected, "round {round}");
    }
}

#[test]
fn a_buffer_that_stays_registered_is_watched_for_as_long() {
    let Some(mut ring) = ring() else { return };
    let gpu = Gpu::new();
    let buffer = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    // Changed and registered between the same two submissions.
    buffer.bytes().write(0, &pattern(1, SIZE));
    register(&ring, buffer.bytes());
    let mut pipe = std::io::pipe().expect("a pipe");
    let mut expected = pattern(1, SIZE);
    for round in 0..8 {
        (0..200).for_each(|_| gpu.submit(&[], None));
        let content = pattern(2 + round as u64, 100);
        let at = round * PAGE + 5;
        transfer(&gpu, &mut ring, &mut pipe, buffer.bytes().part(at, 100), &content);
        expected[at..at + 100].copy_from_slice(&content);
        assert_eq!(buffer.all_as_device_sees(), expected, "round {round}");
    }
}

#[test]
fn a_read_past_the_page_cache_in_flight_across_submissions_is_seen() {
    let Some(mut ring) = ring() else { return };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    let path = directory.path().join("content");
    let content = pattern(3, 64 * SIZE);
    std::fs::write(&path, &content).expect("writing the file");
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path);
    let Ok(file) = file else {
        skip("this file system has no O_DIRECT");
        return;
    };
    file.sync_all().expect("fsync");
    let gpu = Gpu::new();
    let whole = Buffer::mapped(&gpu, Kind::Coherent, SIZE + PAGE);
    let start = (PAGE - whole.bytes().at(0).addr() % PAGE) % PAGE;
    let bytes = whole.bytes().part(start, SIZE);
    for round in 0..64 {
        let len = u32::try_from(SIZE).expect("few bytes");
        let entry = opcode::Read::new(types::Fd(file.as_raw_fd()), bytes.at(0), len)
            .offset((round * SIZE) as u64)
            .build();
        // SAFETY: The memory stays mapped and the file open until the answer is there.
        unsafe { ring.submission().push(&entry) }.expect("a free entry");
        ring.submit().expect("io_uring_enter(2)");
        (0..3).for_each(|_| gpu.submit(&[], None));
        assert_eq!(answer(&mut ring), SIZE, "round {round}");
        let expected = &content[round * SIZE..(round + 1) * SIZE];
        assert!(whole.as_device_sees(start, SIZE) == expected, "round {round}");
    }
}

#[test]
fn pages_of_mapped_memory_go_through_a_pipe_without_a_copy() {
    let gpu = Gpu::new();
    let source = Buffer::coherent_with(&gpu, &pattern(4, SIZE));
    let target = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    gpu.run(|r| r.copy(&source, 0, &target, 0, SIZE));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let part = libc::iovec { iov_base: target.bytes().at(0).cast(), iov_len: SIZE };
    // SAFETY: As many bytes are mapped there, until the pipe was read.
    let put = unsafe { libc::vmsplice(writer.as_raw_fd(), &raw const part, 1, 0) };
    assert_eq!(usize::try_from(put), Ok(SIZE), "{}", std::io::Error::last_os_error());

    let got = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    if lockstep_under_test() && tracker() == "sigsegv" {
        got.bytes().fill(0, SIZE, 1);
    }
    let part = libc::iovec { iov_base: got.bytes().at(0).cast(), iov_len: SIZE };
    // SAFETY: As many bytes are mapped there.
    let taken = unsafe { libc::vmsplice(reader.as_raw_fd(), &raw const part, 1, 0) };
    assert_eq!(usize::try_from(taken), Ok(SIZE), "{}", std::io::Error::last_os_error());
    assert_eq!(got.all_as_device_sees(), pattern(4, SIZE));
}
