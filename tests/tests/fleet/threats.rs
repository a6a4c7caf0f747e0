//! Rows of the threat model that forge: something is put on the share or the bus that nobody may say. It is refused, the
//! fleet goes on as before, and people are told with the alert's code.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use muster_protocol::age::Identity;
use muster_protocol::envelope::{Payload, Signer};
use muster_protocol::ids::KeyId;
use muster_protocol::log::{Change, Effect, Keyset, KeysetKey, Member, Role, Roster};
use muster_protocol::message::StateDocument;
use muster_protocol::wire;
use muster_share::entropy::OsEntropy;
use muster_share::sealed::key_of_header;
use muster_share::secret_file;
use muster_tests::fleet::{Fleet, text};
use muster_tests::fuzz::forge::{Forge, Unsigned};
use muster_tests::hand::{Hand, stolen};
use muster_tests::process::{LIMIT, wait_for};
use muster_tests::secrets::files;
use muster_tests::tree;
use serde::Serialize;
use serde_json::Value;

struct Case {
    fleet: Fleet,
    data: tempfile::TempDir,
    /// Slots that were refused, with the code of each.
    refused: RefCell<Vec<(u64, &'static str)>>,
}

/// A fleet that runs, with one service and one committed round.
fn running() -> Case {
    let mut case = stopped();
    case.fleet.open_the_bus();
    case.fleet.up();
    let _ = case.fleet.run(&["start", "--wait"]).with_code(0);
    case
}

fn stopped() -> Case {
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("tree"), 3);
    let fleet = Fleet::init(&[format!("config=files:{}", text(&data.path().join("tree")))]);
    Case { fleet, data, refused: RefCell::default() }
}

impl Case {
    /// The key of a member that the root lets in.
    fn enrolled(&self, name: &str, role: &[&str]) -> Signer {
        let (root, into) = (text(&self.fleet.root()), self.fleet.path(name));
        let folder = text(&into);
        let args = [&["enroll", name, "--root", &root, "--into", &folder], role].concat();
        let _ = self.fleet.run(&args).with_code(0);
        secret_file::read_signing_key(&into.join(format!("keys/{name}.key"))).expect("its key")
    }

    /// The next round is complete, and what was backed up comes back. The agent, which read the log for that round, has
    /// told of every slot that was refused.
    fn goes_on(&self) {
        self.runs_a_round();
        let out = self.fleet.path("out");
        let _ = fs::remove_dir_all(&out);
        let _ = self.fleet.recover(&out).with_code(0);
        tree::assert_same(&self.data.path().join("tree"), &out.join("config/files"));
    }

    fn runs_a_round(&self) {
        let _ = self.fleet.run(&["start", "--wait"]).with_code(0);
        for (number, code) in self.refused.borrow().iter() {
            self.logged("agent-config.log", *number, code);
        }
    }

    fn logged(&self, log: &str, number: u64, code: &str) {
        wait_for(&format!("{log} tells {code} of record {number}"), || {
            let said = fs::read_to_string(self.fleet.path(log)).unwrap_or_default();
            let told = |line: &str| line.contains(code) && line.contains(&format!("\"number\":{number},"));
            said.lines().any(told).then_some(())
        });
    }

    /// `status` and `verify` tell of a slot that was refused, and so does the coordinator in its log.
    fn tells(&self, number: u64, code: &'static str) {
        let subject = format!("log record {number}");
        let status = self.fleet.run(&["status", "--json"]).with_code(0).json();
        let alerts = status["alerts"].as_array().expect("alerts");
        let alert = alerts.iter().find(|alert| alert["subject"] == subject.as_str());
        let alert = alert.unwrap_or_else(|| panic!("{subject} is not told: {status}"));
        assert_eq!(alert["code"], code, "{alert}");
        assert!(alert["steps"].as_array().is_some_and(|steps| !steps.is_empty()), "{alert}");
        // Exit 4 while nothing follows a void slot: a damaged record would look the same.
        let verify = self.fleet.run(&["verify"]);
        assert!(verify.code == 0 || verify.code == 4, "{}{}", verify.out, verify.err);
        let line = format!("refused  {subject}   {code}");
        assert!(verify.out.contains(&line), "{line}: {}", verify.out);
        self.logged("coordinator.log", number, code);
        self.refused.borrow_mut().push((number, code));
    }

