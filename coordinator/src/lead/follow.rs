//! Following: the log is read, the lease is watched, until this coordinator leads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use muster_protocol::alert::Code;
use muster_protocol::causes::causes;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::Nonce;
use muster_protocol::lead::{Event, Stop};
use muster_protocol::log::{Epoch, State};
use muster_protocol::time::Time;
use muster_share::log::{AppendError, HeadMemory, Log, LogError};

use super::driver::{Driver, Wish};
use crate::scribe::{GAP_LOOK, unix_now};

/// How following ended.
pub(crate) enum Followed {
    /// This process leads this epoch.
    Leads(Box<Log>, u64),
    /// Its key counts no longer.
    Revoked,
    /// The log cannot be believed.
    Broken(LogError),
    /// The share takes no record, and waiting does not mend it.
    Refused(AppendError),
}

/// What is done with the log; it comes back with what came of it.
type Work = BoxFuture<'static, (Box<Log>, Result<Done, AppendError>)>;

enum Done {
    Read,
    Appended,
    Lost,
}

#[derive(Debug, Clone, Copy)]
enum Task {
    Read,
    Append(u64),
}

/// Follows until this process leads or must end. Dropped at any moment, it loses nothing but its place in line.
pub(crate) async fn follow(
    driver: &mut Driver,
    log: Log,
    signer: &Arc<Signer>,
    memory: &HeadMemory,
) -> Followed {
    let mut hand = Some(Box::new(log));
    let mut tasks = VecDeque::from([Task::Read]);
    let mut work: Option<(Work, Time, Task)> = None;
    let mut told = Told::default();
    let mut looked = None;
    let mut known = false;
    loop {
        while let Some(wish) = driver.wish() {
            match wish {
                Wish::Read => tasks.push_back(Task::Read),
                Wish::Append(epoch) => tasks.push_back(Task::Append(epoch)),
                Wish::StepDown(epoch) => tracing::warn!(epoch, "COORD-01: another coordinator leads now"),
                // A broken log was returned as such where it was met.
                Wish::Stop(Stop::Revoked | Stop::Broken { .. }) => {}
            }
        }
        if driver.is_revoked() {
            return Followed::Revoked;
        }
        if let Some(epoch) = driver.leads().filter(|_| known)
            && let Some(log) = hand.take()
        {
            // What was still to be read is read by the scribe, when it is asked for again.
            driver.handle(Event::LogUnread);
            return Followed::Leads(log, epoch);
        }
        if let Some(log) = hand.take() {
            match tasks.pop_front() {
                Some(task) => {
                    let whole = looked.is_none_or(|at: Instant| at.elapsed() >= GAP_LOOK);
                    if whole {
                        looked = Some(Instant::now());
                    }
                    let work_on = carry(log, task, whole, signer.clone(), driver.instance());
                    work = Some((work_on.boxed(), driver.now(), task));
                }
                None => hand = Some(log),
            }
        }
        let finished = async {
            match &mut work {
                Some((work, _, _)) => work.await,
                None => std::future::pending().await,
            }
        };
        let (log, done) = tokio::select! {
            finished = finished => finished,
            () = driver.turn() => continue,
        };
        let Some((_, asked, task)) = work.take() else { continue };
        if let Err(error) = memory.remember(&log.seen()) {
            tracing::warn!(error = causes(&error), "the log head was not remembered");
        }
        match done {
            Ok(Done::Read) => {
                told.leader(log.state(), driver, signer);
                driver.log_read(asked, log.state());
                known = true;
            }
            Ok(Done::Appended) => {
                driver.handle(Event::EpochAppended);
                known = true;
            }
            Ok(Done::Lost) => driver.handle(Event::EpochLost),
            Err(AppendError::Log(error)) if error.alert() == Some(Code::Share08) => {
                driver.handle(Event::LogBroken { reason: causes(&error) });
                return Followed::Broken(error);
            }
            Err(error) => match task {
                Task::Read => {
                    told.unread(&error);
                    driver.handle(Event::LogUnread);
                }
                Task::Append(_) if error.is_transient() => {
                    tracing::warn!(error = causes(&error), "SHARE-01: the lead was not taken; trying again");
                    driver.handle(Event::EpochFailed);
                }
                Task::Append(_) => return Followed::Refused(error),
            },
        }
        hand = Some(log);
    }
}

async fn carry(
    mut log: Box<Log>,
    task: Task,
    whole: bool,
    signer: Arc<Signer>,
    instance: Nonce,
) -> (Box<Log>, Result<Done, AppendError>) {
    let done = match task {
        Task::Read => read(&mut log, whole).await.map(|()| Done::Read).map_err(AppendError::from),
        Task::Append(epoch) => append(&mut log, epoch, &signer, instance).await,
    };
    (log, done)
}

async fn read(log: &mut Log, whole: bool) -> Result<(), LogError> {
    log.refresh().await?;
    if whole {
        log.refuse_gap().await?;
    }
    Ok(())
}

/// Appends the `epoch` record in the slot after what was read. Where a record is missing, any append would fork the log:
/// that is looked for once more.
async fn append(log: &mut Log, epoch: u64, signer: &Signer, instance: Nonce) -> Result<Done, AppendError> {
    let next = log.state().next;
    log.refuse_gap().await?;
    if log.state().next != next {
        return Ok(Done::Lost);
    }
    match log.append(signer, &Epoch { epoch, instance, at: unix_now() }).await {
        Ok(_) => Ok(Done::Appended),
        Err(AppendError::Lost) => Ok(Done::Lost),
        Err(error) => Err(error),
    }
}

/// What was said already.
#[derive(Default)]
struct Told {
    epoch: Option<u64>,
    unread: bool,
}

impl Told {
    /// Who leads, once for each epoch.
    fn leader(&mut self, state: &State, driver: &Driver, signer: &Signer) {
        if std::mem::take(&mut self.unread) {
            tracing::info!("the log can be read on again");
        }
        let Some(current) = state.epoch else { return };
        let own = current.holder == signer.key_id() && current.instance == driver.instance();
        if !own && current.holder != signer.key_id() && self.epoch != Some(current.epoch) {
            self.epoch = Some(current.epoch);
            tracing::info!(
                leader = state.name_of(&current.holder),
                epoch = current.epoch,
                "another coordinator leads; waiting in case it falls silent"
            );
        }
    }

    fn unread(&mut self, error: &AppendError) {
        if !std::mem::replace(&mut self.unread, true) {
            tracing::warn!(error = causes(error), "the log cannot be read on");
        }
    }
}
