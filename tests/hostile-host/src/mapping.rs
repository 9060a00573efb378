//! The two memories of a mapping: the *shadow*, which the CPU sees, and the device's own. A *twin* keeps what
//! both last agreed on, so that only bytes that changed are ever written.

use std::ffi::c_void;
use std::ops::Range;

use memmap2::MmapMut;

/// What is compared at once.
const CHUNK: usize = 4096;
/// Of larger memory only this much at either end is filled with garbage.
const POISONED: usize = 8 << 20;

/// Memory that others write at any time.
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    start: *mut u8,
    len: usize,
}

// SAFETY: a pointer and a length; accesses are volatile or C's.
unsafe impl Send for Bytes {}

impl Bytes {
    /// Looks at memory.
    ///
    /// # Safety
    /// It is and stays readable and writable for as long as the result is used.
    pub unsafe fn new(start: *mut c_void, len: usize) -> Self {
        Self { start: start.cast(), len }
    }

    /// Where it begins.
    pub fn start(self) -> *mut u8 {
        self.start
    }

    fn read(self, at: usize) -> u8 {
        assert!(at < self.len);
        // SAFETY: inside.
        unsafe { self.start.add(at).read_volatile() }
    }

    fn write(self, at: usize, byte: u8) {
        assert!(at < self.len);
        // SAFETY: inside.
        unsafe { self.start.add(at).write_volatile(byte) };
    }

    fn equal(self, other: Self, range: &Range<usize>) -> bool {
        assert!(range.end <= self.len && range.end <= other.len);
        // SAFETY: inside both.
        let order = unsafe {
            libc::memcmp(self.start.add(range.start).cast(), other.start.add(range.start).cast(), range.len())
        };
        order == 0
    }

    fn copy_to(self, other: Self, range: &Range<usize>) {
        assert!(range.end <= self.len && range.end <= other.len);
        // SAFETY: inside both, which are apart.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.start.add(range.start),
                other.start.add(range.start),
                range.len(),
            );
        }
    }

    fn chunks(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.len).step_by(CHUNK).map(move |start| start..(start + CHUNK).min(self.len))
    }

    /// Fills memory with garbage that is different each time, both ends of it where it is large.
    pub fn poison(self, range: Range<usize>) {
        let mut state = seed();
        let mut garbage = |range: Range<usize>| {
            for at in range {
                state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
                self.write(at, state.to_le_bytes()[7]);
            }
        };
        if range.len() <= 2 * POISONED {
            return garbage(range);
        }
        garbage(range.start..range.start + POISONED);
        garbage(range.end - POISONED..range.end);
    }
}

/// A number that is different each time.
fn seed() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0xA5A5_A5A5);
    COUNT.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed)
}

/// A mapping.
#[derive(Debug)]
pub struct Mapping {
    device: Bytes,
    shadow: Bytes,
    twin: Bytes,
    /// What is mapped of the memory.
    pub range: Range<usize>,
    _pages: [MmapMut; 2],
}

fn anonymous(len: usize) -> std::io::Result<(Bytes, MmapMut)> {
    let mut pages = MmapMut::map_anon(len)?;
    // SAFETY: the pages live as long as the mapping, beside whose pointers they are kept.
    Ok((unsafe { Bytes::new(pages.as_mut_ptr().cast(), len) }, pages))
}

impl Mapping {
    /// Shows what the device's memory holds now.
    pub fn new(device: Bytes, range: Range<usize>) -> std::io::Result<Self> {
        let (shadow, shadow_pages) = anonymous(device.len)?;
        let (twin, twin_pages) = anonymous(device.len)?;
        for chunk in device.chunks() {
            // Pages of zeroes stay untouched.
            if !device.equal(shadow, &chunk) {
                device.copy_to(twin, &chunk);
                twin.copy_to(shadow, &chunk);
            }
        }
        Ok(Self { device, shadow, twin, range, _pages: [shadow_pages, twin_pages] })
    }

    /// Shows garbage until it is invalidated.
    pub fn poison(&self) {
        self.shadow.poison(self.range.clone());
    }

    /// The address of a byte of the memory as the CPU sees it.
    pub fn address(&self, offset: usize) -> *mut c_void {
        assert!(offset <= self.shadow.len);
        // SAFETY: inside, or one past the end.
        unsafe { self.shadow.start.add(offset) }.cast()
    }

    /// Takes over what the CPU changed.
    pub fn push(&self) {
        self.merge(self.shadow, self.device);
    }

    /// Takes over what the device changed.
    pub fn pull(&self) {
        self.merge(self.device, self.shadow);
    }

    fn merge(&self, from: Bytes, to: Bytes) {
        for chunk in from.chunks().filter(|chunk| !from.equal(self.twin, chunk)) {
            for at in chunk {
                // Read once: it may be changing.
                let byte = from.read(at);
                if byte != self.twin.read(at) {
                    to.write(at, byte);
                    self.twin.write(at, byte);
                }
            }
        }
    }

    /// Writes back bytes of the CPU's.
    pub fn flush(&self, range: &Range<usize>) {
        self.shadow.copy_to(self.device, range);
    }

    /// Drops bytes of the CPU's for the device's.
    pub fn invalidate(&self, range: &Range<usize>) {
        self.device.copy_to(self.shadow, range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 3 * CHUNK;

    /// Memory of a device, all of whose bytes are 1, and a mapping of it.
    fn mapped() -> (Bytes, Mapping, MmapMut) {
        let (device, pages) = anonymous(LEN).unwrap();
        (0..LEN).for_each(|at| device.write(at, 1));
        (device, Mapping::new(device, 0..LEN).unwrap(), pages)
    }

    fn changed(bytes: Bytes) -> Vec<(usize, u8)> {
        (0..LEN).map(|at| (at, bytes.read(at))).filter(|(_, byte)| *byte != 1).collect()
    }

    #[test]
    fn a_push_moves_what_the_cpu_changed_and_a_pull_what_the_device_changed() {
        let (device, mapping, _pages) = mapped();
        mapping.shadow.write(5, 2);
        device.write(6, 3);
        assert_eq!((changed(mapping.shadow), changed(device)), (vec![(5, 2)], vec![(6, 3)]));
        mapping.push();
        assert_eq!((changed(mapping.shadow), changed(device)), (vec![(5, 2)], vec![(5, 2), (6, 3)]));
        mapping.pull();
        assert_eq!((changed(mapping.shadow), changed(device)), (vec![(5, 2), (6, 3)], vec![(5, 2), (6, 3)]));
    }

    #[test]
    fn a_byte_that_changes_back_is_a_change() {
        let (device, mapping, _pages) = mapped();
        for byte in [2, 1, 2] {
            device.write(CHUNK, byte);
            mapping.pull();
            assert_eq!(mapping.shadow.read(CHUNK), byte);
        }
    }

    #[test]
    fn flushes_and_invalidations_move_their_range_whoever_changed_it() {
        let (device, mapping, _pages) = mapped();
        [0, 255, 256].iter().for_each(|at| mapping.shadow.write(*at, 2));
        mapping.flush(&(0..256));
        assert_eq!(changed(device), [(0, 2), (255, 2)]);
        mapping.invalidate(&(256..512));
        assert_eq!(changed(mapping.shadow), [(0, 2), (255, 2)]);
    }

    #[test]
    fn garbage_is_different_each_time() {
        let (device, mapping, _pages) = mapped();
        mapping.poison();
        device.poison(0..LEN);
        assert!(!device.equal(mapping.shadow, &(0..64)));
        assert!(changed(device).len() > LEN / 2);
    }
}
