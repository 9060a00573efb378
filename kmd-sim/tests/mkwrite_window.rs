//! A minimal reproducer for a store that vmwgfx can lose (quirk Q-16).
//!
//! `vmw_bo_vm_mkwrite` records the page and gives the reservation back. Only then does the core make the
//! entry writable (`finish_mkwrite_fault`), if it is what it was. In between, a submission can reserve the
//! object, find the record, write-protect what is inside of the bounds (the entry is read-only already, so it
//! does not change) and upload the page: the record is gone. The core finds the entry unchanged and makes it
//! writable and dirty. The store that follows is on no record; the mkwrite method does not look at dirty
//! bits, and so the device never sees it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use kmd_sim::lockdep::Task;
use kmd_sim::mm::fault::Thread;
use kmd_sim::mm::mm_struct::{Mm, MmapRead};
use kmd_sim::mm::vma::{Fault, Mkwrite, VmFault, VmFlags, VmOps};
use kmd_sim::soft_system::SoftSystem;
use kmd_sim::upstream::Upstream;
use kmd_sim::vmwgfx::bo::Bo;
use kmd_sim::vmwgfx::drv::VmwPrivate;
use kmd_sim::vmwgfx::page_dirty::Method;
use kmd_sim::vmwgfx::vm_ops::mapped;

const ADDRESS: u64 = 0x10_0000_0000;

/// The driver's callbacks, with a submission that comes as soon as mkwrite has given the object back.
#[derive(Debug)]
struct SubmittedBehindMkwrite {
    driver: Arc<dyn VmOps>,
    dev: Arc<VmwPrivate>,
    bo: Arc<Bo>,
    uploaded: Mutex<Vec<u64>>,
    submitted: AtomicBool,
}

impl SubmittedBehindMkwrite {
    /// What a batch that reads the object uploads.
    fn submit(&self) {
        let task = Task::new();
        let mut state = self.bo.reserve(&task);
        self.dev.bo_dirty_scan(&task, &self.bo, &mut state);
        let tracker = state.driver.dirty.as_mut().unwrap();
        tracker.transfer_to_res(&(0..self.bo.size), false, |run| self.uploaded.lock().unwrap().extend(run));
    }
}

impl VmOps for SubmittedBehindMkwrite {
    fn fault<'a>(&self, vmf: &VmFault, mmap: MmapRead<'a>) -> Fault<'a> {
        self.driver.fault(vmf, mmap)
    }

    fn has_mkwrite(&self) -> bool {
        true
    }

    fn pfn_mkwrite(&self, vmf: &VmFault, mmap: &MmapRead<'_>) -> Mkwrite {
        let result = self.driver.pfn_mkwrite(vmf, mmap);
        // Once: a thread that submits behind every fault would let no store through.
        if !self.submitted.swap(true, Ordering::Relaxed) {
            self.submit();
        }
        result
    }
}

/// Stores to a page that is mapped read-only; a batch comes in between. Returns what later batches upload.
fn uploaded_after_the_store(upstream: Upstream) -> Vec<u64> {
    let SoftSystem { machine, dev, .. } = SoftSystem::new(upstream);
    let bo = dev.bo_create(512 * 4096);
    let task = Task::new();
    dev.bo_dirty_add(&task, &bo, &mut bo.reserve(&task)).unwrap();
    let mut what = mapped(&dev, &bo, ADDRESS, VmFlags::SHARED_RW);
    let ops = Arc::new(SubmittedBehindMkwrite {
        driver: Arc::clone(&what.ops),
        dev: Arc::clone(&dev),
        bo: Arc::clone(&bo),
        uploaded: Mutex::default(),
        submitted: AtomicBool::new(false),
    });
    what.ops = Arc::clone(&ops) as Arc<dyn VmOps>;
    let mm = Mm::new(&machine);
    mm.mmap(&task, &dev.mapping, what);
    let thread = Thread::new(&mm);
    assert_eq!(thread.load(ADDRESS + 7 * 4096), Ok(0));

    thread.store(ADDRESS + 7 * 4096, 1).unwrap();

    ops.uploaded.lock().unwrap().clear();
    ops.submit();
    assert_eq!(bo.reserve(&task).driver.dirty.as_ref().unwrap().method(), Method::Mkwrite);
    ops.uploaded.lock().unwrap().clone()
}

#[test]
fn a_store_behind_a_batch_that_took_its_record_is_uploaded_by_the_next() {
    assert_eq!(uploaded_after_the_store(Upstream::default()), [7]);
}

#[test]
fn upstream_never_uploads_it() {
    assert_eq!(uploaded_after_the_store(Upstream::with_quirk("Q-16")), []);
}
