//! Bugs that the simulator must find. They are compiled in by the feature `planted` alone, and lie in the shells of the
//! simulation, where the shells of the daemons could have them.

/// A bug that is put in on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// A leader commits without looking whether it still holds the epoch.
    CommitWithoutEpoch,
    /// An agent tells the leader of a receipt that is not on the share yet.
    NoticeBeforeReceipt,
    /// A leader takes a slice for good without looking at what its receipt names.
    CommitBeforeCheck,
    /// The pruner deletes without regard to open rounds.
    PruneWithoutOpenRounds,
    /// A service is held without a watchdog.
    HoldWithoutWatchdog,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::CommitWithoutEpoch,
        Self::NoticeBeforeReceipt,
        Self::CommitBeforeCheck,
        Self::PruneWithoutOpenRounds,
        Self::HoldWithoutWatchdog,
    ];
}

impl crate::world::World {
    /// Whether this bug is in. Always false without the feature, so that nothing of it is left in the code.
    pub(crate) fn has(&self, bug: Planted) -> bool {
        cfg!(feature = "planted") && self.planted == Some(bug)
    }
}
