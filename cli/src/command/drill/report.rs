//! What an operator, and a script, read of a drill.

use std::path::PathBuf;
use std::time::Duration;

use muster_protocol::alert::{Code, DrillTerms};
use muster_protocol::log::{DrillOutcome, Head, Scope};
use muster_protocol::units::{format_duration, format_size};
use serde::Serialize;

use super::Drilled;
use crate::args::Drill;
use crate::reading_back::{DamageView, count, damage_line};
use crate::round_view::HeadView;
use crate::screen;

/// Damaged objects that a screen names.
const DAMAGES_SHOWN: usize = 5;
/// Services that a line names.
const NAMED: usize = 8;

/// All that is told.
pub(super) struct Told<'a> {
    pub(super) drilled: &'a Drilled,
    /// The record, and who signed it; none: nothing was noted.
    pub(super) noted: Option<&'a (Head, String)>,
    pub(super) terms: DrillTerms,
    /// What was promised and not kept.
    pub(super) slow: Option<Duration>,
    /// The kit's keys count as proven by it.
    pub(super) proven: bool,
    pub(super) args: &'a Drill,
    /// Where what was recovered is left.
    pub(super) kept: Option<PathBuf>,
}

/// `{"schema":"muster.drill/1", …}`
#[derive(Debug, Serialize)]
pub(super) struct View {
    schema: &'static str,
    round: String,
    number: u64,
    /// `passed`, `failed`
    outcome: &'static str,
    reason: Option<String>,
    /// It says something about the whole fleet: the newest round that holds all services.
    whole: bool,
    /// Services of the roster that the round lacks, where all were asked for.
    missing: Vec<String>,
    services: Vec<ServiceLine>,
    files: u64,
    source_bytes: u64,
    took_millis: u64,
    /// The promised time to recover, in seconds; null: nothing is promised, or nobody was asked.
    promised_secs: Option<u64>,
    too_slow: bool,
    damaged: Vec<DamageView>,
    /// The record of the log that says so; null: it was not noted.
    head: Option<HeadView>,
    by: Option<String>,
    key_proven: bool,
    /// Where what was recovered is left; null: it is deleted.
    into: Option<String>,
}

#[derive(Debug, Serialize)]
struct ServiceLine {
    service: String,
    /// `recovered`, `damaged`
    state: &'static str,
    files: u64,
    source_bytes: u64,
}

/// For a script.
pub(super) fn view(told: &Told<'_>) -> View {
    let drilled = told.drilled;
    let (files, source_bytes) = drilled.totals();
    let recovered = drilled.recovered.iter();
    let services = recovered.flat_map(|recovered| &recovered.services).map(|(service, one)| {
        let state = if one.damaged { "damaged" } else { "recovered" };
        ServiceLine { service: service.to_string(), state, files: one.files, source_bytes: one.bytes }
    });
    View {
        schema: "muster.drill/1",
        round: drilled.round.to_string(),
        number: drilled.number,
        outcome: drilled.outcome().as_str(),
        reason: drilled.reason.clone(),
        whole: drilled.scope == Scope::All,
        missing: drilled.missing.iter().map(ToString::to_string).collect(),
        services: services.collect(),
        files,
        source_bytes,
        took_millis: u64::try_from(drilled.took.as_millis()).unwrap_or(u64::MAX),
        promised_secs: told.terms.promised.map(|promised| promised.as_secs()),
        too_slow: told.slow.is_some(),
        damaged: drilled.damaged.iter().map(DamageView::new).collect(),
        head: told.noted.map(|(head, _)| HeadView { number: head.number, hash: head.hash.to_string() }),
        by: told.noted.map(|(_, by)| by.clone()),
        key_proven: told.proven,
        into: told.kept.as_ref().map(|kept| kept.display().to_string()),
    }
}

/// For people.
pub(super) fn print(told: &Told<'_>) {
    let drilled = told.drilled;
    for damage in drilled.damaged.iter().take(DAMAGES_SHOWN) {
        screen::line(damage_line(damage));
    }
    let more = drilled.damaged.len().saturating_sub(DAMAGES_SHOWN);
    if more > 0 {
        screen::line(format!("damaged  {} more", count(more as u64, "object")));
    }
    let (files, bytes) = drilled.totals();
    let services = drilled.recovered.as_ref().map_or(0, |recovered| recovered.services.len());
    let came =
        format!("{}, {}, {}", count(services as u64, "service"), count(files, "file"), format_size(bytes));
    let took = format_duration(drilled.took);
    let promised = match told.terms.promised {
        Some(promised) => format!(", promised {}", format_duration(promised)),
        None => String::new(),
    };
    let whole = drilled.scope == Scope::All;
    match (drilled.outcome(), &drilled.reason) {
        (DrillOutcome::Passed, _) => screen::line(format!(
            "drill of round {} passed: {came} recovered and compared with the index in {took}{promised}",
            drilled.number
        )),
        (DrillOutcome::Failed, reason) => {
            let code = if whole { format!("{}: ", Code::Drill01) } else { String::new() };
            screen::line(format!(
                "{code}the drill of round {} failed: {}",
                drilled.number,
                reason.as_deref().unwrap_or_default()
            ));
            screen::line(format!("what came out all the same: {came}, in {took}"));
        }
    }
    if let Some(promised) = told.slow {
        screen::line(format!(
            "{}: slower than promised: recovery_time is {}",
            Code::Drill01,
            format_duration(promised)
        ));
    }
    if !drilled.missing.is_empty() {
        let names: Vec<_> = drilled.missing.iter().take(NAMED).map(ToString::to_string).collect();
        let more = drilled.missing.len().saturating_sub(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        screen::line(format!("not in this round: {}{more}", names.join(", ")));
    }
    if !whole {
        screen::line("not all services, or not their newest round: it says nothing about the whole fleet");
    }
    match told.noted {
        Some((head, by)) => {
            let proof = if told.proven { " · the kit's key is proven by it" } else { "" };
            screen::line(format!("signed by {by} · log record {}{proof}", head.number));
        }
        None if told.args.reading.share.is_some() => {
            screen::line("not noted: --share was given, which may be a copy");
        }
        None => {}
    }
    match (drilled.outcome(), told.slow) {
        (DrillOutcome::Failed, _) => {
            let kit = told.args.kit.display();
            screen::line(format!("→ muster verify --heal --kit {kit}     tells the leader what is damaged"));
            screen::line(
                "→ muster start --wait     uploads it again from the live services; then drill again",
            );
        }
        (DrillOutcome::Passed, Some(_)) => screen::line(
            "→ drill on a faster machine or closer to the share, or promise more time: muster config set recovery_time 8h",
        ),
        (DrillOutcome::Passed, None) if whole && told.noted.is_some() => {
            screen::line("→ muster status     tells of it");
        }
        (DrillOutcome::Passed, None) => {}
    }
}
