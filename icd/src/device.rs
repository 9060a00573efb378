//! Devices, their queues and memory objects.

#![allow(unsafe_code, reason = "asks the host driver")]

use std::ffi::{CStr, CString};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ash::vk;
use kmd_sim::uapi::{BoId, ContextId, Device, ResourceId, Writes};

use crate::chain::{self, Chain};
use crate::entry::slice;
use crate::extensions::{self, MAP_MEMORY_PLACED, MAP_MEMORY2};
use crate::handles::HandleMap;
use crate::host::commands::Commands;
use crate::instance::{PhysicalDevice, load};
use crate::memory_types::Kind;
use crate::record::passes::{CommandPools, Framebuffer, QueryPool, RenderPass};
use crate::record::{Objects, lookup};
use crate::resources::{Place, Resource};
use crate::submission::Signals;
use crate::transport::dma::{Dma, Functions};
use crate::transport::{Host, vk_result};

/// Functions of versions after 1.0, under their own or an extension's name.
pub(crate) struct LaterFns {
    /// `vkBindBufferMemory2`
    pub bind_buffer_memory2: Option<vk::PFN_vkBindBufferMemory2>,
    /// `vkBindImageMemory2`
    pub bind_image_memory2: Option<vk::PFN_vkBindImageMemory2>,
    /// `vkGetBufferMemoryRequirements2`
    pub buffer_requirements2: Option<vk::PFN_vkGetBufferMemoryRequirements2>,
    /// `vkGetImageMemoryRequirements2`
    pub image_requirements2: Option<vk::PFN_vkGetImageMemoryRequirements2>,
    /// `vkGetDeviceBufferMemoryRequirements`
    pub device_buffer_requirements: Option<vk::PFN_vkGetDeviceBufferMemoryRequirements>,
    /// `vkGetDeviceImageMemoryRequirements`
    pub device_image_requirements: Option<vk::PFN_vkGetDeviceImageMemoryRequirements>,
    /// `vkGetBufferDeviceAddress`
    pub get_buffer_device_address: Option<vk::PFN_vkGetBufferDeviceAddress>,
    /// `vkCreateDescriptorUpdateTemplate`
    pub create_update_template: Option<vk::PFN_vkCreateDescriptorUpdateTemplate>,
    /// `vkDestroyDescriptorUpdateTemplate`
    pub destroy_update_template: Option<vk::PFN_vkDestroyDescriptorUpdateTemplate>,
    /// `vkUpdateDescriptorSetWithTemplate`
    pub update_with_template: Option<vk::PFN_vkUpdateDescriptorSetWithTemplate>,
    /// `vkCreateRayTracingPipelinesKHR`
    pub create_ray_tracing_pipelines: Option<vk::PFN_vkCreateRayTracingPipelinesKHR>,
    /// `vkDeferredOperationJoinKHR`
    pub deferred_operation_join: Option<vk::PFN_vkDeferredOperationJoinKHR>,
    /// `vkGetDeferredOperationResultKHR`
    pub deferred_operation_result: Option<vk::PFN_vkGetDeferredOperationResultKHR>,
    /// `vkDestroyDeferredOperationKHR`
    pub destroy_deferred_operation: Option<vk::PFN_vkDestroyDeferredOperationKHR>,
    /// `vkCreateShadersEXT`
    pub create_shaders: Option<vk::PFN_vkCreateShadersEXT>,
    /// `vkDestroyShaderEXT`
    pub destroy_shader: Option<vk::PFN_vkDestroyShaderEXT>,
    /// `vkCreateRenderPass2`
    pub create_render_pass2: Option<vk::PFN_vkCreateRenderPass2>,
    /// `vkGetDeviceQueue2`
    pub get_device_queue2: Option<vk::PFN_vkGetDeviceQueue2>,
    /// `vkQueueSubmit2`
    pub queue_submit2: Option<vk::PFN_vkQueueSubmit2>,
    /// `vkWaitSemaphores`
    pub wait_semaphores: Option<vk::PFN_vkWaitSemaphores>,
    /// `vkGetSemaphoreCounterValue`
    pub get_semaphore_counter_value: Option<vk::PFN_vkGetSemaphoreCounterValue>,
    /// `vkSignalSemaphore`
    pub signal_semaphore: Option<vk::PFN_vkSignalSemaphore>,
    /// `vkQueuePresentKHR`
    pub queue_present: Option<vk::PFN_vkQueuePresentKHR>,
    /// `vkAcquireNextImageKHR`
    pub acquire_next_image: Option<vk::PFN_vkAcquireNextImageKHR>,
    /// `vkAcquireNextImage2KHR`
    pub acquire_next_image2: Option<vk::PFN_vkAcquireNextImage2KHR>,
    /// `vkWaitForPresentKHR`
    pub wait_for_present: Option<vk::PFN_vkWaitForPresentKHR>,
    /// `vkSetDebugUtilsObjectNameEXT`
    pub set_debug_utils_object_name: Option<vk::PFN_vkSetDebugUtilsObjectNameEXT>,
    /// `vkDebugMarkerSetObjectNameEXT`
    pub debug_marker_set_object_name: Option<vk::PFN_vkDebugMarkerSetObjectNameEXT>,
    /// `vkGetMemoryFdPropertiesKHR`
    pub memory_fd_properties: Option<vk::PFN_vkGetMemoryFdPropertiesKHR>,
    /// `vkGetMemoryHostPointerPropertiesEXT`
    pub memory_host_pointer_properties: Option<vk::PFN_vkGetMemoryHostPointerPropertiesEXT>,
}

