//! Render passes, framebuffers, query pools: what they say of what is written. Command pools: their buffers.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ash::vk;

/// Which attachments a render pass may write.
#[derive(Debug)]
pub struct RenderPass {
    /// By attachment.
    pub written: Box<[bool]>,
}

/// The views of a framebuffer; none where they come with each pass.
#[derive(Debug)]
pub struct Framebuffer {
    /// By attachment.
    pub views: Box<[vk::ImageView]>,
}

/// An attachment as a render pass describes it.
#[derive(Clone, Copy, Debug)]
pub struct Attachment {
    /// What happens to its first aspect, and to stencil, when it is loaded.
    pub load: [vk::AttachmentLoadOp; 2],
    /// Its layouts before and behind.
    pub layouts: [vk::ImageLayout; 2],
    /// Those of stencil, where it has its own; else the same.
    pub stencil: [vk::ImageLayout; 2],
}

/// A use of an attachment in a subpass.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    /// Which one; `VK_ATTACHMENT_UNUSED`: none.
    pub attachment: u32,
    /// Its layout there.
    pub layout: vk::ImageLayout,
    /// That of stencil, where it has its own; else the same.
    pub stencil: vk::ImageLayout,
    /// Whether it is an input, which is only read.
    pub input: bool,
}

impl RenderPass {
    /// Works out what is written. Storing what was not changed changes nothing; so an attachment is left
    /// alone that is loaded, stays in one layout, and is an input or read-only wherever it is used.
    pub fn new(attachments: &[Attachment], references: impl Iterator<Item = Reference>) -> Self {
        let mut written: Box<[bool]> = attachments.iter().map(Attachment::is_lost).collect();
        for reference in references {
            let index = reference.attachment as usize;
            let (Some(written), Some(attachment)) = (written.get_mut(index), attachments.get(index)) else {
                continue;
            };
            *written |= reference.layout != attachment.layouts[0];
            *written |= reference.stencil != attachment.stencil[0];
            let read_only = is_read_only(reference.layout) && is_read_only(reference.stencil);
            *written |= !reference.input && !read_only;
        }
        Self { written }
    }
}

impl Attachment {
    /// Whether a pass changes the attachment whatever is drawn.
    fn is_lost(&self) -> bool {
        self.load.iter().any(|op| !keeps(*op))
            || self.layouts[0] != self.layouts[1]
            || self.stencil[0] != self.stencil[1]
    }
}

/// Whether an attachment that is begun like this holds what it held.
pub fn keeps(load: vk::AttachmentLoadOp) -> bool {
    matches!(load, vk::AttachmentLoadOp::LOAD | vk::AttachmentLoadOp::NONE_EXT)
}

/// Whether nothing can be written to an attachment in this layout.
pub fn is_read_only(layout: vk::ImageLayout) -> bool {
    matches!(
        layout,
        vk::ImageLayout::DEPTH_STENCIL_READ_ONLY_OPTIMAL
            | vk::ImageLayout::DEPTH_READ_ONLY_OPTIMAL
            | vk::ImageLayout::STENCIL_READ_ONLY_OPTIMAL
            | vk::ImageLayout::SHADER_READ_ONLY_OPTIMAL
            | vk::ImageLayout::READ_ONLY_OPTIMAL
    )
}

/// A pool of queries.
#[derive(Debug)]
pub struct QueryPool {
    kind: vk::QueryType,
    statistics: vk::QueryPipelineStatisticFlags,
}

impl QueryPool {
    /// A pool as it is created.
    pub fn new(info: &vk::QueryPoolCreateInfo<'_>) -> Self {
        Self { kind: info.query_type, statistics: info.pipeline_statistics }
    }

    /// How many numbers a result has that is copied with `flags`; `None` where only the device knows.
    pub fn numbers(&self, flags: vk::QueryResultFlags) -> Option<u64> {
        let values = match self.kind {
            vk::QueryType::OCCLUSION
            | vk::QueryType::TIMESTAMP
            | vk::QueryType::PRIMITIVES_GENERATED_EXT
            | vk::QueryType::MESH_PRIMITIVES_GENERATED_EXT => 1,
            vk::QueryType::TRANSFORM_FEEDBACK_STREAM_EXT => 2,
            vk::QueryType::PIPELINE_STATISTICS => u64::from(self.statistics.as_raw().count_ones()),
            _ => return None,
        };
        let told = vk::QueryResultFlags::WITH_AVAILABILITY | vk::QueryResultFlags::WITH_STATUS_KHR;
        Some(values + u64::from(flags.intersects(told)))
    }
}

