use super::*;
use crate::svga::types::{CopyBox, GuestImage, Size3d, SurfaceFlags, ViewId};
use crate::ttm::resv::Fence;

const A: SurfaceId = SurfaceId(1);
const B: SurfaceId = SurfaceId(2);
const MOB: MobId = MobId(9);
const CID: ContextId = ContextId(3);

fn define(sid: SurfaceId, format: SurfaceFormat, size: Size3d) -> Command {
    Command::DefineGbSurface {
        sid,
        flags: SurfaceFlags::default(),
        format: format.id(),
        mip_levels: 1,
        array_size: 0,
        multisample_count: 0,
        size,
    }
}

/// A device, what it counts, and the frame of its only memory object, of ascending bytes.
struct Bench {
    device: Arc<SoftDevice>,
    timeline: Arc<Timeline>,
    frame: Pfn,
}

impl Bench {
    fn new() -> Self {
        let device = SoftDevice::new(&Arc::default());
        let frame = device.hardware.phys.alloc(1);
        device.hardware.phys.page(frame).write(0, &(0..64).collect::<Vec<u8>>());
        device.define_mob(MOB, &[frame]);
        Self { timeline: Timeline::new(Arc::clone(&device) as Arc<dyn Engine>), frame, device }
    }

    /// With surfaces A and B of 4 by 4 bytes; A is bound to the memory object.
    fn with_surfaces() -> Self {
        let bench = Self::new();
        let size = Size3d::new(4, 4, 1);
        bench.run(&[
            define(A, SurfaceFormat::R8_UNORM, size),
            define(B, SurfaceFormat::R8_UNORM, size),
            Command::BindGbSurface { sid: A, mob: MOB },
        ]);
        bench
    }

    fn submit(&self, commands: &[Command]) {
        self.device.stream.lock().unwrap().emit(commands).unwrap();
    }

    fn step(&self) -> bool {
        self.device.step(&self.timeline)
    }

    fn run(&self, commands: &[Command]) {
        self.submit(commands);
        while self.step() {}
    }

    fn bytes(&self, sid: SurfaceId) -> Vec<u8> {
        self.device.surface_bytes(sid).unwrap()
    }

    fn memory(&self) -> Vec<u8> {
        self.device.hardware.phys.page(self.frame).bytes()
    }
}

#[test]
fn an_update_copies_the_box_and_no_byte_more() {
    let bench = Bench::with_surfaces();
    let image_box = Box3d::new(1, 2, 0, 2, 2, 1);

    bench.run(&[Command::UpdateGbImage { sid: A, face: 0, mipmap: 0, image_box }]);

    assert_eq!(bench.bytes(A), [0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 10, 0, 0, 13, 14, 0]);
    assert_eq!(bench.device.take_errors(), []);
}

#[test]
fn a_fence_passes_when_its_turn_comes() {
    let bench = Bench::with_surfaces();
    let fence = Fence::new(&bench.timeline, 5);
    bench.submit(&[Command::UpdateGbSurface { sid: A }, Command::Fence { seqno: 5 }]);

    assert!(bench.step() && !fence.is_signaled());
    assert!(bench.step() && fence.is_signaled());
    assert!(!bench.step());
}

#[test]
fn a_readback_writes_guest_memory_at_the_offset_of_the_binding() {
    let bench = Bench::with_surfaces();

    bench.run(&[
        Command::UpdateGbSurface { sid: A },
        Command::BindGbSurfaceAtOffset { sid: A, mob: MOB, offset: 32 },
        Command::ReadbackGbSurface { sid: A },
    ]);

    let before: Vec<u8> = (0..32).collect();
    let copy: Vec<u8> = (0..16).collect();
    let behind: Vec<u8> = (48..64).collect();
    assert_eq!(bench.memory()[..64], [before, copy, behind].concat());
}

#[test]
fn copies_and_dma_move_the_same_bytes() {
    let bench = Bench::with_surfaces();
    let (a, b) = (ImageId::first(A), ImageId::first(B));
    let copy_box = CopyBox { to: Box3d::new(0, 0, 0, 2, 1, 1), from_x: 2, from_y: 3, from_z: 0 };
    let all = CopyBox::at(Box3d::new(0, 0, 0, 4, 4, 1));
    let guest = GuestImage { mob: MOB, offset: 40, pitch: 0 };

    bench.run(&[
        Command::UpdateGbSurface { sid: A },
        Command::SurfaceCopy { src: a, dest: b, copy_box },
        Command::SurfaceDma { guest, host: b, transfer: TRANSFER_READ_HOST, copy_box: all },
    ]);

    assert_eq!(bench.bytes(B)[..4], [14, 15, 0, 0]);
    assert_eq!(bench.memory()[40..44], [14, 15, 0, 0]);
    assert_eq!(bench.device.take_errors(), []);
}

#[test]
fn a_draw_writes_what_is_bound_from_what_it_reads() {
    let bench = Bench::with_surfaces();
    let view = ViewId(0);

    bench.run(&[
        Command::UpdateGbSurface { sid: A },
        Command::DxDefineContext { cid: CID },
        Command::DxContext { cid: CID },
        Command::DxDefineShaderResourceView { view, sid: A },
        Command::DxDefineRenderTargetView { view, sid: B },
        Command::DxSetShaderResources { slot: 0, view },
        Command::DxSetRenderTargets { depth_stencil: ViewId::INVALID, render_target: view },
        Command::DxDraw { vertex_count: 0x10, start_vertex: 0 },
    ]);

    assert_eq!(bench.bytes(B)[..4], [0x10, 0x11, 0x12, 0x13]);
    assert_eq!(bench.device.take_errors(), []);
}

#[test]
fn what_makes_no_sense_is_an_error_and_changes_nothing() {
    let bench = Bench::with_surfaces();
    let outside = Box3d::new(3, 0, 0, 2, 1, 1);
    let commands = [
        Command::UpdateGbSurface { sid: B },
        Command::DxUpdateSubresource { sid: A, sub_resource: 0, image_box: outside },
        Command::ReadbackGbSurface { sid: SurfaceId(77) },
    ];

    bench.run(&commands);

    let errors: Vec<_> = bench.device.take_errors().into_iter().map(|error| error.command).collect();
    assert_eq!(errors, commands);
    assert_eq!(bench.bytes(A), [0; 16]);
}

#[test]
fn planes_of_a_planar_image_lie_one_after_the_other() {
    let bench = Bench::new();

    bench.run(&[
        define(A, SurfaceFormat::NV12, Size3d::new(4, 4, 1)),
        Command::BindGbSurface { sid: A, mob: MOB },
        Command::UpdateGbImage { sid: A, face: 0, mipmap: 0, image_box: Box3d::new(2, 2, 0, 2, 2, 1) },
    ]);

    let mut expected = [0; 24];
    for at in [10, 11, 14, 15, 22, 23] {
        expected[usize::from(at)] = at;
    }
    assert_eq!(bench.bytes(A), expected);
}
