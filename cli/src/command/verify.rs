//! `muster verify [ROUND]`: whether the share still holds what its log promises. Needs only the share; with a kit, it
//! opens everything, too. Changes nothing on the share; `--heal` tells the leader what is damaged.

mod words;

use std::collections::BTreeSet;
use std::sync::Arc;

use muster_protocol::config::ShareConfig;
use muster_protocol::ids::ServiceName;
use muster_protocol::log::{Outcome as RoundOutcome, Pin};
use muster_protocol::units::format_size;
use muster_share::log::{HeadMemory, Refusal, refusals};
use muster_share::verify::{Damage, Ledger, LedgerError, Progress, Report, VerifyError, read_ledger, verify};
use serde::Serialize;

use crate::args::Verify;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Fleet, hold_to, open_store, operator, share_at};
use crate::kit::{Kit, wrong_key};
use crate::operator::Operator;
use crate::reading_back::{
    DamageView, alert, count, damage_line, ledger_failure, path_text, round_ranges, select_failure, selector,
    show_progress,
};
use crate::round_view::HeadView;
use crate::screen;
use crate::suspicion;
use words::{missing, outlived, say_missing, whole_of};

/// `{"schema":"muster.verify/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    fleet: Option<String>,
    share: String,
    head: HeadView,
    root_pinned: bool,
    /// Contents were opened with the kit's key, not only hashed.
    opened: bool,
    whole: bool,
    newest_whole: Option<u64>,
    rounds: Vec<RoundLine>,
    services: Vec<ServiceLine>,
    /// Services of the roster that none of the rounds holds.
    missing: Vec<String>,
    damaged: Vec<DamageView>,
    /// The newest slots of the log that changed nothing.
    refused: Vec<RefusalLine>,
    objects: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct RoundLine {
    round: String,
    number: u64,
    outcome: &'static str,
    committed: String,
    whole: bool,
}

#[derive(Debug, Serialize)]
struct RefusalLine {
    /// The log number.
    number: u64,
    code: &'static str,
    why: String,
}

#[derive(Debug, Serialize)]
struct ServiceLine {
    service: String,
    /// `whole` or `damaged`
    state: &'static str,
}

/// Verifies.
pub(crate) async fn run(args: Verify) -> Outcome {
    tokio::select! {
        outcome = verify_share(args) => outcome,
        _ = tokio::signal::ctrl_c() => {
            screen::aside("interrupted: not everything was looked at");
            Ok(Exit::Interrupted)
        }
    }
}

async fn verify_share(args: Verify) -> Outcome {
    let healer = match (args.heal, &args.reading.share) {
        (true, Some(_)) => {
            return Err(Failure::usage("--heal asks the leader, and --share names a share without one")
                .next("leave out --share, and name the fleet with --config"));
        }
        (true, None) => {
            let operator = operator(args.reading.config.as_deref())?;
            match Fleet::to_change(operator.clone()).await {
                // The leader would look at the share itself, not at this copy of it.
                Err(failure) if failure.exit() == Exit::Refused => return Err(failure),
                // What else is wrong, verifying tells better.
                Ok(_) | Err(_) => Some(operator),
            }
        }
        (false, _) => None,
    };
    let kit = args.kit.as_deref().map(Kit::open).transpose()?;
    let (share, mut pin) = place(&args)?;
    if let Some(kit) = &kit {
        if pin.root.is_some_and(|root| root != kit.root) {
            return Err(Failure::new(Exit::Key, "the kit belongs to another fleet than the configuration")
                .next("take the kit of this fleet, or name its share with --share"));
        }
        pin.root = Some(kit.root);
    }
    let store = open_store(&share).await?;
    hold_to(&store, Pin { head: None, ..pin }, &args.reading.expect).await?;
    let ledger = read_ledger(&store, pin, true).await.map_err(|error| match (&error, &kit) {
        (LedgerError::OtherRoot { recipients, .. }, Some(kit))
            if !kit.keys.iter().any(|key| recipients.contains(&key.recipient())) =>
        {
            Failure::new(Exit::Key, "the kit belongs to another fleet").because(error.to_string())
        }
        _ => ledger_failure(error),
    })?;
    if pin.root.is_none() {
        screen::aside(
            "note: the root is unpinned: whoever made this share is believed (--kit or --config pins it)",
        );
    }
    let keys = kit.as_ref().map(|kit| Arc::clone(&kit.keys));
    let only = args.round.as_ref().map(selector);
    let progress = Progress::default();
    let work = verify(&store, &ledger, only.as_ref(), keys, &progress);
    let report = show_progress(work, &progress, "verifying", || None).await;
    let report = report.map_err(|error| match error {
        VerifyError::Select(error) => select_failure(&error),
        VerifyError::Store(error) => error.into(),
        VerifyError::Key(wrong) => wrong_key(&wrong, kit.as_ref().map_or(&[], |kit| kit.keys.as_slice())),
    })?;
    let refused = refusals(store.as_ref(), &ledger.state, &ledger.above, 0).await?;
    if args.reading.json {
        screen::json(&view(&share.url, &ledger, pin, &report, &refused));
    } else {
        print(&share.url, &ledger, &report, &refused, healer.is_some());
    }
    if let Some(operator) = healer {
        heal(&operator, &report, args.reading.json).await;
    }
    Ok(match state_of(&ledger, &report) {
        Found::Whole => Exit::Done,
        Found::Outlived => Exit::Partial,
        Found::Damaged => Exit::Damaged,
    })
}

