//! What holds whenever nobody has a reservation: the invariants I-1 to I-12 of the series that can be seen in
//! the state of a system. (I-3 and I-9 are about bytes: whoever stores them knows them.)

use std::ops::Range;

use super::bo::{Bo, BoState};
use super::gb_surface::Surface;
use super::page_dirty::{BoDirty, Method};
use super::surface_dirty::SurfaceDirty;
use crate::addr::{PAGE_SIZE, intersection, pages_of};
use crate::mm::fault::Thread;
use crate::mm::vma::{VmFlags, Vma};
use crate::mmu::soft::page_table::Pte;
use crate::soft_system::SoftSystem;
use crate::sync::Arc;

/// Scans in a row after which the method changes at the latest.
const MAX_CHANGE_COUNT: u32 = 2;
/// Priority of an object without resources, and of one with surfaces alone.
const PRIORITIES: (u32, Range<u32>) = (3, 1..3);

/// An invariant that does not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its number.
    pub id: &'static str,
    /// The object, by its number.
    pub bo: u64,
    /// The page of it, or the surface on it.
    pub at: u64,
}

/// Checks all objects of a system.
pub fn check(system: &SoftSystem, cpu: &Thread<'_>) -> Vec<Violation> {
    let surfaces: Vec<Arc<Surface>> =
        system.file.surfaces().into_iter().map(|(_, surface)| surface).collect();
    let mut violations = Vec::new();
    for bo in system.file.all_bos() {
        let mut checker = Checker { bo: &bo, violations: &mut violations };
        let entries = entries(system, cpu, &bo);
        let state = bo.reserve(&cpu.task);
        checker.tracker(&state, &entries);
        checker.resources(&state, &surfaces, &entries);
    }
    violations
}

/// The entries of all areas that map an object: page, entry, and whether stores reach the object.
fn entries(system: &SoftSystem, cpu: &Thread<'_>, bo: &Bo) -> Vec<(u64, Pte, bool)> {
    let i_mmap = system.dev.mapping.i_mmap_lock_read(&cpu.task);
    let mut entries = Vec::new();
    for vma in i_mmap.overlapping(&bo.node) {
        let pages = intersection(&vma.pages(), &bo.node);
        let tables = &vma.mm.tables;
        let mapped = pages.map(|pgoff| (pgoff - bo.node.start, tables.pte(address(vma, pgoff))));
        let shared = vma.flags.contains(VmFlags::SHARED);
        // A private copy maps another page.
        entries.extend(
            mapped.filter(|(_, pte)| !pte.none() && pte.special()).map(|(page, pte)| (page, pte, shared)),
        );
    }
    entries
}

fn address(vma: &Vma, pgoff: u64) -> u64 {
    vma.addresses.start + (pgoff - vma.pgoff) * PAGE_SIZE
}

struct Checker<'a> {
    bo: &'a Arc<Bo>,
    violations: &'a mut Vec<Violation>,
}

impl Checker<'_> {
    fn holds(&mut self, id: &'static str, at: u64, holds: bool) {
        if !holds {
            self.violations.push(Violation { id, bo: self.bo.id, at });
        }
    }

    fn tracker(&mut self, state: &BoState, entries: &[(u64, Pte, bool)]) {
        let Some(dirty) = &state.driver.dirty else { return };
        let (bits, bounds) = (dirty.bitmap(), dirty.bounds());
        let outside = bits.next_run(0..bounds.start).or_else(|| bits.next_run(bounds.end..bits.len()));
        if let Some(run) = outside {
            self.holds("I-1", run.start, false);
        }
        self.holds("I-1", bounds.end, bounds.is_empty() || bounds.end <= bits.len());
        if dirty.method() == Method::Mkwrite {
            for (page, pte, shared) in entries {
                self.holds("I-2", *page, !shared || !pte.write() || bits.test(*page));
            }
        }
        self.holds("I-12", dirty.change_count().into(), dirty.change_count() <= MAX_CHANGE_COUNT);
    }

    fn resources(&mut self, state: &BoState, surfaces: &[Arc<Surface>], entries: &[(u64, Pte, bool)]) {
        let tree = &state.driver.res_tree;
        let mut coherent = 0;
        for surface in surfaces {
            let backed = {
                let res = surface.res.state();
                res.backing.as_ref().is_some_and(|backing| Arc::ptr_eq(backing, self.bo))
            };
            let in_tree = tree.iter().filter(|(_, res)| Arc::ptr_eq(res, &surface.res)).count();
            let res = surface.res.state();
            self.holds("I-7", res.offset, in_tree == usize::from(backed && res.attached()));
            if !backed {
                continue;
            }
            coherent += u32::from(res.coherent);
            if res.res_dirty && res.attached() {
                let pages = pages_of(&res.bytes());
                let boxes =
                    res.dirty.as_ref().and_then(|dirty| dirty.as_any().downcast_ref::<SurfaceDirty>());
                let boxed = boxes.is_some_and(|dirty| dirty.boxes().iter().any(|part| part.d != 0));
                self.holds("I-5", res.offset, !boxed);
                self.unmapped(state, &pages, entries, res.dirty.is_some());
            }
        }
        let refs = state.driver.dirty.as_ref().map_or(0, BoDirty::ref_count);
        self.holds("I-6", refs.into(), refs == coherent);
        let priority = state.priority;
        let expected = match tree.is_empty() {
            true => priority == PRIORITIES.0,
            false => PRIORITIES.1.contains(&priority),
        };
        self.holds("I-7", priority.into(), expected);
    }

    /// Pages that the device has newer content of.
    fn unmapped(&mut self, state: &BoState, pages: &Range<u64>, entries: &[(u64, Pte, bool)], tracked: bool) {
        let Some(dirty) = &state.driver.dirty else { return };
        if let Some(run) = dirty.bitmap().next_run(pages.clone()) {
            self.holds("I-5", run.start, false);
        }
        for (page, ..) in entries {
            self.holds("I-4", *page, !tracked || !pages.contains(page));
        }
    }
}
