//! `muster status`: how the fleet stands. What counts comes from the share; who is there, from the leader. Either may be
//! away: the other still answers.

mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use muster_coordinator::query::LeaderView;
use muster_protocol::alert::Code;
use muster_protocol::ids::{KeyId, ServiceName};
use muster_protocol::log::{Outcome as RoundOutcome, RoundPhase, RoundState, State};
use muster_protocol::room::Outlook;
use muster_protocol::settings;
use muster_protocol::units::parse_duration;
use serde::Serialize;

use crate::alerts::{self, AlertView};
use crate::args::Reading;
use crate::coverage::{Shortfall, Standing};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::leader::Leader;
use crate::room;
use crate::round_view::HeadView;
use crate::screen;
use crate::timetable::Timetable;

/// Committed rounds that are looked through for each service's newest slices.
const ROUNDS_READ: usize = 500;

#[derive(Debug, Serialize)]
pub(crate) struct View {
    pub(crate) schema: &'static str,
    pub(crate) fleet: String,
    pub(crate) share: String,
    /// Why the share gives no answer.
    pub(crate) share_error: Option<String>,
    /// Why the bus gives no answer.
    pub(crate) bus_error: Option<String>,
    pub(crate) leader: Option<LeaderView>,
    /// All that count now, and who holds the epoch, as the log has it.
    pub(crate) coordinators: Vec<CoordinatorLine>,
    pub(crate) head: Option<HeadView>,
    /// Every service of the roster is in a verified round that is no older than promised; null: nobody can tell.
    pub(crate) recovery_ready: Option<bool>,
    /// Why not.
    pub(crate) reasons: Vec<String>,
    pub(crate) latest: Option<Latest>,
    pub(crate) free_bytes: Option<u64>,
    /// Free space and for how long it will do, as the leader saw it last; without one, by what the newest rounds added. Null: the
    /// share does not tell.
    pub(crate) room: Option<Outlook>,
    /// When the next round begins by itself, and whether any may; null: the share does not say.
    pub(crate) schedule: Option<Timetable>,
    pub(crate) services: Vec<ServiceLine>,
    pub(crate) alerts: Vec<AlertView>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Latest {
    round: String,
    number: u64,
    outcome: Option<&'static str>,
    verified: String,
    age_secs: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct CoordinatorLine {
    name: String,
    /// The epoch that it holds; null: another leads.
    epoch: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ServiceLine {
    service: String,
    /// `ok`, or why not.
    state: String,
    /// The newest round with a slice of it.
    number: Option<u64>,
    round: Option<String>,
    age_secs: Option<u64>,
    /// The newest verified round with a slice of it.
    verified_number: Option<u64>,
    verified_age_secs: Option<u64>,
    source_bytes: u64,
    stored_bytes: u64,
    added_bytes: u64,
}

/// Shows it.
pub(crate) async fn run(args: Reading) -> Outcome {
    let Gathered { view, promised, unreadable } = gather(&args).await?;
    if args.json {
        screen::json(&view);
    } else {
        words::print(&view, promised);
    }
    unreadable.map_or(Ok(Exit::Done), Err)
}

/// What there is to know.
pub(crate) struct Gathered {
    pub(crate) view: View,
    /// The promised interval.
    pub(crate) promised: Option<Duration>,
    /// Why the share could not be read.
    pub(crate) unreadable: Option<Failure>,
}

/// Asks share and leader.
///
/// # Errors
/// When no configuration is found, or the share says something wrong; not when either is away.
pub(crate) async fn gather(args: &Reading) -> Result<Gathered, Failure> {
    let (name, share, leader, operator) = match &args.share {
        Some(url) => (String::new(), url.clone(), None, None),
        None => {
            let (folder, operator) = fleet::operator_at(args.config.as_deref())?;
            let heard = match Leader::connect(&operator).await {
                Ok(leader) => match leader.leader().await {
                    // A leader of an older version keeps no alerts: then the share tells them.
                    Ok(view) => Ok((view, leader.alerts(false).await.ok())),
                    Err(failure) => Err(failure),
                },
                Err(failure) => Err(failure),
            };
            let (name, share) = (operator.fleet.name.to_string(), operator.share.url.clone());
            (name, share, Some(heard), Some((folder, operator)))
        }
    };
    let mut view = View {
        schema: "muster.status/1",
        fleet: name,
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
        services: Vec::new(),
        alerts: Vec::new(),
    };
    let mut told = None;
    match leader {
        Some(Ok((leader, alerts))) => {
            view.leader = Some(leader);
            told = alerts.map(|(alerts, _)| alerts);
        }
        Some(Err(failure)) => {
            view.alerts.push(AlertView::of(Code::Bus01, "NATS", &failure));
            view.bus_error = Some(failure.to_string());
        }
        None => {}
    }
    let own = operator.as_ref().map(|(folder, operator)| (folder.as_path(), operator));
    let (promised, unreadable) = match Fleet::open(args).await {
        Ok(fleet) => {
            view.alerts.extend(alerts::judged(own, Some(&fleet)).await?);
            if told.is_none() {
                told = Some(alerts::of_share(&fleet, false).await?.0);
            }
            (from_share(&fleet, &mut view).await?, None)
        }
        // A share that says something wrong is worse than one that says nothing.
        Err(failure) if failure.exit() != Exit::Unreachable => return Err(failure),
        Err(failure) => {
            view.alerts.extend(alerts::judged(own, None).await?);
            let code = failure.alert().unwrap_or(Code::Share01);
            view.alerts.push(AlertView::of(code, view.share.clone(), &failure));
            view.share_error = Some(failure.to_string());
            view.reasons.push("the share cannot be read".to_owned());
            (None, Some(failure))
        }
    };
    view.alerts.extend(told.iter().flatten().map(AlertView::from));
    Ok(Gathered { view, promised, unreadable })
}

/// Fills in what the share says; returns the promised interval.
async fn from_share(fleet: &Fleet, view: &mut View) -> Result<Option<Duration>, Failure> {
    let state = fleet.state();
    view.fleet = fleet.name();
    let head = fleet.log.head();
    view.head = Some(HeadView { number: head.number, hash: head.hash.to_string() });
    view.coordinators = coordinators(state);
    view.free_bytes = fleet.log.store().free_bytes().await.ok().flatten();
    view.room = match (view.leader.as_ref().and_then(|leader| leader.room), view.free_bytes) {
        (Some(outlook), free) => Some(Outlook { free_bytes: free.unwrap_or(outlook.free_bytes), ..outlook }),
        (None, Some(free)) => Some(room::here(fleet, free).await),
        (None, None) => None,
    };
    view.schedule = Some(Timetable::of(state, screen::now()));
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
        if let Some(manifest) = fleet.manifest(round).await? {
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
                line.age_secs = round.commit().map(|commit| screen::age(commit.at).as_secs());
                line.source_bytes = slice.totals.source_bytes;
                line.stored_bytes = slice.totals.stored_bytes;
                line.added_bytes = slice.totals.added_bytes;
            }
        }
    }
    view.services = services.into_values().collect();
    judge(view, promised);
    Ok(promised)
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

/// Whether the roster could be recovered as promised.
fn judge(view: &mut View, promised: Option<Duration>) {
    let roster: Vec<_> = view
        .services
        .iter()
        .map(|line| Standing {
            service: line.service.clone(),
            stored: line.number.is_some(),
            verified: line.verified_age_secs.map(Duration::from_secs),
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
        outcome: round.outcome().map(RoundOutcome::as_str),
        verified: screen::rfc3339(verified.at),
        age_secs: screen::age(verified.at).as_secs(),
    })
}
