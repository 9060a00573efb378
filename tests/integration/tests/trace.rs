//! `LOCKSTEP_TRACE` tells when what was written travelled, to the page and the byte.

use lockstep_harness::{
    Buffer, Gpu, Kind, PAGE, loader, lockstep_under_test, paravirtual_under_test, pattern, process, skip,
    tracker,
};
use serde_json::Value;
use std::path::Path;

const PAGES: usize = 16;
const SIZE: usize = PAGES * PAGE;
/// Bytes that are changed in the three pages from 5 on.
const CHANGED: [usize; 3] = [10, 20, 30];

/// Runs a child and returns the events it left, and what it printed.
fn events_of(child: &str, path: &Path) -> (Vec<Value>, std::process::Output) {
    let output = process::output(process::child(child).env("LOCKSTEP_TRACE", path));
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(path).expect("the timeline");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["otherData"]["lost"], 0);
    (json["traceEvents"].as_array().expect("a list").clone(), output)
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["name"] == name).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Beginning and end in nanoseconds.
fn span(event: &Value) -> (u64, u64) {
    let nanos = |value: &Value| -> u64 {
        if value.is_null() && event["ph"] == "i" {
            return 0;
        }
        let nanos = value.as_f64().unwrap_or_else(|| panic!("no time in {event}")) * 1000.0;
        assert!(nanos >= 0.0 && (nanos - nanos.round()).abs() < 0.01, "{event}");
        format!("{nanos:.0}").parse().expect("a number")
    };
    (nanos(&event["ts"]), nanos(&event["ts"]) + nanos(&event["dur"]))
}

/// The innermost event of a name around another on the same thread.
fn around<'a>(events: &'a [Value], name: &str, inner: &Value) -> &'a Value {
    let (start, end) = span(inner);
    let holds = |event: &&&Value| {
        let (from, to) = span(event);
        from <= start && end <= to && event["tid"] == inner["tid"]
    };
    let all = named(events, name);
    all.iter()
        .filter(holds)
        .max_by_key(|event| span(event))
        .unwrap_or_else(|| panic!("no {name} around {inner}"))
}

/// What a run of pages says: object, page, pages, bytes.
fn run(event: &Value) -> [u64; 4] {
    ["object", "page", "pages", "changed"].map(|name| number(&event["args"][name]))
}

/// Three submissions, each of which copies all of `source` to `target`; before the third, known bytes are
/// changed.
fn three_submissions(gpu: &Gpu) {
    let source = Buffer::mapped(gpu, Kind::Coherent, SIZE);
    let target = Buffer::mapped(gpu, Kind::Coherent, SIZE);
    let mut expected = pattern(1, SIZE);
    source.bytes().write(0, &expected);
    for submission in 1..=3 {
        if submission == 3 {
            for (page, count) in CHANGED.into_iter().enumerate() {
                for at in (0..count).map(|n| (5 + page) * PAGE + 7 * n) {
                    expected[at] = !expected[at];
                    source.bytes().store(at, expected[at]);
                }
            }
        }
        gpu.run(|r| r.copy(&source, 0, &target, 0, SIZE));
        assert_eq!(target.bytes().read_all(), expected);
    }
}

#[test]
#[ignore = "a child of the tests below"]
fn child_submits_three_times() {
    three_submissions(&Gpu::new());
}

