//! Vectors S-45 to S-54: dirty ranges of buffers, what is sent for dirty boxes, and how they are set up.

use kmd_sim::error::Error;
use kmd_sim::svga::cmd::{Command, CommandStream};
use kmd_sim::svga::format::SurfaceFormat;
use kmd_sim::svga::surface_layout::SurfaceMetadata;
use kmd_sim::svga::types::{Box3d, Size3d, SurfaceFlags, SurfaceId};
use kmd_sim::upstream::Upstream;
use kmd_sim::vmwgfx::surface_dirty::SurfaceDirty;

use crate::surfaces::{CLEAN, array, fixed, mipmapped, quirk, texture};

const SID: SurfaceId = SurfaceId(7);

fn buffer(bytes: u32) -> SurfaceMetadata {
    SurfaceMetadata::new(SurfaceFormat::BUFFER, Size3d::new(bytes, 1, 1))
}

fn stream_output(buffer: SurfaceMetadata) -> SurfaceMetadata {
    SurfaceMetadata { flags: SurfaceFlags::BIND_STREAM_OUTPUT, ..buffer }
}

#[test]
fn s_45_a_buffer_is_dirty_by_bytes() {
    let first = fixed(&buffer(10000)).write(1..2);
    let both = fixed(&buffer(10000)).write(1..2).write(2..3);
    assert_eq!(first.boxes(), [Box3d::new(4096, 0, 0, 4096, 1, 1)]);
    assert_eq!(both.boxes(), [Box3d::new(4096, 0, 0, 5904, 1, 1)]);
}

#[test]
fn s_46_an_earlier_run_that_comes_later_keeps_the_end_of_a_buffer() {
    let fixed = fixed(&buffer(10000)).write(2..3).write(0..1);
    let upstream = quirk("Q-09", &buffer(10000)).write(2..3).write(0..1);
    assert_eq!(fixed.boxes(), [Box3d::new(0, 0, 0, 10000, 1, 1)]);
    assert_eq!(upstream.boxes(), [Box3d::new(0, 0, 0, 1808, 1, 1)]);
}

#[test]
fn s_47_the_state_of_stream_output_is_no_part_of_the_buffer() {
    let target = stream_output(buffer(4096));
    let fixed = fixed(&target).write(1..2);
    let upstream = quirk("Q-11", &target).write(1..2);
    assert_eq!(fixed.boxes(), [CLEAN]);
    assert_eq!(upstream.boxes(), [Box3d::new(4096, 0, 0, 0, 1, 1)]);
}

#[test]
fn s_48_the_state_of_stream_output_makes_no_box_of_negative_width() {
    let target = stream_output(buffer(4090));
    let fixed = fixed(&target).write(1..2);
    let upstream = quirk("Q-11", &target).write(1..2);
    assert_eq!(fixed.boxes(), [CLEAN]);
    assert_eq!(upstream.boxes(), [Box3d::new(4096, 0, 0, 0xFFFF_FFFA, 1, 1)]);
}

#[test]
fn s_49_dirty_boxes_are_sent_and_zeroed() {
    let two_levels = mipmapped(2, texture(32, 32));
    let mut dx = fixed(&two_levels).write(0..2).dirty;
    let mut legacy = fixed(&two_levels).write(0..2).dirty;
    let (mut dx_stream, mut legacy_stream) = (CommandStream::new(), CommandStream::new());

    dx.sync(SID, true, &mut dx_stream).unwrap();
    legacy.sync(SID, false, &mut legacy_stream).unwrap();

    let (first, second) = (Box3d::new(0, 0, 0, 32, 32, 1), Box3d::new(0, 0, 0, 16, 16, 1));
    assert_eq!(
        dx_stream.commands(),
        [
            Command::DxUpdateSubresource { sid: SID, sub_resource: 0, image_box: first },
            Command::DxUpdateSubresource { sid: SID, sub_resource: 1, image_box: second },
        ]
    );
    assert_eq!(
        legacy_stream.commands(),
        [
            Command::UpdateGbImage { sid: SID, face: 0, mipmap: 0, image_box: first },
            Command::UpdateGbImage { sid: SID, face: 0, mipmap: 1, image_box: second },
        ]
    );
    assert_eq!((dx_stream.bytes().len(), legacy_stream.bytes().len()), (80, 88));
    assert_eq!(dx_stream.bytes()[..8], [0x9E, 0x04, 0, 0, 32, 0, 0, 0]);
    assert_eq!(legacy_stream.bytes()[..8], [0x4D, 0x04, 0, 0, 36, 0, 0, 0]);
    assert_eq!((dx.boxes(), legacy.boxes()), (&[CLEAN; 2][..], &[CLEAN; 2][..]));
}

#[test]
fn s_50_a_subresource_is_a_face_and_a_level() {
    let three_layers = array(3, mipmapped(3, texture(32, 32)));
    // A layer is 4096, 1024 and 256 bytes; the second level of the third is within page 3.
    let mut dirty = fixed(&three_layers).write(3..4).dirty;
    let mut stream = CommandStream::new();

    dirty.sync(SID, false, &mut stream).unwrap();

    let image_box = Box3d::new(0, 0, 0, 16, 16, 1);
    assert_eq!(stream.commands()[1], Command::UpdateGbImage { sid: SID, face: 2, mipmap: 1, image_box });
}

#[test]
fn s_51_without_command_space_the_boxes_stay_for_the_next_validation() {
    let mut dirty = fixed(&texture(256, 256)).write(0..1).dirty;
    let mut stream = CommandStream::new();
    let image_box = Box3d::new(0, 0, 0, 256, 4, 1);

    stream.set_capacity(39);
    let refused = dirty.sync(SID, true, &mut stream);
    assert_eq!(refused, Err(Error::NoMemory));
    assert_eq!(dirty.boxes(), [image_box]);
    assert_eq!(stream.commands(), []);

    stream.set_capacity(40);
    dirty.sync(SID, true, &mut stream).unwrap();
    assert_eq!(dirty.boxes(), [CLEAN]);
    assert_eq!(stream.commands(), [Command::DxUpdateSubresource { sid: SID, sub_resource: 0, image_box }]);
}

#[test]
fn s_52_a_clean_surface_sends_nothing_and_needs_no_space() {
    let mut dirty = fixed(&texture(256, 256)).dirty;
    let mut stream = CommandStream::new();
    stream.set_capacity(0);

    assert_eq!(dirty.sync(SID, true, &mut stream), Ok(()));

    assert_eq!(stream.commands(), []);
}

#[test]
fn s_53_there_is_a_box_for_each_face_element_and_level() {
    let cube = SurfaceMetadata { flags: SurfaceFlags::CUBEMAP, ..mipmapped(0, texture(64, 64)) };
    let cubes = array(12, cube);

    assert_eq!(fixed(&cube).boxes(), [CLEAN; 6]);
    assert_eq!(fixed(&cubes).boxes(), [CLEAN; 12]);
    assert_eq!(fixed(&cube).dirty.layout().num_mips(), 1);
}

#[test]
fn s_54_a_surface_of_no_format_has_no_boxes() {
    let invalid = SurfaceMetadata::new(SurfaceFormat::FORMAT_INVALID, Size3d::new(64, 64, 1));
    let tracker = SurfaceDirty::alloc(&invalid, Upstream::default());
    assert_eq!(tracker.err(), Some(Error::Invalid));
}
