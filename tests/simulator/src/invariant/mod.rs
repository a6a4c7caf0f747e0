//! What must hold after every event, one file each, by the numbers of the fault list in the design.

mod committed_is_whole;
mod committed_stays;
mod foreign_changes_nothing;
mod head_never_goes_back;
mod holds_end;
mod machines_keep_their_word;
mod minimum_survives;
mod never_overwritten;
mod nobody_waits_for_the_bad;
mod one_log;
mod prune_spares;
mod rounds_end;
mod stored_is_there;
mod twice_is_once;
mod uncommitted_never_counts;
mod waste_goes;

use crate::fact::Fact;
use crate::world::World;

/// Something that must always hold.
pub(crate) trait Invariant {
    /// Its number and words.
    fn name(&self) -> &'static str;

    /// Looks at the world after an event that brought these facts about.
    fn after(&mut self, world: &World, facts: &[Fact]) -> Result<(), String>;

    /// Looks at the world once nothing is left to do.
    fn at_end(&mut self, world: &World) -> Result<(), String> {
        let _ = world;
        Ok(())
    }
}

/// All of them, fresh for one seed.
pub(crate) fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::<committed_is_whole::CommittedIsWhole>::default(),
        Box::new(committed_stays::CommittedStays),
        Box::new(uncommitted_never_counts::UncommittedNeverCounts),
        Box::<never_overwritten::NeverOverwritten>::default(),
        Box::new(prune_spares::PruneSpares),
        Box::new(minimum_survives::MinimumSurvives),
        Box::<one_log::OneLog>::default(),
        Box::<twice_is_once::TwiceIsOnce>::default(),
        Box::new(foreign_changes_nothing::ForeignChangesNothing),
        Box::<head_never_goes_back::HeadNeverGoesBack>::default(),
        Box::new(stored_is_there::StoredIsThere),
        Box::new(holds_end::HoldsEnd),
        Box::new(rounds_end::RoundsEnd),
        Box::new(nobody_waits_for_the_bad::NobodyWaitsForTheBad),
        Box::<waste_goes::WasteGoes>::default(),
        Box::new(machines_keep_their_word::MachinesKeepTheirWord),
    ]
}
