//! The swarm: all agents of a stage in this process, and what is counted of them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use muster_bus::{Limits, NatsBus};
use muster_protocol::entropy::random;
use muster_protocol::ids::{Nonce, RoundId, ServiceName};
use muster_protocol::subject::Subjects;
use muster_share::entropy::OsEntropy;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Failure;
use super::agent::{Agent, Parts};
use super::belief::Beliefs;
use super::slices;
use super::stage::Stage;
use super::talk::Talker;

/// Connections that are made at once.
const CONNECTING: usize = 64;

/// What is counted of all agents.
#[derive(Debug)]
pub(super) struct Counts {
    began: Instant,
    captures: AtomicU64,
    kept: AtomicU64,
    unanswered: AtomicU64,
    wrong: Mutex<BTreeMap<String, u64>>,
    reconnects: Mutex<Vec<Duration>>,
}

impl Counts {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            captures: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            wrong: Mutex::default(),
            reconnects: Mutex::default(),
        }
    }

    pub(super) fn capturing(&self) {
        self.captures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn kept(&self) {
        self.kept.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn unanswered(&self, why: &dyn Display) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        self.wrong(&format!("unanswered: {why}"));
    }

    pub(super) fn wrong(&self, what: &dyn Display) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        // Texts that name services would fill it without end.
        if wrong.len() < 100 {
            *wrong.entry(what.to_string()).or_default() += 1;
        }
    }

    pub(super) fn reconnected(&self) {
        self.reconnects.lock().unwrap_or_else(PoisonError::into_inner).push(self.began.elapsed());
    }
}

/// When the agents of a swarm connected anew.
#[derive(Debug, Clone)]
pub struct Reconnects {
    times: Vec<Duration>,
}

impl Reconnects {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.times.len()
    }

    /// The most that fell into any span of this length: all of them, if nothing spreads them.
    #[must_use]
    pub fn most_within(&self, span: Duration) -> usize {
        let mut times = self.times.clone();
        times.sort();
        let within = |(at, first): (usize, &Duration)| {
            times[at..].iter().take_while(|time| **time < *first + span).count()
        };
        times.iter().enumerate().map(within).max().unwrap_or_default()
    }
}

/// The agents of a stage, connected and at work until this is dropped.
#[derive(Debug)]
pub struct Swarm {
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    agents: JoinSet<()>,
}

impl Swarm {
    /// Writes what the agents need for these rounds, connects them all, and returns once each watches its documents. A
    /// capture of theirs takes `capture`, give or take a fifth.
    ///
    /// # Errors
    /// When the share or the server fails one of them.
    pub async fn gather(stage: &Stage, rounds: &[RoundId], capture: Duration) -> Result<Self, Failure> {
        let services: Vec<ServiceName> = stage.agents.iter().map(|(service, _)| service.clone()).collect();
        let slices = slices::prepare(&stage.store, services, rounds).await?;
        let beliefs = Arc::new(Beliefs::new(stage.log().await?));
        let subjects = &Subjects::new(&stage.fleet.name);
        let counts = Arc::new(Counts::new());
        let talkers: Vec<Talker> = stream::iter(&stage.agents)
            .map(|(service, signer)| async move {
                let mut config = stage.client(service.as_str())?;
                // Few messages come in for each; the buffers of a coordinator would be a waste.
                config.limits = Limits {
                    subscription_messages: 64,
                    connect: Duration::from_secs(60),
                    ..Limits::default()
                };
                Ok::<_, Failure>(Talker {
                    fleet: stage.fleet.id,
                    subjects: subjects.clone(),
                    service: service.clone(),
                    signer: signer.clone(),
                    instance: Nonce::from_bytes(random(&mut OsEntropy)),
                    bus: NatsBus::connect(config).await?,
                    session: Arc::default(),
                })
            })
            .buffered(CONNECTING)
            .try_collect()
            .await?;
        let (stop, stopped) = watch::channel(false);
        let (ready, mut readied) = mpsc::channel(talkers.len().max(1));
        let mut agents = JoinSet::new();
        for (talker, slice) in talkers.into_iter().zip(slices) {
            let parts = Parts {
                talker,
                slice,
                store: Arc::clone(&stage.store),
                beliefs: Arc::clone(&beliefs),
                counts: Arc::clone(&counts),
                capture,
            };
            agents.spawn(Agent::new(parts).run(ready.clone(), stopped.clone()));
        }
        drop(ready);
        while let Some(watching) = readied.recv().await {
            watching?;
        }
        Ok(Self { counts, stop, agents })
    }

    /// How many captures have begun.
    #[must_use]
    pub fn captures(&self) -> u64 {
        self.counts.captures.load(Ordering::Relaxed)
    }

    /// How many slices the agents were told to count, in all rounds so far.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.counts.kept.load(Ordering::Relaxed)
    }

    /// How many hellos and notices nobody answered in time.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.counts.unanswered.load(Ordering::Relaxed)
    }

    /// What went wrong, and how often.
    #[must_use]
    pub fn wrong(&self) -> BTreeMap<String, u64> {
        self.counts.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When agents connected anew.
    #[must_use]
    pub fn reconnects(&self) -> Reconnects {
        let times = self.counts.reconnects.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Reconnects { times }
    }

    /// Ends all of them.
    pub async fn dismiss(mut self) {
        self.stop.send_replace(true);
        while self.agents.join_next().await.is_some() {}
    }
}
