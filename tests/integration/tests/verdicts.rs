//! The verdicts of `docs/verdicts.toml` against a host driver and Lockstep, both asked as the loader asks
//! them.

use ash::vk;
use lockstep_harness::{Gpu, loader, lockstep_under_test, skip};
use lockstep_verdicts::{Verdict, Verdicts, registry, repository};
use std::collections::BTreeSet;
use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};

/// A driver without a loader, and an instance of it.
struct Driver {
    get: vk::PFN_vkGetInstanceProcAddr,
    get_physical: vk::PFN_vkGetInstanceProcAddr,
    entry: ash::Entry,
    instance: ash::Instance,
    physical: vk::PhysicalDevice,
}

fn names(list: &[vk::ExtensionProperties]) -> BTreeSet<String> {
    let name =
        |e: &vk::ExtensionProperties| e.extension_name_as_c_str().expect("a name").to_string_lossy().into();
    list.iter().map(name).collect()
}

fn c_strings(names: &BTreeSet<String>) -> Vec<CString> {
    names.iter().map(|name| CString::new(name.as_str()).expect("a name")).collect()
}

fn pointers(names: &[CString]) -> Vec<*const c_char> {
    names.iter().map(|name| name.as_ptr()).collect()
}

impl Driver {
    /// Loads a driver, and makes an instance with those of `allowed` that it has, or with all.
    fn load(library: &Path, allowed: Option<&BTreeSet<String>>) -> Self {
        // SAFETY: Initialisers of drivers may run on any thread.
        let library = unsafe { libloading::Library::new(library) }.expect("a driver");
        let library = Box::leak(Box::new(library));
        type Negotiate = unsafe extern "system" fn(*mut u32) -> vk::Result;
        // SAFETY: The loader interface gives the name this type.
        let negotiate = unsafe { library.get::<Negotiate>(b"vk_icdNegotiateLoaderICDInterfaceVersion\0") }
            .expect("a driver");
        let mut version = 5;
        // SAFETY: `version` has room for the answer.
        unsafe { negotiate(&raw mut version) }.result().expect("the interface");
        // SAFETY: As above.
        let get =
            |name: &[u8]| *unsafe { library.get::<vk::PFN_vkGetInstanceProcAddr>(name) }.expect("a driver");
        let get_instance_proc_addr = get(b"vk_icdGetInstanceProcAddr\0");
        let get_physical = get(b"vk_icdGetPhysicalDeviceProcAddr\0");
        // SAFETY: A driver's function, which stays loaded.
        let entry = unsafe { ash::Entry::from_static_fn(ash::StaticFn { get_instance_proc_addr }) };
        // SAFETY: No layer is named.
        let offered = unsafe { entry.enumerate_instance_extension_properties(None) }.expect("extensions");
        let enabled =
            names(&offered).into_iter().filter(|name| allowed.is_none_or(|list| list.contains(name)));
        let enabled = c_strings(&enabled.collect());
        let pointers = pointers(&enabled);
        let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        let info =
            vk::InstanceCreateInfo::default().application_info(&app).enabled_extension_names(&pointers);
        // SAFETY: Every pointer in `info` outlives the call.
        let instance = unsafe { entry.create_instance(&info, None) }.expect("vkCreateInstance");
        // SAFETY: The instance is alive.
        let physical = unsafe { instance.enumerate_physical_devices() }.expect("devices")[0];
        Self { get: get_instance_proc_addr, get_physical, entry, instance, physical }
    }

    fn instance_extensions(&self) -> BTreeSet<String> {
        // SAFETY: No layer is named.
        names(&unsafe { self.entry.enumerate_instance_extension_properties(None) }.expect("extensions"))
    }

    fn device_extensions(&self) -> BTreeSet<String> {
        // SAFETY: The physical device is of this instance.
        let list = unsafe { self.instance.enumerate_device_extension_properties(self.physical) };
        names(&list.expect("extensions"))
    }

    /// Makes a device that enables these extensions.
    fn device(&self, extensions: &BTreeSet<String>) -> vk::Device {
        let mut extensions = extensions.clone();
        if extensions.contains("VK_KHR_buffer_device_address") {
            // Not both.
            extensions.remove("VK_EXT_buffer_device_address");
        }
        let enabled = c_strings(&extensions);
        let pointers = pointers(&enabled);
        let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
        let info =
            vk::DeviceCreateInfo::default().queue_create_infos(&queues).enabled_extension_names(&pointers);
        // SAFETY: Every pointer in `info` outlives the call.
        unsafe { self.instance.create_device(self.physical, &info, None) }.expect("vkCreateDevice").handle()
    }

    /// What the driver hands out for a name: by instance, by physical device, by device.
    fn hands_out(&self, device: vk::Device, name: &str) -> [usize; 3] {
        let name = CString::new(name).expect("a name");
        let address = |function: vk::PFN_vkVoidFunction| function.map_or(0, |function| function as usize);
        let instance = self.instance.handle();
        // SAFETY: Instance and device are alive.
        let by_device = unsafe { self.instance.get_device_proc_addr(device, name.as_ptr()) };
        // SAFETY: As above.
        let by_physical = unsafe { (self.get_physical)(instance, name.as_ptr()) };
        // SAFETY: As above.
        let by_instance = unsafe { (self.get)(instance, name.as_ptr()) };
        [by_instance, by_physical, by_device].map(address)
    }
}

/// The library of the host driver that Lockstep uses here.
fn host_library() -> PathBuf {
    let host = std::env::var("LOCKSTEP_HOST_ICD").unwrap_or_else(|_| loader::DEFAULT_HOST_ICD.to_owned());
    loader::set("LOCKSTEP_HOST_ICD", &host);
    match host.ends_with(".json") {
        true => loader::library_of(Path::new(&host)),
        false => PathBuf::from(host),
    }
}

