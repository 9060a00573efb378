//! The command line, parsed by hand: so few options need no library.

use std::path::PathBuf;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
lockstep-scene: an animated scene in persistently mapped, coherent memory

A pond is simulated on the CPU. Its vertices and uniforms are rewritten every frame and its histogram is
computed by a compute shader, all in coherent memory that is mapped once and never flushed or invalidated.
Every frame is checked byte by byte.

Usage: lockstep-scene [OPTIONS]
  --headless      do not open a window; save a picture of the last frame
  --frames N      frames of the scene to run (default 300)
  --rounds R      rounds of the measurement (default 10)
  --output FILE   where the picture goes (default lockstep-scene.png; in a window: none)
  --no-measure    do not compare explicit synchronisation with coherent memory
  --serve KIND    for benchmarks: play frames in explicit, coherent or native memory as asked on standard input
  --help          this text

The exit status is 0 when all bytes were right, 1 when some were wrong or nothing could run, 2 for a wrong
option. Which driver runs is the Vulkan loader's choice: see VK_ICD_FILENAMES.
";

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Args {
    /// Do not even try to open a window.
    pub(crate) headless: bool,
    /// How many frames of the scene to run before the measurement.
    pub(crate) frames: u32,
    /// How many rounds the measurement has.
    pub(crate) rounds: u32,
    /// Where to save the last frame, if the user named a file.
    pub(crate) output: Option<PathBuf>,
    /// Whether to measure at all.
    pub(crate) measure: bool,
}

/// Memory to play frames in, as somebody else asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// The application flushes and invalidates.
    Explicit,
    /// The first coherent type.
    Coherent,
    /// The host's own, the last type.
    Native,
}

/// What to do about the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Run the scene.
    Run(Args),
    /// Play frames as asked.
    Serve(Served),
    /// Print [`HELP`].
    Help,
}

/// Parses the arguments behind the program's name; an error is one line for the user.
pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Request, String> {
    let mut args = Args { headless: false, frames: 300, rounds: 10, output: None, measure: true };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        // Both `--frames 10` and `--frames=10`.
        let (name, glued) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        let takes_value = matches!(name.as_str(), "--frames" | "--rounds" | "--output" | "--serve");
        if glued.is_some() && !takes_value && name.starts_with("--") {
            return Err(format!("{name} takes no value"));
        }
        let mut value = || glued.clone().or_else(|| words.next()).ok_or(format!("{name} needs a value"));
        match name.as_str() {
            "--headless" => args.headless = true,
            "--no-measure" => args.measure = false,
            "--frames" => args.frames = count(&name, &value()?)?,
            "--rounds" => args.rounds = count(&name, &value()?)?,
            "--output" => args.output = Some(PathBuf::from(value()?)),
            "--serve" => return served(&value()?).map(Request::Serve),
            "--help" | "-h" => return Ok(Request::Help),
            _ => return Err(format!("unknown option {name:?}; --help lists the options")),
        }
    }
    Ok(Request::Run(args))
}

fn served(value: &str) -> Result<Served, String> {
    match value {
        "explicit" => Ok(Served::Explicit),
        "coherent" => Ok(Served::Coherent),
        "native" => Ok(Served::Native),
        _ => Err(format!("--serve needs explicit, coherent or native, not {value:?}")),
    }
}

/// Parses a count of at least one.
fn count(name: &str, value: &str) -> Result<u32, String> {
    match value.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{name} needs a number of 1 or more, not {value:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Request, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_taken_in_both_spellings() {
        let Ok(Request::Run(args)) = parse_line("--headless --frames 7 --rounds=3 --output a.png") else {
            panic!("not accepted");
        };

        assert_eq!((args.headless, args.frames, args.rounds, args.measure), (true, 7, 3, true));
        assert_eq!(args.output, Some(PathBuf::from("a.png")));
    }

    #[test]
    fn bad_options_are_named() {
        assert_eq!(parse_line("--frames 0").unwrap_err(), "--frames needs a number of 1 or more, not \"0\"");
        assert_eq!(parse_line("--frames").unwrap_err(), "--frames needs a value");
        assert_eq!(parse_line("--headless=1").unwrap_err(), "--headless takes no value");
        assert!(parse_line("--fast").unwrap_err().contains("--fast"));
        assert!(parse_line("--serve both").unwrap_err().contains("both"));
        assert!(parse_line("fast").unwrap_err().contains("fast"));
    }
}
