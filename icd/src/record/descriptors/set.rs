//! The contents of descriptor sets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ash::vk;
use rustc_hash::FxHashSet;

use super::layout::{Binding, SetLayout};

/// What a shader can write through a descriptor.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Bytes of a buffer.
    Buffer {
        /// The buffer.
        buffer: vk::Buffer,
        /// Bytes from its start.
        offset: u64,
        /// Bytes, or `VK_WHOLE_SIZE`.
        size: u64,
    },
    /// Part of an image, as its view gives it.
    Image {
        /// The image.
        image: vk::Image,
        /// See [`ImageView::range`](crate::record::views::ImageView::range).
        range: vk::ImageSubresourceRange,
    },
}

/// Which bindings of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bindings<'a> {
    /// Every one.
    All,
    /// Those with these numbers.
    These(&'a [u32]),
}

/// A type of descriptor that shaders write through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Buffer,
    Image,
    TexelBuffer,
}

/// Descriptors of a layout: the contents of a set, or what was pushed.
#[derive(Debug)]
pub struct Descriptors {
    layout: Arc<SetLayout>,
    /// For each binding with slots as many as were ever written.
    slots: Box<[Vec<Option<Target>>]>,
}

/// State of a `VkDescriptorSet`.
#[derive(Debug)]
pub struct DescriptorSet {
    layout: Arc<SetLayout>,
    version: AtomicU64,
    descriptors: Mutex<Descriptors>,
}

/// State of a `VkDescriptorPool`: its sets.
#[derive(Debug)]
pub struct Pool(Mutex<Sets>);

#[derive(Debug)]
enum Sets {
    /// Of a pool whose sets cannot be freed one by one.
    List(Vec<vk::DescriptorSet>),
    Free(FxHashSet<vk::DescriptorSet>),
}

