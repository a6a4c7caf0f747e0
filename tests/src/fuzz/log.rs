//! The log: single records, and any sequence of them on a founded fleet.

use std::sync::LazyLock;

use muster_protocol::age::{Identity, Recipient};
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{FleetId, KeyId, Nonce, ObjectId, RoundId};
use muster_protocol::log::{
    Accept, Adopt, Audit, Body, Change, Commit, Config, Drill, DrillOutcome, Effect, End, Epoch,
    GENESIS_HEAD, Genesis, Head, Hold, Keyset, KeysetKey, MAX_OPEN_ROUNDS, Member, Open, Outcome, Pin, Prune,
    Pruned, Role, Roster, RoundPhase, Scope, Sealing, State, Sweep, Verified, parse, seal, seal_statement,
    seal_with_statement,
};
use muster_protocol::time::UnixMillis;
use muster_protocol::wire;

use super::corpus::golden;
use super::documents::same_again;
use super::input::{Draw, Fixed};

const SALT: [u8; 32] = [42; 32];
const ROOT: u8 = 0;
const PEOPLE: u8 = 8;
const AT: UnixMillis = UnixMillis(1_700_000_000_000);
const KINDS: [&str; 17] = [
    "keyset", "roster", "config", "hold", "adopt", "epoch", "open", "commit", "verified", "end", "prune",
    "sweep", "pruned", "audit", "sealing", "accept", "drill",
];

fn signer(who: u8) -> Signer {
    Signer::from_seed(&[who; 32])
}

fn key(who: u8) -> KeyId {
    signer(who).key_id()
}

fn fleet_id() -> FleetId {
    FleetId::derive(&key(ROOT), &SALT)
}

fn recipient(number: u8) -> Recipient {
    Identity::generate(&mut Fixed(u64::from(number))).recipient()
}

/// Any bytes as a record, and any bytes as the signed body of each kind.
pub(super) fn record(input: &[u8]) {
    if let Ok(record) = parse(input) {
        assert_eq!(record.hash, ObjectId::of(input));
        bodies(&record);
    }
    let _ = State::new(Pin::default()).replay(input);
    // A body tries to be of every kind; a statement says its own.
    let kind = KINDS[input.len() % KINDS.len()];
    let said = signer(1).seal_raw("muster.statement", kind, 1, &fleet_id(), input);
    for body in [input.to_vec(), said] {
        let made = seal_with_statement(&signer(1), &fleet_id(), 7, GENESIS_HEAD, kind, body);
        if let Ok(record) = parse(&made) {
            assert_eq!((record.kind.as_str(), record.number, record.signer), (kind, 7, key(1)));
            bodies(&record);
        }
    }
}

fn bodies(record: &muster_protocol::log::Record) {
    fn says<B: Body + PartialEq + std::fmt::Debug>(record: &muster_protocol::log::Record) {
        if let Ok(body) = record.body::<B>() {
            same_again(&body);
        }
        if let Ok(statement) = record.statement::<B>() {
            same_again(&statement.body);
        }
    }
    says::<Genesis>(record);
    says::<Keyset>(record);
    says::<Roster>(record);
    says::<Config>(record);
    says::<Hold>(record);
    says::<Accept>(record);
    says::<Drill>(record);
    says::<Adopt>(record);
    says::<Epoch>(record);
    says::<Open>(record);
    says::<Commit>(record);
    says::<Verified>(record);
    says::<End>(record);
    says::<Prune>(record);
    says::<Sweep>(record);
    says::<Pruned>(record);
    says::<Audit>(record);
}

pub(super) fn record_samples() -> Vec<Vec<u8>> {
    let mut samples = golden("log.");
    samples.push(wire::encode(&Epoch { epoch: 1, instance: Nonce::from_bytes([1; 16]), at: AT }));
    samples.push(seal_statement(
        &signer(ROOT),
        &fleet_id(),
        &Keyset { previous: None, keys: vec![], at: None },
    ));
    samples
}

