//! Mappings: what VMAs of any process map, by page offset (kernel: `struct address_space`).

use super::interval_tree::IntervalTree;
use super::machine::Machine;
use super::vma::Vma;
use crate::lockdep::{LockClass, Read, RwSem, Task, Write};
use crate::sync::Arc;

/// The VMAs of a mapping, by the page offsets they map: private ones, too.
pub type IMmap = IntervalTree<Arc<Vma>>;
/// `i_mmap_rwsem` held for reading: no page table of a member goes away, since a VMA leaves the tree before
/// its tables are freed.
pub type IMmapRead<'a> = Read<'a, IMmap>;
/// `i_mmap_rwsem` held for writing.
pub type IMmapWrite<'a> = Write<'a, IMmap>;

/// A mapping: one per DRM device, in which each buffer object has a window of page offsets.
#[derive(Debug)]
pub struct AddressSpace {
    /// The machine it is on.
    pub machine: Arc<Machine>,
    i_mmap: RwSem<IMmap>,
}

impl AddressSpace {
    /// A mapping that nobody maps.
    pub fn new(machine: &Arc<Machine>) -> Arc<Self> {
        Arc::new(Self {
            machine: Arc::clone(machine),
            i_mmap: RwSem::new(LockClass::IMmap, IMmap::default()),
        })
    }

    /// `i_mmap_lock_read`.
    pub fn i_mmap_lock_read<'a>(&'a self, task: &'a Task) -> IMmapRead<'a> {
        self.i_mmap.read(task)
    }

    /// `i_mmap_lock_write`.
    pub fn i_mmap_lock_write<'a>(&'a self, task: &'a Task) -> IMmapWrite<'a> {
        self.i_mmap.write(task)
    }

    /// Adds an area (`vma_link`).
    pub(super) fn link(&self, task: &Task, vma: &Arc<Vma>) {
        self.i_mmap_lock_write(task).insert(vma.pages(), Arc::clone(vma));
    }

    /// Puts areas in the place of one, in one step: a walk sees the one or the others (`vma_adjust`).
    pub(super) fn replace(&self, task: &Task, old: &Arc<Vma>, new: &[Arc<Vma>]) {
        let mut i_mmap = self.i_mmap_lock_write(task);
        i_mmap.remove(|linked| Arc::ptr_eq(linked, old));
        for vma in new {
            i_mmap.insert(vma.pages(), Arc::clone(vma));
        }
    }

    /// Removes an area (`unlink_file_vma`).
    pub(super) fn unlink(&self, task: &Task, vma: &Arc<Vma>) {
        self.i_mmap_lock_write(task).remove(|linked| Arc::ptr_eq(linked, vma));
    }
}
