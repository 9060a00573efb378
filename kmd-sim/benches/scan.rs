//! What a scan of the process's real page tables costs: nanoseconds a page, clean and dirty, through
//! userfaultfd and `PAGEMAP_SCAN`. Prints a table; twice the pages ought to take twice the time.
//!
//! Times of one run can be compared with each other, and with nothing else.

use std::time::{Duration, Instant};

use kmd_sim::addr::{PAGE_BYTES, PAGE_SIZE};
use kmd_sim::mmu::Mmu;
use kmd_sim::mmu::uffd::Uffd;
use kmd_sim::sys::pages::TwiceMapped;

/// Scans of which the fastest counts: the others were interrupted.
const TRIES: usize = 15;

/// The fastest of some tries, each after `prepare`.
fn fastest(mmu: &mut Uffd, pages: u64, prepare: impl Fn()) -> Duration {
    let scan = || {
        prepare();
        let start = Instant::now();
        mmu.take_dirty(0..pages, &mut |run| {
            std::hint::black_box(run);
        })
        .expect("the scan");
        start.elapsed()
    };
    std::iter::repeat_with(scan).take(TRIES).min().expect("at least one try")
}

/// Time of scanning `pages` pages: none of them dirty, all, every eighth.
fn measure(pages: u64) -> [Duration; 3] {
    let object = TwiceMapped::new("scan", pages * PAGE_SIZE).expect("memory");
    let memory = object.application();
    let mut mmu = Uffd::new(memory).expect("userfaultfd");
    let store = |distance: usize| {
        for offset in (0..memory.len()).step_by(distance * PAGE_BYTES) {
            memory.store_byte(offset, 1);
        }
    };
    store(1);
    mmu.take_dirty(0..pages, &mut |_| {}).expect("the scan");
    [
        fastest(&mut mmu, pages, || {}),
        fastest(&mut mmu, pages, || store(1)),
        fastest(&mut mmu, pages, || store(8)),
    ]
}

fn nanoseconds(time: Duration, pages: u64) -> f64 {
    time.as_secs_f64() * 1e9 / pages as f64
}

fn main() {
    println!("| pages | clean, ns a page | dirty, ns a page | one dirty in 8, ns a page | dirty : clean |");
    println!("|---|---|---|---|---|");
    for pages in [4096, 16384, 65536] {
        let times = measure(pages);
        let [clean, dirty, scattered] = times.map(|time| nanoseconds(time, pages));
        println!("| {pages} | {clean:.2} | {dirty:.1} | {scattered:.1} | {:.1} |", dirty / clean);
    }
}
