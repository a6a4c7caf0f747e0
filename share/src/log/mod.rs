//! The log on the share: slots read in order, records appended by exclusive create.
//!
//! The rules of what a record may say are `muster_protocol::log`'s; here is only how slots are found, read and won.
//! Absence never proves the head, only a create does: whoever appends learns in the same moment that it was last.

mod above;
mod append;
mod format;
mod gap;
mod memory;
mod refused;
mod segment;
mod sure;
#[cfg(test)]
mod tests;
mod trail;
mod verified;

use std::sync::Arc;

use bytes::Bytes;
use muster_protocol::alert::Code;
use muster_protocol::ids::Nonce;
use muster_protocol::log::{Effect, Head, MAX_RECORD_LEN, Pin, ReplayError, Seen, State};

use crate::layout::ObjectPath;
use crate::store::{Store, StoreError};

pub(crate) use above::{Above, list as list_above};
pub use append::{AppendError, found};
pub use format::{FORMAT_VERSION, Format, FormatError};
pub use memory::{HeadMemory, MemoryError, parse_head, print as print_memory};
pub use refused::{MOST_REFUSALS, Refusal, refusals};
pub use sure::{Sure, recognise};
pub use trail::Trail;
pub use verified::VerifiedSegments;

/// Why the log could not be read to its head.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The share did not give an object.
    #[error("the log cannot be read")]
    Store(#[source] StoreError),
    /// The share holds no fleet.
    #[error("{share} holds no FORMAT object: it is no Muster share, or the path is wrong")]
    NotAShare {
        /// The share.
        share: String,
    },
    /// FORMAT does not parse, or is of a version that this program does not know.
    #[error("{share} cannot be read")]
    Format {
        /// The share.
        share: String,
        /// Why.
        #[source]
        source: FormatError,
    },
    /// The records contradict the rules, what was pinned or what was seen before.
    #[error("the log cannot be trusted")]
    Replay(#[from] ReplayError),
    /// A slot is free, but later ones are not: appending here would fork the log.
    #[error(
        "log record {missing} is gone, while record {newest} is there: bring log/{missing:010} back from a copy of the share"
    )]
    Gap {
        /// The free slot.
        missing: u64,
        /// A record above it.
        newest: u64,
    },
    /// What lies at the share's address is another share, or none: the folder of a mount that is gone is there, and empty.
    #[error("{share} is not the fleet's share now: is it mounted? Nothing is written until it is back")]
    Strange {
        /// The share.
        share: String,
    },
    /// The log ends before a head that was seen.
    #[error("the log ends at record {head}, but record {seen} was seen before: newer records are gone")]
    Shortened {
        /// Where it ends.
        head: u64,
        /// What was seen.
        seen: u64,
    },
}

impl LogError {
    /// Whether waiting may mend it.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Strange { .. } => true,
            Self::NotAShare { .. }
            | Self::Format { .. }
            | Self::Replay(_)
            | Self::Gap { .. }
            | Self::Shortened { .. } => false,
        }
    }

    /// The alert that it calls for.
    #[must_use]
    pub fn alert(&self) -> Option<Code> {
        match self {
            Self::Store(error) => error.alert(),
            Self::NotAShare { .. } | Self::Strange { .. } => Some(Code::Share02),
            Self::Format { .. } | Self::Replay(_) | Self::Gap { .. } | Self::Shortened { .. } => {
                Some(Code::Share08)
            }
        }
    }
}

/// A reader of one log, standing at some head.
#[derive(Debug, Clone)]
pub struct Log {
    store: Arc<dyn Store>,
    state: State,
    /// Segments prove nothing: one that leads into a contradiction is not looked at again.
    use_segments: bool,
    /// Whether records of the state came out of segments.
    from_segments: bool,
    /// A void slot of a segment is in the state, and was not held against the share's own yet.
    unsettled: bool,
    /// Segments that this reader has verified before; only while the log is opened.
    verified: Option<VerifiedSegments>,
    above: Above,
    /// Whether it was found to be a copy, under the name that the log had for the share then.
    copy: Option<(Nonce, bool)>,
}

impl Log {
    /// Reads the log of the share from its beginning to its head.
    ///
    /// # Errors
    /// When the share cannot be read or holds no log that `pin` allows.
    pub async fn open(store: Arc<dyn Store>, pin: Pin) -> Result<Self, LogError> {
        Self::open_with(store, pin, None).await
    }

    /// As [`Log::open`], by a reader that verifies no segment twice: `verified` has those that it knows, and is kept with
    /// what came to it.
    ///
    /// # Errors
    /// As [`Log::open`]; what cannot be remembered is only verified again.
    pub async fn open_knowing(
        store: Arc<dyn Store>,
        pin: Pin,
        verified: VerifiedSegments,
    ) -> Result<Self, LogError> {
        let mut log = Self::open_with(store, pin, Some(verified)).await?;
        if let Some(verified) = log.verified.take() {
            verified.keep();
        }
        Ok(log)
    }

