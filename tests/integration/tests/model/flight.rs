//! What was recorded, and what was submitted of it.

use std::sync::Arc;

use lockstep_harness::{Commands, Event, Fence, Semaphore};

use crate::ops::{Op, Span, Tools};
use crate::places::Scene;
use crate::shade::Extra;

/// A command buffer and what it does.
pub(crate) struct Program {
    pub(crate) ops: Vec<Op>,
    pub(crate) commands: Commands,
    pub(crate) writes: Vec<Span>,
    pub(crate) reads: Vec<Span>,
    _secondary: Option<Commands>,
    pub(crate) extras: Vec<Extra>,
}

impl Program {
    /// Records commands, to be submitted as often as one likes. `secondary`: in a secondary command buffer.
    pub(crate) fn new(tools: &Tools, scene: &Scene<'_>, ops: Vec<Op>, secondary: bool) -> Arc<Self> {
        let extras: Vec<_> = ops.iter().map(|op| op.prepare(tools, scene)).collect();
        let record = |r: &lockstep_harness::Recorder<'_>| {
            for (op, extra) in ops.iter().zip(&extras) {
                op.record(tools, r, scene, extra);
            }
        };
        let secondary = secondary.then(|| Commands::secondary(&tools.gpu, record));
        let commands = match &secondary {
            Some(secondary) => Commands::simultaneous(&tools.gpu, |r| r.execute(&[secondary])),
            None => Commands::simultaneous(&tools.gpu, record),
        };
        extras.iter().for_each(Extra::finish);
        let writes = ops.iter().flat_map(|op| op.writes(scene)).collect();
        let reads = ops.iter().flat_map(|op| op.reads(scene)).collect();
        Arc::new(Self { ops, commands, writes, reads, _secondary: secondary, extras })
    }

    /// Returns whether a place must stay.
    pub(crate) fn uses(&self, scene: &Scene<'_>, place: usize) -> bool {
        self.ops.iter().any(|op| op.uses(scene, place))
    }
}

/// A part of a batch, of which the processor may learn that it is complete.
pub(crate) struct Phase {
    pub(crate) programs: Vec<Arc<Program>>,
    /// The device waits for this before; whether the processor has set it.
    pub(crate) gate: Option<(Event, bool)>,
    /// The device sets this behind.
    pub(crate) event: Option<Event>,
    /// The device writes the time behind.
    pub(crate) query: Option<u32>,
    /// Whether nothing holds it back.
    pub(crate) released: bool,
    /// Whether the processor has learnt that it is complete.
    pub(crate) known: bool,
}

impl Phase {
    /// A phase that waits for nothing and tells of nothing.
    pub(crate) fn of(programs: Vec<Arc<Program>>) -> Self {
        Self { programs, gate: None, event: None, query: None, released: false, known: false }
    }
}

/// A submitted batch whose objects still live.
pub(crate) struct Flight {
    pub(crate) number: u64,
    /// The value of the host's timeline that lets it go.
    pub(crate) go: u64,
    pub(crate) phases: Vec<Phase>,
    pub(crate) fence: Option<Arc<Fence>>,
    /// Whether it is its submission's last, the one behind which the fence is signalled.
    pub(crate) last: bool,
    pub(crate) _separators: Vec<Commands>,
    pub(crate) _semaphores: Vec<Arc<Semaphore>>,
}

impl Flight {
    pub(crate) fn is_released(&self) -> bool {
        self.phases.iter().all(|phase| phase.released)
    }

    pub(crate) fn is_known(&self) -> bool {
        self.phases.iter().all(|phase| phase.known)
    }
}
