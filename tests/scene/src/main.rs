//! The example people see: an animated pond in persistently mapped, coherent memory.
//!
//! The CPU simulates a pond with bouncing balls and rewrites some twenty thousand vertices every frame. A
//! compute shader counts how high the water stands; the CPU reads the histogram back and draws it as bars in
//! the next frame. All of that lives in HOST_COHERENT memory which is mapped once: no flush and no
//! invalidate. Every frame is checked, byte by byte, and the same scene with explicit synchronisation is the
//! yardstick.
//!
//! - [`world`], [`pond`], [`maths`]: what moves, in ordinary memory; [`frame`]: its bytes, and what the
//!   device must make of them
//! - [`memory`]: the shared memory, and all the difference there is between explicit and coherent
//! - [`stage`]: one frame, from the CPU to the device and back; [`checks`]: the score
//! - [`vulkan`], [`gpu`], [`target`], [`pipelines`], [`shaders`], [`renderer`], [`commands`]: drawing
//! - [`window`], [`swapchain`], [`picture`]: where the result is seen
//! - [`measure`], [`summary`], [`args`]: what is printed, and the command line; [`serve`]: for benchmarks
//!
//! # Safety
//! Vulkan is unsafe to call, so the modules that call it are full of small unsafe blocks. One rule makes most
//! of them easy to judge: every submission is waited for before anything else happens.

mod args;
mod checks;
mod commands;
mod frame;
mod gpu;
mod maths;
mod measure;
mod memory;
mod picture;
mod pipelines;
mod pond;
mod renderer;
mod serve;
mod shaders;
mod stage;
mod summary;
mod swapchain;
mod target;
mod vulkan;
mod window;
mod world;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};

use args::{Args, Request};
use checks::Checks;
use gpu::Gpu;
use memory::{MemoryKind, Sync};
use renderer::Renderer;
use stage::{Show, Stage};
use vulkan::{Loader, Vulkan};
use window::Desktop;

/// Prints a line, like `println!`, but does not mind when nobody reads it.
macro_rules! say {
    ($($words:tt)*) => { $crate::write_line(&mut std::io::stdout(), format_args!($($words)*)) };
}
pub(crate) use say;

fn main() -> ExitCode {
    let result = match args::parse(std::env::args().skip(1)) {
        Ok(Request::Run(args)) => run(&args),
        Ok(Request::Serve(served)) => serve::run(served),
        Ok(Request::Help) => {
            say!("{}", args::HELP.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            write_line(&mut std::io::stderr(), format_args!("lockstep-scene: {message}"));
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            write_line(&mut std::io::stderr(), format_args!("lockstep-scene: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn write_line(to: &mut dyn Write, line: std::fmt::Arguments<'_>) {
    // A closed pipe is no reason to stop checking bytes.
    let _ = writeln!(to, "{line}");
}

/// Does all of it; whether every byte was right.
fn run(args: &Args) -> Result<bool> {
    let loader = Loader::open()?;
    let mut desktop = open_desktop(args, &loader);
    let extensions = desktop.as_ref().map_or(Ok(vec![]), Desktop::extensions)?;
    let vulkan = Rc::new(Vulkan::new(loader, &extensions)?);
    let choice = vulkan.choose()?;
    summary::print(&choice);
    if desktop.is_some() && !choice.can_present {
        say!("No window (the device has no VK_KHR_swapchain): going on without.");
        desktop = None;
    }
    let native = summary::native_kind(&choice);
    let explicit = MemoryKind::find(&choice.memory, Sync::Explicit);
    let coherent = MemoryKind::find(&choice.memory, Sync::Coherent)
        .context("the device has no HOST_COHERENT memory, which Vulkan demands")?;
    let emulated = choice.is_lockstep();

    let gpu = Gpu::new(vulkan, choice, desktop.is_some())?;
    let renderer = Rc::new(Renderer::new(&gpu, coherent)?);
    let mut stage = Stage::new(&renderer, coherent, Show::new("scene"))?;
    let shown = play(&gpu, &mut stage, desktop.as_mut(), args.frames)?;
    // Without a window there must be something to look at.
    let output = args.output.as_deref().or((!shown).then_some(Path::new("lockstep-scene.png")));
    if let Some(path) = output {
        picture::save(path, renderer.picture(coherent)?)?;
        say!("Saved the last frame as {}.", path.display());
    }
    drop(desktop);

    let (mut shows, mut yardsticks) = (vec![stage.strike()], vec![]);
    if let Some(explicit) = explicit.filter(|_| args.measure) {
        let name = if emulated { "emulated coherent" } else { "coherent" };
        let mut sides = vec![("explicit", explicit), (name, coherent)];
        sides.extend(native.map(|native| ("host's own coherent", native)));
        yardsticks = measure::run(&renderer, &sides, args.rounds)?;
        shows.push(yardsticks.remove(1));
    } else if args.measure {
        say!(
            "No comparison: it needs memory that is not coherent, as Lockstep offers, and this driver has none."
        );
    }
    Ok(report(&shows, &yardsticks))
}

/// Connects to the desktop, if that is wanted and possible; says why not if it is wanted but impossible.
fn open_desktop(args: &Args, loader: &Loader) -> Option<Desktop> {
    if args.headless {
        return None;
    }
    let opened = Desktop::open().and_then(|desktop| {
        if let Some(desktop) = &desktop {
            let here = loader.has_extensions(&desktop.extensions()?);
            ensure!(here, "the Vulkan driver has no surfaces for this display");
        }
        Ok(desktop)
    });
    opened.unwrap_or_else(|error| {
        say!("No window ({error:#}): going on without.");
        None
    })
}

/// Plays the scene, in a window as long as there is one; whether it was shown to the end.
fn play(gpu: &Rc<Gpu>, stage: &mut Stage, desktop: Option<&mut Desktop>, frames: u32) -> Result<bool> {
    let mut times = Vec::with_capacity(frames as usize);
    let shown = match desktop.map(|desktop| desktop.play(gpu, stage, frames, &mut times)) {
        Some(Ok(())) => true,
        Some(Err(error)) => {
            say!("No window ({error:#}): going on without.");
            false
        }
        None => false,
    };
    while !shown && times.len() < frames as usize {
        times.push(stage.frame(None)?);
    }
    let milliseconds: Vec<f64> = times.iter().map(|time| time.wall.as_secs_f64() * 1e3).collect();
    let place = if shown { "in a window" } else { "without a window" };
    let median = lockstep_statistics::median(&milliseconds);
    say!("Played {} frames {place}, median frame {median:.3} ms, every one checked.", times.len());
    Ok(shown)
}

/// Prints what moved and whether it was right.
fn report(coherent: &[Show], yardsticks: &[Show]) -> bool {
    let total = |of: fn(&Checks) -> u64| coherent.iter().map(|show| of(&show.checks)).sum::<u64>();
    say!(
        "In {} frames with coherent memory the CPU wrote {} bytes ({} of them new values)",
        total(|checks| u64::from(checks.frames())),
        total(|checks| checks.traffic().0),
        total(Checks::changed),
    );
    say!("and read {} bytes back, without a flush or an invalidate.", total(|checks| checks.traffic().1));
    let wrong: u64 = coherent.iter().chain(yardsticks).map(|show| show.checks.mismatches()).sum();
    if wrong == 0 {
        say!("All bytes were right.");
    } else {
        say!("WRONG BYTES: {wrong} words were not what they should have been.");
    }
    wrong == 0
}
