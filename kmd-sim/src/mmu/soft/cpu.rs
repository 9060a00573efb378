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

/// A CPU.
#[derive(Debug)]
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
