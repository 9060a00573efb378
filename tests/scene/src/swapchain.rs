//! The window's images: acquired, drawn to by a blit, presented.

use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use ash::{khr, vk};
use winit::raw_window_handle::{HasDisplayHandle, HasWindowHandle};
use winit::window::Window;

use crate::gpu::{Gpu, Owned, ScreenSync};
use crate::stage::Screen;

/// A window's surface.
pub(crate) struct Surface {
    raw: vk::SurfaceKHR,
    commands: khr::surface::Instance,
    gpu: Rc<Gpu>,
    /// The surface must not outlive the window.
    _window: Rc<Window>,
}

/// The images of a surface.
pub(crate) struct Swapchain {
    raw: vk::SwapchainKHR,
    commands: khr::swapchain::Device,
    images: Vec<vk::Image>,
    size: vk::Extent2D,
    acquired: Owned<vk::Semaphore>,
    /// One for each image: it is free again when its image is acquired again.
    rendered: Vec<Owned<vk::Semaphore>>,
    current: u32,
    stale: bool,
    gpu: Rc<Gpu>,
}

impl Surface {
    pub(crate) fn new(gpu: &Rc<Gpu>, window: &Rc<Window>) -> Result<Self> {
        let vulkan = &gpu.vulkan;
        let (display, handle) = (window.display_handle()?.as_raw(), window.window_handle()?.as_raw());
        // SAFETY: Window and display are alive and stay so as long as the surface; the instance has the
        // extensions that this display needs.
        let made =
            unsafe { ash_window::create_surface(vulkan.entry(), &vulkan.instance, display, handle, None) };
        let surface = Self {
            raw: made.context("making a surface")?,
            commands: khr::surface::Instance::new(vulkan.entry(), &vulkan.instance),
            gpu: Rc::clone(gpu),
            _window: Rc::clone(window),
        };
        let choice = &gpu.choice;
        // SAFETY: The family is one of the device's.
        let presents = unsafe {
            surface.commands.get_physical_device_surface_support(choice.physical, choice.family, surface.raw)
        };
        ensure!(presents.context("asking about the surface")?, "the device cannot present to this window");
        Ok(surface)
    }

    /// A format that the picture can be blitted to, if possible one with the picture's own meaning.
    fn format(&self) -> Result<vk::SurfaceFormatKHR> {
        let physical = self.gpu.choice.physical;
        // SAFETY: Device and surface are alive.
        let formats = unsafe { self.commands.get_physical_device_surface_formats(physical, self.raw) }
            .context("asking for the surface's formats")?;
        let blits = |format: &&vk::SurfaceFormatKHR| {
            let instance = &self.gpu.vulkan.instance;
            // SAFETY: The device is the instance's.
            let features = unsafe { instance.get_physical_device_format_properties(physical, format.format) };
            features.optimal_tiling_features.contains(vk::FormatFeatureFlags::BLIT_DST)
        };
        let plain = [vk::Format::B8G8R8A8_UNORM, vk::Format::R8G8B8A8_UNORM];
        let best = formats.iter().filter(blits).max_by_key(|format| plain.contains(&format.format));
        best.copied().context("the window has no format that can be drawn to")
    }
}

impl Drop for Surface {
    fn drop(&mut self) {
        // SAFETY: The swapchain borrowed the surface only while it was made and is gone: it is a local of
        // the same function, declared later.
        unsafe { self.commands.destroy_surface(self.raw, None) };
    }
}

impl Swapchain {
    pub(crate) fn new(gpu: &Rc<Gpu>, surface: &Surface, size: vk::Extent2D) -> Result<Self> {
        let mut swapchain = Self {
            raw: vk::SwapchainKHR::null(),
            commands: khr::swapchain::Device::new(&gpu.vulkan.instance, &gpu.device),
            images: vec![],
            size,
            acquired: gpu.semaphore()?,
            rendered: vec![],
            current: 0,
            stale: false,
            gpu: Rc::clone(gpu),
        };
        swapchain.renew(surface, size)?;
        Ok(swapchain)
    }

