//! Loading a host driver.
//!
//! # Safety
//! A driver's library is foreign code that keeps the loader/driver interface. It is never unloaded, since
//! the application holds pointers to its functions.

#![allow(unsafe_code, reason = "door to dlopen(3)")]

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use ash::vk;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::{Error, nested};

/// `PFN_vkNegotiateLoaderICDInterfaceVersion`.
type Negotiate = unsafe extern "system" fn(version: *mut u32) -> vk::Result;

/// Newest version of the loader interface we ask a driver for, and the oldest that we can use: from 3 on
/// a driver may own surfaces, as ours does when the host does.
const NEWEST: u32 = 5;
const OLDEST: u32 = 3;

/// A host driver that is loaded for good.
#[derive(Debug)]
pub struct HostDriver {
    path: PathBuf,
    get_instance_proc_addr: vk::PFN_vkGetInstanceProcAddr,
    get_physical_device_proc_addr: Option<vk::PFN_vkGetInstanceProcAddr>,
}

impl HostDriver {
    /// Loads a driver's library and agrees on the interface.
    pub fn load(path: &Path) -> Result<&'static Self, Error> {
        let not = |reason| Error::NotADriver { path: path.to_owned(), reason };
        // SAFETY: a driver's initialisers and finalisers are as harmless as the loader relies on.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
        let library = library.map_err(|error| Error::Library(error.to_string()))?;
        // Never unloaded: see above.
        let library = Box::leak(Box::new(library));
        let symbol = |name: &CStr| {
            // SAFETY: only called as what the loader interface says the name is.
            unsafe { library.get::<vk::PFN_vkGetInstanceProcAddr>(name.to_bytes_with_nul()) }.ok().map(|s| *s)
        };
        let get_instance_proc_addr = symbol(c"vk_icdGetInstanceProcAddr")
            .ok_or_else(|| not("is not a Vulkan driver: it has no vk_icdGetInstanceProcAddr"))?;
        // SAFETY: only asked whether it is there.
        if unsafe { library.get::<*const u8>(nested::MARK.to_bytes_with_nul()) }.is_ok() {
            return Err(not("is Lockstep itself, which needs another driver below it"));
        }
        // SAFETY: the loader interface gives the symbol this type.
        let negotiate = unsafe { library.get::<Negotiate>(b"vk_icdNegotiateLoaderICDInterfaceVersion\0") };
        let mut version = 0;
        if let Ok(negotiate) = negotiate {
            version = NEWEST;
            // SAFETY: as above; `version` is valid for the call.
            if unsafe { negotiate(&raw mut version) } != vk::Result::SUCCESS {
                return Err(not("refuses the loader interface"));
            }
        }
        if version < OLDEST {
            return Err(not("is too old a driver: it does not know version 3 of the loader interface"));
        }
        Ok(Box::leak(Box::new(Self {
            path: path.to_owned(),
            get_instance_proc_addr,
            get_physical_device_proc_addr: symbol(c"vk_icdGetPhysicalDeviceProcAddr"),
        })))
    }

    /// The library's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The driver's functions that need no instance.
    pub fn entry(&self) -> ash::Entry {
        // SAFETY: the driver keeps Vulkan's rules for `vkGetInstanceProcAddr`.
        unsafe {
            ash::Entry::from_static_fn(ash::StaticFn { get_instance_proc_addr: self.get_instance_proc_addr })
        }
    }

    /// A function of the driver (`vk_icdGetInstanceProcAddr`).
    pub fn instance_proc(&self, instance: vk::Instance, name: &CStr) -> vk::PFN_vkVoidFunction {
        // SAFETY: the instance is null or the driver's, and the name a C string.
        unsafe { (self.get_instance_proc_addr)(instance, name.as_ptr()) }
    }

    /// A function on physical devices (`vk_icdGetPhysicalDeviceProcAddr`).
    pub fn physical_device_proc(&self, instance: vk::Instance, name: &CStr) -> vk::PFN_vkVoidFunction {
        // SAFETY: as above.
        self.get_physical_device_proc_addr.and_then(|get| unsafe { get(instance, name.as_ptr()) })
    }
}
