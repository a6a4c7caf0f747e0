//! What a restore shows: how far it is, and how it ended.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use muster_protocol::alert::Code;
use muster_protocol::ids::RestoreId;
use muster_protocol::message::{RestoreOutcome, RestoreState};
use muster_protocol::units::{format_duration, format_size};
use serde::Serialize;

use super::talk::refused;
use crate::args::Restore;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::reading_back::count;
use crate::screen;

/// How often a line is printed where there is no terminal.
const LINE: Duration = Duration::from_secs(10);

/// `{"schema":"muster.restore/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    /// `restored`, `partial`, `failed`, `refused`
    state: &'static str,
    service: String,
    /// The restore's id; null when the last one is followed.
    restore: Option<String>,
    /// The round's number; null when the last one is followed.
    number: Option<u64>,
    files: u64,
    others: u64,
    dumps: u64,
    source_bytes: u64,
    kept: u64,
    blocked: u64,
    gaps: u64,
    lost: u64,
    owners_left: u64,
    warnings: u64,
    damaged: u64,
    notes: Vec<String>,
    code: Option<&'static str>,
    reason: Option<String>,
    seconds: f64,
}

/// Shows how far it is, on standard error.
pub(super) struct Told {
    bar: ProgressBar,
    terminal: bool,
    quiet: bool,
    begun: Instant,
    said: Instant,
}

impl Told {
    pub(super) fn new(quiet: bool) -> Self {
        let (bar, terminal, now) = (ProgressBar::hidden(), std::io::stderr().is_terminal(), Instant::now());
        Self { bar, terminal, quiet, begun: now, said: now }
    }

    pub(super) fn progress(&mut self, done: u64, total: u64) {
        if total == 0 || self.quiet {
            return;
        }
        if self.terminal {
            if self.bar.is_hidden() {
                self.bar.set_draw_target(ProgressDrawTarget::stderr());
                let style = ProgressStyle::with_template("{msg} {bar:20} {percent} %  {eta} left");
                self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            }
            self.bar.set_message(format!("restoring {}", format_size(total)));
            self.bar.set_length(total);
            self.bar.set_position(done);
        } else if self.said.elapsed() >= LINE {
            self.said = Instant::now();
            let after = format_duration(self.begun.elapsed());
            screen::aside(format!("restoring: {} of {}, {after}", format_size(done), format_size(total)));
        }
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Tells how it ended.
pub(super) fn end(args: &Restore, restore: Option<(RestoreId, u64)>, state: RestoreState) -> Outcome {
    let (outcome, refusal) = match state {
        RestoreState::Ended(outcome) => (outcome, None),
        RestoreState::Refused(refusal) => (RestoreOutcome::default(), Some(refusal)),
        RestoreState::Unknown | RestoreState::Offered | RestoreState::Running { .. } => {
            (RestoreOutcome::default(), None)
        }
    };
    let (word, exit) = if refusal.is_some() {
        ("refused", Exit::Refused)
    } else if let Some(failure) = &outcome.failure {
        let exit = if failure.code == Some(Code::Verify01) { Exit::Damaged } else { Exit::Failed };
        ("failed", exit)
    } else if outcome.damaged > 0 || outcome.lost > 0 {
        ("partial", Exit::Damaged)
    } else if outcome.blocked > 0 {
        ("partial", Exit::Partial)
    } else {
        ("restored", Exit::Done)
    };
    let why = refusal.as_ref().or(outcome.failure.as_ref());
    if args.json {
        screen::json(&View {
            schema: "muster.restore/1",
            state: word,
            service: args.service.to_string(),
            restore: restore.map(|(id, _)| id.to_string()),
            number: restore.map(|(_, number)| number),
            files: outcome.files,
            others: outcome.others,
            dumps: outcome.dumps,
            source_bytes: outcome.bytes,
            kept: outcome.kept,
            blocked: outcome.blocked,
            gaps: outcome.gaps,
            lost: outcome.lost,
            owners_left: outcome.owners_left,
            warnings: outcome.warnings,
            damaged: outcome.damaged,
            notes: outcome.notes.clone(),
            code: why.and_then(|why| why.code).map(Code::as_str),
            reason: why.map(|why| why.reason.clone()),
            seconds: Duration::from_millis(outcome.took_millis).as_secs_f64(),
        });
    } else if refusal.is_none() {
        print(args, &outcome);
    }
    if let Some(refusal) = &refusal {
        return Err(refused(&args.service, refusal));
    }
    if let Some(failure) = &outcome.failure {
        let what = format!("the restore of {} ended early: {}", args.service, failure.reason);
        let what = failure.code.map_or(what.clone(), |code| format!("{code}: {what}"));
        return Err(Failure::new(exit, what)
            .because("The service may be half restored.")
            .next(failure.next.clone()));
    }
    Ok(exit)
}

fn print(args: &Restore, outcome: &RestoreOutcome) {
    let took = format_duration(Duration::from_millis(outcome.took_millis));
    screen::line(format!(
        "restored {}   {}, {}, {} in {took}",
        args.service,
        count(outcome.files, "file"),
        count(outcome.dumps, "dump"),
        format_size(outcome.bytes)
    ));
    for (number, what) in [
        (outcome.kept, "kept as they were"),
        (outcome.blocked, "left out: something else has their place"),
        (outcome.lost, "left out: what they need is damaged"),
        (outcome.gaps, "are not whole in the backup"),
        (outcome.owners_left, "belong to the agent's user: only root gives files away"),
        (outcome.warnings, "with warnings"),
    ] {
        if number > 0 {
            screen::line(format!("  {number} {what}"));
        }
    }
    for note in &outcome.notes {
        screen::line(format!("  {note}"));
    }
}
