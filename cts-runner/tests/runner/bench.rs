//! A directory with drivers that do not exist, a list of cases, and the runner on its own mock of deqp-vk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// The program under test.
pub(crate) const RUNNER: &str = env!("CARGO_BIN_EXE_cts-runner");

pub(crate) struct Bench {
    directory: TempDir,
}

impl Bench {
    /// Sets up a run of `cases`, which are the ends of names below `dEQP-VK.memory.`.
    pub(crate) fn new(cases: &[&str]) -> Self {
        let bench = Self { directory: tempfile::tempdir().expect("a directory") };
        let list = cases.iter().map(|case| format!("{}\n", name(case))).collect::<String>();
        bench.write("cases.txt", &list);
        bench.write("library.so", "");
        for driver in ["host.json", "lockstep.json"] {
            bench.write(driver, r#"{"ICD": {"library_path": "library.so"}}"#);
        }
        fs::create_dir(bench.path("state")).expect("a directory");
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("writing a file");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Returns the command of a run with further arguments.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command =
            self.runner(&["memory", "--deqp", RUNNER, "--deqp-arg", "mock-deqp", "--host-version", "mock 1"]);
        for (option, file) in [("--host", "host.json"), ("--icd", "lockstep.json"), ("--output", "out")] {
            command.arg(option).arg(self.path(file));
        }
        command.arg("--baselines").arg(self.path("baselines")).args(["--reruns", "2"]);
        if !args.contains(&"--caselist") {
            command.arg("--caselist").arg(self.path("cases.txt"));
        }
        command.args(args);
        command
    }

    /// Returns the runner with arguments of its own.
    pub(crate) fn runner(&self, args: &[&str]) -> Command {
        let mut command = Command::new(RUNNER);
        command.args(args).current_dir(self.directory.path()).env("MOCK_STATE", self.path("state"));
        command
            .env_remove("LOCKSTEP_HOST_ICD")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the cases to the end, where no file may grow beyond some blocks of 512 bytes.
    pub(crate) fn run_with_little_space(&self, blocks: u32, args: &[&str]) -> Finished {
        let inner = self.command(args);
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"")).arg("sh");
        command.arg(inner.get_program()).args(inner.get_args()).env("MOCK_STATE", self.path("state"));
        Finished::new(&command.output().expect("starting the runner"))
    }

    /// Runs the cases to the end.
    pub(crate) fn run(&self, args: &[&str]) -> Finished {
        Finished::new(&self.command(args).output().expect("starting the runner"))
    }

    /// Starts a run that will reach a case called `gate`, and returns it with the pipe that tells so.
    pub(crate) fn start_to_gate(&self, args: &[&str]) -> (Child, fs::File) {
        let gate = self.path("state/gate");
        let made = Command::new("mkfifo").arg(&gate).status().expect("starting mkfifo");
        assert!(made.success());
        let runner = self.command(args).spawn().expect("starting the runner");
        let mut pipe = fs::File::open(&gate).expect("opening the pipe");
        let mut here = [0; 5];
        std::io::Read::read_exact(&mut pipe, &mut here).expect("the case tells that it runs");
        fs::remove_file(&gate).expect("removing the pipe");
        (runner, pipe)
    }

    /// Returns `case: status` of a side's results.csv, without times.
    pub(crate) fn results(&self, side: &str) -> Vec<String> {
        let text = self.read(&format!("out/{side}/results.csv"));
        let fields = |line: &str| line.split(',').take(2).map(str::to_owned).collect::<Vec<_>>();
        let short = |name: &str| name.trim_start_matches("dEQP-VK.memory.").to_owned();
        text.lines().map(fields).map(|fields| format!("{}: {}", short(&fields[0]), fields[1])).collect()
    }
}

/// Returns the whole name of a case.
pub(crate) fn name(case: &str) -> String {
    format!("dEQP-VK.memory.{case}")
}

/// What a run said and how it ended.
pub(crate) struct Finished {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    pub(crate) fn new(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let status = output.status.code().expect("an exit status");
        Self { status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Asserts an impossible run: status 2 and one line that has `what` in it.
    pub(crate) fn assert_refused(&self, what: &str) {
        assert_eq!(self.status, 2, "{}{}", self.stdout, self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        assert!(self.stderr.contains(what), "{}", self.stderr);
    }
}

/// Returns whether a path exists whose name ends so, below a directory.
pub(crate) fn has_file(directory: &Path, end: &str) -> bool {
    let entries = fs::read_dir(directory).expect("a directory");
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().ends_with(end))
}
