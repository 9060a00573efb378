//! `LOCKSTEP_TRACE`: a timeline in the trace-event format that Perfetto and chrome://tracing read, written
//! when a device is destroyed and when the process exits.
//!
//! [`kmd_sim::trace`] records; here are the names of commands, and the file. Commands that only ask how far
//! something has got are not recorded, since applications ask for long; what they bring to the CPU is.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Instant;

use kmd_sim::trace::{self, Args, CALLERS, Event, Form, Record, Recorder};
use serde::Serialize;

/// What is recorded here, by its number.
const NAMES: [&str; 18] = [
    "host",
    "vkQueueSubmit",
    "vkQueueSubmit2",
    "vkQueueBindSparse",
    "vkQueuePresentKHR",
    "vkQueueWaitIdle",
    "vkDeviceWaitIdle",
    "vkWaitForFences",
    "vkWaitSemaphores",
    "vkSignalSemaphore",
    "vkSetEvent",
    "vkAcquireNextImageKHR",
    "vkAcquireNextImage2KHR",
    "vkWaitForPresentKHR",
    "vkMapMemory",
    "vkMapMemory2KHR",
    "vkFlushMappedMemoryRanges",
    "vkInvalidateMappedMemoryRanges",
];

/// The number of a command, if it is recorded; to be found out at compile time.
pub(crate) const fn index(name: &str) -> Option<u16> {
    let mut number: u16 = 0;
    while (number as usize) < NAMES.len() {
        if same(NAMES[number as usize], name) {
            return Some(number);
        }
        number += 1;
    }
    None
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// Records how long it lived.
#[derive(Debug)]
pub(crate) struct Span {
    begun: Option<(Instant, u16)>,
}

impl Drop for Span {
    fn drop(&mut self) {
        if let (Some((begun, index)), Some(recorder)) = (self.begun, trace::recorder()) {
            let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            recorder.record(CALLERS + index, begun, took, &Args::default());
        }
    }
}

/// Begins a command.
pub(crate) fn command(index: Option<u16>) -> Span {
    Span { begun: index.and_then(|index| Some((trace::now()?, index))) }
}

/// Calls the host driver, where that may take long.
pub(crate) fn in_host<R>(call: impl FnOnce() -> R) -> R {
    let _span = command(const { index("host") });
    call()
}

/// Where the timeline is written, and by which process.
static TARGET: Mutex<Option<Target>> = Mutex::new(None);

#[derive(Debug)]
struct Target {
    path: PathBuf,
    process: u32,
}

/// Begins to record, if there is a path to write to.
pub fn device_created(path: Option<&Path>) {
    let Some(path) = path else { return };
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| crate::stats::register_at_exit(at_exit));
    trace::begin();
    let mut target = TARGET.lock().unwrap_or_else(PoisonError::into_inner);
    target.get_or_insert_with(|| Target { path: path.to_owned(), process: std::process::id() });
}

/// Writes the file.
pub fn device_destroyed() {
    let target = TARGET.lock().unwrap_or_else(PoisonError::into_inner);
    target.iter().for_each(Target::write);
}

/// Never waits: exit(3) may have been called from a signal handler that interrupted the holder of a lock.
extern "C" fn at_exit() {
    let Ok(target) = TARGET.try_lock() else { return };
    target.iter().for_each(Target::write);
}

impl Target {
    fn write(&self) {
        // Not in a child of fork(2): the file is its parent's.
        let Some(recorder) = trace::recorder().filter(|_| self.process == std::process::id()) else { return };
        let written = File::create(&self.path).and_then(|file| write_json(recorder, self.process, file));
        if let Err(error) = written {
            log::warn!("LOCKSTEP_TRACE={}: {error}", self.path.display());
        }
        if recorder.lost() > 0 {
            log::warn!("LOCKSTEP_TRACE: {} events were not recorded, for want of room", recorder.lost());
        }
    }
}

/// An entry of `traceEvents`. Times are in microseconds.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cat: Option<&'a str>,
    ph: &'a str,
    pid: u32,
    tid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'a str>,
    args: serde_json::Map<String, serde_json::Value>,
}

