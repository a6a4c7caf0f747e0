//! What the metrics say of the fleet while this coordinator leads: read off the log, the book of alerts and the room, as `muster
//! status` has it.
//!
//! Whoever asks for metrics must not wait for a share. So they are set here, on every change and a few times a minute, and ages go on by
//! themselves in between. When the lead is over they are gone: another coordinator tells them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::alert::Code;
use muster_protocol::causes::causes;
use muster_protocol::document::{Manifest, SliceTotals};
use muster_protocol::ids::ServiceName;
use muster_protocol::log::{RoundPhase, RoundState, State};
use muster_protocol::time::UnixMillis;
use muster_share::store::Store;
use muster_share::verify::Trouble;
use muster_share::verify::chain::read_manifest;
use muster_telemetry::metrics::{
    self, ALERTS_OPEN, Attributes, CODE, DEDUP, LAST_SUCCESS_AGE, Metric, PROMISE_INTERVAL, PROMISE_MET,
    QUARANTINE, ROUNDS_VERIFIED, SCHEDULE_ENABLED, SCHEDULE_NEXT, SCRUB_AGE, SERVICE, SERVICES, SEVERITY,
    SHARE_FORECAST, SHARE_FREE, SLICE_ADDED, SLICE_SOURCE, SLICE_STORED, Value,
};
use tokio::sync::watch;

use crate::alerts::{Alerts, terms};
use crate::room::Room;
use crate::scribe::unix_now;
use crate::view::timetable::Timetable;

/// How often they are set although nothing changed.
const AGAIN: Duration = Duration::from_secs(15);
/// What happens within so short a time is told together.
const GATHER: Duration = Duration::from_millis(200);
/// Rounds that are read for services that no newer one holds.
const ROUNDS_READ: usize = 500;
const DAY: u64 = 86_400;

/// The newest verified slice of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Newest {
    round: u64,
    verified: UnixMillis,
    totals: SliceTotals,
}

/// The newest verified slices, of every round that was read.
#[derive(Debug, Default)]
struct Slices {
    newest: BTreeMap<ServiceName, Newest>,
    read: BTreeSet<u64>,
}

impl Slices {
    /// Verified rounds that may hold something newer, the newest first.
    fn unread<'a>(&self, state: &'a State) -> Vec<(&'a RoundState, UnixMillis)> {
        let mut rounds = state.rounds_by_number();
        rounds.reverse();
        let verified = |round: &'a RoundState| match &round.phase {
            RoundPhase::Committed { verified: Some(verified), .. } if round.is_recoverable() => {
                Some((round, verified.at))
            }
            RoundPhase::Committed { .. } | RoundPhase::Open | RoundPhase::Ended(_) => None,
        };
        let rounds = rounds.into_iter().filter_map(verified).take(ROUNDS_READ);
        rounds.filter(|(round, _)| !self.read.contains(&round.open.number)).collect()
    }

    fn take(&mut self, round: u64, verified: UnixMillis, manifest: &Manifest) {
        self.read.insert(round);
        for slice in &manifest.slices {
            let newest = Newest { round, verified, totals: slice.totals };
            let known = self.newest.entry(slice.service.clone()).or_insert(newest);
            if known.round < round {
                *known = newest;
            }
        }
    }

    /// Reads on, as far as anybody of the roster is still without a slice.
    async fn follow(&mut self, store: &dyn Store, state: &State) {
        let roster = state.services();
        for (round, verified) in self.unread(state) {
            let number = round.open.number;
            let newer = self.read.last().is_none_or(|newest| *newest < number);
            if !newer && roster.iter().all(|service| self.newest.contains_key(service)) {
                // Older than all that is wanted: it is never looked at again.
                self.read.insert(number);
                continue;
            }
            match read_manifest(store, state, round).await {
                Ok(manifest) => self.take(number, verified, &manifest),
                // Who looks at manifests tells of it.
                Err(Trouble::Damaged(_)) => {
                    self.read.insert(number);
                }
                Err(Trouble::Store(error)) => {
                    return tracing::debug!(
                        error = causes(&error),
                        round = number,
                        "not told as metrics yet"
                    );
                }
            }
        }
    }
}

