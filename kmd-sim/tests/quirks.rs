//! What each defect of upstream costs: with the quirk on a byte is lost, or is wrong; with it off it is not.
//!
//! | quirk | shown here | and by vectors |
//! |---|---|---|
//! | Q-01 | `a_read_only_mapping_hides_writes_of_others` | W-03 |
//! | Q-02 | `loose_bounds_cost_no_byte` | H-06, H-07, T-23 |
//! | Q-03 | `a_neighbour_loses_its_pages` | X-01 to X-05 |
//! | Q-04 | `a_fault_misses_a_surface_that_was_moved` | V-27 |
//! | Q-05 | `a_write_goes_with_its_mapping` | T-28, T-29, E-07 |
//! | Q-06 | `a_draw_behind_a_readback_is_not_read_back` | – |
//! | Q-07 | `a_fault_reads_back_what_nobody_asked_for` | F-16 to F-18 |
//! | Q-08 | `a_fault_does_not_wait_for_an_overlapping_surface` | F-19 |
//! | Q-09 | `a_box_loses_its_right_edge` | S-21 to S-24, S-46 |
//! | Q-10 | `a_change_of_method_uploads_stale_pages` | E-10 |
//! | Q-11 | `a_box_of_negative_size_is_refused` | S-47, S-48 |
//! | Q-12 | `a_failed_batch_ends_the_tracking_of_another_surface` | V-10 |
//! | Q-13 | `the_cpu_keeps_a_stale_page_after_mode_setting` | – |
//! | Q-14 | `a_readback_overwrites_the_cpu` | – |
//! | Q-15 | `a_planar_box_misses_rows`, `a_multisampled_box_misses_rows` | S-40 to S-42 |
//! | Q-16 | – | `mkwrite_window.rs` |
//! | Q-17 | `a_switch_leaves_a_stale_page_mapped` | – |
//! | R-08 | `a_late_fault_uploads_a_stale_page` | E-09 |

use std::sync::Arc;

use kmd_sim::addr::PAGE_SIZE;
use kmd_sim::mm::fault::Thread;
use kmd_sim::mm::machine::Point;
use kmd_sim::mm::vma::{FaultFlags, VmFault, VmFlags};
use kmd_sim::soft_system::SoftSystem;
use kmd_sim::svga::cmd::{Command, TRANSFER_WRITE_HOST};
use kmd_sim::svga::format::SurfaceFormat;
use kmd_sim::svga::surface_layout::SurfaceMetadata;
use kmd_sim::svga::types::{
    Box3d, ContextId, CopyBox, GuestImage, ImageId, Size3d, SurfaceFlags, SurfaceId, ViewId,
};
use kmd_sim::upstream::{Quirks, Upstream};
use kmd_sim::vmwgfx::file::{SurfaceCreate, SyncCpu};
use kmd_sim::vmwgfx::resource_validate::do_evict;
use kmd_sim::vmwgfx::validation::DirtyFlag;

const VIEW: ViewId = ViewId(0);
/// What the device fills with: each byte of red.
const RED: u8 = 0xEE;

struct Bench {
    system: SoftSystem,
    cpu: Thread<'static>,
}

/// A surface with four bytes a texel and one row a page.
fn pages(pages: u32) -> SurfaceMetadata {
    SurfaceMetadata::new(SurfaceFormat::R8G8B8A8_UNORM, Size3d::new(1024, pages, 1))
}

impl Bench {
    fn new(upstream: Upstream) -> Self {
        let system = SoftSystem::new(upstream);
        let cpu = process(&system);
        Self { system, cpu }
    }

    fn create(&self, create: &SurfaceCreate) -> SurfaceId {
        self.system.file.surface_create(&self.cpu.task, create).unwrap()
    }

    /// Coherent surfaces of as many pages each, behind each other in one object.
    fn neighbours<const N: usize>(&self, each: u32) -> [SurfaceId; N] {
        let bytes = u64::from(each) * PAGE_SIZE;
        let backing = Some(self.system.file.bo_create(bytes * N as u64));
        let mut offset = 0;
        [(); N].map(|()| {
            let surface =
                self.create(&SurfaceCreate { backing, offset, ..SurfaceCreate::coherent(pages(each)) });
            offset += bytes;
            surface
        })
    }

