//! The bytes of buffers that the commands of one recording write.
//!
//! Bytes are kept as they come, as long as they are few. A recording with many scattered ones is told in
//! blocks of 4 KiB instead: what it costs then no longer grows with the number of commands.

use ash::vk;
use rustc_hash::FxHashMap;

/// Ranges that are kept one by one.
const FEW: usize = 4096;
/// Bytes of a block, as a power of two.
const BLOCK: u32 = 12;

/// Bytes of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferBytes {
    /// The buffer.
    pub buffer: vk::Buffer,
    /// The first byte.
    pub offset: u64,
    /// How many; `VK_WHOLE_SIZE`: to the end.
    pub size: u64,
}

/// Bytes of buffers.
#[derive(Debug, Default)]
pub struct BufferWrites {
    exact: Vec<BufferBytes>,
    /// Bitmaps of blocks; none while the ranges are few.
    blocks: Vec<(vk::Buffer, Vec<u64>)>,
    /// Which bitmap is a buffer's.
    places: FxHashMap<vk::Buffer, usize>,
    /// Which one was last written: the next command often goes to the same buffer.
    last: usize,
    /// Bitmaps to be used again.
    spare: Vec<Vec<u64>>,
}

impl BufferWrites {
    /// Forgets all, but not how much room was needed.
    pub fn clear(&mut self) {
        self.exact.clear();
        self.spare.extend(self.blocks.drain(..).map(|(_, mut words)| {
            words.clear();
            words
        }));
        self.places.clear();
        self.last = 0;
    }

    /// Adds bytes.
    #[inline]
    pub fn add(&mut self, new: BufferBytes) {
        if let Some(last) = self.exact.last_mut()
            && last.buffer == new.buffer
            && last.size != vk::WHOLE_SIZE
            && new.size != vk::WHOLE_SIZE
        {
            // The same bytes, or those right behind.
            if last.offset == new.offset && last.size >= new.size {
                return;
            }
            if last.offset + last.size == new.offset {
                last.size += new.size;
                return;
            }
        }
        if self.exact.len() < FEW || new.size == vk::WHOLE_SIZE {
            self.exact.push(new);
        } else {
            self.add_blocks(new);
        }
    }

    fn add_blocks(&mut self, new: BufferBytes) {
        if new.size == 0 {
            return;
        }
        if self.blocks.get(self.last).is_none_or(|(buffer, _)| *buffer != new.buffer) {
            self.last = *self.places.entry(new.buffer).or_insert_with(|| {
                self.blocks.push((new.buffer, self.spare.pop().unwrap_or_default()));
                self.blocks.len() - 1
            });
        }
        let words = &mut self.blocks[self.last].1;
        let (first, last) = (new.offset >> BLOCK, (new.offset + (new.size - 1)) >> BLOCK);
        for block in first..=last {
            let (word, bit) = (usize::try_from(block / 64).unwrap_or(usize::MAX), block % 64);
            if word >= words.len() {
                words.resize(word + 1, 0);
            }
            words[word] |= 1 << bit;
        }
    }

    /// What is known to the byte.
    pub fn exact(&self) -> &[BufferBytes] {
        &self.exact
    }

    /// Calls `op` with what is known by blocks only.
    pub fn for_each_within(&self, mut op: impl FnMut(BufferBytes)) {
        for (buffer, words) in &self.blocks {
            let buffer = *buffer;
            let is_set =
                |block: usize| words.get(block / 64).is_some_and(|word| word >> (block % 64) & 1 == 1);
            let mut block = 0;
            while block < words.len() * 64 {
                if words[block / 64] == 0 {
                    block = (block / 64 + 1) * 64;
                    continue;
                }
                let start = block;
                while is_set(block) {
                    block += 1;
                }
                if block > start {
                    let size = ((block - start) as u64) << BLOCK;
                    op(BufferBytes { buffer, offset: (start as u64) << BLOCK, size });
                }
                block += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ash::vk::Handle;

    fn within(writes: &BufferWrites) -> Vec<BufferBytes> {
        let mut found = Vec::new();
        writes.for_each_within(|bytes| found.push(bytes));
        found
    }

    fn bytes(offset: u64, size: u64) -> BufferBytes {
        BufferBytes { buffer: vk::Buffer::from_raw(7), offset, size }
    }

    #[test]
    fn what_follows_or_repeats_the_last_bytes_is_one_range() {
        let mut writes = BufferWrites::default();
        for (offset, size) in [(0, 16), (16, 16), (0, 32), (0, 8), (100, 4)] {
            writes.add(bytes(offset, size));
        }
        assert_eq!(writes.exact(), [bytes(0, 32), bytes(100, 4)]);
        assert_eq!(within(&writes), []);
    }

    #[test]
    fn what_is_too_much_is_told_in_blocks() {
        let mut writes = BufferWrites::default();
        for index in 0..FEW as u64 {
            writes.add(bytes(index * 32, 4));
        }
        for (offset, size) in [(4095, 2), (70 * 4096 + 1, 4096), (300 * 4096, 1), (5, 0)] {
            writes.add(bytes(offset, size));
        }
        assert_eq!(writes.exact().len(), FEW);
        assert_eq!(within(&writes), [bytes(0, 8192), bytes(70 * 4096, 8192), bytes(300 * 4096, 4096)]);
        writes.clear();
        assert_eq!((writes.exact().len(), within(&writes).len()), (0, 0));
    }
}
