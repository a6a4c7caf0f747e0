//! A founded fleet with fixed keys, for tests: every slot it takes is checked for the rules that hold whatever it says.

use crate::age::{Identity, Recipient};
use crate::document::{ManifestSlice, SliceStatus, SliceTotals};
use crate::envelope::Signer;
use crate::ids::{FleetId, KeyId, Nonce, ObjectId, RoundId, ServiceName};
use crate::log::{
    Body, Change, Commit, Config, Effect, End, Epoch, GENESIS_HEAD, Genesis, Head, Keyset, KeysetKey, Member,
    Open, Outcome, Pin, ReplayError, Role, Roster, Scope, State, Verified, seal, seal_statement,
    seal_with_statement,
};
use crate::seeds::Rng;
use crate::time::UnixMillis;

pub(crate) const ROOT: u8 = 1;
pub(crate) const FIRST: u8 = 2;
pub(crate) const SECOND: u8 = 3;
pub(crate) const OPERATOR: u8 = 4;
pub(crate) const ADMIN: u8 = 5;
pub(crate) const PRUNER: u8 = 6;
pub(crate) const ENROLLER: u8 = 7;
pub(crate) const DNS: u8 = 8;
pub(crate) const VIEWER: u8 = 9;
pub(crate) const STRANGER: u8 = 10;
const SALT: [u8; 32] = [42; 32];
pub(crate) const AT: UnixMillis = UnixMillis(1_700_000_000_000);

/// The signer of one of the numbers above.
pub(crate) fn signer(number: u8) -> Signer {
    Signer::from_seed(&[number; 32])
}

pub(crate) fn key(number: u8) -> KeyId {
    signer(number).key_id()
}

pub(crate) fn service(name: &str) -> ServiceName {
    name.parse().expect("a service name")
}

pub(crate) fn recipient(number: u64) -> Recipient {
    Identity::generate(&mut Rng(number)).recipient()
}

pub(crate) fn round(number: u8) -> RoundId {
    RoundId::from_bytes([number; 16])
}

pub(crate) fn member(number: u8, role: Role) -> Member {
    Member { key: key(number), name: format!("m-{number}").parse().expect("a name"), role }
}

pub(crate) fn agent(number: u8, name: &str) -> Member {
    member(number, Role::Agent { service: service(name), sealing: recipient(u64::from(number)) })
}

pub(crate) fn genesis() -> Genesis {
    Genesis {
        name: "prod".parse().expect("a name"),
        salt: SALT,
        share: Nonce::from_bytes([7; 16]),
        created: AT,
    }
}

pub(crate) fn fleet_id() -> FleetId {
    FleetId::derive(&key(ROOT), &SALT)
}

/// The bytes of record 0.
pub(crate) fn genesis_record() -> Vec<u8> {
    seal(&signer(ROOT), &fleet_id(), 0, GENESIS_HEAD, &genesis())
}

pub(crate) fn epoch(epoch: u64) -> Epoch {
    Epoch { epoch, instance: Nonce::from_bytes([1; 16]), at: AT }
}

pub(crate) fn open(epoch: u64, id: u8, number: u64, services: &[&str]) -> Open {
    Open {
        epoch,
        round: round(id),
        number,
        scope: Scope::Services(services.iter().map(|name| service(name)).collect()),
        nonce: Nonce::from_bytes([id; 16]),
        trigger: "command".to_owned(),
        deadline_millis: 60_000,
        at: AT,
        cut: None,
    }
}

pub(crate) fn commit(epoch: u64, id: u8) -> Commit {
    let (manifest, outcome) = (ObjectId::of(&[id]), Outcome::Complete);
    Commit { epoch, round: round(id), manifest, manifest_size: 500, outcome, at: AT }
}

pub(crate) fn verified(epoch: u64, id: u8) -> Verified {
    Verified { epoch, round: round(id), objects: 3, bytes: 400, at: AT }
}

pub(crate) fn end(epoch: u64, id: u8) -> End {
    End {
        epoch,
        round: round(id),
        outcome: Outcome::Failed,
        reason: "nobody came".to_owned(),
        at: AT,
        account: None,
    }
}

/// A log and what it says.
#[derive(Debug, Clone)]
pub(crate) struct Fleet {
    pub(crate) state: State,
    pub(crate) slots: Vec<Vec<u8>>,
}

impl Fleet {
    /// Genesis, keyset, roster, configuration, and the first coordinator in epoch 1.
    pub(crate) fn found() -> Self {
        let pin = Pin { root: Some(key(ROOT)), fleet: Some(fleet_id()), head: None };
        let mut fleet = Self { state: State::new(pin), slots: Vec::new() };
        fleet.applies(genesis_record());
        fleet.states(ROOT, ROOT, &Keyset { previous: None, keys: vec![recovery_key(1)], at: None });
        let roles = [
            member(FIRST, Role::Coordinator),
            member(SECOND, Role::Coordinator),
            member(OPERATOR, Role::Operator),
            member(ADMIN, Role::Admin),
            member(PRUNER, Role::Pruner),
            member(ENROLLER, Role::Enroller { prefix: "web-".to_owned(), until: None }),
            member(VIEWER, Role::Viewer),
            agent(DNS, "dns"),
        ];
        let changes = roles.into_iter().map(Change::Admit).collect();
        fleet.states(ROOT, ROOT, &Roster { previous: None, changes, at: None });
        let clear = [("interval".to_owned(), "12h".to_owned())].into();
        fleet.states(ROOT, ADMIN, &Config { previous: None, clear, sealed: None, at: None });
        fleet.says(FIRST, &epoch(1));
        fleet
    }