/// Genesis, keyset, and a roster of everybody, as slots and as the state after them.
static FOUNDED: LazyLock<(Vec<Vec<u8>>, State)> = LazyLock::new(|| {
    let (name, share) = ("prod".parse().expect("a name"), Nonce::from_bytes([7; 16]));
    let genesis = Genesis { name, salt: SALT, share, created: AT };
    let mut slots = vec![seal(&signer(ROOT), &fleet_id(), 0, GENESIS_HEAD, &genesis)];
    let mut state = State::new(pin());
    assert_eq!(state.replay(&slots[0]), Ok(Effect::Applied));
    let keys = vec![KeysetKey { recipient: recipient(1), label: "first".to_owned() }];
    let changes = (1..PEOPLE).map(|who| Change::Admit(member(who, who))).collect();
    let keyset = statement(ROOT, &Keyset { previous: None, keys, at: None });
    let roster = statement(ROOT, &Roster { previous: None, changes, at: None });
    for (kind, said) in [("keyset", keyset), ("roster", roster)] {
        slots.push(seal_with_statement(&signer(ROOT), &fleet_id(), state.next, state.head, kind, said));
        let effect = state.replay(slots.last().expect("just pushed"));
        assert_eq!(effect, Ok(Effect::Applied));
    }
    (slots, state)
});

fn pin() -> Pin {
    Pin { root: Some(key(ROOT)), fleet: Some(fleet_id()), head: None }
}

fn member(who: u8, role: u8) -> Member {
    let role = match role % 7 {
        0 => Role::Enroller { prefix: "d".to_owned(), until: Some(u64::from(role) + 6) },
        1 | 2 => Role::Coordinator,
        3 => Role::Operator,
        4 => Role::Admin,
        5 => Role::Pruner,
        _ => Role::Agent { service: "dns".parse().expect("a name"), sealing: recipient(who) },
    };
    Member { key: key(who), name: format!("m-{who}").parse().expect("a name"), role }
}

fn statement<B: Body>(who: u8, body: &B) -> Vec<u8> {
    seal_statement(&signer(who), &fleet_id(), body)
}

/// A sequence of records that members sign, most of them well linked: no record breaks what was decided before, and
/// every reader comes to the same state.
pub(super) fn replay(input: &[u8]) {
    let mut draw = Draw::new(input);
    let (mut slots, mut state) = FOUNDED.clone();
    while !draw.is_empty() && slots.len() < 64 {
        let bytes = next_record(&mut draw, &state);
        let before = state.clone();
        let effect = state.replay(&bytes);
        match &effect {
            Ok(Effect::Applied) => {}
            Ok(Effect::WithoutEffect(why)) => {
                let mut expected = before.clone();
                expected.without_effect.push((before.next, why.clone()));
                expected.head = Head { number: before.next, hash: ObjectId::of(&bytes) };
                expected.next += 1;
                assert_eq!(state, expected, "without effect: {why}");
            }
            Ok(Effect::Void(why)) => {
                let mut expected = before.clone();
                expected.void.push(before.next);
                expected.next += 1;
                assert_eq!(state, expected, "void: {why}");
            }
            Err(error) => {
                assert_eq!(state, before, "changed by what stops a reader: {error}");
                break;
            }
        }
        holds(&before, &state);
        slots.push(bytes);
    }
    let mut again = State::new(pin());
    assert!(slots.iter().all(|slot| again.replay(slot).is_ok()), "a second reader stops earlier");
    assert_eq!(again, state);
    let mut remembering = State::new(Pin { head: Some(state.seen()), ..pin() });
    assert!(slots.iter().all(|slot| remembering.replay(slot).is_ok()), "its own head is denied");
}

