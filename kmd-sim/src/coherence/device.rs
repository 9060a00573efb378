//! Submission and completion: when bytes travel (kernel: `vmwgfx_execbuf.c`).
//!
//! * **Flush** (CPU → device), at every point where host writes become visible to the device: scan, then
//!   copy, under the reservation. Who wants to submit takes the reservation for a flush of its own first, and
//!   so never overtakes a flush that consumed its dirty bits.
//! * **Pull** (device → CPU), at every call that reports completion, before it returns: all completed
//!   batches' write sets, under the reservation. Who learns of completion while another thread pulls finds
//!   the fence not retired and waits for the reservation.
//!
//! Nothing here waits for the device, and the reservation is never held across a wait for it.

use std::ops::{Deref, DerefMut, Range};

use super::fence::{Context, ContextId, Fence, FenceQueue, Taken};
use super::state::{State, lock};
use super::write_set::Writes;
use crate::error::{Error, Result};
use crate::mmu::tracker::{Readback, TrackerChoice};
use crate::svga::HostDevice;
use crate::sync::machine::AtomicBool;
use crate::sync::{Arc, Mutex, MutexGuard, Ordering, PoisonError, RwLock, RwLockReadGuard, Weak};
use crate::sys::pages::write_fault;
use crate::sys::signals::Blocked;

/// A context with batches that have completed, its place, and how far it has come.
type PassedContext<H> = (usize, Arc<Context<<H as HostDevice>::Timeline>>, u64);

/// A device: the reservation and what is read without it.
#[derive(Debug)]
pub struct Device<H: HostDevice> {
    pub(crate) host: H,
    contexts: RwLock<Vec<Arc<Context<H::Timeline>>>>,
    state: Arc<Mutex<State<H>>>,
    /// A thread that touches what it has mapped may have to wait for the reservation.
    serves_faults: AtomicBool,
    /// There is something to open.
    opens: AtomicBool,
}

/// The reservation, held.
///
/// Where touches of mapped memory wait for it, no signal handler of the application interrupts who has it: it
/// would wait for itself.
#[derive(Debug)]
pub(crate) struct Reservation<'a, H: HostDevice> {
    /// Given back before handlers run.
    state: MutexGuard<'a, State<H>>,
    _signals: Option<Blocked>,
}

impl<H: HostDevice> Deref for Reservation<'_, H> {
    type Target = State<H>;

    fn deref(&self) -> &State<H> {
        &self.state
    }
}

impl<H: HostDevice> DerefMut for Reservation<'_, H> {
    fn deref_mut(&mut self) -> &mut State<H> {
        &mut self.state
    }
}

impl<H: HostDevice> Drop for Device<H> {
    fn drop(&mut self) {
        // The thread may be waiting for the reservation.
        let server = self.reserve().server.take();
        drop(server);
    }
}

impl<H: HostDevice> Device<H> {
    /// A device that reserves `arena_bytes` bytes of address space when something is first mapped.
    pub(crate) fn with_arena(host: H, arena_bytes: u64, tracker: TrackerChoice, readback: Readback) -> Self {
        let state = |this: &_| Mutex::new(State::new(arena_bytes, tracker, readback, Weak::clone(this)));
        Self {
            host,
            contexts: RwLock::new(Vec::new()),
            state: Arc::new_cyclic(state),
            serves_faults: AtomicBool::new(false),
            opens: AtomicBool::new(false),
        }
    }

