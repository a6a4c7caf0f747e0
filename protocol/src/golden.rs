//! Golden samples: one sealed sample of every message, document and record of version 1, kept in the repository. Every
//! later version must read them to the same values; this one must also write the same bytes. A change of a sample is a
//! change of the format: `MUSTER_GOLDEN=write` writes them anew, for a new version only.

use std::path::PathBuf;

use crate::alert::Code;
use crate::document::{Absentee, Manifest, ObjectRef, Receipt, SliceStatus, SliceTotals};
use crate::entropy::Entropy;
use crate::envelope::{Payload, open_as};
use crate::ids::{Nonce, ObjectId, RestoreId};
use crate::log::fixture::checked_slice;
use crate::log::fixture::{
    ADMIN, DNS, FIRST, OPERATOR, PRUNER, ROOT, commit, end, epoch, fleet_id, genesis, key, member, open,
    recovery_key, round, service, signer, verified,
};
use crate::log::{
    Accept, Adopt, Audit, Body, Change, Config, Drill, DrillOutcome, Found, GENESIS_HEAD, Head, Hold, Keyset,
    Outcome, Prune, Pruned, Quarantine, Reached, Role, Roster, Scope, Scrub, Sealing, Sweep, parse, seal,
    seal_statement, seal_with_statement,
};
use crate::message::{
    Acknowledgement, Command, CommandReply, CommandState, Demand, Heartbeat, Hello, Notice, NoticeOutcome,
    OfferVerdict, OpenRound, Order, Ordered, Progress, RestoreAsk, RestoreExisting, RestoreOffer,
    RestoreOrder, RestoreOutcome, RestoreQuery, RestoreRefusal, RestoreState, RestoreStatus, RestoreTarget,
    ServiceState, Stage, StateDocument, TriggerReply, TriggerState, Verdict, Welcome,
};
use crate::session::{Ephemeral, Sealed, Session, Side, Transcript};
use crate::time::UnixMillis;

const AT: UnixMillis = UnixMillis(1_700_000_000_000);
const PREVIOUS: Head = Head { number: 11, hash: ObjectId::from_bytes([11; 32]) };

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "golden", "v1", &format!("{name}.bin")].iter().collect()
}

/// The kept sample, which must be what is written today.
fn kept(name: &str, today: &[u8]) -> Vec<u8> {
    let path = path(name);
    if std::env::var("MUSTER_GOLDEN").is_ok_and(|mode| mode == "write") {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("creates the folder");
        std::fs::write(&path, today).expect("writes the sample");
    }
    let kept = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(kept == today, "{name}: today's bytes are not the kept ones");
    kept
}

fn envelope<P: Payload + PartialEq + std::fmt::Debug>(who: u8, value: &P) {
    envelope_named(&format!("{}.{}", P::DOMAIN, P::TYPE), who, value);
}

fn envelope_named<P: Payload + PartialEq + std::fmt::Debug>(name: &str, who: u8, value: &P) {
    let sample = kept(name, &signer(who).seal(&fleet_id(), value));
    let (by, read) = open_as::<P>(&sample, &fleet_id()).expect("reads");
    assert_eq!((by, &read), (key(who), value));
}

fn record<B: Body + PartialEq + std::fmt::Debug>(who: u8, value: &B) {
    let (number, previous) = if B::KIND == "genesis" { (0, GENESIS_HEAD) } else { (12, PREVIOUS) };
    let today = if B::STATEMENT {
        let statement = seal_statement(&signer(who), &fleet_id(), value);
        seal_with_statement(&signer(FIRST), &fleet_id(), number, previous, B::KIND, statement)
    } else {
        seal(&signer(who), &fleet_id(), number, previous, value)
    };
    let read = parse(&kept(&format!("log.{}", B::KIND), &today)).expect("reads");
    assert_eq!(
        (read.kind.as_str(), read.version, read.number, read.previous),
        (B::KIND, 1, number, previous)
    );
    assert_eq!((read.critical, read.fleet), (B::CRITICAL, fleet_id()));
    if B::STATEMENT {
        let statement = read.statement::<B>().expect("a statement");
        assert_eq!((read.signer, statement.signer, &statement.body), (key(FIRST), key(who), value));
    } else {
        assert_eq!((read.signer, &read.body::<B>().expect("a body")), (key(who), value));
    }
}

