//! Vectors S-01 to S-44: which boxes of a texture are dirty after which pages were written.
//!
//! Textures have four bytes a texel where nothing else is said.

use std::ops::Range;

use kmd_sim::addr::PAGE_SIZE;
use kmd_sim::lockdep::Task;
use kmd_sim::svga::format::SurfaceFormat;
use kmd_sim::svga::surface_layout::SurfaceMetadata;
use kmd_sim::svga::types::{Box3d, Size3d, SurfaceFlags};
use kmd_sim::upstream::{Profile, Quirks, Upstream};
use kmd_sim::vmwgfx::surface_dirty::SurfaceDirty;

/// The box of a subresource that nobody wrote.
pub(crate) const CLEAN: Box3d = Box3d::new(0, 0, 0, 0, 0, 0);

/// A coherent surface at some offset of its backing object.
pub(crate) struct Coherent {
    pub(crate) dirty: SurfaceDirty,
    resource: Range<u64>,
    task: Task,
}

impl Coherent {
    /// With its memory at `page` of the backing object.
    fn at_page(page: u64, surface: &SurfaceMetadata, upstream: Upstream) -> Self {
        let start = page * PAGE_SIZE;
        Self {
            dirty: SurfaceDirty::alloc(surface, upstream).unwrap(),
            resource: start..start + u64::from(surface.backing_size()),
            task: Task::new(),
        }
    }

    /// Writes pages of the backing object.
    pub(crate) fn write(self, pages: Range<u64>) -> Self {
        self.write_bytes(pages.start * PAGE_SIZE..pages.end * PAGE_SIZE)
    }

    fn write_bytes(mut self, bytes: Range<u64>) -> Self {
        self.dirty.range_add(&self.resource, &bytes, &self.task);
        self
    }

    pub(crate) fn boxes(&self) -> &[Box3d] {
        self.dirty.boxes()
    }
}

/// A surface by the fixed rules.
pub(crate) fn fixed(surface: &SurfaceMetadata) -> Coherent {
    Coherent::at_page(0, surface, Upstream::default())
}

/// A surface with one defect of the newest kernel.
pub(crate) fn quirk(id: &str, surface: &SurfaceMetadata) -> Coherent {
    Coherent::at_page(0, surface, Upstream::with_quirk(id))
}

pub(crate) fn texture(width: u32, height: u32) -> SurfaceMetadata {
    format(SurfaceFormat::R8G8B8A8_UNORM, width, height)
}

fn format(format: SurfaceFormat, width: u32, height: u32) -> SurfaceMetadata {
    SurfaceMetadata::new(format, Size3d::new(width, height, 1))
}

fn volume(width: u32, height: u32, depth: u32) -> SurfaceMetadata {
    SurfaceMetadata::new(SurfaceFormat::R8G8B8A8_UNORM, Size3d::new(width, height, depth))
}

pub(crate) fn mipmapped(levels: u32, surface: SurfaceMetadata) -> SurfaceMetadata {
    SurfaceMetadata { mip_levels: levels, ..surface }
}

fn cube(size: u32) -> SurfaceMetadata {
    SurfaceMetadata { flags: SurfaceFlags::CUBEMAP, ..texture(size, size) }
}

pub(crate) fn array(elements: u32, surface: SurfaceMetadata) -> SurfaceMetadata {
    SurfaceMetadata { array_size: elements, ..surface }
}

fn multisampled(samples: u32, surface: SurfaceMetadata) -> SurfaceMetadata {
    SurfaceMetadata { flags: SurfaceFlags::MULTISAMPLE, multisample_count: samples, ..surface }
}

/// All of an image.
fn full(width: u32, height: u32) -> Box3d {
    Box3d::new(0, 0, 0, width, height, 1)
}

#[test]
fn s_01_the_first_page_is_four_rows() {
    let surface = fixed(&texture(256, 256)).write(0..1);
    assert_eq!(surface.boxes(), [Box3d::new(0, 0, 0, 256, 4, 1)]);
}

