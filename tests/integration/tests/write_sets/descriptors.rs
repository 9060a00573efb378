//! Storage buffers, from compute shaders: what is bound where shaders write, however it came to be bound.

use crate::kit::{COMPUTE, DYNAMIC, EVERY_OTHER, STORAGE, dispatch, every_other, range, write};
use crate::missing;
use crate::rig::{bytes_of, counted};
use ash::vk;
use lockstep_harness::{PAGE, validation};

#[test]
fn a_range_from_an_offset() {
    let counters = counted(|rig| {
        let target = rig.buffer(PAGE);
        let (set_layout, set) = rig.buffers(&[range(&target, 256, 64)]);
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(EVERY_OTHER, layout);
        let commands = rig.record(|d, c| dispatch(d, c, pipeline, layout, &[set], &[]));
        rig.check(&commands, &target, &every_other(256));
    });
    counters.are(0, 64);
}

#[test]
fn the_whole_from_an_offset() {
    let counters = counted(|rig| {
        let target = rig.buffer(1000);
        let (set_layout, set) = rig.buffers(&[range(&target, 256, vk::WHOLE_SIZE)]);
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(EVERY_OTHER, layout);
        let commands = rig.record(|d, c| dispatch(d, c, pipeline, layout, &[set], &[]));
        rig.check(&commands, &target, &every_other(256));
    });
    counters.are(0, 744);
}

/// Binding 1 is read, binding 2 not used, binding 0 written.
const READS: &str = "
    @group(0) @binding(0) var<storage, read_write> dest: array<u32>;
    @group(0) @binding(1) var<storage, read> source: array<u32>;
    @group(0) @binding(2) var<storage, read_write> other: array<u32>;
    @compute @workgroup_size(4) fn main(@builtin(local_invocation_id) id: vec3<u32>) {
        dest[id.x] = source[id.x];
    }
    @compute @workgroup_size(1) fn elsewhere() { other[0] = 1u; }";

#[test]
fn what_is_read_or_not_used_is_not_written() {
    let counters = counted(|rig| {
        let (target, source, other) = (rig.buffer(64), rig.buffer(2 * PAGE), rig.buffer(PAGE));
        let whole = |buffer| range(buffer, 0, vk::WHOLE_SIZE);
        let (set_layout, set) = rig.buffers(&[whole(&target), whole(&source), whole(&other)]);
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(READS, layout);
        let words = source.bytes().read(0, 16);
        let commands = rig.record(|d, c| dispatch(d, c, pipeline, layout, &[set], &[]));
        rig.check(&commands, &target, &[(0, words)]);
    });
    counters.are(0, 64);
}

#[test]
fn a_dispatch_without_sets_writes_nothing() {
    let counters = counted(|rig| {
        let layout = rig.layout(&[]);
        let pipeline = rig.compute("@compute @workgroup_size(1) fn main() {}", layout);
        rig.run(|device, commands| unsafe {
            device.cmd_bind_pipeline(commands, COMPUTE, pipeline);
            device.cmd_dispatch(commands, 1, 1, 1);
        });
    });
    counters.are(0, 0);
}

#[test]
fn what_is_bound_and_not_dispatched_writes_nothing() {
    let counters = counted(|rig| {
        let target = rig.buffer(PAGE);
        let (set_layout, set) = rig.buffers(&[range(&target, 0, 64)]);
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(EVERY_OTHER, layout);
        rig.run(|device, commands| unsafe {
            device.cmd_bind_pipeline(commands, COMPUTE, pipeline);
            device.cmd_bind_descriptor_sets(commands, COMPUTE, layout, 0, &[set], &[]);
        });
    });
    counters.are(0, 0);
}

/// Dynamic offsets in two sets, uniform ones among them.
const FOUR: &str = "
    @group(0) @binding(0) var<storage, read_write> a: array<u32>;
    @group(0) @binding(1) var<uniform> u: vec4<u32>;
    @group(0) @binding(3) var<storage, read_write> b: array<u32>;
    @group(1) @binding(0) var<storage, read_write> c: array<u32>;
    @group(1) @binding(2) var<storage, read_write> d: array<u32>;
    @compute @workgroup_size(1) fn main() { a[0] = u.x; b[0] = 11u; c[0] = 12u; d[0] = 13u; }";

