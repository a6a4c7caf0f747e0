//! `alerts[]` as `alerts` and `status` show them: what is wrong, by stable code, with what to do.

use muster_protocol::alert::{About, Alert, AlertId, Code, Severity};
use serde::Serialize;

use crate::screen;

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
}

impl AlertView {
    /// What `code` says of `subject`.
    pub(crate) fn new(code: Code, subject: impl Into<String>, cause: impl Into<String>) -> Self {
        let subject = subject.into();
        // Steps that are about a service name it.
        let steps = code.steps().iter().map(|step| step.replace("NAME", &subject)).collect();
        Self {
            id: AlertId::of(code, &subject).to_string(),
            code: code.as_str(),
            severity: code.severity(),
            subject,
            cause: cause.into(),
            steps,
            open: true,
            since: None,
            last: None,
            closed: None,
            count: 1,
            acknowledged_by: None,
        }
    }

    /// The same with steps of its own, where those of the code are about another case of it.
    pub(crate) fn with_steps(self, steps: &[&str]) -> Self {
        Self { steps: steps.iter().map(|step| (*step).to_owned()).collect(), ..self }
    }

    /// How bad it is, as JSON says it.
    pub(crate) fn severity_word(&self) -> String {
        match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Critical => "critical",
        }
        .to_owned()
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
            About::Round(_) | About::Key(_) | About::Part(_) => {
                view.steps = alert.code.steps().iter().map(|step| (*step).to_owned()).collect();
            }
        }
        view.open = alert.closed.is_none();
        view.since = Some(screen::rfc3339(alert.since));
        view.last = Some(screen::rfc3339(alert.last));
        view.closed = alert.closed.map(screen::rfc3339);
        view.count = alert.count;
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