/// Tells until the log has no writer any more.
pub(crate) async fn watch(
    store: Arc<dyn Store>,
    mut log: watch::Receiver<Arc<State>>,
    alerts: Alerts,
    room: Room,
) {
    let mut slices = Slices::default();
    let mut changes = alerts.changes();
    let _gone = Gone;
    loop {
        let state = log.borrow_and_update().clone();
        changes.borrow_and_update();
        slices.follow(store.as_ref(), &state).await;
        tell(&state, &slices, unix_now());
        tell_alerts(&alerts);
        tell_room(&room);
        tokio::select! {
            changed = log.changed() => if changed.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN) => {}
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// What only a leader tells is gone with it, also when its task is aborted.
struct Gone;

impl Drop for Gone {
    fn drop(&mut self) {
        metrics::forget_lead();
    }
}

fn of(service: &ServiceName) -> Attributes {
    vec![(SERVICE, service.to_string())]
}

fn whole(metric: &'static Metric, value: Option<Value>) {
    metric.replace(value.map(|value| (Attributes::new(), value)).into_iter().collect());
}

#[expect(clippy::cast_precision_loss, reason = "counts and bytes of a fleet are exact")]
fn number(value: u64) -> Value {
    Value::Is(value as f64)
}

/// What the log says.
fn tell(state: &State, slices: &Slices, now: UnixMillis) {
    let (roster, promised) = terms(state);
    let age = |at: UnixMillis| Duration::from_millis(u64::try_from(now.0.saturating_sub(at.0)).unwrap_or(0));
    let there: Vec<_> =
        roster.iter().filter_map(|service| Some((service, slices.newest.get(service)?))).collect();
    let each = |metric: &'static Metric, value: &dyn Fn(&Newest) -> Value| {
        metric.replace(there.iter().map(|(service, newest)| (of(service), value(newest))).collect());
    };
    each(&LAST_SUCCESS_AGE, &|newest| Value::aged(age(newest.verified)));
    each(&SLICE_SOURCE, &|newest| number(newest.totals.source_bytes));
    each(&SLICE_STORED, &|newest| number(newest.totals.stored_bytes));
    each(&SLICE_ADDED, &|newest| number(newest.totals.added_bytes));
    each(&DEDUP, &|newest| Value::Is(spared(&newest.totals)));
    let met = |service: &ServiceName| {
        let newest = slices.newest.get(service);
        newest.is_some_and(|newest| promised.is_none_or(|most| age(newest.verified) <= most))
    };
    PROMISE_MET.replace(roster.iter().map(|service| (of(service), number(met(service).into()))).collect());
    whole(&PROMISE_INTERVAL, promised.map(|interval| Value::Is(interval.as_secs_f64())));
    whole(&SERVICES, Some(number(roster.len() as u64)));
    let verified = state.rounds.values().filter(|round| {
        round.is_recoverable() && matches!(round.phase, RoundPhase::Committed { verified: Some(_), .. })
    });
    whole(&ROUNDS_VERIFIED, Some(number(verified.count() as u64)));
    let timetable = Timetable::of(state, now);
    whole(&SCHEDULE_ENABLED, Some(number((timetable.state == "enabled").into())));
    whole(&SCHEDULE_NEXT, timetable.next_in_secs.map(|left| Value::left(Duration::from_secs(left))));
    let quarantined: usize = state.quarantine.values().map(|of| of.objects.len()).sum();
    whole(&QUARANTINE, Some(number(quarantined as u64)));
    whole(&SCRUB_AGE, state.scrub.last.as_ref().map(|last| Value::aged(age(last.at))));
}

/// The part that had not to be stored again; all of nothing.
#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn spared(totals: &SliceTotals) -> f64 {
    if totals.source_bytes == 0 {
        return 1.0;
    }
    (1.0 - totals.added_bytes as f64 / totals.source_bytes as f64).clamp(0.0, 1.0)
}

fn tell_alerts(alerts: &Alerts) {
    let mut open: BTreeMap<Code, u64> = BTreeMap::new();
    alerts.read(|book| book.open().for_each(|alert| *open.entry(alert.code).or_default() += 1));
    let series = open.into_iter().map(|(code, count)| {
        let severity = code.severity().as_str().to_owned();
        (vec![(CODE, code.as_str().to_owned()), (SEVERITY, severity)], number(count))
    });
    ALERTS_OPEN.replace(series.collect());
}

fn tell_room(room: &Room) {
    let outlook = room.outlook();
    whole(&SHARE_FREE, outlook.map(|outlook| number(outlook.free_bytes)));
    let left = outlook.and_then(|outlook| outlook.days_left);
    whole(&SHARE_FORECAST, left.map(|days| number(days.saturating_mul(DAY))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spared_is_from_nothing_to_all() {
        let totals =
            |source_bytes, added_bytes| SliceTotals { source_bytes, added_bytes, ..SliceTotals::default() };
        assert!((spared(&totals(100, 25)) - 0.75).abs() < 1e-9);
        // A first slice of what does not compress is larger than its sources.
        assert!(spared(&totals(100, 130)).abs() < 1e-9);
        assert!((spared(&totals(0, 10)) - 1.0).abs() < 1e-9);
    }
}
