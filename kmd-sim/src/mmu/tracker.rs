//! Which tracker a device has: the one asked for, or the best one that keeps all promises.

use std::ops::Range;

use super::compare::Compare;
use super::sigsegv::Sigsegv;
use super::uffd::{Faults, Uffd};
use super::{Caps, Mmu};
use crate::addr::Pgoff;
use crate::error::{Error, Result};
use crate::sync::Once;
use crate::sys::memory::SharedMem;
use crate::sys::userfaultfd::Serves;

/// The trackers of this process's own pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackerKind {
    /// [`Uffd`]
    Uffd,
    /// [`Sigsegv`]
    Sigsegv,
    /// [`Compare`]
    Compare,
}

impl TrackerKind {
    /// As options and logs spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uffd => "uffd",
            Self::Sigsegv => "sigsegv",
            Self::Compare => "compare",
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrackerChoice {
    /// `uffd`, or else `compare`: no signal is taken and no system call fails, whatever the machine.
    #[default]
    Auto,
    /// This one or none.
    Only(TrackerKind),
}

impl TrackerChoice {
    /// The tracker that memory mapped now would get, if any.
    pub fn expected(self) -> TrackerKind {
        match self {
            Self::Auto => Uffd::probe(Serves::Nothing).map_or(TrackerKind::Compare, |()| TrackerKind::Uffd),
            Self::Only(kind) => kind,
        }
    }

    /// Says why there is no such tracker in this process; leaves nothing behind.
    pub fn probe(self) -> Result<()> {
        match self {
            Self::Only(TrackerKind::Uffd) => Uffd::probe(Serves::Nothing),
            Self::Auto | Self::Only(TrackerKind::Sigsegv | TrackerKind::Compare) => Ok(()),
        }
    }
}

/// When the CPU is given what the device wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readback {
    /// Region by region, by what the CPU has been reading; at completion, where faults cannot be served.
    #[default]
    Auto,
    /// At completion.
    Eager,
    /// When it touches it, or not at all.
    Lazy,
    /// As the dice fall, for tests: what is decided may cost time, but no byte.
    Lots(u64),
}

impl Readback {
    /// Says why memory that is tracked this way cannot be read back so; leaves nothing behind.
    pub fn probe(self, tracker: TrackerChoice) -> Result<()> {
        match (self, tracker) {
            (Self::Auto | Self::Eager, _) => Ok(()),
            (_, TrackerChoice::Only(TrackerKind::Sigsegv | TrackerKind::Compare)) => Err(Error::Unsupported),
            (Self::Lazy | Self::Lots(_), _) => Uffd::probe(Serves::Faults),
        }
    }
}

/// A tracker.
#[derive(Debug)]
pub enum Tracker {
    /// userfaultfd
    Uffd(Uffd),
    /// mprotect and SIGSEGV
    Sigsegv(Sigsegv),
    /// content
    Compare(Compare),
}

impl Tracker {
    /// Tracks `memory`, a whole mapping that outlives the value.
    pub fn new(choice: TrackerChoice, readback: Readback, memory: SharedMem) -> Result<Self> {
        let uffd = || match readback {
            Readback::Eager => Uffd::new(memory),
            Readback::Auto => Uffd::serving(memory, Serves::Faults).or_else(|_| Uffd::new(memory)),
            Readback::Lazy | Readback::Lots(_) => Uffd::serving(memory, Serves::Faults),
        };
        if matches!(readback, Readback::Lazy | Readback::Lots(_)) {
            readback.probe(choice)?;
        }
        match choice {
            TrackerChoice::Auto => uffd().map(Self::Uffd).or_else(|error| {
                static SAID: Once = Once::new();
                SAID.call_once(|| {
                    log::warn!(
                        "tracker uffd is not to be had ({error}): compare finds writes, at a cost in time"
                    );
                });
                Ok(Self::Compare(Compare))
            }),
            TrackerChoice::Only(TrackerKind::Uffd) => uffd().map(Self::Uffd),
            TrackerChoice::Only(TrackerKind::Sigsegv) => Sigsegv::new(memory).map(Self::Sigsegv),
            TrackerChoice::Only(TrackerKind::Compare) => Ok(Self::Compare(Compare)),
        }
    }

    /// Tracks a further mapping of pages of the file, until that ends. Other trackers than `uffd` need
    /// nothing for that: all stores to it succeed, and all of its pages are reported each time.
    pub fn add_view(&self, view: SharedMem) -> Result<()> {
        match self {
            Self::Uffd(tracker) => tracker.add_view(view),
            Self::Sigsegv(_) | Self::Compare(_) => Ok(()),
        }
    }

    /// Reports the written pages of part of a further mapping, which shows `pages` of the file:
    /// [`Mmu::take_dirty`].
    pub fn take_dirty_of_view(
        &mut self,
        view: SharedMem,
        pages: Range<Pgoff>,
        found: &mut dyn FnMut(Range<Pgoff>),
    ) -> Result<()> {
        match self {
            Self::Uffd(tracker) => tracker.take_dirty_of_view(view, pages.start, found)?,
            Self::Sigsegv(_) | Self::Compare(_) => found(pages),
        }
        Ok(())
    }

    /// To be called when memory is mapped, which others may take for an occasion to install signal handlers.
    pub fn memory_mapped(&self) -> Result<()> {
        match self {
            Self::Sigsegv(tracker) => tracker.expect_others(),
            Self::Uffd(_) | Self::Compare(_) => Ok(()),
        }
    }

    /// Maps those of `pages` that are not mapped so that stores to them do not fault; they are reported by
    /// the next call that asks for them. Of a tracker whose pages stay open.
    pub fn open(&self, pages: &Range<Pgoff>) {
        match self {
            Self::Uffd(tracker) => tracker.open(pages),
            Self::Sigsegv(_) | Self::Compare(_) => {}
        }
    }

    /// The faults of the mapping, if they are served here.
    pub fn faults(&self) -> Option<Faults> {
        match self {
            Self::Uffd(tracker) => tracker.faults(),
            Self::Sigsegv(_) | Self::Compare(_) => None,
        }
    }
}

impl Mmu for Tracker {
    fn caps(&self) -> Caps {
        match self {
            Self::Uffd(tracker) => tracker.caps(),
            Self::Sigsegv(tracker) => tracker.caps(),
            Self::Compare(tracker) => tracker.caps(),
        }
    }

    fn take_dirty(&mut self, pages: Range<Pgoff>, found: &mut dyn FnMut(Range<Pgoff>)) -> Result<()> {
        match self {
            Self::Uffd(tracker) => tracker.take_dirty(pages, found),
            Self::Sigsegv(tracker) => tracker.take_dirty(pages, found),
            Self::Compare(tracker) => tracker.take_dirty(pages, found),
        }
    }

    fn find_dirty(&mut self, pages: Range<Pgoff>, found: &mut dyn FnMut(Range<Pgoff>)) -> Result<()> {
        match self {
            Self::Uffd(tracker) => tracker.find_dirty(pages, found),
            Self::Sigsegv(tracker) => tracker.find_dirty(pages, found),
            Self::Compare(tracker) => tracker.find_dirty(pages, found),
        }
    }
}
