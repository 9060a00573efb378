//! Links the driver so that it stays loaded once it is.

fn main() {
    // The loader closes drivers in vkDestroyInstance; exit handlers and the host driver's own
    // threads still hold pointers into this library then.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=build.rs");
}
