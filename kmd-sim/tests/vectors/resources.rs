//! Vectors V-13 to V-28: what becomes of resources and their objects, whatever batches do.

use std::sync::Arc;

use kmd_sim::addr::PAGE_SIZE;
use kmd_sim::error::Error;
use kmd_sim::lockdep::Task;
use kmd_sim::mm::machine::Point;
use kmd_sim::svga::cmd::{Command, TRANSFER_READ_HOST, TRANSFER_WRITE_HOST};
use kmd_sim::svga::format::SurfaceFormat;
use kmd_sim::svga::surface_layout::SurfaceMetadata;
use kmd_sim::svga::types::{Box3d, CopyBox, GuestImage, ImageId, MobId, Size3d, SurfaceId, ViewId};
use kmd_sim::upstream::Upstream;
use kmd_sim::vmwgfx::file::{SurfaceCreate, SyncCpu};
use kmd_sim::vmwgfx::resource::{self, ResType};
use kmd_sim::vmwgfx::shader::shader;
use kmd_sim::vmwgfx::validation::{DirtyFlag, ValidationContext};

use crate::bench::{Bench, pages, rgba, update, use_of};

const VIEW: ViewId = ViewId(0);
const SET_TARGET: Command =
    Command::DxSetRenderTargets { depth_stencil: ViewId::INVALID, render_target: VIEW };

#[test]
fn v_13_a_surface_that_is_not_coherent_follows_the_tracker_of_its_object() {
    let bench = Bench::fixed();
    let (coherent, at) = bench.attached(rgba(256, 256));
    let backing = Some(bench.system.handle_of(&bench.bo(coherent)));
    let other = bench.create(&SurfaceCreate { backing, ..SurfaceCreate::new(rgba(256, 256)) });
    let tracks = || bench.surface(other).res.state().dirty.is_some();

    bench.exec(&[use_of(other)]).unwrap();
    assert!(tracks());
    bench.write_pages(at, [2], 0xAB);
    bench.exec(&[use_of(other)]).unwrap();
    let sid = bench.sid(other);
    assert!(bench.system.waiting().contains(&update(sid, Box3d::new(0, 8, 0, 256, 4, 1))));

    bench.system.file.surface_destroy(&bench.cpu.task, coherent).unwrap();
    assert!(tracks());
    bench.exec(&[use_of(other)]).unwrap();
    assert!(!tracks());
}

#[test]
fn v_14_what_the_device_has_newer_is_read_back_before_a_swap_out() {
    let bench = Bench::fixed();
    let (surface, _) = bench.attached(rgba(256, 256));
    bench.clear(bench.context(surface), 1).unwrap();
    bench.finish();
    bench.system.device.take_executed();
    let (sid, bo) = (bench.sid(surface), bench.bo(surface));

    bench.system.dev.bo_swapout(&bench.cpu.task, &bo).unwrap();

    // Executed, and not only emitted: the swap-out waited.
    let executed = bench.system.device.take_executed();
    let unbind = Command::BindGbSurface { sid, mob: MobId::INVALID };
    assert_eq!(executed[..2], [Command::ReadbackGbSurface { sid }, unbind]);
    assert!(matches!(executed[2..], [Command::Fence { .. }]));
    assert!(bench.backup_dirty(surface) && !bench.res_dirty(surface));
    assert!(!bench.surface(surface).res.state().attached());
    bench.assert_sound();
}

#[test]
fn v_15_what_the_device_has_not_newer_is_given_up_before_a_swap_out() {
    let bench = Bench::fixed();
    let (surface, _) = bench.attached(rgba(256, 256));
    let (sid, bo) = (bench.sid(surface), bench.bo(surface));

    bench.system.dev.bo_swapout(&bench.cpu.task, &bo).unwrap();

    let executed = bench.system.device.take_executed();
    let unbind = Command::BindGbSurface { sid, mob: MobId::INVALID };
    assert_eq!(executed[..2], [Command::InvalidateGbSurface { sid }, unbind]);
    assert!(matches!(executed[2..], [Command::Fence { .. }]));
}