    /// The sealed objects of a service's rounds.
    fn sealed(&self) -> Vec<PathBuf> {
        let all = files(&self.fleet.share()).into_iter();
        all.filter(|file| key_of_header(&fs::read(file).expect("an object"), &kit(&self.fleet.kit())).is_ok())
            .collect()
    }
}

fn kit(folder: &Path) -> Vec<Identity> {
    secret_file::read_identities(&folder.join("recovery.key")).expect("the kit")
}

fn foreign() -> (Identity, Vec<KeysetKey>) {
    let identity = Identity::generate(&mut OsEntropy);
    let key = KeysetKey { recipient: identity.recipient(), label: "mine".to_owned() };
    (identity, vec![key])
}

/// A document on the subject of the state, as whoever reaches the bus may send it.
fn publish(fleet: &Fleet, document: Vec<u8>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client = fleet.client().await;
        // What the server has sent back to us, it has sent to everybody.
        let mut heard = client.subscribe("muster.v1.test.state").await.expect("subscribes");
        client.publish("muster.v1.test.state", document.into()).await.expect("sent");
        let heard = tokio::time::timeout(LIMIT, heard.next()).await;
        heard.expect("the server passes it on").expect("the client lives");
    });
}

/// The agent says that it passed something over, with the code.
fn passed_over(fleet: &Fleet, why: &str) {
    let log = fleet.path("agent-config.log");
    wait_for(&format!("the agent tells: {why}"), || {
        let said = fs::read_to_string(&log).unwrap_or_default();
        said.lines()
            .any(|line| line.contains("a message was passed over") && line.contains(why))
            .then_some(())
    });
}

#[test]
fn a_substituted_recipient() {
    let mut case = running();
    let (thief, keys) = foreign();
    let ada = case.enrolled("ada", &["--role", "admin"]);
    let mut hand = Hand::of(&case.fleet);
    let previous = hand.state.statements.get("keyset").copied();
    let keyset = Keyset { previous, keys, at: None };
    // Whoever may append to the log may carry it there, and say it; it has no effect.
    let members = ["coordinator", "operator"].map(|name| stolen(&case.fleet, name));
    for key in members.iter().chain([&ada]) {
        assert!(matches!(hand.statement(key, key, &keyset), Effect::WithoutEffect(_)), "{key:?}");
        case.tells(hand.state.head.number, "SEC-01");
    }
    // An agent, and somebody whom nobody knows, are not even heard.
    for key in [stolen(&case.fleet, "agent-config"), Signer::from_seed(&[77; 32])] {
        assert!(matches!(hand.statement(&key, &key, &keyset), Effect::Void(_)));
        case.tells(hand.state.next - 1, "KEY-03");
    }

    // Of the bus nothing is believed about keys: a state document has no place for them, even the true leader's.
    #[derive(Serialize)]
    struct Lying {
        epoch: u64,
        revision: u64,
        rounds: Vec<()>,
        keyset: Keyset,
    }
    let epoch = hand.state.epoch.as_ref().expect("somebody leads").epoch;
    let lying = wire::encode(&Lying { epoch, revision: 1 << 40, rounds: Vec::new(), keyset });
    let leader = stolen(&case.fleet, "coordinator");
    let state = (StateDocument::DOMAIN, StateDocument::TYPE, StateDocument::VERSION);
    publish(&case.fleet, leader.seal_raw(state.0, state.1, state.2, &hand.state.fleet, &lying));
    passed_over(&case.fleet, "KEY-03");

    // An agent that knows nothing of before believes none of it either.
    case.fleet.kill_agent("config");
    fs::remove_dir_all(case.fleet.dir().join("state/agent-config")).expect("its memory");
    case.fleet.start_agent("config");
    fs::write(case.data.path().join("tree/new"), tree::noise(4, 100_000)).expect("file");
    case.goes_on();
    let sealed = case.sealed();
    assert!(sealed.len() >= 6, "{sealed:?}");
    let thief = [thief];
    for file in sealed {
        assert!(key_of_header(&fs::read(&file).expect("it"), &thief).is_err(), "{}", file.display());
    }
}

