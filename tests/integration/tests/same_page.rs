//! Processor and device write different bytes of the same pages at the same time, and nobody loses one.

use lockstep_harness::{Batch, Buffer, Commands, Compute, Fence, Gpu, Kind, PAGE, Rng, Timeline, pattern};

/// Whole 4-byte words, yet no whole number of pages.
const SIZE: usize = 5 * PAGE + 36;

/// A part of a buffer: where it begins and how long it is.
type Part = (usize, usize);

/// Cuts `len` bytes into parts of 1 to `longest` bytes, dealt out in turn: (the processor's, the device's).
fn deal(seed: u64, len: usize, longest: usize) -> (Vec<Part>, Vec<Part>) {
    let (mut rng, mut hands, mut at) = (Rng::new(seed), [Vec::new(), Vec::new()], 0);
    while at < len {
        let part = rng.between(1, longest + 1).min(len - at);
        hands[(hands[0].len() + hands[1].len()) % 2].push((at, part));
        at += part;
    }
    let [processor, device] = hands;
    (processor, device)
}

/// A buffer both sides write, and where the device's bytes come from.
struct Shared {
    gpu: Gpu,
    page: Buffer,
    source: Buffer,
    expected: Vec<u8>,
}

impl Shared {
    /// Starts from bytes the processor wrote and the device has seen.
    fn touched() -> Self {
        let gpu = Gpu::new();
        let expected = pattern(900, SIZE);
        let page = Buffer::coherent_with(&gpu, &expected);
        assert_eq!(page.all_as_device_sees(), expected);
        let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
        Self { gpu, page, source, expected }
    }

    /// Starts from bytes the device wrote and the processor has never touched.
    fn fresh() -> Self {
        let gpu = Gpu::new();
        let page = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
        gpu.run(|r| r.fill(&page, 0, SIZE, 0x3C));
        let source = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
        Self { gpu, page, source, expected: vec![0x3C; SIZE] }
    }

    /// Has the device write its parts while the processor writes its own, and checks both sides' view.
    fn round(&mut self, seed: u64, processor: &[Part], device: &[Part], byte: Option<u8>) {
        let (timeline, fence) = (Timeline::new(&self.gpu), Fence::new(&self.gpu));
        let theirs = pattern(seed, SIZE);
        self.source.bytes().write(0, &theirs);
        let regions: Vec<_> = device.iter().map(|&(at, len)| (at, at, len)).collect();
        let commands = Commands::new(&self.gpu, |r| r.copy_regions(&self.source, &self.page, &regions));

        self.gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&fence));
        let mut ours = pattern(seed + 1, SIZE);
        if let Some(byte) = byte {
            ours.fill(byte);
        }
        for &(at, len) in processor {
            self.page.bytes().write(at, &ours[at..at + len]);
            self.expected[at..at + len].copy_from_slice(&ours[at..at + len]);
        }
        timeline.signal(1);
        fence.wait();
        for &(at, len) in device {
            self.expected[at..at + len].copy_from_slice(&theirs[at..at + len]);
        }

        assert!(self.page.bytes().read_all() == self.expected, "the processor's view, seed {seed}");
        assert!(self.page.all_as_device_sees() == self.expected, "the device's view, seed {seed}");
    }
}

#[test]
fn even_bytes_are_the_processors_and_odd_bytes_the_devices() {
    let mut shared = Shared::touched();
    let (processor, device) = deal(0, SIZE, 1);
    for round in 0..4 {
        shared.round(10 * round, &processor, &device, None);
    }
}

#[test]
fn even_bytes_are_the_devices_in_pages_the_processor_never_touched() {
    let mut shared = Shared::fresh();
    let (device, processor) = deal(0, SIZE, 1);
    for round in 0..4 {
        shared.round(10 * round, &processor, &device, None);
    }
}

#[test]
fn parts_of_up_to_16_bytes_change_hands_every_round_in_touched_pages() {
    let mut shared = Shared::touched();
    for round in 0..6 {
        let (processor, device) = deal(round, SIZE, 16);
        shared.round(10 * round, &processor, &device, None);
    }
}

