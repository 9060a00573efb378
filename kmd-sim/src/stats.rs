//! Counters: what was scanned, compared and copied.

/// Counters since the device was created. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Times an object was mapped.
    pub maps: u64,
    /// Batches with commands that were submitted.
    pub batches: u64,
    /// Scan calls.
    pub scans: u64,
    /// Pages they looked at.
    pub pages_scanned: u64,
    /// Stretches of 2 MiB in which they protected pages, each time: other processors must forget those.
    pub stretches_protected: u64,
    /// Time spent scanning.
    pub scan_ns: u64,
    /// Pages the scans reported.
    pub pages_dirty: u64,
    /// Bytes in them that the CPU had changed; a store of the value that was there is none. Of a page that is
    /// taken to be rewritten, and not compared, all.
    pub cpu_bytes_written: u64,
    /// Pages that were not write-protected, since the CPU was about to write them.
    pub pages_opened: u64,
    /// Pages compared though they were not reported, since writes may land in them later.
    pub pages_watched: u64,
    /// Pages among them in which one had.
    pub pages_changed_late: u64,
    /// Pages that were not watched, since too many were.
    pub pages_unwatched: u64,
    /// Stretches of 2 MiB that became cold: scans leave them out until they are touched.
    pub stretches_cooled: u64,
    /// Times one was touched.
    pub stretches_warmed: u64,
    /// Bytes of the CPU that host memory was given.
    pub bytes_flushed: u64,
    /// Time spent comparing and storing them.
    pub flush_ns: u64,
    /// Bytes of coherent objects that submitted batches may write, each batch's counted once.
    pub write_set_bytes: u64,
    /// Bytes among them known to be written, so that no twin is needed.
    pub exact_bytes: u64,
    /// Pages that were given a twin.
    pub twins: u64,
    /// Times completed batches were looked at.
    pub pulls: u64,
    /// Bytes of host memory they read.
    pub bytes_compared: u64,
    /// Bytes stored to guest pages.
    pub bytes_pulled: u64,
    /// Time spent comparing and storing them.
    pub pull_ns: u64,
    /// Pages that were left behind: taken out of the application's page tables, to follow when it touches
    /// them.
    pub pages_zapped: u64,
    /// Touches of pages that were not in its page tables.
    pub lazy_faults: u64,
    /// Pages that were brought up to date by them.
    pub lazy_pages_pulled: u64,
    /// Regions of 2 MiB, last left behind.
    pub regions_lazy: u64,
    /// Regions brought up to date at completion last, where there was a choice.
    pub regions_eager: u64,
    /// Bytes explicit flushes moved.
    pub explicit_bytes_flushed: u64,
    /// Bytes explicit invalidates moved.
    pub explicit_bytes_invalidated: u64,
}

impl Stats {
    /// Adds another device's counters.
    pub fn add(&mut self, other: &Self) {
        // By name, so that a new counter cannot be forgotten.
        let Self {
            maps,
            batches,
            scans,
            pages_scanned,
            stretches_protected,
            scan_ns,
            pages_dirty,
            cpu_bytes_written,
            pages_opened,
            pages_watched,
            pages_changed_late,
            pages_unwatched,
            stretches_cooled,
            stretches_warmed,
            bytes_flushed,
            flush_ns,
            write_set_bytes,
            exact_bytes,
            twins,
            pulls,
            bytes_compared,
            bytes_pulled,
            pull_ns,
            pages_zapped,
            lazy_faults,
            lazy_pages_pulled,
            regions_lazy,
            regions_eager,
            explicit_bytes_flushed,
            explicit_bytes_invalidated,
        } = other;
        self.maps += maps;
        self.batches += batches;
        self.scans += scans;
        self.pages_scanned += pages_scanned;
        self.stretches_protected += stretches_protected;
        self.scan_ns += scan_ns;
        self.pages_dirty += pages_dirty;
        self.cpu_bytes_written += cpu_bytes_written;
        self.pages_opened += pages_opened;
        self.pages_watched += pages_watched;
        self.pages_changed_late += pages_changed_late;
        self.pages_unwatched += pages_unwatched;
        self.stretches_cooled += stretches_cooled;
        self.stretches_warmed += stretches_warmed;
        self.bytes_flushed += bytes_flushed;
        self.flush_ns += flush_ns;
        self.write_set_bytes += write_set_bytes;
        self.exact_bytes += exact_bytes;
        self.twins += twins;
        self.pulls += pulls;
        self.bytes_compared += bytes_compared;
        self.bytes_pulled += bytes_pulled;
        self.pull_ns += pull_ns;
        self.pages_zapped += pages_zapped;
        self.lazy_faults += lazy_faults;
        self.lazy_pages_pulled += lazy_pages_pulled;
        self.regions_lazy += regions_lazy;
        self.regions_eager += regions_eager;
        self.explicit_bytes_flushed += explicit_bytes_flushed;
        self.explicit_bytes_invalidated += explicit_bytes_invalidated;
    }
}
