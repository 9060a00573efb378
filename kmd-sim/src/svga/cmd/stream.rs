//! The way of commands to the device (kernel: `vmwgfx_cmdbuf.c`).

use super::Command;
use crate::error::{Error, Result};

/// The space for commands between driver and device (`struct vmw_cmdbuf_man`).
///
/// Commands are committed in blocks, each all or not at all, and stay until the device takes them.
#[derive(Debug)]
pub struct CommandStream {
    commands: Vec<Command>,
    used: u64,
    capacity: u64,
}

impl Default for CommandStream {
    fn default() -> Self {
        Self { commands: Vec::new(), used: 0, capacity: u64::MAX }
    }
}

impl CommandStream {
    /// An empty stream without limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the bytes of commands that wait for the device; what waits already stays.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity = bytes;
    }

    /// Space for `bytes` bytes of commands (`VMW_CMD_RESERVE`), or [`Error::NoMemory`].
    pub fn reserve(&mut self, bytes: u64) -> Result<Reservation<'_>> {
        if bytes > self.capacity.saturating_sub(self.used) {
            return Err(Error::NoMemory);
        }
        Ok(Reservation { stream: self, commands: Vec::new(), free: bytes })
    }

    /// Commits `commands` as one block: all of them, or with [`Error::NoMemory`] none.
    pub fn emit(&mut self, commands: &[Command]) -> Result<()> {
        let mut block = self.reserve(commands.iter().map(Command::bytes).sum())?;
        for command in commands {
            block.push(*command);
        }
        block.commit();
        Ok(())
    }

    /// What is committed and waits for the device.
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// The same, as the device sees it.
    pub fn bytes(&self) -> Vec<u8> {
        let mut words = Vec::new();
        for command in &self.commands {
            command.encode(&mut words);
        }
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }

    /// Hands what waits to the device; its space is free again.
    pub fn take(&mut self) -> Vec<Command> {
        self.used = 0;
        std::mem::take(&mut self.commands)
    }
}

/// Reserved space. Nothing of it is visible before it is committed; dropped, it is given back.
#[derive(Debug)]
pub struct Reservation<'a> {
    stream: &'a mut CommandStream,
    commands: Vec<Command>,
    free: u64,
}

impl Reservation<'_> {
    /// Writes a command behind those that are there.
    ///
    /// # Panics
    /// If it is longer than what is left: whoever reserves knows what for.
    pub fn push(&mut self, command: Command) {
        self.free = self.free.checked_sub(command.bytes()).expect("more commands than were reserved");
        self.commands.push(command);
    }

    /// Makes the commands visible (`vmw_cmd_commit`). Space that was not written is given back.
    pub fn commit(self) {
        self.stream.used += self.commands.iter().map(Command::bytes).sum::<u64>();
        self.stream.commands.extend(self.commands);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FENCE: Command = Command::Fence { seqno: 5 };

    #[test]
    fn nothing_is_visible_before_it_is_committed() {
        let mut stream = CommandStream::new();

        let mut dropped = stream.reserve(12).unwrap();
        dropped.push(FENCE);
        drop(dropped);
        assert_eq!(stream.commands(), []);

        let mut committed = stream.reserve(12).unwrap();
        committed.push(FENCE);
        committed.commit();
        assert_eq!(stream.commands(), [FENCE]);
        assert_eq!(stream.bytes(), [30, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0]);
    }

    #[test]
    fn a_block_that_does_not_fit_leaves_nothing_behind() {
        let mut stream = CommandStream::new();
        stream.set_capacity(30);

        assert_eq!(stream.emit(&[FENCE, FENCE]), Ok(()));
        assert_eq!(stream.emit(&[FENCE]), Err(Error::NoMemory));
        assert_eq!(stream.take(), [FENCE, FENCE]);
        assert_eq!(stream.emit(&[FENCE]), Ok(()));
        assert_eq!(stream.commands(), [FENCE]);
    }
}
