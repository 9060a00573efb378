//! Page tables of five levels (Intel SDM volume 3, chapter 4; kernel: `asm/pgtable_types.h`).
//!
//! Each table has 512 entries. A pmd or pud entry may be a *leaf* that maps 2 MiB or 1 GiB. The hardware
//! reads leaves at any time and sets their accessed and dirty bits with an atomic update; so whoever changes
//! an entry in use takes it out and puts it back ([`AtomicPte::take`]), or an update in between would be
//! lost.
//!
//! # Locks
//! The entries of a [`PteTable`] are changed under its page-table lock, those of a [`Level`] under the
//! level's; both are the kernel's business ([`crate::lockdep::SpinLock`]). The map of a level's slots has a
//! lock of its own, held for one look.

use std::collections::BTreeMap;
use std::fmt;

use super::phys::Pfn;
use crate::addr::PAGE_SIZE;
use crate::lockdep::{LockClass, SpinLock};
use crate::sync::{Arc, AtomicU64, Ordering, PoisonError, RwLock};

/// Entries of a table.
pub const PTRS_PER_TABLE: u64 = 512;
/// Bytes one PTE table maps: what a huge pmd maps.
pub const PMD_SIZE: u64 = PAGE_SIZE * PTRS_PER_TABLE;
/// Bytes a huge pud maps.
pub const PUD_SIZE: u64 = PMD_SIZE * PTRS_PER_TABLE;
/// Bytes one entry of the p4d maps.
pub const P4D_SIZE: u64 = PUD_SIZE * PTRS_PER_TABLE;
/// Bytes one entry of the pgd maps.
pub const PGDIR_SIZE: u64 = P4D_SIZE * PTRS_PER_TABLE;

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const SPECIAL: u64 = 1 << 9;
const PFN_SHIFT: u32 = 12;

/// The value of a leaf entry.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Pte(u64);

impl Pte {
    /// Maps nothing.
    pub const NONE: Self = Self(0);

    /// Maps `pfn`, read-only, clean and old.
    pub const fn new(pfn: Pfn) -> Self {
        Self(pfn << PFN_SHIFT | PRESENT)
    }

    /// Whether it maps nothing (`pte_none`).
    pub const fn none(self) -> bool {
        self.0 == 0
    }

    /// The frame it maps.
    pub const fn pfn(self) -> Pfn {
        self.0 >> PFN_SHIFT
    }

    /// Whether stores are allowed.
    pub const fn write(self) -> bool {
        self.0 & WRITE != 0
    }

    /// Whether it was stored to.
    pub const fn dirty(self) -> bool {
        self.0 & DIRTY != 0
    }

    /// Whether it was accessed.
    pub const fn young(self) -> bool {
        self.0 & ACCESSED != 0
    }

    /// Whether there is no `struct page` behind it: a zap forgets its dirty bit.
    pub const fn special(self) -> bool {
        self.0 & SPECIAL != 0
    }

    /// Allows stores (`pte_mkwrite`).
    pub const fn mkwrite(self) -> Self {
        Self(self.0 | WRITE)
    }

    /// Forbids stores; dirty and young stay (`pte_wrprotect`).
    pub const fn wrprotect(self) -> Self {
        Self(self.0 & !WRITE)
    }

    /// Sets the dirty bit.
    pub const fn mkdirty(self) -> Self {
        Self(self.0 | DIRTY)
    }

    /// Clears the dirty bit; write and young stay (`pte_mkclean`).
    pub const fn mkclean(self) -> Self {
        Self(self.0 & !DIRTY)
    }

    /// Sets the accessed bit.
    pub const fn mkyoung(self) -> Self {
        Self(self.0 | ACCESSED)
    }

    /// Clears the accessed bit (`pte_mkold`).
    pub const fn mkold(self) -> Self {
        Self(self.0 & !ACCESSED)
    }

    /// Marks it as having no `struct page`.
    pub const fn mkspecial(self) -> Self {
        Self(self.0 | SPECIAL)
    }
}

impl fmt::Debug for Pte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.none() {
            return f.write_str("-");
        }
        write!(f, "{}:{}", self.pfn(), if self.write() { "W" } else { "ro" })?;
        f.write_str(if self.dirty() { "D" } else { "" })?;
        f.write_str(if self.young() { "Y" } else { "" })
    }
}

