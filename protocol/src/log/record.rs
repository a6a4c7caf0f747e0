//! A record: one slot of the log, an envelope that links to the last valid record before it.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::envelope::{self, EnvelopeError, Opened, Signer};
use crate::ids::{FleetId, KeyId, ObjectId};
use crate::log::body::{Accept, Body, Drill};
use crate::wire::{self, WireError};

/// Longest record in bytes.
pub const MAX_RECORD_LEN: usize = 64 * 1024;
const DOMAIN: &str = "muster.log";
const STATEMENT_DOMAIN: &str = "muster.statement";
const VERSION: u16 = 1;

/// A position in the log: the number of a record and its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The record's number.
    pub number: u64,
    /// SHA-256 of its bytes.
    pub hash: ObjectId,
}

/// What a reader remembers of a log that it has read: only a later decision of the root lets it accept less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The last valid record.
    pub head: Head,
    /// How many `adopt` statements were in effect. A log in which more are has been accepted anew by the root since.
    pub adopts: u64,
}

impl Seen {
    /// A head that no `adopt` supersedes: whoever names it wants that very history.
    #[must_use]
    pub fn exactly(head: Head) -> Self {
        Self { head, adopts: u64::MAX }
    }
}

/// What genesis names as the record before it.
pub const GENESIS_HEAD: Head = Head { number: 0, hash: ObjectId::from_bytes([0; 32]) };

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

/// The fields that every record has, whatever its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    /// The slot.
    number: u64,
    /// The last valid record before it.
    previous: Head,
    /// A reader that does not know the kind stops here.
    critical: bool,
    /// The body: MessagePack, or a statement's envelope.
    body: ByteBuf,
}

/// A record whose signature has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The slot that it names.
    pub number: u64,
    /// The record that it follows.
    pub previous: Head,
    /// Who signed the record.
    pub signer: KeyId,
    /// The kind's name.
    pub kind: String,
    /// The kind's version.
    pub version: u16,
    /// Whether a reader that does not know the kind must stop.
    pub critical: bool,
    /// The fleet.
    pub fleet: FleetId,
    /// SHA-256 of the record's bytes.
    pub hash: ObjectId,
    body: Vec<u8>,
}

/// A statement: a body with a signature of its own, carried by a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement<B> {
    /// Who says it.
    pub signer: KeyId,
    /// SHA-256 of the statement's bytes; the next of its kind names it.
    pub hash: ObjectId,
    /// What is said.
    pub body: B,
}