#[test]
fn a_stripped_signature() {
    // A stolen coordinator commits what nobody signed: hashes are right, signatures are not.
    let case = stopped();
    let _ = case.fleet.run(&["once", &text(&case.fleet.dir())]).with_code(0);
    let pristine = case.fleet.path("pristine");
    copy(&case.fleet.share(), &pristine);
    let share = text(&case.fleet.share());
    for (unsigned, code) in [(Unsigned::Receipt, "VERIFY-01"), (Unsigned::Manifest, "VERIFY-02")] {
        copy(&pristine, &case.fleet.share());
        let mut forge = Forge::begin(&case.fleet, "config");
        forge.unsigned = Some(unsigned);
        let entries = forge.entries();
        forge.commit(&entries);
        let out = case.fleet.path("out");
        let said = case.fleet.recover(&out).with_code(4);
        let all = format!("{}{}", said.out, said.err);
        assert!(all.contains(code) && all.contains("not believed"), "{unsigned:?}: {all}");
        assert!(!out.join("config/files").exists(), "{unsigned:?}: nothing of it is written");
        let said = case.fleet.run(&["verify", "--share", &share]).with_code(4);
        assert!(said.out.contains(code), "{unsigned:?}: {}", said.out);
        let _ = fs::remove_dir_all(&out);
    }

    // A record of the log.
    copy(&pristine, &case.fleet.share());
    let hand = Hand::of(&case.fleet);
    let newest = hand.file(hand.state.head.number);
    let mut record = fs::read(&newest).expect("a record");
    let at = record.len() - 64;
    record[at..].fill(0);
    fs::write(&newest, record).expect("written");
    for args in [vec!["rounds"], vec!["status"], vec!["once", &text(&case.fleet.dir())]] {
        let said = case.fleet.run(&args).with_code(4);
        assert!(said.err.contains("SHARE-08"), "{args:?}: {}", said.err);
    }
    let said = case.fleet.run(&["verify"]).with_code(4);
    assert!(said.out.contains("SHARE-08"), "{}", said.out);

    // A state document.
    copy(&pristine, &case.fleet.share());
    let mut case = case;
    case.fleet.open_the_bus();
    case.fleet.up();
    let _ = case.fleet.run(&["start", "--wait"]).with_code(0);
    let document = StateDocument { epoch: 1, revision: 1 << 40, rounds: Vec::new() };
    let mut document = stolen(&case.fleet, "coordinator").seal(&hand.state.fleet, &document);
    let at = document.len() - 64;
    document[at..].fill(0);
    publish(&case.fleet, document);
    passed_over(&case.fleet, "KEY-03");
    case.goes_on();
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.expect("cp runs").success());
}

#[test]
fn an_older_keyset() {
    let case = running();
    let before: Vec<_> = files(&case.fleet.share());
    let (root, new) = (text(&case.fleet.root()), text(&case.fleet.path("kit-2")));
    let _ = case.fleet.run(&["key", "rotate", "--root", &root, "--kit", &new]).with_code(0);
    let mut hand = Hand::of(&case.fleet);
    let (old, _) = hand.state.keysets.first_key_value().expect("the first keyset");
    let record = fs::read(hand.file(*old)).expect("its record");
    // The record itself, once more; and the statement in it, which the root did sign, carried by a coordinator.
    assert!(matches!(hand.put(&record), Effect::Void(_)));
    case.tells(hand.state.next - 1, "KEY-03");
    let leader = stolen(&case.fleet, "coordinator");
    let statement = statement_in(&record);
    assert!(matches!(hand.carry(&leader, "keyset", statement), Effect::WithoutEffect(_)));
    case.tells(hand.state.head.number, "SEC-01");

    fs::write(case.data.path().join("tree/new"), tree::noise(4, 100_000)).expect("file");
    case.runs_a_round();
    let (old, new) = (kit(&case.fleet.kit()), kit(Path::new(&new)));
    let mut sealed = 0;
    for file in files(&case.fleet.share()).iter().filter(|file| !before.contains(file)) {
        let bytes = fs::read(file).expect("an object");
        if key_of_header(&bytes, &new).is_ok() {
            sealed += 1;
            assert!(key_of_header(&bytes, &old).is_err(), "{} opens with the old key", file.display());
        }
    }
    assert!(sealed >= 3, "index, chunk index and packs");
}

