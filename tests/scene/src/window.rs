//! The window: opening one if there is a desktop, and playing the scene in it.

use std::ffi::CStr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use winit::application::ApplicationHandler;
use winit::dpi::PhysicalSize;
use winit::event::WindowEvent;
use winit::event_loop::{ActiveEventLoop, EventLoop};
use winit::platform::pump_events::{EventLoopExtPumpEvents, PumpStatus};
use winit::raw_window_handle::HasDisplayHandle;
use winit::window::{Window, WindowId};

use crate::gpu::Gpu;
use crate::stage::{FrameTime, Stage};
use crate::swapchain::{Surface, Swapchain};
use crate::target::SIZE;

/// How often a new window may fail to appear before we give up.
const PATIENCE: u32 = 100;

/// A connection to the desktop, and later the window.
pub(crate) struct Desktop {
    event_loop: EventLoop<()>,
    events: Events,
}

/// What the desktop told us.
#[derive(Debug, Default)]
struct Events {
    window: Option<Rc<Window>>,
    failure: Option<String>,
    resized: bool,
    closed: bool,
}

impl Desktop {
    /// Connects to the desktop that the environment names; `None` without one.
    pub(crate) fn open() -> Result<Option<Self>> {
        let named = |variable| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
        let libraries: &[&str] = if named("WAYLAND_DISPLAY") {
            &["libwayland-client.so.0", "libxkbcommon.so.0"]
        } else if named("DISPLAY") {
            &[
                "libX11.so.6",
                "libX11-xcb.so.1",
                "libXcursor.so.1",
                "libXi.so.6",
                "libxkbcommon.so.0",
                "libxkbcommon-x11.so.0",
            ]
        } else {
            return Ok(None);
        };
        // Some of these the window library takes for granted, and aborts without them.
        for library in libraries {
            // SAFETY: These libraries' initialisers have no preconditions.
            unsafe { libloading::Library::new(*library) }
                .map_err(|_| anyhow!("{library} is not installed"))?;
        }
        let event_loop = EventLoop::new().map_err(|error| {
            // In front of the reason stands a place in the window library's source.
            let text = error.to_string();
            anyhow!("the display does not answer: {}", text.rsplit(": ").next().unwrap_or(&text))
        })?;
        Ok(Some(Self { event_loop, events: Events::default() }))
    }

    /// The instance extensions that a surface on this desktop needs.
    pub(crate) fn extensions(&self) -> Result<Vec<&'static CStr>> {
        let display = self.event_loop.display_handle()?.as_raw();
        let names = ash_window::enumerate_required_extensions(display)?;
        // SAFETY: `ash_window` gives static strings.
        Ok(names.iter().map(|&name| unsafe { CStr::from_ptr(name) }).collect())
    }

    /// Opens a window and plays until it is closed or the scene has had `frames` frames; gives each frame's
    /// time. After an error the scene can go on without a window.
    pub(crate) fn play(
        &mut self,
        gpu: &Rc<Gpu>,
        stage: &mut Stage,
        frames: u32,
        times: &mut Vec<FrameTime>,
    ) -> Result<()> {
        let window = self.window()?;
        let surface = Surface::new(gpu, &window)?;
        let mut swapchain = Swapchain::new(gpu, &surface, size_of(&window))?;
        while times.len() < frames as usize {
            if matches!(self.pump(), PumpStatus::Exit(_)) || self.events.closed {
                break;
            }
            if self.events.resized || swapchain.is_stale() {
                self.events.resized = false;
                swapchain.renew(&surface, size_of(&window))?;
            }
            let screen = swapchain.acquire()?;
            times.push(stage.frame(screen)?);
            match screen {
                Some(_) => swapchain.present()?,
                // Minimised: nothing slows us down, so slow down ourselves.
                None => std::thread::sleep(Duration::from_millis(16)),
            }
        }
        Ok(())
    }

    /// Waits for the window to be made.
    fn window(&mut self) -> Result<Rc<Window>> {
        for _ in 0..PATIENCE {
            self.pump();
            if let Some(failure) = &self.events.failure {
                bail!("{failure}");
            }
            if let Some(window) = &self.events.window {
                return Ok(Rc::clone(window));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None.context("the desktop did not let us open a window")
    }

    fn pump(&mut self) -> PumpStatus {
        self.event_loop.pump_app_events(Some(Duration::ZERO), &mut self.events)
    }
}

impl ApplicationHandler for Events {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        let attributes = Window::default_attributes()
            .with_title("Lockstep: a pond in coherent memory")
            .with_inner_size(PhysicalSize::new(SIZE.width, SIZE.height));
        match event_loop.create_window(attributes) {
            Ok(window) => self.window = Some(Rc::new(window)),
            Err(error) => self.failure = Some(error.to_string()),
        }
    }

    fn window_event(&mut self, _: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        match event {
            WindowEvent::CloseRequested | WindowEvent::Destroyed => self.closed = true,
            WindowEvent::Resized(_) => self.resized = true,
            _ => {}
        }
    }
}

fn size_of(window: &Window) -> ash::vk::Extent2D {
    let size = window.inner_size();
    ash::vk::Extent2D { width: size.width, height: size.height }
}
