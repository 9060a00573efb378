//! What all tests of the table stand on: a device whose counters are read when it is gone, and objects that
//! go with it.

use ash::vk;
use lockstep_harness::{Batch, Buffer, Commands, Fence, Gpu, GpuBuilder, Kind, MappedBytes, loader, pattern};
use std::cell::{Cell, RefCell};

/// Counters of `LOCKSTEP_STATS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Bytes in write sets.
    pub(crate) bytes: u64,
    /// Bytes among them that are exact.
    pub(crate) exact: u64,
    /// Bytes of host memory that pulls read.
    pub(crate) compared: u64,
    /// Bytes that pulls stored.
    pub(crate) pulled: u64,
    /// Pages that were given a twin.
    pub(crate) twins: u64,
}

impl Counters {
    fn read(path: &std::path::Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|_| "{}".to_owned());
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let counter = |name: &str| json[name].as_u64().unwrap_or(0);
        Self {
            bytes: counter("write_set_bytes"),
            exact: counter("exact_bytes"),
            compared: counter("bytes_compared"),
            pulled: counter("bytes_pulled"),
            twins: counter("twins"),
        }
    }

    /// Asserts bytes compared and pages given a twin. Tracker `compare` has twins of its own; lazy readback
    /// compares less, what the processor touches.
    #[track_caller]
    pub(crate) fn cost(&self, compared: usize, twins: u64) {
        if lockstep_harness::lockstep_under_test() {
            let twins = if lockstep_harness::tracker() == "compare" { self.twins } else { twins };
            let lazy = std::env::var("LOCKSTEP_READBACK").is_ok_and(|readback| readback == "lazy");
            let compared = if lazy { self.compared.min(compared as u64) } else { compared as u64 };
            assert_eq!((self.compared, self.twins), (compared, twins), "(compared, twins): {self:?}");
        }
    }

    /// Asserts the bytes in write sets: exact ones, and ones of which some may be written. Where all memory
    /// may be mapped, what a test uses beside is in them, too.
    #[track_caller]
    pub(crate) fn are(&self, exact: usize, within: usize) {
        if lockstep_harness::mirror_under_test() {
            assert!(self.exact >= exact as u64 && self.bytes >= (exact + within) as u64, "{self:?}");
        } else if lockstep_harness::lockstep_under_test() {
            let found = (self.exact, self.bytes - self.exact);
            assert_eq!(found, (exact as u64, within as u64), "(exact, within): {self:?}");
        }
    }
}

/// Runs a test on a device with everything enabled and returns what was counted meanwhile.
pub(crate) fn counted(body: impl FnOnce(&Rig)) -> Counters {
    counted_on(Gpu::builder().everything(), body)
}

/// As above, on a device of the test's choice.
pub(crate) fn counted_on(builder: GpuBuilder, body: impl FnOnce(&Rig)) -> Counters {
    counted_raw(builder, |gpu| {
        let rig = Rig::new(gpu.clone());
        body(&rig);
        rig.seen.get()
    })
}

/// As above, with nothing on the device yet. The body returns how many exact bytes are not to be counted.
pub(crate) fn counted_raw(builder: GpuBuilder, body: impl FnOnce(&Gpu) -> u64) -> Counters {
    // The file has the sum of all devices of the process that are gone, and its name is read once.
    thread_local! {
        static DIRECTORY: tempfile::TempDir = tempfile::tempdir().expect("a temporary directory");
    }
    let path = DIRECTORY.with(|directory| directory.path().join("stats.json"));
    loader::set("LOCKSTEP_STATS", &path);
    let before = Counters::read(&path);
    let gpu = builder.build();
    let seen = body(&gpu);
    drop(gpu);
    let after = Counters::read(&path);
    Counters {
        bytes: (after.bytes - before.bytes).saturating_sub(seen),
        exact: (after.exact - before.exact).saturating_sub(seen),
        compared: after.compared - before.compared,
        pulled: after.pulled - before.pulled,
        twins: after.twins - before.twins,
    }
}

type Destroy = Box<dyn FnOnce(&ash::Device)>;

/// A device and what is to be destroyed before it.
pub(crate) struct Rig {
    gpu: Gpu,
    owned: RefCell<Vec<Destroy>>,
    /// Bytes that were copied out only to be looked at.
    seen: Cell<u64>,
    /// Coherent, mapped, and writable by commands: what may write anything would write it.
    _bystander: Buffer,
}

/// Every use of a buffer in the table.
pub(crate) const USES: vk::BufferUsageFlags = vk::BufferUsageFlags::from_raw(
    vk::BufferUsageFlags::TRANSFER_SRC.as_raw()
        | vk::BufferUsageFlags::TRANSFER_DST.as_raw()
        | vk::BufferUsageFlags::UNIFORM_TEXEL_BUFFER.as_raw()
        | vk::BufferUsageFlags::STORAGE_TEXEL_BUFFER.as_raw()
        | vk::BufferUsageFlags::UNIFORM_BUFFER.as_raw()
        | vk::BufferUsageFlags::STORAGE_BUFFER.as_raw()
        | vk::BufferUsageFlags::INDEX_BUFFER.as_raw()
        | vk::BufferUsageFlags::VERTEX_BUFFER.as_raw()
        | vk::BufferUsageFlags::INDIRECT_BUFFER.as_raw(),
);

