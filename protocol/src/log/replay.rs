//! Replay: the rules by which slots become [`State`].
//!
//! A slot is *void* when it holds no record that a key of the roster signed for that very slot; void slots are passed
//! over. A record that links but breaks a rule is *without effect*: it stays a link of the chain. Only three things
//! stop a reader: a fork, a remembered head that is void or another record, and a critical kind that it does not know.

mod members;
mod stored;

use crate::causes::causes;
use crate::ids::{FleetId, KeyId, ObjectId};
use crate::log::body::{
    Accept, Adopt, Audit, Body, Commit, Config, Drill, DrillOutcome, End, Epoch, Genesis, Hold, Keyset, Open,
    Outcome, Prune, Pruned, Quarantine, Roster, Scope, Scrub, Sealing, Sweep, Verified,
};
use crate::log::member::Role;
use crate::log::record::{self, GENESIS_HEAD, Head, Record, RecordError, Statement};
use crate::log::state::{
    Drilled, EpochState, HoldState, MAX_OPEN_ROUNDS, Resumed, RoundPhase, RoundState, State,
};
use crate::schedule;

/// What a slot did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The record changed the state.
    Applied,
    /// The record is a link, but broke a rule.
    WithoutEffect(String),
    /// The slot holds no record.
    Void(String),
}

/// Why reading stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The first slot holds no genesis of the fleet that was expected.
    #[error("log record 0 is no genesis of this fleet: {why}")]
    Genesis {
        /// Why.
        why: String,
    },
    /// A member signed a record that follows another history.
    #[error("log record {number} follows {found}, but the log stands at {head}: the log has forked")]
    Fork {
        /// The slot.
        number: u64,
        /// What it follows.
        found: Head,
        /// Where the log stands.
        head: Head,
    },
    /// The slot at or below a head that was seen before is void or holds another record.
    #[error("log record {number} is not the one that was seen before: the log went back behind {seen}")]
    WentBack {
        /// The slot.
        number: u64,
        /// The head that was seen.
        seen: Head,
    },
    /// A kind or version that this program does not know, and must.
    #[error("log record {number} is of kind {kind} version {version}, which this version does not know")]
    UnknownKind {
        /// The slot.
        number: u64,
        /// The kind.
        kind: String,
        /// Its version.
        version: u16,
    },
}

impl State {
    /// Takes the bytes of slot [`State::next`] in.
    ///
    /// # Errors
    /// When the log cannot be trusted or understood from here on; the state is then as it was.
    pub fn replay(&mut self, bytes: &[u8]) -> Result<Effect, ReplayError> {
        self.replay_parsed(record::parse(bytes))
    }

    /// Takes slot [`State::next`] in, as [`record::parse`] read it: verifying signatures is most of the work, and can be done of
    /// many slots at once.
    ///
    /// # Errors
    /// As [`State::replay`].
    pub fn replay_parsed(&mut self, parsed: Result<Record, RecordError>) -> Result<Effect, ReplayError> {
        let parsed = parsed.map_err(|error| causes(&error));
        if self.next == 0 {
            self.genesis(parsed)?;
            self.next = 1;
            return Ok(Effect::Applied);
        }
        self.take(parsed)
    }

    /// Takes slot [`State::next`] in, which is not the first, as a reader has it that has parsed it before; a
    /// simulation gives one record to many readers.
    ///
    /// # Errors
    /// As [`State::replay`].
    #[cfg(feature = "simulator")]
    pub fn replay_record(&mut self, record: Record) -> Result<Effect, ReplayError> {
        self.take(Ok(record))
    }

    /// Takes slot [`State::next`] in; the error of what was parsed says why the slot holds no record.
    fn take(&mut self, parsed: Result<Record, String>) -> Result<Effect, ReplayError> {
        let number = self.next;
        let record = match self.link(number, parsed)? {
            Ok(record) => record,
            Err(why) => {
                // A slot below may have been void before as well; if it was not, the next record names another head.
                if let Some(seen) = self.expected().filter(|seen| number == seen.number) {
                    return Err(ReplayError::WentBack { number, seen });
                }
                self.void.push(number);
                self.next = number + 1;
                return Ok(Effect::Void(why));
            }
        };
        self.remembered(&record)?;
        let effect = self.apply(&record)?;
        self.head = record.head();
        self.next = number + 1;
        Ok(match effect {
            Ok(()) => Effect::Applied,
            Err(why) => {
                self.without_effect.push((number, why.clone()));
                Effect::WithoutEffect(why)
            }
        })
    }

