//! The scribe: the one task that writes the log.
//!
//! It appends what the desk asks for, one record after the other, and reads the log on. A slot that another record took
//! is no failure: the scribe looks whether it still leads and tries the next one. Every change of the log's state is
//! told on a watch channel.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_protocol::alert::Code;
use muster_protocol::causes::causes;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::KeyId;
use muster_protocol::log::{Audit, Commit, End, Open, Quarantine, Scrub, State, Verified};
use muster_protocol::prune::sweeps_after;
use muster_protocol::time::UnixMillis;
use muster_share::log::{AppendError, HeadMemory, Log, LogError};
use tokio::sync::{mpsc, oneshot, watch};

use crate::lead::{Standing, Trust};

/// Tries for one record: each lost slot is somebody else's record, so this many at once is no accident.
const MAX_LOST_SLOTS: u32 = 100;
/// How often the listing of the log is compared with what was read: one page for each thousand records.
pub(crate) const GAP_LOOK: Duration = Duration::from_secs(60);

/// What the desk wants written; number and epoch are the scribe's.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// A round begins.
    Open(Open),
    /// A round is committed, with slices of these agents; every sweep and quarantine up to this log number was looked at.
    Commit(Commit, Vec<KeyId>, u64),
    /// A round is verified.
    Verified(Verified),
    /// A round ends.
    End(End),
    /// Objects are not what they should be, or are again.
    Quarantine(Quarantine),
    /// How far the scrub is.
    Scrub(Scrub),
    /// Somebody did what no other record tells.
    Audit(Audit),
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
    /// Objects were swept or put into quarantine since what is to be committed was last held against the lists.
    #[error("objects were swept or found damaged in this moment; the slices are looked at once more")]
    Refused,
    /// The append failed.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The scribe has ended.
    #[error("the log's writer has stopped")]
    Gone,
}

/// Why the log was not read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// The share did not answer, or not well; waiting may mend it.
    Unread,
    /// The scribe has ended: the log cannot be believed any more.
    Broken,
}

enum Request {
    Write(Entry, oneshot::Sender<Result<(), ScribeError>>),
    Read(oneshot::Sender<Result<(), ReadError>>),
}

/// A way to the scribe.
#[derive(Clone)]
pub(crate) struct ScribeHandle {
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<Arc<State>>,
    epoch: u64,
}

impl ScribeHandle {
    /// Writes `entry`.
    pub(crate) async fn write(&self, entry: Entry) -> Result<(), ScribeError> {
        let (done, answer) = oneshot::channel();
        self.requests.send(Request::Write(entry, done)).await.map_err(|_| ScribeError::Gone)?;
        answer.await.map_err(|_| ScribeError::Gone)?
    }