    /// Whether the images no longer fit the window.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Makes the images anew; `size` counts where the surface leaves the choice to us.
    pub(crate) fn renew(&mut self, surface: &Surface, size: vk::Extent2D) -> Result<()> {
        self.gpu.wait_idle();
        // SAFETY: Device and surface are alive.
        let can = unsafe {
            surface.commands.get_physical_device_surface_capabilities(self.gpu.choice.physical, surface.raw)
        }
        .context("asking what the surface can do")?;
        self.stale = false;
        self.size = if can.current_extent.width == u32::MAX {
            let [low, high] = [can.min_image_extent, can.max_image_extent];
            let width = size.width.clamp(low.width, high.width);
            vk::Extent2D { width, height: size.height.clamp(low.height, high.height) }
        } else {
            can.current_extent
        };
        if self.size.width == 0 || self.size.height == 0 {
            self.destroy();
            return Ok(());
        }
        let usage = vk::ImageUsageFlags::TRANSFER_DST;
        ensure!(can.supported_usage_flags.contains(usage), "the window's images cannot be copied to");
        let opaque = vk::CompositeAlphaFlagsKHR::OPAQUE;
        let inherit = vk::CompositeAlphaFlagsKHR::INHERIT;
        let alpha = if can.supported_composite_alpha.contains(opaque) { opaque } else { inherit };
        let most = if can.max_image_count == 0 { u32::MAX } else { can.max_image_count };
        let format = surface.format()?;
        let info = vk::SwapchainCreateInfoKHR::default()
            .surface(surface.raw)
            .min_image_count((can.min_image_count + 1).min(most))
            .image_format(format.format)
            .image_color_space(format.color_space)
            .image_extent(self.size)
            .image_array_layers(1)
            .image_usage(usage)
            .pre_transform(can.current_transform)
            .composite_alpha(alpha)
            .present_mode(vk::PresentModeKHR::FIFO)
            .clipped(true)
            .old_swapchain(self.raw);
        // SAFETY: The values are what the surface said it can do; the old swapchain is not in use.
        let raw = unsafe { self.commands.create_swapchain(&info, None) }.context("making a swapchain")?;
        self.destroy();
        self.raw = raw;
        // SAFETY: The swapchain was just made.
        self.images = unsafe { self.commands.get_swapchain_images(raw) }.context("listing its images")?;
        self.rendered = self.images.iter().map(|_| self.gpu.semaphore()).collect::<Result<_>>()?;
        Ok(())
    }

    /// The next image to draw to; `None` while there is nothing to see.
    pub(crate) fn acquire(&mut self) -> Result<Option<Screen>> {
        if self.images.is_empty() {
            self.stale = true;
            return Ok(None);
        }
        let (forever, none) = (u64::MAX, vk::Fence::null());
        // SAFETY: The semaphore is unsignalled: the submission that waited for it was waited for.
        match unsafe { self.commands.acquire_next_image(self.raw, forever, *self.acquired, none) } {
            Ok((index, stale)) => (self.current, self.stale) = (index, stale),
            Err(vk::Result::ERROR_OUT_OF_DATE_KHR) => {
                self.stale = true;
                return Ok(None);
            }
            Err(error) => return Err(error).context("acquiring an image of the window"),
        }
        let at = self.current as usize;
        let sync = ScreenSync { acquired: *self.acquired, rendered: *self.rendered[at] };
        Ok(Some(Screen { image: self.images[at], size: self.size, sync }))
    }

    /// Shows the image acquired last.
    pub(crate) fn present(&mut self) -> Result<()> {
        let (swapchains, indices) = ([self.raw], [self.current]);
        let rendered = [*self.rendered[self.current as usize]];
        let info = vk::PresentInfoKHR::default()
            .swapchains(&swapchains)
            .image_indices(&indices)
            .wait_semaphores(&rendered);
        // SAFETY: The image is acquired and in the layout for presenting, its semaphore is signalled.
        match unsafe { self.commands.queue_present(self.gpu.queue, &info) } {
            Ok(stale) => self.stale |= stale,
            Err(vk::Result::ERROR_OUT_OF_DATE_KHR) => self.stale = true,
            Err(error) => return Err(error).context("presenting"),
        }
        Ok(())
    }

    fn destroy(&mut self) {
        self.images.clear();
        self.rendered.clear();
        // SAFETY: The device is idle, so nothing uses the swapchain; a null handle is ignored.
        unsafe { self.commands.destroy_swapchain(self.raw, None) };
        self.raw = vk::SwapchainKHR::null();
    }
}

impl Drop for Swapchain {
    fn drop(&mut self) {
        self.gpu.wait_idle();
        self.destroy();
    }
}
