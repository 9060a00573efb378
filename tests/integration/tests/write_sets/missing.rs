//! What lavapipe of Mesa 22.3 does not have: rows that need it are skipped, or not there.
//!
//! Not there at all: mesh shaders, ray tracing and acceleration structures, shader objects, descriptor buffers, AMD's
//! buffer markers and the second versions of binding and pushing descriptors (VK_KHR_maintenance6).
//!
//! Not advertised, and tested all the same: sets updated after they are bound, and bindings that were never written.
//! lavapipe looks at descriptors when it runs a command; only the validation layer minds.

/// Arrays of linear images.
pub(crate) const LINEAR_LAYERS: &str = "the host has no linear images with layers";
/// Storage images that are linear.
pub(crate) const LINEAR_STORAGE: &str = "the host has no linear storage images";
/// Depth formats with stencil.
pub(crate) const DEPTH_STENCIL: &str = "the host has no images of this depth format";
/// Compressed formats.
pub(crate) const COMPRESSED: &str = "the host has no compressed images";

/// Says that a row does not apply here.
pub(crate) fn skip(reason: &str) {
    lockstep_harness::skip(reason);
}

/// For `scripts/mutations`.
#[test]
#[ignore = "a child of scripts/mutations"]
fn child_tells_what_is_offered() {
    let names = std::env::var("LOCKSTEP_COMMANDS").expect("the script sets it");
    let gpu = lockstep_harness::Gpu::builder().everything().build();
    let get = gpu.instance().raw().fp_v1_0().get_device_proc_addr;
    let offers = |name: &&str| {
        let name = std::ffi::CString::new(*name).expect("no zero in it");
        unsafe { get(gpu.raw().handle(), name.as_ptr()) }.is_some()
    };
    println!("offered={}", names.split(',').filter(offers).collect::<Vec<_>>().join(","));
}