#[test]
fn v_16_without_a_free_number_the_surface_longest_unused_is_evicted() {
    let bench = Bench::fixed();
    bench.system.dev.limit_ids(ResType::GbSurface, 2);
    let [first, second, third] = [(); 3].map(|()| bench.coherent(rgba(16, 16)));
    bench.settle(first);
    bench.settle(second);

    bench.exec(&[use_of(third)]).unwrap();

    assert_eq!(bench.surface(first).sid(), None);
    assert!(bench.backup_dirty(first));
    assert!(bench.surface(second).sid().is_some());
    bench.assert_sound();
}

#[test]
fn v_16_more_than_ten_failures_to_evict_are_an_error() {
    let bench = Bench::fixed();
    bench.system.dev.limit_ids(ResType::GbSurface, 12);
    let surfaces = [(); 12].map(|()| bench.coherent(rgba(16, 16)));
    surfaces.iter().for_each(|surface| bench.settle(*surface));
    let last = bench.coherent(rgba(16, 16));
    let other_task = Task::new();
    let objects = surfaces.map(|surface| bench.bo(surface));
    let held: Vec<_> = objects.iter().map(|bo| bo.reserve(&other_task)).collect();

    assert_eq!(bench.exec(&[use_of(last)]).err(), Some(Error::Busy));
    drop(held);
    bench.exec(&[use_of(last)]).unwrap();

    // One after the other was tried and put to the end: the twelfth is the first now.
    assert_eq!(bench.surface(surfaces[11]).sid(), None);
    bench.assert_sound();
}

#[test]
fn v_16_with_nothing_to_evict_there_is_no_number() {
    let bench = Bench::fixed();
    bench.system.dev.limit_ids(ResType::GbSurface, 1);
    let (first, second) = (bench.coherent(rgba(16, 16)), bench.coherent(rgba(16, 16)));

    // Both in one batch: neither is on the list.
    assert_eq!(bench.exec(&[use_of(first), use_of(second)]).err(), Some(Error::Busy));
    bench.assert_sound();
}

#[test]
fn v_17_an_object_that_the_cpu_has_grabbed_is_busy() {
    let bench = Bench::fixed();
    let (surface, _) = bench.attached(rgba(256, 256));
    let mob = bench.system.handle_of(&bench.bo(surface));
    let write = SyncCpu { write: true, ..SyncCpu::default() };
    bench.system.file.synccpu_grab(&bench.cpu.task, mob, write).unwrap();

    assert_eq!(bench.exec(&[use_of(surface)]).err(), Some(Error::Busy));
    bench.system.file.synccpu_release(mob, write).unwrap();
    assert!(bench.exec(&[use_of(surface)]).is_ok());
}

#[test]
fn v_18_all_objects_are_scanned_before_any_resource_is_validated() {
    let bench = Bench::fixed();
    let (first, first_at) = bench.attached(rgba(256, 256));
    let (second, second_at) = bench.attached(rgba(256, 256));
    let context = bench.context(first);
    bench.write_pages(first_at, [1], 1);
    bench.write_pages(second_at, [1], 1);
    let (mm, address) = (Arc::clone(&bench.cpu.mm.mm), second_at + PAGE_SIZE);
    assert!(mm.tables.pte(address).dirty());

    let clean = Arc::new(std::sync::Mutex::new(None));
    let seen = Arc::clone(&clean);
    bench.system.machine.at(Point::BeforeUnmap, move || {
        *seen.lock().unwrap() = Some(!mm.tables.pte(address).dirty());
    });
    let clear = Command::DxClearRenderTargetView { view: VIEW, rgba: 0 };
    bench.exec_dx(context, &[clear, use_of(second)]).unwrap();

    assert_eq!(*clean.lock().unwrap(), Some(true));
}

#[test]
fn v_19_what_is_bound_to_a_context_is_written_by_each_of_its_batches() {
    let bench = Bench::fixed();
    let (surface, at) = bench.attached(rgba(256, 256));
    let context = bench.context(surface);
    bench.exec_dx(context, &[SET_TARGET]).unwrap();
    bench.cpu.load(at).unwrap();
    assert!(!bench.res_dirty(surface));

    bench.exec_dx(context, &[Command::DxSetIndexBuffer { sid: SurfaceId::INVALID }]).unwrap();

    assert!(bench.res_dirty(surface));
    bench.assert_sound();
}

#[test]
fn v_20_levels_are_generated_into_the_surface_behind_the_view() {
    let bench = Bench::fixed();
    let (surface, _) = bench.attached(SurfaceMetadata { mip_levels: 3, ..rgba(64, 64) });
    let context = bench.context(surface);

    bench.exec_dx(context, &[Command::DxGenMips { view: VIEW }]).unwrap();

    assert!(bench.res_dirty(surface));
    bench.assert_sound();
}

