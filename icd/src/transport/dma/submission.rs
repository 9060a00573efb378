//! A submission as the host gets it: the CPU's writes; each batch, and behind it what it wrote; then what the
//! application wants signalled. Bytes that another queue carried are waited for.

#![allow(unsafe_code, reason = "submits to the host")]

use std::ops::Range;
use std::sync::Arc;

use ash::vk;
use kmd_sim::uapi::Writes;

use super::batch::{Batch, command, semaphore};
use super::copies::Copy;
use super::schedule::{Line, Schedule};
use super::staging::{Block, Direction};
use super::{Arrival, Dma, Outbox, Readback, lock};
use crate::device::{DeviceState, QueueState};
use crate::trace::in_host;
use crate::transport::vk_result;

const ALL: vk::PipelineStageFlags2 = vk::PipelineStageFlags2::ALL_COMMANDS;

/// Staging memory, commands that copy to it, and where each part lies there.
type Landing = (Block, vk::CommandBuffer, Vec<Range<u64>>);

/// A submission on its way.
#[derive(Debug, Default)]
struct Package {
    steps: Vec<Batch>,
    upload: Option<vk::CommandBuffer>,
    seen: Vec<(vk::Queue, u64)>,
    arrivals: Vec<(vk::Semaphore, u64)>,
    last: Option<(vk::Semaphore, u64)>,
    /// What comes last is Lockstep's: a fence must not be signalled with it.
    ours_is_last: bool,
}

impl Package {
    fn push(&mut self, step: Batch) {
        self.steps.push(step);
        self.ours_is_last = false;
    }

    fn push_ours(&mut self, step: Batch) {
        self.steps.push(step);
        self.ours_is_last = true;
    }
}

impl Dma {
    /// Gives batches to the host.
    pub(super) fn forward(
        &self,
        schedule: &mut Schedule,
        queue: &Arc<QueueState>,
        mut batches: Vec<Batch>,
        fence: vk::Fence,
    ) -> Result<(), vk::Result> {
        let writes: Vec<Option<Writes>> = batches
            .iter()
            .map(|batch| queue.writes(batch.commands.iter().map(|info| info.command_buffer), false))
            .collect();
        let has_writes: Vec<bool> = writes.iter().map(Option::is_some).collect();
        let writes: Vec<Writes> = writes.into_iter().flatten().collect();
        let (context, timeline) = queue.context()?;
        let km = &queue.device.km;
        let seqnos = match writes.is_empty() {
            true => None,
            false => km.execbuf(context, &writes).map_err(|error| {
                self.discard(self.take_outbox());
                vk_result(error)
            })?,
        };
        let outbox = self.take_outbox();
        let seqnos = seqnos.unwrap_or(0..0);
        let mut numbers = seqnos.clone();
        let mut package = Package::default();
        let packed = self.prologue(schedule, queue, &outbox, &mut package).and_then(|()| {
            let Some(line) = schedule.lines.get_mut(&queue.handle) else { return Ok(()) };
            for (batch, has_writes) in batches.iter_mut().zip(has_writes) {
                let seqno = if has_writes { numbers.next() } else { None };
                self.pack(line, &outbox, &mut package, batch, seqno.map(|seqno| (timeline, seqno)))?;
            }
            Ok(())
        });
        if mutated!("dma-upload-late") && package.upload.is_some() {
            package.steps.rotate_left(1);
        }
        if package.ours_is_last && fence != vk::Fence::null() {
            package.steps.push(Batch::default());
        }
        let result = packed.and_then(|()| self.host_submit(queue.handle, &mut package.steps, fence));
        if let Err(error) = result {
            self.unpack(schedule, queue, package);
            self.discard(outbox);
            if !writes.is_empty() {
                km.revoke(context, &seqnos);
            }
            return Err(error);
        }
        batches.iter().for_each(|batch| schedule.signalled(batch));
        let waits_for_host = writes.iter().any(|writes| writes.gated);
        let Some(line) = schedule.lines.get_mut(&queue.handle) else { return Ok(()) };
        line.seen.extend(package.seen);
        line.last = package.last.or(line.last);
        if waits_for_host {
            line.last_waiting = line.last;
        }
        let mut memories = lock(&self.memories);
        let mut busy = |memory: &vk::DeviceMemory, timeline, value| {
            if let Some(remote) = memories.get_mut(memory) {
                remote.busy.insert(timeline, value);
            }
        };
        if let Some(commands) = package.upload {
            line.value += 1;
            outbox.targets.iter().for_each(|memory| busy(memory, line.sent, line.value));
            line.uploads.push_back((line.value, commands, outbox.blocks));
        }
        for readback in &outbox.readbacks {
            readback.parts.iter().for_each(|(memory, ..)| busy(memory, readback.timeline, readback.seqno));
        }
        Ok(())
    }

