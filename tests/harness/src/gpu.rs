//! An instance, a device and its queue, made as an application asks for them.

use crate::loader;
use crate::sync::Fence;
use crate::validation::{self, Messages};
use ash::{ext, khr, vk};
use std::ffi::{CStr, CString};
use std::sync::{Arc, Mutex};

/// How the application asks for timeline semaphores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimelineUse {
    /// It enables the feature.
    Enabled,
    /// It passes no structure that could name the feature.
    Unmentioned,
    /// It passes `VkPhysicalDeviceVulkan12Features` with the feature off.
    OffInVulkan12Features,
    /// It passes `VkPhysicalDeviceTimelineSemaphoreFeatures` with the feature off.
    OffInOwnFeatures,
}

/// Options of a [`Gpu`].
#[derive(Clone, Debug)]
pub struct GpuBuilder {
    api: u32,
    timeline: TimelineUse,
    synchronization2: bool,
    device_address: bool,
    validation: bool,
    everything: bool,
    placed: bool,
    device_extensions: Vec<&'static CStr>,
}

impl Default for GpuBuilder {
    fn default() -> Self {
        Self {
            api: vk::API_VERSION_1_3,
            timeline: TimelineUse::Enabled,
            synchronization2: true,
            device_address: false,
            validation: false,
            everything: false,
            placed: false,
            device_extensions: Vec::new(),
        }
    }
}

impl GpuBuilder {
    /// The version the application says it was written for.
    ///
    /// Before 1.3 vkQueueSubmit2 comes from an extension, before 1.2 timelines do; 1.0 has neither.
    pub fn api(mut self, api: u32) -> Self {
        self.api = api;
        if api < vk::API_VERSION_1_1 {
            self.synchronization2 = false;
            self.timeline = TimelineUse::Unmentioned;
        }
        self
    }

    /// How the application asks for timeline semaphores.
    pub fn timeline(mut self, timeline: TimelineUse) -> Self {
        self.timeline = timeline;
        self
    }

    /// Enables buffer device addresses (Vulkan 1.2 and later).
    pub fn device_address(mut self) -> Self {
        self.device_address = true;
        self
    }

    /// Puts the Khronos validation layer above the driver.
    pub fn validation(mut self) -> Self {
        self.validation = true;
        self
    }

    /// Enables every feature the device has but sparse memory and checks of bounds, and the extensions of
    /// [`OPTIONAL`] it has (Vulkan 1.3).
    pub fn everything(mut self) -> Self {
        self.everything = true;
        self
    }

    /// Enables maps at addresses of the application's choice, and unmaps that keep others out of them.
    pub fn placed(mut self) -> Self {
        self.placed = true;
        self.device_extensions.extend([khr::map_memory2::NAME, ext::map_memory_placed::NAME]);
        self
    }

    /// Enables a device extension.
    pub fn device_extension(mut self, name: &'static CStr) -> Self {
        self.device_extensions.push(name);
        self
    }

    /// Makes instance and device.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn build(self) -> Gpu {
        let instance = Instance::new(self.api, self.validation).expect("vkCreateInstance");
        self.build_on(&Arc::new(instance))
    }

    /// Makes another device on an instance.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn build_on(self, instance: &Arc<Instance>) -> Gpu {
        self.build_on_device(instance, *instance.devices().first().expect("a physical device"))
    }

    /// Makes another device on a physical device of an instance.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn build_on_device(self, instance: &Arc<Instance>, physical: vk::PhysicalDevice) -> Gpu {
        Gpu(Arc::new(Shared::new(instance, physical, &self)))
    }
}

/// An instance of the loader.
pub struct Instance {
    raw: ash::Instance,
    messages: &'static Messages,
    messenger: Option<(ext::debug_utils::Instance, vk::DebugUtilsMessengerEXT)>,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Instance({:?})", self.raw.handle())
    }
}

impl Instance {
    /// Makes an instance for applications of version `api`, under the validation layer or not.
    ///
    /// # Errors
    ///
    /// What vkCreateInstance returns.
    pub fn new(api: u32, validation: bool) -> Result<Self, vk::Result> {
        let entry = loader::entry();
        let messages = Messages::leak();
        let app = vk::ApplicationInfo::default().application_name(c"lockstep-harness").api_version(api);
        let layers: &[_] = if validation { &[validation::LAYER.as_ptr()] } else { &[] };
        let extensions: &[_] = if validation { &[ext::debug_utils::NAME.as_ptr()] } else { &[] };
        let mut messenger_info = messages.create_info();
        let mut info = vk::InstanceCreateInfo::default()
            .application_info(&app)
            .enabled_layer_names(layers)
            .enabled_extension_names(extensions);
        if validation {
            info = info.push_next(&mut messenger_info);
        }
        // SAFETY: Every pointer in `info` outlives the call.
        let raw = unsafe { entry.create_instance(&info, None) }?;
        let messenger = validation.then(|| {
            let functions = ext::debug_utils::Instance::new(entry, &raw);
            let info = messages.create_info();
            // SAFETY: The callback's user data, `messages`, lives as long as the process.
            let messenger =
                unsafe { functions.create_debug_utils_messenger(&info, None) }.expect("a messenger");
            (functions, messenger)
        });
        Ok(Self { raw, messages, messenger })
    }