/// The statement's own bytes: an envelope within the record's payload.
fn statement_in(record: &[u8]) -> Vec<u8> {
    #[derive(serde::Deserialize)]
    struct Fields {
        body: serde_bytes::ByteBuf,
    }
    let opened = muster_protocol::envelope::open(record, record.len()).expect("a record");
    wire::decode::<Fields>(opened.payload).expect("its fields").body.into_vec()
}

#[test]
fn a_forged_roster() {
    let case = running();
    let scaler = case.enrolled("scaler", &["--role", "enroller", "--prefix", "web-"]);
    let mut hand = Hand::of(&case.fleet);
    let mine = Signer::from_seed(&[66; 32]);
    let members = hand.state.members.clone();
    let sealing = foreign().0.recipient();
    let member = |role| Member { key: mine.key_id(), name: "mallory".parse().expect("a name"), role };
    let agent = |service: &str| {
        member(Role::Agent { service: service.parse().expect("a name"), sealing: sealing.clone() })
    };
    let config: KeyId = stolen(&case.fleet, "agent-config").key_id();
    let attempts: Vec<(&str, Change)> = vec![
        ("coordinator", Change::Admit(member(Role::Coordinator))),
        ("coordinator", Change::Admit(agent("config"))),
        ("coordinator", Change::Revoke(config)),
        ("operator", Change::Admit(member(Role::Admin))),
        ("scaler", Change::Admit(agent("vault"))),
        ("scaler", Change::Admit(member(Role::Coordinator))),
        ("scaler", Change::Revoke(config)),
    ];
    for (name, change) in attempts {
        let previous = hand.state.statements.get("roster").copied();
        let key = if name == "scaler" { scaler.clone() } else { stolen(&case.fleet, name) };
        let roster = Roster { previous, changes: vec![change.clone()], at: None };
        let effect = hand.statement(&key, &key, &roster);
        assert!(matches!(effect, Effect::WithoutEffect(_)), "{name}: {change:?}: {effect:?}");
    }
    case.tells(hand.state.head.number, "SEC-01");
    // An agent's word is not even a link.
    let previous = hand.state.statements.get("roster").copied();
    let key = stolen(&case.fleet, "agent-config");
    let roster = Roster { previous, changes: vec![Change::Admit(agent("vault"))], at: None };
    assert!(matches!(hand.statement(&key, &key, &roster), Effect::Void(_)));
    case.tells(hand.state.next - 1, "KEY-03");
    assert_eq!(hand.state.members, members);
    case.goes_on();
}

#[test]
fn a_record_replayed_or_inserted() {
    let case = running();
    let mut hand = Hand::of(&case.fleet);
    let again = fs::read(hand.file(hand.state.head.number)).expect("the newest record");
    assert!(matches!(hand.put(&again), Effect::Void(_)));
    case.tells(hand.state.next - 1, "KEY-03");
    let oldest = fs::read(hand.file(0)).expect("genesis");
    assert!(matches!(hand.put(&oldest), Effect::Void(_)));
    case.tells(hand.state.next - 1, "KEY-03");
    assert!(matches!(hand.put(b"no record at all"), Effect::Void(_)));
    case.tells(hand.state.next - 1, "SHARE-07");
    case.goes_on();

    // One that is put between others moves those behind it: whoever reads finds no chain.
    let mut case = case;
    case.fleet.kill_coordinator();
    case.fleet.kill_agent("config");
    hand.read_on();
    let last = hand.state.head.number;
    for number in (3..=last).rev() {
        fs::rename(hand.file(number), hand.file(number + 1)).expect("moved");
    }
    fs::write(hand.file(3), &again).expect("inserted");
    refused_by_all(&mut case);
}

