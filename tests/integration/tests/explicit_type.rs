//! Memory that is synchronised explicitly moves exactly the ranges the application names.

use lockstep_harness::{Buffer, Gpu, Kind, Memory, PAGE, paravirtual_under_test, pattern, skip, validation};

/// Several pages, and whole atoms.
const SIZE: usize = 4 * PAGE;

/// Returns a device with an explicit type, or says that there is none.
fn gpu_with_explicit_type() -> Option<Gpu> {
    let gpu = Gpu::new();
    if Kind::Explicit.find(&gpu, u32::MAX).is_some() {
        return Some(gpu);
    }
    assert!(!paravirtual_under_test(), "this profile has an explicit type");
    skip("this driver has no memory that is visible without being coherent");
    None
}

/// Makes a mapped explicit buffer whose bytes both sides know to be `byte`.
fn settled(gpu: &Gpu, byte: u8) -> Buffer {
    let buffer = Buffer::mapped(gpu, Kind::Explicit, SIZE);
    buffer.bytes().fill(0, SIZE, byte);
    buffer.memory().flush(&[(0, usize::MAX)]);
    gpu.run(|r| r.fill(&buffer, 0, SIZE, byte));
    buffer.memory().invalidate(&[(0, usize::MAX)]);
    buffer
}

#[test]
fn flush_moves_the_named_range_and_nothing_else() {
    let Some(gpu) = gpu_with_explicit_type() else { return };
    let buffer = settled(&gpu, 0x10);
    let (at, len) = (2 * gpu.atom(), PAGE + gpu.atom());
    buffer.bytes().write(0, &pattern(1, SIZE));

    buffer.memory().flush(&[(at, len)]);

    let mut expected = vec![0x10; SIZE];
    expected[at..at + len].copy_from_slice(&pattern(1, SIZE)[at..at + len]);
    assert_eq!(buffer.all_as_device_sees(), expected);
}

#[test]
fn without_a_flush_nothing_moves_at_submit() {
    let Some(gpu) = gpu_with_explicit_type() else { return };
    let buffer = settled(&gpu, 0x11);
    buffer.bytes().write(0, &pattern(2, SIZE));
    assert_eq!(buffer.all_as_device_sees(), vec![0x11; SIZE]);
}

#[test]
fn invalidate_moves_the_named_range_and_nothing_else() {
    let Some(gpu) = gpu_with_explicit_type() else { return };
    let buffer = settled(&gpu, 0x12);
    let (at, len) = (PAGE - gpu.atom(), 3 * gpu.atom());
    gpu.run(|r| r.fill(&buffer, 0, SIZE, 0x77));
    assert_eq!(buffer.bytes().read_all(), vec![0x12; SIZE]);

    buffer.memory().invalidate(&[(at, len)]);

    let mut expected = vec![0x12; SIZE];
    expected[at..at + len].fill(0x77);
    assert_eq!(buffer.bytes().read_all(), expected);
}

#[test]
fn single_atoms_move_alone_in_both_directions() {
    let Some(gpu) = gpu_with_explicit_type() else { return };
    let atom = gpu.atom();
    let buffer = settled(&gpu, 0x13);
    buffer.bytes().fill(0, SIZE, 0x14);
    buffer.memory().flush(&[(7 * atom, atom)]);
    let mut device = vec![0x13; SIZE];
    device[7 * atom..8 * atom].fill(0x14);
    assert_eq!(buffer.all_as_device_sees(), device);

    gpu.run(|r| r.fill(&buffer, 0, SIZE, 0x15));
    buffer.memory().invalidate(&[(9 * atom, atom)]);
    let mut processor = vec![0x14; SIZE];
    processor[9 * atom..10 * atom].fill(0x15);
    assert_eq!(buffer.bytes().read_all(), processor);
}

#[test]
fn several_ranges_of_several_allocations_move_in_one_call() {
    let Some(gpu) = gpu_with_explicit_type() else { return };
    let atom = gpu.atom();
    let buffer = settled(&gpu, 0x16);
    buffer.bytes().write(0, &pattern(3, SIZE));

    let ranges = [(0, atom), (3 * atom, 2 * atom), (SIZE - atom, atom), (2 * PAGE, PAGE)];
    buffer.memory().flush(&ranges);

    let mut expected = vec![0x16; SIZE];
    for (at, len) in ranges {
        expected[at..at + len].copy_from_slice(&pattern(3, SIZE)[at..at + len]);
    }
    assert_eq!(buffer.all_as_device_sees(), expected);
}

