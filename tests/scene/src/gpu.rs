//! The logical device: making things that clean up after themselves, and submitting work.

use std::ffi::c_char;
use std::rc::Rc;

use anyhow::{Context, Result};
use ash::vk;

use crate::vulkan::{Choice, Vulkan};

/// A device with its one queue.
pub(crate) struct Gpu {
    pub(crate) device: ash::Device,
    pub(crate) queue: vk::Queue,
    pub(crate) choice: Choice,
    pub(crate) vulkan: Rc<Vulkan>,
    commands: vk::CommandPool,
}

/// A handle that is destroyed with its owner.
///
/// # Invariants
/// `raw` was made by `gpu.device`, is destroyed by `destroy`, and nothing else destroys it. The device does
/// not use it when it is dropped, since every submission is waited for before the next one is recorded.
pub(crate) struct Owned<H: Copy> {
    gpu: Rc<Gpu>,
    raw: H,
    destroy: Destroy<H>,
}

/// How `ash` destroys a handle.
type Destroy<H> = unsafe fn(&ash::Device, H, Option<&vk::AllocationCallbacks<'_>>);

/// Semaphores around a submission that ends on the screen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScreenSync {
    /// Waited for before the transfer to the swapchain's image.
    pub(crate) acquired: vk::Semaphore,
    /// Signalled when the picture is ready.
    pub(crate) rendered: vk::Semaphore,
}

impl Gpu {
    /// Makes the device, with the swapchain extension if there is a window.
    pub(crate) fn new(vulkan: Rc<Vulkan>, choice: Choice, presents: bool) -> Result<Rc<Self>> {
        let queues =
            [vk::DeviceQueueCreateInfo::default().queue_family_index(choice.family).queue_priorities(&[1.0])];
        let extensions: &[*const c_char] = if presents { &[ash::khr::swapchain::NAME.as_ptr()] } else { &[] };
        let info =
            vk::DeviceCreateInfo::default().queue_create_infos(&queues).enabled_extension_names(extensions);
        // SAFETY: `info` and what it points to are alive; the device was listed by the instance.
        let device = unsafe { vulkan.instance.create_device(choice.physical, &info, None) }
            .context("creating the device")?;
        // SAFETY: One queue of this family was asked for.
        let queue = unsafe { device.get_device_queue(choice.family, 0) };
        let pool = vk::CommandPoolCreateInfo::default()
            .queue_family_index(choice.family)
            .flags(vk::CommandPoolCreateFlags::RESET_COMMAND_BUFFER);
        // SAFETY: The family is one of the device's.
        let commands =
            unsafe { device.create_command_pool(&pool, None) }.context("creating a command pool")?;
        Ok(Rc::new(Self { device, queue, choice, vulkan, commands }))
    }

    /// Takes over a handle that this device made.
    pub(crate) fn own<H: Copy>(self: &Rc<Self>, raw: H, destroy: Destroy<H>) -> Owned<H> {
        Owned { gpu: Rc::clone(self), raw, destroy }
    }

    pub(crate) fn buffer(
        self: &Rc<Self>,
        size: u64,
        usage: vk::BufferUsageFlags,
    ) -> Result<(Owned<vk::Buffer>, vk::MemoryRequirements)> {
        let info = vk::BufferCreateInfo::default().size(size).usage(usage);
        // SAFETY: A plain buffer of non-zero size.
        let raw = unsafe { self.device.create_buffer(&info, None) }.context("creating a buffer")?;
        let buffer = self.own(raw, ash::Device::destroy_buffer);
        // SAFETY: The buffer was just made.
        let requirements = unsafe { self.device.get_buffer_memory_requirements(*buffer) };
        Ok((buffer, requirements))
    }

