//! Vectors V-01 to V-12: validation, and the submission of batches.

use std::sync::Arc;

use kmd_sim::addr::PAGE_SIZE;
use kmd_sim::error::Error;
use kmd_sim::mm::machine::Point;
use kmd_sim::svga::cmd::{Command, TRANSFER_WRITE_HOST};
use kmd_sim::svga::types::{Box3d, CopyBox, GuestImage, ImageId, ViewId};
use kmd_sim::upstream::Upstream;
use kmd_sim::vmwgfx::file::SyncCpu;

use crate::bench::{Bench, copy, rgba, update, use_of, without_fences};

const VIEW: ViewId = ViewId(0);
const SET_TARGET: Command =
    Command::DxSetRenderTargets { depth_stencil: ViewId::INVALID, render_target: VIEW };

#[test]
fn v_01_what_the_cpu_wrote_is_uploaded_in_front_of_a_batch_that_reads() {
    let bench = Bench::fixed();
    let (surface, at) = bench.attached(rgba(256, 256));
    let other = bench.plain(rgba(256, 256));
    bench.settle(other);
    bench.write_pages(at, [1], 0xAB);

    bench.exec(&[copy(surface, other, 256, 256)]).unwrap();

    let (src, dest) = (bench.sid(surface), bench.sid(other));
    let expected = [update(src, Box3d::new(0, 4, 0, 256, 4, 1)), copy(src, dest, 256, 256)];
    assert_eq!(without_fences(bench.system.waiting()), expected);
    assert_eq!(bench.bits(surface), []);
    assert!(!bench.res_dirty(surface));
    assert_eq!(bench.mapped(surface), (1..17).collect::<Vec<_>>());
    bench.assert_sound();
}

#[test]
fn v_02_a_batch_that_renders_takes_the_pages_before_the_transfer() {
    let bench = Bench::fixed();
    let (surface, at) = bench.attached(rgba(256, 256));
    let context = bench.context(surface);
    bench.write_pages(at, [1, 7], 0xAB);

    bench.clear(context, 0).unwrap();

    let uploads =
        bench.system.waiting().into_iter().filter(|c| matches!(c, Command::DxUpdateSubresource { .. }));
    // What the hardware knew of the writes was saved before the entries went.
    assert_eq!(uploads.collect::<Vec<_>>(), [update(bench.sid(surface), Box3d::new(0, 4, 0, 256, 28, 1))]);
    assert_eq!(bench.mapped(surface), []);
    assert!(bench.res_dirty(surface));
    bench.assert_sound();
}

#[test]
fn v_03_what_the_device_has_newer_already_is_not_unmapped_again() {
    let bench = Bench::fixed();
    let (surface, _) = bench.attached(rgba(256, 256));
    let context = bench.context(surface);
    bench.clear(context, 1).unwrap();
    bench.cpu.mm.mm.take_events();

    let hit = Arc::new(std::sync::Mutex::new(false));
    let seen = Arc::clone(&hit);
    bench.system.machine.at(Point::BeforeUnmap, move || *seen.lock().unwrap() = true);
    bench.clear(context, 2).unwrap();

    assert!(!*hit.lock().unwrap());
    assert_eq!(bench.cpu.mm.mm.take_events(), []);
    assert!(bench.res_dirty(surface));
}

#[test]
fn v_04_a_readback_at_the_end_of_a_batch_leaves_both_copies_the_same() {
    let bench = Bench::fixed();
    let (surface, at) = bench.attached(rgba(256, 256));
    let context = bench.context(surface);
    bench.write_pages(at, [1], 0xAB);

    bench.exec_dx(context, &[SET_TARGET, Command::ReadbackGbSurface { sid: surface }]).unwrap();

    assert_eq!(bench.mapped(surface), (1..17).collect::<Vec<_>>());
    assert!(!bench.res_dirty(surface));
    bench.assert_sound();
}

#[test]
fn v_05_a_copy_behind_an_update_leaves_the_device_with_newer_content() {
    let bench = Bench::fixed();
    let (surface, _) = bench.attached(rgba(256, 256));
    let other = bench.plain(rgba(256, 256));

    bench.exec(&[Command::UpdateGbSurface { sid: surface }, copy(other, surface, 256, 256)]).unwrap();

    assert!(bench.res_dirty(surface));
    bench.assert_sound();
}

#[test]
fn v_06_a_batch_that_is_not_submitted_makes_nothing_dirty() {
    let bench = Bench::fixed();
    let (surface, at) = bench.attached(rgba(256, 256));
    let context = bench.context(surface);
    bench.write_pages(at, [1], 0xAB);
    let update = update(bench.sid(surface), Box3d::new(0, 4, 0, 256, 4, 1));
    bench.command_space(update.bytes());

    let result = bench.clear(context, 0);

    assert_eq!(result.err(), Some(Error::NoMemory));
    assert_eq!(bench.system.waiting(), [update]);
    assert!(!bench.res_dirty(surface));
    assert_eq!(bench.bits(surface), []);
    assert_eq!(bench.refs(&bench.bo(surface)), 1);
    bench.assert_sound();
}

