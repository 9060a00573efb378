//! The command-line tool; see the library's documentation.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use clap::Parser;
use clap::error::ErrorKind;
use cts_runner::cli::{Cli, Command};
use cts_runner::progress::tell;
use cts_runner::session::Outcome;
use cts_runner::{bisect, caselist, mock, process, session};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| misused(&error));
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            tell(&format!("cts-runner: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// Ends the program after a bad command line, in one line, or with the help that was asked for.
fn misused(error: &clap::Error) -> ! {
    let no_command = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if !error.use_stderr() || error.kind() == no_command {
        error.exit();
    }
    // The library draws a paragraph, and adds usage and hints in further ones.
    let text = error.to_string();
    let first = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect::<Vec<_>>().join(" ");
    tell(&format!("cts-runner: {}; see cts-runner help", first.trim_start_matches("error: ")));
    std::process::exit(2)
}

fn run(command: Command) -> Result<ExitCode> {
    let (preset, args) = match command {
        Command::Exec { parent, command } => {
            let (program, args) = command.split_first().context("nothing to run")?;
            return Err(process::exec(parent, program, args))
                .with_context(|| format!("running {}", program.display()));
        }
        Command::MockDeqp { args } => return Ok(ExitCode::from(mock::main(&args)?)),
        Command::Memory(args) => (caselist::MEMORY, args),
        Command::Synchronization(args) => (caselist::SYNCHRONIZATION, args),
        Command::Api(args) => (caselist::API, args),
        Command::Robustness(args) => (caselist::ROBUSTNESS, args),
        Command::All(args) => (caselist::ALL, args),
        Command::Compare { a, b } => return session::compare(&a, &b).map(code),
        Command::RerunFailures { output, times } => {
            return bisect::rerun_failures(&output, times, &*stop_on_signals()?).map(code);
        }
        Command::BisectCase { case, output, side } => {
            return session::bisect(&case, &output, side.as_deref(), &*stop_on_signals()?).map(code);
        }
    };
    let stop = stop_on_signals()?;
    let outcome = session::run(preset, &args, &stop)?;
    Ok(code(outcome))
}

fn code(outcome: Outcome) -> ExitCode {
    match outcome {
        Outcome::Good => ExitCode::SUCCESS,
        Outcome::Worse => ExitCode::from(1),
        Outcome::Stopped => {
            tell("stopped; the same command goes on from here");
            ExitCode::from(130)
        }
    }
}

/// Returns a flag that the first ctrl-C sets; the second one ends the program at once.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("setting up the handler of ctrl-C")?;
    }
    Ok(stop)
}