    /// Returns the physical devices.
    ///
    /// # Panics
    ///
    /// If Vulkan cannot tell.
    pub fn devices(&self) -> Vec<vk::PhysicalDevice> {
        // SAFETY: The instance is alive.
        unsafe { self.raw.enumerate_physical_devices() }.expect("vkEnumeratePhysicalDevices")
    }

    /// Returns ash's instance.
    pub fn raw(&self) -> &ash::Instance {
        &self.raw
    }

    /// Returns what the validation layer has said.
    pub fn messages(&self) -> &'static Messages {
        self.messages
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let Some((functions, messenger)) = &self.messenger {
            // SAFETY: Made from this instance, destroyed once.
            unsafe { functions.destroy_debug_utils_messenger(*messenger, None) };
        }
        // SAFETY: Devices hold the instance by `Arc`, so none is left.
        unsafe { self.raw.destroy_instance(None) };
    }
}

/// A device and its queue; clones are the same device.
#[derive(Clone, Debug)]
pub struct Gpu(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    instance: Arc<Instance>,
    physical: vk::PhysicalDevice,
    pub(crate) device: ash::Device,
    queue: Mutex<vk::Queue>,
    second_queue: Option<vk::Queue>,
    pub(crate) family: u32,
    pub(crate) timeline_khr: Option<khr::timeline_semaphore::Device>,
    pub(crate) synchronization2_khr: Option<khr::synchronization2::Device>,
    pub(crate) memory: vk::PhysicalDeviceMemoryProperties,
    properties: vk::PhysicalDeviceProperties,
    late_updates: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({:?})", self.device.handle())
    }
}

/// Extensions with commands or features of their own that [`GpuBuilder::everything`] enables.
pub const OPTIONAL: &[&CStr] = &[
    ext::transform_feedback::NAME,
    ext::multi_draw::NAME,
    ext::mesh_shader::NAME,
    ext::shader_object::NAME,
    ext::descriptor_buffer::NAME,
    khr::push_descriptor::NAME,
    khr::maintenance5::NAME,
    khr::maintenance6::NAME,
    khr::deferred_host_operations::NAME,
    khr::acceleration_structure::NAME,
    khr::ray_tracing_pipeline::NAME,
    khr::ray_tracing_maintenance1::NAME,
    ash::amd::buffer_marker::NAME,
];

/// Features of versions and of some of the extensions.
#[derive(Default)]
struct Features {
    core: vk::PhysicalDeviceFeatures,
    vulkan11: vk::PhysicalDeviceVulkan11Features<'static>,
    vulkan12: vk::PhysicalDeviceVulkan12Features<'static>,
    vulkan13: vk::PhysicalDeviceVulkan13Features<'static>,
    feedback: vk::PhysicalDeviceTransformFeedbackFeaturesEXT<'static>,
    multi_draw: vk::PhysicalDeviceMultiDrawFeaturesEXT<'static>,
}

impl Features {
    /// Asks which there are.
    fn of(instance: &ash::Instance, physical: vk::PhysicalDevice) -> Self {
        let mut this = Self::default();
        let mut features = vk::PhysicalDeviceFeatures2::default()
            .push_next(&mut this.vulkan11)
            .push_next(&mut this.vulkan12)
            .push_next(&mut this.vulkan13)
            .push_next(&mut this.feedback)
            .push_next(&mut this.multi_draw);
        // SAFETY: `physical` is of this instance, and the chain whole.
        unsafe { instance.get_physical_device_features2(physical, &mut features) };
        this.core = vk::PhysicalDeviceFeatures {
            robust_buffer_access: vk::FALSE,
            sparse_binding: vk::FALSE,
            ..features.features
        };
        for next in [&mut this.vulkan11.p_next, &mut this.vulkan12.p_next, &mut this.vulkan13.p_next] {
            *next = std::ptr::null_mut();
        }
        this.feedback.p_next = std::ptr::null_mut();
        this.multi_draw.p_next = std::ptr::null_mut();
        this
    }

