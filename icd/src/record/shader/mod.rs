//! What a shader may write, from its SPIR-V.
//!
//! The question is answered for an entry point and the functions it calls. A *root* is a variable through
//! which a descriptor can be written: a storage buffer or storage image that is not declared `NonWritable`.
//! Access chains, copies and loads of images pass a root on; a function called with it does with it what it
//! does with its parameter; a few instructions are known to only read; whatever else a root gets into counts
//! as a write (`analysis`). So an instruction nobody thought of errs
//! on the safe side. Pointers to physical storage are told by their type, wherever they come from.

mod analysis;
mod module;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fmt;
use std::sync::LazyLock;

use ash::vk;
use rspirv::spirv::ExecutionModel;

use module::{EntryPoint, Parser};

/// What a shader may write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShaderWrites {
    /// Set and binding of the descriptors.
    pub bindings: BTreeSet<(u32, u32)>,
    /// Whether it may write through addresses.
    pub addresses: bool,
    /// Whether not all is known of it.
    pub anything: bool,
}

/// Of which nothing is known.
pub static UNKNOWN: ShaderWrites =
    ShaderWrites { bindings: BTreeSet::new(), addresses: false, anything: true };

/// What the entry points of a module may write.
#[derive(Debug, Default)]
pub struct ModuleWrites(Vec<EntryPoint>);

/// State of a `VkShaderModule`: its code until somebody asks what it may write, and then the answer.
pub struct Module(LazyLock<ModuleWrites, Box<dyn FnOnce() -> ModuleWrites + Send>>);

impl Module {
    /// A module with this code.
    pub fn new(words: Vec<u32>) -> Self {
        Self(LazyLock::new(Box::new(move || ModuleWrites::of(&words))))
    }

    /// What its entry points may write.
    pub fn writes(&self) -> &ModuleWrites {
        &self.0
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Module").finish_non_exhaustive()
    }
}

impl ModuleWrites {
    /// What this code may write; code that is not understood has no entry points.
    pub fn of(words: &[u32]) -> Self {
        Self(Parser::parse(words).unwrap_or_else(|error| {
            log::debug!("what a shader may write is not known: {error}");
            Vec::new()
        }))
    }

    /// What an entry point may write.
    pub fn entry_point(&self, stage: vk::ShaderStageFlags, name: &CStr) -> &ShaderWrites {
        let (models, name) = (models(stage), name.to_bytes());
        let found =
            self.0.iter().find(|entry| models.contains(&entry.model) && entry.name.as_bytes() == name);
        found.map_or(&UNKNOWN, |entry| &entry.writes)
    }
}

/// The execution models of a stage.
fn models(stage: vk::ShaderStageFlags) -> &'static [ExecutionModel] {
    match stage {
        vk::ShaderStageFlags::VERTEX => &[ExecutionModel::Vertex],
        vk::ShaderStageFlags::TESSELLATION_CONTROL => &[ExecutionModel::TessellationControl],
        vk::ShaderStageFlags::TESSELLATION_EVALUATION => &[ExecutionModel::TessellationEvaluation],
        vk::ShaderStageFlags::GEOMETRY => &[ExecutionModel::Geometry],
        vk::ShaderStageFlags::FRAGMENT => &[ExecutionModel::Fragment],
        vk::ShaderStageFlags::COMPUTE => &[ExecutionModel::GLCompute],
        vk::ShaderStageFlags::TASK_EXT => &[ExecutionModel::TaskEXT, ExecutionModel::TaskNV],
        vk::ShaderStageFlags::MESH_EXT => &[ExecutionModel::MeshEXT, ExecutionModel::MeshNV],
        vk::ShaderStageFlags::RAYGEN_KHR => &[ExecutionModel::RayGenerationKHR],
        vk::ShaderStageFlags::INTERSECTION_KHR => &[ExecutionModel::IntersectionKHR],
        vk::ShaderStageFlags::ANY_HIT_KHR => &[ExecutionModel::AnyHitKHR],
        vk::ShaderStageFlags::CLOSEST_HIT_KHR => &[ExecutionModel::ClosestHitKHR],
        vk::ShaderStageFlags::MISS_KHR => &[ExecutionModel::MissKHR],
        vk::ShaderStageFlags::CALLABLE_KHR => &[ExecutionModel::CallableKHR],
        _ => &[],
    }
}
