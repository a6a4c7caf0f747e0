//! `muster drill`: recovers a round into a folder that is deleted again, to see whether that goes and how long it takes. What came of
//! it is a signed record of the log: `status` and DRILL-01 go by it.

mod report;
mod scratch_folder;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_agent::recover::{
    Existing, Origin, Outcome as Recovered, RecoverError, Request, Round, RoundError, Watch, recover,
};
use muster_protocol::alert::DrillTerms;
use muster_protocol::document::Manifest;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{RoundId, ServiceName};
use muster_protocol::log::{Drill as Body, DrillOutcome, Head, Pin, Scope, State};
use muster_protocol::units::format_size;
use muster_share::store::Store;
use muster_share::verify::chain::read_manifest;
use muster_share::verify::{Damage, RoundSelector, Trouble, read_ledger};
use tokio::signal::unix::{SignalKind, signal};

use self::scratch_folder::ScratchFolder;
use crate::args::Drill;
use crate::command::init::plan::share_folder;
use crate::command::recover::workers;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet, hold_to, open_store};
use crate::kit::Kit;
use crate::operator::Operator;
use crate::proof::{self, Proof};
use crate::reading_back::{round_failure, selector, show_progress};
use crate::round_name::RoundName;
use crate::saying::{previous, say, signing_key};
use crate::screen::plural;
use crate::{looking, screen};

/// Committed rounds that are looked through for one that holds all services.
const ROUNDS_READ: usize = 100;
/// Services that a record names: a drill of more says so by the first of them.
const SERVICES_NAMED: usize = 500;

/// Who notes what came of it.
struct Notary {
    operator: Operator,
    fleet: Fleet,
    signer: Signer,
}

/// Which round is recovered.
struct Choice {
    round: RoundId,
    number: u64,
    /// It holds all services of the roster, and no newer one does: what comes of it says something about the fleet.
    whole: bool,
}

/// What came of it.
struct Drilled {
    round: RoundId,
    number: u64,
    scope: Scope,
    took: Duration,
    /// None: the round did not even open.
    recovered: Option<Recovered>,
    damaged: Vec<Damage>,
    /// Why it failed.
    reason: Option<String>,
    /// Services of the roster that the round lacks, where all were asked for.
    missing: Vec<ServiceName>,
    manifest: Option<Manifest>,
}

impl Drilled {
    fn outcome(&self) -> DrillOutcome {
        if self.reason.is_some() { DrillOutcome::Failed } else { DrillOutcome::Passed }
    }

    /// Files that came out, and their bytes.
    fn totals(&self) -> (u64, u64) {
        let services = self.recovered.iter().flat_map(|recovered| &recovered.services);
        services.fold((0, 0), |(files, bytes), (_, one)| (files + one.files, bytes + one.bytes))
    }
}

/// Drills.
pub(crate) async fn run(args: Drill) -> Outcome {
    let kit = Kit::open(&args.kit)?;
    let notary = notary(&args).await?;
    let folder = ScratchFolder::at(args.into.clone(), args.keep)?;
    let into = folder.path().to_owned();
    let drilled = tokio::select! {
        drilled = drill(&args, &kit, into.clone()) => drilled,
        () = told_to_end() => {
            folder.clear().await?;
            screen::aside("interrupted: nothing is noted");
            return Ok(Exit::Interrupted);
        }
    };
    // Deleted in any case, and before anything is noted: a full disk is no reason to leave it behind.
    let cleared = folder.clear().await;
    let drilled = drilled?;
    let (mut noted, mut terms, mut proven, mut unnoted) = (None, DrillTerms::default(), false, None);
    if let Some(mut notary) = notary {
        terms = DrillTerms::of(notary.fleet.state().settings());
        match notary.note(&drilled).await {
            Ok(head) => {
                noted = Some((head, notary.operator.operator.name.to_string()));
                proven = notary.prove(&kit, &drilled)?;
            }
            // Hours of work are told of all the same.
            Err(failure) => unnoted = Some(failure),
        }
    }
    let slow = terms.promised.filter(|most| drilled.scope == Scope::All && drilled.took > *most);
    let kept = args.keep.then_some(into);
    let told =
        report::Told { drilled: &drilled, noted: noted.as_ref(), terms, slow, proven, args: &args, kept };
    if args.reading.json {
        screen::json(&report::view(&told));
    } else {
        report::print(&told);
    }
    cleared?;
    if let Some(failure) = unnoted {
        return Err(
            failure.because("The drill itself is over, and its result stands above; it was not noted.")
        );
    }
    Ok(match (drilled.outcome(), slow) {
        (DrillOutcome::Failed, _) => Exit::Damaged,
        (DrillOutcome::Passed, Some(_)) => Exit::Failed,
        (DrillOutcome::Passed, None) if drilled.missing.is_empty() => Exit::Done,
        (DrillOutcome::Passed, None) => Exit::Partial,
    })
}

