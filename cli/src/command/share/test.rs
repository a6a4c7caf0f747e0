//! `muster share test`: uses the share as a round would, and says what it can do. Leaves it as it was, as far as the
//! credential may delete.

use muster_protocol::alert::Code;
use muster_protocol::log::{Pin, State};
use muster_protocol::units::format_size;
use muster_share::log::{Log, LogError};
use muster_share::probe::{self, Report, Terms, Verdict};
use serde::Serialize;

use crate::args::ShareTest;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::finding::{Finding, word};
use crate::fleet::{open_store, operator, share_at};
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
    let (share, pin) = match &args.share {
        Some(url) => (share_at(url)?, Pin::default()),
        None => {
            let operator = operator(args.config.as_deref())?;
            let pin = Pin { root: Some(operator.fleet.root), fleet: Some(operator.fleet.id), head: None };
            (operator.share, pin)
        }
    };
    let store = open_store(&share).await?;
    let log = match Log::open(store.clone(), pin).await {
        Ok(log) => Some(log),
        // A share that will be one only.
        Err(LogError::NotAShare { .. }) => None,
        // What is wrong with it, the test says better; a log that cannot be believed is verify's matter.
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(_) => None,
    };
    let state = log.as_ref().map(Log::state);
    let forecast = match state {
        Some(state) => probe::forecast(store.as_ref(), state).await.map_err(Failure::from)?,
        None => None,
    };
    let coordinators = args.coordinators.unwrap_or_else(|| state.map_or(1, State::coordinators));
    let terms = Terms { sample: args.size.0, coordinators, forecast };
    let report = probe::probe(&store, &terms).await;
    if args.json {
        screen::json(&view(&share.url, &terms, &report));
    } else {
        print(&share.url, &report);
    }
    Ok(exit(&report))
}

fn exit(report: &Report) -> Exit {
    match report.verdict() {
        Verdict::Good | Verdict::Warning => Exit::Done,
        Verdict::Bad => match report.findings.iter().find(|finding| finding.verdict == Verdict::Bad) {
            Some(finding) if finding.code == Some(Code::Share01) => Exit::Unreachable,
            Some(finding) if finding.code == Some(Code::Share08) => Exit::Refused,
            Some(_) | None => Exit::Failed,
        },
    }
}

fn view(share: &str, terms: &Terms, report: &Report) -> View {
    View {
        schema: "muster.share-test/1",
        share: share.to_owned(),
        verdict: word(report.verdict()),
        coordinators: terms.coordinators,
        findings: report.findings.iter().map(Finding::from).collect(),
        write_bytes_per_sec: report.write_rate,
        read_bytes_per_sec: report.read_rate,
        free_bytes: report.free,
        needed_bytes: terms.forecast.map(|forecast| forecast.need),
        full_in_days: report.full_in_days,
        left: report.left,
    }
}

fn print(share: &str, report: &Report) {
    screen::line(format!("share {share}"));
    for finding in report.findings.iter().map(Finding::from) {
        screen::line(finding.line(10));
        if finding.verdict == Verdict::Bad {
            finding.step_lines().for_each(screen::line);
        }
    }
    if let Some(free) = report.free {
        screen::line(format!("  {} free", format_size(free)));
    }
    screen::line(match (report.verdict(), report.left) {
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
