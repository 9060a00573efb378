//! How much system memory guest pages and twins take.

use super::page::PageState;
use super::state::State;
use crate::addr::PAGE_SIZE;
use crate::svga::HostDevice;

impl<H: HostDevice> State<H> {
    /// Bytes of guest pages that were touched, and of twins. Looks at the state of every mapped page.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let arenas = self.tracking.iter().map(|tracking| &tracking.arena).chain(&self.explicit);
        let guest: u64 = arenas.map(|arena| arena.resident_bytes()).sum();
        let pages = self.bos.values().filter_map(|bo| bo.mapping.as_ref()).flat_map(|mapping| &mapping.pages);
        let twins = pages.filter(|page| **page == PageState::Shared).count() as u64;
        guest + twins * PAGE_SIZE
    }
}
