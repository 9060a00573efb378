//! Every texel with a byte in a dirty page lies in a box, checked against a walk over the surface in the
//! order of its memory.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::*;
use crate::addr::{PAGE_SIZE, pages_for};
use crate::error::Error;
use crate::svga::types::{Size3d, SurfaceFlags};
use crate::upstream::Profile;

const SID: SurfaceId = SurfaceId(7);

/// Texels that share a piece of memory.
struct Piece {
    sub: usize,
    x: Range<u32>,
    y: Range<u32>,
    z: u32,
    bytes: Range<u64>,
}

impl Piece {
    fn is_in(&self, dirty: &Box3d) -> bool {
        dirty.x <= self.x.start
            && self.x.end <= dirty.x + dirty.w
            && dirty.y <= self.y.start
            && self.y.end <= dirty.y + dirty.h
            && (dirty.z..dirty.z + dirty.d).contains(&self.z)
    }
}

fn level_size(base: Size3d, level: u32) -> Size3d {
    Size3d::new((base.width >> level).max(1), (base.height >> level).max(1), (base.depth >> level).max(1))
}

/// Visits all memory of a surface's texels, first byte to last.
fn for_each_piece(metadata: &SurfaceMetadata, mut visit: impl FnMut(&Piece)) {
    let desc = metadata.format.desc();
    let mut at = 0;
    for _sheet in 0..metadata.num_samples() {
        let mut sub = 0;
        for _layer in 0..metadata.num_layers() {
            for level in 0..metadata.num_mips() {
                let size = level_size(metadata.base_size, level);
                for (width, height, bytes) in planes(metadata.format) {
                    let columns = size.width.div_ceil(desc.block.width) * desc.block.width;
                    let rows = size.height.div_ceil(desc.block.height) * desc.block.height;
                    for z in 0..size.depth {
                        for y in (0..rows).step_by(height as usize) {
                            for x in (0..columns).step_by(width as usize) {
                                let end = at + bytes;
                                let x = x.min(size.width)..(x + width).min(size.width);
                                let y = y.min(size.height)..(y + height).min(size.height);
                                if !x.is_empty() && !y.is_empty() {
                                    visit(&Piece { sub, x, y, z, bytes: at..end });
                                }
                                at = end;
                            }
                        }
                    }
                }
                sub += 1;
            }
        }
    }
}

/// The planes of a format: texels of a piece, and its bytes.
fn planes(format: SurfaceFormat) -> Vec<(u32, u32, u64)> {
    let desc = format.desc();
    match format {
        SurfaceFormat::NV12 => vec![(1, 1, 1), (2, 2, 2)],
        SurfaceFormat::YV12 => vec![(1, 1, 1), (2, 2, 1), (2, 2, 1)],
        _ => vec![(desc.block.width, desc.block.height, u64::from(desc.bytes_per_block))],
    }
}

/// A surface in its backing object, and what was written there.
#[derive(Clone, Debug)]
struct Case {
    metadata: SurfaceMetadata,
    resource: Range<u64>,
    runs: Vec<Range<u64>>,
}

/// Why the boxes of a case are wrong.
fn fault(case: &Case, upstream: Upstream) -> Option<String> {
    let task = Task::new();
    let mut dirty = SurfaceDirty::alloc(&case.metadata, upstream).unwrap();
    for run in &case.runs {
        dirty.range_add(&case.resource, run, &task);
    }
    let boxes = dirty.boxes();
    for (sub, dirty) in boxes.iter().enumerate() {
        let size =
            level_size(case.metadata.base_size, u32::try_from(sub).unwrap() % case.metadata.num_mips());
        let inside =
            |low: u32, length: u32, size: u32| low.checked_add(length).is_some_and(|high| high <= size);
        if !inside(dirty.x, dirty.w, size.width)
            || !inside(dirty.y, dirty.h, size.height)
            || !inside(dirty.z, dirty.d, size.depth)
        {
            return Some(format!("{dirty:?} is not within subresource {sub} of {size:?}"));
        }
    }
    let mut fault = (!task.take_splats().is_empty()).then(|| "a run was taken for foreign".to_owned());
    for_each_piece(&case.metadata, |piece| {
        let bytes = case.resource.start + piece.bytes.start..case.resource.start + piece.bytes.end;
        let written = case.runs.iter().any(|run| run.start < bytes.end && bytes.start < run.end);
        if fault.is_none() && written && !piece.is_in(&boxes[piece.sub]) {
            let (x, y, z, sub) = (&piece.x, &piece.y, piece.z, piece.sub);
            fault = Some(format!("x {x:?}, y {y:?}, z {z} of subresource {sub} lost: {:?}", boxes[sub]));
        }
    });
    fault
}

