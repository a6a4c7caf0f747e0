//! How the fleet stands: `muster status`. What counts comes from the log and its manifests; who is there, from the leader.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::alert::Code;
use muster_protocol::ids::{KeyId, ServiceName};
use muster_protocol::log::{Outcome, RoundPhase, RoundState, State};
use muster_protocol::room::{Looks, Outlook};
use muster_protocol::settings;
use muster_protocol::units::parse_duration;
use muster_share::probe::forecast;
use schemars::JsonSchema;
use serde::Serialize;

use super::alerts::AlertView;
use super::drill::DrillView;
use super::manifest::ManifestError;
use super::scrub::ScrubView;
use super::standing::{Shortfall, Standing};
use super::timetable::Timetable;
use super::{HeadView, Shown, age, rfc3339};
use crate::query::LeaderView;
use crate::scribe::unix_now;

/// Committed rounds that are looked through for each service's newest slices.
const ROUNDS_READ: usize = 500;

/// `{"schema":"muster.status/1", …}`
#[derive(Debug, Serialize, JsonSchema)]
pub struct StatusView {
    /// `muster.status/1`
    pub schema: &'static str,
    /// The fleet's name.
    pub fleet: String,
    /// The share's address, as whoever answers was given it.
    pub share: String,
    /// Why the share gives no answer.
    pub share_error: Option<String>,
    /// Why the bus gives no answer.
    pub bus_error: Option<String>,
    /// Who leads, and what is open; null: nobody answers.
    pub leader: Option<LeaderView>,
    /// All that count now, and who holds the epoch, as the log has it.
    pub coordinators: Vec<CoordinatorLine>,
    /// The head of the log; null: the share cannot be read.
    pub head: Option<HeadView>,
    /// Every service of the roster is in a verified round that is no older than promised; null: nobody can tell.
    pub recovery_ready: Option<bool>,
    /// Why not.
    pub reasons: Vec<String>,
    /// The newest verified round.
    pub latest: Option<Latest>,
    /// Free space on the share, where it tells.
    pub free_bytes: Option<u64>,
    /// Free space and for how long it will do, as the leader saw it last; without one, by what the newest rounds added. Null: the
    /// share does not tell.
    #[schemars(with = "Option<RoomView>")]
    pub room: Option<Outlook>,
    /// When the next round begins by itself, and whether any may; null: the share does not say.
    pub schedule: Option<Timetable>,
    /// Whether stored objects are read again, and what is damaged; null: the share does not say.
    pub scrub: Option<ScrubView>,
    /// Whether, when and how fast a round was recovered in a drill; null: the share does not say.
    pub drill: Option<DrillView>,
    /// All of the roster, sorted by name.
    pub services: Vec<ServiceLine>,
    /// What is wrong now.
    pub alerts: Vec<AlertView>,
}

/// One of `coordinators[]`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CoordinatorLine {
    /// Its name.
    pub name: String,
    /// The epoch that it holds; null: another leads.
    pub epoch: Option<u64>,
}

/// The shape of an [`Outlook`].
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "only its schema is used: the type itself is the protocol's, which knows no schemas"
)]
pub(crate) struct RoomView {
    /// Free bytes now.
    free_bytes: u64,
    /// Days until they are gone; null: they do not become fewer, or nothing tells.
    days_left: Option<u64>,
    /// `looks` (at the free space, for a day or longer), `rounds` (what the newest added), `nothing`
    basis: String,
    /// Bytes that should be free for the coming rounds, as the past ones tell.
    need_bytes: Option<u64>,
}

/// `latest`
#[derive(Debug, Serialize, JsonSchema)]
pub struct Latest {
    /// Its id.
    pub round: String,
    /// Its number.
    pub number: u64,
    /// `complete`, `partial`
    pub outcome: Option<&'static str>,
    /// When it was verified.
    pub verified: String,
    /// Seconds since then.
    pub age_secs: u64,
}

