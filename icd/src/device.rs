//! Devices, their queues and memory objects.

#![allow(unsafe_code, reason = "asks the host driver")]

use std::ffi::CStr;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ash::vk;
use kmd_sim::uapi::{BoId, ContextId, Device, ResourceId, Writes};

use crate::chain;
use crate::extensions::MAP_MEMORY2;
use crate::handles::HandleMap;
use crate::host::commands::Commands;
use crate::host::later::LaterFns;
use crate::instance::PhysicalDevice;
use crate::memory_types::Kind;
use crate::record::passes::{CommandPools, Framebuffer, QueryPool, RenderPass};
use crate::record::{Objects, lookup};
use crate::request::{enabled_extensions, families, host_request};
use crate::resources::{Place, Resource};
use crate::submission::Signals;
use crate::transport::dma::Dma;
use crate::transport::{Host, vk_result};

/// State of a `VkDevice`.
pub struct DeviceState {
    /// The handle, the host's own.
    pub handle: vk::Device,
    /// Its physical device.
    pub physical: Arc<PhysicalDevice>,
    /// The host's functions.
    pub fns: ash::Device,
    /// The host's functions of later versions.
    pub(crate) later: LaterFns,
    /// The host's recording functions.
    pub commands: &'static Commands,
    /// The simulated kernel driver.
    pub km: Device<Host>,
    /// Memory objects.
    pub memories: HandleMap<vk::DeviceMemory, Memory>,
    /// Buffers.
    pub buffers: HandleMap<vk::Buffer, Resource>,
    /// Images.
    pub images: HandleMap<vk::Image, Resource>,
    /// What shaders write through.
    pub objects: Objects,
    /// Render passes.
    pub render_passes: HandleMap<vk::RenderPass, RenderPass>,
    /// Framebuffers.
    pub framebuffers: HandleMap<vk::Framebuffer, Framebuffer>,
    /// Query pools.
    pub query_pools: HandleMap<vk::QueryPool, QueryPool>,
    /// Command pools.
    pub command_pools: CommandPools,
    /// Whether memory may be bound to resources by a queue, behind waits of its own.
    pub sparse: bool,
    /// Whether a batch can reach what is bound after its submission: by an address it reads while it runs, or
    /// by sparse binding.
    reaches_later: bool,
    /// How many objects of emulated memory there are.
    pub emulated: AtomicU64,
    /// Whether the application enabled `VK_KHR_map_memory2`.
    pub map_memory2: bool,
    /// Whether it may ask for addresses to be kept when it unmaps (`memoryUnmapReserve`).
    pub unmap_reserve: bool,
    next_resource: AtomicU64,
    timelines: Mutex<Vec<vk::Semaphore>>,
}

impl fmt::Debug for DeviceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceState").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// State of a `VkDeviceMemory`.
#[derive(Debug)]
pub struct Memory {
    /// What stands behind it.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// The buffer object of explicit and emulated memory.
    pub bo: Option<BoId>,
    /// Where the current mapping ends: `VK_WHOLE_SIZE` in flushes means up to here.
    pub mapped_end: AtomicU64,
    /// What the application calls it.
    name: Mutex<String>,
}

impl Memory {
    /// Memory that is not mapped and has no name.
    pub fn new(kind: Kind, size: u64, bo: Option<BoId>) -> Self {
        Self { kind, size, bo, mapped_end: AtomicU64::new(0), name: Mutex::default() }
    }

    /// Gives it a name, for messages.
    pub fn set_name(&self, name: String) {
        *self.name.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.lock().unwrap_or_else(PoisonError::into_inner);
        if !name.is_empty() {
            write!(f, "{name:?}, ")?;
        }
        write!(f, "{} bytes", self.size)
    }
}

/// State of a `VkQueue`.
#[derive(Debug)]
pub struct QueueState {
    /// The handle, the host's own.
    pub handle: vk::Queue,
    /// Its device.
    pub device: Arc<DeviceState>,
    /// Its family.
    pub family: u32,
    /// Made at the first submission that needs it.
    context: Mutex<Option<(ContextId, vk::Semaphore)>>,
}

