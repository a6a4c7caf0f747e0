//! The scrub: while this coordinator leads, it reads every stored object again within the promised time, says in the log how far
//! it is, and puts what is damaged into quarantine.
//!
//! One object at a time, at most so many bytes a second, and never in anybody's way: it is a task of its own that waits for the
//! share alone. Of a service of which one object is damaged, the others are read at once: what hurt one has seldom hurt only one.

mod pass;
mod suspects;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::alert::{About, Code, Finding, Part};
use muster_protocol::causes::causes;
use muster_protocol::ids::{ObjectId, ServiceName};
use muster_protocol::log::{Found, State};
use muster_protocol::scrub::Terms;
use muster_share::layout::ObjectPath;
use muster_share::scrub::{Inventory, fleet, slices};
use muster_share::store::{Store, StoreError};
use muster_share::verify::{Again, Damage, Pace, Trouble, read_again};
use muster_telemetry::metrics::{SCRUB_IO, SCRUB_OBJECTS};
use tokio::sync::{mpsc, watch};

use crate::alerts::Alerts;
use crate::quarantine::{self, QuarantineError};
use crate::scribe::ScribeHandle;
pub(crate) use suspects::Suspects;

/// How often manifests are looked at, and the sealed configuration: they are few, and every recovery begins with them.
const FLEET_EVERY: Duration = Duration::from_secs(3_600);
/// After the share did not answer, and while something of the fleet's own is damaged.
const AGAIN: Duration = Duration::from_secs(60);

/// Why a pass was left.
#[derive(Debug, thiserror::Error)]
enum Stop {
    /// The share does not answer, or the log takes no record. Waiting may mend it.
    #[error("{0}")]
    Failed(String),
    /// Nobody leads here any more.
    #[error("the log's writer has stopped")]
    Gone,
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(causes(&error))
    }
}

impl From<QuarantineError> for Stop {
    fn from(error: QuarantineError) -> Self {
        Self::Failed(causes(&error))
    }
}

impl From<crate::scribe::ScribeError> for Stop {
    fn from(error: crate::scribe::ScribeError) -> Self {
        Self::Failed(causes(&error))
    }
}

/// What the scrub needs of the world, and what it keeps in mind. Its store is [`muster_share::log::Sure`].
pub(crate) struct Scrubber {
    store: Arc<dyn Store>,
    scribe: ScribeHandle,
    log: watch::Receiver<Arc<State>>,
    alerts: Alerts,
    suspects: mpsc::Receiver<Suspects>,
    /// Rounds whose manifests, or the configuration, were damaged at the last look.
    sick: BTreeMap<Option<u64>, Damage>,
    /// Services of which something is damaged that was found in this pass: the rest of them is read without waiting.
    alarmed: BTreeSet<ServiceName>,
    /// Damage that is not said yet.
    found: Vec<(ServiceName, Damage)>,
}

