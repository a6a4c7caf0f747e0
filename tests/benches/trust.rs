//! What is paid for trust: sealing, signatures, and the log. `cargo bench -p muster-tests --features bench --bench trust`.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use muster_protocol::age::{self, Identity};
use muster_protocol::entropy::Entropy;
use muster_protocol::envelope::{Signer, open_as};
use muster_protocol::ids::{FleetId, Nonce, ObjectId, RoundId};
use muster_protocol::log::Body;
use muster_protocol::log::{
    Change, Commit, Epoch, GENESIS_HEAD, Genesis, Keyset, KeysetKey, Member, Open, Outcome, Pin, Role,
    Roster, Scope, State, seal, seal_statement, seal_with_statement,
};
use muster_protocol::message::Hello;
use muster_protocol::time::UnixMillis;

/// Rounds of the log that is replayed.
const ROUNDS: u64 = 500;
const AT: UnixMillis = UnixMillis(1_700_000_000_000);
const SALT: [u8; 32] = [42; 32];

fn main() {
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    sealing(&mut criterion);
    envelopes(&mut criterion);
    log(&mut criterion);
    criterion.final_summary();
}

fn sealing(criterion: &mut Criterion) {
    let owner = Identity::generate(&mut Counter(1));
    let recipients = [owner.recipient()];
    let mut plain = vec![0; 16 * 1024 * 1024];
    Counter(2).fill(&mut plain);
    let mut group = criterion.benchmark_group("age");
    group.throughput(Throughput::Bytes(plain.len() as u64));
    let seal = || age::seal(&plain, &recipients, &[], &mut Counter(3)).expect("usable recipients").0;
    group.bench_function("seal", |bencher| bencher.iter(|| seal().len()));
    let (sealed, owners) = (seal(), [owner]);
    group.bench_function("open", |bencher| {
        bencher.iter(|| age::open(&sealed, &owners).expect("it is as it was sealed").1.len());
    });
    group.finish();
    let small = age::seal(b"x", &recipients, &[], &mut Counter(4)).expect("usable recipients").0;
    criterion.bench_function("age/open one byte", |bencher| {
        bencher.iter(|| age::open(&small, &owners).expect("it is as it was sealed").1.len());
    });
}

fn envelopes(criterion: &mut Criterion) {
    let (signer, fleet) = (Signer::from_seed(&[7; 32]), FleetId::from_bytes([8; 32]));
    let hello = Hello {
        service: "orders".parse().expect("a name"),
        round: RoundId::from_bytes([1; 16]),
        epoch: 3,
        attempt: 1,
        nonce: Nonce::from_bytes([2; 16]),
        ephemeral: [3; 32],
        version: "1.0.0".to_owned(),
        sealed: true,
    };
    let sealed = signer.seal(&fleet, &hello);
    let mut group = criterion.benchmark_group("envelope");
    group.throughput(Throughput::Elements(1));
    group.bench_function("sign", |bencher| bencher.iter(|| signer.seal(&fleet, black_box(&hello)).len()));
    group.bench_function("verify and parse", |bencher| {
        bencher
            .iter(|| open_as::<Hello>(black_box(&sealed), &fleet).expect("it is as it was signed").1.epoch);
    });
    group.finish();
}

fn log(criterion: &mut Criterion) {
    let records = records();
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(records.len() as u64));
    group.bench_function("replay", |bencher| {
        bencher.iter(|| {
            let mut state = State::new(Pin::default());
            for record in &records {
                state.replay(record).expect("it applies");
            }
            assert!(state.without_effect.is_empty() && state.last_round == ROUNDS);
        });
    });
    group.finish();
}

/// The log of a fleet with one service and [`ROUNDS`] committed rounds.
fn records() -> Vec<Vec<u8>> {
    let [root, coordinator, agent] = [1, 2, 3].map(|seed| Signer::from_seed(&[seed; 32]));
    let fleet = FleetId::derive(&root.key_id(), &SALT);
    let mut log = Written { state: State::new(Pin::default()), records: Vec::new() };
    let genesis = Genesis {
        name: "bench".parse().expect("a name"),
        salt: SALT,
        share: Nonce::from_bytes([7; 16]),
        created: AT,
    };
    log.take(seal(&root, &fleet, 0, GENESIS_HEAD, &genesis));
    let recipient = Identity::generate(&mut Counter(5)).recipient();
    let keys = vec![KeysetKey { recipient: recipient.clone(), label: "first".to_owned() }];
    log.state(&root, &fleet, &Keyset { previous: None, keys, at: None });
    let member = |signer: &Signer, name: &str, role| {
        Change::Admit(Member { key: signer.key_id(), name: name.parse().expect("a name"), role })
    };
    let role = Role::Agent { service: "orders".parse().expect("a name"), sealing: recipient };
    let changes =
        vec![member(&coordinator, "coordinator", Role::Coordinator), member(&agent, "orders", role)];
    log.state(&root, &fleet, &Roster { previous: None, changes, at: None });
    log.say(&coordinator, &fleet, &Epoch { epoch: 1, instance: Nonce::from_bytes([1; 16]), at: AT });
    for number in 1..=ROUNDS {
        let round = RoundId::derive(&fleet, &number.to_string());
        let open = Open {
            epoch: 1,
            round,
            number,
            scope: Scope::All,
            nonce: Nonce::from_bytes([9; 16]),
            trigger: "schedule".to_owned(),
            deadline_millis: 60_000,
            at: AT,
            cut: None,
        };
        log.say(&coordinator, &fleet, &open);
        let manifest = ObjectId::of(&number.to_be_bytes());
        let outcome = Outcome::Complete;
        log.say(
            &coordinator,
            &fleet,
            &Commit { epoch: 1, round, manifest, manifest_size: 900, outcome, at: AT },
        );
    }
    log.records
}

struct Written {
    state: State,
    records: Vec<Vec<u8>>,
}

impl Written {
    fn take(&mut self, record: Vec<u8>) {
        self.state.replay(&record).expect("it applies");
        self.records.push(record);
    }

    fn say<B: Body>(&mut self, who: &Signer, fleet: &FleetId, body: &B) {
        self.take(seal(who, fleet, self.state.next, self.state.head, body));
    }

    fn state<B: Body>(&mut self, who: &Signer, fleet: &FleetId, body: &B) {
        let statement = seal_statement(who, fleet, body);
        self.take(seal_with_statement(who, fleet, self.state.next, self.state.head, B::KIND, statement));
    }
}

/// Bytes that are the same each time: nothing here is secret.
struct Counter(u64);

impl Entropy for Counter {
    fn fill(&mut self, buffer: &mut [u8]) {
        for part in buffer.chunks_mut(8) {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            part.copy_from_slice(&(self.0 ^ (self.0 >> 29)).to_be_bytes()[..part.len()]);
        }
    }
}
