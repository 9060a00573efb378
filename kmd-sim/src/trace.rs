//! A timeline of what the driver does: records of one size in memory that is set aside beforehand.
//!
//! Who records takes the next place by one atomic addition, fills it, and publishes it with its first word.
//! Nothing waits, allocates or locks, so the thread that serves touches may record, too. When the memory is
//! full, what comes later is lost and counted. Nothing is overwritten: a record that is published stays as it
//! is.
//!
//! Without [`begin`] there is no memory, and each event costs a look at whether there is. The driver above
//! has events of its own ([`CALLERS`]), and writes them all.

use std::cell::Cell;
use std::time::Instant;

use crate::sync::machine::AtomicUsize;
use crate::sync::{AtomicU64, OnceLock, Ordering};
use crate::sys::pages::to_usize;
use crate::sys::{thread, zeroed};

/// Records there is room for.
const CAPACITY: usize = 1_000_000;
/// Words of a record: what and who, two times, and what [`Args`] holds.
const WORDS: usize = 8;
/// Bits of a word that names device and object which are the object's.
const OBJECT_BITS: u32 = 40;

/// The first code of an event of the driver above.
pub const CALLERS: u16 = 256;

/// Events of this driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Event {
    /// A thread that records for the first time.
    Thread,
    /// Writes of the CPU were looked for.
    Scan,
    /// Everything the CPU wrote was taken over to host memory.
    Flush,
    /// The share of one object.
    FlushObject,
    /// Pages in it that were dirty.
    Dirty,
    /// What completed batches wrote was taken over to guest pages.
    Pull,
    /// Pages that were compared for it.
    Pulled,
    /// A touch was served.
    LazyServe,
    /// A coherent object was mapped.
    Map,
    /// An explicit object was mapped.
    MapExplicit,
    /// An object was unmapped.
    Unmap,
    /// A range of an explicit object was copied to host memory.
    CopyToHost,
    /// And back.
    CopyFromHost,
    /// Somebody else had the reservation.
    Reservation,
}

/// How an event is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Its name.
    pub name: &'static str,
    /// Whether it has no duration.
    pub instant: bool,
    /// What [`Args::flush`] and those after it are called; empty: not shown.
    pub args: [&'static str; 4],
}

impl Event {
    const ALL: [Self; 14] = [
        Self::Thread,
        Self::Scan,
        Self::Flush,
        Self::FlushObject,
        Self::Dirty,
        Self::Pull,
        Self::Pulled,
        Self::LazyServe,
        Self::Map,
        Self::MapExplicit,
        Self::Unmap,
        Self::CopyToHost,
        Self::CopyFromHost,
        Self::Reservation,
    ];

    /// The event with a code; `None` for those of the driver above.
    pub fn of_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|event| *event as u16 == code)
    }

    /// How it is shown.
    pub fn form(self) -> Form {
        let (name, instant, args) = match self {
            Self::Thread => ("thread_name", true, [""; 4]),
            Self::Scan => ("scan", false, ["", "", "pages", ""]),
            Self::Flush => ("flush", false, ["flush", "", "pages", "bytes"]),
            Self::FlushObject => ("flush object", false, ["flush", "", "pages", "bytes"]),
            Self::Dirty => ("dirty", true, ["flush", "page", "pages", "changed"]),
            Self::Pull => ("pull", false, ["", "", "", "bytes"]),
            Self::Pulled => ("pulled", true, ["flush", "page", "pages", "changed"]),
            Self::LazyServe => ("lazy serve", false, ["", "page", "pages", "bytes"]),
            Self::Map => ("map", true, ["", "", "pages", "bytes"]),
            Self::MapExplicit => ("map explicit", true, ["", "", "pages", "bytes"]),
            Self::Unmap => ("unmap", true, [""; 4]),
            Self::CopyToHost => ("copy to host", false, ["", "", "", "bytes"]),
            Self::CopyFromHost => ("copy from host", false, ["", "", "", "bytes"]),
            Self::Reservation => ("wait for reservation", false, [""; 4]),
        };
        Form { name, instant, args }
    }
}

/// What an event concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// The number of the device; none is zero.
    pub device: u64,
    /// The number of the object; none is zero.
    pub object: u64,
    /// The number of the flush.
    pub flush: u64,
    /// The first page.
    pub page: u64,
    /// Pages.
    pub pages: u64,
    /// Bytes, of those that changed.
    pub bytes: u64,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// An [`Event`], or from [`CALLERS`] on one of the driver above.
    pub code: u16,
    /// The thread it happened on.
    pub thread: u32,
    /// When it began, in nanoseconds since the recorder was made.
    pub start: u64,
    /// How long it took, in nanoseconds.
    pub duration: u64,
    /// What it concerns.
    pub args: Args,
}

impl Record {
    /// The name that a record of [`Event::Thread`] holds.
    pub fn thread_name(&self) -> [u8; 16] {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&self.args.flush.to_ne_bytes());
        name[8..].copy_from_slice(&self.args.page.to_ne_bytes());
        name
    }
}

