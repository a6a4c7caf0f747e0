//! `muster once DIR`: one round of a folder's services in this process, over a bus of its own, without NATS. The same
//! coordinator and the same agents as ever run it; only the wire is shorter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_bus::{Bus, EmbeddedBus, Limits};
use muster_coordinator::config::Config as CoordinatorConfig;
use muster_coordinator::daemon::{Slots, run_on};
use muster_protocol::entropy::random;
use muster_protocol::ids::hex;
use muster_protocol::message::{Trigger, TriggerState};
use muster_protocol::subject::Subjects;
use muster_share::entropy::OsEntropy;
use muster_share::{secret_file, store};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::args::Once;
use crate::command::daemon;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::Fleet;
use crate::folder::FleetFolder;
use crate::follow::{self, Show};
use crate::leader::{self, Leader, Order};
use crate::round_view::RoundView;
use crate::sealed_files::{self, Files};
use crate::share_access;
use crate::trial;

/// Longest wait for coordinator and agents to end.
const END: Duration = Duration::from_secs(15);
/// The lease among coordinators of one process.
const LEASE: Duration = Duration::from_secs(1);
/// Longest wait for an agent of this process.
const RECRUIT: Duration = Duration::from_secs(10);
/// What the coordinator's start may take beside its wait for the lead.
const START: Duration = Duration::from_secs(60);
/// Longest test of the share, where nobody takes the lead.
const TRIAL: Duration = Duration::from_secs(15);

/// Runs it.
pub(crate) async fn run(args: Once) -> Outcome {
    let folder = FleetFolder::open(&args.dir)?;
    let show = if args.json { Show::Nothing } else { Show::People };
    // One process for all: it tells what the coordinator would, and listens nowhere.
    let (_, coordinator) = &folder.coordinators[0];
    let _telemetry = muster_telemetry::Config {
        filter: std::env::var("MUSTER_LOG_FILTER").unwrap_or_else(|_| "warn".to_owned()),
        metrics: None,
        service_name: "muster".to_owned(),
        instance: "once".to_owned(),
        ..coordinator.telemetry()
    }
    .build()
    .map_err(|error| Failure::usage(error.to_string()).caused_by(&error))?;
    let (stop, stopped) = watch::channel(false);
    let mut daemons = JoinSet::new();
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|error| Failure::new(Exit::Failed, "signals cannot be listened for").caused_by(&error))?;
    let outcome = tokio::select! {
        outcome = round(&folder, args, show, stopped, &mut daemons) => outcome,
        _ = tokio::signal::ctrl_c() => Ok(None),
        _ = terminate.recv() => Ok(None),
    };
    stop.send_replace(true);
    let ended = async { while daemons.join_next().await.is_some() {} };
    if tokio::time::timeout(END, ended).await.is_err() {
        daemons.abort_all();
    }
    match outcome? {
        Some(view) => Ok(follow::finish(&view, if show == Show::Nothing { Show::Json } else { show })),
        None => Ok(Exit::Interrupted),
    }
}

async fn round(
    folder: &FleetFolder,
    args: Once,
    show: Show,
    stopped: watch::Receiver<bool>,
    daemons: &mut JoinSet<Result<(), Failure>>,
) -> Result<Option<RoundView>, Failure> {
    let mut fleet = Fleet::of(folder.operator.clone()).await?;
    let known = fleet.state().services();
    if let Some(stranger) = args.services.iter().flatten().find(|service| !known.contains(service)) {
        let known: Vec<_> = known.iter().map(ToString::to_string).collect();
        return Err(Failure::usage(format!("--services: {stranger} is no service of {}", fleet.name()))
            .because(format!("There are {}.", known.join(", "))));
    }
    agents_belong(folder, &fleet)?;
    sealed_files::refresh_or_say(&mut fleet.log, &folder.dir, &folder.operator, &Files::new()).await;
    let name = &folder.operator.fleet.name;
    let subjects = Subjects::new(name);
    let bus: Arc<dyn Bus> =
        Arc::new(EmbeddedBus::new(leader::streams(&subjects, name.as_str())?, Limits::default()));
    let mut config = coordinator_to_run(folder, &fleet, args.force)?;
    // On the bus of this process nobody else holds a lease.
    config.lead.lease.0 = config.lead.lease.0.min(LEASE);
    if args.force {
        config.lead.takeover.0 = Duration::ZERO;
    }
    // Agents of this process are there at once, or not at all.
    config.round.recruit.0 = config.round.recruit.0.min(RECRUIT);
    let lead = config.lead.takeover.0;
    let deadline = config.round.deadline.0;
    let shared = store::open(&share_access::fill(&config.share)).await?;
    let running = run_on(config.clone(), bus.clone(), shared, Slots::Leave, stopped.clone());
    daemons.spawn(async move { running.await.map_err(daemon::coordinator) });
    for (_, config) in &folder.agents {
        let wanted = args.services.as_ref().is_none_or(|services| services.contains(&config.agent.service));
        if wanted {
            let shared = store::open(&share_access::fill(&config.share)).await?;
            let running = muster_agent::daemon::run_on(config.clone(), bus.clone(), shared, stopped.clone());
            daemons.spawn(async move { running.await.map_err(daemon::agent) });
        }
    }
    let leader = Leader::here(bus, subjects);
    let work = async {
        let trigger = Trigger {
            labels: None,
            services: args.services.clone(),
            request: Some(hex(&random::<16>(&mut OsEntropy))),
            reason: Some("once".to_owned()),
        };
        let order = match args.force {
            true => {
                let signer = secret_file::read_signing_key(&folder.operator.operator.key)?;
                Some(Order::new(
                    trigger.clone(),
                    true,
                    signer,
                    folder.operator.fleet.id,
                    Some(fleet.state()),
                )?)
            }
            false => None,
        };
        let asked = match ask(&leader, &trigger, order.as_ref(), lead * 2 + START).await {
            // The coordinator is here, in this process: what keeps it from the lead is the share.
            Err(failure) if failure.exit() == Exit::Unreachable => {
                return Err(trial::fault(fleet.log.store(), TRIAL).await.unwrap_or(failure));
            }
            asked => asked?,
        };
        // Reading everything again comes after the deadline, and takes about as long as writing it.
        follow::follow(&mut fleet, Some(&leader), asked, None, deadline * 3, show).await
    };
    tokio::select! {
        view = work => view.map(Some),
        failure = first_failure(daemons) => Err(failure),
    }
}

