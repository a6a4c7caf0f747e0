//! `alerts[]` as `alerts` and `status` show them: what is wrong, by stable code, with what to do. Both show the same: the
//! leader's book, or what the share tells while none answers, and what only the operator's machine can judge.

use std::path::Path;

use muster_coordinator::alerts::from_share;
use muster_protocol::alert::{About, Alert, AlertId, ClosedBy, Code, Severity};
use muster_protocol::log::{RoundPhase, State};
use muster_share::log::refusals;
use muster_share::secret_file;
use serde::Serialize;

use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::operator::Operator;
use crate::{proof, screen};

/// One of `alerts[]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct AlertView {
    /// The same for every opening of it.
    pub(crate) id: String,
    pub(crate) code: &'static str,
    pub(crate) severity: Severity,
    /// The service, the round, the path or the address that it is about.
    pub(crate) subject: String,
    pub(crate) cause: String,
    pub(crate) steps: Vec<String>,
    pub(crate) open: bool,
    /// When it opened; null: it was judged just now, and nobody kept since when.
    pub(crate) since: Option<String>,
    /// When it was last told.
    pub(crate) last: Option<String>,
    /// When it closed.
    pub(crate) closed: Option<String>,
    /// How often it was told.
    pub(crate) count: u64,
    /// The operator who knows of it.
    pub(crate) acknowledged_by: Option<String>,
    /// Since when.
    pub(crate) acknowledged: Option<String>,
    /// What closed it: `"mended"`, `{"round": number}`, `"acknowledgement"`, `"quiet"`, `"gone"`.
    pub(crate) closed_by: Option<ClosedBy>,
}

impl AlertView {
    /// What `code` says of `subject`.
    pub(crate) fn new(code: Code, subject: impl Into<String>, cause: impl Into<String>) -> Self {
        let (subject, cause) = (subject.into(), cause.into());
        // Some causes are the failures of commands, which begin with their code.
        let bare = cause.strip_prefix(code.as_str()).and_then(|rest| rest.strip_prefix(": "));
        let cause = bare.map(str::to_owned).unwrap_or(cause);
        // Steps that are about a service name it.
        let steps = code.steps().iter().map(|step| step.replace("NAME", &subject)).collect();
        Self {
            id: AlertId::of(code, &subject).to_string(),
            code: code.as_str(),
            severity: code.severity(),
            subject,
            cause,
            steps,
            open: true,
            since: None,
            last: None,
            closed: None,
            count: 1,
            acknowledged_by: None,
            acknowledged: None,
            closed_by: None,
        }
    }

    /// The same with steps of its own, where those of the code are about another case of it.
    pub(crate) fn with_steps(self, steps: &[&str]) -> Self {
        Self { steps: steps.iter().map(|step| (*step).to_owned()).collect(), ..self }
    }

    /// The same with what a command that failed says to do.
    pub(crate) fn of(code: Code, subject: impl Into<String>, failure: &Failure) -> Self {
        let alert = Self::new(code, subject, failure.what());
        if failure.steps().is_empty() { alert } else { Self { steps: failure.steps().to_vec(), ..alert } }
    }

    /// How bad it is, as JSON says it.
    pub(crate) fn severity_word(&self) -> String {
        self.severity.as_str().to_owned()
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        format!("{} {}: {}", self.code, self.subject, self.cause)
    }
}

impl From<&Alert> for AlertView {
    fn from(alert: &Alert) -> Self {
        let mut view = Self::new(alert.code, alert.about.to_string(), alert.cause.clone());
        match &alert.about {
            About::Service(_) => {}
            // No service to name: the step keeps its placeholder.
            About::Round(_) | About::Key(_) | About::Part(_) | About::Channel(_) => {
                view.steps = alert.code.steps().iter().map(|step| (*step).to_owned()).collect();
            }
        }
        view.open = alert.closed.is_none();
        view.since = Some(screen::rfc3339(alert.since));
        view.last = Some(screen::rfc3339(alert.last));
        view.closed = alert.closed.map(screen::rfc3339);
        view.count = alert.count;
        view.acknowledged = alert.acknowledged.as_ref().map(|seen| screen::rfc3339(seen.at));
        view.closed_by = alert.closed_by;
        view.acknowledged_by = alert.acknowledged.as_ref().map(|seen| seen.by.to_string());
        view
    }
}

/// What rounds tell, read off the share; `closed`: also what is over. Then how many findings found no place.
///
/// # Errors
/// When the share fails.
pub(crate) async fn of_share(fleet: &Fleet, closed: bool) -> Result<(Vec<Alert>, u64), Failure> {
    let book = from_share(fleet.log.store().as_ref(), fleet.state()).await?;
    let old = book.history().filter(|_| closed);
    Ok((book.open().chain(old).cloned().collect(), book.passed_over()))
}

/// What is judged here and now, and in no book: private keys within reach, recovery keys that nobody proved, this operator's
/// own standing, and records of the log that were refused since the newest commit.
///
/// # Errors
/// When the share fails.
pub(crate) async fn judged(
    operator: Option<(&Path, &Operator)>,
    fleet: Option<&Fleet>,
) -> Result<Vec<AlertView>, Failure> {
    let mut alerts = Vec::new();
    if let Some((folder, operator)) = operator {
        let cause = "the private key lies where this machine can read it: take it away";
        let keys = operator.reachable_keys(folder).into_iter();
        alerts.extend(keys.map(|path| AlertView::new(Code::Key02, path.display().to_string(), cause)));
    }
    let Some(fleet) = fleet else { return Ok(alerts) };
    if let Some((_, operator)) = operator {
        alerts.extend(proof::alerts(operator, fleet.state()));
        alerts.extend(revoked(operator, fleet.state()));
    }
    // What was refused before the newest commit did not keep it from coming about; `verify` goes on telling of it.
    let since = fleet.state().newest_recoverable().map_or(0, |round| match &round.phase {
        RoundPhase::Committed { position, .. } => *position,
        RoundPhase::Open | RoundPhase::Ended(_) => round.position,
    });
    for refusal in refusals(fleet.log.store().as_ref(), fleet.state(), &fleet.log.above(), since).await? {
        let subject = format!("log record {}", refusal.number);
        alerts.push(AlertView::new(refusal.code, subject, refusal.why));
    }
    Ok(alerts)
}

/// Whoever was revoked, by a rebuild elsewhere perhaps, sees the fleet and can change nothing in it.
fn revoked(operator: &Operator, state: &State) -> Option<AlertView> {
    let key = secret_file::read_signing_key(&operator.operator.key).ok()?.key_id();
    let record = state.members.get(&key)?.revoked?;
    let cause = format!(
        "this operator was revoked by log record {record}: if the fleet was rebuilt elsewhere, go on there"
    );
    Some(AlertView::new(Code::Key03, operator.operator.name.to_string(), cause))
}

#[cfg(test)]
mod tests {
    use super::AlertView;
    use muster_protocol::alert::Code;

    #[test]
    fn the_names_are_those_that_scripts_rely_on() {
        let alert = AlertView::new(Code::Agent01, "dns", "offline");
        let json = serde_json::to_value(&alert).expect("JSON");
        assert_eq!((&json["code"], &json["severity"]), (&"AGENT-01".into(), &"error".into()));
        assert_eq!((&json["subject"], &json["cause"]), (&"dns".into(), &"offline".into()));
        assert_eq!(json["open"], true);
        assert!(json["steps"][0].is_string());
        assert!(
            AlertView::new(Code::Agent02, "dns", "").steps.iter().any(|step| step.contains("--services dns"))
        );
    }
}
