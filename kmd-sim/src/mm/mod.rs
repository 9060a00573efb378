//! The kernel's memory management on the soft machine, with what patches 1 to 4 of the series changed in
//! `mm/`.
//!
//! | module | kernel file | patch |
//! |---|---|---|
//! | [`mapping_dirty_helpers`] | `mm/mapping_dirty_helpers.c` | 4 |
//! | [`pagewalk`] | `mm/pagewalk.c` | 2, 3 |
//! | [`huge_memory`] | `mm/huge_memory.c` | 1 |
//! | [`memory`] | `mm/memory.c`: entries come and go | – |
//! | [`fault`] | `mm/memory.c`: the fault path | – |
//! | [`mm_struct`] | `mm/mmap.c`, `mm/mremap.c`, `kernel/fork.c` | – |
//! | [`vma`] | `linux/mm_types.h` | – |
//! | [`address_space`], [`interval_tree`] | `struct address_space`, `mm/interval_tree.c` | – |
//! | [`mmu_notifier`] | `linux/mmu_notifier.h` | – |
//! | [`machine`] | the machine all of it runs on | – |
//!
//! On the pages of a real process the same is done by the real kernel: [`crate::mmu`].

pub mod address_space;
pub mod fault;
pub mod huge_memory;
pub mod interval_tree;
pub mod machine;
pub mod mapping_dirty_helpers;
pub mod memory;
pub mod mm_struct;
pub mod mmu_notifier;
pub mod pagewalk;
pub mod vma;
