//! Updates of sets, seen by what shaders can write through them.

#![allow(unsafe_code, reason = "descriptors as applications give them")]

use std::collections::BTreeMap;
use std::sync::Arc;

use ash::vk;
use ash::vk::Handle;
use proptest::prelude::*;

use super::*;
use crate::record::Objects;
use crate::record::views::{BufferView, ImageView};

type Type = vk::DescriptorType;

fn layout(bindings: &[(u32, Type, u32)]) -> Arc<SetLayout> {
    Arc::new(SetLayout::new(bindings.iter().map(|&(number, descriptor_type, count)| BindingInfo {
        number,
        descriptor_type,
        count,
        flags: vk::DescriptorBindingFlags::empty(),
        mutable_types: None,
    })))
}

fn buffer(name: u64) -> vk::Buffer {
    vk::Buffer::from_raw(name)
}

fn info(name: u64) -> vk::DescriptorBufferInfo {
    vk::DescriptorBufferInfo { buffer: buffer(name), offset: 16 * name, range: 16 }
}

/// What [`info`] is the target of.
fn bytes(name: u64) -> Target {
    Target::Buffer { buffer: buffer(name), offset: 16 * name, size: 16 }
}

fn whole(name: u64, offset: u64) -> Target {
    Target::Buffer { buffer: buffer(name), offset, size: vk::WHOLE_SIZE }
}

/// A set of a device.
struct Set<'a> {
    objects: &'a Objects,
    handle: vk::DescriptorSet,
}

impl<'a> Set<'a> {
    fn new(objects: &'a Objects, handle: u64, layout: &Arc<SetLayout>) -> Self {
        let handle = vk::DescriptorSet::from_raw(handle);
        objects.sets.insert(handle, Arc::new(DescriptorSet::new(Arc::clone(layout))));
        Self { objects, handle }
    }

    fn state(&self) -> Arc<DescriptorSet> {
        self.objects.sets.get(self.handle).unwrap()
    }

    fn write(&self, binding: u32, element: u32, ty: Type, infos: &[vk::DescriptorBufferInfo]) {
        let write = vk::WriteDescriptorSet::default()
            .dst_set(self.handle)
            .dst_binding(binding)
            .dst_array_element(element)
            .descriptor_type(ty)
            .buffer_info(infos);
        // SAFETY: the infos are those of the type.
        unsafe { update_sets(self.objects, &[write]) };
    }

    fn copy_from(&self, source: &Self, (from, first): (u32, u32), (to, element): (u32, u32), count: u32) {
        copy(
            self.objects,
            &vk::CopyDescriptorSet::default()
                .src_set(source.handle)
                .src_binding(from)
                .src_array_element(first)
                .dst_set(self.handle)
                .dst_binding(to)
                .dst_array_element(element)
                .descriptor_count(count),
        );
    }

    fn targets(&self, bindings: Bindings<'_>, dynamic: &[u32]) -> Vec<Target> {
        let mut targets = Vec::new();
        self.state().for_each_target(bindings, dynamic, |target| targets.push(target));
        targets
    }

    fn all(&self) -> Vec<Target> {
        self.targets(Bindings::All, &[])
    }
}

#[test]
fn only_what_was_written_is_a_target() {
    let objects = Objects::default();
    let set = Set::new(&objects, 1, &layout(&[(0, Type::STORAGE_BUFFER, 4), (1, Type::UNIFORM_BUFFER, 1)]));
    assert_eq!(set.all(), []);
    set.write(0, 2, Type::STORAGE_BUFFER, &[info(7)]);
    set.write(1, 0, Type::UNIFORM_BUFFER, &[info(8)]);
    assert_eq!(set.all(), [bytes(7)]);
    set.write(0, 2, Type::STORAGE_BUFFER, &[vk::DescriptorBufferInfo::default()]);
    assert_eq!(set.all(), [], "a null descriptor");
}

#[test]
fn bindings_are_picked_by_number() {
    let objects = Objects::default();
    let types = [(9, Type::STORAGE_BUFFER, 1), (4, Type::STORAGE_BUFFER, 1), (6, Type::STORAGE_BUFFER, 1)];
    let set = Set::new(&objects, 1, &layout(&types));
    for binding in [4, 6, 9] {
        set.write(binding, 0, Type::STORAGE_BUFFER, &[info(binding.into())]);
    }
    assert_eq!(set.all(), [bytes(4), bytes(6), bytes(9)]);
    assert_eq!(set.targets(Bindings::These(&[4, 5, 9]), &[]), [bytes(4), bytes(9)]);
    assert_eq!(set.targets(Bindings::These(&[]), &[]), []);
}

