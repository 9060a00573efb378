//! What recording and polling cost: a million commands into one command buffer, a million looks at a fence,
//! on the host's driver and on Lockstep over it, in turns of one process each; with nothing mapped, and with
//! 64 MiB of coherent memory mapped.
//!
//! The host keeps its commands in the heap, and what else lies there makes them cheaper or dearer by a third,
//! with and without Lockstep: a heap that nobody has used before is a special case. So each round begins with
//! a heap that a random sequence of allocations went through, the same for both sides.
//!
//! Prints Markdown: nanoseconds of processor time for one (medians), the median over rounds of the ratio
//! within a round, and an interval in which that median lies with a confidence of 95 %.

#![expect(clippy::multiple_unsafe_ops_per_block, reason = "all stand on one argument: the objects are alive")]

use ash::vk;
use lockstep_harness::{Bindings, Buffer, Compute, Gpu, Kind, Rng, loader};

const COMMANDS: usize = 1_000_000;
const ROUNDS: usize = 25;
const SAMPLES: usize = 3;
/// Rounds below and above the interval of the median, of 25: 1 - 2 P(Bin(25, 1/2) < 8) = 0.957.
const OUTSIDE: usize = 7;
const MAPPED: usize = 64 << 20;

const SHADER: &str = "
@group(0) @binding(0) var<storage, read_write> data: array<u32>;
@compute @workgroup_size(1) fn main(@builtin(global_invocation_id) id: vec3<u32>) { data[id.x] += 1u; }
";

/// One driver with something to record.
struct Side {
    gpu: Gpu,
    pool: vk::CommandPool,
    commands: vk::CommandBuffer,
    compute: Compute,
    source: Buffer,
    target: Buffer,
    bindings: Bindings,
    /// Not signalled, and signalled.
    fences: [vk::Fence; 2],
}

/// What is done a million times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Dispatches,
    Binds,
    Copies,
    /// Of a fence that is not signalled, and of one that is.
    Polls(bool),
}

impl Side {
    fn new() -> Self {
        let gpu = Gpu::new();
        let compute = Compute::new(&gpu, SHADER, 1);
        let kind = Kind::Coherent;
        let source = Buffer::unmapped(&gpu, kind, 4096);
        let target = Buffer::unmapped(&gpu, kind, MAPPED);
        let bindings = compute.bind(&[(&target, 0, 4096)]);
        let info = vk::CommandPoolCreateInfo::default()
            .queue_family_index(gpu.family())
            .flags(vk::CommandPoolCreateFlags::RESET_COMMAND_BUFFER);
        // SAFETY: the device is alive.
        let pool = unsafe { gpu.raw().create_command_pool(&info, None) }.expect("a pool");
        let info = vk::CommandBufferAllocateInfo::default().command_pool(pool).command_buffer_count(1);
        // SAFETY: as above.
        let commands = unsafe { gpu.raw().allocate_command_buffers(&info) }.expect("a command buffer")[0];
        let fences = [vk::FenceCreateFlags::empty(), vk::FenceCreateFlags::SIGNALED].map(|flags| {
            let info = vk::FenceCreateInfo::default().flags(flags);
            // SAFETY: as above.
            unsafe { gpu.raw().create_fence(&info, None) }.expect("a fence")
        });
        Self { gpu, pool, commands, compute, source, target, bindings, fences }
    }

    /// Nanoseconds one takes.
    fn time(&self, work: Work) -> f64 {
        let start = processor_time();
        match work {
            Work::Polls(signalled) => self.poll(self.fences[usize::from(signalled)], signalled),
            _ => self.record(work),
        }
        (processor_time() - start) / COMMANDS as f64
    }

    fn poll(&self, fence: vk::Fence, signalled: bool) {
        for _ in 0..COMMANDS {
            // SAFETY: the fence is alive.
            let status = unsafe { self.gpu.raw().get_fence_status(fence) };
            assert_eq!(status, Ok(signalled));
        }
    }

