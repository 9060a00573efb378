//! Runs a sequence on the soft machine and on the model.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kmd_sim::mm::fault::{FaultStep, Signal, handle_mm_fault};
use kmd_sim::mm::memory::unmap_mapping_range;
use kmd_sim::mm::mm_struct::{Mapped, Mm};
use kmd_sim::mm::vma::{FaultFlags, VmFlags};
use kmd_sim::mmu::soft::cpu::{Cpu, PageFault};
use kmd_sim::mmu::soft::page_table::Leaf;
use kmd_sim::upstream::Upstream;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::common::{AT, Bo, NODE, P, Record, World, address};
use super::model::{Entry, Page, Space};
use super::ops::{HOT, Kind, Op, PAGES, Place, SLOT};

type Checked = Result<(), TestCaseError>;

/// Processes there may be at a time.
const PROCESSES: usize = 3;

struct Process {
    mm: Mm,
    cpus: [Cpu; 2],
    model: Space,
}

struct Run {
    world: World,
    processes: Vec<Process>,
    /// The first byte of each page of the object.
    bytes: Vec<u8>,
    record: Record,
    /// Pages that must be in the bitmap.
    recorded: BTreeSet<u64>,
    splits_huge: bool,
}

/// Runs `ops` and checks after each.
pub(crate) fn sequence(upstream: Upstream, ops: &[Op]) -> Checked {
    let world = World::new(upstream, PAGES);
    let mut run = Run {
        processes: vec![Process::new(Mm::new(&world.machine), Space::default())],
        world,
        bytes: vec![0; usize::try_from(PAGES).unwrap()],
        record: Record::empty(PAGES),
        recorded: BTreeSet::new(),
        splits_huge: !upstream.profile.has_walk_action(),
    };
    for op in ops {
        run.step(op).map_err(|error| TestCaseError::fail(format!("{op:?}: {error}")))?;
        run.check().map_err(|error| TestCaseError::fail(format!("after {op:?}: {error}")))?;
    }
    Ok(())
}

impl Process {
    fn new(mm: Mm, model: Space) -> Self {
        let cpu = || mm.mm.machine.hardware.cpu();
        Self { cpus: [cpu(), cpu()], mm, model }
    }
}

fn index(page: u64) -> usize {
    usize::try_from(page).unwrap()
}

fn range(place: &Place) -> Range<u64> {
    address(place.start)..address(place.end)
}

impl Run {
    fn step(&mut self, op: &Op) -> Checked {
        match op {
            Op::Load { process, cpu, nth } => self.access(*process, *cpu, *nth, None),
            Op::Store { process, cpu, nth, value } => self.access(*process, *cpu, *nth, Some(*value)),
            Op::Wp(pages) => self.wp(pages),
            Op::Clean(pages) => self.clean(pages),
            Op::Transfer => {
                self.record = Record::empty(PAGES);
                self.recorded.clear();
                Ok(())
            }
            Op::Zap { pages, even_cows } => {
                let range = NODE + pages.start..NODE + pages.end;
                unmap_mapping_range(&self.world.task, &self.world.mapping, &range, *even_cows);
                for process in &mut self.processes {
                    let is_zapped = |page: &Page| *even_cows || page.copy.is_none();
                    process.model.zap(|_, page| pages.contains(&page.page) && is_zapped(page));
                }
                Ok(())
            }
            Op::Mmap { process, slot, pages, kind } => {
                let at = slot * SLOT + pages.start;
                let place = at..at + (pages.end - pages.start);
                self.unmap(*process, &place)?;
                self.mmap(*process, at, pages, *kind);
                self.areas_agree()
            }
            Op::Munmap { process, place } => self.unmap(*process, place),
            Op::Mprotect { process, place, write } => self.mprotect(*process, place, *write),
            Op::Madvise { process, place, random } => {
                let process = self.process(*process);
                self.processes[process].mm.madvise_random(&self.world.task, &range(place), *random);
                self.areas_agree()
            }
            Op::Mremap { process, nth, slot, skew, half } => self.mremap(*process, *nth, *slot, *skew, *half),
            Op::Fork { process } => self.fork(*process),
            Op::Exit { process } => {
                let gone = self.processes.remove(self.process(*process));
                gone.mm.exit(&self.world.task);
                if self.processes.is_empty() {
                    self.processes.push(Process::new(Mm::new(&self.world.machine), Space::default()));
                }
                self.areas_agree()
            }
            Op::MapWritable(writable) => {
                self.world.bo.writable.store(*writable, Ordering::SeqCst);
                Ok(())
            }
            Op::MapHuge(huge) => {
                self.world.bo.huge.store(*huge, Ordering::SeqCst);
                Ok(())
            }
        }
    }

