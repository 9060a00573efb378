//! What tells that the device is done, and what holds it back.

use crate::Gpu;
use ash::vk;

/// How long any wait may take before it counts as failed: far longer than all of the work, on any machine.
const LIMIT_NS: u64 = 120_000_000_000;

/// Calls `done` until it says so.
///
/// # Panics
///
/// If it does not within the limit of all waits.
pub fn poll(what: &str, mut done: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(u128::from(LIMIT_NS) > start.elapsed().as_nanos(), "polled {what} in vain");
        std::thread::yield_now();
    }
}

/// A fence.
#[derive(Debug)]
pub struct Fence {
    gpu: Gpu,
    raw: vk::Fence,
}

impl Fence {
    /// Makes an unsignalled fence.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn new(gpu: &Gpu) -> Self {
        // SAFETY: The structure is whole.
        let raw = unsafe { gpu.raw().create_fence(&vk::FenceCreateInfo::default(), None) };
        Self { gpu: gpu.clone(), raw: raw.expect("vkCreateFence") }
    }

    /// Returns Vulkan's handle.
    pub fn raw(&self) -> vk::Fence {
        self.raw
    }

    /// Waits by vkWaitForFences.
    pub fn wait(&self) {
        Self::wait_for(&self.gpu, &[self], true);
    }

    /// Waits for all fences, or any of them, by one vkWaitForFences.
    ///
    /// # Panics
    ///
    /// If Vulkan fails, or the limit of all waits passes.
    pub fn wait_for(gpu: &Gpu, fences: &[&Self], all: bool) {
        let raw: Vec<_> = fences.iter().map(|fence| fence.raw).collect();
        // SAFETY: The fences are alive.
        unsafe { gpu.raw().wait_for_fences(&raw, all, LIMIT_NS) }.expect("vkWaitForFences");
    }

    /// Returns whether vkGetFenceStatus says that the fence is signalled.
    ///
    /// # Panics
    ///
    /// If Vulkan fails.
    pub fn is_signalled(&self) -> bool {
        // SAFETY: The fence is alive.
        unsafe { self.gpu.raw().get_fence_status(self.raw) }.expect("vkGetFenceStatus")
    }

    /// Polls vkGetFenceStatus until the fence is signalled.
    pub fn poll(&self) {
        poll("a fence", || self.is_signalled());
    }

    /// Makes the fence unsignalled.
    ///
    /// # Panics
    ///
    /// If Vulkan fails.
    pub fn reset(&self) {
        // SAFETY: The fence is alive and by the harness's contract no work will signal it.
        unsafe { self.gpu.raw().reset_fences(&[self.raw]) }.expect("vkResetFences");
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: By the harness's contract no work will signal the fence.
            unsafe { self.gpu.raw().destroy_fence(self.raw, None) };
        }
    }
}

/// A binary semaphore.
#[derive(Debug)]
pub struct Semaphore {
    gpu: Gpu,
    raw: vk::Semaphore,
}

impl Semaphore {
    /// Makes an unsignalled semaphore.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn new(gpu: &Gpu) -> Self {
        Self::with(gpu, &vk::SemaphoreCreateInfo::default())
    }

    fn with(gpu: &Gpu, info: &vk::SemaphoreCreateInfo<'_>) -> Self {
        // SAFETY: The structure is whole.
        let raw = unsafe { gpu.raw().create_semaphore(info, None) }.expect("vkCreateSemaphore");
        Self { gpu: gpu.clone(), raw }
    }

    /// Returns Vulkan's handle.
    pub fn raw(&self) -> vk::Semaphore {
        self.raw
    }
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: By the harness's contract no work uses the semaphore.
            unsafe { self.gpu.raw().destroy_semaphore(self.raw, None) };
        }
    }
}

/// A timeline semaphore.
#[derive(Debug)]
pub struct Timeline {
    semaphore: Semaphore,
}