fn formats() -> impl Strategy<Value = SurfaceFormat> {
    prop::sample::select(vec![
        SurfaceFormat::R8_UNORM,
        SurfaceFormat::R8G8_UNORM,
        SurfaceFormat::R8G8B8A8_UNORM,
        SurfaceFormat::R32G32B32_FLOAT,
        SurfaceFormat::R32G32B32A32_FLOAT,
        SurfaceFormat::YUY2,
        SurfaceFormat::NV12,
        SurfaceFormat::YV12,
        SurfaceFormat::DXT1,
        SurfaceFormat::BC3_UNORM,
    ])
}

fn sizes() -> impl Strategy<Value = Size3d> {
    prop_oneof![
        (1000u32..5000, 1u32..10, Just(1)),
        (1u32..120, 1u32..120, 1u32..3),
        (1u32..24, 1u32..24, 1u32..12),
    ]
    .prop_map(|(width, height, depth)| Size3d::new(width, height, depth))
}

fn textures() -> impl Strategy<Value = SurfaceMetadata> {
    let samples = prop_oneof![4 => Just(0), 1 => Just(2), 1 => Just(4)];
    (formats(), sizes(), 0u32..5, 0u32..4, samples, any::<bool>()).prop_map(
        |(format, size, mip_levels, array_size, multisample_count, stream_output)| {
            let output = if stream_output { SurfaceFlags::BIND_STREAM_OUTPUT.0 } else { 0 };
            let samples = if multisample_count > 1 { SurfaceFlags::MULTISAMPLE.0 } else { 0 };
            let flags = SurfaceFlags(output | samples);
            let image = SurfaceMetadata::new(format, size);
            SurfaceMetadata { flags, mip_levels, array_size, multisample_count, ..image }
        },
    )
}

/// Buffers; every other ends just before a page does, so that the state of stream output is in the next.
fn buffers() -> impl Strategy<Value = SurfaceMetadata> {
    let sizes = prop_oneof![1u32..40_000, (1u32..10, 0u32..17).prop_map(|(pages, less)| pages * 4096 - less)];
    (sizes, any::<bool>()).prop_map(|(bytes, stream_output)| {
        let buffer = SurfaceMetadata::new(SurfaceFormat::BUFFER, Size3d::new(bytes, 1, 1));
        let output = if stream_output { SurfaceFlags::BIND_STREAM_OUTPUT } else { SurfaceFlags::default() };
        SurfaceMetadata { flags: output, ..buffer }
    })
}

/// A surface behind some pages of its backing object, with a few runs of pages in any order or ascending.
fn cases(surfaces: impl Strategy<Value = SurfaceMetadata>) -> impl Strategy<Value = Case> {
    let runs = prop::collection::vec((any::<prop::sample::Index>(), 1u64..5), 1..6);
    (surfaces, 0u64..3, runs, any::<bool>()).prop_map(|(metadata, first_page, runs, ascending)| {
        let offset = first_page * PAGE_SIZE;
        let size = u64::from(metadata.backing_size());
        let pages = usize::try_from(pages_for(size)).unwrap();
        let mut runs: Vec<_> = runs
            .into_iter()
            .map(|(page, length)| {
                let start = first_page + page.index(pages) as u64;
                start * PAGE_SIZE..(start + length) * PAGE_SIZE
            })
            .collect();
        if ascending {
            runs.sort_by_key(|run| run.start);
        }
        Case { metadata, resource: offset..offset + size, runs }
    })
}

proptest! {
    #[test]
    fn boxes_of_textures_cover_what_was_written(
        case in cases(textures()),
        profile in prop::sample::select(&Profile::ALL[..]),
    ) {
        prop_assert_eq!(fault(&case, Upstream::fixed(profile)), None);
    }

    #[test]
    fn boxes_of_buffers_cover_what_was_written(case in cases(buffers())) {
        prop_assert_eq!(fault(&case, Upstream::default()), None);
    }
}

