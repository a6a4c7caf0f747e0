//! What is looked at, one function for each part of a fleet.

use std::path::Path;
use std::time::Duration;

use muster_coordinator::query::{AgentView, ChannelView};
use muster_protocol::alert::{Code, Severity};
use muster_protocol::config::BusConfig;
use muster_protocol::time::UnixMillis;
use muster_protocol::units::{format_duration, format_size};
use muster_share::probe::{self, Terms, Verdict};
use muster_share::secret_file;

use crate::alerts::AlertView;
use crate::command::status;
use crate::failure::Failure;
use crate::finding::Finding;
use crate::fleet::{Fleet, open_store};
use crate::folder;
use crate::leader::Leader;
use crate::operator::Operator;
use crate::screen;

/// Below this, in bytes, a disk that holds state is called low.
const LOW: u64 = 1 << 30;
/// Alerts that are told one by one.
const TOLD: usize = 20;
/// Agents that are named, of those that are away or of another version.
const NAMED: usize = 5;

/// What takes `operator.toml`, and why.
const UNSEEN: [(&str, &str); 6] = [
    ("keys", "operator.toml names the operator's key, and where the kit lay"),
    ("bus", "operator.toml names the NATS server, and the key that signs on there"),
    ("agents", "the leader tells who is online, and is asked over the bus"),
    ("share", "operator.toml names the share, and the fleet and root key that it is held to"),
    ("rounds", "they are read from the share"),
    ("alerts", "they are read from the share, or told by the leader"),
];

/// This machine: the folder's files, keys and disk.
pub(super) fn local(folder: &Path, operator: &Operator) -> Vec<Finding> {
    let mut findings = vec![configuration(folder)];
    let wrong = keys(folder, operator);
    if wrong.is_empty() {
        findings
            .push(Finding::good("keys", "every key file that the folder's configurations name can be used"));
    }
    findings.extend(wrong.into_iter().map(|why| {
        Finding::new("keys", Verdict::Bad, why).with_step(
            "bring the file back from a copy; or muster enroll NAME --replace --root PATH makes new ones",
        )
    }));
    if operator.reachable_keys(folder).is_empty() {
        findings.push(Finding::good("keys", "no private recovery or root key lies on this machine"));
    }
    findings.push(disk(folder));
    findings
}

/// What the folder tells by itself, without the operator's own file; and what nobody could look at without that.
pub(super) fn around(folder: &Path) -> Vec<Finding> {
    let others = configuration(folder);
    let others = (others.verdict > Verdict::Good).then_some(others);
    let unseen = UNSEEN.map(|(check, why)| {
        Finding::new(check, Verdict::Warning, format!("not looked at: {why}"))
            .with_step("mend operator.toml, then: muster doctor")
    });
    others.into_iter().chain([disk(folder)]).chain(unseen).collect()
}

/// What is wrong with the key files that the folder's configurations name.
fn keys(folder: &Path, operator: &Operator) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut note = |result: Result<(), secret_file::SecretFileError>| {
        wrong.extend(result.err().map(|error| error.to_string()));
    };
    let bus = |nats: &BusConfig, note: &mut dyn FnMut(Result<(), secret_file::SecretFileError>)| {
        if !nats.nkey.as_os_str().is_empty() {
            note(secret_file::read(&nats.nkey).map(drop));
        }
    };
    note(secret_file::read_signing_key(&operator.operator.key).map(drop));
    bus(&operator.nats, &mut note);
    for file in folder::files(folder, "coordinator").unwrap_or_default() {
        let Ok(config) = muster_coordinator::config::Config::load(&file) else { continue };
        note(secret_file::read_signing_key(&config.coordinator.key).map(drop));
        if !config.coordinator.sealing_key.as_os_str().is_empty() {
            note(secret_file::read_identities(&config.coordinator.sealing_key).map(drop));
        }
        bus(&config.nats, &mut note);
    }
    for file in folder::files(&folder.join("agents"), "").unwrap_or_default() {
        let Ok(config) = muster_agent::config::Config::load(&file) else { continue };
        note(secret_file::read_signing_key(&config.agent.key).map(drop));
        note(secret_file::read_identities(&config.agent.sealing_key).map(drop));
        note(secret_file::read_hex_key(&config.agent.chunk_key).map(drop));
        bus(&config.nats, &mut note);
    }
    wrong.dedup();
    wrong
}

/// What a command could not do, as a finding.
pub(super) fn failed(check: &str, failure: &Failure) -> Finding {
    let code = failure.alert();
    // The code stands before the sentence anyway.
    let bare = code.and_then(|code| failure.what().strip_prefix(code.as_str())?.strip_prefix(": "));
    let finding = Finding::new(check, Verdict::Bad, bare.unwrap_or(failure.what())).with_code(code);
    if failure.steps().is_empty() { finding } else { Finding { steps: failure.steps().to_vec(), ..finding } }
}

