//! Handle tables.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use ash::vk;

use crate::device::Device;
use crate::instance::Instance;
use crate::queue::Queue;
use crate::usage::Commands;

/// State by handle.
#[derive(Debug)]
pub struct Table<K, V>(LazyLock<RwLock<HashMap<K, Arc<V>>>>);

impl<K: Copy + Eq + Hash, V> Table<K, V> {
    const fn new() -> Self {
        Self(LazyLock::new(RwLock::default))
    }

    /// The state of a handle.
    pub fn find(&self, key: K) -> Option<Arc<V>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// The state of a handle that valid usage says is there.
    pub fn get(&self, key: K) -> Arc<V> {
        self.find(key).unwrap_or_else(|| crate::fail("a handle that is not alive"))
    }

    /// Adds a handle.
    pub fn insert(&self, key: K, value: Arc<V>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key, value);
    }

    /// Takes a handle out.
    pub fn remove(&self, key: K) -> Option<Arc<V>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&key)
    }

    /// Keeps only some.
    pub fn retain(&self, keep: impl Fn(&V) -> bool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|_, value| keep(value));
    }
}

/// Instances.
pub static INSTANCES: Table<vk::Instance, Instance> = Table::new();
/// The instance of each physical device.
pub static PHYSICAL_DEVICES: Table<vk::PhysicalDevice, Instance> = Table::new();
/// Devices.
pub static DEVICES: Table<vk::Device, Device> = Table::new();
/// Queues.
pub static QUEUES: Table<vk::Queue, Queue> = Table::new();
/// Command buffers, some of which are gone.
pub static COMMANDS: Table<vk::CommandBuffer, Commands> = Table::new();