#[test]
fn records() {
    let previous = Some(ObjectId::of(b"previous"));
    let (list, rounds) = (ObjectId::of(b"list"), vec![round(1), round(2)]);
    record(ROOT, &genesis());
    record(ROOT, &Keyset { previous: None, keys: vec![recovery_key(1), recovery_key(2)], at: None });
    let roles = [
        Role::Coordinator,
        Role::Agent { service: service("dns"), sealing: recovery_key(3).recipient },
        Role::Viewer,
        Role::Operator,
        Role::Admin,
        Role::Pruner,
        Role::Enroller { prefix: "web-".to_owned(), until: Some(900) },
    ];
    let mut changes: Vec<_> =
        (20..).zip(roles).map(|(number, role)| Change::Admit(member(number, role))).collect();
    changes.push(Change::Revoke(key(FIRST)));
    record(ROOT, &Roster { previous, changes, at: None });
    record(
        ADMIN,
        &Config { previous, clear: [("interval".into(), "12h".into())].into(), sealed: Some(list), at: None },
    );
    record(FIRST, &epoch(3));
    record(FIRST, &open(3, 1, 1, &["dns", "web"]));
    record(FIRST, &commit(3, 1));
    record(FIRST, &verified(3, 1));
    record(FIRST, &end(3, 1));
    record(FIRST, &Prune { epoch: 3, rounds: rounds.clone(), list, at: None });
    record(PRUNER, &Sweep { rounds, list });
    record(PRUNER, &Pruned { sweep: 40 });
    record(OPERATOR, &Hold { previous, round: round(1), keep: true, reason: None, at: None });
    let reason = Some("moved to the new machine".to_owned());
    record(OPERATOR, &Accept { previous, service: service("dns"), round: round(1), reason, at: Some(AT) });
    record(
        OPERATOR,
        &Drill {
            previous,
            round: round(1),
            scope: Scope::All,
            outcome: DrillOutcome::Failed,
            files: 20_041,
            bytes: 2_200_000_000,
            took_millis: 3_400,
            reason: Some("1 object is damaged".to_owned()),
            at: AT,
        },
    );
    record(ROOT, &Adopt { previous, share: Nonce::from_bytes([5; 16]), head: PREVIOUS, at: None });
    record(FIRST, &Sealing { recipient: recovery_key(4).recipient });
    record(FIRST, &Audit { who: key(OPERATOR), what: "started round 3".to_owned(), at: AT });
    let (bad, mended) = (ObjectId::of(b"bad"), ObjectId::of(b"mended"));
    let service = service("dns");
    record(
        FIRST,
        &Quarantine {
            epoch: 3,
            service: service.clone(),
            add: vec![bad],
            found: Found::Bytes,
            lift: vec![mended],
            at: AT,
        },
    );
    let reached = Some(Reached { service, object: bad });
    record(FIRST, &Scrub { epoch: 3, pass: 2, reached, objects: 7, bytes: 9 << 20, began: AT, at: AT });
}

fn totals() -> SliceTotals {
    SliceTotals { source_bytes: 70_000, stored_bytes: 300, added_bytes: 200, entries: 12, gaps: 1 }
}

#[test]
fn documents() {
    let object = |number: u8| ObjectRef {
        round: round(1),
        id: ObjectId::of(&[number]),
        size: u64::from(number) << 20,
    };
    envelope(
        DNS,
        &Receipt {
            service: service("dns"),
            round: round(1),
            attempt: 2,
            nonce: Nonce::from_bytes([2; 16]),
            keyset: 1,
            head: PREVIOUS,
            index: object(1),
            chunks: vec![object(2)],
            packs: vec![object(3), object(4)],
            new_packs: 1,
            status: SliceStatus::Gaps,
            totals: totals(),
            previous: Some(ObjectId::of(b"previous")),
            cut: None,
        },
    );
    let (code, reason) = (Code::Agent01, "no hello within 30 s".to_owned());
    envelope(
        FIRST,
        &Manifest {
            round: round(1),
            number: 1,
            epoch: 3,
            keyset: 1,
            opened: AT,
            assembled: AT,
            trigger: "schedule".to_owned(),
            outcome: Outcome::Partial,
            slices: vec![checked_slice(&service("dns"), ObjectId::of(b"receipt"))],
            absent: vec![Absentee {
                service: service("web"),
                attempts: 3,
                code,
                reason,
                excuse: None,
                tries: vec![],
            }],
            cut: None,
        },
    );
}

