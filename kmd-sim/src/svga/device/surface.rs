//! The device's copies of surfaces.
//!
//! They are laid out like guest memory: samples (sheets), layers, levels, slices, rows of blocks; a planar
//! image is one plane after the other.

use std::ops::Range;

use super::Executed;
use super::memory::MobMemory;
use crate::svga::format::SurfaceFormat;
use crate::svga::surface_layout::{SurfaceCache, SurfaceMetadata};
use crate::svga::types::{Box3d, ImageId, Size3d, SurfaceFlags};
use crate::sync::Arc;

/// What the device leaves of contents that it may forget: nothing that anyone wrote.
const FORGOTTEN: u8 = 0xDB;
const OUT_OF_RANGE: &str = "outside of the surface";

/// A surface.
#[derive(Debug)]
pub struct HostSurface {
    layout: SurfaceCache,
    format: SurfaceFormat,
    /// How often all layers lie in memory, one after the other.
    sheets: u64,
    bytes: Vec<u8>,
    memory: Option<(Arc<dyn MobMemory>, u64)>,
}

impl HostSurface {
    /// A surface of zeros without guest memory.
    pub fn new(metadata: &SurfaceMetadata) -> Result<Self, &'static str> {
        let layout = SurfaceCache::setup(metadata).map_err(|_| "a surface without layout")?;
        let sampled = metadata.flags.contains(SurfaceFlags::MULTISAMPLE);
        Ok(Self {
            sheets: if sampled { layout.num_samples().into() } else { 1 },
            bytes: vec![0; metadata.backing_size() as usize],
            format: metadata.format,
            layout,
            memory: None,
        })
    }

    /// All its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All its bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The layout.
    pub fn layout(&self) -> &SurfaceCache {
        &self.layout
    }

    /// The number of a subresource.
    pub fn sub(&self, image: ImageId) -> Result<u32, &'static str> {
        let sub = self.layout.num_mips().saturating_mul(image.face).saturating_add(image.mipmap);
        let exists = image.mipmap < self.layout.num_mips() && sub < self.layout.num_subres();
        exists.then_some(sub).ok_or(OUT_OF_RANGE)
    }

    /// Gives it guest memory, or takes it away.
    pub fn bind(&mut self, memory: Option<Arc<dyn MobMemory>>, offset: u64) {
        self.memory = memory.map(|memory| (memory, offset));
    }

    /// Uploads part of a subresource.
    pub fn update(&mut self, sub: u32, image_box: Box3d) -> Executed {
        for run in self.runs(sub, image_box)? {
            self.update_run(run)?;
        }
        Ok(())
    }

    /// Uploads everything.
    pub fn update_all(&mut self) -> Executed {
        self.update_run(0..self.bytes.len())
    }

    fn update_run(&mut self, run: Range<usize>) -> Executed {
        let (memory, offset) = self.memory()?;
        memory.read(offset + run.start as u64, &mut self.bytes[run]);
        Ok(())
    }

    /// Writes a subresource to guest memory.
    pub fn readback(&self, sub: u32) -> Executed {
        let (memory, offset) = self.memory()?;
        for run in self.sub_runs(sub)? {
            memory.write(offset + run.start as u64, &self.bytes[run]);
        }
        Ok(())
    }

    /// Writes everything to guest memory.
    pub fn readback_all(&self) -> Executed {
        let (memory, offset) = self.memory()?;
        memory.write(offset, &self.bytes);
        Ok(())
    }

    /// Forgets everything.
    pub fn invalidate_all(&mut self) {
        self.bytes.fill(FORGOTTEN);
    }

    /// Forgets a subresource.
    pub fn invalidate(&mut self, sub: u32) -> Executed {
        for run in self.sub_runs(sub)? {
            self.bytes[run].fill(FORGOTTEN);
        }
        Ok(())
    }

    /// The bytes of part of a subresource, row after row.
    pub fn get(&self, sub: u32, image_box: Box3d) -> Result<Vec<u8>, &'static str> {
        let runs = self.runs(sub, image_box)?;
        Ok(runs.into_iter().flat_map(|run| self.bytes[run].iter().copied()).collect())
    }

    /// Replaces the bytes of part of a subresource, row after row.
    pub fn put(&mut self, sub: u32, image_box: Box3d, texels: &[u8]) -> Executed {
        let runs = self.runs(sub, image_box)?;
        if runs.iter().map(ExactSizeIterator::len).sum::<usize>() != texels.len() {
            return Err("a copy between different sizes");
        }
        let mut rest = texels;
        for run in runs {
            let (row, behind) = rest.split_at(run.len());
            self.bytes[run].copy_from_slice(row);
            rest = behind;
        }
        Ok(())
    }

    /// The texels of `from`, stretched or shrunk to the size of `to`.
    pub fn sample(&self, sub: u32, from: Box3d, to: Box3d) -> Result<Vec<u8>, &'static str> {
        let mut texels = Vec::new();
        let scale = |at: u32, to: u32, from: u32| at * from / to.max(1);
        for z in 0..to.d {
            for y in 0..to.h {
                for x in 0..to.w {
                    let texel = Box3d::new(
                        from.x + scale(x, to.w, from.w),
                        from.y + scale(y, to.h, from.h),
                        from.z + scale(z, to.d, from.d),
                        1,
                        1,
                        1,
                    );
                    texels.extend(self.get(sub, texel)?);
                }
            }
        }
        Ok(texels)
    }

    /// Makes the lower levels from the first, each from the one above.
    pub fn generate_mips(&mut self) -> Executed {
        let levels = self.layout.num_mips();
        for sub in (0..self.layout.num_subres()).filter(|sub| sub % levels != 0) {
            let (above, here) = (self.layout.mip(sub - 1).size, self.layout.mip(sub).size);
            let texels = self.sample(sub - 1, Box3d::full(above), Box3d::full(here))?;
            self.put(sub, Box3d::full(here), &texels)?;
        }
        Ok(())
    }

    /// Bytes of a row of a box.
    pub fn row_bytes(&self, image_box: Box3d) -> usize {
        let desc = self.layout.desc();
        (image_box.w.div_ceil(desc.block.width) * desc.bytes_per_block) as usize
    }

    /// Rows of blocks in a slice of a box.
    pub fn rows(&self, image_box: Box3d) -> usize {
        image_box.h.div_ceil(self.layout.desc().block.height) as usize
    }

    fn memory(&self) -> Result<(Arc<dyn MobMemory>, u64), &'static str> {
        let (memory, offset) = self.memory.as_ref().ok_or("a surface without guest memory")?;
        if offset + self.bytes.len() as u64 > memory.size() {
            return Err("guest memory that is too small");
        }
        Ok((Arc::clone(memory), *offset))
    }

    /// Where the bytes of a subresource lie: as one piece in each sheet.
    fn sub_runs(&self, sub: u32) -> Result<Vec<Range<usize>>, &'static str> {
        if sub >= self.layout.num_subres() {
            return Err(OUT_OF_RANGE);
        }
        let len = self.layout.mip(sub).bytes;
        Ok(self.starts(sub).map(|start| clip(start..start + len)).collect())
    }

    /// Where the bytes of part of a subresource lie, row after row.
    fn runs(&self, sub: u32, part: Box3d) -> Result<Vec<Range<usize>>, &'static str> {
        if sub >= self.layout.num_subres() {
            return Err(OUT_OF_RANGE);
        }
        let size = self.layout.mip(sub).size;
        let within = |start: u32, len: u32, size: u32| start.checked_add(len).is_some_and(|end| end <= size);
        if !within(part.x, part.w, size.width)
            || !within(part.y, part.h, size.height)
            || !within(part.z, part.d, size.depth)
        {
            return Err(OUT_OF_RANGE);
        }
        let rows = match self.format {
            SurfaceFormat::NV12 => nv12_rows(size, part),
            SurfaceFormat::YV12 => yv12_rows(size, part),
            _ => self.block_rows(size, part),
        };
        let place = |start: u64| rows.iter().map(move |row| clip(start + row.start..start + row.end));
        Ok(self.starts(sub).flat_map(place).collect())
    }

    /// Where a subresource starts, in each sheet.
    fn starts(&self, sub: u32) -> impl Iterator<Item = u64> + use<> {
        let levels = self.layout.num_mips();
        let before: u64 = (0..sub % levels).map(|level| self.layout.mip(level).bytes).sum();
        let start = u64::from(sub / levels) * self.layout.mip_chain_bytes() + before;
        let sheet = u64::from(self.layout.num_subres() / levels) * self.layout.mip_chain_bytes();
        (0..self.sheets).map(move |at| at * sheet + start)
    }

    fn block_rows(&self, size: Size3d, part: Box3d) -> Vec<Range<u64>> {
        let desc = self.layout.desc();
        let bytes = u64::from(desc.bytes_per_block);
        let stride = u64::from(size.width.div_ceil(desc.block.width)) * bytes;
        let slice = stride * u64::from(size.height.div_ceil(desc.block.height));
        let x = u64::from(part.x / desc.block.width) * bytes;
        let end = u64::from((part.x + part.w).div_ceil(desc.block.width)) * bytes;
        let ys = part.y / desc.block.height..(part.y + part.h).div_ceil(desc.block.height);
        let row = |z: u32, y: u32| u64::from(z) * slice + u64::from(y) * stride;
        (part.z..part.z + part.d)
            .flat_map(|z| ys.clone().map(move |y| row(z, y)))
            .map(|row| row + x..row + end)
            .collect()
    }
}

