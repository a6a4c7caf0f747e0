//! `muster share test`: uses the share as a round would, and says what it can do. Leaves it as it was, as far as the
//! credential may delete.

use std::sync::Arc;

use muster_protocol::alert::Code;
use muster_protocol::log::{Pin, State};
use muster_protocol::units::format_size;
use muster_share::log::{AppendError, Log, LogError};
use muster_share::probe::{self, Report, Terms, Verdict};
use serde::Serialize;

use crate::args::ShareTest;
use crate::exit::Exit;
use crate::failure::{Failure, NOT_THE_COPY, Outcome};
use crate::finding::{Finding, word};
use crate::fleet::{Fleet, open_store, operator, share_at};
use crate::screen;

/// `{"schema":"muster.share-test/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    share: String,
    /// `good`, `warning`, `bad`: the worst of the findings.
    verdict: &'static str,
    /// The coordinators that it was judged for.
    coordinators: usize,
    findings: Vec<Finding>,
    write_bytes_per_sec: Option<u64>,
    read_bytes_per_sec: Option<u64>,
    free_bytes: Option<u64>,
    /// Bytes that should be free for the retained rounds; null before the first round.
    needed_bytes: Option<u64>,
    full_in_days: Option<u64>,
    /// Objects that this credential could not delete again.
    left: usize,
}

/// Tests it.
pub(super) async fn run(args: ShareTest) -> Outcome {
    let (share, store, mut log) = match &args.share {
        Some(url) => {
            let share = share_at(url)?;
            let store = open_store(&share).await?;
            let log = match Log::open(Arc::clone(&store), Pin::default()).await {
                Ok(log) => Some(log),
                // A share that will be one only.
                Err(LogError::NotAShare { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            (share, store, log)
        }
        // Whatever keeps coordinators from it, from the empty folder of a mount to another fleet's log, is told in their words, and
        // nothing is written there.
        None => {
            let Fleet { log, share, .. } = Fleet::of(operator(args.config.as_deref())?).await?;
            (share, Arc::clone(log.store()), Some(log))
        }
    };
    let copy = match &mut log {
        Some(log) => copy(log).await?,
        None => None,
    };
    let state = log.as_ref().map(Log::state);
    let forecast = match state {
        Some(state) => probe::forecast(store.as_ref(), state).await.map_err(Failure::from)?,
        None => None,
    };
    let coordinators = args.coordinators.unwrap_or_else(|| state.map_or(1, State::coordinators));
    let terms = Terms { sample: args.size.0, coordinators, forecast };
    let report = probe::probe(&store, &terms).await;
    store.tidy().await;
    let findings: Vec<_> = copy.into_iter().chain(report.findings.iter().map(Finding::from)).collect();
    let exit = exit(&findings);
    if args.json {
        screen::json(&view(&share.url, &terms, &report, findings));
    } else {
        print(&share.url, &report, &findings);
    }
    Ok(exit)
}

/// What keeps coordinators from a share that is a copy of another one.
///
/// # Errors
/// When the share does not tell.
async fn copy(log: &mut Log) -> Result<Option<Finding>, Failure> {
    match log.refuse_copy().await {
        Ok(()) => Ok(None),
        Err(AppendError::Copy { .. }) => {
            let said = "a copy of a fleet's share: coordinators do not start on it";
            let finding = Finding::new("fleet", Verdict::Bad, said).with_code(Some(Code::Share08));
            Ok(Some(finding.with_step(NOT_THE_COPY)))
        }
        Err(error) => Err(error.into()),
    }
}

/// The worst verdict.
fn verdict(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Good)
}

fn exit(findings: &[Finding]) -> Exit {
    match findings.iter().find(|finding| finding.verdict == Verdict::Bad) {
        Some(finding) if finding.code == Some(Code::Share01) => Exit::Unreachable,
        Some(finding) if finding.code == Some(Code::Share08) => Exit::Refused,
        Some(_) => Exit::Failed,
        None => Exit::Done,
    }
}

fn view(share: &str, terms: &Terms, report: &Report, findings: Vec<Finding>) -> View {
    View {
        schema: "muster.share-test/1",
        share: share.to_owned(),
        verdict: word(verdict(&findings)),
        coordinators: terms.coordinators,
        findings,
        write_bytes_per_sec: report.write_rate,
        read_bytes_per_sec: report.read_rate,
        free_bytes: report.free,
        needed_bytes: terms.forecast.map(|forecast| forecast.need),
        full_in_days: report.full_in_days,
        left: report.left,
    }
}

fn print(share: &str, report: &Report, findings: &[Finding]) {
    screen::line(format!("share {share}"));
    for finding in findings {
        screen::line(finding.line(10));
        if finding.verdict == Verdict::Bad {
            finding.step_lines().for_each(screen::line);
        }
    }
    if let Some(free) = report.free {
        screen::line(format!("  {} free", format_size(free)));
    }
    screen::line(match (verdict(findings), report.left) {
        (Verdict::Bad, _) => "this share cannot be trusted with rounds as it is".to_owned(),
        (Verdict::Good | Verdict::Warning, 0) => {
            "rounds can use this share; it is as it was before".to_owned()
        }
        (Verdict::Good | Verdict::Warning, left) => {
            format!(
                "rounds can use this share; {} below probe/ stay until the next prune",
                screen::plural(left, "object")
            )
        }
    });
}
