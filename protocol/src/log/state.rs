//! What the log says so far: the fleet's trust, epoch and rounds.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::age::Recipient;
use crate::ids::{FleetId, FleetName, KeyId, Nonce, ObjectId, RoundId, ServiceName};
use crate::log::body::{
    Commit, Config, Drill, DrillOutcome, End, Found, Keyset, Open, Outcome, Prune, Reached, Sweep, Verified,
};
use crate::log::member::{Member, Role};
use crate::log::record::{GENESIS_HEAD, Head, Seen};
use crate::time::UnixMillis;

/// Most rounds that may be open at once.
pub const MAX_OPEN_ROUNDS: usize = 8;

/// Most objects of one service that are in quarantine at once. What is found beyond them is told and no more: of a share that
/// has lost so much, nothing is to be believed.
pub const MAX_QUARANTINED: usize = 8_000;

/// What a reader knows of the fleet before it reads: from enrolment, the kit, or nothing at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pin {
    /// The root public key.
    pub root: Option<KeyId>,
    /// The fleet id.
    pub fleet: Option<FleetId>,
    /// The highest head seen before; nothing at or below it may be void or gone, unless the root adopted another head
    /// since.
    pub head: Option<Seen>,
}

/// A member and the log numbers between which it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberState {
    /// The member.
    pub member: Member,
    /// The record that admitted it.
    pub since: u64,
    /// The record that revoked it, if any; it counts before that.
    pub revoked: Option<u64>,
}

/// Who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochState {
    /// The epoch.
    pub epoch: u64,
    /// The coordinator that holds it.
    pub holder: KeyId,
    /// Its process.
    pub instance: Nonce,
    /// The record's number.
    pub position: u64,
}

/// How far a round is, as far as the log knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoundPhase {
    /// Opened.
    Open,
    /// Committed at this log number.
    Committed {
        /// The commit.
        commit: Commit,
        /// Its log number.
        position: u64,
        /// The verification, once it happened.
        verified: Option<Verified>,
    },
    /// Ended without a commit.
    Ended(End),
}

/// An operator's word that a round stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldState {
    /// Whose word.
    pub by: KeyId,
    /// Its log number.
    pub position: u64,
    /// Why, for people.
    pub reason: Option<String>,
}

/// A drill of all services of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drilled {
    /// What was said of it.
    pub drill: Drill,
    /// The round's number.
    pub number: u64,
    /// Whose word.
    pub by: KeyId,
    /// Its log number.
    pub position: u64,
}

/// Another process took the lead while a round was open, and went on with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// Its epoch.
    pub epoch: u64,
    /// The coordinator that holds it.
    pub holder: KeyId,
    /// When, by its own clock: for people.
    pub at: UnixMillis,
}

/// What of a service must not be relied on: found damaged, and not lifted since.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quarantined {
    /// Its objects, and how it showed.
    pub objects: BTreeMap<ObjectId, Found>,
    /// The newest record that added one. A slice that was committed behind it names none of them.
    pub position: u64,
    /// When that was, by the coordinator's clock.
    pub at: UnixMillis,
}

/// One pass of the scrub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubPass {
    /// Its number, from 1 on.
    pub pass: u64,
    /// When it began, by the coordinator's clock.
    pub began: UnixMillis,
    /// When this was said.
    pub at: UnixMillis,
    /// Objects read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How far the stored objects have been read again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrubState {
    /// The pass that is under way, and the last object that it read.
    pub current: Option<(ScrubPass, Reached)>,
    /// The last pass that came to its end.
    pub last: Option<ScrubPass>,
}

/// A round, as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundState {
    /// The open record.
    pub open: Open,
    /// Its log number.
    pub position: u64,
    /// Who went on with it while it was open, oldest first.
    pub resumed: Vec<Resumed>,
    /// How far it is.
    pub phase: RoundPhase,
    /// Kept by an operator, whatever the retention says.
    pub hold: Option<HoldState>,
    /// Its objects were or are being deleted.
    pub swept: bool,
}

