//! One pass, from where the log says that it is.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use muster_protocol::ids::{ObjectId, ServiceName};
use muster_protocol::log::{Reached, Scrub, ScrubState};
use muster_protocol::scrub::{Course, Terms, wait};
use muster_protocol::time::UnixMillis;
use muster_share::layout::Prefix;
use muster_share::scrub::{Inventory, slices};
use muster_share::store::{Listed, StoreError};
use muster_share::verify::Pace;
use muster_telemetry::span::{Finished, Place};
use tokio::time::Instant;

use super::{AGAIN, FLEET_EVERY, Scrubber, Stop};
use crate::quarantine;
use crate::scribe::{Entry, unix_now};

/// Services whose slices are looked up at once: each such look reads all manifests.
const SERVICES_AT_ONCE: usize = 256;
/// Damaged objects that wait to be told together.
const TOLD_AT_ONCE: usize = 100;
/// Waits that are too short for anybody to wonder about what was not told yet.
const SHORT: Duration = Duration::from_secs(1);
/// Records of one pass that tell how far it is.
const RECORDS: u32 = 16;
/// The shortest time between two of them.
const LEAST_BETWEEN: Duration = Duration::from_secs(60);

/// Where a pass is.
struct Progress {
    pass: u64,
    began: UnixMillis,
    reached: Option<Reached>,
    objects: u64,
    bytes: u64,
    /// How old the pass was when this process took it up.
    before: Duration,
    taken_up: Instant,
    told: Instant,
}

impl Progress {
    /// Of the pass under way, or of a new one. What the calendar says of its age is believed within the promised time and no
    /// further: a clock that jumps neither stops a pass nor makes a new one.
    fn of(scrub: &ScrubState, now: UnixMillis, within: Duration) -> Self {
        let (taken_up, told) = (Instant::now(), Instant::now());
        match &scrub.current {
            Some((pass, reached)) => {
                let age = u64::try_from(now.0.saturating_sub(pass.began.0)).unwrap_or(0);
                let (before, reached) = (Duration::from_millis(age).min(within), Some(reached.clone()));
                let (pass, began, objects, bytes) = (pass.pass, pass.began, pass.objects, pass.bytes);
                Self { pass, began, reached, objects, bytes, before, taken_up, told }
            }
            None => {
                let pass = scrub.last.as_ref().map_or(1, |last| last.pass.saturating_add(1));
                let before = Duration::ZERO;
                Self { pass, began: now, reached: None, objects: 0, bytes: 0, before, taken_up, told }
            }
        }
    }

    fn elapsed(&self) -> Duration {
        self.before + self.taken_up.elapsed()
    }

    /// Whether an object was read before.
    fn is_past(&self, service: &ServiceName, id: &ObjectId) -> bool {
        self.reached.as_ref().is_some_and(|to| (&to.service, &to.object) >= (service, id))
    }

    fn record(&self, reached: Option<Reached>) -> Entry {
        let Self { pass, began, objects, bytes, .. } = *self;
        Entry::Scrub(Scrub { epoch: 0, pass, reached, objects, bytes, began, at: unix_now() })
    }
}

/// A pass under way.
struct Pass {
    course: Course,
    terms: Terms,
    within: Duration,
    progress: Progress,
    pace: Pace,
}

impl Pass {
    /// How long what lies behind `done` of the `all` bytes of a service has to wait.
    fn wait(&self, service: &ServiceName, done: u64, all: u64) -> Duration {
        let before = self.course.before(service, done, all);
        wait(before, self.course.whole(), self.progress.elapsed(), self.within)
    }

    /// The trace of the pass: the same whoever goes on with it.
    fn place(&self) -> Place {
        Place::called(&format!("scrub {} {}", self.progress.pass, self.progress.began.0))
    }

    /// The pass is over: its span.
    fn tell(&self) {
        let began = Duration::from_millis(u64::try_from(self.progress.began.0).unwrap_or(0));
        Finished::new("scrub", self.place(), None, SystemTime::UNIX_EPOCH + began)
            .with("muster.scrub.pass", self.progress.pass)
            .with("muster.scrub.objects", self.progress.objects)
            .with("muster.scrub.io", self.progress.bytes)
            .tell();
    }

    /// A service was read: its span.
    fn tell_service(&self, service: &ServiceName, began: SystemTime, objects: u64) {
        let root = self.place();
        Finished::new("read again", root.below(service.as_str()), Some(root), began)
            .with("muster.service", service.as_str())
            .with("muster.scrub.objects", objects)
            .tell();
    }

    /// How long the pass still lasts when everything is read.
    fn rest(&self) -> Duration {
        let whole = self.course.whole();
        wait(whole, whole, self.progress.elapsed(), self.within)
    }
}

