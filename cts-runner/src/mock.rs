//! A stand-in for deqp-vk: the last word of a case's name says how the case behaves.
//!
//! `dEQP-VK.memory.mapping.crash` crashes; `...lockstep_crash` crashes on Lockstep and passes natively,
//! `...native_crash` the other way round. What follows a behaviour behind an underscore only makes names
//! differ: `pass_1`, `pass_2`. Cases that must remember something between processes do so in the directory
//! `MOCK_STATE`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Signal, getpid, kill_process};

/// What the mock has when it is asked for its cases.
const CASES: [&str; 4] = [
    "dEQP-VK.info.pass",
    "dEQP-VK.memory.mapping.pass_1",
    "dEQP-VK.memory.mapping.pass_2",
    "dEQP-VK.api.smoke.pass",
];

/// How much the cases write that write too much.
const HUGE: usize = 32 << 20;

#[derive(Debug, Default)]
struct Arguments {
    pattern: String,
    list: Option<PathBuf>,
    export: Option<PathBuf>,
    log: Option<PathBuf>,
}

impl Arguments {
    fn parse(args: &[String]) -> Self {
        let mut parsed = Self::default();
        for (name, value) in args.iter().filter_map(|arg| arg.split_once('=')) {
            match name {
                "--deqp-case" => value.clone_into(&mut parsed.pattern),
                "--deqp-caselist-file" => parsed.list = Some(value.into()),
                "--deqp-caselist-export-file" => parsed.export = Some(value.into()),
                "--deqp-log-filename" => parsed.log = Some(value.into()),
                _ => {}
            }
        }
        parsed
    }
}

/// Behaves as deqp-vk called with `args`. Returns the exit status.
pub fn main(args: &[String]) -> io::Result<u8> {
    let args = Arguments::parse(args);
    say("dEQP Core mock-1.0 (0x00000001) starting..\n  target implementation = 'Mock'\n")?;
    if let Some(export) = &args.export {
        let prefix = args.pattern.trim_end_matches('*');
        let cases = CASES.iter().filter(|case| case.starts_with(prefix));
        fs::write(export, cases.map(|case| format!("TEST: {case}\n")).collect::<String>())?;
        return Ok(0);
    }
    let Some(list) = &args.list else { return Ok(1) };
    let mut log = File::create(args.log.unwrap_or_else(|| "/dev/null".into()))?;
    writeln!(log, "#sessionInfo releaseName mock-1.0\n\n#beginSession\n")?;
    let mut session = Session::default();
    for case in fs::read_to_string(list)?.lines() {
        session.case(case, &mut log)?;
    }
    say("\nDONE!\n")?;
    if session.dies_at_exit {
        std::process::abort();
    }
    Ok(0)
}

/// What a process remembers from case to case.
#[derive(Debug, Default)]
struct Session {
    poisoned: bool,
    dies_at_exit: bool,
}

impl Session {
    fn case(&mut self, case: &str, log: &mut File) -> io::Result<()> {
        let behaviour = behaviour(case);
        if behaviour == "missing" {
            return Ok(());
        }
        say(&format!("\nTest case '{case}'..\n"))?;
        writeln!(log, "#beginTestCaseResult {case}")?;
        let (status, message) = self.behave(behaviour, case)?;
        if !status.is_empty() {
            say(&format!("  {status} ({message})\n"))?;
        }
        writeln!(
            log,
            "<TestCaseResult><Text>the mock was told: {behaviour}</Text><Result>{status}</Result></TestCaseResult>\n\n\
             #endTestCaseResult\n"
        )
    }

    fn behave(&mut self, behaviour: &str, case: &str) -> io::Result<(&'static str, &'static str)> {
        Ok(match behaviour {
            "pass" => ("Pass", "fine"),
            "fail" => ("Fail", "wrong byte"),
            "skip" => ("NotSupported", "not here at mock.rs:1"),
            "warn" => ("QualityWarning", "so so"),
            "unknown" => ("Marvellous", "what is this"),
            "multiline" => ("Fail", "one\ntwo at mock.cpp:2"),
            "abort" | "crash" => std::process::abort(),
            "killed" => {
                kill_process(getpid(), Signal::KILL)?;
                ("Pass", "unreachable")
            }
            "exits" => std::process::exit(0),
            "hang" => hang(),
            "litter" => {
                // A child of the hung child, which holds its output open.
                Command::new("sleep").arg("1000").spawn()?;
                hang()
            }
            "gate" => {
                gate()?;
                ("Pass", "through the gate")
            }
            "garbage" => {
                io::stdout().write_all(&[0xff, 0x00, b'\n', 0xc3, 0x28, b'\n', b'\r', 0x1b])?;
                say("\n")?;
                ("Pass", "behind garbage")
            }
            "huge" => {
                let lines = "a line of output that nobody needs\n".repeat(1000);
                for _ in 0..HUGE / lines.len() {
                    say(&lines)?;
                }
                ("Pass", "behind much output")
            }
            "endless" => {
                io::stdout().write_all(&vec![b'x'; HUGE])?;
                say("\n")?;
                ("Pass", "behind a long line")
            }
            "flake" if count(case)?.is_multiple_of(2) => ("Fail", "this time"),
            "flake" => ("Pass", "this time"),
            // Natively it passes the first time, on Lockstep never.
            "excused" if is_lockstep() || !count(case)?.is_multiple_of(2) => ("Fail", "this time"),
            "excused" => ("Pass", "this time"),
            "poison" => {
                self.poisoned = true;
                ("Pass", "and poisoned what follows")
            }
            "victim" if self.poisoned => ("Fail", "poisoned"),
            "victim" => ("Pass", "not poisoned"),
            "teardown" => {
                self.dies_at_exit = true;
                ("Pass", "and will die at exit")
            }
            "environment" => {
                let named = std::env::vars()
                    .filter(|(name, _)| name.starts_with("LOCKSTEP_") || name.starts_with("VK_"));
                for (name, value) in named {
                    say(&format!("{name}={value}\n"))?;
                }
                ("Fail", "to show the environment")
            }
            _ => ("Fail", "the mock does not know this behaviour"),
        })
    }
}

fn is_lockstep() -> bool {
    std::env::var_os("LOCKSTEP_HOST_ICD").is_some()
}

fn behaviour(case: &str) -> &str {
    let word = case.rsplit('.').next().unwrap_or_default();
    let word = match (word.strip_prefix("lockstep_"), word.strip_prefix("native_")) {
        (Some(word), _) if is_lockstep() => word,
        (_, Some(word)) if !is_lockstep() => word,
        (None, None) => word,
        _ => "pass",
    };
    word.split('_').next().unwrap_or_default()
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

fn state(name: &str) -> Option<PathBuf> {
    std::env::var_os("MOCK_STATE").map(|directory| PathBuf::from(directory).join(name))
}

/// Tells the reader of the pipe `gate` that the case is here, and stays for as long as the pipe is there.
fn gate() -> io::Result<()> {
    let Some(pipe) = state("gate").filter(|pipe| pipe.exists()) else { return Ok(()) };
    let mut pipe = OpenOptions::new().write(true).open(pipe)?;
    pipe.write_all(b"here\n")?;
    hang()
}

/// Returns how often the case ran before on this side.
fn count(case: &str) -> io::Result<usize> {
    let side = if is_lockstep() { "lockstep" } else { "native" };
    let Some(path) = state(&format!("{case}.{side}")) else { return Ok(0) };
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    let before = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    file.write_all(b".")?;
    Ok(before)
}
