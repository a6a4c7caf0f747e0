//! The coordinator as a running thing: it waits for share and bus, takes the lead, works, and starts over when deposed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use muster_bus::{Bus, BusError, ConnectError, NatsBus, NatsConfig, Streams};
use muster_protocol::alert::{About, Code, Finding, Part};
use muster_protocol::causes::causes;
use muster_protocol::envelope::Signer;
use muster_protocol::log::{CutTerms, Pin, Role};
use muster_protocol::pem;
use muster_protocol::retry::{Attempts, Retry, RetryError};
use muster_protocol::round::{Overlap, Policy};
use muster_protocol::subject::{Subject, Subjects};
use muster_share::log::{AppendError, HeadMemory, Log, LogError, MemoryError};
use muster_share::secret_file::{self, SecretFileError};
use muster_share::store::retry::{Retrying, delays};
use muster_share::store::timeout::{Limit, TimeLimited};
use muster_share::store::{self, OpenStoreError, Store};
use tokio::sync::{mpsc, watch};

use crate::alerts::{self, ALERTS_FILE, Alerts};
use crate::confided;
use crate::config::{Config, OverlapPolicy};
use crate::desk::{self, Left, Setting};
use crate::ignored::Ignored;
use crate::intake;
use crate::publisher;
use crate::query::{Answer, Query};
use crate::scribe::{self, ScribeError};

/// The file in a coordinator's state folder that a running coordinator has locked.
pub const LOCK_FILE: &str = "coordinator.lock";

/// Why a coordinator ends.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Its key cannot be read.
    #[error("the coordinator's key cannot be used")]
    Key(#[from] SecretFileError),
    /// Its key file holds something else.
    #[error("{} holds no Ed25519 key in PEM form", path.display())]
    KeyFormat {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::PemError,
    },
    /// The retry policy contradicts itself.
    #[error("[round] retry_first, retry_longest or attempts do not fit together")]
    Retry(#[from] RetryError),
    /// The share's address is no address.
    #[error("[share] url cannot be used")]
    Share(#[from] OpenStoreError),
    /// The fleet's subjects cannot be used.
    #[error("[fleet] name cannot be used on the bus")]
    Bus(#[from] BusError),
    /// The server cannot be used, now or ever.
    #[error("[nats] url cannot be used")]
    Connect(#[from] ConnectError),
    /// The state folder cannot be used.
    #[error("state folder {} cannot be used", path.display())]
    State {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process of this coordinator runs.
    #[error("{} is locked: another process runs this coordinator; stop it first", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The remembered head cannot be read or written.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The log cannot be trusted or understood.
    #[error("SHARE-08: the coordinator stops, because the log cannot be believed")]
    Log(#[from] LogError),
    /// The share takes no `epoch` record.
    #[error("{code}: the coordinator cannot take the lead: {}", code.title())]
    Lead {
        /// What is wrong with the share.
        code: Code,
        /// The append's error.
        source: AppendError,
    },
    /// The key is no coordinator's in this fleet.
    #[error(
        "KEY-03: key {key} is no coordinator in the fleet's roster; enroll it, or use the right key file"
    )]
    NotCoordinator {
        /// The key, short.
        key: String,
    },
    /// The key was revoked while this coordinator ran.
    #[error(
        "KEY-03: key {key} was revoked, for good: this coordinator stops. Another one takes the lead; `muster enroll NAME --role coordinator` makes one. \
         If the fleet was rebuilt elsewhere, this folder is of no use any more"
    )]
    Revoked {
        /// The key, short.
        key: String,
    },
}

impl DaemonError {
    /// The exit code of a process that ends with this error (DESIGN section 8): 1 failed, 2 configuration, 4 damaged
    /// log, 5 wrong key, 6 bus unreachable, 7 refused.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Locked { .. } => 7,
            Self::Key(_) | Self::KeyFormat { .. } | Self::Retry(_) | Self::Share(_) | Self::Bus(_) => 2,
            Self::NotCoordinator { .. } | Self::Revoked { .. } => 5,
            Self::Connect(error) if error.is_configuration() => 2,
            Self::Connect(_) | Self::Lead { .. } => 6,
            Self::Log(_) => 4,
            Self::State { .. } | Self::Memory(_) => 1,
        }
    }
}