    fn process(&self, number: usize) -> usize {
        number % self.processes.len()
    }

    fn mmap(&mut self, process: usize, at: u64, pages: &Range<u64>, kind: Kind) {
        let process = self.process(process);
        let what = Mapped {
            address: address(at),
            pages: NODE + pages.start..NODE + pages.end,
            flags: kind.flags(),
            ops: Arc::<Bo>::clone(&self.world.bo),
        };
        self.processes[process].mm.mmap(&self.world.task, &self.world.mapping, what);
        self.processes[process].model.map(at, pages, kind);
    }

    fn unmap(&mut self, process: usize, place: &Place) -> Checked {
        let number = self.process(process);
        let process = &mut self.processes[number];
        process.mm.munmap(&self.world.task, &range(place));
        process.model.unmap(place);
        let load = access(&self.world, process, 0, address(place.start), None);
        prop_assert_eq!(load, Err(Signal::Segv));
        self.areas_agree()
    }

    fn mprotect(&mut self, process: usize, place: &Place, write: bool) -> Checked {
        let number = self.process(process);
        let process = &mut self.processes[number];
        if process.mm.mprotect(&self.world.task, &range(place), write).is_ok() {
            let read_only = process.model.0.range(place.clone()).any(|(_, page)| page.kind == Kind::ReadOnly);
            prop_assert!(!(write && read_only));
            process.model.protect(place, write);
        } else {
            prop_assert!(write);
        }
        self.areas_agree()
    }

    fn mremap(&mut self, process: usize, nth: usize, slot: u64, skew: u64, half: bool) -> Checked {
        let number = self.process(process);
        let process = &mut self.processes[number];
        let areas: Vec<Place> = {
            let vmas = process.mm.mmap_read_lock(&self.world.task);
            let place = |at: u64| (at - AT) / P;
            vmas.values().map(|vma| place(vma.addresses.start)..place(vma.addresses.end)).collect()
        };
        let Some(old) = areas.get(nth % areas.len().max(1)).cloned() else { return Ok(()) };
        let len = if half { (old.end - old.start).div_ceil(2) } else { old.end - old.start };
        let at = slot * SLOT + old.start % SLOT + skew;
        let new = at..at + len;
        let moved = process.mm.mremap(&self.world.task, &range(&old), &range(&new)).is_some();
        prop_assert_eq!(moved, new.start >= old.end || old.start >= new.end);
        if moved {
            process.model.unmap(&new);
            process.model.unmap(&(old.start + len..old.end));
            process.model.shift(&(old.start..old.start + len), new.start);
            for cpu in 0..2 {
                let load = access(&self.world, process, cpu, address(old.start), None);
                prop_assert_eq!(load, Err(Signal::Segv), "the old place is still read");
            }
        }
        self.areas_agree()
    }

    fn fork(&mut self, process: usize) -> Checked {
        if self.processes.len() < PROCESSES {
            let parent = &self.processes[self.process(process)];
            let child = Process::new(parent.mm.fork(&self.world.task), parent.model.forked());
            self.processes.push(child);
        }
        self.areas_agree()
    }

