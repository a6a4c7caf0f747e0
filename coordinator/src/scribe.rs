//! The scribe: the one task that writes the log.
//!
//! It takes the lead, and appends what the desk asks for, one record after the other. A slot that another record took
//! is no failure: the scribe looks whether it still leads and tries the next one. Every change of the log's state is
//! told on a watch channel.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use muster_protocol::causes::causes;
use muster_protocol::entropy::random;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{KeyId, Nonce};
use muster_protocol::log::{Commit, End, Epoch, Open, State, Verified};
use muster_protocol::time::UnixMillis;
use muster_share::entropy::OsEntropy;
use muster_share::log::{AppendError, HeadMemory, Log, LogError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Tries for one record: each lost slot is somebody else's record, so this many at once is no accident.
const MAX_LOST_SLOTS: u32 = 100;
/// How often a candidate looks whether the leader still writes.
const LOOK: Duration = Duration::from_secs(2);

/// What the desk wants written; number and epoch are the scribe's.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// A round begins.
    Open(Open),
    /// A round is committed, with slices of these agents.
    Commit(Commit, Vec<KeyId>),
    /// A round is verified.
    Verified(Verified),
    /// A round ends.
    End(End),
}

/// Why an entry was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScribeError {
    /// Another coordinator, or another process of this one, leads now.
    #[error("another coordinator leads since epoch {epoch}")]
    Deposed {
        /// Its epoch.
        epoch: u64,
    },
    /// This coordinator's own key counts no longer.
    #[error("key {} is no coordinator's any more", key.short())]
    Revoked {
        /// The key.
        key: KeyId,
    },
    /// What was to be committed holds the slice of an agent that counts no longer.
    #[error("key {} made one of the slices, and is no agent's any more", key.short())]
    Disowned {
        /// The key.
        key: KeyId,
    },
    /// The append failed.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The scribe has ended.
    #[error("the log's writer has stopped")]
    Gone,
}

/// A way to the scribe.
#[derive(Clone)]
pub(crate) struct ScribeHandle {
    requests: mpsc::Sender<(Entry, oneshot::Sender<Result<(), ScribeError>>)>,
    state: watch::Receiver<Arc<State>>,
    epoch: u64,
}

impl ScribeHandle {
    /// Writes `entry`.
    pub(crate) async fn write(&self, entry: Entry) -> Result<(), ScribeError> {
        let (done, answer) = oneshot::channel();
        self.requests.send((entry, done)).await.map_err(|_| ScribeError::Gone)?;
        answer.await.map_err(|_| ScribeError::Gone)?
    }

    /// What the log says.
    pub(crate) fn state(&self) -> Arc<State> {
        self.state.borrow().clone()
    }

    /// A channel that tells every change of the log.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<State>> {
        self.state.clone()
    }

    /// The epoch that this coordinator leads.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// Coordinator's calendar time.