#[test]
fn messages() {
    let (epoch, revision, attempt, nonce) = (3, 7, 2, Nonce::from_bytes([2; 16]));
    let (dns, version) = (|| service("dns"), || "0.1.0".to_owned());
    let (round, ephemeral, receipt) = (round(1), [6; 32], ObjectId::of(b"receipt"));
    let (sealed, version_) = (false, version());
    envelope(
        DNS,
        &Hello { service: dns(), round, epoch, attempt, nonce, ephemeral, version: version_, sealed },
    );
    let outcome = NoticeOutcome::Stored { receipt, receipt_size: 300, totals: totals() };
    envelope(DNS, &Notice { service: dns(), round, epoch, attempt, outcome });
    let (sequence, at) = (9, None);
    let (round_, version_, leaving) = (Some(round), version(), false);
    let beat = Heartbeat {
        service: dns(),
        instance: nonce,
        sequence,
        version: version_,
        round: round_,
        at,
        leaving,
    };
    envelope(DNS, &beat);
    envelope_named("muster.bus.heartbeat.timed", DNS, &Heartbeat { at: Some(AT), ..beat.clone() });
    envelope_named("muster.bus.heartbeat.leaving", DNS, &Heartbeat { leaving: true, ..beat });
    let (stage, done_bytes, expected_bytes, added_bytes) = (Stage::Uploading, 70_000, Some(80_000), 200);
    envelope(
        DNS,
        &Progress { service: dns(), round, attempt, stage, done_bytes, expected_bytes, added_bytes },
    );
    let rounds =
        vec![OpenRound { round, position: 12, remaining_millis: 60_000, ephemeral, turn: 0, cut: None }];
    envelope(FIRST, &StateDocument { epoch, revision, rounds });
    envelope(FIRST, &ServiceState { epoch, revision, service: dns(), round, attempt });
    let sealed = serde_bytes::ByteBuf::from(vec![8; 48]);
    envelope(FIRST, &Welcome { round, epoch, attempt: Some(attempt), nonce, sealed });
    let verdict = Verdict::Refused { reason: "a pack is missing".to_owned() };
    envelope(FIRST, &Acknowledgement { round, epoch, attempt, receipt: Some(receipt), verdict });
}

/// Both directions of a session, and a hello that offers one.
#[test]
fn sealed_messages() {
    let (round, epoch, attempt, nonce) = (round(1), 3, 2, Nonce::from_bytes([2; 16]));
    let [leader, agent] = [3, 4].map(|seed| Ephemeral::generate(&mut Fixed(seed)));
    let transcript = Transcript {
        fleet: fleet_id(),
        round,
        epoch,
        leader: key(FIRST),
        agent: key(DNS),
        leader_ephemeral: leader.public(),
        agent_ephemeral: agent.public(),
        nonce,
    };
    let mut first = Session::derive(Side::Leader, &leader, &transcript).expect("derives");
    let mut dns = Session::derive(Side::Agent, &agent, &transcript).expect("derives");
    let (service, version) = (service("dns"), "0.1.0".to_owned());
    let ephemeral = agent.public();
    let hello =
        Hello { service: service.clone(), round, epoch, attempt, nonce, ephemeral, version, sealed: true };
    envelope_named("muster.bus.hello.sealed", DNS, &hello);
    let credentials = Some(serde_bytes::ByteBuf::from(vec![8; 48]));
    let order = Order { nonce, credentials, max_hold_millis: Some(30_000), bandwidth: Some(1_000_000) };
    sealed(&mut first, &mut dns, &Ordered { attempt, order });
    let (stage, done_bytes, expected_bytes, added_bytes) = (Stage::Uploading, 70_000, Some(80_000), 200);
    let at = service.clone();
    let progress = Progress { service: at, round, attempt, stage, done_bytes, expected_bytes, added_bytes };
    sealed(&mut dns, &mut first, &progress);
    let receipt = ObjectId::of(b"receipt");
    let outcome = NoticeOutcome::Stored { receipt, receipt_size: 300, totals: totals() };
    sealed(&mut dns, &mut first, &Notice { service, round, epoch, attempt, outcome });
    let verdict = Verdict::Accepted;
    sealed(&mut first, &mut dns, &Acknowledgement { round, epoch, attempt, receipt: Some(receipt), verdict });
}

/// Draws that are known to everybody.
struct Fixed(u8);

impl Entropy for Fixed {
    fn fill(&mut self, buffer: &mut [u8]) {
        buffer.fill(self.0);
    }
}