    fn access(&mut self, process: usize, cpu: usize, nth: usize, store: Option<u8>) -> Checked {
        let number = self.process(process);
        let process = &mut self.processes[number];
        let Some(at) = process.model.0.keys().nth(nth % process.model.0.len().max(1)).copied() else {
            return Ok(());
        };
        let before = process.model.0[&at].clone();
        let result = access(&self.world, process, cpu, address(at), store);
        let announced = std::mem::take(&mut *self.world.bo.mkwritten.lock().unwrap());
        if store.is_some() && !before.can_write {
            prop_assert_eq!(result, Err(Signal::Segv));
            return Ok(());
        }
        let writable = self.world.bo.writable.load(Ordering::SeqCst);
        let maps_writable = writable && before.kind == Kind::Shared && before.can_write;
        let was_writable = match before.entry {
            Entry::Small { write, .. } => write,
            Entry::None | Entry::Huge => maps_writable,
        };
        let announced_expected = store.is_some() && before.kind == Kind::Shared && !was_writable;
        let expected = BTreeSet::from_iter(announced_expected.then_some(before.page));
        prop_assert_eq!(announced, expected, "announcements");
        match store {
            Some(value) => {
                prop_assert!(result.is_ok());
                process.model.zap(|other, page| other == at && page.entry == Entry::Huge);
                let page = process.model.0.get_mut(&at).unwrap();
                page.entry = Entry::Small { write: true, dirty: true };
                match page.kind {
                    Kind::Private => page.copy = Some(value),
                    Kind::Shared | Kind::ReadOnly => self.bytes[index(page.page)] = value,
                }
            }
            None => {
                prop_assert_eq!(result, Ok(before.copy.unwrap_or(self.bytes[index(before.page)])));
                if before.entry == Entry::None {
                    inserted(process, at, maps_writable)?;
                }
            }
        }
        Ok(())
    }

    fn wp(&mut self, pages: &Range<u64>) -> Checked {
        self.split_huge(pages);
        let protected: u64 = self
            .processes
            .iter_mut()
            .map(|process| process.model.helper(pages, |_, write, _| std::mem::take(write)))
            .sum();
        prop_assert_eq!(self.world.wp(pages.clone()), protected);
        Ok(())
    }

    fn clean(&mut self, pages: &Range<u64>) -> Checked {
        self.split_huge(pages);
        let mut cleaned = 0;
        for process in &mut self.processes {
            cleaned += process.model.helper(pages, |page, _, dirty| {
                if *dirty {
                    self.recorded.insert(page);
                }
                std::mem::take(dirty)
            });
        }
        prop_assert_eq!(self.world.clean(pages.clone(), &mut self.record), cleaned);
        let bits = self.record.bits();
        prop_assert_eq!(&bits, &Vec::from_iter(self.recorded.iter().copied()));
        let bounds = &self.record.bounds;
        match (bits.first(), bits.last()) {
            (Some(first), Some(last)) => prop_assert_eq!(bounds, &(*first..last + 1)),
            _ => prop_assert!(bounds.is_empty()),
        }
        Ok(())
    }

    /// Until Linux 5.5 the walk splits what it does not descend into.
    fn split_huge(&mut self, pages: &Range<u64>) {
        if self.splits_huge {
            for process in &mut self.processes {
                let walked = |page: &Page| page.kind == Kind::Shared && pages.contains(&page.page);
                process.model.zap(|_, page| page.entry == Entry::Huge && walked(page));
            }
        }
    }

    /// The entries are those of the model, and no rule was broken.
    fn check(&self) -> Checked {
        prop_assert_eq!(self.world.task.take_splats(), []);
        for process in &self.processes {
            process.mm.mm.take_events();
            process.mm.mm.inc_tlb_flush_pending();
            prop_assert!(!process.mm.mm.tlb_flush_nested(), "a walker did not say that it has flushed");
            process.mm.mm.dec_tlb_flush_pending();
            for (at, page) in &process.model.0 {
                check_entry(process, *at, page)?;
            }
        }
        Ok(())
    }

