//! `pNext` chains.

use std::ffi::c_void;

use ash::vk;

/// The structure of type `T` in a chain.
///
/// # Safety
/// The chain is valid, and nothing else refers to its structures while the result lives.
pub unsafe fn find_mut<'a, T: vk::TaggedStructure>(next: *mut c_void) -> Option<&'a mut T> {
    let mut at = next.cast::<vk::BaseOutStructure<'_>>();
    while !at.is_null() {
        // SAFETY: every structure of a chain begins so.
        let base = unsafe { &*at };
        if base.s_type == T::STRUCTURE_TYPE {
            // SAFETY: the tag says that it is a `T`.
            return Some(unsafe { &mut *at.cast::<T>() });
        }
        at = base.p_next.cast();
    }
    None
}

/// As above, of a chain that is only read.
///
/// # Safety
/// The chain is valid, and nobody changes it while the result lives.
pub unsafe fn find<'a, T: vk::TaggedStructure>(next: *const c_void) -> Option<&'a T> {
    // SAFETY: the caller's; nothing is written through the result.
    unsafe { find_mut::<T>(next.cast_mut()) }.map(|found| &*found)
}

/// The elements of a caller's array; null or a count of zero is empty.
///
/// # Safety
/// `pointer` is null or valid for `count` elements for `'a`.
pub unsafe fn slice<'a, T>(pointer: *const T, count: u32) -> &'a [T] {
    if pointer.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts(pointer, count as usize) }
}

/// Gives a list by the two-call idiom.
///
/// # Safety
/// `count` is valid, and `out` null or valid for `*count` elements.
pub unsafe fn fill<T: Copy>(list: &[T], count: *mut u32, out: *mut T) -> vk::Result {
    let len = u32::try_from(list.len()).unwrap_or(u32::MAX);
    if out.is_null() {
        // SAFETY: the caller's.
        unsafe { *count = len };
        return vk::Result::SUCCESS;
    }
    // SAFETY: the caller's.
    let copied = len.min(unsafe { *count });
    // SAFETY: the caller's; the lists are apart.
    unsafe { std::ptr::copy_nonoverlapping(list.as_ptr(), out, copied as usize) };
    // SAFETY: the caller's.
    unsafe { *count = copied };
    if copied < len { vk::Result::INCOMPLETE } else { vk::Result::SUCCESS }
}
