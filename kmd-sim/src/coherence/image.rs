//! Host memory that the CPU does not see (kernel: `vmw_surface_dirty_sync` and `vmw_surface_readback`, whose
//! commands have the device copy between guest memory and its own).
//!
//! The driver keeps an *image* of such memory, which takes its place for pages: what is stored into it is
//! sent with the next submission, and what a batch may have written of mapped objects is brought back behind
//! it and put into the image before it is pulled. So the image is what the CPU last knew of host memory.
//!
//! What comes back was read at some moment after its batch, and before or after updates that were sent later.
//! The bytes of those are the CPU's, and stay as they are in the image. Two batches of different contexts
//! that may write the same bytes are read back in the order of their submission, and received in that order.

use std::collections::VecDeque;
use std::ops::Range;

use rangemap::RangeSet;

use super::bo::BoId;
use super::fence::{FenceQueue, Passed};
use super::state::State;
use super::write_set::WriteSet;
use crate::addr::{PAGE_SIZE, intersection, pages_of};
use crate::error::Result;
use crate::svga::HostDevice;
use crate::sys::pages::to_usize;

/// What is to be known of an image.
#[derive(Debug, Default)]
pub struct Image {
    /// Bytes stored into it that were not sent.
    unsent: RangeSet<u64>,
    /// Bytes that were sent, by the number of the submission: those of the last one, and all that are later
    /// than some batch in flight.
    sent: VecDeque<(u64, RangeSet<u64>)>,
}

impl Image {
    /// Bytes were stored into it.
    pub(super) fn stored(&mut self, bytes: Range<u64>) {
        self.unsent.insert(bytes);
    }

    /// The parts of `bytes` that no submission after number `order` sent, and none has yet to send.
    fn received(&self, bytes: &Range<u64>, order: u64) -> Vec<Range<u64>> {
        let mut left: RangeSet<u64> = std::iter::once(bytes.clone()).collect();
        #[cfg(lockstep_mutation)]
        let order = if crate::mutation::is_named("image-newer") { u64::MAX } else { order };
        let later = self.sent.iter().filter(|(sent, _)| *sent > order).map(|(_, ranges)| ranges);
        for newer in later.chain([&self.unsent]) {
            newer.overlapping(bytes).for_each(|range| left.remove(range.clone()));
        }
        left.into_iter().collect()
    }
}

/// Bytes of an object that are brought back behind a batch.
pub type Part = (BoId, Range<u64>);

impl<H: HostDevice> State<H> {
    /// Has everything stored into images sent, before the batches that are being prepared. What the host does
    /// not take is sent with the next ones.
    pub(super) fn send(&mut self, host: &H) -> Result<()> {
        self.order += 1;
        let (order, oldest) = (self.order, self.fences.iter().filter_map(FenceQueue::oldest).min());
        for id in std::mem::take(&mut self.sent) {
            // Nobody in flight is older than what this forgets, and the last submission was accepted.
            if let Some(image) = self.image(id) {
                image.sent.retain(|(order, _)| oldest.is_some_and(|oldest| *order > oldest));
                if !image.sent.is_empty() {
                    self.sent.insert(id);
                }
            }
        }
        while let Some(id) = self.unsent.pop_first() {
            let Some(bo) = self.bos.get_mut(&id) else { continue };
            let Some(mapping) = &mut bo.mapping else { continue };
            let Some(image) = &mut mapping.image else { continue };
            let updates = std::mem::take(&mut image.unsent);
            let mut result = Ok(());
            for bytes in updates.iter() {
                result = result.and_then(|()| host.update(bo.memory, bytes, &mapping.host));
            }
            image.sent.push_back((order, updates));
            self.sent.insert(id);
            if result.is_err() {
                self.unsend();
                return result;
            }
        }
        Ok(())
    }

    /// What was sent last did not reach the host: it is sent again.
    pub(super) fn unsend(&mut self) {
        let order = self.order;
        for id in self.sent.clone() {
            let Some(image) = self.image(id) else { continue };
            for (_, updates) in image.sent.iter().filter(|(sent, _)| *sent == order) {
                image.unsent.extend(updates.iter().cloned());
            }
            image.sent.retain(|(sent, _)| *sent != order);
            self.unsent.insert(id);
        }
    }

    /// What is to be brought back behind a batch with this write set: bytes of mapped objects that have an
    /// image.
    pub(super) fn parts(&self, set: &WriteSet) -> Vec<Part> {
        let has_image = |id: &BoId| {
            let bo = self.bos.get(id).filter(|bo| bo.mapped);
            bo.is_some_and(|bo| bo.mapping.as_ref().is_some_and(|mapping| mapping.image.is_some()))
        };
        let objects = set.objects().filter(|(id, _)| has_image(id));
        objects.flat_map(|(id, pieces)| pieces.iter().map(move |piece| (id, piece.bytes.clone()))).collect()
    }

    /// Has parts brought back behind a batch.
    pub(super) fn bring_back(
        &self,
        host: &H,
        (timeline, seqno): (H::Timeline, u64),
        parts: &[Part],
        after: &[(H::Timeline, u64)],
    ) -> Result<()> {
        let memory = |(id, bytes): &Part| Some((self.bos.get(id)?.memory, bytes.clone()));
        let parts: Vec<_> = parts.iter().filter_map(memory).collect();
        if parts.is_empty() { Ok(()) } else { host.readback(timeline, seqno, &parts, after) }
    }

    /// Puts what was brought back of completed batches into the images.
    pub(super) fn receive(&mut self, host: &H, mut passed: Vec<Passed<H::Timeline>>) {
        passed.sort_by_key(|passed| passed.order);
        for Passed { timeline, seqno, order, parts } in passed {
            let mut parts = parts.iter();
            host.received(timeline, seqno, &mut |from| {
                let Some((id, bytes)) = parts.next() else { return };
                let Some(mapping) = self.bos.get_mut(id).and_then(|bo| bo.mapping.as_mut()) else { return };
                let Some(image) = &mapping.image else { return };
                for part in image.received(bytes, order) {
                    let part = intersection(&part, bytes);
                    let (at, len) = (to_usize(part.start), to_usize(part.end - part.start));
                    mapping.host.copy_span(at, from, to_usize(part.start - bytes.start), len);
                }
            });
        }
    }

    /// The bytes of an object that must be put into its image before it is mapped: the device may have
    /// written them since they were last known.
    pub(crate) fn missing(&self, id: BoId) -> Vec<Range<u64>> {
        let Some(bo) = self.bos.get(&id).filter(|bo| !bo.mapped) else { return Vec::new() };
        let Some(mapping) = &bo.mapping else {
            // Nothing is known of the neighbours either: such a page begins as it is in host memory.
            let pages = bo.stale.iter().map(|bytes| {
                let pages = pages_of(bytes);
                pages.start * PAGE_SIZE..(pages.end * PAGE_SIZE).min(bo.tbo.size())
            });
            return pages.collect::<RangeSet<u64>>().into_iter().collect();
        };
        let mut missing = bo.stale.clone();
        let unsent = mapping.image.iter().flat_map(|image| image.unsent.iter());
        unsent.for_each(|range| missing.remove(range.clone()));
        missing.into_iter().collect()
    }

    fn image(&mut self, id: BoId) -> Option<&mut Image> {
        self.bos.get_mut(&id)?.mapping.as_mut()?.image.as_mut()
    }
}
