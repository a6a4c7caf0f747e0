//! `muster prune`: what the signed retention keeps no longer leaves the share, in two passes. Needs the share and the
//! pruner's own key, and neither coordinator nor bus: the log tells it everything.

mod view;
mod words;

use std::path::Path;

use muster_protocol::envelope::Signer;
use muster_protocol::log::{Role, State};
use muster_protocol::prune::Terms;
use muster_share::prune::{PruneError, Renewed, Report, plan, prune, renew};

use crate::args::Prune;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::operator::Operator;
use crate::saying::signing_key;
use crate::{screen, steady};

/// The pruner's key in a fleet's folder, as `init` and `rebuild` make it.
const KEY: &str = "keys/pruner.key";

/// Does it, or says what it would do.
pub(crate) async fn run(args: Prune) -> Outcome {
    let (folder, operator) = fleet::operator_at(args.contact.config.as_deref())?;
    let mut fleet = match args.dry_run {
        true => Fleet::of(operator.clone()).await?,
        false => Fleet::to_change(operator.clone()).await?,
    };
    let now = steady::now(&operator.operator.state);
    if args.dry_run {
        let plan = plan(&fleet.log, now).await.map_err(|error| failure(error, false))?;
        if args.contact.json {
            screen::json(&view::View::of_plan(&fleet, &plan));
        } else {
            words::plan(&fleet, &plan, grace(fleet.state()));
        }
        return Ok(if plan.frozen.is_empty() { Exit::Done } else { Exit::Refused });
    }
    let signer = key(&args, &folder, &operator, fleet.state())?;
    // Before anything else: whatever ends the prune, nothing that stays becomes free.
    let renewed = renew(&fleet.log, now).await.map_err(|error| failure(error, false))?;
    let report: Report = prune(&mut fleet.log, &signer, now).await.map_err(|error| failure(error, false))?;
    fleet.remember()?;
    if args.contact.json {
        screen::json(&view::View::of_report(&fleet, &report, renewed.as_ref()));
    } else {
        words::report(&fleet, &report, renewed.as_ref(), grace(fleet.state()));
    }
    match report.stopped {
        Some(error) => Err(failure(error, true)),
        None => renewed.and_then(lapsing).map_or(Ok(Exit::Done), Err),
    }
}

/// Why locks of what stays may run out.
fn lapsing(renewed: Renewed) -> Option<Failure> {
    let (path, error) = renewed.failure?;
    Some(
        Failure::from(error)
            .because(format!("The lock of {path} was not renewed, of {} in all.", renewed.failed))
            .next("give the pruner s3:GetObjectRetention and s3:PutObjectRetention: docs/shares.md, Object Lock")
            .next("run muster prune again before the locks end"),
    )
}

fn grace(state: &State) -> std::time::Duration {
    let clear = state.config.as_ref().map(|config| config.clear.clone()).unwrap_or_default();
    Terms::of(&clear).map(|terms| terms.grace).unwrap_or_default()
}

/// The pruner's key.
///
/// # Errors
/// Exit 5 when there is none, exit 7 when it is not a pruner's of this fleet.
fn key(args: &Prune, folder: &Path, operator: &Operator, state: &State) -> Result<Signer, Failure> {
    let is_pruner = |signer: &Signer| matches!(state.role(&signer.key_id()), Some(Role::Pruner));
    let next = "give it with --key FILE, or: muster enroll NAME --role pruner --root PATH";
    let signer = match &args.key {
        Some(file) => signing_key(file).map_err(|failure| failure.next(next))?,
        None => match signing_key(&operator.operator.key).ok().filter(is_pruner) {
            Some(own) => own,
            None => signing_key(&folder.join(KEY)).map_err(|failure| failure.next(next))?,
        },
    };
    if is_pruner(&signer) {
        return Ok(signer);
    }
    Err(Failure::new(
        Exit::Refused,
        format!("SEC-01: key {} is no pruner's of this fleet now", signer.key_id().short()),
    )
    .because("Only a pruner may delete; its key is of no use for anything else.")
    .next(next))
}

/// `swept`: something was deleted before it, as it should be.
fn failure(error: PruneError, swept: bool) -> Failure {
    let code = error.code();
    let nothing = if swept { "Nothing more was deleted." } else { "Nothing was deleted." };
    let named = |exit, error: &PruneError| Failure::new(exit, format!("{code}: {error}")).caused_by(error);
    match error {
        PruneError::Damaged(_) | PruneError::Contradiction { .. } | PruneError::ObjectList(_) => {
            named(Exit::Damaged, &error)
                .because(
                    "Prune stands still until this is mended, or its rounds are old enough to go as well.",
                )
                .because(nothing)
                .next("muster verify names everything that is damaged")
                .next("bring the object back from a copy of the share")
                .next("or start a round: muster start --wait uploads what is lost again from the live source")
        }
        PruneError::Frozen(reasons) => {
            let mut failure = Failure::new(Exit::Refused, format!("{code}: prune is frozen"));
            for reason in &reasons {
                failure = failure.because(format!("{reason}"));
            }
            failure = failure.because(nothing);
            for reason in &reasons {
                failure = failure.next(reason.ends());
            }
            failure
        }
        PruneError::Terms(_) => named(Exit::Usage, &error)
            .because(nothing)
            .next("muster config show names the settings; muster config set KEY VALUE changes one"),
        PruneError::Listing { .. } => named(Exit::Unreachable, &error)
            .because(nothing)
            .next("look at the share: what its listing leaves out cannot be told from what is gone"),
        PruneError::Store(error) => Failure::from(error).because(nothing),
        PruneError::Delete { .. } => {
            let mut failure = named(Exit::Unreachable, &error);
            for step in code.steps() {
                failure = failure.next(*step);
            }
            failure
        }
        PruneError::List(_) => named(Exit::Failed, &error).because(nothing),
        PruneError::Append(error) => Failure::from(error).because("The next muster prune goes on from here."),
        PruneError::Log(error) => Failure::from(error).because(nothing),
        PruneError::NotPruner { .. } => named(Exit::Refused, &error).because(nothing),
    }
}
