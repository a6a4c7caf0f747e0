//! `muster restore ROUND --service S --kit PATH`: back into the running service, through its agent.
//!
//! ```text
//! log ─▶ round ─▶ slice        ask ─▶ offer        headers ─▶ grant ─▶ share        audit record        order ─▶ status …
//! ```
//!
//! The recovery key never leaves this machine: what goes out are the file keys of one slice, sealed to the agent's key
//! for this one restore. If this command goes away, the agent carries the restore to its end all the same.

mod granting;
mod talk;
mod view;

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use muster_agent::recover::{Existing, Origin, Round};
use muster_protocol::causes::causes;
use muster_protocol::ids::RestoreId;
use muster_protocol::log::{Audit, Pin};
use muster_protocol::message::{
    MAX_ORDER_PATH, OfferVerdict, RestoreExisting, RestoreOrder, RestoreState, RestoreTarget,
};
use muster_share::log::{AppendError, Log};
use muster_share::secret_file;
use serde_bytes::ByteBuf;

use crate::args::Restore;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Fleet, operator};
use crate::kit::Kit;
use crate::operator::Operator;
use crate::reading_back::{path_text, round_failure, selector};
use crate::screen;
use talk::Agent;
use view::Told;

/// How often a lost slot of the log is tried again.
const APPENDS: u32 = 20;

/// Restores, or follows a restore.
pub(crate) async fn run(args: Restore) -> Outcome {
    let (service, config) = (args.service.clone(), args.config.clone());
    tokio::select! {
        outcome = restore(args) => match outcome {
            // The bus says nothing to whom it does not let say this.
            Err(failure) if failure.exit() == Exit::Unreachable => {
                let operator = operator(config.as_deref())?;
                Fleet::of(operator.clone()).await?.operator_may(&operator, "restore")?;
                Err(failure)
            }
            outcome => outcome,
        },
        _ = tokio::signal::ctrl_c() => {
            screen::aside(format!(
                "interrupted: a restore that has begun goes on; follow it with: muster restore --service {service} --follow"
            ));
            Ok(Exit::Interrupted)
        }
    }
}

async fn restore(args: Restore) -> Outcome {
    let operator = operator(args.config.as_deref())?;
    let signer = secret_file::read_signing_key(&operator.operator.key)?;
    let (Some(round), Some(kit)) = (&args.round, &args.kit) else {
        let fleet = Fleet::of(operator.clone()).await?;
        let agent = Agent::connect(&operator, &fleet, &args.service, signer).await?;
        return follow(&args, &agent, None, None).await;
    };
    let kit = Kit::open(kit)?;
    if operator.fleet.root != kit.root {
        return Err(Failure::new(Exit::Key, "the kit belongs to another fleet than the configuration")
            .next("take the kit of this fleet"));
    }
    let (path, target) = places(&args)?;
    let mut fleet = Fleet::held_to_change(operator.clone(), &args.expect).await?;
    let pin = Pin { root: Some(kit.root), fleet: Some(operator.fleet.id), head: Some(fleet.log.seen()) };
    let store = Arc::clone(fleet.log.store());
    let origin = Origin { store, pin, keys: Arc::clone(&kit.keys), round: selector(round) };
    let opened = Round::open(origin).await.map_err(|error| round_failure(error, &kit.keys))?;
    let slice = granting::slice(&opened, &args.service, &kit.keys).await?;
    let manifest = opened.manifest();
    let receipt = slice.receipt_id();
    let agent = Agent::connect(&operator, &fleet, &args.service, signer).await?;

    let (restore, recipient) = match agent.ask(manifest.round, receipt).await? {
        OfferVerdict::Offered { restore, recipient, .. } => (restore, recipient),
        OfferVerdict::Refused(refused) => return Err(talk::refused(&args.service, &refused)),
    };
    let made = granting::grant(&fleet, &slice, path.clone(), restore, &recipient, &kit.keys).await?;
    let what = format!(
        "restore of {} from round {} {}{}, existing {}: restore {restore}, grant {}",
        args.service,
        manifest.number,
        match &args.into {
            Some(into) => format!("into {}", into.display()),
            None => "in place".to_owned(),
        },
        path.as_ref().map(|path| format!(", only {}", path_text(path))).unwrap_or_default(),
        word(args.existing),
        made.id
    );
    record(&mut fleet.log, &agent, &what).await?;
    fleet.remember()?;

    let order = RestoreOrder {
        service: args.service.clone(),
        restore,
        nonce: talk::nonce(),
        round: manifest.round,
        receipt,
        grant: made.id,
        grant_size: made.size,
        path: path.map(ByteBuf::from),
        existing: match args.existing {
            Existing::Refuse => RestoreExisting::Refuse,
            Existing::Keep => RestoreExisting::Keep,
            Existing::Replace => RestoreExisting::Replace,
        },
        target,
    };
    if !args.json {
        screen::aside(format!(
            "restoring {} from round {} {}",
            args.service,
            manifest.number,
            args.into.as_ref().map_or("in place".to_owned(), |into| format!("into {}", into.display()))
        ));
    }
    let state = agent.order(&order).await?;
    follow(&args, &agent, Some((restore, manifest.number)), Some(state)).await
}

