//! What records say, by kind, in version 1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::age::Recipient;
use crate::ids::{FleetName, KeyId, Nonce, ObjectId, RoundId, ServiceName};
use crate::log::member::Change;
use crate::log::record::Head;
use crate::time::UnixMillis;

/// A record's body.
pub trait Body: Serialize + DeserializeOwned {
    /// The kind's name.
    const KIND: &'static str;
    /// True for what is said by root, enroller or operator and may be appended by anyone of the roster: the body is an
    /// envelope of its own and chained per kind.
    const STATEMENT: bool;
    /// Whether a reader that does not know the kind must stop. Nothing of what a log promises may depend on a kind that is
    /// not critical.
    const CRITICAL: bool = true;
}

macro_rules! body {
    ($name:ident, $kind:literal, $statement:literal) => {
        body!($name, $kind, $statement, true);
    };
    ($name:ident, $kind:literal, $statement:literal, $critical:literal) => {
        impl Body for $name {
            const KIND: &'static str = $kind;
            const STATEMENT: bool = $statement;
            const CRITICAL: bool = $critical;
        }
    };
}

/// The first record: the fleet is born. Signed by the root key, which it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// Name, for people and subjects.
    pub name: FleetName,
    /// 32 random bytes; with the root key they give the fleet id.
    #[serde(with = "serde_bytes")]
    pub salt: [u8; 32],
    /// 16 random bytes that name this share; a copy gets its own by `adopt`.
    pub share: Nonce,
    /// When, for people.
    pub created: UnixMillis,
}
body!(Genesis, "genesis", false);

/// A recovery key of a keyset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysetKey {
    /// The age recipient.
    pub recipient: Recipient,
    /// A label for people: year, holder.
    pub label: String,
}

/// The recovery keys that every pack is sealed to from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keyset {
    /// Hash of the keyset statement before this one.
    pub previous: Option<ObjectId>,
    /// At least one key.
    pub keys: Vec<KeysetKey>,
    /// When, by the clock of whoever says it: for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixMillis>,
}
body!(Keyset, "keyset", true);

/// Changes of the roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    /// Hash of the roster statement before this one.
    pub previous: Option<ObjectId>,
    /// In order.
    pub changes: Vec<Change>,
    /// When, by the clock of whoever says it: for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixMillis>,
}
body!(Roster, "roster", true);

/// The fleet-wide configuration, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Hash of the config statement before this one.
    pub previous: Option<ObjectId>,
    /// Keys and values as `muster config` shows them.
    pub clear: BTreeMap<String, String>,
    /// An object of `lists/` with the part that is sealed to recovery keys and coordinators.
    pub sealed: Option<ObjectId>,
    /// When, by the clock of whoever says it: for people, and where a schedule begins to count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixMillis>,
}
body!(Config, "config", true);

/// A coordinator takes the lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Epoch {
    /// One more than the last.
    pub epoch: u64,
    /// Tells two processes of one coordinator apart.
    pub instance: Nonce,
    /// When, for people.
    pub at: UnixMillis,
}
body!(Epoch, "epoch", false);

/// Which services a round is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// All of the roster.
    All,
    /// These.
    Services(Vec<ServiceName>),
}

impl Scope {
    /// Whether a service belongs to it.
    #[must_use]
    pub fn contains(&self, service: &ServiceName) -> bool {
        match self {
            Self::All => true,
            Self::Services(services) => services.contains(service),
        }
    }

    /// Whether two rounds over these would have a service in common. A scope of all has one with any other, whatever
    /// the roster says now: it may change while they run.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Services(a), Self::Services(b)) => a.iter().any(|service| b.contains(service)),
            (Self::All, Self::All | Self::Services(_)) | (Self::Services(_), Self::All) => true,
        }
    }
}

/// What happens when a required service loses its place in the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBreak {
    /// The cut is broken for the whole round (ROUND-05); the slices count, each by itself.
    #[default]
    Break,
    /// The cut goes on without it.
    GoOn,
}

