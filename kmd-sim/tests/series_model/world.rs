//! A system, and next to it the flat memory it has to look like.
//!
//! The flat memory is one row of bytes an object. A store changes it at once, a batch when it is submitted. A
//! program that keeps to the rules cannot tell the difference. The rules: before the CPU uses what a batch
//! reads, or reads back by a command of its own, it waits for the batch. For what a batch writes it need not
//! wait.

use std::cell::OnceCell;
use std::sync::Arc;

use kmd_sim::addr::PAGE_SIZE;
use kmd_sim::error::Error;
use kmd_sim::mm::fault::Thread;
use kmd_sim::mm::mm_struct::Mm;
use kmd_sim::mm::vma::VmFlags;
use kmd_sim::soft_system::SoftSystem;
use kmd_sim::svga::cmd::Command;
use kmd_sim::svga::format::SurfaceFormat;
use kmd_sim::svga::surface_layout::SurfaceMetadata;
use kmd_sim::svga::types::{ContextId, ImageId, MobId, Size3d, SurfaceId, ViewId};
use kmd_sim::ttm::resv::Fence;
use kmd_sim::upstream::{Profile, Upstream};
use kmd_sim::vmwgfx::bo::Bo;
use kmd_sim::vmwgfx::file::SurfaceCreate;
use kmd_sim::vmwgfx::invariants;
use kmd_sim::vmwgfx::resource::ResType;

use crate::ops::{BOS, PROCESSES, SURFACES};

pub(crate) const PAGE: usize = 4096;
/// Processes a sequence can have, one after the other.
const MMS: usize = 8;
/// Pages of the object of three surfaces, where it is large.
const LARGE: u64 = 512;
/// Pages of objects that a surface uses at most.
const PAGES: [u64; BOS] = [12, 8, 4, 8, 4];
/// Width and height of the surfaces, their object, and its page they start at.
const LAYOUT: [(u32, u32, usize, u64); SURFACES] =
    [(1024, 4, 0, 0), (1024, 4, 0, 4), (1024, 4, 0, 8), (2048, 4, 1, 0), (1024, 4, 2, 0)];
/// Objects a surface changes between.
pub(crate) const OBJECTS_OF: [[usize; 2]; SURFACES] = [[0, 0], [0, 0], [0, 0], [1, 3], [2, 4]];
/// Areas that are mapped for reading lie this much higher.
const READ_ONLY: u64 = 1 << 40;

/// The address spaces of a sequence; they live as long as it does.
pub(crate) type Mms = [OnceCell<Mm>; MMS];

pub(crate) struct Surface {
    pub(crate) handle: SurfaceId,
    /// Bytes of a row.
    pub(crate) stride: usize,
    pub(crate) height: usize,
    pub(crate) bo: usize,
    /// Where in the object it is.
    pub(crate) start: usize,
    /// What the CPU has to wait for.
    pub(crate) wait: Option<Fence>,
}

impl Surface {
    pub(crate) fn len(&self) -> usize {
        self.stride * self.height
    }
}

pub(crate) struct Object {
    pub(crate) handle: MobId,
    pub(crate) bo: Arc<Bo>,
    /// What every one sees.
    pub(crate) bytes: Vec<u8>,
}

/// How a process has mapped an object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mapped {
    No,
    ReadOnly,
    Writable,
}

pub(crate) struct Process<'a> {
    pub(crate) cpu: Thread<'a>,
    pub(crate) mapped: [Mapped; BOS],
    /// Mapped as by a program that may never write.
    pub(crate) reader: [bool; BOS],
}

pub(crate) struct World<'a> {
    pub(crate) system: SoftSystem,
    mms: &'a Mms,
    pub(crate) processes: Vec<Process<'a>>,
    pub(crate) objects: Vec<Object>,
    pub(crate) surfaces: Vec<Surface>,
    pub(crate) context: ContextId,
    /// An object that is grabbed for the CPU all the time.
    pub(crate) busy: MobId,
}

/// What a system is like, next to its kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// The object of three surfaces is large.
    pub(crate) large: bool,
    /// Faults map huge entries where they can.
    pub(crate) huge: bool,
    /// Another surface lies over the wide one, at its start.
    pub(crate) overlap: bool,
    /// The device has no room for all surfaces at a time.
    pub(crate) crowded: bool,
}

/// How a sequence failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A byte is not what it has to be.
    Byte(String),
    /// An invariant does not hold, or something was reported that must not be.
    Unsound(String),
}

pub(crate) type Outcome = Result<(), Failure>;