/// What all of it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Nothing is damaged.
    Whole,
    /// Older rounds are, the newest slice of every service is whole, and no new round will need what is damaged.
    Outlived,
    /// Something that is needed is damaged.
    Damaged,
}

fn state_of(ledger: &Ledger, report: &Report) -> Found {
    if report.is_whole() {
        Found::Whole
    } else if report.is_outlived() && report.damaged.iter().all(|found| is_known(ledger, &found.damage)) {
        Found::Outlived
    } else {
        Found::Damaged
    }
}

/// Whether nothing new is built on it: it is in quarantine.
fn is_known(ledger: &Ledger, damage: &Damage) -> bool {
    let of = damage.service().zip(damage.object.id());
    of.is_some_and(|(service, id)| ledger.state.is_quarantined(service, id))
}

/// Has the leader look at what is damaged. What becomes of that changes nothing of what was found here.
async fn heal(operator: &Operator, report: &Report, json: bool) {
    let told = match suspicion::tell(operator, report.damaged.iter().map(|found| &found.damage)).await {
        Ok(told) => told,
        Err(failure) => {
            screen::aside(format!("the leader was not told of it: {failure}"));
            return;
        }
    };
    if json {
        return;
    }
    let names =
        |services: &[ServiceName]| services.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    if !told.lifted.is_empty() {
        screen::line(format!(
            "→ {}: what was damaged is whole, and in quarantine no more",
            names(&told.lifted)
        ));
    }
    if !told.ill.is_empty() {
        let ill = names(&told.ill);
        screen::line(format!(
            "→ {ill}: what is damaged is in quarantine; muster start --services {ill} --wait uploads again what the services still \
             have of it, or the next round does"
        ));
    }
}

/// The share's address, and what is known of the fleet beforehand.
fn place(args: &Verify) -> Result<(ShareConfig, Pin), Failure> {
    if let Some(url) = &args.reading.share {
        return Ok((share_at(url)?, Pin::default()));
    }
    let operator = operator(args.reading.config.as_deref())?;
    let head = HeadMemory::at(&operator.head_file()).recall()?;
    let pin = Pin { root: Some(operator.fleet.root), fleet: Some(operator.fleet.id), head };
    Ok((operator.share, pin))
}

