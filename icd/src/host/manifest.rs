//! Driver manifests: JSON files in well-known directories that name a driver's library.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::Error;
use crate::config::secure_getenv;

/// Reads the library's path out of a manifest. A path with a directory is relative to the manifest; a bare
/// file name is for the dynamic linker to find.
pub fn library_path(manifest: &Path) -> Result<PathBuf, Error> {
    let fail = |reason: String| Error::Manifest { path: manifest.to_owned(), reason };
    let text = std::fs::read_to_string(manifest).map_err(|error| fail(error.to_string()))?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| fail(format!("not a driver manifest: {error}")))?;
    let library = json["ICD"]["library_path"].as_str();
    let library =
        Path::new(library.ok_or_else(|| fail("not a driver manifest: no ICD.library_path".into()))?);
    if library.components().count() > 1 && library.is_relative() {
        return Ok(manifest.parent().unwrap_or(Path::new(".")).join(library));
    }
    Ok(library.to_owned())
}

/// The manifests of the system, in the order the loader looks for them; by name within a directory.
pub fn system_manifests() -> Vec<PathBuf> {
    directories().iter().flat_map(|directory| manifests_in(directory)).collect()
}

fn manifests_in(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    found.retain(|path| path.extension() == Some(OsStr::new("json")));
    found.sort();
    found
}

fn directories() -> Vec<PathBuf> {
    let list = |name, default: &str| {
        let value = secure_getenv(name).filter(|value| !value.is_empty());
        let value = value.unwrap_or_else(|| default.into());
        std::env::split_paths(&value).filter(|path| path.is_absolute()).collect::<Vec<_>>()
    };
    let home = secure_getenv(c"HOME").map(PathBuf::from);
    let of_home = |name, below: &str| {
        let own = secure_getenv(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        own.or_else(|| home.as_ref().map(|home| home.join(below)))
    };
    let mut bases = Vec::new();
    bases.extend(of_home(c"XDG_CONFIG_HOME", ".config"));
    bases.extend(list(c"XDG_CONFIG_DIRS", "/etc/xdg"));
    bases.push("/etc".into());
    bases.extend(of_home(c"XDG_DATA_HOME", ".local/share"));
    bases.extend(list(c"XDG_DATA_DIRS", "/usr/local/share:/usr/share"));
    bases.into_iter().map(|base| base.join("vulkan/icd.d")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PathBuf, Error> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("driver.json");
        std::fs::write(&path, text).unwrap();
        let library = library_path(&path)?;
        Ok(library.strip_prefix(directory.path()).map(Path::to_owned).unwrap_or(library))
    }

    #[test]
    fn a_path_with_a_directory_is_relative_to_the_manifest() {
        assert_eq!(parse(r#"{"ICD": {"library_path": "../lib/x.so"}}"#).unwrap(), Path::new("../lib/x.so"));
        assert_eq!(parse(r#"{"ICD": {"library_path": "x.so"}}"#).unwrap(), Path::new("x.so"));
        assert_eq!(parse(r#"{"ICD": {"library_path": "/x.so"}}"#).unwrap(), Path::new("/x.so"));
    }

    #[test]
    fn a_broken_manifest_is_named_with_what_is_wrong() {
        assert!(parse("{").unwrap_err().to_string().contains("driver.json: not a driver manifest"));
        assert!(parse("{}").unwrap_err().to_string().contains("no ICD.library_path"));
    }
}