/// One of `services[]`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ServiceLine {
    /// Its name.
    pub service: String,
    /// `ok`, or why not.
    pub state: String,
    /// The newest round with a slice of it.
    pub number: Option<u64>,
    /// Its id.
    pub round: Option<String>,
    /// Seconds since it was committed.
    pub age_secs: Option<u64>,
    /// The newest verified round with a slice of it.
    pub verified_number: Option<u64>,
    /// Seconds since that was verified.
    pub verified_age_secs: Option<u64>,
    /// Bytes read from its sources in the newest round with a slice of it.
    pub source_bytes: u64,
    /// Bytes of all objects of that slice.
    pub stored_bytes: u64,
    /// Bytes that round wrote for it.
    pub added_bytes: u64,
}

impl StatusView {
    /// Adds alerts, those left out that are there already.
    pub fn tell(&mut self, alerts: impl IntoIterator<Item = AlertView>) {
        for alert in alerts {
            if self.alerts.iter().all(|known| known.id != alert.id) {
                self.alerts.push(alert);
            }
        }
    }

    /// Nothing known yet of this fleet at this share.
    #[must_use]
    pub fn unknown(fleet: String, share: String) -> Self {
        Self {
            schema: "muster.status/1",
            fleet,
            share,
            share_error: None,
            bus_error: None,
            leader: None,
            coordinators: Vec::new(),
            head: None,
            recovery_ready: None,
            reasons: Vec::new(),
            latest: None,
            free_bytes: None,
            room: None,
            schedule: None,
            scrub: None,
            drill: None,
            services: Vec::new(),
            alerts: Vec::new(),
        }
    }
}

/// Fills in what the log and its manifests say; returns the promised interval.
///
/// # Errors
/// When a manifest cannot be read or used.
pub async fn fill(shown: &Shown<'_>, view: &mut StatusView) -> Result<Option<Duration>, ManifestError> {
    let state = shown.state();
    view.fleet = shown.fleet();
    view.head = Some(shown.head());
    view.free_bytes = shown.store().free_bytes().await.ok().flatten();
    view.coordinators = coordinators(state);
    view.room = match (view.leader.as_ref().and_then(|leader| leader.room), view.free_bytes) {
        (Some(outlook), free) => Some(Outlook { free_bytes: free.unwrap_or(outlook.free_bytes), ..outlook }),
        (None, Some(free)) => Some(room(shown, free).await),
        (None, None) => None,
    };
    view.schedule = Some(Timetable::of(state, unix_now()));
    view.scrub = Some(ScrubView::of(state, unix_now()));
    let set = state.config.as_ref().and_then(|config| config.clear.get("interval")).map(String::as_str);
    let interval = set.or_else(|| settings::default_of("interval"));
    let promised = interval.and_then(|text| parse_duration(text).ok());
    let mut committed = state.rounds_by_number();
    committed.retain(|round| round.is_recoverable());
    committed.reverse();
    view.latest = committed.iter().find_map(|round| latest(round));
    let mut services: BTreeMap<ServiceName, ServiceLine> =
        state.services().into_iter().map(|service| (service.clone(), never(&service))).collect();
    for round in committed.into_iter().take(ROUNDS_READ) {
        if services.values().all(|line| line.verified_number.is_some()) {
            break;
        }
        let manifest = match shown.manifest(round).await {
            // What is damaged hides nothing else on the day when all of it is looked at.
            Err(error @ ManifestError::Damaged { .. }) => {
                let subject = format!("round {}", round.open.number);
                view.alerts.push(AlertView::new(Code::Verify02, subject, error.to_string()));
                continue;
            }
            read => read?,
        };
        if let Some(manifest) = manifest {
            for absentee in &manifest.absent {
                if let Some(line) = services.get_mut(&absentee.service).filter(|line| line.state == NEVER) {
                    line.state = format!("{} {}", absentee.code, absentee.reason);
                }
            }
            let verified = latest(round);
            for slice in &manifest.slices {
                let Some(line) = services.get_mut(&slice.service) else { continue };
                if let Some(verified) = verified.as_ref().filter(|_| line.verified_number.is_none()) {
                    line.verified_number = Some(verified.number);
                    line.verified_age_secs = Some(verified.age_secs);
                }
                if line.number.is_some() {
                    continue;
                }
                if line.state == NEVER {
                    line.state = OK.to_owned();
                }
                line.number = Some(round.open.number);
                line.round = Some(round.open.round.to_string());
                line.age_secs = round.commit().map(|commit| age(commit.at).as_secs());
                line.source_bytes = slice.totals.source_bytes;
                line.stored_bytes = slice.totals.stored_bytes;
                line.added_bytes = slice.totals.added_bytes;
            }
        }
    }
    view.services = services.into_values().collect();
    heal(state, view);
    judge(view, promised);
    let newest = view.services.iter().map(|line| line.source_bytes).sum();
    let drill = DrillView::of(state, newest, unix_now());
    if let Some(failed) = &drill.failure {
        view.recovery_ready = Some(false);
        view.reasons.push(failed.clone());
    }
    view.drill = Some(drill);
    Ok(promised)
}

