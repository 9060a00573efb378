//! Standard output of deqp, line by line, for the parser of `deqp_runner`.
//!
//! The library blames crashes and time-outs on the case that runs. Its own line parser for deqp gives up at a
//! status it does not know, which would cost the results of a whole group; this one calls that a failure, and
//! keeps what the cases said.

use std::collections::HashMap;

use deqp_runner::TestStatus;
use deqp_runner::parse::{ParserState, ResultParser};

/// Bytes of one case's output that are kept.
const SAID: usize = 64 << 10;

/// What the cases of one process said, by name.
pub type Said = HashMap<String, Words>;

/// What one case said.
#[derive(Debug, Default, Clone)]
pub struct Words {
    /// The text behind the status.
    pub message: String,
    /// All output from the case's beginning on.
    pub output: String,
    /// The case ended with a status word that means nothing to us.
    pub unknown: Option<String>,
    /// The case has a status.
    ended: bool,
}

/// The line parser. It fills the map that it is given, which outlives it.
#[derive(Debug)]
pub struct Lines<'a> {
    said: &'a mut Said,
    current: Option<String>,
}

impl<'a> Lines<'a> {
    /// Returns a parser that notes in `said` what cases say.
    pub fn new(said: &'a mut Said) -> Self {
        Self { said, current: None }
    }
}

/// Returns whether a line begins or ends a case.
pub fn is_mark(line: &str) -> bool {
    begun(line).is_some() || ended(line).is_some()
}

fn begun(line: &str) -> Option<&str> {
    // Other threads' output may stand before it.
    let (_, rest) = line.split_once("Test case '")?;
    rest.strip_suffix("'..")
}

/// Returns the status word and what follows it, if the line is one that ends a case.
fn ended(line: &str) -> Option<(TestStatus, &str)> {
    let (word, rest) = status_line(line)?;
    Some((status(word)?, rest))
}

fn status_line(line: &str) -> Option<(&str, &str)> {
    let (word, rest) = line.strip_prefix("  ")?.split_once(" (")?;
    (!word.is_empty() && word.chars().all(char::is_alphanumeric)).then_some((word, rest))
}

/// Translates deqp's status words (`s_qpTestResultMap` in `qpTestLog.c`), as `deqp_runner` does.
fn status(word: &str) -> Option<TestStatus> {
    Some(match word {
        "Pass" => TestStatus::Pass,
        "NotSupported" => TestStatus::Skip,
        "QualityWarning" | "CompatibilityWarning" | "Waiver" => TestStatus::Warn,
        "Fail" | "Pending" | "ResourceError" | "InternalError" => TestStatus::Fail,
        "Crash" | "DeviceLost" => TestStatus::Crash,
        "Timeout" => TestStatus::Timeout,
        _ => return None,
    })
}

impl ResultParser for Lines<'_> {
    fn parse_line(&mut self, line: &str) -> anyhow::Result<Option<ParserState>> {
        if let Some(name) = begun(line) {
            self.current = Some(name.to_owned());
            self.said.insert(name.to_owned(), Words::default());
            return Ok(Some(ParserState::BeginTest(name.to_owned())));
        }
        let Some(words) = self.current.as_ref().and_then(|name| self.said.get_mut(name)) else {
            return Ok(None);
        };
        if words.output.len() < SAID {
            words.output.push_str(line);
            words.output.push('\n');
        }
        if words.ended {
            return Ok(None);
        }
        if let Some((status, message)) = ended(line) {
            words.ended = true;
            message.strip_suffix(')').unwrap_or(message).clone_into(&mut words.message);
            return Ok(Some(ParserState::EndTest(status)));
        }
        // Some sparse cases tell of what they do with the word Info before they end.
        if let Some((word, _)) = status_line(line)
            && word != "Info"
        {
            words.unknown = Some(word.to_owned());
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Vec<(String, TestStatus)>, Said) {
        let mut said = Said::new();
        let parsed = Lines::new(&mut said).parse(text.as_bytes(), None).expect("parsing never fails");
        (parsed.results.into_iter().map(|result| (result.name, result.status)).collect(), said)
    }

    #[test]
    fn statuses_are_those_of_the_library() {
        let (results, said) = parse(
            "Test case 'dEQP-VK.a'..\n  Pass (fine)\n\nTest case 'dEQP-VK.b'..\n  NotSupported (no (x) at a.cpp:1)\n",
        );

        assert_eq!(
            results,
            [("dEQP-VK.a".to_owned(), TestStatus::Pass), ("dEQP-VK.b".to_owned(), TestStatus::Skip)]
        );
        assert_eq!(said["dEQP-VK.b"].message, "no (x) at a.cpp:1");
    }

    #[test]
    fn a_case_without_an_end_crashed() {
        let (results, _) = parse("Test case 'dEQP-VK.a'..\n");

        assert_eq!(results, [("dEQP-VK.a".to_owned(), TestStatus::Crash)]);
    }

    #[test]
    fn an_unknown_status_costs_no_other_result() {
        let (results, said) =
            parse("Test case 'dEQP-VK.a'..\n  Marvellous (yes)\n\nTest case 'dEQP-VK.b'..\n  Pass (fine)\n");

        assert_eq!(results, [("dEQP-VK.b".to_owned(), TestStatus::Pass)]);
        assert_eq!(said["dEQP-VK.a"].unknown.as_deref(), Some("Marvellous"));
    }

    #[test]
    fn a_message_of_several_lines_ends_its_case() {
        let (results, _) = parse("Test case 'dEQP-VK.a'..\n  Fail (one\ntwo at b.cpp:2)\n");

        assert_eq!(results, [("dEQP-VK.a".to_owned(), TestStatus::Fail)]);
    }
}
