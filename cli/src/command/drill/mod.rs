//! `muster drill`: recovers a round into a folder that is deleted again, to see whether that goes and how long it takes. What came of
//! it is a signed record of the log: `status` and DRILL-01 go by it.

mod report;
mod scratch_folder;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_agent::recover::{
    Existing, Origin, Outcome as Recovered, RecoverError, Request, Round, RoundError, Watch, recover,
};
use muster_protocol::alert::DrillTerms;
use muster_protocol::document::Manifest;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::RoundId;
use muster_protocol::log::{Drill as Body, DrillOutcome, Head, Pin, Scope, State};
use muster_protocol::units::format_size;
use muster_share::verify::Damage;

use self::scratch_folder::ScratchFolder;
use crate::args::Drill;
use crate::command::init::plan::share_folder;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet, hold_to, open_store};
use crate::kit::Kit;
use crate::operator::Operator;
use crate::proof::{self, Proof};
use crate::reading_back::{damage_line, round_failure, selector, show_progress};
use crate::saying::{previous, say, signing_key};
use crate::{looking, screen};

/// Packs that are opened at once at most, as a recovery does.
const WORKERS_MOST: usize = 8;

/// Who notes what came of it.
struct Notary {
    operator: Operator,
    fleet: Fleet,
    signer: Signer,
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
    let drilled = tokio::select! {
        drilled = drill(&args, &kit, folder.path().to_owned()) => drilled,
        _ = tokio::signal::ctrl_c() => {
            folder.clear().await?;
            screen::aside("interrupted: nothing is noted");
            return Ok(Exit::Interrupted);
        }
    };
    // Deleted in any case, and before anything is noted: a full disk is no reason to leave it behind.
    let cleared = folder.clear().await;
    let drilled = drilled?;
    let (noted, terms, proven) = match notary {
        Some(mut notary) => {
            let head = notary.note(&drilled).await?;
            let proven = notary.prove(&kit, &drilled)?;
            (Some((head, notary.operator.operator.name.to_string())), notary.terms(), proven)
        }
        None => (None, DrillTerms::default(), false),
    };
    let slow = terms.promised.filter(|most| drilled.scope == Scope::All && drilled.took > *most);
    let told = report::Told { drilled: &drilled, noted: noted.as_ref(), terms, slow, proven, args: &args };
    if args.reading.json {
        screen::json(&report::view(&told));
    } else {
        report::print(&told);
    }
    cleared?;
    Ok(match (drilled.outcome(), slow) {
        (DrillOutcome::Failed, _) => Exit::Damaged,
        (DrillOutcome::Passed, Some(_)) => Exit::Failed,
        (DrillOutcome::Passed, None) => Exit::Done,
    })
}

/// Who notes it: nobody for a share that is named by its address, which may be a copy. Whoever may not is told before hours of work.
async fn notary(args: &Drill) -> Result<Option<Notary>, Failure> {
    if args.reading.share.is_some() {
        return Ok(None);
    }
    let operator = fleet::operator(args.reading.config.as_deref())?;
    let fleet = Fleet::held(operator.clone(), &args.reading.expect).await?;
    fleet.operator_may(&operator, "note a drill")?;
    let signer = signing_key(&operator.operator.key)?;
    Ok(Some(Notary { operator, fleet, signer }))
}

/// Recovers, and judges what came out.
async fn drill(args: &Drill, kit: &Kit, into: PathBuf) -> Result<Drilled, Failure> {
    let (share, pin) = looking::place(&args.reading, kit)?;
    let store = open_store(&share).await?;
    hold_to(&store, Pin { head: None, ..pin }, &args.reading.expect).await?;
    let origin = || Origin {
        store: Arc::clone(&store),
        pin,
        keys: Arc::clone(&kit.keys),
        round: selector(&args.round),
    };
    let scope = match args.service.as_slice() {
        [] => Scope::All,
        some => Scope::Services(some.to_vec()),
    };
    let begun = Instant::now();
    let round = match Round::open(origin()).await {
        Ok(round) => round,
        Err(error) => return unopened(error, &args.round, &store, pin, scope, kit).await,
    };
    let manifest = round.manifest().clone();
    room(&manifest, &scope, &into)?;
    let (id, number) = (manifest.round, round.number());
    let request = Request {
        // The same round, though a newer one may be committed by now.
        from: Origin { round: muster_share::verify::RoundSelector::Number(number), ..origin() },
        services: args.service.clone(),
        path: None,
        into,
        existing: Existing::Refuse,
        resume: false,
        numeric_owner: true,
        apart_from: share_folder(&share.url).into_iter().chain([args.kit.clone()]).collect(),
        workers: std::thread::available_parallelism().map_or(2, usize::from).min(WORKERS_MOST),
    };
    let watch = Watch::default();
    let mut drilled = Drilled {
        round: id,
        number,
        scope,
        took: Duration::ZERO,
        recovered: None,
        damaged: Vec::new(),
        reason: None,
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

/// A round that does not open is a drill that failed, if it is known which one it is. What says nothing about the share, as a wrong
/// key, is no drill at all.
async fn unopened(
    error: RoundError,
    name: &crate::round_name::RoundName,
    store: &Arc<dyn muster_share::store::Store>,
    pin: Pin,
    scope: Scope,
    kit: &Kit,
) -> Result<Drilled, Failure> {
    let RoundError::Damaged { number: Some(number), damaged, .. } = &error else {
        return Err(round_failure(error, &kit.keys));
    };
    let Ok(ledger) = muster_share::verify::read_ledger(store, pin, false).await else {
        return Err(round_failure(error, &kit.keys));
    };
    let Ok(round) = selector(name).select(&ledger.state).map(|round| round.open.round) else {
        return Err(round_failure(error, &kit.keys));
    };
    Ok(Drilled {
        round,
        number: *number,
        scope,
        took: Duration::ZERO,
        recovered: None,
        damaged: damaged.clone(),
        reason: reason(damaged),
        manifest: None,
    })
}

/// Whether what comes out has room.
fn room(manifest: &Manifest, scope: &Scope, into: &std::path::Path) -> Result<(), Failure> {
    let slices = manifest.slices.iter().filter(|slice| scope.contains(&slice.service));
    let need: u64 = slices.map(|slice| slice.totals.source_bytes).fold(0, u64::saturating_add);
    let place = into.ancestors().find(|place| place.exists()).unwrap_or(into);
    match crate::scratch::free(place) {
        Ok(free) if free < need => Err(Failure::new(
            Exit::Failed,
            format!(
                "the drill would write {}, and {} has {} free",
                format_size(need),
                place.display(),
                format_size(free)
            ),
        )
        .next("name a folder with more room: --into DIR")
        .next("or drill one service after the other: --service NAME")),
        // Where nobody can tell, the recovery finds out.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Why a drill failed; none: nothing is damaged.
fn reason(damaged: &[Damage]) -> Option<String> {
    let first = damaged.first()?;
    Some(match damaged.len() {
        1 => damage_line(first),
        more => format!("{more} objects are damaged, first: {}", damage_line(first)),
    })
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
        .next("name another folder, absent or empty, outside of the share and with room: --into DIR")
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

    /// What is promised.
    fn terms(&self) -> DrillTerms {
        let none = BTreeMap::new();
        DrillTerms::of(self.fleet.state().config.as_ref().map_or(&none, |config| &config.clear))
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
