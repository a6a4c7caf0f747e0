//! A restore into a running service: what an operator and the service's agent say to each other, without any coordinator.
//!
//! ```text
//! operator                          agent
//!    │── restore-ask ────────────────▶│   may this key restore, is that receipt its own?
//!    │◀──────────────── restore-offer ─│   a fresh recipient, for one restore
//!    │   (a grant to that recipient goes to the share)
//!    │── restore-order ──────────────▶│
//!    │◀─────────────── restore-status ─│
//!    │── restore-query ──────────────▶│   again and again
//!    │◀─────────────── restore-status ─│
//! ```
//!
//! No message carries a key that opens anything: file keys are in the grant, sealed to the offered recipient.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::age::Recipient;
use crate::alert::Code;
use crate::ids::{Nonce, ObjectId, RestoreId, RoundId, ServiceName};
use crate::message::message;

/// Longest path that an order carries, in bytes.
pub const MAX_ORDER_PATH: usize = 1024;
/// Most notes of an outcome; further ones are counted.
pub const MAX_NOTES: usize = 6;
/// Longest note, in bytes; longer ones are cut.
pub const MAX_NOTE_LEN: usize = 160;

/// An operator asks whether a slice may be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreAsk {
    /// The service; also in the subject.
    pub service: ServiceName,
    /// The committed round.
    pub round: RoundId,
    /// The receipt that the round's manifest names for this service.
    pub receipt: ObjectId,
    /// Fresh; the offer repeats it.
    pub nonce: Nonce,
}
message!(RestoreAsk, "restore-ask");

/// Why an agent does not do what it was asked for. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreRefusal {
    /// The alert, where it is one.
    pub code: Option<Code>,
    /// Why.
    pub reason: String,
    /// What to do about it.
    pub next: String,
}

/// What an agent answers to an ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OfferVerdict {
    /// It may begin.
    Offered {
        /// Fresh; the order and the grant name it.
        restore: RestoreId,
        /// Fresh; the grant is sealed to it. The agent forgets its private half with the restore.
        recipient: Recipient,
        /// How long the offer stands, in milliseconds on the agent's own clock.
        valid_millis: u64,
    },
    /// It may not.
    Refused(RestoreRefusal),
}

/// The answer to an ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreOffer {
    /// The service.
    pub service: ServiceName,
    /// The ask's nonce.
    pub nonce: Nonce,
    /// What is offered.
    pub verdict: OfferVerdict,
}
message!(RestoreOffer, "restore-offer");

/// What becomes of what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestoreExisting {
    /// Nothing may be there.
    Refuse,
    /// It stays; only what is absent is made.
    Keep,
    /// It is replaced.
    Replace,
}

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RestoreTarget {
    /// Where each source was captured.
    InPlace,
    /// Into a folder of the agent's machine, as `muster recover` would.
    Into {
        /// Its absolute path, raw, at most [`MAX_ORDER_PATH`] bytes.
        path: ByteBuf,
    },
}

/// An operator's order: from here on the agent acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreOrder {
    /// The service; also in the subject.
    pub service: ServiceName,
    /// The offer's id. It serves once.
    pub restore: RestoreId,
    /// Fresh; the status repeats it.
    pub nonce: Nonce,
    /// The round of the ask.
    pub round: RoundId,
    /// The receipt of the ask.
    pub receipt: ObjectId,
    /// The grant on the share.
    pub grant: ObjectId,
    /// Its length in bytes.
    pub grant_size: u64,
    /// Only what lies at or below this path, `SOURCE/PATH` or a path within the sources; at most [`MAX_ORDER_PATH`]
    /// bytes.
    pub path: Option<ByteBuf>,
    /// What becomes of what is there.
    pub existing: RestoreExisting,
    /// Where to.
    pub target: RestoreTarget,
}
message!(RestoreOrder, "restore-order");

/// An operator asks how a restore stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreQuery {
    /// The service; also in the subject.
    pub service: ServiceName,
    /// Which restore; the last one when absent.
    pub restore: Option<RestoreId>,
    /// Fresh; the status repeats it.
    pub nonce: Nonce,
}
message!(RestoreQuery, "restore-query");