impl LaterFns {
    /// Those that transport `dma` needs.
    fn for_dma(&self) -> Option<Functions> {
        Some(Functions {
            queue_submit2: self.queue_submit2?,
            wait_semaphores: self.wait_semaphores?,
            get_semaphore_counter_value: self.get_semaphore_counter_value?,
        })
    }

    fn load(get: impl Fn(&CStr) -> vk::PFN_vkVoidFunction) -> Self {
        // SAFETY: each name stands for the type of its member.
        unsafe {
            Self {
                bind_buffer_memory2: load(&get, &[c"vkBindBufferMemory2", c"vkBindBufferMemory2KHR"]),
                bind_image_memory2: load(&get, &[c"vkBindImageMemory2", c"vkBindImageMemory2KHR"]),
                buffer_requirements2: load(
                    &get,
                    &[c"vkGetBufferMemoryRequirements2", c"vkGetBufferMemoryRequirements2KHR"],
                ),
                image_requirements2: load(
                    &get,
                    &[c"vkGetImageMemoryRequirements2", c"vkGetImageMemoryRequirements2KHR"],
                ),
                device_buffer_requirements: load(
                    &get,
                    &[c"vkGetDeviceBufferMemoryRequirements", c"vkGetDeviceBufferMemoryRequirementsKHR"],
                ),
                device_image_requirements: load(
                    &get,
                    &[c"vkGetDeviceImageMemoryRequirements", c"vkGetDeviceImageMemoryRequirementsKHR"],
                ),
                get_buffer_device_address: load(
                    &get,
                    &[
                        c"vkGetBufferDeviceAddress",
                        c"vkGetBufferDeviceAddressKHR",
                        c"vkGetBufferDeviceAddressEXT",
                    ],
                ),
                create_update_template: load(
                    &get,
                    &[c"vkCreateDescriptorUpdateTemplate", c"vkCreateDescriptorUpdateTemplateKHR"],
                ),
                destroy_update_template: load(
                    &get,
                    &[c"vkDestroyDescriptorUpdateTemplate", c"vkDestroyDescriptorUpdateTemplateKHR"],
                ),
                update_with_template: load(
                    &get,
                    &[c"vkUpdateDescriptorSetWithTemplate", c"vkUpdateDescriptorSetWithTemplateKHR"],
                ),
                create_ray_tracing_pipelines: load(&get, &[c"vkCreateRayTracingPipelinesKHR"]),
                deferred_operation_join: load(&get, &[c"vkDeferredOperationJoinKHR"]),
                deferred_operation_result: load(&get, &[c"vkGetDeferredOperationResultKHR"]),
                destroy_deferred_operation: load(&get, &[c"vkDestroyDeferredOperationKHR"]),
                create_shaders: load(&get, &[c"vkCreateShadersEXT"]),
                destroy_shader: load(&get, &[c"vkDestroyShaderEXT"]),
                create_render_pass2: load(&get, &[c"vkCreateRenderPass2", c"vkCreateRenderPass2KHR"]),
                get_device_queue2: load(&get, &[c"vkGetDeviceQueue2"]),
                queue_submit2: load(&get, &[c"vkQueueSubmit2", c"vkQueueSubmit2KHR"]),
                wait_semaphores: load(&get, &[c"vkWaitSemaphores", c"vkWaitSemaphoresKHR"]),
                get_semaphore_counter_value: load(
                    &get,
                    &[c"vkGetSemaphoreCounterValue", c"vkGetSemaphoreCounterValueKHR"],
                ),
                signal_semaphore: load(&get, &[c"vkSignalSemaphore", c"vkSignalSemaphoreKHR"]),
                queue_present: load(&get, &[c"vkQueuePresentKHR"]),
                acquire_next_image: load(&get, &[c"vkAcquireNextImageKHR"]),
                acquire_next_image2: load(&get, &[c"vkAcquireNextImage2KHR"]),
                wait_for_present: load(&get, &[c"vkWaitForPresentKHR"]),
                set_debug_utils_object_name: load(&get, &[c"vkSetDebugUtilsObjectNameEXT"]),
                debug_marker_set_object_name: load(&get, &[c"vkDebugMarkerSetObjectNameEXT"]),
                memory_fd_properties: load(&get, &[c"vkGetMemoryFdPropertiesKHR"]),
                memory_host_pointer_properties: load(&get, &[c"vkGetMemoryHostPointerPropertiesEXT"]),
            }
        }
    }
}

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
    /// Whether a batch can reach what is bound after its submission: by an address it reads while it runs, or by
    /// sparse binding.
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