#[test]
fn parts_of_up_to_16_bytes_change_hands_every_round_in_fresh_pages() {
    let mut shared = Shared::fresh();
    for round in 0..6 {
        let (processor, device) = deal(round, SIZE, 16);
        shared.round(10 * round, &processor, &device, None);
    }
}

#[test]
fn zeroes_of_the_processor_survive_in_fresh_pages() {
    let mut shared = Shared::fresh();
    let (processor, device) = deal(3, SIZE, 7);
    shared.round(70, &processor, &device, Some(0));
    let (device, processor) = deal(4, SIZE, 7);
    shared.round(80, &processor, &device, Some(0));
}

/// Sees to it that the device's side of new memory is probably not zero: what it holds is nobody's business.
fn leave_garbage(gpu: &Gpu) {
    // Holes between memory that stays are filled again by most allocators.
    let mut used: Vec<_> = (0..32).map(|_| Buffer::unmapped(gpu, Kind::Coherent, SIZE)).collect();
    gpu.run(|r| used.iter().for_each(|buffer| r.fill(buffer, 0, SIZE, 0xE7)));
    for hole in (1..16).rev() {
        used.remove(2 * hole);
    }
    // They stay for as long as the process does, and the device with them.
    std::mem::forget(used);
}

#[test]
fn zeroes_in_the_very_first_map_of_a_device_survive_beside_the_devices_bytes() {
    let gpu = Gpu::new();
    leave_garbage(&gpu);
    let page = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let commands = Commands::new(&gpu, |r| (0..SIZE / 8).for_each(|n| r.fill(&page, 8 * n, 4, 0x91)));
    let (timeline, fence) = (Timeline::new(&gpu), Fence::new(&gpu));

    gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&fence));
    (0..SIZE).filter(|at| at % 8 >= 4 || *at >= SIZE / 8 * 8).for_each(|at| page.bytes().store(at, 0));
    timeline.signal(1);
    fence.wait();

    let expected: Vec<u8> =
        (0..SIZE).map(|at| if at % 8 < 4 && at < SIZE / 8 * 8 { 0x91 } else { 0 }).collect();
    assert_eq!(page.bytes().read_all(), expected);
    assert_eq!(page.all_as_device_sees(), expected);
}

#[test]
fn zeroes_in_pages_nobody_ever_touched_survive_beside_the_devices_bytes() {
    let gpu = Gpu::new();
    leave_garbage(&gpu);
    let (processor, device) = deal(5, SIZE, 3);
    let source = Buffer::coherent_with(&gpu, &vec![0x91; SIZE]);
    let page = Buffer::mapped(&gpu, Kind::Coherent, SIZE);
    let regions: Vec<_> = device.iter().map(|&(at, len)| (at, at, len)).collect();
    let commands = Commands::new(&gpu, |r| r.copy_regions(&source, &page, &regions));
    let (timeline, fence) = (Timeline::new(&gpu), Fence::new(&gpu));

    gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&fence));
    processor.iter().for_each(|&(at, len)| page.bytes().fill(at, len, 0));
    timeline.signal(1);
    fence.wait();

    let mut expected = vec![0; SIZE];
    device.iter().for_each(|&(at, len)| expected[at..at + len].fill(0x91));
    assert_eq!(page.bytes().read_all(), expected);
    assert_eq!(page.all_as_device_sees(), expected);
}

#[test]
fn the_processors_bytes_wait_for_nothing_while_the_device_has_not_finished() {
    let mut shared = Shared::touched();
    let (timeline, fence) = (Timeline::new(&shared.gpu), Fence::new(&shared.gpu));
    let commands = Commands::new(&shared.gpu, |r| {
        (0..SIZE / 8).for_each(|n| r.fill(&shared.page, 8 * n, 4, 0xD0));
    });
    shared.gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&fence));

    // Many flush points pass while the batch is in flight; each carries some of the processor's bytes.
    let (steps, mut at) = (Timeline::new(&shared.gpu), 0);
    for step in 1..=16 {
        for _ in 0..SIZE / 8 / 16 {
            shared.page.bytes().fill(8 * at + 4, 4, 0xC0);
            at += 1;
        }
        steps.signal(step);
    }
    timeline.signal(1);
    fence.wait();

    for n in 0..SIZE / 8 {
        shared.expected[8 * n..8 * n + 4].fill(0xD0);
    }
    for n in 0..at {
        shared.expected[8 * n + 4..8 * n + 8].fill(0xC0);
    }
    assert_eq!(shared.page.bytes().read_all(), shared.expected);
    assert_eq!(shared.page.all_as_device_sees(), shared.expected);
}

