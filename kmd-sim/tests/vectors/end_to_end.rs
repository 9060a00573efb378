//! Vectors E-01 to E-10: bytes from CPU to device and back.

use std::sync::Arc;

use kmd_sim::addr::PAGE_SIZE;
use kmd_sim::mm::vma::{FaultFlags, Mkwrite, VmFault};
use kmd_sim::svga::cmd::Command;
use kmd_sim::svga::types::{Box3d, SurfaceId};
use kmd_sim::upstream::{Profile, Quirks, Upstream};
use kmd_sim::vmwgfx::file::SurfaceCreate;
use kmd_sim::vmwgfx::page_dirty::Method;

use crate::bench::{Bench, copy, pages, rgba, use_of};

/// Red, as bytes.
const RED: [u8; 4] = [0xFF, 0, 0, 0xFF];

impl Bench {
    /// Stores something at every byte of some pages that is different for each.
    fn write_pattern(&self, at: u64, bytes: std::ops::Range<u64>) {
        for offset in bytes {
            self.cpu.store(at + offset, pattern(offset)).unwrap();
        }
    }

    fn load(&self, at: u64, len: u64) -> Vec<u8> {
        (0..len).map(|offset| self.cpu.load(at + offset).unwrap()).collect()
    }

    fn clear_to(&self, surface: SurfaceId, texel: [u8; 4]) {
        self.clear(self.context(surface), u32::from_le_bytes(texel)).unwrap();
    }

    /// What the device holds, once it has done everything.
    fn device_bytes(&self, surface: SurfaceId) -> Vec<u8> {
        self.finish();
        self.system.device_bytes(surface)
    }
}

fn pattern(offset: u64) -> u8 {
    let [low, high, ..] = offset.to_le_bytes();
    low.wrapping_mul(31) ^ high
}

fn patterned(len: u64) -> Vec<u8> {
    (0..len).map(pattern).collect()
}

#[test]
fn e_01_what_the_cpu_wrote_is_what_the_device_copies() {
    let bench = Bench::fixed();
    let (surface, at) = bench.attached(rgba(64, 64));
    let (other, other_at) = bench.attached(rgba(64, 64));
    bench.write_pattern(at, 0..64 * 64 * 4);

    bench.exec(&[copy(surface, other, 64, 64)]).unwrap().unwrap().wait(&bench.cpu.task, true).unwrap();

    assert_eq!(bench.load(other_at, 64 * 64 * 4), patterned(64 * 64 * 4));
    bench.assert_sound();
}

#[test]
fn e_02_what_the_device_wrote_is_what_the_cpu_reads_after_one_readback() {
    let bench = Bench::fixed();
    let (surface, at) = bench.attached(rgba(64, 64));

    bench.clear_to(surface, RED);
    bench.finish();
    let read = bench.load(at, 64 * 64 * 4);

    assert_eq!(read, RED.repeat(64 * 64));
    let readbacks = bench.system.device.take_executed();
    let readbacks = readbacks.iter().filter(|c| matches!(c, Command::ReadbackGbSurface { .. })).count();
    assert_eq!(readbacks, 1);
    bench.assert_sound();
}

#[test]
fn e_03_a_pixel_written_over_what_the_device_wrote_joins_it() {
    let bench = Bench::fixed();
    let (surface, at) = bench.attached(rgba(64, 64));
    let other = bench.coherent(rgba(64, 64));
    bench.clear_to(surface, RED);

    (0..4).for_each(|byte| bench.cpu.store(at + PAGE_SIZE + 16 + byte, 7).unwrap());
    bench.exec(&[copy(surface, other, 64, 64)]).unwrap();

    let mut expected = RED.repeat(64 * 64);
    expected[4096 + 16..4096 + 20].fill(7);
    assert_eq!(bench.device_bytes(other), expected);
    let executed = bench.system.device.take_executed();
    let uploads: Vec<_> =
        executed.iter().filter(|c| matches!(c, Command::DxUpdateSubresource { .. })).copied().collect();
    let image_box = Box3d::new(0, 16, 0, 64, 16, 1);
    assert_eq!(
        uploads,
        [Command::DxUpdateSubresource { sid: bench.sid(surface), sub_resource: 0, image_box }]
    );
    bench.assert_sound();
}