impl<'a> Entry<'a> {
    fn of(record: &Record, process: u32) -> Self {
        let form = Event::of_code(record.code).map(Event::form);
        let form = form.unwrap_or_else(|| {
            let name = NAMES.get(usize::from(record.code - CALLERS)).copied().unwrap_or_default();
            Form { name, instant: false, args: [""; 4] }
        });
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        let Args { device, object, flush, page, pages, bytes } = record.args;
        let named = [("device", device), ("object", object)].into_iter().filter(|(_, value)| *value != 0);
        let others =
            form.args.into_iter().zip([flush, page, pages, bytes]).filter(|(name, _)| !name.is_empty());
        let mut entry = Self {
            name: form.name,
            cat: Some("lockstep"),
            ph: if form.instant { "i" } else { "X" },
            pid: process,
            tid: record.thread,
            ts: Some(micros(record.start)),
            dur: (!form.instant).then(|| micros(record.duration)),
            s: form.instant.then_some("t"),
            args: named.chain(others).map(|(name, value)| (name.to_owned(), value.into())).collect(),
        };
        if record.code == Event::Thread as u16 {
            let name = record.thread_name();
            let name = String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or_default());
            entry = Self { cat: None, ph: "M", ts: None, s: None, ..entry };
            entry.args.insert("name".into(), name.into());
        }
        entry
    }
}

/// Writes what was recorded.
fn write_json(recorder: &Recorder, process: u32, file: impl Write) -> io::Result<()> {
    let mut file = BufWriter::new(file);
    let lost = recorder.lost();
    write!(file, "{{\"displayTimeUnit\":\"ns\",\"otherData\":{{\"lost\":{lost}}},\"traceEvents\":[")?;
    for (at, record) in recorder.records().enumerate() {
        file.write_all(if at == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut file, &Entry::of(&record, process))?;
    }
    file.write_all(b"\n]}\n")?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(recorder: &Recorder) -> serde_json::Value {
        let mut text = Vec::new();
        write_json(recorder, 77, &mut text).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn every_event_has_the_fields_of_the_format() {
        let recorder = Recorder::new(10);
        let args = Args { device: 1, object: 2, flush: 3, page: 0, pages: 5, bytes: 0 };
        recorder.record(Event::Dirty as u16, Instant::now(), 0, &args);
        recorder.record(CALLERS + index("vkQueueSubmit").unwrap(), Instant::now(), 1500, &Args::default());
        let all = json(&recorder);
        let [thread, dirty, submit] = &all["traceEvents"].as_array().unwrap()[..] else { panic!("{all}") };
        assert_eq!((&thread["ph"], &thread["name"]), (&"M".into(), &"thread_name".into()));
        assert!(!thread["args"]["name"].as_str().unwrap().is_empty());
        assert_eq!((&dirty["ph"], &dirty["name"], &dirty["s"]), (&"i".into(), &"dirty".into(), &"t".into()));
        let expected =
            serde_json::json!({"device": 1, "object": 2, "flush": 3, "page": 0, "pages": 5, "changed": 0});
        assert_eq!(dirty["args"], expected);
        assert_eq!((&submit["ph"], &submit["name"]), (&"X".into(), &"vkQueueSubmit".into()));
        assert_eq!(
            (&submit["dur"], &submit["pid"], &submit["args"]),
            (&1.5.into(), &77.into(), &serde_json::json!({}))
        );
        assert_eq!(submit["tid"], thread["tid"]);
    }

    #[test]
    fn what_there_was_no_room_for_is_told() {
        let recorder = Recorder::new(2);
        (0..10).for_each(|_| recorder.record(CALLERS, Instant::now(), 0, &Args::default()));
        let all = json(&recorder);
        assert_eq!(all["traceEvents"].as_array().unwrap().len(), 2);
        assert!([8, 9].map(Into::into).contains(&all["otherData"]["lost"]), "{all}");
    }

    #[test]
    fn nothing_is_a_timeline_too() {
        assert_eq!(json(&Recorder::new(2))["traceEvents"], serde_json::json!([]));
    }
}
