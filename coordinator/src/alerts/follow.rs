//! Follows the log: what rounds tell becomes alerts, and a verified round closes them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::alert::{
    About, Account, Begun, Book, Code, Finding, Rounds, judge_anomalies, judge_drills, judge_keys,
    judge_prune, judge_retention, judge_schedule,
};
use muster_protocol::causes::causes;
use muster_protocol::document::Manifest;
use muster_protocol::envelope::open_as;
use muster_protocol::log::{RoundPhase, RoundState, State};
use muster_protocol::prune::Terms;
use muster_protocol::time::UnixMillis;
use muster_protocol::units::parse_duration;
use muster_share::anomaly::Watch;
use muster_share::layout::ObjectPath;
use muster_share::store::{Store, StoreError};
use muster_share::verify::Trouble;
use muster_share::verify::chain::read_manifest;
use tokio::sync::watch;

use crate::check::read_object;
use crate::scribe::unix_now;

use super::Alerts;

/// How often quiet periods and promised intervals are looked at, and manifests that could not be read are tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// Follows the log until its writer is gone.
pub(crate) async fn follow(alerts: Alerts, store: Arc<dyn Store>, mut log: watch::Receiver<Arc<State>>) {
    let mut watch = Watch::default();
    loop {
        let state = log.borrow_and_update().clone();
        let untold: Vec<RoundState> = {
            let kept = alerts.kept();
            kept.rounds.untold(&state).into_iter().cloned().collect()
        };
        for round in untold {
            let about = About::Round(round.open.number);
            match account(store.as_ref(), &state, &round).await {
                Ok(manifest) => {
                    let account = manifest.as_ref().map_or(Account::None, Account::Read);
                    alerts.change(|kept, now| {
                        kept.book.mended(Code::Verify02, &about, now);
                        kept.rounds.tell(&mut kept.book, &round, account);
                        true
                    });
                }
                Err(Trouble::Damaged(damage)) => {
                    alerts.raise(Finding::seen(Code::Verify02, about, damage.to_string()));
                }
                // Nothing later is told first: what closes must not come before what opens.
                Err(Trouble::Store(error)) => {
                    tracing::debug!(error = causes(&error), number = round.open.number, "not told yet");
                    break;
                }
            }
        }
        match watch.look(store.as_ref(), &state).await {
            Ok(anomalies) => {
                alerts.change(|kept, now| judge_anomalies(&mut kept.book, &state, &anomalies, now))
            }
            Err(error) => tracing::debug!(error = causes(&error), "anomalies are not known now"),
        }
        let (roster, promised) = terms(&state);
        alerts.change(|kept, now| {
            let mut changed = kept.book.tick(now) | Rounds::sweep(&mut kept.book, &state, now);
            changed |= judge_log(&mut kept.book, &state, now);
            changed |= kept.rounds.judge_quarantine(&mut kept.book, &state, now);
            kept.rounds.judge(&mut kept.book, &roster, promised, now) || changed
        });
        tokio::select! {
            changed = log.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN) => probe(&alerts, store.as_ref()).await,
        }
    }
}

/// Whether the share answers, rounds or not.
pub(super) async fn probe(alerts: &Alerts, store: &dyn Store) {
    match store.head(&ObjectPath::Format).await {
        Ok(_) => alerts.share_answers(),
        Err(error) => alerts.share_failed(error.alert().or(Some(Code::Share02)), causes(&error)),
    }
}

/// The alerts that the share alone tells of, for whoever reaches no leader.
///
/// # Errors
/// When the share fails.
pub async fn from_share(store: &dyn Store, state: &State) -> Result<Book, StoreError> {
    let (mut book, mut rounds) = (Book::default(), Rounds::default());
    for round in rounds.untold(state) {
        match account(store, state, round).await {
            Ok(manifest) => {
                rounds.tell(&mut book, round, manifest.as_ref().map_or(Account::None, Account::Read));
            }
            Err(Trouble::Damaged(damage)) => {
                let about = About::Round(round.open.number);
                book.raise(Finding::seen(Code::Verify02, about, damage.to_string()), at(round));
            }
            Err(Trouble::Store(error)) => return Err(error),
        }
    }
    let (roster, promised) = terms(state);
    rounds.judge(&mut book, &roster, promised, unix_now());
    rounds.judge_quarantine(&mut book, state, unix_now());
    judge_anomalies(&mut book, state, &Watch::default().look(store, state).await?, unix_now());
    judge_log(&mut book, state, unix_now());
    Ok(book)
}

/// What the log alone tells, behind what keeps a prune.
fn judge_log(book: &mut Book, state: &State, now: UnixMillis) -> bool {
    let newest = state.rounds_by_number().last().map(|round| round.open.at);
    let begun = Begun { newest, promised: terms(state).1 };
    let mut changed = judge_schedule(book, state.settings(), begun, now) | judge_keys(book, state, now);
    changed |= judge_drills(book, state, state.settings(), now);
    // A retention that is none keeps the pruner from anything: it says so itself.
    if let Ok(terms) = Terms::of(state.settings()) {
        let frozen = book.open().any(|alert| [Code::Round06, Code::Verify01].contains(&alert.code));
        changed |= judge_prune(book, state, &terms, frozen, now) | judge_retention(book, state, &terms, now);
    }
    changed
}

fn at(round: &RoundState) -> UnixMillis {
    round.commit().map_or(round.open.at, |commit| commit.at)
}

/// The services of the roster, and the interval that the fleet promises.
pub(crate) fn terms(state: &State) -> (BTreeSet<muster_protocol::ids::ServiceName>, Option<Duration>) {
    let set = state.config.as_ref().and_then(|config| config.clear.get("interval")).map(String::as_str);
    let interval = set.or_else(|| muster_protocol::settings::default_of("interval"));
    (state.services().into_iter().collect(), interval.and_then(|text| parse_duration(text).ok()))
}

/// The manifest of a round, or the story of one without a commit. A story that cannot be read is none: nothing rests on it.
async fn account(store: &dyn Store, state: &State, round: &RoundState) -> Result<Option<Manifest>, Trouble> {
    let end = match &round.phase {
        RoundPhase::Open => return Ok(None),
        RoundPhase::Committed { .. } => return read_manifest(store, state, round).await.map(Some),
        RoundPhase::Ended(end) => end,
    };
    let Some(story) = end.account else { return Ok(None) };
    let path = ObjectPath::Manifest(story.object);
    let Ok(bytes) = read_object(store, &path, &story.object, story.size).await else { return Ok(None) };
    Ok(open_as::<Manifest>(&bytes, &state.fleet).ok().map(|(_, manifest)| manifest))
}