impl Timeline {
    /// Makes a timeline at value 0.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn new(gpu: &Gpu) -> Self {
        let mut kind = vk::SemaphoreTypeCreateInfo::default()
            .semaphore_type(vk::SemaphoreType::TIMELINE)
            .initial_value(0);
        Self { semaphore: Semaphore::with(gpu, &vk::SemaphoreCreateInfo::default().push_next(&mut kind)) }
    }

    /// Returns Vulkan's handle.
    pub fn raw(&self) -> vk::Semaphore {
        self.semaphore.raw
    }

    /// Sets the value by vkSignalSemaphore.
    ///
    /// # Panics
    ///
    /// If Vulkan fails.
    pub fn signal(&self, value: u64) {
        let gpu = &self.semaphore.gpu;
        let info = vk::SemaphoreSignalInfo::default().semaphore(self.raw()).value(value);
        let result = match &gpu.0.timeline_khr {
            // SAFETY: The semaphore is alive; by the harness's contract the value grows.
            Some(khr) => unsafe { khr.signal_semaphore(&info) },
            // SAFETY: As above, and the device is of version 1.2.
            None => unsafe { gpu.raw().signal_semaphore(&info) },
        };
        result.expect("vkSignalSemaphore");
    }

    /// Waits for a value by vkWaitSemaphores.
    ///
    /// # Panics
    ///
    /// If Vulkan fails, or the limit of all waits passes.
    pub fn wait(&self, value: u64) {
        let gpu = &self.semaphore.gpu;
        let (semaphores, values) = ([self.raw()], [value]);
        let info = vk::SemaphoreWaitInfo::default().semaphores(&semaphores).values(&values);
        let result = match &gpu.0.timeline_khr {
            // SAFETY: The semaphore is alive.
            Some(khr) => unsafe { khr.wait_semaphores(&info, LIMIT_NS) },
            // SAFETY: As above, and the device is of version 1.2.
            None => unsafe { gpu.raw().wait_semaphores(&info, LIMIT_NS) },
        };
        result.expect("vkWaitSemaphores");
    }

    /// Returns the value by vkGetSemaphoreCounterValue.
    ///
    /// # Panics
    ///
    /// If Vulkan fails.
    pub fn value(&self) -> u64 {
        let gpu = &self.semaphore.gpu;
        let result = match &gpu.0.timeline_khr {
            // SAFETY: The semaphore is alive.
            Some(khr) => unsafe { khr.get_semaphore_counter_value(self.raw()) },
            // SAFETY: As above, and the device is of version 1.2.
            None => unsafe { gpu.raw().get_semaphore_counter_value(self.raw()) },
        };
        result.expect("vkGetSemaphoreCounterValue")
    }

    /// Polls vkGetSemaphoreCounterValue until the value is reached.
    pub fn poll(&self, value: u64) {
        poll("a timeline", || self.value() >= value);
    }
}

/// An event.
#[derive(Debug)]
pub struct Event {
    gpu: Gpu,
    raw: vk::Event,
}

impl Event {
    /// Makes an event that is not set.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn new(gpu: &Gpu) -> Self {
        // SAFETY: The structure is whole.
        let raw = unsafe { gpu.raw().create_event(&vk::EventCreateInfo::default(), None) };
        Self { gpu: gpu.clone(), raw: raw.expect("vkCreateEvent") }
    }

    /// Returns Vulkan's handle.
    pub fn raw(&self) -> vk::Event {
        self.raw
    }

    /// Sets the event by vkSetEvent.
    ///
    /// # Panics
    ///
    /// If Vulkan fails.
    pub fn set(&self) {
        // SAFETY: The event is alive.
        unsafe { self.gpu.raw().set_event(self.raw) }.expect("vkSetEvent");
    }

    /// Returns whether vkGetEventStatus says that the event is set.
    ///
    /// # Panics
    ///
    /// If Vulkan fails.
    pub fn is_set(&self) -> bool {
        // SAFETY: The event is alive.
        unsafe { self.gpu.raw().get_event_status(self.raw) }.expect("vkGetEventStatus")
    }

    /// Polls vkGetEventStatus until the event is set.
    pub fn poll(&self) {
        poll("an event", || self.is_set());
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: By the harness's contract no work uses the event.
            unsafe { self.gpu.raw().destroy_event(self.raw, None) };
        }
    }
}

