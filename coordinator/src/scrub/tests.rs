//! The scrub over a real folder, with time that passes by itself: what it reads when, what it says in the log, and what it makes
//! nothing of.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use muster_protocol::config::ShareConfig;
use muster_protocol::document::{Manifest, ManifestSlice};
use muster_protocol::ids::ObjectId;
use muster_protocol::log::{
    Body, Commit, Config, Found, Outcome, Pin, Prune, Pruned, Quarantine, State, Sweep, Verified,
    seal_statement,
};
use muster_protocol::time::UnixMillis;
use muster_share::layout::{ObjectPath, SlicePart};
use muster_share::log::{HeadMemory, Log, Sure};
use muster_share::store::Store;
use muster_share::store::faults::{Call, Fault, Faulty, Op};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Scrubber, Suspects};
use crate::alerts::Alerts;
use crate::fixture::{LEADER, PRUNER, ROOT, Wrote, dns, led, open, round, signer, wrote};
use crate::lead::Standing;
use crate::scribe::{ScribeHandle, spawn};

/// Two verified rounds, the second of which builds on the first.
struct Scene {
    folder: TempDir,
    store: Arc<dyn Store>,
    log: Log,
    first: Wrote,
    second: Wrote,
}

async fn commit(store: &dyn Store, log: &mut Log, number: u8, slice: ManifestSlice) {
    let manifest = Manifest {
        round: round(number),
        number: number.into(),
        epoch: 1,
        keyset: 1,
        opened: UnixMillis(0),
        assembled: UnixMillis(0),
        trigger: "test".to_owned(),
        outcome: Outcome::Complete,
        slices: vec![slice],
        absent: Vec::new(),
        cut: None,
    };
    let bytes = signer(LEADER).seal(&log.state().fleet, &manifest);
    let (id, size) = (ObjectId::of(&bytes), bytes.len() as u64);
    store.put_new(&ObjectPath::Manifest(id), bytes.into()).await.expect("stored");
    let at = UnixMillis(0);
    let outcome = Outcome::Complete;
    let commit = Commit { epoch: 1, round: round(number), manifest: id, manifest_size: size, outcome, at };
    log.append(&signer(LEADER), &commit).await.expect("committed");
    let verified = Verified { epoch: 1, round: round(number), objects: 1, bytes: 1, at };
    log.append(&signer(LEADER), &verified).await.expect("verified");
}

impl Scene {
    async fn new(settings: &[(&str, &str)]) -> Self {
        let (folder, store, mut log) = led().await;
        let clear = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let config = Config { previous: None, clear, sealed: None, at: None };
        let statement = seal_statement(&signer(ROOT), &log.state().fleet, &config);
        log.append_statement::<Config>(&signer(ROOT), statement).await.expect(Config::KIND);
        let (first, slice) = wrote(store.as_ref(), &log, 1, None).await;
        commit(store.as_ref(), &mut log, 1, slice).await;
        log.append(&signer(LEADER), &open(2)).await.expect("opened");
        let (second, slice) = wrote(store.as_ref(), &log, 2, Some(&first)).await;
        commit(store.as_ref(), &mut log, 2, slice).await;
        Self { folder, store, log, first, second }
    }

    fn file(&self, path: &ObjectPath) -> std::path::PathBuf {
        self.folder.path().join(path.to_string())
    }

    fn rot(&self, path: &ObjectPath) {
        let mut bytes = std::fs::read(self.file(path)).expect("an object");
        *bytes.last_mut().expect("bytes") ^= 1;
        std::fs::write(self.file(path), bytes).expect("written");
    }

    /// The scrub finds the share under this rule; the log's writer does not.
    fn under(mut self, rule: impl Fn(&Call<'_>) -> Fault + Send + Sync + 'static) -> Self {
        self.store = Arc::new(Faulty::new(self.store, rule));
        self
    }

    /// The first round is swept, while the index of both are in quarantine.
    async fn sweep_the_first(&mut self) {
        let (index, other) = (id(&self.first.objects[3]), id(&self.second.objects[3]));
        let said = Quarantine {
            epoch: 1,
            service: dns(),
            add: vec![index, other],
            found: Found::Content,
            lift: Vec::new(),
            at: UnixMillis(0),
        };
        self.log.append(&signer(LEADER), &said).await.expect("said");
        let (rounds, list) = (vec![round(1)], ObjectId::of(b"list"));
        let mark = Prune { epoch: 1, rounds: rounds.clone(), list, at: None };
        self.log.append(&signer(PRUNER), &mark).await.expect("marked");
        let sweep = self.log.append(&signer(PRUNER), &Sweep { rounds, list }).await.expect("swept").number;
        self.log.append(&signer(PRUNER), &Pruned { sweep }).await.expect("pruned");
    }

    /// The scrub begins.
    fn scrub(self) -> Running {
        let Self { folder, store, log, .. } = self;
        let memory = HeadMemory::at(&folder.path().join("head"));
        let alerts = Alerts::open(folder.path().join("alerts"), log.state().fleet);
        let (scribe, _) = spawn(log, Arc::new(signer(LEADER)), Standing::doubtful(1), 1, memory);
        let (suspects, suspected) = mpsc::channel(4);
        let sure = Arc::new(Sure::new(store, scribe.state().fleet));
        let scrubber = Scrubber::new(sure, scribe.clone(), alerts, suspected);
        Running { _task: tokio::spawn(scrubber.run()), _folder: folder, scribe, suspects }
    }
}

struct Running {
    _task: tokio::task::JoinHandle<()>,
    _folder: TempDir,
    scribe: ScribeHandle,
    suspects: mpsc::Sender<Suspects>,
}

impl Running {
    /// The log, once it is as wanted; hardly anything that is awaited here takes an hour.
    async fn until(&self, what: &str, is_so: impl Fn(&State) -> bool) -> Arc<State> {
        self.within(Duration::from_secs(3_600), what, is_so).await
    }