#[test]
fn junk_above_the_head_of_the_log_stops_nobody() {
    let mut case = running();
    let mut hand = Hand::of(&case.fleet);
    let far = 9_999_999_999;
    fs::write(hand.file(far), "junk").expect("written");
    // In the midst of the records of the next round: as the last of all, it could be a damaged record.
    let near = hand.state.head.number + 3;
    fs::write(hand.file(near), "junk").expect("written");
    let _ = case.fleet.run(&["verify"]).with_code(0);
    case.fleet.kill_coordinator();
    case.fleet.start_coordinator();
    case.goes_on();
    case.goes_on();
    // An agent never looks above the head.
    case.tells(far, "SHARE-07");
    hand.read_on();
    assert!(hand.state.void.contains(&near), "the log has passed it over: {:?}", hand.state.void);
}

#[test]
fn a_truncated_log() {
    let mut case = running();
    // Everyone has read the newest records before they go.
    let hand = Hand::of(&case.fleet);
    let head = hand.state.head;
    for who in ["agent-config", "coordinator", "operator"] {
        let file = case.fleet.dir().join(format!("state/{who}/head"));
        wait_for(&format!("{who} remembers the head"), || {
            // `status` makes the operator read the log.
            let _ = case.fleet.run(&["status"]);
            fs::read_to_string(&file).ok()?.contains(&head.to_string()).then_some(())
        });
    }
    case.fleet.kill_coordinator();
    case.fleet.kill_agent("config");
    for number in [head.number, head.number - 1] {
        fs::remove_file(hand.file(number)).expect("removed");
    }
    refused_by_all(&mut case);
    // Whoever noted a head elsewhere needs no memory of this machine.
    let (share, kit, head) = (text(&case.fleet.share()), text(&case.fleet.kit()), head.to_string());
    let out = text(&case.fleet.path("out"));
    let recover = ["recover", "--share", &share, "--kit", &kit, "--into", &out, "--expect-head", &head];
    let said = case.fleet.run(&recover).with_code(4);
    assert!(said.err.contains("SHARE-08"), "{}", said.err);
    let restore = ["restore", "1", "--service", "config", "--kit", &kit, "--expect-head", &head];
    fs::remove_dir_all(case.fleet.dir().join("state/operator")).expect("the operator forgets");
    let said = case.fleet.run(&restore).with_code(4);
    assert!(said.err.contains("SHARE-08"), "{}", said.err);
}

/// Operator, coordinator and agent, each started anew, refuse the log, and say why.
fn refused_by_all(case: &mut Case) {
    for args in [vec!["rounds"], vec!["status"], vec!["restore", "1", "--service", "config", "--kit"]] {
        let kit = text(&case.fleet.kit());
        let args: Vec<&str> = if args.len() > 1 { [&args[..], &[&kit]].concat() } else { args };
        let said = case.fleet.run(&args).with_code(4);
        assert!(said.err.contains("SHARE-08"), "{args:?}: {}", said.err);
    }
    case.fleet.start_coordinator();
    assert_eq!(case.fleet.coordinator_ends(), Some(4));
    let said = fs::read_to_string(case.fleet.path("coordinator.log")).expect("a log");
    assert!(said.contains("SHARE-08"), "{said}");
    case.fleet.start_agent("config");
    let log = case.fleet.path("agent-config.log");
    wait_for("the agent refuses the log", || {
        fs::read_to_string(&log).ok()?.contains("SHARE-08: the log cannot be read").then_some(())
    });
    let status: Result<Value, _> = serde_json::from_str(&case.fleet.run(&["agents", "--json"]).out);
    assert!(status.is_err(), "nobody leads");
}