/// Why bytes are no record, or a record's body not of its kind.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// No envelope, or a forged one.
    #[error("slot holds no signed record")]
    Envelope(#[from] EnvelopeError),
    /// Signed, but no log record.
    #[error("slot holds a {domain} envelope instead of a record")]
    Domain {
        /// The domain it has.
        domain: String,
    },
    /// Signed, but its fields do not parse.
    #[error("record does not parse")]
    Fields(#[from] WireError),
}

/// The record in `bytes`, its signature verified.
///
/// # Errors
/// When the bytes are anything else.
pub fn parse(bytes: &[u8]) -> Result<Record, RecordError> {
    record(bytes, envelope::open(bytes, MAX_RECORD_LEN)?)
}

/// The record in `bytes`, whose signature this reader has verified before: it knows the very bytes by their hash.
/// Statements are verified all the same, when they are taken in.
///
/// # Errors
/// When the bytes are anything else than a record.
pub fn parse_known(bytes: &[u8]) -> Result<Record, RecordError> {
    record(bytes, envelope::open_known(bytes, MAX_RECORD_LEN)?)
}

fn record(bytes: &[u8], opened: Opened<'_>) -> Result<Record, RecordError> {
    if opened.domain != DOMAIN {
        return Err(RecordError::Domain { domain: opened.domain.to_owned() });
    }
    let fields: Fields = wire::decode(opened.payload)?;
    Ok(Record {
        number: fields.number,
        previous: fields.previous,
        signer: opened.key,
        kind: opened.name.to_owned(),
        version: opened.version,
        critical: fields.critical,
        fleet: opened.fleet,
        hash: ObjectId::of(bytes),
        body: fields.body.into_vec(),
    })
}

impl Record {
    /// A record as a reader has it, for slot `number` after `previous`, which nobody has signed: a simulation makes
    /// millions. There is no way from here to bytes that a share could hold.
    #[cfg(feature = "simulator")]
    #[must_use]
    pub fn unsigned<B: Body>(signer: KeyId, fleet: FleetId, number: u64, previous: Head, body: &B) -> Self {
        assert!(!B::STATEMENT, "{} is said in a statement", B::KIND);
        let body = wire::encode(body);
        let mut named = number.to_be_bytes().to_vec();
        named.extend_from_slice(previous.hash.as_bytes());
        named.extend_from_slice(signer.as_bytes());
        named.extend_from_slice(&body);
        Self {
            number,
            previous,
            signer,
            kind: B::KIND.to_owned(),
            version: VERSION,
            critical: B::CRITICAL,
            fleet,
            hash: ObjectId::of(&named),
            body,
        }
    }

    /// The head after this record.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { number: self.number, hash: self.hash }
    }

    /// The body of a kind that the record's signer says itself.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn body<B: Body>(&self) -> Result<B, WireError> {
        wire::decode(&self.body)
    }

    /// The body of a kind that is a statement.
    ///
    /// # Errors
    /// When it is no statement of that kind and fleet, or is forged.
    pub fn statement<B: Body>(&self) -> Result<Statement<B>, RecordError> {
        let opened = envelope::open(&self.body, MAX_RECORD_LEN)?;
        if (opened.domain, opened.name, opened.version) != (STATEMENT_DOMAIN, B::KIND, VERSION) {
            return Err(RecordError::Domain { domain: opened.domain.to_owned() });
        }
        if opened.fleet != self.fleet {
            return Err(EnvelopeError::OtherFleet { found: opened.fleet }.into());
        }
        let body = wire::decode(opened.payload)?;
        Ok(Statement { signer: opened.key, hash: ObjectId::of(&self.body), body })
    }
}

/// A record for the slot after `previous` slots, with a body that `signer` says itself.
///
/// `number` is the slot; `previous` the last valid record.
#[must_use]
pub fn seal<B: Body>(signer: &Signer, fleet: &FleetId, number: u64, previous: Head, body: &B) -> Vec<u8> {
    assert!(!B::STATEMENT, "{} is said in a statement", B::KIND);
    seal_fields(signer, fleet, (number, previous), B::KIND, B::CRITICAL, wire::encode(body))
}

/// A record for slot `number` that carries a statement made by [`seal_statement`]; all kinds of those are critical but
/// `accept` and `drill`.
#[must_use]
pub fn seal_with_statement(
    signer: &Signer,
    fleet: &FleetId,
    number: u64,
    previous: Head,
    kind: &str,
    statement: Vec<u8>,
) -> Vec<u8> {
    let critical = ![Accept::KIND, Drill::KIND].contains(&kind);
    seal_fields(signer, fleet, (number, previous), kind, critical, statement)
}

/// What root, enroller or operator says, ready to be carried by a record.
#[must_use]
pub fn seal_statement<B: Body>(signer: &Signer, fleet: &FleetId, body: &B) -> Vec<u8> {
    assert!(B::STATEMENT, "{} is no statement", B::KIND);
    signer.seal_raw(STATEMENT_DOMAIN, B::KIND, VERSION, fleet, &wire::encode(body))
}

fn seal_fields(
    signer: &Signer,
    fleet: &FleetId,
    (number, previous): (u64, Head),
    kind: &str,
    critical: bool,
    body: Vec<u8>,
) -> Vec<u8> {
    let fields = Fields { number, previous, critical, body: ByteBuf::from(body) };
    signer.seal_raw(DOMAIN, kind, VERSION, fleet, &wire::encode(&fields))
}