fn sealed<P: Payload + PartialEq + std::fmt::Debug>(by: &mut Session, to: &mut Session, value: &P) {
    let sample = kept(&format!("muster.session.{}", P::TYPE), &by.say(value));
    let read = Sealed::read(&sample, P::MAX_LEN).expect("reads");
    assert_eq!(&to.hear::<P>(&read).expect("opens"), value);
}

#[test]
fn commands() {
    let nonce = Nonce::from_bytes([2; 16]);
    let demand = Demand::Start {
        services: Some(vec![service("dns")]),
        labels: Some(vec!["lab".to_owned()]),
        request: "nightly-1".to_owned(),
        reason: Some("before the move".to_owned()),
        force: true,
    };
    envelope(OPERATOR, &Command { nonce, demand, token: None });
    let demand = Demand::Cancel { round: round(1), reason: "a mistake".to_owned() };
    let token = Some("ci".parse().expect("a name"));
    envelope_named("muster.bus.command.token", FIRST, &Command { nonce, demand, token });
    let demand = Demand::TestNotification {
        request: "test-1".to_owned(),
        channel: Some("ops".parse().expect("a name")),
    };
    envelope_named("muster.bus.command.test-notification", OPERATOR, &Command { nonce, demand, token: None });
    let objects = vec![ObjectId::of(b"bad")];
    let demand = Demand::Suspect { service: Some(service("dns")), objects, found: Found::Content };
    envelope_named("muster.bus.command.suspect", OPERATOR, &Command { nonce, demand, token: None });
    let started =
        TriggerReply { round: Some(round(1)), number: Some(1), state: TriggerState::Opened, reason: None };
    let reason = String::new();
    envelope(FIRST, &CommandReply { nonce, state: CommandState::Done, reason, started: Some(started) });
}

/// What an earlier version of the same version of the format wrote, field by field, is read.
#[test]
fn fields_that_came_later_may_be_absent() {
    #[derive(serde::Serialize)]
    struct Reply {
        nonce: Nonce,
        state: CommandState,
        reason: &'static str,
    }
    let nonce = Nonce::from_bytes([2; 16]);
    let bytes = crate::wire::encode(&Reply { nonce, state: CommandState::Nothing, reason: "no" });
    let read: CommandReply = crate::wire::decode(&bytes).expect("reads");
    assert_eq!((read.started, read.reason.as_str()), (None, "no"));
    let bare =
        Demand::Start { services: None, labels: None, request: "r".to_owned(), reason: None, force: false };
    #[derive(serde::Serialize)]
    #[serde(rename_all = "kebab-case")]
    enum Bare {
        Start { request: &'static str },
    }
    assert_eq!(crate::wire::encode(&bare), crate::wire::encode(&Bare::Start { request: "r" }));
}

#[test]
fn restore_messages() {
    let (dns, nonce, restore) =
        (|| service("dns"), Nonce::from_bytes([2; 16]), RestoreId::from_bytes([9; 16]));
    let (round, receipt, grant) = (round(1), ObjectId::of(b"receipt"), ObjectId::of(b"grant"));
    envelope(OPERATOR, &RestoreAsk { service: dns(), round, receipt, nonce });
    let recipient = recovery_key(4).recipient;
    let verdict = OfferVerdict::Offered { restore, recipient, valid_millis: 120_000 };
    envelope(DNS, &RestoreOffer { service: dns(), nonce, verdict });
    envelope(
        OPERATOR,
        &RestoreOrder {
            service: dns(),
            restore,
            nonce,
            round,
            receipt,
            grant,
            grant_size: 1300,
            path: Some(serde_bytes::ByteBuf::from(*b"files/etc")),
            existing: RestoreExisting::Replace,
            target: RestoreTarget::Into { path: serde_bytes::ByteBuf::from(*b"/srv/out") },
        },
    );
    envelope(OPERATOR, &RestoreQuery { service: dns(), restore: Some(restore), nonce });
    let refusal = RestoreRefusal {
        code: Some(Code::Agent03),
        reason: "the restore command ended with 1".to_owned(),
        next: "see its output".to_owned(),
    };
    let outcome = RestoreOutcome {
        files: 3,
        others: 2,
        dumps: 1,
        bytes: 70_000,
        warnings: 1,
        notes: vec!["files/etc/x: its owner was left".to_owned()],
        failure: Some(refusal),
        took_millis: 1500,
        ..RestoreOutcome::default()
    };
    let state = RestoreState::Ended(outcome);
    envelope(DNS, &RestoreStatus { service: dns(), restore: Some(restore), nonce, state });
}
