//! What is wrong with an object: the words of every damage report.

use std::fmt;

use muster_protocol::ids::{ObjectId, ServiceName};

use crate::layout::ObjectPath;
use crate::store::{Store, StoreError};

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It has another length, in bytes.
    Length {
        /// What it has.
        have: u64,
        /// What it should have.
        want: u64,
    },
    /// Its SHA-256 is not the one it is named by.
    Hash,
    /// The share has it and cannot give it.
    Unreadable {
        /// Why.
        why: String,
    },
    /// Nobody who may say so has signed it, or it says what contradicts the chain.
    Forged {
        /// How that shows.
        why: String,
    },
    /// The bytes are those that were named, and yet do not read as what they should be.
    Content {
        /// What is wrong with them.
        why: String,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Length { have, want } => write!(f, "length {have}, want {want}"),
            Self::Hash => f.write_str("hash differs"),
            Self::Unreadable { why } => write!(f, "unreadable: {why}"),
            Self::Forged { why } => write!(f, "not believed: {why}"),
            Self::Content { why } => write!(f, "content: {why}"),
        }
    }
}

/// A damaged object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Which.
    pub object: ObjectPath,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.fault)
    }
}

impl Damage {
    /// This object with this fault.
    #[must_use]
    pub fn new(object: ObjectPath, fault: Fault) -> Self {
        Self { object, fault }
    }

    /// Whose object it is; none for what belongs to the whole fleet.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceName> {
        match &self.object {
            ObjectPath::Pack { service, .. } | ObjectPath::Slice { service, .. } => Some(service),
            ObjectPath::Format
            | ObjectPath::LogRecord(_)
            | ObjectPath::LogSegment(_)
            | ObjectPath::List(_)
            | ObjectPath::Manifest(_)
            | ObjectPath::Grant(_)
            | ObjectPath::Probe(_)
            | ObjectPath::Copy(_) => None,
        }
    }

    pub(super) fn forged(object: ObjectPath, why: impl Into<String>) -> Self {
        Self::new(object, Fault::Forged { why: why.into() })
    }

    pub(super) fn content(object: ObjectPath, why: impl Into<String>) -> Self {
        Self::new(object, Fault::Content { why: why.into() })
    }
}

/// Why an object could not be used: it is damaged, or the share does not answer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The object is damaged. Others may be whole.
    #[error("{0}")]
    Damaged(Damage),
    /// The share fails: nothing is known of the object.
    #[error("the share cannot be read")]
    Store(#[source] StoreError),
}

impl From<Damage> for Trouble {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

/// Sorts a failed read: what is wrong with this one object is damage, what is wrong with the share is not.
pub(crate) fn sort(path: &ObjectPath, want: u64, error: StoreError) -> Trouble {
    let fault = match error {
        StoreError::NotFound { .. } => Fault::Missing,
        StoreError::TooLong { have, .. } => Fault::Length { have, want },
        StoreError::Damaged { what, .. } => Fault::Unreadable { why: what },
        StoreError::Denied { source, .. } | StoreError::Io { source, .. } => {
            Fault::Unreadable { why: source.to_string() }
        }
        StoreError::AlreadyExists { .. }
        | StoreError::Full { .. }
        | StoreError::WriteRefused { .. }
        | StoreError::Unreachable { .. }
        | StoreError::Strange { .. }
        | StoreError::InvalidPath { .. }
        | StoreError::Locked { .. }
        | StoreError::NotKept { .. }
        | StoreError::TimedOut { .. } => return Trouble::Store(error),
    };
    Damage::new(path.clone(), fault).into()
}

/// The object's bytes, of exactly this length and not more than `most`; their hash is not compared.
pub(crate) async fn fetch(
    store: &dyn Store,
    path: &ObjectPath,
    want: u64,
    most: u64,
) -> Result<bytes::Bytes, Trouble> {
    if want > most {
        let why = format!("{want} bytes are named for it, more than the {most} that it may have");
        return Err(Damage::content(path.clone(), why).into());
    }
    let bytes = store.get(path, want).await.map_err(|error| sort(path, want, error))?;
    let have = bytes.len() as u64;
    if have != want {
        return Err(Damage::new(path.clone(), Fault::Length { have, want }).into());
    }
    Ok(bytes)
}

/// The object's bytes, if their length and hash are as the chain names them.
///
/// # Errors
/// When it is damaged, or longer than any object of its kind.
pub async fn read_object(
    store: &dyn Store,
    path: &ObjectPath,
    id: &ObjectId,
    want: u64,
) -> Result<bytes::Bytes, Trouble> {
    read(store, path, id, want, super::chain::most_bytes(path)).await
}

/// The object's bytes, whose length and hash are as named.
pub(super) async fn read(
    store: &dyn Store,
    path: &ObjectPath,
    id: &ObjectId,
    want: u64,
    most: u64,
) -> Result<bytes::Bytes, Trouble> {
    let bytes = fetch(store, path, want, most).await?;
    if ObjectId::of(&bytes) == *id { Ok(bytes) } else { Err(Damage::new(path.clone(), Fault::Hash).into()) }
}