#[test]
fn a_write_before_the_third_submission_is_in_the_third_flush() {
    if !lockstep_under_test() {
        return skip("the timeline is Lockstep's");
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (events, _) = events_of("child_submits_three_times", &directory.path().join("trace.json"));
    let maps: Vec<_> = named(&events, "map").iter().map(|map| number(&map["args"]["object"])).collect();
    let [source, target] = maps[..] else { panic!("two maps: {maps:?}") };
    assert!(number(&named(&events, "map")[0]["args"]["pages"]) >= PAGES as u64);
    let in_third = |name: &str, object: u64| -> Vec<[u64; 4]> {
        let third = named(&events, name).into_iter().filter(|event| event["args"]["flush"] == 3).map(run);
        // Some trackers report pages that were not written.
        third.filter(|[of, .., changed]| *of == object && *changed != 0).collect()
    };
    let bytes = CHANGED.iter().sum::<usize>() as u64;
    assert_eq!(in_third("dirty", source), [[source, 5, 3, bytes]]);
    assert_eq!(in_third("pulled", target), [[target, 5, 3, bytes]]);

    let flushes = named(&events, "flush");
    let numbers: Vec<_> = flushes.iter().map(|flush| number(&flush["args"]["flush"])).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(flushes[2]["args"]["bytes"], bytes);
    assert!(number(&flushes[2]["args"]["pages"]) >= 3, "{}", flushes[2]);
    let first = named(&events, "dirty").into_iter().filter(|event| event["args"]["flush"] == 1).map(run);
    let changed = first.filter(|[object, ..]| *object == source).map(|[.., changed]| changed).sum::<u64>();
    assert_eq!(changed, number(&flushes[0]["args"]["bytes"]));
}

#[test]
fn what_happens_within_something_lies_within_its_time() {
    if !lockstep_under_test() {
        return skip("the timeline is Lockstep's");
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (events, _) = events_of("child_submits_three_times", &directory.path().join("trace.json"));
    let flushes = named(&events, "flush");
    assert_eq!(flushes.len(), 3);
    for flush in &flushes {
        around(&events, "vkQueueSubmit", flush);
    }
    for part in named(&events, "flush object") {
        assert_eq!(around(&events, "flush", part)["args"]["flush"], part["args"]["flush"]);
    }
    for dirty in named(&events, "dirty") {
        let part = around(&events, "flush object", dirty);
        assert_eq!(part["args"]["object"], dirty["args"]["object"]);
    }
    let commands = ["vkQueueSubmit", "vkWaitForFences"];
    let is_in = |host: &Value, name: &str| {
        named(&events, name).iter().any(|command| {
            let ((from, to), (start, end)) = (span(command), span(host));
            from <= start && end <= to && command["tid"] == host["tid"]
        })
    };
    let hosts = named(&events, "host");
    for name in commands {
        assert!(hosts.iter().filter(|host| is_in(host, name)).count() >= 3, "the host's share of {name}");
    }
    assert!(named(&events, "scan").iter().filter(|scan| is_in(scan, "flush")).count() >= 3);
    // On each thread, two either have no time in common or one lies within the other.
    let mut spans: Vec<_> = events.iter().filter(|event| event["ph"] == "X").collect();
    spans.sort_by_key(|event| (number(&event["tid"]), span(event).0, u64::MAX - span(event).1));
    let mut open: Vec<&Value> = Vec::new();
    for event in spans {
        open.retain(|outer| outer["tid"] == event["tid"] && span(event).0 < span(outer).1);
        if let Some(outer) = open.last() {
            assert!(span(event).1 <= span(outer).1, "{event} reaches out of {outer}");
        }
        open.push(event);
    }
}

#[test]
#[ignore = "a child of the test below"]
fn child_submits_on_a_named_thread_and_exits() {
    let named = std::thread::Builder::new().name("submits".into());
    let thread = named.spawn(|| {
        let (first, second) = (Gpu::new(), Gpu::new());
        three_submissions(&first);
        three_submissions(&second);
        // Nobody destroys them.
        std::mem::forget((first, second));
    });
    thread.expect("a thread").join().expect("its end");
    std::process::exit(0);
}

#[test]
fn devices_that_are_never_destroyed_are_in_one_file() {
    if !lockstep_under_test() {
        return skip("the timeline is Lockstep's");
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let child = "child_submits_on_a_named_thread_and_exits";
    let (events, _) = events_of(child, &directory.path().join("trace.json"));
    let flushes = named(&events, "flush");
    let of: Vec<_> = flushes.iter().map(|flush| number(&flush["args"]["device"])).collect();
    assert_eq!(of, [1, 1, 1, 2, 2, 2]);
    let threads = named(&events, "thread_name");
    let name = |flush: &Value| {
        let thread = threads.iter().find(|thread| thread["tid"] == flush["tid"]).expect("a name");
        (thread["ph"].clone(), thread["args"]["name"].clone())
    };
    assert_eq!(name(flushes[0]), ("M".into(), "submits".into()));
    assert!(events.iter().all(|event| event["pid"] == events[0]["pid"]));
}

#[test]
#[ignore = "a child of the test below"]
fn child_has_a_child_that_exits() {
    let gpu = Gpu::new();
    three_submissions(&gpu);
    let child = process::fork(|| {
        // SAFETY: Ends the process, by way of the handlers that its parent has registered.
        unsafe { libc::exit(7) }
    });
    assert_eq!(child.wait(), 7);
    let written = std::env::var_os("LOCKSTEP_TRACE").is_some_and(|path| Path::new(&path).exists());
    println!("\nwritten_by_child={written}");
}

#[test]
fn a_forked_child_writes_no_timeline() {
    if !lockstep_under_test() {
        return skip("the timeline is Lockstep's");
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (events, output) = events_of("child_has_a_child_that_exits", &directory.path().join("trace.json"));
    assert_eq!(process::value_of(&output, "written_by_child"), "false");
    assert_eq!(named(&events, "flush").len(), 3);
}

#[test]
#[ignore = "a child of the test below"]
fn child_reads_lazily() {
    loader::set("LOCKSTEP_READBACK", "lazy");
    three_submissions(&Gpu::new());
}

#[test]
fn the_thread_that_serves_touches_records_too() {
    if !lockstep_under_test()
        || !["auto", "uffd"].contains(&tracker().as_str())
        || !process::may_serve_faults()
    {
        return skip("nothing here serves page faults");
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (events, _) = events_of("child_reads_lazily", &directory.path().join("trace.json"));
    let serves = named(&events, "lazy serve");
    let bytes: Vec<_> = serves.iter().map(|serve| number(&serve["args"]["bytes"])).collect();
    // All of the target, nothing, and what was changed.
    assert_eq!((bytes.len(), bytes[1..].iter().sum::<u64>()), (3, CHANGED.iter().sum::<usize>() as u64));
    for serve in &serves {
        let thread = named(&events, "thread_name").into_iter().find(|thread| thread["tid"] == serve["tid"]);
        assert_eq!(thread.expect("a name")["args"]["name"], "lockstep-faults");
    }
    for pulled in named(&events, "pulled") {
        around(&events, "lazy serve", pulled);
    }
}

#[test]
#[ignore = "a child of the test below"]
fn child_copies_explicitly() {
    let gpu = Gpu::new();
    let explicit = Buffer::mapped(&gpu, Kind::Explicit, SIZE);
    explicit.bytes().fill(0, SIZE, 3);
    explicit.memory().flush(&[(0, 2 * PAGE)]);
    explicit.memory().invalidate(&[(0, PAGE)]);
}

#[test]
fn explicit_copies_tell_their_bytes() {
    if !paravirtual_under_test() {
        return skip("there is no explicit memory");
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (events, _) = events_of("child_copies_explicitly", &directory.path().join("trace.json"));
    let commands = ["vkFlushMappedMemoryRanges", "vkInvalidateMappedMemoryRanges"];
    for ((name, bytes), command) in
        [("copy to host", 2 * PAGE), ("copy from host", PAGE)].into_iter().zip(commands)
    {
        let [copy] = named(&events, name)[..] else { panic!("one {name}") };
        assert_eq!(copy["args"]["bytes"], bytes);
        around(&events, command, copy);
    }
    assert_eq!(named(&events, "map explicit").len(), 1);
}