/// How a restore ended that began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreOutcome {
    /// Files and hard links that were written and compared.
    pub files: u64,
    /// Folders, links, pipes and devices.
    pub others: u64,
    /// Databases and dumps that were put back.
    pub dumps: u64,
    /// Bytes of files, databases and dumps.
    pub bytes: u64,
    /// What was there and stays.
    pub kept: u64,
    /// What something else has the place of.
    pub blocked: u64,
    /// Entries that the slice does not hold whole.
    pub gaps: u64,
    /// What was left out because what it needs is damaged.
    pub lost: u64,
    /// Things whose owner is not the one that was captured.
    pub owners_left: u64,
    /// Warnings.
    pub warnings: u64,
    /// Objects of the share that are damaged.
    pub damaged: u64,
    /// The first few of gaps, losses, warnings and damage, at most [`MAX_NOTES`] of at most [`MAX_NOTE_LEN`] bytes.
    pub notes: Vec<String>,
    /// Why it ended early, if it did: then some of it is restored and some is not.
    pub failure: Option<RestoreRefusal>,
    /// How long it took, in milliseconds.
    pub took_millis: u64,
}

/// How a restore stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RestoreState {
    /// No such restore is known.
    Unknown,
    /// Offered, and not ordered yet.
    Offered,
    /// Under way.
    Running {
        /// Bytes restored.
        done_bytes: u64,
        /// Bytes to restore; 0 while that is not known.
        total_bytes: u64,
    },
    /// It did not begin, and nothing was changed.
    Refused(RestoreRefusal),
    /// It has ended.
    Ended(RestoreOutcome),
}

/// The answer to an order and to a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreStatus {
    /// The service.
    pub service: ServiceName,
    /// Which restore; none when there was none.
    pub restore: Option<RestoreId>,
    /// The question's nonce.
    pub nonce: Nonce,
    /// How it stands.
    pub state: RestoreState,
}
message!(RestoreStatus, "restore-status");

/// `text` cut to [`MAX_NOTE_LEN`] at a character's boundary.
#[must_use]
pub fn cut_note(text: &str) -> String {
    super::cut(text, MAX_NOTE_LEN)
}

#[cfg(test)]
mod tests {
    use super::{
        MAX_NOTE_LEN, MAX_NOTES, MAX_ORDER_PATH, RestoreExisting, RestoreOrder, RestoreOutcome,
        RestoreRefusal, RestoreState, RestoreStatus, RestoreTarget, cut_note,
    };
    use crate::alert::Code;
    use crate::envelope::Signer;
    use crate::ids::{FleetId, Nonce, ObjectId, RestoreId, RoundId};
    use crate::message::{MAX_MESSAGE_LEN, MAX_REASON_LEN, cut_reason};

    /// The longest of everything still goes over the bus.
    #[test]
    fn the_longest_messages_fit() {
        let (signer, fleet) = (Signer::from_seed(&[1; 32]), FleetId::from_bytes([2; 32]));
        let service: crate::ids::ServiceName = "a".repeat(32).parse().expect("a name");
        let path = serde_bytes::ByteBuf::from(vec![b'x'; MAX_ORDER_PATH]);
        let order = RestoreOrder {
            service: service.clone(),
            restore: RestoreId::from_bytes([3; 16]),
            nonce: Nonce::from_bytes([4; 16]),
            round: RoundId::from_bytes([5; 16]),
            receipt: ObjectId::of(b"receipt"),
            grant: ObjectId::of(b"grant"),
            grant_size: u64::MAX,
            path: Some(path.clone()),
            existing: RestoreExisting::Replace,
            target: RestoreTarget::Into { path },
        };
        assert!(signer.seal(&fleet, &order).len() <= MAX_MESSAGE_LEN);
        let long = "ö".repeat(4000);
        let outcome = RestoreOutcome {
            files: u64::MAX,
            others: u64::MAX,
            dumps: u64::MAX,
            bytes: u64::MAX,
            kept: u64::MAX,
            blocked: u64::MAX,
            gaps: u64::MAX,
            lost: u64::MAX,
            owners_left: u64::MAX,
            warnings: u64::MAX,
            damaged: u64::MAX,
            notes: vec![cut_note(&long); MAX_NOTES],
            failure: Some(RestoreRefusal {
                code: Some(Code::Agent03),
                reason: cut_reason(&long),
                next: cut_note(&long),
            }),
            took_millis: u64::MAX,
        };
        assert!(cut_note(&long).len() <= MAX_NOTE_LEN && cut_reason(&long).len() <= MAX_REASON_LEN);
        let status = RestoreStatus {
            service,
            restore: Some(RestoreId::from_bytes([3; 16])),
            nonce: Nonce::from_bytes([4; 16]),
            state: RestoreState::Ended(outcome),
        };
        assert!(signer.seal(&fleet, &status).len() <= MAX_MESSAGE_LEN);
    }
}