fn view(share: &str, ledger: &Ledger, pin: Pin, report: &Report, refused: &[Refusal]) -> View {
    let state = &ledger.state;
    View {
        schema: "muster.verify/1",
        fleet: state.name.as_ref().map(ToString::to_string),
        share: share.to_owned(),
        head: HeadView { number: state.head.number, hash: state.head.hash.to_string() },
        root_pinned: pin.root.is_some(),
        opened: report.opened,
        whole: report.is_whole(),
        newest_whole: report.newest_whole(),
        rounds: report
            .rounds
            .iter()
            .map(|round| RoundLine {
                round: round.round.to_string(),
                number: round.number,
                outcome: RoundOutcome::as_str(round.outcome),
                committed: screen::rfc3339(round.at),
                whole: round.whole,
            })
            .collect(),
        services: report
            .services
            .iter()
            .map(|service| ServiceLine {
                service: service.service.to_string(),
                state: if service.whole { "whole" } else { "damaged" },
            })
            .collect(),
        missing: missing(ledger, report),
        damaged: report
            .damaged
            .iter()
            .map(|found| DamageView {
                rounds: Some(found.rounds.clone()),
                files: found.files,
                first_path: found.first_path.as_deref().map(path_text),
                ..DamageView::new(&found.damage)
            })
            .collect(),
        refused: refused
            .iter()
            .map(|refusal| RefusalLine {
                number: refusal.number,
                code: refusal.code.as_str(),
                why: refusal.why.clone(),
            })
            .collect(),
        objects: report.objects,
        bytes: report.bytes,
    }
}

fn print(share: &str, ledger: &Ledger, report: &Report, refused: &[Refusal], heals: bool) {
    let state = &ledger.state;
    let fleet = state.name.as_ref().map_or("unknown fleet".to_owned(), ToString::to_string);
    screen::line(format!("{fleet} · share {share} · log head {}", state.head.number));
    for Refusal { number, code, why } in refused {
        screen::line(format!("refused  log record {number}   {code}   {why}"));
    }
    for found in &report.damaged {
        screen::line(damage_line(&found.damage));
        let mut used = match found.rounds.is_empty() {
            true => String::new(),
            false => format!("         used by {}", round_ranges(&found.rounds)),
        };
        if let Some(files) = found.files {
            used.push_str(&format!(": {}", count(files, "file")));
        }
        if let Some(path) = &found.first_path {
            used.push_str(&format!(", first {}", path_text(path)));
        }
        if !used.is_empty() {
            screen::line(used);
        }
    }
    let (rounds, services) = (report.rounds.len() as u64, report.services.len());
    let missing = missing(ledger, report);
    let read = format!(
        "{}, {} {}",
        count(report.objects, "object"),
        format_size(report.bytes),
        if report.opened { "read, opened and compared" } else { "read and hashed" }
    );
    let whole = report.services.iter().filter(|service| service.whole).count();
    let of = whole_of(whole, services + missing.len());
    if report.is_whole() {
        screen::line(format!("{}, {of}: {read}", count(rounds, "round")));
        say_missing(rounds, &missing);
        return;
    }
    let newest = match report.newest_whole() {
        Some(number) => format!("newest whole round: {number}"),
        None => "no round is whole".to_owned(),
    };
    let codes: BTreeSet<_> = report.damaged.iter().map(|found| alert(&found.damage)).collect();
    let codes = codes.iter().map(|code| code.as_str()).collect::<Vec<_>>().join(", ");
    let found = state_of(ledger, report);
    let then = match found {
        Found::Outlived => "no new round needs it.",
        Found::Whole | Found::Damaged if report.damaged.iter().all(|one| is_known(ledger, &one.damage)) => {
            "all of it is in quarantine, and no new round needs it."
        }
        Found::Whole | Found::Damaged => "prune nothing until this is mended.",
    };
    screen::line(format!("{of}, {newest}. {read}. {codes}: {then}"));
    say_missing(rounds, &missing);
    if found == Found::Outlived {
        let old: BTreeSet<u64> = report.damaged.iter().flat_map(|found| found.rounds.clone()).collect();
        outlived(&old, &missing).into_iter().for_each(screen::line);
        return;
    }
    let hurt: Vec<_> =
        report.services.iter().filter(|service| !service.whole).map(|s| s.service.as_str()).collect();
    let newest = report.rounds.iter().map(|round| round.number).max();
    if newest.is_some() && newest == report.newest_whole() {
        screen::line("→ new rounds are whole again; the damaged ones stay damaged, whatever is uploaded");
    } else if !hurt.is_empty() && !heals {
        screen::line(format!(
            "→ muster verify --heal tells the leader; then muster start --services {} --wait uploads again, from the live \
             service, what is lost",
            hurt.join(",")
        ));
    }
    if report.damaged.iter().any(|found| found.damage.service().is_none()) {
        screen::line(
            "→ bring these objects back from a copy of the share: their hashes or signatures tell the right one",
        );
    }
}
