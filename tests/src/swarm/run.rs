//! One run: a fleet is founded, its agents gather, rounds are triggered one after the other, and each is timed to its
//! commit on the share.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_bus::{Bus, Headers, NatsBus};
use muster_coordinator::config::RoundConfig;
use muster_protocol::ids::RoundId;
use muster_protocol::log::State;
use muster_protocol::message::{TriggerReply, TriggerState};
use muster_protocol::subject::{Subject, Subjects};
use muster_share::log::Log;
use tokio::time::sleep;

use super::crowd::Swarm;
use super::gauge::Gauge;
use super::report::{Report, RoundSample};
use super::stage::{Places, Stage};
use super::{Failure, baseline, monitor};

/// Between two looks at the log; what is measured is no finer.
const LOOK: Duration = Duration::from_millis(5);
/// Longest wait for a coordinator that leads, and for a round.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where.
    pub places: Places,
    /// How many agents.
    pub agents: usize,
    /// How many rounds, one after the other.
    pub rounds: usize,
    /// The program of the bare exchange; it runs before each round.
    pub baseline: Option<PathBuf>,
}

/// Runs it; `say` hears what is being done.
///
/// # Errors
/// When a step fails, or a round is not complete.
pub async fn run(plan: &Plan, say: &mut (dyn FnMut(&str) + Send)) -> Result<Report, Failure> {
    say(&format!("founding a fleet of {} agents", plan.agents));
    let mut stage = Stage::found(plan.places.clone(), plan.agents, RoundConfig::default()).await?;
    stage.start_server();
    stage.start_coordinator();
    let bus = NatsBus::connect(stage.client("bench")?).await?;
    leads(&stage).await?;
    let requests: Vec<String> = (1..=plan.rounds).map(|number| format!("round-{number}")).collect();
    let rounds: Vec<RoundId> =
        requests.iter().map(|request| RoundId::derive(&stage.fleet.id, request)).collect();
    say("writing their objects, connecting them");
    let began = Instant::now();
    let swarm = Swarm::gather(&stage, &rounds, Duration::ZERO).await?;
    let connect_secs = began.elapsed().as_secs_f64();
    let mut samples = Vec::new();
    let mut longest = (0, 0);
    for (request, round) in requests.iter().zip(&rounds) {
        let mut baseline_secs = None;
        if let Some(program) = &plan.baseline {
            say("the bare exchange");
            let (program, folder, agents) = (program.clone(), plan.places.folder.clone(), plan.agents);
            let bare = tokio::task::spawn_blocking(move || baseline::measure(&program, &folder, agents));
            baseline_secs = Some(bare.await??);
        }
        say(request);
        let (sample, manifest_bytes) = one(&stage, &bus, request, *round, baseline_secs).await?;
        samples.push(sample);
        longest = (longest.0.max(longest_record(&stage).await?), manifest_bytes);
    }
    let (streams, consumers) = monitor::kept(stage.monitor_port)?;
    let report = Report {
        schema: "muster.bench.fleet/1",
        agents: plan.agents,
        connect_secs,
        rounds: samples,
        streams,
        consumers,
        longest_record_bytes: longest.0,
        manifest_bytes: longest.1,
        unanswered: swarm.unanswered(),
    };
    for (what, times) in swarm.wrong() {
        say(&format!("{times} ×: {what}"));
    }
    swarm.dismiss().await;
    Ok(report)
}

