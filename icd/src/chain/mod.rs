//! `pNext` chains: finding structures, and copying a chain to change it.
//!
//! An application's structures are never written, but for those it passes to be filled. Where the host
//! must get something else, it gets a copy of the chain; structures that neither the specification nor
//! any extension we let pass knows are left out of it, as drivers must ignore them.
//!
//! # Safety
//! Chains are valid by the application's valid usage: each node starts with a structure type and a pointer
//! to the next, and has the size its type says.

#![allow(unsafe_code, reason = "door to pNext chains")]

mod generated;

use std::ffi::c_void;

use ash::vk;
use ash::vk::{BaseInStructure, BaseOutStructure, TaggedStructure};

/// The first structure of type `T` in a chain of inputs.
///
/// # Safety
/// `p_next` is a valid chain for `'a`.
pub unsafe fn find<'a, T: TaggedStructure>(p_next: *const c_void) -> Option<&'a T> {
    let mut node = p_next.cast::<BaseInStructure<'_>>();
    // SAFETY: null or a valid node.
    while let Some(base) = unsafe { node.as_ref() } {
        if base.s_type == T::STRUCTURE_TYPE {
            // SAFETY: the type says that it is a `T`.
            return Some(unsafe { &*node.cast::<T>() });
        }
        node = base.p_next;
    }
    None
}

/// The first structure of type `T` in a chain of outputs.
///
/// # Safety
/// `p_next` is a valid chain for `'a`, to be written, and nobody else accesses it.
pub unsafe fn find_mut<'a, T: TaggedStructure>(p_next: *mut c_void) -> Option<&'a mut T> {
    let mut node = p_next.cast::<BaseOutStructure<'_>>();
    // SAFETY: null or a valid node.
    while let Some(base) = unsafe { node.as_ref() } {
        if base.s_type == T::STRUCTURE_TYPE {
            // SAFETY: the type says that it is a `T`, and the chain is ours to write.
            return Some(unsafe { &mut *node.cast::<T>() });
        }
        node = base.p_next;
    }
    None
}

/// A copy of a chain.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Each node in memory aligned to 8 bytes, as all Vulkan structures ask for at most.
    nodes: Vec<Box<[u64]>>,
}

impl Chain {
    /// Copies the nodes of a chain of `VkDeviceCreateInfo`.
    ///
    /// # Safety
    /// `p_next` is a valid chain.
    pub unsafe fn of_device_create_info(p_next: *const c_void) -> Self {
        // SAFETY: the caller's.
        unsafe { Self::copy(p_next, generated::size_in_device_create_info) }
    }

