//! Where the subresources of a linear image lie (specification chapter "Resource Creation", "Image Layout").

#![allow(unsafe_code, reason = "asks the host driver")]

use std::ops::Range;

use ash::vk;

use crate::device::DeviceState;
use crate::formats;
use crate::resources::ImageKind;

/// Aspects that are asked for one by one.
const ASPECTS: [vk::ImageAspectFlags; 6] = [
    vk::ImageAspectFlags::COLOR,
    vk::ImageAspectFlags::DEPTH,
    vk::ImageAspectFlags::STENCIL,
    vk::ImageAspectFlags::PLANE_0,
    vk::ImageAspectFlags::PLANE_1,
    vk::ImageAspectFlags::PLANE_2,
];

impl DeviceState {
    /// The bytes of a part of a linear image, from where it is bound.
    pub fn linear_bytes(
        &self,
        image: vk::Image,
        kind: ImageKind,
        range: &vk::ImageSubresourceRange,
    ) -> Vec<Range<u64>> {
        // Several planes, or a format that nobody here knows.
        let plain = formats::block(kind.format, vk::ImageAspectFlags::COLOR).is_some();
        if range.aspect_mask.contains(vk::ImageAspectFlags::COLOR) && !plain {
            return std::iter::once(0..u64::MAX).collect();
        }
        let end = |first: u32, count: u32, all: u32| first.saturating_add(count).min(all);
        let levels = range.base_mip_level..end(range.base_mip_level, range.level_count, kind.levels);
        // Layers of a view of one may be slices of its depth.
        let layers = match kind.layers {
            1 => 0..1,
            all => range.base_array_layer..end(range.base_array_layer, range.layer_count, all),
        };
        let mut bytes = Vec::new();
        for aspect in ASPECTS.into_iter().filter(|aspect| range.aspect_mask.contains(*aspect)) {
            for mip_level in levels.clone() {
                for array_layer in layers.clone() {
                    let part = vk::ImageSubresource { aspect_mask: aspect, mip_level, array_layer };
                    // SAFETY: the image is alive, linear, and has this part by valid usage.
                    let layout = unsafe { self.fns.get_image_subresource_layout(image, part) };
                    bytes.push(layout.offset..layout.offset.saturating_add(layout.size));
                }
            }
        }
        bytes
    }
}
