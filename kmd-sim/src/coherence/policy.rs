//! When the CPU is given what the device wrote: at completion, or when it touches it.
//!
//! Objects are looked at in *regions* of 2 MiB. One that is lazy costs taking its pages out of the
//! application's page tables, and a fault for each window that the CPU looks into; one that is eager costs
//! comparing and copying all that was written. So a region that the CPU mostly reads is eager, and what it
//! hardly reads is lazy. All numbers of that are here; no decision can lose a byte.
//!
//! What goes beyond the series for speed alone can be switched off, to compare with: [`Method`].

use std::ops::Range;

use crate::mmu::tracker::Readback;

/// Pages of a region.
pub const REGION: u64 = 512;
/// Pages a set must have in a region for a fault to be cheaper than comparing them.
const LEAST: u64 = 16;
/// Completions that a region stays eager when the CPU has read most of it, the first time and at most.
const PATIENCE: Range<u32> = 4..256;
/// Pages of a window, at least and at most.
const WINDOW: Range<u64> = 16..256;

/// Whose policies a device follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Ours: what the benchmark shows to pay.
    #[default]
    Auto,
    /// The series': every page that was written is write-protected again, what the device wrote is brought to
    /// the CPU at completion.
    Series,
}

/// What is done with a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is brought up to date at completion.
    Eager,
    /// It is brought up to date window by window, when the CPU touches it.
    Lazy,
}

/// What is known of a region.
#[derive(Clone, Debug)]
pub struct Region {
    /// Completions left until it is tried lazily.
    eager: u32,
    /// Completions it will be eager for when it is found to be read.
    patience: u32,
    /// Pages left behind last time, and how many of them were brought up to date since.
    left: u64,
    touched: u64,
    /// What was decided last.
    pub way: Option<Way>,
}

impl Default for Region {
    fn default() -> Self {
        Self { eager: 0, patience: PATIENCE.start, left: 0, touched: 0, way: None }
    }
}

impl Region {
    /// The CPU touched a window with so many of the pages that were left behind.
    pub fn touch(&mut self, pages: u64) {
        self.touched += pages;
    }

    /// Decides by what the CPU read.
    fn by_use(&mut self, pages: u64) -> Way {
        if pages < LEAST {
            return Way::Eager;
        }
        if self.eager > 0 {
            self.eager -= 1;
            return Way::Eager;
        }
        let (left, touched) = (std::mem::take(&mut self.left), std::mem::take(&mut self.touched));
        if left != 0 && touched * 2 >= left {
            // This completion is the first.
            self.eager = self.patience - 1;
            self.patience = (self.patience * 2).min(PATIENCE.end);
            return Way::Eager;
        }
        if touched * 8 < left {
            self.patience = PATIENCE.start;
        }
        self.left = pages;
        Way::Lazy
    }
}

/// How a device decides.
#[derive(Debug)]
pub struct Policy(pub Readback);

impl Policy {
    /// Whether an object of so many pages can have a lazy region.
    pub fn may_be_lazy(&self, pages: u64) -> bool {
        match self.0 {
            Readback::Auto => pages >= LEAST,
            Readback::Eager => false,
            Readback::Lazy | Readback::Lots(_) => true,
        }
    }

    /// What to do with a region of which completed batches may have written so many pages.
    pub fn decide(&mut self, region: &mut Region, pages: u64) -> Way {
        match &mut self.0 {
            Readback::Auto => region.by_use(pages),
            Readback::Eager => Way::Eager,
            Readback::Lazy => Way::Lazy,
            Readback::Lots(seed) => {
                *seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                if seed.leading_zeros() == 0 { Way::Lazy } else { Way::Eager }
            }
        }
    }
}

/// What the CPU touches at once is brought up to date at once: more behind what it touched last, less
/// elsewhere.
#[derive(Clone, Debug)]
pub struct Window {
    last: Range<u64>,
    pages: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { last: 0..0, pages: WINDOW.start }
    }
}

impl Window {
    /// The window for a touch of `page`, in an object of `count` pages.
    pub fn at(&mut self, page: u64, count: u64) -> Range<u64> {
        self.pages = match !self.last.is_empty() && page == self.last.end {
            true => (self.pages * 2).min(WINDOW.end),
            false => (self.pages / 2).max(WINDOW.start),
        };
        let start = if page == self.last.end { page } else { page / self.pages * self.pages };
        self.last = start..(start + self.pages).min(count);
        self.last.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Completions of a region of which the CPU reads `read` pages where it was left behind: how each was
    /// decided.
    fn completions(region: &mut Region, count: usize, read: u64) -> Vec<Way> {
        let mut policy = Policy(Readback::Auto);
        let mut one = || {
            let way = policy.decide(region, REGION);
            region.touch(if way == Way::Lazy { read } else { 0 });
            way
        };
        (0..count).map(|_| one()).collect()
    }

    #[test]
    fn what_is_hardly_read_is_left_behind_from_the_start() {
        assert_eq!(completions(&mut Region::default(), 20, 16), [Way::Lazy; 20]);
    }

    #[test]
    fn what_is_read_is_tried_less_and_less_often() {
        let ways = completions(&mut Region::default(), 2000, REGION);
        let tries: Vec<_> = (0..2000).filter(|at| ways[*at] == Way::Lazy).collect();
        assert_eq!(tries, [0, 5, 14, 31, 64, 129, 258, 515, 772, 1029, 1286, 1543, 1800]);
    }

    #[test]
    fn what_is_not_read_any_more_is_left_behind_and_forgiven() {
        let mut region = Region::default();
        completions(&mut region, 100, REGION);
        let ways = completions(&mut region, 200, 0);
        let first = ways.iter().position(|way| *way == Way::Lazy).unwrap();
        assert!(first <= 64 && ways[first..].iter().all(|way| *way == Way::Lazy), "{ways:?}");
        assert_eq!(completions(&mut region, 6, REGION)[2..], [Way::Eager, Way::Eager, Way::Eager, Way::Lazy]);
    }

    #[test]
    fn a_few_pages_are_eager_whoever_reads_them() {
        let mut policy = Policy(Readback::Auto);
        assert_eq!(policy.decide(&mut Region::default(), LEAST - 1), Way::Eager);
        assert_eq!(policy.decide(&mut Region::default(), LEAST), Way::Lazy);
    }

    #[test]
    fn windows_grow_along_the_way_and_shrink_elsewhere() {
        let mut window = Window::default();
        assert_eq!(window.at(0, 4096), 0..16);
        assert_eq!(window.at(16, 4096), 16..48);
        assert_eq!(window.at(48, 4096), 48..112);
        assert_eq!(window.at(1000, 4096), 992..1024);
        assert_eq!(window.at(5, 4096), 0..16);
        assert_eq!(window.at(4095, 4096), 4080..4096);
        assert_eq!(window.at(2, 3), 0..3);
    }

    proptest! {
        #[test]
        fn a_window_has_the_page_and_no_page_that_is_not(
            touches in prop::collection::vec((0u64..600, any::<bool>()), 1..100),
            count in 1u64..600,
        ) {
            let mut window = Window::default();
            let mut next = 0;
            for (page, sequential) in touches {
                let page = if sequential { next } else { page } % count;
                let found = window.at(page, count);
                prop_assert!(found.contains(&page) && found.end <= count && found.end - found.start <= WINDOW.end);
                next = found.end;
            }
        }
    }
}