/// Whether all files of the folder are what their programs take.
fn configuration(folder: &Path) -> Finding {
    let load = |prefix: &str, below: &str, check: &dyn Fn(&Path) -> Result<(), String>| {
        let files = folder::files(&folder.join(below), prefix).unwrap_or_default();
        let wrong = files.iter().find_map(|file| check(file).err());
        (files.len(), wrong)
    };
    let coordinator = |file: &Path| {
        muster_coordinator::config::Config::load(file).map(drop).map_err(|error| error.to_string())
    };
    let agent =
        |file: &Path| muster_agent::config::Config::load(file).map(drop).map_err(|error| error.to_string());
    let (coordinators, first) = load("coordinator", "", &coordinator);
    let (agents, second) = load("", "agents", &agent);
    match first.or(second) {
        Some(why) => Finding::new("configuration", Verdict::Bad, why)
            .with_step("mend the file; every key is explained in it"),
        None => Finding::good(
            "configuration",
            format!(
                "operator.toml, {} and {} of this folder can be used",
                screen::plural(coordinators, "coordinator"),
                screen::plural(agents, "agent")
            ),
        ),
    }
}

fn disk(folder: &Path) -> Finding {
    match rustix::fs::statvfs(folder) {
        Ok(room) => {
            let free = room.f_bavail.saturating_mul(room.f_frsize);
            let said = format!("{} free where this folder lies", format_size(free));
            let verdict = if free < LOW { Verdict::Warning } else { Verdict::Good };
            Finding::new("disk", verdict, said).with_code((free < LOW).then_some(Code::Agent04))
        }
        Err(error) => Finding::new("disk", Verdict::Warning, format!("nobody can tell: {error}")),
    }
}

/// The bus, as `status` found it.
pub(super) fn bus(view: &status::View) -> Vec<Finding> {
    let Some(leader) = &view.leader else {
        // Why stands among the alerts.
        return Vec::new();
    };
    let own = env!("CARGO_PKG_VERSION");
    let mut findings = vec![Finding::good(
        "bus",
        format!(
            "coordinator {} leads{}",
            leader.coordinator,
            leader.epoch.map_or_else(String::new, |epoch| format!(" in epoch {epoch}"))
        ),
    )];
    if leader.version != own {
        let said = format!("the coordinator is version {}, this is version {own}", leader.version);
        findings.push(Finding::new("versions", Verdict::Warning, said).with_code(Some(Code::Agent05)));
    }
    if leader.ignored_messages > 0 {
        let reasons: Vec<_> =
            leader.ignored.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let said = format!("{} messages were ignored: {}", leader.ignored_messages, reasons.join(", "));
        findings.push(
            Finding::new("bus", Verdict::Warning, said)
                .with_step("docs/alerts.md, Bad input, says what each reason means"),
        );
    }
    findings
}

/// Who is there, by the leader's roll.
pub(super) async fn agents(operator: &Operator, findings: &mut Vec<Finding>) -> Vec<AgentView> {
    let asked = async { Leader::connect(operator).await?.agents().await };
    let agents = match asked.await {
        Ok(agents) => agents,
        Err(failure) => {
            findings.push(failed("agents", &failure));
            return Vec::new();
        }
    };
    let some = |which: &dyn Fn(&&AgentView) -> bool| {
        let names: Vec<_> = agents.iter().filter(which).map(|agent| agent.service.to_string()).collect();
        let more = names.len().saturating_sub(NAMED);
        let mut said = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        if more > 0 {
            said.push_str(&format!(" and {more} more"));
        }
        (names.len(), said)
    };
    let (away, names) = some(&|agent| agent.state != "online");
    findings.push(if away == 0 {
        Finding::good("agents", format!("all {} are online", agents.len()))
    } else {
        let said = format!("{away} of {} are not online: {names}", agents.len());
        Finding::new("agents", Verdict::Bad, said).with_code(Some(Code::Agent01))
    });
    let own = env!("CARGO_PKG_VERSION");
    let (other, names) = some(&|agent| agent.version.as_deref().is_some_and(|version| version != own));
    if other > 0 {
        let said = format!("{other} run another version than {own}: {names}");
        findings.push(Finding::new("versions", Verdict::Warning, said).with_code(Some(Code::Agent05)));
    }
    agents
}

/// How people are told of alerts, and whether it arrives.
pub(super) async fn channels(operator: &Operator, findings: &mut Vec<Finding>) {
    let asked = async { Leader::connect(operator).await?.channels().await };
    let channels = match asked.await {
        Ok(channels) => channels,
        Err(failure) => return findings.push(failed("notifications", &failure)),
    };
    if channels.is_empty() {
        let said = "nobody is told of alerts: coordinator.toml has no [[notify]]";
        return findings.push(Finding::good("notifications", said));
    }
    findings.extend(channels.iter().map(channel));
}

fn channel(view: &ChannelView) -> Finding {
    let ChannelView { channel, kind, place, state, last_success, last_failure, reason, .. } = view;
    let last = |word: &str, at: &Option<UnixMillis>| {
        at.map(|at| format!(", {word} {}", screen::time(at))).unwrap_or_default()
    };
    let (arrived, not) = (last("last delivery", last_success), last("last failure", last_failure));
    let why = reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let said = format!("{channel} ({kind}, {place}) is {state}{arrived}{not}{why}");
    match state.as_str() {
        "failing" => Finding::new("notifications", Verdict::Warning, said).with_code(Some(Code::Notify01)),
        "untried" => Finding::good("notifications", said).with_step("muster notify test"),
        // What a withheld ping is about is said of the rounds.
        _ => Finding::good("notifications", said),
    }
}