    fn record(&self, work: Work) {
        let device = self.gpu.raw();
        let (commands, bind_point) = (self.commands, vk::PipelineBindPoint::COMPUTE);
        let sets = [self.bindings.raw()];
        // SAFETY: all objects are alive, and nobody else uses the command buffer.
        unsafe {
            device.begin_command_buffer(commands, &vk::CommandBufferBeginInfo::default()).expect("beginning");
            device.cmd_bind_pipeline(commands, bind_point, self.compute.pipeline());
            device.cmd_bind_descriptor_sets(commands, bind_point, self.compute.layout(), 0, &sets, &[]);
            for index in 0..COMMANDS as u64 {
                match work {
                    Work::Dispatches => device.cmd_dispatch(commands, 1, 1, 1),
                    Work::Binds => {
                        let layout = self.compute.layout();
                        device.cmd_bind_descriptor_sets(commands, bind_point, layout, 0, &sets, &[]);
                        device.cmd_dispatch(commands, 1, 1, 1);
                    }
                    Work::Polls(_) => {}
                    Work::Copies => {
                        // Scattered, so that none is next to the last one.
                        let dst_offset = (index * 4093 * 16) % (MAPPED as u64 - 16);
                        let region = vk::BufferCopy { src_offset: 0, dst_offset: dst_offset & !15, size: 16 };
                        device.cmd_copy_buffer(commands, self.source.raw(), self.target.raw(), &[region]);
                    }
                }
            }
            device.end_command_buffer(commands).expect("ending");
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // SAFETY: nothing was ever submitted.
        unsafe { self.gpu.raw().destroy_command_pool(self.pool, None) };
        // SAFETY: as above.
        self.fences.iter().for_each(|fence| unsafe { self.gpu.raw().destroy_fence(*fence, None) });
    }
}

/// Nanoseconds that this thread has run.
fn processor_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

const WORKS: [Work; 5] = [Work::Dispatches, Work::Binds, Work::Copies, Work::Polls(false), Work::Polls(true)];

/// Names the row and the round that a process measures; `LOCKSTEP_TEST_ICD` says on which driver.
const ROW: &str = "LOCKSTEP_BENCH_ROW";
const ROUND: &str = "LOCKSTEP_BENCH_ROUND";

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

fn main() {
    let mut rows = [false, true].into_iter().flat_map(|mapped| WORKS.map(|work| (work, mapped)));
    if let (Some(row), Some(round)) = (number(ROW), number(ROUND)) {
        let (work, mapped) = rows.nth(row).expect("a row");
        return println!("{}", measure(work, mapped, round as u64));
    }
    println!("| a million | mapped | host, ns | Lockstep, ns | more | 95 % |");
    println!("|---|---|---|---|---|---|");
    for (row, (work, mapped)) in rows.enumerate() {
        let (mut theirs, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let mut times = [0.0; 2];
            for is_host in [round % 2 == 0, round % 2 != 0] {
                times[usize::from(is_host)] = child(row, round, is_host);
            }
            theirs.push(times[1]);
            ours.push(times[0]);
            ratios.push(times[0] / times[1]);
        }
        let (theirs, ours, ratio) = (median(&mut theirs), median(&mut ours), median(&mut ratios));
        let percent = |ratio: f64| (ratio - 1.0) * 100.0;
        println!(
            "| {work:?} | {} | {theirs:.1} | {ours:.1} | {:+.1} % | {:+.1} .. {:+.1} % |",
            if mapped { "64 MiB" } else { "nothing" },
            percent(ratio),
            percent(ratios[OUTSIDE]),
            percent(ratios[ROUNDS - 1 - OUTSIDE])
        );
    }
}

/// Measures a row in a process of its own: what a heap went through changes what comes next.
fn child(row: usize, round: usize, is_host: bool) -> f64 {
    let mut command = std::process::Command::new(std::env::current_exe().expect("this program"));
    command.env(ROW, row.to_string()).env(ROUND, round.to_string());
    // The host's commands lie in the heap. Whether it gives their memory back each time depends on what lies
    // behind them, and would make up half of a dispatch.
    command.env("MALLOC_TRIM_THRESHOLD_", (64_u64 << 30).to_string());
    if is_host {
        let host = std::env::var("LOCKSTEP_HOST_ICD");
        command.env(loader::TEST_ICD, host.unwrap_or_else(|_| loader::DEFAULT_HOST_ICD.to_owned()));
    }
    let output = command.output().expect("a process");
    assert!(output.status.success(), "row {row}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a time")
}

fn measure(work: Work, mapped: bool, round: u64) -> f64 {
    let mut heap = Heap::new(round);
    heap.age();
    let side = Side::new();
    if mapped {
        side.target.memory().map_whole().fill(0, MAPPED, 1);
    }
    heap.age();
    // The first time takes its memory from the system.
    side.time(work);
    median(&mut (0..SAMPLES).map(|_| side.time(work)).collect::<Vec<_>>())
}

/// What else a program has in its heap.
struct Heap {
    rng: Rng,
    blocks: Vec<Vec<u8>>,
}

impl Heap {
    fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), blocks: Vec::new() }
    }

    /// Allocates 16 bytes to 64 KiB, small blocks more often, and frees about half of all there are.
    fn age(&mut self) {
        for _ in 0..4096 {
            let largest = 16 << self.rng.below(13);
            self.blocks.push(Vec::with_capacity(self.rng.between(largest / 2, largest) + 8));
        }
        let rng = &mut self.rng;
        self.blocks.retain(|_| rng.one_in(2));
    }
}
