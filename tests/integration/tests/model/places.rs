//! Buffers and images, their memory, and where the processor sees them.

use std::sync::Arc;

use ash::vk;
use lockstep_harness::memory::ALL_USES;
use lockstep_harness::{Buffer, Gpu, Kind, MappedBytes, Memory, Rng};

use crate::images::{Area, Image, Shape};
use crate::ops::Span;

/// What lies at a place.
pub(crate) enum Thing {
    /// A buffer, and maybe another one of the same bytes.
    Buffer { buffer: Buffer, alias: Option<Buffer> },
    /// An image in the GENERAL layout.
    Image(Image),
}

/// A buffer or image of the reference and its place in an allocation.
pub(crate) struct Place {
    pub(crate) thing: Thing,
    pub(crate) len: usize,
    /// Which of the world's allocations and where, if it is a mappable one.
    pub(crate) slot: Option<(usize, usize)>,
}

/// An allocation and its present map: where it begins, and its bytes.
pub(crate) struct Slot {
    pub(crate) memory: Arc<Memory>,
    pub(crate) map: Option<(usize, MappedBytes)>,
}

/// An allocation with other worlds on it, and this world's part of it: offsets and lengths.
pub(crate) struct Share {
    pub(crate) memory: Arc<Memory>,
    pub(crate) bytes: MappedBytes,
    pub(crate) parts: Vec<(usize, usize)>,
}

/// What commands may be made up about.
pub(crate) struct Scene<'a> {
    places: &'a [Place],
    pub(crate) sizes: Vec<usize>,
    pub(crate) shapes: Vec<Option<Shape>>,
    pub(crate) addressable: Vec<bool>,
    /// Which places are buffers.
    pub(crate) buffers: Vec<usize>,
    /// Which places are images.
    pub(crate) images: Vec<usize>,
    /// Which of them the processor may see.
    pub(crate) linear: Vec<usize>,
    /// The buffers by place; where an image is, any buffer.
    pub(crate) raw: Vec<&'a Buffer>,
    pub(crate) offers: Offers,
}

/// What commands a device has.
#[derive(Clone, Copy, Default)]
pub(crate) struct Offers {
    /// Whether sets may be updated after they were bound.
    pub(crate) updates_late: bool,
    /// Whether descriptors may be pushed.
    pub(crate) pushes: bool,
    /// Whether there is transform feedback.
    pub(crate) feedback: bool,
    /// What the device writes beside the result of a query that is there.
    pub(crate) available: u8,
}

impl<'a> Scene<'a> {
    /// Looks at places, the first of which is a buffer. Where a buffer has an alias, `alias` says which is
    /// used.
    pub(crate) fn new(places: &'a [Place], mut alias: impl FnMut() -> bool) -> Self {
        let is_buffer = |place: &Place| matches!(place.thing, Thing::Buffer { .. });
        let indices =
            |buffers| (0..places.len()).filter(move |&n| is_buffer(&places[n]) == buffers).collect();
        let mut raw = Vec::new();
        for place in places {
            raw.push(match &place.thing {
                Thing::Buffer { alias: Some(other), .. } if alias() => other,
                Thing::Buffer { buffer, .. } => buffer,
                Thing::Image(_) => raw[0],
            });
        }
        let shape = |place: &Place| match &place.thing {
            Thing::Buffer { .. } => None,
            Thing::Image(image) => Some(image.shape),
        };
        Self {
            places,
            sizes: places.iter().map(|place| place.len).collect(),
            shapes: places.iter().map(shape).collect(),
            addressable: places.iter().map(|place| place.slot.is_some() && is_buffer(place)).collect(),
            buffers: indices(true),
            images: indices(false),
            linear: (0..places.len())
                .filter(|&n| places[n].slot.is_some() && !is_buffer(&places[n]))
                .collect(),
            raw,
            offers: Offers::default(),
        }
    }

    /// Returns the image at a place that has one.
    pub(crate) fn image(&self, place: usize) -> &'a Image {
        match &self.places[place].thing {
            Thing::Image(image) => image,
            Thing::Buffer { .. } => panic!("place {place} is a buffer"),
        }
    }

    /// Returns the bytes of a part of the image at a place.
    pub(crate) fn spans(&self, place: usize, area: &Area) -> Vec<Span> {
        self.shapes[place].expect("an image").spans(place, area)
    }
}