#[test]
fn dynamic_offsets_come_in_the_order_of_bindings_and_uniform_buffers_take_theirs() {
    let objects = Objects::default();
    let set = Set::new(
        &objects,
        1,
        &layout(&[
            (5, Type::STORAGE_BUFFER_DYNAMIC, 1),
            (0, Type::STORAGE_BUFFER_DYNAMIC, 2),
            (3, Type::UNIFORM_BUFFER_DYNAMIC, 3),
            (2, Type::STORAGE_BUFFER, 1),
        ]),
    );
    let at = |name| vk::DescriptorBufferInfo { buffer: buffer(name), offset: 1, range: vk::WHOLE_SIZE };
    set.write(0, 0, Type::STORAGE_BUFFER_DYNAMIC, &[at(1), at(2)]);
    set.write(2, 0, Type::STORAGE_BUFFER, &[at(3)]);
    set.write(5, 0, Type::STORAGE_BUFFER_DYNAMIC, &[at(4)]);
    assert_eq!(set.state().dynamic_count(), 6);
    let targets = set.targets(Bindings::All, &[10, 20, 1000, 1000, 1000, 30]);
    assert_eq!(targets, [whole(1, 11), whole(2, 21), whole(3, 1), whole(4, 31)]);
    let targets = set.targets(Bindings::These(&[5]), &[]);
    assert_eq!(targets, [whole(4, 0)], "without its offset it is anywhere in the buffer");
}

#[test]
fn an_update_goes_on_in_the_next_binding() {
    let objects = Objects::default();
    let set = Set::new(
        &objects,
        1,
        &layout(&[
            (0, Type::STORAGE_BUFFER, 2),
            (1, Type::STORAGE_BUFFER, 0),
            (3, Type::STORAGE_BUFFER, 1),
            (4, Type::STORAGE_BUFFER, 2),
        ]),
    );
    set.write(0, 1, Type::STORAGE_BUFFER, &[info(1), info(2), info(3)]);
    assert_eq!(set.targets(Bindings::These(&[0]), &[]), [bytes(1)]);
    assert_eq!(set.targets(Bindings::These(&[3]), &[]), [bytes(2)]);
    assert_eq!(set.targets(Bindings::These(&[4]), &[]), [bytes(3)]);
    set.write(0, 3, Type::STORAGE_BUFFER, &[info(4)]);
    assert_eq!(set.targets(Bindings::These(&[4]), &[]), [bytes(4)], "its elements are counted on, too");
}

#[test]
fn views_are_resolved_when_they_are_written() {
    let objects = Objects::default();
    let set =
        Set::new(&objects, 1, &layout(&[(0, Type::STORAGE_IMAGE, 1), (1, Type::STORAGE_TEXEL_BUFFER, 2)]));
    let image_view = vk::ImageView::from_raw(3);
    let range = vk::ImageSubresourceRange { level_count: 2, ..Default::default() };
    objects.image_views.insert(image_view, Arc::new(ImageView { image: vk::Image::from_raw(4), range }));
    let texels = vk::BufferView::from_raw(5);
    objects.buffer_views.insert(texels, Arc::new(BufferView { buffer: buffer(6), offset: 7, size: 8 }));

    let images = [vk::DescriptorImageInfo::default().image_view(image_view)];
    let views = [vk::BufferView::null(), texels];
    let write = vk::WriteDescriptorSet::default().dst_set(set.handle);
    let writes = [
        write.descriptor_type(Type::STORAGE_IMAGE).image_info(&images),
        write.dst_binding(1).descriptor_type(Type::STORAGE_TEXEL_BUFFER).texel_buffer_view(&views),
    ];
    // SAFETY: whole.
    unsafe { update_sets(&objects, &writes) };
    objects.image_views.remove(image_view);

    let image = Target::Image { image: vk::Image::from_raw(4), range };
    let texels = Target::Buffer { buffer: buffer(6), offset: 7, size: 8 };
    assert_eq!(set.all(), [image, texels]);
}

