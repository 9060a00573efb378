//! Objects that stand for the dispatchable handles of devices, queues and command buffers.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ash::vk::{self, Handle};

/// What the loader wants to find in the first word, before it puts its own there.
const MAGIC: usize = 0x01CD_C0DE;

/// What a handle that was handed out points to. Lives for ever: a tool for tests may keep some bytes a
/// handle.
#[repr(C)]
#[derive(Debug)]
pub struct Object {
    /// The loader's.
    word: usize,
    /// The handle below; [`crate::stub`] knows where it lies.
    below: u64,
}

/// One object a handle, since the loader and Lockstep compare them. A handle that is used again after its end
/// has the object it had: it stands for no more than the handle.
static OBJECTS: Mutex<Option<HashMap<u64, usize>>> = Mutex::new(None);

/// The handle to hand out for one of the layer's.
pub fn wrap<H: Handle + Copy>(below: H) -> H {
    let mut objects = OBJECTS.lock().unwrap_or_else(PoisonError::into_inner);
    let object = *objects.get_or_insert_default().entry(below.as_raw()).or_insert_with(|| {
        std::ptr::from_mut(Box::leak(Box::new(Object { word: MAGIC, below: below.as_raw() })))
            .expose_provenance()
    });
    H::from_raw(object as u64)
}

/// What a dispatchable handle points to.
fn pointer<T>(handle: impl Handle) -> *mut T {
    std::ptr::with_exposed_provenance_mut(usize::try_from(handle.as_raw()).unwrap_or(0))
}

/// The layer's handle behind one that was handed out; null is null.
///
/// # Safety
/// `handle` is null or from [`wrap`].
pub unsafe fn unwrap<H: Handle + Copy>(handle: H) -> H {
    let object = pointer::<Object>(handle).cast_const();
    // SAFETY: the caller's; objects live for ever.
    unsafe { object.as_ref() }.map_or(handle, |object| H::from_raw(object.below))
}

/// The layer's handles behind an array.
///
/// # Safety
/// As [`unwrap`] for each of `count` handles at `handles`.
pub unsafe fn unwrap_all(handles: *const vk::CommandBuffer, count: u32) -> Vec<vk::CommandBuffer> {
    // SAFETY: the caller's.
    (0..count as usize).map(|at| unsafe { unwrap(*handles.add(at)) }).collect()
}

/// Has the layer find what it knows of a device by another handle of it, as the loader would.
///
/// # Safety
/// Both are alive, dispatchable, and the layer's own.
pub unsafe fn give_key<H: Handle, G: Handle>(from: H, to: G) {
    // SAFETY: dispatchable handles point to a word that belongs to the loader.
    unsafe { *pointer::<usize>(to) = *pointer::<usize>(from) };
}

/// Gives an instance or a device a key of its own.
///
/// # Safety
/// It is alive, dispatchable, and the driver's own.
pub unsafe fn give_new_key<H: Handle>(to: H) {
    // SAFETY: as above.
    unsafe { *pointer::<usize>(to) = std::ptr::from_mut(Box::leak(Box::new(0_usize))).expose_provenance() };
}