    /// Copies the nodes of a chain of `VkSubmitInfo`, but for those that count semaphores: that of timeline
    /// values is made anew with the semaphores, and that of device groups says nothing where each device is a
    /// group.
    ///
    /// # Safety
    /// `p_next` is a valid chain.
    pub unsafe fn of_submit_info(p_next: *const c_void) -> Self {
        let size = |s_type| match s_type {
            vk::ProtectedSubmitInfo::STRUCTURE_TYPE => Some(size_of::<vk::ProtectedSubmitInfo<'_>>()),
            vk::PerformanceQuerySubmitInfoKHR::STRUCTURE_TYPE => {
                Some(size_of::<vk::PerformanceQuerySubmitInfoKHR<'_>>())
            }
            _ => None,
        };
        // SAFETY: the caller's.
        unsafe { Self::copy(p_next, size) }
    }

    /// Copies the nodes that a chain of `VkSubmitInfo2` may have as well as one of `VkSubmitInfo`.
    ///
    /// # Safety
    /// `p_next` is a valid chain.
    pub unsafe fn of_submit_info2(p_next: *const c_void) -> Self {
        let is_known = |s_type| s_type == vk::PerformanceQuerySubmitInfoKHR::STRUCTURE_TYPE;
        let size = size_of::<vk::PerformanceQuerySubmitInfoKHR<'_>>();
        // SAFETY: the caller's.
        unsafe { Self::copy(p_next, |s_type| is_known(s_type).then_some(size)) }
    }

    /// Copies the nodes of a chain of `VkMemoryAllocateInfo` that do not tie the memory to a resource or to
    /// others.
    ///
    /// # Safety
    /// `p_next` is a valid chain.
    pub unsafe fn of_memory_allocate_info(p_next: *const c_void) -> Self {
        let size = |s_type| match s_type {
            vk::MemoryAllocateFlagsInfo::STRUCTURE_TYPE => Some(size_of::<vk::MemoryAllocateFlagsInfo<'_>>()),
            vk::MemoryPriorityAllocateInfoEXT::STRUCTURE_TYPE => {
                Some(size_of::<vk::MemoryPriorityAllocateInfoEXT<'_>>())
            }
            vk::MemoryOpaqueCaptureAddressAllocateInfo::STRUCTURE_TYPE => {
                Some(size_of::<vk::MemoryOpaqueCaptureAddressAllocateInfo<'_>>())
            }
            _ => None,
        };
        // SAFETY: the caller's.
        unsafe { Self::copy(p_next, size) }
    }

    unsafe fn copy(p_next: *const c_void, size_of: impl Fn(vk::StructureType) -> Option<usize>) -> Self {
        let mut chain = Self::default();
        let mut node = p_next.cast::<BaseInStructure<'_>>();
        // SAFETY: null or a valid node of the caller's chain.
        while let Some(base) = unsafe { node.as_ref() } {
            if let Some(size) = size_of(base.s_type) {
                // SAFETY: a node of this type has this size.
                unsafe { chain.push_bytes(node.cast(), size) };
            }
            node = base.p_next;
        }
        chain
    }

    /// Appends a structure.
    pub fn push<T: TaggedStructure + Copy>(&mut self, structure: &T) {
        // SAFETY: a reference is valid for the size of its type.
        unsafe { self.push_bytes(std::ptr::from_ref(structure).cast(), size_of::<T>()) };
    }

    /// The structure of type `T`, to be changed.
    pub fn get_mut<T: TaggedStructure>(&mut self) -> Option<&mut T> {
        for node in &mut self.nodes {
            let base = node.as_mut_ptr().cast::<BaseOutStructure<'_>>();
            // SAFETY: every node starts with these two members.
            if unsafe { (*base).s_type } == T::STRUCTURE_TYPE {
                // SAFETY: the type says that it is a `T`, the node has its size, and is borrowed exclusively.
                return Some(unsafe { &mut *base.cast::<T>() });
            }
        }
        None
    }

    /// Takes out structures of type `T`.
    pub fn remove<T: TaggedStructure>(&mut self) {
        self.nodes.retain(|node| {
            // SAFETY: every node starts with its type.
            let s_type = unsafe { (*node.as_ptr().cast::<BaseInStructure<'_>>()).s_type };
            s_type != T::STRUCTURE_TYPE
        });
    }

    /// Links the nodes and returns the first; valid until the chain is changed or dropped.
    pub fn head(&mut self) -> *const c_void {
        let mut next = std::ptr::null_mut::<BaseOutStructure<'_>>();
        for node in self.nodes.iter_mut().rev() {
            let base = node.as_mut_ptr().cast::<BaseOutStructure<'_>>();
            // SAFETY: every node starts with these two members.
            unsafe { (*base).p_next = next };
            next = base;
        }
        next.cast()
    }

    /// # Safety
    /// `structure` is valid for `size` bytes, which start with a structure type and a pointer.
    unsafe fn push_bytes(&mut self, structure: *const u8, size: usize) {
        let mut node = vec![0u64; size.div_ceil(8)].into_boxed_slice();
        // SAFETY: both are valid for `size` bytes, and the second is new.
        unsafe { std::ptr::copy_nonoverlapping(structure, node.as_mut_ptr().cast::<u8>(), size) };
        self.nodes.push(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_chain_keeps_known_structures_and_leaves_the_original_alone() {
        let mut unknown = vk::PhysicalDeviceVulkan11Features {
            s_type: vk::StructureType::from_raw(0x7fff_0000),
            ..Default::default()
        };
        let mut timeline = vk::PhysicalDeviceTimelineSemaphoreFeatures {
            p_next: std::ptr::from_mut(&mut unknown).cast(),
            ..Default::default()
        };
        let mut first = vk::PhysicalDeviceFeatures2::default();
        first.features.robust_buffer_access = vk::TRUE;
        first.p_next = std::ptr::from_mut(&mut timeline).cast();

        // SAFETY: a valid chain of three.
        let mut copy = unsafe { Chain::of_device_create_info(std::ptr::from_ref(&first).cast()) };
        copy.get_mut::<vk::PhysicalDeviceTimelineSemaphoreFeatures<'_>>().unwrap().timeline_semaphore =
            vk::TRUE;
        copy.push(&vk::PhysicalDeviceMapMemoryPlacedFeaturesEXT::default().memory_map_placed(true));
        copy.remove::<vk::PhysicalDeviceMapMemoryPlacedFeaturesEXT<'_>>();
        let head = copy.head();

        // SAFETY: `copy` lives.
        let features = unsafe { find::<vk::PhysicalDeviceFeatures2<'_>>(head) }.unwrap();
        assert_eq!(features.features.robust_buffer_access, vk::TRUE);
        // SAFETY: as above.
        let copied = unsafe { find::<vk::PhysicalDeviceTimelineSemaphoreFeatures<'_>>(head) }.unwrap();
        assert_eq!(copied.timeline_semaphore, vk::TRUE);
        assert!(copied.p_next.is_null(), "the unknown structure is left out");
        assert_eq!(timeline.timeline_semaphore, vk::FALSE);
    }
}