    /// The areas map what the model says, and all of them are in the object's mapping.
    fn areas_agree(&self) -> Checked {
        let mut areas = 0;
        for process in &self.processes {
            let vmas = process.mm.mmap_read_lock(&self.world.task);
            areas += vmas.len();
            let mut mapped = Vec::new();
            for vma in vmas.values() {
                let at = (vma.addresses.start - AT) / P;
                let hot = HOT.into_iter().filter(|page| vma.pages().contains(&(NODE + page)));
                let can_write = vma.flags.contains(VmFlags::WRITE);
                mapped.extend(hot.map(|page| (at + NODE + page - vma.pgoff, page, can_write)));
            }
            let expected: Vec<_> =
                process.model.0.iter().map(|(at, page)| (*at, page.page, page.can_write)).collect();
            prop_assert_eq!(mapped, expected);
        }
        let i_mmap = self.world.mapping.i_mmap_lock_read(&self.world.task);
        prop_assert_eq!(i_mmap.len(), areas);
        Ok(())
    }
}

/// Loads or stores one byte on a CPU of a process, with all faults this takes; a store returns 0.
fn access(
    world: &World,
    process: &Process,
    cpu: usize,
    address: u64,
    store: Option<u8>,
) -> Result<u8, Signal> {
    let Process { mm, cpus, .. } = process;
    let attempt = || -> Result<u8, PageFault> {
        match store {
            Some(value) => cpus[cpu].store(&mm.mm.tables, mm.mm.asid, address, value).map(|()| 0),
            None => cpus[cpu].load(&mm.mm.tables, mm.mm.asid, address),
        }
    };
    // No access takes more than a split, an insertion and a permission.
    for _ in 0..4 {
        let fault = match attempt() {
            Ok(value) => return Ok(value),
            Err(fault) => fault,
        };
        let flags = FaultFlags { write: fault.write, allow_retry: true, ..FaultFlags::default() };
        match handle_mm_fault(&world.task, mm, fault, flags) {
            FaultStep::Signal(signal) => return Err(signal),
            step => assert_eq!(step, FaultStep::Restart),
        }
    }
    panic!("the access faults for ever");
}

/// A load has made an entry: a small one, or a huge one where that is allowed.
fn inserted(process: &mut Process, at: u64, maps_writable: bool) -> Checked {
    let leaf = process.mm.mm.tables.leaf(address(at));
    if !matches!(leaf, Some(Leaf::Pmd(_))) {
        process.model.0.get_mut(&at).unwrap().entry = Entry::Small { write: maps_writable, dirty: false };
        return Ok(());
    }
    for page in process.model.0.range_mut(at / 512 * 512..(at / 512 + 1) * 512).map(|(_, page)| page) {
        prop_assert_eq!(page.entry, Entry::None, "a huge entry in place of small ones");
        page.entry = Entry::Huge;
    }
    Ok(())
}

fn check_entry(process: &Process, at: u64, page: &Page) -> Checked {
    let leaf = process.mm.mm.tables.leaf(address(at));
    let pte = process.mm.mm.tables.pte(address(at));
    let is_huge = matches!(leaf, Some(Leaf::Pmd(_))) && !pte.none();
    match page.entry {
        Entry::None => prop_assert!(pte.none(), "page {}: {:?}", at, pte),
        Entry::Huge => prop_assert!(is_huge && !pte.write() && !pte.dirty(), "page {}: {:?}", at, pte),
        // Nobody but the process itself relies on these.
        Entry::Small { .. } if page.kind == Kind::Private => prop_assert!(!pte.none() && !is_huge),
        Entry::Small { write, dirty } => {
            let found = (pte.none(), is_huge, pte.write(), pte.dirty());
            prop_assert_eq!(found, (false, false, write, dirty), "page {}", at);
        }
    }
    Ok(())
}
