//! What Lockstep's sources say: which commands are intercepted, which extensions pass and why, which
//! structures are named. Read as text, so that the table needs no build of the driver, and the driver's own
//! tables may be generated from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// What the sources of the driver say.
#[derive(Debug)]
pub struct Code {
    /// Commands with a row in `entry/table`.
    pub intercepted: BTreeSet<String>,
    /// Extensions that pass, and the reason of their group.
    pub advertised: BTreeMap<String, String>,
    text: String,
}

impl Code {
    /// Reads the sources below `root`, the repository.
    ///
    /// # Errors
    /// When they are not where they are looked for.
    pub fn read(root: &Path) -> Result<Self> {
        let source = root.join("icd/src");
        let mut intercepted = BTreeSet::new();
        let table = source.join("entry/table");
        for entry in std::fs::read_dir(&table).with_context(|| format!("reading {}", table.display()))? {
            let path = entry?.path();
            if path.file_name().is_none_or(|name| name != "generated.rs") {
                intercepted.extend(c_strings(&code(&path)?).map(str::to_owned));
            }
        }
        let advertised = groups(&code(&source.join("extensions.rs"))?);
        ensure!(!intercepted.is_empty() && !advertised.is_empty(), "nothing found in {}", source.display());
        let mut text = String::new();
        all_code(&source, &mut text)?;
        Ok(Self { intercepted, advertised, text })
    }

    /// Whether the code names a structure, by ash's name for it.
    pub fn names(&self, structure: &str) -> bool {
        let name = structure.trim_start_matches("Vk");
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        self.text.match_indices(name).any(|(at, _)| {
            !self.text[..at].ends_with(is_word) && !self.text[at + name.len()..].starts_with(is_word)
        })
    }
}

/// A source without its tests.
fn code(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.split("#[cfg(test)]").next().unwrap_or_default().to_owned())
}

fn all_code(folder: &Path, text: &mut String) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            all_code(&path, text)?;
        } else if path.file_name().is_none_or(|name| name != "generated.rs") {
            *text += &code(&path)?;
            text.push('\n');
        }
    }
    Ok(())
}

/// The C string literals in a text.
fn c_strings(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (literal, after) = rest.split_once("c\"")?.1.split_once('"')?;
        rest = after;
        Some(literal)
    })
}

/// The names of each `Group` of extensions, with the group's reason.
fn groups(text: &str) -> BTreeMap<String, String> {
    let mut groups = BTreeMap::new();
    for group in text.split("reason: \"").skip(1) {
        let Some((reason, names)) = group.split_once('"') else { continue };
        // A literal over several lines.
        let reason: Vec<_> = reason.split('\\').map(str::trim_start).collect();
        for name in c_strings(names.split(']').next().unwrap_or_default()) {
            groups.insert(name.to_owned(), reason.concat());
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_groups_reason() {
        let text = "Group {\n reason: \"one, \\\n  two\",\n names: &[c\"VK_A\", c\"VK_B\"] },\n\
                    Group { reason: \"three\", names: &[c\"VK_C\"] }";
        let groups = groups(text);
        assert_eq!(groups["VK_A"], "one, two");
        assert_eq!(groups["VK_B"], "one, two");
        assert_eq!(groups["VK_C"], "three");
    }
}
