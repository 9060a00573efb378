//! The state of a device, and the life of its buffer objects (kernel: `vmwgfx_drv.c`).

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::arena::Arena;
use super::bo::{Bo, BoId, Mapping, Sync};
use super::bound::{Access, Reach, ResourceId};
use super::cold::Cold;
use super::fence::FenceQueue;
use super::forecast::Forecast;
use super::image::Image;
use super::lazy::Lazy;
use super::page::PageState;
use super::policy::{Method, Policy};
use super::server::Server;
use super::tracking::Tracking;
use super::validation::Blanket;
use super::watch::Watch;
use super::write_set::{Extent, Write, WriteSet};
use crate::addr::Pgoff;
use crate::error::{Error, Result};
use crate::mmu::tracker::{Readback, TrackerChoice};
use crate::stats::Stats;
use crate::svga::HostDevice;
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use crate::sys::memory::SharedMem;
use crate::sys::pages::to_usize;
use crate::trace::{self, Args, Event, Origin};

/// All that is protected by the device's reservation.
#[derive(Debug)]
pub struct State<H: HostDevice> {
    /// By numbers of our own: nobody can choose them to collide.
    pub(super) bos: FxHashMap<BoId, Bo<H>>,
    next_bo: u64,
    /// Address space to reserve for guest pages, in bytes.
    pub(super) arena_bytes: u64,
    /// How writes of the CPU are to be found.
    pub(super) tracker: TrackerChoice,
    /// When it is given what the device wrote.
    pub(super) policy: Policy,
    /// Serves touches of what was left behind; there once something was.
    pub(super) server: Option<Server>,
    /// The reservation this is under.
    pub(super) this: Weak<Mutex<Self>>,
    pub(super) tracking: Option<Tracking>,
    /// Guest pages of explicit objects; never tracked.
    pub(super) explicit: Option<Arena>,
    /// Which pages nobody touches, if anybody wants to know.
    pub(super) cold: Option<Cold>,
    /// Which pages will be written, if anybody wants to know.
    pub(super) forecast: Option<Forecast>,
    /// Runs of pages that the last scan found written, beside open ones.
    pub(super) besides: usize,
    /// Pages that the CPU is about to write, to be opened by
    /// [`Device::open_due`](super::device::Device::open_due).
    pub(super) opens: Vec<Range<Pgoff>>,
    /// Pages that somebody may be writing unreported.
    pub(super) watch: Watch,
    /// Objects with recorded dirty pages.
    pub(super) dirty_bos: Vec<BoId>,
    /// Coherent objects that are mapped.
    pub(super) mapped: BTreeSet<BoId>,
    /// Those of them that are mapped at a place of their own.
    pub(super) placed: BTreeSet<BoId>,
    /// What is within each [`Reach`].
    pub(super) blankets: [Blanket; 2],
    /// The write set made last: the next one is often the same.
    pub(super) last_set: Option<Arc<WriteSet>>,
    /// Fences of each context.
    pub(super) fences: Vec<FenceQueue>,
    /// Objects with bytes in their image that were not sent.
    pub(super) unsent: BTreeSet<BoId>,
    /// Objects whose image remembers what was sent.
    pub(super) sent: BTreeSet<BoId>,
    /// The number of the last submission.
    pub(super) order: u64,
    /// Who its events come from.
    pub(super) origin: Origin,
    pub(crate) stats: Stats,
}

impl<H: HostDevice> State<H> {
    pub(super) fn new(
        arena_bytes: u64,
        tracker: TrackerChoice,
        readback: Readback,
        this: Weak<Mutex<Self>>,
    ) -> Self {
        Self {
            bos: FxHashMap::default(),
            next_bo: 0,
            arena_bytes,
            tracker,
            policy: Policy(readback),
            server: None,
            this,
            tracking: None,
            explicit: None,
            cold: Some(Cold::default()),
            forecast: Some(Forecast::default()),
            besides: 0,
            opens: Vec::new(),
            watch: Watch::default(),
            dirty_bos: Vec::new(),
            mapped: BTreeSet::new(),
            placed: BTreeSet::new(),
            blankets: Default::default(),
            last_set: None,
            fences: Vec::new(),
            unsent: BTreeSet::new(),
            sent: BTreeSet::new(),
            order: 0,
            origin: Origin::new(),
            stats: Stats::default(),
        }
    }

    /// Follows certain policies from now on.
    pub(crate) fn follow(&mut self, method: Method) {
        if method == Method::Series {
            self.cold = None;
            self.forecast = None;
            self.policy.0 = Readback::Eager;
        }
    }

    /// Whether a thread may be made to wait for the reservation by touching what it has mapped.
    pub(super) fn serves_faults(&self) -> bool {
        self.tracking.as_ref().is_some_and(|tracking| tracking.faults.is_some())
    }

