//! A whole system with one process, and what tests of batches do with it.

use std::sync::Arc;

use kmd_sim::addr::PAGE_SIZE;
use kmd_sim::error::Result;
use kmd_sim::mm::fault::Thread;
use kmd_sim::soft_system::SoftSystem;
use kmd_sim::svga::cmd::Command;
use kmd_sim::svga::format::SurfaceFormat;
use kmd_sim::svga::surface_layout::SurfaceMetadata;
use kmd_sim::svga::types::{Box3d, ContextId, CopyBox, ImageId, MobId, Size3d, SurfaceId, ViewId};
use kmd_sim::ttm::resv::Fence;
use kmd_sim::upstream::Upstream;
use kmd_sim::vmwgfx::bo::Bo;
use kmd_sim::vmwgfx::file::SurfaceCreate;
use kmd_sim::vmwgfx::gb_surface::Surface;
use kmd_sim::vmwgfx::{invariants, page_dirty};

/// Texels of four bytes.
pub(crate) fn rgba(width: u32, height: u32) -> SurfaceMetadata {
    SurfaceMetadata::new(SurfaceFormat::R8G8B8A8_UNORM, Size3d::new(width, height, 1))
}

/// A surface of `pages` pages, one a row.
pub(crate) fn pages(pages: u32) -> SurfaceMetadata {
    rgba(1024, pages)
}

pub(crate) struct Bench {
    pub(crate) system: SoftSystem,
    pub(crate) cpu: Thread<'static>,
}

impl Bench {
    pub(crate) fn new(upstream: Upstream) -> Self {
        let system = SoftSystem::new(upstream);
        let cpu = process(&system);
        Self { system, cpu }
    }

    /// The newest kernel without defects.
    pub(crate) fn fixed() -> Self {
        Self::new(Upstream::default())
    }

