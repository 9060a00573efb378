//! CPUs: loads and stores of one byte, by way of the translation buffer and the page table.

use super::Hardware;
use super::page_table::PageTables;
use super::tlb::{Asid, Tlb, TlbEntry};
use crate::addr::{PAGE_BYTES, PAGE_SIZE};
use crate::sync::Arc;

/// An access that the page table does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// What was accessed.
    pub address: u64,
    /// Whether it was a store.
    pub write: bool,
}

/// A CPU. A clone is another thread of it, with the same buffer.
#[derive(Clone, Debug)]
pub struct Cpu {
    hardware: Arc<Hardware>,
    /// Its translation buffer.
    pub tlb: Arc<Tlb>,
}

impl Cpu {
    pub(super) fn new(hardware: Arc<Hardware>) -> Self {
        let tlb = hardware.tlbs.add();
        Self { hardware, tlb }
    }

    /// Tries to load one byte.
    pub fn load(&self, tables: &PageTables, asid: Asid, address: u64) -> Result<u8, PageFault> {
        let mut tlb = self.tlb.lock();
        let page = (asid, address / PAGE_SIZE);
        let pfn = match tlb.get(&page) {
            Some(entry) => entry.pfn,
            None => {
                let entry = walk(tables, address, false)?;
                tlb.insert(page, entry);
                entry.pfn
            }
        };
        Ok(self.hardware.phys.page(pfn).load(offset(address)))
    }

    /// Tries to store one byte.
    pub fn store(&self, tables: &PageTables, asid: Asid, address: u64, value: u8) -> Result<(), PageFault> {
        let mut tlb = self.tlb.lock();
        let page = (asid, address / PAGE_SIZE);
        let pfn = match tlb.get(&page) {
            Some(entry) if entry.write && entry.dirty => entry.pfn,
            // To set the dirty bit the hardware reads the entry again.
            _ => {
                tlb.remove(&page);
                let entry = walk(tables, address, true)?;
                tlb.insert(page, entry);
                entry.pfn
            }
        };
        self.hardware.phys.page(pfn).store(offset(address), value);
        Ok(())
    }
}

/// Finds the entry for an address and marks it accessed, and dirty for a store.
fn walk(tables: &PageTables, address: u64, store: bool) -> Result<TlbEntry, PageFault> {
    let fault = PageFault { address, write: store };
    let leaf = tables.leaf(address).ok_or(fault)?;
    let pte = leaf.entry(address).access(store).ok_or(fault)?;
    Ok(TlbEntry { pfn: leaf.pfn(pte, address), write: pte.write(), dirty: pte.dirty() })
}

fn offset(address: u64) -> usize {
    usize::try_from(address % PAGE_SIZE).expect("less than a page") % PAGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmu::soft::page_table::{PMD_SIZE, Pte};

    const ASID: Asid = 1;
    const AT: u64 = 5 * PMD_SIZE + PAGE_SIZE;

    /// Two CPUs, and a page table that maps `AT` to a frame, writable and clean.
    fn machine() -> (Arc<Hardware>, PageTables, [Cpu; 2]) {
        let hardware = Arc::<Hardware>::default();
        let pfn = hardware.phys.alloc(1);
        let tables = PageTables::default();
        tables.pte_alloc(AT).unwrap().entry(AT).set(Pte::new(pfn).mkwrite());
        let cpus = [hardware.cpu(), hardware.cpu()];
        (hardware, tables, cpus)
    }

    fn set(tables: &PageTables, change: impl Fn(Pte) -> Pte) {
        let table = tables.pte_alloc(AT).unwrap();
        table.entry(AT).set(change(table.entry(AT).take()));
    }

    #[test]
    fn accesses_set_the_bits_of_the_entry() {
        let (_, tables, [cpu, _]) = machine();
        cpu.load(&tables, ASID, AT).unwrap();
        assert!(tables.pte(AT).young() && !tables.pte(AT).dirty());
        cpu.store(&tables, ASID, AT + 9, 7).unwrap();
        assert!(tables.pte(AT).dirty());
        assert_eq!(cpu.load(&tables, ASID, AT + 9), Ok(7));
    }

    #[test]
    fn a_remembered_dirty_entry_is_stored_through_until_the_flush() {
        let (hardware, tables, [cpu, _]) = machine();
        cpu.store(&tables, ASID, AT, 1).unwrap();
        set(&tables, |pte| pte.mkclean().wrprotect());
        cpu.store(&tables, ASID, AT, 2).unwrap();
        assert!(!tables.pte(AT).dirty());
        hardware.tlbs.flush(ASID, &(AT..AT + PAGE_SIZE));
        assert_eq!(cpu.store(&tables, ASID, AT, 3), Err(PageFault { address: AT, write: true }));
        assert_eq!(cpu.load(&tables, ASID, AT), Ok(2));
    }

    #[test]
    fn a_remembered_clean_entry_is_read_again_for_a_store() {
        let (_, tables, [cpu, _]) = machine();
        cpu.load(&tables, ASID, AT).unwrap();
        let remembered = cpu.tlb.lookup(ASID, AT).unwrap();
        assert!(remembered.write && !remembered.dirty);
        set(&tables, Pte::wrprotect);
        assert!(cpu.store(&tables, ASID, AT, 1).is_err());
        set(&tables, Pte::mkwrite);
        cpu.store(&tables, ASID, AT, 1).unwrap();
        assert!(tables.pte(AT).dirty());
    }

    #[test]
    fn a_flush_reaches_every_cpu_and_no_other_page_or_address_space() {
        let (hardware, tables, cpus) = machine();
        let other = ASID + 1;
        for cpu in &cpus {
            cpu.store(&tables, ASID, AT, 1).unwrap();
            cpu.store(&tables, other, AT, 1).unwrap();
        }
        hardware.tlbs.flush(ASID, &(AT + PAGE_SIZE..AT + 2 * PAGE_SIZE));
        assert!(cpus.iter().all(|cpu| cpu.tlb.lookup(ASID, AT).is_some()));
        hardware.tlbs.flush(ASID, &(AT..AT + PAGE_SIZE));
        assert!(cpus.iter().all(|cpu| cpu.tlb.lookup(ASID, AT).is_none()));
        assert!(cpus.iter().all(|cpu| cpu.tlb.lookup(other, AT).is_some()));
    }

    #[test]
    fn an_entry_that_is_gone_faults_and_leaves_no_translation() {
        let (_, tables, [cpu, _]) = machine();
        set(&tables, |_| Pte::NONE);
        assert_eq!(cpu.load(&tables, ASID, AT), Err(PageFault { address: AT, write: false }));
        assert_eq!(cpu.tlb.lookup(ASID, AT), None);
    }
}
