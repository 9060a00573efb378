//! The scene as a benchmark's worker: it plays frames as it is asked to, and says how long they took.
//!
//! It says `ready`, then answers each number on a line of standard input with as many frames and a line of
//! JSON: nanoseconds of each, the processor time of all, and page faults. At the end of the input it says
//! `right` if all bytes were.

use std::rc::Rc;

use anyhow::{Context, Result};

use crate::args::Served;
use crate::gpu::Gpu;
use crate::memory::{MemoryKind, Sync};
use crate::renderer::Renderer;
use crate::say;
use crate::stage::{Show, Stage};
use crate::vulkan::{Loader, Vulkan};

/// Frames before it is ready, while memory is touched for the first time.
const WARM_UP: u32 = 8;

/// Serves until the input ends; whether every byte was right.
pub(crate) fn run(served: Served) -> Result<bool> {
    let vulkan = Rc::new(Vulkan::new(Loader::open()?, &[])?);
    let choice = vulkan.choose()?;
    let kind = match served {
        Served::Explicit => MemoryKind::find(&choice.memory, Sync::Explicit),
        Served::Coherent => MemoryKind::find(&choice.memory, Sync::Coherent),
        Served::Native => choice
            .memory
            .memory_type_count
            .checked_sub(1)
            .map(|index| MemoryKind { index, sync: Sync::Coherent }),
    };
    let kind = kind.context("the device has no such memory")?;
    let gpu = Gpu::new(vulkan, choice, false)?;
    let renderer = Rc::new(Renderer::new(&gpu, kind)?);
    let mut stage = Stage::new(&renderer, kind, Show::new("scene"))?;
    for _ in 0..WARM_UP {
        stage.frame(None)?;
    }
    say!("ready");
    for line in std::io::stdin().lines() {
        let frames: usize = line?.trim().parse().context("a number of frames")?;
        let faults = faults();
        let times = (0..frames).map(|_| stage.frame(None)).collect::<Result<Vec<_>>>()?;
        let wall: Vec<String> = times.iter().map(|time| time.wall.as_nanos().to_string()).collect();
        let cpu: u128 = times.iter().map(|time| time.cpu.as_nanos()).sum();
        let faults = crate::serve::faults() - faults;
        say!(r#"{{"wall_ns":[{}],"cpu_ns":{cpu},"faults":{faults}}}"#, wall.join(","));
    }
    let right = stage.strike().checks.mismatches() == 0;
    if right {
        say!("right");
    }
    Ok(right)
}

/// Page faults of this process so far that needed no reading from a disk.
fn faults() -> i64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is a valid place for the answer.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    // SAFETY: zeroed is valid, and it was filled in.
    unsafe { usage.assume_init() }.ru_minflt
}