#[test]
fn e_04_a_large_object_keeps_to_faults_until_they_cost_too_much() {
    let bench = Bench::fixed();
    let (surface, at) = bench.attached(pages(1000));
    let round = |pages: u64| {
        bench.write_pages(at, 0..pages, 1);
        bench.exec(&[use_of(surface)]).unwrap();
        bench.finish();
        bench.method(surface)
    };

    let few: Vec<Method> = (0..10).map(|_| round(30)).collect();
    let idle: Vec<Method> = (0..4).map(|_| round(0)).collect();
    let half: Vec<Method> = (0..4).map(|_| round(500)).collect();

    assert_eq!((few, idle), (vec![Method::Mkwrite; 10], vec![Method::Mkwrite; 4]));
    assert_eq!(half, [Method::Mkwrite, Method::Mkwrite, Method::Pagetable, Method::Pagetable]);
    bench.assert_sound();
}

#[test]
fn e_05_a_small_object_that_is_idle_changes_to_faults_and_loses_no_write() {
    let bench = Bench::fixed();
    // The batch that attaches it is not idle: the CPU writes first.
    let surface = bench.coherent(pages(100));
    let at = bench.system.map_surface(&bench.cpu, surface);
    bench.write_pages(at, [4], 1);
    bench.settle(surface);
    assert_eq!(bench.method(surface), Method::Pagetable);

    (0..3).for_each(|_| bench.settle(surface));
    assert_eq!(bench.method(surface), Method::Mkwrite);
    bench.write_pages(at, [7], 9);

    // By the fault, before any scan.
    assert_eq!(bench.bits(surface), [7]);
    bench.exec(&[use_of(surface)]).unwrap();
    assert_eq!(bench.device_bytes(surface)[7 * 4096], 9);
    bench.assert_sound();
}

#[test]
fn e_06_what_the_device_wrote_survives_a_swap() {
    let bench = Bench::fixed();
    let (surface, at) = bench.attached(rgba(64, 64));
    bench.clear_to(surface, RED);

    bench.system.dev.bo_swapout(&bench.cpu.task, &bench.bo(surface)).unwrap();
    assert_eq!(bench.system.memory_bytes(&bench.cpu, &bench.bo(surface)), None);

    assert_eq!(bench.load(at, 64 * 64 * 4), RED.repeat(64 * 64));
    bench.assert_sound();
}

/// What the device has of a page that the CPU wrote, after a swap-out before the first batch.
fn written_before_the_first_batch(upstream: Upstream) -> u8 {
    let bench = Bench::new(upstream);
    let surface = bench.coherent(rgba(64, 64));
    let at = bench.system.map_surface(&bench.cpu, surface);
    bench.write_pages(at, [2], 0xAB);

    bench.system.dev.bo_swapout(&bench.cpu.task, &bench.bo(surface)).unwrap();
    bench.exec(&[use_of(surface)]).unwrap();

    assert_eq!(bench.cpu.load(at + 2 * PAGE_SIZE), Ok(0xAB));
    bench.device_bytes(surface)[2 * 4096]
}

#[test]
fn e_07_what_the_cpu_wrote_survives_a_swap() {
    assert_eq!(written_before_the_first_batch(Upstream::default()), 0xAB);
}

#[test]
fn e_07_upstream_forgets_it_with_the_dirty_bit() {
    assert_eq!(written_before_the_first_batch(Upstream::with_quirk("Q-05")), 0);
}

#[test]
fn e_08_pages_of_two_processes_are_both_uploaded() {
    let bench = Bench::fixed();
    let (surface, at) = bench.attached(rgba(64, 64));
    let other = bench.second_process();
    bench.system.map_surface(&other, surface);

    bench.cpu.store(at, 1).unwrap();
    other.store(at + 2 * PAGE_SIZE, 2).unwrap();
    bench.exec(&[use_of(surface)]).unwrap();

    let bytes = bench.device_bytes(surface);
    assert_eq!((bytes[0], bytes[2 * 4096]), (1, 2));
    bench.assert_sound();
}

