//! What can happen in a system, and sequences of it.

/// Surfaces of a system: three in one object, a wide one, and a small one.
pub(crate) const SURFACES: usize = 5;
/// Objects: those of the surfaces, and one more each for the wide and the small one to change to.
pub(crate) const BOS: usize = 5;
/// Processes at a time.
pub(crate) const PROCESSES: usize = 2;

/// One step. Surfaces, objects and processes are by index.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Store {
        process: usize,
        surface: usize,
        offset: usize,
        value: u8,
    },
    Load {
        process: usize,
        surface: usize,
        offset: usize,
    },
    /// Stores to every page of the first object that is not of `skip`, and uses all surfaces on it; again and
    /// again.
    Burst {
        process: usize,
        skip: usize,
        rounds: usize,
        value: u8,
    },
    /// Three batches that use all surfaces and write none.
    Idle,
    Use {
        surface: usize,
    },
    Copy {
        src: usize,
        dest: usize,
        x: usize,
        y: usize,
    },
    Clear {
        surface: usize,
        value: u8,
    },
    Draw {
        target: usize,
        input: usize,
        value: u8,
    },
    Readback {
        surface: usize,
    },
    /// Reads a surface back and uploads it, in one batch.
    Upload {
        surface: usize,
    },
    /// Fills a surface, with room for so many bytes of commands.
    Cramped {
        surface: usize,
        space: u64,
        value: u8,
    },
    /// A batch that fails at a busy object, and would have bound one surface to the object of another.
    FailedSwitch {
        surface: usize,
        owner: usize,
    },
    /// Binds a surface to its other object, and uploads or fills it.
    Switch {
        surface: usize,
        fill: Option<u8>,
    },
    Evict {
        surface: usize,
    },
    SwapOut {
        bo: usize,
    },
    Pin {
        surface: usize,
    },
    Show {
        surface: usize,
    },
    /// A store to a read-only entry. Its fault waits for a batch that fills the surface, if one does; and
    /// another batch comes before the entry is made writable.
    SlowStore {
        process: usize,
        surface: usize,
        offset: usize,
        fill: Option<u8>,
        value: u8,
    },
    Map {
        process: usize,
        bo: usize,
    },
    Unmap {
        process: usize,
        bo: usize,
    },
    /// Maps an object as a program does that opened the device for reading.
    MapReadOnly {
        process: usize,
        bo: usize,
    },
    Protect {
        process: usize,
        bo: usize,
        write: bool,
    },
    Random {
        process: usize,
        bo: usize,
        random: bool,
    },
    /// The second process ends; a child of the first takes its place.
    Fork,
    Step {
        commands: usize,
    },
    Wait,
    Check,
}

/// A sequence of random numbers (SplitMix64).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number less than `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("64-bit platform")
    }

    fn byte(&mut self) -> u8 {
        // Never 0: what nobody wrote.
        u8::try_from(1 + self.next() % 255).expect("a byte")
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    /// A sequence of steps.
    pub(crate) fn ops(&mut self) -> Vec<Op> {
        let len = 5 + self.below(40);
        let mut ops: Vec<Op> = (0..len).map(|_| self.op()).collect();
        ops.push(Op::Check);
        ops
    }

    fn op(&mut self) -> Op {
        let (process, surface, bo) = (self.below(PROCESSES), self.below(SURFACES), self.below(BOS));
        // Beyond the end of most surfaces; where it counts it is cut.
        let (offset, value) = (self.below(8 * 4096), self.byte());
        let other = self.below(SURFACES);
        match self.below(100) {
            0..20 => Op::Store { process, surface, offset, value },
            20..32 => Op::Load { process, surface, offset },
            32..36 => Op::Burst { process, skip: self.below(3), rounds: 1 + self.below(4), value },
            36..38 => Op::Idle,
            38..44 => Op::Use { surface },
            44..50 => Op::Copy { src: surface, dest: other, x: self.below(1024), y: self.below(4) },
            50..58 => Op::Clear { surface, value },
            58..62 => Op::Draw { target: surface, input: other, value },
            62..64 => Op::Readback { surface },
            64 => Op::Upload { surface },
            65..67 => Op::Cramped { surface, space: self.below(200) as u64, value },
            67..69 => Op::FailedSwitch { surface, owner: other },
            69..72 => Op::Switch { surface: 3 + self.below(2), fill: self.coin().then_some(value) },
            72..75 => Op::Evict { surface },
            75..78 => Op::SwapOut { bo },
            78 => Op::Pin { surface },
            79 => Op::Show { surface },
            80..83 => {
                let fill = self.coin().then(|| self.byte());
                Op::SlowStore { process, surface, offset, fill, value }
            }
            83..86 => Op::Map { process, bo },
            86..88 => Op::Unmap { process, bo },
            88 => Op::MapReadOnly { process, bo },
            89 => Op::Protect { process, bo, write: self.coin() },
            90 => Op::Random { process, bo, random: self.coin() },
            91 => Op::Fork,
            92..96 => Op::Step { commands: 1 + self.below(4) },
            96..98 => Op::Wait,
            _ => Op::Check,
        }
    }
}