/// What dooms a slice before it begins is said before a round is opened.
fn agents_belong(folder: &FleetFolder, fleet: &Fleet) -> Result<(), Failure> {
    let state = fleet.state();
    for (file, config) in &folder.agents {
        let (service, file) = (&config.agent.service, file.display());
        if config.fleet.id != state.fleet || Some(config.fleet.root) != state.root {
            return Err(Failure::usage(format!(
                "{file}: [fleet] id or root is not that of {}",
                fleet.name()
            ))
            .next("copy the section from coordinator.toml"));
        }
        if Some(&config.fleet.name) != state.name.as_ref() {
            return Err(Failure::usage(format!("{file}: [fleet] name is not {}", fleet.name())));
        }
        let key = secret_file::read_signing_key(&config.agent.key)?.key_id();
        match state.agent(service) {
            Some(member) if member.key == key => {}
            _ if state.members.get(&key).is_some_and(|member| member.revoked.is_some()) => {
                let record = state.members[&key].revoked.unwrap_or_default();
                return Err(Failure::new(
                    Exit::Key,
                    format!("KEY-03: the agent of {service} in {file} was revoked by log record {record}"),
                )
                .because(
                    "A revocation is final. After a rebuild elsewhere, this folder is of no use any more.",
                )
                .next(format!(
                    "take {file} out of the folder, or: muster enroll {service} --here --replace …"
                )));
            }
            Some(_) => {
                return Err(Failure::new(
                    Exit::Key,
                    format!(
                        "KEY-03: {} is not the key of the agent of {service}",
                        config.agent.key.display()
                    ),
                )
                .because("The fleet's roster names another key for this service.")
                .next(format!("name the right key file in {file}: [agent] key")));
            }
            None => {
                return Err(Failure::usage(format!("{file}: {service} is no service of {}", fleet.name()))
                    .next(format!("muster enroll {service} --here … makes it one; or take {file} away")));
            }
        }
    }
    Ok(())
}

/// The coordinator that held the last epoch goes on at once. Any other has to wait for the lead, and does not take a
/// round from the one that leads it, unless forced.
fn coordinator_to_run(
    folder: &FleetFolder,
    fleet: &Fleet,
    force: bool,
) -> Result<CoordinatorConfig, Failure> {
    let holder = fleet.state().epoch.map(|epoch| epoch.holder);
    for (_, config) in &folder.coordinators {
        if Some(secret_file::read_signing_key(&config.coordinator.key)?.key_id()) == holder {
            return Ok(config.clone());
        }
    }
    if let Some(open) = fleet.state().open_rounds().first().filter(|_| holder.is_some() && !force) {
        return Err(Failure::new(
            Exit::Refused,
            format!("round {} is open under another coordinator", open.open.number),
        )
        .because("This folder has not that coordinator's key, and the round may still be going on.")
        .next(format!("wait for it: muster watch {}", open.open.round))
        .next("or, if that coordinator is gone: muster once DIR --force"));
    }
    let (_, config) = folder.coordinators.first().expect("a fleet's folder has at least one coordinator");
    Ok(config.clone())
}

async fn ask(
    leader: &Leader,
    trigger: &Trigger,
    forced: Option<&Order>,
    limit: Duration,
) -> Result<muster_protocol::ids::RoundId, Failure> {
    let began = Instant::now();
    loop {
        let answer = match forced {
            Some(order) => leader.start(order).await,
            None => leader.trigger(trigger).await,
        };
        match answer {
            Ok(reply) => {
                return match (reply.state, reply.round) {
                    (TriggerState::Skipped | TriggerState::Refused, _) | (_, None) => {
                        let reason = reply.reason.unwrap_or_else(|| "no reason was given".to_owned());
                        Err(Failure::new(Exit::Refused, format!("the round was refused: {reason}")))
                    }
                    (
                        TriggerState::Opened
                        | TriggerState::Running
                        | TriggerState::Ended
                        | TriggerState::Queued,
                        Some(round),
                    ) => Ok(round),
                };
            }
            // Nobody leads yet.
            Err(failure) if failure.exit() == Exit::Unreachable && began.elapsed() < limit => {
                tokio::time::sleep(leader.again).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Ends with the first daemon that cannot go on; never while all run.
async fn first_failure(daemons: &mut JoinSet<Result<(), Failure>>) -> Failure {
    loop {
        match daemons.join_next().await {
            Some(Ok(Err(failure))) => return failure,
            Some(Ok(Ok(()))) => {}
            Some(Err(error)) => {
                return Failure::new(Exit::Failed, "a part of the round has a fault")
                    .because(error.to_string());
            }
            None => return Failure::new(Exit::Failed, "coordinator and agents ended before the round did"),
        }
    }
}