/// Loads the host, and Lockstep over it, with the same extensions enabled.
fn host_and_lockstep() -> (Driver, Driver) {
    let library = host_library();
    let lockstep = Driver::load(&loader::library_of(&loader::manifest_under_test()), None);
    let host = Driver::load(&library, Some(&lockstep.instance_extensions()));
    (host, lockstep)
}

fn verdicts() -> Verdicts {
    let verdicts = Verdicts::read(&repository(), Path::new(registry::INSTALLED)).expect("the verdicts");
    assert_eq!(verdicts.problems(), Vec::<String>::new(), "see docs/verdicts.toml");
    verdicts
}

#[test]
fn every_extension_of_the_host_has_a_verdict_and_exactly_what_passes_is_advertised() {
    if !lockstep_under_test() {
        skip("the verdicts are Lockstep's");
        return;
    }
    let (verdicts, (host, lockstep)) = (verdicts(), host_and_lockstep());
    let without = |list: &BTreeSet<String>| -> Vec<String> {
        list.iter().filter(|name| verdicts.extension(name).is_none()).cloned().collect()
    };
    assert_eq!(without(&host.instance_extensions()), Vec::<String>::new(), "of instances, have no verdict");
    assert_eq!(without(&host.device_extensions()), Vec::<String>::new(), "of devices, have no verdict");

    let pass = |list: BTreeSet<String>| -> BTreeSet<String> {
        list.into_iter().filter(|name| verdicts.extension(name) == Some(Verdict::Passes)).collect()
    };
    assert_eq!(lockstep.instance_extensions(), pass(host.instance_extensions()));
    let mut expected = pass(host.device_extensions());
    // Lockstep's own on every host.
    expected.extend(["VK_KHR_map_memory2", "VK_EXT_map_memory_placed"].map(str::to_owned));
    assert_eq!(lockstep.device_extensions(), expected);
}

#[test]
fn every_command_is_handed_out_as_its_verdict_says() {
    if !lockstep_under_test() {
        skip("the verdicts are Lockstep's");
        return;
    }
    let (verdicts, (host, lockstep)) = (verdicts(), host_and_lockstep());
    let ours = lockstep.device_extensions();
    let device = lockstep.device(&ours);
    let host_device = host.device(&ours.intersection(&host.device_extensions()).cloned().collect());

    let mut wrong = Vec::new();
    let mut count = [0; 3];
    for name in verdicts.commands() {
        let verdict = verdicts.command(name).expect("a verdict");
        let theirs = host.hands_out(host_device, name);
        let ours = lockstep.hands_out(device, name);
        let right = match verdict {
            Verdict::NotAdvertised => ours == [0; 3],
            Verdict::Passes => ours == theirs,
            // Ours, wherever the host has one.
            Verdict::Intercepted => {
                let pairs = || ours.iter().zip(&theirs);
                pairs().all(|(ours, theirs)| ours != theirs || *theirs == 0)
                    && (theirs == [0; 3] || ours != [0; 3])
            }
        };
        if !right {
            wrong.push(format!("{name}, which {}: {theirs:x?} {ours:x?}", verdict.name()));
        }
        let there = theirs != [0; 3] || ours != [0; 3];
        count[verdict as usize] += usize::from(there);
    }
    assert_eq!(wrong, Vec::<String>::new(), "the host's addresses and Lockstep's");
    println!("of the host and handed out: {count:?} intercepted, passing, not advertised");
    assert!(count[0] > 100 && count[1] > 100, "{count:?}");
}

#[test]
fn no_semaphore_and_no_fence_can_be_shared() {
    if !lockstep_under_test() {
        skip("other drivers can share them");
        return;
    }
    let gpu = Gpu::new();
    let (instance, physical) = (gpu.instance().raw(), gpu.physical());
    for handle in
        [vk::ExternalSemaphoreHandleTypeFlags::OPAQUE_FD, vk::ExternalSemaphoreHandleTypeFlags::SYNC_FD]
    {
        let info = vk::PhysicalDeviceExternalSemaphoreInfo::default().handle_type(handle);
        let full = vk::ExternalSemaphoreHandleTypeFlags::from_raw(u32::MAX);
        let mut properties = vk::ExternalSemaphoreProperties::default()
            .compatible_handle_types(full)
            .export_from_imported_handle_types(full)
            .external_semaphore_features(vk::ExternalSemaphoreFeatureFlags::from_raw(u32::MAX));
        // SAFETY: The physical device is of this instance, and both structures are whole.
        unsafe {
            instance.get_physical_device_external_semaphore_properties(physical, &info, &mut properties);
        }
        assert!(properties.external_semaphore_features.is_empty(), "{properties:?}");
        assert!(properties.compatible_handle_types.is_empty(), "{properties:?}");
    }
    for handle in [vk::ExternalFenceHandleTypeFlags::OPAQUE_FD, vk::ExternalFenceHandleTypeFlags::SYNC_FD] {
        let info = vk::PhysicalDeviceExternalFenceInfo::default().handle_type(handle);
        let full = vk::ExternalFenceHandleTypeFlags::from_raw(u32::MAX);
        let mut properties = vk::ExternalFenceProperties::default()
            .compatible_handle_types(full)
            .export_from_imported_handle_types(full)
            .external_fence_features(vk::ExternalFenceFeatureFlags::from_raw(u32::MAX));
        // SAFETY: As above.
        unsafe { instance.get_physical_device_external_fence_properties(physical, &info, &mut properties) };
        assert!(properties.external_fence_features.is_empty(), "{properties:?}");
        assert!(properties.compatible_handle_types.is_empty(), "{properties:?}");
    }
}
