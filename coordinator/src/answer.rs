//! Answers to queries, read off the desk.

use std::time::Instant;

use muster_protocol::alert::{About, AlertRef, Part};
use muster_protocol::ids::{RoundId, ServiceName};
use muster_protocol::message::{MAX_MESSAGE_LEN, Stage};
use muster_protocol::round::{MemberPhase, MemberView, Phase};

use crate::desk::{Desk, Round};
use crate::ignored::Reason;
use crate::query::{
    AgentView, AgentsPage, AlertsPage, Answer, LeaderView, Query, RoundPage, RoundSummary, ServiceView,
};

/// Longest page in services: with reasons at their longest it may still outgrow a message, and is then halved.
const PAGE: usize = 32;

/// The answer to the query in `payload`, as JSON of at most [`MAX_MESSAGE_LEN`] bytes.
pub(crate) fn answer(desk: &Desk, payload: &[u8]) -> Vec<u8> {
    let query = match serde_json::from_slice::<Query>(payload) {
        Ok(query) => query,
        Err(error) => {
            desk.setting.ignored.one(Reason::Noise, About::Part(Part::Queries), &error);
            return encode(&Answer::Error { reason: format!("not a query: {error}") });
        }
    };
    let mut page = PAGE;
    loop {
        let answer = match &query {
            Query::Leader => Answer::Leader(leader(desk)),
            Query::Agents { after } => Answer::Agents(agents(desk, after.as_ref(), page)),
            Query::Alerts { closed, after } => Answer::Alerts(alerts(desk, *closed, *after, page)),
            Query::Channels { after } => Answer::Channels(desk.setting.notifier.page(after.as_ref(), page)),
            Query::Round { round, after } => match desk.rounds.get(round) {
                Some(at_desk) => Answer::Round(round_page(desk, round, at_desk, after.as_ref(), page)),
                None => Answer::Error {
                    reason: format!(
                        "round {} is not open; muster show {round} tells its story",
                        round.short()
                    ),
                },
            },
        };
        let bytes = encode(&answer);
        if bytes.len() <= MAX_MESSAGE_LEN || page == 1 {
            return bytes;
        }
        page /= 2;
    }
}

fn encode(answer: &Answer) -> Vec<u8> {
    serde_json::to_vec(answer).expect("an answer always encodes")
}

fn leader(desk: &Desk) -> LeaderView {
    let state = desk.setting.scribe.state();
    let rounds = desk.rounds.iter().filter(|(id, _)| !desk.ended.contains(id));
    LeaderView {
        coordinator: desk.setting.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        epoch: Some(desk.setting.scribe.epoch()),
        head_number: state.head.number,
        head_hash: state.head.hash.to_string(),
        services: state.services().len() as u64,
        online: desk.roll.online(desk.setting.policy.offline_after) as u64,
        rounds: rounds.map(|(id, round)| summary(desk, id, round)).collect(),
        room: desk.setting.room.outlook(),
        queued: desk.queued.len() as u64,
        ignored_messages: desk.setting.ignored.count(),
        ignored: desk.setting.ignored.by_reason(),
        open_alerts: desk.setting.alerts.read(|book| book.open().count()) as u64,
    }
}

fn summary(desk: &Desk, id: &RoundId, round: &Round) -> RoundSummary {
    let count = |of: fn(&MemberPhase) -> bool| round.machine.members().filter(|m| of(m.phase)).count() as u64;
    RoundSummary {
        round: *id,
        number: round.open.number,
        state: round.machine.phase().word().to_owned(),
        services: round.machine.members().count() as u64,
        stored: count(|phase| matches!(phase, MemberPhase::Stored(_))),
        absent: count(|phase| matches!(phase, MemberPhase::Absent(_))),
        elapsed_secs: round.took.unwrap_or_else(|| round.began.elapsed()).as_secs(),
        remaining_secs: round.took.map_or_else(|| round.machine.remaining(desk.now()).as_secs(), |_| 0),
    }
}

fn alerts(desk: &Desk, closed: bool, after: Option<AlertRef>, page: usize) -> AlertsPage {
    desk.setting.alerts.read(|book| {
        let old = book.history().filter(|_| closed);
        let wanted = book.open().chain(old).map(|alert| (alert.reference(), alert));
        let mut rest: Vec<_> = wanted.filter(|(name, _)| after.is_none_or(|after| *name > after)).collect();
        rest.sort_by_key(|(name, _)| *name);
        let next = rest.get(page - 1).filter(|_| rest.len() > page).map(|(name, _)| *name);
        let alerts = rest.into_iter().take(page).map(|(_, alert)| alert.clone()).collect();
        AlertsPage { alerts, passed_over: book.passed_over(), next }
    })
}