/// One round, and the length of its manifest.
async fn one(
    stage: &Stage,
    bus: &NatsBus,
    request: &str,
    round: RoundId,
    baseline_secs: Option<f64>,
) -> Result<(RoundSample, u64), Failure> {
    let mut log = stage.log().await?;
    let ids = [
        stage.coordinator.as_ref().map(crate::process::Running::id),
        stage.nats.as_ref().and_then(crate::nats::NatsServer::id),
        Some(std::process::id()),
    ];
    let gauges = || ids.map(|id| id.map(Gauge::of).unwrap_or_default());
    let (before, traffic) = (gauges(), monitor::traffic(stage.monitor_port)?);
    let began = Instant::now();
    trigger(stage, bus, request).await?;
    let committed = |state: &State| state.rounds.get(&round).is_some_and(|round| round.commit().is_some());
    until(&mut log, "the round is committed", committed).await?;
    let committed_secs = began.elapsed().as_secs_f64();
    let (after, passed) = (gauges(), monitor::traffic(stage.monitor_port)?);
    let verified = |state: &State| state.rounds.get(&round).is_some_and(|round| round.word() == "verified");
    until(&mut log, "the round is verified", verified).await?;
    let verified_secs = began.elapsed().as_secs_f64();
    let peak = gauges()[0].peak_bytes;
    let commit = log.state().rounds.get(&round).and_then(|round| round.commit()).cloned();
    let commit = commit.ok_or("a verified round is committed")?;
    let [coordinator, server, agents] = [0, 1, 2].map(|at| after[at].since(before[at]));
    let sample = RoundSample {
        committed_secs,
        verified_secs,
        baseline_secs,
        outcome: commit.outcome.as_str().to_owned(),
        messages_in: passed.messages_in - traffic.messages_in,
        bytes_in: passed.bytes_in - traffic.bytes_in,
        messages_out: passed.messages_out - traffic.messages_out,
        coordinator: Gauge { peak_bytes: peak, ..coordinator },
        server,
        agents,
    };
    Ok((sample, commit.manifest_size))
}

/// Asks for a round, as anybody on the bus may.
///
/// # Errors
/// When nobody answers, or the round is not open then.
pub async fn trigger(stage: &Stage, bus: &NatsBus, request: &str) -> Result<(), Failure> {
    let subject = Subjects::new(&stage.fleet.name).print(&Subject::Trigger);
    let payload = Bytes::from(serde_json::to_vec(&serde_json::json!({ "request": request }))?);
    let answer = bus.request(&subject, Headers::new(), payload, Duration::from_secs(30)).await?;
    let reply: TriggerReply = serde_json::from_slice(&answer.payload)?;
    match reply.state {
        TriggerState::Opened | TriggerState::Running => Ok(()),
        TriggerState::Ended | TriggerState::Queued | TriggerState::Skipped | TriggerState::Refused => {
            Err(format!("the trigger was answered {:?}: {}", reply.state, reply.reason.unwrap_or_default())
                .into())
        }
    }
}

/// Waits until the coordinator has taken the lead.
///
/// # Errors
/// As [`until`].
pub async fn leads(stage: &Stage) -> Result<(), Failure> {
    let mut log = stage.log().await?;
    until(&mut log, "a coordinator leads", |state| state.epoch.is_some()).await
}

/// Reads the log on until it is as `is_so` wants it.
///
/// # Errors
/// When the log cannot be read, or is not so within five minutes.
pub async fn until(log: &mut Log, what: &str, is_so: impl Fn(&State) -> bool) -> Result<(), Failure> {
    let began = Instant::now();
    while !is_so(log.state()) {
        if began.elapsed() > PATIENCE {
            return Err(format!("waited {} s in vain: {what}", PATIENCE.as_secs()).into());
        }
        sleep(LOOK).await;
        log.refresh().await?;
    }
    Ok(())
}

/// The length of the longest record of the log, in bytes.
async fn longest_record(stage: &Stage) -> Result<u64, Failure> {
    use futures::StreamExt;
    use muster_share::layout::{ObjectPath, Prefix};
    use muster_share::store::Listed;
    let mut longest = 0;
    let mut listing = stage.store.list(&Prefix::Log);
    while let Some(listed) = listing.next().await {
        match listed? {
            Listed::Object { path: ObjectPath::LogRecord(_), size } => longest = longest.max(size),
            Listed::Object { .. } | Listed::Foreign { .. } => {}
        }
    }
    Ok(longest)
}