/// Runs the coordinator over NATS until told to stop. Waits for an absent server or share.
///
/// # Errors
/// When something is wrong that waiting does not mend.
pub async fn run(config: Config, mut stop: watch::Receiver<bool>) -> Result<(), DaemonError> {
    // Before anything is waited for, so that what a person must mend is said at once.
    read_key(&config.coordinator.key)?;
    let subjects = Subjects::new(&config.fleet.name);
    let streams = Streams::new(
        config.fleet.name.as_str(),
        &subjects.print(&Subject::State),
        &subjects.print(&Subject::TriggerAsync),
    )?;
    let client = format!("muster-coordinator {}", config.coordinator.name);
    let nats = NatsConfig::new(&config.nats.url, &client, streams).with_files(
        &config.nats.nkey,
        &config.nats.ca,
        "coordinators",
    )?;
    let waiting = Waiting { what: "NATS", code: "BUS-01", stop: stop.clone() };
    let began = Instant::now();
    let waits = |error: &ConnectError| error.may_pass(began.elapsed());
    let bus = waiting.wait_for(|| NatsBus::connect(nats.clone()), waits).await?;
    let Some(bus) = bus else { return Ok(()) };
    let opened = Waiting { what: "share", code: "SHARE-01", stop: stop.clone() }
        .wait_for(|| store::open(&config.share.url), OpenStoreError::is_transient)
        .await?;
    let Some(store) = opened else { return Ok(()) };
    let bus: Arc<dyn Bus> = Arc::new(bus);
    let result = run_on(config, bus.clone(), store, stop.clone()).await;
    if let Err(error) = bus.close().await {
        tracing::debug!(%error, "the bus was not closed cleanly");
    }
    stop.borrow_and_update();
    result
}

/// Runs the coordinator over this bus and share, which are connected already.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    config: Config,
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    stop: watch::Receiver<bool>,
) -> Result<(), DaemonError> {
    let signer = Arc::new(read_key(&config.coordinator.key)?);
    let state_dir = &config.coordinator.state;
    std::fs::create_dir_all(state_dir)
        .map_err(|source| DaemonError::State { path: state_dir.clone(), source })?;
    let _lock = lock(state_dir.join(LOCK_FILE))?;
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
    let store = guarded(store);
    let pin = Pin { root: Some(config.fleet.root), fleet: Some(config.fleet.id), head: memory.recall()? };
    let subjects = Subjects::new(&config.fleet.name);
    let waiting = Waiting { what: "log", code: "SHARE-01", stop: stop.clone() };
    // The folder of a share that is not mounted is there, and empty.
    let absent = |error: &LogError| error.is_transient() || matches!(error, LogError::NotAShare { .. });
    let log = waiting.wait_for(|| Log::open(store.clone(), pin), absent).await?;
    let Some(mut log) = log else { return Ok(()) };
    if !matches!(log.state().role(&signer.key_id()), Some(Role::Coordinator)) {
        let key = signer.key_id();
        let revoked = log.state().members.get(&key).is_some_and(|member| member.revoked.is_some());
        let key = key.short();
        return Err(if revoked { DaemonError::Revoked { key } } else { DaemonError::NotCoordinator { key } });
    }
    let keys: Arc<[_]> = confided::keys(&config.coordinator.sealing_key)?.into();
    if let Err(error) = confided::say(&mut log, &signer, &keys).await {
        tracing::warn!(
            error = causes(&error),
            "the log was not told this coordinator's sealing key; at the next start again"
        );
    }
    let alerts = Alerts::open(state_dir.join(ALERTS_FILE), config.fleet.id);
    let _keeper = alerts.keeper();
    let mut fresh = true;
    loop {
        memory.remember(&log.seen())?;
        let mut stopped = stop.clone();
        let query = subjects.print(&Subject::Query);
        let former = log.state().epoch.map(|epoch| epoch.holder).filter(|holder| *holder != signer.key_id());
        let alive = |epoch| leads(bus.clone(), query.clone(), epoch).boxed();
        let epoch = tokio::select! {
            epoch = scribe::take_lead(&mut log, &signer, config.lead.takeover.0, fresh, alive) => epoch,
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        };
        fresh = false;
        let epoch = match epoch {
            Ok(epoch) => epoch,
            Err(ScribeError::Append(error)) if error.is_transient() => {
                tracing::warn!(error = causes(&error), "SHARE-01: the lead was not taken; trying again");
                tokio::time::sleep(Duration::from_secs(2)).await;
                fresh = true;
                continue;
            }
            Err(ScribeError::Append(AppendError::Log(error))) => return Err(error.into()),
            Err(ScribeError::Append(source)) => {
                let code = match &source {
                    AppendError::Store(error) => error.alert().unwrap_or(Code::Share04),
                    AppendError::Lost
                    | AppendError::Refused { .. }
                    | AppendError::TooLong { .. }
                    | AppendError::Log(_) => Code::Share08,
                };
                return Err(DaemonError::Lead { code, source });
            }
            Err(ScribeError::Revoked { key }) => return Err(DaemonError::Revoked { key: key.short() }),
            Err(ScribeError::Deposed { .. } | ScribeError::Disowned { .. } | ScribeError::Gone) => continue,
        };
        if let Some(former) = former {
            let cause = format!("key {} led before", former.short());
            alerts.raise(Finding::seen(Code::Coord01, About::Part(Part::Coordinator), cause));
        }
        tracing::info!(epoch, services = log.state().services().len(), "leading");
        if let Err(error) = bus.ensure().await {
            tracing::warn!(%error, "BUS-01: the streams could not be made yet");
        }
        let (scribe, writer) = scribe::spawn(log, signer.clone(), epoch, memory.clone());
        let credentials = confided::follow(store.clone(), keys.clone(), scribe.changes()).await;
        let ignored = Arc::new(Ignored::default());
        let (to_desk, inbox) = mpsc::channel(4096);
        let listeners = intake::listen(&bus, &subjects, config.fleet.id, to_desk, ignored.clone()).await?;
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
            store: store.clone(),
            scribe,
            credentials,
            publisher: publisher::spawn(bus.clone(), alerts.clone()),
            ignored,
            alerts: alerts.clone(),
        };
        let follower = alerts::follow(alerts.clone(), store.clone(), setting.scribe.changes());
        let follower = tokio::spawn(follower);
        let left = desk::work(setting, inbox, stop.clone()).await;
        follower.abort();
        for listener in listeners {
            listener.abort();
        }
        match left {
            Left::Stopped => return Ok(()),
            Left::Revoked => return Err(DaemonError::Revoked { key: signer.key_id().short() }),
            Left::Deposed => {}
        }
        log = match writer.await {
            Ok(log) => log,
            Err(_) => Log::open(store.clone(), pin).await?,
        };
    }
}

