//! The programs: small, each typical of one way to use shared memory. The scene, the frame to quote, is a
//! program of its own.
//!
//! Each frame hands the device new bytes or takes some from it, and waits for it; the device works on every
//! byte it is handed. At the end each checks that the device saw the right ones.

mod big;
mod many;
mod ping_pong;
mod readback;
mod sized;
mod small;
mod stream;
mod texture;
mod threads;
mod vertices;

use anyhow::{Context, Result};
use lockstep_harness::{Batch, Bindings, Buffer, Commands, Compute, Fence, Gpu, Kind};

use crate::shared::{Shared, Sync};

/// A program at work.
pub(crate) trait Workload {
    /// Plays one frame.
    fn frame(&mut self);

    /// Checks what the last frame did.
    ///
    /// # Panics
    ///
    /// If a byte is wrong.
    fn check(&mut self);
}

/// A program.
#[derive(Clone, Copy)]
pub(crate) struct Program {
    name: &'static str,
    about: &'static str,
    begin: Begin,
    warm_up: u32,
}

/// Frames before a program is ready, while memory is touched for the first time.
const WARM_UP: u32 = 8;
/// And where most memory is idle: until the driver has found that out.
const SETTLED: u32 = 600;

/// How a program starts.
#[derive(Clone, Copy)]
enum Begin {
    /// The scene is a program of its own.
    Scene,
    Here(fn(&Gpu, Sync) -> Box<dyn Workload>),
    /// It has a size, which its name ends with.
    Sized(fn(&Gpu, Sync, usize) -> Box<dyn Workload>, usize),
}

const fn program(
    name: &'static str,
    about: &'static str,
    begin: fn(&Gpu, Sync) -> Box<dyn Workload>,
) -> Program {
    Program { name, about, begin: Begin::Here(begin), warm_up: WARM_UP }
}

impl Program {
    const fn settled(self) -> Self {
        Self { warm_up: SETTLED, ..self }
    }
}

/// All programs. The first is the one to quote.
const PROGRAMS: [Program; 14] = [
    Program {
        name: "mixed",
        about: "the scene: 0.4 MiB of vertices and uniforms rewritten, draws, a dispatch, a histogram read",
        begin: Begin::Scene,
        warm_up: WARM_UP,
    },
    program("stream", "1 MiB a frame through a ring of 4 MiB, a dispatch over it", stream::begin),
    program("sparse", "64 updates of 256 B scattered over 256 MiB", big::sparse),
    program("uniforms", "4 KiB of uniforms and a dispatch", small::uniforms),
    program("vertices", "24576 vertices skinned by the CPU, a dispatch over them", vertices::begin),
    program("readback", "1 MiB computed, all of it added up by the CPU", readback::all),
    program("hardly-read", "16 MiB computed, 64 B of it read", readback::hardly),
    program(
        "texture",
        "a tile of 512 x 512 texels drawn into a linear image, copied to another",
        texture::begin,
    ),
    program("many-mappings", "4096 mappings of 64 KiB, 8 of them written", many::begin),
    program("many-submits", "500 submissions a frame, 256 B written before each", small::submits),
    program("idle-1-GiB", "uniforms and a dispatch beside 1 GiB mapped and full", big::idle_full).settled(),
    program("idle-8-GiB", "uniforms and a dispatch beside 8 GiB mapped and hardly touched", big::idle_sparse)
        .settled(),
    program("threads", "two threads write 512 KiB each of 4 MiB", threads::begin),
    program("ping-pong", "16 times: 64 B to the device, 64 B back", ping_pong::begin),
];

/// A program that has a size.
type BeginSized = fn(&Gpu, Sync, usize) -> Box<dyn Workload>;

/// Programs for curves; a colon and a size complete their names.
const SIZED: [(&str, &str, BeginSized, u32); 4] = [
    ("mapped", "a submission beside so many bytes mapped, full and clean", sized::mapped, SETTLED),
    ("mappings", "a submission beside so many clean mappings of 64 KiB", sized::mappings, SETTLED),
    ("dirty", "a word changes in so many pages of 64 MiB", sized::dirty, WARM_UP),
    ("written", "the device fills so many bytes, the CPU adds them up", sized::written, WARM_UP),
];

/// All programs that have no size.
pub(crate) fn all() -> Vec<Program> {
    PROGRAMS.to_vec()
}

