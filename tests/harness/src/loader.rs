//! The real Vulkan loader, pointed at the driver under test.
//!
//! The driver is `libvulkan_lockstep.so` beside the running executable: a manifest naming it is written
//! there and handed to the loader. `LOCKSTEP_TEST_ICD=<manifest>` runs another driver instead.
//!
//! Where `HOSTILE_HOST` is set, the host driver is `libhostile_host.so`, which lies there too, and does what
//! the variable says; with `LOCKSTEP_TEST_ICD=hostile` it is the driver under test.
//!
//! `LOCKSTEP_TEST_VALIDATION` puts the Khronos validation layer above or below the driver under test, see
//! [`validation`].

use crate::validation;
use ash::vk;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Names the manifest of the driver to test instead of the Lockstep just built.
pub const TEST_ICD: &str = "LOCKSTEP_TEST_ICD";

/// Set in a child whose parent has set `VK_ICD_FILENAMES` to the drivers it wants the child to see.
pub const KEEP_DRIVERS: &str = "LOCKSTEP_TEST_KEEP_DRIVERS";

/// Lavapipe's manifest: the host driver when neither `LOCKSTEP_HOST_ICD` nor `HOSTILE_HOST` says anything.
pub const DEFAULT_HOST_ICD: &str = "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json";

/// Seconds after which a process that uses the harness is taken for hung and killed by SIGALRM.
///
/// An alarm needs neither a thread nor a handler, so it shows in none of the things the tests look at.
pub const HANG_LIMIT: u32 = 300;

const LIBRARY: &str = "libvulkan_lockstep.so";
const HOSTILE_LIBRARY: &str = "libhostile_host.so";
const VALIDATED_LIBRARY: &str = "libvalidated_host.so";

struct Vulkan {
    entry: ash::Entry,
    // The loader and its drivers stay for the life of the process, as in most applications.
    _library: libloading::Library,
}

/// Returns the loader's entry points; the first call chooses the driver and loads the loader.
///
/// # Panics
///
/// If there is no Vulkan loader, or no driver to test.
pub fn entry() -> &'static ash::Entry {
    static VULKAN: OnceLock<Vulkan> = OnceLock::new();
    &VULKAN.get_or_init(load).entry
}

fn load() -> Vulkan {
    choose_driver();
    restart_hang_limit();
    // SAFETY: The initialisers of the Vulkan loader may run on any thread.
    let library = unsafe { libloading::Library::new("libvulkan.so.1") }.expect("the Vulkan loader");
    // SAFETY: The loader exports this name with exactly this type.
    let get = unsafe { library.get::<vk::PFN_vkGetInstanceProcAddr>(b"vkGetInstanceProcAddr\0") };
    let get_instance_proc_addr = *get.expect("vkGetInstanceProcAddr in the loader");
    // SAFETY: The pointer comes from the loader, which stays loaded: `Vulkan` lives in a static.
    let entry = unsafe { ash::Entry::from_static_fn(ash::StaticFn { get_instance_proc_addr }) };
    Vulkan { entry, _library: library }
}

/// Gives the process its whole [`HANG_LIMIT`] again, for long tests that have just made progress.
pub fn restart_hang_limit() {
    // SAFETY: `alarm` takes a number and touches no memory of ours.
    unsafe { libc::alarm(HANG_LIMIT) };
}

fn choose_driver() {
    validation::prepare();
    if std::env::var_os("LOCKSTEP_HOST_ICD").is_none() {
        use_host(&host_manifest());
    }
    if std::env::var_os(KEEP_DRIVERS).is_some() {
        return;
    }
    let manifest = manifest_under_test();
    set("VK_ICD_FILENAMES", &manifest);
    set("VK_DRIVER_FILES", &manifest);
}

/// Returns the manifest of the driver under test.
///
/// # Panics
///
/// If `LOCKSTEP_TEST_ICD` is unset and no Lockstep lies beside the executable.
pub fn manifest_under_test() -> PathBuf {
    match std::env::var_os(TEST_ICD) {
        Some(manifest) if manifest == "hostile" => write_manifest(HOSTILE_LIBRARY),
        Some(manifest) => PathBuf::from(manifest),
        None => write_manifest(LIBRARY),
    }
}

/// Returns whether the hostile host, as host driver or driver under test, has a mode.
pub fn is_hostile(mode: &str) -> bool {
    std::env::var("HOSTILE_HOST").is_ok_and(|modes| modes.split(',').any(|name| name == mode))
}

/// Has Lockstep use a host driver, by its manifest or its library.
pub fn use_host(driver: &Path) {
    if validation::is(validation::Place::Below) {
        let is_manifest = driver.extension().is_some_and(|extension| extension == "json");
        set("VALIDATED_HOST_DRIVER", if is_manifest { library_of(driver) } else { driver.to_owned() });
        set("LOCKSTEP_HOST_ICD", built(VALIDATED_LIBRARY));
    } else {
        set("LOCKSTEP_HOST_ICD", driver);
    }
}

