//! The agent's daemon: follows the state document, carries the slice machine's effects out, and says that it is there.
//!
//! ```text
//! run ─▶ share, bus (waited for) ─▶ run_on ─▶ Daemon: one loop over documents, reports, timers
//!          belief      what the documents ask for, as far as the log on the share confirms it
//!          reader      the log, its head remembered          refused      what is being deleted
//!          talk        hello and notice                      beat         heartbeat and progress
//!          capturer    what it wants of the engine           slice_task   one capture, by engine_capturer
//! ```
//!
//! Must never act on a document that the log does not bear out, and never end because share or bus are away.

mod beat;
mod belief;
mod brief;
mod capturer;
mod connect;
mod engine_capturer;
mod error;
mod event_loop;
mod identity;
mod lock;
mod reader;
mod refused;
mod said;
mod session;
mod slice_task;
mod talk;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster_bus::Bus;
use muster_protocol::alert::Code;
use muster_protocol::entropy::random;
use muster_protocol::ids::Nonce;
use muster_protocol::log::Pin;
use muster_protocol::retry::{Attempts, Retry};
use muster_share::entropy::OsEntropy;
use muster_share::log::HeadMemory;
use muster_share::reachable;
use muster_share::secret_file::{self, SecretFileError};
use muster_share::store::address::Address;
use muster_share::store::metered::{Call, Meter};
use muster_share::store::{self, Store};
use muster_telemetry::{metrics, service_manager};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::config::Config;
use crate::hold::Keeper;
use crate::restore::{Desk, Gate, Settings};
use engine_capturer::EngineCapturer;
use event_loop::{Daemon, Parts};
use identity::Pace;
use lock::Lock;

pub use error::DaemonError;
pub(crate) use identity::Identity;
pub use lock::LOCK_FILE;
pub(crate) use reader::Reader;
pub(crate) use said::PassedOver;

/// The file in the state folder that remembers the highest log head.
const HEAD_FILE: &str = "head";
/// The same of whoever answers restores: it reads the log by itself.
const RESTORE_HEAD_FILE: &str = "restore-head";
/// The most threads of a restore.
const RESTORE_WORKERS: usize = 8;

/// Runs the agent that `config` describes until `stop` is true or its sender is gone. Share and NATS server are waited
/// for while they are absent.
///
/// # Errors
/// When configuration, keys or state folder cannot be used, NATS refuses the agent, or the agent has a fault.
pub async fn run(config: Config, mut stop: watch::Receiver<bool>) -> Result<(), DaemonError> {
    // Before anything is waited for, so that what a person must mend is said at once.
    let prepared = Prepared::new(&config)?;
    service_manager::ready(&format!("agent of {}", config.agent.service));
    let patience = waiting();
    let (fleet, service) = (&config.fleet.name, &config.agent.service);
    let Some(store) = connect::share(&config.share, &patience, &mut stop).await? else { return Ok(()) };
    let Some(bus) = connect::bus(&config.nats, fleet, service, &patience, &mut stop).await? else {
        return Ok(());
    };
    tracing::info!(service = service.as_str(), share = store.describe(), "the agent is up");
    metrics::feed_nats(muster_bus::figures(&bus));
    let ended = prepared.run(&config, Arc::clone(&bus), store, stop).await;
    if let Err(error) = bus.close().await {
        tracing::debug!(error = error.to_string(), "the connection to the bus was not closed in order");
    }
    ended
}

/// Runs the agent on a bus and a store of the caller's until `stop` is true or its sender is gone. Retries and limits
/// its calls to `store` itself; leaves the bus open.
///
/// # Errors
/// As [`run`], and when the bus is closed.
pub async fn run_on(
    config: Config,
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    stop: watch::Receiver<bool>,
) -> Result<(), DaemonError> {
    Prepared::new(&config)?.run(&config, bus, store, stop).await
}

/// An agent that needs nothing but its share and its bus.
struct Prepared {
    lock: Lock,
    identity: Arc<Identity>,
    memory: HeadMemory,
    pin: Pin,
}