#[test]
fn s_02_two_pages_are_eight_rows() {
    let surface = fixed(&texture(256, 256)).write(1..3);
    assert_eq!(surface.boxes(), [Box3d::new(0, 4, 0, 256, 8, 1)]);
}

#[test]
fn s_03_the_last_page_ends_with_the_image() {
    let surface = fixed(&texture(256, 256)).write(63..64);
    assert_eq!(surface.boxes(), [Box3d::new(0, 252, 0, 256, 4, 1)]);
}

#[test]
fn s_04_all_pages_are_the_image() {
    let surface = fixed(&texture(256, 256)).write(0..64);
    assert_eq!(surface.boxes(), [full(256, 256)]);
}

#[test]
fn s_05_a_page_is_the_left_half_of_a_row() {
    let surface = fixed(&texture(2048, 16)).write(0..1);
    assert_eq!(surface.boxes(), [Box3d::new(0, 0, 0, 1024, 1, 1)]);
}

#[test]
fn s_06_a_page_is_the_right_half_of_a_row() {
    let surface = fixed(&texture(2048, 16)).write(1..2);
    assert_eq!(surface.boxes(), [Box3d::new(1024, 0, 0, 1024, 1, 1)]);
}

#[test]
fn s_07_two_pages_are_a_row() {
    let surface = fixed(&texture(2048, 16)).write(0..2);
    assert_eq!(surface.boxes(), [Box3d::new(0, 0, 0, 2048, 1, 1)]);
}

#[test]
fn s_08_two_pages_in_two_rows_are_both_rows() {
    let surface = fixed(&texture(2048, 16)).write(1..3);
    assert_eq!(surface.boxes(), [Box3d::new(0, 0, 0, 2048, 2, 1)]);
}

#[test]
fn s_09_two_runs_in_opposite_halves_are_both_rows() {
    let surface = fixed(&texture(2048, 16)).write(0..1).write(3..4);
    assert_eq!(surface.boxes(), [Box3d::new(0, 0, 0, 2048, 2, 1)]);
}

#[test]
fn s_10_rows_that_a_page_has_in_part_are_dirty() {
    let first = fixed(&texture(1000, 100)).write(0..1);
    let second = fixed(&texture(1000, 100)).write(1..2);
    assert_eq!(first.boxes(), [Box3d::new(0, 0, 0, 1000, 2, 1)]);
    assert_eq!(second.boxes(), [Box3d::new(0, 1, 0, 1000, 2, 1)]);
}

#[test]
fn s_11_a_page_is_clipped_to_the_end_of_the_surface() {
    let surface = fixed(&texture(1000, 100)).write(97..98);
    assert_eq!(surface.boxes(), [Box3d::new(328, 99, 0, 672, 1, 1)]);
}

#[test]
fn s_12_a_page_that_begins_within_a_row_is_full_width() {
    let surface = fixed(&texture(640, 480)).write(2..3);
    assert_eq!(surface.boxes(), [Box3d::new(0, 3, 0, 640, 2, 1)]);
}

#[test]
fn s_13_pages_count_from_the_offset_in_the_backing_object() {
    let surface = Coherent::at_page(8, &texture(640, 480), Upstream::default()).write(10..11);
    assert_eq!(surface.boxes(), [Box3d::new(0, 3, 0, 640, 2, 1)]);
}

#[test]
fn s_14_a_page_of_the_first_level() {
    let surface = fixed(&mipmapped(7, texture(64, 64))).write(3..4);
    let first = Box3d::new(0, 48, 0, 64, 16, 1);
    assert_eq!(surface.boxes(), [first, CLEAN, CLEAN, CLEAN, CLEAN, CLEAN, CLEAN]);
}

