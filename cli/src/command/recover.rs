//! `muster recover`: a round from share and kit into a folder, with everything else dead.

use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use muster_agent::recover::{
    Begun, Outcome as Recovered, RecoverError, Request, ServiceOutcome, Watch, recover,
};
use muster_protocol::log::Pin;
use muster_protocol::units::{format_duration, format_size};
use muster_share::log::parse_head;
use muster_share::verify::{Damage, LedgerError};
use serde::Serialize;

use crate::args::Recover;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{absolute_url, open_store};
use crate::kit::{Kit, wrong_key};
use crate::reading_back::{
    DamageView, count, damage_line, ledger_failure, path_text, select_failure, selector, show_progress,
};
use crate::round_view::HeadView;
use crate::screen;

/// Packs that are opened at once at most: each takes up to 16 MiB sealed, and a frame.
const WORKERS_MOST: usize = 8;
/// Warnings that a screen shows of one service.
const WARNINGS_SHOWN: usize = 5;

/// `{"schema":"muster.recover/1", …}`
#[derive(Debug, Serialize)]
struct View {
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
    warnings: u64,
}

/// Recovers.
pub(crate) async fn run(args: Recover) -> Outcome {
    let into = args.into.clone();
    tokio::select! {
        outcome = recover_share(args) => outcome,
        _ = tokio::signal::ctrl_c() => {
            screen::aside(format!("interrupted: {} is not complete", into.display()));
            Ok(Exit::Interrupted)
        }
    }
}

async fn recover_share(args: Recover) -> Outcome {
    let begun = Instant::now();
    let head = match &args.expect_head {
        Some(text) => Some(parse_head(text).ok_or_else(|| {
            Failure::usage(format!("--expect-head {text} is no log head"))
                .next("write it as `muster show` prints it: NUMBER:HASH, the hash with 64 characters")
        })?),
        None => None,
    };
    let kit = Kit::open(&args.kit)?;
    let store = open_store(&absolute_url(&args.share)?).await?;
    let request = Request {
        store,
        pin: Pin { root: Some(kit.root), fleet: None, head },
        keys: kit.keys,
        round: selector(&args.round),
        services: args.service.clone(),
        path: args.path.as_ref().map(|path| path.as_bytes().to_vec()),
        into: args.into.clone(),
        workers: std::thread::available_parallelism().map_or(2, usize::from).min(WORKERS_MOST),
    };
    let watch = Watch::default();
    let mut announced = args.json;
    let title = || match watch.begun.get() {
        Some(begun) if !announced => {
            announced = true;
            Some(announce(begun, &request))
        }
        Some(_) | None => None,
    };
    let recovered = show_progress(recover(&request, &watch), &watch.progress, "recovering", title).await;
    let recovered = match recovered {
        Ok(recovered) => recovered,
        Err(error) => {
            if let (true, RecoverError::Damaged { number, damaged, newest_intact }) = (args.json, &error) {
                screen::json(&nothing(&request, *number, damaged, *newest_intact, begun.elapsed()));
            }
            return Err(failure(error, &request));
        }
    };
    let exit = match (recovered.damaged.is_empty(), recovered.absent.is_empty()) {
        (false, _) => Exit::Damaged,
        (true, false) => Exit::Partial,
        (true, true) => Exit::Done,
    };
    if args.json {
        screen::json(&view(&request, &recovered, exit, begun.elapsed()));
    } else {
        print(&request, &recovered, begun.elapsed());
    }
    Ok(exit)
}

fn announce(begun: &Begun, request: &Request) -> String {
    let fleet = begun.fleet.as_ref().map(ToString::to_string).unwrap_or_default();
    let at = screen::time(begun.committed);
    let mut text = format!(
        "round {} of fleet {fleet}, {at}, {} · log head {}",
        begun.number,
        begun.outcome.as_str(),
        begun.head.number
    );
    if let Some(known) = request.pin.head {
        text.push_str(&format!(" (known: {})", known.number));
    }
    text
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

fn view(request: &Request, recovered: &Recovered, exit: Exit, took: Duration) -> View {
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
        seconds: took.as_secs_f64(),
    }
}

/// What a script reads when nothing could be recovered.
fn nothing(
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
        seconds: took.as_secs_f64(),
    }
}