#[test]
fn dynamic_offsets_in_several_sets_and_bindings() {
    let counters = counted(|rig| {
        let target = rig.buffer(4 * PAGE);
        let numbers = rig.words(&vec![10; 256]);
        let uniform = vk::DescriptorType::UNIFORM_BUFFER_DYNAMIC;
        let first = rig.set_layout(&[(0, DYNAMIC, 1), (1, uniform, 1), (3, DYNAMIC, 1)]);
        // Binding 2 is not dynamic, and lies between.
        let second = rig.set_layout(&[(0, DYNAMIC, 1), (1, DYNAMIC, 1), (2, STORAGE, 1)]);
        let sets = [rig.set(first), rig.set(second)];
        rig.update(sets[0], 0, DYNAMIC, &[range(&target, 0, 16)]);
        rig.update(sets[0], 1, uniform, &[range(&numbers, 0, 16)]);
        rig.update(sets[0], 3, DYNAMIC, &[range(&target, 256, 32)]);
        rig.update(sets[1], 0, DYNAMIC, &[range(&target, PAGE, 64)]);
        rig.update(sets[1], 1, DYNAMIC, &[range(&target, 0, 512)]);
        rig.update(sets[1], 2, STORAGE, &[range(&target, 2 * PAGE, 128)]);
        let layout = rig.layout(&[first, second]);
        let pipeline = rig.compute(FOUR, layout);
        let commands =
            rig.record(|d, c| dispatch(d, c, pipeline, layout, &sets, &[512, 256, 1024, 2048, 64]));
        let word = |at, word| (at, bytes_of(&[word]));
        let written = [word(512, 10), word(1280, 11), word(PAGE + 2048, 12), word(2 * PAGE, 13)];
        rig.check(&commands, &target, &written);
    });
    counters.are(0, 16 + 32 + 64 + 128);
}

#[test]
fn sets_with_dynamic_offsets_bound_by_calls_of_their_own() {
    let counters = counted(|rig| {
        let target = rig.buffer(PAGE);
        let one = rig.set_layout(&[(0, DYNAMIC, 1), (1, STORAGE, 1), (3, DYNAMIC, 1)]);
        let two = rig.set_layout(&[(0, DYNAMIC, 1), (2, DYNAMIC, 1)]);
        let sets = [rig.set(one), rig.set(two)];
        rig.update(sets[0], 0, DYNAMIC, &[range(&target, 0, 16)]);
        rig.update(sets[0], 1, STORAGE, &[range(&target, 0, 256)]);
        rig.update(sets[0], 3, DYNAMIC, &[range(&target, 0, 32)]);
        rig.update(sets[1], 0, DYNAMIC, &[range(&target, 256, 64)]);
        rig.update(sets[1], 2, DYNAMIC, &[range(&target, 256, 128)]);
        let layout = rig.layout(&[one, two]);
        let source = FOUR.replace("var<uniform> u: vec4<u32>", "var<storage, read> u: array<u32>");
        let pipeline = rig.compute(&source.replace("u.x", "min(u[0], 10u) + 10u - min(u[0], 10u)"), layout);
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_bind_pipeline(commands, COMPUTE, pipeline);
            device.cmd_bind_descriptor_sets(commands, COMPUTE, layout, 1, &sets[1..], &[256, 1024]);
            device.cmd_bind_descriptor_sets(commands, COMPUTE, layout, 0, &sets[..1], &[1536, 2048]);
            device.cmd_dispatch(commands, 1, 1, 1);
        });
        let word = |at, word| (at, bytes_of(&[word]));
        let written = [word(1536, 10), word(2048, 11), word(512, 12), word(1280, 13)];
        rig.check(&commands, &target, &written);
    });
    counters.are(0, 16 + 32 + 64 + 128);
}

#[test]
fn a_set_bound_again_with_other_offsets_is_written_at_both() {
    let counters = counted(|rig| {
        let target = rig.buffer(PAGE);
        let set_layout = rig.set_layout(&[(0, DYNAMIC, 1)]);
        let set = rig.set(set_layout);
        rig.update(set, 0, DYNAMIC, &[range(&target, 0, 32)]);
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(EVERY_OTHER, layout);
        let commands = rig.record(|d, c| {
            dispatch(d, c, pipeline, layout, &[set], &[256]);
            dispatch(d, c, pipeline, layout, &[set], &[1024]);
        });
        rig.check(&commands, &target, &[every_other(256), every_other(1024)].concat());
    });
    counters.are(0, 64);
}

const SECOND: &str = "
    @group(0) @binding(1) var<storage, read_write> dest: array<u32>;
    @compute @workgroup_size(1) fn main() { dest[0] = 0x61616161u; }";

