//! What lavapipe of Mesa 22.3 or SwiftShader does not have: rows that need it are skipped, or not there.
//!
//! Not there at all: mesh shaders, ray tracing and acceleration structures, shader objects, descriptor
//! buffers, AMD's buffer markers and the second versions of binding and pushing descriptors
//! (VK_KHR_maintenance6).
//!
//! Not advertised, and tested all the same: sets updated after they are bound, and bindings that were never
//! written. lavapipe looks at descriptors when it runs a command; only the validation layer minds.

use std::ffi::CStr;

use ash::vk;
use lockstep_harness::Gpu;

/// Arrays of linear images.
pub(crate) const LINEAR_LAYERS: &str = "the host has no linear images with layers";
/// Storage images that are linear.
pub(crate) const LINEAR_STORAGE: &str = "the host has no linear storage images";
/// Depth formats with stencil.
pub(crate) const DEPTH_STENCIL: &str = "the host has no images of this depth format";
/// Compressed formats.
pub(crate) const COMPRESSED: &str = "the host has no compressed images";

/// Linear images to draw into.
pub(crate) const LINEAR_TARGETS: &str = "the host draws into no linear images";

/// Says, where the device does not have an extension, that a test does not apply here, and returns true.
pub(crate) fn extension(name: &CStr) -> bool {
    lacks(Gpu::builder().build().advertises(name), name)
}

/// As above, of a feature of Vulkan 1.0 or 1.2.
pub(crate) fn feature(
    what: &CStr,
    read: impl FnOnce(&vk::PhysicalDeviceFeatures, &vk::PhysicalDeviceVulkan12Features<'_>) -> vk::Bool32,
) -> bool {
    let gpu = Gpu::builder().build();
    let mut vulkan12 = vk::PhysicalDeviceVulkan12Features::default();
    let mut features = vk::PhysicalDeviceFeatures2::default().push_next(&mut vulkan12);
    unsafe { gpu.instance().raw().get_physical_device_features2(gpu.physical(), &mut features) };
    let core = features.features;
    lacks(read(&core, &vulkan12) == vk::TRUE, what)
}

fn lacks(offered: bool, what: &CStr) -> bool {
    if !offered {
        skip(&format!("the host does not have {}", what.to_string_lossy()));
    }
    !offered
}

/// Says that a row does not apply here.
pub(crate) fn skip(reason: &str) {
    lockstep_harness::skip(reason);
}

/// For `scripts/mutations`.
#[test]
#[ignore = "a child of scripts/mutations"]
fn child_tells_what_is_offered() {
    let names = std::env::var("LOCKSTEP_COMMANDS").expect("the script sets it");
    let gpu = Gpu::builder().everything().build();
    let get = gpu.instance().raw().fp_v1_0().get_device_proc_addr;
    let offers = |name: &&str| {
        let name = std::ffi::CString::new(*name).expect("no zero in it");
        unsafe { get(gpu.raw().handle(), name.as_ptr()) }.is_some()
    };
    println!("offered={}", names.split(',').filter(offers).collect::<Vec<_>>().join(","));
}
