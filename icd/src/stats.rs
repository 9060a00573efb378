//! `LOCKSTEP_STATS`: counters as JSON, written when a device is destroyed and when the process exits.
//!
//! The file holds one object with the sum over all devices of the process, and their number.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};

use kmd_sim::uapi::Stats;

use crate::entry::DEVICES;

/// Counters of devices that are gone, and where to write them.
static TOTAL: Mutex<Option<Total>> = Mutex::new(None);

#[derive(Debug)]
struct Total {
    path: PathBuf,
    process: u32,
    devices: u64,
    stats: Stats,
}

#[derive(serde::Serialize)]
struct Report {
    devices: u64,
    #[serde(flatten)]
    stats: Stats,
}

/// Begins to count for a new device.
pub fn device_created(path: Option<&Path>) {
    let Some(path) = path else { return };
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| register_at_exit(at_exit));
    let mut total = TOTAL.lock().unwrap_or_else(PoisonError::into_inner);
    let total = total.get_or_insert_with(|| Total {
        path: path.to_owned(),
        process: std::process::id(),
        devices: 0,
        stats: Stats::default(),
    });
    total.devices += 1;
}

/// Adds the counters of a device that is destroyed, and writes the file.
pub fn device_destroyed(stats: &Stats) {
    let mut total = TOTAL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(total) = &mut *total
        && total.process == std::process::id()
    {
        total.stats.add(stats);
        write(total, Stats::default());
    }
}

fn write(total: &Total, alive: Stats) {
    let mut stats = total.stats;
    stats.add(&alive);
    let report = Report { devices: total.devices, stats };
    let written = serde_json::to_string_pretty(&report)
        .map_err(std::io::Error::from)
        .and_then(|json| std::fs::write(&total.path, json + "\n"));
    if let Err(error) = written {
        log::warn!("LOCKSTEP_STATS={}: {error}", total.path.display());
    }
}

/// Never waits: exit(3) may have been called from a signal handler that interrupted the holder of a lock.
extern "C" fn at_exit() {
    let Ok(total) = TOTAL.try_lock() else { return };
    let Some(total) = &*total else { return };
    // Locks of a child of fork(2) may be held by threads it does not have.
    if total.process != std::process::id() {
        return;
    }
    let mut alive = Stats::default();
    DEVICES.try_for_each(|device| {
        if let Some(stats) = device.km.try_stats() {
            alive.add(&stats);
        }
    });
    write(total, alive);
}

/// Has `handler` called when the process exits.
#[expect(unsafe_code, reason = "door to atexit(3)")]
pub(crate) fn register_at_exit(handler: extern "C" fn()) {
    // SAFETY: the library is never unloaded (`-z nodelete`), so the handler stays where it is.
    if unsafe { libc::atexit(handler) } != 0 {
        log::warn!("what there is to tell of devices that are never destroyed will not be written");
    }
}