impl DeviceState {
    /// Creates a device on the host, with what Lockstep needs besides what the application asks for.
    ///
    /// # Safety
    /// `info` is valid, and so is the allocator.
    pub unsafe fn create(
        physical: &Arc<PhysicalDevice>,
        info: &vk::DeviceCreateInfo<'_>,
        allocator: *const vk::AllocationCallbacks<'_>,
    ) -> Result<Self, vk::Result> {
        // SAFETY: the caller's.
        let mut request = unsafe { host_request(physical, info) }?;
        let pointers: Vec<_> = request.extensions.iter().map(|name| name.as_ptr()).collect();
        let host_info = vk::DeviceCreateInfo {
            p_next: request.chain.head(),
            enabled_extension_count: u32::try_from(pointers.len()).unwrap_or(u32::MAX),
            pp_enabled_extension_names: pointers.as_ptr(),
            ..*info
        };
        let instance = &physical.instance;
        let mut handle = vk::Device::null();
        // SAFETY: the application's arguments, with a chain and names that `request` keeps.
        unsafe {
            (instance.fns.fp_v1_0().create_device)(
                physical.handle,
                &raw const host_info,
                allocator,
                &raw mut handle,
            )
        }
        .result()?;
        // SAFETY: the device is alive.
        let fns = unsafe { ash::Device::load(instance.fns.fp_v1_0(), handle) };
        let get = |name: &CStr| {
            // SAFETY: as above.
            unsafe { instance.fns.get_device_proc_addr(handle, name.as_ptr()) }
        };
        let later = LaterFns::load(get);
        let commands = Commands::load(get).announce();
        let Some(counter) = later.get_semaphore_counter_value else {
            log::error!("the host driver has no vkGetSemaphoreCounterValue");
            // SAFETY: nobody has seen the device.
            unsafe { (fns.fp_v1_0().destroy_device)(handle, allocator) };
            return Err(vk::Result::ERROR_INITIALIZATION_FAILED);
        };
        let dma = later.for_dma().filter(|_| physical.types.needs_dma()).map(|later| {
            // SAFETY: the caller's.
            let families = unsafe { families(info) };
            Dma::new(fns.clone(), later, physical.host_memory_properties(), families, physical.driver_id())
        });
        let host = Host::new(handle, fns.fp_v1_0().map_memory, counter, dma);
        // SAFETY: the caller's.
        let map_memory2 = unsafe { enabled_extensions(info) }.any(|name| name == MAP_MEMORY2);
        // SAFETY: the caller's.
        let placed = unsafe { chain::find::<vk::PhysicalDeviceMapMemoryPlacedFeaturesEXT<'_>>(info.p_next) };
        Ok(Self {
            handle,
            physical: Arc::clone(physical),
            km: Device::new(
                host,
                physical.types.guest_bytes(),
                instance.config.tracker,
                instance.config.readback,
            )
            .following(instance.config.policy),
            fns,
            later,
            commands,
            memories: HandleMap::new(),
            buffers: HandleMap::new(),
            images: HandleMap::new(),
            objects: Objects::default(),
            render_passes: HandleMap::new(),
            framebuffers: HandleMap::new(),
            query_pools: HandleMap::new(),
            command_pools: CommandPools::default(),
            sparse: request.sparse,
            reaches_later: request.sparse || request.addresses,
            emulated: AtomicU64::new(0),
            map_memory2,
            unmap_reserve: placed.is_some_and(|features| features.memory_unmap_reserve == vk::TRUE),
            next_resource: AtomicU64::new(0),
            timelines: Mutex::default(),
        })
    }

    /// The transport of memory that is not mapped, if there is such.
    pub fn dma(&self) -> Option<&Dma> {
        self.km.host().dma.as_ref()
    }

    /// Destroys what Lockstep made on the host device.
    pub fn destroy_own_objects(&self) {
        if let Some(dma) = self.dma() {
            dma.destroy();
        }
        for timeline in self.timelines.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // SAFETY: made by us, and the device is idle by valid usage.
            unsafe { self.fns.destroy_semaphore(timeline, None) };
        }
    }

    /// Records that a resource was bound at `bytes` of a memory object.
    pub fn bind(&self, resource: Option<Arc<Resource>>, memory: vk::DeviceMemory, bytes: Range<u64>) {
        let Some(resource) = resource else { return };
        // Memory of a swapchain, or such that has no guest pages.
        let Some((memory, bo)) =
            self.memories.get(memory).and_then(|memory| Some((Arc::clone(&memory), memory.bo?)))
        else {
            return resource.bound_elsewhere();
        };
        let bytes = bytes.start..bytes.end.min(memory.size);
        let start = bytes.start;
        if resource.bound(Place { bo, bytes: bytes.clone() }) {
            self.km.resource_attach(bo, resource.id, bytes, resource.access);
            if resource.is_addressed() {
                self.km.resource_give_address(bo, resource.id, start);
            }
        }
    }

    /// Records that sparse memory was bound to a resource: all of it may be written through it.
    pub fn bind_sparse(&self, resource: Option<Arc<Resource>>, memory: vk::DeviceMemory) {
        let end = self.memories.get(memory).map_or(0, |memory| memory.size);
        self.bind(resource, memory, 0..end);
    }

