//! The coordinator as a running thing: it waits for share and bus, follows, leads when it is its turn, and follows again.

mod error;
mod exclusive;
#[cfg(test)]
mod tests;
mod waiting;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_bus::{Bus, ConnectError, Limits, NatsBus, NatsConfig, Streams};
use muster_protocol::alert::{About, Code, Finding, Part};
use muster_protocol::causes::causes;
use muster_protocol::envelope::Signer;
use muster_protocol::lead as lead_machine;
use muster_protocol::log::{CutTerms, Outcome, Pin, Role};
use muster_protocol::pem;
use muster_protocol::retry::{Attempts, Retry};
use muster_protocol::round::{Overlap, Policy};
use muster_protocol::subject::{Subject, Subjects};
use muster_share::log::{AppendError, HeadMemory, Log, LogError, VerifiedSegments};
use muster_share::secret_file;
use muster_share::store::metered::{Call, Meter};
use muster_share::store::{self, OpenStoreError, Store};
use muster_telemetry::metrics::{
    self, CHANNEL, EPOCH, LEADER, LEADER_CHANGES, MESSAGES_IGNORED, NOTIFICATIONS, OUTCOME, RETRIES, ROUNDS,
    SCRUB_IO, SCRUB_OBJECTS, SLICES, Value,
};
use muster_telemetry::service_manager;
use tokio::sync::{mpsc, oneshot, watch};

use crate::alerts::{self, ALERTS_FILE, Alerts};
use crate::confided;
use crate::config::{Config, LeadConfig, OverlapPolicy};
use crate::desk::{self, Left, Setting};
use crate::gauges;
use crate::http::Http;
use crate::ignored::{self, Ignored};
use crate::intake;
use crate::lead::{self, Driver, Followed, Standing};
use crate::notify::{self, Notifier, World};
use crate::publisher;
use crate::room::{self, ROOM_FILE, Room};
use crate::scribe;
use crate::scrub::Scrubber;
use crate::sessions::Sessions;
use waiting::Waiting;

pub use error::DaemonError;

/// How often the log is read on.
const LOOK: Duration = Duration::from_secs(2);
/// First delay before a lost connection to NATS is made again; later ones double.
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
/// How long a coordinator that ends tries to give its lease back.
const GIVE_BACK: Duration = Duration::from_secs(1);
/// Suspicions of operators that wait for the scrub.
const SUSPECTS: usize = 64;
const COORDINATOR: About = About::Part(Part::Coordinator);
/// The file in a coordinator's state folder that a running coordinator has locked.
pub const LOCK_FILE: &str = "coordinator.lock";

/// Runs the coordinator over NATS until told to stop. Waits for an absent server or share.
///
/// # Errors
/// When something is wrong that waiting does not mend.
pub async fn run(config: Config, mut stop: watch::Receiver<bool>) -> Result<(), DaemonError> {
    // Before anything is waited for, so that what a person must mend is said at once.
    read_key(&config.coordinator.key)?;
    notify::open(&config.notify)?;
    let http = Http::start(&config, stop.clone())?;
    let result = wait_and_run(config, http.as_ref(), &mut stop).await;
    if let Some(http) = http {
        http.close(*stop.borrow()).await;
    }
    result
}

async fn wait_and_run(
    config: Config,
    http: Option<&Http>,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), DaemonError> {
    service_manager::ready(&format!("coordinator {}", config.coordinator.name));
    let subjects = Subjects::new(&config.fleet.name);
    let streams = Streams::new(
        config.fleet.name.as_str(),
        &subjects.print(&Subject::State),
        &subjects.print(&Subject::TriggerAsync),
    )?
    .with_replicas(config.streams.replicas.into());
    let client = format!("muster-coordinator {}", config.coordinator.name);
    let nats = NatsConfig::new(&config.nats.url, &client, streams).with_files(
        &config.nats.nkey,
        &config.nats.ca,
        "coordinators",
    )?;
    // Few coordinators lose a server together: no crowd comes back with them, and the whole fleet waits.
    let limits = Limits { reconnect_first: RECONNECT_FIRST, ..nats.limits.clone() };
    let nats = NatsConfig { limits, ..nats.with_echo() };
    let waiting = Waiting { what: "NATS", code: "BUS-01", stop: stop.clone() };
    let began = Instant::now();
    let waits = |error: &ConnectError| error.may_pass(began.elapsed());
    let bus = waiting.wait_for(|| NatsBus::connect(nats.clone()), waits).await?;
    let Some(bus) = bus else { return Ok(()) };
    let opened = Waiting { what: "share", code: "SHARE-01", stop: stop.clone() }
        .wait_for(|| store::open(&config.share), OpenStoreError::is_transient)
        .await?;
    let Some(store) = opened else { return Ok(()) };
    let bus: Arc<dyn Bus> = Arc::new(bus);
    let result = work_on(config, bus.clone(), store, Slots::Follow, http, stop.clone()).await;
    if let Err(error) = bus.close().await {
        tracing::debug!(%error, "the bus was not closed cleanly");
    }
    stop.borrow_and_update();
    result
}