/// The share, used as a round would use it.
pub(super) async fn share(operator: &Operator, findings: &mut Vec<Finding>) {
    let opened = async {
        let fleet = Fleet::of(operator.clone()).await?;
        let store = open_store(&operator.share).await?;
        let forecast = probe::forecast(store.as_ref(), fleet.state()).await?;
        let terms = Terms { sample: 0, coordinators: fleet.state().coordinators(), forecast };
        let report = probe::probe(&store, &terms).await;
        Ok::<_, Failure>((fleet, report))
    };
    let (fleet, report) = match opened.await {
        Ok(opened) => opened,
        Err(failure) => {
            return findings.push(failed("share", &failure));
        }
    };
    findings.extend(report.findings.iter().map(Finding::from).map(|found| {
        let check = format!("share {}", found.check);
        Finding { check, ..found }
    }));
    let head = fleet.log.head();
    findings.push(Finding::good("log", format!("{head}, every record accounted for")));
}

/// Whether the fleet could be recovered.
pub(super) fn rounds(view: &status::View, promised: Option<Duration>) -> Vec<Finding> {
    let promised = promised.map_or_else(String::new, |most| format!(", promised {}", format_duration(most)));
    let ready = match view.recovery_ready {
        Some(true) => {
            let said = format!("every service is in a verified round that is young enough{promised}");
            match odd(&view.alerts) {
                None => Finding::good("rounds", said),
                Some(odd) => Finding::new("rounds", Verdict::Warning, format!("{said}; {odd}"))
                    .with_code(Some(Code::Round06)),
            }
        }
        Some(false) => {
            let said = format!("not ready for a recovery: {}{promised}", view.reasons.join("; "));
            let drill = view.drill.as_ref().is_some_and(|drill| drill.failure.is_some());
            let code = if drill && view.reasons.len() == 1 { Code::Drill01 } else { Code::Round04 };
            Finding::new("rounds", Verdict::Bad, said).with_code(Some(code))
        }
        // Said of the share already.
        None => return Vec::new(),
    };
    vec![ready]
}

/// Which services' rounds are not like those before them: what is young enough may still hold too little.
fn odd(alerts: &[AlertView]) -> Option<String> {
    let odd = alerts.iter().filter(|alert| alert.open && alert.code == Code::Round06.as_str());
    let odd: Vec<&str> = odd.map(|alert| alert.subject.as_str()).collect();
    let named = odd.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    let more = odd.len().saturating_sub(NAMED);
    match (odd.len(), more) {
        (0, _) => None,
        (1, _) => Some(format!("that of {named} is not like those before it")),
        (_, 0) => Some(format!("those of {named} are not like those before them")),
        (_, more) => Some(format!("those of {named} and {more} more are not like those before them")),
    }
}

/// What is open. Of very many only some are told one by one.
pub(super) fn alerts(alerts: &[AlertView]) -> Vec<Finding> {
    let mut findings: Vec<_> = alerts.iter().take(TOLD).map(alert).collect();
    if alerts.len() > TOLD {
        let worst = alerts.iter().skip(TOLD).map(|alert| verdict(alert.severity)).max();
        let more = alerts.len() - TOLD;
        let finding = Finding::new(
            "alert",
            worst.unwrap_or(Verdict::Warning),
            format!("{} more are open", screen::plural(more, "alert")),
        );
        findings.push(finding.with_step("muster alerts"));
    }
    findings
}

fn verdict(severity: Severity) -> Verdict {
    match severity {
        Severity::Warning => Verdict::Warning,
        Severity::Error | Severity::Critical => Verdict::Bad,
    }
}

fn alert(alert: &AlertView) -> Finding {
    let code = alert.code.parse().ok();
    let said = format!("{}: {}", alert.subject, alert.cause);
    Finding {
        steps: alert.steps.clone(),
        ..Finding::new("alert", verdict(alert.severity), said).with_code(code)
    }
}

#[cfg(test)]
mod tests {
    use muster_protocol::alert::Code;

    use super::odd;
    use crate::alerts::AlertView;

    #[test]
    fn services_that_are_not_like_before_are_named() {
        let of = |services: &[&str]| {
            let alerts: Vec<_> =
                services.iter().map(|name| AlertView::new(Code::Round06, *name, "odd")).collect();
            odd(&alerts)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(odd(&[AlertView::new(Code::Agent01, "dns", "offline")]), None);
        let closed = AlertView { open: false, ..AlertView::new(Code::Round06, "dns", "odd") };
        assert_eq!(odd(&[closed]), None);
        let said = |services| of(services).expect("some");
        assert_eq!(said(&["dns"]), "that of dns is not like those before it");
        assert_eq!(said(&["dns", "web"]), "those of dns, web are not like those before them");
        assert!(
            said(&["a", "b", "c", "d", "e", "f", "g"]).starts_with("those of a, b, c, d, e and 2 more are")
        );
    }
}