#[test]
fn s_15_a_page_that_is_the_second_level() {
    let surface = fixed(&mipmapped(7, texture(64, 64))).write(4..5);
    assert_eq!(surface.boxes(), [CLEAN, full(32, 32), CLEAN, CLEAN, CLEAN, CLEAN, CLEAN]);
}

#[test]
fn s_16_a_page_that_is_all_small_levels() {
    let surface = fixed(&mipmapped(7, texture(64, 64))).write(5..6);
    let small = [full(16, 16), full(8, 8), full(4, 4), full(2, 2), full(1, 1)];
    assert_eq!(surface.boxes()[..2], [CLEAN, CLEAN]);
    assert_eq!(surface.boxes()[2..], small);
}

#[test]
fn s_17_a_run_from_the_first_level_to_the_last() {
    let surface = fixed(&mipmapped(7, texture(64, 64))).write(3..6);
    let small = [full(32, 32), full(16, 16), full(8, 8), full(4, 4), full(2, 2), full(1, 1)];
    assert_eq!(surface.boxes()[0], Box3d::new(0, 48, 0, 64, 16, 1));
    assert_eq!(surface.boxes()[1..], small);
}

#[test]
fn s_18_a_page_of_the_second_face() {
    let surface = fixed(&cube(64)).write(4..5);
    let second = Box3d::new(0, 0, 0, 64, 16, 1);
    assert_eq!(surface.boxes(), [CLEAN, second, CLEAN, CLEAN, CLEAN, CLEAN]);
}

#[test]
fn s_19_a_run_over_three_faces() {
    let surface = fixed(&cube(64)).write(3..9);
    let (first, third) = (Box3d::new(0, 48, 0, 64, 16, 1), Box3d::new(0, 0, 0, 64, 16, 1));
    assert_eq!(surface.boxes(), [first, full(64, 64), third, CLEAN, CLEAN, CLEAN]);
}

#[test]
fn s_20_a_page_from_one_element_into_the_next() {
    let surface = fixed(&array(4, mipmapped(3, texture(64, 64)))).write(10..11);
    let (fourth, sixth) = (Box3d::new(0, 24, 0, 32, 8, 1), Box3d::new(0, 0, 0, 64, 8, 1));
    assert_eq!(surface.boxes()[..4], [CLEAN; 4]);
    assert_eq!(surface.boxes()[4..7], [fourth, full(16, 16), sixth]);
    assert_eq!(surface.boxes()[7..], [CLEAN; 5]);
}

#[test]
fn s_21_two_runs_of_a_2048_wide_surface_keep_the_page_between_them() {
    let wide = texture(2048, 16);
    let fixed = fixed(&wide).write(1..2).write(4..5);
    let upstream = quirk("Q-09", &wide).write(1..2).write(4..5);
    assert_eq!(fixed.boxes(), [Box3d::new(0, 0, 0, 2048, 3, 1)]);
    assert_eq!(upstream.boxes(), [Box3d::new(0, 0, 0, 1024, 3, 1)]);
}

#[test]
fn s_22_two_runs_of_a_3840_wide_surface_keep_the_right_edge() {
    let wide = texture(3840, 2160);
    let fixed = fixed(&wide).write(1..2).write(8..9);
    let upstream = quirk("Q-09", &wide).write(1..2).write(8..9);
    assert_eq!(fixed.boxes(), [Box3d::new(512, 0, 0, 1536, 3, 1)]);
    assert_eq!(upstream.boxes(), [Box3d::new(512, 0, 0, 1024, 3, 1)]);
}

#[test]
fn s_23_two_runs_of_a_5120_wide_surface_keep_the_right_edge() {
    let wide = texture(5120, 2880);
    let fixed = fixed(&wide).write(2..3).write(6..7);
    let upstream = quirk("Q-09", &wide).write(2..3).write(6..7);
    assert_eq!(fixed.boxes(), [Box3d::new(1024, 0, 0, 2048, 2, 1)]);
    assert_eq!(upstream.boxes(), [Box3d::new(1024, 0, 0, 1024, 2, 1)]);
}