impl<'a> World<'a> {
    pub(crate) fn new(upstream: Upstream, shape: Shape, mms: &'a Mms) -> Self {
        let system = SoftSystem::with(upstream, |dev| dev.huge_faults = shape.huge);
        let file = &system.file;
        let first: &'a Mm = mms[0].get_or_init(|| system.process());
        let second: &'a Mm = mms[1].get_or_init(|| system.process());
        let processes: Vec<Process<'a>> = [first, second].into_iter().map(Process::new).collect();
        let task = &processes[0].cpu.task;

        let objects: Vec<Object> = PAGES
            .iter()
            .enumerate()
            .map(|(at, pages)| {
                let size = if at == 0 && shape.large { LARGE } else { *pages } * PAGE_SIZE;
                let handle = file.bo_create(size);
                let bytes = vec![0; usize::try_from(pages * PAGE_SIZE).unwrap()];
                Object { handle, bo: file.bo(handle).unwrap(), bytes }
            })
            .collect();
        let create = |(width, height, bo, page): (u32, u32, usize, u64)| {
            let size = Size3d::new(width, height, 1);
            let image = SurfaceMetadata::new(SurfaceFormat::R8G8B8A8_UNORM, size);
            let (backing, offset) = (Some(objects[bo].handle), page * PAGE_SIZE);
            let handle = file
                .surface_create(task, &SurfaceCreate { backing, offset, ..SurfaceCreate::coherent(image) })
                .unwrap();
            Surface {
                handle,
                stride: width as usize * 4,
                height: height as usize,
                bo,
                start: usize::try_from(offset).unwrap(),
                wait: None,
            }
        };
        let surfaces: Vec<Surface> = LAYOUT.into_iter().map(create).collect();
        if shape.overlap {
            let wide = file.execbuf(task, None, &[use_of(surfaces[3].handle)]);
            let image = SurfaceMetadata::new(SurfaceFormat::R8G8B8A8_UNORM, Size3d::new(1024, 1, 1));
            let backing = Some(objects[1].handle);
            let short = SurfaceCreate { backing, ..SurfaceCreate::new(image) };
            let short = file.surface_create(task, &short).unwrap();
            let short = file.execbuf(task, None, &[use_of(short)]);
            assert!(wide.is_ok() && short.is_ok());
        }
        if shape.crowded {
            system.dev.limit_ids(ResType::GbSurface, 4);
        }
        let context = file.context_create(true);
        let busy = file.bo_create(PAGE_SIZE);
        let read = kmd_sim::vmwgfx::file::SyncCpu { read: true, ..Default::default() };
        file.synccpu_grab(task, busy, read).unwrap();
        let mut world = Self { system, mms, processes, objects, surfaces, context, busy };
        for surface in 0..SURFACES {
            world.define_views(surface);
        }
        for process in 0..PROCESSES {
            (0..BOS).for_each(|bo| world.map(process, bo));
        }
        world
    }

    fn define_views(&mut self, surface: usize) {
        let (view, sid) = (view(surface), self.surfaces[surface].handle);
        let task = &self.processes[0].cpu.task;
        let commands = [
            Command::DxDefineRenderTargetView { view, sid },
            Command::DxDefineShaderResourceView { view, sid },
        ];
        self.system.file.execbuf(task, Some(self.context), &commands).unwrap();
    }

    /// Whether a batch was submitted; it may be refused for a lack of room on the device. `fill` names the
    /// surfaces that it writes, `uses` the others.
    pub(crate) fn exec(
        &mut self,
        in_context: bool,
        commands: &[Command],
        writes: &[usize],
        uses: &[usize],
    ) -> bool {
        let task = &self.processes[0].cpu.task;
        let fence = match self.system.file.execbuf(task, in_context.then_some(self.context), commands) {
            Ok(fence) => fence,
            Err(Error::Busy | Error::NoMemory) => return false,
            Err(error) => panic!("{error:?}: {commands:?}"),
        };
        for surface in uses {
            self.surfaces[*surface].wait = fence.clone();
        }
        for surface in writes {
            self.surfaces[*surface].wait = None;
        }
        true
    }

    /// The CPU is about to use a surface.
    pub(crate) fn settle(&mut self, surface: usize) {
        if let Some(fence) = self.surfaces[surface].wait.take() {
            fence.wait(&self.processes[0].cpu.task, false).unwrap();
        }
    }

    /// What the flat memory has of a surface.
    pub(crate) fn bytes(&self, surface: usize) -> &[u8] {
        let Surface { bo, start, .. } = self.surfaces[surface];
        &self.objects[bo].bytes[start..start + self.surfaces[surface].len()]
    }

    pub(crate) fn bytes_mut(&mut self, surface: usize) -> &mut [u8] {
        let Surface { bo, start, .. } = self.surfaces[surface];
        let len = self.surfaces[surface].len();
        &mut self.objects[bo].bytes[start..start + len]
    }

    /// Where a process has a byte of a surface mapped.
    pub(crate) fn address(&self, surface: usize, offset: usize) -> u64 {
        let Surface { bo, start, .. } = self.surfaces[surface];
        self.system.address(&self.objects[bo].bo) + (start + offset) as u64
    }

    pub(crate) fn map(&mut self, process: usize, bo: usize) {
        let process = &mut self.processes[process];
        if process.mapped[bo] == Mapped::No {
            self.system.map(&process.cpu, &self.objects[bo].bo);
            process.mapped[bo] = Mapped::Writable;
        }
    }

