//! Our SIGSEGV handler among others: what it resolves, what it passes on, and who is in front.
//!
//! It is installed when memory is first tracked and goes when no tracked memory is left. Faults that are not
//! ours are passed on to the action that was installed before, as the kernel would have delivered them. An
//! application that installs a handler of its own later finds ours as the old one; at the next scan ours is
//! put in front again, and passes on to theirs. Theirs may in turn pass on to ours: then it goes to the
//! action before theirs.
//!
//! Who has replaced the handler once does so again, and most likely when memory is mapped: a capture layer
//! takes its handler away when nothing is mapped, and on the next map installs it behind our back. It holds a
//! lock while it copies to mapped memory, and its handler takes that lock. So from then on each map opens
//! what was closed: no store faults until the next scan, which looks who is in front first.
//!
//! Nothing that runs in the handler allocates, locks, logs or touches thread-local storage.

use super::Watched;
use super::list::List;
use super::reentry::Reentries;
use crate::error::Result;
use crate::sync::machine::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use crate::sys::rundown::Slot;
use crate::sys::sigsegv::{Action, Disposition, Fault};

/// Tracked memory. Slots are used again, so there are as many as there ever were trackers at a time.
pub(super) static REGIONS: List<Slot<Arc<Watched>>> = List::new();

/// All actions that were ever found in our place, each with the one before it: once for each order they came
/// in.
static ACTIONS: List<Link> = List::new();
/// Index of the action that faults are passed on to.
static HEAD: AtomicUsize = AtomicUsize::new(NONE);
const NONE: usize = usize::MAX;

static PASSED_ON: Reentries = Reentries::new();

static INSTALLED: Mutex<Installed> =
    Mutex::new(Installed { trackers: 0, left_behind: false, replaced: false });

/// An action in a chain.
#[derive(Debug)]
struct Link {
    action: Action,
    /// Index of the one it may pass on to by way of ours.
    older: usize,
    /// `SA_RESETHAND` has made it the default action.
    spent: AtomicBool,
}

/// Protects changes of the process's action.
#[derive(Debug)]
struct Installed {
    trackers: usize,
    /// No tracker is left, but a handler that was installed after ours may pass on to it.
    left_behind: bool,
    /// Somebody has replaced our handler while memory was tracked.
    replaced: bool,
}

/// A place in the list of tracked memory. While it exists the handler is installed.
#[derive(Debug)]
pub(super) struct Registration(&'static Slot<Arc<Watched>>);

impl Registration {
    /// Installs the handler, and has it resolve faults in `watched`.
    pub(super) fn new(watched: &Arc<Watched>) -> Result<Self> {
        let mut installed = lock();
        put_in_front(&mut installed)?;
        installed.trackers += 1;
        let filled = REGIONS.iter().find(|slot| slot.fill(Arc::clone(watched)).is_ok());
        Ok(Self(filled.unwrap_or_else(|| {
            let slot = Slot::default();
            // INVARIANT: a new slot is empty.
            let _ = slot.fill(Arc::clone(watched));
            REGIONS.push(slot).1
        })))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Waits for handlers that are at it: no `mprotect` of theirs meets what is mapped there next.
        self.0.empty();
        let mut installed = lock();
        installed.trackers -= 1;
        if installed.trackers == 0 {
            installed.left_behind = step_back().is_none_or(|link| link.older != NONE);
        }
    }
}

fn lock() -> MutexGuard<'static, Installed> {
    INSTALLED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts our handler in front again if somebody has replaced it.
pub(super) fn stay_in_front() -> Result<()> {
    put_in_front(&mut lock())
}

/// Has no store fault until the next scan, if somebody may now replace our handler who did before.
pub(super) fn expect_others() -> Result<()> {
    let mut installed = lock();
    put_in_front(&mut installed)?;
    if installed.replaced {
        REGIONS.iter().for_each(|slot| {
            slot.with(|watched| watched.open());
        });
    }
    Ok(())
}

/// Makes our handler the action of the process. If it was replaced, the other handler may have opened pages
/// meanwhile, so that all tracked memory counts as written. All of it does when the lock is given back: no
/// other scan finds the handler in place and a written page clean.
fn put_in_front(installed: &mut Installed) -> Result<()> {
    let current = Action::current()?;
    if current.is_ours() {
        return Ok(());
    }
    let head = HEAD.load(Ordering::Relaxed);
    match ACTIONS.get(head) {
        // Where it was before.
        Some(link) if link.action == current => link.spent.store(false, Ordering::Relaxed),
        // Known before it is replaced: a fault may come at any time.
        Some(_) if installed.trackers != 0 || installed.left_behind => remember(current, head),
        _ => remember(current, NONE),
    }
    let replaced = Action::ours(&current, on_fault).install()?;
    if !replaced.is_ours() && replaced != current {
        remember(replaced, HEAD.load(Ordering::Relaxed));
    }
    REGIONS.iter().for_each(|slot| {
        slot.with(|watched| watched.soil());
    });
    if installed.trackers != 0 {
        installed.replaced = true;
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            log::warn!(
                "the application has replaced the SIGSEGV handler of tracker sigsegv: put in front again, faults \
                 of the application go to its own"
            );
        });
    }
    Ok(())
}