/// The terms of a round's cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutTerms {
    /// Milliseconds from opening until the capture is announced, whoever holds by then.
    pub barrier_millis: u64,
    /// What happens when a required service loses its place.
    pub on_break: OnBreak,
}

/// A round begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// The current epoch.
    pub epoch: u64,
    /// The round.
    pub round: RoundId,
    /// One more than the last round's number.
    pub number: u64,
    /// Which services.
    pub scope: Scope,
    /// The round's nonce; every attempt's is derived from it.
    pub nonce: Nonce,
    /// What asked for it: `schedule`, `command`, `message`, with a detail.
    pub trigger: String,
    /// Milliseconds from opening to the deadline.
    pub deadline_millis: u64,
    /// Coordinator's time.
    pub at: UnixMillis,
    /// The terms of its cut; none: every service is captured by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<CutTerms>,
}
body!(Open, "open", false);

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Committed with every expected slice.
    Complete,
    /// Committed without some.
    Partial,
    /// No slice at all, or it could not be committed.
    Failed,
    /// Cancelled by an operator.
    Cancelled,
    /// Never begun.
    Skipped,
}

impl Outcome {
    /// Each of them.
    pub const ALL: [Self; 5] = [Self::Complete, Self::Partial, Self::Failed, Self::Cancelled, Self::Skipped];

    /// The word for screens and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

/// The commit: from this record on the round counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// The current epoch.
    pub epoch: u64,
    /// The round.
    pub round: RoundId,
    /// Hash of the manifest.
    pub manifest: ObjectId,
    /// Length of the manifest in bytes.
    pub manifest_size: u64,
    /// `complete` or `partial`.
    pub outcome: Outcome,
    /// Coordinator's time.
    pub at: UnixMillis,
}
body!(Commit, "commit", false);

/// Every new object of the round was read again and hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    /// The current epoch.
    pub epoch: u64,
    /// The round.
    pub round: RoundId,
    /// Objects read.
    pub objects: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Coordinator's time.
    pub at: UnixMillis,
}
body!(Verified, "verified", false);

/// A round ends without a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// The current epoch.
    pub epoch: u64,
    /// The round.
    pub round: RoundId,
    /// `failed`, `cancelled` or `skipped`.
    pub outcome: Outcome,
    /// Why, for people.
    pub reason: String,
    /// Coordinator's time.
    pub at: UnixMillis,
    /// What became of each service, if the share took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<EndAccount>,
}
body!(End, "end", false);

/// Where the account of a round without a commit lies: an object with a manifest's shape in a manifest's place. It tells a
/// story and nothing more: no recovery reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndAccount {
    /// Its hash.
    pub object: ObjectId,
    /// Its length in bytes.
    pub size: u64,
}

/// The first pass of a prune: what may go is marked, by a pruner or by the leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// The current epoch.
    pub epoch: u64,
    /// Rounds that would go.
    pub rounds: Vec<RoundId>,
    /// The list of objects that would go.
    pub list: ObjectId,
    /// When it was marked, on the marker's clock: the grace begins here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixMillis>,
}
body!(Prune, "prune", false);

/// The pruner is about to delete. From here on nothing on the list may be committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Rounds that go.
    pub rounds: Vec<RoundId>,
    /// The list of objects that go.
    pub list: ObjectId,
}
body!(Sweep, "sweep", false);

/// The pruner has deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pruned {
    /// Log number of the sweep.
    pub sweep: u64,
}
body!(Pruned, "pruned", false);

/// An operator keeps a round, or lets it go again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Hash of the hold statement before this one.
    pub previous: Option<ObjectId>,
    /// The round.
    pub round: RoundId,
    /// True: keep. False: let go.
    pub keep: bool,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When, by the clock of whoever says it: for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixMillis>,
}
body!(Hold, "hold", true);