/// A leaf entry that hardware and kernel share.
#[derive(Debug, Default)]
pub struct AtomicPte(AtomicU64);

impl AtomicPte {
    /// An entry.
    pub fn new(pte: Pte) -> Self {
        Self(AtomicU64::new(pte.0))
    }

    /// Reads it (`ptep_get`).
    pub fn get(&self) -> Pte {
        // All accesses are ordered: what the tests explore is the protocol, not the fences.
        Pte(self.0.load(Ordering::SeqCst))
    }

    /// Sets an entry that maps nothing, or that nobody uses (`set_pte_at`).
    pub fn set(&self, pte: Pte) {
        self.0.store(pte.0, Ordering::SeqCst);
    }

    /// Takes the entry out: until it is set again the hardware faults on it, so no bit that the hardware
    /// sets can be lost (`ptep_modify_prot_start`, `ptep_get_and_clear`).
    pub fn take(&self) -> Pte {
        Pte(self.0.swap(0, Ordering::SeqCst))
    }

    /// What the hardware does when it uses the entry: sets accessed, and dirty for a store, if it still
    /// allows the access. Returns the entry it used.
    pub fn access(&self, store: bool) -> Option<Pte> {
        loop {
            let old = self.get();
            if old.none() || store && !old.write() {
                return None;
            }
            let new = if store { old.mkyoung().mkdirty() } else { old.mkyoung() };
            let swapped = self.0.compare_exchange(old.0, new.0, Ordering::SeqCst, Ordering::SeqCst);
            if swapped.is_ok() {
                return Some(new);
            }
        }
    }
}

/// The lowest table: 512 pages.
#[derive(Debug)]
pub struct PteTable {
    /// The page-table lock (PTL) of its entries.
    pub ptl: SpinLock,
    entries: Vec<AtomicPte>,
}

impl Default for PteTable {
    fn default() -> Self {
        let entries = (0..PTRS_PER_TABLE).map(|_| AtomicPte::default()).collect();
        Self { ptl: SpinLock::new(LockClass::Ptl), entries }
    }
}

impl PteTable {
    /// The entry for an address (`pte_offset_map`).
    pub fn entry(&self, address: u64) -> &AtomicPte {
        &self.entries[index(address, PAGE_SIZE)]
    }
}

/// What an entry above the lowest table holds.
#[derive(Debug)]
pub enum Slot<T> {
    /// The next table.
    Table(Arc<T>),
    /// A leaf.
    Huge(Arc<AtomicPte>),
    /// A leaf on its way to other frames; not present.
    Migration,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Table(table) => Self::Table(Arc::clone(table)),
            Self::Huge(leaf) => Self::Huge(Arc::clone(leaf)),
            Self::Migration => Self::Migration,
        }
    }
}

/// A table above the lowest one; `T` is the table below.
#[derive(Debug)]
pub struct Level<T> {
    /// `pmd_lock`, `pud_lock`.
    pub lock: SpinLock,
    slots: RwLock<BTreeMap<usize, Slot<T>>>,
    /// Bytes an entry maps.
    size: u64,
}

/// Tables whose entries point to [`PteTable`]s.
pub type Pmd = Level<PteTable>;
/// Tables whose entries point to [`Pmd`]s.
pub type Pud = Level<Pmd>;
/// Tables whose entries point to [`Pud`]s; never leaves.
pub type P4d = Level<Pud>;
/// The root: entries point to [`P4d`]s; never leaves.
pub type Pgd = Level<P4d>;

/// Bytes that an entry of the table above maps.
pub trait Table {
    /// A table without entries.
    fn empty() -> Self;
}

impl Table for PteTable {
    fn empty() -> Self {
        Self::default()
    }
}

macro_rules! levels {
    ($($table:ty = $size:expr),*) => {$(
        impl Table for $table {
            fn empty() -> Self {
                Self::with_entries_of($size)
            }
        }
    )*};
}
levels!(Pmd = PMD_SIZE, Pud = PUD_SIZE, P4d = P4D_SIZE, Pgd = PGDIR_SIZE);

impl<T> Level<T> {
    fn with_entries_of(size: u64) -> Self {
        Self { lock: SpinLock::new(LockClass::Ptl), slots: RwLock::default(), size }
    }