#[test]
fn bytes_the_processor_writes_until_it_learns_of_completion_survive_the_devices_arrival() {
    let mut shared = Shared::touched();
    for round in 0..20 {
        let (processor, device) = deal(round, SIZE, 5);
        let theirs = pattern(10 * round, SIZE);
        shared.source.bytes().write(0, &theirs);
        let regions: Vec<_> = device.iter().map(|&(at, len)| (at, at, len)).collect();
        let commands = Commands::new(&shared.gpu, |r| r.copy_regions(&shared.source, &shared.page, &regions));
        let fence = Fence::new(&shared.gpu);

        shared.gpu.submit(&[Batch::new().run(&commands)], Some(&fence));
        // From here to the wait there is no flush point: these bytes are the processor's alone.
        let ours = pattern(10 * round + 1, SIZE);
        for &(at, len) in &processor {
            shared.page.bytes().write(at, &ours[at..at + len]);
            shared.expected[at..at + len].copy_from_slice(&ours[at..at + len]);
        }
        fence.wait();
        for &(at, len) in &device {
            shared.expected[at..at + len].copy_from_slice(&theirs[at..at + len]);
        }

        assert!(shared.page.bytes().read_all() == shared.expected, "the processor's view, round {round}");
        assert!(shared.page.all_as_device_sees() == shared.expected, "the device's view, round {round}");
    }
}

#[test]
fn bytes_the_device_wrote_survive_flushes_before_anyone_learns_of_them() {
    let mut shared = Shared::touched();
    for round in 0..40 {
        let (processor, device) = deal(round, SIZE, 5);
        let theirs = pattern(10 * round, SIZE);
        shared.source.bytes().write(0, &theirs);
        let regions: Vec<_> = device.iter().map(|&(at, len)| (at, at, len)).collect();
        let commands = Commands::new(&shared.gpu, |r| r.copy_regions(&shared.source, &shared.page, &regions));

        // Flush points before, while and after the device writes, and no call that tells of completion.
        shared.gpu.submit(&[Batch::new().run(&commands)], None);
        let ours = pattern(10 * round + 1, SIZE);
        for parts in processor.chunks(processor.len() / 12) {
            for &(at, len) in parts {
                shared.page.bytes().write(at, &ours[at..at + len]);
                shared.expected[at..at + len].copy_from_slice(&ours[at..at + len]);
            }
            shared.gpu.submit(&[], None);
        }
        for &(at, len) in &device {
            shared.expected[at..at + len].copy_from_slice(&theirs[at..at + len]);
        }

        assert!(shared.page.all_as_device_sees() == shared.expected, "the device's view, round {round}");
        assert!(shared.page.bytes().read_all() == shared.expected, "the processor's view, round {round}");
    }
}

#[test]
fn a_shader_and_the_processor_share_every_page() {
    const SHADER: &str = "
        @group(0) @binding(0) var<storage, read_write> words: array<u32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            let at = 2u * id.x;
            if at < arrayLength(&words) { words[at] = words[at] * 3u + id.x; }
        }";
    let mut shared = Shared::touched();
    let compute = Compute::new(&shared.gpu, SHADER, 1);
    let bindings = compute.bind(&[(&shared.page, 0, SIZE)]);
    let groups = u32::try_from(SIZE / 8 / 64 + 1).expect("few groups");
    let commands = Commands::new(&shared.gpu, |r| r.dispatch(&compute, &bindings, groups));

    for round in 0..5_u8 {
        let (timeline, fence) = (Timeline::new(&shared.gpu), Fence::new(&shared.gpu));
        shared.gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&fence));
        for at in (4..SIZE - 3).step_by(8) {
            shared.page.bytes().fill(at, 4, round);
            shared.expected[at..at + 4].fill(round);
        }
        timeline.signal(1);
        fence.wait();
        for (id, at) in (0..).zip((0..SIZE - 3).step_by(8)) {
            let old = u32::from_le_bytes(shared.expected[at..at + 4].try_into().expect("four bytes"));
            let new = old.wrapping_mul(3).wrapping_add(id);
            shared.expected[at..at + 4].copy_from_slice(&new.to_le_bytes());
        }
        assert!(shared.page.bytes().read_all() == shared.expected, "the processor's view, round {round}");
        assert!(shared.page.all_as_device_sees() == shared.expected, "the device's view, round {round}");
    }
}