#[test]
fn v_07_a_coherent_surface_takes_its_tracking_along_to_another_object() {
    let bench = Bench::fixed();
    let (surface, _) = bench.attached(rgba(256, 256));
    let old = bench.bo(surface);
    let mob = bench.system.file.bo_create(old.size);
    let new = bench.system.file.bo(mob).unwrap();

    bench.exec(&[Command::BindGbSurface { sid: surface, mob }]).unwrap();

    assert_eq!((bench.refs(&old), bench.refs(&new)), (0, 1));
    assert!(Arc::ptr_eq(&bench.bo(surface), &new));
    let res = Arc::clone(&bench.surface(surface).res);
    let state = new.reserve(&bench.cpu.task);
    assert_eq!(state.driver.res_tree.iter().filter(|(_, on)| Arc::ptr_eq(on, &res)).count(), 1);
    drop(state);
    assert_eq!(bench.cpu.task.take_splats(), []);
    bench.assert_sound();
}

#[test]
fn v_08_a_switch_to_the_same_object_takes_a_reference_and_gives_it_back() {
    let bench = Bench::fixed();
    let (surface, _) = bench.attached(rgba(256, 256));
    let bo = bench.bo(surface);
    let mob = bench.system.handle_of(&bo);

    bench.exec(&[Command::BindGbSurface { sid: surface, mob }]).unwrap();

    assert_eq!(bench.refs(&bo), 1);
    assert!(Arc::ptr_eq(&bench.bo(surface), &bo));
    bench.assert_sound();
}

#[test]
fn v_09_a_switch_that_is_not_submitted_did_not_happen() {
    let bench = Bench::fixed();
    let (surface, _) = bench.attached(rgba(256, 256));
    let old = bench.bo(surface);
    let mob = bench.system.file.bo_create(old.size);
    let new = bench.system.file.bo(mob).unwrap();
    bench.command_space(0);

    let result = bench.exec(&[Command::BindGbSurface { sid: surface, mob }]);

    assert_eq!(result.err(), Some(Error::NoMemory));
    assert_eq!((bench.refs(&old), bench.refs(&new)), (1, 0));
    assert!(Arc::ptr_eq(&bench.bo(surface), &old));
    bench.assert_sound();
}

/// Users of the tracker of an object after a batch that failed at the object in front of it.
fn refs_after_an_early_failure(upstream: Upstream) -> u32 {
    let bench = Bench::new(upstream);
    let (surface, _) = bench.attached(rgba(256, 256));
    let (owner, _) = bench.attached(rgba(256, 256));
    let tracked = bench.bo(owner);
    let busy = bench.system.file.bo_create(PAGE_SIZE);
    let write = SyncCpu { write: true, ..SyncCpu::default() };
    bench.system.file.synccpu_grab(&bench.cpu.task, busy, write).unwrap();
    let transfer = Command::SurfaceDma {
        guest: GuestImage { mob: busy, offset: 0, pitch: 0 },
        host: ImageId::first(surface),
        transfer: TRANSFER_WRITE_HOST,
        copy_box: CopyBox::at(Box3d::new(0, 0, 0, 1, 1, 1)),
    };
    let mob = bench.system.handle_of(&tracked);

    let result = bench.exec(&[transfer, Command::BindGbSurface { sid: surface, mob }]);

    assert_eq!(result.err(), Some(Error::Busy));
    bench.refs(&tracked)
}

#[test]
fn v_10_a_failure_gives_back_what_was_taken() {
    assert_eq!(refs_after_an_early_failure(Upstream::default()), 1);
}

#[test]
fn v_10_upstream_gives_back_a_reference_it_never_took() {
    // The tracker is gone while the surface that asked for it is there.
    assert_eq!(refs_after_an_early_failure(Upstream::with_quirk("Q-12")), 0);
}

#[test]
fn v_11_a_first_bind_uploads_nothing() {
    let bench = Bench::fixed();
    let surface = bench.coherent(rgba(256, 256));

    bench.exec(&[use_of(surface)]).unwrap();

    let waiting = bench.system.waiting();
    let bind = Command::BindGbSurface { sid: bench.sid(surface), mob: bench.mob(surface) };
    assert_eq!(bind.bytes(), 8 + 8);
    assert!(waiting.contains(&bind));
    assert!(!waiting.iter().any(|command| matches!(command, Command::UpdateGbSurface { .. })));
}

#[test]
fn v_12_an_evicted_surface_is_uploaded_as_a_whole() {
    let bench = Bench::fixed();
    let (surface, at) = bench.attached(rgba(256, 256));
    bench.evict(surface);
    bench.write_pages(at, 0..4, 0xAB);
    bench.finish();

    bench.exec(&[use_of(surface)]).unwrap();

    let (sid, mob) = (bench.sid(surface), bench.mob(surface));
    let waiting = without_fences(bench.system.waiting());
    let bound = waiting.iter().position(|c| *c == Command::BindGbSurface { sid, mob }).unwrap();
    assert_eq!(waiting[bound + 1..], [Command::UpdateGbSurface { sid }, use_of(sid)]);
    assert_eq!(bench.bits(surface), []);
    assert!(!bench.backup_dirty(surface));
    bench.assert_sound();
}