/// Searches, the same way each time, for a case that a defect gets wrong.
fn counterexample(
    surfaces: impl Strategy<Value = SurfaceMetadata>,
    upstream: Upstream,
) -> Option<(Case, String)> {
    let config = Config { cases: 2000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let result = runner.run(&cases(surfaces), |case| match fault(&case, upstream) {
        Some(fault) => Err(TestCaseError::fail(fault)),
        None => Ok(()),
    });
    match result {
        Err(TestError::Fail(reason, case)) => Some((case, reason.to_string())),
        _ => None,
    }
}

#[test]
fn a_union_that_shrinks_loses_texels() {
    let (case, reason) = counterexample(textures(), Upstream::with_quirk("Q-09")).expect("none was found");
    assert!(reason.contains("lost"), "{reason}");
    assert_eq!(fault(&case, Upstream::default()), None);
}

#[test]
fn partial_boxes_of_planes_lose_texels() {
    let planar = textures().prop_map(|texture| SurfaceMetadata {
        format: SurfaceFormat::NV12,
        multisample_count: 0,
        flags: SurfaceFlags::default(),
        ..texture
    });
    let (case, reason) = counterexample(planar, Upstream::with_quirk("Q-15")).expect("none was found");
    assert!(reason.contains("lost"), "{reason}");
    assert_eq!(fault(&case, Upstream::default()), None);
}

/// The rule for ranges across sheets does not reach here: page 2 is within the first sheet of 12000 bytes,
/// but a row is taken to be 24000 bytes long, so that the page begins at column 2048 of 1500.
#[test]
fn partial_boxes_of_samples_end_before_they_start_in_the_newest_kernel() {
    let image = SurfaceMetadata::new(SurfaceFormat::R8G8B8A8_UNORM, Size3d::new(1500, 2, 1));
    let multisampled = SurfaceMetadata { flags: SurfaceFlags::MULTISAMPLE, multisample_count: 4, ..image };
    let resource = 0..u64::from(multisampled.backing_size());
    let mut dirty = SurfaceDirty::alloc(&multisampled, Upstream::with_quirk("Q-15")).unwrap();

    dirty.range_add(&resource, &(8192..12000), &Task::new());

    assert_eq!(dirty.boxes(), [Box3d::new(2048, 0, 0, 1500u32.wrapping_sub(2048), 1, 1)]);
}

#[test]
fn a_stream_output_tail_makes_a_box_outside_of_the_buffer() {
    let (case, reason) = counterexample(buffers(), Upstream::with_quirk("Q-11")).expect("none was found");
    assert!(reason.contains("is not within"), "{reason}");
    assert_eq!(fault(&case, Upstream::default()), None);
}

/// `vmw_subres_dirty_add()` loses dirty texels when a range begins left of the box so far.
///
/// Scanout of 3840×2160, four bytes a texel: a row is 15360 bytes, so that a page is part of a row. Pages 1
/// and 8 are written:
///
/// | page | bytes | row | columns |
/// |---|---|---|---|
/// | 1 | 4096..8192 | 0 | 1024..2048 |
/// | 8 | 32768..36864 | 2 | 512..1536 |
///
/// Page 1 makes the box x = 1024, w = 1024. For page 8 the function sets `box->x` to 512, and then looks
/// whether the old right edge, 2048, lies left of the new one, 1536. It does not, so `box->w` stays 1024, and
/// the right edge is now 512 + 1024 = 1536. Columns 1536..2048 of row 0 were written and are not uploaded:
/// 2048 bytes of page 1 never reach the device, because the page is clean from here on.
///
/// The runs come in ascending order, as `vmw_bo_dirty_transfer_to_res()` hands them out. It is enough to look
/// at the old edge before the low edge moves, and to set the length whenever either edge has moved.
#[test]
fn two_pages_of_a_4k_scanout_surface_lose_512_texels_upstream() {
    let scanout = SurfaceMetadata::new(SurfaceFormat::X8R8G8B8, Size3d::new(3840, 2160, 1));
    let resource = 0..u64::from(scanout.backing_size());
    let task = Task::new();
    let mut upstream = SurfaceDirty::alloc(&scanout, Upstream::with_quirk("Q-09")).unwrap();
    let mut fixed = SurfaceDirty::alloc(&scanout, Upstream::default()).unwrap();

    upstream.range_add(&resource, &(4096..8192), &task);
    upstream.range_add(&resource, &(32768..36864), &task);
    fixed.range_add(&resource, &(4096..8192), &task);
    fixed.range_add(&resource, &(32768..36864), &task);

    assert_eq!(upstream.boxes(), [Box3d::new(512, 0, 0, 1024, 3, 1)]);
    assert_eq!(fixed.boxes(), [Box3d::new(512, 0, 0, 1536, 3, 1)]);
}

#[test]
fn linux_5_5_updates_images_whatever_the_device_knows() {
    let metadata = SurfaceMetadata::new(SurfaceFormat::R8G8B8A8_UNORM, Size3d::new(32, 32, 1));
    let mut dirty = SurfaceDirty::alloc(&metadata, Upstream::fixed(Profile::V5_5)).unwrap();
    dirty.range_add(&(0..4096), &(0..4096), &Task::new());
    let mut stream = CommandStream::new();

    dirty.sync(SID, true, &mut stream).unwrap();

    let image_box = Box3d::new(0, 0, 0, 32, 32, 1);
    assert_eq!(stream.commands(), [Command::UpdateGbImage { sid: SID, face: 0, mipmap: 0, image_box }]);
}

#[test]
fn cleaning_reads_the_whole_surface_back() {
    let mut stream = CommandStream::new();

    clean(SID, &mut stream).unwrap();

    assert_eq!(stream.commands(), [Command::ReadbackGbSurface { sid: SID }]);
}

#[test]
fn cleaning_without_command_space_fails() {
    let mut stream = CommandStream::new();
    stream.set_capacity(11);
    assert_eq!(clean(SID, &mut stream), Err(Error::NoMemory));
}
