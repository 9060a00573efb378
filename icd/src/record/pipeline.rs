//! What the shaders of a pipeline may write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::descriptors::{Bindings, SetLayout};
use super::shader::ShaderWrites;

/// What a pipeline, or a shader object, may write: what any of its shaders may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipelineWrites {
    /// For each set the numbers of bindings, sorted.
    sets: BTreeMap<u32, Vec<u32>>,
    /// Whether it may write through addresses.
    pub addresses: bool,
    /// Whether not all is known of it: it may write through every descriptor and address.
    pub anything: bool,
}

/// State of a `VkPipelineLayout`: the layouts of its sets.
#[derive(Debug)]
pub struct PipelineLayout(pub Vec<Option<Arc<SetLayout>>>);

impl PipelineWrites {
    /// Of which nothing is known.
    pub fn unknown() -> Self {
        Self { anything: true, ..Self::default() }
    }

    /// What one of these shaders may write.
    pub fn of<'a>(shaders: impl IntoIterator<Item = &'a ShaderWrites>) -> Self {
        let mut bindings = BTreeSet::new();
        let mut writes = Self::default();
        for shader in shaders {
            bindings.extend(&shader.bindings);
            writes.addresses |= shader.addresses;
            writes.anything |= shader.anything;
        }
        for (set, binding) in bindings {
            writes.sets.entry(set).or_default().push(binding);
        }
        writes
    }

    /// Adds what a library may write.
    pub fn merge(&mut self, other: &Self) {
        for (set, theirs) in &other.sets {
            let bindings = self.sets.entry(*set).or_default();
            bindings.extend(theirs);
            bindings.sort_unstable();
            bindings.dedup();
        }
        self.addresses |= other.addresses;
        self.anything |= other.anything;
    }

    /// Through which bindings of a set it may write.
    pub fn bindings(&self, set: u32) -> Bindings<'_> {
        if self.anything {
            return Bindings::All;
        }
        Bindings::These(self.sets.get(&set).map_or(&[], Vec::as_slice))
    }

    /// Through which sets it may write, where `anything` does not hold.
    pub fn sets(&self) -> impl Iterator<Item = u32> + '_ {
        self.sets.keys().copied()
    }
}

impl PipelineLayout {
    /// The layout of a set.
    pub fn set(&self, set: u32) -> Option<&Arc<SetLayout>> {
        self.0.get(set as usize)?.as_ref()
    }
}