/// Whether the leader of `epoch` answers on the bus.
async fn leads(bus: Arc<dyn Bus>, subject: String, epoch: u64) -> bool {
    let ask = serde_json::to_vec(&Query::Leader).expect("a query always encodes");
    match bus.request(&subject, Vec::new(), ask.into(), Duration::from_secs(2)).await {
        Ok(answer) => matches!(
            serde_json::from_slice(&answer.payload),
            Ok(Answer::Leader(view)) if view.epoch == Some(epoch)
        ),
        Err(_) => false,
    }
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

/// The share with a limit on every call, and what passes tried again.
fn guarded(store: Arc<dyn Store>) -> Arc<dyn Store> {
    let retry = Retry::new(Duration::from_millis(200), Duration::from_secs(5), Attempts::AtMost(4))
        .expect("a fixed policy is valid");
    Arc::new(Retrying::new(Arc::new(TimeLimited::new(store, Limit::default())), retry))
}

#[cfg(test)]
mod tests;

struct Waiting {
    what: &'static str,
    code: &'static str,
    stop: watch::Receiver<bool>,
}

impl Waiting {
    /// Tries until it works; none when told to stop. Says once that it waits, and once that the wait is over.
    async fn wait_for<T, E: std::error::Error + 'static, F: Future<Output = Result<T, E>>>(
        mut self,
        mut connect: impl FnMut() -> F,
        transient: impl Fn(&E) -> bool,
    ) -> Result<Option<T>, E> {
        let retry = Retry::new(Duration::from_millis(250), Duration::from_secs(10), Attempts::Unlimited)
            .expect("a fixed policy is valid");
        let mut waits = delays(&retry);
        let mut said = false;
        loop {
            match connect().await {
                Ok(it) => {
                    if said {
                        tracing::info!("{} is there", self.what);
                    }
                    return Ok(Some(it));
                }
                Err(error) if transient(&error) => {
                    if !said {
                        tracing::warn!(
                            error = causes(&error),
                            "{}: waiting for the {}",
                            self.code,
                            self.what
                        );
                        said = true;
                    }
                }
                Err(error) => return Err(error),
            }
            let wait = waits.next().unwrap_or(Duration::from_secs(10));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = self.stop.wait_for(|stop| *stop) => return Ok(None),
            }
        }
    }
}