    /// The entry for an address, if it is not none.
    pub fn get(&self, address: u64) -> Option<Slot<T>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(&index(address, self.size)).cloned()
    }

    /// Sets the entry for an address; `None` for none. Returns what it was.
    pub fn set(&self, address: u64, slot: Option<Slot<T>>) -> Option<Slot<T>> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        match slot {
            Some(slot) => slots.insert(index(address, self.size), slot),
            None => slots.remove(&index(address, self.size)),
        }
    }
}

impl<T: Table> Level<T> {
    /// The table below for an address, made if there is none; `None` where a leaf is in the way.
    fn alloc(&self, address: u64) -> Option<Arc<T>> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let slot =
            slots.entry(index(address, self.size)).or_insert_with(|| Slot::Table(Arc::new(T::empty())));
        match slot {
            Slot::Table(table) => Some(Arc::clone(table)),
            Slot::Huge(_) | Slot::Migration => None,
        }
    }

    fn table(&self, address: u64) -> Option<Arc<T>> {
        match self.get(address)? {
            Slot::Table(table) => Some(table),
            Slot::Huge(_) | Slot::Migration => None,
        }
    }
}

/// A leaf that maps an address, at whatever level.
#[derive(Debug)]
pub enum Leaf {
    /// 4 KiB: an entry of the lowest table.
    Pte(Arc<PteTable>),
    /// 2 MiB.
    Pmd(Arc<AtomicPte>),
    /// 1 GiB.
    Pud(Arc<AtomicPte>),
}

impl Leaf {
    /// The entry.
    pub fn entry(&self, address: u64) -> &AtomicPte {
        match self {
            Self::Pte(table) => table.entry(address),
            Self::Pmd(leaf) | Self::Pud(leaf) => leaf,
        }
    }

    /// The frame of the page at `address`, if `pte` is the value of the entry.
    pub fn pfn(&self, pte: Pte, address: u64) -> Pfn {
        let size = match self {
            Self::Pte(_) => PAGE_SIZE,
            Self::Pmd(_) => PMD_SIZE,
            Self::Pud(_) => PUD_SIZE,
        };
        pte.pfn() + address % size / PAGE_SIZE
    }
}

/// The page tables of one address space.
#[derive(Debug)]
pub struct PageTables {
    /// The root.
    pub pgd: Pgd,
}

impl Default for PageTables {
    fn default() -> Self {
        Self { pgd: Pgd::empty() }
    }
}

impl PageTables {
    /// The pud table for an address, made if there is none.
    pub fn pud_alloc(&self, address: u64) -> Option<Arc<Pud>> {
        self.pgd.alloc(address)?.alloc(address)
    }

    /// The pmd table for an address, made if there is none; `None` where a leaf is in the way.
    pub fn pmd_alloc(&self, address: u64) -> Option<Arc<Pmd>> {
        self.pud_alloc(address)?.alloc(address)
    }

    /// The PTE table for an address, made if there is none; `None` where a leaf is in the way.
    pub fn pte_alloc(&self, address: u64) -> Option<Arc<PteTable>> {
        self.pmd_alloc(address)?.alloc(address)
    }

    /// The pud table for an address, if there is one.
    pub fn pud(&self, address: u64) -> Option<Arc<Pud>> {
        self.pgd.table(address)?.table(address)
    }

    /// The pmd table for an address, if there is one.
    pub fn pmd(&self, address: u64) -> Option<Arc<Pmd>> {
        self.pud(address)?.table(address)
    }

    /// The leaf that maps an address, or would: a PTE table may hold none for it.
    pub fn leaf(&self, address: u64) -> Option<Leaf> {
        let pmd = match self.pud(address)?.get(address)? {
            Slot::Table(pmd) => pmd,
            Slot::Huge(leaf) => return Some(Leaf::Pud(leaf)),
            Slot::Migration => return None,
        };
        match pmd.get(address)? {
            Slot::Table(table) => Some(Leaf::Pte(table)),
            Slot::Huge(leaf) => Some(Leaf::Pmd(leaf)),
            Slot::Migration => None,
        }
    }

