//! The directory of a run: journal, logs, working directories and reports.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::side::Side;

/// The longest name of a log without its extension; what is longer is cut and gets a hash.
const NAME: usize = 180;

/// The directory of a run.
#[derive(Debug, Clone)]
pub struct Output {
    root: PathBuf,
}

impl Output {
    /// Creates the directory if need be.
    pub fn open(root: &Path) -> Result<Self> {
        fs::create_dir_all(root)
            .with_context(|| format!("creating the output directory {}", root.display()))?;
        let root = root.canonicalize().with_context(|| format!("finding {}", root.display()))?;
        Ok(Self { root })
    }

    /// Opens the directory of an earlier run.
    pub fn existing(root: &Path) -> Result<Self> {
        let root = root.canonicalize().with_context(|| format!("finding {}", root.display()))?;
        Ok(Self { root })
    }

    /// Returns a file of the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Returns the working directory of one worker.
    pub fn place(&self, worker: usize) -> PathBuf {
        self.root.join("work").join(worker.to_string())
    }

    /// Returns the path of a case's logs on a side, without extension.
    pub fn log(&self, side: &Side, case: &str) -> PathBuf {
        self.root.join(log_name(side, case))
    }

    /// Moves an earlier run out of the way. Returns where it is now.
    pub fn set_aside(&self) -> Result<PathBuf> {
        let name = self.root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let free =
            (1_u32..).map(|n| self.root.with_file_name(format!("{name}.{n}"))).find(|path| !path.exists());
        let aside = free.context("there is no name left for the earlier run")?;
        fs::rename(&self.root, &aside).with_context(|| format!("moving {}", self.root.display()))?;
        fs::create_dir(&self.root).with_context(|| format!("creating {}", self.root.display()))?;
        Ok(aside)
    }

    /// Removes the working directories.
    pub fn tidy(&self) -> Result<()> {
        match fs::remove_dir_all(self.root.join("work")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("removing work files")
            }
            _ => Ok(()),
        }
    }

    /// Writes a file so that it is there whole or not at all.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.file(name);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
        }
        let new = self.file(&format!("{name}.new"));
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
        written.with_context(|| format!("writing {}", path.display()))
    }
}

/// Returns the path of a case's logs within the output directory, without extension.
pub fn log_name(side: &Side, case: &str) -> PathBuf {
    let mut name: String = case.chars().take(NAME).collect();
    if name.len() < case.len() {
        let mut hasher = DefaultHasher::new();
        case.hash(&mut hasher);
        name.push_str(&format!("-{:016x}", hasher.finish()));
    }
    Path::new("logs").join(side.file_name()).join(name.replace('/', "_"))
}