#[test]
fn of_two_pipelines_on_one_set_each_writes_its_own() {
    let run = |both: bool| {
        counted(|rig| {
            let (one, two) = (rig.buffer(PAGE), rig.buffer(PAGE));
            let (set_layout, set) = rig.buffers(&[range(&one, 0, 64), range(&two, 0, 128)]);
            let layout = rig.layout(&[set_layout]);
            let (first, second) = (rig.compute(EVERY_OTHER, layout), rig.compute(SECOND, layout));
            let commands = rig.record(|device, commands| unsafe {
                dispatch(device, commands, second, layout, &[set], &[]);
                device.cmd_bind_pipeline(commands, COMPUTE, first);
                if both {
                    device.cmd_dispatch(commands, 1, 1, 1);
                }
            });
            rig.check(&commands, &two, &[(0, vec![0x61; 4])]);
        })
    };
    run(false).are(0, 128);
    run(true).are(0, 64 + 128);
}

#[test]
fn sets_bound_one_after_the_other() {
    let counters = counted(|rig| {
        let target = rig.buffer(PAGE);
        let (set_layout, one) = rig.buffers(&[range(&target, 0, 64)]);
        let two = rig.set(set_layout);
        rig.update(two, 0, STORAGE, &[range(&target, 512, 128)]);
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(EVERY_OTHER, layout);
        let commands = rig.record(|device, commands| unsafe {
            dispatch(device, commands, pipeline, layout, &[one], &[]);
            device.cmd_bind_descriptor_sets(commands, COMPUTE, layout, 0, &[two], &[]);
            device.cmd_dispatch(commands, 1, 1, 1);
        });
        rig.check(&commands, &target, &[every_other(0), every_other(512)].concat());
    });
    counters.are(0, 64 + 128);
}

#[test]
fn dispatch_indirect() {
    let counters = counted(|rig| {
        let (target, groups) = (rig.buffer(PAGE), rig.words(&[0, 1, 1, 1]));
        let (set_layout, set) = rig.buffers(&[range(&target, 256, 64)]);
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(EVERY_OTHER, layout);
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_bind_pipeline(commands, COMPUTE, pipeline);
            device.cmd_bind_descriptor_sets(commands, COMPUTE, layout, 0, &[set], &[]);
            device.cmd_dispatch_indirect(commands, groups.raw(), 4);
        });
        rig.check(&commands, &target, &every_other(256));
    });
    counters.are(0, 64);
}

#[test]
fn dispatch_base() {
    let counters = counted(|rig| {
        let target = rig.buffer(PAGE);
        let (set_layout, set) = rig.buffers(&[range(&target, 0, 64)]);
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(EVERY_OTHER, layout);
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_bind_pipeline(commands, COMPUTE, pipeline);
            device.cmd_bind_descriptor_sets(commands, COMPUTE, layout, 0, &[set], &[]);
            device.cmd_dispatch_base(commands, 0, 0, 0, 1, 1, 1);
        });
        rig.check(&commands, &target, &every_other(0));
    });
    counters.are(0, 64);
}

#[test]
fn pushed_descriptors() {
    if missing::extension(ash::khr::push_descriptor::NAME) {
        return;
    }
    let counters = counted(|rig| {
        let push = ash::khr::push_descriptor::Device::new(rig.instance(), rig.raw());
        let target = rig.buffer(PAGE);
        let flags = vk::DescriptorSetLayoutCreateFlags::PUSH_DESCRIPTOR_KHR;
        let set_layout = rig.set_layout_with(&[(0, STORAGE, 1), (1, STORAGE, 1)], flags, Default::default());
        let layout = rig.layout(&[set_layout]);
        let (first, second) = (rig.compute(EVERY_OTHER, layout), rig.compute(SECOND, layout));
        let commands = rig.record(|device, commands| unsafe {
            let none = vk::DescriptorSet::null();
            let (one, two) = ([range(&target, 256, 32)], [range(&target, 512, 16)]);
            device.cmd_bind_pipeline(commands, COMPUTE, first);
            let writes = [write(none, 0, STORAGE, &one), write(none, 1, STORAGE, &two)];
            push.cmd_push_descriptor_set(commands, COMPUTE, layout, 0, &writes);
            device.cmd_dispatch(commands, 1, 1, 1);
            // Binding 1 stays as it was pushed.
            let other = [range(&target, 1024, 64)];
            push.cmd_push_descriptor_set(commands, COMPUTE, layout, 0, &[write(none, 0, STORAGE, &other)]);
            device.cmd_dispatch(commands, 1, 1, 1);
            device.cmd_bind_pipeline(commands, COMPUTE, second);
            device.cmd_dispatch(commands, 1, 1, 1);
        });
        let written = [every_other(256), every_other(1024), vec![(512, vec![0x61; 4])]].concat();
        rig.check(&commands, &target, &written);
    });
    counters.are(0, 32 + 64 + 16);
}

