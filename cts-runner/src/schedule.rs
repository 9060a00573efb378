//! Workers: how many, and who does what.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use anyhow::Result;

/// Memory that one deqp-vk may need, in KiB.
const MEMORY_PER_WORKER: u64 = 3 << 19;

/// Returns how many processes this machine runs at once.
pub fn workers() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| available_memory(&text));
    let fit = available.map_or(cores, |kib| usize::try_from(kib / MEMORY_PER_WORKER).unwrap_or(cores));
    cores.min(fit).max(1)
}

fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// Does `jobs` in their order on several threads: `work` gets the worker's number, `done` runs on this
/// thread.
///
/// The first error ends it all: `stop` is set, so that what runs ends soon.
pub fn parallel<J: Sync, R: Send>(
    jobs: &[J],
    workers: usize,
    stop: &AtomicBool,
    work: impl Fn(usize, &J) -> Result<Option<R>> + Sync,
    mut done: impl FnMut(&J, R) -> Result<()>,
) -> Result<()> {
    let queue: Mutex<VecDeque<&J>> = Mutex::new(jobs.iter().collect());
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for worker in 0..workers.min(jobs.len()) {
            let (queue, work, sender) = (&queue, &work, sender.clone());
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(job) = next else { break };
                    if sender.send((job, work(worker, job))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut outcome = Ok(());
        for (job, result) in results {
            let handled = match result {
                Ok(Some(result)) if outcome.is_ok() => done(job, result),
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = handled
                && outcome.is_ok()
            {
                stop.store(true, Ordering::Relaxed);
                outcome = Err(error);
            }
        }
        outcome
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_ends_it_all_and_is_returned() {
        let stop = AtomicBool::new(false);

        let outcome = parallel(
            &[1, 2, 3],
            1,
            &stop,
            |_, job| if *job == 2 { anyhow::bail!("two") } else { Ok(Some(*job)) },
            |_, _| Ok(()),
        );

        assert_eq!(outcome.expect_err("an error").to_string(), "two");
        assert!(stop.load(Ordering::Relaxed));
    }

    #[test]
    fn available_memory_is_read() {
        assert_eq!(available_memory("MemFree: 1 kB\nMemAvailable:   1234 kB\n"), Some(1234));
    }
}