impl Target {
    /// What to compare: ranges cannot be.
    fn key(&self) -> (Result<vk::Buffer, vk::Image>, [u64; 5]) {
        match *self {
            Self::Buffer { buffer, offset, size } => (Ok(buffer), [offset, size, 0, 0, 0]),
            Self::Image { image, range } => (
                Err(image),
                [
                    range.aspect_mask.as_raw(),
                    range.base_mip_level,
                    range.level_count,
                    range.base_array_layer,
                    range.layer_count,
                ]
                .map(u64::from),
            ),
        }
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Target {}

impl Kind {
    /// The kind of a descriptor type; none when shaders only read through it.
    pub(super) fn of(descriptor_type: vk::DescriptorType) -> Option<Self> {
        match descriptor_type {
            vk::DescriptorType::STORAGE_BUFFER | vk::DescriptorType::STORAGE_BUFFER_DYNAMIC => {
                Some(Self::Buffer)
            }
            vk::DescriptorType::STORAGE_IMAGE => Some(Self::Image),
            vk::DescriptorType::STORAGE_TEXEL_BUFFER => Some(Self::TexelBuffer),
            _ => None,
        }
    }
}

impl Descriptors {
    /// None written yet.
    pub fn new(layout: Arc<SetLayout>) -> Self {
        let slots = vec![Vec::new(); layout.slots()].into_boxed_slice();
        Self { layout, slots }
    }

    /// Their layout.
    pub fn layout(&self) -> &Arc<SetLayout> {
        &self.layout
    }

    /// Calls `f` with everything that shaders can write through these bindings. `dynamic_offsets` are the
    /// set's own, in the order of `vkCmdBindDescriptorSets`.
    pub fn for_each_target(
        &self,
        bindings: Bindings<'_>,
        dynamic_offsets: &[u32],
        mut f: impl FnMut(Target),
    ) {
        let mut visit = |binding: &Binding| {
            let Some(slots) = binding.slots.and_then(|slots| self.slots.get(slots)) else { return };
            for (element, target) in (0..).zip(slots) {
                let Some(target) = *target else { continue };
                f(match binding.first_dynamic {
                    Some(first) => moved(target, dynamic_offsets, first, element),
                    None => target,
                });
            }
        };
        match bindings {
            Bindings::All => self.layout.bindings().iter().for_each(&mut visit),
            Bindings::These(numbers) => {
                numbers.iter().filter_map(|number| self.layout.binding(*number)).for_each(&mut visit);
            }
        }
    }

    /// The descriptor in a list, if one was written.
    pub(super) fn get(&self, slots: usize, element: u32) -> Option<Target> {
        *self.slots.get(slots)?.get(element as usize)?
    }

    /// Writes a descriptor; `true` when it is another than before.
    pub(super) fn put(&mut self, slots: usize, element: u32, target: Option<Target>) -> bool {
        let Some(slots) = self.slots.get_mut(slots) else { return false };
        let element = element as usize;
        if element >= slots.len() {
            if target.is_none() {
                return false;
            }
            slots.resize(element + 1, None);
        }
        std::mem::replace(&mut slots[element], target) != target
    }
}

/// A buffer with its dynamic offset.
fn moved(target: Target, dynamic_offsets: &[u32], first: u32, element: u32) -> Target {
    let Target::Buffer { buffer, offset, size } = target else { return target };
    let index = first.saturating_add(element) as usize;
    match dynamic_offsets.get(index) {
        Some(dynamic) => Target::Buffer { buffer, offset: offset.saturating_add((*dynamic).into()), size },
        // Not bound as it should be: anywhere.
        None => Target::Buffer { buffer, offset: 0, size: vk::WHOLE_SIZE },
    }
}

impl DescriptorSet {
    /// An empty set.
    pub fn new(layout: Arc<SetLayout>) -> Self {
        Self {
            version: AtomicU64::new(new_version()),
            descriptors: Mutex::new(Descriptors::new(Arc::clone(&layout))),
            layout,
        }
    }

    /// Its layout.
    pub fn layout(&self) -> &Arc<SetLayout> {
        &self.layout
    }

    /// How many dynamic offsets it takes.
    pub fn dynamic_count(&self) -> u32 {
        self.layout.dynamic_count()
    }

    /// Changes when its contents change, and no two sets ever have the same, alive or dead. Read before the
    /// contents.
    pub fn version(&self) -> u64 {
        // Whoever may rely on an update comes after it; this only lets it come after the contents as well.
        self.version.load(Ordering::Acquire)
    }

    /// See [`Descriptors::for_each_target`]. The set is locked meanwhile.
    pub fn for_each_target(&self, bindings: Bindings<'_>, dynamic_offsets: &[u32], f: impl FnMut(Target)) {
        self.lock().for_each_target(bindings, dynamic_offsets, f);
    }

    /// Its contents.
    pub(super) fn lock(&self) -> MutexGuard<'_, Descriptors> {
        self.descriptors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes its contents; `change` says whether it did.
    pub(super) fn change(&self, change: impl FnOnce(&mut Descriptors) -> bool) {
        let mut descriptors = self.lock();
        if change(&mut descriptors) {
            // Pairs with `version`.
            self.version.store(new_version(), Ordering::Release);
        }
    }
}

fn new_version() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Pool {
    /// An empty pool.
    pub fn new(flags: vk::DescriptorPoolCreateFlags) -> Self {
        Self(Mutex::new(if flags.contains(vk::DescriptorPoolCreateFlags::FREE_DESCRIPTOR_SET) {
            Sets::Free(FxHashSet::default())
        } else {
            Sets::List(Vec::new())
        }))
    }

    /// Remembers sets.
    pub fn add(&self, sets: &[vk::DescriptorSet]) {
        match &mut *self.lock() {
            Sets::List(list) => list.extend(sets),
            Sets::Free(own) => own.extend(sets),
        }
    }

    /// Forgets sets.
    pub fn remove(&self, sets: &[vk::DescriptorSet]) {
        if let Sets::Free(own) = &mut *self.lock() {
            for set in sets {
                own.remove(set);
            }
        }
    }

    /// Gives `forget` all its sets, which are forgotten.
    pub fn empty(&self, forget: impl FnOnce(&mut dyn Iterator<Item = vk::DescriptorSet>)) {
        match &mut *self.lock() {
            Sets::List(list) => forget(&mut list.drain(..)),
            Sets::Free(own) => forget(&mut own.drain()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