/// What becomes of the schedule's slots while this coordinator leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slots {
    /// They become rounds.
    Follow,
    /// They are left to other coordinators: this one is there for a single round.
    Leave,
}

/// Runs the coordinator over this bus and share, which are connected already, without an HTTP API.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    config: Config,
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    slots: Slots,
    stop: watch::Receiver<bool>,
) -> Result<(), DaemonError> {
    work_on(config, bus, store, slots, None, stop).await
}

async fn work_on(
    config: Config,
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    slots: Slots,
    http: Option<&Http>,
    stop: watch::Receiver<bool>,
) -> Result<(), DaemonError> {
    let signer = Arc::new(read_key(&config.coordinator.key)?);
    let channels = match slots {
        Slots::Follow => notify::open(&config.notify)?,
        // Whoever asked for the one round is watching it.
        Slots::Leave => Vec::new(),
    };
    let state_dir = &config.coordinator.state;
    std::fs::create_dir_all(state_dir)
        .map_err(|source| DaemonError::State { path: state_dir.clone(), source })?;
    let _lock = lock(state_dir.join(LOCK_FILE))?;
    let alerts = Alerts::open(state_dir.join(ALERTS_FILE), config.fleet.id);
    let _keeper = alerts.keeper();
    begin_metrics(&channels);
    metrics::feed_nats(muster_bus::figures(&bus));
    let world = World {
        fleet: config.fleet.name.clone(),
        id: config.fleet.id,
        state: state_dir,
        alerts: alerts.clone(),
        bus: bus.clone(),
        subjects: Subjects::new(&config.fleet.name),
        standing: Standing::over(),
    };
    let means = Means { bus, store, slots, http, channels: channels.clone(), alerts: &alerts, signer, stop };
    let ended = take_part(&config, means).await;
    if let Err(error) = &ended
        && error.is_of_the_log()
    {
        // It stands in the file until a coordinator of this folder leads again.
        alerts.raise(Finding::seen(Code::Share08, COORDINATOR, causes(error)));
        notify::farewell(channels, world, Code::Share08, &COORDINATOR).await;
    }
    ended
}

/// What a coordinator works with.
struct Means<'a> {
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    slots: Slots,
    http: Option<&'a Http>,
    channels: Vec<Arc<notify::Channel>>,
    alerts: &'a Alerts,
    signer: Arc<Signer>,
    stop: watch::Receiver<bool>,
}