/// A template that takes binding 0 from byte 8 of the data.
fn template(
    rig: &crate::rig::Rig,
    set_layout: vk::DescriptorSetLayout,
    pushed: Option<vk::PipelineLayout>,
) -> vk::DescriptorUpdateTemplate {
    let entries = [vk::DescriptorUpdateTemplateEntry::default()
        .descriptor_count(1)
        .descriptor_type(STORAGE)
        .offset(8)
        .stride(size_of::<vk::DescriptorBufferInfo>())];
    let info = vk::DescriptorUpdateTemplateCreateInfo::default().descriptor_update_entries(&entries);
    let info = match pushed {
        None => info.descriptor_set_layout(set_layout),
        Some(layout) => info
            .template_type(vk::DescriptorUpdateTemplateType::PUSH_DESCRIPTORS_KHR)
            .pipeline_bind_point(COMPUTE)
            .pipeline_layout(layout),
    };
    let template = unsafe { rig.raw().create_descriptor_update_template(&info, None) }.expect("a template");
    rig.own(move |device| unsafe { device.destroy_descriptor_update_template(template, None) });
    template
}

#[repr(C)]
struct Data(u64, vk::DescriptorBufferInfo);

#[test]
fn descriptors_pushed_with_a_template() {
    if missing::extension(ash::khr::push_descriptor::NAME) {
        return;
    }
    let counters = counted(|rig| {
        let push = ash::khr::push_descriptor::Device::new(rig.instance(), rig.raw());
        let target = rig.buffer(PAGE);
        let flags = vk::DescriptorSetLayoutCreateFlags::PUSH_DESCRIPTOR_KHR;
        let set_layout = rig.set_layout_with(&[(0, STORAGE, 1)], flags, Default::default());
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(EVERY_OTHER, layout);
        let template = template(rig, set_layout, Some(layout));
        let data = Data(0, range(&target, 256, 48));
        let commands = rig.record(|device, commands| unsafe {
            device.cmd_bind_pipeline(commands, COMPUTE, pipeline);
            let data = (&raw const data).cast();
            let push = push.fp().cmd_push_descriptor_set_with_template_khr;
            push(commands, template, layout, 0, data);
            device.cmd_dispatch(commands, 1, 1, 1);
        });
        rig.check(&commands, &target, &every_other(256));
    });
    counters.are(0, 48);
}

#[test]
fn a_set_updated_with_a_template() {
    let counters = counted(|rig| {
        let target = rig.buffer(PAGE);
        let set_layout = rig.set_layout(&[(0, STORAGE, 1)]);
        let set = rig.set(set_layout);
        let template = template(rig, set_layout, None);
        let data = Data(0, range(&target, 256, 48));
        unsafe {
            rig.raw().update_descriptor_set_with_template(set, template, (&raw const data).cast());
        }
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(EVERY_OTHER, layout);
        let commands = rig.record(|d, c| dispatch(d, c, pipeline, layout, &[set], &[]));
        rig.check(&commands, &target, &every_other(256));
    });
    counters.are(0, 48);
}

#[test]
fn a_set_updated_after_it_was_bound() {
    validation::ignore(
        &[
            "VUID-VkDescriptorSetLayoutBindingFlagsCreateInfo-descriptorBindingStorageBufferUpdateAfterBind-03008",
        ],
        "lavapipe does it without saying so",
    );
    let counters = counted(|rig| {
        let (old, target) = (rig.buffer(PAGE), rig.buffer(2 * PAGE));
        let set_layout = rig.set_layout_with(
            &[(0, STORAGE, 1)],
            vk::DescriptorSetLayoutCreateFlags::UPDATE_AFTER_BIND_POOL,
            vk::DescriptorBindingFlags::UPDATE_AFTER_BIND,
        );
        let set = rig.set(set_layout);
        rig.update(set, 0, STORAGE, &[range(&old, 0, 64)]);
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(EVERY_OTHER, layout);
        let commands = rig.record(|d, c| dispatch(d, c, pipeline, layout, &[set], &[]));
        rig.update(set, 0, STORAGE, &[range(&target, 256, 80)]);
        rig.check(&commands, &target, &every_other(256));
        rig.update(set, 0, STORAGE, &[range(&target, 1024, 96)]);
        rig.check(&commands, &target, &every_other(1024));
    });
    counters.are(0, 80 + 96);
}

