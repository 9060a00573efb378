//! Several threads fill memory at once, as job systems do.

use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;

use lockstep_harness::{Gpu, MappedBytes, Rng};

use super::{Device, Passes, Workload, words_of};
use crate::shared::{Shared, Sync};

const THREADS: usize = 2;
const PART: usize = 512 << 10;
const SLOTS: usize = 4;

/// Adds the two threads' halves of a slot.
const SHADER: &str = "
@group(0) @binding(0) var<storage, read> input: array<u32>;
@group(0) @binding(1) var<storage, read_write> output: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    output[id.x] = input[id.x] * 7u + input[id.x + 131072u];
}
";

struct Threads {
    device: Device,
    memory: Shared,
    passes: Passes,
    start: Arc<Barrier>,
    done: Arc<Barrier>,
    threads: Vec<JoinHandle<()>>,
    source: Arc<Vec<u8>>,
    frame: usize,
}

/// What a thread writes in a frame.
fn data(source: &[u8], thread: usize, frame: usize) -> &[u8] {
    &source[((frame * 4093 + thread * 77) * 4) % PART..][..PART]
}

fn work(thread: usize, bytes: MappedBytes, source: &[u8], start: &Barrier, done: &Barrier) {
    for frame in 1.. {
        start.wait();
        let slot = frame % SLOTS;
        bytes.write((slot * THREADS + thread) * PART, data(source, thread, frame));
        done.wait();
    }
}

pub(super) fn begin(gpu: &Gpu, sync: Sync) -> Box<dyn Workload> {
    let memory = Shared::new(gpu, sync, SLOTS * THREADS * PART);
    let passes = Passes::new(gpu, SHADER, &memory, SLOTS, PART, PART / 4 / 64);
    let source = Arc::new(Rng::new(6).bytes(2 * PART));
    let (start, done) = (Arc::new(Barrier::new(THREADS + 1)), Arc::new(Barrier::new(THREADS + 1)));
    let spawn = |thread| {
        let (source, start, done) = (Arc::clone(&source), Arc::clone(&start), Arc::clone(&done));
        let bytes = memory.bytes();
        std::thread::spawn(move || work(thread, bytes, &source, &start, &done))
    };
    let threads = (0..THREADS).map(spawn).collect();
    let device = Device::new(gpu);
    Box::new(Threads { device, memory, passes, start, done, threads, source, frame: 0 })
}

impl Workload for Threads {
    fn frame(&mut self) {
        self.frame += 1;
        let slot = self.frame % SLOTS;
        self.start.wait();
        self.done.wait();
        self.memory.wrote(&[(slot * THREADS * PART, THREADS * PART)]);
        self.device.run(&self.passes.commands[slot]);
    }

    fn check(&mut self) {
        assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a thread is gone");
        let halves = [0, 1].map(|thread| words_of(data(&self.source, thread, self.frame)));
        let sum = |(first, second): (&u32, &u32)| first.wrapping_mul(7).wrapping_add(*second);
        let expected: Vec<u32> = halves[0].iter().zip(&halves[1]).map(sum).collect();
        assert!(words_of(&self.passes.output.all_as_device_sees()) == expected, "the device saw other bytes");
    }
}
