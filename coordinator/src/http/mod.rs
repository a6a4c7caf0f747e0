//! The HTTP API: what `muster` asks share and leader for, for scripts and whatever has no NATS client. Each coordinator has one.
//!
//! ```text
//! serve (places, patience, TLS) ──▶ door (host, token, bounds) ──▶ route ──▶ read · act · events
//!                                                                     │         │
//!                                        openapi ◀── one table ───────┘         ├──▶ reader (a log of its own)
//!                                                                               └──▶ leader (this process, or over the bus)
//! ```
//!
//! Nothing here is in anybody's way: a busy port is told and tried again, a slow reader holds a place of its own, and a coordinator
//! leads the same with the API as without. Holds no operator's key, so it signs nothing in an operator's name.

mod access;
mod act;
mod asked;
pub mod config;
mod crowd;
mod door;
mod events;
mod leader;
mod openapi;
mod patience;
mod problem;
mod read;
mod reader;
mod route;
mod serve;
mod signed;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::Arc;

use muster_bus::Bus;
use muster_protocol::alert::{About, Code, Finding, Part};
use muster_protocol::causes::causes;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::MemberName;
use muster_protocol::log::State;
use muster_protocol::message::Demand;
use muster_protocol::subject::Subjects;
use muster_share::log::Log;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::alerts::Alerts;
use crate::config::Config;
use access::Failures;
use config::HttpConfig;
use leader::Leader;
pub(crate) use leader::Leading;
use reader::Reader;
use tls::Tls;
pub use tls::TlsError;

/// Followers of rounds at a time.
const MOST_FOLLOWERS: usize = 32;
/// Requests that are answered at a time; others wait a moment.
const MOST_BUSY: usize = 32;

/// What answers are made of, once share and bus are there.
struct World {
    fleet: String,
    share: String,
    reader: Reader,
    leader: Arc<Leader>,
    alerts: Alerts,
    /// Whoever tells the leader what was refused here.
    telling: Arc<Semaphore>,
}

impl World {
    /// A token asked for what it may not: SEC-01, in the book of the leader, which alone is read and told of. Where another
    /// coordinator leads, it hears what the token asked as a demand that changes nothing, and refuses that by the log. One at a
    /// time: whoever asks again and again adds nothing.
    fn tell_refusal(&self, state: State, token: &MemberName, why: String) {
        if self.leader.is_here() {
            return self.alerts.raise(Finding::seen(Code::Sec01, About::Part(Part::Commands), why));
        }
        let Ok(place) = Arc::clone(&self.telling).try_acquire_owned() else { return };
        let (leader, token) = (Arc::clone(&self.leader), token.clone());
        tokio::spawn(async move {
            let nothing = Demand::Acknowledge { alert: String::new() };
            if let Err(error) = leader.demand(&state, &token, nothing, None).await {
                tracing::warn!(%token, why, error = causes(&error), "SEC-01: the leader was not told");
            }
            drop(place);
        });
    }
}

/// The API as its handlers have it.
struct Api {
    coordinator: String,
    /// None while this coordinator still waits for share or bus.
    world: watch::Receiver<Option<Arc<World>>>,
    failures: Failures,
    followers: Arc<Semaphore>,
    /// Requests that are being answered.
    busy: Semaphore,
    stop: watch::Receiver<bool>,
    config: HttpConfig,
}

/// The API of one coordinator, from outside.
pub(crate) struct Http {
    world: watch::Sender<Option<Arc<World>>>,
    leading: watch::Sender<Leading>,
    task: JoinHandle<()>,
}

impl Http {
    /// Opens the door where the configuration says so; none: it says nowhere. Until [`Http::open`] it answers that it waits.
    ///
    /// # Errors
    /// When certificate or key cannot be used.
    pub(crate) fn start(config: &Config, stop: watch::Receiver<bool>) -> Result<Option<Self>, TlsError> {
        let Some(address) = config.http.address() else { return Ok(None) };
        let tls = Tls::open(&config.http)?.map(Arc::new);
        let (world, known) = watch::channel(None);
        let api = Api {
            coordinator: config.coordinator.name.to_string(),
            world: known,
            failures: Failures::default(),
            followers: Arc::new(Semaphore::new(MOST_FOLLOWERS)),
            busy: Semaphore::new(MOST_BUSY),
            stop: stop.clone(),
            config: config.http.clone(),
        };
        let task = tokio::spawn(serve::serve(address, tls, door::router(Arc::new(api)), stop));
        Ok(Some(Self { world, leading: watch::channel(None).0, task }))
    }

    /// Share and bus are there.
    pub(crate) fn open(
        &self,
        config: &Config,
        log: Log,
        bus: Arc<dyn Bus>,
        signer: Arc<Signer>,
        alerts: Alerts,
    ) {
        let leader = Leader {
            bus,
            subjects: Subjects::new(&config.fleet.name),
            fleet: config.fleet.id,
            signer,
            leading: self.leading.subscribe(),
        };
        let world = World {
            fleet: config.fleet.name.to_string(),
            share: config.share.url.clone(),
            reader: Reader::of(log),
            leader: Arc::new(leader),
            alerts,
            telling: Arc::new(Semaphore::new(1)),
        };
        self.world.send_replace(Some(Arc::new(world)));
    }

    /// This process leads, and is asked by this way; none: it leads no longer.
    pub(crate) fn leads(&self, leading: Leading) {
        self.leading.send_replace(leading);
    }

    /// Ends: once the last answers are out, which has a limit of its own, when the coordinator was told to stop; at once when it
    /// ends by itself.
    pub(crate) async fn close(self, told: bool) {
        self.leading.send_replace(None);
        let abort = self.task.abort_handle();
        let task = self.task;
        if !told || tokio::time::timeout(serve::FAREWELL * 2, task).await.is_err() {
            abort.abort();
        }
    }
}