    fn late_updates(&self) -> bool {
        let needed = [
            self.vulkan12.descriptor_binding_storage_buffer_update_after_bind,
            self.vulkan12.descriptor_binding_partially_bound,
        ];
        needed == [vk::TRUE; 2]
    }
}

impl Shared {
    fn new(instance: &Arc<Instance>, physical: vk::PhysicalDevice, options: &GpuBuilder) -> Self {
        let raw = &instance.raw;
        // SAFETY: `physical` is of this instance.
        let families = unsafe { raw.get_physical_device_queue_family_properties(physical) };
        let all = vk::QueueFlags::GRAPHICS | vk::QueueFlags::COMPUTE;
        let family =
            families.iter().position(|f| f.queue_flags.contains(all)).expect("a family for all work");
        let priorities = [1.0, 1.0];
        let count = families[family].queue_count.min(2);
        let priorities = if count == 2 { &priorities[..] } else { &priorities[..1] };
        let family = u32::try_from(family).expect("few families");
        let queues =
            [vk::DeviceQueueCreateInfo::default().queue_family_index(family).queue_priorities(priorities)];

        let on = options.timeline == TimelineUse::Enabled;
        let core12 = options.api >= vk::API_VERSION_1_2;
        let core13 = options.api >= vk::API_VERSION_1_3;
        let mut extensions = options.device_extensions.clone();
        let mut vulkan12 = vk::PhysicalDeviceVulkan12Features::default()
            .timeline_semaphore(on)
            .buffer_device_address(options.device_address);
        let mut timeline = vk::PhysicalDeviceTimelineSemaphoreFeatures::default().timeline_semaphore(on);
        let mut sync2 =
            vk::PhysicalDeviceSynchronization2Features::default().synchronization2(options.synchronization2);
        let mut placed = vk::PhysicalDeviceMapMemoryPlacedFeaturesEXT::default()
            .memory_map_placed(true)
            .memory_map_range_placed(true)
            .memory_unmap_reserve(true);
        let mut info = vk::DeviceCreateInfo::default().queue_create_infos(&queues);
        if options.placed {
            info = info.push_next(&mut placed);
        }
        let mut features;
        let mut late_updates = false;
        if options.everything {
            features = Features::of(raw, physical);
            late_updates = features.late_updates();
            // SAFETY: `physical` is of this instance.
            let offered = unsafe { raw.enumerate_device_extension_properties(physical) };
            let offered = offered.expect("vkEnumerateDeviceExtensionProperties");
            let has = |name: &CStr| offered.iter().any(|e| e.extension_name_as_c_str() == Ok(name));
            extensions.extend(OPTIONAL.iter().filter(|name| has(name)));
            info = info
                .enabled_features(&features.core)
                .push_next(&mut features.vulkan11)
                .push_next(&mut features.vulkan12)
                .push_next(&mut features.vulkan13)
                .push_next(&mut features.feedback)
                .push_next(&mut features.multi_draw);
        }
        match options.timeline {
            _ if options.everything => {}
            TimelineUse::Unmentioned if options.device_address => {
                panic!("device addresses mention timelines")
            }
            TimelineUse::Unmentioned => {}
            TimelineUse::OffInOwnFeatures => info = info.push_next(&mut timeline),
            TimelineUse::Enabled | TimelineUse::OffInVulkan12Features if core12 => {
                info = info.push_next(&mut vulkan12);
            }
            TimelineUse::Enabled | TimelineUse::OffInVulkan12Features => info = info.push_next(&mut timeline),
        }
        if on && !core12 {
            extensions.push(khr::timeline_semaphore::NAME);
        }
        if options.synchronization2 && !options.everything {
            info = info.push_next(&mut sync2);
            if !core13 {
                extensions.push(khr::synchronization2::NAME);
            }
        }
        let names: Vec<_> = extensions.iter().map(|name| name.as_ptr()).collect();
        info = info.enabled_extension_names(&names);
        // SAFETY: Every pointer in `info` outlives the call.
        let device = unsafe { raw.create_device(physical, &info, None) }.expect("vkCreateDevice");
        // SAFETY: The device was made with a queue of this family.
        let queue = unsafe { device.get_device_queue(family, 0) };
        // SAFETY: The device was made with `count` queues of this family.
        let second_queue = (count == 2).then(|| unsafe { device.get_device_queue(family, 1) });
        let timeline_khr = (on && !core12).then(|| khr::timeline_semaphore::Device::new(raw, &device));
        let synchronization2_khr =
            (options.synchronization2 && !core13).then(|| khr::synchronization2::Device::new(raw, &device));
        // SAFETY: `physical` is of this instance.
        let memory = unsafe { raw.get_physical_device_memory_properties(physical) };
        // SAFETY: `physical` is of this instance.
        let properties = unsafe { raw.get_physical_device_properties(physical) };
        let instance = Arc::clone(instance);
        let queue = Mutex::new(queue);
        Self {
            instance,
            physical,
            device,
            queue,
            second_queue,
            family,
            timeline_khr,
            synchronization2_khr,
            memory,
            properties,
            late_updates,
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: Every object of the device holds this `Shared`, so none is left, and by the
            // harness's contract no work is.
            unsafe { self.device.destroy_device(None) };
        }
    }
}

