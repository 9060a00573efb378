use super::*;
use crate::svga::types::{CopyBox, GuestImage, Size3d, SurfaceFlags, ViewId};

#[derive(Debug)]
struct Memory(Mutex<Vec<u8>>);

impl MobMemory for Memory {
    fn read(&self, offset: u64, bytes: &mut [u8]) {
        let offset = usize::try_from(offset).unwrap();
        bytes.copy_from_slice(&self.0.lock().unwrap()[offset..offset + bytes.len()]);
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        let offset = usize::try_from(offset).unwrap();
        self.0.lock().unwrap()[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn size(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }
}

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

/// A device with surfaces A and B of 4 by 4 bytes; A is bound to memory of ascending bytes.
fn two_surfaces() -> (SoftDevice, Arc<Memory>) {
    let device = SoftDevice::new();
    let memory = Arc::new(Memory(Mutex::new((0..64).collect())));
    device.define_mob(MOB, Arc::clone(&memory) as Arc<dyn MobMemory>);
    let size = Size3d::new(4, 4, 1);
    device.submit([define(A, SurfaceFormat::R8_UNORM, size), define(B, SurfaceFormat::R8_UNORM, size)]);
    device.submit([Command::BindGbSurface { sid: A, mob: MOB }]);
    device.run();
    (device, memory)
}

#[test]
fn an_update_copies_the_box_and_no_byte_more() {
    let (device, _) = two_surfaces();

    let image_box = Box3d::new(1, 2, 0, 2, 2, 1);
    device.submit([Command::UpdateGbImage { sid: A, face: 0, mipmap: 0, image_box }]);
    device.run();

    assert_eq!(device.surface_bytes(A).unwrap(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 10, 0, 0, 13, 14, 0]);
    assert_eq!(device.take_errors(), []);
}

#[test]
fn a_fence_passes_when_its_turn_comes() {
    let (device, _) = two_surfaces();
    device.submit([Command::UpdateGbSurface { sid: A }, Command::Fence { seqno: 5 }]);

    device.step();
    assert_eq!((device.seqno(), device.idle()), (0, false));
    device.step();
    assert_eq!((device.seqno(), device.idle()), (5, true));
}

#[test]
fn a_readback_writes_guest_memory_at_the_offset_of_the_binding() {
    let (device, memory) = two_surfaces();

    device.submit([
        Command::UpdateGbSurface { sid: A },
        Command::BindGbSurfaceAtOffset { sid: A, mob: MOB, offset: 32 },
        Command::ReadbackGbSurface { sid: A },
    ]);
    device.run();

    assert_eq!(memory.0.lock().unwrap()[30..50].to_vec(), {
        let mut expected: Vec<u8> = (30..50).collect();
        expected[2..18].copy_from_slice(&(0..16).collect::<Vec<u8>>());
        expected
    });
}

#[test]
fn copies_and_dma_move_the_same_bytes() {
    let (device, memory) = two_surfaces();
    let (a, b) = (ImageId::first(A), ImageId::first(B));
    let copy_box = CopyBox { to: Box3d::new(0, 0, 0, 2, 1, 1), from_x: 2, from_y: 3, from_z: 0 };
    let all = CopyBox::at(Box3d::new(0, 0, 0, 4, 4, 1));
    let guest = GuestImage { mob: MOB, offset: 40, pitch: 0 };

    device.submit([
        Command::UpdateGbSurface { sid: A },
        Command::SurfaceCopy { src: a, dest: b, copy_box },
        Command::SurfaceDma { guest, host: b, transfer: TRANSFER_READ_HOST, copy_box: all },
    ]);
    device.run();

    assert_eq!(device.surface_bytes(B).unwrap()[..4], [14, 15, 0, 0]);
    assert_eq!(memory.0.lock().unwrap()[40..44], [14, 15, 0, 0]);
    assert_eq!(device.take_errors(), []);
}

#[test]
fn a_draw_writes_what_is_bound_from_what_it_reads() {
    let (device, _) = two_surfaces();
    let view = ViewId(0);

    device.submit([
        Command::UpdateGbSurface { sid: A },
        Command::DxDefineContext { cid: CID },
        Command::DxContext { cid: CID },
        Command::DxDefineShaderResourceView { view, sid: A },
        Command::DxDefineRenderTargetView { view, sid: B },
        Command::DxSetShaderResources { slot: 0, view },
        Command::DxSetRenderTargets { depth_stencil: ViewId::INVALID, render_target: view },
        Command::DxDraw { vertex_count: 0x10, start_vertex: 0 },
    ]);
    device.run();

    assert_eq!(device.surface_bytes(B).unwrap()[..4], [0x10, 0x11, 0x12, 0x13]);
    assert_eq!(device.take_errors(), []);
}

#[test]
fn what_makes_no_sense_is_an_error_and_changes_nothing() {
    let (device, _) = two_surfaces();
    let unbound = Command::UpdateGbSurface { sid: B };
    let outside =
        Command::DxUpdateSubresource { sid: A, sub_resource: 0, image_box: Box3d::new(3, 0, 0, 2, 1, 1) };
    let unknown = Command::ReadbackGbSurface { sid: SurfaceId(77) };

    device.submit([unbound, outside, unknown]);
    device.run();

    let errors: Vec<_> = device.take_errors().into_iter().map(|error| error.command).collect();
    assert_eq!(errors, [unbound, outside, unknown]);
    assert_eq!(device.surface_bytes(A).unwrap(), [0; 16]);
}

#[test]
fn planes_of_a_planar_image_lie_one_after_the_other() {
    let device = SoftDevice::new();
    let memory = Arc::new(Memory(Mutex::new((0..24).collect())));
    device.define_mob(MOB, memory);

    device.submit([
        define(A, SurfaceFormat::NV12, Size3d::new(4, 4, 1)),
        Command::BindGbSurface { sid: A, mob: MOB },
        Command::UpdateGbImage { sid: A, face: 0, mipmap: 0, image_box: Box3d::new(2, 2, 0, 2, 2, 1) },
    ]);
    device.run();

    let mut expected = [0; 24];
    for at in [10, 11, 14, 15, 22, 23] {
        expected[usize::from(at)] = at;
    }
    assert_eq!(device.surface_bytes(A).unwrap(), expected);
}
