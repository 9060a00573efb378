//! Kernel file: `vmwgfx_execbuf.c`: batches.
//!
//! The order of the steps is what coherency rests on. What the CPU wrote before the call is found by the scan
//! and uploaded in front of the batch; what the device will write is unmapped before the batch is submitted,
//! and is `res_dirty` before anyone can map it again.

use super::bo::mob_id;
use super::cmd_check::SwContext;
use super::file::DrmFile;
use crate::error::{Error, Result};
use crate::lockdep::Task;
use crate::svga::cmd::Command;
use crate::svga::types::{ContextId, MobId, SurfaceId};
use crate::ttm::resv::Fence;

/// Bytes of commands a batch may have (`SVGA_CB_MAX_SIZE`).
const MAX_BATCH_BYTES: u64 = 512 * 1024;

impl DrmFile {
    /// Submits commands (`vmw_execbuf_process`), which name things by handle. DX commands are for
    /// `dx_context`.
    ///
    /// The fence stands for all of it; there is none if the device was waited for, since there was no room
    /// for a fence.
    pub fn execbuf(
        &self,
        task: &Task,
        dx_context: Option<ContextId>,
        commands: &[Command],
    ) -> Result<Option<Fence>> {
        if commands.iter().map(Command::bytes).sum::<u64>() > MAX_BATCH_BYTES {
            return Err(Error::Invalid);
        }
        let dev = &self.dev;
        let _cmdbuf = match dev.cmdbuf_mutex.try_lock(task) {
            Some(locked) => locked,
            None if task.signal_pending.get() => return Err(Error::Interrupted),
            None => dev.cmdbuf_mutex.lock(task),
        };

        let mut sw = SwContext::new(self, task);
        if let Some(cid) = dx_context {
            sw.tie_context(cid)?;
        }
        for command in commands {
            sw.check(command)?;
        }

        let mut validation = std::mem::take(&mut sw.validation);
        let mut prepared = validation.prepare(dev, task, true)?;
        if let Err(error) = self.submit(task, &sw, dx_context, commands) {
            prepared.backoff()?;
            return Err(error);
        }
        let fence = self.fence_commands();

        self.commit_bindings(task, sw);
        prepared.unreserve()?;
        prepared.fence(fence.as_ref());
        Ok(fence)
    }

    /// Tells the device what it forgot of the bindings, and the batch (`vmw_rebind_contexts`,
    /// `vmw_apply_relocations`, `vmw_execbuf_submit_cmdbuf`).
    fn submit(
        &self,
        task: &Task,
        sw: &SwContext<'_>,
        dx_context: Option<ContextId>,
        commands: &[Command],
    ) -> Result<()> {
        let _binding = self.dev.binding_mutex.lock(task);
        for node in sw.contexts.values() {
            let cid = node.context.cid()?;
            let mut bindings = node.context.bindings();
            let mut told = bindings.device.clone();
            let rebound = told.rebind(cid, &bindings.state);
            if !rebound.is_empty() {
                let header = node.context.dx.then_some(Command::DxContext { cid });
                let commands: Vec<Command> = header.into_iter().chain(rebound).collect();
                self.dev.stream().emit(&commands)?;
                bindings.device = told;
            }
        }
        let mut batch = Vec::new();
        if let Some(cid) = dx_context {
            batch.push(Command::DxContext { cid: sw.cid(cid)? });
        }
        for command in commands {
            batch.push(relocate(sw, *command)?);
        }
        self.dev.stream().emit(&batch)
    }

    /// A fence behind the batch, or a wait for all of it (`vmw_execbuf_fence_commands`).
    fn fence_commands(&self) -> Option<Fence> {
        let fence = self.dev.emit_fence().ok();
        if fence.is_none() {
            self.dev.wait_idle();
        }
        fence
    }

    /// The batch is on its way: what it bound is bound (`vmw_execbuf_bindings_commit`).
    fn commit_bindings(&self, task: &Task, sw: SwContext<'_>) {
        let _binding = self.dev.binding_mutex.lock(task);
        for node in sw.contexts.into_values() {
            let mut bindings = node.context.bindings();
            bindings.device.commit(&node.staged);
            bindings.state = node.staged;
        }
    }
}

impl SwContext<'_> {
    fn cid(&self, handle: ContextId) -> Result<ContextId> {
        self.contexts.get(&handle).ok_or(Error::Invalid)?.context.cid()
    }
}

/// Puts the device's numbers in the place of handles. All that the batch names has one by now.
fn relocate(sw: &SwContext<'_>, mut command: Command) -> Result<Command> {
    for sid in command.surfaces().filter(|sid| **sid != SurfaceId::INVALID) {
        *sid = sw.surfaces.get(sid).and_then(|surface| surface.sid()).ok_or(Error::Invalid)?;
    }
    for mob in command.mobs().filter(|mob| **mob != MobId::INVALID) {
        *mob = mob_id(sw.bos.get(mob).ok_or(Error::Invalid)?)?;
    }
    for cid in command.contexts() {
        *cid = sw.cid(*cid)?;
    }
    Ok(command)
}
