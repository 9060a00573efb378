//! Comparing bytes, frame by frame, and keeping the score.

use crate::frame::{FrameData, name_of_result};
use crate::say;

/// How many mismatches are described; all are counted.
const DESCRIBED: u64 = 8;

/// The score of one playing scene.
#[derive(Debug)]
pub(crate) struct Checks {
    label: &'static str,
    frames: u32,
    mismatches: u64,
    changed: u64,
    written: u64,
    read: u64,
}

impl Checks {
    /// `label` says in messages whose frames these are.
    pub(crate) fn new(label: &'static str) -> Self {
        Self { label, frames: 0, mismatches: 0, changed: 0, written: 0, read: 0 }
    }

    /// Compares what the device answered with what it should have.
    pub(crate) fn answer(&mut self, got: &[u32], expected: &[u32], offset: u64) {
        self.compare(got, expected, offset, |word| format!("the device computed {}", name_of_result(word)));
    }

    /// Compares what lies in shared memory with what the CPU wrote there.
    pub(crate) fn kept(&mut self, got: &[u32], expected: &[u32], offset: u64) {
        self.compare(got, expected, offset, |_| "the CPU's own bytes changed".to_owned());
    }

    /// Closes a frame, and counts the bytes that the CPU changed in it.
    pub(crate) fn end_frame(&mut self, now: &FrameData, before: &FrameData) {
        self.changed += changed_bytes(now.uniforms.as_flattened(), before.uniforms.as_flattened());
        self.changed += changed_bytes(now.vertices.as_flattened(), before.vertices.as_flattened());
        self.frames += 1;
    }

    /// Adds bytes that the CPU wrote to shared memory and read from it.
    pub(crate) fn add_traffic(&mut self, (written, read): (u64, u64)) {
        self.written += written;
        self.read += read;
    }

    /// Bytes that the CPU wrote to shared memory and read from it.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.written, self.read)
    }

    /// Frames checked so far.
    pub(crate) fn frames(&self) -> u32 {
        self.frames
    }

    /// Wrong words so far.
    pub(crate) fn mismatches(&self) -> u64 {
        self.mismatches
    }

    /// Bytes that the CPU wrote with another value than before.
    pub(crate) fn changed(&self) -> u64 {
        self.changed
    }

    fn compare(&mut self, got: &[u32], expected: &[u32], offset: u64, name: impl Fn(usize) -> String) {
        if got == expected {
            return;
        }
        for (word, (got, expected)) in got.iter().zip(expected).enumerate().filter(|(_, (a, b))| a != b) {
            self.mismatches += 1;
            if self.mismatches <= DESCRIBED {
                let (label, frame, at) = (self.label, self.frames, offset + word as u64 * 4);
                let what = name(word);
                say!(
                    "WRONG BYTES: {label} frame {frame}, offset {at}: expected {expected:#010x}, got {got:#010x} ({what})"
                );
            }
        }
    }
}

/// How many bytes differ; words that had no value before count as zero before.
fn changed_bytes(now: &[u32], before: &[u32]) -> u64 {
    let before = before.iter().copied().chain(std::iter::repeat(0));
    let differing = |(now, before): (&u32, u32)| {
        u64::from((now ^ before).to_ne_bytes().iter().map(|&byte| u32::from(byte != 0)).sum::<u32>())
    };
    now.iter().zip(before).map(differing).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_not_words() {
        assert_eq!(changed_bytes(&[0x0100_0001, 7, 0xff], &[0, 7]), 3);
    }

    #[test]
    fn every_wrong_word_counts() {
        let mut checks = Checks::new("test");

        checks.answer(&[1, 2, 3], &[1, 5, 6], 64);
        checks.kept(&[1], &[1], 0);

        assert_eq!(checks.mismatches(), 2);
    }
}
