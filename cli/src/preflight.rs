//! The preflight of `muster enable`: everything that a scheduled round needs is tried before anybody relies on it.
//!
//! Changes nothing. Each line says what was looked at and what was found; one that is bad keeps the fleet from being enabled.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_coordinator::query::AgentView;
use muster_protocol::alert::Code;
use muster_protocol::ids::ServiceName;
use muster_protocol::log::State;
use muster_protocol::prune::Terms as Retention;
use muster_protocol::schedule::Plan;
use muster_protocol::service_policy::{Expected, ServicePolicies};
use muster_protocol::settings;
use muster_protocol::units::{counted, format_duration, parse_duration};
use muster_share::probe::{self, Terms, Verdict};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::finding::Finding;
use crate::fleet::Fleet;
use crate::leader::Leader;
use crate::operator::Operator;
use crate::{proof, screen, timetable};

/// How long agents may take to be heard of: longer than they are silent between two heartbeats.
const AGENTS: Duration = Duration::from_secs(20);
/// Wait before the leader is asked for its agents again.
const AGAIN: Duration = Duration::from_millis(500);
/// Slots of the schedule that are compared with the promise.
const LOOKED_AT: usize = 60;
/// Services that a line names.
const NAMED: usize = 5;

/// What was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Of `settings`, `schedule`, `recipients`, `share`, `bus`, `agents`.
    pub(crate) finding: Finding,
    /// How the command ends if it is bad.
    pub(crate) exit: Exit,
}

impl Found {
    fn new(check: &str, verdict: Verdict, said: impl Into<String>) -> Self {
        Self { finding: Finding::new(check, verdict, said), exit: Exit::Failed }
    }

    fn good(check: &str, said: impl Into<String>) -> Self {
        Self::new(check, Verdict::Good, said)
    }

    fn bad(check: &str, exit: Exit, said: impl Into<String>) -> Self {
        Self { exit, ..Self::new(check, Verdict::Bad, said) }
    }

    fn with_code(self, code: Code) -> Self {
        Self { finding: self.finding.with_code(Some(code)), ..self }
    }

    /// The same with steps of its own.
    fn with_steps(mut self, steps: Vec<String>) -> Self {
        self.finding.steps = steps;
        self
    }
}

/// Looks at everything. `clear` are the settings as they would be.
pub(crate) async fn run(operator: &Operator, fleet: &Fleet, clear: &BTreeMap<String, String>) -> Vec<Found> {
    let mut found = vec![of_settings(clear)];
    found.extend(of_promise(clear));
    found.extend(of_recipients(operator, fleet.state()));
    found.extend(of_share(fleet).await);
    match of_bus(operator).await {
        Ok((leader, line)) => {
            found.push(line);
            found.extend(of_agents(&leader, fleet.state(), clear).await);
        }
        Err(failure) => found.push(Found::bad("bus", failure.exit(), failure.what()).with_code(Code::Bus01)),
    }
    found
}

fn of_settings(clear: &BTreeMap<String, String>) -> Found {
    if let Err(error) = settings::check_all(clear) {
        return Found::bad("settings", Exit::Usage, error.to_string());
    }
    match Retention::of(clear) {
        Err(error) => Found::bad("settings", Exit::Usage, error.to_string()),
        Ok(_) => {
            let of = |key| timetable::value(clear, key);
            let (schedule, zone) = (of("schedule"), of("schedule.zone"));
            let (promised, days, least) =
                (of("interval"), of("retention.keep_days"), of("retention.min_verified"));
            Found::good(
                "settings",
                format!(
                    "schedule {schedule} ({zone}), promised {promised}; kept {} and {} at least",
                    counted(days.parse().unwrap_or(0), "day"),
                    counted(least.parse().unwrap_or(0), "round")
                ),
            )
        }
    }
}

/// A schedule whose rounds are further apart than what is promised: the promise will be broken.
fn of_promise(clear: &BTreeMap<String, String>) -> Option<Found> {
    let plan = Plan::of(clear).ok().flatten()?;
    let promised = parse_duration(timetable::value(clear, "interval")).ok()?;
    let mut slots = std::iter::successors(plan.next(screen::now()), |slot| plan.next(*slot)).take(LOOKED_AT);
    let mut before = slots.next()?;
    let longest = slots
        .map(|slot| slot.0.saturating_sub(std::mem::replace(&mut before, slot).0))
        .filter_map(|millis| u64::try_from(millis).ok())
        .max()?;
    let longest = Duration::from_millis(longest);
    (longest > promised).then(|| {
        let (longest, promised) = (format_duration(longest), format_duration(promised));
        let said = format!(
            "up to {longest} lie between two rounds, and a verified one is promised every {promised}"
        );
        let step = "muster config set interval DURATION, or a schedule with more rounds".to_owned();
        Found::new("schedule", Verdict::Warning, said).with_code(Code::Round04).with_steps(vec![step])
    })
}