#[test]
fn s_24_an_earlier_run_that_comes_later_keeps_the_bottom_edge() {
    let wide = texture(2048, 16);
    let fixed = fixed(&wide).write(4..5).write(1..2);
    let upstream = quirk("Q-09", &wide).write(4..5).write(1..2);
    assert_eq!(fixed.boxes(), [Box3d::new(0, 0, 0, 2048, 3, 1)]);
    assert_eq!(upstream.boxes(), [Box3d::new(0, 0, 0, 2048, 1, 1)]);
}

#[test]
fn s_25_a_page_that_is_a_slice() {
    let surface = fixed(&volume(32, 32, 32)).write(5..6);
    assert_eq!(surface.boxes(), [Box3d::new(0, 0, 5, 32, 32, 1)]);
}

#[test]
fn s_26_two_pages_that_are_slices() {
    let surface = fixed(&volume(32, 32, 32)).write(1..3);
    assert_eq!(surface.boxes(), [Box3d::new(0, 0, 1, 32, 32, 2)]);
}

#[test]
fn s_27_a_page_within_a_slice() {
    let surface = fixed(&volume(64, 64, 8)).write(1..2);
    assert_eq!(surface.boxes(), [Box3d::new(0, 16, 0, 64, 16, 1)]);
}

#[test]
fn s_28_a_run_over_two_slices_is_both() {
    let surface = fixed(&volume(64, 64, 8)).write(3..5);
    assert_eq!(surface.boxes(), [Box3d::new(0, 0, 0, 64, 64, 2)]);
}

#[test]
fn s_29_the_same_rows_of_two_slices_are_those_rows_of_all_between() {
    let surface = fixed(&volume(64, 64, 8)).write(1..2).write(13..14);
    assert_eq!(surface.boxes(), [Box3d::new(0, 16, 0, 64, 16, 4)]);
}

#[test]
fn s_30_a_volume_smaller_than_a_page() {
    let surface = fixed(&volume(100, 3, 2)).write(0..1);
    assert_eq!(surface.boxes(), [Box3d::new(0, 0, 0, 100, 3, 2)]);
}

#[test]
fn s_31_a_page_is_eight_rows_of_blocks() {
    let compressed = format(SurfaceFormat::DXT1, 256, 256);
    let first = fixed(&compressed).write(0..1);
    let last = fixed(&compressed).write(7..8);
    assert_eq!(first.boxes(), [Box3d::new(0, 0, 0, 256, 32, 1)]);
    assert_eq!(last.boxes(), [Box3d::new(0, 224, 0, 256, 32, 1)]);
}

#[test]
fn s_32_a_row_of_blocks_that_a_page_has_in_part_is_dirty() {
    let surface = fixed(&mipmapped(3, format(SurfaceFormat::BC3_UNORM, 130, 66))).write(0..1);
    assert_eq!(surface.boxes(), [Box3d::new(0, 0, 0, 130, 32, 1), CLEAN, CLEAN]);
}

#[test]
fn s_33_blocks_that_stick_out_are_clipped() {
    let surface = fixed(&mipmapped(3, format(SurfaceFormat::BC3_UNORM, 130, 66))).write(2..3);
    assert_eq!(surface.boxes(), [Box3d::new(0, 60, 0, 130, 6, 1), full(65, 33), full(32, 16)]);
}

#[test]
fn s_34_a_range_behind_the_surface_is_warned_about() {
    let compressed = mipmapped(3, format(SurfaceFormat::BC3_UNORM, 130, 66));
    let surface = fixed(&compressed).write_bytes(12288..16384);
    assert_eq!(surface.task.take_splats().len(), 1);
    assert_eq!(surface.boxes(), [CLEAN; 3]);
}

