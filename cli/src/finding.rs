//! One line of what a command looked at: `share test`, the preflight of `enable`, and `doctor` tell alike.

use muster_protocol::alert::Code;
use muster_share::probe::{self, Verdict};
use serde::{Serialize, Serializer};

/// One of `findings[]`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Finding {
    /// What was looked at, in a word or two.
    pub(crate) check: String,
    /// `good`, `warning` or `bad`.
    #[serde(serialize_with = "as_word")]
    pub(crate) verdict: Verdict,
    /// The alert that it is, or would be.
    pub(crate) code: Option<Code>,
    pub(crate) said: String,
    /// What to do.
    pub(crate) steps: Vec<String>,
}

impl Finding {
    pub(crate) fn new(check: &str, verdict: Verdict, said: impl Into<String>) -> Self {
        Self { check: check.to_owned(), verdict, code: None, said: said.into(), steps: Vec::new() }
    }

    pub(crate) fn good(check: &str, said: impl Into<String>) -> Self {
        Self::new(check, Verdict::Good, said)
    }

    /// The same as this alert, with the alert's steps.
    pub(crate) fn with_code(self, code: Option<Code>) -> Self {
        let steps = code.map(Code::steps).unwrap_or_default().iter().map(|step| (*step).to_owned()).collect();
        Self { code, steps, ..self }
    }

    pub(crate) fn with_step(self, step: impl Into<String>) -> Self {
        Self { steps: vec![step.into()], ..self }
    }

    /// For people, with so much room for what was looked at.
    pub(crate) fn line(&self, width: usize) -> String {
        let mark = match self.verdict {
            Verdict::Good => "ok",
            Verdict::Warning => "note",
            Verdict::Bad => "BAD",
        };
        let code = self.code.map(|code| format!("{code}: ")).unwrap_or_default();
        format!("  {mark:<5}{:<width$} {code}{}", self.check.replace('_', " "), self.said)
    }

    /// Its steps for people, below the line.
    pub(crate) fn step_lines(&self) -> impl Iterator<Item = String> {
        self.steps.iter().map(|step| format!("       → {step}"))
    }
}

impl From<&probe::Finding> for Finding {
    fn from(found: &probe::Finding) -> Self {
        Self::new(found.check.as_str(), found.verdict, found.said.clone()).with_code(found.code)
    }
}

/// The word for JSON.
pub(crate) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Warning => "warning",
        Verdict::Bad => "bad",
    }
}

fn as_word<S: Serializer>(verdict: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(word(*verdict))
}
