//! The flat model: for each page of each address space what it maps, and what its entry must be.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::ops::{HOT, Kind, Place};

/// Pages a huge entry maps.
const SPAN: u64 = 512;

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    None,
    Small {
        write: bool,
        dirty: bool,
    },
    /// Part of a huge entry, which is read-only and clean.
    Huge,
}

/// A page of an address space.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// Which page of the object.
    pub(crate) page: u64,
    pub(crate) kind: Kind,
    /// Stores are allowed now.
    pub(crate) can_write: bool,
    pub(crate) entry: Entry,
    /// What a private area has instead of the object's byte.
    pub(crate) copy: Option<u8>,
}

/// The address space of a process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space(pub(crate) BTreeMap<u64, Page>);

impl Space {
    pub(crate) fn map(&mut self, at: u64, pages: &Range<u64>, kind: Kind) {
        let can_write = kind != Kind::ReadOnly;
        for page in HOT.into_iter().filter(|page| pages.contains(page)) {
            let new = Page { page, kind, can_write, entry: Entry::None, copy: None };
            self.0.insert(at + page - pages.start, new);
        }
    }

    /// Entries that `zapped` says yes to go away; a huge one goes as a whole.
    pub(crate) fn zap(&mut self, zapped: impl Fn(u64, &Page) -> bool) {
        let mut spans = BTreeSet::new();
        for (at, page) in &mut self.0 {
            if zapped(*at, page) {
                if page.entry == Entry::Huge {
                    spans.insert(at / SPAN);
                }
                page.entry = Entry::None;
                page.copy = None;
            }
        }
        for (at, page) in &mut self.0 {
            if page.entry == Entry::Huge && spans.contains(&(at / SPAN)) {
                page.entry = Entry::None;
            }
        }
    }

    pub(crate) fn unmap(&mut self, place: &Place) {
        self.zap(|at, _| place.contains(&at));
        self.0.retain(|at, _| !place.contains(at));
    }

    /// Moves pages; what is at `to` must be gone.
    pub(crate) fn shift(&mut self, place: &Place, to: u64) {
        let moved: Vec<(u64, Page)> =
            self.0.range(place.clone()).map(|(at, page)| (*at, page.clone())).collect();
        self.zap(|at, page| place.contains(&at) && page.entry == Entry::Huge);
        self.0.retain(|at, _| !place.contains(at));
        for (at, mut page) in moved {
            if page.entry == Entry::Huge {
                page.entry = Entry::None;
            }
            self.0.insert(to + (at - place.start), page);
        }
    }

    pub(crate) fn protect(&mut self, place: &Place, can_write: bool) {
        for (_, page) in self.0.range_mut(place.clone()) {
            page.can_write = can_write;
            if let (false, Entry::Small { write, .. }) = (can_write, &mut page.entry) {
                *write = false;
            }
        }
    }

    /// The child's.
    pub(crate) fn forked(&self) -> Self {
        let mut child = self.clone();
        for page in child.0.values_mut() {
            match &mut page.entry {
                Entry::Small { dirty, .. } => *dirty = false,
                entry => *entry = Entry::None,
            }
        }
        child
    }

    /// Changes the small entries that the dirty helpers look at; returns for how many `change` says yes.
    pub(crate) fn helper(
        &mut self,
        pages: &Range<u64>,
        mut change: impl FnMut(u64, &mut bool, &mut bool) -> bool,
    ) -> u64 {
        let mut changed = 0;
        for page in self.0.values_mut().filter(|page| page.kind == Kind::Shared && pages.contains(&page.page))
        {
            if let Entry::Small { write, dirty } = &mut page.entry {
                changed += u64::from(change(page.page, write, dirty));
            }
        }
        changed
    }
}
