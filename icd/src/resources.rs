//! Buffers and images: what the device may do with them, and where they are bound.

#![allow(unsafe_code, reason = "reads create infos")]

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ash::vk;
use kmd_sim::uapi::{Access, BoId, ResourceId};

use crate::chain;

type BufferUsage = vk::BufferUsageFlags;
type ImageUsage = vk::ImageUsageFlags;

/// Uses of a buffer in which no command writes it. Any other use may.
const READ_ONLY_BUFFER: BufferUsage = BufferUsage::from_raw(
    BufferUsage::TRANSFER_SRC.as_raw()
        | BufferUsage::UNIFORM_BUFFER.as_raw()
        | BufferUsage::UNIFORM_TEXEL_BUFFER.as_raw()
        | BufferUsage::INDEX_BUFFER.as_raw()
        | BufferUsage::VERTEX_BUFFER.as_raw()
        | BufferUsage::INDIRECT_BUFFER.as_raw()
        | BufferUsage::CONDITIONAL_RENDERING_EXT.as_raw()
        | BufferUsage::ACCELERATION_STRUCTURE_BUILD_INPUT_READ_ONLY_KHR.as_raw(),
);

/// Uses of a linear image in which no command writes it.
const READ_ONLY_IMAGE: ImageUsage =
    ImageUsage::from_raw(ImageUsage::TRANSFER_SRC.as_raw() | ImageUsage::SAMPLED.as_raw());

/// State of a `VkBuffer` or `VkImage`.
#[derive(Debug)]
pub struct Resource {
    /// Its name on buffer objects.
    pub id: ResourceId,
    /// What the device may do with it.
    pub access: Access,
    /// Bytes of a buffer; zero for an image.
    pub size: u64,
    /// Whether its memory is bound at submission.
    pub sparse: bool,
    /// What an image is like.
    pub image: Option<ImageKind>,
    bound: Mutex<Bound>,
    /// Whether the application knows its device address.
    addressed: AtomicBool,
}

/// What is to be known of an image.
#[derive(Clone, Copy, Debug)]
pub struct ImageKind {
    /// Its format.
    pub format: vk::Format,
    /// Whether its bytes have a layout that the CPU can know.
    pub linear: bool,
    /// Whether its planes are bound one by one.
    pub disjoint: bool,
    /// Levels.
    pub levels: u32,
    /// Layers.
    pub layers: u32,
}

/// Where a resource is bound.
#[derive(Debug, Default)]
struct Bound {
    /// To any memory, also such that has no buffer object.
    is_bound: bool,
    places: Vec<Place>,
}

/// A part of a buffer object under a resource: its first bytes, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The object.
    pub bo: BoId,
    /// The bytes.
    pub bytes: Range<u64>,
}

impl Resource {
    /// An unbound resource.
    pub fn new(id: ResourceId, access: Access) -> Self {
        Self {
            id,
            access,
            size: 0,
            sparse: false,
            image: None,
            bound: Mutex::default(),
            addressed: AtomicBool::new(false),
        }
    }

    /// A buffer.
    ///
    /// # Safety
    /// The chain of `info` is valid.
    pub unsafe fn buffer(id: ResourceId, info: &vk::BufferCreateInfo<'_>) -> Self {
        // SAFETY: the caller's.
        let access = unsafe { buffer_access(info) };
        let sparse = info.flags.contains(vk::BufferCreateFlags::SPARSE_BINDING);
        Self { size: info.size, sparse, ..Self::new(id, access) }
    }

    /// An image.
    pub fn image(id: ResourceId, info: &vk::ImageCreateInfo<'_>) -> Self {
        let image = ImageKind {
            format: info.format,
            linear: info.tiling == vk::ImageTiling::LINEAR,
            disjoint: info.flags.contains(vk::ImageCreateFlags::DISJOINT),
            levels: info.mip_levels,
            layers: info.array_layers,
        };
        let sparse = info.flags.contains(vk::ImageCreateFlags::SPARSE_BINDING);
        Self { image: Some(image), sparse, ..Self::new(id, image_access(info)) }
    }

