//! Choosing the host driver: the one the user names, or the one with the best device.

#![allow(unsafe_code, reason = "asks candidate drivers for their devices")]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use ash::vk;

use super::library::HostDriver;
use super::manifest::{library_path, system_manifests};
use super::{Error, nested};

/// Drivers loaded so far, by the path they were asked for.
static LOADED: Mutex<Option<HashMap<PathBuf, &'static HostDriver>>> = Mutex::new(None);
/// The best driver of the system, once it was looked for.
static BEST: OnceLock<&'static HostDriver> = OnceLock::new();

/// The host driver for the value of `LOCKSTEP_HOST_ICD`.
pub fn host_driver(option: Option<&Path>) -> Result<&'static HostDriver, Error> {
    let named = |path: &Path, error| Error::Option(path.to_owned(), Box::new(error));
    if nested::is_below() {
        return Err(option.map_or(Error::Nested, |path| named(path, Error::Nested)));
    }
    if let Some(path) = option {
        return nested::below(|| load(path)).map_err(|error| named(path, error));
    }
    if let Some(best) = BEST.get() {
        return Ok(best);
    }
    let best = nested::below(best_of_system)?;
    log::info!("host driver {}", best.path().display());
    Ok(BEST.get_or_init(|| best))
}

/// Loads a driver by its manifest or its library.
fn load(path: &Path) -> Result<&'static HostDriver, Error> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.get_or_insert_default();
    if let Some(driver) = loaded.get(path) {
        return Ok(driver);
    }
    let is_manifest = path.extension() == Some(OsStr::new("json"));
    let library = if is_manifest { library_path(path)? } else { path.to_owned() };
    let driver = HostDriver::load(&library)?;
    loaded.insert(path.to_owned(), driver);
    Ok(driver)
}

fn best_of_system() -> Result<&'static HostDriver, Error> {
    let mut best: Option<(u32, &'static HostDriver)> = None;
    for manifest in system_manifests() {
        let is_ours = library_path(&manifest)
            .is_ok_and(|library| library.file_name() == Some(OsStr::new("libvulkan_lockstep.so")));
        if is_ours {
            continue;
        }
        match load(&manifest) {
            Err(error) => log::info!("skipped: {error}"),
            Ok(driver) => match rank(driver) {
                None => log::info!("{}: no device", manifest.display()),
                Some(rank) if best.is_none_or(|(other, _)| rank > other) => best = Some((rank, driver)),
                Some(_) => {}
            },
        }
    }
    best.map(|(_, driver)| driver).ok_or(Error::None)
}

/// How good the driver's best device is; `None` when it has none.
fn rank(driver: &HostDriver) -> Option<u32> {
    let entry = driver.entry();
    // SAFETY: an empty create info is valid.
    let instance = unsafe { entry.create_instance(&vk::InstanceCreateInfo::default(), None) }.ok()?;
    // SAFETY: the instance is alive.
    let devices = unsafe { instance.enumerate_physical_devices() }.unwrap_or_default();
    let rank = |device: &vk::PhysicalDevice| {
        // SAFETY: the device is one of the instance's.
        match unsafe { instance.get_physical_device_properties(*device) }.device_type {
            vk::PhysicalDeviceType::DISCRETE_GPU => 5,
            vk::PhysicalDeviceType::INTEGRATED_GPU => 4,
            vk::PhysicalDeviceType::VIRTUAL_GPU => 3,
            vk::PhysicalDeviceType::CPU => 2,
            _ => 1,
        }
    };
    let best = devices.iter().map(rank).max();
    // SAFETY: nothing of the instance is used any more.
    unsafe { instance.destroy_instance(None) };
    best
}
