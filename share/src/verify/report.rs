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