    pub(crate) fn allocate(self: &Rc<Self>, size: u64, kind: u32) -> Result<Owned<vk::DeviceMemory>> {
        // As engines allocate; GFXReconstruct's userfaultfd mode has its replay write whole pages.
        let size = size.next_multiple_of(4096);
        let info = vk::MemoryAllocateInfo::default().allocation_size(size).memory_type_index(kind);
        // SAFETY: The type is one of the device's and the size is not zero.
        let raw = unsafe { self.device.allocate_memory(&info, None) }
            .with_context(|| format!("allocating {size} bytes of memory type {kind}"))?;
        Ok(self.own(raw, ash::Device::free_memory))
    }

    /// A memory type for what only the device uses: out of the CPU's sight if there is such a type.
    pub(crate) fn device_only(&self, allowed: u32) -> Result<u32> {
        let types = self.choice.memory.memory_types_as_slice();
        let visible =
            |index: u32| types[index as usize].property_flags.contains(vk::MemoryPropertyFlags::HOST_VISIBLE);
        let allowed = (0u32..).take(types.len()).filter(|index| allowed >> index & 1 == 1);
        allowed.min_by_key(|&index| visible(index)).context("no memory type fits")
    }

    pub(crate) fn semaphore(self: &Rc<Self>) -> Result<Owned<vk::Semaphore>> {
        // SAFETY: A plain semaphore.
        let raw = unsafe { self.device.create_semaphore(&vk::SemaphoreCreateInfo::default(), None) }
            .context("creating a semaphore")?;
        Ok(self.own(raw, ash::Device::destroy_semaphore))
    }

    pub(crate) fn fence(self: &Rc<Self>) -> Result<Owned<vk::Fence>> {
        // SAFETY: A plain fence.
        let raw = unsafe { self.device.create_fence(&vk::FenceCreateInfo::default(), None) }
            .context("creating a fence")?;
        Ok(self.own(raw, ash::Device::destroy_fence))
    }

    /// A command buffer that lives as long as the device.
    pub(crate) fn command_buffer(&self) -> Result<vk::CommandBuffer> {
        let info =
            vk::CommandBufferAllocateInfo::default().command_pool(self.commands).command_buffer_count(1);
        // SAFETY: The pool is the device's, and only this thread uses it.
        let buffers =
            unsafe { self.device.allocate_command_buffers(&info) }.context("allocating a command buffer")?;
        Ok(buffers[0])
    }

    /// Submits recorded commands and waits until the device has done them.
    pub(crate) fn run(
        &self,
        commands: vk::CommandBuffer,
        fence: vk::Fence,
        screen: Option<ScreenSync>,
    ) -> Result<()> {
        let commands = [commands];
        let (wait, signal) = match screen {
            Some(screen) => (vec![screen.acquired], vec![screen.rendered]),
            None => (vec![], vec![]),
        };
        let stages = vec![vk::PipelineStageFlags::TRANSFER; wait.len()];
        let submit = vk::SubmitInfo::default()
            .command_buffers(&commands)
            .wait_semaphores(&wait)
            .wait_dst_stage_mask(&stages)
            .signal_semaphores(&signal);
        // SAFETY: The commands are recorded and not in use, the fence is unsignalled.
        unsafe { self.device.queue_submit(self.queue, &[submit], fence) }.context("submitting")?;
        // SAFETY: The fence is this device's.
        unsafe { self.device.wait_for_fences(&[fence], true, u64::MAX) }.context("waiting for the device")?;
        // SAFETY: The fence is signalled, so no submission uses it.
        unsafe { self.device.reset_fences(&[fence]) }.context("resetting a fence")
    }

    /// Waits for everything, the presentation engine's use of semaphores included.
    pub(crate) fn wait_idle(&self) {
        // SAFETY: Only this thread uses the device. A lost device is idle too.
        let _ = unsafe { self.device.device_wait_idle() };
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: Everything made from the device holds a reference to `self`, so it is gone by now, and
        // every submission was waited for.
        unsafe { self.device.destroy_command_pool(self.commands, None) };
        // SAFETY: As above.
        unsafe { self.device.destroy_device(None) };
    }
}

impl<H: Copy> std::ops::Deref for Owned<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.raw
    }
}

impl<H: Copy> Drop for Owned<H> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { (self.destroy)(&self.gpu.device, self.raw, None) };
    }
}
