//! Finding the two drivers: the host's, and Lockstep, which is built where need be.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// Where Lockstep's manifest lies in a checkout.
const MANIFEST: &str = "manifest/lockstep_icd.x86_64.json";
/// Where the loader looks for manifests of drivers.
const MANIFESTS: [&str; 2] = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
/// The driver that any machine can run, and that results can be compared on.
const LAVAPIPE: &str = "lvp_icd";

/// A driver, by its manifest.
#[derive(Debug, Clone)]
pub struct Driver {
    /// The manifest.
    pub manifest: PathBuf,
    library: PathBuf,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(rename = "ICD")]
    icd: Icd,
}

#[derive(Deserialize)]
struct Icd {
    library_path: PathBuf,
}

impl Driver {
    /// Reads a manifest.
    pub fn read(manifest: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(manifest)
            .with_context(|| format!("reading the driver's manifest {}", manifest.display()))?;
        let parsed: Manifest = serde_json::from_str(&text)
            .with_context(|| format!("{} is no manifest of a Vulkan driver", manifest.display()))?;
        let manifest = manifest.canonicalize().with_context(|| format!("finding {}", manifest.display()))?;
        let library = manifest.parent().unwrap_or(Path::new("/")).join(parsed.icd.library_path);
        Ok(Self { manifest, library })
    }

    /// Returns Lockstep: by the manifest that is given, or else built from the checkout around us.
    pub fn lockstep(manifest: Option<&Path>) -> Result<Self> {
        let driver = match manifest {
            Some(manifest) => Self::read(manifest)?,
            None => {
                let checkout = checkout()?;
                build(&checkout)?;
                Self::read(&checkout.join(MANIFEST))?
            }
        };
        if !driver.library.is_file() {
            bail!("{} names {}, which is not there", driver.manifest.display(), driver.library.display());
        }
        Ok(driver)
    }

    /// Returns the host's driver: the one given, else the one Lockstep would be told of, else lavapipe, else
    /// the only one.
    pub fn host(manifest: Option<&Path>) -> Result<Self> {
        if let Some(manifest) = manifest {
            return Self::read(manifest);
        }
        if let Some(manifest) = std::env::var_os("LOCKSTEP_HOST_ICD") {
            return Self::read(Path::new(&manifest));
        }
        let mut found = Vec::new();
        for directory in MANIFESTS {
            let Ok(entries) = std::fs::read_dir(directory) else { continue };
            found.extend(entries.flatten().map(|entry| entry.path()));
        }
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.retain(|path| name(path).ends_with(".json") && !name(path).contains("lockstep"));
        found.sort_by_key(|path| !name(path).starts_with(LAVAPIPE));
        match &found[..] {
            [] => bail!(
                "no Vulkan driver of the host; install one (Debian: mesa-vulkan-drivers) or give --host MANIFEST"
            ),
            [only] => Self::read(only),
            [first, ..] if name(first).starts_with(LAVAPIPE) => Self::read(first),
            [first, ..] => {
                bail!("several drivers of the host; choose one with --host, such as {}", first.display())
            }
        }
    }

    /// Returns what changes when the driver is built again.
    pub fn stamp(&self) -> String {
        let meta = std::fs::metadata(&self.library);
        let built = meta.ok().and_then(|meta| {
            let since = meta.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
            Some(format!("{} bytes, {}", meta.len(), since.as_secs()))
        });
        // A library without a path is found by the dynamic linker.
        built.unwrap_or_else(|| self.library.display().to_string())
    }

    /// Returns name and version of the driver, as `vulkaninfo` tells them.
    pub fn version(&self) -> Result<String> {
        let output = Command::new("vulkaninfo")
            .arg("--summary")
            .env("VK_ICD_FILENAMES", &self.manifest)
            .env("VK_DRIVER_FILES", &self.manifest)
            .stdin(Stdio::null())
            .output()
            .context("starting vulkaninfo to learn the host driver's version (Debian: vulkan-tools); or give --host-version")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let value = |key: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(key))?;
            line.split_once('=').map(|(_, value)| value.trim().to_owned())
        };
        match (value("driverName"), value("driverInfo")) {
            (Some(name), Some(info)) => Ok(format!("{name} {info}")),
            _ => bail!("vulkaninfo finds no device with {}", self.manifest.display()),
        }
    }
}

/// Returns the checkout of Lockstep that the user or this program is in.
pub fn checkout() -> Result<PathBuf> {
    let here = std::env::current_dir().context("finding the current directory")?;
    let program = std::env::current_exe().context("finding this program")?;
    let mut around = here.ancestors().chain(program.ancestors());
    let found = around
        .find(|directory| directory.join(MANIFEST).is_file() && directory.join("icd/Cargo.toml").is_file());
    found
        .map(Path::to_owned)
        .context("no checkout of Lockstep around here to build it from; give --icd MANIFEST")
}

fn build(checkout: &Path) -> Result<()> {
    // The manifest names the library there, whatever the user's CARGO_TARGET_DIR says.
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "-p",
            "vulkan-lockstep",
            "--target-dir",
            "target",
        ])
        .current_dir(checkout)
        .stdin(Stdio::null())
        .status()
        .context("starting cargo to build Lockstep; or give --icd MANIFEST")?;
    if !status.success() {
        bail!("building Lockstep failed");
    }
    Ok(())
}