    /// A coherent surface that the CPU has mapped and the device knows.
    fn coherent(&self, metadata: SurfaceMetadata) -> (SurfaceId, u64) {
        let surface = self.create(&SurfaceCreate::coherent(metadata));
        let at = self.system.map_surface(&self.cpu, surface);
        self.exec(&[use_of(surface)]);
        (surface, at)
    }

    fn exec(&self, commands: &[Command]) {
        self.system.file.execbuf(&self.cpu.task, None, commands).unwrap();
    }

    /// A batch in a context whose view 0 shows a surface.
    fn exec_on(&self, surface: SurfaceId, commands: &[Command]) -> ContextId {
        let context = self.system.file.context_create(true);
        let view = Command::DxDefineRenderTargetView { view: VIEW, sid: surface };
        self.system.file.execbuf(&self.cpu.task, Some(context), &[&[view], commands].concat()).unwrap();
        context
    }

    /// The device fills a surface with red.
    fn fill(&self, surface: SurfaceId) {
        self.exec_on(
            surface,
            &[Command::DxClearRenderTargetView { view: VIEW, rgba: u32::from_le_bytes([RED; 4]) }],
        );
    }

    fn store(&self, address: u64, value: u8) {
        self.cpu.store(address, value).unwrap();
    }

    fn load(&self, address: u64) -> u8 {
        self.cpu.load(address).unwrap()
    }

    /// A byte of the device's copy, once it has done everything.
    fn device_byte(&self, surface: SurfaceId, offset: usize) -> u8 {
        self.system.dev.wait_idle();
        self.system.device_bytes(surface)[offset]
    }

    /// A byte of the device's copy after a batch has used the surface.
    fn uploaded(&self, surface: SurfaceId, offset: usize) -> u8 {
        self.exec(&[use_of(surface)]);
        self.device_byte(surface, offset)
    }
}

fn process(system: &SoftSystem) -> Thread<'static> {
    // A process lives as long as the test.
    system.thread(Box::leak(Box::new(system.process())))
}

fn use_of(surface: SurfaceId) -> Command {
    Command::BlitSurfaceToScreen { src: ImageId::first(surface), screen: 0 }
}

/// What a scenario comes to without defects, and with one.
fn fixed_and_quirk<R>(id: &str, scenario: impl Fn(Upstream) -> R) -> (R, R) {
    (scenario(Upstream::default()), scenario(Upstream::with_quirk(id)))
}

#[test]
fn a_read_only_mapping_hides_writes_of_others() {
    let bytes = fixed_and_quirk("Q-01", |upstream| {
        let bench = Bench::new(upstream);
        let surface = bench.create(&SurfaceCreate::coherent(pages(4)));
        let bo = bench.system.backing(surface);
        let reader = process(&bench.system);
        let read_only = VmFlags::SHARED.or(VmFlags::PFNMAP);
        bench.system.map_as(&reader, &bo, bench.system.address(&bo), read_only);
        let at = bench.system.map(&bench.cpu, &bo);

        bench.store(at, 7);
        bench.uploaded(surface, 0)
    });
    assert_eq!(bytes, (7, 0));
}

#[test]
fn loose_bounds_cost_no_byte() {
    let states = fixed_and_quirk("Q-02", |upstream| {
        let bench = Bench::new(upstream);
        let (surface, at) = bench.coherent(pages(8));
        bench.store(at + 5 * PAGE_SIZE, 7);
        let bo = bench.system.backing(surface);
        let mut state = bo.reserve(&bench.cpu.task);
        bench.system.dev.bo_dirty_unmap(&bench.cpu.task, &bo, &mut state, 4..6);
        let bounds = state.driver.dirty.as_ref().unwrap().bounds();
        drop(state);
        (bounds, bench.uploaded(surface, 5 * 4096))
    });
    assert_eq!(states, ((5..6, 7), (2..6, 7)));
}