/// What a device is created with, in place of what the application asks for.
struct HostRequest {
    chain: Chain,
    extensions: Vec<CString>,
    sparse: bool,
    addresses: bool,
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
            ),
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
    pub fn retire_completed(&self) {
        self.km.retire_completed();
    }

    /// Makes device writes visible to the CPU as far as they have got, for reports from the middle of a batch.
    pub fn pull_in_flight(&self) {
        match self.dma() {
            Some(dma) => {
                if let Err(error) = dma.wait_in_flight() {
                    log::debug!("waiting for batches in flight: {error}");
                }
                self.km.retire_completed();
            }
            None => self.km.pull_in_flight(),
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

/// The families of an application's queues.
///
/// # Safety
/// `info` is valid.
unsafe fn families(info: &vk::DeviceCreateInfo<'_>) -> Vec<u32> {
    // SAFETY: the caller's.
    let queues = unsafe { slice(info.p_queue_create_infos, info.queue_create_info_count) };
    let mut families: Vec<u32> = queues.iter().map(|queue| queue.queue_family_index).collect();
    families.sort_unstable();
    families.dedup();
    families
}

/// The extensions an application enables.
///
/// # Safety
/// `info` is valid.
unsafe fn enabled_extensions<'a>(info: &vk::DeviceCreateInfo<'a>) -> impl Iterator<Item = &'a CStr> {
    let (names, count) = (info.pp_enabled_extension_names, info.enabled_extension_count as usize);
    // SAFETY: `count` C strings by valid usage.
    (0..count).map(move |index| unsafe { CStr::from_ptr(*names.add(index)) })
}

/// What the host must be asked for: the application's wishes, and timeline semaphores.
///
/// # Safety
/// `info` is valid.
unsafe fn host_request(
    physical: &PhysicalDevice,
    info: &vk::DeviceCreateInfo<'_>,
) -> Result<HostRequest, vk::Result> {
    if !physical.types.has_emulated() {
        log::error!(
            "the host device has no memory that is both HOST_VISIBLE and HOST_COHERENT: choose another"
        );
        return Err(vk::Result::ERROR_INITIALIZATION_FAILED);
    }
    if let Err(error) = physical.instance.config.tracker.probe() {
        log::error!(
            "LOCKSTEP_TRACKER=uffd: {error}; needs Linux 6.7 or later and a sandbox that allows userfaultfd(2)"
        );
        return Err(vk::Result::ERROR_INITIALIZATION_FAILED);
    }
    let config = &physical.instance.config;
    if let Err(error) = config.readback.probe(config.tracker) {
        log::error!(
            "LOCKSTEP_READBACK=lazy: {error}; needs tracker uffd and the right to serve page faults of the kernel: \
             CAP_SYS_PTRACE, vm.unprivileged_userfaultfd=1 or access to /dev/userfaultfd"
        );
        return Err(vk::Result::ERROR_INITIALIZATION_FAILED);
    }
    let host = host_extensions(physical)?;
    let passed = extensions::device(host.clone());
    let named = |list: &[vk::ExtensionProperties], name: &CStr| {
        list.iter().any(|extension| extension.extension_name_as_c_str() == Ok(name))
    };
    // SAFETY: the caller's.
    let asked = unsafe { enabled_extensions(info) };
    let mut names: Vec<CString> = asked.map(CStr::to_owned).collect();
    if let Some(unknown) = names.iter().find(|name| !named(&passed, name)) {
        log::error!("the extension {} is not offered", unknown.to_string_lossy());
        return Err(vk::Result::ERROR_EXTENSION_NOT_PRESENT);
    }
    // Ours alone, where the host does not have it.
    names.retain(|name| named(&host, name) && **name != *MAP_MEMORY_PLACED);

    if !has_timeline_semaphores(physical) {
        log::error!("the host device has no timeline semaphores: choose another, or a newer driver");
        return Err(vk::Result::ERROR_INITIALIZATION_FAILED);
    }
    let timeline_extension = ash::khr::timeline_semaphore::NAME;
    let is_core = physical.effective_version() >= vk::API_VERSION_1_2;
    if !is_core && named(&host, timeline_extension) && !names.iter().any(|name| **name == *timeline_extension)
    {
        names.push(timeline_extension.to_owned());
    }
    // SAFETY: the caller's.
    let mut chain = unsafe { Chain::of_device_create_info(info.p_next) };
    chain.remove::<vk::PhysicalDeviceMapMemoryPlacedFeaturesEXT<'_>>();
    if let Some(features) = chain.get_mut::<vk::PhysicalDeviceVulkan12Features<'_>>() {
        features.timeline_semaphore = vk::TRUE;
    } else if let Some(features) = chain.get_mut::<vk::PhysicalDeviceTimelineSemaphoreFeatures<'_>>() {
        features.timeline_semaphore = vk::TRUE;
    } else {
        chain.push(&vk::PhysicalDeviceTimelineSemaphoreFeatures::default().timeline_semaphore(true));
    }
    let structures = chain.get_mut::<vk::PhysicalDeviceAccelerationStructureFeaturesKHR<'_>>();
    if structures.is_some_and(|features| features.acceleration_structure_host_commands == vk::TRUE) {
        log::error!("the feature accelerationStructureHostCommands is not offered");
        return Err(vk::Result::ERROR_FEATURE_NOT_PRESENT);
    }
    if physical.types.needs_dma() {
        enable_synchronization2(physical, &host, &mut names, &mut chain)?;
    }
    // SAFETY: valid usage.
    let features = unsafe { info.p_enabled_features.as_ref() }.copied();
    let features2 = chain.get_mut::<vk::PhysicalDeviceFeatures2<'_>>().map(|features2| features2.features);
    let sparse = features.or(features2).is_some_and(|features| features.sparse_binding == vk::TRUE);
    let addresses = addresses(&mut chain);
    Ok(HostRequest { chain, extensions: names, sparse, addresses })
}