    /// Reads the log to its head.
    pub(crate) async fn read(&self) -> Result<(), ReadError> {
        let (done, answer) = oneshot::channel();
        self.requests.send(Request::Read(done)).await.map_err(|_| ReadError::Broken)?;
        answer.await.map_err(|_| ReadError::Broken)?
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

/// Starts the scribe of a coordinator that leads `epoch`. It ends when every handle is gone, or when the log cannot be
/// believed any more: then nothing is ever appended again.
pub(crate) fn spawn(
    log: Log,
    signer: Arc<Signer>,
    standing: Standing,
    epoch: u64,
    memory: HeadMemory,
) -> (ScribeHandle, tokio::task::JoinHandle<Ended>) {
    let (requests, inbox) = mpsc::channel(64);
    let (told, state) = watch::channel(Arc::new(log.state().clone()));
    let scribe = Scribe { log, signer, standing, epoch, telling: Telling { told, memory }, unread: false };
    (ScribeHandle { requests, state, epoch }, tokio::spawn(scribe.run(inbox)))
}

/// What a scribe leaves behind.
pub(crate) struct Ended {
    /// The log, as far as it was read.
    pub(crate) log: Log,
    /// Why it cannot be believed, if that is why the scribe ended (SHARE-08).
    pub(crate) broken: Option<LogError>,
    /// Until the desk is left, the last state stays told.
    _telling: Telling,
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

struct Scribe {
    log: Log,
    signer: Arc<Signer>,
    standing: Standing,
    epoch: u64,
    telling: Telling,
    /// Whether it was said that the log cannot be read.
    unread: bool,
}

impl Scribe {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) -> Ended {
        let mut looked = Instant::now();
        let mut broken = None;
        while let Some(request) = inbox.recv().await {
            // Whoever asked may be gone; a record stands either way.
            match request {
                Request::Write(entry, done) => match self.write(entry).await {
                    Err(ScribeError::Append(AppendError::Log(error))) if is_broken(&error) => {
                        drop(done.send(Err(ScribeError::Gone)));
                        broken = Some(error);
                    }
                    result => drop(done.send(result)),
                },
                Request::Read(done) => {
                    let whole = looked.elapsed() >= GAP_LOOK;
                    if whole {
                        looked = Instant::now();
                    }
                    match self.read(whole).await {
                        Ok(()) => drop(done.send(Ok(()))),
                        Err(error) if is_broken(&error) => broken = Some(error),
                        Err(_) => drop(done.send(Err(ReadError::Unread))),
                    }
                }
            }
            if broken.is_some() {
                break;
            }
        }
        Ended { log: self.log, broken, _telling: self.telling }
    }

    async fn write(&mut self, entry: Entry) -> Result<(), ScribeError> {
        if self.standing.trust() != Trust::Sure {
            // It may have been paused for longer than its lease: what was true then need not be true now.
            self.log.refresh().await?;
        }
        self.log.refuse_next_gap().await?;
        let result = write(&mut self.log, &self.signer, self.epoch, entry).await;
        self.telling.tell(&self.log);
        if let Err(error) = self.log.write_segment().await {
            tracing::warn!(error = %causes(&error), "log segment was not written");
        }
        result
    }

    /// Reads the log on: records of root and operators come in from the side.
    async fn read(&mut self, whole: bool) -> Result<(), LogError> {
        let before = self.log.state().next;
        let mut read = self.log.refresh().await.map(drop);
        if whole && read.is_ok() {
            read = self.log.refuse_gap().await;
        }
        if self.log.state().next != before {
            self.telling.tell(&self.log);
        }
        match &read {
            Err(error) if !self.unread => tracing::warn!(error = causes(error), "the log cannot be read on"),
            Ok(()) if self.unread => tracing::info!("the log can be read on again"),
            Ok(()) | Err(_) => {}
        }
        self.unread = read.is_err();
        read
    }
}

/// Whether waiting mends nothing: an operator must look.
fn is_broken(error: &LogError) -> bool {
    error.alert() == Some(Code::Share08)
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
        if let Entry::End(end) = &entry
            && !log.state().rounds.contains_key(&end.round)
        {
            // Its `open` record may have got through although nobody heard so: a round that is left open blocks its services.
            log.refresh().await.map_err(AppendError::from)?;
        }
        if stands_already(log.state(), &entry) {
            return Ok(());
        }
        let result = match entry.clone() {
            Entry::Open(open) => {
                let number = log.state().last_round + 1;
                log.append(signer, &Open { epoch, number, ..open }).await
            }
            Entry::Commit(commit, agents, known) => {
                // What was swept meanwhile must be looked at first: a commit may not name what is being deleted.
                let state = log.state();
                if sweeps_after(state, known).next().is_some()
                    || state.quarantined_since(known).next().is_some()
                {
                    return Err(ScribeError::Refused);
                }
                // Receipts count by the position of the commit, and a revocation may have come in just before it.
                let counts = |key: &KeyId| log.state().role(key).is_some_and(|role| role.service().is_some());
                if let Some(key) = agents.into_iter().find(|key| !counts(key)) {
                    return Err(ScribeError::Disowned { key });
                }
                log.append(signer, &Commit { epoch, ..commit }).await
            }
            Entry::Verified(verified) => log.append(signer, &Verified { epoch, ..verified }).await,
            Entry::End(end) => log.append(signer, &End { epoch, ..end }).await,
            Entry::Quarantine(said) => log.append(signer, &Quarantine { epoch, ..said }).await,
            Entry::Scrub(scrub) => log.append(signer, &Scrub { epoch, ..scrub }).await,
            Entry::Audit(audit) => log.append(signer, &audit).await,
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
        Entry::Commit(commit, ..) => commit_of(&commit.round).is_some_and(|c| c.manifest == commit.manifest),
        Entry::Verified(verified) => {
            state.rounds.get(&verified.round).is_some_and(|r| r.word() == "verified")
        }
        // A round whose `open` record never got through has nothing to end.
        Entry::End(end) => state.rounds.get(&end.round).is_none_or(|r| r.outcome().is_some()),
        Entry::Quarantine(Quarantine { service, add, lift, .. }) => {
            add.iter().all(|object| state.is_quarantined(service, object))
                && !lift.iter().any(|object| state.is_quarantined(service, object))
        }
        Entry::Scrub(Scrub { pass, reached, .. }) => match (reached, &state.scrub.current) {
            (Some(reached), Some((current, to))) => current.pass == *pass && to == reached,
            (Some(_), None) => false,
            (None, _) => state.scrub.last.as_ref().is_some_and(|last| last.pass == *pass),
        },
        // Told twice is better than not at all.
        Entry::Audit(_) => false,
    }
}

impl From<LogError> for ScribeError {
    fn from(error: LogError) -> Self {
        Self::Append(error.into())
    }
}
