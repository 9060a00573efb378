//! From a command buffer to its recording.
//!
//! Recording threads must not wait for each other, so the way there takes no lock: a table of slots by a hash
//! of the handle, each with a pointer to a recorder that is never freed, only used again. A recorder says
//! whose it is, and a command buffer that is being recorded can by valid usage neither be freed nor recorded
//! elsewhere: so what answers to its handle is its own. Two handles may share a slot and push each other out;
//! the map behind, which has a lock, then answers.

#![allow(unsafe_code, reason = "door to the recordings: they rely on external synchronisation")]

use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::fmt;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock};

use ash::vk;
use ash::vk::Handle;

use super::recorded::Recorded;
use super::recording::Recording;
use crate::device::DeviceState;

const SLOTS: usize = 4096;

/// Whether anything is recorded: from the first map of coherent memory on.
static ACTIVE: AtomicBool = AtomicBool::new(false);
static TABLE: [AtomicPtr<Recorder>; SLOTS] = [const { AtomicPtr::new(null_mut()) }; SLOTS];
/// All command buffers.
static ALL: LazyLock<RwLock<HashMap<vk::CommandBuffer, &'static Recorder>>> = LazyLock::new(RwLock::default);
/// Recorders of command buffers that are gone.
static FREE: Mutex<Vec<&'static Recorder>> = Mutex::new(Vec::new());

/// The recorder of a command buffer.
pub struct Recorder {
    /// Whose it is; zero when it is nobody's.
    handle: AtomicU64,
    recording: UnsafeCell<Recording>,
    finished: Mutex<Finished>,
}

#[derive(Default)]
struct Finished {
    device: Option<Arc<DeviceState>>,
    recorded: Option<Arc<Recorded>>,
}

// SAFETY: `recording` is only reached through `recording()`, whose callers have the command buffer to
// themselves.
unsafe impl Sync for Recorder {}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// Begins to record: to be called before the first map of coherent memory returns.
pub fn activate() {
    ACTIVE.store(true, Ordering::Release);
}

/// Whether command buffers are recorded.
#[inline]
pub fn is_active() -> bool {
    ACTIVE.load(Ordering::Relaxed)
}

#[inline]
fn slot(handle: u64) -> &'static AtomicPtr<Recorder> {
    // Handles are addresses of like objects: the low bits are all alike.
    let hash = handle.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOTS.trailing_zeros());
    &TABLE[usize::try_from(hash).unwrap_or(0) % SLOTS]
}

#[inline]
fn find(commands: vk::CommandBuffer) -> Option<&'static Recorder> {
    let handle = commands.as_raw();
    let slot = slot(handle);
    // SAFETY: null, or a recorder, which is never freed.
    if let Some(recorder) = unsafe { slot.load(Ordering::Acquire).as_ref() }
        && recorder.handle.load(Ordering::Relaxed) == handle
    {
        return Some(recorder);
    }
    find_in_all(commands, slot)
}

#[cold]
fn find_in_all(commands: vk::CommandBuffer, slot: &AtomicPtr<Recorder>) -> Option<&'static Recorder> {
    let recorder = *ALL.read().unwrap_or_else(PoisonError::into_inner).get(&commands)?;
    slot.store(std::ptr::from_ref(recorder).cast_mut(), Ordering::Release);
    Some(recorder)
}

/// The recording of a command buffer, if it is recorded.
///
/// # Safety
/// The caller has the command buffer to itself while the reference lives: valid usage demands it of every
/// command that records.
#[inline]
pub unsafe fn recording<'a>(commands: vk::CommandBuffer) -> Option<&'a mut Recording> {
    if !is_active() {
        return None;
    }
    let recorder = find(commands)?;
    // SAFETY: the caller's.
    let recording = unsafe { &mut *recorder.recording.get() };
    recording.is_on().then_some(recording)
}

/// Begins the recording of a command buffer. What was recorded before is forgotten.
///
/// # Safety
/// As for [`recording`].
pub unsafe fn begin(commands: vk::CommandBuffer) {
    if !is_active() {
        return;
    }
    let Some(recorder) = find(commands) else { return };
    let mut finished = recorder.finished.lock().unwrap_or_else(PoisonError::into_inner);
    let last = finished.recorded.take();
    if let Some(device) = &finished.device {
        // SAFETY: the caller's.
        unsafe { &mut *recorder.recording.get() }.begin(device, last);
    }
}

/// Ends the recording of a command buffer.
///
/// # Safety
/// As for [`recording`].
pub unsafe fn end(commands: vk::CommandBuffer) {
    // SAFETY: the caller's.
    let Some(recording) = (unsafe { recording(commands) }) else { return };
    let Some(recorder) = find(commands) else { return };
    let recorded = recording.end();
    recorder.finished.lock().unwrap_or_else(PoisonError::into_inner).recorded = recorded;
}

/// What a command buffer that is executable may write; `None` when nobody knows.
pub fn recorded(commands: vk::CommandBuffer) -> Option<Arc<Recorded>> {
    if !is_active() {
        return None;
    }
    find(commands)?.finished.lock().unwrap_or_else(PoisonError::into_inner).recorded.clone()
}

/// The device of a command buffer.
pub fn device(commands: vk::CommandBuffer) -> Option<Arc<DeviceState>> {
    find(commands)?.finished.lock().unwrap_or_else(PoisonError::into_inner).device.clone()
}

/// Enters command buffers that were allocated.
pub fn enter(device: &Arc<DeviceState>, buffers: &[vk::CommandBuffer]) {
    let mut all = ALL.write().unwrap_or_else(PoisonError::into_inner);
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    for buffer in buffers {
        let recorder = free.pop().unwrap_or_else(|| {
            Box::leak(Box::new(Recorder {
                handle: AtomicU64::new(0),
                recording: UnsafeCell::default(),
                finished: Mutex::default(),
            }))
        });
        *recorder.finished.lock().unwrap_or_else(PoisonError::into_inner) =
            Finished { device: Some(Arc::clone(device)), recorded: None };
        recorder.handle.store(buffer.as_raw(), Ordering::Release);
        all.insert(*buffer, recorder);
    }
}

/// Takes out command buffers that are about to be freed.
pub fn remove(buffers: &[vk::CommandBuffer]) {
    let mut all = ALL.write().unwrap_or_else(PoisonError::into_inner);
    let gone = buffers.iter().filter_map(|buffer| all.remove(buffer)).collect::<Vec<_>>();
    drop(all);
    for recorder in &gone {
        recorder.handle.store(0, Ordering::Release);
        // SAFETY: the command buffer is being freed: nobody else has it, and nobody finds it any more.
        unsafe { *recorder.recording.get() = Recording::default() };
        *recorder.finished.lock().unwrap_or_else(PoisonError::into_inner) = Finished::default();
    }
    FREE.lock().unwrap_or_else(PoisonError::into_inner).extend(gone);
}
