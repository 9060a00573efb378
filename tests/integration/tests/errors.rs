//! Bad options and missing hosts give one line that says what is wrong, and leave other drivers alone.

use ash::vk;
use lockstep_harness::gpu::Instance;
use lockstep_harness::{
    Buffer, Gpu, Kind, Memory, PAGE, loader, lockstep_under_test, pattern, process, skip, validation,
};
use std::path::{Path, PathBuf};
use std::process::Output;

#[test]
#[ignore = "a child of the tests below"]
fn child_creates_an_instance() {
    let result = Instance::new(vk::API_VERSION_1_3, false).map(|instance| instance.devices().len());
    println!("\nresult={result:?}");
}

#[test]
#[ignore = "a child of the tests below"]
fn child_computes() {
    let gpu = Gpu::new();
    let buffer = Buffer::coherent_with(&gpu, &pattern(1, 2 * PAGE + 3));
    assert_eq!(buffer.all_as_device_sees(), pattern(1, 2 * PAGE + 3));
    println!("\ncomputed={}", gpu.name());
}

/// Returns what Lockstep said: the lines of standard error that begin with its name.
fn lines_of_lockstep(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter(|line| line.starts_with("lockstep: ")).map(str::to_owned).collect()
}

/// Asserts that an instance on Lockstep alone fails by one line about a variable, and that lavapipe beside
/// it works.
fn assert_one_line_about(variable: &str, value: &str) {
    assert_one_line_with(variable, value, &[]);
}

/// As above, with further variables set.
fn assert_one_line_with(variable: &str, value: &str, others: &[(&str, &Path)]) {
    if !lockstep_under_test() {
        skip("the variables are Lockstep's");
        return;
    }
    let alone = process::child("child_creates_an_instance")
        .env(variable, value)
        .envs(others.iter().copied())
        .output();
    let alone = alone.expect("a child");
    assert!(alone.status.success(), "{alone:?}");
    let result = process::value_of(&alone, "result");
    assert!(result.starts_with("Err("), "{variable}={value} gives {result}");
    let lines = lines_of_lockstep(&alone);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(variable), "{variable} is not in {lines:?}");
    assert!(lines[0].contains(value), "{value} is not in {lines:?}");

    let both = format!("{}:{}", loader::manifest_under_test().display(), loader::DEFAULT_HOST_ICD);
    let beside = process::output(
        process::child("child_computes")
            .env(variable, value)
            .envs(others.iter().copied())
            .env(loader::KEEP_DRIVERS, "1")
            .env("VK_ICD_FILENAMES", &both)
            .env("VK_DRIVER_FILES", &both),
    );
    let name = process::value_of(&beside, "computed");
    assert!(name.starts_with("llvmpipe"), "{name} computed");
}

#[test]
fn an_unknown_profile() {
    assert_one_line_about("LOCKSTEP_PROFILE", "paravirtuous");
}

#[test]
fn an_unknown_tracker() {
    assert_one_line_about("LOCKSTEP_TRACKER", "magic");
}

#[test]
fn an_unknown_choice_of_native_type() {
    assert_one_line_about("LOCKSTEP_NATIVE_TYPE", "2");
}

#[test]
fn an_unknown_log_level() {
    assert_one_line_about("LOCKSTEP_LOG", "loud");
}

#[test]
fn an_unknown_transport() {
    assert_one_line_about("LOCKSTEP_TRANSPORT", "pigeon");
}

#[test]
fn an_unknown_readback() {
    assert_one_line_about("LOCKSTEP_READBACK", "never");
}

/// Writes a manifest into a directory of its own and returns both.
fn manifest(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("host.json");
    std::fs::write(&path, text).expect("writing the manifest");
    (directory, path)
}

fn assert_one_line_about_host(path: &Path) {
    assert_one_line_about("LOCKSTEP_HOST_ICD", path.to_str().expect("a readable path"));
}

