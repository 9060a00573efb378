//! The soft machine's hardware: what a processor manual describes.
//!
//! Page tables of five levels with atomic entries, physical memory, and CPUs with translation buffers that
//! load, store and fault. What the kernel makes of it is [`crate::mm`].
//!
//! | module | what it is |
//! |---|---|
//! | [`page_table`] | entries and tables; a walk as the hardware does it |
//! | [`phys`] | physical pages |
//! | [`tlb`] | what CPUs remember of entries, and its flushes |
//! | [`cpu`] | loads and stores |

pub mod cpu;
pub mod page_table;
pub mod phys;
pub mod tlb;

use crate::sync::Arc;

/// Memory and CPUs.
#[derive(Debug, Default)]
pub struct Hardware {
    /// Physical memory.
    pub phys: phys::PhysMem,
    /// The translation buffers of all CPUs.
    pub tlbs: tlb::Tlbs,
}

impl Hardware {
    /// Another CPU.
    pub fn cpu(self: &Arc<Self>) -> cpu::Cpu {
        cpu::Cpu::new(Arc::clone(self))
    }
}