impl Rig {
    fn new(gpu: Gpu) -> Self {
        let _bystander = Buffer::mapped(&gpu, Kind::Coherent, 40960);
        Self { gpu, owned: RefCell::default(), seen: Cell::new(0), _bystander }
    }

    /// The device.
    pub(crate) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// ash's device.
    pub(crate) fn raw(&self) -> &ash::Device {
        self.gpu.raw()
    }

    /// ash's instance, for extensions.
    pub(crate) fn instance(&self) -> &ash::Instance {
        self.gpu.instance().raw()
    }

    /// Destroys something when the test is done.
    pub(crate) fn own(&self, destroy: impl FnOnce(&ash::Device) + 'static) {
        self.owned.borrow_mut().push(Box::new(destroy));
    }

    /// A mapped coherent buffer full of a pattern, for every use but those of extensions.
    pub(crate) fn buffer(&self, len: usize) -> Buffer {
        self.buffer_for(len, vk::BufferUsageFlags::empty())
    }

    /// As above, for more uses.
    pub(crate) fn buffer_for(&self, len: usize, more: vk::BufferUsageFlags) -> Buffer {
        let buffer = Buffer::mapped_for(&self.gpu, Kind::Coherent, len, USES | more);
        buffer.bytes().write(0, &pattern(len as u64, len));
        buffer
    }

    /// A mapped coherent buffer of words.
    pub(crate) fn words(&self, words: &[u32]) -> Buffer {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let buffer = self.buffer(bytes.len());
        buffer.bytes().write(0, &bytes);
        buffer
    }

    /// Records commands.
    pub(crate) fn record(&self, record: impl FnOnce(&ash::Device, vk::CommandBuffer)) -> Commands {
        Commands::new(&self.gpu, |r| record(self.raw(), r.raw()))
    }

    /// Records commands and runs them.
    pub(crate) fn run(&self, record: impl FnOnce(&ash::Device, vk::CommandBuffer)) {
        self.submit(&self.record(record));
    }

    /// Submits commands and waits for their fence.
    pub(crate) fn submit(&self, commands: &Commands) {
        let fence = Fence::new(&self.gpu);
        self.gpu.submit(&[Batch::new().run(commands)], Some(&fence));
        fence.wait();
    }

    /// Submits commands that write `written`, (where, what), has the processor write all other bytes while
    /// they may be running, and waits for the fence: then every byte must be there.
    #[track_caller]
    pub(crate) fn beside(&self, commands: &Commands, bytes: MappedBytes, written: &[(usize, Vec<u8>)]) {
        let fence = Fence::new(&self.gpu);
        self.gpu.submit(&[Batch::new().run(commands)], Some(&fence));
        let expected = write_others(bytes, written);
        fence.wait();
        assert_same(&bytes.read_all(), &expected);
    }

    /// As [`Rig::beside`] for a buffer, of which the device then must see the same.
    #[track_caller]
    pub(crate) fn check(&self, commands: &Commands, target: &Buffer, written: &[(usize, Vec<u8>)]) {
        self.beside(commands, target.bytes(), written);
        assert_same(&self.look(target), &target.bytes().read_all());
    }

    /// A buffer as the device sees it.
    pub(crate) fn look(&self, buffer: &Buffer) -> Vec<u8> {
        self.seen.set(self.seen.get() + buffer.len() as u64);
        buffer.all_as_device_sees()
    }
}

/// Writes all bytes but those that somebody else writes, and returns what must be there in the end.
pub(crate) fn write_others(bytes: MappedBytes, written: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let mut expected: Vec<u8> = pattern(77, bytes.len());
    let mut others = vec![true; bytes.len()];
    for (at, what) in written {
        expected[*at..*at + what.len()].copy_from_slice(what);
        others[*at..*at + what.len()].fill(false);
    }
    let mine = others.iter().enumerate().filter(|(_, other)| **other);
    bytes.store_each(mine.map(|(at, _)| (at, expected[at])));
    expected
}

/// Asserts that bytes are equal, and says where they are not.
#[track_caller]
pub(crate) fn assert_same(found: &[u8], expected: &[u8]) {
    let different = found.iter().zip(expected).position(|(a, b)| a != b);
    if let Some(at) = different {
        let end = (at + 8).min(found.len());
        panic!("byte {at} of {}: {:?}, not {:?}", found.len(), &found[at..end], &expected[at..end]);
    }
    assert_eq!(found.len(), expected.len());
}

/// The bytes of words.
pub(crate) fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.gpu.device_wait_idle();
        for destroy in self.owned.borrow_mut().drain(..).rev() {
            destroy(self.gpu.raw());
        }
    }
}