/// Whether DMA in a direction leaves the device with newer content of a surface.
fn dirty_after_dma(transfer: u32) -> bool {
    let bench = Bench::fixed();
    let (surface, _) = bench.attached(rgba(256, 256));
    let guest = GuestImage { mob: bench.system.file.bo_create(PAGE_SIZE), offset: 0, pitch: 0 };
    let copy_box = CopyBox::at(Box3d::new(0, 0, 0, 256, 4, 1));
    bench.exec(&[Command::SurfaceDma { guest, host: ImageId::first(surface), transfer, copy_box }]).unwrap();
    bench.finish();
    bench.assert_sound();
    bench.res_dirty(surface)
}

#[test]
fn v_21_dma_from_the_guest_writes_the_surface_and_dma_to_it_does_not() {
    assert!(dirty_after_dma(TRANSFER_WRITE_HOST));
    assert!(!dirty_after_dma(TRANSFER_READ_HOST));
}

#[test]
fn v_22_pinning_takes_the_pages_and_says_nothing_of_newer_content() {
    let bench = Bench::fixed();
    let (surface, at) = bench.attached(rgba(256, 256));
    bench.write_pages(at, [1, 5], 0xAB);
    let res = Arc::clone(&bench.surface(surface).res);

    bench.system.dev.resource_pin(&bench.cpu.task, &res).unwrap();

    assert_eq!(bench.mapped(surface), []);
    assert!(!bench.res_dirty(surface));
    assert!(bench.system.waiting().contains(&update(bench.sid(surface), Box3d::new(0, 4, 0, 256, 20, 1))));
    bench.assert_sound();
    bench.system.dev.resource_unpin(&bench.cpu.task, &res).unwrap();
}

#[test]
fn v_23_a_surface_that_is_destroyed_leaves_nothing_behind() {
    let bench = Bench::fixed();
    let surface = bench.coherent(rgba(256, 256));
    let handle = bench.system.handle_of(&bench.bo(surface));
    bench.settle(surface);
    let (sid, bo) = (bench.sid(surface), bench.bo(surface));

    bench.system.file.surface_destroy(&bench.cpu.task, surface).unwrap();

    let waiting = bench.system.waiting();
    let unbind = Command::BindGbSurface { sid, mob: MobId::INVALID };
    assert_eq!(waiting[..2], [Command::InvalidateGbSurface { sid }, unbind]);
    assert!(matches!(waiting[2], Command::Fence { .. }));
    assert_eq!(waiting[3..], [Command::DestroyGbSurface { sid }]);
    assert_eq!(bench.refs(&bo), 0);
    drop(bo);
    bench.system.file.bo_close(&bench.cpu.task, handle).unwrap();
    assert_eq!(bench.cpu.task.take_splats(), []);
}

#[test]
fn v_24_a_coherent_surface_has_an_object_from_the_start() {
    let bench = Bench::fixed();
    let create = SurfaceCreate { create_buffer: false, ..SurfaceCreate::coherent(rgba(256, 256)) };

    let surface = bench.create(&create);

    assert_eq!(bench.bo(surface).num_pages(), 64);
    assert_eq!(bench.refs(&bench.bo(surface)), 1);
    let surface = bench.surface(surface);
    let state = surface.res.state();
    assert!(state.coherent && state.dirty.is_some());
}

#[test]
fn v_25_a_legacy_surface_cannot_be_coherent() {
    let bench = Bench::fixed();
    let backing = bench.system.file.bo_create(64 * PAGE_SIZE);
    let legacy = SurfaceCreate { legacy: true, ..SurfaceCreate::coherent(rgba(256, 256)) };
    let on_an_object = SurfaceCreate { backing: Some(backing), ..legacy.clone() };

    assert_eq!(bench.system.file.surface_create(&bench.cpu.task, &legacy).err(), Some(Error::Invalid));
    assert_eq!(bench.system.file.surface_create(&bench.cpu.task, &on_an_object).err(), Some(Error::Invalid));

    assert_eq!(bench.system.file.surfaces().len(), 0);
    assert_eq!(bench.refs(&bench.system.file.bo(backing).unwrap()), 0);
    assert_eq!(bench.system.file.all_bos().len(), 1);
}

