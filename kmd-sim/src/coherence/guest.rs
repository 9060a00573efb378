//! Guest pages as a whole: how much memory they and their twins take, and where the application has them.

use super::arena::Arena;
use super::page::PageState;
use super::placed::Placed;
use super::state::State;
use crate::addr::PAGE_SIZE;
use crate::svga::HostDevice;

impl<H: HostDevice> State<H> {
    fn arenas(&self) -> impl Iterator<Item = &Arena> {
        self.tracking.iter().map(|tracking| &tracking.arena).chain(&self.explicit)
    }

    /// Bytes of guest pages that were touched, of twins, and of whole images. Looks at the state of every
    /// mapped page.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let guest: u64 = self.arenas().map(Arena::resident_bytes).sum();
        let mappings = || self.bos.values().filter_map(|bo| bo.mapping.as_ref());
        let pages = mappings().flat_map(|mapping| &mapping.pages);
        let twins = pages.filter(|page| **page == PageState::Shared).count() as u64;
        let images: usize = mappings().filter_map(|m| m.image.as_ref().map(|_| m.host.len())).sum();
        guest + twins * PAGE_SIZE + images as u64
    }

    /// Whether `address` lies in what the application has mapped of guest pages, or may have.
    pub(crate) fn is_guest_address(&self, address: usize) -> bool {
        let placed =
            self.bos.values().filter_map(|bo| bo.mapping.as_ref()?.placed.as_ref()).map(Placed::memory);
        let mut mappings = self.arenas().map(Arena::application).chain(placed);
        mappings.any(|mapping| address.wrapping_sub(mapping.as_ptr().addr()) < mapping.len())
    }
}