/// At most `page` of `names` after `after`, and the cursor of the next page.
fn paged<T>(
    sorted: Vec<T>,
    after: Option<&ServiceName>,
    page: usize,
    name: impl Fn(&T) -> &ServiceName,
) -> (Vec<T>, Option<ServiceName>) {
    let mut rest: Vec<T> =
        sorted.into_iter().filter(|item| after.is_none_or(|after| name(item) > after)).collect();
    let more = rest.len() > page;
    rest.truncate(page);
    let next = rest.last().filter(|_| more).map(|item| name(item).clone());
    (rest, next)
}

/// Whether the desk still expects something of the service in this round.
fn at_work(desk: &Desk, round: &RoundId, service: &ServiceName) -> bool {
    let round = desk.rounds.get(round).filter(|round| round.machine.wants_slices());
    round.and_then(|round| round.machine.member(service)).is_some_and(|member| !member.phase.is_settled())
}

fn agents(desk: &Desk, after: Option<&ServiceName>, page: usize) -> AgentsPage {
    let state = desk.setting.scribe.state();
    let agents: Vec<_> = state.agents().collect();
    let (agents, next) = paged(agents, after, page, |(service, _)| service);
    let limit = desk.setting.policy.offline_after;
    let view = |(service, member): (&ServiceName, &muster_protocol::log::Member)| {
        let known = desk.roll.agent(service);
        let word = match known {
            None => "never-seen",
            Some(entry) if entry.is_there(limit) => "online",
            Some(_) => "offline",
        };
        AgentView {
            service: service.clone(),
            key: member.key.to_string(),
            state: word.to_owned(),
            seen_secs: known.map(|entry| entry.seen.elapsed().as_secs()),
            version: known.and_then(|entry| entry.version.clone()),
            round: known.and_then(|entry| entry.round).filter(|round| at_work(desk, round, service)),
        }
    };
    AgentsPage { agents: agents.into_iter().map(view).collect(), next }
}

fn round_page(
    desk: &Desk,
    id: &RoundId,
    round: &Round,
    after: Option<&ServiceName>,
    page: usize,
) -> RoundPage {
    let (members, next) = paged(round.machine.members().collect(), after, page, |m| m.service);
    let (outcome, verified) = match round.machine.phase() {
        Phase::Ended { outcome, verified } => (Some(outcome.as_str().to_owned()), *verified),
        Phase::Verifying { outcome } | Phase::Confirming { outcome, .. } => {
            (Some(outcome.as_str().to_owned()), false)
        }
        Phase::Opening
        | Phase::Gathering
        | Phase::Capturing
        | Phase::Writing
        | Phase::Committing { .. }
        | Phase::Ending { .. } => (None, false),
    };
    RoundPage {
        summary: summary(desk, id, round),
        outcome,
        verified,
        services: members.into_iter().map(|member| service(desk, id, &member)).collect(),
        next,
    }
}

fn service(desk: &Desk, id: &RoundId, member: &MemberView<'_>) -> ServiceView {
    let progress =
        desk.roll.agent(member.service).and_then(|entry| entry.progress.as_ref()).filter(|p| p.round == *id);
    let at_work = match member.phase {
        MemberPhase::Working | MemberPhase::Holding => progress,
        MemberPhase::Queued
        | MemberPhase::Waiting
        | MemberPhase::Checking { .. }
        | MemberPhase::BackingOff { .. }
        | MemberPhase::Stored(_)
        | MemberPhase::Absent(_) => None,
    };
    let (pace, now) = (desk.roll.agent(member.service).map(|entry| entry.pace), Instant::now());
    let pace = pace.filter(|_| at_work.is_some());
    // To quiesce may take long, with a cut or without: until it captures, the service is held.
    let state = match at_work.map(|progress| progress.stage) {
        Some(Stage::Holding) => MemberPhase::Holding.word(),
        Some(Stage::Capturing | Stage::Uploading) | None => member.phase.word(),
    };
    let mut view = ServiceView {
        service: member.service.clone(),
        state: state.to_owned(),
        attempts: member.attempt,
        reason: None,
        source_bytes: progress.map_or(0, |p| p.done_bytes),
        expected_bytes: progress.and_then(|p| p.expected_bytes),
        added_bytes: progress.map_or(0, |p| p.added_bytes),
        stored_bytes: None,
        stage: at_work.map(|progress| progress.stage.word().to_owned()),
        bytes_per_sec: pace.and_then(|pace| pace.bytes_per_sec(now)),
        secs_left: pace.and_then(|pace| pace.secs_left(progress.and_then(|p| p.expected_bytes), now)),
    };
    if let Some(slice) = member.phase.slice() {
        view.source_bytes = slice.totals.source_bytes;
        view.added_bytes = slice.totals.added_bytes;
        view.stored_bytes = Some(slice.totals.stored_bytes);
    }
    view.reason = member.phase.failure().map(|failure| format!("{} {}", failure.code, failure.reason));
    view
}