fn of_recipients(operator: &Operator, state: &State) -> Vec<Found> {
    let keys = state.recipients().len();
    if keys == 0 {
        let said = "the fleet has no recovery key to seal to";
        return vec![Found::bad("recipients", Exit::Key, said).with_code(Code::Key01)];
    }
    let mut found = vec![Found::good("recipients", screen::plural(keys, "recovery key"))];
    let unproven = proof::alerts(operator, state);
    found.extend(unproven.into_iter().map(|alert| {
        let said = format!("{}: {}", alert.subject, alert.cause);
        Found::new("recipients", Verdict::Warning, said).with_code(Code::Key02).with_steps(alert.steps)
    }));
    found
}

async fn of_share(fleet: &Fleet) -> Vec<Found> {
    let (store, state) = (fleet.log.store(), fleet.state());
    let forecast = match probe::forecast(store.as_ref(), state).await {
        Ok(forecast) => forecast,
        Err(error) => {
            let failure = Failure::from(error);
            return vec![Found::bad("share", failure.exit(), failure.what())];
        }
    };
    let terms = Terms { sample: 0, coordinators: state.coordinators(), forecast };
    let report = probe::probe(store, &terms).await;
    let told = report.findings.iter().filter(|finding| finding.verdict != Verdict::Good);
    let mut found: Vec<_> = told
        .map(|finding| {
            let exit = match finding.code {
                Some(Code::Share01) => Exit::Unreachable,
                Some(Code::Share08) => Exit::Refused,
                Some(_) | None => Exit::Failed,
            };
            let line = Found { exit, ..Found::new("share", finding.verdict, finding.said.clone()) };
            match finding.code {
                Some(code) => line.with_code(code),
                None => line,
            }
        })
        .collect();
    if report.verdict() != Verdict::Bad {
        let tests = screen::plural(report.findings.len(), "test");
        found.insert(0, Found::good("share", format!("{tests}: rounds can use it")));
    }
    found
}

async fn of_bus(operator: &Operator) -> Result<(Leader, Found), Failure> {
    let leader = Leader::connect(operator).await?;
    let view = leader.leader().await?;
    let said = format!("{} leads, and answers", view.coordinator);
    Ok((leader, Found::good("bus", said)))
}

/// Every agent that is always expected must be there. A leader that has just begun has not heard of all of them yet.
async fn of_agents(leader: &Leader, state: &State, clear: &BTreeMap<String, String>) -> Vec<Found> {
    let policies = ServicePolicies::of(clear);
    let began = Instant::now();
    loop {
        let agents = match leader.agents().await {
            Ok(agents) => agents,
            Err(failure) => {
                return vec![Found::bad("agents", failure.exit(), failure.what()).with_code(Code::Bus01)];
            }
        };
        let missing = missing(state, &agents);
        if !missing.is_empty() && began.elapsed() < AGENTS {
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        return judged(state, &policies, missing);
    }
}

fn missing(state: &State, agents: &[AgentView]) -> Vec<ServiceName> {
    let online = |service: &ServiceName| agents.iter().any(|a| a.service == *service && a.state == "online");
    state.services().into_iter().filter(|service| !online(service)).collect()
}

fn judged(state: &State, policies: &ServicePolicies, missing: Vec<ServiceName>) -> Vec<Found> {
    let services = state.services().len();
    if services == 0 {
        let said = "there is no service to back up";
        let steps = vec!["muster enroll NAME".to_owned()];
        return vec![Found::bad("agents", Exit::Failed, said).with_steps(steps)];
    }
    let needed = |service: &ServiceName| {
        let policy = policies.policy(service);
        policy.required && policy.expected == Expected::Always
    };
    let (needed, others): (Vec<_>, Vec<_>) = missing.into_iter().partition(needed);
    let silent = |services: &[ServiceName]| format!("nothing is heard of {}", names(services));
    let mut found = Vec::new();
    if needed.is_empty() {
        let there = services - others.len();
        found.push(Found::good("agents", format!("{there} of {services} are there")));
    } else {
        found.push(Found::bad("agents", Exit::Failed, silent(&needed)).with_code(Code::Agent01));
    }
    if !others.is_empty() {
        let said = format!("{}, which may be away", silent(&others));
        found.push(Found::new("agents", Verdict::Warning, said));
    }
    found
}

fn names(services: &[ServiceName]) -> String {
    let mut names: Vec<_> = services.iter().take(NAMED).map(ToString::to_string).collect();
    if services.len() > NAMED {
        names.push(format!("{} more", services.len() - NAMED));
    }
    names.join(", ")
}