/// Memory for records.
#[derive(Debug)]
pub struct Recorder {
    epoch: Instant,
    /// The next place; beyond the end, how many records there were all the same.
    next: AtomicU64,
    flushes: AtomicU64,
    words: Box<[AtomicU64]>,
}

impl Recorder {
    /// Room for `capacity` records. It takes no memory until there are some.
    pub fn new(capacity: usize) -> Self {
        Self {
            epoch: Instant::now(),
            next: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            words: zeroed::atomics(capacity * WORDS),
        }
    }

    /// Records what began at `start` and took `duration` nanoseconds.
    pub fn record(&self, code: u16, start: Instant, duration: u64, args: &Args) {
        let start = u64::try_from(start.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX);
        self.put(&Record { code, thread: self.thread(start), start, duration, args: *args });
    }

    /// The number of this thread, which is recorded with its name the first time.
    fn thread(&self, start: u64) -> u32 {
        thread_local!(static THREAD: Cell<u32> = const { Cell::new(0) });
        if THREAD.get() == 0 {
            THREAD.set(thread::id());
            let name = thread::name();
            let half = |from: usize| u64::from_ne_bytes(std::array::from_fn(|at| name[from + at]));
            let args = Args { flush: half(0), page: half(8), ..Args::default() };
            self.put(&Record { code: Event::Thread as u16, thread: THREAD.get(), start, duration: 0, args });
        }
        THREAD.get()
    }

    fn put(&self, record: &Record) {
        let place = usize::try_from(self.next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
        let Some(words) = self.words.chunks_exact(WORDS).nth(place) else { return };
        let Args { device, object, flush, page, pages, bytes } = record.args;
        let place = device << OBJECT_BITS | object;
        let rest = [record.start, record.duration, place, flush, page, pages, bytes];
        for (word, value) in words[1..].iter().zip(rest) {
            word.store(value, Ordering::Relaxed);
        }
        // Published: zero is none.
        words[0].store(u64::from(record.thread) << 32 | (u64::from(record.code) + 1), Ordering::Release);
    }

    /// What was published, in the order in which places were taken.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let taken = to_usize(self.next.load(Ordering::Relaxed));
        self.words.chunks_exact(WORDS).take(taken).filter_map(|words| {
            let first = words[0].load(Ordering::Acquire);
            let code = u16::try_from((first & u64::from(u32::MAX)).checked_sub(1)?).ok()?;
            let word = |at: usize| words[at].load(Ordering::Relaxed);
            let place = word(3);
            let args = Args {
                device: place >> OBJECT_BITS,
                object: place & ((1 << OBJECT_BITS) - 1),
                flush: word(4),
                page: word(5),
                pages: word(6),
                bytes: word(7),
            };
            let thread = u32::try_from(first >> 32).ok()?;
            Some(Record { code, thread, start: word(1), duration: word(2), args })
        })
    }

    /// How many records there was no room for.
    pub fn lost(&self) -> u64 {
        let capacity = self.words.len() / WORDS;
        self.next.load(Ordering::Relaxed).saturating_sub(capacity as u64)
    }
}

static RECORDER: OnceLock<Recorder> = OnceLock::new();

/// Records from now on, of all devices.
pub fn begin() -> &'static Recorder {
    RECORDER.get_or_init(|| Recorder::new(CAPACITY))
}

/// The recorder, if anything is recorded.
pub fn recorder() -> Option<&'static Recorder> {
    RECORDER.get()
}

/// The time, if anything is recorded.
pub fn now() -> Option<Instant> {
    recorder().map(|_| Instant::now())
}

/// Where the events of a device come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    /// The number of the device.
    device: u64,
    /// The number of its last flush. All devices count together.
    flush: u64,
}

impl Origin {
    /// A further device.
    pub(crate) fn new() -> Self {
        static DEVICES: AtomicUsize = AtomicUsize::new(0);
        Self { device: DEVICES.fetch_add(1, Ordering::Relaxed) as u64 + 1, flush: 0 }
    }

    /// Gives the flush that begins its number; returns the time, if anything is recorded.
    pub(crate) fn begin_flush(&mut self) -> Option<Instant> {
        self.flush = recorder()?.flushes.fetch_add(1, Ordering::Relaxed) + 1;
        now()
    }

    /// Records what began at `start` and took `duration` nanoseconds. Device and flush need not be given.
    pub(crate) fn record(&self, event: Event, object: u64, start: Instant, duration: u64, args: Args) {
        if let Some(recorder) = recorder() {
            let args = Args { device: self.device, object, flush: self.flush, ..args };
            recorder.record(event as u16, start, duration, &args);
        }
    }

    /// Records what has no duration.
    pub(crate) fn instant(&self, event: Event, object: u64, args: Args) {
        if let Some(now) = now() {
            self.record(event, object, now, 0, args);
        }
    }

    /// Will record runs of pages of an object.
    pub(crate) fn runs(self, event: Event, object: u64) -> Runs {
        Runs { origin: self, event, object, now: now(), run: Args::default() }
    }
}

