//! Whole rounds on a share that tears, bends, forgets, stalls or hides what it is given: to one agent, or to the
//! coordinator. Coordinator and agents are the real ones, in this process, over the embedded bus. FAULTS invariants 1, 2, 3,
//! 14, 16, 17.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster_bus::{Bus, EmbeddedBus, Limits, Streams};
use muster_protocol::config::ShareConfig;
use muster_protocol::ids::ObjectId;
use muster_protocol::log::{Outcome, Pin, RoundPhase, RoundState, State};
use muster_protocol::subject::{Subject, Subjects};
use muster_share::log::Log;
use muster_share::store::faults::{Call, Fault, Faulty, Op};
use muster_share::store::{self, Store};
use muster_tests::audit;
use muster_tests::fleet::{Fleet, text};
use muster_tests::tree;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happens to a call.
type OnCall = fn(&Call<'_>) -> Fault;

/// The service whose agent meets the fault.
const STRUCK: &str = "struck";
/// The other one.
const OTHER: &str = "other";
/// For a round to end and to be read again; a hang would take longer.
const LIMIT: Duration = Duration::from_secs(90);

/// The fault of each call, and whether it strikes once in a round or whenever the rule says so.
type Rule = (Strikes, fn(&Call<'_>) -> Fault);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strikes {
    Once,
    Always,
}

const NONE: Rule = (Strikes::Always, |_| Fault::None);

/// A fault for the first write to a path with this in it.
fn first_put(call: &Call<'_>, part: &str, fault: Fault) -> Fault {
    if call.op == Op::Put && call.nth == 0 && call.path.contains(part) { fault } else { Fault::None }
}

struct Stage {
    fleet: Fleet,
    data: TempDir,
}

impl Stage {
    fn new() -> Self {
        let data = TempDir::new().expect("a folder");
        let services = [STRUCK, OTHER].map(|name| {
            let folder = data.path().join(name);
            tree::small(&folder, 3);
            format!("{name}=files:{}", text(&folder))
        });
        Self { fleet: Fleet::init(&services), data }
    }

    fn tree(&self, service: &str) -> PathBuf {
        self.data.path().join(service)
    }

    /// One round on a share with these faults, each service with something new; what the log says of it.
    fn round(&self, number: u64, struck: Rule, coordinator: Rule, deadline: Duration) -> RoundState {
        self.round_until(number, struck, coordinator, deadline, is_over)
    }

    /// The same, until this is true of it.
    fn round_until(
        &self,
        number: u64,
        struck: Rule,
        coordinator: Rule,
        deadline: Duration,
        until: fn(&State, &RoundState) -> bool,
    ) -> RoundState {
        for service in [STRUCK, OTHER] {
            let new = tree::noise(100 * number + service.len() as u64, 200_000);
            fs::write(self.tree(service).join(format!("new-{number}")), new).expect("written");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let round = runtime.block_on(self.conduct(number, struck, coordinator, deadline, until));
        // What hangs for good must not hold the test.
        runtime.shutdown_background();
        round
    }

    async fn conduct(
        &self,
        number: u64,
        struck: Rule,
        coordinator: Rule,
        deadline: Duration,
        until: fn(&State, &RoundState) -> bool,
    ) -> RoundState {
        let share = ShareConfig::at(text(&self.fleet.share()));
        let faulty = async |rule: Rule| {
            let (strikes, fault) = rule;
            let struck = AtomicBool::new(false);
            let store: Arc<dyn Store> =
                Arc::new(Faulty::new(store::open(&share).await.expect("a share"), move |call| {
                    let fault = fault(call);
                    let is_over = strikes == Strikes::Once
                        && fault != Fault::None
                        && struck.swap(true, Ordering::Relaxed);
                    if is_over { Fault::None } else { fault }
                }));
            store
        };
        let subjects = Subjects::new(&"test".parse().expect("a name"));
        let (state, queue) = (subjects.print(&Subject::State), subjects.print(&Subject::TriggerAsync));
        let streams = Streams::new("test", &state, &queue).expect("streams");
        let bus: Arc<dyn Bus> = Arc::new(EmbeddedBus::new(streams, Limits::default()));
        let (stop, stopped) = watch::channel(false);
        let mut daemons = JoinSet::new();
        let file = self.fleet.dir().join("coordinator.toml");
        let mut config = muster_coordinator::config::Config::load(&file).expect("a configuration");
        config.lead.lease.0 = Duration::from_secs(1);
        config.lead.takeover.0 = Duration::from_millis(200);
        config.round.recruit.0 = Duration::from_secs(5);
        config.round.deadline.0 = deadline;
        config.round.retry_first.0 = Duration::from_millis(100);
        config.round.retry_longest.0 = Duration::from_millis(500);
        let at = faulty(coordinator).await;
        let leave = muster_coordinator::daemon::Slots::Leave;
        let running =
            muster_coordinator::daemon::run_on(config, Arc::clone(&bus), at, leave, stopped.clone());
        daemons.spawn(async move { running.await.map_err(|error| error.to_string()) });
        for (service, rule) in [(STRUCK, struck), (OTHER, NONE)] {
            let file = self.fleet.dir().join(format!("agents/{service}.toml"));
            let config = muster_agent::config::Config::load(&file).expect("a configuration");
            let running =
                muster_agent::daemon::run_on(config, Arc::clone(&bus), faulty(rule).await, stopped.clone());
            daemons.spawn(async move { running.await.map_err(|error| error.to_string()) });
        }
        let found = async {
            let trigger = subjects.print(&Subject::Trigger);
            let ask = format!(r#"{{"request":"round-{number}"}}"#);
            loop {
                let asked =
                    bus.request(&trigger, Vec::new(), ask.clone().into(), Duration::from_secs(5)).await;
                let opened =
                    asked.ok().and_then(|reply| serde_json::from_slice::<Value>(&reply.payload).ok());
                if opened.is_some_and(|reply| reply["round"].is_string()) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            // As everybody else would read it, past the faults.
            let clean = store::open(&share).await.expect("a share");
            let mut log = Log::open(clean, Pin::default()).await.expect("a log");
            loop {
                log.refresh().await.expect("reads on");
                let rounds = log.state().rounds_by_number();
                let round = rounds.into_iter().find(|round| round.open.number == number);
                if let Some(round) = round.filter(|round| until(log.state(), round)) {
                    return round.clone();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let round = tokio::time::timeout(LIMIT, found).await.expect("invariant 16: the round ends");
        stop.send_replace(true);
        // Whoever hangs in the share is left behind.
        let _ = tokio::time::timeout(Duration::from_secs(5), async {
            while daemons.join_next().await.is_some() {}
        })
        .await;
        round
    }

    /// The packs of the struck service that do not have the hash that they are named by.
    fn bent(&self) -> BTreeSet<String> {
        let packs = self.fleet.share().join(format!("agents/{STRUCK}/packs"));
        let shards = fs::read_dir(packs).expect("packs").flatten();
        let files = shards.flat_map(|shard| fs::read_dir(shard.path()).expect("a shard").flatten());
        let bent = files.filter(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            !name.starts_with(&ObjectId::of(&fs::read(file.path()).expect("a pack")).to_string())
        });
        let below = |path: PathBuf| text(path.strip_prefix(self.fleet.share()).expect("below the share"));
        bent.map(|file| below(file.path())).collect()
    }

    /// The service's word in `show`.
    fn shown(&self, number: u64, service: &str) -> Value {
        let show = self.fleet.run(&["show", &number.to_string(), "--json"]).with_code(0).json();
        let services = show["services"].as_array().expect("services");
        services.iter().find(|shown| shown["service"] == service).expect("it is named").clone()
    }

    /// A round without faults is complete, and everything comes back: invariants 1, 2, 7.
    fn mends(&self, number: u64) {
        let round = self.round(number, NONE, NONE, LIMIT);
        assert_eq!(round.outcome(), Some(Outcome::Complete));
        audit::one_log(&self.fleet);
        let (struck, other) = (self.tree(STRUCK), self.tree(OTHER));
        let (in_struck, in_other) = (format!("{STRUCK}/files"), format!("{OTHER}/files"));
        audit::recovers(&self.fleet, &[(&in_struck, &struck), (&in_other, &other)]);
    }
}

/// Whether nothing more is to come of it: it ended, or was read again.
fn is_over(_: &State, round: &RoundState) -> bool {
    match &round.phase {
        RoundPhase::Open => false,
        RoundPhase::Ended(_) => true,
        RoundPhase::Committed { verified, .. } => verified.is_some(),
    }
}

fn is_verified(round: &RoundState) -> bool {
    match &round.phase {
        RoundPhase::Open | RoundPhase::Ended(_) => false,
        RoundPhase::Committed { verified, .. } => verified.is_some(),
    }
}

/// What is found before the commit is asked for again, and the round is complete all the same.
#[test]
fn what_the_share_tore_bent_or_forgot_is_uploaded_again_in_the_same_round() {
    let faults: [(&str, OnCall); 7] = [
        ("a torn pack", |call| first_put(call, "/packs/", Fault::ShortWrite(1_000))),
        ("an empty pack", |call| first_put(call, "/packs/", Fault::ShortWrite(0))),
        ("a forgotten pack", |call| first_put(call, "/packs/", Fault::Forget)),
        ("a forgotten receipt", |call| first_put(call, ".receipt", Fault::Forget)),
        ("a bent receipt", |call| first_put(call, ".receipt", Fault::Flip(300))),
        ("a torn index", |call| first_put(call, ".index", Fault::ShortWrite(10))),
        ("replies that are lost", |call| first_put(call, "agents/", Fault::LostReply)),
    ];
    let stage = Stage::new();
    for (number, (what, rule)) in (1..).zip(faults) {
        let round = stage.round(number, (Strikes::Once, rule), NONE, LIMIT);
        assert_eq!(round.outcome(), Some(Outcome::Complete), "{what}: {}", stage.shown(number, STRUCK));
        audit::one_log(&stage.fleet);
        let (share, kit) = (text(&stage.fleet.share()), text(&stage.fleet.kit()));
        let _ = stage.fleet.run(&["verify", "--share", &share, "--kit", &kit]).with_code(0);
    }
    stage.mends(8);
}

/// A record of the log names the manifest by its hash: one that is not there, or is another, would leave a round that nobody can
/// recover and that everybody is told is verified.
#[test]
fn no_round_is_committed_whose_manifest_the_share_did_not_keep() {
    let faults: [(&str, OnCall); 3] = [
        ("forgotten", |call| first_put(call, "manifests/", Fault::Forget)),
        ("bent", |call| first_put(call, "manifests/", Fault::Flip(300))),
        ("torn", |call| first_put(call, "manifests/", Fault::ShortWrite(10))),
    ];
    let stage = Stage::new();
    for (number, (what, rule)) in (1..).zip(faults) {
        let round = stage.round(number, NONE, (Strikes::Once, rule), LIMIT);
        assert_eq!((round.outcome(), is_verified(&round)), (Some(Outcome::Complete), true), "{what}");
        audit::one_log(&stage.fleet);
        let (share, kit) = (text(&stage.fleet.share()), text(&stage.fleet.kit()));
        let _ = stage.fleet.run(&["verify", "--share", &share, "--kit", &kit]).with_code(0);
    }
    stage.mends(4);
}

/// Each of its writes hangs: the other slice counts, and the round ends by its deadline without the struck one.
#[test]
fn a_share_that_hangs_for_one_agent_costs_its_slice_alone() {
    let hangs: Rule = (Strikes::Always, |call| {
        if call.op == Op::Put && call.path.starts_with("agents/") {
            Fault::Delay(Duration::from_secs(86_400))
        } else {
            Fault::None
        }
    });
    let stage = Stage::new();
    let round = stage.round(1, hangs, NONE, Duration::from_secs(8));
    assert_eq!(round.outcome(), Some(Outcome::Partial), "invariants 16 and 17");
    assert_eq!(stage.shown(1, OTHER)["state"], "stored");
    let struck = stage.shown(1, STRUCK);
    assert_eq!(struck["state"], "absent");
    assert!(struck["reason"].as_str().is_some_and(|reason| reason.starts_with("ROUND-02")), "{struck}");
    stage.mends(2);
}

/// A listing that hides what is there, as one of an eventually consistent store would: what it hides does not count,
/// and nothing that was committed is lost.
#[test]
fn a_listing_that_hides_objects_from_the_coordinator_commits_nothing_wrong() {
    let hides: Rule = (Strikes::Always, |call| {
        if call.op == Op::List && call.path.starts_with("agents/") {
            Fault::ShortWrite(0)
        } else {
            Fault::None
        }
    });
    let stage = Stage::new();
    stage.mends(1);
    let round = stage.round(2, NONE, hides, Duration::from_secs(20));
    // Whatever the coordinator made of it: what it committed is there.
    assert!(round.outcome().is_some());
    let (share, kit) = (text(&stage.fleet.share()), text(&stage.fleet.kit()));
    let _ = stage.fleet.run(&["verify", "--share", &share, "--kit", &kit]).with_code(0);
    stage.mends(3);
}

/// For one read of the receipt, behind the one that counted it, an empty folder is in the share's place, as a mount point that comes
/// and goes: nothing is damaged, and the round is verified.
#[test]
fn a_share_that_is_away_for_a_moment_puts_nothing_into_quarantine() {
    let leaves: Rule = (Strikes::Once, |call| match call.op {
        Op::Get if call.nth > 0 && call.path.ends_with(".receipt") => Fault::Absent,
        Op::Get | Op::Put | Op::Head | Op::List | Op::Delete | Op::Lock | Op::FreeBytes => Fault::None,
    });
    let stage = Stage::new();
    let told = |state: &State, round: &RoundState| is_verified(round) || !state.quarantine.is_empty();
    let round = stage.round_until(1, NONE, leaves, LIMIT, told);
    assert!(is_verified(&round));
    stage.mends(2);
}

/// The coordinator's own writes: replies that are lost are looked for, and there is one commit.
#[test]
fn replies_to_the_coordinator_that_are_lost_make_no_second_record() {
    let lost: Rule =
        (
            Strikes::Always,
            |call| if call.op == Op::Put && call.nth == 0 { Fault::LostReply } else { Fault::None },
        );
    let stage = Stage::new();
    let round = stage.round(1, NONE, lost, LIMIT);
    assert_eq!(round.outcome(), Some(Outcome::Complete));
    assert_eq!(audit::commits(&stage.fleet), 1);
    audit::one_log(&stage.fleet);
    stage.mends(2);
}

/// A flipped bit that nobody tells of, in a pack of the right length: it is found when the round is read again. The round is never
/// verified; the next one does not build on what is bent, and is. `verify` names exactly what is bent.
#[test]
fn a_pack_that_the_share_bent_is_never_verified_named_exactly_and_healed() {
    let bends: Rule = (Strikes::Always, |call| first_put(call, "/packs/", Fault::Flip(80_001)));
    let stage = Stage::new();
    let found = |state: &State, _: &RoundState| !state.quarantine.is_empty();
    let round = stage.round_until(1, bends, NONE, LIMIT, found);
    assert_eq!(round.outcome(), Some(Outcome::Complete), "its length is right");
    // A coordinator that starts again reads the first again, and does not believe it either.
    let round = stage.round(2, NONE, NONE, LIMIT);
    assert_eq!((round.outcome(), is_verified(&round)), (Some(Outcome::Complete), true));
    let (share, kit) = (text(&stage.fleet.share()), text(&stage.fleet.kit()));
    let rounds = stage.fleet.rounds();
    let of = |number: u64| {
        rounds.iter().find(|round| round["number"] == number).map(|round| round["state"].clone())
    };
    assert_eq!((of(1), of(2)), (Some("committed".into()), Some("verified".into())), "{rounds:?}");
    let said = stage.fleet.run(&["verify", "1", "--share", &share, "--kit", &kit, "--json"]);
    assert_eq!(said.code, 4, "{}", said.out);
    let damaged = said.json()["damaged"].as_array().cloned().unwrap_or_default();
    let named: BTreeSet<_> = damaged.iter().filter_map(|damage| damage["object"].as_str()).collect();
    let bent = stage.bent();
    assert!(!bent.is_empty() && bent.iter().map(String::as_str).eq(named), "{bent:?}: {damaged:?}");
    let into = stage.data.path().join("recovered");
    let _ = stage.fleet.recover(&into).with_code(0);
    tree::assert_same(&stage.tree(STRUCK), &into.join(STRUCK).join("files"));
}