    /// Creates a buffer object over host memory (`vmw_bo_create`).
    pub(crate) fn bo_create(&mut self, size: u64, sync: Sync, memory: H::Memory) -> BoId {
        self.next_bo += 1;
        let id = BoId(self.next_bo);
        self.bos.insert(id, Bo::new(size, sync, memory));
        id
    }

    /// Destroys a buffer object, mapped or not (`vmw_bo_destroy`). Its host memory is the caller's.
    pub(crate) fn bo_destroy(&mut self, id: BoId) {
        let Some(mut bo) = self.bos.remove(&id) else { return };
        // Before its pages are somebody else's.
        bo.mapping.as_mut().and_then(|mapping| mapping.placed.take());
        self.placed.remove(&id);
        self.mapped.remove(&id);
        self.invalidate_reach(id);
        self.watch.forget(id);
        let Some(node) = bo.tbo.node() else { return };
        match (bo.sync, &mut self.tracking, &mut self.explicit) {
            (Sync::Coherent, Some(tracking), _) => {
                tracking.by_node.remove(&node.start);
                self.forecast.iter_mut().for_each(|forecast| forecast.forget(node));
                tracking.twins.discard(node);
                tracking.arena.free(node);
            }
            (Sync::Explicit, _, Some(arena)) => arena.free(node),
            _ => unreachable!("an object has pages of an arena that does not exist"),
        }
    }

    /// Maps a buffer object and returns its guest pages as the application sees them.
    ///
    /// The CPU sees everything the device is known to have written; what it is writing now follows when it
    /// completes. Never waits for the device.
    pub(crate) fn bo_map(&mut self, host: &H, id: BoId) -> Result<SharedMem> {
        self.place_once(host, id)?;
        if let Some(tracking) = &self.tracking {
            tracking.mmu.memory_mapped()?;
        }
        let bo = self.bos.get(&id).ok_or(Error::Invalid)?;
        let application = bo.mapping.as_ref().ok_or(Error::Invalid)?.application;
        self.enter_mapped(id);
        Ok(application)
    }

    /// Enters an object, which has guest pages, as mapped, and brings those up to date.
    pub(super) fn enter_mapped(&mut self, id: BoId) {
        let Some(bo) = self.bos.get_mut(&id) else { return };
        let (mapped, coherent) = (std::mem::replace(&mut bo.mapped, true), bo.sync == Sync::Coherent);
        self.stats.maps += 1;
        let event = if coherent { Event::Map } else { Event::MapExplicit };
        let args = Args { pages: bo.tbo.num_pages(), bytes: bo.tbo.size(), ..Args::default() };
        self.origin.instant(event, id.0, args);
        if coherent && !mapped {
            self.mapped.insert(id);
            self.unready(id);
            self.refresh(id);
        }
    }

    /// Unmaps a buffer object. What the CPU wrote stays, and reaches the device at the next flush.
    pub(crate) fn bo_unmap(&mut self, id: BoId) {
        self.take_placed(id);
        self.origin.instant(Event::Unmap, id.0, Args::default());
        if self.mapped.remove(&id) {
            let pending = self.pending(id);
            self.unready(id);
            self.bos.entry(id).and_modify(|bo| bo.stale = pending);
        }
        self.bos.entry(id).and_modify(|bo| bo.mapped = false);
    }

    /// Gives an object its guest pages, unless it has them.
    pub(super) fn place_once(&mut self, host: &H, id: BoId) -> Result<()> {
        match self.bos.get(&id).ok_or(Error::Invalid)?.mapping {
            Some(_) => Ok(()),
            None => self.place(host, id),
        }
    }

    /// Gives an object its guest pages, and them their first content.
    fn place(&mut self, host: &H, id: BoId) -> Result<()> {
        let bo = self.bos.get(&id).ok_or(Error::Invalid)?;
        let (sync, num_pages, size, memory) = (bo.sync, bo.tbo.num_pages(), bo.tbo.size(), bo.memory);
        let arena = self.arena(sync)?;
        let node = arena.alloc(num_pages)?;
        let (application, driver) = (arena.application_pages(&node), arena.driver_pages(&node));
        let is_image = host.is_image(memory);
        // The host's map last, since it cannot be taken back.
        let made = self.track(sync, &node).and_then(|dirty| Ok((dirty, host.map(memory, size)?)));
        let (dirty, host) = match made {
            Ok(made) => made,
            Err(error) => {
                self.arena(sync)?.free(&node);
                return Err(error);
            }
        };
        let image = is_image.then(Image::default);
        let tracked = if sync == Sync::Coherent { num_pages } else { 0 };
        if let (Sync::Coherent, Some(tracking)) = (sync, &mut self.tracking) {
            tracking.by_node.insert(node.start, id);
        }
        let bo = self.bos.get_mut(&id).ok_or(Error::Invalid)?;
        bo.tbo.place(node);
        bo.mapping = Some(Mapping {
            host,
            application,
            driver,
            placed: None,
            pages: vec![PageState::Fresh; to_usize(tracked)],
            dirty,
            lazy: Lazy::default(),
            image,
        });
        match sync {
            Sync::Coherent => {
                self.watch.placed();
                self.fill(id);
            }
            Sync::Explicit if bo.device_written => application.copy_from(&host, 0, to_usize(size)),
            Sync::Explicit => {}
        }
        Ok(())
    }

