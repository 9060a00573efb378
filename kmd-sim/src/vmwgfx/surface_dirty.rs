//! Kernel file: `vmwgfx_surface.c`. Which texels of a coherent surface the CPU wrote.
//!
//! Pages become boxes, one for each subresource, and at validation the boxes become commands. A box covers
//! every texel with a byte in a dirty page; it may cover more.

use std::ops::Range;

use crate::error::Result;
use crate::lockdep::Task;
use crate::svga::cmd::{Command, CommandStream};
use crate::svga::format::SurfaceFormat;
use crate::svga::surface_layout::{Loc, SurfaceCache, SurfaceMetadata};
use crate::svga::types::{Box3d, SurfaceId};
use crate::upstream::Upstream;

/// Dirty boxes of one surface (`struct vmw_surface_dirty`).
///
/// # Invariants
/// There is a box for each subresource of the layout. One of depth 0 is clean.
#[derive(Clone, Debug)]
pub struct SurfaceDirty {
    cache: SurfaceCache,
    is_buffer: bool,
    boxes: Vec<Box3d>,
    upstream: Upstream,
}

impl SurfaceDirty {
    /// Nothing dirty (`vmw_surface_dirty_alloc`). A surface that has no layout is [`Error::Invalid`].
    ///
    /// [`Error::Invalid`]: crate::error::Error::Invalid
    pub fn alloc(metadata: &SurfaceMetadata, upstream: Upstream) -> Result<Self> {
        let cache = SurfaceCache::setup(metadata)?;
        let boxes = vec![Box3d::default(); cache.num_subres() as usize];
        Ok(Self { cache, is_buffer: metadata.format == SurfaceFormat::BUFFER, boxes, upstream })
    }

    /// The boxes, by subresource; that of a buffer counts bytes.
    pub fn boxes(&self) -> &[Box3d] {
        &self.boxes
    }

    /// Where the texels lie.
    pub fn layout(&self) -> &SurfaceCache {
        &self.cache
    }

    /// The CPU wrote `bytes` of the backing object, of which the surface has `resource`
    /// (`vmw_surface_dirty_range_add`).
    pub fn range_add(&mut self, resource: &Range<u64>, bytes: &Range<u64>, task: &Task) {
        let disjoint = bytes.end <= resource.start || bytes.start >= resource.end;
        if task.warn_on(disjoint, "a dirty range outside of the surface") {
            return;
        }
        let start = bytes.start.max(resource.start) - resource.start;
        if self.is_buffer {
            self.buf_range_add(start, bytes.end - resource.start);
        } else {
            self.tex_range_add(start, bytes.end.min(resource.end) - resource.start);
        }
    }

    /// `vmw_surface_buf_dirty_range_add`: texels are bytes, and there is one box.
    fn buf_range_add(&mut self, start: u64, end: u64) {
        let quirks = self.upstream.quirks;
        let end = end.min(self.cache.mip_chain_bytes());
        if start >= end && !quirks.stream_output_tail {
            return;
        }
        let (start, end) = (buffer_offset(start), buffer_offset(end));
        let dirty = &mut self.boxes[0];
        (dirty.h, dirty.d) = (1, 1);
        extend(&mut dirty.x, &mut dirty.w, start..end, quirks.box_union_shrinks);
    }

    /// `vmw_surface_tex_dirty_range_add`.
    fn tex_range_add(&mut self, start: u64, end: u64) {
        let quirks = self.upstream.quirks;
        // A texture has no stream output, but nothing keeps it from being created with the state of one.
        let end = if quirks.stream_output_tail { end } else { end.min(self.cache.texel_bytes()) };
        if start >= end {
            return;
        }
        let first = self.cache.get_loc(start);
        let last = self.cache.get_loc(end - 1);
        let behind = self.cache.inc_loc(&last);

        let sheets_differ = first.sheet != last.sheet && self.upstream.profile.marks_all_across_sheets();
        // Neither samples nor planes lie in memory as the layout has it, so places in them mean nothing.
        let multisampled = self.cache.num_samples() > 1 && !quirks.partial_boxes_of_planar;
        let planar = self.cache.desc().is_planar() && !quirks.partial_boxes_of_planar;
        if sheets_differ || multisampled {
            self.full(0..self.cache.num_subres());
        } else if planar {
            self.full(first.sub..behind.sub);
        } else if first.sub + 1 == behind.sub {
            self.subres_add(&first, &behind);
        } else {
            self.subres_add(&first, &self.cache.max_loc(first.sub));
            self.subres_add(&self.cache.min_loc(last.sub), &behind);
            self.full(first.sub + 1..last.sub);
        }
    }