/// Which services' newest verified slices rest on what is in quarantine.
fn heal(state: &State, view: &mut StatusView) {
    let commits: BTreeMap<u64, u64> = state
        .rounds
        .values()
        .filter_map(|round| Some((round.open.number, round.commit_position()?)))
        .collect();
    for line in &mut view.services {
        let of = state.quarantine.iter().find(|(service, _)| service.as_str() == line.service);
        let Some((_, of)) = of else { continue };
        let position = line.verified_number.and_then(|number| commits.get(&number));
        let healed = position.is_some_and(|position| *position > of.position);
        if !healed && line.state == OK {
            line.state = format!("{} rests on damaged objects", Code::Verify01);
        }
        let told = view.scrub.as_mut().and_then(|scrub| scrub.quarantine.get_mut(&line.service));
        if let Some(told) = told.filter(|_| healed) {
            told.healed_by = line.verified_number;
        }
    }
}

/// Whether the roster could be recovered as promised.
fn judge(view: &mut StatusView, promised: Option<Duration>) {
    let roster: Vec<_> = view
        .services
        .iter()
        .map(|line| Standing {
            service: line.service.clone(),
            stored: line.number.is_some(),
            verified: line.verified_age_secs.map(Duration::from_secs),
            damaged: line.state.starts_with(Code::Verify01.as_str()),
        })
        .collect();
    let short = Shortfall::of(&roster, promised);
    for line in &mut view.services {
        if let (Some(most), Some(age)) = (promised, line.verified_age_secs)
            && line.state == OK
            && age > most.as_secs()
        {
            line.state = format!("{} later than promised", Code::Round04);
        }
    }
    view.recovery_ready = Some(short.is_none());
    view.reasons = short.reasons();
}

/// For how long the free space will do, as far as the share alone tells: the looks of the past days are the leader's.
async fn room(shown: &Shown<'_>, free: u64) -> Outlook {
    let rounds = forecast(shown.store(), shown.state()).await.ok().flatten();
    let added = rounds.map(|rounds| rounds.added_a_day);
    Outlook::of(free, &Looks::default(), added, rounds.map(|rounds| rounds.need))
}

/// By name.
fn coordinators(state: &State) -> Vec<CoordinatorLine> {
    let counting = state.members.iter().filter(|(key, _)| state.is_coordinator(key));
    let holds = |key: &KeyId| state.epoch.filter(|epoch| epoch.holder == *key).map(|epoch| epoch.epoch);
    let mut lines: Vec<_> = counting
        .map(|(key, known)| CoordinatorLine { name: known.member.name.to_string(), epoch: holds(key) })
        .collect();
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    lines
}

const OK: &str = "ok";
const NEVER: &str = "COVER-01 no slice yet";

fn never(service: &ServiceName) -> ServiceLine {
    ServiceLine {
        service: service.to_string(),
        state: NEVER.to_owned(),
        number: None,
        round: None,
        age_secs: None,
        verified_number: None,
        verified_age_secs: None,
        source_bytes: 0,
        stored_bytes: 0,
        added_bytes: 0,
    }
}

fn latest(round: &RoundState) -> Option<Latest> {
    let RoundPhase::Committed { verified: Some(verified), .. } = &round.phase else { return None };
    Some(Latest {
        round: round.open.round.to_string(),
        number: round.open.number,
        outcome: round.outcome().map(Outcome::as_str),
        verified: rfc3339(verified.at),
        age_secs: age(verified.at).as_secs(),
    })
}