/// Ctrl-C, or whoever ends processes: what was recovered must not stay behind.
async fn told_to_end() {
    let (mut term, mut hangup) = match (signal(SignalKind::terminate()), signal(SignalKind::hangup())) {
        (Ok(term), Ok(hangup)) => (term, hangup),
        (Err(_), _) | (_, Err(_)) => {
            tokio::signal::ctrl_c().await.ok();
            return;
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
        _ = hangup.recv() => {}
    }
}

/// Who notes it: nobody for a share that is named by its address, which may be a copy. Whoever may not is told before hours of work.
async fn notary(args: &Drill) -> Result<Option<Notary>, Failure> {
    if args.reading.share.is_some() {
        return Ok(None);
    }
    let operator = fleet::operator(args.reading.config.as_deref())?;
    let fleet = Fleet::held_to_change(operator.clone(), &args.reading.expect).await?;
    fleet.operator_may(&operator, "note a drill")?;
    let signer = signing_key(&operator.operator.key)?;
    Ok(Some(Notary { operator, fleet, signer }))
}

/// The round that is meant: the one that was named, or the newest one that holds all services of the roster; of several, a damaged one
/// is the one to find out about.
async fn choose(name: &RoundName, store: &Arc<dyn Store>, state: &State) -> Result<Option<Choice>, Failure> {
    let roster = state.services();
    let mut whole = None;
    let mut rounds = state.rounds_by_number();
    rounds.retain(|round| round.is_recoverable());
    for round in rounds.iter().rev().take(ROUNDS_READ) {
        let holds = match read_manifest(store.as_ref(), state, round).await {
            Ok(manifest) => {
                roster.iter().all(|service| manifest.slices.iter().any(|slice| slice.service == *service))
            }
            Err(Trouble::Damaged(_)) => true,
            Err(Trouble::Store(error)) => return Err(error.into()),
        };
        if holds {
            whole = Some(round.open.number);
            break;
        }
    }
    let chosen = match (name, whole) {
        (RoundName::Latest, Some(number)) => RoundSelector::Number(number),
        (RoundName::Latest, None) | (RoundName::Number(_) | RoundName::Prefix(_), _) => selector(name),
    };
    Ok(chosen.select(state).ok().map(|round| {
        let number = round.open.number;
        Choice { round: round.open.round, number, whole: whole == Some(number) }
    }))
}

/// Recovers, and judges what came out.
async fn drill(args: &Drill, kit: &Kit, into: PathBuf) -> Result<Drilled, Failure> {
    let (share, pin) = looking::place(&args.reading, kit)?;
    let store = open_store(&share).await?;
    hold_to(&store, Pin { head: None, ..pin }, &args.reading.expect).await?;
    let ledger = read_ledger(&store, pin, false).await.ok().filter(|ledger| !ledger.broken);
    let choice = match &ledger {
        Some(ledger) => choose(&args.round, &store, &ledger.state).await?,
        None => None,
    };
    let origin = |round| Origin { store: Arc::clone(&store), pin, keys: Arc::clone(&kit.keys), round };
    let chosen =
        choice.as_ref().map_or_else(|| selector(&args.round), |one| RoundSelector::Number(one.number));
    let begun = Instant::now();
    let round = match (Round::open(origin(chosen)).await, &choice) {
        (Ok(round), _) => round,
        // A round that does not open is a drill that failed, if it is known which one it is. What says nothing about the share, as a
        // wrong key, is no drill at all.
        (Err(RoundError::Damaged { damaged, .. }), Some(choice)) => {
            return Ok(Drilled {
                round: choice.round,
                number: choice.number,
                scope: scope(args, choice, None),
                took: begun.elapsed(),
                recovered: None,
                reason: reason(&damaged),
                damaged,
                missing: Vec::new(),
                manifest: None,
            });
        }
        (Err(error), _) => return Err(round_failure(error, &kit.keys)),
    };
    let manifest = round.manifest().clone();
    let choice = choice.unwrap_or(Choice { round: manifest.round, number: round.number(), whole: false });
    room(&manifest, &args.service, &into)?;
    let held = |service: &ServiceName| manifest.slices.iter().any(|slice| slice.service == *service);
    let roster = ledger.iter().filter(|_| args.service.is_empty()).flat_map(|ledger| ledger.state.services());
    let missing = roster.filter(|service| !held(service)).collect();
    let mut apart: Vec<_> = share_folder(&share.url).into_iter().chain([args.kit.clone()]).collect();
    apart.extend(fleet::folder_at(args.reading.config.as_deref()).filter(|_| args.reading.share.is_none()));
    let request = Request {
        // The same round, though a newer one may be committed by now.
        from: origin(RoundSelector::Number(choice.number)),
        services: args.service.clone(),
        path: None,
        into,
        existing: Existing::Refuse,
        resume: false,
        numeric_owner: true,
        apart_from: apart,
        workers: workers(),
    };
    let watch = Watch::default();
    let mut drilled = Drilled {
        round: choice.round,
        number: choice.number,
        scope: scope(args, &choice, Some(&manifest)),
        took: Duration::ZERO,
        recovered: None,
        damaged: Vec::new(),
        reason: None,
        missing,
        manifest: Some(manifest),
    };
    let recovered = show_progress(recover(&request, &watch), &watch.progress, "recovering", || None).await;
    drilled.took = begun.elapsed();
    match recovered {
        Ok(recovered) => {
            drilled.damaged.clone_from(&recovered.damaged);
            drilled.reason = reason(&recovered.damaged);
            drilled.recovered = Some(recovered);
            Ok(drilled)
        }
        Err(RecoverError::Round(RoundError::Damaged { damaged, .. })) => {
            drilled.reason = reason(&damaged);
            drilled.damaged = damaged;
            Ok(drilled)
        }
        Err(RecoverError::Round(error)) => Err(round_failure(error, &kit.keys)),
        Err(error) => Err(unfinished(&error)),
    }
}

/// What the drill says something about.
fn scope(args: &Drill, choice: &Choice, manifest: Option<&Manifest>) -> Scope {
    if choice.whole && args.service.is_empty() {
        return Scope::All;
    }
    let held = manifest.iter().flat_map(|manifest| &manifest.slices).map(|slice| &slice.service);
    let services: Vec<_> = match args.service.as_slice() {
        [] => held.take(SERVICES_NAMED).cloned().collect(),
        some => some.iter().take(SERVICES_NAMED).cloned().collect(),
    };
    Scope::Services(services)
}

/// Whether what comes out has room. Holes of files take none, so that only what is stored must have.
fn room(manifest: &Manifest, only: &[ServiceName], into: &Path) -> Result<(), Failure> {
    let wanted = |service: &ServiceName| only.is_empty() || only.contains(service);
    let slices = || manifest.slices.iter().filter(|slice| wanted(&slice.service));
    let source = slices().map(|slice| slice.totals.source_bytes).fold(0, u64::saturating_add);
    let stored = slices().map(|slice| slice.totals.stored_bytes).fold(0, u64::saturating_add);
    // Where nobody can tell, the recovery finds out.
    let Ok(free) = crate::scratch::free(into) else { return Ok(()) };
    let (place, free_size) = (into.display(), format_size(free));
    if free < stored.min(source) {
        let what = format!("the drill would write {}, and {place} has {free_size} free", format_size(source));
        return Err(Failure::new(Exit::Failed, what)
            .next("name a folder with more room: --into DIR")
            .next("or drill one service after the other: --service NAME"));
    }
    if free < source {
        let source = format_size(source);
        screen::aside(format!("warning: the drill writes up to {source}, and {place} has {free_size} free"));
    }
    Ok(())
}

/// Why a drill failed, in one line; none: nothing is damaged.
fn reason(damaged: &[Damage]) -> Option<String> {
    let first = damaged.first()?;
    let of = first.service().map_or("fleet", |service| service.as_str());
    let more = damaged.len() - 1;
    let others = if more == 0 { String::new() } else { format!(", and {} more", plural(more, "object")) };
    Some(format!("{of}: {} ({}){others}", first.object, first.fault))
}

/// A recovery that came to no end for another reason than the share.
fn unfinished(error: &RecoverError) -> Failure {
    let exit = match error {
        RecoverError::Stopped => Exit::Interrupted,
        RecoverError::Target { .. }
        | RecoverError::MakeTarget { .. }
        | RecoverError::Inside { .. }
        | RecoverError::Resume { .. }
        | RecoverError::Path { .. } => Exit::Usage,
        RecoverError::Round(_) | RecoverError::CutLinks { .. } | RecoverError::Write(_) => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
        .caused_by(error)
        .because("Nothing is noted: this says nothing about the share.")
        .next("name another folder, absent or empty, outside of share, kit and the fleet's folder, and with room: --into DIR")
}

impl Notary {
    /// Appends the record.
    async fn note(&mut self, drilled: &Drilled) -> Result<Head, Failure> {
        let (files, bytes) = drilled.totals();
        let at = screen::now();
        let make = |state: &State| {
            Ok(Body {
                previous: previous::<Body>(state),
                round: drilled.round,
                scope: drilled.scope.clone(),
                outcome: drilled.outcome(),
                files,
                bytes,
                took_millis: u64::try_from(drilled.took.as_millis()).unwrap_or(u64::MAX),
                reason: drilled.reason.clone(),
                at,
            })
        };
        let stands = |state: &State| {
            let last = state.drilled.as_ref().map(|last| &last.drill);
            last.is_some_and(|last| last.at == at && last.round == drilled.round)
        };
        let head = say::<Body>(&mut self.fleet.log, &self.signer, make, stands).await?;
        self.fleet.remember()?;
        Ok(head)
    }

    /// A drill that passed also shows that the kit's keys open the round (KEY-02).
    fn prove(&self, kit: &Kit, drilled: &Drilled) -> Result<bool, Failure> {
        let Some(manifest) = drilled.manifest.as_ref().filter(|_| drilled.reason.is_none()) else {
            return Ok(false);
        };
        let keyset = self.fleet.state().keysets.get(&manifest.keyset);
        let known: Vec<_> = keyset.iter().flat_map(|keyset| &keyset.keys).map(|key| &key.recipient).collect();
        let opening = kit.keys.iter().map(|key| key.recipient()).filter(|key| known.contains(&key));
        let proofs: Vec<_> = opening
            .map(|recipient| Proof {
                recipient,
                round: drilled.round,
                number: drilled.number,
                at: screen::now(),
            })
            .collect();
        proof::note(&self.operator, &proofs)
    }
}