#[test]
fn a_neighbour_loses_its_pages() {
    let bytes = fixed_and_quirk("Q-03", |upstream| {
        let bench = Bench::new(upstream);
        let [first, second] = bench.neighbours(4);
        let at = bench.system.map(&bench.cpu, &bench.system.backing(first));

        bench.store(at, 6);
        bench.store(at + 4 * PAGE_SIZE, 7);
        bench.exec(&[use_of(first), use_of(second)]);

        bench.cpu.task.take_splats();
        (bench.device_byte(first, 0), bench.device_byte(second, 0))
    });
    assert_eq!(bytes, ((6, 7), (6, 0)));
}

#[test]
fn a_fault_misses_a_surface_that_was_moved() {
    let bytes = fixed_and_quirk("Q-04", |upstream| {
        let bench = Bench::new(upstream);
        let (surface, _) = bench.coherent(pages(1));
        let mob = bench.system.file.bo_create(8 * PAGE_SIZE);
        bench.exec(&[Command::BindGbSurfaceAtOffset { sid: surface, mob, offset: 0x3000 }]);
        let at = bench.system.map_surface(&bench.cpu, surface);

        bench.fill(surface);
        bench.system.dev.wait_idle();
        bench.load(at)
    });
    assert_eq!(bytes, (RED, 0));
}

#[test]
fn a_write_goes_with_its_mapping() {
    let bytes = fixed_and_quirk("Q-05", |upstream| {
        let bench = Bench::new(upstream);
        let (surface, at) = bench.coherent(pages(4));

        bench.store(at + PAGE_SIZE, 7);
        bench.system.unmap(&bench.cpu, &bench.system.backing(surface));
        bench.uploaded(surface, 4096)
    });
    assert_eq!(bytes, (7, 0));
}

#[test]
fn a_draw_behind_a_readback_is_not_read_back() {
    let bytes = fixed_and_quirk("Q-06", |upstream| {
        let bench = Bench::new(upstream);
        let (surface, at) = bench.coherent(pages(1));
        let target = Command::DxSetRenderTargets { depth_stencil: ViewId::INVALID, render_target: VIEW };
        let draw = Command::DxDraw { vertex_count: RED.into(), start_vertex: 0 };

        bench.exec_on(surface, &[target, Command::ReadbackGbSurface { sid: surface }, draw]);
        bench.system.dev.wait_idle();
        bench.load(at)
    });
    assert_eq!(bytes, (RED, 0));
}

#[test]
fn a_fault_reads_back_what_nobody_asked_for() {
    let readbacks = fixed_and_quirk("Q-07", |upstream| {
        let bench = Bench::new(upstream);
        let [first, second] = bench.neighbours(4);
        let at = bench.system.map(&bench.cpu, &bench.system.backing(first));
        bench.fill(first);
        bench.fill(second);

        assert_eq!(bench.load(at), RED);
        let executed = bench.system.device.take_executed();
        executed.iter().filter(|command| matches!(command, Command::ReadbackGbSurface { .. })).count()
    });
    assert_eq!(readbacks, (1, 2));
}

#[test]
fn a_fault_does_not_wait_for_an_overlapping_surface() {
    let bytes = fixed_and_quirk("Q-08", |upstream| {
        let bench = Bench::new(upstream);
        let [long] = bench.neighbours(16);
        let backing = Some(bench.system.handle_of(&bench.system.backing(long)));
        let short = bench.create(&SurfaceCreate { backing, ..SurfaceCreate::new(pages(1)) });
        let at = bench.system.map(&bench.cpu, &bench.system.backing(long));
        bench.exec(&[use_of(long)]);
        bench.exec(&[use_of(short)]);

        bench.fill(long);
        bench.system.dev.wait_idle();
        bench.load(at + 8 * PAGE_SIZE)
    });
    assert_eq!(bytes, (RED, 0));
}

#[test]
fn a_box_loses_its_right_edge() {
    let bytes = fixed_and_quirk("Q-09", |upstream| {
        let bench = Bench::new(upstream);
        let wide = SurfaceMetadata::new(SurfaceFormat::R8G8B8A8_UNORM, Size3d::new(2048, 16, 1));
        let (surface, at) = bench.coherent(wide);

        bench.store(at + PAGE_SIZE, 6);
        bench.store(at + 4 * PAGE_SIZE, 7);
        (bench.uploaded(surface, 4096), bench.device_byte(surface, 4 * 4096))
    });
    assert_eq!(bytes, ((6, 7), (0, 7)));
}

