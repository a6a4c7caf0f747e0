//! `muster doctor`: looks at everything that somebody who helps would ask for, says what is wrong and what to do, and writes it down
//! for them, without secrets. Changes nothing but what `share test` does: small objects below `probe/`.

mod bundle;
mod checks;
mod redact;

use muster_protocol::alert::Code;
use serde::Serialize;

use crate::args::{Contact, Doctor, ExpectHead, Reading};
use crate::command::status::{self, Gathered};
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::{fleet, screen};

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// As it should be.
    Good,
    /// It works; somebody should know.
    Warning,
    /// It does not work.
    Bad,
}

/// One line of `findings[]`.
#[derive(Debug, Serialize)]
struct Finding {
    /// What was looked at: `configuration`, `keys`, `disk`, `bus`, `agents`, `log`, `rounds`, `share-create`, ….
    check: String,
    verdict: Verdict,
    code: Option<&'static str>,
    said: String,
    steps: Vec<String>,
}

impl Finding {
    fn new(check: &str, verdict: Verdict, code: Option<Code>, said: impl Into<String>) -> Self {
        let steps = code.map(Code::steps).unwrap_or_default().iter().map(|step| (*step).to_owned()).collect();
        Self { check: check.to_owned(), verdict, code: code.map(Code::as_str), said: said.into(), steps }
    }

    fn good(check: &str, said: impl Into<String>) -> Self {
        Self::new(check, Verdict::Good, None, said)
    }

    fn with_step(mut self, step: impl Into<String>) -> Self {
        self.steps = vec![step.into()];
        self
    }
}

/// `{"schema":"muster.doctor/1", …}`
#[derive(Debug, Serialize)]
struct View<'a> {
    schema: &'static str,
    fleet: &'a str,
    /// `good`, `warning`, `bad`: the worst of the findings.
    verdict: Verdict,
    findings: &'a [Finding],
    /// The file that was written.
    bundle: Option<String>,
}

/// Looks.
pub(crate) async fn run(args: Doctor) -> Outcome {
    let Contact { config, json } = args.contact.clone();
    let (folder, operator) = fleet::operator_at(config.as_deref())?;
    let reading = Reading { config, share: None, expect: ExpectHead { expect_head: None }, json };
    let mut findings = checks::local(&folder, &operator);
    let gathered = status::gather(&reading).await;
    let mut agents = Vec::new();
    let mut exit = Exit::Failed;
    match &gathered {
        Ok(Gathered { view, promised, unreadable }) => {
            findings.extend(checks::bus(view));
            if view.leader.is_some() {
                agents = checks::agents(&operator, &mut findings).await;
            }
            match unreadable {
                None => checks::share(&operator, &mut findings).await,
                Some(failure) => findings.push(checks::failed("share", failure)),
            }
            findings.extend(checks::rounds(view, *promised));
            findings.extend(checks::alerts(&view.alerts));
            if unreadable.is_some() || view.bus_error.is_some() {
                exit = Exit::Unreachable;
            }
        }
        // The share says what cannot be, or no key opens the way to it: the rest is all the more wanted.
        Err(failure) => {
            findings.push(checks::failed("share", failure));
            exit = failure.exit();
        }
    }
    let status = gathered.as_ref().ok().map(|gathered| &gathered.view);
    let verdict = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Good);
    if let Some(file) = &args.bundle {
        bundle::write(file, &folder, status, &findings, &agents)?;
    }
    if json {
        screen::json(&View {
            schema: "muster.doctor/1",
            fleet: operator.fleet.name.as_str(),
            verdict,
            findings: &findings,
            bundle: args.bundle.as_ref().map(|file| file.display().to_string()),
        });
    } else {
        print(&findings, verdict, &args);
    }
    Ok(match verdict {
        Verdict::Good | Verdict::Warning => Exit::Done,
        Verdict::Bad => exit,
    })
}

fn print(findings: &[Finding], verdict: Verdict, args: &Doctor) {
    for finding in findings {
        let mark = match finding.verdict {
            Verdict::Good => "ok",
            Verdict::Warning => "note",
            Verdict::Bad => "BAD",
        };
        let code = finding.code.map(|code| format!("{code}: ")).unwrap_or_default();
        screen::line(format!("  {mark:<5}{:<16} {code}{}", finding.check, finding.said));
        if finding.verdict > Verdict::Good {
            for step in &finding.steps {
                screen::line(format!("       → {step}"));
            }
        }
    }
    screen::line("");
    screen::line(match verdict {
        Verdict::Good => "nothing is wrong",
        Verdict::Warning => "it works; the notes above say what somebody should know",
        Verdict::Bad => "something is wrong: begin with the first line that says BAD",
    });
    screen::line(match &args.bundle {
        Some(file) => format!("written down in {}: read it before you give it away", file.display()),
        None => "→ muster doctor --bundle FILE writes it down for whoever helps, without secrets".to_owned(),
    });
}