    /// Records that a resource is gone.
    pub fn unbind(&self, resource: Option<Arc<Resource>>) {
        let Some(resource) = resource else { return };
        for place in resource.take_places() {
            self.km.resource_detach(place.bo, resource.id, place.bytes.start);
        }
    }

    /// Records that the application knows the address of a buffer: shaders may write it without a descriptor.
    pub fn address_given(&self, buffer: vk::Buffer) {
        let Some(resource) = self.buffers.get(buffer) else { return };
        if resource.give_address() {
            resource.for_each_place(|place| {
                self.km.resource_give_address(place.bo, resource.id, place.bytes.start);
            });
        }
    }

    /// Makes the device writes of completed batches visible to the CPU.
    pub fn retire_completed(&self) -> Result<(), vk::Result> {
        self.km.retire_completed().map_err(vk_result)
    }

    /// Makes device writes visible to the CPU as far as they have got, for reports from the middle of a
    /// batch.
    pub fn pull_in_flight(&self) -> Result<(), vk::Result> {
        match self.dma() {
            Some(dma) => dma.wait_in_flight().and_then(|()| self.retire_completed()),
            None => {
                self.km.pull_in_flight();
                Ok(())
            }
        }
    }

    /// Makes the CPU's writes visible to the device.
    pub fn flush(&self) -> Result<(), vk::Result> {
        self.km.flush().map_err(vk_result)
    }

    /// A name for a new resource.
    pub fn new_resource_id(&self) -> ResourceId {
        ResourceId(self.next_resource.fetch_add(1, Ordering::Relaxed))
    }

    /// A timeline of Lockstep's own.
    pub fn create_timeline(&self) -> Result<vk::Semaphore, vk::Result> {
        let mut timeline = vk::SemaphoreTypeCreateInfo::default().semaphore_type(vk::SemaphoreType::TIMELINE);
        let info = vk::SemaphoreCreateInfo::default().push_next(&mut timeline);
        // SAFETY: the device is alive, and timeline semaphores are enabled.
        let semaphore = unsafe { self.fns.create_semaphore(&info, None) }?;
        self.timelines.lock().unwrap_or_else(PoisonError::into_inner).push(semaphore);
        Ok(semaphore)
    }
}

impl QueueState {
    /// State of a queue the host gave out.
    pub fn new(handle: vk::Queue, family: u32, device: Arc<DeviceState>) -> Self {
        Self { handle, device, family, context: Mutex::new(None) }
    }

    /// What a batch with these command buffers may write; `None` when nobody needs to know of its completion.
    /// `gated`: it waits for a value of a timeline, which the CPU may be the one to signal.
    pub fn writes(
        &self,
        commands: impl ExactSizeIterator<Item = vk::CommandBuffer>,
        gated: bool,
    ) -> Option<Writes> {
        if commands.len() == 0 && !gated {
            return None;
        }
        let mut writes = Writes { gated: gated || self.device.sparse, ..Default::default() };
        for buffer in commands {
            match lookup::recorded(buffer) {
                Some(recorded) => recorded.collect(&self.device, &mut writes),
                None => writes.anything = true,
            }
        }
        // There is nothing to write, and will not be.
        writes.anything &= self.device.reaches_later || self.device.emulated.load(Ordering::Acquire) > 0;
        Some(writes)
    }

    /// Prepares a submission, given what each batch may write: flushes, and says what those must signal whose
    /// completion matters, if anything.
    pub fn prepare(&self, batches: Vec<Option<Writes>>) -> Result<Option<Signals>, vk::Result> {
        let numbered = batches.iter().map(Option::is_some).collect();
        let writes: Vec<_> = batches.into_iter().flatten().collect();
        if writes.is_empty() {
            self.device.flush()?;
            return Ok(None);
        }
        let (context, timeline) = self.context()?;
        let seqnos = self.device.km.execbuf(context, &writes).map_err(vk_result)?;
        Ok(seqnos.map(|seqnos| Signals { timeline, seqnos, numbered }))
    }

    /// Passes on what the host said to a submission that was prepared.
    pub fn submitted(&self, signals: &Signals, result: vk::Result) -> vk::Result {
        let context = *self.context.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some((context, _)), true) = (context, result != vk::Result::SUCCESS) {
            self.device.km.revoke(context, &signals.seqnos);
        }
        result
    }

    /// The context of the queue, and its timeline.
    pub fn context(&self) -> Result<(ContextId, vk::Semaphore), vk::Result> {
        let mut context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(context) = *context {
            return Ok(context);
        }
        let timeline = self.device.create_timeline()?;
        Ok(*context.insert((self.device.km.context_create(timeline), timeline)))
    }
}