/// What another surface gets of one that the device filled with red, when a fault came late: it found its
/// entry read-only, waited for the batch that fills, and asked whether it may write when the batch was
/// through.
fn copied_after_a_late_fault(upstream: Upstream) -> Vec<u8> {
    let bench = Bench::new(upstream);
    let (surface, at) = bench.attached(pages(512));
    let other = bench.plain(pages(512));
    bench.cpu.load(at).unwrap();
    assert_eq!(bench.method(surface), Method::Mkwrite);
    let vma = {
        let mmap = bench.cpu.mm.mmap_read_lock(&bench.cpu.task);
        Arc::clone(mmap.values().next().unwrap())
    };
    let flags = FaultFlags { write: true, ..FaultFlags::default() };
    let vmf = VmFault { pgoff: vma.pgoff_of(at), address: at, flags, orig_pte: bench.cpu.pte(at), vma };
    assert!(!vmf.orig_pte.none() && !vmf.orig_pte.write());

    bench.clear_to(surface, RED);
    let mmap = bench.cpu.mm.mmap_read_lock(&bench.cpu.task);
    assert_eq!(vmf.vma.ops.pfn_mkwrite(&vmf, &mmap), Mkwrite::NoPage);
    drop(mmap);
    bench.exec(&[copy(surface, other, 1024, 512)]).unwrap();

    bench.device_bytes(other)[..4].to_vec()
}

#[test]
fn e_09_a_late_fault_does_not_cost_what_the_device_wrote() {
    assert_eq!(copied_after_a_late_fault(Upstream::default()), RED);
}

#[test]
fn e_09_upstream_uploads_the_stale_page_over_it() {
    assert_eq!(copied_after_a_late_fault(Upstream::with_quirk("R-08")), [0; 4]);
}

/// What the device has of the middle one of three surfaces in one object, which it filled with red, after the
/// CPU has written so much of the others that the method changed.
fn middle_after_a_change_of_method(upstream: Upstream) -> Vec<u8> {
    const EACH: u64 = 200;
    let bench = Bench::new(upstream);
    let backing = Some(bench.system.file.bo_create(3 * EACH * PAGE_SIZE));
    let [first, middle, last] = [0, 1, 2].map(|at| {
        let offset = at * EACH * PAGE_SIZE;
        bench.create(&SurfaceCreate { backing, offset, ..SurfaceCreate::coherent(pages(200)) })
    });
    let at = bench.system.map(&bench.cpu, &bench.bo(first));
    let all = [use_of(first), use_of(middle), use_of(last)];
    bench.exec(&all).unwrap();
    bench.clear_to(middle, RED);
    for value in 1..=3 {
        bench.write_pages(at, (0..60).chain(2 * EACH..2 * EACH + 60), value);
        bench.exec(&all).unwrap();
    }

    assert_eq!(bench.method(first), Method::Pagetable);
    bench.device_bytes(middle)[..4].to_vec()
}

#[test]
fn e_10_a_change_of_method_marks_nothing_that_the_device_has_newer() {
    assert_eq!(middle_after_a_change_of_method(Upstream::default()), RED);
}

#[test]
fn e_10_upstream_uploads_stale_pages_of_the_neighbour() {
    assert_eq!(middle_after_a_change_of_method(Upstream::with_quirk("Q-10")), [0; 4]);
}

#[test]
fn e_01_to_e_03_hold_for_every_kernel() {
    for profile in Profile::ALL {
        let bench = Bench::new(Upstream { profile, quirks: Quirks::default() });
        let (surface, at) = bench.attached(rgba(64, 64));
        let (other, other_at) = bench.attached(rgba(64, 64));
        bench.clear_to(surface, RED);
        bench.cpu.store(at + 5, 7).unwrap();
        bench.exec(&[copy(surface, other, 64, 64)]).unwrap();
        bench.finish();

        assert_eq!(bench.load(other_at, 8), [0xFF, 0, 0, 0xFF, 0xFF, 7, 0, 0xFF], "{profile:?}");
        bench.assert_sound();
    }
}