/// Path and target of the order.
fn places(args: &Restore) -> Result<(Option<Vec<u8>>, RestoreTarget), Failure> {
    let long = |what: &str| {
        Failure::usage(format!("{what} is longer than {MAX_ORDER_PATH} bytes")).next("name a folder above it")
    };
    let path = args.path.as_ref().map(|path| path.as_bytes().to_vec());
    if path.as_ref().is_some_and(|path| path.len() > MAX_ORDER_PATH) {
        return Err(long("--path"));
    }
    let target = match &args.into {
        None => RestoreTarget::InPlace,
        Some(into) if !into.is_absolute() => {
            return Err(Failure::usage(format!("--into {} is not absolute", into.display()))
                .next("it is a folder of the agent's machine, not of this one"));
        }
        Some(into) if into.as_os_str().len() > MAX_ORDER_PATH => return Err(long("--into")),
        Some(into) => RestoreTarget::Into { path: ByteBuf::from(into.as_os_str().as_bytes().to_vec()) },
    };
    Ok((path, target))
}

fn word(existing: Existing) -> &'static str {
    match existing {
        Existing::Refuse => "refuse",
        Existing::Keep => "keep",
        Existing::Replace => "replace",
    }
}

/// Puts into the log who restores what, before anything is ordered.
async fn record(log: &mut Log, agent: &Agent, what: &str) -> Result<(), Failure> {
    let (what, at) = (what.chars().take(4096).collect::<String>(), screen::now());
    let audit = Audit { who: agent.signer().key_id(), what, at };
    for _ in 0..APPENDS {
        match log.append(agent.signer(), &audit).await {
            Ok(_) => return Ok(()),
            Err(AppendError::Lost) => {}
            Err(AppendError::Refused { why }) => {
                return Err(Failure::new(
                    Exit::Refused,
                    format!("SEC-01: the log does not take the record: {why}"),
                )
                .because("Nothing was restored.")
                .next("restore with the key of a current operator or admin"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(Exit::Failed, "the log did not take the record of this restore")
        .because("Others write to it all the time. Nothing was restored.")
        .next("try again"))
}

/// Shows the restore until it has ended.
async fn follow(
    args: &Restore,
    agent: &Agent,
    restore: Option<(RestoreId, u64)>,
    mut state: Option<RestoreState>,
) -> Outcome {
    let mut told = Told::new(args.json);
    let id = restore.map(|(id, _)| id);
    let ended = loop {
        match state.take() {
            Some(RestoreState::Running { done_bytes, total_bytes }) => told.progress(done_bytes, total_bytes),
            Some(state @ (RestoreState::Ended(_) | RestoreState::Refused(_))) => break state,
            Some(RestoreState::Offered) => {
                return Err(Failure::new(Exit::Failed, "the agent did not hear the order")
                    .next("run the command again"));
            }
            Some(RestoreState::Unknown) => {
                return Err(Failure::new(
                    Exit::Failed,
                    format!("the agent of {} knows no such restore", args.service),
                )
                .because("It has been started again, or has restored nothing yet.")
                .next("muster audit tells what was ordered; look at the service, and restore again"));
            }
            None => {}
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        state = Some(agent.query(id).await?);
    };
    told.clear();
    view::end(args, restore, ended)
}

/// An error of the agent crate that has no words of its own here.
fn plain(exit: Exit, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(exit, error.to_string()).because(causes(error))
}

impl Operator {
    /// Where this operator's fleet is answered.
    pub(crate) fn restore_hint(service: &str) -> String {
        format!(
            "is the agent running? start it on the machine of {service}, or restore into a folder: muster recover"
        )
    }
}
