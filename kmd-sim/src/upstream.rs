//! Which kernel the soft machine behaves like.
//!
//! A [`Profile`] is a kernel that was released, or posted: rules that changed without having been wrong. A
//! *quirk* is a defect. All quirks are off by default in every profile, so that the default is what the
//! series means to do; with one on, the machine loses bytes the way upstream does.

/// A state of the series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// The fifth posting, October 2019.
    V5Mail,
    /// As merged: Linux 5.5.
    V5_5,
    /// Linux 6.12.
    V6_12,
    /// The newest tree that was read, 2026.
    #[default]
    Latest,
}

impl Profile {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::V5Mail, Self::V5_5, Self::V6_12, Self::Latest];

    /// A second walker of one `mm` flushes the whole range it walked, and not only what it changed
    /// (`wp_clean_post_vma`).
    pub fn flushes_for_nested_walkers(self) -> bool {
        self >= Self::V5_5
    }

    /// Entry callbacks choose what happens to an entry (`walk->action`); before, huge entries were split.
    pub fn has_walk_action(self) -> bool {
        self >= Self::V6_12
    }

    /// A fault that must not retry waits for a reserved object; before, it went back to user space and
    /// came again.
    pub fn blocks_on_reservation(self) -> bool {
        self >= Self::V6_12
    }

    /// A fault that was retried may be retried again, for as long as its handler asks.
    pub fn retries_more_than_once(self) -> bool {
        self >= Self::V6_12
    }

    /// Fences know what they are for (`enum dma_resv_usage`), so that a fault waits for those of the kernel
    /// alone; before, there was one for moves (`ttm_buffer_object.moving`).
    pub fn has_resv_usage(self) -> bool {
        self >= Self::V6_12
    }

    /// TTM takes all mappings of an object down before it moves it.
    pub fn zaps_on_move(self) -> bool {
        self >= Self::V6_12
    }

    /// A dirty range that reaches from one sample sheet into the next marks everything.
    pub fn marks_all_across_sheets(self) -> bool {
        self >= Self::V6_12
    }

    /// A device that knows `DX_UPDATE_SUBRESOURCE` is sent it.
    pub fn uses_dx_update(self) -> bool {
        self >= Self::V6_12
    }

    /// Batches may use unordered-access views.
    pub fn has_sm5(self) -> bool {
        self >= Self::V6_12
    }

    /// A write fault inserts the page writable at once, and the driver records it there.
    pub fn maps_writable_on_write_fault(self) -> bool {
        self >= Self::Latest
    }
}

/// Declares the quirks, so that a new one cannot be left out of [`Quirks::ALL`].
macro_rules! quirks {
    ($($(#[$doc:meta])* $name:ident = $id:literal,)*) => {
        /// Defects of upstream, by the number `docs/series.md` gives them. All off by default.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Quirks {
            $($(#[$doc])* pub $name: bool,)*
        }

        impl Quirks {
            /// Number and switch of each.
            pub const ALL: &[(&str, fn(&mut Self) -> &mut bool)] =
                &[$(($id, |quirks| &mut quirks.$name),)*];
        }
    };
}

quirks! {
    /// A VMA that is filtered out ends the whole walk of a mapping.
    walk_stops_at_filtered_vma = "Q-01",
    /// Bounds that were empty start at the number of pages walked, not at the first page found.
    loose_start_of_bounds = "Q-02",
    /// The transfer to a resource reaches as far as anything is dirty.
    transfer_beyond_resource = "Q-03",
    /// A resource is attached by its old offset when its backing object changes.
    attach_by_old_offset = "Q-04",
    /// Moves and `munmap` drop the dirty bits of page tables.
    zap_loses_dirty = "Q-05",
    /// Of a batch's dirty flags for a resource the last wins, whatever draws come after it.
    last_dirty_flag_wins = "Q-06",
    /// A fault reads back resources up to 4096 pages ahead.
    clean_window_of_4096_pages = "Q-07",
    /// The lookup for a fault misses resources that overlap, and takes the last one's end for the farthest.
    overlaps_missed = "Q-08",
    /// The union of two boxes shrinks when the low edge moves.
    box_union_shrinks = "Q-09",
    /// The switch to the page-table method marks all pages inside of the bounds.
    switch_marks_all = "Q-10",
    /// A buffer range beyond its texels makes a box of no or of negative size.
    stream_output_tail = "Q-11",
    /// A failed validation gives back tracker references it never took.
    backoff_releases_too_much = "Q-12",
    /// Mode setting unreserves its objects before it has said what is dirty.
    fence_before_unreserve = "Q-13",
    /// Nobody waits for the readback of an eviction.
    eviction_not_awaited = "Q-14",
    /// Planar and multisampled surfaces get boxes that are too small.
    partial_boxes_of_planar = "Q-15",
    /// After mkwrite has recorded a page, a batch can take the record before the entry is made writable: what
    /// is stored then is nowhere on record.
    entry_widened_unreserved = "Q-16",
    /// A batch that binds a surface to another object and writes it leaves what processes map of that object
    /// as it was: they go on with pages that the device has newer.
    switch_leaves_pages_mapped = "Q-17",
    /// A write fault that waited for a batch marks its page after the batch made the resource dirty.
    late_mkwrite = "R-08",
}

impl Quirks {
    /// Only the quirk with this number.
    ///
    /// # Panics
    /// If there is none.
    pub fn only(id: &str) -> Self {
        let mut quirks = Self::default();
        let (_, switch) = Self::ALL.iter().find(|(known, _)| *known == id).expect("no quirk of this number");
        *switch(&mut quirks) = true;
        quirks
    }
}

/// What the soft machine is to behave like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upstream {
    /// The kernel.
    pub profile: Profile,
    /// Its defects, as far as wanted.
    pub quirks: Quirks,
}

impl Upstream {
    /// A kernel without its defects.
    pub fn fixed(profile: Profile) -> Self {
        Self { profile, quirks: Quirks::default() }
    }

    /// The newest kernel with one defect.
    pub fn with_quirk(id: &str) -> Self {
        Self { profile: Profile::default(), quirks: Quirks::only(id) }
    }
}