#[test]
fn a_change_of_method_uploads_stale_pages() {
    let bytes = fixed_and_quirk("Q-10", |upstream| {
        let bench = Bench::new(upstream);
        let surfaces = bench.neighbours::<3>(200);
        let all = surfaces.map(use_of);
        let at = bench.system.map(&bench.cpu, &bench.system.backing(surfaces[0]));
        bench.exec(&all);

        bench.fill(surfaces[1]);
        for value in 1..=3 {
            (0..60).chain(400..460).for_each(|page| bench.store(at + page * PAGE_SIZE, value));
            bench.exec(&all);
        }
        bench.device_byte(surfaces[1], 0)
    });
    assert_eq!(bytes, (RED, 0));
}

#[test]
fn a_box_of_negative_size_is_refused() {
    let errors = fixed_and_quirk("Q-11", |upstream| {
        let bench = Bench::new(upstream);
        let target = SurfaceMetadata {
            flags: SurfaceFlags::BIND_STREAM_OUTPUT,
            ..SurfaceMetadata::new(SurfaceFormat::BUFFER, Size3d::new(4090, 1, 1))
        };
        let (surface, at) = bench.coherent(target);

        bench.store(at + PAGE_SIZE, 7);
        bench.uploaded(surface, 0);
        bench.system.device.take_errors().len()
    });
    assert_eq!(errors, (0, 1));
}

#[test]
fn a_failed_batch_ends_the_tracking_of_another_surface() {
    let bytes = fixed_and_quirk("Q-12", |upstream| {
        let bench = Bench::new(upstream);
        let (owner, at) = bench.coherent(pages(4));
        let (other, _) = bench.coherent(pages(4));
        let busy = bench.system.file.bo_create(PAGE_SIZE);
        let write = SyncCpu { write: true, ..SyncCpu::default() };
        bench.system.file.synccpu_grab(&bench.cpu.task, busy, write).unwrap();
        let transfer = Command::SurfaceDma {
            guest: GuestImage { mob: busy, offset: 0, pitch: 0 },
            host: ImageId::first(other),
            transfer: TRANSFER_WRITE_HOST,
            copy_box: CopyBox::at(Box3d::new(0, 0, 0, 1, 1, 1)),
        };
        let mob = bench.system.handle_of(&bench.system.backing(owner));
        let switch = Command::BindGbSurface { sid: other, mob };
        assert!(bench.system.file.execbuf(&bench.cpu.task, None, &[transfer, switch]).is_err());

        bench.store(at, 7);
        bench.uploaded(owner, 0)
    });
    assert_eq!(bytes, (7, 0));
}

#[test]
fn the_cpu_keeps_a_stale_page_after_mode_setting() {
    let bytes = fixed_and_quirk("Q-13", |upstream| {
        let bench = Bench::new(upstream);
        let (source, source_at) = bench.coherent(pages(1));
        let (shown, at) = bench.coherent(pages(1));
        bench.store(source_at, 7);
        bench.exec(&[use_of(source)]);
        let source = bench.system.file.surface(source).unwrap().sid().unwrap();
        let mm = bench.cpu.mm;
        bench.system.machine.at(Point::AfterFence, move || {
            Thread::new(mm).load(at).unwrap();
        });

        let copy_box = CopyBox::at(Box3d::new(0, 0, 0, 1024, 1, 1));
        let shown = bench.system.file.surface(shown).unwrap();
        let copy =
            |sid| Command::SurfaceCopy { src: ImageId::first(source), dest: ImageId::first(sid), copy_box };
        bench.system.dev.kms_command(&bench.cpu.task, &shown, DirtyFlag::Set, copy).unwrap();
        bench.system.dev.wait_idle();
        bench.load(at)
    });
    assert_eq!(bytes, (7, 0));
}