#[test]
fn a_host_manifest_that_does_not_exist() {
    assert_one_line_about_host(Path::new("/nonexistent/host.json"));
}

#[test]
fn a_host_library_that_does_not_exist() {
    assert_one_line_about_host(Path::new("/nonexistent/libvulkan_host.so"));
}

#[test]
fn a_host_manifest_that_is_no_json() {
    let (_directory, path) = manifest("{\"ICD\": {");
    assert_one_line_about_host(&path);
}

#[test]
fn a_host_manifest_that_names_no_library() {
    let (_directory, path) = manifest("{\"file_format_version\": \"1.0.1\", \"ICD\": {}}");
    assert_one_line_about_host(&path);
}

#[test]
fn a_host_manifest_that_names_a_missing_library() {
    let text =
        r#"{"file_format_version": "1.0.1", "ICD": {"library_path": "./none.so", "api_version": "1.3.0"}}"#;
    let (_directory, path) = manifest(text);
    assert_one_line_about_host(&path);
}

#[test]
fn a_host_library_that_is_no_vulkan_driver() {
    assert_one_line_about_host(&loaded_library("libc.so.6"));
}

#[test]
fn the_vulkan_loader_as_host() {
    // Loads the loader, so that its path can be found; what it enumerates does not matter.
    let _ = loader::entry();
    assert_one_line_about_host(&loaded_library("libvulkan.so.1"));
}

#[test]
fn a_manifest_of_the_vulkan_loader_as_host() {
    let text = r#"{"ICD": {"library_path": "libvulkan.so.1", "api_version": "1.3.0"}}"#;
    let (_directory, path) = manifest(text);
    assert_one_line_about_host(&path);
}

#[test]
fn lockstep_as_its_own_host() {
    assert_one_line_about_host(&loader::manifest_under_test());
}

#[test]
fn a_copy_of_lockstep_by_another_name_as_host() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    let copy = directory.path().join("libvulkan_other.so");
    std::fs::copy(loader::built("libvulkan_lockstep.so"), &copy).expect("copying the library");
    assert_one_line_about_host(&copy);
}

#[test]
fn a_manifest_of_a_link_to_lockstep_as_host() {
    let text = r#"{"ICD": {"library_path": "./link.so", "api_version": "1.3.0"}}"#;
    let (directory, path) = manifest(text);
    let link = directory.path().join("link.so");
    std::os::unix::fs::symlink(loader::built("libvulkan_lockstep.so"), link).expect("a link");
    assert_one_line_about_host(&path);
}

#[test]
fn a_host_that_leads_back_to_lockstep() {
    let host = loader::built("libfaulty_host.so");
    let lockstep = loader::built("libvulkan_lockstep.so");
    let value = host.to_str().expect("a readable path");
    assert_one_line_with("LOCKSTEP_HOST_ICD", value, &[("FAULTY_HOST_DRIVER", &lockstep)]);
}

#[test]
fn a_host_that_leads_to_a_copy_of_lockstep_and_so_back() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    let copy = directory.path().join("libvulkan_other.so");
    std::fs::copy(loader::built("libvulkan_lockstep.so"), &copy).expect("copying the library");
    let host = loader::built("libfaulty_host.so");
    let value = host.to_str().expect("a readable path");
    assert_one_line_with("LOCKSTEP_HOST_ICD", value, &[("FAULTY_HOST_DRIVER", &copy)]);
}

