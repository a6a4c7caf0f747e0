//! The log as the agent follows it: opened under the pin of the enrolment, read on, its head remembered on disk.
//!
//! Must never hand out a state whose head was not remembered first: an agent that acted on a record must notice when the
//! share goes back behind it.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use muster_protocol::alert::Code;
use muster_protocol::log::{Pin, Seen, State};
use muster_share::log::{AppendError, HeadMemory, Log, LogError, MemoryError};
use muster_share::store::Store;

/// Why the log could not be followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The share or what it holds.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The share is a copy: what the leader has written since is not there, and what is stored there is in no round.
    #[error(
        "{share} is a copy of the fleet's share, on which nobody stores anything: name the share itself in [share] url; once that is \
         lost for good, `muster adopt --share URL --root PATH` makes the copy the share"
    )]
    Copy {
        /// The copy.
        share: String,
    },
    /// The state folder.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl ReadError {
    /// The alert that it calls for.
    pub(crate) fn alert(&self) -> Code {
        match self {
            Self::Log(error) => error.alert().unwrap_or(Code::Share01),
            Self::Copy { .. } => Code::Share08,
            Self::Memory(_) => Code::Agent04,
        }
    }
}

/// Follows one log.
#[derive(Debug)]
pub(crate) struct Reader {
    store: Arc<dyn Store>,
    pin: Pin,
    memory: HeadMemory,
    log: Option<Log>,
    /// The number of slots of the state that was given out last.
    given: u64,
    remembered: Option<Seen>,
}

impl Reader {
    pub(crate) fn new(store: Arc<dyn Store>, pin: Pin, memory: HeadMemory) -> Self {
        Self { store, remembered: pin.head, pin, memory, log: None, given: 0 }
    }

    /// Reads what there is to read; gives the state out if it is another one than before.
    pub(crate) async fn read(&mut self) -> Result<Option<Arc<State>>, ReadError> {
        let log = match self.log.as_mut() {
            Some(log) => match log.refresh().await {
                Ok(_) => log,
                Err(error) => {
                    if !error.is_transient() {
                        // The share may have been put back, and the root have adopted it: only a reading from the
                        // beginning tells.
                        self.log = None;
                        self.pin.head = self.remembered;
                        self.given = 0;
                    }
                    return Err(error.into());
                }
            },
            None => self.log.insert(Log::open(Arc::clone(&self.store), self.pin).await?),
        };
        // Before its head is remembered: whoever is pointed to the share itself again must not be held to the copy. Where the share
        // does not tell, the next reading asks again.
        if self.given != log.state().next
            && let Err(AppendError::Copy { share }) = log.refuse_copy().await
        {
            return Err(ReadError::Copy { share });
        }
        let (seen, next) = (log.seen(), log.state().next);
        if self.remembered != Some(seen) {
            let memory = self.memory.clone();
            let written = tokio::task::spawn_blocking(move || memory.remember(&seen)).await;
            written.expect("writing a small file does not panic")?;
            self.remembered = Some(seen);
        }
        if self.given == next {
            return Ok(None);
        }
        self.given = next;
        Ok(Some(Arc::new(log.state().clone())))
    }
}