impl RoundState {
    /// The commit, if the round is committed.
    #[must_use]
    pub fn commit(&self) -> Option<&Commit> {
        match &self.phase {
            RoundPhase::Committed { commit, .. } => Some(commit),
            RoundPhase::Open | RoundPhase::Ended(_) => None,
        }
    }

    /// The log number of the commit, if the round is committed.
    #[must_use]
    pub fn commit_position(&self) -> Option<u64> {
        match &self.phase {
            RoundPhase::Committed { position, .. } => Some(*position),
            RoundPhase::Open | RoundPhase::Ended(_) => None,
        }
    }

    /// Its end, if it ended without a commit.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        match &self.phase {
            RoundPhase::Ended(end) => Some(end),
            RoundPhase::Open | RoundPhase::Committed { .. } => None,
        }
    }

    /// The outcome, once there is one.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.phase {
            RoundPhase::Open => None,
            RoundPhase::Committed { commit, .. } => Some(commit.outcome),
            RoundPhase::Ended(end) => Some(end.outcome),
        }
    }

    /// The state's word for screens and JSON: `open`, `committed`, `verified`, `failed`, `cancelled`, `skipped`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match &self.phase {
            RoundPhase::Open => "open",
            RoundPhase::Committed { verified: None, .. } => "committed",
            RoundPhase::Committed { verified: Some(_), .. } => "verified",
            RoundPhase::Ended(end) => end.outcome.as_str(),
        }
    }

    /// Committed and not swept: it can be recovered.
    #[must_use]
    pub fn is_recoverable(&self) -> bool {
        self.commit().is_some() && !self.swept
    }

    /// Whether its objects were read again and found whole.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        match &self.phase {
            RoundPhase::Committed { verified, .. } => verified.is_some(),
            RoundPhase::Open | RoundPhase::Ended(_) => false,
        }
    }
}

/// The state after replaying every slot so far. Fields are public to read; only replay writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// What was known before.
    pub pin: Pin,
    /// The last valid record.
    pub head: Head,
    /// The next slot to read or to create.
    pub next: u64,
    /// The fleet's id; all zero before genesis.
    pub fleet: FleetId,
    /// The fleet's name; none before genesis.
    pub name: Option<FleetName>,
    /// The root public key; none before genesis.
    pub root: Option<KeyId>,
    /// The share's name.
    pub share: Option<Nonce>,
    /// How many `adopt` statements are in effect.
    pub adopts: u64,
    /// Keysets by log number.
    pub keysets: BTreeMap<u64, Keyset>,
    /// Everyone who ever was a member. Shared between copies of the state: a fleet has many members, and each record that
    /// is appended is tried on a copy.
    pub members: Arc<BTreeMap<KeyId, MemberState>>,
    /// The key of each service's agent that counts now: every message of an agent is looked up here.
    pub(super) agents: Arc<BTreeMap<ServiceName, KeyId>>,
    /// The configuration.
    pub config: Option<Config>,
    /// When the settings that say whether and when rounds begin by themselves were last changed, by the clock of whoever changed
    /// them; none: that was never said. Slots from before are owed by nobody.
    pub scheduled: Option<UnixMillis>,
    /// To which key what is for a coordinator alone is sealed, by the coordinator's own word.
    pub sealing: BTreeMap<KeyId, Recipient>,
    /// The current epoch.
    pub epoch: Option<EpochState>,
    /// Rounds.
    pub rounds: BTreeMap<RoundId, RoundState>,
    /// Those that are open, in the order of their opening: looked for at every record of a log that may have thousands of rounds.
    pub(super) open: Vec<RoundId>,
    /// The number of the last round.
    pub last_round: u64,
    /// The number of the round up to which an operator accepted what a service is like.
    pub accepted: BTreeMap<ServiceName, u64>,
    /// Who did, by service: for people.
    pub accepted_by: BTreeMap<ServiceName, KeyId>,
    /// The last drill of a whole round.
    pub drilled: Option<Drilled>,
    /// The last one that passed.
    pub drill_passed: Option<Drilled>,
    /// Prunes that no sweep followed yet, by log number.
    pub prunes: BTreeMap<u64, Prune>,
    /// Sweeps by log number, and whether they are done.
    pub sweeps: BTreeMap<u64, (Sweep, bool)>,
    /// What must not be relied on, by service.
    pub quarantine: BTreeMap<ServiceName, Quarantined>,
    /// How far the scrub is.
    pub scrub: ScrubState,
    /// Hash of the last statement of each kind.
    pub statements: BTreeMap<String, ObjectId>,
    /// Void slots.
    pub void: Vec<u64>,
    /// Records without effect: number and why.
    pub without_effect: Vec<(u64, String)>,
}