#[test]
fn two_batches_in_flight_and_the_processor_share_every_page() {
    let mut shared = Shared::touched();
    let sources = [pattern(50, SIZE), pattern(51, SIZE)];
    let buffers = sources.each_ref().map(|bytes| Buffer::coherent_with(&shared.gpu, bytes));
    let third = |n: usize| -> Vec<_> { (n..SIZE).step_by(3).map(|at| (at, at, 1)).collect() };
    let commands =
        [0, 1].map(|n| Commands::new(&shared.gpu, |r| r.copy_regions(&buffers[n], &shared.page, &third(n))));
    let (go, done) = (Timeline::new(&shared.gpu), Timeline::new(&shared.gpu));

    let batch = |(value, commands)| Batch::new().wait(&go, value).run(commands).signal(&done, value);
    shared.gpu.submit(&(1..).zip(&commands).map(batch).collect::<Vec<_>>(), None);
    let middle = SIZE / 2;
    for (at, _, _) in third(2).into_iter().filter(|part| part.0 < middle) {
        shared.page.bytes().store(at, 0x0F);
        shared.expected[at] = 0x0F;
    }
    go.signal(1);
    done.wait(1);
    third(0).into_iter().for_each(|(at, _, _)| shared.expected[at] = sources[0][at]);
    assert!(shared.page.bytes().read_all() == shared.expected, "after the first batch");
    for (at, _, _) in third(2).into_iter().filter(|part| part.0 >= middle) {
        shared.page.bytes().store(at, 0);
        shared.expected[at] = 0;
    }
    go.signal(2);
    done.wait(2);
    third(1).into_iter().for_each(|(at, _, _)| shared.expected[at] = sources[1][at]);

    assert!(shared.page.bytes().read_all() == shared.expected, "the processor's view");
    assert!(shared.page.all_as_device_sees() == shared.expected, "the device's view");
}

#[test]
fn device_writes_between_two_buffers_of_one_page() {
    let gpu = Gpu::new();
    let memory = lockstep_harness::Memory::new(&gpu, Kind::Coherent, 4 * PAGE);
    let align = usize::try_from(Buffer::unbound(&gpu, 100).requirements().alignment).expect("small");
    let step = 100_usize.next_multiple_of(align);
    let bytes = memory.map_whole();
    bytes.fill(0, 4 * PAGE, 0x01);
    let buffers: Vec<_> = (0..4 * PAGE / step)
        .map(|n| {
            let mut buffer = Buffer::unbound(&gpu, 100);
            buffer.bind(&memory, n * step);
            buffer
        })
        .collect();
    let commands = Commands::new(&gpu, |r| buffers.iter().step_by(2).for_each(|b| r.fill(b, 0, 100, 0x02)));
    let (timeline, fence) = (Timeline::new(&gpu), Fence::new(&gpu));

    gpu.submit(&[Batch::new().wait(&timeline, 1).run(&commands)], Some(&fence));
    let mut expected = vec![0x01; 4 * PAGE];
    for n in (0..buffers.len()).filter(|n| n % 2 == 1) {
        bytes.fill(n * step, 100, 0x03);
        expected[n * step..n * step + 100].fill(0x03);
    }
    timeline.signal(1);
    fence.wait();
    for n in (0..buffers.len()).step_by(2) {
        expected[n * step..n * step + 100].fill(0x02);
    }

    assert_eq!(bytes.read_all(), expected);
    for (n, buffer) in buffers.iter().enumerate() {
        assert_eq!(buffer.all_as_device_sees(), expected[n * step..n * step + 100], "buffer {n}");
    }
}
