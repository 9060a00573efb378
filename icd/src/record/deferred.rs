//! Pipelines whose creation was deferred: their handles are there when the operation is complete.

#![allow(unsafe_code, reason = "reads handles where the host writes them")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ash::vk;

use super::pipeline::PipelineWrites;
use crate::handles::HandleMap;

/// The creations under way.
#[derive(Debug, Default)]
pub struct Deferred(Mutex<HashMap<vk::DeferredOperationKHR, Creation>>);

#[derive(Debug)]
struct Creation {
    /// Where the host writes the handles; the application keeps it until it learns that they are there.
    handles: AtomicPtr<vk::Pipeline>,
    writes: Vec<PipelineWrites>,
}

impl Deferred {
    /// Remembers a creation: of as many pipelines as there are writes.
    pub fn add(
        &self,
        operation: vk::DeferredOperationKHR,
        handles: *mut vk::Pipeline,
        writes: Vec<PipelineWrites>,
    ) {
        self.lock().insert(operation, Creation { handles: AtomicPtr::new(handles), writes });
    }

    /// Forgets an operation.
    pub fn remove(&self, operation: vk::DeferredOperationKHR) {
        self.lock().remove(&operation);
    }

    /// Enters the pipelines of an operation, once.
    ///
    /// # Safety
    /// The operation is complete and succeeded, and the caller has not told the application yet.
    pub unsafe fn complete(
        &self,
        operation: vk::DeferredOperationKHR,
        pipelines: &HandleMap<vk::Pipeline, PipelineWrites>,
    ) {
        // Locked until all are entered: who else learns of completion meanwhile returns after that.
        let mut creations = self.lock();
        let Some(Creation { handles, writes }) = creations.remove(&operation) else { return };
        let handles = handles.load(Ordering::Relaxed);
        for (index, writes) in writes.into_iter().enumerate() {
            // SAFETY: written by the host, and not given back yet.
            let pipeline = unsafe { *handles.add(index) };
            if pipeline != vk::Pipeline::null() {
                pipelines.insert(pipeline, Arc::new(writes));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<vk::DeferredOperationKHR, Creation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ash::vk::Handle;

    #[test]
    fn pipelines_are_entered_once_and_null_ones_not_at_all() {
        let (deferred, pipelines) = (Deferred::default(), HandleMap::new());
        let operation = vk::DeferredOperationKHR::from_raw(1);
        let mut handles = [vk::Pipeline::null(); 2];
        let out = handles.as_mut_ptr();
        deferred.add(operation, out, vec![PipelineWrites::default(), PipelineWrites::unknown()]);
        // SAFETY: the second of two.
        unsafe { out.add(1).write(vk::Pipeline::from_raw(7)) };
        // SAFETY: the handles are there.
        unsafe { deferred.complete(operation, &pipelines) };
        assert_eq!(pipelines.get(vk::Pipeline::from_raw(7)).as_deref(), Some(&PipelineWrites::unknown()));
        assert!(pipelines.get(vk::Pipeline::null()).is_none());

        pipelines.remove(vk::Pipeline::from_raw(7));
        // SAFETY: as above.
        unsafe { deferred.complete(operation, &pipelines) };
        assert!(pipelines.get(vk::Pipeline::from_raw(7)).is_none());
    }
}
