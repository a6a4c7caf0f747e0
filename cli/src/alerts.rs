//! `alerts[]` as `status` shows them: what is wrong now, by stable code, with what to do.

use muster_protocol::alert::{Code, Severity};
use serde::Serialize;

/// One of `alerts[]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct AlertView {
    pub(crate) code: &'static str,
    pub(crate) severity: Severity,
    /// The service, the round, the path or the address that it is about.
    pub(crate) subject: String,
    pub(crate) cause: String,
    pub(crate) steps: Vec<String>,
    /// What is shown is judged anew each time: it is always open.
    pub(crate) open: bool,
}

impl AlertView {
    /// What `code` says of `subject`.
    pub(crate) fn new(code: Code, subject: impl Into<String>, cause: impl Into<String>) -> Self {
        let subject = subject.into();
        // Steps that are about a service name it.
        let steps = code.steps().iter().map(|step| step.replace("NAME", &subject)).collect();
        Self {
            code: code.as_str(),
            severity: code.severity(),
            subject,
            cause: cause.into(),
            steps,
            open: true,
        }
    }

    /// The same with steps of its own, where those of the code are about another case of it.
    pub(crate) fn with_steps(self, steps: &[&str]) -> Self {
        Self { steps: steps.iter().map(|step| (*step).to_owned()).collect(), ..self }
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        format!("{} {}: {}", self.code, self.subject, self.cause)
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
