//! Huge entries of buffer objects (`vmw_bo_vm_huge_fault`): mapped for loads, never for stores that must be
//! recorded.

use kmd_sim::mm::fault::Thread;
use kmd_sim::mmu::soft::page_table::Leaf;
use kmd_sim::soft_system::SoftSystem;
use kmd_sim::svga::cmd::Command;
use kmd_sim::svga::format::SurfaceFormat;
use kmd_sim::svga::surface_layout::SurfaceMetadata;
use kmd_sim::svga::types::{ImageId, Size3d, SurfaceId, ViewId};
use kmd_sim::upstream::Upstream;
use kmd_sim::vmwgfx::file::SurfaceCreate;

const PAGE: u64 = 4096;
const VIEW: ViewId = ViewId(0);

fn system() -> SoftSystem {
    SoftSystem::with(Upstream::default(), |dev| dev.huge_faults = true)
}

/// A coherent surface of 1024 pages, mapped.
fn surface(system: &SoftSystem, cpu: &Thread<'_>) -> (SurfaceId, u64) {
    let image = SurfaceMetadata::new(SurfaceFormat::R8G8B8A8_UNORM, Size3d::new(1024, 1024, 1));
    let surface = system.file.surface_create(&cpu.task, &SurfaceCreate::coherent(image)).unwrap();
    let at = system.map_surface(cpu, surface);
    (surface, at)
}

/// A batch that reads the surface.
fn read(system: &SoftSystem, cpu: &Thread<'_>, surface: SurfaceId) {
    let commands = [Command::BlitSurfaceToScreen { src: ImageId::first(surface), screen: 0 }];
    system.file.execbuf(&cpu.task, None, &commands).unwrap();
    system.dev.wait_idle();
}

/// A batch that fills the surface with a byte.
fn fill(system: &SoftSystem, cpu: &Thread<'_>, surface: SurfaceId, byte: u8) {
    let context = system.file.context_create(true);
    let commands = [
        Command::DxDefineRenderTargetView { view: VIEW, sid: surface },
        Command::DxClearRenderTargetView { view: VIEW, rgba: u32::from_le_bytes([byte; 4]) },
    ];
    system.file.execbuf(&cpu.task, Some(context), &commands).unwrap();
}

fn is_huge(cpu: &Thread<'_>, address: u64) -> bool {
    matches!(cpu.mm.mm.tables.leaf(address), Some(Leaf::Pmd(_)))
}

#[test]
fn a_load_from_a_tracked_object_maps_a_huge_entry_that_is_read_only() {
    let system = system();
    let mm = system.process();
    let cpu = system.thread(&mm);
    let (_, at) = surface(&system, &cpu);
    assert_eq!(cpu.load(at + 700 * PAGE), Ok(0));
    assert!(is_huge(&cpu, at + 700 * PAGE));
    assert!(!cpu.pte(at + 700 * PAGE).write());
    assert!(cpu.pte(at).none());
}

#[test]
fn a_store_under_a_huge_entry_is_recorded_by_a_small_one_and_uploaded() {
    let system = system();
    let mm = system.process();
    let cpu = system.thread(&mm);
    let (surface, at) = surface(&system, &cpu);
    read(&system, &cpu, surface);
    assert_eq!(cpu.load(at), Ok(0));
    assert!(is_huge(&cpu, at));
    cpu.store(at + 3 * PAGE, 9).unwrap();
    assert!(!is_huge(&cpu, at));
    assert_eq!(system.bits(&cpu, &system.backing(surface)), Some(vec![3]));
    read(&system, &cpu, surface);
    assert_eq!(system.device_bytes(surface)[3 * 4096], 9);
}

#[test]
fn a_batch_that_writes_takes_huge_entries_away_and_a_load_reads_back() {
    let system = system();
    let mm = system.process();
    let cpu = system.thread(&mm);
    let (surface, at) = surface(&system, &cpu);
    assert_eq!(cpu.load(at), Ok(0));
    assert!(is_huge(&cpu, at));
    fill(&system, &cpu, surface, 0xEE);
    assert!(cpu.pte(at).none());
    assert_eq!(cpu.load(at + 5 * PAGE), Ok(0xEE));
    assert!(is_huge(&cpu, at));
}

#[test]
fn an_untracked_object_is_mapped_huge_and_writable() {
    let system = system();
    let mm = system.process();
    let cpu = system.thread(&mm);
    let bo = system.dev.bo_create(1024 * PAGE);
    let at = system.map(&cpu, &bo);
    cpu.store(at + 600 * PAGE, 7).unwrap();
    assert!(is_huge(&cpu, at + 600 * PAGE));
    assert!(cpu.pte(at + 600 * PAGE).dirty());
    assert_eq!(cpu.load(at + 600 * PAGE), Ok(7));
}