/// Returns the manifest of the host driver when `LOCKSTEP_HOST_ICD` says nothing.
pub fn host_manifest() -> PathBuf {
    match std::env::var_os("HOSTILE_HOST") {
        Some(_) => write_manifest(HOSTILE_LIBRARY),
        None => DEFAULT_HOST_ICD.into(),
    }
}

/// Returns the library a manifest names.
///
/// # Panics
///
/// If the manifest cannot be read, or names none.
pub fn library_of(manifest: &Path) -> PathBuf {
    let text = std::fs::read_to_string(manifest).expect("a manifest");
    let after = text.split_once("\"library_path\"").expect("a library").1;
    let name = after.split('"').nth(1).expect("a path");
    match name.contains('/') {
        true => manifest.with_file_name(name),
        false => PathBuf::from(name),
    }
}

/// Returns the path of a library of this workspace that was built for the running executable.
///
/// # Panics
///
/// If there is none.
pub fn built(library: &str) -> PathBuf {
    let executable = std::env::current_exe().expect("the path of the test executable");
    // Test executables lie in target/<profile>/deps, where cargo puts the library too; applications lie one
    // directory up.
    let found =
        executable.ancestors().skip(1).take(2).flat_map(|d| [d.join(library), d.join("deps").join(library)]);
    found
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("no {library} beside {}: was it built?", executable.display()))
}

fn write_manifest(name: &str) -> PathBuf {
    let library = built(name);
    let manifest = library.with_extension("json");
    let text = format!(
        concat!(
            "{{\"file_format_version\": \"1.0.1\", \"ICD\": {{\"library_path\": {:?}, ",
            "\"library_arch\": \"64\", \"api_version\": \"1.3.281\"}}}}\n"
        ),
        library.display().to_string()
    );
    // Many test processes do this at once, all with the same text: each must see a whole file.
    let own = manifest.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&own, text).expect("writing the manifest");
    std::fs::rename(&own, &manifest).expect("putting the manifest in place");
    manifest
}

/// Returns whether Lockstep is under test with the profile that has memory of all kinds, on a host of whose
/// memory some is coherent.
pub fn paravirtual_under_test() -> bool {
    lockstep_under_test() && ["", "paravirtual"].contains(&profile().as_str()) && !is_hostile("noncoherent")
}

fn profile() -> String {
    std::env::var("LOCKSTEP_PROFILE").unwrap_or_default()
}

/// Returns whether Lockstep is under test with the host's own table of types, which may have no memory that
/// the processor cannot see.
pub fn mirror_under_test() -> bool {
    lockstep_under_test() && std::env::var_os("LOCKSTEP_PROFILE").is_some_and(|profile| profile == "mirror")
}

/// Returns whether the driver under test is Lockstep: some tests ask what only Lockstep promises.
pub fn lockstep_under_test() -> bool {
    match std::env::var_os(TEST_ICD) {
        None => true,
        Some(manifest) => {
            std::fs::read_to_string(manifest).is_ok_and(|text| text.contains("vulkan_lockstep"))
        }
    }
}

/// Returns the name of the tracker the environment asks for, `auto` where it asks for none.
pub fn tracker() -> String {
    std::env::var("LOCKSTEP_TRACKER")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "auto".to_owned())
}

/// Returns whether the driver under test finds writes by SIGSEGV. It declares that the kernel cannot write
/// memory the processor has not written since the device last saw it, and that a handler is installed while
/// there are maps.
pub fn sigsegv_under_test() -> bool {
    lockstep_under_test() && tracker() == "sigsegv"
}

/// Returns whether the driver under test has the device copy what the CPU cannot see. It declares that what
/// the CPU writes before it sets an event does not overtake a batch that was submitted and waits for the
/// event, which today's specification forbids; and batches that wait for a semaphore of the CPU are not
/// submitted until it is signalled.
pub fn dma_under_test() -> bool {
    let transport = std::env::var("LOCKSTEP_TRANSPORT").unwrap_or_default();
    let needed = is_hostile("noncoherent") || is_hostile("vram") && profile() == "unified";
    lockstep_under_test() && (transport == "dma" || transport != "mapped" && needed)
}

/// Returns whether ThreadSanitizer is in this process: it stands between the kernel and handlers of signals,
/// and needs address space and mappings itself.
pub fn under_thread_sanitizer() -> bool {
    std::env::var_os("TSAN_OPTIONS").is_some()
}

/// Says on standard output that a test, or a part of it, does not apply here, and why.
pub fn skip(reason: &str) {
    println!("skipped: {reason}");
}

/// Sets a variable of this process's environment.
pub fn set(name: &str, value: impl AsRef<std::ffi::OsStr>) {
    // SAFETY: Only the thread of the one test this process runs reads or writes the environment, before it
    // starts threads of its own; libtest's main thread waits for it.
    unsafe { std::env::set_var(name, value) };
}