    /// `vmw_subres_dirty_full`, of several subresources.
    fn full(&mut self, subs: Range<u32>) {
        for sub in subs {
            self.boxes[sub as usize] = Box3d::full(self.cache.mip(sub).size);
        }
    }

    /// `vmw_subres_dirty_add`: a range from `start` to `end` within the subresource of `start`.
    ///
    /// More than a row is full width, and more than a slice full height too.
    fn subres_add(&mut self, start: &Loc, end: &Loc) {
        let shrinks = self.upstream.quirks.box_union_shrinks;
        let size = self.cache.mip(start.sub).size;
        let dirty = &mut self.boxes[start.sub as usize];

        extend(&mut dirty.z, &mut dirty.d, start.z..end.z, shrinks);
        let one_slice = start.z + 1 == end.z;
        if one_slice {
            extend(&mut dirty.y, &mut dirty.h, start.y..end.y, shrinks);
        } else {
            (dirty.y, dirty.h) = (0, size.height);
        }
        if one_slice && start.y + 1 == end.y {
            extend(&mut dirty.x, &mut dirty.w, start.x..end.x, shrinks);
        } else {
            (dirty.x, dirty.w) = (0, size.width);
        }
    }

    /// Uploads what is dirty and starts over (`vmw_surface_dirty_sync`).
    ///
    /// Without command space ([`Error::NoMemory`]) the boxes stay, for the next validation.
    ///
    /// [`Error::NoMemory`]: crate::error::Error::NoMemory
    pub fn sync(&mut self, sid: SurfaceId, has_sm4: bool, stream: &mut CommandStream) -> Result<()> {
        let updates: Vec<_> = (0..self.cache.num_subres())
            .zip(&self.boxes)
            .filter(|(_, image_box)| image_box.d != 0)
            .map(|(sub, image_box)| self.update(sid, sub, *image_box, has_sm4))
            .collect();
        stream.emit(&updates)?;
        self.boxes.fill(Box3d::default());
        Ok(())
    }

    fn update(&self, sid: SurfaceId, sub_resource: u32, image_box: Box3d, has_sm4: bool) -> Command {
        if has_sm4 && self.upstream.profile.uses_dx_update() {
            return Command::DxUpdateSubresource { sid, sub_resource, image_box };
        }
        let num_mips = self.cache.num_mips();
        Command::UpdateGbImage {
            sid,
            face: sub_resource / num_mips,
            mipmap: sub_resource % num_mips,
            image_box,
        }
    }
}

/// Has the device write its copy to guest memory, for the CPU to read (`vmw_surface_clean`).
pub fn clean(sid: SurfaceId, stream: &mut CommandStream) -> Result<()> {
    stream.emit(&[Command::ReadbackGbSurface { sid }])
}

/// Extends one axis of a box, `low` and `length`, to cover `range` as well; a length of 0 covers nothing.
///
/// Upstream (`shrinks`) leaves the length alone unless the end grows, so that the end moves with `low`. Ends
/// below their starts, which its other defects bring about, wrap as they do there.
fn extend(low: &mut u32, length: &mut u32, range: Range<u32>, shrinks: bool) {
    let high = low.wrapping_add(*length);
    let empty = *length == 0;
    if empty || *low > range.start {
        *low = range.start;
    }
    if shrinks {
        if high < range.end {
            *length = range.end.wrapping_sub(*low);
        }
    } else {
        let high = if empty { range.end } else { high.max(range.end) };
        *length = high.wrapping_sub(*low);
    }
}

/// Offsets in a buffer fit a box, as its backing size fits a `u32`.
fn buffer_offset(offset: u64) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
