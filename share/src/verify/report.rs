//! What a verification found.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::ids::{RoundId, ServiceName};
use muster_protocol::log::Outcome;
use muster_protocol::time::UnixMillis;

use super::damage::Damage;
use crate::layout::ObjectPath;

/// A damaged object, and what it hurts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// What is wrong with it.
    pub damage: Damage,
    /// Numbers of the rounds that need it, of those that were checked.
    pub rounds: BTreeSet<u64>,
    /// Files that need it, in the newest of those rounds; only where a recovery key opened the index.
    pub files: Option<u64>,
    /// The first of them, raw, with its source's name before it.
    pub first_path: Option<Vec<u8>>,
}

/// A round that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundReport {
    /// Its id.
    pub round: RoundId,
    /// Its number.
    pub number: u64,
    /// Complete or partial.
    pub outcome: Outcome,
    /// When it was committed.
    pub at: UnixMillis,
    /// Nothing that it needs is damaged.
    pub whole: bool,
}

/// A service that has a slice in a round that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceReport {
    /// Its name.
    pub service: ServiceName,
    /// Nothing of it is damaged.
    pub whole: bool,
    /// The newest of the rounds that hold it.
    pub newest: u64,
    /// Nothing of it that this round needs is damaged.
    pub newest_whole: bool,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Rounds, newest first.
    pub rounds: Vec<RoundReport>,
    /// Services, sorted.
    pub services: Vec<ServiceReport>,
    /// Damaged objects: the log's, the manifests', then by path.
    pub damaged: Vec<Damaged>,
    /// Objects that were read.
    pub objects: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Contents were opened and compared, not only hashed.
    pub opened: bool,
}

impl Report {
    /// Whether everything is as it should be.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty()
    }

    /// Whether damage is in older rounds alone: each service's newest slice is whole, and so is all that belongs to no round.
    #[must_use]
    pub fn is_outlived(&self) -> bool {
        // What a manifest that cannot be read held, nobody knows: every service must be in a later round.
        let later = self.services.iter().map(|service| service.newest).min().unwrap_or(0);
        let is_old = |found: &Damaged| match found.damage.service() {
            Some(_) => !found.rounds.is_empty(),
            None => found.rounds.last().is_some_and(|round| *round < later),
        };
        !self.damaged.is_empty()
            && self.damaged.iter().all(is_old)
            && self.services.iter().all(|service| service.newest_whole)
    }

    /// The newest round that was checked and is whole.
    #[must_use]
    pub fn newest_whole(&self) -> Option<u64> {
        self.rounds.iter().filter(|round| round.whole).map(|round| round.number).max()
    }
}

/// Damage as it is found, each object once.
#[derive(Debug, Default)]
pub(super) struct Findings(pub(super) BTreeMap<ObjectPath, Damaged>);

impl Findings {
    pub(super) fn add(&mut self, damage: Damage, round: Option<u64>) {
        let found = self.0.entry(damage.object.clone()).or_insert_with(|| Damaged {
            damage,
            rounds: BTreeSet::new(),
            files: None,
            first_path: None,
        });
        found.rounds.extend(round);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use muster_protocol::ids::{ObjectId, ServiceName};

    use super::{Damaged, Report, ServiceReport};
    use crate::layout::ObjectPath;
    use crate::verify::{Damage, Fault};

    fn service(name: &str) -> ServiceName {
        name.parse().expect("a name")
    }

    fn damaged(object: ObjectPath, rounds: &[u64]) -> Damaged {
        let rounds = rounds.iter().copied().collect::<BTreeSet<_>>();
        Damaged { damage: Damage::new(object, Fault::Hash), rounds, files: None, first_path: None }
    }

    fn pack(rounds: &[u64]) -> Damaged {
        let id = ObjectId::of(b"a pack");
        damaged(ObjectPath::Pack { service: service("dns"), id }, rounds)
    }

    fn report(damaged: Vec<Damaged>, newest: &[(&str, u64, bool)]) -> Report {
        let services = newest.iter().map(|(name, newest, newest_whole)| ServiceReport {
            service: service(name),
            whole: false,
            newest: *newest,
            newest_whole: *newest_whole,
        });
        let (rounds, services) = (Vec::new(), services.collect());
        Report { rounds, services, damaged, objects: 0, bytes: 0, opened: false }
    }

    #[test]
    fn damage_is_outlived_once_every_service_has_a_later_whole_slice() {
        let manifest = |round| damaged(ObjectPath::Manifest(ObjectId::of(b"a manifest")), &[round]);
        let both = [("dns", 5, true), ("web", 4, true)];
        assert!(report(vec![pack(&[1, 2])], &both).is_outlived());
        assert!(report(vec![manifest(3)], &both).is_outlived());
        for (damaged, newest) in [
            (vec![], both),
            (vec![pack(&[5])], [("dns", 5, false), ("web", 4, true)]),
            (vec![pack(&[])], both),
            (vec![manifest(4)], both),
            (vec![damaged(ObjectPath::Format, &[])], both),
        ] {
            assert!(!report(damaged.clone(), &newest).is_outlived(), "{damaged:?}");
        }
    }
}
