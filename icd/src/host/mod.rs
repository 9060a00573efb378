//! The host driver: found by manifest, loaded directly, asked as a loader would (Vulkan-Loader,
//! "Loader/Driver Interface").
//!
//! | module | |
//! |---|---|
//! | [`manifest`] | where drivers are announced |
//! | [`library`] | loading one |
//! | [`select`] | which one |
//! | [`nested`] | that it is not Lockstep |
//! | [`commands`], [`later`] | its functions |

pub mod commands;
pub mod later;
pub mod library;
pub mod manifest;
pub mod nested;
pub mod select;

use std::path::PathBuf;

/// Why there is no host driver.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A manifest cannot be read.
    #[error("{path}: {reason}")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A library cannot be loaded.
    #[error("{0}")]
    Library(String),
    /// A library that is no host driver.
    #[error("{path} {reason}")]
    NotADriver {
        /// The library.
        path: PathBuf,
        /// What it is.
        reason: &'static str,
    },
    /// The host driver asks this library for what this library asked it for.
    #[error("the host driver leads back to Lockstep, which needs another driver below it")]
    Nested,
    /// No manifest of the system leads to a driver with a device.
    #[error(
        "no host Vulkan driver with a device was found: install one (on Debian: apt-get install \
         mesa-vulkan-drivers), or set LOCKSTEP_HOST_ICD to a driver's manifest"
    )]
    None,
    /// `LOCKSTEP_HOST_ICD` leads to no driver.
    #[error("LOCKSTEP_HOST_ICD={0}: {1}: set it to a driver's manifest or library")]
    Option(PathBuf, Box<Error>),
}