/// Luma, then both chromas in pairs, each of two by two texels.
fn nv12_rows(size: Size3d, part: Box3d) -> Vec<Range<u64>> {
    let pitch = even(size.width);
    let luma = plane(0, pitch, part.x..part.x + part.w, part.y..part.y + part.h);
    let pairs = plane(
        pitch * even(size.height),
        pitch,
        part.x / 2 * 2..(part.x + part.w).div_ceil(2) * 2,
        part.y / 2..(part.y + part.h).div_ceil(2),
    );
    luma.chain(pairs).collect()
}

/// Luma, then one chroma, then the other, each of two by two texels.
fn yv12_rows(size: Size3d, part: Box3d) -> Vec<Range<u64>> {
    let pitch = even(size.width);
    let luma = plane(0, pitch, part.x..part.x + part.w, part.y..part.y + part.h);
    let area = pitch * even(size.height);
    let chroma = |start| {
        let xs = part.x / 2..(part.x + part.w).div_ceil(2);
        plane(start, pitch / 2, xs, part.y / 2..(part.y + part.h).div_ceil(2))
    };
    luma.chain(chroma(area)).chain(chroma(area + area / 4)).collect()
}

/// Rows of a plane of one byte a texel.
fn plane(start: u64, pitch: u64, xs: Range<u32>, ys: Range<u32>) -> impl Iterator<Item = Range<u64>> {
    let row = move |y: u32| start + u64::from(y) * pitch;
    ys.map(move |y| row(y) + u64::from(xs.start)..row(y) + u64::from(xs.end))
}

fn even(length: u32) -> u64 {
    u64::from(length.div_ceil(2)) * 2
}

fn clip(range: Range<u64>) -> Range<usize> {
    let index = |at: u64| usize::try_from(at).expect("64-bit platform");
    index(range.start)..index(range.end)
}