/// Follows and leads, until told to stop or something is wrong.
async fn take_part(config: &Config, means: Means<'_>) -> Result<(), DaemonError> {
    let Means { bus, store, slots, http, channels, alerts, signer, stop } = means;
    let state_dir = &config.coordinator.state;
    let memory = HeadMemory::at(&state_dir.join("head"));
    let round = &config.round;
    let retry = Retry::new(round.retry_first.0, round.retry_longest.0, Attempts::AtMost(round.attempts))?;
    let policy = Policy {
        deadline: round.deadline.0,
        recruit: round.recruit.0,
        offline_after: round.offline_after.0,
        retry,
        tier_wait: round.tier_wait.0,
        cut: None,
    };
    let cut = config.cut.enabled.then(|| CutTerms {
        barrier_millis: u64::try_from(config.cut.barrier.0.as_millis()).unwrap_or(u64::MAX),
        on_break: config.cut.on_break,
    });
    let store = store::guarded(store, &config.share, patience(), meter());
    let pin = Pin { root: Some(config.fleet.root), fleet: Some(config.fleet.id), head: memory.recall()? };
    let subjects = Subjects::new(&config.fleet.name);
    let waiting = Waiting { what: "log", code: "SHARE-01", stop: stop.clone() };
    // The folder of a share that is not mounted is there, and empty.
    let absent = |error: &LogError| error.is_transient() || matches!(error, LogError::NotAShare { .. });
    let opened = || {
        let verified = VerifiedSegments::recall(state_dir, &config.fleet.id, &config.fleet.root);
        Log::open_knowing(store.clone(), pin, verified)
    };
    let log = waiting.wait_for(opened, absent).await?;
    let Some(mut log) = log else { return Ok(()) };
    if !matches!(log.state().role(&signer.key_id()), Some(Role::Coordinator)) {
        let key = signer.key_id();
        let revoked = log.state().members.get(&key).is_some_and(|member| member.revoked.is_some());
        let key = key.short();
        return Err(if revoked { DaemonError::Revoked { key } } else { DaemonError::NotCoordinator { key } });
    }
    // Where the share does not tell, each append asks again.
    if let Err(AppendError::Copy { share }) = log.refuse_copy().await {
        return Err(DaemonError::Copy { share });
    }
    exclusive::required(&store, log.state()).await?;
    // The log has its own way to the share: to all others, what is missing there is lost.
    let store: Arc<dyn Store> = Arc::new(log.sure());
    let keys: Arc<[_]> = confided::keys(&config.coordinator.sealing_key)?.into();
    if let Err(error) = confided::say(&mut log, &signer, &keys).await {
        tracing::warn!(
            error = causes(&error),
            "the log was not told this coordinator's sealing key; at the next start again"
        );
    }
    let room = Room::open(state_dir.join(ROOM_FILE), config.fleet.id);
    if let Some(http) = http {
        http.open(config, log.clone(), bus.clone(), signer.clone(), alerts.clone());
    }
    let lead = lead_policy(&config.lead);
    let mut driver = Driver::start(signer.key_id(), lead, bus.clone());
    loop {
        memory.remember(&log.seen())?;
        let mut stopped = stop.clone();
        let former = log.state().epoch.filter(|epoch| epoch.holder != signer.key_id());
        let former = former.map(|epoch| (log.state().name_of(&epoch.holder), epoch.epoch));
        let followed = tokio::select! {
            followed = lead::follow(&mut driver, log, &signer, &memory) => followed,
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        };
        let epoch = match followed {
            Followed::Leads(read, epoch) => {
                log = *read;
                epoch
            }
            Followed::Revoked => return Err(DaemonError::Revoked { key: signer.key_id().short() }),
            Followed::Broken(error) => return Err(error.into()),
            Followed::Refused(source) => {
                let code = match &source {
                    AppendError::Store(error) => error.alert().unwrap_or(Code::Share04),
                    AppendError::Log(error) => error.alert().unwrap_or(Code::Share08),
                    AppendError::Lost
                    | AppendError::Refused { .. }
                    | AppendError::TooLong { .. }
                    | AppendError::Copy { .. } => Code::Share08,
                };
                return Err(DaemonError::Lead { code, source });
            }
        };
        if let Some((name, epoch)) = former {
            let cause = format!("{name} led before, in epoch {epoch}");
            alerts.raise(Finding::seen(Code::Coord01, COORDINATOR, cause));
        }
        alerts.mended(Code::Share08, &COORDINATOR);
        tracing::info!(epoch, services = log.state().services().len(), "leading");
        tell_lead(Some(epoch));
        if let Err(error) = bus.ensure().await {
            tracing::warn!(%error, "BUS-01: the streams could not be made yet");
        }
        let standing = driver.standing(epoch);
        let (scribe, writer) = scribe::spawn(log, signer.clone(), standing.clone(), epoch, memory.clone());
        let (end, ended) = oneshot::channel();
        let (leave, left_at) = watch::channel(false);
        let keeper = tokio::spawn({
            let scribe = scribe.clone();
            async move {
                let driver = lead::keep(driver, scribe, ended).await;
                // Whatever ended the lead, the desk must not go on.
                leave.send_replace(true);
                driver
            }
        });
        let credentials = confided::follow(store.clone(), keys.clone(), scribe.changes()).await;
        let (ignored, sessions) = (Arc::new(Ignored::default()), Arc::new(Sessions::default()));
        let (to_fresh, unread) = mpsc::channel(4096);
        let (to_desk, inbox) = mpsc::channel(4096);
        if let Some(http) = http {
            http.leads(Some(to_fresh.clone()));
        }
        let mut helpers =
            intake::listen(&bus, &subjects, config.fleet.id, to_fresh, ignored.clone(), sessions.clone())
                .await?;
        helpers.push(tokio::spawn(lead::freshen(unread, to_desk, scribe.clone(), standing.clone())));
        let (suspects, suspected) = mpsc::channel(SUSPECTS);
        let world = World {
            fleet: config.fleet.name.clone(),
            id: config.fleet.id,
            state: state_dir,
            alerts: alerts.clone(),
            bus: bus.clone(),
            subjects: subjects.clone(),
            standing: standing.clone(),
        };
        let (notifier, couriers) = Notifier::start(channels.clone(), world, scribe.changes());
        helpers.extend(couriers);
        let setting = Setting {
            name: config.coordinator.name.to_string(),
            signer: signer.clone(),
            subjects: subjects.clone(),
            policy,
            cut,
            overlap: match round.overlap {
                OverlapPolicy::Queue => Overlap::Queue,
                OverlapPolicy::Skip => Overlap::Skip,
            },
            slots,
            store: store.clone(),
            scribe,
            standing: standing.clone(),
            credentials,
            publisher: publisher::spawn(bus.clone(), standing, alerts.clone()),
            ignored,
            sessions,
            alerts: alerts.clone(),
            suspects,
            room: room.clone(),
            notifier,
        };
        let scrubber = Scrubber::new(store.clone(), setting.scribe.clone(), alerts.clone(), suspected);
        helpers.push(tokio::spawn(scrubber.run()));
        let follower = alerts::follow(alerts.clone(), store.clone(), setting.scribe.changes());
        helpers.push(tokio::spawn(follower));
        let changes = setting.scribe.changes();
        helpers.push(tokio::spawn(room::watch(room.clone(), store.clone(), changes, alerts.clone())));
        let changes = setting.scribe.changes();
        helpers.push(tokio::spawn(gauges::watch(store.clone(), changes, alerts.clone(), room.clone())));
        let left = tokio::select! {
            left = desk::work(setting, inbox, left_at) => Some(left),
            _ = stopped.wait_for(|stop| *stop) => None,
        };
        tell_lead(None);
        if let Some(http) = http {
            http.leads(None);
        }
        for helper in helpers {
            helper.abort();
        }
        // The keeper may have ended already.
        end.send(()).ok();
        driver = keeper.await.map_err(DaemonError::Task)?;
        let Some(left) = left else {
            if tokio::time::timeout(GIVE_BACK, driver.resign()).await.is_err() {
                tracing::debug!("the lease was not given back in time; it expires");
            }
            return Ok(());
        };
        let ended = writer.await.map_err(DaemonError::Task)?;
        if let Some(error) = ended.broken {
            return Err(error.into());
        }
        match left {
            Left::Revoked => return Err(DaemonError::Revoked { key: signer.key_id().short() }),
            Left::Stopped | Left::Deposed => {}
        }
        log = ended.log;
    }
}