/// An operator accepts what a service is like from a round on: what was odd about it up to there (ROUND-06) is meant. Not
/// critical: a reader that does not know it goes on sparing what it would spare anyway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// Hash of the accept statement before this one.
    pub previous: Option<ObjectId>,
    /// The service.
    pub service: ServiceName,
    /// The newest round that whoever says it has seen.
    pub round: RoundId,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When, by the clock of whoever says it: for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixMillis>,
}
body!(Accept, "accept", true, false);

/// How a drill went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrillOutcome {
    /// All that it asked for came out, and was compared.
    Passed,
    /// Something did not.
    Failed,
}

impl DrillOutcome {
    /// The word for screens and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
        }
    }
}

/// An operator recovered a round with an offline key, away from the fleet, to see whether that goes and how long it takes: the word
/// of whoever did it. Not critical: a reader that does not know it believes in no round the less.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// Hash of the drill statement before this one.
    pub previous: Option<ObjectId>,
    /// The round.
    pub round: RoundId,
    /// Which of its services. Only a drill of all of them says something about the fleet.
    pub scope: Scope,
    /// How it went.
    pub outcome: DrillOutcome,
    /// Files that came out.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Milliseconds from the first byte read to the last one written.
    pub took_millis: u64,
    /// Why it failed, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it ended, by the clock of whoever says it.
    pub at: UnixMillis,
}
body!(Drill, "drill", true, false);

/// The root accepts a lower head, or a copy as the share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adopt {
    /// Hash of the adopt statement before this one.
    pub previous: Option<ObjectId>,
    /// The name of the share that counts from here on.
    pub share: Nonce,
    /// The head that is accepted.
    pub head: Head,
    /// When, by the clock of whoever says it: for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixMillis>,
}
body!(Adopt, "adopt", true);

/// To which key whatever is for the signing coordinator alone is sealed, from here on: its own word, because nobody else
/// would be any the worse for a wrong one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealing {
    /// The coordinator's own age recipient. Never data is sealed to it, only the sealed part of the configuration.
    pub recipient: Recipient,
}
body!(Sealing, "sealing", false, false);

/// Who did what, for `muster audit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// Who.
    pub who: KeyId,
    /// What, for people.
    pub what: String,
    /// Coordinator's time.
    pub at: UnixMillis,
}
body!(Audit, "audit", false, false);

/// How damage showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// The object is not there, or has other bytes than its name says: anybody can see that it is mended.
    Bytes,
    /// Its bytes are those that were stored, and an operator whose key opens them found that they do not read. Only a key sees
    /// that, so nothing but its end lifts it.
    Content,
}

/// Objects of one service that were read again and found not to be what they should be. From here on nothing may be committed
/// that names one of them, so that the next slice uploads what they held once more. Not critical: a round that an older
/// reader believes in is no worse for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    /// The current epoch.
    pub epoch: u64,
    /// Whose objects.
    pub service: ServiceName,
    /// What was found damaged or missing; at most [`MAX_QUARANTINE_OBJECTS`].
    pub add: Vec<ObjectId>,
    /// How that showed, of all in `add`.
    pub found: Found,
    /// What was in quarantine and is whole again, or gone and needed by no round.
    pub lift: Vec<ObjectId>,
    /// Coordinator's time.
    pub at: UnixMillis,
}
body!(Quarantine, "quarantine", false, false);

/// Most objects that one `quarantine` record names, of `add` and of `lift` each: what fits into a record.
pub const MAX_QUARANTINE_OBJECTS: usize = 800;

/// How far the stored objects have been read again. A pass goes through all services by name, and through the objects of each
/// by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scrub {
    /// The current epoch.
    pub epoch: u64,
    /// Number of the pass, from 1 on.
    pub pass: u64,
    /// The last object that was read; none: the pass is over.
    pub reached: Option<Reached>,
    /// Objects read so far in this pass.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the pass began, coordinator's time.
    pub began: UnixMillis,
    /// Coordinator's time.
    pub at: UnixMillis,
}
body!(Scrub, "scrub", false, false);

/// An object in the order of a scrub.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reached {
    /// Whose it is.
    pub service: ServiceName,
    /// Its id.
    pub object: ObjectId,
}