/// Records pages of an object as runs, of such that changed and such that did not.
#[derive(Debug)]
pub(crate) struct Runs {
    origin: Origin,
    event: Event,
    object: u64,
    now: Option<Instant>,
    run: Args,
}

impl Runs {
    /// The next page, and how many of its bytes changed.
    pub(crate) fn page(&mut self, page: u64, changed: u64) {
        if self.now.is_none() {
            return;
        }
        let run = &mut self.run;
        if page != run.page + run.pages || (changed == 0) != (run.bytes == 0) || run.pages == 0 {
            self.end();
            self.run = Args { page, ..Args::default() };
        }
        self.run.pages += 1;
        self.run.bytes += changed;
    }

    fn end(&self) {
        if let Some(now) = self.now
            && self.run.pages != 0
        {
            self.origin.record(self.event, self.object, now, 0, self.run);
        }
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(all(test, not(loom), not(shuttle)))]
mod tests {
    use super::*;

    fn args(number: u64) -> Args {
        Args { device: 3, object: 1 << 39, flush: number, page: !0, pages: number, bytes: 7 * number }
    }

    fn without_threads(recorder: &Recorder) -> Vec<Record> {
        recorder.records().filter(|record| record.code != Event::Thread as u16).collect()
    }

    #[test]
    fn records_come_back_as_they_were_given() {
        let recorder = Recorder::new(10);
        let start = Instant::now();
        recorder.record(Event::Dirty as u16, start, 17, &args(1));
        recorder.record(CALLERS + 2, start, u64::MAX, &args(2));
        let records = without_threads(&recorder);
        assert_eq!(records.len(), 2);
        let fields = |record: &Record| (record.code, record.thread, record.duration, record.args);
        assert_eq!(fields(&records[0]), (Event::Dirty as u16, thread::id(), 17, args(1)));
        assert_eq!(fields(&records[1]), (CALLERS + 2, thread::id(), u64::MAX, args(2)));
        assert_eq!(recorder.lost(), 0);
    }

    #[test]
    fn a_thread_is_named_once() {
        let recorder = Recorder::new(10);
        let named = std::thread::Builder::new().name("sixteen-bytes-nn".into());
        std::thread::scope(|scope| {
            let record = || (0..2).for_each(|at| recorder.record(1, Instant::now(), 0, &args(at)));
            named.spawn_scoped(scope, record).unwrap();
        });
        let all: Vec<_> = recorder.records().collect();
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].code, all[0].thread), (Event::Thread as u16, all[1].thread));
        assert_eq!(&all[0].thread_name(), b"sixteen-bytes-n\0");
    }

    #[test]
    fn what_does_not_fit_is_counted_and_what_did_stays() {
        let recorder = Recorder::new(4);
        recorder.record(1, Instant::now(), 0, &args(0));
        let named = recorder.records().count() - 1;
        (1..10).for_each(|at| recorder.record(1, Instant::now(), 0, &args(at)));
        let numbers: Vec<_> = without_threads(&recorder).iter().map(|record| record.args.flush).collect();
        assert_eq!(numbers, (0..4 - named as u64).collect::<Vec<_>>());
        assert_eq!(recorder.lost(), 6 + named as u64);
    }

    #[test]
    fn threads_lose_nothing_while_there_is_room() {
        let recorder = Recorder::new(8 * 1001 - 100);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let recorder = &recorder;
                scope.spawn(move || {
                    (0..1000)
                        .for_each(|at| recorder.record(1, Instant::now(), at, &args(thread * 1000 + at)));
                });
            }
        });
        let mut numbers: Vec<_> = without_threads(&recorder).iter().map(|it| it.args.flush).collect();
        assert!(without_threads(&recorder).iter().all(|it| it.args == args(it.args.flush)));
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(recorder.records().count(), 8 * 1001 - 100);
        assert_eq!(recorder.lost(), 100);
        assert!(numbers.len() >= 7908 - 8);
    }

    #[test]
    fn every_event_is_found_by_its_code() {
        for (at, event) in Event::ALL.into_iter().enumerate() {
            assert_eq!(event as usize, at);
            assert_eq!(Event::of_code(event as u16), Some(event));
        }
        assert_eq!(Event::of_code(CALLERS), None);
    }
}

#[cfg(all(test, loom))]
mod loom {
    use super::*;
    use ::loom::sync::Arc;

    fn record(number: u64) -> Record {
        let args = Args { pages: number, bytes: number, ..Args::default() };
        Record { code: 1, thread: 5, start: number, duration: number, args }
    }

    /// Two threads record while a third looks; there is room for one and a half.
    #[test]
    fn loom_a_record_is_whole_or_not_there() {
        ::loom::model(|| {
            let recorder = Arc::new(Recorder::new(1));
            let writers: Vec<_> = [7, 8]
                .map(|number| {
                    let recorder = Arc::clone(&recorder);
                    ::loom::thread::spawn(move || recorder.put(&record(number)))
                })
                .into();
            for seen in recorder.records() {
                assert!([7, 8].map(record).contains(&seen), "{seen:?}");
            }
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            assert_eq!((recorder.records().count(), recorder.lost()), (1, 1));
        });
    }
}