#[test]
fn copies_take_what_is_written_and_what_is_not() {
    let objects = Objects::default();
    let both =
        layout(&[(0, Type::STORAGE_BUFFER, 2), (1, Type::STORAGE_BUFFER, 2), (2, Type::UNIFORM_BUFFER, 9)]);
    let (from, to) = (Set::new(&objects, 1, &both), Set::new(&objects, 2, &both));
    from.write(0, 1, Type::STORAGE_BUFFER, &[info(1)]);
    to.write(0, 0, Type::STORAGE_BUFFER, &[info(5), info(6), info(7), info(8)]);
    to.copy_from(&from, (0, 1), (0, 0), 2);
    assert_eq!(to.all(), [bytes(1), bytes(7), bytes(8)], "the second was never written");
    to.copy_from(&to, (1, 0), (0, 1), 1);
    assert_eq!(to.all(), [bytes(1), bytes(7), bytes(7), bytes(8)], "from itself");
    to.copy_from(&from, (2, 0), (2, 0), 9);
    assert_eq!(to.all(), [bytes(1), bytes(7), bytes(7), bytes(8)]);
}

#[test]
fn templates_find_their_descriptors_by_offset_and_stride() {
    let objects = Objects::default();
    let layout = layout(&[(0, Type::UNIFORM_BUFFER, 1), (1, Type::STORAGE_BUFFER, 3)]);
    let set = Set::new(&objects, 1, &layout);
    let entry =
        |binding, element, count, descriptor_type, offset, stride| vk::DescriptorUpdateTemplateEntry {
            dst_binding: binding,
            dst_array_element: element,
            descriptor_count: count,
            descriptor_type,
            offset,
            stride,
        };
    // Data: one byte, a descriptor, another after 40 bytes.
    let entries = [entry(0, 0, 1, Type::UNIFORM_BUFFER, 0, 0), entry(1, 1, 2, Type::STORAGE_BUFFER, 1, 40)];
    let mut data = [0u8; 65];
    for (offset, name) in [(1, 3), (41, 4)] {
        // SAFETY: the data is long enough for both.
        unsafe {
            data.as_mut_ptr().add(offset).cast::<vk::DescriptorBufferInfo>().write_unaligned(info(name));
        };
    }
    let template = Template::new(vk::PipelineBindPoint::COMPUTE, Some(Arc::clone(&layout)), &entries);
    let handle = vk::DescriptorUpdateTemplate::from_raw(1);
    objects.templates.insert(handle, Arc::new(template));
    // SAFETY: the entries say where the descriptors are.
    unsafe { update_with_template(&objects, set.handle, handle, data.as_ptr().cast()) };
    assert_eq!(set.all(), [bytes(3), bytes(4)]);

    let mut pushed = Descriptors::new(layout);
    let template = objects.templates.get(handle).unwrap();
    // SAFETY: as above.
    assert!(unsafe { pushed.write_template(&objects, &template, data.as_ptr().cast()) });
    let mut targets = Vec::new();
    pushed.for_each_target(Bindings::All, &[], |target| targets.push(target));
    assert_eq!(targets, [bytes(3), bytes(4)]);

    let reads =
        Template::new(vk::PipelineBindPoint::COMPUTE, Some(Arc::clone(pushed.layout())), &entries[..1]);
    assert!(reads.is_empty(), "nothing of it can be written");
}

#[test]
fn a_mutable_descriptor_is_what_it_was_last() {
    let objects = Objects::default();
    let set = Set::new(&objects, 1, &layout(&[(0, Type::MUTABLE_EXT, 2)]));
    // As it is when the layout was made through the device.
    objects.add_set_layout(vk::DescriptorSetLayout::null(), SetLayout::new([mutable()]));
    set.write(0, 0, Type::STORAGE_BUFFER, &[info(1), info(2)]);
    assert_eq!(set.all(), [bytes(1), bytes(2)]);
    set.write(0, 1, Type::UNIFORM_BUFFER, &[info(3)]);
    assert_eq!(set.all(), [bytes(1)]);

    let plain = Set::new(&objects, 2, &layout(&[(0, Type::STORAGE_BUFFER, 1)]));
    plain.write(0, 0, Type::STORAGE_BUFFER, &[info(4)]);
    set.copy_from(&plain, (0, 0), (0, 1), 1);
    assert_eq!(set.all(), [bytes(1), bytes(4)]);
    let reads = Set::new(&objects, 3, &layout(&[(0, Type::SAMPLED_IMAGE, 1)]));
    set.copy_from(&reads, (0, 0), (0, 0), 1);
    assert_eq!(set.all(), [bytes(4)]);
}