    /// Attaches a resource on `bytes` of an object.
    pub(crate) fn resource_attach(
        &mut self,
        id: BoId,
        resource: ResourceId,
        bytes: Range<u64>,
        access: Access,
    ) {
        let Some(bo) = self.bos.get_mut(&id) else { return };
        let bytes = bytes.start..bytes.end.min(bo.tbo.size());
        if bo.resources.attach(resource, bytes.clone(), access) {
            self.invalidate_reach(id);
        }
        if access == Access::Dirtying {
            let late = Write { bo: id, bytes, extent: Extent::Within };
            self.extend_pending(&late, Reach::Anything);
        }
    }

    /// Records that the address of a resource was given out.
    pub(crate) fn resource_give_address(&mut self, id: BoId, resource: ResourceId, offset: u64) {
        let Some(bo) = self.bos.get_mut(&id) else { return };
        if let Some(bytes) = bo.resources.give_address(resource, offset) {
            self.invalidate_reach(id);
            let late = Write { bo: id, bytes, extent: Extent::Within };
            self.extend_pending(&late, Reach::Addressed);
        }
    }

    /// Detaches a resource. Batches in flight keep it in their write sets.
    pub(crate) fn resource_detach(&mut self, id: BoId, resource: ResourceId, offset: u64) {
        let Some(bo) = self.bos.get_mut(&id) else { return };
        if bo.resources.detach(resource, offset) {
            self.invalidate_reach(id);
        }
    }

    /// Copies exactly `bytes` of an explicit object from guest pages to host memory, or back.
    pub(crate) fn explicit_copy(&mut self, id: BoId, bytes: Range<u64>, to_host: bool) -> Result<()> {
        let bo = self.bos.get(&id).ok_or(Error::Invalid)?;
        let bytes = bytes.start..bytes.end.min(bo.tbo.size());
        if bo.sync == Sync::Coherent || bytes.is_empty() {
            return Ok(());
        }
        let mapping = bo.mapping.as_ref().ok_or(Error::Invalid)?;
        let start = trace::now();
        let (offset, len) = (to_usize(bytes.start), to_usize(bytes.end - bytes.start));
        if to_host {
            mapping.host.copy_from(&mapping.application, offset, len);
            self.stats.explicit_bytes_flushed += len as u64;
        } else {
            mapping.application.copy_from(&mapping.host, offset, len);
            self.stats.explicit_bytes_invalidated += len as u64;
        }
        if let Some(start) = start {
            let event = if to_host { Event::CopyToHost } else { Event::CopyFromHost };
            let args = Args { bytes: len as u64, ..Args::default() };
            self.origin.record(event, id.0, start, nanos_since(start), args);
        }
        Ok(())
    }
}

/// Takes the reservation. Where that takes waiting, the wait is recorded.
pub(super) fn lock<H: HostDevice>(state: &Mutex<State<H>>) -> MutexGuard<'_, State<H>> {
    // A panic under the reservation ends the process in a driver; tests go on.
    let wait = || state.lock().unwrap_or_else(PoisonError::into_inner);
    if trace::recorder().is_none() {
        return wait();
    }
    state.try_lock().unwrap_or_else(|_| {
        let start = Instant::now();
        let state = wait();
        state.origin.record(Event::Reservation, 0, start, nanos_since(start), Args::default());
        state
    })
}

pub(super) fn nanos_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(all(test, not(loom), not(shuttle)))]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::sys::thread;

    struct Nothing;

    impl HostDevice for Nothing {
        type Memory = ();
        type Timeline = ();

        fn map(&self, (): (), _: u64) -> Result<SharedMem> {
            Err(Error::Invalid)
        }

        fn seqno(&self, (): ()) -> Result<u64> {
            Ok(0)
        }
    }

    #[test]
    fn who_waits_for_the_reservation_is_on_the_timeline() {
        let recorder = trace::begin();
        let waits = |thread: u32| {
            let is_one = |it: &trace::Record| it.code == Event::Reservation as u16 && it.thread == thread;
            recorder.records().filter(is_one).count()
        };
        let state = Mutex::new(State::<Nothing>::new(0, TrackerChoice::Auto, Readback::Eager, Weak::new()));
        let waiter = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let held = lock(&state);
            scope.spawn(|| {
                waiter.store(thread::id(), Ordering::Relaxed);
                drop(lock(&state));
            });
            let sleeps = || {
                let stat = std::fs::read_to_string(format!(
                    "/proc/self/task/{}/stat",
                    waiter.load(Ordering::Relaxed)
                ));
                stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S')))
            };
            while !sleeps() {
                std::thread::yield_now();
            }
            drop(held);
        });
        assert_eq!((waits(waiter.into_inner()), waits(thread::id())), (1, 0));
    }
}