    /// The log, once it is as wanted.
    async fn within(&self, limit: Duration, what: &str, is_so: impl Fn(&State) -> bool) -> Arc<State> {
        let mut log = self.scribe.changes();
        let wait = log.wait_for(|state| is_so(state));
        let state = tokio::time::timeout(limit, wait).await;
        state.unwrap_or_else(|_| panic!("{what}: not within {limit:?}")).expect("it leads").clone()
    }

    async fn suspect(&self, objects: Vec<ObjectId>, found: Found) {
        self.suspects.send(Suspects { service: Some(dns()), objects, found }).await.expect("it runs");
    }
}

fn id(path: &ObjectPath) -> ObjectId {
    *path.id().expect("named by its hash")
}

fn quarantined(state: &State) -> Vec<ObjectId> {
    state.quarantine.get(&dns()).map(|of| of.objects.keys().copied().collect()).unwrap_or_default()
}

/// Both receipts, and packs, lists, chunk indexes and indexes of both rounds.
const ALL: u64 = 10;

#[tokio::test(start_paused = true)]
async fn every_object_is_read_within_the_time_and_the_log_says_so() {
    let running = Scene::new(&[("scrub.within", "1h")]).await.scrub();
    let began = tokio::time::Instant::now();
    let state = running.until("a pass", |state| state.scrub.last.is_some()).await;
    let last = state.scrub.last.clone().expect("a pass");
    assert_eq!((last.pass, last.objects, state.quarantine.len()), (1, ALL, 0));
    let took = began.elapsed().as_secs();
    assert!((1_620..1_700).contains(&took), "nine twentieths of an hour are spread over it: {took} s");
    let state =
        running.until("the next", |state| state.scrub.last.as_ref().is_some_and(|l| l.pass == 2)).await;
    assert_eq!(state.scrub.last.as_ref().map(|last| last.objects), Some(ALL));
}

#[tokio::test(start_paused = true)]
async fn a_pass_goes_on_where_the_log_says_that_it_is() {
    let scene = Scene::new(&[("scrub.within", "1h")]).await;
    let (first, second) = (scene.first.clone(), scene.second.clone());
    let running = scene.scrub();
    let state = running.until("a note", |state| state.scrub.current.is_some()).await;
    let (pass, reached) = state.scrub.current.clone().expect("a note");
    // All of them where the largest happens to be the last.
    assert!((1..=ALL).contains(&pass.objects), "{pass:?}");
    // Another leader takes the share over in this moment.
    let Running { _task: task, _folder: folder, scribe, .. } = running;
    task.abort();
    let share = ShareConfig::at(folder.path().to_string_lossy());
    let store = muster_share::store::open(&share).await.expect("a share");
    drop(scribe);
    let log = Log::open(Arc::clone(&store), Pin::default()).await.expect("opens");
    assert_eq!(log.state().scrub.current, Some((pass.clone(), reached)));
    let running = Scene { folder, store, log, first, second }.scrub();
    let state = running.until("a pass", |state| state.scrub.last.is_some()).await;
    let last = state.scrub.last.clone().expect("a pass");
    assert_eq!((last.pass, last.began, last.objects), (1, pass.began, ALL), "none twice, and none left out");
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_goes_into_quarantine_and_the_rest_of_the_service_is_read_at_once() {
    let scene = Scene::new(&[("scrub.within", "30d")]).await;
    let objects: BTreeMap<ObjectId, ObjectPath> = [&scene.first, &scene.second]
        .into_iter()
        .flat_map(|wrote| wrote.objects.iter().chain([&wrote.receipt]).map(|path| (id(path), path.clone())))
        .collect();
    assert_eq!(objects.len() as u64, ALL);
    // One that is read sooner, and one that would be read days later. What a damaged receipt or pack list names is not
    // known, so that one of those may hide the other.
    let names_others = |path: &ObjectPath| {
        matches!(path, ObjectPath::Slice { part: SlicePart::Receipt | SlicePart::Packs, .. })
    };
    let mut nameless = objects.values().filter(|path| !names_others(path));
    let (first, last) = (nameless.next().expect("one"), nameless.next_back().expect("another"));
    scene.rot(first);
    std::fs::remove_file(scene.file(last)).expect("lost");
    let want = vec![id(first), id(last)];
    let running = scene.scrub();
    // The names are random, and with them when the pass comes to the first.
    let month = Duration::from_secs(30 * 24 * 3_600);
    running.within(month, "a quarantine", |state| !quarantined(state).is_empty()).await;
    let state = running.until("the other", |state| quarantined(state).len() == 2).await;
    assert_eq!(quarantined(&state), want);
    assert!(state.without_effect.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_suspicion_is_looked_at_now_and_what_is_whole_again_is_lifted() {
    let scene = Scene::new(&[("scrub.within", "off")]).await;
    let (pack, index) = (scene.first.objects[0].clone(), scene.second.objects[3].clone());
    let (file, bytes) = (scene.file(&pack), std::fs::read(scene.file(&pack)).expect("a pack"));
    scene.rot(&pack);
    let running = scene.scrub();
    running.suspect(vec![id(&index), ObjectId::of(b"none of the fleet's")], Found::Bytes).await;
    running.suspect(Vec::new(), Found::Bytes).await;
    let state = running.until("a quarantine", |state| !state.quarantine.is_empty()).await;
    assert_eq!(quarantined(&state), [id(&pack)], "the index is whole, and what nobody needs is nobody's");
    std::fs::write(file, bytes).expect("brought back");
    running.suspect(vec![id(&pack)], Found::Bytes).await;
    running.until("an end of it", |state| state.quarantine.is_empty()).await;
    // What only a key can see is believed, and no hash lifts it.
    running.suspect(vec![id(&pack)], Found::Content).await;
    running.until("a quarantine", |state| !state.quarantine.is_empty()).await;
    running.suspect(Vec::new(), Found::Bytes).await;
    running.suspect(vec![id(&index)], Found::Content).await;
    let state = running.until("another", |state| quarantined(state).len() == 2).await;
    assert!(state.is_quarantined(&dns(), &id(&pack)));
}

#[tokio::test(start_paused = true)]
async fn a_share_that_is_not_itself_is_not_believed() {
    let scene = Scene::new(&[("scrub.within", "1h")]).await;
    let root = scene.folder.path().to_owned();
    // As when a mount is gone and its folder is empty, or holds something else.
    let log: Vec<_> =
        std::fs::read_dir(root.join("log")).expect("a log").map(|e| e.expect("one").path()).collect();
    std::fs::rename(root.join("agents"), root.join("elsewhere")).expect("moved");
    let head = log.iter().max().expect("a head").clone();
    std::fs::rename(&head, root.join("head-elsewhere")).expect("moved");
    let running = scene.scrub();
    running.suspect(Vec::new(), Found::Bytes).await;
    tokio::time::sleep(Duration::from_secs(7_200)).await;
    assert!(running.scribe.state().quarantine.is_empty());
    assert!(running.scribe.state().scrub.last.is_none(), "and nothing was read");
}

/// An empty folder in its place, from the first look at a stored object on, for so long: it is missed once or twice, and back before
/// anything is said.
#[tokio::test(start_paused = true)]
async fn nothing_is_concluded_from_what_a_share_lacks_that_goes_away_and_comes_back() {
    for away in [Duration::ZERO, Duration::from_millis(500), Duration::from_millis(2_500)] {
        let left = OnceLock::new();
        let scene = Scene::new(&[("scrub.within", "1h")]).await.under(move |call| {
            if call.op == Op::Head && call.path.starts_with("agents/") {
                left.get_or_init(Instant::now);
            }
            let is_away = left.get().is_some_and(|left| left.elapsed() < away);
            if is_away { Fault::Absent } else { Fault::None }
        });
        let running = scene.scrub();
        let state = running.until("a pass", |state| state.scrub.last.is_some()).await;
        let objects = state.scrub.last.as_ref().map(|last| last.objects);
        assert_eq!((quarantined(&state), objects), (Vec::new(), Some(ALL)), "{away:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_and_needed_by_no_round_is_lifted() {
    let mut scene = Scene::new(&[("scrub.within", "1h")]).await;
    // The index of the first round is needed by no other.
    std::fs::remove_file(scene.file(&scene.first.objects[3])).expect("lost");
    scene.sweep_the_first().await;
    let other = id(&scene.second.objects[3]);
    let running = scene.scrub();
    let state = running.until("an end of it", |state| quarantined(state).len() == 1).await;
    assert_eq!(quarantined(&state), [other], "that is still there, and still needed");
}

#[tokio::test(start_paused = true)]
async fn what_one_listing_lacks_is_not_gone() {
    let mut scene = Scene::new(&[("scrub.within", "1h")]).await;
    scene.sweep_the_first().await;
    // The share is away for the first listing of all that the service has, and back when it ends.
    let scene = scene.under(|call| match (call.op, call.path) {
        (Op::List, "agents/dns/") if call.nth == 0 => Fault::Absent,
        _ => Fault::None,
    });
    let running = scene.scrub();
    let state = running.until("a pass", |state| state.scrub.last.is_some()).await;
    assert_eq!(quarantined(&state).len(), 2, "both are there");
}