/// What no record may undo.
fn holds(before: &State, after: &State) {
    assert_eq!(after.next, before.next + 1);
    assert_eq!((after.fleet, after.root, &after.name), (before.fleet, before.root, &before.name));
    let epoch = |state: &State| state.epoch.as_ref().map_or(0, |epoch| epoch.epoch);
    assert!(epoch(after) == epoch(before) || epoch(after) == epoch(before) + 1);
    assert!(after.open_rounds().len() <= MAX_OPEN_ROUNDS);
    assert!(after.last_round >= before.last_round && after.rounds.len() >= before.rounds.len());
    let mut numbers: Vec<u64> = after.rounds.values().map(|round| round.open.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), after.rounds.len(), "a number names one round");
    for (id, was) in &before.rounds {
        let is = &after.rounds[id];
        assert_eq!((&is.open, is.position), (&was.open, was.position));
        match (&was.phase, &is.phase) {
            (RoundPhase::Open, _) => {}
            (
                RoundPhase::Committed { commit, position, verified },
                RoundPhase::Committed { commit: now, position: at, verified: proof },
            ) => {
                assert_eq!((commit, position), (now, at), "a commit is for good");
                assert!(verified.is_none() || verified == proof, "so is a verification");
            }
            (RoundPhase::Ended(end), RoundPhase::Ended(now)) => assert_eq!(end, now),
            (RoundPhase::Committed { .. } | RoundPhase::Ended(_), _) => panic!("{id} came back: {is:?}"),
        }
        assert!(!was.swept || is.swept, "what is swept stays so");
        assert!(is.swept == was.swept || is.hold.is_none(), "a held round is swept");
    }
    let current = after.members.values().filter(|member| member.revoked.is_none());
    let agents = current.filter(|member| member.member.role.service().is_some()).count();
    assert_eq!(after.agents().count(), agents, "agents are those of the roster");
    for (who, was) in before.members.iter() {
        assert!(after.members.contains_key(who), "{who} was forgotten: {was:?}");
    }
    assert!(after.void.windows(2).all(|pair| pair[0] < pair[1]));
}