impl State {
    /// Nothing read yet.
    #[must_use]
    pub fn new(pin: Pin) -> Self {
        Self {
            pin,
            head: GENESIS_HEAD,
            next: 0,
            fleet: FleetId::from_bytes([0; 32]),
            name: None,
            root: None,
            share: None,
            adopts: 0,
            keysets: BTreeMap::new(),
            members: Arc::default(),
            agents: Arc::default(),
            config: None,
            scheduled: None,
            sealing: BTreeMap::new(),
            epoch: None,
            rounds: BTreeMap::new(),
            open: Vec::new(),
            last_round: 0,
            accepted: BTreeMap::new(),
            accepted_by: BTreeMap::new(),
            drilled: None,
            drill_passed: None,
            prunes: BTreeMap::new(),
            sweeps: BTreeMap::new(),
            quarantine: BTreeMap::new(),
            scrub: ScrubState::default(),
            statements: BTreeMap::new(),
            void: Vec::new(),
            without_effect: Vec::new(),
        }
    }

    /// What to remember of this log.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen { head: self.head, adopts: self.adopts }
    }

    /// Whether the root has adopted a head of this log after `seen` was remembered. Then that head need not be in it.
    #[must_use]
    pub fn supersedes(&self, seen: &Seen) -> bool {
        self.adopts > seen.adopts
    }

    /// The remembered head, while this log must still hold it.
    pub(super) fn expected(&self) -> Option<Head> {
        self.pin.head.filter(|seen| !self.supersedes(seen)).map(|seen| seen.head)
    }

    /// The fleet-wide settings in force, by key; empty while nobody has set any.
    #[must_use]
    pub fn settings(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.config.as_ref().map_or(&NONE, |config| &config.clear)
    }

    /// The role of a key that counts now.
    #[must_use]
    pub fn role(&self, key: &KeyId) -> Option<&Role> {
        self.members.get(key).filter(|m| m.revoked.is_none()).map(|m| &m.member.role)
    }

    /// The name of the member with this key, counting or not; of no member, the key in short.
    #[must_use]
    pub fn name_of(&self, key: &KeyId) -> String {
        self.members.get(key).map_or_else(|| format!("key {}", key.short()), |m| m.member.name.to_string())
    }

    /// Whether the key is a coordinator's that counts now.
    #[must_use]
    pub fn is_coordinator(&self, key: &KeyId) -> bool {
        matches!(self.role(key), Some(Role::Coordinator))
    }

    /// How many coordinators count now.
    #[must_use]
    pub fn coordinators(&self) -> usize {
        self.members.keys().filter(|key| self.is_coordinator(key)).count()
    }

    /// The keys to which what is for the coordinators is sealed: of those that count now and have said one.
    #[must_use]
    pub fn coordinator_recipients(&self) -> Vec<Recipient> {
        let counting = self.sealing.iter().filter(|(key, _)| self.is_coordinator(key));
        counting.map(|(_, recipient)| recipient.clone()).collect()
    }

    /// The agent of a service that counts now.
    #[must_use]
    pub fn agent(&self, service: &ServiceName) -> Option<&Member> {
        let key = self.agents.get(service)?;
        self.members.get(key).map(|member| &member.member)
    }

    /// Every service with the agent that counts now, sorted by service.
    pub fn agents(&self) -> impl Iterator<Item = (&ServiceName, &Member)> {
        self.agents
            .iter()
            .filter_map(|(service, key)| self.members.get(key).map(|member| (service, &member.member)))
    }

    /// Every service of the roster, sorted.
    #[must_use]
    pub fn services(&self) -> Vec<ServiceName> {
        self.agents.keys().cloned().collect()
    }

    /// The keyset in force: its log number and recipients.
    #[must_use]
    pub fn keyset(&self) -> Option<(u64, &Keyset)> {
        self.keysets.last_key_value().map(|(number, keyset)| (*number, keyset))
    }

    /// The keyset that was in force at a log position: what a round that was opened there is sealed to, whatever comes
    /// while it runs.
    #[must_use]
    pub fn keyset_at(&self, position: u64) -> Option<(u64, &Keyset)> {
        self.keysets.range(..=position).next_back().map(|(number, keyset)| (*number, keyset))
    }

    /// The recipients of the keyset in force.
    #[must_use]
    pub fn recipients(&self) -> Vec<Recipient> {
        self.keyset()
            .map(|(_, k)| k.keys.iter().map(|key| key.recipient.clone()).collect())
            .unwrap_or_default()
    }

    /// Rounds by number, oldest first.
    #[must_use]
    pub fn rounds_by_number(&self) -> Vec<&RoundState> {
        let mut rounds: Vec<_> = self.rounds.values().collect();
        rounds.sort_by_key(|round| round.open.number);
        rounds
    }

    /// Open rounds, oldest first.
    #[must_use]
    pub fn open_rounds(&self) -> Vec<&RoundState> {
        self.open.iter().filter_map(|id| self.rounds.get(id)).collect()
    }

    /// Whether an object of a service is in quarantine.
    #[must_use]
    pub fn is_quarantined(&self, service: &ServiceName, object: &ObjectId) -> bool {
        self.quarantine.get(service).is_some_and(|of| of.objects.contains_key(object))
    }

    /// Services of which something went into quarantine behind log number `position`.
    pub fn quarantined_since(&self, position: u64) -> impl Iterator<Item = &ServiceName> {
        self.quarantine.iter().filter(move |(_, of)| of.position > position).map(|(service, _)| service)
    }

    /// When a drill was over. Its own time is that of an operator's machine, which may be wrong; its round was committed before, and
    /// the next commit behind it came later.
    #[must_use]
    pub fn drilled_at(&self, drilled: &Drilled) -> UnixMillis {
        let later = self.rounds.values().filter_map(|round| match &round.phase {
            RoundPhase::Committed { commit, position, .. } if *position > drilled.position => Some(commit.at),
            RoundPhase::Committed { .. } | RoundPhase::Open | RoundPhase::Ended(_) => None,
        });
        let round = self.rounds.get(&drilled.drill.round).and_then(RoundState::commit);
        let least = round.map_or(drilled.drill.at, |commit| commit.at);
        let at = drilled.drill.at.max(least);
        later.min().map_or(at, |most| most.min(at))
    }

    /// The last drill of a whole round, if it failed: until another one passes, nobody knows that the fleet can be recovered.
    #[must_use]
    pub fn failed_drill(&self) -> Option<&Drilled> {
        self.drilled.as_ref().filter(|drilled| drilled.drill.outcome == DrillOutcome::Failed)
    }

    /// The newest round that is committed and not swept.
    #[must_use]
    pub fn newest_recoverable(&self) -> Option<&RoundState> {
        self.rounds.values().filter(|r| r.is_recoverable()).max_by_key(|r| r.open.number)
    }
}