    /// Remembers that its device address was given out; `false` when it was before.
    pub fn give_address(&self) -> bool {
        !self.addressed.swap(true, Ordering::Relaxed)
    }

    /// Whether its device address was given out.
    pub fn is_addressed(&self) -> bool {
        self.addressed.load(Ordering::Relaxed)
    }

    /// Remembers that it is bound to memory that has no buffer object.
    pub fn bound_elsewhere(&self) {
        self.lock().is_bound = true;
    }

    /// Remembers a binding; `false` when it was known.
    pub fn bound(&self, place: Place) -> bool {
        let mut bound = self.lock();
        bound.is_bound = true;
        let new = !bound.places.contains(&place);
        if new {
            bound.places.push(place);
        }
        new
    }

    /// Whether it was bound to any memory.
    pub fn is_bound(&self) -> bool {
        self.lock().is_bound
    }

    /// Whether it is bound to buffer objects.
    pub fn has_places(&self) -> bool {
        !self.lock().places.is_empty()
    }

    /// Calls `op` with each place it is bound at.
    pub fn for_each_place(&self, op: impl FnMut(&Place)) {
        self.lock().places.iter().for_each(op);
    }

    /// All places, which are forgotten.
    pub fn take_places(&self) -> Vec<Place> {
        std::mem::take(&mut self.lock().places)
    }

    fn lock(&self) -> MutexGuard<'_, Bound> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the device may do with a buffer.
///
/// # Safety
/// The chain of `info` is valid.
pub unsafe fn buffer_access(info: &vk::BufferCreateInfo<'_>) -> Access {
    // SAFETY: the caller's.
    let usage2 = unsafe { chain::find::<vk::BufferUsageFlags2CreateInfoKHR<'_>>(info.p_next) };
    // The low bits of both mean the same; a use that only the new ones can name may write.
    let usage = usage2.map_or(u64::from(info.usage.as_raw()), |usage2| usage2.usage.as_raw());
    let reads = usage & !u64::from(READ_ONLY_BUFFER.as_raw()) == 0;
    // Sparse memory may be bound elsewhere, too.
    if reads && info.flags.is_empty() { Access::ReadOnly } else { Access::Dirtying }
}

/// What the device may do with an image. The bytes of an optimal image are opaque: a layout transition may
/// write any of them.
pub fn image_access(info: &vk::ImageCreateInfo<'_>) -> Access {
    let reads = READ_ONLY_IMAGE.contains(info.usage) && info.tiling == vk::ImageTiling::LINEAR;
    if reads && info.flags.is_empty() { Access::ReadOnly } else { Access::Dirtying }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_buffer_that_no_command_can_write_is_read_only() {
        let access = |usage| {
            // SAFETY: no chain.
            unsafe { buffer_access(&vk::BufferCreateInfo::default().usage(usage)) }
        };
        assert_eq!(access(BufferUsage::VERTEX_BUFFER | BufferUsage::TRANSFER_SRC), Access::ReadOnly);
        for usage in [
            BufferUsage::TRANSFER_DST,
            BufferUsage::STORAGE_BUFFER,
            BufferUsage::STORAGE_TEXEL_BUFFER,
            BufferUsage::SHADER_DEVICE_ADDRESS,
            BufferUsage::TRANSFORM_FEEDBACK_BUFFER_EXT,
        ] {
            assert_eq!(access(usage | BufferUsage::VERTEX_BUFFER), Access::Dirtying);
        }
    }

    #[test]
    fn the_wider_usage_flags_override() {
        let mut wide =
            vk::BufferUsageFlags2CreateInfoKHR::default().usage(vk::BufferUsageFlags2KHR::STORAGE_BUFFER);
        let info = vk::BufferCreateInfo::default().usage(BufferUsage::VERTEX_BUFFER).push_next(&mut wide);
        // SAFETY: a valid chain of one.
        assert_eq!(unsafe { buffer_access(&info) }, Access::Dirtying);
    }
}