fn print(request: &Request, recovered: &Recovered, took: Duration) {
    for (service, outcome) in &recovered.services {
        tell(service.as_str(), outcome);
    }
    for absentee in &recovered.absent {
        screen::line(format!("absent   {}   {}: {}", absentee.service, absentee.code, absentee.reason));
    }
    for damage in &recovered.damaged {
        screen::line(damage_line(damage));
    }
    let done = recovered.services.iter().filter(|(_, outcome)| outcome.files + outcome.others > 0);
    let (mut services, mut files, mut bytes) = (0, 0, 0);
    for (_, outcome) in done {
        (services, files, bytes) = (services + 1, files + outcome.files, bytes + outcome.bytes);
    }
    screen::line(format!(
        "{}, {}, {} recovered and compared with the index in {}",
        count(services, "service"),
        count(files, "file"),
        format_size(bytes),
        format_duration(took)
    ));
    let into = request.into.display();
    if recovered.damaged.is_empty() {
        screen::line(format!(
            "→ next: docs/recovery.md; what was recovered lies in {into}/<service>/<source>/"
        ));
        return;
    }
    screen::line(format!(
        "VERIFY-01: round {} is damaged; what it still holds lies in {into}",
        recovered.begun.number
    ));
    screen::line(intact(recovered.newest_intact));
}

fn tell(service: &str, outcome: &ServiceOutcome) {
    if outcome.lost > 0 {
        let first: Vec<_> = outcome.first_lost.iter().map(|path| path_text(path)).collect();
        screen::line(format!("left out {service}   {}: {}", count(outcome.lost, "file"), first.join(", ")));
    }
    if outcome.gaps > 0 {
        let first: Vec<_> =
            outcome.first_gaps.iter().map(|(path, what)| format!("{}: {what}", path_text(path))).collect();
        let entries = if outcome.gaps == 1 { "1 entry" } else { &format!("{} entries", outcome.gaps) };
        screen::line(format!(
            "gaps     {service}   {entries} that the backup does not hold whole: {}",
            first.join("; ")
        ));
    }
    for (path, what) in outcome.warnings.iter().take(WARNINGS_SHOWN) {
        screen::aside(format!("warning: {service}/{}: {what}", path_text(path)));
    }
    let more = outcome.warnings.len().saturating_sub(WARNINGS_SHOWN) as u64 + outcome.more_warnings;
    if more > 0 {
        screen::aside(format!("warning: {service}: {more} more of these"));
    }
}

fn intact(number: Option<u64>) -> String {
    match number {
        Some(number) => format!(
            "→ newest intact round by presence and length: {number}; take it with --round {number} and another --into"
        ),
        None => "→ no other round is intact; another copy of the share may have these objects".to_owned(),
    }
}

fn failure(error: RecoverError, request: &Request) -> Failure {
    let because = |exit: Exit, error: &RecoverError| Failure::new(exit, error.to_string()).caused_by(error);
    match error {
        RecoverError::Store(error) => error.into(),
        RecoverError::Ledger(LedgerError::Store(error)) => error.into(),
        RecoverError::Ledger(error) => ledger_failure(error),
        RecoverError::Select(error) => select_failure(&error),
        RecoverError::Key { number, wanted } => wrong_key(number, &wanted, &request.keys),
        RecoverError::Target { .. } => {
            because(Exit::Usage, &error).next("give a folder that does not exist yet: --into")
        }
        RecoverError::MakeTarget { .. } => because(Exit::Usage, &error),
        RecoverError::Service { .. } | RecoverError::Path { .. } => because(Exit::Usage, &error),
        RecoverError::OtherFleet(_) => because(Exit::Key, &error)
            .next("take the kit of this share's fleet; its page names fleet and root key"),
        RecoverError::Forged(_) => because(Exit::Damaged, &error)
            .next("compare root.pub with the kit's printed page, then the share with another copy of it"),
        RecoverError::Write(_) => because(Exit::Failed, &error).next(format!(
            "{} is not complete: make room, remove it, and recover again",
            request.into.display()
        )),
        RecoverError::Damaged { ref damaged, newest_intact, .. } => {
            let mut failure = Failure::new(Exit::Damaged, format!("VERIFY-01: {error}; nothing was written"));
            for damage in damaged {
                failure = failure.because(damage_line(damage));
            }
            let next = intact(newest_intact);
            failure
                .next(next.trim_start_matches("→ "))
                .next("muster verify --share URL --kit PATH names everything")
        }
    }
}