#[test]
fn a_readback_overwrites_the_cpu() {
    let bytes = fixed_and_quirk("Q-14", |upstream| {
        let bench = Bench::new(upstream);
        let (surface, at) = bench.coherent(pages(1));
        bench.fill(surface);
        bench.system.dev.wait_idle();
        let bo = bench.system.backing(surface);
        let res = Arc::clone(&bench.system.file.surface(surface).unwrap().res);
        do_evict(&bench.system.dev, &res, Some(&mut bo.reserve(&bench.cpu.task))).unwrap();

        bench.store(at, 7);
        bench.uploaded(surface, 0)
    });
    assert_eq!(bytes, (7, RED));
}

#[test]
fn a_planar_box_misses_rows() {
    let bytes = fixed_and_quirk("Q-15", |upstream| {
        let bench = Bench::new(upstream);
        let (surface, at) =
            bench.coherent(SurfaceMetadata::new(SurfaceFormat::NV12, Size3d::new(128, 128, 1)));

        // Row 30 of luma.
        bench.store(at + 30 * 128, 7);
        bench.uploaded(surface, 30 * 128)
    });
    assert_eq!(bytes, (7, 0));
}

#[test]
fn a_multisampled_box_misses_rows() {
    let bytes = fixed_and_quirk("Q-15", |upstream| {
        let bench = Bench::new(upstream);
        let samples = SurfaceMetadata {
            flags: SurfaceFlags::MULTISAMPLE,
            multisample_count: 4,
            ..SurfaceMetadata::new(SurfaceFormat::R8G8B8A8_UNORM, Size3d::new(64, 64, 1))
        };
        let (surface, at) = bench.coherent(samples);

        bench.store(at + 3 * PAGE_SIZE, 7);
        bench.uploaded(surface, 3 * 4096)
    });
    assert_eq!(bytes, (7, 0));
}

/// What the CPU sees, and the device after a further batch, of a surface that a batch bound to another object
/// and filled. A process had written to that object before.
#[test]
fn a_switch_leaves_a_stale_page_mapped() {
    let bytes = fixed_and_quirk("Q-17", |upstream| {
        let bench = Bench::new(upstream);
        let (surface, _) = bench.coherent(pages(1));
        let home = bench.system.handle_of(&bench.system.backing(surface));
        let mob = bench.system.file.bo_create(PAGE_SIZE);
        // There and back: the object is where the device reaches it, and need not be moved again.
        bench.exec(&[Command::BindGbSurface { sid: surface, mob }]);
        bench.exec(&[Command::BindGbSurface { sid: surface, mob: home }]);
        let at = bench.system.map(&bench.cpu, &bench.system.file.bo(mob).unwrap());
        bench.store(at, 7);

        let rgba = u32::from_le_bytes([RED; 4]);
        bench.exec_on(
            surface,
            &[
                Command::BindGbSurface { sid: surface, mob },
                Command::DxClearRenderTargetView { view: VIEW, rgba },
            ],
        );
        bench.system.dev.wait_idle();
        (bench.load(at), bench.uploaded(surface, 0))
    });
    assert_eq!(bytes, ((RED, RED), (7, 7)));
}

#[test]
fn a_late_fault_uploads_a_stale_page() {
    let bytes = fixed_and_quirk("R-08", |upstream| {
        let bench = Bench::new(upstream);
        let (surface, at) = bench.coherent(pages(512));
        bench.load(at);
        let vma = Arc::clone(bench.cpu.mm.mmap_read_lock(&bench.cpu.task).values().next().unwrap());
        let flags = FaultFlags { write: true, ..FaultFlags::default() };
        let vmf = VmFault { pgoff: vma.pgoff_of(at), address: at, flags, orig_pte: bench.cpu.pte(at), vma };

        bench.fill(surface);
        vmf.vma.ops.pfn_mkwrite(&vmf, &bench.cpu.mm.mmap_read_lock(&bench.cpu.task));
        bench.uploaded(surface, 0)
    });
    assert_eq!(bytes, (RED, 0));
}

#[test]
fn every_quirk_is_in_the_list_above() {
    let source = include_str!("quirks.rs");
    for (id, _) in Quirks::ALL {
        assert!(source.contains(&format!("//! | {id} |")), "{id}");
    }
}
