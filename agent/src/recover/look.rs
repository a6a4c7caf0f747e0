//! Looking into the slices of a round with the kit: which entries they hold, and the bytes of single files.
//!
//! Goes the same chain from the root key as a recovery and believes nothing else. Writes nothing anywhere. Entries are
//! read as a stream: memory is one pack and one frame of it, whatever the slice holds.

mod pattern;
mod slice;

use std::sync::Arc;

use muster_protocol::age::{Identity, Recipient};
use muster_protocol::document::{Manifest, ManifestSlice};
use muster_protocol::ids::ServiceName;
use muster_protocol::log::{Pin, RoundState};
use muster_share::store::{Store, StoreError};
use muster_share::verify::chain::{read_manifest, wanted_keys};
use muster_share::verify::{
    Damage, Ledger, LedgerError, RoundSelector, SelectError, Trouble, newest_intact, read_ledger,
};

pub use pattern::{Pattern, PatternError};
pub use slice::{Piece, Slice};

/// Where to look.
#[derive(Debug, Clone)]
pub struct Request {
    /// The share.
    pub store: Arc<dyn Store>,
    /// What is known of the fleet beforehand: the kit's root key, a head that was seen.
    pub pin: Pin,
    /// The kit's recovery keys.
    pub keys: Arc<Vec<Identity>>,
    /// Which round.
    pub round: RoundSelector,
}

/// Why nothing, or not all, can be seen.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The round that was asked for.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// A service of which the round holds no slice.
    #[error("round {number} holds no slice of {service}; it has {known}")]
    Service {
        /// The round.
        number: u64,
        /// What was asked for.
        service: ServiceName,
        /// What there is.
        known: String,
    },
    /// None of the keys opens the round.
    #[error("no key of the kit opens round {number}")]
    Key {
        /// The round.
        number: u64,
        /// The recovery keys that do.
        wanted: Vec<Recipient>,
    },
    /// Neither the kit's root key nor its recovery keys are this fleet's.
    #[error("the kit belongs to another fleet")]
    OtherFleet(#[source] LedgerError),
    /// The log names the kit's recovery key, but was founded by another root key.
    #[error("the share is forged, or the kit's root.pub is another fleet's")]
    Forged(#[source] LedgerError),
    /// What leads to the round is damaged.
    #[error("{}", match number {
        Some(number) => format!("round {number} is damaged"),
        None => "the log is damaged: which round is meant cannot be told".to_owned(),
    })]
    Round {
        /// The round, where the log leads to one.
        number: Option<u64>,
        /// What is damaged.
        damaged: Vec<Damage>,
        /// The newest older round that has everything, by presence and length.
        newest_intact: Option<u64>,
    },
    /// Something that one slice needs is damaged. Other slices may be whole.
    #[error("{0}")]
    Damaged(Damage),
    /// The log tells nothing.
    #[error(transparent)]
    Ledger(LedgerError),
    /// The share fails.
    #[error("the share cannot be read")]
    Store(#[source] StoreError),
    /// Whoever takes a file's bytes does not.
    #[error("the content cannot be handed out")]
    Output(#[source] std::io::Error),
}

impl From<Trouble> for LookError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Damaged(damage) => Self::Damaged(damage),
            Trouble::Store(error) => Self::Store(error),
        }
    }
}

impl From<StoreError> for LookError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A round whose manifest is believed and whose slices the kit opens.
#[derive(Debug)]
pub struct Round {
    request: Request,
    ledger: Ledger,
    state: RoundState,
    manifest: Manifest,
}

impl Round {
    /// Follows the log to the round.
    ///
    /// # Errors
    /// See [`LookError`].
    pub async fn open(request: Request) -> Result<Self, LookError> {
        let ledger = read_ledger(&request.store, request.pin, false)
            .await
            .map_err(|error| untrusted(error, &request.keys))?;
        let latest = matches!(request.round, RoundSelector::Latest);
        // Behind a damaged log, the newest round is not known: it has to be named.
        let selected = if latest && ledger.broken {
            Err(SelectError::None)
        } else {
            request.round.select(&ledger.state).cloned()
        };
        let state = match selected {
            Ok(state) => state,
            // What is not there may be what the damage took.
            Err(SelectError::None | SelectError::Unknown { .. } | SelectError::NotCommitted { .. })
                if ledger.broken || !ledger.damaged.is_empty() =>
            {
                return Err(damaged_round(&request, &ledger, None, None).await?);
            }
            Err(error) => return Err(error.into()),
        };
        let number = state.open.number;
        let manifest = match read_manifest(request.store.as_ref(), &ledger.state, &state).await {
            Ok(manifest) => manifest,
            Err(Trouble::Store(error)) => return Err(error.into()),
            Err(Trouble::Damaged(damage)) => {
                return Err(damaged_round(&request, &ledger, Some(number), Some(damage)).await?);
            }
        };
        if let Some(wanted) = wanted_keys(&ledger.state, manifest.keyset, &request.keys) {
            return Err(LookError::Key { number, wanted });
        }
        Ok(Self { request, ledger, state, manifest })
    }

    /// The signed account of the round.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What of the log is damaged, though it led here.
    #[must_use]
    pub fn damaged(&self) -> &[Damage] {
        &self.ledger.damaged
    }

    /// The slice of this service.
    ///
    /// # Errors
    /// [`LookError::Service`] when the round holds none, [`LookError::Damaged`] when it cannot be opened.
    pub async fn slice(&self, service: &ServiceName) -> Result<Slice, LookError> {
        let slice = self.listed(service)?;
        Slice::open(&self.request, &self.ledger.state, &self.state, slice).await
    }

    fn listed(&self, service: &ServiceName) -> Result<&ManifestSlice, LookError> {
        let slices = &self.manifest.slices;
        slices.iter().find(|slice| slice.service == *service).ok_or_else(|| LookError::Service {
            number: self.manifest.number,
            service: service.clone(),
            known: slices.iter().map(|slice| slice.service.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}

fn untrusted(error: LedgerError, keys: &[Identity]) -> LookError {
    match error {
        LedgerError::Store(error) => LookError::Store(error),
        LedgerError::OtherRoot { found, want, recipients } => {
            let known = keys.iter().any(|key| recipients.contains(&key.recipient()));
            let error = LedgerError::OtherRoot { found, want, recipients };
            if known { LookError::Forged(error) } else { LookError::OtherFleet(error) }
        }
        LedgerError::NotAShare { .. } | LedgerError::Version { .. } | LedgerError::UnknownKind(_) => {
            LookError::Ledger(error)
        }
    }
}

async fn damaged_round(
    request: &Request,
    ledger: &Ledger,
    number: Option<u64>,
    damage: Option<Damage>,
) -> Result<LookError, LookError> {
    let damaged: Vec<_> = ledger.damaged.iter().cloned().chain(damage).collect();
    let objects = damaged.iter().map(|damage| damage.object.clone()).collect();
    let before = number.unwrap_or(u64::MAX);
    let newest_intact = newest_intact(request.store.as_ref(), &ledger.state, before, &objects).await?;
    Ok(LookError::Round { number, damaged, newest_intact })
}

#[cfg(test)]
mod tests;