    /// A thread of another process.
    pub(crate) fn second_process(&self) -> Thread<'static> {
        process(&self.system)
    }

    /// A coherent surface.
    pub(crate) fn coherent(&self, metadata: SurfaceMetadata) -> SurfaceId {
        self.create(&SurfaceCreate::coherent(metadata))
    }

    /// A surface that nothing tracks.
    pub(crate) fn plain(&self, metadata: SurfaceMetadata) -> SurfaceId {
        self.create(&SurfaceCreate { create_buffer: true, ..SurfaceCreate::new(metadata) })
    }

    pub(crate) fn create(&self, create: &SurfaceCreate) -> SurfaceId {
        self.system.file.surface_create(&self.cpu.task, create).unwrap()
    }

    /// A coherent surface that is mapped, and that a batch has used: bound, clean, and nothing to be done.
    pub(crate) fn attached(&self, metadata: SurfaceMetadata) -> (SurfaceId, u64) {
        let surface = self.coherent(metadata);
        let at = self.system.map_surface(&self.cpu, surface);
        self.settle(surface);
        (surface, at)
    }

    /// Uses a surface in a batch that changes nothing, and lets the device do it.
    pub(crate) fn settle(&self, surface: SurfaceId) {
        self.exec(&[use_of(surface)]).unwrap();
        self.finish();
        self.system.device.take_executed();
    }

    pub(crate) fn exec(&self, commands: &[Command]) -> Result<Option<Fence>> {
        self.system.file.execbuf(&self.cpu.task, None, commands)
    }

    pub(crate) fn exec_dx(&self, context: ContextId, commands: &[Command]) -> Result<Option<Fence>> {
        self.system.file.execbuf(&self.cpu.task, Some(context), commands)
    }

    /// A context whose view 0 of each kind shows `surface`; nothing is bound.
    pub(crate) fn context(&self, surface: SurfaceId) -> ContextId {
        let context = self.system.file.context_create(true);
        let (view, sid) = (ViewId(0), surface);
        self.exec_dx(
            context,
            &[
                Command::DxDefineRenderTargetView { view, sid },
                Command::DxDefineShaderResourceView { view, sid },
            ],
        )
        .unwrap();
        self.finish();
        self.system.device.take_executed();
        context
    }

    /// Fills a surface by way of a context of its own.
    pub(crate) fn clear(&self, context: ContextId, rgba: u32) -> Result<Option<Fence>> {
        self.exec_dx(context, &[Command::DxClearRenderTargetView { view: ViewId(0), rgba }])
    }

    /// Lets the device do everything.
    pub(crate) fn finish(&self) {
        self.system.dev.wait_idle();
        assert_eq!(self.system.device.take_errors(), []);
    }

    /// What nobody may see broken.
    pub(crate) fn assert_sound(&self) {
        assert_eq!(invariants::check(&self.system, &self.cpu), []);
    }

    pub(crate) fn surface(&self, surface: SurfaceId) -> Arc<Surface> {
        self.system.file.surface(surface).unwrap()
    }

    /// The device's name for a surface.
    pub(crate) fn sid(&self, surface: SurfaceId) -> SurfaceId {
        self.surface(surface).sid().expect("the device knows it")
    }

    pub(crate) fn bo(&self, surface: SurfaceId) -> Arc<Bo> {
        self.system.backing(surface)
    }

    /// The device's name for a surface's memory.
    pub(crate) fn mob(&self, surface: SurfaceId) -> MobId {
        MobId(u32::try_from(self.bo(surface).id).unwrap())
    }

    pub(crate) fn res_dirty(&self, surface: SurfaceId) -> bool {
        self.surface(surface).res.state().res_dirty
    }

    pub(crate) fn backup_dirty(&self, surface: SurfaceId) -> bool {
        self.surface(surface).res.state().backup_dirty
    }

    /// Pages on record in the tracker of a surface's object.
    pub(crate) fn bits(&self, surface: SurfaceId) -> Vec<u64> {
        self.system.bits(&self.cpu, &self.bo(surface)).expect("tracked")
    }

    pub(crate) fn method(&self, surface: SurfaceId) -> page_dirty::Method {
        let bo = self.bo(surface);
        let state = bo.reserve(&self.cpu.task);
        state.driver.dirty.as_ref().expect("tracked").method()
    }

    pub(crate) fn refs(&self, bo: &Bo) -> u32 {
        self.system.tracker_refs(&self.cpu, bo)
    }

    /// Pages of a surface's object that the process has an entry for.
    pub(crate) fn mapped(&self, surface: SurfaceId) -> Vec<u64> {
        let bo = self.bo(surface);
        (0..bo.num_pages()).filter(|page| !self.system.pte(self.cpu.mm, &bo, *page).none()).collect()
    }

    /// Stores one byte in each of some pages.
    pub(crate) fn write_pages(&self, at: u64, pages: impl IntoIterator<Item = u64>, value: u8) {
        for page in pages {
            self.cpu.store(at + page * PAGE_SIZE, value).unwrap();
        }
    }

    /// Writes the surface out.
    pub(crate) fn evict(&self, surface: SurfaceId) {
        let bo = self.bo(surface);
        let mut state = bo.reserve(&self.cpu.task);
        let res = Arc::clone(&self.surface(surface).res);
        kmd_sim::vmwgfx::resource_validate::do_evict(&self.system.dev, &res, Some(&mut state)).unwrap();
    }

    /// Has room for so many more bytes of commands.
    pub(crate) fn command_space(&self, bytes: u64) {
        self.system.dev.wait_idle();
        self.system.dev.stream().set_capacity(bytes);
    }
}

fn process(system: &SoftSystem) -> Thread<'static> {
    // A process lives as long as the test.
    system.thread(Box::leak(Box::new(system.process())))
}

/// A command that uses a surface and neither reads nor writes it.
pub(crate) fn use_of(surface: SurfaceId) -> Command {
    Command::BlitSurfaceToScreen { src: ImageId::first(surface), screen: 0 }
}

/// Copies the first image of a surface, of a size, to another.
pub(crate) fn copy(src: SurfaceId, dest: SurfaceId, width: u32, height: u32) -> Command {
    let copy_box = CopyBox::at(Box3d::new(0, 0, 0, width, height, 1));
    Command::SurfaceCopy { src: ImageId::first(src), dest: ImageId::first(dest), copy_box }
}

/// Drops the fences, whose numbers depend on what was before.
pub(crate) fn without_fences(commands: Vec<Command>) -> Vec<Command> {
    commands.into_iter().filter(|command| !matches!(command, Command::Fence { .. })).collect()
}

/// The upload of part of the first image of a surface.
pub(crate) fn update(sid: SurfaceId, image_box: Box3d) -> Command {
    Command::DxUpdateSubresource { sid, sub_resource: 0, image_box }
}