    /// Puts bytes into the next slot. Whatever they are: what has no effect has none, and no error changes anything.
    pub(crate) fn take(&mut self, bytes: Vec<u8>) -> Result<Effect, ReplayError> {
        let before = self.state.clone();
        let result = self.state.replay(&bytes);
        let mut expected = before.clone();
        match &result {
            Ok(Effect::Applied) => expected = self.state.clone(),
            Ok(Effect::WithoutEffect(why)) => {
                expected.without_effect.push((before.next, why.clone()));
                expected.head = Head { number: before.next, hash: ObjectId::of(&bytes) };
                expected.next += 1;
            }
            Ok(Effect::Void(_)) => {
                expected.void.push(before.next);
                expected.next += 1;
            }
            Err(_) => {}
        }
        assert_eq!(self.state, expected);
        self.agents_are_those_of_the_roster();
        if result.is_ok() {
            assert_eq!(self.state.next, before.next + 1);
            self.slots.push(bytes);
        }
        result
    }

    /// Agents are looked up by service; whoever reads the roster through must come to the same.
    fn agents_are_those_of_the_roster(&self) {
        let current = self.state.members.values().filter(|member| member.revoked.is_none());
        let mut read: Vec<_> =
            current.filter_map(|m| m.member.role.service().map(|service| (service, &m.member))).collect();
        read.sort_by_key(|(service, _)| *service);
        assert_eq!(self.state.agents().collect::<Vec<_>>(), read);
        for (service, member) in read {
            assert_eq!(self.state.agent(service), Some(member));
        }
    }

    /// The record that a member would append now.
    pub(crate) fn record<B: Body>(&self, who: u8, body: &B) -> Vec<u8> {
        seal(&signer(who), &fleet_id(), self.state.next, self.state.head, body)
    }

    /// The record by which `carrier` would append a statement now.
    pub(crate) fn carry<B: Body>(&self, carrier: u8, statement: Vec<u8>) -> Vec<u8> {
        let (number, head) = (self.state.next, self.state.head);
        seal_with_statement(&signer(carrier), &fleet_id(), number, head, B::KIND, statement)
    }

    /// The last statement of a kind.
    pub(crate) fn last<B: Body>(&self) -> Option<ObjectId> {
        self.state.statements.get(B::KIND).copied()
    }

    pub(crate) fn applies(&mut self, bytes: Vec<u8>) {
        assert_eq!(self.take(bytes), Ok(Effect::Applied));
    }

    pub(crate) fn says<B: Body>(&mut self, who: u8, body: &B) {
        self.applies(self.record(who, body));
    }

    pub(crate) fn states<B: Body>(&mut self, carrier: u8, who: u8, body: &B) {
        self.applies(self.carry::<B>(carrier, seal_statement(&signer(who), &fleet_id(), body)));
    }

    /// The record links, and changes nothing for a reason that holds `why`.
    pub(crate) fn in_vain(&mut self, bytes: Vec<u8>, why: &str) {
        match self.take(bytes) {
            Ok(Effect::WithoutEffect(said)) => assert!(said.contains(why), "{said}, not: {why}"),
            other => panic!("{other:?}, not without effect: {why}"),
        }
    }

    pub(crate) fn says_in_vain<B: Body>(&mut self, who: u8, body: &B, why: &str) {
        self.in_vain(self.record(who, body), why);
    }

    pub(crate) fn states_in_vain<B: Body>(&mut self, carrier: u8, who: u8, body: &B, why: &str) {
        self.in_vain(self.carry::<B>(carrier, seal_statement(&signer(who), &fleet_id(), body)), why);
    }

    /// The slot holds no record for a reason that holds `why`.
    pub(crate) fn void(&mut self, bytes: Vec<u8>, why: &str) {
        match self.take(bytes) {
            Ok(Effect::Void(said)) => assert!(said.contains(why), "{said}, not: {why}"),
            other => panic!("{other:?}, not void: {why}"),
        }
    }

    /// What a reader with this pin makes of the slots.
    pub(crate) fn read(&self, pin: Pin) -> Result<State, ReplayError> {
        let mut state = State::new(pin);
        for slot in &self.slots {
            state.replay(slot)?;
        }
        Ok(state)
    }
}

pub(crate) fn recovery_key(number: u64) -> KeysetKey {
    KeysetKey { recipient: recipient(number), label: "2026".to_owned() }
}

/// What a check finds of a whole slice.
pub(crate) fn checked_slice(service: &ServiceName, receipt: ObjectId) -> ManifestSlice {
    ManifestSlice {
        service: service.clone(),
        agent: KeyId::from_bytes([1; 32]),
        attempts: 0,
        receipt,
        receipt_size: 300,
        status: SliceStatus::Whole,
        totals: SliceTotals::default(),
        cut: None,
        timing: None,
        tries: Vec::new(),
    }
}
