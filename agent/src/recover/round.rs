//! A round that was opened with the kit: where every recovery and every look at what a round holds begins.
//!
//! Goes the chain from the root key to the manifest and believes nothing else. Never takes an older round than the one
//! that is meant, and writes nothing anywhere.

use std::sync::Arc;

use muster_protocol::age::Identity;
use muster_protocol::document::{Manifest, ManifestSlice};
use muster_protocol::ids::ServiceName;
use muster_protocol::log::{Pin, RoundState};
use muster_share::keys::Keyring;
use muster_share::store::{Store, StoreError};
use muster_share::verify::chain::{WrongKey, read_manifest};
use muster_share::verify::{
    Damage, Ledger, LedgerError, RoundSelector, SelectError, Trouble, newest_intact, read_ledger,
};

use super::slice::Slice;

/// Where a round is to be had, and with what it opens.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The share.
    pub store: Arc<dyn Store>,
    /// What is known of the fleet beforehand: the kit's root key, a head that was seen.
    pub pin: Pin,
    /// The kit's recovery keys.
    pub keys: Arc<Vec<Identity>>,
    /// Which round.
    pub round: RoundSelector,
}

/// Why a round does not open.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// The round that was asked for.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// A service that the round does not hold.
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
    #[error("no key of the kit opens round {}", .0.number)]
    Key(WrongKey),
    /// Neither the kit's root key nor its recovery keys are this fleet's.
    #[error("the kit belongs to another fleet")]
    OtherFleet(#[source] LedgerError),
    /// The log names the kit's recovery key, but was founded by another root key.
    #[error("the share is forged, or the kit's root.pub is another fleet's")]
    Forged(#[source] LedgerError),
    /// The round, or the log that leads to it, is damaged.
    #[error("{}", match number {
        Some(number) => format!("round {number} is damaged"),
        None => "the log is damaged: which round is meant cannot be told".to_owned(),
    })]
    Damaged {
        /// The round, where the log leads to one.
        number: Option<u64>,
        /// What is damaged.
        damaged: Vec<Damage>,
        /// The newest round before it that has everything which is wanted, by presence and length.
        newest_intact: Option<u64>,
    },
    /// The log tells nothing.
    #[error(transparent)]
    Ledger(LedgerError),
    /// The share fails.
    #[error("the share cannot be read")]
    Store(#[source] StoreError),
}

impl From<StoreError> for RoundError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A round whose manifest is believed and whose slices the kit opens.
#[derive(Debug)]
pub struct Round {
    origin: Origin,
    pub(super) ledger: Ledger,
    pub(super) state: RoundState,
    manifest: Manifest,
}

impl Round {
    /// Follows the log to the round.
    ///
    /// # Errors
    /// See [`RoundError`].
    pub async fn open(origin: Origin) -> Result<Self, RoundError> {
        let ledger = read_ledger(&origin.store, origin.pin, false)
            .await
            .map_err(|error| untrusted(error, &origin.keys))?;
        // Behind a damaged log, the newest round is not known: it has to be named.
        let selected = if matches!(origin.round, RoundSelector::Latest) && ledger.broken {
            Err(SelectError::None)
        } else {
            origin.round.select(&ledger.state).cloned()
        };
        let state = match selected {
            // What is not there may be what the damage took.
            Err(SelectError::None | SelectError::Unknown { .. } | SelectError::NotCommitted { .. })
                if ledger.broken || !ledger.damaged.is_empty() =>
            {
                return Err(damaged(&origin, &ledger, None, ledger.damaged.clone()).await?);
            }
            selected => selected?,
        };
        let number = state.open.number;
        let manifest = match read_manifest(origin.store.as_ref(), &ledger.state, &state).await {
            Ok(manifest) => manifest,
            Err(Trouble::Store(error)) => return Err(error.into()),
            Err(Trouble::Damaged(damage)) => {
                let found = [ledger.damaged.clone(), vec![damage]].concat();
                return Err(damaged(&origin, &ledger, Some(number), found).await?);
            }
        };
        if let Some(wrong) = WrongKey::of(&ledger.state, number, manifest.keyset, &origin.keys) {
            return Err(RoundError::Key(wrong));
        }
        Ok(Self { origin, ledger, state, manifest })
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.state.open.number
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

    /// Opens a slice that the manifest lists, or tells everything of it that is damaged, what it cannot do without
    /// first.
    ///
    /// # Errors
    /// When the share fails.
    pub(super) async fn open_slice(
        &self,
        slice: &ManifestSlice,
    ) -> Result<Result<Slice, Vec<Damage>>, StoreError> {
        let keys = Keyring::Recovery(Arc::clone(&self.origin.keys));
        Slice::open(&self.origin.store, keys, &self.ledger.state, &self.state, slice).await
    }

    /// The error for a service that this round does not hold.
    pub(super) fn holds_no(&self, service: &ServiceName) -> RoundError {
        let slices = self.manifest.slices.iter();
        let known = slices.map(|slice| slice.service.as_str()).collect::<Vec<_>>().join(", ");
        RoundError::Service { number: self.manifest.number, service: service.clone(), known }
    }

    /// The newest round before this one that needs none of these objects and has everything, by presence and length.
    /// It holds the services that are wanted: all of the roster, where none is named.
    pub(super) async fn newest_intact(
        &self,
        wanted: &[ServiceName],
        damaged: &[Damage],
    ) -> Result<Option<u64>, StoreError> {
        intact_before(&self.origin, &self.ledger, Some(self.state.open.number), wanted, damaged).await
    }
}

fn untrusted(error: LedgerError, keys: &[Identity]) -> RoundError {
    match error {
        LedgerError::Store(error) => RoundError::Store(error),
        LedgerError::OtherRoot { found, want, recipients } => {
            let known = keys.iter().any(|key| recipients.contains(&key.recipient()));
            let error = LedgerError::OtherRoot { found, want, recipients };
            if known { RoundError::Forged(error) } else { RoundError::OtherFleet(error) }
        }
        LedgerError::NotAShare { .. } | LedgerError::Version { .. } | LedgerError::UnknownKind(_) => {
            RoundError::Ledger(error)
        }
    }
}

async fn damaged(
    origin: &Origin,
    ledger: &Ledger,
    number: Option<u64>,
    damaged: Vec<Damage>,
) -> Result<RoundError, StoreError> {
    let newest_intact = intact_before(origin, ledger, number, &[], &damaged).await?;
    Ok(RoundError::Damaged { number, damaged, newest_intact })
}

async fn intact_before(
    origin: &Origin,
    ledger: &Ledger,
    number: Option<u64>,
    wanted: &[ServiceName],
    damaged: &[Damage],
) -> Result<Option<u64>, StoreError> {
    let objects = damaged.iter().map(|damage| damage.object.clone()).collect();
    let (state, number) = (&ledger.state, number.unwrap_or(u64::MAX));
    let wanted = if wanted.is_empty() { &state.services() } else { wanted };
    newest_intact(origin.store.as_ref(), state, number, wanted, &objects).await
}