#[test]
fn whole_size_reaches_from_the_offset_to_the_maps_end() {
    let Some(gpu) = gpu_with_explicit_type() else { return };
    let buffer = settled(&gpu, 0x17);
    buffer.bytes().write(0, &pattern(4, SIZE));

    buffer.memory().flush(&[(2 * PAGE, usize::MAX)]);
    let mut expected = vec![0x17; SIZE];
    expected[2 * PAGE..].copy_from_slice(&pattern(4, SIZE)[2 * PAGE..]);
    assert_eq!(buffer.all_as_device_sees(), expected);

    gpu.run(|r| r.fill(&buffer, 0, SIZE, 0x18));
    buffer.memory().invalidate(&[(3 * PAGE, usize::MAX)]);
    let mut expected = pattern(4, SIZE);
    expected[3 * PAGE..].fill(0x18);
    assert_eq!(buffer.bytes().read_all(), expected);
}

#[test]
fn whole_size_of_a_partial_map_stays_inside_the_map() {
    let Some(gpu) = gpu_with_explicit_type() else { return };
    let buffer = settled(&gpu, 0x19);
    buffer.bytes().write(0, &pattern(5, SIZE));
    buffer.memory().unmap();
    let _ = buffer.memory().map(PAGE, PAGE);

    buffer.memory().flush(&[(PAGE, usize::MAX)]);

    let got = buffer.all_as_device_sees();
    assert_eq!(got[PAGE..2 * PAGE], pattern(5, SIZE)[PAGE..2 * PAGE]);
    assert_eq!(got[..PAGE], vec![0x19; PAGE]);
    assert_eq!(got[2 * PAGE..], vec![0x19; 2 * PAGE]);
}

#[test]
fn the_last_bytes_of_an_odd_allocation_move() {
    let Some(gpu) = gpu_with_explicit_type() else { return };
    let len = PAGE + 20;
    let buffer = Buffer::mapped(&gpu, Kind::Explicit, len);
    buffer.bytes().write(0, &pattern(6, len));
    buffer.memory().flush(&[(0, usize::MAX)]);
    assert_eq!(buffer.all_as_device_sees(), pattern(6, len));

    gpu.run(|r| r.fill(&buffer, 0, len, 0x1A));
    // An atom's multiple up to the very end of the allocation is named by its true length.
    let at = PAGE / gpu.atom() * gpu.atom();
    buffer.memory().invalidate(&[(at, buffer.memory().size() - at)]);
    assert_eq!(buffer.bytes().read(PAGE, 20), vec![0x1A; 20]);
}

#[test]
fn bytes_flushed_before_the_buffer_is_bound_are_there_afterwards() {
    let Some(gpu) = gpu_with_explicit_type() else { return };
    let memory = Memory::new(&gpu, Kind::Explicit, SIZE);
    memory.map_whole().write(0, &pattern(7, SIZE));
    memory.flush(&[(0, usize::MAX)]);
    let mut buffer = Buffer::unbound(&gpu, SIZE);
    buffer.bind(&memory, 0);
    assert_eq!(buffer.all_as_device_sees(), pattern(7, SIZE));
}

#[test]
fn a_range_that_is_no_atom_moves_as_it_is() {
    validation::ignore(
        &["VUID-VkMappedMemoryRange-offset-00687", "VUID-VkMappedMemoryRange-size-01390"],
        "ranges of whole atoms are what Vulkan asks for",
    );
    let Some(gpu) = gpu_with_explicit_type() else { return };
    let buffer = Buffer::mapped(&gpu, Kind::Explicit, PAGE);
    buffer.bytes().fill(0, PAGE, 0x11);
    buffer.memory().flush(&[(0, PAGE)]);
    buffer.bytes().fill(0, PAGE, 0x22);
    buffer.memory().flush(&[(5, 3)]);
    assert_eq!(buffer.as_device_sees(3, 7), [0x11, 0x11, 0x22, 0x22, 0x22, 0x11, 0x11]);
}

#[test]
fn both_kinds_of_memory_work_side_by_side() {
    let Some(gpu) = gpu_with_explicit_type() else { return };
    let (explicit, coherent) = (settled(&gpu, 0x1B), Buffer::mapped(&gpu, Kind::Coherent, SIZE));
    for round in 0..5 {
        coherent.bytes().write(0, &pattern(round, SIZE));
        gpu.run(|r| r.copy(&coherent, 0, &explicit, 0, SIZE));
        explicit.memory().invalidate(&[(0, SIZE)]);
        assert_eq!(explicit.bytes().read_all(), pattern(round, SIZE), "towards explicit, round {round}");

        explicit.bytes().write(0, &pattern(100 + round, SIZE));
        explicit.memory().flush(&[(0, SIZE)]);
        gpu.run(|r| r.copy(&explicit, 0, &coherent, 0, SIZE));
        assert_eq!(
            coherent.bytes().read_all(),
            pattern(100 + round, SIZE),
            "towards coherent, round {round}"
        );
    }
}