fn next_record(draw: &mut Draw<'_>, state: &State) -> Vec<u8> {
    let (kind, who, how) = (*draw.one(&KINDS), draw.below(PEOPLE + 1), draw.byte());
    let carrier = if how & 1 == 0 { who } else { draw.below(PEOPLE) };
    let number = if how & 0x70 == 0x70 { u64::from(draw.byte()) } else { state.next };
    let head = if how & 0x0e == 0x0e { GENESIS_HEAD } else { state.head };
    if how & 0x80 != 0 && draw.below(4) == 0 {
        return seal_with_statement(&signer(who), &fleet_id(), number, head, kind, draw.bytes().to_vec());
    }
    let previous = state.statements.get(kind).copied();
    let stated = |said: Vec<u8>| seal_with_statement(&signer(carrier), &fleet_id(), number, head, kind, said);
    let current = state.epoch.as_ref().map_or(1, |epoch| epoch.epoch);
    let epoch = (current + u64::from(draw.below(3))).saturating_sub(1);
    let round = RoundId::from_bytes([draw.below(10); 16]);
    let rounds = vec![round, RoundId::from_bytes([draw.below(10); 16])];
    let instance = Nonce::from_bytes([draw.below(3); 16]);
    let list = ObjectId::of(b"list");
    macro_rules! says {
        ($body:expr) => {
            seal(&signer(who), &fleet_id(), number, head, &$body)
        };
    }
    match kind {
        "keyset" => {
            let key = |label: &[u8]| KeysetKey {
                recipient: recipient(label.first().copied().unwrap_or(1)),
                label: String::from_utf8_lossy(label).into_owned(),
            };
            let keys = (0..draw.below(3)).map(|_| key(draw.bytes())).collect();
            stated(statement(who, &Keyset { previous, keys, at: None }))
        }
        "roster" => {
            let change = |draw: &mut Draw<'_>| match draw.below(3) {
                0 => Change::Revoke(key(draw.below(PEOPLE + 2))),
                _ => Change::Admit(member(draw.below(PEOPLE + 2), draw.byte())),
            };
            let changes = (0..draw.below(4)).map(|_| change(draw)).collect();
            stated(statement(who, &Roster { previous, changes, at: None }))
        }
        "config" => {
            let clear = [("interval".to_owned(), String::from_utf8_lossy(draw.bytes()).into_owned())].into();
            stated(statement(who, &Config { previous, clear, sealed: None, at: None }))
        }
        "hold" => stated(statement(
            who,
            &Hold { previous, round, keep: draw.below(2) == 0, reason: None, at: None },
        )),
        "accept" => {
            let service = draw.one(&["dns", "web", "mail"]).parse().expect("a name");
            stated(statement(who, &Accept { previous, service, round, reason: None, at: None }))
        }
        "drill" => stated(statement(
            who,
            &Drill {
                previous,
                round,
                scope: Scope::All,
                outcome: if epoch.is_multiple_of(2) { DrillOutcome::Passed } else { DrillOutcome::Failed },
                files: epoch,
                bytes: epoch,
                took_millis: epoch,
                reason: None,
                at: AT,
            },
        )),
        "adopt" => stated(statement(
            who,
            &Adopt { previous, share: instance, head: Head { number: epoch, hash: list }, at: None },
        )),
        "epoch" => says!(Epoch { epoch, instance, at: AT }),
        "open" => {
            let names = ["dns", "web", "mail"].map(|name| name.parse().expect("a name"));
            let scope = match draw.below(3) {
                0 => Scope::All,
                some => Scope::Services(names[..usize::from(some)].to_vec()),
            };
            let ahead = u64::from(draw.below(3) != 0);
            says!(Open {
                epoch,
                round,
                number: state.last_round + ahead,
                scope,
                nonce: instance,
                trigger: "fuzz".to_owned(),
                deadline_millis: u64::from(draw.short()),
                at: AT,
                cut: None,
            })
        }
        "commit" => {
            let outcome =
                *draw.one(&[Outcome::Complete, Outcome::Partial, Outcome::Failed, Outcome::Cancelled]);
            says!(Commit { epoch, round, manifest: list, manifest_size: 5, outcome, at: AT })
        }
        "verified" => says!(Verified { epoch, round, objects: 1, bytes: 2, at: AT }),
        "end" => {
            let outcome =
                *draw.one(&[Outcome::Failed, Outcome::Cancelled, Outcome::Skipped, Outcome::Complete]);
            says!(End { epoch, round, outcome, reason: "fuzz".to_owned(), at: AT, account: None })
        }
        "prune" => says!(Prune { epoch, rounds, list, at: None }),
        "sweep" => says!(Sweep { rounds, list }),
        "pruned" => says!(Pruned { sweep: u64::from(draw.byte()) }),
        "sealing" => says!(Sealing { recipient: recipient(draw.byte()) }),
        _ => says!(Audit { who: key(who), what: "fuzz".to_owned(), at: AT }),
    }
}

pub(super) fn replay_samples() -> Vec<Vec<u8>> {
    // One step: kind, signer, how; epoch offset, two rounds, instance; then what the kind draws.
    let kind = |name: &str| {
        let at = KINDS.iter().position(|kind| *kind == name).expect("a kind");
        u8::try_from(at).expect("few kinds")
    };
    let step =
        |name: &str, who: u8, epoch: u8, rest: &[u8]| [&[kind(name), who, 0, epoch, 1, 2, 1], rest].concat();
    let life = [
        step("epoch", 1, 1, &[]),
        step("open", 1, 1, &[1, 1, 9, 0]),
        step("commit", 1, 1, &[0]),
        step("verified", 1, 1, &[]),
        step("hold", 3, 1, &[1]),
        step("accept", 3, 1, &[0]),
        step("drill", 3, 1, &[]),
        step("prune", 1, 1, &[]),
        step("sweep", 5, 1, &[]),
        step("pruned", 5, 1, &[7]),
        step("epoch", 2, 2, &[]),
    ]
    .concat();
    let people = [
        step("roster", 0, 1, &[2, 1, 9, 6, 0, 1]),
        step("keyset", 0, 1, &[1, 1, 4]),
        step("config", 4, 1, &[2, 49, 104]),
        step("epoch", 1, 1, &[]),
        step("audit", 3, 1, &[]),
    ]
    .concat();
    vec![life, people]
}
