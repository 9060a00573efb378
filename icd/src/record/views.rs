//! Views: which part of which resource they show.

use ash::vk;

/// State of a `VkImageView`.
#[derive(Clone, Copy, Debug)]
pub struct ImageView {
    /// The image.
    pub image: vk::Image,
    /// Its part, as the application gave it: counts may be `VK_REMAINING_*`, and the layers of a view of a
    /// three-dimensional image may be slices of its depth.
    pub range: vk::ImageSubresourceRange,
}

/// State of a `VkBufferView`.
#[derive(Clone, Copy, Debug)]
pub struct BufferView {
    /// The buffer.
    pub buffer: vk::Buffer,
    /// Bytes from its start.
    pub offset: u64,
    /// Bytes, or `VK_WHOLE_SIZE`.
    pub size: u64,
}
