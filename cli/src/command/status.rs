//! `muster status`: how the fleet stands. What counts comes from the share; who is there, from the leader. Either may be
//! away: the other still answers.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_coordinator::query::LeaderView;
use muster_protocol::ids::ServiceName;
use muster_protocol::log::{Outcome as RoundOutcome, RoundPhase, RoundState};
use muster_protocol::units::{format_duration, format_size, parse_duration};
use serde::Serialize;

use crate::args::Reading;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::leader::Leader;
use crate::round_view::HeadView;
use crate::screen;

/// Committed rounds that are looked through for each service's newest slice.
const ROUNDS_READ: usize = 20;

#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    fleet: String,
    share: String,
    /// Why the share gives no answer.
    share_error: Option<String>,
    /// Why the bus gives no answer.
    bus_error: Option<String>,
    leader: Option<LeaderView>,
    head: Option<HeadView>,
    recovery_ready: bool,
    latest: Option<Latest>,
    free_bytes: Option<u64>,
    services: Vec<ServiceLine>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Latest {
    round: String,
    number: u64,
    outcome: Option<&'static str>,
    verified: String,
    age_secs: u64,
}

#[derive(Debug, Serialize)]
struct ServiceLine {
    service: String,
    /// `ok`, or why not.
    state: String,
    /// The newest round with a slice of it.
    number: Option<u64>,
    round: Option<String>,
    age_secs: Option<u64>,
    source_bytes: u64,
    stored_bytes: u64,
    added_bytes: u64,
}

/// Shows it.
pub(crate) async fn run(args: Reading) -> Outcome {
    let (name, share, leader, warnings) = match &args.share {
        Some(url) => (String::new(), url.clone(), None, Vec::new()),
        None => {
            let operator = fleet::operator(args.config.as_deref())?;
            let warnings = operator.reachable_keys().into_iter().map(|path| {
                format!(
                    "KEY-02: the private key {} lies where this machine can read it: take it away",
                    path.display()
                )
            });
            let warnings = warnings.collect();
            let heard = match Leader::connect(&operator).await {
                Ok(leader) => leader.leader().await,
                Err(failure) => Err(failure),
            };
            (operator.fleet.name.to_string(), operator.share.url.clone(), Some(heard), warnings)
        }
    };
    let mut view = View {
        schema: "muster.status/1",
        fleet: name,
        share,
        share_error: None,
        bus_error: None,
        leader: None,
        head: None,
        recovery_ready: false,
        latest: None,
        free_bytes: None,
        services: Vec::new(),
        warnings,
    };
    match leader {
        Some(Ok(leader)) => view.leader = Some(leader),
        Some(Err(failure)) => view.bus_error = Some(failure.to_string()),
        None => {}
    }
    let promised = match Fleet::open(&args).await {
        Ok(fleet) => from_share(&fleet, &mut view).await?,
        // A share that says something wrong is worse than one that says nothing.
        Err(failure) if failure.exit() != Exit::Unreachable => return Err(failure),
        Err(failure) if view.leader.is_none() => return Err(failure),
        Err(failure) => {
            view.share_error = Some(failure.to_string());
            None
        }
    };
    if args.json {
        screen::json(&view);
    } else {
        print(&view, promised);
    }
    Ok(Exit::Done)
}

/// Fills in what the share says; returns the promised interval.
async fn from_share(fleet: &Fleet, view: &mut View) -> Result<Option<Duration>, Failure> {
    let state = fleet.state();
    view.fleet = fleet.name();
    let head = fleet.log.head();
    view.head = Some(HeadView { number: head.number, hash: head.hash.to_string() });
    view.free_bytes = fleet.log.store().free_bytes().await.ok().flatten();
    let interval = state.config.as_ref().and_then(|config| config.clear.get("interval"));
    let promised = interval.and_then(|text| parse_duration(text).ok());
    let mut committed = state.rounds_by_number();
    committed.retain(|round| round.is_recoverable());
    committed.reverse();
    view.latest = committed.iter().find_map(|round| latest(round));
    view.recovery_ready = view.latest.as_ref().is_some_and(|latest| {
        latest.outcome == Some("complete")
            && promised.is_none_or(|most| Duration::from_secs(latest.age_secs) <= most)
    });
    let mut services: BTreeMap<ServiceName, ServiceLine> =
        state.services().into_iter().map(|service| (service.clone(), never(&service))).collect();
    for round in committed.into_iter().take(ROUNDS_READ) {
        if services.values().all(|line| line.number.is_some()) {
            break;
        }
        if let Some(manifest) = fleet.manifest(round).await? {
            for absentee in &manifest.absent {
                if let Some(line) = services.get_mut(&absentee.service).filter(|line| line.state == NEVER) {
                    line.state = format!("{} {}", absentee.code, absentee.reason);
                }
            }
            for slice in &manifest.slices {
                let Some(line) = services.get_mut(&slice.service).filter(|line| line.number.is_none()) else {
                    continue;
                };
                if line.state == NEVER {
                    line.state = "ok".to_owned();
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
    Ok(promised)
}

const NEVER: &str = "COVER-01 no slice yet";

fn never(service: &ServiceName) -> ServiceLine {
    ServiceLine {
        service: service.to_string(),
        state: NEVER.to_owned(),
        number: None,
        round: None,
        age_secs: None,
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

fn print(view: &View, promised: Option<Duration>) {
    let leader = match &view.leader {
        Some(leader) => {
            let epoch = leader.epoch.map_or_else(|| "no epoch".to_owned(), |epoch| format!("epoch {epoch}"));
            format!(
                "leader {} ({epoch}), {} of {} agents online",
                leader.coordinator, leader.online, leader.services
            )
        }
        None => "no leader answers".to_owned(),
    };
    screen::line(format!(
        "{} · {} · share {} · {leader}",
        view.fleet,
        screen::plural(view.services.len(), "service"),
        view.share
    ));
    screen::line("");
    let age = |secs: u64| format_duration(Duration::from_secs(secs));
    let limit = promised.map_or_else(String::new, |most| format!(", promised {}", format_duration(most)));
    screen::line(match &view.latest {
        Some(latest) => format!(
            "RECOVERY-READY   {}: round {}, {}, verified {} ago{limit}",
            if view.recovery_ready { "yes" } else { "no" },
            latest.number,
            latest.outcome.unwrap_or_default(),
            age(latest.age_secs),
        ),
        None => "RECOVERY-READY   no: no round is verified yet".to_owned(),
    });
    if let Some(leader) = &view.leader {
        for round in &leader.rounds {
            screen::line(format!(
                "OPEN ROUND       {}: {}, {} of {} stored, at most {} left",
                round.number,
                round.state,
                round.stored,
                round.services,
                age(round.remaining_secs)
            ));
        }
    }
    if let Some(free) = view.free_bytes {
        screen::line(format!("SHARE            {} free", format_size(free)));
    }
    for error in view.share_error.iter().chain(&view.bus_error) {
        screen::line(error);
    }
    for warning in &view.warnings {
        screen::line(format!("warning: {warning}"));
    }
    if view.services.is_empty() {
        return;
    }
    screen::line("");
    let rows = view
        .services
        .iter()
        .map(|line| {
            vec![
                line.service.clone(),
                line.number.map_or_else(|| "-".to_owned(), |number| number.to_string()),
                line.age_secs.map_or_else(|| "-".to_owned(), age),
                format_size(line.source_bytes),
                format_size(line.added_bytes),
                format_size(line.stored_bytes),
                line.state.clone(),
            ]
        })
        .collect();
    screen::line(screen::table(&["service", "round", "age", "source", "added", "stored", "state"], rows));
}