impl Scrubber {
    /// Goes on with the pass that is under way, or begins one. `Ok` when it is over, or has to be thought over.
    pub(super) async fn pass(&mut self) -> Result<(), Stop> {
        let state = self.log.borrow_and_update().clone();
        let terms = Self::terms(&state);
        let Some((terms, within)) = terms.and_then(|terms| Some((terms, terms.within?))) else {
            self.idle(None, None).await?;
            return Ok(());
        };
        let course = self.look_at_the_fleet(&state).await?;
        let elsewhere: Vec<_> = state.quarantine.keys().filter(|service| !course.holds(service)).collect();
        for service in elsewhere {
            self.lift_gone(service, &Inventory::new(), true).await?;
        }
        if course.is_empty() {
            self.idle(None, None).await?;
            return Ok(());
        }
        let progress = Progress::of(&state.scrub, unix_now(), within);
        let mut pass = Pass { course, terms, within, progress, pace: Pace::new(terms.bandwidth) };
        let first = pass.progress.reached.as_ref().map(|reached| reached.service.clone());
        let services: Vec<ServiceName> = pass.course.services_from(first.as_ref()).cloned().collect();
        for some in services.chunks(SERVICES_AT_ONCE) {
            let state = self.scribe.state();
            let of = slices(self.store.as_ref(), &state, &some.iter().cloned().collect()).await?;
            for service in some {
                let (inventory, is_all) =
                    of.inventory(self.store.as_ref(), &self.scribe.state(), service).await?;
                self.lift_gone(service, &inventory, is_all).await?;
                let (began, before) = (SystemTime::now(), pass.progress.objects);
                if !self.service(&mut pass, service, &inventory).await? {
                    return Ok(());
                }
                pass.tell_service(service, began, pass.progress.objects - before);
                self.tell().await?;
                self.alarmed.remove(service);
            }
        }
        if self.wait(pass.rest(), terms).await? {
            self.scribe.write(pass.progress.record(None)).await?;
            pass.tell();
            let Progress { pass, objects, bytes, .. } = pass.progress;
            tracing::info!(pass, objects, bytes, "every stored object was read again");
        }
        Ok(())
    }

    /// The objects of one service. False: it has to be thought over.
    async fn service(
        &mut self,
        pass: &mut Pass,
        service: &ServiceName,
        inventory: &Inventory,
    ) -> Result<bool, Stop> {
        let all: u64 = inventory.values().map(|(_, size)| *size).fold(0, u64::saturating_add);
        let mut done = 0;
        for (id, (path, size)) in inventory {
            let due = pass.wait(service, done, all);
            done += size;
            if pass.progress.is_past(service, id) {
                continue;
            }
            let due = if self.alarmed.contains(service) { Duration::ZERO } else { due };
            if !self.wait(due, pass.terms).await? {
                self.note(&mut pass.progress).await?;
                return Ok(false);
            }
            self.read(service, *id, path, *size, &mut pass.pace).await?;
            if self.found.len() >= TOLD_AT_ONCE {
                self.tell().await?;
            }
            pass.progress.reached = Some(Reached { service: service.clone(), object: *id });
            pass.progress.objects += 1;
            pass.progress.bytes = pass.progress.bytes.saturating_add(*size);
            if pass.progress.told.elapsed() >= (pass.within / RECORDS).max(LEAST_BETWEEN) {
                self.note(&mut pass.progress).await?;
            }
        }
        Ok(true)
    }

    /// Waits until it is time to go on; meanwhile what is known to be sick is looked at again and again. False: the terms changed.
    async fn wait(&mut self, time: Duration, terms: Terms) -> Result<bool, Stop> {
        if time > SHORT {
            self.tell().await?;
        }
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let some = left.min(if self.sick.is_empty() { FLEET_EVERY } else { AGAIN });
            if !self.idle(Some(some), Some(terms)).await? {
                return Ok(false);
            }
            if some == left {
                return Ok(true);
            }
            let state = self.scribe.state();
            self.look_at_the_fleet(&state).await?;
        }
    }

    /// Says in the log how far the pass is.
    async fn note(&self, progress: &mut Progress) -> Result<(), Stop> {
        if let Some(reached) = progress.reached.clone() {
            self.scribe.write(progress.record(Some(reached))).await?;
            progress.told = Instant::now();
        }
        Ok(())
    }

    /// Lifts the quarantine of what no round needs any more, once it is gone: as long as it is there, an agent might rely on it.
    /// Where not everything that rounds name could be read, nothing is known to be needed by none.
    async fn lift_gone(
        &self,
        service: &ServiceName,
        inventory: &Inventory,
        is_all: bool,
    ) -> Result<(), Stop> {
        let state = self.scribe.state();
        let Some(of) = state.quarantine.get(service).filter(|_| is_all && self.sick.is_empty()) else {
            return Ok(());
        };
        quarantine::recognise(self.store.as_ref(), &state).await?;
        let mut gone: Vec<ObjectId> =
            of.objects.keys().filter(|id| !inventory.contains_key(id)).copied().collect();
        // Twice, as whatever is missing: a share that was away for a part of a listing gives a shorter one.
        for _ in 0..2 {
            if gone.is_empty() {
                return Ok(());
            }
            let there = self.there(service).await?;
            gone.retain(|id| !there.contains(id));
        }
        Ok(quarantine::lift(&self.scribe, service, &gone).await?)
    }

    /// Every object that a service has on the share.
    async fn there(&self, service: &ServiceName) -> Result<BTreeSet<ObjectId>, StoreError> {
        let mut there = BTreeSet::new();
        let mut listing = self.store.list(&Prefix::Agent(service.clone()));
        while let Some(line) = listing.next().await {
            if let Listed::Object { path, .. } = line? {
                there.extend(path.id().copied());
            }
        }
        Ok(there)
    }
}
