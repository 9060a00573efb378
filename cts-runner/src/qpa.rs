//! The test log of deqp (QPA): marked lines around one XML document a case.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Result};
use std::path::Path;

/// Bytes of one case's section that are kept.
const SECTION: usize = 256 << 10;

/// Returns the section of `case` in the log at `path`: all that lies between its marks, if there is one.
pub fn section(path: &Path, case: &str) -> Result<Option<String>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => BufReader::new(file?),
    };
    let begin = format!("#beginTestCaseResult {case}");
    let mut section: Option<String> = None;
    for line in file.split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        match &mut section {
            None if line == begin => section = Some(String::new()),
            None => {}
            Some(_) if line.starts_with("#endTestCaseResult") || line.starts_with("#beginTestCaseResult") => {
                break;
            }
            Some(text) if text.len() < SECTION => {
                text.push_str(&line);
                text.push('\n');
            }
            Some(_) => {}
        }
    }
    Ok(section)
}

/// Returns the texts and numbers of a section without their marks, one a line, for a person to read.
pub fn plain(section: &str) -> String {
    let mut text = String::new();
    let mut rest = section;
    while let Some(start) = rest.find('<') {
        text.push_str(&rest[..start]);
        rest = match rest[start..].find('>') {
            Some(end) => &rest[start + end + 1..],
            None => "",
        };
    }
    text.push_str(rest);
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_vanish_and_entities_are_resolved() {
        let plain = plain("<A B=\"c\">\n <Text>x &lt; y &amp;amp;</Text>\n <Number>5</Number>\n</A>\n");

        assert_eq!(plain, " x < y &amp;\n 5");
    }
}