#[test]
fn s_35_part_of_a_row_of_blocks_is_full_width() {
    let surface = fixed(&format(SurfaceFormat::BC3_UNORM, 4096, 4096)).write(1..2);
    assert_eq!(surface.boxes(), [Box3d::new(0, 0, 0, 4096, 4, 1)]);
}

#[test]
fn s_36_a_mip_chain_smaller_than_a_page() {
    let surface = fixed(&mipmapped(7, format(SurfaceFormat::DXT1, 64, 64))).write(0..1);
    let chain = [full(64, 64), full(32, 32), full(16, 16), full(8, 8), full(4, 4), full(2, 2), full(1, 1)];
    assert_eq!(surface.boxes(), chain);
}

#[test]
fn s_37_a_pair_of_texels_that_sticks_out_is_clipped() {
    let surface = fixed(&format(SurfaceFormat::YUY2, 63, 1)).write(0..1);
    assert_eq!(surface.boxes(), [full(63, 1)]);
}

#[test]
fn s_38_a_surface_of_one_texel() {
    let surface = fixed(&texture(1, 1)).write(0..1);
    assert_eq!(surface.boxes(), [full(1, 1)]);
}

#[test]
fn s_39_two_levels_of_a_few_texels() {
    let surface = fixed(&mipmapped(2, texture(2, 2))).write(0..1);
    assert_eq!(surface.boxes(), [full(2, 2), full(1, 1)]);
}

#[test]
fn s_40_luma_of_a_planar_surface_is_all_of_it() {
    let planar = format(SurfaceFormat::NV12, 128, 128);
    let fixed = fixed(&planar).write(0..1);
    let upstream = quirk("Q-15", &planar).write(0..1);
    assert_eq!(fixed.boxes(), [full(128, 128)]);
    assert_eq!(upstream.boxes(), [Box3d::new(0, 0, 0, 128, 22, 1)]);
}

#[test]
fn s_41_chroma_of_a_planar_surface_is_all_of_it() {
    let planar = format(SurfaceFormat::NV12, 128, 128);
    let fixed = fixed(&planar).write(4..5);
    let upstream = quirk("Q-15", &planar).write(4..5);
    assert_eq!(fixed.boxes(), [full(128, 128)]);
    assert_eq!(upstream.boxes(), [Box3d::new(0, 84, 0, 128, 24, 1)]);
}

#[test]
fn s_42_one_sheet_of_samples_is_all_of_the_surface() {
    let samples = multisampled(4, texture(64, 64));
    let fixed = fixed(&samples).write(0..4);
    let upstream = quirk("Q-15", &samples).write(0..4);
    assert_eq!(samples.backing_size(), 65536);
    assert_eq!(fixed.boxes(), [full(64, 64)]);
    assert_eq!(upstream.boxes(), [Box3d::new(0, 0, 0, 64, 16, 1)]);
}

#[test]
fn s_43_a_run_from_one_sheet_of_samples_into_the_next_is_all_of_the_surface() {
    let samples = multisampled(4, texture(64, 64));
    let fixed = fixed(&samples).write(3..5);
    let upstream = quirk("Q-15", &samples).write(3..5);
    assert_eq!(fixed.boxes(), [full(64, 64)]);
    assert_eq!(upstream.boxes(), [full(64, 64)]);
}

#[test]
fn s_44_a_run_from_one_sheet_of_samples_into_the_next_has_negative_height_in_linux_5_5() {
    let samples = multisampled(4, texture(64, 64));
    let linux_5_5 = Upstream { profile: Profile::V5_5, quirks: Quirks::only("Q-15") };
    let fixed = Coherent::at_page(0, &samples, Upstream::fixed(Profile::V5_5)).write(3..5);
    let upstream = Coherent::at_page(0, &samples, linux_5_5).write(3..5);
    assert_eq!(fixed.boxes(), [full(64, 64)]);
    assert_eq!(upstream.boxes(), [Box3d::new(0, 12, 0, 64, 0u32.wrapping_sub(8), 1)]);
}
