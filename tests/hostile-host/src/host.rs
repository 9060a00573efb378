//! The driver below.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ash::vk;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::fail;

/// Where lavapipe's manifest is.
const DEFAULT: &str = "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json";

/// Version of the loader interface that is spoken both ways.
pub const INTERFACE: u32 = 5;

/// The driver below, loaded for good.
#[derive(Debug)]
pub struct Host {
    get_instance_proc_addr: vk::PFN_vkGetInstanceProcAddr,
    get_physical_device_proc_addr: Option<vk::PFN_vkGetInstanceProcAddr>,
}

/// The driver below; loads it at the first call.
pub fn host() -> &'static Host {
    static HOST: LazyLock<Host> = LazyLock::new(Host::load);
    &HOST
}

fn library_path(manifest: &Path) -> PathBuf {
    let text = std::fs::read_to_string(manifest)
        .unwrap_or_else(|error| fail(format_args!("{}: {error}", manifest.display())));
    let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let library = json.as_ref().and_then(|json| json["ICD"]["library_path"].as_str());
    let library = Path::new(
        library.unwrap_or_else(|| fail(format_args!("{}: not a driver manifest", manifest.display()))),
    );
    // A path with a directory is relative to the manifest; a bare name is for the dynamic linker to find.
    if library.components().count() > 1 {
        manifest.parent().unwrap_or(Path::new(".")).join(library)
    } else {
        library.to_owned()
    }
}

impl Host {
    fn load() -> Self {
        let manifest = std::env::var_os("HOSTILE_HOST_ICD").unwrap_or_else(|| DEFAULT.into());
        let path = library_path(Path::new(&manifest));
        // SAFETY: a driver's initialisers are as harmless as the loader relies on.
        let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) };
        let library = library.unwrap_or_else(|error| fail(error));
        // Never unloaded: applications hold pointers to its functions.
        let library = Box::leak(Box::new(library));
        let symbol = |name: &CStr| {
            // SAFETY: only called as what the loader interface says the name is.
            unsafe { library.get::<vk::PFN_vkGetInstanceProcAddr>(name.to_bytes_with_nul()) }
                .ok()
                .map(|found| *found)
        };
        type Negotiate = unsafe extern "system" fn(*mut u32) -> vk::Result;
        // SAFETY: the loader interface gives the symbol this type.
        let negotiate = unsafe { library.get::<Negotiate>(b"vk_icdNegotiateLoaderICDInterfaceVersion\0") };
        let mut version = INTERFACE;
        // SAFETY: as above.
        match negotiate.map(|negotiate| unsafe { negotiate(&raw mut version) }) {
            Ok(vk::Result::SUCCESS) if version == INTERFACE => {}
            _ => fail(format_args!("{} does not speak the loader interface", path.display())),
        }
        Self {
            get_instance_proc_addr: symbol(c"vk_icdGetInstanceProcAddr")
                .unwrap_or_else(|| fail(format_args!("{} is no driver", path.display()))),
            get_physical_device_proc_addr: symbol(c"vk_icdGetPhysicalDeviceProcAddr"),
        }
    }

    /// Its functions as ash looks for them.
    pub fn static_fn(&self) -> ash::StaticFn {
        ash::StaticFn { get_instance_proc_addr: self.get_instance_proc_addr }
    }

    /// Its functions that need no instance.
    pub fn entry(&self) -> ash::Entry {
        // SAFETY: a driver keeps Vulkan's rules for `vkGetInstanceProcAddr`.
        unsafe { ash::Entry::from_static_fn(self.static_fn()) }
    }

    /// One of its functions.
    pub fn instance_proc(&self, instance: vk::Instance, name: &CStr) -> vk::PFN_vkVoidFunction {
        // SAFETY: the instance is null or alive, and the name a C string.
        unsafe { (self.get_instance_proc_addr)(instance, name.as_ptr()) }
    }

    /// One of its functions on physical devices.
    pub fn physical_device_proc(&self, instance: vk::Instance, name: &CStr) -> vk::PFN_vkVoidFunction {
        // SAFETY: as above.
        self.get_physical_device_proc_addr.and_then(|get| unsafe { get(instance, name.as_ptr()) })
    }
}

/// The first function of `names` there is, as the type of function the caller says.
///
/// # Safety
/// `F` is the type of function that each of `names` stands for.
pub unsafe fn load<F: Copy>(get: impl Fn(&CStr) -> vk::PFN_vkVoidFunction, names: &[&CStr]) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<unsafe extern "system" fn()>()) };
    let found = names.iter().find_map(|name| get(name))?;
    // SAFETY: the caller's; all function pointers have one representation.
    Some(unsafe { std::mem::transmute_copy(&found) })
}