/// Uses of buffers that may be addressed, too.
const ADDRESSED: vk::BufferUsageFlags =
    vk::BufferUsageFlags::from_raw(USES.as_raw() | vk::BufferUsageFlags::SHADER_DEVICE_ADDRESS.as_raw());

const USES: vk::BufferUsageFlags = vk::BufferUsageFlags::from_raw(
    ALL_USES.as_raw()
        | vk::BufferUsageFlags::STORAGE_TEXEL_BUFFER.as_raw()
        | vk::BufferUsageFlags::TRANSFORM_FEEDBACK_BUFFER_EXT.as_raw()
        | vk::BufferUsageFlags::TRANSFORM_FEEDBACK_COUNTER_BUFFER_EXT.as_raw(),
);

fn to_usize(size: vk::DeviceSize) -> usize {
    usize::try_from(size).expect("a 64-bit machine")
}

/// Makes up the length of a buffer.
pub(crate) fn size(rng: &mut Rng) -> usize {
    if rng.one_in(4) { rng.between(4, 300) } else { rng.between(300, 20_000) }
}

/// Makes a device-only buffer.
pub(crate) fn hidden_buffer(gpu: &Gpu, rng: &mut Rng) -> Place {
    let len = size(rng).next_multiple_of(4);
    let mut buffer = Buffer::unbound_for(gpu, len, USES);
    let needs = buffer.requirements();
    let index = Kind::DeviceOnly.find(gpu, needs.memory_type_bits).expect("a type for buffers");
    buffer.bind(&Memory::of_type(gpu, index, to_usize(needs.size), None).expect("vkAllocateMemory"), 0);
    Place { thing: Thing::Buffer { buffer, alias: None }, len, slot: None }
}

/// Makes an optimal image.
pub(crate) fn hidden_image(gpu: &Gpu, rng: &mut Rng) -> Place {
    let mut image = Image::new(gpu, rng.between(1, 40), rng.between(1, 30), false);
    image.bind_own();
    Place { len: image.shape.len(), thing: Thing::Image(image), slot: None }
}

/// Makes a buffer on coherent memory.
pub(crate) fn buffer_at(gpu: &Gpu, memory: &Arc<Memory>, offset: usize, len: usize, alias: bool) -> Thing {
    let make = || {
        let mut buffer = Buffer::unbound_for(gpu, len, ADDRESSED);
        buffer.bind(memory, offset);
        buffer
    };
    Thing::Buffer { buffer: make(), alias: alias.then(make) }
}

/// Makes an allocation with buffers, and sometimes an image, close together, mapped as a whole. The places
/// are told with their offsets.
pub(crate) fn allocation(gpu: &Gpu, rng: &mut Rng) -> (Slot, Vec<(Thing, usize, usize)>) {
    let sizes: Vec<_> = (0..rng.between(1, 4)).map(|_| size(rng)).collect();
    let mut image = rng.one_in(2).then(|| Image::new(gpu, rng.between(1, 40), rng.between(1, 30), true));
    let mut end = 0;
    let mut offsets = Vec::new();
    let needs = sizes.iter().map(|&len| Buffer::unbound_for(gpu, len, ADDRESSED).requirements());
    for needs in needs.chain(image.as_ref().map(Image::requirements)) {
        let [size, alignment] = [needs.size, needs.alignment].map(to_usize);
        let gap = if rng.one_in(2) { 0 } else { rng.below(5000) };
        let offset = (end + gap).next_multiple_of(alignment);
        end = offset + size;
        offsets.push(offset);
    }
    let memory = Memory::addressable(gpu, end + rng.below(100));
    let mut things = Vec::new();
    for (&len, &offset) in sizes.iter().zip(&offsets) {
        things.push((buffer_at(gpu, &memory, offset, len, rng.one_in(4)), offset, len));
    }
    if let Some(mut image) = image.take() {
        let offset = *offsets.last().expect("the image's");
        image.bind(&memory, offset);
        let (first, len) = (offset + image.first, image.shape.len());
        things.push((Thing::Image(image), first, len));
    }
    let map = Some((0, memory.map_whole()));
    (Slot { memory, map }, things)
}
