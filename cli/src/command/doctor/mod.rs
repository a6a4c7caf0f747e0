//! `muster doctor`: looks at everything that somebody who helps would ask for, says what is wrong and what to do, and writes it down
//! for them, without secrets. Changes nothing but what `share test` does: small objects below `probe/`.

mod bundle;
mod checks;
mod redact;

use std::path::Path;

use muster_share::probe::Verdict;
use serde::Serialize;

use crate::args::{Contact, Doctor, ExpectHead, Reading};
use crate::command::status::{self, Gathered};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::finding::{Finding, word};
use crate::{fleet, screen};

/// `{"schema":"muster.doctor/1", …}`
#[derive(Debug, Serialize)]
struct View<'a> {
    schema: &'static str,
    /// Null: `operator.toml` cannot be used.
    fleet: Option<&'a str>,
    /// `good`, `warning`, `bad`: the worst of the findings.
    verdict: &'static str,
    findings: &'a [Finding],
    /// The file that was written.
    bundle: Option<String>,
}

/// Looks.
pub(crate) async fn run(args: Doctor) -> Outcome {
    let Contact { config, json } = args.contact.clone();
    let (folder, operator) =
        match (fleet::operator_at(config.as_deref()), fleet::folder_at(config.as_deref())) {
            (Ok(found), _) => found,
            // What keeps every other command from its work is what this one is for.
            (Err(failure), Some(folder)) => return without_operator(&args, &folder, &failure),
            (Err(failure), None) => return Err(failure),
        };
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
                checks::channels(&operator, &mut findings).await;
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
    if let Some(file) = &args.bundle {
        bundle::write(file, &folder, status, &findings, &agents)?;
    }
    let name = operator.fleet.name.as_str();
    Ok(match tell(&args, Some(name), &findings) {
        Verdict::Good | Verdict::Warning => Exit::Done,
        Verdict::Bad => exit,
    })
}

/// What can be looked at while `operator.toml` says neither which fleet it is nor where: the files of its folder.
fn without_operator(args: &Doctor, folder: &Path, failure: &Failure) -> Outcome {
    let mut findings = vec![checks::failed("configuration", failure)];
    findings.extend(checks::around(folder));
    if let Some(file) = &args.bundle {
        bundle::write(file, folder, None, &findings, &[])?;
    }
    tell(args, None, &findings);
    Ok(failure.exit())
}

/// Says all of it; the worst that there is.
fn tell(args: &Doctor, fleet: Option<&str>, findings: &[Finding]) -> Verdict {
    let verdict = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Good);
    if args.contact.json {
        screen::json(&View {
            schema: "muster.doctor/1",
            fleet,
            verdict: word(verdict),
            findings,
            bundle: args.bundle.as_ref().map(|file| file.display().to_string()),
        });
    } else {
        print(findings, verdict, args);
    }
    verdict
}

fn print(findings: &[Finding], verdict: Verdict, args: &Doctor) {
    for finding in findings {
        screen::line(finding.line(16));
        if finding.verdict > Verdict::Good {
            finding.step_lines().for_each(screen::line);
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
