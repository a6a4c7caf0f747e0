//! The fleet that every seed begins with: its members, and what its log says by then.

use std::rc::Rc;
use std::sync::OnceLock;

use muster_protocol::age::{Identity, Recipient};
use muster_protocol::entropy::Entropy;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{FleetId, KeyId, Nonce, ServiceName};
use muster_protocol::log::{
    Body, Change, Effect, GENESIS_HEAD, Genesis, Keyset, KeysetKey, Member, Pin, Role, Roster, State, seal,
    seal_statement, seal_with_statement,
};
use muster_protocol::time::UnixMillis;

use crate::rng::Rng;

/// Coordinators of the roster; a seed runs two or three.
pub(crate) const COORDINATORS: usize = 3;
/// Agents, each with its service.
pub(crate) const SERVICES: [&str; 3] = ["dns", "identity", "secrets"];

/// Who belongs to the fleet.
#[derive(Debug)]
pub(crate) struct Founding {
    pub(crate) fleet: FleetId,
    pub(crate) coordinators: Vec<KeyId>,
    pub(crate) services: Vec<ServiceName>,
    pub(crate) agents: Vec<KeyId>,
    pub(crate) pruner: KeyId,
    /// A key that was never let in.
    pub(crate) stranger: KeyId,
    state: State,
}

struct Seeded(Rng);

impl Entropy for Seeded {
    fn fill(&mut self, buffer: &mut [u8]) {
        buffer.fill_with(|| self.0.next().to_le_bytes()[0]);
    }
}

impl Founding {
    /// The same for every seed.
    pub(crate) fn get() -> &'static Self {
        static FOUNDING: OnceLock<Founding> = OnceLock::new();
        FOUNDING.get_or_init(found)
    }

    /// What the log says before anybody has led.
    pub(crate) fn state(&self) -> Rc<State> {
        Rc::new(self.state.clone())
    }

    /// The number of a service.
    pub(crate) fn service(&self, name: &ServiceName) -> usize {
        self.services.iter().position(|service| service == name).unwrap_or(usize::MAX)
    }
}

/// The operator, who holds rounds.
pub(crate) fn operator() -> Signer {
    Signer::from_seed(&[9; 32])
}

fn recipient(number: u64) -> Recipient {
    Identity::generate(&mut Seeded(Rng::new(number))).recipient()
}

fn found() -> Founding {
    let signer = |number: u8| Signer::from_seed(&[number; 32]);
    let root = signer(1);
    let salt = [42; 32];
    let fleet = FleetId::derive(&root.key_id(), &salt);
    let services: Vec<ServiceName> =
        SERVICES.iter().map(|name| name.parse().expect("a service's name")).collect();
    let coordinators: Vec<_> = (0..COORDINATORS).map(|i| signer(20 + i as u8).key_id()).collect();
    let agents: Vec<_> = (0..services.len()).map(|i| signer(40 + i as u8).key_id()).collect();
    let (pruner, stranger) = (signer(60).key_id(), signer(61).key_id());
    let mut roles: Vec<_> = coordinators.iter().map(|key| (*key, Role::Coordinator)).collect();
    roles.extend(
        agents
            .iter()
            .zip(&services)
            .map(|(key, service)| (*key, Role::Agent { service: service.clone(), sealing: recipient(3) })),
    );
    roles.push((pruner, Role::Pruner));
    roles.push((operator().key_id(), Role::Operator));
    let admit = |(at, (key, role))| {
        let name = format!("member-{at}").parse().expect("a name");
        Change::Admit(Member { key, name, role })
    };
    let changes = roles.into_iter().enumerate().map(admit).collect();
    let genesis = Genesis {
        name: "sim".parse().expect("a name"),
        salt,
        share: Nonce::from_bytes([7; 16]),
        created: UnixMillis(0),
    };
    let mut state = State::new(Pin { root: Some(root.key_id()), fleet: Some(fleet), head: None });
    take(&mut state, &seal(&root, &fleet, 0, GENESIS_HEAD, &genesis));
    let keys = vec![KeysetKey { recipient: recipient(2), label: "sim".to_owned() }];
    say(&mut state, &root, &Keyset { previous: None, keys, at: None });
    say(&mut state, &root, &Roster { previous: None, changes, at: None });
    Founding { fleet, coordinators, services, agents, pruner, stranger, state }
}

fn say<B: Body>(state: &mut State, root: &Signer, body: &B) {
    let statement = seal_statement(root, &state.fleet, body);
    let record = seal_with_statement(root, &state.fleet, state.next, state.head, B::KIND, statement);
    take(state, &record);
}

fn take(state: &mut State, bytes: &[u8]) {
    assert_eq!(state.replay(bytes), Ok(Effect::Applied), "the founding records count");
}
