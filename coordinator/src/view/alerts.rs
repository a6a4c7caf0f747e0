//! `alerts[]` as `alerts` and `status` show them: what is wrong, by stable code, with what to do.

use std::cmp::Reverse;

use muster_protocol::alert::{About, Alert, AlertId, ClosedBy, Code, Severity};
use muster_protocol::log::RoundPhase;
use muster_share::log::refusals;
use muster_share::store::StoreError;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Shown, rfc3339};

/// `{"schema":"muster.alerts/1", …}`
#[derive(Debug, Serialize, JsonSchema)]
pub struct AlertsView {
    /// `muster.alerts/1`
    pub schema: &'static str,
    /// The fleet's name.
    pub fleet: String,
    /// Whether the leader answered. If not, only what the share tells is here.
    pub bus: bool,
    /// Alerts that found no place, because too many as bad or worse were open.
    pub passed_over: u64,
    /// What was judged just now, then what is open, the worst first, then what is over.
    pub alerts: Vec<AlertView>,
}

/// Sorts them as lists show them: what is open before what is over, the worst first, the oldest first.
pub fn sort(alerts: &mut [Alert]) {
    alerts.sort_by_key(|alert| (alert.closed.is_some(), Reverse(alert.code.severity()), alert.since));
}

/// Records of the log that were refused since the newest commit. What was refused before did not keep it from coming about;
/// `verify` goes on telling of it.
///
/// # Errors
/// When the share fails.
pub async fn refused(shown: &Shown<'_>) -> Result<Vec<AlertView>, StoreError> {
    let state = shown.state();
    let since = state.newest_recoverable().map_or(0, |round| match &round.phase {
        RoundPhase::Committed { position, .. } => *position,
        RoundPhase::Open | RoundPhase::Ended(_) => round.position,
    });
    let refused = refusals(shown.store(), state, &shown.log.above(), since).await?;
    let view = |refusal: muster_share::log::Refusal| {
        AlertView::new(refusal.code, format!("log record {}", refusal.number), refusal.why)
    };
    Ok(refused.into_iter().map(view).collect())
}

/// One of `alerts[]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AlertView {
    /// The same for every opening of it.
    pub id: String,
    /// Its stable code.
    pub code: &'static str,
    /// `warning`, `error`, `critical`
    #[schemars(with = "String")]
    pub severity: Severity,
    /// The service, the round, the path or the address that it is about.
    pub subject: String,
    /// What was found, with the native error.
    pub cause: String,
    /// What to do.
    pub steps: Vec<String>,
    /// Whether it goes on.
    pub open: bool,
    /// When it opened; null: it was judged just now, and nobody kept since when.
    pub since: Option<String>,
    /// When it was last told.
    pub last: Option<String>,
    /// When it closed.
    pub closed: Option<String>,
    /// How often it was told.
    pub count: u64,
    /// The operator who knows of it.
    pub acknowledged_by: Option<String>,
    /// Since when.
    pub acknowledged: Option<String>,
    /// What closed it: `"mended"`, `{"round": number}`, `"acknowledgement"`, `"quiet"`, `"gone"`.
    #[schemars(with = "Option<serde_json::Value>")]
    pub closed_by: Option<ClosedBy>,
    /// The operator who said that it is meant to be so, and closed it with that.
    pub accepted_by: Option<String>,
}

impl AlertView {
    /// What `code` says of `subject`.
    #[must_use]
    pub fn new(code: Code, subject: impl Into<String>, cause: impl Into<String>) -> Self {
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
            accepted_by: None,
        }
    }

    /// The same with steps of its own, where those of the code are about another case of it.
    #[must_use]
    pub fn with_steps(self, steps: &[&str]) -> Self {
        Self { steps: steps.iter().map(|step| (*step).to_owned()).collect(), ..self }
    }

    /// How bad it is, as JSON says it.
    #[must_use]
    pub fn severity_word(&self) -> String {
        match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Critical => "critical",
        }
        .to_owned()
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
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
        view.since = Some(rfc3339(alert.since));
        view.last = Some(rfc3339(alert.last));
        view.closed = alert.closed.map(rfc3339);
        view.count = alert.count;
        view.acknowledged = alert.acknowledged.as_ref().map(|seen| rfc3339(seen.at));
        view.closed_by = alert.closed_by;
        view.accepted_by = alert.accepted_by.clone();
        view.acknowledged_by = alert.acknowledged.as_ref().map(|seen| seen.by.to_string());
        view
    }
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