impl Default for Gpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Gpu {
    /// Makes a device with timeline semaphores and vkQueueSubmit2, what most tests want.
    ///
    /// # Panics
    ///
    /// If Vulkan refuses.
    pub fn new() -> Self {
        GpuBuilder::default().build()
    }

    /// Starts the options of a device.
    pub fn builder() -> GpuBuilder {
        GpuBuilder::default()
    }

    /// Returns the instance, to build another device on.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.0.instance
    }

    /// Returns the physical device.
    pub fn physical(&self) -> vk::PhysicalDevice {
        self.0.physical
    }

    /// Returns ash's device.
    pub fn raw(&self) -> &ash::Device {
        &self.0.device
    }

    /// Returns the queue and keeps every other thread of the harness from submitting meanwhile.
    ///
    /// # Panics
    ///
    /// If a thread panicked while it held the queue.
    pub fn queue(&self) -> std::sync::MutexGuard<'_, vk::Queue> {
        self.0.queue.lock().expect("no panic while the queue is held")
    }

    /// Returns another queue, where the device has more than one; nobody else in the harness uses it.
    pub fn second_queue(&self) -> Option<vk::Queue> {
        self.0.second_queue
    }

    /// Returns whether storage buffers may be updated after they were bound, see [`GpuBuilder::everything`].
    pub fn updates_late(&self) -> bool {
        self.0.late_updates
    }

    /// Returns the family of the queue.
    pub fn family(&self) -> u32 {
        self.0.family
    }

    /// Returns the memory heaps and types.
    pub fn memory_properties(&self) -> &vk::PhysicalDeviceMemoryProperties {
        &self.0.memory
    }

    /// Returns the device's properties.
    pub fn properties(&self) -> &vk::PhysicalDeviceProperties {
        &self.0.properties
    }

    /// Returns a limit as a number of bytes.
    ///
    /// # Panics
    ///
    /// Never on 64-bit machines.
    pub fn atom(&self) -> usize {
        usize::try_from(self.0.properties.limits.non_coherent_atom_size).expect("a 64-bit machine")
    }

    /// Returns whether the device advertises an extension.
    ///
    /// # Panics
    ///
    /// If Vulkan cannot tell.
    pub fn advertises(&self, name: &CStr) -> bool {
        // SAFETY: `physical` is of this instance.
        let all = unsafe { self.0.instance.raw.enumerate_device_extension_properties(self.0.physical) };
        let all = all.expect("vkEnumerateDeviceExtensionProperties");
        all.iter().any(|e| e.extension_name_as_c_str() == Ok(name))
    }

    /// Returns the device's name.
    pub fn name(&self) -> String {
        let name = self.0.properties.device_name_as_c_str().map(CString::from);
        name.unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Waits by vkQueueWaitIdle.
    ///
    /// # Panics
    ///
    /// If Vulkan fails.
    pub fn queue_wait_idle(&self) {
        let queue = self.queue();
        // SAFETY: The queue is of this device and held.
        unsafe { self.0.device.queue_wait_idle(*queue) }.expect("vkQueueWaitIdle");
    }

    /// Waits by vkDeviceWaitIdle, without keeping other threads from submitting: the caller sees to that.
    ///
    /// # Panics
    ///
    /// If Vulkan fails.
    pub fn device_wait_idle(&self) {
        // SAFETY: The device is alive.
        unsafe { self.0.device.device_wait_idle() }.expect("vkDeviceWaitIdle");
    }

    /// Runs commands and waits for them by a fence.
    pub fn run(&self, record: impl FnOnce(&crate::Recorder<'_>)) {
        let commands = crate::Commands::new(self, record);
        let fence = Fence::new(self);
        self.submit(&[crate::Batch::new().run(&commands)], Some(&fence));
        fence.wait();
    }
}