    fn take_outbox(&self) -> Outbox {
        std::mem::take(&mut lock(&self.outbox))
    }

    fn discard(&self, outbox: Outbox) {
        outbox.blocks.into_iter().for_each(|block| self.staging.give_back(block));
    }

    /// Waits for bytes that other queues carried, and carries those of the outbox.
    fn prologue(
        &self,
        schedule: &mut Schedule,
        queue: &QueueState,
        outbox: &Outbox,
        package: &mut Package,
    ) -> Result<(), vk::Result> {
        let others = schedule.lines.iter().filter(|(handle, _)| **handle != queue.handle);
        let sent: Vec<_> = others.map(|(handle, other)| (*handle, other.sent, other.value)).collect();
        let Some(line) = schedule.lines.get_mut(&queue.handle) else { return Ok(()) };
        self.recycle(line);
        let mut prologue = Batch::default();
        for (handle, other, value) in sent {
            if value > line.seen.get(&handle).copied().unwrap_or(0) && !mutated!("dma-upload-elsewhere") {
                prologue.waits.push(semaphore(other, value, ALL));
                package.seen.push((handle, value));
            }
        }
        if !outbox.copies.is_empty() {
            for block in &outbox.blocks {
                self.staging.flush(block)?;
            }
            let copies = if mutated!("dma-upload") { &[] } else { &outbox.copies[..] };
            let commands = line.copier.record(copies)?;
            package.upload = Some(commands);
            prologue.commands.push(command(commands, 0));
            prologue.signals.push(semaphore(line.sent, line.value + 1, ALL));
        }
        if !prologue.waits.is_empty() || !prologue.commands.is_empty() {
            package.push_ours(prologue);
        }
        Ok(())
    }

    /// Packs a batch. `done`: what it signals when it has completed, if anybody must know.
    fn pack(
        &self,
        line: &mut Line,
        outbox: &Outbox,
        package: &mut Package,
        batch: &mut Batch,
        done: Option<(vk::Semaphore, u64)>,
    ) -> Result<(), vk::Result> {
        let own = batch.signals.clone();
        let mut step = std::mem::take(batch);
        // The application's signals stay behind, for those who want to know of them.
        batch.signals.clone_from(&own);
        let Some((timeline, seqno)) = done else {
            package.push(step);
            return Ok(());
        };
        package.last = Some((timeline, seqno));
        step.signals.clear();
        let signalling = step.signalling(own);
        if let Some(readback) = outbox.readbacks.iter().find(|readback| readback.seqno == seqno) {
            let commands = self.bring_back(line, readback)?;
            package.arrivals.push((timeline, seqno));
            if mutated!("dma-readback-early") {
                step.commands.insert(0, command(commands, 0));
            }
            let apart = self.apart && !mutated!("dma-readback-apart");
            if apart || !readback.after.is_empty() {
                line.executed.1 += 1;
                let executed = semaphore(line.executed.0, line.executed.1, ALL);
                step.signals.push(executed);
                package.push(std::mem::take(&mut step));
                let after = readback.after.iter().filter(|_| !mutated!("dma-readback-order"));
                step.waits = after.map(|(other, value)| semaphore(*other, *value, ALL)).collect();
                step.waits.push(executed);
            }
            if !mutated!("dma-readback-early") {
                step.commands.push(command(commands, 0));
            }
        }
        step.signals.push(semaphore(timeline, seqno, ALL));
        package.push_ours(step);
        if !signalling.signals.is_empty() {
            package.push(signalling);
        }
        Ok(())
    }

    /// Takes apart what the host was not given.
    fn unpack(&self, schedule: &mut Schedule, queue: &QueueState, package: Package) {
        if let (Some(line), Some(commands)) = (schedule.lines.get_mut(&queue.handle), package.upload) {
            line.copier.give_back(commands);
        }
        for key in package.arrivals {
            let arrival = lock(&self.arrivals).remove(&key);
            arrival.into_iter().for_each(|arrival| self.arrived(arrival));
        }
    }

    /// Records copies to the CPU.
    fn bring_back(&self, line: &mut Line, readback: &Readback) -> Result<vk::CommandBuffer, vk::Result> {
        let parts = readback.parts.iter().map(|(_, buffer, bytes)| (*buffer, bytes.clone()));
        let (block, commands, parts) = self.land(line, parts)?;
        let arrival = Arrival { block, parts, queue: line.queue.handle, commands };
        lock(&self.arrivals).insert((readback.timeline, readback.seqno), arrival);
        Ok(commands)
    }

