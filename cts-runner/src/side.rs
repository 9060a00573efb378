//! The drivers that are compared: the host's natively, and Lockstep over it, once for each point of a matrix.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// The name of the side that all others are compared with.
pub const NATIVE: &str = "native";

/// Axes a matrix may have, and the variable of Lockstep each sets.
const AXES: [(&str, &str); 4] = [
    ("profile", "LOCKSTEP_PROFILE"),
    ("tracker", "LOCKSTEP_TRACKER"),
    ("transport", "LOCKSTEP_TRANSPORT"),
    ("readback", "LOCKSTEP_READBACK"),
];

/// A driver and the environment that selects it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// `native`, `lockstep`, or the matrix point: `profile=unified,tracker=uffd`.
    pub name: String,
    /// What is set in the environment of deqp.
    pub env: Vec<(String, String)>,
}

impl Side {
    /// Returns the host's own driver.
    pub fn native(host: &Path) -> Self {
        Self { name: NATIVE.to_owned(), env: loader(host) }
    }

    /// Returns Lockstep over the host's driver at each point of the matrix, or as it is by default.
    pub fn lockstep(icd: &Path, host: &Path, matrix: &[Axis]) -> Vec<Self> {
        let mut sides = vec![Self { name: String::new(), env: loader(icd) }];
        sides[0].env.push(("LOCKSTEP_HOST_ICD".to_owned(), host.display().to_string()));
        for axis in matrix {
            sides = sides
                .iter()
                .flat_map(|side| axis.values.iter().map(|value| side.with(axis, value)))
                .collect();
        }
        if matrix.is_empty() {
            "lockstep".clone_into(&mut sides[0].name);
        }
        sides
    }

    fn with(&self, axis: &Axis, value: &str) -> Self {
        let mut side = self.clone();
        if !side.name.is_empty() {
            side.name.push(',');
        }
        side.name.push_str(&format!("{}={value}", axis.name));
        side.env.push((axis.variable.clone(), value.to_owned()));
        side
    }

    /// Returns the name as part of a file's.
    pub fn file_name(&self) -> String {
        self.name.replace(['=', ','], "-")
    }

    /// Makes `command` run on this driver, and on no leftover of the user's environment.
    pub fn apply(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            if is_ours(&name) {
                command.env_remove(name);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
    }
}

fn is_ours(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("LOCKSTEP_")
        || matches!(&*name, "VK_ICD_FILENAMES" | "VK_DRIVER_FILES" | "VK_ADD_DRIVER_FILES")
}

fn loader(manifest: &Path) -> Vec<(String, String)> {
    // Loaders before 1.3.207 know only the first name.
    ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"]
        .map(|name| (name.to_owned(), manifest.display().to_string()))
        .to_vec()
}

/// One axis of a matrix, and its values.
#[derive(Debug, Clone)]
pub struct Axis {
    name: String,
    variable: String,
    values: Vec<String>,
}

/// Parses `profile=a,b`.
pub fn parse_axis(text: &str) -> Result<Axis> {
    let known = AXES.map(|(name, _)| name).join(", ");
    let Some((name, values)) = text.split_once('=') else {
        bail!("'{text}' is not of the form axis=value,value")
    };
    let Some((_, variable)) = AXES.iter().find(|(axis, _)| *axis == name) else {
        bail!("there is no axis '{name}'; the axes are {known}");
    };
    let values: Vec<_> = values.split(',').map(str::to_owned).collect();
    if values.iter().any(String::is_empty) {
        bail!("'{text}' has an empty value");
    }
    Ok(Axis { name: name.to_owned(), variable: (*variable).to_owned(), values })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_the_product_of_its_axes() {
        let axes =
            ["profile=paravirtual,unified", "tracker=uffd,compare"].map(|a| parse_axis(a).expect("an axis"));

        let sides = Side::lockstep(Path::new("/icd"), Path::new("/host"), &axes);

        let names: Vec<_> = sides.iter().map(|side| side.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "profile=paravirtual,tracker=uffd",
                "profile=paravirtual,tracker=compare",
                "profile=unified,tracker=uffd",
                "profile=unified,tracker=compare"
            ]
        );
        assert!(sides[3].env.contains(&("LOCKSTEP_TRACKER".to_owned(), "compare".to_owned())));
    }

    #[test]
    fn an_unknown_axis_is_an_error_that_names_the_known_ones() {
        let error = parse_axis("colour=red").expect_err("no such axis");

        assert_eq!(
            error.to_string(),
            "there is no axis 'colour'; the axes are profile, tracker, transport, readback"
        );
    }
}