#[test]
fn a_system_whose_only_drivers_lead_to_lockstep() {
    if !lockstep_under_test() {
        skip("the search is Lockstep's");
        return;
    }
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    let manifests = data.path().join("vulkan/icd.d");
    std::fs::create_dir_all(&manifests).expect("a directory");
    let copy = data.path().join("libvulkan_other.so");
    std::fs::copy(loader::built("libvulkan_lockstep.so"), &copy).expect("copying the library");
    for (name, library) in [("a", copy), ("b", loader::built("libfaulty_host.so"))] {
        let text = format!(r#"{{"ICD": {{"library_path": {library:?}, "api_version": "1.3.0"}}}}"#);
        std::fs::write(manifests.join(name).with_extension("json"), text).expect("a manifest");
    }

    let mut child = process::child("child_creates_an_instance");
    child.env("LOCKSTEP_HOST_ICD", "").env("FAULTY_HOST_DRIVER", loader::built("libvulkan_lockstep.so"));
    ["XDG_DATA_DIRS", "XDG_DATA_HOME", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME"].into_iter().for_each(|name| {
        child.env(name, data.path());
    });
    let output = process::output(&mut child);
    assert!(output.status.success(), "{output:?}");
    assert!(process::value_of(&output, "result").starts_with("Err("), "{output:?}");
    let lines = lines_of_lockstep(&output);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("no host Vulkan driver"), "{lines:?}");
}

/// Returns the path of a library of this process.
fn loaded_library(name: &str) -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc/self/maps");
    let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let versioned = |path: &&str| path.rsplit('/').next().is_some_and(|file| file.starts_with(name));
    PathBuf::from(paths.into_iter().find(versioned).unwrap_or_else(|| panic!("{name} is not loaded")))
}

/// More than a process can map that may only make files of `FILE` bytes.
const FILE: u64 = 64 << 20;

#[test]
#[ignore = "a child of the test below"]
fn child_maps_too_much() {
    let limit = libc::rlimit { rlim_cur: FILE, rlim_max: FILE };
    // SAFETY: The limit is a whole structure.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
    // The layer comes with names.
    let gpu = Gpu::builder().validation().build();
    let size = usize::try_from(FILE + 4096).expect("64 bits");
    let memory = Memory::new(&gpu, Kind::Coherent, size);
    let functions = ash::ext::debug_utils::Device::new(gpu.instance().raw(), gpu.raw());
    let name = vk::DebugUtilsObjectNameInfoEXT::default().object_handle(memory.raw()).object_name(c"staging");
    // SAFETY: The memory is alive.
    unsafe { functions.set_debug_utils_object_name(&name) }.expect("vkSetDebugUtilsObjectNameEXT");
    let flags = vk::MemoryMapFlags::empty();
    // SAFETY: The memory is not mapped.
    let mapped = unsafe { gpu.raw().map_memory(memory.raw(), 0, vk::WHOLE_SIZE, flags) };
    println!("\nrefused={}", mapped == Err(vk::Result::ERROR_MEMORY_MAP_FAILED));
}

#[test]
fn memory_that_cannot_be_mapped_is_called_by_its_name() {
    if !lockstep_under_test() {
        skip("the message is Lockstep's");
        return;
    }
    if std::env::var_os("HOSTILE_HOST").is_some() {
        skip("the hostile host has no names");
        return;
    }
    if validation::is_taken() {
        return;
    }
    let output = process::output(&mut process::child("child_maps_too_much"));
    assert_eq!(process::value_of(&output, "refused"), "true");
    let lines = lines_of_lockstep(&output);
    assert!(lines.iter().any(|line| line.contains("vkMapMemory of \"staging\", ")), "{lines:?}");
}

#[test]
fn building_acceleration_structures_on_the_host_is_refused() {
    if !lockstep_under_test() {
        skip("other drivers may do it");
        return;
    }
    let gpu = Gpu::new();
    let mut structures = vk::PhysicalDeviceAccelerationStructureFeaturesKHR::default()
        .acceleration_structure_host_commands(true);
    let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
    let info = vk::DeviceCreateInfo::default().queue_create_infos(&queues).push_next(&mut structures);
    // SAFETY: The physical device is of this instance, and every pointer in `info` outlives the call.
    let device = unsafe { gpu.instance().raw().create_device(gpu.physical(), &info, None) };
    assert_eq!(device.err(), Some(vk::Result::ERROR_FEATURE_NOT_PRESENT));
}
