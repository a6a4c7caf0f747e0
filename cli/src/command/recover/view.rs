//! What a script reads of a recovery: `{"schema":"muster.recover/1", …}`.

use std::time::Duration;

use muster_agent::recover::{Outcome as Recovered, Request};
use muster_share::verify::Damage;
use serde::Serialize;

use super::missing::Missing;
use crate::exit::Exit;
use crate::reading_back::{DamageView, path_text};
use crate::round_view::HeadView;
use crate::screen;

/// `{"schema":"muster.recover/1", …}`
#[derive(Debug, Serialize)]
pub(super) struct View {
    schema: &'static str,
    /// `recovered`, `partial`, `damaged`
    state: &'static str,
    fleet: Option<String>,
    round: Option<String>,
    number: Option<u64>,
    outcome: Option<&'static str>,
    committed: Option<String>,
    head: Option<HeadView>,
    into: String,
    services: Vec<ServiceLine>,
    damaged: Vec<DamageView>,
    /// If something is damaged: the newest older round that has everything, by presence and length.
    newest_intact: Option<u64>,
    /// Services that were asked for, or are in the roster, and did not come out of this round.
    missing: Vec<Missing>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct ServiceLine {
    service: String,
    /// `recovered`, `damaged`, `absent`
    state: &'static str,
    reason: Option<String>,
    files: u64,
    others: u64,
    source_bytes: u64,
    gaps: u64,
    lost: u64,
    first_lost: Vec<String>,
    /// What was there already and stays.
    kept: u64,
    /// What something else has the place of.
    blocked: u64,
    /// Things whose owner is not the one that was captured.
    owners_left: u64,
    warnings: u64,
}

fn state_of(exit: Exit) -> &'static str {
    match exit {
        Exit::Done => "recovered",
        Exit::Partial => "partial",
        Exit::Failed
        | Exit::Usage
        | Exit::Damaged
        | Exit::Key
        | Exit::Unreachable
        | Exit::Refused
        | Exit::Interrupted => "damaged",
    }
}

/// What came out.
pub(super) fn view(
    request: &Request,
    recovered: &Recovered,
    missing: &[Missing],
    exit: Exit,
    took: Duration,
) -> View {
    let begun = &recovered.begun;
    let services = recovered.services.iter().map(|(service, outcome)| ServiceLine {
        service: service.to_string(),
        state: if outcome.damaged { "damaged" } else { "recovered" },
        reason: None,
        files: outcome.files,
        others: outcome.others,
        source_bytes: outcome.bytes,
        gaps: outcome.gaps,
        lost: outcome.lost,
        first_lost: outcome.first_lost.iter().map(|path| path_text(path)).collect(),
        kept: outcome.kept,
        blocked: outcome.blocked,
        owners_left: outcome.owners_left,
        warnings: outcome.warnings.len() as u64 + outcome.more_warnings,
    });
    let absent = recovered.absent.iter().map(|absentee| ServiceLine {
        service: absentee.service.to_string(),
        state: "absent",
        reason: Some(format!("{}: {}", absentee.code, absentee.reason)),
        files: 0,
        others: 0,
        source_bytes: 0,
        gaps: 0,
        lost: 0,
        first_lost: Vec::new(),
        kept: 0,
        blocked: 0,
        owners_left: 0,
        warnings: 0,
    });
    View {
        schema: "muster.recover/1",
        state: state_of(exit),
        fleet: begun.fleet.as_ref().map(ToString::to_string),
        round: Some(begun.round.to_string()),
        number: Some(begun.number),
        outcome: Some(begun.outcome.as_str()),
        committed: Some(screen::rfc3339(begun.committed)),
        head: Some(HeadView { number: begun.head.number, hash: begun.head.hash.to_string() }),
        into: request.into.display().to_string(),
        services: services.chain(absent).collect(),
        damaged: recovered.damaged.iter().map(DamageView::new).collect(),
        newest_intact: recovered.newest_intact,
        missing: missing.to_vec(),
        seconds: took.as_secs_f64(),
    }
}

/// What a script reads when nothing could be recovered.
pub(super) fn nothing(
    request: &Request,
    number: Option<u64>,
    damaged: &[Damage],
    newest_intact: Option<u64>,
    took: Duration,
) -> View {
    View {
        schema: "muster.recover/1",
        state: "damaged",
        fleet: None,
        round: None,
        number,
        outcome: None,
        committed: None,
        head: None,
        into: request.into.display().to_string(),
        services: Vec::new(),
        damaged: damaged.iter().map(DamageView::new).collect(),
        newest_intact,
        missing: Vec::new(),
        seconds: took.as_secs_f64(),
    }
}
