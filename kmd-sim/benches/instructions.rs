//! Instructions that tracking takes, counted by Callgrind: the same on any machine. `make bench-instructions`
//! runs it and makes a table of cost per page.
//!
//! Each case runs for several numbers of pages, so that two of them give a slope.

#![allow(missing_docs, unused_qualifications, reason = "what the macros write")]

use std::hint::black_box;

use gungraun::{library_benchmark, library_benchmark_group, main};
use kmd_sim::bitmap::Bitmap;
use kmd_sim::mm::vma::VmFlags;
use kmd_sim::upstream::Upstream;

#[path = "../tests/vectors/common.rs"]
mod common;

use common::{NODE, Process, Record, World};

/// An object whose pages all have the same entry in one process.
struct Mapped {
    world: World,
    _process: Process,
    pages: u64,
    record: Record,
}

impl Mapped {
    fn new(pages: u64, entry: &str) -> Self {
        let world = World::new(Upstream::default(), pages);
        let process = world.process_with(VmFlags::SHARED_RW, NODE..NODE + pages);
        (0..pages).for_each(|page| process.set(page, entry));
        Self { world, _process: process, pages, record: Record::empty(pages) }
    }
}

fn protected(pages: u64) -> Mapped {
    Mapped::new(pages, "Y")
}

fn writable(pages: u64) -> Mapped {
    Mapped::new(pages, "WY")
}

fn dirty(pages: u64) -> Mapped {
    Mapped::new(pages, "WDY")
}

/// What was set up is given back, so that taking it down is not counted.
fn wp(mapped: Mapped) -> Mapped {
    black_box(mapped.world.wp(0..mapped.pages));
    mapped
}

fn clean(mut mapped: Mapped) -> Mapped {
    black_box(mapped.world.clean(0..mapped.pages, &mut mapped.record));
    mapped
}

#[library_benchmark]
#[benches::pages(args = [64, 128, 512, 1024, 4096, 8192], setup = protected)]
fn wp_protected(state: Mapped) -> Mapped {
    wp(black_box(state))
}

#[library_benchmark]
#[benches::pages(args = [64, 128, 512, 1024, 4096, 8192], setup = writable)]
fn wp_writable(state: Mapped) -> Mapped {
    wp(black_box(state))
}

#[library_benchmark]
#[benches::pages(args = [64, 128, 512, 1024, 4096, 8192], setup = writable)]
fn clean_clean(state: Mapped) -> Mapped {
    clean(black_box(state))
}

#[library_benchmark]
#[benches::pages(args = [64, 128, 512, 1024, 4096, 8192], setup = dirty)]
fn clean_dirty(state: Mapped) -> Mapped {
    clean(black_box(state))
}

fn with_every(bits: u64, distance: Option<u64>) -> Bitmap {
    let mut bitmap = Bitmap::new(bits);
    if let Some(distance) = distance {
        (0..bits / distance).for_each(|bit| bitmap.set(bit * distance..bit * distance + 1));
    }
    bitmap
}

fn empty(bits: u64) -> Bitmap {
    with_every(bits, None)
}

/// One page in 64.
fn sparse(bits: u64) -> Bitmap {
    with_every(bits, Some(64))
}

/// Every other page: as many runs as there can be.
fn alternating(bits: u64) -> Bitmap {
    with_every(bits, Some(2))
}

fn full(bits: u64) -> Bitmap {
    with_every(bits, Some(1))
}

fn scan(bitmap: Bitmap) -> Bitmap {
    let mut at = 0;
    while let Some(run) = bitmap.next_run(at..bitmap.len()) {
        at = black_box(run).end;
    }
    bitmap
}

/// As [`scan`], and clears what it finds: a transfer.
fn drain(mut bitmap: Bitmap) -> Bitmap {
    let mut at = 0;
    while let Some(run) = bitmap.next_run(at..bitmap.len()) {
        at = run.end;
        bitmap.clear(black_box(run));
    }
    bitmap
}

#[library_benchmark]
#[benches::pages(args = [4096, 8192, 65536, 131072], setup = empty)]
fn scan_empty(state: Bitmap) -> Bitmap {
    scan(black_box(state))
}

#[library_benchmark]
#[benches::pages(args = [4096, 8192, 65536, 131072], setup = sparse)]
fn scan_sparse(state: Bitmap) -> Bitmap {
    scan(black_box(state))
}

#[library_benchmark]
#[benches::pages(args = [4096, 8192, 65536, 131072], setup = alternating)]
fn scan_alternating(state: Bitmap) -> Bitmap {
    scan(black_box(state))
}

#[library_benchmark]
#[benches::pages(args = [4096, 8192, 65536, 131072], setup = full)]
fn scan_full(state: Bitmap) -> Bitmap {
    scan(black_box(state))
}

#[library_benchmark]
#[benches::pages(args = [4096, 8192, 65536, 131072], setup = alternating)]
fn drain_alternating(state: Bitmap) -> Bitmap {
    drain(black_box(state))
}

library_benchmark_group!(name = helpers, benchmarks = [wp_protected, wp_writable, clean_clean, clean_dirty]);
library_benchmark_group!(
    name = bitmap,
    benchmarks = [scan_empty, scan_sparse, scan_alternating, scan_full, drain_alternating]
);
main!(library_benchmark_groups = [helpers, bitmap]);