/// The programs of these names.
pub(crate) fn named(names: &[&String]) -> Result<Vec<Program>> {
    names.iter().map(|name| Program::named(name).with_context(|| format!("no workload {name:?}"))).collect()
}

impl Program {
    pub(crate) fn named(name: &str) -> Option<Self> {
        let Some((kind, size)) = name.split_once(':') else {
            return PROGRAMS.iter().find(|program| program.name == name).copied();
        };
        let (_, about, begin, warm_up) = SIZED.into_iter().find(|(name, ..)| *name == kind)?;
        // A few names, which stay as long as the program.
        Some(Self {
            name: name.to_owned().leak(),
            about,
            begin: Begin::Sized(begin, size.parse().ok()?),
            warm_up,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        self.name
    }

    pub(crate) fn about(self) -> &'static str {
        self.about
    }

    /// Frames before it is ready.
    pub(crate) fn warm_up(self) -> u32 {
        self.warm_up
    }

    /// Whether it is the scene, a program of its own.
    pub(crate) fn is_scene(self) -> bool {
        matches!(self.begin, Begin::Scene)
    }

    /// Starts it in this process.
    ///
    /// # Panics
    ///
    /// If it is the scene.
    pub(crate) fn begin(self, sync: Sync) -> Box<dyn Workload> {
        let gpu = Gpu::new();
        match self.begin {
            Begin::Scene => panic!("the scene is a program of its own"),
            Begin::Here(begin) => begin(&gpu, sync),
            Begin::Sized(begin, size) => begin(&gpu, sync, size),
        }
    }
}

/// A queue with a fence: what all programs do with recorded commands.
struct Device {
    gpu: Gpu,
    fence: Fence,
}

impl Device {
    fn new(gpu: &Gpu) -> Self {
        Self { gpu: gpu.clone(), fence: Fence::new(gpu) }
    }

    /// Submits commands and waits for them.
    fn run(&self, commands: &Commands) {
        self.gpu.submit(&[Batch::new().run(commands)], Some(&self.fence));
        self.wait();
    }

    fn wait(&self) {
        self.fence.wait();
        self.fence.reset();
    }
}

/// A dispatch for each part of shared memory, all into one buffer that only the device sees.
struct Passes {
    output: Buffer,
    commands: Vec<Commands>,
    _bindings: Vec<Bindings>,
    _compute: Compute,
}

impl Passes {
    /// Dispatches of `groups` workgroups of a shader: binding 0 is one of `parts` equal parts of `memory`,
    /// binding 1 the output, of `bytes` bytes.
    fn new(gpu: &Gpu, shader: &str, memory: &Shared, parts: usize, bytes: usize, groups: usize) -> Self {
        let output = Buffer::unmapped(gpu, Kind::DeviceOnly, bytes);
        let compute = Compute::new(gpu, shader, 2);
        let part = memory.buffer.len() / parts;
        let bind = |index| compute.bind(&[(&memory.buffer, index * part, part), (&output, 0, bytes)]);
        let bindings: Vec<_> = (0..parts).map(bind).collect();
        let record = |bindings| Commands::new(gpu, |r| r.dispatch(&compute, bindings, groups as u32));
        let commands = bindings.iter().map(record).collect();
        Self { output, commands, _bindings: bindings, _compute: compute }
    }
}

/// Words as bytes.
fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Bytes as words.
fn words_of(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().expect("four bytes"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays some frames of every program but the scene; each says whether the device saw the right bytes.
    fn play(sync: Sync) {
        for program in PROGRAMS.into_iter().filter(|program| !program.is_scene()) {
            let mut workload = program.begin(sync);
            for _ in 0..9 {
                workload.frame();
            }
            workload.check();
        }
    }

    #[test]
    fn coherent_programs_see_the_right_bytes() {
        play(Sync::Coherent);
    }

    #[test]
    fn programs_that_flush_and_invalidate_see_the_right_bytes() {
        play(Sync::Explicit);
    }

    #[test]
    fn programs_of_any_size_see_the_right_bytes() {
        for name in ["mapped:0", "mapped:1048576", "mappings:3", "dirty:5", "written:65536"] {
            let program = Program::named(name).expect("a program of a size");
            let mut workload = program.begin(Sync::Coherent);
            for _ in 0..5 {
                workload.frame();
            }
            workload.check();
        }
        assert!(Program::named("mapped:much").is_none() && Program::named("no:1").is_none());
    }
}
