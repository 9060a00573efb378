//! What each step does, to the system and to the flat memory.

use std::sync::Arc;

use kmd_sim::addr::PAGE_SIZE;
use kmd_sim::mm::memory::finish_mkwrite;
use kmd_sim::mm::vma::{FaultFlags, Mkwrite, VmFault, VmFlags};
use kmd_sim::svga::cmd::{Command, TRANSFER_WRITE_HOST};
use kmd_sim::svga::types::{Box3d, CopyBox, GuestImage, ImageId, ViewId};
use kmd_sim::vmwgfx::resource_validate::do_evict;

use crate::ops::{Op, SURFACES};
use crate::world::{Failure, Mapped, OBJECTS_OF, Outcome, PAGE, World, use_of, view};

impl World<'_> {
    pub(crate) fn step(&mut self, op: Op) -> Outcome {
        match op {
            Op::Store { process, surface, offset, value } => self.store(process, surface, offset, value)?,
            Op::Load { process, surface, offset } => {
                self.settle(surface);
                self.load(process, surface, offset % self.surfaces[surface].len())?;
            }
            Op::Burst { process, skip, rounds, value } => {
                for round in 0..rounds {
                    self.burst(process, skip, value.wrapping_add(u8::try_from(round).unwrap()))?;
                }
            }
            Op::Idle => (0..3).for_each(|_| self.use_all(SURFACES)),
            Op::Use { surface } => self.use_one(surface),
            Op::Copy { src, dest, x, y } => self.copy(src, dest, x, y),
            Op::Clear { surface, value } => {
                self.clear(surface, value);
            }
            Op::Draw { target, input, value } => self.draw(target, input, value),
            Op::Readback { surface } => {
                let sid = self.surfaces[surface].handle;
                self.exec(false, &[Command::ReadbackGbSurface { sid }], &[], &[surface]);
            }
            Op::Upload { surface } => {
                let sid = self.surfaces[surface].handle;
                let commands = [Command::ReadbackGbSurface { sid }, Command::UpdateGbSurface { sid }];
                self.exec(false, &commands, &[], &[surface]);
            }
            Op::Cramped { surface, space, value } => {
                self.system.dev.wait_idle();
                self.system.dev.stream().set_capacity(space);
                self.clear(surface, value);
                self.system.dev.stream().set_capacity(u64::MAX);
            }
            Op::FailedSwitch { surface, owner } => self.failed_switch(surface, owner),
            Op::Switch { surface, fill } => self.switch(surface, fill),
            Op::Evict { surface } => self.evict(surface),
            Op::SwapOut { bo } => {
                let task = &self.processes[0].cpu.task;
                self.system.dev.bo_swapout(task, &self.objects[bo].bo).unwrap();
            }
            Op::Pin { surface } => self.pin(surface),
            Op::Show { surface } => self.show(surface),
            Op::SlowStore { process, surface, offset, fill, value } => {
                let offset = offset % self.surfaces[surface].len();
                self.slow_fault(process, surface, offset, fill);
                self.store(process, surface, offset, value)?;
            }
            Op::Step { commands } => (0..commands).for_each(|_| {
                self.system.dev.step_device();
            }),
            Op::Wait => self.system.dev.wait_idle(),
            Op::Check => self.check_bytes()?,
            _ => self.map_step(op),
        }
        Ok(())
    }

    /// Steps that change mappings.
    fn map_step(&mut self, op: Op) {
        match op {
            Op::Map { process, bo } => self.map(process, bo),
            Op::Unmap { process, bo } => self.unmap(process, bo),
            Op::MapReadOnly { process, bo } => self.map_read_only(process, bo),
            Op::Protect { process, bo, write } => {
                let addresses = self.addresses(bo);
                let of = &mut self.processes[process];
                if of.mapped[bo] != Mapped::No {
                    of.cpu.mm.mprotect(&of.cpu.task, &addresses, write).unwrap();
                    of.mapped[bo] = if write { Mapped::Writable } else { Mapped::ReadOnly };
                }
            }
            Op::Random { process, bo, random } => {
                let addresses = self.addresses(bo);
                let cpu = &self.processes[process].cpu;
                cpu.mm.madvise_random(&cpu.task, &addresses, random);
            }
            Op::Fork => self.fork(),
            _ => {}
        }
    }

    fn addresses(&self, bo: usize) -> std::ops::Range<u64> {
        let object = &self.objects[bo].bo;
        let start = self.system.address(object);
        start..start + object.num_pages() * PAGE_SIZE
    }

    fn store(&mut self, process: usize, surface: usize, offset: usize, value: u8) -> Outcome {
        let offset = offset % self.surfaces[surface].len();
        if self.processes[process].mapped[self.surfaces[surface].bo] != Mapped::Writable {
            return Ok(());
        }
        self.settle(surface);
        let address = self.address(surface, offset);
        if let Err(signal) = self.processes[process].cpu.store(address, value) {
            return Err(Failure::Byte(format!("{signal:?} for a store to surface {surface}")));
        }
        self.bytes_mut(surface)[offset] = value;
        Ok(())
    }

    fn burst(&mut self, process: usize, skip: usize, value: u8) -> Outcome {
        for surface in (0..3).filter(|surface| *surface != skip) {
            for offset in (0..self.surfaces[surface].len()).step_by(PAGE) {
                self.store(process, surface, offset, value)?;
            }
        }
        self.use_all(3);
        Ok(())
    }

    fn use_one(&mut self, surface: usize) {
        let handle = self.surfaces[surface].handle;
        self.exec(false, &[use_of(handle)], &[], &[surface]);
    }

    /// The first `surfaces`, in one batch.
    fn use_all(&mut self, surfaces: usize) {
        let all: Vec<usize> = (0..surfaces).collect();
        let commands: Vec<Command> = all.iter().map(|at| use_of(self.surfaces[*at].handle)).collect();
        self.exec(false, &commands, &[], &all);
    }

    /// Copies from a corner on, as much as both surfaces have.
    fn copy(&mut self, src: usize, dest: usize, x: usize, y: usize) {
        let (from, to) = (&self.surfaces[src], &self.surfaces[dest]);
        let width = (from.stride.min(to.stride) / 4).saturating_sub(x);
        let height = from.height.min(to.height).saturating_sub(y);
        let word = |length: usize| u32::try_from(length).unwrap();
        let image_box = Box3d::new(word(x), word(y), 0, word(width), word(height), 1);
        let command = Command::SurfaceCopy {
            src: ImageId::first(from.handle),
            dest: ImageId::first(to.handle),
            copy_box: CopyBox::at(image_box),
        };
        let (from_stride, to_stride) = (from.stride, to.stride);
        if !self.exec(false, &[command], &[dest], if src == dest { &[] } else { std::slice::from_ref(&src) })
        {
            return;
        }
        let source = self.bytes(src).to_vec();
        for row in y..y + height {
            let part = |stride: usize| row * stride + 4 * x..row * stride + 4 * (x + width);
            self.bytes_mut(dest)[part(to_stride)].copy_from_slice(&source[part(from_stride)]);
        }
    }

    fn clear(&mut self, surface: usize, value: u8) -> bool {
        let rgba = u32::from_le_bytes([value; 4]);
        let command = Command::DxClearRenderTargetView { view: view(surface), rgba };
        let done = self.exec(true, &[command], &[surface], &[]);
        if done {
            self.bytes_mut(surface).fill(value);
        }
        done
    }

    fn draw(&mut self, target: usize, input: usize, value: u8) {
        let commands = [
            Command::DxSetShaderResources { slot: 0, view: view(input) },
            Command::DxSetRenderTargets { depth_stencil: ViewId::INVALID, render_target: view(target) },
            Command::DxDraw { vertex_count: value.into(), start_vertex: 0 },
            // Or every later batch would write it.
            Command::DxSetRenderTargets { depth_stencil: ViewId::INVALID, render_target: ViewId::INVALID },
            Command::DxSetShaderResources { slot: 0, view: ViewId::INVALID },
        ];
        // Every third time it stays bound, and every later batch is taken to write it.
        let commands = if value.is_multiple_of(3) { &commands[..3] } else { &commands[..] };
        let uses: &[usize] = if input == target { &[] } else { std::slice::from_ref(&input) };
        if self.exec(true, commands, &[target], uses) {
            let read = self.bytes(input).to_vec();
            for (at, byte) in self.bytes_mut(target).iter_mut().enumerate() {
                *byte = value ^ read.get(at).unwrap_or(&0);
            }
        }
    }

    fn failed_switch(&mut self, surface: usize, owner: usize) {
        let transfer = Command::SurfaceDma {
            guest: GuestImage { mob: self.busy, offset: 0, pitch: 0 },
            host: ImageId::first(self.surfaces[surface].handle),
            transfer: TRANSFER_WRITE_HOST,
            copy_box: CopyBox::at(Box3d::new(0, 0, 0, 1, 1, 1)),
        };
        let mob = self.objects[self.surfaces[owner].bo].handle;
        let bind = Command::BindGbSurface { sid: self.surfaces[surface].handle, mob };
        let task = &self.processes[0].cpu.task;
        assert!(self.system.file.execbuf(task, None, &[transfer, bind]).is_err());
    }

    fn switch(&mut self, surface: usize, fill: Option<u8>) {
        let [one, other] = OBJECTS_OF[surface];
        let new = if self.surfaces[surface].bo == one { other } else { one };
        let (sid, mob) = (self.surfaces[surface].handle, self.objects[new].handle);
        let mut commands = vec![Command::ReadbackGbSurface { sid }, Command::BindGbSurface { sid, mob }];
        match fill {
            Some(value) => {
                commands.push(Command::DxClearRenderTargetView {
                    view: view(surface),
                    rgba: u32::from_le_bytes([value; 4]),
                });
            }
            None => commands.push(Command::UpdateGbSurface { sid }),
        }
        // The object it leaves is written by the readback: nothing but the fence says when.
        if !self.exec(true, &commands, &[], &[surface]) {
            return;
        }
        self.settle(surface);
        self.surfaces[surface].bo = new;
        if let Some(value) = fill {
            self.bytes_mut(surface).fill(value);
        }
    }

    fn evict(&mut self, surface: usize) {
        let surface = self.system.file.surface(self.surfaces[surface].handle).unwrap();
        let Some(bo) = surface.res.state().backing.clone() else { return };
        let mut state = bo.reserve(&self.processes[0].cpu.task);
        if surface.sid().is_some() {
            do_evict(&self.system.dev, &surface.res, Some(&mut state)).unwrap();
        }
    }

    fn pin(&mut self, surface: usize) {
        let task = &self.processes[0].cpu.task;
        let res = Arc::clone(&self.system.file.surface(self.surfaces[surface].handle).unwrap().res);
        // On a crowded device there may be no number left.
        if self.system.dev.resource_pin(task, &res).is_ok() {
            self.system.dev.resource_unpin(task, &res).unwrap();
            let fence = self.system.dev.emit_fence().unwrap();
            self.surfaces[surface].wait = Some(fence);
        }
    }

    fn show(&mut self, surface: usize) {
        let shown = self.system.file.surface(self.surfaces[surface].handle).unwrap();
        if let Ok(fence) = self.system.dev.kms_update(&self.processes[0].cpu.task, &shown) {
            self.surfaces[surface].wait = fence;
        }
    }

    /// A write fault that finds its entry read-only, and has the driver's answer only after a batch. The
    /// instruction is yet to run again.
    fn slow_fault(&mut self, process: usize, surface: usize, offset: usize, fill: Option<u8>) {
        self.settle(surface);
        let address = self.address(surface, offset) / PAGE_SIZE * PAGE_SIZE;
        let Some(vmf) = self.write_fault(process, address) else { return };
        if fill.is_some_and(|value| !self.clear(surface, value)) {
            return;
        }
        let answer = {
            let cpu = &self.processes[process].cpu;
            let mmap = cpu.mm.mmap_read_lock(&cpu.task);
            vmf.vma.ops.pfn_mkwrite(&vmf, &mmap)
        };
        self.use_one(surface);
        if answer == Mkwrite::Allowed {
            finish_mkwrite(&self.processes[process].cpu.task, &vmf.vma, address, vmf.orig_pte);
        }
    }

    /// The fault that a store would take now, if it is one of a read-only entry.
    fn write_fault(&self, process: usize, address: u64) -> Option<VmFault> {
        let cpu = &self.processes[process].cpu;
        let mmap = cpu.mm.mmap_read_lock(&cpu.task);
        let vma = mmap.range(..=address).next_back().map(|(_, vma)| Arc::clone(vma))?;
        let orig_pte = cpu.pte(address);
        let faults = !orig_pte.none() && !orig_pte.write();
        let allowed = vma.addresses.contains(&address) && vma.flags.contains(VmFlags::WRITE);
        let flags = FaultFlags { write: true, ..FaultFlags::default() };
        (faults && allowed).then(|| VmFault { pgoff: vma.pgoff_of(address), address, flags, orig_pte, vma })
    }
}