/// Makes `action` the one that faults are passed on to, before those of the chain that begins at `older`. It
/// is no longer where it was in there: handlers that take turns make no chain that grows.
fn remember(action: Action, older: usize) {
    let index = link(action, without(older, &action), false);
    // Release: who finds the index finds the link.
    HEAD.store(index, Ordering::Release);
}

/// Index of a chain of the actions of the one that begins at `index`, but for `action`.
fn without(index: usize, action: &Action) -> usize {
    match ACTIONS.get(index) {
        Some(found) if found.action == *action => found.older,
        Some(found) => match without(found.older, action) {
            older if older == found.older => index,
            older => link(found.action, older, found.spent.load(Ordering::Relaxed)),
        },
        None => NONE,
    }
}

/// Index of the link with these contents.
fn link(action: Action, older: usize, spent: bool) -> usize {
    match ACTIONS.iter().enumerate().find(|(_, link)| link.action == action && link.older == older) {
        Some((index, link)) => {
            link.spent.store(spent, Ordering::Relaxed);
            index
        }
        None => ACTIONS.push(Link { action, older, spent: AtomicBool::new(spent) }).0,
    }
}

/// Gives the signal back to the action it was taken from, and returns that; `None` if somebody else has it by
/// now.
fn step_back() -> Option<&'static Link> {
    let link = ACTIONS.get(HEAD.load(Ordering::Relaxed))?;
    if !Action::current().ok()?.is_ours() {
        return None;
    }
    let action = if link.spent.load(Ordering::Relaxed) { Action::default() } else { link.action };
    let replaced = action.install().ok()?;
    if !replaced.is_ours() {
        // Somebody came in between.
        let _ = replaced.install();
        return None;
    }
    Some(link)
}

/// The handler.
fn on_fault(fault: &Fault<'_>) {
    if fault.is_protected_store() {
        let address = fault.address();
        let resolved =
            |slot: &Slot<Arc<Watched>>| slot.with(|watched| watched.resolve(address)) == Some(true);
        if REGIONS.iter().any(resolved) {
            return;
        }
    }
    pass_on(fault);
}

/// Passes a fault on that is not ours.
fn pass_on(fault: &Fault<'_>) {
    let turn = PASSED_ON.enter(fault.context(), fault.frame());
    // Acquire: partner of the release in `remember`.
    let mut link = ACTIONS.get(HEAD.load(Ordering::Acquire));
    for _ in 0..turn.depth() {
        link = link.and_then(|link| ACTIONS.get(link.older));
    }
    match link {
        Some(link) if link.action.disposition() == Disposition::Handler => {
            if link.action.is_one_shot() && link.spent.swap(true, Ordering::Relaxed) {
                fault.end_process();
            } else {
                link.action.deliver(fault);
            }
        }
        Some(link) if link.action.disposition() == Disposition::Ignore && !fault.is_synchronous() => {}
        _ => fault.end_process(),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn links() -> impl Iterator<Item = &'static Link> {
        let head = ACTIONS.get(HEAD.load(Ordering::Relaxed));
        std::iter::successors(head, |link| ACTIONS.get(link.older))
    }

    /// The actions a fault is passed on to, one after the other.
    fn chain() -> Vec<Action> {
        links().map(|link| link.action).collect()
    }

    fn replaced_by(action: Action) {
        remember(action, HEAD.load(Ordering::Relaxed));
    }

    #[test]
    fn handlers_that_take_turns_are_in_the_chain_once_each_and_take_no_more_memory() {
        let [first, second, third] = [64, 128, 192].map(Action::at);
        for action in [first, second, third] {
            replaced_by(action);
        }
        assert_eq!(chain(), [third, second, first]);
        for _ in 0..100 {
            replaced_by(second);
            assert_eq!(chain(), [second, third, first]);
            replaced_by(third);
            assert_eq!(chain(), [third, second, first]);
        }
        assert_eq!(ACTIONS.iter().count(), 5);
    }

    #[test]
    fn a_handler_of_one_shot_stays_spent_when_another_leaves_the_chain() {
        let [first, second, third] = [64, 128, 192].map(Action::at);
        replaced_by(first);
        replaced_by(second);
        links().next().unwrap().spent.store(true, Ordering::Relaxed);
        replaced_by(third);
        replaced_by(first);
        assert_eq!(chain(), [first, third, second]);
        assert_eq!(
            links().map(|link| link.spent.load(Ordering::Relaxed)).collect::<Vec<_>>(),
            [false, false, true]
        );
    }
}