/// What may be counted is told from the beginning: the first time would be no increase.
fn begin_metrics(channels: &[Arc<notify::Channel>]) {
    ROUNDS.begin(Outcome::ALL.map(Outcome::as_str));
    SLICES.begin(["stored", "gaps", "absent"]);
    RETRIES.begin(Code::ALL.iter().map(|code| code.as_str()));
    MESSAGES_IGNORED.begin(ignored::words());
    for channel in channels {
        for outcome in ["sent", "failed"] {
            NOTIFICATIONS
                .add(0.0, vec![(CHANNEL, channel.name().to_string()), (OUTCOME, outcome.to_owned())]);
        }
    }
    for metric in [&LEADER_CHANGES, &SCRUB_OBJECTS, &SCRUB_IO] {
        metric.add(0.0, Vec::new());
    }
    LEADER.set(Value::Is(0.0), Vec::new());
}

/// Whether this coordinator leads, as a metric.
#[expect(clippy::cast_precision_loss, reason = "epochs are few")]
fn tell_lead(epoch: Option<u64>) {
    LEADER.set(Value::Is(u8::from(epoch.is_some()).into()), Vec::new());
    LEADER_CHANGES.one(Vec::new());
    if let Some(epoch) = epoch {
        EPOCH.set(Value::Is(epoch as f64), Vec::new());
    }
}

/// Calls to the share become metrics.
fn meter() -> Meter {
    Arc::new(|call: Call| call.tell(metrics::share_call))
}

/// What the configuration says about the lead.
fn lead_policy(config: &LeadConfig) -> lead_machine::Policy {
    let (lease, takeover) = (config.lease.0, config.takeover.0);
    lead_machine::Policy { lease, takeover, look: LOOK.min(lease / 3) }
}

fn read_key(path: &std::path::Path) -> Result<Signer, DaemonError> {
    let text = secret_file::read(path)?;
    pem::signing_key_from_pem(&text)
        .map_err(|source| DaemonError::KeyFormat { path: path.to_owned(), source })
}

fn lock(path: PathBuf) -> Result<std::fs::File, DaemonError> {
    let io = |source| DaemonError::State { path: path.clone(), source };
    let file = std::fs::File::create(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(DaemonError::Locked { path }),
        Err(std::fs::TryLockError::Error(source)) => Err(io(source)),
    }
}

/// For what passes.
fn patience() -> Retry {
    Retry::new(Duration::from_millis(200), Duration::from_secs(5), Attempts::AtMost(4))
        .expect("a fixed policy is valid")
}