impl Scrubber {
    /// One over this share, for a leader.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        scribe: ScribeHandle,
        alerts: Alerts,
        suspects: mpsc::Receiver<Suspects>,
    ) -> Self {
        let log = scribe.changes();
        Self {
            store,
            scribe,
            log,
            alerts,
            suspects,
            sick: BTreeMap::new(),
            alarmed: BTreeSet::new(),
            found: Vec::new(),
        }
    }

    /// Scrubs for as long as this coordinator leads.
    pub(crate) async fn run(mut self) {
        loop {
            match self.pass().await {
                Ok(()) => {}
                Err(Stop::Gone) => return,
                Err(Stop::Failed(why)) => {
                    tracing::debug!(why, "the scrub waits");
                    self.found.clear();
                    match self.idle(Some(AGAIN), None).await {
                        Ok(_) => {}
                        Err(Stop::Gone) => return,
                        Err(Stop::Failed(why)) => tracing::debug!(why, "the scrub waits"),
                    }
                }
            }
        }
    }

    fn terms(state: &State) -> Option<Terms> {
        let clear = state.config.as_ref().map(|config| config.clear.clone()).unwrap_or_default();
        // A setting that is none of its kind is told by whoever sets it; until then nothing is read.
        Terms::of(&clear).ok()
    }

    /// Waits, and meanwhile looks at what others suspect. `time`: for how long; none: until the log changes. False: what was to be
    /// done has to be thought over, because the log is such that these terms hold no more, or `time` was not given and it changed.
    async fn idle(&mut self, time: Option<Duration>, terms: Option<Terms>) -> Result<bool, Stop> {
        let over = tokio::time::sleep(time.unwrap_or(Duration::MAX));
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over, if time.is_some() => return Ok(true),
                changed = self.log.changed() => {
                    changed.map_err(|_| Stop::Gone)?;
                    let state = self.log.borrow_and_update().clone();
                    if time.is_none() || (terms.is_some() && Self::terms(&state) != terms) {
                        return Ok(false);
                    }
                }
                suspects = self.suspects.recv() => match suspects {
                    Some(suspects) => self.look_into(suspects).await?,
                    None => return Err(Stop::Gone),
                },
            }
        }
    }

    /// The fleet's own objects: its manifests and sealed configuration. Gives the way of the next pass.
    async fn look_at_the_fleet(&mut self, state: &State) -> Result<muster_protocol::scrub::Course, Stop> {
        let (course, damaged) = fleet(self.store.as_ref(), state).await?;
        if !damaged.is_empty() {
            quarantine::recognise(self.store.as_ref(), state).await?;
        }
        let damaged: BTreeMap<_, _> = damaged.into_iter().collect();
        for (round, damage) in &damaged {
            let (code, about) = told(*round);
            self.alerts.raise(Finding::seen(code, about, damage.to_string()));
        }
        for round in self.sick.keys().filter(|round| !damaged.contains_key(round)) {
            let (code, about) = told(*round);
            self.alerts.mended(code, &about);
        }
        self.sick = damaged;
        Ok(course)
    }

    /// What there is of one service now.
    async fn inventory(&self, service: &ServiceName) -> Result<Inventory, StoreError> {
        let state = self.scribe.state();
        let found = slices(self.store.as_ref(), &state, &BTreeSet::from([service.clone()])).await?;
        found.inventory(self.store.as_ref(), &state, service).await.map(|(inventory, _)| inventory)
    }

    /// Reads one object again. What is damaged is kept in mind until [`Scrubber::tell`].
    async fn read(
        &mut self,
        service: &ServiceName,
        id: ObjectId,
        path: &ObjectPath,
        size: u64,
        pace: &mut Pace,
    ) -> Result<(), Stop> {
        let read = read_again(self.store.as_ref(), path, &id, size, pace).await;
        if !matches!(read, Err(Trouble::Store(_))) {
            count(size);
        }
        match read {
            Ok(again) => {
                match again {
                    Again::Whole => {}
                    Again::Flickers(damage) => tracing::warn!(
                        %service,
                        "{damage}, and whole when it was read once more: something between here and the share's disks corrupts data"
                    ),
                    Again::Returned(damage) => tracing::info!(
                        %service,
                        "{damage}, and whole when it was read once more: it was away for a moment, or the share was"
                    ),
                }
                let state = self.scribe.state();
                let of = state.quarantine.get(service);
                if of.is_some_and(|of| of.objects.get(&id) == Some(&Found::Bytes)) {
                    quarantine::lift(&self.scribe, service, &[id]).await?;
                }
                Ok(())
            }
            Err(Trouble::Damaged(damage)) => {
                self.found.push((service.clone(), damage));
                self.alarmed.insert(service.clone());
                Ok(())
            }
            Err(Trouble::Store(error)) => Err(error.into()),
        }
    }

    /// Says what was found, as far as it is still needed: what was pruned meanwhile is missing, and lost nothing.
    async fn tell(&mut self) -> Result<(), Stop> {
        let mut found = std::mem::take(&mut self.found);
        let services: BTreeSet<ServiceName> = found.iter().map(|(service, _)| service.clone()).collect();
        for service in services {
            let needed = self.inventory(&service).await?;
            let is_needed = |damage: &Damage| damage.object.id().is_some_and(|id| needed.contains_key(id));
            found.retain(|(of, damage)| *of != service || is_needed(damage));
        }
        quarantine::add(self.store.as_ref(), &self.scribe, &found, Found::Bytes).await?;
        Ok(())
    }
}

/// What damage of a manifest, or without a round of the sealed configuration, is told as.
fn told(round: Option<u64>) -> (Code, About) {
    match round {
        Some(number) => (Code::Verify02, About::Round(number)),
        None => (Code::Verify01, About::Part(Part::Share)),
    }
}

/// One more object was read, as metrics.
#[expect(clippy::cast_precision_loss, reason = "bytes of an object are exact")]
fn count(bytes: u64) {
    SCRUB_OBJECTS.one(Vec::new());
    SCRUB_IO.add(bytes as f64, Vec::new());
}