    /// The value of the leaf for an address; [`Pte::NONE`] where there is none.
    pub fn pte(&self, address: u64) -> Pte {
        self.leaf(address).map_or(Pte::NONE, |leaf| leaf.entry(address).get())
    }
}

/// The entry, in a table whose entries map `size` bytes, for an address.
fn index(address: u64, size: u64) -> usize {
    usize::try_from(address / size % PTRS_PER_TABLE).expect("less than 512")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_far_apart_have_tables_of_their_own_at_each_level() {
        let tables = PageTables::default();
        let addresses = [0, PAGE_SIZE, PMD_SIZE, PUD_SIZE, P4D_SIZE, PGDIR_SIZE];
        for (pfn, address) in (1..).zip(addresses) {
            tables.pte_alloc(address).unwrap().entry(address).set(Pte::new(pfn));
        }
        assert_eq!(addresses.map(|address| tables.pte(address).pfn()), [1, 2, 3, 4, 5, 6]);
        assert_eq!(tables.pte(2 * PAGE_SIZE), Pte::NONE);
        assert!(tables.leaf(2 * PMD_SIZE).is_none());
        assert!(tables.pmd(2 * PUD_SIZE).is_none());
        assert!(tables.pud(2 * P4D_SIZE).is_none());
        assert!(tables.pud(2 * PGDIR_SIZE).is_none());
    }

    #[test]
    fn a_huge_leaf_maps_every_page_of_its_span() {
        let tables = PageTables::default();
        let leaf = |pfn| Arc::new(AtomicPte::new(Pte::new(pfn)));
        tables.pmd_alloc(PMD_SIZE).unwrap().set(PMD_SIZE, Some(Slot::Huge(leaf(1000))));
        tables.pud_alloc(PUD_SIZE).unwrap().set(PUD_SIZE, Some(Slot::Huge(leaf(1 << 20))));
        let frame = |address| {
            let leaf = tables.leaf(address).unwrap();
            leaf.pfn(leaf.entry(address).get(), address)
        };
        assert_eq!(frame(PMD_SIZE), 1000);
        assert_eq!(frame(2 * PMD_SIZE - 1), 1511);
        assert_eq!(frame(PUD_SIZE + PMD_SIZE + 3 * PAGE_SIZE), (1 << 20) + 515);
        assert_eq!(frame(2 * PUD_SIZE - 1), (1 << 20) + (1 << 18) - 1);
        assert!(tables.leaf(0).is_none());
        assert!(tables.leaf(2 * PUD_SIZE).is_none());
    }

    #[test]
    fn no_table_is_made_where_a_leaf_is() {
        let tables = PageTables::default();
        let pmd = tables.pmd_alloc(0).unwrap();
        pmd.set(0, Some(Slot::Huge(Arc::default())));
        pmd.set(PMD_SIZE, Some(Slot::Migration));
        assert!(tables.pte_alloc(5 * PAGE_SIZE).is_none());
        assert!(tables.pte_alloc(PMD_SIZE).is_none());
        assert!(tables.leaf(PMD_SIZE).is_none());
        tables.pud_alloc(PUD_SIZE).unwrap().set(PUD_SIZE, Some(Slot::Huge(Arc::default())));
        assert!(tables.pmd_alloc(PUD_SIZE + PMD_SIZE).is_none());
    }

    proptest! {
        #[test]
        fn bits_change_one_at_a_time(bits in any::<[bool; 4]>(), pfn in 0u64..1 << 40) {
            let [write, dirty, young, special] = bits;
            let mut pte = Pte::new(pfn);
            pte = if write { pte.mkwrite() } else { pte };
            pte = if dirty { pte.mkdirty() } else { pte };
            pte = if young { pte.mkyoung() } else { pte };
            pte = if special { pte.mkspecial() } else { pte };
            let read = |pte: Pte| (pte.pfn(), pte.write(), pte.dirty(), pte.young(), pte.special());
            prop_assert_eq!(read(pte), (pfn, write, dirty, young, special));
            prop_assert_eq!(read(pte.wrprotect()), (pfn, false, dirty, young, special));
            prop_assert_eq!(read(pte.mkclean()), (pfn, write, false, young, special));
            prop_assert_eq!(read(pte.mkold()), (pfn, write, dirty, false, special));
            prop_assert!(!pte.none());
        }
    }
}