    async fn open_with(
        store: Arc<dyn Store>,
        pin: Pin,
        verified: Option<VerifiedSegments>,
    ) -> Result<Self, LogError> {
        match Self::open_under(Arc::clone(&store), pin, verified.clone()).await {
            // The root may have adopted this history behind the place where the remembered one parts from it.
            Err(LogError::Replay(error @ ReplayError::WentBack { seen, .. })) => {
                let log = Self::open_under(store, Pin { head: None, ..pin }, verified).await?;
                match pin.head {
                    Some(remembered) if log.state.supersedes(&remembered) => {
                        tracing::warn!(
                            remembered = %seen,
                            "the root has adopted this log; the head that was remembered is given up"
                        );
                        Ok(log)
                    }
                    Some(_) | None => Err(error.into()),
                }
            }
            opened => opened,
        }
    }

    async fn open_under(
        store: Arc<dyn Store>,
        pin: Pin,
        verified: Option<VerifiedSegments>,
    ) -> Result<Self, LogError> {
        let share = store.describe();
        let bytes = match store.get(&ObjectPath::Format, Format::MAX_LEN).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Err(LogError::NotAShare { share }),
            Err(error) => return Err(LogError::Store(error)),
        };
        let format = Format::parse(&bytes).map_err(|source| LogError::Format { share, source })?;
        // Unsigned, so only a hint: the fleet id must also follow from the root key that signed genesis.
        let pin = Pin { fleet: pin.fleet.or(Some(format.fleet)), ..pin };
        let (state, above) = (State::new(pin), Above::default());
        let mut log = Self {
            store,
            state,
            use_segments: true,
            from_segments: false,
            unsettled: false,
            verified,
            above,
            copy: None,
        };
        log.refresh().await?;
        if log.state.next == 0 {
            let why = "there is no record 0".to_owned();
            return Err(ReplayError::Genesis { why }.into());
        }
        log.refuse_gap().await?;
        Ok(log)
    }

    /// Reads what was appended since; returns how many slots that were.
    ///
    /// # Errors
    /// When the share cannot be read or what was appended cannot be trusted.
    pub async fn refresh(&mut self) -> Result<u64, LogError> {
        let before = self.state.next;
        if let Err(error) = self.read_on().await {
            let contradiction = matches!(&error, LogError::Replay(_));
            if !contradiction || !self.from_segments {
                return Err(error);
            }
            tracing::warn!(%error, "reading the log again slot by slot, in case a segment lies");
            self.doubt_segments();
            self.read_on().await?;
        }
        match self.state.pin.head {
            Some(seen) if self.state.head.number < seen.head.number && !self.state.supersedes(&seen) => {
                Err(LogError::Shortened { head: self.state.head.number, seen: seen.head.number })
            }
            Some(_) | None => Ok(self.state.next.saturating_sub(before)),
        }
    }

    /// Reads slot by slot from now on, and from the beginning: what a segment said may be wrong.
    fn doubt_segments(&mut self) {
        self.use_segments = false;
        (self.from_segments, self.unsettled) = (false, false);
        self.state = State::new(self.state.pin);
    }

    async fn read_on(&mut self) -> Result<(), LogError> {
        // Whoever read before gave up in the middle.
        if self.unsettled {
            self.doubt_segments();
        }
        if self.use_segments {
            self.read_segments().await?;
        }
        while let Some(bytes) = self.slot(self.state.next).await? {
            self.take(&bytes)?;
        }
        Ok(())
    }

    /// What the log says so far.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The last valid record.
    #[must_use]
    pub fn head(&self) -> Head {
        self.state.head
    }

    /// What to remember of it.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.state.seen()
    }

    /// The share that it lies on.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The same, for whoever concludes anything from what it lacks.
    #[must_use]
    pub fn sure(&self) -> Sure {
        Sure::new(Arc::clone(&self.store), self.state.fleet)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        let number = self.state.next;
        match self.state.replay(bytes)? {
            Effect::Applied => {}
            Effect::WithoutEffect(why) => {
                let code = refused::code(bytes, false);
                tracing::warn!(number, why, "{code}: log record is without effect");
            }
            Effect::Void(why) => {
                let code = refused::code(bytes, true);
                tracing::warn!(number, why, "{code}: log slot is void");
            }
        }
        Ok(())
    }

    /// Slots above the head that hold no record, as [`Log::refuse_gap`] last found them.
    #[must_use]
    pub fn above(&self) -> Vec<u64> {
        self.above.slots()
    }

    pub(crate) async fn slot(&self, number: u64) -> Result<Option<Bytes>, LogError> {
        slot(self.store.as_ref(), number).await.map_err(LogError::Store)
    }
}

/// The bytes in a slot; none if it is free. A slot that is too long to be a record is void, not an error.
async fn slot(store: &dyn Store, number: u64) -> Result<Option<Bytes>, StoreError> {
    match store.get(&ObjectPath::LogRecord(number), MAX_RECORD_LEN as u64).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(StoreError::TooLong { .. } | StoreError::Damaged { .. }) => Ok(Some(Bytes::new())),
        Err(error) => Err(error),
    }
}
