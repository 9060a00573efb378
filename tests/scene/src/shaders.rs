//! The shaders, compiled from WGSL to SPIR-V when the program starts.

use anyhow::{Context, Result};
use naga::back::spv;
use naga::valid::{Capabilities, ValidationFlags, Validator};

use crate::frame;

/// The drawing shaders.
pub(crate) fn scene() -> Result<Vec<u32>> {
    compile(include_str!("shaders/scene.wgsl")).context("compiling scene.wgsl")
}

/// The compute shader, with the sizes of [`frame`] put in.
pub(crate) fn check() -> Result<Vec<u32>> {
    let sizes = [
        ("POND_VERTICES", frame::POND_VERTICES),
        ("VERTICES", frame::VERTICES),
        ("CHUNKS", frame::CHUNKS),
        ("BINS", frame::BINS),
        ("UNIFORM_ROWS", frame::UNIFORM_ROWS),
        ("CHUNK", frame::CHUNK),
    ];
    let constants = sizes.map(|(name, size)| format!("const {name}: u32 = {size}u;\n")).concat();
    compile(&(constants + include_str!("shaders/check.wgsl"))).context("compiling check.wgsl")
}

fn compile(source: &str) -> Result<Vec<u32>> {
    let module = naga::front::wgsl::parse_str(source)?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module)?;
    // SPIR-V 1.3 is what Vulkan 1.1 takes; the default flags turn y up, as in WGSL.
    let options = spv::Options { lang_version: (1, 3), ..spv::Options::default() };
    Ok(spv::write_vec(&module, &info, &options, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spirv_tools::val::Validator as _;

    #[test]
    fn shaders_are_valid_for_vulkan_1_1() {
        let validator = spirv_tools::val::create(Some(spirv_tools::TargetEnv::Vulkan_1_1));
        for words in [scene().unwrap(), check().unwrap()] {
            validator.validate(&words, None).unwrap();
        }
    }
}