impl Prepared {
    fn new(config: &Config) -> Result<Self, DaemonError> {
        let (agent, fleet) = (&config.agent, &config.fleet);
        let signer = secret_file::read_signing_key(&agent.key)
            .map_err(|error| DaemonError::Key { path: agent.key.clone(), source: error.into() })?;
        // Read again when they are used; a person should not have to wait for share and bus to hear of a bad file.
        let unusable = |path: &Path, error: SecretFileError| DaemonError::Key {
            path: path.to_owned(),
            source: error.into(),
        };
        secret_file::read_identities(&agent.sealing_key).map_err(|e| unusable(&agent.sealing_key, e))?;
        secret_file::read_hex_key(&agent.chunk_key).map_err(|e| unusable(&agent.chunk_key, e))?;
        for key in reachable::private_keys_below(&config.base, &fleet.root) {
            let key = key.display().to_string();
            tracing::warn!(
                key,
                "{}: a private recovery or root key lies on this machine: take it away",
                Code::Key02
            );
        }
        let lock = Lock::take(&agent.state)?;
        let memory = HeadMemory::at(&agent.state.join(HEAD_FILE));
        let pin = Pin { root: Some(fleet.root), fleet: Some(fleet.id), head: memory.recall()? };
        let instance = Nonce::from_bytes(random(&mut OsEntropy));
        let service = agent.service.clone();
        let identity = Identity::new(&fleet.name, fleet.id, service, signer, instance);
        Ok(Self { lock, identity: Arc::new(identity), memory, pin })
    }

    async fn run(
        self,
        config: &Config,
        bus: Arc<dyn Bus>,
        store: Arc<dyn Store>,
        stop: watch::Receiver<bool>,
    ) -> Result<(), DaemonError> {
        let Self { lock: _lock, identity, memory, pin } = self;
        let store = store::guarded(store, &config.share, patience(), meter());
        let capturer = EngineCapturer::open(config, Arc::clone(&identity), Arc::clone(&store))?;
        let gate = Gate::default();
        let desk = desk(config, (&identity, &bus, &store), pin, gate.clone())?;
        let parts = Parts {
            identity,
            pace: Pace::with_heartbeat(config.agent.heartbeat.0),
            bus,
            reader: Reader::new(Arc::clone(&store), pin, memory),
            store,
            capturer: Arc::new(capturer),
            passed_over: Arc::default(),
            gate,
            keeper: Arc::new(Keeper::new(
                config.hooks.clone(),
                config.agent.service.clone(),
                &config.agent.state,
            )),
        };
        let span = tracing::info_span!(target: muster_telemetry::LINES_ONLY, "agent", service = config.agent.service.as_str());
        // Ends with the daemon: a set aborts its tasks when it is dropped.
        let mut beside = JoinSet::new();
        beside.spawn(desk.serve().instrument(span.clone()));
        let (identity, bus) = (Arc::clone(&parts.identity), Arc::clone(&parts.bus));
        let ended = Daemon::build(parts).run(stop).instrument(span).await;
        if ended.is_ok() {
            beat::farewell(&identity, bus.as_ref()).await;
        }
        ended
    }
}

/// Whoever answers restores.
fn desk(
    config: &Config,
    (identity, bus, store): (&Arc<Identity>, &Arc<dyn Bus>, &Arc<dyn Store>),
    pin: Pin,
    gate: Gate,
) -> Result<Desk, DaemonError> {
    let agent = &config.agent;
    let memory = HeadMemory::at(&agent.state.join(RESTORE_HEAD_FILE));
    let seen = memory.recall()?;
    // Of two heads the higher one: neither reader believes a log that ends before what the other has seen.
    let head = [pin.head, seen].into_iter().flatten().max_by_key(|seen| (seen.adopts, seen.head.number));
    let reader = Reader::new(Arc::clone(store), Pin { head, ..pin }, memory);
    let share = Address::parse(&config.share.url).ok().and_then(|at| at.folder().map(Path::to_owned));
    let workers = usize::try_from(config.engine.workers).ok().filter(|workers| *workers > 0);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let settings = Settings {
        offer: config.restore.offer.0,
        sources: config.sources().map_err(|invalid| DaemonError::Engine(invalid.why.into()))?,
        spool: agent.state.join(engine_capturer::SPOOL),
        apart: share.into_iter().chain([agent.state.clone()]).collect(),
        workers: workers.unwrap_or(cores).min(RESTORE_WORKERS),
    };
    Ok(Desk::new(Arc::clone(identity), Arc::clone(bus), Arc::clone(store), reader, gate, settings))
}

/// Between looks for a share or a server that is not there.
fn waiting() -> Retry {
    Retry::new(Duration::from_secs(1), Duration::from_secs(30), Attempts::Unlimited)
        .expect("these delays are in order")
}

/// Calls to the share become metrics.
fn meter() -> Meter {
    Arc::new(|call: Call| call.tell(metrics::share_call))
}

/// With one call to the share: for what passes within seconds. Rounds have retries of their own.
fn patience() -> Retry {
    Retry::new(Duration::from_millis(250), Duration::from_secs(4), Attempts::AtMost(5))
        .expect("these delays are in order")
}