    /// Records copies of bytes of buffers to staging memory.
    fn land(
        &self,
        line: &mut Line,
        parts: impl Iterator<Item = (vk::Buffer, Range<u64>)>,
    ) -> Result<Landing, vk::Result> {
        let (mut copies, mut places, mut used) = (Vec::new(), Vec::new(), 0);
        for (buffer, bytes) in parts {
            let size = bytes.end - bytes.start;
            copies.push((buffer, bytes.start, used, size));
            places.push(used..used + size);
            used = (used + size).next_multiple_of(8);
        }
        let block = self.staging.take(used, Direction::Down)?;
        let to = block.buffer;
        let copies = copies.into_iter().filter(|_| !mutated!("dma-readback"));
        let copies = copies.map(|(buffer, from, at, size)| Copy { from: Some((buffer, from)), to, at, size });
        match line.copier.record(&copies.collect::<Vec<_>>()) {
            Ok(commands) => Ok((block, commands, places)),
            Err(error) => {
                self.staging.give_back(block);
                Err(error)
            }
        }
    }

    /// Takes back what the device is done with.
    fn recycle(&self, line: &mut Line) {
        if !line.uploads.is_empty() {
            let done = if mutated!("dma-staging-reuse") { u64::MAX } else { self.counter(line.sent) };
            while let Some((_, commands, blocks)) = line.uploads.pop_front_if(|(value, ..)| *value <= done) {
                line.copier.give_back(commands);
                blocks.into_iter().for_each(|block| self.staging.give_back(block));
            }
        }
        let handle = line.queue.handle;
        for (_, commands) in lock(&self.completed).extract_if(.., |(queue, _)| *queue == handle) {
            line.copier.give_back(commands);
        }
    }

    fn host_submit(&self, queue: vk::Queue, steps: &mut [Batch], fence: vk::Fence) -> Result<(), vk::Result> {
        let infos: Vec<_> = steps.iter_mut().map(Batch::info).collect();
        let count = u32::try_from(infos.len()).unwrap_or(u32::MAX);
        // SAFETY: batches of the application and ours, which live until the call returns; nobody else uses
        // the queue while the schedule is held.
        in_host(|| unsafe { (self.later.queue_submit2)(queue, count, infos.as_ptr(), fence) }).result()
    }

    /// Puts bytes of an object that is about to be mapped into its image.
    pub(super) fn fetch(
        &self,
        schedule: &mut Schedule,
        device: &DeviceState,
        memory: vk::DeviceMemory,
        missing: &[Range<u64>],
    ) -> Result<(), vk::Result> {
        // All that was written: by batches, and to memory by what went ahead of them.
        let last = |line: &Line| line.last.filter(|_| !mutated!("dma-fetch-behind-batches"));
        let carried = |line: &Line| line.value > 0 && !mutated!("dma-fetch-behind-uploads");
        let sent = |line: &Line| carried(line).then_some((line.sent, line.value));
        let waits = schedule.lines.values().flat_map(|line| last(line).into_iter().chain(sent(line)));
        let waits: Vec<_> = waits.map(|(timeline, value)| semaphore(timeline, value, ALL)).collect();
        // Without any, nothing was ever submitted.
        let Some(line) = schedule.lines.values_mut().next() else { return Ok(()) };
        let queue = line.queue.handle;
        let buffer = lock(&self.memories).get(&memory).map(|remote| remote.buffer);
        let Some(buffer) = buffer else { return Ok(()) };
        let missing_here = missing.iter().map(|bytes| (buffer, bytes.clone()));
        let (block, commands, parts) = self.land(line, missing_here)?;
        let (sent, value) = (line.sent, line.value + 1);
        let step = Batch::of_commands(waits, commands, semaphore(sent, value, ALL));
        if let Err(error) = self.host_submit(queue, &mut [step], vk::Fence::null()) {
            line.copier.give_back(commands);
            self.staging.give_back(block);
            return Err(error);
        }
        line.value = value;
        if let Err(error) = self.wait(&[(sent, value)]) {
            // The device may be reading the one, and writing the other.
            if let Some(remote) = lock(&self.memories).get_mut(&memory) {
                remote.busy.insert(sent, value);
            }
            line.uploads.push_back((value, commands, vec![block]));
            return Err(error);
        }
        line.copier.give_back(commands);
        // All that was under way has completed: it is put into images before this is.
        let retired = device.retire_completed();
        let visible = retired.and_then(|()| self.staging.invalidate(&block));
        let image = visible.and_then(|()| self.image(memory).map_err(vk_result)).map(|image| {
            let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
            for (bytes, part) in missing.iter().zip(&parts) {
                let len = size(bytes.end - bytes.start);
                image.copy_span(size(bytes.start), &block.bytes, size(part.start), len);
            }
        });
        self.staging.give_back(block);
        image
    }
}
