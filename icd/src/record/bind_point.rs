//! What is bound while draws, dispatches and rays are recorded.
//!
//! Binding only stores handles. A draw or dispatch after a change takes a note of each bound set together
//! with the shaders it meets; which of the set's descriptors these write is looked up when the recording
//! ends.

use std::ops::Range;
use std::sync::Arc;

use ash::vk;

use super::descriptors::{Descriptors, SetLayout};

/// Sets that are remembered; what is bound beyond makes the command buffer write anything.
pub const SETS: usize = 32;

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shaders {
    /// A pipeline.
    Pipeline(vk::Pipeline),
    /// Shader objects: an index into the recording's list of combinations.
    Objects(u32),
}

/// A call that bound sets with dynamic offsets, which are shared out among the sets when their layouts are
/// known.
#[derive(Debug)]
pub struct Dynamic {
    /// All sets of the call.
    pub sets: Box<[vk::DescriptorSet]>,
    /// All offsets.
    pub offsets: Box<[u32]>,
}

/// A set as it is bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BoundSet {
    /// The set; null: none.
    pub set: vk::DescriptorSet,
    /// The call with its dynamic offsets, and which of that call's sets it is.
    pub dynamic: Option<(u32, u32)>,
}

/// A set that met shaders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Use {
    /// The shaders.
    pub shaders: Shaders,
    /// Where it was bound.
    pub index: u32,
    /// The set.
    pub bound: BoundSet,
}

/// A bind point: graphics, compute, ray tracing.
#[derive(Debug, Default)]
pub struct BindPoint {
    shaders: Option<Shaders>,
    sets: [BoundSet; SETS],
    /// Sets below this may be bound.
    bound: usize,
    pushed: Vec<(u32, Descriptors)>,
    /// Something was bound since the last note.
    changed: bool,
}

impl BindPoint {
    /// Binds shaders.
    pub fn bind_shaders(&mut self, shaders: Shaders) {
        self.changed |= self.shaders != Some(shaders);
        self.shaders = Some(shaders);
    }

    /// The shaders.
    pub fn shaders(&self) -> Option<Shaders> {
        self.shaders
    }

    /// Binds sets from `first` on. Returns `false` when there are too many.
    pub fn bind_sets(&mut self, first: u32, sets: &[vk::DescriptorSet], dynamic: Option<u32>) -> bool {
        let first = first as usize;
        let Some(slots) = self.sets.get_mut(first..first + sets.len()) else { return false };
        for (place, (slot, set)) in slots.iter_mut().zip(sets).enumerate() {
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            let new = BoundSet { set: *set, dynamic: dynamic.map(|call| (call, place)) };
            self.changed |= *slot != new;
            *slot = new;
        }
        self.bound = self.bound.max(first + sets.len());
        if !self.pushed.is_empty() {
            let range = first..first + sets.len();
            self.pushed.retain(|(index, _)| !range.contains(&(*index as usize)));
        }
        true
    }

    /// The descriptors that are pushed to set `index` of this layout, to change: those from before, if it has
    /// not changed.
    pub fn push(&mut self, index: u32, layout: &Arc<SetLayout>) -> &mut Descriptors {
        self.changed = true;
        if let Some(slot) = self.sets.get_mut(index as usize) {
            *slot = BoundSet::default();
        }
        let place = match self.pushed.iter().position(|(pushed, _)| *pushed == index) {
            Some(place) => {
                if self.pushed[place].1.layout() != layout {
                    self.pushed[place].1 = Descriptors::new(Arc::clone(layout));
                }
                place
            }
            None => {
                self.pushed.push((index, Descriptors::new(Arc::clone(layout))));
                self.pushed.len() - 1
            }
        };
        &mut self.pushed[place].1
    }

    /// Whether anything was bound since this was last asked.
    #[inline]
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The sets that are bound, with their places.
    pub fn sets(&self) -> impl Iterator<Item = (u32, BoundSet)> {
        let bound = self.sets[..self.bound].iter().enumerate();
        bound
            .filter(|(_, bound)| bound.set != vk::DescriptorSet::null())
            .map(|(index, bound)| (u32::try_from(index).unwrap_or(u32::MAX), *bound))
    }

    /// Whether descriptors are pushed.
    pub fn has_pushed(&self) -> bool {
        !self.pushed.is_empty()
    }

    /// What is pushed, by set.
    pub fn pushed(&self) -> impl Iterator<Item = (u32, &Descriptors)> {
        self.pushed.iter().map(|(index, descriptors)| (*index, descriptors))
    }
}

/// Shares out the dynamic offsets of a call: those of the set at `place`, when each set takes `counts` many.
pub fn offsets_of(place: u32, counts: impl Iterator<Item = usize>) -> Range<usize> {
    let mut start = 0;
    for (at, count) in counts.enumerate() {
        if at == place as usize {
            return start..start + count;
        }
        start += count;
    }
    start..start
}
