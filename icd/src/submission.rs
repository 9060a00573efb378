//! Batches on their way to the host.
//!
//! A batch that may write guest memory, or hold up one that does, signals a timeline of Lockstep's own, one
//! value each. What tells the application that the batch completed (its semaphores, the fence of the
//! submission) must not be seen before that value: it is signalled by a later batch of the same submission,
//! since signal operations of a queue happen in order.

#![allow(unsafe_code, reason = "reads the application's arrays")]

use std::ops::Range;

use ash::vk;

use crate::chain::{self, Chain};

/// Lockstep's timeline and the values that batches signal.
#[derive(Debug, Clone)]
pub struct Signals {
    /// The timeline of the queue.
    pub timeline: vk::Semaphore,
    /// One value a batch that needs one.
    pub seqnos: Range<u64>,
    /// Which batches do.
    pub numbered: Vec<bool>,
}

/// The batches of a `vkQueueSubmit2` with Lockstep's signals in them.
#[derive(Debug)]
pub struct Batches2<'a> {
    /// Lockstep's signals; pointed to by batches, so never grown after the first of these exists.
    signals: Vec<vk::SemaphoreSubmitInfo<'a>>,
    batches: Vec<vk::SubmitInfo2<'a>>,
}

impl<'a> Batches2<'a> {
    /// Rewrites a submission. `fenced`: it has a fence.
    pub fn new(submits: &'a [vk::SubmitInfo2<'a>], ours: &Signals, fenced: bool) -> Self {
        let stages = vk::PipelineStageFlags2::ALL_COMMANDS;
        let signal = |value| {
            vk::SemaphoreSubmitInfo::default().semaphore(ours.timeline).value(value).stage_mask(stages)
        };
        let signals: Vec<_> = ours.seqnos.clone().map(signal).collect();
        let mut batches = Vec::with_capacity(submits.len() * 2 + 1);
        let mut next = signals.iter();
        let mut last_is_ours = false;
        for (submit, numbered) in submits.iter().zip(&ours.numbered) {
            last_is_ours = false;
            if !numbered {
                batches.push(*submit);
                continue;
            }
            let Some(signal) = next.next() else { unreachable!("a value for each") };
            batches.push(vk::SubmitInfo2 {
                signal_semaphore_info_count: 1,
                p_signal_semaphore_infos: std::ptr::from_ref(signal),
                ..*submit
            });
            last_is_ours = true;
            if submit.signal_semaphore_info_count > 0 {
                batches.push(vk::SubmitInfo2 {
                    flags: submit.flags,
                    signal_semaphore_info_count: submit.signal_semaphore_info_count,
                    p_signal_semaphore_infos: submit.p_signal_semaphore_infos,
                    ..Default::default()
                });
                last_is_ours = false;
            }
        }
        if fenced && last_is_ours {
            batches.push(vk::SubmitInfo2::default());
        }
        Self { signals, batches }
    }

    /// The batches, valid while `self` lives.
    pub fn as_slice(&self) -> &[vk::SubmitInfo2<'a>] {
        debug_assert!(self.signals.len() <= self.batches.len());
        &self.batches
    }
}

/// What one batch of a `vkQueueSubmit` on its way points to.
#[derive(Debug, Default)]
struct Batch<'a> {
    chain: Chain,
    timeline: vk::TimelineSemaphoreSubmitInfo<'a>,
    value: u64,
}

/// The batches of a `vkQueueSubmit` with Lockstep's signals in them.
#[derive(Debug)]
pub struct Batches<'a> {
    timeline: vk::Semaphore,
    #[expect(clippy::vec_box, reason = "their parts point to each other and must not move")]
    owned: Vec<Box<Batch<'a>>>,
    infos: Vec<vk::SubmitInfo<'a>>,
}