fn mutable() -> BindingInfo<'static> {
    BindingInfo {
        number: 0,
        descriptor_type: Type::MUTABLE_EXT,
        count: 1,
        flags: vk::DescriptorBindingFlags::UPDATE_AFTER_BIND,
        mutable_types: None,
    }
}

#[test]
fn a_mutable_descriptor_that_shaders_can_only_read_is_not_kept() {
    let of = |types| SetLayout::new([BindingInfo { mutable_types: Some(types), ..mutable() }]).is_mutable();
    assert!(!of(&[Type::SAMPLED_IMAGE, Type::UNIFORM_BUFFER]));
    assert!(of(&[Type::SAMPLED_IMAGE, Type::STORAGE_TEXEL_BUFFER]));
}

#[test]
fn the_version_tells_of_changes_alone() {
    let objects = Objects::default();
    let layout = layout(&[(0, Type::STORAGE_BUFFER, 1), (1, Type::UNIFORM_BUFFER, 1)]);
    let (set, other) = (Set::new(&objects, 1, &layout), Set::new(&objects, 2, &layout));
    let empty = set.state().version();
    assert_ne!(empty, other.state().version());
    set.write(0, 0, Type::STORAGE_BUFFER, &[info(1)]);
    let written = set.state().version();
    assert_ne!(written, empty);
    set.write(0, 0, Type::STORAGE_BUFFER, &[info(1)]);
    set.write(1, 0, Type::UNIFORM_BUFFER, &[info(2)]);
    assert_eq!(set.state().version(), written);
}

#[test]
fn sets_go_with_their_pool_and_a_new_one_of_the_same_name_is_empty() {
    let objects = Objects::default();
    let layout = layout(&[(0, Type::STORAGE_BUFFER, 1)]);
    let pool = Pool::new(vk::DescriptorPoolCreateFlags::FREE_DESCRIPTOR_SET);
    let sets = [1, 2].map(|name| Set::new(&objects, name, &layout));
    pool.add(&sets.each_ref().map(|set| set.handle));
    sets[0].write(0, 0, Type::STORAGE_BUFFER, &[info(1)]);
    // The second is freed, and now another pool's.
    pool.remove(&[sets[1].handle]);
    let version = sets[0].state().version();
    objects.forget_sets(&pool);
    assert!(objects.sets.get(sets[0].handle).is_none());
    assert!(objects.sets.get(sets[1].handle).is_some());
    let again = Set::new(&objects, 1, &layout);
    assert_eq!(again.all(), []);
    assert_ne!(again.state().version(), version);
}

#[test]
fn a_pool_that_is_reset_as_a_whole_forgets_the_whole() {
    let objects = Objects::default();
    let layout = layout(&[(0, Type::STORAGE_BUFFER, 1)]);
    let pool = Pool::new(vk::DescriptorPoolCreateFlags::empty());
    let sets = [1, 2].map(|name| Set::new(&objects, name, &layout).handle);
    pool.add(&sets);
    objects.forget_sets(&pool);
    assert!(sets.iter().all(|set| objects.sets.get(*set).is_none()));
}

#[test]
fn updates_of_one_set_from_several_threads_all_count() {
    let objects = Objects::default();
    let set = Set::new(&objects, 1, &layout(&[(0, Type::STORAGE_BUFFER, 64)]));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let set = &set;
            scope.spawn(move || {
                for element in (thread..64).step_by(4) {
                    set.write(0, element, Type::STORAGE_BUFFER, &[info(u64::from(element) + 1)]);
                }
            });
        }
    });
    assert_eq!(set.all(), (1..=64).map(bytes).collect::<Vec<_>>());
}

