//! What command buffers may write: recorded as they are, so that reading back costs what was written and not
//! what could have been.
//!
//! | module | what it is |
//! |---|---|
//! | [`lookup`] | from a command buffer to its recording, without a lock |
//! | [`recording`] | a command buffer while it is recorded: handles, nothing looked up |
//! | [`bind_point`], [`buffer_writes`] | its parts: what is bound for draws and dispatches, which bytes are written |
//! | [`recorded`] | a finished one: bytes of buffer objects, and sets whose content may still change |
//! | [`texels`], [`linear`] | the bytes that a copy from an image writes, and those of linear images |
//! | [`passes`] | render passes, framebuffers, query pools, command pools |
//! | [`shader`], [`pipeline`], [`shaders`], [`deferred`] | with which descriptors shaders write, as their SPIR-V says |
//! | [`descriptors`], [`views`] | what stands behind descriptors |
//!
//! All of it is an upper bound: what is not understood may write anything. Until coherent memory is mapped
//! for the first time nothing is recorded, and command buffers from before may write anything that is bound.

pub mod bind_point;
pub mod buffer_writes;
pub mod deferred;
pub mod descriptors;
pub(crate) mod infos;
pub mod linear;
pub mod lookup;
pub mod passes;
pub mod pipeline;
pub mod recorded;
pub mod recording;
pub mod shader;
pub mod shaders;
pub mod texels;
pub mod views;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ash::vk;

use crate::handles::HandleMap;
use deferred::Deferred;
use descriptors::{DescriptorSet, Pool, SetLayout, Template};
use pipeline::{PipelineLayout, PipelineWrites};
use shader::Module;
use views::{BufferView, ImageView};

/// The objects of a device through which shaders write. Entries die with their object.
#[derive(Debug, Default)]
pub struct Objects {
    /// Shader modules.
    pub modules: HandleMap<vk::ShaderModule, Module>,
    /// Pipelines and pipeline libraries; one that is missing may write anything.
    pub pipelines: HandleMap<vk::Pipeline, PipelineWrites>,
    /// Pipelines whose creation was deferred.
    pub deferred: Deferred,
    /// Shader objects; one that is missing may write anything.
    pub shaders: HandleMap<vk::ShaderEXT, PipelineWrites>,
    /// Pipeline layouts.
    pub pipeline_layouts: HandleMap<vk::PipelineLayout, PipelineLayout>,
    /// Descriptor set layouts.
    pub set_layouts: HandleMap<vk::DescriptorSetLayout, SetLayout>,
    /// Descriptor pools.
    pub pools: HandleMap<vk::DescriptorPool, Pool>,
    /// Descriptor sets; through one that is missing anything may be written.
    pub sets: HandleMap<vk::DescriptorSet, DescriptorSet>,
    /// Descriptor update templates.
    pub templates: HandleMap<vk::DescriptorUpdateTemplate, Template>,
    /// Image views.
    pub image_views: HandleMap<vk::ImageView, ImageView>,
    /// Buffer views.
    pub buffer_views: HandleMap<vk::BufferView, BufferView>,
    /// Whether a layout with mutable descriptors was ever made.
    mutable: AtomicBool,
}

impl Objects {
    /// Enters a set layout.
    pub fn add_set_layout(&self, handle: vk::DescriptorSetLayout, layout: SetLayout) {
        if layout.is_mutable() {
            self.mutable.store(true, Ordering::Relaxed);
        }
        self.set_layouts.insert(handle, Arc::new(layout));
    }

    /// Forgets the sets of a pool.
    pub fn forget_sets(&self, pool: &Pool) {
        pool.empty(|sets| self.sets.remove_all(sets));
    }

    /// Whether an update with descriptors that shaders cannot write may yet replace some that they can.
    pub fn has_mutable(&self) -> bool {
        // Whoever updates a set was told of its layout, and so comes after the store.
        self.mutable.load(Ordering::Relaxed)
    }
}