impl<'a> Batches<'a> {
    /// Rewrites a submission, as above. Boxed, since the batches point to the timeline in it.
    ///
    /// # Safety
    /// The chains of `submits` are valid for `'a`.
    pub unsafe fn new(submits: &'a [vk::SubmitInfo<'a>], ours: &Signals, fenced: bool) -> Box<Self> {
        let mut this = Box::new(Self { timeline: ours.timeline, owned: Vec::new(), infos: Vec::new() });
        let mut values = ours.seqnos.clone();
        let mut last_is_ours = false;
        for (submit, numbered) in submits.iter().zip(&ours.numbered) {
            last_is_ours = false;
            if !numbered {
                this.infos.push(*submit);
                continue;
            }
            let Some(value) = values.next() else { unreachable!("a value for each") };
            // SAFETY: the caller's.
            let timeline = unsafe { chain::find::<vk::TimelineSemaphoreSubmitInfo<'_>>(submit.p_next) };
            // SAFETY: the caller's.
            let copy = unsafe { Chain::of_submit_info(submit.p_next) };
            this.push_commands(submit, timeline, copy, value);
            last_is_ours = true;
            if submit.signal_semaphore_count > 0 {
                this.push_signals(submit, timeline);
                last_is_ours = false;
            }
        }
        if fenced && last_is_ours {
            this.infos.push(vk::SubmitInfo::default());
        }
        this
    }

    /// The batch's waits and commands, signalling our value.
    fn push_commands(
        &mut self,
        submit: &vk::SubmitInfo<'a>,
        timeline: Option<&vk::TimelineSemaphoreSubmitInfo<'a>>,
        chain: Chain,
        value: u64,
    ) {
        // Pointed into only where it stays.
        self.owned.push(Box::new(Batch { chain, value, ..Default::default() }));
        let Some(batch) = self.owned.last_mut() else { unreachable!("pushed above") };
        if let Some(timeline) = timeline {
            batch.timeline.wait_semaphore_value_count = timeline.wait_semaphore_value_count;
            batch.timeline.p_wait_semaphore_values = timeline.p_wait_semaphore_values;
        }
        batch.timeline.signal_semaphore_value_count = 1;
        batch.timeline.p_signal_semaphore_values = &raw const batch.value;
        batch.timeline.p_next = batch.chain.head();
        let info = vk::SubmitInfo {
            p_next: (&raw const batch.timeline).cast(),
            signal_semaphore_count: 1,
            p_signal_semaphores: &raw const self.timeline,
            ..*submit
        };
        self.infos.push(info);
    }

    /// The batch's own signals.
    fn push_signals(
        &mut self,
        submit: &vk::SubmitInfo<'a>,
        timeline: Option<&vk::TimelineSemaphoreSubmitInfo<'a>>,
    ) {
        let mut info = vk::SubmitInfo {
            signal_semaphore_count: submit.signal_semaphore_count,
            p_signal_semaphores: submit.p_signal_semaphores,
            ..Default::default()
        };
        if let Some(timeline) = timeline {
            self.owned.push(Box::default());
            let Some(batch) = self.owned.last_mut() else { unreachable!("pushed above") };
            batch.timeline.signal_semaphore_value_count = timeline.signal_semaphore_value_count;
            batch.timeline.p_signal_semaphore_values = timeline.p_signal_semaphore_values;
            info.p_next = (&raw const batch.timeline).cast();
        }
        self.infos.push(info);
    }

    /// The batches, valid while `self` lives.
    pub fn as_slice(&self) -> &[vk::SubmitInfo<'a>] {
        &self.infos
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ash::vk::Handle;

    fn ours(seqnos: Range<u64>, numbered: &[bool]) -> Signals {
        Signals { timeline: vk::Semaphore::from_raw(0x77), seqnos, numbered: numbered.to_vec() }
    }

    #[test]
    fn what_the_application_waits_for_is_signalled_after_our_value() {
        let (wait, signal) = ([vk::Semaphore::from_raw(1)], [vk::Semaphore::from_raw(2)]);
        let commands = [vk::CommandBuffer::from_raw(3)];
        let mut values = vk::TimelineSemaphoreSubmitInfo::default()
            .wait_semaphore_values(&[40])
            .signal_semaphore_values(&[41]);
        let submits = [
            vk::SubmitInfo::default()
                .wait_semaphores(&wait)
                .wait_dst_stage_mask(&[vk::PipelineStageFlags::TRANSFER])
                .command_buffers(&commands)
                .signal_semaphores(&signal)
                .push_next(&mut values),
            vk::SubmitInfo::default().command_buffers(&commands),
        ];
        // SAFETY: valid chains.
        let batches = unsafe { Batches::new(&submits, &ours(8..10, &[true; 2]), true) };
        let [first, second, third, fence] = batches.as_slice() else { panic!("four batches") };
        let values = |info: &vk::SubmitInfo<'_>| {
            // SAFETY: chains that `batches` keeps.
            let timeline =
                unsafe { chain::find::<vk::TimelineSemaphoreSubmitInfo<'_>>(info.p_next) }.unwrap();
            let list = |count: u32, values: *const u64| {
                // SAFETY: valid for `count` values.
                (0..count as usize).map(|i| unsafe { *values.add(i) }).collect::<Vec<_>>()
            };
            (
                list(timeline.wait_semaphore_value_count, timeline.p_wait_semaphore_values),
                list(timeline.signal_semaphore_value_count, timeline.p_signal_semaphore_values),
            )
        };
        // SAFETY: one signal each.
        let signalled = |info: &vk::SubmitInfo<'_>| unsafe { *info.p_signal_semaphores };
        assert_eq!(values(first), (vec![40], vec![8]));
        assert_eq!(signalled(first), vk::Semaphore::from_raw(0x77));
        assert_eq!((first.wait_semaphore_count, first.command_buffer_count), (1, 1));
        assert_eq!(values(second), (vec![], vec![41]));
        assert_eq!(signalled(second), signal[0]);
        assert_eq!((second.wait_semaphore_count, second.command_buffer_count), (0, 0));
        assert_eq!(values(third), (vec![], vec![9]));
        assert_eq!((fence.command_buffer_count, fence.signal_semaphore_count), (0, 0));
    }

    #[test]
    fn a_batch_without_commands_stays_as_it_is() {
        let signal = [vk::SemaphoreSubmitInfo::default().semaphore(vk::Semaphore::from_raw(2)).value(5)];
        let submits = [vk::SubmitInfo2::default().signal_semaphore_infos(&signal)];
        let batches = Batches2::new(&submits, &ours(1..1, &[false]), true);
        assert_eq!(batches.as_slice().len(), 1);
        assert_eq!(batches.as_slice()[0].p_signal_semaphore_infos, signal.as_ptr());
    }
}