    /// A record at the position that was seen before must be the one that was seen.
    fn remembered(&self, record: &Record) -> Result<(), ReplayError> {
        match self.expected() {
            Some(seen) if seen.number == record.number && seen.hash != record.hash => {
                Err(ReplayError::WentBack { number: record.number, seen })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn genesis(&mut self, parsed: Result<Record, String>) -> Result<(), ReplayError> {
        let bad = |why: String| ReplayError::Genesis { why };
        let record = parsed.map_err(bad)?;
        if record.kind != Genesis::KIND || record.number != 0 || record.previous != GENESIS_HEAD {
            return Err(bad(format!("it is a {} record number {}", record.kind, record.number)));
        }
        if record.version != 1 {
            return Err(ReplayError::UnknownKind { number: 0, kind: record.kind, version: record.version });
        }
        let genesis: Genesis = record.body().map_err(|e| bad(causes(&e)))?;
        if FleetId::derive(&record.signer, &genesis.salt) != record.fleet {
            return Err(bad("its fleet id is not made of its root key".into()));
        }
        if self.pin.root.is_some_and(|root| root != record.signer) {
            return Err(bad(format!(
                "it is signed by root key {}, not by the expected one",
                record.signer.short()
            )));
        }
        if self.pin.fleet.is_some_and(|fleet| fleet != record.fleet) {
            return Err(bad(format!("it founds fleet {}, not the expected one", record.fleet.short())));
        }
        self.remembered(&record)?;
        self.fleet = record.fleet;
        self.root = Some(record.signer);
        self.name = Some(genesis.name);
        self.share = Some(genesis.share);
        self.head = record.head();
        Ok(())
    }

    /// The record in a slot, if it links to the head; the inner error says why the slot is void.
    fn link(
        &self,
        number: u64,
        parsed: Result<Record, String>,
    ) -> Result<Result<Record, String>, ReplayError> {
        let record = match parsed {
            Ok(record) => record,
            Err(why) => return Ok(Err(why)),
        };
        if record.fleet != self.fleet {
            return Ok(Err(format!("it belongs to fleet {}", record.fleet.short())));
        }
        if record.number != number {
            return Ok(Err(format!("it is record {} again", record.number)));
        }
        if !self.may_append(&record.signer) {
            return Ok(Err(format!("key {} may not append", record.signer.short())));
        }
        if record.previous != self.head {
            return Err(ReplayError::Fork { number, found: record.previous, head: self.head });
        }
        Ok(Ok(record))
    }

    /// Whether a record of this key is a link at all. Agents and viewers never write to the log.
    #[must_use]
    pub fn may_append(&self, key: &KeyId) -> bool {
        if self.is_root(key) {
            return true;
        }
        match self.role(key) {
            Some(Role::Coordinator | Role::Operator | Role::Admin | Role::Pruner | Role::Enroller { .. }) => {
                true
            }
            Some(Role::Agent { .. } | Role::Viewer) | None => false,
        }
    }

    fn is_root(&self, key: &KeyId) -> bool {
        self.root == Some(*key)
    }

    /// The outer error stops the reader, the inner one makes the record a link without effect.
    fn apply(&mut self, record: &Record) -> Result<Result<(), String>, ReplayError> {
        let known = record.version == 1;
        let effect = match record.kind.as_str() {
            Keyset::KIND if known => self.keyset_record(record),
            Roster::KIND if known => self.roster(record),
            Config::KIND if known => self.config(record),
            Hold::KIND if known => self.hold(record),
            Accept::KIND if known => self.accept(record),
            Drill::KIND if known => self.drill(record),
            Adopt::KIND if known => self.adopt(record),
            Epoch::KIND if known => self.take_lead(record),
            Open::KIND if known => self.open(record),
            Commit::KIND if known => self.commit(record),
            Verified::KIND if known => self.verified(record),
            End::KIND if known => self.end(record),
            Prune::KIND if known => self.prune(record),
            Sweep::KIND if known => self.sweep(record),
            Pruned::KIND if known => self.pruned(record),
            Genesis::KIND if known => Err("a fleet is founded once".into()),
            Sealing::KIND if known => self.sealing(record),
            Audit::KIND if known => Ok(()),
            Quarantine::KIND if known => self.quarantine(record),
            Scrub::KIND if known => self.scrub(record),
            _ if record.critical => {
                return Err(ReplayError::UnknownKind {
                    number: record.number,
                    kind: record.kind.clone(),
                    version: record.version,
                });
            }
            _ => Ok(()),
        };
        Ok(effect)
    }

    /// A statement that continues the chain of its kind.
    fn statement<B: Body>(
        &self,
        record: &Record,
        previous: impl Fn(&B) -> Option<ObjectId>,
    ) -> Result<Statement<B>, String> {
        let statement: Statement<B> = record.statement().map_err(|e| causes(&e))?;
        if previous(&statement.body) != self.statements.get(B::KIND).copied() {
            return Err(format!("it does not follow the last {}", B::KIND));
        }
        Ok(statement)
    }

    fn said<B: Body>(&mut self, statement: &Statement<B>) {
        self.statements.insert(B::KIND.to_owned(), statement.hash);
    }

    fn config(&mut self, record: &Record) -> Result<(), String> {
        let statement = self.statement(record, |b: &Config| b.previous)?;
        if !self.is_root(&statement.signer) && !matches!(self.role(&statement.signer), Some(Role::Admin)) {
            return Err(format!("key {} may not change the configuration", statement.signer.short()));
        }
        self.said(&statement);
        let before = self.config.as_ref().map(|config| &config.clear);
        if before.is_none_or(|before| schedule::differs(before, &statement.body.clear)) {
            self.scheduled = statement.body.at;
        }
        self.config = Some(statement.body);
        Ok(())
    }

    fn hold(&mut self, record: &Record) -> Result<(), String> {
        let statement = self.statement(record, |b: &Hold| b.previous)?;
        let may = matches!(self.role(&statement.signer), Some(Role::Operator | Role::Admin));
        if !may && !self.is_root(&statement.signer) {
            return Err(format!("key {} may not hold rounds", statement.signer.short()));
        }
        let round =
            self.rounds.get_mut(&statement.body.round).ok_or("it holds a round that does not exist")?;
        if round.swept {
            return Err("the round is swept already".into());
        }
        round.hold = statement.body.keep.then(|| HoldState {
            by: statement.signer,
            position: record.number,
            reason: statement.body.reason.clone(),
        });
        self.said(&statement);
        Ok(())
    }

    fn accept(&mut self, record: &Record) -> Result<(), String> {
        let statement = self.statement(record, |b: &Accept| b.previous)?;
        let may = matches!(self.role(&statement.signer), Some(Role::Operator | Role::Admin));
        if !may && !self.is_root(&statement.signer) {
            return Err(format!("key {} may not accept what a service is like", statement.signer.short()));
        }
        let round = self.rounds.get(&statement.body.round).ok_or("it accepts a round that does not exist")?;
        let number = round.open.number;
        if !round.is_verified() {
            return Err(format!("round {number} is not verified"));
        }
        let accepted = self.accepted.entry(statement.body.service.clone()).or_default();
        if number >= *accepted {
            *accepted = number;
            self.accepted_by.insert(statement.body.service.clone(), statement.signer);
        }
        self.said(&statement);
        Ok(())
    }

    fn drill(&mut self, record: &Record) -> Result<(), String> {
        let statement = self.statement(record, |b: &Drill| b.previous)?;
        let may = matches!(self.role(&statement.signer), Some(Role::Operator | Role::Admin));
        if !may && !self.is_root(&statement.signer) {
            return Err(format!("key {} may not tell of drills", statement.signer.short()));
        }
        let round =
            self.rounds.get(&statement.body.round).ok_or("it is the drill of a round that does not exist")?;
        let number = round.open.number;
        if round.commit().is_none() {
            return Err(format!("round {number} is not committed"));
        }
        self.said(&statement);
        // What an older round is like says nothing about the fleet any more once a newer one was tried.
        let newest = self.drilled.as_ref().is_none_or(|drilled| drilled.number <= number);
        if statement.body.scope == Scope::All && newest {
            let outcome = statement.body.outcome;
            let drilled =
                Drilled { drill: statement.body, number, by: statement.signer, position: record.number };
            if outcome == DrillOutcome::Passed {
                self.drill_passed = Some(drilled.clone());
            }
            self.drilled = Some(drilled);
        }
        Ok(())
    }

    fn adopt(&mut self, record: &Record) -> Result<(), String> {
        let statement = self.statement(record, |b: &Adopt| b.previous)?;
        self.need_root(&statement.signer)?;
        if statement.body.head != record.previous {
            return Err("it adopts another head".into());
        }
        self.said(&statement);
        self.share = Some(statement.body.share);
        self.adopts += 1;
        Ok(())
    }

    fn need_root(&self, key: &KeyId) -> Result<(), String> {
        if self.is_root(key) { Ok(()) } else { Err(format!("key {} is not the root key", key.short())) }
    }

    fn take_lead(&mut self, record: &Record) -> Result<(), String> {
        let body: Epoch = record.body().map_err(|e| causes(&e))?;
        if !self.is_coordinator(&record.signer) {
            return Err(format!("key {} is no coordinator's", record.signer.short()));
        }
        if body.epoch != self.epoch.map_or(0, |e| e.epoch) + 1 {
            return Err(format!("epoch {} is not the next one", body.epoch));
        }
        self.epoch = Some(EpochState {
            epoch: body.epoch,
            holder: record.signer,
            instance: body.instance,
            position: record.number,
        });
        let resumed = Resumed { epoch: body.epoch, holder: record.signer, at: body.at };
        for id in &self.open {
            if let Some(round) = self.rounds.get_mut(id) {
                round.resumed.push(resumed);
            }
        }
        Ok(())
    }

    fn need_lead(&self, record: &Record, epoch: u64) -> Result<(), String> {
        match self.epoch {
            Some(current) if current.epoch == epoch && current.holder == record.signer => {
                if self.is_coordinator(&record.signer) {
                    Ok(())
                } else {
                    Err(format!("key {} is revoked", record.signer.short()))
                }
            }
            Some(_) | None => Err(format!("key {} does not hold epoch {epoch}", record.signer.short())),
        }
    }

    fn open(&mut self, record: &Record) -> Result<(), String> {
        let open: Open = record.body().map_err(|e| causes(&e))?;
        self.need_lead(record, open.epoch)?;
        if self.rounds.contains_key(&open.round) {
            return Err("the round exists already".into());
        }
        if open.number != self.last_round + 1 {
            return Err(format!("round number {} is not the next one", open.number));
        }
        let running = self.open_rounds();
        if running.len() >= MAX_OPEN_ROUNDS {
            return Err(format!("{MAX_OPEN_ROUNDS} rounds are open already"));
        }
        if let Some(other) = running.iter().find(|other| other.open.scope.overlaps(&open.scope)) {
            return Err(format!("round {} has one of its services already", other.open.number));
        }
        self.last_round = open.number;
        self.open.push(open.round);
        let (round, position) = (open.round, record.number);
        let phase = RoundPhase::Open;
        self.rounds.insert(
            round,
            RoundState { open, position, resumed: Vec::new(), phase, hold: None, swept: false },
        );
        Ok(())
    }

    fn commit(&mut self, record: &Record) -> Result<(), String> {
        let commit: Commit = record.body().map_err(|e| causes(&e))?;
        self.need_lead(record, commit.epoch)?;
        if !matches!(commit.outcome, Outcome::Complete | Outcome::Partial) {
            return Err(format!("a commit cannot be {}", commit.outcome.as_str()));
        }
        let round = self.rounds.get_mut(&commit.round).ok_or("it commits a round that was never opened")?;
        if round.phase != RoundPhase::Open {
            return Err("the round has ended already".into());
        }
        self.open.retain(|open| *open != commit.round);
        round.phase = RoundPhase::Committed { commit, position: record.number, verified: None };
        Ok(())
    }

    fn verified(&mut self, record: &Record) -> Result<(), String> {
        let body: Verified = record.body().map_err(|e| causes(&e))?;
        self.need_lead(record, body.epoch)?;
        let round = self.rounds.get_mut(&body.round).ok_or("it verifies a round that was never opened")?;
        if round.swept {
            return Err("the round is swept already".into());
        }
        match &mut round.phase {
            RoundPhase::Committed { verified: Some(_), .. } => Err("the round is verified already".into()),
            RoundPhase::Committed { verified, .. } => {
                *verified = Some(body);
                Ok(())
            }
            RoundPhase::Open | RoundPhase::Ended(_) => Err("the round is not committed".into()),
        }
    }

    fn end(&mut self, record: &Record) -> Result<(), String> {
        let end: End = record.body().map_err(|e| causes(&e))?;
        self.need_lead(record, end.epoch)?;
        if matches!(end.outcome, Outcome::Complete | Outcome::Partial) {
            return Err("only a commit makes a round complete or partial".into());
        }
        let round = self.rounds.get_mut(&end.round).ok_or("it ends a round that was never opened")?;
        if round.phase != RoundPhase::Open {
            return Err("the round has ended already".into());
        }
        self.open.retain(|open| *open != end.round);
        round.phase = RoundPhase::Ended(end);
        Ok(())
    }

    fn sealing(&mut self, record: &Record) -> Result<(), String> {
        let body: Sealing = record.body().map_err(|e| causes(&e))?;
        if !self.is_coordinator(&record.signer) {
            return Err(format!("key {} is no coordinator's", record.signer.short()));
        }
        self.sealing.insert(record.signer, body.recipient);
        Ok(())
    }
}
