//! What recording and polling cost: a million commands into one command buffer, a million looks at a fence, on the
//! host's driver and on Lockstep over it, in turns within one process; first while Lockstep has nothing mapped, then
//! with 64 MiB of coherent memory mapped.
//!
//! Prints Markdown: nanoseconds of processor time a command (medians), and the median over rounds of the ratio within
//! a round.

#![expect(clippy::multiple_unsafe_ops_per_block, reason = "all stand on one argument: the objects are alive")]

use ash::vk;
use lockstep_harness::{Bindings, Buffer, Compute, Gpu, GpuBuilder, Instance, Kind, loader};
use std::sync::Arc;

const COMMANDS: usize = 1_000_000;
const ROUNDS: usize = 21;
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
    fn new(instance: &Arc<Instance>, lockstep: bool) -> Self {
        let named = |device: &vk::PhysicalDevice| {
            // SAFETY: the device is of this instance.
            let properties = unsafe { instance.raw().get_physical_device_properties(*device) };
            properties.device_name_as_c_str().is_ok_and(|name| name.to_bytes().starts_with(b"Lockstep"))
                == lockstep
        };
        let physical = instance.devices().into_iter().find(named).expect("both drivers");
        let gpu = GpuBuilder::default().build_on_device(instance, physical);
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

fn compare(what: &str, host: &Side, lockstep: &Side) {
    for work in [Work::Dispatches, Work::Binds, Work::Copies, Work::Polls(false), Work::Polls(true)] {
        // Both have their memory from here on.
        host.time(work);
        lockstep.time(work);
        let (mut theirs, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let order: [bool; 4] =
                if round % 2 == 0 { [true, false, false, true] } else { [false, true, true, false] };
            let mut times = [0.0; 2];
            for is_host in order {
                let side = if is_host { host } else { lockstep };
                times[usize::from(is_host)] += side.time(work) / 2.0;
            }
            theirs.push(times[1]);
            ours.push(times[0]);
            ratios.push(times[0] / times[1]);
        }
        let (theirs, ours, ratio) = (median(&mut theirs), median(&mut ours), median(&mut ratios));
        let (low, high) = (ratios[ROUNDS / 10], ratios[ROUNDS - 1 - ROUNDS / 10]);
        println!(
            "| {work:?} | {what} | {theirs:.1} | {ours:.1} | {:+.1} % | {:+.1} .. {:+.1} % |",
            (ratio - 1.0) * 100.0,
            (low - 1.0) * 100.0,
            (high - 1.0) * 100.0
        );
    }
}

fn main() {
    let host = std::env::var("LOCKSTEP_HOST_ICD").unwrap_or_else(|_| loader::DEFAULT_HOST_ICD.to_owned());
    let drivers = format!("{host}:{}", loader::manifest_under_test().display());
    loader::set(loader::KEEP_DRIVERS, "1");
    loader::set("VK_ICD_FILENAMES", &drivers);
    loader::set("VK_DRIVER_FILES", &drivers);
    let instance = Arc::new(Instance::new(vk::API_VERSION_1_3, false).expect("an instance"));
    let (host, lockstep) = (Side::new(&instance, false), Side::new(&instance, true));
    println!("| a million | mapped | host, ns | Lockstep, ns | more | 10th .. 90th round |");
    println!("|---|---|---|---|---|---|");
    compare("nothing", &host, &lockstep);
    lockstep.target.memory().map_whole().fill(0, MAPPED, 1);
    host.target.memory().map_whole().fill(0, MAPPED, 1);
    compare("64 MiB", &host, &lockstep);
}