pub(crate) fn unix_now() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Takes the lead: at once where nobody leads or this coordinator did (`fresh`), otherwise once the log has stood
/// still for `takeover` and the leader of that epoch does not answer `alive`. Returns once the `epoch` record is in
/// the log.
///
/// # Errors
/// When the log cannot be trusted, or this key is no coordinator's.
pub(crate) async fn take_lead(
    log: &mut Log,
    signer: &Signer,
    takeover: Duration,
    mut fresh: bool,
    alive: impl Fn(u64) -> BoxFuture<'static, bool>,
) -> Result<u64, ScribeError> {
    let key = signer.key_id();
    let mut seen = (log.state().next, Instant::now());
    loop {
        log.refresh().await.map_err(AppendError::from)?;
        if log.state().next != seen.0 {
            seen = (log.state().next, Instant::now());
        }
        if !log.state().is_coordinator(&key) {
            return Err(ScribeError::Revoked { key });
        }
        let current = log.state().epoch;
        let free = current.is_none_or(|e| e.holder == key && fresh || !log.state().is_coordinator(&e.holder));
        if !free && seen.1.elapsed() < takeover {
            if fresh {
                let leader = current.map(|e| leader_name(log.state(), &e.holder)).unwrap_or_default();
                tracing::info!(leader, "another coordinator leads; waiting in case it falls silent");
                fresh = false;
            }
            tokio::time::sleep(LOOK.min(takeover)).await;
            continue;
        }
        // An idle leader writes nothing: only one that is silent on the bus as well has lost its place.
        if !free
            && let Some(leader) = current
            && alive(leader.epoch).await
        {
            seen.1 = Instant::now();
            continue;
        }
        let epoch = current.map_or(0, |e| e.epoch) + 1;
        let instance = Nonce::from_bytes(random(&mut OsEntropy));
        match log.append(signer, &Epoch { epoch, instance, at: unix_now() }).await {
            Ok(_) => return Ok(epoch),
            Err(AppendError::Lost) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn leader_name(state: &State, key: &KeyId) -> String {
    state.members.get(key).map_or_else(|| key.short(), |m| m.member.name.to_string())
}

/// Starts the scribe of a coordinator that leads `epoch`. It ends when every handle is gone, and gives the log back.
pub(crate) fn spawn(
    log: Log,
    signer: Arc<Signer>,
    epoch: u64,
    memory: HeadMemory,
) -> (ScribeHandle, tokio::task::JoinHandle<Log>) {
    let (requests, inbox) = mpsc::channel(64);
    let (told, state) = watch::channel(Arc::new(log.state().clone()));
    let task = tokio::spawn(run(log, signer, epoch, inbox, Telling { told, memory }));
    (ScribeHandle { requests, state, epoch }, task)
}

/// Where the log's state is told, and its head remembered.
struct Telling {
    told: watch::Sender<Arc<State>>,
    memory: HeadMemory,
}

impl Telling {
    fn tell(&self, log: &Log) {
        self.told.send_replace(Arc::new(log.state().clone()));
        if let Err(error) = self.memory.remember(&log.seen()) {
            tracing::warn!(error = causes(&error), "the log head was not remembered");
        }
    }
}

async fn run(
    mut log: Log,
    signer: Arc<Signer>,
    epoch: u64,
    mut inbox: mpsc::Receiver<(Entry, oneshot::Sender<Result<(), ScribeError>>)>,
    telling: Telling,
) -> Log {
    let mut unread = false;
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            request = inbox.recv() => {
                let Some((entry, done)) = request else { return log };
                let result = write(&mut log, &signer, epoch, entry).await;
                telling.tell(&log);
                // Whoever asked may be gone; the record stands either way.
                let _ = done.send(result);
                if let Err(error) = log.write_segment().await {
                    tracing::warn!(error = %causes(&error), "log segment was not written");
                }
            }
            _ = look.tick() => {
                // Records of root and operators come in from the side.
                let read = log.refresh().await;
                let failed = read.is_err();
                match read {
                    Ok(0) => {}
                    Ok(_) => telling.tell(&log),
                    Err(error) if !unread => tracing::warn!(error = causes(&error), "the log cannot be read on"),
                    Err(_) => {}
                }
                if unread && !failed {
                    tracing::info!("the log can be read on again");
                }
                unread = failed;
            }
        }
    }
}

async fn write(log: &mut Log, signer: &Signer, epoch: u64, entry: Entry) -> Result<(), ScribeError> {
    for _ in 0..MAX_LOST_SLOTS {
        let current = log.state().epoch.filter(|e| e.epoch == epoch && e.holder == signer.key_id());
        if current.is_none() {
            return Err(ScribeError::Deposed { epoch: log.state().epoch.map_or(0, |e| e.epoch) });
        }
        let key = signer.key_id();
        if !log.state().is_coordinator(&key) {
            return Err(ScribeError::Revoked { key });
        }
        if stands_already(log.state(), &entry) {
            return Ok(());
        }
        let result = match entry.clone() {
            Entry::Open(open) => {
                let number = log.state().last_round + 1;
                log.append(signer, &Open { epoch, number, ..open }).await
            }
            Entry::Commit(commit, agents) => {
                // Receipts count by the position of the commit, and a revocation may have come in just before it.
                let counts = |key: &KeyId| log.state().role(key).is_some_and(|role| role.service().is_some());
                if let Some(key) = agents.into_iter().find(|key| !counts(key)) {
                    return Err(ScribeError::Disowned { key });
                }
                log.append(signer, &Commit { epoch, ..commit }).await
            }
            Entry::Verified(verified) => log.append(signer, &Verified { epoch, ..verified }).await,
            Entry::End(end) => log.append(signer, &End { epoch, ..end }).await,
        };
        match result {
            Ok(_) => return Ok(()),
            Err(AppendError::Lost) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(AppendError::Lost.into())
}

/// Whether a former try of the same entry got through although it was reported as failed.
fn stands_already(state: &State, entry: &Entry) -> bool {
    let commit_of = |round| state.rounds.get(round).and_then(|r| r.commit());
    match entry {
        Entry::Open(open) => state.rounds.get(&open.round).is_some_and(|r| r.open.nonce == open.nonce),
        Entry::Commit(commit, _) => commit_of(&commit.round).is_some_and(|c| c.manifest == commit.manifest),
        Entry::Verified(verified) => {
            state.rounds.get(&verified.round).is_some_and(|r| r.word() == "verified")
        }
        // A round whose `open` record never got through has nothing to end.
        Entry::End(end) => state.rounds.get(&end.round).is_none_or(|r| r.outcome().is_some()),
    }
}

impl From<LogError> for ScribeError {
    fn from(error: LogError) -> Self {
        Self::Append(error.into())
    }
}