    pub(crate) fn map_read_only(&mut self, process: usize, bo: usize) {
        let process = &mut self.processes[process];
        if !process.reader[bo] {
            let object = &self.objects[bo].bo;
            let address = READ_ONLY + self.system.address(object);
            self.system.map_as(&process.cpu, object, address, VmFlags::SHARED.or(VmFlags::PFNMAP));
            process.reader[bo] = true;
        }
    }

    pub(crate) fn unmap(&mut self, process: usize, bo: usize) {
        let process = &mut self.processes[process];
        if process.mapped[bo] != Mapped::No {
            self.system.unmap(&process.cpu, &self.objects[bo].bo);
            process.mapped[bo] = Mapped::No;
        }
    }

    pub(crate) fn fork(&mut self) {
        let Some(free) = self.mms.iter().find(|mm| mm.get().is_none()) else { return };
        let gone = &self.processes[1];
        gone.cpu.mm.exit(&gone.cpu.task);
        let parent = &self.processes[0];
        let child = free.get_or_init(|| parent.cpu.mm.fork(&parent.cpu.task));
        let child = Process { mapped: parent.mapped, reader: parent.reader, ..Process::new(child) };
        let gone = std::mem::replace(&mut self.processes[1], child);
        gone.cpu.task.take_splats();
    }

    /// Loads a byte, also through a mapping for reading alone.
    pub(crate) fn load(&self, process: usize, surface: usize, offset: usize) -> Outcome {
        let bo = self.surfaces[surface].bo;
        let of = &self.processes[process];
        let address = self.address(surface, offset);
        let expected = self.bytes(surface)[offset];
        let plain = (of.mapped[bo] != Mapped::No).then_some(address);
        for address in plain.into_iter().chain(of.reader[bo].then_some(READ_ONLY + address)) {
            let loaded = of.cpu.load(address);
            if loaded != Ok(expected) {
                return Err(Failure::Byte(format!(
                    "process {process} loads {loaded:?} instead of {expected} at {offset:#x} of surface {surface}"
                )));
            }
        }
        Ok(())
    }

    /// Compares everything: what the device has once it has seen all, and what is in memory once the CPU has.
    pub(crate) fn check_bytes(&mut self) -> Outcome {
        for surface in 0..SURFACES {
            let handle = self.surfaces[surface].handle;
            if !self.exec(false, &[use_of(handle)], &[], &[surface]) {
                continue;
            }
            self.system.dev.wait_idle();
            self.equal(&self.system.device_bytes(handle), surface, "the device")?;
        }
        for surface in 0..SURFACES {
            let Surface { bo, start, .. } = self.surfaces[surface];
            if self.processes[0].mapped[bo] == Mapped::No {
                continue;
            }
            self.settle(surface);
            for offset in (0..self.surfaces[surface].len()).step_by(PAGE) {
                self.load(0, surface, offset)?;
            }
            let state = self.objects[bo].bo.reserve(&self.processes[0].cpu.task);
            let phys = &self.system.machine.hardware.phys;
            let pages = (start / PAGE..(start + self.surfaces[surface].len()) / PAGE)
                .map(|page| state.tt.page(page as u64).map_or(vec![0; PAGE], |pfn| phys.page(pfn).bytes()));
            let memory: Vec<u8> = pages.flatten().collect();
            drop(state);
            self.equal(&memory, surface, "memory")?;
        }
        Ok(())
    }

    fn equal(&self, found: &[u8], surface: usize, whose: &str) -> Outcome {
        match found.iter().zip(self.bytes(surface)).position(|(found, expected)| found != expected) {
            None => Ok(()),
            Some(at) => Err(Failure::Byte(format!(
                "{whose} has {} instead of {} at {at:#x} of surface {surface}",
                found[at],
                self.bytes(surface)[at]
            ))),
        }
    }

    /// Checks what must hold between any two steps.
    pub(crate) fn check_sound(&self) -> Outcome {
        let broken = invariants::check(&self.system, &self.processes[0].cpu);
        let errors = self.system.device.take_errors();
        let splats: Vec<_> =
            self.processes.iter().flat_map(|process| process.cpu.task.take_splats()).collect();
        self.system.device.take_executed();
        match broken.is_empty() && errors.is_empty() && splats.is_empty() {
            true => Ok(()),
            false => Err(Failure::Unsound(format!("{broken:?} {errors:?} {splats:?}"))),
        }
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        // A sequence that failed may have been told so.
        for process in &self.processes {
            process.cpu.task.take_splats();
        }
    }
}

impl<'a> Process<'a> {
    fn new(mm: &'a Mm) -> Self {
        Self { cpu: Thread::new(mm), mapped: [Mapped::No; BOS], reader: [false; BOS] }
    }
}

pub(crate) fn use_of(surface: SurfaceId) -> Command {
    Command::BlitSurfaceToScreen { src: ImageId::first(surface), screen: 0 }
}

/// Views are numbered as surfaces are.
pub(crate) fn view(surface: usize) -> ViewId {
    ViewId(u32::try_from(surface).unwrap())
}

/// Whether a kernel has huge entries for graphics memory.
pub(crate) fn has_huge(profile: Profile) -> bool {
    profile >= Profile::V6_12
}
