//! Appending: a record is made for the next slot, tried on a copy of the state, and created exclusively.

use std::sync::Arc;

use bytes::Bytes;
use muster_protocol::envelope::Signer;
use muster_protocol::ids::FleetId;
use muster_protocol::log::{self, Adopt, Body, Effect, GENESIS_HEAD, Genesis, Head, MAX_RECORD_LEN, Pin};

use super::{FORMAT_VERSION, Format, Log, LogError, recognise};
use crate::copy::is_copy;
use crate::layout::ObjectPath;
use crate::store::{Store, StoreError};

/// Why a record was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Another record took the slot; the log was read on, and the caller decides anew.
    #[error("another record came first")]
    Lost,
    /// The record would break a rule; nothing was written.
    #[error("the log does not allow this: {why}")]
    Refused {
        /// Which rule.
        why: String,
    },
    /// The record would be too long; nothing was written.
    #[error("the record has {len} bytes, more than {MAX_RECORD_LEN}")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// The share is a copy of another one: only the root may say that it counts from now on.
    #[error("SHARE-08: {share} is a copy of the fleet's share, and takes no records")]
    Copy {
        /// The copy.
        share: String,
    },
    /// The share did not take the record. It may be there none the less.
    #[error("the log record was not written")]
    Store(#[source] StoreError),
    /// The log could not be read on.
    #[error("the log could not be read on after a lost slot")]
    Log(#[from] LogError),
}

impl AppendError {
    /// Whether trying again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Lost => true,
            Self::Refused { .. } | Self::TooLong { .. } | Self::Copy { .. } => false,
            Self::Store(error) => error.is_transient(),
            Self::Log(error) => error.is_transient(),
        }
    }
}

impl Log {
    /// Appends what `signer` says itself, at the next slot, once.
    ///
    /// # Errors
    /// [`AppendError::Lost`] when another record took the slot: look at the state again before the next try.
    pub async fn append<B: Body>(&mut self, signer: &Signer, body: &B) -> Result<Head, AppendError> {
        let state = &self.state;
        let bytes = log::seal(signer, &state.fleet, state.next, state.head, body);
        self.create(B::KIND, bytes).await
    }

    /// Appends a statement, made by [`log::seal_statement`], at the next slot, once.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn append_statement<B: Body>(
        &mut self,
        signer: &Signer,
        statement: Vec<u8>,
    ) -> Result<Head, AppendError> {
        let state = &self.state;
        let bytes =
            log::seal_with_statement(signer, &state.fleet, state.next, state.head, B::KIND, statement);
        self.create(B::KIND, bytes).await
    }

    /// Refuses a copy, where an append would part its log from the one that it is a copy of. Asks the share once for each
    /// name that it has in the log.
    ///
    /// # Errors
    /// [`AppendError::Copy`], and those of the share.
    pub async fn refuse_copy(&mut self) -> Result<(), AppendError> {
        let Some(name) = self.state.share else { return Ok(()) };
        let is_copy = match self.copy {
            Some((known, is_copy)) if known == name => is_copy,
            Some(_) | None => is_copy(self.store.as_ref(), &name).await.map_err(AppendError::Store)?,
        };
        self.copy = Some((name, is_copy));
        if is_copy { Err(AppendError::Copy { share: self.store.describe() }) } else { Ok(()) }
    }

    /// Whether the share is still the one whose log was read. A record that were written into the empty folder of a mount would be
    /// remembered by everybody who reads it, and missed on the share itself for ever.
    ///
    /// # Errors
    /// [`LogError::Strange`], and those of the share.
    pub async fn recognise(&self) -> Result<(), LogError> {
        match recognise(self.store.as_ref(), &self.state.fleet).await {
            Ok(()) => Ok(()),
            Err(StoreError::Strange { share }) => Err(LogError::Strange { share }),
            Err(error) => Err(LogError::Store(error)),
        }
    }

    async fn create(&mut self, kind: &str, bytes: Vec<u8>) -> Result<Head, AppendError> {
        if bytes.len() > MAX_RECORD_LEN {
            return Err(AppendError::TooLong { len: bytes.len() });
        }
        if kind != Adopt::KIND {
            self.refuse_copy().await?;
        }
        let mut after = self.state.clone();
        match after.replay(&bytes).map_err(LogError::Replay)? {
            Effect::Applied => {}
            Effect::WithoutEffect(why) | Effect::Void(why) => return Err(AppendError::Refused { why }),
        }
        self.recognise().await?;
        let path = ObjectPath::LogRecord(self.state.next);
        match self.store.put_new(&path, Bytes::from(bytes)).await {
            Ok(()) => {
                self.state = after;
                Ok(self.state.head)
            }
            Err(StoreError::AlreadyExists { .. }) => {
                self.refresh().await?;
                Err(AppendError::Lost)
            }
            Err(error) => Err(AppendError::Store(error)),
        }
    }
}

/// Founds a fleet on an empty share: writes `FORMAT` and record 0; `root` signs.
///
/// # Errors
/// [`StoreError::AlreadyExists`] when the share holds a fleet already; nothing was changed then.
pub async fn found(store: Arc<dyn Store>, root: &Signer, genesis: &Genesis) -> Result<Log, AppendError> {
    let fleet = FleetId::derive(&root.key_id(), &genesis.salt);
    let format = Format { version: FORMAT_VERSION, fleet };
    store.put_new(&ObjectPath::Format, Bytes::from(format.print())).await.map_err(AppendError::Store)?;
    let record = log::seal(root, &fleet, 0, GENESIS_HEAD, genesis);
    store.put_new(&ObjectPath::LogRecord(0), Bytes::from(record)).await.map_err(AppendError::Store)?;
    let pin = Pin { root: Some(root.key_id()), fleet: Some(fleet), head: None };
    Ok(Log::open(store, pin).await?)
}