/// The command buffers of each pool: they go with it.
#[derive(Debug, Default)]
pub struct CommandPools(Mutex<HashMap<vk::CommandPool, HashSet<vk::CommandBuffer>>>);

impl CommandPools {
    /// Remembers command buffers.
    pub fn add(&self, pool: vk::CommandPool, buffers: &[vk::CommandBuffer]) {
        self.lock().entry(pool).or_default().extend(buffers);
    }

    /// Forgets command buffers.
    pub fn remove(&self, pool: vk::CommandPool, buffers: &[vk::CommandBuffer]) {
        if let Some(own) = self.lock().get_mut(&pool) {
            buffers.iter().for_each(|buffer| {
                own.remove(buffer);
            });
        }
    }

    /// The command buffers of a pool, which is forgotten.
    pub fn take(&self, pool: vk::CommandPool) -> Vec<vk::CommandBuffer> {
        self.lock().remove(&pool).into_iter().flatten().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<vk::CommandPool, HashSet<vk::CommandBuffer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_attachment_that_stays_read_only_is_left_alone() {
        let depth = vk::ImageLayout::DEPTH_STENCIL_READ_ONLY_OPTIMAL;
        let load = [vk::AttachmentLoadOp::LOAD; 2];
        let read = Attachment { load, layouts: [depth; 2], stencil: [depth; 2] };
        let used = Reference { attachment: 0, layout: depth, stencil: depth, input: false };
        let written =
            |attachment, reference| RenderPass::new(&[attachment], std::iter::once(reference)).written[0];

        assert!(!written(read, used));
        assert!(!written(read, Reference { attachment: vk::ATTACHMENT_UNUSED, ..used }));
        assert!(written(Attachment { load: [vk::AttachmentLoadOp::CLEAR; 2], ..read }, used));
        assert!(written(Attachment { layouts: [depth, vk::ImageLayout::GENERAL], ..read }, used));
        let general = vk::ImageLayout::GENERAL;
        let elsewhere = Reference { layout: general, stencil: general, ..used };
        assert!(written(read, Reference { input: true, ..elsewhere }));
        let stays = Attachment { layouts: [general; 2], stencil: [general; 2], ..read };
        assert!(written(stays, elsewhere));
        assert!(!written(stays, Reference { input: true, ..elsewhere }));
    }

    #[test]
    fn stencil_may_be_written_where_depth_is_read_only() {
        let depth = vk::ImageLayout::DEPTH_READ_ONLY_OPTIMAL;
        let written = |stencil: [vk::ImageLayout; 3]| {
            let load = [vk::AttachmentLoadOp::LOAD; 2];
            let attachment = Attachment { load, layouts: [depth; 2], stencil: [stencil[0], stencil[2]] };
            let used = Reference { attachment: 0, layout: depth, stencil: stencil[1], input: false };
            RenderPass::new(&[attachment], std::iter::once(used)).written[0]
        };
        let (read, attached) =
            (vk::ImageLayout::STENCIL_READ_ONLY_OPTIMAL, vk::ImageLayout::STENCIL_ATTACHMENT_OPTIMAL);

        assert!(!written([read; 3]));
        assert!(written([attached; 3]));
        assert!(written([read, attached, read]));
        assert!(written([read, read, attached]));
    }

    #[test]
    fn a_result_has_as_many_numbers_as_statistics_and_one_that_tells_whether_it_is_there() {
        let info = vk::QueryPoolCreateInfo::default()
            .query_type(vk::QueryType::PIPELINE_STATISTICS)
            .pipeline_statistics(vk::QueryPipelineStatisticFlags::from_raw(0b1011));
        let pool = QueryPool::new(&info);

        assert_eq!(pool.numbers(vk::QueryResultFlags::TYPE_64), Some(3));
        assert_eq!(pool.numbers(vk::QueryResultFlags::WITH_AVAILABILITY), Some(4));
    }
}