/// Enables what transport `dma` submits with.
fn enable_synchronization2(
    physical: &PhysicalDevice,
    host: &[vk::ExtensionProperties],
    names: &mut Vec<CString>,
    chain: &mut Chain,
) -> Result<(), vk::Result> {
    let extension = ash::khr::synchronization2::NAME;
    let has_extension = host.iter().any(|known| known.extension_name_as_c_str() == Ok(extension));
    let is_core = physical.effective_version() >= vk::API_VERSION_1_3;
    if !is_core && !has_extension {
        log::error!("transport dma needs VK_KHR_synchronization2, which the host device does not have");
        return Err(vk::Result::ERROR_INITIALIZATION_FAILED);
    }
    if !is_core && !names.iter().any(|name| **name == *extension) {
        names.push(extension.to_owned());
    }
    if let Some(features) = chain.get_mut::<vk::PhysicalDeviceVulkan13Features<'_>>() {
        features.synchronization2 = vk::TRUE;
    } else if let Some(features) = chain.get_mut::<vk::PhysicalDeviceSynchronization2Features<'_>>() {
        features.synchronization2 = vk::TRUE;
    } else {
        chain.push(&vk::PhysicalDeviceSynchronization2Features::default().synchronization2(true));
    }
    Ok(())
}

/// Whether the application enables device addresses.
fn addresses(chain: &mut Chain) -> bool {
    [
        chain.get_mut::<vk::PhysicalDeviceVulkan12Features<'_>>().map(|f| f.buffer_device_address),
        chain.get_mut::<vk::PhysicalDeviceBufferDeviceAddressFeatures<'_>>().map(|f| f.buffer_device_address),
        chain
            .get_mut::<vk::PhysicalDeviceBufferDeviceAddressFeaturesEXT<'_>>()
            .map(|f| f.buffer_device_address),
    ]
    .contains(&Some(vk::TRUE))
}

/// The device extensions of the host.
pub fn host_extensions(physical: &PhysicalDevice) -> Result<Vec<vk::ExtensionProperties>, vk::Result> {
    // SAFETY: the physical device is alive.
    unsafe { physical.instance.fns.enumerate_device_extension_properties(physical.handle) }
}

fn has_timeline_semaphores(physical: &PhysicalDevice) -> bool {
    let Some(features2) = physical.instance.fns2.features2 else { return false };
    let mut timeline = vk::PhysicalDeviceTimelineSemaphoreFeatures::default();
    let mut features = vk::PhysicalDeviceFeatures2::default().push_next(&mut timeline);
    // SAFETY: the physical device is alive, and the chain valid.
    unsafe { features2(physical.handle, &raw mut features) };
    timeline.timeline_semaphore == vk::TRUE
}
