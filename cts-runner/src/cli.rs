//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use regex::Regex;

/// Runs the Vulkan CTS natively and on Lockstep, side by side.
///
/// Exit status: 0 if nothing that passes natively does worse on Lockstep, 1 if something does, 2 if the run
/// was impossible, 130 if it was stopped; the same command goes on with a run that was stopped or killed.
#[derive(Debug, Parser)]
#[command(version, args_override_self = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// dEQP-VK.memory: what Lockstep is about
    Memory(RunArgs),
    /// dEQP-VK.synchronization and dEQP-VK.synchronization2
    Synchronization(RunArgs),
    /// dEQP-VK.api and dEQP-VK.binding_model.buffer_device_address
    Api(RunArgs),
    /// dEQP-VK.robustness
    Robustness(RunArgs),
    /// All cases of the binary, or of the list given
    All(RunArgs),
    /// Compares two results.csv files, or the sides of two output directories
    Compare {
        /// What is compared with
        a: PathBuf,
        /// What is compared
        b: PathBuf,
    },
    /// Runs the cases of an earlier run that are worse than native again, each alone
    RerunFailures {
        /// The output directory of the run
        output: PathBuf,
        /// How often each case is run on each side
        #[arg(long, default_value_t = 3)]
        times: usize,
    },
    /// Finds the smallest set of preceding cases that makes a case of an earlier run fail
    BisectCase {
        /// The case
        case: String,
        /// The output directory of the run
        output: PathBuf,
        /// The side it fails on; by default the first one it fails on
        #[arg(long)]
        side: Option<String>,
    },
    /// A stand-in for deqp-vk, for tests
    #[command(hide = true)]
    MockDeqp {
        /// deqp's arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Becomes a program that dies with process PARENT
    #[command(hide = true)]
    Exec {
        /// Who starts it
        parent: u32,
        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
}

/// How cases are run.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The deqp-vk to run
    #[arg(long)]
    pub deqp: Option<PathBuf>,
    /// An argument that deqp-vk gets before all others (repeatable)
    #[arg(long, allow_hyphen_values = true)]
    pub deqp_arg: Vec<String>,
    /// Cases to run, of which the preset's are taken: one a line, or a mustpass file; default: all the binary
    /// has
    #[arg(long)]
    pub caselist: Option<PathBuf>,
    /// Runs only cases that this regular expression matches
    #[arg(long, value_parser = regex)]
    pub filter: Option<Regex>,
    /// Lockstep's manifest; default: built from the checkout around
    #[arg(long)]
    pub icd: Option<PathBuf>,
    /// The host driver's manifest; default: LOCKSTEP_HOST_ICD, or lavapipe's
    #[arg(long)]
    pub host: Option<PathBuf>,
    /// The host driver's name and version; default: what vulkaninfo says
    #[arg(long)]
    pub host_version: Option<String>,
    /// Where results go; default: target/cts/PRESET
    #[arg(long)]
    pub output: Option<PathBuf>,
    /// Processes at a time; default: as many as there are cores, and memory for
    #[arg(long, short)]
    pub jobs: Option<usize>,
    /// Seconds that a case may take
    #[arg(long, default_value_t = 180.0)]
    pub timeout: f64,
    /// Cases a process
    #[arg(long, default_value_t = 250)]
    pub group_size: usize,
    /// How often each case that differs is run alone on each side
    #[arg(long, default_value_t = 5)]
    pub reruns: usize,
    /// Lockstep's options to run with, in all combinations: profile=paravirtual,unified
    /// tracker=uffd,compare,sigsegv
    #[arg(long, num_args = 1..)]
    pub matrix: Vec<String>,
    /// Starts over where an earlier run could go on
    #[arg(long)]
    pub fresh: bool,
    /// Where baselines are; default: cts-runner/baselines of the checkout around
    #[arg(long)]
    pub baselines: Option<PathBuf>,
    /// Makes this run the baseline for its host driver
    #[arg(long, conflicts_with = "filter")]
    pub write_baseline: bool,
}

/// Parses a regular expression. The library's errors draw arrows over several lines; the last one says what
/// is wrong.
fn regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| error.to_string().lines().last().unwrap_or_default().trim().to_owned())
}
