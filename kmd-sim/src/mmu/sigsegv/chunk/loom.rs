//! Explores the interleavings of stores, handlers and scans, with the protocol and with one of its guards
//! removed.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p kmd-sim --lib loom`

use ::loom::model::Builder;
use ::loom::sync::{Arc, Mutex};
use ::loom::thread;

use super::*;

/// The protocol, or what is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Whole,
    HandlersAreNotCounted,
    ClosedBeforeItIsClean,
    ReportedBeforeItIsClosed,
}

const WRITERS: usize = 2;

/// A page that is a chunk of its own. A store and a change of protection exclude each other, as they do on a
/// processor: `mprotect` returns when no processor can store any more.
#[derive(Default)]
struct Page {
    writable: bool,
    bytes: [u8; WRITERS],
}

struct Machine {
    chunks: Chunks,
    page: Mutex<Page>,
}

impl Protect for Machine {
    fn open(&self, _: Range<usize>) -> bool {
        self.page.lock().unwrap().writable = true;
        true
    }

    fn close(&self, _: Range<usize>) -> bool {
        self.page.lock().unwrap().writable = false;
        true
    }
}

impl Machine {
    /// A closed, clean page.
    fn new() -> Self {
        let machine = Self { chunks: Chunks::new(1), page: Mutex::default() };
        machine.chunks.close(0..1, &machine, &mut |_| {});
        machine
    }

    fn load(&self) -> [u8; WRITERS] {
        self.page.lock().unwrap().bytes
    }

    /// One store, tried again after each fault.
    fn store(&self, protocol: Protocol, at: usize, byte: u8) {
        loop {
            {
                let mut page = self.page.lock().unwrap();
                if page.writable {
                    page.bytes[at] = byte;
                    return;
                }
            }
            if protocol == Protocol::HandlersAreNotCounted {
                self.chunks.soil(0);
                self.open(0..1);
            } else {
                self.chunks.open(0..1, self);
            }
        }
    }

    /// One scan; `host` gets what the page holds when it is reported.
    fn scan(&self, protocol: Protocol, host: &mut [u8; WRITERS]) {
        match protocol {
            Protocol::Whole | Protocol::HandlersAreNotCounted => {
                self.chunks.close(0..1, self, &mut |_| *host = self.load());
            }
            Protocol::ClosedBeforeItIsClean => {
                self.close(0..1);
                if self.chunks.look(0) != Look::Clean {
                    *host = self.load();
                }
            }
            Protocol::ReportedBeforeItIsClosed => match self.chunks.look(0) {
                Look::Clean => {}
                Look::Busy => *host = self.load(),
                Look::Cleaned => {
                    *host = self.load();
                    self.close(0..1);
                }
            },
        }
    }
}

/// Each of `writers` threads stores once while the page is scanned twice; what was stored must have been
/// found when all is quiet and the page is scanned once more.
fn explore(protocol: Protocol, writers: usize) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(if writers == 1 { 5 } else { 3 });
    builder.check(move || {
        let machine = Arc::new(Machine::new());
        let threads: Vec<_> = (0..writers)
            .map(|at| {
                let machine = Arc::clone(&machine);
                thread::spawn(move || machine.store(protocol, at, 1))
            })
            .collect();
        let mut host = [0; WRITERS];
        machine.scan(protocol, &mut host);
        machine.scan(protocol, &mut host);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        machine.scan(protocol, &mut host);
        assert_eq!(host, machine.load(), "a store was lost");
    });
}

#[test]
fn one_writer_loses_nothing() {
    explore(Protocol::Whole, 1);
}

#[test]
fn two_writers_lose_nothing() {
    explore(Protocol::Whole, 2);
}

#[test]
#[should_panic(expected = "a store was lost")]
fn without_the_count_of_handlers_a_store_is_lost() {
    explore(Protocol::HandlersAreNotCounted, 1);
}

#[test]
#[should_panic(expected = "a store was lost")]
fn with_a_chunk_closed_before_it_is_clean_a_store_is_lost() {
    explore(Protocol::ClosedBeforeItIsClean, 1);
}

#[test]
#[should_panic(expected = "a store was lost")]
fn with_a_chunk_reported_before_it_is_closed_a_store_is_lost() {
    explore(Protocol::ReportedBeforeItIsClosed, 1);
}
