//! Tables from handles to the state kept for them.
//!
//! The handles are the host driver's own. It may give the same value again after a destroy, so entries
//! die with their object.
//!
//! A lock for each table, since the maps of libraries that need none keep a number for each thread in
//! thread-local storage, and panic when an application calls Vulkan from a destructor at exit. What polls or
//! records does not come here.

use std::hash::Hash;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use rustc_hash::FxHashMap;

/// State by handle. Lookups from several threads run side by side.
#[derive(Debug)]
pub struct HandleMap<K, V>(LazyLock<RwLock<FxHashMap<K, Arc<V>>>>);

impl<K: Eq + Hash + Copy, V> HandleMap<K, V> {
    /// An empty table.
    pub const fn new() -> Self {
        Self(LazyLock::new(|| RwLock::new(FxHashMap::default())))
    }

    /// The state of `handle`.
    pub fn get(&self, handle: K) -> Option<Arc<V>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&handle).cloned()
    }

    /// Enters a handle; a dead entry with the same value is replaced.
    pub fn insert(&self, handle: K, state: Arc<V>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(handle, state);
    }

    /// Takes a handle out.
    pub fn remove(&self, handle: K) -> Option<Arc<V>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&handle)
    }

    /// Takes several handles out.
    pub fn remove_all(&self, handles: impl IntoIterator<Item = K>) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for handle in handles {
            table.remove(&handle);
        }
    }

    /// Calls `op` with every entry.
    pub fn for_each(&self, op: impl FnMut(&Arc<V>)) {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().for_each(op);
    }

    /// Calls `op` with every entry, unless the table is being changed right now.
    pub fn try_for_each(&self, op: impl FnMut(&Arc<V>)) {
        if let Ok(table) = self.0.try_read() {
            table.values().for_each(op);
        }
    }

    /// Takes out all entries that `keep` refuses.
    pub fn retain(&self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|handle, state| keep(handle, state));
    }
}

impl<K: Eq + Hash + Copy, V> Default for HandleMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}
