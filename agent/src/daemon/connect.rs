//! Getting hold of share and bus: both are waited for, with growing pauses, and what is missing is said once.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use muster_bus::{Bus, ConnectError, Limits, NatsBus, NatsConfig, Streams};
use muster_protocol::causes::causes;
use muster_protocol::config::{BusConfig, ShareConfig};
use muster_protocol::ids::{FleetName, ServiceName};
use muster_protocol::retry::Retry;
use muster_protocol::subject::{Subject, Subjects};
use muster_share::layout::ObjectPath;
use muster_share::store::retry::delays;
use muster_share::store::{self, OpenStoreError, Store, StoreError};
use tokio::sync::watch;
use tokio::time::sleep;

use super::error::DaemonError;
use super::said::Condition;

/// Documents that an agent buffers before it drops: it needs only the newest.
const BUFFERED_DOCUMENTS: usize = 256;

/// The share of this configuration, as soon as it holds a fleet; none when `stop` came first.
pub(crate) async fn share(
    at: &ShareConfig,
    patience: &Retry,
    stop: &mut watch::Receiver<bool>,
) -> Result<Option<Arc<dyn Store>>, DaemonError> {
    let open = || async {
        let store = store::open(at).await?;
        // An empty mount point is a folder as well: wait until something is mounted.
        store.head(&ObjectPath::Format).await?;
        Ok(store)
    };
    let waits = |error: &OpenStoreError| match error {
        OpenStoreError::Store(error) => match error {
            StoreError::NotFound { .. }
            | StoreError::Denied { .. }
            | StoreError::Unreachable { .. }
            | StoreError::Strange { .. }
            | StoreError::InvalidPath { .. }
            | StoreError::TimedOut { .. }
            | StoreError::Io { .. } => true,
            StoreError::AlreadyExists { .. }
            | StoreError::Full { .. }
            | StoreError::WriteRefused { .. }
            | StoreError::TooLong { .. }
            | StoreError::Locked { .. }
            | StoreError::NotKept { .. }
            | StoreError::Damaged { .. } => false,
        },
        OpenStoreError::Address(_)
        | OpenStoreError::NoLocks { .. }
        | OpenStoreError::File(_)
        | OpenStoreError::Secret(_) => false,
    };
    Ok(wait("share", &at.url, patience, stop, open, waits).await?)
}

/// A connection to the NATS server, as soon as one answers; none when `stop` came first.
pub(crate) async fn bus(
    nats: &BusConfig,
    fleet: &FleetName,
    service: &ServiceName,
    patience: &Retry,
    stop: &mut watch::Receiver<bool>,
) -> Result<Option<Arc<dyn Bus>>, DaemonError> {
    let subjects = Subjects::new(fleet);
    let (state, queue) = (subjects.print(&Subject::State), subjects.print(&Subject::TriggerAsync));
    let streams = Streams::new(fleet.as_str(), &state, &queue)
        .map_err(|source| DaemonError::Bus { subject: state, source })?;
    let mut config = NatsConfig::new(&nats.url, format!("muster-agent {service}"), streams)
        .with_files(&nats.nkey, &nats.ca, "agents")?;
    config.limits = Limits { subscription_messages: BUFFERED_DOCUMENTS, ..Limits::default() };
    let connect = || async {
        let bus: Arc<dyn Bus> = Arc::new(NatsBus::connect(config.clone()).await?);
        Ok(bus)
    };
    let began = Instant::now();
    let waits = |error: &ConnectError| error.may_pass(began.elapsed());
    // The address may hold a password, so it is not repeated here; the error names the servers.
    Ok(wait("NATS server", "nats", patience, stop, connect, waits).await?)
}

/// Tries until it works, fails for good, or `stop` comes.
async fn wait<T, E, F>(
    what: &str,
    at: &str,
    patience: &Retry,
    stop: &mut watch::Receiver<bool>,
    attempt: impl Fn() -> F,
    waits: impl Fn(&E) -> bool,
) -> Result<Option<T>, E>
where
    F: Future<Output = Result<T, E>>,
    E: std::error::Error + 'static,
{
    let mut missing = Condition::default();
    let mut delays = delays(patience);
    loop {
        let tried = tokio::select! {
            tried = attempt() => tried,
            () = stopped(stop) => return Ok(None),
        };
        match tried {
            Ok(found) => {
                if missing.right() {
                    tracing::info!(at, "the {what} is there");
                }
                return Ok(Some(found));
            }
            Err(error) if waits(&error) => {
                if missing.wrong(&causes(&error)) {
                    tracing::warn!(at, error = causes(&error), "waiting for the {what}");
                }
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = sleep(delays.next().unwrap_or(patience.longest())) => {}
            () = stopped(stop) => return Ok(None),
        }
    }
}

/// Resolves when `stop` says so, or when nobody is left to say it.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it whoever started the agent.
    stop.wait_for(|stop| *stop).await.map(drop).unwrap_or_default();
}
