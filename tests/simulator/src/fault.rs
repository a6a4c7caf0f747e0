//! What goes wrong, and how often it did.

/// Everything that a seed may inject. Most are drawn where they strike; those of `Fault::MISCHIEF` by a hand that
/// reaches into the world from time to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A message takes long.
    Delayed,
    /// A message is lost.
    Dropped,
    /// A message comes twice.
    Doubled,
    /// A message overtakes one that was sent before it.
    Reordered,
    /// A message comes again much later.
    Replayed,
    /// A message with somebody else's key, or of a former epoch.
    Forged,
    /// Nobody hears a coordinator, and it hears nobody.
    CoordinatorPartitioned,
    /// The same for an agent.
    AgentPartitioned,
    /// The bus forgets its last values and the lease.
    BusWiped,
    /// A call of the share fails and did nothing.
    ShareRefused,
    /// A call of the share did its work and is reported as failed.
    AnswerLost,
    /// The share cannot be reached from one place.
    ShareCut,
    /// A reader is shown the log as it was some records ago.
    StaleLog,
    /// A slot of the log holds something that is no record.
    SlotSquatted,
    /// An object that was written is not there.
    ObjectLost,
    /// An object is shorter than was written.
    ObjectShort,
    /// An object has its length and other bytes.
    ObjectRotten,
    /// A listing leaves objects out.
    ListingShort,
    /// A coordinator dies, often between two effects.
    CoordinatorCrashed,
    /// It comes up again without its disk.
    CoordinatorDiskWiped,
    /// It is stopped for longer than a lease, then goes on.
    CoordinatorPaused,
    /// An agent dies, often between two effects.
    AgentCrashed,
    /// It comes up again without its cache and what it remembers of the log.
    AgentStateLost,
    /// It is stopped and goes on.
    AgentPaused,
    /// An agent never comes back.
    AgentGone,
    /// The pruner dies in the middle of its work.
    PrunerCrashed,
    /// A coordinator's wall clock jumps by up to ten years, either way.
    ClockJumped,
    /// A source cannot be read.
    CaptureFailed,
    /// A hook that quiesces fails.
    QuiesceFailed,
    /// A hook hangs.
    HookHung,
    /// A hook that releases fails.
    ReleaseFailed,
    /// An operator cancels a round.
    Cancelled,
    /// The same request comes again.
    TriggeredAgain,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 33] = [
        Self::Delayed,
        Self::Dropped,
        Self::Doubled,
        Self::Reordered,
        Self::Replayed,
        Self::Forged,
        Self::CoordinatorPartitioned,
        Self::AgentPartitioned,
        Self::BusWiped,
        Self::ShareRefused,
        Self::AnswerLost,
        Self::ShareCut,
        Self::StaleLog,
        Self::SlotSquatted,
        Self::ObjectLost,
        Self::ObjectShort,
        Self::ObjectRotten,
        Self::ListingShort,
        Self::CoordinatorCrashed,
        Self::CoordinatorDiskWiped,
        Self::CoordinatorPaused,
        Self::AgentCrashed,
        Self::AgentStateLost,
        Self::AgentPaused,
        Self::AgentGone,
        Self::PrunerCrashed,
        Self::ClockJumped,
        Self::CaptureFailed,
        Self::QuiesceFailed,
        Self::HookHung,
        Self::ReleaseFailed,
        Self::Cancelled,
        Self::TriggeredAgain,
    ];

    /// Those that nobody's own doing brings about.
    pub(crate) const MISCHIEF: [Self; 13] = [
        Self::CoordinatorPartitioned,
        Self::AgentPartitioned,
        Self::BusWiped,
        Self::ShareCut,
        Self::CoordinatorCrashed,
        Self::CoordinatorPaused,
        Self::AgentCrashed,
        Self::AgentPaused,
        Self::PrunerCrashed,
        Self::ClockJumped,
        Self::Replayed,
        Self::Forged,
        Self::Cancelled,
    ];

    /// How often it strikes where it may, in a thousand; those of [`Fault::MISCHIEF`] have weights instead.
    pub(crate) fn usual(self) -> u64 {
        match self {
            Self::Delayed => 120,
            Self::Dropped => 60,
            Self::Doubled => 60,
            Self::ShareRefused => 50,
            Self::AnswerLost => 40,
            Self::StaleLog => 30,
            Self::SlotSquatted => 20,
            Self::ObjectLost | Self::ObjectShort => 20,
            Self::ObjectRotten => 20,
            Self::ListingShort => 150,
            Self::CoordinatorCrashed => 6,
            Self::AgentCrashed => 8,
            Self::CoordinatorDiskWiped => 250,
            Self::AgentStateLost => 250,
            Self::AgentGone => 60,
            Self::CaptureFailed => 60,
            Self::QuiesceFailed => 60,
            Self::HookHung => 60,
            Self::ReleaseFailed => 60,
            Self::TriggeredAgain => 150,
            Self::PrunerCrashed => 100,
            Self::CoordinatorPartitioned
            | Self::AgentPartitioned
            | Self::BusWiped
            | Self::ShareCut
            | Self::CoordinatorPaused
            | Self::AgentPaused
            | Self::ClockJumped
            | Self::Replayed
            | Self::Forged
            | Self::Reordered
            | Self::Cancelled => 0,
        }
    }
}

/// How often each fault struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally([u64; Fault::ALL.len()]);

impl Default for Tally {
    fn default() -> Self {
        Self([0; Fault::ALL.len()])
    }
}

impl Tally {
    /// One more.
    pub(crate) fn count(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    /// How often this one did.
    #[must_use]
    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Adds another tally up.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}