#[test]
fn bindings_that_were_never_written_are_nothing() {
    validation::ignore(
        &["VUID-VkDescriptorSetLayoutBindingFlagsCreateInfo-descriptorBindingPartiallyBound-03013"],
        "lavapipe does it without saying so",
    );
    let counters = counted(|rig| {
        let target = rig.buffer(PAGE);
        let set_layout = rig.set_layout_with(
            &[(0, STORAGE, 1), (1, STORAGE, 4)],
            Default::default(),
            vk::DescriptorBindingFlags::PARTIALLY_BOUND,
        );
        let set = rig.set(set_layout);
        rig.update(set, 0, STORAGE, &[range(&target, 256, 64)]);
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(EVERY_OTHER, layout);
        let commands = rig.record(|d, c| dispatch(d, c, pipeline, layout, &[set], &[]));
        rig.check(&commands, &target, &every_other(256));
    });
    counters.are(0, 64);
}

#[test]
fn descriptors_copied_from_another_set() {
    let counters = counted(|rig| {
        let (target, old) = (rig.buffer(PAGE), rig.buffer(PAGE));
        let (_, source) = rig.buffers(&[range(&old, 0, 64), range(&target, 256, 80)]);
        let set_layout = rig.set_layout(&[(0, STORAGE, 1)]);
        let set = rig.set(set_layout);
        rig.update(set, 0, STORAGE, &[range(&old, 0, 64)]);
        let copy = [vk::CopyDescriptorSet::default()
            .src_set(source)
            .src_binding(1)
            .dst_set(set)
            .dst_binding(0)
            .descriptor_count(1)];
        unsafe { rig.raw().update_descriptor_sets(&[], &copy) };
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(EVERY_OTHER, layout);
        let commands = rig.record(|d, c| dispatch(d, c, pipeline, layout, &[set], &[]));
        rig.check(&commands, &target, &every_other(256));
    });
    counters.are(0, 80);
}

/// Three storage buffers in an array; the second is written.
const ARRAY: &str = "
    OpCapability Shader
    OpMemoryModel Logical GLSL450
    OpEntryPoint GLCompute %main \"main\" %targets
    OpExecutionMode %main LocalSize 1 1 1
    OpDecorate %words ArrayStride 4
    OpDecorate %block Block
    OpMemberDecorate %block 0 Offset 0
    OpDecorate %targets DescriptorSet 0
    OpDecorate %targets Binding 0
    %void = OpTypeVoid
    %function = OpTypeFunction %void
    %u32 = OpTypeInt 32 0
    %c0 = OpConstant %u32 0
    %c1 = OpConstant %u32 1
    %c3 = OpConstant %u32 3
    %value = OpConstant %u32 0x71717171
    %words = OpTypeRuntimeArray %u32
    %block = OpTypeStruct %words
    %blocks = OpTypeArray %block %c3
    %blocks_at = OpTypePointer StorageBuffer %blocks
    %word_at = OpTypePointer StorageBuffer %u32
    %targets = OpVariable %blocks_at StorageBuffer
    %main = OpFunction %void None %function
    %entry = OpLabel
    %at = OpAccessChain %word_at %targets %c1 %c0 %c3
    OpStore %at %value
    OpReturn
    OpFunctionEnd";

#[test]
fn all_of_an_array_may_be_written() {
    let counters = counted(|rig| {
        let target = rig.buffer(PAGE);
        let set_layout = rig.set_layout(&[(0, STORAGE, 3)]);
        let set = rig.set(set_layout);
        let ranges = [range(&target, 0, 16), range(&target, 256, 32), range(&target, 512, 64)];
        rig.update(set, 0, STORAGE, &ranges);
        let layout = rig.layout(&[set_layout]);
        let pipeline = rig.compute(ARRAY, layout);
        let commands = rig.record(|d, c| dispatch(d, c, pipeline, layout, &[set], &[]));
        rig.check(&commands, &target, &[(256 + 12, vec![0x71; 4])]);
    });
    counters.are(0, 16 + 32 + 64);
}
