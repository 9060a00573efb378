//! The Vulkan loader, an instance, and the choice of a device.

use std::ffi::{CStr, c_char};

use anyhow::{Context, Result, anyhow, bail};
use ash::vk;

const NO_DEVICE: &str = "no Vulkan device to run on: if a driver says why above, start there; else install a host driver (Debian: apt install \
    mesa-vulkan-drivers) and point VK_ICD_FILENAMES at manifest/lockstep_icd.x86_64.json";

/// The Vulkan loader.
pub(crate) struct Loader {
    entry: ash::Entry,
    /// Keeps the loader mapped: the function pointers in `entry` point into it.
    _library: libloading::Library,
}

/// A live instance.
pub(crate) struct Vulkan {
    pub(crate) instance: ash::Instance,
    loader: Loader,
}

/// The device that the scene runs on, and what is known of it before it is created.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(crate) physical: vk::PhysicalDevice,
    /// A queue family for graphics, compute and transfers.
    pub(crate) family: u32,
    pub(crate) name: String,
    pub(crate) driver: Option<Driver>,
    pub(crate) api_version: u32,
    pub(crate) limits: vk::PhysicalDeviceLimits,
    pub(crate) memory: vk::PhysicalDeviceMemoryProperties,
    pub(crate) can_present: bool,
}

/// What the driver says of itself (Vulkan 1.2).
#[derive(Debug, Clone)]
pub(crate) struct Driver {
    pub(crate) name: String,
    pub(crate) info: String,
}

impl Choice {
    /// Whether the device is Lockstep's.
    pub(crate) fn is_lockstep(&self) -> bool {
        self.driver.as_ref().is_some_and(|driver| driver.name == "Lockstep")
    }
}

impl Loader {
    pub(crate) fn open() -> Result<Self> {
        // SAFETY: The Vulkan loader's initialisers have no preconditions.
        let library = unsafe { libloading::Library::new("libvulkan.so.1") }.map_err(|error| {
            anyhow!("no Vulkan loader ({error}): install it (Debian: apt install libvulkan1)")
        })?;
        // SAFETY: This is the command's type in the specification.
        let get = unsafe { library.get::<vk::PFN_vkGetInstanceProcAddr>("vkGetInstanceProcAddr") };
        let get_instance_proc_addr = *get.context("libvulkan.so.1 is no Vulkan loader")?;
        // SAFETY: The pointer is the loader's, which stays loaded as long as `self`.
        let entry = unsafe { ash::Entry::from_static_fn(ash::StaticFn { get_instance_proc_addr }) };
        Ok(Self { entry, _library: library })
    }

    /// Whether loader and drivers have all these instance extensions.
    pub(crate) fn has_extensions(&self, names: &[&CStr]) -> bool {
        // SAFETY: No layer is named.
        let offered = unsafe { self.entry.enumerate_instance_extension_properties(None) }.unwrap_or_default();
        names.iter().all(|name| offered.iter().any(|e| e.extension_name_as_c_str() == Ok(name)))
    }
}

impl Vulkan {
    /// Makes an instance with the extensions that a window needs, if any.
    pub(crate) fn new(loader: Loader, extensions: &[&CStr]) -> Result<Self> {
        let application = vk::ApplicationInfo::default()
            .application_name(c"lockstep-scene")
            .application_version(1)
            .api_version(vk::API_VERSION_1_2);
        let extensions: Vec<*const c_char> = extensions.iter().map(|name| name.as_ptr()).collect();
        let info = vk::InstanceCreateInfo::default()
            .application_info(&application)
            .enabled_extension_names(&extensions);
        // SAFETY: `info` and what it points to are alive.
        match unsafe { loader.entry.create_instance(&info, None) } {
            Ok(instance) => Ok(Self { instance, loader }),
            Err(vk::Result::ERROR_INCOMPATIBLE_DRIVER) => bail!(NO_DEVICE),
            Err(error) => Err(anyhow!("vkCreateInstance failed ({error}): see the driver's message above")),
        }
    }

    /// The loader's own commands.
    pub(crate) fn entry(&self) -> &ash::Entry {
        &self.loader.entry
    }

    /// Chooses Lockstep's device if there is one, else a GPU, else what there is.
    pub(crate) fn choose(&self) -> Result<Choice> {
        // SAFETY: The instance is alive.
        let devices = match unsafe { self.instance.enumerate_physical_devices() } {
            Err(vk::Result::ERROR_INITIALIZATION_FAILED) => bail!(NO_DEVICE),
            devices => devices.context("listing devices")?,
        };
        let usable = devices.into_iter().filter_map(|physical| self.describe(physical));
        usable.max_by_key(|(rank, _)| *rank).map(|(_, choice)| choice).context(NO_DEVICE)
    }

    /// What a device is, with a rank (higher is better); `None` if the scene cannot run on it.
    fn describe(&self, physical: vk::PhysicalDevice) -> Option<(u32, Choice)> {
        let instance = &self.instance;
        // SAFETY: `physical` was listed by this instance; the same holds for the calls below.
        let properties = unsafe { instance.get_physical_device_properties(physical) };
        if properties.api_version < vk::API_VERSION_1_1 {
            return None;
        }
        // SAFETY: As above.
        let families = unsafe { instance.get_physical_device_queue_family_properties(physical) };
        let wanted = vk::QueueFlags::GRAPHICS | vk::QueueFlags::COMPUTE;
        let family = (0u32..).zip(&families).find(|(_, family)| family.queue_flags.contains(wanted))?.0;
        // SAFETY: As above.
        let memory = unsafe { instance.get_physical_device_memory_properties(physical) };
        // SAFETY: As above.
        let extensions =
            unsafe { instance.enumerate_device_extension_properties(physical) }.unwrap_or_default();
        let can_present =
            extensions.iter().any(|e| e.extension_name_as_c_str() == Ok(ash::khr::swapchain::NAME));
        let name = text(properties.device_name_as_c_str().ok());
        let driver = (properties.api_version >= vk::API_VERSION_1_2).then(|| self.driver(physical));
        let limits = properties.limits;
        let api_version = properties.api_version;
        let choice = Choice { physical, family, name, driver, api_version, limits, memory, can_present };
        let rank = match properties.device_type {
            _ if choice.is_lockstep() => 9,
            vk::PhysicalDeviceType::DISCRETE_GPU => 3,
            vk::PhysicalDeviceType::INTEGRATED_GPU => 2,
            vk::PhysicalDeviceType::VIRTUAL_GPU => 1,
            _ => 0,
        };
        Some((rank, choice))
    }

    fn driver(&self, physical: vk::PhysicalDevice) -> Driver {
        let mut driver = vk::PhysicalDeviceDriverProperties::default();
        let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
        // SAFETY: `physical` is this instance's, and of Vulkan 1.2, which has the chained structure.
        unsafe { self.instance.get_physical_device_properties2(physical, &mut properties) };
        Driver {
            name: text(driver.driver_name_as_c_str().ok()),
            info: text(driver.driver_info_as_c_str().ok()),
        }
    }
}

impl Drop for Vulkan {
    fn drop(&mut self) {
        // SAFETY: Whatever was made from the instance holds a reference to `self`, so it is gone by now.
        unsafe { self.instance.destroy_instance(None) };
    }
}

fn text(name: Option<&CStr>) -> String {
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
