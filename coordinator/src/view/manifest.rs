//! The manifest of a committed round, held against the log; and the account of one that ended without.

use muster_protocol::document::Manifest;
use muster_protocol::envelope::{self, Payload};
use muster_protocol::ids::{KeyId, ObjectId};
use muster_protocol::log::{End, Role, RoundPhase, RoundState};
use muster_share::layout::ObjectPath;
use muster_share::store::StoreError;

use super::Shown;

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The share did not give it; waiting may mend that.
    #[error("the manifest of round {number} cannot be read")]
    Store {
        /// The round's number.
        number: u64,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// It is missing, altered, or not signed by a coordinator of that time.
    #[error("VERIFY-02: the manifest of round {number} cannot be used: {object}: {why}")]
    Damaged {
        /// The round's number.
        number: u64,
        /// Where it lies.
        object: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Shown<'_> {
    /// The account of a round that ended without a commit; none where the share does not have it any more. It is a story:
    /// what is wrong with it concerns nobody's backup.
    pub async fn account(&self, round: &RoundState, end: &End) -> Option<Manifest> {
        let account = end.account.filter(|account| account.size <= Manifest::MAX_LEN as u64)?;
        let bytes = self.store().get(&ObjectPath::Manifest(account.object), account.size).await.ok()?;
        let (_, manifest) = envelope::open_as::<Manifest>(&bytes, &self.state().fleet).ok()?;
        (ObjectId::of(&bytes) == account.object && manifest.round == round.open.round).then_some(manifest)
    }

    /// The manifest of a committed round; none for any other.
    ///
    /// # Errors
    /// When it is missing, altered, or not signed by a coordinator of that time.
    pub async fn manifest(&self, round: &RoundState) -> Result<Option<Manifest>, ManifestError> {
        let RoundPhase::Committed { commit, position, .. } = &round.phase else { return Ok(None) };
        let (number, path) = (round.open.number, ObjectPath::Manifest(commit.manifest));
        let damaged = |why: String| ManifestError::Damaged { number, object: path.to_string(), why };
        let most = commit.manifest_size.min(Manifest::MAX_LEN as u64);
        let bytes = match self.store().get(&path, most).await {
            Ok(bytes) => bytes,
            Err(source) if source.is_transient() => return Err(ManifestError::Store { number, source }),
            Err(StoreError::NotFound { .. }) => return Err(damaged("it is missing".to_owned())),
            Err(error) => return Err(damaged(error.to_string())),
        };
        if ObjectId::of(&bytes) != commit.manifest {
            return Err(damaged("its bytes do not have the hash that the log names".to_owned()));
        }
        let (signer, manifest) = envelope::open_as::<Manifest>(&bytes, &self.state().fleet)
            .map_err(|error| damaged(error.to_string()))?;
        if manifest.round != round.open.round || !self.was_coordinator(&signer, *position) {
            return Err(damaged("it is not a coordinator's account of this round".to_owned()));
        }
        Ok(Some(manifest))
    }

    fn was_coordinator(&self, key: &KeyId, position: u64) -> bool {
        self.state().members.get(key).is_some_and(|member| {
            matches!(member.member.role, Role::Coordinator)
                && member.since < position
                && member.revoked.is_none_or(|revoked| revoked > position)
        })
    }
}