    /// Takes the reservation.
    pub(crate) fn reserve(&self) -> Reservation<'_, H> {
        loop {
            let signals = self.serves_faults().then(Blocked::begin);
            let state = lock(&self.state);
            if signals.is_some() || !state.serves_faults() {
                return Reservation { state, _signals: signals };
            }
            // Since the first map. That left nothing behind, so it needed no blocked signals itself.
            self.serves_faults.store(true, Ordering::Relaxed);
        }
    }

    /// Whether touches wait for the reservation. Nothing was left behind before it is known.
    pub(crate) fn serves_faults(&self) -> bool {
        self.serves_faults.load(Ordering::Relaxed)
    }

    /// Takes the reservation if nobody has it.
    pub(crate) fn try_reserve(&self) -> Option<Reservation<'_, H>> {
        let signals = Blocked::begin();
        Some(Reservation { state: self.state.try_lock().ok()?, _signals: Some(signals) })
    }

    /// Adds a context that counts on `timeline`, which stands at zero.
    pub fn context_create(&self, timeline: H::Timeline) -> ContextId {
        let mut state = self.reserve();
        let mut contexts = self.contexts.write().unwrap_or_else(PoisonError::into_inner);
        contexts.push(Arc::new(Context::new(timeline)));
        state.fences.push(FenceQueue::default());
        ContextId(contexts.len() - 1)
    }

    /// Makes every CPU write that happened before visible to the device: for the points where the device
    /// goes on without a submission.
    pub fn flush(&self) -> Result<()> {
        self.flush_reserved(&mut self.reserve())
    }

    /// Flushes, and notes whether there is something to open then.
    fn flush_reserved(&self, state: &mut State<H>) -> Result<()> {
        state.flush()?;
        self.opens.store(!state.opens.is_empty(), Ordering::Relaxed);
        Ok(())
    }

    /// Opens what the CPU is about to write, so that it need not fault page by page. To be called when the
    /// device has been given its work, and without the reservation: where touches are served, those made here
    /// are, too.
    ///
    /// What was scanned and is open is reported by the next scan.
    pub fn open_due(&self) {
        if self.opens.swap(false, Ordering::Relaxed) {
            let left = self.reserve().open_due();
            left.into_iter().for_each(write_fault);
        }
    }

    /// Prepares the submission of batches with commands on `context`: flushes, and gives each batch a
    /// sequence number that it must signal when its commands have completed. `None` when nothing they may
    /// write concerns the CPU: then there is nothing to signal.
    pub fn execbuf(&self, context: ContextId, batches: &[Writes]) -> Result<Option<Range<u64>>> {
        let mut state = self.reserve();
        self.flush_reserved(&mut state)?;
        state.stats.batches += batches.len() as u64;
        let sets: Vec<_> = batches.iter().map(|writes| state.write_set(writes)).collect();
        if !batches.iter().zip(&sets).any(|(writes, set)| Fence::is_needed(set, writes)) {
            state.send(&self.host)?;
            return Ok(None);
        }
        let seqnos = self.context(context).submit(batches.len() as u64);
        // Who runs behind a batch that waits for the CPU waits for it, too.
        let mut gated = state.fences.iter().any(FenceQueue::is_gated);
        for ((writes, set), seqno) in batches.iter().zip(&sets).zip(seqnos.clone()) {
            gated |= writes.gated;
            if Fence::is_needed(set, writes) {
                let set = state.validate(set, gated);
                let (order, parts) = (state.order + 1, state.parts(&set));
                state.fences[context.0].push(Fence::new(seqno, set, writes, order, parts));
            }
        }
        let sent = state.send(&self.host);
        let result = sent.and_then(|()| self.bring_back(&state, context, seqnos.clone()));
        if let Err(error) = result {
            state.unsend();
            state.take_back(context, &seqnos);
            return Err(error);
        }
        Ok(Some(seqnos))
    }

    /// Has brought back what the CPU can see of what batches may write, each behind those of other contexts
    /// that may write the same.
    fn bring_back(&self, state: &State<H>, context: ContextId, seqnos: Range<u64>) -> Result<()> {
        let contexts = self.contexts();
        let timeline = contexts[context.0].timeline;
        let fences = &state.fences;
        for seqno in seqnos {
            let parts = fences[context.0].parts(seqno);
            if parts.is_empty() {
                continue;
            }
            let others = fences.iter().zip(contexts.iter()).enumerate().filter(|(at, _)| *at != context.0);
            let last = others.filter_map(|(_, (fences, other))| {
                fences.last_overlapping(parts).map(|seqno| (other.timeline, seqno))
            });
            state.bring_back(&self.host, (timeline, seqno), parts, &last.collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Takes back what [`Self::execbuf`] prepared: the device refused the batches, and runs none of them. The
    /// CPU may write again what they were to write. What was to be sent with them is sent with the next.
    pub fn revoke(&self, context: ContextId, seqnos: &Range<u64>) {
        let mut state = self.reserve();
        state.unsend();
        state.take_back(context, seqnos);
    }

    /// Makes the device writes of all completed batches visible to the CPU. To be called whenever the
    /// application is about to be told that something completed. Fails if something that is brought back may
    /// have completed and the host cannot tell.
    pub fn retire_completed(&self) -> Result<()> {
        #[cfg(lockstep_mutation)]
        if crate::mutation::leaves_out() {
            return Ok(());
        }
        // Asked before the reservation is taken: what the application was told of has passed by now, and the
        // host is left alone under it. Contexts are only ever added.
        let (mut passed, mut unknown) = self.passed();
        // What completed is received in the order of submission: nothing that another batch waited for may be
        // missing. Counters only grow, so two looks that agree were true at one moment.
        while !passed.is_empty() && self.contexts().len() > 1 {
            let (again, also_unknown) = self.passed();
            unknown = unknown.or(also_unknown);
            let agree = std::mem::replace(&mut passed, again);
            if agree.iter().map(|(_, _, seqno)| seqno).eq(passed.iter().map(|(_, _, seqno)| seqno)) {
                break;
            }
        }
        let mut result = Ok(());
        if let Some((context, error)) = unknown {
            // How far it has got can be seen all the same, but for what is brought back.
            let mut state = self.reserve();
            state.pull_in_flight();
            if state.fences[context.0].brings_back() {
                result = Err(error);
            }
        }
        if passed.is_empty() {
            return result;
        }
        let mut state = self.reserve();
        let (mut taken, mut back) = (Taken::default(), Vec::new());
        for (index, context, seqno) in &passed {
            state.fences[*index].take_passed(*seqno, &mut taken);
            back.extend(taken.back(context.timeline));
        }
        state.receive(&self.host, back);
        state.pull(&taken.sets);
        for (_, context, seqno) in passed {
            context.retire(seqno);
        }
        taken.retire();
        result
    }

    /// Contexts with batches that have completed and were not retired, and how far each has come; and one of
    /// which that cannot be told, and why.
    fn passed(&self) -> (Vec<PassedContext<H>>, Option<(ContextId, Error)>) {
        let (mut passed, mut unknown) = (Vec::new(), None);
        for (index, context) in self.contexts().iter().enumerate() {
            let retired = context.retired();
            if context.submitted() > retired {
                // A lost device has no sequence number, but what it had written when a fence was signalled
                // counts.
                let seqno = self.host.seqno(context.timeline);
                if let Err(error) = seqno {
                    unknown = Some((ContextId(index), error));
                }
                let seqno = seqno.unwrap_or(0);
                #[cfg(lockstep_mutation)]
                let seqno = if crate::mutation::is_named("pull-early") { context.submitted() } else { seqno };
                if seqno > retired {
                    passed.push((index, Arc::clone(context), seqno));
                }
            }
        }
        (passed, unknown)
    }

    /// Makes the device writes of all batches visible as far as they have got, for the reports that come
    /// from the middle of a batch: events and query results.
    pub fn pull_in_flight(&self) {
        #[cfg(lockstep_mutation)]
        if crate::mutation::leaves_out() {
            return;
        }
        // What the host cannot tell of is looked at below.
        let _ = self.retire_completed();
        if self.contexts().iter().all(|context| context.retired() >= context.submitted()) {
            return;
        }
        self.reserve().pull_in_flight();
    }

    pub(super) fn context(&self, id: ContextId) -> Arc<Context<H::Timeline>> {
        Arc::clone(&self.contexts()[id.0])
    }

    fn contexts(&self) -> RwLockReadGuard<'_, Vec<Arc<Context<H::Timeline>>>> {
        self.contexts.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H: HostDevice> State<H> {
    /// Takes out the fences of batches that will not run.
    fn take_back(&mut self, context: ContextId, seqnos: &Range<u64>) {
        let taken = self.fences[context.0].take(seqnos);
        self.pull(&taken.sets);
        taken.retire();
    }
}