#[test]
fn layouts_are_equal_when_identically_defined() {
    let one = layout(&[(0, Type::STORAGE_BUFFER, 1), (2, Type::STORAGE_BUFFER_DYNAMIC, 1)]);
    assert_eq!(one, layout(&[(2, Type::STORAGE_BUFFER_DYNAMIC, 1), (0, Type::STORAGE_BUFFER, 1)]));
    assert_ne!(one, layout(&[(0, Type::STORAGE_BUFFER, 2), (2, Type::STORAGE_BUFFER_DYNAMIC, 1)]));
    assert_ne!(one, layout(&[(0, Type::STORAGE_BUFFER, 1), (2, Type::STORAGE_BUFFER, 1)]));
    assert!(SetLayout::new([mutable()]).is_update_after_bind());
    assert!(!one.is_update_after_bind());
}

/// An update in the model: of sets 0 and 1, which have the same layout.
#[derive(Clone, Debug)]
enum Step {
    Write { set: usize, first: usize, names: Vec<u64> },
    Copy { from: usize, to: usize, first: usize, element: usize, count: usize },
}

/// Counts of storage-buffer bindings with gaps between their numbers.
fn counts() -> impl Strategy<Value = Vec<(u32, usize)>> {
    prop::collection::vec((1u32..3, 0usize..4), 1..6).prop_map(|gaps| {
        let mut number = 0;
        gaps.into_iter()
            .map(|(gap, count)| {
                number += gap;
                (number, count)
            })
            .collect()
    })
}

fn steps() -> impl Strategy<Value = (Vec<(u32, usize)>, Vec<Step>)> {
    let total = |counts: &[(u32, usize)]| counts.iter().map(|(_, count)| count).sum::<usize>();
    counts().prop_filter("something to write", move |counts| total(counts) > 0).prop_flat_map(move |counts| {
        let total = total(&counts);
        let write = (0usize..2, 0..total).prop_flat_map(move |(set, first)| {
            let names = prop::collection::vec(0u64..5, 1..=total - first);
            names.prop_map(move |names| Step::Write { set, first, names })
        });
        let copy =
            (0usize..2, 0usize..2, 0..total, 0..total).prop_flat_map(move |(from, to, first, element)| {
                (1..=total - first.max(element)).prop_map(move |count| Step::Copy {
                    from,
                    to,
                    first,
                    element,
                    count,
                })
            });
        let step = prop_oneof![write, copy];
        (Just(counts), prop::collection::vec(step, 1..20))
    })
}

/// Binding and array element of a descriptor of the flat model; the binding that has it, not an empty one.
fn place(counts: &[(u32, usize)], flat: usize) -> (u32, u32) {
    let mut before = 0;
    for (number, count) in counts {
        if flat < before + count {
            return (*number, u32::try_from(flat - before).unwrap());
        }
        before += count;
    }
    unreachable!("within the set")
}

proptest! {
    #[test]
    fn updates_do_what_they_do_to_a_flat_array((counts, steps) in steps()) {
        let objects = Objects::default();
        let bindings: Vec<_> = counts
            .iter()
            .map(|(number, count)| (*number, Type::STORAGE_BUFFER, u32::try_from(*count).unwrap()))
            .collect();
        let layout = layout(&bindings);
        let sets = [Set::new(&objects, 1, &layout), Set::new(&objects, 2, &layout)];
        let mut model = [BTreeMap::<usize, u64>::new(), BTreeMap::new()];
        for step in &steps {
            match step {
                Step::Write { set, first, names } => {
                    let (binding, element) = place(&counts, *first);
                    let infos: Vec<_> = names.iter().map(|name| info(*name)).collect();
                    sets[*set].write(binding, element, Type::STORAGE_BUFFER, &infos);
                    model[*set].extend((*first..).zip(names.iter().copied()));
                }
                Step::Copy { from, to, first, element, count } => {
                    let count32 = u32::try_from(*count).unwrap();
                    let (source, target) = (place(&counts, *first), place(&counts, *element));
                    sets[*to].copy_from(&sets[*from], source, target, count32);
                    let copied: Vec<_> = (0..*count).map(|i| model[*from].get(&(first + i)).copied()).collect();
                    for (i, name) in copied.into_iter().enumerate() {
                        model[*to].insert(element + i, name.unwrap_or(0));
                    }
                }
            }
            for (set, model) in sets.iter().zip(&model) {
                let expected: Vec<_> = model.values().filter(|name| **name != 0).map(|name| bytes(*name)).collect();
                prop_assert_eq!(set.all(), expected);
            }
        }
    }
}