#[test]
fn v_25_a_surface_without_layout_cannot_be_coherent() {
    let bench = Bench::fixed();
    let backing = bench.system.file.bo_create(64 * PAGE_SIZE);
    // It has a size: the state of stream output.
    let invalid = SurfaceMetadata {
        flags: kmd_sim::svga::types::SurfaceFlags::BIND_STREAM_OUTPUT,
        ..SurfaceMetadata::new(SurfaceFormat::FORMAT_INVALID, Size3d::new(1, 1, 1))
    };
    let create = SurfaceCreate { backing: Some(backing), ..SurfaceCreate::coherent(invalid) };

    assert_eq!(bench.system.file.surface_create(&bench.cpu.task, &create).err(), Some(Error::Invalid));

    assert_eq!(bench.refs(&bench.system.file.bo(backing).unwrap()), 0);
}

#[test]
fn v_26_resources_of_an_object_are_in_the_order_of_their_offsets() {
    let bench = Bench::fixed();
    let backing = bench.system.file.bo_create(8 * PAGE_SIZE);
    let bo = bench.system.file.bo(backing).unwrap();
    let surface = bench.create(&SurfaceCreate { backing: Some(backing), ..SurfaceCreate::new(rgba(64, 16)) });
    let shaders = [0x3000, 0x1000].map(|offset| shader(&bo, offset, 256).unwrap());
    let mut validation = ValidationContext::new();
    for res in shaders.iter().chain([&bench.surface(surface).res]) {
        validation.add_resource(res, DirtyFlag::None);
    }

    let mut prepared = validation.prepare(&bench.system.dev, &bench.cpu.task, true).unwrap();
    prepared.unreserve().unwrap();
    prepared.fence(None);

    let offsets = || -> Vec<u64> {
        bo.reserve(&bench.cpu.task).driver.res_tree.iter().map(|(bytes, _)| bytes.start).collect()
    };
    assert_eq!(offsets(), [0, 0x1000, 0x3000]);
    resource::release(&bench.system.dev, &bench.cpu.task, &shaders[1]).unwrap();
    assert_eq!(offsets(), [0, 0x3000]);
    resource::release(&bench.system.dev, &bench.cpu.task, &shaders[0]).unwrap();
    bench.finish();
}

/// Where in the tree of its new object a surface is that was switched from offset 0 to 0x3000 of it: the
/// order of the offsets at which things are, by the resources themselves.
fn order_after_a_switch(upstream: Upstream) -> Vec<u64> {
    let bench = Bench::new(upstream);
    let (moved, _) = bench.attached(rgba(64, 16));
    let mob = bench.system.file.bo_create(8 * PAGE_SIZE);
    let resident = SurfaceCreate { backing: Some(mob), offset: 0x1000, ..SurfaceCreate::new(rgba(64, 16)) };
    bench.settle(bench.create(&resident));

    bench.exec(&[Command::BindGbSurfaceAtOffset { sid: moved, mob, offset: 0x3000 }]).unwrap();

    let bo = bench.system.file.bo(mob).unwrap();
    let state = bo.reserve(&bench.cpu.task);
    state.driver.res_tree.iter().map(|(_, res)| res.state().offset).collect()
}

#[test]
fn v_27_a_switch_attaches_by_the_new_offset() {
    assert_eq!(order_after_a_switch(Upstream::default()), [0x1000, 0x3000]);
}

#[test]
fn v_27_upstream_attaches_by_the_old_offset() {
    assert_eq!(order_after_a_switch(Upstream::with_quirk("Q-04")), [0x3000, 0x1000]);
}

#[test]
fn v_28_the_priority_of_an_object_is_that_of_its_resources() {
    let bench = Bench::fixed();
    let priority = |surface| bench.bo(surface).reserve(&bench.cpu.task).priority;
    let surface = bench.coherent(pages(4));
    assert_eq!(priority(surface), 3);

    bench.settle(surface);
    assert_eq!(priority(surface), 1);

    let context = bench.context(surface);
    bench.clear(context, 0).unwrap();
    let mob = bench.system.file.bo_create(4 * PAGE_SIZE);
    bench.exec(&[Command::BindGbSurface { sid: surface, mob }]).unwrap();
    assert_eq!(priority(surface), 2);
}