/// A pool of queries.
#[derive(Debug)]
pub struct Queries {
    gpu: Gpu,
    raw: vk::QueryPool,
    count: u32,
}

impl Queries {
    /// Makes `count` timestamp queries.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn timestamps(gpu: &Gpu, count: u32) -> Self {
        Self::new(gpu, vk::QueryType::TIMESTAMP, count)
    }

    /// Makes `count` occlusion queries.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn occlusion(gpu: &Gpu, count: u32) -> Self {
        Self::new(gpu, vk::QueryType::OCCLUSION, count)
    }

    fn new(gpu: &Gpu, kind: vk::QueryType, count: u32) -> Self {
        let info = vk::QueryPoolCreateInfo::default().query_type(kind).query_count(count);
        // SAFETY: The structure is whole.
        let raw = unsafe { gpu.raw().create_query_pool(&info, None) }.expect("vkCreateQueryPool");
        Self { gpu: gpu.clone(), raw, count }
    }

    /// Returns Vulkan's handle.
    pub fn raw(&self) -> vk::QueryPool {
        self.raw
    }

    /// Returns the number of queries.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Returns whether there are no queries; Vulkan knows no such pools.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Waits for the result of a query by vkGetQueryPoolResults with the WAIT flag.
    ///
    /// # Panics
    ///
    /// If Vulkan fails.
    pub fn wait(&self, query: u32) -> u64 {
        let mut results = [0_u64];
        let flags = vk::QueryResultFlags::TYPE_64 | vk::QueryResultFlags::WAIT;
        // SAFETY: The pool is alive and `results` has room.
        unsafe { self.gpu.raw().get_query_pool_results(self.raw, query, &mut results, flags) }
            .expect("vkGetQueryPoolResults");
        results[0]
    }

    /// Returns the number by which the device tells that the result of a query is there: any but zero.
    ///
    /// # Panics
    ///
    /// If Vulkan fails.
    pub fn availability(&self, query: u32) -> u64 {
        let mut results = [[0_u64; 2]];
        let flags = vk::QueryResultFlags::WAIT | vk::QueryResultFlags::WITH_AVAILABILITY;
        let flags = flags | vk::QueryResultFlags::TYPE_64;
        // SAFETY: The pool is alive and `results` has room for result and availability.
        unsafe { self.gpu.raw().get_query_pool_results(self.raw, query, &mut results, flags) }
            .expect("vkGetQueryPoolResults");
        results[0][1]
    }

    /// Returns the result of a query if vkGetQueryPoolResults says that it is available.
    ///
    /// # Panics
    ///
    /// If Vulkan fails.
    pub fn get(&self, query: u32) -> Option<u64> {
        let mut results = [[0_u64; 2]];
        let flags = vk::QueryResultFlags::TYPE_64 | vk::QueryResultFlags::WITH_AVAILABILITY;
        // SAFETY: The pool is alive and `results` has room for result and availability.
        let answer = unsafe { self.gpu.raw().get_query_pool_results(self.raw, query, &mut results, flags) };
        match answer {
            Ok(()) => (results[0][1] != 0).then_some(results[0][0]),
            Err(vk::Result::NOT_READY) => None,
            Err(error) => panic!("vkGetQueryPoolResults: {error}"),
        }
    }

    /// Polls vkGetQueryPoolResults until a query is available.
    pub fn poll(&self, query: u32) {
        poll("a query", || self.get(query).is_some());
    }
}

impl Drop for Queries {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: By the harness's contract no work uses the pool.
            unsafe { self.gpu.raw().destroy_query_pool(self.raw, None) };
        }
    }
}
